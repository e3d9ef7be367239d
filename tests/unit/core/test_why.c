/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_life.h"

/* The sentences themselves: they are what a person has to act by. */

#define DAY INT64_C(86400)

static struct kit k;
static struct cm_err err;

static struct {
    char lines[32][1024];
    size_t n;
} told;

static void hear(void *user, const char *text)
{
    (void)user;
    ck_assert_uint_lt(told.n, 32);
    ck_assert_uint_lt(strlen(text), sizeof told.lines[0]);
    (void)snprintf(told.lines[told.n++], sizeof told.lines[0], "%s", text);
}

static void ask(const char *name)
{
    told.n = 0;
    ck_ok(cm_status_why(k.cfg, NULL, name, hear, NULL, &err));
    ck_assert_uint_gt(told.n, 0);
}

static bool heard(const char *part)
{
    for (size_t i = 0; i < told.n; i++)
        if (strstr(told.lines[i], part) != NULL)
            return true;
    return false;
}

#define ck_heard(part)                                                                             \
    do {                                                                                           \
        if (!heard(part))                                                                          \
            for (size_t ck_i = 0; ck_i < told.n; ck_i++)                                           \
                (void)fprintf(stderr, "%s\n", told.lines[ck_i]);                                   \
        ck_assert_msg(heard(part), "not told: %s", (part));                                        \
    } while (0)

static void ends_with(const char *sentence)
{
    ck_assert_str_eq(told.lines[told.n - 1], sentence);
}

static void set_up(void)
{
    kit_init(&k);
    kit_start(&k);
}

START_TEST(a_good_one)
{
    set_up();
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S, 90 * DAY);
    ask("a.example");
    ck_heard("Storage holds a certificate for a.example from ca.test-dir (serial ");
    ck_heard(", key p256), valid until 2026-04-01 00:00 UTC (in 90 days).");
    ck_heard("No suggestion of the CA for its renewal is known.");
    ck_heard("By its lifetime it is to be renewed at 2026-03-01 23:59 UTC (in 59 days), and at the "
             "latest at 2026-03-27 ");
    ck_heard("It names no OCSP responder: there is nothing to staple.");
    ck_heard("No failed attempt is noted.");
    ck_heard("Nobody works on it just now.");
    ends_with("So it is not due: nothing to do before 2026-03-01 23:59 UTC (in 59 days) (renew).");
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_the_ca_has_a_suggestion_for)
{
    set_up();
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S, 90 * DAY);
    kit_put_suggestion(&k.storage.base, "a.example", NULL, "2026-01-21T03:12:00Z");
    ask("a.example");
    ck_heard("The CA suggests to renew between 2026-01-20 00:00 UTC (in 19 days) and 2026-01-22 "
             "00:00 UTC (in 21 days); 2026-01-21 03:12 UTC (in 20 days) was chosen.");
    ck_heard("The CA may be asked again from 2026-01-01 06:00 UTC (in 6 hours) on.");
    ck_heard("So it is to be renewed at 2026-01-21 03:12 UTC (in 20 days).");
    kit_pass(&k.env, 30 * DAY * CM_NS_PER_S);
    ask("a.example");
    ends_with(
        "So it is due since 2026-01-21 03:12 UTC (9 days ago): whoever maintains it renews it "
        "now.");
    kit_stop(&k);
}
END_TEST

