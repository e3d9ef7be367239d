/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_RECORD_H
#define CM_ISSUERS_DNS_RECORD_H

/* A TXT record that is up, or about to be: whose it is, and the note of it in storage, from which
 * any process of the fleet can take it down. The note lies at certmesh/dns/<id> and says which
 * holder (dns_holder.h) wants the record. */

#include <certmesh/cm_dns.h>

#include "base.h"
#include "dns_holder.h"

struct dns_record {
    struct cm_dns_record pub; /* its texts are those below */
    char *zone;               /* NULL = not known */
    char *fqdn, *value, *ident, *challenge_name, *token, *key_authorization;
    char *provider;            /* what describes it */
    char key[64];              /* in storage */
    struct dns_holder *holder; /* NULL: a note that was read */
    unsigned slot;
    uint64_t fence;
};

/* @zone may be NULL. All is copied. */
CM_MUST_CHECK cm_status dns_record_new(const struct cm_challenge *ch, const char *provider,
                                       const char *challenge_name, const char *fqdn,
                                       const char *zone, uint32_t ttl, struct dns_record **ret,
                                       struct cm_err *err);
/* Gives the holder back, too. NULL ok. */
void dns_record_free(struct dns_record *r);

/* Write the note; @r takes @holder over, whatever happens. */
CM_MUST_CHECK cm_status dns_record_note(struct dns_record *r, struct dns_holder *holder,
                                        struct cm_storage *st, const struct cm_op *op,
                                        struct cm_err *err);
/* The record is gone, its note goes. */
CM_MUST_CHECK cm_status dns_record_forget(struct dns_record *r, struct cm_storage *st,
                                          const struct cm_op *op, struct cm_err *err);
/* Read a note. CM_E_PARSE. */
CM_MUST_CHECK cm_status dns_record_parse(struct cm_span json, struct dns_record **ret,
                                         struct cm_err *err);

/* How many notes there are; at most 256. */
CM_MUST_CHECK cm_status dns_record_count(struct cm_storage *st, const struct cm_op *op, size_t *ret,
                                         struct cm_err *err);
/* Take down what processes that died left, as far as @p is the provider that put it up; @self is
 * this process. Best effort: what goes wrong is logged, and left for the next time. True if nothing
 * was left for it. */
bool dns_record_sweep(struct cm_dns_provider *p, const struct dns_holder *self,
                      struct cm_storage *st, const struct cm_op *op, const struct cm_log *log);

#endif
