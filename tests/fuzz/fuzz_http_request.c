/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "http1.h"

#include <string.h>

/* Request heads from anybody. Whatever is accepted has exactly one reading: its parts hold no
 * control bytes, one framing, and the head ends at the first empty line. */

static bool is_within(struct cm_span part, struct cm_span whole)
{
    return part.len == 0 ||
           (part.data >= whole.data && part.data + part.len <= whole.data + whole.len);
}

static void check_clean(struct cm_span s)
{
    for (size_t i = 0; i < s.len; i++)
        CM_ASSERT(s.data[i] > 0x20 && s.data[i] != 0x7F);
}

static void check_head(const struct cm_http_head *h, struct cm_span whole)
{
    CM_ASSERT(h->method.len >= 1 && h->method.len <= CM_HTTP_METHOD_MAX);
    CM_ASSERT(h->target.len >= 1 && h->target.len < CM_HTTP_LINE_MAX);
    CM_ASSERT(h->target.data[0] == '/' || h->target.data[0] == '*');
    CM_ASSERT(h->host.len <= 255 && (h->minor == 0 || h->minor == 1));
    CM_ASSERT(h->minor == 0 || h->host.len > 0);
    CM_ASSERT(!h->chunked || (h->content_length == 0 && h->minor == 1));
    CM_ASSERT(is_within(h->method, whole) && is_within(h->host, whole));
    check_clean(h->method);
    check_clean(h->target);
    check_clean(h->host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_http_scan fast = { 0 };
    struct cm_http_scan slow = { 0 };
    struct cm_http_head head;
    size_t len = 0, slow_len = 0;
    int r = cm_http_scan(&fast, (struct cm_span){ data, size }, &len);
    int again = 0;

    for (size_t n = 0; n <= size && again == 0; n++)
        again = cm_http_scan(&slow, (struct cm_span){ data, n }, &slow_len);
    CM_ASSERT(r == again && len == slow_len);
    CM_ASSERT(r == 0 || r == 1 || r == 400 || r == 414 || r == 431);
    if (r != 1)
        return 0;
    CM_ASSERT(len <= size && len <= CM_HTTP_HEAD_MAX && memcmp(data + len - 4, "\r\n\r\n", 4) == 0);
    r = cm_http_head_parse((struct cm_span){ data, len }, &head);
    CM_ASSERT(r == 0 || (r >= 400 && r <= 505));
    if (r == 0) {
        fuzz_reached();
        check_head(&head, (struct cm_span){ data, len });
    }
    return 0;
}
