/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* first DIR N STARTS: from exec of a server with N names in file storage to the end of the first
 * handshake for one of them, drawn at random. The server is this program again, "serve DIR N": one
 * call of cm_https(). Prints median and worst, in milliseconds. */

/* ---- the server ---- */

static void ready(void *user, uint16_t http_port, uint16_t tls_port)
{
    (void)user;
    (void)http_port;
    printf("%u\n", (unsigned)tls_port);
    (void)fflush(stdout);
}

static void handle(void *user, struct cm_http_exchange *x)
{
    (void)user;
    (void)!cm_http_reply(x, 200, NULL, cm_span_str("hello\n"), NULL);
}

static void serve(const char *root, size_t n)
{
    struct cm_https_options h = CM_HTTPS_OPTIONS_INIT;
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    char(*names)[BENCH_NAME_BUF] = calloc(n, sizeof *names);
    const char **list = calloc(n, sizeof *list);
    struct cm_err err = CM_ERR_INIT;
    char url[4096];

    bench_check(names != NULL && list != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        bench_name(i, names[i]);
        list[i] = names[i];
    }
    (void)snprintf(url, sizeof url, "file://%s", root);
    o.storage = url;
    o.internal = true;
    o.listen_host = "127.0.0.1";
    bench_ok(cm_config_new(&o, &h.cfg, &err), &err, "config");
    h.host = "127.0.0.1";
    /* Port 0 would be 443; one that is free was found by the parent. */
    h.tls_port = (uint16_t)bench_number(getenv("BENCH_PORT"), 65535);
    h.no_http = true;
    h.ready = ready;
    bench_ok(cm_https(list, n, handle, NULL, &h, &err), &err, "serve");
}

/* ---- the client ---- */

static uint16_t free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_check(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
                    getsockname(fd, (struct sockaddr *)&a, &len) == 0,
                "no port: %s", strerror(errno));
    (void)close(fd);
    return ntohs(a.sin_port);
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_port = htons(port);
    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect: %s",
                strerror(errno));
    return fd;
}

static void check_peer(gnutls_session_t session, const char *name)
{
    unsigned n = 0;
    const gnutls_datum_t *der = gnutls_certificate_get_peers(session, &n);

    bench_check(n > 0 && memmem(der->data, der->size, name, BENCH_NAME_LEN) != NULL,
                "the certificate is not for '%s'", name);
}

/* Once a handshake has begun it may wait for its certificate: that is part of the time. */
static void handshake(uint16_t port, const char *name, gnutls_certificate_credentials_t cred)
{
    gnutls_session_t session = NULL;
    int fd = connect_to(port);
    int rc;

    bench_gnutls(gnutls_init(&session, GNUTLS_CLIENT), "session");
    bench_gnutls(gnutls_set_default_priority(session), "priority");
    bench_gnutls(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred), "credentials");
    bench_gnutls(gnutls_server_name_set(session, GNUTLS_NAME_DNS, name, strlen(name)), "name");
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, 60000);
    do
        rc = gnutls_handshake(session);
    while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    bench_gnutls(rc, "first handshake");
    check_peer(session, name);
    gnutls_deinit(session);
    (void)close(fd);
}

static double start_once(const char *self, const char *root, const char *n_text, const char *name,
                         gnutls_certificate_credentials_t cred)
{
    char port_text[16];
    int out[2];
    FILE *from;
    unsigned port = 0;

    (void)snprintf(port_text, sizeof port_text, "%u", (unsigned)free_port());
    bench_check(setenv("BENCH_PORT", port_text, 1) == 0 && pipe(out) == 0, "pipe: %s",
                strerror(errno));
    uint64_t began = bench_mono_ns();
    pid_t pid = fork();
    bench_check(pid >= 0, "fork: %s", strerror(errno));
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* it must not outlive a failed client */
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)close(out[1]);
        (void)execl(self, self, "serve", root, n_text, (char *)NULL);
        _exit(127);
    }
    (void)close(out[1]);
    from = fdopen(out[0], "r");
    bench_check(from != NULL && fscanf(from, "%u", &port) == 1, "the server did not start");
    handshake((uint16_t)port, name, cred);
    double ms = (double)(bench_mono_ns() - began) / 1e6;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    (void)fclose(from);
    return ms;
}

int main(int argc, char **argv)
{
    gnutls_certificate_credentials_t cred = NULL;
    uint64_t seed = bench_mono_ns() | 1;
    char name[BENCH_NAME_BUF];
    double ms[99];

    bench_check(argc == 4, "usage: %s DIR N STARTS", argv[0]);
    if (strcmp(argv[1], "serve") == 0) {
        serve(argv[2], bench_number(argv[3], BENCH_NAMES_MAX));
        return 0;
    }
    size_t n = bench_number(argv[2], BENCH_NAMES_MAX);
    size_t starts = bench_number(argv[3], 99);
    bench_check(n > 0 && starts > 0, "at least one certificate and one start");
    bench_gnutls(gnutls_certificate_allocate_credentials(&cred), "credentials");
    for (size_t i = 0; i < starts; i++) {
        bench_name(bench_random(&seed) % n, name);
        ms[i] = start_once(argv[0], argv[1], argv[2], name, cred);
    }
    double median = bench_quantile(ms, starts, 0.5);
    printf("%.1f %.1f\n", median, ms[starts - 1]);
    gnutls_certificate_free_credentials(cred);
    return 0;
}
