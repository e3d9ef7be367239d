/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

static struct cm_err err;

static struct cm_span span_of(const void *data, size_t len)
{
    struct cm_span span = { data, len };

    return span;
}

static void check_both_ways(const void *raw, size_t len, const char *text)
{
    struct cm_buf out = CM_BUF_INIT(1000);

    ck_assert_int_eq(cm_b64url_encode(span_of(raw, len), &out, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&out), text);
    cm_buf_reset(&out);
    ck_assert_int_eq(cm_b64url_decode(cm_span_str(text), &out, &err), CM_OK);
    ck_assert_uint_eq(out.len, len);
    if (len > 0)
        ck_assert_mem_eq(out.data, raw, len);
    cm_buf_free(&out);
}

/* RFC 4648 10, without padding as RFC 7515 2 says. */
START_TEST(base64url_agrees_with_rfc_4648)
{
    check_both_ways("", 0, "");
    check_both_ways("f", 1, "Zg");
    check_both_ways("fo", 2, "Zm8");
    check_both_ways("foo", 3, "Zm9v");
    check_both_ways("foob", 4, "Zm9vYg");
    check_both_ways("fooba", 5, "Zm9vYmE");
    check_both_ways("foobar", 6, "Zm9vYmFy");
}
END_TEST

/* RFC 7515 appendix C, and the protected header of appendix A.1. */
START_TEST(base64url_agrees_with_rfc_7515)
{
    static const uint8_t octets[] = { 3, 236, 255, 224, 193 };
    static const char header[] = "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}";

    check_both_ways(octets, sizeof octets, "A-z_4ME");
    check_both_ways(header, sizeof header - 1, "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9");
}
END_TEST

START_TEST(base64url_carries_every_byte_at_every_length)
{
    uint8_t raw[256];
    struct cm_buf text = CM_BUF_INIT(1000);
    struct cm_buf back = CM_BUF_INIT(1000);

    for (size_t i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(i * 7 + 3);
    for (size_t len = 0; len <= sizeof raw; len++) {
        cm_buf_reset(&text);
        cm_buf_reset(&back);
        ck_assert_int_eq(cm_b64url_encode(span_of(raw, len), &text, &err), CM_OK);
        ck_assert_int_eq(cm_b64url_decode(cm_buf_span(&text), &back, &err), CM_OK);
        ck_assert_uint_eq(back.len, len);
        if (len > 0)
            ck_assert_mem_eq(back.data, raw, len);
    }
    cm_buf_free(&text);
    cm_buf_free(&back);
}
END_TEST

START_TEST(base64url_decoding_is_strict_and_changes_nothing_on_refusal)
{
    static const char *const bad[] = { "Zg==", "Zm8=", "Z",    "Zm9vY", "Zh",   "Zm9",   "+A",
                                       "/A",   "Z g",  "Zg\n", " Zg",   "Zg\t", "Zm9v.", "\x80g" };
    struct cm_buf out = CM_BUF_INIT(100);

    ck_assert_int_eq(cm_buf_puts(&out, "keep", &err), CM_OK);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(cm_b64url_decode(cm_span_str(bad[i]), &out, &err) == CM_E_PARSE,
                      "'%s' was taken", bad[i]);
    ck_assert_int_eq(cm_b64url_decode(span_of("Zg\0", 3), &out, &err), CM_E_PARSE);
    ck_assert_str_eq(cm_buf_str(&out), "keep");
    cm_buf_free(&out);
}
END_TEST

/* Long texts are read in blocks: nothing foreign gets through in any place of one. */
START_TEST(base64_refuses_a_foreign_byte_wherever_it_stands)
{
    static const char foreign[] = "-_= \n@[`{/:\x80\xff";
    struct cm_buf text = CM_BUF_INIT(400), out = CM_BUF_INIT(400);
    uint8_t raw[150];

    for (size_t i = 0; i < sizeof raw; i++)
        raw[i] = (uint8_t)(i * 7 + 3);
    ck_assert_int_eq(cm_b64_encode(span_of(raw, sizeof raw), &text, &err), CM_OK);
    ck_assert_uint_eq(text.len, 200);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t kept = text.data[i];

        for (const char *c = foreign; *c != '\0'; c++) {
            text.data[i] = (uint8_t)*c;
            if (*c != '/' && !(*c == '=' && i == text.len - 1))
                ck_assert_msg(cm_b64_decode(cm_buf_span(&text), &out, &err) == CM_E_PARSE,
                              "%d at %zu", *c, i);
        }
        text.data[i] = kept;
        ck_assert_uint_eq(out.len, 0);
    }
    ck_assert_int_eq(cm_b64_decode(cm_buf_span(&text), &out, &err), CM_OK);
    ck_assert_mem_eq(out.data, raw, sizeof raw);
    cm_buf_free(&text);
    cm_buf_free(&out);
}
END_TEST

