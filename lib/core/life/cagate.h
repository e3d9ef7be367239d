/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_CAGATE_H
#define CM_CORE_LIFE_CAGATE_H

/* What cagate.c, breaker.c and cagate_store.c share. */

#include "life.h"

#define CM_CA_PAUSE_MAX_S (24 * 3600)
#define CM_CA_PROBE_S     60        /* the first probe after the breaker opened, ... */
#define CM_CA_PROBE_MAX_S (15 * 60) /* ... each twice as late as the one before, up to this */

/* --------------------------------------------------------------- breaker.c */

/* Whether it makes sense to ask a CA at all. No lock, no I/O: its owner has both. Times are ns of
 * the monotonic clock. All zero is closed. */
struct cm_breaker {
    unsigned failures; /* in a row and the CA's own; a probe counts as failed until it succeeds */
    bool open;
    int64_t next_probe_ns; /* while open */
    int64_t calm_ns;       /* after it closed: until then not all are let in at once */
};
/* True if that opened it. */
bool cm_breaker_fail(struct cm_breaker *b, int64_t now_ns);
/* True if that closed it. */
bool cm_breaker_succeed(struct cm_breaker *b, int64_t now_ns);
/* ns until asking again makes sense; 0: go on, as the probe while it is open. */
int64_t cm_breaker_wait_ns(const struct cm_breaker *b, int64_t now_ns, uint64_t dice);
/* The probe is about to be sent. */
void cm_breaker_probe(struct cm_breaker *b, int64_t now_ns);

/* ---------------------------------------------------------- cagate_store.c */

/* What all nodes know of one CA, under certmesh/gates/<Safe(issuer key)>. All zero: nothing bad,
 * and no record. Seconds since 1970 by the clock of who wrote it. */
struct cm_ca_note {
    int64_t paused_until_s;
    int64_t open_since_s;
    int64_t next_probe_s;
    int64_t updated_s;
    unsigned failures;
    char reason[256];
};
bool cm_ca_note_equal(const struct cm_ca_note *a, const struct cm_ca_note *b);
/* Seconds of the pause that are left, however wrong the clocks are: no more than it had when it was
 * written, nor than a day. */
int64_t cm_ca_note_pause_left_s(const struct cm_ca_note *n, int64_t now_s);
/* Seconds until the next probe; 0 = now. */
int64_t cm_ca_note_probe_left_s(const struct cm_ca_note *n, int64_t now_s);
/* CM_OK with all zero if there is none. */
CM_MUST_CHECK cm_status cm_ca_note_load(struct cm_config *cfg, const struct cm_op *op,
                                        const char *issuer_key, struct cm_ca_note *ret,
                                        struct cm_err *err);
/* All zero removes the record. */
CM_MUST_CHECK cm_status cm_ca_note_store(struct cm_config *cfg, const struct cm_op *op,
                                         const char *issuer_key, const struct cm_ca_note *n);
/* May this process send the fleet's probe, which is due by @seen (what storage was last seen to
 * have)? Then *@io, which says so, is stored. If not, *@io is what storage has now. CM_E_BUSY: a
 * peer is just about to; other errors are the storage's. */
CM_MUST_CHECK cm_status cm_ca_note_claim(struct cm_config *cfg, const struct cm_op *op,
                                         const char *issuer_key, const struct cm_ca_note *seen,
                                         struct cm_ca_note *io, bool *ret_mine, struct cm_err *err);

#endif
