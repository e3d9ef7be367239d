/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define NON_FATAL_MAX 16 /* warning alerts and the like that one handshake may contain */

/* ------------------------------------------------------------------------ TLS */

static enum io_result wait_for_tls(struct conn *c)
{
    conn_arm(c, gnutls_record_get_direction(c->session) == 1 ? EPOLLOUT : EPOLLIN);
    return c->dead ? IO_BAD : IO_WAIT;
}

/* Not for the socket but for core's answer. */
static enum io_result wait_for_answer(struct conn *c, int fd)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data = { .ptr = &c->watch } };
    int op = c->pending_fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (epoll_ctl(c->server->epoll, op, fd, &ev) != 0)
        return IO_BAD;
    c->pending_fd = fd;
    if (c->state != CONN_PENDING)
        conn_enter(c, CONN_PENDING);
    return IO_WAIT;
}

static enum io_result handshake_waits(struct conn *c)
{
    int fd = cm_tls_wait_fd(c->session);

    if (fd != c->fd)
        return wait_for_answer(c, fd);
    c->pending_fd = -1; /* closed with the answer, and gone from epoll with that */
    if (cm_tls_is_challenge(c->session)) {
        if (c->state != CONN_CHALLENGE)
            conn_enter(c, CONN_CHALLENGE);
    } else if (c->state == CONN_PENDING) {
        conn_enter(c, CONN_HANDSHAKE);
    }
    return wait_for_tls(c);
}

static bool start_session(struct conn *c)
{
    struct cm_err err = CM_ERR_INIT;

    if (gnutls_init(&c->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
        c->session = NULL;
        return false;
    }
    if (cm_config_tls_setup(c->server->cfg, c->session, c->fd, &err) == CM_OK)
        return true;
    cm_logf(c->server->log, CM_LOG_ERROR, "tls_setup_failed", NULL, 0, "%s", err.msg);
    return false;
}

static void log_refusal(struct conn *c, int rc)
{
    struct cm_err err = CM_ERR_INIT;

    if (cm_tls_refusal(c->session, &err) != CM_OK)
        cm_logf(c->server->log, CM_LOG_DEBUG, "handshake_refused", NULL, 0, "%s", err.msg);
    else
        cm_logf(c->server->log, CM_LOG_DEBUG, "handshake_failed", NULL, 0, "%s",
                gnutls_strerror(rc));
}

enum io_result conn_handshake(struct conn *c)
{
    int rc = GNUTLS_E_INTERNAL_ERROR;

    if (c->session == NULL && !start_session(c))
        return IO_BAD;
    for (int i = 0; i < NON_FATAL_MAX; i++) {
        rc = gnutls_handshake(c->session);
        if (rc >= 0)
            return IO_OK;
        if (rc == GNUTLS_E_AGAIN)
            return handshake_waits(c);
        if (gnutls_error_is_fatal(rc) != 0)
            break;
    }
    log_refusal(c, rc);
    (void)gnutls_alert_send_appropriate(c->session, rc);
    return IO_BAD;
}

static enum io_result recv_tls(struct conn *c, void *data, size_t size, size_t *ret_n)
{
    for (int i = 0; i < NON_FATAL_MAX; i++) {
        ssize_t n = gnutls_record_recv(c->session, data, size);

        if (n > 0) {
            *ret_n = (size_t)n;
            return IO_OK;
        }
        if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
            return IO_END;
        if (n == GNUTLS_E_AGAIN)
            return wait_for_tls(c);
        /* A renegotiation is not fatal for GnuTLS, but not wanted here either. */
        if (n == GNUTLS_E_REHANDSHAKE || gnutls_error_is_fatal((int)n) != 0)
            return IO_BAD;
    }
    return IO_BAD;
}

static enum io_result send_tls(struct conn *c, const void *data, size_t len, size_t *ret_n)
{
    for (int i = 0; i < NON_FATAL_MAX; i++) {
        ssize_t n = gnutls_record_send(c->session, data, len);

        if (n >= 0) {
            *ret_n = (size_t)n;
            return IO_OK;
        }
        if (n == GNUTLS_E_AGAIN)
            return wait_for_tls(c);
        if (gnutls_error_is_fatal((int)n) != 0)
            return IO_BAD;
    }
    return IO_BAD;
}

/* ---------------------------------------------------------------------- plain */

static enum io_result after_error(struct conn *c, uint32_t events)
{
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return IO_BAD;
    conn_arm(c, events);
    return c->dead ? IO_BAD : IO_WAIT;
}

static enum io_result recv_plain(struct conn *c, void *data, size_t size, size_t *ret_n)
{
    ssize_t n;

    do
        n = recv(c->fd, data, size, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return after_error(c, EPOLLIN);
    *ret_n = (size_t)n;
    return n == 0 ? IO_END : IO_OK;
}

static enum io_result send_plain(struct conn *c, const void *data, size_t len, size_t *ret_n)
{
    ssize_t n;

    do
        n = send(c->fd, data, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return after_error(c, EPOLLOUT);
    *ret_n = (size_t)n;
    return IO_OK;
}

enum io_result conn_recv(struct conn *c, void *data, size_t size, size_t *ret_n)
{
    /* While lingering nobody looks at what still comes: raw bytes do. */
    if (c->session != NULL && c->state != CONN_LINGER)
        return recv_tls(c, data, size, ret_n);
    return recv_plain(c, data, size, ret_n);
}

enum io_result conn_send(struct conn *c, const void *data, size_t len, size_t *ret_n)
{
    return c->session != NULL ? send_tls(c, data, len, ret_n) : send_plain(c, data, len, ret_n);
}

void conn_shutdown(struct conn *c)
{
    if (c->session != NULL && c->secured)
        (void)gnutls_bye(c->session, GNUTLS_SHUT_WR);
    (void)shutdown(c->fd, SHUT_WR);
}
