/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_core.h"
#include "run.h"

#include <certmesh/cm_openssl.h>

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The OpenSSL adapter: what clients see of it is in ../tls/clients.sh; here is what they do not
 * see, or see only over several connections. Client and server are in one thread, on socket
 * pairs. */

#define PAIRS    200
#define DELAY_MS 700

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static struct cm_config *cfg;
static SSL_CTX *server_ctx, *client_ctx;

static SSL_CTX *make_server_ctx(const struct cm_openssl_options *o)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    struct cm_err err = CM_ERR_INIT;

    ck_assert_ptr_nonnull(ctx);
    ck_assert_msg(cm_openssl_setup(cfg, ctx, o, &err) == CM_OK, "%s", err.msg);
    return ctx;
}

static void setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
    (void)fake_add(cfg, "b.test", CM_PK_P256);
    server_ctx = make_server_ctx(NULL);
    client_ctx = SSL_CTX_new(TLS_client_method());
    ck_assert_ptr_nonnull(client_ctx);
}

static void teardown(void)
{
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}

/* ------------------------------------------------------------------ handshakes */

struct duo {
    SSL *server, *client;
    int fd[2];
    int server_rc, client_rc; /* of SSL_get_error(); SSL_ERROR_NONE = done */
    unsigned waits;           /* rounds in which the server wanted its hello again */
};

static void duo_attach(struct duo *d, int fd[2])
{
    ck_assert_int_eq(SSL_set_fd(d->server, fd[0]), 1);
    ck_assert_int_eq(SSL_set_fd(d->client, fd[1]), 1);
    d->fd[0] = fd[0];
    d->fd[1] = fd[1];
    d->server_rc = d->client_rc = SSL_ERROR_WANT_READ;
}

static void duo_start(struct duo *d, SSL_CTX *ctx, int version, const char *name)
{
    int fd[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    *d = (struct duo){ .server = SSL_new(ctx), .client = SSL_new(client_ctx) };
    ck_assert_ptr_nonnull(d->server);
    ck_assert_ptr_nonnull(d->client);
    duo_attach(d, fd);
    ck_assert_int_eq(SSL_set_min_proto_version(d->client, version), 1);
    ck_assert_int_eq(SSL_set_max_proto_version(d->client, version), 1);
    if (name != NULL)
        ck_assert_int_eq(SSL_set_tlsext_host_name(d->client, name), 1);
}

static bool is_under_way(int rc)
{
    return rc == SSL_ERROR_WANT_READ || rc == SSL_ERROR_WANT_WRITE ||
           rc == SSL_ERROR_WANT_CLIENT_HELLO_CB;
}

static int step(SSL *ssl, bool server)
{
    int rc = server ? SSL_accept(ssl) : SSL_connect(ssl);
    int how = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, rc);

    ERR_clear_error();
    return how;
}

static void duo_run(struct duo *d)
{
    int64_t until = cm_env_system()->mono_ns(cm_env_system()) + 20 * CM_NS_PER_S;

    while ((is_under_way(d->server_rc) || is_under_way(d->client_rc)) &&
           cm_env_system()->mono_ns(cm_env_system()) < until) {
        if (is_under_way(d->client_rc))
            d->client_rc = step(d->client, false);
        if (is_under_way(d->server_rc))
            d->server_rc = step(d->server, true);
        if (d->server_rc == SSL_ERROR_WANT_CLIENT_HELLO_CB) {
            struct pollfd p = { .fd = cm_openssl_wait_fd(d->server), .events = POLLIN };

            d->waits++;
            ck_assert_int_ne(p.fd, d->fd[0]);
            (void)poll(&p, 1, 100);
        }
    }
}

static void duo_check(const struct duo *d)
{
    struct cm_err err = CM_ERR_INIT;

    ck_assert_msg(d->server_rc == SSL_ERROR_NONE, "server: %d, %s", d->server_rc,
                  cm_openssl_refusal(d->server, &err) != CM_OK ? err.msg : "not refused");
    ck_assert_int_eq(d->client_rc, SSL_ERROR_NONE);
}

