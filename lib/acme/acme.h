/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ACME_ACME_H
#define CM_ACME_ACME_H

/* The door of lib/acme: an RFC 8555 client. It speaks the protocol and keeps nothing: accounts,
 * journals and policy are the issuer's. Unknown fields, statuses of future documents and unknown
 * challenge types are ignored or reported, never fatal. Objects of several threads run side by
 * side on one client. */

#include <certmesh/cm_acme.h>
#include <certmesh/cm_spi.h>

#include "net.h"
#include "pki.h"

#define CM_ACME_URL_MAX        CM_HTTP_URL_MAX
#define CM_ACME_IDENTS_MAX     256
#define CM_ACME_CHALLENGES_MAX 32
#define CM_ACME_TOKEN_MAX      128
#define CM_ACME_ALTERNATES_MAX 8

/* ---- client: directory, nonces, signed requests ---- */

struct cm_acme;

struct cm_acme_client_options {
    const char *directory_url; /* https; http only with http_options.allow_plain_http */
    struct cm_http_options http;
    const char *allowed_origins; /* comma separated further origins of URLs this CA hands out,
                                    "https://" may be left out; NULL: same origin as the
                                    directory, or origins that the directory itself names (those
                                    must not resolve to loopback or link-local addresses) */
    int64_t poll_first_ns;       /* 0 = 5 ms: first wait before polling, then doubling */
    int64_t poll_cap_ns;         /* 0 = 5 s */
    struct cm_log log;
    struct cm_acme_transport *transport; /* instead of lib/net; borrowed; NULL */
};
CM_MUST_CHECK cm_status cm_acme_new(const struct cm_acme_client_options *opts, struct cm_acme **ret,
                                    struct cm_err *err);
void cm_acme_free(struct cm_acme *a); /* NULL ok */

/* RFC 8555 7.1.1; cached (12 h on the op's clock), fetched again once when an endpoint of it
 * answers 404/405. Borrowed strings live as long as the client. */
struct cm_acme_directory {
    char *new_nonce, *new_account, *new_order;
    char *revoke_cert, *key_change; /* NULL if absent, or not https */
    char *new_authz;                /* NULL if absent */
    char *renewal_info;             /* RFC 9773; NULL if absent */
    char *terms_of_service, *website;
    bool eab_required;
    char **profiles; /* names; NULL-terminated or NULL */
    char **caa;      /* caaIdentities; likewise */
};
CM_MUST_CHECK cm_status cm_acme_directory(struct cm_acme *a, const struct cm_op *op,
                                          const struct cm_acme_directory **ret, struct cm_err *err);

/* How far the clock of @op's environment is ahead of the CA's, in seconds (negative: behind), by
 * the Date of the CA's latest answer. Makes a request when there was no answer yet, or when the
 * latest is old and what it says is more than @alarm_s: the clock may have been set right since.
 * CM_E_NOTFOUND when the CA tells no date. */
CM_MUST_CHECK cm_status cm_acme_clock_skew(struct cm_acme *a, const struct cm_op *op,
                                           int64_t alarm_s, int64_t *ret_skew_s,
                                           struct cm_err *err);

/* How many HTTP requests this client has made; for tests and reports. */
uint64_t cm_acme_request_count(const struct cm_acme *a);

/* ---- account ---- */

enum cm_acme_status {
    CM_ACME_UNKNOWN = 0,
    CM_ACME_PENDING,
    CM_ACME_READY,
    CM_ACME_PROCESSING,
    CM_ACME_VALID,
    CM_ACME_INVALID,
    CM_ACME_DEACTIVATED,
    CM_ACME_REVOKED,
    CM_ACME_EXPIRED
};
const char *cm_acme_status_text(enum cm_acme_status s);

struct cm_acme_account {
    enum cm_acme_status status;
    char *url;       /* Location: the kid */
    char *orders;    /* NULL if absent */
    char **contact;  /* NULL-terminated or NULL */
    bool tos_agreed; /* as the CA says, else as asked */
    char *eab_json;  /* the externalAccountBinding object that was sent; NULL */
    char *json;      /* as the CA sent it */
};
void cm_acme_account_free(struct cm_acme_account *acc); /* members; NULL ok */

/* Who signs. @kid NULL: the key's JWK goes along (newAccount, revocation by certificate key). */
struct cm_acme_signer {
    const struct cm_key *key;
    const char *kid;
};

