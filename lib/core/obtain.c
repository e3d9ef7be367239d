/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <stdio.h>
#include <string.h>

#define TOO_SOON_S (24 * 3600)
/* How long somebody who waits for the outcome waits for a turn with a CA. */
#define PATIENCE_S (10 * 60)

/* One job: a name (or several for one certificate) gets a certificate in storage.
 *
 *   policy, without any I/O - storage: done already? - one at a time in this process - would any CA
 *   take an order? - the lease - storage again - cm_issue() - commit - give the lease back
 *
 * There is no retry in here but one: when the lease was lost and storage shows that nobody else
 * has finished. Whether and when to try again after a failure is for the caller to decide. That no
 * CA takes orders just now is no failure; who is patient waits for it here, without the lease. */

void cm_job_progress(struct cm_job *job, enum cm_phase phase, const struct cm_err *why)
{
    const struct cm_config *cfg = job->cfg;

    if (job->progress != NULL)
        job->progress(job->progress_user, phase);
    if (cfg->on_progress != NULL)
        cfg->on_progress(cfg->progress_user, job->subject->ident, phase, why);
}

/* Does any issuer take these names? The error is the last one's. */
static cm_status precheck(const struct cm_job *job, struct cm_err *err)
{
    const struct cm_config *cfg = job->cfg;
    cm_status rc = CM_E_INTERNAL;

    for (size_t i = 0; i < cfg->n_issuers && rc != CM_OK; i++)
        rc = cm_issuer_precheck(cfg->issuers[i], job->subject->names, job->subject->n, err);
    return rc;
}

/* Has a peer stored another one since @cert was loaded? */
static bool was_overtaken(const struct cm_job *job, const struct cm_op *op,
                          const struct cm_cert *cert)
{
    struct cm_cert *now = NULL;

    if (cm_store_load(job->cfg, op, job->subject, CM_LOAD_NEWEST, &now, NULL) != CM_OK)
        return false;
    bool other = !cm_cert_same_leaf(now, cert);
    cm_cert_unref(now);
    return other;
}

/* A certificate that is due as soon as it is stored is due because the clock is wrong: the next one
 * would be due at once, too, and so on until the CA refuses. Both stamps are of this clock, so how
 * far off it is does not matter here. */
static bool was_just_stored(const struct cm_job *job, const struct cm_op *op,
                            const struct cm_cert *cert)
{
    int64_t lifetime_s = cert->not_after_s - cert->not_before_s + 1;
    int64_t least_s = lifetime_s / 4 < TOO_SOON_S ? lifetime_s / 4 : TOO_SOON_S;
    struct cm_key_info info = { .modified_ns = 0 };
    char key[CM_KEY_BUF];

    if (cm_path_cert(cm_cert_issuer_key(cert), job->subject->dir, ".crt", key, NULL) != CM_OK ||
        cm_storage_stat(job->cfg->storage, op, key, &info, NULL) != CM_OK || info.modified_ns <= 0)
        return false;
    int64_t now_s = cm_env_wall_s(job->cfg->env);
    int64_t age_s = now_s - info.modified_ns / CM_NS_PER_S;
    /* One that was put here from a backup, and has not long to live, must not wait. */
    if (age_s < 0 || age_s >= least_s || cert->not_after_s - now_s < 2 * least_s)
        return false;
    if (was_overtaken(job, op, cert))
        return false; /* the stamp is the other one's, which is found under the lease */
    cm_logf(&job->cfg->log, CM_LOG_WARN, "renewal_too_soon", NULL, 0,
            "'%s' is due for renewal although it was stored %lld s ago: is the clock right? It is "
            "left as it is for now",
            job->subject->ident, (long long)age_s);
    return true;
}

/* By what is stored with it the CA may have suggested another time; that it would not suggest one
 * too soon has been seen to when it was asked. */
static bool is_due(const struct cm_job *job, const struct cm_op *op, const struct cm_cert *cert)
{
    struct cm_ari ari;
    struct cm_when w;

    cm_ari_stored(job->cfg, op, job->subject, cert, &ari);
    cm_when_for(job->cfg, cert, &ari, &w);
    if (cm_env_wall_s(job->cfg->env) < w.renew_at_s)
        return false;
    return w.rule == CM_RULE_ARI || !was_just_stored(job, op, cert);
}

