/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ values */

START_TEST(store_then_load_gives_the_bytes)
{
    const uint8_t bytes[] = { 0, 255, '\n', 0, 'x', 13, 0 };
    struct cm_buf got = CM_BUF_INIT(64);

    must(
        cm_storage_store(st, NULL, "a/b/bytes.bin", (struct cm_span){ bytes, sizeof bytes }, &err));
    must(cm_storage_load(st, NULL, "a/b/bytes.bin", &got, &err));
    ck_assert_uint_eq(got.len, sizeof bytes);
    ck_assert_mem_eq(got.data, bytes, sizeof bytes);
    cm_buf_free(&got);
}
END_TEST

START_TEST(store_replaces_the_whole_value)
{
    put("sites/a.example/a.example.json", "a longer first value");
    put("sites/a.example/a.example.json", "short");
    expect("sites/a.example/a.example.json", "short");
}
END_TEST

START_TEST(an_empty_value_is_a_value)
{
    struct cm_key_info info;

    put("empty", "");
    expect("empty", "");
    must(cm_storage_stat(st, NULL, "empty", &info, &err));
    ck_assert_uint_eq(info.size, 0);
    ck_assert(info.terminal);
}
END_TEST

START_TEST(load_of_absent_key_is_notfound_and_leaves_output_alone)
{
    struct cm_buf got = CM_BUF_INIT(64);

    must(cm_buf_append(&got, "keep", 4, &err));
    must_fail(cm_storage_load(st, NULL, "no/such", &got, &err), CM_E_NOTFOUND);
    ck_assert_uint_eq(got.len, 4);
    ck_assert_msg(strstr(err.msg, "no/such") != NULL, "error must name the key: %s", err.msg);
    put("no/other", "x");
    must_fail(cm_storage_load(st, NULL, "no/such", &got, &err), CM_E_NOTFOUND);
    must_fail(cm_storage_load(st, NULL, "no", &got, &err), CM_E_NOTFOUND);
    must_fail(cm_storage_load(st, NULL, "no/other/below", &got, &err), CM_E_NOTFOUND);
    ck_assert_str_eq(cm_buf_str(&got), "keep");
    cm_buf_free(&got);
}
END_TEST

START_TEST(load_appends)
{
    struct cm_buf got = CM_BUF_INIT(8);

    put("a", "1234");
    must(cm_storage_load(st, NULL, "a", &got, &err));
    must(cm_storage_load(st, NULL, "a", &got, &err));
    ck_assert_str_eq(cm_buf_str(&got), "12341234");
    must_fail(cm_storage_load(st, NULL, "a", &got, &err), CM_E_LIMIT);
    ck_assert_str_eq(cm_buf_str(&got), "12341234");
    cm_buf_free(&got);
}
END_TEST

START_TEST(a_value_may_be_as_large_as_the_maximum_and_no_larger)
{
    uint8_t *big = calloc(1, CM_STORAGE_VALUE_MAX + 1);
    const size_t most = CM_STORAGE_VALUE_MAX - contract_backend.value_overhead;
    struct cm_buf got = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);

    ck_assert_ptr_nonnull(big);
    memset(big, 'x', most + 1);
    must(cm_storage_store(st, NULL, "big", (struct cm_span){ big, most }, &err));
    must_fail(cm_storage_store(st, NULL, "big", (struct cm_span){ big, most + 1 }, &err),
              CM_E_LIMIT);
    must(cm_storage_load(st, NULL, "big", &got, &err));
    ck_assert_uint_eq(got.len, most);
    ck_assert_mem_eq(got.data, big, most);
    got.len = 0;
    got.max = most - 1;
    must_fail(cm_storage_load(st, NULL, "big", &got, &err), CM_E_LIMIT);
    cm_buf_free(&got);
    free(big);
}
END_TEST

START_TEST(remove_takes_a_value_and_missing_is_fine)
{
    put("a/b", "x");
    must(cm_storage_remove(st, NULL, "a/b", &err));
    expect("a/b", NULL);
    must(cm_storage_remove(st, NULL, "a/b", &err));
    must(cm_storage_remove(st, NULL, "never/was", &err));
}
END_TEST

START_TEST(remove_takes_everything_below_but_not_the_neighbours)
{
    put("a/b/1", "x");
    put("a/b/c/d/2", "x");
    put("a/bc", "stays");
    put("a/b.d/1", "stays");
    must(cm_storage_remove(st, NULL, "a/b", &err));
    expect("a/b/1", NULL);
    expect("a/b/c/d/2", NULL);
    expect("a/bc", "stays");
    expect("a/b.d/1", "stays");
}
END_TEST

