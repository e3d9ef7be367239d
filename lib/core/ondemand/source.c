/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"
#include "ondemand.h"

#include <stdio.h>
#include <string.h>

/* Certificates of a source of the program's. The decider puts the questions and watches the time;
 * here the answers are looked at, on the thread that gives them as far as they need nothing of the
 * config (which may be gone), then on a worker of our own: storage that hangs holds up no
 * certificate that somebody else has. What is kept is noted by name and leaf, not by reference, or
 * each certificate would look as if many asked for it (refs.c). */

#define WORKERS    1u
#define TIMEOUT_MS 2000
#define MISS_MS    10000
#define KEPT       10000u
#define KEEP_S     3600
#define MISSES     16384u

struct kept {
    uint64_t leaf; /* its hash */
    int64_t until_s;
    char *name; /* the first of its names */
};

struct cm_sourcer {
    struct cm_config *cfg;
    struct cm_cert_source *source;
    struct cm_decider *decider;
    struct cm_runq *work;
    struct cm_probes *misses;
    struct cm_task task; /* the end of what is kept */
    int64_t miss_ns;
    size_t max_kept;
    pthread_mutex_t lock; /* of what follows */
    size_t n;
    size_t cap;
    struct kept *kept;
};

/* One that is being asked about, in here. */
struct question {
    struct cm_run run;
    struct cm_sourcer *of;
    cm_sourced_fn fn;
    void *arg;
    struct cm_cert *cert;
    int64_t keep_s;
    char name[];
};

/* One that the program owes an answer to. */
struct cm_source_question {
    struct cm_decision *d;
    char name[];
};

/* ---- what is kept ---- */

static uint64_t hash_of(const struct cm_cert *cert)
{
    return cm_fnv1a64(CM_FNV1A64, cert->bytes + cert->leaf_off, cert->leaf_len);
}

/* With a reference; NULL if it is not in the cache any more. */
static struct cm_cert *find(struct cm_sourcer *s, const char *name, uint64_t leaf)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    struct cm_cert *found = NULL;
    size_t n = cm_cache_find(s->cfg->cache, name, strlen(name), certs);

    for (size_t i = 0; i < n; i++) {
        if (found == NULL && !cm_cert_is_managed(certs[i]) && hash_of(certs[i]) == leaf)
            found = certs[i];
        else
            cm_cert_unref(certs[i]);
    }
    return found;
}

/* Out of the cache and forgotten. */
static void drop(struct cm_sourcer *s, struct kept *x)
{
    struct cm_cert *cert = find(s, x->name, x->leaf);

    cm_cache_let_go(s->cfg->cache, cert); /* the program may have brought it, too */
    cm_cert_unref(cert);
    free(x->name);
}

static int64_t next_ms_locked(const struct cm_sourcer *s)
{
    int64_t first_s = INT64_MAX;

    for (size_t i = 0; i < s->n; i++)
        if (s->kept[i].until_s < first_s)
            first_s = s->kept[i].until_s;
    return s->n > 0 ? cm_ms_of(first_s) : INT64_MAX;
}

/* The first to end, if its time has come or @any; false if there is none. */
static bool take_first(struct cm_sourcer *s, int64_t now_s, bool any, struct kept *ret)
{
    size_t first = 0;
    bool take;

    cm_mutex_lock(&s->lock);
    for (size_t i = 1; i < s->n; i++)
        if (s->kept[i].until_s < s->kept[first].until_s)
            first = i;
    take = s->n > 0 && (any || s->kept[first].until_s <= now_s);
    if (take) {
        *ret = s->kept[first];
        s->kept[first] = s->kept[--s->n];
    }
    cm_mutex_unlock(&s->lock);
    return take;
}

static void fire(struct cm_task *t)
{
    struct cm_sourcer *s = CM_CONTAINER_OF(t, struct cm_sourcer, task);
    int64_t now_s = cm_env_wall_s(s->cfg->env);
    int64_t next_ms;
    struct kept x;

    while (take_first(s, now_s, false, &x))
        drop(s, &x);
    cm_mutex_lock(&s->lock);
    next_ms = next_ms_locked(s);
    cm_mutex_unlock(&s->lock);
    if (next_ms < INT64_MAX)
        cm_maint_by(cm_cache_maint(s->cfg->cache), t, next_ms);
}

