/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <dlfcn.h>

/* Where the tests work: a storage seen through a prefix, so that nothing of anybody else's is read
 * or changed. Names of locks have it, too. */

#define PREFIX_WORD "certmesh-storage-test-"

char kit_prefix[64];

void kit_place_name(void)
{
    const struct cm_env *env = cm_env_system();
    uint32_t number = 0;

    kit_prefix[0] = '\0';
    if (kit.whole)
        return;
    if (env->random(env, &number, sizeof number) != CM_OK)
        number = (uint32_t)env->mono_ns(env);
    (void)snprintf(kit_prefix, sizeof kit_prefix, PREFIX_WORD "%08" PRIx32, number);
}

/* ------------------------------------------------------------------ opening */

static cm_status plugin_of(kit_open_fn *ret, struct cm_err *err)
{
    const char *colon = strrchr(kit.plugin, ':');
    char path[4096];
    void *symbol = NULL;
    void *lib = NULL;

    if (colon == NULL || colon == kit.plugin || colon[1] == '\0')
        return cm_fail(err, CM_E_INVAL, "--plugin '%.200s' is not FILE.so:SYMBOL", kit.plugin);
    /* without a '/' the loader would look in the places of system libraries */
    (void)snprintf(path, sizeof path, "%s%.*s",
                   memchr(kit.plugin, '/', (size_t)(colon - kit.plugin)) != NULL ? "" : "./",
                   (int)(colon - kit.plugin), kit.plugin);
    lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (lib == NULL)
        return cm_fail(err, CM_E_INVAL, "--plugin: %s", dlerror());
    symbol = dlsym(lib, colon + 1);
    if (symbol == NULL)
        return cm_fail(err, CM_E_INVAL, "--plugin: %s", dlerror());
    memcpy(ret, &symbol, sizeof *ret);
    return CM_OK;
}

cm_status kit_open_raw(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                       struct cm_err *err)
{
    static kit_open_fn open_fn;
    cm_status rc = CM_OK;

    if (open_fn == NULL && kit.plugin != NULL)
        rc = plugin_of(&open_fn, err);
    else if (open_fn == NULL)
        open_fn = cm_storage_open;
    return rc == CM_OK ? open_fn(kit.url, opts, ret, err) : rc;
}

cm_status kit_open(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                   struct cm_err *err)
{
    struct cm_storage *raw = NULL;
    cm_status rc = kit_open_raw(opts, &raw, err);

    if (rc != CM_OK || kit_prefix[0] == '\0') {
        if (rc == CM_OK)
            *ret = raw;
        return rc;
    }
    return kit_below(raw, kit_prefix, ret, err);
}

/* ------------------------------------------------------------------ clearing */

struct names {
    char (*v)[CM_STORAGE_KEY_MAX + 1];
    size_t n;
};

static cm_status name_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct names *names = user;
    void *grown = realloc(names->v, (names->n + 1) * sizeof names->v[0]);

    if (grown == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    names->v = grown;
    (void)snprintf(names->v[names->n++], sizeof names->v[0], "%s", info->key);
    return CM_OK;
}

cm_status kit_clear(struct cm_err *err)
{
    struct cm_storage *st = NULL;
    struct names names = { NULL, 0 };
    cm_status rc = kit_open_raw(NULL, &st, err);

    if (rc != CM_OK)
        return rc;
    if (kit_prefix[0] != '\0')
        rc = cm_storage_remove(st, NULL, kit_prefix, err);
    else
        rc = cm_storage_list(st, NULL, "", false, name_one, &names, err);
    for (size_t i = 0; i < names.n && rc == CM_OK; i++)
        rc = cm_storage_remove(st, NULL, names.v[i], err);
    free(names.v);
    cm_storage_close(st);
    return rc;
}

/* ------------------------------------------------------- below a prefix */

struct below {
    struct cm_storage base;
    struct cm_storage_ops ops;
    struct cm_storage *inner;
    char prefix[64]; /* with the '/' */
    size_t len;
};

#define WITH_PREFIX (CM_STORAGE_KEY_MAX + 64)

static struct below *below_of(struct cm_storage *st)
{
    return (struct below *)(void *)st;
}

