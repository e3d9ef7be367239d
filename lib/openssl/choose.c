/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

/* One decision per handshake, in the callback for the ClientHello. OpenSSL comes by again when it
 * was told to retry, and for the second hello after a HelloRetryRequest: both have the client's
 * random of the first (RFC 8446 4.1.2). With another random it is another handshake, of an SSL that
 * is used again or renegotiates. */

static void refuse(struct cm_ossl_session *st, cm_status rc, const struct cm_err *why, int alert)
{
    st->decided = true;
    st->refusal_rc = rc;
    st->refusal = *why;
    st->refusal.status = rc;
    if (st->refusal.tls_alert == 0)
        st->refusal.tls_alert = alert;
}

/* For a refusal that came without an alert of its own. */
static int alert_for(cm_status rc)
{
    switch ((int)rc) {
    case CM_E_NOTFOUND:
    case CM_E_POLICY:
    case CM_E_INVAL:
        return SSL_AD_UNRECOGNIZED_NAME;
    case CM_E_PARSE:
    case CM_E_LIMIT:
        return SSL_AD_DECODE_ERROR;
    case CM_E_UNSUPPORTED:
        return SSL_AD_HANDSHAKE_FAILURE;
    default:
        return SSL_AD_INTERNAL_ERROR;
    }
}

/* What core said, now or later. */
static void settle(struct cm_ossl_session *st, cm_status rc, struct cm_cert *cert,
                   const struct cm_err *why)
{
    if (rc != CM_OK) {
        refuse(st, rc, why, alert_for(rc));
        return;
    }
    st->cert = cert;
    st->decided = true;
}

typedef int (*name_of_fn)(int fd, struct sockaddr *restrict addr, socklen_t *restrict len);

/* Of one end of the connection; "" where there is no socket. */
static void read_ip(const SSL *ssl, name_of_fn name_of, char *out, size_t size)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;
    int fd = SSL_get_rfd(ssl);

    out[0] = '\0';
    if (fd < 0 || name_of(fd, (struct sockaddr *)(void *)&ss, &len) != 0)
        return;
    if (ss.ss_family == AF_INET) {
        const struct sockaddr_in *a = (const void *)&ss;

        (void)inet_ntop(AF_INET, &a->sin_addr, out, (socklen_t)size);
    } else if (ss.ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *)&ss;

        if (IN6_IS_ADDR_V4MAPPED(&a->sin6_addr))
            (void)inet_ntop(AF_INET, &a->sin6_addr.s6_addr[12], out, (socklen_t)size);
        else
            (void)inet_ntop(AF_INET6, &a->sin6_addr, out, (socklen_t)size);
    }
}

/* ------------------------------------------------------------------- deciding */

static int64_t now_ns(const struct cm_ossl_session *st)
{
    const struct cm_env *env = cm_config_env(st->of->cfg);

    return env->mono_ns(env);
}

static void ask(SSL *ssl, struct cm_ossl_session *st, struct cm_hello *hello)
{
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;

    memcpy(st->server_name, hello->server_name, sizeof st->server_name);
    st->challenge = hello->acme_tls;
    if (hello->server_name[0] == '\0' && !hello->sni_invalid) {
        read_ip(ssl, getsockname, st->local_ip, sizeof st->local_ip);
        memcpy(hello->local_ip, st->local_ip, sizeof hello->local_ip);
    }
    read_ip(ssl, getpeername, hello->peer_ip, sizeof hello->peer_ip); /* quotas of clients */
    if (hello->sni_invalid) {
        rc = cm_fail(&err, CM_E_INVAL, "the server name in the ClientHello is no host name");
        err.tls_alert = SSL_AD_UNRECOGNIZED_NAME;
    } else {
        rc = cm_get_certificate(st->of->cfg, hello, &cert, &st->pending, &err);
    }
    if (rc != CM_E_AGAIN || st->pending == NULL) {
        settle(st, rc, cert, &err);
        return;
    }
    int64_t wait_ns = cm_config_handshake_wait_ns(st->of->cfg);
    /* Core ends a wait by itself; this is for an answer that never comes. */
    st->pending_until_ns = now_ns(st) + (wait_ns > 0 ? wait_ns : 0) + CM_NS_PER_S;
}

static void begin(SSL *ssl, struct cm_ossl_session *st)
{
    struct cm_hello hello;
    struct cm_err err = CM_ERR_INIT;

    if (SSL_get_SSL_CTX(ssl) != st->ctx)
        (void)SSL_set_SSL_CTX(ssl, st->ctx); /* the last one was a challenge */
    cm_ossl_session_reset(st);
    st->begun = true;
    cm_status rc = cm_ossl_hello(ssl, &hello, &err);
    if (rc != CM_OK)
        refuse(st, rc, &err, alert_for(rc));
    else
        ask(ssl, st, &hello);
}

