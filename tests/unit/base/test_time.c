/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

static struct cm_err err;

static int64_t parse(const char *s)
{
    int64_t ns = -1;

    ck_assert_msg(cm_time_parse_rfc3339(s, strlen(s), &ns, &err) == CM_OK, "%s: %s", s, err.msg);
    return ns;
}

START_TEST(rfc3339_times_are_read_with_any_fraction)
{
    ck_assert_int_eq(parse("1970-01-01T00:00:00Z"), 0);
    ck_assert_int_eq(parse("1969-12-31T23:59:59.999999999Z"), -1);
    ck_assert_int_eq(parse("2026-08-29T18:20:01Z"), INT64_C(1788027601) * CM_NS_PER_S);
    for (unsigned n = 1; n <= 9; n++) {
        static const int64_t want[] = { 100000000, 120000000, 123000000, 123400000, 123450000,
                                        123456000, 123456700, 123456780, 123456789 };
        char s[64];

        (void)snprintf(s, sizeof s, "1970-01-01T00:00:00.%.*sZ", (int)n, "123456789");
        ck_assert_int_eq(parse(s), want[n - 1]);
    }
}
END_TEST

START_TEST(rfc3339_offsets_are_taken_into_account)
{
    ck_assert_int_eq(parse("2026-08-29T20:20:01+02:00"), parse("2026-08-29T18:20:01Z"));
    ck_assert_int_eq(parse("2026-08-29T12:50:01-05:30"), parse("2026-08-29T18:20:01Z"));
    ck_assert_int_eq(parse("1970-01-01T00:00:00-00:00"), 0);
    /* RFC 3339 5.8 */
    ck_assert_int_eq(parse("1996-12-19T16:39:57-08:00"), parse("1996-12-20T00:39:57Z"));
    ck_assert_int_eq(parse("1985-04-12t23:20:50.52z"), parse("1985-04-12T23:20:50.520Z"));
}
END_TEST

START_TEST(leap_second_is_the_second_after_it)
{
    /* RFC 3339 5.8 */
    ck_assert_int_eq(parse("1990-12-31T23:59:60Z"), parse("1991-01-01T00:00:00Z"));
    ck_assert_int_eq(parse("1990-12-31T15:59:60-08:00"), parse("1991-01-01T00:00:00Z"));
}
END_TEST

START_TEST(years_beyond_the_range_are_clamped)
{
    ck_assert_int_eq(parse("0001-01-01T00:00:00Z"), INT64_MIN);
    ck_assert_int_eq(parse("9999-12-31T23:59:59Z"), INT64_MAX);
    ck_assert_int_eq(parse("2262-04-11T23:47:16.854775807Z"), INT64_MAX);
    ck_assert_int_eq(parse("2262-04-11T23:47:16.854775806Z"), INT64_MAX - 1);
    ck_assert_int_eq(parse("1677-09-21T00:12:44Z"), INT64_C(-9223372036) * CM_NS_PER_S);
}
END_TEST

START_TEST(leap_years_follow_the_gregorian_rule)
{
    ck_assert_int_eq(parse("2000-02-29T00:00:00Z") + 86400 * CM_NS_PER_S,
                     parse("2000-03-01T00:00:00Z"));
    ck_assert_int_eq(parse("2028-02-29T00:00:00Z") + 86400 * CM_NS_PER_S,
                     parse("2028-03-01T00:00:00Z"));
    ck_assert_int_eq(parse("2100-02-28T00:00:00Z") + 86400 * CM_NS_PER_S,
                     parse("2100-03-01T00:00:00Z"));
}
END_TEST

START_TEST(what_is_no_rfc3339_time_is_refused)
{
    static const char *const bad[] = {
        "",
        "2026",
        "2026-08-29",
        "2026-08-29T18:20:01",
        "2026-08-29 18:20:01Z",
        "2026-08-29T18:20:01.Z",
        "2026-08-29T18:20:01.1234567890Z",
        "2026-08-29T18:20:01,5Z",
        "2026-08-29T18:20:01Zx",
        "2026-08-29T18:20:01+0200",
        "2026-08-29T18:20:01+02",
        "2026-08-29T18:20:01+24:00",
        "2026-08-29T18:20:01+02:60",
        "2026-08-29T24:00:00Z",
        "2026-08-29T18:60:00Z",
        "2026-08-29T18:20:61Z",
        "2026-08-29T18:20:60Z",
        "1990-12-31T23:59:60-08:00",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-04-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "+026-01-01T00:00:00Z",
        "2026-1-01T00:00:00Z",
        "2026-01-01T00:00:-1Z",
        " 2026-01-01T00:00:00Z",
    };
    int64_t ns = 42;

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(cm_time_parse_rfc3339(bad[i], strlen(bad[i]), &ns, &err) == CM_E_PARSE,
                      "'%s' was taken", bad[i]);
    ck_assert_int_eq(cm_time_parse_rfc3339(NULL, 0, &ns, &err), CM_E_PARSE);
    ck_assert_int_eq(cm_time_parse_rfc3339("2026-08-29T18:20:01Z", 19, &ns, &err), CM_E_PARSE);
    ck_assert_int_eq(ns, 42);
}
END_TEST

