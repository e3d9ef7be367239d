/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_SNAPSHOT_H
#define CM_CORE_SNAPSHOT_H

/* The snapshot: an encrypted local file with what is served, so that a node starts while its
 * storage is away. snapshot_file.c knows the file, snapshot.c when it is written and read.
 *
 * The file (integers big-endian): "CMSNAP", version (16 bits), id (16 random bytes); then records,
 * each its length (32 bits) and as many bytes, sealed with a key that is the HMAC-SHA256 of all
 * that under the snapshot's key, the number of the record from 0 as nonce, and all that and the
 * number as additional data. So records cannot be changed, left out, moved or taken from another
 * file. A record is 'C', then name, issuer, chain and key, each with its length (32 bits) before
 * it; the last is 'E' and the time of writing (64 bits, ns since 1970). */

#include "cipher.h"
#include "core_private.h"

/* All borrowed. */
struct cm_snapshot_entry {
    struct cm_span name; /* as managed */
    struct cm_span issuer_key;
    struct cm_span chain_pem;
    struct cm_span key_pem;
};

/* ---- writing: aside, and in place when whole ---- */

struct cm_snapshot_writer;
/* @key has CM_SEAL_KEY_LEN bytes. What another writer left unfinished is removed. */
CM_MUST_CHECK cm_status cm_snapshot_create(const struct cm_env *env, const char *path,
                                           const uint8_t *key, struct cm_snapshot_writer **ret,
                                           struct cm_err *err);
CM_MUST_CHECK cm_status cm_snapshot_add(struct cm_snapshot_writer *w,
                                        const struct cm_snapshot_entry *e, struct cm_err *err);
/* Durable, in place of the old one. @w is gone whatever happens. */
CM_MUST_CHECK cm_status cm_snapshot_commit(struct cm_snapshot_writer *w, struct cm_err *err);
void cm_snapshot_abandon(struct cm_snapshot_writer *w); /* NULL ok */

/* ---- reading ---- */

/* The whole file has been looked at; where the names are is kept, nothing else. Immutable. */
struct cm_snapshot_reader;
/* CM_E_NOTFOUND: there is no file. CM_E_PARSE, CM_E_KEY: damaged, cut short, another key or
 * version. CM_E_PERM: somebody else could have written it. */
CM_MUST_CHECK cm_status cm_snapshot_read(const char *path, const uint8_t *key,
                                         struct cm_snapshot_reader **ret, struct cm_err *err);
/* @ret points into @buf, a secret buffer. CM_E_NOTFOUND. */
CM_MUST_CHECK cm_status cm_snapshot_find(const struct cm_snapshot_reader *r, const char *name,
                                         struct cm_buf *buf, struct cm_snapshot_entry *ret,
                                         struct cm_err *err);
size_t cm_snapshot_count(const struct cm_snapshot_reader *r);
int64_t cm_snapshot_written_ns(const struct cm_snapshot_reader *r);
void cm_snapshot_reader_free(struct cm_snapshot_reader *r); /* NULL ok */

#endif
