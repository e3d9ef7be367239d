/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <string.h>

/* The key of an ACME issuer must come out byte for byte as certmagic computes it (issuerKey in
 * acmeissuer.go), or the nodes of a mixed fleet do not find each other's certificates. So this
 * follows the rules of Go's net/url, not those of RFC 3986: what url.Parse refuses is used whole.
 */

enum part { PART_HOST, PART_ZONE, PART_OTHER };

struct text {
    const char *p;
    size_t len;
};

static struct text text_of(const char *s, size_t len)
{
    struct text t = { s, len };

    return t;
}

/* Index of the first @c, or t.len. */
static size_t find(struct text t, char c)
{
    const char *at = t.len > 0 ? memchr(t.p, c, t.len) : NULL;

    return at != NULL ? (size_t)(at - t.p) : t.len;
}

static size_t find_last(struct text t, char c)
{
    const char *at = t.len > 0 ? memrchr(t.p, c, t.len) : NULL;

    return at != NULL ? (size_t)(at - t.p) : t.len;
}

static struct text head(struct text t, size_t n)
{
    return text_of(t.p, n);
}

static struct text tail(struct text t, size_t n)
{
    return text_of(t.p + n, t.len - n);
}

static bool starts_with(struct text t, const char *s)
{
    size_t n = strlen(s);

    return t.len >= n && memcmp(t.p, s, n) == 0;
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_among(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static bool is_host_char(char c)
{
    return is_alpha(c) || is_digit(c) || is_among(c, "!$&'()*+,;=:[]<>\"-_.~");
}

/* Percent-decode @t onto @out (NULL: only check). CM_E_PARSE where Go refuses. */
static cm_status unescape(struct text t, enum part part, struct cm_buf *out)
{
    for (size_t i = 0; i < t.len; i++) {
        char c = t.p[i];

        if (c == '%') {
            int hi = t.len - i > 2 ? cm_hex_digit(t.p[i + 1]) : -1;
            int lo = t.len - i > 2 ? cm_hex_digit(t.p[i + 2]) : -1;
            bool percent = hi == 2 && lo == 5;

            if (hi < 0 || lo < 0)
                return CM_E_PARSE;
            c = (char)(hi << 4 | lo);
            if (part == PART_HOST && hi < 8 && !percent)
                return CM_E_PARSE;
            if (part == PART_ZONE && !percent && c != ' ' && !is_host_char(c))
                return CM_E_PARSE;
            i += 2;
        } else if (part != PART_OTHER && (unsigned char)c < 0x80 && !is_host_char(c)) {
            return CM_E_PARSE;
        }
        if (out != NULL) {
            cm_status rc = cm_buf_append(out, &c, 1, NULL);

            if (rc != CM_OK)
                return rc;
        }
    }
    return CM_OK;
}

/* "", ":" or ":digits" */
static bool is_optional_port(struct text t)
{
    if (t.len == 0)
        return true;
    if (t.p[0] != ':')
        return false;
    for (size_t i = 1; i < t.len; i++)
        if (!is_digit(t.p[i]))
            return false;
    return true;
}

static cm_status put_host(struct text host, struct cm_buf *out)
{
    if (host.len > 0 && host.p[0] == '[') {
        size_t close = find_last(host, ']');
        const char *zone;
        size_t at;
        cm_status rc;

        if (close == host.len || !is_optional_port(tail(host, close + 1)))
            return CM_E_PARSE;
        zone = memmem(host.p, close, "%25", 3);
        if (zone == NULL)
            return unescape(host, PART_HOST, out);
        at = (size_t)(zone - host.p);
        rc = unescape(head(host, at), PART_HOST, out);
        if (rc == CM_OK)
            rc = unescape(head(tail(host, at), close - at), PART_ZONE, out);
        return rc == CM_OK ? unescape(tail(host, close), PART_HOST, out) : rc;
    }
    if (!is_optional_port(tail(host, find_last(host, ':'))))
        return CM_E_PARSE;
    return unescape(host, PART_HOST, out);
}

static cm_status put_authority(struct text authority, struct cm_buf *out)
{
    size_t at = find_last(authority, '@');
    struct text user = head(authority, at);

    if (at == authority.len)
        return put_host(authority, out);
    for (size_t i = 0; i < user.len; i++)
        if (!is_alpha(user.p[i]) && !is_digit(user.p[i]) &&
            !is_among(user.p[i], "-._:~!$&'()*+,;=%@"))
            return CM_E_PARSE;
    if (unescape(user, PART_OTHER, NULL) != CM_OK)
        return CM_E_PARSE;
    return put_host(tail(authority, at + 1), out);
}

/* "-" and the path with '-' for its separators, none at its ends; nothing if nothing is left. */
static cm_status put_path(struct text path, struct cm_buf *out)
{
    size_t before = out->len;
    size_t first;
    cm_status rc = cm_buf_puts(out, "-", NULL);

    if (rc == CM_OK)
        rc = unescape(path, PART_OTHER, out);
    if (rc != CM_OK)
        return rc;
    for (size_t i = before + 1; i < out->len; i++)
        if (out->data[i] == '/' || out->data[i] == '\\')
            out->data[i] = '-';
    while (out->len > before && out->data[out->len - 1] == '-')
        out->len--;
    for (first = before; first < out->len && out->data[first] == '-'; first++)
        continue;
    if (first > before + 1) { /* keep one of the dashes in front */
        memmove(out->data + before + 1, out->data + first, out->len - first);
        out->len -= first - before - 1;
    }
    out->data[out->len] = 0;
    return CM_OK;
}

/* False if there must be a scheme but is none. */
static bool skip_scheme(struct text *t, bool *ret_scheme)
{
    *ret_scheme = false;
    for (size_t i = 0; i < t->len; i++) {
        char c = t->p[i];

        if (c == ':') {
            *t = tail(*t, i + 1);
            *ret_scheme = i > 0;
            return i > 0;
        }
        if (!is_alpha(c) && (i == 0 || (!is_digit(c) && !is_among(c, "+-."))))
            return true;
    }
    return true;
}

static cm_status put_key(struct text url, struct cm_buf *out)
{
    size_t hash = find(url, '#');
    struct text rest = head(url, hash);
    bool has_scheme;
    cm_status rc;

    for (size_t i = 0; i < rest.len; i++)
        if ((unsigned char)rest.p[i] < ' ' || rest.p[i] == 0x7f)
            return CM_E_PARSE;
    if (hash < url.len && unescape(tail(url, hash + 1), PART_OTHER, NULL) != CM_OK)
        return CM_E_PARSE;
    if (!skip_scheme(&rest, &has_scheme))
        return CM_E_PARSE;
    rest = head(rest, find(rest, '?'));

    if (!starts_with(rest, "/")) {
        if (has_scheme)
            return CM_OK; /* opaque: neither host nor path */
        if (find(rest, ':') < find(rest, '/'))
            return CM_E_PARSE;
    } else if (starts_with(rest, "//") && (has_scheme || !starts_with(rest, "///"))) {
        struct text authority = tail(rest, 2);

        authority = head(authority, find(authority, '/'));
        rest = tail(rest, 2 + authority.len);
        rc = put_authority(authority, out);
        if (rc != CM_OK)
            return rc;
    }
    return put_path(rest, out);
}

cm_status cm_issuer_key_from_url(const char *url, struct cm_buf *out, struct cm_err *err)
{
    struct text whole = text_of(url != NULL ? url : "", url != NULL ? strlen(url) : 0);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_INIT(whole.len + 1);
    cm_status rc = put_key(whole, &key);

    if (rc == CM_OK)
        return cm_buf_append(out, key.data, key.len, err);
    if (rc == CM_E_PARSE)
        return cm_buf_append(out, whole.p, whole.len, err);
    return cm_fail_nomem(err);
}
