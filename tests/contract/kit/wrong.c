/* SPDX-License-Identifier: Apache-2.0 */

/* Storages with one fault each, for the test of certmesh-storage-test: each must be found. They lie
 * over a real one, which cm_storage_open() opens; a plugin for --plugin, one symbol per fault. */

#include <certmesh/cm_spi.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wrong {
    struct cm_storage base;
    struct cm_storage_ops ops;
    struct cm_storage *inner;
    const struct cm_env *env;
};

static struct wrong *of(struct cm_storage *st)
{
    return (struct wrong *)(void *)st;
}

/* --------------------------------------------------- what is right with all */

static cm_status right_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_span value, struct cm_err *err)
{
    return cm_storage_store(of(st)->inner, op, key, value, err);
}

static cm_status right_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_buf *ret, struct cm_err *err)
{
    return cm_storage_load(of(st)->inner, op, key, ret, err);
}

static cm_status right_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_err *err)
{
    return cm_storage_remove(of(st)->inner, op, key, err);
}

static cm_status right_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_key_info *ret, struct cm_err *err)
{
    return cm_storage_stat(of(st)->inner, op, key, ret, err);
}

static cm_status right_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                            bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    return cm_storage_list(of(st)->inner, op, prefix, recursive, each, user, err);
}

static cm_status right_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                struct cm_err *err)
{
    return cm_storage_try_lock(of(st)->inner, op, name, ttl_ns, ret, ret_wait_ns, err);
}

static cm_status right_refresh(struct cm_storage *st, const struct cm_op *op,
                               struct cm_grant *grant, struct cm_err *err)
{
    return cm_storage_refresh(of(st)->inner, op, grant, err);
}

static cm_status right_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                              struct cm_err *err)
{
    return cm_storage_unlock(of(st)->inner, op, grant, err);
}

static void right_drop(struct cm_storage *st, struct cm_grant *grant)
{
    cm_storage_drop(of(st)->inner, grant);
}

static cm_status right_commit(struct cm_storage *st, const struct cm_op *op,
                              const struct cm_grant *grant, const struct cm_commit_item *items,
                              size_t n, struct cm_err *err)
{
    return cm_storage_commit(of(st)->inner, op, grant, items, n, err);
}

static const char *right_describe(struct cm_storage *st)
{
    return cm_storage_describe(of(st)->inner);
}

static void right_destroy(struct cm_storage *st)
{
    cm_storage_close(of(st)->inner);
    free(st);
}

static cm_status open_over(const char *url, const struct cm_storage_open_options *opts,
                           struct wrong **ret, struct cm_err *err)
{
    static const struct cm_storage_ops right = {
        .abi = CM_SPI_ABI,
        .size = sizeof(struct cm_storage_ops),
        .name = "wrong",
        .store = right_store,
        .load = right_load,
        .remove = right_remove,
        .stat = right_stat,
        .list = right_list,
        .try_lock = right_try_lock,
        .refresh = right_refresh,
        .unlock = right_unlock,
        .drop = right_drop,
        .commit = right_commit,
        .describe = right_describe,
        .destroy = right_destroy,
    };
    struct wrong *w = calloc(1, sizeof *w);
    cm_status rc = w != NULL ? cm_storage_open(url, opts, &w->inner, err)
                             : cm_fail(err, CM_E_NOMEM, "out of memory");

    if (rc != CM_OK) {
        free(w);
        return rc;
    }
    w->ops = right;
    w->base.ops = &w->ops;
    w->env = opts != NULL && opts->env != NULL ? opts->env : cm_env_system();
    *ret = w;
    return CM_OK;
}

/* Symbol open_NAME, with one op put in the place of the right one. */
#define FAULT(fault, op, fn)                                                                       \
    CM_API cm_status open_##fault(const char *url, const struct cm_storage_open_options *opts,     \
                                  struct cm_storage **ret, struct cm_err *err);                    \
    cm_status open_##fault(const char *url, const struct cm_storage_open_options *opts,            \
                           struct cm_storage **ret, struct cm_err *err)                            \
    {                                                                                              \
        struct wrong *w = NULL;                                                                    \
        cm_status rc = open_over(url, opts, &w, err);                                              \
                                                                                                   \
        if (rc == CM_OK) {                                                                         \
            w->ops.op = fn;                                                                        \
            *ret = &w->base;                                                                       \
        }                                                                                          \
        return rc;                                                                                 \
    }

