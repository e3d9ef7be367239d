/* SPDX-License-Identifier: Apache-2.0 */
#include "pem.h"

#include <string.h>

static const char begin[] = "-----BEGIN ";
static const char end[] = "-----END ";
static const char dashes[] = "-----";
enum { LABEL_MAX = 64 };

static const uint8_t *find(struct cm_span in, const char *what, size_t len)
{
    return in.len >= len ? memmem(in.data, in.len, what, len) : NULL;
}

static void advance(struct cm_span *in, const uint8_t *to)
{
    in->len -= (size_t)(to - in->data);
    in->data = to;
}

cm_status cm_pem_next(struct cm_span *in, struct cm_pem_block *ret, struct cm_err *err)
{
    const uint8_t *p;

    /* Only at the start of a line: "see -----BEGIN " in a comment opens nothing. */
    for (;;) {
        p = find(*in, begin, sizeof begin - 1);
        if (p == NULL)
            return cm_fail(err, CM_E_NOTFOUND, "no PEM block");
        bool line_start = p == in->data || p[-1] == '\n' || p[-1] == '\r';
        advance(in, p + sizeof begin - 1);
        if (line_start)
            break;
    }
    struct cm_span rest = { in->data, in->len < LABEL_MAX ? in->len : LABEL_MAX };
    const uint8_t *label_end = find(rest, dashes, sizeof dashes - 1);
    if (label_end == NULL || memchr(in->data, '\n', (size_t)(label_end - in->data)) != NULL)
        return cm_fail(err, CM_E_PARSE, "PEM: BEGIN line is malformed");
    ret->label = (struct cm_span){ in->data, (size_t)(label_end - in->data) };
    advance(in, label_end + sizeof dashes - 1);

    const uint8_t *body_end = find(*in, end, sizeof end - 1);
    if (body_end == NULL)
        return cm_fail(err, CM_E_PARSE, "PEM: a block has no END line (file cut off?)");
    ret->body = (struct cm_span){ in->data, (size_t)(body_end - in->data) };
    advance(in, body_end + sizeof end - 1);
    if (in->len < ret->label.len + sizeof dashes - 1 ||
        memcmp(in->data, ret->label.data, ret->label.len) != 0 ||
        memcmp(in->data + ret->label.len, dashes, sizeof dashes - 1) != 0)
        return cm_fail(err, CM_E_PARSE, "PEM: END line does not match its BEGIN line");
    advance(in, in->data + ret->label.len + sizeof dashes - 1);
    return CM_OK;
}

size_t cm_pem_bound(struct cm_span body)
{
    return body.len / 4 * 3 + 3;
}

/* 255 if @c is one of the @n characters from @first on, else 0. */
static inline uint8_t in_range(uint8_t c, uint8_t first, uint8_t n)
{
    return (uint8_t) - ((uint8_t)(c - first) < n);
}

/* By arithmetic, not by table: keys pass through here, and a table look-up leaves its index in
 * the cache. Without branches, so that compilers make it work on many bytes at a time. 64 = white
 * space, 65 = '=', 255 = anything else. */
