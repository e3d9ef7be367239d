/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_KIT_CHECK_H
#define CM_TESTS_KIT_CHECK_H

/* As much of the unit test library check as the contract tests use, so that the very same sources
 * make a program that needs nothing but libcertmesh. Each test runs in a process of its own; a
 * failed assertion ends that process. See kit_run.c. */

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct kit_case TCase;
typedef struct kit_suite Suite;
typedef struct kit_suite SRunner;

struct kit_test {
    const char *name;
    void (*run)(void);
};

/* check hands each test a number; so does this, or the sources would differ. */
#define START_TEST(name)                                                                           \
    static void name##_run(void);                                                                  \
    static const struct kit_test name = { #name, name##_run };                                     \
    static void name##_run(void)
#define END_TEST

#define CK_ENV 0

TCase *tcase_create(const char *name);
#define tcase_add_test(tcase, test) kit_case_add(tcase, &(test))
void kit_case_add(TCase *c, const struct kit_test *test);
void tcase_add_checked_fixture(TCase *c, void (*setup)(void), void (*teardown)(void));
void tcase_set_timeout(TCase *c, double seconds);
Suite *suite_create(const char *name);
void suite_add_tcase(Suite *s, TCase *c);
SRunner *srunner_create(Suite *s);
void srunner_run_all(SRunner *r, int mode);
int srunner_ntests_failed(SRunner *r);
void srunner_free(SRunner *r);

_Noreturn void kit_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* What main() of ../contract_main.c is called here: hands all of its cases to the runner. */
int contract_main(void);
/* This storage is not what the test is about. */
_Noreturn void kit_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The message may be left out, and begins with a format. */
#define ck_assert_msg(cond, ...) ((cond) ? (void)0 : kit_fail(__FILE__, __LINE__, __VA_ARGS__))
#define ck_assert(cond)          ck_assert_msg(cond, "'%s' does not hold", #cond)

#define KIT_COMPARE(type, fmt, a, op, b)                                                           \
    do {                                                                                           \
        type kit_a = (type)(a);                                                                    \
        type kit_b = (type)(b);                                                                    \
        ck_assert_msg(kit_a op kit_b, "'%s %s %s' does not hold: %" fmt ", %" fmt, #a, #op, #b,    \
                      kit_a, kit_b);                                                               \
    } while (0)
#define ck_assert_int_eq(a, b)  KIT_COMPARE(intmax_t, PRIdMAX, a, ==, b)
#define ck_assert_int_ne(a, b)  KIT_COMPARE(intmax_t, PRIdMAX, a, !=, b)
#define ck_assert_int_lt(a, b)  KIT_COMPARE(intmax_t, PRIdMAX, a, <, b)
#define ck_assert_int_le(a, b)  KIT_COMPARE(intmax_t, PRIdMAX, a, <=, b)
#define ck_assert_int_gt(a, b)  KIT_COMPARE(intmax_t, PRIdMAX, a, >, b)
#define ck_assert_int_ge(a, b)  KIT_COMPARE(intmax_t, PRIdMAX, a, >=, b)
#define ck_assert_uint_eq(a, b) KIT_COMPARE(uintmax_t, PRIuMAX, a, ==, b)
#define ck_assert_uint_ne(a, b) KIT_COMPARE(uintmax_t, PRIuMAX, a, !=, b)
#define ck_assert_uint_lt(a, b) KIT_COMPARE(uintmax_t, PRIuMAX, a, <, b)
#define ck_assert_uint_le(a, b) KIT_COMPARE(uintmax_t, PRIuMAX, a, <=, b)
#define ck_assert_uint_gt(a, b) KIT_COMPARE(uintmax_t, PRIuMAX, a, >, b)
#define ck_assert_uint_ge(a, b) KIT_COMPARE(uintmax_t, PRIuMAX, a, >=, b)

#define KIT_TEXTS(a, op, b)                                                                        \
    do {                                                                                           \
        const char *kit_a = (a);                                                                   \
        const char *kit_b = (b);                                                                   \
        ck_assert_msg(kit_a != NULL && kit_b != NULL && strcmp(kit_a, kit_b) op 0,                 \
                      "'%s %s %s' does not hold: '%.200s', '%.200s'", #a, #op, #b,                 \
                      kit_a != NULL ? kit_a : "(null)", kit_b != NULL ? kit_b : "(null)");         \
    } while (0)
#define ck_assert_str_eq(a, b)   KIT_TEXTS(a, ==, b)
#define ck_assert_str_ne(a, b)   KIT_TEXTS(a, !=, b)
#define ck_assert_ptr_null(p)    ck_assert_msg((p) == NULL, "'%s' is not NULL", #p)
#define ck_assert_ptr_nonnull(p) ck_assert_msg((p) != NULL, "'%s' is NULL", #p)
#define ck_assert_mem_eq(a, b, n)                                                                  \
    ck_assert_msg(memcmp(a, b, n) == 0, "'%s' and '%s' have other bytes", #a, #b)

#endif
