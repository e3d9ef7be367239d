/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pem.h"
#include "pki_gnutls.h"

#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <string.h>

static const struct {
    enum cm_pk type;
    const char *name;
    gnutls_pk_algorithm_t alg;
    unsigned bits;
} kinds[] = {
    { CM_PK_P256, "p256", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1) },
    { CM_PK_P384, "p384", GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1) },
    { CM_PK_RSA2048, "rsa2048", GNUTLS_PK_RSA, 2048 },
    { CM_PK_RSA3072, "rsa3072", GNUTLS_PK_RSA, 3072 },
    { CM_PK_RSA4096, "rsa4096", GNUTLS_PK_RSA, 4096 },
    { CM_PK_RSA8192, "rsa8192", GNUTLS_PK_RSA, 8192 },
    { CM_PK_ED25519, "ed25519", GNUTLS_PK_EDDSA_ED25519,
      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519) },
};

const char *cm_pk_name(enum cm_pk t)
{
    if (t == CM_PK_DEFAULT)
        t = CM_PK_P256;
    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++) {
        if (kinds[i].type == t)
            return kinds[i].name;
    }
    return "other";
}

bool cm__pk_params(enum cm_pk type, gnutls_pk_algorithm_t *ret_alg, unsigned *ret_bits)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++) {
        if (kinds[i].type == type) {
            *ret_alg = kinds[i].alg;
            *ret_bits = kinds[i].bits;
            return true;
        }
    }
    return false;
}

cm_status cm_pk_parse(const char *name, enum cm_pk *ret, struct cm_err *err)
{
    char shown[64];

    for (size_t i = 0; name != NULL && i < CM_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *ret = kinds[i].type;
            return CM_OK;
        }
    }
    return cm_fail(err, CM_E_INVAL,
                   "key type '%s' is not known; use p256, p384, rsa2048, rsa3072, rsa4096, "
                   "rsa8192 or ed25519",
                   cm_escape(name, name != NULL ? strnlen(name, 256) : 0, shown, sizeof shown));
}

/* ---------------------------------------------------------------- lifetime */

/* @der: canonical. */
static cm_status key_new(struct cm_span der, const struct cm_key_shape *shape, struct cm_key **ret,
                         struct cm_err *err)
{
    struct cm_key *key = cm_calloc(1, sizeof *key + der.len);

    if (key == NULL)
        return cm_fail_nomem(err);
    atomic_init(&key->refs, 1);
    atomic_init(&key->handle, NULL);
    atomic_init(&key->checked, false);
    key->type = shape->type;
    key->rsa_bits = shape->rsa_bits;
    key->curve = shape->curve;
    key->url_len = shape->url_len;
    key->der_len = der.len;
    memcpy(key->der, der.data, der.len);
    *ret = key;
    return CM_OK;
}

struct cm_key *cm_key_ref(struct cm_key *key)
{
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void cm_key_unref(struct cm_key *key)
{
    if (key == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel);
    CM_ASSERT(before > 0);
    if (before > 1)
        return;
    gnutls_privkey_t handle = atomic_load(&key->handle);
    if (handle != NULL)
        gnutls_privkey_deinit(handle);
    cm_wipe(key->der, key->der_len);
    free(key);
}

enum cm_pk cm_key_type_of(const struct cm_key *key)
{
    return key->type;
}

/* ------------------------------------------------------------------ GnuTLS */

static void wipe_datum(gnutls_datum_t *d)
{
    if (d->data != NULL) {
        gnutls_memset(d->data, 0, d->size);
        gnutls_free(d->data);
        d->data = NULL;
    }
}

cm_status cm_key_to_gnutls(const struct cm_key *key, gnutls_privkey_t *ret, struct cm_err *err)
{
    static const char what[] = "private key";
    gnutls_datum_t der = { (unsigned char *)(uintptr_t)key->der, (unsigned)key->der_len };
    gnutls_privkey_t handle = NULL;
    gnutls_x509_privkey_t x509 = NULL;

    if (key->url_len != 0 && cm__key_is_signers(cm__key_url(key)))
        return cm__signer_handle(key, ret, err);
    if (key->url_len != 0)
        return cm__token_handle(key, ret, err);
    int rc = gnutls_x509_privkey_init(&x509);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_NOMEM, rc, what);
    if (key->type == CM_PK_ED25519)
        rc = gnutls_x509_privkey_import_pkcs8(x509, &der, GNUTLS_X509_FMT_DER, NULL,
                                              GNUTLS_PKCS_PLAIN);
    else
        rc = gnutls_x509_privkey_import(x509, &der, GNUTLS_X509_FMT_DER);
    if (rc >= 0)
        rc = gnutls_privkey_init(&handle);
    if (rc >= 0) {
        rc = gnutls_privkey_import_x509(handle, x509, GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
        if (rc >= 0)
            x509 = NULL; /* the handle's now */
    }
    gnutls_x509_privkey_deinit(x509);
    if (rc < 0) {
        if (handle != NULL)
            gnutls_privkey_deinit(handle);
        return cm_fail_gnutls(err, CM_E_KEY, rc, what);
    }
    *ret = handle;
    return CM_OK;
}

cm_status cm__key_handle(const struct cm_key *key, gnutls_privkey_t *ret, struct cm_err *err)
{
    /* What is added to a key is no change of it. */
    struct cm_key *k = (struct cm_key *)(uintptr_t)key;
    gnutls_privkey_t made = atomic_load_explicit(&k->handle, memory_order_acquire);
    gnutls_privkey_t first = NULL;

    if (made == NULL) {
        cm_status st = cm_key_to_gnutls(key, &made, err);
        if (st != CM_OK)
            return st;
        if (!atomic_compare_exchange_strong(&k->handle, &first, made)) {
            gnutls_privkey_deinit(made); /* another thread was faster */
            made = first;
        }
    }
    *ret = made;
    return CM_OK;
}

/* The seed by itself: whatever GnuTLS writes for Ed25519 goes through PKCS#8. */
static cm_status ed25519_from_x509(gnutls_x509_privkey_t x509, struct cm_buf *out,
                                   struct cm_err *err)
{
    gnutls_ecc_curve_t curve;
    gnutls_datum_t x = { NULL, 0 };
    gnutls_datum_t seed = { NULL, 0 };

