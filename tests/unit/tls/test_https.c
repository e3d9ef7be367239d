/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"
#include "fake_core.h"
#include "run.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct cm_config *cfg;
static struct cm_https_options opts;
static struct cm_cancel *stop;
static pthread_t server_thread;
static cm_status server_rc;
static struct cm_err server_err;
static atomic_uint http_port, tls_port;
static atomic_int running, peak;
static int root_fd;
static char root[64];

/* ------------------------------------------------------------------- the handler */

static void big_reply(struct cm_http_exchange *x)
{
    size_t len = 8u * 1024 * 1024;
    uint8_t *bytes = malloc(len);

    memset(bytes, 'b', len);
    CM_ASSERT(cm_http_reply(x, 200, NULL, (struct cm_span){ bytes, len }, NULL) == CM_OK);
    free(bytes);
}

static void slow_reply(struct cm_http_exchange *x)
{
    const struct cm_env *env = cm_env_system();
    int now = atomic_fetch_add(&running, 1) + 1;
    int seen = atomic_load(&peak);

    while (now > seen && !atomic_compare_exchange_weak(&peak, &seen, now)) {
    }
    (void)env->wait(env, NULL, 500 * CM_NS_PER_MS);
    atomic_fetch_sub(&running, 1);
    CM_ASSERT(cm_http_reply(x, 200, NULL, cm_span_str("slow"), NULL) == CM_OK);
}

static void handle(void *user, struct cm_http_exchange *x)
{
    const char *t = cm_http_target(x);
    char text[512];

    CM_ASSERT(user == &cfg && cm_http_session(x) != NULL);
    if (strcmp(t, "/none") == 0)
        return;
    if (strcmp(t, "/big") == 0) {
        big_reply(x);
    } else if (strcmp(t, "/slow") == 0) {
        slow_reply(x);
    } else if (strcmp(t, "/204") == 0) {
        CM_ASSERT(cm_http_reply(x, 204, NULL, cm_span_str("not sent"), NULL) == CM_OK);
    } else if (strcmp(t, "/twice") == 0) {
        CM_ASSERT(cm_http_reply(x, 99, NULL, cm_span_str(""), NULL) == CM_E_INVAL);
        CM_ASSERT(cm_http_reply(x, 200, "a/b\r\nX: y", cm_span_str(""), NULL) == CM_E_INVAL);
        CM_ASSERT(cm_http_reply(x, 200, "text/x", cm_span_str("one"), NULL) == CM_OK);
        CM_ASSERT(cm_http_reply(x, 200, NULL, cm_span_str("two"), NULL) == CM_E_STATE);
        CM_ASSERT(cm_http_reply_file(x, root_fd, "/a.txt", NULL) == CM_E_STATE);
    } else if (strncmp(t, "/f/", 3) == 0) {
        CM_ASSERT(cm_http_reply_file(x, root_fd, t + 2, NULL) == CM_OK);
    } else {
        (void)snprintf(text, sizeof text, "%s %s%s from %s", cm_http_method(x), cm_http_host(x), t,
                       cm_http_peer(x));
        CM_ASSERT(cm_http_reply(x, 200, NULL, cm_span_str(text), NULL) == CM_OK);
    }
}

/* -------------------------------------------------------------------- the server */

static void on_ready(void *user, uint16_t http, uint16_t tls)
{
    CM_ASSERT(user == &cfg);
    atomic_store(&http_port, http);
    atomic_store(&tls_port, tls);
}

static void *serve(void *arg)
{
    static const char *const names[] = { "a.test" };

    (void)arg;
    server_rc = cm_https(names, 1, handle, &cfg, &opts, &server_err);
    return NULL;
}

static void wait_ms(int ms)
{
    (void)cm_env_system()->wait(cm_env_system(), NULL, ms * CM_NS_PER_MS);
}

static int64_t now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

static void start(void)
{
    opts.cfg = cfg;
    opts.stop = stop;
    opts.http_port = free_port();
    opts.tls_port = free_port();
    opts.ready = on_ready;
    atomic_store(&tls_port, 0);
    ck_assert_int_eq(pthread_create(&server_thread, NULL, serve, NULL), 0);
    for (int i = 0; i < 500 && atomic_load(&tls_port) == 0; i++)
        wait_ms(10);
    ck_assert_uint_eq(atomic_load(&tls_port), opts.tls_port);
}

