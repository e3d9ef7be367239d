/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Several processes on one storage: races for an abandoned lock, holders that are stopped or
 * killed. Real clocks and short leases. */

#define N_PROCS  8
#define NAME     "issue_cert_a.example"
#define LOCK     "locks/issue_cert_a.example.lock"
#define KEY      "certificates/a.example"
#define SHORT_NS (150 * CM_NS_PER_MS)

/* CM_TEST_ROUNDS multiplies the rounds for a longer run. */
static unsigned rounds(unsigned n)
{
    const char *times = getenv("CM_TEST_ROUNDS");

    return times != NULL ? n * (unsigned)strtoul(times, NULL, 10) : n;
}

struct board {
    _Atomic unsigned round;   /* set by the parent to start one */
    _Atomic unsigned arrived; /* how many are through with it */
    _Atomic unsigned leave;   /* the winner may give back */
    _Atomic unsigned left;
    _Atomic unsigned winners;
    _Atomic unsigned errors;
    _Atomic uint64_t fence;
    _Atomic unsigned step;
    _Atomic int result[4];
    _Atomic bool stop;
};

static struct board *board;

static void make_board(void)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(board, MAP_FAILED);
}

static void wait_until(_Atomic unsigned *what, unsigned least)
{
    for (int64_t i = 0; *what < least; i++) {
        ck_assert_msg(i < 100000, "nothing happens any more");
        if (i > 200)
            real_pause(CM_NS_PER_MS / 5);
    }
}

static pid_t start(void (*main)(void))
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        main();
        _exit(0);
    }
    return pid;
}

static void join(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: status %d", status);
}

static void kill_hard(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* -------------------------------------------------- many on one stale lock */

static void contender(void)
{
    struct cm_storage *st = file_open(NULL);

    for (unsigned round = 1;; round++) {
        struct cm_grant g;
        cm_status rc;

        /* Spinning for a moment makes them start together; for longer it would starve the rest. */
        for (unsigned spins = 0; board->round < round; spins++) {
            if (board->stop)
                _exit(0);
            if (spins > 2000)
                real_pause(CM_NS_PER_MS / 10);
        }
        rc = cm_storage_try_lock(st, NULL, NAME, 5 * CM_NS_PER_S, &g, NULL, &err);
        if (rc == CM_OK) {
            board->winners++;
            if (g.fence <= board->fence)
                board->errors++;
            board->fence = g.fence;
        } else if (rc != CM_E_BUSY) {
            board->errors++;
        }
        board->arrived++;
        while (board->leave < round)
            real_pause(CM_NS_PER_MS / 10);
        if (rc == CM_OK && cm_storage_unlock(st, NULL, &g, &err) != CM_OK)
            board->errors++;
        board->left++;
    }
}

/* A lock of certmagic that was not refreshed for a minute. */
static void stale_peer_lock(void)
{
    int64_t wall = cm_env_system()->wall_ns(NULL) - 60 * CM_NS_PER_S;
    const struct timespec then[2] = { { wall / CM_NS_PER_S, 0 }, { wall / CM_NS_PER_S, 0 } };
    char stamp[CM_TIME_TEXT];
    char text[256];

    cm_time_format_rfc3339(wall, false, stamp);
    (void)snprintf(text, sizeof text, "{\"created\":\"%s\",\"updated\":\"%s\"}\n", stamp, stamp);
    write_file(LOCK, text, 0644);
    ck_assert_int_eq(utimensat(AT_FDCWD, at(LOCK), then, 0), 0);
}

static void die_with_lock(void)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    if (cm_storage_try_lock(st, NULL, NAME, 5 * CM_NS_PER_S, &g, NULL, &err) != CM_OK)
        _exit(1);
    board->step = 1;
    (void)raise(SIGKILL);
}

static void stale_own_lock(void)
{
    pid_t pid = start(die_with_lock);

    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert(exists(LOCK));
    ck_assert_uint_eq(board->step, 1);
}

