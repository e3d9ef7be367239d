/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>

/* One value: load, stat, remove. */

#define REMOVE_STEP "2000" /* names that one script takes away: it holds up everyone else */

static cm_status not_found(const char *key, struct cm_err *err)
{
    return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
}

cm_status rds_type(struct redis_storage *rs, const struct cm_op *op, const char *name, char ret[16],
                   struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;

    rds_arg(&a, "TYPE");
    rds_arg(&a, name);
    cm_status rc = rds_ask(rs, op, name, &a, &r, err);
    if (rc != CM_OK)
        return rc;
    if (r->type != REDIS_REPLY_STATUS)
        rc = rds_odd("TYPE", err);
    else
        (void)snprintf(ret, 16, "%s", r->str);
    freeReplyObject(r);
    return rc;
}

/* A directory is no value; anything else that is no string was not made by certmesh or a peer. */
static cm_status no_string(struct redis_storage *rs, const struct cm_op *op, const char *key,
                           const char *name, struct cm_err *err)
{
    char type[16] = "";
    cm_status rc = rds_type(rs, op, name, type, err);

    if (rc != CM_OK)
        return rc;
    if (strcmp(type, "zset") == 0 || strcmp(type, "none") == 0)
        return not_found(key, err);
    return cm_fail(err, CM_E_PARSE, "what lies at '%s' is no value but a %s of Redis", key, type);
}

cm_status rds_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                   struct cm_buf *ret, struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    struct rds_args a = { .n = 0 };
    char name[RDS_NAME_MAX];
    char what[CM_STORAGE_KEY_MAX + 16];
    redisReply *r = NULL;
    cm_status rc = rds_name(rs, key, name, err);

    if (rc != CM_OK)
        return rc;
    rds_arg(&a, "GET");
    rds_arg(&a, name);
    struct redis_command c = rds_command(&a);
    (void)snprintf(what, sizeof what, "load '%s'", key);
    rc = redis_call(rs->link, op, name, true, &c, 1, &r, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    rds_check_server(rs, op);
    if (r->type == REDIS_REPLY_NIL)
        rc = not_found(key, err);
    else if (rds_is_error(r, "WRONGTYPE"))
        rc = no_string(rs, op, key, name, err);
    else if (r->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r, what, err);
    else if (r->type != REDIS_REPLY_STRING)
        rc = rds_odd(what, err);
    else
        rc = rds_value_decode(&rs->codec, key, (struct cm_span){ (const uint8_t *)r->str, r->len },
                              ret, err);
    rds_reply_free(r);
    return rc;
}

/* --------------------------------------------------------------------- stat */

/* ZREVRANGE WITHSCORES of one: when the youngest member was stored. */
static bool newest(const redisReply *r, int64_t *ret_ns)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[1]->type != REDIS_REPLY_STRING)
        return false;
    double s = strtod(r->element[1]->str, NULL);
    *ret_ns = s > 0 && s < 9e9 ? (int64_t)s * CM_NS_PER_S : 0;
    return true;
}

/* The end of the JSON did not show the facts. */
static cm_status whole(struct redis_storage *rs, const struct cm_op *op, const char *key,
                       const char *name, struct rds_facts *ret, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;

    rds_arg(&a, "GET");
    rds_arg(&a, name);
    cm_status rc = rds_ask(rs, op, name, &a, &r, err);
    if (rc != CM_OK)
        return rc;
    if (r->type == REDIS_REPLY_STRING)
        rc = rds_value_facts(key, (struct cm_span){ (const uint8_t *)r->str, r->len }, ret, err);
    else
        rc = not_found(key, err);
    rds_reply_free(r);
    return rc;
}

static cm_status stat_value(struct redis_storage *rs, const struct cm_op *op, const char *key,
                            const char *name, const redisReply *tail, struct cm_key_info *ret,
                            struct cm_err *err)
{
    struct rds_facts f;
    struct cm_span span = { (const uint8_t *)tail->str, tail->len };

