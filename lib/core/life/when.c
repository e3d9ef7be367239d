/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

/* When a certificate is to be renewed. First what its CA suggests (RFC 9773), since the CA may know
 * that it will be revoked, and spreads its load; then a part of the lifetime it really has, or the
 * program's own duration. No suggestion postpones a renewal into the last twentieth: there it would
 * be too late to weather an outage. Nor into the last ten minutes, or the last third of lives below
 * half an hour. */

#define SHORT_LIFE_S  (10 * 24 * 3600)
#define URGENT_PART   20
#define LAST_PART     50
#define LEAST_S       600  /* an issuance takes time, also of a certificate that lives an hour */
#define ABSOLUTE_PART 0.75 /* a longer duration would renew again and again */

const char *cm_renew_rule_text(enum cm_renew_rule r)
{
    switch (r) {
    case CM_RULE_ABSOLUTE:
        return "absolute";
    case CM_RULE_ARI:
        return "ari";
    case CM_RULE_EMERGENCY:
        return "emergency";
    case CM_RULE_RATIO:
        break;
    }
    return "ratio";
}

/* Dates may be anything a CA writes into them. */
static int64_t minus(int64_t a, int64_t b)
{
    int64_t r;

    if (__builtin_sub_overflow(a, b, &r))
        return b > 0 ? INT64_MIN : INT64_MAX;
    return r;
}

static void by_lifetime(const struct cm_when_input *in, int64_t end, int64_t life,
                        struct cm_when *ret)
{
    double ratio = in->ratio > 0 ? in->ratio : life < SHORT_LIFE_S ? 0.5 : 1.0 / 3.0;

    ret->rule = CM_RULE_RATIO;
    ret->renew_at_s = end - (int64_t)((double)life * ratio);
    if (in->renew_before_s > 0 && (double)in->renew_before_s <= (double)life * ABSOLUTE_PART) {
        ret->rule = CM_RULE_ABSOLUTE;
        ret->renew_at_s = end - in->renew_before_s;
    }
}

void cm_when(const struct cm_when_input *in, struct cm_when *ret)
{
    /* notAfter is the last second of validity. */
    int64_t end = in->not_after_s < INT64_MAX ? in->not_after_s + 1 : in->not_after_s;
    int64_t life = minus(end, in->not_before_s);

    if (life <= 0) {
        *ret = (struct cm_when){ .renew_at_s = in->not_after_s,
                                 .rule = CM_RULE_EMERGENCY,
                                 .urgent_at_s = in->not_after_s,
                                 .emergency_at_s = in->not_after_s };
        return;
    }
    by_lifetime(in, end, life, ret);
    ret->urgent_at_s = end - life / URGENT_PART;
    ret->emergency_at_s = end - life / LAST_PART;
    if (in->ari != NULL && in->ari->selected_s != 0) {
        ret->rule = CM_RULE_ARI;
        ret->renew_at_s = in->ari->selected_s;
    }
    int64_t latest_s = end - (life / 3 < LEAST_S ? life / 3 : LEAST_S);
    if (latest_s > ret->urgent_at_s)
        latest_s = ret->urgent_at_s;
    if (ret->renew_at_s > latest_s) {
        ret->rule = CM_RULE_EMERGENCY;
        ret->renew_at_s = latest_s;
    }
    if (ret->renew_at_s > in->not_after_s) /* of a life of some seconds nothing is left over */
        ret->renew_at_s = in->not_after_s;
}

void cm_when_for(const struct cm_config *cfg, const struct cm_cert *cert, const struct cm_ari *ari,
                 struct cm_when *ret)
{
    const struct cm_when_input in = { .not_before_s = cert->not_before_s,
                                      .not_after_s = cert->not_after_s,
                                      .ratio = cfg != NULL ? cfg->renew_ratio : 0,
                                      .renew_before_s = cfg != NULL ? cfg->renew_before_s : 0,
                                      .ari = ari };

    cm_when(&in, ret);
}

unsigned cm_when_tier(const struct cm_cert *cert, int64_t now_s)
{
    struct cm_when w;

    if (now_s > cert->not_after_s)
        return 1;
    cm_when_for(NULL, cert, NULL, &w);
    if (now_s >= w.emergency_at_s)
        return LAST_PART;
    return now_s >= w.urgent_at_s ? URGENT_PART : 0;
}

int64_t cm_when_next_tier_s(const struct cm_cert *cert, const struct cm_when *w, int64_t now_s)
{
    const int64_t at[] = { w->urgent_at_s, w->emergency_at_s, cert->not_after_s + 1 };
    int64_t next_s = INT64_MAX;

    for (size_t i = 0; i < CM_ARRAY_LEN(at); i++)
        if (at[i] > now_s && at[i] < next_s)
            next_s = at[i];
    return next_s;
}
