/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

/* What was loaded from storage to be served is looked at quickly, so that many names are up soon.
 * That its signatures hold takes longer, and is looked at here, when it is served already. What
 * does not hold would be refused by every client: it goes, and is had anew. A hundred thousand take
 * many seconds of a processor, so they are looked at one by one with a rest after each. What waits
 * for that is the name: a reference held so long would make each certificate look as if many asked
 * for it (refs.c). */

#define REST_NS (2 * CM_NS_PER_MS) /* some ten times what a look takes */

struct recheck {
    struct cm_run run;
    struct cm_managed *m; /* lives as long as the config, like the queue */
};

/* Did @cert have to go? */
static bool is_thrown_out(struct cm_config *cfg, const char *name, struct cm_cert *cert)
{
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = cm_store_check(cert, &why);
    if (rc == CM_OK || rc == CM_E_NOMEM) /* lack of memory says nothing of it */
        return false;
    cm_logf(&cfg->log, CM_LOG_WARN, "stored_certificate_unusable", NULL, 0,
            "the certificate in storage for '%s' (serial %s, from %s) is damaged: %s; it is "
            "obtained anew",
            name, cm_cert_serial(cert), cm_cert_issuer_key(cert), why.msg);
    (void)cm_cache_remove(cfg->cache, cert);
    return true;
}

/* Whatever is served under the name now: what was loaded, unless that has gone since. */
static void check_name(struct cm_managed *m)
{
    struct cm_config *cfg = m->cfg;
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    const char *host = cm_managed_host(m);
    size_t n = cm_cache_find(cfg->cache, host, strlen(host), certs);
    bool anew = false;

    for (size_t i = 0; i < n; i++) {
        if (cm_managed_is_for(m, certs[i]) && is_thrown_out(cfg, m->name, certs[i]))
            anew = true;
        cm_cert_unref(certs[i]);
    }
    if (anew) /* not by loading again: what lies in storage is what failed */
        cm_managed_obtain_anew(m);
}

/* In a queue of their own, so that nobody else waits while this one rests. */
static void run_recheck(struct cm_run *self)
{
    struct recheck *r = CM_CONTAINER_OF(self, struct recheck, run);
    const struct cm_config *cfg = r->m->cfg;
    const struct cm_op op = { cfg->env, 0, cfg->stop };

    if (!cm_cancel_is_fired(cfg->stop))
        check_name(r->m);
    free(r);
    (void)!cm_op_wait(&op, REST_NS, NULL);
}

void cm_recheck(struct cm_managed *m)
{
    struct recheck *r = cm_calloc(1, sizeof *r);

    if (r == NULL)
        return; /* clients find out */
    r->run.run = run_recheck;
    r->m = m;
    if (cm_runq_push(m->cfg->idle, &r->run, NULL) != CM_OK)
        free(r);
}
