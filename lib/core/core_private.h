/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_PRIVATE_H
#define CM_CORE_PRIVATE_H

/* What the files of lib/core share. Nobody outside includes this.
 *
 * LOCK ORDER (the one list). Take them only downwards; none is held across a vtable call, a
 * callback of the program or a log line.
 *
 *   1. flights       flight.c   one issuance per name in this process (held for moments only)
 *      desk          ondemand/ask.c   names that are being decided
 *   2. names         manage.c   the table of managed names and their states
 *   3. pump          life/pump.c      names that wait for their turn at the CA
 *      token watch   lib/pki/key_tend.c  who is told of tokens
 *   4. clockwork     life/maintain.c  what is due when
 *   5. hub           pending.c  who waits for which answer
 *   6. run queue     runq.c     jobs not yet taken by a worker
 *   7. cache writer  cache.c    the list of certificates, capacity
 *   8. index stripes index.c    all of them, in ascending order, to write; one's own to read
 *   9. leaves        uplink.c, adapter.c (what is attached), board.c, probe.c,
 *                    life/staple_slot.c, life/responders.c, life/ring.c, life/cagate.c,
 *                    life/peers.c, life/tickets.c, snapshot.c, ondemand/{denied,pace,source,
 *                    decision}.c: nothing is taken while one of
 *                    these is held
 */

#include "core.h"

#include <stdatomic.h>

#define CM_CERT_SKEW_S                                                                             \
    (6 * 3600)                 /* a CA's clock may be ahead that much: accepted, stored,           \
                                  served once its time has come */
#define CM_CANDIDATES_MAX  16u /* certificates of one name that are compared */
#define CM_META_MAX        (64u * 1024)
#define CM_TOKEN_VALUE_MAX (16u * 1024)
#define CM_PEM_FILE_MAX    CM_CHAIN_PEM_MAX
#define CM_ISSUERS_MAX     16u
#define CM_SUBJECT_MAX     100u /* names of one certificate, as the public CAs limit it */

#include "layout.h"

/* ----------------------------------------------------------- spi_storage.c */

/* Has it a load_many of its own, so that asking for much at once is quicker than one by one? */
bool cm_storage_has_load_many(const struct cm_storage *st);

/* -------------------------------------------------------------- spi_keys.c */

/* cm_key_source_new_key(), as a key. CM_E_KEY if what the source gave is none, damaged or of
 * another type. */
CM_MUST_CHECK cm_status cm_key_source_key(struct cm_key_source *ks, const struct cm_op *op,
                                          enum cm_pk type, const char *const *names, size_t n,
                                          struct cm_key **ret, struct cm_err *err);

/* ------------------------------------------------------------------ cert.c */

/* What certificates of one issuer have in common: the chain above the leaf, the issuer's name and
 * key. One object in the process for all that share it (uplink.c). Immutable. */
struct cm_uplink {
    struct cm_uplink *next;
    uint64_t hash;
    size_t refs; /* guarded by the table's lock */
    size_t n;
    struct cm_span der[CM_CHAIN_CERTS_MAX - 1];
    const char *issuer_key;
    const char *issuer_cn;
    size_t len;
    uint8_t bytes[]; /* DERs one after the other, then the texts */
};
CM_MUST_CHECK cm_status cm_uplink_get(const struct cm_chain *chain, const char *issuer_key,
                                      const char *issuer_cn, struct cm_uplink **ret,
                                      struct cm_err *err);
void cm_uplink_put(struct cm_uplink *u); /* NULL ok */

enum cm_cert_flags { CM_CERT_MANAGED = 1, CM_CERT_CHALLENGE = 2 };
#define CM_NO_SLOT UINT32_MAX

/* One allocation: this, then the texts (names, tags, serial, each with its NUL), leaf DER and key
 * DER. The names come first because a look-up compares the name and counts the reference: so it
 * touches one place in memory. Idle it costs its DER, some 100 bytes here and its slots in the
 * index. */
