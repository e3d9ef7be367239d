/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "fake_redis.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Connections: how many, whose, to whom. */

static struct fake_redis *server;
static struct linked k;
static struct cm_err err;

static void up(fake_serve_fn serve, void *user)
{
    err = (struct cm_err)CM_ERR_INIT;
    server = fake_redis_start(serve, user);
    linked_open(&k, server, "redis://127.0.0.1:%u?timeout=2s&pool=2");
}

static void down(void)
{
    linked_close(&k);
    fake_redis_stop(server);
}

static void serve_pong(struct fake_conn *c)
{
    while (fake_next_call(c))
        fake_say(c, "+PONG\r\n");
}

static atomic_int open_now, open_most;

static void serve_slow(struct fake_conn *c)
{
    int now = atomic_fetch_add(&open_now, 1) + 1;

    if (now > atomic_load(&open_most))
        atomic_store(&open_most, now);
    while (fake_next_call(c)) {
        (void)usleep(5000);
        fake_say(c, "+PONG\r\n");
    }
    atomic_fetch_sub(&open_now, 1);
}

static void *ten_pings(void *arg)
{
    for (unsigned i = 0; i < 10; i++) {
        cm_status rc = linked_call(&k, 20000, false, NULL, NULL, NULL, "PING", NULL);

        if (rc != CM_OK)
            return arg;
    }
    return NULL;
}

START_TEST(test_pool_is_bounded)
{
    pthread_t threads[8];

    up(serve_slow, NULL);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ten_pings, &k), 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++) {
        void *bad = NULL;

        ck_assert_int_eq(pthread_join(threads[i], &bad), 0);
        ck_assert_ptr_null(bad);
    }
    ck_assert_int_eq(atomic_load(&open_most), 2);
    down();
}
END_TEST

static void serve_hang(struct fake_conn *c)
{
    (void)fake_next_call(c);
    fake_hold(c);
}

static void *one_ping(void *arg)
{
    (void)linked_call(&k, 1500, false, NULL, NULL, NULL, "PING", NULL);
    return arg;
}

static void *fire_soon(void *arg)
{
    (void)usleep(100000);
    cm_cancel_fire(arg);
    return NULL;
}

START_TEST(test_waiting_for_a_turn)
{
    static const char *const argv[] = { "PING" };
    const struct redis_command ping = { 1, argv, NULL };
    pthread_t threads[2], other;
    redisReply *r = NULL;
    struct cm_op op = cm_op_within(NULL, 20 * CM_NS_PER_S);
    int64_t began;

    up(serve_hang, NULL);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, one_ping, NULL), 0);
    while (fake_redis_connections(server) < 2)
        (void)usleep(1000);
    began = now_ms();
    ck_assert_int_eq(linked_call(&k, 100, false, NULL, NULL, &err, "PING", NULL), CM_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(err.msg, "one of the connections"));
    ck_assert_int_lt(now_ms() - began, 1000);

    ck_assert_int_eq(cm_cancel_new(NULL, &op.cancel, NULL), CM_OK);
    ck_assert_int_eq(pthread_create(&other, NULL, fire_soon, op.cancel), 0);
    began = now_ms();
    ck_assert_int_eq(redis_call(k.l, &op, NULL, false, &ping, 1, &r, &err), CM_E_CANCELED);
    ck_assert_int_lt(now_ms() - began, 1000);
    (void)pthread_join(other, NULL);
    cm_cancel_free(op.cancel);
    for (size_t i = 0; i < 2; i++)
        (void)pthread_join(threads[i], NULL);
    down();
}
END_TEST

/* Canceled while a server says nothing. */
START_TEST(test_canceled)
{
    static const char *const argv[] = { "PING" };
    const struct redis_command ping = { 1, argv, NULL };
    struct cm_op op = { NULL, 0, NULL };
    redisReply *r = NULL;
    pthread_t other;
    int64_t began = now_ms();

    up(serve_hang, NULL);
    ck_assert_int_eq(cm_cancel_new(NULL, &op.cancel, NULL), CM_OK);
    ck_assert_int_eq(pthread_create(&other, NULL, fire_soon, op.cancel), 0);
    ck_assert_int_eq(redis_call(k.l, &op, NULL, true, &ping, 1, &r, &err), CM_E_CANCELED);
    ck_assert_int_lt(now_ms() - began, 1500);
    (void)pthread_join(other, NULL);
    cm_cancel_free(op.cancel);
    down();
}
END_TEST

START_TEST(test_forked_child)
{
    int status = 0;
    pid_t pid;

    up(serve_pong, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
    pid = fork();
    if (pid == 0) {
        cm_status rc = linked_call(&k, 5000, false, NULL, NULL, NULL, "PING", NULL);

        redis_link_free(k.l);
        _exit(rc == CM_E_STATE ? 0 : 1);
    }
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
    ck_assert_uint_eq(fake_redis_connections(server), 1);
    down();
}
END_TEST

/* ---- several addresses */

static void serve_role(struct fake_conn *c)
{
    const char *role = c->user;

    while (fake_next_call(c)) {
        if (strcmp(c->words, "ROLE") == 0)
            fake_sayf(c, "*1\r\n$%zu\r\n%s\r\n", strlen(role), role);
        else
            fake_sayf(c, "+%s\r\n", role);
    }
}

START_TEST(test_the_master_of_two)
{
    char replica[] = "slave", master[] = "master";
    struct fake_redis *a = fake_redis_start(serve_role, replica);
    struct fake_redis *b = fake_redis_start(serve_role, master);
    redisReply *r = NULL;
    char url[128];

    (void)snprintf(url, sizeof url, "redis://127.0.0.1:%u,127.0.0.1:%u",
                   (unsigned)fake_redis_port(a), (unsigned)fake_redis_port(b));
    linked_open(&k, NULL, url);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, &r, &err, "PING", NULL), CM_OK);
    ck_assert_str_eq(r->str, "master");
    freeReplyObject(r);
    linked_close(&k);
    fake_redis_stop(a);
    fake_redis_stop(b);
}
END_TEST

