/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_NAMES_H
#define CM_CORE_NAMES_H

/* The table of managed names, shared by manage.c (the calls), managejob.c (the stages), load.c and
 * what of lib/core/life works on them. */

#include "maintain.h"

/* Loading and tending read storage (the I/O queue), fetching asks others (the fetch queue), and
 * what needs the CA goes through the pump to the job queue. */
enum cm_stage {
    CM_STAGE_LOAD, /* nothing is served: what has storage? */
    CM_STAGE_OBTAIN,
    CM_STAGE_TEND,  /* something is served: what is due? */
    CM_STAGE_FETCH, /* the same, with the network */
    CM_STAGE_RENEW,
    CM_STAGE_REPLACE /* revoked */
};

/* What is known of a name that is served, beside its certificate. Belongs to the stage that runs.
 */
struct cm_life {
    struct cm_ari ari; /* selected_s 0: none */
    int64_t staple_s;  /* tend it again then; INT64_MAX: never */
    int64_t ari_s;
    int64_t crl_s;
    int64_t next_try_s; /* after a failure; 0 = none */
    int64_t tended_s;   /* the last time; a clock that is before it was put back */
    int64_t told_s;     /* renewal that was told to the program */
    unsigned attempts;  /* failures in a row, as storage knows them */
    uint16_t stumbles;  /* failures that were nobody's but ours: storage, locks */
    uint8_t tier;       /* told: 0, 20, 50, 1 */
    uint64_t leaf;      /* cm_managed_leaf() of the certificate that this is about */
    struct cm_revocation revoked;
};

/* How the last attempt failed. */
struct cm_failure {
    struct cm_err err;
    unsigned attempts; /* in a row, as the fleet counts them */
    int64_t next_try_s;
};

/* Guarded by the table's lock, save what is fixed. There may be very many, so what only a job or a
 * failure needs hangs on a pointer. */
struct cm_managed {
    struct cm_managed *next;   /* fixed once in the table */
    struct cm_config *cfg;     /* fixed */
    struct cm_run run;         /* the queue's while busy */
    struct cm_waiters waiters; /* handshakes; guarded by the hub */
    struct cm_task task;       /* when to look after it again */
    struct cm_due_item line;   /* its place before the pump */
    struct cm_life *life;      /* NULL: nothing served yet */
    struct cm_cancel *cancel;  /* of the job that is running */
    struct cm_subject *group;  /* its names when they are several: group.c; fixed, NULL = one */
    struct cm_cancel *token;   /* of who wants it in the background; NULL = for good */
    struct cm_failure *last;   /* the last one, or NULL */
    unsigned interest;         /* callers that wait for it */
    uint8_t stage;             /* enum cm_stage; the job's while busy */
    uint8_t phase;             /* enum cm_phase */
    uint16_t slot;             /* the pump's, while a job runs */
    uint8_t wants;             /* enum cm_stage that it stands in line for */
    bool busy;                 /* a stage runs or is queued */
    bool lined;                /* stands in line before the pump, busy or not */
    bool passed_by;            /* its turn came while it was busy */
    bool background;           /* goes on although no caller waits */
    bool served;               /* has been put into the cache */
    bool awaited;              /* somebody sleeps until it changes, now or once before */
    bool look;                 /* into storage, when tended next */
    bool late;                 /* woken when maintenance had been stopped */
    uint8_t news;              /* of enum cm_news: heard of, and not looked at yet */
    bool ondemand;             /* a client asked for it; fixed once in the table */
    _Atomic bool load_only;    /* nothing is ordered for it: cm_cache_managed() */
    bool denied;               /* and whoever decides has said no since */
    bool provisional;          /* what is served is the snapshot's; the stage's while busy */
    bool alone;                /* to be loaded by itself; the job's while busy */
    uint32_t seen_chain;       /* as rounds.c saw it in storage, which alone uses it; 0: not yet */
    uint32_t seen_staple;
    char name[];
};

struct cm_names {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* some name is not busy any more */
    struct cm_managed **buckets;
    size_t n_buckets;
    size_t n;
    size_t n_ondemand;
    struct cm_members *members; /* names that are in a group; NULL: none is */
    struct cm_cancel *halt;     /* of all that maintenance begins; fired by its stop */
    _Atomic unsigned batches;   /* workers that load many names at a time */
    bool stopped;               /* nothing is begun any more but loading that was asked for since */
};

/* One name finds the group that it is in, too. */
struct cm_managed *cm_names_find_locked(const struct cm_names *t, const char *name);
/* NULL without memory. */
struct cm_managed *cm_names_add_locked(struct cm_config *cfg, const char *name);

