/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_PROVIDER_H
#define CM_ISSUERS_DNS_PROVIDER_H

/* What DNS providers share: the table of openers, and how their texts are read. A new provider is a
 * file dns_NAME.c, its opener here, and a row in dns_open.c. */

#include <certmesh/cm_dns.h>

#include "base.h"

/* @rest is what comes after "NAME:" of the text. @opts is complete (env is set). Errors need not
 * name the provider: the caller does. */
typedef cm_status (*dns_opener)(const char *rest, const struct cm_dns_provider_options *opts,
                                struct cm_dns_provider **ret, struct cm_err *err);

cm_status dns_rfc2136_open(const char *rest, const struct cm_dns_provider_options *opts,
                           struct cm_dns_provider **ret, struct cm_err *err);
cm_status dns_exec_open(const char *rest, const struct cm_dns_provider_options *opts,
                        struct cm_dns_provider **ret, struct cm_err *err);
cm_status dns_acmedns_open(const char *rest, const struct cm_dns_provider_options *opts,
                           struct cm_dns_provider **ret, struct cm_err *err);
cm_status dns_cloudflare_open(const char *rest, const struct cm_dns_provider_options *opts,
                              struct cm_dns_provider **ret, struct cm_err *err);

/* ---- "?name=value&name=value" ---- */

struct dns_param {
    const char *name;
    char **value; /* where a copy goes, percent-decoded; caller frees, also after an error */
};
/* @query without its '?'; "" and NULL are none. Errors: CM_E_INVAL for a name that is not in
 * @known, twice the same, no value, bytes that are not text. */
CM_MUST_CHECK cm_status dns_read_params(const char *query, const struct dns_param *known, size_t n,
                                        struct cm_err *err);

#endif
