/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_RECORD_H
#define CM_CORE_LIFE_RECORD_H

/* Small notes for all nodes: one JSON object of one level per key below "certmesh/". They are hints
 * only: what is damaged is as good as absent, and what cannot be stored is known to one process. */

#include "core_private.h"

#define CM_RECORD_MAX (8u * 1024)

/* Members are added one after the other; what goes wrong is told at the end. Texts are made ASCII.
 * A time of 0 and an empty text are left out. */
struct cm_record {
    struct cm_buf text;
    cm_status rc;
};
void cm_record_begin(struct cm_record *r);
void cm_record_text(struct cm_record *r, const char *name, const char *value);
void cm_record_time(struct cm_record *r, const char *name, int64_t s);
void cm_record_number(struct cm_record *r, const char *name, unsigned n);
void cm_record_flag(struct cm_record *r, const char *name, bool value);
/* Frees @r whatever happens. What fails is logged, but not for each of many. */
cm_status cm_record_store(struct cm_config *cfg, const struct cm_op *op, const char *key,
                          struct cm_record *r, struct cm_err *err);
/* The same under a lease. */
cm_status cm_record_commit(struct cm_lease *lease, const struct cm_op *op, const char *key,
                           struct cm_record *r, struct cm_err *err);

/* CM_E_NOTFOUND also when what is there is no JSON object. The caller puts it. */
CM_MUST_CHECK cm_status cm_record_load(struct cm_config *cfg, const struct cm_op *op,
                                       const char *key, struct json_object **ret,
                                       struct cm_err *err);
/* The members have the right type, or are absent: then @ret is "", 0 or false. */
bool cm_record_get_text(struct json_object *o, const char *name, char *ret, size_t size);
bool cm_record_get_time(struct json_object *o, const char *name, int64_t *ret_s);
bool cm_record_get_number(struct json_object *o, const char *name, unsigned *ret);
bool cm_record_get_flag(struct json_object *o, const char *name, bool *ret);
/* It cannot be used: say so once. Returns CM_E_NOTFOUND. */
cm_status cm_record_is_damaged(struct cm_config *cfg, const char *key, const char *why,
                               struct cm_err *err);

/* An operation for a note that ought to be made although the one it is about is over. */
struct cm_op cm_record_op(const struct cm_config *cfg, const struct cm_op *op);
/* Remove it if it is there. */
cm_status cm_record_remove(struct cm_config *cfg, const struct cm_op *op, const char *key,
                           struct cm_err *err);

#endif