/* Noted before it is served, so that nothing is served whose end nobody watches. */
static cm_status note(struct cm_sourcer *s, uint64_t leaf, const char *name, int64_t until_s,
                      struct cm_err *err)
{
    cm_status rc = CM_OK;
    size_t i = 0;

    cm_mutex_lock(&s->lock);
    while (i < s->n && s->kept[i].leaf != leaf)
        i++;
    if (i == s->n && s->n == s->cap) {
        size_t cap = s->cap > 0 ? s->cap * 2 : 16;
        struct kept *bigger = cm_realloc_array(s->kept, cap, sizeof *bigger);

        if (bigger != NULL) {
            s->kept = bigger;
            s->cap = cap;
        } else {
            rc = cm_fail_nomem(err);
        }
    }
    if (rc == CM_OK && i == s->n) {
        s->kept[i].name = cm_strdup(name);
        s->kept[i].leaf = leaf;
        if (s->kept[i].name != NULL)
            s->n++;
        else
            rc = cm_fail_nomem(err);
    }
    if (rc == CM_OK)
        s->kept[i].until_s = until_s;
    cm_mutex_unlock(&s->lock);
    return rc;
}

static bool is_kept(struct cm_sourcer *s, uint64_t leaf)
{
    bool kept = false;

    cm_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n; i++)
        kept = kept || s->kept[i].leaf == leaf;
    cm_mutex_unlock(&s->lock);
    return kept;
}

static bool is_full(struct cm_sourcer *s)
{
    cm_mutex_lock(&s->lock);
    bool full = s->n >= s->max_kept;
    cm_mutex_unlock(&s->lock);
    return full;
}

/* Serve it. The same leaf once more takes its own place. */
static cm_status keep(struct cm_sourcer *s, struct cm_cert *cert, int64_t keep_s,
                      struct cm_err *err)
{
    const char *name = cm_cert_name(cert, 0);
    int64_t now_s = cm_env_wall_s(s->cfg->env);
    uint64_t leaf = hash_of(cert);
    int64_t left_s = cert->not_after_s - now_s;
    struct kept gone;

    if (left_s <= 0 || !cm_cert_is_valid_at(cert, now_s, 0)) /* its last second is over at once */
        return cm_fail(err, CM_E_CERT, "its certificate (serial %s) %s", cm_cert_serial(cert),
                       left_s <= 0 ? "has expired" : "is not valid yet");
    if (keep_s == 0)
        keep_s = KEEP_S;
    if (keep_s > left_s)
        keep_s = left_s;
    struct cm_cert *old = is_kept(s, leaf) ? find(s, name, leaf) : NULL;
    if (old == NULL && is_full(s) && take_first(s, now_s, true, &gone))
        drop(s, &gone);
    cm_status rc = note(s, leaf, name, now_s + keep_s, err);
    if (rc == CM_OK)
        rc = cm_cache_replace_own(s->cfg->cache, old, cert, NULL, err);
    cm_cert_unref(old);
    if (rc == CM_OK)
        cm_maint_by(cm_cache_maint(s->cfg->cache), &s->task, cm_ms_of(now_s + keep_s));
    return rc;
}

/* ---- answers ---- */

/* It gives nothing for the name. @why NULL: it is none of its own. */
static void missed(struct cm_sourcer *s, const char *name, const char *why)
{
    cm_probes_note(s->misses, "source", name, s->miss_ns);
    if (why != NULL)
        cm_logf(&s->cfg->log, CM_LOG_WARN, "source_failed", NULL, 0,
                "the certificate source '%s' has nothing to serve for '%s': %s",
                s->source->ops->name, name, why);
}

/* The end of a question. */
static void tell(struct question *q, bool served)
{
    q->fn(q->arg, served);
    cm_cert_unref(q->cert);
    free(q);
}

