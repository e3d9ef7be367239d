/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <string.h>
#include <unistd.h>

/* The life of a connection as steps. A step returns true when the next one can follow at once,
 * false when the connection waits, is with a worker or is closed. */

#define READ_SIZE  4096u
#define LINGER_MAX (256u * 1024)

/* Closing a socket with unread bytes makes the kernel send a reset, which can overtake the reply or
 * the alert that is still on its way. So: shut down, read on for a moment, then close. */
static bool linger(struct conn *c)
{
    conn_shutdown(c);
    c->skip = LINGER_MAX;
    conn_enter(c, CONN_LINGER);
    return true;
}

static bool step_handshake(struct conn *c)
{
    switch (conn_handshake(c)) {
    case IO_OK:
        c->secured = true;
        /* A CA has seen the certificate; that was all it came for. */
        if (cm_tls_is_challenge(c->session))
            return linger(c);
        conn_enter(c, CONN_HEAD);
        return true;
    case IO_WAIT:
        return false;
    case IO_END:
    case IO_BAD:
    default:
        if (c->dead)
            return false;
        return linger(c);
    }
}

static bool step_linger(struct conn *c)
{
    uint8_t trash[READ_SIZE];
    size_t n = 0;
    enum io_result r = conn_recv(c, trash, sizeof trash, &n);

    if (r == IO_WAIT)
        return false;
    if (r == IO_OK && n < c->skip) {
        c->skip -= n;
        return true;
    }
    conn_close(c);
    return false;
}

/* ------------------------------------------------------------------- requests */

static void consume(struct conn *c, size_t n)
{
    memmove(c->in.data, c->in.data + n, c->in.len - n);
    c->in.len -= n;
}

/* Throw the request's body away; nothing may remain that could be taken for a request. */
static bool step_body(struct conn *c)
{
    uint8_t trash[READ_SIZE];
    size_t n = c->in.len < c->skip ? c->in.len : (size_t)c->skip;
    enum io_result r;

    if (n > 0) {
        consume(c, n);
    } else {
        r = conn_recv(c, trash, c->skip < sizeof trash ? (size_t)c->skip : sizeof trash, &n);
        if (r == IO_WAIT)
            return false;
        if (r != IO_OK) {
            conn_close(c);
            return false;
        }
    }
    c->skip -= n;
    if (c->skip == 0)
        request_dispatch(c);
    return true;
}

static bool step_head(struct conn *c)
{
    size_t len = 0;
    int r = cm_http_scan(&c->scan, cm_buf_span(&c->in), &len);

    if (r == 1) {
        request_start(c, len);
        return true;
    }
    if (r != 0) {
        c->minor = 1;
        c->close_after = true;
        reply_status(c, r, NULL);
        conn_enter(c, CONN_WRITE);
        return true;
    }
    if (cm_buf_reserve(&c->in, READ_SIZE, NULL) != CM_OK) {
        conn_close(c);
        return false;
    }
    switch (conn_recv(c, c->in.data + c->in.len, READ_SIZE, &len)) {
    case IO_OK:
        c->in.len += len;
        if (c->state == CONN_IDLE)
            conn_enter(c, CONN_HEAD);
        return true;
    case IO_WAIT:
        if (c->in.len == 0)
            cm_buf_free(&c->in); /* an idle connection keeps no buffer */
        return false;
    case IO_END:
    case IO_BAD:
    default:
        conn_close(c);
        return false;
    }
}

/* -------------------------------------------------------------------- replies */

static bool reply_is_out(struct conn *c)
{
    cm_buf_free(&c->out);
    c->out_at = 0;
    if (c->file >= 0)
        (void)close(c->file);
    c->file = -1;
    free(c->x.target);
    memset(&c->x, 0, sizeof c->x);
    memset(&c->scan, 0, sizeof c->scan);
    if (c->close_after || server_is_stopping(c->server))
        return linger(c);
    conn_enter(c, c->in.len > 0 ? CONN_HEAD : CONN_IDLE);
    return true;
}

static bool refill(struct conn *c)
{
    size_t want = c->file_left < SERVER_CHUNK ? (size_t)c->file_left : SERVER_CHUNK;
    ssize_t n;

    cm_buf_reset(&c->out);
    c->out_at = 0;
    if (cm_buf_reserve(&c->out, want, NULL) != CM_OK)
        return false;
    n = read(c->file, c->out.data, want);
    if (n <= 0)
        return false; /* shorter than announced: only closing tells the client */
    c->out.len = (size_t)n;
    c->file_left -= (uint64_t)n;
    return true;
}

static bool step_write(struct conn *c)
{
    size_t n = 0;

    if (c->out_at == c->out.len) {
        if (c->file_left == 0)
            return reply_is_out(c);
        if (!refill(c)) {
            conn_close(c);
            return false;
        }
    }
    switch (conn_send(c, c->out.data + c->out_at, c->out.len - c->out_at, &n)) {
    case IO_OK:
        c->out_at += n;
        conn_enter(c, CONN_WRITE); /* progress: the deadline starts anew */
        return true;
    case IO_WAIT:
        return false;
    case IO_END:
    case IO_BAD:
    default:
        conn_close(c);
        return false;
    }
}

static bool step(struct conn *c)
{
    switch (c->state) {
    case CONN_HANDSHAKE:
    case CONN_CHALLENGE:
    case CONN_PENDING:
        return step_handshake(c);
    case CONN_HEAD:
        return c->skip > 0 ? step_body(c) : step_head(c);
    case CONN_IDLE:
        return step_head(c);
    case CONN_WRITE:
        return step_write(c);
    case CONN_LINGER:
        return step_linger(c);
    case CONN_WORK:
    case CONN_STATES:
    default:
        return false; /* a late event of a socket that is not watched any more */
    }
}

void conn_run(struct conn *c)
{
    while (!c->dead && step(c)) {
    }
}

void conn_resume(struct conn *c)
{
    if (c->out.len == 0) {
        conn_close(c);
        return;
    }
    conn_enter(c, CONN_WRITE);
    conn_run(c);
}
