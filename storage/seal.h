/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_SEAL_H
#define CM_STORAGE_SEAL_H

/* Inside of the sealed storage: the keys and one value (seal_keys.c), the storage around another
 * (seal.c), what is wrong in it (seal_check.c). The format is in docs/storage-format.md. */

#include "storage.h"

#define SEAL_ID_MAX   8u
#define SEAL_KEY_SIZE 32u
#define SEAL_KEYS_MAX 16u
/* "CMSEAL1\n", key id, nonce before the ciphertext; tag behind it */
#define SEAL_MAGIC    "CMSEAL1\n"
#define SEAL_OVERHEAD (8u + SEAL_ID_MAX + 12u + 16u)

struct seal_key {
    char id[SEAL_ID_MAX]; /* padded with NUL, not ended by it */
    uint8_t bytes[SEAL_KEY_SIZE];
};

struct seal_keys {
    struct seal_key key[SEAL_KEYS_MAX]; /* the first one seals, all open */
    size_t n;
};

/* Lines "ID KEY", ID of 1 to 8 letters, digits, '-' and '_', KEY 64 hex digits; '#' begins a
 * comment. @from is for messages, which never have a key in them. */
CM_MUST_CHECK cm_status seal_keys_parse(struct cm_span text, const char *from,
                                        struct seal_keys *ret, struct cm_err *err);
void seal_keys_clear(struct seal_keys *k);

bool seal_is_sealed(struct cm_span stored);
/* Is it sealed with the key that seals now? */
bool seal_is_current(const struct seal_keys *k, struct cm_span stored);
/* Append @plain, sealed for the place @path, to @out. */
CM_MUST_CHECK cm_status seal_close(const struct seal_keys *k, const struct cm_env *env,
                                   const char *path, struct cm_span plain, struct cm_buf *out,
                                   struct cm_err *err);
/* Append what is in @stored to @out (unchanged on failure). CM_E_PERM: no key of that id, or it
 * does not open it: a wrong key, damage, or a value that was moved here from another place. */
CM_MUST_CHECK cm_status seal_open(const struct seal_keys *k, const char *path,
                                  struct cm_span stored, struct cm_buf *out, struct cm_err *err);

/* Where sealed values lie, and how they are read. */
struct seal_place {
    struct cm_storage *inner;
    const struct seal_keys *keys;
    bool refuse_plain; /* CM_E_PERM for what is not sealed */
};
CM_MUST_CHECK cm_status seal_read(const struct seal_place *p, const char *key,
                                  struct cm_span stored, struct cm_buf *out, struct cm_err *err);
/* The operation check of the storage. */
CM_MUST_CHECK cm_status seal_check(const struct seal_place *p, const struct cm_op *op, bool repair,
                                   cm_check_fn each, void *user, struct cm_err *err);

/* "sealed:?keys=FILE&in=URL" without the scheme. */
CM_MUST_CHECK cm_status cm_storage_sealed_open(const char *rest,
                                               const struct cm_storage_open_options *opts,
                                               struct cm_storage **ret, struct cm_err *err);

#endif
