/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_H
#define CM_ISSUERS_H

/* The door of issuers/: what its files share. Callers make issuers by cm_acme_issuer_new() and
 * cm_internal_issuer_new() of cm.h and see only struct cm_issuer. */

#include <certmesh/cm.h>

#include "acme.h"
#include "base.h"
#include "pki.h"

#include <stdatomic.h>

/* The challenges that a DNS provider can answer, and wildcards need. */
#define ACME_DNS_PROVIDED   ((unsigned)CM_CHALLENGE_DNS01 | (unsigned)CM_CHALLENGE_DNSACCOUNT01)
#define ACME_DNS_CHALLENGES (ACME_DNS_PROVIDED | (unsigned)CM_CHALLENGE_DNSPERSIST01)

/* --------------------------------------------------------- shared solver */

/* Solves http-01 and tls-alpn-01 by putting the token where every process on the storage finds it
 * (and this one in memory), and by answering on the challenge port itself while nobody else does.
 * @host must outlive the solver. @also (NULL ok): tokens are put under this prefix, too, where
 * peers look that do not know the CA's own. */
CM_MUST_CHECK cm_status cm_solver_shared_new(const struct cm_issuer_host *host, const char *also,
                                             struct cm_solver **ret, struct cm_err *err);

/* Put no tokens of http-01 into storage: the board knows the thumbprint (cm_board_set_thumbprint).
 * Before the first challenge. */
void cm_solver_shared_stateless(struct cm_solver *sv);

/* ---- responder: the ports that are open only while challenges are ---- */

enum cm_responder_kind { CM_RESPONDER_HTTP = 0, CM_RESPONDER_TLS = 1 };

struct cm_responder;
CM_MUST_CHECK cm_status cm_responder_new(const struct cm_issuer_host *host,
                                         enum cm_responder_kind kind, struct cm_responder **ret,
                                         struct cm_err *err);
/* One more challenge wants answers: opens the port for the first one. CM_OK also when the port is
 * taken by somebody else: then that server is expected to answer (it shares our storage). @prefix:
 * where the challenge's token lies. Errors: CM_E_PERM (no right to bind, and nobody listens there:
 * the message says what to do), CM_E_IO. */
CM_MUST_CHECK cm_status cm_responder_acquire(struct cm_responder *r, const char *prefix,
                                             struct cm_err *err);
/* One less, its token is gone from storage. The last one closes the port; while other processes
 * have challenges open it lingers for them, at most two seconds, without holding up the caller. */
void cm_responder_release(struct cm_responder *r);
/* All released: the port closes, after it has lingered, and who is being answered gets the answer
 * for up to a second more. From then on nothing uses the host. Not to be acquired again; NULL ok.
 */
void cm_responder_stop(struct cm_responder *r);
/* Stops if that was not done. NULL ok. */
void cm_responder_free(struct cm_responder *r);
/* port_held.c: does anybody on this machine listen on @port? For who may not open it. */
bool issuer_port_is_held(uint16_t port);

/* --------------------------------------------------- the local CA, internal_ca.c */

#define LOCAL_CA_INTER_DAYS 90

/* What signs: loaded together, replaced together. Immutable and reference counted. */
struct local_ca {
    atomic_int refs;
    struct cm_key *inter_key;
    struct cm_buf root_pem; /* empty: damaged in storage, the intermediate is all there is */
    struct cm_buf inter_pem;
    struct cm_buf inter_der;
    int64_t inter_not_after_s;
};
/* From storage; the first time, and when the intermediate is nearing its end, made under a lock.
 * Errors: CM_E_CERT when it is damaged beyond what can be made anew without a change of trust. */
CM_MUST_CHECK cm_status local_ca_fetch(const struct cm_issuer_host *host, const struct cm_op *op,
                                       int64_t lifetime_s, struct local_ca **ret,
                                       struct cm_err *err);
/* Whole, and good for a leaf of full lifetime with a fifth of its own life to spare? */
bool local_ca_is_fresh(const struct local_ca *a, int64_t lifetime_s, int64_t now_s);
void local_ca_unref(struct local_ca *a); /* NULL ok */
/* The error that says what to do about a root that is lost. */
cm_status local_ca_no_root(struct cm_err *err);

/* ------------------------------------------------------------ ACME issuer */

