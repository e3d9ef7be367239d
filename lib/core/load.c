/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "names.h"

#include <string.h>

/* Loading: what has storage for a name that is managed and not served? Names that are next in the
 * queue are taken together and asked for in one call, since a start has very many of them and each
 * call may be a round trip. What comes for a name and is plainly good is served; what is not (a
 * pair that does not fit, since a writer may be in the middle; one that is not valid now; a value
 * that failed) sends the name back into the queue, to be loaded by itself: so that nothing of one
 * name holds up the others, and there is one place that judges what is odd. */

#define LIMIT_NS          (60 * CM_NS_PER_S)
#define SNAPSHOT_AFTER_NS (5 * CM_NS_PER_S) /* storage that hangs */

#define BATCH_KEYS    256u /* of one call */
#define BATCH_NAMES   (BATCH_KEYS / 2)
#define BATCH_HURRIED 16u                /* names that clients wait for: a quick answer first */
#define BATCH_READY   16u                /* of the worker who keeps himself ready for these */
#define BATCH_LEAST   16u                /* not less for the sake of other workers */
#define BATCH_BYTES   (4u * 1024 * 1024) /* of all values together */

int64_t cm_load_limit_ns(const struct cm_config *cfg)
{
    return cfg->snapshot != NULL ? SNAPSHOT_AFTER_NS : LIMIT_NS;
}

/* ---- one name ---- */

static void serve_loaded(struct cm_managed *m, struct cm_cert *cert, struct cm_outcome *o)
{
    o->rc = cm_managed_serve(m, cert, &o->err);
    o->served = o->rc == CM_OK;
    if (!o->served)
        return;
    cm_recheck(m);
    cm_tend_begin(m, cert);
}

/* Nothing is valid now. What begins in the future means that the clock here is behind: what is had
 * anew would begin later still. */
static bool serve_future(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                         struct cm_outcome *o)
{
    int64_t now_s = cm_env_wall_s(m->cfg->env);
    struct cm_cert *cert = NULL;
    bool future;

    if (cm_store_load(m->cfg, op, s, CM_LOAD_NEWEST, &cert, NULL) != CM_OK)
        return false;
    future = cert->not_before_s > now_s && cert->not_after_s > now_s &&
             !cm_revoked_is(m->cfg, cert, NULL);
    if (future) {
        cm_logf(&m->cfg->log, CM_LOG_WARN, "clock_behind", NULL, 0,
                "the certificate for '%s' begins %lld s from now: is the clock right? It is served "
                "as it is",
                m->name, (long long)(cert->not_before_s - now_s));
        serve_loaded(m, cert, o);
    }
    cm_cert_unref(cert);
    return future;
}

/* Storage tells nothing. */
static bool is_away(cm_status rc)
{
    return rc == CM_E_IO || rc == CM_E_NET || rc == CM_E_TIMEOUT || rc == CM_E_PERM;
}

/* Until it does, what was served before will do. */
static bool serve_snapshot(struct cm_managed *m, const struct cm_op *op, struct cm_outcome *o)
{
    struct cm_cert *cert = NULL;

    if (!is_away(o->rc) || cm_snapshot_load(m->cfg, op, cm_managed_host(m), &cert, NULL) != CM_OK)
        return false;
    if (m->group != NULL && !cm_cert_covers_all(cert, m->group->names, m->group->n)) {
        cm_cert_unref(cert); /* it was managed otherwise then */
        return false;
    }
    if (m->ondemand)
        cm_cache_mark_passing(m->cfg->cache, cert);
    o->served = cm_serve_managed(m->cfg, cert, NULL) == CM_OK;
    if (o->served) {
        cm_recheck(m);
        cm_tend_begin(m, cert);
        m->provisional = true;
        o->rc = CM_OK;
    }
    cm_cert_unref(cert);
    return o->served;
}

static void load_failed(struct cm_managed *m, const struct cm_op *op, struct cm_outcome *o)
{
    if (o->rc == CM_E_CANCELED || serve_snapshot(m, op, o))
        return;
    cm_logf(&m->cfg->log, CM_LOG_ERROR, "load_failed", NULL, 0, "load '%s': %s", m->name,
            o->err.msg);
    cm_managed_stumbled(m);
}

/* What cm_cache_managed() has put into the cache is looked after from now on. */
static void begin_if_loaded(struct cm_managed *m)
{
    struct cm_cert *cert = m->load_only && m->life == NULL ? cm_managed_cert(m) : NULL;

    if (cert != NULL)
        cm_tend_begin(m, cert);
    cm_cert_unref(cert);
}

