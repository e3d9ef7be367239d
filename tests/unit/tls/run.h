/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_TLS_RUN_H
#define CM_TESTS_UNIT_TLS_RUN_H

#include "base.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Run the tests of one file; the exit status of its main(). */
static inline int run_tests_with(const char *unit, const TTest *const *tests, size_t n, SFun setup,
                                 SFun teardown)
{
    Suite *suite = suite_create(unit);
    TCase *cases = tcase_create(unit);
    SRunner *runner;
    int failed;

    tcase_set_timeout(cases, 120);
    tcase_add_checked_fixture(cases, setup, teardown);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static inline int run_tests(const char *unit, const TTest *const *tests, size_t n)
{
    return run_tests_with(unit, tests, n, NULL, NULL);
}

#endif
