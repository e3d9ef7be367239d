/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"
#include "fuzz.h"

#include <string.h>

/* The journal of an order. What was read can be written, and reads the same again. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_buf out = CM_BUF_SECRET(4 * CM_JOURNAL_MAX);
    struct cm_journal j;
    struct cm_journal again;

    if (cm_journal_parse((struct cm_span){ data, size }, &j, NULL) != CM_OK)
        return 0;
    fuzz_reached();
    CM_ASSERT(cm_journal_format(&j, &out, NULL) == CM_OK);
    if (out.len <= CM_JOURNAL_MAX && strlen(j.names) == strcspn(j.names, "\n")) {
        CM_ASSERT(cm_journal_parse(cm_buf_span(&out), &again, NULL) == CM_OK);
        CM_ASSERT(strcmp(j.names, again.names) == 0);
        CM_ASSERT(strcmp(j.issuer_key, again.issuer_key) == 0);
        CM_ASSERT(j.created_ns == again.created_ns && j.must_staple == again.must_staple);
        CM_ASSERT(cm_equal_ct(cm_buf_span(&j.csr_der), cm_buf_span(&again.csr_der)));
        CM_ASSERT(cm_equal_ct(cm_buf_span(&j.resume), cm_buf_span(&again.resume)));
        cm_journal_free(&again);
    }
    cm_buf_free(&out);
    cm_journal_free(&j);
    return 0;
}
