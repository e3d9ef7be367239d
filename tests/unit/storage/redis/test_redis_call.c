/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "fake_redis.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One server that answers as servers should not. */

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

/* ---- replies that are none */

struct cut {
    const char *text;
    size_t len;
    bool hang; /* say nothing more, instead of hanging up */
};

static void serve_cut(struct fake_conn *c)
{
    const struct cut *cut = c->user;

    while (fake_next_call(c)) {
        fake_send(c, cut->text, cut->len);
        if (!cut->hang)
            return;
        fake_hold(c);
    }
}

static const char nested[] = "*2\r\n$3\r\nabc\r\n*1\r\n:5\r\n";

START_TEST(test_hangs_up_at_each_byte)
{
    for (size_t n = 0; n < sizeof nested - 1; n++) {
        struct cut cut = { nested, n, false };

        up(serve_cut, &cut);
        ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "GET", "x", NULL),
                         CM_E_NET);
        ck_assert_ptr_nonnull(strstr(err.msg, "not known whether"));
        ck_assert_uint_eq(fake_redis_connections(server), 1);
        down();
    }
}
END_TEST

START_TEST(test_silent_at_each_byte)
{
    for (size_t n = 0; n < sizeof nested - 1; n++) {
        struct cut cut = { nested, n, true };
        int64_t began;

        up(serve_cut, &cut);
        began = now_ms();
        ck_assert_int_eq(linked_call(&k, 60, true, NULL, NULL, &err, "GET", "x", NULL),
                         CM_E_TIMEOUT);
        ck_assert_int_ge(now_ms() - began, 55);
        ck_assert_int_lt(now_ms() - began, 1500);
        down();
    }
}
END_TEST

START_TEST(test_no_redis)
{
    static const struct {
        const char *says;
        cm_status rc;
    } wrong[] = {
        { "HTTP/1.1 400 Bad Request\r\n\r\n", CM_E_PARSE },
        { "$99999999999\r\n", CM_E_LIMIT },
        { "$8388609\r\n", CM_E_LIMIT },
        { "*1048577\r\n", CM_E_LIMIT },
        { "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", CM_E_LIMIT },
        { "%2\r\n+a\r\n", CM_E_PARSE },
        { "$3\r\nabcd\r\n", CM_E_PARSE },
        { ":12x\r\n", CM_E_PARSE },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(wrong); i++) {
        struct cut cut = { wrong[i].says, strlen(wrong[i].says), true };

        up(serve_cut, &cut);
        ck_assert_int_eq(linked_call(&k, 5000, true, NULL, NULL, &err, "GET", "x", NULL),
                         wrong[i].rc);
        ck_assert_ptr_nonnull(strstr(err.msg, "Redis at 127.0.0.1:"));
        ck_assert_uint_eq(fake_redis_connections(server), 1);
        down();
    }
}
END_TEST

static void serve_bytewise(struct fake_conn *c)
{
    while (fake_next_call(c))
        for (size_t i = 0; i < sizeof nested - 1; i++) {
            fake_send(c, nested + i, 1);
            (void)usleep(500);
        }
}

START_TEST(test_byte_by_byte)
{
    redisReply *r = NULL;

    up(serve_bytewise, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, &r, &err, "GET", "x", NULL), CM_OK);
    ck_assert_uint_eq(r->elements, 2);
    freeReplyObject(r);
    down();
}
END_TEST

static atomic_bool stop_dripping;

static void serve_drip(struct fake_conn *c)
{
    if (!fake_next_call(c))
        return;
    fake_say(c, "$5000000\r\n");
    while (!atomic_load(&stop_dripping)) {
        fake_say(c, "x");
        (void)usleep(2000);
    }
}

/* There is always something to read: the deadline holds all the same. */
START_TEST(test_drop_by_drop)
{
    int64_t began = now_ms();

    up(serve_drip, NULL);
    ck_assert_int_eq(linked_call(&k, 300, true, NULL, NULL, &err, "GET", "x", NULL), CM_E_TIMEOUT);
    ck_assert_int_lt(now_ms() - began, 2000);
    atomic_store(&stop_dripping, true);
    down();
}
END_TEST