static void finish(void)
{
    int64_t begin = now_ms();

    cm_cancel_fire(stop);
    ck_assert_int_eq(pthread_join(server_thread, NULL), 0);
    ck_assert_msg(server_rc == CM_OK, "%s", server_err.msg);
    ck_assert_int_lt(now_ms() - begin, 5000);
}

static void setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
    opts = (struct cm_https_options)CM_HTTPS_OPTIONS_INIT;
    ck_assert_int_eq(cm_cancel_new(NULL, &stop, NULL), CM_OK);
    (void)snprintf(root, sizeof root, "/tmp/cm-https-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_root(void)
{
    static const char *const files[] = { "a.txt", "sub/index.html", "sub",  ".secret", "out",
                                         "in",    "big.bin",        "fifo", "x y" };

    for (size_t i = 0; i < CM_ARRAY_LEN(files); i++) {
        if (unlinkat(root_fd, files[i], 0) != 0)
            (void)unlinkat(root_fd, files[i], AT_REMOVEDIR);
    }
    (void)rmdir(root);
}

static void teardown(void)
{
    remove_root();
    (void)close(root_fd);
    cm_cancel_free(stop);
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

/* ------------------------------------------------------------------------ asking */

static char *plain(const char *request)
{
    struct client c;
    char *r;

    client_connect(&c, opts.http_port);
    ck_assert_int_ge(c.fd, 0);
    client_send(&c, request);
    r = client_read_all(&c);
    client_close(&c);
    ck_assert_msg(r != NULL, "no end of the reply to: %s", request);
    return r;
}

static char *secure(const char *request)
{
    struct client c;
    int rc = client_tls(&c, opts.tls_port, "a.test", NULL);
    char *r;

    ck_assert_msg(rc == 0, "handshake: %s", gnutls_strerror(rc));
    client_send(&c, request);
    r = client_read_all(&c);
    client_close(&c);
    ck_assert_msg(r != NULL, "no end of the reply to: %s", request);
    return r;
}

static bool begins(const char *text, const char *what)
{
    return strncmp(text, what, strlen(what)) == 0;
}

static void check_plain(const char *request, const char *status, const char *part)
{
    char *r = plain(request);

    ck_assert_msg(begins(r, status), "%s -> %s", request, r);
    ck_assert_msg(part == NULL || strstr(r, part) != NULL, "%s -> %s", request, r);
    ck_assert_ptr_nonnull(strstr(r, "\r\nConnection: close\r\n"));
    ck_assert_ptr_nonnull(strstr(r, "\r\nX-Content-Type-Options: nosniff\r\n"));
    ck_assert_ptr_nonnull(strstr(r, "\r\nDate: "));
    free(r);
}

static void check_secure(const char *request, const char *status, const char *part)
{
    char *r = secure(request);

    ck_assert_msg(begins(r, status), "%s -> %.300s", request, r);
    ck_assert_msg(part == NULL || strstr(r, part) != NULL, "%s -> %.300s", request, r);
    free(r);
}

/* -------------------------------------------------------------------- plain port */

START_TEST(plain_port_redirects_to_the_host_that_was_asked_for)
{
    char want[128];

    start();
    (void)snprintf(want, sizeof want, "\r\nLocation: https://a.test:%u/x?y=1\r\n", opts.tls_port);
    check_plain("GET /x?y=1 HTTP/1.1\r\nHost: A.test:8080\r\n\r\n", "HTTP/1.1 308 ", want);
    check_plain("POST /x?y=1 HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", want);
    check_plain("GET http://a.test/x?y=1 HTTP/1.1\r\nHost: b\r\n\r\n", "HTTP/1.1 308 ", want);
    (void)snprintf(want, sizeof want, "\r\nLocation: https://[::1]:%u/\r\n", opts.tls_port);
    check_plain("GET / HTTP/1.1\r\nHost: [0::1]:80\r\n\r\n", "HTTP/1.1 308 ", want);
    check_plain("GET //evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ",
                "Location: https://a.test:");
    check_plain("GET /\xC3\xBC<\" HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ",
                "/%C3%BC%3C%22\r\n");
    check_plain("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 400 ", NULL);
    check_plain("GET / HTTP/1.1\r\nHost: a..test\r\n\r\n", "HTTP/1.1 400 ", NULL);
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\nX\r\n\r\n", "HTTP/1.1 400 ", NULL);
    check_plain("\x16\x03\x01\x02", "HTTP/1.1 400 ", NULL);
    finish();
    ck_assert_uint_eq(cfg->n_managed, 1);
}
END_TEST

START_TEST(redirect_to_443_names_no_port)
{
    opts.redirect_port = 443;
    start();
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ",
                "\r\nLocation: https://a.test/\r\n");
    finish();
}
END_TEST

START_TEST(http01_is_answered_exactly_or_not_found)
{
    char *r;

    start();
    r = plain("GET " FAKE_TOKEN_PATH " HTTP/1.1\r\nHost: a.test\r\n\r\n");
    ck_assert(begins(r, "HTTP/1.1 200 OK\r\n"));
    ck_assert_str_eq(strstr(r, "\r\n\r\n") + 4, FAKE_TOKEN_TEXT);
    ck_assert_ptr_nonnull(strstr(r, "Content-Type: text/plain"));
    free(r);
    check_plain("GET " FAKE_TOKEN_PATH " HTTP/1.1\r\nHost: b.test\r\n\r\n", "HTTP/1.1 404 ", NULL);
    check_plain("GET " FAKE_TOKEN_PATH "x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 404 ", NULL);
    check_plain("POST " FAKE_TOKEN_PATH " HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
    finish();
}
END_TEST

/* ---------------------------------------------------------------------- TLS port */

START_TEST(handler_sees_the_request_and_answers)
{
    start();
    check_secure("GET /p?q HTTP/1.1\r\nHost: A.Test:1\r\nConnection: close\r\n\r\n",
                 "HTTP/1.1 200 OK\r\n", "\r\n\r\nGET a.test/p?q from 127.0.0.1");
    check_secure("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n", "Connection: close\r\n");
    check_secure("GET /none HTTP/1.0\r\n\r\n", "HTTP/1.1 500 ", NULL);
    check_secure("GET /twice HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "Content-Type: text/x\r\n");
    check_secure("GET /204 HTTP/1.0\r\n\r\n", "HTTP/1.1 204 No Content\r\n", "nosniff\r\n\r\n");
    check_secure("BREW / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "BREW /");
    check_secure("CONNECT a:1 HTTP/1.0\r\n\r\n", "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n");
    /* Challenges are the plain port's; here the path is the application's (its filters apply). */
    check_secure("GET " FAKE_TOKEN_PATH " HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "from 127.0.0.1");
    finish();
}
END_TEST

static void check_one(struct client *c, const char *request, bool head, const char *part)
{
    char *r;

    if (request != NULL)
        client_send(c, request);
    r = client_read_one(c, head);
    ck_assert_ptr_nonnull(r);
    ck_assert_msg(strstr(r, part) != NULL, "%s", r);
    free(r);
}

START_TEST(connection_is_kept_and_pipelined)
{
    struct client c;

    start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", "http/1.1"), 0);
    check_one(&c, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n", false, "/1 from");
    check_one(&c, "HEAD /2 HTTP/1.1\r\nHost: a.test\r\n\r\n", true, "Content-Length: 28\r\n");
    check_one(&c,
              "GET /3 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /4 HTTP/1.1\r\nHost: a.test\r\n\r\n"
              "POST /5 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 31\r\n\r\n"
              "GET /no HTTP/1.1\r\nHost: x\r\n\r\n  GET /6 HTTP/1.1\r\nHost: a.test\r\n",
              false, "/3 from");
    check_one(&c, NULL, false, "/4 from");
    check_one(&c, NULL, false, "/5 from");
    check_one(&c, "Connection: close\r\n\r\n", false, "/6 from");
    ck_assert_int_eq(client_wait_closed(&c, 2000) >= 0, 1);
    client_close(&c);
    finish();
}
END_TEST

START_TEST(bodies_are_bounded)
{
    start();
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", "HTTP/1.1 413 ",
                 "Connection: close\r\n");
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 "HTTP/1.1 411 ", "Connection: close\r\n");
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
                 "HTTP/1.1 200 ", "Connection: close\r\n");
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
                 "\r\n",
                 "HTTP/1.1 400 ", "Connection: close\r\n");
    finish();
}
END_TEST

START_TEST(pending_certificate_is_waited_for)
{
    struct client c;

    cfg->names[0].delay_ms = 300;
    start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", NULL), 0);
    check_one(&c, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n", false, "/1 from");
    client_close(&c);
    finish();
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
}
END_TEST

START_TEST(validation_is_closed_after_the_handshake)
{
    struct client c;
    gnutls_datum_t alpn;

    (void)fake_add_challenge(cfg, "a.test");
    start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", "acme-tls/1"), 0);
    ck_assert_int_eq(gnutls_alpn_get_selected_protocol(c.session, &alpn), 0);
    client_send(&c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    ck_assert_int_ge(client_wait_closed(&c, 2000), 0);
    client_close(&c);
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "unknown.test", NULL),
                     GNUTLS_E_FATAL_ALERT_RECEIVED);
    ck_assert_int_eq(gnutls_alert_get(c.session), GNUTLS_A_UNRECOGNIZED_NAME);
    client_close(&c);
    finish();
}
END_TEST

/* ------------------------------------------------------------------------- files */

static void write_file(const char *name, const char *text, size_t times)
{
    int fd = openat(root_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    ck_assert_int_ge(fd, 0);
    for (size_t i = 0; i < times; i++)
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

static void check_file(const char *path, const char *status, const char *part)
{
    char request[512];

    (void)snprintf(request, sizeof request, "GET /f%s HTTP/1.0\r\n\r\n", path);
    check_secure(request, status, part);
}

START_TEST(files_below_the_root_are_served_and_nothing_else)
{
    write_file("a.txt", "text of a\n", 1);
    write_file("x y", "blank\n", 1);
    write_file(".secret", "secret\n", 1);
    ck_assert_int_eq(mkdirat(root_fd, "sub", 0755), 0);
    write_file("sub/index.html", "<p>index\n", 1);
    ck_assert_int_eq(symlinkat("/etc/passwd", root_fd, "out"), 0);
    ck_assert_int_eq(symlinkat("a.txt", root_fd, "in"), 0);
    ck_assert_int_eq(mkfifoat(root_fd, "fifo", 0644), 0);
    start();
    check_file("/a.txt", "HTTP/1.1 200 ", "\r\n\r\ntext of a\n");
    check_file("/a.txt?v=1", "HTTP/1.1 200 ", "Content-Type: text/plain; charset=utf-8\r\n");
    check_file("/%61.txt", "HTTP/1.1 200 ", "text of a");
    check_file("/x%20y", "HTTP/1.1 200 ", "application/octet-stream");
    check_file("/in", "HTTP/1.1 200 ", "text of a");
    check_file("/sub/", "HTTP/1.1 200 ", "<p>index");
    check_file("/sub", "HTTP/1.1 308 ", "\r\nLocation: /sub/\r\n");
    check_file("/", "HTTP/1.1 404 ", NULL);
    check_file("/none", "HTTP/1.1 404 ", NULL);
    check_file("/a.txt/", "HTTP/1.1 404 ", NULL);
    check_file("/.secret", "HTTP/1.1 404 ", NULL);
    check_file("/%2esecret", "HTTP/1.1 404 ", NULL);
    check_file("/sub/../a.txt", "HTTP/1.1 404 ", NULL);
    check_file("/sub/%2e%2e/a.txt", "HTTP/1.1 404 ", NULL);
    check_file("/../../etc/passwd", "HTTP/1.1 404 ", NULL);
    check_file("/..%2f..%2fetc%2fpasswd", "HTTP/1.1 404 ", NULL);
    check_file("//etc/passwd", "HTTP/1.1 404 ", NULL);
    check_file("/%2fetc/passwd", "HTTP/1.1 404 ", NULL);
    check_file("/..\\a.txt", "HTTP/1.1 404 ", NULL);
    check_file("/a.txt%00", "HTTP/1.1 404 ", NULL);
    check_file("/a.txt%", "HTTP/1.1 404 ", NULL);
    check_file("/out", "HTTP/1.1 403 ", NULL);
    check_file("/fifo", "HTTP/1.1 403 ", NULL);
    check_secure("POST /f/a.txt HTTP/1.0\r\n\r\n", "HTTP/1.1 405 ", "Allow: GET, HEAD\r\n");
    check_secure("HEAD /f/a.txt HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "Content-Length: 10\r\n");
    finish();
}
END_TEST

START_TEST(large_file_arrives_whole)
{
    char *r;
    const char *body;

    write_file("big.bin", "0123456789abcdef", 200000);
    start();
    r = secure("GET /f/big.bin HTTP/1.0\r\n\r\n");
    body = strstr(r, "\r\n\r\n") + 4;
    ck_assert_uint_eq(strlen(body), 3200000);
    for (size_t i = 0; i < 3200000; i += 16)
        ck_assert_mem_eq(body + i, "0123456789abcdef", 16);
    free(r);
    finish();
}
END_TEST

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
    start();
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
    finish();
}
END_TEST

/* Dripping bytes does not stretch the deadline. */
START_TEST(dripping_head_is_cut_off)
{
    struct client c;
    int64_t begin;
    bool open = true;

    opts.header_timeout_ms = 600;
    start();
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
    finish();
}
END_TEST

START_TEST(idle_connection_is_closed_at_its_deadline)
{
    struct client c;

    opts.idle_timeout_ms = 400;
    start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", NULL), 0);
    check_one(&c, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n", false, "/1 from");
    ck_assert_int_ge(client_wait_closed(&c, 2000), 0);
    client_close(&c);
    finish();
}
END_TEST

/* Who does not read holds no worker: there is only one. */
START_TEST(slow_readers_hold_no_worker)
{
    struct client c[4];

    opts.threads = 1;
    start();
    for (size_t i = 0; i < CM_ARRAY_LEN(c); i++) {
        ck_assert_int_eq(client_tls(&c[i], opts.tls_port, "a.test", NULL), 0);
        client_send(&c[i], "GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    wait_ms(200);
    check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from");
    for (size_t i = 0; i < CM_ARRAY_LEN(c); i++)
        client_close(&c[i]);
    finish();
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
    start();
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    stall(list, CM_ARRAY_LEN(list));
    check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from");
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
    ck_assert_int_ge(client_wait_closed(&list[0], 2000), 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(list); i++)
        client_close(&list[i]);
    finish();
}
END_TEST

START_TEST(out_of_descriptors_does_not_spin_and_recovers)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    struct rusage before, after;
    struct rlimit lim, low;
    int fd;

    start();
    to.sin_port = htons(opts.tls_port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    low = lim;
    low.rlim_cur = 3;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)(const void *)&to, sizeof to), 0);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
    wait_ms(500);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    ck_assert_int_lt((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                         (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
                         after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
                         before.ru_stime.tv_usec,
                     250000);
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
    (void)close(fd);
    finish();
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
    start();
    ck_assert_uint_eq(ask_many(a, 8, "HTTP/1.1 200 "), 8);
    ck_assert_int_eq(atomic_load(&peak), 4);
    finish();
}
END_TEST

START_TEST(full_queue_is_told_to_come_back)
{
    struct asker a[30] = { 0 };

    opts.threads = 1;
    start();
    /* 1 at work, 16 queued; they take half a second each and the clients wait for five */
    ck_assert_uint_ge(ask_many(a, 30, "HTTP/1.1 503 "), 5);
    finish();
}
END_TEST

/* ---------------------------------------------------------------- start and stop */

START_TEST(stop_lets_replies_go_out_and_drops_the_rest)
{
    static struct client list[20];
    struct asker a = { 0 };

    start();
    stall(list, CM_ARRAY_LEN(list));
    ck_assert_int_eq(pthread_create(&a.thread, NULL, ask_slow, &a), 0);
    wait_ms(200);
    finish();
    ck_assert_int_eq(pthread_join(a.thread, NULL), 0);
    ck_assert_ptr_nonnull(a.reply);
    ck_assert(begins(a.reply, "HTTP/1.1 200 "));
    free(a.reply);
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
    ck_assert_int_eq(cm_https(names, 1, handle, NULL, NULL, &err), CM_E_UNSUPPORTED);
    start();
    second.cfg = cfg;
    second.tls_port = opts.tls_port;
    second.http_port = free_port();
    ck_assert_int_eq(cm_https(names, 1, handle, NULL, &second, &err), CM_E_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "port"));
    second.tls_port = free_port();
    cfg->manage_rc = CM_E_INVAL;
    ck_assert_int_eq(cm_https(names, 1, handle, NULL, &second, &err), CM_E_INVAL);
    finish();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        plain_port_redirects_to_the_host_that_was_asked_for,
        redirect_to_443_names_no_port,
        http01_is_answered_exactly_or_not_found,
        handler_sees_the_request_and_answers,
        connection_is_kept_and_pipelined,
        bodies_are_bounded,
        pending_certificate_is_waited_for,
        validation_is_closed_after_the_handshake,
        files_below_the_root_are_served_and_nothing_else,
        large_file_arrives_whole,
        stalled_connections_are_closed_at_their_deadline_and_harm_nobody,
        dripping_head_is_cut_off,
        idle_connection_is_closed_at_its_deadline,
        slow_readers_hold_no_worker,
        more_connections_than_descriptors_evict_the_oldest,
        out_of_descriptors_does_not_spin_and_recovers,
        handlers_run_side_by_side_up_to_the_limit,
        full_queue_is_told_to_come_back,
        stop_lets_replies_go_out_and_drops_the_rest,
        start_fails_with_its_reason,
    };

    return run_tests_with("https", tests, CM_ARRAY_LEN(tests), setup, teardown);
}
