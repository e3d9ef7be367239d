/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_KIT_H
#define CM_TESTS_KIT_H

/* certmesh-storage-test: the contract of a storage as a program. What its files share.
 *
 * kit_main.c    command line; what kind of storage it is; order of things
 * kit_run.c     runs tests, each in a process of its own, and reports
 * kit_place.c   opens the storage, keeps all tests below one fresh prefix, removes it again
 * kit_more.c    tests that only make sense for a storage that several processes share, or that are
 *               too long for every build: many keys, clocks, histories of locks
 * The other tests are those of ../contract_*.c. */

#include <certmesh/cm_spi.h>

#include "kit_check.h"

#include <stdio.h>

enum kit_exit { KIT_PASSED = 0, KIT_FAILED = 1, KIT_USAGE = 2 };

typedef cm_status (*kit_open_fn)(const char *url, const struct cm_storage_open_options *opts,
                                 struct cm_storage **ret, struct cm_err *err);

#define KIT_ONLY_MAX 8u

struct kit_options {
    const char *url;
    const char *plugin;             /* "FILE.so:SYMBOL", NULL = cm_storage_open() */
    const char *only[KIT_ONLY_MAX]; /* parts of "case/test", of which one has to be there */
    const char *skip;               /* the same, of what is not to run */
    const char *work;               /* folder for histories */
    uint64_t seed;
    bool whole; /* the whole place is ours, if it is empty */
    bool quick;
    bool keep;
    bool json;
};
extern struct kit_options kit;

/* What was found out about the storage before the tests. In memory that processes share. */
struct kit_nature {
    char describe[256];
    char name[32]; /* of the backend */
    bool exact_tree;
    size_t value_overhead; /* less than CM_STORAGE_VALUE_MAX fits, by so much */
    bool server_clock;
    bool lent_wall; /* but times of locks are told by the clock that it is lent */
    bool shared;    /* what one process stores, another can load */
    bool has_watch;
    bool empty;
    char problem[512]; /* why it cannot be tested at all; "" = it can */
};
extern struct kit_nature *kit_nature;

/* ---- kit_place.c ---- */

/* "certmesh-storage-test-1f2e3d4c", made from --seed and the time; "" with --whole. */
extern char kit_prefix[64];
void kit_place_name(void);
/* The storage itself. */
cm_status kit_open_raw(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                       struct cm_err *err);
/* As tests see it: below the prefix. */
cm_status kit_open(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                   struct cm_err *err);
/* Remove all that tests have stored. */
cm_status kit_clear(struct cm_err *err);
/* @st (taken over, also on failure), with everything below "prefix/". */
cm_status kit_below(struct cm_storage *st, const char *prefix, struct cm_storage **ret,
                    struct cm_err *err);

/* ---- kit_run.c ---- */

struct kit_case {
    const char *name;
    struct kit_test tests[64];
    size_t n;
    void (*setup)(void);
    void (*teardown)(void);
    double timeout_s;
};
/* SIGINT and SIGTERM end the test that runs; what it stored is removed all the same. */
void kit_watch_signals(void);
/* Run @fn in a process of its own, at most for @timeout_s; what it printed, or why it ended, in
 * @ret_text. true: it returned. *ret_skipped: it called kit_skip(). */
bool kit_in_child(void (*fn)(void *user), void *user, double timeout_s, char *ret_text, size_t size,
                  bool *ret_skipped);
void kit_run_case(TCase *c);
/* With the setup and teardown that the cases of ../contract_main.c have. */
void kit_run_with_fixture(TCase *c);
/* The end of the report. Returns the exit code. */
int kit_report_end(void);

/* ---- kit_more.c ---- */

TCase *kit_many_cases(void);
TCase *kit_clock_cases(void);
TCase *kit_history_cases(void);

#endif
