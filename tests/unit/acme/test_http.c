/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct scripted_http *sh;
static struct cm_http *http;
static struct cm_http_response resp;

static void setup(void)
{
    const struct cm_http_options o = { .allow_plain_http = true };

    memset(&err, 0, sizeof err);
    resp = (struct cm_http_response)CM_HTTP_RESPONSE_INIT;
    sh = sh_start(0);
    ck_ok(cm_http_new(&o, &http, &err));
}

static void teardown(void)
{
    cm_http_response_free(&resp);
    cm_http_free(http);
    sh_stop(sh);
}

static cm_status get(const char *path, size_t max)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, path),
                                         .max_body = max };

    return cm_http_do(http, NULL, &req, &resp, &err);
}

static cm_status post(const char *path, const char *body)
{
    const struct cm_http_request req = { .method = "POST",
                                         .url = sh_url(sh, path),
                                         .content_type = "application/jose+json",
                                         .body = cm_span_str(body),
                                         .max_body = 1000 };

    return cm_http_do(http, NULL, &req, &resp, &err);
}

static char *filled(size_t n)
{
    char *s = malloc(n + 1);

    ck_assert_ptr_nonnull(s);
    memset(s, 'x', n);
    s[n] = '\0';
    return s;
}

/* --------------------------------------------------------------------- simple */

START_TEST(answers_come_whole_whatever_their_status)
{
    struct cm_span v;

    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "hello", .headers = "X-A:  one \r\n" });
    sh_on(sh, "GET", "/b", &(struct sh_reply){ .status = 503, .body = "no", .chunked = true });
    ck_ok(get("/a", 100));
    ck_assert_int_eq(resp.status, 200);
    ck_assert_str_eq(cm_buf_str(&resp.body), "hello");
    ck_assert(cm_http_header(&resp, "x-a", 0, &v));
    ck_assert_uint_eq(v.len, 3);
    ck_assert_mem_eq(v.data, "one", 3);
    ck_ok(get("/b", 100));
    ck_assert_int_eq(resp.status, 503);
    ck_assert_str_eq(cm_buf_str(&resp.body), "no");
    ck_ok(get("/c", 100));
    ck_assert_int_eq(resp.status, 404);
    ck_assert_uint_eq(sh_connections(sh), 1);
}
END_TEST

START_TEST(post_carries_body_type_and_agent_but_no_expect)
{
    const char *body = sh_keep(sh, filled(5000));
    const char *h;

    sh_on(sh, "POST", "/p", &(struct sh_reply){ .status = 201 });
    ck_ok(post("/p", body));
    ck_assert_int_eq(resp.status, 201);
    ck_assert_str_eq(sh_last_body(sh, "/p"), body);
    h = sh_last_header(sh, "/p");
    ck_has(h, "Content-Type: application/jose+json\r\n");
    ck_has(h, "User-Agent: certmesh/");
    ck_has(h, "Accept-Language: en\r\n");
    ck_has(h, "Content-Length: 5000\r\n");
    ck_assert_ptr_null(strstr(h, "Expect"));
    ck_assert_ptr_null(strstr(h, "Accept-Encoding"));
    ck_assert_ptr_null(strstr(h, "Cookie"));
}
END_TEST

START_TEST(empty_post_and_head_work)
{
    struct cm_http_request req = { .method = "HEAD", .url = sh_url(sh, "/h"), .max_body = 1 };

    sh_on(sh, "*", "/h", &(struct sh_reply){ .status = 204 });
    ck_ok(cm_http_do(http, NULL, &req, &resp, &err));
    ck_assert_int_eq(resp.status, 204);
    ck_ok(post("/h", ""));
    ck_assert_uint_eq(sh_count(sh, "POST", "/h"), 1);
}
END_TEST

/* Cookies, credentials in URLs and the environment's proxies are no business of ours. */
START_TEST(environment_proxies_are_not_looked_at)
{
    ck_assert_int_eq(setenv("http_proxy", "http://127.0.0.1:9", 1), 0);
    ck_assert_int_eq(setenv("all_proxy", "http://127.0.0.1:9", 1), 0);
    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "x" });
    ck_ok(get("/a", 100));
}
END_TEST

