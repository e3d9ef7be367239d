/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

/* The part of a job that happens under the lease and costs something: key and CSR (or those of an
 * order somebody began), one issuer after the other, acceptance, commit. */

#define CLOCK_AGAIN_S (24 * 3600)

struct issuance {
    struct cm_job *job;
    const struct cm_op *op;
    struct cm_lease *lease;
    struct cm_issuer *issuer; /* at work */
    struct cm_journal journal;
    char journaled_by[256];    /* issuer whose state journal.resume is; "" if none */
    const struct cm_cert *old; /* the predecessor, or NULL; and of it: */
    char replaces[128];        /* ARI id */
    char account[512];         /* who ordered it, "" = unknown */
    const char *old_issuer_key;
    bool found;  /* a peer had stored the successor: nothing was issued */
    bool urgent; /* little is left of the predecessor's time */
};

static cm_status checkpoint(void *user, const struct cm_op *op, struct cm_span state,
                            struct cm_err *err)
{
    struct issuance *is = user;
    const char *key = cm_issuer_key(is->issuer);
    size_t len = strlen(key);

    if (len >= sizeof is->journal.issuer_key)
        return cm_fail(err, CM_E_LIMIT, "issuer key of %zu bytes", len);
    memcpy(is->journal.issuer_key, key, len + 1);
    cm_buf_reset(&is->journal.resume);
    cm_status rc = cm_buf_append(&is->journal.resume, state.data, state.len, err);
    if (rc == CM_OK)
        rc = cm_journal_store(is->lease, op != NULL ? op : is->op, is->job->subject, &is->journal,
                              err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "note the order for '%s' in storage", is->job->subject->ident);
    memcpy(is->journaled_by, key, len + 1);
    return CM_OK;
}

static void progress(void *user, enum cm_phase phase)
{
    struct issuance *is = user;

    cm_job_progress(is->job, phase, NULL);
}

static char *join_names(const struct cm_subject *s)
{
    struct cm_buf text = CM_BUF_INIT(CM_SUBJECT_MAX * (CM_NAME_BUF + 1));
    cm_status rc = CM_OK;

    for (size_t i = 0; rc == CM_OK && i < s->n; i++)
        rc = cm_buf_printf(&text, NULL, "%s%s", i > 0 ? "," : "", s->names[i]);
    if (rc != CM_OK)
        cm_buf_free(&text);
    return (char *)text.data; /* allocated by the buffer, freed with free() */
}

/* Was the order made with a key that others know by now? If what had it is gone, it may have been.
 */
static bool is_lost(const struct issuance *is, const struct cm_key *key)
{
    bool same = true;

    if (!is->job->key_is_lost)
        return false;
    return is->old == NULL ||
           cm_key_matches_cert(key, cm_cert_der(is->old, 0), &same, NULL) != CM_OK || same;
}

/* Is what the journal holds an order for just what is wanted now? */
static bool is_usable(const struct issuance *is, const struct cm_journal *j)
{
    const struct cm_config *cfg = is->job->cfg;
    int64_t age = cfg->env->wall_ns(cfg->env) / CM_NS_PER_S - j->created_ns / CM_NS_PER_S;
    CM_AUTO_FREE char *names = join_names(is->job->subject);

    return names != NULL && strcmp(names, j->names) == 0 && age < CM_JOURNAL_FRESH_S &&
           age > -CM_JOURNAL_FRESH_S && j->must_staple == cfg->must_staple &&
           cm_csr_ext_is(cm_buf_span(&j->csr_der), cm_buf_span(&cfg->csr_exts)) &&
           (cfg->reuse_key || cm_key_type_of(j->key) == cfg->key_type) &&
           cm_config_find_issuer(cfg, j->issuer_key) != NULL && !is_lost(is, j->key) &&
           /* else the CA would certify a key that is not here */
           cm_csr_check(cm_buf_span(&j->csr_der), j->key, NULL) == CM_OK;
}

