/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_H
#define CM_CORE_LIFE_H

/* What time does to a certificate: the files of lib/core/life, and what the rest of core asks of
 * them. Each "tend" function looks after one thing of one certificate and says when it wants to be
 * called again; which of them is due when is for maintain.c alone.
 *
 * Lock order: as in core_private.h; of what is in here, gates (cagate.c), the CRL table (crl.c),
 * the revoked (revoked_set.c) and the due index (due.c, inside the maintenance's lock) are leaves.
 */

#include "core_private.h"

/* ------------------------------------------------------------------ when.c */

/* The CA's suggestion for one certificate, as kept. Seconds since 1970. */
struct cm_ari {
    int64_t start_s;
    int64_t end_s;
    int64_t selected_s; /* start_s <= selected_s < end_s, chosen once */
    int64_t again_s;    /* not to be asked before */
    unsigned failures;  /* to get an answer, in a row */
};

enum cm_renew_rule { CM_RULE_RATIO, CM_RULE_ABSOLUTE, CM_RULE_ARI, CM_RULE_EMERGENCY };
const char *cm_renew_rule_text(enum cm_renew_rule r); /* "ratio", ... */

struct cm_when_input {
    int64_t not_before_s;
    int64_t not_after_s;
    double ratio;             /* 0 = by lifetime */
    int64_t renew_before_s;   /* 0 = by ratio */
    const struct cm_ari *ari; /* NULL = the CA said nothing of this certificate */
};
struct cm_when {
    int64_t renew_at_s;
    enum cm_renew_rule rule;
    int64_t urgent_at_s;    /* 1/20 of the lifetime is left: no suggestion postpones past it, nor
                               into the last 10 min (of lives below 30 min: the last third) */
    int64_t emergency_at_s; /* 1/50 is left */
};
/* Pure. Never after not_after_s, whatever is put in. */
void cm_when(const struct cm_when_input *in, struct cm_when *ret);
/* For a certificate by cfg's options. @ari may be NULL. */
void cm_when_for(const struct cm_config *cfg, const struct cm_cert *cert, const struct cm_ari *ari,
                 struct cm_when *ret);
/* 0 none of them, 20, 50, or 1 once it has expired. */
unsigned cm_when_tier(const struct cm_cert *cert, int64_t now_s);
/* When the next one begins; INT64_MAX: it has expired. */
int64_t cm_when_next_tier_s(const struct cm_cert *cert, const struct cm_when *w, int64_t now_s);

/* ----------------------------------------------------------------- retry.c */

#define CM_RETRY_DIR "certmesh/retry"

/* What is remembered of failures in a row to get a certificate, in storage for all nodes, under
 * certmesh/retry/<dir>. Only a hint: without it one more attempt is made. */
struct cm_retry {
    unsigned attempts; /* 0 = none */
    int64_t first_s;
    int64_t last_s;
    int64_t next_s; /* not to be tried before; INT64_MAX = not at all by this process */
    cm_status status;
    bool no_retry; /* refused here, before any CA heard of it: the configuration has to change */
    char issuer_key[256]; /* of the last that was tried */
    char problem[128];
    char msg[512];
};
/* Seconds to wait after the @attempts-th failure in a row (1 = the first): 1, 2, 5, 10, 20, 40 min,
 * 1, 2, 4, 8, 16 h, then a day; +-20 % by @dice. Of 30 days it makes at most 45 attempts. */
int64_t cm_retry_delay_s(unsigned attempts, uint64_t dice);
/* CM_E_NOTFOUND if there is none, or none that can be read. One that lies too far in the future for
 * the clock to be right is due now; so is one with no_retry, since whoever reads it from storage
 * may have another configuration than he who wrote it, and asking costs no order. */
CM_MUST_CHECK cm_status cm_retry_load(struct cm_config *cfg, const struct cm_op *op,
                                      const char *dir, struct cm_retry *ret, struct cm_err *err);
/* An attempt for @s failed with @why: count it, say when the next may be (the CA's Retry-After is
 * obeyed, up to a day; entering a tier of emergency brings the next try forward to that moment;
 * what the CA refuses for good is tried once a day, what is refused here never), store it. When
 * storage takes nothing, *@io still says it for this process. *@io is what was known before.
 * CM_E_AGAIN is no failure: nothing is counted or stored, next_s alone changes. Nor is
 * CM_E_CANCELED, which changes nothing. */
void cm_retry_note(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                   const struct cm_cert *old, const char *issuer_key, const struct cm_err *why,
                   struct cm_retry *io);
/* A certificate came: forget. */
void cm_retry_clear(struct cm_config *cfg, const struct cm_op *op, const char *dir);