START_TEST(unreachable_peer_is_a_network_failure)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = "http://127.0.0.1:1/x",
                                         .max_body = 10 };

    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_NET);
    ck_has(err.msg, "http://127.0.0.1:1/x");
}
END_TEST

/* --------------------------------------------------------------------- policy */

START_TEST(plain_http_is_refused_by_default)
{
    const struct cm_http_options o = { 0 };
    const struct cm_http_request req = { .method = "GET", .url = sh_url(sh, "/a"), .max_body = 10 };
    struct cm_http *strict = NULL;

    ck_ok(cm_http_new(&o, &strict, &err));
    ck_status(cm_http_do(strict, NULL, &req, &resp, &err), CM_E_POLICY);
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    cm_http_free(strict);
}
END_TEST

START_TEST(other_schemes_and_bad_urls_are_refused)
{
    static const char *const bad[] = { "ftp://127.0.0.1/",
                                       "file:///etc/passwd",
                                       "gopher://x/",
                                       "127.0.0.1",
                                       "",
                                       "https:/x",
                                       "http://127.0.0.1/a b",
                                       "http://a\r\nb/",
                                       "http://u:p@127.0.0.1/x" };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        const struct cm_http_request req = { .method = "GET", .url = bad[i], .max_body = 10 };
        cm_status rc = cm_http_do(http, NULL, &req, &resp, &err);

        ck_assert_msg(rc == CM_E_POLICY || rc == CM_E_INVAL || rc == CM_E_NET, "%s: %s", bad[i],
                      cm_status_name(rc));
    }
}
END_TEST

START_TEST(url_length_is_capped)
{
    char *path = filled(CM_HTTP_URL_MAX);
    char *url;

    path[0] = '/';
    path[CM_HTTP_URL_MAX - strlen(sh_base(sh))] = '\0';
    sh_on(sh, "GET", "/*", &(struct sh_reply){ .body = "x" });
    ck_ok(get(path, 10)); /* exactly the limit */
    url = cm_asprintf("%s%sy", sh_base(sh), path);
    const struct cm_http_request req = { .method = "GET", .url = url, .max_body = 10 };
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_LIMIT);
    free(url);
    free(path);
}
END_TEST

START_TEST(missing_or_useless_ca_file_is_an_error_at_once)
{
    char name[] = "/tmp/cm-test-ca-XXXXXX";
    struct cm_http_options o = { .ca_file = "/nonexistent/ca.pem" };
    struct cm_http *h = NULL;
    int fd;

    ck_status(cm_http_new(&o, &h, &err), CM_E_NOTFOUND);
    ck_has(err.msg, "/nonexistent/ca.pem");
    fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    o.ca_file = name;
    ck_status(cm_http_new(&o, &h, &err), CM_E_INVAL);
    o.ca_file = "/tmp";
    ck_status(cm_http_new(&o, &h, &err), CM_E_INVAL);
    ck_assert_int_eq(unlink(name), 0);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(local_addresses_are_refused_on_request)
{
    struct cm_http_request req = {
        .method = "GET", .url = sh_url(sh, "/a"), .max_body = 10, .refuse_local = true
    };

    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
    ck_has(err.msg, "loopback");
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    req.url = "http://[::1]:1/";
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
    req.url = "http://[::ffff:169.254.169.254]:1/";
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
    req.url = "http://169.254.169.254/latest/meta-data/";
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
}
END_TEST

/* ------------------------------------------------------------------ redirects */

static cm_status get_following(const char *path)
{
    const struct cm_http_request req = {
        .method = "GET", .url = sh_url(sh, path), .max_body = 100, .follow = true
    };

    return cm_http_do(http, NULL, &req, &resp, &err);
}

START_TEST(get_follows_three_redirects_and_no_fourth)
{
    sh_on(sh, "GET", "/1", &(struct sh_reply){ .status = 301, .headers = "Location: /2\r\n" });
    sh_on(sh, "GET", "/2",
          &(struct sh_reply){ .status = 302, .headers = "Location: {BASE}/3\r\n" });
    sh_on(sh, "GET", "/3", &(struct sh_reply){ .status = 307, .headers = "Location: 4\r\n" });
    sh_on(sh, "GET", "/4", &(struct sh_reply){ .body = "there" });
    sh_on(sh, "GET", "/0", &(struct sh_reply){ .status = 308, .headers = "Location: /1\r\n" });
    ck_ok(get_following("/1"));
    ck_assert_str_eq(cm_buf_str(&resp.body), "there");
    ck_status(get_following("/0"), CM_E_LIMIT);
    ck_ok(get("/1", 100)); /* not asked to follow */
    ck_assert_int_eq(resp.status, 301);
}
END_TEST

START_TEST(post_never_follows)
{
    sh_on(sh, "POST", "/p", &(struct sh_reply){ .status = 307, .headers = "Location: /q\r\n" });
    ck_ok(post("/p", "body"));
    ck_assert_int_eq(resp.status, 307);
    ck_assert_uint_eq(sh_count(sh, NULL, "/q"), 0);
}
END_TEST

START_TEST(redirects_lead_to_http_only_and_not_to_local_addresses_elsewhere)
{
    struct scripted_http *other = sh_start(0);
    char *to = cm_asprintf("Location: %s/x\r\n", sh_base(other));

    sh_on(sh, "GET", "/f",
          &(struct sh_reply){ .status = 302, .headers = "Location: file:///x\r\n" });
    sh_on(sh, "GET", "/o", &(struct sh_reply){ .status = 302, .headers = to });
    sh_on(sh, "GET", "/n", &(struct sh_reply){ .status = 302 });
    ck_status(get_following("/f"), CM_E_PARSE);
    ck_status(get_following("/o"), CM_E_POLICY);
    ck_status(get_following("/n"), CM_E_PARSE);
    ck_assert_uint_eq(sh_count(other, NULL, NULL), 0);
    sh_stop(other);
    free(to);
}
END_TEST

/* ----------------------------------------------------------------------- caps */

START_TEST(body_cap_is_exact)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        sh_clear(sh);
        sh_on(sh, "GET", "/b", &(struct sh_reply){ .body = "0123456789", .chunked = chunked });
        ck_ok(get("/b", 11));
        ck_ok(get("/b", 10));
        ck_assert_uint_eq(resp.body.len, 10);
        ck_status(get("/b", 9), CM_E_LIMIT);
    }
}
END_TEST

