/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef HAVE_CALLGRIND
#include <valgrind/callgrind.h>
#endif
#ifdef WITH_LIBCRYPTO
#include <certmesh/cm_openssl.h>
#endif

/* server KIND[:KEY] N [FROM TO]: completes TLS handshakes on a port of 127.0.0.1, which it prints,
 * until it is killed. One thread on CPU 0. What follows the handshake is reading the close. KIND:
 *
 *   bare-epoll, bare-block   GnuTLS with one static certificate, its plain calls: the limit
 *   gate                     certmesh with N certificates, the gate door, in the same epoll loop
 *   hook                     the same through the hook door, in the same blocking loop
 *
 * KEY: type of the certificates' keys, p256 when there is none. bench-server-signing is the same
 * program and signs with libcrypto.
 * Priority, ALPN, tickets and the sockets are the same for all. Under callgrind the instructions of
 * the connections FROM (included) to TO (excluded) are counted, whatever came before. */

static const char priority_text[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE";

struct server {
    bool bare, blocking;
    int listener, epoll;
    struct cm_config *cfg;
    gnutls_certificate_credentials_t cred;
    gnutls_priority_t priority;
    gnutls_datum_t ticket_key;
    size_t accepted, count_from, count_to;
};

struct conn {
    gnutls_session_t session;
    int fd;
    bool secured;
};

/* ---- sessions ---- */

static void bare_setup(struct server *s, struct conn *c)
{
    static unsigned char http[] = "http/1.1";
    const gnutls_datum_t alpn = { http, sizeof http - 1 };

    bench_gnutls(gnutls_priority_set(c->session, s->priority), "priority");
    bench_gnutls(gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, s->cred),
                 "credentials");
    bench_gnutls(gnutls_session_ticket_enable_server(c->session, &s->ticket_key), "tickets");
    bench_gnutls(gnutls_alpn_set_protocols(c->session, &alpn, 1,
                                           GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE),
                 "ALPN");
    gnutls_transport_set_int(c->session, c->fd);
    gnutls_handshake_set_timeout(c->session, 10000);
}

static void our_setup(struct server *s, struct conn *c)
{
    struct cm_err err = CM_ERR_INIT;

    bench_ok(cm_config_tls_setup(s->cfg, c->session, s->blocking ? -1 : c->fd, &err), &err,
             "set up the session");
    if (s->blocking) {
        gnutls_transport_set_int(c->session, c->fd);
        gnutls_handshake_set_timeout(c->session, 10000);
    }
}

static struct conn *conn_new(struct server *s, int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    int on = 1;

    bench_check(c != NULL, "out of memory");
    c->fd = fd;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bench_gnutls(gnutls_init(&c->session, GNUTLS_SERVER | (s->blocking ? 0u : GNUTLS_NONBLOCK)),
                 "session");
    if (s->bare)
        bare_setup(s, c);
    else
        our_setup(s, c);
    return c;
}

static void conn_free(struct conn *c)
{
    if (c->secured)
        (void)gnutls_bye(c->session, GNUTLS_SHUT_WR);
    gnutls_deinit(c->session);
    (void)close(c->fd);
    free(c);
}

/* False when the connection is over. */
static bool conn_run(struct conn *c)
{
    char byte;

    if (!c->secured) {
        int rc = gnutls_handshake(c->session);

        if (rc == GNUTLS_E_AGAIN)
            return true;
        if (rc < 0)
            return false;
        c->secured = true;
    }
    ssize_t n = gnutls_record_recv(c->session, &byte, 1);
    return n == GNUTLS_E_AGAIN;
}

/* ---- loops ---- */

static void count(struct server *s)
{
#ifdef HAVE_CALLGRIND
    if (s->accepted == s->count_from)
        CALLGRIND_START_INSTRUMENTATION;
    if (s->accepted == s->count_to) {
        CALLGRIND_STOP_INSTRUMENTATION;
        CALLGRIND_DUMP_STATS;
    }
#endif
    s->accepted++;
}

static void loop_blocking(struct server *s)
{
    for (;;) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            continue;
        count(s);
        struct conn *c = conn_new(s, fd);
        while (conn_run(c)) {
        }
        conn_free(c);
    }
}

