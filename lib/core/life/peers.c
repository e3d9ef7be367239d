/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

#include "names.h"
#include "tickets.h"

#include <stdio.h>
#include <string.h>

/* What other nodes do in storage, as far as it tells of changes. On its thread names are marked and
 * the clockwork is woken, nothing else; the looking is done by the workers who look after the names
 * anyway. All of it is hints: what is not told is found by rounds.c, or when its time comes.
 *
 * What this config stores itself is told, too, by most. A key is noted before it is written, and
 * the first change of it is taken for that. */

#define OWN_PLACES     1024u
#define OWN_WRITING_NS (30 * CM_NS_PER_S) /* so long does a write take at most */
#define OWN_TOLD_NS    (CM_NS_PER_S)      /* and the news of it */
#define TOKENS         1024u
#define TOKEN_NS       (10 * CM_NS_PER_S)
#define MISSED_MS      (10 * INT64_C(1000)) /* all names are not looked at more often */
#define REOPEN_MIN_S   4
#define REOPEN_MAX_S   300

#define CERT_DIR  "certificates/"
#define OCSP_DIR  "ocsp/"
#define GATES_DIR "certmesh/gates"
#define CRL_DIR   "certmesh/crl/"
#define TOKEN_DIR "/challenge_tokens/"

struct own {
    uint64_t hash;
    unsigned n; /* changes that are still to be told of */
    int64_t until_ns;
};

struct cm_peers {
    struct cm_config *cfg;
    struct cm_run run;     /* opens the watch */
    struct cm_task reopen; /* after it could not be had */
    struct cm_task task;   /* some changes were missed */
    char *issuers[CM_ISSUERS_MAX];
    struct cm_probes *tokens; /* that came just now */

    pthread_mutex_t lock; /* a leaf */
    bool begun;
    bool stopped;
    struct cm_watch *watch;
    bool lost;         /* it does not stand, or could not be had; this has been told */
    unsigned refused;  /* in a row */
    int64_t looked_ms; /* at all names because some changes were missed */
    int64_t missed_ns; /* monotonic; 0 = never */
    struct own own[OWN_PLACES];
};

/* ---- own writes ---- */

static struct own *place_of(struct cm_peers *p, const char *key, uint64_t *ret_hash)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, key, strlen(key));

    *ret_hash = h;
    return &p->own[(h ^ h >> 32) % OWN_PLACES];
}

static void note_own(struct cm_config *cfg, const char *key, bool done)
{
    struct cm_peers *p = cfg->peers;
    int64_t now_ns = cfg->env->mono_ns(cfg->env);
    uint64_t hash;

    cm_mutex_lock(&p->lock);
    struct own *o = place_of(p, key, &hash);
    if (o->hash != hash || now_ns > o->until_ns)
        o->n = 0;
    o->hash = hash;
    o->n += done ? 0 : 1;
    o->until_ns = now_ns + (done ? OWN_TOLD_NS : OWN_WRITING_NS);
    cm_mutex_unlock(&p->lock);
}

void cm_peers_writing(struct cm_config *cfg, const char *key)
{
    note_own(cfg, key, false);
}

void cm_peers_written(struct cm_config *cfg, const char *key)
{
    note_own(cfg, key, true);
}

/* Once for each write. */
static bool is_own(struct cm_peers *p, const char *key)
{
    int64_t now_ns = p->cfg->env->mono_ns(p->cfg->env);
    uint64_t hash;
    bool own;

    cm_mutex_lock(&p->lock);
    struct own *o = place_of(p, key, &hash);
    own = o->hash == hash && o->n > 0 && now_ns <= o->until_ns;
    if (own)
        o->n--;
    cm_mutex_unlock(&p->lock);
    return own;
}

/* ---- tokens ---- */

