/* SPDX-License-Identifier: Apache-2.0 */
#include "responder.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX     64
#define ACCEPTS_MAX    32
#define EXPIRE_MAX     32 /* of those that came together: others are served in between */
#define LINGER_STEP_NS (20 * CM_NS_PER_MS)
#define EXHAUSTED_NS   (50 * CM_NS_PER_MS)
#define ROUND_MAX_NS   (60 * CM_NS_PER_S)
#define CONNS_MIN      16u

struct loop {
    struct cm_responder *r;
    const struct cm_env *env;
    int epoll;               /* the responder's */
    int listen_fd;           /* -1: no port at present */
    bool deaf;               /* out of descriptors: not listening until accept_again_ns */
    int64_t accept_again_ns; /* of deaf */
    int64_t expire_ns;       /* no connection is late before */
    int64_t look_ns;         /* storage is not looked at before, however busy the port */
    size_t n, max;
    struct cm_rconn *first, *last;
};

/* A task of the pool. */
struct answer {
    struct cm_responder *r;
    struct cm_rconn *c;
};

/* A quarter of the process's descriptors: there may be two ports, and a program beside them. */
static size_t conns_allowed(void)
{
    struct rlimit lim = { 1024, 1024 };
    size_t n;

    (void)getrlimit(RLIMIT_NOFILE, &lim);
    n = lim.rlim_cur > RESPONDER_CONNS_MAX * 4 ? RESPONDER_CONNS_MAX : (size_t)lim.rlim_cur / 4;
    return n < CONNS_MIN ? CONNS_MIN : n;
}

/* ---------------------------------------------------------------- connections */

static void unlink_conn(struct loop *l, struct cm_rconn *c)
{
    *(c->prev != NULL ? &c->prev->next : &l->first) = c->next;
    *(c->next != NULL ? &c->next->prev : &l->last) = c->prev;
    c->prev = c->next = NULL;
    l->n--;
}

static void drop(struct loop *l, struct cm_rconn *c)
{
    unlink_conn(l, c);
    cm_rconn_free(c);
    (void)atomic_fetch_sub(&l->r->serving, 1);
}

static void answer_task(void *arg)
{
    struct answer *a = arg;
    struct cm_responder *r = a->r;
    const struct cm_op base = { r->host->env, 0, r->stop };
    const struct cm_op op = cm_op_within(&base, RESPONDER_PEER_NS);

    cm_rconn_answer(r->host, &op, a->c);
    cm_rconn_free(a->c);
    free(a);
    (void)atomic_fetch_sub(&r->serving, 1);
}

static void hand_over(struct loop *l, struct cm_rconn *c)
{
    struct answer *a = cm_calloc(1, sizeof *a);

    if (a == NULL) {
        drop(l, c);
        return;
    }
    *a = (struct answer){ l->r, c };
    (void)epoll_ctl(l->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    unlink_conn(l, c);
    if (cm_pool_submit(l->r->pool, answer_task, a, NULL) == CM_OK)
        return;
    free(a);
    cm_rconn_free(c);
    (void)atomic_fetch_sub(&l->r->serving, 1);
}

/* Wait for one event on what the connection waits for; a descriptor of core's answer is closed,
 * and gone from epoll, with the answer. */
static bool watch(struct loop *l, struct cm_rconn *c, uint32_t events)
{
    struct epoll_event ev = { .events = events | EPOLLONESHOT, .data = { .ptr = c } };

    return epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->wait_fd, &ev) == 0 ||
           (errno == ENOENT && epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->wait_fd, &ev) == 0);
}

static void go_on(struct loop *l, struct cm_rconn *c)
{
    bool keep = false;

    switch (cm_rconn_step(l->r, c)) {
    case CM_RCONN_READ:
        keep = watch(l, c, EPOLLIN);
        break;
    case CM_RCONN_WRITE:
        keep = watch(l, c, EPOLLOUT);
        break;
    case CM_RCONN_ANSWER:
        hand_over(l, c);
        return;
    case CM_RCONN_CLOSE:
    default:
        break;
    }
    if (!keep)
        drop(l, c);
    else if (c->deadline_ns < l->expire_ns)
        l->expire_ns = c->deadline_ns;
}

