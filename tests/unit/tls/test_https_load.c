/* SPDX-License-Identifier: Apache-2.0 */
#include "https_kit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------------ slow and many */

#define STALLED 150

/* Every way not to get on: nothing said, half a hello, half a request. */
static void stall(struct client *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        client_connect(&list[i], i % 2 == 0 ? opts.http_port : opts.tls_port);
        if (list[i].fd >= 0 && i % 4 == 2)
            client_send(&list[i], "GET / HTTP/1.1\r\nHost: ");
        else if (list[i].fd >= 0 && i % 4 == 3)
            client_send(&list[i], "\x16\x03\x01\x01\x10\x01\x01");
    }
}

START_TEST(stalled_connections_are_closed_at_their_deadline_and_harm_nobody)
{
    static struct client list[STALLED];
    int64_t begin = now_ms();

    opts.header_timeout_ms = 1500;
    opts.threads = 2;
    https_start();
    stall(list, STALLED);
    while (now_ms() - begin < 1000) {
        int64_t t = now_ms();

        check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from");
        check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
        ck_assert_int_lt(now_ms() - t, 700);
    }
    for (size_t i = 0; i < STALLED; i++) {
        ck_assert_int_ge(client_wait_closed(&list[i], 4000), 0);
        client_close(&list[i]);
    }
    ck_assert_int_lt(now_ms() - begin, 4500);
    https_finish();
}
END_TEST

/* Dripping bytes does not stretch the deadline. */
START_TEST(dripping_head_is_cut_off)
{
    struct client c;
    int64_t begin;
    bool open = true;

    opts.header_timeout_ms = 600;
    https_start();
    client_connect(&c, opts.http_port);
    begin = now_ms();
    while (open && now_ms() - begin < 3000) {
        client_send(&c, "G");
        open = client_wait_closed(&c, 50) < 0;
    }
    ck_assert(!open);
    ck_assert_int_ge(now_ms() - begin, 550);
    ck_assert_int_lt(now_ms() - begin, 1500);
    client_close(&c);
    https_finish();
}
END_TEST

START_TEST(idle_connection_is_closed_at_its_deadline)
{
    struct client c;

    opts.idle_timeout_ms = 400;
    https_start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", NULL), 0);
    check_one(&c, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n", false, "/1 from");
    ck_assert_int_ge(client_wait_closed(&c, 2000), 0);
    client_close(&c);
    https_finish();
}
END_TEST

/* Who does not read holds no worker: there is only one. */
START_TEST(slow_readers_hold_no_worker)
{
    struct client c[4];

    opts.threads = 1;
    https_start();
    for (size_t i = 0; i < CM_ARRAY_LEN(c); i++) {
        ck_assert_int_eq(client_tls(&c[i], opts.tls_port, "a.test", NULL), 0);
        client_send(&c[i], "GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    wait_ms(200);
    check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from");
    for (size_t i = 0; i < CM_ARRAY_LEN(c); i++)
        client_close(&c[i]);
    https_finish();
}
END_TEST

START_TEST(more_connections_than_descriptors_evict_the_oldest)
{
    static struct client list[200];
    struct rlimit lim, low;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    low = lim;
    low.rlim_cur = 100; /* the server will allow itself 75 */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    https_start();
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    stall(list, CM_ARRAY_LEN(list));
    check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from");
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
    ck_assert_int_ge(client_wait_closed(&list[0], 2000), 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(list); i++)
        client_close(&list[i]);
    https_finish();
}
END_TEST

/* A client of its own address (all of 127/8 is this host). */
static void connect_from(struct client *c, uint32_t from, uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(from) } };

    *c = (struct client){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    ck_assert_int_eq(bind(c->fd, (const struct sockaddr *)(const void *)&a, sizeof a), 0);
    a.sin_port = htons(port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(connect(c->fd, (const struct sockaddr *)(const void *)&a, sizeof a), 0);
}

/* Past its share an address pays with its own oldest; nobody else's goes. */
START_TEST(one_address_has_its_share_and_no_more)
{
    static struct client greedy[30], other[5];
    struct client working;
    size_t closed = 0;

    opts.max_per_address = 10;
    https_start();
    ck_assert_int_eq(client_tls(&working, opts.tls_port, "a.test", NULL), 0);
    client_send(&working, "GET /slow HTTP/1.0\r\n\r\n");
    for (size_t i = 0; i < CM_ARRAY_LEN(other); i++)
        connect_from(&other[i], 0x7f000003, opts.tls_port);
    for (size_t i = 0; i < CM_ARRAY_LEN(greedy); i++)
        connect_from(&greedy[i], 0x7f000002, i % 2 == 0 ? opts.http_port : opts.tls_port);
    check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from");
    /* Which of two listeners is served first is nobody's to say: counted, not told apart. */
    for (int64_t end = now_ms() + 5000; closed < 20 && now_ms() < end;) {
        closed = 0;
        for (size_t i = 0; i < CM_ARRAY_LEN(greedy); i++)
            closed += client_wait_closed(&greedy[i], 1) >= 0;
    }
    ck_assert_uint_eq(closed, 20);
    for (size_t i = 0; i < CM_ARRAY_LEN(other); i++)
        ck_assert_int_lt(client_wait_closed(&other[i], 10), 0);
    free(client_read_all(&working));
    for (size_t i = 0; i < CM_ARRAY_LEN(greedy); i++)
        client_close(&greedy[i]);
    for (size_t i = 0; i < CM_ARRAY_LEN(other); i++)
        client_close(&other[i]);
    client_close(&working);
    https_finish();
}
END_TEST

/* Of the whole process, in the kernel as well. */
static int64_t cpu_us(void)
{
    struct rusage u;

    ck_assert_int_eq(getrusage(RUSAGE_SELF, &u), 0);
    return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec +
           u.ru_stime.tv_usec;
}

#define SPIN_US                                                                                    \
    100000 /* a loop that spins for half a second takes more, one that waits nothing               \
            */

START_TEST(out_of_descriptors_does_not_spin_and_recovers)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    struct rlimit lim, low;
    int64_t before;
    int fd;

    https_start();
    to.sin_port = htons(opts.tls_port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    low = lim;
    low.rlim_cur = 3;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)(const void *)&to, sizeof to), 0);
    before = cpu_us();
    wait_ms(500);
    ck_assert_int_lt(cpu_us() - before, SPIN_US);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
    (void)close(fd);
    https_finish();
}
END_TEST

