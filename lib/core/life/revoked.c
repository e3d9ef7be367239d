/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

/* A certificate that its CA has revoked. Clients that find out refuse it, those that do not must
 * not be given it either when somebody else has the key: so it is replaced at once, and when that
 * fails it is not served any more. */

#define LINE_MAX_S 1000000000 /* before any date that a certificate may end at */

static const char *reason_text(int reason)
{
    static const char *const texts[] = {
        "unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
        "superseded",    "cessationOfOperation", "certificateHold", "not in use",
        "removeFromCRL", "privilegeWithdrawn",   "aACompromise"
    };

    return reason >= 0 && (size_t)reason < CM_ARRAY_LEN(texts) ? texts[reason] : "unknown";
}

/* Remember it before anything else: from here on no reload brings it back. */
static void note(struct cm_config *cfg, const struct cm_subject *s, struct cm_cert *cert,
                 const struct cm_revocation *rv)
{
    struct cm_event ev = { .type = CM_EVENT_CERT_OCSP_REVOKED,
                           .identifier = s->ident,
                           .issuer = cm_cert_issuer_key(cert),
                           .cert = cert,
                           .reason = rv->reason,
                           .revoked_at_s = rv->at_s,
                           .source = rv->source };
    struct cm_err err = CM_ERR_INIT;
    bool first = true;

    if (cm_revoked_note(cfg, cert, rv->reason, &first, &err) != CM_OK)
        cm_logf(&cfg->log, CM_LOG_WARN, "revocation_not_remembered", NULL, 0,
                "that the certificate of '%s' is revoked: %s", s->ident, err.msg);
    if (!first)
        return;
    cm_count(cfg, CM_COUNT_REVOKED);
    cm_logf(&cfg->log, CM_LOG_WARN, "certificate_revoked", NULL, 0,
            "the certificate of '%s' (serial %s, from %s) is revoked: %s, says %s", s->ident,
            cm_cert_serial(cert), cm_cert_issuer_key(cert), reason_text(rv->reason), rv->source);
    (void)cm_emit(cfg, &ev, NULL); /* nobody can veto that */
}

static void take_out(struct cm_config *cfg, const struct cm_subject *s, const struct cm_cert *cert,
                     const struct cm_err *why)
{
    cm_cache_drop_leaf(cfg->cache, cert);
    cm_logf(&cfg->log, CM_LOG_ERROR, "revoked_not_replaced", NULL, 0,
            "'%s' (serial %s) is revoked and could not be replaced; it is not served any more: %s",
            s->ident, cm_cert_serial(cert), why->msg);
}

void cm_revoked_stop(struct cm_config *cfg, const struct cm_subject *s, struct cm_cert *cert,
                     const struct cm_revocation *rv, const struct cm_err *why)
{
    note(cfg, s, cert, rv);
    take_out(cfg, s, cert, why);
}

int64_t cm_revoked_urgency_s(const struct cm_revocation *rv, const struct cm_cert *cert,
                             int64_t now_s)
{
    int64_t left_s = cert->not_after_s > now_s ? cert->not_after_s - now_s : 0;

    if (rv->reason == CM_REASON_KEY_COMPROMISE)
        return 0;
    return 1 + (left_s < LINE_MAX_S ? left_s : LINE_MAX_S);
}

cm_status cm_revoked_run(struct cm_job *job, struct cm_cert *cert, const struct cm_revocation *rv,
                         struct cm_err *err)
{
    struct cm_config *cfg = job->cfg;
    struct cm_err own = CM_ERR_INIT;
    struct cm_err *e = err != NULL ? err : &own;

    note(cfg, job->subject, cert, rv);
    job->mode = CM_JOB_REPLACE;
    job->revoked = cert;
    job->revoked_serial = cm_cert_serial(cert);
    job->revoked_reason = rv->reason;
    cm_status rc = cm_job_run(job, e);
    /* The CA takes nothing from anybody for a while. Who stands in line behind this one is served
     * until it does, and so is this one. */
    if (rc == CM_E_RATELIMITED && e->whole_ca)
        rc = CM_E_AGAIN;
    if (rc == CM_E_AGAIN || rc == CM_E_CANCELED)
        return rc;
    if (job->cert != NULL) {
        struct cm_err why = CM_ERR_INIT;
        cm_status served = cm_serve_managed(cfg, job->cert, &why);

        if (served == CM_OK)
            cm_snapshot_changed(cfg);
        if (rc == CM_OK && served != CM_OK) {
            *e = why;
            rc = served;
        }
    }
    if (rc == CM_OK)
        cm_cache_drop_leaf(cfg->cache, cert); /* its successor may not have begun yet */
    else
        take_out(cfg, job->subject, cert, e);
    return rc;
}
