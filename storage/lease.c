/* SPDX-License-Identifier: Apache-2.0 */
#include "lease.h"

#include <string.h>
#include <unistd.h>

/* A lease is a lock plus the certainty of knowing when it is gone. The holder trusts no clock but
 * his own monotonic one: when the last refresh that succeeded began longer ago than the time to
 * live, somebody else may have the lock, whatever storage says or whether it says anything.
 *
 * After a fork the child has a copy of all this, but not the threads and not the lock. It is told
 * apart by process id: its copies are lost, and it touches neither the lock nor any mutex that a
 * thread of the parent may have held at that moment. */

#define TTL_DEFAULT_NS  (15 * CM_NS_PER_S)
#define INTERVAL_MAX_NS (5 * CM_NS_PER_S)
#define UNLOCK_NS       (5 * CM_NS_PER_S)

bool lease_is_expired(const struct cm_lease *l)
{
    return l->env->mono_ns(l->env) - atomic_load(&l->fresh_ns) > l->grant.ttl_ns;
}

void lease_lose(struct cm_lease *l, const char *why)
{
    if (atomic_exchange(&l->lost, true))
        return;
    cm_cancel_fire(l->cancel);
    cm_logf(&l->log, CM_LOG_WARN, "lock_lost", NULL, 0, "lock '%s' was lost: %s", l->grant.name,
            why);
}

static bool is_forked(const struct cm_lease *l)
{
    return l->pid != getpid();
}

/* Half to one and a half times the hint, so that waiters do not come in step. */
static int64_t jittered(const struct cm_env *env, int64_t hint_ns)
{
    return hint_ns / 2 + (int64_t)cm_random_below(env, (uint64_t)hint_ns + 1);
}

static cm_status take(struct cm_lease *l, const struct cm_op *op, const char *name, int64_t ttl_ns,
                      bool try_only, struct cm_err *err)
{
    struct lease_waiter waiter;
    bool waits = false;
    cm_status rc;

    for (;;) {
        int64_t wait_ns = 0;
        int64_t began_ns = l->env->mono_ns(l->env);

        rc = cm_storage_try_lock(l->st, op, name, ttl_ns, &l->grant, &wait_ns, err);
        if (rc == CM_OK)
            atomic_store(&l->fresh_ns, began_ns);
        if (rc != CM_E_BUSY || try_only)
            break;
        if (!waits)
            lease_wait_begin(&waiter, l->st, name);
        waits = true;
        rc = lease_wait(&waiter, op, jittered(l->env, wait_ns), err);
        if (rc != CM_OK) {
            rc = cm_wrap(err, rc, "waiting for lock '%s', which another holds", name);
            break;
        }
    }
    if (waits)
        l->waited = lease_wait_end(&waiter);
    return rc;
}

/* Detached from the acquirer's operation: what was taken is given back even if he is canceled. */
static void give_back(struct cm_lease *l)
{
    struct cm_op base = { l->env, 0, NULL };
    struct cm_op op = cm_op_within(&base, UNLOCK_NS);
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = cm_storage_unlock(l->st, &op, &l->grant, &err);

    if (rc == CM_E_LOCK_LOST)
        lease_lose(l, err.msg);
    else if (rc != CM_OK)
        cm_logf(&l->log, CM_LOG_WARN, "unlock_failed", NULL, 0,
                "lock '%s' could not be given back and has to run out: %s", l->grant.name, err.msg);
}

static void lease_free(struct cm_lease *l)
{
    if (!is_forked(l))
        lease_wait_leave(l->waited);
    cm_cancel_free(l->cancel);
    free(l);
}

static int64_t interval_of(int64_t ttl_ns)
{
    int64_t quarter = ttl_ns / 4;

    return quarter > INTERVAL_MAX_NS ? INTERVAL_MAX_NS : quarter > 0 ? quarter : 1;
}

cm_status cm_lease_acquire(struct cm_storage *st, const struct cm_op *op, const char *name,
                           const struct cm_lease_options *opts, struct cm_lease **ret,
                           struct cm_err *err)
{
    struct cm_lease_options full = CM_LEASE_OPTIONS_INIT;
    struct cm_lease *l;
    cm_status rc;

    if (opts != NULL && opts->size >= sizeof opts->size)
        memcpy(&full, opts, opts->size < sizeof full ? opts->size : sizeof full);
    if (ret == NULL || full.ttl_ns < 0)
        return cm_fail(err, CM_E_INVAL, "lock '%s': nowhere to put the lease, or its time is wrong",
                       name != NULL ? name : "");
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return cm_fail_nomem(err);
    l->st = st;
    l->env = cm_op_env(op);
    l->log = full.log;
    l->pid = getpid();
    rc = cm_cancel_new(op != NULL ? op->cancel : NULL, &l->cancel, err);
    if (rc == CM_OK)
        rc = take(l, op, name, full.ttl_ns > 0 ? full.ttl_ns : TTL_DEFAULT_NS, full.try_only, err);
    if (rc != CM_OK) {
        lease_free(l);
        return rc;
    }
    l->interval_ns = interval_of(l->grant.ttl_ns);
    rc = beat_add(l, err);
    if (rc != CM_OK) {
        give_back(l);
        lease_free(l);
        return rc;
    }
    *ret = l;
    return CM_OK;
}

cm_status cm_lease_check(struct cm_lease *l, struct cm_err *err)
{
    if (l == NULL)
        return cm_fail(err, CM_E_INVAL, "no lease given");
    if (is_forked(l))
        return cm_fail(err, CM_E_LOCK_LOST,
                       "lock '%s' belongs to the process that this one was forked from",
                       l->grant.name);
    if (!atomic_load(&l->lost) && lease_is_expired(l))
        lease_lose(l, "it could not be refreshed in time");
    if (atomic_load(&l->lost))
        return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) was lost", l->grant.name,
                       (unsigned long long)l->grant.fence);
    return CM_OK;
}

struct cm_cancel *cm_lease_cancel(struct cm_lease *l)
{
    return l != NULL ? l->cancel : NULL;
}

uint64_t cm_lease_fence(const struct cm_lease *l)
{
    return l != NULL ? l->grant.fence : 0;
}

cm_status cm_lease_commit(struct cm_lease *l, const struct cm_op *op,
                          const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    cm_status rc = cm_lease_check(l, err);

    if (rc != CM_OK)
        return rc;
    rc = cm_storage_commit(l->st, op, &l->grant, items, n, err);
    if (rc == CM_E_LOCK_LOST)
        lease_lose(l, err != NULL ? err->msg : "storage says so");
    return rc;
}

/* A lost lease is given back too: storage knows whether it is still ours, and if only we had
 * given it up, nobody should have to wait for it to run out. */
void cm_lease_release(struct cm_lease *l)
{
    if (l == NULL)
        return;
    if (is_forked(l)) {
        cm_storage_drop(l->st, &l->grant);
    } else {
        beat_remove(l);
        give_back(l);
    }
    lease_free(l);
}
