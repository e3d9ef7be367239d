/* SPDX-License-Identifier: Apache-2.0 */
#include "crl_private.h"
#include "names.h"

#include <stdio.h>
#include <string.h>

/* Lists that a peer has fetched, as the storage tells of them or as is found by looking: the same
 * one is watched by very many names, so it is loaded once, and of the names those are woken that it
 * says something of. */

#define PENDING   32u
#define DELAY_MS  3000 /* and by chance as much: a commit of many pieces, a fleet that reads it */
#define RETRY_MS  30000
#define TRIES_MAX 3u
#define WORK_NS   (60 * CM_NS_PER_S)
#define SLICE     64u
#define SLACK_S   2 /* between the fetch and the end of storing it */

struct cm_crl_news {
    struct cm_task task;
    struct cm_run run;
    pthread_mutex_t lock; /* a leaf but for the clockwork's, for what follows */
    uint8_t ids[PENDING][CM_CRL_ID_LEN];
    size_t n;
    bool all; /* some were missed */
    bool busy;
    unsigned tries;
};

/* ---- names ---- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static size_t bytes_of(const char *text, uint8_t *ret, size_t max)
{
    size_t n = 0;

    while (n < max && hex(text[0]) >= 0 && hex(text[1]) >= 0) {
        ret[n++] = (uint8_t)(hex(text[0]) << 4 | hex(text[1]));
        text += 2;
    }
    return *text == '\0' ? n : 0;
}

/* By the serial number alone, whose text lacks the zero before a high bit: whoever is woken looks
 * closely. */
static bool is_concerned(struct cm_managed *m, const uint8_t id[CM_CRL_ID_LEN])
{
    struct cm_cert *cert = cm_managed_cert(m);
    uint8_t serial[32] = { 0 };
    bool has = false;

    if (cert != NULL) {
        size_t len = bytes_of(cm_cert_serial(cert), serial + 1, sizeof serial - 1);
        bool high = (serial[1] & 0x80) != 0;

        has = len > 0 && cm_crl_has(id, high ? (struct cm_span){ serial, len + 1 }
                                             : (struct cm_span){ serial + 1, len });
    }
    cm_cert_unref(cert);
    return has;
}

static void wake_names(struct cm_config *cfg, const uint8_t id[CM_CRL_ID_LEN])
{
    struct cm_names_place at = { .done = false };
    struct cm_managed *names[SLICE];

    while (!at.done && !cm_cancel_is_fired(cfg->stop)) {
        size_t n = cm_names_next(cfg->names, &at, names, SLICE);

        for (size_t i = 0; i < n; i++) {
            if (!is_concerned(names[i], id))
                continue;
            cm_mutex_lock(&cfg->names->lock);
            cm_managed_news_locked(names[i], CM_NEWS_CRL);
            cm_mutex_unlock(&cfg->names->lock);
        }
    }
}

/* ---- lists ---- */

/* What storage has was written after what is known here had been fetched. */
static bool is_newer(struct cm_config *cfg, const struct cm_op *op, const struct cm_crl_known *k)
{
    struct cm_key_info info = { .modified_ns = 0 };
    char text[CM_CRL_ID_TEXT];
    char key[CM_KEY_BUF];

    cm_crl_id_text(k->id, text);
    (void)snprintf(key, sizeof key, CM_CRL_DIR "/%s/0", text);
    return cm_storage_stat(cfg->storage, op, key, &info, NULL) == CM_OK &&
           info.modified_ns / CM_NS_PER_S > k->fetched_s + SLACK_S;
}

static cm_status follow(struct cm_config *cfg, const struct cm_op *op,
                        const uint8_t id[CM_CRL_ID_LEN])
{
    cm_status rc = cm_crl_reload(cfg, op, id);

    if (rc == CM_OK)
        wake_names(cfg, id);
    return rc;
}

static void follow_all(struct cm_config *cfg, const struct cm_op *op)
{
    struct cm_crl_known *known = cm_calloc(CM_CRL_TABLE_LISTS, sizeof *known);
    size_t n = known != NULL ? cm_crl_ids(known, CM_CRL_TABLE_LISTS) : 0;

    for (size_t i = 0; i < n && cm_op_check(op, NULL) == CM_OK; i++)
        if (is_newer(cfg, op, &known[i]))
            (void)!follow(cfg, op, known[i].id);
    free(known);
}

