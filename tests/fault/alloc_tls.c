/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HANDSHAKE_MS 20000u

struct client {
    int fd;
    const char *name;
    bool acme_tls;
    int rc;
};

/* A client as programs have it: nothing of it goes through our allocation. */
static void *client_main(void *arg)
{
    struct client *c = arg;
    gnutls_session_t s = NULL;
    gnutls_certificate_credentials_t cred = NULL;
    char rest[1024];
    gnutls_datum_t proto = { (unsigned char *)(uintptr_t) "acme-tls/1", 10 };

    c->rc = gnutls_init(&s, GNUTLS_CLIENT);
    if (c->rc == 0)
        c->rc = gnutls_certificate_allocate_credentials(&cred);
    if (c->rc == 0)
        c->rc = gnutls_set_default_priority(s);
    if (c->rc == 0)
        c->rc = gnutls_credentials_set(s, GNUTLS_CRD_CERTIFICATE, cred);
    if (c->rc == 0)
        c->rc = gnutls_server_name_set(s, GNUTLS_NAME_DNS, c->name, strlen(c->name));
    if (c->rc == 0 && c->acme_tls)
        c->rc = gnutls_alpn_set_protocols(s, &proto, 1, GNUTLS_ALPN_MANDATORY);
    if (c->rc == 0) {
        gnutls_transport_set_int(s, c->fd);
        gnutls_handshake_set_timeout(s, HANDSHAKE_MS);
        do {
            c->rc = gnutls_handshake(s);
        } while (c->rc < 0 && gnutls_error_is_fatal(c->rc) == 0);
        /* The server may still be sending tickets. */
        while (c->rc == 0 && recv(c->fd, rest, sizeof rest, 0) > 0)
            ;
    }
    (void)shutdown(c->fd, SHUT_RDWR);
    if (s != NULL)
        gnutls_deinit(s);
    if (cred != NULL)
        gnutls_certificate_free_credentials(cred);
    return NULL;
}

static int serve(gnutls_session_t s, int fd, bool gate)
{
    int rc;

    if (!gate)
        gnutls_transport_set_int(s, fd);
    gnutls_handshake_set_timeout(s, HANDSHAKE_MS);
    do {
        rc = gnutls_handshake(s);
    } while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    return rc;
}

cm_status alloc_handshake(struct cm_config *cfg, bool gate, const char *name, bool acme_tls,
                          struct cm_err *err)
{
    struct client client = { -1, name, acme_tls, 0 };
    gnutls_session_t s = NULL;
    pthread_t thread;
    int fds[2];
    cm_status rc;
    int served = 0;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return cm_fail_errno(err, "socketpair");
    client.fd = fds[1];
    CM_ASSERT(pthread_create(&thread, NULL, client_main, &client) == 0);
    CM_ASSERT(gnutls_init(&s, GNUTLS_SERVER) == 0);
    rc = cm_config_tls_setup(cfg, s, gate ? fds[0] : -1, err);
    if (rc == CM_OK) {
        served = serve(s, fds[0], gate);
        if (served < 0) {
            rc = cm_tls_refusal(s, err);
            if (rc == CM_OK) /* the TLS library had to tell it in its own words */
                rc = cm_fail(err, served == GNUTLS_E_MEMORY_ERROR ? CM_E_NOMEM : CM_E_TLS, "%s",
                             gnutls_strerror(served));
        }
    }
    (void)shutdown(fds[0], SHUT_RDWR);
    CM_ASSERT(pthread_join(thread, NULL) == 0);
    gnutls_deinit(s);
    (void)close(fds[0]);
    (void)close(fds[1]);
    if (rc == CM_OK && client.rc < 0)
        rc = cm_fail(err, CM_E_TLS, "the client: %s", gnutls_strerror(client.rc));
    return rc;
}
