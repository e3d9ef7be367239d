/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_STAPLE_H
#define CM_CORE_LIFE_STAPLE_H

/* Between the files that look after staples: staple.c decides, staple_store.c knows where peers
 * keep them, staple_fetch.c asks responders, staple_slot.c hands them to handshakes, responders.c
 * spares a responder that fails. */

#include "life.h"
#include "ocsp.h"

/* ------------------------------------------------------------ staple_slot.c */

/* Immutable; see core.h. */
struct cm_staple {
    _Atomic unsigned refs;
    int64_t this_update_s;
    int64_t end_s;
    size_t len;
    uint8_t der[];
};
CM_MUST_CHECK cm_status cm_staple_new(struct cm_span der, const struct cm_ocsp *o,
                                      struct cm_staple **ret, struct cm_err *err);

/* What hangs on a certificate that has a responder. But for the staple itself it belongs to the
 * one thread that tends the certificate. */
struct cm_stapling {
    pthread_mutex_t lock;         /* a leaf, for ... */
    struct cm_staple *now;        /* ... this alone */
    int64_t again_s;              /* nothing is to be done before; 0 = now */
    int64_t tended_s;             /* the last time; a clock that is before it was put back */
    unsigned failures;            /* in a row */
    int64_t floor_s;              /* newest thisUpdate seen: nothing older is believed any more */
    struct cm_revocation revoked; /* what that newest one said */
    bool told;                    /* of a must-staple certificate without responder */
    char *keys[2];                /* where it lies in storage; the second NULL if it is the same;
                                     written under the lock */
    struct cm_buf issuer;         /* fetched, as the chain does not have it */
};
/* The certificate's own, made when there is none. */
CM_MUST_CHECK cm_status cm_stapling_get(struct cm_cert *c, struct cm_stapling **ret,
                                        struct cm_err *err);
/* NULL if there is none. */
struct cm_stapling *cm_stapling_look(const struct cm_cert *c);
/* Put @staple (a reference taken over; NULL: none) in the place of what is there. */
void cm_stapling_swap(struct cm_stapling *s, struct cm_staple *staple);

/* ----------------------------------------------------------- staple_store.c */

/* Fill in s->keys. A certificate that has no name to be stored under is CM_E_NOTFOUND. */
CM_MUST_CHECK cm_status cm_staple_keys(struct cm_config *cfg, const struct cm_op *op,
                                       const struct cm_cert *cert, const struct cm_leaf *leaf,
                                       struct cm_stapling *s, struct cm_err *err);
/* Where the staples of @cert lie, as far as they were looked for yet: how many. Any thread. */
size_t cm_staple_places(const struct cm_cert *cert, char ret[2][CM_KEY_BUF]);
/* The newest good or revoked response in storage that holds; what does not is removed.
 * CM_E_NOTFOUND if there is none. @ret_der is set to its bytes. */
CM_MUST_CHECK cm_status cm_staple_load(struct cm_config *cfg, const struct cm_op *op,
                                       const struct cm_stapling *s, struct cm_span leaf_der,
                                       struct cm_span issuer_der, struct cm_buf *ret_der,
                                       struct cm_ocsp *ret, struct cm_err *err);
/* Under all keys; an empty @der removes. @lease may be NULL. */
CM_MUST_CHECK cm_status cm_staple_store(struct cm_config *cfg, const struct cm_op *op,
                                        struct cm_lease *lease, const struct cm_stapling *s,
                                        struct cm_span der, struct cm_err *err);

/* ----------------------------------------------------------- staple_fetch.c */

/* Copy the table of the options into @cfg. CM_E_INVAL for an entry without addresses. */
CM_MUST_CHECK cm_status cm_ocsp_overrides_take(struct cm_config *cfg,
                                               const struct cm_ocsp_override *from, size_t n,
                                               struct cm_err *err);
void cm_ocsp_overrides_free(struct cm_config *cfg);
/* Which responder to ask for a certificate that names @url; NULL = none. Borrowed. */
const char *cm_ocsp_responder(const struct cm_config *cfg, const char *url);
/* Ask @url and verify the answer: its bytes are appended to @ret_der. Errors: those of the fetcher
 * and of cm_ocsp_verify(); with *@ret_wait_s > 0 the responder was not asked, as it is spared. */
CM_MUST_CHECK cm_status cm_ocsp_ask(struct cm_config *cfg, const struct cm_op *op, const char *url,
                                    struct cm_span leaf_der, struct cm_span issuer_der,
                                    struct cm_buf *ret_der, struct cm_ocsp *ret,
                                    int64_t *ret_wait_s, struct cm_err *err);
/* The certificate of @leaf_der's issuer, from where the leaf says; really the one that signed it.
 */
CM_MUST_CHECK cm_status cm_issuer_fetch(struct cm_config *cfg, const struct cm_op *op,
                                        struct cm_span leaf_der, struct cm_buf *ret_der,
                                        int64_t *ret_wait_s, struct cm_err *err);

/* ------------------------------------------------------------- responders.c */

/* One of many certificates notices that a responder fails, and the others need not: after three
 * failures in a row a host is asked once a minute, until it answers. Only hosts that fail are
 * remembered, a bounded number. Threads: any. */
struct cm_responders;
CM_MUST_CHECK cm_status cm_responders_new(const struct cm_env *env, struct cm_responders **ret,
                                          struct cm_err *err);
void cm_responders_free(struct cm_responders *r); /* NULL ok */
/* 0 if it may be asked, else the seconds to wait. Takes nothing. */
int64_t cm_responders_wait_s(struct cm_responders *r, const char *url);
/* The same, just before asking: takes the one try of the minute. */
int64_t cm_responders_admit(struct cm_responders *r, const char *url);
/* How it went. @why is for the log line when the host is given up. */
void cm_responders_note(struct cm_responders *r, const struct cm_log *log, const char *url, bool ok,
                        const char *why);

#endif
