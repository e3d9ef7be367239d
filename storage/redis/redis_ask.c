/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* Short commands, and what the server's refusals mean. */

void rds_arg(struct rds_args *a, const char *text)
{
    CM_ASSERT(a->n < RDS_ARGS_MAX);
    a->argv[a->n] = text;
    a->len[a->n] = strlen(text);
    a->n++;
}

struct redis_command rds_command(const struct rds_args *a)
{
    return (struct redis_command){ a->n, a->argv, a->len };
}

bool rds_is_error(const redisReply *r, const char *code)
{
    size_t n = strlen(code);

    return r != NULL && r->type == REDIS_REPLY_ERROR && r->len > n &&
           memcmp(r->str, code, n) == 0 && r->str[n] == ' ';
}

/* Servers before 7 put what a command in a script said behind words of their own. */
static bool mentions(const redisReply *r, const char *code)
{
    return memmem(r->str, r->len, code, strlen(code)) != NULL;
}

cm_status rds_refused(const redisReply *r, const char *what, struct cm_err *err)
{
    char text[RDS_ERROR_SHOWN];

    (void)cm_escape(r->str, r->len, text, sizeof text);
    if (mentions(r, "NOPERM") || mentions(r, "can't run this command") ||
        mentions(r, "can't access at least one of the keys"))
        return cm_fail(err, CM_E_PERM, "%s: the Redis user lacks a permission: %s", what, text);
    if (mentions(r, "OOM "))
        return cm_fail(err, CM_E_IO, "%s: Redis has used up its memory (maxmemory): %s", what,
                       text);
    if (mentions(r, "MISCONF"))
        return cm_fail(err, CM_E_IO, "%s: Redis cannot write to its disk: %s", what, text);
    if (mentions(r, "NOREPLICAS"))
        return cm_fail(err, CM_E_IO, "%s: Redis has too few replicas to take writes: %s", what,
                       text);
    if (mentions(r, "WRONGTYPE"))
        return cm_fail(err, CM_E_PARSE, "%s: what lies there in Redis is of another kind: %s", what,
                       text);
    return cm_fail(err, CM_E_IO, "%s: Redis refuses: %s", what, text);
}

cm_status rds_odd(const char *what, struct cm_err *err)
{
    return cm_fail(err, CM_E_PARSE, "%s: the reply of Redis makes no sense", what);
}

cm_status rds_ask(struct redis_storage *rs, const struct cm_op *op, const char *route,
                  const struct rds_args *a, redisReply **ret, struct cm_err *err)
{
    struct redis_command c = rds_command(a);
    redisReply *reply = NULL;
    cm_status rc = redis_call(rs->link, op, route, true, &c, 1, &reply, err);

    if (rc != CM_OK)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR) {
        rc = rds_refused(reply, a->argv[0], err);
        freeReplyObject(reply);
        return rc;
    }
    *ret = reply;
    return CM_OK;
}

static void wipe(redisReply *r)
{
    if (r->type == REDIS_REPLY_STRING && r->str != NULL)
        cm_wipe(r->str, r->len);
    if (r->type == REDIS_REPLY_ARRAY)
        for (size_t i = 0; i < r->elements; i++)
            if (r->element[i] != NULL)
                wipe(r->element[i]);
}

void rds_reply_free(redisReply *r)
{
    if (r == NULL)
        return;
    wipe(r);
    freeReplyObject(r);
}

void rds_publish(struct redis_storage *rs, const struct cm_op *op, const char *kind,
                 const char *what)
{
    CM_AUTO_FREE char *text = cm_asprintf("%s %s", kind, what);
    struct rds_args a = { .n = 0 };
    redisReply *reply = NULL;

    if (text == NULL)
        return;
    rds_arg(&a, "PUBLISH");
    rds_arg(&a, rs->channel);
    rds_arg(&a, text);
    if (rds_ask(rs, op, rs->channel, &a, &reply, NULL) == CM_OK)
        freeReplyObject(reply);
}