/* ---------------------------------------------------------------- cagate.c */

/* Between the jobs and the CAs, one gate per issuer of a config: the CA's own wish to be left alone
 * (Retry-After, shared with the fleet under certmesh/gates/<Safe(issuer key)>), a circuit breaker
 * (after 5 failures in a row that are the CA's; shared too, so that the fleet sends one probe a
 * minute), and a throttle per CA and account (cm_issuer_limits; this process). */
struct cm_ca_gates;
CM_MUST_CHECK cm_status cm_ca_gates_new(struct cm_config *cfg, struct cm_ca_gates **ret,
                                        struct cm_err *err);
void cm_ca_gates_free(struct cm_ca_gates *g); /* NULL ok */

struct cm_ca_ask {
    bool replaces;  /* a renewal that names its predecessor to this CA */
    bool urgent;    /* past urgent_at_s: the throttle does not hold it up, the CA's wish does */
    bool resumes;   /* an order that is open already: the throttle knows it */
    bool look_only; /* take nothing: would it be admitted? */
};
/* May one order be placed with issuer number @i now? Reads storage at most every 30 s per CA.
 * CM_E_AGAIN: err->retry_after_s until asking again makes sense, err->msg why; err->whole_ca is set
 * when it is the CA's own wish to be left alone. It takes the place in the throttle, and when the
 * breaker is open, the probe. After it closed, those who come are let in little by little. */
CM_MUST_CHECK cm_status cm_ca_admit(struct cm_config *cfg, const struct cm_op *op, size_t i,
                                    const struct cm_ca_ask *ask, struct cm_err *err);
/* What came of it: every call of cm_issuer_issue() after admittance is followed by this. Failures
 * with whole_ca are the CA's own; any other answer of the CA shows that it works. What happened
 * here (storage, cancellation, a lost lock, the network without whole_ca) says nothing. */
void cm_ca_outcome(struct cm_config *cfg, const struct cm_op *op, size_t i, cm_status rc,
                   const struct cm_err *why);
/* Storage may say something else by now: look before the next one is admitted. Any thread. */
void cm_ca_gates_reread(struct cm_config *cfg);
/* What storage says of a CA, for people. CM_E_NOTFOUND: nothing bad. */
struct cm_ca_state {
    int64_t paused_until_s; /* 0 = not paused */
    int64_t open_since_s;   /* breaker; 0 = closed */
    int64_t next_probe_s;
    unsigned failures;
    char reason[256];
};
CM_MUST_CHECK cm_status cm_ca_state_load(struct cm_config *cfg, const struct cm_op *op,
                                         const char *issuer_key, struct cm_ca_state *ret,
                                         struct cm_err *err);

/* --------------------------------------------- what is tended of a certificate */

/* What somebody who should know says of a certificate. */
struct cm_revocation {
    bool revoked;
    int reason; /* RFC 5280 5.3.1; 0 = unspecified */
    int64_t at_s;
    const char *source; /* "ocsp", "crl"; static */
};

/* The tend functions. @may_fetch false: only what memory and storage hold, no network.
 * *@ret_again_s: call again then; INT64_MAX = there is nothing to tend; the current second or
 * before, without @may_fetch = the network is wanted now. They set it on failure, too, and
 * log failures themselves; the return value is for tests and status. *@ret_revoked is written by
 * the one that watches this certificate, so that both may be given the same. Several threads may
 * tend different certificates; one certificate is tended by one thread at a time. */

/* ari.c: the metadata's renewal_info, if bound to this certificate and not too old; else the issuer
 * is asked (once per fleet: lock ari_<id>, and issue_cert_<ident> to write it back), with a window
 * always a selected time. A bounded number of questions per second and issuer. *@io: what was
 * known, selected_s 0 = nothing. CM_E_EXISTS: storage
 * holds a successor of @cert, so there is nothing to ask. */
CM_MUST_CHECK cm_status cm_ari_tend(struct cm_config *cfg, const struct cm_op *op,
                                    const struct cm_subject *s, const struct cm_cert *cert,
                                    bool may_fetch, struct cm_ari *io, int64_t *ret_again_s,
                                    struct cm_err *err);
/* From stored metadata alone: true if it speaks of just this leaf. For status and for starts. */
bool cm_ari_from_meta(const struct cm_meta *m, const struct cm_cert *cert, struct cm_ari *ret);

/* ari_store.c: what is stored with @cert, if it is for it; selected_s 0: nothing. */
void cm_ari_stored(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                   const struct cm_cert *cert, struct cm_ari *ret);
/* Is @cert what storage has for its issuer? */
CM_MUST_CHECK cm_status cm_ari_is_stored(struct cm_config *cfg, const struct cm_op *op,
                                         const struct cm_subject *s, const struct cm_cert *cert,
                                         bool *ret, struct cm_err *err);
