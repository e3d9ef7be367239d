/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "maintain.h"

/* Certificates that are loaded and never ordered. */

#define DAY_S INT64_C(86400)

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

static struct cm_name_state state_of(const char *name)
{
    struct cm_name_state st;

    memset(&st, 0, sizeof st);
    ck_ok(cm_name_state(k.cfg, name, &st, &err));
    return st;
}

static int64_t since_s(const char *sni)
{
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;
    int64_t since = 0;

    kit_hello(&h, sni);
    if (cm_get_certificate(k.cfg, &h, &c, &p, NULL) == CM_OK)
        since = cm_cert_not_before_s(c) + 60; /* which the CA puts before */
    cm_pending_free(p);
    cm_cert_unref(c);
    return since;
}

static void until_idle(void)
{
    kit_until(cm_maint_in_flight(cm_cache_maint(k.cfg->cache)) == 0 &&
              cm_cache_next_due_s(k.cfg->cache) > cm_env_wall_s(k.cfg->env));
}

static void store(int64_t from_s)
{
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", from_s, 90 * DAY_S);
}

START_TEST(it_is_served_at_once)
{
    struct cm_cert *c = NULL;

    kit_init(&k);
    kit_start(&k);
    store(START_S - DAY_S);
    ck_ok(cm_cache_managed(k.cfg, NULL, "Example.com", &c, &err));
    ck_assert(cm_cert_is_managed(c));
    ck_assert_int_eq(since_s("example.com"), START_S - DAY_S);
    struct cm_name_state st = state_of("example.com");
    ck_assert(st.managed && st.served && st.load_only);
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err)); /* the same once more */
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 1);
    cm_cert_unref(c);
    kit_stop(&k);
}
END_TEST

START_TEST(nothing_in_storage_is_told_and_nothing_noted)
{
    struct cm_name_state st;

    kit_init(&k);
    kit_start(&k);
    ck_refused(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err), CM_E_NOTFOUND);
    ck_refused(cm_name_state(k.cfg, "example.com", &st, &err), CM_E_NOTFOUND);
    store(START_S - 99 * DAY_S);
    ck_refused(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err), CM_E_CERT);
    ck_assert_ptr_nonnull(strstr(err.msg, "expired"));
    store(START_S + 5 * DAY_S);
    ck_refused(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err), CM_E_CERT);
    ck_assert_ptr_nonnull(strstr(err.msg, "not valid yet"));
    ck_refused(cm_cache_managed(k.cfg, NULL, "not a name", NULL, &err), CM_E_INVAL);
    atomic_store(&k.storage.fail_loads, -1);
    ck_refused(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err), CM_E_IO);
    ck_refused(cm_name_state(k.cfg, "example.com", &st, &err), CM_E_NOTFOUND);
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(its_successor_is_served_and_never_ordered)
{
    kit_init(&k);
    kit_start(&k);
    store(START_S - DAY_S);
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err));
    until_idle();
    kit_pass(&k.env, 70 * DAY_S * CM_NS_PER_S);
    until_idle();
    ck_assert_int_eq(since_s("example.com"), START_S - DAY_S);
    /* Somebody else renews it. */
    store(START_S + 69 * DAY_S);
    kit_pass(&k.env, 601 * CM_NS_PER_S);
    kit_until(since_s("example.com") == START_S + 69 * DAY_S);
    /* Nobody does: it is served past its end. */
    kit_pass(&k.env, 100 * DAY_S * CM_NS_PER_S);
    until_idle();
    ck_assert_int_eq(since_s("example.com"), START_S + 69 * DAY_S);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(looking_for_a_successor_costs_little)
{
    kit_init(&k);
    kit_start(&k);
    store(START_S - DAY_S);
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err));
    kit_pass(&k.env, 70 * DAY_S * CM_NS_PER_S);
    until_idle();
    unsigned loads = atomic_load(&k.storage.loads);
    for (int i = 0; i < 100; i++)
        kit_nap();
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads); /* the clock stands still */
    ck_assert_int_ge(cm_cache_next_due_s(k.cfg->cache), cm_env_wall_s(k.cfg->env) + 500);
    kit_stop(&k);
}
END_TEST

START_TEST(what_was_given_up_is_loaded_again)
{
    kit_init(&k);
    kit_start(&k);
    store(START_S - DAY_S);
    struct cm_cert *c = NULL;
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", &c, &err));
    until_idle();
    ck_assert(cm_cache_remove(k.cfg->cache, c));
    cm_cert_unref(c);
    (void)since_s("example.com"); /* which waits for it */
    kit_until(since_s("example.com") == START_S - DAY_S);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(what_has_gone_from_storage_is_not_ordered_either)
{
    struct cm_cert *c = NULL;

    kit_init(&k);
    kit_start(&k);
    store(START_S - DAY_S);
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", &c, &err));
    until_idle();
    ck_ok(cm_storage_remove(&k.storage.base, NULL,
                            "certificates/ca.test-dir/example.com/example.com.crt", &err));
    ck_assert(cm_cache_remove(k.cfg->cache, c));
    cm_cert_unref(c);
    (void)since_s("example.com");
    kit_until(!state_of("example.com").served && !state_of("example.com").busy &&
              state_of("example.com").last.status == CM_E_NOTFOUND);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    store(START_S - DAY_S / 2);
    kit_pass(&k.env, 601 * CM_NS_PER_S);
    kit_until(since_s("example.com") == START_S - DAY_S / 2);
    kit_stop(&k);
}
END_TEST

START_TEST(managing_it_makes_it_managed_in_full)
{
    kit_init(&k);
    kit_start(&k);
    store(START_S - DAY_S);
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err));
    kit_pass(&k.env, 70 * DAY_S * CM_NS_PER_S);
    until_idle();
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_assert(!state_of("example.com").load_only);
    kit_until(since_s("example.com") > START_S);
    ck_assert_uint_eq(atomic_load(&k.issuer->issued), 1);
    /* And it does not go back. */
    ck_ok(cm_cache_managed(k.cfg, NULL, "example.com", NULL, &err));
    ck_assert(!state_of("example.com").load_only);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        it_is_served_at_once,
        nothing_in_storage_is_told_and_nothing_noted,
        its_successor_is_served_and_never_ordered,
        looking_for_a_successor_costs_little,
        what_was_given_up_is_loaded_again,
        what_has_gone_from_storage_is_not_ordered_either,
        managing_it_makes_it_managed_in_full,
    };

    return kit_run("loaded", tests, CM_ARRAY_LEN(tests));
}
