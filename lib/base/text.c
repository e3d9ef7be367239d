/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <string.h>

static const char hex_digits[] = "0123456789abcdef";

const char *cm_escape(const char *s, size_t len, char *out, size_t out_size)
{
    size_t at = 0;
    size_t dots = 0; /* the last place where "..." still fits */

    if (out_size == 0)
        return "";
    for (size_t i = 0; s != NULL && i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        size_t need = c < 0x20 || c >= 0x7f ? 4 : 1;

        if (need >= out_size - at) { /* does not fit: say so */
            at = dots;
            for (unsigned d = 0; d < 3 && at + 1 < out_size; d++)
                out[at++] = '.';
            break;
        }
        if (need == 1) {
            out[at++] = (char)c;
        } else {
            out[at++] = '\\';
            out[at++] = 'x';
            out[at++] = hex_digits[c >> 4];
            out[at++] = hex_digits[c & 15];
        }
        if (at + 3 < out_size)
            dots = at;
    }
    out[at] = '\0';
    return out;
}

int cm_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool cm_hex_decode(const char *s, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int hi = cm_hex_digit(s[2 * i]);
        int lo = hi >= 0 ? cm_hex_digit(s[2 * i + 1]) : -1;

        if (lo < 0)
            return false;
        out[i] = (uint8_t)(hi * 16 + lo);
    }
    return true;
}

uint64_t cm_fnv1a64(uint64_t from, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t h = from;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001B3);
    return h;
}

cm_status cm_random_hex(const struct cm_env *env, size_t bytes, char *out, struct cm_err *err)
{
    uint8_t chunk[64];
    cm_status rc = CM_OK;

    while (bytes > 0 && rc == CM_OK) {
        size_t n = bytes < sizeof chunk ? bytes : sizeof chunk;

        rc = cm_env_random(env, chunk, n, err);
        for (size_t i = 0; rc == CM_OK && i < n; i++) {
            *out++ = hex_digits[chunk[i] >> 4];
            *out++ = hex_digits[chunk[i] & 15];
        }
        bytes -= n;
    }
    *out = '\0';
    cm_wipe(chunk, sizeof chunk);
    return rc;
}

int cm_key_compare(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    int x = *a == '/' ? 1 : *a == '\0' ? 0 : (unsigned char)*a + 1;
    int y = *b == '/' ? 1 : *b == '\0' ? 0 : (unsigned char)*b + 1;

    return x - y;
}
