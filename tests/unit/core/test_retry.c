/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

#define RECORD "certmesh/retry/example.com"
#define DAY_S  INT64_C(86400)

static struct kit k;
static struct cm_err err;
static struct cm_subject *subject;
static const struct cm_err refused = { .status = CM_E_NET, .msg = "no route" };

static void set_up(void)
{
    const char *name = "example.com";

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_subject_new(&name, 1, &subject, &err));
}

static void tear_down(void)
{
    cm_subject_free(subject);
    kit_stop(&k);
}

static int64_t now_s(void)
{
    return cm_env_wall_s(&k.env.base);
}

static void note(const struct cm_err *why, struct cm_retry *io)
{
    cm_retry_note(k.cfg, NULL, subject, NULL, "ca.test-dir", why, io);
}

/* What the record would make of a failure with @why, from a fresh start. */
static int64_t first_delay(const struct cm_err *why)
{
    struct cm_retry r = { .attempts = 0 };

    note(why, &r);
    return r.next_s == INT64_MAX ? INT64_MAX : r.next_s - now_s();
}

/* ---- the schedule ---- */

START_TEST(delays_grow_to_a_day_and_stay_within_a_fifth)
{
    static const int64_t minutes[] = { 1, 1, 2, 5, 10, 20, 40, 60, 120, 240, 480, 960, 1440, 1440 };
    const struct cm_env *real = cm_env_system();
    bool low = false;
    bool high = false;

    for (int i = 0; i < 100000; i++) {
        unsigned attempts = (unsigned)cm_random_below(real, CM_ARRAY_LEN(minutes));
        uint64_t dice = cm_random_below(real, UINT64_MAX);
        int64_t base = minutes[attempts] * 60;
        int64_t delay = cm_retry_delay_s(attempts, dice);

        ck_assert_int_ge(delay * 5, base * 4);
        ck_assert_int_le(delay * 5, base * 6);
        low = low || (attempts == 13 && delay * 100 < base * 85);
        high = high || (attempts == 13 && delay * 100 > base * 115);
    }
    ck_assert(low && high); /* all of the range is used */
    ck_assert_int_le(cm_retry_delay_s(UINT_MAX, UINT64_MAX), DAY_S * 6 / 5);
    ck_assert_int_ge(cm_retry_delay_s(UINT_MAX, 0), DAY_S * 4 / 5);
}
END_TEST

START_TEST(thirty_days_of_outage_cost_30_to_45_attempts)
{
    unsigned most = 0;
    unsigned least = UINT_MAX;

    set_up();
    for (int i = 0; i < 1000; i++) {
        struct cm_retry r = { .attempts = 0 };
        int64_t end_s = now_s() + 30 * DAY_S;

        while (now_s() < end_s) {
            note(&refused, &r);
            ck_assert_int_gt(r.next_s, now_s());
            kit_pass(&k.env, (r.next_s - now_s()) * CM_NS_PER_S);
        }
        most = r.attempts > most ? r.attempts : most;
        least = r.attempts < least ? r.attempts : least;
    }
    ck_assert_uint_le(most, 45);
    ck_assert_uint_ge(least, 30);
    tear_down();
}
END_TEST

/* ---- what the failure says ---- */

START_TEST(the_cas_wish_is_obeyed_up_to_a_day)
{
    struct cm_err why = { .status = CM_E_RATELIMITED, .retry_after_s = 3 * 3600 };

    set_up();
    for (int i = 0; i < 100; i++) {
        int64_t delay = first_delay(&why);

        ck_assert_int_ge(delay, 3 * 3600);
        ck_assert_int_le(delay, 3 * 3600 * 11 / 10);
    }
    ck_assert_uint_eq(kit_logged("retry_after_too_long"), 0);
    why.retry_after_s = 400 * DAY_S;
    int64_t delay = first_delay(&why);
    ck_assert_int_ge(delay, DAY_S);
    ck_assert_int_le(delay, DAY_S * 11 / 10);
    ck_assert_uint_eq(kit_logged("retry_after_too_long"), 1);
    why.retry_after_s = 1; /* sooner than the schedule: the schedule */
    ck_assert_int_ge(first_delay(&why), 48);
    why.retry_after_s = INT64_MIN;
    ck_assert_int_ge(first_delay(&why), 48);
    tear_down();
}
END_TEST

