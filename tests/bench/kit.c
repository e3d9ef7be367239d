/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void bench_die(const char *fmt, ...)
{
    va_list ap;

    (void)fflush(stdout);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    exit(1);
}

void bench_ok(cm_status rc, const struct cm_err *err, const char *what)
{
    if (rc != CM_OK)
        bench_die("%s: %s: %s", what, cm_status_name(rc), err->msg);
}

void bench_gnutls(int rc, const char *what)
{
    if (rc < 0)
        bench_die("%s: %s", what, gnutls_strerror(rc));
}

size_t bench_number(const char *text, size_t max)
{
    char *end = NULL;

    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || v > max)
        bench_die("'%s' is no number up to %zu", text, max);
    return (size_t)v;
}

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    if (clock_gettime(id, &t) != 0)
        bench_die("clock: %s", strerror(errno));
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bench_mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set); /* one CPU only: then it stays where it is */
}

static int by_value(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return (*x > *y) - (*x < *y);
}

double bench_quantile(double *v, size_t n, double q)
{
    qsort(v, n, sizeof v[0], by_value);
    return v[(size_t)(q * (double)(n - 1) + 0.5)];
}

size_t bench_resident(void)
{
    unsigned long long all = 0, resident = 0;

    (void)malloc_trim(0);
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL || fscanf(f, "%llu %llu", &all, &resident) != 2)
        bench_die("/proc/self/statm: %s", strerror(errno));
    (void)fclose(f);
    return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x;
}

/* ---- storage ---- */

static struct bench_storage *storage_of(struct cm_storage *st)
{
    struct bench_storage *s = (struct bench_storage *)(void *)st;

    (void)atomic_fetch_add(&s->calls, 1);
    return s;
}

static cm_status no_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_span value, struct cm_err *err)
{
    (void)storage_of(st);
    (void)op;
    (void)value;
    return cm_fail(err, CM_E_IO, "'%s' is not kept here", key);
}

static cm_status no_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                         struct cm_buf *ret, struct cm_err *err)
{
    (void)storage_of(st);
    (void)op;
    (void)ret;
    return cm_fail(err, CM_E_NOTFOUND, "no '%s'", key);
}

static cm_status no_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_err *err)
{
    (void)storage_of(st);
    (void)op;
    (void)key;
    (void)err;
    return CM_OK;
}

static cm_status no_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                         struct cm_key_info *ret, struct cm_err *err)
{
    (void)storage_of(st);
    (void)op;
    (void)ret;
    return cm_fail(err, CM_E_NOTFOUND, "no '%s'", key);
}

static cm_status no_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                         bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    (void)storage_of(st);
    (void)op;
    (void)prefix;
    (void)recursive;
    (void)each;
    (void)user;
    (void)err;
    return CM_OK;
}

static const char *describe(struct cm_storage *st)
{
    (void)st;
    return "bench:";
}

static void destroy(struct cm_storage *st)
{
    (void)st;
}

static const struct cm_storage_ops ops = {
    .abi = CM_SPI_ABI,
    .size = (uint32_t)sizeof ops,
    .name = "bench",
    .store = no_store,
    .load = no_load,
    .remove = no_remove,
    .stat = no_stat,
    .list = no_list,
    .describe = describe,
    .destroy = destroy,
};

void bench_storage_init(struct bench_storage *s)
{
    s->base.ops = &ops;
    atomic_init(&s->calls, 0);
}

struct cm_config *bench_config(struct bench_storage *s)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_config *cfg = NULL;
    struct cm_err err = CM_ERR_INIT;

    o.storage_object = &s->base;
    o.internal = true;
    bench_ok(cm_config_new(&o, &cfg, &err), &err, "config");
    return cfg;
}
