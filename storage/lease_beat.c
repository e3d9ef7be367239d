/* SPDX-License-Identifier: Apache-2.0 */
#include "lease.h"

#include <certmesh/cm_lease.h>

#include <errno.h>
#include <unistd.h>

/* The heartbeats of all leases of this process.
 *
 * One thread per storage refreshes the leases in it, so storage that hangs keeps only its own
 * leases from being refreshed; within one storage they take turns, each bounded by its interval.
 * One more thread does no input or output at all: it watches the clock and tells holders whose
 * lease ran out, also and above all when the first thread hangs. Threads start with the first lease
 * and end with the last, or if they are kept (cm_lease.h), with the last keep.
 *
 * No mutex is held during a refresh. On a simulated clock nobody wakes us when it moves, so it is
 * looked at every few milliseconds of real time. */

#define SIMULATED_POLL_NS (5 * CM_NS_PER_MS)
#define RETRY_MIN_NS      (50 * CM_NS_PER_MS)
#define IDLE_NS           (24 * 3600 * CM_NS_PER_S) /* who has something to do is woken */

struct beat_group {
    struct beat_group *next;
    struct cm_storage *st;
    struct cm_lease *leases;
    pthread_t thread;
    pthread_cond_t wake;
    int64_t wakes_ns; /* by itself, on the system's clock; past: it is awake */
    bool stop;
};

struct cm_lease_keep {
    struct cm_lease_keep *next;
    struct beats *beats;
    struct cm_storage *st;
};

/* Order: life before mutex. */
struct beats {
    struct beats *inherited; /* of the parent process: unusable, kept reachable */
    pid_t pid;
    pthread_mutex_t life;   /* for starting and ending threads; held over joins of idle ones only */
    pthread_mutex_t mutex;  /* for what follows and the leases' own fields */
    pthread_cond_t settled; /* a pin was taken off */
    pthread_cond_t watch_wake;
    struct beat_group *groups;
    struct cm_lease_keep *keeps;
    pthread_t watch;
    int64_t watch_wakes_ns;
    bool watching;
    bool watch_stop;
};

static _Atomic(struct beats *) current;

/* Those of this process. After a fork the mutex of the parent's may be held for ever by a thread
 * that does not exist here, so the child starts its own. NULL when out of memory. */
static struct beats *beats_get(void)
{
    struct beats *b = atomic_load(&current);
    struct beats *fresh;

    if (b != NULL && b->pid == getpid())
        return b;
    fresh = cm_calloc(1, sizeof *fresh);
    if (fresh == NULL)
        return NULL;
    fresh->pid = getpid();
    cm_mutex_init(&fresh->life);
    cm_mutex_init(&fresh->mutex);
    cm_cond_init(&fresh->settled);
    cm_cond_init(&fresh->watch_wake);
    fresh->inherited = b;
    if (atomic_compare_exchange_strong(&current, &b, fresh))
        return fresh;
    free(fresh);
    return b;
}

static int64_t min_ns(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Real time to sleep until @due on the clock of @env. */
static int64_t until_ns(const struct cm_env *env, int64_t due_ns)
{
    int64_t left = due_ns - env->mono_ns(env);

    if (left <= 0)
        return 0;
    return env == cm_env_system() ? left : min_ns(left, SIMULATED_POLL_NS);
}

/* For at most @ns; who comes with something that is due earlier wakes it (is_to_be_woken()). */
static void sleep_locked(struct beats *b, pthread_cond_t *wake, int64_t *wakes_ns, int64_t ns)
{
    const struct cm_env *real = cm_env_system();

    *wakes_ns = real->mono_ns(real) + ns;
    (void)cm_cond_wait_ns(wake, &b->mutex, ns);
}

/* Has a thread that sleeps until @wakes_ns to be woken for what is due at @due_ns on the clock of
 * @env? One that is awake looks at everything before it sleeps. */
static bool is_to_be_woken(int64_t wakes_ns, const struct cm_env *env, int64_t due_ns)
{
    return env != cm_env_system() || due_ns < wakes_ns;
}

/* A pinned lease stays although the mutex is let go: beat_remove() waits. */
static void unpin_locked(struct beats *b, struct cm_lease *l)
{
    l->pins--;
    (void)pthread_cond_broadcast(&b->settled);
}

/* ----------------------------------------------------------------- refresh */

/* Bounded by the interval: a slow answer must not cost the others of this storage their lease. */
static cm_status refresh(struct cm_lease *l, struct cm_err *err)
{
    struct cm_op base = { l->env, 0, NULL };
    struct cm_op op = cm_op_within(&base, l->interval_ns);
    int64_t began_ns = l->env->mono_ns(l->env);
    cm_status rc = cm_storage_refresh(l->st, &op, &l->grant, err);

    if (rc == CM_OK)
        atomic_store(&l->fresh_ns, began_ns);
    return rc;
}

static void refresh_unlocked(struct beats *b, struct cm_lease *l)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;
    int64_t now_ns;

    /* Who was away for too long must not come back: a thief may be at work by now. */
    if (lease_is_expired(l)) {
        lease_lose(l, "it could not be refreshed in time");
        rc = CM_E_LOCK_LOST;
    } else {
        rc = refresh(l, &err);
        if (rc == CM_E_LOCK_LOST)
            lease_lose(l, err.msg);
        else if (rc != CM_OK)
            cm_logf(&l->log, CM_LOG_WARN, "lock_refresh_failed", NULL, 0,
                    "lock '%s' could not be refreshed, trying again: %s", l->grant.name, err.msg);
    }
    now_ns = l->env->mono_ns(l->env);
    cm_mutex_lock(&b->mutex);
    l->due_ns = now_ns + (rc == CM_OK || l->interval_ns < 4 * RETRY_MIN_NS ? l->interval_ns
                                                                           : l->interval_ns / 4);
    unpin_locked(b, l);
    cm_mutex_unlock(&b->mutex);
}

