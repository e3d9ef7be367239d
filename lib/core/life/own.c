/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

/* Certificates that the program has put into the cache: never renewed, but stapled like the others,
 * and told of before they expire. Storage, responders and events are those of some config that uses
 * the cache; while there is none, nothing can be done. */

#define NO_CONFIG_S   60
#define NOT_AT_ONCE_S 60

struct own {
    struct cm_task task;
    struct cm_run run;
    struct cm_owns *all;
    struct own *next;
    struct cm_cert *cert; /* the cache's; with a reference of our own only while busy, or each would
                             look as if many asked for it (refs.c) */
    struct cm_config *cfg; /* borrowed while busy */
    int64_t staple_s;
    struct cm_revocation revoked;
    uint8_t tier;
    bool fetching;
    bool busy; /* guarded by the lock of all, as are next and gone */
    bool gone; /* taken out: freed by whoever is busy with it, else by who took it out */
};

struct cm_owns {
    pthread_mutex_t lock;
    struct cm_cache *cache;
    struct own *first;
};

cm_status cm_owns_new(struct cm_cache *cache, struct cm_owns **ret, struct cm_err *err)
{
    struct cm_owns *o = cm_calloc(1, sizeof *o);

    if (o == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&o->lock);
    o->cache = cache;
    *ret = o;
    return CM_OK;
}

void cm_owns_free(struct cm_owns *o)
{
    if (o == NULL)
        return;
    while (o->first != NULL) {
        struct own *x = o->first;

        o->first = x->next;
        free(x);
    }
    (void)pthread_mutex_destroy(&o->lock);
    free(o);
}

/* ---- at work ---- */

static void tell_tier(struct own *x, int64_t now_s)
{
    const char *name = cm_cert_name(x->cert, 0);

    if (cm_emit_expiring(x->cfg, name, x->cert, now_s, &x->tier))
        cm_logf(&x->cfg->log, CM_LOG_WARN, "certificate_expiring", NULL, 0,
                "your own certificate for '%s' %s: replace it", name,
                now_s > x->cert->not_after_s ? "has expired" : "is about to expire");
}

static void tell_revoked(struct own *x, bool before)
{
    struct cm_event ev = { .type = CM_EVENT_CERT_OCSP_REVOKED,
                           .identifier = cm_cert_name(x->cert, 0),
                           .cert = x->cert,
                           .reason = x->revoked.reason,
                           .revoked_at_s = x->revoked.at_s,
                           .source = x->revoked.source };

    if (!x->revoked.revoked || before)
        return;
    cm_logf(&x->cfg->log, CM_LOG_ERROR, "certificate_revoked", NULL, 0,
            "your own certificate for '%s' (serial %s) has been revoked; it is served until "
            "you replace it",
            cm_cert_name(x->cert, 0), cm_cert_serial(x->cert));
    (void)!cm_emit(x->cfg, &ev, NULL);
}

static int64_t next_s(struct own *x, int64_t now_s)
{
    struct cm_when w;

    cm_when_for(NULL, x->cert, NULL, &w);
    int64_t tier_s = cm_when_next_tier_s(x->cert, &w, now_s);
    return tier_s < x->staple_s ? tier_s : x->staple_s;
}

/* Nothing of it may be touched afterwards. */
static void settle(struct own *x, int64_t at_s)
{
    struct cm_maint *mt = cm_cache_maint(x->all->cache);
    struct cm_config *cfg = x->cfg;
    struct cm_cert *cert = x->cert;
    bool gone;

    x->cfg = NULL;
    cm_mutex_lock(&x->all->lock);
    x->busy = false;
    gone = x->gone;
    if (!gone && at_s < INT64_MAX)
        cm_maint_at(mt, &x->task, cm_ms_of(at_s));
    cm_mutex_unlock(&x->all->lock);
    cm_cert_unref(cert);
    if (gone)
        free(x);
    cm_maint_release(mt, cfg);
    cm_maint_leave(mt);
}

static void run(struct cm_run *self)
{
    struct own *x = CM_CONTAINER_OF(self, struct own, run);
    const struct cm_env *env = x->cfg->env;
    const struct cm_op op = { env, 0, cm_names_halt(x->cfg) };
    bool before = x->revoked.revoked;
    int64_t now_s = cm_env_wall_s(env);

    if (x->staple_s <= now_s)
        (void)!cm_staple_tend(x->cfg, &op, x->cert, x->fetching, &x->staple_s, &x->revoked, NULL);
    tell_revoked(x, before);
    tell_tier(x, now_s);
    if (x->staple_s <= now_s && !x->fetching) {
        x->fetching = true;
        if (cm_runq_push(x->cfg->fetch, &x->run, NULL) == CM_OK)
            return;
    }
    if (x->staple_s <= now_s)
        x->staple_s = now_s + NOT_AT_ONCE_S;
    settle(x, next_s(x, now_s));
}

static void fire(struct cm_task *t)
{
    struct own *x = CM_CONTAINER_OF(t, struct own, task);
    struct cm_maint *mt = cm_cache_maint(x->all->cache);
    struct cm_config *cfg;
    bool gone;

    cm_mutex_lock(&x->all->lock);
    gone = x->gone;
    x->busy = !gone;
    if (!gone)
        (void)cm_cert_ref(x->cert); /* it is in the cache until it is gone from here */
    cm_mutex_unlock(&x->all->lock);
    if (gone)
        return; /* who took it out waits until this is over */
    cm_maint_enter(mt, 1);
    cfg = cm_maint_borrow(mt);
    x->cfg = cfg;
    x->fetching = false;
    x->run.run = run;
    if (cfg != NULL && cm_runq_push(cfg->io, &x->run, NULL) == CM_OK)
        return;
    /* Without a config nothing fires until there is one again. */
    settle(x, cfg != NULL ? cm_env_wall_s(cfg->env) + NO_CONFIG_S : INT64_MIN);
}

/* ---- coming and going ---- */

cm_status cm_owns_add(struct cm_owns *o, struct cm_cert *cert, struct cm_err *err)
{
    struct cm_maint *mt = cm_cache_maint(o->cache);
    struct own *x = cm_calloc(1, sizeof *x);

    if (x == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_maint_room(mt, 1, err);
    if (rc != CM_OK) {
        free(x);
        return rc;
    }
    cm_task_init(&x->task, NULL, fire);
    x->all = o;
    x->cert = cert;
    cm_mutex_lock(&o->lock);
    x->next = o->first;
    o->first = x;
    cm_mutex_unlock(&o->lock);
    cm_maint_at(mt, &x->task, INT64_MIN); /* now, whatever now is */
    return CM_OK;
}

void cm_owns_remove(struct cm_owns *o, struct cm_cert *cert)
{
    struct own **at;
    struct own *x;
    bool busy = false;

    cm_mutex_lock(&o->lock);
    for (at = &o->first; *at != NULL && (*at)->cert != cert; at = &(*at)->next)
        ;
    x = *at;
    if (x != NULL) {
        *at = x->next;
        x->gone = true;
        busy = x->busy;
    }
    cm_mutex_unlock(&o->lock);
    /* From here on nobody begins with it or puts it back into the index. */
    if (x == NULL || busy)
        return;
    cm_maint_cancel(cm_cache_maint(o->cache), &x->task);
    free(x);
}
