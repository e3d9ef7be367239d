/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"
#include "snapshot.h"

#include <string.h>

/* When the snapshot is written and what is taken from it. Storage comes first whenever it answers:
 * the snapshot is asked only for a name that storage failed to tell anything of, and what it gives
 * is served until storage can be asked again (tend.c). */

#define SETTLE_MS  2000           /* after a change: others come with it */
#define EVERY_MS   INT64_C(60000) /* not more often */
#define READING_NS (30 * CM_NS_PER_S)
#define LOADING_MS INT64_C(60000) /* loading that takes longer is not waited for */

enum reading { NOT_READ, IS_BEING_READ, HAS_BEEN_READ };

struct cm_snapshot {
    struct cm_config *cfg;
    char *path;
    uint8_t key[CM_SEAL_KEY_LEN];
    struct cm_task task;
    struct cm_run run;
    _Atomic bool changed; /* since the last time */
    _Atomic int64_t changed_ms;
    _Atomic int64_t written_ms;

    pthread_mutex_t lock; /* a leaf; guards what follows */
    pthread_cond_t read;
    enum reading reading;
    struct cm_snapshot_reader *old; /* what was there at the start; immutable once set */
};

/* ---- the key ---- */

/* 32 bytes, or 64 hex digits. */
static cm_status read_key(const char *path, uint8_t out[CM_SEAL_KEY_LEN], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(2 * CM_SEAL_KEY_LEN + 3);
    cm_status rc = cm_read_private_file(path, &text, err);
    size_t len = text.len;

    if (rc != CM_OK && rc != CM_E_LIMIT)
        return cm_wrap(err, rc, "option snapshot_key_file");
    if (rc == CM_OK && len == CM_SEAL_KEY_LEN) {
        memcpy(out, text.data, CM_SEAL_KEY_LEN);
        return CM_OK;
    }
    while (len > 0 && (text.data[len - 1] == '\n' || text.data[len - 1] == '\r'))
        len--;
    if (rc == CM_OK && len == (size_t)2 * CM_SEAL_KEY_LEN &&
        cm_hex_decode((const char *)text.data, CM_SEAL_KEY_LEN, out))
        return CM_OK;
    return cm_fail(err, CM_E_INVAL,
                   "option snapshot_key_file: '%s' has neither %u bytes nor %u hex digits", path,
                   CM_SEAL_KEY_LEN, 2 * CM_SEAL_KEY_LEN);
}

/* ---- writing ---- */

/* All names: they live as long as the config. */
static cm_status collect(struct cm_names *t, struct cm_managed ***ret, size_t *ret_n)
{
    cm_mutex_lock(&t->lock);
    struct cm_managed **all = cm_calloc(t->n, sizeof(struct cm_managed *));
    size_t n = 0;

    for (size_t i = 0; i < t->n_buckets && all != NULL; i++)
        for (struct cm_managed *m = t->buckets[i]; m != NULL; m = m->next)
            all[n++] = m;
    cm_mutex_unlock(&t->lock);
    if (all == NULL)
        return CM_E_NOMEM;
    *ret = all;
    *ret_n = n;
    return CM_OK;
}

static cm_status write_cert(struct cm_snapshot_writer *w, const char *name,
                            const struct cm_cert *cert, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf chain_pem = CM_BUF_INIT(CM_PEM_FILE_MAX);
    struct cm_key *key = NULL;

    cm_status rc = cm_cert_chain_pem(cert, &chain_pem, err);
    if (rc == CM_OK)
        rc = cm_cert_key(cert, &key, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, &key_pem, err);
    if (rc == CM_OK) {
        const struct cm_snapshot_entry e = { cm_span_str(name),
                                             cm_span_str(cm_cert_issuer_key(cert)),
                                             cm_buf_span(&chain_pem), cm_buf_span(&key_pem) };

        rc = cm_snapshot_add(w, &e, err);
    }
    cm_key_unref(key);
    return rc;
}

