/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Certificates that lie in file storage:
 *
 *   make DIR N            put N of them there, in the layout of docs/storage-format.md, as fast as
 *                         can be: no flush, no temporary files
 *   floor DIR N THREADS   list the directory and read .crt, .key and .json of each: what nobody who
 *                         loads them can do without. Prints seconds and CPU seconds
 *   load DIR N            cm_manage() of all names; every one is then asked for. Prints seconds,
 * CPU seconds and resident bytes
 */

#define ISSUER_DIR "certificates/certmesh-local"

/* ---- make ---- */

static void put_file(int dir, const char *name, struct cm_span value)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    bench_check(fd >= 0 && write(fd, value.data, value.len) == (ssize_t)value.len, "'%s': %s", name,
                strerror(errno));
    (void)close(fd);
}

static void make_dir(const char *path)
{
    bench_check(mkdir(path, 0700) == 0 || errno == EEXIST, "'%s': %s", path, strerror(errno));
}

static int open_issuer(const char *root)
{
    char path[4096];

    (void)snprintf(path, sizeof path, "%s/%s", root, ISSUER_DIR);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bench_check(dir >= 0, "'%s': %s", path, strerror(errno));
    return dir;
}

static void make_site(const struct bench_factory *f, int issuer, size_t i)
{
    struct cm_span pem = bench_factory_signed_pem(f, i, 0);
    char name[BENCH_NAME_BUF];
    char file[BENCH_NAME_BUF + 8];
    char json[256];

    bench_name(i, name);
    bench_check(mkdirat(issuer, name, 0700) == 0, "'%s': %s", name, strerror(errno));
    int dir = openat(issuer, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bench_check(dir >= 0, "'%s': %s", name, strerror(errno));
    (void)snprintf(file, sizeof file, "%s.key", name);
    put_file(dir, file, bench_factory_key(f));
    (void)snprintf(file, sizeof file, "%s.crt", name);
    put_file(dir, file, pem);
    (void)snprintf(file, sizeof file, "%s.json", name);
    (void)snprintf(json, sizeof json,
                   "{\n\t\"sans\": [\n\t\t\"%s\"\n\t],\n\t\"issuer_data\": null\n}", name);
    put_file(dir, file, cm_span_str(json));
    (void)close(dir);
    gnutls_free((void *)(uintptr_t)pem.data);
}

static void make(const char *root, size_t n)
{
    struct bench_factory f;
    char path[4096];

    make_dir(root);
    (void)snprintf(path, sizeof path, "%s/certificates", root);
    make_dir(path);
    (void)snprintf(path, sizeof path, "%s/%s", root, ISSUER_DIR);
    make_dir(path);
    int issuer = open_issuer(root);
    bench_factory_init(&f);
    for (size_t i = 0; i < n; i++)
        make_site(&f, issuer, i);
    bench_factory_free(&f);
    (void)close(issuer);
}

/* ---- floor ---- */

struct reader {
    const char *root;
    char (*names)[BENCH_NAME_BUF];
    size_t from, to;
    uint64_t bytes;
    pthread_t thread;
};

static uint64_t read_one(int issuer, const char *name, const char *suffix)
{
    static _Thread_local char value[64 * 1024];
    char path[2 * BENCH_NAME_BUF + 8];
    struct stat sb;

    (void)snprintf(path, sizeof path, "%s/%s%s", name, name, suffix);
    int fd = openat(issuer, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bench_check(fd >= 0 && fstat(fd, &sb) == 0, "'%s': %s", path, strerror(errno));
    ssize_t n = read(fd, value, sizeof value);
    bench_check(n == sb.st_size, "'%s' is cut short", path);
    (void)close(fd);
    return (uint64_t)n;
}

static void *read_some(void *p)
{
    struct reader *r = p;
    int issuer = open_issuer(r->root);

    for (size_t i = r->from; i < r->to; i++) {
        r->bytes += read_one(issuer, r->names[i], ".key");
        r->bytes += read_one(issuer, r->names[i], ".crt");
        r->bytes += read_one(issuer, r->names[i], ".json");
    }
    (void)close(issuer);
    return NULL;
}

static size_t list_names(const char *root, char (*names)[BENCH_NAME_BUF], size_t n)
{
    DIR *dir = fdopendir(open_issuer(root));
    struct dirent *e;
    size_t found = 0;

    bench_check(dir != NULL, "'%s': %s", root, strerror(errno));
    for (;;) {
        e = readdir(dir);
        if (e == NULL)
            break;
        if (e->d_name[0] != '.' && found < n)
            (void)snprintf(names[found++], BENCH_NAME_BUF, "%.*s", BENCH_NAME_LEN, e->d_name);
    }
    (void)closedir(dir);
    return found;
}

static void floor_load(const char *root, size_t n, size_t threads)
{
    char(*names)[BENCH_NAME_BUF] = calloc(n, sizeof *names);
    uint64_t began = bench_mono_ns(), cpu = bench_cpu_ns();
    struct reader r[2];
    uint64_t bytes = 0;

    bench_check(names != NULL && threads >= 1 && threads <= 2, "one or two threads");
    bench_check(list_names(root, names, n) == n, "there are not %zu certificates in '%s'", n, root);
    for (size_t i = 0; i < threads; i++) {
        r[i] = (struct reader){ .root = root, .names = names };
        r[i].from = n * i / threads;
        r[i].to = n * (i + 1) / threads;
        bench_check(pthread_create(&r[i].thread, NULL, read_some, &r[i]) == 0, "no thread");
    }
    for (size_t i = 0; i < threads; i++) {
        (void)pthread_join(r[i].thread, NULL);
        bytes += r[i].bytes;
    }
    bench_check(bytes > n * 1000, "%zu certificates have only %llu bytes", n,
                (unsigned long long)bytes);
    printf("%.4f %.4f\n", (double)(bench_mono_ns() - began) / 1e9,
           (double)(bench_cpu_ns() - cpu) / 1e9);
    free(names);
}

/* ---- load ---- */

static void ask_for_all(struct cm_config *cfg, const char *const *names, size_t n)
{
    struct cm_hello *hello = calloc(1, sizeof *hello);
    struct cm_pending *pending = NULL;
    struct cm_cert *cert = NULL;
    struct cm_err err = CM_ERR_INIT;

    bench_check(hello != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(hello->server_name, sizeof hello->server_name, "%s", names[i]);
        bench_ok(cm_get_certificate(cfg, hello, &cert, &pending, &err), &err, names[i]);
        bench_check(strcmp(cm_cert_name(cert, 0), names[i]) == 0 && cm_cert_is_managed(cert),
                    "'%s' was chosen for '%s'", cm_cert_name(cert, 0), names[i]);
        cm_cert_unref(cert);
    }
    free(hello);
}

static void load(const char *root, size_t n)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    char(*names)[BENCH_NAME_BUF] = calloc(n, sizeof *names);
    const char **list = calloc(n, sizeof *list);
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;
    char url[4096];

    bench_check(names != NULL && list != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        bench_name(i, names[i]);
        list[i] = names[i];
    }
    (void)snprintf(url, sizeof url, "file://%s", root);
    o.storage = url;
    o.internal = true;
    bench_ok(gnutls_global_init() < 0 ? CM_E_TLS : CM_OK, &err, "GnuTLS");
    size_t before = bench_resident();
    uint64_t began = bench_mono_ns(), cpu = bench_cpu_ns();
    bench_ok(cm_config_new(&o, &cfg, &err), &err, "config");
    bench_ok(cm_manage(cfg, NULL, list, n, &err), &err, "load");
    double s = (double)(bench_mono_ns() - began) / 1e9;
    double cpu_s = (double)(bench_cpu_ns() - cpu) / 1e9;
    size_t resident = bench_resident();
    bench_check(cm_cache_count(cm_config_cache(cfg)) == n, "%zu of %zu certificates were loaded",
                cm_cache_count(cm_config_cache(cfg)), n);
    ask_for_all(cfg, list, n);
    /* What could not be loaded would have been made anew, by a CA that is made first. */
    (void)snprintf(url, sizeof url, "%s/certmesh/ca", root);
    bench_check(access(url, F_OK) != 0, "certificates were issued instead of loaded");
    printf("%.4f %.4f %zu\n", s, cpu_s, resident - before);
    cm_config_free(cfg);
    free(list);
    free(names);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "make") == 0 && argc == 4)
        make(argv[2], bench_number(argv[3], BENCH_NAMES_MAX));
    else if (strcmp(what, "floor") == 0 && argc == 5)
        floor_load(argv[2], bench_number(argv[3], BENCH_NAMES_MAX), bench_number(argv[4], 2));
    else if (strcmp(what, "load") == 0 && argc == 4)
        load(argv[2], bench_number(argv[3], BENCH_NAMES_MAX));
    else
        bench_die("usage: make DIR N | floor DIR N THREADS | load DIR N");
    return 0;
}
