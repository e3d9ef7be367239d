/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* storage ours URL THREADS MS | storage floor DIR THREADS MS: what each operation of a storage
 * takes, called by THREADS threads without pause for MS milliseconds each. "floor" does with plain
 * calls what no storage of files can do without: for other storages the limit is measured by the
 * tool that comes with the server. Prints for each operation
 *
 *   NAME PER_SECOND P50_US P99_US
 *
 * lock: take and give back. store, load: one value of VALUE_BYTES. commit: key, chain and metadata
 * of a certificate, under a lock that is held. many: load_many of MANY_KEYS values; the rate is of
 * values, the times are of calls. Each thread has keys of its own, and all that is read is compared
 * with what was written. */

#define VALUE_BYTES 1500u
#define KEYS        256u /* of each thread, for store and load */
#define MANY_KEYS   256u
#define THREADS_MAX 64u
#define SAMPLES_MAX 1000000u

static const size_t part_bytes[3] = { 240, 1500, 120 };

struct run {
    struct cm_storage *st; /* NULL: floor */
    const char *dir;
    size_t ms;
};

struct worker {
    const struct run *run;
    const struct op *op;
    pthread_t thread;
    unsigned nth;
    size_t n; /* calls */
    double *us;
    char value[VALUE_BYTES + 1];
    char keys[MANY_KEYS][64];
    struct cm_grant grant;
    size_t seen; /* values of one load_many */
};

struct op {
    const char *name;
    size_t each; /* counts for so many */
    void (*before)(struct worker *w);
    void (*ours)(struct worker *w, size_t i);
    void (*floor)(struct worker *w, size_t i);
    void (*after)(struct worker *w);
};

/* ---- through the storage ---- */

static struct cm_span value_of(const struct worker *w)
{
    return (struct cm_span){ (const uint8_t *)w->value, VALUE_BYTES };
}

static void take(struct worker *w, const char *what)
{
    struct cm_err err = CM_ERR_INIT;
    char name[64];

    (void)snprintf(name, sizeof name, "%s_%u.bench.test", what, w->nth);
    bench_ok(cm_storage_try_lock(w->run->st, NULL, name, 15 * INT64_C(1000000000), &w->grant, NULL,
                                 &err),
             &err, "lock");
}

static void give(struct worker *w)
{
    struct cm_err err = CM_ERR_INIT;

    bench_ok(cm_storage_unlock(w->run->st, NULL, &w->grant, &err), &err, "unlock");
}

static void our_lock(struct worker *w, size_t i)
{
    (void)i;
    take(w, "lock");
    give(w);
}

static void our_store(struct worker *w, size_t i)
{
    struct cm_err err = CM_ERR_INIT;

    bench_ok(cm_storage_store(w->run->st, NULL, w->keys[i % KEYS], value_of(w), &err), &err,
             "store");
}

static void check(const struct worker *w, struct cm_span value, const char *key)
{
    bench_check(value.len == VALUE_BYTES && memcmp(value.data, w->value, VALUE_BYTES) == 0,
                "'%s' is not what was stored", key);
}

static void our_load(struct worker *w, size_t i)
{
    struct cm_buf value = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;

    bench_ok(cm_storage_load(w->run->st, NULL, w->keys[i % KEYS], &value, &err), &err, "load");
    check(w, (struct cm_span){ value.data, value.len }, w->keys[i % KEYS]);
    cm_buf_free(&value);
}

static void before_commit(struct worker *w)
{
    if (w->run->st != NULL)
        take(w, "commit");
}

static void after_commit(struct worker *w)
{
    if (w->run->st != NULL)
        give(w);
}

static void our_commit(struct worker *w, size_t i)
{
    static const char *const suffixes[] = { "key", "crt", "json" };
    struct cm_commit_item items[3];
    struct cm_err err = CM_ERR_INIT;
    char keys[3][128];

    for (size_t k = 0; k < 3; k++) {
        (void)snprintf(keys[k], sizeof keys[k], "certificates/bench/c%u-%zu.test/c%u-%zu.test.%s",
                       w->nth, i % KEYS, w->nth, i % KEYS, suffixes[k]);
        items[k] =
            (struct cm_commit_item){ keys[k], { (const uint8_t *)w->value, part_bytes[k] }, false };
    }
    bench_ok(cm_storage_commit(w->run->st, NULL, &w->grant, items, 3, &err), &err, "commit");
}