/* The lease of @g to refresh now, or NULL and how long to sleep. */
static struct cm_lease *next_due_locked(const struct beat_group *g, int64_t *ret_sleep_ns)
{
    *ret_sleep_ns = IDLE_NS;
    for (struct cm_lease *l = g->leases; l != NULL; l = l->next) {
        int64_t sleep_ns;

        if (atomic_load(&l->lost))
            continue;
        sleep_ns = until_ns(l->env, l->due_ns);
        if (sleep_ns == 0)
            return l;
        *ret_sleep_ns = min_ns(*ret_sleep_ns, sleep_ns);
    }
    return NULL;
}

struct group_arg {
    struct beats *beats;
    struct beat_group *group;
};

static void *group_main(void *arg)
{
    struct group_arg a = *(struct group_arg *)arg;

    free(arg);
    cm_mutex_lock(&a.beats->mutex);
    while (!a.group->stop) {
        int64_t sleep_ns;
        struct cm_lease *l = next_due_locked(a.group, &sleep_ns);

        if (l == NULL) {
            sleep_locked(a.beats, &a.group->wake, &a.group->wakes_ns, sleep_ns);
            continue;
        }
        l->pins++;
        cm_mutex_unlock(&a.beats->mutex);
        refresh_unlocked(a.beats, l);
        cm_mutex_lock(&a.beats->mutex);
    }
    cm_mutex_unlock(&a.beats->mutex);
    return NULL;
}

/* ------------------------------------------------------------------- watch */

static int64_t runs_out_ns(const struct cm_lease *l)
{
    return atomic_load(&l->fresh_ns) + l->grant.ttl_ns + CM_NS_PER_MS;
}

/* A lease that ran out but whose holder was not told, or NULL and how long to sleep. */
static struct cm_lease *next_expired_locked(const struct beats *b, int64_t *ret_sleep_ns)
{
    *ret_sleep_ns = IDLE_NS;
    for (const struct beat_group *g = b->groups; g != NULL; g = g->next)
        for (struct cm_lease *l = g->leases; l != NULL; l = l->next) {
            int64_t sleep_ns;

            if (atomic_load(&l->lost))
                continue;
            sleep_ns = until_ns(l->env, runs_out_ns(l));
            if (sleep_ns == 0 && lease_is_expired(l))
                return l;
            *ret_sleep_ns = min_ns(*ret_sleep_ns, sleep_ns > 0 ? sleep_ns : CM_NS_PER_MS);
        }
    return NULL;
}

static void *watch_main(void *arg)
{
    struct beats *b = arg;

    cm_mutex_lock(&b->mutex);
    while (!b->watch_stop) {
        int64_t sleep_ns;
        struct cm_lease *l = next_expired_locked(b, &sleep_ns);

        if (l == NULL) {
            sleep_locked(b, &b->watch_wake, &b->watch_wakes_ns, sleep_ns);
            continue;
        }
        l->pins++;
        cm_mutex_unlock(&b->mutex);
        lease_lose(l, "it could not be refreshed in time");
        cm_mutex_lock(&b->mutex);
        unpin_locked(b, l);
    }
    cm_mutex_unlock(&b->mutex);
    return NULL;
}

/* ------------------------------------------------------------- life of threads */

static struct beat_group *find_group_locked(struct beats *b, const struct cm_storage *st)
{
    struct beat_group *g = b->groups;

    while (g != NULL && g->st != st)
        g = g->next;
    return g;
}

/* With life held. */
static cm_status start_group(struct beats *b, struct cm_storage *st, struct beat_group **ret,
                             struct cm_err *err)
{
    struct beat_group *g = cm_calloc(1, sizeof *g);
    struct group_arg *arg = cm_calloc(1, sizeof *arg);
    cm_status rc;

    if (g == NULL || arg == NULL) {
        free(g);
        free(arg);
        return cm_fail_nomem(err);
    }
    g->st = st;
    cm_cond_init(&g->wake);
    arg->beats = b;
    arg->group = g;
    rc = cm_thread_start(&g->thread, "cm-lease", group_main, arg, err);
    if (rc != CM_OK) {
        (void)pthread_cond_destroy(&g->wake);
        free(g);
        free(arg);
        return rc;
    }
    cm_mutex_lock(&b->mutex);
    g->next = b->groups;
    b->groups = g;
    cm_mutex_unlock(&b->mutex);
    *ret = g;
    return CM_OK;
}

