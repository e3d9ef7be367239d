/* SPDX-License-Identifier: Apache-2.0 */
#include "tickets.h"

#include <string.h>

/* The keys of session tickets: which ones this process uses, and that they are the fleet's, so that
 * a client that comes back to another node need not begin anew.
 *
 * Handshakes take a reference to a set of keys and never wait for storage. A task of the clockwork
 * reads storage now and then, when it tells of a change, and at the moments at which another key's
 * time comes; whoever finds
 * that a successor is missing makes one, under a lock that nobody waits for. While storage is away
 * a process goes on with what it has: at first that is a key of its own. */

#define WORK_NS     (10 * CM_NS_PER_S)
#define RETRY_S     30 /* after a failure, and some chance */
#define CONTENDED_S 2  /* somebody else is at it: he needs moments */
#define FUTURE_ENDS                                                                                \
    (24 * 3600 * CM_NS_PER_S) /* a record of a clock far ahead is believed so long */

struct cm_tickets {
    struct cm_task task;
    struct cm_run run;
    pthread_mutex_t lock;      /* a leaf but for the clockwork's */
    struct cm_ticket_set *set; /* guarded by it, as are ... */
    bool busy;                 /* a look is under way, or waits for a worker */
    bool changed;              /* storage has told of a change since it began */
    _Atomic bool begun;
    bool shared;
    int64_t interval_s;
    /* the worker's */
    bool adopted;  /* @known is what storage had */
    bool stumbled; /* the last time; it has been told */
    struct cm_ticket_record known;
    uint8_t own[CM_TICKET_KEY_LEN];
    int64_t own_until_s;     /* its tickets are accepted until then; INT64_MAX: not adopted yet */
    int64_t future_since_ns; /* monotonic; 0: what storage has is not of the future */
};

/* ---- sets ---- */

static struct cm_ticket_set *set_new(void)
{
    struct cm_ticket_set *s = cm_calloc(1, sizeof *s);

    if (s != NULL)
        atomic_init(&s->refs, 1);
    return s;
}

static void set_add(struct cm_ticket_set *s, const uint8_t key[CM_TICKET_KEY_LEN])
{
    CM_ASSERT(s->n < CM_TICKET_KEYS);
    memcpy(s->key[s->n++], key, CM_TICKET_KEY_LEN);
}

void cm_ticket_set_unref(struct cm_ticket_set *s)
{
    struct cm_ticket_derived *derived;

    if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    derived = atomic_load(&s->derived);
    if (derived != NULL)
        derived->destroy(derived);
    cm_wipe(s->key, sizeof s->key);
    free(s);
}

struct cm_ticket_set *cm_config_ticket_set(struct cm_config *cfg)
{
    struct cm_tickets *t = cfg->tickets;

    cm_mutex_lock(&t->lock);
    struct cm_ticket_set *s = t->set;
    (void)atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    cm_mutex_unlock(&t->lock);
    return s;
}

/* What is derived from the keys goes with the set: so an equal one does not take its place. */
static void set_swap(struct cm_tickets *t, struct cm_ticket_set *s)
{
    struct cm_ticket_set *old;

    cm_mutex_lock(&t->lock);
    bool same = t->set->n == s->n && memcmp(t->set->key, s->key, sizeof s->key) == 0;
    old = same ? s : t->set;
    t->set = same ? t->set : s;
    cm_mutex_unlock(&t->lock);
    cm_ticket_set_unref(old);
}

/* The keys of now. Tickets of the next one may come already, from a node whose clock is ahead. */
static void set_make(struct cm_tickets *t, int64_t now_s)
{
    struct cm_ticket_set *s = t->adopted ? set_new() : NULL;

    if (s == NULL)
        return; /* of one's own, or without memory: as before */
    size_t cur = cm_ticket_current(&t->known, now_s);
    set_add(s, t->known.at[cur].key);
    for (size_t i = cur + 1; i < t->known.n; i++)
        set_add(s, t->known.at[i].key);
    if (cur > 0 && now_s < t->known.at[cur].from_s + t->interval_s)
        set_add(s, t->known.at[cur - 1].key);
    if (now_s < t->own_until_s)
        set_add(s, t->own);
    else
        cm_wipe(t->own, sizeof t->own);
    set_swap(t, s);
}

/* ---- storage ---- */

