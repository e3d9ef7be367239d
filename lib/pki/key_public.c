/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pki_gnutls.h"

#include <gnutls/crypto.h>
#include <string.h>

/* GnuTLS derives the public half; our canonical form has only the seed. */
static cm_status ed25519_public(const struct cm_key *key, struct cm_key_public *ret,
                                struct cm_err *err)
{
    gnutls_privkey_t handle = NULL;
    gnutls_datum_t x = { NULL, 0 };

    cm_status st = cm_key_to_gnutls(key, &handle, err);
    if (st != CM_OK)
        return st;
    int rc = gnutls_privkey_export_ecc_raw2(handle, NULL, &x, NULL, NULL, 0);
    gnutls_privkey_deinit(handle);
    if (rc >= 0 && x.size == sizeof ret->own) {
        memcpy(ret->own, x.data, sizeof ret->own);
        ret->point = CM_SPAN_OF(ret->own);
    } else {
        st = rc < 0 ? cm_fail_gnutls(err, CM_E_KEY, rc, "public half of Ed25519 key")
                    : cm_fail(err, CM_E_INTERNAL, "public half of Ed25519 key: %u bytes", x.size);
    }
    gnutls_free(x.data);
    return st;
}

/* From the SubjectPublicKeyInfo behind the URL. */
static cm_status token_public(const struct cm_key *key, struct cm_key_public *ret)
{
    struct cm_span seq;
    struct cm_spki spki;
    size_t skip = key->url_len + 1;
    cm_status rc = cm_spki_parse((struct cm_span){ key->der + skip, key->der_len - skip }, &spki);

    CM_ASSERT(rc == CM_OK); /* cm__key_url_shape() has looked through it */
    if (key->rsa_bits == 0)
        ret->point = spki.key;
    else
        CM_ASSERT(cm_der_take(&spki.key, CM_DER_SEQUENCE, &seq) &&
                  cm_der_take_uint(&seq, &ret->n) && cm_der_take_uint(&seq, &ret->e));
    return CM_OK;
}

cm_status cm__key_public(const struct cm_key *key, struct cm_key_public *ret, struct cm_err *err)
{
    struct cm_span in = { key->der, key->der_len };
    struct cm_span seq, skip, wrapped;
    unsigned version = 0;
    bool ok;

    memset(ret, 0, sizeof *ret);
    if (key->url_len != 0)
        return token_public(key, ret);
    if (key->type == CM_PK_ED25519)
        return ed25519_public(key, ret, err);
    ok = cm_der_take(&in, CM_DER_SEQUENCE, &seq) && cm_der_take_small(&seq, &version);
    if (key->curve.len != 0)
        ok = ok && cm_der_take(&seq, CM_DER_OCTET_STRING, &skip) &&
             cm_der_take(&seq, CM_DER_CTX_CONS(0), &skip) &&
             cm_der_take(&seq, CM_DER_CTX_CONS(1), &wrapped) &&
             cm_der_take_bits(&wrapped, &ret->point);
    else
        ok = ok && cm_der_take_uint(&seq, &ret->n) && cm_der_take_uint(&seq, &ret->e);
    CM_ASSERT(ok); /* we wrote this DER ourselves */
    return CM_OK;
}

cm_status cm__key_spki(const struct cm_key *key, struct cm_buf *out, struct cm_err *err)
{
    struct cm_key_public pub;
    struct cm_derw w = CM_DERW_INIT(out, err);

    cm_status rc = cm__key_public(key, &pub, err);
    if (rc != CM_OK)
        return rc;
    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    size_t alg = cm_derw_open(&w, CM_DER_SEQUENCE);
    if (key->curve.len != 0) {
        cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(cm_oid_ec));
        cm_derw_put(&w, CM_DER_OID, key->curve);
    } else if (key->rsa_bits != 0) {
        cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(cm_oid_rsa));
        cm_derw_put(&w, CM_DER_NULL, (struct cm_span){ NULL, 0 });
    } else {
        cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(cm_oid_ed25519));
    }
    cm_derw_close(&w, alg);
    size_t bits = cm_derw_open(&w, CM_DER_BIT_STRING);
    cm_derw_byte(&w, 0);
    if (key->rsa_bits != 0) {
        size_t rsa = cm_derw_open(&w, CM_DER_SEQUENCE);
        cm_derw_uint(&w, pub.n);
        cm_derw_uint(&w, pub.e);
        cm_derw_close(&w, rsa);
    } else {
        cm_derw_raw(&w, pub.point);
    }
    cm_derw_close(&w, bits);
    cm_derw_close(&w, seq);
    return w.rc;
}

