/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_PERSIST_H
#define CM_ISSUERS_DNS_PERSIST_H

/* dns-persist-01 (draft-ietf-acme-dns-persist): a record that an operator sets once for all.
 * Nothing is put up or taken down here; its solver looks whether the record shows before the CA
 * does.
 *
 * The record is an issue-value (RFC 8659 4.2): "ca.example; accounturi=URL; policy=wildcard;
 * persistUntil=SECONDS". Names of parameters and policies are of any case, the CA's domain and the
 * account are not; what is unknown is passed over. */

#include <certmesh/cm_dns.h>

#include "base.h"
#include "dns.h"

#define DNS_PERSIST       "dns-persist-01"
#define DNS_PERSIST_LABEL "_validation-persist."

/* ---- dns_persist_record.c: pure ---- */

struct dns_persist {
    const char *issuers; /* domain names of the CA, of which one is in the record; " " between */
    const char *account; /* URL */
    bool wildcard;       /* the record has to have policy=wildcard */
    int64_t now_s;       /* when it is looked at */
};
/* CM_E_INVAL when @ident is too long for it. */
CM_MUST_CHECK cm_status dns_persist_name(const char *ident, char ret[DNS_NAME_BUF],
                                         struct cm_err *err);
/* dns_why_not_fn; @user is a struct dns_persist. */
const char *dns_persist_why_not(void *user, const char *text);

/* ---- dns_persist.c: the solver ---- */

struct cm_issuer_host;
/* Of @opts (NULL ok) all but the provider counts. */
CM_MUST_CHECK cm_status cm_solver_persist_new(const struct cm_dns_options *opts,
                                              struct cm_solver **ret, struct cm_err *err);
/* Do all servers of the zone that @name is in show a record that is as @want? @sv NULL: with the
 * resolvers of this machine. @patient: as an order does, which waits when it is told to. */
CM_MUST_CHECK cm_status dns_persist_look(struct cm_solver *sv, const struct cm_op *op,
                                         const char *name, struct dns_persist *want, bool patient,
                                         struct cm_err *err);

#endif