/* What the CA of @cert said goes into its metadata, for the fleet. Not if storage has
 * another certificate by now, or somebody is at work on it (lock issue_cert_<ident>): that is no
 * failure. @id is cm_leaf.ari_id of @cert. */
CM_MUST_CHECK cm_status cm_ari_store(struct cm_config *cfg, const struct cm_op *op,
                                     const struct cm_subject *s, const struct cm_cert *cert,
                                     const char *id, const struct cm_ari *ari,
                                     const char *explanation_url, struct cm_err *err);

/* staple.c: see there. */
CM_MUST_CHECK cm_status cm_staple_tend(struct cm_config *cfg, const struct cm_op *op,
                                       struct cm_cert *cert, bool may_fetch, int64_t *ret_again_s,
                                       struct cm_revocation *ret_revoked, struct cm_err *err);

/* Storage may have a newer one: no network. *@io_again_s is changed only if it has. */
void cm_staple_news(struct cm_config *cfg, const struct cm_op *op, struct cm_cert *cert,
                    int64_t *io_again_s, struct cm_revocation *ret_revoked);

/* crl.c: only for certificates with a CRL pointer and without a responder. While nothing is known,
 * *@ret_revoked is left alone. */
CM_MUST_CHECK cm_status cm_crl_tend(struct cm_config *cfg, const struct cm_op *op,
                                    const struct cm_cert *cert, bool may_fetch,
                                    int64_t *ret_again_s, struct cm_revocation *ret_revoked,
                                    struct cm_err *err);

/* What the fleet knows of @cert by a list in storage, whoever watches that: no network, nothing is
 * written. *@ret is left alone while nothing is known. */
void cm_crl_known(struct cm_config *cfg, const struct cm_op *op, const struct cm_cert *cert,
                  struct cm_revocation *ret);

/* ------------------------------------------- revoked.c, revoked_set.c, quarantine.c */

#define CM_REASON_KEY_COMPROMISE 1

/* Which leaves this process has found revoked: they are never loaded from storage again to be
 * served, and every job replaces them. Of a config; any thread. */
struct cm_revoked;
CM_MUST_CHECK cm_status cm_revoked_new(struct cm_revoked **ret, struct cm_err *err);
void cm_revoked_free(struct cm_revoked *r); /* NULL ok */
/* Is it one of them? *@ret_reason (NULL ok) is set if so. */
bool cm_revoked_is(const struct cm_config *cfg, const struct cm_cert *cert, int *ret_reason);
/* From now on it is. *@ret_first: it was not before. Fails only without memory or when there are
 * too many. */
CM_MUST_CHECK cm_status cm_revoked_note(struct cm_config *cfg, const struct cm_cert *cert,
                                        int reason, bool *ret_first, struct cm_err *err);
/* May another order be placed for @s because what it has is revoked? CM_E_RATELIMITED within a day
 * after the last one of this process: then its successor was revoked, too, and that may go on. */
CM_MUST_CHECK cm_status cm_revoked_may_order(const struct cm_config *cfg,
                                             const struct cm_subject *s, struct cm_err *err);
void cm_revoked_note_order(struct cm_config *cfg, const struct cm_subject *s);

/**
 * @cert, managed for job->subject, is revoked: run the job (its mode is set here) to have it
 * replaced. At most one order in the fleet; a new key if others know the old one, which then lies
 * under <N>.key.compromised. The new one is in the cache when this returns, even if it could not be
 * stored, and @cert is not; when nothing came of it, @cert is not served any more, and it is for
 * the caller to try again when the time has come: any job that finds it in storage replaces it.
 * Only CM_E_AGAIN, which is also what a limit of the CA for all its orders comes to, and
 * CM_E_CANCELED leave everything as it was. The event "cert_ocsp_revoked" is
 * told the first time.
 */
CM_MUST_CHECK cm_status cm_revoked_run(struct cm_job *job, struct cm_cert *cert,
                                       const struct cm_revocation *rv, struct cm_err *err);
/* The same, when no attempt may be made now because of @why: it is told, and not served any more.
 */
void cm_revoked_stop(struct cm_config *cfg, const struct cm_subject *s, struct cm_cert *cert,
                     const struct cm_revocation *rv, const struct cm_err *why);
/* Its place in the line before the CA, as cm_pump_add() has it: before all that is only due; when a
 * CA revokes all that it has issued, those whose key others know first, then by their ends. */
