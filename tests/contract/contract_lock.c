/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TTL contract_ttl_ns()

/* All on the fake clock, so that nothing waits, where the backend goes by it. */
static cm_status try_lock(const char *name, struct cm_grant *grant)
{
    return cm_storage_try_lock(fake_st, &fake_op, name, TTL, grant, NULL, &err);
}

static cm_status refresh(struct cm_grant *grant)
{
    return cm_storage_refresh(fake_st, &fake_op, grant, &err);
}

static cm_status unlock(struct cm_grant *grant)
{
    return cm_storage_unlock(fake_st, &fake_op, grant, &err);
}

START_TEST(a_lock_has_one_holder)
{
    struct cm_storage *other = contract_open(&fake.env);
    struct cm_grant mine;
    struct cm_grant theirs = { .fence = 77 };
    int64_t wait_ns = 0;

    must(try_lock("one", &mine));
    must_fail(try_lock("one", &theirs), CM_E_BUSY);
    must_fail(cm_storage_try_lock(other, &fake_op, "one", TTL, &theirs, &wait_ns, &err), CM_E_BUSY);
    ck_assert(wait_ns > 0 && wait_ns <= TTL);
    ck_assert_uint_eq(theirs.fence, 77);
    must(unlock(&mine));
    must(cm_storage_try_lock(other, &fake_op, "one", TTL, &theirs, &wait_ns, &err));
    must_fail(try_lock("one", &mine), CM_E_BUSY);
    must(cm_storage_unlock(other, &fake_op, &theirs, &err));
    cm_storage_close(other);
}
END_TEST

START_TEST(fences_grow_and_tokens_differ)
{
    struct cm_grant g;
    uint64_t fence = 0;
    char token[sizeof g.token] = "";

    for (int i = 0; i < (contract_backend.server_clock ? 6 : 20); i++) {
        must(try_lock("f", &g));
        ck_assert_str_eq(g.name, "f");
        ck_assert_msg(g.fence > fence, "fence %llu after %llu", (unsigned long long)g.fence,
                      (unsigned long long)fence);
        ck_assert_str_ne(g.token, token);
        ck_assert(strlen(g.token) >= 16);
        ck_assert(g.ttl_ns > 0 && g.ttl_ns <= TTL);
        fence = g.fence;
        memcpy(token, g.token, sizeof token);
        if (i % 2 == 0) {
            must(unlock(&g));
        } else {
            struct cm_grant thief;

            must_fail(try_lock("f", &thief), CM_E_BUSY);
            contract_pass(TTL + contract_margin_ns());
            must(try_lock("f", &thief));
            ck_assert(thief.fence > fence);
            fence = thief.fence;
            must_fail(unlock(&g), CM_E_LOCK_LOST);
            must(unlock(&thief));
        }
    }
}
END_TEST

START_TEST(locks_of_different_names_are_different)
{
    static const char *const names[] = {
        "issue_cert_*.example.com",
        "issue_cert_example.com",
        "register_acme_account_a@b.example",
        "stek_check",
    };
    struct cm_grant grants[4];
    char longest[CM_LOCK_NAME_MAX + 1];
    struct cm_grant g;
    struct cm_grant h;

    for (int i = 0; i < 4; i++)
        must(try_lock(names[i], &grants[i]));
    for (int i = 0; i < 4; i++)
        must(unlock(&grants[i]));
    size_t len = contract_backend.key_max > 0 ? contract_backend.key_max : CM_LOCK_NAME_MAX;
    memset(longest, 'n', sizeof longest);
    longest[len] = '\0';
    must(try_lock(longest, &g));
    longest[len - 1] = 'm';
    must(try_lock(longest, &h));
    must(unlock(&g));
    must(unlock(&h));
}
END_TEST

START_TEST(bad_lock_names_are_refused)
{
    char too_long[CM_LOCK_NAME_MAX + 2];
    struct cm_grant g;

    memset(too_long, 'n', sizeof too_long);
    too_long[CM_LOCK_NAME_MAX + 1] = '\0';
    must_fail(try_lock("", &g), CM_E_INVAL);
    must_fail(try_lock(NULL, &g), CM_E_INVAL);
    must_fail(try_lock("a\nb", &g), CM_E_INVAL);
    must_fail(try_lock(too_long, &g), CM_E_INVAL);
    must_fail(cm_storage_try_lock(fake_st, &fake_op, "n", 0, &g, NULL, &err), CM_E_INVAL);
}
END_TEST

