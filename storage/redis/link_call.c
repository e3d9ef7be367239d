/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <stdio.h>
#include <string.h>

/* One call: commands to a server, replies back; and what to do when this server is not the one, or
 * not now. */

#define PATIENCE_NS   (30 * CM_NS_PER_S) /* with servers that are not ready, at most */
#define PAUSE_MIN_NS  (40 * CM_NS_PER_MS)
#define PAUSE_MAX_NS  CM_NS_PER_S
#define RESENDS_MAX   2u
#define REDIRECTS_MAX 5u

struct call {
    struct redis_link *l;
    const struct cm_op *op;
    const char *route;
    bool again;
    struct cm_buf out;
    size_t *at; /* where in out each command begins; one more for the end */
    size_t n;
    redisReply **replies;
    size_t done;                /* replies that are final */
    struct redis_node *sent_to; /* where a node of the cluster sent us; with a reference */
    bool asking;                /* only for this once: the slot is on its way there */
    unsigned failures, resends, pauses, redirects;
    struct redis_whence served; /* by which node, ... */
    uint64_t connection;        /* ... on which connection */
    char waited_for[200];       /* the last reason to pause; "" = none yet */
};

/* What a reply says of its server. */
enum verdict { SERVED, NOT_NOW, NOT_HERE, NOT_ALLOWED, ELSEWHERE };

static enum verdict judge(const redisReply *r)
{
    static const struct {
        const char *code;
        enum verdict verdict;
    } codes[] = {
        { "LOADING", NOT_NOW },    { "BUSY", NOT_NOW },        { "MASTERDOWN", NOT_NOW },
        { "TRYAGAIN", NOT_NOW },   { "CLUSTERDOWN", NOT_NOW }, { "READONLY", NOT_HERE },
        { "NOAUTH", NOT_ALLOWED }, { "MOVED", ELSEWHERE },     { "ASK", ELSEWHERE },
    };

    if (r->type != REDIS_REPLY_ERROR)
        return SERVED;
    for (size_t i = 0; i < CM_ARRAY_LEN(codes); i++)
        if (redis_is_error(r, codes[i].code))
            return codes[i].verdict;
    /* Before Redis 7 a script wraps what its commands said. */
    if (strstr(r->str, "-READONLY ") != NULL)
        return NOT_HERE;
    return SERVED;
}

/* The first reply that is none; NULL if all are. */
static const redisReply *first_refusal(const struct call *c)
{
    for (size_t i = c->done; i < c->n; i++)
        if (judge(c->replies[i]) != SERVED)
            return c->replies[i];
    return NULL;
}

/* Some commands were refused. Drop what has to be asked for once more. Those before the first one
 * refused need not be, if all after it were refused, too; else only if they may be repeated. */
static cm_status drop_refused(struct call *c, const char *name, struct cm_err *err)
{
    size_t first = c->done;
    size_t last_served = c->done;

    while (judge(c->replies[first]) == SERVED)
        first++;
    for (size_t i = c->done; i < c->n; i++)
        if (judge(c->replies[i]) == SERVED)
            last_served = i;
    if (c->again)
        first = c->done;
    else if (last_served > first)
        return cm_fail(err, CM_E_NET, "Redis at %s carried out some commands and refused others",
                       name);
    c->done = first;
    redis_free_replies(c->replies + first, c->n - first);
    return CM_OK;
}

/* ---- waiting */

/* Growing pauses with jitter, so that a fleet does not come back in step. */
static cm_status pause_for(struct call *c, const struct cm_err *why, struct cm_err *err)
{
    int64_t ns = PAUSE_MIN_NS << (c->pauses < 6 ? c->pauses : 6);
    struct cm_err end = CM_ERR_INIT;
    cm_status rc;

    if (ns > PAUSE_MAX_NS)
        ns = PAUSE_MAX_NS;
    ns = ns / 2 + (int64_t)cm_random_below(c->l->env, (uint64_t)ns / 2 + 1);
    c->pauses++;
    (void)snprintf(c->waited_for, sizeof c->waited_for, "%.199s", why->msg);
    rc = cm_op_wait(c->op, ns, &end);
    if (rc == CM_OK)
        return CM_OK;
    if (rc == CM_E_TIMEOUT)
        return cm_fail(err, rc, "%s; waited for it in vain", why->msg);
    if (err != NULL)
        *err = end;
    return rc;
}

/* ---- one attempt */

