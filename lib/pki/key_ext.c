/* SPDX-License-Identifier: Apache-2.0 */
#include "key_ext.h"
#include "pki_gnutls.h"

#include <gnutls/crypto.h>
#include <string.h>

static const struct {
    gnutls_sign_algorithm_t sign;
    gnutls_pk_algorithm_t pk;
    gnutls_digest_algorithm_t hash;
    enum cm_sign_alg alg;
} schemes[] = {
    { GNUTLS_SIGN_RSA_SHA256, GNUTLS_PK_RSA, GNUTLS_DIG_SHA256, CM_SIGN_RSA_PKCS1_SHA256 },
    { GNUTLS_SIGN_RSA_SHA384, GNUTLS_PK_RSA, GNUTLS_DIG_SHA384, CM_SIGN_RSA_PKCS1_SHA384 },
    { GNUTLS_SIGN_RSA_SHA512, GNUTLS_PK_RSA, GNUTLS_DIG_SHA512, CM_SIGN_RSA_PKCS1_SHA512 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA256, GNUTLS_PK_RSA, GNUTLS_DIG_SHA256, CM_SIGN_RSA_PSS_SHA256 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA384, GNUTLS_PK_RSA, GNUTLS_DIG_SHA384, CM_SIGN_RSA_PSS_SHA384 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA512, GNUTLS_PK_RSA, GNUTLS_DIG_SHA512, CM_SIGN_RSA_PSS_SHA512 },
    { GNUTLS_SIGN_ECDSA_SHA256, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA256, CM_SIGN_ECDSA_SHA256 },
    { GNUTLS_SIGN_ECDSA_SHA384, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA384, CM_SIGN_ECDSA_SHA384 },
    { GNUTLS_SIGN_ECDSA_SHA512, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA512, CM_SIGN_ECDSA_SHA512 },
    { GNUTLS_SIGN_ECDSA_SECP256R1_SHA256, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA256,
      CM_SIGN_ECDSA_SHA256 },
    { GNUTLS_SIGN_ECDSA_SECP384R1_SHA384, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA384,
      CM_SIGN_ECDSA_SHA384 },
    { GNUTLS_SIGN_EDDSA_ED25519, GNUTLS_PK_EDDSA_ED25519, GNUTLS_DIG_UNKNOWN, CM_SIGN_ED25519 },
};

/* -1: not one that can be asked for. */
static int scheme_of(gnutls_sign_algorithm_t sign, gnutls_pk_algorithm_t pk)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++)
        if (schemes[i].sign == sign && schemes[i].pk == pk)
            return (int)i;
    return -1;
}

bool cm__ext_scheme(gnutls_sign_algorithm_t sign, gnutls_pk_algorithm_t pk,
                    enum cm_sign_alg *ret_alg, gnutls_digest_algorithm_t *ret_hash)
{
    int i = scheme_of(sign, pk);

    if (i < 0)
        return false;
    *ret_alg = schemes[i].alg;
    *ret_hash = schemes[i].hash;
    return true;
}

gnutls_sign_algorithm_t cm__ext_algo(enum cm_sign_alg alg)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++)
        if (schemes[i].alg == alg)
            return schemes[i].sign;
    return GNUTLS_SIGN_UNKNOWN;
}

static int give(const struct cm_ext *e, enum cm_sign_alg alg, struct cm_span input,
                gnutls_datum_t *ret)
{
    CM_AUTO_BUF struct cm_buf sig = CM_BUF_INIT(CM_SIG_MAX);

    if (e->give(e, alg, input, &sig) != CM_OK || sig.len == 0)
        return GNUTLS_E_PK_SIGN_FAILED;
    ret->data = gnutls_malloc(sig.len);
    if (ret->data == NULL)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(ret->data, sig.data, sig.len);
    ret->size = (unsigned)sig.len;
    return 0;
}

/* For PKCS#1 signatures of TLS 1.2 GnuTLS has packed the hash into a DigestInfo (RFC 8017 9.2): 19
 * bytes before it, whichever of SHA-2 it is. */