START_TEST(locks_are_not_values)
{
    struct cm_key_info info;
    struct cm_grant g;

    must(try_lock("hidden", &g));
    put("v", "x");
    must_fail(cm_storage_stat(fake_st, &fake_op, "hidden", &info, &err), CM_E_NOTFOUND);
    must(refresh(&g));
    must(unlock(&g));
}
END_TEST

static bool has_server_wall(void)
{
    return contract_backend.server_clock && !contract_backend.lent_wall;
}

static int64_t wall_ns(void)
{
    return has_server_wall() ? cm_env_system()->wall_ns(cm_env_system())
                             : atomic_load(&fake.wall_ns);
}

static void expect_time(int64_t got_ns, int64_t want_ns)
{
    int64_t off_ns = has_server_wall() ? 5 * CM_NS_PER_S : 0;

    ck_assert_int_ge(got_ns, want_ns - off_ns);
    ck_assert_int_le(got_ns, want_ns + off_ns);
}

static cm_status lock_info(const char *name, struct cm_lock_info *ret)
{
    return cm_storage_lock_info(fake_st, &fake_op, name, ret, &err);
}

START_TEST(who_holds_a_lock_can_be_told)
{
    struct cm_lock_info info = { .size = sizeof info };
    struct cm_lock_info small = { .size = offsetof(struct cm_lock_info, since_ns), .since_ns = 77 };
    struct cm_lock_info kept = { .size = sizeof kept, .since_ns = 77 };
    struct cm_grant g;
    char pid[32];

    if (fake_st->ops->lock_info == NULL) {
        must_fail(lock_info("who", &info), CM_E_UNSUPPORTED);
        return;
    }
    must_fail(lock_info("who", &kept), CM_E_NOTFOUND);
    ck_assert_int_eq(kept.since_ns, 77);
    int64_t since_ns = wall_ns();
    must(try_lock("who", &g));
    contract_pass(TTL / 2);
    must(lock_info("who", &info));
    (void)snprintf(pid, sizeof pid, "%ld", (long)getpid());
    ck_assert_msg(strstr(info.holder, pid) != NULL, "holder '%s'", info.holder);
    expect_time(info.since_ns, since_ns);
    expect_time(info.refreshed_ns, since_ns);
    must(refresh(&g));
    must(lock_info("who", &info));
    expect_time(info.since_ns, since_ns);
    expect_time(info.refreshed_ns, since_ns + TTL / 2);
    ck_assert(info.refreshed_ns - info.since_ns >= TTL / 2 - contract_margin_ns());
    must(lock_info("who", &small));
    ck_assert_int_eq(small.since_ns, 77); /* not in the caller's struct */
    must_fail(lock_info("who else", &kept), CM_E_NOTFOUND);
    must(refresh(&g)); /* to ask changes nothing */
    must(unlock(&g));
    must_fail(lock_info("who", &kept), CM_E_NOTFOUND);
    ck_assert_int_eq(kept.since_ns, 77);
}
END_TEST

START_TEST(nobody_holds_an_abandoned_lock)
{
    struct cm_lock_info info = { .size = sizeof info };
    struct cm_grant g;

    if (fake_st->ops->lock_info == NULL) {
        must_fail(lock_info("left", &info), CM_E_UNSUPPORTED);
        return;
    }
    must(try_lock("left", &g));
    must(lock_info("left", &info));
    contract_pass(TTL + contract_margin_ns());
    must_fail(lock_info("left", &info), CM_E_NOTFOUND);
    cm_storage_drop(fake_st, &g);
}
END_TEST

