/* SPDX-License-Identifier: Apache-2.0 */
#include "https_kit.h"
#include "tls.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sockets that somebody else has opened: which are taken, for what, and what is different about
 * them. */

#define FIRST 60 /* descriptors that stand for those from 3 on */

static struct cm_sockets *s;
static struct cm_err err;

static void setup(void)
{
    https_setup();
    ck_assert_int_eq(cm_sockets_new(&s, &err), CM_OK);
}

static void teardown(void)
{
    cm_sockets_free(s);
    s = NULL;
    https_teardown();
}

/* Both families, as systemd opens them; *@ret_port of it. */
static int listening(uint16_t *ret_port)
{
    struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
    socklen_t len = sizeof a;
    const int off = 0;
    int fd = socket(AF_INET6, SOCK_STREAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)(void *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(fd, 64), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)(void *)&a, &len), 0);
    *ret_port = ntohs(a.sin6_port);
    return fd;
}

/* Give @fd as number @i. */
static void place(int fd, int i)
{
    ck_assert_int_eq(dup2(fd, FIRST + i), FIRST + i);
    (void)close(fd);
}

static cm_status take(const char *fds, const char *names, uint16_t tls_port, uint16_t http_port)
{
    char pid[24];

    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    const struct cm_sockets_env env = { pid, fds, names, FIRST, tls_port, http_port };
    return cm_tls_sockets_given(s, &env, &err);
}

static void none_is_taken(void)
{
    ck_assert_uint_eq(cm_sockets_count(s, CM_SOCKET_TLS), 0);
    ck_assert_uint_eq(cm_sockets_count(s, CM_SOCKET_HTTP), 0);
}

START_TEST(names_or_ports_say_what_for)
{
    uint16_t port[4];

    for (int i = 0; i < 4; i++)
        place(listening(&port[i]), i);
    ck_assert_int_eq(take("4", "http:certmesh.socket:tls:https", 1, port[1]), CM_OK);
    ck_assert_uint_eq(cm_sockets_count(s, CM_SOCKET_TLS), 2);
    ck_assert_uint_eq(cm_sockets_count(s, CM_SOCKET_HTTP), 2);
    ck_assert_uint_eq(cm_sockets_port(s, CM_SOCKET_TLS), port[2]);
    ck_assert_uint_eq(cm_sockets_port(s, CM_SOCKET_HTTP), port[0]);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_ne(fcntl(FIRST + i, F_GETFD) & FD_CLOEXEC, 0);
        ck_assert_int_ne(fcntl(FIRST + i, F_GETFL) & O_NONBLOCK, 0);
    }
    cm_sockets_free(s);
    s = NULL;
    ck_assert_int_lt(fcntl(FIRST, F_GETFD), 0);
}
END_TEST

START_TEST(all_or_none)
{
    uint16_t a, b;

    place(listening(&a), 0);
    place(listening(&b), 1);
    ck_assert_int_eq(take("2", "https:x", 1, 2), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "('x'): for TLS or for HTTP"));
    none_is_taken();
    ck_assert_int_eq(take("2", "https:", 1, b), CM_OK);
    ck_assert_uint_eq(cm_sockets_count(s, CM_SOCKET_HTTP), 1);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    static const struct {
        const char *fds, *names;
        cm_status status;
    } cases[] = {
        { "", NULL, CM_E_INVAL },
        { "-1", NULL, CM_E_INVAL },
        { "1x", NULL, CM_E_INVAL },
        { " 1", NULL, CM_E_INVAL },
        { "99999999999999999999999999", NULL, CM_E_INVAL },
        { "17", NULL, CM_E_LIMIT },
        { "1", "a:b", CM_E_INVAL },
        { "1", NULL, CM_E_INVAL }, /* nothing is open there */
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        ck_assert_msg(take(cases[i].fds, cases[i].names, 1, 2) == cases[i].status, "%zu: %s", i,
                      err.msg);
        none_is_taken();
    }
    ck_assert_int_eq(take("0", NULL, 1, 2), CM_OK);
    place(socket(AF_INET, SOCK_STREAM, 0), 0);
    ck_assert_int_eq(take("1", "https", 1, 2), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not listen"));
    place(socket(AF_INET, SOCK_DGRAM, 0), 0);
    ck_assert_int_eq(take("1", "https", 1, 2), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "no TCP socket"));
    none_is_taken();
    (void)close(FIRST);
}
END_TEST

