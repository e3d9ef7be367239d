/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "staple.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* The certificate and its staple are exchanged a thousand times a second, and handshakes go on as
 * if nothing happened: none fails, and no client gets the staple of another certificate than the
 * one it got. SWAP_HANDSHAKES says how many handshakes; every fourth is a full one, and so is every
 * one whose ticket was not taken. */

#define WORKERS 2u
#define PAIRS   8u
#define NAME    "swap.example"

static struct kit k;
static struct cm_err err;
static _Atomic bool over;
static _Atomic unsigned swaps, staples;

/* ---- what is exchanged ---- */

static struct pair {
    struct cm_chain chain;
    struct cm_leaf *leaf;
    struct cm_key *key;
} pairs[PAIRS];

static void make_pairs(void)
{
    for (size_t i = 0; i < PAIRS; i++) {
        CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
        CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        const char *name = NAME;

        kit_make_pair(CM_PK_P256, &name, 1, START_S - 3600, 90 * 86400, &chain, &key);
        ck_ok(cm_chain_from_pem(cm_buf_span(&chain), &pairs[i].chain, &err));
        ck_ok(cm_leaf_parse(pairs[i].chain.der[0], &pairs[i].leaf, &err));
        ck_ok(cm_key_from_pem(cm_buf_span(&key), &pairs[i].key, &err));
    }
}

static void free_pairs(void)
{
    for (size_t i = 0; i < PAIRS; i++) {
        cm_key_unref(pairs[i].key);
        cm_leaf_free(pairs[i].leaf);
        cm_chain_free(&pairs[i].chain);
    }
}

/* The staple is the leaf itself, so that a client can tell whose it is, and a number. */
static void put_staple(struct cm_cert *cert, unsigned nth)
{
    /* GnuTLS compares with its own clock, too. */
    const struct cm_ocsp times = { .this_update_s = START_S,
                                   .end_s = START_S + INT64_C(3650) * 86400 };
    CM_AUTO_BUF struct cm_buf bytes = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_stapling *slot = NULL;
    struct cm_staple *staple = NULL;
    struct cm_span leaf = cm_cert_der(cert, 0);

    ck_ok(cm_buf_append(&bytes, leaf.data, leaf.len, &err));
    ck_ok(cm_buf_append(&bytes, &nth, sizeof nth, &err));
    ck_ok(cm_staple_new(cm_buf_span(&bytes), &times, &staple, &err));
    ck_ok(cm_stapling_get(cert, &slot, &err));
    cm_stapling_swap(slot, staple);
}

static struct cm_cert *put_certificate(unsigned nth)
{
    const struct pair *p = &pairs[nth % PAIRS];
    const struct cm_cert_parts parts = { &p->chain,     p->leaf, p->key,
                                         "ca.test-dir", NULL,    CM_CERT_MANAGED };
    struct cm_cert *cert = NULL;

    ck_ok(cm_cert_new(&parts, &cert, &err));
    put_staple(cert, nth);
    ck_ok(cm_cache_put(k.cfg->cache, cert, START_S, &err));
    return cert;
}

/* Every millisecond, the one or the other. */
static void *exchange(void *arg)
{
    struct cm_cert *cert = NULL;

    (void)arg;
    while (!atomic_load(&over)) {
        unsigned nth = atomic_fetch_add(&swaps, 1) + 1;

        cm_cert_unref(cert);
        cert = put_certificate(nth);
        kit_nap();
        put_staple(cert, nth + 1);
        (void)atomic_fetch_add(&staples, 1);
    }
    cm_cert_unref(cert);
    return NULL;
}

/* ---- handshakes ---- */

struct worker {
    pthread_t thread;
    unsigned n;
    unsigned full, resumed, failed, mixed, stapled;
    char why[128];
    gnutls_certificate_credentials_t cred;
    gnutls_datum_t ticket[2]; /* TLS 1.2, 1.3 */
};

static const char *const priority[] = { "NORMAL:-VERS-ALL:+VERS-TLS1.2",
                                        "NORMAL:-VERS-ALL:+VERS-TLS1.3" };

struct both {
    gnutls_session_t server, client;
    int fd[2];
};

static void open_both(struct both *b, struct worker *w, unsigned version, bool resume)
{
    struct cm_err why;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, b->fd), 0);
    ck_assert_int_eq(gnutls_init(&b->server, GNUTLS_SERVER | GNUTLS_NONBLOCK), 0);
    ck_assert_int_eq(cm_config_tls_setup(k.cfg, b->server, b->fd[0], &why), CM_OK);
    ck_assert_int_eq(gnutls_init(&b->client, GNUTLS_CLIENT | GNUTLS_NONBLOCK), 0);
    ck_assert_int_eq(gnutls_priority_set_direct(b->client, priority[version], NULL), 0);
    ck_assert_int_eq(gnutls_credentials_set(b->client, GNUTLS_CRD_CERTIFICATE, w->cred), 0);
    ck_assert_int_eq(gnutls_server_name_set(b->client, GNUTLS_NAME_DNS, NAME, strlen(NAME)), 0);
    gnutls_transport_set_int(b->client, b->fd[1]);
    if (resume)
        ck_assert_int_eq(
            gnutls_session_set_data(b->client, w->ticket[version].data, w->ticket[version].size),
            0);
}

