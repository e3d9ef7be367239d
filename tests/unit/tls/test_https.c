/* SPDX-License-Identifier: Apache-2.0 */
#include "https_kit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* -------------------------------------------------------------------- plain port */

START_TEST(plain_port_redirects_to_the_host_that_was_asked_for)
{
    char want[128];

    https_start();
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
    https_finish();
    ck_assert_uint_eq(cfg->n_managed, 1);
}
END_TEST

START_TEST(redirect_to_443_names_no_port)
{
    opts.redirect_port = 443;
    https_start();
    check_plain("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ",
                "\r\nLocation: https://a.test/\r\n");
    https_finish();
}
END_TEST

START_TEST(http01_is_answered_exactly_or_not_found)
{
    char *r;

    https_start();
    r = plain("GET " FAKE_TOKEN_PATH " HTTP/1.1\r\nHost: a.test\r\n\r\n");
    ck_assert(begins(r, "HTTP/1.1 200 OK\r\n"));
    ck_assert_str_eq(strstr(r, "\r\n\r\n") + 4, FAKE_TOKEN_TEXT);
    ck_assert_ptr_nonnull(strstr(r, "Content-Type: text/plain"));
    free(r);
    check_plain("GET " FAKE_TOKEN_PATH " HTTP/1.1\r\nHost: b.test\r\n\r\n", "HTTP/1.1 404 ", NULL);
    check_plain("GET " FAKE_TOKEN_PATH "x HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 404 ", NULL);
    check_plain("POST " FAKE_TOKEN_PATH " HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", NULL);
    https_finish();
}
END_TEST

/* ---------------------------------------------------------------------- TLS port */

START_TEST(handler_sees_the_request_and_answers)
{
    https_start();
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
    https_finish();
}
END_TEST

START_TEST(connection_is_kept_and_pipelined)
{
    struct client c;

    https_start();
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
    https_finish();
}
END_TEST

START_TEST(bodies_are_bounded)
{
    https_start();
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", "HTTP/1.1 413 ",
                 "Connection: close\r\n");
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 "HTTP/1.1 411 ", "Connection: close\r\n");
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
                 "HTTP/1.1 200 ", "Connection: close\r\n");
    check_secure("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
                 "\r\n",
                 "HTTP/1.1 400 ", "Connection: close\r\n");
    https_finish();
}
END_TEST

START_TEST(pending_certificate_is_waited_for)
{
    struct client c;

    cfg->names[0].delay_ms = 300;
    https_start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", NULL), 0);
    check_one(&c, "GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n", false, "/1 from");
    client_close(&c);
    https_finish();
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
}
END_TEST

START_TEST(validation_is_closed_after_the_handshake)
{
    struct client c;
    gnutls_datum_t alpn;

    (void)fake_add_challenge(cfg, "a.test");
    https_start();
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "a.test", "acme-tls/1"), 0);
    ck_assert_int_eq(gnutls_alpn_get_selected_protocol(c.session, &alpn), 0);
    client_send(&c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    ck_assert_int_ge(client_wait_closed(&c, 2000), 0);
    client_close(&c);
    ck_assert_int_eq(client_tls(&c, opts.tls_port, "unknown.test", NULL),
                     GNUTLS_E_FATAL_ALERT_RECEIVED);
    ck_assert_int_eq(gnutls_alert_get(c.session), GNUTLS_A_UNRECOGNIZED_NAME);
    client_close(&c);
    https_finish();
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
    https_start();
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
    https_finish();
}
END_TEST

START_TEST(large_file_arrives_whole)
{
    char *r;
    const char *body;

    write_file("big.bin", "0123456789abcdef", 200000);
    https_start();
    r = secure("GET /f/big.bin HTTP/1.0\r\n\r\n");
    body = strstr(r, "\r\n\r\n") + 4;
    ck_assert_uint_eq(strlen(body), 3200000);
    for (size_t i = 0; i < 3200000; i += 16)
        ck_assert_mem_eq(body + i, "0123456789abcdef", 16);
    free(r);
    https_finish();
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
    };

    return run_tests_how("https", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = https_setup, .teardown = https_teardown });
}
