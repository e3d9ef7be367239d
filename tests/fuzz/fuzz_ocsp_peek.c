/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"

#define YEAR_0    INT64_C(-62167219200)
#define YEAR_9999 INT64_C(253402300799)

/* What others have put into storage as a staple. The same bytes say the same; what is taken has
 * dates that exist, and nothing less than all of it is taken. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_ocsp_peek a;
    struct cm_ocsp_peek b;

    if (!cm_ocsp_peek((struct cm_span){ data, size }, &a))
        return 0;
    fuzz_reached();
    CM_ASSERT(cm_ocsp_peek((struct cm_span){ data, size }, &b));
    CM_ASSERT(a.this_update_s == b.this_update_s && a.next_update_s == b.next_update_s);
    CM_ASSERT(a.revoked == b.revoked);
    CM_ASSERT(a.this_update_s >= 0 && a.this_update_s <= YEAR_9999);
    CM_ASSERT(a.next_update_s >= YEAR_0 && a.next_update_s <= YEAR_9999);
    CM_ASSERT(!cm_ocsp_peek((struct cm_span){ data, size - 1 }, &b));
    return 0;
}
