/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_TICKETS_H
#define CM_CORE_LIFE_TICKETS_H

/* The keys of session tickets as the fleet shares them: what lies in storage (ticket_record.c), and
 * who reads and renews it (tickets.c). */

#include "maintain.h"

#define CM_TICKETS_KEY  "certmesh/tickets"
#define CM_TICKETS_LOCK "certmesh_tickets"
#define CM_TICKET_INTERVAL_S                                                                       \
    (12 * 3600)                   /* a key makes tickets that long; unless the options say         \
                                   */
#define CM_TICKET_LEAD_S     1200 /* a key is in storage that long before it is used: twice */
#define CM_TICKET_POLL_S     600  /* ... the time in which every node has looked */
#define CM_TICKET_RECORD_MAX 4096u
#define CM_TICKET_STORED     4u /* previous, current, next; and one that a clock has left over */

struct cm_ticket_key {
    char id[17]; /* random hex: people can tell keys apart without seeing them */
    int64_t created_s;
    int64_t from_s; /* makes tickets from then on, until another does */
    uint8_t key[CM_TICKET_KEY_LEN];
};
/* Plain data; a secret: cm_wipe() it. */
struct cm_ticket_record {
    size_t n;                                  /* 1..CM_TICKET_STORED */
    struct cm_ticket_key at[CM_TICKET_STORED]; /* by from_s, no two the same */
};

/* ---- ticket_record.c, pure but for the randomness ---- */

/* CM_E_PARSE with what is wrong, never with what is in it. @ret is wiped then. */
CM_MUST_CHECK cm_status cm_ticket_parse(struct cm_span text, struct cm_ticket_record *ret,
                                        struct cm_err *err);
/* @out must be a secret buffer. */
CM_MUST_CHECK cm_status cm_ticket_format(const struct cm_ticket_record *r, struct cm_buf *out,
                                         struct cm_err *err);
/* The one that makes tickets at @now_s: the last that has begun; the first if none has. */
size_t cm_ticket_current(const struct cm_ticket_record *r, int64_t now_s);
/* Was it written by a clock that is far ahead of this one? */
bool cm_ticket_is_future(const struct cm_ticket_record *r, int64_t now_s);
/* What has to be in storage at @now_s after @known (NULL: nothing is): the current key, its
 * successor, and its predecessor for as long as that is accepted. *@ret_new: that differs from
 * @known. */
CM_MUST_CHECK cm_status cm_ticket_plan(const struct cm_env *env,
                                       const struct cm_ticket_record *known, int64_t now_s,
                                       int64_t interval_s, struct cm_ticket_record *ret,
                                       bool *ret_new, struct cm_err *err);

#endif
