/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "fake_redis.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Sentinels and nodes of a cluster that are made up. */

static struct linked k;
static struct cm_err err;

START_TEST(test_slots)
{
    static const struct {
        const char *key;
        unsigned slot;
    } known[] = {
        { "123456789", 12739 },
        { "", 0 },
        { "foo", 12182 },
        { "{user1000}.following", 3443 },
        { "{user1000}.followers", 3443 },
        { "foo{}{bar}", 8363 },
        { "foo{{bar}}zap", 4015 },
        { "foo{bar}{zap}", 5061 },
        { "bar", 5061 },
        { "{bar", 4015 },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(known); i++)
        ck_assert_msg(redis_slot(known[i].key, strlen(known[i].key)) == known[i].slot,
                      "%s: %u, not %u", known[i].key,
                      redis_slot(known[i].key, strlen(known[i].key)), known[i].slot);
    /* "foo{}{bar}": the first tag is empty, so the whole key counts. */
    ck_assert_uint_ne(redis_slot("foo{}{bar}", 10), redis_slot("bar", 3));
}
END_TEST

/* ---- cluster */

struct node {
    struct fake_redis *f;
    struct node *other;
    const char *slots;  /* instead of the truth */
    const char *answer; /* to anything else; %u is the other's port */
    atomic_uint gets, slots_asked, asking;
};

static struct node a, b;

static void serve_node(struct fake_conn *c)
{
    struct node *n = c->user;

    while (fake_next_call(c)) {
        unsigned self = fake_redis_port(c->server);

        if (strcmp(c->words, "CLUSTER SLOTS") == 0) {
            atomic_fetch_add(&n->slots_asked, 1);
            if (n->slots != NULL)
                fake_say(c, n->slots);
            else
                fake_sayf(c, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n", self);
        } else if (strcmp(c->words, "ASKING") == 0) {
            atomic_fetch_add(&n->asking, 1);
            fake_say(c, "+OK\r\n");
        } else {
            unsigned other = n->other != NULL ? (unsigned)fake_redis_port(n->other->f) : 0;
            char text[200];
            const char *at = strstr(n->answer, "%u");

            atomic_fetch_add(&n->gets, 1);
            if (at != NULL)
                (void)snprintf(text, sizeof text, "%.*s%u%s", (int)(at - n->answer), n->answer,
                               other, at + 2);
            fake_say(c, at != NULL ? text : n->answer);
        }
    }
}

static void cluster_up(const char *from_a, const char *from_b)
{
    err = (struct cm_err)CM_ERR_INIT;
    a.other = &b;
    b.other = &a;
    a.answer = from_a;
    b.answer = from_b;
    a.f = fake_redis_start(serve_node, &a);
    b.f = fake_redis_start(serve_node, &b);
    linked_open(&k, a.f, "redis+cluster://127.0.0.1:%u?timeout=2s");
}

static void cluster_down(void)
{
    linked_close(&k);
    fake_redis_stop(a.f);
    fake_redis_stop(b.f);
}

static cm_status get(int64_t ms)
{
    return linked_call(&k, ms, false, "x", NULL, &err, "GET", "x", NULL);
}

START_TEST(test_moved)
{
    cluster_up("-MOVED 16287 127.0.0.1:%u\r\n", "+B\r\n");
    ck_assert_int_eq(get(5000), CM_OK);
    ck_assert_uint_eq(atomic_load(&a.gets), 1);
    ck_assert_uint_eq(atomic_load(&b.gets), 1);
    ck_assert_uint_eq(atomic_load(&b.asking), 0);
    cluster_down();
}
END_TEST

/* An empty host means the one that said so. */
START_TEST(test_moved_to_the_same_host)
{
    cluster_up("-MOVED 16287 :%u\r\n", "+B\r\n");
    ck_assert_int_eq(get(5000), CM_OK);
    ck_assert_uint_eq(atomic_load(&b.gets), 1);
    cluster_down();
}
END_TEST

START_TEST(test_ask)
{
    cluster_up("-ASK 16287 127.0.0.1:%u\r\n", "+B\r\n");
    for (unsigned i = 1; i <= 2; i++) {
        ck_assert_int_eq(get(5000), CM_OK);
        /* The map is left alone: the next one begins at the same place. */
        ck_assert_uint_eq(atomic_load(&a.gets), i);
        ck_assert_uint_eq(atomic_load(&b.asking), i);
    }
    ck_assert_uint_eq(atomic_load(&a.slots_asked), 1);
    ck_assert_uint_eq(atomic_load(&b.slots_asked), 0);
    cluster_down();
}
END_TEST

/* A slot on its way, the keys of a script on both sides: until the deadline, not until some number
 * of redirections. */
START_TEST(test_ask_and_try_again)
{
    cluster_up("-ASK 16287 127.0.0.1:%u\r\n", "-TRYAGAIN half of it\r\n");
    ck_assert_int_eq(get(3500), CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, "TRYAGAIN") != NULL, "%s", err.msg);
    ck_assert_uint_ge(atomic_load(&b.asking), 6);
    b.answer = "+B\r\n";
    ck_assert_int_eq(get(5000), CM_OK);
    cluster_down();
}
END_TEST

