/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_MAINTAIN_H
#define CM_CORE_MAINTAIN_H

/* The clockwork of a cache: one thread that sleeps until the earliest of many things is due, and
 * then hands it to whoever does it. It does nothing itself and waits for nothing else.
 *
 * What is in flight is counted, so that stopping can wait for it, and a cache without a thread can
 * be driven step by step. */

#include "life.h"

struct cm_maint;

/* One thing that is due at some time. Embedded in what it is about. */
struct cm_task {
    struct cm_due_item due;
    struct cm_config *cfg; /* whose it is; NULL: the cache's own */
    /* It is out of the index then; no lock is held. Must be quick. */
    void (*fire)(struct cm_task *t);
};
void cm_task_init(struct cm_task *t, struct cm_config *cfg, void (*fire)(struct cm_task *t));

CM_MUST_CHECK cm_status cm_maint_new(struct cm_cache *cache, const struct cm_cache_options *opts,
                                     struct cm_maint **ret, struct cm_err *err);
void cm_maint_free(struct cm_maint *mt); /* stopped before; NULL ok */
struct cm_maint *cm_cache_maint(struct cm_cache *cache);

/* A config begins to use the cache. The first one's clock and log are the clockwork's. */
CM_MUST_CHECK cm_status cm_maint_attach(struct cm_maint *mt, struct cm_config *cfg,
                                        struct cm_err *err);
/* It ends: none of its tasks is in the index or being fired any more, and none gets in. */
void cm_maint_detach(struct cm_maint *mt, struct cm_config *cfg);
/* Some config that uses the cache, for what belongs to none; NULL if there is none. It stays until
 * cm_maint_release(). */
struct cm_config *cm_maint_borrow(struct cm_maint *mt);
void cm_maint_release(struct cm_maint *mt, struct cm_config *cfg);

/* Room for @n more tasks, so that cm_maint_at() cannot fail. */
CM_MUST_CHECK cm_status cm_maint_room(struct cm_maint *mt, size_t n, struct cm_err *err);
/* Fire @t at @at_ms (wall clock), or soon if that is past. Moves it if it is in already. Ignored
 * after stop and detach. */
void cm_maint_at(struct cm_maint *mt, struct cm_task *t, int64_t at_ms);
/* The same, but never later than it is due already. */
void cm_maint_by(struct cm_maint *mt, struct cm_task *t, int64_t at_ms);
/* Take it out; afterwards it is not being fired either. */
void cm_maint_cancel(struct cm_maint *mt, struct cm_task *t);
/* Something has been handed to a worker, and has come to its end there. */
void cm_maint_enter(struct cm_maint *mt, size_t n);
void cm_maint_leave(struct cm_maint *mt);
size_t cm_maint_in_flight(struct cm_maint *mt);
/* Fire what is due, once. False when nothing was. For caches without a thread. */
bool cm_maint_step(struct cm_maint *mt);

int64_t cm_wall_ms(const struct cm_env *env);
/* @s in ms, clamped. */
int64_t cm_ms_of(int64_t s);

/* ------------------------------------------------------------------ pump.c */

/* Names that need their CA stand in line here, those whose certificate ends first in front, and go
 * to the workers as these become free. A CA that wants to be left alone stops the line, so that
 * behind it nobody asks in vain. Jobs that hang do not count against the limit for ever: after
 * half a minute another may begin beside them, up to four times the limit. */
struct cm_pump;
struct cm_managed;
CM_MUST_CHECK cm_status cm_pump_new(struct cm_config *cfg, unsigned max_parallel,
                                    struct cm_pump **ret, struct cm_err *err);
void cm_pump_free(struct cm_pump *p); /* NULL ok */
/* Room for @n names in all, so that cm_pump_add() cannot fail. */
CM_MUST_CHECK cm_status cm_pump_room(struct cm_pump *p, size_t n, struct cm_err *err);
/* @urgency_s: earlier comes first; when its certificate ends, 0 without one. @urgent ones come
 * before all others, and go on while the line is stopped. False after stop. */
bool cm_pump_add(struct cm_pump *p, struct cm_managed *m, int64_t urgency_s, bool urgent);
/* If it stands in line: to its head. */
void cm_pump_hurry(struct cm_pump *p, struct cm_managed *m);
/* A job is over. @slot is what cm_managed.slot said. */
void cm_pump_done(struct cm_pump *p, unsigned slot);
/* The CAs take nothing for @wait_s. */
void cm_pump_pause(struct cm_pump *p, int64_t wait_s);
/* No more: who stands in line is handed to @drop, one by one. */
void cm_pump_stop(struct cm_pump *p, void (*drop)(struct cm_managed *m));
size_t cm_pump_length(struct cm_pump *p);

/* ----------------------------------------------------------------- peers.c */