static bool blocks(const SSL *ssl, const struct cm_ossl_session *st)
{
    int fd = SSL_get_rfd(ssl);
    int flags;

    if (st->of->wait != CM_OPENSSL_WAIT_AUTO)
        return st->of->wait == CM_OPENSSL_WAIT_BLOCK;
    flags = fd >= 0 ? fcntl(fd, F_GETFL) : -1;
    return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

/* Take the answer if it has come, or wait for it; false: it has not. */
static bool take(const SSL *ssl, struct cm_ossl_session *st)
{
    struct cm_op op = { .env = cm_config_env(st->of->cfg), .deadline_ns = st->pending_until_ns };
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;

    if (blocks(ssl, st)) {
        rc = cm_pending_wait(st->pending, &op, &cert, &err);
    } else {
        rc = cm_pending_take(st->pending, &cert, &err);
        if (rc == CM_E_AGAIN) {
            if (now_ns(st) < st->pending_until_ns)
                return false;
            rc = cm_fail(&err, CM_E_TIMEOUT, "no certificate came in time");
        }
    }
    cm_pending_free(st->pending);
    st->pending = NULL;
    settle(st, rc, cert, &err);
    return true;
}

/* ------------------------------------------------------------------- applying */

/* The sole protocol for a CA's validation, no ticket, and nobody asks the CA who it is. */
static bool be_challenge(SSL *ssl, const struct cm_ossl_session *st)
{
    if (SSL_set_SSL_CTX(ssl, st->of->challenge) == NULL || SSL_set_num_tickets(ssl, 0) != 1)
        return false;
    (void)SSL_set_options(ssl, SSL_OP_NO_TICKET);
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    return true;
}

static void apply(SSL *ssl, struct cm_ossl_session *st)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_OK;

    if (st->challenge && !be_challenge(ssl, st))
        rc = cm_ossl_fail(&err, CM_E_TLS, "prepare for a challenge");
    if (rc == CM_OK)
        rc = cm_ossl_set_context(ssl, st, &err);
    if (rc == CM_OK)
        rc = cm_ossl_serve(ssl, st, &err);
    if (rc != CM_OK)
        refuse(st, rc, &err, SSL_AD_INTERNAL_ERROR);
}

static int decide(SSL *ssl, struct cm_ossl_session *st)
{
    const unsigned char *random = NULL;
    size_t len = SSL_client_hello_get0_random(ssl, &random);
    bool known = st->begun && len == sizeof st->random && memcmp(random, st->random, len) == 0;
    bool was_decided = known && st->decided;

    if (!known) {
        begin(ssl, st);
        if (len == sizeof st->random)
            memcpy(st->random, random, len);
    }
    if (st->pending != NULL && !take(ssl, st))
        return SSL_CLIENT_HELLO_RETRY;
    if (st->refusal_rc == CM_OK && !was_decided)
        apply(ssl, st);
    return st->refusal_rc == CM_OK ? SSL_CLIENT_HELLO_SUCCESS : SSL_CLIENT_HELLO_ERROR;
}

int cm_openssl_client_hello(SSL *ssl, int *ret_alert, void *arg)
{
    struct cm_ossl_session *st = cm_ossl_session_get(ssl);
    int rc;

    (void)arg;
    *ret_alert = SSL_AD_INTERNAL_ERROR;
    if (st == NULL)
        return SSL_CLIENT_HELLO_ERROR;
    rc = decide(ssl, st);
    if (rc == SSL_CLIENT_HELLO_ERROR)
        *ret_alert = st->refusal.tls_alert;
    return rc;
}

/* --------------------------------------------------------------- public views */

int cm_openssl_wait_fd(const SSL *ssl)
{
    const struct cm_ossl_session *st = cm_ossl_session_of(ssl);

    return st != NULL && st->pending != NULL ? cm_pending_fd(st->pending) : SSL_get_rfd(ssl);
}

bool cm_openssl_is_challenge(const SSL *ssl)
{
    const struct cm_ossl_session *st = cm_ossl_session_of(ssl);

    return st != NULL && st->challenge;
}

cm_status cm_openssl_refusal(const SSL *ssl, struct cm_err *err)
{
    const struct cm_ossl_session *st = cm_ossl_session_of(ssl);

    if (st == NULL || st->refusal_rc == CM_OK)
        return CM_OK;
    if (err != NULL)
        *err = st->refusal;
    return st->refusal_rc;
}
