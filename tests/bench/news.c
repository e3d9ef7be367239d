/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* news URL N ROUNDS: how soon one node shows what another has stored. A child manages N names and
 * completes handshakes; ROUNDS times the parent commits another certificate for one of them, and
 * does handshakes for it, PAUSE_NS apart, until it is shown the new one. The time is from the
 * return of the commit to the end of that handshake. Prints, in milliseconds:
 *
 *   P50 P99 WORST TOLD SERVED
 *
 * TOLD and SERVED are medians: until the child's feed told of it, and until it was what would be
 * served next. Neither is known where the storage does not tell ("-"). */

#define PAUSE_NS   500000
#define PATIENCE_S 60
#define ISSUER_DIR "certificates/certmesh-local"

/* What the child notes for the parent; the clock is the same for both. */
struct shared {
    _Atomic uint64_t told_ns;
    _Atomic uint64_t served_ns;
};

struct news {
    const char *url;
    size_t n;
    struct shared *shared;
    struct bench_factory factory;
    struct cm_storage *st; /* the parent's */
    gnutls_certificate_credentials_t cred;
    uint16_t port;
};

/* ---- the other node ---- */

static void told(void *user, const struct cm_change *change)
{
    struct shared *s = user;
    size_t len = change->key != NULL ? strlen(change->key) : 0;

    if (change->kind == CM_CHANGE_VALUE && len > 4 && strcmp(change->key + len - 4, ".crt") == 0)
        atomic_store(&s->told_ns, bench_mono_ns());
}

static void logged(void *user, enum cm_log_level level, const char *event, const char *msg,
                   const struct cm_log_field *fields, size_t n)
{
    struct shared *s = user;

    (void)level;
    (void)msg;
    (void)fields;
    (void)n;
    if (strcmp(event, "certificate_reloaded") == 0)
        atomic_store(&s->served_ns, bench_mono_ns());
}

static int listen_somewhere(uint16_t *ret_port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_check(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 64) == 0 &&
                    getsockname(fd, (struct sockaddr *)&a, &len) == 0,
                "listen: %s", strerror(errno));
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static void serve(struct cm_config *cfg, int listener)
{
    int on = 1;

    for (;;) {
        gnutls_session_t session = NULL;
        struct cm_err err = CM_ERR_INIT;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
            continue;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        bench_gnutls(gnutls_init(&session, GNUTLS_SERVER), "session");
        bench_ok(cm_config_tls_setup(cfg, session, -1, &err), &err, "set up the session");
        gnutls_transport_set_int(session, fd);
        if (gnutls_handshake(session) == 0)
            (void)gnutls_bye(session, GNUTLS_SHUT_WR);
        gnutls_deinit(session);
        (void)close(fd);
    }
}

_Noreturn static void node(const struct news *w, int begin, int ready)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_config *cfg = NULL;
    struct cm_watch *watch = NULL;
    struct cm_err err = CM_ERR_INIT;
    const char **names = calloc(w->n, sizeof *names);
    uint16_t port = 0;
    char byte;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (read(begin, &byte, 1) != 1)
        _exit(1);
    o.storage = w->url;
    o.internal = true;
    o.log = (struct cm_log){ logged, w->shared, CM_LOG_INFO };
    bench_check(names != NULL, "out of memory");
    bench_ok(cm_config_new(&o, &cfg, &err), &err, "config");
    for (size_t i = 0; i < w->n; i++) {
        char *name = malloc(BENCH_NAME_BUF);

        bench_check(name != NULL, "out of memory");
        bench_name(i, name);
        names[i] = name;
    }
    bench_ok(cm_manage(cfg, NULL, names, w->n, &err), &err, "manage");
    if (cm_storage_watch(cm_config_storage(cfg), told, w->shared, &watch, &err) != CM_OK)
        fprintf(stderr, "%s\n", err.msg);
    int listener = listen_somewhere(&port);
    bench_check(write(ready, &port, sizeof port) == (ssize_t)sizeof port, "pipe");
    serve(cfg, listener);
    _exit(0); /* not reached */
}

/* ---- this one ---- */

static void put(struct news *w, size_t i, unsigned generation)
{
    struct cm_span pem = bench_factory_signed_pem(&w->factory, i, generation);
    struct cm_err err = CM_ERR_INIT;
    struct cm_commit_item items[3];
    char name[BENCH_NAME_BUF];
    char keys[3][128];
    char meta[128];

    bench_name(i, name);
    (void)snprintf(meta, sizeof meta,
                   "{\n\t\"sans\": [\n\t\t\"%s\"\n\t],\n\t\"issuer_data\": null\n}", name);
    (void)snprintf(keys[0], sizeof keys[0], ISSUER_DIR "/%s/%s.key", name, name);
    (void)snprintf(keys[1], sizeof keys[1], ISSUER_DIR "/%s/%s.crt", name, name);
    (void)snprintf(keys[2], sizeof keys[2], ISSUER_DIR "/%s/%s.json", name, name);
    items[0] = (struct cm_commit_item){ keys[0], bench_factory_key(&w->factory), false };
    items[1] = (struct cm_commit_item){ keys[1], pem, false };
    items[2] = (struct cm_commit_item){ keys[2], cm_span_str(meta), false };
    bench_ok(cm_storage_commit(w->st, NULL, NULL, items, 3, &err), &err, "commit");
    gnutls_free((void *)(uintptr_t)pem.data);
}

