/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

/* What has happened since the config was made. Only numbers: nobody decides anything by them, so
 * they are counted without order between them. */

const int64_t cm_lock_wait_bounds_ns[CM_LOCK_WAIT_BUCKETS] = {
    10 * CM_NS_PER_MS, 100 * CM_NS_PER_MS, CM_NS_PER_S,       5 * CM_NS_PER_S,
    15 * CM_NS_PER_S,  60 * CM_NS_PER_S,   300 * CM_NS_PER_S, 1800 * CM_NS_PER_S
};

static void add(_Atomic uint64_t *n, uint64_t more)
{
    (void)atomic_fetch_add_explicit(n, more, memory_order_relaxed);
}

void cm_count(struct cm_config *cfg, enum cm_counter c)
{
    if (cfg->counters != NULL)
        add(&cfg->counters->n[c], 1);
}

/* Whose matter it is: what decides whom a person calls. */
static enum cm_counter class_of(cm_status rc, const struct cm_err *why)
{
    switch ((int)rc) {
    case CM_E_RATELIMITED:
        return CM_COUNT_FAILED_RATE;
    case CM_E_ACME:
    case CM_E_CERT:
        return CM_COUNT_FAILED_CA;
    case CM_E_NET:
    case CM_E_TLS:
    case CM_E_TIMEOUT: /* with a status, the CA was reached: it answered badly */
        return why != NULL && why->http_status != 0 ? CM_COUNT_FAILED_CA : CM_COUNT_FAILED_NET;
    case CM_E_IO:
    case CM_E_PERM:
    case CM_E_EXISTS:
    case CM_E_BUSY:
    case CM_E_LOCK_LOST:
        return CM_COUNT_FAILED_STORAGE;
    default:
        return CM_COUNT_FAILED_OTHER;
    }
}

void cm_count_failure(struct cm_config *cfg, cm_status rc, const struct cm_err *why)
{
    cm_count(cfg, class_of(rc, why));
}

void cm_count_lock_wait(struct cm_config *cfg, int64_t ns)
{
    size_t i = 0;

    if (cfg->counters == NULL)
        return;
    if (ns < 0)
        ns = 0;
    while (i < CM_LOCK_WAIT_BUCKETS && ns > cm_lock_wait_bounds_ns[i])
        i++;
    add(&cfg->counters->lock_wait[i], 1);
    add(&cfg->counters->lock_wait_ns, (uint64_t)ns);
}