    int rc = gnutls_x509_privkey_export_ecc_raw(x509, &curve, &x, NULL, &seed);
    cm_status st = rc < 0 ? cm_fail_gnutls(err, CM_E_KEY, rc, "export of private key")
                          : cm__key_ed25519((struct cm_span){ seed.data, seed.size }, out, err);
    gnutls_free(x.data);
    wipe_datum(&seed);
    return st;
}

/* Not as PKCS#8 where it can be helped: GnuTLS puts that together from a copy of the key, which it
 * frees as it is. */
cm_status cm_key_from_gnutls_x509(gnutls_x509_privkey_t x509, struct cm_key **ret,
                                  struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf ed = CM_BUF_SECRET(64);
    gnutls_datum_t der = { NULL, 0 };
    int alg = gnutls_x509_privkey_get_pk_algorithm(x509);
    int rc;

    if (alg == GNUTLS_PK_EDDSA_ED25519) {
        cm_status st = ed25519_from_x509(x509, &ed, err);
        return st == CM_OK ? cm_key_from_der(cm_buf_span(&ed), ret, err) : st;
    }
    if (alg == GNUTLS_PK_RSA || alg == GNUTLS_PK_ECDSA)
        rc = gnutls_x509_privkey_export2(x509, GNUTLS_X509_FMT_DER, &der);
    else
        rc = gnutls_x509_privkey_export2_pkcs8(x509, GNUTLS_X509_FMT_DER, NULL, GNUTLS_PKCS_PLAIN,
                                               &der);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_KEY, rc, "export of private key");
    cm_status st = cm_key_from_der((struct cm_span){ der.data, der.size }, ret, err);
    wipe_datum(&der);
    return st;
}

cm_status cm_key_from_gnutls(gnutls_privkey_t key, struct cm_key **ret, struct cm_err *err)
{
    gnutls_x509_privkey_t x509 = NULL;

    int rc = gnutls_privkey_export_x509(key, &x509);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_UNSUPPORTED, rc,
                              "private key cannot be copied (PKCS#11, TPM or external)");
    cm_status st = cm_key_from_gnutls_x509(x509, ret, err);
    gnutls_x509_privkey_deinit(x509);
    return st;
}

cm_status cm_key_generate(enum cm_pk type, struct cm_key **ret, struct cm_err *err)
{
    gnutls_pk_algorithm_t alg;
    unsigned bits;
    gnutls_x509_privkey_t x509 = NULL;

    if (type == CM_PK_DEFAULT)
        type = CM_PK_P256;
    if (!cm__pk_params(type, &alg, &bits))
        return cm_fail(err, CM_E_INVAL, "keys of type %d cannot be generated", (int)type);
    int rc = gnutls_x509_privkey_init(&x509);
    if (rc < 0)
        return cm_fail_gnutls(err, CM_E_NOMEM, rc, "private key");
    rc = gnutls_x509_privkey_generate(x509, alg, bits, 0);
    cm_status st = rc < 0 ? cm_fail_gnutls(err, CM_E_KEY, rc, "generating a private key")
                          : cm_key_from_gnutls_x509(x509, ret, err);
    gnutls_x509_privkey_deinit(x509);
    return st;
}

cm_status cm_key_check(const struct cm_key *key, struct cm_err *err)
{
    gnutls_privkey_t handle = NULL;

    /* What a token has is whole. That it has this one shows when it signs: the CA looks at it. */
    if (key->url_len != 0 || atomic_load(&key->checked))
        return CM_OK;
    cm_status st = cm_key_to_gnutls(key, &handle, err);
    if (st != CM_OK)
        return st;
    int rc = gnutls_privkey_verify_params(handle);
    gnutls_privkey_deinit(handle);
    if (rc < 0)
        return cm_fail(err, CM_E_KEY, "private key: its private and public halves do not match");
    atomic_store(&((struct cm_key *)(uintptr_t)key)->checked, true);
    return CM_OK;
}

