/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define POLL_SLICE_NS (60 * CM_NS_PER_S)

cm_status redis_fail_net(struct cm_err *err, int e, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    errno = e;
    (void)cm_fail_errno(err, "%s", text);
    if (err != NULL)
        err->status = CM_E_NET;
    return CM_E_NET;
}

cm_status redis_poll(int fd, short events, const struct cm_op *op, struct cm_err *err)
{
    struct cm_cancel *cancel = op != NULL ? op->cancel : NULL;
    struct pollfd p[2] = { { .fd = fd, .events = events },
                           { .fd = cm_cancel_fd(cancel), .events = POLLIN } };

    for (;;) {
        /* Before, not after: a peer that sends drop by drop is always ready. */
        cm_status rc = cm_op_check(op, err);
        int64_t left = cm_op_remaining_ns(op, POLL_SLICE_NS);
        int n;

        if (rc != CM_OK)
            return rc;
        n = poll(p, 2, (int)((left + CM_NS_PER_MS - 1) / CM_NS_PER_MS));
        if (n < 0 && errno != EINTR)
            return cm_fail_errno(err, "wait for Redis");
        if (n > 0 && p[0].revents != 0 && p[1].revents == 0)
            return CM_OK;
    }
}

/* A peer that is gone without a word is noticed within 15 seconds or so, whether something is
 * under way to it or not. */
static void set_tcp_options(int fd)
{
    const struct {
        int level, name, value;
    } options[] = {
        { IPPROTO_TCP, TCP_NODELAY, 1 },  { SOL_SOCKET, SO_KEEPALIVE, 1 },
        { IPPROTO_TCP, TCP_KEEPIDLE, 5 }, { IPPROTO_TCP, TCP_KEEPINTVL, 5 },
        { IPPROTO_TCP, TCP_KEEPCNT, 2 },  { IPPROTO_TCP, TCP_USER_TIMEOUT, 15000 },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(options); i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                         (socklen_t)sizeof options[i].value);
}

static cm_status connect_one(const struct sockaddr *sa, socklen_t len, const struct cm_op *op,
                             int *ret_fd, struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t e_len = sizeof(int);
    cm_status rc = CM_OK;
    int e = 0;

    if (fd < 0)
        return redis_fail_net(err, errno, "create a socket");
    if (sa->sa_family != AF_UNIX)
        set_tcp_options(fd);
    if (connect(fd, sa, len) != 0)
        e = errno;
    if (e == EINPROGRESS || e == EINTR) {
        struct pollfd now = { .fd = fd, .events = POLLOUT };

        rc = redis_poll(fd, POLLOUT, op, err);
        /* The time may be over because we were stopped, not because it took long. */
        if (rc == CM_E_TIMEOUT && poll(&now, 1, 0) == 1)
            rc = CM_OK;
        if (rc == CM_OK && getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &e_len) != 0)
            e = errno;
    }
    if (rc != CM_OK)
        return cm_wrap(err, rc, "connect");
    if (e != 0)
        return redis_fail_net(err, e, "connect");
    *ret_fd = fd;
    fd = -1;
    return CM_OK;
}

static cm_status dial_unix(const char *path, const struct cm_op *op, int *ret_fd,
                           struct cm_err *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    size_t len = strlen(path);

    CM_ASSERT(len < sizeof sa.sun_path);
    memcpy(sa.sun_path, path, len + 1);
    return connect_one((const struct sockaddr *)&sa, sizeof sa, op, ret_fd, err);
}

/* Each address gets an even share of the time that is left, the last one all of it. */
static cm_status dial_tcp(const struct redis_address *to, const struct cm_op *op, int *ret_fd,
                          struct cm_err *err)
{
    struct addrinfo *found = NULL;
    unsigned left = 0;
    cm_status rc = redis_resolve(to->host, to->port, op, &found, err);

    if (rc != CM_OK)
        return rc;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next, left--) {
        struct cm_op one = cm_op_within(op, cm_op_remaining_ns(op, 3600 * CM_NS_PER_S) / left);

        rc = connect_one(a->ai_addr, a->ai_addrlen, &one, ret_fd, err);
        if (rc == CM_OK || cm_op_check(op, NULL) != CM_OK)
            break;
    }
    freeaddrinfo(found);
    return rc;
}

cm_status redis_dial(const struct redis_address *to, const struct cm_op *op, int *ret_fd,
                     struct cm_err *err)
{
    return to->host == NULL ? dial_unix(to->path, op, ret_fd, err) : dial_tcp(to, op, ret_fd, err);
}
