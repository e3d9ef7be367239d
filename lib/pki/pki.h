/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_PKI_H
#define CM_PKI_PKI_H

/* The door of lib/pki: keys, CSRs, chains, names. The only room that makes or parses keys; nobody
 * else touches key material but through these calls. GnuTLS types stay inside, except where
 * lib/tls asks for a handle to serve with (pki_gnutls.h). */

#include "base.h"

/* ------------------------------------------------------------------ digests */

#define CM_SHA256_LEN 32
/* No failure: GnuTLS's digest of memory cannot fail but by broken set-up (asserted). */
void cm_sha256(struct cm_span in, uint8_t out[CM_SHA256_LEN]);

enum cm_hmac { CM_HMAC_SHA256, CM_HMAC_SHA384, CM_HMAC_SHA512 };
CM_MUST_CHECK cm_status cm_hmac(enum cm_hmac alg, struct cm_span key, struct cm_span in,
                                struct cm_buf *out, struct cm_err *err);
/* Constant time. */
bool cm_equal_ct(struct cm_span a, struct cm_span b);

/* -------------------------------------------------------------------- names */

#define CM_NAME_MAX 253
#define CM_NAME_BUF 256

enum cm_name_flags {
    CM_NAME_ALLOW_WILDCARD = 1, /* "*.example.com": only the whole first label */
    CM_NAME_ALLOW_IP = 2,       /* IPv4, IPv6 with or without brackets, zone id refused */
    CM_NAME_ALLOW_UNDERSCORE = 4
};

/**
 * The one form in which a name is used for anything: trimmed, IDNA A-labels (RFC 5891 with the
 * UTS 46 mapping, not transitional, by libidn2; the wildcard label is split off before), lower
 * case, no final dot, LDH labels of 1..63, 253 in all, the last not all digits; an IP address as
 * RFC 5952 and Go print it, IPv4-mapped as IPv4.
 * @ret has CM_NAME_BUF bytes. Errors: CM_E_INVAL naming the name and what is wrong with it.
 */
CM_MUST_CHECK cm_status cm_name_normalize(const char *in, unsigned flags, char *ret,
                                          struct cm_err *err);
/* For a normalized name. */
bool cm_name_is_ip(const char *name);
bool cm_name_is_wildcard(const char *name);
/* localhost, .localhost .local .internal .home.arpa, loopback
 * and private addresses: nothing a public CA certifies. certmagic-compatible list. */
bool cm_name_is_internal(const char *name);
/* May a public CA be asked? Not internal, and a wildcard has at least two labels after the '*'.
 * Whether that CA certifies addresses is for its issuer to know. */
bool cm_name_is_public(const char *name);
/* Does the pattern (a SAN: exact, or wildcard for one label) cover @name? Both normalized. */
bool cm_name_covers(const char *pattern, const char *name);
/* "1.2.0.192.in-addr.arpa" / nibble form of a normalized IP: RFC 8738 6. */
CM_MUST_CHECK cm_status cm_name_reverse_arpa(const char *ip, char *ret /* CM_NAME_BUF */,
                                             struct cm_err *err);
/* The inverse for an SNI: true and the canonical IP in @ret when @name is such a reverse name. */
bool cm_name_from_arpa(const char *name, char *ret /* CM_NAME_BUF */);

/* --------------------------------------------------------------------- keys */

enum cm_pk { /* the same values as enum cm_key_type of cm.h */
             CM_PK_DEFAULT = 0,
             CM_PK_P256 = 1,
             CM_PK_P384 = 2,
             CM_PK_RSA2048 = 3,
             CM_PK_RSA4096 = 4,
             CM_PK_ED25519 = 5,
             CM_PK_RSA3072 = 6,
             CM_PK_RSA8192 = 7,
             CM_PK_OTHER = 100 /* loaded, not one of ours (P-521, RSA of another size) */
};
const char *cm_pk_name(enum cm_pk t); /* "p256" ... */
CM_MUST_CHECK cm_status cm_pk_parse(const char *name, enum cm_pk *ret, struct cm_err *err);

