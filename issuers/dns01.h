/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS01_H
#define CM_ISSUERS_DNS01_H

/* The solver for dns-01 and dns-account-01. Made with the issuer, so that what is wrong with its
 * options is said then; attached before its first challenge. */

#include <certmesh/cm_dns.h>

#include "base.h"

/* What it is given to present: for dns-account-01 also whose challenge it is. */
struct dns01_challenge {
    struct cm_challenge pub;
    const char *account; /* URL; for dns-01 of no matter */
    /* For dns-persist-01 alone: */
    const char *issuers; /* the CA's domain names, separated by spaces */
    bool wildcard;
};

CM_MUST_CHECK cm_status cm_solver_dns01_new(const struct cm_dns_options *opts,
                                            struct cm_solver **ret, struct cm_err *err);
/* @host must outlive the solver. */
void cm_solver_dns01_attach(struct cm_solver *sv, const struct cm_issuer_host *host);
/* Take down now what processes that died left with this provider; what goes wrong with a record is
 * logged. Without any notes it is one look into storage. Attached. */
CM_MUST_CHECK cm_status cm_solver_dns01_sweep(struct cm_solver *sv, const struct cm_op *op,
                                              struct cm_err *err);

#endif
