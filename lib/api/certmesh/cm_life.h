/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_LIFE_H
#define CERTMESH_CM_LIFE_H

/* What time does to certificates, and how a program sees it: the maintenance of a cache, events,
 * status, metrics, limits. Included by cm.h; conventions as there. */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_cache;
struct cm_cert;
struct cm_config;
struct cm_hello;

/** Why a certificate is revoked (RFC 5280 5.3.1): what cm_revoke() takes, and events tell. CAs take
 *  some of them from those whom they certify: Let's Encrypt 0, 1, 4 and 5. */
enum cm_revoke_reason {
    CM_REVOKE_NO_REASON = -1, /* say nothing of it; in events 0 */
    CM_REVOKE_UNSPECIFIED = 0,
    CM_REVOKE_KEY_COMPROMISE = 1,
    CM_REVOKE_CA_COMPROMISE = 2,
    CM_REVOKE_AFFILIATION_CHANGED = 3,
    CM_REVOKE_SUPERSEDED = 4,
    CM_REVOKE_CESSATION_OF_OPERATION = 5,
    CM_REVOKE_CERTIFICATE_HOLD = 6,
    CM_REVOKE_REMOVE_FROM_CRL = 8,
    CM_REVOKE_PRIVILEGE_WITHDRAWN = 9,
    CM_REVOKE_AA_COMPROMISE = 10
};

/* ------------------------------------------------------------------- events */

enum cm_event_type {
    CM_EVENT_TLS_GET_CERTIFICATE = 1, /* "tls_get_certificate": hello. May be vetoed */
    CM_EVENT_CERT_OBTAINING,          /* "cert_obtaining": identifier, renewal; of a renewal also
                                         forced, remaining_s, issuer. May be vetoed */
    CM_EVENT_CERT_OBTAINED,           /* "cert_obtained": renewal, identifier, issuer, *_path,
                                         csr_pem, cert; of a renewal also remaining_s */
    CM_EVENT_CERT_FAILED,           /* "cert_failed": renewal, identifier, issuers, error, attempts;
                                       of a renewal also remaining_s. Once per attempt */
    CM_EVENT_CERT_OCSP_REVOKED,     /* "cert_ocsp_revoked": cert, reason, revoked_at_s; whether OCSP
                                       or a CRL told is in source */
    CM_EVENT_CACHED_MANAGED_CERT,   /* "cached_managed_cert": cert. Not when it replaces one */
    CM_EVENT_CACHED_UNMANAGED_CERT, /* "cached_unmanaged_cert": cert, replacement */
    CM_EVENT_CERT_EXPIRING,         /* "cert_expiring": cert, remaining_s, tier. When 1/20 and when
                                       1/50 of the lifetime is left, and when it has expired */
    CM_EVENT_CERT_RENEW_SCHEDULED,  /* "cert_renew_scheduled": identifier, cert, at_s, source */
    CM_EVENT_LOCK_LOST,             /* "lock_lost": identifier (the lock's name), error */
    CM_EVENT_STORAGE_DOWN,          /* "storage_down": error */
    CM_EVENT_STORAGE_UP,            /* "storage_up" */
    CM_EVENT_CERT_KEY_AWAY,         /* "cert_key_away": cert, error. Its key is in a token that does
                                       not sign any more, and is looked for */
    CM_EVENT_CERT_KEY_BACK          /* "cert_key_back": cert */
};
/** "cert_obtained", ...; NULL for an unknown value. */
CM_API const char *cm_event_name(enum cm_event_type t);

