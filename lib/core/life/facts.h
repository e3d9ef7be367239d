/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_FACTS_H
#define CM_CORE_LIFE_FACTS_H

/* What is known of one name, gathered from storage and from this process for status.c and why.c.
 * Only looks: no lock is taken, nothing is written, no CA is asked. */

#include "life.h"

struct cm_facts {
    int64_t now_s;
    char dir[CM_STORAGE_COMPONENT_MAX + 1];
    struct cm_subject *subject; /* NULL when nobody tells the names */

    /* in storage */
    bool remains;         /* there is at least something */
    struct cm_cert *cert; /* the best one, of whatever issuer, or NULL */
    struct cm_leaf *leaf; /* the same */
    char base[CM_KEY_BUF];
    char issuer_key[256]; /* raw if the config has this issuer, else as stored */
    bool is_ours;         /* it has */
    char damage[512];     /* of one that cannot be used; "" = none */
    struct cm_when when;  /* of cert */
    bool has_ari;
    struct cm_ari ari;
    bool has_staple;
    struct cm_ocsp_peek staple;
    struct cm_revocation crl; /* what the fleet's list says */
    bool revoked;             /* the response or that says so, or this process has found it out */
    bool failed;              /* since cert was issued */
    struct cm_retry retry;
    bool has_ca;
    char ca_key[256]; /* which CA the next order goes to, as far as can be told */
    struct cm_ca_state ca;
    enum { CM_FACTS_LOCK_UNKNOWN, CM_FACTS_LOCK_FREE, CM_FACTS_LOCK_HELD } lock_is;
    struct cm_lock_info lock;

    /* in this process */
    bool managed;
    bool busy;
    bool served;
};

/* What is the same for all names. */
struct cm_facts_view {
    struct cm_config *cfg;
    const struct cm_op *op;
    struct cm_children issuers; /* folders below certificates/ */
};
CM_MUST_CHECK cm_status cm_facts_open(struct cm_config *cfg, const struct cm_op *op,
                                      struct cm_facts_view *ret, struct cm_err *err);
void cm_facts_close(struct cm_facts_view *v);

/* @name: names joined by ',', one of the names of a certificate, or a folder of the layout.
 * CM_E_NOTFOUND when nothing at all is known. Free @ret on CM_OK. */
CM_MUST_CHECK cm_status cm_facts_of(const struct cm_facts_view *v, const char *name,
                                    struct cm_facts *ret, struct cm_err *err);
/* The same by the folder; @name, if not NULL, is what it is for as far as the caller knows. */
CM_MUST_CHECK cm_status cm_facts_of_dir(const struct cm_facts_view *v, const char *dir,
                                        const char *name, struct cm_facts *ret, struct cm_err *err);
void cm_facts_free(struct cm_facts *f);

/* facts_cert.c: fills in what certificates/ holds for f->dir. */
CM_MUST_CHECK cm_status cm_facts_cert(const struct cm_facts_view *v, struct cm_facts *f,
                                      struct cm_err *err);
/* The folder of the newest certificate that has the normalized @name among its names. */
CM_MUST_CHECK cm_status cm_facts_find_san(const struct cm_facts_view *v, const char *name,
                                          char ret_dir[CM_STORAGE_COMPONENT_MAX + 1],
                                          struct cm_err *err);
/* Does this error end the whole look, or only a part of it? */
bool cm_facts_over(const struct cm_facts_view *v, cm_status rc);

/* status.c */
void cm_facts_status(const struct cm_facts *f, struct cm_life_status *ret);

#endif