enum acme_challenge_type {
    ACME_HTTP01 = 0,
    ACME_TLSALPN01 = 1,
    ACME_DNS01 = 2,
    ACME_DNSACCOUNT01 = 3,
    ACME_DNSPERSIST01 = 4,
    ACME_CHALLENGE_TYPES = 5
};

/* An account that is known to the CA: immutable, reference counted, so that jobs keep signing with
 * the one they began with. */
struct acme_identity {
    atomic_int refs;
    struct cm_key *key;
    char *url;    /* kid */
    char *status; /* as stored */
};
void acme_identity_unref(struct acme_identity *id); /* NULL ok */

struct acme_issuer {
    struct cm_issuer base;
    struct cm_issuer_host host; /* copy; .listen_host is ours */
    char *directory_url;
    char *key;    /* raw issuer key */
    char *prefix; /* "acme/<Safe(key)>" */
    char *email;
    char *ca_root_file;
    char *eab_kid;
    struct cm_buf eab_key; /* raw MAC key */
    enum cm_hmac eab_alg;
    char *account_key_file;
    enum cm_pk account_key_type;
    char *profile;
    char *preferred_chain;
    enum cm_chain_choice chain; /* this and what follows: see cm_acme_extra.h */
    int64_t lifetime_s;
    int64_t backdate_s;
    char *proxy;
    char *no_proxy;
    char *user_agent;           /* NULL = certmesh's own */
    int64_t request_timeout_ns; /* 0 = as lib/net has it */
    bool stateless;
    char *listen_host;
    unsigned challenges;
    unsigned challenges_ip; /* for addresses, in addition */
    bool agreed;
    bool allow_plain_http;
    bool disable_ari;
    int64_t obtain_timeout_ns;
    struct cm_issuer_limits limits;
    struct cm_acme *client;
    struct cm_solver *solver;
    struct cm_solver *dns_solver;     /* NULL = no DNS challenges that need a provider */
    struct cm_solver *persist_solver; /* NULL = no dns-persist-01 */
    struct acme_issuer *test; /* the CA where orders are tried first after a failure; NULL = none */
    struct {
        unsigned worked, failed;
    } tried[ACME_CHALLENGE_TYPES]; /* guarded by lock */
    atomic_int clock_told;         /* what was logged of the clock, see acme_clock.c */

    /* Single flight for the account: guarded by lock, never held over I/O. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool identity_busy;
    struct acme_identity *identity;
    struct cm_err failed; /* of the last fetch; status CM_OK if it did not fail */
};

extern const struct cm_issuer_ops acme_issuer_ops;

/* Where one account lies. */
struct acme_account_paths {
    char json[CM_STORAGE_KEY_MAX + 1];
    char key[CM_STORAGE_KEY_MAX + 1];
    char pending[CM_STORAGE_KEY_MAX + 1];  /* key of a registration under way, certmesh/ */
    char rollover[CM_STORAGE_KEY_MAX + 1]; /* the next key, while keys are changed, certmesh/ */
    char lost[CM_STORAGE_KEY_MAX + 1];     /* how often the CA has forgotten it, certmesh/ */
    char lock[CM_LOCK_NAME_MAX + 1];
};

/* ---- acme_account.c ---- */

/* The account to sign with: from memory, storage, or registered now (once, whoever asks first).
 * @may_register false: CM_E_NOTFOUND instead of a registration. */
CM_MUST_CHECK cm_status acme_identity_get(struct acme_issuer *ai, const struct cm_op *op,
                                          bool may_register, struct acme_identity **ret,
                                          struct cm_err *err);
/* The CA no longer knows @stale: forget it in memory and in the storage of this directory. Once for
 * all nodes; CM_E_ACME when it is the fourth time within an hour, for then the CA is what is wrong.
 * @keep_key: only what is said of it; the key may be another account's. */
CM_MUST_CHECK cm_status acme_identity_forget(struct acme_issuer *ai, const struct cm_op *op,
                                             struct acme_identity *stale, bool keep_key,
                                             struct cm_err *err);
/* The newest account of this CA in storage, whatever its e-mail, and where it lies. */
CM_MUST_CHECK cm_status acme_identity_newest(struct acme_issuer *ai, const struct cm_op *op,
                                             struct acme_account_paths *paths,
                                             struct acme_identity **ret, struct cm_err *err);