START_TEST(test_moved_in_circles)
{
    cluster_up("-MOVED 16287 127.0.0.1:%u\r\n", "-MOVED 16287 127.0.0.1:%u\r\n");
    ck_assert_int_eq(get(10000), CM_E_NET);
    ck_assert_ptr_nonnull(strstr(err.msg, "redirected 5 times"));
    ck_assert_uint_eq(atomic_load(&a.gets) + atomic_load(&b.gets), 6);
    cluster_down();
}
END_TEST

START_TEST(test_moved_nowhere)
{
    static const char *const where[] = { "-MOVED 16287\r\n", "-MOVED\r\n",
                                         "-MOVED 16287 127.0.0.1:0\r\n",
                                         "-MOVED 16287 127.0.0.1:99999\r\n",
                                         "-ASK 16287 127.0.0.1:\r\n" };

    for (size_t i = 0; i < CM_ARRAY_LEN(where); i++) {
        cluster_up(where[i], "+B\r\n");
        ck_assert_msg(get(5000) == CM_E_PARSE, "%s", where[i]);
        cluster_down();
    }
}
END_TEST

START_TEST(test_bad_slots)
{
    static const struct {
        const char *says;
        cm_status rc;
        const char *text;
    } bad[] = {
        { "+OK\r\n", CM_E_PARSE, "no list" },
        { "*1\r\n:1\r\n", CM_E_PARSE, "bad range" },
        { "*1\r\n*3\r\n:5\r\n:4\r\n*2\r\n$1\r\nh\r\n:1\r\n", CM_E_PARSE, "bad range" },
        { "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n", CM_E_PARSE, "bad range" },
        { "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\nh\r\n:1\r\n", CM_E_PARSE, "bad range" },
        { "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:65536\r\n", CM_E_PARSE, "bad address" },
        { "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\nh\r\n", CM_E_PARSE, "bad address" },
        { "*1\r\n*3\r\n:0\r\n:1\r\n$1\r\nh\r\n", CM_E_PARSE, "bad address" },
        { "-NOPERM no\r\n", CM_E_PERM, "+cluster|slots" },
        { "-ERR This instance has cluster support disabled\r\n", CM_E_INVAL, "no cluster" },
        { "*0\r\n", CM_E_TIMEOUT, "no node with slots" },
        /* Slot 16287 is nobody's. */
        { "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$-1\r\n:1\r\n", CM_E_TIMEOUT, "slot of 'x'" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        a.slots = bad[i].says;
        cluster_up("+A\r\n", "+B\r\n");
        ck_assert_msg(get(300) == bad[i].rc, "%s: %s", bad[i].says, err.msg);
        ck_assert_msg(strstr(err.msg, bad[i].text) != NULL, "%s: %s", bad[i].says, err.msg);
        cluster_down();
    }
}
END_TEST

/* ---- sentinels */

struct sentinel {
    struct fake_redis *f;
    const char *says; /* %u: the port of the server */
    struct fake_redis *server;
    atomic_uint asked;
};

static void serve_sentinel(struct fake_conn *c)
{
    struct sentinel *s = c->user;

    while (fake_next_call(c)) {
        char port[16];
        int len;

        ck_assert_str_eq(c->words, "SENTINEL GET-MASTER-ADDR-BY-NAME mine");
        atomic_fetch_add(&s->asked, 1);
        if (s->says != NULL) {
            fake_say(c, s->says);
            continue;
        }
        len = snprintf(port, sizeof port, "%u", (unsigned)fake_redis_port(s->server));
        fake_sayf(c, "*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n", len, port);
    }
}

static atomic_int replica_for; /* so many times */

static void serve_master(struct fake_conn *c)
{
    while (fake_next_call(c)) {
        if (strcmp(c->words, "ROLE") != 0)
            fake_say(c, "+PONG\r\n");
        else if (atomic_fetch_sub(&replica_for, 1) > 0)
            fake_say(c, "*1\r\n$5\r\nslave\r\n");
        else
            fake_say(c, "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    }
}

static struct sentinel s[2];
static struct fake_redis *server;

static void sentinels_up(const char *first, const char *second)
{
    char url[128];

    err = (struct cm_err)CM_ERR_INIT;
    server = fake_redis_start(serve_master, NULL);
    s[0].says = first;
    s[1].says = second;
    for (size_t i = 0; i < 2; i++) {
        s[i].server = server;
        s[i].f = fake_redis_start(serve_sentinel, &s[i]);
    }
    (void)snprintf(url, sizeof url, "redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/mine?timeout=1s",
                   (unsigned)fake_redis_port(s[0].f), (unsigned)fake_redis_port(s[1].f));
    linked_open(&k, NULL, url);
}

static void sentinels_down(void)
{
    linked_close(&k);
    fake_redis_stop(server);
    fake_redis_stop(s[0].f);
    fake_redis_stop(s[1].f);
}

static cm_status ping(int64_t ms)
{
    return linked_call(&k, ms, false, NULL, NULL, &err, "PING", NULL);
}

START_TEST(test_sentinel)
{
    sentinels_up(NULL, NULL);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(ping(5000), CM_OK);
    ck_assert_uint_eq(atomic_load(&s[0].asked) + atomic_load(&s[1].asked), 1);
    sentinels_down();
}
END_TEST

/* What the first one says is of no use: the second is asked. */
START_TEST(test_sentinels_in_turn)
{
    static const char *const says[] = {
        "*-1\r\n", "-ERR no\r\n", "+what\r\n", "*2\r\n:1\r\n:2\r\n", "*2\r\n$1\r\nh\r\n$1\r\nx\r\n",
        "nonsense"
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(says); i++) {
        sentinels_up(says[i], NULL);
        ck_assert_msg(ping(5000) == CM_OK, "%s: %s", says[i], err.msg);
        sentinels_down();
    }
}
END_TEST

START_TEST(test_no_such_master)
{
    sentinels_up("*-1\r\n", "*-1\r\n");
    ck_assert_int_eq(ping(5000), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "knows no master 'mine'"));
    sentinels_down();
}
END_TEST

/* The sentinels name a server that has not been promoted yet: they are asked until it has. */
START_TEST(test_role_is_checked)
{
    atomic_store(&replica_for, 2);
    sentinels_up(NULL, NULL);
    ck_assert_int_eq(ping(5000), CM_OK);
    ck_assert_uint_eq(atomic_load(&s[0].asked) + atomic_load(&s[1].asked), 3);
    sentinels_down();
    atomic_store(&replica_for, 1000);
    sentinels_up(NULL, NULL);
    ck_assert_int_eq(ping(400), CM_E_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(err.msg, "is a replica"));
    sentinels_down();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_slots,
        test_moved,
        test_moved_to_the_same_host,
        test_ask,
        test_ask_and_try_again,
        test_moved_in_circles,
        test_moved_nowhere,
        test_bad_slots,
        test_sentinel,
        test_sentinels_in_turn,
        test_no_such_master,
        test_role_is_checked,
    };

    return run_tests("redis topology", tests, sizeof tests / sizeof tests[0]);
}
