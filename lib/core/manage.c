/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

#define FIRST_BUCKETS 64u

/* ---- the table ---- */

cm_status cm_names_new(struct cm_cancel *stop, struct cm_names **ret, struct cm_err *err)
{
    struct cm_names *t = cm_calloc(1, sizeof *t);
    cm_status rc;

    if (t == NULL)
        return cm_fail_nomem(err);
    t->buckets = cm_calloc(FIRST_BUCKETS, sizeof t->buckets[0]);
    rc = t->buckets != NULL ? cm_cancel_new(stop, &t->halt, err) : cm_fail_nomem(err);
    if (rc != CM_OK) {
        free(t->buckets);
        free(t);
        return rc;
    }
    t->n_buckets = FIRST_BUCKETS;
    cm_mutex_init(&t->lock);
    cm_cond_init(&t->changed);
    *ret = t;
    return CM_OK;
}

void cm_names_free(struct cm_names *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->n_buckets; i++) {
        while (t->buckets[i] != NULL) {
            struct cm_managed *m = t->buckets[i];

            t->buckets[i] = m->next;
            free(m->last);
            free(m->life);
            cm_cancel_free(m->token);
            cm_subject_free(m->group);
            free(m);
        }
    }
    free(t->buckets);
    cm_members_free(t->members);
    cm_cancel_free(t->halt);
    (void)pthread_cond_destroy(&t->changed);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

static size_t hash_name(const char *s)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, s, strlen(s));

    return (size_t)(h ^ h >> 32);
}

struct cm_managed *cm_names_find_locked(const struct cm_names *t, const char *name)
{
    struct cm_managed *m = t->buckets[hash_name(name) % t->n_buckets];

    while (m != NULL && strcmp(m->name, name) != 0)
        m = m->next;
    return m != NULL ? m : cm_group_find_locked(t, name);
}

/* More buckets when there are many names; without memory the lists just get longer. */
static void spread_locked(struct cm_names *t)
{
    size_t n = t->n_buckets * 4;
    struct cm_managed **bigger;

    if (t->n < t->n_buckets)
        return;
    bigger = cm_calloc(n, sizeof bigger[0]);
    if (bigger == NULL)
        return;
    for (size_t i = 0; i < t->n_buckets; i++) {
        while (t->buckets[i] != NULL) {
            struct cm_managed *m = t->buckets[i];
            struct cm_managed **to = &bigger[hash_name(m->name) % n];

            t->buckets[i] = m->next;
            m->next = *to;
            *to = m;
        }
    }
    free(t->buckets);
    t->buckets = bigger;
    t->n_buckets = n;
}

struct cm_managed *cm_names_add_locked(struct cm_config *cfg, const char *name)
{
    struct cm_names *t = cfg->names;
    size_t len = strlen(name) + 1;
    struct cm_managed *m = cm_calloc(1, sizeof *m + len);

    if (m == NULL || cm_pump_room(cfg->pump, t->n + 1, NULL) != CM_OK ||
        cm_maint_room(cm_cache_maint(cfg->cache), 1, NULL) != CM_OK) {
        free(m);
        return NULL;
    }
    spread_locked(t);
    struct cm_managed **to = &t->buckets[hash_name(name) % t->n_buckets];
    m->cfg = cfg;
    cm_task_init(&m->task, cfg, cm_managed_fire);
    m->line.pos = CM_DUE_NOT_IN;
    memcpy(m->name, name, len);
    m->next = *to;
    *to = m;
    t->n++;
    return m;
}

/* ---- manage ---- */

bool cm_is_served_well(struct cm_config *cfg, const char *name)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cfg->cache, name, strlen(name), certs);
    int64_t now = cm_env_wall_s(cfg->env);
    bool well = false;

    for (size_t i = 0; i < n; i++) {
        well = well || (cm_config_manages(cfg, certs[i]) && cm_cert_is_valid_at(certs[i], now, 0));
        cm_cert_unref(certs[i]);
    }
    return well;
}

