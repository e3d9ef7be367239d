/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <certmesh/cm_openssl.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* server-openssl KIND N: as bench-server, on OpenSSL. KIND:
 *
 *   bare      OpenSSL with one static certificate, its plain calls: the limit
 *   adapter   certmesh with N certificates, in the same epoll loop */

struct conn {
    SSL *ssl;
    int fd;
    bool secured;
};

static SSL_CTX *ctx;
static int epoll, listener;

static void make_bare(const struct bench_factory *f)
{
    struct cm_span pem = bench_factory_pem(f, 0, 0);
    BIO *chain = BIO_new_mem_buf(pem.data, (int)pem.len);
    BIO *key = BIO_new_mem_buf(f->key.data, (int)f->key.size);
    X509 *leaf = PEM_read_bio_X509(chain, NULL, NULL, NULL);
    X509 *issuer = PEM_read_bio_X509(chain, NULL, NULL, NULL);
    EVP_PKEY *own = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);

    bench_check(SSL_CTX_use_certificate(ctx, leaf) == 1 && SSL_CTX_use_PrivateKey(ctx, own) == 1 &&
                    SSL_CTX_add_extra_chain_cert(ctx, issuer) == 1,
                "certificate");
    X509_free(leaf); /* the issuer is the SSL_CTX's */
    EVP_PKEY_free(own);
    BIO_free(chain);
    BIO_free(key);
    gnutls_free((void *)(uintptr_t)pem.data);
}

static struct conn *conn_new(int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    int on = 1;

    bench_check(c != NULL && (c->ssl = SSL_new(ctx)) != NULL && SSL_set_fd(c->ssl, fd) == 1,
                "session");
    c->fd = fd;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return c;
}

static void conn_free(struct conn *c)
{
    if (c->secured)
        (void)SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    (void)close(c->fd);
    free(c);
}

/* False when the connection is over. */
static bool conn_run(struct conn *c)
{
    char byte;
    int rc;

    ERR_clear_error();
    if (!c->secured) {
        rc = SSL_accept(c->ssl);
        if (rc != 1)
            return SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ;
        c->secured = true;
    }
    rc = SSL_read(c->ssl, &byte, 1);
    return rc <= 0 && SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ;
}

static void loop(void)
{
    struct epoll_event ev[64];
    struct epoll_event want = { .events = EPOLLIN, .data = { .ptr = NULL } };

    bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &want) == 0, "epoll");
    for (;;) {
        int n = epoll_wait(epoll, ev, 64, -1);

        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;

            if (c == NULL) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (fd < 0)
                    continue;
                c = conn_new(fd);
                want.data.ptr = c;
                bench_check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &want) == 0, "epoll");
            } else if (!conn_run(c)) {
                conn_free(c);
            }
        }
    }
}

static uint16_t listen_somewhere(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bench_check(listener >= 0 && bind(listener, (struct sockaddr *)&a, sizeof a) == 0 &&
                    listen(listener, 1024) == 0 &&
                    getsockname(listener, (struct sockaddr *)&a, &len) == 0,
                "listen: %s", strerror(errno));
    return ntohs(a.sin_port);
}

int main(int argc, char **argv)
{
    struct bench_storage storage;
    struct bench_factory f;
    struct cm_err err = CM_ERR_INIT;

    bench_check(argc == 3, "usage: %s KIND N", argv[0]);
    bool bare = strcmp(argv[1], "bare") == 0;
    bench_check(bare || strcmp(argv[1], "adapter") == 0, "unknown kind '%s'", argv[1]);
    size_t n = bench_number(argv[2], BENCH_NAMES_MAX);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive the script */
    bench_pin(0);
    bench_factory_init(&f);
    ctx = SSL_CTX_new(TLS_server_method());
    bench_check(ctx != NULL && SSL_CTX_set1_groups_list(ctx, "X25519") == 1 &&
                    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1,
                "SSL_CTX");
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (bare) {
        make_bare(&f);
    } else {
        bench_storage_init(&storage);
        struct cm_config *cfg = bench_config(&storage);
        for (size_t i = 0; i < n; i++)
            bench_factory_add(&f, cm_config_cache(cfg), i, 0, NULL);
        bench_ok(cm_openssl_setup(cfg, ctx, NULL, &err), &err, "set up the SSL_CTX");
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    printf("%u\n", (unsigned)listen_somewhere());
    (void)fflush(stdout);
    loop();
    return 0;
}