#define CM_KEY_PEM_MAX (16u * 1024)

/* A private key. Immutable, reference counted, wiped at the end. Threads: any. */
struct cm_key;
CM_MUST_CHECK cm_status cm_key_generate(enum cm_pk type, struct cm_key **ret, struct cm_err *err);
/* In the PKCS#11 token at @url ("pkcs11:token=NAME?pin-source=file:PATH"), named @label there. The
 * key is kept as its URL with the public half. Blocks for as long as the token does.
 * Errors: CM_E_INVAL for the URL; CM_E_IO for the token, CM_E_PERM for its PIN; CM_E_UNSUPPORTED
 * for a type that it does not make. */
CM_MUST_CHECK cm_status cm_key_generate_at(const char *url, enum cm_pk type, const char *label,
                                           struct cm_key **ret, struct cm_err *err);
/* Is it in a token? Then its DER is of no use to others. */
bool cm_key_is_elsewhere(const struct cm_key *key);
/* May keys be made at @url? Looks at the text alone. */
CM_MUST_CHECK cm_status cm_key_url_check(const char *url, struct cm_err *err);
/* First private-key block; any label "PRIVATE KEY" or "* PRIVATE KEY"; PKCS#1, PKCS#8, SEC1 tried
 * whatever the label says (Go writes "ED25519 PRIVATE KEY" around PKCS#8). Encrypted: CM_E_KEY.
 * Or the URL of a key in a token, and its "PUBLIC KEY"; without that the token is asked now. */
CM_MUST_CHECK cm_status cm_key_from_pem(struct cm_span pem, struct cm_key **ret,
                                        struct cm_err *err);
CM_MUST_CHECK cm_status cm_key_from_der(struct cm_span der, struct cm_key **ret,
                                        struct cm_err *err);
/* EC: "EC PRIVATE KEY" (SEC1, named curve and public key, scalar of exact width). RSA: PKCS#1.
 * Ed25519: PKCS#8 "PRIVATE KEY". @out must be a secret buffer. */
CM_MUST_CHECK cm_status cm_key_to_pem(const struct cm_key *key, struct cm_buf *out,
                                      struct cm_err *err);
/* The same as DER: the cache's compact form. */
CM_MUST_CHECK cm_status cm_key_to_der(const struct cm_key *key, struct cm_buf *out,
                                      struct cm_err *err);
struct cm_key *cm_key_ref(struct cm_key *key);
void cm_key_unref(struct cm_key *key); /* NULL ok */
enum cm_pk cm_key_type_of(const struct cm_key *key);
/* Do its two halves fit? Reading a key takes the public half as it stands, since this costs a
 * point multiplication or worse. CM_E_KEY if not. */
CM_MUST_CHECK cm_status cm_key_check(const struct cm_key *key, struct cm_err *err);
/* Does the public half equal that of the DER certificate? */
CM_MUST_CHECK cm_status cm_key_matches_cert(const struct cm_key *key, struct cm_span leaf_der,
                                            bool *ret, struct cm_err *err);

/* ---------------------------------------------------------- tokens that go away */

/* Is the key of this DER (cm_key_to_der) in a token that is away just now? Quick; one atomic read
 * while none is. @err may get the reason. */
bool cm_key_is_away(struct cm_span key_der, struct cm_err *err);
/* Open again what is away and due; where modules may be initialized anew, and it takes that, they
 * are. Blocks for as long as tokens do; of several threads one does it. How long until there is
 * something to do again; INT64_MAX: nothing is away. */
int64_t cm_tokens_tend(void);
/* One key whose token went away or came back. */
struct cm_token_news {
    struct cm_span url;
    bool away;
    int64_t for_ns;  /* it has been, or was */
    const char *why; /* of the last attempt */
};
/* Tell what has changed since @after (at first 0); returns what to ask with the next time. */
uint64_t cm_tokens_news(uint64_t after, void (*tell)(void *user, const struct cm_token_news *n),
                        void *user);
