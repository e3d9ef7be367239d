/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

/* ondemand_testd STORE [RECHECK-S]: a thread for each connection behind the hook door, the local
 * CA, and a decision that is told by the name: "yes..." at once, "later..." after half a second by
 * another thread, "never..." not at all, "once..." when it is not served yet, else no. Prints its
 * port, then "asked NAME IP" for each question. Ends with its stdin. */

static struct cm_config *cfg;

static void *yes_later(void *arg)
{
    (void)usleep(500000);
    cm_decision_answer(arg, true, "later");
    return NULL;
}

static void decide(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d)
{
    pthread_t t;

    (void)user;
    printf("asked %s %s\n", ask->name, ask->client_ip);
    (void)fflush(stdout);
    if (strncmp(ask->name, "never", 5) == 0)
        return; /* and so it leaks: a program that is broken */
    if (strncmp(ask->name, "later", 5) == 0 && pthread_create(&t, NULL, yes_later, d) == 0) {
        (void)pthread_detach(t);
        return;
    }
    cm_decision_answer(d,
                       strncmp(ask->name, "yes", 3) == 0 ||
                           (strncmp(ask->name, "once", 4) == 0 && ask->phase != CM_ONDEMAND_SERVE),
                       "by its name");
}

static void *serve(void *arg)
{
    static const char page[] = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
    int fd = (int)(intptr_t)arg;
    gnutls_session_t session;
    struct cm_err err;
    char request[1024];
    int rc;

    if (gnutls_init(&session, GNUTLS_SERVER) != 0)
        abort();
    if (cm_config_tls_setup(cfg, session, -1, &err) != CM_OK)
        abort();
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, 20000);
    do {
        rc = gnutls_handshake(session);
    } while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    if (rc == 0) {
        (void)gnutls_record_recv(session, request, sizeof request);
        (void)gnutls_record_send(session, page, sizeof page - 1);
        (void)gnutls_bye(session, GNUTLS_SHUT_WR);
    }
    gnutls_deinit(session);
    (void)close(fd);
    return NULL;
}

static void *accept_all(void *arg)
{
    int listener = (int)(intptr_t)arg;
    pthread_t t;
    int fd;

    while ((fd = accept(listener, NULL, NULL)) >= 0)
        if (pthread_create(&t, NULL, serve, (void *)(intptr_t)fd) != 0 || pthread_detach(t) != 0)
            abort();
    return NULL;
}

int main(int argc, char **argv)
{
    struct cm_ondemand_options od = CM_ONDEMAND_OPTIONS_INIT;
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof a;
    struct cm_err err;
    pthread_t t;
    char end[64];

    if (argc != 2 && argc != 3)
        return 2;
    (void)signal(SIGPIPE, SIG_IGN); /* clients hang up when they like */
    od.decide = decide;
    if (argc == 3) {
        od.recheck_s = strtol(argv[2], NULL, 10);
        od.decide_timeout_ms = 10000; /* a busy machine */
    }
    o.on_demand = &od;
    o.storage = argv[1];
    o.internal = true;
    o.handshake_wait_ms = 15000; /* a busy machine */
    if (cm_config_new(&o, &cfg, &err) != CM_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) != 0)
        return 1;
    printf("port %u\n", (unsigned)ntohs(a.sin_port));
    (void)fflush(stdout);
    if (pthread_create(&t, NULL, accept_all, (void *)(intptr_t)listener) != 0)
        return 1;
    while (read(STDIN_FILENO, end, sizeof end) > 0)
        ;
    _exit(0); /* connections may be open, whose sessions need the config */
}