static void loop_epoll(struct server *s)
{
    struct epoll_event ev[64];
    struct epoll_event want = { .events = EPOLLIN, .data = { .ptr = NULL } };

    bench_check(epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->listener, &want) == 0, "epoll");
    for (;;) {
        int n = epoll_wait(s->epoll, ev, 64, -1);

        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;

            if (c == NULL) {
                int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (fd < 0)
                    continue;
                count(s);
                c = conn_new(s, fd);
                want.data.ptr = c;
                bench_check(epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &want) == 0, "epoll");
            } else if (!conn_run(c)) {
                conn_free(c);
            }
        }
    }
}

/* ---- start ---- */

static void make_bare(struct server *s, const struct bench_factory *f)
{
    struct cm_span pem = bench_factory_pem(f, 0, 0);
    const gnutls_datum_t chain = { (unsigned char *)(uintptr_t)pem.data, (unsigned)pem.len };

    bench_gnutls(gnutls_certificate_allocate_credentials(&s->cred), "credentials");
    bench_gnutls(gnutls_certificate_set_x509_key_mem(s->cred, &chain, &f->key, GNUTLS_X509_FMT_PEM),
                 "certificate");
    bench_gnutls(gnutls_priority_init(&s->priority, priority_text, NULL), "priority");
    bench_gnutls(gnutls_session_ticket_key_generate(&s->ticket_key), "ticket key");
    gnutls_free(pem.data != NULL ? (void *)(uintptr_t)pem.data : NULL);
}

static uint16_t listen_somewhere(struct server *s)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;

    s->listener =
        socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (s->blocking ? 0 : SOCK_NONBLOCK), 0);
    bench_check(s->listener >= 0 && bind(s->listener, (struct sockaddr *)&a, sizeof a) == 0 &&
                    listen(s->listener, 1024) == 0 &&
                    getsockname(s->listener, (struct sockaddr *)&a, &len) == 0,
                "listen: %s", strerror(errno));
    return ntohs(a.sin_port);
}

int main(int argc, char **argv)
{
    struct server s = { .count_from = SIZE_MAX, .count_to = SIZE_MAX };
    struct bench_storage storage;
    struct bench_factory f;

    bench_check(argc == 3 || argc == 5, "usage: %s KIND[:KEY] N [FROM TO]", argv[0]);
    char *key = strchr(argv[1], ':');
    if (key != NULL)
        *key++ = '\0';
    s.bare = strncmp(argv[1], "bare", 4) == 0;
    s.blocking = strcmp(argv[1], "bare-block") == 0 || strcmp(argv[1], "hook") == 0;
    bench_check(s.bare || s.blocking || strcmp(argv[1], "gate") == 0, "unknown kind '%s'", argv[1]);
    size_t n = bench_number(argv[2], BENCH_NAMES_MAX);
    if (argc == 5) {
#ifndef HAVE_CALLGRIND
        bench_die("built without <valgrind/callgrind.h>: install valgrind and build anew");
#endif
        s.count_from = bench_number(argv[3], BENCH_NAMES_MAX);
        s.count_to = bench_number(argv[4], BENCH_NAMES_MAX);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive the script */
    bench_pin(0);
#ifdef WITH_LIBCRYPTO
    struct cm_err err = CM_ERR_INIT;
    bench_ok(cm_openssl_signing(true, &err), &err, "sign with libcrypto");
#endif
    bench_factory_init_key(&f, key != NULL ? key : "p256");
    if (s.bare) {
        make_bare(&s, &f);
    } else {
        bench_storage_init(&storage);
        s.cfg = bench_config(&storage);
        for (size_t i = 0; i < n; i++)
            bench_factory_add(&f, cm_config_cache(s.cfg), i, 0, NULL);
    }
    s.epoll = epoll_create1(EPOLL_CLOEXEC);
    printf("%u\n", (unsigned)listen_somewhere(&s));
    (void)fflush(stdout);
    if (s.blocking)
        loop_blocking(&s);
    else
        loop_epoll(&s);
    return 0;
}
