/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Who finishes the commit of a dead process may himself be stopped in the middle of it. When he
 * goes on, what others have committed meanwhile must not be overwritten by what the dead one had
 * wanted. */

#define KEY_A "certificates/ca/a.example/a.example.key"
#define KEY_B "certificates/ca/a.example/a.example.crt"
#define LOCK  "issue_cert_a.example"

static struct {
    enum cm_file_call call;
    const char *name;
    int signal;
} trap;

static int spring(enum cm_file_call call, const char *name, size_t *len)
{
    (void)len;
    if (call == trap.call && strcmp(name, trap.name) == 0)
        (void)raise(trap.signal);
    return 0;
}

/* In a child: get @signal just before @name is put in its place. */
static pid_t child(void (*what)(void), const char *name, int signal)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        trap.call = CM_FILE_RENAME;
        trap.name = name;
        trap.signal = signal;
        cm_file_set_hook(spring);
        what();
        _exit(0);
    }
    return pid;
}

static cm_status commit_as(struct cm_storage *st, struct cm_grant *g, const char *key,
                           const char *crt)
{
    const struct cm_commit_item items[] = {
        { .key = KEY_A, .value = cm_span_str(key) },
        { .key = KEY_B, .value = cm_span_str(crt) },
    };

    return cm_storage_commit(st, NULL, g, items, CM_ARRAY_LEN(items), &err);
}

static void child_commit(void)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    if (cm_storage_try_lock(st, NULL, LOCK, CM_NS_PER_S, &g, NULL, &err) != CM_OK ||
        commit_as(st, &g, "dead key", "dead crt") != CM_OK)
        _exit(1);
}

static void child_look(void)
{
    cm_storage_close(file_open(NULL));
}

static void expect_end(pid_t pid, bool killed)
{
    int status = 0;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (killed)
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %d", status);
    else
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

static void expect_stopped(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    ck_assert_msg(WIFSTOPPED(status), "status %d", status);
}

/* The commit died before its value @dies_at was in place; the finisher stops before @stops_at. */
static void stop_the_finisher(const char *dies_at, const char *stops_at)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;
    pid_t finisher;
    cm_status rc;

    must(cm_storage_store(st, NULL, KEY_A, cm_span_str("old key"), &err));
    must(cm_storage_store(st, NULL, KEY_B, cm_span_str("old crt"), &err));
    expect_end(child(child_commit, dies_at, SIGKILL), true);
    ck_assert_uint_eq(entries_in("certmesh/redo"), 1);
    finisher = child(child_look, stops_at, SIGSTOP);
    expect_stopped(finisher);

    rc = cm_storage_try_lock(st, NULL, LOCK, CM_NS_PER_S, &g, NULL, &err);
    if (rc == CM_OK) {
        /* Then the dead one's commit is done with, whatever the finisher thinks. */
        must(commit_as(st, &g, "next key", "next crt"));
        ck_assert_int_eq(kill(finisher, SIGCONT), 0);
        expect_end(finisher, false);
    } else {
        ck_assert_msg(rc == CM_E_BUSY, "%s", err.msg);
        ck_assert_int_eq(kill(finisher, SIGCONT), 0);
        expect_end(finisher, false);
        ck_assert_str_eq(value_at(st, KEY_A), "dead key");
        ck_assert_str_eq(value_at(st, KEY_B), "dead crt");
        must(cm_storage_try_lock(st, NULL, LOCK, CM_NS_PER_S, &g, NULL, &err));
        must(commit_as(st, &g, "next key", "next crt"));
    }
    ck_assert_str_eq(value_at(st, KEY_A), "next key");
    ck_assert_str_eq(value_at(st, KEY_B), "next crt");
    must(cm_storage_unlock(st, NULL, &g, &err));
    ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
    cm_storage_close(st);
    root_remove();
}

START_TEST(a_stopped_finisher_does_not_overwrite_a_successor)
{
    stop_the_finisher("a.example.key", "a.example.key");
    stop_the_finisher("a.example.key", "a.example.crt");
    stop_the_finisher("a.example.crt", "a.example.crt");
}
END_TEST

/* With another's guard entered nobody waits for a second one: two who did would wait for each
 * other. What is under way there is that one's business. */
START_TEST(another_lock_is_to_be_had_meanwhile)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;
    pid_t finisher;

    expect_end(child(child_commit, "a.example.crt", SIGKILL), true);
    finisher = child(child_look, "a.example.crt", SIGSTOP);
    expect_stopped(finisher);
    must(cm_storage_try_lock(st, NULL, "another", CM_NS_PER_S, &g, NULL, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    ck_assert_str_eq(value_at(st, KEY_A), "dead key");
    ck_assert_int_eq(kill(finisher, SIGKILL), 0);
    expect_end(finisher, true);
    ck_assert_str_eq(value_at(st, KEY_B), "dead crt");
    ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_stopped_finisher_does_not_overwrite_a_successor,
        another_lock_is_to_be_had_meanwhile,
    };

    return run_with_root("file_recover", tests, CM_ARRAY_LEN(tests), 60);
}
