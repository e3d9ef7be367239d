/* SPDX-License-Identifier: Apache-2.0 */
#include "link_kit.h"

#include <stdatomic.h>

/* The link and one real server. */

static struct linked k;
static struct cm_err err;

static cm_status echo(int64_t ms, bool again, const char *text)
{
    redisReply *r = NULL;
    cm_status rc;

    err = (struct cm_err)CM_ERR_INIT;
    rc = linked_call(&k, ms, again, NULL, &r, &err, "ECHO", text, NULL);
    if (rc == CM_OK) {
        ck_assert_int_eq(r->type, REDIS_REPLY_STRING);
        ck_assert_str_eq(r->str, text);
        freeReplyObject(r);
    }
    return rc;
}

#define BIG (1024u * 1024)

static void store_and_load(void)
{
    struct cm_op op = cm_op_within(NULL, 10 * CM_NS_PER_S);
    char *value = malloc(BIG);
    const char *set[] = { "SET", "t/\r\n", value }, *get[] = { "GET", "t/\r\n" };
    const size_t set_len[] = { 3, 4, BIG };
    const struct redis_command commands[] = { { 3, set, set_len },
                                              { 2, get, NULL },
                                              { 2, get, NULL } };
    redisReply *r[3] = { NULL };

    ck_assert_ptr_nonnull(value);
    for (size_t i = 0; i < BIG; i++)
        value[i] = (char)(i * 31 + i / 256);
    ck_assert_msg(redis_call(k.l, &op, NULL, false, commands, 3, r, &err) == CM_OK, "%s", err.msg);
    ck_assert_str_eq(r[0]->str, "OK");
    for (size_t i = 1; i < 3; i++) {
        ck_assert_uint_eq(r[i]->len, BIG);
        ck_assert_mem_eq(r[i]->str, value, BIG);
    }
    redis_free_replies(r, 3);
    free(value);
}

START_TEST(test_three_ways)
{
    static const char *const ways[] = { "REDIS_URL", "REDIS_TLS_URL", "REDIS_UNIX_URL" };

    for (size_t i = 0; i < CM_ARRAY_LEN(ways); i++) {
        open_lab(&k, ways[i], "timeout=3s");
        for (unsigned n = 0; n < 3; n++)
            ck_assert_msg(echo(3000, false, ways[i]) == CM_OK, "%s", err.msg);
        linked_close(&k);
    }
}
END_TEST

START_TEST(test_big_values)
{
    static const char *const ways[] = { "REDIS_URL", "REDIS_TLS_URL", "REDIS_UNIX_URL" };

    for (size_t i = 0; i < CM_ARRAY_LEN(ways); i++) {
        open_lab(&k, ways[i], "pool=2");
        store_and_load();
        store_and_load();
        linked_close(&k);
    }
}
END_TEST

/* Connections that carry each other's replies would show here, and races under TSan. */
static void *many_echoes(void *arg)
{
    char text[64];

    for (unsigned i = 0; i < 100; i++) {
        struct cm_err e = CM_ERR_INIT;
        redisReply *r = NULL;

        (void)snprintf(text, sizeof text, "%p %u", arg, i);
        ck_assert_msg(linked_call(&k, 30000, false, NULL, &r, &e, "ECHO", text, NULL) == CM_OK,
                      "%s", e.msg);
        ck_assert_str_eq(r->str, text);
        freeReplyObject(r);
    }
    return NULL;
}

START_TEST(test_many_threads)
{
    static const char *const ways[] = { "REDIS_URL", "REDIS_TLS_URL" };
    pthread_t threads[8];
    char names[8];

    for (size_t w = 0; w < CM_ARRAY_LEN(ways); w++) {
        open_lab(&k, ways[w], "pool=3");
        for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, many_echoes, &names[i]), 0);
        for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
            ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        linked_close(&k);
    }
}
END_TEST

/* ---- who may, and who is it */

