/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "life.h"

#define DAY INT64_C(86400)

static struct cm_when when(int64_t from, int64_t to, double ratio, int64_t before,
                           const struct cm_ari *ari)
{
    const struct cm_when_input in = { from, to, ratio, before, ari };
    struct cm_when w;

    cm_when(&in, &w);
    return w;
}

static int64_t at(int64_t from, int64_t to, double ratio)
{
    return when(from, to, ratio, 0, NULL).renew_at_s;
}

START_TEST(without_a_suggestion_a_part_of_the_lifetime_counts)
{
    ck_assert_int_eq(at(0, 90 * DAY - 1, 0), 60 * DAY);
    ck_assert_int_eq(at(0, 10 * DAY - 1, 0), 10 * DAY - 10 * DAY / 3);
    ck_assert_int_eq(at(0, 10 * DAY - 2, 0), 5 * DAY); /* a second below ten days: half */
    ck_assert_int_eq(at(0, 6 * DAY - 1, 0), 3 * DAY);
    ck_assert_int_eq(at(0, 7199, 0), 3600);
    ck_assert_int_eq(at(0, 100 * DAY - 1, 0.1), 90 * DAY);
    ck_assert_int_eq(when(0, 90 * DAY - 1, 0, 0, NULL).rule, CM_RULE_RATIO);
    /* However little is asked for, not in the last twentieth. */
    ck_assert_int_eq(at(0, 100 * DAY - 1, 0.001), 95 * DAY);
    ck_assert_int_eq(when(0, 100 * DAY - 1, 0.001, 0, NULL).rule, CM_RULE_EMERGENCY);
}
END_TEST

START_TEST(dates_without_sense_are_due_by_their_end)
{
    ck_assert_int_eq(at(5, 5, 0), 5);
    ck_assert_int_eq(at(10, 5, 0), 5); /* upside down */
    ck_assert_int_gt(at(INT64_MIN, INT64_MAX, 0), 0);
    ck_assert_int_gt(at(0, INT64_C(253402300799), 0), 0); /* the year 9999 */
    for (int64_t life = 1; life < 5000; life += 7) {
        struct cm_when w = when(1000, 1000 + life - 1, 0, 0, NULL);

        ck_assert_int_ge(w.renew_at_s, 1000);
        ck_assert_int_le(w.renew_at_s, 1000 + life - 1);
        ck_assert_int_le(w.urgent_at_s, w.emergency_at_s);
    }
}
END_TEST

START_TEST(duration_of_the_program_takes_the_place_of_the_part)
{
    struct cm_when w = when(0, 90 * DAY - 1, 0.5, 20 * DAY, NULL);

    ck_assert_int_eq(w.renew_at_s, 70 * DAY);
    ck_assert_int_eq(w.rule, CM_RULE_ABSOLUTE);
    /* 30 days are meant for other certificates than those that live six: they would be renewed
     * all the time. */
    w = when(0, 6 * DAY - 1, 0, 30 * DAY, NULL);
    ck_assert_int_eq(w.renew_at_s, 3 * DAY);
    ck_assert_int_eq(w.rule, CM_RULE_RATIO);
}
END_TEST

START_TEST(suggestion_of_the_ca_comes_first)
{
    struct cm_ari ari = { .start_s = 10 * DAY, .end_s = 11 * DAY, .selected_s = 10 * DAY + 77 };
    struct cm_when w = when(0, 90 * DAY - 1, 0, 0, &ari);

    ck_assert_int_eq(w.renew_at_s, 10 * DAY + 77); /* earlier than a third left */
    ck_assert_int_eq(w.rule, CM_RULE_ARI);
    ari.selected_s = 75 * DAY;
    ck_assert_int_eq(when(0, 90 * DAY - 1, 0, 30 * DAY, &ari).renew_at_s, 75 * DAY); /* later */
    ari.selected_s = 89 * DAY; /* too late for anybody's good */
    w = when(0, 90 * DAY - 1, 0, 0, &ari);
    ck_assert_int_eq(w.renew_at_s, 90 * DAY - 90 * DAY / 20);
    ck_assert_int_eq(w.rule, CM_RULE_EMERGENCY);
    /* Of an hour, a twentieth is too little to get another in. */
    ari.selected_s = 3590;
    w = when(0, 3599, 0, 0, &ari);
    ck_assert_int_eq(w.renew_at_s, 3000);
    ck_assert_int_eq(w.rule, CM_RULE_EMERGENCY);
    ari.selected_s = 11;
    ck_assert_int_eq(when(0, 11, 0, 0, &ari).renew_at_s, 8);
    ari.selected_s = 0; /* nothing was suggested */
    ck_assert_int_eq(when(0, 90 * DAY - 1, 0, 0, &ari).renew_at_s, 60 * DAY);
}
END_TEST

START_TEST(last_tiers_are_a_twentieth_and_a_fiftieth)
{
    struct cm_cert c = { .not_before_s = 0, .not_after_s = 100 * DAY - 1 };

    ck_assert_uint_eq(cm_when_tier(&c, 95 * DAY - 1), 0);
    ck_assert_uint_eq(cm_when_tier(&c, 95 * DAY), 20);
    ck_assert_uint_eq(cm_when_tier(&c, 98 * DAY - 1), 20);
    ck_assert_uint_eq(cm_when_tier(&c, 98 * DAY), 50);
    ck_assert_uint_eq(cm_when_tier(&c, 100 * DAY - 1), 50);
    ck_assert_uint_eq(cm_when_tier(&c, 100 * DAY), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { without_a_suggestion_a_part_of_the_lifetime_counts,
                                   dates_without_sense_are_due_by_their_end,
                                   duration_of_the_program_takes_the_place_of_the_part,
                                   suggestion_of_the_ca_comes_first,
                                   last_tiers_are_a_twentieth_and_a_fiftieth };

    return kit_run("when", tests, CM_ARRAY_LEN(tests));
}
