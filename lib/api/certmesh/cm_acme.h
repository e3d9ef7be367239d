/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ACME_H
#define CERTMESH_CM_ACME_H

/* A client for RFC 8555, call by call, for programs that want the protocol and nothing else: no
 * storage, no renewal, no solver. Those who want certificates use cm_manage(). Included by cm.h.
 *
 * A client is one account's: any number of threads may use it at the same time. Every call obeys
 * @op; badNonce and failures that pass are retried inside, Retry-After is obeyed while waiting. A
 * refusal of the CA is CM_E_ACME or CM_E_RATELIMITED, its problem type in err->problem, its words
 * in err->msg, its patience in err->retry_after_s. URLs that are not of the directory's origin, nor
 * named in it, are not asked. */

#include <certmesh/cm_base.h>
#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- transport */

/** One HTTP exchange. Borrowed for the call. */
struct cm_acme_exchange {
    uint32_t size;
    const char *method; /* "GET", "HEAD", "POST" */
    const char *url;
    const char *content_type; /* NULL = none */
    const char *accept;       /* NULL = none */
    struct cm_span body;
    bool refuse_local; /* the URL is not the directory's: fail with CM_E_POLICY if its host resolves
                          to a loopback or link-local address */
};

/** How requests go to the CA, if not by certmesh's own HTTP. */
struct cm_acme_transport;
struct cm_acme_transport_ops {
    CM_OPS_HEAD;
    /** CM_OK for any complete answer: its status, its header lines ("Name: value", each ended by a
     *  line feed) and its body, appended; both buffers have their maximum. Any thread. Errors:
     *  CM_E_NET, CM_E_TLS, CM_E_TIMEOUT, CM_E_CANCELED, CM_E_LIMIT. */
    cm_status (*exchange)(struct cm_acme_transport *t, const struct cm_op *op,
                          const struct cm_acme_exchange *x, int *ret_status,
                          struct cm_buf *ret_headers, struct cm_buf *ret_body, struct cm_err *err);
};
struct cm_acme_transport {
    const struct cm_acme_transport_ops *ops;
};

/* ---------------------------------------------------------------- documents */

/**
 * An object of the CA (account, order, authorization, challenge) as it was sent: nothing is lost
 * that this version does not know. Immutable; accessors take paths of members and indices, such as
 * "status", "identifier.value", "challenges.0.token", and return what lives as long as it.
 */
struct cm_acme_doc;
CM_API void cm_acme_doc_free(struct cm_acme_doc *d);                   /* NULL is fine */
CM_API const char *cm_acme_doc_url(const struct cm_acme_doc *d);       /* where it was got */
CM_API struct cm_span cm_acme_doc_json(const struct cm_acme_doc *d);   /* as sent */
CM_API int64_t cm_acme_doc_retry_after_s(const struct cm_acme_doc *d); /* 0 = none */
/** The string there; NULL when there is none. */
CM_API const char *cm_acme_doc_text(const struct cm_acme_doc *d, const char *path);
/** Members of the array there; 0 when there is none. */
CM_API size_t cm_acme_doc_count(const struct cm_acme_doc *d, const char *path);
/** The boolean or integer there (true is 1), else @otherwise. */
CM_API int64_t cm_acme_doc_int(const struct cm_acme_doc *d, const char *path, int64_t otherwise);
/** Index of the challenge of this type in an authorization; -1 when there is none. */
CM_API int cm_acme_doc_challenge(const struct cm_acme_doc *d, const char *type);

/* Values of "status" (RFC 8555 7.1.6). */
#define CM_ACME_STATUS_PENDING     "pending"
#define CM_ACME_STATUS_READY       "ready"
#define CM_ACME_STATUS_PROCESSING  "processing"
#define CM_ACME_STATUS_VALID       "valid"
#define CM_ACME_STATUS_INVALID     "invalid"
#define CM_ACME_STATUS_DEACTIVATED "deactivated"
#define CM_ACME_STATUS_REVOKED     "revoked"
#define CM_ACME_STATUS_EXPIRED     "expired"

/* ------------------------------------------------------------------- client */

