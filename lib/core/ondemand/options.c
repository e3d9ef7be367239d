/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <string.h>

/* The options of names that clients ask for, where they do not belong to one of the other files. */

#define WINDOW_MAX  (7 * 24 * 3600)
#define ORDERS_MAX  1000u
#define RECHECK_MAX (24 * 3600)

cm_status cm_ondemand_read(const struct cm_ondemand_options *given, struct cm_ondemand_options *ret,
                           struct cm_err *err)
{
    if (given->size < offsetof(struct cm_ondemand_options, suffixes) || given->size > 64u * 1024)
        return cm_fail(err, CM_E_INVAL, "on_demand.size is %u: begin with CM_ONDEMAND_OPTIONS_INIT",
                       given->size);
    memset(ret, 0, sizeof *ret);
    memcpy(ret, given, given->size < sizeof *ret ? given->size : sizeof *ret);
    if (ret->denied_ms < 0 || ret->denied_ms > 24 * INT64_C(3600000))
        return cm_fail(err, CM_E_INVAL, "option on_demand.denied_ms: %lld is not within a day",
                       (long long)ret->denied_ms);
    if (ret->orders_window_s != 0 &&
        (ret->orders_window_s < 60 || ret->orders_window_s > WINDOW_MAX))
        return cm_fail(err, CM_E_INVAL,
                       "option on_demand.orders_window_s: %lld is not between a minute and a week",
                       (long long)ret->orders_window_s);
    if (ret->orders > ORDERS_MAX)
        return cm_fail(err, CM_E_INVAL, "option on_demand.orders: %u, at most %u", ret->orders,
                       ORDERS_MAX);
    if (ret->allow_any_dangerous &&
        (ret->n_names > 0 || ret->n_suffixes > 0 || ret->decide != NULL || ret->ask_url != NULL))
        return cm_fail(err, CM_E_INVAL,
                       "option on_demand.allow_any_dangerous excludes lists and decisions");
    if (ret->recheck_s < 0 || ret->recheck_s > RECHECK_MAX)
        return cm_fail(err, CM_E_INVAL, "option on_demand.recheck_s: %lld is not within a day",
                       (long long)ret->recheck_s);
    if (ret->recheck_s > 0 && ret->decide == NULL && ret->ask_url == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "option on_demand.recheck_s: nobody decides, as neither decide nor ask_url "
                       "is set");
    return CM_OK;
}