/* Has @cert the key of the revoked one that others know? A peer that keeps keys may have renewed it
 * before it was known. */
static bool has_lost_key(const struct cm_job *job, const struct cm_cert *cert)
{
    struct cm_key *key = NULL;
    bool same = false;

    if (job->mode != CM_JOB_REPLACE || job->revoked_reason != CM_REASON_KEY_COMPROMISE ||
        job->revoked == NULL || cm_cert_key(cert, &key, NULL) != CM_OK)
        return false;
    if (cm_key_matches_cert(key, cm_cert_der(job->revoked, 0), &same, NULL) != CM_OK)
        same = false;
    cm_key_unref(key);
    return same;
}

/* Is @cert revoked, as the job was told or as this process has found out before? Then it is
 * replaced in any mode, and if others know its key, by one with another. */
static bool is_revoked(struct cm_job *job, const struct cm_cert *cert)
{
    int reason = job->revoked_reason;
    bool is = job->mode == CM_JOB_REPLACE && strcmp(cm_cert_serial(cert), job->revoked_serial) == 0;

    is = is || has_lost_key(job, cert) || cm_revoked_is(job->cfg, cert, &reason);
    job->replacing = is;
    job->key_is_lost = is && reason == CM_REASON_KEY_COMPROMISE;
    return is;
}

/* What storage holds, checked to the bottom; what was loaded and checked @before need not be
 * checked again. */
static cm_status load_newest(struct cm_job *job, const struct cm_op *op,
                             const struct cm_cert *before, struct cm_cert **ret, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    if (before != NULL &&
        cm_store_load(job->cfg, op, job->subject, CM_LOAD_QUICK, &cert, NULL) == CM_OK) {
        if (cm_cert_same_all(cert, before)) {
            *ret = cert;
            return CM_OK;
        }
        cm_cert_unref(cert);
    }
    return cm_store_load(job->cfg, op, job->subject, CM_LOAD_NEWEST, ret, err);
}

/* Is there nothing (more) to do? *@old is what storage holds, NULL if nothing; *@before what it
 * held when the job began, for a forced renewal that a peer may have done meanwhile. */
static cm_status look(struct cm_job *job, const struct cm_op *op, const struct cm_cert *before,
                      struct cm_cert **old, bool *ret_done, struct cm_err *err)
{
    struct cm_cert *cert = NULL;
    bool obtain = job->mode == CM_JOB_OBTAIN || job->mode == CM_JOB_REPLACE;

    *ret_done = false;
    job->replacing = false;
    job->key_is_lost = job->revoked_reason == CM_REASON_KEY_COMPROMISE;
    cm_status rc = load_newest(job, op, before, &cert, err);
    if (rc == CM_E_NOTFOUND && obtain)
        return CM_OK;
    if (rc != CM_OK)
        return rc;
    bool valid = !is_revoked(job, cert) &&
                 cm_cert_is_valid_at(cert, cm_env_wall_s(job->cfg->env), CM_CERT_SKEW_S);
    bool other = before != NULL && !cm_cert_same_leaf(before, cert) &&
                 cert->not_before_s >= before->not_before_s;
    if (obtain)
        *ret_done = valid;
    else if (job->mode == CM_JOB_RENEW)
        *ret_done = valid && (other || !is_due(job, op, cert));
    else
        *ret_done = valid && other;
    if (*ret_done) {
        job->already_there = true;
        cm_cert_unref(job->cert);
        job->cert = cert;
        return CM_OK;
    }
    cm_cert_unref(*old);
    *old = cert;
    return CM_OK;
}