static cm_status came(void *user, size_t index, cm_status status, struct cm_span value,
                      const struct cm_err *why, struct cm_err *err)
{
    struct worker *w = user;

    (void)err;
    bench_ok(status, why, w->keys[index]);
    check(w, value, w->keys[index]);
    w->seen++;
    return CM_OK;
}

static void our_many(struct worker *w, size_t i)
{
    const char *keys[MANY_KEYS];
    struct cm_err err = CM_ERR_INIT;

    (void)i;
    for (size_t k = 0; k < MANY_KEYS; k++)
        keys[k] = w->keys[k];
    w->seen = 0;
    bench_ok(cm_storage_load_many(w->run->st, NULL, keys, MANY_KEYS, came, w, &err), &err,
             "load many");
    bench_check(w->seen == MANY_KEYS, "%zu of %u values came", w->seen, MANY_KEYS);
}

/* ---- plain calls: the same in files ---- */

static void path_of(const struct worker *w, const char *key, char out[PATH_MAX])
{
    char *at;

    (void)snprintf(out, PATH_MAX, "%s/%s", w->run->dir, key);
    at = out + strlen(w->run->dir) + 1;
    for (; *at != '\0'; at++) /* all in one directory */
        *at = *at == '/' ? '_' : *at;
}

static void put_file(const struct worker *w, const char *path, size_t len)
{
    char temp[PATH_MAX];

    (void)snprintf(temp, sizeof temp, "%s/temp-%u", w->run->dir, w->nth);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bench_check(fd >= 0 && write(fd, w->value, len) == (ssize_t)len && fsync(fd) == 0 &&
                    close(fd) == 0 && rename(temp, path) == 0,
                "%s: %s", path, strerror(errno));
}