static cm_status try_url(const char *fmt, const char *a, const char *b)
{
    char url[512];
    cm_status rc;

    (void)snprintf(url, sizeof url, fmt, a, b);
    linked_open(&k, NULL, url);
    rc = echo(3000, false, "x");
    linked_close(&k);
    return rc;
}

START_TEST(test_users)
{
    const char *port = getenv("REDIS_PORT");
    redisReply *r = NULL;
    char url[128];

    ck_assert_int_eq(try_url("redis://cm:cmpw@127.0.0.1:%s%s", port, ""), CM_OK);
    ck_assert_int_eq(try_url("redis://cm:wrong@127.0.0.1:%s%s", port, ""), CM_E_PERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not take this user and password"));
    ck_assert_int_eq(try_url("redis://nobody:cmpw@127.0.0.1:%s%s", port, ""), CM_E_PERM);
    ck_assert_int_eq(try_url("redis://127.0.0.1:%s%s", port, ""), CM_E_PERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "wants a password"));
    ck_assert_int_eq(try_url("redis://cm:cmpw@127.0.0.1:%s/99%s", port, ""), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "no database 99"));

    (void)snprintf(url, sizeof url, "redis://ro:ropw@127.0.0.1:%s", port);
    linked_open(&k, NULL, url);
    ck_assert_int_eq(linked_call(&k, 3000, false, NULL, &r, &err, "SET", "a", "b", NULL), CM_OK);
    ck_assert(redis_is_error(r, "NOPERM"));
    freeReplyObject(r);
    linked_close(&k);
}
END_TEST

START_TEST(test_tls_is_verified)
{
    const char *port = getenv("REDIS_TLS_PORT"), *ca = getenv("LAB_CA");

    ck_assert_int_eq(try_url("rediss://cm:cmpw@127.0.0.1:%s?ca=%s", port, ca), CM_OK);
    ck_assert_int_eq(try_url("rediss://cm:cmpw@localhost:%s?ca=%s", port, ca), CM_OK);
    ck_assert_int_eq(
        try_url("rediss://cm:cmpw@127.0.0.1:%s?server_name=redis.test&ca=%s", port, ca), CM_OK);
    ck_assert_int_eq(
        try_url("rediss://cm:cmpw@127.0.0.1:%s?server_name=other.test&ca=%s", port, ca), CM_E_TLS);
    ck_assert_msg(strstr(err.msg, "name") != NULL, "%s", err.msg);
    ck_assert_int_eq(try_url("rediss://cm:cmpw@127.0.0.2:%s?ca=%s", port, ca), CM_E_NET);
    ck_assert_int_eq(try_url("rediss://cm:cmpw@127.0.0.1:%s?ca=%s", port, getenv("LAB_OTHER_CA")),
                     CM_E_TLS);
    ck_assert_msg(strstr(err.msg, "NOT trusted") != NULL, "%s", err.msg);
    ck_assert_int_eq(
        try_url("rediss://cm:cmpw@127.0.0.1:%s?insecure=true&server_name=other.test%s", port, ""),
        CM_OK);
    /* Plain words to a TLS port, and the other way round. */
    ck_assert_int_ne(try_url("redis://cm:cmpw@127.0.0.1:%s%s", port, ""), CM_OK);
    ck_assert_int_ne(
        try_url("rediss://cm:cmpw@127.0.0.1:%s?timeout=300ms&ca=%s", getenv("REDIS_PORT"), ca),
        CM_OK);
}
END_TEST

START_TEST(test_clients_certificate)
{
    const char *ca = getenv("LAB_CA");
    char params[512];
    cm_status rc;

    cli("redis", "config", "set", "tls-auth-clients", "yes");
    open_lab(&k, "REDIS_TLS_URL", "pool=1");
    rc = echo(3000, true, "x");
    linked_close(&k);
    (void)snprintf(params, sizeof params, "cert=%s&key=%s", getenv("LAB_CERT"), getenv("LAB_KEY"));
    open_lab(&k, "REDIS_TLS_URL", params);
    ck_assert_msg(echo(3000, false, "x") == CM_OK, "%s", err.msg);
    linked_close(&k);
    cli("redis", "config", "set", "tls-auth-clients", "optional");
    ck_assert(rc == CM_E_TLS || rc == CM_E_NET);
    ck_assert_ptr_nonnull(ca);
}
END_TEST