START_TEST(what_the_ca_refuses_for_good_is_tried_daily)
{
    static const char *const daily[] = {
        "urn:ietf:params:acme:error:rejectedIdentifier",
        "urn:ietf:params:acme:error:unsupportedIdentifier",
        "urn:ietf:params:acme:error:userActionRequired",
        "userActionRequired",
    };
    struct cm_err why = { .status = CM_E_ACME };

    set_up();
    for (size_t i = 0; i < CM_ARRAY_LEN(daily); i++) {
        (void)snprintf(why.problem, sizeof why.problem, "%s", daily[i]);
        ck_assert_int_ge(first_delay(&why), DAY_S * 4 / 5);
        ck_assert_int_le(first_delay(&why), DAY_S * 6 / 5);
    }
    (void)snprintf(why.problem, sizeof why.problem, "urn:ietf:params:acme:error:caa");
    ck_assert_int_le(first_delay(&why), 72);
    (void)snprintf(why.problem, sizeof why.problem, "urn:ietf:params:acme:error:badCSR");
    ck_assert_int_le(first_delay(&why), 72);
    why.no_retry = true; /* says lib/acme of the same */
    ck_assert_int_ge(first_delay(&why), DAY_S * 4 / 5);
    ck_assert_int_le(first_delay(&why), DAY_S * 6 / 5);
    tear_down();
}
END_TEST

START_TEST(what_is_refused_here_is_not_tried_again_but_by_the_next_process)
{
    const struct cm_err never[] = { { .status = CM_E_POLICY },
                                    { .status = CM_E_INVAL },
                                    { .status = CM_E_ACME, .no_retry = true } };
    struct cm_retry stored;

    set_up();
    for (size_t i = 0; i < CM_ARRAY_LEN(never); i++) {
        struct cm_retry r = { .attempts = 0 };

        note(&never[i], &r);
        ck_assert(r.no_retry);
        ck_assert_int_eq(r.next_s, INT64_MAX);
        ck_ok(cm_retry_load(k.cfg, NULL, "example.com", &stored, &err));
        ck_assert(stored.no_retry); /* for people */
        ck_assert_int_le(stored.next_s, now_s());
        note(&refused, &r); /* and it is not for ever */
        ck_assert(!r.no_retry);
        ck_assert_int_lt(r.next_s, INT64_MAX);
    }
    tear_down();
}
END_TEST

START_TEST(waiting_and_canceling_are_no_failures)
{
    const struct cm_err again = { .status = CM_E_AGAIN, .retry_after_s = 600 };
    const struct cm_err canceled = { .status = CM_E_CANCELED };
    struct cm_retry r = { .attempts = 0 };

    set_up();
    note(&again, &r);
    ck_assert_uint_eq(r.attempts, 0);
    ck_assert_int_eq(r.next_s, now_s() + 600);
    note(&canceled, &r);
    ck_assert_uint_eq(r.attempts, 0);
    ck_assert_int_eq(r.next_s, now_s() + 600);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 0);
    tear_down();
}
END_TEST

