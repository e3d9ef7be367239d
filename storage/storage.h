/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_STORAGE_H
#define CM_STORAGE_STORAGE_H

/* The door of storage/: the constructors behind cm_storage_open(), for the rest of this room and
 * for tests. Everybody else opens by URL. */

#include <certmesh/cm_spi.h>

#include "base.h"

/* Values and locks in this process only. Handles opened with the same non-empty @name share them
 * until the last one is closed, so that a whole fleet can live in one test; "" is private. */
CM_MUST_CHECK cm_status cm_storage_memory_open(const char *name,
                                               const struct cm_storage_open_options *opts,
                                               struct cm_storage **ret, struct cm_err *err);

/* certmagic's file layout and lock protocol below the directory @path, made if missing. */
CM_MUST_CHECK cm_status cm_storage_file_open(const char *path,
                                             const struct cm_storage_open_options *opts,
                                             struct cm_storage **ret, struct cm_err *err);

/* Redis, shared with caddy-storage-redis; @url as redis_options_parse() takes it. Opening connects
 * to nobody. Errors: those of the options. In builds with Redis only. */
CM_MUST_CHECK cm_status cm_storage_redis_open(const char *url,
                                              const struct cm_storage_open_options *opts,
                                              struct cm_storage **ret, struct cm_err *err);

/* A PostgreSQL database, shared with CertMagic's storage module for it. @url: postgres://... with
 * libpq's parameters and our own (docs/storage-postgres.md). Connects with the first call.
 * Not in every build: an option of it. */
CM_MUST_CHECK cm_status cm_storage_postgres_open(const char *url,
                                                 const struct cm_storage_open_options *opts,
                                                 struct cm_storage **ret, struct cm_err *err);

/* "?from=URL&to=URL[&read=to]", the URLs percent-encoded: two storages as one, for a fleet that
 * moves. CM_E_STATE: the new one is not ready for that. */
CM_MUST_CHECK cm_status cm_storage_migrate_open(const char *rest,
                                                const struct cm_storage_open_options *opts,
                                                struct cm_storage **ret, struct cm_err *err);

/* For lists that begin after @after: nothing that such a list shows of @key, a value or a
 * directory, comes after it. */
bool storage_list_skips(const char *after, const char *key, bool directory, bool recursive);

/* Percent-decoding in place; false on a bad escape or one that would hide a NUL. */
bool storage_url_decode(char *s);

/* ---- test seams of the file backend ---- */

/* Every change that the file backend makes to the disk announces itself to the hook first. */
enum cm_file_call {
    CM_FILE_CREATE,
    CM_FILE_MKDIR,
    CM_FILE_WRITE, /* the hook may lower *len: a short write */
    CM_FILE_FSYNC,
    CM_FILE_FSYNC_DIR,
    CM_FILE_CLOSE,
    CM_FILE_RENAME,
    CM_FILE_LINK,
    CM_FILE_UNLINK
};

/* @name is the last component concerned (of a rename: the new one). The result is the errno to
 * fail with, 0 to go on. Called from any thread. */
typedef int (*cm_file_hook_fn)(enum cm_file_call call, const char *name, size_t *len);

/* NULL = none. */
void cm_file_set_hook(cm_file_hook_fn hook);

/* Storages opened from now on walk paths component by component as if openat2 were missing. */
void cm_file_force_walk(bool on);

#endif
