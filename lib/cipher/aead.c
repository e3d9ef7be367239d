/* SPDX-License-Identifier: Apache-2.0 */
#include "cipher.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

static cm_status failed(int gnutls_rc, struct cm_err *err)
{
    if (gnutls_rc == GNUTLS_E_MEMORY_ERROR)
        return cm_fail_nomem(err);
    return cm_fail(err, CM_E_INTERNAL, "AES-256-GCM: %s", gnutls_strerror(gnutls_rc));
}

/* A handle is for one thread only, and costs less than a microsecond. GnuTLS wipes its copy of the
 * key with it. */
static cm_status begin(struct cm_span key, gnutls_aead_cipher_hd_t *ret, struct cm_err *err)
{
    const gnutls_datum_t datum = { (unsigned char *)(uintptr_t)key.data, (unsigned)key.len };

    if (key.len != CM_SEAL_KEY_LEN)
        return cm_fail(err, CM_E_INVAL, "a sealing key has %u bytes, not %zu", CM_SEAL_KEY_LEN,
                       key.len);
    int rc = gnutls_aead_cipher_init(ret, GNUTLS_CIPHER_AES_256_GCM, &datum);
    return rc == GNUTLS_E_SUCCESS ? CM_OK : failed(rc, err);
}

cm_status cm_seal(struct cm_span key, const uint8_t nonce[CM_SEAL_NONCE_LEN], struct cm_span aad,
                  struct cm_span plain, struct cm_buf *out, struct cm_err *err)
{
    gnutls_aead_cipher_hd_t h = NULL;
    size_t len = plain.len + CM_SEAL_TAG_LEN;

    cm_status rc = cm_buf_reserve(out, len, err);
    if (rc == CM_OK)
        rc = begin(key, &h, err);
    if (rc != CM_OK)
        return rc;
    /* an empty value may have no address; GnuTLS is always given one */
    int grc = gnutls_aead_cipher_encrypt(h, nonce, CM_SEAL_NONCE_LEN, aad.data, aad.len,
                                         CM_SEAL_TAG_LEN, plain.len > 0 ? plain.data : nonce,
                                         plain.len, out->data + out->len, &len);
    gnutls_aead_cipher_deinit(h);
    if (grc < 0) {
        out->data[out->len] = 0;
        return failed(grc, err);
    }
    CM_ASSERT(len == plain.len + CM_SEAL_TAG_LEN);
    out->len += len;
    out->data[out->len] = 0;
    return CM_OK;
}

cm_status cm_unseal(struct cm_span key, const uint8_t nonce[CM_SEAL_NONCE_LEN], struct cm_span aad,
                    struct cm_span sealed, struct cm_buf *out, struct cm_err *err)
{
    gnutls_aead_cipher_hd_t h = NULL;
    size_t len;

    if (sealed.len < CM_SEAL_TAG_LEN)
        return cm_fail(err, CM_E_PARSE, "sealed data is cut short");
    len = sealed.len - CM_SEAL_TAG_LEN;
    cm_status rc = cm_buf_reserve(out, len, err);
    if (rc == CM_OK)
        rc = begin(key, &h, err);
    if (rc != CM_OK)
        return rc;
    int grc =
        gnutls_aead_cipher_decrypt(h, nonce, CM_SEAL_NONCE_LEN, aad.data, aad.len, CM_SEAL_TAG_LEN,
                                   sealed.data, sealed.len, out->data + out->len, &len);
    gnutls_aead_cipher_deinit(h);
    if (grc < 0) {
        cm_wipe(out->data + out->len, sealed.len - CM_SEAL_TAG_LEN);
        out->data[out->len] = 0;
        return cm_fail(err, CM_E_KEY, "not sealed with this key, or damaged");
    }
    CM_ASSERT(len == sealed.len - CM_SEAL_TAG_LEN);
    out->len += len;
    out->data[out->len] = 0;
    return CM_OK;
}
