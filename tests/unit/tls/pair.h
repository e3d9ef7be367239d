/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_PAIR_H
#define CM_TESTS_PAIR_H

/* A GnuTLS client and a certmesh server on a socket pair, in one thread. */

#include "fake_core.h"

struct pair {
    gnutls_session_t server, client;
    gnutls_certificate_credentials_t cred;
    int fd[2];                /* server, client */
    int server_rc, client_rc; /* GNUTLS_E_AGAIN while under way */
    int client_alert;         /* received, 0 = none */
    unsigned server_waits;    /* rounds in which the server waited for something not its socket */
    size_t record;            /* the client's first flight in records of that size; 0 = as it is */
    size_t write_max;         /* the client writes at most that many bytes at a time; 0 = all */
    bool flight_done;
};

enum pair_door { PAIR_GATE, PAIR_HOOK };

/* More flags for gnutls_init() of clients. */
extern unsigned pair_client_flags;
/* @priority of the client, @name NULL = no SNI, @alpn NULL = none. */
void pair_start(struct pair *p, struct cm_config *cfg, enum pair_door door, const char *priority,
                const char *name, const char *alpn);
/* Until both are done or @ms have passed without an end. */
void pair_run(struct pair *p, int ms);
void pair_end(struct pair *p);

#endif
