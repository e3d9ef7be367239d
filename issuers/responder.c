/* SPDX-License-Identifier: Apache-2.0 */
#include "responder.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* A challenge port that is open only while challenges are.
 *
 * Several processes on one host may have challenges at the same time: SO_REUSEPORT lets each of
 * them listen, the kernel picks one per connection, and each can answer for all because the tokens
 * are in storage. A server that holds the port without SO_REUSEPORT (our own `serve`, or any
 * other) keeps it: then that one is expected to answer.
 *
 * When one of several closes, the kernel resets what is on its way to it, and the CA would take
 * that for a failed validation. So a port lingers while storage shows tokens of others (for a
 * bounded time), and closes when nobody can be asking. */

#define RESPONDER_THREADS 8
#define RESPONDER_QUEUE   64
#define BACKLOG           4096 /* a flood must not fill the queue that the CA stands in */
#define LINGER_NS         (2 * CM_NS_PER_S)
#define TOKEN_FRESH_NS    (600 * CM_NS_PER_S) /* an older one was left behind by a crash */

static uint16_t port_of(const struct cm_responder *r)
{
    return r->kind == CM_RESPONDER_HTTP ? r->host->http_port : r->host->tls_port;
}

const struct cm_env *cm_responder_env(const struct cm_responder *r)
{
    return r->host->env == NULL ? cm_env_system() : r->host->env;
}

static cm_status see_token(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    const int64_t *now_ns = user;
    if (!info->terminal || *now_ns - info->modified_ns > TOKEN_FRESH_NS)
        return CM_OK;
    return cm_fail(err, CM_E_BUSY, "'%s' is open", info->key);
}

/* Is there a challenge open on this storage? Ours are gone when this is asked. */
static bool others_open(const struct cm_responder *r)
{
    const struct cm_env *env = cm_responder_env(r);
    const struct cm_op base = { env, 0, NULL };
    const struct cm_op op = cm_op_within(&base, CM_NS_PER_S);
    char dir[CM_STORAGE_KEY_MAX + 1];
    int64_t now_ns = env->wall_ns(env);

    int n = snprintf(dir, sizeof dir, "%s/challenge_tokens", r->prefix);
    return n > 0 && (size_t)n < sizeof dir &&
           cm_storage_list(r->host->storage, &op, dir, false, see_token, &now_ns, NULL) ==
               CM_E_BUSY;
}

bool cm_responder_is_over(struct cm_responder *r)
{
    const struct cm_env *env = cm_responder_env(r);

    cm_mutex_lock(&r->lock);
    bool stopping = r->stopping;
    bool lingering = r->lingering;
    bool patience = env->mono_ns(env) < r->linger_until_ns;
    cm_mutex_unlock(&r->lock);
    if (stopping || !lingering || (patience && others_open(r)))
        return stopping;

    /* A challenge may have come meanwhile, and wants the port to stay. */
    cm_mutex_lock(&r->lock);
    r->stopping = r->stopping || r->lingering;
    stopping = r->stopping;
    cm_mutex_unlock(&r->lock);
    return stopping;
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
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
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

static void wake(struct cm_responder *r)
{
    const uint64_t one = 1;
    (void)!write(r->wake_fd, &one, sizeof one);
}

/* A thread that does not run any more has seen so under the lock, and ends without it. */
static cm_status run_locked(struct cm_responder *r, struct cm_err *err)
{
    if (r->joinable)
        (void)pthread_join(r->thread, NULL);
    r->joinable = false;
    cm_status rc = cm_thread_start(&r->thread, "cm-challenge", cm_responder_run, r, err);
    r->joinable = r->running = rc == CM_OK;
    return rc;
}

static cm_status start_locked(struct cm_responder *r, struct cm_err *err)
{
    uint16_t port = port_of(r);
    int fd = open_port(r->host->listen_host, port);
    bool refused = fd < 0 && (errno == EACCES || errno == EPERM);
    if ((fd < 0 && errno == EADDRINUSE) || (refused && issuer_port_is_held(port)))
        return CM_OK; /* by somebody who is expected to answer */
    if (refused)
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
    r->stopping = r->lingering = false;
    cm_status rc = r->running ? CM_OK : run_locked(r, err);
    if (rc == CM_OK) {
        wake(r);
    } else {
        (void)close(fd);
        r->listen_fd = -1;
    }
    return rc;
}

cm_status cm_responder_new(const struct cm_issuer_host *host, enum cm_responder_kind kind,
                           struct cm_responder **ret, struct cm_err *err)
{
    struct cm_responder *r = cm_calloc(1, sizeof *r);
    if (r == NULL)
        return cm_fail_nomem(err);
    r->host = host;
    r->kind = kind;
    r->listen_fd = -1;
    struct epoll_event wakes = { .events = EPOLLIN, .data = { .ptr = r } };
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cm_mutex_init(&r->lock);
    cm_cond_init(&r->closed);
    cm_status rc = CM_OK;
    if (r->epoll < 0 || r->wake_fd < 0 ||
        epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake_fd, &wakes) != 0)
        rc = cm_fail_errno(err, "make an event descriptor");
    if (rc == CM_OK)
        rc = cm_cancel_new(NULL, &r->stop, err);
    if (rc == CM_OK)
        rc = cm_pool_new(RESPONDER_THREADS, RESPONDER_QUEUE, &r->pool, err);
    if (rc != CM_OK) {
        cm_responder_free(r);
        return rc;
    }
    *ret = r;
    return CM_OK;
}

