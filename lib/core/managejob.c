/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "names.h"

#include <string.h>

/* The stages of one managed name: which queue each runs in, what follows it, and what its end means
 * for those who wait. Loading goes through the I/O queue, what asks others through the fetch queue,
 * and what needs the CA through the pump, so that names whose CA or responder does not answer never
 * keep those from being served that storage has already. */

#define FETCH_LIMIT_NS  (60 * CM_NS_PER_S)
#define JOB_LIMIT_NS    (30 * 60 * CM_NS_PER_S)
#define WORTH_WAITING_S 600

static void run_stage(struct cm_run *self);

static bool is_job(uint8_t stage)
{
    return stage == CM_STAGE_OBTAIN || stage == CM_STAGE_RENEW || stage == CM_STAGE_REPLACE;
}

static struct cm_maint *maint_of(const struct cm_managed *m)
{
    return cm_cache_maint(m->cfg->cache);
}

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

struct cm_life *cm_managed_life(struct cm_managed *m)
{
    if (m->life == NULL)
        m->life = cm_calloc(1, sizeof *m->life);
    return m->life;
}

/* ---- the end of a stage ---- */

/* Keep the reason of a failure, and return what is kept no more. Looking after what is served says
 * nothing of an attempt. */
static struct cm_failure *keep_outcome_locked(struct cm_managed *m, const struct cm_outcome *o,
                                              struct cm_failure *why)
{
    struct cm_failure *old = m->last;

    if (!is_job(m->stage) && m->stage != CM_STAGE_LOAD)
        return why;
    m->last = why;
    m->phase = (uint8_t)(o->rc == CM_OK ? CM_PHASE_STORED : CM_PHASE_FAILED);
    return old;
}

/* While it was tended, which brings nothing into the cache, a handshake has come to wait for what
 * had been evicted. */
static bool is_missed_locked(struct cm_managed *m)
{
    return m->served && cm_waiters_any(m->cfg->hub, &m->waiters) && !cm_managed_served_well(m);
}

/* Something was heard of it while it was busy. Who is given up stays so. */
static void look_earlier_locked(const struct cm_managed *m, int64_t *io_next_ms)
{
    int64_t news_ms = cm_managed_news_at_ms_locked(m);

    if (*io_next_ms < INT64_MAX && news_ms < *io_next_ms)
        *io_next_ms = news_ms;
}

/* The end of the work: note it, then give everyone who waits what there is. */
static void finish(struct cm_managed *m, struct cm_outcome *o)
{
    struct cm_names *t = m->cfg->names;
    struct cm_config *cfg = m->cfg;
    struct cm_pending *waiting;
    struct cm_cancel *cancel;
    struct cm_cancel *token = NULL;
    struct cm_failure *old;
    struct cm_failure *why = NULL;
    bool silent = m->stage == CM_STAGE_TEND || m->stage == CM_STAGE_FETCH;
    bool line_up;

    if (o->rc != CM_OK) {
        why = cm_calloc(1, sizeof *why);
        if (why != NULL) {
            why->err = o->err;
            why->err.status = o->rc;
            why->attempts = m->life != NULL ? m->life->attempts : 0;
            why->next_try_s = m->life != NULL ? m->life->next_try_s : 0;
        }
    }
    int64_t next_ms = cm_tend_next_ms(m, o);
    cm_mutex_lock(&t->lock);
    if (silent && o->rc == CM_OK && is_missed_locked(m)) {
        m->stage = CM_STAGE_LOAD;
        cancel = m->cancel;
        m->cancel = NULL;
        cm_mutex_unlock(&t->lock);
        cm_cancel_free(cancel);
        cm_managed_start(m);
        return;
    }
    old = keep_outcome_locked(m, o, why);
    m->busy = false;
    line_up = m->lined && m->passed_by;
    m->passed_by = false;
    if (!m->lined)
        m->background = false;
    m->served = (m->served && !o->lost) || o->served;
    cancel = m->cancel;
    m->cancel = NULL;
    if (m->served) { /* from here on it is looked after for good */
        token = m->token;
        m->token = NULL;
    }
    waiting = m->lined && !m->served ? NULL : cm_waiters_take(cfg->hub, &m->waiters);
    if (m->awaited)
        (void)pthread_cond_broadcast(&t->changed);
    /* Under the lock: afterwards a stage may begin that knows better. */
    look_earlier_locked(m, &next_ms);
    if (next_ms < INT64_MAX)
        cm_maint_at(maint_of(m), &m->task, next_ms);
    cm_mutex_unlock(&t->lock);
    /* From here on another stage may begin: m is only read for what is fixed. */
    cm_cancel_free(cancel);
    cm_cancel_free(token);
    free(old);
    cm_waiters_answer(cfg->hub, waiting, answer, cfg);
    if (!silent)
        tell(m, o->rc == CM_OK ? CM_PHASE_STORED : CM_PHASE_FAILED,
             o->rc == CM_OK ? NULL : &o->err);
    if (line_up && !cm_pump_add(cfg->pump, m, 0, false))
        cm_managed_drop(m);
}

