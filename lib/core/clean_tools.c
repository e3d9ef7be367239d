/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"

void cm_sweep_gone(struct cm_sweep *w, const char *key, const char *why)
{
    w->report.removed++;
    if (w->opts.each != NULL)
        w->opts.each(w->opts.user, key, why);
}

cm_status cm_sweep_skip(struct cm_sweep *w, const char *key, cm_status rc, const struct cm_err *why,
                        struct cm_err *err)
{
    cm_status over = cm_op_check(w->op, err);

    if (over != CM_OK)
        return over;
    if (rc == CM_E_NOMEM)
        return cm_fail_nomem(err);
    w->report.malformed++;
    cm_logf(&w->cfg->log, CM_LOG_WARN, "clean_skipped", NULL, 0, "clean: '%s' stays: %s", key,
            why->msg);
    return CM_OK;
}

cm_status cm_sweep_age_s(const struct cm_sweep *w, const char *key, int64_t modified_ns,
                         int64_t *ret, struct cm_err *err)
{
    struct cm_key_info info = { .modified_ns = modified_ns };

    if (modified_ns == 0) {
        cm_status rc = cm_storage_stat(w->cfg->storage, w->op, key, &info, err);
        if (rc != CM_OK)
            return rc;
    }
    *ret = w->now_s - info.modified_ns / CM_NS_PER_S;
    return CM_OK;
}

cm_status cm_sweep_remove(struct cm_sweep *w, const char *key, const char *why, struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (!w->opts.dry_run)
        rc = cm_storage_remove(w->cfg->storage, w->op, key, err);
    if (rc == CM_OK)
        cm_sweep_gone(w, key, why);
    return rc;
}

cm_status cm_sweep_aged(struct cm_sweep *w, const char *key, int64_t modified_ns, int64_t limit_s,
                        const char *why, struct cm_err *err)
{
    struct cm_err bad = CM_ERR_INIT;
    int64_t age_s = 0;

    cm_status rc = cm_sweep_age_s(w, key, modified_ns, &age_s, &bad);
    if (rc == CM_E_NOTFOUND)
        return CM_OK; /* it has just gone by itself */
    w->report.examined++;
    if (rc == CM_OK && age_s > limit_s)
        rc = cm_sweep_remove(w, key, why, &bad);
    return rc == CM_OK ? rc : cm_sweep_skip(w, key, rc, &bad, err);
}

cm_status cm_sweep_lease(const struct cm_sweep *w, const char *lock, struct cm_lease **ret,
                         struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;

    lo.try_only = true;
    lo.log = w->cfg->log;
    return cm_lease_acquire(w->cfg->storage, w->op, lock, &lo, ret, err);
}