START_TEST(test_nobody_there)
{
    struct fake_redis *f = fake_redis_start(serve_pong, NULL);
    int64_t began = now_ms();

    linked_open(&k, f, "redis://127.0.0.1:%u");
    fake_redis_stop(f);
    ck_assert_int_eq(linked_call(&k, 20000, false, NULL, NULL, &err, "PING", NULL), CM_E_NET);
    ck_assert_ptr_nonnull(strstr(err.msg, "refused"));
    ck_assert_ptr_null(strstr(err.msg, "not known whether"));
    ck_assert_int_lt(now_ms() - began, 5000);
    linked_close(&k);
    linked_open(&k, NULL, "redis://no-such-host.invalid");
    ck_assert_int_eq(linked_call(&k, 20000, false, NULL, NULL, &err, "PING", NULL), CM_E_NET);
    ck_assert_ptr_nonnull(strstr(err.msg, "look up 'no-such-host.invalid'"));
    linked_close(&k);
    linked_open(&k, NULL, "unix:///no/such.sock");
    ck_assert_int_eq(linked_call(&k, 20000, false, NULL, NULL, &err, "PING", NULL), CM_E_NET);
    ck_assert_ptr_nonnull(strstr(err.msg, "/no/such.sock"));
    linked_close(&k);
}
END_TEST

/* One call from the URL to the reply, with each allocation failing in turn. */
static cm_status all_of_it(const char *url)
{
    static const char *const argv[] = { "PING" };
    const struct redis_command ping = { 1, argv, NULL };
    struct cm_op op = cm_op_within(NULL, 10 * CM_NS_PER_S);
    struct redis_options o = { 0 };
    struct redis_link *l = NULL;
    redisReply *r = NULL;
    cm_status rc = redis_options_parse(url, &o, &err);

    if (rc != CM_OK)
        return rc;
    rc = redis_link_new(&o, NULL, NULL, &l, &err);
    if (rc == CM_OK)
        rc = redis_call(l, &op, "x", false, &ping, 1, &r, &err);
    if (rc == CM_OK)
        freeReplyObject(r);
    redis_link_free(l);
    redis_options_clear(&o);
    return rc;
}

static void serve_anything(struct fake_conn *c)
{
    while (fake_next_call(c)) {
        unsigned port = fake_redis_port(c->server);

        if (strncmp(c->words, "SENTINEL", 8) == 0)
            fake_sayf(c, "*2\r\n$9\r\n127.0.0.1\r\n$%u\r\n%u\r\n", port > 9999 ? 5u : 4u, port);
        else if (strcmp(c->words, "ROLE") == 0)
            fake_say(c, "*1\r\n$6\r\nmaster\r\n");
        else if (strcmp(c->words, "CLUSTER SLOTS") == 0)
            fake_sayf(c, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n", port);
        else
            fake_say(c, "+PONG\r\n");
    }
}

START_TEST(test_out_of_memory)
{
    static const char *const forms[] = { "redis://u:p@127.0.0.1:%u/1",
                                         "redis+sentinel://:p@127.0.0.1:%u/m/1",
                                         "redis+cluster://u:p@127.0.0.1:%u" };

    for (size_t i = 0; i < CM_ARRAY_LEN(forms); i++) {
        struct fake_redis *f = fake_redis_start(serve_anything, NULL);
        unsigned failed = 0;
        char url[128];

        (void)snprintf(url, sizeof url, "%.*s%u%s", (int)(strstr(forms[i], "%u") - forms[i]),
                       forms[i], (unsigned)fake_redis_port(f), strstr(forms[i], "%u") + 2);
        for (uint64_t n = 1;; n++) {
            cm_status rc;

            err = (struct cm_err)CM_ERR_INIT;
            (void)cm_alloc_fail_at(n);
            rc = all_of_it(url);
            if (cm_alloc_fail_at(0) < n) {
                ck_assert_msg(rc == CM_OK, "%s", err.msg);
                break;
            }
            ck_assert_msg(rc == CM_E_NOMEM && err.status == rc, "%s: %u: %s (%d)", url, (unsigned)n,
                          err.msg, rc);
            failed++;
        }
        ck_assert_uint_ge(failed, 10);
        fake_redis_stop(f);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_pool_is_bounded,   test_waiting_for_a_turn, test_canceled,      test_forked_child,
        test_the_master_of_two, test_nobody_there,       test_out_of_memory,
    };

    return run_tests("redis pool", tests, sizeof tests / sizeof tests[0]);
}
