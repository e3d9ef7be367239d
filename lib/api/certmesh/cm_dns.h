/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_DNS_H
#define CERTMESH_CM_DNS_H

/* DNS challenges: what an author of a DNS provider fills in, how a provider is opened by a text,
 * and what an ACME issuer is told of it (cm_acme_options.dns). cm.h includes this.
 *
 * certmesh itself follows CNAMEs from _acme-challenge.<name>, finds the zone, notes each record in
 * storage before it is put up, looks at the authoritative servers until all of them show it, and
 * takes it back whatever happens. A provider does one thing: put a TXT record up, and take it down.
 */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One record. Names are lower case A-labels without final dot. All borrowed for the call. */
struct cm_dns_record {
    uint32_t size;
    const char *zone;  /* the zone that @fqdn is in; NULL: not known, the provider finds it */
    const char *fqdn;  /* where the record belongs: CNAMEs were followed */
    const char *type;  /* "TXT" */
    const char *value; /* as text: neither quoted nor escaped; 1..255 printable ASCII characters */
    uint32_t ttl;      /* seconds */
    /* What the record is for; hooks by the conventions of others want to know. */
    const char *ident;             /* the name that the CA validates, without "*." */
    const char *challenge_name;    /* "_acme-challenge.<ident>", before CNAMEs; for dns-account-01
                                      with a label of the account before that */
    const char *token;             /* of the challenge */
    const char *key_authorization; /* @value is its SHA-256 in base64url */
};

struct cm_dns_provider;

struct cm_dns_provider_ops {
    CM_OPS_HEAD;
    /**
     * Put @rec up beside whatever else is at its name: other values stay (a name and its wildcard
     * have one each, at the same time). Idempotent: a record that is there is CM_OK. May be slow,
     * within @op. Errors: CM_E_PERM (not allowed by whoever keeps the zone), CM_E_NOTFOUND (no such
     * zone there): nothing was put up. After others, as CM_E_NET and CM_E_TIMEOUT, the record may
     * or may not be there, and remove is called.
     */
    cm_status (*append)(struct cm_dns_provider *p, const struct cm_op *op,
                        const struct cm_dns_record *rec, struct cm_err *err);
    /** Take down that one value. Idempotent: a record that is not there is CM_OK. Another process
     *  than that which put it up may ask for it, hours later, with the same @rec. */
    cm_status (*remove)(struct cm_dns_provider *p, const struct cm_op *op,
                        const struct cm_dns_record *rec, struct cm_err *err);
    /** Optional: wait until the provider itself says that its servers have the record. certmesh
     *  looks for itself afterwards, unless it is told not to. */
    cm_status (*wait)(struct cm_dns_provider *p, const struct cm_op *op,
                      const struct cm_dns_record *rec, struct cm_err *err);
    /** Which provider and account this is, without secrets ("rfc2136://192.0.2.1:53"); borrowed.
     *  Records that a dead process left are taken down by a provider of the same description. */
    const char *(*describe)(struct cm_dns_provider *p);
    /** Never called while an op runs. */
    void (*destroy)(struct cm_dns_provider *p);
};

/** First member of every provider. Threads: append, remove and wait may be entered by several
 *  threads at once, also for records of one name. */
struct cm_dns_provider {
    const struct cm_dns_provider_ops *ops;
};

struct cm_dns_provider_options {
    uint32_t size;
    const struct cm_env *env; /* NULL = the real one */
    struct cm_log log;
};

/**
 * Open a provider by its text, "NAME:what it needs":
 *   rfc2136://SERVER[:PORT]/?key-file=FILE[&zone=ZONE]   dynamic updates, signed by TSIG; FILE as
 *                                                        tsig-keygen(8) writes it
 *   exec:PROGRAM[?style=lego|lego-raw|dehydrated|uacme][&timeout=SECONDS][&env=NAME,NAME...]
 *       [&parallel=N]                                    a hook made for another ACME client
 *   acme-dns:URL?accounts=FILE[&register=yes][&ca-file=FILE]
 *                                                        a server that answers for challenges only
 *   cloudflare:[URL]?token-file=FILE[&zone-id=ID][&ca-file=FILE]
 * Connects to nobody yet. Secrets are in files only.
 * Errors: CM_E_INVAL (unknown name or parameter, named in the message), CM_E_PERM, CM_E_IO.
 * Ownership: caller; cm_dns_provider_close(). @opts may be NULL.
 */
CM_API CM_MUST_CHECK cm_status cm_dns_provider_open(const char *spec,
                                                    const struct cm_dns_provider_options *opts,
                                                    struct cm_dns_provider **ret,
                                                    struct cm_err *err);
/** NULL is fine. No call may be running. */
CM_API void cm_dns_provider_close(struct cm_dns_provider *p);

/* Gates: contracts as in the table above. */
CM_API CM_MUST_CHECK cm_status cm_dns_provider_append(struct cm_dns_provider *p,
                                                      const struct cm_op *op,
                                                      const struct cm_dns_record *rec,
                                                      struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_dns_provider_remove(struct cm_dns_provider *p,
                                                      const struct cm_op *op,
                                                      const struct cm_dns_record *rec,
                                                      struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_dns_provider_wait(struct cm_dns_provider *p,
                                                    const struct cm_op *op,
                                                    const struct cm_dns_record *rec,
                                                    struct cm_err *err);

/**
 * The DNS side of an ACME issuer (cm_acme_options.dns). Copied, but for @provider_object.
 * With a provider dns-01 and dns-account-01 can be used, and so can wildcards. Unless
 * cm_acme_options.challenges says otherwise dns-01 is then the only challenge for names; addresses
 * are validated as without.
 */
struct cm_dns_options {
    uint32_t size;
    const char *provider;                    /* see cm_dns_provider_open() */
    struct cm_dns_provider *provider_object; /* instead of @provider; borrowed, must outlive the
                                                config */
    const char *const *resolvers; /* "ADDRESS[:PORT]", "[V6]:PORT": recursive servers to look names
                                     up with; none = those of /etc/resolv.conf */
    size_t n_resolvers;           /* at most 8 */
    int64_t timeout_s;            /* for a record to show on all servers; 0 = 120 */
    int64_t poll_ms;              /* between two looks at first, longer later; 0 = 500 */
    bool no_check;                /* do not look at the servers: the CA may be asked too early */
    uint16_t server_port;         /* where servers of zones answer; 0 = 53; others are for labs */
    uint32_t ttl;                 /* of records; 0 = 60 */
};
#define CM_DNS_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_dns_options)                                            \
    }

#ifdef __cplusplus
}
#endif
#endif
