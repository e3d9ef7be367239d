/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"
#include "staple.h"

#include <string.h>

/* What others change in storage without a word: CertMagic and Caddy on the same storage, nodes on
 * other hosts of a network file system, and everybody where the storage tells nothing at all. So
 * all managed names are gone through once in an interval, a few at a time, and of each no more is
 * asked than how large its chain and its staple are and when they were written. What differs from
 * the last time is marked, and loaded by those who look after the name anyway.
 *
 * After changes that could not be told the same is done at once, as fast as it may. */

#define DEFAULT_S    600
#define LEAST_S      10
#define MOST_S       86400
#define SLICE        32u /* names at a time */
#define MS_PER_NAME  10  /* not faster, however many there are */
#define WORK_NS      (30 * CM_NS_PER_S)
#define RETRY_S      30                   /* storage is away: later, and some chance */
#define BEFORE_NS    (3600 * CM_NS_PER_S) /* clocks differ by less */
#define THIS_TICK_NS (2 * CM_NS_PER_S)    /* some storages count seconds */
#define FAILED_MAX   3u                   /* in a row: it is not a value, it is the storage */
#define TRIES_MAX    3u                   /* of one slice; then on with the next */

struct cm_rounds {
    struct cm_task task;
    struct cm_run run;
    int64_t interval_ms; /* 0: only when asked to */

    pthread_mutex_t lock; /* a leaf, for these */
    bool begun;
    bool busy; /* a slice is at work, or waits for a worker */
    bool hurry;

    /* the worker's */
    struct cm_names_place at;
    bool fast;         /* this round is one after missed changes */
    unsigned tries;    /* of this slice, that failed */
    int64_t before_ns; /* what was written before is what was loaded since */
};

/* ---- one name ---- */

/* What tells one state of a value from another. Never 0. */
static void mix(uint64_t *io, cm_status rc, const struct cm_key_info *info)
{
    const int64_t facts[] = { rc == CM_OK, rc == CM_OK ? info->modified_ns : 0,
                              rc == CM_OK ? (int64_t)info->size : 0 };

    *io = cm_fnv1a64(*io, facts, sizeof facts);
}

static uint32_t fold(uint64_t h)
{
    uint32_t folded = (uint32_t)(h ^ h >> 32);

    return folded != 0 ? folded : 1;
}

struct look {
    uint64_t hash;
    bool old;   /* all of it was written before this process began */
    bool fresh; /* something was written just now, and may be again without it being seen */
};

static cm_status look_at(const struct cm_rounds *r, const struct cm_op *op, const char *key,
                         struct look *l)
{
    const struct cm_config *cfg = r->task.cfg;
    struct cm_key_info info = { .modified_ns = 0 };
    int64_t now_ns = cfg->env->wall_ns(cfg->env);

    cm_status rc = cm_storage_stat(cfg->storage, op, key, &info, NULL);
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    mix(&l->hash, rc, &info);
    if (rc == CM_OK) {
        l->old = l->old && info.modified_ns != 0 && info.modified_ns < r->before_ns;
        l->fresh =
            l->fresh || info.modified_ns == 0 ||
            (info.modified_ns < now_ns + THIS_TICK_NS && info.modified_ns > now_ns - THIS_TICK_NS);
    }
    return CM_OK;
}

static bool is_news(const struct look *l, uint32_t *io_seen)
{
    uint32_t now = fold(l->hash);
    bool news = *io_seen != 0 ? *io_seen != now : !l->old;

    *io_seen = l->fresh ? 0 : now;
    return news;
}

/* The key comes before the chain, and the metadata is not served. */
static cm_status look_at_chains(const struct cm_rounds *r, const struct cm_op *op,
                                struct cm_managed *m, uint8_t *io_news)
{
    const struct cm_config *cfg = r->task.cfg;
    struct cm_subject *s = NULL;
    struct look l = { CM_FNV1A64, true, false };
    char key[CM_KEY_BUF];

