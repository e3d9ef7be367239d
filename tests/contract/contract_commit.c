/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define TTL contract_ttl_ns()

static struct cm_commit_item set(const char *key, const char *text)
{
    struct cm_commit_item item = { .key = key, .value = cm_span_str(text) };

    return item;
}

static struct cm_commit_item del(const char *key)
{
    struct cm_commit_item item = { .key = key, .remove = true };

    return item;
}

START_TEST(commit_sets_replaces_and_removes)
{
    struct cm_commit_item items[4] = { set("c/n/key", "new key"), set("c/n/crt", "new crt"),
                                       del("c/n/old"), del("c/n/never") };

    put("c/n/key", "old key, longer than the new one");
    put("c/n/old", "x");
    put("c/n/stays", "x");
    must(cm_storage_commit(st, NULL, NULL, items, 4, &err));
    expect("c/n/key", "new key");
    expect("c/n/crt", "new crt");
    expect("c/n/old", NULL);
    expect("c/n/never", NULL);
    expect("c/n/stays", "x");
}
END_TEST

START_TEST(commit_that_cannot_do_one_thing_does_nothing)
{
    struct cm_commit_item items[4] = { set("k", "new"), set("m", "new"), del("gone"),
                                       set("dir", "cannot be") };

    if (!contract_backend.exact_tree)
        return;
    put("k", "old");
    put("gone", "old");
    put("dir/1", "x");
    must_fail(cm_storage_commit(st, NULL, NULL, items, 4, &err), CM_E_EXISTS);
    expect("k", "old");
    expect("m", NULL);
    expect("gone", "old");
    expect("dir/1", "x");
    items[3] = set("k/below", "cannot be");
    items[0] = set("l", "new");
    must_fail(cm_storage_commit(st, NULL, NULL, items, 4, &err), CM_E_EXISTS);
    expect("l", NULL);
    expect("gone", "old");
}
END_TEST

START_TEST(commit_has_bounds)
{
    struct cm_commit_item items[CM_COMMIT_MAX + 1];
    char keys[CM_COMMIT_MAX + 1][16];

    for (unsigned i = 0; i <= CM_COMMIT_MAX; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "many/%u", i);
        items[i] = set(keys[i], keys[i]);
    }
    must_fail(cm_storage_commit(st, NULL, NULL, items, CM_COMMIT_MAX + 1, &err), CM_E_INVAL);
    must_fail(cm_storage_commit(st, NULL, NULL, items, 0, &err), CM_E_INVAL);
    must_fail(cm_storage_commit(st, NULL, NULL, NULL, 1, &err), CM_E_INVAL);
    expect("many/0", NULL);
    must(cm_storage_commit(st, NULL, NULL, items, CM_COMMIT_MAX, &err));
    expect("many/63", "many/63");
    items[1].key = items[0].key;
    must_fail(cm_storage_commit(st, NULL, NULL, items, 2, &err), CM_E_INVAL);
    items[1].key = "ok";
    items[1].value.len = CM_STORAGE_VALUE_MAX + 1;
    must_fail(cm_storage_commit(st, NULL, NULL, items, 2, &err), CM_E_LIMIT);
    expect("ok", NULL);
}
END_TEST

