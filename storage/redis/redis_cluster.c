/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>

/* Changes in a cluster whose names lie in many slots. Nothing there sees the lock and a value at
 * once, so a commit is guarded in two places: the lock is looked at and extended before anything is
 * written, and beside each value, in its slot, the fence of its last writer is kept, which refuses
 * who comes with an older one. What is weaker than on one server: readers may see some of the
 * values of a commit and not yet the others, also for good when its writer dies; and a holder that
 * is stopped between look and write, for longer than the lease, can still write a value that its
 * successor has not come to yet. */

#define FENCE_KEPT_MS "604800000" /* a week: no holder is stopped for longer and goes on */
#define TRIES         3u

static cm_status word(const redisReply *r, const struct cm_grant *grant, const char *what,
                      struct cm_err *err)
{
    if (r->type == REDIS_REPLY_ERROR)
        return rds_refused(r, what, err);
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 1 ||
        r->element[0]->type != REDIS_REPLY_STRING)
        return rds_odd(what, err);
    return strcmp(r->element[0]->str, "ok") == 0 ? CM_OK : rds_lost(grant, err);
}

/* Set (@value not NULL) or delete what is at @name, if no later holder of the lock has. The same
 * again changes nothing, so a lost reply costs no more than that. */
static cm_status write_fenced(struct redis_storage *rs, const struct cm_op *op,
                              const struct cm_grant *grant, const char *name, const char *fence_at,
                              const char *value, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    char fence[24];

    (void)snprintf(fence, sizeof fence, "%llu", (unsigned long long)grant->fence);
    rds_arg(&a, name);
    rds_arg(&a, fence_at);
    rds_arg(&a, fence);
    rds_arg(&a, grant->name);
    rds_arg(&a, FENCE_KEPT_MS);
    if (value != NULL)
        rds_arg(&a, value);
    cm_status rc = rds_eval_texts(rs, op, true, value != NULL ? RDS_PUT_FENCED : RDS_DEL_FENCED, 2,
                                  &a, &r, err);
    if (rc == CM_OK)
        rc = word(r, grant, name, err);
    rds_reply_free(r);
    return rc;
}

static cm_status write_plain(struct redis_storage *rs, const struct cm_op *op, const char *name,
                             const char *value, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;

    rds_arg(&a, value != NULL ? "SET" : "DEL");
    rds_arg(&a, name);
    if (value != NULL)
        rds_arg(&a, value);
    cm_status rc = rds_ask(rs, op, name, &a, &r, err);
    if (rc == CM_OK)
        freeReplyObject(r);
    return rc;
}

static cm_status write_one(struct redis_storage *rs, const struct cm_op *op,
                           const struct cm_grant *grant, const char *name, const char *value,
                           struct cm_err *err)
{
    char fence_at[RDS_NAME_MAX];

    if (grant != NULL && rds_side_name(rs, 'v', name, fence_at))
        return write_fenced(rs, op, grant, name, fence_at, value, err);
    return write_plain(rs, op, name, value, err);
}

static cm_status apply_one(struct redis_storage *rs, const struct cm_op *op,
                           const struct cm_grant *grant, const struct cm_commit_item *item,
                           const struct cm_buf *encoded, struct cm_err *err)
{
    char name[RDS_NAME_MAX];
    char type[16] = "";
    cm_status rc = rds_name(rs, item->key, name, err);

    if (rc != CM_OK)
        return rc;
    if (!item->remove) {
        rc = rds_index_add(rs, op, name, err);
        return rc == CM_OK ? write_one(rs, op, grant, name, cm_buf_str(encoded), err) : rc;
    }
    rc = rds_type(rs, op, name, type, err);
    if (rc != CM_OK || (strcmp(type, "string") != 0 && strcmp(type, "none") != 0))
        return rc;
    rc = rds_index_drop(rs, op, name, false, err);
    return rc == CM_OK ? write_one(rs, op, grant, name, NULL, err) : rc;
}

/* Two items of one commit, one below the other, cannot both be. */
static cm_status check_among(const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            size_t len = strlen(items[j].key);

            if (i != j && !items[i].remove && !items[j].remove &&
                strncmp(items[i].key, items[j].key, len) == 0 && items[i].key[len] == '/')
                return cm_fail(err, CM_E_EXISTS, "cannot store '%s': '%s' is a value", items[i].key,
                               items[j].key);
        }
    return CM_OK;
}