/* ---- group.c: several names that are managed as one ----
 * Such a group is in the table under the ident of its names, which no host is called. Each name is
 * in one group at most, and none that is managed by itself is in any. */
struct cm_members;
/* The group for @s, made if it is new. CM_E_EXISTS: one of its names is managed otherwise. */
CM_MUST_CHECK cm_status cm_group_add_locked(struct cm_config *cfg, const struct cm_subject *s,
                                            struct cm_managed **ret, struct cm_err *err);
struct cm_managed *cm_group_find_locked(const struct cm_names *t, const char *name);
/* By its folder in storage, which a group does not share with any name. */
struct cm_managed *cm_group_find_dir_locked(const struct cm_names *t, const char *dir);
void cm_members_free(struct cm_members *ms); /* NULL ok */
/* A name that the certificate of @m has: to look it up by. */
const char *cm_managed_host(const struct cm_managed *m);
/* What its certificate is for. */
CM_MUST_CHECK cm_status cm_managed_subject(const struct cm_managed *m, struct cm_subject **ret,
                                           struct cm_err *err);
/* Is @cert, found by cm_managed_host(), one that is managed here, and for all of its names? */
bool cm_managed_is_for(const struct cm_managed *m, const struct cm_cert *cert);
/* Does the cache hold such a one that is valid now? */
bool cm_managed_served_well(const struct cm_managed *m);
/* name_state.c: cm_name_state() for what the table calls @key, which is served by @host. @exact:
 * not for a group that it is only one name of. */
CM_MUST_CHECK cm_status cm_names_state(struct cm_config *cfg, const char *key, const char *host,
                                       bool exact, struct cm_name_state *ret, struct cm_err *err);
/* The folder and the ident of the group that the normalized @name is in; false if it is in none. */
bool cm_group_of(struct cm_config *cfg, const char *name, const char **ret_dir,
                 const char **ret_ident);
/* For whoever has set it busy, under the lock: the first stage. */
void cm_managed_wake_locked(struct cm_managed *m, bool background);
/* And after it: begin. On failure it is idle again, and keeps the reason. */
void cm_managed_start(struct cm_managed *m);
/* For one that is idle and has nothing in storage, under the lock: it is to be obtained. And after
 * it: into the line for that. */
void cm_managed_want_locked(struct cm_managed *m);
void cm_managed_line_up(struct cm_managed *m);
/* The same for many that are to be loaded: all are noted before work begins on the first, so that
 * the first clients of a program with very many names do not find some of them unknown. */
struct cm_todo {
    struct cm_run *first;
    struct cm_run *last;
    size_t n;
};
void cm_todo_add(struct cm_todo *todo, struct cm_managed *m);
/* How somebody wants a name managed. */
struct cm_engage {
    const struct cm_subject *group; /* all these, by one certificate; the name is its ident then */
    bool background;                /* nobody waits for it */
    bool load_only;          /* nothing is ordered, unless somebody else has it managed in full */
    struct cm_cancel *token; /* ends it until it is served; NULL = it goes on; borrowed */
};
/* Note @name; if there is work for it, it goes to the end of @todo. A new name costs little here:
 * whether the cache has it already is seen by whoever would load it. */
CM_MUST_CHECK cm_status cm_names_engage(struct cm_config *cfg, const char *name,
                                        const struct cm_engage *how, struct cm_todo *todo,
                                        struct cm_managed **ret, struct cm_err *err);
/* For who engaged it without background: until it is served or has failed, or @op ends. */
CM_MUST_CHECK cm_status cm_names_await(struct cm_managed *m, const struct cm_op *op,
                                       struct cm_err *err);
/* Is it wanted in the background still? What a token that was fired has ended is forgotten here;
 * its reference is in *@ret_token, to be freed without the lock. */
bool cm_managed_wanted_locked(struct cm_managed *m, struct cm_cancel **ret_token);
void cm_managed_start_all(struct cm_config *cfg, struct cm_todo *todo);
/* A client waits for it: it comes before those that nobody has asked for. */
void cm_managed_hurry_locked(struct cm_managed *m);
/* Does the cache hold a managed certificate for the normalized @name that is valid now? */
bool cm_is_served_well(struct cm_config *cfg, const char *name);

struct cm_outcome;

/* managejob.c: the clockwork's call. */
void cm_managed_fire(struct cm_task *task);
/* It has come through the pump, and has this slot there. */
void cm_managed_to_work(struct cm_managed *m, unsigned slot);

