/* SPDX-License-Identifier: Apache-2.0 */
#include "der.h"

#include <string.h>

bool cm_span_eq(struct cm_span a, struct cm_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* ------------------------------------------------------------------ reader */

bool cm_der_next(struct cm_span *in, uint8_t *ret_tag, struct cm_span *ret_content,
                 struct cm_span *ret_whole)
{
    const uint8_t *p = in->data;
    size_t left = in->len;
    size_t header = 2;
    size_t len = 0;

    if (left < 2 || (p[0] & 0x1f) == 0x1f) /* tag numbers above 30 occur nowhere in X.509 */
        return false;
    if (p[1] < 0x80) {
        len = p[1];
    } else {
        size_t n = p[1] & 0x7fu;
        if (n == 0 || n > 4 || left < 2 + n) /* 0 = indefinite: BER, not DER */
            return false;
        for (size_t i = 0; i < n; i++)
            len = (len << 8) | p[2 + i];
        if (p[2] == 0 || len < 0x80) /* not the shortest form */
            return false;
        header += n;
    }
    if (len > left - header)
        return false;

    *ret_tag = p[0];
    *ret_content = (struct cm_span){ p + header, len };
    if (ret_whole != NULL)
        *ret_whole = (struct cm_span){ p, header + len };
    *in = (struct cm_span){ p + header + len, left - header - len };
    return true;
}

bool cm_der_take_whole(struct cm_span *in, uint8_t tag, struct cm_span *ret,
                       struct cm_span *ret_whole)
{
    uint8_t got = 0;

    return cm_der_next(in, &got, ret, ret_whole) && got == tag;
}

bool cm_der_take(struct cm_span *in, uint8_t tag, struct cm_span *ret)
{
    return cm_der_take_whole(in, tag, ret, NULL);
}

bool cm_der_is(const struct cm_span *in, uint8_t tag)
{
    return in->len > 0 && in->data[0] == tag;
}

bool cm_der_skip_opt(struct cm_span *in, uint8_t tag)
{
    struct cm_span skipped;

    return !cm_der_is(in, tag) || cm_der_take(in, tag, &skipped);
}

bool cm_der_take_uint(struct cm_span *in, struct cm_span *ret)
{
    struct cm_span c;

    if (!cm_der_take(in, CM_DER_INTEGER, &c) || c.len == 0 || (c.data[0] & 0x80) != 0)
        return false;
    if (c.len > 1 && c.data[0] == 0) {
        if ((c.data[1] & 0x80) == 0) /* a sign byte that is not needed: not DER */
            return false;
        c.data++;
        c.len--;
    }
    *ret = c;
    return true;
}

bool cm_der_take_small(struct cm_span *in, unsigned *ret)
{
    struct cm_span c;

    if (!cm_der_take_uint(in, &c) || c.len > 2)
        return false;
    *ret = c.len == 2 ? (unsigned)c.data[0] << 8 | c.data[1] : c.data[0];
    return true;
}

bool cm_der_take_bits(struct cm_span *in, struct cm_span *ret)
{
    struct cm_span c;

    if (!cm_der_take(in, CM_DER_BIT_STRING, &c) || c.len < 1 || c.data[0] != 0)
        return false;
    *ret = (struct cm_span){ c.data + 1, c.len - 1 };
    return true;
}

/* Days from 1970-01-01 to the given day of the proleptic Gregorian calendar (H. Hinnant's
 * days_from_civil): no library call, so no time zone, no 2038 and no tm_year limit. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

    return era * 146097 + doe - 719468;
}

static bool is_leap(int64_t y)
{
    return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

bool cm_der_take_time(struct cm_span *in, int64_t *ret)
{
    static const uint8_t month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    uint8_t tag = 0;
    struct cm_span c;
    int64_t v[7] = { 0 }; /* year in two halves, month, day, hour, minute, second */
    size_t first;

    if (!cm_der_next(in, &tag, &c, NULL))
        return false;
    if (tag == CM_DER_UTC_TIME && c.len == 13)
        first = 1;
    else if (tag == CM_DER_GENERALIZED_TIME && c.len == 15)
        first = 0;
    else
        return false;
    for (size_t i = first, at = 0; i < 7; i++, at += 2) {
        uint8_t hi = c.data[at];
        uint8_t lo = c.data[at + 1];
        if (hi < '0' || hi > '9' || lo < '0' || lo > '9')
            return false;
        v[i] = (hi - '0') * 10 + (lo - '0');
    }
    if (c.data[c.len - 1] != 'Z')
        return false;
    if (first == 1)
        v[0] = v[1] >= 50 ? 19 : 20; /* RFC 5280 4.1.2.5.1 */

    int64_t year = v[0] * 100 + v[1];
    if (v[2] < 1 || v[2] > 12 || v[3] < 1 || v[4] > 23 || v[5] > 59 || v[6] > 59)
        return false;
    if (v[3] > month_days[v[2] - 1] + (v[2] == 2 && is_leap(year) ? 1 : 0))
        return false;
    *ret = days_from_civil(year, v[2], v[3]) * 86400 + v[4] * 3600 + v[5] * 60 + v[6];
    return true;
}