cm_status cm_managed_serve(struct cm_managed *m, struct cm_cert *cert, struct cm_err *err)
{
    if (m->ondemand)
        cm_cache_mark_passing(m->cfg->cache, cert);
    cm_status rc = cm_serve_managed(m->cfg, cert, err);
    if (rc == CM_OK) {
        m->provisional = false;
        cm_snapshot_changed(m->cfg);
    }
    return rc;
}

/* ---- from stage to stage ---- */

bool cm_managed_begin(struct cm_managed *m, struct cm_cancel *cancel, struct cm_op *op)
{
    struct cm_names *t = m->cfg->names;
    struct cm_cancel *gone = NULL;
    bool wanted;

    cm_mutex_lock(&t->lock);
    wanted = cm_managed_wanted_locked(m, &gone);
    if (t->stopped)
        wanted = wanted && m->late && m->stage == CM_STAGE_LOAD;
    if (wanted) {
        m->cancel = cancel;
        op->cancel = cancel != NULL ? cancel : m->late ? m->cfg->stop : t->halt;
    }
    cm_mutex_unlock(&t->lock);
    cm_cancel_free(gone);
    return wanted;
}

static struct cm_runq *queue_of(const struct cm_managed *m)
{
    if (m->stage == CM_STAGE_FETCH)
        return m->cfg->fetch;
    return is_job(m->stage) ? m->cfg->jobs : m->cfg->io;
}

/* @first: somebody waits for it. */
static cm_status push(struct cm_managed *m, bool first, struct cm_err *err)
{
    m->run.run = run_stage;
    cm_maint_enter(maint_of(m), 1);
    cm_status rc = (first ? cm_runq_push_first : cm_runq_push)(queue_of(m), &m->run, err);
    if (rc != CM_OK)
        cm_maint_leave(maint_of(m));
    return rc;
}

void cm_managed_hurry_locked(struct cm_managed *m)
{
    if (m->lined)
        cm_pump_hurry(m->cfg->pump, m);
    else /* between two queues it is in none, and this does nothing */
        cm_runq_hurry(queue_of(m), &m->run);
}

/* On to the next stage, or into the line for it: then it is idle until its turn comes, so that
 * what it has is looked after meanwhile. */
static void go_on(struct cm_managed *m, struct cm_outcome *o)
{
    struct cm_names *t = m->cfg->names;
    bool line = is_job(o->next);
    struct cm_cancel *cancel;
    int64_t next_ms = INT64_MAX;
    bool missed = false;

    if (line && o->served)
        next_ms = cm_tend_next_ms(m, o);
    cm_mutex_lock(&t->lock);
    cancel = m->cancel;
    m->cancel = NULL;
    if (line) {
        m->lined = true;
        m->passed_by = false;
        m->wants = o->next;
        missed = m->stage != CM_STAGE_LOAD && is_missed_locked(m); /* storage has nothing, either */
        m->busy = missed;
        if (missed)
            m->stage = CM_STAGE_LOAD;
    } else {
        m->stage = o->next;
    }
    /* A renewal of what is served already is nobody's wait. */
    if (o->served)
        m->background = true;
    if (line && o->served)
        look_earlier_locked(m, &next_ms);
    if (next_ms < INT64_MAX)
        cm_maint_at(maint_of(m), &m->task, next_ms);
    cm_mutex_unlock(&t->lock);
    cm_cancel_free(cancel);
    if (missed)
        cm_managed_start(m);
    if (line && !cm_pump_add(m->cfg->pump, m, o->urgency_s, o->urgent))
        cm_managed_drop(m);
}