/* With the lease in hand. CM_E_LOCK_LOST if it slipped away. */
static cm_status run_leased(struct cm_job *job, struct cm_lease *lease,
                            const struct cm_cert *before, struct cm_err *err)
{
    struct cm_op op = *job->op;
    struct cm_cert *old = NULL;
    bool done = false;

    op.cancel = cm_lease_cancel(lease);
    cm_status rc = look(job, &op, before, &old, &done, err);
    if (rc == CM_OK && !done && job->replacing && job->mode != CM_JOB_RENEW_FORCE)
        rc = cm_revoked_may_order(job->cfg, job->subject, err);
    if (rc == CM_OK && !done)
        rc = cm_news_begin(job, old, err);
    if (rc == CM_OK && !done)
        rc = cm_issue(job, &op, lease, old, err);
    if (rc == CM_OK && job->replacing && !job->already_there)
        cm_revoked_note_order(job->cfg, job->subject);
    cm_cert_unref(old);
    cm_status own = rc != CM_OK ? cm_op_check(job->op, NULL) : CM_OK;
    if (rc == CM_E_CANCELED && own != CM_OK)
        return cm_op_check(job->op, err); /* paused for so long that the lease was lost, too? */
    if (rc != CM_OK && own == CM_OK) {
        struct cm_err lost = CM_ERR_INIT;

        if (cm_lease_check(lease, &lost) != CM_OK) {
            *err = lost;
            rc = cm_wrap(err, CM_E_LOCK_LOST, "certificate for '%s'", job->subject->ident);
        }
    }
    return rc;
}

/* Would any issuer admit the order? Asked before the lease is taken, so that nobody holds it for
 * nothing; the place itself is taken under it. */
static cm_status knock(const struct cm_job *job, const struct cm_cert *old, struct cm_err *err)
{
    const struct cm_subject *s = job->subject;
    struct cm_config *cfg = job->cfg;
    struct cm_ca_ask ask = { .look_only = true };
    struct cm_err soonest = CM_ERR_INIT;

    ask.urgent = old != NULL && cm_when_tier(old, cm_env_wall_s(cfg->env)) != 0;
    for (size_t i = 0; i < cfg->n_issuers; i++) {
        const char *key = cm_issuer_key(cfg->issuers[i]);
        struct cm_err why = CM_ERR_INIT;

        if (cm_issuer_precheck(cfg->issuers[i], s->names, s->n, NULL) != CM_OK)
            continue;
        ask.replaces = old != NULL && strcmp(cm_cert_issuer_key(old), key) == 0;
        cm_status rc = cm_ca_admit(cfg, job->op, i, &ask, &why);
        if (rc == CM_OK)
            return rc;
        if (rc != CM_E_AGAIN) {
            *err = why;
            return rc;
        }
        if (soonest.status != CM_E_AGAIN || why.retry_after_s < soonest.retry_after_s)
            soonest = why;
    }
    *err = soonest;
    return soonest.status;
}

