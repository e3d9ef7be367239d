/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A commit interrupted at every step, by an error, by all errors from there on, and by death. What
 * must hold: all old or all new, at once or after the next who comes along has finished it. */

#define DIR_A "certificates/ca/a.example/"

/* Replaced, replaced, new in a new directory, removed. */
static const struct cm_commit_item items[] = {
    { .key = DIR_A "a.example.key", .value = { (const uint8_t *)"new key", 7 } },
    { .key = DIR_A "a.example.crt", .value = { (const uint8_t *)"new crt", 7 } },
    { .key = "ocsp/fresh/staple", .value = { (const uint8_t *)"new ocsp", 8 } },
    { .key = "retry/a.example.json", .remove = true },
};

static struct {
    unsigned n;
    unsigned at;
    bool for_good;
    bool spare_unlink;
    int error; /* 0: die */
    bool fired;
    char log[4096];
} hook;

static int on_call(enum cm_file_call call, const char *name, size_t *len)
{
    static const char letters[] = "CMWFDXRLU"; /* in the order of the enum */
    size_t used = strlen(hook.log);

    (void)len;
    (void)snprintf(hook.log + used, sizeof hook.log - used, "%c:%.4s ", letters[call], name);
    if (hook.spare_unlink && call == CM_FILE_UNLINK)
        return 0;
    hook.n++;
    if (hook.at == 0 || hook.n < hook.at || (hook.n > hook.at && !hook.for_good))
        return 0;
    hook.fired = true;
    if (hook.error == 0)
        (void)raise(SIGKILL);
    return hook.error;
}

static void arm(unsigned n, int error)
{
    memset(&hook, 0, sizeof hook);
    hook.at = n;
    hook.error = error;
    cm_file_set_hook(on_call);
}

static void put_old(struct cm_storage *st)
{
    must(cm_storage_store(st, NULL, items[0].key, cm_span_str("old key"), &err));
    must(cm_storage_store(st, NULL, items[1].key, cm_span_str("old crt"), &err));
    must(cm_storage_store(st, NULL, items[3].key, cm_span_str("old retry"), &err));
    must(cm_storage_remove(st, NULL, items[2].key, &err));
}

static bool is(const char *text, const char *want)
{
    return want == NULL ? text == NULL : text != NULL && strcmp(text, want) == 0;
}

/* 'o' all old, 'n' all new, 'x' a mixture. */
static char state_of(struct cm_storage *st)
{
    const char *key = value_at(st, items[0].key);
    const char *crt = value_at(st, items[1].key);
    const char *ocsp = value_at(st, items[2].key);
    const char *retry = value_at(st, items[3].key);

    if (is(key, "old key") && is(crt, "old crt") && is(ocsp, NULL) && is(retry, "old retry"))
        return 'o';
    if (is(key, "new key") && is(crt, "new crt") && is(ocsp, "new ocsp") && is(retry, NULL))
        return 'n';
    return 'x';
}

static cm_status commit_locked(struct cm_storage *st)
{
    struct cm_grant g;
    cm_status rc =
        cm_storage_try_lock(st, NULL, "issue_cert_a.example", CM_NS_PER_S, &g, NULL, &err);
    struct cm_err commit_err;

    if (rc != CM_OK)
        return rc;
    rc = cm_storage_commit(st, NULL, &g, items, CM_ARRAY_LEN(items), &commit_err);
    cm_storage_drop(st, &g);
    err = commit_err;
    return rc;
}

