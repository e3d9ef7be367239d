/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "fuzz.h"

#include <string.h>

/* RFC 3339 times and Retry-After: what is taken must come out the same when written and read
 * again, and a wait stays within its bounds. */

static void check_time(const char *text, size_t len)
{
    char out[CM_TIME_TEXT];
    int64_t ns = 0;
    int64_t again = 0;

    if (cm_time_parse_rfc3339(text, len, &ns, NULL) != CM_OK)
        return;
    fuzz_reached();
    for (int fixed = 0; fixed < 2; fixed++) {
        cm_time_format_rfc3339(ns, fixed != 0, out);
        CM_ASSERT(cm_time_parse_rfc3339(out, strlen(out), &again, NULL) == CM_OK);
        CM_ASSERT(again == ns);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t nows[] = { 0, 1788027601, INT64_C(253402300799) };
    char *text = cm_calloc(1, size + 1);

    CM_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    check_time(text, size);
    for (size_t i = 0; i < CM_ARRAY_LEN(nows); i++) {
        int64_t wait = -1;

        if (cm_time_parse_retry_after(text, nows[i], &wait, NULL) == CM_OK)
            CM_ASSERT(wait >= 0 && wait <= 30 * 86400);
    }
    free(text);
    return 0;
}
