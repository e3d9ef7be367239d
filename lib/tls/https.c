/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* cm_https: everything put together, and the loop. */

#define EVENTS_MAX        256
#define ACCEPTS_PER_ROUND 32 /* newcomers that may make the oldest go before anybody is served */
#define EXHAUSTED_NS      (100 * CM_NS_PER_MS)
#define ROUND_MAX_NS      (60 * CM_NS_PER_S)
#define CONNS_MIN         16u
#define CONNS_MAX         100000u
#define FLOOD             1000u /* connections at once whose memory is worth giving back */
#define DEFAULT_HEADER_MS 10000
#define DEFAULT_IDLE_MS   30000

bool server_is_stopping(struct server *s)
{
    bool r;

    cm_mutex_lock(&s->lock);
    r = s->stopping;
    cm_mutex_unlock(&s->lock);
    return r;
}

void server_hand_back(struct conn *c)
{
    struct server *s = c->server;
    const uint64_t one = 1;

    cm_mutex_lock(&s->lock);
    c->aside = s->done;
    s->done = c;
    cm_mutex_unlock(&s->lock);
    /* Cannot fail but by overflow, and then the loop is awake anyway. */
    (void)!write(s->wake, &one, sizeof one);
}

/* ------------------------------------------------------------------- the loop */

static bool set_listening(struct server *s, bool on)
{
    for (size_t i = 0; i < s->n_listeners; i++) {
        struct epoll_event ev = { .events = on ? EPOLLIN : 0, .data = { .ptr = &s->listener[i] } };

        if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, s->listener[i].fd, &ev) != 0)
            return false;
    }
    return true;
}

static void accept_some(struct server *s, const struct watch *w)
{
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        int fd = cm_tls_sockets_accept(w->fd, true);

        if (fd < 0) {
            if (!cm_tls_accept_is_exhaustion(errno))
                return; /* none left, or one that was reset while it queued */
            if (conn_evict(s))
                continue;
            /* Nothing to give up: leave them in the kernel's queue for a moment. Level-triggered
             * as it is, the listener would keep the loop spinning. */
            (void)set_listening(s, false);
            s->accept_again_ns = s->env->mono_ns(s->env) + EXHAUSTED_NS;
            return;
        }
        if (s->n_conns >= s->max_conns && !conn_evict(s))
            (void)close(fd);
        else
            conn_accept(s, fd, w->tls);
    }
}

static void take_done(struct server *s)
{
    struct conn *c;
    uint64_t n;

    (void)!read(s->wake, &n, sizeof n);
    cm_mutex_lock(&s->lock);
    c = s->done;
    s->done = NULL;
    cm_mutex_unlock(&s->lock);
    while (c != NULL) {
        struct conn *next = c->aside;

        conn_resume(c);
        c = next;
    }
}

static void close_state(struct server *s, enum conn_state state)
{
    while (s->list[state].first != NULL)
        conn_close(s->list[state].first);
}

static void stop_listening(struct server *s)
{
    cm_tls_sockets_close(&s->tls_sockets);
    cm_tls_sockets_close(&s->http_sockets);
    s->n_listeners = 0;
    s->accept_again_ns = 0;
}

/* No new connections, no new requests; replies under way get some time. */
static void begin_stop(struct server *s, struct cm_cancel *stop)
{
    (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, cm_cancel_fd(stop), NULL);
    stop_listening(s);
    cm_mutex_lock(&s->lock);
    s->stopping = true;
    cm_mutex_unlock(&s->lock);
    for (int i = 0; i < CONN_STATES; i++) {
        if (i != CONN_WORK && i != CONN_WRITE)
            close_state(s, (enum conn_state)i);
    }
}

static int to_ms(int64_t ns)
{
    return ns <= 0 ? 0 : (int)((ns + CM_NS_PER_MS - 1) / CM_NS_PER_MS);
}

static int64_t next_wait_ns(struct server *s, int64_t end_ns)
{
    int64_t left = conn_expire(s, ROUND_MAX_NS);
    int64_t now = s->env->mono_ns(s->env);

    if (s->accept_again_ns != 0 && now >= s->accept_again_ns) {
        s->accept_again_ns = 0;
        (void)set_listening(s, true);
    }
    if (s->accept_again_ns != 0 && s->accept_again_ns - now < left)
        left = s->accept_again_ns - now;
    if (end_ns != 0 && end_ns - now < left)
        left = end_ns - now;
    return left;
}

static void handle_event(struct server *s, struct watch *w, bool stopping)
{
    switch (w->kind) {
    case WATCH_CONN:
        conn_run(w->conn);
        return;
    case WATCH_LISTENER:
        if (!stopping)
            accept_some(s, w);
        return;
    case WATCH_WAKE:
        take_done(s);
        return;
    case WATCH_STOP:
    default:
        return;
    }
}