struct cm_cert {
    _Atomic int32_t refs; /* and those of the tallies (refs.c) */
    uint32_t slot;        /* in the list of its cache; guarded by the cache's writer lock, as is */
    uint32_t keeps; /* how many brought it, of the program's own; see cm_cache_replace_own() */
    _Atomic(struct cm_tally *) tallies;
    _Atomic(struct cm_attachment *) attached; /* adapter.c */
    struct cm_uplink *uplink;
    int64_t not_before_s;
    int64_t not_after_s;
    uint32_t tags_off; /* in bytes, as are ... */
    uint32_t serial_off;
    uint32_t leaf_off;
    uint32_t leaf_len;
    uint16_t key_len;
    uint16_t n_names;
    uint16_t n_tags;
    uint8_t key_type;                       /* enum cm_pk */
    uint8_t flags;                          /* enum cm_cert_flags */
    bool passing;                           /* a client asked for it: see cm_cache_mark_passing();
                                               guarded by the cache's writer lock */
    _Atomic uint8_t used;                   /* looked up since the last search for room */
    _Atomic uint8_t crowded;                /* was looked up while somebody else had it */
    _Atomic(struct cm_stapling *) stapling; /* life/staple_slot.c; NULL = there is no responder */
    uint8_t bytes[];
};

/* What a certificate is made of. All borrowed. */
struct cm_cert_parts {
    const struct cm_chain *chain;
    const struct cm_leaf *leaf; /* parsed chain->der[0] */
    const struct cm_key *key;
    const char *issuer_key; /* NULL = "" */
    const char *const *tags;
    unsigned flags;
};
/* Its key as cm_key_to_der() has it; borrowed. */
struct cm_span cm_cert_key_form(const struct cm_cert *c);
/* No check that the parts belong together: that is the caller's. */
CM_MUST_CHECK cm_status cm_cert_new(const struct cm_cert_parts *parts, struct cm_cert **ret,
                                    struct cm_err *err);
/* Parse chain and key, see that the key fits the leaf (CM_E_KEY if not). */
CM_MUST_CHECK cm_status cm_cert_from_pem(struct cm_span chain_pem, struct cm_span key_pem,
                                         const char *issuer_key, const char *const *tags,
                                         unsigned flags, struct cm_cert **ret, struct cm_err *err);
/* End of @c. */
void cm_cert_detach_all(struct cm_cert *c);
/* Does one of its SANs cover the normalized @name? */
bool cm_cert_covers(const struct cm_cert *c, const char *name);
bool cm_cert_covers_all(const struct cm_cert *c, const char *const *names, size_t n);
/* Within its validity at @now_s, which may lie @skew_s before its beginning. */
bool cm_cert_is_valid_at(const struct cm_cert *c, int64_t now_s, int64_t skew_s);
bool cm_cert_same_leaf(const struct cm_cert *a, const struct cm_cert *b);
/* And chain, issuer and key, to the last byte. */
bool cm_cert_same_all(const struct cm_cert *a, const struct cm_cert *b);
/* Has @c all tags of @other? */
bool cm_cert_has_tags_of(const struct cm_cert *c, const struct cm_cert *other);
/* @c again, with the tags of @other, too. */
CM_MUST_CHECK cm_status cm_cert_with_tags_of(const struct cm_cert *c, const struct cm_cert *other,
                                             struct cm_cert **ret, struct cm_err *err);

/* ------------------------------------------------------------------ refs.c */

/* A small number that threads running side by side rarely share. */
unsigned cm_thread_number(void);
/* cm_cert_ref() for a look-up among what a cache holds: notes whether @c is crowded. Any other
 * reference tells nothing of how many ask for it. */
struct cm_cert *cm_cert_ref_found(struct cm_cert *c);
/* For a cache that holds @c and has seen it crowded: from now on threads count apart. Without
 * memory nothing changes. */
