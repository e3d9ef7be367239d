/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

/* The work for one managed name. Loading goes through the I/O queue and ordering through the job
 * queue, so that names whose CA does not answer never keep those from being served that storage
 * has already. */

#define LOAD_LIMIT_NS (60 * CM_NS_PER_S)
#define JOB_LIMIT_NS  (30 * 60 * CM_NS_PER_S)

static void run_stage(struct cm_run *self);

/* What one stage came to. */
struct outcome {
    cm_status rc;
    struct cm_err err;
    bool go_on;
    uint8_t next; /* enum cm_stage to go on with */
    bool served;
};

static void tell(const struct cm_managed *m, enum cm_phase phase, const struct cm_err *why)
{
    const struct cm_config *cfg = m->cfg;

    if (cfg->on_progress != NULL)
        cfg->on_progress(cfg->progress_user, m->name, phase, why);
}

/* For a handshake that waited: what the cache has by now. */
static cm_status answer(void *user, const struct cm_hello *hello, const char *name,
                        struct cm_cert **ret, struct cm_err *err)
{
    cm_status rc = cm_choose_by_name(user, hello, name, ret, err);

    if (rc == CM_E_NOTFOUND)
        rc = cm_refuse(err, CM_E_STATE, CM_ALERT_INTERNAL,
                       "there is no certificate for '%s' yet: it could not be obtained", name);
    return rc;
}

/* The end of the work: note it, then give everyone who waits what there is. */
static void finish(struct cm_managed *m, struct outcome *o)
{
    struct cm_names *t = m->cfg->names;
    struct cm_config *cfg = m->cfg;
    struct cm_pending *waiting;
    struct cm_cancel *cancel;
    struct cm_err *old;
    struct cm_err *why = NULL;

    if (o->rc != CM_OK) {
        why = cm_calloc(1, sizeof *why);
        if (why != NULL) {
            *why = o->err;
            why->status = o->rc;
        }
    }
    cm_mutex_lock(&t->lock);
    old = m->last;
    m->last = why;
    m->busy = false;
    m->background = false;
    m->served = m->served || o->served;
    m->phase = (uint8_t)(o->rc == CM_OK ? CM_PHASE_STORED : CM_PHASE_FAILED);
    cancel = m->cancel;
    m->cancel = NULL;
    waiting = cm_waiters_take(cfg->hub, &m->waiters);
    if (m->awaited)
        (void)pthread_cond_broadcast(&t->changed);
    cm_mutex_unlock(&t->lock);
    /* From here on another job may begin: m is only read for what is fixed. */
    cm_cancel_free(cancel);
    free(old);
    cm_waiters_answer(cfg->hub, waiting, answer, cfg);
    tell(m, o->rc == CM_OK ? CM_PHASE_STORED : CM_PHASE_FAILED, o->rc == CM_OK ? NULL : &o->err);
}

/* Served now, although the work goes on. */
static void note_served(struct cm_managed *m)
{
    struct cm_names *t = m->cfg->names;
    struct cm_pending *waiting;

    cm_mutex_lock(&t->lock);
    m->served = true;
    m->phase = CM_PHASE_STORED;
    waiting = cm_waiters_take(m->cfg->hub, &m->waiters);
    if (m->awaited)
        (void)pthread_cond_broadcast(&t->changed);
    cm_mutex_unlock(&t->lock);
    cm_waiters_answer(m->cfg->hub, waiting, answer, m->cfg);
    tell(m, CM_PHASE_STORED, NULL);
}

static void job_progress(void *user, enum cm_phase phase)
{
    struct cm_managed *m = user;

    /* The job's own end is not the name's: that comes when the cache has it. */
    if (phase == CM_PHASE_STORED || phase == CM_PHASE_FAILED)
        return;
    cm_mutex_lock(&m->cfg->names->lock);
    m->phase = (uint8_t)phase;
    cm_mutex_unlock(&m->cfg->names->lock);
}

static cm_status serve(struct cm_managed *m, struct cm_cert *cert, struct cm_err *err)
{
    return cm_cache_put(m->cfg->cache, cert, cm_env_wall_s(m->cfg->env), err);
}

/* Storage first: most names of most starts are there already. */
static void load_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                       struct outcome *o)
{
    struct cm_config *cfg = m->cfg;
    struct cm_cert *cert = NULL;

    if (cm_is_served_well(cfg, m->name)) {
        o->served = true;
        return;
    }
    o->rc = cm_store_load(cfg, op, s, CM_LOAD_VALID, &cert, &o->err);
    if (o->rc == CM_E_NOTFOUND) {
        o->next = CM_STAGE_OBTAIN;
        o->go_on = true;
        o->rc = CM_OK;
        return;
    }
    if (o->rc != CM_OK)
        return;
    o->rc = serve(m, cert, &o->err);
    o->served = o->rc == CM_OK;
    if (o->served)
        cm_recheck(m, cert);
    if (o->served && cm_env_wall_s(cfg->env) >= cm_cert_renew_at_s(cert, cfg)) {
        o->next = CM_STAGE_RENEW;
        o->go_on = true;
    }
    cm_cert_unref(cert);
}

