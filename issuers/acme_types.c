/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

/* Each type that fails costs an authorization at the CA, and some time. What did last time will
 * probably do again: a port that is closed stays closed. All types are tried whatever is said here,
 * so a wrong guess costs no certificate. */

#define MEMORY 16u /* attempts; older ones fade */

/* Has @a the better odds? (worked + 1) / (all + 2): what was never tried is as good as one that
 * does half of the time. */
static bool is_better(const struct acme_issuer *ai, enum acme_challenge_type a,
                      enum acme_challenge_type b)
{
    unsigned all_a = ai->tried[a].worked + ai->tried[a].failed + 2;
    unsigned all_b = ai->tried[b].worked + ai->tried[b].failed + 2;

    return (ai->tried[a].worked + 1) * all_b > (ai->tried[b].worked + 1) * all_a;
}

void acme_types_order(struct acme_issuer *ai, enum acme_challenge_type ret[ACME_CHALLENGE_TYPES])
{
    cm_mutex_lock(&ai->lock);
    for (size_t i = 0; i < ACME_CHALLENGE_TYPES; i++) {
        size_t at = i;

        for (; at > 0 && is_better(ai, (enum acme_challenge_type)i, ret[at - 1]); at--)
            ret[at] = ret[at - 1];
        ret[at] = (enum acme_challenge_type)i;
    }
    cm_mutex_unlock(&ai->lock);
}

void acme_types_note(struct acme_issuer *ai, enum acme_challenge_type type, bool worked)
{
    cm_mutex_lock(&ai->lock);
    if (ai->tried[type].worked + ai->tried[type].failed >= MEMORY) {
        ai->tried[type].worked /= 2;
        ai->tried[type].failed /= 2;
    }
    *(worked ? &ai->tried[type].worked : &ai->tried[type].failed) += 1;
    cm_mutex_unlock(&ai->lock);
}
