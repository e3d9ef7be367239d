/* SPDX-License-Identifier: Apache-2.0 */

/* tls_testd on OpenSSL: the adapter with the fake core of the unit tests, for the same clients.
 *
 *   openssl_testd WAIT ROOT.pem NAME...      WAIT: openssl-block | openssl-retry
 *   NAME: see testd_names.h
 * Prints "port N" once it listens; ends with its stdin. */

#include "testd_names.h"

#include <certmesh/cm_openssl.h>

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct cm_config *cfg;
static SSL_CTX *ctx;
static bool nonblock;
static atomic_uint connections; /* whose thread has not ended */

struct conn {
    SSL *ssl;
    int fd;
};

/* As a program does it: its own protocols, and a client that has none of them is told so. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char mine[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, mine, sizeof mine - 1,
                                 in, in_len) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool wait_for(SSL *ssl, int rc)
{
    struct pollfd p = { .fd = cm_openssl_wait_fd(ssl), .events = POLLIN };

    switch (SSL_get_error(ssl, rc)) {
    case SSL_ERROR_WANT_WRITE:
        p.events = POLLOUT;
        break;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_CLIENT_HELLO_CB:
        break;
    default:
        return false;
    }
    (void)poll(&p, 1, 10000);
    return true;
}

static void report(const SSL *ssl, int rc)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status refusal = cm_openssl_refusal(ssl, &err);

    (void)printf("conn rc=%s resumed=%d challenge=%d refusal=%s alert=%d asked=%u ip=%s peer=%s\n",
                 rc == 1 ? "OK" : "failed", SSL_session_reused(ssl), cm_openssl_is_challenge(ssl),
                 cm_status_name(refusal), err.tls_alert, atomic_load(&cfg->asked), cfg->last_ip,
                 cfg->last_peer);
    (void)fflush(stdout);
}

static void answer(SSL *ssl)
{
    static const char text[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n";
    char buf[2048];
    int n;

    do
        n = SSL_read(ssl, buf, sizeof buf);
    while (n <= 0 && wait_for(ssl, n));
    if (n > 0)
        (void)SSL_write(ssl, text, sizeof text - 1);
    (void)SSL_shutdown(ssl);
}

static void *serve(void *arg)
{
    struct conn *c = arg;
    int rc;

    do
        rc = SSL_accept(c->ssl);
    while (rc <= 0 && wait_for(c->ssl, rc));
    report(c->ssl, rc);
    if (rc == 1 && !cm_openssl_is_challenge(c->ssl))
        answer(c->ssl);
    (void)shutdown(c->fd, SHUT_WR);
    SSL_free(c->ssl);
    (void)close(c->fd);
    free(c);
    ERR_clear_error();
    (void)atomic_fetch_sub(&connections, 1);
    return NULL;
}

static void take(int fd)
{
    struct conn *c = cm_calloc(1, sizeof *c);
    pthread_t t;

    if (c == NULL)
        abort();
    c->fd = cm_tls_sockets_accept(fd, nonblock);
    if (c->fd < 0) {
        free(c);
        return;
    }
    c->ssl = SSL_new(ctx);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
        abort();
    (void)atomic_fetch_add(&connections, 1);
    if (pthread_create(&t, NULL, serve, c) != 0)
        abort();
    (void)pthread_detach(t);
}

static void run(const struct cm_tls_sockets *sockets)
{
    struct pollfd p[2];

    for (;;) {
        p[0] = (struct pollfd){ .fd = sockets->fd[0], .events = POLLIN };
        p[1] = (struct pollfd){ .fd = 0, .events = POLLIN };
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents != 0)
            break;
        if (p[0].revents != 0)
            take(sockets->fd[0]);
    }
    for (int i = 0; i < 1000 && atomic_load(&connections) > 0; i++)
        (void)cm_env_system()->wait(cm_env_system(), NULL, 10 * CM_NS_PER_MS);
}

int main(int argc, char **argv)
{
    struct cm_tls_sockets sockets = { .n = 0 };
    struct cm_err err = CM_ERR_INIT;

    if (argc < 4)
        return 2;
    nonblock = strcmp(argv[1], "openssl-retry") == 0;
    cfg = fake_config();
    fake_write_root(cfg, argv[2]);
    for (int i = 3; i < argc; i++)
        testd_add_name(cfg, argv[i]);
    ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        abort();
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    if (cm_openssl_setup(cfg, ctx, NULL, &err) != CM_OK ||
        cm_tls_sockets_open("127.0.0.1", 0, &sockets, &err) != CM_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    (void)printf("port %u\n", sockets.port);
    (void)fflush(stdout);
    run(&sockets);
    cm_tls_sockets_close(&sockets);
    SSL_CTX_free(ctx);
    fake_config_drop(cfg);
    (void)printf("certs alive %u\n", fake_certs_alive());
    testd_names_free();
    return 0;
}
