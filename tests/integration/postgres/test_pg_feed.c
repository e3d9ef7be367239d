/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What the server tells of changes, to whoever listens. */

struct heard {
    pthread_mutex_t mutex;
    char text[8192];
    unsigned missed;
};

static struct cm_storage *st;
static struct heard heard;

static void note(void *user, const struct cm_change *change)
{
    struct heard *h = user;
    size_t len;

    (void)pthread_mutex_lock(&h->mutex);
    len = strlen(h->text);
    if (change->kind == CM_CHANGE_MISSED)
        h->missed++;
    else if (change->key != NULL)
        (void)snprintf(h->text + len, sizeof h->text - len, "%s:%s ",
                       change->kind == CM_CHANGE_VALUE ? "v" : "u", change->key);
    (void)pthread_mutex_unlock(&h->mutex);
}

static bool has(const char *what, unsigned missed)
{
    bool found;

    (void)pthread_mutex_lock(&heard.mutex);
    found = heard.missed >= missed && (what == NULL || strstr(heard.text, what) != NULL);
    (void)pthread_mutex_unlock(&heard.mutex);
    return found;
}

static void await(const char *what, unsigned missed)
{
    int64_t until = kit_now_ms() + 10000;

    while (!has(what, missed) && kit_now_ms() < until)
        kit_sleep_ms(5);
    ck_assert_msg(has(what, missed), "no '%s' (or not %u times missed: %u) in '%s'",
                  what != NULL ? what : "", missed, heard.missed, heard.text);
}

static void setup(void)
{
    (void)pthread_mutex_init(&heard.mutex, NULL);
    heard.text[0] = '\0';
    heard.missed = 0;
    st = kit_open("PG_URL", NULL);
}

static void teardown(void)
{
    cm_storage_close(st);
}

START_TEST(changes_by_others_are_told)
{
    struct cm_storage *other = kit_open("PG_URL", NULL);
    struct cm_commit_item items[2] = { { .key = "c/1", .value = cm_span_str("x") },
                                       { .key = "c/2", .remove = true } };
    char longest[CM_STORAGE_KEY_MAX + 1];
    char want[CM_STORAGE_KEY_MAX + 8];
    struct cm_watch *watch = NULL;
    struct cm_grant g;

    must(cm_storage_watch(st, note, &heard, &watch, &err));
    await(NULL, 1); /* everything may be new */
    kit_put(other, "a/b", "x");
    await("v:a/b ", 1);
    kit_put(other, "a/c/d", "x");
    must(cm_storage_remove(other, NULL, "a", &err));
    await("v:a ", 1);
    kit_put(other, "c/2", "x");
    must(cm_storage_try_lock(other, NULL, "issue_cert_x", CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_commit(other, NULL, &g, items, 2, &err));
    await("v:c/1 ", 1);
    must(cm_storage_unlock(other, NULL, &g, &err));
    await("u:issue_cert_x ", 1);
    memset(longest, 'k', sizeof longest - 1);
    longest[255] = '/';
    longest[CM_STORAGE_KEY_MAX - 1] = '\0';
    kit_put(other, longest, "x");
    (void)snprintf(want, sizeof want, "v:%s ", longest);
    await(want, 1);
    /* Stored, and removed by the commit. */
    ck_assert_ptr_nonnull(strstr(heard.text, "v:c/2 "));
    ck_assert_ptr_nonnull(strstr(strstr(heard.text, "v:c/2 ") + 1, "v:c/2 "));
    cm_storage_unwatch(st, watch);
    cm_storage_close(other);
}
END_TEST

START_TEST(nothing_is_told_of_what_was_undone)
{
    struct cm_watch *watch = NULL;
    struct cm_commit_item item = { .key = "never", .value = cm_span_str("x") };
    struct cm_grant g;

    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &g, NULL, &err));
    (void)kit_sql("delete from certmagic_locks");
    must(cm_storage_watch(st, note, &heard, &watch, &err));
    await(NULL, 1);
    must_fail(cm_storage_commit(st, NULL, &g, &item, 1, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_unlock(st, NULL, &g, &err), CM_E_LOCK_LOST);
    kit_put(st, "after", "x");
    await("v:after ", 1);
    ck_assert_str_eq(heard.text, "v:after ");
    cm_storage_unwatch(st, watch);
}
END_TEST

START_TEST(a_feed_that_broke_comes_back_and_says_that_it_missed)
{
    struct cm_watch *watch = NULL;

    must(cm_storage_watch(st, note, &heard, &watch, &err));
    await(NULL, 1);
    (void)kit_super(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%%'");
    await(NULL, 2);
    kit_put(st, "again", "x");
    await("v:again ", 2);
    kit_lab("immediate server");
    kit_sleep_ms(300);
    kit_lab("start server");
    await(NULL, 3);
    kit_put(st, "once more", "x");
    await("v:once more ", 3);
    cm_storage_unwatch(st, watch);
}
END_TEST

START_TEST(a_watch_can_begin_and_end_while_there_is_no_server)
{
    struct cm_watch *watch = NULL;
    struct cm_watch *brief = NULL;
    int64_t began;

    kit_lab("stop server");
    must(cm_storage_watch(st, note, &heard, &watch, &err));
    must(cm_storage_watch(st, note, &heard, &brief, &err));
    kit_sleep_ms(100);
    began = kit_now_ms();
    cm_storage_unwatch(st, brief);
    ck_assert_int_le(kit_now_ms() - began, 500);
    kit_lab("start server");
    await(NULL, 1);
    cm_storage_unwatch(st, watch);
}
END_TEST

START_TEST(without_a_feed_there_is_none)
{
    struct cm_storage *quiet = kit_open("PG_URL", "feed=off");
    struct cm_watch *watch = NULL;

    must_fail(cm_storage_watch(quiet, note, &heard, &watch, &err), CM_E_UNSUPPORTED);
    must(cm_storage_watch(st, note, &heard, &watch, &err));
    await(NULL, 1);
    kit_put(quiet, "quiet", "x");
    must(cm_storage_remove(quiet, NULL, "quiet", &err));
    kit_put(st, "loud", "x");
    await("v:loud ", 1);
    ck_assert_str_eq(heard.text, "v:loud ");
    cm_storage_unwatch(st, watch);
    cm_storage_close(quiet);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("feed");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, changes_by_others_are_told);
    tcase_add_test(c, nothing_is_told_of_what_was_undone);
    tcase_add_test(c, a_feed_that_broke_comes_back_and_says_that_it_missed);
    tcase_add_test(c, a_watch_can_begin_and_end_while_there_is_no_server);
    tcase_add_test(c, without_a_feed_there_is_none);
    return kit_main("pg-feed", &c, 1);
}