static void flush_dir(const struct worker *w)
{
    int fd = open(w->run->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    bench_check(fd >= 0 && fsync(fd) == 0 && close(fd) == 0, "%s: %s", w->run->dir,
                strerror(errno));
}

static void get_file(const struct worker *w, const char *path)
{
    char value[VALUE_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    bench_check(fd >= 0 && read(fd, value, sizeof value) == (ssize_t)VALUE_BYTES && close(fd) == 0,
                "%s: %s", path, strerror(errno));
    check(w, (struct cm_span){ (const uint8_t *)value, VALUE_BYTES }, path);
}

static void plain_lock(struct worker *w, size_t i)
{
    char path[PATH_MAX];

    (void)i;
    (void)snprintf(path, sizeof path, "%s/lock-%u", w->run->dir, w->nth);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bench_check(fd >= 0 && close(fd) == 0 && unlink(path) == 0, "%s: %s", path, strerror(errno));
}

static void plain_store(struct worker *w, size_t i)
{
    char path[PATH_MAX];

    path_of(w, w->keys[i % KEYS], path);
    put_file(w, path, VALUE_BYTES);
    flush_dir(w);
}

static void plain_load(struct worker *w, size_t i)
{
    char path[PATH_MAX];

    path_of(w, w->keys[i % KEYS], path);
    get_file(w, path);
}

static void plain_commit(struct worker *w, size_t i)
{
    char path[PATH_MAX + 64];

    for (size_t k = 0; k < 3; k++) {
        (void)snprintf(path, sizeof path, "%s/commit-%u-%zu.%zu", w->run->dir, w->nth, i % KEYS, k);
        put_file(w, path, part_bytes[k]);
    }
    flush_dir(w);
}

static void plain_many(struct worker *w, size_t i)
{
    (void)i;
    for (size_t k = 0; k < MANY_KEYS; k++)
        plain_load(w, k);
}

/* ---- the whole ---- */

static const struct op ops[] = {
    { "lock", 1, NULL, our_lock, plain_lock, NULL },
    { "store", 1, NULL, our_store, plain_store, NULL },
    { "load", 1, NULL, our_load, plain_load, NULL },
    { "commit", 1, before_commit, our_commit, plain_commit, after_commit },
    { "many", MANY_KEYS, NULL, our_many, plain_many, NULL },
};
#define N_OPS (sizeof ops / sizeof ops[0])

static void call(struct worker *w, size_t i)
{
    (w->run->st != NULL ? w->op->ours : w->op->floor)(w, i);
}

static void *work(void *arg)
{
    struct worker *w = arg;

    if (w->op->before != NULL)
        w->op->before(w);
    call(w, 0); /* a connection is there from here on */
    uint64_t began = bench_mono_ns();
    uint64_t now = began;
    for (w->n = 0; w->n < SAMPLES_MAX && now - began < w->run->ms * 1000000u; w->n++) {
        uint64_t before = now;

        call(w, w->n);
        now = bench_mono_ns();
        w->us[w->n] = (double)(now - before) / 1e3;
    }
    if (w->op->after != NULL)
        w->op->after(w);
    return NULL;
}

static void measure(struct worker *workers, size_t n, const struct op *op)
{
    double *all = NULL;
    double took_us = 0;
    size_t calls = 0;

    for (size_t i = 0; i < n; i++) {
        workers[i].op = op;
        bench_check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "thread");
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(workers[i].thread, NULL);
        calls += workers[i].n;
    }
    all = calloc(calls, sizeof *all);
    bench_check(all != NULL && calls > 0, "nothing was measured");
    calls = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < workers[i].n; k++) {
            took_us += workers[i].us[k];
            all[calls++] = workers[i].us[k];
        }
    /* Per thread, times threads: so it does not count when they begin. */
    printf("%s %.0f %.1f %.1f\n", op->name,
           (double)(calls * op->each) / (took_us / (double)n / 1e6),
           bench_quantile(all, calls, 0.5), bench_quantile(all, calls, 0.99));
    free(all);
}

/* What is loaded has to be there. */
static void fill(struct worker *w)
{
    for (size_t i = 0; i < MANY_KEYS; i++) {
        char path[PATH_MAX];

        (void)snprintf(w->keys[i], sizeof w->keys[i], "bench/t%u/v%zu.test", w->nth, i);
        path_of(w, w->keys[i], path);
        if (w->run->st != NULL)
            our_store(w, i);
        else
            put_file(w, path, VALUE_BYTES);
    }
}

int main(int argc, char **argv)
{
    struct run run = { .st = NULL };
    struct cm_err err = CM_ERR_INIT;

    bench_check(argc == 5 && (strcmp(argv[1], "ours") == 0 || strcmp(argv[1], "floor") == 0),
                "usage: %s ours|floor URL|DIR THREADS MS", argv[0]);
    bool ours = strcmp(argv[1], "ours") == 0;
    size_t n = bench_number(argv[3], THREADS_MAX);
    struct worker *workers = calloc(n, sizeof *workers);
    bench_check(n > 0 && workers != NULL, "no threads");
    run.dir = argv[2];
    run.ms = bench_number(argv[4], 60000);
    if (ours)
        bench_ok(cm_storage_open(argv[2], NULL, &run.st, &err), &err, argv[2]);
    for (size_t i = 0; i < n; i++) {
        workers[i].run = &run;
        workers[i].nth = (unsigned)i;
        workers[i].us = calloc(SAMPLES_MAX, sizeof(double));
        bench_check(workers[i].us != NULL, "out of memory");
        for (size_t k = 0; k < VALUE_BYTES; k++) /* text, as PEM is */
            workers[i].value[k] = (char)('A' + (k * 7 + k / 64 + i) % 26);
        fill(&workers[i]);
    }
    for (size_t i = 0; i < N_OPS; i++)
        measure(workers, n, &ops[i]);
    for (size_t i = 0; i < n; i++)
        free(workers[i].us);
    free(workers);
    cm_storage_close(run.st);
    return 0;
}
