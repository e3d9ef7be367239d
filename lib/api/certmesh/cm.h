/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_H
#define CERTMESH_CM_H

/* What a program that embeds certmesh calls. Order of use: options -> cm_config_new -> cm_manage
 * (or cm_manage_async) -> cm_config_tls_setup per connection, or cm_https for everything in one.
 *
 * Conventions. Handles are opaque; _new pairs with _free, _ref with _unref, all take NULL. A
 * returned `const char *` is borrowed until the object dies. "ret_" parameters are written only on
 * CM_OK. Options start with their size and zero means default. The last parameter is an error that
 * may be NULL. Unless said otherwise a function may be called from any thread. The library changes
 * nothing process-wide: no signals, no umask, no locale, no atexit. */

#include <certmesh/cm_acme.h>
#include <certmesh/cm_acme_extra.h>
#include <certmesh/cm_adapter.h>
#include <certmesh/cm_autocert.h>
#include <certmesh/cm_cas.h>
#include <certmesh/cm_config_extra.h>
#include <certmesh/cm_csr.h>
#include <certmesh/cm_dns.h>
#include <certmesh/cm_keys.h>
#include <certmesh/cm_life.h>
#include <certmesh/cm_listen.h>
#include <certmesh/cm_names.h>
#include <certmesh/cm_ondemand.h>
#include <certmesh/cm_spi.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#ifdef __cplusplus
extern "C" {
#endif

/** "0.1.0" of the library that is running. */
CM_API const char *cm_version(void);

/* ---------------------------------------------------------------- key types */

enum cm_key_type {
    CM_KEY_DEFAULT = 0, /* P-256 */
    CM_KEY_P256 = 1,
    CM_KEY_P384 = 2,
    CM_KEY_RSA2048 = 3,
    CM_KEY_RSA4096 = 4,
    CM_KEY_ED25519 = 5,
    CM_KEY_RSA3072 = 6,
    CM_KEY_RSA8192 = 7 /* takes seconds to make; public CAs refuse it */
};
/** "p256", ... ; NULL for an unknown value. */
CM_API const char *cm_key_type_name(enum cm_key_type t);
/** Errors: CM_E_INVAL listing the known names. */
CM_API CM_MUST_CHECK cm_status cm_key_type_parse(const char *name, enum cm_key_type *ret,
                                                 struct cm_err *err);

/* ------------------------------------------------------------------ options */

#define CM_CA_LETSENCRYPT         "https://acme-v02.api.letsencrypt.org/directory"
#define CM_CA_LETSENCRYPT_STAGING "https://acme-staging-v02.api.letsencrypt.org/directory"

enum cm_challenge_bits {
    CM_CHALLENGE_HTTP01 = 1,
    CM_CHALLENGE_TLSALPN01 = 2,
    CM_CHALLENGE_DNS01 = 4,
    CM_CHALLENGE_DNSACCOUNT01 = 8,
    CM_CHALLENGE_DNSPERSIST01 = 16 /* see cm_dns_persist.h */
};

/** The ACME CA that a config orders from. All strings are copied. */
struct cm_acme_options {
    const char *directory_url; /* NULL = CM_CA_LETSENCRYPT; always a full https URL */
    const char *email;         /* NULL = account without contact */
    bool agreed;               /* you have agreed to the CA's terms of service; else CM_E_POLICY */
    const char *ca_root_file;  /* PEM trust for the CA's own HTTPS; NULL = system's */
    const char *eab_kid;       /* external account binding; NULL = none */
    const char *eab_mac_key;   /* base64url */
    const char *eab_alg;       /* NULL = "HS256"; "HS384", "HS512" */
    const char *account_key_file;      /* PEM of an account that exists; NULL = kept in storage */
    enum cm_key_type account_key_type; /* of a new account; DEFAULT = P-256 */
    unsigned challenges;               /* CM_CHALLENGE_*; 0 = all */
    const char *profile;               /* NULL = the CA's default */
    const char *preferred_chain;       /* common name of the root the chain should lead to; NULL */
    int64_t obtain_timeout_s;          /* one whole issuance; 0 = 300 */
    bool allow_plain_http;             /* tests only */
    const char *test_directory_url;    /* after a failure an order is tried there first, and its
                                          certificate thrown away; NULL = none */
    size_t rate_events;                /* new orders in any window of rate_window_ms; 0 = as the CA
                                          is known to allow (docs/renewal.md) */
    int64_t rate_window_ms;            /* -1 = no limit of our own */
    bool disable_ari;                  /* do not ask for renewal information */
    const struct cm_dns_options *dns;  /* NULL = no DNS challenges, so no wildcards */
    const struct cm_acme_extra *extra; /* copied; NULL = all defaults; see cm_acme_extra.h */
    void *reserved[4];
};

struct cm_config;
struct cm_cache;
struct cm_cert;
struct cm_hello;

/** See cm_config_options.on_progress. */
typedef void (*cm_progress_fn)(void *user, const char *name, enum cm_phase phase,
                               const struct cm_err *err);

/** Choose among certificates that match a hello's name; NULL = the built-in ranking. Must return
 *  one of @certs or NULL (= built-in after all). Called without locks; must not block. */
typedef struct cm_cert *(*cm_select_fn)(void *user, const struct cm_hello *hello,
                                        struct cm_cert *const *certs, size_t n);

/** In which order several issuers are tried. */
enum cm_issuer_policy { CM_ISSUERS_IN_ORDER = 0, CM_ISSUERS_RANDOM };

/** Ask another responder than the certificate says. @to "" = none at all, no staple. */
struct cm_ocsp_override {
    const char *from; /* URL in the certificate */
    const char *to;
};

struct cm_config_options {
    uint32_t size;
    const char *storage;               /* URL, see cm_storage_open(); NULL = default place */
    struct cm_storage *storage_object; /* instead of @storage; borrowed, must outlive the config */
    struct cm_cache *cache;            /* shared by several configs, borrowed; NULL = own one */
    struct cm_acme_options acme;
    bool internal;              /* use the local CA instead of ACME; no network at all */
    struct cm_issuer **issuers; /* instead of acme/internal; the config takes them
                                   over when cm_config_new() succeeds */
    size_t n_issuers;
    enum cm_key_type key_type;
    bool reuse_key; /* keep the key over renewals; default: a fresh one */
    bool must_staple;
    const char *default_name;  /* name assumed when the client sends no SNI */
    const char *fallback_name; /* name served when the client's SNI matches nothing */
    const char *listen_host;   /* for ports this config opens; NULL = all addresses */
    uint16_t http_port;        /* 0 = 80 */
    uint16_t tls_port;         /* 0 = 443 */
    unsigned max_parallel;     /* issuances at once; 0 = 10 */
    int64_t handshake_wait_ms; /* how long a hello may wait for a certificate on its way;
                                  0 = 8000; negative = not at all */
    double renew_ratio;        /* renew when less than this part of the lifetime is left;
                                  0 = 1/3, and 1/2 for lifetimes below ten days */
    cm_select_fn select;
    void *select_user;
    cm_progress_fn on_progress; /* called from worker threads */
    void *progress_user;
    struct cm_log log;
    const struct cm_env *env; /* NULL = the real one */
    bool disable_tickets;     /* no TLS session tickets */
    const char *priority;     /* GnuTLS priority string; NULL = "NORMAL:-VERS-ALL:
                                 +VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE" */
    int64_t renew_before_s;   /* renew so long before the end, instead of by ratio; 0 = ratio */
    enum cm_issuer_policy issuer_policy;
    cm_event_fn on_event;
    void *event_user;
    struct cm_key_source *key_source; /* borrowed; NULL = keys are made here; cm_keys.h */
    struct cm_fetcher *fetcher;       /* borrowed; for OCSP and CRL; NULL = built in */
    bool disable_ocsp;                /* no staples, and revocation is not looked for by OCSP */
    bool disable_crl;                 /* CRLs of certificates without OCSP are not watched */
    bool fetch_local; /* OCSP and CRL addresses may be loopback or link-local ones */
    const struct cm_ocsp_override *ocsp_overrides; /* copied */
    size_t n_ocsp_overrides;
    bool clean_storage;       /* let maintenance clean the storage, once per fleet and interval */
    int64_t clean_interval_s; /* 0 = a day */
    int64_t clean_grace_s;    /* 0 = 14 days */
    /* A local file, encrypted, with what is served, so that the program starts while the storage is
     * away; NULL = none (docs/embedding.md). */
    const char *snapshot;
    const char *snapshot_key_file; /* its key: 32 bytes, or 64 hex digits; not for others' eyes */
    bool private_tickets;      /* keys of session tickets stay in this process; default: those who
                                  share the storage share them, see docs/fleet.md */
    int64_t ticket_rotation_s; /* another key after that; 0 = 12 hours; a minute to a week */
    bool announce;             /* this node can be seen by others, see cm_fleet_each() */
    const char *node_name;     /* what to call it there; NULL = as the host */
    int64_t poll_storage_s;    /* what others change in storage is seen after that at the latest,
                                  even if nobody tells of it; 0 = 10 minutes; 10 s to a day;
                                  negative: only what the storage tells of, and when it is due */
    const struct cm_ondemand_options *on_demand; /* names that clients ask for; NULL = none */
    const struct cm_config_extra *extra; /* copied; NULL = all defaults; see cm_config_extra.h */
};
#define CM_CONFIG_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_config_options)                                         \
    }