/* ASKING holds for the next command only, so each gets one; their replies are dropped. */
static cm_status exchange_asking(struct call *c, struct redis_conn *conn, const struct cm_op *op,
                                 bool *ret_sent, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_SECRET(REDIS_CALL_MAX);
    size_t n = c->n - c->done;
    redisReply **all = cm_calloc(n, 2 * sizeof *all);
    cm_status rc = all != NULL ? CM_OK : cm_fail_nomem(err);

    for (size_t i = c->done; i < c->n && rc == CM_OK; i++) {
        rc = redis_put_words(&out, err, "ASKING", NULL);
        if (rc == CM_OK)
            rc = cm_buf_append(&out, c->out.data + c->at[i], c->at[i + 1] - c->at[i], err);
    }
    if (rc == CM_OK)
        rc = redis_conn_exchange(conn, op, cm_buf_span(&out), 2 * n, all, ret_sent, err);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        c->replies[c->done + i] = all[2 * i + 1];
        freeReplyObject(all[2 * i]);
    }
    free(all);
    return rc;
}

static cm_status attempt(struct call *c, struct redis_node *node, bool *ret_sent,
                         struct cm_err *err)
{
    struct redis_conn *conn = NULL;
    struct cm_op op;
    cm_status rc = redis_node_take(c->l, node, c->op, &conn, err);

    *ret_sent = false;
    if (rc != CM_OK)
        return rc;
    op = cm_op_within(c->op, c->l->o->timeout_ns);
    if (c->asking) {
        rc = exchange_asking(c, conn, &op, ret_sent, err);
    } else {
        struct cm_span out = { c->out.data + c->at[c->done], c->at[c->n] - c->at[c->done] };

        rc = redis_conn_exchange(conn, &op, out, c->n - c->done, c->replies + c->done, ret_sent,
                                 err);
    }
    c->served = (struct redis_whence){ conn->node->number, conn->opened, false };
    c->connection = conn->number;
    redis_node_give(c->l, conn, rc == CM_OK && conn->in.len == 0);
    return rc;
}

/* No replies came. CM_OK: try once more. */
static cm_status after_failure(struct call *c, cm_status rc, bool sent, struct cm_err *why,
                               struct cm_err *err)
{
    bool single = c->l->o->topology == REDIS_SINGLE;

    if (sent && !c->again && rc != CM_E_CANCELED)
        (void)cm_wrap(why, rc, "sent, but it is not known whether it was carried out");
    if (err != NULL)
        *err = *why;
    if ((rc != CM_E_NET && rc != CM_E_AGAIN && rc != CM_E_TIMEOUT) ||
        cm_op_check(c->op, NULL) != CM_OK)
        return rc;
    if (sent && (!c->again || rc == CM_E_TIMEOUT || c->resends++ >= RESENDS_MAX))
        return rc;
    c->failures++;
    if (single && rc != CM_E_AGAIN && c->failures > c->l->o->n_addresses)
        return rc;
    /* A connection that was idle for long may well be gone: that says nothing of the server. */
    if (sent && c->failures == 1)
        return CM_OK;
    return pause_for(c, why, err);
}

/* @refusal sends us to another node. */
static cm_status follow(struct call *c, struct redis_node *node, const redisReply *refusal,
                        const struct cm_err *why, struct cm_err *err)
{
    if (c->l->o->topology != REDIS_CLUSTER)
        return cm_fail(err, CM_E_INVAL, "%s; it belongs to a cluster: write redis+cluster://",
                       why->msg);
    if (c->redirects++ == REDIRECTS_MAX)
        return cm_fail(err, CM_E_NET, "%s; redirected %u times already", why->msg, REDIRECTS_MAX);
    c->asking = redis_is_error(refusal, "ASK");
    if (!c->asking)
        redis_cluster_forget(c->l, false);
    return redis_cluster_redirect(c->l, node, refusal->str, &c->sent_to, err);
}

/* The server refused; what to do about that. CM_OK: try once more. */
static cm_status after_refusal(struct call *c, struct redis_node *node, const redisReply *refusal,
                               struct cm_err *err)
{
    enum verdict verdict = judge(refusal);
    struct cm_err why = CM_ERR_INIT;
    char shown[200];
    cm_status rc;

    (void)cm_fail(&why, CM_E_AGAIN, "Redis at %s: %s", node->name,
                  redis_shown(refusal, shown, sizeof shown));
    rc = verdict == ELSEWHERE ? follow(c, node, refusal, &why, err) : CM_OK;
    if (rc == CM_OK)
        rc = drop_refused(c, node->name, err);
    if (rc != CM_OK || verdict == ELSEWHERE)
        return rc;
    if (verdict != NOT_NOW)
        redis_route_failed(c->l, node);
    if (c->l->o->topology == REDIS_CLUSTER)
        redis_cluster_forget(c->l, false);
    /* While the keys of a script are on their way from one node to another, each ASK of the one
     * ends at TRYAGAIN of the other: waiting for that has its own end. */
    c->redirects = 0;
    if (verdict == NOT_ALLOWED)
        return cm_fail(err, CM_E_PERM, "%s; name a password with 'password_file' or in the URL",
                       why.msg);
    return pause_for(c, &why, err);
}