/* Better an expired certificate than none: the clock here may be what is wrong. */
static void serve_old(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                      struct outcome *o)
{
    struct cm_cert *cert = NULL;

    if (cm_store_load(m->cfg, op, s, CM_LOAD_NEWEST, &cert, NULL) == CM_OK)
        o->served = serve(m, cert, NULL) == CM_OK;
    cm_cert_unref(cert);
}

static void job_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                      struct outcome *o)
{
    struct cm_job job = { .cfg = m->cfg,
                          .op = op,
                          .subject = s,
                          .mode = m->stage == CM_STAGE_RENEW ? CM_JOB_RENEW : CM_JOB_OBTAIN,
                          .progress = job_progress,
                          .progress_user = m };

    o->rc = cm_job_run(&job, &o->err);
    if (job.cert != NULL) {
        struct cm_err err = CM_ERR_INIT;
        cm_status rc = serve(m, job.cert, &err);

        o->served = rc == CM_OK;
        if (o->rc == CM_OK && rc != CM_OK) {
            o->rc = rc;
            o->err = err;
        }
        cm_cert_unref(job.cert);
    }
    if (o->rc == CM_OK)
        return;
    cm_logf(&m->cfg->log, CM_LOG_ERROR, "certificate_failed", NULL, 0, "%s '%s': %s%s",
            m->stage == CM_STAGE_RENEW ? "renew" : "obtain", m->name, o->err.msg,
            o->served ? " (it is served from memory)" : "");
    if (!o->served && m->stage == CM_STAGE_OBTAIN)
        serve_old(m, s, op, o);
}

/* False if nobody wants it any more. */
static bool begin(struct cm_managed *m, struct cm_cancel *cancel)
{
    bool wanted;

    cm_mutex_lock(&m->cfg->names->lock);
    wanted = m->background || m->interest > 0;
    if (wanted)
        m->cancel = cancel;
    cm_mutex_unlock(&m->cfg->names->lock);
    return wanted;
}

static void go_on(struct cm_managed *m, uint8_t stage)
{
    struct cm_cancel *cancel;

    cm_mutex_lock(&m->cfg->names->lock);
    cancel = m->cancel;
    m->cancel = NULL;
    m->stage = stage;
    /* A renewal of what is served already is nobody's wait. */
    if (stage == CM_STAGE_RENEW)
        m->background = true;
    cm_mutex_unlock(&m->cfg->names->lock);
    cm_cancel_free(cancel);
}

static struct cm_runq *queue_of(const struct cm_managed *m)
{
    return m->stage == CM_STAGE_LOAD ? m->cfg->io : m->cfg->jobs;
}

static cm_status push(struct cm_managed *m, struct cm_err *err)
{
    m->run.run = run_stage;
    return cm_runq_push(queue_of(m), &m->run, err);
}

/* Between two queues it is in none, and this does nothing. */
void cm_managed_hurry_locked(struct cm_managed *m)
{
    cm_runq_hurry(queue_of(m), &m->run);
}

static void run_stage(struct cm_run *self)
{
    struct cm_managed *m = CM_CONTAINER_OF(self, struct cm_managed, run);
    struct outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };
    struct cm_cancel *cancel = NULL;
    struct cm_subject *s = NULL;
    const char *name = m->name;
    struct cm_op op = { m->cfg->env, 0, NULL };

    /* Loading is short: it ends with the configuration, not with whoever waits for the name. */
    op.cancel = m->cfg->stop;
    if (m->stage != CM_STAGE_LOAD)
        o.rc = cm_cancel_new(m->cfg->stop, &cancel, &o.err);
    if (o.rc == CM_OK && !begin(m, cancel)) {
        cm_cancel_free(cancel);
        o.rc = cm_fail(&o.err, CM_E_CANCELED, "'%s': canceled before it began", m->name);
    } else if (o.rc == CM_OK) {
        if (cancel != NULL)
            op.cancel = cancel;
        op = cm_op_within(&op, m->stage == CM_STAGE_LOAD ? LOAD_LIMIT_NS : JOB_LIMIT_NS);
        o.rc = cm_subject_new(&name, 1, &s, &o.err);
        if (o.rc == CM_OK && m->stage == CM_STAGE_LOAD)
            load_stage(m, s, &op, &o);
        else if (o.rc == CM_OK)
            job_stage(m, s, &op, &o);
        cm_subject_free(s);
    }
    if (o.rc == CM_OK && o.go_on) {
        go_on(m, o.next);
        if (o.served)
            note_served(m);
        o.rc = push(m, &o.err);
        if (o.rc == CM_OK)
            return;
    }
    finish(m, &o);
}

void cm_managed_start(struct cm_managed *m)
{
    struct outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };

    o.rc = push(m, &o.err);
    if (o.rc != CM_OK)
        finish(m, &o);
}

void cm_todo_add(struct cm_todo *todo, struct cm_managed *m)
{
    m->run.run = run_stage;
    m->run.next = NULL;
    *(todo->last != NULL ? &todo->last->next : &todo->first) = &m->run;
    todo->last = &m->run;
}

void cm_managed_start_all(struct cm_config *cfg, struct cm_todo *todo)
{
    struct outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };

    if (todo->first == NULL)
        return;
    o.rc = cm_runq_push_all(cfg->io, &todo->first, &o.err);
    while (todo->first != NULL) {
        struct cm_managed *m = CM_CONTAINER_OF(todo->first, struct cm_managed, run);

        todo->first = todo->first->next;
        finish(m, &o);
    }
}