void cm_cert_open_tallies(struct cm_cert *c);
/* The cache drops its reference; nobody opens tallies any more. NULL ok. */
void cm_cert_retire(struct cm_cert *c);
/* cert.c: nobody has it any more. */
void cm_cert_destroy(struct cm_cert *c);

/* ------------------------------------------------------ life/staple_slot.c */

/* The staple of a certificate and what looking after it has to remember; see staple.h. */
struct cm_stapling;
void cm_stapling_free(struct cm_stapling *s); /* NULL ok */

/* -------------------------------------------------------------- snapshot.c */

/* An encrypted local file with what is served, so that a node starts while its storage is away. */
struct cm_snapshot;
/* The key is read, the snapshot not before it is needed. */
CM_MUST_CHECK cm_status cm_snapshot_new(struct cm_config *cfg, const char *path,
                                        const char *key_file, struct cm_snapshot **ret,
                                        struct cm_err *err);
/* Nothing of the config may be running any more. NULL ok. */
void cm_snapshot_free(struct cm_snapshot *s);
/* Something else is served than before: it will be written. Quick; does nothing without one. */
void cm_snapshot_changed(struct cm_config *cfg);
/* What was served for the normalized @name when it was last written, if that can be served now.
 * CM_E_NOTFOUND also when there is no snapshot, or none that is of use (which is logged once). */
CM_MUST_CHECK cm_status cm_snapshot_load(struct cm_config *cfg, const struct cm_op *op,
                                         const char *name, struct cm_cert **ret,
                                         struct cm_err *err);

/* --------------------------------------------------------- cache.c, select.c */

/* Put a managed certificate in (with a reference of its own). Managed ones for the same names that
 * are older go out, unless @cert is not valid yet at @now_s. */
CM_MUST_CHECK cm_status cm_cache_put(struct cm_cache *cache, struct cm_cert *cert, int64_t now_s,
                                     struct cm_err *err);
/* *@ret_added: it was not in yet, and took nobody's place. */
CM_MUST_CHECK cm_status cm_cache_put_new(struct cm_cache *cache, struct cm_cert *cert,
                                         int64_t now_s, bool *ret_added, struct cm_err *err);
/* @cert, which is to be put in, is of a name that a client asked for: in a full cache such
 * certificates make room, each for the next. Others only make room for one another when there are
 * none of these, and never for one of these. Whatever takes its place inherits that. */
void cm_cache_mark_passing(struct cm_cache *cache, struct cm_cert *cert);
/* cm_cache_add_pem() for what is parsed already. */
CM_MUST_CHECK cm_status cm_cache_add_parts(struct cm_cache *cache, const struct cm_chain *chain,
                                           const struct cm_key *key, const char *const *tags,
                                           struct cm_cert **ret, struct cm_err *err);
/* One of the program's own comes and @old, if it is still in, goes: none of their common names is
 * without a certificate for a moment. The same certificate is in once, however often it is brought,
 * with the tags that it was ever given; it goes when all who brought it have let it go. *@ret (NULL
 * ok), a reference, is what is in now. */
CM_MUST_CHECK cm_status cm_cache_replace_own(struct cm_cache *cache, struct cm_cert *old,
                                             struct cm_cert *cert, struct cm_cert **ret,
                                             struct cm_err *err);
/* One who brought @cert wants it no more; cm_cache_remove() is for all of them. NULL ok. */
void cm_cache_let_go(struct cm_cache *cache, struct cm_cert *cert);
/* Candidates for exactly @key ("*.b.c" is just another key), with a reference each. */
size_t cm_cache_find(struct cm_cache *cache, const char *key, size_t len,
                     struct cm_cert *out[CM_CANDIDATES_MAX]);
/* Up to @max certificates, with a reference each, from where *@io stands; 0 = that was all. Begin
 * with zeros. What comes or goes meanwhile may be missed, or be there twice. */
