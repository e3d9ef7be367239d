/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_AUTOCERT_H
#define CERTMESH_CM_AUTOCERT_H

/* Certificates for whatever name a client asks for, if the program's policy allows the name: the
 * manager of Go's autocert for C programs with a thread per connection, over a config of cm.h. What
 * it gets is kept in a cache in autocert's own format, so that a program in Go and one in C can
 * take each other's place, or stand side by side. Included by cm.h.
 *
 * Handshakes wait in their threads. Programs with an event loop use cm_config_tls_setup().
 * Nodes that share a cache may order one name twice, as autocert's do: a cache has no locks. */

#include <certmesh/cm_base.h>
#include <certmesh/cm_spi.h>

#include <gnutls/gnutls.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_cert;
struct cm_config;
struct cm_config_options;
struct cm_conn;
struct cm_hello;

/* -------------------------------------------------------------------- cache */

/**
 * Where a manager keeps what must not be lost: named blobs, like autocert's Cache. Names:
 *   "<domain>"          EC key and chain, PEM, the key first
 *   "<domain>+rsa"      the same with an RSA key
 *   "<domain>+token"    answer to an open tls-alpn-01 challenge: key and certificate
 *   "<token>+http-01"   answer to an open http-01 challenge
 *   "acme_account+key"  key of the ACME account ("acme_account.key": of old versions, read only)
 */
struct cm_autocert_cache;
#define CM_AUTOCERT_BLOB_MAX (256u * 1024)

struct cm_autocert_cache_ops {
    CM_OPS_HEAD;
    /** Append the blob to @ret, a secret buffer. CM_E_NOTFOUND only if absent. */
    cm_status (*get)(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                     struct cm_buf *ret, struct cm_err *err);
    /** Atomic: who reads meanwhile gets the old blob or the new one. */
    cm_status (*put)(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                     struct cm_span blob, struct cm_err *err);
    /** Missing is CM_OK. */
    cm_status (*remove)(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                        struct cm_err *err);
    void (*destroy)(struct cm_autocert_cache *c);
};

struct cm_autocert_cache {
    const struct cm_autocert_cache_ops *ops;
};

/** A directory as autocert's DirCache has it: one file per blob, 0600 in a directory 0700, which is
 *  made with the first blob. Files are replaced whole. Ownership: caller; cm_autocert_cache_free().
 *  Errors: CM_E_INVAL without a path. */
CM_API CM_MUST_CHECK cm_status cm_autocert_dircache(const char *path,
                                                    struct cm_autocert_cache **ret,
                                                    struct cm_err *err);
/** Any storage as a cache, below the key @prefix (NULL = "autocert"). @st is borrowed and must
 *  outlive it. */
CM_API CM_MUST_CHECK cm_status cm_autocert_storage_cache(struct cm_storage *st, const char *prefix,
                                                         struct cm_autocert_cache **ret,
                                                         struct cm_err *err);
/* Gates: as in the table. A name is 1 to 255 bytes without '/' and control bytes, and does not
 * begin with a dot (CM_E_INVAL); a blob has at most CM_AUTOCERT_BLOB_MAX bytes (CM_E_LIMIT). */
