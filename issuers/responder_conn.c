/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* One connection on a challenge port: a CA's validation, or a stranger. Everything is bounded: 8
 * KiB of request, the operation's deadline, one answer, close. Sockets are non-blocking. */

#define HEAD_MAX (8u * 1024)

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

/* Read up to the empty line. False when it never comes. */
static bool read_head(const struct cm_op *op, int fd, char *buf, size_t size)
{
    size_t len = 0;
    while (len + 1 < size) {
        ssize_t n = recv(fd, buf + len, size - 1 - len, 0);
        if (n == 0)
            return false;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if ((errno != EAGAIN && errno != EWOULDBLOCK) || !ready(op, fd, POLLIN))
                return false;
            continue;
        }
        len += (size_t)n;
        buf[len] = '\0';
        if (memchr(buf, '\0', len) != NULL)
            return false;
        if (strstr(buf, "\r\n\r\n") != NULL)
            return true;
    }
    return false;
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
    (void)shutdown(fd, SHUT_WR);
}

void cm_responder_serve_http(const struct cm_issuer_host *host, const struct cm_op *op, int fd)
{
    static const char bad[] = "bad request\n";
    static const char none[] = "no such challenge\n";
    const struct cm_op within = cm_op_within(op, 5 * CM_NS_PER_S);
    CM_AUTO_FREE char *buf = cm_calloc(1, HEAD_MAX + 1);
    CM_AUTO_BUF struct cm_buf body = CM_BUF_INIT(1024);
    struct request req;

    if (buf == NULL || !read_head(&within, fd, buf, HEAD_MAX + 1))
        return;
    if (!parse_head(buf, &req)) {
        reply(&within, fd, "400 Bad Request", bad, sizeof bad - 1);
        return;
    }
    cm_status rc =
        cm_http01_handle(host->config, &within, req.method, req.host, req.path, &body, NULL);
    if (rc == CM_OK)
        reply(&within, fd, "200 OK", cm_buf_str(&body),
              strcmp(req.method, "HEAD") == 0 ? 0 : body.len);
    else
        reply(&within, fd, "404 Not Found", none, sizeof none - 1);
}

static bool handshake(const struct cm_op *op, gnutls_session_t session, int fd)
{
    for (;;) {
        int rc = gnutls_handshake(session);
        if (rc == GNUTLS_E_SUCCESS)
            return true;
        if (rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED) {
            if (gnutls_error_is_fatal(rc) == 0)
                continue;
            (void)gnutls_alert_send_appropriate(session, rc);
            return false;
        }
        bool writing = gnutls_record_get_direction(session) == 1;
        if (!ready(op, writing ? fd : cm_tls_wait_fd(session), writing ? POLLOUT : POLLIN))
            return false;
    }
}

void cm_responder_serve_tls(const struct cm_issuer_host *host, const struct cm_op *op, int fd)
{
    gnutls_session_t session = NULL;

    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) != 0)
        return;
    /* The handshake is all there is: the CA looks at the certificate and leaves. */
    if (cm_config_tls_setup(host->config, session, fd, NULL) == CM_OK && handshake(op, session, fd))
        (void)gnutls_bye(session, GNUTLS_SHUT_WR);
    gnutls_deinit(session);
    (void)shutdown(fd, SHUT_WR);
}