/* Storage first: most names of most starts are there already. */
void cm_load_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                   struct cm_outcome *o)
{
    struct cm_config *cfg = m->cfg;
    struct cm_cert *cert = NULL;

    if (cm_managed_served_well(m)) {
        o->served = true;
        begin_if_loaded(m);
        return;
    }
    (void)cm_managed_take_news(m); /* it reads all there is */
    o->rc = cm_store_load(cfg, op, s, CM_LOAD_VALID, &cert, &o->err);
    if (o->rc == CM_OK) {
        serve_loaded(m, cert, o);
        cm_cert_unref(cert);
    } else if (o->rc == CM_E_NOTFOUND) {
        o->rc = CM_OK;
        bool future = serve_future(m, s, op, o);

        if (!future && m->load_only) {
            o->lost = true;
            o->due_s = cm_env_wall_s(cfg->env) + CM_LOAD_AGAIN_S;
            o->rc = cm_fail(&o->err, CM_E_NOTFOUND,
                            "storage has no valid certificate for '%s', and none is ordered for "
                            "what is only loaded",
                            m->name);
        } else if (!future) {
            o->next = CM_STAGE_OBTAIN;
            o->go_on = true;
        }
    } else {
        load_failed(m, op, o);
    }
}

/* ---- many at a time ---- */

struct found {
    cm_status status; /* CM_E_AGAIN: nothing came */
    size_t at, len;   /* in the values */
};

struct batch {
    struct cm_config *cfg;
    struct cm_op op;
    bool counted; /* among the table's batches */
    size_t n;
    struct cm_managed *names[BATCH_NAMES];
    struct cm_subject *subjects[BATCH_NAMES];
    size_t n_keys; /* two for each issuer of each name */
    char (*keys)[CM_KEY_BUF];
    struct found *found;
    struct cm_buf values;
    cm_status rc; /* of the call */
    struct cm_err err;
};

/* Names that somebody waits for with such, others with others. */
static bool is_alike(const struct cm_run *r, const void *user)
{
    const struct cm_managed *m = CM_CONTAINER_OF(r, struct cm_managed, run);
    const struct cm_managed *first = user;

    return r->run == first->run.run && m->cfg == first->cfg && m->stage == CM_STAGE_LOAD &&
           !m->alone && m->late == first->late && r->hurried == first->run.hurried;
}

/* Take part if it is still wanted; else this is its end. */
static void admit(struct batch *b, struct cm_managed *m)
{
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };

    if (!cm_managed_begin(m, NULL, &b->op))
        o.rc = cm_fail(&o.err, CM_E_CANCELED, "'%s': canceled before it began", m->name);
    else if (cm_managed_served_well(m))
        o.served = true;
    else
        o.rc = cm_managed_subject(m, &b->subjects[b->n], &o.err);
    if (o.rc == CM_OK && !o.served) {
        (void)cm_managed_take_news(m); /* what is loaded now is the newest */
        b->names[b->n++] = m;
    } else {
        cm_managed_conclude(m, &o);
    }
}

/* May this worker take many that nobody waits for? One is left that takes a few at a time, and so
 * comes soon to what somebody begins to wait for. */
static bool take_many(struct cm_names *t)
{
    if (atomic_fetch_add(&t->batches, 1) < CM_IO_WORKERS - 1)
        return true;
    (void)atomic_fetch_sub(&t->batches, 1);
    return false;
}

static void gather(struct batch *b, struct cm_managed *first)
{
    size_t most = BATCH_KEYS / (2 * (b->cfg->n_issuers > 0 ? b->cfg->n_issuers : 1));
    struct cm_run *more[BATCH_NAMES];
    bool hurried = first->run.hurried;
    size_t n;

    b->counted = !hurried && take_many(b->cfg->names);
    if (hurried && most > BATCH_HURRIED)
        most = BATCH_HURRIED;
    if (!hurried && !b->counted && most > BATCH_READY)
        most = BATCH_READY;
    n = cm_runq_take(b->cfg->io, is_alike, first, BATCH_LEAST, most - 1, more);
    admit(b, first);
    for (size_t i = 0; i < n; i++)
        admit(b, CM_CONTAINER_OF(more[i], struct cm_managed, run));
}

static cm_status make_keys(struct batch *b)
{
    static const char *const suffixes[] = { ".key", ".crt" };
    const size_t each = 2 * b->cfg->n_issuers;
    cm_status rc = CM_OK;

    b->keys = cm_calloc(b->n * each, sizeof b->keys[0]);
    b->found = cm_calloc(b->n * each, sizeof b->found[0]);
    if (b->keys == NULL || b->found == NULL)
        return cm_fail_nomem(&b->err);
    for (size_t i = 0; i < b->n * each && rc == CM_OK; i++) {
        const char *issuer_key = cm_issuer_key(b->cfg->issuers[i % each / 2]);

        b->found[i].status = CM_E_AGAIN;
        rc = cm_path_cert(issuer_key, b->subjects[i / each]->dir, suffixes[i % 2], b->keys[i],
                          &b->err);
    }
    if (rc == CM_OK)
        b->n_keys = b->n * each;
    return rc;
}

