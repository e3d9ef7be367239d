/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <string.h>

/* Which node of a cluster has which slot: asked for with CLUSTER SLOTS, once, and again when a node
 * says MOVED or does not answer. */

#define REFRESH_MIN_NS (500 * CM_NS_PER_MS) /* MOVED comes in swarms while slots are moved */
#define SLOTS          16384u
#define NODES_MAX      1000u

struct redis_map {
    size_t n;
    uint16_t of_slot[SLOTS]; /* one more than the index of its node; 0: nobody has it */
    struct redis_node *nodes[NODES_MAX];
};

/* CRC-16/XMODEM, as the cluster specification has it. */
static uint16_t crc16(const char *s, size_t len)
{
    unsigned crc = 0;

    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned)(uint8_t)s[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000u) != 0 ? crc << 1 ^ 0x1021u : crc << 1;
    }
    return (uint16_t)crc;
}

unsigned redis_slot(const char *key, size_t len)
{
    const char *open = memchr(key, '{', len);
    size_t rest = open != NULL ? len - (size_t)(open - key) - 1 : 0;
    const char *close = open != NULL ? memchr(open + 1, '}', rest) : NULL;

    if (close != NULL && close > open + 1)
        return crc16(open + 1, (size_t)(close - open) - 1) % SLOTS;
    return crc16(key, len) % SLOTS;
}

/* ---- the map */

static void map_free(struct redis_link *l, struct redis_map *map)
{
    if (map == NULL)
        return;
    for (size_t i = 0; i < map->n; i++)
        redis_node_put(l, map->nodes[i]);
    free(map);
}

static cm_status map_add(struct redis_link *l, struct redis_map *map,
                         const struct redis_address *addr, size_t *ret_index, struct cm_err *err)
{
    struct redis_node *node = NULL;
    cm_status rc = redis_node_get(l, addr, &node, err);

    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < map->n; i++) {
        if (map->nodes[i] == node) {
            redis_node_put(l, node);
            *ret_index = i;
            return CM_OK;
        }
    }
    if (map->n == NODES_MAX) {
        redis_node_put(l, node);
        return cm_fail(err, CM_E_LIMIT, "a Redis cluster of more than %u masters", NODES_MAX);
    }
    *ret_index = map->n;
    map->nodes[map->n++] = node;
    return CM_OK;
}

static bool is_int_within(const redisReply *r, long long min, long long max)
{
    return r->type == REDIS_REPLY_INTEGER && r->integer >= min && r->integer <= max;
}

/* [from, to, [host, port, ...], replicas...]. An empty host means the one that was asked. */
static cm_status map_add_range(struct redis_link *l, struct redis_map *map,
                               const struct redis_node *asked, const redisReply *r,
                               struct cm_err *err)
{
    struct redis_address addr = { NULL, NULL, 0 };
    const redisReply *master;
    size_t index = 0;
    cm_status rc;

    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 ||
        !is_int_within(r->element[0], 0, SLOTS - 1) ||
        !is_int_within(r->element[1], r->element[0]->integer, SLOTS - 1))
        return cm_fail(err, CM_E_PARSE, "Redis at %s: CLUSTER SLOTS has a bad range", asked->name);
    master = r->element[2];
    if (master->type != REDIS_REPLY_ARRAY || master->elements < 2 ||
        (master->element[0]->type != REDIS_REPLY_STRING &&
         master->element[0]->type != REDIS_REPLY_NIL) ||
        !is_int_within(master->element[1], 1, 65535))
        return cm_fail(err, CM_E_PARSE, "Redis at %s: CLUSTER SLOTS has a bad address",
                       asked->name);
    if (master->element[0]->type == REDIS_REPLY_STRING)
        addr.host = master->element[0]->str;
    if (addr.host != NULL && strcmp(addr.host, "?") == 0)
        return CM_OK; /* the node asked does not know it yet */
    if (addr.host == NULL || addr.host[0] == '\0')
        addr.host = asked->addr.host;
    addr.port = (uint16_t)master->element[1]->integer;
    rc = map_add(l, map, &addr, &index, err);
    if (rc != CM_OK)
        return rc;
    for (long long s = r->element[0]->integer; s <= r->element[1]->integer; s++)
        map->of_slot[s] = (uint16_t)(index + 1);
    return CM_OK;
}

static cm_status read_map(struct redis_link *l, const struct redis_node *asked, const redisReply *r,
                          struct redis_map **ret, struct cm_err *err)
{
    struct redis_map *map;
    char shown[160];
    cm_status rc = CM_OK;

