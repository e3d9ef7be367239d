/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "fake_redis.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* One server that says no, or not now. */

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

struct script {
    const char *const *replies; /* one per command; the last one for ever */
    atomic_uint at;
};

static void serve_script(struct fake_conn *c)
{
    struct script *s = c->user;

    while (fake_next_call(c)) {
        unsigned at = atomic_load(&s->at);

        fake_say(c, s->replies[at]);
        if (s->replies[at + 1] != NULL)
            atomic_store(&s->at, at + 1);
    }
}

START_TEST(test_waited_out)
{
    static const char *const replies[] = { "-LOADING Redis is loading the dataset in memory\r\n",
                                           "-BUSY Redis is busy running a script.\r\n",
                                           "-MASTERDOWN Link with MASTER is down\r\n",
                                           "-TRYAGAIN Multiple keys\r\n",
                                           "-CLUSTERDOWN The cluster is down\r\n",
                                           "-READONLY You can't write\r\n",
                                           "-ERR Error running script: -READONLY You can't\r\n",
                                           "+PONG\r\n",
                                           NULL };
    struct script s = { replies, 0 };

    up(serve_script, &s);
    ck_assert_int_eq(linked_call(&k, 10000, false, NULL, NULL, &err, "PING", NULL), CM_OK);
    ck_assert_uint_eq(atomic_load(&s.at), 7);
    down();
}
END_TEST

START_TEST(test_waited_in_vain)
{
    static const char *const replies[] = { "-LOADING Redis is loading the dataset in memory\r\n",
                                           NULL };
    struct script s = { replies, 0 };
    int64_t began = now_ms();

    up(serve_script, &s);
    ck_assert_int_eq(linked_call(&k, 400, false, NULL, NULL, &err, "PING", NULL), CM_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(err.msg, "LOADING"));
    ck_assert_int_lt(now_ms() - began, 2000);
    down();
}
END_TEST

/* That it was asked when the time was up is not why. */
START_TEST(test_what_was_waited_for_is_told)
{
    static const char *const replies[] = { "-LOADING Redis is loading the dataset in memory\r\n",
                                           "", NULL };
    struct script s = { replies, 0 };

    up(serve_script, &s);
    ck_assert_int_eq(linked_call(&k, 600, false, NULL, NULL, &err, "PING", NULL), CM_E_TIMEOUT);
    ck_assert_uint_eq(atomic_load(&s.at), 1);
    ck_assert_ptr_nonnull(strstr(err.msg, "LOADING"));
    ck_assert_ptr_nonnull(strstr(err.msg, "it is not known whether it was carried out"));
    down();
}
END_TEST

/* A clock that pauses move on, so that they cost no time. */
static _Atomic int64_t paused_ns;

static int64_t pausing_mono(const struct cm_env *env)
{
    (void)env;
    return cm_env_system()->mono_ns(cm_env_system()) + atomic_load(&paused_ns);
}

static cm_status pausing_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    (void)env;
    (void)cancel;
    atomic_fetch_add(&paused_ns, ns);
    return CM_OK;
}

/* Who has an hour for all of his calls does not spend it on the first. */
START_TEST(test_patience_has_an_end)
{
    static const char *const replies[] = { "-CLUSTERDOWN The cluster is down\r\n", NULL };
    struct script s = { replies, 0 };
    struct cm_env env = *cm_env_system();
    struct cm_op base = { &env, 0, NULL };
    const char *words[] = { "PING" };
    struct redis_command cmd = { 1, words, NULL };
    redisReply *reply = NULL;
    struct cm_op op;

    env.mono_ns = pausing_mono;
    env.wait = pausing_wait;
    up(serve_script, &s);
    op = cm_op_within(&base, 3600 * CM_NS_PER_S);
    ck_assert_int_eq(redis_call(k.l, &op, NULL, false, &cmd, 1, &reply, &err), CM_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(err.msg, "CLUSTERDOWN"));
    ck_assert_int_ge(atomic_load(&paused_ns), 20 * CM_NS_PER_S);
    ck_assert_int_le(atomic_load(&paused_ns), 31 * CM_NS_PER_S);
    down();
}
END_TEST

START_TEST(test_errors_that_are_replies)
{
    static const char *const replies[] = { "-NOPERM this user has no permissions\r\n",
                                           "-OOM command not allowed\r\n", "-BUSYKEY Target\r\n",
                                           "-ERR whatever\r\n", NULL };
    struct script s = { replies, 0 };

    up(serve_script, &s);
    for (unsigned i = 0; replies[i] != NULL; i++) {
        redisReply *r = NULL;

        ck_assert_int_eq(linked_call(&k, 5000, false, NULL, &r, &err, "PING", NULL), CM_OK);
        ck_assert_int_eq(r->type, REDIS_REPLY_ERROR);
        ck_assert_int_eq(strncmp(r->str, replies[i] + 1, (size_t)r->len), 0);
        freeReplyObject(r);
    }
    ck_assert_uint_eq(fake_redis_connections(server), 1);
    down();
}
END_TEST

START_TEST(test_noauth_and_cluster)
{
    static const char *const replies[] = { "-NOAUTH Authentication required.\r\n",
                                           "-MOVED 1 127.0.0.1:1\r\n", NULL };
    struct script s = { replies, 0 };

    up(serve_script, &s);
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_E_PERM);
    ck_assert_ptr_nonnull(strstr(err.msg, "password_file"));
    ck_assert_int_eq(linked_call(&k, 5000, false, NULL, NULL, &err, "PING", NULL), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "redis+cluster://"));
    down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_waited_out,          test_waited_in_vain,          test_what_was_waited_for_is_told,
        test_patience_has_an_end, test_errors_that_are_replies, test_noauth_and_cluster,
    };

    return run_tests("redis not now", tests, sizeof tests / sizeof tests[0]);
}
