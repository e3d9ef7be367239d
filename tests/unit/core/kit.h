/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_CORE_KIT_H
#define CM_TESTS_UNIT_CORE_KIT_H

/* What the tests of lib/core stand on: a clock that moves when told, storage that fails when told,
 * and a CA in the same process whose every step can be watched, held up or broken. */

#include "core_private.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_S INT64_C(1767225600) /* 2026-01-01 */

/* ---- clock ---- */

/* Stands still. Waiting takes a moment of real time and none of this clock's. */
struct kit_env {
    struct cm_env base;
    _Atomic int64_t elapsed_ns;
    _Atomic int64_t wrong_ns; /* by so much the wall clock is set wrong */
};
void kit_env_init(struct kit_env *e);
void kit_pass(struct kit_env *e, int64_t ns);

/* ---- storage ---- */

/* Another storage with counters and faults in front of it. */
struct kit_storage {
    struct cm_storage base;
    struct cm_storage *inner;
    _Atomic unsigned loads, stores, commits, locks, lists, removes, stats;
    /* Which op fails, how often (-1: for ever), with what; only keys that contain @fail_key. */
    _Atomic int fail_loads, fail_commits, fail_locks, fail_stores, fail_stats;
    _Atomic int fail_status;
    const char *fail_key;
    bool deaf;                /* loads do not look at their operation */
    _Atomic bool quiet;       /* what is stored is not told of */
    bool has_feed;            /* set before a config begins to watch */
    _Atomic int fail_watches; /* how often that fails (-1: for ever), with fail_status */
    struct kit_watch {
        cm_change_fn fn;
        void *user;
        struct cm_watch *inner;
        struct kit_storage *of;
    } watches[8];
    _Atomic unsigned n_watches;
    /* With kit_storage_loads_many(): what was asked for at once, and how often. */
    _Atomic unsigned many_calls, most_keys;
    _Atomic int fail_many;   /* how often such a call fails (-1: for ever), with fail_status, ... */
    _Atomic int many_before; /* ... after so many values */
    /* Called before each such call. */
    void (*on_many)(struct kit_storage *s, const struct cm_op *op, size_t n);
    /* Called before each load. */
    void (*on_load)(struct kit_storage *s, const char *key);
    void *user;
};
/* memory: behind it; kit_storage_free() closes both. */
void kit_storage_init(struct kit_storage *s, struct kit_env *e);
void kit_storage_free(struct kit_storage *s);
/* Tell all who watch, on this thread. */
void kit_tell(struct kit_storage *s, enum cm_change_kind kind, const char *key);
/* From now on it has a load_many of its own. */
void kit_storage_loads_many(struct kit_storage *s);
void kit_put(struct cm_storage *st, const char *key, const char *value);
bool kit_has(struct cm_storage *st, const char *key);
/* Value as text; caller frees. */
char *kit_get(struct cm_storage *st, const char *key);
/* Number of keys below @prefix. */
size_t kit_count(struct cm_storage *st, const char *prefix);

/* ---- CA and issuer ---- */

enum kit_step { KIT_GO, KIT_FAIL_BEFORE, KIT_CRASH_AFTER_CHECKPOINT, KIT_FAIL_AFTER_CHECKPOINT };