struct cm_cache_walk {
    size_t managed, passing, own; /* places seen so far */
};
size_t cm_cache_some(struct cm_cache *cache, struct cm_cache_walk *io, struct cm_cert **out,
                     size_t max);
/* Remove whatever has the same leaf as @cert. */
void cm_cache_drop_leaf(struct cm_cache *cache, const struct cm_cert *cert);

/* The best of @n > 0 by the built-in ranking (see select.c). */
struct cm_cert *cm_select_best(const struct cm_hello *hello, struct cm_cert *const *certs, size_t n,
                               int64_t now_s);
/* Could a client with this hello use a key of this type? */
bool cm_select_supports(const struct cm_hello *hello, enum cm_pk type);

/* ------------------------------------------------------------------ runq.c */

/* Jobs in order, worked on by at most so many workers at once. A job is embedded in what it is
 * about; it is not touched after run() has been called. */
struct cm_run {
    struct cm_run *next; /* the queue's, as is ... */
    struct cm_run *prev;
    bool queued;
    bool hurried; /* came first because somebody waits for it */
    void (*run)(struct cm_run *self);
};
struct cm_runq;
CM_MUST_CHECK cm_status cm_runq_new(unsigned workers, struct cm_runq **ret, struct cm_err *err);
/* Fails only if no worker at all can be started, or after stop; then @r was not taken. */
CM_MUST_CHECK cm_status cm_runq_push(struct cm_runq *q, struct cm_run *r, struct cm_err *err);
/* A whole list, linked by next, in one go. On failure *@chain is what was not taken. */
CM_MUST_CHECK cm_status cm_runq_push_all(struct cm_runq *q, struct cm_run **chain,
                                         struct cm_err *err);
/* One that somebody waits for: before all others. */
CM_MUST_CHECK cm_status cm_runq_push_first(struct cm_runq *q, struct cm_run *r, struct cm_err *err);
/* If @r is still in @q, it comes before all others now. @r must be one that stays. */
void cm_runq_hurry(struct cm_runq *q, struct cm_run *r);
/* For a worker that does many of a kind at a time: takes the first jobs of the queue as long as
 * they are @wanted (called with the queue's lock held), at most @max. More workers than this one
 * shall have something to do: so not more than a fair part of what is queued, if that is more than
 * @least. They are put into @ret; how many is the result. */
size_t cm_runq_take(struct cm_runq *q, bool (*wanted)(const struct cm_run *r, const void *user),
                    const void *user, size_t least, size_t max, struct cm_run **ret);
/* Jobs that no worker has taken yet. */
size_t cm_runq_length(struct cm_runq *q);
/* Runs what is queued (tasks see their config's cancel token), joins; from then on nothing is
 * taken. Queues that push to one another are all stopped before the first is freed. */
void cm_runq_stop(struct cm_runq *q);
void cm_runq_free(struct cm_runq *q); /* NULL ok, as for stop */

/* ----------------------------------------------------------------- probe.c */

/* What was asked for lately and not there: bounded, forgets by itself. Keys are hashed with a
 * random seed; a collision can only make one answer late or "no" for the short time. */
struct cm_probes;
CM_MUST_CHECK cm_status cm_probes_new(const struct cm_env *env, size_t size, struct cm_probes **ret,
                                      struct cm_err *err);
void cm_probes_free(struct cm_probes *p);
/* ns until asking again makes sense; 0 = ask now. */
int64_t cm_probes_wait_ns(struct cm_probes *p, const char *what, const char *key);
void cm_probes_note(struct cm_probes *p, const char *what, const char *key, int64_t ttl_ns);

/* ------------------------------------------------------------ life/peers.c */

/* This config is about to store or remove the value at @key, and has: what the storage tells of
 * that is no news. */
