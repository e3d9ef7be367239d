/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_CORE_H
#define CM_CORE_CORE_H

/* The door of lib/core for lib/tls: what the adapter needs beside the public calls of cm.h. What
 * core's own files share stands in core_private.h. */

#include <certmesh/cm.h>

#include "pki.h"

#include <stdatomic.h>

/* ---- a certificate as something to serve ---- */

/* DER of the i-th certificate, leaf first; empty past the end. Borrowed. */
struct cm_span cm_cert_der(const struct cm_cert *c, size_t i);
size_t cm_cert_chain_len(const struct cm_cert *c);
/* New reference to the private key (imported from the compact form). */
CM_MUST_CHECK cm_status cm_cert_key(const struct cm_cert *c, struct cm_key **ret,
                                    struct cm_err *err);
/* Is this the answer to a tls-alpn-01 challenge? */
bool cm_cert_is_challenge(const struct cm_cert *c);

/* What the adapter made of the certificate for its TLS library, made on first use and freed with
 * the certificate. _get returns NULL while there is none; _set keeps the first one that arrives
 * and returns the kept one (then the caller frees its own if it lost). */
void *cm_cert_serving_get(const struct cm_cert *c);
void *cm_cert_serving_set(struct cm_cert *c, void *serving, void (*destroy)(void *serving));

/* What proves that the certificate is not revoked (an OCSP response), as it is now: a reference, or
 * NULL. Immutable; a newer one may take its place any time. One atomic read where there is none. */
struct cm_staple;
struct cm_staple *cm_cert_staple(const struct cm_cert *c);
struct cm_span cm_staple_der(const struct cm_staple *s);
/* Seconds since 1970 from which on it must not be sent any more. */
int64_t cm_staple_end_s(const struct cm_staple *s);
void cm_staple_unref(struct cm_staple *s); /* NULL ok */

/* ---- what the adapter asks of a config ---- */

const char *cm_config_priority(const struct cm_config *cfg);
bool cm_config_tickets(const struct cm_config *cfg);

/* ---- keys of session tickets (life/tickets.c) ---- */

#define CM_TICKET_KEY_LEN 64u /* what GnuTLS asks for */
#define CM_TICKET_KEYS    5u
/* What the adapter made of the keys; destroyed with them. The first member of its own struct. */
struct cm_ticket_derived {
    void (*destroy)(struct cm_ticket_derived *d);
};
/* What tickets are made and read with just now. Immutable, reference counted; the keys are wiped
 * when nobody has it any more. */
struct cm_ticket_set {
    _Atomic unsigned refs;
    size_t n; /* at least 1: tickets are made with the first, and read with all */
    uint8_t key[CM_TICKET_KEYS][CM_TICKET_KEY_LEN];
    _Atomic(struct cm_ticket_derived *) derived; /* NULL, or set once */
};
/* A reference. */
struct cm_ticket_set *cm_config_ticket_set(struct cm_config *cfg);
void cm_ticket_set_unref(struct cm_ticket_set *s); /* NULL ok */
/* @cfg serves TLS from now on: its keys are to be those of the fleet soon. Cheap, again and again;
 * does not wait. */
void cm_config_tickets_begin(struct cm_config *cfg);

/* ---- more of a config ---- */

int64_t cm_config_handshake_wait_ns(const struct cm_config *cfg);
uint16_t cm_config_http_port(const struct cm_config *cfg);
uint16_t cm_config_tls_port(const struct cm_config *cfg);
const char *cm_config_listen_host(const struct cm_config *cfg); /* NULL = all */
const struct cm_env *cm_config_env(const struct cm_config *cfg);
const struct cm_log *cm_config_log(const struct cm_config *cfg);

/* ---- board (also in cm_spi.h: put, remove) ---- */
CM_MUST_CHECK cm_status cm_board_new(struct cm_board **ret, struct cm_err *err);
void cm_board_free(struct cm_board *b);

#endif
