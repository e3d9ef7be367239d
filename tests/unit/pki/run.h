/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_PKI_RUN_H
#define CM_TESTS_UNIT_PKI_RUN_H

#include "pki.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* Run the tests of one file; the exit status of its main(). @setup and @teardown (NULL ok) run
 * once, before and after them all. */
static inline int run_tests_with(const char *unit, const TTest *const *tests, size_t n, SFun setup,
                                 SFun teardown)
{
    Suite *suite = suite_create(unit);
    TCase *cases = tcase_create(unit);
    SRunner *runner;
    int failed;

    tcase_set_timeout(cases, 120); /* RSA keys are made here, under sanitizers */
    if (setup != NULL)
        tcase_add_unchecked_fixture(cases, setup, teardown);
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

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == CM_OK, "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);        \
    } while (0)

#define ck_refused(call, status, part)                                                             \
    do {                                                                                           \
        err.msg[0] = '\0';                                                                         \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (status), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);     \
        ck_assert_msg(strstr(err.msg, (part)) != NULL, "%s: message '%s'", #call, err.msg);        \
    } while (0)

#endif
