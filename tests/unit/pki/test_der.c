/* SPDX-License-Identifier: Apache-2.0 */
#include "der.h"
#include "run.h"

static struct cm_err err;

static bool next_ok(const char *bytes, size_t len, size_t *content_len)
{
    struct cm_span in = { (const uint8_t *)bytes, len };
    struct cm_span content;
    uint8_t tag = 0;

    if (!cm_der_next(&in, &tag, &content, NULL))
        return false;
    *content_len = content.len;
    return true;
}
#define NEXT_OK(lit, n) next_ok(lit, sizeof(lit) - 1, n)

START_TEST(lengths_are_definite_shortest_and_inside_the_input)
{
    static char big[4 + 300] = "\x04\x82\x01\x2c";
    size_t n = 0;

    ck_assert(NEXT_OK("\x04\x00", &n) && n == 0);
    ck_assert(NEXT_OK("\x04\x02xy", &n) && n == 2);
    ck_assert(next_ok(big, sizeof big, &n) && n == 300);
    ck_assert(!next_ok(big, sizeof big - 1, &n)); /* one byte short */
    ck_assert(!NEXT_OK("", &n));
    ck_assert(!NEXT_OK("\x04", &n));
    ck_assert(!NEXT_OK("\x04\x01", &n));
    ck_assert(!NEXT_OK("\x04\x80\x00\x00", &n));             /* indefinite */
    ck_assert(!NEXT_OK("\x04\x81\x02xy", &n));               /* long form for a short length */
    ck_assert(!NEXT_OK("\x04\x82\x00\x90", &n));             /* leading zero */
    ck_assert(!NEXT_OK("\x04\x84\xff\xff\xff\xff", &n));     /* far past the end */
    ck_assert(!NEXT_OK("\x04\x85\x01\x00\x00\x00\x00", &n)); /* more than 32 bits */
    ck_assert(!NEXT_OK("\x04\x88\x01", &n));
    ck_assert(!NEXT_OK("\x1f\x81\x00", &n)); /* tag of several bytes */
}
END_TEST

static bool uint_ok(const char *bytes, size_t len)
{
    struct cm_span in = { (const uint8_t *)bytes, len };
    struct cm_span v;

    return cm_der_take_uint(&in, &v);
}

START_TEST(integers_are_minimal_and_not_negative)
{
    struct cm_span in = { (const uint8_t *)"\x02\x02\x00\x80", 4 };
    struct cm_span v;
    unsigned small = 0;

    ck_assert(cm_der_take_uint(&in, &v));
    ck_assert_uint_eq(v.len, 1);
    ck_assert_uint_eq(v.data[0], 0x80);
    ck_assert(uint_ok("\x02\x01\x00", 3));
    ck_assert(!uint_ok("\x02\x00", 2));
    ck_assert(!uint_ok("\x02\x01\x80", 3));
    ck_assert(!uint_ok("\x02\x02\x00\x7f", 4));
    in = (struct cm_span){ (const uint8_t *)"\x02\x03\x00\xff\xff", 5 };
    ck_assert(cm_der_take_small(&in, &small));
    ck_assert_uint_eq(small, 0xffff);
    in = (struct cm_span){ (const uint8_t *)"\x02\x03\x01\x00\x00", 5 };
    ck_assert(!cm_der_take_small(&in, &small));
}
END_TEST

START_TEST(times_are_right_to_the_last_second_there_is)
{
    static const struct {
        uint8_t tag;
        const char *text;
        int64_t t;
    } cases[] = {
        { CM_DER_UTC_TIME, "700101000000Z", 0 },
        { CM_DER_UTC_TIME, "500101000000Z", INT64_C(-631152000) }, /* 1950 */
        { CM_DER_UTC_TIME, "491231235959Z", INT64_C(2524607999) }, /* 2049 */
        { CM_DER_UTC_TIME, "380119031407Z", INT64_C(2147483647) },
        { CM_DER_UTC_TIME, "380119031408Z", INT64_C(2147483648) },
        { CM_DER_UTC_TIME, "000229120000Z", INT64_C(951825600) },
        { CM_DER_GENERALIZED_TIME, "20500101000000Z", INT64_C(2524608000) },
        { CM_DER_GENERALIZED_TIME, "19491231235959Z", INT64_C(-631152001) },
        { CM_DER_GENERALIZED_TIME, "21060207062815Z", INT64_C(4294967295) },
        { CM_DER_GENERALIZED_TIME, "99991231235959Z", INT64_C(253402300799) },
        { CM_DER_GENERALIZED_TIME, "00000101000000Z", INT64_C(-62167219200) },
        { CM_DER_UTC_TIME, "240229000000Z", INT64_C(1709164800) },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_buf b = CM_BUF_INIT(64);
        struct cm_derw w = CM_DERW_INIT(&b, &err);
        int64_t t = 1;

        cm_derw_put(&w, cases[i].tag, cm_span_str(cases[i].text));
        struct cm_span in = cm_buf_span(&b);
        ck_assert_msg(cm_der_take_time(&in, &t), "%s", cases[i].text);
        ck_assert_msg(t == cases[i].t, "%s gave %lld", cases[i].text, (long long)t);

        /* And written back as it came. */
        struct cm_buf again = CM_BUF_INIT(64);
        struct cm_derw w2 = CM_DERW_INIT(&again, &err);
        cm_derw_time(&w2, t);
        ck_assert_msg(cm_span_eq(cm_buf_span(&again), cm_buf_span(&b)), "%s", cases[i].text);
        cm_buf_free(&again);
        cm_buf_free(&b);
    }
}
END_TEST

