/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CMD_STORAGE_H
#define CERTMESH_CMD_STORAGE_H

/* What the files of `certmesh storage` share: one function per word, and what several words need.
 */

#include "cmd.h"

struct cli_storage_word {
    const char *name;
    int (*run)(struct cli *c, struct cm_storage *st, const struct cm_op *op);
    unsigned min_args, max_args; /* after the word itself */
    const char *args;
    bool opens;        /* --storage; the others open by themselves and get NULL */
    int64_t timeout_s; /* unless --timeout */
};

/* c->names[0] is the word. Each returns the exit code, and has explained itself. */
int cli_storage_get(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_put(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_export(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_import(struct cli *c, struct cm_storage *st, const struct cm_op *op);
/* import of what --autocert names */
int cli_storage_autocert(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_copy(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_migrate(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_check(struct cli *c, struct cm_storage *st, const struct cm_op *op);
int cli_storage_reseal(struct cli *c, struct cm_storage *st, const struct cm_op *op);

/* Failure with the word before it. Returns the exit code. */
int cli_storage_fail(const struct cli *c, const char *object, const struct cm_err *err);

/* ---- storage_value.c: files beside the storage ---- */

/* A file that only its owner can read, and that is there whole or not at all. */
struct cli_out {
    const char *path; /* NULL = standard output */
    char *temp;
    FILE *f;
};
cm_status cli_out_open(struct cli_out *o, const char *path, struct cm_err *err);
/* Put it in place if @rc is CM_OK, else remove it. Returns @rc or why that failed. */
cm_status cli_out_close(struct cli_out *o, cm_status rc, struct cm_err *err);
/* Read @path; NULL and "-" are standard input. Ctrl-C ends a read that waits, with ECANCELED. */
cm_status cli_in_open(const struct cli *c, const char *path, FILE **ret, struct cm_err *err);

/* ---- storage_site.c: directories of certificates ---- */

/* Bytes of the directory of a certificate's parts in @key; 0 = it is no part of one. */
size_t cli_site_len(const char *key);
/* The lock of whoever would replace what lies in @site, "certificates/ISSUER/NAME". What is to lie
 * there, if anything: @meta and @chain, which may be empty. Waits for the holder longer than a
 * lease lasts that nobody renews. Errors: CM_E_BUSY: somebody works there; CM_E_EXISTS: there lies
 * something for other names than @meta and @chain are for. */
cm_status cli_site_lock(struct cm_storage *st, const struct cm_op *op, const char *site,
                        struct cm_span meta, struct cm_span chain, struct cm_lease **ret,
                        struct cm_err *err);

/* ---- storage_batch.c: values on their way into a storage ---- */

#define CLI_BATCH_KEYS  CM_COMMIT_MAX
#define CLI_BATCH_BYTES (8u * 1024 * 1024)

struct cli_batch_value {
    char key[CM_STORAGE_KEY_MAX + 1];
    struct cm_buf value; /* secret */
    bool is_gone;        /* the source does not have it (any more) */
    bool is_equal;       /* the target has this very value */
    bool is_older;       /* part of a certificate that is older than the target's */
    bool is_left;        /* part of one that somebody works on in the target */
};

/* Up to CLI_BATCH_KEYS values. The parts of one certificate (all below certificates/ISSUER/NAME) or
 * account, if they come one after the other, stay together and are stored in one commit. */
struct cli_batch {
    struct cli *c;
    struct cm_storage *from; /* NULL: the values come from elsewhere */
    struct cm_storage *to;
    const struct cm_op *op;
    struct cm_cache *cache; /* reads certificates; made when needed */
    struct cli_batch_value *values;
    size_t n;
    size_t bytes;
    uint64_t seen, stored, equal, older, left; /* keys */
    uint64_t stored_bytes;
    bool any_age; /* older certificates, too, as with --force */
};
cm_status cli_batch_start(struct cli_batch *b, struct cli *c, struct cm_storage *to,
                          const struct cm_op *op, struct cm_err *err);
/* Must what is in it be flushed before a value of @len bytes at @key joins it? */
bool cli_batch_is_full(const struct cli_batch *b, const char *key, uint64_t len);
/* Another value of about @len bytes, empty yet. There is room. */
struct cli_batch_value *cli_batch_add(struct cli_batch *b, const char *key, uint64_t len);
/* Fill the values from where they come. */
cm_status cli_batch_load(struct cli_batch *b, struct cm_err *err);
/* Compare with what the target has, store what differs, read it again and compare; then the batch
 * is empty. The parts of a certificate are read once more, compared and stored under its lock in
 * the target. What is older than the target's stays out unless --force, and what somebody works on
 * there is left with a word; --dry-run stores nothing. */
cm_status cli_batch_flush(struct cli_batch *b, struct cm_err *err);
void cli_batch_end(struct cli_batch *b);
/* The counts, into an open JSON object. */
void cli_batch_json(const struct cli_batch *b, struct cli_json *j);
/* The counts for a person, on standard output. */
void cli_batch_print(const struct cli_batch *b);

#endif