START_TEST(refusal_shows_what_was_read_but_no_control_bytes)
{
    int64_t ns;

    ck_assert_int_eq(cm_time_parse_rfc3339("no\ntime", 7, &ns, &err), CM_E_PARSE);
    ck_assert_ptr_nonnull(strstr(err.msg, "no\\x0atime"));
}
END_TEST

static void check_format(int64_t ns, bool fixed, const char *want)
{
    char out[CM_TIME_TEXT];

    cm_time_format_rfc3339(ns, fixed, out);
    ck_assert_str_eq(out, want);
}

START_TEST(times_are_written_fixed_or_as_go_does)
{
    int64_t t = INT64_C(1788027601) * CM_NS_PER_S;

    check_format(t, false, "2026-08-29T18:20:01Z");
    check_format(t, true, "2026-08-29T18:20:01.000000000Z");
    check_format(t + 120000000, false, "2026-08-29T18:20:01.12Z");
    check_format(t + 123456789, false, "2026-08-29T18:20:01.123456789Z");
    check_format(t + 1, false, "2026-08-29T18:20:01.000000001Z");
    check_format(-1, true, "1969-12-31T23:59:59.999999999Z");
    check_format(INT64_MAX, true, "2262-04-11T23:47:16.854775807Z");
    check_format(INT64_MIN + 1, true, "1677-09-21T00:12:43.145224193Z");
}
END_TEST

START_TEST(unset_time_is_year_one_both_ways)
{
    check_format(INT64_MIN, false, "0001-01-01T00:00:00Z");
    ck_assert_int_eq(parse("0001-01-01T00:00:00Z"), INT64_MIN);
}
END_TEST

START_TEST(every_day_of_five_centuries_survives_the_round_trip)
{
    for (int64_t day = -100000; day < 100000; day++) {
        int64_t ns = day * 86400 * CM_NS_PER_S + 12345 * CM_NS_PER_S + 678;
        char out[CM_TIME_TEXT];

        cm_time_format_rfc3339(ns, true, out);
        if (parse(out) != ns)
            ck_abort_msg("day %lld became %s", (long long)day, out);
    }
}
END_TEST

static int64_t retry_after(const char *s, int64_t now_s)
{
    int64_t wait = -1;

    ck_assert_msg(cm_time_parse_retry_after(s, now_s, &wait, &err) == CM_OK, "%s: %s", s, err.msg);
    return wait;
}

START_TEST(retry_after_takes_seconds)
{
    ck_assert_int_eq(retry_after("0", 0), 0);
    ck_assert_int_eq(retry_after(" 120\t", 0), 120);
    ck_assert_int_eq(retry_after("86399", 0), 86399);
    ck_assert_int_eq(retry_after("86400", 0), 86400);
    ck_assert_int_eq(retry_after("86401", 0), 86400);
    ck_assert_int_eq(retry_after("99999999999999999999999999", 0), 86400);
}
END_TEST

/* RFC 9110 5.6.7: 784111777 in three forms. */
START_TEST(retry_after_takes_the_three_forms_of_http_date)
{
    static const char *const forms[] = { "Sun, 06 Nov 1994 08:49:37 GMT",
                                         "Sunday, 06-Nov-94 08:49:37 GMT",
                                         "Sun Nov  6 08:49:37 1994" };

    for (size_t i = 0; i < CM_ARRAY_LEN(forms); i++) {
        ck_assert_int_eq(retry_after(forms[i], 784111777 - 10), 10);
        ck_assert_int_eq(retry_after(forms[i], 784111777 + 10), 0);
        ck_assert_int_eq(retry_after(forms[i], 784111777 - 40 * 86400), 86400);
    }
    ck_assert_int_eq(retry_after("Wed Nov 16 08:49:37 1994", 784975777 - 1), 1);
}
END_TEST

