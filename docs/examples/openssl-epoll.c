/* SPDX-License-Identifier: Apache-2.0 */

/* HTTPS with OpenSSL, in one thread that never waits: an event loop, and certmesh behind the
 * callback for the ClientHello. While the certificate for a name is still being obtained,
 * SSL_get_error() says SSL_ERROR_WANT_CLIENT_HELLO_CB, and cm_openssl_wait_fd() says what to watch
 * instead of the socket. Nothing else is special.
 *
 *   openssl-epoll [--root DIR] [--port PORT] [--ca FILE] NAME...
 *
 * Options as in thread-per-connection.c. The names are obtained in the background: the server
 * serves at once, and the first client waits some moments longer. */

#include <certmesh/cm_openssl.h>

#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char reply[] = "HTTP/1.1 200 OK\r\n"
                            "Content-Type: text/plain\r\n"
                            "Content-Length: 6\r\n"
                            "Connection: close\r\n\r\n"
                            "hello\n";

static struct cm_cancel *stop;

static void on_signal(int signal_number)
{
    (void)signal_number;
    cm_cancel_fire(stop);
}

static int fail(const char *what, const struct cm_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->msg);
    return 1;
}

/* -------------------------------------------------------------- connections */

enum phase { HANDSHAKE, READ, WRITE };

struct conn {
    SSL *ssl;
    enum phase phase;
    int fd;
    int wants;    /* what SSL_get_error() said last */
    int watched;  /* what epoll watches besides the socket; -1 = nothing */
    time_t until; /* whoever has not got on by then is dropped */
    struct conn *prev, *next;
};

struct loop {
    struct cm_config *cfg;
    SSL_CTX *ctx;
    int epoll;
    int listener;
    struct conn *conns; /* newest first */
};

static time_t now_s(void)
{
    const struct cm_env *env = cm_env_system();

    return (time_t)(env->mono_ns(env) / CM_NS_PER_S);
}

static void drop(struct loop *l, struct conn *c)
{
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        l->conns = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    SSL_free(c->ssl);
    (void)shutdown(c->fd, SHUT_WR);
    (void)close(c->fd);
    free(c);
}

/* Once: so that a connection that waits for something else than its socket is not woken by it. */
static void watch(struct loop *l, struct conn *c)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data = { .ptr = c } };
    int fd = c->fd;
    int op = EPOLL_CTL_MOD;

    if (c->wants == SSL_ERROR_WANT_CLIENT_HELLO_CB) {
        /* A descriptor of certmesh: ours to watch until the handshake goes on, when it is closed
         * and leaves epoll by itself. */
        fd = cm_openssl_wait_fd(c->ssl);
        op = c->watched == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
        c->watched = fd;
    } else if (c->wants == SSL_ERROR_WANT_WRITE) {
        ev.events = EPOLLOUT | EPOLLONESHOT;
    }
    if (epoll_ctl(l->epoll, op, fd, &ev) != 0)
        drop(l, c);
}

/* One step: > 0 the next can follow, 0 wait, < 0 done. */
static int step(struct conn *c)
{
    char request[4096];
    int n = 0;

    ERR_clear_error();
    switch (c->phase) {
    case HANDSHAKE:
        n = SSL_accept(c->ssl);
        if (n == 1 && cm_openssl_is_challenge(c->ssl))
            return -1;
        c->phase = n == 1 ? READ : HANDSHAKE;
        break;
    case READ:
        n = SSL_read(c->ssl, request, sizeof request);
        c->phase = n > 0 ? WRITE : READ; /* a real server would read on to the empty line */
        break;
    case WRITE:
        n = SSL_write(c->ssl, reply, sizeof reply - 1);
        if (n > 0) {
            (void)SSL_shutdown(c->ssl);
            return -1;
        }
        break;
    }
    if (n > 0)
        return 1;
    c->wants = SSL_get_error(c->ssl, n);
    return c->wants == SSL_ERROR_WANT_READ || c->wants == SSL_ERROR_WANT_WRITE ||
                   c->wants == SSL_ERROR_WANT_CLIENT_HELLO_CB
               ? 0
               : -1;
}

static void run_conn(struct loop *l, struct conn *c)
{
    int rc;

    do
        rc = step(c);
    while (rc > 0);
    if (rc < 0)
        drop(l, c);
    else
        watch(l, c);
}