/* Ask the CA where the account of @id's key is. When that is elsewhere than we thought it is stored
 * and *ret is it, else CM_E_NOTFOUND. */
CM_MUST_CHECK cm_status acme_identity_relocate(struct acme_issuer *ai, const struct cm_op *op,
                                               struct acme_identity *id, struct acme_identity **ret,
                                               struct cm_err *err);
/* Write what the CA said of the account (after an update), at the place of the configured e-mail;
 * what lies at @old (NULL ok), if that is elsewhere, goes. */
CM_MUST_CHECK cm_status acme_identity_save(struct acme_issuer *ai, const struct cm_op *op,
                                           struct acme_identity *id,
                                           const struct cm_acme_account *acc,
                                           const struct acme_account_paths *old,
                                           struct cm_err *err);

/* What is done under the account's lock; for acme_rollover.c. */

/* Without a configured e-mail: of the newest account of this CA. */
CM_MUST_CHECK cm_status acme_account_choose(struct acme_issuer *ai, const struct cm_op *op,
                                            struct acme_account_paths *paths, struct cm_err *err);
/* CM_E_NOTFOUND when there is no usable account: a file missing or damaged, or not registered. */
CM_MUST_CHECK cm_status acme_account_load(struct acme_issuer *ai, const struct cm_op *op,
                                          const struct acme_account_paths *paths,
                                          struct acme_identity **ret, struct cm_err *err);
CM_MUST_CHECK cm_status acme_account_key(struct acme_issuer *ai, const struct cm_op *op,
                                         const char *path, struct cm_key **ret, struct cm_err *err);
/* Takes over nothing: @key is referenced, @acc copied. */
CM_MUST_CHECK cm_status acme_identity_new(struct cm_key *key, const struct cm_acme_account *acc,
                                          struct acme_identity **ret, struct cm_err *err);
/* Both files, and the end of a registration under way. */
CM_MUST_CHECK cm_status acme_account_write(const struct cm_op *op,
                                           const struct acme_account_paths *paths,
                                           struct cm_lease *lease, const struct cm_key *key,
                                           const struct cm_acme_account *acc, struct cm_err *err);
/* If it is what this process signs with, no longer. */
void acme_identity_drop(struct acme_issuer *ai, const struct acme_identity *id);

/* ---- acme_register.c ---- */

/* Register an account, or find that of a key that was given. CM_E_POLICY when the CA wants
 * something first: agreement, a binding. */
CM_MUST_CHECK cm_status acme_account_register(struct acme_issuer *ai, const struct cm_op *op,
                                              const struct acme_account_paths *paths,
                                              struct cm_lease *lease, struct acme_identity **ret,
                                              struct cm_err *err);

/* ---- acme_rollover.c ---- */

/* Give the account another key of type @type, or finish the change that was interrupted. *ret is
 * the account with it. Errors: CM_E_POLICY when the key is configured (account_key_file),
 * CM_E_NOTFOUND without an account, CM_E_UNSUPPORTED when the CA changes no keys. */
CM_MUST_CHECK cm_status acme_rollover(struct acme_issuer *ai, const struct cm_op *op,
                                      enum cm_pk type, struct acme_identity **ret,
                                      struct cm_err *err);
/* The CA does not like @stale. Has storage another key for its account, or another account, or was
 * a change of key interrupted that the CA has heard of? *ret is that, else CM_E_NOTFOUND. */
CM_MUST_CHECK cm_status acme_identity_newer(struct acme_issuer *ai, const struct cm_op *op,
                                            const struct acme_identity *stale,
                                            struct acme_identity **ret, struct cm_err *err);
/* May an answer of the CA be due to a key that is no longer the account's? */
bool acme_account_is_doubted(cm_status rc, const struct cm_err *err);

/* ---- acme_paths.c: storage keys and JSON of accounts, pure ---- */

/* @email NULL or "" = "default". */
CM_MUST_CHECK cm_status acme_account_paths(const char *prefix, const char *email,
                                           struct acme_account_paths *ret, struct cm_err *err);
CM_MUST_CHECK cm_status acme_account_to_json(const struct cm_acme_account *acc, struct cm_buf *out,
                                             struct cm_err *err);
/* Fills status, url, contact, orders. Unknown members are ignored. */
CM_MUST_CHECK cm_status acme_account_from_json(struct cm_span json, struct cm_acme_account *ret,
                                               struct cm_err *err);