START_TEST(a_tier_of_emergency_brings_the_next_try_forward)
{
    const char *name = "example.com";
    struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_retry r = { .attempts = 20 };
    struct cm_err why = refused;
    struct cm_cert *old = NULL;
    struct cm_when when;

    set_up();
    kit_make_pair(CM_PK_P256, &name, 1, START_S, 100 * DAY_S, &chain, &key);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), "ca.test-dir", NULL,
                           CM_CERT_MANAGED, &old, &err));
    cm_when_for(k.cfg, old, NULL, &when);
    const int64_t tiers[] = { when.urgent_at_s, when.emergency_at_s, old->not_after_s + 1 };
    for (size_t i = 0; i < CM_ARRAY_LEN(tiers); i++) {
        kit_pass(&k.env, (tiers[i] - 3600 - now_s()) * CM_NS_PER_S);
        cm_retry_note(k.cfg, NULL, subject, old, NULL, &why, &r);
        ck_assert_int_eq(r.next_s, tiers[i]);
        why.retry_after_s = 7200; /* but the CA is not asked before it wants to be */
        cm_retry_note(k.cfg, NULL, subject, old, NULL, &why, &r);
        ck_assert_int_ge(r.next_s, now_s() + 7200);
        why.retry_after_s = 0;
    }
    kit_pass(&k.env, 7200 * CM_NS_PER_S); /* there is no tier after the last */
    cm_retry_note(k.cfg, NULL, subject, old, NULL, &why, &r);
    ck_assert_int_ge(r.next_s, now_s() + DAY_S * 4 / 5);
    cm_cert_unref(old);
    cm_buf_free(&chain);
    cm_buf_free(&key);
    tear_down();
}
END_TEST

START_TEST(a_life_of_a_minute_leaves_room_for_several_tries)
{
    const char *name = "example.com";
    struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_retry r = { .attempts = 0 };
    struct cm_cert *old = NULL;
    unsigned tries = 0;

    set_up();
    kit_make_pair(CM_PK_P256, &name, 1, START_S, 60, &chain, &key);
    ck_ok(cm_cert_from_pem(cm_buf_span(&chain), cm_buf_span(&key), "ca.test-dir", NULL,
                           CM_CERT_MANAGED, &old, &err));
    kit_pass(&k.env, 30 * CM_NS_PER_S);
    for (; now_s() <= old->not_after_s; tries++) {
        int64_t left_s = old->not_after_s + 1 - now_s();

        cm_retry_note(k.cfg, NULL, subject, old, NULL, &refused, &r);
        ck_assert_int_gt(r.next_s, now_s());
        ck_assert_int_le(r.next_s, now_s() + left_s / 4 + 1);
        kit_pass(&k.env, (r.next_s - now_s()) * CM_NS_PER_S);
    }
    ck_assert_uint_ge(tries, 6);
    ck_assert_uint_le(tries, 16);
    cm_cert_unref(old);
    cm_buf_free(&chain);
    cm_buf_free(&key);
    tear_down();
}
END_TEST

/* ---- what is stored ---- */

START_TEST(what_is_noted_is_found_by_the_next_process)
{
    struct cm_err why = { .status = CM_E_ACME,
                          .problem = "urn:ietf:params:acme:error:dns",
                          .msg = "the \"CA\" says:\nno\x01 such \\ name \xc3\xa4" };
    struct cm_retry r = { .attempts = 0 };
    struct cm_retry got;

    set_up();
    note(&why, &r);
    kit_pass(&k.env, 60 * CM_NS_PER_S);
    note(&why, &r);
    struct cm_config *peer = kit_peer(&k, NULL);
    ck_ok(cm_retry_load(peer, NULL, "example.com", &got, &err));
    ck_assert_uint_eq(got.attempts, 2);
    ck_assert_int_eq(got.first_s, START_S);
    ck_assert_int_eq(got.last_s, START_S + 60);
    ck_assert_int_eq(got.next_s, r.next_s);
    ck_assert_int_eq(got.status, CM_E_ACME);
    ck_assert(!got.no_retry);
    ck_assert_str_eq(got.issuer_key, "ca.test-dir");
    ck_assert_str_eq(got.problem, why.problem);
    ck_assert_str_eq(got.msg, "the \"CA\" says:\\x0ano\\x01 such \\ name \\xc3\\xa4");
    cm_retry_clear(peer, NULL, "example.com");
    ck_assert(!kit_has(&k.storage.base, RECORD));
    ck_refused(cm_retry_load(k.cfg, NULL, "example.com", &got, &err), CM_E_NOTFOUND);
    cm_config_free(peer);
    tear_down();
}
END_TEST

