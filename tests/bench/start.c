/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "shake.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A start with many names on any storage, each call of which takes US microseconds longer than it
 * does (0: as it is), as it would over a network:
 *
 *   fill URL N       put N certificates there
 *   loads URL N US PART
 *                    key, chain and metadata of each, one load after the other: what a start costs
 *                    that asks for one value at a time. Only PART of the N names are, evenly
 *                    spread. Prints seconds for these, and how many there were
 *   start URL N US   cm_manage_async() of all names, then a handshake with one of them drawn at
 *                    random, then until all are served. Prints seconds, milliseconds until that
 *                    handshake was done, resident bytes, calls to storage, seconds of CPU
 *
 * "memory:..." is filled first by whoever uses it. */

#define ISSUER_DIR  "certificates/certmesh-local"
#define CALL_KEYS   256u /* of a load_many that cost one call */
#define COMMIT_KEYS 60u

/* ---- a storage that is far away ---- */

struct far {
    struct cm_storage base;
    struct cm_storage *inner;
    uint64_t latency_ns;
    _Atomic size_t calls;
};

static struct cm_storage *call(struct cm_storage *st, size_t n_keys)
{
    struct far *f = (struct far *)(void *)st; /* base is first */

    for (size_t i = 0; i < (n_keys + CALL_KEYS - 1) / CALL_KEYS; i++) {
        struct timespec ts = { .tv_sec = (time_t)(f->latency_ns / 1000000000u),
                               .tv_nsec = (long)(f->latency_ns % 1000000000u) };

        (void)atomic_fetch_add(&f->calls, 1);
        while (f->latency_ns > 0 && nanosleep(&ts, &ts) != 0)
            bench_check(errno == EINTR, "nanosleep: %s", strerror(errno));
    }
    return f->inner;
}

static cm_status far_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_span value, struct cm_err *err)
{
    return cm_storage_store(call(st, 1), op, key, value, err);
}

static cm_status far_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_buf *ret, struct cm_err *err)
{
    return cm_storage_load(call(st, 1), op, key, ret, err);
}

static cm_status far_load_many(struct cm_storage *st, const struct cm_op *op,
                               const char *const *keys, size_t n, cm_load_fn each, void *user,
                               struct cm_err *err)
{
    return cm_storage_load_many(call(st, n), op, keys, n, each, user, err);
}

static cm_status far_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_err *err)
{
    return cm_storage_remove(call(st, 1), op, key, err);
}

static cm_status far_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_key_info *ret, struct cm_err *err)
{
    return cm_storage_stat(call(st, 1), op, key, ret, err);
}

static cm_status far_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                          bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    return cm_storage_list(call(st, 1), op, prefix, recursive, each, user, err);
}

static cm_status far_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                              int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                              struct cm_err *err)
{
    return cm_storage_try_lock(call(st, 1), op, name, ttl_ns, ret, ret_wait_ns, err);
}

static cm_status far_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                             struct cm_err *err)
{
    return cm_storage_refresh(call(st, 1), op, grant, err);
}

static cm_status far_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                            struct cm_err *err)
{
    return cm_storage_unlock(call(st, 1), op, grant, err);
}

static void far_drop(struct cm_storage *st, struct cm_grant *grant)
{
    cm_storage_drop(call(st, 0), grant);
}

static cm_status far_commit(struct cm_storage *st, const struct cm_op *op,
                            const struct cm_grant *grant, const struct cm_commit_item *items,
                            size_t n, struct cm_err *err)
{
    return cm_storage_commit(call(st, 1), op, grant, items, n, err);
}

static const char *far_describe(struct cm_storage *st)
{
    return cm_storage_describe(call(st, 0));
}

static void far_destroy(struct cm_storage *st)
{
    cm_storage_close(call(st, 0));
}

static const struct cm_storage_ops far_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof far_ops,
    .name = "far",
    .store = far_store,
    .load = far_load,
    .remove = far_remove,
    .stat = far_stat,
    .list = far_list,
    .try_lock = far_try_lock,
    .refresh = far_refresh,
    .unlock = far_unlock,
    .drop = far_drop,
    .commit = far_commit,
    .describe = far_describe,
    .destroy = far_destroy,
    .load_many = far_load_many,
};

static void far_open(struct far *f, const char *url, uint64_t latency_ns)
{
    struct cm_err err = CM_ERR_INIT;

    memset(f, 0, sizeof *f);
    f->base.ops = &far_ops;
    f->latency_ns = latency_ns;
    bench_ok(cm_storage_open(url, NULL, &f->inner, &err), &err, url);
}

/* ---- fill ---- */

static char *copy_text(const char *fmt, const char *name)
{
    size_t size = strlen(fmt) + 3 * BENCH_NAME_BUF;
    char *text = malloc(size);

    bench_check(text != NULL, "out of memory");
    (void)snprintf(text, size, fmt, name, name);
    return text;
}

static void commit(struct cm_storage *st, struct cm_commit_item *items, size_t n)
{
    struct cm_err err = CM_ERR_INIT;

    if (n > 0)
        bench_ok(cm_storage_commit(st, NULL, NULL, items, n, &err), &err, "fill");
    for (size_t i = 0; i < n; i++) {
        free((char *)(uintptr_t)items[i].key);
        free((void *)(uintptr_t)items[i].value.data);
    }
}

