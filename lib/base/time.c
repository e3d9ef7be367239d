/* SPDX-License-Identifier: Apache-2.0 */
#include "civil.h"

#include <stdio.h>

/* Source: RFC 3339 5.6. */

/* 'Z' or an offset; false if neither. */
static bool take_offset(const char **p, const char *end, int64_t *ret_s)
{
    bool east;
    int hours;
    int minutes;

    *ret_s = 0;
    if (cm__take_char(p, end, 'Z') || cm__take_char(p, end, 'z'))
        return true;
    east = cm__take_char(p, end, '+');
    if (!east && !cm__take_char(p, end, '-'))
        return false;
    hours = cm__take_digits(p, end, 2);
    if (hours < 0 || hours > 23 || !cm__take_char(p, end, ':'))
        return false;
    minutes = cm__take_digits(p, end, 2);
    if (minutes < 0 || minutes > 59)
        return false;
    *ret_s = (east ? 1 : -1) * (hours * 3600 + minutes * 60);
    return true;
}

/* ".123" as ns, 1 to 9 digits; no '.' is 0. */
static bool take_fraction(const char **p, const char *end, int64_t *ret_ns)
{
    unsigned n = 0;

    *ret_ns = 0;
    if (!cm__take_char(p, end, '.'))
        return true;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, n++) {
        if (n == 9)
            return false;
        *ret_ns = *ret_ns * 10 + (**p - '0');
    }
    for (unsigned i = n; i < 9; i++)
        *ret_ns *= 10;
    return n > 0;
}

static bool take_date_time(const char **p, const char *end, struct cm__civil *c)
{
    c->year = cm__take_digits(p, end, 4);
    if (!cm__take_char(p, end, '-'))
        return false;
    c->month = cm__take_digits(p, end, 2);
    if (!cm__take_char(p, end, '-'))
        return false;
    c->day = cm__take_digits(p, end, 2);
    if (!cm__take_char(p, end, 'T') && !cm__take_char(p, end, 't'))
        return false;
    c->hour = cm__take_digits(p, end, 2);
    if (!cm__take_char(p, end, ':'))
        return false;
    c->minute = cm__take_digits(p, end, 2);
    if (!cm__take_char(p, end, ':'))
        return false;
    c->second = cm__take_digits(p, end, 2);
    return true; /* what was not a number is -1: no such time */
}

cm_status cm_time_parse_rfc3339(const char *s, size_t len, int64_t *ret, struct cm_err *err)
{
    const char *p = s != NULL ? s : "";
    const char *end = s != NULL ? s + len : p;
    struct cm__civil c;
    char shown[64];
    int64_t offset_s;
    int64_t frac_ns;
    int64_t unix_s;
    int64_t ns;

    if (!take_date_time(&p, end, &c) || !take_fraction(&p, end, &frac_ns) ||
        !take_offset(&p, end, &offset_s) || p != end || !cm__civil_to_unix(&c, offset_s, &unix_s))
        return cm_fail(err, CM_E_PARSE, "'%s' is not an RFC 3339 time",
                       cm_escape(s, len, shown, sizeof shown));

    if (__builtin_mul_overflow(unix_s, CM_NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, frac_ns, &ns))
        ns = unix_s < 0 ? INT64_MIN : INT64_MAX;
    *ret = ns;
    return CM_OK;
}

void cm_time_format_rfc3339(int64_t ns, bool fixed, char *out)
{
    struct cm__civil c = { 1, 1, 1, 0, 0, 0 };
    int64_t frac = 0;
    char digits[16] = "";

    /* INT64_MIN is "unset": the zero time of Go, year 1. */
    if (ns != INT64_MIN) {
        int64_t s = ns / CM_NS_PER_S;

        frac = ns % CM_NS_PER_S;
        if (frac < 0) {
            frac += CM_NS_PER_S;
            s--;
        }
        cm__civil_from_unix(s, &c);
    }
    if (fixed || frac != 0) {
        size_t n = (size_t)snprintf(digits, sizeof digits, ".%09d", (int)frac);

        while (!fixed && n > 0 && digits[n - 1] == '0')
            digits[--n] = '\0';
    }
    (void)snprintf(out, CM_TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d%sZ", (int)c.year, c.month,
                   c.day, c.hour, c.minute, c.second, digits);
}
