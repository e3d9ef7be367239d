/* SPDX-License-Identifier: Apache-2.0 */
#include "maintain.h"

/* Cleaning the storage now and then, if the program wants it: each node tries, one in the fleet
 * does it in each interval. That one lets its issuers clean, too: what lies in DNS can be taken
 * down by who has a provider only. */

#define DEFAULT_INTERVAL_S (24 * 3600)
#define ISSUERS_NS         (60 * CM_NS_PER_S) /* for all of them */

struct cm_cleaner {
    struct cm_task task;
    struct cm_run run;
};

static int64_t interval_of(const struct cm_config *cfg)
{
    return cfg->clean_interval_s > 0 ? cfg->clean_interval_s : DEFAULT_INTERVAL_S;
}

/* Some part of the interval later, so that not all nodes come at once. */
static void again(struct cm_cleaner *c, int64_t least_s, int64_t range_s)
{
    struct cm_config *cfg = c->task.cfg;
    int64_t chance_s = (int64_t)cm_random_below(cfg->env, (uint64_t)range_s + 1);

    cm_maint_at(cm_cache_maint(cfg->cache), &c->task,
                cm_ms_of(cm_env_wall_s(cfg->env) + least_s + chance_s));
}

/* What is not done is left for the next time. */
static void clean_issuers(struct cm_config *cfg, const struct cm_op *op)
{
    const struct cm_op within = cm_op_within(op, ISSUERS_NS);

    for (size_t i = 0; i < cfg->n_issuers; i++) {
        struct cm_err err = CM_ERR_INIT;
        cm_status rc = cm_issuer_clean(cfg->issuers[i], &within, &err);
        if (rc == CM_OK || rc == CM_E_CANCELED)
            continue;
        const struct cm_log_field f[] = { { "issuer", cm_issuer_key(cfg->issuers[i]) },
                                          { "error", err.msg } };
        cm_logf(&cfg->log, CM_LOG_WARN, "issuer_not_cleaned", f, CM_ARRAY_LEN(f),
                "take away what processes that died left for %s: %s", f[0].value, err.msg);
    }
}

static void run(struct cm_run *self)
{
    struct cm_cleaner *c = CM_CONTAINER_OF(self, struct cm_cleaner, run);
    struct cm_config *cfg = c->task.cfg;
    struct cm_clean_options o = { .size = (uint32_t)sizeof o,
                                  .grace_s = cfg->clean_grace_s,
                                  .interval_s = interval_of(cfg) };
    struct cm_clean_report report = { .size = (uint32_t)sizeof report };
    const struct cm_op op = { cfg->env, 0, cm_names_halt(cfg) };
    struct cm_err err = CM_ERR_INIT;

    cm_status rc = cm_storage_clean(cfg, &op, &o, &report, &err);
    if (rc == CM_OK && !report.skipped)
        cm_logf(&cfg->log, CM_LOG_INFO, "storage_cleaned", NULL, 0,
                "storage cleaned: %llu objects looked at, %llu removed, %llu malformed",
                (unsigned long long)report.examined, (unsigned long long)report.removed,
                (unsigned long long)report.malformed);
    else if (rc != CM_OK && rc != CM_E_CANCELED)
        cm_logf(&cfg->log, CM_LOG_WARN, "storage_not_cleaned", NULL, 0, "clean the storage: %s",
                err.msg);
    /* No date is of matter there, so a clock that may be wrong is no reason not to. */
    if ((rc == CM_OK && !report.skipped) || rc == CM_E_POLICY)
        clean_issuers(cfg, &op);
    again(c, interval_of(cfg), interval_of(cfg) / 10);
    cm_maint_leave(cm_cache_maint(cfg->cache));
}

static void fire(struct cm_task *t)
{
    struct cm_cleaner *c = CM_CONTAINER_OF(t, struct cm_cleaner, task);

    c->run.run = run;
    cm_maint_enter(cm_cache_maint(t->cfg->cache), 1);
    if (cm_runq_push(t->cfg->idle, &c->run, NULL) == CM_OK)
        return;
    cm_maint_leave(cm_cache_maint(t->cfg->cache)); /* the config goes, or no thread is to be had */
    again(c, 60, interval_of(t->cfg) / 10);
}

cm_status cm_cleaner_new(struct cm_config *cfg, struct cm_cleaner **ret, struct cm_err *err)
{
    struct cm_cleaner *c = cm_calloc(1, sizeof *c);

    if (c == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_maint_room(cm_cache_maint(cfg->cache), 1, err);
    if (rc != CM_OK) {
        free(c);
        return rc;
    }
    cm_task_init(&c->task, cfg, fire);
    *ret = c;
    /* Starting is busy enough. */
    again(c, 60, interval_of(cfg) / 10);
    return CM_OK;
}

void cm_cleaner_free(struct cm_cleaner *c)
{
    free(c);
}
