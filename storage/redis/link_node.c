/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Servers and their pools. Whoever wants a connection first takes one of pool_max turns, so that
 * the wait for one is a wait for a descriptor, with deadline and cancel token. */

#define IDLE_MAX_NS (300 * CM_NS_PER_S)

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void node_free(struct redis_node *node)
{
    while (node->idle != NULL) {
        struct redis_conn *c = node->idle;

        node->idle = c->next;
        redis_conn_close(c);
    }
    if (node->turns_fd >= 0)
        (void)close(node->turns_fd);
    free(node->addr.host);
    free(node->addr.path);
    free(node);
}

static cm_status node_new(struct redis_link *l, const struct redis_address *addr,
                          struct redis_node **ret, struct cm_err *err)
{
    struct redis_node *node = cm_calloc(1, sizeof *node);
    cm_status rc = CM_OK;

    if (node == NULL)
        return cm_fail_nomem(err);
    node->refs = 1;
    redis_address_name(addr, node->name, sizeof node->name);
    node->addr.port = addr->port;
    node->addr.host = cm_strdup(addr->host);
    node->addr.path = cm_strdup(addr->path);
    node->turns_fd = eventfd(l->o->pool_max, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (node->turns_fd < 0)
        rc = cm_fail_errno(err, "create the pool of connections to Redis");
    else if (node->addr.host == NULL && node->addr.path == NULL)
        rc = cm_fail_nomem(err);
    if (rc != CM_OK)
        node_free(node);
    else
        *ret = node;
    return rc;
}

cm_status redis_node_get(struct redis_link *l, const struct redis_address *addr,
                         struct redis_node **ret, struct cm_err *err)
{
    struct redis_node *fresh = NULL;
    struct redis_node *node;
    cm_status rc = CM_OK;

    cm_mutex_lock(&l->mutex);
    for (node = l->nodes; node != NULL; node = node->next)
        if (node->addr.port == addr->port && same(node->addr.host, addr->host) &&
            same(node->addr.path, addr->path))
            break;
    if (node == NULL) {
        rc = node_new(l, addr, &fresh, err);
        if (rc == CM_OK) {
            fresh->number = ++l->n_nodes;
            fresh->next = l->nodes;
            l->nodes = fresh;
            node = fresh;
        }
    } else {
        node->refs++;
    }
    cm_mutex_unlock(&l->mutex);
    if (rc == CM_OK)
        *ret = node;
    return rc;
}

void redis_node_put(struct redis_link *l, struct redis_node *node)
{
    bool last;

    if (node == NULL)
        return;
    cm_mutex_lock(&l->mutex);
    last = --node->refs == 0;
    for (struct redis_node **at = &l->nodes; last && *at != NULL; at = &(*at)->next) {
        if (*at == node) {
            *at = node->next;
            break;
        }
    }
    cm_mutex_unlock(&l->mutex);
    if (last)
        node_free(node);
}

static cm_status take_turn(struct redis_node *node, const struct cm_op *op, struct cm_err *err)
{
    uint64_t one;

    while (read(node->turns_fd, &one, sizeof one) != (ssize_t)sizeof one) {
        cm_status rc;

        if (errno != EAGAIN && errno != EINTR)
            return cm_fail_errno(err, "wait for a connection to Redis");
        rc = redis_poll(node->turns_fd, POLLIN, op, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "wait for one of the connections to Redis");
    }
    return CM_OK;
}

static void give_turn(struct redis_node *node)
{
    const uint64_t one = 1;

    CM_ASSERT(write(node->turns_fd, &one, sizeof one) == (ssize_t)sizeof one);
}

static struct redis_conn *pop_idle(struct redis_link *l, struct redis_node *node)
{
    struct redis_conn *c;

    cm_mutex_lock(&l->mutex);
    c = node->idle;
    if (c != NULL)
        node->idle = c->next;
    cm_mutex_unlock(&l->mutex);
    return c;
}

cm_status redis_node_take(struct redis_link *l, struct redis_node *node, const struct cm_op *op,
                          struct redis_conn **ret, struct cm_err *err)
{
    struct redis_login login = redis_login_of(l);
    cm_status rc = take_turn(node, op, err);
    struct redis_conn *c;

    if (rc != CM_OK)
        return rc;
    while ((c = pop_idle(l, node)) != NULL) {
        if (l->env->mono_ns(l->env) - c->idle_since < IDLE_MAX_NS && redis_conn_is_quiet(c))
            break;
        redis_conn_close(c);
    }
    if (c == NULL) {
        struct cm_op within = cm_op_within(op, l->o->timeout_ns);

        rc = redis_conn_open(l, &node->addr, &login, &within, &c, err);
        if (rc != CM_OK) {
            give_turn(node);
            return rc;
        }
    }
    cm_mutex_lock(&l->mutex);
    node->refs++;
    if (c->number == 0)
        c->number = ++l->n_opened;
    c->opened = l->n_opened;
    cm_mutex_unlock(&l->mutex);
    c->node = node;
    *ret = c;
    return CM_OK;
}

void redis_node_give(struct redis_link *l, struct redis_conn *c, bool good)
{
    struct redis_node *node = c->node;

    c->node = NULL;
    if (good) {
        c->idle_since = l->env->mono_ns(l->env);
        cm_mutex_lock(&l->mutex);
        c->next = node->idle;
        node->idle = c;
        cm_mutex_unlock(&l->mutex);
    } else {
        redis_conn_close(c);
    }
    give_turn(node);
    redis_node_put(l, node);
}

void redis_node_hush(struct redis_link *l, struct redis_node *node)
{
    struct redis_conn *idle;

    cm_mutex_lock(&l->mutex);
    idle = node->idle;
    node->idle = NULL;
    cm_mutex_unlock(&l->mutex);
    while (idle != NULL) {
        struct redis_conn *c = idle;

        idle = c->next;
        redis_conn_close(c);
    }
}
