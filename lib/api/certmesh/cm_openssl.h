/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_OPENSSL_H
#define CERTMESH_CM_OPENSSL_H

/* certmesh for servers built on OpenSSL 3: libcertmesh-openssl, pkg-config certmesh-openssl. Order
 * of use: a config and cm_manage() as in <certmesh/cm.h> -> cm_openssl_setup() once per SSL_CTX ->
 * SSL_accept() as ever. Chosen for each ClientHello: the certificate, its staple, the answer to a
 * CA's tls-alpn-01 validation; tickets are made with the keys that the fleet shares.
 *
 * Conventions as in cm.h. An SSL is used by one thread at a time, as OpenSSL has it. */

#include <certmesh/cm.h>

#include <openssl/ssl.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a handshake does while its certificate is on its way. */
enum cm_openssl_wait {
    CM_OPENSSL_WAIT_AUTO = 0, /* BLOCK on a blocking socket, else RETRY */
    CM_OPENSSL_WAIT_BLOCK,    /* SSL_accept() waits, handshake_wait_ms of the config at most */
    CM_OPENSSL_WAIT_RETRY     /* SSL_accept() returns, SSL_get_error() says
                                 SSL_ERROR_WANT_CLIENT_HELLO_CB: poll cm_openssl_wait_fd() for
                                 reading, and call SSL_accept() again */
};

struct cm_openssl_options {
    uint32_t size;
    enum cm_openssl_wait wait;
    const char *session_context; /* sessions are resumed only where this is the same: tell services
                                    with different rules for clients apart. NULL = "". Copied */
};
#define CM_OPENSSL_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_openssl_options)                                        \
    }

/**
 * Have @cfg choose what servers of @ctx serve. Call it after your own settings and before the first
 * SSL_new(); once per SSL_CTX (then CM_E_STATE). @opts NULL = defaults.
 *
 * Taken over: the callbacks for the ClientHello, the status request and ticket keys; the session ID
 * context of each SSL. When nothing else is set, TLS 1.2 is the oldest version. Certificates that
 * @ctx has are not served. Everything else stays yours: protocols, ciphers, ALPN (do not agree on
 * acme-tls/1: that is done elsewhere), verification of clients, the cache of sessions.
 * Lifetime: @cfg must outlive @ctx and every SSL made of it.
 * Errors: CM_E_INVAL, CM_E_STATE, CM_E_NOMEM, CM_E_TLS.
 */
CM_API CM_MUST_CHECK cm_status cm_openssl_setup(struct cm_config *cfg, SSL_CTX *ctx,
                                                const struct cm_openssl_options *opts,
                                                struct cm_err *err);
/** The callback that cm_openssl_setup() installs, for a program that needs one of its own: call it
 *  in yours, and return what it returns unless that is SSL_CLIENT_HELLO_SUCCESS. @arg: NULL. */
CM_API int cm_openssl_client_hello(SSL *ssl, int *ret_alert, void *arg);
/** What to poll for reading while SSL_accept() wants to be called again for the ClientHello: a
 *  descriptor of the pending answer. Else the socket, or -1. Ask before every poll. Call
 *  SSL_accept() again after handshake_wait_ms at the latest. */
CM_API int cm_openssl_wait_fd(const SSL *ssl);
/** True once the handshake was one of a CA's validation (acme-tls/1): close without a word. */
CM_API bool cm_openssl_is_challenge(const SSL *ssl);
/** Why certmesh refused the handshake; CM_OK if it did not. The alert is in err->tls_alert. */
CM_API cm_status cm_openssl_refusal(const SSL *ssl, struct cm_err *err);

/* ---- servers built on GnuTLS ---- */

/**
 * @on: have libcrypto sign the handshakes of GnuTLS servers (both doors, cm_https) in this process,
 * for the types of keys that it is faster with: ECDSA P-256, and RSA of up to 8192 bits. GnuTLS
 * signs with all others, and for certificates whose first handshake was before. Call it first
 * thing; false: as if it had not been called, for certificates whose first handshake comes later.
 * From then on this library must stay in the process. Any thread. Errors: CM_E_UNSUPPORTED, when
 * libcertmesh is of another version.
 */
CM_API CM_MUST_CHECK cm_status cm_openssl_signing(bool on, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
