/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"

#include <stdio.h>
#include <string.h>

/* Removing what nobody needs any more: the call, once per fleet and interval, and whether the clock
 * is to be believed. What is removed stands in the other files, see clean.h. */

#define DEFAULT_GRACE_S (14 * CM_CLEAN_DAY_S)
#define FEW             10u /* so many may go at once however few there are */
#define SUSPICIOUS      3u  /* certificates of the future, if they are a tenth of all */

/* ---- the clock ---- */

static cm_status doubt(int64_t now_s, const char *sign, struct cm_err *err)
{
    char when[CM_TIME_TEXT];

    cm_time_format_rfc3339(now_s * CM_NS_PER_S, false, when);
    return cm_fail(err, CM_E_POLICY,
                   "nothing is removed by date, as this machine's clock (%s) may be wrong: %s. Set "
                   "the clock, or clean with force",
                   when, sign);
}

/* A clock that is wrong makes everything expire at once. What speaks against ours? */
static cm_status check_clock(const struct cm_sweep *w, const struct cm_sweep_sites *s,
                             int64_t last_s, struct cm_err *err)
{
    char when[CM_TIME_TEXT];
    char sign[160];

    if (w->opts.force)
        return CM_OK;
    if (last_s - w->now_s > CM_CLEAN_DAY_S) {
        cm_time_format_rfc3339(last_s * CM_NS_PER_S, false, when);
        (void)snprintf(sign, sizeof sign, "the storage was cleaned last at %s", when);
        return doubt(w->now_s, sign, err);
    }
    if (s->n_future >= SUSPICIOUS && s->n_future >= s->n / 10) {
        (void)snprintf(sign, sizeof sign, "%zu of %zu certificates begin in the future",
                       s->n_future, s->n);
        return doubt(w->now_s, sign, err);
    }
    if (s->n_past > FEW && s->n_past > s->n / 2) {
        (void)snprintf(sign, sizeof sign, "%zu of %zu certificates would go at once", s->n_past,
                       s->n);
        return doubt(w->now_s, sign, err);
    }
    return CM_OK;
}

/* ---- the sweep ---- */

static cm_status sweep(struct cm_sweep *w, int64_t last_s, struct cm_err *err)
{
    struct cm_err doubts = CM_ERR_INIT;
    struct cm_sweep_sites sites;

    cm_status rc = cm_sweep_sites_look(w, &sites, err);
    if (rc != CM_OK)
        return rc;
    cm_status clock = check_clock(w, &sites, last_s, &doubts);
    if (clock == CM_OK || w->opts.dry_run) /* a dry run shows what it is that would go */
        rc = cm_sweep_sites(w, &sites, err);
    cm_sweep_sites_free(&sites);
    if (rc == CM_OK && clock != CM_OK) {
        if (err != NULL)
            *err = doubts;
        return clock;
    }
    if (rc == CM_OK)
        rc = cm_sweep_compromised(w, err);
    if (rc == CM_OK)
        rc = cm_sweep_staples(w, err);
    if (rc == CM_OK)
        rc = cm_sweep_passing(w, err);
    if (rc == CM_OK)
        rc = cm_sweep_journals(w, err);
    return rc == CM_OK ? cm_sweep_records(w, err) : rc;
}

/* ---- once per fleet ---- */

static bool is_recent(const struct cm_sweep *w, int64_t last_s)
{
    int64_t ago_s = w->now_s - last_s;

    return w->opts.interval_s > 0 && last_s != 0 && ago_s < w->opts.interval_s &&
           ago_s >= -CM_CLEAN_DAY_S;
}

/* With the fleet's lock in hand. */
static cm_status clean_under(struct cm_sweep *w, struct cm_lease *lease, struct cm_err *err)
{
    const struct cm_op *outer = w->op;
    const struct cm_op op = { .env = cm_op_env(outer),
                              .deadline_ns = outer != NULL ? outer->deadline_ns : 0,
                              .cancel = cm_lease_cancel(lease) };
    int64_t last_s = 0;

    cm_status rc = cm_clean_stamp_load(w->cfg, outer, &last_s, err);
    if (rc != CM_OK)
        return rc;
    if (is_recent(w, last_s)) { /* a peer did it between our first look and the lock */
        w->report.skipped = true;
        return CM_OK;
    }
    w->op = &op;
    rc = sweep(w, last_s, err);
    if (rc == CM_OK)
        rc = cm_clean_stamp_store(w->cfg, &op, lease, err);
    w->op = outer;
    if (rc == CM_E_CANCELED && cm_op_check(outer, NULL) == CM_OK)
        rc = cm_lease_check(lease, err) == CM_OK ? rc : CM_E_LOCK_LOST;
    return rc;
}

static cm_status clean(struct cm_sweep *w, struct cm_err *err)
{
    struct cm_lease *lease = NULL;
    int64_t last_s = 0;

    cm_status rc = cm_clean_stamp_load(w->cfg, w->op, &last_s, err);
    if (rc != CM_OK)
        return rc;
    if (is_recent(w, last_s)) {
        w->report.skipped = true;
        return CM_OK;
    }
    if (w->opts.dry_run)
        return sweep(w, last_s, err);
    rc = cm_sweep_lease(w, CM_CLEAN_LOCK, &lease, err);
    if (rc == CM_E_BUSY) {
        w->report.skipped = true;
        return CM_OK;
    }
    if (rc == CM_OK)
        rc = clean_under(w, lease, err);
    cm_lease_release(lease);
    return rc;
}

/* ---- the call ---- */

static cm_status take_options(struct cm_sweep *w, const struct cm_clean_options *opts,
                              struct cm_err *err)
{
    if (opts != NULL)
        memcpy(&w->opts, opts, opts->size < sizeof w->opts ? opts->size : sizeof w->opts);
    if (w->opts.grace_s < 0)
        return cm_fail(err, CM_E_INVAL, "option grace_s is negative");
    if (w->opts.interval_s < 0)
        return cm_fail(err, CM_E_INVAL, "option interval_s is negative");
    if (w->opts.compromised_after_s < 0)
        return cm_fail(err, CM_E_INVAL, "option compromised_after_s is negative");
    if (w->opts.grace_s == 0)
        w->opts.grace_s = DEFAULT_GRACE_S;
    return CM_OK;
}

cm_status cm_storage_clean(struct cm_config *cfg, const struct cm_op *op,
                           const struct cm_clean_options *opts, struct cm_clean_report *ret,
                           struct cm_err *err)
{
    struct cm_sweep w = { .cfg = cfg, .op = op };

    if (cfg == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration");
    cm_status rc = take_options(&w, opts, err);
    if (rc != CM_OK)
        return rc;
    w.now_s = cm_env_wall_s(cfg->env);
    rc = clean(&w, err);
    if (rc == CM_OK && ret != NULL) {
        size_t size = ret->size > 0 && ret->size < sizeof w.report ? ret->size : sizeof w.report;

        w.report.size = (uint32_t)size;
        memcpy(ret, &w.report, size);
    }
    return rc;
}
