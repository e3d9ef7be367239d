/* SPDX-License-Identifier: Apache-2.0 */
#include "pair.h"

#include "build_hello.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

unsigned pair_client_flags;

static void must_tls(int rc, const char *what)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "pair: %s: %s\n", what, gnutls_strerror(rc));
    abort();
}

/* The client's transport: can cut its ClientHello into small records. */
static ssize_t client_push(gnutls_transport_ptr_t ptr, const void *data, size_t len)
{
    struct pair *p = ptr;
    const uint8_t *bytes = data;

    if (p->record != 0 && !p->flight_done && bytes[0] == 22) {
        struct cm_buf out = CM_BUF_INIT(1 << 20);
        size_t body = ((size_t)bytes[3] << 8) | bytes[4];

        CM_ASSERT(len == body + 5);
        build_records((struct cm_span){ bytes + 5, body }, p->record, &out);
        CM_ASSERT(send(p->fd[1], out.data, out.len, MSG_NOSIGNAL) == (ssize_t)out.len);
        cm_buf_free(&out);
        p->flight_done = true;
        return (ssize_t)len;
    }
    if (p->write_max != 0 && len > p->write_max)
        len = p->write_max;
    return send(p->fd[1], data, len, MSG_NOSIGNAL);
}

static ssize_t client_pull(gnutls_transport_ptr_t ptr, void *data, size_t len)
{
    struct pair *p = ptr;

    return recv(p->fd[1], data, len, 0);
}

void pair_start(struct pair *p, struct cm_config *cfg, enum pair_door door, const char *priority,
                const char *name, const char *alpn)
{
    struct cm_err err = CM_ERR_INIT;

    *p = (struct pair){ .server_rc = GNUTLS_E_AGAIN, .client_rc = GNUTLS_E_AGAIN };
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p->fd) != 0)
        abort();
    must_tls(gnutls_init(&p->server, GNUTLS_SERVER | GNUTLS_NONBLOCK), "server");
    if (cm_config_tls_setup(cfg, p->server, door == PAIR_GATE ? p->fd[0] : -1, &err) != CM_OK) {
        (void)fprintf(stderr, "setup: %s\n", err.msg);
        abort();
    }
    if (door == PAIR_HOOK)
        gnutls_transport_set_int(p->server, p->fd[0]);

    must_tls(gnutls_init(&p->client, GNUTLS_CLIENT | GNUTLS_NONBLOCK | pair_client_flags),
             "client");
    must_tls(gnutls_certificate_allocate_credentials(&p->cred), "credentials");
    must_tls(gnutls_credentials_set(p->client, GNUTLS_CRD_CERTIFICATE, p->cred), "credentials");
    must_tls(gnutls_priority_set_direct(p->client, priority, NULL), "priority");
    if (name != NULL)
        must_tls(gnutls_server_name_set(p->client, GNUTLS_NAME_DNS, name, strlen(name)), "name");
    if (alpn != NULL) {
        const gnutls_datum_t d = { (unsigned char *)(uintptr_t)alpn, (unsigned)strlen(alpn) };

        must_tls(gnutls_alpn_set_protocols(p->client, &d, 1, 0), "ALPN");
    }
    gnutls_transport_set_ptr(p->client, p);
    gnutls_transport_set_push_function(p->client, client_push);
    gnutls_transport_set_pull_function(p->client, client_pull);
}

static void step_server(struct pair *p)
{
    if (p->server_rc != GNUTLS_E_AGAIN)
        return;
    p->server_rc = gnutls_handshake(p->server);
    if (p->server_rc < 0 && gnutls_error_is_fatal(p->server_rc) == 0)
        p->server_rc = GNUTLS_E_AGAIN;
    if (p->server_rc == GNUTLS_E_AGAIN && cm_tls_wait_fd(p->server) >= 0 &&
        cm_tls_wait_fd(p->server) != p->fd[0])
        p->server_waits++;
    if (p->server_rc < 0 && p->server_rc != GNUTLS_E_AGAIN) {
        (void)gnutls_alert_send_appropriate(p->server, p->server_rc);
        (void)shutdown(p->fd[0], SHUT_WR);
    }
}

static void step_client(struct pair *p)
{
    if (p->client_rc != GNUTLS_E_AGAIN)
        return;
    p->client_rc = gnutls_handshake(p->client);
    if (p->client_rc == GNUTLS_E_FATAL_ALERT_RECEIVED ||
        p->client_rc == GNUTLS_E_WARNING_ALERT_RECEIVED)
        p->client_alert = (int)gnutls_alert_get(p->client);
    if (p->client_rc < 0 && gnutls_error_is_fatal(p->client_rc) == 0)
        p->client_rc = GNUTLS_E_AGAIN;
    if (p->client_rc < 0 && p->client_rc != GNUTLS_E_AGAIN)
        (void)shutdown(p->fd[1], SHUT_WR);
}

void pair_run(struct pair *p, int ms)
{
    const struct cm_env *env = cm_env_system();
    int64_t end = env->mono_ns(env) + ms * CM_NS_PER_MS;

    while ((p->server_rc == GNUTLS_E_AGAIN || p->client_rc == GNUTLS_E_AGAIN) &&
           env->mono_ns(env) < end) {
        int wait_fd;
        struct pollfd w[2];

        step_client(p);
        step_server(p);
        wait_fd = cm_tls_wait_fd(p->server);
        w[0] = (struct pollfd){ .fd = wait_fd >= 0 ? wait_fd : p->fd[0], .events = POLLIN };
        w[1] = (struct pollfd){ .fd = p->fd[1], .events = POLLIN };
        if (p->server_rc != GNUTLS_E_AGAIN)
            w[0].fd = -1;
        if (p->client_rc != GNUTLS_E_AGAIN)
            w[1].fd = -1;
        (void)poll(w, 2, p->write_max != 0 ? 0 : 20);
    }
}

void pair_end(struct pair *p)
{
    gnutls_deinit(p->server);
    gnutls_deinit(p->client);
    gnutls_certificate_free_credentials(p->cred);
    (void)close(p->fd[0]);
    (void)close(p->fd[1]);
}
