/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_OPENSSL_ADAPTER_H
#define CM_OPENSSL_ADAPTER_H

/* Private to lib/openssl: what certmesh keeps with an SSL_CTX and with an SSL. The room knows the
 * public headers only: it is a library of its own, and shows that others can be made. */

#include <certmesh/cm_openssl.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#define CM_OSSL_CONTEXT_LEN 32u /* SHA-256; OpenSSL's maximum for a session ID context */

/* With each SSL_CTX: in its ex_data, freed with it. */
struct cm_ossl_ctx {
    struct cm_config *cfg;
    enum cm_openssl_wait wait;
    char *session_context;
    SSL_CTX *challenge; /* for a CA's validation: acme-tls/1 and nothing else */
};

/* With each SSL, from its ClientHello on: in its ex_data, freed with it. */
struct cm_ossl_session {
    struct cm_ossl_ctx *of; /* lives as long as the SSL: SSL_new() has a reference to the SSL_CTX */
    SSL_CTX *ctx;           /* that reference, for when the SSL is moved to another SSL_CTX */
    bool begun;
    bool decided;
    bool challenge;
    uint8_t random[SSL3_RANDOM_SIZE]; /* of the hello that was decided on */
    struct cm_cert *cert;
    struct cm_pending *pending;
    int64_t pending_until_ns;
    cm_status refusal_rc; /* CM_OK: not refused */
    struct cm_err refusal;
    char server_name[256];
    char local_ip[64];
};

/* ---- state.c ---- */
struct cm_ossl_ctx *cm_ossl_ctx_of(const SSL_CTX *ctx);
cm_status cm_ossl_ctx_tie(SSL_CTX *ctx, struct cm_ossl_ctx *oc, struct cm_err *err);
void cm_ossl_ctx_free(struct cm_ossl_ctx *oc);
/* NULL before the first ClientHello. */
struct cm_ossl_session *cm_ossl_session_of(const SSL *ssl);
/* Made on first use; NULL without memory, or when the SSL_CTX was not set up. */
struct cm_ossl_session *cm_ossl_session_get(SSL *ssl);
/* As if no hello had come: for the next handshake of an SSL that is used again. */
void cm_ossl_session_reset(struct cm_ossl_session *st);
/* @rc with what OpenSSL says happened. */
cm_status cm_ossl_fail(struct cm_err *err, cm_status rc, const char *what);

/* ---- hello.c ---- */
/* The ClientHello that @ssl is in the callback for, by certmesh's own parser. */
cm_status cm_ossl_hello(SSL *ssl, struct cm_hello *ret, struct cm_err *err);

/* ---- serve.c ---- */
/* Have @ssl serve st->cert. */
cm_status cm_ossl_serve(SSL *ssl, const struct cm_ossl_session *st, struct cm_err *err);
/* The callback for status requests. */
int cm_ossl_status(SSL *ssl, void *arg);

/* ---- tickets.c ---- */
int cm_ossl_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int enc);
/* Sessions of one name, service and kind of verification are not resumed in another. */
cm_status cm_ossl_set_context(SSL *ssl, const struct cm_ossl_session *st, struct cm_err *err);

#endif
