/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FAULT_ALLOC_H
#define CM_TESTS_FAULT_ALLOC_H

/* Every allocation of our own rooms fails once, in one scenario after the other (alloc.c has the
 * loop, alloc_scenarios.c what is done). */

#include <certmesh/cm.h>

#include "base.h"

/* Where a scenario works; from the command line. */
struct alloc_lab {
    const char *root; /* an empty folder of our own */
    char store[512];  /* URL of the storage of the point; a fresh one when the scenario says so */
    const char *directory_url; /* of a CA; NULL: the local CA issues */
    const char *ca_root;
    uint16_t http_port;
    uint16_t tls_port;
};

struct alloc_scenario {
    const char *name;
    bool needs_ca;
    bool fresh;        /* each point begins with empty storage */
    cm_status also[2]; /* what it may say beside that it is out of memory; CM_OK: nothing */
    unsigned least;    /* points below which the scenario did not do what it is for */
    /* Before the failure is armed and after it is off; must succeed. */
    cm_status (*prepare)(const struct alloc_lab *lab, struct cm_err *err);
    /* With one failure in it. Nothing is left running when it returns. */
    cm_status (*run)(const struct alloc_lab *lab, struct cm_err *err);
    /* What must hold afterwards, before anybody has tried again, and then after a plain run. */
    cm_status (*check)(const struct alloc_lab *lab, struct cm_err *err);
};

extern const struct alloc_scenario alloc_scenarios[];
extern const size_t alloc_n_scenarios;

/* ---- alloc_autocert.c ---- */
cm_status alloc_autocert(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_autocert_check(const struct alloc_lab *lab, struct cm_err *err);

/* ---- alloc_dns.c ---- */
cm_status alloc_dns01(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_dns01_check(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_source_prepare(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_source(const struct alloc_lab *lab, struct cm_err *err);

/* ---- alloc_keys.c ---- */
cm_status alloc_signer(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_signer_check(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_token(const struct alloc_lab *lab, struct cm_err *err);

/* ---- alloc_more.c ---- */
cm_status alloc_csr_prepare(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_csr(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_csr_check(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_zerossl(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_rfc2136_prepare(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_rfc2136(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_dns_providers(const struct alloc_lab *lab, struct cm_err *err);

/* ---- alloc_openssl.c: a handshake of a server built on OpenSSL ---- */
#ifdef WITH_OPENSSL
cm_status alloc_openssl_prepare(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_openssl(const struct alloc_lab *lab, struct cm_err *err);
cm_status alloc_openssl_check(const struct alloc_lab *lab, struct cm_err *err);
#endif

/* ---- alloc_tls.c: handshakes over a pair of sockets, the client in a thread ---- */

/* @gate: which door. @acme_tls: as a CA validates. */
cm_status alloc_handshake(struct cm_config *cfg, bool gate, const char *name, bool acme_tls,
                          struct cm_err *err);

#endif
