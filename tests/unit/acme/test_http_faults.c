/* SPDX-License-Identifier: Apache-2.0 */
#include "http_kit.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

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

/* A client that is made while descriptors are scarce works or is refused; it must not come to life
 * without what wakes it, so that every request stands still for a minute. */
START_TEST(a_client_made_with_few_descriptors_is_whole_or_not_made)
{
    const struct cm_http_options o = { .allow_plain_http = true };
    unsigned refused = 0;
    struct rlimit before;

    sh_on(sh, "GET", "/d", &(struct sh_reply){ .body = "here" });
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned spare = 0; spare < 6; spare++) {
        struct rlimit few = before;
        cm_status rc;
        int next;

        cm_http_free(http);
        http = NULL;
        next = dup(STDIN_FILENO);
        ck_assert_int_ge(next, 0);
        (void)close(next);
        few.rlim_cur = (rlim_t)next + spare;
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = cm_http_new(&o, &http, &err);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
        refused += rc != CM_OK;
        for (int i = 0; rc == CM_OK && i < 3; i++) {
            int64_t t0 = real_ms();

            ck_ok(get("/d", 10));
            ck_assert_int_lt(real_ms() - t0, 5000);
        }
    }
    ck_assert_uint_ge(refused, 1);
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

int main(void)
{
    const TTest *const all[] = {
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
        a_client_made_with_few_descriptors_is_whole_or_not_made,
        total_timeout_ends_a_slow_answer,
    };
    Suite *s = suite_create("http_faults");

    ADD_TESTS(s, "http_faults", setup, teardown, all);
    return run_suite(s);
}
