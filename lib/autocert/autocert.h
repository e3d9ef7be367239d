/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_AUTOCERT_AUTOCERT_H
#define CM_AUTOCERT_AUTOCERT_H

/* What the files of lib/autocert share. The room stands above all others: it puts together a cache
 * in autocert's format, a storage in memory that keeps the cache up to date, and two configs, one
 * for EC keys and one for RSA. */

#include <certmesh/cm.h>

#include "pki.h"

#include <stdatomic.h>

#define AUTOCERT_ACCOUNT     "acme_account+key"
#define AUTOCERT_ACCOUNT_OLD "acme_account.key"
#define AUTOCERT_RSA         "+rsa"
#define AUTOCERT_TOKEN       "+token"
#define AUTOCERT_HTTP        "+http-01"
#define AUTOCERT_NAME_BUF    (CM_NAME_BUF + 16)

/* ---- blob.c: what lies in a cache ---- */

enum autocert_kind { AUTOCERT_EC, AUTOCERT_OF_RSA, AUTOCERT_CHALLENGE };

/* A blob that may be used: its parts, in one form each. */
struct autocert_pair {
    struct cm_buf key_pem; /* secret */
    struct cm_buf chain_pem;
    int64_t not_after_s;
};
#define AUTOCERT_PAIR_INIT                                                                         \
    {                                                                                              \
        CM_BUF_SECRET(CM_KEY_PEM_MAX), CM_BUF_INIT(CM_CHAIN_PEM_MAX), 0                            \
    }
void autocert_pair_free(struct autocert_pair *p);
/* Take @blob apart: the key first, then the chain. It is used only if the key fits the leaf, the
 * leaf is for @host and valid at @now_s, and the key is of @kind. Errors say which rule failed:
 * CM_E_PARSE, CM_E_KEY, CM_E_CERT. */
CM_MUST_CHECK cm_status autocert_blob_read(struct cm_span blob, const char *host,
                                           enum autocert_kind kind, int64_t now_s,
                                           struct autocert_pair *ret, struct cm_err *err);
/* The inverse; @out is a secret buffer. */
CM_MUST_CHECK cm_status autocert_blob_write(struct cm_span key_pem, struct cm_span chain_pem,
                                            struct cm_buf *out, struct cm_err *err);
/* Metadata of a certificate for @host as certmagic writes it beside one. */
CM_MUST_CHECK cm_status autocert_meta(const char *host, struct cm_buf *out, struct cm_err *err);

/* ---- view.c: the storage of one config of a manager ---- */

/* Lies over the storage in memory that both views share. What is stored through it goes into the
 * cache, too; who takes the lock of a name has what is newer in the cache first. */
struct autocert_view_options {
    struct cm_storage *inner; /* borrowed */
    struct cm_autocert_cache *cache;
    const struct cm_env *env;
    struct cm_log log;
    bool rsa; /* certificates and orders under way lie apart from those of the other view */
    /* Before an account is made. */
    cm_status (*agree)(void *user, const struct cm_op *op, struct cm_err *err);
    void *user;
};
CM_MUST_CHECK cm_status autocert_view_new(const struct autocert_view_options *opts,
                                          struct cm_storage **ret, struct cm_err *err);
/* The issuer of the config that uses the view: known only once there is one. @raw as it gives it.
 */
CM_MUST_CHECK cm_status autocert_view_issuer(struct cm_storage *view, const char *raw,
                                             struct cm_err *err);
/* Have what the cache holds for @host in the view, if it is newer than what is there. */
CM_MUST_CHECK cm_status autocert_view_fetch(struct cm_storage *view, const struct cm_op *op,
                                            const char *host, struct cm_err *err);

/* ---- tokens.c: open challenges, told to whoever shares the cache ---- */
void autocert_token_put(struct cm_autocert_cache *cache, const struct cm_env *env,
                        const struct cm_log *log, const struct cm_op *op, struct cm_span json);
void autocert_token_remove(struct cm_autocert_cache *cache, const struct cm_op *op,
                           struct cm_span json);

/* ---- manager.c ---- */

#define FAILURES_MAX 256u

struct autocert_failure {
    char host[CM_NAME_BUF]; /* "" = free */
    bool rsa;
    int64_t until_ns;
    struct cm_err err;
};

struct autocert_half {
    struct cm_storage *view;
    struct cm_config *cfg;
    bool rsa;
};

struct cm_autocert {
    struct autocert_half half[2]; /* EC, RSA */
    struct cm_storage *inner;
    struct cm_autocert_cache *cache;
    struct cm_autocert_cache *own_cache; /* to be freed with it */
    cm_autocert_prompt_fn prompt;
    void *prompt_user;
    cm_autocert_policy_fn policy;
    void *policy_user;
    char **hosts;
    size_t n_hosts;
    const struct cm_env *env;
    struct cm_log log;
    int64_t timeout_ns;
    int64_t token_timeout_ns;
    char *directory_url; /* NULL: no ACME */
    char *ca_root_file;
    char *proxy;
    char *no_proxy;
    bool allow_plain_http;
    pthread_mutex_t lock; /* guards failures */
    struct autocert_failure *failures;
};

/* Policy for a normalized name. */
CM_MUST_CHECK cm_status autocert_allowed(struct cm_autocert *m, const struct cm_op *op,
                                         const char *host, struct cm_err *err);
/* @op with the environment of @m, ending after @ns at the latest. */
struct cm_op autocert_op(const struct cm_autocert *m, const struct cm_op *op, int64_t ns);

/* ---- agree.c ---- */
CM_MUST_CHECK cm_status autocert_agree(void *user, const struct cm_op *op, struct cm_err *err);

/* ---- listen.c ---- */
struct cm_autocert_listener {
    struct cm_autocert *m;
    struct cm_autocert *own; /* of cm_autocert_listen_names() */
    struct cm_listener *l;
};
/* cm_autocert_listen_names() elsewhere: @config as in cm_autocert_options, @host and @port as for
 * cm_autocert_listen(). */
CM_MUST_CHECK cm_status autocert_listen_names(const char *const *names, size_t n,
                                              const struct cm_config_options *config,
                                              const char *host, uint16_t port,
                                              struct cm_autocert_listener **ret,
                                              struct cm_err *err);

/* ---- failures.c: names whose order failed just now ---- */
/* CM_OK, or how it failed less than a minute ago. */
CM_MUST_CHECK cm_status autocert_failed_lately(struct cm_autocert *m, const char *host, bool rsa,
                                               struct cm_err *err);
void autocert_note_failure(struct cm_autocert *m, const char *host, bool rsa,
                           const struct cm_err *why);

#endif