START_TEST(stat_tells_values_directories_and_absence_apart)
{
    struct cm_key_info info = { "untouched", 1, 2, true };
    int64_t before = cm_env_system()->wall_ns(NULL) - 5 * CM_NS_PER_S;

    must_fail(cm_storage_stat(st, NULL, "d/v", &info, &err), CM_E_NOTFOUND);
    ck_assert_str_eq(info.key, "untouched");
    put("d/v", "12345");
    must(cm_storage_stat(st, NULL, "d/v", &info, &err));
    ck_assert_str_eq(info.key, "d/v");
    ck_assert(info.terminal);
    ck_assert_uint_eq(info.size, 5);
    ck_assert(info.modified_ns > before);
    must(cm_storage_stat(st, NULL, "d", &info, &err));
    ck_assert(!info.terminal);
    ck_assert_uint_eq(info.size, 0);
    must_fail(cm_storage_stat(st, NULL, "d/v/w", &info, &err), CM_E_NOTFOUND);
}
END_TEST

START_TEST(a_directory_ceases_with_its_last_key)
{
    struct cm_key_info info;

    put("d/e/f/1", "x");
    must(cm_storage_remove(st, NULL, "d/e/f/1", &err));
    must_fail(cm_storage_stat(st, NULL, "d/e/f", &info, &err), CM_E_NOTFOUND);
    must_fail(cm_storage_stat(st, NULL, "d", &info, &err), CM_E_NOTFOUND);
    put("d/e", "a value now");
    expect("d/e", "a value now");
}
END_TEST

START_TEST(one_name_is_a_value_or_a_directory)
{
    if (!contract_backend.exact_tree)
        return;
    put("v", "x");
    put("d/1", "x");
    must_fail(cm_storage_store(st, NULL, "v/1", cm_span_str("x"), &err), CM_E_EXISTS);
    must_fail(cm_storage_store(st, NULL, "v/1/2", cm_span_str("x"), &err), CM_E_EXISTS);
    must_fail(cm_storage_store(st, NULL, "d", cm_span_str("x"), &err), CM_E_EXISTS);
    expect("v", "x");
    expect("d/1", "x");
}
END_TEST

/* ------------------------------------------------------------------- lists */

struct listing {
    char text[2048];
    unsigned n;
    unsigned fail_at;
    bool remove;
};

static cm_status note(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct listing *l = user;
    size_t len = strlen(l->text);

    l->n++;
    if (l->n == l->fail_at) {
        e->status = CM_E_POLICY;
        return CM_E_POLICY;
    }
    (void)snprintf(l->text + len, sizeof l->text - len, "%s%s ", info->key,
                   info->terminal ? "" : "/");
    return l->remove ? cm_storage_remove(st, NULL, info->key, e) : CM_OK;
}

static void expect_list(const char *prefix, bool recursive, const char *want)
{
    struct listing l = { .n = 0 };

    must(cm_storage_list(st, NULL, prefix, recursive, note, &l, &err));
    ck_assert_str_eq(l.text, want);
}

static void put_tree(void)
{
    put("t/b/2", "x");
    put("t/b/1", "x");
    put("t/b.x/1", "x");
    put("t/b/1.d/z", "x");
    put("t/a", "x");
    put("t/c", "x");
    put("tt/1", "x");
    put("s", "x");
}

START_TEST(list_shows_direct_children_in_byte_order)
{
    put_tree();
    expect_list("t", false, "t/a t/b/ t/b.x/ t/c ");
    expect_list("t/b", false, "t/b/1 t/b/1.d/ t/b/2 ");
    expect_list("", false, "s t/ tt/ ");
}
END_TEST

START_TEST(recursive_list_shows_values_only_depth_first)
{
    put_tree();
    expect_list("t", true, "t/a t/b/1 t/b/1.d/z t/b/2 t/b.x/1 t/c ");
    expect_list("", true, "s t/a t/b/1 t/b/1.d/z t/b/2 t/b.x/1 t/c tt/1 ");
}
END_TEST

START_TEST(list_of_nothing_is_empty)
{
    expect_list("", true, "");
    expect_list("no/such", false, "");
    put("v", "x");
    expect_list("v", true, "");
    put("d/1", "x");
    must(cm_storage_remove(st, NULL, "d/1", &err));
    expect_list("", false, "v ");
    expect_list("d", true, "");
}
END_TEST

