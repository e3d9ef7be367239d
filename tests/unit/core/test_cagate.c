/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

#define RECORD "certmesh/gates/ca.test-dir"
#define DAY_S  INT64_C(86400)

static struct kit k;
static struct cm_config *peer;
static struct cm_err err;
static const struct cm_ca_ask order = { .replaces = false };
static const struct cm_ca_ask looking = { .look_only = true };

static void set_up_with(size_t events, int64_t window_ns, bool renewals_exempt)
{
    struct cm_issuer *is;

    kit_init(&k);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    kit_issuer_of(is)->limits =
        (struct cm_issuer_limits){ .size = (uint32_t)sizeof(struct cm_issuer_limits),
                                   .events = events,
                                   .window_ns = window_ns,
                                   .renewals_exempt = renewals_exempt };
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    kit_start(&k);
    peer = kit_peer(&k, NULL);
}

static void set_up(void)
{
    set_up_with(0, 0, false);
}

static void tear_down(void)
{
    cm_config_free(peer);
    kit_stop(&k);
}

static void pass_s(int64_t s)
{
    kit_pass(&k.env, s * CM_NS_PER_S);
}

static cm_status ask(struct cm_config *cfg)
{
    return cm_ca_admit(cfg, NULL, 0, &order, &err);
}

static void outcome(struct cm_config *cfg, cm_status rc, bool whole_ca, int64_t retry_after_s)
{
    struct cm_err why = CM_ERR_INIT;

    (void)cm_fail(&why, rc, "service \"busy\"");
    why.whole_ca = whole_ca;
    why.retry_after_s = retry_after_s;
    cm_ca_outcome(cfg, NULL, 0, rc, &why);
}

/* The CA is down: five orders show it. */
static void break_it(struct cm_config *cfg)
{
    for (int i = 0; i < 5; i++) {
        ck_ok(ask(cfg));
        outcome(cfg, CM_E_NET, true, 0);
    }
    ck_refused(ask(cfg), CM_E_AGAIN);
}

/* ---- pauses ---- */

START_TEST(the_cas_wish_to_be_left_alone_is_obeyed)
{
    struct cm_ca_ask urgent = { .urgent = true };

    set_up();
    ck_ok(ask(k.cfg));
    outcome(k.cfg, CM_E_RATELIMITED, true, 3600);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert_int_ge(err.retry_after_s, 3600);
    ck_assert_int_le(err.retry_after_s, 3600 + 600);
    ck_assert(err.whole_ca);
    ck_assert_ptr_nonnull(strstr(err.msg, "ca.test-dir"));
    ck_assert_ptr_nonnull(strstr(err.msg, "service \"busy\""));
    ck_refused(cm_ca_admit(k.cfg, NULL, 0, &urgent, &err), CM_E_AGAIN);
    ck_refused(cm_ca_admit(k.cfg, NULL, 0, &looking, &err), CM_E_AGAIN);
    pass_s(3599);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    pass_s(1);
    ck_ok(ask(k.cfg));
    tear_down();
}
END_TEST

START_TEST(a_pause_is_for_the_whole_fleet_and_over_when_orders_succeed)
{
    struct cm_ca_state st;

    set_up();
    ck_refused(cm_ca_state_load(peer, NULL, "ca.test-dir", &st, &err), CM_E_NOTFOUND);
    outcome(k.cfg, CM_E_RATELIMITED, true, 3600);
    ck_refused(ask(peer), CM_E_AGAIN);
    ck_assert(err.whole_ca);
    ck_assert_int_ge(err.retry_after_s, 3600);
    ck_ok(cm_ca_state_load(peer, NULL, "ca.test-dir", &st, &err));
    ck_assert_int_eq(st.paused_until_s, START_S + 3600);
    ck_assert_int_eq(st.open_since_s, 0);
    ck_assert_str_eq(st.reason, "service \"busy\"");
    pass_s(3601);
    ck_refused(cm_ca_state_load(peer, NULL, "ca.test-dir", &st, &err), CM_E_NOTFOUND);
    ck_ok(ask(peer));
    outcome(peer, CM_OK, false, 0);
    ck_assert(!kit_has(&k.storage.base, RECORD)); /* nothing bad, nothing there */
    tear_down();
}
END_TEST

