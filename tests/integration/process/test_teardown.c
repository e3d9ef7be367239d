/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A program that frees its config while names are being obtained: at many moments, spread over the
 * time that the whole takes. It returns soon, no thread and no descriptor stays, and whoever comes
 * next on the same storage finds no lock. The sanitizers see the rest. */

#define NAMES  6
#define POINTS 60

static const char *const names[NAMES] = {
    "a.test", "b.test", "c.test", "d.test", "e.test", "f.test"
};

static int64_t now_ns(void)
{
    return cm_env_system()->mono_ns(cm_env_system());
}

static int entries(const char *path)
{
    return kit_entries(path, NULL);
}

static struct cm_config *new_config(struct cm_cache *cache)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;

    o.cache = cache;
    o.key_type = CM_KEY_P256;
    return kit_config(o);
}

/* ns from the first call to all names being served */
static int64_t whole_time(void)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *c;
    int64_t began, took;

    kit_dir_make();
    began = now_ns();
    c = new_config(NULL);
    ck_assert_msg(cm_manage(c, NULL, names, NAMES, &err) == CM_OK, "%s", err.msg);
    took = now_ns() - began;
    cm_config_free(c);
    kit_dir_drop();
    return took;
}

static void wait_until(int64_t at_ns)
{
    while (now_ns() < at_ns)
        (void)usleep(200);
}

START_TEST(config_goes_at_any_moment)
{
    int64_t whole = whole_time();
    int threads = entries("/proc/self/task");
    int fds = entries("/proc/self/fd");
    int amid = 0;
    char locks[96];

    for (int i = 0; i < POINTS; i++) {
        struct cm_err err = CM_ERR_INIT;
        struct cm_cache *cache = NULL;
        struct cm_config *c;
        int64_t began, freed;

        kit_dir_make();
        ck_assert_int_eq(cm_cache_new(NULL, &cache, &err), CM_OK);
        began = now_ns();
        c = new_config(cache);
        ck_assert_msg(cm_manage_async(c, names, NAMES, &err) == CM_OK, "%s", err.msg);
        wait_until(began + whole * i / POINTS);
        amid += cm_cache_count(cache) < NAMES;
        freed = now_ns();
        cm_config_free(c);
        ck_assert_int_lt(now_ns() - freed, 5 * CM_NS_PER_S);
        cm_cache_free(cache);
        /* a thread that was joined may need a moment to leave the list */
        for (int k = 0; k < 100 && entries("/proc/self/task") > threads; k++)
            (void)usleep(1000);
        ck_assert_int_le(entries("/proc/self/task"), threads);
        ck_assert_int_le(entries("/proc/self/fd"), fds);
        (void)snprintf(locks, sizeof locks, "%s/locks", kit_dir);
        ck_assert_int_le(entries(locks), 2); /* "." and ".." */
        kit_dir_drop();
    }
    /* else it was freed when there was nothing left to interrupt */
    ck_assert_int_ge(amid, POINTS / 3);
}
END_TEST

START_TEST(next_config_finds_everything_usable)
{
    int64_t whole = whole_time();

    kit_dir_make();
    for (int i = 0; i < POINTS / 4; i++) {
        struct cm_err err = CM_ERR_INIT;
        struct cm_config *c = new_config(NULL);
        int64_t began = now_ns();

        ck_assert_msg(cm_manage_async(c, names, NAMES, &err) == CM_OK, "%s", err.msg);
        wait_until(began + whole * i / POINTS);
        cm_config_free(c);
        if (i % 5 != 4)
            continue;
        c = new_config(NULL);
        ck_assert_msg(cm_manage(c, NULL, names, NAMES, &err) == CM_OK, "%s", err.msg);
        ck_assert_uint_eq(cm_cache_count(cm_config_cache(c)), NAMES);
        cm_config_free(c);
        kit_dir_drop();
        kit_dir_make();
    }
    kit_dir_drop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("teardown");
    TCase *tc = tcase_create("teardown");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, config_goes_at_any_moment);
    tcase_add_test(tc, next_config_finds_everything_usable);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
