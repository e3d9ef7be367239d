/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ondemand N MISSES: hellos at a config that gets certificates on demand, and at one that does not.
 *
 * Prints microseconds for each, medians of N: a hit without on-demand, a hit with it; a name that
 * is nobody's without it, one that no list has, one that was denied before, one that a decision
 * denies; then medians of MISSES: a name managed by cm_manage(), a name that a client asked for
 * (both from the local CA, in memory). */

#define BATCH 100u

struct side {
    struct cm_config *cfg;
    struct cm_hello *hello;
};

static void decide(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d)
{
    (void)user;
    cm_decision_answer(d, strncmp(ask->name, "no", 2) != 0, NULL);
}

static void side_init(struct side *s, const struct cm_ondemand_options *od)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    static const char *const hit[] = { "hit.bench.test" };
    struct cm_err err = CM_ERR_INIT;

    o.storage = "memory:";
    o.internal = true;
    o.on_demand = od;
    bench_ok(cm_config_new(&o, &s->cfg, &err), &err, "config");
    bench_ok(cm_manage(s->cfg, NULL, hit, 1, &err), &err, "manage");
    s->hello = calloc(1, sizeof *s->hello);
    bench_check(s->hello != NULL, "out of memory");
    (void)snprintf(s->hello->peer_ip, sizeof s->hello->peer_ip, "192.0.2.1");
}

static void side_end(struct side *s)
{
    cm_config_free(s->cfg);
    free(s->hello);
}

static void ask(struct side *s, const char *name, cm_status want)
{
    struct cm_pending *p = NULL;
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;

    (void)snprintf(s->hello->server_name, sizeof s->hello->server_name, "%s", name);
    cm_status rc = cm_get_certificate(s->cfg, s->hello, &cert, &p, &err);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(p, NULL, &cert, &err);
    bench_check(rc == want, "'%s': %s instead of %s: %s", name, cm_status_name(rc),
                cm_status_name(want), err.msg);
    cm_pending_free(p);
    cm_cert_unref(cert);
}

/* Microseconds of one, by batches: @fmt may have a %zu that makes every name another one. */
static double quick_us(struct side *s, const char *fmt, cm_status want, size_t n)
{
    static char names[BATCH][64];
    double *us = calloc(n, sizeof *us);
    size_t serial = 0;

    bench_check(us != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < BATCH; k++)
            (void)snprintf(names[k], sizeof names[k], fmt, serial++);
        uint64_t began = bench_mono_ns();
        for (size_t k = 0; k < BATCH; k++)
            ask(s, names[k], want);
        us[i] = (double)(bench_mono_ns() - began) / 1e3 / BATCH;
    }
    double median = bench_quantile(us, n, 0.5);
    free(us);
    return median;
}

/* One at a time: what each costs differs. @demand: by a client; else managed beforehand. */
static double slow_us(struct side *s, const char *fmt, bool demand, cm_status want, size_t n)
{
    double *us = calloc(n, sizeof *us);
    struct cm_err err = CM_ERR_INIT;
    char name[64];
    const char *names[1] = { name };

    bench_check(us != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, fmt, i);
        uint64_t began = bench_mono_ns();
        if (demand)
            ask(s, name, want);
        else
            bench_ok(cm_manage(s->cfg, NULL, names, 1, &err), &err, "manage");
        us[i] = (double)(bench_mono_ns() - began) / 1e3;
    }
    double median = bench_quantile(us, n, 0.5);
    free(us);
    return median;
}

int main(int argc, char **argv)
{
    struct cm_ondemand_options by_list = CM_ONDEMAND_OPTIONS_INIT;
    struct cm_ondemand_options by_word = CM_ONDEMAND_OPTIONS_INIT;
    static const char *const suffixes[] = { "listed.test" };
    struct side off, list, word;

    bench_check(argc == 3, "usage: %s N MISSES", argv[0]);
    size_t n = bench_number(argv[1], 100000);
    size_t misses = bench_number(argv[2], 1000);
    bench_check(n > 0 && misses > 0, "at least one");
    by_list.suffixes = suffixes;
    by_list.n_suffixes = 1;
    by_word.decide = decide;
    by_word.orders = 1000;
    by_word.orders_per_client = 1000;
    by_word.asks_per_s = by_word.asks_per_client_s = 1000000;
    side_init(&off, NULL);
    side_init(&list, &by_list);
    side_init(&word, &by_word);

    double hit = quick_us(&off, "hit.bench.test", CM_OK, n);
    double hit_on = quick_us(&word, "hit.bench.test", CM_OK, n);
    double unknown = quick_us(&off, "n%zu.bench.test", CM_E_NOTFOUND, n);
    double unlisted = quick_us(&list, "n%zu.bench.test", CM_E_POLICY, n);
    ask(&word, "no.bench.test", CM_E_POLICY);
    double remembered = quick_us(&word, "no.bench.test", CM_E_POLICY, n);
    double denied = slow_us(&word, "no%zu.bench.test", true, CM_E_POLICY, misses);
    double managed = slow_us(&off, "m%zu.bench.test", false, CM_OK, misses);
    double missed = slow_us(&word, "m%zu.bench.test", true, CM_OK, misses);
    printf("%.3f %.3f %.3f %.3f %.3f %.1f %.1f %.1f\n", hit, hit_on, unknown, unlisted, remembered,
           denied, managed, missed);
    side_end(&off);
    side_end(&list);
    side_end(&word);
    return 0;
}