/** One event. What does not belong to its type is 0 or NULL. All borrowed for the call. */
struct cm_event {
    uint32_t size;
    enum cm_event_type type;
    const char *name; /* as cm_event_name() */
    bool can_veto;    /* an error returned by the callback ends what was about to happen */
    bool renewal;
    bool forced;
    bool replacement;
    int reason;          /* enum cm_revoke_reason */
    unsigned attempts;   /* failures in a row, this one included */
    unsigned tier;       /* 20, 50: that part of the lifetime is left; 0: expired */
    int64_t remaining_s; /* until the old certificate expires; negative once it has */
    int64_t revoked_at_s;
    int64_t at_s;           /* when something is going to happen */
    const char *identifier; /* the name; several: joined by ',' */
    const char *issuer;     /* raw issuer key; of a renewal's "obtaining", of the old certificate */
    const char *source;     /* "ari", "ratio", "absolute", "retry"; "ocsp", "crl" */
    const char *const *issuers; /* keys of those tried, NULL-terminated */
    const char *storage_path;   /* storage keys */
    const char *private_key_path;
    const char *certificate_path;
    const char *metadata_path;
    const char *csr_pem;
    struct cm_cert *cert;
    const struct cm_hello *hello;
    const struct cm_err *error;
};

/**
 * Told of every event, synchronously, on the thread where it happens, without a lock held: be
 * quick, and hand work over. What it returns counts where @ev->can_veto is set: anything but CM_OK
 * ends the handshake or the issuance with that error. May call any function of certmesh but those
 * that free or stop something; what is told while a name is being worked on (everything but
 * "cert_obtained" and "cert_failed") must not wait for that same name.
 */
typedef cm_status (*cm_event_fn)(void *user, const struct cm_event *ev, struct cm_err *err);

/* -------------------------------------------------------------- maintenance */

/**
 * End the maintenance of @cache: its thread and whatever it has begun. Returns when nothing of it
 * runs any more, within 5 seconds from any point; locks are given back, challenge answers taken
 * down. Certificates stay and are served. Idempotent; what has been stopped stays so. Configs that
 * use the cache do this when they are freed.
 */
CM_API void cm_cache_stop(struct cm_cache *cache);
/**
 * Do now what is due, without waiting for the maintenance thread to see it; with @all also look at
 * storage for every managed name, due or not (a peer may have renewed it). Returns when that has
 * been begun, or, for a cache without a thread (cm_cache_options.no_thread), when it is done.
 * Errors: CM_E_STATE after cm_cache_stop().
 */
CM_API CM_MUST_CHECK cm_status cm_cache_maintain_now(struct cm_cache *cache, bool all,
                                                     struct cm_err *err);
/** When something is due next, in seconds since 1970; INT64_MAX when nothing is. */
CM_API int64_t cm_cache_next_due_s(struct cm_cache *cache);

/**
 * cm_cache_add_files() for files that somebody else replaces: they are watched, and a new pair
 * takes the old one's place. A pair that is broken, does not fit together or is expired never
 * does: it is logged once, and what is served stays. Watched until the cache is stopped.
 */
CM_API CM_MUST_CHECK cm_status cm_cache_watch_files(struct cm_cache *cache, const char *chain_file,
                                                    const char *key_file, const char *const *tags,
                                                    struct cm_err *err);

/* ------------------------------------------------------------------ limiter */

/** At most so many events in any window of time: a ring of the times of the last ones. */
struct cm_ring_limiter;
/**
 * @events 0 with @window_ns 0 never limits; one of them 0 alone, a negative window, or more than
 * 1,000,000 events is CM_E_INVAL. @env NULL = the real one. Threads: any, for all of these.
 */
CM_API CM_MUST_CHECK cm_status cm_ring_limiter_new(size_t events, int64_t window_ns,
                                                   const struct cm_env *env,
                                                   struct cm_ring_limiter **ret,
                                                   struct cm_err *err);
/** Wakes nobody: no wait may be running. NULL is fine. */
CM_API void cm_ring_limiter_free(struct cm_ring_limiter *l);
/** Take one event's place if there is one now. */
CM_API bool cm_ring_limiter_allow(struct cm_ring_limiter *l);
/** ns until a place is free; 0 = now. Takes none. */
CM_API int64_t cm_ring_limiter_next_ns(struct cm_ring_limiter *l);
/** Take a place, waiting for it in the order of arrival. CM_E_TIMEOUT, CM_E_CANCELED. */
CM_API CM_MUST_CHECK cm_status cm_ring_limiter_wait(struct cm_ring_limiter *l,
                                                    const struct cm_op *op, struct cm_err *err);