cm_status rds_cluster_commit(struct redis_storage *rs, const struct cm_op *op,
                             const struct cm_grant *grant, const struct cm_commit_item *items,
                             const struct cm_buf *encoded, size_t n, struct cm_err *err)
{
    char name[RDS_NAME_MAX];
    cm_status rc = check_among(items, n, err);

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        if (items[i].remove)
            continue;
        rc = rds_name(rs, items[i].key, name, err);
        if (rc == CM_OK)
            rc = rds_index_place(rs, op, name, items[i].key, err);
    }
    if (rc == CM_OK && grant != NULL) {
        struct cm_grant copy = *grant; /* refresh changes nothing in it */

        rc = rds_refresh(&rs->base, op, &copy, err);
    }
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        rc = apply_one(rs, op, grant, &items[i], &encoded[i], err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "store '%s' (%zu of %zu were stored)", items[i].key, i, n);
    }
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rds_publish(rs, op, "v", items[i].key);
    return rc;
}

/* ------------------------------------------------------------------- remove */

static cm_status clear(struct redis_storage *rs, const struct cm_op *op, const char *dir,
                       struct cm_err *err);

static cm_status clear_member(struct redis_storage *rs, const struct cm_op *op, const char *dir,
                              const struct rds_member *m, struct cm_err *err)
{
    CM_AUTO_FREE char *name = cm_asprintf("%s/%s", dir, m->name);
    CM_AUTO_FREE char *member = cm_asprintf("%s%s", m->name, m->directory ? "/" : "");
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;
    cm_status rc;

    if (name == NULL || member == NULL)
        return cm_fail_nomem(err);
    rc = m->directory ? clear(rs, op, name, err) : write_plain(rs, op, name, NULL, err);
    if (rc != CM_OK)
        return rc;
    rds_arg(&a, "ZREM");
    rds_arg(&a, dir);
    rds_arg(&a, member);
    rc = rds_ask(rs, op, dir, &a, &r, err);
    if (rc == CM_OK)
        freeReplyObject(r);
    return rc;
}

/* From below; as deep as a name has components. */
static cm_status clear(struct redis_storage *rs, const struct cm_op *op, const char *dir,
                       struct cm_err *err)
{
    struct rds_members m = { .n = 0 };
    cm_status rc = rds_members(rs, op, dir, &m, err);

    for (size_t i = 0; i < m.n && rc == CM_OK; i++) {
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = clear_member(rs, op, dir, &m.at[i], err);
    }
    rds_members_free(&m);
    return rc;
}

cm_status rds_cluster_remove(struct redis_storage *rs, const struct cm_op *op, const char *key,
                             struct cm_err *err)
{
    char name[RDS_NAME_MAX];
    char type[16] = "";
    cm_status rc = rds_name(rs, key, name, err);

    if (rc == CM_OK)
        rc = rds_type(rs, op, name, type, err);
    if (rc != CM_OK)
        return rc;
    bool was = strcmp(type, "none") != 0;
    if (strcmp(type, "zset") == 0) {
        rc = clear(rs, op, name, err);
        for (unsigned i = 0; i < TRIES && rc == CM_OK && strcmp(type, "zset") == 0; i++) {
            rc = rds_type(rs, op, name, type, err);
            if (rc == CM_OK && strcmp(type, "zset") == 0)
                rc = clear(rs, op, name, err); /* somebody stored into it meanwhile */
        }
        if (rc == CM_OK && strcmp(type, "zset") != 0)
            rc = rds_index_drop(rs, op, name, true, err);
    } else if (strcmp(type, "string") == 0 || strcmp(type, "none") == 0) {
        rc = rds_index_drop(rs, op, name, false, err);
        if (rc == CM_OK)
            rc = write_plain(rs, op, name, NULL, err);
    } else {
        rc = cm_fail(err, CM_E_PARSE, "remove '%s': what lies there in Redis is a %s", key, type);
    }
    if (rc == CM_OK && was)
        rds_publish(rs, op, "v", key);
    return rc;
}
