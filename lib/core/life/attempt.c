/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"
#include "ondemand.h"

#include <string.h>

/* The stages of a name that ask a CA: to obtain, to renew, to replace what was revoked. An attempt
 * that reached the CA and failed is remembered by the fleet (retry.c); one that failed at home, by
 * this process alone. */

#define STUMBLE_S     10
#define STUMBLE_CAP_S 600
#define STUMBLES_MAX  20u

static void postpone(struct cm_managed *m, int64_t until_s)
{
    struct cm_life *life = cm_managed_life(m);

    if (life != NULL)
        life->next_try_s = until_s;
}

/* Seconds until what is served expires; 0 if nothing is, or it has. */
static int64_t left_of(struct cm_managed *m)
{
    struct cm_cert *cert = cm_managed_cert(m);
    int64_t now_s = cm_env_wall_s(m->cfg->env);
    int64_t left_s = cert != NULL && cert->not_after_s > now_s ? cert->not_after_s - now_s : 0;

    cm_cert_unref(cert);
    return left_s;
}

/* Storage that is down, a lock that was lost: 10 s, doubled up to 10 min, by chance up to a fifth
 * more; several times before the certificate ends, whenever that is. */
void cm_managed_stumbled(struct cm_managed *m)
{
    struct cm_life *life = cm_managed_life(m);
    int64_t wait_s = STUMBLE_S;

    if (life == NULL)
        return;
    for (unsigned i = 0; i < life->stumbles && wait_s < STUMBLE_CAP_S; i++)
        wait_s *= 2;
    if (wait_s > STUMBLE_CAP_S)
        wait_s = STUMBLE_CAP_S;
    if (life->stumbles < STUMBLES_MAX)
        life->stumbles++;
    wait_s += (int64_t)cm_random_below(m->cfg->env, (uint64_t)wait_s / 5 + 1);
    int64_t left_s = left_of(m);
    if (left_s > 0 && wait_s > left_s / 4 + 1)
        wait_s = left_s / 4 + 1;
    life->next_try_s = cm_env_wall_s(m->cfg->env) + wait_s;
}

/* May one be made for it, as far as the fleet's memory of failures goes? If not, @err is what the
 * last one came to, and when the next may be. */
static bool is_allowed(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                       struct cm_retry *ret, struct cm_err *err)
{
    int64_t now_s = cm_env_wall_s(m->cfg->env);
    struct cm_life *life = cm_managed_life(m);
    char when[CM_TIME_TEXT] = "something is changed";

    memset(ret, 0, sizeof *ret);
    if (cm_retry_load(m->cfg, op, s->dir, ret, NULL) != CM_OK) {
        memset(ret, 0, sizeof *ret);
        if (life != NULL)
            life->attempts = 0;
        return true;
    }
    if (life != NULL) {
        life->attempts = ret->attempts;
        life->next_try_s = ret->next_s;
    }
    if (now_s >= ret->next_s)
        return true;
    if (ret->next_s != INT64_MAX)
        cm_time_format_rfc3339(ret->next_s * CM_NS_PER_S, false, when);
    (void)cm_fail(err, ret->status,
                  "not tried again before %s, since the last attempt (%u in a "
                  "row) failed: %s",
                  when, ret->attempts, ret->msg);
    err->no_retry = ret->no_retry;
    err->retry_after_s = ret->next_s == INT64_MAX ? 0 : ret->next_s - now_s;
    memcpy(err->problem, ret->problem, sizeof err->problem);
    return false;
}

static void note_failure(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                         const struct cm_job *job, struct cm_retry *retry, struct cm_outcome *o)
{
    struct cm_life *life = cm_managed_life(m);
    struct cm_cert *cert;

    cm_logf(&m->cfg->log, CM_LOG_ERROR, "certificate_failed", NULL, 0, "%s '%s': %s%s",
            m->stage == CM_STAGE_OBTAIN ? "obtain" : "renew", m->name, o->err.msg,
            o->served ? " (it is served from memory)" : "");
    if (!job->asked || o->rc == CM_E_NOMEM) {
        cm_managed_stumbled(m);
        return;
    }
    cert = cm_managed_cert(m);
    o->err.status = o->rc;
    cm_retry_note(m->cfg, op, s, cert, job->issuer_key, &o->err, retry);
    cm_cert_unref(cert);
    if (life != NULL) {
        life->attempts = retry->attempts;
        life->next_try_s = retry->next_s;
    }
}

