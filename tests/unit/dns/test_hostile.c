/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that mean harm, or are broken: a thread of this test answers with raw bytes. Whatever
 * comes, the question ends by its deadline, with a reason that names the server. */

#include "wire.h"

#include "run.h"

#include "must.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_NS (600 * CM_NS_PER_MS)
#define AT_LAST_NS  (20 * CM_NS_PER_S) /* on a busy machine, too; without an end it takes longer */

static struct cm_err err;

struct server;
typedef void (*script)(struct server *s, const struct dns_message *q, int n);

struct server {
    int udp, tcp, stop[2];
    int conn; /* of the question by TCP that is being answered; -1: it came by UDP */
    struct sockaddr_in peer;
    char text[32];
    script say;
    atomic_int asked;
    pthread_t thread;
};

static void send_raw(struct server *s, const void *data, size_t len)
{
    uint8_t head[2] = { (uint8_t)(len >> 8), (uint8_t)len };

    if (s->conn < 0) {
        (void)!sendto(s->udp, data, len, 0, (struct sockaddr *)&s->peer, sizeof s->peer);
        return;
    }
    (void)!send(s->conn, head, 2, MSG_NOSIGNAL);
    (void)!send(s->conn, data, len, MSG_NOSIGNAL);
}

static bool is_over(const struct server *s, int ms)
{
    struct pollfd p = { s->stop[0], POLLIN, 0 };

    return poll(&p, 1, ms) > 0;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct pollfd p[3] = { { s->udp, POLLIN, 0 },
                           { s->tcp, POLLIN, 0 },
                           { s->stop[0], POLLIN, 0 } };
    uint8_t data[4096];
    struct dns_message q;

    while (poll(p, 3, -1) > 0 && p[2].revents == 0) {
        socklen_t len = sizeof s->peer;
        ssize_t n = -1;

        s->conn = -1;
        if (p[0].revents != 0) {
            n = recvfrom(s->udp, data, sizeof data, 0, (struct sockaddr *)&s->peer, &len);
        } else if ((s->conn = accept(s->tcp, NULL, NULL)) >= 0) {
            n = recv(s->conn, data, 2, MSG_WAITALL);
            if (n == 2)
                n = recv(s->conn, data, dns_get_u16(data), MSG_WAITALL);
        }
        if (n > 0 && dns_parse((struct cm_span){ data, (size_t)n }, &q, NULL) == CM_OK)
            s->say(s, &q, atomic_fetch_add(&s->asked, 1));
        if (s->conn >= 0)
            (void)close(s->conn);
    }
    return NULL;
}

/* UDP and TCP at the same port: the kernel chooses one that is free for both. */
static struct dns_resolver *server_begin(struct server *s, script say)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    struct dns_resolver_options o = { .n_servers = 1 };
    struct dns_resolver *r = NULL;
    const char *const text = s->text;
    socklen_t len = sizeof a;
    bool bound = false;

    memset(s, 0, sizeof *s);
    s->say = say;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 100 && !bound; i++) {
        a.sin_port = 0;
        s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ck_assert(bind(s->tcp, (struct sockaddr *)&a, sizeof a) == 0 && listen(s->tcp, 5) == 0 &&
                  getsockname(s->tcp, (struct sockaddr *)&a, &len) == 0);
        bound = bind(s->udp, (struct sockaddr *)&a, sizeof a) == 0;
        if (!bound) {
            (void)close(s->tcp);
            (void)close(s->udp);
        }
    }
    ck_assert(bound);
    (void)snprintf(s->text, sizeof s->text, "127.0.0.1:%u", ntohs(a.sin_port));
    ck_assert_int_eq(pipe(s->stop), 0);
    must(cm_thread_start(&s->thread, "server", serve, s, &err));
    o.servers = &text;
    o.zone_port = ntohs(a.sin_port);
    must(dns_resolver_new(&o, &r, &err));
    return r;
}