static int sign_info(const struct cm_ext *e, const gnutls_datum_t *packed, gnutls_datum_t *ret)
{
    enum { BEFORE = 19 };
    enum cm_sign_alg alg;

    switch (packed->size) {
    case BEFORE + 32:
        alg = CM_SIGN_RSA_PKCS1_SHA256;
        break;
    case BEFORE + 48:
        alg = CM_SIGN_RSA_PKCS1_SHA384;
        break;
    case BEFORE + 64:
        alg = CM_SIGN_RSA_PKCS1_SHA512;
        break;
    default:
        return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
    }
    return give(e, alg, (struct cm_span){ packed->data + BEFORE, packed->size - BEFORE }, ret);
}

static int sign_hash(gnutls_privkey_t key, gnutls_sign_algorithm_t algo, void *user,
                     unsigned int flags, const gnutls_datum_t *hash, gnutls_datum_t *ret)
{
    const struct cm_ext *e = user;
    int i = scheme_of(algo, e->pk);

    (void)key;
    if (algo == GNUTLS_SIGN_RSA_RAW)
        return sign_info(e, hash, ret);
    if (i < 0 || (flags & GNUTLS_PRIVKEY_SIGN_FLAG_TLS1_RSA) != 0)
        return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
    return give(e, schemes[i].alg, (struct cm_span){ hash->data, hash->size }, ret);
}

static int sign_data(gnutls_privkey_t key, gnutls_sign_algorithm_t algo, void *user,
                     unsigned int flags, const gnutls_datum_t *data, gnutls_datum_t *ret)
{
    const struct cm_ext *e = user;
    int i = scheme_of(algo, e->pk);
    uint8_t digest[64];

    if (i < 0)
        return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
    if (schemes[i].hash == GNUTLS_DIG_UNKNOWN)
        return give(e, schemes[i].alg, (struct cm_span){ data->data, data->size }, ret);
    int rc = gnutls_hash_fast(schemes[i].hash, data->data, data->size, digest);
    gnutls_datum_t hash = { digest, gnutls_hash_get_len(schemes[i].hash) };
    return rc < 0 ? rc : sign_hash(key, algo, user, flags, &hash, ret);
}

static int info(gnutls_privkey_t key, unsigned int flags, void *user)
{
    const struct cm_ext *e = user;

    (void)key;
    if ((flags & GNUTLS_PRIVKEY_INFO_PK_ALGO) != 0)
        return (int)e->pk;
    if ((flags & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS) != 0)
        return (int)e->bits;
    if ((flags & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO) != 0) {
        int i = scheme_of((gnutls_sign_algorithm_t)GNUTLS_FLAGS_TO_SIGN_ALGO(flags), e->pk);

        return i >= 0 && (e->can == NULL || e->can(e, schemes[i].alg));
    }
    return -1;
}

static void drop(gnutls_privkey_t key, void *user)
{
    struct cm_ext *e = user;

    (void)key;
    e->drop(e);
}

cm_status cm__ext_handle(const struct cm_key *key, struct cm_ext *e, gnutls_privkey_t *ret,
                         struct cm_err *err)
{
    gnutls_privkey_t made = NULL;

    e->pk = key->rsa_bits != 0    ? GNUTLS_PK_RSA
            : key->curve.len != 0 ? GNUTLS_PK_ECDSA
                                  : GNUTLS_PK_EDDSA_ED25519;
    e->bits = key->rsa_bits != 0 ? key->rsa_bits : key->type == CM_PK_P384 ? 384 : 256;
    int rc = gnutls_privkey_init(&made);
    if (rc >= 0)
        rc = gnutls_privkey_import_ext4(made, e, sign_data, sign_hash, NULL, drop, info,
                                        GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
    if (rc < 0) {
        if (made != NULL)
            gnutls_privkey_deinit(made);
        e->drop(e);
        return cm_fail_gnutls(err, CM_E_INTERNAL, rc, "key that another library signs with");
    }
    *ret = made;
    return CM_OK;
}