/* Better an expired certificate than none: the clock here may be what is wrong. */
static void serve_old(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                      struct cm_outcome *o)
{
    struct cm_cert *cert = NULL;

    if (cm_store_load(m->cfg, op, s, CM_LOAD_NEWEST, &cert, NULL) != CM_OK)
        return;
    o->served = !cm_revoked_is(m->cfg, cert, NULL) && cm_managed_serve(m, cert, NULL) == CM_OK;
    if (o->served) {
        struct cm_life *life = cm_managed_life(m);
        int64_t next_try_s = life != NULL ? life->next_try_s : 0;

        cm_tend_begin(m, cert);
        postpone(m, next_try_s);
    }
    cm_cert_unref(cert);
}

/* It is due in the moment in which it is issued. The next would be, too. */
static void note_wrong_clock(struct cm_managed *m, const struct cm_cert *cert, int64_t now_s)
{
    int64_t left_s = cert->not_after_s - now_s;

    cm_logf(&m->cfg->log, CM_LOG_WARN, "clock_ahead", NULL, 0,
            "the certificate for '%s' that was issued just now is due for renewal already: is the "
            "clock right? The next is not ordered before half of the rest has passed",
            m->name);
    postpone(m, now_s + (left_s > 0 ? left_s / 2 : 0));
}

static void note_success(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                         const struct cm_job *job, const struct cm_cert *before)
{
    int64_t now_s = cm_env_wall_s(m->cfg->env);
    struct cm_life *life = cm_managed_life(m);
    bool same = before != NULL && cm_cert_same_leaf(before, job->cert);

    if (life != NULL && life->attempts > 0)
        cm_retry_clear(m->cfg, op, s->dir);
    if (!same) {
        cm_tend_begin(m, job->cert);
        if (now_s >= cm_cert_renew_at_s(job->cert, m->cfg))
            note_wrong_clock(m, job->cert, now_s);
        return;
    }
    /* It is due, and yet is not to be renewed now (cm_job_run has said why). */
    int64_t wait_s = (before->not_after_s - before->not_before_s) / 50;
    postpone(m, now_s + (wait_s < 1 ? 1 : wait_s > 3600 ? 3600 : wait_s));
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

static void serve_new(struct cm_managed *m, struct cm_job *job, struct cm_outcome *o)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = cm_managed_serve(m, job->cert, &err);

    o->served = rc == CM_OK;
    if (o->rc == CM_OK && rc != CM_OK) {
        o->rc = rc;
        o->err = err;
    }
}

/* Is what is served still that which was found revoked? While the name stood in line, a peer may
 * have replaced it. */
static bool is_to_be_replaced(const struct cm_managed *m, const struct cm_cert *cert)
{
    return m->stage == CM_STAGE_REPLACE && cert != NULL && m->life != NULL &&
           m->life->revoked.revoked && m->life->leaf == cm_managed_leaf(cert);
}

/* By a peer, and its successor is served already. */
static bool was_replaced(const struct cm_managed *m, const struct cm_cert *cert)
{
    return m->stage == CM_STAGE_REPLACE && cert != NULL && !is_to_be_replaced(m, cert) &&
           !cm_revoked_is(m->cfg, cert, NULL);
}

/* It cannot be had now. What is revoked is not served until then. */
static void not_allowed(struct cm_managed *m, const struct cm_subject *s, struct cm_cert *before,
                        struct cm_outcome *o)
{
    o->rc = o->err.status;
    o->served = before != NULL;
    if (!is_to_be_replaced(m, before))
        return;
    cm_revoked_stop(m->cfg, s, before, &m->life->revoked, &o->err);
    o->served = false;
    o->lost = true;
}

/* The gates let nobody in, and whoever stands in line would fare the same: it stops. But what the
 * CA says of one order concerns that alone; and one whose end is near is not held up by our own
 * throttle, so that its turn away says nothing of the others. */
static void put_off(struct cm_managed *m, const struct cm_job *job, const struct cm_cert *before,
                    struct cm_outcome *o)
{
    o->put_off = !job->asked && !o->urgent;
    o->wait_s = o->err.retry_after_s > 0 ? o->err.retry_after_s : 1;
    o->rc = CM_E_RATELIMITED;
    o->served = before != NULL;
    postpone(m, cm_env_wall_s(m->cfg->env) + o->wait_s);
}

