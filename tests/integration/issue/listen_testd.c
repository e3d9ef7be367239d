/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A listener for names, for listen.sh:
 *
 *   listen_testd --storage URL --ca URL --ca-root FILE --http-port PORT --tls-port PORT
 *                [--port PORT] [--challenge BITS] [--obtain] NAME...
 *
 * Says on stdout that it listens, and for each name that it is served or why not. --obtain: without
 * a listener, by the very same options. */

static struct cm_cancel *stop;

static void on_signal(int signal_number)
{
    (void)signal_number;
    cm_cancel_fire(stop);
}

static void on_progress(void *user, const char *name, enum cm_phase phase, const struct cm_err *err)
{
    (void)user;
    if (phase == CM_PHASE_FAILED)
        printf("failed %s: %s\n", name, err->msg);
    else if (phase == CM_PHASE_STORED)
        printf("served %s\n", name);
    (void)fflush(stdout);
}

static int complain(const char *what, const struct cm_err *err)
{
    fprintf(stderr, "%s: %s: %s\n", what, cm_status_name(err->status), err->msg);
    return 1;
}

static void *talk(void *arg)
{
    struct cm_conn *conn = arg;
    int rc;

    do
        rc = gnutls_handshake(conn->session);
    while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    if (rc < 0)
        (void)gnutls_alert_send_appropriate(conn->session, rc);
    (void)gnutls_bye(conn->session, GNUTLS_SHUT_WR);
    gnutls_deinit(conn->session);
    (void)close(conn->fd);
    free(conn);
    return NULL;
}

/* Few come, and one at a time would do but for a client that waits for its certificate. */
static int serve(struct cm_listener *l)
{
    static pthread_t threads[256];
    const struct cm_op op = { .cancel = stop };
    struct cm_err err = CM_ERR_INIT;
    size_t n = 0;

    printf("listening %u\n", cm_listener_port(l));
    (void)fflush(stdout);
    while (n < sizeof threads / sizeof threads[0]) {
        struct cm_conn *conn = malloc(sizeof *conn);

        if (conn == NULL || cm_accept(l, &op, conn, &err) != CM_OK) {
            free(conn);
            break;
        }
        if (pthread_create(&threads[n], NULL, talk, conn) != 0)
            abort();
        n++;
    }
    while (n > 0)
        (void)pthread_join(threads[--n], NULL);
    cm_listener_free(l);
    return 0;
}

static int obtain(const struct cm_config_options *o, const char *const *names, size_t n)
{
    struct cm_obtain_result r = { .size = (uint32_t)sizeof r };
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;
    cm_status rc = cm_config_new(o, &cfg, &err);

    if (rc == CM_OK)
        rc = cm_obtain(cfg, NULL, names, n, &r, &err);
    cm_config_free(cfg);
    return rc == CM_OK ? 0 : complain("obtain", &err);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {
        { "storage", required_argument, NULL, 's' },
        { "ca", required_argument, NULL, 'c' },
        { "ca-root", required_argument, NULL, 'r' },
        { "http-port", required_argument, NULL, 'h' },
        { "tls-port", required_argument, NULL, 't' },
        { "port", required_argument, NULL, 'p' },
        { "challenge", required_argument, NULL, 'b' },
        { "obtain", no_argument, NULL, 'o' },
        { NULL, 0, NULL, 0 },
    };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_listen_options lo = CM_LISTEN_OPTIONS_INIT;
    struct cm_listener *l = NULL;
    struct cm_err err = CM_ERR_INIT;
    bool only_obtain = false;
    int opt;

    o.acme.agreed = true;
    o.on_progress = on_progress;
    o.disable_ocsp = true;
    o.listen_host = "127.0.0.1";
    while ((opt = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (opt) {
        case 's':
            o.storage = optarg;
            break;
        case 'c':
            o.acme.directory_url = optarg;
            break;
        case 'r':
            o.acme.ca_root_file = optarg;
            break;
        case 'h':
            o.http_port = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 't':
            o.tls_port = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            lo.port = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 'b':
            o.acme.challenges = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'o':
            only_obtain = true;
            break;
        default:
            return 2;
        }
    }
    if (only_obtain)
        return obtain(&o, (const char *const *)&argv[optind], (size_t)(argc - optind));
    if (cm_cancel_new(NULL, &stop, &err) != CM_OK)
        return complain("start", &err);
    (void)signal(SIGTERM, on_signal);
    lo.config = &o;
    if (cm_listen_names((const char *const *)&argv[optind], (size_t)(argc - optind), &lo, &l,
                        &err) != CM_OK)
        return complain("listen", &err);
    int rc = serve(l);
    cm_cancel_free(stop);
    return rc;
}
