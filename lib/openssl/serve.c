/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <openssl/err.h>
#include <string.h>

/* A certificate as OpenSSL's objects: made on first use, kept with the certificate. Each SSL that
 * serves them has references of its own. */

struct serving {
    struct cm_attachment base;
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* without the leaf */
};

static const char owner[] = "OpenSSL"; /* its address */

static void destroy(struct cm_attachment *base)
{
    struct serving *sv = (struct serving *)(void *)base;

    sk_X509_pop_free(sv->chain, X509_free);
    X509_free(sv->leaf);
    EVP_PKEY_free(sv->key);
    OPENSSL_free(sv);
}

static X509 *read_cert(struct cm_span der)
{
    const unsigned char *p = der.data;

    return d2i_X509(NULL, &p, (long)der.len);
}

static cm_status read_chain(const struct cm_cert *cert, struct serving *sv, struct cm_err *err)
{
    sv->chain = sk_X509_new_null();
    sv->leaf = read_cert(cm_cert_der(cert, 0));
    if (sv->chain == NULL || sv->leaf == NULL)
        return cm_ossl_fail(err, CM_E_CERT, "read a certificate");
    for (size_t i = 1; i < cm_cert_chain_len(cert); i++) {
        X509 *x = read_cert(cm_cert_der(cert, i));

        if (x == NULL || sk_X509_push(sv->chain, x) <= 0) {
            X509_free(x);
            return cm_ossl_fail(err, CM_E_CERT, "read a certificate of a chain");
        }
    }
    return CM_OK;
}

static cm_status read_key(const struct cm_cert *cert, struct serving *sv, struct cm_err *err)
{
    struct cm_buf der = CM_BUF_SECRET(16 * 1024);
    cm_status rc = cm_cert_key_der(cert, &der, err);
    const unsigned char *p = der.data;

    if (rc == CM_OK) {
        sv->key = d2i_AutoPrivateKey(NULL, &p, (long)der.len);
        if (sv->key == NULL)
            rc = cm_ossl_fail(err, CM_E_KEY, "read a private key");
        ERR_clear_error(); /* it tries one form after the other */
    }
    cm_buf_free(&der);
    return rc;
}

static cm_status make(const struct cm_cert *cert, struct serving **ret, struct cm_err *err)
{
    struct serving *sv = OPENSSL_zalloc(sizeof *sv);
    cm_status rc;

    if (sv == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    sv->base = (struct cm_attachment){ .owner = owner, .destroy = destroy };
    rc = read_chain(cert, sv, err);
    if (rc == CM_OK)
        rc = read_key(cert, sv, err);
    if (rc != CM_OK) {
        destroy(&sv->base);
        return rc;
    }
    *ret = sv;
    return CM_OK;
}

cm_status cm_ossl_serve(SSL *ssl, const struct cm_ossl_session *st, struct cm_err *err)
{
    struct cm_attachment *kept = cm_cert_attached(st->cert, owner);
    struct serving *sv = NULL;

    if (kept == NULL) {
        cm_status rc = make(st->cert, &sv, err);

        if (rc != CM_OK)
            return rc;
        kept = cm_cert_attach(st->cert, &sv->base);
        if (kept != &sv->base)
            destroy(&sv->base);
    }
    sv = (struct serving *)(void *)kept;
    /* Whatever certificates the SSL_CTX has must not be a choice beside ours. */
    SSL_certs_clear(ssl);
    if (SSL_use_cert_and_key(ssl, sv->leaf, sv->key, sv->chain, 1) != 1)
        return cm_ossl_fail(err, CM_E_CERT, "use a certificate (too weak for the security level?)");
    return CM_OK;
}

int cm_ossl_status(SSL *ssl, void *arg)
{
    const struct cm_ossl_session *st = cm_ossl_session_of(ssl);
    struct cm_staple *staple = st != NULL && st->cert != NULL ? cm_cert_staple(st->cert) : NULL;
    int rc = SSL_TLSEXT_ERR_NOACK;

    (void)arg;
    if (staple == NULL)
        return rc;
    const struct cm_env *env = cm_config_env(st->of->cfg);
    struct cm_span der = cm_staple_der(staple);
    if (env->wall_ns(env) / CM_NS_PER_S < cm_staple_end_s(staple)) {
        unsigned char *copy = OPENSSL_memdup(der.data, der.len);

        if (copy != NULL) {
            (void)SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)der.len); /* takes it over */
            rc = SSL_TLSEXT_ERR_OK;
        }
    }
    cm_staple_unref(staple);
    return rc;
}