    cm_status rc = cm_managed_subject(m, &s, NULL);
    for (size_t i = 0; i < cfg->n_issuers && rc == CM_OK; i++) {
        rc = cm_path_cert(cm_issuer_key(cfg->issuers[i]), s->dir, ".crt", key, NULL);
        if (rc == CM_OK)
            rc = look_at(r, op, key, &l);
    }
    cm_subject_free(s);
    if (rc == CM_OK && is_news(&l, &m->seen_chain))
        *io_news |= CM_NEWS_CERT;
    return rc;
}

static cm_status look_at_staples(const struct cm_rounds *r, const struct cm_op *op,
                                 struct cm_managed *m, uint8_t *io_news)
{
    struct cm_cert *cert = cm_managed_cert(m);
    struct look l = { CM_FNV1A64, true, false };
    char keys[2][CM_KEY_BUF];
    cm_status rc = CM_OK;
    size_t n = 0;

    if (cert != NULL && !r->task.cfg->disable_ocsp)
        n = cm_staple_places(cert, keys);
    cm_cert_unref(cert);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        l.hash = cm_fnv1a64(l.hash, keys[i], strlen(keys[i]));
        rc = look_at(r, op, keys[i], &l);
    }
    /* Of a certificate that is new here the staple was looked for when it came. */
    if (rc == CM_OK && n > 0 && is_news(&l, &m->seen_staple))
        *io_news |= CM_NEWS_STAPLE;
    return rc;
}

/* ---- a few of them ---- */

static bool has_failed_locked(const struct cm_managed *m)
{
    return m->last != NULL || (!m->busy && m->life != NULL && m->life->attempts > 0);
}

static void tell(struct cm_rounds *r, struct cm_managed *m, uint8_t news)
{
    struct cm_names *t = r->task.cfg->names;

    cm_mutex_lock(&t->lock);
    if (r->fast && has_failed_locked(m))
        news |= CM_NEWS_RETRY;
    if (news != 0)
        cm_managed_news_locked(m, news);
    cm_mutex_unlock(&t->lock);
}

static cm_status look_at_name(struct cm_rounds *r, const struct cm_op *op, struct cm_managed *m)
{
    uint8_t news = 0;

    cm_status rc = look_at_chains(r, op, m, &news);
    if (rc == CM_OK)
        rc = look_at_staples(r, op, m, &news);
    tell(r, m, news);
    return rc;
}

/* *@ret_over: that was the last one of this round. One value that cannot be looked at must not hold
 * up the others; a storage that is away is asked again for the same ones a few times. */
static bool slice(struct cm_rounds *r, const struct cm_op *op, bool *ret_over)
{
    struct cm_names_place next = r->at;
    struct cm_managed *names[SLICE];
    unsigned failed = 0;

    size_t n = cm_names_next(r->task.cfg->names, &next, names, SLICE);
    for (size_t i = 0; i < n; i++) {
        failed = look_at_name(r, op, names[i]) == CM_OK ? 0 : failed + 1;
        if (failed < FAILED_MAX && !(failed > 0 && i + 1 == n && failed == n))
            continue;
        if (++r->tries < TRIES_MAX)
            return false;
        break;
    }
    r->tries = 0;
    *ret_over = next.done;
    r->at = next.done ? (struct cm_names_place){ .done = false } : next;
    return true;
}

/* ---- the clockwork ---- */

static void again_in(struct cm_rounds *r, int64_t ms)
{
    struct cm_config *cfg = r->task.cfg;

    cm_maint_by(cm_cache_maint(cfg->cache), &r->task, cm_wall_ms(cfg->env) + ms);
}

/* Until the next slice of an ordinary round: a little less than needed, so that the nodes of a
 * fleet do not keep step. */
static int64_t pause_ms(int64_t interval_ms, struct cm_config *cfg)
{
    struct cm_names *t = cfg->names;

    cm_mutex_lock(&t->lock);
    int64_t slices = (int64_t)((t->n + SLICE - 1) / SLICE);
    cm_mutex_unlock(&t->lock);
    int64_t ms = interval_ms / (slices > 0 ? slices : 1);
    ms -= (int64_t)cm_random_below(cfg->env, (uint64_t)ms / 8 + 1);
    return ms > SLICE * MS_PER_NAME ? ms : SLICE * MS_PER_NAME;
}

/* One that is under way is finished first: it would never get to the last names otherwise, where
 * much is missed. */
