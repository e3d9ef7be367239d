/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct cm_err err;
static char path[64];

/* A file of that text, readable for those that @mode says. */
static void make(const char *text, mode_t mode)
{
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/cm-file-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    (void)close(fd);
}

START_TEST(a_file_is_appended_up_to_what_there_is_room_for)
{
    struct cm_buf out = CM_BUF_INIT(9);

    make("12345", 0644);
    ck_assert_int_eq(cm_buf_puts(&out, "have", &err), CM_OK);
    ck_assert_int_eq(cm_read_file(path, &out, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&out), "have12345");
    ck_assert_int_eq(cm_read_file(path, &out, &err), CM_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.msg, path));
    (void)unlink(path);
    ck_assert_int_eq(cm_read_file(path, &out, &err), CM_E_NOTFOUND);
    ck_assert_int_eq(cm_read_file(NULL, &out, &err), CM_E_INVAL);
    cm_buf_free(&out);
}
END_TEST

START_TEST(what_is_no_file_is_refused_and_not_waited_for)
{
    struct cm_buf out = CM_BUF_INIT(100);

    make("", 0600);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(cm_read_file(path, &out, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "regular"));
    ck_assert_int_eq(cm_read_private_file(path, &out, &err), CM_E_INVAL);
    (void)unlink(path);
    ck_assert_int_eq(cm_read_file("/tmp", &out, &err), CM_E_INVAL);
    cm_buf_free(&out);
}
END_TEST

START_TEST(what_is_to_be_private_is_looked_at_first)
{
    static const struct {
        mode_t mode;
        cm_status want;
    } modes[] = { { 0600, CM_OK },     { 0640, CM_OK },     { 0400, CM_OK },
                  { 0644, CM_E_PERM }, { 0604, CM_E_PERM }, { 0660, CM_E_PERM },
                  { 0602, CM_E_PERM }, { 0601, CM_E_PERM } };

    for (size_t i = 0; i < CM_ARRAY_LEN(modes); i++) {
        struct cm_buf out = CM_BUF_SECRET(100);

        make("secret", modes[i].mode);
        ck_assert_msg(cm_read_private_file(path, &out, &err) == modes[i].want, "%04o: %s",
                      (unsigned)modes[i].mode, err.msg);
        ck_assert_str_eq(cm_buf_str(&out), modes[i].want == CM_OK ? "secret" : "");
        (void)unlink(path);
        cm_buf_free(&out);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_file_is_appended_up_to_what_there_is_room_for,
        what_is_no_file_is_refused_and_not_waited_for,
        what_is_to_be_private_is_looked_at_first,
    };

    return run_tests("file", tests, CM_ARRAY_LEN(tests));
}