static cm_status write_all(struct cm_snapshot *s, size_t *ret_n, struct cm_err *err)
{
    const struct cm_op op = { s->cfg->env, 0, s->cfg->stop };
    CM_AUTO_FREE struct cm_managed **all = NULL;
    struct cm_snapshot_writer *w = NULL;
    size_t n = 0;
    size_t written = 0;

    cm_status rc = collect(s->cfg->names, &all, &n);
    if (rc != CM_OK)
        return cm_fail_nomem(err);
    rc = cm_snapshot_create(s->cfg->env, s->path, s->key, &w, err);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        struct cm_cert *cert = cm_managed_cert(all[i]);

        rc = cm_op_check(&op, err);
        if (rc == CM_OK && cert != NULL) {
            rc = write_cert(w, cm_managed_host(all[i]), cert, err);
            written++;
        }
        cm_cert_unref(cert);
    }
    if (rc != CM_OK) {
        cm_snapshot_abandon(w);
        return rc;
    }
    *ret_n = written;
    return cm_snapshot_commit(w, err);
}

static void plan(struct cm_snapshot *s)
{
    int64_t now_ms = cm_wall_ms(s->cfg->env);
    int64_t next_ms = atomic_load(&s->written_ms) + EVERY_MS;
    int64_t at_ms = now_ms + SETTLE_MS;

    if (next_ms > at_ms && next_ms <= now_ms + EVERY_MS) /* else the clock was put back */
        at_ms = next_ms;
    cm_maint_at(cm_cache_maint(s->cfg->cache), &s->task, at_ms);
}