START_TEST(list_ends_with_the_first_error_of_its_function)
{
    struct listing l = { .fail_at = 3 };

    put_tree();
    must_fail(cm_storage_list(st, NULL, "", true, note, &l, &err), CM_E_POLICY);
    ck_assert_uint_eq(l.n, 3);
}
END_TEST

START_TEST(list_lets_its_function_change_the_storage)
{
    struct listing l = { .remove = true };

    put_tree();
    must(cm_storage_list(st, NULL, "t", true, note, &l, &err));
    ck_assert_uint_eq(l.n, 6);
    expect_list("t", true, "");
}
END_TEST

START_TEST(list_gives_size_and_time)
{
    struct cm_key_info info;

    put("one/v", "123");
    must(cm_storage_stat(st, NULL, "one/v", &info, &err));
    ck_assert_uint_eq(info.size, 3);
    expect_list("one", false, "one/v ");
}
END_TEST

/* -------------------------------------------------------------------- keys */

START_TEST(bad_keys_are_refused_everywhere)
{
    static const char *const bad[] = {
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/.",
        "a/./b",
        "/",
        "a\n",
        "a\x7f",
        "a/b\t",
        "locks/x",
        "certmesh/tmp/x",
        "certmesh/redo",
        "certmesh/locks/y",
    };
    struct cm_buf got = CM_BUF_INIT(64);
    struct listing l = { .n = 0 };
    struct cm_key_info info;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cm_commit_item item = { .key = bad[i], .value = cm_span_str("x") };

        must_fail(cm_storage_store(st, NULL, bad[i], cm_span_str("x"), &err), CM_E_INVAL);
        must_fail(cm_storage_load(st, NULL, bad[i], &got, &err), CM_E_INVAL);
        must_fail(cm_storage_remove(st, NULL, bad[i], &err), CM_E_INVAL);
        must_fail(cm_storage_stat(st, NULL, bad[i], &info, &err), CM_E_INVAL);
        must_fail(cm_storage_list(st, NULL, bad[i], true, note, &l, &err), CM_E_INVAL);
        must_fail(cm_storage_commit(st, NULL, NULL, &item, 1, &err), CM_E_INVAL);
    }
    must_fail(cm_storage_store(st, NULL, "", cm_span_str("x"), &err), CM_E_INVAL);
    must_fail(cm_storage_store(st, NULL, NULL, cm_span_str("x"), &err), CM_E_INVAL);
    cm_buf_free(&got);
}
END_TEST

START_TEST(odd_but_legal_keys_work)
{
    static const char *const odd[] = {
        ".jp/.jp.crt", "a b/c d",          "%2e%2e/x", "...", "a\\b",
        "123456789",   "certmesh/retry/x", "x.lock",   "*",   "\xc3\xbc/\xe6\x97\xa5",
        "-rf",         "a'b\"c",
    };
    char longest[CM_STORAGE_KEY_MAX + 2];

    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        put(odd[i], odd[i]);
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        expect(odd[i], odd[i]);
    memset(longest, 'k', sizeof longest);
    longest[255] = '/';
    longest[contract_backend.key_max > 0 ? contract_backend.key_max : 511] = '\0';
    put(longest, "x");
    expect(longest, "x");
    longest[255] = 'k';
    must_fail(cm_storage_store(st, NULL, longest, cm_span_str("x"), &err), CM_E_INVAL);
    memset(longest, 'k', sizeof longest);
    for (size_t i = 1; i < CM_STORAGE_KEY_MAX - 1; i += 2)
        longest[i] = '/';
    longest[513] = '\0';
    must_fail(cm_storage_store(st, NULL, longest, cm_span_str("x"), &err), CM_E_INVAL);
}
END_TEST

