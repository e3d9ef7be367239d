/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FAULT_HISTORY_MODEL_H
#define CM_TESTS_FAULT_HISTORY_MODEL_H

/* A history as the checker sees it, one of these per lock. Made by history_check.c, judged by
 * history_prove.c. Times are of CLOCK_MONOTONIC, which all processes of a host share. */

#include "history.h"

#define NEVER INT64_MAX

struct grant {
    uint64_t who;
    uint64_t fence;
    int64_t asked_ns;
    int64_t got_ns;
    int64_t ttl_ns;
    int64_t lease_end_ns; /* nobody else may have the lock before */
    int64_t unlock_ns;    /* when giving back began */
    int64_t gone_ns;      /* when it had been given back, or its owner was dead */
    bool killed;
    char unlocked; /* '+' '-' '~', 0 = never came to it */
};

struct commit {
    uint64_t who;
    uint64_t fence;
    uint64_t id;
    uint64_t prev;
    int64_t from_ns;
    int64_t to_ns;        /* NEVER when cut off */
    int64_t lease_end_ns; /* of its grant, as it was then */
    char how;             /* '+' '-' '!' '~', 0 = cut off */
    size_t at;            /* its place in the chain, from 1; 0 = not in it */
};

struct look {
    uint64_t who;
    uint64_t fence; /* 0 = without the lock */
    uint64_t id;
    bool torn;
    int64_t from_ns;
    int64_t to_ns;
    int64_t lease_end_ns;
};

struct busy {
    int64_t from_ns;
    int64_t to_ns;
};

#define LIST(type)                                                                                 \
    struct {                                                                                       \
        struct type *v;                                                                            \
        size_t n;                                                                                  \
        size_t cap;                                                                                \
    }

struct lock_history {
    unsigned lock;
    LIST(grant) grants;
    LIST(commit) commits;
    LIST(look) looks;
    LIST(busy) busies;
    bool has_final;
    uint64_t final_id;
    bool final_torn;
};

struct figures {
    uint64_t grants, commits, refused, unlocks_refused, looks, killed_holders, unknown;
    uint64_t cut_done, cut_undone;
    int64_t takeover_ns; /* the longest */
};

/* Say on stderr what does not hold; how many things that is. */
unsigned history_prove(struct lock_history *h, struct figures *f);

#endif