static void begin(struct loop *l, int fd)
{
    struct cm_rconn *c = cm_calloc(1, sizeof *c);
    const int on = 1;

    if (c == NULL) {
        (void)close(fd);
        return;
    }
    /* Answers go out in pieces, and none is to wait for the CA's delayed acknowledgement. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = c->wait_fd = fd;
    c->deadline_ns = l->env->mono_ns(l->env) + RESPONDER_PEER_NS;
    c->prev = l->last;
    *(l->last != NULL ? &l->last->next : &l->first) = c;
    l->last = c;
    l->n++;
    (void)atomic_fetch_add(&l->r->serving, 1);
    if (!watch(l, c, EPOLLIN))
        drop(l, c);
    else if (c->deadline_ns < l->expire_ns)
        l->expire_ns = c->deadline_ns;
}

static void expire(struct loop *l)
{
    int64_t now = l->env->mono_ns(l->env);
    unsigned dropped = 0;

    if (now < l->expire_ns)
        return;
    l->expire_ns = INT64_MAX;
    for (struct cm_rconn *c = l->first, *next; c != NULL; c = next) {
        next = c->next;
        if (c->deadline_ns <= now && dropped < EXPIRE_MAX) {
            drop(l, c);
            dropped++;
        } else if (c->deadline_ns < l->expire_ns) {
            l->expire_ns = c->deadline_ns;
        }
    }
}

/* ------------------------------------------------------------------- the port */

static void listen_to(struct loop *l, bool on)
{
    struct epoll_event ev = { .events = on ? EPOLLIN : 0, .data = { .ptr = l } };

    l->deaf = !on;
    if (l->listen_fd >= 0)
        (void)epoll_ctl(l->epoll, EPOLL_CTL_MOD, l->listen_fd, &ev);
}

/* No event is under way for any connection: the oldest may go. It has stalled longest; a
 * validation is over in milliseconds. */
static bool evict(struct loop *l)
{
    if (l->first == NULL)
        return false;
    drop(l, l->first);
    return true;
}

static void accept_some(struct loop *l, unsigned max)
{
    for (unsigned i = 0; i < max; i++) {
        int fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            if (l->n >= l->max)
                (void)evict(l);
            begin(l, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (evict(l))
                continue;
            /* What is queued stays queued; do not spin on it. */
            listen_to(l, false);
            l->accept_again_ns = l->env->mono_ns(l->env) + EXHAUSTED_NS;
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

static void set_closed_locked(struct cm_responder *r)
{
    r->listen_fd = -1;
    r->stopping = r->lingering = false;
    (void)pthread_cond_broadcast(&r->closed);
}

/* A port that was opened meanwhile. False: there is nothing left to do. */
static bool take_port(struct loop *l)
{
    struct cm_responder *r = l->r;
    struct epoll_event ev = { .events = EPOLLIN, .data = { .ptr = l } };
    bool stay;

    cm_mutex_lock(&r->lock);
    if (l->listen_fd < 0 && r->listen_fd >= 0) {
        l->deaf = false;
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, r->listen_fd, &ev) == 0) {
            l->listen_fd = r->listen_fd;
        } else {
            /* A port that cannot be watched must not look open to the CA. */
            (void)close(r->listen_fd);
            set_closed_locked(r);
        }
    }
    stay = l->listen_fd >= 0 || (l->n > 0 && !r->quit);
    r->running = stay;
    cm_mutex_unlock(&r->lock);
    return stay;
}

/* Whoever is in the kernel's queue is still answered. */
static void close_port(struct loop *l)
{
    struct cm_responder *r = l->r;

    (void)listen(l->listen_fd, 0);
    accept_some(l, RESPONDER_CONNS_MAX);
    (void)close(l->listen_fd);
    l->listen_fd = -1;
    cm_mutex_lock(&r->lock);
    set_closed_locked(r);
    cm_mutex_unlock(&r->lock);
}

static bool is_lingering(struct cm_responder *r)
{
    cm_mutex_lock(&r->lock);
    bool yes = r->lingering;
    cm_mutex_unlock(&r->lock);
    return yes;
}

static bool is_over(struct loop *l)
{
    int64_t now = l->env->mono_ns(l->env);

    if (l->listen_fd < 0 || now < l->look_ns)
        return false;
    if (cm_responder_is_over(l->r))
        return true;
    if (is_lingering(l->r))
        l->look_ns = now + LINGER_STEP_NS;
    return false;
}

static int wait_ms(struct loop *l)
{
    int64_t now = l->env->mono_ns(l->env);
    int64_t left = ROUND_MAX_NS;

    if (l->deaf && now >= l->accept_again_ns)
        listen_to(l, true);
    if (l->expire_ns != INT64_MAX && l->expire_ns - now < left)
        left = l->expire_ns - now;
    if (l->deaf && l->accept_again_ns - now < left)
        left = l->accept_again_ns - now;
    if (l->listen_fd >= 0 && is_lingering(l->r) && LINGER_STEP_NS < left)
        left = LINGER_STEP_NS;
    return left <= 0 ? 0 : (int)((left + CM_NS_PER_MS - 1) / CM_NS_PER_MS);
}

static void round_of_events(struct loop *l)
{
    struct epoll_event ev[EVENTS_MAX];
    bool callers = false;
    int n = epoll_wait(l->epoll, ev, EVENTS_MAX, wait_ms(l));

    for (int i = 0; i < n; i++) {
        if (ev[i].data.ptr == l) {
            callers = true;
        } else if (ev[i].data.ptr == l->r) {
            uint64_t seen;

            (void)!read(l->r->wake_fd, &seen, sizeof seen);
        } else {
            go_on(l, ev[i].data.ptr);
        }
    }
    /* Last: it may give up connections, and their events lie before. */
    if (callers && l->listen_fd >= 0)
        accept_some(l, ACCEPTS_MAX);
}

void *cm_responder_run(void *arg)
{
    struct cm_responder *r = arg;
    struct loop l = { .r = r,
                      .env = cm_responder_env(r),
                      .epoll = r->epoll,
                      .listen_fd = -1,
                      .expire_ns = INT64_MAX,
                      .max = conns_allowed() };

    while (take_port(&l)) {
        round_of_events(&l);
        expire(&l);
        if (is_over(&l))
            close_port(&l);
    }
    while (evict(&l))
        continue;
    return NULL;
}
