/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "fuzz.h"

#include <string.h>

/* base64url: any bytes survive both ways, and what decodes has this one spelling. */

#define OUT_MAX (4u * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cm_span in = { data, size };
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(OUT_MAX);
    CM_AUTO_BUF struct cm_buf back = CM_BUF_INIT(OUT_MAX);

    CM_ASSERT(cm_b64url_encode(in, &text, NULL) == CM_OK);
    CM_ASSERT(size == 0 || cm_is_b64url(cm_buf_str(&text), text.len));
    CM_ASSERT(cm_b64url_decode(cm_buf_span(&text), &back, NULL) == CM_OK);
    CM_ASSERT(back.len == size && (size == 0 || memcmp(back.data, data, size) == 0));

    cm_buf_reset(&back);
    cm_buf_reset(&text);
    if (cm_b64url_decode(in, &back, NULL) == CM_OK) {
        fuzz_reached();
        CM_ASSERT(cm_b64url_encode(cm_buf_span(&back), &text, NULL) == CM_OK);
        CM_ASSERT(text.len == size && (size == 0 || memcmp(text.data, data, size) == 0));
    }
    return 0;
}
