/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cm_storage_load_many(): whether a backend has its own or the gate loads one by one, the same. */

#define BIGGEST (CM_STORAGE_VALUE_MAX - contract_backend.value_overhead)
#define MANY    3000u /* each is made durable by itself */
#define KEY_BUF 64u

/* What came for each key, by its index. */
struct haul {
    size_t n;
    size_t calls;
    unsigned *times;
    cm_status *status;
    uint64_t *sum; /* of the value */
    size_t *len;
    /* what the function is to do on its call number @at, counted from 1 */
    size_t at;
    cm_status (*then)(struct haul *h, struct cm_err *err);
    struct cm_cancel *cancel;
    const struct cm_op *op;
};

static uint64_t sum_of(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint64_t sum = 1469598103934665603u;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * 1099511628211u;
    return sum;
}

static void haul_init(struct haul *h, size_t n)
{
    memset(h, 0, sizeof *h);
    h->n = n;
    h->times = calloc(n + 1, sizeof *h->times);
    h->status = calloc(n + 1, sizeof *h->status);
    h->sum = calloc(n + 1, sizeof *h->sum);
    h->len = calloc(n + 1, sizeof *h->len);
    ck_assert(h->times != NULL && h->status != NULL && h->sum != NULL && h->len != NULL);
}

static void haul_free(struct haul *h)
{
    free(h->times);
    free(h->status);
    free(h->sum);
    free(h->len);
}

static cm_status take(void *user, size_t index, cm_status status, struct cm_span value,
                      const struct cm_err *why, struct cm_err *e)
{
    struct haul *h = user;

    ck_assert_uint_lt(index, h->n);
    h->calls++;
    h->times[index]++;
    h->status[index] = status;
    if (status == CM_OK) {
        h->len[index] = value.len;
        h->sum[index] = sum_of(value.data, value.len);
    } else {
        ck_assert_uint_eq(value.len, 0);
        ck_assert_ptr_nonnull(why);
    }
    return h->then != NULL && h->calls == h->at ? h->then(h, e) : CM_OK;
}

static void got(const struct haul *h, size_t index, const char *text)
{
    ck_assert_msg(h->times[index] == 1, "key %zu came %u times", index, h->times[index]);
    if (text == NULL) {
        ck_assert_int_eq(h->status[index], CM_E_NOTFOUND);
        return;
    }
    ck_assert_msg(h->status[index] == CM_OK, "key %zu: %s", index,
                  cm_status_name(h->status[index]));
    ck_assert_uint_eq(h->len[index], strlen(text));
    ck_assert_uint_eq(h->sum[index], sum_of(text, strlen(text)));
}

/* As many at once as a commit takes: a server is asked less often so. */
static void put_many(const char *const *keys, const char *const *values, size_t n)
{
    struct cm_commit_item items[CM_COMMIT_MAX];
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        items[m++] = (struct cm_commit_item){ .key = keys[i], .value = cm_span_str(values[i]) };
        if (m < CM_COMMIT_MAX && i + 1 < n)
            continue;
        must(cm_storage_commit(st, NULL, NULL, items, m, &err));
        m = 0;
    }
}

/* n keys "many/<i>/v", stored if @store. */
static const char **many_keys(size_t n, bool store, char (**ret_texts)[KEY_BUF])
{
    char(*texts)[KEY_BUF] = calloc(n, sizeof *texts);
    const char **keys = calloc(n, sizeof *keys);

    ck_assert(texts != NULL && keys != NULL);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(texts[i], KEY_BUF, "many/%zu/v", i);
        keys[i] = texts[i];
    }
    if (store)
        put_many(keys, keys, n);
    *ret_texts = texts;
    return keys;
}

START_TEST(many_values_come_each_once_in_any_order)
{
    const char *const keys[] = { "d/b.crt", "absent",    "d/a.key", "empty", "d",
                                 "d/a.crt", "d/a.crt/x", "top",     "d/c",   "no/such/dir" };
    const char *const texts[] = { "chain b", NULL, "key a", "",   NULL,
                                  "chain a", NULL, "t",     NULL, NULL };
    struct haul h;

    put("d/a.key", "key a");
    put("d/a.crt", "chain a");
    put("d/b.crt", "chain b");
    put("empty", "");
    put("top", "t");
    haul_init(&h, sizeof keys / sizeof keys[0]);
    must(cm_storage_load_many(st, NULL, keys, h.n, take, &h, &err));
    ck_assert_uint_eq(h.calls, h.n);
    for (size_t i = 0; i < h.n; i++)
        got(&h, i, texts[i]);
    haul_free(&h);
}
END_TEST

