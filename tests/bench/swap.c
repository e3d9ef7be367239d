/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* swap N SECONDS PER_SECOND: full TLS 1.3 handshakes over a socket pair, one after the other, with
 * a cache of N certificates, while another thread replaces PER_SECOND of them each second: the new
 * one goes in, then the old one goes out. The client checks each certificate for its name.
 *
 * Prints: HANDSHAKES_PER_S SERVER_CPU_US SWAPS_PER_S NEW_SEEN. SERVER_CPU_US is the time of the
 * serving thread for one handshake, NEW_SEEN how many handshakes got a certificate that was
 * swapped in. The server is on CPU 0, client and swapper on CPU 1. */

#define HOT_NAMES 16u /* that are asked for; and as many that are swapped */

struct bench {
    struct cm_config *cfg;
    struct bench_factory factory;
    struct cm_cert *newest[HOT_NAMES];
    size_t n, per_second, swap_from;
    int to_server[2]; /* pipe: a socket, or -1 to end */
    _Atomic bool stop;
    size_t handshakes, swaps, new_seen;
    double cpu_us;
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec t;

    bench_check(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0, "thread clock");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- server */

static void serve_one(struct bench *b, int fd)
{
    gnutls_session_t session = NULL;
    struct cm_err err = CM_ERR_INIT;

    bench_gnutls(gnutls_init(&session, GNUTLS_SERVER), "session");
    bench_ok(cm_config_tls_setup(b->cfg, session, -1, &err), &err, "set up the session");
    gnutls_transport_set_int(session, fd);
    bench_gnutls(gnutls_handshake(session), "handshake of the server");
    bench_gnutls((int)gnutls_record_send(session, "x", 1), "send");
    gnutls_deinit(session);
    (void)close(fd);
}

static void *serve(void *p)
{
    struct bench *b = p;
    uint64_t began;
    int fd = -1;
    size_t n = 0;

    bench_pin(0);
    began = thread_cpu_ns();
    while (read(b->to_server[0], &fd, sizeof fd) == (ssize_t)sizeof fd && fd >= 0) {
        serve_one(b, fd);
        n++;
    }
    b->cpu_us = (double)(thread_cpu_ns() - began) / 1e3 / (double)n;
    return NULL;
}

/* ---- client */

/* The generation of the leaf, where the factory puts it; and is it for this name? */
static bool is_new(const struct bench *b, gnutls_session_t session, const char *name)
{
    unsigned count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    const struct bench_factory *f = &b->factory;

    bench_check(chain != NULL && count == 2 && chain[0].size == f->leaf.size, "no chain");
    for (size_t i = 0; i < f->n_name_at; i++)
        bench_check(memcmp(chain[0].data + f->name_at[i], name, BENCH_NAME_LEN) == 0,
                    "another certificate was given for '%s'", name);
    for (size_t k = 0; k < 4; k++)
        if (chain[0].data[f->serial_at + 9 + k] != 0)
            return true;
    return false;
}

static void connect_once(struct bench *b, gnutls_certificate_credentials_t cred, size_t i)
{
    gnutls_session_t session = NULL;
    char name[BENCH_NAME_BUF];
    int pair[2];
    char byte;

    bench_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair: %s",
                strerror(errno));
    bench_check(write(b->to_server[1], &pair[1], sizeof pair[1]) == (ssize_t)sizeof pair[1],
                "pipe: %s", strerror(errno));
    bench_name(i, name);
    bench_gnutls(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_TICKETS), "session");
    bench_gnutls(gnutls_priority_set_direct(
                     session, "NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-X25519", NULL),
                 "priority");
    bench_gnutls(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred), "credentials");
    bench_gnutls(gnutls_server_name_set(session, GNUTLS_NAME_DNS, name, BENCH_NAME_LEN), "name");
    gnutls_transport_set_int(session, pair[0]);
    bench_gnutls(gnutls_handshake(session), "handshake of the client");
    /* Only then is the server done with writing. */
    while (gnutls_record_recv(session, &byte, 1) == GNUTLS_E_AGAIN)
        continue;
    b->new_seen += is_new(b, session, name) ? 1u : 0u;
    b->handshakes++;
    gnutls_deinit(session);
    (void)close(pair[0]);
}

/* ---- swapper */

static void swap_one(struct bench *b, size_t i, unsigned generation)
{
    struct cm_cache *cache = cm_config_cache(b->cfg);
    struct cm_cert *made = NULL;

    bench_factory_add(&b->factory, cache, b->swap_from + i, generation, &made);
    bench_check(cm_cache_remove(cache, b->newest[i]), "the old one was not there");
    cm_cert_unref(b->newest[i]);
    b->newest[i] = made;
    b->swaps++;
}

static void *swap_on(void *p)
{
    struct bench *b = p;
    struct timespec next;

    bench_check(clock_gettime(CLOCK_MONOTONIC, &next) == 0, "clock");
    bench_pin(1);
    for (unsigned turn = 0; b->per_second > 0 && !atomic_load(&b->stop); turn++) {
        next.tv_nsec += (long)(1000000000 / b->per_second);
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        swap_one(b, turn % HOT_NAMES, turn / HOT_NAMES + 1);
    }
    return NULL;
}

static void run(struct bench *b, double seconds)
{
    gnutls_certificate_credentials_t cred = NULL;
    pthread_t server, swapper;
    int end = -1;

    bench_gnutls(gnutls_certificate_allocate_credentials(&cred), "credentials");
    bench_check(pipe(b->to_server) == 0 && pthread_create(&server, NULL, serve, b) == 0 &&
                    pthread_create(&swapper, NULL, swap_on, b) == 0,
                "threads");
    bench_pin(1);
    uint64_t began = bench_mono_ns();
    while ((double)(bench_mono_ns() - began) / 1e9 < seconds)
        connect_once(b, cred, b->handshakes % HOT_NAMES);
    double took = (double)(bench_mono_ns() - began) / 1e9;
    atomic_store(&b->stop, true);
    bench_check(write(b->to_server[1], &end, sizeof end) == (ssize_t)sizeof end, "pipe");
    (void)pthread_join(server, NULL);
    (void)pthread_join(swapper, NULL);
    gnutls_certificate_free_credentials(cred);
    printf("%.1f %.1f %.1f %zu\n", (double)b->handshakes / took, b->cpu_us, (double)b->swaps / took,
           b->new_seen);
}

int main(int argc, char **argv)
{
    struct bench_storage storage;
    struct bench b = { .n = 0 };

    bench_check(argc == 5, "usage: swap N SECONDS PER_SECOND same|others");
    b.n = bench_number(argv[1], BENCH_NAMES_MAX);
    bench_check(b.n >= 2 * HOT_NAMES, "at least %u certificates", 2 * HOT_NAMES);
    b.swap_from = strcmp(argv[4], "others") == 0 ? HOT_NAMES : 0;
    b.per_second = strcmp(argv[3], "0") == 0 ? 0 : bench_number(argv[3], 100000);
    atomic_init(&b.stop, false);
    bench_factory_init(&b.factory);
    bench_storage_init(&storage);
    b.cfg = bench_config(&storage);
    for (size_t i = 0; i < b.n; i++)
        bench_factory_add(&b.factory, cm_config_cache(b.cfg), i, 0,
                          i - b.swap_from < HOT_NAMES ? &b.newest[i - b.swap_from] : NULL);
    run(&b, (double)bench_number(argv[2], 3600));
    for (size_t i = 0; i < HOT_NAMES; i++)
        cm_cert_unref(b.newest[i]);
    cm_config_free(b.cfg);
    bench_factory_free(&b.factory);
    return 0;
}