static cm_status resume_journal(struct issuance *is, bool *ret, struct cm_err *err)
{
    const struct cm_config *cfg = is->job->cfg;
    struct cm_journal j;

    *ret = false;
    cm_status rc = cm_journal_load(is->job->cfg, is->op, is->job->subject, &j, err);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc == CM_E_PARSE || rc == CM_E_KEY || rc == CM_E_LIMIT) {
        cm_logf(&cfg->log, CM_LOG_WARN, "journal_unusable", NULL, 0,
                "the journal of '%s' is of no use, a new order follows: %s",
                is->job->subject->ident, err != NULL ? err->msg : "");
        return CM_OK;
    }
    if (rc != CM_OK)
        return rc;
    if (!is_usable(is, &j)) {
        cm_journal_free(&j);
        return CM_OK;
    }
    cm_logf(&cfg->log, CM_LOG_INFO, "order_resumed", NULL, 0, "resuming the order for '%s' at %s",
            is->job->subject->ident, j.issuer_key);
    memcpy(is->journaled_by, j.issuer_key, sizeof is->journaled_by);
    cm_journal_free(&is->journal);
    is->journal = j;
    *ret = true;
    return CM_OK;
}

static cm_status prepare(struct issuance *is, const struct cm_cert *old, struct cm_err *err)
{
    const struct cm_subject *s = is->job->subject;
    const struct cm_config *cfg = is->job->cfg;
    bool keep = cfg->reuse_key && !is->job->key_is_lost;
    bool resumed = false;

    cm_status rc = resume_journal(is, &resumed, err);
    if (rc != CM_OK || resumed)
        return rc;
    if (keep && old != NULL)
        rc = cm_cert_key(old, &is->journal.key, err);
    else if (keep && cm_store_orphan_key(is->job->cfg, is->op, s, &is->journal.key))
        cm_logf(&cfg->log, CM_LOG_WARN, "key_kept", NULL, 0,
                "the chain of '%s' is damaged or gone, its key is not: the key is kept", s->ident);
    else if (cfg->key_source != NULL)
        rc = cm_key_source_key(cfg->key_source, is->op, cfg->key_type, s->names, s->n,
                               &is->journal.key, err);
    else
        rc = cm_key_generate(cfg->key_type, &is->journal.key, err);
    if (rc == CM_OK)
        rc = cm_csr_make_ext(is->journal.key, s->names, s->n, cfg->must_staple,
                             cm_buf_span(&cfg->csr_exts), &is->journal.csr_der, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "key and CSR for '%s'", s->ident);
    is->journal.must_staple = cfg->must_staple;
    is->journal.created_ns = cfg->env->wall_ns(cfg->env);
    is->journal.names = join_names(s);
    return is->journal.names != NULL ? CM_OK : cm_fail_nomem(err);
}

static void note_predecessor(struct issuance *is, const struct cm_cert *old)
{
    struct cm_leaf *leaf = NULL;
    struct cm_meta meta;

    is->old = old;
    if (old == NULL || cm_leaf_parse(cm_cert_der(old, 0), &leaf, NULL) != CM_OK)
        return;
    memcpy(is->replaces, leaf->ari_id, sizeof is->replaces);
    is->old_issuer_key = cm_cert_issuer_key(old);
    is->urgent = cm_when_tier(old, cm_env_wall_s(is->job->cfg->env)) != 0;
    cm_leaf_free(leaf);
    if (cm_meta_load(is->job->cfg, is->op, is->old_issuer_key, is->job->subject->dir, &meta,
                     NULL) != CM_OK)
        return;
    memcpy(is->account, meta.account, sizeof is->account);
    cm_meta_free(&meta);
}

/* A CA knows what time it is, as a rule. What it issues now and is over by the clock here, or has
 * not begun by far, may be good all the same: the order is kept, and looked at again when somebody
 * may have set the clock. */
static cm_status check_clock(const struct issuance *is, struct cm_span leaf_der, struct cm_err *err)
{
    int64_t now_s = cm_env_wall_s(is->job->cfg->env);
    struct cm_leaf *leaf = NULL;

    cm_status rc = cm_leaf_parse(leaf_der, &leaf, err);
    if (rc != CM_OK)
        return rc;
    if (leaf->not_after_s < now_s || leaf->not_before_s > now_s + CM_CERT_SKEW_S) {
        rc = cm_fail(err, CM_E_STATE,
                     "a certificate that is %s by the clock here: is the clock right?",
                     leaf->not_after_s < now_s ? "over already" : "not valid for a while yet");
        if (err != NULL)
            err->retry_after_s = CLOCK_AGAIN_S;
    }
    cm_leaf_free(leaf);
    return rc;
}

