/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts the workers and makes their lives short: kills one and starts another in its place, stops
 * one for longer than its lease and lets it go on. At the end all of them are killed, each where it
 * happens to be; then every lock must be free, and what lies there is written down. */

#define STOPPED_MAX 3u
#define AIM_NS      (20 * CM_NS_PER_MS)
#define INSIDE_NS   (2 * CM_NS_PER_MS / 5)
#define GRACE_NS    (2 * CM_NS_PER_S)
#define BACK_NS     (30 * CM_NS_PER_S) /* for a server that was just killed to be there again */

struct life {
    uint64_t who;
    pid_t pid;
    int64_t cont_ns; /* when to let it go on; 0 = not stopped */
};

struct nemesis {
    const struct history_plan *plan;
    struct life lives[HISTORY_WORKERS_MAX];
    uint64_t random;
    uint64_t next_who;
    struct history_shared *shared;
    int log;
    unsigned kills;
    unsigned stops;
};

static void note(struct nemesis *n, const char *event, uint64_t whom)
{
    const struct history_event e = { .extra = whom };

    history_log(n->log, 0, event, &e);
}

static bool start(struct nemesis *n, struct life *life)
{
    pid_t parent = getpid();

    life->who = n->next_who++;
    life->cont_ns = 0;
    n->shared->is_committing[life - n->lives] = false;
    life->pid = fork();
    if (life->pid == 0) {
        /* Whoever ends this program ends all of it. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
            _exit(3);
        _exit(history_work(n->plan, life->who, (unsigned)(life - n->lives), n->shared));
    }
    if (life->pid < 0)
        perror("history: fork");
    return life->pid > 0;
}

/* False when it had died of something else: of a sanitizer, of an error. */
static bool kill_life(struct nemesis *n, struct life *life)
{
    int status = 0;

    note(n, "kill?", life->who);
    (void)kill(life->pid, SIGKILL);
    while (waitpid(life->pid, &status, 0) < 0 && errno == EINTR)
        ;
    note(n, "kill+", life->who);
    life->pid = 0;
    n->kills++;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    (void)fprintf(stderr, "history: a worker ended by itself, status 0x%x\n", (unsigned)status);
    return false;
}

static unsigned resume_due(struct nemesis *n, int64_t now_ns)
{
    unsigned stopped = 0;

    for (unsigned i = 0; i < n->plan->workers; i++) {
        struct life *life = &n->lives[i];

        if (life->cont_ns != 0 && now_ns >= life->cont_ns) {
            life->cont_ns = 0;
            note(n, "cont+", life->who);
            (void)kill(life->pid, SIGCONT);
        }
        stopped += life->cont_ns != 0;
    }
    return stopped;
}

static void spin(int64_t ns)
{
    int64_t from_ns = history_now_ns();

    while (history_now_ns() - from_ns < ns)
        ;
}

/* Most blows are to fall into a commit, somewhere. */
static void aim(struct nemesis *n, unsigned slot)
{
    int64_t inside_ns = (int64_t)history_random(&n->random, (uint64_t)INSIDE_NS);
    int64_t from_ns = history_now_ns();

    if (history_random(&n->random, 4) == 0)
        return;
    while (!n->shared->is_committing[slot] && history_now_ns() - from_ns < AIM_NS)
        (void)sched_yield();
    spin(inside_ns);
}

static void stop(struct nemesis *n, struct life *life)
{
    life->cont_ns = history_now_ns() + n->plan->ttl_ns +
                    (int64_t)history_random(&n->random, (uint64_t)n->plan->ttl_ns);
    (void)kill(life->pid, SIGSTOP);
    note(n, "stop+", life->who);
    n->stops++;
}

/* A kill, a stop, or both: whoever is about to clear up after the dead is stopped over it. */
static bool strike(struct nemesis *n)
{
    unsigned slot = (unsigned)history_random(&n->random, n->plan->workers);
    struct life *life = &n->lives[slot];
    struct life *other = &n->lives[history_random(&n->random, n->plan->workers)];
    bool may_stop = resume_due(n, history_now_ns()) < STOPPED_MAX;
    uint64_t what = history_random(&n->random, 4);

    if (life->cont_ns == 0)
        aim(n, slot);
    if (what < 2 && life->cont_ns == 0 && may_stop)
        stop(n, life);
    if (what < 2)
        return true;
    if (!kill_life(n, life))
        return false;
    if (what == 3 && other != life && other->cont_ns == 0 && may_stop) {
        spin((int64_t)history_random(&n->random, (uint64_t)INSIDE_NS));
        stop(n, other);
    }
    return start(n, life);
}

static bool is_away(cm_status rc)
{
    return rc == CM_E_NET || rc == CM_E_TIMEOUT;
}

/* A lock of the dead is to be had within the grace. While the server itself is away, which is none
 * of the lock's doing, that time does not begin. */
static cm_status lock_at_end(struct cm_storage *st, const char *name, struct cm_grant *ret,
                             struct cm_err *err)
{
    const struct cm_env *env = cm_env_system();
    int64_t back_ns = history_now_ns() + BACK_NS;
    int64_t deadline_ns = history_now_ns() + GRACE_NS;

    for (;;) {
        int64_t wait_ns = 0;
        cm_status rc = cm_storage_try_lock(st, NULL, name, CM_NS_PER_S, ret, &wait_ns, err);

        if (is_away(rc) && history_now_ns() < back_ns)
            deadline_ns = history_now_ns() + GRACE_NS;
        else if (rc != CM_E_BUSY || history_now_ns() >= deadline_ns)
            return rc;
        (void)env->wait(env, NULL, 10 * CM_NS_PER_MS);
    }
}

/* Then all keys must be of one commit. */
static bool look_at_end(struct nemesis *n, struct cm_storage *st, unsigned lock)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_grant grant;
    struct history_event e = { .lock = lock };
    uint64_t turn = 0;
    bool torn = false;
    char name[32];
    cm_status rc;

    history_lock_name(lock, name, sizeof name);
    rc = lock_at_end(st, name, &grant, &err);
    if (rc == CM_OK)
        rc = history_read_all(st, lock, &e.id, &turn, &torn, &err);
    if (is_away(rc)) { /* once more: who kills servers stops when he sees us at the end */
        rc = lock_at_end(st, name, &grant, &err);
        if (rc == CM_OK)
            rc = history_read_all(st, lock, &e.id, &turn, &torn, &err);
    }
    if (rc != CM_OK) {
        (void)fprintf(stderr, "history: the lock of dead workers is not to be had: %s\n", err.msg);
        return false;
    }
    e.extra = torn;
    history_log(n->log, 0, "final", &e);
    rc = cm_storage_unlock(st, NULL, &grant, &err);
    return rc == CM_OK || is_away(rc);
}

static bool finish(struct nemesis *n)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_storage *st = NULL;
    bool good = true;

    for (unsigned i = 0; i < n->plan->workers; i++)
        if (n->lives[i].pid > 0 && !kill_life(n, &n->lives[i]))
            good = false;
    if (history_open(n->plan, &st, &err) != CM_OK) {
        (void)fprintf(stderr, "history: %s\n", err.msg);
        return false;
    }
    for (unsigned lock = 0; lock < n->plan->locks; lock++)
        good = look_at_end(n, st, lock) && good;
    cm_storage_close(st);
    return good;
}

