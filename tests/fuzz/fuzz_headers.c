/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"
#include "fuzz.h"

#include <string.h>

/* Header lines of an answer: Link, Replay-Nonce, Retry-After, Location, and what is made of the
 * URLs in them. */

static void check_url(const char *ref)
{
    static const char base[] = "https://ca.test/dir/x?y";
    char url[CM_HTTP_URL_MAX + 1];

    if (cm_url_resolve(base, ref, url, sizeof url, NULL) != CM_OK)
        return;
    CM_ASSERT(strlen(url) <= CM_HTTP_URL_MAX);
    CM_ASSERT(strncmp(url, "https://", 8) == 0 || strncmp(url, "http://", 7) == 0);
    CM_ASSERT(cm_url_same_origin(url, url));
    /* A reference without scheme and authority stays where the base is. */
    if (ref[0] == '/' && ref[1] != '/')
        CM_ASSERT(cm_url_same_origin(url, base));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "link", "location", "retry-after", "replay-nonce", "x" };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct cm_buf url = CM_BUF_INIT(CM_HTTP_URL_MAX);
    char nonce[CM_ACME_NONCE_MAX + 1];
    struct cm_span v;
    int64_t after;

    if (size > CM_HTTP_HEADERS_MAX)
        size = CM_HTTP_HEADERS_MAX;
    CM_ASSERT(cm_buf_append(&resp.headers, data, size, NULL) == CM_OK);
    for (size_t n = 0; n < CM_ARRAY_LEN(names); n++) {
        for (unsigned i = 0; cm_http_header(&resp, names[n], i, &v); i++) {
            CM_ASSERT(v.data >= resp.headers.data);
            CM_ASSERT(v.data + v.len <= resp.headers.data + resp.headers.len);
            CM_ASSERT(memchr(v.data, '\n', v.len) == NULL);
        }
    }
    for (unsigned i = 0; i < 16 && cm_http_link(&resp, "alternate", i, &url); i++)
        check_url(cm_buf_str(&url));
    if (cm_http_header(&resp, "location", 0, &v)) {
        char *ref = cm_strndup((const char *)v.data, v.len);

        fuzz_reached();
        CM_ASSERT(ref != NULL);
        check_url(ref);
        free(ref);
    }
    cm__acme_nonce_of(&resp, nonce);
    CM_ASSERT(nonce[0] == '\0' || cm_is_b64url(nonce, strlen(nonce)));
    after = cm__acme_retry_after(&resp, 1788027601);
    CM_ASSERT(after >= 0 && after <= 30 * 86400);
    cm_buf_free(&url);
    cm_http_response_free(&resp);
    return 0;
}
