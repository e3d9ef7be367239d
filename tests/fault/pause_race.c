/* SPDX-License-Identifier: Apache-2.0 */
#include "fault_tool.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* pause_race URL RUNS [write|unlock]: so many times a holder stops itself with a lock in its hand,
 * sleeps over the end of its lease, and goes on as if nothing had happened, after another has taken
 * the lock and stored something under it. Each run begins what it goes on with at another place.
 * Counted are writes of the stopped one that were accepted, and locks of the other that are gone.
 *
 * The third argument makes the stopped one cheat, so that the counting itself can be tested. */

#define AT_ONCE 8u
#define TTL_NS  (400 * INT64_C(1000000))
#define TAKE_NS (60 * INT64_C(1000000000))
#define N_ORDER 4u

/* What the holder does after its sleep. The last one holds a lease with a heartbeat. */
static const char *const orders[N_ORDER] = { "rcu", "cru", "urc", "lcu" };

struct slot {
    _Atomic uint64_t fence;
    _Atomic int result[3];
};

static const char *url;
static const char *cheat;

static cm_status act(struct cm_storage *st, char what, struct cm_grant *g, struct cm_lease *lease,
                     const struct cm_commit_item *item, struct cm_err *err)
{
    if (what == 'l')
        return cm_lease_check(lease, err);
    if (what == 'r')
        return cm_storage_refresh(st, NULL, g, err);
    if (what == 'c')
        return lease != NULL ? cm_lease_commit(lease, NULL, item, 1, err)
                             : cm_storage_commit(st, NULL, g, item, 1, err);
    if (lease == NULL)
        return cm_storage_unlock(st, NULL, g, err);
    cm_lease_release(lease);
    return CM_E_LOCK_LOST; /* it has no answer; the successor sees whether it did harm */
}

static void do_cheat(struct cm_storage *st, const char *lock, const char *key)
{
    struct cm_err err = CM_ERR_INIT;
    char path[1024];

    if (strcmp(cheat, "write") == 0) {
        tool_must(cm_storage_store(st, NULL, key, cm_span_str("stale"), &err), "cheat", &err);
        return;
    }
    (void)snprintf(path, sizeof path, "%s/locks/%s.lock", url + strlen("file://"), lock);
    if (strncmp(url, "file://", strlen("file://")) != 0 || unlink(path) != 0)
        tool_die("cannot cheat with '%s'", path);
}

static void holder(struct slot *slot, const char *lock, const char *key, const char *order)
{
    struct cm_commit_item item = { .key = key, .value = cm_span_str("stale") };
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct cm_storage *st = tool_open(url);
    struct cm_err err = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    struct cm_grant g;

    lo.ttl_ns = TTL_NS;
    if (order[0] == 'l') {
        tool_must(cm_lease_acquire(st, NULL, lock, &lo, &lease, &err), "lease", &err);
        slot->fence = cm_lease_fence(lease);
    } else {
        tool_must(cm_storage_try_lock(st, NULL, lock, TTL_NS, &g, NULL, &err), "lock", &err);
        slot->fence = g.fence;
    }
    (void)raise(SIGSTOP);
    if (cheat != NULL)
        do_cheat(st, lock, key);
    for (unsigned i = 0; i < 3; i++)
        slot->result[i] = (int)act(st, order[i], &g, lease, &item, &err);
    cm_storage_close(st);
    exit(0);
}

static void check_holder(const struct slot *slot, const char *order)
{
    for (unsigned i = 0; i < 3; i++)
        if (slot->result[i] != CM_E_LOCK_LOST)
            tool_die("%s: step '%c' of the stopped holder gave %s", order, order[i],
                     cm_status_name((cm_status)slot->result[i]));
}

static void check_value(struct cm_storage *st, const char *key, const char *want)
{
    struct cm_buf b = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;

    tool_must(cm_storage_load(st, NULL, key, &b, &err), "load", &err);
    if (strcmp(cm_buf_str(&b), want) != 0)
        tool_die("stale write accepted: '%s' instead of '%s'", cm_buf_str(&b), want);
    cm_buf_free(&b);
}

static void resume(pid_t pid)
{
    int status = 0;

    (void)kill(pid, SIGCONT);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        tool_die("the holder ended with status %#x", (unsigned)status);
}

static void run(unsigned i, struct slot *slot)
{
    const char *order = orders[i % N_ORDER];
    struct cm_err err = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    struct cm_commit_item item = { .value = cm_span_str("the successor's") };
    struct cm_storage *st;
    struct cm_op op;
    char lock[64];
    char key[64];
    int status = 0;
    pid_t pid;

    (void)snprintf(lock, sizeof lock, "pause_%u", i);
    (void)snprintf(key, sizeof key, "pause/%u", i);
    item.key = key;
    pid = fork();
    if (pid == 0)
        holder(slot, lock, key, order);
    if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
        tool_die("%s: the holder did not stop", order);
    st = tool_open(url);
    op = cm_op_within(NULL, TAKE_NS);
    tool_must(cm_lease_acquire(st, &op, lock, NULL, &lease, &err), "take over", &err);
    if (cm_lease_fence(lease) <= slot->fence)
        tool_die("%s: the fence did not grow", order);
    tool_must(cm_lease_commit(lease, NULL, &item, 1, &err), "commit of the successor", &err);
    resume(pid);
    check_value(st, key, "the successor's");
    if (cm_lease_check(lease, &err) != CM_OK ||
        cm_lease_commit(lease, NULL, &item, 1, &err) != CM_OK)
        tool_die("foreign unlock: the successor's lock is gone: %s", err.msg);
    check_holder(slot, order);
    cm_lease_release(lease);
    cm_storage_close(st);
}

static unsigned wait_one(void)
{
    int status = 0;

    if (wait(&status) < 0)
        tool_die("no child to wait for");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct slot *slots;
    unsigned failed = 0;
    unsigned n;

    if (argc < 3)
        tool_die("usage: pause_race URL RUNS [write|unlock]");
    url = argv[1];
    n = tool_number(argv[2], "RUNS");
    cheat = argc > 3 ? argv[3] : NULL;
    slots = tool_shared(n * sizeof *slots);
    for (unsigned i = 0; i < n; i++) {
        if (i >= AT_ONCE)
            failed += wait_one();
        if (fork() == 0) {
            run(i, &slots[i]);
            return 0;
        }
    }
    for (unsigned i = 0; i < n && i < AT_ONCE; i++)
        failed += wait_one();
    (void)printf("%u runs, %u failed\n", n, failed);
    return failed == 0 ? 0 : 1;
}
