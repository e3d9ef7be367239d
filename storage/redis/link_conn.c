/* SPDX-License-Identifier: Apache-2.0 */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One connection: bytes out, replies in. It knows nothing of what is asked. */

#define READ_CHUNK  16384u
#define WRITE_CHUNK 16384u
#define IN_MAX      (REDIS_REPLY_MAX + READ_CHUNK + 1)

/* What one try to read or write came to. */
enum io { IO_SOME, IO_AGAIN, IO_END, IO_FAILED };

static enum io plain_result(ssize_t n, size_t *ret_n, struct cm_err *err)
{
    if (n > 0) {
        *ret_n = (size_t)n;
        return IO_SOME;
    }
    if (n == 0)
        return IO_END;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return IO_AGAIN;
    (void)redis_fail_net(err, errno, "the connection broke");
    return IO_FAILED;
}

static enum io tls_result(gnutls_session_t tls, ssize_t n, size_t *ret_n, struct cm_err *err)
{
    if (n > 0) {
        *ret_n = (size_t)n;
        return IO_SOME;
    }
    if (n == 0)
        return IO_END;
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED)
        return IO_AGAIN;
    (void)redis_tls_fail(tls, (int)n, err);
    return IO_FAILED;
}

static enum io read_some(struct redis_conn *c, void *to, size_t len, size_t *ret_n,
                         struct cm_err *err)
{
    if (c->tls != NULL)
        return tls_result(c->tls, gnutls_record_recv(c->tls, to, len), ret_n, err);
    return plain_result(recv(c->fd, to, len, 0), ret_n, err);
}

static enum io write_some(struct redis_conn *c, const uint8_t *from, size_t len, size_t *ret_n,
                          struct cm_err *err)
{
    /* After AGAIN GnuTLS wants the same call once more: the same piece, as nothing was taken. */
    if (c->tls != NULL)
        return tls_result(c->tls,
                          gnutls_record_send(c->tls, from, len < WRITE_CHUNK ? len : WRITE_CHUNK),
                          ret_n, err);
    return plain_result(send(c->fd, from, len, MSG_NOSIGNAL), ret_n, err);
}

/* ---- replies */

/* The reply that stands in the buffer, if it is whole; else CM_E_AGAIN. */
static cm_status take_reply(struct redis_conn *c, redisReply **ret, size_t *ret_len,
                            struct cm_err *err)
{
    struct cm_span rest = { c->in.data + c->in_at, c->in.len - c->in_at };
    size_t len = 0;
    cm_status rc;

    if (rest.len == 0)
        return CM_E_AGAIN;
    rc = redis_sieve_look(&c->sieve, rest, &len, err);
    if (rc != CM_OK)
        return rc;
    rc = redis_reply_read((struct cm_span){ rest.data, len }, ret, err);
    if (rc != CM_OK)
        return rc;
    *ret_len = len;
    memset(&c->sieve, 0, sizeof c->sieve);
    c->in_at += len;
    if (c->in_at == c->in.len) {
        cm_buf_reset(&c->in);
        c->in_at = 0;
    }
    return CM_OK;
}

/* Replies that were taken give their room back, so that the buffer never holds more than the one
 * that is on its way and what came with it. */
static void compact(struct redis_conn *c)
{
    size_t left = c->in.len - c->in_at;

    if (c->in_at < READ_CHUNK)
        return;
    memmove(c->in.data, c->in.data + c->in_at, left);
    cm_wipe(c->in.data + left, c->in.len - left);
    c->in.len = left;
    c->in_at = 0;
}

/* All that is there to be read now, or one chunk of it. */
static enum io fill(struct redis_conn *c, struct cm_err *err)
{
    size_t n = 0;
    enum io io;

    compact(c);
    if (cm_buf_reserve(&c->in, READ_CHUNK, err) != CM_OK)
        return IO_FAILED;
    io = read_some(c, c->in.data + c->in.len, READ_CHUNK, &n, err);
    c->in.len += n;
    return io;
}

static cm_status io_failed(struct redis_conn *c, enum io io, cm_status otherwise,
                           struct cm_err *err)
{
    if (io == IO_END)
        return cm_fail(err, CM_E_NET, "Redis at %s: the server closed the connection", c->name);
    return cm_wrap(err, otherwise, "Redis at %s", c->name);
}

/* ---- exchange */

struct exchange {
    struct redis_conn *c;
    struct cm_span out;
    size_t written;
    redisReply **replies;
    size_t n, got;
    size_t bytes; /* of all replies so far */
};

static cm_status take_all(struct exchange *x, struct cm_err *err)
{
    while (x->got < x->n) {
        size_t len = 0;
        cm_status rc = take_reply(x->c, &x->replies[x->got], &len, err);

        if (rc == CM_E_AGAIN)
            return CM_OK;
        if (rc != CM_OK)
            return cm_wrap(err, rc, "Redis at %s", x->c->name);
        x->got++;
        x->bytes += len;
        if (x->bytes > REDIS_CALL_MAX)
            return cm_fail(err, CM_E_LIMIT, "Redis at %s: replies of more than %u bytes",
                           x->c->name, REDIS_CALL_MAX);
    }
    return CM_OK;
}

/* A server that hangs up may have said why. */
static void last_words(const struct exchange *x, struct cm_err *err)
{
    const redisReply *r = x->got > 0 ? x->replies[x->got - 1] : NULL;
    char shown[160];

    if (r != NULL && r->type == REDIS_REPLY_ERROR)
        (void)cm_fail(err, err->status, "Redis at %s closed the connection: %s", x->c->name,
                      redis_shown(r, shown, sizeof shown));
}