static void run_keep(struct cm_run *self)
{
    struct question *q = CM_CONTAINER_OF(self, struct question, run);
    struct cm_err err = CM_ERR_INIT;

    cm_status rc = keep(q->of, q->cert, q->keep_s, &err);
    if (rc != CM_OK)
        missed(q->of, q->name, err.msg);
    tell(q, rc == CM_OK);
}

static void answered(void *arg, const struct cm_verdict *v)
{
    struct question *q = arg;
    struct cm_err err = CM_ERR_INIT;

    if (!v->allow || v->cert == NULL) {
        missed(q->of, q->name, v->not_mine ? NULL : v->reason);
        tell(q, false);
        return;
    }
    q->cert = cm_cert_ref(v->cert);
    q->keep_s = v->keep_s;
    q->run.run = run_keep;
    if (cm_runq_push(q->of->work, &q->run, &err) != CM_OK)
        tell(q, false); /* the end, or no thread to be had */
}

/* What can be told of it without the config. */
static cm_status look_at(const struct cm_source_found *found, const char *name,
                         struct cm_cert **ret, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    if (found == NULL || found->size < offsetof(struct cm_source_found, keep_s))
        return cm_fail(err, CM_E_INVAL,
                       "its answer has no certificate: begin with "
                       "CM_SOURCE_FOUND_INIT");
    cm_status rc = cm_cert_from_pem(found->chain_pem, found->key_pem, NULL, NULL, 0, &cert, err);
    if (rc != CM_OK)
        return rc;
    if (!cm_cert_covers(cert, name)) {
        rc = cm_fail(err, CM_E_CERT, "its certificate (serial %s) is not for this name",
                     cm_cert_serial(cert));
        cm_cert_unref(cert);
        return rc;
    }
    *ret = cert;
    return CM_OK;
}

void cm_source_answer(struct cm_source_question *q, cm_status rc,
                      const struct cm_source_found *found, const char *reason)
{
    struct cm_verdict v = { .reason = reason };
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;

    if (q == NULL)
        return;
    if (rc == CM_OK) {
        rc = look_at(found, q->name, &cert, &err);
        v.reason = err.msg;
        v.cert = cert;
        if (rc == CM_OK && found->size >= sizeof *found)
            v.keep_s = found->keep_s;
        if (rc == CM_OK && v.keep_s < 0) {
            rc = CM_E_INVAL;
            v.reason = "it is to be kept for less than no time";
        }
    } else {
        v.not_mine = rc == CM_E_NOTFOUND;
        if (v.reason == NULL)
            v.reason = cm_status_name(rc);
    }
    v.allow = rc == CM_OK;
    cm_decision_settle(q->d, &v);
    cm_cert_unref(cert);
    free(q);
}

/* ---- questions ---- */

static void put(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d)
{
    struct cm_sourcer *s = user;
    const struct cm_source_ask mine = { (uint32_t)sizeof mine, ask->name, ask->client_ip };
    size_t len = strlen(ask->name) + 1;
    struct cm_source_question *q = cm_calloc(1, sizeof *q + len);

    if (q == NULL) {
        cm_decision_answer(d, false, "no memory");
        return;
    }
    q->d = d;
    memcpy(q->name, ask->name, len);
    s->source->ops->get(s->source, &mine, q);
}

bool cm_sourcer_wants(struct cm_sourcer *s, const char *name)
{
    return s != NULL && cm_probes_wait_ns(s->misses, "source", name) == 0;
}

bool cm_sourcer_has(struct cm_sourcer *s, const char *name)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    const char *dot = strchr(name, '.');
    char wild[CM_NAME_BUF + 1];
    size_t n;

    if (s == NULL)
        return false;
    n = cm_cache_find(s->cfg->cache, name, strlen(name), certs);
    if (n == 0 && dot != NULL) {
        (void)snprintf(wild, sizeof wild, "*%s", dot);
        n = cm_cache_find(s->cfg->cache, wild, strlen(wild), certs);
    }
    for (size_t i = 0; i < n; i++)
        cm_cert_unref(certs[i]);
    return n > 0;
}

