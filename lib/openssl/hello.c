/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <openssl/err.h>

/* OpenSSL shows a ClientHello in pieces. They are put together again for certmesh's parser, so that
 * the same hello gets the same answer from either TLS library. */

#define HELLO_MAX (16u * 1024)

static cm_status put_number(struct cm_buf *out, size_t n, size_t bytes, struct cm_err *err)
{
    uint8_t be[3] = { (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

    return cm_buf_append(out, be + (sizeof be - bytes), bytes, err);
}

/* A vector: its length in @bytes bytes, then it. */
static cm_status put_vec(struct cm_buf *out, const unsigned char *data, size_t len, size_t bytes,
                         struct cm_err *err)
{
    cm_status rc = put_number(out, len, bytes, err);

    return rc == CM_OK && len > 0 ? cm_buf_append(out, data, len, err) : rc;
}

/* Those that OpenSSL knows, in the order in which they came. It passes over the others too. */
static cm_status put_extensions(SSL *ssl, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = CM_OK;
    int *types = NULL;
    size_t n = 0;

    if (SSL_client_hello_get1_extensions_present(ssl, &types, &n) != 1)
        return cm_ossl_fail(err, CM_E_NOMEM, "extensions of a ClientHello");
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        const unsigned char *data = NULL;
        size_t len = 0;

        if (SSL_client_hello_get0_ext(ssl, (unsigned)types[i], &data, &len) != 1)
            continue;
        rc = put_number(out, (size_t)types[i], 2, err);
        if (rc == CM_OK)
            rc = put_vec(out, data, len, 2, err);
    }
    OPENSSL_free(types);
    return rc;
}

static cm_status put_body(SSL *ssl, struct cm_buf *out, struct cm_err *err)
{
    struct cm_buf exts = CM_BUF_INIT(HELLO_MAX);
    const unsigned char *p = NULL;
    size_t len = SSL_client_hello_get0_random(ssl, &p);
    cm_status rc = put_number(out, SSL_client_hello_get0_legacy_version(ssl), 2, err);

    if (rc == CM_OK)
        rc = cm_buf_append(out, p, len, err);
    len = SSL_client_hello_get0_session_id(ssl, &p);
    if (rc == CM_OK)
        rc = put_vec(out, p, len, 1, err);
    len = SSL_client_hello_get0_ciphers(ssl, &p);
    if (rc == CM_OK)
        rc = put_vec(out, p, len, 2, err);
    len = SSL_client_hello_get0_compression_methods(ssl, &p);
    if (rc == CM_OK)
        rc = put_vec(out, p, len, 1, err);
    if (rc == CM_OK)
        rc = put_extensions(ssl, &exts, err);
    if (rc == CM_OK && exts.len > 0)
        rc = put_vec(out, exts.data, exts.len, 2, err);
    cm_buf_free(&exts);
    return rc;
}

cm_status cm_ossl_hello(SSL *ssl, struct cm_hello *ret, struct cm_err *err)
{
    struct cm_buf body = CM_BUF_INIT(HELLO_MAX);
    struct cm_buf msg = CM_BUF_INIT(HELLO_MAX + 4);
    static const uint8_t client_hello = 1;
    cm_status rc = put_body(ssl, &body, err);

    if (rc == CM_OK)
        rc = cm_buf_append(&msg, &client_hello, 1, err);
    if (rc == CM_OK)
        rc = put_vec(&msg, body.data, body.len, 3, err);
    if (rc == CM_OK)
        rc = cm_hello_parse(cm_buf_span(&msg), ret, err);
    cm_buf_free(&msg);
    cm_buf_free(&body);
    return rc;
}