/* "" becomes the prefix itself, without its '/'. */
static const char *longer(struct cm_storage *st, const char *key, char out[WITH_PREFIX])
{
    const struct below *b = below_of(st);

    if (key[0] == '\0')
        (void)snprintf(out, WITH_PREFIX, "%.*s", (int)b->len - 1, b->prefix);
    else
        (void)snprintf(out, WITH_PREFIX, "%s%s", b->prefix, key);
    return out;
}

static cm_status below_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_span value, struct cm_err *err)
{
    char full[WITH_PREFIX];

    return cm_storage_store(below_of(st)->inner, op, longer(st, key, full), value, err);
}

static cm_status below_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_buf *ret, struct cm_err *err)
{
    char full[WITH_PREFIX];

    return cm_storage_load(below_of(st)->inner, op, longer(st, key, full), ret, err);
}

static cm_status below_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_err *err)
{
    char full[WITH_PREFIX];

    return cm_storage_remove(below_of(st)->inner, op, longer(st, key, full), err);
}

static cm_status below_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_key_info *ret, struct cm_err *err)
{
    char full[WITH_PREFIX];

    return cm_storage_stat(below_of(st)->inner, op, longer(st, key, full), ret, err);
}

struct shorten {
    const struct below *b;
    cm_list_fn each;
    void *user;
};

static cm_status shorten_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    const struct shorten *s = user;
    struct cm_key_info shorter = *info;

    if (strncmp(info->key, s->b->prefix, s->b->len) != 0)
        return cm_fail(err, CM_E_INTERNAL, "list of '%s' shows '%s'", s->b->prefix, info->key);
    shorter.key = info->key + s->b->len;
    return s->each(s->user, &shorter, err);
}

static cm_status below_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                            bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    struct shorten s = { below_of(st), each, user };
    char full[WITH_PREFIX];

    return cm_storage_list(below_of(st)->inner, op, longer(st, prefix, full), recursive,
                           shorten_one, &s, err);
}

static cm_status below_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                                  const char *after, bool recursive, cm_list_fn each, void *user,
                                  struct cm_err *err)
{
    struct shorten s = { below_of(st), each, user };
    char full[WITH_PREFIX];
    char full_after[WITH_PREFIX];

    return cm_storage_list_after(below_of(st)->inner, op, longer(st, prefix, full),
                                 longer(st, after, full_after), recursive, shorten_one, &s, err);
}

static cm_status below_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                struct cm_err *err)
{
    struct cm_grant grant;
    char full[WITH_PREFIX];
    cm_status rc = cm_storage_try_lock(below_of(st)->inner, op, longer(st, name, full), ttl_ns,
                                       &grant, ret_wait_ns, err);

    if (rc == CM_OK) {
        memcpy(ret->token, grant.token, sizeof ret->token);
        ret->fence = grant.fence;
        ret->ttl_ns = grant.ttl_ns;
        ret->state = grant.state;
    }
    return rc;
}

/* The grant as the inner storage gave it. */
static struct cm_grant inner_grant(struct cm_storage *st, const struct cm_grant *grant)
{
    struct cm_grant inner = *grant;
    char full[WITH_PREFIX];

    (void)longer(st, grant->name, full);
    memcpy(inner.name, full, strnlen(full, CM_LOCK_NAME_MAX) + 1);
    inner.name[CM_LOCK_NAME_MAX] = '\0';
    return inner;
}

static cm_status below_refresh(struct cm_storage *st, const struct cm_op *op,
                               struct cm_grant *grant, struct cm_err *err)
{
    struct cm_grant inner = inner_grant(st, grant);

    return cm_storage_refresh(below_of(st)->inner, op, &inner, err);
}

static cm_status below_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                              struct cm_err *err)
{
    struct cm_grant inner = inner_grant(st, grant);

    return cm_storage_unlock(below_of(st)->inner, op, &inner, err);
}

static void below_drop(struct cm_storage *st, struct cm_grant *grant)
{
    struct cm_grant inner = inner_grant(st, grant);

    cm_storage_drop(below_of(st)->inner, &inner);
}

static cm_status below_commit(struct cm_storage *st, const struct cm_op *op,
                              const struct cm_grant *grant, const struct cm_commit_item *items,
                              size_t n, struct cm_err *err)
{
    struct cm_commit_item full[CM_COMMIT_MAX];
    char(*keys)[WITH_PREFIX] = calloc(n, sizeof *keys);
    struct cm_grant inner;
    cm_status rc;

    if (keys == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        full[i] = items[i];
        full[i].key = longer(st, items[i].key, keys[i]);
    }
    if (grant != NULL)
        inner = inner_grant(st, grant);
    rc = cm_storage_commit(below_of(st)->inner, op, grant != NULL ? &inner : NULL, full, n, err);
    free(keys);
    return rc;
}

