/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"
#include "nodes.h"

#include <string.h>
#include <unistd.h>

/* A node says in storage that it is there, and which certificates it serves, so that people can
 * look at the fleet from any place. It looks at itself every quarter of a minute and writes what
 * has changed; the note at least every minute. Where storage does not take it, that is all: nothing
 * depends on it. */

#define LOOK_S  12  /* and up to half as much */
#define NOTE_S  40  /* written again when it is that old at a look */
#define ROUND   32u /* pages at a time; more wait a moment */
#define ROUND_S 2
#define WORK_NS (10 * CM_NS_PER_S)
#define END_NS  (2 * CM_NS_PER_S)
#define SHARE   100 /* looking takes no more than a hundredth of the time */

struct cm_announce {
    struct cm_task task;
    struct cm_run run;
    struct cm_node note;
    _Atomic bool put;  /* there is something of it in storage */
    _Atomic bool over; /* taken back */
    int64_t wrote_s;   /* the note */
    uint64_t *written; /* what was written of each of note.n_pages, as sums; with ... */
    bool *is_written;
    int64_t rest_until_ns; /* the names are not looked at before */
};

/* ---- what there is to say ---- */

/* The names as they are, and how they fall on pages. */
struct view {
    const struct cm_managed **at;
    size_t n;
    unsigned n_pages;
    uint64_t *sums; /* of each page */
    uint64_t digest;
};

static void view_free(struct view *v)
{
    free(v->at);
    free(v->sums);
}

/* Handshakes may be waiting for the lock of the names, so it is held for the pointers alone; names
 * never leave the table. */
static cm_status take_names(struct cm_names *t, struct view *v)
{
    cm_mutex_lock(&t->lock);
    size_t cap = t->n;
    cm_mutex_unlock(&t->lock);
    v->at = cm_calloc(cap + 1, sizeof v->at[0]);
    if (v->at == NULL)
        return CM_E_NOMEM;
    cm_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n_buckets && v->n < cap; i++)
        for (const struct cm_managed *m = t->buckets[i]; m != NULL && v->n < cap; m = m->next)
            v->at[v->n++] = m;
    cm_mutex_unlock(&t->lock);
    return CM_OK;
}

static size_t line_of(const struct cm_managed *m, char ret[CM_NODE_LINE_MAX])
{
    struct cm_cert *cert = cm_managed_cert((struct cm_managed *)(uintptr_t)m);
    struct cm_node_name n = { .name = cm_managed_host(m), .serial = "" };

    if (cert != NULL) {
        n.serial = cm_cert_serial(cert);
        n.from_s = cert->not_before_s > 0 ? cert->not_before_s : 0;
        n.until_s = cert->not_after_s > 0 ? cert->not_after_s : 0;
    }
    size_t len = cm_node_line(&n, ret);
    cm_cert_unref(cert);
    return len;
}

static cm_status view_take(struct cm_config *cfg, struct view *v)
{
    char line[CM_NODE_LINE_MAX];

    cm_status rc = take_names(cfg->names, v);
    if (rc != CM_OK)
        return rc;
    v->n_pages = cm_node_pages_for(v->n);
    v->sums = cm_calloc(v->n_pages + 1, sizeof v->sums[0]);
    if (v->sums == NULL)
        return CM_E_NOMEM;
    for (size_t i = 0; i < v->n; i++) {
        uint64_t hash = cm_node_line_hash(line, line_of(v->at[i], line));

        v->sums[cm_node_page_of(v->at[i]->name, v->n_pages)] += hash;
        v->digest += hash;
    }
    return CM_OK;
}

/* ---- saying it ---- */