/* The record of the lock is flushed for other hosts only. */
static void check_order(bool is_local)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;
    char want[1024];

    fst_of(st)->is_local = is_local;
    put_old(st);
    must(cm_storage_store(st, NULL, items[2].key, cm_span_str("old ocsp"), &err));
    must(cm_storage_commit(st, NULL, NULL, items, 2, &err)); /* makes the directories */
    must(cm_storage_try_lock(st, NULL, "lock", CM_NS_PER_S, &g, NULL, &err));
    arm(0, 0);
    must(cm_storage_commit(st, NULL, &g, items, 4, &err));
    (void)snprintf(want, sizeof want, "%s%s%s",
                   "C:new- W:new- F:new- X:new- " /* the new values, flushed */
                   "C:new- W:new- F:new- X:new- "
                   "C:new- W:new- F:new- X:new- "
                   "W:lock ", /* a heartbeat */
                   is_local ? "" : "F:lock ",
                   "C:old- W:old- F:old- X:old- " /* copies of the old ones */
                   "C:old- W:old- F:old- X:old- "
                   "C:old- W:old- F:old- X:old- "
                   "C:old- W:old- F:old- X:old- "
                   "C:redo W:redo F:redo D:cert R:redo D:cert " /* the point of no return */
                   "R:a.ex R:a.ex R:stap U:a.ex "               /* the change itself */
                   "D:cert D:ocsp D:retr "                      /* made durable */
                   "U:redo U:old- U:old- U:old- U:old- "
                   "C:gone X:gone U:gone "); /* said to those who watch */
    ck_assert_str_eq(hook.log, want);
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_storage_close(st);
}

START_TEST(a_commit_goes_in_this_order)
{
    check_order(true);
    root_remove();
    check_order(false);
}
END_TEST

START_TEST(one_value_alone_goes_in_this_order)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    put_old(st);
    must(cm_storage_try_lock(st, NULL, "lock", CM_NS_PER_S, &g, NULL, &err));
    arm(0, 0);
    must(cm_storage_commit(st, NULL, &g, items, 1, &err));
    ck_assert_str_eq(hook.log, "C:new- W:new- F:new- X:new- W:lock R:a.ex D:cert ");
    ck_assert_str_eq(value_at(st, items[0].key), "new key");
    /* Of one that cannot be put in place nothing stays, and of one that is not flushed no yes. */
    for (unsigned n = 1; n <= 7; n++) {
        put_old(st);
        arm(n, EIO);
        cm_status rc = cm_storage_commit(st, NULL, &g, items, 1, &err);
        ck_assert(hook.fired);
        cm_file_set_hook(NULL);
        ck_assert_int_eq(rc, CM_E_IO);
        ck_assert_str_eq(value_at(st, items[0].key), n < 7 ? "old key" : "new key");
        ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
    }
    /* A removal alone still needs the way back. */
    arm(0, 0);
    must(cm_storage_commit(st, NULL, &g, &items[3], 1, &err));
    ck_assert_ptr_nonnull(strstr(hook.log, "R:redo"));
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_storage_close(st);
}
END_TEST

/* False when no fault fired any more. */
static bool commit_with_fault(unsigned n, int error, bool for_good, bool spare_unlink,
                              unsigned *ret_pending)
{
    struct cm_storage *st = file_open(NULL);
    unsigned fds;
    cm_status rc;
    bool fired;
    char now;

    put_old(st);
    fds = open_fds();
    arm(n, error);
    hook.for_good = for_good;
    hook.spare_unlink = spare_unlink;
    rc = commit_locked(st);
    fired = hook.fired;
    cm_file_set_hook(NULL);
    ck_assert_uint_eq(open_fds(), fds);
    if (entries_in("certmesh/redo") > 0) {
        /* Could neither go on nor back. The next to come finishes it. */
        (*ret_pending)++;
        cm_storage_close(st);
        st = file_open(NULL);
    }
    now = state_of(st);
    ck_assert_msg(now != 'x', "call %u, errno %d: a mixture (%s)", n, error, hook.log);
    if (rc == CM_OK)
        ck_assert_int_eq(now, 'n');
    ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
    if (spare_unlink)
        ck_assert_msg(entries_in("certmesh/tmp") == 0, "call %u, errno %d: strays", n, error);
    /* And it can be done again. */
    put_old(st);
    must(commit_locked(st));
    ck_assert_int_eq(state_of(st), 'n');
    cm_storage_close(st);
    root_remove();
    return fired;
}

START_TEST(a_failing_step_of_a_commit_leaves_all_old_or_all_new)
{
    static const int errors[] = { ENOSPC, EIO, EROFS, EACCES, ESTALE };
    unsigned points = 0;
    unsigned pending = 0;

    for (size_t e = 0; e < CM_ARRAY_LEN(errors); e++)
        for (int how = 0; how < 4; how++)
            for (unsigned n = 1; commit_with_fault(n, errors[e], how % 2 == 0, how < 2, &pending);
                 n++)
                points++;
    ck_assert_msg(points > 800, "only %u faults fired", points);
    ck_assert_msg(pending > 10, "only %u were left to others", pending);
}
END_TEST

