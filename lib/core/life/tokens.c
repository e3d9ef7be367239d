/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

#include <string.h>

/* Keys in tokens that have gone away. lib/pki knows of them and opens them again; here is the time
 * for that, in the worker that has nothing urgent, and here it is known which certificates they are
 * of. One per cache; of several in a process whoever comes first does the work, and each tells of
 * its own certificates. */

#define NO_CONFIG_S 60
#define SOME        64u

struct cm_tokens {
    struct cm_task task;
    struct cm_run run;
    struct cm_token_watch watch;
    struct cm_cache *cache;
    pthread_mutex_t lock;  /* a leaf but for the clockwork's */
    bool busy;             /* guarded by it, as is ... */
    bool changed;          /* since the work began */
    struct cm_config *cfg; /* borrowed while busy */
    uint64_t told;
};

/* ---- telling ---- */

static bool is_at(const struct cm_cert *cert, struct cm_span url)
{
    struct cm_span form = cm_cert_key_form(cert);

    return form.len > url.len && form.data[url.len] == '\n' &&
           memcmp(form.data, url.data, url.len) == 0;
}

static void tell_of(const struct cm_tokens *t, struct cm_cert *cert, const struct cm_token_news *n)
{
    const char *name = cm_cert_name(cert, 0);
    struct cm_err why = CM_ERR_INIT;
    struct cm_event ev = { .type = n->away ? CM_EVENT_CERT_KEY_AWAY : CM_EVENT_CERT_KEY_BACK,
                           .identifier = name,
                           .cert = cert,
                           .error = n->away ? &why : NULL };

    const struct cm_log_field field = { "name", name };

    (void)cm_fail(&why, CM_E_IO, "%s", n->why);
    if (n->away)
        cm_logf(&t->cfg->log, CM_LOG_ERROR, "cert_key_away", &field, 1,
                "'%s' cannot be served: %s; it is looked for again and again", name, n->why);
    else
        cm_logf(&t->cfg->log, CM_LOG_INFO, "cert_key_back", &field, 1,
                "'%s' can be served again: the token with its key is back, after %lld s", name,
                (long long)(n->for_ns / CM_NS_PER_S));
    (void)!cm_emit(t->cfg, &ev, NULL);
}

static void tell(void *user, const struct cm_token_news *n)
{
    struct cm_cache_walk walk = { 0 };
    const struct cm_tokens *t = user;
    struct cm_cert *some[SOME];
    size_t got;

    while ((got = cm_cache_some(t->cache, &walk, some, SOME)) > 0)
        for (size_t i = 0; i < got; i++) {
            if (is_at(some[i], n->url))
                tell_of(t, some[i], n);
            cm_cert_unref(some[i]);
        }
}

/* ---- the clockwork ---- */

/* @at_ms: INT64_MAX = not before something changes. */
static void settle(struct cm_tokens *t, int64_t at_ms)
{
    struct cm_maint *mt = cm_cache_maint(t->cache);
    struct cm_config *cfg = t->cfg;

    t->cfg = NULL;
    cm_mutex_lock(&t->lock);
    t->busy = false;
    if (t->changed)
        at_ms = INT64_MIN;
    if (at_ms < INT64_MAX)
        cm_maint_at(mt, &t->task, at_ms);
    cm_mutex_unlock(&t->lock);
    cm_maint_release(mt, cfg);
    cm_maint_leave(mt);
}

static void run(struct cm_run *self)
{
    struct cm_tokens *t = CM_CONTAINER_OF(self, struct cm_tokens, run);

    cm_mutex_lock(&t->lock);
    t->changed = false;
    cm_mutex_unlock(&t->lock);
    t->told = cm_tokens_news(t->told, tell, t);
    int64_t wait_ns = cm_tokens_tend();
    cm_mutex_lock(&t->lock);
    t->changed = false; /* by this, or told now */
    cm_mutex_unlock(&t->lock);
    t->told = cm_tokens_news(t->told, tell, t);
    settle(t, wait_ns == INT64_MAX ? INT64_MAX : cm_wall_ms(t->cfg->env) + wait_ns / CM_NS_PER_MS);
}

static void fire(struct cm_task *task)
{
    struct cm_tokens *t = CM_CONTAINER_OF(task, struct cm_tokens, task);
    struct cm_maint *mt = cm_cache_maint(t->cache);

    cm_mutex_lock(&t->lock);
    bool first = !t->busy;
    t->busy = true;
    cm_mutex_unlock(&t->lock);
    if (!first)
        return; /* its end says when */
    cm_maint_enter(mt, 1);
    t->cfg = cm_maint_borrow(mt);
    t->run.run = run;
    if (t->cfg != NULL && cm_runq_push_first(t->cfg->idle, &t->run, NULL) == CM_OK)
        return;
    settle(t, t->cfg != NULL ? cm_wall_ms(t->cfg->env) + NO_CONFIG_S * 1000 : INT64_MIN);
}

static void changed(struct cm_token_watch *w)
{
    struct cm_tokens *t = CM_CONTAINER_OF(w, struct cm_tokens, watch);

    cm_mutex_lock(&t->lock);
    t->changed = true;
    if (!t->busy)
        cm_maint_at(cm_cache_maint(t->cache), &t->task, INT64_MIN);
    cm_mutex_unlock(&t->lock);
}

cm_status cm_tokens_new(struct cm_cache *cache, struct cm_tokens **ret, struct cm_err *err)
{
    struct cm_tokens *t = cm_calloc(1, sizeof *t);

    if (t == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_maint_room(cm_cache_maint(cache), 1, err);
    if (rc != CM_OK) {
        free(t);
        return rc;
    }
    cm_mutex_init(&t->lock);
    cm_task_init(&t->task, NULL, fire);
    t->cache = cache;
    t->watch.changed = changed;
    cm_token_watch_begin(&t->watch);
    *ret = t;
    return CM_OK;
}

void cm_tokens_free(struct cm_tokens *t)
{
    if (t == NULL)
        return;
    cm_token_watch_end(&t->watch);
    cm_maint_cancel(cm_cache_maint(t->cache), &t->task);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}