void cm_managed_wake_locked(struct cm_managed *m, bool background)
{
    m->busy = true;
    m->late = m->cfg->names->stopped;
    m->background = background;
    m->stage = CM_STAGE_LOAD;
    m->phase = CM_PHASE_WAITING;
}

/* It is served well, whatever went wrong before. */
static void forget_failure_locked(struct cm_managed *m)
{
    free(m->last);
    m->last = NULL;
    m->phase = CM_PHASE_STORED;
}

static bool is_on_its_way(const struct cm_managed *m)
{
    return m->busy || m->lined;
}

/* Will the end of what is being done for it answer a handshake? What stands in line to be renewed
 * can be loaded meanwhile. */
static bool is_coming(const struct cm_managed *m)
{
    return m->busy || (m->lined && m->wants == CM_STAGE_OBTAIN);
}

/* Is somebody who wants it served to wait? */
static bool is_awaitable(const struct cm_managed *m)
{
    return (m->busy && (m->stage == CM_STAGE_LOAD || m->stage == CM_STAGE_OBTAIN)) ||
           (m->lined && m->wants == CM_STAGE_OBTAIN);
}

bool cm_managed_wanted_locked(struct cm_managed *m, struct cm_cancel **ret_token)
{
    bool fired = m->token != NULL && cm_cancel_is_fired(m->token);

    if (m->token != NULL && (fired || m->served)) {
        *ret_token = m->token;
        m->token = NULL;
        m->background = m->background && (m->served || !fired);
    }
    return m->background || m->interest > 0;
}

/* What is wanted of it from now on; returns the token that counts no more. */
static struct cm_cancel *note_wish_locked(struct cm_managed *m, const struct cm_engage *how,
                                          bool known)
{
    struct cm_cancel *old = NULL;

    if (!how->background)
        m->interest++;
    if (how->background && !how->load_only && !m->served) {
        old = m->token;
        m->token = cm_cancel_ref(how->token);
    }
    if (!known) {
        m->load_only = how->load_only;
        m->alone = how->load_only;
    } else if (m->load_only && !how->load_only) {
        m->load_only = false;
        if (!m->busy) /* it may be due */
            cm_maint_by(cm_cache_maint(m->cfg->cache), &m->task, cm_wall_ms(m->cfg->env));
    }
    return old;
}

cm_status cm_names_engage(struct cm_config *cfg, const char *name, const struct cm_engage *how,
                          struct cm_todo *todo, struct cm_managed **ret, struct cm_err *err)
{
    struct cm_names *t = cfg->names;
    bool background = how->background;
    struct cm_cancel *old_token = NULL;
    char one[CM_NAME_BUF];
    const char *normal = how->group != NULL ? name : one;
    bool known;
    bool well = false;
    bool start = false;

    cm_status rc = how->group != NULL ? CM_OK : cm_normalize_name(name, one, err);
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&t->lock);
    struct cm_managed *m = cm_names_find_locked(t, normal);
    known = m != NULL;
    if (known && !is_awaitable(m)) {
        cm_mutex_unlock(&t->lock);
        well = cm_managed_served_well(m);
        cm_mutex_lock(&t->lock);
    }
    if (!known && how->group != NULL)
        rc = cm_group_add_locked(cfg, how->group, &m, err);
    else if (!known)
        m = cm_names_add_locked(cfg, normal);
    if (m != NULL) {
        m->served = m->served || well;
        old_token = note_wish_locked(m, how, known);
        start = !is_on_its_way(m) && !well;
        if (start)
            cm_managed_wake_locked(m, background);
        else if (is_on_its_way(m))
            m->background = m->background || background;
        if (well && !is_awaitable(m))
            forget_failure_locked(m);
    }
    cm_mutex_unlock(&t->lock);
    cm_cancel_free(old_token);
    if (m == NULL)
        return rc != CM_OK ? rc : cm_fail_nomem(err);
    *ret = m;
    if (start)
        cm_todo_add(todo, m);
    return CM_OK;
}

/* Nobody waits for it here any more; without anyone else it stops. */
static void disengage_locked(struct cm_managed *m)
{
    m->interest--;
    if (m->interest == 0 && !m->background && m->busy)
        cm_cancel_fire(m->cancel);
}