/** Change the limit; the latest events are kept as far as they fit. Errors as for new. */
CM_API CM_MUST_CHECK cm_status cm_ring_limiter_set(struct cm_ring_limiter *l, size_t events,
                                                   int64_t window_ns, struct cm_err *err);
CM_API size_t cm_ring_limiter_events(struct cm_ring_limiter *l);
CM_API int64_t cm_ring_limiter_window_ns(struct cm_ring_limiter *l);

/* ------------------------------------------------------------------- status */

enum cm_life_state {
    CM_LIFE_MISSING = 0, /* nothing usable, nor an attempt yet */
    CM_LIFE_GOOD,        /* valid, and renewal is not due */
    CM_LIFE_DUE,         /* valid, renewal is due and going on or about to */
    CM_LIFE_FAILING,     /* the last attempt failed; valid all the same or not: see not_after_s */
    CM_LIFE_EXPIRED,
    CM_LIFE_REVOKED,
    CM_LIFE_DAMAGED /* what storage holds cannot be used */
};
CM_API const char *cm_life_state_text(enum cm_life_state s); /* "good", "due", ... */

/** What is known of one name. Times in seconds since 1970, 0 = none. */
struct cm_life_status {
    uint32_t size;
    enum cm_life_state state;
    char name[1024];      /* names joined by ',' */
    char issuer_key[256]; /* of the certificate */
    char serial[64];
    int64_t not_before_s, not_after_s;
    int64_t renew_at_s;   /* by the rules alone */
    char renew_rule[16];  /* "ari", "ratio", "absolute", "emergency" */
    char next_action[24]; /* "renew", "retry", "staple", "ari", "obtain", "none" */
    int64_t next_at_s;
    unsigned attempts; /* failures in a row */
    int64_t last_failed_s;
    int64_t next_try_s;
    bool no_retry;     /* nothing will change until somebody does something */
    char problem[128]; /* RFC 8555 6.7 type */
    char last_error[512];
    bool ari_known;
    int64_t ari_start_s, ari_end_s, ari_selected_s, ari_again_s;
    bool staple_known;
    int64_t staple_this_update_s, staple_next_update_s, staple_refresh_s;
    char ocsp_url[256];    /* "" = the certificate names no responder */
    char lock_holder[128]; /* who has the lock of this name, "" = nobody */
    int64_t lock_since_s;
    int64_t ca_paused_until_s; /* its CA takes nothing before; 0 = it does */
    char ca_reason[256];
};
/** What storage (and the cache, where cfg serves the name) says of @name, or of what a directory of
 *  the layout holds. Orders nothing, changes nothing, asks no CA.
 *  CM_E_NOTFOUND when nothing at all is known of it. */
CM_API CM_MUST_CHECK cm_status cm_status_of(struct cm_config *cfg, const struct cm_op *op,
                                            const char *name, struct cm_life_status *ret,
                                            struct cm_err *err);
typedef cm_status (*cm_status_fn)(void *user, const struct cm_life_status *st, struct cm_err *err);
/** All that storage knows of, and what cfg manages. */
CM_API CM_MUST_CHECK cm_status cm_status_each(struct cm_config *cfg, const struct cm_op *op,
                                              cm_status_fn each, void *user, struct cm_err *err);
/** The decision on @name replayed: sentences for a person, one per call of @line, each about one
 *  rule: what it looked at, what it found, what follows. The last one is the outcome. */
CM_API CM_MUST_CHECK cm_status cm_status_why(struct cm_config *cfg, const struct cm_op *op,
                                             const char *name,
                                             void (*line)(void *user, const char *text), void *user,
                                             struct cm_err *err);

/* -------------------------------------------------------------------- fleet */

