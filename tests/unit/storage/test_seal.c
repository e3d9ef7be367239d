/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"
#include "seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sealed values: what lies in the storage, and what does not open. */

#define KEY_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B "ffeeddccbbaa99887766554433221100FFEEDDCCBBAA99887766554433221100"

static const char secret[] = "-----BEGIN PRIVATE KEY-----";

static struct cm_storage *sealed(const char *keys, const char *more)
{
    struct cm_storage *st = NULL;
    char url[256];

    write_file("keys", keys, 0600);
    (void)snprintf(url, sizeof url, "sealed:?keys=%s%s&in=file://%s/store", at("keys"), more, root);
    must(cm_storage_open(url, NULL, &st, &err));
    return st;
}

static struct cm_storage *inside(void)
{
    struct cm_storage *st = NULL;
    char url[256];

    (void)snprintf(url, sizeof url, "file://%s/store", root);
    must(cm_storage_open(url, NULL, &st, &err));
    return st;
}

static void put(struct cm_storage *st, const char *key, const char *text)
{
    must(cm_storage_store(st, NULL, key, cm_span_str(text), &err));
}

static void refuses_to_load(struct cm_storage *st, const char *key, const char *saying)
{
    struct cm_buf got = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);

    must_fail(cm_storage_load(st, NULL, key, &got, &err), CM_E_PERM);
    ck_assert_uint_eq(got.len, 0);
    ck_assert_msg(strstr(err.msg, saying) != NULL, "'%s' lacks '%s'", err.msg, saying);
    ck_assert_ptr_null(strstr(err.msg, "00112233"));
    cm_buf_free(&got);
}

START_TEST(nothing_of_a_value_is_seen_from_outside)
{
    struct cm_storage *st = sealed("a " KEY_A "\n", "");
    struct cm_storage *in = inside();
    struct cm_commit_item item = { "x/commit", cm_span_str(secret), false };
    struct cm_buf raw = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    const char *const keys[] = { "x/store", "x/commit" };

    put(st, keys[0], secret);
    must(cm_storage_commit(st, NULL, NULL, &item, 1, &err));
    for (size_t i = 0; i < 2; i++) {
        cm_buf_reset(&raw);
        must(cm_storage_load(in, NULL, keys[i], &raw, &err));
        ck_assert_uint_eq(raw.len, strlen(secret) + 44);
        ck_assert_mem_eq(raw.data, "CMSEAL1\na\0\0\0\0\0\0\0", 16);
        ck_assert_ptr_null(memmem(raw.data, raw.len, "PRIVATE", 7));
        ck_assert_str_eq(value_at(st, keys[i]), secret);
    }
    cm_buf_free(&raw);
    cm_storage_close(in);
    cm_storage_close(st);
}
END_TEST

/* Each bit of the whole, and each length. */
START_TEST(no_damage_goes_unnoticed)
{
    struct seal_keys keys;
    struct cm_buf box = CM_BUF_INIT(4096);
    struct cm_buf out = CM_BUF_INIT(4096);
    unsigned tried = 0;

    must(seal_keys_parse(cm_span_str("a " KEY_A "\nb " KEY_B "\n"), "a test", &keys, &err));
    must(seal_close(&keys, cm_env_system(), "a/b", cm_span_str(secret), &box, &err));
    for (size_t bit = 0; bit < box.len * 8; bit++) {
        box.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (seal_is_sealed(cm_buf_span(&box))) {
            must_fail(seal_open(&keys, "a/b", cm_buf_span(&box), &out, &err), CM_E_PERM);
            tried++;
        }
        box.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_eq(tried, (box.len - 8) * 8);
    for (size_t len = 44; len < box.len; len++)
        must_fail(seal_open(&keys, "a/b", (struct cm_span){ box.data, len }, &out, &err),
                  CM_E_PERM);
    ck_assert_uint_eq(out.len, 0);
    must(seal_open(&keys, "a/b", cm_buf_span(&box), &out, &err));
    ck_assert_str_eq(cm_buf_str(&out), secret);
    cm_buf_free(&box);
    cm_buf_free(&out);
}
END_TEST

START_TEST(value_that_was_moved_does_not_open)
{
    struct cm_storage *st = sealed("a " KEY_A "\n", "");
    struct cm_storage *in = inside();
    struct cm_buf raw = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);

    put(st, "site/one.key", secret);
    must(cm_storage_load(in, NULL, "site/one.key", &raw, &err));
    must(cm_storage_store(in, NULL, "site/two.key", cm_buf_span(&raw), &err));
    refuses_to_load(st, "site/two.key", "was moved here");
    cm_buf_free(&raw);
    cm_storage_close(in);
    cm_storage_close(st);
}
END_TEST