START_TEST(endless_body_ends_at_the_cap)
{
    int64_t t0 = real_ms();

    sh_on(sh, "GET", "/e", &(struct sh_reply){ .fault = SH_ENDLESS_BODY });
    ck_status(get("/e", 64 * 1024), CM_E_LIMIT);
    ck_assert_int_lt(real_ms() - t0, 5000);
}
END_TEST

static cm_status get_with_headers(char *headers)
{
    sh_clear(sh);
    sh_on(sh, "GET", "/h",
          &(struct sh_reply){ .headers = sh_keep(sh, headers), .no_nonce = true, .body = "x" });
    return get("/h", 10);
}

/* @len bytes of one line, CRLF not counted. */
static char *long_line(size_t len)
{
    char *s = filled(len + 2);

    memcpy(s, "X-L:", 4);
    memcpy(s + len, "\r\n", 2);
    return s;
}

START_TEST(header_line_cap_is_exact)
{
    ck_ok(get_with_headers(long_line(CM_HTTP_LINE_MAX - 1)));
    ck_ok(get_with_headers(long_line(CM_HTTP_LINE_MAX)));
    ck_status(get_with_headers(long_line(CM_HTTP_LINE_MAX + 1)), CM_E_LIMIT);
}
END_TEST

/* @n lines "X: y". */
static char *many_lines(size_t n)
{
    char *s = filled(n * 6);

    for (size_t i = 0; i < n; i++)
        memcpy(s + i * 6, "X: y\r\n", 6);
    return s;
}

START_TEST(header_count_cap_is_exact)
{
    /* the server adds Content-Length */
    ck_ok(get_with_headers(many_lines(CM_HTTP_LINES_MAX - 2)));
    ck_ok(get_with_headers(many_lines(CM_HTTP_LINES_MAX - 1)));
    ck_status(get_with_headers(many_lines(CM_HTTP_LINES_MAX)), CM_E_LIMIT);
}
END_TEST

/* Lines of 4096 and a last one so that all of them, with the status line, Content-Length and the
 * empty line, each with one byte for its end, make @total. */
