/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "names.h"
#include "ondemand.h"

#include <certmesh/cm_lease.h>

#include <stdio.h>
#include <string.h>

/* One ask per name, from the first hello to a refusal or to the table of managed names, in the
 * order that cm_ondemand.h tells. What comes before the desk costs a client one look-up and us no
 * memory; how many asks there can be at the desk is bounded, and so is how fast they come. */

#define WORKERS    4u
#define BUCKETS    1024u
#define LOOK_NS    (30 * CM_NS_PER_S)
#define PER_S      1000u
#define PER_CLIENT 100u
#define ASKING     1000u
#define NAMES      100000u
#define DENIED_MS  10000
#define WINDOW_S   (3 * 3600)
#define ORDERS     200u
#define BY_CLIENT  20u
#define LABELS_MAX 10u

struct ask {
    struct ask *next;
    struct cm_run run;
    struct cm_ondemand *od;
    struct cm_waiters waiters;
    bool again; /* it was served, or on its way, when it was asked for */
    char client[CM_CLIENT_TEXT];
    char peer_ip[sizeof((struct cm_hello *)0)->peer_ip];
    bool absent;               /* storage has nothing for it */
    char subject[CM_NAME_BUF]; /* of the certificate; known once it was allowed */
    char name[];
};

struct cm_ondemand {
    struct cm_config *cfg;
    struct cm_lists *lists;
    struct cm_denied *denied;
    struct cm_pace *pace;
    struct cm_decider *decider;
    struct cm_sourcer *source;  /* NULL = none */
    struct cm_runq *work;       /* what storage is asked after a yes */
    struct cm_lease_keep *keep; /* an order takes two leases, and orders come at once */
    struct cm_recheck *recheck; /* NULL = none */
    struct cm_quota quota;
    cm_subject_fn subject;
    void *subject_user;
    bool any;
    size_t max_asking;
    size_t max_names;
    pthread_mutex_t lock; /* of what follows */
    size_t n_asks;
    struct ask *asks[BUCKETS];
};

/* ---- the desk ---- */

static struct ask **slot_of(struct cm_ondemand *od, const char *name)
{
    uint64_t h = cm_fnv1a64(CM_FNV1A64, name, strlen(name));
    struct ask **at = &od->asks[(h ^ h >> 32) % BUCKETS];

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static struct ask *ask_new_locked(struct cm_ondemand *od, const char *name, const char *client,
                                  const char *peer_ip)
{
    size_t len = strlen(name) + 1;
    struct ask *a = cm_calloc(1, sizeof *a + len);
    struct ask **at = slot_of(od, name);

    if (a == NULL)
        return NULL;
    a->od = od;
    memcpy(a->name, name, len);
    memcpy(a->client, client, sizeof a->client);
    (void)snprintf(a->peer_ip, sizeof a->peer_ip, "%s", peer_ip);
    *at = a;
    od->n_asks++;
    return a;
}

static void leave_locked(struct cm_ondemand *od, struct ask *a)
{
    struct ask **at = slot_of(od, a->name);

    CM_ASSERT(*at == a);
    *at = a->next;
    od->n_asks--;
}

/* ---- the end of an ask ---- */

static cm_status refuse_all(void *user, const struct cm_hello *hello, const char *name,
                            struct cm_cert **ret, struct cm_err *err)
{
    const struct cm_err *why = user;

