/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ACME_EXTRA_H
#define CERTMESH_CM_ACME_EXTRA_H

/* Options of an ACME issuer that few need: struct cm_acme_options has a pointer to them. */

#include <certmesh/cm_base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Which chain is taken when the CA offers several. */
enum cm_chain_choice {
    CM_CHAIN_ROOT = 0,    /* the first whose last certificate preferred_chain has signed */
    CM_CHAIN_ANY = 1,     /* the first of which preferred_chain has signed any certificate */
    CM_CHAIN_SMALLEST = 2 /* the one of the fewest bytes; preferred_chain is not looked at */
};

/** All strings are copied. */
struct cm_acme_extra {
    uint32_t size;
    /** A chain that cannot be fetched is passed over; when none is as wanted, the CA's default is
     *  taken and a warning logged. */
    enum cm_chain_choice chain;
    /** Ask for certificates that end so long after the order (notAfter, RFC 8555 7.4), 0 = the CA
     *  decides; at most ten years. A CA may refuse any such wish (CM_E_ACME); many do, and have
     *  profiles instead. */
    int64_t lifetime_s;
    /** Ask that they begin so long before the order (notBefore), for clients whose clocks are
     *  behind; 0 = the CA decides; at most 30 days. */
    int64_t backdate_s;
    /** URL of a proxy for all that is asked of the CA: http, https, socks4, socks4a, socks5 or
     *  socks5h, host, port, user and password as in "http://user:pw@proxy.example:3128"; NULL =
     *  none, and the environment is not looked at. Names are resolved by the proxy but with socks4
     *  and socks5. Errors never show the user. */
    const char *proxy;
    /** Hosts that are asked without it, comma separated, as curl has it: "example.com" is that
     *  host and all below it, "*" is all, "10.0.0.0/8" addresses; NULL = none. */
    const char *no_proxy;
};
#define CM_ACME_EXTRA_INIT                                                                         \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_acme_extra)                                             \
    }

#ifdef __cplusplus
}
#endif
#endif
