/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

/* A clock that is wrong by days makes every certificate look due, and the next one, too: a fleet
 * with such a clock would order until the CA refuses. The CA knows what time it is. */

#define WARN_S 300
#define STOP_S 3600

enum { TOLD_NOTHING = 0, TOLD_OFF = 1, TOLD_STOPPED = 2 };

/* Once for each that is worse than what was said before, and again after it was right. */
static bool is_news(struct acme_issuer *ai, int level)
{
    int told = atomic_load(&ai->clock_told);

    if (level == TOLD_NOTHING)
        atomic_store(&ai->clock_told, TOLD_NOTHING);
    return told < level && atomic_compare_exchange_strong(&ai->clock_told, &told, level);
}

/* Would the renewal not be due if the CA's clock is right? One that has expired by both clocks is
 * needed whatever they say. */
static bool only_the_clock_wants(const struct cm_issue_request *req, int64_t ca_now_s)
{
    return req->renewal && !req->forced &&
           (req->replaces_not_after_s == 0 || ca_now_s <= req->replaces_not_after_s);
}

cm_status acme_clock_check(struct acme_issuer *ai, const struct cm_op *op,
                           const struct cm_issue_request *req, struct cm_err *err)
{
    const struct cm_acme_directory *dir = NULL;
    struct cm_err why = CM_ERR_INIT;
    int64_t skew_s = 0;

    /* It is needed for the order in any case, and its answer has a date. */
    cm_status rc = cm_acme_directory(ai->client, op, &dir, err);
    if (rc != CM_OK || cm_acme_clock_skew(ai->client, op, STOP_S, &skew_s, NULL) != CM_OK)
        return rc;
    int64_t apart_s = skew_s < 0 ? -skew_s : skew_s;
    bool stop =
        apart_s > STOP_S && only_the_clock_wants(req, cm_env_wall_s(cm_op_env(op)) - skew_s);
    if (apart_s > WARN_S)
        rc = cm_fail(&why, CM_E_STATE, "the clock here is %lld %s %s the CA's (%s)%s",
                     (long long)(apart_s >= 2 * 3600 ? apart_s / 3600 : apart_s / 60),
                     apart_s >= 2 * 3600 ? "h" : "min", skew_s > 0 ? "ahead of" : "behind",
                     ai->directory_url,
                     stop ? ": nothing is renewed by it, set it right" : ": set it right");
    if (is_news(ai, stop ? TOLD_STOPPED : apart_s > WARN_S ? TOLD_OFF : TOLD_NOTHING))
        cm_logf(&ai->host.log, CM_LOG_WARN, "clock_skew", NULL, 0, "%s", why.msg);
    if (!stop)
        return CM_OK;
    if (err != NULL)
        *err = why;
    return rc;
}
