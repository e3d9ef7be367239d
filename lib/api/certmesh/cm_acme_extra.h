/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ACME_EXTRA_H
#define CERTMESH_CM_ACME_EXTRA_H

/* Options of an ACME issuer that few need: struct cm_acme_options has a pointer to them. */

#include <certmesh/cm_spi.h>

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
    /** No tokens of http-01 are put into storage: whatever the token, the answer is the token, a
     * dot and the thumbprint of the account's key, as a web server that has port 80 can be told to
     * give it (docs/issuing.md; cm_account() tells the thumbprint). Our own port, and
     * cm_http01_handle(), answer so by themselves. For one issuer of a config at most: which
     * account is meant cannot be seen from a request. */
    bool stateless_http01;
    /** A place of their own in storage for the certificates of this issuer: its issuer key gets "+"
     *  and this at the end; at most 32 of a-z, 0-9 and '-'. The account and the tokens stay those
     * of the CA. Two configs with one cache, of which one has a variant, serve two pairs for a
     * name, one with an ECDSA and one with an RSA key say (docs/issuing.md). NULL = none. */
    const char *variant;
    /** Who asks, in each request to the CA: 1 to 256 printable ASCII characters, by RFC 8555 6.1
     *  program and version; NULL = "certmesh/<version>". */
    const char *user_agent;
    /** One request to the CA takes so long at most, 0 = 60; at most 3600. An issuance is many of
     *  them, see obtain_timeout_s. */
    int64_t request_timeout_s;
    /** CM_CHALLENGE_*: never these, whatever cm_acme_options.challenges or its default says. For
     *  whom a port is not there: cm_listen_names() takes away http-01 so. CM_E_INVAL when none is
     *  left. */
    unsigned never_challenges;
};
#define CM_ACME_EXTRA_INIT                                                                         \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_acme_extra)                                             \
    }

/** For issuers: the thumbprint (base64url, RFC 7638) of the account that orders, for http-01
 * without stored tokens. Any thread; may read storage. @ret has 44 bytes. CM_E_NOTFOUND: no account
 * yet. */
typedef cm_status (*cm_thumbprint_fn)(void *user, const struct cm_op *op, char ret[44],
                                      struct cm_err *err);
/** Answer each http-01 request that fits no open challenge by what @fn says. Stays for the life of
 *  the config. CM_E_EXISTS when another issuer has done so. */
CM_API CM_MUST_CHECK cm_status cm_board_set_thumbprint(struct cm_board *b, cm_thumbprint_fn fn,
                                                       void *user, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
