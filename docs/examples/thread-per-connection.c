/* SPDX-License-Identifier: Apache-2.0 */

/* HTTPS with a thread per connection: the simplest server there is. certmesh gets the certificates
 * and answers the CA; what a connection says is this program's business.
 *
 *   thread-per-connection [--root DIR] [--port PORT] [--ca FILE] NAME...
 *
 * --root is where certificates are kept (default: certmesh's own place), --ca writes the
 * certificate of the local CA, for curl --cacert. The local CA is used so that this runs anywhere;
 * for the real thing leave out `o.internal`, and set o.acme.agreed once you have read and accepted
 * the terms of the CA. */

#include <certmesh/cm.h>

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct cm_cancel *stop;

static void on_signal(int signal_number)
{
    (void)signal_number;
    cm_cancel_fire(stop); /* safe in a signal handler */
}

static int fail(const char *what, const struct cm_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->msg);
    return 1;
}

/* ------------------------------------------------------------- one connection */

static void answer(gnutls_session_t session)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\n"
                                "Content-Type: text/plain\r\n"
                                "Content-Length: 6\r\n"
                                "Connection: close\r\n\r\n"
                                "hello\n";
    char request[4096];
    ssize_t n;

    /* A TLS 1.3 client may send something that is no data first: then this says AGAIN. */
    n = gnutls_record_recv(session, request, sizeof request);
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        n = gnutls_record_recv(session, request, sizeof request);
    if (n > 0)
        (void)gnutls_record_send(session, reply, sizeof reply - 1);
}

/* Connections under way: the configuration must outlive them. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t none_left = PTHREAD_COND_INITIALIZER;
static unsigned under_way;

static void count(bool one_more)
{
    (void)pthread_mutex_lock(&lock);
    under_way = one_more ? under_way + 1 : under_way - 1;
    if (under_way == 0)
        (void)pthread_cond_signal(&none_left);
    (void)pthread_mutex_unlock(&lock);
}

static void wait_for_all(void)
{
    (void)pthread_mutex_lock(&lock);
    while (under_way > 0)
        (void)pthread_cond_wait(&none_left, &lock);
    (void)pthread_mutex_unlock(&lock);
}

static void *serve(void *arg)
{
    struct cm_conn *conn = arg;
    int rc;

    /* If the certificate is still on its way this takes longer, and that is all. */
    do
        rc = gnutls_handshake(conn->session);
    while (rc < 0 && gnutls_error_is_fatal(rc) == 0);

    if (rc < 0)
        (void)gnutls_alert_send_appropriate(conn->session, rc);
    else if (!cm_tls_is_challenge(conn->session)) /* a CA's validation wants no more than that */
        answer(conn->session);
    (void)gnutls_bye(conn->session, GNUTLS_SHUT_WR);
    gnutls_deinit(conn->session);
    (void)close(conn->fd);
    free(conn);
    count(false);
    return NULL;
}

/* cm_accept() hands out blocking sockets. Whoever does not answer must not keep a thread for ever:
 * certmesh limits the handshake, the rest is for us. */
static void limit(int fd)
{
    const struct timeval patience = { .tv_sec = 10 };

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

static void accept_all(struct cm_listener *listener)
{
    struct cm_op op = { .cancel = stop };
    struct cm_err err = CM_ERR_INIT;
    struct cm_conn conn;
    pthread_attr_t detached;

    (void)pthread_attr_init(&detached);
    (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    while (cm_accept(listener, &op, &conn, &err) == CM_OK) {
        struct cm_conn *own = malloc(sizeof *own);
        pthread_t thread;

        if (own != NULL)
            *own = conn;
        limit(conn.fd);
        count(true);
        if (own == NULL || pthread_create(&thread, &detached, serve, own) != 0) {
            gnutls_deinit(conn.session);
            (void)close(conn.fd);
            free(own);
            count(false);
        }
    }
    (void)pthread_attr_destroy(&detached);
    if (err.status != CM_E_CANCELED)
        (void)fail("accept", &err);
}

/* --------------------------------------------------------------- the program */

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

static int run(struct cm_config *cfg, uint16_t port, const char *const *names, size_t n)
{
    struct cm_listener *listener = NULL;
    struct cm_op op = { .cancel = stop };
    struct cm_err err = CM_ERR_INIT;

    if (cm_manage(cfg, &op, names, n, &err) != CM_OK)
        return fail("certificates", &err);
    if (cm_listen(cfg, NULL, port, &listener, &err) != CM_OK)
        return fail("listen", &err);
    printf("listening on port %u\n", (unsigned)cm_listener_port(listener));
    (void)fflush(stdout);
    accept_all(listener);
    cm_listener_free(listener);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = { { "root", required_argument, NULL, 'r' },
                                           { "port", required_argument, NULL, 'p' },
                                           { "ca", required_argument, NULL, 'c' },
                                           { NULL, 0, NULL, 0 } };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct sigaction action = { .sa_handler = on_signal };
    struct cm_config *cfg = NULL;
    struct cm_err err = CM_ERR_INIT;
    const char *ca = NULL;
    uint16_t port = 0;
    int rc, c;

    o.internal = true; /* see above */
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

    if (cm_config_new(&o, &cfg, &err) != CM_OK)
        return fail("configuration", &err);
    rc = ca != NULL ? write_ca(cfg, ca) : 0;
    if (rc == 0)
        rc = run(cfg, port, (const char *const *)(argv + optind), (size_t)(argc - optind));
    wait_for_all();
    cm_config_free(cfg);
    cm_cancel_free(stop);
    return rc;
}