/* What a flood took lies in small pieces between others, and the C library would keep it for ever:
 * ten thousand handshakes under way are 75 MB. */
static void give_back(struct server *s)
{
    if (s->n_conns > s->most_conns)
        s->most_conns = s->n_conns;
    if (s->most_conns < FLOOD || s->n_conns > s->most_conns / 8)
        return;
    s->most_conns = s->n_conns;
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

static cm_status run(struct server *s, struct cm_cancel *stop, struct cm_err *err)
{
    struct epoll_event ev[EVENTS_MAX];
    int64_t end_ns = 0; /* of the grace */

    for (;;) {
        int64_t wait_ns = next_wait_ns(s, end_ns); /* closes what is late */
        int n;

        conn_reap(s);
        give_back(s);
        if (end_ns != 0 && (s->n_conns == 0 || wait_ns <= 0))
            return CM_OK;
        n = epoll_wait(s->epoll, ev, EVENTS_MAX, to_ms(wait_ns));
        if (n < 0 && errno != EINTR)
            return cm_fail_errno(err, "wait for events");
        for (int i = 0; i < n; i++)
            handle_event(s, ev[i].data.ptr, end_ns != 0);
        if (end_ns == 0 && cm_cancel_is_fired(stop)) {
            begin_stop(s, stop);
            end_ns = s->env->mono_ns(s->env) + SERVER_GRACE_NS;
        }
    }
}

/* ------------------------------------------------------------------ start, end */

static cm_status watch_fd(struct server *s, int fd, struct watch *w, struct cm_err *err)
{
    struct epoll_event ev = { .events = EPOLLIN, .data = { .ptr = w } };

    w->fd = fd;
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        return cm_fail_errno(err, "watch a descriptor");
    return CM_OK;
}

static cm_status watch_sockets(struct server *s, const struct cm_tls_sockets *sockets, bool tls,
                               struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < sockets->n && rc == CM_OK; i++) {
        struct watch *w = &s->listener[s->n_listeners++];

        w->kind = WATCH_LISTENER;
        w->tls = tls;
        rc = watch_fd(s, sockets->fd[i], w, err);
    }
    return rc;
}

/* A quarter of the process's descriptors stays for storage, the CA and the program itself. */
static size_t conns_allowed(void)
{
    struct rlimit lim = { 1024, 1024 };
    size_t n;

    (void)getrlimit(RLIMIT_NOFILE, &lim);
    n = lim.rlim_cur > CONNS_MAX * 2 ? CONNS_MAX : (size_t)lim.rlim_cur / 4 * 3;
    return n < CONNS_MIN ? CONNS_MIN : n > CONNS_MAX ? CONNS_MAX : n;
}

static void set_limits(struct server *s, const struct cm_https_options *o)
{
    int64_t head =
        (o->header_timeout_ms > 0 ? o->header_timeout_ms : DEFAULT_HEADER_MS) * CM_NS_PER_MS;
    int64_t idle = (o->idle_timeout_ms > 0 ? o->idle_timeout_ms : DEFAULT_IDLE_MS) * CM_NS_PER_MS;
    int64_t wait = cm_config_handshake_wait_ns(s->cfg);

    s->limit_ns[CONN_HANDSHAKE] = head;
    s->limit_ns[CONN_CHALLENGE] = head < CM_TLS_CHALLENGE_NS ? head : CM_TLS_CHALLENGE_NS;
    s->limit_ns[CONN_PENDING] = (wait > 0 ? wait : 0) + 2 * CM_NS_PER_S;
    s->limit_ns[CONN_HEAD] = head;
    s->limit_ns[CONN_IDLE] = idle;
    s->limit_ns[CONN_WRITE] = SERVER_STALL_NS;
    s->limit_ns[CONN_LINGER] = SERVER_LINGER_NS;
}

static cm_status open_sockets(struct server *s, const struct cm_https_options *o,
                              struct cm_err *err)
{
    const char *host = o->host != NULL ? o->host : cm_config_listen_host(s->cfg);
    uint16_t tls_port = o->tls_port != 0 ? o->tls_port : cm_config_tls_port(s->cfg);
    uint16_t http_port = o->http_port != 0 ? o->http_port : cm_config_http_port(s->cfg);
    cm_status rc = CM_OK;

    if (o->sockets != NULL) {
        if (o->no_http && cm_sockets_count(o->sockets, CM_SOCKET_HTTP) > 0)
            return cm_fail(err, CM_E_INVAL, "cm_https: a socket for HTTP, and no_http");
        cm_tls_sockets_move(o->sockets, CM_SOCKET_TLS, &s->tls_sockets);
        cm_tls_sockets_move(o->sockets, CM_SOCKET_HTTP, &s->http_sockets);
    }
    if (s->tls_sockets.n == 0)
        rc = cm_tls_sockets_open(host, tls_port, &s->tls_sockets, err);
    if (rc == CM_OK && !o->no_http && s->http_sockets.n == 0)
        rc = cm_tls_sockets_open(host, http_port, &s->http_sockets, err);
    s->redirect_port = o->redirect_port != 0 ? o->redirect_port : s->tls_sockets.port;
    return rc;
}