START_TEST(a_flood_of_the_same_answer_is_stored_once)
{
    set_up();
    unsigned stores = atomic_load(&k.storage.stores);
    for (int i = 0; i < 1000; i++)
        outcome(k.cfg, CM_E_RATELIMITED, true, 3600 + i / 40);
    ck_assert_uint_eq(atomic_load(&k.storage.stores) - stores, 1);
    for (int i = 0; i < 1000; i++)
        outcome(k.cfg, CM_E_NET, true, 0);
    ck_assert_uint_eq(atomic_load(&k.storage.stores) - stores, 2);
    for (int i = 0; i < 1000; i++)
        outcome(peer, CM_OK, false, 0); /* knows of nothing */
    ck_assert_uint_eq(atomic_load(&k.storage.stores) - stores, 2);
    ck_assert_uint_eq(atomic_load(&k.storage.removes), 0);
    tear_down();
}
END_TEST

START_TEST(no_pause_is_longer_than_a_day_whatever_ca_and_clocks_say)
{
    struct cm_ca_state st;

    set_up();
    outcome(k.cfg, CM_E_RATELIMITED, true, 400 * DAY_S);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert_int_le(err.retry_after_s, DAY_S + 600);
    ck_refused(ask(peer), CM_E_AGAIN);
    ck_assert_int_le(err.retry_after_s, DAY_S + 600);
    ck_assert_int_ge(err.retry_after_s, DAY_S);
    pass_s(DAY_S);
    ck_ok(ask(k.cfg));
    ck_ok(ask(peer));
    /* by a node whose clock is years ahead */
    kit_put(&k.storage.base, RECORD,
            "{\"paused_until\": \"2031-01-01T01:00:00Z\", \"updated\": \"2031-01-01T00:00:00Z\"}");
    pass_s(31);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert_int_le(err.retry_after_s, 3600 + 600); /* what it had when it was written */
    ck_ok(cm_ca_state_load(k.cfg, NULL, "ca.test-dir", &st, &err));
    ck_assert_int_le(st.paused_until_s, cm_env_wall_s(&k.env.base) + 3600);
    kit_put(&k.storage.base, RECORD,
            "{\"paused_until\": \"2031-01-01T01:00:00Z\", \"updated\": \"2001-01-01T00:00:00Z\"}");
    pass_s(31);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert_int_le(err.retry_after_s, DAY_S + 600);
    tear_down();
}
END_TEST

START_TEST(a_clock_that_goes_back_does_not_make_a_pause_longer)
{
    set_up();
    outcome(k.cfg, CM_E_RATELIMITED, true, 3600);
    ck_refused(ask(peer), CM_E_AGAIN);
    pass_s(1800);
    atomic_store(&k.env.wrong_ns, -10 * 3600 * CM_NS_PER_S);
    ck_refused(ask(k.cfg), CM_E_AGAIN); /* reads the record again, as does ... */
    ck_assert_int_le(err.retry_after_s, 1800 + 600);
    ck_refused(ask(peer), CM_E_AGAIN);
    ck_assert_int_le(err.retry_after_s, 1800 + 600);
    struct cm_config *third = kit_peer(&k, NULL); /* who knows no more than the record */
    ck_refused(ask(third), CM_E_AGAIN);
    ck_assert_int_le(err.retry_after_s, 3600 + 600);
    pass_s(1800);
    ck_ok(ask(k.cfg));
    ck_ok(ask(peer));
    cm_config_free(third);
    tear_down();
}
END_TEST

START_TEST(too_many_without_saying_how_long_is_ten_minutes)
{
    set_up();
    outcome(k.cfg, CM_E_RATELIMITED, true, 0);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert_int_ge(err.retry_after_s, 600);
    ck_assert_int_le(err.retry_after_s, 720);
    tear_down();
}
END_TEST

START_TEST(a_limit_on_one_name_pauses_nobody)
{
    set_up();
    for (int i = 0; i < 10; i++) {
        ck_ok(ask(k.cfg));
        outcome(k.cfg, CM_E_RATELIMITED, false, 3600);
    }
    ck_ok(ask(k.cfg));
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 0);
    tear_down();
}
END_TEST