FAULT(right, store, right_store)

/* ------------------------------------------------------------------- values */

static cm_status torn_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_span value, struct cm_err *err)
{
    struct cm_span half = { value.data, value.len / 2 };
    const struct cm_env *env = cm_env_system();
    cm_status rc = cm_storage_store(of(st)->inner, op, key, half, err);

    (void)env->wait(env, NULL, CM_NS_PER_MS / 10); /* in memory it would take no time */
    return rc == CM_OK ? cm_storage_store(of(st)->inner, op, key, value, err) : rc;
}
FAULT(torn_store, store, torn_store)

/* As a server does that evicts, or a client that takes each failure for absence, the other way. */
static cm_status vague_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_buf *ret, struct cm_err *err)
{
    cm_status rc = cm_storage_load(of(st)->inner, op, key, ret, err);

    return rc == CM_E_NOTFOUND ? cm_fail(err, CM_E_IO, "no answer for '%s'", key) : rc;
}
FAULT(vague_load, load, vague_load)

static cm_status greedy_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                               struct cm_err *err);

struct greedy {
    struct cm_storage *inner;
    const char *key;
};

/* Compares as a pattern "key*" does. */
static cm_status greedy_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    const struct greedy *g = user;

    if (strncmp(info->key, g->key, strlen(g->key)) != 0)
        return CM_OK;
    return cm_storage_remove(g->inner, NULL, info->key, err);
}

static cm_status greedy_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                               struct cm_err *err)
{
    struct greedy g = { of(st)->inner, key };

    return cm_storage_list(g.inner, op, "", true, greedy_one, &g, err);
}
FAULT(greedy_remove, remove, greedy_remove)

/* Like a cursor that does not see what lies beyond its batch. */
struct short_list {
    cm_list_fn each;
    void *user;
    unsigned n;
};

static cm_status short_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct short_list *s = user;

    return ++s->n % 1000 == 0 ? CM_OK : s->each(s->user, info, err);
}

static cm_status short_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                            bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    struct short_list s = { each, user, 0 };

    return cm_storage_list(of(st)->inner, op, prefix, recursive, short_one, &s, err);
}
FAULT(short_list, list, short_list)

/* -------------------------------------------------------------------- locks */

/* The last grant of each name, by whoever: what a lock without token amounts to. */
static pthread_mutex_t last_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct cm_grant last[64];
static size_t n_last;

static cm_status noted_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                struct cm_err *err)
{
    size_t i = 0;
    cm_status rc = cm_storage_try_lock(of(st)->inner, op, name, ttl_ns, ret, ret_wait_ns, err);

    if (rc != CM_OK)
        return rc;
    (void)pthread_mutex_lock(&last_mutex);
    while (i < n_last && strcmp(last[i].name, name) != 0)
        i++;
    if (i < 64) {
        last[i] = *ret;
        n_last += i == n_last;
    }
    (void)pthread_mutex_unlock(&last_mutex);
    return rc;
}

static cm_status unlock_by_name(struct cm_storage *st, const struct cm_op *op,
                                struct cm_grant *grant, struct cm_err *err)
{
    struct cm_grant whose = *grant;

    (void)pthread_mutex_lock(&last_mutex);
    for (size_t i = 0; i < n_last; i++)
        if (strcmp(last[i].name, grant->name) == 0)
            whose = last[i];
    (void)pthread_mutex_unlock(&last_mutex);
    return cm_storage_unlock(of(st)->inner, op, &whose, err);
}

CM_API cm_status open_unlock_by_name(const char *url, const struct cm_storage_open_options *opts,
                                     struct cm_storage **ret, struct cm_err *err);