    (void)hello;
    (void)name;
    (void)ret;
    *err = *why;
    return why->status;
}

/* All who wait are refused with @why. */
static void refuse(struct ask *a, struct cm_err *why)
{
    struct cm_ondemand *od = a->od;
    struct cm_hub *hub = od->cfg->hub;

    if (why->tls_alert == 0)
        why->tls_alert =
            why->status == CM_E_POLICY ? CM_ALERT_UNRECOGNIZED_NAME : CM_ALERT_INTERNAL;
    cm_logf(&od->cfg->log, why->status == CM_E_POLICY ? CM_LOG_DEBUG : CM_LOG_WARN,
            "ondemand_refused", NULL, 0, "%s", why->msg);
    cm_mutex_lock(&od->lock);
    leave_locked(od, a);
    cm_mutex_unlock(&od->lock);
    cm_waiters_answer(hub, cm_waiters_take(hub, &a->waiters), refuse_all, why);
    free(a);
}

/* Of an ask that has left the desk. */
static void answer_all(struct ask *a)
{
    struct cm_config *cfg = a->od->cfg;

    cm_waiters_answer(cfg->hub, cm_waiters_take(cfg->hub, &a->waiters), cm_choose_by_name, cfg);
    free(a);
}

/* It is served. */
static void finish(struct ask *a)
{
    struct cm_ondemand *od = a->od;

    cm_mutex_lock(&od->lock);
    leave_locked(od, a);
    cm_mutex_unlock(&od->lock);
    answer_all(a);
}

/* It is managed from here on, and who waits here waits there. */
static void hand_over(struct ask *a)
{
    struct cm_ondemand *od = a->od;
    struct cm_config *cfg = od->cfg;
    struct cm_managed *start = NULL;
    struct cm_err err = CM_ERR_INIT;

    cm_mutex_lock(&od->lock);
    cm_status rc =
        cm_names_adopt(cfg, a->subject, od->max_names, &a->absent, &a->waiters, &start, &err);
    if (rc == CM_OK)
        leave_locked(od, a);
    cm_mutex_unlock(&od->lock);
    if (rc != CM_OK) {
        refuse(a, &err);
        return;
    }
    cm_peers_begin(cfg);
    cm_rounds_begin(cfg);
    if (start != NULL)
        (a->absent ? cm_managed_line_up : cm_managed_start)(start);
    answer_all(a); /* who is left: it is served already */
}

/* ---- after a yes ---- */

/* Is @subject the name itself, or the wildcard one label above it? */
static bool does_cover(const char *subject, const char *name)
{
    const char *dot = strchr(name, '.');

    return strcmp(subject, name) == 0 ||
           (subject[0] == '*' && dot != NULL && strcmp(subject + 1, dot) == 0);
}

static cm_status find_subject(const struct cm_ondemand *od, struct ask *a, struct cm_err *err)
{
    char given[CM_NAME_BUF] = "";

    if (od->subject == NULL) {
        memcpy(a->subject, a->name, strlen(a->name) + 1);
        return CM_OK;
    }
    cm_status rc = od->subject(od->subject_user, a->name, given);
    if (rc != CM_OK)
        return cm_fail(err, rc, "the program has no subject for it (%s)", cm_status_name(rc));
    given[sizeof given - 1] = '\0';
    rc = cm_normalize_name(given, a->subject, err);
    if (rc != CM_OK || does_cover(a->subject, a->name))
        return rc;
    return cm_fail(err, CM_E_INVAL, "the subject '%s' that the program gave does not cover it",
                   a->subject);
}

/* Storage, and if there is nothing, the right to one order. */
static cm_status look(struct cm_ondemand *od, struct ask *a, struct cm_err *err)
{
    const struct cm_op none = { od->cfg->env, 0, od->cfg->stop };
    const struct cm_op op = cm_op_within(&none, LOOK_NS);
    const char *name = a->subject;
    struct cm_subject *s = NULL;
    struct cm_cert *cert = NULL;

    cm_status rc = find_subject(od, a, err);
    /* Another host below the wildcard has brought it. */
    if (rc != CM_OK || cm_names_expect(od->cfg, name))
        return rc;
    if (od->subject != NULL)
        rc = cm_names_may_try(od->cfg, name, err);
    if (rc == CM_OK)
        rc = cm_subject_new(&name, 1, &s, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_store_load(od->cfg, &op, s, CM_LOAD_QUICK, &cert, err);
    cm_subject_free(s);
    a->absent = rc == CM_E_NOTFOUND;
    /* What is not valid now is for loading to judge. */
    bool order =
        a->absent ||
        (rc == CM_OK && !cm_cert_is_valid_at(cert, cm_env_wall_s(od->cfg->env), CM_CERT_SKEW_S));
    cm_cert_unref(cert);
    return order ? cm_quota_take(od->cfg, &op, &od->quota, name, a->client, err) : rc;
}

static void run_look(struct cm_run *self)
{
    struct ask *a = CM_CONTAINER_OF(self, struct ask, run);
    struct cm_err err = CM_ERR_INIT;
    struct cm_err why = CM_ERR_INIT;

    if (look(a->od, a, &err) == CM_OK) {
        hand_over(a);
        return;
    }
    if (err.status == CM_E_RATELIMITED)
        cm_count(a->od->cfg, CM_COUNT_ONDEMAND_LIMITED);
    (void)cm_fail(&why, err.status, "no certificate for '%s': %s", a->name, err.msg);
    why.retry_after_s = err.retry_after_s;
    refuse(a, &why);
}

static void allowed(struct ask *a)
{
    struct cm_err err = CM_ERR_INIT;
    bool denied;

    /* What is there already is not held up by the others' looks into storage. */
    if (a->again && cm_names_brought(a->od->cfg, a->name, a->subject, &denied)) {
        hand_over(a);
        return;
    }
    a->run.run = run_look;
    if (cm_runq_push(a->od->work, &a->run, &err) != CM_OK)
        refuse(a, &err);
}

static void decided(void *arg, const struct cm_verdict *v)
{
    struct ask *a = arg;
    const char *reason = v->reason;
    struct cm_err err = CM_ERR_INIT;

    if (v->allow) {
        cm_logf(&a->od->cfg->log, CM_LOG_INFO, "ondemand_allowed", NULL, 0,
                "'%s' for %s is allowed%s%s", a->name, a->client, reason[0] != '\0' ? ": " : "",
                reason);
        cm_count(a->od->cfg, CM_COUNT_ONDEMAND_ALLOWED);
        cm_denied_clear(a->od->denied, a->name);
        cm_recheck_note(a->od->recheck, a->name, true);
    }
    if (v->allow || (v->failed && a->again && cm_recheck_holds(a->od->recheck, a->name, reason))) {
        allowed(a);
        return;
    }
    cm_recheck_note(a->od->recheck, a->name, false);
    cm_count(a->od->cfg, CM_COUNT_ONDEMAND_DENIED);
    cm_denied_note(a->od->denied, a->name);
    (void)cm_fail(&err, CM_E_POLICY, "no certificate for '%s' on demand: %s", a->name,
                  reason[0] != '\0' ? reason : "denied");
    refuse(a, &err);
}

/* ---- hellos ---- */

static bool is_deep(const char *name)
{
    unsigned labels = 1;

    for (; *name != '\0'; name++)
        labels += *name == '.';
    return labels > LABELS_MAX;
}

/* Without taking anything: is it a name to ask about? */
static cm_status may_be_asked_about(struct cm_ondemand *od, const char *name, struct cm_err *err)
{
    bool listed = cm_lists_any(od->lists);
    char normal[CM_NAME_BUF];

    /* No CA knows a name without a dot: that is for lists. */
    if (!cm_lists_allow(od->lists, name) || (!listed && strchr(name, '.') == NULL) ||
        (!listed && !od->any && !cm_decider_any(od->decider)))
        return cm_refuse(err, CM_E_POLICY, CM_ALERT_UNRECOGNIZED_NAME,
                         "'%s' is not among the names that may have a certificate on demand", name);
    int64_t wait_ns = cm_denied_wait_ns(od->denied, name);
    if (wait_ns > 0)
        return cm_refuse(err, CM_E_POLICY, CM_ALERT_UNRECOGNIZED_NAME,
                         "'%s' was denied a certificate on demand, and is not asked about again "
                         "for %lld s",
                         name, (long long)(wait_ns / CM_NS_PER_S + 1));
    /* As any other call would have it, underscores and all. */
    if (cm_normalize_name(name, normal, NULL) != CM_OK || strcmp(normal, name) != 0 ||
        strchr(name, '_') != NULL || is_deep(name))
        return cm_refuse(err, CM_E_POLICY, CM_ALERT_UNRECOGNIZED_NAME,
                         "'%s' is no name that a CA certifies", name);
    return CM_OK;
}

/* And is there any sense in it, when there is no certificate? */
static cm_status may_ask(struct cm_ondemand *od, const char *name, struct cm_err *err)
{
    cm_status rc = may_be_asked_about(od, name, err);

    return rc == CM_OK ? cm_names_may_try(od->cfg, name, err) : rc;
}

/* A new question: is there room, and is it time for another? */
static cm_status may_begin(struct cm_ondemand *od, const char *name, const char *client,
                           struct cm_err *err)
{
    bool known, full;

    cm_mutex_lock(&od->lock);
    known = *slot_of(od, name) != NULL;
    full = od->n_asks >= od->max_asking;
    cm_mutex_unlock(&od->lock);
    if (known)
        return CM_OK;
    if (full)
        return cm_refuse(err, CM_E_LIMIT, CM_ALERT_INTERNAL,
                         "'%s': %zu names wait for a decision already", name, od->max_asking);
    if (!cm_pace_take(od->pace, client))
        return cm_refuse(err, CM_E_LIMIT, CM_ALERT_INTERNAL,
                         "'%s': too many names are asked for, in all or by %s", name, client);
    return CM_OK;
}

/* ---- from the source to the decision ---- */

static void put_question(struct ask *a)
{
    struct cm_decider *d = a->od->decider;
    struct cm_err err = CM_ERR_INIT;

    if (!cm_decider_any(d)) {
        cm_count(a->od->cfg, CM_COUNT_ONDEMAND_ALLOWED);
        allowed(a);
    } else if (cm_decider_begin(d, a->name, a->peer_ip,
                                a->again ? CM_ONDEMAND_SERVE : CM_ONDEMAND_OBTAIN, decided, a,
                                &err) != CM_OK) {
        refuse(a, &err);
    }
}

/* What could not be said before the source was asked. */
static void sourced(void *arg, bool served)
{
    struct ask *a = arg;
    struct cm_ondemand *od = a->od;
    struct cm_err err = CM_ERR_INIT;

    if (served) {
        finish(a);
    } else if (may_ask(od, a->name, &err) == CM_OK) {
        put_question(a);
    } else {
        cm_count(od->cfg, CM_COUNT_ONDEMAND_REFUSED);
        refuse(a, &err);
    }
}

static void begin(struct ask *a, bool ask_source)
{
    struct cm_err err = CM_ERR_INIT;

    if (!ask_source)
        put_question(a);
    else if (cm_sourcer_begin(a->od->source, a->name, a->peer_ip, sourced, a, &err) != CM_OK)
        refuse(a, &err);
}

/* Has a certificate come meanwhile, or is it coming? What is handed over leaves the desk while its
 * lock is held, and so does what the source gave. */
static bool has_come_locked(struct cm_ondemand *od, const char *name)
{
    return cm_names_expect(od->cfg, name) || cm_sourcer_has(od->source, name);
}

cm_status cm_ondemand_wait(struct cm_config *cfg, const struct cm_hello *hello, const char *name,
                           bool again, struct cm_pending **ret_pending, struct cm_err *err)
{
    struct cm_ondemand *od = cfg->ondemand;
    char client[CM_CLIENT_TEXT];
    struct cm_pending *p = NULL;
    struct ask *a = NULL;
    bool start = false;
    bool come = false;

    bool ask_source = !again && cm_sourcer_wants(od->source, name);
    cm_status rc = ask_source ? CM_OK
                   : again    ? may_be_asked_about(od, name, err)
                              : may_ask(od, name, err);
    if (rc != CM_OK) {
        cm_count(cfg, CM_COUNT_ONDEMAND_REFUSED);
        return rc;
    }
    cm_client_of(hello->peer_ip, client);
    rc = may_begin(od, name, client, err);
    if (rc != CM_OK)
        cm_count(cfg, CM_COUNT_ONDEMAND_LIMITED);
    if (rc == CM_OK)
        rc = cm_pending_new(cfg, hello, name, cfg->handshake_wait_ns, &p, err);
    if (rc == CM_OK) {
        cm_mutex_lock(&od->lock);
        a = *slot_of(od, name);
        come = a == NULL && !again && has_come_locked(od, name);
        if (a == NULL && !come) {
            a = ask_new_locked(od, name, client, hello->peer_ip);
            start = a != NULL;
            if (start)
                a->again = again;
            rc = start ? CM_OK : cm_fail_nomem(err);
        }
        if (a != NULL)
            rc = cm_pending_join(p, &a->waiters, err);
        cm_mutex_unlock(&od->lock);
    }
    if (start) /* even if who asked cannot wait */
        begin(a, ask_source);
    if (rc != CM_OK || come) {
        cm_pending_free(p);
        if (rc != CM_OK && err != NULL && err->tls_alert == 0)
            err->tls_alert = CM_ALERT_INTERNAL;
        return rc;
    }
    *ret_pending = p;
    return cm_fail(err, CM_E_AGAIN, "whether '%s' gets a certificate is being decided", name);
}

/* ---- renewals ---- */

struct renewal {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, allow;
    char reason[200];
};

static void renewal_decided(void *arg, const struct cm_verdict *v)
{
    struct renewal *r = arg;

    cm_mutex_lock(&r->lock);
    r->done = true;
    r->allow = v->allow;
    (void)cm_escape(v->reason, strlen(v->reason), r->reason, sizeof r->reason);
    (void)pthread_cond_broadcast(&r->changed);
    cm_mutex_unlock(&r->lock);
}

cm_status cm_ondemand_renew(struct cm_config *cfg, const char *name, struct cm_err *err)
{
    struct cm_ondemand *od = cfg->ondemand;
    struct renewal r = { .done = false };

    if (od == NULL || !cm_decider_any(od->decider))
        return CM_OK;
    cm_mutex_init(&r.lock);
    cm_cond_init(&r.changed);
    cm_status rc =
        cm_decider_begin(od->decider, name, "", CM_ONDEMAND_RENEW, renewal_decided, &r, err);
    if (rc == CM_OK) {
        cm_mutex_lock(&r.lock);
        while (!r.done) /* the decider sees to the time */
            (void)cm_cond_wait_ns(&r.changed, &r.lock, CM_NS_PER_S);
        cm_mutex_unlock(&r.lock);
        if (!r.allow)
            rc = cm_fail(err, CM_E_POLICY, "'%s' may not be renewed: %s", name,
                         r.reason[0] != '\0' ? r.reason : "denied");
    }
    (void)pthread_cond_destroy(&r.changed);
    (void)pthread_mutex_destroy(&r.lock);
    return rc;
}

/* ---- beginning and end ---- */

static unsigned or_default(unsigned given, unsigned by_default)
{
    return given != 0 ? given : by_default;
}

static void set_limits(struct cm_ondemand *od, const struct cm_ondemand_options *o)
{
    struct cm_quota *q = &od->quota;

    q->window_s = o->orders_window_s != 0 ? o->orders_window_s : WINDOW_S;
    q->total = or_default(o->orders, ORDERS);
    q->per_domain = or_default(o->orders_per_domain, q->total);
    q->per_client = or_default(o->orders_per_client, BY_CLIENT);
    od->max_asking = or_default(o->max_asking, ASKING);
    od->max_names = or_default(o->max_names, NAMES);
    od->any = o->allow_any_dangerous;
    od->subject = o->subject;
    od->subject_user = o->subject_user;
}

cm_status cm_ondemand_new(struct cm_config *cfg, const struct cm_ondemand_options *given,
                          struct cm_ondemand **ret, struct cm_err *err)
{
    struct cm_ondemand_options o;

    cm_status rc = cm_ondemand_read(given, &o, err);
    if (rc != CM_OK)
        return rc;
    if (cfg->handshake_wait_ns <= 0)
        return cm_fail(
            err, CM_E_INVAL,
            "option on_demand needs handshakes that wait: handshake_wait_ms is negative");
    struct cm_ondemand *od = cm_calloc(1, sizeof *od);
    if (od == NULL)
        return cm_fail_nomem(err);
    od->cfg = cfg;
    cm_mutex_init(&od->lock);
    set_limits(od, &o);
    rc = cm_lists_new(&o, &od->lists, err);
    if (rc == CM_OK)
        rc = cm_denied_new(cfg->env, (o.denied_ms != 0 ? o.denied_ms : DENIED_MS) * CM_NS_PER_MS,
                           &od->denied, err);
    if (rc == CM_OK)
        rc = cm_pace_new(cfg->env, or_default(o.asks_per_s, PER_S),
                         or_default(o.asks_per_client_s, PER_CLIENT), &od->pace, err);
    if (rc == CM_OK)
        rc = cm_lease_keep_new(cfg->storage, &od->keep, err);
    if (rc == CM_OK)
        rc = cm_runq_new(WORKERS, &od->work, err);
    if (rc == CM_OK)
        rc = cm_decider_new(cfg->env, &o, &od->decider, err);
    if (rc == CM_OK)
        rc = cm_sourcer_new(cfg, &o, &od->source, err);
    if (rc == CM_OK)
        rc = cm_recheck_new(cfg, &o, &od->recheck, err);
    if (rc != CM_OK) {
        cm_ondemand_free(od);
        return rc;
    }
    cfg->recheck = od->recheck;
    *ret = od;
    return CM_OK;
}

void cm_ondemand_stop(struct cm_ondemand *od)
{
    if (od == NULL)
        return;
    cm_sourcer_stop(od->source);
    if (od->decider != NULL)
        cm_decider_stop(od->decider);
    cm_runq_stop(od->work);
}

void cm_ondemand_free(struct cm_ondemand *od)
{
    if (od == NULL)
        return;
    cm_ondemand_stop(od);
    CM_ASSERT(od->n_asks == 0);
    cm_recheck_free(od->recheck);
    cm_sourcer_free(od->source);
    cm_decider_free(od->decider);
    cm_runq_free(od->work);
    cm_lease_keep_free(od->keep);
    cm_pace_free(od->pace);
    cm_denied_free(od->denied);
    cm_lists_free(od->lists);
    (void)pthread_mutex_destroy(&od->lock);
    free(od);
}
