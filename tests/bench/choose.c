/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* choose N ROUNDS MS: what choosing the certificate for a parsed hello costs, with N certificates,
 * beside a floor that does the least that must be done: lower case, hash, compare, in a table that
 * nobody else writes. The same names in the same order for both, rounds in turn.
 *
 * Prints a line per kind: KIND THREADS FLOOR_NS OURS_NS RATIO, medians; hot is one name alone. */

#define ORDER_MAX (1u << 20)

struct floor_entry {
    uint32_t hash;
    uint32_t refs;
    char name[BENCH_NAME_BUF];
};

struct run {
    struct cm_config *cfg;
    struct floor_entry **table;
    size_t mask;
    char (*order)[BENCH_NAME_BUF]; /* names in the order they are asked for */
    size_t n_order;
    uint64_t ns; /* of one measurement */
};

/* ---- floor ---- */

static uint32_t floor_hash(const char *s, size_t n)
{
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ n;
    uint64_t w;

    for (; n >= sizeof w; n -= sizeof w, s += sizeof w) {
        memcpy(&w, s, sizeof w);
        h = (h ^ w) * UINT64_C(0xFF51AFD7ED558CCD);
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, s, n);
    h = (h ^ w) * UINT64_C(0xC4CEB9FE1A85EC53);
    return (uint32_t)(h ^ h >> 29);
}

static const struct floor_entry *floor_find(const struct run *r, const char *sni)
{
    char low[256];
    size_t n = 0;

    for (; sni[n] != '\0' && n < sizeof low - 1; n++)
        low[n] = sni[n] >= 'A' && sni[n] <= 'Z' ? (char)(sni[n] + 32) : sni[n];
    low[n] = '\0';
    uint32_t hash = floor_hash(low, n);
    for (size_t i = hash & r->mask; r->table[i] != NULL; i = (i + 1) & r->mask)
        if (r->table[i]->hash == hash && strcmp(r->table[i]->name, low) == 0)
            return r->table[i];
    return NULL;
}

static void floor_add(struct run *r, size_t number)
{
    struct floor_entry *e = calloc(1, sizeof *e);

    bench_check(e != NULL, "out of memory");
    bench_name(number, e->name);
    e->hash = floor_hash(e->name, BENCH_NAME_LEN);
    size_t i = e->hash & r->mask;
    while (r->table[i] != NULL)
        i = (i + 1) & r->mask;
    r->table[i] = e;
}

static void make_table(struct run *r, size_t n)
{
    size_t size = 16;

    while (size < 2 * n)
        size *= 2;
    r->mask = size - 1;
    r->table = calloc(size, sizeof r->table[0]);
    bench_check(r->table != NULL, "out of memory");
    for (size_t i = 0; i < n; i++)
        floor_add(r, i);
}

static void make_order(struct run *r, size_t n)
{
    uint64_t seed = 88172645463325252u;

    r->n_order = n > ORDER_MAX / 4 ? ORDER_MAX : n * 4;
    r->order = calloc(r->n_order, sizeof r->order[0]);
    bench_check(r->order != NULL, "out of memory");
    for (size_t i = 0; i < r->n_order; i++)
        bench_name(bench_random(&seed) % n, r->order[i]);
}

/* ---- one measurement ---- */

struct worker {
    struct run *r;
    bool ours, hot;
    int cpu;
    size_t start;
    double ns_each;
    pthread_t thread;
};

/* No error to be filled: to clear one is the caller's, and costs as much as the choice. */
static struct cm_cert *choose(struct run *r, struct cm_hello *hello)
{
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;

    bench_check(cm_get_certificate(r->cfg, hello, &cert, &pending, NULL) == CM_OK,
                "no certificate for '%s'", hello->server_name);
    return cert;
}

/* A thousand at a time, so that the clock costs nothing; then the median of those, for where the
 * CPU is given to others in between, that falls on a few. */
#define BATCH       1024u
#define BATCHES_MAX 100000u

static void *work(void *p)
{
    struct worker *w = p;
    struct run *r = w->r;
    struct cm_hello *hello = calloc(1, sizeof *hello);
    double *batch_ns = calloc(BATCHES_MAX, sizeof *batch_ns);
    size_t at = w->start, batches = 0, found = 0;

    bench_check(hello != NULL && batch_ns != NULL, "out of memory");
    bench_pin(w->cpu);
    uint64_t began = bench_mono_ns(), last = began;
    while (last - began < r->ns && batches < BATCHES_MAX) {
        for (size_t i = 0; i < BATCH; i++) {
            memcpy(hello->server_name, r->order[w->hot ? 0 : at], BENCH_NAME_BUF);
            at = at + 1 == r->n_order ? 0 : at + 1;
            if (w->ours) {
                struct cm_cert *cert = choose(r, hello);

                found += cert != NULL;
                cm_cert_unref(cert);
            } else {
                found += floor_find(r, hello->server_name) != NULL;
            }
        }
        uint64_t now = bench_mono_ns();

        batch_ns[batches++] = (double)(now - last) / BATCH;
        last = now;
    }
    bench_check(found == batches * BATCH, "%zu of %zu names were not found",
                batches * BATCH - found, batches * BATCH);
    w->ns_each = bench_quantile(batch_ns, batches, 0.5);
    free(batch_ns);
    free(hello);
    return NULL;
}

