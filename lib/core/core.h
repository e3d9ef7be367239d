/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_CORE_H
#define CM_CORE_CORE_H

/* The door of lib/core for lib/tls: what the adapter needs beside the public calls of cm.h. What
 * core's own files share stands in core_private.h. What other adapters need too is in cm_adapter.h.
 */

#include <certmesh/cm.h>

#include "pki.h"

#include <stdatomic.h>

/* ---- a certificate as something to serve ---- */

/* New reference to the private key (imported from the compact form). */
CM_MUST_CHECK cm_status cm_cert_key(const struct cm_cert *c, struct cm_key **ret,
                                    struct cm_err *err);
/* Is its key in a token that is away just now? Quick. @err may get the reason. */
bool cm_cert_key_is_away(const struct cm_cert *c, struct cm_err *err);
/* Such an answer that somebody else has made. CM_E_KEY when the key is not the certificate's. */
CM_MUST_CHECK cm_status cm_cert_of_challenge(struct cm_span cert_pem, struct cm_span key_pem,
                                             struct cm_cert **ret, struct cm_err *err);

/* ---- what the adapter asks of a config ---- */

const char *cm_config_priority(const struct cm_config *cfg);

/* ---- keys of session tickets (life/tickets.c) ---- */

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

/* ---- more of a config ---- */

/* cm_http01_looks_like(), and @cfg has an issuer that asks for this. */
bool cm_validation_is_ours(const struct cm_config *cfg, const char *method, const char *path);
uint16_t cm_config_http_port(const struct cm_config *cfg);
uint16_t cm_config_tls_port(const struct cm_config *cfg);
const char *cm_config_listen_host(const struct cm_config *cfg); /* NULL = all */
bool cm_config_on_demand(const struct cm_config *cfg);
const struct cm_log *cm_config_log(const struct cm_config *cfg);

/* ---- board (also in cm_spi.h: put, remove) ---- */
CM_MUST_CHECK cm_status cm_board_new(struct cm_board **ret, struct cm_err *err);
void cm_board_free(struct cm_board *b);

#endif
