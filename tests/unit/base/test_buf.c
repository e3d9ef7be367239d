/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <string.h>

static struct cm_err err;

/* The linker turns free() of the library into this (--wrap=free), so that a test can look at a
 * block in the moment it is given back. */
void __real_free(void *p);
void __wrap_free(void *p);

static const void *watched;
static enum { NOT_SEEN, SEEN_CLEAN, SEEN_SECRET } watched_state;

static void watch(const void *p)
{
    watched = p;
    watched_state = NOT_SEEN;
}

void __wrap_free(void *p)
{
    if (p != NULL && p == watched) {
        watched_state = memcmp(p, "hunter2", 7) == 0 ? SEEN_SECRET : SEEN_CLEAN;
        watched = NULL;
    }
    __real_free(p);
}

static void append_n(struct cm_buf *b, char c, size_t n, cm_status want)
{
    char block[512];

    ck_assert_uint_le(n, sizeof block);
    memset(block, c, sizeof block);
    ck_assert_int_eq(cm_buf_append(b, block, n, &err), want);
}

START_TEST(fresh_buffer_reads_as_empty_text)
{
    struct cm_buf b = CM_BUF_INIT(10);

    ck_assert_str_eq(cm_buf_str(&b), "");
    ck_assert_uint_eq(cm_buf_span(&b).len, 0);
    cm_buf_reset(&b);
    cm_buf_free(&b);
    cm_buf_free(NULL);
}
END_TEST

START_TEST(appending_stops_exactly_at_the_maximum)
{
    static const size_t maxima[] = { 1, 63, 64, 65, 100, 127, 128 };

    for (size_t i = 0; i < CM_ARRAY_LEN(maxima); i++) {
        struct cm_buf below = CM_BUF_INIT(maxima[i]);
        struct cm_buf at = CM_BUF_INIT(maxima[i]);
        struct cm_buf above = CM_BUF_INIT(maxima[i]);

        append_n(&below, 'x', maxima[i] - 1, CM_OK);
        append_n(&below, 'y', 1, CM_OK);
        append_n(&below, 'z', 1, CM_E_LIMIT);
        ck_assert_uint_eq(below.len, maxima[i]);
        append_n(&at, 'x', maxima[i], CM_OK);
        ck_assert_uint_eq(strlen(cm_buf_str(&at)), maxima[i]);
        append_n(&above, 'x', maxima[i] + 1, CM_E_LIMIT);
        ck_assert_uint_eq(above.len, 0);
        ck_assert_ptr_null(above.data);
        cm_buf_free(&below);
        cm_buf_free(&at);
        cm_buf_free(&above);
    }
}
END_TEST

START_TEST(refused_append_leaves_the_buffer_alone)
{
    struct cm_buf b = CM_BUF_INIT(8);

    ck_assert_int_eq(cm_buf_puts(&b, "keep", &err), CM_OK);
    ck_assert_int_eq(cm_buf_puts(&b, "too long", &err), CM_E_LIMIT);
    ck_assert_int_eq(cm_buf_printf(&b, &err, "%05d", 1), CM_E_LIMIT);
    ck_assert_str_eq(cm_buf_str(&b), "keep");
    ck_assert_uint_eq(b.len, 4);
    ck_assert_int_eq(cm_buf_printf(&b, &err, "%04d", 1), CM_OK);
    ck_assert_str_eq(cm_buf_str(&b), "keep0001");
    cm_buf_free(&b);
}
END_TEST

START_TEST(failed_allocation_leaves_the_buffer_alone)
{
    struct cm_buf b = CM_BUF_INIT(1000);

    append_n(&b, 'a', 60, CM_OK);
    cm_alloc_fail_at(1);
    append_n(&b, 'b', 100, CM_E_NOMEM);
    cm_alloc_fail_at(0);
    ck_assert_int_eq(err.status, CM_E_NOMEM);
    ck_assert_uint_eq(b.len, 60);
    ck_assert_int_eq(cm_buf_str(&b)[59], 'a');
    append_n(&b, 'b', 100, CM_OK);
    ck_assert_uint_eq(b.len, 160);
    cm_buf_free(&b);
}
END_TEST

START_TEST(nothing_can_be_appended_from_nowhere)
{
    struct cm_buf b = CM_BUF_INIT(100);

    ck_assert_int_eq(cm_buf_append(&b, NULL, 0, &err), CM_OK);
    ck_assert_int_eq(cm_buf_puts(&b, NULL, &err), CM_OK);
    ck_assert_int_eq(cm_buf_append(&b, NULL, 1, &err), CM_E_INVAL);
    ck_assert_uint_eq(b.len, 0);
    cm_buf_free(&b);
}
END_TEST

START_TEST(buffer_can_be_appended_to_itself)
{
    struct cm_buf b = CM_BUF_INIT(4096);

    ck_assert_int_eq(cm_buf_puts(&b, "0123456789", &err), CM_OK);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(cm_buf_append(&b, b.data, b.len, &err), CM_OK);
    ck_assert_uint_eq(b.len, 320);
    for (size_t i = 0; i < b.len; i++)
        ck_assert_int_eq(b.data[i], '0' + (int)(i % 10));
    cm_buf_free(&b);
}
END_TEST

START_TEST(reserve_makes_room_without_changing_the_length)
{
    struct cm_buf b = CM_BUF_INIT(200);

    ck_assert_int_eq(cm_buf_puts(&b, "abc", &err), CM_OK);
    ck_assert_int_eq(cm_buf_reserve(&b, 197, &err), CM_OK);
    ck_assert_uint_eq(b.len, 3);
    ck_assert_uint_ge(b.cap, 201);
    ck_assert_str_eq(cm_buf_str(&b), "abc");
    ck_assert_int_eq(cm_buf_reserve(&b, 198, &err), CM_E_LIMIT);
    ck_assert_int_eq(cm_buf_reserve(&b, SIZE_MAX, &err), CM_E_LIMIT);
    cm_buf_free(&b);
}
END_TEST

