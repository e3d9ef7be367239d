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
/* And after it: begin. On failure it is idle again, and keeps the reason. */
void cm_managed_start(struct cm_managed *m);
/* The same for many that are to be loaded: all are noted before work begins on the first, so that
 * the first clients of a program with very many names do not find some of them unknown. */
struct cm_todo {
    struct cm_run *first;
    struct cm_run *last;
};
void cm_todo_add(struct cm_todo *todo, struct cm_managed *m);
void cm_managed_start_all(struct cm_config *cfg, struct cm_todo *todo);
/* A client waits for it: it comes before those that nobody has asked for. */
void cm_managed_hurry_locked(struct cm_managed *m);
/* Does the cache hold a managed certificate for the normalized @name that is valid now? */
bool cm_is_served_well(struct cm_config *cfg, const char *name);

/* recheck.c: have @cert, loaded quickly and served by now, checked to the bottom in the background.
 * When it fails the name is obtained anew. */
void cm_recheck(struct cm_managed *m, struct cm_cert *cert);

#endif