/* ---- a process that was stopped */

static atomic_uint replied;
static atomic_bool is_stopping;
static _Atomic int64_t slept_ns;

static void serve_late(struct fake_conn *c)
{
    while (fake_next_call(c)) {
        (void)usleep(20000);
        fake_say(c, "+PONG\r\n");
        atomic_fetch_add(&replied, 1);
    }
}

/* Once there is the second reply an hour has passed. */
static int64_t stopped_mono(const struct cm_env *env)
{
    (void)env;
    for (int i = 0; i < 50 && atomic_load(&is_stopping) && atomic_load(&replied) < 2; i++)
        (void)usleep(2000);
    if (atomic_load(&is_stopping) && atomic_load(&replied) >= 2)
        atomic_store(&slept_ns, 3600 * CM_NS_PER_S);
    return cm_env_system()->mono_ns(cm_env_system()) + atomic_load(&slept_ns);
}

START_TEST(test_reply_that_came_while_we_were_stopped)
{
    struct cm_env env = *cm_env_system();
    struct cm_op base = { &env, 0, NULL };
    const char *words[] = { "GET", "x" };
    struct redis_command cmd = { 2, words, NULL };
    redisReply *reply = NULL;
    struct cm_op op;

    env.mono_ns = stopped_mono;
    up(serve_late, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "GET", "x", NULL), CM_OK);
    op = cm_op_within(&base, 5 * CM_NS_PER_S);
    atomic_store(&is_stopping, true);
    ck_assert_int_eq(redis_call(k.l, &op, NULL, false, &cmd, 1, &reply, &err), CM_OK);
    ck_assert_int_gt(atomic_load(&slept_ns), 0);
    freeReplyObject(reply);
    down();
}
END_TEST

/* ---- sending again */

static atomic_uint asked;

static void serve_first_dies(struct fake_conn *c)
{
    while (fake_next_call(c)) {
        atomic_fetch_add(&asked, 1);
        if (c->number == 0)
            return;
        fake_say(c, "+PONG\r\n");
    }
}

START_TEST(test_again)
{
    up(serve_first_dies, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, true, NULL, NULL, &err, "PING", NULL), CM_OK);
    ck_assert_uint_eq(atomic_load(&asked), 2);
    down();
}
END_TEST

START_TEST(test_not_again)
{
    up(serve_first_dies, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_E_NET);
    ck_assert_uint_eq(atomic_load(&asked), 1);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
    down();
}
END_TEST

static void serve_always_dies(struct fake_conn *c)
{
    if (fake_next_call(c))
        atomic_fetch_add(&asked, 1);
}

START_TEST(test_again_is_bounded)
{
    up(serve_always_dies, NULL);
    ck_assert_int_eq(linked_call(&k, 20000, true, NULL, NULL, &err, "PING", NULL), CM_E_NET);
    ck_assert_uint_ge(atomic_load(&asked), 2);
    ck_assert_uint_le(atomic_load(&asked), 3);
    down();
}
END_TEST

/* A connection that was closed while nobody used it is seen to be before it is used: also what may
 * not be sent twice goes through. */
static void serve_one_each(struct fake_conn *c)
{
    if (fake_next_call(c))
        fake_say(c, "+PONG\r\n");
}

START_TEST(test_idle_connection_closed)
{
    up(serve_one_each, NULL);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
        (void)usleep(50000);
    }
    ck_assert_uint_eq(fake_redis_connections(server), 3);
    down();
}
END_TEST

static void serve_too_much(struct fake_conn *c)
{
    while (fake_next_call(c))
        fake_say(c, c->number == 0 ? "+1\r\n+2\r\n" : "+mine\r\n");
}