/* ---- breaker ---- */

START_TEST(five_failures_of_the_cas_own_open_it_others_do_not)
{
    static const cm_status silent[] = { CM_E_CANCELED, CM_E_IO, CM_E_LOCK_LOST, CM_E_TIMEOUT };

    set_up();
    for (int i = 0; i < 4; i++)
        outcome(k.cfg, CM_E_NET, true, 0);
    outcome(k.cfg, CM_E_ACME, false, 0); /* about a name: so the CA works */
    for (int i = 0; i < 4; i++) {
        outcome(k.cfg, CM_E_ACME, true, 0);
        for (size_t n = 0; n < CM_ARRAY_LEN(silent); n++)
            outcome(k.cfg, silent[n], false, 0); /* say nothing of the CA */
    }
    ck_ok(ask(k.cfg));
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 0);
    outcome(k.cfg, CM_E_TLS, true, 0);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert(!err.whole_ca);
    ck_assert_int_ge(err.retry_after_s, 60);
    ck_assert_int_le(err.retry_after_s, 72);
    ck_assert_uint_eq(kit_logged("ca_down"), 1);
    tear_down();
}
END_TEST

START_TEST(while_it_is_open_the_fleet_sends_one_probe_and_ever_more_seldom)
{
    static const int64_t minutes[] = { 1, 2, 4, 8, 15, 15 };
    struct cm_ca_state st;

    set_up();
    break_it(k.cfg);
    ck_refused(ask(peer), CM_E_AGAIN); /* it has not failed there once */
    for (size_t i = 0; i < CM_ARRAY_LEN(minutes); i++) {
        /* Whoever comes first when the time has come; in turns here. */
        struct cm_config *one = i % 2 == 0 ? peer : k.cfg;
        struct cm_config *other = i % 2 == 0 ? k.cfg : peer;

        pass_s(minutes[i] * 60 - 1);
        ck_refused(ask(one), CM_E_AGAIN);
        ck_refused(ask(other), CM_E_AGAIN);
        pass_s(1);
        ck_ok(cm_ca_admit(one, NULL, 0, &looking, &err)); /* takes nothing */
        ck_ok(ask(one));
        ck_refused(ask(one), CM_E_AGAIN);
        ck_refused(ask(other), CM_E_AGAIN);
        outcome(one, CM_E_NET, true, 0);
        ck_refused(ask(one), CM_E_AGAIN);
        ck_refused(ask(other), CM_E_AGAIN);
    }
    ck_ok(cm_ca_state_load(peer, NULL, "ca.test-dir", &st, &err));
    ck_assert_int_eq(st.open_since_s, START_S);
    ck_assert_int_eq(st.next_probe_s, cm_env_wall_s(&k.env.base) + 15 * 60);
    ck_assert_uint_eq(st.failures, 5 + CM_ARRAY_LEN(minutes));
    tear_down();
}
END_TEST

START_TEST(a_probe_that_never_came_back_is_not_waited_for)
{
    set_up();
    break_it(k.cfg);
    pass_s(60);
    ck_ok(ask(k.cfg)); /* and that process dies */
    pass_s(120);
    ck_ok(ask(peer));
    tear_down();
}
END_TEST

START_TEST(success_closes_it_for_all_and_lets_them_in_little_by_little)
{
    unsigned early = 0;
    unsigned late = 0;

    set_up();
    break_it(k.cfg);
    ck_refused(ask(peer), CM_E_AGAIN);
    pass_s(60);
    ck_ok(ask(k.cfg));
    outcome(k.cfg, CM_OK, false, 0);
    ck_assert_uint_eq(kit_logged("ca_up"), 1);
    ck_assert(!kit_has(&k.storage.base, RECORD));
    pass_s(3);
    for (int i = 0; i < 1000; i++)
        early += ask(k.cfg) == CM_OK;
    ck_assert_uint_le(early, 150); /* a twentieth */
    ck_assert_int_ge(err.retry_after_s, 1);
    ck_assert_int_le(err.retry_after_s, 60);
    pass_s(51);
    for (int i = 0; i < 1000; i++)
        late += ask(k.cfg) == CM_OK;
    ck_assert_uint_ge(late, 800);
    pass_s(6);
    for (int i = 0; i < 1000; i++)
        ck_ok(ask(k.cfg));
    (void)ask(peer); /* looks into storage */
    pass_s(60);
    ck_ok(ask(peer));
    tear_down();
}
END_TEST

