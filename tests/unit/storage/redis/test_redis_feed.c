/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "fake_redis.h"

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* The subscription and the thread that keeps it up. */

static struct linked k;
static atomic_uint gaps, messages, wrong;

static void on_gap(void *user, bool over)
{
    (void)user;
    if (over)
        atomic_fetch_add(&gaps, 1);
}

static void on_message(void *user, struct cm_span m)
{
    (void)user;
    if (m.len == 5 && memcmp(m.data, "x\r\n\0y", 5) == 0)
        atomic_fetch_add(&messages, 1);
    else
        atomic_fetch_add(&wrong, 1);
}

static struct redis_feed *feed(const struct fake_redis *f, const char *url)
{
    struct redis_feed *feed = NULL;

    linked_open(&k, f, url);
    ck_assert_int_eq(redis_feed_new(k.l, "news", on_message, on_gap, NULL, &feed, NULL), CM_OK);
    return feed;
}

static bool reaches(const atomic_uint *n, unsigned want, unsigned ms)
{
    for (unsigned i = 0; i < ms && atomic_load(n) < want; i++)
        (void)usleep(1000);
    return atomic_load(n) >= want;
}

static const char subscribed[] = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
static const char news[] = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nx\r\n\0y\r\n";

static void serve_two_then_hang_up(struct fake_conn *c)
{
    if (!fake_next_call(c))
        return;
    ck_assert_str_eq(c->words, "SUBSCRIBE news");
    fake_send(c, subscribed, sizeof subscribed - 1);
    for (size_t i = 0; i < sizeof news - 1; i++)
        fake_send(c, news + i, 1);
    fake_send(c, news, sizeof news - 1);
}

/* Messages come, whole; each new connection is a gap. */
START_TEST(test_messages_and_gaps)
{
    struct fake_redis *f = fake_redis_start(serve_two_then_hang_up, NULL);
    struct redis_feed *feed_ = feed(f, "redis://127.0.0.1:%u?timeout=1s");

    ck_assert(reaches(&messages, 4, 5000));
    ck_assert_uint_ge(atomic_load(&gaps), 2);
    redis_feed_free(feed_);
    ck_assert_uint_eq(atomic_load(&wrong), 0);
    ck_assert_uint_ge(atomic_load(&messages) + 1, 2 * atomic_load(&gaps));
    linked_close(&k);
    fake_redis_stop(f);
}
END_TEST

static void serve_hang(struct fake_conn *c)
{
    fake_hold(c);
}

static void serve_subscribed(struct fake_conn *c)
{
    if (fake_next_call(c))
        fake_send(c, subscribed, sizeof subscribed - 1);
    fake_hold(c);
}

/* Whatever it is waiting for, freeing it is quick. */
START_TEST(test_free_is_quick)
{
    const fake_serve_fn serve[] = { serve_hang, serve_subscribed };

    for (size_t i = 0; i < CM_ARRAY_LEN(serve); i++) {
        struct fake_redis *f = fake_redis_start(serve[i], NULL);
        struct redis_feed *feed_ = feed(f, "redis://127.0.0.1:%u?timeout=1m");
        int64_t began;

        while (fake_redis_connections(f) == 0)
            (void)usleep(1000);
        (void)usleep(50000);
        began = now_ms();
        redis_feed_free(feed_);
        ck_assert_int_lt(now_ms() - began, 1000);
        linked_close(&k);
        fake_redis_stop(f);
    }
    redis_feed_free(NULL);
}
END_TEST

static void serve_garbage(struct fake_conn *c)
{
    static const char *const says[] = { "+OK\r\n",
                                        "-NOPERM no channel\r\n",
                                        "*1\r\n:1\r\n",
                                        "*2\r\n$7\r\nmessage\r\n:1\r\n",
                                        "*3\r\n*0\r\n*0\r\n*0\r\n",
                                        "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n:4\r\n",
                                        "GET /" };

    if (!fake_next_call(c))
        return;
    if (c->number < CM_ARRAY_LEN(says)) {
        fake_say(c, says[c->number]);
        return;
    }
    fake_send(c, subscribed, sizeof subscribed - 1);
    fake_send(c, news, sizeof news - 1);
    fake_hold(c);
}

/* Nonsense ends the connection, not the feed; and is no message. */
START_TEST(test_survives_nonsense)
{
    struct fake_redis *f = fake_redis_start(serve_garbage, NULL);
    struct redis_feed *feed_ = feed(f, "redis://127.0.0.1:%u?timeout=200ms");

    ck_assert(reaches(&messages, 1, 30000));
    redis_feed_free(feed_);
    ck_assert_uint_eq(atomic_load(&wrong), 0);
    ck_assert_uint_eq(atomic_load(&gaps), 1);
    linked_close(&k);
    fake_redis_stop(f);
}
END_TEST

static atomic_uint pings;

static void serve_then_silent(struct fake_conn *c)
{
    if (!fake_next_call(c))
        return;
    fake_send(c, subscribed, sizeof subscribed - 1);
    while (fake_next_call(c))
        if (strcmp(c->words, "PING") == 0)
            atomic_fetch_add(&pings, 1);
}

/* Ten seconds of silence: is anybody there? Nobody: another connection. */
START_TEST(test_half_open)
{
    struct fake_redis *f = fake_redis_start(serve_then_silent, NULL);
    struct redis_feed *feed_ = feed(f, "redis://127.0.0.1:%u?timeout=300ms");
    int64_t began = now_ms();

    ck_assert(reaches(&gaps, 2, 15000));
    ck_assert_int_ge(now_ms() - began, 9500);
    ck_assert_uint_eq(atomic_load(&pings), 1);
    redis_feed_free(feed_);
    linked_close(&k);
    fake_redis_stop(f);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_messages_and_gaps,
        test_free_is_quick,
        test_survives_nonsense,
        test_half_open,
    };

    return run_tests("redis feed", tests, sizeof tests / sizeof tests[0]);
}
