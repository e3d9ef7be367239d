/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_ONDEMAND_H
#define CM_CORE_ONDEMAND_H

/* Names that clients ask for (cm_ondemand.h): the files of lib/core/ondemand. Everything that a
 * client can make grow has a bound here.
 *
 * LOCK ORDER, beside that of core_private.h: the desk (ask.c) comes before names; denied.c, pace.c,
 * decision.c and source.c are leaves. */

#include "core_private.h"

/* ---------------------------------------------------------------- lists.c */

/* What may have a certificate by the program's lists. Immutable. */
struct cm_lists;
CM_MUST_CHECK cm_status cm_lists_new(const struct cm_ondemand_options *o, struct cm_lists **ret,
                                     struct cm_err *err);
void cm_lists_free(struct cm_lists *l); /* NULL ok */
/* Are there any? */
bool cm_lists_any(const struct cm_lists *l);
/* @name is normalized. Everything when there are none. */
bool cm_lists_allow(const struct cm_lists *l, const char *name);

/* --------------------------------------------------------------- client.c */

#define CM_CLIENT_TEXT 64
/* The network that counts as one client: "192.0.2.0/24", "2001:db8:1::/48"; an IPv4 address in an
 * IPv6 one is that. "?" for what is no address. */
void cm_client_of(const char *ip, char ret[CM_CLIENT_TEXT]);
/* The registered domain by the public suffix list that libpsl was built with; without libpsl the
 * last two labels. Points into @name, which is normalized. */
const char *cm_domain_of(const char *name);

/* --------------------------------------------------------------- denied.c */

/* Names that were denied: a fixed number of places, four for each hash, of which the one that ends
 * first makes room. */
struct cm_denied;
CM_MUST_CHECK cm_status cm_denied_new(const struct cm_env *env, int64_t first_ns,
                                      struct cm_denied **ret, struct cm_err *err);
void cm_denied_free(struct cm_denied *d); /* NULL ok */
/* ns until it may be asked about again; 0 = now. */
int64_t cm_denied_wait_ns(struct cm_denied *d, const char *name);
/* Once more: for longer than the last time, if that is still known. */
void cm_denied_note(struct cm_denied *d, const char *name);
void cm_denied_clear(struct cm_denied *d, const char *name);

/* ----------------------------------------------------------------- pace.c */

/* How many questions are put in a second, in all and for one client. A second's worth may come at
 * once. A fixed number of clients is remembered; who is forgotten begins anew. */
struct cm_pace;
CM_MUST_CHECK cm_status cm_pace_new(const struct cm_env *env, unsigned per_s, unsigned per_client_s,
                                    struct cm_pace **ret, struct cm_err *err);
void cm_pace_free(struct cm_pace *p); /* NULL ok */
bool cm_pace_take(struct cm_pace *p, const char *client);

/* ---------------------------------------------------------------- quota.c */

struct cm_quota {
    int64_t window_s;
    unsigned total, per_domain, per_client;
};
/* Count one more order for @name, asked for by @client, in storage: CM_OK, or CM_E_RATELIMITED
 * naming the limit and with err->retry_after_s; anything else is the storage's, and no order
 * either. */
CM_MUST_CHECK cm_status cm_quota_take(struct cm_config *cfg, const struct cm_op *op,
                                      const struct cm_quota *q, const char *name,
                                      const char *client, struct cm_err *err);
#define CM_QUOTA_KEY "certmesh/ondemand/orders"

/* ------------------------------------------------------------- decision.c */

/* Puts questions and sees that each gets an answer in time. */
struct cm_decider;
/* All borrowed. */
struct cm_verdict {
    bool allow;
    const char *reason;   /* escaped, in what is told */
    struct cm_cert *cert; /* from here on of a source; NULL = none */
    int64_t keep_s;
    bool not_mine;
    bool failed; /* no decision was to be had, so it is a no */
};
/* Once for each question, on any thread, without locks. */
typedef void (*cm_decided_fn)(void *arg, const struct cm_verdict *v);
/* cm_decision_answer() with more to it. */
void cm_decision_settle(struct cm_decision *d, const struct cm_verdict *v);
CM_MUST_CHECK cm_status cm_decider_new(const struct cm_env *env,
                                       const struct cm_ondemand_options *o, struct cm_decider **ret,
                                       struct cm_err *err);
/* Does anybody decide? If not, begin is not to be called. */
bool cm_decider_any(const struct cm_decider *d);
/* On failure @fn is not called. */
CM_MUST_CHECK cm_status cm_decider_begin(struct cm_decider *d, const char *name,
                                         const char *client_ip, enum cm_ondemand_phase phase,
                                         cm_decided_fn fn, void *arg, struct cm_err *err);