/* Until @m is served or has failed, or @op ends. */
cm_status cm_names_await(struct cm_managed *m, const struct cm_op *op, struct cm_err *err)
{
    struct cm_names *t = m->cfg->names;
    cm_status rc = CM_OK;

    cm_mutex_lock(&t->lock);
    while (is_awaitable(m) && rc == CM_OK) {
        m->awaited = true;
        (void)cm_cond_wait_ns(&t->changed, &t->lock, CM_WAIT_SLICE_NS);
        rc = cm_op_check(op, NULL);
    }
    if (!is_awaitable(m))
        rc = CM_OK;
    if (rc == CM_OK && m->last != NULL) {
        rc = m->last->err.status;
        if (err != NULL)
            *err = m->last->err;
    } else if (rc == CM_OK && m->phase == CM_PHASE_FAILED) {
        rc = cm_fail_nomem(err); /* not even the reason could be kept */
    } else if (rc != CM_OK) {
        rc = cm_op_check(op, err);
    }
    disengage_locked(m);
    cm_mutex_unlock(&t->lock);
    return rc;
}

/* All or none: a bad name is found before work begins on the others. */
static cm_status check_names(const char *const *names, size_t n, struct cm_err *err)
{
    char normal[CM_NAME_BUF];
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = cm_normalize_name(names[i], normal, err);
    return rc;
}

cm_status cm_manage(struct cm_config *cfg, const struct cm_op *op, const char *const *names,
                    size_t n, struct cm_err *err)
{
    CM_AUTO_FREE struct cm_managed **engaged = NULL;
    struct cm_todo todo = { NULL, NULL };
    struct cm_op own = { NULL, 0, NULL };
    const struct cm_engage how = { .background = false };
    cm_status first = CM_OK;

    if (cfg == NULL || (names == NULL && n > 0))
        return cm_fail(err, CM_E_INVAL, "no configuration or no names");
    engaged = cm_calloc(n, sizeof(struct cm_managed *));
    if (engaged == NULL)
        return cm_fail_nomem(err);
    if (op != NULL)
        own = *op;
    if (own.env == NULL)
        own.env = cfg->env;
    cm_status rc = check_names(names, n, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        struct cm_err why = CM_ERR_INIT;

        rc = cm_names_engage(cfg, names[i], &how, &todo, &engaged[i], &why);
        if (rc != CM_OK && first == CM_OK) {
            first = rc;
            if (err != NULL)
                *err = why;
        }
    }
    cm_peers_begin(cfg);
    cm_rounds_begin(cfg);
    cm_managed_start_all(cfg, &todo); /* failures are found below */
    /* The work is done roughly in order. So who waits for the last first sleeps once, not once for
     * each. */
    for (size_t i = n; i-- > 0;) {
        struct cm_err why = CM_ERR_INIT;

        if (engaged[i] == NULL)
            continue;
        rc = cm_names_await(engaged[i], &own, &why);
        if (rc != CM_OK && first == CM_OK) {
            first = rc;
            if (err != NULL)
                *err = why;
        }
    }
    return first;
}

cm_status cm_manage_async(struct cm_config *cfg, const char *const *names, size_t n,
                          struct cm_err *err)
{
    return cm_manage_async_cancel(cfg, names, n, NULL, err);
}

cm_status cm_manage_async_cancel(struct cm_config *cfg, const char *const *names, size_t n,
                                 struct cm_cancel *cancel, struct cm_err *err)
{
    const struct cm_engage how = { .background = true, .token = cancel };
    struct cm_todo todo = { NULL, NULL };
    struct cm_managed *m;

    if (cfg == NULL || (names == NULL && n > 0))
        return cm_fail(err, CM_E_INVAL, "no configuration or no names");
    cm_status rc = check_names(names, n, err);
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = cm_names_engage(cfg, names[i], &how, &todo, &m, err);
    cm_peers_begin(cfg);
    cm_rounds_begin(cfg);
    cm_managed_start_all(cfg, &todo);
    return rc;
}