START_TEST(a_key_asked_for_twice_comes_twice)
{
    const char *const keys[] = { "a/one", "a/two", "a/one", "none", "none", "a/one" };
    struct haul h;

    put("a/one", "1");
    put("a/two", "2");
    haul_init(&h, 6);
    must(cm_storage_load_many(st, NULL, keys, 6, take, &h, &err));
    for (size_t i = 0; i < 6; i++)
        got(&h, i, strcmp(keys[i], "none") == 0 ? NULL : strcmp(keys[i], "a/two") == 0 ? "2" : "1");
    haul_free(&h);
}
END_TEST

START_TEST(no_keys_are_no_calls)
{
    struct haul h;

    haul_init(&h, 0);
    must(cm_storage_load_many(st, NULL, NULL, 0, take, &h, &err));
    ck_assert_uint_eq(h.calls, 0);
    haul_free(&h);
}
END_TEST

START_TEST(one_bad_key_and_nothing_is_loaded)
{
    const char *const keys[] = { "good", "../bad" };
    const char *const locks[] = { "locks/x.lock" };
    struct haul h;

    put("good", "x");
    haul_init(&h, 2);
    must_fail(cm_storage_load_many(st, NULL, keys, 2, take, &h, &err), CM_E_INVAL);
    must_fail(cm_storage_load_many(st, NULL, locks, 1, take, &h, &err), CM_E_INVAL);
    must_fail(cm_storage_load_many(st, NULL, keys, 1, NULL, &h, &err), CM_E_INVAL);
    must_fail(cm_storage_load_many(st, NULL, NULL, 1, take, &h, &err), CM_E_INVAL);
    ck_assert_uint_eq(h.calls, 0);
    haul_free(&h);
}
END_TEST

static cm_status refuse(struct haul *h, struct cm_err *e)
{
    (void)h;
    return cm_fail(e, CM_E_POLICY, "three are enough");
}

START_TEST(the_functions_error_ends_it)
{
    char(*texts)[KEY_BUF];
    const char **keys = many_keys(20, true, &texts);
    struct haul h;

    haul_init(&h, 20);
    h.at = 3;
    h.then = refuse;
    must_fail(cm_storage_load_many(st, NULL, keys, 20, take, &h, &err), CM_E_POLICY);
    ck_assert_msg(strstr(err.msg, "three are enough") != NULL, "%s", err.msg);
    ck_assert_uint_eq(h.calls, 3);
    haul_free(&h);
    free(keys);
    free(texts);
}
END_TEST

static cm_status fire(struct haul *h, struct cm_err *e)
{
    (void)e;
    cm_cancel_fire(h->cancel);
    return CM_OK;
}

static cm_status sit_it_out(struct haul *h, struct cm_err *e)
{
    (void)e;
    while (cm_op_check(h->op, NULL) == CM_OK)
        (void)!cm_op_wait(h->op, CM_NS_PER_MS, NULL);
    return CM_OK;
}

/* Over before the last key: how much before is the backend's affair. */
START_TEST(many_loads_end_with_deadline_and_token)
{
    char(*texts)[KEY_BUF];
    const char **keys = many_keys(MANY, false, &texts);
    struct cm_op op = { .env = cm_env_system() };
    struct haul h;

    put(keys[0], "x");
    must(cm_cancel_new(NULL, &op.cancel, &err));
    haul_init(&h, MANY);
    h.at = 1;
    h.then = fire;
    h.cancel = op.cancel;
    must_fail(cm_storage_load_many(st, &op, keys, MANY, take, &h, &err), CM_E_CANCELED);
    ck_assert_uint_lt(h.calls, MANY);
    h.calls = 0;
    must_fail(cm_storage_load_many(st, &op, keys, MANY, take, &h, &err), CM_E_CANCELED);
    ck_assert_uint_eq(h.calls, 0);
    cm_cancel_free(op.cancel);

    op.cancel = NULL;
    op.deadline_ns = op.env->mono_ns(op.env) + 1500 * CM_NS_PER_MS;
    h.then = sit_it_out;
    h.op = &op;
    must_fail(cm_storage_load_many(st, &op, keys, MANY, take, &h, &err), CM_E_TIMEOUT);
    ck_assert_uint_ge(h.calls, 1);
    ck_assert_uint_lt(h.calls, MANY);
    haul_free(&h);
    free(keys);
    free(texts);
}
END_TEST

