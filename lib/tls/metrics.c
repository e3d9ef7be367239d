/* SPDX-License-Identifier: Apache-2.0 */
#include "http1.h"
#include "tls.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Plain HTTP for whoever scrapes: GET /metrics, one request a connection. A port of its own, so
 * that it can be where only the operator's machines get to. Whoever stalls costs one of a few
 * workers for a while, and never anything that serves TLS. */

#define WORKERS   4u
#define WAITING   16u                /* connections that no worker has yet; more are closed */
#define HEAD_NS   (5 * CM_NS_PER_S)  /* for the whole of a request */
#define STALL_NS  (10 * CM_NS_PER_S) /* a write without progress */
#define ANSWER_NS (60 * CM_NS_PER_S) /* for the whole of an answer: 10^5 names are 40 MB */
#define LINGER_NS CM_NS_PER_S
#define PAUSE_NS  (100 * CM_NS_PER_MS) /* out of descriptors */

static const char loopback[] = "127.0.0.1";

struct cm_metrics_listener {
    struct cm_config *cfg;
    struct cm_tls_sockets sockets;
    struct cm_cancel *stop;
    struct cm_pool *pool;
    pthread_t thread;
    bool running;
};

struct scrape {
    struct cm_metrics_listener *l;
    int fd;
    struct cm_op op; /* of the answer */
    bool chunked;
};

/* ---- one connection ---- */

/* The listener measures on the real clock: sockets do, too. */
static struct cm_op within(const struct cm_metrics_listener *l, int64_t ns)
{
    const struct cm_op op = { NULL, 0, l->stop };

    return cm_op_within(&op, ns);
}

/* Until @fd is ready for @events, @cap_ns have passed, or @op ends. */
static cm_status await(int fd, short events, const struct cm_op *op, int64_t cap_ns,
                       struct cm_err *err)
{
    struct pollfd p[2] = { { .fd = fd, .events = events },
                           { .fd = cm_cancel_fd(op->cancel), .events = POLLIN } };
    int64_t left = cm_op_remaining_ns(op, cap_ns);
    int n = poll(p, 2, (int)((left + CM_NS_PER_MS - 1) / CM_NS_PER_MS));

    cm_status rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return rc;
    if (n == 0)
        return cm_fail(err, CM_E_TIMEOUT, "the peer has stalled");
    return n < 0 && errno != EINTR ? cm_fail_errno(err, "wait for the peer") : CM_OK;
}

