/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_MEMORY_H
#define CM_STORAGE_MEMORY_H

/* What the files of the memory backend share. */

#include "feed.h"

struct memory_entry {
    char *key;
    uint8_t *value;
    size_t len;
    int64_t modified_ns;
};

#define MEMORY_LOCK_LISTS 1024u
struct memory_lock {
    struct memory_lock *next;
    char *name;
    uint64_t fence; /* of the last grant; locks are never forgotten, so it only grows */
    char token[48]; /* of the holder; "" = free */
    int64_t ttl_ns;
    int64_t until_ns; /* monotonic */
    int64_t since_ns; /* wall, as is ... */
    int64_t refreshed_ns;
};

/* What handles of one name share. */
struct memory_store {
    struct memory_store *next; /* in the registry */
    char *name;                /* "" = private, not in the registry */
    unsigned handles;          /* guarded by the registry's mutex */
    const struct cm_env *env;

    pthread_mutex_t mutex;
    struct memory_entry *entries; /* sorted by compare_keys() */
    size_t n;
    size_t cap;
    struct memory_lock *locks[MEMORY_LOCK_LISTS]; /* by the hash of their name */

    struct feed feed; /* has a mutex of its own, which is not taken inside the other */
};

struct memory_storage {
    struct cm_storage base;
    struct memory_store *store;
    char *url;
};

struct memory_store *memory_store_of(struct cm_storage *st);

/* The lock of @grant if the grant is still in force, else NULL. */
struct memory_lock *memory_held_locked(struct memory_store *s, const struct cm_grant *grant);
cm_status memory_lost(const struct cm_grant *grant, struct cm_err *err);
void memory_locks_free(struct memory_store *s);

/* The lock part of the table. */
cm_status memory_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                          int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                          struct cm_err *err);
cm_status memory_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                         struct cm_err *err);
cm_status memory_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                           struct cm_lock_info *ret, struct cm_err *err);
cm_status memory_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                        struct cm_err *err);

#endif
