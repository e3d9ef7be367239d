/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"
#include "fuzz.h"

#include <string.h>

/* A problem document as such, and as the body of an answer: all text that comes out is printable
 * ASCII, and the status is one that the contract names. */

static void check_text(const char *s, size_t size)
{
    size_t len = strnlen(s, size);

    CM_ASSERT(len < size);
    for (size_t i = 0; i < len; i++)
        CM_ASSERT(s[i] >= 0x20 && s[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = { 302, 400, 403, 429, 503 };
    const struct cm_span in = { data, size };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct cm_acme_problem p;

    if (cm_acme_parse_problem(in, &p, NULL) == CM_OK) {
        fuzz_reached();
        check_text(p.type, sizeof p.type);
        check_text(p.detail, sizeof p.detail);
        CM_ASSERT(p.status == 0 || (p.status >= 100 && p.status <= 599));
    }
    resp.body.max = size;
    CM_ASSERT(cm_buf_append(&resp.body, data, size, NULL) == CM_OK);
    for (size_t i = 0; i < CM_ARRAY_LEN(statuses); i++) {
        struct cm_err err = CM_ERR_INIT;
        cm_status rc;

        resp.status = statuses[i];
        rc = cm__acme_fail_answer("it", &resp, 1788027601, &err);
        CM_ASSERT(rc == CM_E_ACME || rc == CM_E_RATELIMITED);
        CM_ASSERT(err.status == rc && err.http_status == statuses[i]);
        check_text(err.msg, sizeof err.msg);
        check_text(err.problem, sizeof err.problem);
    }
    cm_http_response_free(&resp);
    return 0;
}