START_TEST(an_abandoned_lock_is_taken_over_and_its_old_holder_harms_nobody)
{
    struct cm_grant old;
    struct cm_grant thief;
    struct cm_grant third;

    must(try_lock("t", &old));
    must_fail(try_lock("t", &thief), CM_E_BUSY); /* a backend may need to have seen it once */
    contract_pass(TTL - contract_margin_ns());
    must_fail(try_lock("t", &thief), CM_E_BUSY);
    contract_pass(2 * contract_margin_ns());
    must(try_lock("t", &thief));
    ck_assert(thief.fence > old.fence);

    must_fail(refresh(&old), CM_E_LOCK_LOST);
    must(refresh(&thief));
    must_fail(unlock(&old), CM_E_LOCK_LOST);
    must_fail(try_lock("t", &third), CM_E_BUSY);
    must(refresh(&thief));
    must(unlock(&thief));
    must(try_lock("t", &third));
    must(unlock(&third));
}
END_TEST

START_TEST(a_refreshed_lock_is_not_taken_over)
{
    struct cm_grant mine;
    struct cm_grant other;

    must(try_lock("r", &mine));
    for (int i = 0; i < (contract_backend.server_clock ? 4 : 10); i++) {
        must_fail(try_lock("r", &other), CM_E_BUSY);
        contract_pass(TTL - contract_margin_ns());
        must_fail(try_lock("r", &other), CM_E_BUSY);
        must(refresh(&mine));
    }
    must(unlock(&mine));
}
END_TEST

START_TEST(unlock_ends_a_grant)
{
    struct cm_grant g;
    struct cm_grant copy;

    must(try_lock("u", &g));
    must(unlock(&g));
    copy = g;
    must_fail(refresh(&g), CM_E_LOCK_LOST);
    must_fail(unlock(&g), CM_E_LOCK_LOST);
    must_fail(unlock(&copy), CM_E_LOCK_LOST);
}
END_TEST

START_TEST(drop_lets_go_without_unlocking_for_another)
{
    struct cm_grant old;
    struct cm_grant thief;

    must(try_lock("d", &old));
    must_fail(try_lock("d", &thief), CM_E_BUSY);
    contract_pass(TTL + contract_margin_ns());
    must(try_lock("d", &thief));
    cm_storage_drop(fake_st, &old);
    must(refresh(&thief));
    must(unlock(&thief));
}
END_TEST

struct crowd {
    _Atomic unsigned holders;
    _Atomic unsigned most;
    _Atomic unsigned grants;
    _Atomic unsigned failed;
};

static void *crowd_one(void *arg)
{
    struct crowd *c = arg;

    while (c->grants < 100) {
        struct cm_err e = CM_ERR_INIT;
        struct cm_grant g;
        cm_status rc = cm_storage_try_lock(st, NULL, "crowd", 5 * CM_NS_PER_S, &g, NULL, &e);

        if (rc != CM_OK && rc != CM_E_BUSY)
            c->failed++;
        if (rc != CM_OK)
            continue;
        if (++c->holders > 1)
            c->most++;
        c->grants++;
        c->holders--;
        if (cm_storage_unlock(st, NULL, &g, &e) != CM_OK)
            c->failed++;
    }
    return NULL;
}

START_TEST(many_threads_one_lock)
{
    struct crowd c = { .holders = 0 };
    pthread_t threads[8];

    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, crowd_one, &c), 0);
    for (int i = 0; i < 8; i++)
        (void)pthread_join(threads[i], NULL);
    ck_assert_uint_eq(c.most, 0);
    ck_assert_uint_eq(c.failed, 0);
}
END_TEST

TCase *contract_lock_cases(void)
{
    TCase *c = tcase_create("lock");

    tcase_add_test(c, a_lock_has_one_holder);
    tcase_add_test(c, fences_grow_and_tokens_differ);
    tcase_add_test(c, locks_of_different_names_are_different);
    tcase_add_test(c, bad_lock_names_are_refused);
    tcase_add_test(c, locks_are_not_values);
    tcase_add_test(c, who_holds_a_lock_can_be_told);
    tcase_add_test(c, nobody_holds_an_abandoned_lock);
    tcase_add_test(c, an_abandoned_lock_is_taken_over_and_its_old_holder_harms_nobody);
    tcase_add_test(c, a_refreshed_lock_is_not_taken_over);
    tcase_add_test(c, unlock_ends_a_grant);
    tcase_add_test(c, drop_lets_go_without_unlocking_for_another);
    tcase_add_test(c, many_threads_one_lock);
    return c;
}