/* What is open is denied; none of @fn is running any more, and none will. Idempotent. */
void cm_decider_stop(struct cm_decider *d);
/* What the program still owes an answer to stays until it comes. NULL ok. */
void cm_decider_free(struct cm_decider *d);

/* --------------------------------------------------------------- source.c */

/* Certificates that the program's source has (cm_cert_source.h): asked for, looked at, put into
 * the cache and taken out when their time is over. */
struct cm_sourcer;
/* *@ret NULL when there is no source. */
CM_MUST_CHECK cm_status cm_sourcer_new(struct cm_config *cfg, const struct cm_ondemand_options *o,
                                       struct cm_sourcer **ret, struct cm_err *err);
/* Is there a source, and has it not just had nothing for @name? @s NULL ok. */
bool cm_sourcer_wants(struct cm_sourcer *s, const char *name);
/* Is there a source, and a certificate for @name in the cache? @s NULL ok. */
bool cm_sourcer_has(struct cm_sourcer *s, const char *name);
/* @served: a certificate for it is in the cache. Once for each question, on any thread, without
 * locks. */
typedef void (*cm_sourced_fn)(void *arg, bool served);
/* On failure @fn is not called. */
CM_MUST_CHECK cm_status cm_sourcer_begin(struct cm_sourcer *s, const char *name,
                                         const char *client_ip, cm_sourced_fn fn, void *arg,
                                         struct cm_err *err);
/* As of a decider. What is kept leaves the cache with free. NULL ok. */
void cm_sourcer_stop(struct cm_sourcer *s);
void cm_sourcer_free(struct cm_sourcer *s);

/* -------------------------------------------------------------- options.c */

/* Checked and copied; what it points to is not. */
CM_MUST_CHECK cm_status cm_ondemand_read(const struct cm_ondemand_options *given,
                                         struct cm_ondemand_options *ret, struct cm_err *err);

/* -------------------------------------------------------------- recheck.c */

/* Names that are served and are to be decided about again (cm_ondemand_options.recheck_s). A fixed
 * number of answers is remembered; who is forgotten is asked about. Functions but new and hello
 * take NULL. */
struct cm_recheck;
/* *@ret NULL when nothing is decided again. */
CM_MUST_CHECK cm_status cm_recheck_new(struct cm_config *cfg, const struct cm_ondemand_options *o,
                                       struct cm_recheck **ret, struct cm_err *err);
void cm_recheck_free(struct cm_recheck *r);
/* What was decided about @name. */
void cm_recheck_note(struct cm_recheck *r, const char *name, bool allow);
/* There was no decision to be had, because of @why: does an earlier yes hold? */
bool cm_recheck_holds(struct cm_recheck *r, const char *name, const char *why);
/* For a hello, before anything is looked up: CM_OK (go on), CM_E_AGAIN with a waiter for the
 * decision, after which it has its certificate, or refused. Only if cfg->recheck is set. */
CM_MUST_CHECK cm_status cm_recheck_hello(struct cm_config *cfg, const struct cm_hello *hello,
                                         const char *name, struct cm_pending **ret_pending,
                                         struct cm_err *err);

/* ------------------------------------------------------------------ ask.c */

struct cm_ondemand;
CM_MUST_CHECK cm_status cm_ondemand_new(struct cm_config *cfg, const struct cm_ondemand_options *o,
                                        struct cm_ondemand **ret, struct cm_err *err);
/* No more questions; who waits is refused. Before the config's queues end. NULL ok. */
void cm_ondemand_stop(struct cm_ondemand *od);
void cm_ondemand_free(struct cm_ondemand *od);
/* For a hello that found neither a certificate nor a managed name: CM_E_AGAIN with a waiter, CM_OK
 * (look again, it has just come), else refused. @again: it may be served, and is to be decided
 * about all the same; never CM_OK then. */
CM_MUST_CHECK cm_status cm_ondemand_wait(struct cm_config *cfg, const struct cm_hello *hello,
                                         const char *name, bool again,
                                         struct cm_pending **ret_pending, struct cm_err *err);
/* May the certificate of @name, which was taken in here, be renewed? Blocks for as long as a
 * decision takes. CM_E_POLICY: no. */
CM_MUST_CHECK cm_status cm_ondemand_renew(struct cm_config *cfg, const char *name,
                                          struct cm_err *err);

#endif
