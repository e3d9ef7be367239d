/* SPDX-License-Identifier: Apache-2.0 */
#include "civil.h"

#include <string.h>

/* Source: RFC 9110 5.6.7 (the three forms of HTTP-date, all of which a recipient must accept) and
 * 10.2.3 (Retry-After). Names are case-sensitive there. Whether the day of the week fits the date
 * is not looked at. */

#define RETRY_AFTER_MAX_S INT64_C(86400)

static const char *const day_names[] = { "Monday", "Tuesday",  "Wednesday", "Thursday",
                                         "Friday", "Saturday", "Sunday" };
static const char *const month_names[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

static bool take_day_name(const char **p, const char *end, bool full)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(day_names); i++) {
        char name[4] = { day_names[i][0], day_names[i][1], day_names[i][2], '\0' };

        if (cm__take_text(p, end, full ? day_names[i] : name))
            return true;
    }
    return false;
}

static bool take_month(const char **p, const char *end, int *ret)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(month_names); i++) {
        if (cm__take_text(p, end, month_names[i])) {
            *ret = (int)i + 1;
            return true;
        }
    }
    return false;
}

static bool take_time(const char **p, const char *end, struct cm__civil *c)
{
    c->hour = cm__take_digits(p, end, 2);
    if (!cm__take_char(p, end, ':'))
        return false;
    c->minute = cm__take_digits(p, end, 2);
    if (!cm__take_char(p, end, ':'))
        return false;
    c->second = cm__take_digits(p, end, 2);
    return c->hour >= 0 && c->minute >= 0 && c->second >= 0;
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static bool parse_imf(const char *p, const char *end, struct cm__civil *c)
{
    if (!take_day_name(&p, end, false) || !cm__take_text(&p, end, ", "))
        return false;
    c->day = cm__take_digits(&p, end, 2);
    if (!cm__take_char(&p, end, ' ') || !take_month(&p, end, &c->month) ||
        !cm__take_char(&p, end, ' '))
        return false;
    c->year = cm__take_digits(&p, end, 4);
    return cm__take_char(&p, end, ' ') && take_time(&p, end, c) && cm__take_text(&p, end, " GMT") &&
           p == end;
}

/* Sunday, 06-Nov-94 08:49:37 GMT; a year that seems more than 50 years ahead is the most recent
 * one in the past with these digits. */
static bool parse_rfc850(const char *p, const char *end, int64_t now_s, struct cm__civil *c)
{
    struct cm__civil now;
    int year;

    if (!take_day_name(&p, end, true) || !cm__take_text(&p, end, ", "))
        return false;
    c->day = cm__take_digits(&p, end, 2);
    if (!cm__take_char(&p, end, '-') || !take_month(&p, end, &c->month) ||
        !cm__take_char(&p, end, '-'))
        return false;
    year = cm__take_digits(&p, end, 2);
    if (year < 0)
        return false;
    cm__civil_from_unix(now_s, &now);
    c->year = now.year - now.year % 100 + year;
    if (c->year > now.year + 50)
        c->year -= 100;
    return cm__take_char(&p, end, ' ') && take_time(&p, end, c) && cm__take_text(&p, end, " GMT") &&
           p == end;
}

/* Sun Nov  6 08:49:37 1994 */
static bool parse_asctime(const char *p, const char *end, struct cm__civil *c)
{
    if (!take_day_name(&p, end, false) || !cm__take_char(&p, end, ' ') ||
        !take_month(&p, end, &c->month) || !cm__take_char(&p, end, ' '))
        return false;
    c->day =
        cm__take_char(&p, end, ' ') ? cm__take_digits(&p, end, 1) : cm__take_digits(&p, end, 2);
    if (!cm__take_char(&p, end, ' ') || !take_time(&p, end, c) || !cm__take_char(&p, end, ' '))
        return false;
    c->year = cm__take_digits(&p, end, 4);
    return p == end;
}

static bool parse_seconds(const char *p, const char *end, int64_t *ret)
{
    int64_t s = 0;

    if (p == end)
        return false;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        s = s * 10 + (*p - '0');
        if (s > RETRY_AFTER_MAX_S)
            s = RETRY_AFTER_MAX_S;
    }
    *ret = s;
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool parse_date(const char *p, const char *end, int64_t now_s, int64_t *ret)
{
    struct cm__civil c = { 0, 0, 0, 0, 0, 0 };

    return (parse_imf(p, end, &c) || parse_rfc850(p, end, now_s, &c) ||
            parse_asctime(p, end, &c)) &&
           cm__civil_to_unix(&c, 0, ret);
}

cm_status cm_time_parse_http_date(struct cm_span text, int64_t now_wall_s, int64_t *ret,
                                  struct cm_err *err)
{
    const char *p = (const char *)text.data;
    char shown[64];

    if (text.len == 0 || !parse_date(p, p + text.len, now_wall_s, ret))
        return cm_fail(err, CM_E_PARSE, "'%s' is no HTTP date",
                       cm_escape(p, text.len, shown, sizeof shown));
    return CM_OK;
}

cm_status cm_time_parse_retry_after(const char *s, int64_t now_wall_s, int64_t *ret,
                                    struct cm_err *err)
{
    const char *p = s != NULL ? s : "";
    const char *end = p + strlen(p);
    char shown[64];
    int64_t at;
    int64_t wait;

    while (p < end && is_blank(*p))
        p++;
    while (end > p && is_blank(end[-1]))
        end--;
    if (parse_seconds(p, end, &wait)) {
        *ret = wait;
        return CM_OK;
    }
    if (!parse_date(p, end, now_wall_s, &at))
        return cm_fail(err, CM_E_PARSE, "Retry-After '%s' is neither seconds nor an HTTP date",
                       cm_escape(p, (size_t)(end - p), shown, sizeof shown));
    if (at <= now_wall_s)
        wait = 0;
    else if (__builtin_sub_overflow(at, now_wall_s, &wait) || wait > RETRY_AFTER_MAX_S)
        wait = RETRY_AFTER_MAX_S;
    *ret = wait;
    return CM_OK;
}