START_TEST(thousands_of_values_come_whole)
{
    char(*texts)[KEY_BUF];
    const char **keys = many_keys(MANY, true, &texts);
    struct haul h;

    for (size_t i = 0; i < MANY; i += 7)
        must(cm_storage_remove(st, NULL, keys[i], &err));
    haul_init(&h, MANY);
    must(cm_storage_load_many(st, NULL, keys, MANY, take, &h, &err));
    ck_assert_uint_eq(h.calls, MANY);
    for (size_t i = 0; i < MANY; i++)
        got(&h, i, i % 7 == 0 ? NULL : texts[i]);
    haul_free(&h);
    free(keys);
    free(texts);
}
END_TEST

/* ------------------------------------------------------------------ memory */

#define BIG       64u
#define BOUND_MIB 32u

static size_t resident_kib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[128];
    size_t kib = 0;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmRSS: %zu", &kib) == 1)
            break;
    (void)fclose(f);
    return kib;
}

struct big {
    const uint8_t *value;
    size_t calls;
    size_t most_kib;
};

static cm_status take_big(void *user, size_t index, cm_status status, struct cm_span value,
                          const struct cm_err *why, struct cm_err *e)
{
    struct big *b = user;
    size_t now = resident_kib();

    (void)e;
    ck_assert_msg(status == CM_OK, "key %zu: %s", index, why->msg);
    ck_assert_uint_eq(value.len, BIGGEST);
    ck_assert_mem_eq(value.data, b->value, value.len);
    b->calls++;
    if (now > b->most_kib)
        b->most_kib = now;
    return CM_OK;
}

START_TEST(the_largest_values_are_handed_out_as_they_come)
{
    uint8_t *value = malloc(BIGGEST);
    char(*texts)[KEY_BUF];
    const char **keys = many_keys(BIG, false, &texts);
    struct big b = { value, 0, 0 };

    ck_assert_ptr_nonnull(value);
    for (size_t i = 0; i < BIGGEST; i++)
        value[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t i = 0; i < BIG; i++)
        must(cm_storage_store(st, NULL, keys[i], (struct cm_span){ value, BIGGEST }, &err));
    size_t before = resident_kib();
    must(cm_storage_load_many(st, NULL, keys, BIG, take_big, &b, &err));
    ck_assert_uint_eq(b.calls, BIG);
    /* A sanitizer keeps what was freed for a while. */
    if (!CONTRACT_SANITIZED && b.most_kib > before)
        ck_assert_msg(b.most_kib - before < BOUND_MIB * 1024, "%zu KiB more than before",
                      b.most_kib - before);
    free(value);
    free(keys);
    free(texts);
}
END_TEST

/* ------------------------------------------------------------ side by side */

static cm_status visit(void *user, size_t index, cm_status status, struct cm_span value,
                       const struct cm_err *why, struct cm_err *e)
{
    const char *const *keys = user;
    struct cm_buf other = CM_BUF_INIT(64);

    (void)value;
    (void)why;
    ck_assert_int_eq(status, CM_OK);
    cm_status rc = cm_storage_store(st, NULL, "visited/last", cm_span_str(keys[index]), e);
    if (rc == CM_OK)
        rc = cm_storage_load(st, NULL, "visited/last", &other, e);
    if (rc == CM_OK)
        ck_assert_str_eq(cm_buf_str(&other), keys[index]);
    cm_buf_free(&other);
    return rc;
}

START_TEST(the_function_may_use_the_storage)
{
    char(*texts)[KEY_BUF];
    const char **keys = many_keys(300, true, &texts);

    must(cm_storage_load_many(st, NULL, keys, 300, visit, (void *)(uintptr_t)keys, &err));
    free(keys);
    free(texts);
}
END_TEST

#define RACE_KEYS  8u
#define RACE_BYTES 3000u

static atomic_bool race_over;

static void *race_writer(void *arg)
{
    char(*texts)[KEY_BUF] = arg;
    struct cm_err e = CM_ERR_INIT;
    uint8_t value[RACE_BYTES];

    for (unsigned round = 0; !atomic_load(&race_over); round++) {
        size_t len = 1 + (round * 977) % RACE_BYTES;

        memset(value, 'a' + (int)(round % 26), len);
        if (cm_storage_store(st, NULL, texts[round % RACE_KEYS], (struct cm_span){ value, len },
                             &e) != CM_OK)
            return arg;
    }
    return NULL;
}