/* The rules before anything is stored (cm_chain_accept), and the certificate made of it. */
static cm_status accept(struct issuance *is, const char *issuer_key, const struct cm_issued *issued,
                        struct cm_cert **ret, struct cm_err *err)
{
    const struct cm_subject *s = is->job->subject;
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;

    cm_status rc = cm_chain_from_pem(cm_buf_span(&issued->chain_pem), &chain, err);
    if (rc != CM_OK) /* without memory it may still be good: then the order must not be given up */
        return cm_wrap(err, rc == CM_E_NOMEM ? rc : CM_E_CERT, "what %s issued", issuer_key);
    rc = check_clock(is, chain.der[0], err);
    if (rc == CM_OK)
        rc = cm_chain_accept(&chain, is->journal.key, s->names, s->n, true,
                             cm_env_wall_s(is->job->cfg->env), CM_CERT_SKEW_S, err);
    if (rc == CM_OK)
        rc = cm_leaf_parse(chain.der[0], &leaf, err);
    if (rc == CM_OK) {
        const struct cm_cert_parts parts = { &chain,     leaf, is->journal.key,
                                             issuer_key, NULL, CM_CERT_MANAGED };

        rc = cm_cert_new(&parts, ret, err);
    }
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "what %s issued", issuer_key);
}

/* A certificate that is not acceptable will not get better by resuming its order. */
static void forget_order(struct issuance *is)
{
    struct cm_err err = CM_ERR_INIT;

    cm_buf_reset(&is->journal.resume);
    is->journaled_by[0] = '\0';
    if (cm_journal_store(is->lease, is->op, is->job->subject, NULL, &err) != CM_OK)
        cm_logf(&is->job->cfg->log, CM_LOG_WARN, "journal_left", NULL, 0,
                "remove the journal of '%s': %s", is->job->subject->ident, err.msg);
}

/* The CA says that the predecessor has a successor: somebody who does not heed our lock, or has
 * lost it, ordered one. If it is in storage it is what was wanted. If not, nobody will ever see it,
 * and an order that names no predecessor is in place. */
static cm_status after_replacement(struct issuance *is, struct cm_issuer *issuer,
                                   struct cm_issue_request *req, struct cm_issued *issued,
                                   struct cm_cert **ret, struct cm_err *err)
{
    const struct cm_config *cfg = is->job->cfg;
    const struct cm_subject *s = is->job->subject;
    struct cm_cert *now = NULL;

    cm_status rc = cm_store_load(is->job->cfg, is->op, s, CM_LOAD_NEWEST, &now, err);
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    is->found = rc == CM_OK && !cm_cert_same_leaf(now, is->old) &&
                now->not_before_s >= is->old->not_before_s &&
                cm_cert_is_valid_at(now, cm_env_wall_s(cfg->env), CM_CERT_SKEW_S);
    cm_logf(&cfg->log, CM_LOG_INFO, "already_replaced", NULL, 0,
            "%s says that the certificate of '%s' is replaced already: %s", cm_issuer_key(issuer),
            s->ident,
            is->found ? "a peer has stored its successor"
                      : "nobody has stored its successor, so another one is ordered");
    if (is->found) {
        *ret = now;
        return CM_OK;
    }
    cm_cert_unref(now);
    req->replaces = NULL;
    return cm_issuer_issue(issuer, is->op, req, issued, err);
}

static bool has_open_order(const struct issuance *is, const char *issuer_key)
{
    return is->journaled_by[0] != '\0' && strcmp(is->journaled_by, issuer_key) == 0;
}

static bool does_replace(const struct issuance *is, const char *issuer_key)
{
    return is->replaces[0] != '\0' && strcmp(is->old_issuer_key, issuer_key) == 0;
}