/**
 * Check the options, open the storage, set up the issuer. No network use.
 * Immutable from here on. Errors: CM_E_INVAL naming the option; those of cm_storage_open().
 */
CM_API CM_MUST_CHECK cm_status cm_config_new(const struct cm_config_options *opts,
                                             struct cm_config **ret, struct cm_err *err);
/** Cancels background work, waits for it (at most some seconds), releases locks. Sessions set up
 *  with this config must be gone. Not from a callback. */
CM_API void cm_config_free(struct cm_config *cfg);
/** Storage in use; borrowed. */
CM_API struct cm_storage *cm_config_storage(struct cm_config *cfg);
CM_API struct cm_cache *cm_config_cache(struct cm_config *cfg);
/** The config's issuers in order; NULL past the end. Borrowed. */
CM_API struct cm_issuer *cm_config_issuer(struct cm_config *cfg, size_t i);

/* ------------------------------------------------------------------ managing */

/**
 * Make sure every name has a valid certificate in the cache: loaded from storage, or ordered.
 * Blocks until each name is served or has failed; the error is the first failure's, the other
 * names go on. Names: DNS, "*.": only with a DNS challenge, IP addresses.
 * Ownership: @names is copied. Threads: any; calls for one name share one order, in this process
 * and across all processes on the same storage.
 * Errors: CM_E_INVAL, CM_E_POLICY (refused before any network use), CM_E_ACME (err->problem is
 * the RFC 8555 6.7 type), CM_E_RATELIMITED (err->retry_after_s), CM_E_TIMEOUT, CM_E_CANCELED, ...
 */