cm_status cm__key_matches_spki(const struct cm_key *key, const struct cm_spki *spki, bool *ret,
                               struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf own = CM_BUF_INIT(4096);
    struct cm_spki mine;

    cm_status rc = cm__key_spki(key, &own, err);
    if (rc != CM_OK)
        return rc;
    CM_ASSERT(cm_spki_parse(cm_buf_span(&own), &mine) == CM_OK);
    /* Not the whole structure: RSA's NULL parameters are left out by some. */
    *ret = mine.type == spki->type && mine.is_ec == spki->is_ec &&
           mine.rsa_bits == spki->rsa_bits && cm_span_eq(mine.curve, spki->curve) &&
           cm_span_eq(mine.key, spki->key);
    return CM_OK;
}

cm_status cm_key_matches_cert(const struct cm_key *key, struct cm_span leaf_der, bool *ret,
                              struct cm_err *err)
{
    struct cm_x509 leaf;

    cm_status rc = cm_x509_parse(leaf_der, &leaf, err);
    if (rc != CM_OK)
        return rc;
    return cm__key_matches_spki(key, &leaf.spki, ret, err);
}

/* -------------------------------------------------------------- signatures */

struct scheme {
    gnutls_sign_algorithm_t alg;
    struct cm_span id; /* AlgorithmIdentifier */
};

static const struct scheme *scheme_of(const struct cm_key *key)
{
    static const uint8_t es256[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                     0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
    static const uint8_t es384[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                     0x48, 0xce, 0x3d, 0x04, 0x03, 0x03 };
    static const uint8_t es512[] = { 0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                     0x48, 0xce, 0x3d, 0x04, 0x03, 0x04 };
    static const uint8_t rs256[] = { 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                     0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00 };
    static const uint8_t eddsa[] = { 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70 };
    static const struct scheme p256 = { GNUTLS_SIGN_ECDSA_SHA256, { es256, sizeof es256 } };
    static const struct scheme p384 = { GNUTLS_SIGN_ECDSA_SHA384, { es384, sizeof es384 } };
    static const struct scheme p521 = { GNUTLS_SIGN_ECDSA_SHA512, { es512, sizeof es512 } };
    static const struct scheme rsa = { GNUTLS_SIGN_RSA_SHA256, { rs256, sizeof rs256 } };
    static const struct scheme ed = { GNUTLS_SIGN_EDDSA_ED25519, { eddsa, sizeof eddsa } };

    if (key->type == CM_PK_P256)
        return &p256;
    if (key->type == CM_PK_P384)
        return &p384;
    if (key->type == CM_PK_ED25519)
        return &ed;
    return key->rsa_bits != 0 ? &rsa : &p521;
}

struct cm_span cm__key_sig_alg(const struct cm_key *key)
{
    return scheme_of(key)->id;
}

cm_status cm__key_sign(const struct cm_key *key, struct cm_span input, struct cm_buf *out,
                       struct cm_err *err)
{
    gnutls_privkey_t handle = NULL;
    gnutls_datum_t in = { (unsigned char *)(uintptr_t)input.data, (unsigned)input.len };
    gnutls_datum_t sig = { NULL, 0 };

    if (input.len > UINT32_MAX)
        return cm_fail(err, CM_E_LIMIT, "signature: input of %zu bytes", input.len);
    if (key->url_len != 0 && cm__key_is_signers(cm__key_url(key)))
        return cm__signer_sign(key, scheme_of(key)->alg, input, out, err);
    if (key->url_len != 0)
        return cm__token_sign(key, scheme_of(key)->alg, input, out, err);
    cm_status st = cm__key_handle(key, &handle, err);
    if (st != CM_OK)
        return st;
    int rc = gnutls_privkey_sign_data2(handle, scheme_of(key)->alg, 0, &in, &sig);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_KEY, rc, "signing with private key");
    st = cm_buf_append(out, sig.data, sig.size, err);
    gnutls_free(sig.data);
    return st;
}
