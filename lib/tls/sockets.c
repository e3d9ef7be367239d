/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG       4096 /* the kernel takes the least of this and somaxconn */
#define PORT_ATTEMPTS 16   /* for a port that must be free in both families */

static cm_status fail_bind(struct cm_err *err, const char *host, uint16_t port)
{
    return cm_fail_errno(err, "listen on %s port %u", host == NULL ? "all addresses" : host, port);
}

static int open_one(const struct sockaddr *sa, socklen_t len)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    int saved;

    if (fd < 0)
        return -1;
    /* Two sockets, one per family: whether one IPv6 socket also takes IPv4 depends on a sysctl. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        (sa->sa_family != AF_INET6 ||
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
        bind(fd, sa, len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

uint16_t cm_tls_sockets_port_of(int fd)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;

    if (getsockname(fd, (struct sockaddr *)(void *)&ss, &len) != 0)
        return 0;
    if (ss.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&ss)->sin6_port);
    return ntohs(((const struct sockaddr_in *)(const void *)&ss)->sin_port);
}

static bool family_is_missing(int sys_errno)
{
    return sys_errno == EAFNOSUPPORT || sys_errno == EADDRNOTAVAIL || sys_errno == EPROTONOSUPPORT;
}

/* All addresses, on the same port in both families. */
static cm_status open_all(uint16_t port, struct cm_tls_sockets *ret, struct cm_err *err)
{
    for (int i = 0; i < PORT_ATTEMPTS; i++) {
        struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_in a4 = { .sin_family = AF_INET };
        uint16_t got = port;
        int fd6, fd4;

        fd6 = open_one((const struct sockaddr *)(const void *)&a6, sizeof a6);
        if (fd6 < 0 && !family_is_missing(errno))
            return fail_bind(err, NULL, port);
        if (fd6 >= 0)
            got = cm_tls_sockets_port_of(fd6);
        a4.sin_port = htons(got);
        fd4 = open_one((const struct sockaddr *)(const void *)&a4, sizeof a4);
        if (fd4 >= 0 || (fd6 >= 0 && family_is_missing(errno))) {
            if (fd6 >= 0)
                ret->fd[ret->n++] = fd6;
            if (fd4 >= 0)
                ret->fd[ret->n++] = fd4;
            ret->port = cm_tls_sockets_port_of(ret->fd[0]);
            return CM_OK;
        }
        (void)fail_bind(err, NULL, port);
        if (fd6 >= 0)
            (void)close(fd6);
        if (port != 0 || fd6 < 0)
            break;
    }
    return err != NULL ? err->status : CM_E_IO;
}

static cm_status open_host(const char *host, uint16_t port, struct cm_tls_sockets *ret,
                           struct cm_err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *list = NULL;
    char service[8];
    cm_status rc = CM_OK;
    int grc;

    (void)snprintf(service, sizeof service, "%u", port);
    grc = getaddrinfo(host, service, &hints, &list);
    if (grc != 0)
        return cm_fail(err, CM_E_INVAL, "listen address '%s': %s", host, gai_strerror(grc));
    for (struct addrinfo *a = list; a != NULL && ret->n < CM_TLS_SOCKETS_MAX; a = a->ai_next) {
        int fd = open_one(a->ai_addr, a->ai_addrlen);

        if (fd >= 0) {
            ret->fd[ret->n++] = fd;
        } else if (!family_is_missing(errno) || a->ai_next == NULL) {
            rc = fail_bind(err, host, port);
            break;
        }
    }
    freeaddrinfo(list);
    if (ret->n > 0 && rc != CM_OK && err != NULL && family_is_missing(err->sys_errno))
        rc = CM_OK;
    if (rc != CM_OK || ret->n == 0) {
        cm_tls_sockets_close(ret);
        return rc != CM_OK ? rc : cm_fail(err, CM_E_INVAL, "no address for '%s'", host);
    }
    ret->port = cm_tls_sockets_port_of(ret->fd[0]);
    return CM_OK;
}

cm_status cm_tls_sockets_open(const char *host, uint16_t port, struct cm_tls_sockets *ret,
                              struct cm_err *err)
{
    struct cm_err local = CM_ERR_INIT;

    if (err == NULL)
        err = &local;
    ret->n = 0;
    ret->port = 0;
    return host == NULL || host[0] == '\0' ? open_all(port, ret, err)
                                           : open_host(host, port, ret, err);
}

void cm_tls_sockets_close(struct cm_tls_sockets *s)
{
    for (size_t i = 0; i < s->n; i++)
        (void)close(s->fd[i]);
    s->n = 0;
}

int cm_tls_sockets_accept(int fd, bool nonblocking)
{
    int on = 1;
    int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));

    if (c >= 0)
        (void)setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return c;
}

bool cm_tls_accept_is_exhaustion(int sys_errno)
{
    return sys_errno == EMFILE || sys_errno == ENFILE || sys_errno == ENOBUFS ||
           sys_errno == ENOMEM;
}
