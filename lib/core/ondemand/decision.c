/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <stdio.h>
#include <string.h>

/* Each question has an owner in here (asked, and not settled) and one outside (the program, or the
 * worker that asks a URL); it goes when both have let go. It is settled once: by the answer, or by
 * the thread that watches the time, or by the end. */

#define WORKERS     8u
#define TIMEOUT_MS  2000
#define ANSWER_MAX  4096u
#define REASON_MAX  200u
#define URL_MAX     2048u
#define WATCH_SLICE (20 * CM_NS_PER_MS)

struct desk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t refs; /* the decider's and every question's */
    size_t telling;
    bool stopped;
    struct cm_decision *first, *last; /* open, by deadline: all have the same time */
};

struct cm_decision {
    struct desk *desk;
    struct cm_decider *of; /* not to be used once settled */
    struct cm_decision *prev, *next;
    struct cm_run run;
    unsigned refs;
    bool settled;
    int64_t deadline_ns;
    cm_decided_fn fn;
    void *arg;
    struct cm_cert *cert; /* what came with the answer, as did ... */
    int64_t keep_s;
    bool not_mine;
    bool failed;
    enum cm_ondemand_phase phase;
    char client_ip[64];
    char name[CM_NAME_BUF];
};

struct cm_decider {
    const struct cm_env *env;
    struct desk *desk;
    struct cm_runq *workers;
    struct cm_cancel *stop;
    cm_decide_fn decide;
    void *decide_user;
    char *url;
    struct cm_fetcher *fetcher;
    int64_t timeout_ns;
    bool watching; /* guarded by the desk */
    pthread_t watcher;
};

/* ---- the end of a question ---- */

/* Opens the lock. */
static void desk_unref_unlock(struct desk *k)
{
    bool last = --k->refs == 0;

    cm_mutex_unlock(&k->lock);
    if (!last)
        return;
    (void)pthread_cond_destroy(&k->changed);
    (void)pthread_mutex_destroy(&k->lock);
    free(k);
}

static void unref(struct cm_decision *q)
{
    struct desk *k = q->desk;

    cm_mutex_lock(&k->lock);
    if (--q->refs > 0) {
        cm_mutex_unlock(&k->lock);
        return;
    }
    struct cm_cert *cert = q->cert;
    free(q);
    desk_unref_unlock(k);
    cm_cert_unref(cert);
}

static void unlink_locked(struct cm_decision *q)
{
    struct desk *k = q->desk;

    *(q->prev != NULL ? &q->prev->next : &k->first) = q->next;
    *(q->next != NULL ? &q->next->prev : &k->last) = q->prev;
}

/* False if it was settled before. The lock is open while it is told. */
static bool settle_locked(struct cm_decision *q, bool allow, const char *reason)
{
    struct desk *k = q->desk;
    char text[REASON_MAX];

    if (q->settled)
        return false;
    q->settled = true;
    unlink_locked(q);
    k->telling++;
    cm_mutex_unlock(&k->lock);
    (void)cm_escape(reason, strnlen(reason, REASON_MAX), text, sizeof text);
    const struct cm_verdict v = { allow, text, q->cert, q->keep_s, q->not_mine, q->failed };
    q->fn(q->arg, &v);
    cm_mutex_lock(&k->lock);
    k->telling--;
    (void)pthread_cond_broadcast(&k->changed);
    return true;
}

/* For one that is open. */
static bool give_up_locked(struct cm_decision *q, const char *reason)
{
    q->failed = true;
    return settle_locked(q, false, reason);
}

static void settle(struct cm_decision *q, const struct cm_verdict *v)
{
    struct desk *k = q->desk;

    cm_mutex_lock(&k->lock);
    if (!q->settled) { /* else somebody may be reading them */
        q->cert = v->cert != NULL ? cm_cert_ref(v->cert) : NULL;
        q->keep_s = v->keep_s;
        q->not_mine = v->not_mine;
        q->failed = v->failed;
    }
    bool mine = settle_locked(q, v->allow, v->reason);
    cm_mutex_unlock(&k->lock);
    if (mine)
        unref(q);
}

void cm_decision_answer(struct cm_decision *d, bool allow, const char *reason)
{
    const struct cm_verdict v = { .allow = allow, .reason = reason };

    if (d != NULL)
        cm_decision_settle(d, &v);
}

void cm_decision_settle(struct cm_decision *d, const struct cm_verdict *v)
{
    struct cm_verdict said = *v;

    said.reason = v->reason != NULL ? v->reason : "";
    settle(d, &said);
    unref(d);
}

