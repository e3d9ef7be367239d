/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "run.h"

#include <poll.h>

/* ---- clock ---- */

static int64_t kit_wall(const struct cm_env *env)
{
    const struct kit_env *e = (const struct kit_env *)env;

    return START_S * CM_NS_PER_S + atomic_load(&e->elapsed_ns) + atomic_load(&e->wrong_ns);
}

static int64_t kit_mono(const struct cm_env *env)
{
    const struct kit_env *e = (const struct kit_env *)env;

    return CM_NS_PER_S + atomic_load(&e->elapsed_ns);
}

static cm_status kit_random(const struct cm_env *env, void *out, size_t len)
{
    const struct cm_env *real = cm_env_system();

    (void)env;
    return real->random(real, out, len);
}

static cm_status kit_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    (void)env;
    struct pollfd p = { .fd = cm_cancel_fd(cancel), .events = POLLIN };

    (void)poll(&p, 1, ns > 2 * CM_NS_PER_MS ? 2 : 1);
    return cm_cancel_is_fired(cancel) ? CM_E_CANCELED : CM_OK;
}

void kit_env_init(struct kit_env *e)
{
    e->base = (struct cm_env){ .abi = CM_ENV_ABI,
                               .size = (uint32_t)sizeof e->base,
                               .wall_ns = kit_wall,
                               .mono_ns = kit_mono,
                               .random = kit_random,
                               .wait = kit_wait };
    atomic_init(&e->elapsed_ns, 0);
    atomic_init(&e->wrong_ns, 0);
}

void kit_pass(struct kit_env *e, int64_t ns)
{
    (void)atomic_fetch_add(&e->elapsed_ns, ns);
}

void kit_nap(void)
{
    (void)poll(NULL, 0, 1);
}

/* ---- storage ---- */

static struct kit_storage *of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct kit_storage, base);
}

static cm_status fault(struct kit_storage *s, _Atomic int *left, const char *key,
                       struct cm_err *err)
{
    if (atomic_load(left) == 0 || (s->fail_key != NULL && strstr(key, s->fail_key) == NULL))
        return CM_OK;
    if (atomic_load(left) > 0)
        (void)atomic_fetch_sub(left, 1);
    return cm_fail(err, (cm_status)atomic_load(&s->fail_status), "injected fault at '%s'", key);
}

static cm_status st_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_span value, struct cm_err *err)
{
    struct kit_storage *s = of(st);

    (void)atomic_fetch_add(&s->stores, 1);
    cm_status rc = fault(s, &s->fail_stores, key, err);
    return rc == CM_OK ? cm_storage_store(s->inner, op, key, value, err) : rc;
}

static cm_status st_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                         struct cm_buf *ret, struct cm_err *err)
{
    struct kit_storage *s = of(st);

    (void)atomic_fetch_add(&s->loads, 1);
    if (s->on_load != NULL)
        s->on_load(s, key);
    cm_status rc = fault(s, &s->fail_loads, key, err);
    return rc == CM_OK ? cm_storage_load(s->inner, s->deaf ? NULL : op, key, ret, err) : rc;
}

static cm_status st_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_err *err)
{
    (void)atomic_fetch_add(&of(st)->removes, 1);
    return cm_storage_remove(of(st)->inner, op, key, err);
}

static cm_status st_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                         struct cm_key_info *ret, struct cm_err *err)
{
    struct kit_storage *s = of(st);

    (void)atomic_fetch_add(&s->stats, 1);
    cm_status rc = fault(s, &s->fail_stats, key, err);
    return rc == CM_OK ? cm_storage_stat(s->inner, op, key, ret, err) : rc;
}

static cm_status st_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                         bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    (void)atomic_fetch_add(&of(st)->lists, 1);
    return cm_storage_list(of(st)->inner, op, prefix, recursive, each, user, err);
}

static cm_status st_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                             int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                             struct cm_err *err)
{
    struct kit_storage *s = of(st);

    (void)atomic_fetch_add(&s->locks, 1);
    cm_status rc = fault(s, &s->fail_locks, name, err);
    return rc == CM_OK ? cm_storage_try_lock(s->inner, op, name, ttl_ns, ret, ret_wait_ns, err)
                       : rc;
}

static cm_status st_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                            struct cm_err *err)
{
    return cm_storage_refresh(of(st)->inner, op, grant, err);
}

static cm_status st_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                           struct cm_err *err)
{
    return cm_storage_unlock(of(st)->inner, op, grant, err);
}

static void st_drop(struct cm_storage *st, struct cm_grant *grant)
{
    cm_storage_drop(of(st)->inner, grant);
}

static cm_status st_commit(struct cm_storage *st, const struct cm_op *op,
                           const struct cm_grant *grant, const struct cm_commit_item *items,
                           size_t n, struct cm_err *err)
{
    struct kit_storage *s = of(st);

    (void)atomic_fetch_add(&s->commits, 1);
    cm_status rc = fault(s, &s->fail_commits, items[0].key, err);
    return rc == CM_OK ? cm_storage_commit(s->inner, op, grant, items, n, err) : rc;
}

