/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_DNS_DNS_H
#define CM_DNS_DNS_H

/* The door of lib/dns: what a DNS challenge has to know of the DNS. Questions to servers that are
 * given, by UDP and where that is not enough by TCP; where a CNAME leads, which zone a name is in,
 * whether all servers of that zone show a TXT record; and dynamic updates (RFC 2136), signed by
 * TSIG (RFC 8945).
 *
 * Names are text: lower case, without final dot, "" the root. Bytes that no host name has are '?'
 * in names that come from outside; no name of ours has one. Whatever blocks ends soon after the
 * op's deadline, or when it is canceled. Errors name the server. */

#include "base.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define DNS_NAME_MAX    253
#define DNS_NAME_BUF    256
#define DNS_PORT        53
#define DNS_SERVERS_MAX 8
#define DNS_TXT_MAX     255

/* ---- a server ---- */

struct dns_server {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    socklen_t len;
    char text[64]; /* "192.0.2.1:53", "[2001:db8::1]:53" */
};
/* "ADDRESS", "ADDRESS:PORT", "[V6]:PORT". CM_E_INVAL. */
CM_MUST_CHECK cm_status dns_server_parse(const char *text, uint16_t default_port,
                                         struct dns_server *ret, struct cm_err *err);

/* ---- a resolver: immutable, shared by threads ---- */

struct dns_resolver;

struct dns_resolver_options {
    const char *const *servers; /* n_servers 0: those of /etc/resolv.conf, looked at now */
    size_t n_servers;
    uint16_t zone_port; /* where servers of zones answer; 0 = 53 */
};
CM_MUST_CHECK cm_status dns_resolver_new(const struct dns_resolver_options *opts,
                                         struct dns_resolver **ret, struct cm_err *err);
/* NULL ok. */
void dns_resolver_free(struct dns_resolver *r);

/* Where CNAMEs lead from @name, itself if nowhere. One that a "*" record makes is not followed: it
 * is gone as soon as something is put at the name. CM_E_LIMIT after 8, which may be a loop.
 * Not whether there is anything at that name. */
CM_MUST_CHECK cm_status dns_follow(const struct dns_resolver *r, const struct cm_op *op,
                                   const char *name, char ret[DNS_NAME_BUF], struct cm_err *err);
/* The zone that @name is in, or would be. CM_E_NOTFOUND: no domain of its is there. */
CM_MUST_CHECK cm_status dns_zone_of(const struct dns_resolver *r, const struct cm_op *op,
                                    const char *name, char ret[DNS_NAME_BUF], struct cm_err *err);
/* First the IPv4 addresses of @host, then the others; at most DNS_SERVERS_MAX, *ret_n at least 1.
 * @host may be an address. */
CM_MUST_CHECK cm_status dns_addresses(const struct dns_resolver *r, const struct cm_op *op,
                                      const char *host, uint16_t port,
                                      struct dns_server ret[DNS_SERVERS_MAX], size_t *ret_n,
                                      struct cm_err *err);
/**
 * Wait until all servers of @zone (NULL: it is looked for) show the TXT record, looking again every
 * @poll_ns, later up to 8 times as long. A server that never answers does not hold it up for ever
 * when others show it; then *ret_silent, which may be NULL, is set.
 * Errors: CM_E_TIMEOUT, saying of each server what it says; CM_E_NET, CM_E_NOTFOUND.
 */
CM_MUST_CHECK cm_status dns_wait_shown(const struct dns_resolver *r, const struct cm_op *op,
                                       const char *zone, const char *name, const char *value,
                                       int64_t poll_ns, bool *ret_silent, struct cm_err *err);

/* Does that text do? NULL if so, else why not, as in "has a record that <...>"; "" when
 * the record is about something else. */
typedef const char *(*dns_why_not_fn)(void *user, const char *text);
/**
 * The same for a record of which not every letter is known. @poll_ns 0: servers that do not answer
 * are asked again, but what they say counts at once: CM_E_NOTFOUND.
 */
CM_MUST_CHECK cm_status dns_wait_fitting(const struct dns_resolver *r, const struct cm_op *op,
                                         const char *zone, const char *name, dns_why_not_fn why_not,
                                         void *user, int64_t poll_ns, bool *ret_silent,
                                         struct cm_err *err);

/* ---- updates ---- */

#define DNS_SECRET_MAX 512u

/* What signs: name, algorithm, secret. */
struct dns_key;
/* A file as tsig-keygen writes it, with one key; others may not read it. CM_E_PARSE, CM_E_PERM. */
CM_MUST_CHECK cm_status dns_key_load(const char *path, struct dns_key **ret, struct cm_err *err);
CM_MUST_CHECK cm_status dns_key_parse(struct cm_span text, struct dns_key **ret,
                                      struct cm_err *err);
const char *dns_key_name(const struct dns_key *k);
void dns_key_free(struct dns_key *k); /* NULL ok */

struct dns_update {
    const char *zone;
    const char *name;
    const char *value; /* of the TXT record, 1..DNS_TXT_MAX bytes */
    uint32_t ttl;
    bool remove; /* this one value goes; else it is added */
};
/* Have @server do it; what is done already is CM_OK. @key may be NULL: unsigned. CM_E_PERM (key or
 * right), CM_E_NOTFOUND (it is not the primary server of the zone), CM_E_NET, CM_E_TIMEOUT. */
CM_MUST_CHECK cm_status dns_update(const struct dns_server *server, const struct cm_op *op,
                                   const struct dns_key *key, const struct dns_update *what,
                                   struct cm_err *err);

#endif
