/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

/* Who is the master now? The sentinels are asked in turn, each on a connection of its own that is
 * closed again: it is a rare question. What one says is a rumour until the server confirms it with
 * ROLE (link_login.c). */

#define SHARE_MIN_NS (300 * CM_NS_PER_MS)

static cm_status read_address(const struct redis_conn *c, const redisReply *r,
                              struct redis_address *ret, struct cm_err *err)
{
    unsigned port = 0;

    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[0]->type != REDIS_REPLY_STRING || r->element[1]->type != REDIS_REPLY_STRING ||
        r->element[0]->len == 0 ||
        !redis_number(r->element[1]->str, (size_t)r->element[1]->len, 65535, &port) || port == 0)
        return cm_fail(err, CM_E_PARSE, "the sentinel at %s names no address of a master", c->name);
    ret->host = cm_strdup(r->element[0]->str);
    ret->port = (uint16_t)port;
    return ret->host != NULL ? CM_OK : cm_fail_nomem(err);
}

static cm_status read_answer(const struct redis_link *l, const struct redis_conn *c,
                             const redisReply *r, struct redis_address *ret, struct cm_err *err)
{
    char shown[160];

    if (r->type == REDIS_REPLY_NIL)
        return cm_fail(err, CM_E_INVAL, "the sentinel at %s knows no master '%s'", c->name,
                       l->o->master);
    if (redis_is_error(r, "NOAUTH") || redis_is_error(r, "NOPERM"))
        return cm_fail(err, CM_E_PERM,
                       "the sentinel at %s: %s; look at sentinel_password_file and its ACL",
                       c->name, redis_shown(r, shown, sizeof shown));
    if (r->type == REDIS_REPLY_ERROR)
        return cm_fail(err, CM_E_NET, "the sentinel at %s: %s", c->name,
                       redis_shown(r, shown, sizeof shown));
    return read_address(c, r, ret, err);
}

static cm_status ask(struct redis_link *l, const struct redis_address *sentinel,
                     const struct cm_op *op, struct redis_address *ret, struct cm_err *err)
{
    const struct redis_login login = { .username = l->o->sentinel_username,
                                       .password = l->o->sentinel_password,
                                       .is_sentinel = true };
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(4096);
    struct redis_conn *c = NULL;
    redisReply *reply = NULL;
    bool sent;
    cm_status rc =
        redis_put_words(&out, err, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", l->o->master, NULL);

    if (rc == CM_OK)
        rc = redis_conn_open(l, sentinel, &login, op, &c, err);
    if (rc == CM_OK)
        rc = redis_conn_exchange(c, op, cm_buf_span(&out), 1, &reply, &sent, err);
    if (rc == CM_OK) {
        rc = read_answer(l, c, reply, ret, err);
        freeReplyObject(reply);
    }
    redis_conn_close(c);
    return rc;
}

cm_status redis_sentinel_ask(struct redis_link *l, const struct cm_op *op, size_t from,
                             struct redis_address *ret, struct cm_err *err)
{
    size_t n = l->o->n_addresses;
    int64_t share = l->o->timeout_ns / (int64_t)n;
    cm_status rc = CM_E_NET;

    if (share < SHARE_MIN_NS)
        share = SHARE_MIN_NS;
    for (size_t i = 0; i < n; i++) {
        struct cm_op one = cm_op_within(op, share);
        struct cm_err why = CM_ERR_INIT;
        cm_status this = ask(l, &l->o->addresses[(from + i) % n], &one, ret, &why);

        if (this == CM_OK)
            return CM_OK;
        /* One that is down must not hide what another has against us. */
        if (rc == CM_E_NET || this == CM_E_PERM || this == CM_E_INVAL) {
            rc = this == CM_E_TIMEOUT ? CM_E_NET : this;
            if (err != NULL)
                *err = why;
        }
        if (cm_op_check(op, NULL) != CM_OK)
            return cm_wrap(err, this, "ask the sentinels for the master '%s'", l->o->master);
    }
    return cm_wrap(err, rc, "no sentinel told the master '%s'", l->o->master);
}
