/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <string.h>

/* Names that clients brought, decided about again while they are served. A yes is remembered here;
 * hellos that come when it is over wait at the desk (ask.c) as the first one did, and there is one
 * question for all of them. A no is remembered where every no is (denied.c), and with the name:
 * once it was denied, only a yes lets it in again, not that nobody could be asked. */

#define ANSWERS  65536u
#define HOLDS_NS (10 * CM_NS_PER_S)

struct cm_recheck {
    struct cm_config *cfg;
    struct cm_probes *yes;
    int64_t keep_ns;
};

cm_status cm_recheck_new(struct cm_config *cfg, const struct cm_ondemand_options *o,
                         struct cm_recheck **ret, struct cm_err *err)
{
    struct cm_recheck *r;

    *ret = NULL;
    if (o->recheck_s == 0)
        return CM_OK;
    r = cm_calloc(1, sizeof *r);
    if (r == NULL)
        return cm_fail_nomem(err);
    r->cfg = cfg;
    r->keep_ns = o->recheck_s * CM_NS_PER_S;
    cm_status rc = cm_probes_new(cfg->env, ANSWERS, &r->yes, err);
    if (rc != CM_OK) {
        free(r);
        return rc;
    }
    *ret = r;
    return CM_OK;
}

void cm_recheck_free(struct cm_recheck *r)
{
    if (r == NULL)
        return;
    cm_probes_free(r->yes);
    free(r);
}

void cm_recheck_note(struct cm_recheck *r, const char *name, bool allow)
{
    if (r == NULL)
        return;
    cm_probes_note(r->yes, "yes", name, allow ? r->keep_ns : 0);
    cm_names_judged(r->cfg, name, allow);
}

/* What is for another name of a wildcard is no yes for this one: it may never have had one. */
bool cm_recheck_holds(struct cm_recheck *r, const char *name, const char *why)
{
    char subject[CM_NAME_BUF];
    bool denied;

    if (r == NULL || !cm_names_brought(r->cfg, name, subject, &denied) || denied ||
        strcmp(subject, name) != 0)
        return false;
    const struct cm_log_field f[] = { { "name", name }, { "error", why } };
    cm_logf(&r->cfg->log, CM_LOG_WARN, "ondemand_unasked", f, CM_ARRAY_LEN(f),
            "whether '%s' may still be served cannot be asked (%s); the last yes holds", name, why);
    cm_probes_note(r->yes, "yes", name, r->keep_ns < HOLDS_NS ? r->keep_ns : HOLDS_NS);
    return true;
}

cm_status cm_recheck_hello(struct cm_config *cfg, const struct cm_hello *hello, const char *name,
                           struct cm_pending **ret_pending, struct cm_err *err)
{
    struct cm_recheck *r = cfg->recheck;
    struct cm_err why = CM_ERR_INIT;
    char subject[CM_NAME_BUF];
    bool denied;

    if (cm_probes_wait_ns(r->yes, "yes", name) > 0 ||
        !cm_names_brought(cfg, name, subject, &denied))
        return CM_OK;
    cm_status rc = cm_ondemand_wait(cfg, hello, name, true, ret_pending, &why);
    if (rc != CM_E_AGAIN && rc != CM_E_POLICY && cm_recheck_holds(r, name, why.msg))
        return CM_OK;
    if (err != NULL)
        *err = why;
    return rc;
}