/* Write and read what goes without waiting. Reading goes on while there is more to write: a server
 * whose replies nobody takes stops to listen. */
static cm_status step(struct exchange *x, bool *ret_moved, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    struct redis_conn *c = x->c;
    enum io io = IO_AGAIN;
    cm_status rc;
    size_t n = 0;

    *ret_moved = false;
    if (x->written < x->out.len) {
        io = write_some(c, x->out.data + x->written, x->out.len - x->written, &n, &why);
        x->written += n;
        *ret_moved = io == IO_SOME;
    }
    if (io != IO_FAILED || x->written == x->out.len) {
        enum io in = fill(c, &why);

        *ret_moved = *ret_moved || in == IO_SOME;
        io = in == IO_END || in == IO_FAILED ? in : io;
    } else {
        (void)fill(c, NULL);
    }
    rc = take_all(x, err);
    if (rc != CM_OK || (x->got == x->n && x->written == x->out.len))
        return rc;
    if (io != IO_END && io != IO_FAILED)
        return CM_OK;
    rc = io_failed(c, io, why.status, &why);
    last_words(x, &why);
    *err = why;
    return rc;
}

static bool is_unfinished(const struct exchange *x)
{
    return x->got < x->n || x->written < x->out.len;
}

/* Until something moves. Who was stopped for longer than he had time finds the time over and the
 * reply there: so at the end one more look. */
static cm_status await(struct exchange *x, const struct cm_op *op, struct cm_err *err)
{
    short events = x->written < x->out.len ? POLLIN | POLLOUT : POLLIN;
    cm_status rc = redis_poll(x->c->fd, events, op, err);
    bool moved;

    if (rc != CM_E_TIMEOUT)
        return rc;
    rc = step(x, &moved, err);
    if (rc == CM_OK && is_unfinished(x))
        rc = cm_fail(err, CM_E_TIMEOUT, "Redis at %s does not answer in time", x->c->name);
    return rc;
}

cm_status redis_conn_exchange(struct redis_conn *c, const struct cm_op *op, struct cm_span out,
                              size_t n, redisReply **replies, bool *ret_sent, struct cm_err *err)
{
    struct exchange x = { .c = c, .out = out, .replies = replies, .n = n };
    struct cm_err why = CM_ERR_INIT;
    cm_status rc;

    for (size_t i = 0; i < n; i++)
        replies[i] = NULL;
    do {
        bool moved;

        rc = step(&x, &moved, &why);
        if (rc == CM_OK && !moved && is_unfinished(&x))
            rc = await(&x, op, &why);
    } while (rc == CM_OK && is_unfinished(&x));
    *ret_sent = x.written > 0;
    if (rc != CM_OK) {
        redis_free_replies(replies, n);
        if (err != NULL)
            *err = why;
    }
    return rc;
}

cm_status redis_conn_next(struct redis_conn *c, const struct cm_op *op, redisReply **ret,
                          struct cm_err *err)
{
    for (;;) {
        size_t len;
        cm_status rc = take_reply(c, ret, &len, err);
        enum io io;

        if (rc == CM_OK)
            return CM_OK;
        if (rc != CM_E_AGAIN)
            return cm_wrap(err, rc, "Redis at %s", c->name);
        io = fill(c, err);
        if (io == IO_END || io == IO_FAILED)
            return io_failed(c, io, CM_E_NET, err);
        if (io == IO_AGAIN) {
            rc = redis_poll(c->fd, POLLIN, op, err);
            if (rc != CM_OK)
                return rc;
        }
    }
}

bool redis_conn_is_quiet(struct redis_conn *c)
{
    uint8_t byte;
    size_t n;

    /* Over TLS there may be something to read that is no data: a session ticket. */
    return c->in.len == 0 && read_some(c, &byte, 1, &n, NULL) == IO_AGAIN;
}

/* ---- life */

void redis_conn_close(struct redis_conn *c)
{
    if (c == NULL)
        return;
    if (c->tls != NULL)
        gnutls_deinit(c->tls);
    if (c->fd >= 0)
        (void)close(c->fd);
    cm_buf_free(&c->in);
    free(c);
}

void redis_address_name(const struct redis_address *a, char *out, size_t size)
{
    if (a->host == NULL)
        (void)snprintf(out, size, "%s", a->path);
    else
        (void)snprintf(out, size, strchr(a->host, ':') != NULL ? "[%s]:%u" : "%s:%u", a->host,
                       (unsigned)a->port);
}

cm_status redis_conn_open(struct redis_link *l, const struct redis_address *to,
                          const struct redis_login *login, const struct cm_op *op,
                          struct redis_conn **ret, struct cm_err *err)
{
    struct redis_conn *c = cm_calloc(1, sizeof *c);
    cm_status rc;

    if (c == NULL)
        return cm_fail_nomem(err);
    c->fd = -1;
    c->in = (struct cm_buf)CM_BUF_SECRET(IN_MAX);
    redis_address_name(to, c->name, sizeof c->name);
    rc = redis_dial(to, op, &c->fd, err);
    if (rc == CM_OK && l->o->tls && to->host != NULL)
        rc = redis_tls_open(l->cred, l->o, c->fd, to->host, op, &c->tls, err);
    if (rc != CM_OK)
        (void)cm_wrap(err, rc, "Redis at %s", c->name);
    else
        rc = redis_login(c, login, op, err);
    if (rc != CM_OK) {
        redis_conn_close(c);
        return rc;
    }
    *ret = c;
    return CM_OK;
}