START_TEST(texts_of_any_length_fit)
{
    struct cm_retry r = { .attempts = 0 };
    struct cm_retry got;
    struct cm_err why = { .status = CM_E_ACME };
    char issuer[1000];

    set_up();
    memset(why.msg, '"', sizeof why.msg - 1);
    memset(why.problem, '\\', sizeof why.problem - 1);
    memset(issuer, '\\', sizeof issuer);
    issuer[sizeof issuer - 1] = '\0';
    cm_retry_note(k.cfg, NULL, subject, NULL, issuer, &why, &r);
    ck_ok(cm_retry_load(k.cfg, NULL, "example.com", &got, &err));
    ck_assert_str_eq(got.msg, r.msg);
    ck_assert_str_eq(got.problem, r.problem);
    ck_assert_str_eq(got.issuer_key, r.issuer_key);
    tear_down();
}
END_TEST

#define STAMPS "\"first\": \"2026-01-01T00:00:00Z\", \"last\": \"2026-01-01T00:00:00Z\""

START_TEST(damaged_records_are_absent_and_said_once)
{
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"attempts\": 1}",
        "{\"attempts\": 0, \"status\": \"CM_E_NET\", " STAMPS "}",
        "{\"attempts\": -1, \"status\": \"CM_E_NET\", " STAMPS "}",
        "{\"attempts\": 1e99, \"status\": \"CM_E_NET\", " STAMPS "}",
        "{\"attempts\": 99999999999, \"status\": \"CM_E_NET\", " STAMPS "}",
        "{\"attempts\": \"1\", \"status\": \"CM_E_NET\", " STAMPS "}",
        "{\"attempts\": 1, \"status\": \"CM_E_ODD\", " STAMPS "}",
        "{\"attempts\": 1, \"status\": 3, " STAMPS "}",
        "{\"attempts\": 1, \"status\": \"CM_E_NET\", \"last\": \"yesterday\"}",
        "{\"attempts\": 1, \"status\": \"CM_E_NET\", \"last\": 1767225600}",
        "{\"attempts\": 1, \"status\": \"CM_E_NET\", \"no_retry\": 1, " STAMPS "}",
        "{\"attempts\": 1, \"status\": \"CM_E_NET\", \"error\": [], " STAMPS "}",
        "{\"attempts\": 1, \"status\": \"CM_E_NET\", " STAMPS "} trailing",
    };
    struct cm_retry r = { .attempts = 77 };

    set_up();
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        kit_put(&k.storage.base, RECORD, bad[i]);
        cm_status rc = cm_retry_load(k.cfg, NULL, "example.com", &r, &err);
        ck_assert_msg(rc == CM_E_NOTFOUND, "%s: %s", bad[i], cm_status_name(rc));
    }
    ck_assert_uint_eq(r.attempts, 77); /* untouched */
    ck_assert_uint_eq(kit_logged("note_damaged"), 1);
    CM_AUTO_FREE char *big = calloc(1, 64 * 1024);
    memset(big, ' ', 64 * 1024 - 1);
    kit_put(&k.storage.base, RECORD, big);
    ck_refused(cm_retry_load(k.cfg, NULL, "example.com", &r, &err), CM_E_NOTFOUND);
    /* what a later version adds is no damage */
    kit_put(&k.storage.base, RECORD,
            "{\"attempts\": 3, \"status\": \"CM_E_NET\", \"later\": [1], " STAMPS "}");
    ck_ok(cm_retry_load(k.cfg, NULL, "example.com", &r, &err));
    ck_assert_uint_eq(r.attempts, 3);
    tear_down();
}
END_TEST

