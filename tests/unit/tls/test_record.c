/* SPDX-License-Identifier: Apache-2.0 */
#include "build_hello.h"
#include "record.h"
#include "run.h"

#define MSG_MAX 16384u

static struct cm_buf msg;
static struct cm_buf raw;

static void fresh(void)
{
    struct cm_buf ext = CM_BUF_INIT(4096);
    struct hello_parts p;

    cm_buf_free(&msg);
    cm_buf_free(&raw);
    msg.max = raw.max = 1 << 20;
    put_sni(&ext, "www.example.test", 16);
    p = (struct hello_parts){ .ext = (const char *)ext.data, .ext_len = ext.len };
    build_hello(&p, &msg);
    cm_buf_free(&ext);
}

/* The first @n bytes of raw in a block of exactly that size. */
static enum cm_record_result scan_prefix(struct cm_record_scan *s, size_t n)
{
    uint8_t *exact = malloc(n + (n == 0));
    enum cm_record_result r;

    memcpy(exact, raw.data, n);
    r = cm_record_scan(s, (struct cm_span){ exact, n }, MSG_MAX);
    free(exact);
    return r;
}

static void check_hello(struct cm_record_scan *s)
{
    struct cm_span body = cm_record_hello(s, cm_buf_span(&raw));

    ck_assert_uint_eq(body.len, msg.len - 4);
    ck_assert_mem_eq(body.data, msg.data + 4, body.len);
    cm_record_scan_free(s);
}

START_TEST(hello_is_found_at_every_record_size_byte_by_byte)
{
    for (size_t size = 1; size < 130; size++) {
        struct cm_record_scan s = { 0 };
        enum cm_record_result r = CM_RECORD_MORE;

        fresh();
        build_records(cm_buf_span(&msg), size, &raw);
        for (size_t n = 0; n < raw.len; n++)
            ck_assert_int_eq(scan_prefix(&s, n), CM_RECORD_MORE);
        r = cm_record_scan(&s, cm_buf_span(&raw), MSG_MAX);
        ck_assert_int_eq(r, CM_RECORD_HELLO);
        check_hello(&s);
    }
}
END_TEST

START_TEST(what_follows_the_hello_in_its_record_is_not_taken)
{
    struct cm_record_scan s = { 0 };

    for (size_t size = 3; size < 200; size += 50) {
        memset(&s, 0, sizeof s);
        fresh();
        put(&msg, "trailing", 8);
        build_records(cm_buf_span(&msg), size, &raw);
        msg.len -= 8;
        ck_assert_int_eq(cm_record_scan(&s, cm_buf_span(&raw), MSG_MAX), CM_RECORD_HELLO);
        check_hello(&s);
    }
}
END_TEST

START_TEST(anything_else_is_passed_on_at_its_first_byte)
{
    static const char *const other[] = { "G", "\x15\x03", "\x16\x02", "\x80", "\x14" };

    for (size_t i = 0; i < CM_ARRAY_LEN(other); i++) {
        struct cm_record_scan s = { 0 };

        ck_assert_int_eq(cm_record_scan(&s, cm_span_str(other[i]), MSG_MAX), CM_RECORD_PASS);
    }
}
END_TEST

START_TEST(bad_records_are_passed_on)
{
    static const uint8_t empty[] = { 22, 3, 1, 0, 0 };
    static const uint8_t huge[] = { 22, 3, 1, 0x40, 0x01 };
    static const uint8_t other_message[] = { 22, 3, 1, 0, 4, 2, 0, 0, 0 };
    struct cm_record_scan s = { 0 };

    ck_assert_int_eq(cm_record_scan(&s, (struct cm_span){ empty, 5 }, MSG_MAX), CM_RECORD_PASS);
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(cm_record_scan(&s, (struct cm_span){ huge, 5 }, MSG_MAX), CM_RECORD_PASS);
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(cm_record_scan(&s, (struct cm_span){ other_message, 9 }, MSG_MAX),
                     CM_RECORD_PASS);
}
END_TEST