static cm_status st_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                              struct cm_lock_info *ret, struct cm_err *err)
{
    return cm_storage_lock_info(of(st)->inner, op, name, ret, err);
}

static void pass_on(void *user, const struct cm_change *change)
{
    const struct kit_watch *w = user;

    if (!atomic_load(&w->of->quiet))
        w->fn(w->user, change);
}

static cm_status st_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                          struct cm_err *err)
{
    struct kit_storage *s = of(st);

    if (!s->has_feed)
        return cm_fail(err, CM_E_UNSUPPORTED, "this one tells nothing");
    cm_status failed = fault(s, &s->fail_watches, "", err);
    if (failed != CM_OK)
        return failed;
    struct kit_watch *w = &s->watches[atomic_fetch_add(&s->n_watches, 1)];
    w->of = s;
    w->user = user;
    w->fn = fn;
    cm_status rc = cm_storage_watch(s->inner, pass_on, w, &w->inner, err);
    *ret = (struct cm_watch *)(void *)w;
    return rc;
}

static void st_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    struct kit_watch *w = (struct kit_watch *)(void *)watch;

    cm_storage_unwatch(of(st)->inner, w->inner);
    w->fn = NULL;
}

void kit_tell(struct kit_storage *s, enum cm_change_kind kind, const char *key)
{
    const struct cm_change change = { (uint32_t)sizeof change, kind, key };

    for (unsigned i = 0; i < atomic_load(&s->n_watches); i++)
        if (s->watches[i].fn != NULL)
            s->watches[i].fn(s->watches[i].user, &change);
}

static const char *st_describe(struct cm_storage *st)
{
    return cm_storage_describe(of(st)->inner);
}

static void st_destroy(struct cm_storage *st)
{
    (void)st;
}

/* What fails for one key, fails for that key. */
static cm_status st_load_many(struct cm_storage *st, const struct cm_op *op,
                              const char *const *keys, size_t n, cm_load_fn each, void *user,
                              struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    struct kit_storage *s = of(st);
    bool fails = atomic_load(&s->fail_many) != 0;
    size_t most = fails ? (size_t)atomic_load(&s->many_before) : n;
    cm_status rc = CM_OK;

    (void)atomic_fetch_add(&s->many_calls, 1);
    if (n > atomic_load(&s->most_keys))
        atomic_store(&s->most_keys, (unsigned)n);
    if (fails && atomic_load(&s->fail_many) > 0)
        (void)atomic_fetch_sub(&s->fail_many, 1);
    if (s->on_many != NULL)
        s->on_many(s, op, n);
    for (size_t i = 0; i < n && i < most && rc == CM_OK; i++) {
        struct cm_err why = CM_ERR_INIT;
        cm_status got = fault(s, &s->fail_loads, keys[i], &why);

        if (got == CM_OK)
            got = cm_storage_load(s->inner, op, keys[i], &value, &why);
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = each(user, i, got, cm_buf_span(&value), &why, err);
        cm_buf_reset(&value);
    }
    if (rc == CM_OK && fails)
        rc = cm_fail(err, (cm_status)atomic_load(&s->fail_status), "injected fault in the middle");
    return rc;
}

static const struct cm_storage_ops kit_storage_ops = { .abi = CM_SPI_ABI,
                                                       .size = (uint32_t)sizeof kit_storage_ops,
                                                       .name = "kit",
                                                       .store = st_store,
                                                       .load = st_load,
                                                       .remove = st_remove,
                                                       .stat = st_stat,
                                                       .list = st_list,
                                                       .try_lock = st_try_lock,
                                                       .refresh = st_refresh,
                                                       .unlock = st_unlock,
                                                       .drop = st_drop,
                                                       .commit = st_commit,
                                                       .describe = st_describe,
                                                       .destroy = st_destroy,
                                                       .lock_info = st_lock_info,
                                                       .watch = st_watch,
                                                       .unwatch = st_unwatch };

void kit_storage_loads_many(struct kit_storage *s)
{
    static struct cm_storage_ops ops;

    ops = kit_storage_ops;
    ops.load_many = st_load_many;
    s->base.ops = &ops;
}

void kit_storage_init(struct kit_storage *s, struct kit_env *e)
{
    struct cm_storage_open_options so = CM_STORAGE_OPEN_OPTIONS_INIT;
    struct cm_err err;

    memset(s, 0, sizeof *s);
    s->base.ops = &kit_storage_ops;
    atomic_store(&s->fail_status, CM_E_IO);
    so.env = &e->base;
    ck_ok(cm_storage_open("memory:", &so, &s->inner, &err));
}

void kit_storage_free(struct kit_storage *s)
{
    cm_storage_close(s->inner);
}

