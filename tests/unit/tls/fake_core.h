/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FAKE_CORE_H
#define CM_TESTS_FAKE_CORE_H

/* A core that does what a test says: for the tests of lib/tls alone, which look at the doors and
 * need answers that come late, come never, or are refusals of every kind. Linked instead of
 * lib/core. */

#include "tls.h"

#include <stdatomic.h>

struct fake_name {
    const char *name;
    struct cm_cert *cert; /* NULL: refuse with @rc and @alert */
    int delay_ms;         /* the answer comes that much later; < 0 = never */
    cm_status rc;
    int alert;
    bool challenge; /* the answer to acme-tls/1 */
};

struct cm_config {
    struct fake_name names[16];
    size_t n_names;
    atomic_uint asked;   /* calls of cm_get_certificate */
    atomic_uint waiting; /* pendings alive */
    char last_ip[64];
    char last_peer[64];
    bool no_tickets;
    struct cm_ticket_set *tickets; /* one key; fake_ticket_keys() */
    int64_t wait_ns;
    uint16_t http_port;
    uint16_t tls_port;
    const char *priority;
    struct cm_log log;
    struct cm_key *ca_key;
    struct cm_buf ca_der;
    size_t n_managed; /* names given to cm_manage_async() */
    cm_status manage_rc;
};

/* The one http-01 answer: GET FAKE_TOKEN_PATH on host "a.test". */
#define FAKE_TOKEN_PATH "/.well-known/acme-challenge/fake-token"
#define FAKE_TOKEN_TEXT "fake-token.thumbprint"

struct cm_config *fake_config(void);
void fake_config_drop(struct cm_config *cfg); /* certificates too */
/* A certificate for @name ("" = asked without a name), signed by the config's own CA. */
struct fake_name *fake_add(struct cm_config *cfg, const char *name, enum cm_pk type);
struct fake_name *fake_add_key(struct cm_config *cfg, const char *name, struct cm_key *key);
struct fake_name *fake_add_refusal(struct cm_config *cfg, const char *name, cm_status rc,
                                   int alert);
struct fake_name *fake_add_challenge(struct cm_config *cfg, const char *name);
/* Bytes to staple, until @end_s; references to them, that of the certificate included. */
void fake_staple(struct fake_name *e, struct cm_span der, int64_t end_s);
int fake_staple_refs(const struct fake_name *e);
/* From now on tickets are made with the first of @keys, and read with all. */
void fake_ticket_keys(struct cm_config *cfg, uint8_t (*keys)[CM_TICKET_KEY_LEN], size_t n);
/* Certificates alive. */
unsigned fake_certs_alive(void);
/* The CA's root as PEM into @path. */
void fake_write_root(struct cm_config *cfg, const char *path);

#endif