struct cm_acme_client;
struct cm_acme_client_config {
    uint32_t size;
    const char *directory_url;      /* NULL = Let's Encrypt */
    struct cm_span account_key_pem; /* mandatory: EC P-256 or P-384, RSA, Ed25519 */
    const char *account_url;        /* NULL: asked for by the key when it is needed */
    const char *user_agent;         /* NULL = "certmesh/<version>" */
    const char *ca_root_file;       /* PEM trust for the CA's HTTPS; NULL = system's */
    const char *proxy;              /* URL; NULL = none */
    const char *allowed_origins;    /* comma separated further origins of the CA's URLs; NULL */
    bool allow_plain_http;          /* tests only */
    int64_t poll_first_ms;          /* before the second look at what is awaited, then doubling */
    int64_t poll_cap_ms;            /* 0 = 5 and 5000 */
    struct cm_acme_transport *transport; /* borrowed; NULL = certmesh's own */
    struct cm_log log;
};
#define CM_ACME_CLIENT_CONFIG_INIT                                                                 \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_acme_client_config)                                     \
    }
/** All is copied; no network use. Errors: CM_E_INVAL, CM_E_POLICY (not https), CM_E_KEY,
 *  CM_E_UNSUPPORTED (a key of a type that signs no requests). */
CM_API CM_MUST_CHECK cm_status cm_acme_client_new(const struct cm_acme_client_config *cfg,
                                                  struct cm_acme_client **ret, struct cm_err *err);
/** No call may be running. NULL is fine. */
CM_API void cm_acme_client_free(struct cm_acme_client *c);

/** What the CA offers (RFC 8555 7.1.1). Strings live as long as the client; NULL if absent. */
struct cm_acme_info {
    uint32_t size;
    const char *new_nonce, *new_account, *new_order;
    const char *new_authz, *revoke_cert, *key_change, *renewal_info;
    const char *terms_of_service, *website;
    const char *const *caa;      /* names for CAA records; NULL-terminated, or NULL */
    const char *const *profiles; /* likewise */
    bool eab_required;
};
/** The directory, kept for 12 hours. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_discover(struct cm_acme_client *c,
                                                       const struct cm_op *op,
                                                       struct cm_acme_info *ret,
                                                       struct cm_err *err);

/* ------------------------------------------------------------------ account */

struct cm_acme_registration {
    uint32_t size;
    const char *const *contact; /* "mailto:..." */
    size_t n_contact;
    bool tos_agreed;
    const char *eab_kid;     /* external account; NULL = none */
    const char *eab_mac_key; /* base64url */
    const char *eab_alg;     /* NULL = "HS256"; "HS384", "HS512" */
};
/** Make the account of the client's key. *ret_created (NULL ok) is false when the CA had it
 *  already, which is no error. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_register(struct cm_acme_client *c,
                                                       const struct cm_op *op,
                                                       const struct cm_acme_registration *reg,
                                                       struct cm_acme_doc **ret, bool *ret_created,
                                                       struct cm_err *err);
/** Find the account of the client's key. CM_E_NOTFOUND: there is none. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_account(struct cm_acme_client *c,
                                                      const struct cm_op *op,
                                                      struct cm_acme_doc **ret, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_acme_client_update(struct cm_acme_client *c,
                                                     const struct cm_op *op,
                                                     const char *const *contact, size_t n,
                                                     struct cm_acme_doc **ret, struct cm_err *err);
/** For good. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_deactivate(struct cm_acme_client *c,
                                                         const struct cm_op *op,
                                                         struct cm_err *err);

/** Another key for the account (RFC 8555 7.3.5), which the client uses from then on. Keep the new
 * key where it is not lost before: after CM_E_NET or CM_E_TIMEOUT the CA may have heard of it, and
 *  cm_acme_client_account() with each key tells. CM_E_ACME with http_status 409: it is another
 *  account's. CM_E_UNSUPPORTED: the CA changes no keys. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_key_change(struct cm_acme_client *c,
                                                         const struct cm_op *op,
                                                         struct cm_span new_key_pem,
                                                         struct cm_err *err);

/* ------------------------------------------------- orders and authorizations */

