/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* One question to one server. Each has a socket of its own, so a port of its own that the kernel
 * chose, and a random id: who cannot see the question can hardly answer it. The socket is
 * connected: what others send does not reach it, and that nobody listens is heard at once. */

struct exchange {
    const struct dns_server *s;
    const struct cm_op *op;           /* with the deadline of this try */
    uint8_t query[2 + DNS_QUERY_MAX]; /* after its length, as TCP wants it */
    size_t len;
    struct dns_message asked;
    int fd;
};

static cm_status await(const struct exchange *x, short events, struct cm_err *err)
{
    struct pollfd p[2] = { { x->fd, events, 0 }, { cm_cancel_fd(x->op->cancel), POLLIN, 0 } };

    for (;;) {
        cm_status rc = cm_op_check(x->op, NULL);
        if (rc == CM_E_CANCELED)
            return cm_op_check(x->op, err);
        int64_t ms = cm_op_remaining_ns(x->op, 60 * CM_NS_PER_S) / CM_NS_PER_MS;
        int n = poll(p, 2, (int)(rc == CM_OK ? ms + 1 : 0));
        if (n < 0 && errno != EINTR)
            return cm_fail_errno(err, "wait for DNS server %s", x->s->text);
        if (n > 0 && p[1].revents == 0)
            return CM_OK;
        if (n == 0 && rc != CM_OK)
            return cm_fail(err, CM_E_TIMEOUT, "DNS server %s does not answer", x->s->text);
    }
}

static cm_status failed(const struct exchange *x, const char *what, struct cm_err *err)
{
    cm_status rc = cm_fail_errno(err, "%s DNS server %s", what, x->s->text);

    /* A server that cannot be reached, not a file that is not there. */
    if (rc != CM_E_NOMEM && err != NULL)
        err->status = CM_E_NET;
    return rc == CM_E_NOMEM ? rc : CM_E_NET;
}

static cm_status open_socket(struct exchange *x, int type, struct cm_err *err)
{
    int one = 1;

    x->fd = socket(x->s->addr.any.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (x->fd < 0)
        return failed(x, "open a socket for", err);
    if (type == SOCK_STREAM)
        (void)setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(x->fd, &x->s->addr.any, x->s->len) == 0)
        return CM_OK;
    if (errno != EINPROGRESS)
        return failed(x, "connect to", err);
    cm_status rc = await(x, POLLOUT, err);
    if (rc != CM_OK)
        return rc;
    int e = 0;
    socklen_t size = sizeof e;
    if (getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &e, &size) != 0 || e == 0)
        return CM_OK;
    errno = e;
    return failed(x, "connect to", err);
}

/* Ours? The id, the question as it was asked; an answer without one only where it says no. */
static bool is_answer(const struct exchange *x, const struct dns_message *m)
{
    if ((m->flags & DNS_QR) == 0 || m->id != x->asked.id ||
        DNS_OPCODE(m->flags) != DNS_OPCODE(x->asked.flags))
        return false;
    if (m->counts[0] == 0)
        return DNS_RCODE(m->flags) != DNS_NOERROR || DNS_OPCODE(m->flags) == DNS_OPCODE_UPDATE;
    return m->qtype == x->asked.qtype && strcmp(m->qname, x->asked.qname) == 0;
}

static cm_status by_udp(struct exchange *x, struct cm_buf *ret, struct dns_message *m,
                        struct cm_err *err)
{
    uint8_t chunk[4096];
    cm_status rc = open_socket(x, SOCK_DGRAM, err);