START_TEST(of_many_on_one_stale_lock_exactly_one_wins)
{
    unsigned n = rounds(120);
    pid_t pids[N_PROCS];

    make_board();
    ck_assert_int_eq(mkdir(at("locks"), 0700), 0);
    for (int i = 0; i < N_PROCS; i++)
        pids[i] = start(contender);
    for (unsigned round = 1; round <= n; round++) {
        if (round % 2 == 0)
            stale_peer_lock();
        else
            stale_own_lock();
        board->winners = board->arrived = board->left = 0;
        board->round = round;
        wait_until(&board->arrived, N_PROCS);
        ck_assert_msg(board->winners == 1, "round %u: %u winners", round, board->winners);
        board->leave = round;
        wait_until(&board->left, N_PROCS);
        ck_assert_uint_eq(board->errors, 0);
        ck_assert(!exists(LOCK));
    }
    board->stop = true;
    for (int i = 0; i < N_PROCS; i++)
        join(pids[i]);
    ck_assert_uint_eq(entries_in("certmesh/tmp"), 0);
}
END_TEST

/* ------------------------------------------------------------ nobody asks */

/* Who comes later often finds the work done and never wants the lock. */
START_TEST(the_lock_of_the_dead_goes_although_nobody_wants_it)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant mine;

    make_board();
    must(cm_storage_try_lock(st, NULL, "other", 5 * CM_NS_PER_S, &mine, NULL, &err));
    stale_own_lock();
    cm_storage_close(file_open(NULL));
    ck_assert(!exists(LOCK));
    ck_assert(exists("locks/other.lock"));
    must(cm_storage_refresh(st, NULL, &mine, &err));
    must(cm_storage_unlock(st, NULL, &mine, &err));
    cm_storage_close(st);
}
END_TEST

/* --------------------------------------------------------- stopped holders */

/* Takes the lock with a short lease, then does nothing until told, then tries everything. */
static void stopped_holder(void)
{
    struct cm_commit_item item = { .key = KEY, .value = cm_span_str("late") };
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    if (cm_storage_try_lock(st, NULL, NAME, SHORT_NS, &g, NULL, &err) != CM_OK)
        _exit(1);
    board->fence = g.fence;
    board->step = 1;
    while (board->step < 2)
        real_pause(CM_NS_PER_MS);
    board->result[0] = (int)cm_storage_refresh(st, NULL, &g, &err);
    board->result[1] = (int)cm_storage_commit(st, NULL, &g, &item, 1, &err);
    board->result[2] = (int)cm_storage_unlock(st, NULL, &g, &err);
    cm_storage_close(st);
}

START_TEST(a_stopped_holder_loses_the_lock_and_harms_nobody)
{
    struct cm_commit_item item = { .key = KEY, .value = cm_span_str("mine") };
    struct cm_storage *st = file_open(NULL);
    struct cm_op op;

    make_board();
    for (unsigned i = 0; i < rounds(3); i++) {
        struct cm_lease *lease = NULL;
        int64_t began_ns;
        pid_t pid;

        board->step = 0;
        pid = start(stopped_holder);
        wait_until(&board->step, 1);
        ck_assert_int_eq(kill(pid, SIGSTOP), 0);
        began_ns = cm_env_system()->mono_ns(NULL);
        op = cm_op_within(NULL, 5 * CM_NS_PER_S);
        must(cm_lease_acquire(st, &op, NAME, NULL, &lease, &err));
        ck_assert(cm_env_system()->mono_ns(NULL) - began_ns > SHORT_NS / 2);
        ck_assert(cm_lease_fence(lease) > board->fence);
        must(cm_lease_commit(lease, NULL, &item, 1, &err));
        board->step = 2;
        ck_assert_int_eq(kill(pid, SIGCONT), 0);
        join(pid);
        for (int k = 0; k < 3; k++)
            ck_assert_int_eq(board->result[k], CM_E_LOCK_LOST);
        ck_assert_str_eq(value_at(st, KEY), "mine");
        must(cm_lease_check(lease, &err));
        must(cm_lease_commit(lease, NULL, &item, 1, &err));
        cm_lease_release(lease);
        ck_assert(!exists(LOCK));
    }
    cm_storage_close(st);
}
END_TEST

/* Inside a commit the holder is stopped at a given call. */
static unsigned stop_at;
static unsigned calls;

static int stop_hook(enum cm_file_call call, const char *name, size_t *len)
{
    (void)call;
    (void)name;
    (void)len;
    if (++calls == stop_at) {
        board->step = 1;
        (void)raise(SIGSTOP);
    }
    return 0;
}

