/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* The times of the last N events, in a ring: another one may happen once the oldest of them is as
 * long ago as the window is wide. So it is exact, for any window whatever, and costs the same
 * however many events there are.
 *
 * Those who wait stand in a queue. Only the first of them looks at the clock; the others wait to
 * become first. Nobody overtakes: who does not want to wait gets a place only if one is left after
 * everyone in the queue has got his. */

#define EVENTS_MAX 1000000u
/* How soon the first in the queue sees that the limit was changed. */
#define FIRST_SLICE_NS (250 * CM_NS_PER_MS)

struct waiter {
    struct waiter *next;
};

struct cm_ring_limiter {
    pthread_mutex_t lock; /* a leaf: nothing is taken while it is held */
    pthread_cond_t moved; /* somebody left the queue */
    const struct cm_env *env;
    int64_t *at; /* times of the last @used events, from @oldest on; NULL: no limit */
    size_t events;
    size_t used;
    size_t oldest;
    int64_t window_ns;
    struct waiter *first;
    size_t waiting;
};

static cm_status check(size_t events, int64_t window_ns, struct cm_err *err)
{
    if (window_ns < 0 || events > EVENTS_MAX || (events == 0) != (window_ns == 0))
        return cm_fail(err, CM_E_INVAL,
                       "a limit of %zu events in %lld ns: give 1 to %u events and a window, or 0 "
                       "and 0 for no limit",
                       events, (long long)window_ns, EVENTS_MAX);
    return CM_OK;
}

static cm_status make_ring(size_t events, int64_t **ret, struct cm_err *err)
{
    *ret = NULL;
    if (events == 0)
        return CM_OK;
    *ret = cm_calloc(events, sizeof **ret);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

cm_status cm_ring_limiter_new(size_t events, int64_t window_ns, const struct cm_env *env,
                              struct cm_ring_limiter **ret, struct cm_err *err)
{
    struct cm_ring_limiter *l;

    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no place for the limiter");
    cm_status rc = check(events, window_ns, err);
    if (rc != CM_OK)
        return rc;
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return cm_fail_nomem(err);
    rc = make_ring(events, &l->at, err);
    if (rc != CM_OK) {
        free(l);
        return rc;
    }
    cm_mutex_init(&l->lock);
    cm_cond_init(&l->moved);
    l->env = env != NULL ? env : cm_env_system();
    l->events = events;
    l->window_ns = window_ns;
    *ret = l;
    return CM_OK;
}

void cm_ring_limiter_free(struct cm_ring_limiter *l)
{
    if (l == NULL)
        return;
    CM_ASSERT(l->waiting == 0);
    (void)pthread_cond_destroy(&l->moved);
    (void)pthread_mutex_destroy(&l->lock);
    free(l->at);
    free(l);
}

static int64_t add_clamped(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

/* ns from @now_ns until a place is free for one who comes behind @ahead others. */
static int64_t until_free_locked(const struct cm_ring_limiter *l, size_t ahead, int64_t now_ns)
{
    int64_t wait_ns = 0;
    int64_t rounds_ns;

    if (l->at == NULL)
        return 0;
    /* Places that were never taken come first; then each event makes room as its time is over. */
    size_t place = ahead % l->events;
    size_t unused = l->events - l->used;
    if (place >= unused) {
        int64_t at_ns = l->at[(l->oldest + place - unused) % l->events];
        int64_t free_ns = add_clamped(at_ns, l->window_ns);

        wait_ns = free_ns > now_ns ? free_ns - now_ns : 0;
    }
    if (__builtin_mul_overflow((int64_t)(ahead / l->events), l->window_ns, &rounds_ns))
        rounds_ns = INT64_MAX;
    return add_clamped(wait_ns, rounds_ns);
}

static void take_locked(struct cm_ring_limiter *l, int64_t now_ns)
{
    if (l->at == NULL)
        return;
    if (l->used < l->events) {
        l->at[(l->oldest + l->used++) % l->events] = now_ns;
    } else {
        l->at[l->oldest] = now_ns;
        l->oldest = (l->oldest + 1) % l->events;
    }
}

bool cm_ring_limiter_allow(struct cm_ring_limiter *l)
{
    bool allowed;

    cm_mutex_lock(&l->lock);
    int64_t now_ns = l->env->mono_ns(l->env);
    allowed = until_free_locked(l, l->waiting, now_ns) == 0;
    if (allowed)
        take_locked(l, now_ns);
    cm_mutex_unlock(&l->lock);
    return allowed;
}

int64_t cm_ring_limiter_next_ns(struct cm_ring_limiter *l)
{
    cm_mutex_lock(&l->lock);
    int64_t ns = until_free_locked(l, l->waiting, l->env->mono_ns(l->env));
    cm_mutex_unlock(&l->lock);
    return ns;
}

/* ---- waiting ---- */

static void join_locked(struct cm_ring_limiter *l, struct waiter *w)
{
    struct waiter **end = &l->first;

    while (*end != NULL)
        end = &(*end)->next;
    *end = w;
    l->waiting++;
}

static void leave_locked(struct cm_ring_limiter *l, const struct waiter *w)
{
    struct waiter **at = &l->first;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    l->waiting--;
    (void)pthread_cond_broadcast(&l->moved);
}

/* A part of the wait of the first in the queue, without the lock. */
static cm_status pass(const struct cm_ring_limiter *l, const struct cm_op *op, int64_t ns,
                      struct cm_err *err)
{
    cm_status rc;

    ns = cm_op_remaining_ns(op, ns < FIRST_SLICE_NS ? ns : FIRST_SLICE_NS);
    rc = l->env->wait(l->env, op != NULL ? op->cancel : NULL, ns);
    if (rc != CM_OK && rc != CM_E_CANCELED)
        return cm_fail(err, rc, "the environment could not wait");
    return cm_op_check(op, err);
}

cm_status cm_ring_limiter_wait(struct cm_ring_limiter *l, const struct cm_op *op,
                               struct cm_err *err)
{
    struct waiter self = { NULL };
    cm_status rc = cm_op_check(op, err);

    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&l->lock);
    join_locked(l, &self);
    while (rc == CM_OK) {
        int64_t now_ns = l->env->mono_ns(l->env);
        int64_t ns = until_free_locked(l, 0, now_ns);

        if (l->first == &self && ns == 0) {
            take_locked(l, now_ns);
            break;
        }
        if (l->first == &self) {
            cm_mutex_unlock(&l->lock);
            rc = pass(l, op, ns, err);
            cm_mutex_lock(&l->lock);
        } else {
            (void)cm_cond_wait_ns(&l->moved, &l->lock, CM_WAIT_SLICE_NS);
            rc = cm_op_check(op, err);
        }
    }
    leave_locked(l, &self);
    cm_mutex_unlock(&l->lock);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "waiting for a turn");
}