struct cm_acme_new_account {
    const char *const *contact; /* "mailto:..." */
    size_t n_contact;
    bool tos_agreed;
    bool only_existing;     /* onlyReturnExisting */
    const char *eab_kid;    /* RFC 8555 7.3.4; NULL = none */
    struct cm_span eab_key; /* raw MAC key bytes */
    enum cm_hmac eab_alg;   /* CM_HMAC_SHA256 = HS256 */
};
/* CM_E_ACME with problem accountDoesNotExist when only_existing finds none. *ret_created tells 201
 * from 200; may be NULL. */
CM_MUST_CHECK cm_status cm_acme_account_new(struct cm_acme *a, const struct cm_op *op,
                                            const struct cm_key *key,
                                            const struct cm_acme_new_account *req,
                                            struct cm_acme_account *ret, bool *ret_created,
                                            struct cm_err *err);
CM_MUST_CHECK cm_status cm_acme_account_update(struct cm_acme *a, const struct cm_op *op,
                                               const struct cm_acme_signer *who,
                                               const char *const *contact, size_t n,
                                               struct cm_acme_account *ret, struct cm_err *err);
CM_MUST_CHECK cm_status cm_acme_account_get(struct cm_acme *a, const struct cm_op *op,
                                            const struct cm_acme_signer *who,
                                            struct cm_acme_account *ret, struct cm_err *err);
CM_MUST_CHECK cm_status cm_acme_account_deactivate(struct cm_acme *a, const struct cm_op *op,
                                                   const struct cm_acme_signer *who,
                                                   struct cm_err *err);

/* RFC 8555 7.3.5: the account @who is to be known by @new_key from now on. Sent once: after
 * CM_E_NET and CM_E_TIMEOUT it is not known whether the CA has heard it, and it has to be asked
 * with each key (only_existing). CM_E_ACME with http_status 409: @new_key is another account's.
 * CM_E_UNSUPPORTED: the CA changes no keys. */
CM_MUST_CHECK cm_status cm_acme_key_change(struct cm_acme *a, const struct cm_op *op,
                                           const struct cm_acme_signer *who,
                                           const struct cm_key *new_key, struct cm_err *err);

/* ---- order, authorization, challenge ---- */

struct cm_acme_problem { /* RFC 7807 / 8555 6.7; texts escaped */
    char type[128];
    char detail[512];
    int status;
    bool names_identifiers; /* a subproblem says which identifier it is about */
};

/* err->problem and cm_acme_problem.type are as the CA sent them, usually
 * "urn:ietf:params:acme:error:rateLimited": compare with this; @name with or without the prefix. */
bool cm_acme_problem_is(const char *type, const char *name);

struct cm_acme_order {
    enum cm_acme_status status;
    char *url; /* Location of newOrder, kept over refreshes */
    char *finalize;
    char *certificate; /* NULL until valid */
    char **authz;      /* URLs */
    size_t n_authz;
    struct cm_acme_problem error; /* type "" if none */
    int64_t retry_after_s;        /* of the last answer; 0 = none */
};
void cm_acme_order_free(struct cm_acme_order *o); /* members; NULL ok */

struct cm_acme_new_order {
    const char *const *names; /* normalized; dns and ip identifiers are told apart here */
    size_t n;
    const char *profile;    /* NULL = none */
    const char *replaces;   /* NULL = none */
    const char *not_before; /* RFC 3339; NULL = none */
    const char *not_after;
};
/* The answer's identifiers must be those asked for: CM_E_ACME otherwise. */
CM_MUST_CHECK cm_status cm_acme_order_new(struct cm_acme *a, const struct cm_op *op,
                                          const struct cm_acme_signer *who,
                                          const struct cm_acme_new_order *req,
                                          struct cm_acme_order *ret, struct cm_err *err);
/* Fill or refresh @o from o->url. */
CM_MUST_CHECK cm_status cm_acme_order_get(struct cm_acme *a, const struct cm_op *op,
                                          const struct cm_acme_signer *who, struct cm_acme_order *o,
                                          struct cm_err *err);
/* Poll until the status is none of pending and processing (when @past_pending) or not processing;
 * "ready" and "valid" are CM_OK, "invalid" is CM_E_ACME with the order's error. @o as it stands is
 * judged first, without a request. Polls early, then doubles, obeys Retry-After, ends with @op.
 * CM_E_AGAIN with err->retry_after_s, at once: the CA asks for more time than @op has left, or for
 * more than 5 minutes. */
