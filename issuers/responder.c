/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* A challenge port that is open only while challenges are.
 *
 * Several processes on one host may have challenges at the same time: SO_REUSEPORT lets each of
 * them listen, the kernel picks one per connection, and each can answer for all because the tokens
 * are in storage. A server that holds the port without SO_REUSEPORT (our own `serve`, or any
 * other) keeps it: then that one is expected to answer. */

#define RESPONDER_THREADS 8
#define RESPONDER_QUEUE   64

struct cm_responder {
    const struct cm_issuer_host *host;
    enum cm_responder_kind kind;
    struct cm_cancel *stop; /* ends connections that linger at the end */

    pthread_mutex_t lock;
    unsigned active;  /* challenges that want the port; guarded by lock */
    int listen_fd;    /* -1: closed, or somebody else has the port */
    int wake_fd;      /* eventfd that ends the accept thread */
    pthread_t thread; /* valid while listen_fd >= 0 */
    struct cm_pool *pool;
};

struct connection {
    struct cm_responder *r;
    int fd;
};

static uint16_t port_of(const struct cm_responder *r)
{
    return r->kind == CM_RESPONDER_HTTP ? r->host->http_port : r->host->tls_port;
}

static void serve_task(void *arg)
{
    struct connection *c = arg;
    const struct cm_op base = { c->r->host->env, 0, c->r->stop };
    const struct cm_op op = cm_op_within(&base, 10 * CM_NS_PER_S);

    if (c->r->kind == CM_RESPONDER_HTTP)
        cm_responder_serve_http(c->r->host, &op, c->fd);
    else
        cm_responder_serve_tls(c->r->host, &op, c->fd);
    (void)close(c->fd);
    free(c);
}

static void hand_over(struct cm_responder *r, int fd)
{
    struct connection *c = cm_calloc(1, sizeof *c);
    if (c != NULL) {
        c->r = r;
        c->fd = fd;
        if (cm_pool_submit(r->pool, serve_task, c, NULL) == CM_OK)
            return;
        free(c);
    }
    (void)close(fd);
}

/* Accept until there is nothing left to accept. */
static void drain(struct cm_responder *r, int listen_fd)
{
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            hand_over(r, fd);
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void *accept_thread(void *arg)
{
    struct cm_responder *r = arg;
    struct pollfd p[2] = { { r->listen_fd, POLLIN, 0 }, { r->wake_fd, POLLIN, 0 } };

    for (;;) {
        int n = poll(p, 2, -1);
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0 && p[0].revents != 0)
            drain(r, r->listen_fd);
        if (n > 0 && p[1].revents != 0)
            break;
        /* Out of descriptors: the connection stays queued; do not spin on it. */
        if (n > 0 && (errno == EMFILE || errno == ENFILE))
            (void)poll(&p[1], 1, 50);
        errno = 0;
    }
    /* A connection that is queued here when the socket closes is reset, even though another process
     * listens on the port: no new ones, then answer what is there. */
    (void)listen(r->listen_fd, 0);
    drain(r, r->listen_fd);
    return NULL;
}

/* ------------------------------------------------------------------- opening */

static int try_address(const struct addrinfo *ai)
{
    const int on = 1;
    const int off = 0;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, 128) == 0)
        return fd;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

/* IPv6 with IPv4 mapped in first, when no address is asked for. -1 with errno. */
static int open_port(const char *host, uint16_t port)
{
    char service[8];
    struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                              .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    int fd = -1;

    (void)snprintf(service, sizeof service, "%u", (unsigned)port);
    if (getaddrinfo(host, service, &hints, &list) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    for (int want6 = 1; fd < 0 && want6 >= 0; want6--)
        for (struct addrinfo *a = list; fd < 0 && a != NULL; a = a->ai_next)
            if ((a->ai_family == AF_INET6) == (want6 == 1)) {
                fd = try_address(a);
                /* Taken is an answer, not a reason to take only the other half. */
                if (fd < 0 && errno == EADDRINUSE)
                    goto out;
            }
out:;
    int saved = errno;
    freeaddrinfo(list);
    errno = saved;
    return fd;
}

static cm_status start_locked(struct cm_responder *r, struct cm_err *err)
{
    uint16_t port = port_of(r);
    int fd = open_port(r->host->listen_host, port);
    if (fd < 0 && errno == EADDRINUSE)
        return CM_OK;
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return cm_fail(err, CM_E_PERM,
                       "no right to listen on port %u: run as root, give the program "
                       "CAP_NET_BIND_SERVICE, or use another port that the CA's requests are "
                       "forwarded to",
                       (unsigned)port);
    if (fd < 0)
        return cm_fail_errno(err, "listen on %s port %u",
                             r->host->listen_host == NULL ? "any address" : r->host->listen_host,
                             (unsigned)port);
    r->listen_fd = fd;
    r->wake_fd = eventfd(0, EFD_CLOEXEC);
    int rc = r->wake_fd < 0 ? errno : pthread_create(&r->thread, NULL, accept_thread, r);
    if (rc != 0) {
        if (r->wake_fd >= 0)
            (void)close(r->wake_fd);
        (void)close(fd);
        r->listen_fd = r->wake_fd = -1;
        return cm_fail(err, CM_E_IO, "start the listener for port %u: error %d", (unsigned)port,
                       rc);
    }
    return CM_OK;
}

static void stop_locked(struct cm_responder *r)
{
    const uint64_t one = 1;
    if (r->listen_fd < 0)
        return;
    (void)!write(r->wake_fd, &one, sizeof one);
    (void)pthread_join(r->thread, NULL);
    (void)close(r->listen_fd);
    (void)close(r->wake_fd);
    r->listen_fd = r->wake_fd = -1;
}

cm_status cm_responder_new(const struct cm_issuer_host *host, enum cm_responder_kind kind,
                           struct cm_responder **ret, struct cm_err *err)
{
    struct cm_responder *r = cm_calloc(1, sizeof *r);
    if (r == NULL)
        return cm_fail_nomem(err);
    r->host = host;
    r->kind = kind;
    r->listen_fd = r->wake_fd = -1;
    cm_mutex_init(&r->lock);
    cm_status rc = cm_cancel_new(NULL, &r->stop, err);
    if (rc == CM_OK)
        rc = cm_pool_new(RESPONDER_THREADS, RESPONDER_QUEUE, &r->pool, err);
    if (rc != CM_OK) {
        cm_responder_free(r);
        return rc;
    }
    *ret = r;
    return CM_OK;
}

cm_status cm_responder_acquire(struct cm_responder *r, struct cm_err *err)
{
    cm_status rc = CM_OK;
    cm_mutex_lock(&r->lock);
    if (r->listen_fd < 0)
        rc = start_locked(r, err);
    if (rc == CM_OK)
        r->active++;
    cm_mutex_unlock(&r->lock);
    return rc;
}

void cm_responder_release(struct cm_responder *r)
{
    cm_mutex_lock(&r->lock);
    CM_ASSERT(r->active > 0);
    if (--r->active == 0)
        stop_locked(r);
    cm_mutex_unlock(&r->lock);
}

void cm_responder_free(struct cm_responder *r)
{
    if (r == NULL)
        return;
    stop_locked(r);
    cm_cancel_fire(r->stop);
    cm_pool_stop(r->pool);
    cm_cancel_free(r->stop);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}
