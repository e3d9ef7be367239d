/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* A hello that waits for its answer. Its descriptor is a timer: it fires when the waiting is over,
 * and is made to fire at once when the answer comes; so an event loop needs nothing else to keep
 * its promise of a bounded wait.
 *
 * The hub's lock guards all that changes in a pending and every list of them. A pending lives
 * until both its owner and the list (or the thread that is answering it) have let go. */

struct cm_hub {
    pthread_mutex_t lock;
    size_t refs; /* the config and every pending */
    size_t total;
    bool closed;
};

struct cm_pending {
    struct cm_hub *hub;
    struct cm_config *cfg; /* not to be used once the hub is closed */
    const struct cm_env *env;
    int fd;
    int64_t deadline_ns;
    /* guarded by the hub */
    unsigned refs;
    struct cm_waiters *in; /* the list it stands in */
    struct cm_pending *prev;
    struct cm_pending *next;
    bool sleeping; /* comes back by itself */
    int64_t wake_ns;
    bool done;
    cm_status rc;
    struct cm_err err;
    struct cm_cert *cert;
    /* fixed */
    char name[CM_NAME_BUF];
    struct cm_hello hello;
};

cm_status cm_hub_new(struct cm_hub **ret, struct cm_err *err)
{
    struct cm_hub *h = cm_calloc(1, sizeof *h);

    if (h == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&h->lock);
    h->refs = 1;
    *ret = h;
    return CM_OK;
}

/* Opens the lock. */
static void hub_unref_unlock(struct cm_hub *h)
{
    bool last = --h->refs == 0;

    cm_mutex_unlock(&h->lock);
    if (last) {
        (void)pthread_mutex_destroy(&h->lock);
        free(h);
    }
}

void cm_hub_close(struct cm_hub *h)
{
    if (h == NULL)
        return;
    cm_mutex_lock(&h->lock);
    h->closed = true;
    hub_unref_unlock(h);
}

/* Fires after @ns; 0 or less: at once. */
static void set_timer(const struct cm_pending *p, int64_t ns)
{
    struct itimerspec when = { { 0, 0 }, { 0, 0 } };

    if (ns < 1)
        ns = 1;
    when.it_value.tv_sec = (time_t)(ns / CM_NS_PER_S);
    when.it_value.tv_nsec = (long)(ns % CM_NS_PER_S);
    CM_ASSERT(timerfd_settime(p->fd, 0, &when, NULL) == 0);
}

/* To have a timer fire at once costs an interrupt of its own, some 20 us on virtual machines; that
 * would be felt by thousands of waiters. So they fire together, a moment later. */
#define TOGETHER_NS (2 * CM_NS_PER_MS)

static void fire_together(const struct cm_pending *p, int64_t *io_at_ns)
{
    struct itimerspec when = { { 0, 0 }, { 0, 0 } };
    const struct cm_env *real = cm_env_system();
    int64_t now = real->mono_ns(real);

    if (now > *io_at_ns - TOGETHER_NS / 8)
        *io_at_ns = now + TOGETHER_NS;
    when.it_value.tv_sec = (time_t)(*io_at_ns / CM_NS_PER_S);
    when.it_value.tv_nsec = (long)(*io_at_ns % CM_NS_PER_S);
    CM_ASSERT(timerfd_settime(p->fd, TFD_TIMER_ABSTIME, &when, NULL) == 0);
}

static bool timer_fired(const struct cm_pending *p)
{
    uint64_t count;
    ssize_t n = read(p->fd, &count, sizeof count);

    return n == (ssize_t)sizeof count;
}