int history_run(const struct history_plan *plan)
{
    const struct cm_env *env = cm_env_system();
    struct nemesis n = { .plan = plan, .random = plan->seed, .next_who = 1, .log = -1 };
    int64_t began_ns = history_now_ns();
    bool good = plan->workers > 0 && plan->workers <= HISTORY_WORKERS_MAX;
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/nemesis", plan->dir);
    n.log = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    n.shared =
        mmap(NULL, sizeof *n.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!good || n.log < 0 || n.shared == MAP_FAILED) {
        (void)fprintf(stderr, "history: cannot begin in %s: %s\n", plan->dir, strerror(errno));
        return 3;
    }
    for (unsigned i = 0; i < plan->workers; i++)
        good = start(&n, &n.lives[i]) && good;
    while (good && n.shared->progress < plan->ops && history_now_ns() - began_ns < plan->limit_ns) {
        (void)env->wait(env, NULL, (int64_t)(5 + history_random(&n.random, 40)) * CM_NS_PER_MS);
        good = strike(&n);
    }
    good = finish(&n) && good;
    printf("seed %" PRIu64 ": %" PRIu64 " grants and commits in %d s, %u kills, %u stops\n",
           plan->seed, (uint64_t)n.shared->progress,
           (int)((history_now_ns() - began_ns) / CM_NS_PER_S), n.kills, n.stops);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
