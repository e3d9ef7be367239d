/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand_kit.h"

/* Names that are served and decided about again (recheck_s). */

#define RECHECK_S 60

static unsigned asked(void)
{
    return atomic_load(&judge.asked);
}

static void pass_s(int64_t s)
{
    kit_pass(&k.env, s * CM_NS_PER_S);
}

static void begin(enum manner manner)
{
    set_up(manner);
    od.recheck_s = RECHECK_S;
    kit_start(&k);
}

/* A decision that does not come: the client waits, then the time is over. */
static cm_status get_in_vain(const char *sni)
{
    unsigned kept = atomic_load(&judge.n_kept);
    struct cm_pending *p;

    atomic_store(&judge.manner, KEEP);
    ck_refused(hello_from("192.0.2.7", sni, &p), CM_E_AGAIN);
    kit_until(atomic_load(&judge.n_kept) == kept + 1);
    kit_pass(&k.env, 2000 * CM_NS_PER_MS);
    cm_status rc = outcome(p);
    cm_decision_answer(judge.kept[kept], false, "too late");
    return rc;
}

START_TEST(without_it_nobody_is_asked_again)
{
    set_up(YES);
    kit_start(&k);
    ck_assert_ptr_null(k.cfg->recheck);
    ck_ok(get("a.example"));
    atomic_store(&judge.manner, NO);
    pass_s(24 * 3600);
    ck_ok(get("a.example"));
    ck_assert_uint_eq(asked(), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(a_yes_lasts_and_a_no_is_a_no)
{
    begin(YES);
    ck_ok(get("a.example"));
    pass_s(RECHECK_S - 1);
    for (int i = 0; i < 3; i++)
        ck_ok(get("a.example"));
    ck_assert_uint_eq(asked(), 1);
    pass_s(1);
    ck_ok(get("a.example"));
    ck_ok(get("a.example"));
    ck_assert_uint_eq(asked(), 2);
    ck_assert_int_eq(atomic_load(&judge.last), CM_ONDEMAND_SERVE);
    atomic_store(&judge.manner, NO);
    pass_s(RECHECK_S);
    ck_refused(get("a.example"), CM_E_POLICY);
    ck_assert_int_eq(err.tls_alert, CM_ALERT_UNRECOGNIZED_NAME);
    ck_refused(get("a.example"), CM_E_POLICY); /* denied lately */
    ck_assert_uint_eq(asked(), 3);
    atomic_store(&judge.manner, YES);
    pass_s(10);
    ck_ok(get("a.example"));
    ck_ok(get("a.example"));
    ck_assert_uint_eq(asked(), 4);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(a_herd_is_one_question)
{
    struct cm_pending *p[20];

    begin(YES);
    ck_ok(get("a.example"));
    pass_s(RECHECK_S);
    atomic_store(&judge.manner, KEEP);
    for (size_t i = 0; i < CM_ARRAY_LEN(p); i++)
        ck_refused(hello_from("192.0.2.7", "a.example", &p[i]), CM_E_AGAIN);
    kit_until(atomic_load(&judge.n_kept) == 1);
    cm_decision_answer(judge.kept[0], true, NULL);
    for (size_t i = 0; i < CM_ARRAY_LEN(p); i++)
        ck_ok(outcome(p[i]));
    ck_assert_uint_eq(asked(), 2);
    kit_stop(&k);
}
END_TEST

START_TEST(what_the_program_manages_needs_no_yes)
{
    static const char *const managed[] = { "m.example" };

    begin(NO);
    ck_ok(cm_manage(k.cfg, NULL, managed, 1, &err));
    pass_s(2 * RECHECK_S);
    ck_ok(get("m.example"));
    ck_assert_uint_eq(asked(), 0);
    kit_stop(&k);
}
END_TEST

/* No answer is no new decision: the last one holds, whichever it was. */
START_TEST(when_nobody_can_be_asked_the_last_decision_holds)
{
    begin(YES);
    ck_ok(get("a.example"));
    pass_s(RECHECK_S);
    ck_ok(get_in_vain("a.example"));
    unsigned before = asked();
    ck_ok(get("a.example")); /* for ten seconds without a question */
    ck_assert_uint_eq(asked(), before);
    pass_s(10);
    atomic_store(&judge.manner, NO);
    ck_refused(get("a.example"), CM_E_POLICY);
    pass_s(10);
    ck_refused(get_in_vain("a.example"), CM_E_POLICY);
    atomic_store(&judge.manner, YES);
    pass_s(40);
    ck_ok(get("a.example"));
    kit_stop(&k);
}
END_TEST

/* A flood of names takes nobody off the net. */
START_TEST(when_too_many_ask_the_last_yes_holds)
{
    struct cm_pending *p[2];

    set_up(YES);
    od.recheck_s = RECHECK_S;
    od.max_asking = 1;
    kit_start(&k);
    ck_ok(get("a.example"));
    pass_s(RECHECK_S);
    atomic_store(&judge.manner, KEEP);
    ck_refused(hello_from("192.0.2.9", "flood.example", &p[0]), CM_E_AGAIN);
    kit_until(atomic_load(&judge.n_kept) == 1);
    ck_refused(hello_from("192.0.2.9", "more.example", &p[1]), CM_E_LIMIT);
    ck_ok(get("a.example"));
    cm_decision_answer(judge.kept[0], false, NULL);
    ck_refused(outcome(p[0]), CM_E_POLICY);
    kit_stop(&k);
}
END_TEST

START_TEST(what_was_evicted_is_decided_about_too)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .capacity = 1 };
    struct cm_cache *cache = NULL;

    set_up(YES);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    od.recheck_s = RECHECK_S;
    kit_start(&k);
    ck_ok(get("a.example"));
    ck_ok(get("b.example"));
    pass_s(RECHECK_S);
    ck_ok(get("a.example"));
    ck_ok(get("b.example"));
    ck_ok(get("a.example"));
    ck_assert_uint_eq(asked(), 4);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_ok(get("b.example"));
    pass_s(RECHECK_S);
    atomic_store(&judge.manner, NO);
    ck_refused(get("a.example"), CM_E_POLICY);
    kit_stop(&k);
    cm_cache_free(cache);
}
END_TEST

static cm_status shop(void *user, const char *name, char *ret_subject)
{
    (void)user;
    (void)snprintf(ret_subject, 256, "*%s", strchr(name, '.'));
    return CM_OK;
}

/* The yes for one host is none for the next one. */
START_TEST(each_host_below_a_wildcard_is_decided_about)
{
    set_up(YES);
    od.recheck_s = RECHECK_S;
    od.subject = shop;
    kit_start(&k);
    ck_ok(get("a.shop.test"));
    ck_ok(get("b.shop.test"));
    ck_assert_uint_eq(asked(), 2);
    ck_refused(get_in_vain("c.shop.test"), CM_E_POLICY);
    atomic_store(&judge.manner, NO);
    ck_refused(get("d.shop.test"), CM_E_POLICY);
    ck_ok(get("a.shop.test"));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

/* Storage has no part in it. */
START_TEST(it_needs_no_storage)
{
    begin(YES);
    ck_ok(get("a.example"));
    pass_s(RECHECK_S);
    atomic_store(&k.storage.fail_status, CM_E_IO);
    atomic_store(&k.storage.fail_loads, -1);
    atomic_store(&k.storage.fail_stats, -1);
    atomic_store(&k.storage.fail_locks, -1);
    ck_ok(get("a.example"));
    ck_assert_uint_eq(asked(), 2);
    kit_stop(&k);
}
END_TEST

START_TEST(options_that_make_no_sense)
{
    struct cm_config *cfg = NULL;
    struct cm_issuer *is;

    set_up(YES);
    is = kit_issuer_new(&k.env, "ca.test-dir");
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    od.recheck_s = -1;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "recheck_s: -1"));
    od.recheck_s = 24 * 3600 + 1;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "recheck_s: 86401"));
    od.recheck_s = 1;
    od.decide = NULL;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "nobody decides"));
    od.recheck_s = 0;
    kit_start(&k);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        without_it_nobody_is_asked_again,
        a_yes_lasts_and_a_no_is_a_no,
        a_herd_is_one_question,
        what_the_program_manages_needs_no_yes,
        when_nobody_can_be_asked_the_last_decision_holds,
        when_too_many_ask_the_last_yes_holds,
        what_was_evicted_is_decided_about_too,
        each_host_below_a_wildcard_is_decided_about,
        it_needs_no_storage,
        options_that_make_no_sense,
    };

    return kit_run("ondemand_recheck", tests, CM_ARRAY_LEN(tests));
}