/* ------------------------------------------------------------------ writer */

void cm_derw_raw(struct cm_derw *w, struct cm_span der)
{
    if (w->rc == CM_OK && der.len > 0)
        w->rc = cm_buf_append(w->out, der.data, der.len, w->err);
}

void cm_derw_byte(struct cm_derw *w, uint8_t byte)
{
    cm_derw_raw(w, (struct cm_span){ &byte, 1 });
}

size_t cm_derw_open(struct cm_derw *w, uint8_t tag)
{
    cm_derw_byte(w, tag);
    cm_derw_byte(w, 0); /* length of the short form; close() makes room for a longer one */
    return w->out->len;
}

void cm_derw_close(struct cm_derw *w, size_t mark)
{
    static const uint8_t room[4] = { 0 };

    if (w->rc != CM_OK)
        return;
    CM_ASSERT(mark >= 2 && mark <= w->out->len);
    size_t len = w->out->len - mark;
    if (len < 0x80) {
        w->out->data[mark - 1] = (uint8_t)len;
        return;
    }
    size_t n = len < 0x100 ? 1 : len < 0x10000 ? 2 : 3;
    CM_ASSERT(len < 0x1000000); /* every buffer of this room is far smaller */
    cm_derw_raw(w, (struct cm_span){ room, n });
    if (w->rc != CM_OK)
        return;
    uint8_t *bytes = w->out->data;
    memmove(bytes + mark + n, bytes + mark, len);
    bytes[mark - 1] = (uint8_t)(0x80 | n);
    for (size_t i = 0; i < n; i++)
        bytes[mark + i] = (uint8_t)(len >> (8 * (n - 1 - i)));
}

void cm_derw_put(struct cm_derw *w, uint8_t tag, struct cm_span content)
{
    size_t mark = cm_derw_open(w, tag);

    cm_derw_raw(w, content);
    cm_derw_close(w, mark);
}

void cm_derw_uint(struct cm_derw *w, struct cm_span magnitude)
{
    size_t mark = cm_derw_open(w, CM_DER_INTEGER);

    while (magnitude.len > 1 && magnitude.data[0] == 0) {
        magnitude.data++;
        magnitude.len--;
    }
    if (magnitude.len == 0 || (magnitude.data[0] & 0x80) != 0)
        cm_derw_byte(w, 0);
    cm_derw_raw(w, magnitude);
    cm_derw_close(w, mark);
}

void cm_derw_time(struct cm_derw *w, int64_t t)
{
    /* Years 0000..9999 only; a validity beyond that is cut to the last second there is, which
     * RFC 5280 4.1.2.5 also gives the meaning "does not expire". */
    const int64_t year0 = INT64_C(-62167219200);
    const int64_t year9999_end = INT64_C(253402300799);
    char text[16];

    if (t < year0)
        t = year0;
    if (t > year9999_end)
        t = year9999_end;
    int64_t days = t / 86400;
    int64_t rest = t % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    /* civil_from_days, the inverse of days_from_civil() */
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t d = doy - (153 * mp + 2) / 5 + 1;
    int64_t m = mp < 10 ? mp + 3 : mp - 9;
    int64_t y = yoe + era * 400 + (m <= 2 ? 1 : 0);

    bool utc = y >= 1950 && y < 2050;
    int64_t v[7] = { y / 100, y % 100, m, d, rest / 3600, rest / 60 % 60, rest % 60 };
    size_t at = 0;
    for (size_t i = utc ? 1 : 0; i < 7; i++) {
        text[at++] = (char)('0' + v[i] / 10 % 10);
        text[at++] = (char)('0' + v[i] % 10);
    }
    text[at++] = 'Z';
    cm_derw_put(w, utc ? CM_DER_UTC_TIME : CM_DER_GENERALIZED_TIME,
                (struct cm_span){ (const uint8_t *)text, at });
}
