/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Programs are run as they are told and come to an end whatever they do. Limits are generous: what
 * ends early is not waited for. */

static struct cm_err err;
static char dir[64];
static char script[96];
static struct cm_program_end end;

static void set_up(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/cm-program-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(script, sizeof script, "%s/it's a $(script)", dir);
    end = (struct cm_program_end)CM_PROGRAM_END_INIT;
    err = (struct cm_err)CM_ERR_INIT;
}

static void tear_down(void)
{
    char command[128];

    cm_buf_free(&end.output);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static void make(const char *text, mode_t mode)
{
    FILE *f = fopen(script, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(script, mode), 0);
}

static const char *const no_env[] = { "PATH=/usr/bin:/bin", NULL };

static cm_status run_with(const struct cm_op *op, const char *const *argv, int64_t timeout_ms)
{
    static const char *const secrets[] = { "hunter2", NULL };
    const struct cm_program what = { .path = script,
                                     .argv = argv,
                                     .envp = no_env,
                                     .secrets = secrets,
                                     .output_max = 4096,
                                     .timeout_ns = timeout_ms * CM_NS_PER_MS };

    return cm_program_run(op, &what, &end, &err);
}

static cm_status run(int64_t timeout_ms)
{
    const char *const argv[] = { script, "one", "$(touch two) `x` ; \n\"'", "", NULL };

    return run_with(NULL, argv, timeout_ms);
}

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_says(text) ck_assert_msg(strstr(err.msg, text) != NULL, "'%s'", err.msg)

START_TEST(arguments_arrive_as_they_are_and_nothing_else_does)
{
    int open_fd = open("/dev/null", O_RDONLY); /* not close-on-exec: somebody else's */

    ck_assert_int_ge(open_fd, 3);
    ck_assert_int_eq(setenv("CM_TEST_LEAK", "1", 1), 0);
    make("#!/bin/sh\n"
         "echo \"$#[$1][$2][$3]\"; cat; echo \"${CM_TEST_LEAK-clean}\" >&2\n"
         "for f in /proc/self/fd/*; do [ ! -e \"$f\" ] || n=$((n + 1)); done; echo \"fds $n\"\n"
         "exit 7\n",
         0755);
    ck_status(run(30000), CM_OK);
    ck_assert_int_eq(end.exit_status, 7);
    ck_assert_int_eq(end.signal, 0);
    ck_assert_msg(strstr(cm_buf_str(&end.output), "3[one][$(touch two) `x` ; \n\"'][]\nclean\n") !=
                      NULL,
                  "%s", cm_buf_str(&end.output));
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
    /* 0, 1, 2, and what the shell has open to read the folder or its script. */
    ck_assert_msg(strstr(cm_buf_str(&end.output), "fds 3\n") != NULL ||
                      strstr(cm_buf_str(&end.output), "fds 4\n") != NULL,
                  "%s", cm_buf_str(&end.output));
#endif
#endif
    (void)close(open_fd);
}
END_TEST

START_TEST(what_hangs_is_ended_with_all_its_children)
{
    char path[160];
    FILE *f;
    int pids[3] = { 0, 0, 0 };
    int gone = 0;

    (void)snprintf(path, sizeof path, "%s/pids", dir);
    make("#!/bin/sh\n"
         "trap '' TERM\n"
         "d=$(dirname \"$0\")\n"
         "(trap '' TERM; sleep 300) & a=$!\n"
         "sleep 300 & b=$!\n"
         "echo $$ $a $b >\"$d/pids\"\n"
         "echo 'I shall not go: hunter2'\n"
         "while :; do sleep 1; done\n",
         0755);
    ck_status(run(4000), CM_E_TIMEOUT);
    ck_says("did not end in time");
    ck_says("I shall not go: *******");
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%d %d %d", &pids[0], &pids[1], &pids[2]), 3);
    (void)fclose(f);
    /* Orphans are zombies until init reaps them. */
    for (int i = 0; i < 500 && gone < 3; i++) {
        gone = 0;
        for (int k = 0; k < 3; k++) {
            char line[256] = "";

            (void)snprintf(path, sizeof path, "/proc/%d/stat", pids[k]);
            f = fopen(path, "r");
            if (f != NULL) {
                (void)!fgets(line, sizeof line, f);
                (void)fclose(f);
            }
            gone += f == NULL || strstr(line, ") Z ") != NULL;
        }
        (void)usleep(20000);
    }
    ck_assert_int_eq(gone, 3);
}
END_TEST

START_TEST(what_stays_in_the_background_ends_with_the_program)
{
    make("#!/bin/sh\nsleep 300 &\necho $!\n", 0755);
    ck_status(run(30000), CM_OK);
    ck_assert_int_eq(end.exit_status, 0);
    int pid = (int)strtol(cm_buf_str(&end.output), NULL, 10);
    ck_assert_int_gt(pid, 1);
    for (int i = 0; i < 500 && kill(pid, 0) == 0; i++) {
        char path[64];
        char line[256] = "";
        FILE *f;

        (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
        f = fopen(path, "r");
        if (f == NULL)
            return;
        (void)!fgets(line, sizeof line, f);
        (void)fclose(f);
        if (strstr(line, ") Z ") != NULL)
            return;
        (void)usleep(20000);
    }
    ck_assert_int_ne(kill(pid, 0), 0);
}
END_TEST

START_TEST(much_output_costs_no_memory_and_its_end_is_kept)
{
    make("#!/bin/sh\n"
         "head -c 104857600 /dev/zero | tr '\\0' x\n"
         "echo\necho first reason\necho 'the reason' >&2\nexit 1\n",
         0755);
    ck_status(run(120000), CM_OK);
    ck_assert_int_eq(end.exit_status, 1);
    ck_assert_uint_le(end.output.cap, 8192);
    ck_assert_str_eq(cm_buf_str(&end.output), "first reason\nthe reason\n");
}
END_TEST

START_TEST(a_signal_is_told)
{
    make("#!/bin/sh\nkill -9 $$\n", 0755);
    ck_status(run(30000), CM_OK);
    ck_assert_int_eq(end.exit_status, -1);
    ck_assert_int_eq(end.signal, SIGKILL);
}
END_TEST

struct canceler {
    struct cm_cancel *cancel;
    pthread_t thread;
};

static void *fire_soon(void *arg)
{
    (void)usleep(300000);
    cm_cancel_fire(arg);
    return NULL;
}

START_TEST(cancel_while_it_runs)
{
    struct canceler c = { .cancel = NULL };
    const char *const argv[] = { script, NULL };

    make("#!/bin/sh\necho here\nsleep 300\n", 0755);
    ck_status(cm_cancel_new(NULL, &c.cancel, &err), CM_OK);
    struct cm_op op = { .cancel = c.cancel };
    ck_status(cm_thread_start(&c.thread, "cancel", fire_soon, c.cancel, &err), CM_OK);
    ck_status(run_with(&op, argv, 60000), CM_E_CANCELED);
    ck_assert_int_eq(pthread_join(c.thread, NULL), 0);
    ck_says("canceled");
    cm_cancel_free(c.cancel);
}
END_TEST

START_TEST(a_program_that_ignores_sigchld_is_told_so)
{
    (void)signal(SIGCHLD, SIG_IGN);
    make("#!/bin/sh\nexit 0\n", 0755);
    ck_status(run(30000), CM_E_STATE);
    ck_says("SIGCHLD");
    (void)signal(SIGCHLD, SIG_DFL);
}
END_TEST

START_TEST(no_shell_takes_what_cannot_be_run)
{
    make("echo surprise\n", 0755);
    ck_status(run(30000), CM_E_INVAL);
    ck_says("#!");
    make("#!/nonexistent/interpreter\n", 0755);
    ck_status(run(30000), CM_E_NOTFOUND);
    ck_says("interpreter");
}
END_TEST

START_TEST(who_could_have_changed_it_decides_whether_it_is_run)
{
    make("#!/bin/sh\n", 0755);
    ck_status(cm_program_check(script, &err), CM_OK);
    ck_assert_int_eq(chmod(script, 0757), 0);
    ck_status(cm_program_check(script, &err), CM_E_PERM);
    ck_says("go-w");
    ck_assert_int_eq(chmod(script, 0775), 0);
    ck_status(cm_program_check(script, &err), CM_E_PERM);
    ck_assert_int_eq(chmod(script, 0644), 0);
    ck_status(cm_program_check(script, &err), CM_E_PERM);
    ck_says("+x");
    ck_assert_int_eq(chmod(script, 0755), 0);
    ck_assert_int_eq(chmod(dir, 0777), 0);
    ck_status(cm_program_check(script, &err), CM_E_PERM);
    ck_says("directory");
    ck_assert_int_eq(chmod(dir, 01777), 0);
    ck_status(cm_program_check(script, &err), CM_OK);
    ck_status(cm_program_check(dir, &err), CM_E_INVAL);
    ck_status(cm_program_check("true", &err), CM_E_INVAL);
    ck_says("PATH");
    ck_status(cm_program_check("/nonexistent/hook", &err), CM_E_NOTFOUND);
    if (geteuid() == 0) {
        ck_assert_int_eq(chown(script, 12345, 0), 0);
        ck_status(cm_program_check(script, &err), CM_E_PERM);
        ck_says("12345");
    }
}
END_TEST

START_TEST(the_last_lines_are_quoted_in_one)
{
    static const char *const secrets[] = { "abc", "secret", NULL };
    struct cm_buf b = CM_BUF_INIT(1000);
    char out[40];

    ck_assert_str_eq(cm_program_quote(&b, out, sizeof out), "");
    ck_status(cm_buf_puts(&b,
                          "a long line that is far too long for it\n\n  two\x1b[0m \nthree\r\n \n",
                          &err),
              CM_OK);
    ck_assert_str_eq(cm_program_quote(&b, out, sizeof out), "two\\x1b[0m | three");
    ck_assert_str_eq(cm_program_quote(&b, out, 7), "three");
    ck_assert_str_eq(cm_program_quote(&b, out, 5), "t...");
    ck_assert_str_eq(cm_program_quote(&b, out, 1), "");
    cm_buf_reset(&b);
    ck_status(cm_buf_puts(&b, "abc secretsecret secre", &err), CM_OK);
    cm_program_blot(&b, secrets);
    ck_assert_str_eq(cm_buf_str(&b), "abc ************ secre");
    cm_buf_free(&b);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        arguments_arrive_as_they_are_and_nothing_else_does,
        what_hangs_is_ended_with_all_its_children,
        what_stays_in_the_background_ends_with_the_program,
        much_output_costs_no_memory_and_its_end_is_kept,
        a_signal_is_told,
        cancel_while_it_runs,
        a_program_that_ignores_sigchld_is_told_so,
        no_shell_takes_what_cannot_be_run,
        who_could_have_changed_it_decides_whether_it_is_run,
        the_last_lines_are_quoted_in_one,
    };

    return run_tests_how(
        "program", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 180, .setup = set_up, .teardown = tear_down });
}
