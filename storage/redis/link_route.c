/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

/* Which server is meant. */

struct redis_login redis_login_of(const struct redis_link *l)
{
    const struct redis_options *o = l->o;

    return (struct redis_login){ .username = o->username,
                                 .password = o->password,
                                 .db = o->db,
                                 .want_master = o->topology == REDIS_SINGLE && o->n_addresses > 1 };
}

/* The server in use, if there is one. */
static struct redis_node *current(struct redis_link *l, size_t *ret_at)
{
    struct redis_node *node;

    cm_mutex_lock(&l->mutex);
    node = l->current;
    if (node != NULL)
        node->refs++;
    *ret_at = l->at;
    cm_mutex_unlock(&l->mutex);
    return node;
}

static void set_current(struct redis_link *l, struct redis_node *node)
{
    cm_mutex_lock(&l->mutex);
    if (l->current == NULL) {
        l->current = node;
        node->refs++;
    }
    cm_mutex_unlock(&l->mutex);
}

cm_status redis_route_find(struct redis_link *l, const struct cm_op *op, const char *route,
                           struct redis_node **ret, struct cm_err *err)
{
    size_t at;
    struct redis_node *node = current(l, &at);
    cm_status rc = CM_OK;

    (void)op;
    (void)route;
    if (node == NULL) {
        rc = redis_node_get(l, &l->o->addresses[at], &node, err);
        if (rc == CM_OK)
            set_current(l, node);
    }
    if (rc == CM_OK)
        *ret = node;
    return rc;
}

void redis_route_failed(struct redis_link *l, struct redis_node *node)
{
    bool was_current;

    cm_mutex_lock(&l->mutex);
    was_current = l->current == node;
    if (was_current) {
        l->current = NULL;
        l->at = (l->at + 1) % l->o->n_addresses;
    }
    cm_mutex_unlock(&l->mutex);
    redis_node_hush(l, node);
    if (was_current)
        redis_node_put(l, node);
}

void redis_route_clear(struct redis_link *l)
{
    struct redis_node *node;

    cm_mutex_lock(&l->mutex);
    node = l->current;
    l->current = NULL;
    cm_mutex_unlock(&l->mutex);
    redis_node_put(l, node);
}