static void duo_end(struct duo *d)
{
    SSL_free(d->server);
    SSL_free(d->client);
    (void)close(d->fd[0]);
    (void)close(d->fd[1]);
}

static void connect_to(struct duo *d, SSL_CTX *ctx, int version, const char *name)
{
    duo_start(d, ctx, version, name);
    duo_run(d);
    duo_check(d);
}

/* A session that a client may come back with. */
static SSL_SESSION *take_session(SSL_CTX *ctx, int version, const char *name)
{
    struct duo d;
    char byte;

    connect_to(&d, ctx, version, name);
    ck_assert_int_eq(SSL_write(d.server, "x", 1), 1); /* TLS 1.3: tickets come before it */
    ck_assert_int_eq(SSL_read(d.client, &byte, 1), 1);
    SSL_SESSION *s = SSL_get1_session(d.client);
    ck_assert(SSL_SESSION_is_resumable(s) == 1);
    /* Without it OpenSSL takes the session for a broken one and never resumes it. */
    (void)SSL_shutdown(d.client);
    (void)SSL_shutdown(d.server);
    duo_end(&d);
    return s;
}

static bool resumes(SSL_CTX *ctx, int version, const char *name, SSL_SESSION *s)
{
    SSL_SESSION *copy = SSL_SESSION_dup(s);
    struct duo d;

    duo_start(&d, ctx, version, name);
    ck_assert_int_eq(SSL_set_session(d.client, copy), 1);
    SSL_SESSION_free(copy);
    duo_run(&d);
    duo_check(&d);
    bool reused = SSL_session_reused(d.server) == 1;
    duo_end(&d);
    return reused;
}

/* ----------------------------------------------------------------------- tests */