void cm_peers_writing(struct cm_config *cfg, const char *key);
void cm_peers_written(struct cm_config *cfg, const char *key);
/* Has a challenge for @name been stored within the last @within_ns, as far as is known? */
bool cm_peers_token_came(struct cm_config *cfg, const char *name, int64_t within_ns);

/* --------------------------------------------------------------- pending.c */

#define CM_WAITERS_PER_NAME 10000u
#define CM_WAITERS_TOTAL    10000u

/* All waiters of a config; outlives it while pendings do. */
struct cm_hub;
/* Those who wait for one thing; guarded by the hub. Zero-initialised is empty. */
struct cm_waiters {
    struct cm_pending *first;
    size_t n;
};
CM_MUST_CHECK cm_status cm_hub_new(struct cm_hub **ret, struct cm_err *err);
/* No more waiting: everyone gets CM_E_CANCELED, cfg is not touched any more. NULL is fine. */
void cm_hub_close(struct cm_hub *h);

/* A waiter for @hello with the name it is about. Not yet in any list. */
CM_MUST_CHECK cm_status cm_pending_new(struct cm_config *cfg, const struct cm_hello *hello,
                                       const char *name, int64_t wait_ns, struct cm_pending **ret,
                                       struct cm_err *err);
/* Join @w. CM_E_LIMIT when too many wait. */
CM_MUST_CHECK cm_status cm_pending_join(struct cm_pending *p, struct cm_waiters *w,
                                        struct cm_err *err);
/* Come back after @ns by itself (see probe.c), instead of joining a list. */
void cm_pending_sleep(struct cm_pending *p, int64_t ns);
/* Its answer is a refusal. */
void cm_pending_fail(struct cm_pending *p, cm_status rc, const char *why);
/* All of @from wait in @to. */
void cm_waiters_move(struct cm_hub *h, struct cm_waiters *from, struct cm_waiters *to);
bool cm_waiters_any(struct cm_hub *h, const struct cm_waiters *w);
/* Take all out of @w into a private list that cm_waiters_answer() then serves. */
struct cm_pending *cm_waiters_take(struct cm_hub *h, struct cm_waiters *w);
/* Give each its answer: a reference to what @choose finds, or its error. No lock held. */
typedef cm_status (*cm_choose_fn)(void *user, const struct cm_hello *hello, const char *name,
                                  struct cm_cert **ret, struct cm_err *err);
void cm_waiters_answer(struct cm_hub *h, struct cm_pending *list, cm_choose_fn choose, void *user);

/* -------------------------------------------------------- board.c, challenge.c */

CM_MUST_CHECK cm_status cm_board_new_env(const struct cm_env *env, struct cm_board **ret,
                                         struct cm_err *err);
/* Reference to the tls-alpn-01 certificate for @ident, NULL if there is none. */
struct cm_cert *cm_board_cert(struct cm_board *b, const char *ident);
/* Appends the key authorization if @host has that http-01 token. */
CM_MUST_CHECK cm_status cm_board_http(struct cm_board *b, const char *host, const char *token,
                                      struct cm_buf *ret, struct cm_err *err);
/* Does any token have an answer (cm_board_set_thumbprint)? */
bool cm_board_is_stateless(struct cm_board *b);
/* It, if so; CM_E_NOTFOUND if not, or while there is no account. May read storage. */
CM_MUST_CHECK cm_status cm_board_stateless(struct cm_board *b, const struct cm_op *op,
                                           const char *token, struct cm_buf *ret,
                                           struct cm_err *err);

/* A stored challenge (certmagic 3.4). */
struct cm_token {
    char type[32];
    char token[129];
    char key_authorization[256];
    enum cm_ident_type ident_type;
    char ident[CM_NAME_BUF];
};
CM_MUST_CHECK cm_status cm_token_parse(struct cm_span json, struct cm_token *ret,
                                       struct cm_err *err);
/* The certificate that answers tls-alpn-01 for @ident. */
CM_MUST_CHECK cm_status cm_challenge_cert(const struct cm_env *env, const char *ident,
                                          const char *key_authorization, struct cm_cert **ret,
                                          struct cm_err *err);