/* ---- the time ---- */

static void *watch(void *arg)
{
    struct cm_decider *d = arg;
    struct desk *k = d->desk;

    cm_mutex_lock(&k->lock);
    while (!k->stopped) {
        struct cm_decision *q = k->first;

        if (q == NULL) {
            (void)cm_cond_wait_ns(&k->changed, &k->lock, CM_NS_PER_S);
        } else if (d->env->mono_ns(d->env) < q->deadline_ns) {
            (void)cm_cond_wait_ns(&k->changed, &k->lock, WATCH_SLICE);
        } else if (give_up_locked(q, "no answer in time")) {
            cm_mutex_unlock(&k->lock);
            unref(q);
            cm_mutex_lock(&k->lock);
        }
    }
    cm_mutex_unlock(&k->lock);
    return NULL;
}

/* ---- asking ---- */

/* Names have nothing in them that means something in a URL. */
static void ask_url(struct cm_decider *d, struct cm_decision *q)
{
    CM_AUTO_BUF struct cm_buf body = CM_BUF_INIT(ANSWER_MAX);
    const struct cm_op op = { d->env, q->deadline_ns, d->stop };
    struct cm_err err = CM_ERR_INIT;
    char url[URL_MAX + CM_NAME_BUF + sizeof "?domain="];
    char reason[REASON_MAX];
    int status = 0;

    (void)snprintf(url, sizeof url, "%s%cdomain=%s", d->url,
                   strchr(d->url, '?') != NULL ? '&' : '?', q->name);
    const struct cm_fetch req = { .size = (uint32_t)sizeof req,
                                  .method = "GET",
                                  .url = url,
                                  .max_body = ANSWER_MAX,
                                  .timeout_ns = d->timeout_ns };

    cm_status rc = cm_fetcher_fetch(d->fetcher, &op, &req, &status, &body, &err);
    if (rc == CM_OK)
        (void)snprintf(reason, sizeof reason, "the URL that is asked answered %d", status);
    else
        (void)snprintf(reason, sizeof reason, "the URL that is asked gave no answer: %.150s",
                       err.msg);
    const struct cm_verdict v = { .allow = rc == CM_OK && status == 200,
                                  .reason = reason,
                                  .failed = rc != CM_OK || status == 408 || status == 429 ||
                                            status >= 500 };
    cm_decision_settle(q, &v);
}

static void run_question(struct cm_run *self)
{
    struct cm_decision *q = CM_CONTAINER_OF(self, struct cm_decision, run);
    struct cm_decider *d = q->of;
    bool late;

    cm_mutex_lock(&q->desk->lock);
    late = q->settled;
    cm_mutex_unlock(&q->desk->lock);
    if (late) {
        unref(q);
    } else if (d->decide != NULL) {
        const struct cm_ondemand_ask ask = { (uint32_t)sizeof ask, q->name, q->client_ip,
                                             q->phase };

        d->decide(d->decide_user, &ask, q);
    } else {
        ask_url(d, q);
    }
}

static cm_status begin_watching_locked(struct cm_decider *d, struct cm_err *err)
{
    if (d->watching)
        return CM_OK;
    cm_status rc = cm_thread_start(&d->watcher, "cm-decisions", watch, d, err);
    d->watching = rc == CM_OK;
    return rc;
}

static void put_last_locked(struct cm_decision *q)
{
    struct desk *k = q->desk;

    q->prev = k->last;
    *(k->last != NULL ? &k->last->next : &k->first) = q;
    k->last = q;
    k->refs++;
}

cm_status cm_decider_begin(struct cm_decider *d, const char *name, const char *client_ip,
                           enum cm_ondemand_phase phase, cm_decided_fn fn, void *arg,
                           struct cm_err *err)
{
    struct cm_decision *q = cm_calloc(1, sizeof *q);
    struct desk *k = d->desk;

    if (q == NULL)
        return cm_fail_nomem(err);
    (void)snprintf(q->name, sizeof q->name, "%s", name);
    (void)snprintf(q->client_ip, sizeof q->client_ip, "%s", client_ip);
    q->desk = k;
    q->of = d;
    q->phase = phase;
    q->fn = fn;
    q->arg = arg;
    q->refs = 2;
    q->run.run = run_question;
    cm_mutex_lock(&k->lock);
    cm_status rc = k->stopped ? cm_fail(err, CM_E_CANCELED, "the configuration is being freed")
                              : begin_watching_locked(d, err);
    if (rc == CM_OK) {
        q->deadline_ns = d->env->mono_ns(d->env) + d->timeout_ns;
        put_last_locked(q);
        rc = cm_runq_push(d->workers, &q->run, err);
        if (rc != CM_OK) {
            unlink_locked(q);
            k->refs--;
        } else {
            (void)pthread_cond_broadcast(&k->changed);
        }
    }
    cm_mutex_unlock(&k->lock);
    if (rc != CM_OK)
        free(q);
    return rc;
}