/* What other nodes change in storage is looked at as soon as the storage tells of it. */
struct cm_peers;
CM_MUST_CHECK cm_status cm_peers_new(struct cm_config *cfg, struct cm_peers **ret,
                                     struct cm_err *err);
/* There is something to look after: begin to watch, once, in the background. */
void cm_peers_begin(struct cm_config *cfg);
/* Nothing is told any more when this returns, and nothing will be. NULL ok. */
void cm_peers_stop(struct cm_config *cfg);
void cm_peers_free(struct cm_peers *p); /* stopped, the queues too; NULL ok */
/* Some changes were not told. */
void cm_peers_missed(struct cm_peers *p);
/* Does the storage tell of changes just now? */
enum cm_feed_state {
    CM_FEED_UNKNOWN, /* it was not asked to yet, or is no more */
    CM_FEED_NONE,
    CM_FEED_STANDS
};
enum cm_feed_state cm_peers_feed(const struct cm_config *cfg);

/* ---------------------------------------------------------------- rounds.c */

/* What others change in storage is found although nobody tells of it. */
struct cm_rounds;
/* @interval_s: in which all names are looked at once; 0 = usual, negative: only when asked to. */
CM_MUST_CHECK cm_status cm_rounds_new(struct cm_config *cfg, int64_t interval_s,
                                      struct cm_rounds **ret, struct cm_err *err);
/* There is something to look after. */
void cm_rounds_begin(struct cm_config *cfg);
/* Look at all names soon. Any thread. */
void cm_rounds_hurry(struct cm_config *cfg);
void cm_rounds_free(struct cm_rounds *r); /* as the cleaner; NULL ok */

/* -------------------------------------------------------------- crl_news.c */

/* Revocation lists that others have fetched. */
struct cm_crl_news;
CM_MUST_CHECK cm_status cm_crl_news_new(struct cm_config *cfg, struct cm_crl_news **ret,
                                        struct cm_err *err);
/* Something has changed at @path below certmesh/crl/, or nobody knows what. Any thread. */
void cm_crl_news_told(struct cm_config *cfg, const char *path);
void cm_crl_news_missed(struct cm_config *cfg);
void cm_crl_news_free(struct cm_crl_news *c); /* as the cleaner; NULL ok */

/* --------------------------------------------------------------- cleaner.c */

struct cm_cleaner;
CM_MUST_CHECK cm_status cm_cleaner_new(struct cm_config *cfg, struct cm_cleaner **ret,
                                       struct cm_err *err);
void cm_cleaner_free(struct cm_cleaner *c); /* the config is detached, its queues stopped */

/* --------------------------------------------------------------- tickets.c */

/* The keys of session tickets (core.h). */
struct cm_tickets;
/* @shared: with the fleet, from cm_config_tickets_begin() on; else this process has a key of its
 * own. @interval_s: how long a key makes tickets, 0 = usual. */
CM_MUST_CHECK cm_status cm_tickets_new(struct cm_config *cfg, bool shared, int64_t interval_s,
                                       struct cm_tickets **ret, struct cm_err *err);
/* What lies in storage is another record by now, perhaps: look soon. Any thread. */
void cm_tickets_changed(struct cm_config *cfg);
void cm_tickets_free(struct cm_tickets *t); /* as the cleaner; NULL ok */

/* -------------------------------------------------------------- announce.c */

/* This config as a node of the fleet, in storage for all to see. */
struct cm_announce;
/* @name: what to call it, NULL = as the host. */
CM_MUST_CHECK cm_status cm_announce_new(struct cm_config *cfg, const char *name,
                                        struct cm_announce **ret, struct cm_err *err);
/* Take back what was said, within @limit_ns; nothing is said any more. Once. NULL ok. */
void cm_announce_end(struct cm_announce *a, int64_t limit_ns);
/* As the cleaner; ends it, too. NULL ok. */
void cm_announce_free(struct cm_announce *a);

/* ---------------------------------------------------------------- tokens.c */

/* Keys of certificates whose token is away: looked for, and told of. */
struct cm_tokens;
CM_MUST_CHECK cm_status cm_tokens_new(struct cm_cache *cache, struct cm_tokens **ret,
                                      struct cm_err *err);
void cm_tokens_free(struct cm_tokens *t); /* the clockwork is stopped, but there; NULL ok */

/* ------------------------------------------------------------------- own.c */

/* Certificates of the program's own: staples, and a word before they expire. */
struct cm_owns;
CM_MUST_CHECK cm_status cm_owns_new(struct cm_cache *cache, struct cm_owns **ret,
                                    struct cm_err *err);
void cm_owns_free(struct cm_owns *o); /* the clockwork is stopped; NULL ok */
CM_MUST_CHECK cm_status cm_owns_add(struct cm_owns *o, struct cm_cert *cert, struct cm_err *err);
void cm_owns_remove(struct cm_owns *o, struct cm_cert *cert);

#endif