/* The generation of the leaf that is shown for @i, where the factory puts it. */
static unsigned shown(const struct news *w, size_t i)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr = { htonl(INADDR_LOOPBACK) },
                             .sin_port = htons(w->port) };
    const struct bench_factory *f = &w->factory;
    gnutls_session_t session = NULL;
    unsigned generation = 0, count = 0;
    char name[BENCH_NAME_BUF];
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    bench_name(i, name);
    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect: %s",
                strerror(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bench_gnutls(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_TICKETS), "session");
    bench_gnutls(gnutls_set_default_priority(session), "priority");
    bench_gnutls(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, w->cred), "credentials");
    bench_gnutls(gnutls_server_name_set(session, GNUTLS_NAME_DNS, name, BENCH_NAME_LEN), "name");
    gnutls_transport_set_int(session, fd);
    bench_gnutls(gnutls_handshake(session), "handshake");
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    bench_check(chain != NULL && count == 2 &&
                    memmem(chain[0].data, chain[0].size, name, BENCH_NAME_LEN) != NULL &&
                    f->serial_at + 13 <= chain[0].size,
                "the certificate is not for '%s'", name);
    for (size_t k = 0; k < 4; k++)
        generation |= (unsigned)chain[0].data[f->serial_at + 9 + k] << (8 * k);
    gnutls_deinit(session);
    (void)close(fd);
    return generation;
}

static double ms_from(uint64_t began, uint64_t at)
{
    return at > began ? (double)(at - began) / 1e6 : 0;
}

struct times {
    double *shown, *told, *served;
    size_t n_told, n_served;
};

static void one_round(struct news *w, size_t i, unsigned generation, struct times *t, size_t nth)
{
    const struct timespec pause = { 0, PAUSE_NS };

    atomic_store(&w->shared->told_ns, 0);
    atomic_store(&w->shared->served_ns, 0);
    put(w, i, generation);
    uint64_t began = bench_mono_ns();
    unsigned seen;
    while ((seen = shown(w, i)) != generation) {
        bench_check(seen == generation - 1, "an older certificate than the last is shown");
        bench_check(bench_mono_ns() - began < PATIENCE_S * UINT64_C(1000000000),
                    "not shown within %d s", PATIENCE_S);
        (void)nanosleep(&pause, NULL);
    }
    t->shown[nth] = ms_from(began, bench_mono_ns());
    uint64_t at = atomic_load(&w->shared->told_ns);
    if (at != 0)
        t->told[t->n_told++] = ms_from(began, at);
    at = atomic_load(&w->shared->served_ns);
    if (at != 0)
        t->served[t->n_served++] = ms_from(began, at);
}

static void print_median(double *v, size_t n, char end)
{
    if (n > 0)
        printf("%.1f%c", bench_quantile(v, n, 0.5), end);
    else
        printf("-%c", end);
}

static void measure(struct news *w, size_t rounds)
{
    const struct timespec apart = { 0, 20000000 };
    struct times t = { calloc(rounds, sizeof(double)), calloc(rounds, sizeof(double)),
                       calloc(rounds, sizeof(double)), 0, 0 };

    bench_check(t.shown != NULL && t.told != NULL && t.served != NULL && rounds > 0,
                "out of memory");
    for (size_t i = 0; i < rounds; i++) {
        one_round(w, i % w->n, (unsigned)(i / w->n) + 1, &t, i);
        (void)nanosleep(&apart, NULL); /* whatever follows from it is over */
    }
    printf("%.1f ", bench_quantile(t.shown, rounds, 0.5));
    printf("%.1f %.1f ", bench_quantile(t.shown, rounds, 0.99),
           bench_quantile(t.shown, rounds, 1.0));
    print_median(t.told, t.n_told, ' ');
    print_median(t.served, t.n_served, '\n');
    free(t.shown);
    free(t.told);
    free(t.served);
}

int main(int argc, char **argv)
{
    struct news w = { .st = NULL };
    struct cm_err err = CM_ERR_INIT;
    int begin[2], ready[2];

    bench_check(argc == 4, "usage: %s URL N ROUNDS", argv[0]);
    w.url = argv[1];
    w.n = bench_number(argv[2], 10000);
    size_t rounds = bench_number(argv[3], 100000);
    bench_check(w.n > 0, "no names");
    w.shared =
        mmap(NULL, sizeof *w.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bench_check(w.shared != MAP_FAILED && pipe(begin) == 0 && pipe(ready) == 0, "%s",
                strerror(errno));
    (void)signal(SIGPIPE, SIG_IGN); /* a client has what it came for, and goes */
    pid_t child = fork();           /* before there are threads */
    bench_check(child >= 0, "fork: %s", strerror(errno));
    if (child == 0)
        node(&w, begin[0], ready[1]);
    bench_factory_init(&w.factory);
    bench_gnutls(gnutls_certificate_allocate_credentials(&w.cred), "credentials");
    bench_ok(cm_storage_open(w.url, NULL, &w.st, &err), &err, w.url);
    for (size_t i = 0; i < w.n; i++)
        put(&w, i, 0);
    (void)close(ready[1]);
    bench_check(write(begin[1], "", 1) == 1 &&
                    read(ready[0], &w.port, sizeof w.port) == (ssize_t)sizeof w.port,
                "the other node did not start");
    measure(&w, rounds);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    cm_storage_close(w.st);
    gnutls_certificate_free_credentials(w.cred);
    bench_factory_free(&w.factory);
    return 0;
}
