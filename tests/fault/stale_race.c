/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_tool.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* stale_race URL ROUNDS [apart]: in each round a process takes a lock and is killed with it; eight
 * others want it at the same moment. Whoever gets it keeps it until each of the others has tried
 * twice more. There must be one winner, and its fence must be higher than any before. Counted are
 * also the rounds in which all eight had met the lock of the dead one before it was free.
 *
 * "apart" lets each want a lock of its own, so that the counting itself can be tested. */

#define N_PROCS   8u
#define TTL_NS    (200 * INT64_C(1000000)) /* time enough for all eight to be there when it ends */
#define KEEP_NS   (8 * INT64_C(1000000000))
#define PATIENCE  60000 /* ms for one round */
#define LOCK_NAME "issue_cert_stale.test"

struct board {
    _Atomic unsigned round; /* set by the parent to start one */
    _Atomic unsigned winners;
    _Atomic unsigned satisfied; /* who have tried twice since there was a winner */
    _Atomic unsigned done;
    _Atomic unsigned early; /* who found it busy before there was a winner */
    _Atomic unsigned errors;
    _Atomic uint64_t fence;
    _Atomic bool stop;
};

static struct board *board;
static const char *url;
static bool apart;

static void note_win(const struct cm_grant *g)
{
    uint64_t before = board->fence;

    board->winners++;
    if (!apart && g->fence <= before)
        board->errors++;
    board->fence = g->fence;
}

static void wait_for(const _Atomic unsigned *what, unsigned least)
{
    int64_t until = tool_now_ms() + PATIENCE;

    while (*what < least && !board->stop) {
        if (tool_now_ms() > until)
            tool_die("nothing happens any more");
        tool_pause_ms(1);
    }
}

static void compete(struct cm_storage *st, const char *lock)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_grant g;
    unsigned after = 0;
    bool was_early = false;

    while (after < 2) {
        bool was_won = board->winners > 0;
        cm_status rc = cm_storage_try_lock(st, NULL, lock, KEEP_NS, &g, NULL, &err);

        if (rc == CM_OK) {
            note_win(&g);
            board->satisfied++;
            wait_for(&board->satisfied, N_PROCS);
            if (cm_storage_unlock(st, NULL, &g, &err) != CM_OK)
                board->errors++;
            return;
        }
        if (rc != CM_E_BUSY)
            board->errors++;
        if (was_won) {
            after++;
            continue;
        }
        if (rc == CM_E_BUSY && !was_early)
            board->early++;
        was_early = true;
        tool_pause_ms(1);
    }
    board->satisfied++;
}

static void contender(unsigned i)
{
    struct cm_storage *st = tool_open(url);
    char lock[64] = LOCK_NAME;

    if (apart)
        (void)snprintf(lock, sizeof lock, LOCK_NAME "_%u", i);
    for (unsigned round = 1;; round++) {
        for (unsigned spins = 0; board->round < round && !board->stop; spins++)
            if (spins > 2000)
                tool_pause_ms(1);
        if (board->stop)
            break;
        compete(st, lock);
        board->done++;
    }
    cm_storage_close(st);
    exit(0);
}

/* Leaves the lock behind with nobody to hold it. */
static void leave_stale(void)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct cm_storage *st = tool_open(url);
        struct cm_err err = CM_ERR_INIT;
        struct cm_grant g;

        tool_must(cm_storage_try_lock(st, NULL, LOCK_NAME, TTL_NS, &g, NULL, &err), "lock", &err);
        board->fence = g.fence;
        (void)raise(SIGKILL);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
        tool_die("the holder was not killed");
}

static unsigned race(unsigned rounds, unsigned *ret_met)
{
    unsigned failed = 0;

    *ret_met = 0;
    for (unsigned round = 1; round <= rounds; round++) {
        leave_stale();
        board->winners = board->satisfied = board->done = board->early = 0;
        board->round = round;
        wait_for(&board->done, N_PROCS);
        if (board->winners != 1)
            failed++;
        if (board->early == N_PROCS)
            ++*ret_met;
    }
    return failed;
}

int main(int argc, char **argv)
{
    pid_t pids[N_PROCS];
    unsigned failed;
    unsigned rounds;
    unsigned met;

    if (argc < 3)
        tool_die("usage: stale_race URL ROUNDS [apart]");
    url = argv[1];
    rounds = tool_number(argv[2], "ROUNDS");
    apart = argc > 3 && strcmp(argv[3], "apart") == 0;
    board = tool_shared(sizeof *board);
    for (unsigned i = 0; i < N_PROCS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            contender(i);
    }
    failed = race(rounds, &met);
    board->stop = true;
    for (unsigned i = 0; i < N_PROCS; i++) {
        int status = 0;

        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
            board->errors++;
    }
    (void)printf("%u rounds, %u without exactly one winner, %u errors, all met in %u\n", rounds,
                 failed, (unsigned)board->errors, met);
    return failed == 0 && board->errors == 0 ? 0 : 1;
}
