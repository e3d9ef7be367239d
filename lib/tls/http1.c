/* SPDX-License-Identifier: Apache-2.0 */
#include "http1.h"

#include <string.h>

/* ---------------------------------------------------------------- delimiting */

int cm_http_scan(struct cm_http_scan *s, struct cm_span in, size_t *ret_len)
{
    for (; s->at < in.len; s->at++) {
        uint8_t c = in.data[s->at];
        bool after_cr = s->at > s->line && in.data[s->at - 1] == '\r';

        if (s->fields == 0 && s->at - s->line >= CM_HTTP_LINE_MAX)
            return 414;
        if (s->fields != 0 && s->at - s->fields >= CM_HTTP_FIELDS_MAX)
            return 431;
        if ((c == '\n') != after_cr)
            return 400; /* a bare LF, or a bare CR before this byte */
        if (c != '\n') {
            if ((c < 0x20 && c != '\t' && c != '\r') || c == 0x7F)
                return 400;
            continue;
        }
        if (s->at - s->line == 1) { /* an empty line */
            if (s->fields != 0) {
                *ret_len = s->at + 1;
                return 1;
            }
            if (s->line != 0)
                return 400;
            s->line = s->at + 1; /* one is tolerated before the request line (RFC 9112 2.2) */
            continue;
        }
        s->line = s->at + 1;
        if (s->fields == 0)
            s->fields = s->line;
    }
    return 0;
}

/* ------------------------------------------------------------------- pieces */

static bool is_token_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct cm_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_token_char(s.data[i]))
            return false;
    }
    return s.len > 0;
}

static bool equals(struct cm_span s, const char *text)
{
    return s.len == strlen(text) && (s.len == 0 || memcmp(s.data, text, s.len) == 0);
}

/* ASCII alone, whatever the program's locale says about letters. @text is in lower case. */
static bool starts_nocase(struct cm_span s, const char *text)
{
    size_t i;

    for (i = 0; text[i] != '\0' && i < s.len; i++) {
        uint8_t c = s.data[i];

        if ((c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c) != text[i])
            return false;
    }
    return text[i] == '\0';
}

static bool equals_nocase(struct cm_span s, const char *text)
{
    return s.len == strlen(text) && starts_nocase(s, text);
}

static struct cm_span advance(struct cm_span s, size_t n)
{
    return (struct cm_span){ s.data + n, s.len - n };
}

/* Up to @c, which is taken away; false when there is no @c. */
static bool split(struct cm_span *in, char c, struct cm_span *ret)
{
    const uint8_t *at = in->len > 0 ? memchr(in->data, c, in->len) : NULL;

    if (at == NULL)
        return false;
    *ret = (struct cm_span){ in->data, (size_t)(at - in->data) };
    *in = advance(*in, ret->len + 1);
    return true;
}

static struct cm_span trim(struct cm_span s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t'))
        s = advance(s, 1);
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* The next line without its CRLF; the head is known to consist of such lines. */
static struct cm_span next_line(struct cm_span *in)
{
    struct cm_span line = { in->data, 0 };

    if (split(in, '\n', &line) && line.len > 0)
        line.len--;
    return line;
}

/* ---------------------------------------------------------------------- host */

static bool is_port(struct cm_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
    }
    return s.len <= 5; /* "host:" is legal (RFC 3986 3.2.3) */
}

static bool is_host_char(uint8_t c, bool in_brackets)
{
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return true;
    return in_brackets ? c == ':' || c == '.' : c == '-' || c == '.' || c == '_';
}

/* host [":" port]; no user, no percent-encoding. */
static bool parse_authority(struct cm_span s, struct cm_span *ret)
{
    bool v6 = s.len > 0 && s.data[0] == '[';
    size_t n = v6 ? 1 : 0;

    while (n < s.len && is_host_char(s.data[n], v6))
        n++;
    if (v6) {
        if (n >= s.len || s.data[n] != ']')
            return false;
        n++;
    }
    if (n == 0 || n > 255 || (v6 && n == 2))
        return false;
    *ret = (struct cm_span){ s.data, n };
    s = advance(s, n);
    return s.len == 0 || (s.data[0] == ':' && is_port(advance(s, 1)));
}

/* -------------------------------------------------------------- request line */

static bool parse_target(struct cm_span in, struct cm_http_head *h, struct cm_span *ret_authority)
{
    static const uint8_t root[] = "/";
    size_t skip, n;

    if (in.len == 0 || memchr(in.data, '#', in.len) != NULL)
        return false;
    h->target = in;
    if (in.data[0] == '/')
        return true;
    if (equals(in, "*"))
        return equals(h->method, "OPTIONS");
    skip = starts_nocase(in, "http://") ? 7 : starts_nocase(in, "https://") ? 8 : 0;
    if (skip == 0)
        return false;
    in = advance(in, skip);
    for (n = 0; n < in.len && in.data[n] != '/' && in.data[n] != '?'; n++) {
    }
    if (!parse_authority((struct cm_span){ in.data, n }, ret_authority))
        return false;
    h->target = advance(in, n);
    if (h->target.len == 0)
        h->target = (struct cm_span){ root, 1 };
    return h->target.data[0] == '/'; /* "http://host?query": nobody sends it */
}