/* cm_get_certificate() for a hello that offers nothing but acme-tls/1. */
CM_MUST_CHECK cm_status cm_challenge_get(struct cm_config *cfg, const struct cm_hello *hello,
                                         const char *name, struct cm_cert **ret_cert,
                                         struct cm_pending **ret_pending, struct cm_err *err);
/* Start the look-up in storage that @p slept for. */
void cm_challenge_resume(struct cm_config *cfg, struct cm_pending *p, const char *name);
struct cm_lookups;
CM_MUST_CHECK cm_status cm_lookups_new(struct cm_lookups **ret, struct cm_err *err);
void cm_lookups_free(struct cm_lookups *l);

/* ----------------------------------------------- obtain.c, issue.c, revoke.c */

enum cm_job_mode {
    CM_JOB_OBTAIN,
    CM_JOB_RENEW,
    CM_JOB_RENEW_FORCE,
    CM_JOB_REPLACE /* what is revoked: whatever else is in storage will do */
};

/* What is going to be told of a job (life/news.c). */
struct cm_job_news {
    bool issued;                           /* a new certificate is in storage */
    bool followed;                         /* the outcome is another thread's, who tells it */
    bool vetoed;                           /* by the program */
    int64_t old_not_after_s;               /* of what is to be replaced; 0 = nothing */
    const char *tried[CM_ISSUERS_MAX + 1]; /* issuer keys, NULL-terminated */
    size_t n_tried;
    char *csr_pem;
};

struct cm_job {
    struct cm_config *cfg;
    const struct cm_op *op; /* the caller's */
    const struct cm_subject *subject;
    enum cm_job_mode mode;
    const char *revoked_serial;    /* of what must not stay, as cm_cert_serial() has it */
    const struct cm_cert *revoked; /* the same, to know its key by; NULL = not known */
    int revoked_reason;            /* RFC 5280 5.3.1 */
    /* Beside the config's; whoever sets it tells the end (stored, failed) himself. May be NULL. */
    void (*progress)(void *user, enum cm_phase phase);
    void *progress_user;
    unsigned attempt; /* failures in a row so far */
    bool patient;     /* wait for a turn with the CA, instead of ending with CM_E_AGAIN */
    struct cm_job_news news;
    /* results */
    struct cm_cert *cert; /* owned by the caller; also set when storing it failed */
    bool already_there;
    bool asked;             /* a CA was asked */
    const char *issuer_key; /* of the last that was; NULL */
    /* between obtain.c and issue.c */
    bool replacing;   /* what storage has is revoked */
    bool key_is_lost; /* and others know its key */
};
/* Obtain or renew; the whole of it, see obtain.c. job->cert is set on CM_OK. CM_E_AGAIN: no issuer
 * takes an order just now (or one has an order open and wants time); nothing failed, come back
 * after err->retry_after_s. */
CM_MUST_CHECK cm_status cm_job_run(struct cm_job *job, struct cm_err *err);
void cm_job_progress(struct cm_job *job, enum cm_phase phase, const struct cm_err *why);

/* Under the lease: from "nothing usable in storage" to a committed certificate. @old is what is to
 * be replaced, or NULL. */
CM_MUST_CHECK cm_status cm_issue(struct cm_job *job, const struct cm_op *op, struct cm_lease *lease,
                                 const struct cm_cert *old, struct cm_err *err);

/* ----------------------------------------------------------------- flight.c */

struct cm_flights;
CM_MUST_CHECK cm_status cm_flights_new(struct cm_flights **ret, struct cm_err *err);
void cm_flights_free(struct cm_flights *f);
/* Lead (*@ret_lead, then leave is a must), or wait for the leader and get its outcome. */
CM_MUST_CHECK cm_status cm_flight_enter(struct cm_flights *f, const struct cm_op *op,
                                        const char *name, bool *ret_lead, struct cm_err *err);
