/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

/* All names of a kind, on all masters. A cursor belongs to one server: so this goes to each of them
 * by itself, past the way that other calls take, and when one fails, or slots have moved from where
 * it was to where it has been already, it begins anew. */

#define COUNT    "500"
#define TRIES    5
#define PAUSE_NS CM_NS_PER_S
#define STEPS                                                                                      \
    10000000u /* pages of one server: no cursor runs longer, unless it runs in circles             \
               */

struct scan {
    struct redis_link *l;
    const struct cm_op *op;
    const char *match;
    redis_scan_fn each;
    void *user;
    bool stopped; /* by @each */
};

static cm_status ask(const struct scan *s, struct redis_node *node, const char *cursor,
                     redisReply **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(64u * 1024);
    struct cm_op within = cm_op_within(s->op, s->l->o->timeout_ns);
    struct redis_conn *c = NULL;
    bool sent;
    cm_status rc =
        redis_put_words(&out, err, "SCAN", cursor, "MATCH", s->match, "COUNT", COUNT, NULL);

    if (rc == CM_OK)
        rc = redis_node_take(s->l, node, &within, &c, err);
    if (rc != CM_OK)
        return rc;
    rc = redis_conn_exchange(c, &within, cm_buf_span(&out), 1, ret, &sent, err);
    redis_node_give(s->l, c, rc == CM_OK && c->in.len == 0);
    return rc;
}

static cm_status judge(const struct redis_node *node, const redisReply *r, struct cm_err *err)
{
    char shown[160];

    if (redis_is_error(r, "NOPERM") || redis_is_error(r, "NOAUTH"))
        return cm_fail(err, CM_E_PERM, "Redis at %s: %s; the ACL of this user needs +scan",
                       node->name, redis_shown(r, shown, sizeof shown));
    if (r->type == REDIS_REPLY_ERROR)
        return cm_fail(err, CM_E_AGAIN, "Redis at %s: SCAN: %s", node->name,
                       redis_shown(r, shown, sizeof shown));
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[0]->type != REDIS_REPLY_STRING || r->element[0]->len >= 24 ||
        r->element[1]->type != REDIS_REPLY_ARRAY)
        return cm_fail(err, CM_E_PARSE, "Redis at %s: SCAN gives no page of names", node->name);
    for (size_t i = 0; i < r->element[1]->elements; i++)
        if (r->element[1]->element[i]->type != REDIS_REPLY_STRING)
            return cm_fail(err, CM_E_PARSE, "Redis at %s: SCAN gives a name that is none",
                           node->name);
    return CM_OK;
}

static cm_status scan_node(struct scan *s, struct redis_node *node, struct cm_err *err)
{
    char cursor[24] = "0";

    for (unsigned i = 0; i < STEPS; i++) {
        redisReply *r = NULL;
        cm_status rc = cm_op_check(s->op, err);

        if (rc == CM_OK)
            rc = ask(s, node, cursor, &r, err);
        if (rc != CM_OK)
            return rc;
        rc = judge(node, r, err);
        if (rc == CM_OK) {
            memcpy(cursor, r->element[0]->str, r->element[0]->len + 1);
            rc = s->each(s->user, r->element[1], err);
            s->stopped = rc != CM_OK;
        }
        freeReplyObject(r);
        if (rc != CM_OK || strcmp(cursor, "0") == 0)
            return rc;
    }
    return cm_fail(err, CM_E_PARSE, "Redis at %s: SCAN does not end", node->name);
}

/* The masters, each with a reference. Of a lone server there is nothing to compare. */
static cm_status masters(struct scan *s, struct redis_node ***ret, size_t *ret_n,
                         uint64_t *ret_owners, struct cm_err *err)
{
    struct redis_node **one;
    cm_status rc;

    if (s->l->o->topology == REDIS_CLUSTER)
        return redis_cluster_nodes(s->l, s->op, ret, ret_n, ret_owners, err);
    one = cm_calloc(1, sizeof(struct redis_node *));
    if (one == NULL)
        return cm_fail_nomem(err);
    rc = redis_route_find(s->l, s->op, NULL, &one[0], err);
    if (rc != CM_OK) {
        free(one);
        return rc;
    }
    *ret = one;
    *ret_n = 1;
    *ret_owners = 0;
    return CM_OK;
}

static void put_all(struct redis_link *l, struct redis_node **nodes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        redis_node_put(l, nodes[i]);
    free(nodes);
}

static cm_status scan_all(struct scan *s, struct cm_err *err)
{
    struct redis_node **nodes = NULL;
    uint64_t before = 0;
    uint64_t after = 0;
    size_t n = 0;
    cm_status rc = masters(s, &nodes, &n, &before, err);

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        rc = scan_node(s, nodes[i], err);
        if (rc != CM_OK && !s->stopped)
            redis_route_failed(s->l, nodes[i]);
    }
    put_all(s->l, nodes, n);
    if (rc != CM_OK || s->l->o->topology != REDIS_CLUSTER)
        return rc;
    rc = masters(s, &nodes, &n, &after, err);
    if (rc != CM_OK)
        return rc;
    put_all(s->l, nodes, n);
    return before == after ? CM_OK
                           : cm_fail(err, CM_E_AGAIN,
                                     "slots of the cluster have moved while it was looked through");
}

cm_status redis_scan(struct redis_link *l, const struct cm_op *op, const char *match,
                     redis_scan_fn each, void *user, struct cm_err *err)
{
    struct scan s = { l, op, match, each, user, false };
    cm_status rc = redis_check_owner(l, err);

    for (int i = 0; i < TRIES && rc == CM_OK; i++) {
        struct cm_err why = CM_ERR_INIT;

        if (i > 0)
            rc = cm_op_wait(op, PAUSE_NS, err);
        if (rc != CM_OK)
            break;
        rc = scan_all(&s, &why);
        if (rc == CM_OK)
            return CM_OK;
        if (err != NULL)
            *err = why;
        if (!s.stopped && (rc == CM_E_NET || rc == CM_E_AGAIN || rc == CM_E_TIMEOUT) &&
            i + 1 < TRIES && cm_op_check(op, NULL) == CM_OK)
            rc = CM_OK;
    }
    if (rc == CM_E_AGAIN && !s.stopped)
        rc = cm_wrap(err, CM_E_NET, "no answer");
    return rc;
}