START_TEST(a_rename_that_fails_is_taken_back_at_once)
{
    unsigned first = 0;
    unsigned n = 0;

    for (int k = 0; k < 4; k++) {
        struct cm_storage *st = file_open(NULL);
        struct cm_grant g;

        put_old(st);
        must(cm_storage_try_lock(st, NULL, "lock", CM_NS_PER_S, &g, NULL, &err));
        if (first == 0) {
            /* Which of the calls is the first rename of a value? */
            arm(0, 0);
            must(cm_storage_commit(st, NULL, &g, items, 4, &err));
            n = 1;
            for (const char *p = hook.log; strncmp(p, "R:a.ex", 6) != 0; p = strchr(p, ' ') + 1)
                n++;
            first = n;
            put_old(st);
            n = 0;
        }
        arm(first + (unsigned)k, ENOSPC);
        must_fail(cm_storage_commit(st, NULL, &g, items, 4, &err), CM_E_IO);
        ck_assert(hook.fired);
        cm_file_set_hook(NULL);
        ck_assert_msg(strstr(err.msg, "undone") != NULL, "%s", err.msg);
        ck_assert_int_eq(state_of(st), 'o');
        ck_assert_uint_eq(entries_in("certmesh/redo") + entries_in("certmesh/tmp"), 0);
        must(cm_storage_unlock(st, NULL, &g, &err));
        cm_storage_close(st);
        root_remove();
    }
}
END_TEST

/* --------------------------------------------------------------- kill -9 */

/* Run @what in a child that dies before its @n-th call; false if it got to its end. */
static bool dies_at(unsigned n, void (*what)(void))
{
    int status = 0;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        arm(n, 0);
        what();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status)) {
        ck_assert_int_eq(WEXITSTATUS(status), 0);
        return false;
    }
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %d", status);
    return true;
}

static void child_commit(void)
{
    struct cm_storage *st = file_open(NULL);

    if (commit_locked(st) != CM_OK)
        _exit(1);
}

static void child_recover(void)
{
    cm_storage_close(file_open(NULL));
}

START_TEST(death_at_any_step_leaves_all_old_or_all_new)
{
    unsigned n = 0;
    unsigned fresh = 0;
    bool died = true;

    while (died) {
        struct cm_storage *st = file_open(NULL);

        put_old(st);
        n++;
        died = dies_at(n, child_commit);
        /* Whoever has the storage open already finds out as well, by just reading. */
        ck_assert_msg(state_of(st) != 'x', "death at call %u: a mixture", n);
        fresh += state_of(st) == 'n';
        ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
        if (!died)
            ck_assert_int_eq(state_of(st), 'n');
        put_old(st);
        must(commit_locked(st)); /* the lock of the dead does not stand in the way */
        cm_storage_close(st);
        root_remove();
    }
    ck_assert_msg(n > 45 && fresh > 8, "%u steps, %u of them new", n, fresh);
}
END_TEST

/* Readers trust that a directory of records which was empty long ago still is, as long as its time
 * stamp stands; a commit that died since must not escape them. */
START_TEST(records_are_found_after_a_long_calm)
{
    const struct timespec long_ago[2] = { { 1600000000, 0 }, { 1600000000, 0 } };
    unsigned found = 0;
    char path[128];

    (void)snprintf(path, sizeof path, "%s/certmesh/redo", root);
    for (unsigned n = 25; n < 45; n++) {
        struct cm_storage *st = file_open(NULL);

        put_old(st);
        must(commit_locked(st));
        put_old(st);
        ck_assert_int_eq(utimensat(AT_FDCWD, path, long_ago, 0), 0);
        ck_assert_int_eq(state_of(st), 'o');
        if (dies_at(n, child_commit) && entries_in("certmesh/redo") > 0) {
            found++;
            ck_assert_msg(state_of(st) != 'x', "death at call %u: a mixture", n);
            ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
        }
        cm_storage_close(st);
        root_remove();
    }
    ck_assert_uint_ge(found, 3);
}
END_TEST