/* The @i-th issuer of the config, which has admitted the order. */
static cm_status try_issuer(struct issuance *is, size_t i, struct cm_issued *issued,
                            struct cm_cert **ret, struct cm_err *err)
{
    const struct cm_subject *s = is->job->subject;
    struct cm_config *cfg = is->job->cfg;
    struct cm_issuer *issuer = cfg->issuers[i];
    const char *key = cm_issuer_key(issuer);
    struct cm_issue_request req = { .size = (uint32_t)sizeof req,
                                    .names = s->names,
                                    .n_names = s->n,
                                    .csr_der = cm_buf_span(&is->journal.csr_der),
                                    .attempt = is->job->attempt,
                                    .renewal = is->old != NULL,
                                    .forced = is->job->mode == CM_JOB_RENEW_FORCE,
                                    .checkpoint = checkpoint,
                                    .progress = progress,
                                    .user = is };
    /* The buffer that checkpoint fills is not the one the issuer reads. */
    CM_AUTO_BUF struct cm_buf resume = CM_BUF_SECRET(CM_JOURNAL_MAX);
    cm_status rc = CM_OK;

    is->issuer = issuer;
    if (has_open_order(is, key))
        rc = cm_buf_append(&resume, is->journal.resume.data, is->journal.resume.len, err);
    if (rc != CM_OK)
        return rc;
    req.resume = cm_buf_span(&resume);
    if (is->old != NULL)
        req.replaces_not_after_s = is->old->not_after_s;
    if (does_replace(is, key)) {
        req.replaces = is->replaces;
        req.replaces_account = is->account[0] != '\0' ? is->account : NULL;
    }
    cm_job_progress(is->job, CM_PHASE_ORDERING, NULL);
    cm_news_trying(is->job, key);
    cm_buf_reset(&issued->chain_pem);
    cm_buf_reset(&issued->issuer_data);
    is->job->asked = true;
    is->job->issuer_key = key;
    rc = cm_issuer_issue(issuer, is->op, &req, issued, err);
    if (rc == CM_E_EXISTS && req.replaces != NULL)
        rc = after_replacement(is, issuer, &req, issued, ret, err);
    cm_ca_outcome(cfg, is->op, i, rc, err);
    if (rc != CM_OK || is->found)
        return rc;
    rc = accept(is, key, issued, ret, err);
    if (rc == CM_E_CERT || rc == CM_E_KEY)
        forget_order(is);
    return rc;
}

