/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_KEY_SESSION_H
#define CM_PKI_KEY_SESSION_H

/* Inside lib/pki: what key_session.c and key_tend.c share. */

#include "key.h"

#include <pthread.h>

#define CM_TOKEN_PAUSE_NS   (10 * CM_NS_PER_S) /* between attempts; at first 1 s */
#define CM_CKM_RSA_PKCS_PSS 0x0dul             /* PKCS#11's number */

/* One key in a token, opened once for all who sign with it. The lock guards what is not said to be
 * otherwise. */
struct cm_token_session {
    struct cm_token_session *next;
    unsigned refs;
    unsigned users; /* who are signing with live, or with stale */
    bool tried;
    bool opening; /* by one thread */
    bool away;
    bool parked;            /* its module is initialized anew: open again in a moment */
    atomic_bool pss;        /* the token does RSA-PSS, as far as is known */
    gnutls_privkey_t live;  /* NULL: it is away, or nobody has opened it yet */
    gnutls_privkey_t stale; /* to be closed before it is opened again */
    int64_t since_ns;       /* away, or was lately */
    int64_t tried_ns;       /* when it was last opened in vain */
    int64_t next_ns, pause_ns;
    uint64_t changed; /* the number of the last change of away */
    struct cm_pin_mark pin;
    cm_status why_rc;
    char why[400];
    char module[CM_MODULE_MAX]; /* its file; "" = not known */
    size_t url_len;
    char url[]; /* with a NUL */
};

struct cm__token_state {
    pthread_mutex_t lock; /* a leaf; not held while a module is called */
    pthread_cond_t calm;  /* something has ended: an attempt, the last of several signatures */
    struct cm_token_session *first;
    uint64_t changes;
    unsigned inside; /* calls into modules, signatures apart */
    bool closed;     /* nobody enters */
    bool missed;     /* a token that is not there was wanted for something else than signing */
    bool alone;      /* the program does not use PKCS#11 itself: modules may be initialized anew */
    bool tending;
    int64_t again_ns;   /* no module is initialized anew before, ... */
    int64_t disturb_ns; /* and none in which other keys can be used */
    atomic_uint away;
};
extern struct cm__token_state cm__tokens;

void cm__tokens_lock(void);
void cm__tokens_unlock(void);
int64_t cm__tokens_now_ns(void);
/* Tell those who watch; no lock is held. */
void cm__tokens_tell(void);

void cm__session_put(struct cm_token_session *s);
/* Open it, if it is not open. One thread at a time; the others wait, but not long. */
CM_MUST_CHECK cm_status cm__session_open(struct cm_token_session *s, struct cm_err *err);
/* At once while it is away. @hashed: @input is the hash that goes with @algo. */
CM_MUST_CHECK cm_status cm__session_sign(struct cm_token_session *s, gnutls_sign_algorithm_t algo,
                                         bool hashed, struct cm_span input, struct cm_buf *ret,
                                         struct cm_err *err);

#endif