START_TEST(base64_is_padded_and_as_strict)
{
    static const char *const pairs[][2] = {
        { "", "" },
        { "f", "Zg==" },
        { "fo", "Zm8=" },
        { "foo", "Zm9v" },
        { "foob", "Zm9vYg==" },
        { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" },
        { "\xfb\xff", "+/8=" },
    };
    static const char *const bad[] = { "Zg",   "Zg=",  "Z===",     "====", "=",      "Zh==", "Zm9=",
                                       "-_8=", "Zg=a", "Zg==Zg==", "Zm 8", "Zg==\n", "Z=g=" };
    struct cm_buf out = CM_BUF_INIT(100);

    for (size_t i = 0; i < CM_ARRAY_LEN(pairs); i++) {
        cm_buf_reset(&out);
        ck_assert_int_eq(cm_b64_encode(cm_span_str(pairs[i][0]), &out, &err), CM_OK);
        ck_assert_str_eq(cm_buf_str(&out), pairs[i][1]);
        cm_buf_reset(&out);
        ck_assert_int_eq(cm_b64_decode(cm_span_str(pairs[i][1]), &out, &err), CM_OK);
        ck_assert_str_eq(cm_buf_str(&out), pairs[i][0]);
    }
    cm_buf_reset(&out);
    ck_assert_int_eq(cm_buf_puts(&out, "keep", &err), CM_OK);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(cm_b64_decode(cm_span_str(bad[i]), &out, &err) == CM_E_PARSE,
                      "'%s' was taken", bad[i]);
    ck_assert_str_eq(cm_buf_str(&out), "keep");
    cm_buf_free(&out);
}
END_TEST

START_TEST(base64url_respects_the_maximum_of_its_output)
{
    struct cm_buf out = CM_BUF_INIT(4);

    ck_assert_int_eq(cm_b64url_encode(span_of("foob", 4), &out, &err), CM_E_LIMIT);
    ck_assert_uint_eq(out.len, 0);
    ck_assert_int_eq(cm_b64url_encode(span_of("foo", 3), &out, &err), CM_OK);
    ck_assert_int_eq(cm_b64url_decode(cm_span_str("Zg"), &out, &err), CM_E_LIMIT);
    ck_assert_str_eq(cm_buf_str(&out), "Zm9v");
    cm_buf_free(&out);
}
END_TEST

START_TEST(only_the_base64url_alphabet_is_recognised)
{
    ck_assert(cm_is_b64url("aZ09-_", 6));
    ck_assert(!cm_is_b64url("", 0));
    ck_assert(!cm_is_b64url(NULL, 0));
    ck_assert(!cm_is_b64url("a+b", 3));
    ck_assert(!cm_is_b64url("a/b", 3));
    ck_assert(!cm_is_b64url("ab=", 3));
    ck_assert(!cm_is_b64url("a\0b", 3));
}
END_TEST

static void check_escape(const char *in, size_t len, size_t out_size, const char *want)
{
    char out[64];

    memset(out, '#', sizeof out);
    ck_assert_str_eq(cm_escape(in, len, out, out_size), want);
    ck_assert_int_eq(out[out_size], '#');
}

START_TEST(hex_is_read_in_either_case_and_nothing_else_is)
{
    static const char *const bad[] = { "0g", "g0", " 1", "1 ", "0x", "-1", "/0", ":0", "@0", "`0" };
    uint8_t out[4];

    ck_assert(cm_hex_decode("00fFaA19", 4, out));
    ck_assert_mem_eq(out, "\x00\xff\xaa\x19", 4);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_msg(!cm_hex_decode(bad[i], 1, out), "'%s' was taken", bad[i]);
}
END_TEST

START_TEST(escape_shows_control_and_foreign_bytes)
{
    check_escape("plain text!", 11, 40, "plain text!");
    check_escape("a\r\nb\0c", 6, 40, "a\\x0d\\x0ab\\x00c");
    check_escape("\x1b[2J\x7f\xc3\xa4", 7, 40, "\\x1b[2J\\x7f\\xc3\\xa4");
    check_escape(NULL, 3, 40, "");
}
END_TEST

START_TEST(escape_says_when_something_did_not_fit)
{
    check_escape("12345", 5, 6, "12345");
    check_escape("123456", 6, 6, "12...");
    check_escape("123456", 6, 4, "...");
    check_escape("123456", 6, 3, "..");
    check_escape("1", 1, 1, "");
    check_escape("ab\n", 3, 6, "ab...");
    check_escape("ab\n", 3, 7, "ab\\x0a");
    check_escape("abc\n\n", 5, 8, "abc...");
    ck_assert_str_eq(cm_escape("x", 1, NULL, 0), "");
}
END_TEST

/* The vectors of the authors (draft-eastlake-fnv, appendix C). */
START_TEST(fnv_agrees_with_its_authors)
{
    ck_assert_uint_eq(cm_fnv1a64(CM_FNV1A64, "", 0), UINT64_C(0xCBF29CE484222325));
    ck_assert_uint_eq(cm_fnv1a64(CM_FNV1A64, "a", 1), UINT64_C(0xAF63DC4C8601EC8C));
    ck_assert_uint_eq(cm_fnv1a64(CM_FNV1A64, "foobar", 6), UINT64_C(0x85944171F73967E8));
    ck_assert_uint_eq(cm_fnv1a64(cm_fnv1a64(CM_FNV1A64, "foo", 3), "bar", 3),
                      UINT64_C(0x85944171F73967E8));
}
END_TEST

START_TEST(random_hex_has_the_asked_length_and_differs)
{
    char a[2 * 100 + 1];
    char b[2 * 100 + 1];

    ck_assert_int_eq(cm_random_hex(NULL, 100, a, &err), CM_OK);
    ck_assert_int_eq(cm_random_hex(NULL, 100, b, &err), CM_OK);
    ck_assert_uint_eq(strlen(a), 200);
    ck_assert_uint_eq(strspn(a, "0123456789abcdef"), 200);
    ck_assert_str_ne(a, b);
    ck_assert_int_eq(cm_random_hex(NULL, 0, a, &err), CM_OK);
    ck_assert_str_eq(a, "");
}
END_TEST

struct seen {
    unsigned lines;
    enum cm_log_level level;
    size_t n_fields;
    char event[64];
    char msg[2048];
    char value[512];
};

static void remember(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    struct seen *seen = user;

    seen->lines++;
    seen->level = level;
    seen->n_fields = n;
    (void)snprintf(seen->event, sizeof seen->event, "%s", event);
    (void)snprintf(seen->msg, sizeof seen->msg, "%s", msg);
    (void)snprintf(seen->value, sizeof seen->value, "%s", n > 0 ? fields[n - 1].value : "-");
}

START_TEST(log_line_carries_escaped_message_and_fields)
{
    struct seen seen = { .lines = 0 };
    struct cm_log log = { remember, &seen, CM_LOG_INFO };
    struct cm_log_field fields[] = { { "name", "a.example" }, { "detail", "two\nlines" } };

    cm_logf(&log, CM_LOG_WARN, "order_failed", fields, 2, "%s said\n%d", "CA", 500);
    ck_assert_uint_eq(seen.lines, 1);
    ck_assert_int_eq(seen.level, CM_LOG_WARN);
    ck_assert_str_eq(seen.event, "order_failed");
    ck_assert_str_eq(seen.msg, "CA said\\x0a500");
    ck_assert_uint_eq(seen.n_fields, 2);
    ck_assert_str_eq(seen.value, "two\\x0alines");
}
END_TEST

START_TEST(log_below_the_level_or_without_sink_is_silent)
{
    struct seen seen = { .lines = 0 };
    struct cm_log log = { remember, &seen, CM_LOG_WARN };
    struct cm_log silent = { NULL, NULL, CM_LOG_DEBUG };

    cm_logf(&log, CM_LOG_INFO, "x", NULL, 0, "not seen");
    cm_logf(&silent, CM_LOG_ERROR, "x", NULL, 0, "not seen");
    cm_logf(NULL, CM_LOG_ERROR, "x", NULL, 0, "not seen");
    ck_assert_uint_eq(seen.lines, 0);
    cm_logf(&log, CM_LOG_WARN, "x", NULL, 3, "seen");
    ck_assert_uint_eq(seen.lines, 1);
    ck_assert_uint_eq(seen.n_fields, 0);
}
END_TEST

START_TEST(log_bounds_values_and_stops_at_the_null_key)
{
    struct seen seen = { .lines = 0 };
    struct cm_log log = { remember, &seen, CM_LOG_DEBUG };
    char big[1000];
    struct cm_log_field fields[] = { { "big", big }, { NULL, NULL }, { "after", "x" } };
    struct cm_log_field none[] = { { "none", NULL } };

    memset(big, 'v', sizeof big);
    big[sizeof big - 1] = '\0';
    cm_logf(&log, CM_LOG_DEBUG, "x", fields, 3, "m");
    ck_assert_uint_eq(seen.n_fields, 1);
    ck_assert_uint_eq(strlen(seen.value), 256);
    cm_logf(&log, CM_LOG_DEBUG, "x", none, 1, "m");
    ck_assert_str_eq(seen.value, "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        base64url_agrees_with_rfc_4648,
        base64url_agrees_with_rfc_7515,
        base64url_carries_every_byte_at_every_length,
        base64url_decoding_is_strict_and_changes_nothing_on_refusal,
        base64_is_padded_and_as_strict,
        base64_refuses_a_foreign_byte_wherever_it_stands,
        base64url_respects_the_maximum_of_its_output,
        only_the_base64url_alphabet_is_recognised,
        hex_is_read_in_either_case_and_nothing_else_is,
        escape_shows_control_and_foreign_bytes,
        escape_says_when_something_did_not_fit,
        fnv_agrees_with_its_authors,
        random_hex_has_the_asked_length_and_differs,
        log_line_carries_escaped_message_and_fields,
        log_below_the_level_or_without_sink_is_silent,
        log_bounds_values_and_stops_at_the_null_key,
    };

    return run_tests("text", tests, CM_ARRAY_LEN(tests));
}
