/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include <curl/curl.h>
#include <string.h>
#include <strings.h>

/* URLs are taken apart by libcurl's own parser: two parsers that disagree about where the host
 * ends would let a CA name an origin that passes our comparison and have libcurl call another. */

/* What both need: printable ASCII without the characters that parsers quarrel about. */
static bool is_plain_text(const char *url)
{
    size_t len = strnlen(url, CM_HTTP_URL_MAX + 1);

    if (len == 0 || len > CM_HTTP_URL_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (url[i] <= 0x20 || url[i] >= 0x7f || strchr("\\\"<>^`{|}", url[i]) != NULL)
            return false;
    return true;
}

static CURLU *parse(const char *url)
{
    CURLU *u;

    if (url == NULL || !is_plain_text(url))
        return NULL;
    u = curl_url();
    if (u == NULL)
        return NULL;
    if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) != CURLUE_OK) {
        curl_url_cleanup(u);
        return NULL;
    }
    return u;
}

static char *part(CURLU *u, CURLUPart what)
{
    char *value = NULL;

    if (curl_url_get(u, what, &value, CURLU_DEFAULT_PORT) != CURLUE_OK)
        return NULL;
    return value;
}

static bool is_http_scheme(CURLU *u)
{
    char *scheme = part(u, CURLUPART_SCHEME);
    bool ok =
        scheme != NULL && (strcasecmp(scheme, "https") == 0 || strcasecmp(scheme, "http") == 0);

    curl_free(scheme);
    return ok;
}

bool cm_url_same_origin(const char *a, const char *b)
{
    static const CURLUPart parts[] = { CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT };
    CURLU *ua = parse(a);
    CURLU *ub = parse(b);
    bool same = ua != NULL && ub != NULL && is_http_scheme(ua) && is_http_scheme(ub);

    for (size_t i = 0; same && i < CM_ARRAY_LEN(parts); i++) {
        char *pa = part(ua, parts[i]);
        char *pb = part(ub, parts[i]);

        same = pa != NULL && pb != NULL && strcasecmp(pa, pb) == 0;
        curl_free(pa);
        curl_free(pb);
    }
    curl_url_cleanup(ua);
    curl_url_cleanup(ub);
    return same;
}

cm_status cm_url_resolve(const char *base, const char *ref, char *ret, size_t ret_size,
                         struct cm_err *err)
{
    char shown[128];
    CURLU *u = parse(base);
    char *whole = NULL;
    cm_status rc = CM_OK;

    if (u == NULL || !is_http_scheme(u))
        rc = cm_fail(err, CM_E_PARSE, "not an http(s) URL: '%s'",
                     cm_escape(base, base != NULL ? strlen(base) : 0, shown, sizeof shown));
    /* A fragment names a place inside a document and is never sent (RFC 9110 4.2.5). */
    else if (ref == NULL || !is_plain_text(ref) ||
             curl_url_set(u, CURLUPART_URL, ref, CURLU_DISALLOW_USER) != CURLUE_OK ||
             !is_http_scheme(u) || curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
             curl_url_get(u, CURLUPART_URL, &whole, 0) != CURLUE_OK ||
             /* What libcurl takes once, it may not take again: hosts with escapes in them. */
             !cm_url_same_origin(whole, whole))
        rc = cm_fail(err, CM_E_PARSE, "not a usable http(s) URL: '%s'",
                     cm_escape(ref, ref != NULL ? strlen(ref) : 0, shown, sizeof shown));
    else if (strlen(whole) >= ret_size || strlen(whole) > CM_HTTP_URL_MAX)
        rc = cm_fail(err, CM_E_LIMIT, "URL of %zu bytes is too long", strlen(whole));
    else
        memcpy(ret, whole, strlen(whole) + 1);
    curl_free(whole);
    curl_url_cleanup(u);
    return rc;
}