START_TEST(one_with_a_staple)
{
    set_up();
    kit_put_stapled(&k.storage.base);
    ask("stapled.example");
    ck_heard("Its OCSP responder is http://ocsp.example/; storage holds no staple.");
    kit_put_response(&k.storage.base, START_S - 2 * DAY, START_S + 4 * DAY, false);
    ask("stapled.example");
    ck_heard("Storage holds a staple until 2026-01-05 00:00 UTC (in 4 days); it is replaced from "
             "2026-01-02 00:00 UTC (in 24 hours) on.");
    ends_with("So it is not due: nothing to do before 2026-01-02 00:00 UTC (in 24 hours) "
              "(staple).");
    kit_put_response(&k.storage.base, START_S - 9 * DAY, START_S - 3600, false);
    ask("stapled.example");
    ck_heard("The staple in storage ended at 2025-12-31 23:00 UTC (60 minutes ago): its responder "
             "http://ocsp.example/ is to be asked.");
    kit_put_response(&k.storage.base, START_S, START_S + DAY, true);
    ask("stapled.example");
    ck_heard("The OCSP response in storage says that it is REVOKED.");
    ends_with("So whoever maintains it replaces it now.");
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_this_process_found_revoked)
{
    const struct cm_err refused = { .status = CM_E_NET, .msg = "no route" };
    struct cm_cert *cert = NULL;
    bool first = false;

    set_up();
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S, 90 * DAY);
    ck_ok(cm_load_stored(k.cfg, NULL, "a.example", &cert, &err));
    ck_ok(cm_revoked_note(k.cfg, cert, 1, &first, &err));
    cm_cert_unref(cert);
    ask("a.example");
    ck_heard("This process has found out that it is REVOKED.");
    ends_with("So whoever maintains it replaces it now.");
    kit_note_failure(k.cfg, "a.example", &refused, 1);
    ask("a.example");
    ck_heard("The last attempt failed at 2026-01-01 00:00 UTC (now) (attempt 1), by "
             "ca.test-dir: no route");
    ck_assert_ptr_nonnull(strstr(told.lines[told.n - 1], "tries again at 2026-01-01 00:0"));
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_is_due_and_worked_on)
{
    struct cm_lease *lease = NULL;

    set_up();
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S - 70 * DAY, 90 * DAY);
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "issue_cert_a.example", NULL, &lease, &err));
    kit_pass(&k.env, 5 * CM_NS_PER_S);
    ask("a.example");
    ck_heard(" has held its lock for 5 seconds: it is probably being renewed just now.");
    ends_with(
        "So it is due since 2025-12-21 23:59 UTC (10 days ago): whoever maintains it renews it "
        "now.");
    cm_lease_release(lease);
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_fails_while_its_ca_is_paused)
{
    const struct cm_err refused = { .status = CM_E_RATELIMITED, .msg = "too many\033[31m orders" };

    set_up();
    kit_store_pair(&k.storage.base, "ca.test-dir", "a.example", START_S - 100 * DAY, 90 * DAY);
    kit_note_failure(k.cfg, "a.example", &refused, 4);
    kit_put(&k.storage.base, "certmesh/gates/ca.test-dir",
            "{\"paused_until\":\"2026-01-01T09:00:00Z\",\"reason\":\"too many orders\","
            "\"updated\":\"2026-01-01T00:00:00Z\"}");
    kit_pass(&k.env, 3 * 3600 * CM_NS_PER_S);
    ask("a.example");
    ck_heard("It expired at 2025-12-22 00:00 UTC (10 days ago): clients refuse it.");
    ck_heard("The last attempt failed at 2026-01-01 00:00 UTC (3 hours ago) (attempt 4), by "
             "ca.test-dir: too many");
    ck_assert(!heard("\033"));
    ck_heard(
        "The CA ca.test-dir asked to be left alone until 2026-01-01 09:00 UTC (in 6 hours): too "
        "many orders");
    ends_with("So whoever maintains it tries again at 2026-01-01 09:00 UTC (in 6 hours).");
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_nobody_will_try_again)
{
    const struct cm_err final = { .status = CM_E_POLICY, .no_retry = true, .msg = "not here" };

    set_up();
    kit_note_failure(k.cfg, "a.example", &final, 1);
    ask("a.example");
    ck_heard("Storage holds no certificate for a.example.");
    ck_heard("That does not get better by trying again: somebody has to change something.");
    ends_with("So nothing happens until somebody does something.");
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_is_damaged)
{
    set_up();
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.crt", "rubbish");
    kit_put(&k.storage.base, "certificates/ca.test-dir/a.example/a.example.key", "rubbish");
    ask("a.example");
    ck_heard("Storage holds one that cannot be used: 'certificates/ca.test-dir/a.example/"
             "a.example.crt'");
    ends_with("So a new one has to be obtained; whoever maintains it does that now.");
    kit_stop(&k);
}
END_TEST

START_TEST(one_of_another_ca)
{
    set_up();
    kit_store_pair(&k.storage.base, "elsewhere", "a.example", START_S, 90 * DAY);
    ask("a.example");
    ck_heard(" from elsewhere (serial ");
    ck_heard("This configuration orders from ca.test-dir: the next one comes from there.");
    kit_stop(&k);
}
END_TEST

START_TEST(one_that_is_managed_and_on_its_way)
{
    static const char *const names[] = { "a.example" };

    set_up();
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, names, 1, &err));
    kit_until(atomic_load(&k.issuer->inside) == 1);
    ask("a.example");
    ck_heard("Storage holds no certificate for a.example.");
    ends_with("So one has to be obtained: that goes on, or is about to begin.");
    atomic_store(&k.issuer->hold, false);
    kit_stop(&k);
}
END_TEST

START_TEST(dates_out_of_all_bounds_are_told_too)
{
    set_up();
    kit_note_failure(k.cfg, "a.example", &(struct cm_err){ .status = CM_E_NET, .msg = "no route" },
                     1);
    kit_pass(&k.env, 200 * 365 * DAY * CM_NS_PER_S);
    ask("a.example");
    ck_heard("days ago");
    kit_stop(&k);
}
END_TEST

START_TEST(nothing_known_is_not_found)
{
    set_up();
    told.n = 0;
    ck_refused(cm_status_why(k.cfg, NULL, "a.example", hear, NULL, &err), CM_E_NOTFOUND);
    ck_refused(cm_status_why(k.cfg, NULL, "a.example", NULL, NULL, &err), CM_E_INVAL);
    ck_assert_uint_eq(told.n, 0);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_good_one,
        one_that_the_ca_has_a_suggestion_for,
        one_with_a_staple,
        one_that_this_process_found_revoked,
        one_that_is_due_and_worked_on,
        one_that_fails_while_its_ca_is_paused,
        one_that_nobody_will_try_again,
        one_that_is_damaged,
        one_of_another_ca,
        one_that_is_managed_and_on_its_way,
        dates_out_of_all_bounds_are_told_too,
        nothing_known_is_not_found,
    };

    return kit_run("why", tests, CM_ARRAY_LEN(tests));
}