static inline uint8_t sextet(uint8_t c)
{
    uint8_t upper = in_range(c, 'A', 26);
    uint8_t lower = in_range(c, 'a', 26);
    uint8_t digit = in_range(c, '0', 10);
    uint8_t plus = in_range(c, '+', 1);
    uint8_t slash = in_range(c, '/', 1);
    uint8_t space = in_range(c, ' ', 1) | in_range(c, '\t', 5);
    uint8_t equals = in_range(c, '=', 1);
    uint8_t other = (uint8_t) ~(upper | lower | digit | plus | slash | space | equals);

    return (uint8_t)((upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (digit & (c - '0' + 52)) |
                     (plus & 62) | (slash & 63) | (space & 64) | (equals & 65) | other);
}

enum { LINE = 64 };

/* A whole line at @in: 48 bytes to @out. False: it is none, and must be taken byte by byte. */
static bool decode_line(const uint8_t *in, uint8_t *out)
{
    uint8_t v[LINE];
    uint8_t any = 0;

    for (size_t i = 0; i < LINE; i++)
        v[i] = sextet(in[i]);
    for (size_t i = 0; i < LINE; i++)
        any |= v[i];
    for (size_t i = 0; i < LINE / 4; i++) {
        uint32_t w = (uint32_t)v[4 * i] << 18 | (uint32_t)v[4 * i + 1] << 12 |
                     (uint32_t)v[4 * i + 2] << 6 | v[4 * i + 3];

        out[3 * i] = (uint8_t)(w >> 16);
        out[3 * i + 1] = (uint8_t)(w >> 8);
        out[3 * i + 2] = (uint8_t)w;
    }
    cm_wipe(v, sizeof v);
    return any < 64;
}

bool cm_pem_decode(struct cm_span body, uint8_t *out, size_t *ret_len)
{
    uint32_t acc = 0;
    unsigned have = 0;
    unsigned pad = 0;
    size_t at = 0;

    for (size_t i = 0; i < body.len; i++) {
        unsigned v = sextet(body.data[i]);
        if (v == 64)
            continue;
        if (have == 0 && pad == 0 && body.len - i >= LINE && decode_line(body.data + i, out + at)) {
            i += LINE - 1;
            at += LINE / 4 * 3;
            continue;
        }
        if (v == 65) {
            pad++;
            continue;
        }
        if (v == 255 || pad > 0)
            return false;
        acc = acc << 6 | v;
        if (++have == 4) {
            out[at++] = (uint8_t)(acc >> 16);
            out[at++] = (uint8_t)(acc >> 8);
            out[at++] = (uint8_t)acc;
            acc = 0;
            have = 0;
        }
    }
    /* Padding is exact, and the bits that fall off are zero: one encoding for one value. */
    if (have == 0 ? pad != 0 : have + pad != 4)
        return false;
    if (have == 1 || (have == 2 && (acc & 0x0f) != 0) || (have == 3 && (acc & 0x03) != 0))
        return false;
    if (have >= 2)
        out[at++] = (uint8_t)(acc >> (have == 2 ? 4 : 10));
    if (have == 3)
        out[at++] = (uint8_t)(acc >> 2);
    *ret_len = at;
    return true;
}

static char symbol(unsigned v)
{
    if (v < 26)
        return (char)('A' + v);
    if (v < 52)
        return (char)('a' + (v - 26));
    if (v < 62)
        return (char)('0' + (v - 52));
    return v == 62 ? '+' : '/';
}

/* One line of at most 48 bytes. */
static size_t encode_line(const uint8_t *in, size_t len, char out[65])
{
    size_t at = 0;

    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t v = (uint32_t)in[i] << 16;
        if (left > 1)
            v |= (uint32_t)in[i + 1] << 8;
        if (left > 2)
            v |= in[i + 2];
        out[at++] = symbol(v >> 18);
        out[at++] = symbol(v >> 12 & 63);
        out[at++] = left > 1 ? symbol(v >> 6 & 63) : '=';
        out[at++] = left > 2 ? symbol(v & 63) : '=';
    }
    out[at++] = '\n';
    return at;
}

cm_status cm_pem_encode(const char *label, struct cm_span der, struct cm_buf *out,
                        struct cm_err *err)
{
    char line[65];
    size_t label_len = strlen(label);
    size_t before = out->len;
    size_t total = 2 * (label_len + 17) + (der.len + 2) / 3 * 4 + der.len / 48 + 1;

    cm_status rc = cm_buf_reserve(out, total, err);
    if (rc == CM_OK)
        rc = cm_buf_printf(out, err, "-----BEGIN %s-----\n", label);
    for (size_t i = 0; rc == CM_OK && i < der.len; i += 48) {
        size_t n = encode_line(der.data + i, der.len - i < 48 ? der.len - i : 48, line);
        rc = cm_buf_append(out, line, n, err);
    }
    if (rc == CM_OK)
        rc = cm_buf_printf(out, err, "-----END %s-----\n", label);
    cm_wipe(line, sizeof line);
    if (rc != CM_OK)
        out->len = before;
    return rc;
}
