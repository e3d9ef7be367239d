/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* One decision per session: from a ClientHello to a certificate or a refusal. Both doors end here;
 * a second hello (HelloRetryRequest) finds the decision taken. */

int cm_tls_alert_to_gnutls(int alert)
{
    switch (alert) {
    case CM_ALERT_UNEXPECTED_MESSAGE:
        return GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET;
    case CM_ALERT_HANDSHAKE_FAILURE:
        return GNUTLS_E_NO_CIPHER_SUITES;
    case CM_ALERT_ILLEGAL_PARAMETER:
        return GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER;
    case CM_ALERT_DECODE_ERROR:
        return GNUTLS_E_UNEXPECTED_PACKET_LENGTH;
    case CM_ALERT_UNRECOGNIZED_NAME:
        return GNUTLS_E_UNRECOGNIZED_NAME;
    case 70: /* protocol_version */
        return GNUTLS_E_UNSUPPORTED_VERSION_PACKET;
    case 71: /* insufficient_security */
        return GNUTLS_E_INSUFFICIENT_SECURITY;
    case 109: /* missing_extension */
        return GNUTLS_E_MISSING_EXTENSION;
    case 116: /* certificate_required */
        return GNUTLS_E_CERTIFICATE_REQUIRED;
    case 120: /* no_application_protocol */
        return GNUTLS_E_NO_APPLICATION_PROTOCOL;
    default:
        return GNUTLS_E_INTERNAL_ERROR;
    }
}

/* For a refusal that came without an alert of its own. */
static int alert_for(cm_status rc)
{
    switch ((int)rc) {
    case CM_E_NOTFOUND:
    case CM_E_POLICY:
    case CM_E_INVAL:
        return CM_ALERT_UNRECOGNIZED_NAME;
    case CM_E_PARSE:
    case CM_E_LIMIT:
        return CM_ALERT_DECODE_ERROR;
    case CM_E_UNSUPPORTED:
        return CM_ALERT_HANDSHAKE_FAILURE;
    default:
        return CM_ALERT_INTERNAL_ERROR;
    }
}

void cm_tls_refuse(struct cm_tls_session *st, cm_status rc, int alert, const struct cm_err *why)
{
    if (st->decided)
        return;
    st->decided = true;
    st->refused = true;
    st->refusal_rc = rc;
    st->refusal_alert = alert != 0 ? alert : alert_for(rc);
    if (why != NULL) {
        st->refusal = cm_calloc(1, sizeof *st->refusal);
        if (st->refusal != NULL)
            *st->refusal = *why;
    }
}

void cm_tls_give_up(struct cm_tls_session *st, cm_status rc, const struct cm_err *why)
{
    if (st->refused)
        return;
    st->decided = false;
    cm_tls_refuse(st, rc, CM_ALERT_INTERNAL_ERROR, why);
}

/* What core said, now or later. */
static void settle(struct cm_tls_session *st, cm_status rc, struct cm_cert *cert,
                   const struct cm_err *why)
{
    if (rc != CM_OK) {
        cm_tls_refuse(st, rc, why->tls_alert, why);
        return;
    }
    st->cert = cert;
    st->decided = true;
}

/* -------------------------------------------------------------- local address */

/* The socket, if the session has one that can be asked: the hook door's owner may have anything
 * for a transport, and then there is no address. */
static int socket_of(const struct cm_tls_session *st)
{
    int in = -1;
    int out = -1;

    if (st->fd >= 0)
        return st->fd;
    gnutls_transport_get_int2(st->session, &in, &out);
    return in > 2 && in == out && in < (1 << 20) ? in : -1;
}

typedef int (*name_of_fn)(int fd, struct sockaddr *restrict addr, socklen_t *restrict len);

/* Of one end of the connection. */
static void read_ip(const struct cm_tls_session *st, name_of_fn name_of, char *out, size_t size)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;
    int fd = socket_of(st);

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

static void start_pending(struct cm_tls_session *st, struct cm_pending *pending)
{
    const struct cm_env *env = cm_config_env(st->cfg);
    int64_t wait_ns = cm_config_handshake_wait_ns(st->cfg);

    st->pending = pending;
    /* Core ends a wait by itself; this is for an answer that never comes. */
    st->pending_until_ns = env->mono_ns(env) + (wait_ns > 0 ? wait_ns : 0) + CM_NS_PER_S;
}

static void decide_by(struct cm_tls_session *st, struct cm_hello *hello)
{
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;

    memcpy(st->server_name, hello->server_name, sizeof st->server_name);
    st->challenge = hello->acme_tls;
    st->wants_staple = hello->has_status_request;
    if (hello->sni_invalid) {
        rc = cm_fail(&err, CM_E_INVAL, "the server name in the ClientHello is no host name");
        cm_tls_refuse(st, rc, CM_ALERT_UNRECOGNIZED_NAME, &err);
        return;
    }
    if (hello->server_name[0] == '\0') {
        read_ip(st, getsockname, st->local_ip, sizeof st->local_ip);
        memcpy(hello->local_ip, st->local_ip, sizeof hello->local_ip);
    } else if (cm_config_on_demand(st->cfg)) {
        read_ip(st, getpeername, hello->peer_ip, sizeof hello->peer_ip);
    }
    if (st->choose != NULL)
        rc = st->choose(st->choose_user, hello, &cert, &err);
    else
        rc = cm_get_certificate(st->cfg, hello, &cert, &pending, &err);
    if (rc == CM_E_AGAIN && pending != NULL)
        start_pending(st, pending);
    else
        settle(st, rc, cert, &err);
}

void cm_tls_decide(struct cm_tls_session *st, struct cm_span body)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_hello hello;
    cm_status rc;

    if (st->decided || st->pending != NULL)
        return;
    rc = cm_tls_hello_parse_body(body, &hello, &err);
    if (rc != CM_OK)
        cm_tls_refuse(st, rc, err.tls_alert, &err);
    else
        decide_by(st, &hello);
}

static void drop_pending(struct cm_tls_session *st)
{
    cm_pending_free(st->pending);
    st->pending = NULL;
}

bool cm_tls_poll(struct cm_tls_session *st)
{
    const struct cm_env *env = cm_config_env(st->cfg);
    struct cm_err err = CM_ERR_INIT;
    struct cm_cert *cert = NULL;
    cm_status rc;

    if (st->pending == NULL)
        return st->decided;
    rc = cm_pending_take(st->pending, &cert, &err);
    if (rc == CM_E_AGAIN) {
        if (env->mono_ns(env) < st->pending_until_ns)
            return false;
        rc = cm_fail(&err, CM_E_TIMEOUT, "no certificate came in time");
    }
    drop_pending(st);
    settle(st, rc, cert, &err);
    return true;
}

void cm_tls_await(struct cm_tls_session *st)
{
    struct cm_op op = { .env = cm_config_env(st->cfg), .deadline_ns = st->pending_until_ns };
    struct cm_err err = CM_ERR_INIT;
    struct cm_cert *cert = NULL;
    cm_status rc;

    if (st->pending == NULL)
        return;
    rc = cm_pending_wait(st->pending, &op, &cert, &err);
    drop_pending(st);
    settle(st, rc, cert, &err);
}