static cm_status put_page(struct cm_announce *a, const struct cm_op *op, const struct view *v,
                          unsigned page)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(CM_NODE_PAGE_BYTES);
    char line[CM_NODE_LINE_MAX];
    char key[CM_KEY_BUF];

    cm_status rc = cm_node_page_path(a->note.id, page, key, NULL);
    if (rc == CM_OK)
        rc = cm_node_page_begin(&text, page, v->n_pages, NULL);
    for (size_t i = 0; i < v->n && rc == CM_OK; i++) {
        if (cm_node_page_of(v->at[i]->name, v->n_pages) != page)
            continue;
        size_t len = line_of(v->at[i], line);
        line[len++] = '\n';
        if (text.len + len > CM_NODE_PAGE_BYTES)
            break; /* the digest tells that something is left out */
        rc = cm_buf_append(&text, line, len, NULL);
    }
    if (rc == CM_OK)
        rc = cm_storage_store(a->task.cfg->storage, op, key, cm_buf_span(&text), NULL);
    return rc;
}

/* Another number of pages: all are to be written. They never get fewer, as names never leave. */
static cm_status fit_pages(struct cm_announce *a, const struct view *v)
{
    if (a->note.n_pages == v->n_pages && a->written != NULL)
        return CM_OK;
    uint64_t *written = cm_calloc(v->n_pages + 1, sizeof written[0]);
    bool *is_written = cm_calloc(v->n_pages + 1, sizeof is_written[0]);
    if (written == NULL || is_written == NULL) {
        free(written);
        free(is_written);
        return CM_E_NOMEM;
    }
    free(a->written);
    free(a->is_written);
    a->written = written;
    a->is_written = is_written;
    a->note.n_pages = v->n_pages;
    return CM_OK;
}

/* *@ret_more: there are pages left for another round. */
static cm_status put_pages(struct cm_announce *a, const struct cm_op *op, const struct view *v,
                           bool *ret_more)
{
    unsigned n = 0;
    cm_status rc = fit_pages(a, v);

    for (unsigned page = 0; page < v->n_pages && rc == CM_OK; page++) {
        if (a->is_written[page] && a->written[page] == v->sums[page])
            continue;
        if (n++ == ROUND) {
            *ret_more = true;
            break;
        }
        atomic_store(&a->put, true);
        rc = put_page(a, op, v, page);
        a->is_written[page] = rc == CM_OK;
        a->written[page] = v->sums[page];
    }
    return rc;
}

static cm_status put_note(struct cm_announce *a, const struct cm_op *op, int64_t now_s)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(16u * 1024);
    char key[CM_KEY_BUF];

    a->note.seen_s = now_s;
    cm_status rc = cm_node_path(a->note.id, "node", key, NULL);
    if (rc == CM_OK)
        rc = cm_node_format(&a->note, &text, NULL);
    atomic_store(&a->put, true);
    if (rc == CM_OK)
        rc = cm_storage_store(a->task.cfg->storage, op, key, cm_buf_span(&text), NULL);
    if (rc == CM_OK)
        a->wrote_s = now_s;
    return rc;
}

/* Who was silent for that long may have been cleaned away. */
static void forget_if_silent(struct cm_announce *a, int64_t now_s)
{
    if (a->wrote_s == 0 || (now_s >= a->wrote_s && now_s - a->wrote_s < CM_NODE_GONE_S))
        return;
    for (unsigned page = 0; page < a->note.n_pages; page++)
        a->is_written[page] = false;
    a->rest_until_ns = 0;
}

static void look(struct cm_announce *a, const struct cm_op *op, int64_t now_s, bool *ret_more)
{
    const struct cm_env *env = a->task.cfg->env;
    int64_t begin_ns = env->mono_ns(env);
    struct view v = { .n = 0 };
    bool changed = false;
    cm_status rc = CM_OK;

    forget_if_silent(a, now_s);
    if (begin_ns >= a->rest_until_ns) {
        rc = view_take(a->task.cfg, &v);
        if (rc == CM_OK)
            rc = put_pages(a, op, &v, ret_more);
        if (rc == CM_OK) {
            changed = a->note.digest != v.digest || a->note.n_names != v.n;
            a->note.digest = v.digest;
            a->note.n_names = (unsigned)v.n;
        }
        view_free(&v);
        int64_t end_ns = env->mono_ns(env);
        a->rest_until_ns = *ret_more ? 0 : end_ns + (end_ns - begin_ns) * SHARE;
    }
    if (rc == CM_OK &&
        (changed || a->wrote_s == 0 || now_s < a->wrote_s || now_s - a->wrote_s >= NOTE_S))
        rc = put_note(a, op, now_s);
}

