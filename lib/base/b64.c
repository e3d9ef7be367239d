/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

/* Source: RFC 4648 4, 5 and 3.5 (left-over bits must be zero: otherwise one value would have
 * several spellings), RFC 7515 2 and appendix C. */

#define FIRST "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* The two ways differ in the last two characters, and in whether the text is filled up. */
struct way {
    const char *name;
    const char *alphabet;
    uint8_t c62, c63;
    bool padded;
};

static const struct way url = { "base64url", FIRST "-_", '-', '_', false };
static const struct way standard = { "base64", FIRST "+/", '+', '/', true };

/* 255 if @c is one of the @n characters from @first on, else 0. */
static inline uint8_t in_range(uint8_t c, uint8_t first, uint8_t n)
{
    return (uint8_t) - ((uint8_t)(c - first) < n);
}

#define FOREIGN 64u /* not in the alphabet */

/* By arithmetic, not by table: keys pass through here, and a table look-up leaves its index in the
 * cache. Without branches, so that compilers make it work on many bytes at a time. */
static inline uint8_t value_of(const struct way *w, uint8_t c)
{
    uint8_t upper = in_range(c, 'A', 26);
    uint8_t lower = in_range(c, 'a', 26);
    uint8_t digit = in_range(c, '0', 10);
    uint8_t is_62 = in_range(c, w->c62, 1);
    uint8_t is_63 = in_range(c, w->c63, 1);
    uint8_t other = (uint8_t) ~(upper | lower | digit | is_62 | is_63);

    return (uint8_t)((upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (digit & (c - '0' + 52)) |
                     (is_62 & 62) | (is_63 & 63) | (other & FOREIGN));
}

bool cm_is_b64url(const char *s, size_t len)
{
    if (s == NULL || len == 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (value_of(&url, (uint8_t)s[i]) == FOREIGN)
            return false;
    return true;
}

static cm_status encode(const struct way *w, struct cm_span in, struct cm_buf *out,
                        struct cm_err *err)
{
    size_t n = in.len / 3 * 4 + (in.len % 3 > 0 ? in.len % 3 + 1 : 0);
    size_t fill = w->padded ? (4 - n % 4) % 4 : 0;
    size_t whole = in.len - in.len % 3;
    uint32_t bits = 0;
    cm_status rc;

    if (in.len == 0)
        return CM_OK;
    if (in.len > SIZE_MAX / 2)
        return cm_fail(err, CM_E_LIMIT, "%zu bytes are too many for %s", in.len, w->name);
    rc = cm_buf_reserve(out, n + fill, err);
    if (rc != CM_OK)
        return rc;
    uint8_t *p = out->data + out->len;
    for (size_t i = 0; i < whole; i += 3) {
        bits = (uint32_t)in.data[i] << 16 | (uint32_t)in.data[i + 1] << 8 | in.data[i + 2];
        for (unsigned shift = 24; shift > 0; shift -= 6)
            *p++ = (uint8_t)w->alphabet[bits >> (shift - 6) & 63u];
    }
    bits = 0;
    for (size_t i = whole; i < whole + 3; i++)
        bits = bits << 8 | (i < in.len ? in.data[i] : 0u);
    for (size_t i = 0; i < n % 4; i++)
        *p++ = (uint8_t)w->alphabet[bits >> (18 - 6 * i) & 63u];
    for (size_t i = 0; i < fill; i++)
        *p++ = '=';
    *p = 0;
    out->len += n + fill;
    return CM_OK;
}

static cm_status refuse(const struct way *w, struct cm_span in, struct cm_err *err)
{
    for (size_t i = 0; i < in.len; i++)
        if (value_of(w, in.data[i]) == FOREIGN)
            return cm_fail(err, CM_E_PARSE, "byte %zu is not %s", i, w->name);
    if (in.len % 4 == 1)
        return cm_fail(err, CM_E_PARSE, "%zu characters cannot be %s", in.len, w->name);
    return cm_fail(err, CM_E_PARSE, "%s ends in bits that are not zero", w->name);
}

enum { BLOCK = 64 };

/* BLOCK characters at @in: three quarters as many bytes to @out. */
static bool decode_block(const struct way *w, const uint8_t *in, uint8_t *out)
{
    uint8_t v[BLOCK];
    uint8_t any = 0;

    for (size_t i = 0; i < BLOCK; i++)
        v[i] = value_of(w, in[i]);
    for (size_t i = 0; i < BLOCK; i++)
        any |= v[i];
    for (size_t i = 0; i < BLOCK / 4; i++) {
        uint32_t bits = (uint32_t)v[4 * i] << 18 | (uint32_t)v[4 * i + 1] << 12 |
                        (uint32_t)v[4 * i + 2] << 6 | v[4 * i + 3];

        out[3 * i] = (uint8_t)(bits >> 16);
        out[3 * i + 1] = (uint8_t)(bits >> 8);
        out[3 * i + 2] = (uint8_t)bits;
    }
    cm_wipe(v, sizeof v);
    return any < FOREIGN;
}

/* What is left behind the blocks, to @p. False: there is something else among it, or bits that are
 * left over are not zero. */
static bool decode_rest(const struct way *w, struct cm_span in, uint8_t *p)
{
    uint32_t bits = 0;
    unsigned n_bits = 0;

    for (size_t i = 0; i < in.len; i++) {
        uint8_t v = value_of(w, in.data[i]);

        if (v == FOREIGN)
            return false;
        bits = (bits & 0xffu) << 6 | v;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *p++ = (uint8_t)(bits >> n_bits);
        }
    }
    return n_bits < 6 && (bits & ((1u << n_bits) - 1)) == 0;
}

/* @in without what fills up its last group. */
static cm_status decode(const struct way *w, struct cm_span in, struct cm_buf *out,
                        struct cm_err *err)
{
    size_t n = in.len / 4 * 3 + (in.len % 4 > 0 ? in.len % 4 - 1 : 0);
    size_t done = 0;
    cm_status rc;

    if (in.len == 0)
        return CM_OK;
    rc = cm_buf_reserve(out, n, err);
    if (rc != CM_OK)
        return rc;
    uint8_t *p = out->data + out->len;
    for (; in.len - done >= BLOCK && decode_block(w, in.data + done, p); done += BLOCK)
        p += BLOCK / 4 * 3;
    if (decode_rest(w, (struct cm_span){ in.data + done, in.len - done }, p)) {
        out->len += n;
    } else {
        cm_wipe(out->data + out->len, n); /* it may be half of a key */
        rc = refuse(w, in, err);
    }
    out->data[out->len] = 0;
    return rc;
}

cm_status cm_b64url_encode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    return encode(&url, in, out, err);
}

cm_status cm_b64url_decode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    return decode(&url, in, out, err);
}

cm_status cm_b64_encode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    return encode(&standard, in, out, err);
}

cm_status cm_b64_decode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    if (in.len % 4 != 0)
        return cm_fail(err, CM_E_PARSE, "%zu characters cannot be base64", in.len);
    for (size_t fill = 0; fill < 2 && in.len > 0 && in.data[in.len - 1] == '='; fill++)
        in.len--;
    return decode(&standard, in, out, err);
}
