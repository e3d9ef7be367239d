/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"
#include "fake_core.h"
#include "run.h"

#include <certmesh/cm_life.h>

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* The port for whoever scrapes, with metrics that the test makes up. */

static struct cm_config *cfg;
static struct cm_metrics_listener *l;
static struct cm_err err;

/* How many pieces of what size there are, and whether the text breaks off. */
static size_t pieces, piece_bytes;
static cm_status broken;
static atomic_uint writing, written;

cm_status cm_metrics_write(struct cm_config *c,
                           cm_status (*write)(void *, struct cm_span, struct cm_err *), void *user,
                           struct cm_err *e)
{
    uint8_t text[64 * 1024]; /* several threads write at once */
    cm_status rc = CM_OK;

    ck_assert(c == cfg);
    memset(text, 'm', sizeof text);
    (void)atomic_fetch_add(&writing, 1);
    for (size_t i = 0; i < pieces && rc == CM_OK; i++) {
        text[piece_bytes - 1] = '\n';
        rc = write(user, (struct cm_span){ text, piece_bytes }, e);
    }
    (void)atomic_fetch_sub(&writing, 1);
    (void)atomic_fetch_add(&written, 1);
    return rc == CM_OK && broken != CM_OK ? cm_fail(e, broken, "broken off") : rc;
}

static void setup(void)
{
    cfg = fake_config();
    pieces = 3;
    piece_bytes = 10;
    broken = CM_OK;
    cm_status rc = cm_metrics_listen(cfg, NULL, 0, &l, &err);
    ck_assert_msg(rc == CM_OK, "%s", err.msg);
    ck_assert_uint_ne(cm_metrics_port(l), 0);
}

static void teardown(void)
{
    cm_metrics_close(l);
    l = NULL;
    fake_config_drop(cfg);
}

static int64_t now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

static char *ask(const char *request)
{
    struct client c;

    client_connect(&c, cm_metrics_port(l));
    ck_assert_int_ge(c.fd, 0);
    client_send(&c, request);
    char *got = client_read_all(&c);
    client_close(&c);
    ck_assert_ptr_nonnull(got);
    return got;
}

static void expect(const char *request, const char *status, const char *part)
{
    CM_AUTO_FREE char *got = ask(request);

    ck_assert_msg(strncmp(got, status, strlen(status)) == 0, "%s", got);
    ck_assert_msg(strstr(got, part) != NULL, "%s", got);
    ck_assert_ptr_nonnull(strstr(got, "\r\nConnection: close\r\n"));
}