START_TEST(death_while_finishing_for_the_dead_is_no_worse)
{
    unsigned points = 0;
    bool died = true;

    for (unsigned n = 30; died; n++) {
        bool died_again = true;

        for (unsigned m = 1; died_again && died; m++) {
            struct cm_storage *st = file_open(NULL);

            put_old(st);
            cm_storage_close(st);
            died = dies_at(n, child_commit);
            died_again = dies_at(m, child_recover);
            points += died_again;
            st = file_open(NULL);
            ck_assert_msg(state_of(st) != 'x', "death at %u, then at %u", n, m);
            cm_storage_close(st);
            root_remove();
        }
    }
    ck_assert_msg(points > 40, "only %u double deaths", points);
}
END_TEST

START_TEST(an_error_while_finishing_for_the_dead_is_no_worse)
{
    unsigned gone_back = 0;
    bool died = true;

    for (unsigned n = 30; died; n++) {
        bool fired = true;

        for (unsigned m = 1; fired && died; m++) {
            struct cm_storage *st = file_open(NULL);

            put_old(st);
            cm_storage_close(st);
            died = dies_at(n, child_commit);
            arm(m, EIO);
            hook.spare_unlink = true;
            st = file_open(NULL);
            fired = hook.fired;
            cm_file_set_hook(NULL);
            if (entries_in("certmesh/redo") == 0)
                gone_back += strcmp(read_file(items[0].key), "old key") == 0 && fired;
            cm_storage_close(st);
            st = file_open(NULL);
            ck_assert_msg(state_of(st) != 'x', "death at %u, then an error at %u", n, m);
            ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
            cm_storage_close(st);
            root_remove();
        }
    }
    ck_assert_msg(gone_back > 5, "gone back only %u times", gone_back);
}
END_TEST

/* Not by reading, but by taking the lock: the next holder must find whole values on the disk. */
START_TEST(taking_the_lock_of_the_dead_finishes_his_commit)
{
    unsigned half = 0;
    bool died = true;

    for (unsigned n = 1; died; n++) {
        struct cm_storage *st = file_open(NULL);
        struct cm_grant g;
        bool fresh;

        put_old(st);
        died = dies_at(n, child_commit);
        half += entries_in("certmesh/redo") > 0;
        must(cm_storage_try_lock(st, NULL, "issue_cert_a.example", CM_NS_PER_S, &g, NULL, &err));
        ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
        fresh = strcmp(read_file(items[0].key), "new key") == 0;
        ck_assert_str_eq(read_file(items[1].key), fresh ? "new crt" : "old crt");
        must(cm_storage_unlock(st, NULL, &g, &err));
        cm_storage_close(st);
        root_remove();
    }
    ck_assert_uint_gt(half, 5);
}
END_TEST

static struct cm_storage *watcher;
static unsigned watched;

static int watch_hook(enum cm_file_call call, const char *name, size_t *len)
{
    (void)name;
    (void)len;
    if (call == CM_FILE_RENAME && entries_in("certmesh/redo") == 1) {
        unsigned waiting = entries_in("certmesh/tmp");

        cm_file_set_hook(NULL);
        ck_assert_ptr_nonnull(value_at(watcher, items[0].key));
        ck_assert_uint_eq(entries_in("certmesh/redo"), 1);
        ck_assert_uint_eq(entries_in("certmesh/tmp"), waiting);
        watched++;
    }
    return 0;
}

START_TEST(nobody_finishes_the_commit_of_the_living)
{
    struct cm_storage *st = file_open(NULL);

    watcher = file_open(NULL);
    put_old(st);
    cm_file_set_hook(watch_hook);
    must(cm_storage_commit(st, NULL, NULL, items, 4, &err));
    ck_assert_uint_eq(watched, 1);
    ck_assert_int_eq(state_of(st), 'n');
    cm_storage_close(watcher);
    cm_storage_close(st);
}
END_TEST

static unsigned undo_from;