START_TEST(buffer_without_bound_is_refused_at_first_use)
{
    struct cm_buf b = CM_BUF_INIT(SIZE_MAX);

    ck_assert_int_eq(cm_buf_puts(&b, "x", &err), CM_E_LIMIT);
    cm_buf_free(&b);
}
END_TEST

START_TEST(binary_content_keeps_its_zero_bytes)
{
    struct cm_buf b = CM_BUF_INIT(10);

    ck_assert_int_eq(cm_buf_append(&b, "a\0b", 3, &err), CM_OK);
    ck_assert_uint_eq(cm_buf_span(&b).len, 3);
    ck_assert_mem_eq(cm_buf_span(&b).data, "a\0b", 4);
    cm_buf_free(&b);
}
END_TEST

START_TEST(reset_wipes_a_secret_and_keeps_the_memory)
{
    struct cm_buf b = CM_BUF_SECRET(100);
    uint8_t *data;

    ck_assert_int_eq(cm_buf_puts(&b, "hunter2", &err), CM_OK);
    data = b.data;
    cm_buf_reset(&b);
    ck_assert_ptr_eq(b.data, data);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_str_eq(cm_buf_str(&b), "");
    for (size_t i = 0; i < b.cap; i++)
        ck_assert_int_eq(b.data[i], 0);
    cm_buf_free(&b);
}
END_TEST

START_TEST(recycling_wipes_what_was_in_and_gives_back_what_is_too_much)
{
    struct cm_buf b = CM_BUF_SECRET(4096);

    ck_assert_int_eq(cm_buf_puts(&b, "hunter2", &err), CM_OK);
    const uint8_t *was = b.data;
    cm_buf_recycle(&b, 256);
    ck_assert_uint_eq(b.len, 0);
    ck_assert_ptr_eq(b.data, was);
    ck_assert(memcmp(was, "\0\0\0\0\0\0\0", 7) == 0);
    ck_assert_int_eq(cm_buf_puts(&b, "hunter2", &err), CM_OK);
    append_n(&b, 'x', 500, CM_OK);
    watch(b.data);
    cm_buf_recycle(&b, 256);
    ck_assert_int_eq(watched_state, SEEN_CLEAN);
    ck_assert_ptr_null(b.data);
    ck_assert_uint_eq(b.cap, 0);
    ck_assert_int_eq(cm_buf_puts(&b, "again", &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&b), "again");
    cm_buf_free(&b);
    cm_buf_recycle(&b, 0);
}
END_TEST

START_TEST(text_written_after_a_reset_ends_where_it_ends)
{
    struct cm_buf b = CM_BUF_INIT(100);

    ck_assert_int_eq(cm_buf_puts(&b, "a longer text", &err), CM_OK);
    cm_buf_reset(&b);
    ck_assert_int_eq(cm_buf_puts(&b, "short", &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&b), "short");
    cm_buf_free(&b);
}
END_TEST

START_TEST(secret_leaves_no_trace_where_it_was)
{
    struct cm_buf b = CM_BUF_SECRET(1000);

    ck_assert_int_eq(cm_buf_puts(&b, "hunter2", &err), CM_OK);
    watch(b.data);
    append_n(&b, 'x', 200, CM_OK); /* moves */
    ck_assert_int_eq(watched_state, SEEN_CLEAN);
    ck_assert_int_eq(memcmp(b.data, "hunter2", 7), 0);
    watch(b.data);
    cm_buf_free(&b);
    ck_assert_int_eq(watched_state, SEEN_CLEAN);
}
END_TEST

START_TEST(freed_buffer_may_be_used_again_and_stays_secret)
{
    struct cm_buf b = CM_BUF_SECRET(5);

    ck_assert_int_eq(cm_buf_puts(&b, "first", &err), CM_OK);
    cm_buf_free(&b);
    ck_assert_str_eq(cm_buf_str(&b), "");
    ck_assert_int_eq(cm_buf_puts(&b, "again!", &err), CM_E_LIMIT);
    ck_assert_int_eq(cm_buf_puts(&b, "again", &err), CM_OK);
    ck_assert(b.secret);
    cm_buf_free(&b);
}
END_TEST

START_TEST(wipe_clears_all_bytes)
{
    char secret[33];

    memset(secret, 's', sizeof secret);
    cm_wipe(secret, 32);
    for (size_t i = 0; i < 32; i++)
        ck_assert_int_eq(secret[i], 0);
    ck_assert_int_eq(secret[32], 's');
    cm_wipe(NULL, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        fresh_buffer_reads_as_empty_text,
        appending_stops_exactly_at_the_maximum,
        refused_append_leaves_the_buffer_alone,
        failed_allocation_leaves_the_buffer_alone,
        nothing_can_be_appended_from_nowhere,
        buffer_can_be_appended_to_itself,
        reserve_makes_room_without_changing_the_length,
        buffer_without_bound_is_refused_at_first_use,
        binary_content_keeps_its_zero_bytes,
        reset_wipes_a_secret_and_keeps_the_memory,
        recycling_wipes_what_was_in_and_gives_back_what_is_too_much,
        text_written_after_a_reset_ends_where_it_ends,
        secret_leaves_no_trace_where_it_was,
        freed_buffer_may_be_used_again_and_stays_secret,
        wipe_clears_all_bytes,
    };

    return run_tests("buf", tests, CM_ARRAY_LEN(tests));
}