/* ---- the clockwork ---- */

static void again(struct cm_announce *a, int64_t least_s, int64_t range_s)
{
    struct cm_config *cfg = a->task.cfg;
    int64_t chance_ms = (int64_t)cm_random_below(cfg->env, (uint64_t)range_s * 1000 + 1);

    cm_maint_at(cm_cache_maint(cfg->cache), &a->task,
                cm_wall_ms(cfg->env) + least_s * 1000 + chance_ms);
}

static void run(struct cm_run *self)
{
    struct cm_announce *a = CM_CONTAINER_OF(self, struct cm_announce, run);
    struct cm_config *cfg = a->task.cfg;
    const struct cm_op whole = { cfg->env, 0, cm_names_halt(cfg) };
    const struct cm_op op = cm_op_within(&whole, WORK_NS);
    bool more = false;

    if (!atomic_load(&a->over))
        look(a, &op, cm_env_wall_s(cfg->env), &more);
    again(a, more ? ROUND_S : LOOK_S, more ? ROUND_S : LOOK_S / 2);
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

static void fire(struct cm_task *task)
{
    struct cm_announce *a = CM_CONTAINER_OF(task, struct cm_announce, task);
    struct cm_config *cfg = task->cfg;

    a->run.run = run;
    cm_maint_enter(cm_cache_maint(cfg->cache), 1);
    if (cm_runq_push(cfg->io, &a->run, NULL) == CM_OK)
        return;
    cm_maint_leave(cm_cache_maint(cfg->cache)); /* the config goes, or no thread is to be had */
    again(a, LOOK_S, LOOK_S);
}

cm_status cm_announce_new(struct cm_config *cfg, const char *name, struct cm_announce **ret,
                          struct cm_err *err)
{
    struct cm_announce *a = cm_calloc(1, sizeof *a);

    if (a == NULL)
        return cm_fail_nomem(err);
    cm_task_init(&a->task, cfg, fire);
    cm_host_name(a->note.host);
    if (name == NULL || name[0] == '\0')
        name = a->note.host;
    (void)cm_escape(name, strlen(name), a->note.name, sizeof a->note.name);
    (void)cm_escape(cm_version(), strlen(cm_version()), a->note.version, sizeof a->note.version);
    a->note.pid = (unsigned)getpid();
    a->note.started_s = cm_env_wall_s(cfg->env);
    cm_status rc = cm_random_hex(cfg->env, CM_NODE_ID_BYTES, a->note.id, err);
    if (rc == CM_OK)
        rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        free(a);
        return rc;
    }
    *ret = a;
    again(a, 1, 1); /* it has something to say by then */
    return CM_OK;
}

void cm_announce_end(struct cm_announce *a, int64_t limit_ns)
{
    char dir[CM_KEY_BUF];

    if (a == NULL || atomic_exchange(&a->over, true) || !atomic_load(&a->put) || limit_ns <= 0)
        return;
    const struct cm_op whole = { a->task.cfg->env, 0, NULL };
    const struct cm_op op = cm_op_within(&whole, limit_ns < END_NS ? limit_ns : END_NS);
    if (cm_node_path(a->note.id, NULL, dir, NULL) == CM_OK)
        (void)!cm_storage_remove(a->task.cfg->storage, &op, dir, NULL);
}

void cm_announce_free(struct cm_announce *a)
{
    if (a == NULL)
        return;
    cm_announce_end(a, END_NS);
    free(a->written);
    free(a->is_written);
    free(a);
}
