/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* Repairs of the index, while others write. A writer changes index and value one after the other,
 * so a repair decides on the server whether it is still wanted: in one script with all that it
 * depends on where that lies on one server, else by the age of the member, which each writer starts
 * anew before he stores. */

#define YOUNG_S "60" /* no writer is that slow between the member and its value */

static void member_of(const struct rds_drift *d, char ret[RDS_NAME_MAX + 1])
{
    size_t dir = rds_dir_len(d->name, strlen(d->name));

    if (d->member != NULL)
        (void)snprintf(ret, RDS_NAME_MAX + 1, "%s", d->member);
    else
        (void)snprintf(ret, RDS_NAME_MAX + 1, "%s%s", d->name + (dir > 0 ? dir + 1 : 0),
                       d->directory ? "/" : "");
}

/* False: nothing is above. */
static bool dir_of(const struct rds_drift *d, char ret[RDS_NAME_MAX])
{
    size_t dir = rds_dir_len(d->name, strlen(d->name));

    memcpy(ret, d->name, dir);
    ret[dir] = '\0';
    return dir > 0;
}

static const char *kind_of(const struct rds_drift *d)
{
    return d->directory ? "zset" : "string";
}

cm_status rds_drift_look(struct redis_storage *rs, const struct cm_op *op,
                         const struct rds_drift *d, bool *ret, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    char member[RDS_NAME_MAX + 1];
    char dir[RDS_NAME_MAX];
    char type[16] = "";
    redisReply *r = NULL;
    cm_status rc = CM_OK;

    *ret = false;
    if (!dir_of(d, dir))
        return CM_OK;
    if (d->member == NULL)
        rc = rds_type(rs, op, d->name, type, err);
    if (rc != CM_OK)
        return rc;
    member_of(d, member);
    rds_arg(&a, "ZSCORE");
    rds_arg(&a, dir);
    rds_arg(&a, member);
    struct redis_command c = rds_command(&a);
    rc = redis_call(rs->link, op, dir, true, &c, 1, &r, err);
    if (rc != CM_OK)
        return rc;
    bool entered = r->type == REDIS_REPLY_STRING;
    bool there = strcmp(type, kind_of(d)) == 0;
    if (r->type == REDIS_REPLY_ERROR && !rds_is_error(r, "WRONGTYPE"))
        rc = rds_refused(r, "ZSCORE", err);
    freeReplyObject(r);
    *ret = d->stale ? entered && !there : there && !entered;
    return rc;
}

static cm_status word(redisReply *r, const char *what, char ret[16], struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (r->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r, what, err);
    else if (r->type != REDIS_REPLY_ARRAY || r->elements == 0 ||
             r->element[0]->type != REDIS_REPLY_STRING || r->element[0]->len >= 16)
        rc = rds_odd(what, err);
    else
        memcpy(ret, r->element[0]->str, r->element[0]->len + 1);
    freeReplyObject(r);
    return rc;
}

static cm_status enter(struct redis_storage *rs, const struct cm_op *op, const struct rds_drift *d,
                       char ret[16], struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    struct cm_err why = CM_ERR_INIT;
    redisReply *r = NULL;
    char score[24];
    cm_status rc;

    if (!rs->scripted) {
        rc = d->directory ? rds_index_add_directory(rs, op, d->name, &why)
                          : rds_index_add(rs, op, d->name, &why);
        memcpy(ret, rc == CM_OK ? "ok" : "foreign", rc == CM_OK ? 3 : 8);
        if (rc == CM_E_PARSE) /* no directory is there, but something else */
            return CM_OK;
        if (rc != CM_OK && err != NULL)
            *err = why;
        return rc;
    }
    rds_score(rs, score);
    rds_arg(&a, d->name);
    rds_arg(&a, kind_of(d));
    rds_arg(&a, score);
    rc = rds_eval_texts(rs, op, true, RDS_ENTER, 1, &a, &r, err);
    return rc == CM_OK ? word(r, d->name, ret, err) : rc;
}

/* Upwards each directory that ends by it. */
static cm_status forget(struct redis_storage *rs, const struct cm_op *op, const struct rds_drift *d,
                        char ret[16], struct cm_err *err)
{
    struct rds_drift up = *d;
    char name[RDS_NAME_MAX];
    char dir[RDS_NAME_MAX];
    char member[RDS_NAME_MAX + 1];
    char said[16] = "empty";
    bool first = true;
    cm_status rc = CM_OK;

    up.name = name;
    (void)snprintf(name, sizeof name, "%s", d->name);
    while (rc == CM_OK && strcmp(said, "empty") == 0 && dir_of(&up, dir)) {
        struct rds_args a = { .n = 0 };
        redisReply *r = NULL;
        bool both = rs->scripted && up.member == NULL;

        member_of(&up, member);
        rds_arg(&a, dir);
        if (both)
            rds_arg(&a, name);
        rds_arg(&a, member);
        rds_arg(&a, kind_of(&up));
        rds_arg(&a, YOUNG_S);
        rc = rds_eval_texts(rs, op, true, RDS_FORGET, both ? 2 : 1, &a, &r, err);
        if (rc == CM_OK)
            rc = word(r, dir, said, err);
        if (rc == CM_OK && first)
            memcpy(ret, said, sizeof said);
        first = false;
        (void)snprintf(name, sizeof name, "%s", dir);
        up.member = NULL;
        up.directory = true;
    }
    return rc;
}

cm_status rds_drift_mend(struct redis_storage *rs, const struct cm_op *op,
                         const struct rds_drift *d, bool *ret_done, const char **ret_why,
                         struct cm_err *err)
{
    char said[16] = "";
    cm_status rc = d->stale ? forget(rs, op, d, said, err) : enter(rs, op, d, said, err);

    if (rc != CM_OK)
        return rc;
    *ret_done = strcmp(said, "ok") == 0 || strcmp(said, "empty") == 0;
    *ret_why = NULL;
    if (strcmp(said, "fresh") == 0)
        *ret_why = "it was entered within the last minute, so somebody may be about to store it";
    else if (strcmp(said, "foreign") == 0)
        *ret_why = "a name above it is no directory, but a value or somebody else's: move either";
    return CM_OK;
}

cm_status rds_expire(struct redis_storage *rs, const struct cm_op *op, const char *name,
                     const char *ms, bool *ret_done, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    char said[16] = "";
    cm_status rc;

    rds_arg(&a, name);
    rds_arg(&a, ms);
    rc = rds_eval_texts(rs, op, true, RDS_EXPIRE, 1, &a, &r, err);
    if (rc == CM_OK)
        rc = word(r, name, said, err);
    if (rc == CM_OK)
        *ret_done = strcmp(said, "ok") == 0;
    return rc;
}