static char *bulk(size_t total)
{
    const size_t fixed = sizeof "HTTP/1.1 200 Scripted" + sizeof "Content-Length: 1" + 1;
    size_t left = total - fixed;
    char *s = filled(total + 64);
    size_t at = 0;

    while (left > 0) {
        size_t line = left > 4097 + 10 ? 4096 : left - 1;

        memcpy(s + at, "X-L:", 4);
        memcpy(s + at + line, "\r\n", 2);
        at += line + 2;
        left -= line + 1;
    }
    s[at] = '\0';
    return s;
}

START_TEST(header_total_cap_is_exact)
{
    ck_ok(get_with_headers(bulk(CM_HTTP_HEADERS_MAX - 1)));
    ck_ok(get_with_headers(bulk(CM_HTTP_HEADERS_MAX)));
    ck_status(get_with_headers(bulk(CM_HTTP_HEADERS_MAX + 1)), CM_E_LIMIT);
}
END_TEST

START_TEST(endless_headers_and_interim_answers_end_at_the_cap)
{
    int64_t t0 = real_ms();

    sh_on(sh, "GET", "/h", &(struct sh_reply){ .fault = SH_ENDLESS_HEADERS });
    sh_on(sh, "GET", "/i", &(struct sh_reply){ .fault = SH_ENDLESS_INTERIM });
    ck_status(get("/h", 100), CM_E_LIMIT);
    ck_status(get("/i", 100), CM_E_LIMIT);
    ck_assert_int_lt(real_ms() - t0, 5000);
}
END_TEST

START_TEST(header_of_the_final_answer_is_what_counts)
{
    struct cm_span v;

    sh_on(sh, "GET", "/g",
          &(struct sh_reply){ .fault = SH_GARBAGE,
                              .body = "HTTP/1.1 103 Early\r\nX: early\r\nY: early\r\n\r\n"
                                      "HTTP/1.1 200 OK\r\nX: final\r\nContent-Length: 0\r\n\r\n" });
    ck_ok(get("/g", 100));
    ck_assert(cm_http_header(&resp, "X", 0, &v));
    ck_assert_mem_eq(v.data, "final", 5);
    ck_assert(!cm_http_header(&resp, "X", 1, &v));
    ck_assert(!cm_http_header(&resp, "Y", 0, &v));
}
END_TEST

/* --------------------------------------------------------------------- faults */

START_TEST(cut_connections_are_network_failures)
{
    static const enum sh_fault faults[] = { SH_CLOSE, SH_RESET, SH_CUT_HEADERS, SH_CUT_BODY };

    for (size_t i = 0; i < CM_ARRAY_LEN(faults); i++) {
        sh_clear(sh);
        sh_on(sh, "GET", "/f", &(struct sh_reply){ .fault = faults[i], .body = "0123456789" });
        ck_status(get("/f", 100), CM_E_NET);
    }
}
END_TEST

/* libcurl would send it again by itself when a kept connection turns out to be closed. */
START_TEST(post_is_sent_once_even_when_a_kept_connection_dies)
{
    sh_on(sh, "POST", "/p", &(struct sh_reply){ .body = "x", .times = 1 });
    sh_on(sh, "POST", "/p", &(struct sh_reply){ .fault = SH_CLOSE });
    ck_ok(post("/p", "first"));
    ck_status(post("/p", "second"), CM_E_NET);
    ck_assert_uint_eq(sh_count(sh, "POST", "/p"), 2);
}
END_TEST

START_TEST(garbage_is_a_network_failure)
{
    sh_on(sh, "GET", "/g", &(struct sh_reply){ .fault = SH_GARBAGE, .body = "\x16\x03\x01 what" });
    ck_status(get("/g", 100), CM_E_NET);
}
END_TEST

START_TEST(short_content_length_cuts_the_body)
{
    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_SHORT_LENGTH, .body = "0123456789" });
    ck_ok(get("/s", 100));
    ck_assert_uint_eq(resp.body.len, 9);
}
END_TEST

START_TEST(resp_is_untouched_by_failure)
{
    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "kept" });
    sh_on(sh, "GET", "/b", &(struct sh_reply){ .fault = SH_CUT_BODY, .body = "0123456789" });
    ck_ok(get("/a", 100));
    ck_status(get("/b", 100), CM_E_NET);
    ck_assert_int_eq(resp.status, 200);
    ck_assert_str_eq(cm_buf_str(&resp.body), "kept");
}
END_TEST