static void fill(struct cm_storage *st, size_t n)
{
    struct cm_commit_item items[COMMIT_KEYS];
    struct bench_factory f;
    char name[BENCH_NAME_BUF];
    size_t have = 0;

    bench_factory_init(&f);
    for (size_t i = 0; i < n; i++) {
        struct cm_span pem = bench_factory_signed_pem(&f, i, 0);
        struct cm_span key = bench_factory_key(&f);
        char *parts[] = { strndup((const char *)key.data, key.len),
                          strndup((const char *)pem.data, pem.len), NULL };

        bench_name(i, name);
        parts[2] =
            copy_text("{\n\t\"sans\": [\n\t\t\"%s\"\n\t],\n\t\"issuer_data\": null\n}", name);
        static const char *const keys[] = { ISSUER_DIR "/%s/%s.key", ISSUER_DIR "/%s/%s.crt",
                                            ISSUER_DIR "/%s/%s.json" };
        for (size_t k = 0; k < 3; k++) {
            bench_check(parts[k] != NULL, "out of memory");
            items[have++] =
                (struct cm_commit_item){ copy_text(keys[k], name), cm_span_str(parts[k]), false };
        }
        gnutls_free((void *)(uintptr_t)pem.data);
        if (have == COMMIT_KEYS || i + 1 == n) {
            commit(st, items, have);
            have = 0;
        }
    }
    bench_factory_free(&f);
}

/* ---- one load after the other ---- */

static void loads(struct far *f, size_t n, size_t part)
{
    static const char *const suffixes[] = { "key", "crt", "json" };
    struct cm_buf value = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;
    char name[BENCH_NAME_BUF];
    char key[128];

    uint64_t began = bench_mono_ns();
    for (size_t i = 0; i < part; i++) {
        bench_name(i * n / part, name);
        for (size_t k = 0; k < 3; k++) {
            (void)snprintf(key, sizeof key, ISSUER_DIR "/%s/%s.%s", name, name, suffixes[k]);
            bench_ok(cm_storage_load(&f->base, NULL, key, &value, &err), &err, key);
            value.len = 0;
        }
    }
    printf("%.4f %zu\n", (double)(bench_mono_ns() - began) / 1e9, part);
    cm_buf_free(&value);
}

/* ---- a start ---- */

static void ask(struct cm_config *cfg, const char *name)
{
    struct cm_hello *hello = calloc(1, sizeof *hello);
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;

    bench_check(hello != NULL, "out of memory");
    (void)snprintf(hello->server_name, sizeof hello->server_name, "%s", name);
    cm_status rc = cm_get_certificate(cfg, hello, &cert, &pending, &err);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(pending, NULL, &cert, &err);
    bench_ok(rc, &err, name);
    bench_check(strcmp(cm_cert_name(cert, 0), name) == 0, "'%s' was chosen for '%s'",
                cm_cert_name(cert, 0), name);
    cm_cert_unref(cert);
    cm_pending_free(pending);
    free(hello);
}

static void start(struct far *f, size_t n)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    char(*names)[BENCH_NAME_BUF] = calloc(n, sizeof *names);
    const char **list = calloc(n, sizeof *list);
    struct cm_key_info info = { .size = 0 };
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;
    uint64_t seed = bench_mono_ns() | 1;

    bench_check(names != NULL && list != NULL && n > 0, "out of memory");
    for (size_t i = 0; i < n; i++) {
        bench_name(i, names[i]);
        list[i] = names[i];
    }
    o.storage_object = &f->base;
    o.internal = true;
    bench_ok(gnutls_global_init() < 0 ? CM_E_TLS : CM_OK, &err, "GnuTLS");
    size_t before = bench_resident();
    size_t calls = atomic_load(&f->calls);
    uint64_t cpu = bench_cpu_ns();
    uint64_t began = bench_mono_ns();
    bench_ok(cm_config_new(&o, &cfg, &err), &err, "config");
    bench_ok(cm_manage_async(cfg, list, n, &err), &err, "manage");
    size_t one = bench_random(&seed) % n;
    ask(cfg, list[one]);
    shake_name(cfg, one);
    double first_ms = (double)(bench_mono_ns() - began) / 1e6;
    bench_ok(cm_manage(cfg, NULL, list, n, &err), &err, "manage");
    double s = (double)(bench_mono_ns() - began) / 1e9;
    calls = atomic_load(&f->calls) - calls;
    cpu = bench_cpu_ns() - cpu;
    size_t resident = bench_resident() - before;
    bench_check(cm_cache_count(cm_config_cache(cfg)) == n, "%zu of %zu certificates were loaded",
                cm_cache_count(cm_config_cache(cfg)), n);
    for (size_t i = 0; i < n; i++)
        ask(cfg, list[i]);
    bench_check(cm_storage_stat(f->inner, NULL, "certmesh/ca", &info, NULL) == CM_E_NOTFOUND,
                "certificates were issued instead of loaded");
    printf("%.4f %.1f %zu %zu %.4f\n", s, first_ms, resident, calls, (double)cpu / 1e9);
    cm_config_free(cfg);
    free(list);
    free(names);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct far f;

    bench_check((argc == 4 && strcmp(what, "fill") == 0) ||
                    (argc == 6 && strcmp(what, "loads") == 0) ||
                    (argc == 5 && strcmp(what, "start") == 0),
                "usage: %s fill URL N | loads URL N US PART | start URL N US", argv[0]);
    size_t n = bench_number(argv[3], BENCH_NAMES_MAX);
    far_open(&f, argv[2], argc > 4 ? bench_number(argv[4], 1000000) * 1000u : 0);
    if (strcmp(what, "fill") == 0 || strncmp(argv[2], "memory:", 7) == 0)
        fill(f.inner, n);
    if (strcmp(what, "loads") == 0)
        loads(&f, n, bench_number(argv[5], n));
    else if (strcmp(what, "start") == 0)
        start(&f, n);
    cm_storage_close(&f.base);
    return 0;
}