static void stopped_in_commit(void)
{
    struct cm_commit_item items[2] = { { .key = KEY "/key", .value = cm_span_str("late") },
                                       { .key = KEY "/crt", .value = cm_span_str("late") } };
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    if (cm_storage_try_lock(st, NULL, NAME, SHORT_NS, &g, NULL, &err) != CM_OK)
        _exit(1);
    calls = 0;
    cm_file_set_hook(stop_hook);
    board->result[0] = (int)cm_storage_commit(st, NULL, &g, items, 2, &err);
    cm_file_set_hook(NULL);
    board->result[1] = (int)calls;
    board->step = 1;
    board->result[2] = (int)cm_storage_unlock(st, NULL, &g, &err);
    cm_storage_close(st);
}

START_TEST(a_holder_stopped_in_the_middle_of_a_commit_does_all_or_nothing)
{
    struct cm_commit_item items[2] = { { .key = KEY "/key", .value = cm_span_str("mine") },
                                       { .key = KEY "/crt", .value = cm_span_str("mine") } };
    struct cm_storage *st = file_open(NULL);
    unsigned robbed = 0;
    unsigned kept = 0;
    bool more = true;

    make_board();
    for (stop_at = 1; more; stop_at += 2) {
        struct cm_lease *lease = NULL;
        struct cm_op op;
        cm_status got;
        pid_t pid;

        must(cm_storage_store(st, NULL, items[0].key, cm_span_str("old"), &err));
        must(cm_storage_store(st, NULL, items[1].key, cm_span_str("old"), &err));
        board->step = 0;
        pid = start(stopped_in_commit);
        wait_until(&board->step, 1);
        op = cm_op_within(NULL, 2 * SHORT_NS);
        got = cm_lease_acquire(st, &op, NAME, NULL, &lease, &err);
        if (got == CM_OK)
            must(cm_lease_commit(lease, NULL, items, 2, &err));
        (void)kill(pid, SIGCONT);
        join(pid);
        more = (unsigned)board->result[1] >= stop_at;
        if (got != CM_OK) {
            /* He was where nobody may interfere; he ended what he had begun. */
            ck_assert_int_eq(got, CM_E_TIMEOUT);
            ck_assert_int_eq(board->result[0], CM_OK);
            ck_assert_str_eq(value_at(st, items[0].key), "late");
            ck_assert_str_eq(value_at(st, items[1].key), "late");
            kept++;
            continue;
        }
        if (more) {
            ck_assert_msg(board->result[0] == CM_E_LOCK_LOST, "stopped at %u: commit gave %s",
                          stop_at, cm_status_name((cm_status)board->result[0]));
            ck_assert_int_eq(board->result[2], CM_E_LOCK_LOST);
            robbed++;
        }
        ck_assert_str_eq(value_at(st, items[0].key), "mine");
        ck_assert_str_eq(value_at(st, items[1].key), "mine");
        must(cm_lease_check(lease, &err));
        cm_lease_release(lease);
    }
    ck_assert_msg(robbed > 2 && kept > 5, "robbed %u times, kept %u times", robbed, kept);
    cm_storage_close(st);
}
END_TEST

/* ---------------------------------------------------------- killed holders */

static void holder_with_lease(void)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_lease *lease = NULL;

    if (cm_lease_acquire(st, NULL, NAME, NULL, &lease, &err) != CM_OK)
        _exit(1);
    board->step = 1;
    for (;;)
        real_pause(CM_NS_PER_S);
}

START_TEST(the_lock_of_a_killed_holder_is_free_within_two_seconds)
{
    struct cm_storage *st = file_open(NULL);
    int64_t worst_ns = 0;

    make_board();
    for (unsigned i = 0; i < rounds(10); i++) {
        struct cm_lease *lease = NULL;
        int64_t began_ns;
        pid_t pid;

        board->step = 0;
        pid = start(holder_with_lease);
        wait_until(&board->step, 1);
        kill_hard(pid);
        began_ns = cm_env_system()->mono_ns(NULL);
        must(cm_lease_acquire(st, NULL, NAME, NULL, &lease, &err));
        began_ns = cm_env_system()->mono_ns(NULL) - began_ns;
        worst_ns = began_ns > worst_ns ? began_ns : worst_ns;
        cm_lease_release(lease);
    }
    ck_assert_msg(worst_ns < 2 * CM_NS_PER_S, "worst: %lld ms",
                  (long long)(worst_ns / CM_NS_PER_MS));
    cm_storage_close(st);
}
END_TEST