bool cm_peers_token_came(struct cm_config *cfg, const char *name, int64_t within_ns)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);
    struct cm_peers *p = cfg->peers;
    int64_t missed_ns;

    cm_mutex_lock(&p->lock);
    missed_ns = p->missed_ns;
    cm_mutex_unlock(&p->lock);
    if (missed_ns != 0 && cfg->env->mono_ns(cfg->env) - missed_ns <= within_ns)
        return true;
    if (cm_safe_name(name, &safe, NULL) != CM_OK)
        return false;
    int64_t left_ns = cm_probes_wait_ns(p->tokens, "token", cm_buf_str(&safe));
    return left_ns > 0 && TOKEN_NS - left_ns <= within_ns;
}

static void token_came(struct cm_peers *p, const char *file)
{
    size_t len = strlen(file);
    char name[CM_KEY_BUF];

    if (len <= 5 || strcmp(file + len - 5, ".json") != 0)
        return;
    (void)snprintf(name, sizeof name, "%.*s", (int)(len - 5), file);
    cm_probes_note(p->tokens, "token", name, TOKEN_NS);
}

/* ---- what a change is about ---- */

/* Of one key below certificates/: whose it is, or that it may be anybody's. The key comes before
 * the chain, and the metadata is not served: so of the three the chain alone says something. */
static void certificate_changed(struct cm_peers *p, const char *key)
{
    const char *issuer = key + strlen(CERT_DIR);
    size_t issuer_len = strcspn(issuer, "/");
    const char *dir = issuer + issuer_len;
    char name[CM_KEY_BUF];
    bool ours = false;

    for (size_t i = 0; i < p->cfg->n_issuers; i++)
        ours = ours || (strlen(p->issuers[i]) == issuer_len &&
                        memcmp(p->issuers[i], issuer, issuer_len) == 0);
    if (!ours)
        return;
    if (*dir == '\0') {
        cm_peers_missed(p);
        return;
    }
    size_t dir_len = strcspn(++dir, "/");
    const char *file = dir + dir_len;
    size_t file_len = strlen(file);
    if (file_len > 0 && (file_len < 4 || strcmp(file + file_len - 4, ".crt") != 0))
        return;
    if (is_own(p, key))
        return;
    (void)snprintf(name, sizeof name, "%.*s", (int)dir_len, dir);
    cm_names_news(p->cfg, name, CM_NEWS_CERT);
}