static void add_conn(struct loop *l, int fd)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
    struct conn *c = calloc(1, sizeof *c);

    if (c != NULL)
        c->ssl = SSL_new(l->ctx);
    if (c == NULL || c->ssl == NULL) {
        free(c);
        (void)close(fd);
        return;
    }
    c->fd = fd;
    c->watched = -1;
    c->until = now_s() + 15;
    c->next = l->conns;
    if (l->conns != NULL)
        l->conns->prev = c;
    l->conns = c;
    ev.data.ptr = c;
    if (SSL_set_fd(c->ssl, fd) != 1 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) != 0)
        drop(l, c);
}

static void drop_late(struct loop *l)
{
    time_t now = now_s();

    for (struct conn *c = l->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (c->until <= now)
            drop(l, c);
    }
}

/* -------------------------------------------------------------------- the loop */

static int open_listener(uint16_t port)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, off = 0;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off); /* IPv4 too */
    if (bind(fd, (const struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1024) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static int run(struct loop *l)
{
    struct epoll_event ev[64];
    struct epoll_event want = { .events = EPOLLIN };
    bool stopped = false;

    want.data.ptr = &l->listener;
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listener, &want) != 0)
        return 1;
    want.data.ptr = &stop;
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, cm_cancel_fd(stop), &want) != 0)
        return 1;
    while (!stopped) {
        int n = epoll_wait(l->epoll, ev, 64, 1000);

        if (n < 0 && errno != EINTR)
            return 1;
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr == &stop) {
                stopped = true;
            } else if (ev[i].data.ptr == &l->listener) {
                int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (fd >= 0)
                    add_conn(l, fd);
            } else {
                run_conn(l, ev[i].data.ptr);
            }
        }
        drop_late(l);
    }
    while (l->conns != NULL)
        drop(l, l->conns);
    return 0;
}

static int write_ca(struct cm_config *cfg, const char *path)
{
    struct cm_buf pem = CM_BUF_INIT(64 * 1024);
    struct cm_err err = CM_ERR_INIT;
    FILE *f = NULL;
    int rc = 1;

    if (cm_internal_root(cfg, NULL, &pem, &err) != CM_OK)
        (void)fail("local CA", &err);
    else if ((f = fopen(path, "w")) == NULL || fputs(cm_buf_str(&pem), f) < 0 || fclose(f) != 0)
        perror(path);
    else
        rc = 0;
    cm_buf_free(&pem);
    return rc;
}

static int start(struct loop *l, uint16_t port, const char *const *names, size_t n)
{
    struct cm_err err = CM_ERR_INIT;
    int rc;

    l->ctx = SSL_CTX_new(TLS_server_method());
    if (l->ctx == NULL || cm_openssl_setup(l->cfg, l->ctx, NULL, &err) != CM_OK)
        return fail("OpenSSL", &err);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->listener = open_listener(port);
    if (l->epoll < 0 || l->listener < 0) {
        perror("listen");
        return 1;
    }
    if (cm_manage_async(l->cfg, names, n, &err) != CM_OK)
        return fail("certificates", &err);
    printf("listening on port %u\n", (unsigned)port);
    (void)fflush(stdout);
    rc = run(l);
    (void)close(l->listener);
    (void)close(l->epoll);
    SSL_CTX_free(l->ctx); /* before its configuration */
    return rc;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = { { "root", required_argument, NULL, 'r' },
                                           { "port", required_argument, NULL, 'p' },
                                           { "ca", required_argument, NULL, 'c' },
                                           { NULL, 0, NULL, 0 } };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct sigaction action = { .sa_handler = on_signal };
    struct loop l = { .epoll = -1 };
    struct cm_err err = CM_ERR_INIT;
    const char *ca = NULL;
    uint16_t port = 443;
    int rc, c;

    o.internal = true;
    while ((c = getopt_long(argc, argv, "r:p:c:", longs, NULL)) != -1) {
        if (c == 'r')
            o.storage = optarg;
        else if (c == 'p')
            port = (uint16_t)strtoul(optarg, NULL, 10);
        else if (c == 'c')
            ca = optarg;
        else
            return 2;
    }
    if (optind == argc) {
        fprintf(stderr, "usage: %s [--root DIR] [--port PORT] [--ca FILE] NAME...\n", argv[0]);
        return 2;
    }
    if (cm_cancel_new(NULL, &stop, &err) != CM_OK)
        return fail("start", &err);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* shutdown() and close_notify on sockets that are gone */

    if (cm_config_new(&o, &l.cfg, &err) != CM_OK)
        return fail("configuration", &err);
    rc = ca != NULL ? write_ca(l.cfg, ca) : 0;
    if (rc == 0)
        rc = start(&l, port, (const char *const *)(argv + optind), (size_t)(argc - optind));
    cm_config_free(l.cfg);
    cm_cancel_free(stop);
    return rc;
}
