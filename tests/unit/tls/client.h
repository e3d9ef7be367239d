/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_CLIENT_H
#define CM_TESTS_CLIENT_H

/* Plain and TLS clients for the server's tests: blocking, five seconds of patience. */

#include "base.h"

#include <gnutls/gnutls.h>

struct client {
    int fd;
    gnutls_session_t session; /* NULL: plain */
    gnutls_certificate_credentials_t cred;
};

/* Connected; -1 in @c->fd when that fails. */
void client_connect(struct client *c, uint16_t port);
/* Connected and through the handshake; the result of gnutls_handshake(). */
int client_tls(struct client *c, uint16_t port, const char *name, const char *alpn);
void client_send(struct client *c, const char *text);
/* Everything until the server closes, as text; freed by the caller. NULL: it did not in time. */
char *client_read_all(struct client *c);
/* One response with a Content-Length (@head: without body); freed by the caller. */
char *client_read_one(struct client *c, bool head);
/* Bytes received before the end: >= 0; -1 if the end does not come within @ms. */
long client_wait_closed(struct client *c, int ms);
void client_close(struct client *c);

/* A port that is free now on all addresses. */
uint16_t free_port(void);

#endif
