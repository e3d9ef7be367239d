/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_SPI_H
#define CERTMESH_CM_SPI_H

/* What an author of a backend fills in (storage with its locker, issuer, solver), and the gates
 * through which certmesh itself calls those tables. Gates check arguments, abi and deadline, so a
 * backend need not; certmesh never calls an op without its gate.
 *
 * One shape everywhere: a `static const` table whose first fields are abi, size and name; an
 * instance struct whose first member is the public struct. Ops marked optional may be NULL: the
 * gate then answers CM_E_UNSUPPORTED or does what the comment says.
 * "ret_" parameters are written only when CM_OK is returned. Every op may be entered by several
 * threads at once and gives up soon after @op's deadline passes or it is canceled. */

#include <certmesh/cm_base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CM_SPI_ABI 1u

#define CM_OPS_HEAD                                                                                \
    uint32_t abi;    /* CM_SPI_ABI */                                                              \
    uint32_t size;   /* sizeof(the ops struct) as the author saw it */                             \
    const char *name /* "file", "acme": shown in logs and errors */

/* ----------------------------------------------------------------- storage */

#define CM_STORAGE_KEY_MAX       512u           /* bytes of a whole key */
#define CM_STORAGE_COMPONENT_MAX 255u           /* bytes of one component */
#define CM_STORAGE_VALUE_MAX     (1024u * 1024) /* bytes of one value */
#define CM_LOCK_NAME_MAX         512u
#define CM_COMMIT_MAX            64u /* items of one commit */

struct cm_key_info {
    const char *key;     /* full key; borrowed for the call that hands it out */
    int64_t modified_ns; /* wall clock of the storage */
    uint64_t size;       /* bytes; 0 for a directory */
    bool terminal;       /* false: a directory, that is a prefix of other keys */
};

/** One key of a list. Anything but CM_OK ends the listing and becomes its result. */
typedef cm_status (*cm_list_fn)(void *user, const struct cm_key_info *info, struct cm_err *err);

/** One value of load_many: @index is that of its key. @status CM_OK: @value, borrowed for the call;
 *  CM_E_NOTFOUND: absent; else that key failed, and @why says why. Anything but CM_OK ends it all
 *  and becomes the result. */
typedef cm_status (*cm_load_fn)(void *user, size_t index, cm_status status, struct cm_span value,
                                const struct cm_err *why, struct cm_err *err);

enum cm_change_kind {
    CM_CHANGE_VALUE = 0, /* the value at key was stored or removed */
    CM_CHANGE_UNLOCKED,  /* the lock called key was given back, or its holder died; of a peer's lock
                            key may be Safe(name), where the storage knows no more */
    CM_CHANGE_MISSED,    /* some changes may not have been told: anything may be new; key is NULL */
    CM_CHANGE_LOST /* nothing is told until CM_CHANGE_MISSED is, if it can be known; key is NULL */
};

/** What a storage tells of itself. A hint: it may come late, twice, or not at all. */
struct cm_change {
    uint32_t size;
    enum cm_change_kind kind;
    const char *key; /* borrowed for the call; of a removed subtree its root */
};

/** Called on a thread of the storage, one call at a time per watch; brief, and never calls the
 *  storage. */
typedef void (*cm_change_fn)(void *user, const struct cm_change *change);

/** One change of a commit. */
struct cm_commit_item {
    const char *key;
    struct cm_span value;
    bool remove; /* remove the value at key (missing is fine); value is ignored */
};

/**
 * A lock as granted: who holds it and in which generation. Filled in by try_lock; plain data for
 * everyone but the backend, which may hang its own state on @state.
 */
struct cm_grant {
    char name[CM_LOCK_NAME_MAX + 1];
    char token[48]; /* random, unique per grant */
    uint64_t fence; /* grows with every grant of this name, for ever */
    int64_t ttl_ns; /* the lease ends this long after the last refresh; a backend may grant less
                       than was asked for (file: at most 10 s, as its peers steal then) */
    void *state;    /* the backend's; released by unlock or drop */
};

/** What can be told of a lock that somebody holds. */
struct cm_lock_info {
    uint32_t size;
    char holder[128]; /* "host web-3, process 4711" as far as the backend knows; "another node" */
    int64_t since_ns; /* wall clock of the storage; 0 = not known */
    int64_t refreshed_ns;
};