static double measure(struct run *r, bool ours, bool hot, int threads)
{
    struct worker w[2];
    double worst = 0;

    for (int i = 0; i < threads; i++) {
        w[i] = (struct worker){ .r = r, .ours = ours, .hot = hot, .cpu = i };
        w[i].start = r->n_order / 2 * (size_t)i;
        bench_check(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0, "no thread");
    }
    for (int i = 0; i < threads; i++) {
        (void)pthread_join(w[i].thread, NULL);
        worst = w[i].ns_each > worst ? w[i].ns_each : worst;
    }
    return worst;
}

static void measure_kind(struct run *r, const char *kind, bool hot, int threads, size_t rounds)
{
    double floor_ns[99], ours_ns[99], ratio[99];

    for (size_t i = 0; i < rounds; i++) {
        floor_ns[i] = measure(r, false, hot, threads);
        ours_ns[i] = measure(r, true, hot, threads);
        ratio[i] = ours_ns[i] / floor_ns[i];
    }
    printf("%s %d %.1f %.1f %.2f\n", kind, threads, bench_quantile(floor_ns, rounds, 0.5),
           bench_quantile(ours_ns, rounds, 0.5), bench_quantile(ratio, rounds, 0.5));
    (void)fflush(stdout);
}

/* ---- answers, and what they cost besides time ---- */

static void check_answers(struct run *r, struct bench_storage *storage, size_t n)
{
    struct cm_hello *hello = calloc(1, sizeof *hello);
    size_t step = n > 1000 ? n / 1000 : 1;
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;
    size_t asked = 0;

    bench_check(hello != NULL, "out of memory");
    bench_allocations_work();
    unsigned calls = atomic_load(&storage->calls);
    bench_check(cm_load_stored(r->cfg, NULL, "a.test", &cert, NULL) == CM_E_NOTFOUND &&
                    atomic_load(&storage->calls) > calls,
                "the counter of calls to storage does not see any");
    calls = atomic_load(&storage->calls);
    uint64_t allocations = atomic_load(&bench_allocations);
    for (size_t i = 0; i < n; i += step, asked++) {
        bench_name(i, hello->server_name);
        hello->server_name[10] = (char)toupper(hello->server_name[10]);
        atomic_store(&bench_counting, true);
        cert = choose(r, hello);
        atomic_store(&bench_counting, false);
        hello->server_name[10] = (char)tolower(hello->server_name[10]);
        bench_check(strcmp(cm_cert_name(cert, 0), hello->server_name) == 0,
                    "'%s' was chosen for '%s'", cm_cert_name(cert, 0), hello->server_name);
        cm_cert_unref(cert);
    }
    bench_name(n, hello->server_name);
    bench_check(cm_get_certificate(r->cfg, hello, &cert, &pending, NULL) == CM_E_NOTFOUND,
                "'%s' got a certificate that nobody has added", hello->server_name);
    free(hello);
    allocations = atomic_load(&bench_allocations) - allocations;
    calls = atomic_load(&storage->calls) - calls;
    printf("answers %zu allocations %llu storage-calls %u\n", asked,
           (unsigned long long)allocations, calls);
    bench_check(allocations == 0 && calls == 0, "a hit allocates, or asks the storage");
}

int main(int argc, char **argv)
{
    struct bench_storage storage;
    struct bench_factory f;
    struct run r = { 0 };

    bench_check(argc == 4, "usage: %s N ROUNDS MS", argv[0]);
    size_t n = bench_number(argv[1], BENCH_NAMES_MAX - 1);
    size_t rounds = bench_number(argv[2], 99);
    bench_check(n > 0 && rounds > 0, "at least one certificate and one round");
    r.ns = bench_number(argv[3], 60000) * 1000000u;
    bench_storage_init(&storage);
    r.cfg = bench_config(&storage);
    bench_factory_init(&f);
    for (size_t i = 0; i < n; i++)
        bench_factory_add(&f, cm_config_cache(r.cfg), i, 0, NULL);
    cm_cache_stop(cm_config_cache(r.cfg)); /* what maintenance allocates is no choice's */
    make_table(&r, n);
    make_order(&r, n);
    check_answers(&r, &storage, n);
    measure_kind(&r, "random", false, 1, rounds);
    measure_kind(&r, "random", false, 2, rounds);
    measure_kind(&r, "hot", true, 1, rounds);
    measure_kind(&r, "hot", true, 2, rounds);
    cm_config_free(r.cfg);
    bench_factory_free(&f);
    for (size_t i = 0; i <= r.mask; i++)
        free(r.table[i]);
    free(r.table);
    free(r.order);
    return 0;
}