/* ------------------------------------------------------------ reading, writing */

cm_status cm_key_from_der(struct cm_span der, struct cm_key **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf canonical = CM_BUF_SECRET(CM_KEY_DER_MAX);
    struct cm_key_shape shape;
    struct cm_key *key = NULL;
    gnutls_privkey_t handle = NULL;

    cm_status rc;
    if (cm__key_is_url(der)) {
        rc = cm__key_url_shape(der, &shape, err);
        return rc == CM_OK ? key_new(der, &shape, ret, err) : rc;
    }
    rc = cm__key_canonical(der, &canonical, &shape, err);
    if (rc == CM_OK)
        rc = key_new(cm_buf_span(&canonical), &shape, &key, err);
    if (rc != CM_OK)
        return rc;
    /* An RSA key that GnuTLS cannot use is found now, not at the first handshake. For the others
     * its import checks nothing that was not checked above (and takes 5 to 60 us, at each of
     * 100,000 keys when a server starts); cm_chain_accept() looks at the numbers themselves. */
    if (key->rsa_bits != 0) {
        rc = cm_key_to_gnutls(key, &handle, err);
        if (rc != CM_OK) {
            cm_key_unref(key);
            return rc;
        }
        gnutls_privkey_deinit(handle);
    }
    *ret = key;
    return CM_OK;
}

static bool label_ends(struct cm_span label, const char *tail)
{
    size_t n = strlen(tail);

    return label.len >= n && memcmp(label.data + label.len - n, tail, n) == 0;
}

static bool label_is(struct cm_span label, const char *text)
{
    return label.len == strlen(text) && label_ends(label, text);
}

static cm_status key_from_block(const struct cm_pem_block *block, struct cm_key **ret,
                                struct cm_err *err)
{
    static const char proc_type[] = "Proc-Type:";
    CM_AUTO_BUF struct cm_buf der = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    size_t len = 0;

    if (label_is(block->label, "ENCRYPTED PRIVATE KEY") ||
        memmem(block->body.data, block->body.len, proc_type, sizeof proc_type - 1) != NULL)
        return cm_fail(err, CM_E_KEY,
                       "private key: is encrypted; decrypt it first with 'openssl pkey -in KEY'");
    if (label_is(block->label, "OPENSSH PRIVATE KEY"))
        return cm_fail(err, CM_E_KEY,
                       "private key: is in OpenSSH form; convert it with "
                       "'ssh-keygen -p -m PEM -f KEY'");
    cm_status rc = cm_buf_reserve(&der, cm_pem_bound(block->body), err);
    if (rc != CM_OK)
        return rc;
    bool ok = cm_pem_decode(block->body, der.data, &len);
    der.len = cm_pem_bound(block->body); /* so that all of it is wiped */
    if (!ok)
        return cm_fail(err, CM_E_PARSE, "private key: PEM is not valid base64");
    return cm_key_from_der((struct cm_span){ der.data, len }, ret, err);
}

cm_status cm_key_from_pem(struct cm_span pem, struct cm_key **ret, struct cm_err *err)
{
    struct cm_pem_block block;

    if (pem.len > CM_KEY_PEM_MAX)
        return cm_fail(err, CM_E_LIMIT, "private key: %zu bytes of PEM, at most %u are accepted",
                       pem.len, CM_KEY_PEM_MAX);
    if (cm__key_is_url(pem)) {
        CM_AUTO_BUF struct cm_buf form = CM_BUF_SECRET(CM_KEY_DER_MAX);
        cm_status rc = cm__key_url_parse(pem, &form, err);

        return rc == CM_OK ? cm_key_from_der(cm_buf_span(&form), ret, err) : rc;
    }
    for (;;) {
        cm_status rc = cm_pem_next(&pem, &block, err);
        if (rc == CM_E_NOTFOUND)
            return cm_fail(err, CM_E_PARSE, "private key: no PRIVATE KEY block in the PEM text");
        if (rc != CM_OK)
            return cm_wrap(err, rc, "private key");
        /* "EC PARAMETERS" and certificates may stand before it. */
        if (label_is(block.label, "PRIVATE KEY") || label_ends(block.label, " PRIVATE KEY"))
            return key_from_block(&block, ret, err);
    }
}

cm_status cm_key_to_der(const struct cm_key *key, struct cm_buf *out, struct cm_err *err)
{
    CM_ASSERT(out->secret);
    return cm_buf_append(out, key->der, key->der_len, err);
}

cm_status cm_key_to_pem(const struct cm_key *key, struct cm_buf *out, struct cm_err *err)
{
    const char *label = "PRIVATE KEY";

    CM_ASSERT(out->secret);
    if (key->url_len != 0)
        return cm__key_url_text(key, out, err);
    if (key->curve.len != 0)
        label = "EC PRIVATE KEY";
    else if (key->rsa_bits != 0)
        label = "RSA PRIVATE KEY";
    return cm_pem_encode(label, (struct cm_span){ key->der, key->der_len }, out, err);
}