static bool is_kept_locked(const struct beats *b, const struct cm_storage *st)
{
    const struct cm_lease_keep *k = b->keeps;

    while (k != NULL && k->st != st)
        k = k->next;
    return k != NULL;
}

/* With life held: end what nobody needs any more. */
static void end_idle(struct beats *b)
{
    struct beat_group *idle = NULL;
    bool none;

    cm_mutex_lock(&b->mutex);
    for (struct beat_group **p = &b->groups; *p != NULL;) {
        struct beat_group *g = *p;

        if (g->leases != NULL || is_kept_locked(b, g->st)) {
            p = &g->next;
            continue;
        }
        *p = g->next;
        g->next = idle;
        idle = g;
        g->stop = true;
        (void)pthread_cond_signal(&g->wake);
    }
    none = b->groups == NULL && b->watching;
    b->watch_stop = none;
    if (none)
        (void)pthread_cond_signal(&b->watch_wake);
    cm_mutex_unlock(&b->mutex);
    while (idle != NULL) {
        struct beat_group *next = idle->next;

        (void)pthread_join(idle->thread, NULL);
        (void)pthread_cond_destroy(&idle->wake);
        free(idle);
        idle = next;
    }
    if (none) {
        (void)pthread_join(b->watch, NULL);
        b->watching = false;
    }
}

/* With life held. */
static cm_status start_needed(struct beats *b, struct cm_lease *l, struct cm_err *err)
{
    struct beat_group *g;
    cm_status rc = CM_OK;

    cm_mutex_lock(&b->mutex);
    g = find_group_locked(b, l->st);
    b->watch_stop = false;
    cm_mutex_unlock(&b->mutex);
    if (!b->watching) {
        rc = cm_thread_start(&b->watch, "cm-lease", watch_main, b, err);
        b->watching = rc == CM_OK;
    }
    if (rc == CM_OK && g == NULL)
        rc = start_group(b, l->st, &g, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&b->mutex);
    l->group = g;
    l->due_ns = atomic_load(&l->fresh_ns) + l->interval_ns;
    l->next = g->leases;
    g->leases = l;
    if (is_to_be_woken(g->wakes_ns, l->env, l->due_ns))
        (void)pthread_cond_signal(&g->wake);
    if (is_to_be_woken(b->watch_wakes_ns, l->env, runs_out_ns(l)))
        (void)pthread_cond_signal(&b->watch_wake);
    cm_mutex_unlock(&b->mutex);
    return CM_OK;
}

cm_status beat_add(struct cm_lease *l, struct cm_err *err)
{
    struct beats *b = beats_get();
    cm_status rc;

    if (b == NULL)
        return cm_fail_nomem(err);
    cm_mutex_lock(&b->life);
    rc = start_needed(b, l, err);
    if (rc != CM_OK)
        end_idle(b);
    cm_mutex_unlock(&b->life);
    return rc;
}

void beat_remove(struct cm_lease *l)
{
    struct beats *b = beats_get();

    if (b == NULL || l->group == NULL)
        return;
    cm_mutex_lock(&b->mutex);
    for (struct cm_lease **p = &l->group->leases; *p != NULL; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    while (l->pins > 0)
        (void)cm_cond_wait_ns(&b->settled, &b->mutex, IDLE_NS);
    cm_mutex_unlock(&b->mutex);
    cm_mutex_lock(&b->life);
    end_idle(b);
    cm_mutex_unlock(&b->life);
}

/* ------------------------------------------------------------------- keeps */

cm_status cm_lease_keep_new(struct cm_storage *st, struct cm_lease_keep **ret, struct cm_err *err)
{
    struct beats *b = beats_get();
    struct cm_lease_keep *k;

    if (st == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no storage, or no place for what keeps its threads");
    k = cm_calloc(1, sizeof *k);
    if (b == NULL || k == NULL) {
        free(k);
        return cm_fail_nomem(err);
    }
    k->beats = b;
    k->st = st;
    cm_mutex_lock(&b->mutex);
    k->next = b->keeps;
    b->keeps = k;
    cm_mutex_unlock(&b->mutex);
    *ret = k;
    return CM_OK;
}

void cm_lease_keep_free(struct cm_lease_keep *keep)
{
    struct beats *b = keep != NULL ? keep->beats : NULL;

    if (keep == NULL)
        return;
    if (b->pid == getpid()) { /* else it is the parent's */
        cm_mutex_lock(&b->mutex);
        for (struct cm_lease_keep **p = &b->keeps; *p != NULL; p = &(*p)->next)
            if (*p == keep) {
                *p = keep->next;
                break;
            }
        cm_mutex_unlock(&b->mutex);
        cm_mutex_lock(&b->life);
        end_idle(b);
        cm_mutex_unlock(&b->life);
    }
    free(keep);
}
