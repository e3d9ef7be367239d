/* SPDX-License-Identifier: Apache-2.0 */
#include "link_kit.h"

#include <stdatomic.h>

/* The link and a master that changes: one replica, three sentinels. Each test leaves both servers
 * running and in step. */

static struct linked k;
static struct cm_err err;

static cm_status set(int64_t ms, bool again, const char *value)
{
    redisReply *r = NULL;
    cm_status rc;

    err = (struct cm_err)CM_ERR_INIT;
    rc = linked_call(&k, ms, again, NULL, &r, &err, "SET", "key", value, NULL);
    if (rc == CM_OK) {
        ck_assert_str_eq(r->str, "OK");
        freeReplyObject(r);
    }
    return rc;
}

/* "master" or "replica": which of the lab's servers serves us. */
static const char *serving(void)
{
    unsigned long port = 0;
    redisReply *r = NULL;
    const char *at;

    ck_assert_msg(linked_call(&k, 20000, true, NULL, &r, &err, "INFO", "server", NULL) == CM_OK,
                  "%s", err.msg);
    at = strstr(r->str, "tcp_port:");
    ck_assert_ptr_nonnull(at);
    port = strtoul(at + 9, NULL, 10);
    freeReplyObject(r);
    return port == strtoul(getenv("REDIS_PORT"), NULL, 10) ? "master" : "replica";
}

/* Both servers know each other, and the sentinels know that. */
static void settle(void)
{
    for (unsigned i = 0; i < 400; i++) {
        redisReply *r = NULL;
        bool in_step = false;

        if (linked_call(&k, 5000, true, NULL, &r, NULL, "INFO", "replication", NULL) == CM_OK) {
            in_step = strstr(r->str, "state=online") != NULL;
            freeReplyObject(r);
        }
        if (in_step) {
            (void)usleep(1200000);
            return;
        }
        (void)usleep(50000);
    }
    ck_abort_msg("no replica in step");
}

/* SETs one after the other until @server is not the one that serves; how long the longest took. */
static int64_t write_until_moved(const char *from, bool again, unsigned *ret_failed)
{
    int64_t longest = 0, began = now_ms();

    *ret_failed = 0;
    for (unsigned i = 0; now_ms() - began < 25000; i++) {
        int64_t start = now_ms();
        char value[32];
        cm_status rc;

        (void)snprintf(value, sizeof value, "%u", i);
        rc = set(20000, again, value);
        ck_assert_msg(rc == CM_OK || rc == CM_E_NET || rc == CM_E_TIMEOUT, "%s", err.msg);
        *ret_failed += rc != CM_OK;
        if (now_ms() - start > longest)
            longest = now_ms() - start;
        if (rc == CM_OK && strcmp(serving(), from) != 0)
            return longest;
        (void)usleep(10000);
    }
    ck_abort_msg("nobody else became the master");
    return 0;
}

/* The master is killed: what may be sent again just takes longer. */
START_TEST(test_master_killed)
{
    unsigned failed = 0;
    const char *was;
    int64_t longest;

    open_lab(&k, "REDIS_URL", "timeout=1s");
    ck_assert_msg(set(5000, false, "x") == CM_OK, "%s", err.msg);
    was = serving();
    lab("signal", was, "KILL");
    longest = write_until_moved(was, true, &failed);
    ck_assert_uint_eq(failed, 0);
    ck_assert_int_lt(longest, 10000);
    lab("start", was);
    settle();
    linked_close(&k);
}
END_TEST

/* Killed while writes are on their way that must not be sent twice: at most the one that was on its
 * way has an unknown outcome. */
START_TEST(test_master_killed_once_only)
{
    unsigned failed = 0;
    const char *was;

    open_lab(&k, "REDIS_URL", "timeout=1s");
    ck_assert_msg(set(5000, false, "x") == CM_OK, "%s", err.msg);
    was = serving();
    lab("signal", was, "KILL");
    (void)write_until_moved(was, false, &failed);
    ck_assert_uint_le(failed, 1);
    lab("start", was);
    settle();
    linked_close(&k);
}
END_TEST

/* The master hangs. It is left for another, and goes on as a replica without having been written
 * to. */
START_TEST(test_master_hangs)
{
    unsigned failed = 0;
    const char *was;

    open_lab(&k, "REDIS_URL", "timeout=500ms");
    ck_assert_msg(set(5000, false, "x") == CM_OK, "%s", err.msg);
    was = serving();
    lab("signal", was, "STOP");
    (void)write_until_moved(was, true, &failed);
    ck_assert_uint_le(failed, 2);
    lab("signal", was, "CONT");
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_msg(set(5000, true, "y") == CM_OK, "%s", err.msg);
        ck_assert_str_ne(serving(), was);
        (void)usleep(10000);
    }
    settle();
    linked_close(&k);
}
END_TEST

static atomic_uint gaps, messages;

static void on_gap(void *user, bool over)
{
    (void)user;
    if (over)
        atomic_fetch_add(&gaps, 1);
}

static void on_message(void *user, struct cm_span m)
{
    (void)user;
    (void)m;
    atomic_fetch_add(&messages, 1);
}

static bool reaches(const atomic_uint *n, unsigned want)
{
    for (unsigned i = 0; i < 20000 && atomic_load(n) < want; i++)
        (void)usleep(1000);
    return atomic_load(n) >= want;
}

/* A planned change: writes go on, and the feed hears what is published at the new master. */
START_TEST(test_planned_failover)
{
    struct redis_feed *f = NULL;
    unsigned failed = 0;
    const char *was;

    open_lab(&k, "REDIS_URL", "timeout=1s");
    ck_assert_int_eq(redis_feed_new(k.l, "news", on_message, on_gap, NULL, &f, NULL), CM_OK);
    ck_assert(reaches(&gaps, 1));
    was = serving();
    cli("sentinel0", "sentinel", "failover", "mymaster");
    (void)write_until_moved(was, true, &failed);
    ck_assert_uint_eq(failed, 0);
    settle();
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PUBLISH", "news", "x", NULL),
                     CM_OK);
    ck_assert(reaches(&messages, 1));
    redis_feed_free(f);
    linked_close(&k);
}
END_TEST

/* A sentinel that is gone and one that hangs cost time, not the answer. */
START_TEST(test_sentinels_gone)
{
    int64_t began;

    lab("signal", "sentinel0", "STOP");
    lab("signal", "sentinel1", "KILL");
    open_lab(&k, "REDIS_URL", "timeout=1500ms");
    began = now_ms();
    ck_assert_msg(set(10000, false, "x") == CM_OK, "%s", err.msg);
    ck_assert_int_lt(now_ms() - began, 2000);
    linked_close(&k);
    lab("signal", "sentinel0", "CONT");
    lab("start", "sentinel1");
    lab("await", "sentinel1");
}
END_TEST

START_TEST(test_sentinels_refuse)
{
    char url[256];

    (void)snprintf(url, sizeof url, "redis+sentinel://:pw@127.0.0.1:%lu/mymaster",
                   strtoul(getenv("REDIS_PORT"), NULL, 10) + 10);
    linked_open(&k, NULL, url);
    ck_assert_int_eq(set(5000, false, "x"), CM_E_PERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "sentinel_password_file"));
    linked_close(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_sentinels_refuse,        test_sentinels_gone, test_planned_failover,
        test_master_killed_once_only, test_master_killed,  test_master_hangs,
    };

    return run_in_lab("sentinel", "redis sentinel", tests, sizeof tests / sizeof tests[0]);
}