int64_t cm_revoked_urgency_s(const struct cm_revocation *rv, const struct cm_cert *cert,
                             int64_t now_s);

/* What to commit together with the successor of @old, whose key others know: its key moves out of
 * the way. Under the lease of @s. Free q->pem. */
struct cm_quarantine {
    struct cm_commit_item items[CM_STORE_MORE];
    size_t n;
    struct cm_buf pem;
    char paths[CM_STORE_MORE][CM_KEY_BUF];
};
#define CM_QUARANTINE_INIT                                                                         \
    {                                                                                              \
        .n = 0, .pem = CM_BUF_SECRET(CM_PEM_FILE_MAX)                                              \
    }
CM_MUST_CHECK cm_status cm_quarantine_plan(struct cm_config *cfg, const struct cm_op *op,
                                           const struct cm_subject *s, const struct cm_cert *old,
                                           const char *new_issuer_key, struct cm_quarantine *q,
                                           struct cm_err *err);

/* ---------------------------------------------------------------- events.c */

/* Fills in size, name and can_veto, calls the program. CM_OK unless vetoed. */
cm_status cm_emit(const struct cm_config *cfg, struct cm_event *ev, struct cm_err *err);
/* For a hello, where cfg->on_event is set: CM_OK, or the refusal with its alert. */
cm_status cm_emit_hello(const struct cm_config *cfg, const struct cm_hello *hello,
                        struct cm_err *err);
/* Of each tier once: @io_tier is that of which was told last. True if it was told now. */
bool cm_emit_expiring(const struct cm_config *cfg, const char *name, struct cm_cert *cert,
                      int64_t now_s, uint8_t *io_tier);
/* Into cfg's cache, and told of unless it is there already or takes another's place. */
CM_MUST_CHECK cm_status cm_serve_managed(struct cm_config *cfg, struct cm_cert *cert,
                                         struct cm_err *err);
/* A certificate of the program's own is served now: told to every config that uses @cache. */
void cm_emit_unmanaged(struct cm_cache *cache, struct cm_cert *cert, bool replacement);

/* The configs that use one cache, as far as they are to be told something. No lock is held while
 * they are; leaving waits until nobody is being told any more. */
struct cm_audience {
    pthread_mutex_t lock;
    pthread_cond_t silent;
    struct cm_listening *first;
};
void cm_audience_init(struct cm_audience *a);
void cm_audience_end(struct cm_audience *a); /* all have left */
void cm_audience_join(struct cm_audience *a, struct cm_listening *l, struct cm_config *cfg);
void cm_audience_leave(struct cm_audience *a, struct cm_listening *l); /* never joined is fine */
void cm_audience_each(struct cm_audience *a, void (*tell)(void *user, struct cm_config *cfg),
                      void *user);
/* cache.c */
struct cm_audience *cm_cache_audience(struct cm_cache *cache);

/* One line to the log of a config that uses @cache, which has none of its own. */
void cm_cache_logf(struct cm_cache *cache, enum cm_log_level level, const char *event,
                   const char *fmt, ...) CM_PRINTF(4, 5);

/* -------------------------------------------------------------- hotfiles.c */

/* Pairs of files that others replace (cm_cache_watch_files). The thread begins with the first. */
struct cm_hotfiles;
CM_MUST_CHECK cm_status cm_hotfiles_new(struct cm_hotfiles **ret, struct cm_err *err);
/* Nothing is watched any more, for good. Idempotent; returns soon. */
void cm_hotfiles_stop(struct cm_cache *cache);
void cm_hotfiles_free(struct cm_hotfiles *h);                  /* stops; NULL ok */
struct cm_hotfiles *cm_cache_hotfiles(struct cm_cache *cache); /* cache.c */

/* ------------------------------------------------------------------ news.c */

/* About to order, under the lease: CM_OK, or the program's veto. @old may be NULL. */
CM_MUST_CHECK cm_status cm_news_begin(struct cm_job *job, const struct cm_cert *old,
                                      struct cm_err *err);
/* @issuer_key is asked; it lives as long as the config. */
void cm_news_trying(struct cm_job *job, const char *issuer_key);
/* It is in storage, and in job->cert. */
void cm_news_issued(struct cm_job *job, struct cm_span csr_der);
/* The end: counted and told, unless another's attempt was waited for. */
void cm_news_end(struct cm_job *job, cm_status rc, const struct cm_err *why);
void cm_news_lock_lost(const struct cm_job *job, const char *lock, const struct cm_err *why);

/* ---------------------------------------------------------------- health.c */