static void close_both(struct both *b)
{
    gnutls_deinit(b->server);
    gnutls_deinit(b->client);
    (void)close(b->fd[0]);
    (void)close(b->fd[1]);
}

static bool is_under_way(int rc)
{
    return rc < 0 && gnutls_error_is_fatal(rc) == 0;
}

/* Both ends in this thread, in turns. True when both are content. */
static bool shake_hands(struct both *b, struct worker *w)
{
    int server = GNUTLS_E_AGAIN, client = GNUTLS_E_AGAIN;

    for (int i = 0; i < 10000 && (is_under_way(server) || is_under_way(client)); i++) {
        if (is_under_way(client))
            client = gnutls_handshake(b->client);
        if (is_under_way(server))
            server = gnutls_handshake(b->server);
        if (i > 100) /* it waits for something else than its peer */
            kit_nap();
    }
    if (server != 0 || client != 0)
        (void)snprintf(w->why, sizeof w->why, "server: %s, client: %s", gnutls_strerror(server),
                       gnutls_strerror(client));
    return server == 0 && client == 0;
}

/* Does what the client got belong together? */
static void check_staple(struct both *b, struct worker *w)
{
    unsigned n = 0;
    const gnutls_datum_t *certs = gnutls_certificate_get_peers(b->client, &n);
    gnutls_datum_t staple = { NULL, 0 };

    if (certs == NULL || n < 2 || gnutls_ocsp_status_request_get2(b->client, 0, &staple) != 0)
        return;
    w->stapled++;
    w->mixed += staple.size != certs[0].size + sizeof n ||
                memcmp(staple.data, certs[0].data, certs[0].size) != 0;
}

static void keep_ticket(struct both *b, struct worker *w, unsigned version)
{
    char byte;

    if (version == 1) /* the ticket comes after the handshake */
        (void)gnutls_record_recv(b->client, &byte, 1);
    gnutls_free(w->ticket[version].data);
    w->ticket[version] = (gnutls_datum_t){ NULL, 0 };
    (void)gnutls_session_get_data2(b->client, &w->ticket[version]);
}

static void one_handshake(struct worker *w, unsigned i)
{
    unsigned version = i / 4 % 2;
    bool resume = i % 4 != 0 && w->ticket[version].data != NULL;
    struct both b;

    open_both(&b, w, version, resume);
    if (!shake_hands(&b, w)) {
        w->failed++;
    } else if (gnutls_session_is_resumed(b.client) != 0) {
        w->resumed++;
    } else {
        w->full++;
        check_staple(&b, w);
        keep_ticket(&b, w, version);
    }
    close_both(&b);
}

static void *work(void *arg)
{
    struct worker *w = arg;

    ck_assert_int_eq(gnutls_certificate_allocate_credentials(&w->cred), 0);
    for (unsigned i = 0; i < w->n; i++)
        one_handshake(w, i);
    gnutls_free(w->ticket[0].data);
    gnutls_free(w->ticket[1].data);
    gnutls_certificate_free_credentials(w->cred);
    return NULL;
}

START_TEST(no_handshake_notices_that_the_certificate_is_exchanged)
{
    const char *text = getenv("SWAP_HANDSHAKES");
    unsigned n = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 20000;
    struct worker all = { .n = n }, w[WORKERS];
    pthread_t swapper;

    memset(w, 0, sizeof w);
    kit_init(&k);
    kit_start(&k);
    make_pairs();
    cm_cert_unref(put_certificate(0));
    ck_assert_int_eq(pthread_create(&swapper, NULL, exchange, NULL), 0);
    for (size_t i = 0; i < WORKERS; i++) {
        w[i].n = n / WORKERS;
        ck_assert_int_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (size_t i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(pthread_join(w[i].thread, NULL), 0);
        all.full += w[i].full;
        all.resumed += w[i].resumed;
        all.failed += w[i].failed;
        all.mixed += w[i].mixed;
        all.stapled += w[i].stapled;
        if (w[i].why[0] != '\0')
            memcpy(all.why, w[i].why, sizeof all.why);
    }
    atomic_store(&over, true);
    ck_assert_int_eq(pthread_join(swapper, NULL), 0);
    printf("# %u full handshakes, %u of them stapled, and %u resumed; %u certificates and %u "
           "staples exchanged\n",
           all.full, all.stapled, all.resumed, atomic_load(&swaps), atomic_load(&staples));
    ck_assert_msg(all.failed == 0, "%u failed: %s", all.failed, all.why);
    ck_assert_uint_eq(all.mixed, 0);
    ck_assert_uint_eq(all.full + all.resumed, n / WORKERS * WORKERS);
    ck_assert_uint_eq(all.stapled, all.full);
    ck_assert_uint_ge(all.full, n / 5);
    ck_assert_uint_ge(all.resumed, n / 5);
    ck_assert_uint_ge(atomic_load(&swaps), n / 200);
    ck_assert_uint_eq(cm_cache_count(k.cfg->cache), 1);
    kit_stop(&k);
    free_pairs();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { no_handshake_notices_that_the_certificate_is_exchanged };

    return kit_run("swap", tests, CM_ARRAY_LEN(tests));
}