cm_status cm_pending_new(struct cm_config *cfg, const struct cm_hello *hello, const char *name,
                         int64_t wait_ns, struct cm_pending **ret, struct cm_err *err)
{
    struct cm_hub *h = cfg->hub;
    bool room;

    struct cm_pending *p = cm_calloc(1, sizeof *p);
    if (p == NULL)
        return cm_fail_nomem(err);
    p->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (p->fd < 0) {
        free(p);
        return cm_fail_errno(err, "create the descriptor of a waiting handshake");
    }
    p->hub = h;
    p->cfg = cfg;
    p->env = cfg->env;
    p->refs = 1;
    p->deadline_ns = cfg->env->mono_ns(cfg->env) + wait_ns;
    p->hello = *hello;
    (void)cm_escape(name, strlen(name), p->name, sizeof p->name);
    set_timer(p, wait_ns);
    cm_mutex_lock(&h->lock);
    room = h->total < CM_WAITERS_TOTAL;
    if (room) {
        h->total++;
        h->refs++;
    }
    cm_mutex_unlock(&h->lock);
    if (!room) {
        (void)close(p->fd);
        free(p);
        return cm_fail(err, CM_E_LIMIT, "%u handshakes are waiting for certificates already",
                       CM_WAITERS_TOTAL);
    }
    *ret = p;
    return CM_OK;
}

cm_status cm_pending_join(struct cm_pending *p, struct cm_waiters *w, struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&p->hub->lock);
    if (w->n >= CM_WAITERS_PER_NAME) {
        rc = cm_fail(err, CM_E_LIMIT, "%zu handshakes are waiting for '%s' already", w->n, p->name);
    } else {
        p->refs++;
        p->in = w;
        p->prev = NULL;
        p->next = w->first;
        if (w->first != NULL)
            w->first->prev = p;
        w->first = p;
        w->n++;
    }
    cm_mutex_unlock(&p->hub->lock);
    return rc;
}

void cm_pending_sleep(struct cm_pending *p, int64_t ns)
{
    cm_mutex_lock(&p->hub->lock);
    p->sleeping = true;
    p->wake_ns = p->env->mono_ns(p->env) + ns;
    if (p->wake_ns < p->deadline_ns)
        set_timer(p, ns);
    cm_mutex_unlock(&p->hub->lock);
}

/* Opens the lock. */
static void unref_unlock(struct cm_pending *p)
{
    struct cm_hub *h = p->hub;

    if (--p->refs > 0) {
        cm_mutex_unlock(&h->lock);
        return;
    }
    h->total--;
    hub_unref_unlock(h);
    cm_cert_unref(p->cert);
    (void)close(p->fd);
    free(p);
}

/* Out of its list, which gives up its reference. True if it was in one. */
static bool leave_locked(struct cm_pending *p)
{
    if (p->in == NULL)
        return false;
    if (p->prev != NULL)
        p->prev->next = p->next;
    else
        p->in->first = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    p->in->n--;
    p->in = NULL;
    p->prev = p->next = NULL;
    CM_ASSERT(--p->refs > 0);
    return true;
}

void cm_waiters_move(struct cm_hub *h, struct cm_waiters *from, struct cm_waiters *to)
{
    cm_mutex_lock(&h->lock);
    while (from->first != NULL) {
        struct cm_pending *p = from->first;

        from->first = p->next;
        from->n--;
        p->in = to;
        p->prev = NULL;
        p->next = to->first;
        if (to->first != NULL)
            to->first->prev = p;
        to->first = p;
        to->n++;
    }
    cm_mutex_unlock(&h->lock);
}

bool cm_waiters_any(struct cm_hub *h, const struct cm_waiters *w)
{
    cm_mutex_lock(&h->lock);
    bool any = w->first != NULL;
    cm_mutex_unlock(&h->lock);
    return any;
}

struct cm_pending *cm_waiters_take(struct cm_hub *h, struct cm_waiters *w)
{
    struct cm_pending *list;

    cm_mutex_lock(&h->lock);
    list = w->first;
    for (struct cm_pending *p = list; p != NULL; p = p->next)
        p->in = NULL; /* from here on `next` belongs to the taker */
    w->first = NULL;
    w->n = 0;
    cm_mutex_unlock(&h->lock);
    return list;
}