void cm_managed_drop(struct cm_managed *m)
{
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };

    cm_mutex_lock(&m->cfg->names->lock);
    m->lined = false;
    bool idle = !m->busy;
    if (idle) {
        m->busy = true;
        m->stage = m->wants;
    }
    cm_mutex_unlock(&m->cfg->names->lock);
    if (!idle)
        return; /* it comes to its end by itself */
    o.rc = cm_fail(&o.err, CM_E_CANCELED, "'%s': maintenance has been stopped", m->name);
    finish(m, &o);
}

void cm_managed_to_work(struct cm_managed *m, unsigned slot)
{
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };
    bool free_now;

    cm_mutex_lock(&m->cfg->names->lock);
    free_now = !m->busy;
    if (free_now) {
        m->lined = false;
        m->busy = true;
        m->stage = m->wants;
        m->slot = (uint16_t)slot; /* not before: another may be taking it from the line, too */
    } else {
        m->passed_by = true; /* whatever it does now puts it back when that is over */
    }
    cm_mutex_unlock(&m->cfg->names->lock);
    if (free_now)
        o.rc = push(m, false, &o.err);
    if (!free_now || o.rc != CM_OK)
        cm_pump_done(m->cfg->pump, slot);
    if (o.rc != CM_OK)
        finish(m, &o);
}

static void do_stage(struct cm_managed *m, const struct cm_op *op, struct cm_outcome *o)
{
    struct cm_subject *s = NULL;

    o->rc = cm_managed_subject(m, &s, &o->err);
    if (o->rc != CM_OK)
        return;
    if (m->stage == CM_STAGE_LOAD)
        cm_load_stage(m, s, op, o);
    else if (is_job(m->stage))
        cm_attempt_stage(m, s, op, o);
    else
        cm_tend_stage(m, s, op, m->stage == CM_STAGE_FETCH, o);
    cm_subject_free(s);
}

static int64_t limit_of(const struct cm_managed *m)
{
    if (is_job(m->stage))
        return JOB_LIMIT_NS;
    return m->stage == CM_STAGE_FETCH ? FETCH_LIMIT_NS : cm_load_limit_ns(m->cfg);
}

/* The CA wants to be left alone. Who waits for it in this process for long had better know. */
static bool is_put_off(struct cm_managed *m, struct cm_outcome *o)
{
    bool stay;

    if (!o->put_off)
        return false;
    cm_pump_pause(m->cfg->pump, o->wait_s);
    cm_mutex_lock(&m->cfg->names->lock);
    stay = m->interest == 0 || o->wait_s <= WORTH_WAITING_S;
    cm_mutex_unlock(&m->cfg->names->lock);
    if (!stay)
        return false;
    o->rc = CM_OK;
    o->go_on = true;
    o->next = m->stage;
    return true;
}

/* @token, under which it ran, was fired. Whoever else has come for it meanwhile wants it still. */
static bool is_wanted_again(struct cm_managed *m, struct cm_cancel *token, struct cm_outcome *o)
{
    struct cm_names *t = m->cfg->names;
    struct cm_cancel *gone = NULL;
    bool again;

    if (o->rc != CM_E_CANCELED || !cm_cancel_is_fired(token))
        return false;
    cm_mutex_lock(&t->lock);
    again = cm_managed_wanted_locked(m, &gone) && !t->stopped;
    cm_mutex_unlock(&t->lock);
    cm_cancel_free(gone);
    if (!again)
        return false;
    o->rc = CM_OK;
    o->go_on = true;
    o->next = m->stage;
    return true;
}

/* The token that ends a stage; *@ret_token is the part of it that is the program's. */
static cm_status stage_cancel(struct cm_managed *m, struct cm_cancel **ret_token,
                              struct cm_cancel **ret, struct cm_err *err)
{
    cm_mutex_lock(&m->cfg->names->lock);
    *ret_token = m->served ? NULL : cm_cancel_ref(m->token);
    cm_mutex_unlock(&m->cfg->names->lock);
    return cm_cancel_join(cm_names_halt(m->cfg), *ret_token, ret, err);
}

void cm_managed_conclude(struct cm_managed *m, struct cm_outcome *o)
{
    struct cm_maint *mt = maint_of(m);

    if (o->rc == CM_OK && o->go_on) {
        bool line = is_job(o->next);

        go_on(m, o);
        if (!line)
            o->rc = push(m, o->next == CM_STAGE_LOAD && m->run.hurried, &o->err);
        if (line || o->rc == CM_OK) {
            cm_maint_leave(mt);
            return;
        }
    }
    finish(m, o);
    cm_maint_leave(mt);
}

