/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cm_storage_list_after(): whether a backend has its own or the gate passes over what was shown
 * already, the same. */

#define SHOWN_MAX 64u

struct shown {
    char key[SHOWN_MAX][64]; /* of directories with '/' behind */
    size_t n;
    size_t stop_at; /* 0 = never */
};

static cm_status show(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct shown *s = user;

    if (s->stop_at > 0 && s->n == s->stop_at)
        return cm_fail(e, CM_E_AGAIN, "enough for now");
    if (s->n == SHOWN_MAX)
        return cm_fail(e, CM_E_INTERNAL, "'%s' is one too many", info->key);
    (void)snprintf(s->key[s->n++], sizeof s->key[0], "%.60s%s", info->key,
                   info->terminal ? "" : "/");
    return CM_OK;
}

/* In order, with names that byte order alone would put elsewhere. */
static const char *const tree[] = {
    "t/a/1",   "t/a/b/c/1", "t/a/b/c/2", "t/a/b-c",  "t/a-b/1", "t/a.b", "t/b/x",
    "t/b/x.y", "t/b/y/y/y", "t/ba/1",    "t/ba/2/3", "t/c",     "t/d/1", "u/1",
};
#define TREE (sizeof tree / sizeof tree[0])

static void plant(void)
{
    /* not in that order */
    for (size_t i = 0; i < TREE; i++)
        put(tree[i * 5 % TREE], "x");
}

static const char *without_slash(const char *shown, char out[64])
{
    size_t len = strlen(shown);

    (void)snprintf(out, 64, "%.*s", (int)(shown[len - 1] == '/' ? len - 1 : len), shown);
    return out;
}

/* After each key that it shows, the rest of it follows. */
static void goes_on(const char *prefix, bool recursive, size_t want)
{
    struct shown all = { .n = 0 };

    must(cm_storage_list_after(st, NULL, prefix, NULL, recursive, show, &all, &err));
    ck_assert_uint_eq(all.n, want);
    for (size_t i = 0; i < all.n; i++) {
        struct shown rest = { .n = 0 };
        char after[64];

        must(cm_storage_list_after(st, NULL, prefix, without_slash(all.key[i], after), recursive,
                                   show, &rest, &err));
        ck_assert_msg(rest.n == all.n - i - 1, "after '%s' come %zu, not %zu", after, rest.n,
                      all.n - i - 1);
        for (size_t k = 0; k < rest.n; k++)
            ck_assert_str_eq(rest.key[k], all.key[i + 1 + k]);
    }
}

START_TEST(a_list_goes_on_after_each_of_its_keys)
{
    plant();
    goes_on("", true, TREE);
    goes_on("t", true, TREE - 1);
    goes_on("t/a", true, 4);
    goes_on("t/b", true, 3);
    goes_on("", false, 2);
    goes_on("t", false, 7);
    goes_on("t/a", false, 3);
    goes_on("t/ba", false, 2);
}
END_TEST

static void after_comes(const char *prefix, const char *after, bool recursive, const char *first)
{
    struct shown rest = { .n = 0 };

    must(cm_storage_list_after(st, NULL, prefix, after, recursive, show, &rest, &err));
    ck_assert_str_eq(rest.n > 0 ? rest.key[0] : "nothing", first);
}

START_TEST(a_list_goes_on_after_a_key_that_is_not_there)
{
    plant();
    after_comes("t", "t/a/b/b", true, "t/a/b/c/1");
    after_comes("t", "t/a/b/c/11", true, "t/a/b/c/2");
    after_comes("t", "t/a/b/c/2/below", true, "t/a/b-c");
    after_comes("t", "t/a/z", true, "t/a-b/1");
    after_comes("t", "t/a", true, "t/a/1"); /* a value when it was shown */
    after_comes("t", "t/a", false, "t/a-b/");
    after_comes("t", "t/a!", false, "t/a-b/");
    after_comes("t", "t/b", false, "t/ba/");
    after_comes("t", "t/d/1", true, "nothing");
    after_comes("t", "t/z", true, "nothing");
    after_comes("nothing", "nothing/1", true, "nothing");
}
END_TEST

/* As one goes on whose list broke off: what was there all the while comes once, whatever else
 * comes and goes. */
START_TEST(a_list_can_be_taken_in_parts)
{
    char last[64] = "";
    size_t stayed = 0;
    cm_status rc = CM_E_AGAIN;

    plant();
    for (unsigned part = 0; rc == CM_E_AGAIN; part++) {
        struct shown some = { .stop_at = 3 };
        char fresh[64];

        ck_assert_uint_lt(part, 12);
        rc = cm_storage_list_after(st, NULL, "", last, true, show, &some, &err);
        ck_assert_msg(rc == CM_OK || rc == CM_E_AGAIN, "%s", err.msg);
        for (size_t i = 0; i < some.n; i++)
            for (size_t k = 0; k < TREE; k++)
                stayed += strcmp(some.key[i], tree[k]) == 0;
        if (some.n > 0)
            (void)snprintf(last, sizeof last, "%s", some.key[some.n - 1]);
        /* where it broke off goes, and something comes before and behind */
        must(cm_storage_remove(st, NULL, last, &err));
        (void)snprintf(fresh, sizeof fresh, "s/%u", part);
        put(fresh, "x");
        (void)snprintf(fresh, sizeof fresh, "v/%u", part);
        if (part < 3)
            put(fresh, "x");
    }
    ck_assert_uint_eq(stayed, TREE);
}
END_TEST

START_TEST(a_list_goes_on_only_after_what_it_may_show)
{
    struct shown none = { .n = 0 };
    static const struct {
        const char *prefix, *after;
        bool recursive;
    } wrong[] = {
        { "t", "u/1", true },    { "t", "t", true },      { "t", "ta/1", true },
        { "t", "t/a/1", false }, { "", "t/a", false },    { "t", "t/../x", true },
        { "t", "t//x", true },   { "", "locks/x", true }, { "t", "t/", true },
    };

    plant();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        must_fail(cm_storage_list_after(st, NULL, wrong[i].prefix, wrong[i].after,
                                        wrong[i].recursive, show, &none, &err),
                  CM_E_INVAL);
    must_fail(cm_storage_list_after(st, NULL, "t", "t/a", true, NULL, NULL, &err), CM_E_INVAL);
    ck_assert_uint_eq(none.n, 0);
}
END_TEST

TCase *contract_list_cases(void)
{
    TCase *c = tcase_create("list");

    tcase_add_test(c, a_list_goes_on_after_each_of_its_keys);
    tcase_add_test(c, a_list_goes_on_after_a_key_that_is_not_there);
    tcase_add_test(c, a_list_can_be_taken_in_parts);
    tcase_add_test(c, a_list_goes_on_only_after_what_it_may_show);
    return c;
}
