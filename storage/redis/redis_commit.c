/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <stdio.h>
#include <string.h>

/* Changes of values: all of one call are one script, so that nobody ever sees half of them, and the
 * lock is looked at in the same step that writes.
 *
 * A connection may break after the script was sent. Then nobody knows whether it ran; so what lies
 * there is compared with what was to be written (the time in it, and a nonce, make each writing
 * different from every other) before it is sent again. */

#define TRIES 3u

/* One change, ready to be sent. */
struct change {
    size_t n;
    const struct cm_commit_item *items;
    const struct cm_grant *grant;
    struct cm_buf *encoded; /* n */
    char (*names)[RDS_NAME_MAX];
    char lock[RDS_NAME_MAX];
    char head[80];
};

static void change_free(struct change *c)
{
    for (size_t i = 0; c->encoded != NULL && i < c->n; i++)
        cm_buf_free(&c->encoded[i]);
    free(c->encoded);
    free(c->names);
}

static cm_status change_make(const struct redis_storage *rs, const struct cm_grant *grant,
                             const struct cm_commit_item *items, size_t n, struct change *c,
                             struct cm_err *err)
{
    int64_t now_ns = rs->env->wall_ns(rs->env);
    cm_status rc = CM_OK;

    *c = (struct change){ .n = n, .items = items, .grant = grant };
    c->encoded = cm_calloc(n, sizeof *c->encoded);
    c->names = cm_calloc(n, sizeof *c->names);
    if (c->encoded == NULL || c->names == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        c->encoded[i] = (struct cm_buf)CM_BUF_SECRET(RDS_STORED_MAX);
        rc = rds_name(rs, items[i].key, c->names[i], err);
        if (rc == CM_OK && !items[i].remove)
            rc = rds_value_encode(&rs->codec, items[i].value, now_ns, &c->encoded[i], err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "store '%s'", items[i].key);
    }
    if (grant != NULL) {
        rds_grant_head(grant, c->head);
        rc = rds_lock_name(rs, grant->name, c->lock, err);
    }
    return rc;
}

/* Does everything lie there as it was to be? */
static cm_status look(struct redis_storage *rs, const struct cm_op *op, const struct change *c,
                      bool *ret, struct cm_err *err)
{
    bool same = true;

    for (size_t i = 0; i < c->n && same; i++) {
        struct rds_args a = { .n = 0 };
        redisReply *r = NULL;

        rds_arg(&a, "GET");
        rds_arg(&a, c->names[i]);
        cm_status rc = rds_ask(rs, op, c->names[i], &a, &r, err);
        if (rc != CM_OK)
            return rc;
        if (c->items[i].remove)
            same = r->type == REDIS_REPLY_NIL;
        else
            same = r->type == REDIS_REPLY_STRING && r->len == c->encoded[i].len &&
                   memcmp(r->str, c->encoded[i].data, r->len) == 0;
        rds_reply_free(r);
    }
    *ret = same;
    return CM_OK;
}

static cm_status send(struct redis_storage *rs, const struct cm_op *op, const struct change *c,
                      redisReply **ret, struct cm_err *err)
{
    size_t n_keys = c->n + (c->grant != NULL ? 1 : 0);
    size_t total = n_keys + 3 + 3 * c->n;
    CM_AUTO_FREE const char **argv = cm_calloc(total, sizeof *argv);
    CM_AUTO_FREE size_t *len = cm_calloc(total, sizeof *len);
    struct rds_call call = { RDS_COMMIT, n_keys, total, argv, len };
    char score[24];
    size_t at = 0;

    if (argv == NULL || len == NULL)
        return cm_fail_nomem(err);
    rds_score(rs, score);
    for (size_t i = 0; i < c->n; i++)
        argv[at++] = c->names[i];
    if (c->grant != NULL)
        argv[at++] = c->lock;
    argv[at++] = c->head;
    argv[at++] = score;
    argv[at++] = rs->channel;
    for (size_t i = 0; i < c->n; i++) {
        argv[at++] = c->items[i].remove ? "d" : "s";
        argv[at++] = c->items[i].key;
        argv[at++] = cm_buf_str(&c->encoded[i]);
    }
    for (size_t i = 0; i < total; i++)
        len[i] = strlen(argv[i]); /* JSON has no NUL */
    return rds_eval(rs, op, false, &call, ret, err);
}

/* {'ok'}, {'lost'} or {'exists', number of the item from 1, name in the way} */
static cm_status answer(const struct redis_storage *rs, const struct change *c, const redisReply *r,
                        struct cm_err *err)
{
    char what[CM_STORAGE_KEY_MAX + 16];
    size_t item = 0;

    (void)snprintf(what, sizeof what, "store '%s'", c->items[0].key);
    if (r->type == REDIS_REPLY_ERROR)
        return rds_refused(r, what, err);
    if (r->type != REDIS_REPLY_ARRAY || r->elements == 0 ||
        r->element[0]->type != REDIS_REPLY_STRING)
        return rds_odd(what, err);
    if (strcmp(r->element[0]->str, "ok") == 0)
        return CM_OK;
    if (c->grant != NULL && strcmp(r->element[0]->str, "lost") == 0)
        return rds_lost(c->grant, err);
    if (r->elements == 3 && r->element[1]->type == REDIS_REPLY_STRING &&
        r->element[2]->type == REDIS_REPLY_STRING)
        item = strtoul(r->element[1]->str, NULL, 10);
    if (item == 0 || item > c->n)
        return rds_odd(what, err);
    return rds_in_the_way(rs, c->items[item - 1].key, r->element[2]->str, err);
}

static cm_status apply(struct redis_storage *rs, const struct cm_op *op, const struct change *c,
                       struct cm_err *err)
{
    for (unsigned try = 1;; try++) {
        redisReply *r = NULL;
        bool done = false;
        cm_status rc = send(rs, op, c, &r, err);

        if (rc == CM_OK)
            rc = answer(rs, c, r, err);
        rds_reply_free(r);
        if (rc == CM_OK)
            return rc;
        /* Lost: to another, or did it run the first time, and the lease ended since? */
        if (rc != CM_E_NET && (rc != CM_E_LOCK_LOST || try == 1))
            return rc;
        if (look(rs, op, c, &done, NULL) == CM_OK && done)
            return CM_OK;
        if (rc != CM_E_NET || try == TRIES || cm_op_check(op, NULL) != CM_OK)
            return rc;
    }
}

cm_status rds_commit(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                     const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    struct redis_storage *rs = rds_of(st);
    struct change c;
    cm_status rc = change_make(rs, grant, items, n, &c, err);

    if (rc == CM_OK)
        rc = rs->scripted ? apply(rs, op, &c, err)
                          : rds_cluster_commit(rs, op, grant, items, c.encoded, n, err);
    if (rc == CM_OK)
        rds_check_server(rs, op);
    change_free(&c);
    return rc;
}

cm_status rds_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_span value, struct cm_err *err)
{
    struct cm_commit_item item = { .key = key, .value = value };

    return rds_commit(st, op, NULL, &item, 1, err);
}
