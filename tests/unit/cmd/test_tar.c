/* SPDX-License-Identifier: Apache-2.0 */
#include "tar.h"

#include "cmd.h"
#include "run.h"

#include <string.h>

/* Archives that certmesh writes and reads, byte by byte; what other programs make of them is in
 * tests/cli/test_storage.sh. And the JSON that `storage check` takes for JSON. */

static struct cm_err err;

#define must(call) ck_assert_msg((call) == CM_OK, "%s: %s", #call, err.msg)

/* A key of @len bytes whose components have at most @part. */
static void make_name(char *out, size_t len, size_t part)
{
    for (size_t i = 0; i < len; i++)
        out[i] = i % (part + 1) == part && i + 1 < len ? '/' : (char)('a' + i % 26);
    out[len] = '\0';
}

static void there_and_back(const char *name, size_t size)
{
    static struct tar_entry e;
    struct tar_reader r;
    struct cm_buf got = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    uint8_t *value = calloc(1, size + 1);
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    ck_assert(f != NULL && value != NULL);
    memset(value, 'v', size);
    must(tar_write(f, name, (struct cm_span){ value, size }, 1800000000, &err));
    must(tar_write(f, "after", cm_span_str("x"), -5, &err));
    must(tar_write_end(f, &err));
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_uint_eq(len % TAR_BLOCK, 0);

    f = fmemopen(text, len, "r");
    ck_assert_ptr_nonnull(f);
    tar_reader_start(&r, f);
    must(tar_next(&r, &e, &err));
    ck_assert_str_eq(e.name, name);
    ck_assert_uint_eq(e.size, size);
    ck_assert_int_eq(e.mtime_s, 1800000000);
    must(tar_read(&r, &e, &got, &err));
    ck_assert_uint_eq(got.len, size);
    ck_assert_mem_eq(cm_buf_str(&got), value, size);
    must(tar_next(&r, &e, &err)); /* its bytes go unread */
    ck_assert_str_eq(e.name, "after");
    ck_assert_int_eq(e.mtime_s, 0);
    must(tar_next(&r, &e, &err));
    ck_assert_int_eq(e.kind, TAR_END);
    (void)fclose(f);
    free(text);
    free(value);
    cm_buf_free(&got);
}

START_TEST(names_of_all_lengths_come_back)
{
    char name[CM_STORAGE_KEY_MAX + 1];

    for (size_t len = 1; len <= CM_STORAGE_KEY_MAX; len++) {
        make_name(name, len, 255);
        there_and_back(name, len);
        make_name(name, len, 40);
        there_and_back(name, 0);
    }
}
END_TEST

START_TEST(values_of_all_lengths_around_blocks_come_back)
{
    for (size_t size = 0; size < 3 * TAR_BLOCK; size++)
        there_and_back("certificates/ca/a.test/a.test.key", size);
    there_and_back("most", CM_STORAGE_VALUE_MAX);
}
END_TEST

/* Whatever is done to an archive, reading it ends, within its bounds. */
START_TEST(damaged_archives_are_refused_or_read)
{
    static struct tar_entry e;
    static uint8_t copy[16 * TAR_BLOCK];
    char name[CM_STORAGE_KEY_MAX + 1];
    uint64_t state = 42;
    char *text = NULL;
    size_t len = 0;
    unsigned refused = 0;
    FILE *f = open_memstream(&text, &len);

    ck_assert_ptr_nonnull(f);
    make_name(name, 500, 255);
    must(tar_write(f, name, cm_span_str("long name"), 1, &err));
    must(tar_write(f, "short", cm_span_str("y"), 1, &err));
    must(tar_write_end(f, &err));
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_uint_le(len, sizeof copy);
    for (int round = 0; round < 20000; round++) {
        struct tar_reader r;
        cm_status rc = CM_OK;
        unsigned entries = 0;

        memcpy(copy, text, len);
        for (int k = 0; k <= round % 3; k++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            size_t at = (size_t)(state >> 33) % len;
            copy[at] = (uint8_t)(state >> 25);
            /* keep the sum of its block right, or nothing behind it would ever be reached */
            if (round % 2 == 0 && at % TAR_BLOCK < 148 && at / TAR_BLOCK * TAR_BLOCK + 156 < len) {
                uint8_t *block = copy + at / TAR_BLOCK * TAR_BLOCK;
                unsigned sum = 8 * ' ';

                for (unsigned i = 0; i < TAR_BLOCK; i++)
                    sum += i >= 148 && i < 156 ? 0 : block[i];
                (void)snprintf((char *)block + 148, 7, "%06o", sum);
                block[154] = '\0';
            }
        }
        f = fmemopen(copy, (size_t)(round % 5 == 0 ? len - (size_t)round % 700 : len), "r");
        ck_assert_ptr_nonnull(f);
        tar_reader_start(&r, f);
        do {
            struct cm_buf got = CM_BUF_INIT(4096);

            rc = tar_next(&r, &e, &err);
            if (rc == CM_OK && e.kind == TAR_FILE && tar_read(&r, &e, &got, &err) == CM_OK)
                ck_assert_uint_eq(got.len, e.size);
            ck_assert_uint_le(strnlen(e.name, TAR_NAME_MAX + 1), TAR_NAME_MAX);
            cm_buf_free(&got);
        } while (rc == CM_OK && e.kind != TAR_END && ++entries < 1000);
        ck_assert_uint_lt(entries, 1000);
        refused += rc != CM_OK;
        (void)fclose(f);
    }
    ck_assert_uint_gt(refused, 5000);
    free(text);
}
END_TEST

START_TEST(json_is_told_from_what_is_none)
{
    static const char *const good[] = {
        "{}",
        "[]",
        " [ ] \n",
        "1",
        "-0.5e+10",
        "\"\"",
        "null",
        "{\"a\":[1,{\"b\":null},\"\\u00e9\\n\"]}",
        "[[[[]]]]",
        "\"\xc3\xbc \xf0\x9f\x98\x80\"",
        "{\"a\":1,\"a\":2}",
        "true",
    };
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "[1 2]",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "nul",
        "{}{}",
        "[}",
        "{]",
        "'a'",
        "// x",
        "\"\xc3\"",
        "\"\xed\xa0\x80\"",
        "\"\xc0\x80\"",
        "\"\xf5\x80\x80\x80\"",
        ",",
        "[,]",
        "{,}",
        "NaN",
        "1}",
        "{\"a\":1]",
    };
    char deep[200];

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(cli_json_valid(cm_span_str(good[i])), "'%s' is JSON", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!cli_json_valid(cm_span_str(bad[i])), "'%s' is none", bad[i]);
    for (size_t i = 0; i < 130; i++)
        deep[i] = i < 65 ? '[' : ']';
    ck_assert(!cli_json_valid((struct cm_span){ (const uint8_t *)deep, 130 }));
    ck_assert(cli_json_valid((struct cm_span){ (const uint8_t *)deep + 1, 128 }));
    ck_assert(!cli_json_valid((struct cm_span){ (const uint8_t *)"[1]\0", 4 }));
    ck_assert(!cli_json_valid((struct cm_span){ NULL, 0 }));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_of_all_lengths_come_back,
        values_of_all_lengths_around_blocks_come_back,
        damaged_archives_are_refused_or_read,
        json_is_told_from_what_is_none,
    };

    return run_tests_how("tar", tests, sizeof tests / sizeof tests[0],
                         (struct run_how){ .timeout_s = 60 });
}