/* ---- connections that go */

START_TEST(test_client_kill)
{
    open_lab(&k, "REDIS_URL", "pool=2");
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(echo(5000, false, "before"), CM_OK);
        cli("redis", "client", "kill", "type", "normal", "skipme", "yes");
        /* Nothing has been sent on the dead one, so it need not be allowed to be sent twice. */
        ck_assert_msg(echo(5000, false, "after") == CM_OK, "%s", err.msg);
    }
    linked_close(&k);
}
END_TEST

static atomic_bool enough;

static void *keep_killing(void *arg)
{
    while (!atomic_load(&enough))
        cli("redis", "client", "kill", "type", "normal", "skipme", "yes");
    return arg;
}

/* Killed at any moment: what may be sent again gets through, with its own reply. */
START_TEST(test_killed_all_the_time)
{
    pthread_t killer;
    unsigned passed = 0;
    char text[32];

    open_lab(&k, "REDIS_URL", "pool=2");
    ck_assert_int_eq(pthread_create(&killer, NULL, keep_killing, NULL), 0);
    for (unsigned i = 0; i < 500; i++) {
        cm_status rc;

        (void)snprintf(text, sizeof text, "%u", i);
        rc = echo(10000, true, text);
        ck_assert_msg(rc == CM_OK || rc == CM_E_NET, "%s", err.msg);
        passed += rc == CM_OK;
    }
    atomic_store(&enough, true);
    ck_assert_int_eq(pthread_join(killer, NULL), 0);
    ck_assert_uint_ge(passed, 495);
    linked_close(&k);
}
END_TEST

static void *run_cli(void *arg)
{
    char *const *words = arg;

    (void)redis_kit_run("cli", "redis", words[0], words[1], words[2], (char *)NULL);
    return NULL;
}

/* A server that is busy with something else: the deadline holds, and the late reply is nobody's. */
START_TEST(test_debug_sleep)
{
    char debug[] = "debug", sleep_[] = "sleep", two[] = "2.5";
    char *words[] = { debug, sleep_, two };
    pthread_t other;
    int64_t began;

    open_lab(&k, "REDIS_URL", "pool=1");
    ck_assert_int_eq(echo(5000, false, "warm"), CM_OK);
    ck_assert_int_eq(pthread_create(&other, NULL, run_cli, words), 0);
    (void)usleep(300000);
    began = now_ms();
    ck_assert_int_eq(echo(1000, true, "late"), CM_E_TIMEOUT);
    ck_assert_int_ge(now_ms() - began, 950);
    ck_assert_int_lt(now_ms() - began, 1500);
    ck_assert_msg(echo(10000, false, "mine") == CM_OK, "%s", err.msg);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
    linked_close(&k);
}
END_TEST

START_TEST(test_endless_script)
{
    char eval[] = "eval", text[] = "while true do end", none[] = "0";
    char *words[] = { eval, text, none };
    pthread_t other;

    cli("redis", "config", "set", "busy-reply-threshold", "100");
    open_lab(&k, "REDIS_URL", "pool=1");
    ck_assert_int_eq(echo(5000, false, "warm"), CM_OK);
    ck_assert_int_eq(pthread_create(&other, NULL, run_cli, words), 0);
    (void)usleep(300000);
    ck_assert_int_eq(echo(500, true, "late"), CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, "BUSY") != NULL, "%s", err.msg);
    cli("redis", "script", "kill");
    ck_assert_msg(echo(10000, false, "mine") == CM_OK, "%s", err.msg);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
    linked_close(&k);
}
END_TEST