void kit_put(struct cm_storage *st, const char *key, const char *value)
{
    struct cm_err err;

    ck_ok(cm_storage_store(st, NULL, key, cm_span_str(value), &err));
}

bool kit_has(struct cm_storage *st, const char *key)
{
    struct cm_key_info info;

    return cm_storage_stat(st, NULL, key, &info, NULL) == CM_OK;
}

char *kit_get(struct cm_storage *st, const char *key)
{
    struct cm_buf b = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_err err;

    ck_ok(cm_storage_load(st, NULL, key, &b, &err));
    char *text = strdup(cm_buf_str(&b));
    cm_buf_free(&b);
    return text;
}

static cm_status count_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    size_t *n = user;

    (void)info;
    (void)err;
    ++*n;
    return CM_OK;
}

size_t kit_count(struct cm_storage *st, const char *prefix)
{
    struct cm_err err;
    size_t n = 0;

    ck_ok(cm_storage_list(st, NULL, prefix, true, count_one, &n, &err));
    return n;
}

/* ---- log ---- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[256][256];
static size_t log_n;

static void keep_log(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)fields;
    (void)n;
    cm_mutex_lock(&log_lock);
    if (log_n < CM_ARRAY_LEN(log_text))
        (void)snprintf(log_text[log_n++], sizeof log_text[0], "%s: %s", event, msg);
    cm_mutex_unlock(&log_lock);
}

unsigned kit_logged(const char *text)
{
    unsigned n = 0;

    cm_mutex_lock(&log_lock);
    for (size_t i = 0; i < log_n; i++)
        n += strstr(log_text[i], text) != NULL;
    cm_mutex_unlock(&log_lock);
    return n;
}

void kit_log_reset(void)
{
    cm_mutex_lock(&log_lock);
    log_n = 0;
    cm_mutex_unlock(&log_lock);
}

/* ---- config ---- */

void kit_init(struct kit *k)
{
    memset(k, 0, sizeof *k);
    kit_log_reset();
    kit_env_init(&k->env);
    kit_storage_init(&k->storage, &k->env);
    k->opts = (struct cm_config_options)CM_CONFIG_OPTIONS_INIT;
    k->opts.storage_object = &k->storage.base;
    k->opts.env = &k->env.base;
    k->opts.log = (struct cm_log){ keep_log, NULL, CM_LOG_DEBUG };
    k->opts.poll_storage_s = -1;
}

void kit_start(struct kit *k)
{
    struct cm_issuer *is;
    struct cm_err err;

    if (k->opts.issuers == NULL) {
        is = kit_issuer_new(&k->env, "ca.test-dir");
        k->issuer = kit_issuer_of(is);
        k->opts.issuers = &is;
        k->opts.n_issuers = 1;
        ck_ok(cm_config_new(&k->opts, &k->cfg, &err));
        k->opts.issuers = NULL;
        k->opts.n_issuers = 0;
    } else {
        k->issuer = kit_issuer_of(k->opts.issuers[0]);
        ck_ok(cm_config_new(&k->opts, &k->cfg, &err));
    }
}

struct cm_config *kit_peer(struct kit *k, struct kit_issuer **ret_issuer)
{
    struct cm_issuer *is = kit_issuer_new(&k->env, "ca.test-dir");
    struct cm_config_options o = k->opts;
    struct cm_config *cfg = NULL;
    struct cm_err err;

    o.issuers = &is;
    o.n_issuers = 1;
    ck_ok(cm_config_new(&o, &cfg, &err));
    if (ret_issuer != NULL)
        *ret_issuer = kit_issuer_of(is);
    return cfg;
}

void kit_stop(struct kit *k)
{
    cm_config_free(k->cfg);
    kit_storage_free(&k->storage);
}

void kit_hello(struct cm_hello *h, const char *sni)
{
    static const uint16_t suites[] = { 0x1301, 0x1302, 0xC02B, 0xC02F };
    static const uint16_t sigalgs[] = { 0x0403, 0x0804, 0x0401, 0x0503 };
    static const uint16_t groups[] = { 29, 23, 24 };

    memset(h, 0, sizeof *h);
    (void)snprintf(h->server_name, sizeof h->server_name, "%s", sni != NULL ? sni : "");
    memcpy(h->suites, suites, sizeof suites);
    h->n_suites = CM_ARRAY_LEN(suites);
    memcpy(h->sigalgs, sigalgs, sizeof sigalgs);
    h->n_sigalgs = CM_ARRAY_LEN(sigalgs);
    memcpy(h->groups, groups, sizeof groups);
    h->n_groups = CM_ARRAY_LEN(groups);
    h->versions[0] = 0x0304;
    h->versions[1] = 0x0303;
    h->n_versions = 2;
    h->has_versions_ext = true;
}

int kit_run(const char *unit, const TTest *const *tests, size_t n)
{
    return run_tests_how(unit, tests, n, (struct run_how){ .timeout_s = 120 });
}