void cm_flight_leave(struct cm_flights *f, const char *name, cm_status rc,
                     const struct cm_err *err);

/* ----------------------------------------------------------------- manage.c */

struct cm_names;
/* @stop: of the config. */
CM_MUST_CHECK cm_status cm_names_new(struct cm_cancel *stop, struct cm_names **ret,
                                     struct cm_err *err);
/* Nothing may be running any more. */
void cm_names_free(struct cm_names *n);
/* Maintenance is over: whatever it has begun is canceled, who stands in line is told so, and
 * nothing is begun any more but loading from storage. */
void cm_names_cancel(struct cm_config *cfg);
/* The token of what maintenance does for @cfg. */
struct cm_cancel *cm_names_halt(const struct cm_config *cfg);
/* Have all that are idle look into storage soon. */
void cm_names_look_again(struct cm_config *cfg);
/* For a handshake that found nothing for the normalized @name: CM_E_NOTFOUND if it is not managed,
 * CM_OK if a second look is worth it (not returned if that has been done: @looked_again),
 * CM_E_AGAIN with a waiter that has joined, else refused. */
CM_MUST_CHECK cm_status cm_names_wait(struct cm_config *cfg, const struct cm_hello *hello,
                                      const char *name, bool looked_again,
                                      struct cm_pending **ret_pending, struct cm_err *err);
/* The next five are for lib/core/ondemand. Is there a certificate for it, or one on its way? */
bool cm_names_expect(struct cm_config *cfg, const char *name);
/* Did clients bring it, or the wildcard above it, and is that served or coming? Which of the two is
 * in @ret_subject. *@ret_denied: cm_names_judged() said no last. */
bool cm_names_brought(struct cm_config *cfg, const char *name, char ret_subject[CM_NAME_BUF],
                      bool *ret_denied);
void cm_names_judged(struct cm_config *cfg, const char *name, bool allow);
/* CM_OK if the next attempt for @name may begin now; else how the last one failed. */
CM_MUST_CHECK cm_status cm_names_may_try(struct cm_config *cfg, const char *name,
                                         struct cm_err *err);
/* Manage @name from now on, at most @max such; who waits in @w waits for it then, unless it is
 * served already. *@io_absent: storage has just been found to have nothing for it. The caller
 * starts it when *@ret_start is not NULL: cm_managed_line_up() if *@io_absent (still), else
 * cm_managed_start(). */
struct cm_managed;
CM_MUST_CHECK cm_status cm_names_adopt(struct cm_config *cfg, const char *name, size_t max,
                                       bool *io_absent, struct cm_waiters *w,
                                       struct cm_managed **ret_start, struct cm_err *err);
/* Choice among what the cache has for the normalized @name (exact, then wildcard). */
CM_MUST_CHECK cm_status cm_choose_by_name(void *cfg, const struct cm_hello *hello, const char *name,
                                          struct cm_cert **ret, struct cm_err *err);

/* -------------------------------------------------------------- handshake.c */

enum { CM_ALERT_INTERNAL = 80, CM_ALERT_UNRECOGNIZED_NAME = 112 };
cm_status cm_refuse(struct cm_err *err, cm_status rc, int alert, const char *fmt, ...)
    CM_PRINTF(4, 5);

/* ----------------------------------------------------------------- config.c */

/* A config's place among those that use one cache (life.h: cm_audience). */
struct cm_listening {
    struct cm_listening *next, *prev;
    struct cm_config *cfg;
    unsigned spoken_to; /* by so many threads just now */
};

/* Questions for renewal information to one issuer, see life/ari.c. All on the monotonic clock. */
struct cm_ari_pace {
    _Atomic int64_t free_ns;     /* when all places are free again */
    _Atomic int64_t promised_ns; /* the latest time that somebody was told to come at */
    _Atomic int64_t silent_ns;   /* no question before */
    _Atomic int64_t mute_ns;     /* makes no suggestions, it is believed until then */
};

