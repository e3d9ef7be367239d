/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Who has how many connections, so that one address cannot have them all. For IPv6 an address is a
 * /64: that is what one customer gets. */

struct crowd_addr {
    struct crowd_addr *next;
    uint64_t key;
    size_t n;
    struct conn *first, *last; /* oldest first */
};

/* The network's number; IPv4 made different from IPv6 by a prefix that nobody is given. */
static bool key_of(int fd, uint64_t *ret)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;

    if (getpeername(fd, (struct sockaddr *)(void *)&ss, &len) != 0)
        return false;
    const struct in6_addr *a6 = &((const struct sockaddr_in6 *)(const void *)&ss)->sin6_addr;
    struct in_addr a4 = ((const struct sockaddr_in *)(const void *)&ss)->sin_addr;

    /* A socket that we were given may have both families; all of IPv4 would be one network. */
    if (ss.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(a6))
        memcpy(&a4, &a6->s6_addr[12], sizeof a4);
    else if (ss.ss_family == AF_INET6) {
        memcpy(ret, a6, sizeof *ret);
        return true;
    }
    *ret = ntohl(a4.s_addr);
    return true;
}

static struct crowd_addr **slot_of(struct server *s, uint64_t key)
{
    /* The seed keeps addresses that somebody chose from all meeting in one list. */
    uint64_t h = (key ^ s->crowd_seed) * (s->crowd_seed | 1);
    struct crowd_addr **at = &s->crowd[(h >> 32) % CM_ARRAY_LEN(s->crowd)];

    while (*at != NULL && (*at)->key != key)
        at = &(*at)->next;
    return at;
}

/* Who is being answered stays. */
static bool evict_one(struct crowd_addr *a)
{
    for (struct conn *c = a->first; c != NULL; c = c->crowd_next) {
        if (c->state != CONN_WORK && c->state != CONN_WRITE) {
            conn_close(c);
            return true;
        }
    }
    return false;
}

bool crowd_enter(struct conn *c)
{
    struct server *s = c->server;
    struct crowd_addr **at;
    struct crowd_addr *a;
    uint64_t key;

    if (!key_of(c->fd, &key))
        return false;
    a = *slot_of(s, key);
    if (a != NULL && a->n >= s->max_per_address && !evict_one(a))
        return false;
    at = slot_of(s, key); /* the last of an address takes its entry away */
    a = *at;
    if (a == NULL) {
        a = cm_calloc(1, sizeof *a);
        if (a == NULL)
            return false;
        a->key = key;
        *at = a;
    }
    c->crowd = a;
    c->crowd_prev = a->last;
    *(a->last != NULL ? &a->last->crowd_next : &a->first) = c;
    a->last = c;
    a->n++;
    return true;
}

void crowd_leave(struct conn *c)
{
    struct crowd_addr *a = c->crowd;
    struct crowd_addr **at;

    if (a == NULL)
        return;
    *(c->crowd_prev != NULL ? &c->crowd_prev->crowd_next : &a->first) = c->crowd_next;
    *(c->crowd_next != NULL ? &c->crowd_next->crowd_prev : &a->last) = c->crowd_prev;
    c->crowd = NULL;
    if (--a->n > 0)
        return;
    at = slot_of(c->server, a->key);
    *at = a->next;
    free(a);
}
