/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

/* Which server is meant. */

struct redis_login redis_login_of(const struct redis_link *l)
{
    const struct redis_options *o = l->o;

    return (struct redis_login){ .username = o->username,
                                 .password = o->password,
                                 .db = o->db,
                                 .want_master =
                                     o->topology == REDIS_SENTINEL ||
                                     (o->topology == REDIS_SINGLE && o->n_addresses > 1) };
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
    bool is_news = false;

    cm_mutex_lock(&l->mutex);
    if (l->current == NULL) {
        l->current = node;
        node->refs++;
        is_news = strcmp(l->told, node->name) != 0;
        memcpy(l->told, node->name, sizeof l->told);
    }
    cm_mutex_unlock(&l->mutex);
    if (is_news && l->o->topology == REDIS_SENTINEL)
        cm_logf(&l->log, CM_LOG_INFO, "redis_master", NULL, 0, "the master '%s' is at %s",
                l->o->master, node->name);
}

/* The master as the sentinels know it. */
static cm_status find_master(struct redis_link *l, const struct cm_op *op, size_t at,
                             struct redis_node **ret, struct cm_err *err)
{
    struct redis_address master = { NULL, NULL, 0 };
    cm_status rc = redis_sentinel_ask(l, op, at, &master, err);

    if (rc == CM_OK)
        rc = redis_node_get(l, &master, ret, err);
    free(master.host);
    return rc;
}

cm_status redis_route_find(struct redis_link *l, const struct cm_op *op, const char *route,
                           struct redis_node **ret, struct cm_err *err)
{
    struct redis_node *node;
    cm_status rc = CM_OK;
    size_t at;

    if (l->o->topology == REDIS_CLUSTER)
        return redis_cluster_find(l, op, route, ret, err);
    node = current(l, &at);
    if (node == NULL) {
        rc = l->o->topology == REDIS_SENTINEL
                 ? find_master(l, op, at, &node, err)
                 : redis_node_get(l, &l->o->addresses[at % l->o->n_addresses], &node, err);
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
    if (was_current)
        l->current = NULL;
    if (was_current || l->o->topology == REDIS_CLUSTER)
        l->at++;
    cm_mutex_unlock(&l->mutex);
    redis_node_hush(l, node);
    if (l->o->topology == REDIS_CLUSTER)
        redis_cluster_forget(l, false);
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
    redis_cluster_forget(l, true);
}