struct cm_health;
CM_MUST_CHECK cm_status cm_health_new(struct cm_health **ret, struct cm_err *err);
void cm_health_free(struct cm_health *h); /* NULL ok */
/* How an operation on storage went: after 3 failures in a row that are the storage's (CM_E_IO,
 * CM_E_NET, CM_E_TIMEOUT, CM_E_PERM) "storage_down" is told once, and "storage_up" after the next
 * success. Any thread. */
void cm_health_note(struct cm_config *cfg, cm_status rc, const struct cm_err *why);
bool cm_health_is_down(const struct cm_config *cfg);

/* --------------------------------------------------------------- counters.c */

enum cm_counter {
    CM_COUNT_OBTAINED,
    CM_COUNT_RENEWED,
    CM_COUNT_FAILED_NET,
    CM_COUNT_FAILED_CA,
    CM_COUNT_FAILED_RATE,
    CM_COUNT_FAILED_STORAGE,
    CM_COUNT_FAILED_OTHER,
    CM_COUNT_RELOADED, /* a peer had renewed it */
    CM_COUNT_POSTPONED,
    CM_COUNT_STAPLE_FETCHED,
    CM_COUNT_STAPLE_LOADED,
    CM_COUNT_STAPLE_FAILED,
    CM_COUNT_ARI_ASKED,
    CM_COUNT_ARI_FAILED,
    CM_COUNT_CRL_FETCHED,
    CM_COUNT_CRL_FAILED,
    CM_COUNT_REVOKED,
    CM_COUNT_LOCK_LOST,
    CM_COUNT_ONDEMAND_ALLOWED, /* from here on: of hellos for names that are not managed */
    CM_COUNT_ONDEMAND_DENIED,
    CM_COUNT_ONDEMAND_REFUSED,
    CM_COUNT_ONDEMAND_LIMITED,
    CM_COUNTERS
};
#define CM_LOCK_WAIT_BUCKETS 8
/* Upper ends of the buckets; the last bucket of the counters has none. */
extern const int64_t cm_lock_wait_bounds_ns[CM_LOCK_WAIT_BUCKETS];
struct cm_counters {
    _Atomic uint64_t n[CM_COUNTERS];
    _Atomic uint64_t lock_wait[CM_LOCK_WAIT_BUCKETS + 1];
    _Atomic uint64_t lock_wait_ns;
};
void cm_count(struct cm_config *cfg, enum cm_counter c);
void cm_count_failure(struct cm_config *cfg, cm_status rc, const struct cm_err *why);
void cm_count_lock_wait(struct cm_config *cfg, int64_t ns);

/* ------------------------------------------------------------------ walk.c */

/* Managed names for metrics, a piece at a time. Begin with a walk of zeros. */
enum cm_names_state { CM_NAME_SERVED, CM_NAME_WAITING, CM_NAME_FAILING, CM_NAME_STATES };
struct cm_names_walk {
    uint64_t at;                    /* see walk.c */
    uint64_t count[CM_NAME_STATES]; /* complete once done */
    bool done;
};
struct cm_name_failing {
    const char *name; /* lasts as long as the table */
    unsigned attempts;
};
/* Up to @max names whose last attempt failed. Few or none of a piece does not mean that it is
 * done. */
size_t cm_names_failing(struct cm_names *t, struct cm_names_walk *w, struct cm_name_failing *ret,
                        size_t max);

/* ------------------------------------------------------------------- due.c */

/* Things to do, ordered by time: a heap that knows where each is, so that moving and removing cost
 * what inserting does. Times are ms since 1970. Not locked: its owner is. */
#define CM_DUE_NOT_IN UINT32_MAX
struct cm_due_item {
    int64_t at_ms;
    uint32_t pos; /* CM_DUE_NOT_IN outside; set it so at the beginning */
};
struct cm_due {
    struct cm_due_item **at;
    size_t n;
    size_t cap;
    uint64_t steps; /* comparisons made so far: what the work is measured by */
};
void cm_due_free(struct cm_due *d);
/* Room for @n more, so that set cannot fail. */
CM_MUST_CHECK cm_status cm_due_reserve(struct cm_due *d, size_t n, struct cm_err *err);
/* Put in or move. */
CM_MUST_CHECK cm_status cm_due_set(struct cm_due *d, struct cm_due_item *item, int64_t at_ms,
                                   struct cm_err *err);
void cm_due_remove(struct cm_due *d, struct cm_due_item *item);
/* Keep those for which @keep says so; it may change their at_ms. */
void cm_due_filter(struct cm_due *d, bool (*keep)(void *user, struct cm_due_item *item),
                   void *user);
/* The earliest; NULL when empty. */
struct cm_due_item *cm_due_first(const struct cm_due *d);

#endif