START_TEST(the_probe_is_not_sent_twice_by_peers_at_the_same_moment)
{
    struct cm_lease *lease = NULL;
    struct cm_ca_state st;
    struct cm_op op = { &k.env.base, 0, NULL };

    set_up();
    break_it(k.cfg);
    pass_s(60);
    ck_ok(cm_lease_acquire(&k.storage.base, &op, "ca_ca.test-dir", NULL, &lease, &err));
    ck_refused(ask(k.cfg), CM_E_AGAIN); /* a peer is about to */
    ck_assert_int_le(err.retry_after_s, 6);
    cm_lease_release(lease);
    pass_s(5);
    ck_ok(ask(k.cfg));
    ck_ok(cm_ca_state_load(k.cfg, NULL, "ca.test-dir", &st, &err));
    ck_assert_uint_eq(st.failures, 6); /* what was not sent does not count */
    tear_down();
}
END_TEST

/* ---- storage ---- */

START_TEST(without_storage_each_process_goes_by_what_it_saw)
{
    set_up();
    atomic_store(&k.storage.fail_loads, -1);
    atomic_store(&k.storage.fail_stores, -1);
    atomic_store(&k.storage.fail_locks, -1);
    atomic_store(&k.storage.fail_commits, -1);
    break_it(k.cfg);
    ck_ok(ask(peer));
    pass_s(60);
    ck_ok(ask(k.cfg)); /* the probe */
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    outcome(peer, CM_E_RATELIMITED, true, 3600);
    ck_refused(ask(peer), CM_E_AGAIN);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 0);
    /* Once it is back, all is told. */
    atomic_store(&k.storage.fail_loads, 0);
    atomic_store(&k.storage.fail_stores, 0);
    atomic_store(&k.storage.fail_locks, 0);
    atomic_store(&k.storage.fail_commits, 0);
    pass_s(31);
    ck_refused(ask(peer), CM_E_AGAIN);
    ck_assert(kit_has(&k.storage.base, RECORD));
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert(err.whole_ca); /* the pause */
    ck_assert_int_ge(err.retry_after_s, 3600 - 32);
    tear_down();
}
END_TEST

START_TEST(a_probe_sent_without_storage_is_told_later)
{
    struct cm_ca_state st;

    set_up();
    break_it(k.cfg);
    pass_s(60);
    atomic_store(&k.storage.fail_locks, -1);
    ck_ok(ask(k.cfg));
    atomic_store(&k.storage.fail_locks, 0);
    pass_s(31);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_ok(cm_ca_state_load(peer, NULL, "ca.test-dir", &st, &err));
    ck_assert_uint_eq(st.failures, 6);
    ck_refused(ask(peer), CM_E_AGAIN);
    ck_assert_int_ge(err.retry_after_s, 120 - 31);
    tear_down();
}
END_TEST

START_TEST(storage_is_read_twice_a_minute_and_not_written)
{
    set_up();
    ck_ok(ask(k.cfg));
    unsigned loads = atomic_load(&k.storage.loads);
    for (int i = 0; i < 600; i++) {
        ck_ok(ask(k.cfg));
        outcome(k.cfg, i % 2 == 0 ? CM_OK : CM_E_ACME, false, 0);
        kit_pass(&k.env, CM_NS_PER_S / 10);
    }
    ck_assert_uint_le(atomic_load(&k.storage.loads) - loads, 2);
    ck_assert_uint_eq(atomic_load(&k.storage.stores), 0);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), 0);
    tear_down();
}
END_TEST