/* False if nobody wants it any more, or maintenance was stopped since it was woken. @cancel: its
 * own token, NULL for loading, which is short: it ends with all of them. */
bool cm_managed_begin(struct cm_managed *m, struct cm_cancel *cancel, struct cm_op *op);
/* What a stage that is no job has come to: on with it, or the end. @o is used up. */
void cm_managed_conclude(struct cm_managed *m, struct cm_outcome *o);

#define CM_LOAD_AGAIN_S 600 /* a look into storage for what is only loaded */

/* load.c: storage first. */
void cm_load_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                   struct cm_outcome *o);
/* Load @m, whose turn it is, together with others that are next in the queue, and conclude each.
 * False: it is to be done by itself. */
bool cm_load_batch(struct cm_managed *m);
/* How long one of these may take. */
int64_t cm_load_limit_ns(const struct cm_config *cfg);

/* Have it obtained, if nothing is being done for it: what it has is of no use. */
void cm_managed_obtain_anew(struct cm_managed *m);
/* It stands in line no more, since that has been closed. */
void cm_managed_drop(struct cm_managed *m);
/* Its state, made when first needed; NULL without memory. For the stage that runs. */
struct cm_life *cm_managed_life(struct cm_managed *m);

/* What a stage came to. */
struct cm_outcome {
    cm_status rc;
    struct cm_err err;
    bool go_on;
    uint8_t next; /* enum cm_stage to go on with */
    bool served;
    bool lost;    /* what was served is served no more */
    bool put_off; /* the CA takes nothing for wait_s: stand in line again */
    int64_t wait_s;
    int64_t urgency_s; /* for the pump: when the certificate ends, 0 without one */
    bool urgent;       /* its end is near: no throttle of ours holds it up */
    int64_t due_s;     /* of one that is not in the cache: when to renew it; 0 = not known */
};

/* life/tend.c: the two stages of what is served. */
void cm_tend_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                   bool may_fetch, struct cm_outcome *o);
/* It is served now by @cert (new, or loaded): what is known begins anew. */
void cm_tend_begin(struct cm_managed *m, const struct cm_cert *cert);
/* When to look after it again, ms; INT64_MAX: not by itself. */
int64_t cm_tend_next_ms(struct cm_managed *m, const struct cm_outcome *o);
/* Tells the certificates of one name apart. */
uint64_t cm_managed_leaf(const struct cm_cert *cert);
/* Newest managed certificate that the cache has for it; a reference or NULL. */
struct cm_cert *cm_managed_cert(struct cm_managed *m);
/* @cert goes into the cache in place of older ones. */
CM_MUST_CHECK cm_status cm_managed_serve(struct cm_managed *m, struct cm_cert *cert,
                                         struct cm_err *err);

/* life/heard.c: what a storage that tells of changes has said of a name, or rounds.c has seen. */
enum cm_news {
    CM_NEWS_CERT = 1,   /* there may be another certificate */
    CM_NEWS_STAPLE = 2, /* or staple */
    CM_NEWS_RETRY = 4,  /* an attempt failed elsewhere, or that was forgotten */
    CM_NEWS_CRL = 8     /* a list that has come says that it is revoked */
};
/* Mark the name that has the directory @dir, if there is one, and have it looked at soon. Only
 * marks and wakes: any thread. */
void cm_names_news(struct cm_config *cfg, const char *dir, uint8_t news);
/* The same for one that is known. */
void cm_managed_news_locked(struct cm_managed *m, uint8_t news);
/* For what runs: what there is to be looked at, which is forgotten by that. */
uint8_t cm_managed_take_news(struct cm_managed *m);
/* For the end of what runs: when to look at what was heard meanwhile; INT64_MAX: nothing was. */
int64_t cm_managed_news_at_ms_locked(const struct cm_managed *m);

/* life/walk.c: all names, a few at a time: up to @max from @p on, which begins with zeros and
 * moves. While names come in some may be told twice, none is left out. */
struct cm_names_place {
    uint64_t at;
    size_t skip;
    bool done; /* that was the last one */
};
size_t cm_names_next(struct cm_names *t, struct cm_names_place *p, struct cm_managed **ret,
                     size_t max);

/* life/attempt.c: something failed that was nobody's fault but ours: wait a little, and longer each
 * time. */
void cm_managed_stumbled(struct cm_managed *m);
/* The stages that ask a CA. */
void cm_attempt_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                      struct cm_outcome *o);

/* recheck.c: have what was loaded quickly for @m and is served by now checked to the bottom in the
 * background. When it fails the name is obtained anew. */
void cm_recheck(struct cm_managed *m);

#endif
