/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define REPLY_MAX (64u * 1024 * 1024)

void client_connect(struct client *c, uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct timeval patience = { .tv_sec = 5 };

    *c = (struct client){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (c->fd < 0)
        return;
    (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(c->fd, (const struct sockaddr *)(const void *)&a, sizeof a) != 0) {
        (void)close(c->fd);
        c->fd = -1;
    }
}

int client_tls(struct client *c, uint16_t port, const char *name, const char *alpn)
{
    int rc;

    client_connect(c, port);
    if (c->fd < 0)
        return GNUTLS_E_PUSH_ERROR;
    CM_ASSERT(gnutls_init(&c->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL) == 0);
    CM_ASSERT(gnutls_certificate_allocate_credentials(&c->cred) == 0);
    CM_ASSERT(gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, c->cred) == 0);
    CM_ASSERT(gnutls_set_default_priority(c->session) == 0);
    CM_ASSERT(gnutls_server_name_set(c->session, GNUTLS_NAME_DNS, name, strlen(name)) == 0);
    if (alpn != NULL) {
        const gnutls_datum_t d = { (unsigned char *)(uintptr_t)alpn, (unsigned)strlen(alpn) };

        CM_ASSERT(gnutls_alpn_set_protocols(c->session, &d, 1, 0) == 0);
    }
    gnutls_transport_set_int(c->session, c->fd);
    do
        rc = gnutls_handshake(c->session);
    while (rc < 0 && rc != GNUTLS_E_AGAIN && gnutls_error_is_fatal(rc) == 0);
    return rc;
}

void client_send(struct client *c, const char *text)
{
    size_t len = strlen(text);

    if (c->session != NULL)
        (void)gnutls_record_send(c->session, text, len);
    else
        (void)!send(c->fd, text, len, MSG_NOSIGNAL);
}

/* > 0 bytes, 0 end, -1 out of patience. A reset counts as the end. */
static ssize_t receive(struct client *c, void *buf, size_t size)
{
    ssize_t n;

    if (c->session == NULL) {
        n = recv(c->fd, buf, size, 0);
        return n < 0 && errno != EAGAIN && errno != EWOULDBLOCK ? 0 : n;
    }
    for (int i = 0; i < 8; i++) {
        n = gnutls_record_recv(c->session, buf, size);
        if (n >= 0)
            return n;
        if (gnutls_error_is_fatal((int)n) != 0)
            return 0;
        if (n == GNUTLS_E_AGAIN && gnutls_record_check_pending(c->session) == 0) {
            struct pollfd p = { .fd = c->fd, .events = POLLIN };

            if (poll(&p, 1, 5000) <= 0)
                return -1;
        }
    }
    return -1;
}

char *client_read_all(struct client *c)
{
    struct cm_buf all = CM_BUF_INIT(REPLY_MAX);
    char chunk[16384];
    ssize_t n;
    char *r;

    while ((n = receive(c, chunk, sizeof chunk)) > 0)
        CM_ASSERT(cm_buf_append(&all, chunk, (size_t)n, NULL) == CM_OK);
    r = n < 0 ? NULL : cm_strndup(cm_buf_str(&all), all.len);
    cm_buf_free(&all);
    return r;
}

char *client_read_one(struct client *c, bool head)
{
    struct cm_buf all = CM_BUF_INIT(REPLY_MAX);
    const char *end, *length;
    size_t want = SIZE_MAX;
    char byte;
    char *r;

    while (all.len < want && receive(c, &byte, 1) == 1) {
        CM_ASSERT(cm_buf_append(&all, &byte, 1, NULL) == CM_OK);
        end = want == SIZE_MAX ? strstr(cm_buf_str(&all), "\r\n\r\n") : NULL;
        if (end != NULL) {
            length = strstr(cm_buf_str(&all), "Content-Length: ");
            want = all.len + (head || length == NULL ? 0 : strtoul(length + 16, NULL, 10));
        }
    }
    r = all.len == want ? cm_strndup(cm_buf_str(&all), all.len) : NULL;
    cm_buf_free(&all);
    return r;
}

long client_wait_closed(struct client *c, int ms)
{
    const struct cm_env *env = cm_env_system();
    int64_t end = env->mono_ns(env) + ms * CM_NS_PER_MS;
    char chunk[4096];
    long got = 0;

    for (;;) {
        int64_t left = (end - env->mono_ns(env)) / CM_NS_PER_MS;
        struct pollfd p = { .fd = c->fd, .events = POLLIN };
        ssize_t n;

        if (left < 0 || poll(&p, 1, (int)left) <= 0)
            return -1;
        n = recv(c->fd, chunk, sizeof chunk, 0);
        if (n <= 0)
            return got;
        got += n;
    }
}

void client_close(struct client *c)
{
    if (c->session != NULL) {
        gnutls_deinit(c->session);
        gnutls_certificate_free_credentials(c->cred);
    }
    if (c->fd >= 0)
        (void)close(c->fd);
    *c = (struct client){ .fd = -1 };
}

uint16_t free_port(void)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    CM_ASSERT(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    CM_ASSERT(bind(fd, (const struct sockaddr *)(const void *)&a, sizeof a) == 0);
    CM_ASSERT(getsockname(fd, (struct sockaddr *)(void *)&a, &len) == 0);
    (void)close(fd);
    return ntohs(a.sin6_port);
}
