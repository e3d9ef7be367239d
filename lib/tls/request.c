/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void answer(struct conn *c, int status, const char *extra, bool close)
{
    c->close_after = c->close_after || close;
    reply_status(c, status, extra);
    if (c->out.len > 0)
        conn_enter(c, CONN_WRITE);
    else
        conn_close(c);
}

/* -------------------------------------------------------------------- workers */

static void work_handler(void *arg)
{
    struct conn *c = arg;
    struct server *s = c->server;

    if (!server_is_stopping(s)) {
        s->handler(s->user, &c->x);
        if (!c->x.replied)
            reply_status(c, 500, NULL);
    }
    server_hand_back(c);
}

static void work_http01(void *arg)
{
    struct conn *c = arg;
    struct server *s = c->server;
    CM_AUTO_BUF struct cm_buf body = CM_BUF_INIT(1024);
    struct cm_op op = { .env = s->env };
    struct cm_op bounded = cm_op_within(&op, s->limit_ns[CONN_HEAD]);
    const bool v6 = strchr(c->x.host, ':') != NULL;
    cm_status rc = CM_E_CANCELED;
    char host[CM_NAME_BUF + 2]; /* as a Host header has it */

    (void)snprintf(host, sizeof host, "%s%s%s", v6 ? "[" : "", c->x.host, v6 ? "]" : "");
    if (!server_is_stopping(s))
        rc = cm_http01_handle(s->cfg, &bounded, c->x.method, host, c->x.target, &body, NULL);
    if (rc != CM_OK || cm_http_reply(&c->x, 200, NULL, cm_buf_span(&body), NULL) != CM_OK)
        reply_status(c, 404, NULL);
    server_hand_back(c);
}

static void to_worker(struct conn *c, cm_task_fn fn)
{
    conn_enter(c, CONN_WORK);
    if (cm_pool_submit(c->server->pool, fn, c, NULL) != CM_OK)
        answer(c, 503, "Retry-After: 1\r\n", true);
}

/* ------------------------------------------------------------------- redirect */

/* 308: permanent, and the method stays what it was (RFC 9110 15.4.9). The host is the one that was
 * asked for, after it has passed for a name or an address; nothing else of the request gets into
 * the reply. */
static void redirect(struct conn *c)
{
    CM_AUTO_BUF struct cm_buf extra = CM_BUF_INIT(4 * CM_HTTP_LINE_MAX);
    bool v6 = strchr(c->x.host, ':') != NULL;
    uint16_t port = c->server->redirect_port;
    cm_status rc;

    if (c->x.host[0] == '\0') {
        answer(c, 400, NULL, true);
        return;
    }
    rc = cm_buf_printf(&extra, NULL, "Location: https://%s%s%s", v6 ? "[" : "", c->x.host,
                       v6 ? "]" : "");
    if (rc == CM_OK && port != 443)
        rc = cm_buf_printf(&extra, NULL, ":%u", port);
    if (rc == CM_OK)
        rc = reply_put_target(&extra, c->x.target, strlen(c->x.target));
    if (rc == CM_OK)
        rc = cm_buf_puts(&extra, "\r\n", NULL);
    if (rc == CM_OK)
        answer(c, 308, cm_buf_str(&extra), true);
    else
        answer(c, 414, NULL, true);
}

/* -------------------------------------------------------------------- requests */

static void read_peer(struct conn *c)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;

    if (c->peer[0] != '\0' || getpeername(c->fd, (struct sockaddr *)(void *)&ss, &len) != 0)
        return;
    const struct in6_addr *a6 = &((const struct sockaddr_in6 *)(const void *)&ss)->sin6_addr;

    if (ss.ss_family == AF_INET)
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)&ss)->sin_addr,
                        c->peer, sizeof c->peer);
    else if (ss.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(a6))
        (void)inet_ntop(AF_INET, &a6->s6_addr[12], c->peer, sizeof c->peer);
    else if (ss.ss_family == AF_INET6)
        (void)inet_ntop(AF_INET6, a6, c->peer, sizeof c->peer);
}

/* 0 or the status to answer with. */
static int take_head(struct conn *c, const struct cm_http_head *h)
{
    char host[CM_NAME_BUF];

    c->x.conn = c;
    memcpy(c->x.method, h->method.data, h->method.len);
    c->x.target = cm_strndup((const char *)h->target.data, h->target.len);
    if (c->x.target == NULL)
        return 503;
    if (h->host.len >= sizeof host)
        return 400;
    if (h->host.len > 0) {
        memcpy(host, h->host.data, h->host.len);
        host[h->host.len] = '\0';
        if (cm_name_normalize(host, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, c->x.host, NULL) !=
            CM_OK)
            return 400;
    }
    c->minor = h->minor;
    c->head_only = strcmp(c->x.method, "HEAD") == 0;
    c->close_after = !h->keep_alive || !c->tls;
    if (h->chunked)
        return 411;
    if (h->content_length > SERVER_BODY_MAX)
        return 413;
    if (h->content_length > 0 && h->expect_continue)
        c->close_after = true; /* answered without asking for the body; what comes is lingered on */
    else
        c->skip = h->content_length;
    return 0;
}

void request_start(struct conn *c, size_t head_len)
{
    struct cm_http_head h;
    int status = cm_http_head_parse((struct cm_span){ c->in.data, head_len }, &h);

    c->minor = 1;
    c->head_only = false;
    c->close_after = false;
    if (status == 0)
        status = take_head(c, &h);
    if (status != 0) {
        c->skip = 0;
        answer(c, status, status == 405 ? "Allow: GET, HEAD\r\n" : NULL, true);
        return;
    }
    read_peer(c);
    memmove(c->in.data, c->in.data + head_len, c->in.len - head_len);
    c->in.len -= head_len;
    if (c->skip == 0)
        request_dispatch(c);
}

void request_dispatch(struct conn *c)
{
    if (c->tls)
        to_worker(c, work_handler);
    else if (cm_validation_is_ours(c->server->cfg, c->x.method, c->x.target))
        to_worker(c, work_http01);
    else
        redirect(c);
}