/* An alert or application data between two pieces of the hello. */
START_TEST(other_record_amid_the_hello_is_passed_on)
{
    struct cm_record_scan s = { 0 };

    fresh();
    build_records((struct cm_span){ msg.data, 20 }, 20, &raw);
    put(&raw, "\x15\x03\x03\x00\x02\x01\x00", 7);
    ck_assert_int_eq(cm_record_scan(&s, cm_buf_span(&raw), MSG_MAX), CM_RECORD_PASS);
    cm_record_scan_free(&s);
}
END_TEST

START_TEST(hello_beyond_the_limit_is_told_from_its_header)
{
    static const uint8_t at_limit[] = { 22, 3, 1, 0, 4, 1, 0x00, 0x40, 0x00 };
    static const uint8_t beyond[] = { 22, 3, 1, 0, 4, 1, 0x00, 0x40, 0x01 };
    struct cm_record_scan s = { 0 };

    ck_assert_int_eq(cm_record_scan(&s, (struct cm_span){ at_limit, 9 }, MSG_MAX), CM_RECORD_MORE);
    cm_record_scan_free(&s);
    memset(&s, 0, sizeof s);
    ck_assert_int_eq(cm_record_scan(&s, (struct cm_span){ beyond, 9 }, MSG_MAX), CM_RECORD_LIMIT);
    cm_record_scan_free(&s);
    /* the same, its header in pieces */
    memset(&s, 0, sizeof s);
    cm_buf_reset(&raw);
    raw.max = 1 << 20;
    build_records((struct cm_span){ beyond + 5, 4 }, 1, &raw);
    ck_assert_int_eq(cm_record_scan(&s, cm_buf_span(&raw), MSG_MAX), CM_RECORD_LIMIT);
    cm_record_scan_free(&s);
}
END_TEST

START_TEST(reframed_hello_is_one_record_and_loses_nothing)
{
    for (size_t size = 1; size < 75; size += 7) {
        struct cm_record_scan s = { 0 };
        struct cm_buf out = CM_BUF_INIT(1 << 20);
        size_t hello;

        fresh();
        hello = msg.len;
        put(&msg, "trailing", 8); /* of the next message, in the same records */
        build_records(cm_buf_span(&msg), size, &raw);
        put(&raw, "\x14\x03\x03\x00\x01\x01", 6);
        ck_assert_int_eq(cm_record_scan(&s, cm_buf_span(&raw), MSG_MAX), CM_RECORD_HELLO);
        ck_assert_int_eq(cm_record_reframe(&s, cm_buf_span(&raw), &out, NULL), CM_OK);
        ck_assert_uint_eq(out.data[0], 22);
        ck_assert_uint_eq(((size_t)out.data[3] << 8) | out.data[4], hello);
        ck_assert_mem_eq(out.data + 5, msg.data, hello);
        /* what follows: the same payload, and the other record as it was */
        size_t got = hello;
        size_t at = 5 + hello;
        while (out.data[at] == 22) {
            size_t n = ((size_t)out.data[at + 3] << 8) | out.data[at + 4];

            ck_assert_uint_le(got + n, msg.len);
            ck_assert_mem_eq(out.data + at + 5, msg.data + got, n);
            got += n;
            at += 5 + n;
        }
        ck_assert_uint_eq(got, msg.len);
        ck_assert_uint_eq(out.len - at, 6);
        ck_assert_mem_eq(out.data + at, raw.data + raw.len - 6, 6);
        cm_record_scan_free(&s);
        cm_buf_free(&out);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        hello_is_found_at_every_record_size_byte_by_byte,
        what_follows_the_hello_in_its_record_is_not_taken,
        anything_else_is_passed_on_at_its_first_byte,
        bad_records_are_passed_on,
        other_record_amid_the_hello_is_passed_on,
        hello_beyond_the_limit_is_told_from_its_header,
        reframed_hello_is_one_record_and_loses_nothing,
    };

    return run_tests("record", tests, CM_ARRAY_LEN(tests));
}
