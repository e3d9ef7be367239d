/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sockets that somebody else has opened. */

#define SYSTEMD_FIRST 3 /* SD_LISTEN_FDS_START */
#define NUMBER_MAX    INT32_MAX

cm_status cm_sockets_new(struct cm_sockets **ret, struct cm_err *err)
{
    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "sockets: nowhere to put the set");
    *ret = cm_calloc(1, sizeof **ret);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}

void cm_sockets_free(struct cm_sockets *s)
{
    if (s == NULL)
        return;
    cm_tls_sockets_close(&s->of[CM_SOCKET_TLS]);
    cm_tls_sockets_close(&s->of[CM_SOCKET_HTTP]);
    free(s);
}

size_t cm_sockets_count(const struct cm_sockets *s, enum cm_socket_use use)
{
    return s->of[use].n;
}

uint16_t cm_sockets_port(const struct cm_sockets *s, enum cm_socket_use use)
{
    return s->of[use].port;
}

void cm_tls_sockets_move(struct cm_sockets *s, enum cm_socket_use use, struct cm_tls_sockets *ret)
{
    *ret = s->of[use];
    s->of[use] = (struct cm_tls_sockets){ .n = 0 };
}

/* -------------------------------------------------------------------- checking */

static bool int_option(int fd, int name, int *ret)
{
    socklen_t len = sizeof *ret;

    return getsockopt(fd, SOL_SOCKET, name, ret, &len) == 0;
}

/* @what: how messages call it. */
static cm_status check(int fd, const char *what, struct cm_err *err)
{
    int domain = 0, type = 0, listening = 0;

    if (fcntl(fd, F_GETFD) < 0)
        return cm_fail(err, CM_E_INVAL, "%s: descriptor %d is not open", what, fd);
    if (!int_option(fd, SO_DOMAIN, &domain) || !int_option(fd, SO_TYPE, &type) ||
        !int_option(fd, SO_ACCEPTCONN, &listening))
        return cm_fail(err, CM_E_INVAL, "%s: descriptor %d is no socket", what, fd);
    if ((domain != AF_INET && domain != AF_INET6) || type != SOCK_STREAM)
        return cm_fail(err, CM_E_INVAL, "%s: descriptor %d is no TCP socket", what, fd);
    if (listening == 0)
        return cm_fail(err, CM_E_INVAL, "%s: descriptor %d does not listen", what, fd);
    return CM_OK;
}

static cm_status take(struct cm_tls_sockets *to, int fd, const char *what, struct cm_err *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (to->n >= CM_TLS_SOCKETS_MAX)
        return cm_fail(err, CM_E_LIMIT, "%s: more than %u for one use", what, CM_SOCKETS_MAX);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return cm_fail_errno(err, "%s: set up descriptor %d", what, fd);
    if (to->n == 0)
        to->port = cm_tls_sockets_port_of(fd);
    to->fd[to->n++] = fd;
    return CM_OK;
}

cm_status cm_sockets_add(struct cm_sockets *s, enum cm_socket_use use, int fd, struct cm_err *err)
{
    static const char what[] = "a socket to listen on";

    if (s == NULL || (use != CM_SOCKET_TLS && use != CM_SOCKET_HTTP))
        return cm_fail(err, CM_E_INVAL, "sockets: no set, or no use");
    cm_status rc = check(fd, what, err);
    return rc == CM_OK ? take(&s->of[use], fd, what, err) : rc;
}

/* --------------------------------------------------------------------- systemd */

struct given {
    int first, n;
    const char *names; /* separated by colons; NULL = none */
    uint16_t tls_port, http_port;
};

/* The name of socket @i, which is shown to people: @ret may have less of it. */
static void name_of(const struct given *g, int i, char ret[64])
{
    const char *at = g->names != NULL ? g->names : "";
    size_t n;

    for (; i > 0 && *at != '\0'; i--) {
        at += strcspn(at, ":");
        at += *at == ':';
    }
    n = strcspn(at, ":");
    n = n < 63 ? n : 63;
    memcpy(ret, at, n);
    ret[n] = '\0';
}

static int count_names(const char *names)
{
    int n = 1;

    for (; *names != '\0'; names++)
        n += *names == ':';
    return n;
}