static void run_stage(struct cm_run *self)
{
    struct cm_managed *m = CM_CONTAINER_OF(self, struct cm_managed, run);
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };
    struct cm_cancel *cancel = NULL;
    struct cm_cancel *token = NULL;
    struct cm_op op = { m->cfg->env, 0, NULL };

    if (m->stage == CM_STAGE_LOAD && cm_load_batch(m))
        return;
    if (m->stage != CM_STAGE_LOAD)
        o.rc = stage_cancel(m, &token, &cancel, &o.err);
    if (o.rc == CM_OK && !cm_managed_begin(m, cancel, &op)) {
        cm_cancel_free(cancel);
        o.rc = cm_fail(&o.err, CM_E_CANCELED, "'%s': canceled before it began", m->name);
    } else if (o.rc == CM_OK) {
        op = cm_op_within(&op, limit_of(m));
        do_stage(m, &op, &o);
    }
    if (is_put_off(m, &o) || is_wanted_again(m, token, &o))
        o.go_on = true;
    cm_cancel_free(token);
    if (is_job(m->stage))
        cm_pump_done(m->cfg->pump, m->slot);
    cm_managed_conclude(m, &o);
}

/* ---- beginnings ---- */

void cm_managed_start(struct cm_managed *m)
{
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };

    o.rc = push(m, false, &o.err);
    if (o.rc != CM_OK)
        finish(m, &o);
}

void cm_managed_want_locked(struct cm_managed *m)
{
    m->wants = CM_STAGE_OBTAIN;
    m->lined = true;
    m->passed_by = false;
    m->background = true;
    m->phase = CM_PHASE_WAITING;
}

void cm_managed_line_up(struct cm_managed *m)
{
    if (!cm_pump_add(m->cfg->pump, m, 0, false))
        cm_managed_drop(m);
}

void cm_managed_obtain_anew(struct cm_managed *m)
{
    struct cm_names *t = m->cfg->names;
    bool line;

    cm_mutex_lock(&t->lock);
    m->served = false;
    if (m->load_only) { /* until somebody stores another */
        if (!m->busy)
            cm_maint_by(maint_of(m), &m->task, cm_wall_ms(m->cfg->env));
        cm_mutex_unlock(&t->lock);
        return;
    }
    line = !m->lined && !(m->busy && is_job(m->stage)); /* a job looks into storage itself */
    if (line)
        cm_managed_want_locked(m);
    else if (m->lined)
        m->wants = CM_STAGE_OBTAIN;
    cm_mutex_unlock(&t->lock);
    if (line)
        cm_managed_line_up(m);
}

void cm_managed_fire(struct cm_task *task)
{
    struct cm_managed *m = CM_CONTAINER_OF(task, struct cm_managed, task);
    bool start;

    cm_mutex_lock(&m->cfg->names->lock);
    /* Busy: the end of what runs says when to look again. In line with nothing to look after: so
     * does its turn; but what was heard of may spare it that. */
    start = !m->busy && (m->served || !m->lined || m->news != 0);
    if (start) {
        uint8_t phase = m->phase;

        cm_managed_wake_locked(m, true);
        if (m->served) {
            m->stage = CM_STAGE_TEND;
            m->phase = phase;
        }
    }
    cm_mutex_unlock(&m->cfg->names->lock);
    if (start)
        cm_managed_start(m);
}

void cm_todo_add(struct cm_todo *todo, struct cm_managed *m)
{
    m->run.run = run_stage;
    m->run.next = NULL;
    *(todo->last != NULL ? &todo->last->next : &todo->first) = &m->run;
    todo->last = &m->run;
    todo->n++;
}

void cm_managed_start_all(struct cm_config *cfg, struct cm_todo *todo)
{
    struct cm_outcome o = { .rc = CM_OK, .err = CM_ERR_INIT };
    struct cm_maint *mt = cm_cache_maint(cfg->cache);

    if (todo->first == NULL)
        return;
    cm_maint_enter(mt, todo->n);
    o.rc = cm_runq_push_all(cfg->io, &todo->first, &o.err);
    while (todo->first != NULL) {
        struct cm_managed *m = CM_CONTAINER_OF(todo->first, struct cm_managed, run);

        todo->first = todo->first->next;
        finish(m, &o);
        cm_maint_leave(mt);
    }
}