START_TEST(damaged_records_hold_nobody_up)
{
    static const char *const bad[] = { "", "[1]", "{\"updated\": \"2026-01-01T00:00:00Z\"",
                                       "{\"paused_until\": \"2026-01-01T01:00:00Z\"}",
                                       "{\"updated\": 1, \"paused_until\": 2}" };
    struct cm_ca_state st;

    set_up();
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        kit_put(&k.storage.base, RECORD, bad[i]);
        pass_s(31);
        ck_ok(ask(k.cfg));
        ck_refused(cm_ca_state_load(k.cfg, NULL, "ca.test-dir", &st, &err), CM_E_NOTFOUND);
    }
    ck_assert_uint_eq(kit_logged("note_damaged"), 1);
    outcome(k.cfg, CM_E_RATELIMITED, true, 3600); /* and are overwritten */
    ck_refused(ask(peer), CM_E_AGAIN);
    tear_down();
}
END_TEST

START_TEST(a_canceled_operation_is_not_admitted)
{
    struct cm_cancel *c = NULL;
    struct cm_op op = { &k.env.base, 0, NULL };

    set_up();
    ck_ok(cm_cancel_new(NULL, &c, &err));
    cm_cancel_fire(c);
    op.cancel = c;
    ck_refused(cm_ca_admit(k.cfg, &op, 0, &order, &err), CM_E_CANCELED);
    cm_cancel_free(c);
    tear_down();
}
END_TEST

/* ---- throttle ---- */

START_TEST(no_more_orders_than_the_ca_allows)
{
    set_up_with(3, 60 * CM_NS_PER_S, false);
    for (int i = 0; i < 3; i++) {
        ck_ok(cm_ca_admit(k.cfg, NULL, 0, &looking, &err));
        ck_ok(ask(k.cfg));
    }
    ck_refused(cm_ca_admit(k.cfg, NULL, 0, &looking, &err), CM_E_AGAIN);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert(!err.whole_ca);
    ck_assert_int_ge(err.retry_after_s, 60);
    ck_assert_int_le(err.retry_after_s, 60 + 40);
    pass_s(59);
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    pass_s(1);
    ck_ok(ask(k.cfg));
    tear_down();
}
END_TEST

START_TEST(those_turned_away_come_back_spread_over_the_window)
{
    int64_t first = INT64_MAX;
    int64_t last = 0;

    set_up_with(100, 1000 * CM_NS_PER_S, false);
    for (int i = 0; i < 100; i++)
        ck_ok(ask(k.cfg));
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_assert_int_eq(err.retry_after_s, 1000); /* the first in the line */
    for (int i = 0; i < 1000; i++) {
        ck_refused(ask(k.cfg), CM_E_AGAIN);
        first = err.retry_after_s < first ? err.retry_after_s : first;
        last = err.retry_after_s > last ? err.retry_after_s : last;
    }
    ck_assert_int_ge(first, 1000);
    ck_assert_int_lt(first, 1100);
    ck_assert_int_gt(last, 1800);
    ck_assert_int_le(last, 2001);
    tear_down();
}
END_TEST

START_TEST(what_does_not_count_is_let_in)
{
    const struct cm_ca_ask renewal = { .replaces = true };
    const struct cm_ca_ask urgent = { .urgent = true };
    const struct cm_ca_ask resumed = { .resumes = true };

    set_up_with(1, 60 * CM_NS_PER_S, true);
    for (int i = 0; i < 10; i++)
        ck_ok(cm_ca_admit(k.cfg, NULL, 0, &renewal, &err));
    ck_ok(ask(k.cfg)); /* they took no place */
    ck_refused(ask(k.cfg), CM_E_AGAIN);
    ck_ok(cm_ca_admit(k.cfg, NULL, 0, &renewal, &err));
    ck_ok(cm_ca_admit(k.cfg, NULL, 0, &urgent, &err));
    ck_ok(cm_ca_admit(k.cfg, NULL, 0, &resumed, &err));
    tear_down();
    set_up_with(1, 60 * CM_NS_PER_S, false); /* a CA that counts renewals, too */
    ck_ok(cm_ca_admit(k.cfg, NULL, 0, &renewal, &err));
    ck_refused(cm_ca_admit(k.cfg, NULL, 0, &renewal, &err), CM_E_AGAIN);
    tear_down();
}
END_TEST

