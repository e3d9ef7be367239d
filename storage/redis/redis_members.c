/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* The members of one directory, in byte order. They are walked by ZSCAN: that shows each one that
 * is there all the while, however many others come and go, which pages by rank would not. But its
 * cursor counts for one process: a server that was started anew, or took over, has mixed the names
 * in another way, and would pass some over. Then all begins again. */

#define SCAN_COUNT "1000"
#define BYTES_MAX  (64u * 1024 * 1024) /* of the names in one directory */
#define SCANS_MAX  1000000u
#define STARTS_MAX 20u /* servers may change so often in one walk */

void rds_members_free(struct rds_members *m)
{
    for (size_t i = 0; i < m->n; i++)
        free(m->at[i].name);
    free(m->at);
    *m = (struct rds_members){ .n = 0 };
}

bool rds_is_component(const char *s, size_t len)
{
    if (len == 0 || len > CM_STORAGE_COMPONENT_MAX || memchr(s, '/', len) != NULL ||
        (len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.'))
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7F)
            return false;
    return true;
}

static cm_status put(struct rds_members *m, const char *dir, const redisReply *r,
                     struct cm_err *err)
{
    size_t len = r->len;
    bool directory = len > 0 && r->str[len - 1] == '/';

    if (directory)
        len--;
    if (!rds_is_component(r->str, len))
        return CM_OK;
    if (m->n == m->cap) {
        size_t cap = m->cap > 0 ? m->cap * 2 : 64;
        struct rds_member *grown = cm_realloc_array(m->at, cap, sizeof *grown);

        if (grown == NULL)
            return cm_fail_nomem(err);
        m->at = grown;
        m->cap = cap;
    }
    m->bytes += len + sizeof *m->at;
    if (m->bytes > BYTES_MAX)
        return cm_fail(err, CM_E_INTERNAL, "the directory '%s' in Redis has too many names", dir);
    m->at[m->n].name = cm_strndup(r->str, len);
    if (m->at[m->n].name == NULL)
        return cm_fail_nomem(err);
    m->at[m->n++].directory = directory;
    return CM_OK;
}

static int compare(const void *a, const void *b)
{
    const struct rds_member *x = a;
    const struct rds_member *y = b;
    int c = strcmp(x->name, y->name);

    return c != 0 ? c : (int)x->directory - (int)y->directory;
}

/* ZSCAN may show one twice. */
static void sort(struct rds_members *m)
{
    size_t kept = 0;

    if (m->n > 1)
        qsort(m->at, m->n, sizeof *m->at, compare);
    for (size_t i = 0; i < m->n; i++) {
        if (kept > 0 && compare(&m->at[kept - 1], &m->at[i]) == 0)
            free(m->at[i].name);
        else
            m->at[kept++] = m->at[i];
    }
    m->n = kept;
}

/* {cursor, {member, score, …}} */
static cm_status page(const redisReply *r, const char *dir, struct rds_members *m, char cursor[24],
                      struct cm_err *err)
{
    const redisReply *list;

    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[0]->type != REDIS_REPLY_STRING || r->element[0]->len >= 24 ||
        r->element[1]->type != REDIS_REPLY_ARRAY)
        return rds_odd("ZSCAN", err);
    memcpy(cursor, r->element[0]->str, r->element[0]->len + 1);
    list = r->element[1];
    for (size_t i = 0; i + 1 < list->elements; i += 2) {
        if (list->element[i]->type != REDIS_REPLY_STRING)
            return rds_odd("ZSCAN", err);
        cm_status rc = put(m, dir, list->element[i], err);
        if (rc != CM_OK)
            return rc;
    }
    return CM_OK;
}

/* What is no directory has no members. */
static cm_status scan(struct redis_storage *rs, const struct cm_op *op, const char *dir,
                      struct rds_members *m, char cursor[24], struct redis_whence *whence,
                      struct cm_err *err)
{
    struct rds_args a = { .n = 0 };
    redisReply *r = NULL;

    rds_arg(&a, "ZSCAN");
    rds_arg(&a, dir);
    rds_arg(&a, cursor);
    rds_arg(&a, "COUNT");
    rds_arg(&a, SCAN_COUNT);
    struct redis_command c = rds_command(&a);
    cm_status rc = redis_call_whence(rs->link, op, dir, true, &c, 1, &r, whence, err);
    if (rc != CM_OK)
        return rc;
    if (whence->changed)
        rc = CM_OK; /* another's answer to a cursor that it does not know */
    else if (rds_is_error(r, "WRONGTYPE"))
        memcpy(cursor, "0", 2);
    else if (r->type == REDIS_REPLY_ERROR)
        rc = rds_refused(r, "ZSCAN", err);
    else
        rc = page(r, dir, m, cursor, err);
    freeReplyObject(r);
    return rc;
}

cm_status rds_members(struct redis_storage *rs, const struct cm_op *op, const char *dir,
                      struct rds_members *ret, struct cm_err *err)
{
    struct redis_whence whence = { .node = 0 };
    struct rds_members m = { .n = 0 };
    char cursor[24] = "0";
    cm_status rc = CM_OK;
    unsigned starts = 1;

    for (size_t i = 0; i < SCANS_MAX && rc == CM_OK; i++) {
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = scan(rs, op, dir, &m, cursor, &whence, err);
        if (whence.changed && ++starts > STARTS_MAX)
            rc = cm_fail(err, CM_E_NET,
                         "Redis changes its server again and again while '%s' is read", dir);
        if (whence.changed) {
            rds_members_free(&m);
            whence = (struct redis_whence){ .node = 0 };
            memcpy(cursor, "0", 2);
        } else if (strcmp(cursor, "0") == 0) {
            break;
        }
    }
    if (rc != CM_OK) {
        rds_members_free(&m);
        return rc;
    }
    sort(&m);
    *ret = m;
    return CM_OK;
}
