/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

/* What a job tells the program: that it is about to order (which may be vetoed), and how it ended.
 * The end is told by cm_job_run() when it holds neither lock nor lease any more, so that the
 * program may go on with the same name at once. */

static bool is_renewal(const struct cm_job *job)
{
    return job->mode != CM_JOB_OBTAIN;
}

static int64_t remaining_s(const struct cm_job *job)
{
    return is_renewal(job) && job->news.old_not_after_s != 0
               ? job->news.old_not_after_s - cm_env_wall_s(job->cfg->env)
               : 0;
}

static struct cm_event event_of(const struct cm_job *job, enum cm_event_type type)
{
    return (struct cm_event){ .type = type,
                              .renewal = is_renewal(job),
                              .identifier = job->subject->ident,
                              .remaining_s = remaining_s(job) };
}

cm_status cm_news_begin(struct cm_job *job, const struct cm_cert *old, struct cm_err *err)
{
    job->news.old_not_after_s = old != NULL ? old->not_after_s : 0;

    struct cm_event ev = event_of(job, CM_EVENT_CERT_OBTAINING);
    ev.forced = is_renewal(job) && job->mode != CM_JOB_RENEW;
    if (is_renewal(job) && old != NULL)
        ev.issuer = cm_cert_issuer_key(old);
    cm_status rc = cm_emit(job->cfg, &ev, err);
    job->news.vetoed = rc != CM_OK;
    return rc == CM_OK ? rc : cm_wrap(err, rc, "certificate for '%s'", job->subject->ident);
}

void cm_news_trying(struct cm_job *job, const char *issuer_key)
{
    struct cm_job_news *n = &job->news;

    for (size_t i = 0; i < n->n_tried; i++)
        if (strcmp(n->tried[i], issuer_key) == 0)
            return; /* again, after a lost lock */
    if (n->n_tried < CM_ISSUERS_MAX)
        n->tried[n->n_tried++] = issuer_key;
}

void cm_news_issued(struct cm_job *job, struct cm_span csr_der)
{
    struct cm_buf pem = CM_BUF_INIT(CM_JOURNAL_MAX);

    job->news.issued = true;
    if (job->cfg->on_event == NULL)
        return;
    if (cm_csr_to_pem(csr_der, &pem, NULL) != CM_OK)
        cm_buf_free(&pem); /* without memory the event lacks it */
    free(job->news.csr_pem);
    job->news.csr_pem = (char *)pem.data; /* allocated by the buffer, freed with free() */
}

static const char *path(const struct cm_job *job, const char *suffix, char buf[CM_KEY_BUF])
{
    const char *issuer_key = cm_cert_issuer_key(job->cert);

    return cm_path_cert(issuer_key, job->subject->dir, suffix, buf, NULL) == CM_OK ? buf : NULL;
}

static void tell_obtained(const struct cm_job *job)
{
    struct cm_event ev = event_of(job, CM_EVENT_CERT_OBTAINED);
    char paths[4][CM_KEY_BUF];

    if (job->cfg->on_event == NULL)
        return;
    ev.issuer = cm_cert_issuer_key(job->cert);
    ev.storage_path = path(job, NULL, paths[0]);
    ev.private_key_path = path(job, ".key", paths[1]);
    ev.certificate_path = path(job, ".crt", paths[2]);
    ev.metadata_path = path(job, ".json", paths[3]);
    ev.csr_pem = job->news.csr_pem;
    ev.cert = job->cert;
    (void)cm_emit(job->cfg, &ev, NULL);
}

static void tell_failed(const struct cm_job *job, const struct cm_err *why)
{
    struct cm_event ev = event_of(job, CM_EVENT_CERT_FAILED);

    ev.issuers = job->news.tried;
    ev.error = why;
    ev.attempts = job->attempt + 1;
    (void)cm_emit(job->cfg, &ev, NULL);
}

void cm_news_end(struct cm_job *job, cm_status rc, const struct cm_err *why)
{
    if (rc == CM_OK && job->news.issued) {
        cm_count(job->cfg, is_renewal(job) ? CM_COUNT_RENEWED : CM_COUNT_OBTAINED);
        tell_obtained(job);
    } else if (rc == CM_E_AGAIN && !job->news.followed) {
        cm_count(job->cfg, CM_COUNT_POSTPONED);
    } else if (rc != CM_OK && rc != CM_E_CANCELED && !job->news.followed && !job->news.vetoed) {
        /* What is cut short has not failed, and who vetoed it knows. */
        cm_count_failure(job->cfg, rc, why);
        tell_failed(job, why);
    }
    free(job->news.csr_pem);
    job->news = (struct cm_job_news){ .csr_pem = NULL };
}

void cm_news_lock_lost(const struct cm_job *job, const char *lock, const struct cm_err *why)
{
    struct cm_event ev = { .type = CM_EVENT_LOCK_LOST, .identifier = lock, .error = why };

    cm_count(job->cfg, CM_COUNT_LOCK_LOST);
    (void)cm_emit(job->cfg, &ev, NULL);
}