/* ---- all of them ---- */

void cm_names_cancel(struct cm_config *cfg)
{
    struct cm_names *t = cfg->names;

    cm_mutex_lock(&t->lock);
    t->stopped = true;
    cm_mutex_unlock(&t->lock);
    cm_cancel_fire(t->halt);
    cm_pump_stop(cfg->pump, cm_managed_drop);
}

struct cm_cancel *cm_names_halt(const struct cm_config *cfg)
{
    return cfg->names->halt;
}

static void look_again_locked(struct cm_managed *m, int64_t at_ms)
{
    if (m->busy || (m->ondemand && !m->served)) /* which waits for a client to ask for it */
        return;
    m->look = true;
    cm_maint_at(cm_cache_maint(m->cfg->cache), &m->task, at_ms);
}

void cm_names_look_again(struct cm_config *cfg)
{
    struct cm_names *t = cfg->names;
    int64_t now_ms = cm_wall_ms(cfg->env);

    cm_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n_buckets; i++)
        for (struct cm_managed *m = t->buckets[i]; m != NULL; m = m->next)
            look_again_locked(m, now_ms);
    cm_mutex_unlock(&t->lock);
}

/* ---- handshakes that found nothing ---- */

/* What a hello for @name may hope for. */
enum hope { HOPE_NONE, HOPE_LOOK_AGAIN, HOPE_WAIT, HOPE_FAILED };

static enum hope hope_locked(struct cm_config *cfg, const char *name, bool looked_again,
                             struct cm_managed **ret)
{
    struct cm_managed *m = cm_names_find_locked(cfg->names, name);

    *ret = m;
    if (m == NULL)
        return HOPE_NONE;
    if (is_coming(m))
        return HOPE_WAIT;
    if (!m->served)
        return HOPE_FAILED;
    return looked_again ? HOPE_WAIT : HOPE_LOOK_AGAIN; /* evicted: it must be loaded anew */
}

static cm_status refuse_failed(const char *name, struct cm_err *err)
{
    return cm_refuse(err, CM_E_STATE, CM_ALERT_INTERNAL,
                     "'%s' is managed, but there is no certificate for it yet", name);
}

cm_status cm_names_wait(struct cm_config *cfg, const struct cm_hello *hello, const char *name,
                        bool looked_again, struct cm_pending **ret_pending, struct cm_err *err)
{
    struct cm_names *t = cfg->names;
    struct cm_pending *p = NULL;
    struct cm_managed *m;
    bool start = false;

    cm_mutex_lock(&t->lock);
    enum hope hope = hope_locked(cfg, name, looked_again, &m);
    cm_mutex_unlock(&t->lock);
    if (hope == HOPE_NONE || (hope == HOPE_FAILED && m->ondemand))
        return cm_refuse(err, CM_E_NOTFOUND, CM_ALERT_UNRECOGNIZED_NAME, "no certificate for '%s'",
                         name);
    if (hope == HOPE_LOOK_AGAIN)
        return CM_OK;
    if (hope == HOPE_FAILED || cfg->handshake_wait_ns <= 0)
        return refuse_failed(name, err);

    cm_status rc = cm_pending_new(cfg, hello, name, cfg->handshake_wait_ns, &p, err);
    if (rc == CM_OK) {
        cm_mutex_lock(&t->lock);
        if (!is_coming(m) && !m->served)
            rc = refuse_failed(name, err); /* it failed while the waiter was being made */
        else
            rc = cm_pending_join(p, &m->waiters, err);
        start = rc == CM_OK && !is_coming(m); /* evicted */
        if (start)
            cm_managed_wake_locked(m, true);
        else if (rc == CM_OK)
            cm_managed_hurry_locked(m);
        cm_mutex_unlock(&t->lock);
    }
    if (rc != CM_OK) {
        cm_pending_free(p);
        if (err != NULL)
            err->tls_alert = CM_ALERT_INTERNAL;
        return rc;
    }
    if (start) /* a failure to start answers the waiter */
        cm_managed_start(m);
    *ret_pending = p;
    return cm_fail(err, CM_E_AGAIN, "the certificate of '%s' is on its way", name);
}

