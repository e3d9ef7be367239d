/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_LEASE_H
#define CM_STORAGE_LEASE_H

/* What lease.c (acquire, check, commit, release) and lease_beat.c (the threads that keep leases
 * alive) share. */

#include "storage.h"

#include <stdatomic.h>
#include <sys/types.h>

struct beat_group;

struct cm_lease {
    struct cm_storage *st;
    const struct cm_env *env;
    struct cm_log log;
    struct cm_grant grant;
    struct cm_cancel *cancel; /* fired on loss */
    pid_t pid;
    int64_t interval_ns;

    atomic_bool lost;         /* for good */
    _Atomic int64_t fresh_ns; /* monotonic: when the last successful refresh began */

    /* The rest belongs to lease_beat.c, under its mutex. */
    struct beat_group *group;
    struct cm_lease *next;
    int64_t due_ns;
    unsigned pins; /* threads that use it without the mutex */

    struct wait_group *waited; /* it had to be waited for; left at the end */
};

/* Has the lease run out unrefreshed, by our own clock? */
bool lease_is_expired(const struct cm_lease *l);
/* Declare it lost, once; tells the holder. @why is for the log. */
void lease_lose(struct cm_lease *l, const char *why);

/* Start and end its heartbeat. After _remove no refresh of @l runs any more. */
CM_MUST_CHECK cm_status beat_add(struct cm_lease *l, struct cm_err *err);
void beat_remove(struct cm_lease *l);

/* lease_wait.c: one who waits for a lock. On the stack of who does; guarded there. */
struct lease_waiter {
    struct lease_waiter *next;
    const char *name;
    struct cm_buf safe;       /* as a file of that name would be called */
    struct wait_group *group; /* NULL: sleeps only */
    struct cm_cancel *wake;   /* while it sleeps */
    bool told;                /* to try again */
};
void lease_wait_begin(struct lease_waiter *w, struct cm_storage *st, const char *name);
/* Until trying again makes sense, at most @ns, as far as @op allows. */
CM_MUST_CHECK cm_status lease_wait(struct lease_waiter *w, const struct cm_op *op, int64_t ns,
                                   struct cm_err *err);
/* What it returns is to be left, soon or together with the lease that was got. */
struct wait_group *lease_wait_end(struct lease_waiter *w);
void lease_wait_leave(struct wait_group *g); /* NULL ok; not in a forked child */

#endif
