/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "maintain.h"

/* Names in the background, and the token that ends that. */

static struct kit k;
static struct cm_err err;
static struct cm_cancel *token;
static const char *const example[] = { "example.com" };

static void begin(void)
{
    kit_init(&k);
    ck_ok(cm_cancel_new(NULL, &token, &err));
}

static void end(void)
{
    kit_stop(&k);
    cm_cancel_free(token);
}

static struct cm_name_state state_of(const char *name)
{
    struct cm_name_state st;

    memset(&st, 0, sizeof st);
    ck_ok(cm_name_state(k.cfg, name, &st, &err));
    return st;
}

static bool is_ended(const char *name)
{
    struct cm_name_state st = state_of(name);

    return !st.busy && !st.served && st.phase == CM_PHASE_FAILED && st.last.status == CM_E_CANCELED;
}

START_TEST(token_ends_an_order_that_runs)
{
    begin();
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(atomic_load(&k.issuer->inside) == 1);
    cm_cancel_fire(token);
    kit_until(is_ended("example.com"));
    ck_assert_uint_eq(atomic_load(&k.issuer->inside), 0);
    /* and time brings no other */
    atomic_store(&k.issuer->hold, false);
    kit_pass(&k.env, 3 * 86400 * CM_NS_PER_S);
    for (int i = 0; i < 50; i++)
        kit_nap();
    ck_assert(is_ended("example.com"));
    ck_assert_uint_eq(atomic_load(&k.issuer->issued), 0);
    /* until somebody asks for it */
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_assert(state_of("example.com").served);
    end();
}
END_TEST

START_TEST(token_ends_what_stands_in_line)
{
    static const char *const names[] = { "a.example", "b.example", "c.example", "d.example" };
    size_t n = CM_ARRAY_LEN(names);

    begin();
    k.opts.max_parallel = 1;
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err)); /* without one: it goes on */
    kit_until(atomic_load(&k.issuer->inside) == 1);
    ck_ok(cm_manage_async_cancel(k.cfg, names, n, token, &err));
    for (size_t i = 0; i < n; i++)
        kit_until(state_of(names[i]).busy);
    cm_cancel_fire(token);
    for (size_t i = 0; i < n; i++)
        kit_until(is_ended(names[i]));
    atomic_store(&k.issuer->hold, false);
    kit_until(state_of("example.com").served);
    kit_until(cm_maint_in_flight(cm_cache_maint(cm_config_cache(k.cfg))) == 0);
    for (size_t i = 0; i < n; i++)
        kit_until(is_ended(names[i]));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    end();
}
END_TEST

START_TEST(token_that_was_fired_before_begins_nothing)
{
    begin();
    kit_start(&k);
    cm_cancel_fire(token);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(is_ended("example.com"));
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 0);
    end();
}
END_TEST

START_TEST(retry_after_a_failure_is_ended_too)
{
    begin();
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(!state_of("example.com").busy && state_of("example.com").attempts == 1);
    unsigned asked = atomic_load(&k.issuer->asked);
    cm_cancel_fire(token);
    kit_pass(&k.env, 86400 * CM_NS_PER_S);
    kit_until(is_ended("example.com"));
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), asked);
    end();
}
END_TEST

static void *wait_for_it(void *arg)
{
    static struct cm_err mine;

    (void)arg;
    return cm_manage(k.cfg, NULL, example, 1, &mine) == CM_OK ? &k : NULL;
}

START_TEST(who_waits_gets_it_although_the_token_was_fired)
{
    pthread_t thread;
    void *ret = NULL;

    begin();
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(atomic_load(&k.issuer->inside) == 1);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_it, NULL), 0);
    for (int i = 0; i < 100; i++)
        kit_nap();
    cm_cancel_fire(token);
    for (int i = 0; i < 20; i++)
        kit_nap();
    atomic_store(&k.issuer->hold, false);
    ck_assert_int_eq(pthread_join(thread, &ret), 0);
    ck_assert_ptr_nonnull(ret);
    ck_assert(state_of("example.com").served);
    end();
}
END_TEST

START_TEST(later_call_without_a_token_keeps_it_going)
{
    begin();
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(atomic_load(&k.issuer->inside) == 1);
    ck_ok(cm_manage_async(k.cfg, example, 1, &err));
    cm_cancel_fire(token); /* ends the order, and another takes it up */
    cm_cancel_free(token);
    token = NULL;
    atomic_store(&k.issuer->hold, false);
    kit_until(state_of("example.com").served);
    end();
}
END_TEST

START_TEST(what_is_served_is_renewed_although_the_token_was_fired)
{
    begin();
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 86400, 90 * 86400);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(state_of("example.com").served && !state_of("example.com").busy);
    ck_assert_uint_eq(atomic_load(&k.issuer->issued), 0);
    cm_cancel_fire(token);
    kit_pass(&k.env, 80 * 86400 * CM_NS_PER_S);
    kit_until(atomic_load(&k.issuer->issued) == 1);
    end();
}
END_TEST

START_TEST(config_goes_while_an_order_with_a_token_runs)
{
    begin();
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_ok(cm_manage_async_cancel(k.cfg, example, 1, token, &err));
    kit_until(atomic_load(&k.issuer->inside) == 1);
    end(); /* the test's time limit would end a hang */
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        token_ends_an_order_that_runs,
        token_ends_what_stands_in_line,
        token_that_was_fired_before_begins_nothing,
        retry_after_a_failure_is_ended_too,
        who_waits_gets_it_although_the_token_was_fired,
        later_call_without_a_token_keeps_it_going,
        what_is_served_is_renewed_although_the_token_was_fired,
        config_goes_while_an_order_with_a_token_runs,
    };

    return kit_run("manage_token", tests, CM_ARRAY_LEN(tests));
}
