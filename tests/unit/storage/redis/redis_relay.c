/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_relay.h"

#include "base.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TTL (15 * CM_NS_PER_S)

static struct relay {
    int listener;
    uint16_t server_port;
    char word[16];
    _Atomic int skip;
    _Atomic enum relay_cut cut;
    _Atomic int cuts; /* so many times, then PASS */
    _Atomic unsigned done;
    void (*between)(void);
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

static void swallow(int fd)
{
    char data[65536];

    while (recv(fd, data, sizeof data, 0) > 0)
        continue;
}

/* From the client: false to end both. */
static bool upward(int client, int server)
{
    char data[65536];
    ssize_t n = recv(client, data, sizeof data, 0);

    if (n <= 0)
        return false;
    if (atomic_load(&relay.cuts) > 0 &&
        memmem(data, (size_t)n, relay.word, strlen(relay.word)) != NULL &&
        atomic_fetch_sub(&relay.skip, 1) <= 0) {
        enum relay_cut how = atomic_load(&relay.cut);

        (void)atomic_fetch_sub(&relay.cuts, 1);
        if (how == RELAY_AFTER) {
            (void)send_all(server, data, n);
            (void)recv(server, data, sizeof data, 0);
            if (relay.between != NULL)
                relay.between();
        }
        atomic_fetch_add(&relay.done, 1);
        if (how == RELAY_HOLE)
            swallow(client);
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

struct cm_storage *relayed(void)
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

void relay_arm(const char *word, int skip, enum relay_cut how, int times, void (*between)(void))
{
    atomic_store(&relay.cuts, 0);
    (void)snprintf(relay.word, sizeof relay.word, "%s", word);
    relay.between = between;
    atomic_store(&relay.done, 0);
    atomic_store(&relay.skip, skip);
    atomic_store(&relay.cut, how);
    atomic_store(&relay.cuts, times);
}

void relay_happened(unsigned times)
{
    ck_assert_uint_eq(atomic_load(&relay.done), times);
}
