/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The gate door: our transport under a GnuTLS session. GnuTLS cannot pause between the ClientHello
 * and the choice of a certificate, but it can be told that nothing has arrived yet. So the hello is
 * collected and decided on here, and GnuTLS gets to see its first byte only when the answer is
 * known. After that the gate is a thin layer over recv() and send(), without read-ahead: an
 * application that polls the socket must never miss bytes that lie here. */

#define READ_MAX 2048u /* nearly every hello comes in one read of this size */

enum gate_result {
    GATE_READY,   /* GnuTLS may read */
    GATE_NOT_YET, /* the wait ended first */
    GATE_FAILED   /* io_errno says why */
};

static enum gate_result fail(struct cm_tls_session *st, int sys_errno)
{
    st->io_errno = sys_errno;
    return GATE_FAILED;
}

static bool is_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_NONBLOCK) == 0;
}

static int64_t now_ns(const struct cm_tls_session *st)
{
    const struct cm_env *env = cm_config_env(st->cfg);

    return env->mono_ns(env);
}

/* 1 readable, 0 not by @until_ns, -1 with io_errno. */
static int wait_readable(struct cm_tls_session *st, int fd, int64_t until_ns)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int64_t left = until_ns - now_ns(st);
        int ms = left <= 0                              ? 0
                 : left > INT64_C(60000) * CM_NS_PER_MS ? 60000
                                                        : (int)(left / CM_NS_PER_MS) + 1;
        int n = poll(&p, 1, ms);

        if (n > 0)
            return 1;
        if (n < 0 && errno != EINTR) {
            st->io_errno = errno;
            return -1;
        }
        if (left <= 0)
            return 0;
    }
}

/* A plaintext alert of our own, for a hello that GnuTLS never gets to see whole. */
static void send_alert(struct cm_tls_session *st, int alert)
{
    const uint8_t record[] = { 21, 3, 3, 0, 2, 2, (uint8_t)alert };

    (void)send(st->fd, record, sizeof record, MSG_NOSIGNAL | MSG_DONTWAIT);
    st->alert_sent = true;
}

/* ------------------------------------------------------------------ collecting */

static void set_challenge_deadline(struct cm_tls_session *st)
{
    int64_t soon = now_ns(st) + CM_TLS_CHALLENGE_NS;

    /* A CA's validation is two round trips; nobody may park on that door. The answer itself may
     * have to come from storage, which is waited for separately. */
    if (st->challenge && soon < st->deadline_ns)
        st->deadline_ns = soon;
}

static void open_gate(struct cm_tls_session *st)
{
    cm_record_scan_free(&st->scan);
    st->gate = CM_GATE_OPEN;
    set_challenge_deadline(st);
}

/* From here on the bytes are for GnuTLS. */
static enum gate_result reframe(struct cm_tls_session *st)
{
    struct cm_buf out = CM_BUF_INIT(CM_TLS_RAW_MAX + CM_TLS_HELLO_MAX);

    if (st->scan.in_place)
        return GATE_READY;
    if (cm_record_reframe(&st->scan, cm_buf_span(&st->raw), &out, NULL) != CM_OK) {
        cm_buf_free(&out);
        return fail(st, ENOMEM);
    }
    cm_buf_free(&st->raw);
    st->raw = out;
    return GATE_READY;
}

/* Look at what has been received. */
static enum gate_result look(struct cm_tls_session *st)
{
    struct cm_span raw = cm_buf_span(&st->raw);

    switch (cm_record_scan(&st->scan, raw, CM_TLS_HELLO_MAX)) {
    case CM_RECORD_MORE:
        return GATE_NOT_YET;
    case CM_RECORD_HELLO:
        cm_tls_decide(st, cm_record_hello(&st->scan, raw));
        if (reframe(st) == GATE_FAILED)
            return GATE_FAILED;
        if (st->pending != NULL)
            st->gate = CM_GATE_PENDING;
        else
            open_gate(st);
        return GATE_READY;
    case CM_RECORD_PASS:
        open_gate(st);
        return GATE_READY;
    case CM_RECORD_LIMIT:
    default:
        cm_tls_refuse(st, CM_E_LIMIT, CM_ALERT_DECODE_ERROR, NULL);
        send_alert(st, CM_ALERT_DECODE_ERROR);
        return fail(st, EMSGSIZE);
    }
}

/* Read once. GATE_READY: look again; GATE_NOT_YET: nothing there. */
static enum gate_result read_more(struct cm_tls_session *st)
{
    /* By way of the stack: what is kept until the answer is there is no larger than what came. */
    uint8_t chunk[READ_MAX];
    size_t room = st->raw.max - st->raw.len;
    ssize_t n;