START_TEST(test_unasked_reply_is_nobodys)
{
    redisReply *r = NULL;

    up(serve_too_much, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, &r, &err, "PING", NULL), CM_OK);
    ck_assert_str_eq(r->str, "1");
    freeReplyObject(r);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, &r, &err, "PING", NULL), CM_OK);
    ck_assert_str_eq(r->str, "mine");
    freeReplyObject(r);
    down();
}
END_TEST

static void serve_pong(struct fake_conn *c)
{
    while (fake_next_call(c))
        fake_say(c, "+PONG\r\n");
}

START_TEST(test_connection_is_kept)
{
    up(serve_pong, NULL);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
    ck_assert_uint_eq(fake_redis_connections(server), 1);
    down();
}
END_TEST

/* ---- logging in */

static void serve_login(struct fake_conn *c)
{
    const char *const *says = c->user; /* to AUTH and to CLIENT SETNAME */

    while (fake_next(c)) {
        if (strncmp(c->words, "AUTH ", 5) == 0)
            fake_say(c, says[0]);
        else if (strncmp(c->words, "CLIENT ", 7) == 0)
            fake_say(c, says[1]);
        else if (strncmp(c->words, "SELECT ", 7) == 0)
            fake_say(c, says[2]);
        else
            fake_say(c, "+PONG\r\n");
    }
}

static void login(const char *a, const char *n, const char *s, cm_status rc, const char *text)
{
    const char *says[] = { a, n, s };

    err = (struct cm_err)CM_ERR_INIT;
    server = fake_redis_start(serve_login, says);
    linked_open(&k, server, "redis://u:s3cret@127.0.0.1:%u/2?timeout=2s");
    ck_assert_int_eq(linked_call(&k, 600, false, NULL, NULL, &err, "PING", NULL), rc);
    ck_assert_msg(strstr(err.msg, text) != NULL, "%s", err.msg);
    ck_assert_ptr_null(strstr(err.msg, "s3cret"));
    down();
}

START_TEST(test_login)
{
    const char *ok = "+OK\r\n";

    login(ok, ok, ok, CM_OK, "");
    login(ok, "-NOPERM no client command\r\n", ok, CM_OK, "");
    login(ok, "-ERR unknown subcommand\r\n", ok, CM_OK, "");
    login("-WRONGPASS invalid username-password pair\r\n", ok, ok, CM_E_PERM, "password");
    login("-ERR invalid password\r\n", ok, ok, CM_E_PERM, "password");
    login("-ERR AUTH <password> called without any password configured for the default user.\r\n",
          ok, ok, CM_E_PERM, "no password");
    login(ok, ok, "-ERR DB index is out of range\r\n", CM_E_INVAL, "no database 2");
    login(ok, ok, "-NOPERM no select\r\n", CM_E_PERM, "ACL");
    login("-LOADING wait\r\n", ok, ok, CM_E_TIMEOUT, "LOADING");
    login("+OK\r\n*1\r\n", "%", ok, CM_E_PARSE, "no Redis protocol");
}
END_TEST

static void serve_full_at_first(struct fake_conn *c)
{
    if (c->number < 2) {
        fake_say(c, "-ERR max number of clients reached\r\n");
        return;
    }
    serve_pong(c);
}

START_TEST(test_full_for_a_moment)
{
    up(serve_full_at_first, NULL);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
    ck_assert_uint_eq(fake_redis_connections(server), 3);
    down();
}
END_TEST

/* ---- pipelines */

static cm_status pipeline(bool again, redisReply **replies)
{
    static const char *const a[] = { "SET", "a", "1" }, *const b[] = { "SET", "b", "2" },
                             *const c[] = { "GET", "a" };
    const struct redis_command commands[] = { { 3, a, NULL }, { 3, b, NULL }, { 2, c, NULL } };
    struct cm_op op = cm_op_within(NULL, 5 * CM_NS_PER_S);

    return redis_call(k.l, &op, NULL, again, commands, 3, replies, &err);
}

