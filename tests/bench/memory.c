/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"
#include "shake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* memory N HOT: resident bytes for each of N certificates that nobody has asked for yet, and for
 * each of HOT of them after a handshake with it. Prints: IDLE_BYTES HOT_BYTES, and DER_BYTES, what
 * leaf and key alone are. */

int main(int argc, char **argv)
{
    struct bench_storage storage;
    struct bench_factory f;
    char name[BENCH_NAME_BUF];

    bench_check(argc == 3, "usage: %s N HOT", argv[0]);
    size_t n = bench_number(argv[1], BENCH_NAMES_MAX);
    size_t hot = bench_number(argv[2], n);
    bench_check(n > 0 && hot > 0, "at least one certificate");
    bench_storage_init(&storage);
    struct cm_config *cfg = bench_config(&storage);
    bench_factory_init(&f);

    size_t before = bench_resident();
    for (size_t i = 0; i < n; i++)
        bench_factory_add(&f, cm_config_cache(cfg), i, 0, NULL);
    double idle = (double)(bench_resident() - before) / (double)n;
    bench_check(cm_cache_count(cm_config_cache(cfg)) == n, "certificates are missing");

    /* The first handshake makes what is made once in a process. */
    shake_name(cfg, n - 1);
    before = bench_resident();
    for (size_t i = 0; i < hot && i < n - 1; i++)
        shake_name(cfg, i);
    double warm = (double)(bench_resident() - before) / (double)hot;
    bench_name(0, name);
    printf("%.0f %.0f %u\n", idle, idle + warm, f.leaf.size);
    cm_config_free(cfg);
    bench_factory_free(&f);
    return 0;
}