    if (rc != CM_OK)
        return rc;
    if (send(x->fd, x->query + 2, x->len, MSG_NOSIGNAL) < 0)
        return failed(x, "ask", err);
    for (;;) {
        rc = await(x, POLLIN, err);
        if (rc != CM_OK)
            return rc;
        ssize_t n = recv(x->fd, chunk, sizeof chunk, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (n < 0)
            return failed(x, "ask", err);
        cm_buf_reset(ret);
        rc = cm_buf_append(ret, chunk, (size_t)n, err);
        if (rc != CM_OK)
            return rc;
        /* What is damaged is not ours either: somebody may be guessing. */
        if (dns_parse(cm_buf_span(ret), m, NULL) == CM_OK && is_answer(x, m))
            return CM_OK;
        /* Cut off in the middle of a record, as some servers do it. */
        if (n >= (ssize_t)DNS_HEADER_LEN && dns_get_u16(chunk) == x->asked.id &&
            (dns_get_u16(chunk + 2) & (DNS_QR | DNS_TC)) == (DNS_QR | DNS_TC)) {
            *m = (struct dns_message){ .flags = DNS_QR | DNS_TC };
            return CM_OK;
        }
        /* There may be something to read for ever. */
        if (cm_op_check(x->op, NULL) == CM_E_TIMEOUT)
            return cm_fail(err, CM_E_TIMEOUT, "DNS server %s does not answer", x->s->text);
    }
}

static cm_status read_all(struct exchange *x, uint8_t *data, size_t len, struct cm_err *err)
{
    while (len > 0) {
        ssize_t n = recv(x->fd, data, len, 0);
        if (n == 0)
            return cm_fail(err, CM_E_NET, "DNS server %s hangs up without an answer", x->s->text);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return failed(x, "read from", err);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        cm_status rc = await(x, POLLIN, err);
        if (rc != CM_OK)
            return rc;
    }
    return CM_OK;
}

static cm_status write_all(struct exchange *x, const uint8_t *data, size_t len, struct cm_err *err)
{
    while (len > 0) {
        ssize_t n = send(x->fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return failed(x, "write to", err);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        cm_status rc = await(x, POLLOUT, err);
        if (rc != CM_OK)
            return rc;
    }
    return CM_OK;
}

static cm_status by_tcp(struct exchange *x, struct cm_buf *ret, struct dns_message *m,
                        struct cm_err *err)
{
    uint8_t head[2];
    cm_status rc = open_socket(x, SOCK_STREAM, err);

    x->query[0] = (uint8_t)(x->len >> 8);
    x->query[1] = (uint8_t)x->len;
    if (rc == CM_OK)
        rc = write_all(x, x->query, 2 + x->len, err);
    if (rc == CM_OK)
        rc = read_all(x, head, sizeof head, err);
    if (rc != CM_OK)
        return rc;
    size_t len = dns_get_u16(head);
    cm_buf_reset(ret);
    rc = cm_buf_reserve(ret, len, err);
    if (rc == CM_OK)
        rc = read_all(x, ret->data, len, err);
    if (rc != CM_OK)
        return rc;
    ret->len = len;
    rc = dns_parse(cm_buf_span(ret), m, err);
    if (rc == CM_OK && !is_answer(x, m))
        rc = cm_fail(err, CM_E_PARSE, "the answer is to another question");
    return rc == CM_OK ? rc : cm_wrap(err, rc, "DNS server %s", x->s->text);
}

static void close_socket(struct exchange *x)
{
    if (x->fd >= 0)
        (void)close(x->fd);
    x->fd = -1;
}

cm_status dns_exchange(const struct dns_server *s, const struct cm_op *op, struct cm_span query,
                       bool tcp, int64_t timeout_ns, struct cm_buf *ret,
                       struct dns_message *ret_msg, struct cm_err *err)
{
    struct cm_op within = cm_op_within(op, timeout_ns);
    struct exchange x = { .s = s, .op = &within, .fd = -1, .len = query.len };

    if (query.len > DNS_QUERY_MAX)
        return cm_fail(err, CM_E_LIMIT, "a question of %zu bytes for DNS", query.len);
    memcpy(x.query + 2, query.data, query.len);
    cm_status rc = dns_parse(query, &x.asked, err);
    if (rc == CM_OK && !tcp) {
        rc = by_udp(&x, ret, ret_msg, err);
        close_socket(&x);
        tcp = rc == CM_OK && (ret_msg->flags & DNS_TC) != 0;
    }
    if (rc == CM_OK && tcp) {
        rc = by_tcp(&x, ret, ret_msg, err);
        close_socket(&x);
    }
    cm_status over = rc == CM_E_TIMEOUT ? cm_op_check(op, NULL) : CM_OK;
    return over == CM_E_CANCELED ? cm_op_check(op, err) : rc;
}
