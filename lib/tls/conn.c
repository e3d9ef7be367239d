/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <sys/epoll.h>
#include <unistd.h>

/* ---------------------------------------------------------------------- lists */

static void list_remove(struct conn *c)
{
    struct conn_list *l = &c->server->list[c->state];

    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        l->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        l->last = c->prev;
    c->prev = c->next = NULL;
}

static void list_append(struct conn *c, enum conn_state state)
{
    struct server *s = c->server;
    struct conn_list *l = &s->list[state];

    c->state = state;
    c->deadline_ns = state == CONN_WORK ? INT64_MAX : s->env->mono_ns(s->env) + s->limit_ns[state];
    c->prev = l->last;
    c->next = NULL;
    if (l->last != NULL)
        l->last->next = c;
    else
        l->first = c;
    l->last = c;
}

void conn_enter(struct conn *c, enum conn_state state)
{
    list_remove(c);
    list_append(c, state);
}

/* ----------------------------------------------------------------------- life */

void conn_accept(struct server *s, int fd, bool tls)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
    struct conn *c = cm_calloc(1, sizeof *c);

    if (c == NULL) {
        (void)close(fd);
        return;
    }
    c->server = s;
    c->fd = fd;
    c->tls = tls;
    c->pending_fd = -1;
    c->file = -1;
    c->in.max = SERVER_IN_MAX;
    c->out.max = SERVER_REPLY_MAX + 4096;
    c->watch = (struct watch){ .kind = WATCH_CONN, .fd = -1, .conn = c };
    ev.data.ptr = &c->watch;
    if (!crowd_enter(c) || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        crowd_leave(c);
        (void)close(fd);
        free(c);
        return;
    }
    s->n_conns++;
    /* No TLS session yet: whoever connects and stays silent costs what stands here. */
    list_append(c, tls ? CONN_HANDSHAKE : CONN_HEAD);
}

void conn_close(struct conn *c)
{
    struct server *s = c->server;

    if (c->dead)
        return;
    c->dead = true;
    list_remove(c);
    crowd_leave(c);
    s->n_conns--;
    if (c->session != NULL)
        gnutls_deinit(c->session);
    (void)close(c->fd);
    if (c->file >= 0)
        (void)close(c->file);
    cm_buf_free(&c->in);
    cm_buf_free(&c->out);
    free(c->x.target);
    /* An event for it may already have been fetched: the memory goes when the round is over. */
    c->aside = s->dead;
    s->dead = c;
}

void conn_reap(struct server *s)
{
    while (s->dead != NULL) {
        struct conn *c = s->dead;

        s->dead = c->aside;
        free(c);
    }
}

void conn_arm(struct conn *c, uint32_t events)
{
    struct epoll_event ev = { .events = events | EPOLLONESHOT, .data = { .ptr = &c->watch } };

    /* One shot: a connection that is with a worker, or waits for something else than its socket,
     * must not wake the loop, and a hang-up cannot be masked otherwise. */
    if (epoll_ctl(c->server->epoll, EPOLL_CTL_MOD, c->fd, &ev) != 0)
        conn_close(c);
}

/* ------------------------------------------------------------------- deadlines */

bool conn_evict(struct server *s)
{
    /* What is least missed goes first. A request that is being answered is never given up for a
     * newcomer; an honest handshake takes milliseconds and is not the oldest of thousands. */
    static const enum conn_state order[] = { CONN_LINGER, CONN_IDLE, CONN_CHALLENGE };
    struct conn *hs = s->list[CONN_HANDSHAKE].first;
    struct conn *head = s->list[CONN_HEAD].first;

    for (size_t i = 0; i < CM_ARRAY_LEN(order); i++) {
        if (s->list[order[i]].first != NULL) {
            conn_close(s->list[order[i]].first);
            return true;
        }
    }
    if (hs == NULL || (head != NULL && head->deadline_ns < hs->deadline_ns))
        hs = head;
    if (hs == NULL)
        hs = s->list[CONN_PENDING].first;
    if (hs == NULL)
        hs = s->list[CONN_WRITE].first;
    if (hs == NULL)
        return false;
    conn_close(hs);
    return true;
}

int64_t conn_expire(struct server *s, int64_t max)
{
    int64_t now = s->env->mono_ns(s->env);
    int64_t left = max;

    for (size_t i = 0; i < CONN_STATES; i++) {
        if (i == CONN_WORK)
            continue;
        while (s->list[i].first != NULL && s->list[i].first->deadline_ns <= now)
            conn_close(s->list[i].first);
        if (s->list[i].first != NULL && s->list[i].first->deadline_ns - now < left)
            left = s->list[i].first->deadline_ns - now;
    }
    return left;
}