static cm_status use_of(const struct given *g, int i, enum cm_socket_use *ret, struct cm_err *err)
{
    int fd = g->first + i;
    uint16_t port = cm_tls_sockets_port_of(fd);
    char name[64];

    name_of(g, i, name);
    if (strcmp(name, "https") == 0 || strcmp(name, "tls") == 0) {
        *ret = CM_SOCKET_TLS;
    } else if (strcmp(name, "http") == 0) {
        *ret = CM_SOCKET_HTTP;
    } else if (port == g->tls_port) {
        *ret = CM_SOCKET_TLS;
    } else if (port == g->http_port) {
        *ret = CM_SOCKET_HTTP;
    } else {
        char shown[128];

        return cm_fail(err, CM_E_INVAL,
                       "the socket of systemd on port %u ('%s'): for TLS or for HTTP? Say so by "
                       "FileDescriptorName=https or http; or let it listen on port %u or %u",
                       port, cm_escape(name, strlen(name), shown, sizeof shown), g->tls_port,
                       g->http_port);
    }
    return CM_OK;
}

static cm_status take_all(struct cm_sockets *s, const struct given *g, struct cm_err *err)
{
    static const char what[] = "LISTEN_FDS";
    struct cm_sockets all = *s;
    cm_status rc = CM_OK;

    for (int i = 0; i < g->n && rc == CM_OK; i++) {
        enum cm_socket_use use = CM_SOCKET_TLS;

        rc = check(g->first + i, what, err);
        if (rc == CM_OK)
            rc = use_of(g, i, &use, err);
        if (rc == CM_OK)
            rc = take(&all.of[use], g->first + i, what, err);
    }
    if (rc == CM_OK)
        *s = all;
    return rc;
}

/* A decimal number and nothing else; -1 = it is none. */
static int number(const char *text)
{
    int64_t n = 0;

    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9' || (n = n * 10 + (*c - '0')) > NUMBER_MAX)
            return -1;
    }
    return *text != '\0' ? (int)n : -1;
}

cm_status cm_tls_sockets_given(struct cm_sockets *s, const struct cm_sockets_env *env,
                               struct cm_err *err)
{
    struct given g = { .first = env->first,
                       .tls_port = env->tls_port,
                       .http_port = env->http_port };
    int pid;

    if (env->pid == NULL || env->fds == NULL)
        return CM_OK;
    pid = number(env->pid);
    if (pid <= 0)
        return cm_fail(err, CM_E_INVAL,
                       "LISTEN_PID is no number of a process; unset it where it was not systemd "
                       "that set it");
    if (pid != getpid())
        return CM_OK; /* a parent's: they are not for us */
    g.n = number(env->fds);
    if (g.n < 0)
        return cm_fail(err, CM_E_INVAL,
                       "LISTEN_FDS is no number of sockets; unset it where it was not systemd that "
                       "set it");
    if ((unsigned)g.n > 2 * CM_SOCKETS_MAX)
        return cm_fail(err, CM_E_LIMIT, "LISTEN_FDS is %d; %u sockets are taken at most", g.n,
                       2 * CM_SOCKETS_MAX);
    if (g.n > 0 && env->names != NULL && count_names(env->names) != g.n)
        return cm_fail(err, CM_E_INVAL, "LISTEN_FDNAMES has %d names, and LISTEN_FDS is %d",
                       count_names(env->names), g.n);
    g.names = env->names;
    return take_all(s, &g, err);
}

cm_status cm_sockets_add_systemd(struct cm_sockets *s, uint16_t tls_port, uint16_t http_port,
                                 struct cm_err *err)
{
    /* Not secure_getenv(): a program with a capability in its file may be given sockets, too, and
     * who sets the environment could as well have opened them. */
    const struct cm_sockets_env env = { .pid = getenv("LISTEN_PID"),
                                        .fds = getenv("LISTEN_FDS"),
                                        .names = getenv("LISTEN_FDNAMES"),
                                        .first = SYSTEMD_FIRST,
                                        .tls_port = tls_port != 0 ? tls_port : 443,
                                        .http_port = http_port != 0 ? http_port : 80 };

    if (s == NULL)
        return cm_fail(err, CM_E_INVAL, "sockets: no set");
    return cm_tls_sockets_given(s, &env, err);
}