struct kit_issuer {
    struct cm_issuer base;
    struct kit_env *env;
    char key[128];
    char prefix[160];
    bool no_prefix;
    int64_t lifetime_s;
    int64_t not_before_ahead_s;
    const char *refuse;     /* precheck refuses names that contain this */
    const char *wrong_name; /* certify this instead: a CA gone wrong */
    _Atomic int step;       /* enum kit_step */
    cm_status fail_status;
    bool fail_whole_ca;
    int64_t fail_retry_after_s;
    struct cm_issuer_limits limits; /* before the config takes it in; none while 0 */
    _Atomic bool hold;              /* block in issue() until let go or canceled */
    /* Before anything else of it; what it answers, unless CM_OK, is the CA's answer. */
    cm_status (*on_asked)(struct kit_issuer *is, struct cm_err *err);
    void (*on_issue)(struct kit_issuer *is); /* between checkpoint and issuance */
    void *user;
    const char *issuer_data;
    bool already_replaced; /* any predecessor that is named has a successor, says the CA */
    void (*on_replaced)(struct kit_issuer *is);
    struct cm_renewal_info ari;            /* what is suggested, with ... */
    _Atomic int ari_status;                /* ... CM_OK; else this is the answer, ... */
    struct cm_err ari_err;                 /* ... with its whole_ca and retry_after_s */
    void (*on_ari)(struct kit_issuer *is); /* while the CA is being asked */
    void (*on_stop)(struct kit_issuer *is);
    cm_status (*on_clean)(const struct cm_op *op, struct cm_err *err);
    bool stopped;
    /* what happened */
    _Atomic unsigned asked, ari_asked, failed;
    _Atomic unsigned orders, resumed, issued, revoked, prechecks, inside, most_inside;
    uint8_t last_csr[CM_SHA256_LEN];
    char last_resume[64];
    char last_replaces[128];
    char last_account[128];
    struct cm_issue_request last; /* its scalars */
};
struct cm_issuer *kit_issuer_new(struct kit_env *e, const char *key);
struct kit_issuer *kit_issuer_of(struct cm_issuer *is);
/* From now on it can be asked when to renew. */
void kit_issuer_suggests(struct kit_issuer *is);

/* PEM of a chain and key for @names, valid from @from_s for @lifetime_s. */
void kit_make_pair(enum cm_pk type, const char *const *names, size_t n, int64_t from_s,
                   int64_t lifetime_s, struct cm_buf *chain_pem, struct cm_buf *key_pem);
/* A certificate with these names and nothing in it: enough for an index. No two have the same
 * leaf. */
struct cm_cert *kit_hollow(const char *const *names, size_t n, int64_t from_s, unsigned flags);
/* Put a pair (and metadata) where it belongs for @issuer_key. */
void kit_store_pair(struct cm_storage *st, const char *issuer_key, const char *name, int64_t from_s,
                    int64_t lifetime_s);

/* An OCSP response that nobody has signed; @next_s 0 = without nextUpdate. */
void kit_put_staple(struct cm_storage *st, const char *key, int64_t this_s, int64_t next_s,
                    bool revoked);

/* ---- config ---- */

struct kit {
    struct kit_env env;
    struct kit_storage storage;
    struct cm_config *cfg;
    struct kit_issuer *issuer;
    struct cm_config_options opts;
};
/* Everything but the config, with opts ready to be changed. It polls nothing unless told to. */
void kit_init(struct kit *k);
/* The config with one issuer "ca.test-dir" unless opts has some already. */
void kit_start(struct kit *k);
/* A second config beside it, on the same storage and clock. */
struct cm_config *kit_peer(struct kit *k, struct kit_issuer **ret_issuer);
void kit_stop(struct kit *k);

void kit_hello(struct cm_hello *h, const char *sni);

/* Log lines go here; returns how many so far contained @text. */
unsigned kit_logged(const char *text);
void kit_log_reset(void);

/* Until @cond or ten seconds have passed. What was so once may be over a moment later. */
#define kit_until(cond)                                                                            \
    do {                                                                                           \
        bool kit_met = (cond);                                                                     \
        for (int kit_i = 0; kit_i < 10000 && !kit_met; kit_i++) {                                  \
            kit_nap();                                                                             \
            kit_met = (cond);                                                                      \
        }                                                                                          \
        ck_assert_msg(kit_met, "still not: %s", #cond);                                            \
    } while (0)
void kit_nap(void); /* a millisecond of real time */

int kit_run(const char *unit, const TTest *const *tests, size_t n);

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == CM_OK, "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);        \
    } while (0)
#define ck_refused(call, status)                                                                   \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (status), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);     \
    } while (0)

#endif
