/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_BASE_CIVIL_H
#define CM_BASE_CIVIL_H

/* Private to lib/base: dates of the proleptic Gregorian calendar in UTC, without libc's time zone
 * and locale. */

#include "base.h"

struct cm__civil {
    int64_t year; /* 1..9999 */
    int month;    /* 1..12 */
    int day;      /* 1..31 */
    int hour;
    int minute;
    int second; /* 60 only as the leap second 23:59:60 UTC; it counts as the next second */
};

/* Seconds since 1970 of @c, which stands @offset_s east of UTC; false if there is no such time. */
bool cm__civil_to_unix(const struct cm__civil *c, int64_t offset_s, int64_t *ret);
void cm__civil_from_unix(int64_t s, struct cm__civil *ret);

/* Exactly @n digits at *@p, before @end; moves *@p behind them. -1 if there are none. */
int cm__take_digits(const char **p, const char *end, unsigned n);
bool cm__take_char(const char **p, const char *end, char c);
bool cm__take_text(const char **p, const char *end, const char *text);

#endif
