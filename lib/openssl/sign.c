/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <openssl/err.h>
#include <openssl/rsa.h>

/* Signing for GnuTLS servers. An EVP_PKEY is used by several threads at once, each with a context
 * of its own. What OpenSSL had to say before stays in the thread's queue of errors: the program may
 * be using OpenSSL for something else. */

#define SIG_MAX 1024 /* RSA of 8192 bits */

/* Left to GnuTLS, which is faster with them: P-384 (6 times), Ed25519. docs/performance.md. */
static bool is_ours(EVP_PKEY *key)
{
    int bits = EVP_PKEY_get_bits(key);

    if (EVP_PKEY_is_a(key, "EC"))
        return bits == 256;
    return EVP_PKEY_is_a(key, "RSA") && bits <= 8 * SIG_MAX;
}

static bool load(struct cm_span der, void **ret_key)
{
    const unsigned char *p = der.data;

    (void)ERR_set_mark();
    EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &p, (long)der.len);
    if (key != NULL && !is_ours(key)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    (void)ERR_pop_to_mark();
    *ret_key = key;
    return key != NULL;
}

static const struct {
    enum cm_sign_alg alg;
    int padding; /* 0: not RSA */
    const EVP_MD *(*hash)(void);
} schemes[] = {
    { CM_SIGN_ECDSA_SHA256, 0, EVP_sha256 },
    { CM_SIGN_ECDSA_SHA384, 0, EVP_sha384 },
    { CM_SIGN_ECDSA_SHA512, 0, EVP_sha512 },
    { CM_SIGN_RSA_PSS_SHA256, RSA_PKCS1_PSS_PADDING, EVP_sha256 },
    { CM_SIGN_RSA_PSS_SHA384, RSA_PKCS1_PSS_PADDING, EVP_sha384 },
    { CM_SIGN_RSA_PSS_SHA512, RSA_PKCS1_PSS_PADDING, EVP_sha512 },
    { CM_SIGN_RSA_PKCS1_SHA256, RSA_PKCS1_PADDING, EVP_sha256 },
    { CM_SIGN_RSA_PKCS1_SHA384, RSA_PKCS1_PADDING, EVP_sha384 },
    { CM_SIGN_RSA_PKCS1_SHA512, RSA_PKCS1_PADDING, EVP_sha512 },
};

/* The padding before the hash: OpenSSL wants to know of PSS first. */
static bool prepare(EVP_PKEY_CTX *ctx, int padding, const EVP_MD *hash)
{
    return EVP_PKEY_sign_init(ctx) == 1 &&
           (padding == 0 || EVP_PKEY_CTX_set_rsa_padding(ctx, padding) == 1) &&
           EVP_PKEY_CTX_set_signature_md(ctx, hash) == 1 &&
           (padding != RSA_PKCS1_PSS_PADDING ||
            EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1);
}

static cm_status sign(void *key, enum cm_sign_alg alg, struct cm_span input, struct cm_buf *ret)
{
    unsigned char sig[SIG_MAX];
    size_t len = sizeof sig;
    size_t i = 0;

    while (i < sizeof schemes / sizeof schemes[0] && schemes[i].alg != alg)
        i++;
    if (i == sizeof schemes / sizeof schemes[0])
        return CM_E_UNSUPPORTED;
    (void)ERR_set_mark();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool ok = ctx != NULL && prepare(ctx, schemes[i].padding, schemes[i].hash()) &&
              EVP_PKEY_sign(ctx, sig, &len, input.data, input.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    (void)ERR_pop_to_mark();
    return ok ? cm_buf_append(ret, sig, len, NULL) : CM_E_TLS;
}

static void drop(void *key)
{
    EVP_PKEY_free(key); /* wipes it */
}

cm_status cm_openssl_signing(bool on, struct cm_err *err)
{
    static const struct cm_signing by = { .abi = CM_SPI_ABI,
                                          .size = (uint32_t)sizeof by,
                                          .name = "libcrypto",
                                          .load = load,
                                          .sign = sign,
                                          .drop = drop };

    return cm_signing_use(on ? &by : NULL, err);
}