START_TEST(impossible_times_are_refused)
{
    static const char *const cases[] = {
        "20231301000000Z", "20230001000000Z", "20230230000000Z", "20230229000000Z",
        "21000229000000Z", "20230100000000Z", "20230132000000Z", "20230101240000Z",
        "20230101006000Z", "20230101000060Z", "2023010100000Z",  "202301010000000",
        "20230101000000z", "2023010100+000Z", "202301010000.0Z", "20230101000000+0000",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_buf b = CM_BUF_INIT(64);
        struct cm_derw w = CM_DERW_INIT(&b, &err);
        int64_t t = 0;

        cm_derw_put(&w, CM_DER_GENERALIZED_TIME, cm_span_str(cases[i]));
        struct cm_span in = cm_buf_span(&b);
        ck_assert_msg(!cm_der_take_time(&in, &t), "%s", cases[i]);
        cm_buf_free(&b);
    }
}
END_TEST

START_TEST(every_day_survives_writing_and_reading)
{
    struct cm_buf b = CM_BUF_INIT(64);

    for (int64_t day = -719528; day < 2932897; day += 13) { /* years 0 to 9999 */
        struct cm_derw w = CM_DERW_INIT(&b, &err);
        int64_t t = 0;

        cm_buf_reset(&b);
        cm_derw_time(&w, day * 86400 + 86399);
        struct cm_span in = cm_buf_span(&b);
        if (!cm_der_take_time(&in, &t) || t != day * 86400 + 86399) /* an assertion takes longer */
            ck_abort_msg("day %lld", (long long)day);
    }
    cm_buf_free(&b);
}
END_TEST

START_TEST(dates_out_of_range_are_cut_to_the_nearest)
{
    struct cm_buf b = CM_BUF_INIT(64);
    struct cm_derw w = CM_DERW_INIT(&b, &err);
    struct cm_span in;
    int64_t t = 0;

    cm_derw_time(&w, INT64_MAX);
    cm_derw_time(&w, INT64_MIN);
    in = cm_buf_span(&b);
    ck_assert(cm_der_take_time(&in, &t));
    ck_assert_int_eq(t, INT64_C(253402300799));
    ck_assert(cm_der_take_time(&in, &t));
    ck_assert_int_eq(t, INT64_C(-62167219200));
    cm_buf_free(&b);
}
END_TEST

START_TEST(written_lengths_grow_with_the_contents)
{
    static const size_t sizes[] = { 0, 1, 127, 128, 255, 256, 257, 65535, 65536, 70000 };
    static uint8_t fill[70000];

    for (size_t i = 0; i < CM_ARRAY_LEN(sizes); i++) {
        struct cm_buf b = CM_BUF_INIT(100000);
        struct cm_derw w = CM_DERW_INIT(&b, &err);
        struct cm_span in, outer, inner;

        memset(fill, (int)i + 1, sizeof fill);
        size_t mark = cm_derw_open(&w, CM_DER_SEQUENCE);
        cm_derw_put(&w, CM_DER_OCTET_STRING, (struct cm_span){ fill, sizes[i] });
        cm_derw_close(&w, mark);
        ck_assert_int_eq(w.rc, CM_OK);
        in = cm_buf_span(&b);
        ck_assert(cm_der_take(&in, CM_DER_SEQUENCE, &outer) && in.len == 0);
        ck_assert(cm_der_take(&outer, CM_DER_OCTET_STRING, &inner) && outer.len == 0);
        ck_assert(cm_span_eq(inner, (struct cm_span){ fill, sizes[i] }));
        cm_buf_free(&b);
    }
}
END_TEST

START_TEST(first_failure_of_a_writer_sticks)
{
    struct cm_buf b = CM_BUF_INIT(4);
    struct cm_derw w = CM_DERW_INIT(&b, &err);

    size_t mark = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OCTET_STRING, cm_span_str("too long"));
    cm_derw_byte(&w, 0);
    cm_derw_close(&w, mark);
    ck_assert_int_eq(w.rc, CM_E_LIMIT);
    ck_assert_uint_le(b.len, 4);
    cm_buf_free(&b);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        lengths_are_definite_shortest_and_inside_the_input,
        integers_are_minimal_and_not_negative,
        times_are_right_to_the_last_second_there_is,
        impossible_times_are_refused,
        every_day_survives_writing_and_reading,
        dates_out_of_range_are_cut_to_the_nearest,
        written_lengths_grow_with_the_contents,
        first_failure_of_a_writer_sticks,
    };

    return run_tests("der", tests, CM_ARRAY_LEN(tests));
}