CM_API CM_MUST_CHECK cm_status cm_manage(struct cm_config *cfg, const struct cm_op *op,
                                         const char *const *names, size_t n, struct cm_err *err);
/**
 * The same in the background: returns when the names are noted. What storage has is served as
 * soon as it is loaded; handshakes for a name still on its way wait for it (handshake_wait_ms).
 * Failures are logged, told to on_progress, and seen by cm_name_state().
 */
CM_API CM_MUST_CHECK cm_status cm_manage_async(struct cm_config *cfg, const char *const *names,
                                               size_t n, struct cm_err *err);

struct cm_name_state {
    uint32_t size;
    bool managed;
    bool served; /* a certificate for it is in the cache */
    bool busy;   /* a job is running or queued */
    enum cm_phase phase;
    struct cm_err last; /* last failure; status CM_OK if none */
    unsigned attempts;  /* failures in a row that were the CA's, as the whole fleet counts them */
    int64_t next_try_s; /* after a failure: seconds since 1970; INT64_MAX: only once something was
                           changed; 0 = now */
    bool on_demand;     /* a client asked for it */
    bool load_only;     /* nothing is ordered for it, see cm_cache_managed() */
};
/** CM_E_NOTFOUND for a name that is not managed. */
CM_API CM_MUST_CHECK cm_status cm_name_state(struct cm_config *cfg, const char *name,
                                             struct cm_name_state *ret, struct cm_err *err);

struct cm_obtain_result {
    uint32_t size;
    bool already_there; /* storage held a valid one; nothing was ordered */
    int64_t not_after_s;
    char issuer_key[256];
};
/** Obtain into storage without loading into the cache. One name, or several as one certificate
 *  (SANs; stored under all its names, see docs/storage-format.md). When no CA takes an order just
 *  now it waits, ten minutes at most and no longer than @op has left; else CM_E_RATELIMITED when a
 *  CA wants to be left alone, or CM_E_AGAIN: nothing was ordered, err->retry_after_s says when to
 *  come back. The same goes for cm_renew(). */