CM_MUST_CHECK cm_status cm_acme_order_wait(struct cm_acme *a, const struct cm_op *op,
                                           const struct cm_acme_signer *who,
                                           struct cm_acme_order *o, bool past_pending,
                                           struct cm_err *err);
/* POST the CSR; @o becomes the answer (processing or valid). */
CM_MUST_CHECK cm_status cm_acme_order_finalize(struct cm_acme *a, const struct cm_op *op,
                                               const struct cm_acme_signer *who,
                                               struct cm_acme_order *o, struct cm_span csr_der,
                                               struct cm_err *err);

struct cm_acme_challenge {
    char type[32];
    char url[CM_ACME_URL_MAX];
    char token[CM_ACME_TOKEN_MAX + 1]; /* "" when the challenge has none */
    char issuers[512]; /* issuer-domain-names of dns-persist-01, separated by spaces; those that fit
                        */
    enum cm_acme_status status;
    struct cm_acme_problem error;
};
struct cm_acme_authz {
    enum cm_acme_status status;
    char *url;
    bool is_ip;
    bool wildcard;
    char ident[CM_NAME_BUF];              /* without "*." */
    struct cm_acme_challenge *challenges; /* well-formed ones of known shape; others are skipped */
    size_t n_challenges;
    int64_t retry_after_s;
};
void cm_acme_authz_free(struct cm_acme_authz *z); /* members; NULL ok */
CM_MUST_CHECK cm_status cm_acme_authz_get(struct cm_acme *a, const struct cm_op *op,
                                          const struct cm_acme_signer *who, const char *url,
                                          struct cm_acme_authz *ret, struct cm_err *err);
/* Status "deactivated" (RFC 8555 7.5.2). */
CM_MUST_CHECK cm_status cm_acme_authz_deactivate(struct cm_acme *a, const struct cm_op *op,
                                                 const struct cm_acme_signer *who, const char *url,
                                                 struct cm_err *err);
/* Tell the CA that the answer stands: POST {}. */
CM_MUST_CHECK cm_status cm_acme_challenge_accept(struct cm_acme *a, const struct cm_op *op,
                                                 const struct cm_acme_signer *who, const char *url,
                                                 struct cm_err *err);

/* ---- certificate ---- */

/* @ret_pem gets the body verbatim; up to CM_ACME_ALTERNATES_MAX alternate URLs are put into
 * @ret_alternates (NULL-terminated array of strings, freed by cm_acme_strv_free; may be NULL). */
CM_MUST_CHECK cm_status cm_acme_certificate_get(struct cm_acme *a, const struct cm_op *op,
                                                const struct cm_acme_signer *who, const char *url,
                                                struct cm_buf *ret_pem, char ***ret_alternates,
                                                struct cm_err *err);
void cm_acme_strv_free(char **v);
/* @reason RFC 5280 code, -1 = none. alreadyRevoked is CM_OK. */
CM_MUST_CHECK cm_status cm_acme_revoke(struct cm_acme *a, const struct cm_op *op,
                                       const struct cm_acme_signer *who, struct cm_span leaf_der,
                                       int reason, struct cm_err *err);

/* ---- renewal information ---- */

/* RFC 9773 4: ask when the certificate @cert_id (cm_leaf.ari_id) had best be renewed. Unsigned.
 * CM_E_UNSUPPORTED when the CA's directory has no such endpoint, CM_E_NOTFOUND when it does not
 * know the certificate, CM_E_PARSE for what is no usable window. */
CM_MUST_CHECK cm_status cm_acme_renewal_info(struct cm_acme *a, const struct cm_op *op,
                                             const char *cert_id, struct cm_renewal_info *ret,
                                             struct cm_err *err);

/* ---- challenge values ---- */

/* token "." thumbprint (RFC 8555 8.1). */
CM_MUST_CHECK cm_status cm_acme_key_authorization(const char *token, const struct cm_key *key,
                                                  struct cm_buf *ret, struct cm_err *err);

/* ---- parsers of what a CA sends; pure, fuzzed ---- */
CM_MUST_CHECK cm_status cm_acme_parse_problem(struct cm_span json, struct cm_acme_problem *ret,
                                              struct cm_err *err);

#endif