/* False: some could not be loaded yet, and are left. */
static bool follow_told(struct cm_crl_news *c, const struct cm_op *op)
{
    uint8_t ids[PENDING][CM_CRL_ID_LEN];
    bool done = true;

    cm_mutex_lock(&c->lock);
    size_t n = c->n;
    memcpy(ids, c->ids, n * sizeof ids[0]);
    c->n = 0;
    cm_mutex_unlock(&c->lock);
    for (size_t i = 0; i < n; i++) {
        cm_status rc = follow(c->task.cfg, op, ids[i]);

        if (rc == CM_OK || rc == CM_E_NOTFOUND)
            continue;
        done = false;
        cm_mutex_lock(&c->lock);
        if (c->n < PENDING)
            memcpy(c->ids[c->n++], ids[i], CM_CRL_ID_LEN);
        cm_mutex_unlock(&c->lock);
    }
    return done;
}

/* ---- the clockwork ---- */

static void again_in(struct cm_crl_news *c, int64_t ms)
{
    const struct cm_env *env = c->task.cfg->env;

    cm_maint_by(cm_cache_maint(c->task.cfg->cache), &c->task,
                cm_wall_ms(env) + ms + (int64_t)cm_random_below(env, (uint64_t)ms + 1));
}

static void run(struct cm_run *self)
{
    struct cm_crl_news *c = CM_CONTAINER_OF(self, struct cm_crl_news, run);
    struct cm_config *cfg = c->task.cfg;
    const struct cm_op whole = { cfg->env, 0, cm_names_halt(cfg) };
    const struct cm_op op = cm_op_within(&whole, WORK_NS);

    cm_mutex_lock(&c->lock);
    bool all = c->all;
    c->all = false;
    cm_mutex_unlock(&c->lock);
    bool done = follow_told(c, &op);
    if (all)
        follow_all(cfg, &op);
    cm_mutex_lock(&c->lock);
    c->busy = false;
    c->tries = done ? 0 : c->tries + 1;
    if (c->tries >= TRIES_MAX) { /* they come when their time comes */
        c->n = 0;
        c->tries = 0;
    }
    if (c->n > 0 || c->all)
        again_in(c, done ? DELAY_MS : RETRY_MS);
    cm_mutex_unlock(&c->lock);
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

static void fire(struct cm_task *task)
{
    struct cm_crl_news *c = CM_CONTAINER_OF(task, struct cm_crl_news, task);
    struct cm_config *cfg = task->cfg;

    cm_mutex_lock(&c->lock);
    bool start = !c->busy; /* else its end sees to it */
    c->busy = true;
    cm_mutex_unlock(&c->lock);
    if (!start)
        return;
    c->run.run = run;
    cm_maint_enter(cm_cache_maint(cfg->cache), 1);
    if (cm_runq_push(cfg->io, &c->run, NULL) == CM_OK)
        return;
    cm_maint_leave(cm_cache_maint(cfg->cache)); /* the config goes, or no thread is to be had */
    cm_mutex_lock(&c->lock);
    c->busy = false;
    again_in(c, RETRY_MS);
    cm_mutex_unlock(&c->lock);
}

/* "<id>/0": the first piece stands for all. */
void cm_crl_news_told(struct cm_config *cfg, const char *path)
{
    struct cm_crl_news *c = cfg->crl_news;
    const size_t len = CM_CRL_ID_TEXT - 1;
    uint8_t id[CM_CRL_ID_LEN];
    char text[CM_CRL_ID_TEXT];
    bool known = false;

    if (strlen(path) != len + 2 || strcmp(path + len, "/0") != 0)
        return;
    (void)snprintf(text, sizeof text, "%.*s", (int)len, path);
    if (bytes_of(text, id, sizeof id) != sizeof id)
        return;
    cm_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->n && !known; i++)
        known = memcmp(c->ids[i], id, sizeof id) == 0;
    if (!known && c->n < PENDING)
        memcpy(c->ids[c->n++], id, sizeof id);
    else if (!known)
        c->all = true;
    again_in(c, DELAY_MS);
    cm_mutex_unlock(&c->lock);
}

void cm_crl_news_missed(struct cm_config *cfg)
{
    struct cm_crl_news *c = cfg->crl_news;

    if (cm_crl_table_lists() == 0)
        return;
    cm_mutex_lock(&c->lock);
    c->all = true;
    again_in(c, DELAY_MS);
    cm_mutex_unlock(&c->lock);
}

cm_status cm_crl_news_new(struct cm_config *cfg, struct cm_crl_news **ret, struct cm_err *err)
{
    struct cm_crl_news *c = cm_calloc(1, sizeof *c);

    if (c == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&c->lock);
    cm_task_init(&c->task, cfg, fire);
    cm_status rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        cm_crl_news_free(c);
        return rc;
    }
    *ret = c;
    return CM_OK;
}

void cm_crl_news_free(struct cm_crl_news *c)
{
    if (c == NULL)
        return;
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}
