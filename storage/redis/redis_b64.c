/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

/* Base64 as the peers' JSON has it (RFC 4648 4): padded, without line breaks. */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

cm_status rds_b64_encode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    size_t n = (in.len + 2) / 3 * 4;
    cm_status rc = cm_buf_reserve(out, n, err);

    if (rc != CM_OK || n == 0)
        return rc;
    uint8_t *p = out->data + out->len;
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t bits = (uint32_t)in.data[i] << 16;

        if (left > 1)
            bits |= (uint32_t)in.data[i + 1] << 8;
        if (left > 2)
            bits |= in.data[i + 2];
        *p++ = (uint8_t)alphabet[bits >> 18];
        *p++ = (uint8_t)alphabet[bits >> 12 & 63u];
        *p++ = left > 1 ? (uint8_t)alphabet[bits >> 6 & 63u] : '=';
        *p++ = left > 2 ? (uint8_t)alphabet[bits & 63u] : '=';
    }
    *p = 0;
    out->len += n;
    return CM_OK;
}

static uint32_t value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0' + 52);
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* Groups of four; the last one may be padded, and what its bits have too many must be zero. */
cm_status rds_b64_decode(struct cm_span in, struct cm_buf *out, struct cm_err *err)
{
    size_t pad = 0;

    if (in.len % 4 != 0)
        return cm_fail(err, CM_E_PARSE, "base64 of %zu characters", in.len);
    if (in.len > 0 && in.data[in.len - 1] == '=')
        pad = in.data[in.len - 2] == '=' ? 2 : 1;
    cm_status rc = cm_buf_reserve(out, in.len / 4 * 3, err);
    if (rc != CM_OK || in.len == 0)
        return rc;
    uint8_t *p = out->data + out->len;
    for (size_t i = 0; i < in.len; i += 4) {
        size_t fill = i + 4 == in.len ? pad : 0;
        uint32_t bits = 0;
        uint32_t bad = 0;

        for (size_t j = 0; j < 4; j++) {
            uint32_t v = j < 4 - fill ? value_of(in.data[i + j]) : 0;

            bad |= v & 64u;
            bits = bits << 6 | (v & 63u);
        }
        if (bad != 0 || (fill > 0 && (bits & ((1u << 8 * fill) - 1)) != 0))
            return cm_fail(err, CM_E_PARSE, "no base64 at character %zu", i);
        *p++ = (uint8_t)(bits >> 16);
        if (fill < 2)
            *p++ = (uint8_t)(bits >> 8);
        if (fill < 1)
            *p++ = (uint8_t)bits;
    }
    *p = 0;
    out->len = (size_t)(p - out->data);
    return CM_OK;
}