/* All renames fail from the second one on until the process dies while it puts things back. */
static int undo_hook(enum cm_file_call call, const char *name, size_t *len)
{
    static unsigned value_renames;
    bool is_value = call == CM_FILE_RENAME && strncmp(name, "redo", 4) != 0;

    (void)len;
    value_renames += is_value;
    if (is_value && value_renames == 3)
        return ENOSPC;
    if (value_renames >= 3 && ++hook.n == undo_from)
        (void)raise(SIGKILL);
    return 0;
}

static void child_undo(void)
{
    struct cm_storage *st = file_open(NULL);

    hook.n = 0;
    cm_file_set_hook(undo_hook);
    if (cm_storage_commit(st, NULL, NULL, items, 4, &err) == CM_OK)
        _exit(1);
}

START_TEST(death_while_going_back_leaves_all_old)
{
    bool died = true;

    for (undo_from = 1; died; undo_from++) {
        struct cm_storage *st = file_open(NULL);

        put_old(st);
        died = dies_at(0, child_undo);
        /* Before the direction is marked it goes forwards, from then on back. */
        ck_assert_msg(state_of(st) != 'x', "death at call %u of the way back", undo_from);
        if (undo_from > 2)
            ck_assert_int_eq(state_of(st), 'o');
        ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
        cm_storage_close(st);
        root_remove();
    }
    ck_assert_uint_gt(undo_from, 6);
}
END_TEST

/* ---------------------------------------------------------------- overtaken */

START_TEST(a_peer_that_wrote_since_is_not_overwritten)
{
    struct cm_storage *st = file_open(NULL);
    unsigned n = 0;

    put_old(st);
    /* Die between the first and the second rename. */
    do {
        n++;
        put_old(st);
        ck_assert(dies_at(n, child_commit));
    } while (strcmp(read_file(items[0].key), "new key") != 0);
    ck_assert_uint_eq(entries_in("certmesh/redo"), 1);
    /* certmagic writes the certificate anew, without our guard and before any of us looks. */
    write_file(DIR_A "123456789", "peer's key", 0600);
    ck_assert_int_eq(rename(at(DIR_A "123456789"), at(items[0].key)), 0);
    write_file(DIR_A "123456789", "peer's crt", 0600);
    ck_assert_int_eq(rename(at(DIR_A "123456789"), at(items[1].key)), 0);
    ck_assert_str_eq(value_at(st, items[0].key), "peer's key");
    ck_assert_str_eq(value_at(st, items[1].key), "peer's crt");
    ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
    cm_storage_close(st);
}
END_TEST

START_TEST(a_damaged_record_is_put_away)
{
    static const char *const damage[] = {
        "",
        "garbage",
        "certmesh-commit 1 F\nboot -\nitems 1\nset new 1 - 0 0 0 0 a\nend 0\n",
        "certmesh-commit 1 F\nboot -\nitems 99999\n",
        "certmesh-commit 1 X\n",
        "certmesh-commit 1 F\nboot -\nitems 1\nset ../../x 1 - 0 0 0 0 a\nend 0000000000000000\n",
    };
    struct cm_storage *st = file_open(NULL);

    put_old(st);
    must(commit_locked(st));
    for (size_t i = 0; i < CM_ARRAY_LEN(damage); i++) {
        write_file("certmesh/redo/redo-1-1-bad", damage[i], 0600);
        cm_storage_close(st);
        st = file_open(NULL);
        ck_assert_uint_eq(entries_in("certmesh/redo"), 0);
        ck_assert_int_eq(state_of(st), 'n');
    }
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_commit_goes_in_this_order,
        one_value_alone_goes_in_this_order,
        a_failing_step_of_a_commit_leaves_all_old_or_all_new,
        a_rename_that_fails_is_taken_back_at_once,
        death_at_any_step_leaves_all_old_or_all_new,
        records_are_found_after_a_long_calm,
        death_while_finishing_for_the_dead_is_no_worse,
        an_error_while_finishing_for_the_dead_is_no_worse,
        taking_the_lock_of_the_dead_finishes_his_commit,
        nobody_finishes_the_commit_of_the_living,
        death_while_going_back_leaves_all_old,
        a_peer_that_wrote_since_is_not_overwritten,
        a_damaged_record_is_put_away,
    };

    return run_with_root("file_commit", tests, CM_ARRAY_LEN(tests), 90);
}