START_TEST(client_that_leaves_amid_its_request_does_not_spin)
{
    struct client c;
    int64_t before;

    https_start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", NULL), 0);
    client_send(&c, "GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    wait_ms(100);
    before = cpu_us();
    client_close(&c);
    wait_ms(350);
    ck_assert_int_lt(cpu_us() - before, SPIN_US);
    https_finish();
}
END_TEST

struct asker {
    pthread_t thread;
    char *reply;
};

static void *ask_slow(void *arg)
{
    struct asker *a = arg;
    struct client c;

    if (client_tls(&c, opts.tls_port, "a.test", NULL) == 0) {
        client_send(&c, "GET /slow HTTP/1.0\r\n\r\n");
        a->reply = client_read_all(&c);
    }
    client_close(&c);
    return NULL;
}

static size_t ask_many(struct asker *a, size_t n, const char *status)
{
    size_t hits = 0;

    for (size_t i = 0; i < n; i++)
        ck_assert_int_eq(pthread_create(&a[i].thread, NULL, ask_slow, &a[i]), 0);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(pthread_join(a[i].thread, NULL), 0);
        if (a[i].reply != NULL && begins(a[i].reply, status))
            hits++;
        free(a[i].reply);
    }
    return hits;
}

START_TEST(handlers_run_side_by_side_up_to_the_limit)
{
    struct asker a[8] = { 0 };

    opts.threads = 4;
    https_start();
    ck_assert_uint_eq(ask_many(a, 8, "HTTP/1.1 200 "), 8);
    ck_assert_int_eq(atomic_load(&peak), 4);
    https_finish();
}
END_TEST

START_TEST(full_queue_is_told_to_come_back)
{
    struct asker a[30] = { 0 };

    opts.threads = 1;
    https_start();
    /* 1 at work, 16 queued; they take half a second each and the clients wait for five */
    ck_assert_uint_ge(ask_many(a, 30, "HTTP/1.1 503 "), 5);
    https_finish();
}
END_TEST

/* ---------------------------------------------------------------- start and stop */

START_TEST(stop_lets_replies_go_out_and_drops_the_rest)
{
    static struct client list[20];
    struct client c;
    int64_t begin;
    char *r;

    https_start();
    stall(list, CM_ARRAY_LEN(list));
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", NULL), 0);
    client_send(&c, "GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    wait_ms(200);
    begin = now_ms();
    https_finish();
    /* as long as the handler, not as the grace: what could be kept is not */
    ck_assert_int_lt(now_ms() - begin, 2500);
    r = client_read_all(&c);
    ck_assert_ptr_nonnull(r);
    ck_assert(begins(r, "HTTP/1.1 200 "));
    free(r);
    client_close(&c);
    for (size_t i = 0; i < CM_ARRAY_LEN(list); i++) {
        ck_assert_int_ge(client_wait_closed(&list[i], 100), 0);
        client_close(&list[i]);
    }
}
END_TEST

START_TEST(start_fails_with_its_reason)
{
    struct cm_https_options second = CM_HTTPS_OPTIONS_INIT;
    static const char *const names[] = { "a.test" };
    struct cm_err err;

    ck_assert_int_eq(cm_https(names, 1, NULL, NULL, &opts, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_https(names, 1, https_handle, NULL, NULL, &err), CM_E_UNSUPPORTED);
    https_start();
    second.cfg = cfg;
    second.tls_port = opts.tls_port;
    second.http_port = free_port();
    ck_assert_int_eq(cm_https(names, 1, https_handle, NULL, &second, &err), CM_E_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "port"));
    second.tls_port = free_port();
    cfg->manage_rc = CM_E_INVAL;
    ck_assert_int_eq(cm_https(names, 1, https_handle, NULL, &second, &err), CM_E_INVAL);
    https_finish();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        stalled_connections_are_closed_at_their_deadline_and_harm_nobody,
        dripping_head_is_cut_off,
        idle_connection_is_closed_at_its_deadline,
        slow_readers_hold_no_worker,
        more_connections_than_descriptors_evict_the_oldest,
        one_address_has_its_share_and_no_more,
        out_of_descriptors_does_not_spin_and_recovers,
        client_that_leaves_amid_its_request_does_not_spin,
        handlers_run_side_by_side_up_to_the_limit,
        full_queue_is_told_to_come_back,
        stop_lets_replies_go_out_and_drops_the_rest,
        start_fails_with_its_reason,
    };

    return run_tests_how("https_load", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = https_setup, .teardown = https_teardown });
}
