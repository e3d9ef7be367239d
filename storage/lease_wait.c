/* SPDX-License-Identifier: Apache-2.0 */
#include "lease.h"

#include <string.h>
#include <unistd.h>

/* Waiting for a lock that another holds. Without more one sleeps as long as the storage says, and
 * tries again. Where the storage tells of changes, the one of this process who has waited longest
 * is woken as soon as the lock is given back; the others sleep on, since only one can have it. That
 * is a hint: who is not told comes by himself.
 *
 * All who wait in one storage share a watch. It begins with the first and ends with the last, or
 * when the last lease ends that had to be waited for: so who works through many names under
 * contention does not open one for each, and none is left when the storage is closed. */

/* Who is woken at the same moment in several processes does not come in step. */
#define STEP_NS (2 * CM_NS_PER_MS)

struct wait_group {
    struct wait_group *next;
    struct cm_storage *st;
    size_t users;
    struct cm_watch *watch;     /* the first user's to set, the last one's to end; NULL: no feed */
    struct lease_waiter *first; /* in the order in which they came */
    struct waits *waits;
};

struct waits {
    struct waits *inherited; /* of the parent process: unusable, kept reachable */
    pid_t pid;
    pthread_mutex_t mutex; /* not held while a watch is opened or ended */
    struct wait_group *groups;
};

static _Atomic(struct waits *) current;

/* As with heartbeats: a child must not touch a mutex that a thread of its parent may have held. */
static struct waits *waits_get(void)
{
    struct waits *w = atomic_load(&current);
    struct waits *fresh;

    if (w != NULL && w->pid == getpid())
        return w;
    fresh = cm_calloc(1, sizeof *fresh);
    if (fresh == NULL)
        return NULL;
    fresh->pid = getpid();
    cm_mutex_init(&fresh->mutex);
    fresh->inherited = w;
    if (atomic_compare_exchange_strong(&current, &w, fresh))
        return fresh;
    free(fresh);
    return w;
}

/* ------------------------------------------------------------------- told */

/* A peer's lock may be known to the storage by the name of its file alone. */
static bool is_for(const struct lease_waiter *w, const struct cm_change *change)
{
    return change->kind == CM_CHANGE_MISSED || strcmp(change->key, w->name) == 0 ||
           strcmp(change->key, cm_buf_str(&w->safe)) == 0;
}

/* On the storage's thread. After CM_CHANGE_MISSED anybody's may be free. */
static void told(void *user, const struct cm_change *change)
{
    struct wait_group *g = user;

    if (change->kind != CM_CHANGE_UNLOCKED && change->kind != CM_CHANGE_MISSED)
        return;
    cm_mutex_lock(&g->waits->mutex);
    for (struct lease_waiter *w = g->first; w != NULL; w = w->next) {
        if (!is_for(w, change))
            continue;
        w->told = true;
        cm_cancel_fire(w->wake); /* NULL: it is trying just now */
        if (change->kind == CM_CHANGE_UNLOCKED)
            break;
    }
    cm_mutex_unlock(&g->waits->mutex);
}

/* ----------------------------------------------------------------- groups */

static struct wait_group *group_of_locked(struct waits *ws, struct cm_storage *st, bool *ret_first)
{
    struct wait_group *g = ws->groups;

    while (g != NULL && g->st != st)
        g = g->next;
    *ret_first = g == NULL;
    if (g == NULL)
        g = cm_calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    if (*ret_first) {
        g->st = st;
        g->waits = ws;
        g->next = ws->groups;
        ws->groups = g;
    }
    g->users++;
    return g;
}

/* The first one opens the watch; who comes meanwhile does without for that moment. NULL without
 * memory. */
static struct wait_group *group_enter(struct cm_storage *st)
{
    struct waits *ws = waits_get();
    struct cm_watch *watch = NULL;
    struct wait_group *g;
    bool first;

