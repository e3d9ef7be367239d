/* SPDX-License-Identifier: Apache-2.0 */
#include "http1.h"
#include "run.h"

static struct cm_http_head head;

/* What the server would answer before it looks at the request any further: 0 = goes on, -1 = more
 * bytes wanted. The bytes lie in a block of exactly their size. */
static int judge_bytes(const char *text, size_t len)
{
    static char *kept; /* the spans of `head` point into it */
    struct cm_http_scan s = { 0 };
    size_t n = 0;
    int r;

    free(kept);
    kept = malloc(len + (len == 0));
    memcpy(kept, text, len);
    r = cm_http_scan(&s, (struct cm_span){ (const uint8_t *)kept, len }, &n);
    if (r == 0)
        return -1;
    if (r != 1)
        return r;
    return cm_http_head_parse((struct cm_span){ (const uint8_t *)kept, n }, &head);
}

static int judge(const char *text)
{
    return judge_bytes(text, strlen(text));
}

#define ck_span(span, text)                                                                        \
    do {                                                                                           \
        ck_assert_uint_eq((span).len, strlen(text));                                               \
        ck_assert_mem_eq((span).data, text, strlen(text));                                         \
    } while (0)

START_TEST(usual_request_is_read)
{
    ck_assert_int_eq(judge("GET /a/b?c=%20d HTTP/1.1\r\nHost: www.a.test:8443\r\n"
                           "User-Agent: x\r\nAccept:*/*\r\nX-Empty:\r\n\r\n"),
                     0);
    ck_span(head.method, "GET");
    ck_span(head.target, "/a/b?c=%20d");
    ck_span(head.host, "www.a.test");
    ck_assert(head.keep_alive && head.minor == 1 && !head.chunked);
    ck_assert_uint_eq(head.content_length, 0);
}
END_TEST