CM_API CM_MUST_CHECK cm_status cm_obtain(struct cm_config *cfg, const struct cm_op *op,
                                         const char *const *names, size_t n,
                                         struct cm_obtain_result *ret, struct cm_err *err);
/** Renew what storage holds for @name when due, or always with @force. What is there and damaged
 *  is obtained anew. CM_E_NOTFOUND when there is nothing. */
CM_API CM_MUST_CHECK cm_status cm_renew(struct cm_config *cfg, const struct cm_op *op,
                                        const char *name, bool force, struct cm_obtain_result *ret,
                                        struct cm_err *err);
/** Revoke what storage holds for @name at its CA (@reason as enum cm_revoke_reason), then remove it
 *  from storage and cache unless @keep. */
CM_API CM_MUST_CHECK cm_status cm_revoke(struct cm_config *cfg, const struct cm_op *op,
                                         const char *name, int reason, bool keep,
                                         struct cm_err *err);

/* -------------------------------------------------------------- certificates */

/** Immutable, reference counted. */
CM_API struct cm_cert *cm_cert_ref(struct cm_cert *c);
CM_API void cm_cert_unref(struct cm_cert *c);
CM_API size_t cm_cert_name_count(const struct cm_cert *c);
CM_API const char *cm_cert_name(const struct cm_cert *c, size_t i); /* NULL past the end */
CM_API int64_t cm_cert_not_before_s(const struct cm_cert *c);
CM_API int64_t cm_cert_not_after_s(const struct cm_cert *c);
CM_API const char *cm_cert_serial(const struct cm_cert *c);     /* lower-case hex */
CM_API const char *cm_cert_issuer_cn(const struct cm_cert *c);  /* escaped */
CM_API const char *cm_cert_issuer_key(const struct cm_cert *c); /* "" if unmanaged */
CM_API enum cm_key_type cm_cert_key_type(const struct cm_cert *c);
CM_API bool cm_cert_is_managed(const struct cm_cert *c);
CM_API bool cm_cert_has_tag(const struct cm_cert *c, const char *tag);
/** When it is time to renew @c by cfg's rule (seconds since 1970). */
CM_API int64_t cm_cert_renew_at_s(const struct cm_cert *c, const struct cm_config *cfg);
CM_API CM_MUST_CHECK cm_status cm_cert_chain_pem(const struct cm_cert *c, struct cm_buf *ret,
                                                 struct cm_err *err);

/** One stored certificate, for lists. All borrowed for the call. */
struct cm_stored_cert {
    uint32_t size;
    const char *name;       /* directory in storage */
    const char *issuer_key; /* as stored (Safe form) */
    struct cm_cert *cert;   /* NULL when it cannot be read: then @problem says why */
    const char *problem;
};
typedef cm_status (*cm_stored_fn)(void *user, const struct cm_stored_cert *sc, struct cm_err *err);
/** Every certificate in storage, of whatever issuer; a malformed one is reported, not fatal. */
CM_API CM_MUST_CHECK cm_status cm_storage_certs(struct cm_config *cfg, const struct cm_op *op,
                                                cm_stored_fn each, void *user, struct cm_err *err);
/** The one in certificates/@issuer_key/@dir, as cm_storage_certs() would tell it. */
CM_API CM_MUST_CHECK cm_status cm_storage_cert(struct cm_config *cfg, const struct cm_op *op,
                                               const char *issuer_key, const char *dir,
                                               cm_stored_fn each, void *user, struct cm_err *err);
/**
 * The name of the lock under which every node obtains, renews, replaces and removes what lies in
 * certificates/<any issuer>/@dir. @meta_json and @chain_pem are what lies there, or what is to:
 * the names in the one tell the lock, or those in the other; either may be empty. With both empty
 * it is told by @dir itself, taken for one name. No I/O.
 * Errors: CM_E_CERT: neither is for what @dir is called; CM_E_INVAL: @dir cannot be one's name.
 */
CM_API CM_MUST_CHECK cm_status cm_site_lock_name(const char *dir, struct cm_span meta_json,
                                                 struct cm_span chain_pem,
                                                 char ret[CM_LOCK_NAME_MAX + 1],
                                                 struct cm_err *err);
/** The newest valid certificate in storage for @name among cfg's issuers, else the newest. */
CM_API CM_MUST_CHECK cm_status cm_load_stored(struct cm_config *cfg, const struct cm_op *op,
                                              const char *name, struct cm_cert **ret,
                                              struct cm_err *err);