    if (room == 0) {
        cm_tls_refuse(st, CM_E_LIMIT, CM_ALERT_DECODE_ERROR, NULL);
        send_alert(st, CM_ALERT_DECODE_ERROR);
        return fail(st, EMSGSIZE);
    }
    do {
        n = recv(st->fd, chunk, room < sizeof chunk ? room : sizeof chunk, 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? GATE_NOT_YET : fail(st, errno);
    if (n == 0) {
        open_gate(st); /* GnuTLS meets the end of file behind what there is */
        return GATE_READY;
    }
    if (cm_buf_append(&st->raw, chunk, (size_t)n, NULL) != CM_OK)
        return fail(st, ENOMEM);
    return look(st) == GATE_FAILED ? GATE_FAILED : GATE_READY;
}

/* Go on until the gate is open. @until_ns 0: never wait. */
static enum gate_result advance(struct cm_tls_session *st, int64_t until_ns)
{
    while (st->io_errno == 0 && st->gate != CM_GATE_OPEN) {
        bool pending = st->gate == CM_GATE_PENDING;
        enum gate_result r;
        int ready;

        if (pending && cm_tls_poll(st)) {
            open_gate(st);
            break;
        }
        if (until_ns != 0) {
            /* A pending answer may be overdue before the caller's patience ends. */
            int64_t end =
                pending && st->pending_until_ns < until_ns ? st->pending_until_ns : until_ns;

            ready = wait_readable(st, pending ? cm_pending_fd(st->pending) : st->fd, end);
            if (ready < 0)
                return GATE_FAILED;
            if (ready == 0 && end == until_ns)
                return GATE_NOT_YET;
        }
        if (pending) {
            if (until_ns == 0)
                return GATE_NOT_YET;
            continue;
        }
        r = read_more(st);
        if (r == GATE_FAILED || (r == GATE_NOT_YET && until_ns == 0))
            return r;
    }
    return st->io_errno != 0 ? GATE_FAILED : GATE_READY;
}

/* ------------------------------------------------------- what GnuTLS calls: in */

static ssize_t with_errno(struct cm_tls_session *st, int sys_errno)
{
    gnutls_transport_set_errno(st->session, sys_errno);
    errno = sys_errno;
    return -1;
}

static ssize_t replay(struct cm_tls_session *st, void *data, size_t size)
{
    size_t left = st->raw.len - st->raw_used;
    size_t n = size < left ? size : left;

    memcpy(data, st->raw.data + st->raw_used, n);
    st->raw_used += n;
    if (st->raw_used == st->raw.len) {
        cm_buf_free(&st->raw);
        st->raw_used = 0;
    }
    return (ssize_t)n;
}

static ssize_t gate_pull(gnutls_transport_ptr_t ptr, void *data, size_t size)
{
    struct cm_tls_session *st = ptr;
    ssize_t n;

    if (st->io_errno != 0)
        return with_errno(st, st->io_errno);
    if (st->gate != CM_GATE_OPEN) {
        switch (advance(st, is_blocking(st->fd) ? st->deadline_ns : 0)) {
        case GATE_READY:
            break;
        case GATE_NOT_YET:
            return with_errno(st, is_blocking(st->fd) ? ETIMEDOUT : EAGAIN);
        case GATE_FAILED:
        default:
            return with_errno(st, st->io_errno);
        }
    }
    if (st->raw.len > 0)
        return replay(st, data, size);
    n = recv(st->fd, data, size, 0);
    return n < 0 ? with_errno(st, errno) : n;
}

/* GnuTLS asks this before it pulls when a time limit is set. On a non-blocking socket waiting is
 * the application's business: the pull answers EAGAIN by itself. */
static int gate_pull_timeout(gnutls_transport_ptr_t ptr, unsigned int ms)
{
    struct cm_tls_session *st = ptr;
    int64_t until;
    int ready;

    if (st->io_errno != 0 || !is_blocking(st->fd))
        return 1;
    if (st->gate == CM_GATE_OPEN && st->raw.len > 0)
        return 1;
    until = ms == GNUTLS_INDEFINITE_TIMEOUT ? INT64_MAX : now_ns(st) + (int64_t)ms * CM_NS_PER_MS;
    if (st->challenge && st->gate != CM_GATE_PENDING && st->deadline_ns < until)
        until = st->deadline_ns;
    if (st->gate != CM_GATE_OPEN)
        return advance(st, until) == GATE_NOT_YET ? 0 : 1;
    ready = wait_readable(st, st->fd, until);
    return ready == 0 ? 0 : 1;
}

/* ------------------------------------------------------ what GnuTLS calls: out */

static ssize_t gate_push_vec(gnutls_transport_ptr_t ptr, const giovec_t *iov, int n_iov)
{
    struct cm_tls_session *st = ptr;
    struct msghdr msg = { 0 };
    ssize_t n;

    if (st->alert_sent) {
        size_t all = 0;

        for (int i = 0; i < n_iov; i++)
            all += iov[i].iov_len;
        return (ssize_t)all;
    }
    /* giovec_t is struct iovec under another name; GnuTLS's own transport casts as well. */
    msg.msg_iov = (struct iovec *)(uintptr_t)iov;
    msg.msg_iovlen = (size_t)n_iov;
    n = sendmsg(st->fd, &msg, MSG_NOSIGNAL);
    return n < 0 ? with_errno(st, errno) : n;
}

void cm_tls_gate_install(struct cm_tls_session *st)
{
    int64_t wait_ns = cm_config_handshake_wait_ns(st->cfg);
    int64_t limit = CM_TLS_HS_NS;

    /* Longer only where the wait for a certificate alone would use it up. */
    if (wait_ns + 2 * CM_NS_PER_S > limit)
        limit = wait_ns + 2 * CM_NS_PER_S;
    st->deadline_ns = now_ns(st) + limit;
    gnutls_handshake_set_timeout(st->session, (unsigned)(limit / CM_NS_PER_MS));
    gnutls_transport_set_ptr(st->session, st);
    gnutls_transport_set_pull_function(st->session, gate_pull);
    gnutls_transport_set_pull_timeout_function(st->session, gate_pull_timeout);
    gnutls_transport_set_vec_push_function(st->session, gate_push_vec);
}