START_TEST(two_digit_year_is_at_most_fifty_years_ahead)
{
    int64_t in_2026 = 1788027601;

    ck_assert_int_eq(retry_after("Saturday, 29-Aug-26 18:20:02 GMT", in_2026), 1);
    ck_assert_int_eq(retry_after("Saturday, 29-Aug-76 18:20:02 GMT", in_2026), 86400);
    ck_assert_int_eq(retry_after("Saturday, 29-Aug-77 18:20:02 GMT", in_2026), 0);
}
END_TEST

START_TEST(http_date_takes_the_leap_second_as_the_next_one)
{
    ck_assert_int_eq(retry_after("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800 - 5), 5);
}
END_TEST

START_TEST(http_date_is_read_in_its_three_forms_and_no_other)
{
    static const char *const forms[] = { "Sun, 06 Nov 1994 08:49:37 GMT",
                                         "Sunday, 06-Nov-94 08:49:37 GMT",
                                         "Sun Nov  6 08:49:37 1994" };
    static const char *const bad[] = { "", "784111777", "Sun, 06 Nov 1994 08:49:37 UTC",
                                       "Sun, 06 Nov 1994 08:49:37 GMT ",
                                       "Sun, 31 Feb 2026 00:00:00 GMT" };
    int64_t at;

    for (size_t i = 0; i < CM_ARRAY_LEN(forms); i++) {
        at = 0;
        ck_assert_int_eq(cm_time_parse_http_date(cm_span_str(forms[i]), 784111777, &at, &err),
                         CM_OK);
        ck_assert_int_eq(at, 784111777);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        at = 7;
        ck_assert_msg(cm_time_parse_http_date(cm_span_str(bad[i]), 784111777, &at, &err) ==
                          CM_E_PARSE,
                      "taken: '%s'", bad[i]);
        ck_assert_int_eq(at, 7);
    }
}
END_TEST

START_TEST(what_is_no_retry_after_is_refused)
{
    static const char *const bad[] = { "",
                                       "-1",
                                       "1.5",
                                       "soon",
                                       "1 2",
                                       "06 Nov 1994 08:49:37 GMT",
                                       "sun, 06 Nov 1994 08:49:37 GMT",
                                       "Sun, 06 nov 1994 08:49:37 GMT",
                                       "Sun, 6 Nov 1994 08:49:37 GMT",
                                       "Sun, 06 Nov 1994 08:49:37 UTC",
                                       "Sun, 06 Nov 1994 08:49:37",
                                       "Sun, 31 Feb 1994 08:49:37 GMT",
                                       "Sun, 06 Nov 1994 24:49:37 GMT",
                                       "Sun, 06 Nov 1994 08:49:60 GMT",
                                       "Sunday, 06-Nov-1994 08:49:37 GMT",
                                       "Sun Nov 6 08:49:37 1994",
                                       "Sun Nov  6 08:49:37 1994 GMT" };
    int64_t wait = 42;

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(cm_time_parse_retry_after(bad[i], 0, &wait, &err) == CM_E_PARSE,
                      "'%s' was taken", bad[i]);
    ck_assert_int_eq(cm_time_parse_retry_after(NULL, 0, &wait, &err), CM_E_PARSE);
    ck_assert_int_eq(wait, 42);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        rfc3339_times_are_read_with_any_fraction,
        rfc3339_offsets_are_taken_into_account,
        leap_second_is_the_second_after_it,
        years_beyond_the_range_are_clamped,
        leap_years_follow_the_gregorian_rule,
        what_is_no_rfc3339_time_is_refused,
        refusal_shows_what_was_read_but_no_control_bytes,
        times_are_written_fixed_or_as_go_does,
        unset_time_is_year_one_both_ways,
        every_day_of_five_centuries_survives_the_round_trip,
        retry_after_takes_seconds,
        retry_after_takes_the_three_forms_of_http_date,
        two_digit_year_is_at_most_fifty_years_ahead,
        http_date_takes_the_leap_second_as_the_next_one,
        http_date_is_read_in_its_three_forms_and_no_other,
        what_is_no_retry_after_is_refused,
    };

    return run_tests("time", tests, CM_ARRAY_LEN(tests));
}
