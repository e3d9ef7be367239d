/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Replies that get lost: between the backend and the server stands a relay that passes a script on,
 * or does not, and then closes the connection instead of answering. */

#define TTL (15 * CM_NS_PER_S)

enum cut { PASS, AFTER, BEFORE };

static struct relay {
    int listener;
    uint16_t server_port;
    _Atomic enum cut cut;
    _Atomic int cuts; /* so many times, then PASS */
    _Atomic unsigned done;
    void (*between)(void); /* runs after the server did it and before anybody knows */
} relay;

static int dial(uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static bool send_all(int fd, const char *data, ssize_t n)
{
    return n > 0 && send(fd, data, (size_t)n, MSG_NOSIGNAL) == n;
}

/* From the client: false to end both. */
static bool upward(int client, int server)
{
    char data[65536];
    ssize_t n = recv(client, data, sizeof data, 0);

    if (n <= 0)
        return false;
    if (atomic_load(&relay.cuts) > 0 && memmem(data, (size_t)n, "EVAL", 4) != NULL) {
        enum cut how = atomic_load(&relay.cut);

        (void)atomic_fetch_sub(&relay.cuts, 1);
        if (how == AFTER) {
            (void)send_all(server, data, n);
            (void)recv(server, data, sizeof data, 0);
            if (relay.between != NULL)
                relay.between();
        }
        atomic_fetch_add(&relay.done, 1);
        return false;
    }
    return send_all(server, data, n);
}

static void *carry(void *arg)
{
    int client = *(int *)arg;
    int server = dial(relay.server_port);
    char data[65536];
    bool open = server >= 0;

    free(arg);
    while (open) {
        struct pollfd p[2] = { { client, POLLIN, 0 }, { server, POLLIN, 0 } };

        if (poll(p, 2, 20000) <= 0)
            break;
        if (p[1].revents != 0) {
            ssize_t n = recv(server, data, sizeof data, 0);

            open = send_all(client, data, n);
        }
        if (open && p[0].revents != 0)
            open = upward(client, server);
    }
    (void)close(server);
    (void)close(client);
    return NULL;
}

static void *take(void *arg)
{
    (void)arg;
    for (;;) {
        int *client = cm_calloc(1, sizeof *client);
        pthread_t thread;

        *client = accept4(relay.listener, NULL, NULL, SOCK_CLOEXEC);
        if (*client < 0 || pthread_create(&thread, NULL, carry, client) != 0) {
            free(client);
            return NULL;
        }
        (void)pthread_detach(thread);
    }
}

static struct cm_storage *relayed(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t len = sizeof a;
    pthread_t thread;
    char url[128];
    char parameters[64];
    struct cm_grant g;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    relay.server_port = (uint16_t)strtoul(getenv("REDIS_PORT"), NULL, 10);
    relay.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(relay.listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(relay.listener, 16), 0);
    ck_assert_int_eq(getsockname(relay.listener, (struct sockaddr *)&a, &len), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, take, NULL), 0);
    (void)pthread_detach(thread);
    (void)snprintf(url, sizeof url, "redis://cm:cmpw@127.0.0.1:%u", ntohs(a.sin_port));
    (void)snprintf(parameters, sizeof parameters, "prefix=%s", prefix);
    struct cm_storage *s = open_at(url, parameters, NULL);
    /* Connected, and the server knows each script: what gets lost is never just its NOSCRIPT. */
    must(cm_storage_store(s, NULL, "warm", cm_span_str("x"), &err));
    must(cm_storage_remove(s, NULL, "warm", &err));
    must(cm_storage_try_lock(s, NULL, "warm", TTL, &g, NULL, &err));
    must(cm_storage_refresh(s, NULL, &g, &err));
    must(cm_storage_unlock(s, NULL, &g, &err));
    return s;
}

static void arm(enum cut how, int times, void (*between)(void))
{
    relay.between = between;
    atomic_store(&relay.done, 0);
    atomic_store(&relay.cut, how);
    atomic_store(&relay.cuts, times);
}

static void happened(unsigned times)
{
    ck_assert_uint_eq(atomic_load(&relay.done), times);
}

START_TEST(a_store_whose_reply_is_lost_is_done_once)
{
    struct cm_storage *s = relayed();

    arm(AFTER, 1, NULL);
    must(cm_storage_store(s, NULL, "d/v", cm_span_str("one"), &err));
    happened(1);
    ck_assert_str_eq(get("d/v"), "one");
    arm(BEFORE, 1, NULL);
    must(cm_storage_store(s, NULL, "d/v", cm_span_str("two"), &err));
    happened(1);
    ck_assert_str_eq(get("d/v"), "two");
    arm(AFTER, 1, NULL);
    must(cm_storage_remove(s, NULL, "d", &err));
    ck_assert_ptr_null(get("d/v"));
    cm_storage_close(s);
}
END_TEST

