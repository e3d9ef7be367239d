/* SPDX-License-Identifier: Apache-2.0 */

/* A small TLS server behind either door, with the fake core of the unit tests, for real clients
 * (openssl, gnutls-cli, curl). Says on stdout how each handshake ended.
 *
 *   tls_testd DOOR ROOT.pem NAME...      DOOR: gate | hook | gate-nonblock
 *   NAME: see testd_names.h
 * tls_testd_signing is the same program and signs with libcrypto.
 * Prints "port N" once it listens; ends with its stdin. */

#include "fake_core.h"
#include "testd_names.h"

#ifdef WITH_LIBCRYPTO
#include <certmesh/cm_openssl.h>
#endif

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct cm_config *cfg;
static enum { DOOR_GATE, DOOR_HOOK, DOOR_GATE_NONBLOCK } door;

static atomic_uint connections; /* whose thread has not ended */

static int handshake(gnutls_session_t s)
{
    int rc;

    do {
        rc = gnutls_handshake(s);
        if (rc == GNUTLS_E_AGAIN) {
            struct pollfd p = { .fd = cm_tls_wait_fd(s), .events = POLLIN };

            if (gnutls_record_get_direction(s) == 1)
                p.events = POLLOUT;
            (void)poll(&p, 1, 10000);
        }
    } while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    return rc;
}

static void report(gnutls_session_t s, int rc)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status refusal = cm_tls_refusal(s, &err);

    (void)printf("conn rc=%s resumed=%d challenge=%d refusal=%s alert=%d asked=%u ip=%s\n",
                 rc == 0 ? "OK" : gnutls_strerror_name(rc), gnutls_session_is_resumed(s),
                 cm_tls_is_challenge(s), cm_status_name(refusal), err.tls_alert,
                 atomic_load(&cfg->asked), cfg->last_ip);
    (void)fflush(stdout);
}

static void answer(gnutls_session_t s)
{
    static const char text[] = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello\n";
    char buf[2048];
    ssize_t n;

    do
        n = gnutls_record_recv(s, buf, sizeof buf);
    while (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED);
    if (n > 0)
        (void)gnutls_record_send(s, text, sizeof text - 1);
    (void)gnutls_bye(s, GNUTLS_SHUT_WR);
}

static void *serve(void *arg)
{
    struct cm_conn *c = arg;
    int rc = handshake(c->session);

    report(c->session, rc);
    if (rc < 0)
        (void)gnutls_alert_send_appropriate(c->session, rc);
    else if (!cm_tls_is_challenge(c->session))
        answer(c->session);
    (void)shutdown(c->fd, SHUT_WR);
    gnutls_deinit(c->session);
    (void)close(c->fd);
    free(c);
    (void)atomic_fetch_sub(&connections, 1);
    return NULL;
}

static void take(int fd)
{
    struct cm_conn *c = cm_calloc(1, sizeof *c);
    bool nonblock = door == DOOR_GATE_NONBLOCK;
    struct cm_err err = CM_ERR_INIT;
    pthread_t t;

    if (c == NULL)
        abort();
    c->fd = cm_tls_sockets_accept(fd, nonblock);
    if (c->fd < 0) {
        free(c);
        return;
    }
    if (gnutls_init(&c->session, GNUTLS_SERVER | (nonblock ? GNUTLS_NONBLOCK : 0)) < 0)
        abort();
    if (cm_config_tls_setup(cfg, c->session, door == DOOR_HOOK ? -1 : c->fd, &err) != CM_OK) {
        (void)fprintf(stderr, "setup: %s\n", err.msg);
        abort();
    }
    if (door == DOOR_HOOK)
        gnutls_transport_set_int(c->session, c->fd);
    (void)atomic_fetch_add(&connections, 1);
    if (pthread_create(&t, NULL, serve, c) != 0)
        abort();
    (void)pthread_detach(t);
}

int main(int argc, char **argv)
{
    struct cm_tls_sockets sockets = { .n = 0 };
    struct cm_err err = CM_ERR_INIT;
    struct pollfd p[2];

    if (argc < 4)
        return 2;
    door = strcmp(argv[1], "hook") == 0   ? DOOR_HOOK
           : strcmp(argv[1], "gate") == 0 ? DOOR_GATE
                                          : DOOR_GATE_NONBLOCK;
#ifdef WITH_LIBCRYPTO
    if (cm_openssl_signing(true, &err) != CM_OK)
        return 1;
#endif
    cfg = fake_config();
    fake_write_root(cfg, argv[2]);
    for (int i = 3; i < argc; i++)
        testd_add_name(cfg, argv[i]);
    if (cm_tls_sockets_open("127.0.0.1", 0, &sockets, &err) != CM_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    (void)printf("port %u\n", sockets.port);
    (void)fflush(stdout);
    for (;;) {
        p[0] = (struct pollfd){ .fd = sockets.fd[0], .events = POLLIN };
        p[1] = (struct pollfd){ .fd = 0, .events = POLLIN };
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents != 0)
            break;
        if (p[0].revents != 0)
            take(sockets.fd[0]);
    }
    for (int i = 0; i < 1000 && atomic_load(&connections) > 0; i++)
        (void)cm_env_system()->wait(cm_env_system(), NULL, 10 * CM_NS_PER_MS);
    cm_tls_sockets_close(&sockets);
    fake_config_drop(cfg);
    (void)printf("certs alive %u\n", fake_certs_alive());
    testd_names_free();
    return 0;
}
