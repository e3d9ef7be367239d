/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"
#include "fake_core.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct cm_config *cfg;
static struct cm_listener *l;
static struct cm_err err;

static void setup(void)
{
    cfg = fake_config();
    (void)fake_add(cfg, "a.test", CM_PK_P256);
}

static void teardown(void)
{
    cm_listener_free(l);
    l = NULL;
    fake_config_drop(cfg);
}

static int64_t now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

static void listen_on(const char *host)
{
    cm_status rc = cm_listen(cfg, host, free_port(), &l, &err);

    ck_assert_msg(rc == CM_OK, "%s", err.msg);
    ck_assert_uint_ne(cm_listener_port(l), 0);
}

static int connect_v6(uint16_t port)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin6_addr = in6addr_loopback;
    ck_assert_int_ge(fd, 0);
    if (connect(fd, (const struct sockaddr *)(const void *)&a, sizeof a) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void take_one(void)
{
    struct cm_op op = cm_op_within(NULL, 5 * CM_NS_PER_S);
    struct cm_conn conn;
    socklen_t len = sizeof(int);
    int on = 0;

    ck_assert_int_eq(cm_accept(l, &op, &conn, &err), CM_OK);
    ck_assert_int_ne(fcntl(conn.fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(fcntl(conn.fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_eq(getsockopt(conn.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    ck_assert_int_ne(on, 0);
    ck_assert_int_eq(cm_tls_wait_fd(conn.session), conn.fd);
    gnutls_deinit(conn.session);
    (void)close(conn.fd);
}

START_TEST(all_addresses_means_both_families)
{
    struct client c;
    int fd;

    listen_on(NULL);
    client_connect(&c, cm_listener_port(l));
    ck_assert_int_ge(c.fd, 0);
    take_one();
    client_close(&c);
    fd = connect_v6(cm_listener_port(l));
    ck_assert_int_ge(fd, 0);
    take_one();
    (void)close(fd);
}
END_TEST

START_TEST(one_address_means_no_other)
{
    struct client c;

    listen_on("::1");
    client_connect(&c, cm_listener_port(l));
    ck_assert_int_lt(c.fd, 0);
    client_close(&c);
}
END_TEST

START_TEST(accept_ends_with_its_deadline)
{
    struct cm_op op = cm_op_within(NULL, 200 * CM_NS_PER_MS);
    struct cm_conn conn;
    int64_t begin = now_ms();

    listen_on("127.0.0.1");
    ck_assert_int_eq(cm_accept(l, &op, &conn, &err), CM_E_TIMEOUT);
    ck_assert_int_ge(now_ms() - begin, 190);
    ck_assert_int_lt(now_ms() - begin, 1500);
}
END_TEST

static void *fire_soon(void *arg)
{
    (void)cm_env_system()->wait(cm_env_system(), NULL, 100 * CM_NS_PER_MS);
    cm_cancel_fire(arg);
    return NULL;
}

START_TEST(accept_ends_when_canceled)
{
    struct cm_cancel *cancel = NULL;
    struct cm_op op = { 0 };
    struct cm_conn conn;
    pthread_t t;
    int64_t begin = now_ms();

    listen_on("127.0.0.1");
    ck_assert_int_eq(cm_cancel_new(NULL, &cancel, NULL), CM_OK);
    op.cancel = cancel;
    ck_assert_int_eq(pthread_create(&t, NULL, fire_soon, cancel), 0);
    ck_assert_int_eq(cm_accept(l, &op, &conn, &err), CM_E_CANCELED);
    ck_assert_int_lt(now_ms() - begin, 1500);
    ck_assert_int_eq(pthread_join(t, NULL), 0);
    cm_cancel_free(cancel);
}
END_TEST

START_TEST(port_in_use_is_named)
{
    struct cm_listener *second = NULL;

    listen_on(NULL);
    ck_assert_int_ne(cm_listen(cfg, NULL, cm_listener_port(l), &second, &err), CM_OK);
    ck_assert_ptr_nonnull(strstr(err.msg, "port"));
    ck_assert_int_eq(err.sys_errno, EADDRINUSE);
    ck_assert_int_eq(cm_listen(cfg, "no such host.invalid", 1, &second, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_listen(NULL, NULL, 1, &second, &err), CM_E_INVAL);
}
END_TEST

START_TEST(lack_of_descriptors_is_waited_out)
{
    struct cm_op op;
    struct rlimit lim, low;
    struct rusage before, after;
    struct cm_conn conn;
    struct client c;

    listen_on("127.0.0.1");
    client_connect(&c, cm_listener_port(l));
    ck_assert_int_ge(c.fd, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &lim), 0);
    low = lim;
    low.rlim_cur = 3;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
    op = cm_op_within(NULL, 500 * CM_NS_PER_MS);
    ck_assert_int_eq(cm_accept(l, &op, &conn, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &lim), 0);
    ck_assert_int_lt((after.ru_utime.tv_usec - before.ru_utime.tv_usec) +
                         (after.ru_stime.tv_usec - before.ru_stime.tv_usec),
                     100000);
    take_one(); /* it was not lost */
    client_close(&c);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        all_addresses_means_both_families,
        one_address_means_no_other,
        accept_ends_with_its_deadline,
        accept_ends_when_canceled,
        port_in_use_is_named,
        lack_of_descriptors_is_waited_out,
    };

    return run_tests_how("listener", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