static void begin_fast_round(struct cm_rounds *r)
{
    cm_mutex_lock(&r->lock);
    bool begin = r->hurry && !r->fast;
    r->hurry = r->hurry && !begin;
    cm_mutex_unlock(&r->lock);
    if (!begin)
        return;
    r->fast = true;
    r->at = (struct cm_names_place){ .done = false };
}

static void run(struct cm_run *self)
{
    struct cm_rounds *r = CM_CONTAINER_OF(self, struct cm_rounds, run);
    struct cm_config *cfg = r->task.cfg;
    const struct cm_op whole = { cfg->env, 0, cm_names_halt(cfg) };
    const struct cm_op op = cm_op_within(&whole, WORK_NS);
    bool over = false;
    int64_t ms;

    begin_fast_round(r);
    if (!slice(r, &op, &over))
        ms = RETRY_S * 1000 + (int64_t)cm_random_below(cfg->env, RETRY_S * 1000);
    else if (r->fast && !over)
        ms = SLICE * MS_PER_NAME;
    else
        ms = r->interval_ms > 0 ? pause_ms(r->interval_ms, cfg) : INT64_MAX;
    if (over && !r->fast)
        cm_crl_news_missed(cfg);
    r->fast = r->fast && !over;
    cm_mutex_lock(&r->lock);
    r->busy = false;
    if (r->hurry && !r->fast)
        ms = 0;
    cm_mutex_unlock(&r->lock);
    if (ms < INT64_MAX)
        again_in(r, ms);
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

static void fire(struct cm_task *task)
{
    struct cm_rounds *r = CM_CONTAINER_OF(task, struct cm_rounds, task);
    struct cm_config *cfg = task->cfg;

    cm_mutex_lock(&r->lock);
    bool start = !r->busy; /* else its end says when */
    r->busy = true;
    cm_mutex_unlock(&r->lock);
    if (!start)
        return;
    r->run.run = run;
    cm_maint_enter(cm_cache_maint(cfg->cache), 1);
    if (cm_runq_push(cfg->io, &r->run, NULL) == CM_OK)
        return;
    cm_maint_leave(cm_cache_maint(cfg->cache)); /* the config goes, or no thread is to be had */
    cm_mutex_lock(&r->lock);
    r->busy = false;
    cm_mutex_unlock(&r->lock);
    again_in(r, RETRY_S * 1000);
}

void cm_rounds_begin(struct cm_config *cfg)
{
    struct cm_rounds *r = cfg->rounds;

    cm_mutex_lock(&r->lock);
    bool begin = !r->begun && r->interval_ms > 0;
    r->begun = true;
    cm_mutex_unlock(&r->lock);
    if (begin)
        again_in(r, pause_ms(r->interval_ms, cfg));
}

void cm_rounds_hurry(struct cm_config *cfg)
{
    struct cm_rounds *r = cfg->rounds;

    cm_mutex_lock(&r->lock);
    r->hurry = true;
    bool busy = r->busy;
    cm_mutex_unlock(&r->lock);
    if (!busy)
        again_in(r, 0);
}

cm_status cm_rounds_new(struct cm_config *cfg, int64_t interval_s, struct cm_rounds **ret,
                        struct cm_err *err)
{
    struct cm_rounds *r;

    if (interval_s > MOST_S || (interval_s > 0 && interval_s < LEAST_S))
        return cm_fail(err, CM_E_INVAL,
                       "option poll_storage_s: %lld is not between %d seconds and a day",
                       (long long)interval_s, LEAST_S);
    r = cm_calloc(1, sizeof *r);
    if (r == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&r->lock);
    cm_task_init(&r->task, cfg, fire);
    r->interval_ms = interval_s < 0 ? 0 : (interval_s > 0 ? interval_s : DEFAULT_S) * 1000;
    r->before_ns = cfg->env->wall_ns(cfg->env) - BEFORE_NS;
    cm_status rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        cm_rounds_free(r);
        return rc;
    }
    *ret = r;
    return CM_OK;
}

void cm_rounds_free(struct cm_rounds *r)
{
    if (r == NULL)
        return;
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}