/* ---- changing it ---- */

/* The last of the old ring's events, oldest first. */
static size_t copy_latest_locked(const struct cm_ring_limiter *l, int64_t *to, size_t room)
{
    size_t n = l->used < room ? l->used : room;

    for (size_t i = 0; i < n; i++)
        to[i] = l->at[(l->oldest + l->used - n + i) % l->events];
    return n;
}

cm_status cm_ring_limiter_set(struct cm_ring_limiter *l, size_t events, int64_t window_ns,
                              struct cm_err *err)
{
    int64_t *ring = NULL;
    int64_t *old;

    cm_status rc = check(events, window_ns, err);
    if (rc == CM_OK)
        rc = make_ring(events, &ring, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&l->lock);
    old = l->at;
    l->used = copy_latest_locked(l, ring, events);
    l->oldest = 0;
    l->at = ring;
    l->events = events;
    l->window_ns = window_ns;
    (void)pthread_cond_broadcast(&l->moved);
    cm_mutex_unlock(&l->lock);
    free(old);
    return CM_OK;
}

size_t cm_ring_limiter_events(struct cm_ring_limiter *l)
{
    cm_mutex_lock(&l->lock);
    size_t events = l->events;
    cm_mutex_unlock(&l->lock);
    return events;
}

int64_t cm_ring_limiter_window_ns(struct cm_ring_limiter *l)
{
    cm_mutex_lock(&l->lock);
    int64_t window_ns = l->window_ns;
    cm_mutex_unlock(&l->lock);
    return window_ns;
}