enum stored { STORED_GOOD, STORED_DAMAGED, STORED_NOTHING };

/* Not whether it is of use: *@ret_is. Else an error of the storage. */
static cm_status load(struct cm_tickets *t, const struct cm_op *op, struct cm_ticket_record *ret,
                      enum stored *ret_is, struct cm_err *why)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_TICKET_RECORD_MAX);

    cm_status rc = cm_storage_load(t->task.cfg->storage, op, CM_TICKETS_KEY, &text, why);
    if (rc == CM_E_NOTFOUND) {
        *ret_is = STORED_NOTHING;
        return CM_OK;
    }
    if (rc == CM_OK)
        rc = cm_ticket_parse(cm_buf_span(&text), ret, why);
    if (rc != CM_OK && !cm_status_is_damage(rc))
        return rc;
    *ret_is = rc == CM_OK ? STORED_GOOD : STORED_DAMAGED;
    return CM_OK;
}

/* Damage is mended with what the fleet has been using; a record of the future with the same after a
 * day, as it may be this clock that is wrong. */
static const struct cm_ticket_record *base_of(struct cm_tickets *t, enum stored is,
                                              const struct cm_ticket_record *r, int64_t now_s)
{
    int64_t mono = t->task.cfg->env->mono_ns(t->task.cfg->env);

    if (is == STORED_NOTHING)
        return NULL;
    if (is == STORED_DAMAGED)
        return t->adopted && !cm_ticket_is_future(&t->known, now_s) ? &t->known : NULL;
    if (!cm_ticket_is_future(r, now_s)) {
        t->future_since_ns = 0;
        return r;
    }
    if (t->future_since_ns == 0)
        t->future_since_ns = mono > 0 ? mono : 1;
    return mono - t->future_since_ns < FUTURE_ENDS ? r : NULL;
}

/* What storage ought to have, given that it has @r; *@ret_new: it has not. */
static cm_status plan(struct cm_tickets *t, enum stored is, const struct cm_ticket_record *r,
                      struct cm_ticket_record *ret, bool *ret_new, struct cm_err *why)
{
    const struct cm_env *env = t->task.cfg->env;
    int64_t now_s = cm_env_wall_s(env);
    const struct cm_ticket_record *base = base_of(t, is, r, now_s);

    if (base == r && is == STORED_GOOD && cm_ticket_is_future(r, now_s)) {
        *ret = *r;
        *ret_new = false;
        return CM_OK;
    }
    cm_status rc = cm_ticket_plan(env, base, now_s, t->interval_s, ret, ret_new, why);
    if (rc == CM_OK && is == STORED_DAMAGED)
        *ret_new = true;
    return rc;
}

static void adopt(struct cm_tickets *t, const struct cm_ticket_record *r)
{
    if (!t->adopted)
        t->own_until_s = cm_env_wall_s(t->task.cfg->env) + t->interval_s;
    t->adopted = true;
    if (r != &t->known)
        t->known = *r;
}

static cm_status put(struct cm_config *cfg, struct cm_lease *lease, const struct cm_op *op,
                     const struct cm_ticket_record *r, struct cm_err *why)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_TICKET_RECORD_MAX);
    struct cm_commit_item item = { .key = CM_TICKETS_KEY };

    cm_status rc = cm_ticket_format(r, &text, why);
    item.value = cm_buf_span(&text);
    if (rc != CM_OK)
        return rc;
    cm_peers_writing(cfg, item.key);
    rc = cm_lease_commit(lease, op, &item, 1, why);
    cm_peers_written(cfg, item.key);
    return rc;
}

static void tell_of_new(const struct cm_config *cfg, enum stored is, bool future)
{
    if (is == STORED_DAMAGED || future)
        cm_logf(&cfg->log, CM_LOG_WARN, "ticket_keys_replaced", NULL, 0,
                "'%s' in storage %s: it has been written anew", CM_TICKETS_KEY,
                future ? "is of a clock that is far ahead" : "could not be used");
    else
        cm_logf(&cfg->log, CM_LOG_INFO, "ticket_keys_rotated", NULL, 0,
                "session tickets: the fleet has %s key",
                is == STORED_NOTHING ? "a first" : "another");
}

