/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_CONTRACT_H
#define CM_TESTS_CONTRACT_H

/* The contract of cm_storage_ops as tests, one source linked once per backend: write one
 * backend_<name>.c with a contract_backend and link it with contract_main.c and the other
 * contract_*.c. Only <certmesh/cm_spi.h> is used of certmesh, so that the author of a
 * backend outside this tree can run it too. */

#include <certmesh/cm_spi.h>

#ifdef CM_KIT /* certmesh-storage-test: the same tests in a program that is installed */
#include "kit_check.h"
#else
#include <check.h>
#endif
#include <stdatomic.h>

#include "../util/fake_env.h"
#include "../util/must.h"

struct contract_backend {
    const char *name;
    size_t key_max;         /* bytes of keys and names of locks that fit; 0 = all there can be */
    void (*setup)(void);    /* a fresh and empty place */
    void (*teardown)(void); /* and away with it */
    /* One more handle on that place. */
    cm_status (*open)(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                      struct cm_err *err);
    size_t value_overhead; /* bytes that it takes of CM_STORAGE_VALUE_MAX for itself */
    bool exact_tree;       /* refuses a value and keys below it under one name */
    bool has_watch;        /* tells of changes; else watching is CM_E_UNSUPPORTED */
    /* So many changes in a moment overflow its queue; NULL: none that a test can make. */
    int (*watch_flood)(void);
    /* Leases run on a server's clock, which no test can turn: tests take short ones and wait. */
    bool server_clock;
    /* Yet its wall clock, which times of locks are told by, is the one that it is lent. */
    bool lent_wall;
    /* A forked child cannot use what its parent opened. */
    bool child_opens;
    /* Optional: once per program, before the first setup and after the last teardown. What begin
     * gives is the exit status to end with at once, 0 to go on. */
    int (*begin)(void);
    void (*end)(void);
};

extern struct contract_backend contract_backend;

/* The fixture of every test: an open storage on the real clock, and one on a fake clock. */
extern struct cm_storage *st;
extern struct cm_storage *fake_st;
extern struct fake_env fake;
extern struct cm_op fake_op;
extern struct cm_err err;

struct cm_storage *contract_open(const struct cm_env *env);

/* The leases that tests take, and how exactly their end can be hit. */
int64_t contract_ttl_ns(void);
int64_t contract_margin_ns(void);
/* @ns go by, on the clock that leases run on and on the fake one. */
void contract_pass(int64_t ns);

void put(const char *key, const char *text);
/* The value at @key is @text; NULL: there is none. */
void expect(const char *key, const char *text);

/* Sanitizers do not survive what a forked child of a program with threads may still do. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONTRACT_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CONTRACT_SANITIZED 1
#endif
#endif
#if !defined(CONTRACT_SANITIZED)
#define CONTRACT_SANITIZED 0
#endif

TCase *contract_storage_cases(void);
TCase *contract_list_cases(void);
TCase *contract_many_cases(void);
TCase *contract_commit_cases(void);
TCase *contract_lock_cases(void);
TCase *contract_lease_cases(void);
TCase *contract_watch_cases(void);

#endif
