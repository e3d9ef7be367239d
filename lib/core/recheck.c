/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

/* What was loaded from storage to be served is looked at quickly, so that many names are up soon.
 * That its signatures hold takes longer, and is looked at here, when it is served already. What
 * does not hold would be refused by every client: it goes, and is had anew. A hundred thousand take
 * many seconds of a processor, so they are looked at one by one with a rest after each. */

#define REST_NS (2 * CM_NS_PER_MS) /* some ten times what a look takes */

struct recheck {
    struct cm_run run;
    struct cm_managed *m; /* lives as long as the config, like the queue */
    struct cm_cert *cert;
};

/* Not by loading again: what lies in storage is what failed. A job is there already? Then it looks
 * into storage itself, to the bottom. */
static void obtain_anew(struct cm_managed *m)
{
    struct cm_names *t = m->cfg->names;
    bool start;

    cm_mutex_lock(&t->lock);
    m->served = false;
    start = !m->busy;
    if (start) {
        cm_managed_wake_locked(m, true);
        m->stage = CM_STAGE_OBTAIN;
    }
    cm_mutex_unlock(&t->lock);
    if (start)
        cm_managed_start(m);
}

/* In a queue of their own, so that nobody else waits while this one rests. */
static void run_recheck(struct cm_run *self)
{
    struct recheck *r = CM_CONTAINER_OF(self, struct recheck, run);
    struct cm_config *cfg = r->m->cfg;
    const struct cm_op op = { cfg->env, 0, cfg->stop };
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = cm_cancel_is_fired(cfg->stop) ? CM_OK : cm_store_check(r->cert, &why);
    if (rc != CM_OK && rc != CM_E_NOMEM) { /* lack of memory says nothing of it */
        cm_logf(&cfg->log, CM_LOG_WARN, "stored_certificate_unusable", NULL, 0,
                "the certificate in storage for '%s' (serial %s, from %s) is damaged: %s; it is "
                "obtained anew",
                r->m->name, cm_cert_serial(r->cert), cm_cert_issuer_key(r->cert), why.msg);
        (void)cm_cache_remove(cfg->cache, r->cert);
        obtain_anew(r->m);
    }
    cm_cert_unref(r->cert);
    free(r);
    (void)!cm_op_wait(&op, REST_NS, NULL);
}

void cm_recheck(struct cm_managed *m, struct cm_cert *cert)
{
    struct recheck *r = cm_calloc(1, sizeof *r);

    if (r == NULL)
        return; /* clients find out */
    r->run.run = run_recheck;
    r->m = m;
    r->cert = cm_cert_ref(cert);
    if (cm_runq_push(m->cfg->idle, &r->run, NULL) != CM_OK) {
        cm_cert_unref(r->cert);
        free(r);
    }
}