static cm_status start(struct server *s, const struct cm_https_options *o, struct cm_err *err)
{
    unsigned threads = o->threads != 0 ? o->threads : SERVER_THREADS;
    cm_status rc;

    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll < 0 || s->wake < 0)
        return cm_fail_errno(err, "start the server");
    rc = open_sockets(s, o, err);
    if (rc == CM_OK)
        rc = watch_sockets(s, &s->tls_sockets, true, err);
    if (rc == CM_OK)
        rc = watch_sockets(s, &s->http_sockets, false, err);
    if (rc == CM_OK)
        rc = watch_fd(s, s->wake, &s->wake_watch, err);
    if (rc == CM_OK && o->stop != NULL)
        rc = watch_fd(s, cm_cancel_fd(o->stop), &s->stop_watch, err);
    if (rc == CM_OK)
        rc = cm_pool_new(threads, (size_t)threads * 16, &s->pool, err);
    return rc;
}

static void finish(struct server *s)
{
    cm_mutex_lock(&s->lock);
    s->stopping = true; /* requests still queued are not begun */
    cm_mutex_unlock(&s->lock);
    cm_pool_stop(s->pool);
    for (int i = 0; i < CONN_STATES; i++)
        close_state(s, (enum conn_state)i);
    conn_reap(s);
    stop_listening(s);
    if (s->wake >= 0)
        (void)close(s->wake);
    if (s->epoll >= 0)
        (void)close(s->epoll);
    pthread_mutex_destroy(&s->lock);
}

static cm_status serve(struct server *s, const char *const *names, size_t n,
                       const struct cm_https_options *o, struct cm_err *err)
{
    cm_status rc = start(s, o, err);

    if (rc == CM_OK)
        cm_config_tickets_begin(s->cfg);
    /* The ports are ours before anything is ordered: a solver that finds them taken leaves the
     * answering to us, which is what we are here for. */
    if (rc == CM_OK && n > 0)
        rc = s->together ? cm_manage_together_async(s->cfg, names, n, NULL, err)
                         : cm_manage_async(s->cfg, names, n, err);
    if (rc != CM_OK)
        return rc;
    cm_logf(s->log, CM_LOG_INFO, "listening", NULL, 0, "serving HTTPS on port %u",
            s->tls_sockets.port);
    if (o->ready != NULL)
        o->ready(s->user, s->http_sockets.port, s->tls_sockets.port);
    return run(s, o->stop, err);
}

static cm_status default_config(const struct cm_https_options *o, struct cm_config **ret,
                                struct cm_err *err)
{
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;

    c.acme.agreed = true;
    c.listen_host = o->host;
    c.http_port = o->http_port;
    c.tls_port = o->tls_port;
    return cm_config_new(&c, ret, err);
}

cm_status cm_https(const char *const *names, size_t n, cm_http_handler handler, void *user,
                   const struct cm_https_options *opts, struct cm_err *err)
{
    struct cm_https_options o = CM_HTTPS_OPTIONS_INIT;
    struct server s = { .handler = handler, .user = user, .epoll = -1, .wake = -1 };
    struct cm_config *own = NULL;
    cm_status rc = CM_OK;

    if (handler == NULL || (names == NULL && n > 0))
        return cm_fail(err, CM_E_INVAL, "cm_https: no handler or no names");
    if (opts != NULL) {
        if (opts->size < sizeof opts->size)
            return cm_fail(err, CM_E_INVAL, "cm_https: options without their size");
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    }
    if (o.cfg == NULL)
        rc = default_config(&o, &own, err);
    if (rc != CM_OK)
        return rc;
    s.cfg = own != NULL ? own : o.cfg;
    s.env = cm_config_env(s.cfg);
    s.log = cm_config_log(s.cfg);
    s.max_conns = conns_allowed();
    s.together = o.together;
    s.max_per_address = o.max_per_address != 0 ? o.max_per_address : s.max_conns / 4 * 3;
    (void)!cm_env_random(s.env, &s.crowd_seed, sizeof s.crowd_seed, NULL);
    s.wake_watch.kind = WATCH_WAKE;
    s.stop_watch.kind = WATCH_STOP;
    cm_mutex_init(&s.lock);
    set_limits(&s, &o);
    rc = serve(&s, names, n, &o, err);
    finish(&s);
    cm_config_free(own);
    return rc;
}
