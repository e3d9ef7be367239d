/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "fuzz.h"

#include <string.h>

/* Base64 in both ways: any bytes survive there and back, and what decodes has this one spelling. */

#define OUT_MAX (4u * 1024 * 1024)

typedef cm_status (*way_fn)(struct cm_span in, struct cm_buf *out, struct cm_err *err);

static void try_both(way_fn encode, way_fn decode, struct cm_span in, bool is_url)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(OUT_MAX);
    CM_AUTO_BUF struct cm_buf back = CM_BUF_INIT(OUT_MAX);

    CM_ASSERT(encode(in, &text, NULL) == CM_OK);
    CM_ASSERT(!is_url || in.len == 0 || cm_is_b64url(cm_buf_str(&text), text.len));
    CM_ASSERT(decode(cm_buf_span(&text), &back, NULL) == CM_OK);
    CM_ASSERT(back.len == in.len && (in.len == 0 || memcmp(back.data, in.data, in.len) == 0));

    cm_buf_reset(&back);
    cm_buf_reset(&text);
    if (decode(in, &back, NULL) == CM_OK) {
        fuzz_reached();
        CM_ASSERT(encode(cm_buf_span(&back), &text, NULL) == CM_OK);
        CM_ASSERT(text.len == in.len && (in.len == 0 || memcmp(text.data, in.data, in.len) == 0));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cm_span in = { data, size };

    try_both(cm_b64url_encode, cm_b64url_decode, in, true);
    try_both(cm_b64_encode, cm_b64_decode, in, false);
    return 0;
}