/* Somebody who calls cm_tokens_tend() when there is something to do. @changed is called on any
 * thread and must be quick; not any more once cm_token_watch_end() has returned. */
struct cm_token_watch {
    void (*changed)(struct cm_token_watch *w);
    struct cm_token_watch *next; /* lib/pki's */
};
void cm_token_watch_begin(struct cm_token_watch *w);
void cm_token_watch_end(struct cm_token_watch *w);

/* --------------------------------------------------------- JOSE (RFC 7515-8) */

/* "ES256", "ES384", "RS256", "EdDSA" for @key; NULL if it cannot sign JWS. */
const char *cm_key_jws_alg(const struct cm_key *key);
/* Raw JWS signature (R||S of fixed width for EC) over @input. */
CM_MUST_CHECK cm_status cm_key_jws_sign(const struct cm_key *key, struct cm_span input,
                                        struct cm_buf *sig, struct cm_err *err);
/* Public JWK as JSON, members in lexicographic order, no white space: the RFC 7638 form, so that
 * its SHA-256 is the thumbprint. */
CM_MUST_CHECK cm_status cm_key_jwk(const struct cm_key *key, struct cm_buf *json,
                                   struct cm_err *err);
/* base64url(SHA-256(JWK)): 43 characters and NUL. */
#define CM_THUMBPRINT_BUF 44
CM_MUST_CHECK cm_status cm_key_thumbprint(const struct cm_key *key, char ret[CM_THUMBPRINT_BUF],
                                          struct cm_err *err);

/* ----------------------------------------------------------------------- CSR */

/* PKCS#10 DER: empty subject, SANs by type (IP, DNS), self-signed with @key's usual hash; with
 * @must_staple the TLS feature extension (RFC 7633). Names normalized, n >= 1, n <= 256. */
CM_MUST_CHECK cm_status cm_csr_make(const struct cm_key *key, const char *const *names, size_t n,
                                    bool must_staple, struct cm_buf *ret_der, struct cm_err *err);
/* The same with @ext_list, as cm_csr_ext_add() made it; empty = none. */
CM_MUST_CHECK cm_status cm_csr_make_ext(const struct cm_key *key, const char *const *names,
                                        size_t n, bool must_staple, struct cm_span ext_list,
                                        struct cm_buf *ret_der, struct cm_err *err);

/* ---- csr_ext.c: extensions beside the names and must-staple (cm_config_extra.h) ---- */

/* Append one to @list. CM_E_INVAL (OID, value, twice, one that is not to be asked for), CM_E_LIMIT.
 */
CM_MUST_CHECK cm_status cm_csr_ext_add(const char *oid, bool critical, struct cm_span value,
                                       struct cm_buf *list, struct cm_err *err);
/* Are those in the request just @list, in its order? */
bool cm_csr_ext_is(struct cm_span csr_der, struct cm_span list);

/* Append as PEM. */
CM_MUST_CHECK cm_status cm_csr_to_pem(struct cm_span csr_der, struct cm_buf *out,
                                      struct cm_err *err);
/* Is the request @key's, and signed? Errors: CM_E_PARSE, CM_E_KEY, CM_E_CERT. */
CM_MUST_CHECK cm_status cm_csr_check(struct cm_span csr_der, const struct cm_key *key,
                                     struct cm_err *err);

/* A request that somebody else made, PEM or DER, as DER. CM_E_PARSE; CM_E_LIMIT over
 * CM_CERT_DER_MAX. */
CM_MUST_CHECK cm_status cm_csr_read(struct cm_span text, struct cm_buf *ret_der,
                                    struct cm_err *err);
/* Is it signed by the key that it is for, and that key of a kind and size in use? CM_E_CERT if not.
 * @ret gets the SHA-256 of its public key. */
CM_MUST_CHECK cm_status cm_csr_verify(struct cm_span csr_der, uint8_t ret[CM_SHA256_LEN],
                                      struct cm_err *err);