static const char *below_describe(struct cm_storage *st)
{
    return cm_storage_describe(below_of(st)->inner);
}

static void below_destroy(struct cm_storage *st)
{
    cm_storage_close(below_of(st)->inner);
    free(st);
}

static cm_status below_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                                 struct cm_lock_info *ret, struct cm_err *err)
{
    char full[WITH_PREFIX];

    return cm_storage_lock_info(below_of(st)->inner, op, longer(st, name, full), ret, err);
}

static cm_status below_load_many(struct cm_storage *st, const struct cm_op *op,
                                 const char *const *keys, size_t n, cm_load_fn each, void *user,
                                 struct cm_err *err)
{
    char(*full)[WITH_PREFIX] = calloc(n, sizeof *full);
    const char **at = calloc(n, sizeof *at);
    cm_status rc = CM_OK;

    if (full == NULL || at == NULL)
        rc = cm_fail(err, CM_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        at[i] = longer(st, keys[i], full[i]);
    if (rc == CM_OK)
        rc = cm_storage_load_many(below_of(st)->inner, op, at, n, each, user, err);
    free(full);
    free(at);
    return rc;
}

struct below_watch {
    struct cm_watch *inner;
    const struct below *b;
    cm_change_fn fn;
    void *user;
};

static void pass_on(void *user, const struct cm_change *change)
{
    const struct below_watch *w = user;
    struct cm_change shorter = *change;

    if (change->key != NULL) {
        if (strncmp(change->key, w->b->prefix, w->b->len) != 0)
            return; /* somebody else's */
        shorter.key = change->key + w->b->len;
    }
    w->fn(w->user, &shorter);
}

static cm_status below_watch(struct cm_storage *st, cm_change_fn fn, void *user,
                             struct cm_watch **ret, struct cm_err *err)
{
    struct below_watch *w = calloc(1, sizeof *w);
    cm_status rc;

    if (w == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    *w = (struct below_watch){ NULL, below_of(st), fn, user };
    rc = cm_storage_watch(w->b->inner, pass_on, w, &w->inner, err);
    if (rc == CM_OK)
        *ret = (struct cm_watch *)(void *)w;
    else
        free(w);
    return rc;
}

static void below_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    struct below_watch *w = (struct below_watch *)(void *)watch;

    cm_storage_unwatch(below_of(st)->inner, w->inner);
    free(w);
}

static const struct cm_storage_ops below_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .store = below_store,
    .load = below_load,
    .remove = below_remove,
    .stat = below_stat,
    .list = below_list,
    .list_after = below_list_after,
    .try_lock = below_try_lock,
    .refresh = below_refresh,
    .unlock = below_unlock,
    .drop = below_drop,
    .commit = below_commit,
    .describe = below_describe,
    .destroy = below_destroy,
    .lock_info = below_lock_info,
    .load_many = below_load_many,
    .watch = below_watch,
    .unwatch = below_unwatch,
};

#define HAS(st, op)                                                                                \
    ((st)->ops->size >= offsetof(struct cm_storage_ops, op) + sizeof((st)->ops->op) &&             \
     (st)->ops->op != NULL)

cm_status kit_below(struct cm_storage *st, const char *prefix, struct cm_storage **ret,
                    struct cm_err *err)
{
    struct below *b = calloc(1, sizeof *b);

    if (b == NULL) {
        cm_storage_close(st);
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    }
    b->inner = st;
    b->ops = below_ops;
    b->ops.name = st->ops->name;
    /* what the storage cannot do, this cannot either */
    if (!HAS(st, lock_info))
        b->ops.lock_info = NULL;
    if (!HAS(st, load_many))
        b->ops.load_many = NULL;
    if (!HAS(st, watch)) {
        b->ops.watch = NULL;
        b->ops.unwatch = NULL;
    }
    b->base.ops = &b->ops;
    b->len = (size_t)snprintf(b->prefix, sizeof b->prefix, "%s/", prefix);
    *ret = &b->base;
    return CM_OK;
}
