/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ACCOUNT_H
#define CERTMESH_CM_ACCOUNT_H

/* What cm.h has not said of ACME accounts, see cm_account() there. Conventions as in cm.h. */

#include <certmesh/cm.h>

#ifdef __cplusplus
extern "C" {
#endif

/** See cm_account_rollover(). */
struct cm_rollover_options {
    uint32_t size;
    enum cm_key_type key_type; /* of the next key; DEFAULT = P-256 */
};

/**
 * Give the account of cfg another key (RFC 8555 7.3.5): its URL, its orders and what hangs on it
 * stay. A process may be killed at any point of it: the next key is in storage before the CA hears
 * of it, and the next call finishes what was begun, with that key, whatever @opts (NULL ok) says.
 * Nodes that sign with the old key look into storage when the CA refuses it, and go on with the new
 * one. Blocks; the account's lock is held.
 *
 * @ret (NULL ok): the account, its thumbprint that of the new key.
 * Errors: CM_E_NOTFOUND without an account; CM_E_POLICY when the config's own account key
 * (account_key_file) is in use; CM_E_UNSUPPORTED when the CA changes no keys, or cfg has no ACME
 * issuer; CM_E_NET, CM_E_TIMEOUT, CM_E_ACME: which key holds is found out by the next call.
 */
CM_API CM_MUST_CHECK cm_status cm_account_rollover(struct cm_config *cfg, const struct cm_op *op,
                                                   const struct cm_rollover_options *opts,
                                                   struct cm_account_info *ret, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