/* Somebody may have been faster: so it is looked at once more under the lock. */
static cm_status renew_locked(struct cm_tickets *t, const struct cm_op *op, struct cm_lease *lease,
                              struct cm_err *why)
{
    struct cm_ticket_record r, fresh;
    enum stored is = STORED_NOTHING;
    bool is_new = false;

    memset(&r, 0, sizeof r);
    memset(&fresh, 0, sizeof fresh);
    cm_status rc = load(t, op, &r, &is, why);
    if (rc == CM_OK)
        rc = plan(t, is, &r, &fresh, &is_new, why);
    if (rc == CM_OK && is_new)
        rc = put(t->task.cfg, lease, op, &fresh, why);
    if (rc == CM_OK) {
        if (is_new)
            tell_of_new(t->task.cfg, is, t->future_since_ns != 0);
        adopt(t, &fresh);
    }
    cm_wipe(&r, sizeof r);
    cm_wipe(&fresh, sizeof fresh);
    return rc;
}

static cm_status renew(struct cm_tickets *t, const struct cm_op *op, struct cm_err *why)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct cm_config *cfg = t->task.cfg;
    struct cm_lease *lease = NULL;

    lo.try_only = true;
    lo.log = cfg->log;
    cm_status rc = cm_lease_acquire(cfg->storage, op, CM_TICKETS_LOCK, &lo, &lease, why);
    if (rc != CM_OK)
        return rc;
    struct cm_op held = *op;
    held.cancel = cm_lease_cancel(lease);
    rc = renew_locked(t, &held, lease, why);
    cm_lease_release(lease);
    return rc;
}

/* CM_E_BUSY: a peer is renewing them. */
static cm_status look(struct cm_tickets *t, const struct cm_op *op, struct cm_err *why)
{
    struct cm_ticket_record r, fresh;
    enum stored is = STORED_NOTHING;
    bool is_new = false;

    memset(&r, 0, sizeof r);
    memset(&fresh, 0, sizeof fresh);
    cm_status rc = load(t, op, &r, &is, why);
    if (rc == CM_OK)
        rc = plan(t, is, &r, &fresh, &is_new, why);
    /* Also when its successor is yet to be made: that may fail. */
    if (rc == CM_OK && is == STORED_GOOD)
        adopt(t, &r);
    if (rc == CM_OK && is_new)
        rc = renew(t, op, why);
    cm_wipe(&r, sizeof r);
    cm_wipe(&fresh, sizeof fresh);
    return rc;
}

/* ---- the clockwork ---- */

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Storage is looked at anew, or what was read at the last time means another thing then. */
static int64_t next_s(const struct cm_tickets *t, int64_t now_s, cm_status rc)
{
    const struct cm_env *env = t->task.cfg->env;
    int64_t poll_s = sooner(CM_TICKET_POLL_S, t->interval_s / 4);
    int64_t at_s = now_s + poll_s - (int64_t)cm_random_below(env, (uint64_t)poll_s / 4 + 1);

    if (rc == CM_E_BUSY)
        at_s = now_s + CONTENDED_S + (int64_t)cm_random_below(env, 2 * CONTENDED_S);
    else if (rc != CM_OK)
        at_s = now_s + sooner(RETRY_S + (int64_t)cm_random_below(env, RETRY_S), poll_s);
    if (!t->adopted)
        return at_s;
    size_t cur = cm_ticket_current(&t->known, now_s);
    for (size_t i = cur; i < t->known.n; i++) {
        if (t->known.at[i].from_s > now_s)
            at_s = sooner(at_s, t->known.at[i].from_s);
    }
    if (t->known.at[cur].from_s + t->interval_s > now_s)
        at_s = sooner(at_s, t->known.at[cur].from_s + t->interval_s);
    if (t->own_until_s > now_s)
        at_s = sooner(at_s, t->own_until_s);
    return at_s > now_s ? at_s : now_s + 1;
}

static void again_at(struct cm_tickets *t, int64_t s)
{
    cm_maint_at(cm_cache_maint(t->task.cfg->cache), &t->task, cm_ms_of(s));
}