START_TEST(test_loading)
{
    char debug[] = "debug", reload[] = "reload", nosave[] = "nosave";
    char *words[] = { debug, reload, nosave };
    bool seen = false;
    pthread_t other;

    cli("redis", "debug", "populate", "2000");
    cli("redis", "save");
    cli("redis", "config", "set", "key-load-delay", "1000");
    cli("redis", "config", "set", "loading-process-events-interval-bytes", "1024");
    open_lab(&k, "REDIS_URL", "pool=1");
    ck_assert_int_eq(echo(5000, false, "warm"), CM_OK);
    ck_assert_int_eq(pthread_create(&other, NULL, run_cli, words), 0);
    (void)usleep(300000);
    for (unsigned i = 0; i < 5 && !seen; i++) {
        redisReply *r = NULL;

        seen = linked_call(&k, 400, true, NULL, &r, &err, "GET", "key:1", NULL) == CM_E_TIMEOUT &&
               strstr(err.msg, "LOADING") != NULL;
        if (r != NULL)
            freeReplyObject(r);
    }
    ck_assert(seen);
    ck_assert_msg(linked_call(&k, 20000, false, NULL, NULL, &err, "GET", "key:1", NULL) == CM_OK,
                  "%s", err.msg);
    ck_assert_int_eq(pthread_join(other, NULL), 0);
    cli("redis", "config", "set", "key-load-delay", "0");
    cli("redis", "flushall");
    linked_close(&k);
}
END_TEST

START_TEST(test_restart)
{
    int64_t began;

    open_lab(&k, "REDIS_URL", "pool=2");
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(echo(5000, false, "before"), CM_OK);
        if (i == 0)
            lab("signal", "redis", "KILL");
        else
            lab("stop", "redis");
        (void)usleep(100000);
        began = now_ms();
        ck_assert_int_eq(echo(10000, false, "gone"), CM_E_NET);
        ck_assert_int_lt(now_ms() - began, 2000);
        ck_assert_ptr_null(strstr(err.msg, "not known whether"));
        lab("start", "redis");
        lab("await", "redis");
        ck_assert_msg(echo(5000, false, "after") == CM_OK, "%s", err.msg);
    }
    linked_close(&k);
}
END_TEST

/* ---- feed */

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
    if (m.len == 5 && memcmp(m.data, "hello", 5) == 0)
        atomic_fetch_add(&messages, 1);
}

static bool reaches(const atomic_uint *n, unsigned want)
{
    for (unsigned i = 0; i < 10000 && atomic_load(n) < want; i++)
        (void)usleep(1000);
    return atomic_load(n) >= want;
}

START_TEST(test_feed)
{
    static const char *const ways[] = { "REDIS_URL", "REDIS_TLS_URL" };

    for (size_t i = 0; i < CM_ARRAY_LEN(ways); i++) {
        struct redis_feed *f = NULL;
        int64_t began;

        atomic_store(&gaps, 0);
        atomic_store(&messages, 0);
        open_lab(&k, ways[i], "pool=1");
        ck_assert_int_eq(redis_feed_new(k.l, "news", on_message, on_gap, NULL, &f, NULL), CM_OK);
        ck_assert(reaches(&gaps, 1));
        cli("redis", "publish", "news", "hello");
        ck_assert(reaches(&messages, 1));
        cli("redis", "client", "kill", "type", "pubsub");
        ck_assert(reaches(&gaps, 2));
        cli("redis", "publish", "news", "hello");
        ck_assert(reaches(&messages, 2));
        began = now_ms();
        redis_feed_free(f);
        ck_assert_int_lt(now_ms() - began, 1000);
        linked_close(&k);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_three_ways,
        test_big_values,
        test_many_threads,
        test_users,
        test_tls_is_verified,
        test_clients_certificate,
        test_client_kill,
        test_killed_all_the_time,
        test_debug_sleep,
        test_endless_script,
        test_loading,
        test_restart,
        test_feed,
    };

    return run_in_lab("single", "redis link", tests, sizeof tests / sizeof tests[0]);
}