static cm_status run_locked(struct cm_job *job, const struct cm_cert *before, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    char name[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;

    cm_status rc = knock(job, before, err);
    if (rc == CM_OK)
        rc = cm_lock_issue(job->subject->ident, name, err);
    if (rc != CM_OK)
        return rc;
    lo.log = job->cfg->log;
    cm_job_progress(job, CM_PHASE_WAITING, NULL);
    int64_t from_ns = job->cfg->env->mono_ns(job->cfg->env);
    rc = cm_lease_acquire(job->cfg->storage, job->op, name, &lo, &lease, err);
    if (rc != CM_E_TIMEOUT) /* which somebody else may have caused, by holding it */
        cm_health_note(job->cfg, rc, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "lock for '%s'", job->subject->ident);
    cm_count_lock_wait(job->cfg, job->cfg->env->mono_ns(job->cfg->env) - from_ns);
    rc = run_leased(job, lease, before, err);
    cm_lease_release(lease);
    if (rc == CM_E_LOCK_LOST)
        cm_news_lock_lost(job, name, err);
    return rc;
}

static cm_status lead(struct cm_job *job, const struct cm_cert *before, struct cm_err *err)
{
    struct cm_cert *old = NULL;
    bool done = false;

    cm_status rc = run_locked(job, before, err);
    if (rc != CM_E_LOCK_LOST)
        return rc;
    /* Another took over, so it may well have finished what was begun here. */
    cm_logf(&job->cfg->log, CM_LOG_WARN, "lock_lost", NULL, 0, "%s; looking again", err->msg);
    rc = look(job, job->op, before, &old, &done, err);
    cm_cert_unref(old);
    return rc != CM_OK || done ? rc : run_locked(job, before, err);
}

/* Outcomes of the leader that say nothing about the name, only about the leader. */
static bool is_leaders_own(cm_status rc)
{
    return rc == CM_E_CANCELED || rc == CM_E_TIMEOUT || rc == CM_E_NOMEM;
}

static cm_status fly(struct cm_job *job, const struct cm_cert *before, struct cm_err *err)
{
    static const char kinds[] = { [CM_JOB_OBTAIN] = 'o',
                                  [CM_JOB_RENEW] = 'r',
                                  [CM_JOB_RENEW_FORCE] = 'f',
                                  [CM_JOB_REPLACE] = 'x' };
    CM_AUTO_FREE char *name = cm_asprintf("%c %s", kinds[job->mode], job->subject->ident);
    struct cm_cert *old = NULL;
    bool is_lead;
    bool done;

    if (name == NULL)
        return cm_fail_nomem(err);
    for (;;) {
        cm_status rc = cm_flight_enter(job->cfg->flights, job->op, name, &is_lead, err);
        if (is_lead && rc == CM_OK) {
            rc = lead(job, before, err);
            cm_flight_leave(job->cfg->flights, name, rc, err);
            return rc;
        }
        if (rc == CM_OK) {
            rc = look(job, job->op, before, &old, &done, err);
            cm_cert_unref(old);
            old = NULL;
            if (rc != CM_OK || done)
                return rc;
        } else if (is_lead || !is_leaders_own(rc) || cm_op_check(job->op, NULL) != CM_OK) {
            job->news.followed = !is_lead;
            return rc;
        }
    }
}

static cm_status run(struct cm_job *job, struct cm_err *err)
{
    struct cm_cert *before = NULL;
    bool done;

    cm_status rc = precheck(job, err);
    if (rc == CM_OK)
        rc = look(job, job->op, NULL, &before, &done, err);
    if (rc == CM_OK && !done)
        rc = fly(job, before, err);
    cm_cert_unref(before);
    return rc;
}

/* CM_OK: the turn may have come, look again. Else the end of it. */
static cm_status wait_for_turn(struct cm_job *job, struct cm_err *err)
{
    int64_t wait_s = err->retry_after_s > 0 ? err->retry_after_s : 1;
    struct cm_err over = CM_ERR_INIT;

    if (wait_s > PATIENCE_S || cm_op_remaining_ns(job->op, INT64_MAX) <= wait_s * CM_NS_PER_S) {
        if (err->whole_ca)
            err->status = CM_E_RATELIMITED;
        return err->status;
    }
    cm_logf(&job->cfg->log, CM_LOG_INFO, "waiting_for_turn", NULL, 0, "'%s' waits %lld s: %s",
            job->subject->ident, (long long)wait_s, err->msg);
    cm_job_progress(job, CM_PHASE_WAITING, NULL);
    cm_status rc = cm_op_wait(job->op, wait_s * CM_NS_PER_S, &over);
    if (rc != CM_OK)
        *err = over;
    return rc;
}

static cm_status run_patiently(struct cm_job *job, struct cm_err *err)
{
    cm_status rc;

    do {
        job->news.followed = job->news.vetoed = false; /* that was the one before */
        rc = run(job, err);
        if (rc != CM_E_AGAIN || !job->patient)
            return rc;
        err->status = rc;
        rc = wait_for_turn(job, err);
    } while (rc == CM_OK);
    return rc;
}

cm_status cm_job_run(struct cm_job *job, struct cm_err *err)
{
    struct cm_op op = { NULL, 0, NULL };
    const struct cm_op *given = job->op;
    struct cm_err own = CM_ERR_INIT;
    struct cm_err *e = err != NULL ? err : &own;

    /* Everything below measures on the config's clock unless the caller brought one. */
    if (given != NULL)
        op = *given;
    if (op.env == NULL)
        op.env = job->cfg->env;
    job->op = &op;
    cm_status rc = run_patiently(job, e);
    job->op = given;
    cm_news_end(job, rc, e);
    if (job->progress == NULL) /* else it is told once the certificate is served, too */
        cm_job_progress(job, rc == CM_OK ? CM_PHASE_STORED : CM_PHASE_FAILED,
                        rc == CM_OK ? NULL : e);
    return rc;
}

/* ------------------------------------------------------------- public calls */

static void give_result(const struct cm_job *job, struct cm_obtain_result *ret)
{
    struct cm_obtain_result full = { .size = (uint32_t)sizeof full };
    size_t size;

    if (ret == NULL)
        return;
    full.already_there = job->already_there;
    full.not_after_s = cm_cert_not_after_s(job->cert);
    (void)snprintf(full.issuer_key, sizeof full.issuer_key, "%s", cm_cert_issuer_key(job->cert));
    size = ret->size > 0 && ret->size < sizeof full ? ret->size : sizeof full;
    full.size = (uint32_t)size;
    memcpy(ret, &full, size);
}

/* Who asks for a certificate by name gets an attempt whatever came of earlier ones; but what comes
 * of this one the fleet shall know. */
static void remember(const struct cm_job *job, cm_status rc, struct cm_err *why)
{
    struct cm_retry retry;

    if (!job->asked || rc == CM_E_AGAIN || rc == CM_E_CANCELED || rc == CM_E_NOMEM)
        return;
    if (rc == CM_OK) {
        cm_retry_clear(job->cfg, job->op, job->subject->dir);
        return;
    }
    if (cm_retry_load(job->cfg, job->op, job->subject->dir, &retry, NULL) != CM_OK)
        memset(&retry, 0, sizeof retry);
    why->status = rc;
    cm_retry_note(job->cfg, job->op, job->subject, NULL, job->issuer_key, why, &retry);
}

static cm_status run_for(struct cm_config *cfg, const struct cm_op *op, struct cm_subject *s,
                         enum cm_job_mode mode, struct cm_obtain_result *ret, struct cm_err *err)
{
    struct cm_job job = { .cfg = cfg, .op = op, .subject = s, .mode = mode, .patient = true };
    struct cm_err own = CM_ERR_INIT;
    struct cm_err *e = err != NULL ? err : &own;

    cm_status rc = cm_job_run(&job, e);
    remember(&job, rc, e);
    if (rc == CM_OK)
        give_result(&job, ret);
    cm_cert_unref(job.cert);
    cm_subject_free(s);
    return rc;
}

cm_status cm_obtain(struct cm_config *cfg, const struct cm_op *op, const char *const *names,
                    size_t n, struct cm_obtain_result *ret, struct cm_err *err)
{
    struct cm_subject *s = NULL;

    if (cfg == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration");
    cm_status rc = cm_subject_new(names, n, &s, err);
    return rc == CM_OK ? run_for(cfg, op, s, CM_JOB_OBTAIN, ret, err) : rc;
}

cm_status cm_renew(struct cm_config *cfg, const struct cm_op *op, const char *name, bool force,
                   struct cm_obtain_result *ret, struct cm_err *err)
{
    struct cm_subject *s = NULL;
    struct cm_cert *stored = NULL;

    if (cfg == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration");
    cm_status rc = cm_store_resolve(cfg, op, name, &s, &stored, err);
    if ((rc == CM_E_NOTFOUND || rc == CM_E_CERT) && cm_store_remains(cfg, op, name, &s)) {
        /* Damaged. What cannot be read cannot be renewed, but it can be had anew. */
        cm_logf(&cfg->log, CM_LOG_WARN, "renewal_of_damaged", NULL, 0,
                "what storage holds for '%s' is of no use, so it is obtained anew", s->ident);
        return run_for(cfg, op, s, CM_JOB_OBTAIN, ret, err);
    }
    if (rc != CM_OK)
        return rc;
    cm_cert_unref(stored);
    return run_for(cfg, op, s, force ? CM_JOB_RENEW_FORCE : CM_JOB_RENEW, ret, err);
}