static cm_status take_even(void *user, size_t index, cm_status status, struct cm_span value,
                           const struct cm_err *why, struct cm_err *e)
{
    (void)user;
    (void)e;
    ck_assert_msg(status == CM_OK, "key %zu: %s", index, why->msg);
    ck_assert_uint_ge(value.len, 1);
    for (size_t i = 1; i < value.len; i++)
        ck_assert_msg(value.data[i] == value.data[0], "two values in one");
    return CM_OK;
}

START_TEST(many_loads_see_whole_values_while_others_write)
{
    char(*texts)[KEY_BUF];
    const char **keys = many_keys(RACE_KEYS, false, &texts);
    pthread_t writers[2];
    void *failed = NULL;

    for (size_t i = 0; i < RACE_KEYS; i++)
        put(keys[i], "z");
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&writers[i], NULL, race_writer, texts), 0);
    for (unsigned round = 0; round < 200; round++)
        must(cm_storage_load_many(st, NULL, keys, RACE_KEYS, take_even, NULL, &err));
    atomic_store(&race_over, true);
    for (size_t i = 0; i < 2; i++) {
        (void)pthread_join(writers[i], &failed);
        ck_assert_ptr_null(failed);
    }
    free(keys);
    free(texts);
}
END_TEST

/* ------------------------------------------------------------------- lists */

#define SITES 1000u

struct visit {
    size_t n;
    bool remove;
    char last[CM_STORAGE_KEY_MAX + 1];
};

static cm_status visit_site(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct visit *v = user;

    ck_assert_msg(strcmp(v->last, info->key) < 0, "'%s' after '%s'", info->key, v->last);
    (void)snprintf(v->last, sizeof v->last, "%s", info->key);
    v->n++;
    return v->remove ? cm_storage_remove(st, NULL, info->key, e) : CM_OK;
}

/* More than a backend may want to hold at a time. */
START_TEST(a_long_list_shows_each_key_once)
{
    struct visit values = { .n = 0 };
    struct visit removed = { .remove = true };
    struct visit none = { .n = 0 };
    struct visit sites = { .n = 0 };
    char key[2][KEY_BUF];
    const char *const keys[2] = { key[0], key[1] };
    static const char *const both[2] = { "1", "2" };

    put("sitesx/outside", "x");
    put("site", "outside");
    for (unsigned i = 0; i < SITES; i++) {
        (void)snprintf(key[0], KEY_BUF, "sites/s%04u/a", i);
        (void)snprintf(key[1], KEY_BUF, "sites/s%04u/b/c", i);
        put_many(keys, both, 2);
    }
    must(cm_storage_list(st, NULL, "sites", false, visit_site, &sites, &err));
    ck_assert_uint_eq(sites.n, SITES);
    must(cm_storage_list(st, NULL, "sites", true, visit_site, &values, &err));
    ck_assert_uint_eq(values.n, 2 * SITES);
    must(cm_storage_list(st, NULL, "sites", false, visit_site, &removed, &err));
    ck_assert_uint_eq(removed.n, SITES);
    must(cm_storage_list(st, NULL, "sites", true, visit_site, &none, &err));
    ck_assert_uint_eq(none.n, 0);
    expect("sitesx/outside", "x");
}
END_TEST

TCase *contract_many_cases(void)
{
    TCase *tc = tcase_create("many");

    tcase_add_test(tc, many_values_come_each_once_in_any_order);
    tcase_add_test(tc, a_key_asked_for_twice_comes_twice);
    tcase_add_test(tc, no_keys_are_no_calls);
    tcase_add_test(tc, one_bad_key_and_nothing_is_loaded);
    tcase_add_test(tc, the_functions_error_ends_it);
    tcase_add_test(tc, many_loads_end_with_deadline_and_token);
    tcase_add_test(tc, thousands_of_values_come_whole);
    tcase_add_test(tc, the_largest_values_are_handed_out_as_they_come);
    tcase_add_test(tc, the_function_may_use_the_storage);
    tcase_add_test(tc, many_loads_see_whole_values_while_others_write);
    tcase_add_test(tc, a_long_list_shows_each_key_once);
    return tc;
}
