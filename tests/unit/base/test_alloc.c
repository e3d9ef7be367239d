/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

START_TEST(exactly_the_nth_allocation_fails)
{
    for (unsigned n = 1; n <= 4; n++) {
        cm_alloc_fail_at(n);
        for (unsigned i = 1; i <= 4; i++) {
            void *p = cm_calloc(1, 1);

            ck_assert_msg((p == NULL) == (i == n), "allocation %u of failing %u", i, n);
            free(p);
        }
        ck_assert_uint_eq(cm_alloc_fail_at(0), 4);
    }
}
END_TEST

START_TEST(each_kind_of_allocation_can_be_failed)
{
    char *p = cm_strdup("x");

    cm_alloc_fail_at(1);
    ck_assert_ptr_null(cm_realloc_array(p, 10, 10));
    ck_assert_int_eq(errno, ENOMEM);
    cm_alloc_fail_at(1);
    ck_assert_ptr_null(cm_calloc_aligned(64, 100));
    cm_alloc_fail_at(1);
    ck_assert_ptr_null(cm_strdup("y"));
    cm_alloc_fail_at(1);
    ck_assert_ptr_null(cm_strndup("y", 1));
    cm_alloc_fail_at(1);
    ck_assert_ptr_null(cm_asprintf("y"));
    ck_assert_uint_eq(cm_alloc_fail_at(0), 1);
    ck_assert_str_eq(p, "x");
    free(p);
}
END_TEST

START_TEST(aligned_memory_is_aligned_and_zero)
{
    static const uint8_t zero[300];
    void *p = cm_calloc_aligned(128, sizeof zero);

    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % 128, 0);
    ck_assert_mem_eq(p, zero, sizeof zero);
    free(p);
}
END_TEST

START_TEST(sizes_that_overflow_are_refused)
{
    ck_assert_ptr_null(cm_calloc(SIZE_MAX / 2, 3));
    ck_assert_ptr_null(cm_realloc_array(NULL, SIZE_MAX / 2, 3));
}
END_TEST

START_TEST(no_bytes_are_an_allocation_too)
{
    void *p = cm_calloc(0, 8);

    ck_assert_ptr_nonnull(p);
    p = cm_realloc_array(p, 0, 8);
    ck_assert_ptr_nonnull(p);
    free(p);
}
END_TEST

START_TEST(fresh_memory_is_zero)
{
    unsigned char *p = cm_calloc(16, 16);

    for (size_t i = 0; i < 256; i++)
        ck_assert_int_eq(p[i], 0);
    free(p);
}
END_TEST

START_TEST(copies_of_text_are_whole_and_bounded)
{
    char *whole = cm_strdup("certificate");
    char *part = cm_strndup("certificate", 4);
    char *more = cm_strndup("cert", 100);
    char *made = cm_asprintf("%s/%s.%d", "a", "b", 7);

    ck_assert_str_eq(whole, "certificate");
    ck_assert_str_eq(part, "cert");
    ck_assert_str_eq(more, "cert");
    ck_assert_str_eq(made, "a/b.7");
    ck_assert_ptr_null(cm_strdup(NULL));
    ck_assert_ptr_null(cm_strndup(NULL, 3));
    free(whole);
    free(part);
    free(more);
    free(made);
}
END_TEST

START_TEST(scope_owned_descriptor_is_closed_and_errno_kept)
{
    int seen;

    errno = 0;
    {
        CM_AUTO_CLOSE int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        CM_AUTO_FREE char *p = cm_strdup("freed by the sanitizer's count");

        ck_assert_int_ge(fd, 0);
        ck_assert_ptr_nonnull(p);
        seen = fd;
        errno = EXDEV;
    }
    ck_assert_int_eq(errno, EXDEV);
    ck_assert_int_eq(fcntl(seen, F_GETFD), -1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        exactly_the_nth_allocation_fails,     each_kind_of_allocation_can_be_failed,
        aligned_memory_is_aligned_and_zero,   sizes_that_overflow_are_refused,
        no_bytes_are_an_allocation_too,       fresh_memory_is_zero,
        copies_of_text_are_whole_and_bounded, scope_owned_descriptor_is_closed_and_errno_kept,
    };

    return run_tests("alloc", tests, CM_ARRAY_LEN(tests));
}
