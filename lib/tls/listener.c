/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* cm_listen and cm_accept: for programs with a thread per connection. */

#define EXHAUSTED_WAIT_NS (100 * CM_NS_PER_MS) /* out of descriptors: let somebody close one */
#define POLL_SLICE_NS     (60 * CM_NS_PER_S)

struct cm_listener {
    struct cm_config *cfg;
    struct cm_config *own; /* NULL: somebody else's */
    struct cm_tls_sockets sockets;
    size_t turn; /* which socket goes first, so that none starves the others */
};

cm_status cm_listen(struct cm_config *cfg, const char *host, uint16_t port,
                    struct cm_listener **ret, struct cm_err *err)
{
    struct cm_listener *l;
    cm_status rc;

    if (cfg == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_listen: no config or nowhere to put the listener");
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return cm_fail_nomem(err);
    l->cfg = cfg;
    rc = cm_tls_sockets_open(host != NULL ? host : cm_config_listen_host(cfg),
                             port != 0 ? port : cm_config_tls_port(cfg), &l->sockets, err);
    if (rc != CM_OK) {
        free(l);
        return rc;
    }
    cm_config_tickets_begin(cfg);
    *ret = l;
    return CM_OK;
}

cm_status cm_listen_on(struct cm_config *cfg, struct cm_sockets *s, struct cm_listener **ret,
                       struct cm_err *err)
{
    struct cm_listener *l;

    if (cfg == NULL || s == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "cm_listen_on: no config, no sockets, or nowhere to put "
                       "the listener");
    if (cm_sockets_count(s, CM_SOCKET_TLS) == 0)
        return cm_fail(err, CM_E_INVAL, "cm_listen_on: none of the sockets is for TLS");
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return cm_fail_nomem(err);
    l->cfg = cfg;
    cm_tls_sockets_move(s, CM_SOCKET_TLS, &l->sockets);
    cm_config_tickets_begin(cfg);
    *ret = l;
    return CM_OK;
}

uint16_t cm_listener_port(const struct cm_listener *l)
{
    return l->sockets.port;
}

void cm_listener_free(struct cm_listener *l)
{
    if (l == NULL)
        return;
    cm_tls_sockets_close(&l->sockets);
    cm_config_free(l->own);
    free(l);
}

struct cm_config *cm_listener_config(struct cm_listener *l)
{
    return l->cfg;
}

void cm_listener_own(struct cm_listener *l, struct cm_config *cfg)
{
    l->own = cfg;
}

/* Wait for a connection or the end of @op; the errors of poll() but EINTR. */
static cm_status wait_any(struct cm_listener *l, const struct cm_op *op, struct cm_err *err)
{
    struct pollfd p[CM_TLS_SOCKETS_MAX + 1];
    struct cm_cancel *cancel = op != NULL ? op->cancel : NULL;
    int64_t left = cm_op_remaining_ns(op, POLL_SLICE_NS);
    nfds_t n = 0;

    for (; n < l->sockets.n; n++)
        p[n] = (struct pollfd){ .fd = l->sockets.fd[n], .events = POLLIN };
    if (cancel != NULL)
        p[n++] = (struct pollfd){ .fd = cm_cancel_fd(cancel), .events = POLLIN };
    if (poll(p, n, (int)((left + CM_NS_PER_MS - 1) / CM_NS_PER_MS)) < 0 && errno != EINTR)
        return cm_fail_errno(err, "wait for connections");
    return cm_op_check(op, err);
}

static int accept_any(struct cm_listener *l)
{
    int fd = -1;

    errno = EAGAIN;
    for (size_t i = 0; i < l->sockets.n && fd < 0; i++) {
        size_t at = l->turn++ % l->sockets.n;

        fd = cm_tls_sockets_accept(l->sockets.fd[at], false);
        if (fd < 0 && cm_tls_accept_is_exhaustion(errno))
            break;
    }
    return fd;
}

static cm_status start_session(struct cm_listener *l, int fd, struct cm_conn *ret,
                               struct cm_err *err)
{
    gnutls_session_t session = NULL;
    cm_status rc;
    int grc = gnutls_init(&session, GNUTLS_SERVER);

    if (grc < 0)
        return cm_fail(err, CM_E_TLS, "start a TLS session: %s", gnutls_strerror(grc));
    rc = cm_config_tls_setup(l->cfg, session, fd, err);
    if (rc != CM_OK) {
        gnutls_deinit(session);
        return rc;
    }
    ret->session = session;
    ret->fd = fd;
    return CM_OK;
}

/* A connection that was reset before we took it, or errors of the network under it: accept(2)
 * says to treat them like EAGAIN. What remains is broken for good. */
static bool is_final(int sys_errno)
{
    return sys_errno == EBADF || sys_errno == EINVAL || sys_errno == ENOTSOCK ||
           sys_errno == EOPNOTSUPP || sys_errno == EFAULT;
}

cm_status cm_listener_accept_fd(struct cm_listener *l, const struct cm_op *op, int *ret_fd,
                                struct cm_err *err)
{
    cm_status rc;

    for (;;) {
        int fd;

        rc = cm_op_check(op, err);
        if (rc != CM_OK)
            return rc;
        fd = accept_any(l);
        if (fd >= 0) {
            *ret_fd = fd;
            return CM_OK;
        }
        if (is_final(errno))
            return cm_fail_errno(err, "accept on port %u", l->sockets.port);
        if (cm_tls_accept_is_exhaustion(errno))
            rc = cm_op_wait(op, EXHAUSTED_WAIT_NS, err);
        else
            rc = wait_any(l, op, err);
        if (rc != CM_OK)
            return rc;
    }
}

cm_status cm_accept(struct cm_listener *l, const struct cm_op *op, struct cm_conn *ret,
                    struct cm_err *err)
{
    int fd = -1;

    if (l == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_accept: no listener or nowhere to put the connection");
    cm_status rc = cm_listener_accept_fd(l, op, &fd, err);
    if (rc != CM_OK)
        return rc;
    rc = start_session(l, fd, ret, err);
    if (rc != CM_OK)
        (void)close(fd);
    return rc;
}