START_TEST(an_issuer_with_impossible_limits_is_refused)
{
    struct cm_issuer *is;

    kit_init(&k);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    kit_issuer_of(is)->limits.events = 5;
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    ck_refused(cm_config_new(&k.opts, &k.cfg, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "ca.test-dir"));
    cm_issuer_destroy(is);
    kit_storage_free(&k.storage);
}
END_TEST

/* ---- threads ---- */

/* Time passes between two questions, not between two looks at the clocks: minutes there are no
 * thread's doing. */
static pthread_rwlock_t still = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void pass_between(int64_t s)
{
    ck_assert_int_eq(pthread_rwlock_wrlock(&still), 0);
    pass_s(s);
    ck_assert_int_eq(pthread_rwlock_unlock(&still), 0);
}

struct crowd {
    _Atomic unsigned asked;
    _Atomic unsigned admitted;
    _Atomic bool stop;
};

static void ask_once(struct crowd *c, struct cm_config *cfg)
{
    struct cm_err why = CM_ERR_INIT;

    (void)atomic_fetch_add(&c->asked, 1);
    if (cm_ca_admit(cfg, NULL, 0, &order, &why) != CM_OK)
        return;
    (void)atomic_fetch_add(&c->admitted, 1);
    (void)cm_fail(&why, CM_E_NET, "down");
    why.whole_ca = true;
    cm_ca_outcome(cfg, NULL, 0, CM_E_NET, &why);
}

static void *come_and_go(void *arg)
{
    struct crowd *c = arg;

    for (unsigned i = 0; !atomic_load(&c->stop); i++) {
        (void)pthread_rwlock_rdlock(&still);
        ask_once(c, i % 2 == 0 ? k.cfg : peer);
        (void)pthread_rwlock_unlock(&still);
    }
    return NULL;
}

START_TEST(threads_of_two_nodes_send_one_probe_between_them)
{
    struct crowd c = { .admitted = 0 };
    pthread_t threads[6];

    set_up();
    break_it(k.cfg);
    ck_refused(ask(peer), CM_E_AGAIN);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, &c), 0);
    for (unsigned i = 0; i < 4; i++) {
        pass_between(60 << i);
        kit_until(atomic_load(&c.admitted) == i + 1);
        pass_between(5); /* whoever found the lock taken comes back; nobody gets in */
        unsigned asked = atomic_load(&c.asked);
        kit_until(atomic_load(&c.asked) > asked + 200);
        ck_assert_uint_eq(atomic_load(&c.admitted), i + 1);
    }
    atomic_store(&c.stop, true);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    tear_down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_cas_wish_to_be_left_alone_is_obeyed,
        a_pause_is_for_the_whole_fleet_and_over_when_orders_succeed,
        a_flood_of_the_same_answer_is_stored_once,
        no_pause_is_longer_than_a_day_whatever_ca_and_clocks_say,
        a_clock_that_goes_back_does_not_make_a_pause_longer,
        too_many_without_saying_how_long_is_ten_minutes,
        a_limit_on_one_name_pauses_nobody,
        five_failures_of_the_cas_own_open_it_others_do_not,
        while_it_is_open_the_fleet_sends_one_probe_and_ever_more_seldom,
        a_probe_that_never_came_back_is_not_waited_for,
        success_closes_it_for_all_and_lets_them_in_little_by_little,
        the_probe_is_not_sent_twice_by_peers_at_the_same_moment,
        without_storage_each_process_goes_by_what_it_saw,
        a_probe_sent_without_storage_is_told_later,
        storage_is_read_twice_a_minute_and_not_written,
        damaged_records_hold_nobody_up,
        a_canceled_operation_is_not_admitted,
        no_more_orders_than_the_ca_allows,
        those_turned_away_come_back_spread_over_the_window,
        what_does_not_count_is_let_in,
        an_issuer_with_impossible_limits_is_refused,
        threads_of_two_nodes_send_one_probe_between_them,
    };
    return kit_run("cagate", tests, CM_ARRAY_LEN(tests));
}