static void run_job(struct cm_managed *m, struct cm_job *job, struct cm_cert *before,
                    struct cm_outcome *o)
{
    if (is_to_be_replaced(m, before)) {
        const struct cm_revocation rv = m->life->revoked;

        o->rc = cm_revoked_run(job, before, &rv, &o->err);
        o->served = job->cert != NULL;
        o->lost = !o->served && o->rc != CM_E_AGAIN && o->rc != CM_E_CANCELED;
        return;
    }
    o->rc = cm_job_run(job, &o->err);
    if (job->cert != NULL && o->rc != CM_E_AGAIN)
        serve_new(m, job, o);
}

/* What a client asked for once, and nobody may or can renew, goes when it is of no use any more. */
static void drop_if_expired(struct cm_managed *m, struct cm_cert *before, struct cm_outcome *o)
{
    if (!m->ondemand || before == NULL || cm_env_wall_s(m->cfg->env) < before->not_after_s)
        return;
    (void)cm_cache_remove(m->cfg->cache, before);
    o->served = false;
    o->lost = true;
}

/* Who decides is asked again for each renewal. Until a no is a yes, it is served while it lasts. */
static bool may_renew(struct cm_managed *m, const struct cm_subject *s, struct cm_cert *before,
                      struct cm_outcome *o)
{
    int64_t wait_s;

    if (!m->ondemand || before == NULL)
        return true;
    o->rc = cm_ondemand_renew(m->cfg, m->name, &o->err);
    if (o->rc == CM_OK)
        return true;
    wait_s = (before->not_after_s - before->not_before_s) / 50;
    postpone(m, cm_env_wall_s(m->cfg->env) + (wait_s < 10 ? 10 : wait_s > 3600 ? 3600 : wait_s));
    if (cm_env_wall_s(m->cfg->env) >= before->not_after_s)
        postpone(m, 0); /* from here on it is as if nobody had ever asked for it */
    cm_logf(&m->cfg->log, CM_LOG_WARN, "ondemand_not_renewed", NULL, 0, "%s", o->err.msg);
    not_allowed(m, s, before, o);
    drop_if_expired(m, before, o);
    return false;
}

void cm_attempt_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                      struct cm_outcome *o)
{
    struct cm_cert *before = cm_managed_cert(m);
    struct cm_retry retry;
    struct cm_job job = { .cfg = m->cfg,
                          .op = op,
                          .subject = s,
                          .mode = m->stage == CM_STAGE_RENEW ? CM_JOB_RENEW : CM_JOB_OBTAIN,
                          .progress = job_progress,
                          .progress_user = m };

    if (was_replaced(m, before)) {
        o->served = true;
        cm_cert_unref(before);
        return;
    }
    if (before != NULL) {
        int64_t now_s = cm_env_wall_s(m->cfg->env);

        o->urgency_s = is_to_be_replaced(m, before)
                           ? cm_revoked_urgency_s(&m->life->revoked, before, now_s)
                           : before->not_after_s;
        o->urgent = cm_when_tier(before, cm_env_wall_s(m->cfg->env)) != 0;
    }
    if (!may_renew(m, s, before, o)) {
        cm_cert_unref(before);
        return;
    }
    if (!is_allowed(m, s, op, &retry, &o->err)) {
        not_allowed(m, s, before, o);
        drop_if_expired(m, before, o);
        cm_cert_unref(before);
        return;
    }
    job.attempt = retry.attempts;
    run_job(m, &job, before, o);
    if (o->rc == CM_E_AGAIN) {
        put_off(m, &job, before, o);
    } else {
        if (o->rc == CM_OK)
            note_success(m, s, op, &job, before);
        else if (o->rc != CM_E_CANCELED)
            note_failure(m, s, op, &job, &retry, o);
        if (o->rc != CM_OK && !o->served && m->stage == CM_STAGE_OBTAIN && !m->ondemand)
            serve_old(m, s, op, o);
        if (o->rc != CM_OK && o->rc != CM_E_CANCELED && job.cert == NULL)
            drop_if_expired(m, before, o);
    }
    cm_cert_unref(job.cert);
    cm_cert_unref(before);
}
