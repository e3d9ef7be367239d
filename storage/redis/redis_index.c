/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* The peers' index by single commands, for clusters: parent and child lie on different servers, so
 * no script sees both. The order is the peers': index first, then the value; a crash in between
 * leaves a name without a value, which lists skip. */

/* Cut the last component off @name; false when there is no directory above. @ret_member: the
 * component, within @name. */
static bool up(char *name, const char **ret_member)
{
    size_t len = strlen(name);
    size_t dir = rds_dir_len(name, len);

    if (dir == 0)
        return false;
    name[dir] = '\0';
    *ret_member = name + dir + 1;
    return true;
}

static cm_status number(struct redis_storage *rs, const struct cm_op *op, const struct rds_args *a,
                        bool *ret_retried, long long *ret, struct cm_err *err)
{
    struct redis_command c = rds_command(a);
    redisReply *r = NULL;
    cm_status rc = redis_call(rs->link, op, a->argv[1], false, &c, 1, &r, err);

    if (rc == CM_E_NET && ret_retried != NULL) {
        *ret_retried = true;
        rc = redis_call(rs->link, op, a->argv[1], true, &c, 1, &r, err);
    }
    if (rc != CM_OK)
        return rc;
    if (r->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r, a->argv[0], err);
    else if (r->type != REDIS_REPLY_INTEGER)
        rc = rds_odd(a->argv[0], err);
    else
        *ret = r->integer;
    freeReplyObject(r);
    return rc;
}

static void member_text(const char *component, bool directory, char *ret)
{
    size_t len = strlen(component);

    memcpy(ret, component, len);
    if (directory)
        ret[len++] = '/';
    ret[len] = '\0';
}

/* When a reply was lost, "nothing was added" says nothing: then on to the top. */
static cm_status enter(struct redis_storage *rs, const struct cm_op *op, const char *name,
                       bool directory, struct cm_err *err)
{
    char at[RDS_NAME_MAX];
    char member[RDS_NAME_MAX];
    char score[24];
    const char *component = NULL;
    bool retried = false;

    memcpy(at, name, strlen(name) + 1);
    rds_score(rs, score);
    while (up(at, &component)) {
        struct rds_args a = { .n = 0 };
        long long added = 0;

        member_text(component, directory, member);
        rds_arg(&a, "ZADD");
        rds_arg(&a, at);
        rds_arg(&a, score);
        rds_arg(&a, member);
        cm_status rc = number(rs, op, &a, &retried, &added, err);
        if (rc != CM_OK)
            return rc;
        if (added == 0 && !retried)
            return CM_OK;
        directory = true;
    }
    return CM_OK;
}

cm_status rds_index_add(struct redis_storage *rs, const struct cm_op *op, const char *name,
                        struct cm_err *err)
{
    return enter(rs, op, name, false, err);
}

cm_status rds_index_add_directory(struct redis_storage *rs, const struct cm_op *op,
                                  const char *name, struct cm_err *err)
{
    return enter(rs, op, name, true, err);
}

static cm_status exists(struct redis_storage *rs, const struct cm_op *op, const char *name,
                        bool *ret, struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    bool retried = false;
    long long n = 0;

    rds_arg(&a, "EXISTS");
    rds_arg(&a, name);
    cm_status rc = number(rs, op, &a, &retried, &n, err);
    if (rc == CM_OK)
        *ret = n != 0;
    return rc;
}

cm_status rds_index_drop(struct redis_storage *rs, const struct cm_op *op, const char *name,
                         bool directory, struct cm_err *err)
{
    char at[RDS_NAME_MAX];
    char member[RDS_NAME_MAX];
    const char *component = NULL;
    bool there = false;

    memcpy(at, name, strlen(name) + 1);
    while (up(at, &component)) {
        struct rds_args a = { .n = 0 };
        bool retried = false;
        long long n = 0;

        member_text(component, directory, member);
        rds_arg(&a, "ZREM");
        rds_arg(&a, at);
        rds_arg(&a, member);
        cm_status rc = number(rs, op, &a, &retried, &n, err);
        if (rc == CM_E_PARSE) /* no directory: not ours to change */
            return CM_OK;
        if (rc == CM_OK)
            rc = exists(rs, op, at, &there, err);
        if (rc != CM_OK || there)
            return rc;
        directory = true;
    }
    return CM_OK;
}

cm_status rds_index_place(struct redis_storage *rs, const struct cm_op *op, const char *name,
                          const char *key, struct cm_err *err)
{
    char at[RDS_NAME_MAX];
    char type[16] = "";
    const char *component = NULL;
    cm_status rc = rds_type(rs, op, name, type, err);

    if (rc != CM_OK)
        return rc;
    if (strcmp(type, "none") != 0 && strcmp(type, "string") != 0)
        return rds_in_the_way(rs, key, name, err);
    memcpy(at, name, strlen(name) + 1);
    while (up(at, &component)) {
        rc = rds_type(rs, op, at, type, err);
        if (rc != CM_OK)
            return rc;
        if (strcmp(type, "none") != 0 && strcmp(type, "zset") != 0)
            return rds_in_the_way(rs, key, at, err);
    }
    return CM_OK;
}
