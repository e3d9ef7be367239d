/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_MANAGE_H
#define CERTMESH_CM_MANAGE_H

/* What cm.h says of managing names, beyond cm_manage() and cm_manage_async(): a token to end it
 * with, and certificates that are loaded and never ordered. A part of cm.h, which includes it. */

#include <certmesh/cm_base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_config;
struct cm_cert;

/**
 * cm_manage_async() that can be ended: once @cancel is fired, nothing more is begun for those of
 * @names that have no certificate yet, and an order that is running for one of them is given up (it
 * is in the journal: who comes next goes on with it). What is served by then stays so and is looked
 * after as ever; what is being loaded from storage just then may still come to be served.
 *
 * A name that was ended stays managed. Its state is CM_PHASE_FAILED with CM_E_CANCELED, and nothing
 * is tried by itself any more; handshakes for it are refused; a call that manages it anew begins
 * anew. A name that cm_manage() is waiting for goes on. Of several calls in the background for a
 * name that is not served yet the last one's token counts, NULL being one that is never fired.
 *
 * Ownership: @cancel is the caller's, who may free it at any time; NULL = cm_manage_async().
 * Threads: any. Errors: CM_E_INVAL before any name is noted, CM_E_NOMEM.
 */
CM_API CM_MUST_CHECK cm_status cm_manage_async_cancel(struct cm_config *cfg,
                                                      const char *const *names, size_t n,
                                                      struct cm_cancel *cancel, struct cm_err *err);

/**
 * Serve the certificate that storage has for @name, and never order one: neither now nor later.
 * Reads storage in the calling thread; no network beyond that.
 *
 * From then on the name is managed (cm_name_state() says load_only), and the certificate is looked
 * after as others are, as far as that needs no order: stapled, watched for revocation, told of when
 * it is about to expire, loaded again when the cache had to give it up. Its successor is for others
 * to get: one that they store is served as soon as the storage tells of it, or when it is looked
 * for, which is when this one is due for renewal and every ten minutes after that (more often near
 * its end). What is found revoked is not served any more. When it has expired, it is served until
 * there is another.
 * A name that is managed already is served from storage all the same and stays managed in full;
 * one that is only loaded becomes that by cm_manage(), cm_manage_async() or cm_https().
 *
 * @ret: NULL, or where a reference goes. Threads: any.
 * Errors: CM_E_NOTFOUND (nothing in storage: the name is not managed by this call), CM_E_CERT (what
 * is there has expired, is revoked, or does not begin for hours), CM_E_INVAL; those of storage.
 */
CM_API CM_MUST_CHECK cm_status cm_cache_managed(struct cm_config *cfg, const struct cm_op *op,
                                                const char *name, struct cm_cert **ret,
                                                struct cm_err *err);

/**
 * cm_manage() with one certificate for all of @names, instead of one each: ordered together,
 * renewed and stapled as one (a renewal names its predecessor, as ever), and stored under all its
 * names, where cm_obtain() with the same names puts it and finds it. Each of @names is served by
 * it, and tells its state by cm_name_state(); the fleet remembers one state of failures for all.
 * What is told of it (on_progress, events, status, logs) calls it by its names, sorted and joined
 * by ','.
 *
 * A name is managed in one way: CM_E_EXISTS, and nothing is changed, if one of @names is managed by
 * itself already or together with others. The same names once more, in any order, are the same
 * certificate; cm_manage() for one of them leaves it as it is. At most 100 names; one name is as in
 * cm_manage().
 *
 * Blocks until it is served or has failed. Errors: as cm_manage(), and CM_E_EXISTS.
 */
CM_API CM_MUST_CHECK cm_status cm_manage_together(struct cm_config *cfg, const struct cm_op *op,
                                                  const char *const *names, size_t n,
                                                  struct cm_err *err);
/** The same in the background, as cm_manage_async_cancel(); @cancel may be NULL. */
CM_API CM_MUST_CHECK cm_status cm_manage_together_async(struct cm_config *cfg,
                                                        const char *const *names, size_t n,
                                                        struct cm_cancel *cancel,
                                                        struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