/* The names that it is for, normalized; freed by cm_csr_names_free(). CM_E_INVAL when there are
 * none, or others than DNS names and addresses. */
CM_MUST_CHECK cm_status cm_csr_names(struct cm_span csr_der, char ***ret, size_t *ret_n,
                                     struct cm_err *err);
void cm_csr_names_free(char **names, size_t n); /* NULL ok */
/* Is the certificate for the request's key? */
bool cm_csr_is_for(struct cm_span csr_der, struct cm_span leaf_der);

/* -------------------------------------------------------------------- chains */

#define CM_CHAIN_PEM_MAX   (256u * 1024)
#define CM_CHAIN_CERTS_MAX 10
#define CM_CERT_DER_MAX    (64u * 1024)
#define CM_CERT_SANS_MAX   1000

/* DER certificates, leaf first, in one allocation. */
struct cm_chain {
    struct cm_span der[CM_CHAIN_CERTS_MAX];
    size_t n;
    uint8_t *bytes; /* owns what der[] points into */
};
/* By explicit length; text between blocks is skipped; other PEM blocks are an error. */
CM_MUST_CHECK cm_status cm_chain_from_pem(struct cm_span pem, struct cm_chain *ret,
                                          struct cm_err *err);
void cm_chain_free(struct cm_chain *c);
/* Canonical PEM: 64 columns, LF. */
CM_MUST_CHECK cm_status cm_chain_to_pem(const struct cm_chain *c, struct cm_buf *out,
                                        struct cm_err *err);
CM_MUST_CHECK cm_status cm_cert_der_to_pem(struct cm_span der, struct cm_buf *out,
                                           struct cm_err *err);

/* What core wants to know of a leaf. One allocation, plain data. */
struct cm_leaf {
    char **names; /* SANs dns and ip, normalized, in certificate order, each once; the CN only if
                   * there is no SAN */
    size_t n_names;
    size_t n_other_sans; /* SANs of other kinds, or that no client could match (not in names) */
    bool names_from_cn;  /* there was no SAN extension */
    int64_t not_before_s;
    int64_t not_after_s; /* the last second of validity */
    uint8_t serial[24];  /* content octets, with sign byte */
    size_t serial_len;
    char serial_hex[49]; /* lower case, no sign byte */
    char issuer_cn[128]; /* escaped; CN of the issuer, else its O, else "" */
    char subject_cn[128];
    enum cm_pk key_type;
    bool is_ca;
    bool must_staple;
    bool self_issued;
    char ocsp_url[256]; /* first AIA OCSP URI, "" = none */
    char ari_id[128];   /* RFC 9773 4.1, "" when there is no AKI */
};
CM_MUST_CHECK cm_status cm_leaf_parse(struct cm_span der, struct cm_leaf **ret, struct cm_err *err);
void cm_leaf_free(struct cm_leaf *l); /* NULL ok */

/**
 * The acceptance rules before anything issued is stored (and for anything loaded that is to be
 * served as managed): leaf key equals @key; SAN set equals @names exactly (when @exact_names, else
 * covers each); notBefore <= now + @skew_s, now <= notAfter; not a CA; serverAuth EKU if any EKU;
 * every certificate is signed by the next, in order; at least one intermediate unless self-issued;
 * counts and sizes within limits; key not weaker than RSA 2048. Errors: CM_E_CERT with the rule
 * and the values. @key NULL: whose it is has been seen to (cm_csr_is_for).
 */
CM_MUST_CHECK cm_status cm_chain_accept(const struct cm_chain *c, const struct cm_key *key,
                                        const char *const *names, size_t n, bool exact_names,
                                        int64_t now_s, int64_t skew_s, struct cm_err *err);
/* Is what has lain in storage still what it was? The leaf is for @key, of which both halves fit,
 * and what comes after it is its issuer; every certificate that is followed by its issuer is signed
 * by it. Not asked: names, dates, purpose, and whether the chain is complete; of the last
 * certificate only its own CA could tell, and of one signed by an algorithm that is not accepted
 * here (SHA-1, unknown ones) clients may know more. Errors: CM_E_KEY, CM_E_CERT, CM_E_PARSE. */