START_TEST(set_up_once_and_by_the_book)
{
    struct cm_openssl_options o = CM_OPENSSL_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    ck_assert_int_eq(cm_openssl_setup(cfg, server_ctx, NULL, &err), CM_E_STATE);
    ck_assert_int_eq(cm_openssl_setup(NULL, ctx, NULL, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_openssl_setup(cfg, NULL, NULL, &err), CM_E_INVAL);
    o.wait = (enum cm_openssl_wait)3;
    ck_assert_int_eq(cm_openssl_setup(cfg, ctx, &o, &err), CM_E_INVAL);
    o = (struct cm_openssl_options){ .size = 1 };
    ck_assert_int_eq(cm_openssl_setup(cfg, ctx, &o, &err), CM_E_INVAL);
    ck_assert_int_eq(SSL_CTX_get_min_proto_version(server_ctx), TLS1_2_VERSION);
    SSL *ssl = SSL_new(ctx); /* never set up */
    ck_assert_int_eq(cm_openssl_refusal(ssl, &err), CM_OK);
    ck_assert(!cm_openssl_is_challenge(ssl));
    ck_assert_int_eq(cm_openssl_wait_fd(ssl), -1);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}
END_TEST

START_TEST(certificates_of_the_program_are_no_choice)
{
    struct duo d;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    X509 *own = X509_new();

    X509_set_version(own, 2);
    X509_gmtime_adj(X509_getm_notBefore(own), 0);
    X509_gmtime_adj(X509_getm_notAfter(own), 3600);
    X509_set_pubkey(own, key);
    ck_assert_int_gt(X509_sign(own, key, EVP_sha256()), 0);
    ck_assert_int_eq(SSL_CTX_use_cert_and_key(server_ctx, own, key, NULL, 1), 1);
    /* A client that would rather have the program's. */
    duo_start(&d, server_ctx, TLS1_2_VERSION, "a.test");
    ck_assert_int_eq(SSL_set_cipher_list(d.client, "ECDHE-RSA-AES128-GCM-SHA256"), 1);
    duo_run(&d);
    ck_assert_int_eq(d.server_rc, SSL_ERROR_SSL);
    duo_end(&d);
    connect_to(&d, server_ctx, TLS1_3_VERSION, "a.test");
    X509 *got = SSL_get1_peer_certificate(d.client);
    ck_assert_int_eq(X509_check_host(got, "a.test", 0, 0, NULL), 1);
    ck_assert_int_eq(sk_X509_num(SSL_get_peer_cert_chain(d.client)), 2);
    X509_free(got);
    duo_end(&d);
    X509_free(own);
    EVP_PKEY_free(key);
}
END_TEST

static void check_staple(int version, bool asks, const char *want)
{
    unsigned char *got = NULL;
    struct duo d;

    duo_start(&d, server_ctx, version, "a.test");
    if (asks)
        ck_assert_int_eq(SSL_set_tlsext_status_type(d.client, TLSEXT_STATUSTYPE_ocsp), 1);
    duo_run(&d);
    duo_check(&d);
    long len = SSL_get_tlsext_status_ocsp_resp(d.client, &got);
    ck_assert_int_eq(len, want == NULL ? -1 : (long)strlen(want));
    if (want != NULL)
        ck_assert_mem_eq(got, want, strlen(want));
    duo_end(&d);
    ck_assert_int_eq(fake_staple_refs(&cfg->names[0]), 1);
}

START_TEST(staple_goes_to_who_asks_until_it_ends)
{
    int64_t now = cm_env_wall_s(cm_env_system());

    for (size_t v = 0; v < 2; v++) {
        fake_staple(&cfg->names[0], cm_span_str("first"), now + 3600);
        check_staple(versions[v], true, "first");
        check_staple(versions[v], false, NULL);
        fake_staple(&cfg->names[0], cm_span_str("second"), now + 3600);
        check_staple(versions[v], true, "second");
        fake_staple(&cfg->names[0], cm_span_str("past"), now - 1);
        check_staple(versions[v], true, NULL);
    }
}
END_TEST

START_TEST(tickets_follow_the_keys)
{
    uint8_t keys[2][CM_TICKET_KEY_LEN];

    memset(keys[0], 1, sizeof keys[0]);
    memset(keys[1], 2, sizeof keys[1]);
    for (size_t v = 0; v < 2; v++) {
        /* Another process of the fleet: another SSL_CTX, the same keys. */
        SSL_CTX *other = make_server_ctx(NULL);
        (void)SSL_CTX_set_session_cache_mode(other, SSL_SESS_CACHE_OFF);

        fake_ticket_keys(cfg, &keys[1], 1);
        SSL_SESSION *s = take_session(server_ctx, versions[v], "a.test");
        ck_assert(resumes(other, versions[v], "a.test", s));
        ck_assert(!resumes(other, versions[v], "b.test", s));
        fake_ticket_keys(cfg, keys, 2); /* rotated: the old one still reads */
        ck_assert(resumes(other, versions[v], "a.test", s));
        fake_ticket_keys(cfg, keys, 1); /* gone */
        ck_assert(!resumes(other, versions[v], "a.test", s));
        SSL_SESSION_free(s);
        SSL_CTX_free(other);
    }
}
END_TEST

START_TEST(sessions_stay_with_their_service)
{
    struct cm_openssl_options o = CM_OPENSSL_OPTIONS_INIT;

    o.session_context = "admin";
    for (size_t v = 0; v < 2; v++) {
        SSL_CTX *admin = make_server_ctx(&o);
        SSL_CTX *strict = make_server_ctx(NULL);
        SSL_SESSION *s = take_session(server_ctx, versions[v], "a.test");

        SSL_CTX_set_verify(strict, SSL_VERIFY_PEER, NULL); /* asks, does not insist */
        ck_assert(resumes(server_ctx, versions[v], "a.test", s));
        ck_assert(!resumes(admin, versions[v], "a.test", s));
        ck_assert(!resumes(strict, versions[v], "a.test", s));
        SSL_SESSION_free(s);
        SSL_CTX_free(strict);
        SSL_CTX_free(admin);
    }
}
END_TEST

START_TEST(without_tickets_there_are_none)
{
    struct duo d;
    char byte;

    cfg->no_tickets = true;
    SSL_CTX *ctx = make_server_ctx(NULL);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    for (size_t v = 0; v < 2; v++) {
        connect_to(&d, ctx, versions[v], "a.test");
        ck_assert_int_eq(SSL_write(d.server, "x", 1), 1);
        ck_assert_int_eq(SSL_read(d.client, &byte, 1), 1);
        ck_assert_int_eq(SSL_SESSION_has_ticket(SSL_get0_session(d.client)), 0);
        duo_end(&d);
    }
    SSL_CTX_free(ctx);
}
END_TEST

START_TEST(an_ssl_is_used_again_after_a_challenge)
{
    static const unsigned char acme[] = "\x0a"
                                        "acme-tls/1";
    struct duo d;
    int fd[2];
    const unsigned char *proto = NULL;
    unsigned len = 0;

    (void)fake_add_challenge(cfg, "a.test");
    duo_start(&d, server_ctx, TLS1_3_VERSION, "a.test");
    ck_assert_int_eq(SSL_set_alpn_protos(d.client, acme, sizeof acme - 1), 0);
    duo_run(&d);
    duo_check(&d);
    ck_assert(cm_openssl_is_challenge(d.server));
    SSL_get0_alpn_selected(d.client, &proto, &len);
    ck_assert_uint_eq(len, 10);

    ck_assert_int_eq(SSL_clear(d.server), 1);
    SSL_free(d.client);
    (void)close(d.fd[0]);
    (void)close(d.fd[1]);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    d.client = SSL_new(client_ctx);
    ck_assert_int_eq(SSL_set_tlsext_host_name(d.client, "b.test"), 1);
    duo_attach(&d, fd);
    duo_run(&d);
    duo_check(&d);
    ck_assert(!cm_openssl_is_challenge(d.server));
    X509 *got = SSL_get1_peer_certificate(d.client);
    ck_assert_int_eq(X509_check_host(got, "b.test", 0, 0, NULL), 1);
    X509_free(got);
    ck_assert_ptr_eq(SSL_get_SSL_CTX(d.server), server_ctx);
    duo_end(&d);
}
END_TEST

START_TEST(an_answer_that_never_comes_ends_the_handshake)
{
    struct cm_openssl_options o = CM_OPENSSL_OPTIONS_INIT;

    fake_add(cfg, "never.test", CM_PK_P256)->delay_ms = -1;
    cfg->wait_ns = 200 * CM_NS_PER_MS;
    for (o.wait = CM_OPENSSL_WAIT_BLOCK; o.wait <= CM_OPENSSL_WAIT_RETRY; o.wait++) {
        SSL_CTX *ctx = make_server_ctx(&o);
        struct cm_err err = CM_ERR_INIT;
        struct duo d;

        duo_start(&d, ctx, TLS1_3_VERSION, "never.test");
        duo_run(&d);
        ck_assert_int_eq(d.server_rc, SSL_ERROR_SSL);
        ck_assert_int_eq(cm_openssl_refusal(d.server, &err), CM_E_TIMEOUT);
        ck_assert_int_eq(err.tls_alert, SSL_AD_INTERNAL_ERROR);
        ck_assert((d.waits > 0) == (o.wait == CM_OPENSSL_WAIT_RETRY));
        ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
        duo_end(&d);
        SSL_CTX_free(ctx);
    }
    /* Given up in the middle. */
    struct duo d;
    duo_start(&d, server_ctx, TLS1_3_VERSION, "never.test");
    d.client_rc = step(d.client, false);
    d.server_rc = step(d.server, true);
    ck_assert_int_eq(d.server_rc, SSL_ERROR_WANT_CLIENT_HELLO_CB);
    duo_end(&d);
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
}
END_TEST

/* ------------------------------------------------------------- many, one thread */

struct side {
    SSL *ssl;
    bool server, done;
    int fd, added;
};

static struct side sides[2 * PAIRS];
static int epoll;

static void arm(struct side *s, int fd, uint32_t events, int op)
{
    struct epoll_event ev = { .events = events | EPOLLONESHOT, .data = { .ptr = s } };

    ck_assert_int_eq(epoll_ctl(epoll, op, fd, &ev), 0);
}

static void go_on(struct side *s)
{
    int how = step(s->ssl, s->server);
    int fd = s->server ? cm_openssl_wait_fd(s->ssl) : s->fd;

    if (how == SSL_ERROR_NONE) {
        s->done = true;
    } else if (how == SSL_ERROR_WANT_CLIENT_HELLO_CB) {
        arm(s, fd, EPOLLIN, s->added == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
        s->added = fd;
    } else {
        ck_assert_msg(is_under_way(how), "%s: %d", s->server ? "server" : "client", how);
        arm(s, s->fd, how == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
    }
}

static size_t count_done(void)
{
    size_t n = 0;

    for (size_t i = 0; i < 2 * PAIRS; i++)
        n += sides[i].done;
    return n;
}

START_TEST(two_hundred_handshakes_wait_in_one_thread)
{
    static struct duo duos[PAIRS];
    const struct cm_env *env = cm_env_system();
    struct epoll_event ev[64];
    size_t wakeups = 0;

    epoll = epoll_create1(EPOLL_CLOEXEC);
    fake_add(cfg, "slow.test", CM_PK_P256)->delay_ms = DELAY_MS;
    for (size_t i = 0; i < PAIRS; i++) {
        duo_start(&duos[i], server_ctx, versions[i % 2], "slow.test");
        sides[2 * i] = (struct side){ duos[i].server, true, false, duos[i].fd[0], -1 };
        sides[2 * i + 1] = (struct side){ duos[i].client, false, false, duos[i].fd[1], -1 };
        arm(&sides[2 * i], duos[i].fd[0], EPOLLIN, EPOLL_CTL_ADD);
        arm(&sides[2 * i + 1], duos[i].fd[1], EPOLLOUT, EPOLL_CTL_ADD);
    }
    int64_t begin = env->mono_ns(env);
    clock_t cpu = clock();
    while (count_done() < 2 * PAIRS && env->mono_ns(env) - begin < 60 * CM_NS_PER_S) {
        int n = epoll_wait(epoll, ev, 64, 1000);

        wakeups++;
        for (int i = 0; i < n; i++)
            go_on(ev[i].data.ptr);
    }
    ck_assert_uint_eq(count_done(), 2 * PAIRS);
    ck_assert_uint_eq(atomic_load(&cfg->asked), PAIRS);
    ck_assert_uint_eq(atomic_load(&cfg->waiting), 0);
    ck_assert_int_ge(env->mono_ns(env) - begin, DELAY_MS * CM_NS_PER_MS);
    /* Waiting costs nothing: it is not a spin. */
    ck_assert_uint_lt(wakeups, 20 * PAIRS);
    (void)printf("# %d handshakes: %lld ms, CPU %lld ms, %zu wakeups\n", PAIRS,
                 (long long)((env->mono_ns(env) - begin) / CM_NS_PER_MS),
                 (long long)((clock() - cpu) * 1000 / CLOCKS_PER_SEC), wakeups);
    for (size_t i = 0; i < PAIRS; i++)
        duo_end(&duos[i]);
    (void)close(epoll);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        set_up_once_and_by_the_book,
        certificates_of_the_program_are_no_choice,
        staple_goes_to_who_asks_until_it_ends,
        tickets_follow_the_keys,
        sessions_stay_with_their_service,
        without_tickets_there_are_none,
        an_ssl_is_used_again_after_a_challenge,
        an_answer_that_never_comes_ends_the_handshake,
        two_hundred_handshakes_wait_in_one_thread,
    };

    return run_tests_how("openssl", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
