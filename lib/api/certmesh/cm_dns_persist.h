/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_DNS_PERSIST_H
#define CERTMESH_CM_DNS_PERSIST_H

/* dns-persist-01 (draft-ietf-acme-dns-persist): a TXT record that somebody sets once, by hand, and
 * that lets one account at one CA have certificates for a name from then on. Here: what that record
 * is to say, and whether it shows. Orders use it when cm_acme_options.challenges has
 * CM_CHALLENGE_DNSPERSIST01; a DNS provider is not needed then, and of cm_acme_options.dns only the
 * resolvers, timeout_s, no_check and server_port are of matter. Conventions as in cm.h. */

#include <certmesh/cm.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_dns_persist_options {
    uint32_t size;
    bool wildcard;             /* for wildcards, and names below the name, too: policy=wildcard */
    int64_t until_s;           /* Unix time after which the CA takes it no more; 0 = none */
    const char *issuer_domain; /* of the CA; NULL = the first of caaIdentities in its directory */
};
#define CM_DNS_PERSIST_OPTIONS_INIT                                                                \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_dns_persist_options)                                    \
    }

/** Set @size. */
struct cm_dns_persist_record {
    uint32_t size;
    char name[280];   /* "_validation-persist.example.com", lower case A-labels, no final dot */
    char value[1024]; /* of the TXT record, printable ASCII, neither quoted nor escaped. DNS cuts
                         what is longer than 255 bytes into several strings */
    bool wildcard;
};

/**
 * The record for @name ("*.example.com": that of example.com, with policy=wildcard), the ACME CA of
 * cfg and cfg's account there. Blocks: the CA's directory is read. @opts may be NULL.
 * Errors: CM_E_NOTFOUND without an account (cm_account() registers one); CM_E_UNSUPPORTED when cfg
 * has no ACME issuer or its CA tells no domain; CM_E_INVAL for @name and @opts; CM_E_NET.
 */
CM_API CM_MUST_CHECK cm_status cm_dns_persist_record(struct cm_config *cfg, const struct cm_op *op,
                                                     const char *name,
                                                     const struct cm_dns_persist_options *opts,
                                                     struct cm_dns_persist_record *ret,
                                                     struct cm_err *err);
/**
 * Do all servers of the zone show a record that does? That is one of the same CA and account, with
 * policy=wildcard if @want has it, that has not ended; what else is in it may differ. Blocks; asks
 * once, by way of cfg's cm_acme_options.dns, and of a server that does not answer some times more.
 * Errors: CM_E_NOTFOUND, saying of each server what it says; CM_E_NET, CM_E_TIMEOUT: the servers
 * could not be asked.
 */
CM_API CM_MUST_CHECK cm_status cm_dns_persist_check(struct cm_config *cfg, const struct cm_op *op,
                                                    const struct cm_dns_persist_record *want,
                                                    struct cm_err *err);

/**
 * Take down what processes that died have left in DNS for dns-01 and dns-account-01, as far as the
 * provider of cfg put it up; cm_storage_clean() cannot, as only an issuer has a provider. Without
 * one, or with @dry_run, nothing is done. Each DNS challenge does the same, now and then, and
 * so does maintenance that cleans (clean_storage). Blocks.
 * @ret_left (NULL ok): records that are noted in storage afterwards, with those that are wanted
 * just now, or another provider's; at most 256. What goes wrong with a record is logged.
 */
CM_API CM_MUST_CHECK cm_status cm_dns_sweep(struct cm_config *cfg, const struct cm_op *op,
                                            bool dry_run, size_t *ret_left, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
