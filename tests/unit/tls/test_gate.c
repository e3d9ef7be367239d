/* SPDX-License-Identifier: Apache-2.0 */
#include "build_hello.h"
#include "pair.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* The gate alone: bytes that are no ClientHello, and blocking sockets. */

#define TLS13 "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static struct cm_config *cfg;
static struct pair p;

static void setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
}

static void teardown(void)
{
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

/* -------------------------------------------------------------- what is no hello */

/* What the server makes of raw bytes: its handshake's result; the client's side gets @reply. */
static int feed(const void *bytes, size_t len, bool eof, uint8_t *reply, size_t *n_reply)
{
    ssize_t n;
    int rc;

    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    ck_assert_int_eq(send(p.fd[1], bytes, len, 0), (ssize_t)len);
    if (eof)
        (void)shutdown(p.fd[1], SHUT_WR);
    rc = gnutls_handshake(p.server);
    if (rc != GNUTLS_E_AGAIN)
        (void)gnutls_alert_send_appropriate(p.server, rc);
    n = recv(p.fd[1], reply, 64, 0);
    *n_reply = n < 0 ? 0 : (size_t)n;
    return rc;
}

static void check_alert(const uint8_t *reply, size_t n, int alert)
{
    ck_assert_uint_eq(n, 7); /* one alert, not two */
    ck_assert_uint_eq(reply[0], 21);
    ck_assert_uint_eq(reply[5], 2);
    ck_assert_int_eq(reply[6], alert);
}

START_TEST(too_long_a_hello_is_told_so_at_once)
{
    static const uint8_t beyond[] = { 22, 3, 1, 0, 4, 1, 0x00, 0x40, 0x01 };
    uint8_t reply[64];
    size_t n;

    ck_assert_int_lt(feed(beyond, sizeof beyond, false, reply, &n), 0);
    check_alert(reply, n, 50);
    ck_assert_int_eq(cm_tls_refusal(p.server, NULL), CM_E_LIMIT);
    pair_end(&p);
}
END_TEST

START_TEST(endless_small_records_are_cut_off)
{
    static uint8_t bytes[CM_TLS_RAW_MAX + 600];
    uint8_t reply[64];
    ssize_t n;
    int rc = GNUTLS_E_AGAIN;

    for (size_t i = 0; i + 6 <= sizeof bytes; i += 6)
        memcpy(bytes + i, "\x16\x03\x01\x00\x01\x00", 6);
    bytes[5] = 1;
    bytes[17] = 0x3F; /* a hello of 0x3F00 bytes: within bounds, were it not for its packing */
    pair_start(&p, cfg, PAIR_GATE, TLS13, "a.test", NULL);
    for (size_t at = 0; at < sizeof bytes && rc == GNUTLS_E_AGAIN;) {
        n = send(p.fd[1], bytes + at, sizeof bytes - at, MSG_DONTWAIT);
        if (n > 0)
            at += (size_t)n;
        rc = gnutls_handshake(p.server);
    }
    ck_assert_int_ne(rc, GNUTLS_E_AGAIN);
    (void)gnutls_alert_send_appropriate(p.server, rc);
    n = recv(p.fd[1], reply, sizeof reply, 0);
    check_alert(reply, n < 0 ? 0 : (size_t)n, 50);
    pair_end(&p);
}
END_TEST

START_TEST(plain_http_is_no_tls)
{
    uint8_t reply[64];
    size_t n;
    int rc = feed("GET / HTTP/1.1\r\n", 16, false, reply, &n);

    ck_assert_int_lt(rc, 0);
    ck_assert_int_ne(gnutls_error_is_fatal(rc), 0);
    ck_assert_uint_eq(n, 7);
    pair_end(&p);
}
END_TEST

START_TEST(malformed_hello_is_a_decode_error)
{
    struct cm_buf msg = CM_BUF_INIT(4096);
    struct cm_buf raw = CM_BUF_INIT(4096);
    struct hello_parts h = { .ext = "\x00\x00\x00\x02\x00\x00", .ext_len = 6 };
    uint8_t reply[64];
    size_t n;

    build_hello(&h, &msg);
    build_records(cm_buf_span(&msg), 16384, &raw);
    ck_assert_int_lt(feed(raw.data, raw.len, false, reply, &n), 0);
    check_alert(reply, n, 50);
    ck_assert_int_eq(cm_tls_refusal(p.server, NULL), CM_E_PARSE);
    ck_assert_uint_eq(atomic_load(&cfg->asked), 0);
    pair_end(&p);
    cm_buf_free(&msg);
    cm_buf_free(&raw);
}
END_TEST

START_TEST(end_of_file_amid_the_hello_is_one)
{
    uint8_t reply[64];
    size_t n;

    int rc = feed("\x16\x03\x01\x00\x80\x01", 6, true, reply, &n);

    if (rc == GNUTLS_E_AGAIN) /* GnuTLS hands out what it has first */
        rc = gnutls_handshake(p.server);
    ck_assert_int_lt(rc, 0);
    ck_assert_int_ne(gnutls_error_is_fatal(rc), 0);
    ck_assert_uint_eq(atomic_load(&cfg->asked), 0);
    pair_end(&p);
}
END_TEST

/* The gate lets it through undecided; GnuTLS itself minds, and if one day it does not, the hook. */
START_TEST(hello_behind_something_else_is_refused)
{
    struct cm_buf msg = CM_BUF_INIT(4096);
    struct cm_buf raw = CM_BUF_INIT(4096);
    struct cm_buf ext = CM_BUF_INIT(4096);
    struct hello_parts h;
    uint8_t reply[64];
    size_t n;
    int rc;

    put(&raw, "\x15\x03\x01\x00\x02\x01\x5A", 7); /* user_canceled, a warning */
    put_sni(&ext, "a.test", 6);
    h = (struct hello_parts){ .ext = (const char *)ext.data, .ext_len = ext.len };
    build_hello(&h, &msg);
    build_records(cm_buf_span(&msg), 16384, &raw);
    rc = feed(raw.data, raw.len, false, reply, &n);
    for (int i = 0; i < 5 && rc < 0 && gnutls_error_is_fatal(rc) == 0; i++)
        rc = gnutls_handshake(p.server);
    ck_assert_int_lt(rc, 0);
    ck_assert_int_ne(gnutls_error_is_fatal(rc), 0);
    ck_assert_uint_eq(atomic_load(&cfg->asked), 0);
    pair_end(&p);
    cm_buf_free(&msg);
    cm_buf_free(&raw);
    cm_buf_free(&ext);
}
END_TEST

/* ---------------------------------------------------------------- blocking sockets */

static void make_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    ck_assert_int_eq(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
}

static int blocking_server(int fd, gnutls_session_t *ret)
{
    ck_assert_int_eq(gnutls_init(ret, GNUTLS_SERVER), 0);
    make_blocking(fd);
    ck_assert_int_eq(cm_config_tls_setup(cfg, *ret, fd, NULL), CM_OK);
    return fd;
}

static void *drip(void *arg)
{
    const struct cm_env *env = cm_env_system();
    int fd = *(int *)arg;

    for (int i = 0; i < 30; i++) {
        if (send(fd,
                 i == 0   ? "\x16"
                 : i == 1 ? "\x03"
                 : i == 2 ? "\x01"
                          : "\x01",
                 1, MSG_NOSIGNAL) != 1)
            break;
        (void)env->wait(env, NULL, 100 * CM_NS_PER_MS);
    }
    return NULL;
}

START_TEST(time_limit_holds_on_a_blocking_socket_that_drips)
{
    const struct cm_env *env = cm_env_system();
    gnutls_session_t s;
    int64_t start = env->mono_ns(env);
    pthread_t t;
    int fd[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    (void)blocking_server(fd[0], &s);
    gnutls_handshake_set_timeout(s, 1000);
    ck_assert_int_eq(pthread_create(&t, NULL, drip, &fd[1]), 0);
    ck_assert_int_eq(gnutls_handshake(s), GNUTLS_E_TIMEDOUT);
    ck_assert_int_lt(env->mono_ns(env) - start, 2500 * CM_NS_PER_MS);
    gnutls_deinit(s);
    (void)close(fd[0]);
    ck_assert_int_eq(pthread_join(t, NULL), 0);
    (void)close(fd[1]);
}
END_TEST

static void *client_thread(void *arg)
{
    struct pair *q = arg;

    make_blocking(q->fd[1]);
    do
        q->client_rc = gnutls_handshake(q->client);
    while (q->client_rc < 0 && gnutls_error_is_fatal(q->client_rc) == 0);
    return NULL;
}

START_TEST(blocking_socket_just_takes_longer)
{
    gnutls_session_t s;
    pthread_t t;

    cfg->names[0].delay_ms = 300;
    pair_start(&p, cfg, PAIR_HOOK, TLS13, "a.test", NULL);
    (void)blocking_server(p.fd[0], &s);
    ck_assert_int_eq(pthread_create(&t, NULL, client_thread, &p), 0);
    ck_assert_int_eq(gnutls_handshake(s), 0); /* the first time, without EAGAIN */
    ck_assert_int_eq(pthread_join(t, NULL), 0);
    ck_assert_int_eq(p.client_rc, 0);
    gnutls_deinit(s);
    pair_end(&p);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        too_long_a_hello_is_told_so_at_once,
        endless_small_records_are_cut_off,
        plain_http_is_no_tls,
        malformed_hello_is_a_decode_error,
        end_of_file_amid_the_hello_is_one,
        hello_behind_something_else_is_refused,
        time_limit_holds_on_a_blocking_socket_that_drips,
        blocking_socket_just_takes_longer,
    };

    return run_tests_how("gate", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
