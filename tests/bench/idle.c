/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* idle DIR N SECONDS INTERVAL: a process that manages the N certificates of DIR, none of which is
 * due for weeks, and does nothing else. INTERVAL: how often the maintenance looks at the clock, in
 * seconds; 0 = its default. What is measured begins when what loading leaves behind has been done.
 *
 * Prints, per minute: CPU_MS WAKE_UPS, then THREADS and how many seconds it took to become quiet.
 */

#define QUIET_CPU_NS 5000000u /* of a window of this length: */
#define WINDOW_NS    2000000000l
#define QUIET_MAX_S  900u

static void rest(int64_t ns)
{
    struct timespec t = { ns / 1000000000, ns % 1000000000 };

    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
        continue;
}

/* How often any thread of this process has been put to sleep of its own will so far. */
static uint64_t sleeps(size_t *ret_threads)
{
    DIR *dir = opendir("/proc/self/task");
    uint64_t all = 0;

    bench_check(dir != NULL, "/proc/self/task: %s", strerror(errno));
    *ret_threads = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char path[512], line[256];

        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        FILE *f = fopen(path, "re");
        if (f == NULL)
            continue; /* has just ended */
        (*ret_threads)++;
        while (fgets(line, sizeof line, f) != NULL)
            if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
                all += strtoull(line + 24, NULL, 10);
        (void)fclose(f);
    }
    (void)closedir(dir);
    return all;
}

static double until_quiet_s(void)
{
    uint64_t began = bench_mono_ns(), cpu;

    do {
        cpu = bench_cpu_ns();
        rest(WINDOW_NS);
        bench_check(bench_mono_ns() - began < QUIET_MAX_S * 1000000000ull, "it never became quiet");
    } while (bench_cpu_ns() - cpu > QUIET_CPU_NS);
    return (double)(bench_mono_ns() - began) / 1e9;
}

static void manage(struct cm_config *cfg, size_t n)
{
    char(*names)[BENCH_NAME_BUF] = calloc(n, sizeof *names);
    const char **list = calloc(n, sizeof *list);
    struct cm_err err = CM_ERR_INIT;

    bench_check(names != NULL && list != NULL, "out of memory");
    for (size_t i = 0; i < n; i++) {
        bench_name(i, names[i]);
        list[i] = names[i];
    }
    bench_ok(cm_manage(cfg, NULL, list, n, &err), &err, "load");
    bench_check(cm_cache_count(cm_config_cache(cfg)) == n, "%zu of %zu certificates were loaded",
                cm_cache_count(cm_config_cache(cfg)), n);
    free(list);
    free(names);
}

static void measure(double seconds, double quiet_s)
{
    size_t threads;
    uint64_t cpu = bench_cpu_ns(), slept = sleeps(&threads), began = bench_mono_ns();

    rest((int64_t)(seconds * 1e9));
    double minutes = (double)(bench_mono_ns() - began) / 60e9;
    double cpu_ms = (double)(bench_cpu_ns() - cpu) / 1e6;
    uint64_t woken = sleeps(&threads) - slept - 1; /* our own */
    printf("%.2f %.1f %zu %.0f\n", cpu_ms / minutes, (double)woken / minutes, threads, quiet_s);
}

int main(int argc, char **argv)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_cache_options c = { .size = (uint32_t)sizeof c };
    struct cm_config *cfg = NULL;
    struct cm_err err = CM_ERR_INIT;
    char url[4096];

    bench_check(argc == 5, "usage: idle DIR N SECONDS INTERVAL");
    c.renew_check_interval_s = (int64_t)strtoll(argv[4], NULL, 10);
    (void)snprintf(url, sizeof url, "file://%s", argv[1]);
    o.storage = url;
    o.internal = true;
    bench_ok(cm_cache_new(&c, &o.cache, &err), &err, "cache");
    bench_ok(cm_config_new(&o, &cfg, &err), &err, "config");
    manage(cfg, bench_number(argv[2], BENCH_NAMES_MAX));
    double quiet_s = until_quiet_s();
    measure((double)bench_number(argv[3], 3600), quiet_s);
    cm_config_free(cfg);
    cm_cache_free(o.cache);
    return 0;
}
