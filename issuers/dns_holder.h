/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_HOLDER_H
#define CM_ISSUERS_DNS_HOLDER_H

/* That this process is alive, for those who find its records: as long as it has some it holds one
 * of the locks dns_0, dns_1, ... Each note of a record says which, and its fence. So a note is of a
 * process that died when that lock can be had, or is held with another fence. The locks are few and
 * used again, as a storage keeps something of every lock for ever. */

#include <certmesh/cm_spi.h>

#include "base.h"

struct dns_holder;  /* one lock that is held; counted */
struct dns_holders; /* the present one of this process */

CM_MUST_CHECK cm_status dns_holders_new(struct dns_holders **ret, struct cm_err *err);
/* All holders are given back. NULL ok. */
void dns_holders_free(struct dns_holders *h);
/* The present one, or a lock is taken; one thread does, others wait for it. Give it back by
 * dns_holder_put(). CM_E_BUSY when all locks are taken. */
CM_MUST_CHECK cm_status dns_holder_get(struct dns_holders *h, struct cm_storage *st,
                                       const struct cm_op *op, const struct cm_log *log,
                                       struct dns_holder **ret, struct cm_err *err);
/* The last one gives up the lock. NULL ok. */
void dns_holder_put(struct dns_holder *one);
unsigned dns_holder_slot(const struct dns_holder *one);
uint64_t dns_holder_fence(const struct dns_holder *one);

/* Try to take the lock @slot once, for sweeping what its holder left. CM_E_BUSY: it lives. */
CM_MUST_CHECK cm_status dns_holder_try(struct cm_storage *st, const struct cm_op *op, unsigned slot,
                                       const struct cm_log *log, struct cm_lease **ret,
                                       struct cm_err *err);

#define DNS_SLOTS 1024u

#endif