static cm_status send_all(struct scrape *s, struct cm_span data, struct cm_err *err)
{
    cm_status rc = CM_OK;

    while (data.len > 0 && rc == CM_OK) {
        ssize_t n = send(s->fd, data.data, data.len, MSG_NOSIGNAL);

        if (n > 0) {
            data.data += n;
            data.len -= (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            rc = await(s->fd, POLLOUT, &s->op, STALL_NS, err);
        } else if (errno != EINTR) {
            rc = cm_fail_errno(err, "send metrics");
        }
    }
    return rc;
}

/* In chunks, so that a text which was cut short is seen to be: half of the metrics would look like
 * half of the certificates. */
static cm_status write_piece(void *user, struct cm_span text, struct cm_err *err)
{
    struct scrape *s = user;
    char size[24];
    cm_status rc = CM_OK;

    if (text.len == 0)
        return CM_OK;
    (void)snprintf(size, sizeof size, "%zx\r\n", text.len);
    if (s->chunked)
        rc = send_all(s, cm_span_str(size), err);
    if (rc == CM_OK)
        rc = send_all(s, text, err);
    if (rc == CM_OK && s->chunked)
        rc = send_all(s, cm_span_str("\r\n"), err);
    return rc;
}

static void answer_short(struct scrape *s, int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = { { 400, "Bad Request" },        { 404, "Not Found" },
                    { 405, "Method Not Allowed" }, { 414, "URI Too Long" },
                    { 417, "Expectation Failed" }, { 431, "Request Header Fields Too Large" },
                    { 501, "Not Implemented" },    { 505, "HTTP Version Not Supported" } };
    const char *reason = "Error";
    char text[256];

    for (size_t i = 0; i < CM_ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            reason = reasons[i].reason;
    (void)snprintf(text, sizeof text,
                   "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                   "%sConnection: close\r\n\r\n%s\n",
                   status, reason, strlen(reason) + 1, status == 405 ? "Allow: GET, HEAD\r\n" : "",
                   reason);
    (void)!send_all(s, cm_span_str(text), NULL);
}

static void answer_metrics(struct scrape *s, bool head_only)
{
    struct cm_err err = CM_ERR_INIT;
    char text[256];

    (void)snprintf(text, sizeof text,
                   "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                   "Cache-Control: no-store\r\n%sConnection: close\r\n\r\n",
                   s->chunked ? "Transfer-Encoding: chunked\r\n" : "");
    cm_status rc = send_all(s, cm_span_str(text), &err);
    if (rc == CM_OK && !head_only) {
        rc = cm_metrics_write(s->l->cfg, write_piece, s, &err);
        if (rc == CM_OK && s->chunked)
            rc = send_all(s, cm_span_str("0\r\n\r\n"), &err);
    }
    if (rc != CM_OK && rc != CM_E_CANCELED)
        cm_logf(cm_config_log(s->l->cfg), CM_LOG_DEBUG, "metrics_cut_short", NULL, 0,
                "the answer to a scrape was cut short: %s", err.msg);
}

static bool is_text(struct cm_span s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static void answer(struct scrape *s, struct cm_span text)
{
    struct cm_http_head h;
    int status = cm_http_head_parse(text, &h);
    bool head_only;

    if (status != 0) {
        answer_short(s, status);
        return;
    }
    head_only = is_text(h.method, "HEAD");
    const uint8_t *query = memchr(h.target.data, '?', h.target.len);
    if (query != NULL)
        h.target.len = (size_t)(query - h.target.data);
    if (!is_text(h.target, "/metrics")) {
        answer_short(s, 404);
    } else if (!head_only && !is_text(h.method, "GET")) {
        answer_short(s, 405);
    } else {
        s->chunked = h.minor > 0;
        s->op = within(s->l, ANSWER_NS);
        answer_metrics(s, head_only);
    }
}

/* 0 once the head is there, its length in *@ret_len; -1 when nothing can be said any more; else the
 * status to answer with. */
static int read_head(struct scrape *s, struct cm_buf *in, size_t *ret_len)
{
    struct cm_http_scan scan = { 0 };
    uint8_t chunk[1024];
    int status = 0;

    while (status == 0) {
        ssize_t n = recv(s->fd, chunk, sizeof chunk, 0);

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            return -1;
        if (n < 0 && await(s->fd, POLLIN, &s->op, HEAD_NS, NULL) != CM_OK)
            return -1;
        if (n > 0 && cm_buf_append(in, chunk, (size_t)n, NULL) != CM_OK)
            return 431;
        if (n > 0)
            status = cm_http_scan(&scan, cm_buf_span(in), ret_len);
    }
    return status == 1 ? 0 : status;
}

/* What the peer still sends is read for a moment: closing over it would reset the connection, and
 * the answer might be lost. */
static void part(struct scrape *s)
{
    struct cm_op op = within(s->l, LINGER_NS);
    uint8_t waste[1024];
    ssize_t n = 0;

    (void)shutdown(s->fd, SHUT_WR);
    for (;;) {
        n = recv(s->fd, waste, sizeof waste, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            break;
        if (n < 0 && await(s->fd, POLLIN, &op, LINGER_NS, NULL) != CM_OK)
            break;
        if (cm_op_check(&op, NULL) != CM_OK)
            break;
    }
}

static void serve(void *arg)
{
    CM_AUTO_BUF struct cm_buf in = CM_BUF_INIT(CM_HTTP_HEAD_MAX + 1024u);
    struct scrape *s = arg;
    size_t len = 0;

    s->op = within(s->l, HEAD_NS);
    int status = read_head(s, &in, &len);
    if (status == 0)
        answer(s, (struct cm_span){ in.data, len });
    else if (status > 0)
        answer_short(s, status);
    if (status >= 0)
        part(s);
    (void)close(s->fd);
    free(s);
}

/* ---- the port ---- */

static void take(struct cm_metrics_listener *l, int fd)
{
    struct scrape *s = cm_calloc(1, sizeof *s);

    if (s != NULL) {
        s->l = l;
        s->fd = fd;
        if (cm_pool_submit(l->pool, serve, s, NULL) == CM_OK)
            return;
    }
    free(s);
    (void)close(fd); /* too many: they come again */
}

static void *run(void *arg)
{
    struct cm_metrics_listener *l = arg;
    const struct cm_op op = { NULL, 0, l->stop };

    while (!cm_cancel_is_fired(l->stop)) {
        struct pollfd p[CM_TLS_SOCKETS_MAX + 1];
        nfds_t n = 0;

        for (; n < l->sockets.n; n++)
            p[n] = (struct pollfd){ .fd = l->sockets.fd[n], .events = POLLIN };
        p[n] = (struct pollfd){ .fd = cm_cancel_fd(l->stop), .events = POLLIN };
        (void)poll(p, n + 1, -1);
        for (nfds_t i = 0; i < n; i++) {
            int fd = p[i].revents != 0 ? cm_tls_sockets_accept(p[i].fd, true) : -1;

            if (fd >= 0)
                take(l, fd);
            else if (p[i].revents != 0 && cm_tls_accept_is_exhaustion(errno))
                (void)!cm_op_wait(&op, PAUSE_NS, NULL);
        }
    }
    return NULL;
}

cm_status cm_metrics_listen(struct cm_config *cfg, const char *host, uint16_t port,
                            struct cm_metrics_listener **ret, struct cm_err *err)
{
    struct cm_metrics_listener *l;

    if (cfg == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or nowhere to put the listener");
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return cm_fail_nomem(err);
    l->cfg = cfg;
    cm_status rc = cm_cancel_new(NULL, &l->stop, err);
    if (rc == CM_OK)
        rc = cm_tls_sockets_open(host != NULL ? host : loopback, port, &l->sockets, err);
    if (rc == CM_OK)
        rc = cm_pool_new(WORKERS, WAITING, &l->pool, err);
    if (rc == CM_OK) {
        rc = cm_thread_start(&l->thread, "cm-metrics", run, l, err);
        l->running = rc == CM_OK;
    }
    if (rc != CM_OK) {
        cm_metrics_close(l);
        return cm_wrap(err, rc, "metrics");
    }
    *ret = l;
    return CM_OK;
}

uint16_t cm_metrics_port(const struct cm_metrics_listener *l)
{
    return l->sockets.port;
}

void cm_metrics_close(struct cm_metrics_listener *l)
{
    if (l == NULL)
        return;
    cm_cancel_fire(l->stop);
    if (l->running)
        (void)pthread_join(l->thread, NULL);
    cm_pool_stop(l->pool);
    cm_tls_sockets_close(&l->sockets);
    cm_cancel_free(l->stop);
    free(l);
}
