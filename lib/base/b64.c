/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

/* Source: RFC 7515 2 and appendix C, RFC 4648 5 and 3.5 (left-over bits must be zero: otherwise
 * one value would have several spellings). */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    if (c == '_')
        return 63;
    return -1;
}

bool cm_is_b64url(const char *s, size_t len)
{
    if (s == NULL || len == 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (value_of((uint8_t)s[i]) < 0)
            return false;
    return true;
}

cm_status cm_b64url_encode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    size_t n = in.len / 3 * 4 + (in.len % 3 > 0 ? in.len % 3 + 1 : 0);
    uint32_t bits = 0;
    unsigned n_bits = 0;
    uint8_t *p;
    cm_status rc;

    if (in.len == 0)
        return CM_OK;
    if (in.len > SIZE_MAX / 2)
        return cm_fail(err, CM_E_LIMIT, "%zu bytes are too many for base64url", in.len);
    rc = cm_buf_reserve(out, n, err);
    if (rc != CM_OK)
        return rc;
    p = out->data + out->len;
    for (size_t i = 0; i < in.len; i++) {
        bits = (bits & 0xffu) << 8 | in.data[i];
        for (n_bits += 8; n_bits >= 6; n_bits -= 6)
            *p++ = (uint8_t)alphabet[bits >> (n_bits - 6) & 63u];
    }
    if (n_bits > 0)
        *p++ = (uint8_t)alphabet[bits << (6 - n_bits) & 63u];
    *p = 0;
    out->len += n;
    return CM_OK;
}

static cm_status check(struct cm_span in, struct cm_err *err)
{
    unsigned spare = in.len % 4 == 2 ? 15u : in.len % 4 == 3 ? 3u : 0u;

    for (size_t i = 0; i < in.len; i++)
        if (value_of(in.data[i]) < 0)
            return cm_fail(err, CM_E_PARSE, "byte %zu is not base64url", i);
    if (in.len % 4 == 1)
        return cm_fail(err, CM_E_PARSE, "%zu characters cannot be base64url", in.len);
    if (spare != 0 && ((unsigned)value_of(in.data[in.len - 1]) & spare) != 0)
        return cm_fail(err, CM_E_PARSE, "base64url ends in bits that are not zero");
    return CM_OK;
}

cm_status cm_b64url_decode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    size_t n = in.len / 4 * 3 + (in.len % 4 > 0 ? in.len % 4 - 1 : 0);
    uint32_t bits = 0;
    unsigned n_bits = 0;
    uint8_t *p;
    cm_status rc = check(in, err);

    if (rc != CM_OK || in.len == 0)
        return rc;
    rc = cm_buf_reserve(out, n, err);
    if (rc != CM_OK)
        return rc;
    p = out->data + out->len;
    for (size_t i = 0; i < in.len; i++) {
        bits = (bits & 0xffu) << 6 | (uint32_t)value_of(in.data[i]);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            *p++ = (uint8_t)(bits >> n_bits);
        }
    }
    *p = 0;
    out->len += n;
    return CM_OK;
}
