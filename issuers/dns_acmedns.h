/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_ACMEDNS_H
#define CM_ISSUERS_DNS_ACMEDNS_H

/* Private to the acme-dns provider: the file of accounts, one JSON object, a member for each name,
 * as lego, acme-dns-client and acme-dns-certbot write it. */

#include "dns_provider.h"

struct json_object;

#define ACMEDNS_FILE_MAX (1024u * 1024)

struct acmedns_account {
    char fulldomain[254];
    char subdomain[254];
    char username[129];
    char password[257];
    char server_url[512]; /* "": not said */
};

/* All accounts. CM_E_NOTFOUND: there is no file; CM_E_PERM: others can read it; CM_E_PARSE. Caller
 * puts it. */
CM_MUST_CHECK cm_status acmedns_load(const char *file, struct json_object **ret,
                                     struct cm_err *err);
/* The account of @rec: the one whose name the record was led to, else that of the name itself.
 * CM_E_NOTFOUND: none; CM_E_PARSE names the damaged one. */
CM_MUST_CHECK cm_status acmedns_find(struct json_object *all, const struct cm_dns_record *rec,
                                     struct acmedns_account *ret, struct cm_err *err);
/* One account from its JSON: of safe characters alone. */
CM_MUST_CHECK cm_status acmedns_read(struct json_object *o, struct acmedns_account *ret,
                                     struct cm_err *err);
/* Put @a in for @name and replace the file (mode 0600), or make it. */
CM_MUST_CHECK cm_status acmedns_save(const char *file, struct json_object *all, const char *name,
                                     const struct acmedns_account *a, struct cm_err *err);

#endif