/** One thing that a check found: @key (NULL: none in particular, borrowed), what is wrong with it
 * and what to do about it, and whether that was done just now. */
typedef void (*cm_check_fn)(void *user, const char *key, const char *what, bool repaired);

struct cm_storage;
struct cm_watch;

/**
 * A place that keeps named values and locks, and is shared by every node of a fleet.
 * A backend never learns what a value means.
 *
 * Keys: relative, '/'-separated, no empty, "." or ".." component, no control bytes; the gates see
 *   to it. Directories are implicit and cease with their last key. A backend may refuse to have a
 *   value and keys below it under one name (CM_E_EXISTS).
 *   "locks", "certmesh/locks", "certmesh/redo" and "certmesh/tmp" and all below them are reserved:
 *   the gates refuse them, lists do not show them.
 * Fork: a child opens the place anew. What its parent opened may refuse to work there; closing it
 * is fine, and touches nothing of the parent's. Model: certmagic's Storage and Locker, plus fences
 * and commit.
 */
struct cm_storage_ops {
    CM_OPS_HEAD;

    /**
     * Set the value at @key.
     * Atomic: a concurrent load yields the old value or the new one, whole.
     * Durable: once CM_OK is returned, a power cut does not undo it. A failed flush is a failure.
     */
    cm_status (*store)(struct cm_storage *st, const struct cm_op *op, const char *key,
                       struct cm_span value, struct cm_err *err);
    /** Append the value at @key to @ret (unchanged on failure). CM_E_NOTFOUND only if absent. */
    cm_status (*load)(struct cm_storage *st, const struct cm_op *op, const char *key,
                      struct cm_buf *ret, struct cm_err *err);
    /** Remove the value at @key, or everything below it. Missing is CM_OK. */
    cm_status (*remove)(struct cm_storage *st, const struct cm_op *op, const char *key,
                        struct cm_err *err);
    /** Facts on a value or a directory; ret->key is @key. CM_E_NOTFOUND only if absent. */
    cm_status (*stat)(struct cm_storage *st, const struct cm_op *op, const char *key,
                      struct cm_key_info *ret, struct cm_err *err);
    /**
     * Hand out keys below @prefix ("" = all) in byte order per directory. Not recursive: direct
     * children, values and directories. Recursive: values only. A missing prefix is an empty list.
     * No lock of the backend is held during @each.
     */
    cm_status (*list)(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                      bool recursive, cm_list_fn each, void *user, struct cm_err *err);

    /**
     * Try once to take the lock @name for @ttl_ns. CM_E_BUSY when another holds it: then
     * *ret_wait_ns, if not NULL, is how long it may be worth waiting before the next try.
     * A lock whose lease has run out is taken over. Time is the backend's, not the caller's.
     */
    cm_status (*try_lock)(struct cm_storage *st, const struct cm_op *op, const char *name,
                          int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                          struct cm_err *err);
    /** Start the lease anew. CM_E_LOCK_LOST when another took it or it is gone. May run at the same
     *  time as a commit under the same grant: neither changes it. */
    cm_status (*refresh)(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                         struct cm_err *err);
    /** Give the lock back and release grant->state whatever happens. CM_E_LOCK_LOST if it was not
     *  ours any more: then the other's lock is untouched. */
    cm_status (*unlock)(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                        struct cm_err *err);
    /** Release grant->state without touching the lock (after a fork, or when it is lost). */
    void (*drop)(struct cm_storage *st, struct cm_grant *grant);
    /**
     * Store several values while @grant is held: all or nothing, as far as the backend can.
     * CM_E_LOCK_LOST when it is not: then nothing was changed. @grant NULL: no lock needed.
     * 1..CM_COMMIT_MAX items, no key twice.
     */
    cm_status (*commit)(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                        const struct cm_commit_item *items, size_t n, struct cm_err *err);

