/* SPDX-License-Identifier: Apache-2.0 */
#include "responder.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define NON_FATAL_MAX 16 /* warning alerts and the like that one handshake may contain */

/* One connection on a challenge port: a CA's validation, or a stranger. Everything is bounded: 8
 * KiB of request, a deadline, one answer, close. Sockets are non-blocking. */

void cm_rconn_free(struct cm_rconn *c)
{
    if (c->session != NULL)
        gnutls_deinit(c->session);
    (void)shutdown(c->fd, SHUT_WR);
    (void)close(c->fd);
    free(c->head);
    free(c);
}

/* --------------------------------------------------------------------- http-01 */

/* Wait until @fd is ready for @events; false at the deadline or on cancel. */
static bool ready(const struct cm_op *op, int fd, short events)
{
    struct pollfd p[2] = { { fd, events, 0 }, { cm_cancel_fd(op->cancel), POLLIN, 0 } };
    int64_t left = cm_op_remaining_ns(op, 60 * CM_NS_PER_S);
    if (left <= 0)
        return false;
    int n = poll(p, op->cancel == NULL ? 1 : 2, (int)(left / CM_NS_PER_MS) + 1);
    return n > 0 ? p[0].revents != 0 : n < 0 && errno == EINTR;
}

static bool send_all(const struct cm_op *op, int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (n < 0 && errno != EINTR &&
                   ((errno != EAGAIN && errno != EWOULDBLOCK) || !ready(op, fd, POLLOUT))) {
            return false;
        }
    }
    return true;
}

/* Read up to the empty line. */
static enum cm_rconn_next step_http(struct cm_rconn *c)
{
    if (c->head == NULL && (c->head = cm_calloc(1, RESPONDER_HEAD_MAX + 1)) == NULL)
        return CM_RCONN_CLOSE;
    while (c->len < RESPONDER_HEAD_MAX) {
        ssize_t n = recv(c->fd, c->head + c->len, RESPONDER_HEAD_MAX - c->len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? CM_RCONN_READ
                                                                      : CM_RCONN_CLOSE;
        c->len += (size_t)n;
        c->head[c->len] = '\0';
        if (memchr(c->head, '\0', c->len) != NULL)
            return CM_RCONN_CLOSE;
        if (strstr(c->head, "\r\n\r\n") != NULL)
            return CM_RCONN_ANSWER;
    }
    return CM_RCONN_CLOSE;
}

struct request {
    char *method, *path, *host;
};

/* In place. False for anything but "METHOD /path HTTP/1.x" with one Host. */
static bool parse_head(char *buf, struct request *ret)
{
    char *eol = strstr(buf, "\r\n");
    if (eol == NULL)
        return false;
    *eol = '\0';
    char *sp1 = strchr(buf, ' ');
    char *sp2 = sp1 == NULL ? NULL : strchr(sp1 + 1, ' ');
    if (sp2 == NULL || strncmp(sp2 + 1, "HTTP/1.", 7) != 0 || sp1[1] != '/')
        return false;
    *sp1 = *sp2 = '\0';
    ret->method = buf;
    ret->path = sp1 + 1;
    ret->host = NULL;
    for (char *line = eol + 2; (eol = strstr(line, "\r\n")) != NULL && eol != line;
         line = eol + 2) {
        *eol = '\0';
        if (strncasecmp(line, "host:", 5) != 0)
            continue;
        if (ret->host != NULL)
            return false;
        ret->host = line + 5 + strspn(line + 5, " \t");
        for (char *end = ret->host + strlen(ret->host);
             end > ret->host && (end[-1] == ' ' || end[-1] == '\t');)
            *--end = '\0';
    }
    return ret->host != NULL;
}

static void reply(const struct cm_op *op, int fd, const char *status, const char *body, size_t len)
{
    char head[200];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                     "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
                     status, len);
    if (n > 0 && (size_t)n < sizeof head && send_all(op, fd, head, (size_t)n))
        (void)send_all(op, fd, body, len);
}

void cm_rconn_answer(const struct cm_issuer_host *host, const struct cm_op *op, struct cm_rconn *c)
{
    static const char bad[] = "bad request\n";
    static const char none[] = "no such challenge\n";
    CM_AUTO_BUF struct cm_buf body = CM_BUF_INIT(1024);
    struct request req;

    if (!parse_head(c->head, &req)) {
        reply(op, c->fd, "400 Bad Request", bad, sizeof bad - 1);
        return;
    }
    cm_status rc = cm_http01_handle(host->config, op, req.method, req.host, req.path, &body, NULL);
    if (rc == CM_OK)
        reply(op, c->fd, "200 OK", cm_buf_str(&body),
              strcmp(req.method, "HEAD") == 0 ? 0 : body.len);
    else
        reply(op, c->fd, "404 Not Found", none, sizeof none - 1);
}

/* ----------------------------------------------------------------- tls-alpn-01 */

static bool start_session(struct cm_responder *r, struct cm_rconn *c)
{
    if (gnutls_init(&c->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0) {
        c->session = NULL;
        return false;
    }
    return cm_config_tls_setup(r->host->config, c->session, c->fd, NULL) == CM_OK;
}

/* The hello is in, and is a validation's: two round trips are left. The answer itself may have to
 * come from storage; core sees to it that that ends. */
static void hurry(struct cm_responder *r, struct cm_rconn *c)
{
    const struct cm_env *env = cm_responder_env(r);

    if (c->hurried || c->wait_fd != c->fd || !cm_tls_is_challenge(c->session))
        return;
    c->hurried = true;
    c->deadline_ns = env->mono_ns(env) + RESPONDER_CHALLENGE_NS;
}

static enum cm_rconn_next step_tls(struct cm_responder *r, struct cm_rconn *c)
{
    int rc = GNUTLS_E_INTERNAL_ERROR;

    if (c->session == NULL && !start_session(r, c))
        return CM_RCONN_CLOSE;
    for (int i = 0; i < NON_FATAL_MAX; i++) {
        rc = gnutls_handshake(c->session);
        if (rc == GNUTLS_E_AGAIN) {
            bool writing = gnutls_record_get_direction(c->session) == 1;
            c->wait_fd = writing ? c->fd : cm_tls_wait_fd(c->session);
            hurry(r, c);
            return writing ? CM_RCONN_WRITE : CM_RCONN_READ;
        }
        if (rc == GNUTLS_E_SUCCESS || gnutls_error_is_fatal(rc) != 0)
            break;
    }
    /* The handshake is all there is: the CA looks at the certificate and leaves. */
    if (rc == GNUTLS_E_SUCCESS)
        (void)gnutls_bye(c->session, GNUTLS_SHUT_WR);
    else
        (void)gnutls_alert_send_appropriate(c->session, rc);
    return CM_RCONN_CLOSE;
}

enum cm_rconn_next cm_rconn_step(struct cm_responder *r, struct cm_rconn *c)
{
    return r->kind == CM_RESPONDER_HTTP ? step_http(c) : step_tls(r, c);
}
