/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"
#include "issuers.h"
#include "kit.h"

#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* The challenge ports against strangers who stall: the CA gets its answer, they get their end. */

#define STALLED 200

static struct cm_err err;
static struct cm_config *cfg;
static struct cm_issuer_host host;
static struct cm_responder *responder;
static int stalled[STALLED];

static int64_t now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

static int dial(uint16_t port)
{
    int fd = kit_dial(port);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static void set_up(enum cm_responder_kind kind)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    o.storage = "memory:";
    o.internal = true;
    ck_assert_msg(cm_config_new(&o, &cfg, &err) == CM_OK, "%s", err.msg);
    host = (struct cm_issuer_host){ .size = sizeof host,
                                    .env = cm_env_system(),
                                    .listen_host = "127.0.0.1",
                                    .storage = cm_config_storage(cfg),
                                    .http_port = kit_free_port(),
                                    .tls_port = kit_free_port(),
                                    .config = cfg };
    ck_assert_int_eq(cm_responder_new(&host, kind, &responder, &err), CM_OK);
    ck_assert_msg(cm_responder_acquire(responder, "acme/ca.test", &err) == CM_OK, "%s", err.msg);
}

static void set_up_http(void)
{
    set_up(CM_RESPONDER_HTTP);
}

static void set_up_tls(void)
{
    set_up(CM_RESPONDER_TLS);
}

static void tear_down(void)
{
    cm_responder_release(responder);
    cm_responder_free(responder);
    cm_config_free(cfg);
}

/* Half of them silent, half amid something. */
static void stall(uint16_t port, const char *begun)
{
    for (size_t i = 0; i < STALLED; i++) {
        stalled[i] = dial(port);
        if (i % 2 == 1)
            ck_assert_int_gt(send(stalled[i], begun, strlen(begun), MSG_NOSIGNAL), 0);
    }
}

/* Does the peer close @fd? What it said before does not matter. */
static bool is_closed_within(int fd, int64_t until_ms)
{
    char trash[256];
    struct pollfd p = { fd, POLLIN, 0 };
    for (;;) {
        int64_t left = until_ms - now_ms();
        if (poll(&p, 1, left < 0 ? 0 : (int)left) <= 0)
            return false;
        if (recv(fd, trash, sizeof trash, 0) <= 0)
            return true;
    }
}

static void all_are_closed(int64_t until_ms)
{
    for (size_t i = 0; i < STALLED; i++) {
        ck_assert_msg(is_closed_within(stalled[i], until_ms), "connection %zu is still open", i);
        (void)close(stalled[i]);
    }
}

/* A validation's request; no challenge is open for it. */
static void ask_http(void)
{
    static const char get[] =
        "GET /.well-known/acme-challenge/tok HTTP/1.1\r\nHost: a.test\r\n\r\n";
    char got[16] = "";
    int64_t began = now_ms();
    int fd = dial(host.http_port);
    struct pollfd p = { fd, POLLIN, 0 };
    ck_assert_int_gt(send(fd, get, sizeof get - 1, MSG_NOSIGNAL), 0);
    ck_assert_msg(poll(&p, 1, 3000) == 1, "no answer for 3 s");
    ck_assert_int_ge(recv(fd, got, 12, MSG_WAITALL), 12);
    ck_assert_str_eq(got, "HTTP/1.1 404");
    ck_assert_int_lt(now_ms() - began, 1500);
    (void)close(fd);
}

/* A validation's handshake; it ends with an alert as no challenge is open. */
static void ask_tls(void)
{
    const gnutls_datum_t alpn = { (unsigned char *)(uintptr_t) "acme-tls/1", 10 };
    gnutls_certificate_credentials_t cred;
    gnutls_session_t session;
    int64_t began = now_ms();
    int fd = dial(host.tls_port);
    int rc;
    ck_assert_int_eq(gnutls_certificate_allocate_credentials(&cred), 0);
    ck_assert_int_eq(gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL), 0);
    ck_assert_int_eq(gnutls_set_default_priority(session), 0);
    ck_assert_int_eq(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred), 0);
    ck_assert_int_eq(gnutls_server_name_set(session, GNUTLS_NAME_DNS, "a.test", 6), 0);
    ck_assert_int_eq(gnutls_alpn_set_protocols(session, &alpn, 1, 0), 0);
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, 3000);
    do
        rc = gnutls_handshake(session);
    while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    ck_assert_msg(rc == GNUTLS_E_FATAL_ALERT_RECEIVED, "%s", gnutls_strerror(rc));
    ck_assert_int_lt(now_ms() - began, 1500);
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(cred);
    (void)close(fd);
}

START_TEST(http_is_answered_beside_those_who_stall)
{
    int64_t began = now_ms();
    stall(host.http_port, "GET / HTTP/1.1\r\nHo");
    for (int i = 0; i < 10; i++)
        ask_http();
    all_are_closed(began + 8000);
}
END_TEST

START_TEST(tls_is_answered_beside_those_who_stall)
{
    int64_t began = now_ms();
    stall(host.tls_port, "\x16\x03\x01\x01\x10\x01\x01");
    for (int i = 0; i < 10; i++)
        ask_tls();
    all_are_closed(began + 8000);
}
END_TEST

static int64_t cpu_ms(void)
{
    struct rusage u;
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &u), 0);
    return (int64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
           (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

/* The oldest of those who stall makes room, and with nobody to go it waits without spinning. */
START_TEST(out_of_descriptors_the_oldest_goes)
{
    struct rlimit lim, low;
    int64_t began = now_ms();
    int64_t before;
    int spare;

    /* Ours are made first; what is accepted then needs numbers that there are none for. */
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    stall(host.http_port, "GET /");
    for (int i = 0; i < 10; i++)
        ask_http();
    spare = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(spare, 0);
    low = lim;
    low.rlim_cur = 3;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct sockaddr_in a = kit_loopback(host.http_port);
    ck_assert_int_eq(connect(spare, (struct sockaddr *)&a, sizeof a), 0);
    before = cpu_ms();
    /* All that stalled are given up for it, in vain: then it waits. */
    all_are_closed(began + 4000);
    (void)poll(NULL, 0, 500);
    ck_assert_int_lt(cpu_ms() - before, 300);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    ck_assert(is_closed_within(spare, now_ms() + 8000));
    (void)close(spare);
    ask_http();
}
END_TEST

START_TEST(port_closes_at_once_whoever_stalls)
{
    struct cm_err why = CM_ERR_INIT;
    int64_t began;
    stall(host.tls_port, "\x16\x03\x01");
    began = now_ms();
    cm_responder_release(responder);
    ck_assert_int_lt(now_ms() - began, 1000);
    /* and opens again beside the connections that are left */
    ck_assert_msg(cm_responder_acquire(responder, "acme/ca.test", &why) == CM_OK, "%s", why.msg);
    ask_tls();
    for (size_t i = 0; i < STALLED; i++)
        (void)close(stalled[i]);
}
END_TEST

static TCase *tests_of(const char *name, SFun set_up_kind)
{
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up_kind, tear_down);
    return tc;
}

int main(void)
{
    Suite *s = suite_create("responder");
    TCase *http = tests_of("http", set_up_http);
    TCase *tls = tests_of("tls", set_up_tls);
    tcase_add_test(http, http_is_answered_beside_those_who_stall);
    tcase_add_test(http, out_of_descriptors_the_oldest_goes);
    tcase_add_test(tls, tls_is_answered_beside_those_who_stall);
    tcase_add_test(tls, port_closes_at_once_whoever_stalls);
    suite_add_tcase(s, http);
    suite_add_tcase(s, tls);
    return run_suite(s);
}