START_TEST(keys_are_exchanged_one_after_the_other)
{
    struct cm_storage *st = sealed("a " KEY_A "\n", "");
    struct cm_key_info info;

    put(st, "old", "one");
    cm_storage_close(st);
    st = sealed("# the new one first\n\nb\t" KEY_B "\r\na " KEY_A "\n", "");
    put(st, "new", "two");
    put(st, "none", "");
    ck_assert_str_eq(value_at(st, "old"), "one");
    ck_assert_str_eq(value_at(st, "none"), "");
    must(cm_storage_stat(st, NULL, "old", &info, &err));
    ck_assert_uint_eq(info.size, 3);
    cm_storage_close(st);
    st = sealed("b " KEY_B "\n", "");
    ck_assert_str_eq(value_at(st, "new"), "two");
    refuses_to_load(st, "old", "the key 'a', which is not among");
    cm_storage_close(st);
    st = sealed("b " KEY_A "\n", "");
    refuses_to_load(st, "new", "another one of the same id");
    cm_storage_close(st);
}
END_TEST

START_TEST(what_was_there_before_is_read_unless_refused)
{
    struct cm_storage *in = inside();
    struct cm_storage *st;
    struct cm_key_info info;

    put(in, "plain", "text");
    st = sealed("a " KEY_A "\n", "&plain=read");
    ck_assert_str_eq(value_at(st, "plain"), "text");
    must(cm_storage_stat(st, NULL, "plain", &info, &err));
    ck_assert_uint_eq(info.size, 4);
    cm_storage_close(st);
    st = sealed("a " KEY_A "\n", "&plain=refuse");
    refuses_to_load(st, "plain", "is not sealed");
    put(st, "plain", "text");
    ck_assert_str_eq(value_at(st, "plain"), "text");
    cm_storage_close(st);
    cm_storage_close(in);
}
END_TEST

static void bad_keys(const char *text, const char *saying)
{
    struct seal_keys keys;

    must_fail(seal_keys_parse(cm_span_str(text), "a test", &keys, &err), CM_E_KEY);
    ck_assert_msg(strstr(err.msg, saying) != NULL, "'%s' lacks '%s'", err.msg, saying);
    ck_assert_ptr_null(strstr(err.msg, "0011"));
}

START_TEST(bad_keys_are_named_by_their_line)
{
    bad_keys("", "there is no storage key in a test");
    bad_keys("# none\n\n", "there is no storage key");
    bad_keys("a " KEY_A "\na " KEY_B "\n", "line 2 of the storage keys in a test has an id that");
    bad_keys(KEY_A, "no key id");
    bad_keys("a " KEY_A "0", "64 hex digits");
    bad_keys("a 0011", "64 hex digits");
    bad_keys("a" KEY_A, "no key id");
    bad_keys("a g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
             "not made of hex");
}
END_TEST

static void bad_url(const char *url, cm_status with, const char *saying)
{
    struct cm_storage *st = NULL;

    must_fail(cm_storage_open(url, NULL, &st, &err), with);
    ck_assert_ptr_null(st);
    ck_assert_msg(strstr(err.msg, saying) != NULL, "'%s' lacks '%s'", err.msg, saying);
    ck_assert_ptr_null(strstr(err.msg, "hunter2"));
}

START_TEST(bad_urls_say_how_it_is_written)
{
    struct cm_storage *st = NULL;
    char url[256];

    bad_url("sealed:", CM_E_INVAL, "sealed:?keys=FILE&in=URL");
    bad_url("sealed:?keys=/nope", CM_E_INVAL, "'in' is missing");
    bad_url("sealed:?in=memory:", CM_E_INVAL, "keys=FILE");
    bad_url("sealed:?keys=/a&keys_env=B&in=memory:", CM_E_INVAL, "either");
    bad_url("sealed:?keys=/a&keys=/b&in=memory:", CM_E_INVAL, "'keys' is there twice");
    bad_url("sealed:?mode=hunter2&in=memory:", CM_E_INVAL, "'mode' is not known");
    bad_url("sealed:?keys=/a&plain=maybe&in=memory:", CM_E_INVAL, "'read' or 'refuse'");
    bad_url("sealed:?keys=/nope/nope&in=memory:", CM_E_NOTFOUND, "'/nope/nope'");
    bad_url("sealed:?keys_env=CM_NOT_SET&in=memory:", CM_E_KEY, "CM_NOT_SET");
    write_file("keys", "a " KEY_A "\n", 0600);
    (void)snprintf(url, sizeof url, "sealed:?keys=%s&in=bogus://u:hunter2@h", at("keys"));
    bad_url(url, CM_E_INVAL, "'bogus:'");
    (void)snprintf(url, sizeof url, "sealed:?keys=%s&in=memory:x", at("keys"));
    must(cm_storage_open(url, NULL, &st, &err));
    ck_assert_str_eq(cm_storage_describe(st), "sealed memory:x");
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        nothing_of_a_value_is_seen_from_outside,
        no_damage_goes_unnoticed,
        value_that_was_moved_does_not_open,
        keys_are_exchanged_one_after_the_other,
        what_was_there_before_is_read_unless_refused,
        bad_keys_are_named_by_their_line,
        bad_urls_say_how_it_is_written,
    };

    return run_with_root("seal", tests, sizeof tests / sizeof tests[0], 20);
}