#define LOG_SIZE 512u

static void record(struct fake_conn *c, char log[LOG_SIZE])
{
    size_t n = strlen(log);

    (void)snprintf(log + n, LOG_SIZE - n, "%s;", c->words);
}

struct mixed {
    const char *const *replies;
    unsigned at;
    char log[LOG_SIZE];
};

static void serve_mixed(struct fake_conn *c)
{
    struct mixed *m = c->user;

    while (fake_next_call(c)) {
        record(c, m->log);
        fake_say(c, m->replies[m->at]);
        m->at += m->replies[m->at + 1] != NULL;
    }
}

static void mixed(bool again, const char *const *replies, cm_status rc, const char *log)
{
    struct mixed m = { .replies = replies };
    redisReply *r[3] = { NULL };

    up(serve_mixed, &m);
    ck_assert_int_eq(pipeline(again, r), rc);
    if (rc == CM_OK) {
        ck_assert_str_eq(r[0]->str, "first");
        ck_assert_str_eq(r[2]->str, "third");
    }
    redis_free_replies(r, 3);
    down();
    ck_assert_str_eq(m.log, log);
}

/* Part of a pipeline is refused: what was carried out is not repeated, unless it may be. */
START_TEST(test_pipeline_refused_in_part)
{
    static const char *const tail[] = { "+first\r\n",  "-LOADING x\r\n", "-LOADING x\r\n",
                                        "+second\r\n", "+third\r\n",     NULL };
    static const char *const middle[] = { "+first\r\n",  "-LOADING x\r\n", "+odd\r\n", "+first\r\n",
                                          "+second\r\n", "+third\r\n",     NULL };

    mixed(false, tail, CM_OK, "SET a 1;SET b 2;GET a;SET b 2;GET a;");
    mixed(false, middle, CM_E_NET, "SET a 1;SET b 2;GET a;");
    mixed(true, middle, CM_OK, "SET a 1;SET b 2;GET a;SET a 1;SET b 2;GET a;");
}
END_TEST

#define BIG (6u * 1024 * 1024)

/* Answers at length before it has heard all: who only writes would wait for ever. */
static void serve_talker(struct fake_conn *c)
{
    char *big = malloc(BIG + 2);
    char sink[65536];
    size_t left = BIG;

    ck_assert_ptr_nonnull(big);
    memset(big, 'y', BIG);
    memcpy(big + BIG, "\r\n", 2);
    (void)fake_next(c);
    fake_say(c, "+OK\r\n");
    fake_sayf(c, "$%u\r\n", BIG);
    fake_send(c, big, BIG + 2);
    while (left > 0) {
        ssize_t n = recv(c->fd, sink, sizeof sink, 0);

        if (n <= 0)
            break;
        left -= (size_t)n < left ? (size_t)n : left;
    }
    fake_hold(c);
    free(big);
}

START_TEST(test_both_ways_at_once)
{
    char *big = calloc(1, BIG + 1);
    redisReply *r = NULL;

    ck_assert_ptr_nonnull(big);
    memset(big, 'x', BIG);
    up(serve_talker, NULL);
    ck_assert_int_eq(linked_call(&k, 20000, false, NULL, &r, &err, "SET", "k", big, NULL), CM_OK);
    ck_assert_uint_eq(r->len, BIG);
    freeReplyObject(r);
    free(big);
    down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_hangs_up_at_each_byte,
        test_silent_at_each_byte,
        test_no_redis,
        test_byte_by_byte,
        test_drop_by_drop,
        test_reply_that_came_while_we_were_stopped,
        test_again,
        test_not_again,
        test_again_is_bounded,
        test_idle_connection_closed,
        test_unasked_reply_is_nobodys,
        test_connection_is_kept,
        test_login,
        test_full_for_a_moment,
        test_pipeline_refused_in_part,
        test_both_ways_at_once,
    };

    return run_tests("redis call", tests, sizeof tests / sizeof tests[0]);
}
