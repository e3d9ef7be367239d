/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UTIL_RUN_H
#define CM_TESTS_UTIL_RUN_H

/* Running the tests of one file. What is given back is for its main(). */

#include <check.h>
#include <stdlib.h>

/* Seconds for each test; 0 is check's own, or what CK_DEFAULT_TIMEOUT says. */
#ifndef RUN_TIMEOUT_S
#define RUN_TIMEOUT_S 0
#endif

/* NULL and 0 are fine for all of them. */
struct run_how {
    double timeout_s;     /* 0: RUN_TIMEOUT_S */
    SFun setup, teardown; /* around each test, in its process */
    SFun begin, end;      /* once, before and after them all */
};

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int run_tests_how(const char *unit, const TTest *const *tests, size_t n,
                                struct run_how how)
{
    Suite *suite = suite_create(unit);
    TCase *cases = tcase_create(unit);

    if (how.timeout_s <= 0)
        how.timeout_s = RUN_TIMEOUT_S;
    if (how.timeout_s > 0)
        tcase_set_timeout(cases, how.timeout_s);
    if (how.begin != NULL || how.end != NULL)
        tcase_add_unchecked_fixture(cases, how.begin, how.end);
    if (how.setup != NULL || how.teardown != NULL)
        tcase_add_checked_fixture(cases, how.setup, how.teardown);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}

static inline int run_tests(const char *unit, const TTest *const *tests, size_t n)
{
    return run_tests_how(unit, tests, n, (struct run_how){ .timeout_s = 0 });
}

#endif