static void wait_for_it(struct cm_storage *st)
{
    struct cm_lease *lease = NULL;

    must(cm_lease_acquire(st, NULL, NAME, NULL, &lease, &err));
    cm_lease_release(lease);
}

START_TEST(who_is_waiting_already_gets_it_as_fast)
{
    struct cm_storage *st = file_open(NULL);
    int64_t began_ns;
    pid_t holder;
    pid_t killer;

    make_board();
    holder = start(holder_with_lease);
    wait_until(&board->step, 1);
    killer = fork();
    if (killer == 0) {
        real_pause(300 * CM_NS_PER_MS);
        _exit(kill(holder, SIGKILL) == 0 ? 0 : 1);
    }
    began_ns = cm_env_system()->mono_ns(NULL);
    wait_for_it(st);
    ck_assert(cm_env_system()->mono_ns(NULL) - began_ns < 2300 * CM_NS_PER_MS);
    join(killer);
    (void)waitpid(holder, NULL, 0);
    cm_storage_close(st);
}
END_TEST

/* The embedding program forks at any moment, also while we are in a guard. */
static pid_t forked;

static int fork_hook(enum cm_file_call call, const char *name, size_t *len)
{
    (void)name;
    (void)len;
    if (call == CM_FILE_LINK && forked == 0) {
        forked = fork();
        if (forked == 0) {
            forked = getpid();
            cm_file_set_hook(NULL);
            for (;;)
                real_pause(CM_NS_PER_S);
        }
    }
    return 0;
}

START_TEST(a_child_forked_in_a_guard_keeps_nobody_out)
{
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;

    cm_file_set_hook(fork_hook);
    must(cm_storage_try_lock(st, NULL, NAME, 5 * CM_NS_PER_S, &g, NULL, &err));
    cm_file_set_hook(NULL);
    ck_assert_int_gt(forked, 0);
    must(cm_storage_unlock(st, NULL, &g, &err));
    for (int i = 0; i < 3; i++) {
        must(cm_storage_try_lock(st, NULL, NAME, 5 * CM_NS_PER_S, &g, NULL, &err));
        if (i == 1)
            cm_storage_drop(st, &g); /* given up: free at once for others on this host */
        else
            must(cm_storage_unlock(st, NULL, &g, &err));
    }
    kill_hard(forked);
    cm_storage_close(st);
}
END_TEST

/* With the bare grant, without the lease that would tell. */
START_TEST(a_child_cannot_use_the_grant_of_its_parent)
{
    struct cm_commit_item item = { .key = KEY, .value = cm_span_str("child's") };
    struct cm_storage *st = file_open(NULL);
    struct cm_grant g;
    pid_t pid;

    must(cm_storage_try_lock(st, NULL, NAME, 5 * CM_NS_PER_S, &g, NULL, &err));
    pid = fork();
    if (pid == 0) {
        bool ok = cm_storage_refresh(st, NULL, &g, &err) == CM_E_LOCK_LOST &&
                  cm_storage_commit(st, NULL, &g, &item, 1, &err) == CM_E_LOCK_LOST &&
                  cm_storage_unlock(st, NULL, &g, &err) == CM_E_LOCK_LOST;

        _exit(ok ? 0 : 1);
    }
    join(pid);
    ck_assert_ptr_null(value_at(st, KEY));
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_commit(st, NULL, &g, &item, 1, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        of_many_on_one_stale_lock_exactly_one_wins,
        the_lock_of_the_dead_goes_although_nobody_wants_it,
        a_stopped_holder_loses_the_lock_and_harms_nobody,
        a_holder_stopped_in_the_middle_of_a_commit_does_all_or_nothing,
        the_lock_of_a_killed_holder_is_free_within_two_seconds,
        who_is_waiting_already_gets_it_as_fast,
        a_child_forked_in_a_guard_keeps_nobody_out,
        a_child_cannot_use_the_grant_of_its_parent,
    };

    return run_with_root("file_procs", tests, CM_ARRAY_LEN(tests), 600);
}
