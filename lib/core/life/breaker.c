/* SPDX-License-Identifier: Apache-2.0 */
#include "cagate.h"

/* A CA that fails for reasons of its own fails for all names. After a few failures in a row nobody
 * asks any more but one probe now and then, so that an outage costs neither attempts nor time, and
 * the next issuer is used without delay. When it works again, those who waited are let in little by
 * little. */

#define OPENS_AFTER 5u
#define CALM_NS     (60 * CM_NS_PER_S)

static int64_t interval_ns(unsigned failures)
{
    unsigned doubled = failures > OPENS_AFTER ? failures - OPENS_AFTER : 0;
    int64_t s = doubled < 4 ? (int64_t)CM_CA_PROBE_S << doubled : CM_CA_PROBE_MAX_S;

    return s * CM_NS_PER_S;
}

bool cm_breaker_fail(struct cm_breaker *b, int64_t now_ns)
{
    if (b->open) /* the probe, which is counted; or one that began before */
        return false;
    b->failures++;
    if (b->failures < OPENS_AFTER)
        return false;
    b->open = true;
    b->next_probe_ns = now_ns + interval_ns(b->failures);
    return true;
}

bool cm_breaker_succeed(struct cm_breaker *b, int64_t now_ns)
{
    bool was_open = b->open;

    b->failures = 0;
    b->open = false;
    if (was_open)
        b->calm_ns = now_ns + CALM_NS;
    return was_open;
}

int64_t cm_breaker_wait_ns(const struct cm_breaker *b, int64_t now_ns, uint64_t dice)
{
    int64_t left = b->calm_ns - now_ns;

    if (b->open)
        return b->next_probe_ns > now_ns ? b->next_probe_ns - now_ns : 0;
    if (left <= 0 || left > CALM_NS)
        return 0;
    /* Ever more get in at once; the others come back somewhere in the time that is left. */
    if ((int64_t)(dice % (uint64_t)CALM_NS) >= left)
        return 0;
    return 1 + (int64_t)((dice >> 20) % (uint64_t)left);
}

void cm_breaker_probe(struct cm_breaker *b, int64_t now_ns)
{
    if (b->failures < UINT32_MAX / 2)
        b->failures++;
    b->next_probe_ns = now_ns + interval_ns(b->failures);
}
