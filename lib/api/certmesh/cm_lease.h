/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_LEASE_H
#define CERTMESH_CM_LEASE_H

/* Many leases (cm_spi.h), one after another. */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The threads that keep leases of one storage alive start with the first and end with the last one
 * held. To start and end them costs more than a short lease itself, so who takes one after another
 * has them stay: while there is a keep, those of @st do not end, but sleep until there is another
 * lease. By itself a keep starts no thread.
 * Ownership: caller; cm_lease_keep_free(), before the storage is closed. A config that gets
 * certificates on demand has one. Threads: any. Fork: the child's copy keeps nothing, and is to be
 * freed all the same. Errors: CM_E_NOMEM, CM_E_INVAL.
 */
struct cm_lease_keep;
CM_API CM_MUST_CHECK cm_status cm_lease_keep_new(struct cm_storage *st, struct cm_lease_keep **ret,
                                                 struct cm_err *err);
/** The last one of a storage ends its threads, unless there are leases. NULL is fine. */
CM_API void cm_lease_keep_free(struct cm_lease_keep *keep);

#ifdef __cplusplus
}
#endif

#endif