/* Only kept: whatever is done with a value may need the storage. */
static cm_status keep(void *user, size_t index, cm_status status, struct cm_span value,
                      const struct cm_err *why, struct cm_err *err)
{
    struct batch *b = user;
    size_t at = b->values.len;

    (void)why;
    (void)err;
    if (status == CM_OK && value.len > CM_PEM_FILE_MAX)
        status = CM_E_LIMIT;
    if (status == CM_OK)
        status = cm_buf_append(&b->values, value.data, value.len, NULL);
    b->found[index] = (struct found){ status, at, status == CM_OK ? value.len : 0 };
    return CM_OK;
}

static void load_all(struct batch *b)
{
    CM_AUTO_FREE const char **list = NULL;
    struct cm_op op = cm_op_within(&b->op, cm_load_limit_ns(b->cfg));

    b->rc = make_keys(b);
    list = cm_calloc(b->n_keys, sizeof(char *));
    if (b->rc == CM_OK && list == NULL)
        b->rc = cm_fail_nomem(&b->err);
    if (b->rc != CM_OK)
        return;
    for (size_t i = 0; i < b->n_keys; i++)
        list[i] = b->keys[i];
    b->rc = cm_storage_load_many(b->cfg->storage, &op, list, b->n_keys, keep, b, &b->err);
}

/* The call failed before all of the name was there, and to ask again would be no better. */
static bool is_cut_off(const struct batch *b, const struct cm_loaded *at, size_t n)
{
    bool whole = true;

    for (size_t i = 0; i < n; i++)
        whole = whole && at[i].status != CM_E_AGAIN;
    return !whole && (b->rc == CM_E_IO || b->rc == CM_E_NET || b->rc == CM_E_TIMEOUT ||
                      b->rc == CM_E_CANCELED);
}

static void settle(struct batch *b, size_t i)
{
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };
    struct cm_loaded at[2 * CM_ISSUERS_MAX];
    const size_t each = 2 * b->cfg->n_issuers;
    struct cm_managed *m = b->names[i];
    struct cm_cert *cert = NULL;

    b->names[i] = NULL;
    for (size_t k = 0; k < each; k++) {
        const struct found *f = b->n_keys > 0 ? &b->found[i * each + k] : NULL;

        at[k] = (struct cm_loaded){ .status = f != NULL ? f->status : CM_E_AGAIN };
        if (at[k].status == CM_OK)
            at[k].value = (struct cm_span){ b->values.data + f->at, f->len };
    }
    if (is_cut_off(b, at, each)) {
        cm_health_note(b->cfg, b->rc, &b->err);
        o.rc = b->rc;
        o.err = b->err;
        load_failed(m, &b->op, &o);
    } else {
        cm_status rc = cm_store_pick(b->cfg, b->subjects[i], at, &cert);

        if (rc == CM_OK) {
            serve_loaded(m, cert, &o);
        } else {
            o.go_on = true;
            bool obtain = rc == CM_E_NOTFOUND && !m->load_only;

            o.next = obtain ? CM_STAGE_OBTAIN : CM_STAGE_LOAD;
            m->alone = !obtain;
        }
        cm_cert_unref(cert);
    }
    cm_managed_conclude(m, &o);
}

bool cm_load_batch(struct cm_managed *m)
{
    bool alone = m->alone;
    struct batch *b;

    m->alone = false;
    if (alone || !cm_storage_has_load_many(m->cfg->storage))
        return false;
    b = cm_calloc(1, sizeof *b);
    if (b == NULL)
        return false;
    b->cfg = m->cfg;
    b->op.env = m->cfg->env;
    b->values = (struct cm_buf)CM_BUF_SECRET(BATCH_BYTES);
    gather(b, m);
    if (b->n > 0)
        load_all(b);
    if (b->rc == CM_OK && b->n > 0)
        cm_health_note(b->cfg, CM_OK, NULL);
    for (size_t i = 0; i < b->n; i++) /* somebody may have come for it meanwhile */
        if (cm_waiters_any(b->cfg->hub, &b->names[i]->waiters))
            settle(b, i);
    for (size_t i = 0; i < b->n; i++)
        if (b->names[i] != NULL)
            settle(b, i);
    if (b->counted)
        (void)atomic_fetch_sub(&m->cfg->names->batches, 1);
    for (size_t i = 0; i < b->n; i++)
        cm_subject_free(b->subjects[i]);
    cm_buf_free(&b->values);
    free(b->keys);
    free(b->found);
    free(b);
    return true;
}