START_TEST(one_that_never_arrives_is_an_error)
{
    struct cm_storage *s = relayed();

    put("d/v", "old");
    arm(BEFORE, 100, NULL);
    must_fail(cm_storage_store(s, NULL, "d/v", cm_span_str("new"), &err), CM_E_NET);
    arm(PASS, 0, NULL);
    ck_assert_str_eq(get("d/v"), "old");
    cm_storage_close(s);
}
END_TEST

START_TEST(a_lock_whose_grant_is_lost_is_got)
{
    struct cm_storage *s = relayed();
    struct cm_grant g;
    struct cm_grant other;

    arm(AFTER, 1, NULL);
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    happened(1);
    must_fail(cm_storage_try_lock(st, NULL, "l", TTL, &other, NULL, &err), CM_E_BUSY);
    arm(AFTER, 1, NULL);
    must(cm_storage_refresh(s, NULL, &g, &err));
    happened(1);
    arm(AFTER, 1, NULL);
    must(cm_storage_unlock(s, NULL, &g, &err));
    happened(1);
    must(cm_storage_try_lock(st, NULL, "l", TTL, &other, NULL, &err));
    ck_assert(other.fence > g.fence);
    must(cm_storage_unlock(st, NULL, &other, &err));
    arm(BEFORE, 1, NULL);
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    arm(BEFORE, 1, NULL);
    must(cm_storage_unlock(s, NULL, &g, &err));
    cm_storage_close(s);
}
END_TEST

static struct cm_commit_item items[2];

static void steal(void)
{
    redisContext *c = redisConnectUnix(getenv("REDIS_SOCKET"));

    freeReplyObject(redisCommand(c, "AUTH admin adminpw"));
    freeReplyObject(redisCommand(c, "SET %s/locks/l DDDDDDDDDDDDDDDDDDDDDD PX 60000", prefix));
    redisFree(c);
}

START_TEST(a_commit_whose_reply_is_lost_is_looked_for)
{
    struct cm_storage *s = relayed();
    struct cm_grant g;

    items[0] = (struct cm_commit_item){ .key = "c/1", .value = cm_span_str("one") };
    items[1] = (struct cm_commit_item){ .key = "c/old", .remove = true };
    put("c/old", "x");
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    arm(AFTER, 1, NULL);
    must(cm_storage_commit(s, NULL, &g, items, 2, &err));
    happened(1);
    ck_assert_str_eq(get("c/1"), "one");
    ck_assert_ptr_null(get("c/old"));
    /* It is done, though the lock went to another before anybody knew. */
    items[0].value = cm_span_str("two");
    arm(AFTER, 1, steal);
    must(cm_storage_commit(s, NULL, &g, items, 1, &err));
    happened(1);
    ck_assert_str_eq(get("c/1"), "two");
    /* Nor is it done when that happens first. */
    items[0].value = cm_span_str("three");
    arm(AFTER, 1, NULL);
    must_fail(cm_storage_commit(s, NULL, &g, items, 1, &err), CM_E_LOCK_LOST);
    ck_assert_str_eq(get("c/1"), "two");
    cm_storage_close(s);
}
END_TEST

/* What another has stored meanwhile is not ours: it is told apart, and ours comes last. */
static void overwrite(void)
{
    redisContext *c = redisConnectUnix(getenv("REDIS_SOCKET"));

    freeReplyObject(redisCommand(c, "AUTH admin adminpw"));
    freeReplyObject(redisCommand(c, "SET %s/d/v %s", prefix, "{\"value\":\"eA==\"}"));
    redisFree(c);
}

START_TEST(a_value_of_another_is_not_taken_for_ours)
{
    struct cm_storage *s = relayed();

    arm(AFTER, 1, overwrite);
    must(cm_storage_store(s, NULL, "d/v", cm_span_str("ours"), &err));
    happened(1);
    ck_assert_str_eq(get("d/v"), "ours");
    cm_storage_close(s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_store_whose_reply_is_lost_is_done_once, one_that_never_arrives_is_an_error,
        a_lock_whose_grant_is_lost_is_got,        a_commit_whose_reply_is_lost_is_looked_for,
        a_value_of_another_is_not_taken_for_ours,
    };

    return run_with_redis("redis lost", tests, CM_ARRAY_LEN(tests), 60);
}