    if (redis_is_error(r, "NOPERM") || redis_is_error(r, "NOAUTH"))
        return cm_fail(err, CM_E_PERM, "Redis at %s: %s; the ACL of this user needs +cluster|slots",
                       asked->name, redis_shown(r, shown, sizeof shown));
    if (r->type == REDIS_REPLY_ERROR && strstr(r->str, "cluster support disabled") != NULL)
        return cm_fail(err, CM_E_INVAL, "Redis at %s is no cluster: write redis:// or rediss://",
                       asked->name);
    if (r->type == REDIS_REPLY_ERROR)
        return cm_fail(err, CM_E_AGAIN, "Redis at %s: CLUSTER SLOTS: %s", asked->name,
                       redis_shown(r, shown, sizeof shown));
    if (r->type != REDIS_REPLY_ARRAY)
        return cm_fail(err, CM_E_PARSE, "Redis at %s: CLUSTER SLOTS gives no list", asked->name);
    map = cm_calloc(1, sizeof *map);
    if (map == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < r->elements && rc == CM_OK; i++)
        rc = map_add_range(l, map, asked, r->element[i], err);
    if (rc == CM_OK && map->n == 0)
        rc = cm_fail(err, CM_E_AGAIN, "Redis at %s knows of no node with slots", asked->name);
    if (rc == CM_OK)
        *ret = map;
    else
        map_free(l, map);
    return rc;
}

/* ---- asking */

static cm_status ask(struct redis_link *l, struct redis_node *node, const struct cm_op *op,
                     struct redis_map **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(256);
    struct cm_op within = cm_op_within(op, l->o->timeout_ns);
    struct redis_conn *c = NULL;
    redisReply *reply = NULL;
    bool sent;
    cm_status rc = redis_put_words(&out, err, "CLUSTER", "SLOTS", NULL);

    if (rc == CM_OK)
        rc = redis_node_take(l, node, &within, &c, err);
    if (rc != CM_OK)
        return rc;
    rc = redis_conn_exchange(c, &within, cm_buf_span(&out), 1, &reply, &sent, err);
    redis_node_give(l, c, rc == CM_OK && c->in.len == 0);
    if (rc != CM_OK)
        return rc;
    rc = read_map(l, node, reply, ret, err);
    freeReplyObject(reply);
    return rc;
}

/* The @i-th of those that may know: first the nodes of the last map, then the seeds. */
static cm_status candidate(struct redis_link *l, size_t i, struct redis_node **ret,
                           struct cm_err *err)
{
    struct redis_node *node = NULL;
    size_t known;

    cm_mutex_lock(&l->mutex);
    known = l->map != NULL ? l->map->n : 0;
    if (i < known) {
        node = l->map->nodes[(i + l->at) % known];
        node->refs++;
    }
    cm_mutex_unlock(&l->mutex);
    if (node != NULL) {
        *ret = node;
        return CM_OK;
    }
    i -= known;
    if (i >= l->o->n_addresses)
        return CM_E_NOTFOUND;
    return redis_node_get(l, &l->o->addresses[(i + l->at) % l->o->n_addresses], ret, err);
}

static void install(struct redis_link *l, struct redis_map *map)
{
    struct redis_map *old;

    cm_mutex_lock(&l->mutex);
    old = l->map;
    l->map = map;
    l->map_stale = false;
    l->map_at_ns = l->env->mono_ns(l->env);
    cm_mutex_unlock(&l->mutex);
    map_free(l, old);
}

static cm_status refresh(struct redis_link *l, const struct cm_op *op, struct cm_err *err)
{
    cm_status rc = CM_E_NET;

    for (size_t i = 0; i < NODES_MAX; i++) {
        struct redis_node *node = NULL;
        struct redis_map *map = NULL;
        struct cm_err why = CM_ERR_INIT;
        cm_status this = candidate(l, i, &node, &why);

        if (this == CM_E_NOTFOUND)
            break;
        if (this == CM_OK)
            this = ask(l, node, op, &map, &why);
        redis_node_put(l, node);
        if (this == CM_OK) {
            install(l, map);
            return CM_OK;
        }
        if (rc == CM_E_NET || this == CM_E_PERM || this == CM_E_INVAL) {
            rc = this == CM_E_TIMEOUT ? CM_E_NET : this;
            if (err != NULL)
                *err = why;
        }
        if (cm_op_check(op, NULL) != CM_OK)
            return cm_wrap(err, this, "ask for the slots of the cluster");
    }
    return cm_wrap(err, rc, "no node told the slots of the cluster");
}