START_TEST(an_operation_that_is_over_does_nothing)
{
    struct cm_cancel *cancel = NULL;
    struct cm_op late = { &fake.env, fake.mono_ns - 1, NULL };
    struct cm_op canceled = { NULL, 0, NULL };
    struct cm_buf got = CM_BUF_INIT(64);

    must(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    canceled.cancel = cancel;
    must_fail(cm_storage_store(st, &late, "k", cm_span_str("x"), &err), CM_E_TIMEOUT);
    must_fail(cm_storage_store(st, &canceled, "k", cm_span_str("x"), &err), CM_E_CANCELED);
    must_fail(cm_storage_load(st, &late, "k", &got, &err), CM_E_TIMEOUT);
    expect("k", NULL);
    cm_cancel_free(cancel);
}
END_TEST

/* ------------------------------------------------------------- at one time */

#define RACE_LEN 3000u

struct race {
    _Atomic bool stop;
    _Atomic unsigned torn;
    _Atomic unsigned loads;
};

static void *race_reader(void *arg)
{
    struct race *r = arg;

    while (!r->stop) {
        struct cm_buf got = CM_BUF_INIT(RACE_LEN);
        struct cm_err e = CM_ERR_INIT;

        if (cm_storage_load(st, NULL, "race/v", &got, &e) != CM_OK || got.len != RACE_LEN)
            r->torn++;
        for (size_t i = 1; i < got.len; i++)
            if (got.data[i] != got.data[0]) {
                r->torn++;
                break;
            }
        r->loads++;
        cm_buf_free(&got);
    }
    return NULL;
}

START_TEST(readers_see_whole_values_while_one_writes)
{
    static uint8_t value[RACE_LEN];
    struct race r = { .stop = false };
    pthread_t threads[2];

    memset(value, 'a', sizeof value);
    must(cm_storage_store(st, NULL, "race/v", (struct cm_span){ value, sizeof value }, &err));
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race_reader, &r), 0);
    for (int i = 0; i < 300 || r.loads < 100; i++) {
        memset(value, 'a' + i % 26, sizeof value);
        must(cm_storage_store(st, NULL, "race/v", (struct cm_span){ value, sizeof value }, &err));
    }
    r.stop = true;
    for (int i = 0; i < 2; i++)
        (void)pthread_join(threads[i], NULL);
    ck_assert_uint_eq(r.torn, 0);
}
END_TEST

struct maker {
    const char *key;
    char failed[sizeof err.msg];
};

static void *make_and_remove(void *arg)
{
    struct maker *m = arg;
    struct cm_err e = CM_ERR_INIT;

    for (int i = 0; i < 100; i++) {
        if (cm_storage_store(st, NULL, m->key, cm_span_str("x"), &e) != CM_OK ||
            cm_storage_remove(st, NULL, i % 2 == 0 ? "shared/dir" : m->key, &e) != CM_OK)
            (void)snprintf(m->failed, sizeof m->failed, "%s", e.msg);
    }
    return NULL;
}

/* One removes the directory that another is about to store into. */
START_TEST(stores_and_removes_of_one_directory_do_not_fail_each_other)
{
    struct maker makers[3] = { { "shared/dir/a", "" },
                               { "shared/dir/b", "" },
                               { "shared/dir/c", "" } };
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, make_and_remove, &makers[i]), 0);
    for (int i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
        ck_assert_str_eq(makers[i].failed, "");
    }
}
END_TEST

TCase *contract_storage_cases(void)
{
    TCase *c = tcase_create("storage");

    tcase_add_test(c, store_then_load_gives_the_bytes);
    tcase_add_test(c, store_replaces_the_whole_value);
    tcase_add_test(c, an_empty_value_is_a_value);
    tcase_add_test(c, load_of_absent_key_is_notfound_and_leaves_output_alone);
    tcase_add_test(c, load_appends);
    tcase_add_test(c, a_value_may_be_as_large_as_the_maximum_and_no_larger);
    tcase_add_test(c, remove_takes_a_value_and_missing_is_fine);
    tcase_add_test(c, remove_takes_everything_below_but_not_the_neighbours);
    tcase_add_test(c, stat_tells_values_directories_and_absence_apart);
    tcase_add_test(c, a_directory_ceases_with_its_last_key);
    tcase_add_test(c, one_name_is_a_value_or_a_directory);
    tcase_add_test(c, list_shows_direct_children_in_byte_order);
    tcase_add_test(c, recursive_list_shows_values_only_depth_first);
    tcase_add_test(c, list_of_nothing_is_empty);
    tcase_add_test(c, list_ends_with_the_first_error_of_its_function);
    tcase_add_test(c, list_lets_its_function_change_the_storage);
    tcase_add_test(c, list_gives_size_and_time);
    tcase_add_test(c, bad_keys_are_refused_everywhere);
    tcase_add_test(c, odd_but_legal_keys_work);
    tcase_add_test(c, an_operation_that_is_over_does_nothing);
    tcase_add_test(c, readers_see_whole_values_while_one_writes);
    tcase_add_test(c, stores_and_removes_of_one_directory_do_not_fail_each_other);
    return c;
}
