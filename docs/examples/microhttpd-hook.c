/* SPDX-License-Identifier: Apache-2.0 */

/* certmesh under a server that owns its sockets: libmicrohttpd. Two lines do it: certmesh's
 * callback as MHD_OPTION_HTTPS_CERT_CALLBACK2, and cm_config_tls_setup() without a descriptor
 * where a connection starts.
 *
 *   microhttpd-hook [--root DIR] [--port PORT] [--ca FILE] NAME...
 *
 * Options as in thread-per-connection.c. A handshake that has to wait for its certificate blocks
 * its thread, so libmicrohttpd has to run a thread per connection. */

#include <certmesh/cm.h>

#include <getopt.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* A connection starts: its TLS session exists, its handshake has not begun. */
static void on_connection(void *user, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct cm_config *cfg = user;
    const union MHD_ConnectionInfo *tls;
    struct cm_err err = CM_ERR_INIT;

    (void)socket_context;
    if (what != MHD_CONNECTION_NOTIFY_STARTED)
        return;
    tls = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    /* On failure the handshake finds no certificate and is refused. */
    if (tls != NULL && cm_config_tls_setup(cfg, tls->tls_session, -1, &err) != CM_OK)
        (void)fail("connection", &err);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **request_context)
{
    static char text[] = "hello\n";
    struct MHD_Response *response;
    enum MHD_Result rc;

    (void)user;
    (void)url;
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)request_context;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return MHD_NO;
    response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    rc = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return rc;
}

static void wait_for_stop(void)
{
    struct pollfd p = { .fd = cm_cancel_fd(stop), .events = POLLIN };

    while (!cm_cancel_is_fired(stop))
        (void)poll(&p, 1, -1);
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

static int run(struct cm_config *cfg, uint16_t port, const char *const *names, size_t n)
{
    struct MHD_Daemon *daemon;
    struct cm_err err = CM_ERR_INIT;

    if (cm_manage_async(cfg, names, n, &err) != CM_OK)
        return fail("certificates", &err);
    daemon = MHD_start_daemon(MHD_USE_TLS | MHD_USE_INTERNAL_POLLING_THREAD |
                                  MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL,
                              port, NULL, NULL, on_request, NULL, MHD_OPTION_HTTPS_CERT_CALLBACK2,
                              cm_tls_retrieve, MHD_OPTION_NOTIFY_CONNECTION, on_connection, cfg,
                              MHD_OPTION_CONNECTION_TIMEOUT, 15u, MHD_OPTION_END);
    if (daemon == NULL) {
        fprintf(stderr, "cannot start the server on port %u\n", (unsigned)port);
        return 1;
    }
    printf("listening on port %u\n", (unsigned)port);
    (void)fflush(stdout);
    wait_for_stop();
    MHD_stop_daemon(daemon);
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

    if (cm_config_new(&o, &cfg, &err) != CM_OK)
        return fail("configuration", &err);
    rc = ca != NULL ? write_ca(cfg, ca) : 0;
    if (rc == 0)
        rc = run(cfg, port, (const char *const *)(argv + optind), (size_t)(argc - optind));
    cm_config_free(cfg);
    cm_cancel_free(stop);
    return rc;
}
