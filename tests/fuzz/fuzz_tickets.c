/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "life/tickets.h"

#include <string.h>

/* The keys of session tickets as storage has them. What was read can be written, reads the same
 * again, and something can be made of it at any time. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t times[] = { 0, 1767225600, 1767225600 + 43200, INT64_C(9000000000) };
    CM_AUTO_BUF struct cm_buf out = CM_BUF_SECRET(CM_TICKET_RECORD_MAX);
    struct cm_ticket_record r, again, next;
    struct cm_err err = CM_ERR_INIT;
    bool is_new = false;

    if (cm_ticket_parse((struct cm_span){ data, size }, &r, &err) != CM_OK) {
        CM_ASSERT(err.status == CM_E_PARSE);
        return 0;
    }
    fuzz_reached();
    CM_ASSERT(r.n > 0 && r.n <= CM_TICKET_STORED);
    CM_ASSERT(cm_ticket_format(&r, &out, NULL) == CM_OK);
    CM_ASSERT(cm_ticket_parse(cm_buf_span(&out), &again, NULL) == CM_OK);
    CM_ASSERT(memcmp(&r, &again, sizeof r) == 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(times); i++) {
        CM_ASSERT(cm_ticket_current(&r, times[i]) < r.n);
        CM_ASSERT(cm_ticket_plan(NULL, &r, times[i], CM_TICKET_INTERVAL_S, &next, &is_new, NULL) ==
                  CM_OK);
        CM_ASSERT(next.n > 1 || next.at[0].from_s > times[i]);
        for (size_t k = 1; k < next.n; k++)
            CM_ASSERT(next.at[k - 1].from_s < next.at[k].from_s);
    }
    return 0;
}