    /** Where this is, without secrets ("file:///var/lib/x"); borrowed. */
    const char *(*describe)(struct cm_storage *st);
    /** Never called while an op runs. */
    void (*destroy)(struct cm_storage *st);
    /** Optional: who holds the lock @name, for people. Changes nothing. CM_E_NOTFOUND when nobody
     *  does (any more). */
    cm_status (*lock_info)(struct cm_storage *st, const struct cm_op *op, const char *name,
                           struct cm_lock_info *ret, struct cm_err *err);
    /** Optional: load @n values in fewer round trips than as many loads; in any order, each key
     *  once. Memory stays bounded: values are handed out as they come. No lock of the backend is
     *  held during @each, which runs on the caller's thread. NULL: the gate loads one by one. */
    cm_status (*load_many)(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                           size_t n, cm_load_fn each, void *user, struct cm_err *err);
    /** Optional: tell @fn of changes, by whichever node they are made, from now until unwatch. Does
     *  not wait for a connection: a feed that cannot be had yet, or breaks, is tried again in the
     *  background, and CM_CHANGE_MISSED follows once it stands (again); CM_CHANGE_LOST, once or
     *  more often, may come before. A handle's own changes may be told, too. CM_E_UNSUPPORTED:
     *  never by this handle; after another error it is worth another try. NULL: users poll. */
    cm_status (*watch)(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                       struct cm_err *err);
    /** With watch. When this returns, @fn is not running and never will again. Never called from
     *  @fn. */
    void (*unwatch)(struct cm_storage *st, struct cm_watch *watch);
    /** Optional: look through all that this backend keeps for what is wrong with it as a backend:
     *  an index that does not fit, things left over, values that it would refuse. It knows nothing
     *  of what values mean. @repair: put right what can be without losing a value. Safe while
     *  others use the storage; may take long. Finding something is no failure. */
    cm_status (*check)(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                       void *user, struct cm_err *err);
    /** Optional: as list, but only what comes after @after in that order, so that a list that broke
     *  off goes on where it was, and a long one can be taken in parts. @after is a key that such a
     *  list may show; it need not be there (any more). NULL: the gate lists all and passes over. */
    cm_status (*list_after)(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                            const char *after, bool recursive, cm_list_fn each, void *user,
                            struct cm_err *err);
};

struct cm_storage {
    const struct cm_storage_ops *ops;
};

struct cm_storage_open_options {
    uint32_t size;
    const struct cm_env *env; /* NULL = the real one */
    struct cm_log log;
};
#define CM_STORAGE_OPEN_OPTIONS_INIT                                                               \
    {                                                                                              \
        (uint32_t)sizeof(struct cm_storage_open_options), NULL,                                    \
        {                                                                                          \
            NULL, NULL, CM_LOG_INFO                                                                \
        }                                                                                          \
    }

/**
 * Open storage by URL: "file:///abs/path", "file:rel/path", a plain path, "memory:", or NULL/""
 * for the default place ($XDG_DATA_HOME/certmagic, else $HOME/.local/share/certmagic). Builds with
 * Redis take redis:, rediss:, redis+unix:, unix:, and redis[s] with +sentinel or +cluster, those
 * with PostgreSQL postgres: and postgresql:; opening these connects to nobody yet.
 * Errors: CM_E_INVAL (unknown scheme or parameter, named in the message), CM_E_PERM, CM_E_IO.
 * Ownership: caller; cm_storage_close().
 */
CM_API CM_MUST_CHECK cm_status cm_storage_open(const char *url,
                                               const struct cm_storage_open_options *opts,
                                               struct cm_storage **ret, struct cm_err *err);
/** NULL is fine. No call may be running. */
CM_API void cm_storage_close(struct cm_storage *st);