START_TEST(absolute_form_wins_over_host)
{
    ck_assert_int_eq(judge("GET http://b.test:80/x HTTP/1.1\r\nHost: a.test\r\n\r\n"), 0);
    ck_span(head.host, "b.test");
    ck_span(head.target, "/x");
    ck_assert_int_eq(judge("GET HTTPS://b.test HTTP/1.1\r\nHost: a.test\r\n\r\n"), 0);
    ck_span(head.target, "/");
    ck_assert_int_eq(judge("GET http://u:p@b.test/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET ftp://b.test/x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET http://b.test?x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}
END_TEST

START_TEST(persistence_follows_version_and_connection)
{
    ck_assert_int_eq(judge("GET / HTTP/1.0\r\n\r\n"), 0);
    ck_assert(!head.keep_alive && head.minor == 0 && head.host.len == 0);
    ck_assert_int_eq(judge("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0);
    ck_assert(head.keep_alive);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE ,y\r\n\r\n"), 0);
    ck_assert(!head.keep_alive);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n"), 0);
    ck_assert(head.keep_alive);
    ck_assert_int_eq(judge("GET / HTTP/1.7\r\nHost: a\r\n\r\n"), 0);
    ck_assert_int_eq(head.minor, 1);
}
END_TEST

START_TEST(host_is_wanted_once_and_well_formed)
{
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), 0);
    ck_span(head.host, "[::1]");
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nhOST:\ta.test: \r\n\r\n"), 0);
    ck_span(head.host, "a.test");
}
END_TEST

START_TEST(request_line_is_strict)
{
    static const char *const bad[] = {
        "GET /\r\n\r\n",                      /* HTTP/0.9 */
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", /* two blanks */
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", /* a blank behind */
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n", /* a blank before */
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.11\r\nHost: a\r\n\r\n",
        "GET / HTTP/1\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GETGETGETGETGETGE / HTTP/1.1\r\nHost: a\r\n\r\n", /* 17 bytes */
        "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(judge(bad[i]) == 400, "%s: %d", bad[i], judge(bad[i]));
    ck_assert_int_eq(judge("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    ck_assert_int_eq(judge("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
    ck_assert_int_eq(judge("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    ck_assert_int_eq(judge("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
}
END_TEST

START_TEST(lines_end_with_crlf_and_nothing_else)
{
    ck_assert_int_eq(judge("GET / HTTP/1.1\nHost: a\n\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"), 400); /* folding */
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
    ck_assert_int_eq(judge_bytes("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 28), 400);
    ck_assert_int_eq(judge_bytes("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", 28), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[0m\r\n\r\n"), 400);
    ck_assert_int_eq(judge("\x16\x03\x01\x02"), 400); /* TLS on the plain port, at once */
}
END_TEST

START_TEST(fields_have_a_token_before_their_colon)
{
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: a\r\nX(y): x\r\n\r\n"), 400);
}
END_TEST

START_TEST(framing_is_never_ambiguous)
{
#define REQ "POST / HTTP/1.1\r\nHost: a\r\n"
    ck_assert_int_eq(judge(REQ "Content-Length: 5\r\n\r\n"), 0);
    ck_assert_uint_eq(head.content_length, 5);
    ck_assert_int_eq(judge(REQ "Transfer-Encoding: chunked\r\n\r\n"), 0);
    ck_assert(head.chunked);
    ck_assert_int_eq(judge(REQ "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length: 5, 5\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length: +5\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length: -1\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length: 0x5\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length:\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Content-Length: 9999999999999999999\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501);
    ck_assert_int_eq(judge(REQ "Transfer-Encoding: xchunked\r\n\r\n"), 501);
    ck_assert_int_eq(judge(REQ "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
                     400);
    ck_assert_int_eq(judge("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    ck_assert_int_eq(judge(REQ "Expect: 100-Continue\r\n\r\n"), 0);
    ck_assert(head.expect_continue);
    ck_assert_int_eq(judge(REQ "Expect: magic\r\n\r\n"), 417);
#undef REQ
}
END_TEST

static void fill(char *text, size_t *n, char c, size_t count)
{
    memset(text + *n, c, count);
    *n += count;
}

START_TEST(limits_are_exact)
{
    static char text[32768];
    static const char start[] = "GET /", rest[] = " HTTP/1.1\r\n";
    size_t fixed = strlen(start) + strlen(rest);

    for (size_t extra = 0; extra < 2; extra++) {
        size_t n = 0;

        memcpy(text, start, strlen(start));
        n = strlen(start);
        fill(text, &n, 'a', CM_HTTP_LINE_MAX - fixed + extra);
        memcpy(text + n, rest, strlen(rest));
        n += strlen(rest);
        memcpy(text + n, "Host: a\r\n\r\n", 11);
        ck_assert_int_eq(judge_bytes(text, n + 11), extra == 0 ? 0 : 414);
    }
    for (size_t extra = 0; extra < 2; extra++) {
        static const char begin[] = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        size_t n = strlen(begin);

        memcpy(text, begin, n);
        fill(text, &n, 'a', CM_HTTP_FIELDS_MAX - strlen("Host: a\r\nX: \r\n\r\n") + extra);
        memcpy(text + n, "\r\n\r\n", 4);
        ck_assert_int_eq(judge_bytes(text, n + 4), extra == 0 ? 0 : 431);
    }
    for (size_t extra = 0; extra < 2; extra++) {
        size_t n = strlen("GET / HTTP/1.1\r\nHost: a\r\n");

        memcpy(text, "GET / HTTP/1.1\r\nHost: a\r\n", n);
        for (size_t i = 1; i < CM_HTTP_FIELD_COUNT + extra; i++) {
            memcpy(text + n, "X: y\r\n", 6);
            n += 6;
        }
        memcpy(text + n, "\r\n", 2);
        ck_assert_int_eq(judge_bytes(text, n + 2), extra == 0 ? 0 : 431);
    }
}
END_TEST

START_TEST(head_is_found_byte_by_byte_and_what_follows_is_left)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\n";
    size_t end = (size_t)(strstr(text, "\r\n\r\n") + 4 - text);
    struct cm_http_scan s = { 0 };
    size_t n = 0;

    for (size_t i = 0; i < end; i++)
        ck_assert_int_eq(cm_http_scan(&s, (struct cm_span){ (const uint8_t *)text, i }, &n), 0);
    ck_assert_int_eq(cm_http_scan(&s, cm_span_str(text), &n), 1);
    ck_assert_uint_eq(n, end);
}
END_TEST

START_TEST(bytes_beyond_ascii_pass_in_target_and_values_only)
{
    ck_assert_int_eq(judge("GET /\xC3\xBC HTTP/1.1\r\nHost: a\r\nX: \xC3\xBC\r\n\r\n"), 0);
    ck_assert_int_eq(judge("G\xC3T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    ck_assert_int_eq(judge("GET / HTTP/1.1\r\nHost: \xC3\xBC\r\n\r\n"), 400);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        usual_request_is_read,
        absolute_form_wins_over_host,
        persistence_follows_version_and_connection,
        host_is_wanted_once_and_well_formed,
        request_line_is_strict,
        lines_end_with_crlf_and_nothing_else,
        fields_have_a_token_before_their_colon,
        framing_is_never_ambiguous,
        limits_are_exact,
        head_is_found_byte_by_byte_and_what_follows_is_left,
        bytes_beyond_ascii_pass_in_target_and_values_only,
    };

    return run_tests("http1", tests, CM_ARRAY_LEN(tests));
}
