/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_NAMES_H
#define CM_CORE_NAMES_H

/* The table of managed names, shared by manage.c (the calls) and managejob.c (the work). */

#include "core_private.h"

enum cm_stage { CM_STAGE_LOAD, CM_STAGE_OBTAIN, CM_STAGE_RENEW };

/* Guarded by the table's lock, save what is fixed. There may be very many, so what only a job or a
 * failure needs hangs on a pointer. */
struct cm_managed {
    struct cm_managed *next;   /* fixed once in the table */
    struct cm_config *cfg;     /* fixed */
    struct cm_run run;         /* the queue's while busy */
    struct cm_waiters waiters; /* handshakes; guarded by the hub */
    struct cm_cancel *cancel;  /* of the job that is running */
    struct cm_err *last;       /* last failure, or NULL */
    unsigned interest;         /* callers that wait for it */
    uint8_t stage;             /* enum cm_stage; the job's while busy */
    uint8_t phase;             /* enum cm_phase */
    bool busy;
    bool background; /* goes on although no caller waits */
    bool served;     /* has been put into the cache */
    bool awaited;    /* somebody sleeps until it changes, now or once before */
    char name[];
};

struct cm_names {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* some name is not busy any more */
    struct cm_managed **buckets;
    size_t n_buckets;
    size_t n;
};

struct cm_managed *cm_names_find_locked(const struct cm_names *t, const char *name);
/* For whoever has set it busy, under the lock: the first stage. */
void cm_managed_wake_locked(struct cm_managed *m, bool background);
/* And after it: begin. On failure it is idle again. */
CM_MUST_CHECK cm_status cm_managed_start(struct cm_managed *m, struct cm_err *err);

#endif