enum cm_acme_id_type { CM_ACME_ID_DNS = 0, CM_ACME_ID_IP = 1 };
struct cm_acme_id {
    enum cm_acme_id_type type;
    const char *value; /* a name in any form that cm_normalize_name() takes */
};
struct cm_acme_order_request {
    uint32_t size;
    const struct cm_acme_id *ids; /* 1 to 256 */
    size_t n_ids;
    int64_t not_before_s; /* seconds since 1970; 0 = the CA's choice */
    int64_t not_after_s;
    const char *profile;  /* NULL = the CA's choice */
    const char *replaces; /* RFC 9773 certificate id; NULL */
};
/** Order; the document's URL is the order's, "authorizations" is what has to be made valid. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_order(struct cm_acme_client *c,
                                                    const struct cm_op *op,
                                                    const struct cm_acme_order_request *req,
                                                    struct cm_acme_doc **ret, struct cm_err *err);
/** An order, authorization or challenge by its URL, as it is now. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_get(struct cm_acme_client *c, const struct cm_op *op,
                                                  const char *url, struct cm_acme_doc **ret,
                                                  struct cm_err *err);
/** Wait until an order is ready or valid. Else CM_E_ACME with the order's problem; CM_E_AGAIN with
 *  err->retry_after_s, at once, when the CA asks for more time than @op has, or than 5 minutes. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_wait_order(struct cm_acme_client *c,
                                                         const struct cm_op *op, const char *url,
                                                         struct cm_acme_doc **ret,
                                                         struct cm_err *err);
/** Likewise until an authorization is valid; the problem is that of its challenge. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_wait_authz(struct cm_acme_client *c,
                                                         const struct cm_op *op, const char *url,
                                                         struct cm_acme_doc **ret,
                                                         struct cm_err *err);
/** An authorization before there is an order. CM_E_UNSUPPORTED: not at this CA (nor at most). */
CM_API CM_MUST_CHECK cm_status cm_acme_client_authorize(struct cm_acme_client *c,
                                                        const struct cm_op *op,
                                                        const struct cm_acme_id *id,
                                                        struct cm_acme_doc **ret,
                                                        struct cm_err *err);
/** Give an authorization up, so that it does not stay pending or valid. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_deactivate_authz(struct cm_acme_client *c,
                                                               const struct cm_op *op,
                                                               const char *url, struct cm_err *err);
/** Tell the CA that the answer to the challenge at @url stands. @ret may be NULL. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_accept(struct cm_acme_client *c,
                                                     const struct cm_op *op, const char *url,
                                                     struct cm_acme_doc **ret, struct cm_err *err);

/* --------------------------------------------------------- challenge answers */

/** "/.well-known/acme-challenge/<token>"; appended. CM_E_PARSE for what is no token. */
CM_API CM_MUST_CHECK cm_status cm_acme_http01_path(const char *token, struct cm_buf *ret,
                                                   struct cm_err *err);
/** What has to be answered there: the key authorization. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_http01_response(struct cm_acme_client *c,
                                                              const char *token, struct cm_buf *ret,
                                                              struct cm_err *err);
/** The TXT record for _acme-challenge.<name>. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_dns01_value(struct cm_acme_client *c,
                                                          const char *token, struct cm_buf *ret,
                                                          struct cm_err *err);
/** The certificate for a handshake with "acme-tls/1" alone, with a fresh P-256 key. For an address
 *  the handshake asks for its reverse name. @ret_key_pem is a secret buffer. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_tlsalpn01_cert(
    struct cm_acme_client *c, const char *token, const struct cm_acme_id *id,
    struct cm_buf *ret_cert_pem, struct cm_buf *ret_key_pem, struct cm_err *err);
/** What of that certificate may be another. Zero means default. */
struct cm_acme_tlsalpn_options {
    uint32_t size;
    struct cm_span key_pem;  /* the program's private key; empty = a fresh P-256 one */
    const char *common_name; /* UTF-8, of subject and issuer; NULL = "ACME challenge" */
    struct cm_span serial;   /* 1 to 20 bytes, positive, highest first; empty = random */
    int64_t not_before_s;    /* 0 = an hour ago */
    int64_t not_after_s;     /* 0 = in 30 days */
};
/** The same with @opts (NULL = all defaults). What makes it an answer, the name and the hash of the
 *  key authorization, cannot be changed. @ret_key_pem may be NULL when @opts has a key. Errors:
 *  CM_E_INVAL naming the option; CM_E_PARSE and CM_E_KEY for the key. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_tlsalpn01_cert_with(
    struct cm_acme_client *c, const char *token, const struct cm_acme_id *id,
    const struct cm_acme_tlsalpn_options *opts, struct cm_buf *ret_cert_pem,
    struct cm_buf *ret_key_pem, struct cm_err *err);
/** RFC 7638 thumbprint of a private key's public half; @ret has 44 bytes. */
CM_API CM_MUST_CHECK cm_status cm_acme_jwk_thumbprint(struct cm_span key_pem, char ret[44],
                                                      struct cm_err *err);