static void tell_of_failure(struct cm_tickets *t, cm_status rc, const struct cm_err *why)
{
    bool failed = rc != CM_OK && rc != CM_E_BUSY;

    if (rc == CM_E_CANCELED)
        return;
    if (failed && !t->stumbled)
        cm_logf(&t->task.cfg->log, CM_LOG_WARN, "ticket_keys_not_shared", NULL, 0,
                "keys of session tickets cannot be had from storage, so %s: %s",
                t->adopted ? "those at hand go on" : "this node has its own", why->msg);
    t->stumbled = failed;
}

static void run(struct cm_run *self)
{
    struct cm_tickets *t = CM_CONTAINER_OF(self, struct cm_tickets, run);
    struct cm_config *cfg = t->task.cfg;
    const struct cm_op whole = { cfg->env, 0, cm_names_halt(cfg) };
    const struct cm_op op = cm_op_within(&whole, WORK_NS);
    struct cm_err why = CM_ERR_INIT;

    cm_mutex_lock(&t->lock);
    t->changed = false;
    cm_mutex_unlock(&t->lock);
    cm_status rc = look(t, &op, &why);
    int64_t now_s = cm_env_wall_s(cfg->env);
    set_make(t, now_s);
    tell_of_failure(t, rc, &why);
    int64_t at_s = next_s(t, now_s, rc);
    cm_mutex_lock(&t->lock);
    t->busy = false;
    if (t->changed && rc == CM_OK)
        at_s = now_s;
    /* Under the lock: whoever finds it idle moves it from there. */
    again_at(t, at_s);
    cm_mutex_unlock(&t->lock);
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

static bool is_first(struct cm_tickets *t)
{
    cm_mutex_lock(&t->lock);
    bool first = !t->busy;
    t->busy = true;
    cm_mutex_unlock(&t->lock);
    return first;
}

static void fire(struct cm_task *task)
{
    struct cm_tickets *t = CM_CONTAINER_OF(task, struct cm_tickets, task);
    struct cm_config *cfg = task->cfg;

    if (!is_first(t))
        return; /* its end says when */
    t->run.run = run;
    cm_maint_enter(cm_cache_maint(cfg->cache), 1);
    if (cm_runq_push(cfg->io, &t->run, NULL) == CM_OK)
        return;
    cm_maint_leave(cm_cache_maint(cfg->cache)); /* the config goes, or no thread is to be had */
    cm_mutex_lock(&t->lock);
    t->busy = false;
    cm_mutex_unlock(&t->lock);
    again_at(t, cm_env_wall_s(cfg->env) + RETRY_S);
}

void cm_tickets_changed(struct cm_config *cfg)
{
    struct cm_tickets *t = cfg->tickets;

    if (!t->shared || !atomic_load_explicit(&t->begun, memory_order_relaxed))
        return;
    cm_mutex_lock(&t->lock);
    t->changed = true;
    if (!t->busy)
        again_at(t, cm_env_wall_s(cfg->env));
    cm_mutex_unlock(&t->lock);
}

void cm_config_tickets_begin(struct cm_config *cfg)
{
    struct cm_tickets *t = cfg->tickets;

    if (!t->shared || atomic_load_explicit(&t->begun, memory_order_relaxed) ||
        atomic_exchange(&t->begun, true))
        return;
    again_at(t, cm_env_wall_s(cfg->env));
    cm_peers_begin(cfg);
}

cm_status cm_tickets_new(struct cm_config *cfg, bool shared, int64_t interval_s,
                         struct cm_tickets **ret, struct cm_err *err)
{
    struct cm_tickets *t = cm_calloc(1, sizeof *t);

    if (t == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&t->lock);
    cm_task_init(&t->task, cfg, fire);
    t->shared = shared;
    t->interval_s = interval_s > 0 ? interval_s : CM_TICKET_INTERVAL_S;
    t->own_until_s = INT64_MAX;
    t->set = set_new();
    cm_status rc = t->set != NULL ? CM_OK : cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = cm_env_random(cfg->env, t->own, sizeof t->own, err);
    if (rc == CM_OK && shared)
        rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        cm_tickets_free(t);
        return rc;
    }
    set_add(t->set, t->own);
    *ret = t;
    return CM_OK;
}

void cm_tickets_free(struct cm_tickets *t)
{
    if (t == NULL)
        return;
    cm_ticket_set_unref(t->set);
    (void)pthread_mutex_destroy(&t->lock);
    cm_wipe(&t->known, sizeof t->known);
    cm_wipe(t->own, sizeof t->own);
    free(t);
}