/* Replies came. CM_OK with *ret_done false: try once more. */
static cm_status after_replies(struct call *c, struct redis_node *node, bool *ret_done,
                               struct cm_err *err)
{
    const redisReply *refusal = first_refusal(c);

    *ret_done = refusal == NULL;
    return refusal == NULL ? CM_OK : after_refusal(c, node, refusal, err);
}

/* Is a failure with @rc a reason to ask another server, or this one's connections anew? That a
 * lone server was slow is none. */
static bool speaks_against(const struct redis_link *l, cm_status rc)
{
    if (rc == CM_E_TIMEOUT)
        return l->o->topology != REDIS_SINGLE || l->o->n_addresses > 1;
    return rc != CM_E_CANCELED && rc != CM_E_NOMEM && rc != CM_E_LIMIT;
}

static cm_status find_node(struct call *c, struct redis_node **ret, struct cm_err *err)
{
    if (c->sent_to == NULL) {
        c->asking = false;
        return redis_route_find(c->l, c->op, c->route, ret, err);
    }
    *ret = c->sent_to;
    c->sent_to = NULL;
    return CM_OK;
}

static cm_status run(struct call *c, struct cm_err *err)
{
    for (;;) {
        struct cm_err why = CM_ERR_INIT;
        struct redis_node *node = NULL;
        bool sent = false;
        bool done = false;
        cm_status rc = find_node(c, &node, &why);

        if (rc == CM_OK)
            rc = attempt(c, node, &sent, &why);
        if (rc == CM_OK) {
            rc = after_replies(c, node, &done, err);
        } else {
            if (node != NULL && speaks_against(c->l, rc))
                redis_route_failed(c->l, node);
            rc = after_failure(c, rc, sent, &why, err);
        }
        redis_node_put(c->l, node);
        if (rc != CM_OK || done)
            return rc;
    }
}

/* ---- the whole */

static cm_status format(struct call *c, const struct redis_command *commands, struct cm_err *err)
{
    c->at = cm_calloc(c->n + 1, sizeof *c->at);
    if (c->at == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < c->n; i++) {
        cm_status rc = redis_put_command(&c->out, &commands[i], err);

        if (rc != CM_OK)
            return rc;
        c->at[i + 1] = c->out.len;
    }
    return CM_OK;
}

/* A connection that was there before the first call was sent, and still works, leads to the same
 * process: a server's connections end with it. */
static void tell_whence(const struct call *c, struct redis_whence *whence)
{
    if (whence->node == 0)
        *whence = c->served;
    else
        whence->changed = c->served.node != whence->node || c->connection > whence->opened;
}

cm_status redis_call(struct redis_link *l, const struct cm_op *op, const char *route, bool again,
                     const struct redis_command *commands, size_t n, redisReply **replies,
                     struct cm_err *err)
{
    return redis_call_whence(l, op, route, again, commands, n, replies, NULL, err);
}

cm_status redis_call_whence(struct redis_link *l, const struct cm_op *op, const char *route,
                            bool again, const struct redis_command *commands, size_t n,
                            redisReply **replies, struct redis_whence *whence, struct cm_err *err)
{
    const struct cm_op bounded = cm_op_within(op, PATIENCE_NS);
    struct call c = { .l = l, .op = &bounded, .route = route, .again = again, .n = n };
    cm_status rc = redis_check_owner(l, err);

    if (rc == CM_OK)
        rc = cm_op_check(c.op, err);
    if (rc != CM_OK)
        return rc;
    c.replies = replies;
    memset(replies, 0, n * sizeof(redisReply *));
    c.out = (struct cm_buf)CM_BUF_SECRET(REDIS_CALL_MAX);
    rc = format(&c, commands, err);
    if (rc == CM_OK)
        rc = run(&c, err);
    if (rc != CM_OK)
        redis_free_replies(replies, n);
    else if (whence != NULL)
        tell_whence(&c, whence);
    if (rc == CM_E_AGAIN)
        rc = cm_wrap(err, CM_E_NET, "no answer");
    /* The time may be up while the server is asked once more, and that says little. */
    if (rc == CM_E_TIMEOUT && err != NULL && c.waited_for[0] != '\0' &&
        strstr(err->msg, c.waited_for) == NULL)
        (void)cm_wrap(err, rc, "after '%s'", c.waited_for);
    if (rc == CM_E_NET && err != NULL)
        err->status = CM_E_NET;
    redis_node_put(l, c.sent_to);
    cm_buf_free(&c.out);
    free(c.at);
    return rc;
}
