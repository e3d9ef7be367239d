/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <errno.h>
#include <string.h>

START_TEST(every_status_has_a_name_and_a_text)
{
#define STATUS_CHECK(name, value, text)                                                            \
    ck_assert_int_eq(CM_##name, value);                                                            \
    ck_assert_str_eq(cm_status_name(CM_##name), "CM_" #name);                                      \
    ck_assert_str_eq(cm_status_text(CM_##name), text);
    CM_STATUS_MAP(STATUS_CHECK)
#undef STATUS_CHECK
}
END_TEST

START_TEST(unknown_status_still_has_a_name_and_a_text)
{
    ck_assert_ptr_nonnull(cm_status_name((cm_status)1000));
    ck_assert_ptr_nonnull(cm_status_text((cm_status)1000));
}
END_TEST

/* What a storage could not do says nothing of what it keeps. */
START_TEST(damage_is_the_objects_not_the_storages)
{
    static const cm_status damage[] = { CM_E_PARSE, CM_E_KEY, CM_E_CERT, CM_E_LIMIT };
    size_t n = 0;

#define DAMAGE_COUNT(name, value, text) n += cm_status_is_damage(CM_##name);
    CM_STATUS_MAP(DAMAGE_COUNT)
#undef DAMAGE_COUNT
    ck_assert_uint_eq(n, CM_ARRAY_LEN(damage));
    for (size_t i = 0; i < CM_ARRAY_LEN(damage); i++)
        ck_assert(cm_status_is_damage(damage[i]));
}
END_TEST

START_TEST(fail_fills_the_error_from_scratch)
{
    struct cm_err err = CM_ERR_INIT;

    err.http_status = 503;
    err.no_retry = true;
    ck_assert_int_eq(cm_fail(&err, CM_E_PARSE, "line %d of %s", 7, "a.json"), CM_E_PARSE);
    ck_assert_int_eq(err.status, CM_E_PARSE);
    ck_assert_int_eq(err.http_status, 0);
    ck_assert(!err.no_retry);
    ck_assert_str_eq(err.msg, "line 7 of a.json");
}
END_TEST

START_TEST(every_error_function_takes_no_error_at_all)
{
    errno = ENOENT;
    ck_assert_int_eq(cm_fail(NULL, CM_E_BUSY, "x"), CM_E_BUSY);
    ck_assert_int_eq(cm_fail_errno(NULL, "x"), CM_E_NOTFOUND);
    ck_assert_int_eq(cm_wrap(NULL, CM_E_IO, "x"), CM_E_IO);
    ck_assert_int_eq(cm_fail_nomem(NULL), CM_E_NOMEM);
}
END_TEST

START_TEST(reporting_an_error_keeps_errno)
{
    struct cm_err err = CM_ERR_INIT;

    errno = EXDEV;
    cm_fail(&err, CM_E_IO, "x");
    ck_assert_int_eq(errno, EXDEV);
    cm_fail_errno(&err, "x");
    ck_assert_int_eq(errno, EXDEV);
    cm_wrap(&err, CM_E_IO, "x");
    ck_assert_int_eq(errno, EXDEV);
}
END_TEST

START_TEST(errno_decides_the_status_and_is_told)
{
    static const struct {
        int sys;
        cm_status rc;
    } cases[] = { { ENOENT, CM_E_NOTFOUND }, { EACCES, CM_E_PERM },  { EPERM, CM_E_PERM },
                  { EROFS, CM_E_PERM },      { ENOMEM, CM_E_NOMEM }, { ENOSPC, CM_E_IO },
                  { EIO, CM_E_IO } };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_err err = CM_ERR_INIT;

        errno = cases[i].sys;
        ck_assert_int_eq(cm_fail_errno(&err, "open '%s'", "k"), cases[i].rc);
        ck_assert_int_eq(err.sys_errno, cases[i].sys);
        ck_assert_ptr_nonnull(strstr(err.msg, "open 'k': "));
        ck_assert_ptr_nonnull(strstr(err.msg, strerror(cases[i].sys)));
    }
}
END_TEST

START_TEST(wrap_puts_context_before_the_message_and_keeps_the_rest)
{
    struct cm_err err = CM_ERR_INIT;

    cm_fail(&err, CM_E_ACME, "refused");
    err.http_status = 403;
    ck_assert_int_eq(cm_wrap(&err, CM_E_ACME, "order for %s", "a.example"), CM_E_ACME);
    ck_assert_str_eq(err.msg, "order for a.example: refused");
    ck_assert_int_eq(err.http_status, 403);
}
END_TEST

START_TEST(wrap_of_an_empty_error_tells_the_status)
{
    struct cm_err err = CM_ERR_INIT;

    cm_wrap(&err, CM_E_BUSY, "lock 'x'");
    ck_assert_str_eq(err.msg, "lock 'x': busy");
    ck_assert_int_eq(err.status, CM_E_BUSY);
}
END_TEST

START_TEST(message_may_be_built_from_the_message_it_replaces)
{
    struct cm_err err = CM_ERR_INIT;

    cm_fail(&err, CM_E_IO, "disk");
    cm_fail(&err, CM_E_STATE, "again: %s", err.msg);
    ck_assert_str_eq(err.msg, "again: disk");
}
END_TEST

START_TEST(overlong_message_is_cut_not_overrun)
{
    struct cm_err err = CM_ERR_INIT;
    char big[2000];

    memset(big, 'm', sizeof big);
    big[sizeof big - 1] = '\0';
    cm_fail(&err, CM_E_IO, "%s", big);
    ck_assert_uint_eq(strlen(err.msg), sizeof err.msg - 1);
    cm_wrap(&err, CM_E_IO, "%s", "context");
    ck_assert_uint_eq(strlen(err.msg), sizeof err.msg - 1);
    ck_assert_int_eq(strncmp(err.msg, "context: mmm", 12), 0);
    errno = EIO;
    cm_fail_errno(&err, "%s", big);
    ck_assert_uint_eq(strlen(err.msg), sizeof err.msg - 1);
}
END_TEST

START_TEST(what_only_a_person_can_change_is_not_retried)
{
    struct cm_err err = CM_ERR_INIT;

    ck_assert(cm_status_is_retryable(CM_E_NET, NULL));
    ck_assert(cm_status_is_retryable(CM_E_ACME, &err));
    ck_assert(cm_status_is_retryable(CM_E_LIMIT, &err));
    ck_assert(cm_status_is_retryable(CM_E_RATELIMITED, &err));
    ck_assert(!cm_status_is_retryable(CM_OK, &err));
    ck_assert(!cm_status_is_retryable(CM_E_INVAL, &err));
    ck_assert(!cm_status_is_retryable(CM_E_POLICY, &err));
    ck_assert(!cm_status_is_retryable(CM_E_CANCELED, &err));
    ck_assert(!cm_status_is_retryable((cm_status)1000, &err));
    err.no_retry = true;
    ck_assert(!cm_status_is_retryable(CM_E_ACME, &err));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_status_has_a_name_and_a_text,
        unknown_status_still_has_a_name_and_a_text,
        damage_is_the_objects_not_the_storages,
        fail_fills_the_error_from_scratch,
        every_error_function_takes_no_error_at_all,
        reporting_an_error_keeps_errno,
        errno_decides_the_status_and_is_told,
        wrap_puts_context_before_the_message_and_keeps_the_rest,
        wrap_of_an_empty_error_tells_the_status,
        message_may_be_built_from_the_message_it_replaces,
        overlong_message_is_cut_not_overrun,
        what_only_a_person_can_change_is_not_retried,
    };

    return run_tests("err", tests, CM_ARRAY_LEN(tests));
}