/* Nodes that announce themselves (cm_config_options.announce) on one storage. */

enum cm_node_state {
    CM_NODE_CURRENT = 0,
    CM_NODE_LAGS, /* some of its names are behind or missing */
    CM_NODE_GONE  /* not heard of for ten minutes, or what it said is damaged */
};
CM_API const char *cm_node_state_text(enum cm_node_state s); /* "current", ... */

enum cm_fleet_name_state {
    CM_FLEET_NAME_CURRENT = 0,
    CM_FLEET_NAME_WAITING, /* managed, but nobody serves it yet */
    CM_FLEET_NAME_BEHIND,  /* storage has a newer certificate than the node serves */
    CM_FLEET_NAME_MISSING  /* another node serves it, this one does not */
};
CM_API const char *cm_fleet_name_state_text(enum cm_fleet_name_state s);

/** One configuration of one process. Times in seconds since 1970. */
struct cm_fleet_node {
    uint32_t size;
    enum cm_node_state state;
    char id[33];    /* random, another one at each start */
    char name[128]; /* as it calls itself */
    char host[65];
    char version[32];
    unsigned pid;
    int64_t started_s;
    int64_t seen_s;
    size_t n_names; /* that it manages */
    size_t n_behind, n_missing;
    bool incomplete; /* not all its names can be read just now: none counts as missing */
};

/** One of its names, or one that it lacks. Texts are borrowed for the call, "" = none. */
struct cm_fleet_name {
    uint32_t size;
    enum cm_fleet_name_state state; /* of a node that is gone: CURRENT or WAITING */
    const char *name;
    const char *serial; /* of what the node serves */
    int64_t not_before_s, not_after_s;
    const char *stored_serial; /* of the newest certificate in storage */
};

typedef cm_status (*cm_fleet_fn)(void *user, const struct cm_fleet_node *node,
                                 const struct cm_fleet_name *names, size_t n_names,
                                 struct cm_err *err);
/** Every node that storage knows of, by name, with its names in order. What nodes say is up to a
 *  minute old. Reads each certificate in storage once; changes nothing, asks no node. Whatever
 *  @each returns but CM_OK ends it. */
CM_API CM_MUST_CHECK cm_status cm_fleet_each(struct cm_config *cfg, const struct cm_op *op,
                                             cm_fleet_fn each, void *user, struct cm_err *err);

/* ------------------------------------------------------------------ metrics */

/**
 * Prometheus text (exposition format 0.0.4) of all that is served and done by @cfg, handed to
 * @write piece by piece: certmesh_certificate_not_after_seconds{name,issuer},
 * certmesh_renewals_total{outcome,class}, certmesh_staple_age_seconds{name}, certmesh_queue_length,
 * certmesh_lock_wait_seconds (a histogram), ... Does no I/O. Whatever @write returns but CM_OK ends
 * it.
 */
CM_API CM_MUST_CHECK cm_status cm_metrics_write(struct cm_config *cfg,
                                                cm_status (*write)(void *user, struct cm_span text,
                                                                   struct cm_err *err),
                                                void *user, struct cm_err *err);

struct cm_metrics_listener;
/**
 * Answer GET /metrics over plain HTTP on host:port, in threads of its own (a few; connections are
 * bounded, and none may stall for long). @host NULL = 127.0.0.1, @port 0 = some free one. Names and
 * dates are no secrets, but nor are they everybody's business: choose an address that only your
 * machines get to. Close it before @cfg is freed.
 */
CM_API CM_MUST_CHECK cm_status cm_metrics_listen(struct cm_config *cfg, const char *host,
                                                 uint16_t port, struct cm_metrics_listener **ret,
                                                 struct cm_err *err);
CM_API uint16_t cm_metrics_port(const struct cm_metrics_listener *l);
/** Answers under way are cut short. NULL is fine. */
CM_API void cm_metrics_close(struct cm_metrics_listener *l);

#ifdef __cplusplus
}
#endif
#endif