/* ---- beginning and end ---- */

static cm_status take_options(struct cm_decider *d, const struct cm_ondemand_options *o,
                              struct cm_err *err)
{
    const struct cm_http_fetcher_options fo = { .size = (uint32_t)sizeof fo, .allow_local = true };
    int64_t ms = o->decide_timeout_ms != 0 ? o->decide_timeout_ms : TIMEOUT_MS;

    if (ms < 1 || ms > 60000)
        return cm_fail(err, CM_E_INVAL,
                       "option on_demand.decide_timeout_ms: %lld is not between 1 and 60000",
                       (long long)ms);
    d->timeout_ns = ms * CM_NS_PER_MS;
    d->decide = o->decide;
    d->decide_user = o->decide_user;
    if (o->ask_url == NULL)
        return CM_OK;
    if (o->decide != NULL)
        return cm_fail(err, CM_E_INVAL,
                       "options on_demand.decide and on_demand.ask_url exclude each other");
    if ((strncmp(o->ask_url, "http://", 7) != 0 && strncmp(o->ask_url, "https://", 8) != 0) ||
        strlen(o->ask_url) > URL_MAX || strchr(o->ask_url, '#') != NULL)
        return cm_fail(err, CM_E_INVAL,
                       "option on_demand.ask_url: '%.200s' is no http or https URL that a "
                       "parameter can be added to",
                       o->ask_url);
    d->url = cm_strdup(o->ask_url);
    if (d->url == NULL)
        return cm_fail_nomem(err);
    return cm_http_fetcher_new(&fo, &d->fetcher, err);
}

static cm_status desk_new(struct desk **ret, struct cm_err *err)
{
    struct desk *k = cm_calloc(1, sizeof *k);

    if (k == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&k->lock);
    cm_cond_init(&k->changed);
    k->refs = 1;
    *ret = k;
    return CM_OK;
}

cm_status cm_decider_new(const struct cm_env *env, const struct cm_ondemand_options *o,
                         struct cm_decider **ret, struct cm_err *err)
{
    struct cm_decider *d = cm_calloc(1, sizeof *d);

    if (d == NULL)
        return cm_fail_nomem(err);
    d->env = env;
    cm_status rc = desk_new(&d->desk, err);
    if (rc == CM_OK)
        rc = take_options(d, o, err);
    if (rc == CM_OK)
        rc = cm_cancel_new(NULL, &d->stop, err);
    if (rc == CM_OK)
        rc = cm_runq_new(WORKERS, &d->workers, err);
    if (rc != CM_OK) {
        cm_decider_free(d);
        return rc;
    }
    *ret = d;
    return CM_OK;
}

bool cm_decider_any(const struct cm_decider *d)
{
    return d->decide != NULL || d->url != NULL;
}

void cm_decider_stop(struct cm_decider *d)
{
    struct desk *k = d->desk;
    struct cm_decision *q;
    bool join;

    if (d->stop != NULL)
        cm_cancel_fire(d->stop);
    cm_mutex_lock(&k->lock);
    k->stopped = true;
    while ((q = k->first) != NULL) {
        if (give_up_locked(q, "the configuration is being freed")) {
            cm_mutex_unlock(&k->lock);
            unref(q);
            cm_mutex_lock(&k->lock);
        }
    }
    while (k->telling > 0)
        (void)cm_cond_wait_ns(&k->changed, &k->lock, CM_WAIT_SLICE_NS);
    join = d->watching;
    d->watching = false;
    (void)pthread_cond_broadcast(&k->changed);
    cm_mutex_unlock(&k->lock);
    if (join)
        (void)pthread_join(d->watcher, NULL);
    cm_runq_stop(d->workers);
}

void cm_decider_free(struct cm_decider *d)
{
    if (d == NULL)
        return;
    if (d->desk != NULL) {
        cm_decider_stop(d);
        cm_mutex_lock(&d->desk->lock);
        desk_unref_unlock(d->desk);
    }
    cm_runq_free(d->workers);
    cm_cancel_free(d->stop);
    if (d->fetcher != NULL)
        cm_fetcher_destroy(d->fetcher);
    free(d->url);
    free(d);
}
