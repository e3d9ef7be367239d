/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_INDEX_H
#define CM_CORE_INDEX_H

/* Names to certificates: the one structure every handshake reads. Kept behind these calls so that
 * another way of keeping readers and writers apart can be put in its place.
 *
 * Writers are kept apart by their caller (the cache's writer lock). The index borrows: a
 * certificate is removed before its owner gives it up. */

#include "core_private.h"

struct cm_index;
CM_MUST_CHECK cm_status cm_index_new(struct cm_index **ret, struct cm_err *err);
void cm_index_free(struct cm_index *x);

/* Under all its names. All or nothing. */
CM_MUST_CHECK cm_status cm_index_add(struct cm_index *x, struct cm_cert *cert, struct cm_err *err);
void cm_index_remove(struct cm_index *x, struct cm_cert *cert);
/* The certificates of exactly @key, newest first, with a reference each. No allocation; readers do
 * not wait for each other. */
size_t cm_index_find(struct cm_index *x, const char *key, size_t len,
                     struct cm_cert *out[CM_CANDIDATES_MAX]);
/* The same list, borrowed, complete and without references: for the writer alone. */
struct cm_cert *const *cm_index_peek(struct cm_index *x, const char *key, size_t len,
                                     size_t *ret_n);

#endif