CM_MUST_CHECK cm_status cm_chain_check(const struct cm_chain *c, const struct cm_key *key,
                                       struct cm_err *err);
/* Is a root signed by its own key? CM_E_CERT if not. */
CM_MUST_CHECK cm_status cm_cert_check_own(struct cm_span der, struct cm_err *err);
/* Common name of the certificate that is at the top of the chain's issuers (preferred chains). */
CM_MUST_CHECK cm_status cm_chain_top_issuer_cn(const struct cm_chain *c, char *ret, size_t ret_size,
                                               struct cm_err *err);
/* Common name of who signed the @i-th certificate; CM_E_INVAL when there is none. */
CM_MUST_CHECK cm_status cm_chain_issuer_cn(const struct cm_chain *c, size_t i, char *ret,
                                           size_t ret_size, struct cm_err *err);

/* --------------------------------------------------------------------- OCSP */

/* What an OCSP response says of itself. Nothing is verified: for looking at what is kept, never for
 * a decision on a certificate. */
struct cm_ocsp_peek {
    int64_t this_update_s;
    int64_t next_update_s; /* 0 = none; of several answers the latest */
    bool revoked;          /* one of its answers is "revoked" */
};
/* False if @der is not a successful basic response (RFC 6960 4.2.1). Pure. */
CM_MUST_CHECK bool cm_ocsp_peek(struct cm_span der, struct cm_ocsp_peek *ret);

/* --------------------------------------------------------------- tls-alpn-01 */

/* Self-signed certificate of RFC 8737 3 (SAN = the identifier, critical acmeIdentifier) with a
 * fresh P-256 key. @ident normalized dns or IP. */
CM_MUST_CHECK cm_status cm_tlsalpn_make(const char *ident, const char *key_authorization,
                                        int64_t now_s, struct cm_buf *ret_cert_der,
                                        struct cm_key **ret_key, struct cm_err *err);
/* What may be another than by default; zero is the default. */
struct cm_tlsalpn_how {
    struct cm_key *key;    /* borrowed; NULL = a fresh P-256 key */
    const char *cn;        /* of subject and issuer; NULL = "ACME challenge" */
    struct cm_span serial; /* its bytes, positive; empty = random */
    int64_t not_before_s;  /* 0 = an hour ago */
    int64_t not_after_s;   /* 0 = 30 days from now */
};
/* *@ret_key is a reference to how->key, or the fresh one. */
CM_MUST_CHECK cm_status cm_tlsalpn_make_how(const char *ident, const char *key_authorization,
                                            int64_t now_s, const struct cm_tlsalpn_how *how,
                                            struct cm_buf *ret_cert_der, struct cm_key **ret_key,
                                            struct cm_err *err);

/* ------------------------------------------------------------------ local CA */

/* Self-signed P-256 root; CN as given; @days of validity. */
CM_MUST_CHECK cm_status cm_ca_make_root(const char *cn, int64_t now_s, int days,
                                        struct cm_key **ret_key, struct cm_buf *ret_cert_der,
                                        struct cm_err *err);
CM_MUST_CHECK cm_status cm_ca_make_intermediate(const char *cn, const struct cm_key *root_key,
                                                struct cm_span root_der, int64_t now_s, int days,
                                                struct cm_key **ret_key,
                                                struct cm_buf *ret_cert_der, struct cm_err *err);
/* Sign a CSR (its own signature and SANs checked): server certificate for exactly @names. Never
 * outlives @ca_der. */
CM_MUST_CHECK cm_status cm_ca_sign_csr(const struct cm_key *ca_key, struct cm_span ca_der,
                                       struct cm_span csr_der, const char *const *names, size_t n,
                                       int64_t now_s, int64_t lifetime_s,
                                       struct cm_buf *ret_leaf_der, struct cm_err *err);

#endif