    if (ws == NULL)
        return NULL;
    cm_mutex_lock(&ws->mutex);
    g = group_of_locked(ws, st, &first);
    cm_mutex_unlock(&ws->mutex);
    if (g == NULL || !first || cm_storage_watch(st, told, g, &watch, NULL) != CM_OK)
        return g;
    cm_mutex_lock(&ws->mutex);
    g->watch = watch;
    cm_mutex_unlock(&ws->mutex);
    return g;
}

void lease_wait_leave(struct wait_group *g)
{
    if (g == NULL)
        return;
    struct waits *ws = g->waits;
    cm_mutex_lock(&ws->mutex);
    bool last = --g->users == 0;
    if (last)
        for (struct wait_group **p = &ws->groups; *p != NULL; p = &(*p)->next)
            if (*p == g) {
                *p = g->next;
                break;
            }
    cm_mutex_unlock(&ws->mutex);
    if (!last)
        return;
    cm_storage_unwatch(g->st, g->watch);
    free(g);
}

/* ---------------------------------------------------------------- waiters */

void lease_wait_begin(struct lease_waiter *w, struct cm_storage *st, const char *name)
{
    *w = (struct lease_waiter){ .name = name, .safe = CM_BUF_INIT(CM_LOCK_NAME_MAX * 9) };
    w->group = group_enter(st);
    if (w->group == NULL)
        return;
    (void)!cm_safe_name(name, &w->safe, NULL);
    struct waits *ws = w->group->waits;
    cm_mutex_lock(&ws->mutex);
    struct lease_waiter **last = &w->group->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = w;
    cm_mutex_unlock(&ws->mutex);
}

struct wait_group *lease_wait_end(struct lease_waiter *w)
{
    if (w->group != NULL) {
        struct waits *ws = w->group->waits;

        cm_mutex_lock(&ws->mutex);
        for (struct lease_waiter **p = &w->group->first; *p != NULL; p = &(*p)->next)
            if (*p == w) {
                *p = w->next;
                break;
            }
        cm_mutex_unlock(&ws->mutex);
    }
    cm_buf_free(&w->safe);
    return w->group;
}

/* What was told while it was trying counts, too. */
static bool lie_down(struct lease_waiter *w, struct cm_cancel *wake)
{
    struct waits *ws = w->group->waits;
    bool told_before;

    cm_mutex_lock(&ws->mutex);
    told_before = w->told;
    w->told = false;
    if (!told_before)
        w->wake = wake;
    cm_mutex_unlock(&ws->mutex);
    return !told_before;
}

static bool get_up(struct lease_waiter *w)
{
    struct waits *ws = w->group->waits;
    bool told_now;

    cm_mutex_lock(&ws->mutex);
    w->wake = NULL;
    told_now = w->told;
    w->told = false;
    cm_mutex_unlock(&ws->mutex);
    return told_now;
}

cm_status lease_wait(struct lease_waiter *w, const struct cm_op *op, int64_t ns, struct cm_err *err)
{
    struct cm_op own = { cm_op_env(op), 0, NULL };
    struct cm_cancel *wake = NULL;
    bool told_now = true;

    if (op != NULL)
        own = *op;
    if (w->group == NULL || cm_cancel_new(own.cancel, &wake, NULL) != CM_OK)
        return cm_op_wait(op, ns, err);
    own.cancel = wake;
    cm_status rc = cm_op_check(op, err);
    if (rc == CM_OK && lie_down(w, wake)) {
        rc = cm_op_wait(&own, ns, err);
        told_now = get_up(w);
    }
    cm_cancel_free(wake);
    if (!told_now)
        return rc;
    if (rc == CM_E_CANCELED)
        rc = cm_op_check(op, err); /* not he who acquires, but what he waits for */
    if (rc == CM_OK) {
        int64_t step_ns = (int64_t)cm_random_below(cm_op_env(op), (uint64_t)STEP_NS);

        rc = cm_op_wait(op, step_ns, err);
    }
    return rc;
}
