/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_ONDEMAND_H
#define CERTMESH_CM_ONDEMAND_H

/* Certificates for names that nobody told the program before a client asked for them. Included by
 * <certmesh/cm.h>; see docs/on-demand.md.
 *
 * A hello for a name that is neither served nor managed goes to a source of certificates, if there
 * is one. When that has none for it, it goes through this, and whatever says no is the end of it:
 * the lists; what was denied a short while ago; the pace of asking; the decision;
 * storage, which may have a certificate already; the quotas of orders; the CA. However many hellos
 * for one name come meanwhile, all this happens once and they share what comes of it. A name that
 * was let in is managed from then on (it is renewed when due, after the decision was asked again);
 * what is known of it is gone with the process, its certificate stays in storage. What is served
 * is served to whoever asks, unless recheck_s says that it be decided again. */

#include <certmesh/cm_cert_source.h>

#ifdef __cplusplus
extern "C" {
#endif

enum cm_ondemand_phase {
    CM_ONDEMAND_OBTAIN = 0, /* a client asked for it; storage has not been looked into yet */
    CM_ONDEMAND_RENEW = 1,  /* its certificate is due */
    CM_ONDEMAND_SERVE = 2   /* a client asks for it again, and it is served: see recheck_s */
};

/** What is to be decided. Borrowed for the call. */
struct cm_ondemand_ask {
    uint32_t size;
    const char *name;      /* normalized */
    const char *client_ip; /* of the first that asked; "" when not known, or to renew */
    enum cm_ondemand_phase phase;
};

/** A question that waits for its answer. */
struct cm_decision;

/**
 * May there be a certificate for ask->name? Called on one of a few threads of the config, for
 * different names at the same time, without locks. It owes an answer by cm_decision_answer(), now
 * or later. One that blocks holds up the questions behind it, which count their time from when they
 * were put; so whoever has to ask elsewhere had better answer later.
 */
typedef void (*cm_decide_fn)(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d);

/**
 * Answer @d, which is the program's no more after that: exactly once for each, from any thread,
 * also from within the callback, also when the time for it is over or the config is gone (then it
 * means nothing). @reason, for the log, is copied; NULL = none.
 */
CM_API void cm_decision_answer(struct cm_decision *d, bool allow, const char *reason);

/**
 * Which certificate is to be obtained for @name, after it was allowed: write its subject to
 * @ret_subject (256 bytes), @name itself or the wildcard that covers it ("*.example.com" for
 * "a.example.com"; the issuer must be able to). Hosts below one wildcard share one certificate and
 * one order; each is decided for itself. Renewals are decided by the subject. Called on threads of
 * the config, without locks; must not block. Anything but CM_OK, or a subject that does not cover
 * @name, is a refusal.
 */
typedef cm_status (*cm_subject_fn)(void *user, const char *name, char *ret_subject);

/** Everything is copied. 0 = the default of each. */
struct cm_ondemand_options {
    uint32_t size;
    /* Names that may have a certificate, and domains below which (at any depth, without itself) all
     * may. With either, nothing else gets any, and nobody is asked about anything else. */
    const char *const *names;
    size_t n_names;
    const char *const *suffixes;
    size_t n_suffixes;
    /* Who decides: one of these at most. With neither, the lists alone do; without lists, too, no
     * name but the managed ones has any hope. */
    cm_decide_fn decide;
    void *decide_user;
    const char *ask_url; /* http or https: GET with the parameter domain=NAME; 200 allows */
    /* Any name at all, if there are no lists and nobody who decides: everybody who can point a name
     * at this machine can use up what the CA allows. */
    bool allow_any_dangerous;
    int64_t decide_timeout_ms; /* no answer by then is a denial; 2000, at most 60000 */
    int64_t denied_ms;   /* a name that was denied is not asked about again for so long; doubled for
                            each denial in a row, up to 64 times of it; 10000 */
    unsigned max_asking; /* names undecided at once; 1000 */
    unsigned max_names;  /* names that the process takes in, in its life; 100000 */
    unsigned asks_per_s; /* new questions in a second; 1000 */
    unsigned asks_per_client_s; /* of one client: a /24, or a /48 of IPv6; 100 */
    /* New certificates, of all processes on one storage, in any window of that length; renewals do
     * not count. Storage that cannot be read or written means no new ones. */
    int64_t orders_window_s;    /* 3 hours; a minute to a week */
    unsigned orders;            /* in all: 200; at most 1000 */
    unsigned orders_per_domain; /* below one registered domain (by the public suffix list; the last
                                   two labels if built without libpsl); as orders, since all names
                                   may be below one */
    unsigned orders_per_client; /* asked for by one client as above; 20 */
    cm_subject_fn subject;      /* NULL = the name itself */
    void *subject_user;
    /* Who may have certificates of his own; asked before all of the above but the pace and
     * max_asking, also about names that are not on the lists. Stays the program's, and until the
     * config is gone. NULL = none. */
    struct cm_cert_source *source;
    int64_t source_timeout_ms; /* no answer by then is none; 2000, at most 60000 */
    int64_t source_miss_ms;    /* not asked about a name again for so long after it gave nothing
                                  for it; 10000, at most a day */
    unsigned source_kept;      /* certificates of it at once, the first to end makes room; 10000 */
    /* Names that clients brought are decided about again although there is a certificate, by the
     * first hello after so long since the last yes; needs decide or ask_url. After a no they are
     * refused, for denied_ms as above. When there is no decision to be had (none in time, the URL
     * cannot be asked or answers 408, 429 or 5xx, too many questions), a yes that was for this very
     * name holds 10 s longer. 0 = what is served is served; at most a day. */
    int64_t recheck_s;
};
#define CM_ONDEMAND_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_ondemand_options)                                       \
    }

#ifdef __cplusplus
}
#endif
#endif