cm_status cm_sourcer_begin(struct cm_sourcer *s, const char *name, const char *client_ip,
                           cm_sourced_fn fn, void *arg, struct cm_err *err)
{
    size_t len = strlen(name) + 1;
    struct question *q = cm_calloc(1, sizeof *q + len);

    if (q == NULL)
        return cm_fail_nomem(err);
    q->of = s;
    q->fn = fn;
    q->arg = arg;
    memcpy(q->name, name, len);
    cm_status rc =
        cm_decider_begin(s->decider, name, client_ip, CM_ONDEMAND_OBTAIN, answered, q, err);
    if (rc != CM_OK)
        free(q);
    return rc;
}

/* ---- beginning and end ---- */

static cm_status check(const struct cm_ondemand_options *o, struct cm_err *err)
{
    const struct cm_cert_source_ops *ops = o->source->ops;

    if (ops == NULL)
        return cm_fail(err, CM_E_INVAL, "option on_demand.source: it has no ops");
    if (ops->abi != CM_SPI_ABI)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "this certificate source was made for plugin interface %u, not %u: "
                       "rebuild it",
                       (unsigned)ops->abi, (unsigned)CM_SPI_ABI);
    if (ops->size < offsetof(struct cm_cert_source_ops, get) + sizeof ops->get ||
        ops->get == NULL || ops->name == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "certificate source '%s' gives no certificates",
                       ops->name != NULL ? ops->name : "?");
    if (o->source_timeout_ms < 0 || o->source_timeout_ms > 60000)
        return cm_fail(err, CM_E_INVAL,
                       "option on_demand.source_timeout_ms: %lld is not between 1 and 60000",
                       (long long)o->source_timeout_ms);
    if (o->source_miss_ms < 0 || o->source_miss_ms > 24 * INT64_C(3600000))
        return cm_fail(err, CM_E_INVAL, "option on_demand.source_miss_ms: %lld is not within a day",
                       (long long)o->source_miss_ms);
    return CM_OK;
}

cm_status cm_sourcer_new(struct cm_config *cfg, const struct cm_ondemand_options *o,
                         struct cm_sourcer **ret, struct cm_err *err)
{
    struct cm_ondemand_options mine = CM_ONDEMAND_OPTIONS_INIT;
    struct cm_sourcer *s;

    *ret = NULL;
    if (o->source == NULL)
        return CM_OK;
    cm_status rc = check(o, err);
    if (rc != CM_OK)
        return rc;
    s = cm_calloc(1, sizeof *s);
    if (s == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&s->lock);
    cm_task_init(&s->task, cfg, fire);
    s->cfg = cfg;
    s->source = o->source;
    s->miss_ns = (o->source_miss_ms != 0 ? o->source_miss_ms : MISS_MS) * CM_NS_PER_MS;
    s->max_kept = o->source_kept != 0 ? o->source_kept : KEPT;
    mine.decide = put;
    mine.decide_user = s;
    mine.decide_timeout_ms = o->source_timeout_ms != 0 ? o->source_timeout_ms : TIMEOUT_MS;
    rc = cm_decider_new(cfg->env, &mine, &s->decider, err);
    if (rc == CM_OK)
        rc = cm_runq_new(WORKERS, &s->work, err);
    if (rc == CM_OK)
        rc = cm_probes_new(cfg->env, MISSES, &s->misses, err);
    if (rc == CM_OK)
        rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        cm_sourcer_free(s);
        return rc;
    }
    *ret = s;
    return CM_OK;
}

void cm_sourcer_stop(struct cm_sourcer *s)
{
    if (s == NULL)
        return;
    if (s->decider != NULL)
        cm_decider_stop(s->decider);
    cm_runq_stop(s->work);
}

void cm_sourcer_free(struct cm_sourcer *s)
{
    struct kept x;

    if (s == NULL)
        return;
    cm_sourcer_stop(s);
    while (take_first(s, 0, true, &x))
        drop(s, &x);
    cm_decider_free(s->decider);
    cm_runq_free(s->work);
    cm_probes_free(s->misses);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->kept);
    free(s);
}
