/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_core.h"
#include "run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What an event loop is promised: two hundred handshakes that wait for their certificate at once,
 * over TCP, in one thread. */

#define PAIRS    200
#define DELAY_MS 700

struct side {
    gnutls_session_t session;
    bool server;
    bool done;
    int fd;
    int added; /* what epoll watches besides the socket */
};

static struct cm_config *cfg;
static struct side sides[2 * PAIRS];
static gnutls_certificate_credentials_t cred;
static int epoll;

static void arm(struct side *s, int fd, uint32_t events, int op)
{
    struct epoll_event ev = { .events = events | EPOLLONESHOT, .data = { .ptr = s } };

    ck_assert_int_eq(epoll_ctl(epoll, op, fd, &ev), 0);
}

static void go_on(struct side *s)
{
    int rc = gnutls_handshake(s->session);
    int wait_fd = s->server ? cm_tls_wait_fd(s->session) : s->fd;

    if (rc == GNUTLS_E_AGAIN && wait_fd != s->fd) {
        arm(s, wait_fd, EPOLLIN, s->added == wait_fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
        s->added = wait_fd;
    } else if (rc == GNUTLS_E_AGAIN || (rc < 0 && gnutls_error_is_fatal(rc) == 0)) {
        arm(s, s->fd, gnutls_record_get_direction(s->session) == 1 ? EPOLLOUT : EPOLLIN,
            EPOLL_CTL_MOD);
    } else {
        ck_assert_msg(rc == 0, "%s: %s", s->server ? "server" : "client", gnutls_strerror(rc));
        s->done = true;
    }
}

static void add(struct side *s, int fd, bool server, const char *version)
{
    *s = (struct side){ .fd = fd, .server = server, .added = -1 };
    ck_assert_int_eq(
        gnutls_init(&s->session, (server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK), 0);
    if (server) {
        ck_assert_int_eq(cm_config_tls_setup(cfg, s->session, fd, NULL), CM_OK);
    } else {
        ck_assert_int_eq(gnutls_priority_set_direct(s->session, version, NULL), 0);
        ck_assert_int_eq(gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, cred), 0);
        ck_assert_int_eq(gnutls_server_name_set(s->session, GNUTLS_NAME_DNS, "slow.test", 9), 0);
        gnutls_transport_set_int(s->session, fd);
    }
    arm(s, fd, server ? EPOLLIN : EPOLLOUT, EPOLL_CTL_ADD);
}

static void connect_pair(const struct cm_tls_sockets *sockets, size_t i)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(sockets->port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int peer = -1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_ge(fd, 0);
    (void)connect(fd, (const struct sockaddr *)(const void *)&a, sizeof a);
    for (int k = 0; k < 1000 && peer < 0; k++) {
        peer = cm_tls_sockets_accept(sockets->fd[0], true);
        if (peer < 0)
            (void)cm_env_system()->wait(cm_env_system(), NULL, CM_NS_PER_MS);
    }
    ck_assert_int_ge(peer, 0);
    add(&sides[2 * i], peer, true, NULL);
    add(&sides[2 * i + 1], fd, false,
        i % 2 == 0 ? "NORMAL:-VERS-ALL:+VERS-TLS1.3" : "NORMAL:-VERS-ALL:+VERS-TLS1.2");
}

static size_t count_done(void)
{
    size_t n = 0;

    for (size_t i = 0; i < CM_ARRAY_LEN(sides); i++)
        n += sides[i].done;
    return n;
}

static int64_t cpu_ms(void)
{
    return (int64_t)clock() * 1000 / CLOCKS_PER_SEC;
}

START_TEST(two_hundred_handshakes_wait_in_one_thread)
{
    const struct cm_env *env = cm_env_system();
    struct cm_tls_sockets sockets = { .n = 0 };
    struct epoll_event ev[64];
    int64_t begin, cpu;
    size_t wakeups = 0;

    epoll = epoll_create1(EPOLL_CLOEXEC);
    cfg = fake_config();
    fake_add(cfg, "slow.test", CM_PK_P256)->delay_ms = DELAY_MS;
    ck_assert_int_eq(gnutls_certificate_allocate_credentials(&cred), 0);
    ck_assert_int_eq(cm_tls_sockets_open("127.0.0.1", 0, &sockets, NULL), CM_OK);
    for (size_t i = 0; i < PAIRS; i++)
        connect_pair(&sockets, i);

    begin = env->mono_ns(env);
    cpu = cpu_ms();
    while (count_done() < CM_ARRAY_LEN(sides) && env->mono_ns(env) - begin < 30 * CM_NS_PER_S) {
        int n = epoll_wait(epoll, ev, CM_ARRAY_LEN(ev), 1000);

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
                 (long long)(cpu_ms() - cpu), wakeups);
    for (size_t i = 0; i < CM_ARRAY_LEN(sides); i++) {
        gnutls_deinit(sides[i].session);
        (void)close(sides[i].fd);
    }
    gnutls_certificate_free_credentials(cred);
    cm_tls_sockets_close(&sockets);
    (void)close(epoll);
    fake_config_drop(cfg);
    ck_assert_uint_eq(fake_certs_alive(), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { two_hundred_handshakes_wait_in_one_thread };

    return run_tests("gate_many", tests, CM_ARRAY_LEN(tests));
}
