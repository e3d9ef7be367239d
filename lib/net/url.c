/* SPDX-License-Identifier: Apache-2.0 */
#include "net_internal.h"

#include <stdlib.h>
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

/* Of what libcurl can do; 1080 is its default for all proxies without a port. */
static const struct {
    const char *scheme;
    uint16_t port;
} proxies[] = { { "http", 1080 },    { "https", 443 },   { "socks4", 1080 },
                { "socks4a", 1080 }, { "socks5", 1080 }, { "socks5h", 1080 } };

static uint16_t port_of_proxy(CURLU *u)
{
    char *scheme = NULL, *host = NULL, *port = NULL;
    uint16_t found = 0;

    if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK && host[0] != '\0')
        for (size_t i = 0; i < CM_ARRAY_LEN(proxies); i++)
            if (strcasecmp(proxies[i].scheme, scheme) == 0)
                found = proxies[i].port;
    if (found != 0 && curl_url_get(u, CURLUPART_PORT, &port, 0) == CURLUE_OK)
        found = (uint16_t)strtoul(port, NULL, 10); /* libcurl takes 1 to 65535 only */
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    return found;
}

cm_status cm__net_proxy_port(const char *url, uint16_t *ret, struct cm_err *err)
{
    CURLU *u = curl_url();
    CM_AUTO_FREE char *whole = NULL;
    uint16_t port = 0;

    if (u == NULL)
        return cm_fail_nomem(err);
    whole = strstr(url, "://") != NULL ? cm_strdup(url) : cm_asprintf("http://%s", url);
    if (whole != NULL && is_plain_text(whole) &&
        curl_url_set(u, CURLUPART_URL, whole, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK)
        port = port_of_proxy(u);
    curl_url_cleanup(u);
    if (whole == NULL)
        return cm_fail_nomem(err);
    cm_wipe(whole, strlen(whole));
    if (port == 0)
        return cm_fail(err, CM_E_INVAL,
                       "the proxy is no URL of one: http://HOST:PORT, or https, socks4, socks4a, "
                       "socks5, socks5h");
    *ret = port;
    return CM_OK;
}