static int parse_version(struct cm_span v, struct cm_http_head *h)
{
    if (v.len != 8 || memcmp(v.data, "HTTP/", 5) != 0 || v.data[6] != '.' || v.data[5] < '0' ||
        v.data[5] > '9' || v.data[7] < '0' || v.data[7] > '9')
        return 400;
    if (v.data[5] != '1')
        return 505;
    h->minor = v.data[7] == '0' ? 0 : 1; /* a higher minor is answered as 1.1 (RFC 9110 2.5) */
    return 0;
}

static int parse_request_line(struct cm_span line, struct cm_http_head *h,
                              struct cm_span *ret_authority)
{
    struct cm_span target;
    int status;

    if (!split(&line, ' ', &h->method) || !split(&line, ' ', &target))
        return 400; /* HTTP/0.9 among others */
    if (!is_token(h->method) || h->method.len > CM_HTTP_METHOD_MAX)
        return 400;
    status = parse_version(line, h);
    if (status != 0)
        return status;
    if (memchr(target.data, '\t', target.len) != NULL)
        return 400;
    if (equals(h->method, "CONNECT"))
        return 405;
    return parse_target(target, h, ret_authority) ? 0 : 400;
}

/* -------------------------------------------------------------------- fields */

struct seen {
    bool host, length, encoding, close, keep_alive;
};

static int parse_length(struct cm_span v, struct cm_http_head *h)
{
    h->content_length = 0;
    if (v.len == 0 || v.len > 18)
        return 400;
    for (size_t i = 0; i < v.len; i++) {
        if (v.data[i] < '0' || v.data[i] > '9')
            return 400;
        h->content_length = h->content_length * 10 + (uint64_t)(v.data[i] - '0');
    }
    return 0;
}

static void parse_connection(struct cm_span v, struct seen *seen)
{
    struct cm_span part;
    bool more;

    do {
        more = split(&v, ',', &part);
        part = trim(more ? part : v);
        seen->close = seen->close || equals_nocase(part, "close");
        seen->keep_alive = seen->keep_alive || equals_nocase(part, "keep-alive");
    } while (more);
}

static int parse_field(struct cm_span name, struct cm_span v, struct cm_http_head *h,
                       struct seen *seen)
{
    if (equals_nocase(name, "host")) {
        if (seen->host || !parse_authority(v, &h->host))
            return 400;
        seen->host = true;
    } else if (equals_nocase(name, "content-length")) {
        if (seen->length)
            return 400;
        seen->length = true;
        return parse_length(v, h);
    } else if (equals_nocase(name, "transfer-encoding")) {
        if (seen->encoding)
            return 400;
        seen->encoding = true;
        if (!equals_nocase(v, "chunked"))
            return 501;
        h->chunked = true;
    } else if (equals_nocase(name, "connection")) {
        parse_connection(v, seen);
    } else if (equals_nocase(name, "expect")) {
        if (!equals_nocase(v, "100-continue"))
            return 417;
        h->expect_continue = true;
    }
    return 0;
}

static int parse_fields(struct cm_span in, struct cm_http_head *h, struct seen *seen)
{
    size_t count = 0;

    for (;;) {
        struct cm_span line = next_line(&in);
        struct cm_span name;
        int status;

        if (line.len == 0)
            return 0;
        if (++count > CM_HTTP_FIELD_COUNT)
            return 431;
        /* A line that begins with a space has no token before its colon: folding ends here too. */
        if (!split(&line, ':', &name) || !is_token(name))
            return 400;
        status = parse_field(name, trim(line), h, seen);
        if (status != 0)
            return status;
    }
}

int cm_http_head_parse(struct cm_span head, struct cm_http_head *ret)
{
    struct cm_http_head h = { 0 };
    struct cm_span authority = { NULL, 0 };
    struct seen seen = { 0 };
    struct cm_span line = next_line(&head);
    int status;

    if (line.len == 0) /* the empty line that cm_http_scan() tolerates */
        line = next_line(&head);
    status = parse_request_line(line, &h, &authority);
    if (status == 0)
        status = parse_fields(head, &h, &seen);
    if (status != 0)
        return status;
    if (!seen.host && h.minor >= 1)
        return 400;
    /* Two framings, or one that HTTP/1.0 does not have: smuggling or an accident, never served. */
    if (seen.encoding && (seen.length || h.minor == 0))
        return 400;
    if (authority.len > 0)
        h.host = authority; /* absolute form wins over Host (RFC 9112 3.2.2) */
    h.keep_alive = !seen.close && (h.minor >= 1 || seen.keep_alive);
    *ret = h;
    return 0;
}
