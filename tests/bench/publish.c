/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* publish N COUNT: put COUNT certificates, one after the other, into a cache with N of them, take
 * the old ones out, while another thread chooses certificates without pause. What adding costs is
 * compared with adding to an empty cache, which is reading the PEM and nothing else.
 *
 * Prints: ADD_EMPTY_US ADD_US ADD_P99_US REMOVE_US, then what the reader saw, in microseconds:
 * QUIET_P999 QUIET_MAX BUSY_P999 BUSY_MAX. */

#define SAMPLES_MAX (1u << 22)

struct reader {
    struct cm_config *cfg;
    size_t n;
    _Atomic bool stop;
    _Atomic size_t newest; /* a name that has just been published */
    double *us;
    _Atomic size_t n_us;
    pthread_t thread;
};

static void choose(struct cm_config *cfg, struct cm_hello *hello, size_t i)
{
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;

    bench_name(i, hello->server_name);
    bench_ok(cm_get_certificate(cfg, hello, &cert, &pending, &err), &err, "choose");
    bench_check(strcmp(cm_cert_name(cert, 0), hello->server_name) == 0, "'%s' for '%s'",
                cm_cert_name(cert, 0), hello->server_name);
    cm_cert_unref(cert);
}

static void *read_on(void *p)
{
    struct reader *r = p;
    struct cm_hello *hello = calloc(1, sizeof *hello);
    uint64_t seed = 4711;

    bench_check(hello != NULL, "out of memory");
    bench_pin(1);
    for (size_t n = 0; !atomic_load(&r->stop); n++) {
        size_t i = n % 16 == 0 ? atomic_load(&r->newest) : bench_random(&seed) % r->n;
        uint64_t began = bench_mono_ns();

        choose(r->cfg, hello, i);
        if (n < SAMPLES_MAX) {
            r->us[n] = (double)(bench_mono_ns() - began) / 1e3;
            atomic_store(&r->n_us, n + 1);
        }
    }
    free(hello);
    return NULL;
}

static void start(struct reader *r, struct cm_config *cfg, size_t n)
{
    r->cfg = cfg;
    r->n = n;
    atomic_init(&r->n_us, 0);
    atomic_init(&r->stop, false);
    atomic_init(&r->newest, 0);
    r->us = calloc(SAMPLES_MAX, sizeof r->us[0]);
    bench_check(r->us != NULL && pthread_create(&r->thread, NULL, read_on, r) == 0, "no thread");
    while (atomic_load(&r->n_us) == 0) /* until it runs */
        (void)sched_yield();
}

static void stop(struct reader *r, double *ret_p999, double *ret_max)
{
    atomic_store(&r->stop, true);
    (void)pthread_join(r->thread, NULL);
    size_t n = atomic_load(&r->n_us);
    *ret_p999 = bench_quantile(r->us, n, 0.999);
    *ret_max = r->us[n - 1];
    free(r->us);
}

static double add_us(const struct bench_factory *f, struct cm_cache *cache, size_t i,
                     unsigned generation, struct cm_cert **ret)
{
    struct cm_span pem = bench_factory_pem(f, i, generation);
    struct cm_err err = CM_ERR_INIT;

    uint64_t began = bench_mono_ns();
    bench_ok(cm_cache_add_pem(cache, pem, bench_factory_key(f), NULL, ret, &err), &err, "add");
    double us = (double)(bench_mono_ns() - began) / 1e3;
    gnutls_free((void *)(uintptr_t)pem.data);
    return us;
}

static double add_to_empty_us(const struct bench_factory *f, size_t count)
{
    double *us = calloc(count, sizeof *us);
    struct cm_cache *cache = NULL;
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;

    bench_check(us != NULL, "out of memory");
    bench_ok(cm_cache_new(NULL, &cache, &err), &err, "cache");
    for (size_t i = 0; i < count; i++) {
        us[i] = add_us(f, cache, i, 1, &cert);
        bench_check(cm_cache_remove(cache, cert), "it was not in");
        cm_cert_unref(cert);
    }
    cm_cache_free(cache);
    double median = bench_quantile(us, count, 0.5);
    free(us);
    return median;
}

/* Half of them replace one that is there, half are new names. */
static void publish_all(const struct bench_factory *f, struct reader *r, struct cm_cert **loaded,
                        size_t count, double *add, double *gone)
{
    struct cm_cache *cache = cm_config_cache(r->cfg);
    uint64_t seed = 99;

    bench_pin(0);
    for (size_t i = 0; i < count; i++) {
        size_t at = i % 2 == 0 ? bench_random(&seed) % r->n : r->n + i;
        struct cm_cert *cert = NULL;

        add[i] = add_us(f, cache, at, (unsigned)i + 1, &cert);
        struct cm_cert *old = at < r->n ? loaded[at] : cert;
        if (at < r->n) {
            atomic_store(&r->newest, at);
            loaded[at] = cert;
        }
        uint64_t began = bench_mono_ns();
        bench_check(cm_cache_remove(cache, old), "it was not in");
        gone[i] = (double)(bench_mono_ns() - began) / 1e3;
        cm_cert_unref(old);
    }
    bench_check(cm_cache_count(cache) == r->n, "%zu certificates are left of %zu",
                cm_cache_count(cache), r->n);
}

int main(int argc, char **argv)
{
    struct bench_storage storage;
    struct bench_factory f;
    static struct reader r;
    double quiet[2], busy[2];

    bench_check(argc == 3, "usage: %s N COUNT", argv[0]);
    size_t n = bench_number(argv[1], BENCH_NAMES_MAX / 2);
    size_t count = bench_number(argv[2], 1000000);
    struct cm_cert **loaded = calloc(n, sizeof(struct cm_cert *));
    double *add = calloc(count, sizeof *add);
    double *gone = calloc(count, sizeof *gone);
    bench_check(n > 0 && count > 0 && loaded != NULL && add != NULL && gone != NULL,
                "at least one certificate");
    bench_storage_init(&storage);
    struct cm_config *cfg = bench_config(&storage);
    bench_factory_init(&f);
    for (size_t i = 0; i < n; i++)
        bench_factory_add(&f, cm_config_cache(cfg), i, 0, &loaded[i]);

    double empty_us = add_to_empty_us(&f, count);
    start(&r, cfg, n);
    uint64_t until = bench_mono_ns() + 200000000u;
    while (bench_mono_ns() < until)
        (void)add_to_empty_us(&f, 10); /* as busy as the writer will be, but elsewhere */
    stop(&r, &quiet[0], &quiet[1]);
    start(&r, cfg, n);
    publish_all(&f, &r, loaded, count, add, gone);
    stop(&r, &busy[0], &busy[1]);
    double median = bench_quantile(add, count, 0.5);
    printf("%.2f %.2f %.2f %.2f %.2f %.1f %.2f %.1f\n", empty_us, median,
           bench_quantile(add, count, 0.99), bench_quantile(gone, count, 0.5), quiet[0], quiet[1],
           busy[0], busy[1]);
    for (size_t i = 0; i < n; i++)
        cm_cert_unref(loaded[i]);
    free(loaded);
    free(add);
    free(gone);
    cm_config_free(cfg);
    bench_factory_free(&f);
    return 0;
}