START_TEST(of_another_process)
{
    struct cm_sockets_env env = { .pid = "1", .fds = "nonsense", .first = FIRST };

    ck_assert_int_eq(cm_tls_sockets_given(s, &env, &err), CM_OK);
    env.pid = NULL;
    ck_assert_int_eq(cm_tls_sockets_given(s, &env, &err), CM_OK);
    env.pid = "0";
    ck_assert_int_eq(cm_tls_sockets_given(s, &env, &err), CM_E_INVAL);
    none_is_taken();
}
END_TEST

START_TEST(more_than_there_is_room_for)
{
    uint16_t port;

    for (unsigned i = 0; i < CM_SOCKETS_MAX; i++)
        ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_TLS, listening(&port), &err), CM_OK);
    int fd = listening(&port);

    ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_TLS, fd, &err), CM_E_LIMIT);
    ck_assert_int_eq(cm_sockets_add(s, (enum cm_socket_use)2, fd, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_sockets_add(NULL, CM_SOCKET_TLS, fd, &err), CM_E_INVAL);
    (void)close(fd);
}
END_TEST

START_TEST(a_listener_takes_those_for_tls)
{
    struct cm_op op = cm_op_within(NULL, 5 * CM_NS_PER_S);
    struct cm_listener *l = NULL;
    struct cm_conn conn;
    struct client c;
    uint16_t port;

    ck_assert_int_eq(cm_listen_on(cfg, s, &l, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_TLS, listening(&port), &err), CM_OK);
    ck_assert_int_eq(cm_listen_on(cfg, s, &l, &err), CM_OK);
    none_is_taken();
    ck_assert_uint_eq(cm_listener_port(l), port);
    client_connect(&c, port);
    ck_assert_int_eq(cm_accept(l, &op, &conn, &err), CM_OK);
    gnutls_deinit(conn.session);
    (void)close(conn.fd);
    client_close(&c);
    cm_listener_free(l);
}
END_TEST

static void give_both(void)
{
    uint16_t port;

    ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_TLS, listening(&port), &err), CM_OK);
    ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_HTTP, listening(&port), &err), CM_OK);
    opts.sockets = s;
}

static void connect_from(struct client *c, uint32_t address, uint16_t port)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

    *c = (struct client){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    from.sin_addr.s_addr = htonl(address);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(c->fd, (const struct sockaddr *)(const void *)&from, sizeof from), 0);
    ck_assert_int_eq(connect(c->fd, (const struct sockaddr *)(const void *)&to, sizeof to), 0);
}

/* On a socket of both families all of IPv4 has one prefix. */
START_TEST(clients_are_told_apart)
{
    struct client a, b;

    give_both();
    opts.max_per_address = 1;
    https_start();
    connect_from(&a, 0x7f000002, opts.tls_port);
    connect_from(&b, 0x7f000003, opts.tls_port);
    check_secure("GET /x HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/x from 127.0.0.1");
    ck_assert_int_lt(client_wait_closed(&a, 50), 0);
    ck_assert_int_lt(client_wait_closed(&b, 50), 0);
    client_close(&a);
    client_close(&b);
    check_plain("GET /x HTTP/1.0\r\nHost: a.test\r\n\r\n", "HTTP/1.1 308 ", "https://a.test");
    https_finish();
    none_is_taken();
}
END_TEST

START_TEST(who_comes_between_two_servers_waits)
{
    struct client c;
    uint16_t port;
    int held = listening(&port);

    ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_TLS, dup(held), &err), CM_OK);
    opts.sockets = s;
    opts.no_http = true;
    https_start();
    check_secure("GET /1 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/1 from");
    https_finish();
    client_connect(&c, port); /* nobody is there, and it is not refused */
    ck_assert_int_ge(c.fd, 0);
    https_teardown();
    https_setup();
    opts.no_http = true;
    opts.sockets = s;
    ck_assert_int_eq(cm_sockets_add(s, CM_SOCKET_TLS, held, &err), CM_OK);
    https_start();
    ck_assert_int_lt(client_wait_closed(&c, 50), 0);
    check_secure("GET /2 HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "/2 from");
    client_close(&c);
    https_finish();
}
END_TEST

START_TEST(no_http_and_a_socket_for_it)
{
    give_both();
    opts.no_http = true;
    opts.cfg = cfg;
    ck_assert_int_eq(cm_https(NULL, 0, https_handle, &cfg, &opts, &err), CM_E_INVAL);
    ck_assert_uint_eq(cm_sockets_count(s, CM_SOCKET_HTTP), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_or_ports_say_what_for, all_or_none,
        nonsense_is_refused,         of_another_process,
        more_than_there_is_room_for, a_listener_takes_those_for_tls,
        clients_are_told_apart,      who_comes_between_two_servers_waits,
        no_http_and_a_socket_for_it,
    };

    return run_tests_how("https_given", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup, .teardown = teardown });
}