cm_status open_unlock_by_name(const char *url, const struct cm_storage_open_options *opts,
                              struct cm_storage **ret, struct cm_err *err)
{
    struct wrong *w = NULL;
    cm_status rc = open_over(url, opts, &w, err);

    if (rc == CM_OK) {
        w->ops.try_lock = noted_try_lock;
        w->ops.unlock = unlock_by_name;
        *ret = &w->base;
    }
    return rc;
}

/* The number that everybody is told is always the same. */
static struct cm_grant with_fence(const struct cm_grant *grant)
{
    struct cm_grant g = *grant;

    g.fence = (uint64_t)(uintptr_t)grant->state;
    g.state = NULL;
    return g;
}

static cm_status same_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                               int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                               struct cm_err *err)
{
    cm_status rc = cm_storage_try_lock(of(st)->inner, op, name, ttl_ns, ret, ret_wait_ns, err);

    if (rc == CM_OK) {
        ret->state = (void *)(uintptr_t)ret->fence;
        ret->fence = 7;
    }
    return rc;
}

static cm_status same_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                              struct cm_err *err)
{
    struct cm_grant g = with_fence(grant);

    return cm_storage_refresh(of(st)->inner, op, &g, err);
}

static cm_status same_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                             struct cm_err *err)
{
    struct cm_grant g = with_fence(grant);

    return cm_storage_unlock(of(st)->inner, op, &g, err);
}

CM_API cm_status open_same_fence(const char *url, const struct cm_storage_open_options *opts,
                                 struct cm_storage **ret, struct cm_err *err);
cm_status open_same_fence(const char *url, const struct cm_storage_open_options *opts,
                          struct cm_storage **ret, struct cm_err *err)
{
    struct wrong *w = NULL;
    cm_status rc = open_over(url, opts, &w, err); /* of memory: its grants have no state */

    if (rc == CM_OK) {
        w->ops.try_lock = same_try_lock;
        w->ops.refresh = same_refresh;
        w->ops.unlock = same_unlock;
        *ret = &w->base;
    }
    return rc;
}

/* Leases end by the clock of whoever asks: here the stamp lies in a value. */
static cm_status own_clock_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                    int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                    struct cm_err *err)
{
    struct cm_buf stamp = CM_BUF_INIT(64);
    char key[CM_STORAGE_KEY_MAX + 1];
    char text[32];
    int64_t now_ns = of(st)->env->wall_ns(of(st)->env);
    int64_t until_ns = 0;
    cm_status rc;

    (void)snprintf(key, sizeof key, "stamps/%.255s", name);
    if (cm_storage_load(of(st)->inner, op, key, &stamp, NULL) == CM_OK)
        until_ns = strtoll(cm_buf_str(&stamp), NULL, 10);
    cm_buf_free(&stamp);
    rc = cm_storage_try_lock(of(st)->inner, op, name, 100, ret, ret_wait_ns, err);
    if (rc == CM_OK && until_ns > now_ns) {
        cm_storage_drop(of(st)->inner, ret);
        return cm_fail(err, CM_E_BUSY, "lock '%s' is held by another", name);
    }
    (void)snprintf(text, sizeof text, "%lld", (long long)(now_ns + ttl_ns));
    return rc == CM_OK ? cm_storage_store(of(st)->inner, op, key, cm_span_str(text), err) : rc;
}
FAULT(own_clock, try_lock, own_clock_try_lock)

/* ------------------------------------------------------------------- commit */

static cm_status unfenced_commit(struct cm_storage *st, const struct cm_op *op,
                                 const struct cm_grant *grant, const struct cm_commit_item *items,
                                 size_t n, struct cm_err *err)
{
    (void)grant;
    return cm_storage_commit(of(st)->inner, op, NULL, items, n, err);
}
FAULT(unfenced_commit, commit, unfenced_commit)

static cm_status single_commit(struct cm_storage *st, const struct cm_op *op,
                               const struct cm_grant *grant, const struct cm_commit_item *items,
                               size_t n, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = cm_storage_commit(of(st)->inner, op, grant, &items[i], 1, err);
    return rc;
}
FAULT(single_commit, commit, single_commit)