    if (!rds_value_tail_facts(span, &f)) {
        cm_status rc = whole(rs, op, key, name, &f, err);

        if (rc != CM_OK)
            return rc;
    }
    *ret = (struct cm_key_info){ .modified_ns = f.modified_ns, .size = f.size, .terminal = true };
    return CM_OK;
}

cm_status rds_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                   struct cm_key_info *ret, struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    char name[RDS_NAME_MAX];
    char what[CM_STORAGE_KEY_MAX + 16];
    char from[16];
    struct rds_args tail = { .n = 0 };
    struct rds_args young = { .n = 0 };
    redisReply *r[2] = { NULL, NULL };
    int64_t modified_ns = 0;
    cm_status rc = rds_name(rs, key, name, err);

    if (rc != CM_OK)
        return rc;
    (void)snprintf(what, sizeof what, "stat '%s'", key);
    (void)snprintf(from, sizeof from, "-%u", RDS_FACTS_TAIL);
    const char *const tail_args[] = { "GETRANGE", name, from, "-1" };
    const char *const young_args[] = { "ZREVRANGE", name, "0", "0", "WITHSCORES" };
    for (size_t i = 0; i < CM_ARRAY_LEN(tail_args); i++)
        rds_arg(&tail, tail_args[i]);
    for (size_t i = 0; i < CM_ARRAY_LEN(young_args); i++)
        rds_arg(&young, young_args[i]);
    const struct redis_command c[2] = { rds_command(&tail), rds_command(&young) };
    rc = redis_call(rs->link, op, name, true, c, 2, r, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    if (r[0]->type == REDIS_REPLY_STRING && r[0]->len > 0) {
        rc = stat_value(rs, op, key, name, r[0], ret, err);
    } else if (newest(r[1], &modified_ns)) {
        *ret = (struct cm_key_info){ .modified_ns = modified_ns };
    } else if (rds_is_error(r[0], "WRONGTYPE")) {
        rc = no_string(rs, op, key, name, err);
    } else if (r[0]->type == REDIS_REPLY_ERROR) {
        rc = rds_refused(r[0], what, err);
    } else {
        rc = not_found(key, err);
    }
    rds_reply_free(r[0]);
    rds_reply_free(r[1]);
    return rc;
}

/* ------------------------------------------------------------------- remove */

static cm_status remove_step(struct redis_storage *rs, const struct cm_op *op, const char *key,
                             const char *name, bool *ret_more, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    char what[CM_STORAGE_KEY_MAX + 16];
    redisReply *r = NULL;

    rds_arg(&a, name);
    rds_arg(&a, REMOVE_STEP);
    rds_arg(&a, rs->channel);
    rds_arg(&a, key);
    (void)snprintf(what, sizeof what, "remove '%s'", key);
    cm_status rc = rds_eval_texts(rs, op, true, RDS_REMOVE, 1, &a, &r, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s", what);
    if (r->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r, what, err);
    else if (r->type != REDIS_REPLY_ARRAY || r->elements != 1 ||
             r->element[0]->type != REDIS_REPLY_STRING)
        rc = rds_odd(what, err);
    else if (strcmp(r->element[0]->str, "foreign") == 0)
        rc = cm_fail(err, CM_E_PARSE, "%s: what lies there in Redis is neither value nor directory",
                     what);
    else
        *ret_more = strcmp(r->element[0]->str, "more") == 0;
    freeReplyObject(r);
    return rc;
}

cm_status rds_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                     struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    char name[RDS_NAME_MAX];
    bool more = true;
    cm_status rc = rds_name(rs, key, name, err);

    if (rc != CM_OK)
        return rc;
    if (!rs->scripted)
        return rds_cluster_remove(rs, op, key, err);
    while (rc == CM_OK && more) {
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = remove_step(rs, op, key, name, &more, err);
    }
    return rc;
}
