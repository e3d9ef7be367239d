/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_CLEAN_H
#define CM_CORE_CLEAN_H

/* What the files of the cleaner (clean*.c) share, one per kind of thing that is cleaned. Whatever
 * goes is looked at again just before, and under the lock of its name where it has one: a peer may
 * be renewing it just now. What cannot be understood stays, and is counted. */

#include "life.h"

#define CM_CLEAN_DAY_S     (24 * 3600)
#define CM_CLEAN_PASSING_S 3600                   /* of use for moments only */
#define CM_CLEAN_CSR_S     (400 * CM_CLEAN_DAY_S) /* no public certificate lives that long */
#define CM_CLEAN_RECORD_S  (60 * CM_CLEAN_DAY_S)  /* nobody wrote it again for that long */

struct cm_sweep {
    struct cm_config *cfg;
    const struct cm_op *op;
    struct cm_clean_options opts;
    struct cm_clean_report report;
    int64_t now_s;
};

/* ---- clean_tools.c ---- */

/* @key is gone, or would be. */
void cm_sweep_gone(struct cm_sweep *w, const char *key, const char *why);
/* One broken object must not keep the rest from being cleaned; only the end of the operation and
 * exhausted memory do. */
CM_MUST_CHECK cm_status cm_sweep_skip(struct cm_sweep *w, const char *key, cm_status rc,
                                      const struct cm_err *why, struct cm_err *err);
/* Seconds since @key was stored; @modified_ns as listed, 0 = the list did not tell. */
CM_MUST_CHECK cm_status cm_sweep_age_s(const struct cm_sweep *w, const char *key,
                                       int64_t modified_ns, int64_t *ret, struct cm_err *err);
/* Removes it, unless this is a dry run. */
CM_MUST_CHECK cm_status cm_sweep_remove(struct cm_sweep *w, const char *key, const char *why,
                                        struct cm_err *err);
/* Counts @key, and removes it when it was stored more than @limit_s ago. */
CM_MUST_CHECK cm_status cm_sweep_aged(struct cm_sweep *w, const char *key, int64_t modified_ns,
                                      int64_t limit_s, const char *why, struct cm_err *err);
/* Does not wait: CM_E_BUSY if somebody is at work on it. */
CM_MUST_CHECK cm_status cm_sweep_lease(const struct cm_sweep *w, const char *lock,
                                       struct cm_lease **ret, struct cm_err *err);

/* ---- clean_sites.c ---- */

/* All certificates in storage as the first look found them. */
struct cm_sweep_sites {
    size_t n;        /* that could be read */
    size_t n_future; /* begin more than a day from now */
    char **past;     /* directories of those that have expired and are past grace */
    size_t n_past;
    size_t cap;
};
CM_MUST_CHECK cm_status cm_sweep_sites_look(struct cm_sweep *w, struct cm_sweep_sites *ret,
                                            struct cm_err *err);
void cm_sweep_sites_free(struct cm_sweep_sites *s);
CM_MUST_CHECK cm_status cm_sweep_sites(struct cm_sweep *w, const struct cm_sweep_sites *s,
                                       struct cm_err *err);
/* Keys that were put aside as compromised, if the options say when they go. */
CM_MUST_CHECK cm_status cm_sweep_compromised(struct cm_sweep *w, struct cm_err *err);

/* ---- clean_passing.c: challenge tokens, self-tests of storage, staples ---- */

CM_MUST_CHECK cm_status cm_sweep_passing(struct cm_sweep *w, struct cm_err *err);
CM_MUST_CHECK cm_status cm_sweep_staples(struct cm_sweep *w, struct cm_err *err);

/* ---- clean_records.c: what certmesh noted for itself ---- */

#define CM_CLEAN_CA_DIR  "certmesh/gates"
#define CM_CLEAN_CRL_DIR "certmesh/crl"

CM_MUST_CHECK cm_status cm_sweep_journals(struct cm_sweep *w, struct cm_err *err);
CM_MUST_CHECK cm_status cm_sweep_records(struct cm_sweep *w, struct cm_err *err);

/* ---- clean_stamp.c: last_clean.json, as peers (certmagic) read and write it ---- */

#define CM_CLEAN_LOCK "storage_clean"
/* When the fleet was cleaned last, seconds since 1970; 0 = never, or nobody can tell. */
CM_MUST_CHECK cm_status cm_clean_stamp_load(struct cm_config *cfg, const struct cm_op *op,
                                            int64_t *ret_s, struct cm_err *err);
CM_MUST_CHECK cm_status cm_clean_stamp_store(struct cm_config *cfg, const struct cm_op *op,
                                             struct cm_lease *lease, struct cm_err *err);

#endif
