/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORAGE_SQLITE_H
#define STORAGE_SQLITE_H

/* What storage_sqlite.c (values, lists, commit, the instance) and storage_sqlite_lock.c share. */

#include <certmesh/cm_spi.h>

#include <pthread.h>
#include <sqlite3.h>

#define BOOT_LEN 40

struct conn {
    sqlite3 *db;
    const struct cm_op *op; /* while an operation uses it */
    struct conn *next;
};

struct sqlite_storage {
    struct cm_storage base; /* first */
    const struct cm_env *env;
    char *path;
    char *url;
    char boot[BOOT_LEN];
    pthread_mutex_t mutex; /* of @idle, and never held over I/O */
    struct conn *idle;
    struct sqlite_storage *next; /* all that are open, for fork() */
};

/* @url: a path, or "sqlite:" and a path. */
CM_API cm_status sqlite_storage_open(const char *url, const struct cm_storage_open_options *opts,
                                     struct cm_storage **ret, struct cm_err *err);

struct sqlite_storage *sq_of(struct cm_storage *st);
/* A connection for one operation; what it leaves open is rolled back when it is given back. */
cm_status sq_take(struct sqlite_storage *s, const struct cm_op *op, struct conn **ret,
                  struct cm_err *err);
void sq_give_back(struct sqlite_storage *s, struct conn *c);
cm_status sq_run(struct conn *c, const char *sql, struct cm_err *err);
cm_status sq_prepare(struct conn *c, const char *sql, sqlite3_stmt **ret, struct cm_err *err);
/* Run to the end, which frees it. *ret_row: there was a row. */
cm_status sq_finish(struct conn *c, sqlite3_stmt *q, bool *ret_row, const char *what,
                    struct cm_err *err);
cm_status sq_failed(struct conn *c, const char *what, struct cm_err *err);

/* ---- storage_sqlite_lock.c ---- */

/* Within a transaction: CM_E_LOCK_LOST unless @grant is in force. */
cm_status sq_check_grant(struct conn *c, const struct cm_grant *grant, struct cm_err *err);
cm_status sq_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                      int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                      struct cm_err *err);
cm_status sq_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                     struct cm_err *err);
cm_status sq_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                    struct cm_err *err);
cm_status sq_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                       struct cm_lock_info *ret, struct cm_err *err);

#endif