START_TEST(total_timeout_ends_a_slow_answer)
{
    const struct cm_http_options o = { .allow_plain_http = true,
                                       .total_timeout_ns = 200 * CM_NS_PER_MS };
    static const enum sh_fault faults[] = { SH_STALL, SH_SLOW_HEADERS, SH_SLOW_BODY };
    struct cm_http *quick = NULL;

    ck_ok(cm_http_new(&o, &quick, &err));
    for (size_t i = 0; i < CM_ARRAY_LEN(faults); i++) {
        const struct cm_http_request req = { .method = "GET",
                                             .url = sh_url(sh, "/s"),
                                             .max_body = 100 };
        int64_t t0 = real_ms();

        sh_clear(sh);
        sh_on(sh, "GET", "/s",
              &(struct sh_reply){ .fault = faults[i], .delay_ms = 50, .body = "0123456789" });
        ck_status(cm_http_do(quick, NULL, &req, &resp, &err), CM_E_TIMEOUT);
        ck_assert_int_lt(real_ms() - t0, 1000);
        ck_assert_int_ge(real_ms() - t0, 190);
    }
    cm_http_free(quick);
}
END_TEST

/* ---------------------------------------------------------- cancel and deadline */

struct shot {
    struct cm_cancel *cancel;
    _Atomic int64_t fired_ms;
};

static void *fire_later(void *arg)
{
    struct shot *s = arg;
    const struct cm_env *env = cm_env_system();

    ck_assert_int_eq(env->wait(env, NULL, 100 * CM_NS_PER_MS), CM_OK);
    s->fired_ms = real_ms();
    cm_cancel_fire(s->cancel);
    return NULL;
}

static void cancel_during(enum sh_fault fault)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct shot shot = { 0 };
    pthread_t thread;
    struct cm_op op = { 0 };

    ck_ok(cm_cancel_new(NULL, &shot.cancel, &err));
    op.cancel = shot.cancel;
    sh_clear(sh);
    sh_on(sh, "GET", "/s",
          &(struct sh_reply){ .fault = fault, .delay_ms = 20, .body = "0123456789" });
    ck_assert_int_eq(pthread_create(&thread, NULL, fire_later, &shot), 0);
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_CANCELED);
    ck_assert_int_lt(real_ms() - shot.fired_ms, 50);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    cm_cancel_free(shot.cancel);
}

START_TEST(cancel_returns_at_once)
{
    cancel_during(SH_STALL);
    cancel_during(SH_SLOW_HEADERS);
    cancel_during(SH_SLOW_BODY);
}
END_TEST

START_TEST(cancelled_before_it_begins_sends_nothing)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct cm_cancel *cancel = NULL;
    struct cm_op op = { 0 };

    ck_ok(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    op.cancel = cancel;
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_CANCELED);
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    cm_cancel_free(cancel);
}
END_TEST

START_TEST(deadline_returns_at_once)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct cm_op op = cm_op_within(NULL, 150 * CM_NS_PER_MS);
    int64_t t0 = real_ms();

    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_STALL });
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_TIMEOUT);
    ck_assert_int_ge(real_ms() - t0, 148);
    ck_assert_int_lt(real_ms() - t0, 200);
    ck_has(err.msg, "/s");
}
END_TEST

START_TEST(deadline_on_a_simulated_clock_is_seen)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct jump_env clock;
    struct cm_op op;
    int64_t t0 = real_ms();

    jump_env_init(&clock);
    op = (struct cm_op){ .env = &clock.env };
    op = cm_op_within(&op, 40 * CM_NS_PER_S);
    jump_by(&clock, 40 * CM_NS_PER_S - 100 * CM_NS_PER_MS);
    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_STALL });
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_TIMEOUT);
    ck_assert_int_lt(real_ms() - t0, 1000);
}
END_TEST

/* The transfers that were left behind do not stand in the way of others, nor of the end. */
START_TEST(free_is_prompt_with_abandoned_requests)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    int64_t t0;

    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_STALL });
    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "x" });
    for (int i = 0; i < 20; i++) {
        struct cm_op op = cm_op_within(NULL, 5 * CM_NS_PER_MS);

        ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_TIMEOUT);
    }
    t0 = real_ms();
    ck_ok(get("/a", 10));
    cm_http_free(http);
    http = NULL;
    ck_assert_int_lt(real_ms() - t0, 200);
}
END_TEST