CM_API CM_MUST_CHECK cm_status cm_autocert_cache_get(struct cm_autocert_cache *c,
                                                     const struct cm_op *op, const char *name,
                                                     struct cm_buf *ret, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_autocert_cache_put(struct cm_autocert_cache *c,
                                                     const struct cm_op *op, const char *name,
                                                     struct cm_span blob, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_autocert_cache_remove(struct cm_autocert_cache *c,
                                                        const struct cm_op *op, const char *name,
                                                        struct cm_err *err);
CM_API void cm_autocert_cache_free(struct cm_autocert_cache *c); /* NULL is fine */

/* ------------------------------------------------------------------ manager */

struct cm_autocert;

/** Are the CA's terms of service at @tos_url agreed to? Asked before a new account is made, not for
 *  one whose key is in the cache. "" when the CA names none that can be read over https. */
typedef bool (*cm_autocert_prompt_fn)(void *user, const char *tos_url);
/** Yes to all of them. */
CM_API bool cm_accept_tos(void *user, const char *tos_url);

/** May a certificate be ordered for @host (normalized)? Anything but CM_OK: no, and that is what
 *  the handshake fails with. May block. Called on the thread of the handshake, without locks. */
typedef cm_status (*cm_autocert_policy_fn)(void *user, const struct cm_op *op, const char *host,
                                           struct cm_err *err);
/** Yes to any, which is what Go's autocert does without a policy. Then whoever points a name here
 *  has certificates ordered, until the CA wants no more: only for machines that strangers do not
 *  reach. */
CM_API cm_status cm_autocert_any_host(void *user, const struct cm_op *op, const char *host,
                                      struct cm_err *err);

struct cm_autocert_options {
    uint32_t size;
    cm_autocert_prompt_fn prompt; /* mandatory */
    void *prompt_user;
    struct cm_autocert_cache *cache; /* borrowed; NULL = what is got is lost with the process */
    cm_autocert_policy_fn policy;    /* mandatory, or @hosts */
    void *policy_user;
    const char *const *hosts; /* instead: exactly these; copied. Unlike autocert's, a manager does
                                 not order for any name when nobody says for which */
    size_t n_hosts;
    int64_t renew_before_s; /* 0 = by ratio: a third of the lifetime, 30 days of 90 */
    const char *email;
    bool force_rsa;     /* ignored, with a word in the log: each client gets what it can use */
    bool http01;        /* try http-01, too: the program answers on port 80 by cm_autocert_http() */
    int64_t timeout_ms; /* one handshake, with the order; 0 = 5 minutes */
    int64_t token_timeout_ms; /* a CA's handshake or request; 0 = 1 minute */
    /* All else: the CA (acme.directory_url, acme.eab_*), must_staple, ports, log, events; extra,
     * with the extensions that requests ask for (ExtraExtensions) and ports of challenges. Borrowed
     * for the call. What the manager sets itself must be unset (CM_E_INVAL names it): storage,
     * cache, issuers, snapshot, key_type, acme.email, acme.agreed, acme.account_key_file,
     * acme.challenges, default_name and fallback_name, renew_before_s, handshake_wait_ms,
     * key_source, on_demand. */
    const struct cm_config_options *config;
};
#define CM_AUTOCERT_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_autocert_options)                                       \
    }

/** Check the options and set up; no network use. Reads the account key from the cache.
 *  Errors: CM_E_INVAL naming the option; those of the cache and of cm_config_new(). */
CM_API CM_MUST_CHECK cm_status cm_autocert_new(const struct cm_autocert_options *opts,
                                               struct cm_autocert **ret, struct cm_err *err);
/** No call may be running, and sessions set up with it must be gone. NULL is fine. */
CM_API void cm_autocert_free(struct cm_autocert *m);

/**
 * The certificate for a hello (cm_hello_parse()). In this order: what is served already; the cache;
 * the policy; an order. Names that were got are renewed from then on. A name whose order failed is
 * not tried again for a minute: the same error is given meanwhile.
 * An EC certificate, or an RSA one for a client that cannot use that: there may be two for a name.
 * A hello for "acme-tls/1" alone gets the answer to a challenge, of this process or, from the
 * cache, of others.
 * Errors: CM_E_INVAL (no name, one label, no host name), CM_E_NOTFOUND (no such challenge), those
 * of the policy and of cm_obtain(); err->tls_alert is the alert to send. *ret is a reference.
 */
CM_API CM_MUST_CHECK cm_status cm_autocert_get_certificate(struct cm_autocert *m,
                                                           const struct cm_op *op,
                                                           const struct cm_hello *hello,
                                                           struct cm_cert **ret,
                                                           struct cm_err *err);

/** Prepare a server session, whose transport is the caller's, as cm_config_tls_setup_alpn() does
 *  with its hook door: gnutls_handshake() then blocks until there is a certificate. @alpn NULL:
 *  "http/1.1". "acme-tls/1" is added by itself. */
CM_API CM_MUST_CHECK cm_status cm_autocert_tls_setup(struct cm_autocert *m,
                                                     gnutls_session_t session,
                                                     const char *const *alpn, struct cm_err *err);

struct cm_autocert_listener;
/** Listen on host:port (NULL = all addresses, 0 = the config's TLS port, 443). @m is borrowed. */
CM_API CM_MUST_CHECK cm_status cm_autocert_listen(struct cm_autocert *m, const char *host,
                                                  uint16_t port, struct cm_autocert_listener **ret,
                                                  struct cm_err *err);
/** In one call, for exactly @names: Let's Encrypt, whose terms are accepted by calling this; port
 *  443 on all addresses; the cache in $XDG_CACHE_HOME/golang-autocert, else ~/.cache, where
 *  autocert's listeners have theirs. Errors: CM_E_INVAL without names or a home. */
CM_API CM_MUST_CHECK cm_status cm_autocert_listen_names(const char *const *names, size_t n,
                                                        struct cm_autocert_listener **ret,
                                                        struct cm_err *err);
/** Wait for a connection, at most until @op ends. The handshake is not done yet; TCP keep-alive is
 *  on. ret->session uses ret->fd; gnutls_deinit() comes before close(). */
CM_API CM_MUST_CHECK cm_status cm_autocert_accept(struct cm_autocert_listener *l,
                                                  const struct cm_op *op, struct cm_conn *ret,
                                                  struct cm_err *err);
CM_API uint16_t cm_autocert_listener_port(const struct cm_autocert_listener *l);
CM_API void cm_autocert_listener_free(struct cm_autocert_listener *l); /* NULL is fine */

/* --------------------------------------------------------------------- HTTP */

struct cm_autocert_reply {
    int status;          /* 200, 302, 400, 403, 404 */
    char location[2304]; /* of a 302, else "" */
    struct cm_buf body;  /* text/plain; cm_buf_free() */
};
#define CM_AUTOCERT_REPLY_INIT                                                                     \
    {                                                                                              \
        0, "", CM_BUF_INIT(4096)                                                                   \
    }
/**
 * What to answer on the plain port. A request below /.well-known/acme-challenge/: 403 when the
 * policy refuses @host, 404 for an unknown token, else 200 and the answer, of this process or, from
 * the cache, of others. Any other request: CM_E_NOTFOUND if @has_fallback, for the program's own
 * handling; else a redirect to HTTPS (302 for GET and HEAD, 400 for others).
 * @host: the Host header; @target: path and query as received. What is malformed gets 400.
 */
CM_API CM_MUST_CHECK cm_status cm_autocert_http(struct cm_autocert *m, const struct cm_op *op,
                                                const char *method, const char *host,
                                                const char *target, bool has_fallback,
                                                struct cm_autocert_reply *ret, struct cm_err *err);

/* ------------------------------------------------------------------- import */

enum cm_autocert_import_kind {
    CM_AUTOCERT_CERTIFICATE = 0, /* stored */
    CM_AUTOCERT_ACCOUNT,         /* the account key; stored */
    CM_AUTOCERT_KEPT,            /* the storage has one as good or better */
    CM_AUTOCERT_LEFT             /* left out; @why says why */
};
struct cm_autocert_import_options {
    uint32_t size;
    const char *directory_url; /* of the CA that the certificates are from; NULL = Let's Encrypt */
    const char *email;         /* under which the account is kept; NULL = none */
    bool dry_run;
    /** For each file. Borrowed. May be NULL. */
    void (*each)(void *user, const char *file, enum cm_autocert_import_kind what, const char *why);
    void *user;
};
struct cm_autocert_import_report {
    uint32_t size;
    uint64_t certificates, accounts, kept, left;
};
/**
 * Take over the directory @path of an autocert.DirCache into @st: certificates into the places
 * where cm_manage() looks for them, each under its lock, and the account key. A certificate is
 * taken only if it is for its name, valid now, and its key fits; an RSA one only where there is no
 * EC one for the name. The directory stays as it is; once more does no harm.
 * Errors: CM_E_NOTFOUND without such a directory; those of @st. A file that is of no use is none.
 */
CM_API CM_MUST_CHECK cm_status cm_autocert_import(const char *path, struct cm_storage *st,
                                                  const struct cm_op *op,
                                                  const struct cm_autocert_import_options *opts,
                                                  struct cm_autocert_import_report *ret,
                                                  struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
