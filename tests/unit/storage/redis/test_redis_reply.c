/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "redis/link.h"

#include <string.h>

/* What the sieve lets through to hiredis. */

static cm_status look(const void *text, size_t len, size_t *ret_len)
{
    struct redis_sieve s = { 0 };

    return redis_sieve_look(&s, (struct cm_span){ text, len }, ret_len, NULL);
}

static void refused(const char *text, cm_status rc)
{
    size_t len = 0;

    ck_assert_msg(look(text, strlen(text), &len) == rc, "%s", text);
}

static const char whole[] =
    "*7\r\n+OK\r\n-ERR no\r\n:-9223372036854775808\r\n$5\r\nx\r\nyz\r\n$-1\r\n"
    "*-1\r\n*2\r\n*0\r\n*1\r\n$0\r\n\r\n";

START_TEST(test_whole)
{
    redisReply *r = NULL;
    size_t len = 0;

    ck_assert_int_eq(look(whole, sizeof whole - 1, &len), CM_OK);
    ck_assert_uint_eq(len, sizeof whole - 1);
    ck_assert_int_eq(redis_reply_read((struct cm_span){ (const uint8_t *)whole, len }, &r, NULL),
                     CM_OK);
    ck_assert_int_eq(r->type, REDIS_REPLY_ARRAY);
    ck_assert_uint_eq(r->elements, 7);
    ck_assert_str_eq(r->element[0]->str, "OK");
    ck_assert(redis_is_error(r->element[1], "ERR"));
    ck_assert(!redis_is_error(r->element[1], "ER"));
    ck_assert(r->element[2]->integer == INT64_MIN);
    ck_assert_uint_eq(r->element[3]->len, 5);
    ck_assert_mem_eq(r->element[3]->str, "x\r\nyz", 5);
    ck_assert_int_eq(r->element[4]->type, REDIS_REPLY_NIL);
    ck_assert_int_eq(r->element[5]->type, REDIS_REPLY_NIL);
    ck_assert_uint_eq(r->element[6]->elements, 2);
    freeReplyObject(r);
}
END_TEST

/* Cut at each byte: more is wanted, whether it comes at once or byte by byte; and what follows is
 * left alone. */
START_TEST(test_cut_at_each_byte)
{
    struct redis_sieve slow = { 0 };
    char more[sizeof whole + 8];
    size_t len = 0;

    for (size_t n = 0; n < sizeof whole - 1; n++) {
        ck_assert_int_eq(look(whole, n, &len), CM_E_AGAIN);
        ck_assert_int_eq(
            redis_sieve_look(&slow, (struct cm_span){ (const uint8_t *)whole, n }, &len, NULL),
            CM_E_AGAIN);
    }
    memcpy(more, whole, sizeof whole - 1);
    memcpy(more + sizeof whole - 1, "garbage", 8);
    ck_assert_int_eq(
        redis_sieve_look(&slow, (struct cm_span){ (const uint8_t *)more, sizeof more }, &len, NULL),
        CM_OK);
    ck_assert_uint_eq(len, sizeof whole - 1);
}
END_TEST

START_TEST(test_refused_at_once)
{
    static const char *const bad[] = {
        "HTTP/1.1 400 Bad\r\n",
        "%1\r\n",
        "_\r\n",
        "\r\n",
        ":\r\n",
        ":+1\r\n",
        ":01\r\n",
        ":-0\r\n",
        ":9223372036854775808\r\n",
        ":-9223372036854775809\r\n",
        ":1x\r\n",
        "$x\r\n",
        "$-2\r\n",
        "*-2\r\n",
        "$3\r\nabcde\r\n",
        "*1\r\n~0\r\n",
        "$18446744073709551619\r\nabc\r\n",
        "*4294967297\r\n:1\r\nx",
        "\x15\x03\x03",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        size_t len;
        cm_status rc = look(bad[i], strlen(bad[i]), &len);

        ck_assert_msg(rc == CM_E_PARSE || rc == CM_E_LIMIT, "%s: %d", bad[i], rc);
    }
}
END_TEST

/* What is announced is judged before it comes: nothing is allocated or waited for. */
START_TEST(test_announced_too_much)
{
    refused("$8388609\r\n", CM_E_LIMIT);
    refused("$9223372036854775807\r\n", CM_E_LIMIT);
    refused("*1048577\r\n", CM_E_LIMIT);
    refused("*9223372036854775807\r\n", CM_E_LIMIT);
    refused("*2305843009213693952\r\n", CM_E_LIMIT);
    refused("*2\r\n*1000000\r\n:1\r\n", CM_E_AGAIN);
    refused("*2\r\n*524288\r\n*524288\r\n", CM_E_LIMIT);
    refused("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", CM_OK);
    refused("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", CM_E_LIMIT);
}
END_TEST

START_TEST(test_endless)
{
    size_t max = REDIS_LINE_MAX + 8;
    char *line = malloc(max);
    size_t len;

    ck_assert_ptr_nonnull(line);
    memset(line, 'x', max);
    line[0] = '-';
    ck_assert_int_eq(look(line, REDIS_LINE_MAX - 8, &len), CM_E_AGAIN);
    ck_assert_int_eq(look(line, max, &len), CM_E_PARSE);
    line[0] = ':';
    ck_assert_int_eq(look(line, max, &len), CM_E_PARSE);
    memset(line, '\r', max);
    line[0] = '+';
    ck_assert_int_eq(look(line, max, &len), CM_E_PARSE);
    free(line);
}
END_TEST

/* All replies together are bounded, too: four strings of 8 MiB are more than 32. */
START_TEST(test_too_much_in_all)
{
    size_t one = REDIS_BULK_MAX + 2;
    size_t all = 4 + 5 * (one + 10);
    char *text = malloc(all);
    size_t at = 4, len;

    ck_assert_ptr_nonnull(text);
    memcpy(text, "*5\r\n", 4);
    for (int i = 0; i < 5; i++) {
        memcpy(text + at, "$8388608\r\n", 10);
        memset(text + at + 10, 'x', REDIS_BULK_MAX);
        memcpy(text + at + 10 + REDIS_BULK_MAX, "\r\n", 2);
        at += 10 + one;
    }
    ck_assert_int_eq(look(text, all, &len), CM_E_LIMIT);
    free(text);
}
END_TEST

/* Cheap noise: whatever comes, the answer is one of four, and what is let through, hiredis takes.
 */
START_TEST(test_noise)
{
    static const char alphabet[] = "*$:+-0123456789\r\n\r\n\r\nx";
    uint64_t seed = UINT64_C(0x9E3779B97F4A7C15);
    unsigned passed = 0;

    for (unsigned round = 0; round < 200000; round++) {
        char text[24];
        size_t len = 0;
        cm_status rc;

        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[i] = alphabet[(seed >> 33) % (sizeof alphabet - 1)];
        }
        rc = look(text, sizeof text, &len);
        ck_assert(rc == CM_OK || rc == CM_E_AGAIN || rc == CM_E_PARSE || rc == CM_E_LIMIT);
        if (rc == CM_OK) {
            redisReply *r = NULL;

            ck_assert_uint_le(len, sizeof text);
            ck_assert_int_eq(
                redis_reply_read((struct cm_span){ (const uint8_t *)text, len }, &r, NULL), CM_OK);
            freeReplyObject(r);
            passed++;
        }
    }
    ck_assert_uint_gt(passed, 1000);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_whole,   test_cut_at_each_byte, test_refused_at_once, test_announced_too_much,
        test_endless, test_too_much_in_all,  test_noise,
    };

    return run_tests("redis reply", tests, sizeof tests / sizeof tests[0]);
}