/* The gates: contracts as in the table above. */
CM_API CM_MUST_CHECK cm_status cm_storage_store(struct cm_storage *st, const struct cm_op *op,
                                                const char *key, struct cm_span value,
                                                struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_load(struct cm_storage *st, const struct cm_op *op,
                                               const char *key, struct cm_buf *ret,
                                               struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_remove(struct cm_storage *st, const struct cm_op *op,
                                                 const char *key, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_stat(struct cm_storage *st, const struct cm_op *op,
                                               const char *key, struct cm_key_info *ret,
                                               struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_list(struct cm_storage *st, const struct cm_op *op,
                                               const char *prefix, bool recursive, cm_list_fn each,
                                               void *user, struct cm_err *err);
/** @after NULL or "": all. CM_E_INVAL when @after is not below @prefix, or, without @recursive, not
 *  directly below. */
CM_API CM_MUST_CHECK cm_status cm_storage_list_after(struct cm_storage *st, const struct cm_op *op,
                                                     const char *prefix, const char *after,
                                                     bool recursive, cm_list_fn each, void *user,
                                                     struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_try_lock(struct cm_storage *st, const struct cm_op *op,
                                                   const char *name, int64_t ttl_ns,
                                                   struct cm_grant *ret, int64_t *ret_wait_ns,
                                                   struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_refresh(struct cm_storage *st, const struct cm_op *op,
                                                  struct cm_grant *grant, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_storage_unlock(struct cm_storage *st, const struct cm_op *op,
                                                 struct cm_grant *grant, struct cm_err *err);
CM_API void cm_storage_drop(struct cm_storage *st, struct cm_grant *grant);
CM_API CM_MUST_CHECK cm_status cm_storage_commit(struct cm_storage *st, const struct cm_op *op,
                                                 const struct cm_grant *grant,
                                                 const struct cm_commit_item *items, size_t n,
                                                 struct cm_err *err);
CM_API const char *cm_storage_describe(struct cm_storage *st);
CM_API CM_MUST_CHECK cm_status cm_storage_lock_info(struct cm_storage *st, const struct cm_op *op,
                                                    const char *name, struct cm_lock_info *ret,
                                                    struct cm_err *err);
/** As in the table. @n 0 is fine. */
CM_API CM_MUST_CHECK cm_status cm_storage_load_many(struct cm_storage *st, const struct cm_op *op,
                                                    const char *const *keys, size_t n,
                                                    cm_load_fn each, void *user,
                                                    struct cm_err *err);
/** CM_E_UNSUPPORTED: this storage tells nothing; poll. */
CM_API CM_MUST_CHECK cm_status cm_storage_watch(struct cm_storage *st, cm_change_fn fn, void *user,
                                                struct cm_watch **ret, struct cm_err *err);
/** NULL is fine. */
CM_API void cm_storage_unwatch(struct cm_storage *st, struct cm_watch *watch);

/** CM_E_UNSUPPORTED: this storage has nothing to look at beside its values. */
CM_API CM_MUST_CHECK cm_status cm_storage_check(struct cm_storage *st, const struct cm_op *op,
                                                bool repair, cm_check_fn each, void *user,
                                                struct cm_err *err);

/** CM_OK if @key is well-formed, else CM_E_INVAL naming what is wrong. "" passes if @prefix_ok. */
CM_API CM_MUST_CHECK cm_status cm_storage_key_check(const char *key, bool prefix_ok,
                                                    struct cm_err *err);

/* ------------------------------------------------------------------- lease */

/**
 * A held lock with its heartbeat: refreshed in the background until released. When it is lost the
 * holder learns it at once: cm_lease_cancel() fires, cm_lease_check() fails, commits are refused.
 */
struct cm_lease;

struct cm_lease_options {
    uint32_t size;
    int64_t ttl_ns; /* 0 = 15 s */
    bool try_only;  /* CM_E_BUSY instead of waiting */
    struct cm_log log;
};
#define CM_LEASE_OPTIONS_INIT                                                                      \
    {                                                                                              \
        (uint32_t)sizeof(struct cm_lease_options), 0, false,                                       \
        {                                                                                          \
            NULL, NULL, CM_LOG_INFO                                                                \
        }                                                                                          \
    }

/**
 * Take the lock @name, waiting (with jitter, at most until @op ends) while another holds it.
 * Ownership: caller; cm_lease_release(). The storage must outlive the lease.
 * Threads: any. Fork: the child's copy is dead (check fails); it never touches the lock.
 */
CM_API CM_MUST_CHECK cm_status cm_lease_acquire(struct cm_storage *st, const struct cm_op *op,
                                                const char *name,
                                                const struct cm_lease_options *opts,
                                                struct cm_lease **ret, struct cm_err *err);
/** No I/O. CM_E_LOCK_LOST once the heartbeat failed for good or the lease ran out unrefreshed. */
CM_API CM_MUST_CHECK cm_status cm_lease_check(struct cm_lease *lease, struct cm_err *err);
/** Child of the acquiring op's token that also fires on loss. Borrowed until release. */
CM_API struct cm_cancel *cm_lease_cancel(struct cm_lease *lease);
CM_API uint64_t cm_lease_fence(const struct cm_lease *lease);
/** cm_storage_commit() under this lease. */
CM_API CM_MUST_CHECK cm_status cm_lease_commit(struct cm_lease *lease, const struct cm_op *op,
                                               const struct cm_commit_item *items, size_t n,
                                               struct cm_err *err);
/** Stop the heartbeat, give the lock back, free. Works (bounded to a few seconds) although the
 *  acquiring op was canceled. NULL is fine. */
CM_API void cm_lease_release(struct cm_lease *lease);

/* ------------------------------------------------------- challenges, solver */

enum cm_ident_type { CM_IDENT_DNS = 0, CM_IDENT_IP = 1 };

/** One challenge as the CA set it (RFC 8555 8). All borrowed. */
struct cm_challenge {
    const char *type; /* "http-01", "tls-alpn-01", "dns-01" */
    const char *url;
    const char *token;             /* validated: 1..128 base64url characters */
    const char *key_authorization; /* token "." thumbprint */
    enum cm_ident_type ident_type;
    const char *ident;  /* A-label name without wildcard, or IP text */
    const char *prefix; /* storage prefix of the CA: "acme/<Safe(issuer key)>" */
};

struct cm_solver;

struct cm_solver_ops {
    CM_OPS_HEAD;
    /** Can this solver do @type for this kind of identifier? */
    bool (*can)(struct cm_solver *sv, const char *type, enum cm_ident_type ident_type,
                bool wildcard);
    /** Make the answer visible to the CA. *ret_state is handed to wait and cleanup. */
    cm_status (*present)(struct cm_solver *sv, const struct cm_op *op,
                         const struct cm_challenge *ch, void **ret_state, struct cm_err *err);
    /** Optional: wait until the answer can be seen from outside (DNS propagation). */
    cm_status (*wait)(struct cm_solver *sv, const struct cm_op *op, void *state,
                      struct cm_err *err);
    /** Take the answer back. Exactly once per successful present; @op is detached from the job's
     *  cancellation and bounded. */
    void (*cleanup)(struct cm_solver *sv, const struct cm_op *op, void *state);
    void (*destroy)(struct cm_solver *sv);
    /** Optional: as that of an issuer. */
    void (*stop)(struct cm_solver *sv);
};

struct cm_solver {
    const struct cm_solver_ops *ops;
};

/**
 * Answers to open challenges that this process knows in memory; the TLS and HTTP doors look here
 * before they ask storage. Belongs to a config.
 */
struct cm_board;

/** Put up an answer (copied). The same identifier and type replaces. */
CM_API CM_MUST_CHECK cm_status cm_board_put(struct cm_board *b, const struct cm_challenge *ch,
                                            struct cm_err *err);
/** Take it down; only if the token still matches. */
CM_API void cm_board_remove(struct cm_board *b, const struct cm_challenge *ch);

/* ------------------------------------------------------------------ issuer */

enum cm_phase {
    CM_PHASE_WAITING = 0, /* for the lock or for a turn */
    CM_PHASE_ORDERING,
    CM_PHASE_VALIDATING,
    CM_PHASE_FINALIZING,
    CM_PHASE_STORED,
    CM_PHASE_FAILED
};

/** What a job asks of an issuer. All borrowed for the call. */
struct cm_issue_request {
    uint32_t size;
    const char *const *names; /* normalized: A-labels, canonical IP text; n >= 1 */
    size_t n_names;
    struct cm_span csr_der;
    unsigned attempt; /* 0 = first */
    struct cm_span
        resume;           /* what an earlier call handed to checkpoint for this CSR; may be empty */
    const char *replaces; /* ARI certificate id of the predecessor, or NULL */
    /** Journal @state durably before anything that cannot be repeated (finalize). An error must
     *  end the issuance. May be called several times; the last one counts. */
    cm_status (*checkpoint)(void *user, const struct cm_op *op, struct cm_span state,
                            struct cm_err *err);
    /** Tell how far it is. May be NULL. */
    void (*progress)(void *user, enum cm_phase phase);
    void *user;
    const char
        *replaces_account; /* URL of the account that ordered the predecessor; NULL unknown */
    bool renewal;          /* there is a predecessor, whose time (by this clock) has come */
    bool forced;           /* it is asked for whatever the time */
    int64_t replaces_not_after_s; /* when the predecessor expires; 0 = unknown */
};

/** What an issuer gives back. Caller frees both buffers. */
struct cm_issued {
    struct cm_buf chain_pem;   /* leaf first, the CA's bytes verbatim */
    struct cm_buf issuer_data; /* JSON value for the metadata file; empty = null */
};

struct cm_config;

/** What a config lends its issuers, for as long as the issuer lives in it. */
struct cm_issuer_host {
    uint32_t size;
    struct cm_storage *storage;
    struct cm_board *board;
    const struct cm_env *env;
    struct cm_log log;
    const char *listen_host;  /* for solvers that open a port of their own; NULL = all */
    uint16_t http_port;       /* 80; where challenges are answered, and so is the next */
    uint16_t tls_port;        /* 443 */
    struct cm_config *config; /* the config itself; usable once attach has returned */
};

/** What a CA suggests for the renewal of one certificate (RFC 9773 4.2). */
struct cm_renewal_info {
    uint32_t size;
    int64_t start_s; /* of the window; start_s < end_s */
    int64_t end_s;
    int64_t retry_after_s; /* from now until it may be asked again, 60 .. 86400 */
    char explanation_url[256];
};

/** What a CA is known to allow, or was configured to. */
struct cm_issuer_limits {
    uint32_t size;
    size_t events; /* new orders per account in any window; both 0 = no limit */
    int64_t window_ns;
    bool renewals_exempt;     /* a renewal that names its predecessor (ARI) does not count */
    bool refuses_must_staple; /* the CA does not issue for CSRs that ask for it */
};

struct cm_issuer;

struct cm_issuer_ops {
    CM_OPS_HEAD;
    /** Raw issuer key, distinct per CA ("acme-v02.api.letsencrypt.org-directory"); borrowed. */
    const char *(*key)(struct cm_issuer *is);
    /** Optional: called once when a config takes the issuer in, before anything else. */
    cm_status (*attach)(struct cm_issuer *is, const struct cm_issuer_host *host,
                        struct cm_err *err);
    /** Optional: refuse names this CA cannot certify, before anything is ordered. No I/O. */
    cm_status (*precheck)(struct cm_issuer *is, const char *const *names, size_t n,
                          struct cm_err *err);
    /** CM_E_EXISTS: @req->replaces was replaced already, so a peer may have stored its successor.
     */
    cm_status (*issue)(struct cm_issuer *is, const struct cm_op *op,
                       const struct cm_issue_request *req, struct cm_issued *ret,
                       struct cm_err *err);
    /** Optional. @leaf_der is the certificate; @reason an RFC 5280 5.3.1 code or -1 for none. */
    cm_status (*revoke)(struct cm_issuer *is, const struct cm_op *op, struct cm_span leaf_der,
                        int reason, struct cm_err *err);
    /** Optional: storage prefix under which this issuer's challenge tokens lie, index 0, 1, ...
     *  NULL ends ("acme/<Safe(key)>"). Borrowed. */
    const char *(*challenge_prefix)(struct cm_issuer *is, unsigned index);
    void (*destroy)(struct cm_issuer *is);
    /** Optional: when the CA suggests to renew this certificate (RFC 9773 4). CM_E_UNSUPPORTED when
     *  it makes no suggestions, CM_E_NOTFOUND when it does not know the certificate. */
    cm_status (*renewal_info)(struct cm_issuer *is, const struct cm_op *op, struct cm_span leaf_der,
                              struct cm_renewal_info *ret, struct cm_err *err);
    /** Optional: what this CA allows. No I/O. */
    void (*limits)(struct cm_issuer *is, struct cm_issuer_limits *ret);
    /** Optional: when it returns nothing of the issuer's uses the host any more: no thread, no
     * port. Called once before destroy, when nothing is issued any more; until it returns the
     * config answers challenges (those of peers too), and destroy finds the host gone. Bounded. */
    void (*stop)(struct cm_issuer *is);
    /** Optional: take away what processes that died left elsewhere than in storage, in DNS say. */
    cm_status (*clean)(struct cm_issuer *is, const struct cm_op *op, struct cm_err *err);
};

struct cm_issuer {
    const struct cm_issuer_ops *ops;
};

/* Gates. */
CM_API const char *cm_issuer_key(struct cm_issuer *is);
CM_API CM_MUST_CHECK cm_status cm_issuer_attach(struct cm_issuer *is,
                                                const struct cm_issuer_host *host,
                                                struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_issuer_precheck(struct cm_issuer *is, const char *const *names,
                                                  size_t n, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_issuer_issue(struct cm_issuer *is, const struct cm_op *op,
                                               const struct cm_issue_request *req,
                                               struct cm_issued *ret, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_issuer_revoke(struct cm_issuer *is, const struct cm_op *op,
                                                struct cm_span leaf_der, int reason,
                                                struct cm_err *err);
CM_API const char *cm_issuer_challenge_prefix(struct cm_issuer *is, unsigned index);
CM_API CM_MUST_CHECK cm_status cm_issuer_renewal_info(struct cm_issuer *is, const struct cm_op *op,
                                                      struct cm_span leaf_der,
                                                      struct cm_renewal_info *ret,
                                                      struct cm_err *err);
/** No limits for an issuer that tells none. */
CM_API void cm_issuer_get_limits(struct cm_issuer *is, struct cm_issuer_limits *ret);
CM_API void cm_issuer_stop(struct cm_issuer *is);
CM_API CM_MUST_CHECK cm_status cm_issuer_clean(struct cm_issuer *is, const struct cm_op *op,
                                               struct cm_err *err); /* CM_OK without clean */
CM_API void cm_issuer_destroy(struct cm_issuer *is);

CM_API CM_MUST_CHECK bool cm_solver_can(struct cm_solver *sv, const char *type,
                                        enum cm_ident_type ident_type, bool wildcard);
CM_API CM_MUST_CHECK cm_status cm_solver_present(struct cm_solver *sv, const struct cm_op *op,
                                                 const struct cm_challenge *ch, void **ret_state,
                                                 struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_solver_wait(struct cm_solver *sv, const struct cm_op *op,
                                              void *state, struct cm_err *err);
CM_API void cm_solver_cleanup(struct cm_solver *sv, const struct cm_op *op, void *state);
CM_API void cm_solver_stop(struct cm_solver *sv);
CM_API void cm_solver_destroy(struct cm_solver *sv);

/* ----------------------------------------------------------------- fetcher */

/** One small thing from the web: an OCSP response, a CRL, an issuer's certificate. Borrowed. */
struct cm_fetch {
    uint32_t size;
    const char *method; /* "GET", "POST" */
    const char *url;    /* http or https */
    const char *content_type;
    const char *accept;
    struct cm_span body;
    size_t max_body; /* of the answer, bytes */
    int64_t timeout_ns;
};

struct cm_fetcher;

struct cm_fetcher_ops {
    CM_OPS_HEAD;
    /** CM_OK for any complete HTTP answer; its body is appended to @ret_body. Errors: CM_E_NET,
     *  CM_E_TLS, CM_E_TIMEOUT, CM_E_LIMIT, CM_E_POLICY, CM_E_CANCELED. */
    cm_status (*fetch)(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                       int *ret_http_status, struct cm_buf *ret_body, struct cm_err *err);
    void (*destroy)(struct cm_fetcher *f);
};

struct cm_fetcher {
    const struct cm_fetcher_ops *ops;
};

CM_API CM_MUST_CHECK cm_status cm_fetcher_fetch(struct cm_fetcher *f, const struct cm_op *op,
                                                const struct cm_fetch *req, int *ret_http_status,
                                                struct cm_buf *ret_body, struct cm_err *err);
CM_API void cm_fetcher_destroy(struct cm_fetcher *f);

/* -------------------------------------------------------------- key source */

/** Where private keys for new certificates come from, if not from certmesh itself. */
struct cm_key_source;

struct cm_key_source_ops {
    CM_OPS_HEAD;
    /** A key for a certificate with @names. @type is an enum cm_key_type, already DEFAULT resolved.
     *  @ret_pem is a secret buffer: PKCS #1, PKCS #8 or SEC 1 in PEM. Not called when a key is
     *  kept over a renewal. */
    cm_status (*new_key)(struct cm_key_source *ks, const struct cm_op *op, int type,
                         const char *const *names, size_t n, struct cm_buf *ret_pem,
                         struct cm_err *err);
    void (*destroy)(struct cm_key_source *ks);
};

struct cm_key_source {
    const struct cm_key_source_ops *ops;
};

/** What it gives is looked at: one that is no key, damaged, or of another type than asked for is
 *  CM_E_KEY. @ret_pem must be a secret buffer. */
CM_API CM_MUST_CHECK cm_status cm_key_source_new_key(struct cm_key_source *ks,
                                                     const struct cm_op *op, int type,
                                                     const char *const *names, size_t n,
                                                     struct cm_buf *ret_pem, struct cm_err *err);

#ifdef __cplusplus
}
#endif
#endif
