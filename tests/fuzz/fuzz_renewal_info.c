/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"
#include "fuzz.h"

#include <string.h>

/* Renewal information: a window that is taken can be chosen from and is of this age, whatever text
 * comes along is printable, and what is refused leaves nothing behind. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_renewal_info info = { .start_s = 42, .end_s = 43, .retry_after_s = 44 };
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = cm__acme_parse_renewal_info((struct cm_span){ data, size }, &info, &err);

    if (rc != CM_OK) {
        CM_ASSERT(rc == CM_E_PARSE || rc == CM_E_LIMIT || rc == CM_E_NOMEM);
        CM_ASSERT(info.start_s == 42 && info.end_s == 43);
        return 0;
    }
    fuzz_reached();
    CM_ASSERT(info.start_s < info.end_s && info.retry_after_s == 44);
    CM_ASSERT(info.start_s >= INT64_C(946684800) && info.end_s <= INT64_C(7258118401));
    for (size_t i = 0; i < strnlen(info.explanation_url, sizeof info.explanation_url); i++)
        CM_ASSERT(info.explanation_url[i] > 0x20 && info.explanation_url[i] < 0x7f);
    CM_ASSERT(memchr(info.explanation_url, '\0', sizeof info.explanation_url) != NULL);
    return 0;
}