START_TEST(commit_needs_the_lock_it_names)
{
    struct cm_commit_item items[2] = { set("p/key", "mine"), set("p/crt", "mine") };
    struct cm_grant mine;
    struct cm_grant thief;

    put("p/key", "old");
    must(cm_storage_try_lock(fake_st, &fake_op, "issue_cert_p", TTL, &mine, NULL, &err));
    must(cm_storage_commit(fake_st, &fake_op, &mine, items, 2, &err));
    expect("p/key", "mine");

    items[0] = set("p/key", "late");
    items[1] = set("p/fresh", "late");
    must_fail(cm_storage_try_lock(fake_st, &fake_op, "issue_cert_p", TTL, &thief, NULL, &err),
              CM_E_BUSY);
    contract_pass(TTL + contract_margin_ns());
    must(cm_storage_try_lock(fake_st, &fake_op, "issue_cert_p", TTL, &thief, NULL, &err));
    must_fail(cm_storage_commit(fake_st, &fake_op, &mine, items, 2, &err), CM_E_LOCK_LOST);
    expect("p/key", "mine");
    expect("p/fresh", NULL);

    items[0] = set("p/key", "the thief's");
    must(cm_storage_commit(fake_st, &fake_op, &thief, items, 1, &err));
    expect("p/key", "the thief's");
    must_fail(cm_storage_unlock(fake_st, &fake_op, &mine, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_commit(fake_st, &fake_op, &mine, items, 1, &err), CM_E_LOCK_LOST);
    must(cm_storage_unlock(fake_st, &fake_op, &thief, &err));
    must_fail(cm_storage_commit(fake_st, &fake_op, &thief, items, 1, &err), CM_E_LOCK_LOST);
}
END_TEST

/* What counts is whether somebody else may have acted, not the clock alone. A server may have
 * forgotten by then whose lock it was; then nothing is changed. */
START_TEST(commit_works_late_if_nobody_took_the_lock)
{
    struct cm_commit_item item = set("late", "but ours");
    struct cm_grant mine;
    cm_status rc;

    must(cm_storage_try_lock(fake_st, &fake_op, "l", TTL, &mine, NULL, &err));
    contract_pass(2 * TTL);
    rc = cm_storage_commit(fake_st, &fake_op, &mine, &item, 1, &err);
    if (contract_backend.server_clock && rc == CM_E_LOCK_LOST) {
        expect("late", NULL);
        must_fail(cm_storage_unlock(fake_st, &fake_op, &mine, &err), CM_E_LOCK_LOST);
        return;
    }
    must(rc);
    expect("late", "but ours");
    must(cm_storage_unlock(fake_st, &fake_op, &mine, &err));
}
END_TEST

struct counting {
    _Atomic unsigned failed;
};

/* Read, add one, commit under the lock: lost updates would show in the sum. */
static void *count_up(void *arg)
{
    struct counting *c = arg;

    for (int i = 0; i < 15; i++) {
        struct cm_lease_options opts = CM_LEASE_OPTIONS_INIT;
        struct cm_buf got = CM_BUF_INIT(32);
        struct cm_lease *lease = NULL;
        struct cm_err e = CM_ERR_INIT;
        struct cm_commit_item item = { .key = "sum" };
        char text[16];
        unsigned n = 0;

        opts.ttl_ns = 5 * CM_NS_PER_S;
        if (cm_lease_acquire(st, NULL, "sum", &opts, &lease, &e) != CM_OK) {
            c->failed++;
            continue;
        }
        if (cm_storage_load(st, NULL, "sum", &got, &e) != CM_OK ||
            sscanf(cm_buf_str(&got), "%u", &n) != 1)
            c->failed++;
        (void)snprintf(text, sizeof text, "%u", n + 1);
        item.value = cm_span_str(text);
        if (cm_lease_commit(lease, NULL, &item, 1, &e) != CM_OK)
            c->failed++;
        cm_lease_release(lease);
        cm_buf_free(&got);
    }
    return NULL;
}

START_TEST(no_update_under_a_lock_is_lost)
{
    struct counting c = { 0 };
    pthread_t threads[6];

    put("sum", "0");
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_up, &c), 0);
    for (int i = 0; i < 6; i++)
        (void)pthread_join(threads[i], NULL);
    ck_assert_uint_eq(c.failed, 0);
    expect("sum", "90");
}
END_TEST

TCase *contract_commit_cases(void)
{
    TCase *c = tcase_create("commit");

    tcase_add_test(c, commit_sets_replaces_and_removes);
    tcase_add_test(c, commit_that_cannot_do_one_thing_does_nothing);
    tcase_add_test(c, commit_has_bounds);
    tcase_add_test(c, commit_needs_the_lock_it_names);
    tcase_add_test(c, commit_works_late_if_nobody_took_the_lock);
    tcase_add_test(c, no_update_under_a_lock_is_lost);
    return c;
}
