/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_BENCH_H
#define CM_TESTS_BENCH_H

/* What the programs of ./dev bench share. They use the library as any program does: the public
 * headers and the shared library, so that what they measure is what users get. */

#include <certmesh/cm.h>

#include <stdatomic.h>
#include <stdint.h>

/* ---- the end of a program that cannot measure */

_Noreturn void bench_die(const char *fmt, ...) CM_PRINTF(1, 2);
/* A call of the library, or of GnuTLS, that has to succeed. */
void bench_ok(cm_status rc, const struct cm_err *err, const char *what);
void bench_gnutls(int rc, const char *what);
/* An answer that has to be right: a fast wrong one is no result. */
#define bench_check(cond, ...)                                                                     \
    do {                                                                                           \
        if (!(cond))                                                                               \
            bench_die(__VA_ARGS__);                                                                \
    } while (0)

/* ---- arguments, clocks, statistics */

size_t bench_number(const char *text, size_t max);
uint64_t bench_mono_ns(void);
uint64_t bench_cpu_ns(void); /* of this process, all threads */
void bench_pin(int cpu);     /* this thread; nothing happens where there is only one */
/* Sorts @v. @q of 0..1. */
double bench_quantile(double *v, size_t n, double q);
/* From /proc/self: bytes that are resident, after what malloc keeps for later has been returned. */
size_t bench_resident(void);
/* xorshift: which name is next must cost nothing and be the same in every run. */
uint64_t bench_random(uint64_t *state);

/* ---- allocations, counted while bench_counting is set (alloc.c) */

extern _Atomic bool bench_counting;
extern _Atomic uint64_t bench_allocations;
/* Sees to it that the counter sees anything at all. */
void bench_allocations_work(void);

/* ---- certificates */

#define BENCH_NAME_LEN  19 /* n0000000.bench.test */
#define BENCH_NAME_BUF  (BENCH_NAME_LEN + 1)
#define BENCH_NAMES_MAX 10000000u
void bench_name(size_t i, char ret[BENCH_NAME_BUF]);

/* Leaves that differ in name and serial number only: made once, then patched, because signing a
 * million would take minutes. So their signatures are not right, which a server does not look at
 * while it chooses and serves; what comes from storage it does check, in the end. P-256 leaf, P-256
 * intermediate, one key for all leaves. */
struct bench_factory {
    gnutls_datum_t leaf; /* DER of the pattern */
    char *issuer_pem;    /* intermediate */
    gnutls_datum_t key;  /* PEM, "EC PRIVATE KEY" */
    size_t name_at[4];   /* where in the leaf */
    size_t n_name_at;
    size_t serial_at;
    gnutls_x509_crt_t ca;
    gnutls_x509_privkey_t ca_key;
};
void bench_factory_init(struct bench_factory *f);
/* With leaves of another type: p256, p384, ed25519, rsa2048. */
void bench_factory_init_key(struct bench_factory *f, const char *type);
void bench_factory_free(struct bench_factory *f);
/* DER of leaf @i in generation @generation (0: the first; others are its replacements). */
void bench_factory_der(const struct bench_factory *f, size_t i, unsigned generation, uint8_t *out);
/* Chain as PEM; free it with gnutls_free(). */
struct cm_span bench_factory_pem(const struct bench_factory *f, size_t i, unsigned generation);
/* The same really signed, which takes a hundred times as long: for whoever checks. */
struct cm_span bench_factory_signed_pem(const struct bench_factory *f, size_t i,
                                        unsigned generation);
struct cm_span bench_factory_key(const struct bench_factory *f);
/* Put leaf @i into @cache. @ret may be NULL. */
void bench_factory_add(const struct bench_factory *f, struct cm_cache *cache, size_t i,
                       unsigned generation, struct cm_cert **ret);

/* ---- a config without network, and a storage that has nothing and counts who asks */

struct bench_storage {
    struct cm_storage base;
    _Atomic unsigned calls;
};
void bench_storage_init(struct bench_storage *s);
/* With the local CA as issuer, which is never asked. Ended by cm_config_free(). */
struct cm_config *bench_config(struct bench_storage *s);

#endif