struct cm_clean_options {
    uint32_t size;
    int64_t grace_s; /* expired this long ago; 0 = 14 days */
    bool dry_run;
    void (*each)(void *user, const char *key, const char *why); /* what goes (or would); NULL */
    void *user;
    int64_t interval_s;          /* nothing is done if the fleet was cleaned less than this ago
                                    (then report.skipped is set); 0 = do it anyway */
    int64_t compromised_after_s; /* keys put aside as compromised go after that; 0 = they stay */
    bool force;                  /* although this clock seems to be wrong */
};
struct cm_clean_report {
    uint32_t size;
    uint64_t examined, removed, malformed;
    bool skipped; /* a peer has cleaned within the interval, or does just now */
};
/** Remove expired certificates past grace with key and metadata, expired staples, orphaned
 * challenge tokens, stale journals and records, leftover temporary objects. Each site is re-read
 * under its lock before it goes; a malformed object is counted and skipped. Once per fleet at a
 * time, and noted in storage as peers (certmagic) note it; a dry run takes no lock and notes
 * nothing. CM_E_POLICY, and nothing is removed, when this machine's clock seems to be wrong: the
 * last cleaning or certificates lie in its future, or most certificates (and more than 10) would go
 * at once. A dry run tells those first. */
CM_API CM_MUST_CHECK cm_status cm_storage_clean(struct cm_config *cfg, const struct cm_op *op,
                                                const struct cm_clean_options *opts,
                                                struct cm_clean_report *ret, struct cm_err *err);

/* --------------------------------------------------------------------- cache */

struct cm_cache_options {
    uint32_t size;
    size_t capacity;                /* certificates; 0 = unlimited */
    int64_t renew_check_interval_s; /* maintenance looks at the clock at least so often, whether
                                       something is due or not; 0 = 600 */
    bool no_thread;                 /* no thread of its own: the program calls
                                       cm_cache_maintain_now() when cm_cache_next_due_s() says */
};
CM_API CM_MUST_CHECK cm_status cm_cache_new(const struct cm_cache_options *opts,
                                            struct cm_cache **ret, struct cm_err *err);
/** All configs that use it must be gone. */
CM_API void cm_cache_free(struct cm_cache *cache);
/** Certificates of your own beside the managed ones: served by their names, never renewed. @tags
 *  is a NULL-terminated array or NULL. The private key must fit the leaf (CM_E_KEY). One that is in
 *  already (leaf, chain, key) stays one, and has the tags of both then: *@ret is that one. */
