/* SPDX-License-Identifier: Apache-2.0 */
#include "shake.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static gnutls_certificate_credentials_t client_cred(void)
{
    static gnutls_certificate_credentials_t cred;

    if (cred == NULL)
        bench_gnutls(gnutls_certificate_allocate_credentials(&cred), "credentials");
    return cred;
}

static gnutls_session_t new_client(int fd, const char *name)
{
    gnutls_session_t s = NULL;

    bench_gnutls(gnutls_init(&s, GNUTLS_CLIENT | GNUTLS_NONBLOCK), "client");
    bench_gnutls(gnutls_set_default_priority(s), "priority");
    bench_gnutls(gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, client_cred()), "credentials");
    bench_gnutls(gnutls_server_name_set(s, GNUTLS_NAME_DNS, name, strlen(name)), "name");
    gnutls_transport_set_int(s, fd);
    return s;
}

static bool step(gnutls_session_t s, bool done, const char *who)
{
    int rc = done ? 0 : gnutls_handshake(s);

    if (rc < 0 && gnutls_error_is_fatal(rc) != 0)
        bench_gnutls(rc, who);
    return rc == 0;
}

void shake_name(struct cm_config *cfg, size_t i)
{
    gnutls_session_t server = NULL;
    struct cm_err err = CM_ERR_INIT;
    char name[BENCH_NAME_BUF];
    bool client_done = false, server_done = false;
    unsigned n = 0;
    int fd[2];

    bench_name(i, name);
    bench_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0,
                "sockets: %s", strerror(errno));
    gnutls_session_t client = new_client(fd[0], name);
    bench_gnutls(gnutls_init(&server, GNUTLS_SERVER | GNUTLS_NONBLOCK), "server");
    bench_ok(cm_config_tls_setup(cfg, server, fd[1], &err), &err, "set up the session");
    for (int turn = 0; turn < 100 && !(client_done && server_done); turn++) {
        client_done = step(client, client_done, "client's handshake");
        server_done = step(server, server_done, "server's handshake");
    }
    bench_check(client_done && server_done, "the handshake does not end");
    const gnutls_datum_t *der = gnutls_certificate_get_peers(client, &n);
    bench_check(n == 2 && memmem(der->data, der->size, name, BENCH_NAME_LEN) != NULL,
                "the certificate is not for '%s'", name);
    gnutls_deinit(client);
    gnutls_deinit(server);
    (void)close(fd[0]);
    (void)close(fd[1]);
}