/* -------------------------------------------------------------- certificates */

/** Hand in the request for certificate; @url is the order's "finalize". */
CM_API CM_MUST_CHECK cm_status cm_acme_client_finalize(struct cm_acme_client *c,
                                                       const struct cm_op *op, const char *url,
                                                       struct cm_span csr_der,
                                                       struct cm_acme_doc **ret,
                                                       struct cm_err *err);
/** All that follows once @order is ready: finalize, wait, fetch. The chain is appended to
 *  @ret_pem, leaf first; *ret_order (NULL ok) has the certificate's URL. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_create_order_cert(
    struct cm_acme_client *c, const struct cm_op *op, const struct cm_acme_doc *order,
    struct cm_span csr_der, struct cm_buf *ret_pem, struct cm_acme_doc **ret_order,
    struct cm_err *err);
/** The chain at @url, verbatim; the URLs of other chains for the same leaf go to *ret_alternates
 *  (NULL ok), NULL-terminated or NULL; cm_acme_urls_free(). Each is fetched by this, too. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_fetch_cert(struct cm_acme_client *c,
                                                         const struct cm_op *op, const char *url,
                                                         struct cm_buf *ret_pem,
                                                         char ***ret_alternates,
                                                         struct cm_err *err);
CM_API void cm_acme_urls_free(char **urls); /* NULL is fine */
/** Revoke. @cert_key_pem empty: the account asks, else the certificate's own key does. @reason: 0
 * to 6, 8 to 10 (RFC 5280 5.3.1), -1 = none; many CAs take 0, 1, 3, 4 and 5 only. What is revoked
 *  already is CM_OK. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_revoke(struct cm_acme_client *c,
                                                     const struct cm_op *op,
                                                     struct cm_span cert_key_pem,
                                                     struct cm_span leaf_der, int reason,
                                                     struct cm_err *err);
/** When the CA wants the certificate renewed (RFC 9773). CM_E_UNSUPPORTED, CM_E_NOTFOUND. */
CM_API CM_MUST_CHECK cm_status cm_acme_client_renewal_info(struct cm_acme_client *c,
                                                           const struct cm_op *op,
                                                           struct cm_span leaf_der,
                                                           struct cm_renewal_info *ret,
                                                           struct cm_err *err);

/* ------------------------------------------------------------------- errors */

/** Did the CA say that there were too many requests? Then *ret_s (NULL ok) is how long to wait; 0
 *  when it does not say. */
CM_API bool cm_acme_rate_limit(const struct cm_err *err, int64_t *ret_s);

/* ------------------------------------------------------------------ obsolete */

/* What other clients have, and the world has given up. Each is CM_E_UNSUPPORTED and says what took
 * its place. */
/** ACME before RFC 8555: a certificate without an order. */
CM_API cm_status cm_acme_client_create_cert(struct cm_acme_client *c, const struct cm_op *op,
                                            struct cm_span csr_der, struct cm_err *err);
/** tls-sni-01 and -02. */
CM_API cm_status cm_acme_client_tlssni01_cert(struct cm_acme_client *c, const char *token,
                                              struct cm_err *err);
CM_API cm_status cm_acme_client_tlssni02_cert(struct cm_acme_client *c, const char *token,
                                              struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
