/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FAULT_HISTORY_H
#define CM_TESTS_FAULT_HISTORY_H

/* Histories of locks and commits: workers that make them (history_worker.c), a nemesis that kills
 * and stops the workers (history_nemesis.c), and a checker that proves from what was written down
 * that no promise was broken (history_check.c, history_prove.c).
 *
 * A history is a folder of text files, one event per line, in any order:
 *
 *   <mono ns> <who> <event> <lock> <fence> <id> <prev> <extra>
 *
 * <who> is one life of a worker, never used twice; numbers not meant are 0. Events are an operation
 * that begins ("lock?") and how it ended: '+' done, '-' refused and certainly without effect,
 * '!' busy, '~' nobody knows. An operation without an end was cut off by a kill.
 *
 *   lock?  lock+ (extra: the lease in ns)  lock!  lock-  lock~
 *   beat?  beat+  beat-  beat~
 *   read?  read+ (id: what lies there; extra: 1 = the keys of one commit disagree)  read~
 *          of fence 0: of one key, without the lock; else of all keys, by the holder of that fence
 *   commit? (id, prev: the value read before)  commit+  commit-  commit~
 *   unlock?  unlock+  unlock-  unlock~
 *   kill?  kill+  stop+  cont+ (by who 0; extra: whom)
 *   final (by who 0, after all: id of what is left; extra: 1 = the keys disagree) */

#include <certmesh/cm_spi.h>

#define HISTORY_LOCKS_MAX 16u
#define HISTORY_KEYS      3u /* set by every commit; one more is set or removed by turns */

/* Locks of an even number have a lease that a stopped holder loses; the others one so long that
 * only the death of the holder can be why another gets it. */
struct history_plan {
    const char *url;
    /* Instead of cm_storage_open(@url); NULL = that. */
    cm_status (*open)(struct cm_storage **ret, struct cm_err *err);
    bool leases_only; /* the storage learns of no death: every lock has a lease that is lost in time
                       */
    const char *dir;  /* of the history */
    uint64_t seed;
    unsigned locks;
    unsigned workers;
    int64_t ttl_ns;
    uint64_t ops;         /* grants and commits that are wanted */
    int64_t limit_ns;     /* but not for longer than this */
    const char *sabotage; /* NULL, "ignore", "unfenced", "torn": how the workers cheat */
};

int64_t history_now_ns(void);
cm_status history_open(const struct history_plan *plan, struct cm_storage **ret,
                       struct cm_err *err);
/* A small fast generator; the whole run follows from its seed, as far as the scheduler lets it. */
uint64_t history_random(uint64_t *state, uint64_t below);
void history_lock_name(unsigned lock, char *out, size_t size);
/* Key @i of a lock: the last one, HISTORY_KEYS, is there after odd turns only. */
void history_key(unsigned lock, unsigned i, char *out, size_t size);
int64_t history_ttl_ns(const struct history_plan *plan, unsigned lock);
/* What lies at all keys of a lock. *ret_torn: they are not of one commit. Id 0: nothing. */
cm_status history_read_all(struct cm_storage *st, unsigned lock, uint64_t *ret_id,
                           uint64_t *ret_turn, bool *ret_torn, struct cm_err *err);

/* The event line; one write(), so that a kill leaves all of it or nothing. */
struct history_event {
    unsigned lock;
    uint64_t fence;
    uint64_t id;
    uint64_t prev;
    uint64_t extra;
};
void history_log(int fd, uint64_t who, const char *event, const struct history_event *e);

/* What workers tell the nemesis, in shared memory. */
#define HISTORY_WORKERS_MAX 64u
struct history_shared {
    _Atomic uint64_t progress;                       /* grants and commits so far */
    _Atomic bool is_committing[HISTORY_WORKERS_MAX]; /* so that it can aim */
};

/* One life of a worker, in the place @slot of the shared memory; ends by a signal. */
int history_work(const struct history_plan *plan, uint64_t who, unsigned slot,
                 struct history_shared *shared);
int history_run(const struct history_plan *plan);
int history_check(const char *dir);

#endif