START_TEST(metrics_come_in_chunks)
{
    CM_AUTO_FREE char *got = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    const char *body = strstr(got, "\r\n\r\n");

    ck_assert_int_eq(strncmp(got, "HTTP/1.1 200 OK\r\n", 17), 0);
    ck_assert_ptr_nonnull(
        strstr(got, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    ck_assert_ptr_nonnull(strstr(got, "\r\nTransfer-Encoding: chunked\r\n"));
    ck_assert_ptr_nonnull(body);
    ck_assert_str_eq(body + 4, "a\r\nmmmmmmmmm\n\r\na\r\nmmmmmmmmm\n\r\na\r\nmmmmmmmmm\n\r\n"
                               "0\r\n\r\n");
}
END_TEST

START_TEST(old_clients_read_until_the_end)
{
    CM_AUTO_FREE char *got = ask("GET /metrics?a=b HTTP/1.0\r\n\r\n");
    const char *body = strstr(got, "\r\n\r\n");

    ck_assert_ptr_null(strstr(got, "chunked"));
    ck_assert_ptr_nonnull(body);
    ck_assert_str_eq(body + 4, "mmmmmmmmm\nmmmmmmmmm\nmmmmmmmmm\n");
}
END_TEST

START_TEST(nothing_else_is_there)
{
    expect("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "");
    expect("GET /metricsx HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "");
    expect("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 ",
           "\r\nAllow: GET, HEAD\r\n");
    expect("GET /metrics HTTP/1.1\nHost: x\n\n", "HTTP/1.1 400 ", "");
    expect("GET /metrics HTTP/2.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 ", "");
    ck_assert_uint_eq(atomic_load(&written), 0);
    CM_AUTO_FREE char *got = ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    ck_assert_int_eq(strncmp(got, "HTTP/1.1 200 OK\r\n", 17), 0);
    ck_assert_str_eq(strstr(got, "\r\n\r\n"), "\r\n\r\n");
    ck_assert_uint_eq(atomic_load(&written), 0);
}
END_TEST

START_TEST(head_is_bounded)
{
    static char request[64 * 1024];
    size_t n = (size_t)snprintf(request, sizeof request, "GET /metrics HTTP/1.1\r\nHost: x\r\nX: ");

    memset(request + n, 'a', sizeof request - n - 1);
    expect(request, "HTTP/1.1 431 ", "");
    memcpy(request, "GET /", 5);
    memset(request + 5, 'a', sizeof request - 6);
    expect(request, "HTTP/1.1 414 ", "");
}
END_TEST

/* Half a text must not look like a whole one. */
START_TEST(text_that_breaks_off_has_no_last_chunk)
{
    broken = CM_E_NOMEM;
    CM_AUTO_FREE char *got = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");

    ck_assert_ptr_nonnull(strstr(got, "mmmmmmmmm\n"));
    ck_assert_ptr_null(strstr(got, "0\r\n\r\n"));
}
END_TEST

/* Some stall before they have asked, some in the middle of the answer: as many as there are workers
 * and places in the queue. Then it is full, which costs nobody else anything, and closing it all
 * does not wait for them. */
START_TEST(who_stalls_is_bounded_and_does_not_hold_up_the_end)
{
    struct client c[40];
    int64_t from;

    pieces = 4096;
    piece_bytes = 64 * 1024;
    for (size_t i = 0; i < CM_ARRAY_LEN(c); i++) {
        client_connect(&c[i], cm_metrics_port(l));
        ck_assert_int_ge(c[i].fd, 0);
        if (i < 2)
            client_send(&c[i], "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for (int i = 0; i < 5000 && atomic_load(&writing) < 2; i++)
        (void)usleep(1000);
    ck_assert_uint_eq(atomic_load(&writing), 2);
    /* 4 at work, 16 waiting: the others were sent away at once */
    size_t closed = 0;
    for (size_t i = 2; i < CM_ARRAY_LEN(c); i++)
        closed += client_wait_closed(&c[i], 50) >= 0;
    ck_assert_uint_ge(closed, CM_ARRAY_LEN(c) - 4 - 16 - 1);
    ck_assert_uint_lt(closed, CM_ARRAY_LEN(c) - 4);
    from = now_ms();
    cm_metrics_close(l);
    l = NULL;
    ck_assert_int_lt(now_ms() - from, 3000);
    for (size_t i = 0; i < CM_ARRAY_LEN(c); i++)
        client_close(&c[i]);
}
END_TEST

START_TEST(request_that_never_ends_is_given_up)
{
    struct client c;
    int64_t from = now_ms();

    client_connect(&c, cm_metrics_port(l));
    client_send(&c, "GET /metrics HT");
    ck_assert_int_eq(client_wait_closed(&c, 15000), 0);
    ck_assert_int_ge(now_ms() - from, 4000);
    ck_assert_int_lt(now_ms() - from, 15000);
    client_close(&c);
}
END_TEST

START_TEST(it_listens_where_it_is_told)
{
    struct cm_metrics_listener *other = NULL;
    uint16_t port = cm_metrics_port(l);

    ck_assert_int_ne(cm_metrics_listen(cfg, NULL, port, &other, &err), CM_OK);
    ck_assert_int_eq(err.sys_errno, EADDRINUSE);
    ck_assert_int_eq(cm_metrics_listen(cfg, "no such host", 0, &other, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_metrics_listen(NULL, NULL, 0, &other, &err), CM_E_INVAL);
    ck_assert_ptr_null(other);
    ck_assert_int_eq(cm_metrics_listen(cfg, "127.0.0.2", port, &other, &err), CM_OK);
    ck_assert_uint_eq(cm_metrics_port(other), port);
    cm_metrics_close(other);
    cm_metrics_close(NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        metrics_come_in_chunks,
        old_clients_read_until_the_end,
        nothing_else_is_there,
        head_is_bounded,
        text_that_breaks_off_has_no_last_chunk,
        who_stalls_is_bounded_and_does_not_hold_up_the_end,
        request_that_never_ends_is_given_up,
        it_listens_where_it_is_told,
    };

    return run_tests_how("metrics_http", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