/* -------------------------------------------------------------------- threads */

#define THREADS  20
#define REQUESTS 50

static void echo(void *user, struct scripted_http *server, const struct sh_request *req,
                 struct sh_reply *reply)
{
    char *s = cm_asprintf("echo:%s", req->body);

    (void)user;
    reply->status = 200;
    reply->body = sh_keep(server, s);
}

static void *hammer(void *arg)
{
    struct cm_http_response r = CM_HTTP_RESPONSE_INIT;
    struct cm_err e = CM_ERR_INIT;
    uintptr_t wrong = 0;

    for (int i = 0; i < REQUESTS; i++) {
        char body[64];
        struct cm_http_request req = {
            .method = "POST", .url = arg, .max_body = 100, .content_type = "text/plain"
        };

        (void)snprintf(body, sizeof body, "%p-%d", (void *)&r, i);
        req.body = cm_span_str(body);
        if (i % 10 == 9) { /* some leave early */
            struct cm_op op = cm_op_within(NULL, 200000);
            cm_status rc = cm_http_do(http, &op, &req, &r, &e);

            wrong += rc != CM_OK && rc != CM_E_TIMEOUT;
            continue;
        }
        if (cm_http_do(http, NULL, &req, &r, &e) != CM_OK ||
            strncmp(cm_buf_str(&r.body), "echo:", 5) != 0 ||
            strcmp(cm_buf_str(&r.body) + 5, body) != 0)
            wrong++;
    }
    cm_http_response_free(&r);
    return (void *)wrong;
}

START_TEST(twenty_threads_get_their_own_answers)
{
    pthread_t threads[THREADS];
    char *url = cm_asprintf("%s/echo", sh_base(sh));

    sh_handle(sh, "POST", "/echo", echo, NULL);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, url), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;

        ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
        ck_assert_ptr_null(wrong);
    }
    free(url);
}
END_TEST

START_TEST(child_of_fork_can_free_and_is_refused_requests)
{
    pid_t child;
    int status = 0;

    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "x" });
    ck_ok(get("/a", 10));
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        const struct cm_http_request req = { .method = "GET",
                                             .url = "http://127.0.0.1:1/",
                                             .max_body = 10 };
        cm_status rc = cm_http_do(http, NULL, &req, &resp, &err);

        cm_http_free(http);
        _exit(rc == CM_E_STATE ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_ok(get("/a", 10));
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        answers_come_whole_whatever_their_status,
        post_carries_body_type_and_agent_but_no_expect,
        empty_post_and_head_work,
        environment_proxies_are_not_looked_at,
        unreachable_peer_is_a_network_failure,
        plain_http_is_refused_by_default,
        other_schemes_and_bad_urls_are_refused,
        url_length_is_capped,
        missing_or_useless_ca_file_is_an_error_at_once,
        local_addresses_are_refused_on_request,
        get_follows_three_redirects_and_no_fourth,
        post_never_follows,
        redirects_lead_to_http_only_and_not_to_local_addresses_elsewhere,
        body_cap_is_exact,
        endless_body_ends_at_the_cap,
        header_line_cap_is_exact,
        header_count_cap_is_exact,
        header_total_cap_is_exact,
        endless_headers_and_interim_answers_end_at_the_cap,
        header_of_the_final_answer_is_what_counts,
        cut_connections_are_network_failures,
        post_is_sent_once_even_when_a_kept_connection_dies,
        garbage_is_a_network_failure,
        short_content_length_cuts_the_body,
        resp_is_untouched_by_failure,
        total_timeout_ends_a_slow_answer,
        cancel_returns_at_once,
        cancelled_before_it_begins_sends_nothing,
        deadline_returns_at_once,
        deadline_on_a_simulated_clock_is_seen,
        free_is_prompt_with_abandoned_requests,
        twenty_threads_get_their_own_answers,
        child_of_fork_can_free_and_is_refused_requests,
    };
    Suite *s = suite_create("http");

    ADD_TESTS(s, "http", setup, teardown, all);
    return run_suite(s);
}