/* ---- names that clients ask for (ondemand/ask.c) ---- */

bool cm_names_expect(struct cm_config *cfg, const char *name)
{
    struct cm_names *t = cfg->names;

    cm_mutex_lock(&t->lock);
    const struct cm_managed *m = cm_names_find_locked(t, name);
    bool expect = m != NULL && (m->served || is_coming(m));
    cm_mutex_unlock(&t->lock);
    return expect;
}

bool cm_names_brought(struct cm_config *cfg, const char *name, char ret_subject[CM_NAME_BUF],
                      bool *ret_denied)
{
    struct cm_names *t = cfg->names;
    const char *dot = strchr(name, '.');
    char wild[CM_NAME_BUF];
    bool brought;

    cm_mutex_lock(&t->lock);
    const struct cm_managed *m = cm_names_find_locked(t, name);
    if (m == NULL && dot != NULL) {
        wild[0] = '*';
        memcpy(wild + 1, dot, strlen(dot) + 1);
        m = cm_names_find_locked(t, wild);
    }
    brought = m != NULL && m->ondemand && (m->served || is_coming(m));
    if (brought) {
        memcpy(ret_subject, m->name, strlen(m->name) + 1);
        *ret_denied = m->denied;
    }
    cm_mutex_unlock(&t->lock);
    return brought;
}

void cm_names_judged(struct cm_config *cfg, const char *name, bool allow)
{
    struct cm_names *t = cfg->names;

    cm_mutex_lock(&t->lock);
    struct cm_managed *m = cm_names_find_locked(t, name);
    if (m != NULL)
        m->denied = !allow;
    cm_mutex_unlock(&t->lock);
}

cm_status cm_names_may_try(struct cm_config *cfg, const char *name, struct cm_err *err)
{
    struct cm_names *t = cfg->names;
    int64_t now_s = cm_env_wall_s(cfg->env);
    cm_status rc = CM_OK;

    cm_mutex_lock(&t->lock);
    const struct cm_managed *m = cm_names_find_locked(t, name);
    if (m != NULL && m->last != NULL && m->last->next_try_s > now_s) {
        rc = cm_refuse(err, CM_E_STATE, CM_ALERT_INTERNAL, "no certificate for '%s' yet: %s", name,
                       m->last->err.msg);
        if (err != NULL && m->last->next_try_s < INT64_MAX)
            err->retry_after_s = m->last->next_try_s - now_s;
    }
    cm_mutex_unlock(&t->lock);
    return rc;
}

cm_status cm_names_adopt(struct cm_config *cfg, const char *name, size_t max, bool *io_absent,
                         struct cm_waiters *w, struct cm_managed **ret_start, struct cm_err *err)
{
    struct cm_names *t = cfg->names;
    bool well = cm_is_served_well(cfg, name);
    cm_status rc = CM_OK;

    *ret_start = NULL;
    cm_mutex_lock(&t->lock);
    struct cm_managed *m = cm_names_find_locked(t, name);
    if (m == NULL && t->n_ondemand >= max) {
        rc = cm_fail(err, CM_E_LIMIT, "%zu names that clients asked for are managed already",
                     t->n_ondemand);
    } else if (m == NULL) {
        m = cm_names_add_locked(cfg, name);
        rc = m != NULL ? CM_OK : cm_fail_nomem(err);
        if (m != NULL) {
            m->ondemand = true;
            t->n_ondemand++;
        }
    }
    if (rc == CM_OK) {
        m->served = m->served || well;
        if (!well && !is_coming(m)) {
            *io_absent = *io_absent && !m->load_only; /* else loading says what is to be done */
            if (*io_absent)
                cm_managed_want_locked(m);
            else
                cm_managed_wake_locked(m, true);
            *ret_start = m;
        }
        if (is_coming(m))
            cm_waiters_move(cfg->hub, w, &m->waiters);
        if (*ret_start == NULL && is_coming(m))
            cm_managed_hurry_locked(m);
    }
    cm_mutex_unlock(&t->lock);
    return rc;
}