START_TEST(a_clock_that_was_ahead_does_not_put_off_the_next_try)
{
    struct cm_retry r = { .attempts = 12 };
    struct cm_retry got;

    set_up();
    kit_pass(&k.env, 3650 * DAY_S * CM_NS_PER_S);
    note(&refused, &r);
    kit_pass(&k.env, -3650 * DAY_S * CM_NS_PER_S);
    ck_ok(cm_retry_load(k.cfg, NULL, "example.com", &got, &err));
    ck_assert_uint_eq(got.attempts, 13);
    ck_assert_int_eq(got.next_s, now_s());
    ck_assert_int_eq(got.last_s, now_s());
    ck_assert_int_eq(got.first_s, now_s());
    /* one that is a little ahead, as clocks are */
    kit_pass(&k.env, 3 * CM_NS_PER_S);
    note(&refused, &got);
    kit_pass(&k.env, -3 * CM_NS_PER_S);
    int64_t next_s = got.next_s;
    ck_ok(cm_retry_load(k.cfg, NULL, "example.com", &got, &err));
    ck_assert_int_eq(got.next_s, next_s);
    tear_down();
}
END_TEST

START_TEST(without_storage_this_process_knows_all_the_same)
{
    struct cm_retry r = { .attempts = 0 };
    struct cm_retry got;

    set_up();
    atomic_store(&k.storage.fail_stores, -1);
    note(&refused, &r);
    note(&refused, &r);
    ck_assert_uint_eq(r.attempts, 2);
    ck_assert_int_gt(r.next_s, now_s());
    ck_assert_uint_eq(kit_logged("note_not_stored"), 1); /* not for each */
    atomic_store(&k.storage.fail_loads, -1);
    ck_refused(cm_retry_load(k.cfg, NULL, "example.com", &got, &err), CM_E_IO);
    tear_down();
}
END_TEST

START_TEST(a_failure_is_noted_although_its_operation_is_over)
{
    struct cm_retry r = { .attempts = 0 };
    struct cm_op over = { &k.env.base, 1, NULL };

    set_up();
    cm_retry_note(k.cfg, &over, subject, NULL, "ca.test-dir", &refused, &r);
    ck_assert(kit_has(&k.storage.base, RECORD));
    cm_retry_clear(k.cfg, &over, "example.com");
    ck_assert(!kit_has(&k.storage.base, RECORD));
    tear_down();
}
END_TEST

START_TEST(clearing_what_never_failed_writes_nothing)
{
    set_up();
    cm_retry_clear(k.cfg, NULL, "example.com");
    ck_assert_uint_eq(atomic_load(&k.storage.removes), 0);
    ck_assert_uint_eq(atomic_load(&k.storage.stores), 0);
    tear_down();
}
END_TEST

START_TEST(clearing_takes_nothing_along_that_is_no_record)
{
    set_up();
    kit_put(&k.storage.base, RECORD "/precious", "x");
    cm_retry_clear(k.cfg, NULL, "example.com");
    ck_assert(kit_has(&k.storage.base, RECORD "/precious"));
    tear_down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        delays_grow_to_a_day_and_stay_within_a_fifth,
        thirty_days_of_outage_cost_30_to_45_attempts,
        the_cas_wish_is_obeyed_up_to_a_day,
        what_the_ca_refuses_for_good_is_tried_daily,
        what_is_refused_here_is_not_tried_again_but_by_the_next_process,
        waiting_and_canceling_are_no_failures,
        a_tier_of_emergency_brings_the_next_try_forward,
        a_life_of_a_minute_leaves_room_for_several_tries,
        what_is_noted_is_found_by_the_next_process,
        texts_of_any_length_fit,
        damaged_records_are_absent_and_said_once,
        a_clock_that_was_ahead_does_not_put_off_the_next_try,
        without_storage_this_process_knows_all_the_same,
        a_failure_is_noted_although_its_operation_is_over,
        clearing_what_never_failed_writes_nothing,
        clearing_takes_nothing_along_that_is_no_record,
    };
    return kit_run("retry", tests, CM_ARRAY_LEN(tests));
}
