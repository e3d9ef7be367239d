/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Locks are never forgotten, and there may be one for each of many names. */
static struct memory_lock **list_of(struct memory_store *s, const char *name)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, name, strlen(name));

    return &s->locks[(h ^ h >> 32) % MEMORY_LOCK_LISTS];
}

static struct memory_lock *lock_find_locked(struct memory_store *s, const char *name)
{
    struct memory_lock *l = *list_of(s, name);

    while (l != NULL && strcmp(l->name, name) != 0)
        l = l->next;
    return l;
}

static struct memory_lock *lock_get_locked(struct memory_store *s, const char *name)
{
    struct memory_lock *l = lock_find_locked(s, name);

    if (l != NULL)
        return l;
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->name = cm_strdup(name);
    if (l->name == NULL) {
        free(l);
        return NULL;
    }
    struct memory_lock **list = list_of(s, name);
    l->next = *list;
    *list = l;
    return l;
}

/* The lock of @grant if the grant is still in force. A lease that ran out but was taken by nobody
 * is: what counts is whether somebody else may have acted. */
struct memory_lock *memory_held_locked(struct memory_store *s, const struct cm_grant *grant)
{
    struct memory_lock *l = lock_find_locked(s, grant->name);

    if (l == NULL || l->token[0] == '\0' || strcmp(l->token, grant->token) != 0 ||
        l->fence != grant->fence)
        return NULL;
    return l;
}

cm_status memory_lost(const struct cm_grant *grant, struct cm_err *err)
{
    return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) is not held any more", grant->name,
                   (unsigned long long)grant->fence);
}

cm_status memory_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                          int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                          struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    int64_t now = s->env->mono_ns(s->env);
    char token[48];
    struct memory_lock *l;
    cm_status rc = cm_random_hex(s->env, 16, token, err);

    (void)op;
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&s->mutex);
    l = lock_get_locked(s, name);
    if (l == NULL) {
        rc = cm_fail_nomem(err);
    } else if (l->token[0] != '\0' && now < l->until_ns) {
        *ret_wait_ns =
            l->until_ns - now < 20 * CM_NS_PER_MS ? l->until_ns - now : 20 * CM_NS_PER_MS;
        rc = cm_fail(err, CM_E_BUSY, "lock '%s' is held by another", name);
    } else {
        l->fence++;
        l->ttl_ns = ttl_ns;
        l->until_ns = now + ttl_ns;
        l->since_ns = l->refreshed_ns = s->env->wall_ns(s->env);
        memcpy(l->token, token, sizeof token);
        memcpy(ret->token, token, sizeof token);
        ret->fence = l->fence;
    }
    cm_mutex_unlock(&s->mutex);
    return rc;
}

cm_status memory_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                         struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    struct memory_lock *l;
    cm_status rc = CM_OK;

    (void)op;
    cm_mutex_lock(&s->mutex);
    l = memory_held_locked(s, grant);
    if (l != NULL) {
        l->until_ns = s->env->mono_ns(s->env) + l->ttl_ns;
        l->refreshed_ns = s->env->wall_ns(s->env);
    } else {
        rc = memory_lost(grant, err);
    }
    cm_mutex_unlock(&s->mutex);
    return rc;
}

cm_status memory_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                           struct cm_lock_info *ret, struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    const struct memory_lock *l;
    cm_status rc = CM_OK;

    (void)op;
    cm_mutex_lock(&s->mutex);
    l = lock_find_locked(s, name);
    if (l != NULL && l->token[0] != '\0' && s->env->mono_ns(s->env) < l->until_ns) {
        ret->since_ns = l->since_ns;
        ret->refreshed_ns = l->refreshed_ns;
    } else {
        rc = cm_fail(err, CM_E_NOTFOUND, "nobody holds the lock '%s'", name);
    }
    cm_mutex_unlock(&s->mutex);
    if (rc == CM_OK)
        (void)snprintf(ret->holder, sizeof ret->holder, "this process, %ld", (long)getpid());
    return rc;
}

cm_status memory_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                        struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    struct memory_lock *l;
    cm_status rc = CM_OK;

    (void)op;
    cm_mutex_lock(&s->mutex);
    l = memory_held_locked(s, grant);
    if (l != NULL)
        l->token[0] = '\0';
    else
        rc = memory_lost(grant, err);
    cm_mutex_unlock(&s->mutex);
    if (rc == CM_OK)
        feed_tell(&s->feed, CM_CHANGE_UNLOCKED, grant->name);
    return rc;
}

void memory_locks_free(struct memory_store *s)
{
    for (size_t i = 0; i < MEMORY_LOCK_LISTS; i++) {
        while (s->locks[i] != NULL) {
            struct memory_lock *next = s->locks[i]->next;

            free(s->locks[i]->name);
            free(s->locks[i]);
            s->locks[i] = next;
        }
    }
}