static void run(struct cm_run *self)
{
    struct cm_snapshot *s = CM_CONTAINER_OF(self, struct cm_snapshot, run);
    struct cm_config *cfg = s->cfg;
    struct cm_err err = CM_ERR_INIT;
    size_t n = 0;

    atomic_store(&s->changed, false); /* what changes from here on is for the next time */
    cm_status rc = write_all(s, &n, &err);
    atomic_store(&s->written_ms, cm_wall_ms(cfg->env));
    if (rc == CM_OK) {
        cm_logf(&cfg->log, CM_LOG_INFO, "snapshot_written", NULL, 0,
                "snapshot '%s' written: %zu certificates", s->path, n);
    } else if (rc != CM_E_CANCELED) {
        cm_logf(&cfg->log, CM_LOG_ERROR, "snapshot_not_written", NULL, 0,
                "write snapshot '%s': %s; the old one stays, another try is made in a minute",
                s->path, err.msg);
        if (!atomic_exchange(&s->changed, true))
            plan(s);
    }
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

/* Not in the middle of a start: half of the names would take the place of all. */
static bool is_loading(struct cm_snapshot *s)
{
    return cm_runq_length(s->cfg->io) > 0 &&
           cm_wall_ms(s->cfg->env) - atomic_load(&s->changed_ms) < LOADING_MS;
}

static void fire(struct cm_task *t)
{
    struct cm_snapshot *s = CM_CONTAINER_OF(t, struct cm_snapshot, task);
    struct cm_maint *mt = cm_cache_maint(s->cfg->cache);

    if (is_loading(s)) {
        plan(s);
        return;
    }
    s->run.run = run;
    cm_maint_enter(mt, 1);
    if (cm_runq_push_first(s->cfg->idle, &s->run, NULL) == CM_OK)
        return;
    cm_maint_leave(mt); /* the config goes, or no thread is to be had */
    plan(s);
}

void cm_snapshot_changed(struct cm_config *cfg)
{
    struct cm_snapshot *s = cfg->snapshot;

    if (s == NULL || atomic_load_explicit(&s->changed, memory_order_relaxed) ||
        atomic_exchange(&s->changed, true))
        return;
    atomic_store(&s->changed_ms, cm_wall_ms(cfg->env));
    plan(s);
}

/* ---- reading ---- */

static struct cm_snapshot_reader *read_old(struct cm_snapshot *s)
{
    struct cm_config *cfg = s->cfg;
    struct cm_snapshot_reader *r = NULL;
    struct cm_err err = CM_ERR_INIT;

    cm_status rc = cm_snapshot_read(s->path, s->key, &r, &err);
    if (rc == CM_OK) {
        int64_t age_s = (cfg->env->wall_ns(cfg->env) - cm_snapshot_written_ns(r)) / CM_NS_PER_S;

        cm_logf(
            &cfg->log, CM_LOG_WARN, "snapshot_used", NULL, 0,
            "storage %s cannot be read; what it does not tell is taken from snapshot '%s', which "
            "has %zu certificates and is %lld s old",
            cm_storage_describe(cfg->storage), s->path, cm_snapshot_count(r), (long long)age_s);
        return r;
    }
    cm_logf(&cfg->log, rc == CM_E_NOTFOUND ? CM_LOG_INFO : CM_LOG_WARN, "snapshot_unusable", NULL,
            0, "%s; there is nothing to start from without storage", err.msg);
    return NULL;
}

/* Read it once, when it is first needed; whoever comes meanwhile waits. */
static const struct cm_snapshot_reader *old_of(struct cm_snapshot *s, const struct cm_op *op)
{
    const struct cm_snapshot_reader *old;
    struct cm_snapshot_reader *r = NULL;
    bool mine;

    cm_mutex_lock(&s->lock);
    mine = s->reading == NOT_READ;
    if (mine)
        s->reading = IS_BEING_READ;
    while (s->reading == IS_BEING_READ && !mine && cm_op_check(op, NULL) == CM_OK)
        (void)cm_cond_wait_ns(&s->read, &s->lock, CM_WAIT_SLICE_NS);
    cm_mutex_unlock(&s->lock);
    if (mine)
        r = read_old(s);
    cm_mutex_lock(&s->lock);
    if (mine) {
        s->old = r;
        s->reading = HAS_BEEN_READ;
        (void)pthread_cond_broadcast(&s->read);
    }
    old = s->old;
    cm_mutex_unlock(&s->lock);
    return old;
}

cm_status cm_snapshot_load(struct cm_config *cfg, const struct cm_op *op, const char *name,
                           struct cm_cert **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_SECRET(2 * CM_PEM_FILE_MAX);
    int64_t now_s = cm_env_wall_s(cfg->env);
    struct cm_snapshot_entry e;
    struct cm_cert *cert = NULL;
    char issuer_key[256];

    if (cfg->snapshot == NULL)
        return cm_fail(err, CM_E_NOTFOUND, "there is no snapshot");
    const struct cm_op own = { cfg->env, 0, op->cancel }; /* storage may have had the time of @op */
    const struct cm_op within = cm_op_within(&own, READING_NS);
    const struct cm_snapshot_reader *old = old_of(cfg->snapshot, &within);
    if (old == NULL)
        return cm_fail(err, CM_E_NOTFOUND, "there is no snapshot");
    cm_status rc = cm_snapshot_find(old, name, &buf, &e, err);
    if (rc == CM_OK && e.issuer_key.len >= sizeof issuer_key)
        rc = cm_fail(err, CM_E_PARSE, "the issuer of '%s' in the snapshot is too long", name);
    if (rc != CM_OK)
        return rc;
    memcpy(issuer_key, e.issuer_key.data, e.issuer_key.len);
    issuer_key[e.issuer_key.len] = '\0';
    rc = cm_cert_from_pem(e.chain_pem, e.key_pem, issuer_key, NULL, CM_CERT_MANAGED, &cert, err);
    if (rc != CM_OK)
        return rc;
    if (!cm_cert_covers(cert, name) || !cm_cert_is_valid_at(cert, now_s, CM_CERT_SKEW_S) ||
        cm_revoked_is(cfg, cert, NULL)) {
        cm_cert_unref(cert);
        return cm_fail(err, CM_E_NOTFOUND, "what the snapshot has for '%s' is of no use now", name);
    }
    *ret = cert;
    return CM_OK;
}

/* ---- beginning and end ---- */

cm_status cm_snapshot_new(struct cm_config *cfg, const char *path, const char *key_file,
                          struct cm_snapshot **ret, struct cm_err *err)
{
    struct cm_snapshot *s;

    if (key_file == NULL || key_file[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "option snapshot: it needs a snapshot_key_file");
    s = cm_calloc(1, sizeof *s);
    if (s == NULL)
        return cm_fail_nomem(err);
    s->cfg = cfg;
    cm_task_init(&s->task, cfg, fire);
    cm_mutex_init(&s->lock);
    cm_cond_init(&s->read);
    atomic_store(&s->written_ms, INT64_MIN / 2);
    s->path = cm_strdup(path);
    cm_status rc = s->path != NULL ? read_key(key_file, s->key, err) : cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        cm_snapshot_free(s);
        return rc;
    }
    *ret = s;
    return CM_OK;
}

void cm_snapshot_free(struct cm_snapshot *s)
{
    if (s == NULL)
        return;
    cm_snapshot_reader_free(s->old);
    cm_wipe(s->key, sizeof s->key);
    (void)pthread_cond_destroy(&s->read);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s);
}