cm_status cm_responder_acquire(struct cm_responder *r, const char *prefix, struct cm_err *err)
{
    cm_status rc = CM_OK;
    cm_mutex_lock(&r->lock);
    if (r->prefix == NULL && (r->prefix = cm_strdup(prefix)) == NULL)
        rc = cm_fail_nomem(err);
    /* A port that is being closed is not used again: its closer waits for that. */
    while (r->stopping)
        (void)cm_cond_wait_ns(&r->closed, &r->lock, 50 * CM_NS_PER_MS);
    if (rc == CM_OK && r->listen_fd < 0)
        rc = start_locked(r, err);
    if (rc == CM_OK) {
        r->active++;
        r->lingering = false;
    }
    cm_mutex_unlock(&r->lock);
    return rc;
}

void cm_responder_release(struct cm_responder *r)
{
    const struct cm_env *env = cm_responder_env(r);

    cm_mutex_lock(&r->lock);
    CM_ASSERT(r->active > 0);
    bool last = --r->active == 0 && r->listen_fd >= 0;
    cm_mutex_unlock(&r->lock);
    if (!last)
        return;

    bool linger = others_open(r);
    cm_mutex_lock(&r->lock);
    if (r->active == 0 && r->listen_fd >= 0) {
        r->lingering = linger;
        r->stopping = !linger;
        r->linger_until_ns = env->mono_ns(env) + LINGER_NS;
        wake(r);
    }
    /* The port is free again when this returns, unless it lingers for others. */
    while (r->stopping)
        (void)cm_cond_wait_ns(&r->closed, &r->lock, 50 * CM_NS_PER_MS);
    cm_mutex_unlock(&r->lock);
}

void cm_responder_stop(struct cm_responder *r)
{
    if (r == NULL || r->pool == NULL)
        return;
    /* One that lingers ends by itself, in bounded time. */
    cm_mutex_lock(&r->lock);
    while (r->listen_fd >= 0)
        (void)cm_cond_wait_ns(&r->closed, &r->lock, 50 * CM_NS_PER_MS);
    cm_mutex_unlock(&r->lock);
    /* Who is being answered now may be asking for another process: let it have its answer. */
    const struct cm_op grace = { r->host->env, 0, NULL };
    for (int i = 0; i < 100 && atomic_load(&r->serving) > 0; i++)
        if (cm_op_wait(&grace, 10 * CM_NS_PER_MS, NULL) != CM_OK)
            break;
    cm_mutex_lock(&r->lock);
    r->quit = true;
    wake(r);
    cm_mutex_unlock(&r->lock);
    if (r->joinable)
        (void)pthread_join(r->thread, NULL);
    r->joinable = false;
    cm_cancel_fire(r->stop);
    cm_pool_stop(r->pool);
    r->pool = NULL;
}

void cm_responder_free(struct cm_responder *r)
{
    if (r == NULL)
        return;
    cm_responder_stop(r);
    cm_cancel_free(r->stop);
    if (r->epoll >= 0)
        (void)close(r->epoll);
    if (r->wake_fd >= 0)
        (void)close(r->wake_fd);
    free(r->prefix);
    (void)pthread_cond_destroy(&r->closed);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}