/* ---- acme_cas.c: what is known of public CAs ---- */

/* CM_E_POLICY for a name that the CA of @directory_url does not certify. */
CM_MUST_CHECK cm_status acme_ca_precheck(const char *directory_url, const char *name,
                                         struct cm_err *err);
/* CM_E_POLICY for more names than it puts into one certificate. */
CM_MUST_CHECK cm_status acme_ca_count(const char *directory_url, size_t names, struct cm_err *err);
/* CM_E_POLICY when it registers only accounts that are @bound to one elsewhere: says where. */
CM_MUST_CHECK cm_status acme_ca_binding(const char *directory_url, bool bound, struct cm_err *err);
/* What that CA allows, unless @events and @window_ms say otherwise: see cm_acme_options.
 * CM_E_INVAL for what makes no sense of them. */
CM_MUST_CHECK cm_status acme_ca_limits(const char *directory_url, size_t events, int64_t window_ms,
                                       struct cm_issuer_limits *ret, struct cm_err *err);

/* ---- acme_clock.c ---- */

/* May an order be placed although our clock and the CA's differ? CM_E_STATE for a renewal that only
 * the clock asks for, when they are more than an hour apart. */
CM_MUST_CHECK cm_status acme_clock_check(struct acme_issuer *ai, const struct cm_op *op,
                                         const struct cm_issue_request *req, struct cm_err *err);

/* ---- acme_extra.c ---- */

/* CM_E_INVAL naming what makes no sense. NULL = all defaults. */
CM_MUST_CHECK cm_status acme_extra_take(struct acme_issuer *ai, const struct cm_acme_extra *given,
                                        struct cm_err *err);
void acme_extra_free(struct acme_issuer *ai);
/* Once the solver is there. CM_E_EXISTS: another issuer of the config is stateless. */
CM_MUST_CHECK cm_status acme_extra_attach(struct acme_issuer *ai, struct cm_err *err);
struct acme_order_times {
    char not_before[CM_TIME_TEXT];
    char not_after[CM_TIME_TEXT];
};
/* Put into @what the profile and the times; those it points to are in @times. CM_E_POLICY with what
 * there is when the CA's directory does not have the profile. */
CM_MUST_CHECK cm_status acme_extra_order(struct acme_issuer *ai, const struct cm_op *op,
                                         struct acme_order_times *times,
                                         struct cm_acme_new_order *what, struct cm_err *err);
/* Put in the place of @pem, the CA's default, the chain among @alternates that is wanted. */
void acme_extra_chain(struct acme_issuer *ai, const struct cm_op *op,
                      const struct cm_acme_signer *who, char **alternates, struct cm_buf *pem);

/* ---- acme_issue.c ---- */
cm_status acme_issue(struct cm_issuer *is, const struct cm_op *op,
                     const struct cm_issue_request *req, struct cm_issued *ret, struct cm_err *err);

/* ---- acme_types.c: which challenge is tried first ---- */

/* All types, best first: by how often each did for this CA, as this process has seen it, the latest
 * counting most; as they are numbered where that says nothing. */
void acme_types_order(struct acme_issuer *ai, enum acme_challenge_type ret[ACME_CHALLENGE_TYPES]);
void acme_types_note(struct acme_issuer *ai, enum acme_challenge_type type, bool worked);

/* ---- acme_validate.c ---- */

/* Bring a pending order for @req's names to ready: present an answer for each open authorization
 * with challenge @type, or for one that this cannot do with another that is enabled, tell the CA,
 * wait for the order, clean up. On
 * failure the authorizations that are still open are deactivated and the reason found.
 * CM_E_ACME for an authorization of a name that is not asked for, CM_E_NOTFOUND when the CA offers
 * no challenge of @type, CM_E_UNSUPPORTED when the solver cannot answer it. */
CM_MUST_CHECK cm_status acme_validate(struct acme_issuer *ai, const struct cm_op *op,
                                      const struct cm_acme_signer *who,
                                      const struct cm_issue_request *req, struct cm_acme_order *o,
                                      enum acme_challenge_type type, struct cm_err *err);

/* ---- util.c ---- */
/* Detached from cancellation and bounded: for taking back what was done. */
struct cm_op issuer_cleanup_op(const struct cm_op *op);

#endif