struct cm_config {
    const struct cm_env *env;
    struct cm_log log;
    struct cm_storage *storage;
    bool owns_storage;
    struct cm_cache *cache;
    bool owns_cache;
    struct cm_issuer *issuers[CM_ISSUERS_MAX];
    size_t n_issuers;
    struct cm_issuer_host host;
    struct cm_board *board;
    struct cm_cancel *stop;         /* parent of everything in the background */
    struct cm_cancel *stop_answers; /* to CAs: after the issuers have stopped */
    struct cm_runq *io;             /* short storage reads; never waits behind an issuance */
    struct cm_runq *jobs;           /* issuances */
    struct cm_runq *idle; /* what can wait: one worker, which rests after each (recheck.c) */
    struct cm_names *names;
    struct cm_flights *flights;
    struct cm_hub *hub;
    struct cm_lookups *lookups;
    struct cm_probes *probes;
    enum cm_pk key_type;
    bool reuse_key;
    bool must_staple;
    struct cm_buf csr_exts; /* as cm_csr_ext_add() makes them */
    bool disable_tickets;
    bool default_name_set, fallback_name_set;
    char default_name[CM_NAME_BUF];
    char fallback_name[CM_NAME_BUF];
    char *listen_host;
    char *priority;
    uint16_t http_port;
    uint16_t tls_port;
    uint16_t alt_http_port, alt_tls_port; /* of challenges; never 0 */
    int64_t handshake_wait_ns;
    double renew_ratio;
    cm_select_fn select;
    void *select_user;
    cm_progress_fn on_progress;
    void *progress_user;

    /* life.h */
    struct cm_pump *pump; /* in front of jobs */
    struct cm_cleaner *cleaner;
    struct cm_peers *peers;
    struct cm_rounds *rounds;
    struct cm_crl_news *crl_news;
    struct cm_snapshot *snapshot; /* NULL: none wanted */
    struct cm_tickets *tickets;
    struct cm_announce *announce; /* NULL: it does not */
    struct cm_runq *fetch; /* OCSP, CRL, renewal information: never waits behind an issuance */
    int64_t renew_before_s;
    enum cm_issuer_policy issuer_policy;
    cm_event_fn on_event;
    void *event_user;
    struct cm_key_source *key_source;
    struct cm_fetcher *fetcher; /* NULL: neither OCSP nor CRL */
    bool owns_fetcher;
    bool disable_ocsp;
    bool disable_crl;
    bool fetch_local;
    struct cm_ocsp_override *ocsp_overrides; /* texts owned */
    size_t n_ocsp_overrides;
    bool clean_storage;
    int64_t clean_interval_s;
    int64_t clean_grace_s;
    struct cm_ca_gates *gates;
    struct cm_counters *counters;
    struct cm_health *health;
    struct cm_listening listening;    /* to what happens to the cache */
    struct cm_responders *responders; /* life/responders.c */
    struct cm_ari_pace ari_pace[CM_ISSUERS_MAX];
    struct cm_revoked *revoked;
    struct cm_ondemand *ondemand; /* NULL: no name but those that the program told */
    struct cm_recheck *recheck;   /* belongs to it; NULL: what is served is served */
};

#define CM_IO_WORKERS 4u
/* The issuer of cfg with this raw key; NULL if there is none. */
struct cm_issuer *cm_config_find_issuer(const struct cm_config *cfg, const char *issuer_key);
/* Is it a managed one of this config's issuers? Others that share the cache may have their own for
 * the same name. */
bool cm_config_manages(const struct cm_config *cfg, const struct cm_cert *cert);
/* Real waiting between threads of this process happens in slices, so that cancellation and a
 * simulated clock are seen. */
#define CM_WAIT_SLICE_NS (50 * CM_NS_PER_MS)

#endif