/* ocsp/<Safe(name)>-<hash> */
static void staple_changed(struct cm_peers *p, const char *key)
{
    const char *file = key + strlen(OCSP_DIR);
    const char *hyphen = strrchr(file, '-');
    char name[CM_KEY_BUF];

    if (hyphen == NULL || is_own(p, key))
        return;
    (void)snprintf(name, sizeof name, "%.*s", (int)(hyphen - file), file);
    cm_names_news(p->cfg, name, CM_NEWS_STAPLE);
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static void value_changed(struct cm_peers *p, const char *key)
{
    const char *token;

    if (starts_with(key, CERT_DIR)) {
        certificate_changed(p, key);
    } else if (starts_with(key, OCSP_DIR)) {
        staple_changed(p, key);
    } else if (starts_with(key, CM_RETRY_DIR "/")) {
        if (!is_own(p, key))
            cm_names_news(p->cfg, key + strlen(CM_RETRY_DIR "/"), CM_NEWS_RETRY);
    } else if (starts_with(key, GATES_DIR)) {
        cm_ca_gates_reread(p->cfg);
    } else if ((token = strstr(key, TOKEN_DIR)) != NULL) {
        token_came(p, token + strlen(TOKEN_DIR));
    } else if (strcmp(key, CM_TICKETS_KEY) == 0) {
        if (!is_own(p, key))
            cm_tickets_changed(p->cfg);
    } else if (starts_with(key, CRL_DIR)) {
        if (!is_own(p, key))
            cm_crl_news_told(p->cfg, key + strlen(CRL_DIR));
    } else if (strcmp(key, "certificates") == 0) {
        cm_peers_missed(p);
    }
}

/* All names are looked at, but not at once, and not all the time. */
void cm_peers_missed(struct cm_peers *p)
{
    int64_t now_ms = cm_wall_ms(p->cfg->env);
    int64_t at_ms = now_ms;

    cm_mutex_lock(&p->lock);
    p->missed_ns = p->cfg->env->mono_ns(p->cfg->env);
    if (p->looked_ms <= now_ms && now_ms - p->looked_ms < MISSED_MS)
        at_ms = p->looked_ms + MISSED_MS;
    else
        p->looked_ms = now_ms; /* this is it */
    cm_mutex_unlock(&p->lock);
    cm_ca_gates_reread(p->cfg);
    cm_maint_by(cm_cache_maint(p->cfg->cache), &p->task, at_ms);
}

static void look_at_all(struct cm_task *t)
{
    struct cm_peers *p = CM_CONTAINER_OF(t, struct cm_peers, task);

    cm_mutex_lock(&p->lock);
    p->looked_ms = cm_wall_ms(p->cfg->env);
    cm_mutex_unlock(&p->lock);
    cm_rounds_hurry(p->cfg);
    cm_tickets_changed(p->cfg);
    cm_crl_news_missed(p->cfg);
}

/* Once when nothing is told any more, and once when it is again. */
static void note_feed(struct cm_peers *p, bool stands, const char *why)
{
    cm_mutex_lock(&p->lock);
    bool changed = p->lost == stands;
    p->lost = !stands;
    cm_mutex_unlock(&p->lock);
    if (changed && stands)
        cm_logf(&p->cfg->log, CM_LOG_INFO, "feed_up", NULL, 0,
                "the storage tells of changes again: all names are looked at");
    else if (changed)
        cm_logf(&p->cfg->log, CM_LOG_WARN, "feed_down", NULL, 0,
                "the storage does not tell of changes at present%s%s: what other nodes do is found "
                "later",
                why != NULL ? ": " : "", why != NULL ? why : "");
}

static void told(void *user, const struct cm_change *change)
{
    struct cm_peers *p = user;

    switch (change->kind) {
    case CM_CHANGE_VALUE:
        value_changed(p, change->key);
        break;
    case CM_CHANGE_UNLOCKED:
        break;
    case CM_CHANGE_LOST:
        note_feed(p, false, NULL);
        break;
    case CM_CHANGE_MISSED:
        note_feed(p, true, NULL);
        cm_peers_missed(p);
        break;
    }
}

/* ---- the watch ---- */

/* Once it stands, what happened meanwhile was missed. */
static void opened(struct cm_peers *p)
{
    cm_mutex_lock(&p->lock);
    bool late = p->refused > 0;
    p->refused = 0;
    cm_mutex_unlock(&p->lock);
    if (!late)
        return;
    note_feed(p, true, NULL);
    cm_peers_missed(p);
}

/* Not by a storage that tells nothing at all; anything else may be mended while we run. */
static void refused(struct cm_peers *p, cm_status rc, const struct cm_err *why)
{
    const struct cm_config *cfg = p->cfg;
    int64_t wait_s = REOPEN_MIN_S;

    if (rc == CM_E_UNSUPPORTED) {
        cm_mutex_lock(&p->lock);
        p->lost = true;
        cm_mutex_unlock(&p->lock);
        cm_logf(&cfg->log, CM_LOG_DEBUG, "no_feed", NULL, 0,
                "what other nodes change in %s is found later, as the storage does not tell: %s",
                cm_storage_describe(cfg->storage), why->msg);
        return;
    }
    note_feed(p, false, why->msg);
    cm_mutex_lock(&p->lock);
    for (unsigned i = 0; i < p->refused && wait_s < REOPEN_MAX_S; i++)
        wait_s *= 2;
    p->refused++;
    cm_mutex_unlock(&p->lock);
    wait_s = wait_s < REOPEN_MAX_S ? wait_s : REOPEN_MAX_S;
    cm_maint_at(cm_cache_maint(cfg->cache), &p->reopen,
                cm_wall_ms(cfg->env) + wait_s * 500 +
                    (int64_t)cm_random_below(cfg->env, (uint64_t)wait_s * 500 + 1));
}

/* In a worker, as opening may take a look at the storage. */
static void open_watch(struct cm_run *self)
{
    struct cm_peers *p = CM_CONTAINER_OF(self, struct cm_peers, run);
    struct cm_config *cfg = p->cfg;
    struct cm_watch *watch = NULL;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_E_CANCELED;

    cm_mutex_lock(&p->lock);
    bool wanted = !p->stopped;
    cm_mutex_unlock(&p->lock);
    if (wanted)
        rc = cm_storage_watch(cfg->storage, told, p, &watch, &err);
    cm_mutex_lock(&p->lock);
    bool late = rc == CM_OK && p->stopped;
    if (rc == CM_OK && !late)
        p->watch = watch;
    cm_mutex_unlock(&p->lock);
    if (late)
        cm_storage_unwatch(cfg->storage, watch);
    else if (rc == CM_OK)
        opened(p);
    else if (wanted)
        refused(p, rc, &err);
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

static void reopen(struct cm_task *t)
{
    struct cm_peers *p = CM_CONTAINER_OF(t, struct cm_peers, reopen);
    struct cm_config *cfg = p->cfg;

    p->run.run = open_watch;
    cm_maint_enter(cm_cache_maint(cfg->cache), 1);
    if (cm_runq_push_first(cfg->io, &p->run, NULL) == CM_OK)
        return;
    cm_maint_leave(cm_cache_maint(cfg->cache)); /* the config goes, or no thread is to be had */
    cm_maint_at(cm_cache_maint(cfg->cache), t, cm_wall_ms(cfg->env) + REOPEN_MIN_S * 1000);
}

void cm_peers_begin(struct cm_config *cfg)
{
    struct cm_peers *p = cfg->peers;

    cm_mutex_lock(&p->lock);
    bool first = !p->begun && !p->stopped;
    p->begun = true;
    cm_mutex_unlock(&p->lock);
    if (first)
        reopen(&p->reopen);
}

enum cm_feed_state cm_peers_feed(const struct cm_config *cfg)
{
    struct cm_peers *p = cfg->peers;

    cm_mutex_lock(&p->lock);
    bool asked = p->begun && !p->stopped && (p->watch != NULL || p->lost);
    bool stands = p->watch != NULL && !p->lost;
    cm_mutex_unlock(&p->lock);
    return !asked ? CM_FEED_UNKNOWN : stands ? CM_FEED_STANDS : CM_FEED_NONE;
}

void cm_peers_stop(struct cm_config *cfg)
{
    struct cm_peers *p = cfg->peers;

    if (p == NULL)
        return;
    cm_mutex_lock(&p->lock);
    struct cm_watch *watch = p->watch;
    p->watch = NULL;
    p->stopped = true;
    cm_mutex_unlock(&p->lock);
    cm_storage_unwatch(cfg->storage, watch);
}

cm_status cm_peers_new(struct cm_config *cfg, struct cm_peers **ret, struct cm_err *err)
{
    struct cm_peers *p = cm_calloc(1, sizeof *p);
    cm_status rc;

    if (p == NULL)
        return cm_fail_nomem(err);
    p->cfg = cfg;
    p->looked_ms = INT64_MIN / 2;
    cm_mutex_init(&p->lock);
    cm_task_init(&p->task, cfg, look_at_all);
    cm_task_init(&p->reopen, cfg, reopen);
    rc = cm_probes_new(cfg->env, TOKENS, &p->tokens, err);
    for (size_t i = 0; i < cfg->n_issuers && rc == CM_OK; i++) {
        CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

        rc = cm_safe_name(cm_issuer_key(cfg->issuers[i]), &safe, err);
        if (rc == CM_OK) {
            p->issuers[i] = cm_strdup(cm_buf_str(&safe));
            rc = p->issuers[i] != NULL ? CM_OK : cm_fail_nomem(err);
        }
    }
    if (rc != CM_OK) {
        cm_peers_free(p);
        return rc;
    }
    *ret = p;
    return CM_OK;
}

void cm_peers_free(struct cm_peers *p)
{
    if (p == NULL)
        return;
    CM_ASSERT(p->watch == NULL);
    for (size_t i = 0; i < CM_ISSUERS_MAX; i++)
        free(p->issuers[i]);
    cm_probes_free(p->tokens);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}