/* In which order they are tried: as given or shuffled, but the one whose order is open first. */
static void put_in_order(const struct issuance *is, size_t order[CM_ISSUERS_MAX])
{
    const struct cm_config *cfg = is->job->cfg;

    for (size_t i = 0; i < cfg->n_issuers; i++) {
        size_t at = i;

        if (cfg->issuer_policy == CM_ISSUERS_RANDOM)
            at = (size_t)cm_random_below(cfg->env, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    for (size_t k = 1; k < cfg->n_issuers; k++) {
        size_t i = order[k];

        if (has_open_order(is, cm_issuer_key(cfg->issuers[i]))) {
            memmove(order + 1, order, k * sizeof order[0]);
            order[0] = i;
        }
    }
}

static cm_status admit(const struct issuance *is, size_t i, struct cm_err *err)
{
    const char *key = cm_issuer_key(is->job->cfg->issuers[i]);
    const struct cm_ca_ask ask = { .replaces = does_replace(is, key),
                                   .urgent = is->urgent,
                                   .resumes = has_open_order(is, key) };

    return cm_ca_admit(is->job->cfg, is->op, i, &ask, err);
}

/* What became of those that were asked so far. */
struct tries {
    cm_status rc; /* of the last that had the order, or does not certify such names */
    struct cm_err why;
    bool ordered;          /* by one at least */
    struct cm_err soonest; /* of those that were held up; AGAIN if there is one */
};

static void note_try(struct tries *t, bool admitted, cm_status rc, const struct cm_err *why)
{
    t->ordered = t->ordered || admitted;
    if (admitted || rc != CM_E_AGAIN) {
        t->rc = rc;
        t->why = *why;
    } else if (t->soonest.status != CM_E_AGAIN || why->retry_after_s < t->soonest.retry_after_s) {
        t->soonest = *why;
    }
}

static cm_status try_all(struct issuance *is, struct cm_issued *issued, struct cm_cert **ret,
                         struct cm_issuer **ret_issuer, struct cm_err *err)
{
    struct tries t = { .rc = CM_E_INTERNAL, .why = CM_ERR_INIT, .soonest = CM_ERR_INIT };
    const struct cm_config *cfg = is->job->cfg;
    const struct cm_subject *s = is->job->subject;
    size_t order[CM_ISSUERS_MAX] = { 0 };

    put_in_order(is, order);
    for (size_t k = 0; k < cfg->n_issuers; k++) {
        struct cm_issuer *issuer = cfg->issuers[order[k]];
        struct cm_err why = CM_ERR_INIT;
        bool admitted = false;

        cm_status rc = cm_issuer_precheck(issuer, s->names, s->n, &why);
        if (rc == CM_OK)
            rc = admit(is, order[k], &why);
        if (rc == CM_OK) {
            admitted = true;
            rc = try_issuer(is, order[k], issued, ret, &why);
        }
        if (rc == CM_OK) {
            *ret_issuer = issuer;
            return rc;
        }
        note_try(&t, admitted, rc, &why);
        if (cm_op_check(is->op, NULL) != CM_OK || cm_lease_check(is->lease, NULL) != CM_OK) {
            *err = why;
            return rc; /* the others would fare no better */
        }
        if (k + 1 < cfg->n_issuers)
            cm_logf(&cfg->log, CM_LOG_WARN, "issuer_failed", NULL, 0,
                    "'%s' from %s: %s; trying the next issuer", s->ident, cm_issuer_key(issuer),
                    why.msg);
    }
    if (t.soonest.status == CM_E_AGAIN && !t.ordered) {
        *err = t.soonest;
        return CM_E_AGAIN;
    }
    *err = t.why;
    return t.rc;
}

/* A key that others know goes away in the commit that brings its successor. */
static cm_status commit(struct issuance *is, struct cm_issuer *issuer,
                        const struct cm_issued *issued, struct cm_err *err)
{
    struct cm_quarantine q = CM_QUARANTINE_INIT;
    char chain[CM_KEY_BUF];
    cm_status rc = CM_OK;

    if (is->job->key_is_lost && is->old != NULL)
        rc = cm_quarantine_plan(is->job->cfg, is->op, is->job->subject, is->old,
                                cm_issuer_key(issuer), &q, err);
    if (rc == CM_OK)
        rc = cm_path_cert(cm_issuer_key(issuer), is->job->subject->dir, ".crt", chain, err);
    if (rc == CM_OK) {
        bool served = is->job->progress != NULL; /* by whoever asked for it */

        if (served)
            cm_peers_writing(is->job->cfg, chain);
        rc = cm_store_commit(is->op, is->lease, is->job->subject, cm_issuer_key(issuer),
                             is->journal.key, issued, q.items, q.n, err);
        if (served)
            cm_peers_written(is->job->cfg, chain);
    }
    cm_buf_free(&q.pem);
    return rc;
}

cm_status cm_issue(struct cm_job *job, const struct cm_op *op, struct cm_lease *lease,
                   const struct cm_cert *old, struct cm_err *err)
{
    struct issuance is = { .job = job, .op = op, .lease = lease, .old = old };
    struct cm_issued issued = { CM_BUF_INIT(CM_CHAIN_PEM_MAX), CM_BUF_INIT(CM_META_MAX) };
    struct cm_issuer *issuer = NULL;
    struct cm_cert *cert = NULL;

    cm_journal_init(&is.journal);
    note_predecessor(&is, old);
    cm_status rc = prepare(&is, old, err);
    if (rc == CM_OK)
        rc = try_all(&is, &issued, &cert, &issuer, err);
    if (rc == CM_OK) {
        cm_cert_unref(job->cert);
        job->cert = cert; /* the job's from now on, even if it cannot be stored */
        job->already_there = is.found;
    }
    if (rc == CM_OK && !is.found) {
        rc = commit(&is, issuer, &issued, err);
        cm_health_note(job->cfg, rc, err);
        if (rc == CM_OK)
            cm_news_issued(job, cm_buf_span(&is.journal.csr_der));
        else
            rc = cm_wrap(err, rc, "store the certificate of '%s'", job->subject->ident);
    }
    cm_journal_free(&is.journal);
    cm_buf_free(&issued.chain_pem);
    cm_buf_free(&issued.issuer_data);
    return rc;
}