CM_API CM_MUST_CHECK cm_status cm_cache_add_pem(struct cm_cache *cache, struct cm_span chain_pem,
                                                struct cm_span key_pem, const char *const *tags,
                                                struct cm_cert **ret, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_cache_add_files(struct cm_cache *cache, const char *chain_file,
                                                  const char *key_file, const char *const *tags,
                                                  struct cm_cert **ret, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_cache_add_gnutls(struct cm_cache *cache,
                                                   const gnutls_x509_crt_t *chain, size_t n,
                                                   gnutls_x509_privkey_t key,
                                                   const char *const *tags, struct cm_cert **ret,
                                                   struct cm_err *err);
/** Take a certificate out, whoever brought it; handshakes that hold it go on. false if not in. */
CM_API bool cm_cache_remove(struct cm_cache *cache, struct cm_cert *cert);
/** Every certificate that matches @name exactly or by wildcard, newest first; the visitor gets a
 *  borrowed pointer and returns false to stop. @name NULL: all. */
CM_API void cm_cache_match(struct cm_cache *cache, const char *name,
                           bool (*visit)(void *user, struct cm_cert *cert), void *user);
CM_API size_t cm_cache_count(struct cm_cache *cache);

/* ----------------------------------------------------------------- handshake */

/**
 * A parsed ClientHello: what choosing a certificate needs. Filled by cm_hello_parse(); arrays are
 * truncated at their bound (a hello with more still parses).
 */
#define CM_HELLO_MAX_LIST 64
struct cm_hello {
    char server_name[256]; /* SNI in lower case, without final dot; "" if none or invalid */
    char alpn[8][256];
    size_t n_alpn; /* may exceed 8: then only 8 are kept */
    uint16_t suites[CM_HELLO_MAX_LIST];
    size_t n_suites;
    uint16_t sigalgs[CM_HELLO_MAX_LIST];
    size_t n_sigalgs;
    uint16_t groups[CM_HELLO_MAX_LIST];
    size_t n_groups;
    uint16_t versions[8]; /* supported_versions, else the legacy version */
    size_t n_versions;
    bool has_versions_ext;
    bool has_status_request;
    bool acme_tls;     /* "acme-tls/1" is the sole protocol offered */
    bool sni_invalid;  /* an SNI was sent that is no host name */
    char local_ip[64]; /* address the connection came in on, "" if unknown */
    char peer_ip[64];  /* and the client's; only looked for where certificates are on demand */
};
/**
 * Parse a ClientHello handshake message (4-byte header and body, no record layer). Pure.
 * Errors: CM_E_AGAIN (more bytes needed), CM_E_PARSE (err->tls_alert is the alert to send),
 * CM_E_LIMIT (longer than 16 KiB).
 */
CM_API CM_MUST_CHECK cm_status cm_hello_parse(struct cm_span msg, struct cm_hello *ret,
                                              struct cm_err *err);

struct cm_pending;
/**
 * Choose the certificate for a hello. Never blocks, does no I/O on a hit.
 *   CM_OK       *ret_cert is the answer (a reference; cm_cert_unref() it when the session ends).
 *   CM_E_AGAIN  *ret_pending: an answer is on its way (challenge in storage, name being obtained).
 *   else        refused; err->tls_alert says with which alert (unrecognized_name, ...).
 */
CM_API CM_MUST_CHECK cm_status cm_get_certificate(struct cm_config *cfg,
                                                  const struct cm_hello *hello,
                                                  struct cm_cert **ret_cert,
                                                  struct cm_pending **ret_pending,
                                                  struct cm_err *err);
/** Readable once the answer is there; borrowed. */
CM_API int cm_pending_fd(const struct cm_pending *p);
/** Take the answer: as cm_get_certificate(); CM_E_AGAIN while it is not there. */
CM_API CM_MUST_CHECK cm_status cm_pending_take(struct cm_pending *p, struct cm_cert **ret_cert,
                                               struct cm_err *err);
/** Wait for the answer (blocking use). */
CM_API CM_MUST_CHECK cm_status cm_pending_wait(struct cm_pending *p, const struct cm_op *op,
                                               struct cm_cert **ret_cert, struct cm_err *err);
CM_API void cm_pending_free(struct cm_pending *p);

/* ----------------------------------------------------------------------- TLS */

/**
 * Prepare a server session of GnuTLS: credentials, priority, ALPN (h2 is offered only when asked
 * for in @alpn), tickets, certificate choice, tls-alpn-01. Call after gnutls_init(GNUTLS_SERVER).
 *
 * @fd >= 0, the gate door: certmesh reads the socket through its own pull function (do not set a
 *   transport yourself). On a non-blocking socket gnutls_handshake() returns GNUTLS_E_AGAIN while
 *   an answer is on its way; poll cm_tls_wait_fd(). On a blocking one it just takes longer.
 * @fd < 0, the hook door: you own the transport; a handshake that has to wait blocks its thread.
 * Leaves gnutls_session_set_ptr() to you. Uses the ClientHello hook function of the session.
 */
CM_API CM_MUST_CHECK cm_status cm_config_tls_setup(struct cm_config *cfg, gnutls_session_t session,
                                                   int fd, struct cm_err *err);
/** Like cm_config_tls_setup() with the protocols to offer, in order of preference (NULL-terminated;
 *  default: "http/1.1"). "acme-tls/1" is added by itself. */
CM_API CM_MUST_CHECK cm_status cm_config_tls_setup_alpn(struct cm_config *cfg,
                                                        gnutls_session_t session, int fd,
                                                        const char *const *alpn,
                                                        struct cm_err *err);
/** What to poll for reading while gnutls_handshake() says GNUTLS_E_AGAIN and wants to read: the
 *  socket, or the descriptor of a pending answer. */
CM_API int cm_tls_wait_fd(gnutls_session_t session);
/** True once the handshake was one of a CA's validation (acme-tls/1): close without a word. */
CM_API bool cm_tls_is_challenge(gnutls_session_t session);
/** Why a handshake was refused by certmesh; CM_OK if it was not. */
CM_API cm_status cm_tls_refusal(gnutls_session_t session, struct cm_err *err);
/** For hosts that want the callback themselves (libmicrohttpd's MHD_OPTION_HTTPS_CERT_CALLBACK2):
 *  give this to the host, and call cm_config_tls_setup(cfg, session, -1, err) where the session
 *  starts. */
CM_API int cm_tls_retrieve(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                           gnutls_pcert_st **certs, unsigned int *n_certs,
                           gnutls_ocsp_data_st **ocsp, unsigned int *n_ocsp, gnutls_privkey_t *key,
                           unsigned int *flags);

/* ------------------------------------------------------------------ listening */

struct cm_listener;
struct cm_conn {
    gnutls_session_t session; /* set up, handshake not yet done; gnutls_deinit() before close() */
    int fd;                   /* blocking, TCP_NODELAY, close-on-exec */
};
/** Listen on host:port (NULL = all addresses, 0 = cfg's tls port) for TLS. */
CM_API CM_MUST_CHECK cm_status cm_listen(struct cm_config *cfg, const char *host, uint16_t port,
                                         struct cm_listener **ret, struct cm_err *err);
CM_API uint16_t cm_listener_port(const struct cm_listener *l);
/** Wait for a connection, at most until @op ends. */
CM_API CM_MUST_CHECK cm_status cm_accept(struct cm_listener *l, const struct cm_op *op,
                                         struct cm_conn *ret, struct cm_err *err);
CM_API void cm_listener_free(struct cm_listener *l);

/* ----------------------------------------------------------------------- HTTP */

/**
 * Is this request a CA asking for an http-01 answer (or, when cfg has such an issuer, for a
 * validation file, /.well-known/pki-validation/), and can any process on this storage answer?
 * @method, @host (Host header, port allowed) and @path as received.
 * CM_OK: answer 200, text/plain, body = @ret_body, close. CM_E_NOTFOUND: not ours, go on with your
 * own handling. CM_E_POLICY: it has the challenge's path but is not answerable: answer 404.
 * May read storage once; unknown tokens are remembered for a short while.
 */
CM_API CM_MUST_CHECK cm_status cm_http01_handle(struct cm_config *cfg, const struct cm_op *op,
                                                const char *method, const char *host,
                                                const char *path, struct cm_buf *ret_body,
                                                struct cm_err *err);
/** Has @path the form of such a request? */
CM_API bool cm_http01_looks_like(const char *method, const char *path);

struct cm_http_exchange;
CM_API const char *cm_http_method(const struct cm_http_exchange *x);
CM_API const char *cm_http_target(const struct cm_http_exchange *x); /* path and query */
CM_API const char *cm_http_host(const struct cm_http_exchange *x);   /* without port */
CM_API const char *cm_http_peer(const struct cm_http_exchange *x);   /* IP text */
CM_API gnutls_session_t cm_http_session(const struct cm_http_exchange *x);
/** Answer, once. Bytes are copied. @content_type NULL = text/plain. */
CM_API CM_MUST_CHECK cm_status cm_http_reply(struct cm_http_exchange *x, int status,
                                             const char *content_type, struct cm_span body,
                                             struct cm_err *err);
/** Serve the file at @path below the directory @root_fd (GET and HEAD; never outside, no dot
 *  files, index.html for a directory). @path is a URL's: cm_http_target() will do; percent signs
 *  are decoded, the query is left out. 404, 403 and 405 by itself. */
CM_API CM_MUST_CHECK cm_status cm_http_reply_file(struct cm_http_exchange *x, int root_fd,
                                                  const char *path, struct cm_err *err);
typedef void (*cm_http_handler)(void *user, struct cm_http_exchange *x);

struct cm_https_options {
    uint32_t size;
    struct cm_config *cfg;     /* NULL = default config: ACME, default storage, agreed */
    struct cm_cancel *stop;    /* fire to return; NULL = never */
    const char *host;          /* NULL = all addresses */
    uint16_t http_port;        /* 0 = cfg's; the redirect and http-01 */
    uint16_t tls_port;         /* 0 = cfg's */
    uint16_t redirect_port;    /* port put into redirects; 0 = tls_port */
    bool no_http;              /* no plain port at all */
    unsigned threads;          /* handlers running at once; 0 = 64 */
    int64_t header_timeout_ms; /* handshake, and request head; 0 = 10000 */
    int64_t idle_timeout_ms;   /* keep-alive; 0 = 30000 */
    void (*ready)(void *user, uint16_t http_port, uint16_t tls_port); /* ports are bound */
    size_t max_per_address; /* connections that one address (IPv6: one /64) may have at once; past
                               that its oldest makes room. 0 = three quarters of all that are taken,
                               which are three quarters of RLIMIT_NOFILE */
    struct cm_sockets *sockets; /* whose sockets are taken, and closed at the end; what it has none
                                   for is opened as ever. NULL = none; cm_listen.h */
    bool together;              /* one certificate for all names, as cm_manage_together() */
};
#define CM_HTTPS_OPTIONS_INIT                                                                      \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_https_options)                                          \
    }
/**
 * HTTPS for @names in one call: manages them (in the background: serving starts at once), serves
 * @handler over HTTP/1.1 on the TLS port, redirects the plain port to it, answers challenges.
 * Returns CM_OK after @stop fired, or the error that kept it from starting.
 */
CM_API CM_MUST_CHECK cm_status cm_https(const char *const *names, size_t n, cm_http_handler handler,
                                        void *user, const struct cm_https_options *opts,
                                        struct cm_err *err);

/* ------------------------------------------------------------ names, accounts */

/** Normalize as everything in certmesh does it: A-labels, lower case, canonical IP. @ret has 256
 *  bytes. */
CM_API CM_MUST_CHECK cm_status cm_normalize_name(const char *name, char *ret, struct cm_err *err);

enum cm_account_action {
    CM_ACCOUNT_SHOW = 0,  /* what storage and the CA say; registers nothing */
    CM_ACCOUNT_REGISTER,  /* make sure there is one */
    CM_ACCOUNT_UPDATE,    /* set the contact to cfg's e-mail */
    CM_ACCOUNT_DEACTIVATE /* for good */
};
struct cm_account_info {
    uint32_t size;
    char url[512];
    char status[32];
    char contact[256];
    char ca[512];
    char thumbprint[44];
};
/** The ACME account of cfg. CM_E_UNSUPPORTED when cfg has no ACME issuer. */
CM_API CM_MUST_CHECK cm_status cm_account(struct cm_config *cfg, const struct cm_op *op,
                                          enum cm_account_action what, struct cm_account_info *ret,
                                          struct cm_err *err);

/** PEM of the local CA's root (made now if there is none yet). CM_E_UNSUPPORTED without one. */
CM_API CM_MUST_CHECK cm_status cm_internal_root(struct cm_config *cfg, const struct cm_op *op,
                                                struct cm_buf *ret_pem, struct cm_err *err);

/** Issuers to put into cm_config_options.issuers. cm_issuer_destroy() only if never handed to a
 *  config. */
CM_API CM_MUST_CHECK cm_status cm_acme_issuer_new(const struct cm_acme_options *opts,
                                                  struct cm_issuer **ret, struct cm_err *err);
struct cm_internal_options {
    uint32_t size;
    int64_t lifetime_s; /* of a leaf; 0 = 12 h */
};
CM_API CM_MUST_CHECK cm_status cm_internal_issuer_new(const struct cm_internal_options *opts,
                                                      struct cm_issuer **ret, struct cm_err *err);

/** How the built-in fetcher goes about it. Strings are copied. */
struct cm_http_fetcher_options {
    uint32_t size;
    const char *user_agent;   /* NULL = "certmesh/<version>" */
    const char *ca_root_file; /* PEM trust for https; NULL = system's */
    const char *proxy;        /* URL; NULL = none, the environment is not looked at */
    bool allow_local;         /* hosts may resolve to loopback and link-local addresses */
    struct cm_log log;
    const char *no_proxy; /* hosts to ask without it, see cm_acme_extra.h */
};
/** The fetcher that a config makes for itself: http and https; a GET follows up to three redirects,
 *  a POST none; opens no connection and starts no thread before the first request. Not usable in
 *  the child of a fork. Ownership: caller; cm_fetcher_destroy().
 *  Errors: CM_E_INVAL, CM_E_NOTFOUND and CM_E_PERM for @ca_root_file. */
CM_API CM_MUST_CHECK cm_status cm_http_fetcher_new(const struct cm_http_fetcher_options *opts,
                                                   struct cm_fetcher **ret, struct cm_err *err);

#ifdef __cplusplus
}
#endif

#include <certmesh/cm_account.h>
#include <certmesh/cm_dns_persist.h>
#include <certmesh/cm_manage.h>
#include <certmesh/cm_zerossl.h>
#endif