void cm_waiters_answer(struct cm_hub *h, struct cm_pending *list, cm_choose_fn choose, void *user)
{
    bool many = list != NULL && list->next != NULL;
    int64_t at_ns = 0;

    while (list != NULL) {
        struct cm_pending *p = list;
        struct cm_err err = CM_ERR_INIT;
        struct cm_cert *cert = NULL;

        list = p->next;
        cm_status rc = choose(user, &p->hello, p->name, &cert, &err);
        cm_mutex_lock(&h->lock);
        if (!p->done) {
            p->done = true;
            p->rc = rc;
            p->err = err;
            p->cert = cert;
            cert = NULL;
            if (many)
                fire_together(p, &at_ns);
            else
                set_timer(p, 0);
        }
        unref_unlock(p);
        cm_cert_unref(cert);
    }
}

int cm_pending_fd(const struct cm_pending *p)
{
    return p != NULL ? p->fd : -1;
}

static void give_up_locked(struct cm_pending *p, cm_status rc, const char *why)
{
    (void)leave_locked(p);
    p->done = true;
    p->rc = cm_fail(&p->err, rc, "no certificate for '%s': %s", p->name, why);
    p->err.tls_alert = CM_ALERT_INTERNAL; /* the name is ours, there is just nothing yet */
    set_timer(p, 0);
}

/* The time has come to do something: true if the look-up is to be started. */
static bool on_time_locked(struct cm_pending *p)
{
    int64_t now = p->env->mono_ns(p->env);
    bool fired = timer_fired(p);

    if (p->sleeping && (fired || now >= p->wake_ns) && now < p->deadline_ns) {
        p->sleeping = false;
        set_timer(p, p->deadline_ns - now);
        return true;
    }
    if (fired || now >= p->deadline_ns)
        give_up_locked(p, CM_E_TIMEOUT, "waited for as long as a handshake may");
    return false;
}

cm_status cm_pending_take(struct cm_pending *p, struct cm_cert **ret_cert, struct cm_err *err)
{
    bool resume = false;
    cm_status rc;

    if (p == NULL || ret_cert == NULL)
        return cm_fail(err, CM_E_INVAL, "no pending answer, or no place for the certificate");
    cm_mutex_lock(&p->hub->lock);
    if (!p->done && p->hub->closed)
        give_up_locked(p, CM_E_CANCELED, "the configuration is being freed");
    if (!p->done)
        resume = on_time_locked(p);
    cm_mutex_unlock(&p->hub->lock);
    if (resume)
        cm_challenge_resume(p->cfg, p, p->name);

    cm_mutex_lock(&p->hub->lock);
    rc = p->done ? p->rc : CM_E_AGAIN;
    if (rc == CM_OK)
        *ret_cert = cm_cert_ref(p->cert);
    else if (rc == CM_E_AGAIN)
        rc = cm_fail(err, rc, "the answer for '%s' is on its way", p->name);
    else if (err != NULL)
        *err = p->err;
    cm_mutex_unlock(&p->hub->lock);
    return rc;
}

cm_status cm_pending_wait(struct cm_pending *p, const struct cm_op *op, struct cm_cert **ret_cert,
                          struct cm_err *err)
{
    const int64_t slice = 250 * CM_NS_PER_MS;

    for (;;) {
        cm_status rc = cm_pending_take(p, ret_cert, err);
        if (rc != CM_E_AGAIN)
            return rc;
        rc = cm_op_check(op, err);
        if (rc != CM_OK)
            return rc;
        struct pollfd fds[2] = { { .fd = p->fd, .events = POLLIN },
                                 { .fd = op != NULL ? cm_cancel_fd(op->cancel) : -1,
                                   .events = POLLIN } };
        int ms = (int)(cm_op_remaining_ns(op, slice) / CM_NS_PER_MS) + 1;
        if (poll(fds, 2, ms) < 0 && errno != EINTR)
            return cm_fail_errno(err, "wait for the certificate of '%s'", p->name);
    }
}

void cm_pending_free(struct cm_pending *p)
{
    if (p == NULL)
        return;
    cm_mutex_lock(&p->hub->lock);
    (void)leave_locked(p);
    unref_unlock(p);
}

void cm_pending_fail(struct cm_pending *p, cm_status rc, const char *why)
{
    cm_mutex_lock(&p->hub->lock);
    if (!p->done)
        give_up_locked(p, rc, why);
    cm_mutex_unlock(&p->hub->lock);
}