/* ---- the door */

static struct redis_node *look_up(struct redis_link *l, const char *route, bool *ret_refresh)
{
    struct redis_node *node = NULL;
    const struct redis_map *map;

    cm_mutex_lock(&l->mutex);
    map = l->map;
    if (map != NULL && route == NULL)
        node = map->nodes[l->at % map->n];
    else if (map != NULL && map->of_slot[redis_slot(route, strlen(route))] != 0)
        node = map->nodes[map->of_slot[redis_slot(route, strlen(route))] - 1];
    *ret_refresh =
        node == NULL || (l->map_stale && l->env->mono_ns(l->env) - l->map_at_ns >= REFRESH_MIN_NS);
    if (node != NULL)
        node->refs++;
    cm_mutex_unlock(&l->mutex);
    return node;
}

cm_status redis_cluster_find(struct redis_link *l, const struct cm_op *op, const char *route,
                             struct redis_node **ret, struct cm_err *err)
{
    bool want;
    struct redis_node *node = look_up(l, route, &want);

    if (want) {
        struct cm_err why = CM_ERR_INIT;
        cm_status rc = refresh(l, op, &why);

        redis_node_put(l, node);
        if (rc != CM_OK) {
            if (err != NULL)
                *err = why;
            return rc;
        }
        node = look_up(l, route, &want);
    }
    if (node == NULL)
        return cm_fail(err, CM_E_AGAIN, "no node of the cluster has the slot of '%s'", route);
    *ret = node;
    return CM_OK;
}

void redis_cluster_forget(struct redis_link *l, bool all)
{
    struct redis_map *old = NULL;

    cm_mutex_lock(&l->mutex);
    l->map_stale = true;
    if (all) {
        old = l->map;
        l->map = NULL;
    }
    cm_mutex_unlock(&l->mutex);
    map_free(l, old);
}

cm_status redis_cluster_redirect(struct redis_link *l, const struct redis_node *from,
                                 const char *text, struct redis_node **ret, struct cm_err *err)
{
    const char *where = strrchr(text, ' ');
    const char *colon = where != NULL ? strrchr(where, ':') : NULL;
    struct redis_address addr = { NULL, NULL, 0 };
    unsigned port = 0;
    char shown[160];
    cm_status rc;

    if (colon == NULL || !redis_number(colon + 1, strlen(colon + 1), 65535, &port) || port == 0)
        return cm_fail(err, CM_E_PARSE, "Redis at %s: a redirection without address: %s",
                       from->name, cm_escape(text, strlen(text), shown, sizeof shown));
    addr.port = (uint16_t)port;
    addr.host = colon == where + 1 ? cm_strdup(from->addr.host)
                                   : cm_strndup(where + 1, (size_t)(colon - where) - 1);
    if (addr.host == NULL)
        return cm_fail_nomem(err);
    rc = redis_node_get(l, &addr, ret, err);
    free(addr.host);
    return rc;
}

cm_status redis_cluster_nodes(struct redis_link *l, const struct cm_op *op,
                              struct redis_node ***ret, size_t *ret_n, uint64_t *ret_owners,
                              struct cm_err *err)
{
    uint64_t owners = CM_FNV1A64;
    struct redis_node **nodes = NULL;
    size_t n = 0;
    cm_status rc = refresh(l, op, err);

    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&l->mutex);
    if (l->map != NULL)
        nodes = cm_calloc(l->map->n, sizeof(struct redis_node *));
    for (; nodes != NULL && n < l->map->n; n++) {
        nodes[n] = l->map->nodes[n];
        nodes[n]->refs++;
    }
    /* by their names: the map numbers them as they come */
    for (size_t s = 0; l->map != NULL && s < SLOTS; s++) {
        const char *name =
            l->map->of_slot[s] != 0 ? l->map->nodes[l->map->of_slot[s] - 1]->name : "?";

        owners = cm_fnv1a64(owners, name, strlen(name) + 1);
    }
    cm_mutex_unlock(&l->mutex);
    if (nodes == NULL) /* forgotten again at once: as good as no memory, and asked for once more */
        return cm_fail(err, CM_E_AGAIN, "the map of the cluster changes");
    *ret = nodes;
    *ret_n = n;
    *ret_owners = owners;
    return CM_OK;
}