static void server_end(struct server *s, struct dns_resolver *r)
{
    ck_assert_int_eq(write(s->stop[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(s->thread, NULL), 0);
    (void)close(s->stop[0]);
    (void)close(s->stop[1]);
    (void)close(s->udp);
    (void)close(s->tcp);
    dns_resolver_free(r);
}

/* An answer to @q that says nothing yet. */
static void begin(struct dns_writer *w, const struct dns_message *q, unsigned flags,
                  unsigned answers)
{
    w->len = 0;
    w->bad = false;
    dns_put_u16(w, q->id);
    dns_put_u16(w, DNS_QR | flags);
    dns_put_u16(w, 1);
    dns_put_u16(w, answers);
    dns_put_u32(w, 0);
    dns_put_name(w, q->qname);
    dns_put_u16(w, q->qtype);
    dns_put_u16(w, DNS_IN);
}

static void put_rr(struct dns_writer *w, const char *name, enum dns_type type, const void *data,
                   size_t len)
{
    dns_put_name(w, name);
    dns_put_u16(w, type);
    dns_put_u16(w, DNS_IN);
    dns_put_u32(w, 1);
    dns_put_u16(w, (unsigned)len);
    dns_put_bytes(w, data, len);
}

static void put_cname(struct dns_writer *w, const char *name, const char *to)
{
    struct dns_writer target = { .len = 0 };

    dns_put_name(&target, to);
    put_rr(w, name, DNS_CNAME, target.data, target.len);
}

/* Ask where @name leads; it must end by itself, as @rc. */
static void follow(script say, const char *name, cm_status rc)
{
    const struct cm_env *env = cm_env_system();
    struct cm_op op = cm_op_within(NULL, PATIENCE_NS);
    struct server s;
    struct dns_resolver *r = server_begin(&s, say);
    char to[DNS_NAME_BUF];
    int64_t began_ns = env->mono_ns(env);

    must_fail(dns_follow(r, &op, name, to, &err), rc);
    ck_assert_int_lt(env->mono_ns(env) - began_ns, AT_LAST_NS);
    if (rc != CM_E_LIMIT) /* that is nobody's in particular */
        ck_assert_msg(strstr(err.msg, s.text) != NULL, "%s", err.msg);
    ck_assert_int_ge(s.asked, 1);
    server_end(&s, r);
}

/* ---- cut off by UDP, and then no better by TCP */

static void cut_off(struct server *s, const struct dns_message *q)
{
    struct dns_writer w;

    begin(&w, q, DNS_TC, 0);
    send_raw(s, w.data, w.len);
}

static void hang_up(struct server *s, const struct dns_message *q, int n)
{
    (void)n;
    if (s->conn < 0)
        cut_off(s, q);
}

static void say_nothing(struct server *s, const struct dns_message *q, int n)
{
    (void)n;
    if (s->conn < 0)
        cut_off(s, q);
    else
        (void)is_over(s, 60000);
}

static void promise_much(struct server *s, const struct dns_message *q, int n)
{
    (void)n;
    if (s->conn < 0)
        cut_off(s, q);
    else
        (void)!send(s->conn,
                    "\xff\xff"
                    "ten bytes.",
                    12, MSG_NOSIGNAL);
}

static void trickle(struct server *s, const struct dns_message *q, int n)
{
    (void)n;
    if (s->conn < 0) {
        cut_off(s, q);
        return;
    }
    (void)!send(s->conn, "\xff\xff", 2, MSG_NOSIGNAL);
    while (!is_over(s, 10) && send(s->conn, "x", 1, MSG_NOSIGNAL) == 1)
        ;
}

START_TEST(a_server_that_cannot_do_tcp)
{
    follow(hang_up, "a.test", CM_E_NET);
    follow(promise_much, "a.test", CM_E_NET);
}
END_TEST

START_TEST(a_server_that_never_ends)
{
    follow(say_nothing, "a.test", CM_E_TIMEOUT);
    follow(trickle, "a.test", CM_E_TIMEOUT);
}
END_TEST

/* ---- nonsense */

/* As fast as can be, and on: the deadline counts although there is always something to read. */
static void flood(struct server *s, const struct dns_message *q, int n)
{
    struct dns_writer w;
    struct dns_message other = *q;
    struct iovec io = { w.data, 0 };
    struct mmsghdr many[64] = { { .msg_hdr = { &s->peer, sizeof s->peer, &io, 1, NULL, 0, 0 } } };

    (void)n;
    other.id = (uint16_t)(q->id + 1);
    begin(&w, &other, 0, 0);
    io.iov_len = w.len;
    for (size_t i = 1; i < CM_ARRAY_LEN(many); i++)
        many[i] = many[0];
    while (!is_over(s, 0)) /* faster than anybody can read */
        (void)!sendmmsg(s->udp, many, CM_ARRAY_LEN(many), 0);
}

START_TEST(a_flood_of_nonsense_has_an_end)
{
    follow(flood, "a.test", CM_E_TIMEOUT);
}
END_TEST

/* The owner of the record is a pointer to itself, or one of two that point at each other. */
static void go_around(struct server *s, const struct dns_message *q, int n)
{
    struct dns_writer w;

    if (s->conn < 0 && n > 0) {
        cut_off(s, q);
        return;
    }
    begin(&w, q, 0, 1);
    dns_put_u16(&w, 0xc000u | (unsigned)(w.len + (n % 2 == 0 ? 0 : 2)));
    dns_put_u16(&w, 0xc000u | (unsigned)(w.len - 2));
    dns_put_u16(&w, DNS_CNAME);
    dns_put_u16(&w, DNS_IN);
    dns_put_u32(&w, 1);
    dns_put_u16(&w, 2);
    dns_put_u16(&w, 0xc000u | (unsigned)w.len);
    send_raw(s, w.data, w.len);
}

static void go_around_by_tcp(struct server *s, const struct dns_message *q, int n)
{
    go_around(s, q, n + 1);
}

START_TEST(names_that_go_around_are_refused)
{
    follow(go_around, "a.test", CM_E_TIMEOUT); /* by UDP it may be somebody else's */
    follow(go_around_by_tcp, "a.test", CM_E_PARSE);
}
END_TEST

/* ---- as long as an answer can be */

static void say_all(struct server *s, const struct dns_message *q, int n)
{
    static uint8_t data[65535];
    struct dns_writer w;
    size_t len;
    unsigned records = 1;

    (void)n;
    if (s->conn < 0) {
        cut_off(s, q);
        return;
    }
    begin(&w, q, 0, 0);
    len = w.len;
    memcpy(data, w.data, len);
    for (; len + 100 < sizeof data; records++) { /* records of another name, and at last the one */
        w.len = 0;
        put_rr(&w, "x.test", DNS_TXT,
               "\x2f"
               "01234567890123456789012345678901234567890123456",
               48);
        memcpy(data + len, w.data, w.len);
        len += w.len;
    }
    w.len = 0;
    if (strcmp(q->qname, "a.test") == 0)
        put_cname(&w, "a.test", "b.test");
    else
        put_rr(&w, "x.test", DNS_TXT,
               "\x01"
               "x",
               2);
    memcpy(data + len, w.data, w.len);
    data[6] = (uint8_t)(records >> 8);
    data[7] = (uint8_t)records;
    send_raw(s, data, len + w.len);
}

START_TEST(sixty_four_kilobytes_are_read)
{
    struct server s;
    struct dns_resolver *r = server_begin(&s, say_all);
    char to[DNS_NAME_BUF];

    must(dns_follow(r, NULL, "a.test", to, &err));
    ck_assert_str_eq(to, "b.test");
    server_end(&s, r);
}
END_TEST

/* ---- circles, and servers that change their mind */

static void ping_pong(struct server *s, const struct dns_message *q, int n)
{
    struct dns_writer w;
    bool a = strcmp(q->qname, "a.test") == 0;
    bool b = strcmp(q->qname, "b.test") == 0;

    (void)n;
    begin(&w, q, a || b ? 0 : DNS_NXDOMAIN, a || b ? 2 : 0);
    if (a || b) { /* both at once, as a helpful server has it */
        put_cname(&w, q->qname, a ? "b.test" : "a.test");
        put_cname(&w, a ? "b.test" : "a.test", q->qname);
    }
    send_raw(s, w.data, w.len);
}

static void to_itself(struct server *s, const struct dns_message *q, int n)
{
    struct dns_writer w;
    bool a = strcmp(q->qname, "a.test") == 0;

    (void)n;
    begin(&w, q, a ? 0 : DNS_NXDOMAIN, a ? 1 : 0);
    if (a)
        put_cname(&w, "a.test", "a.test");
    send_raw(s, w.data, w.len);
}

START_TEST(circles_of_cnames_have_an_end)
{
    follow(ping_pong, "a.test", CM_E_LIMIT);
    follow(to_itself, "a.test", CM_E_LIMIT);
}
END_TEST

/* Its TXT record is there at every third look, and no such name at the others. */
static void flap(struct server *s, const struct dns_message *q, int n)
{
    struct dns_writer w, name = { .len = 0 };
    bool there = q->qtype != DNS_TXT || n % 3 == 2;

    begin(&w, q, there ? 0 : DNS_NXDOMAIN, there ? 1 : 0);
    dns_put_name(&name, "ns.test");
    if (q->qtype == DNS_NS)
        put_rr(&w, q->qname, DNS_NS, name.data, name.len);
    else if (q->qtype == DNS_A)
        put_rr(&w, q->qname, DNS_A, "\x7f\0\0\1", 4);
    else if (q->qtype == DNS_TXT && there)
        put_rr(&w, q->qname, DNS_TXT, "\3new", 4);
    else
        begin(&w, q, 0, 0);
    send_raw(s, w.data, w.len);
}

START_TEST(a_record_that_comes_and_goes_is_seen)
{
    struct server s;
    struct dns_resolver *r = server_begin(&s, flap);
    struct cm_op op = cm_op_within(NULL, AT_LAST_NS);

    must(dns_wait_shown(r, &op, "a.test", "t.a.test", "new", 10 * CM_NS_PER_MS, NULL, &err));
    op = cm_op_within(NULL, PATIENCE_NS);
    must_fail(dns_wait_shown(r, &op, "a.test", "t.a.test", "newer", 10 * CM_NS_PER_MS, NULL, &err),
              CM_E_TIMEOUT);
    server_end(&s, r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_server_that_cannot_do_tcp,         a_server_that_never_ends,
        a_flood_of_nonsense_has_an_end,      names_that_go_around_are_refused,
        sixty_four_kilobytes_are_read,       circles_of_cnames_have_an_end,
        a_record_that_comes_and_goes_is_seen
    };

    return run_tests_how("hostile", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .timeout_s = 60 });
}
