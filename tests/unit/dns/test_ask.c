/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to a server that is a thread of this test: it answers as it is told, by UDP and TCP. */

#include "wire.h"

#include "run.h"

#include "must.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct cm_err err;

/* Answers to one question, in the order in which they are sent. */
struct server;
typedef void (*script)(struct server *s, const struct dns_message *q, bool tcp, int n);

struct server {
    int udp, tcp, conn, stop[2];
    struct sockaddr_in peer;
    uint16_t port;
    char text[32];
    script say;
    atomic_int udp_asked, tcp_asked;
    pthread_t thread;
};

static void put_header(struct dns_writer *w, const struct dns_message *q, unsigned flags,
                       unsigned answers)
{
    w->len = 0;
    w->bad = false;
    dns_put_u16(w, q->id);
    dns_put_u16(w, DNS_QR | flags);
    dns_put_u16(w, 1);
    dns_put_u16(w, answers);
    dns_put_u16(w, 0);
    dns_put_u16(w, 0);
    dns_put_name(w, q->qname);
    dns_put_u16(w, q->qtype);
    dns_put_u16(w, DNS_IN);
}

static void put_rr(struct dns_writer *w, const char *name, enum dns_type type)
{
    dns_put_name(w, name);
    dns_put_u16(w, type);
    dns_put_u16(w, DNS_IN);
    dns_put_u32(w, 1);
}

static void put_name_rr(struct dns_writer *w, const char *name, enum dns_type type, const char *to)
{
    put_rr(w, name, type);
    dns_put_u16(w, (unsigned)strlen(to) + 2);
    dns_put_name(w, to);
}

static void put_txt(struct dns_writer *w, const char *name, const char *value)
{
    put_rr(w, name, DNS_TXT);
    dns_put_u16(w, (unsigned)strlen(value) + 1);
    dns_put_u8(w, (unsigned)strlen(value));
    dns_put_bytes(w, value, strlen(value));
}

static void answer(struct server *s, const struct dns_writer *w, bool tcp)
{
    uint8_t head[2] = { (uint8_t)(w->len >> 8), (uint8_t)w->len };

    if (tcp) {
        (void)!send(s->conn, head, 2, MSG_NOSIGNAL);
        (void)!send(s->conn, w->data, w->len, MSG_NOSIGNAL);
    } else {
        (void)!sendto(s->udp, w->data, w->len, 0, (struct sockaddr *)&s->peer, sizeof s->peer);
    }
}

static void on_udp(struct server *s)
{
    uint8_t data[4096];
    struct dns_message q;
    socklen_t len = sizeof s->peer;
    ssize_t n = recvfrom(s->udp, data, sizeof data, 0, (struct sockaddr *)&s->peer, &len);

    if (n > 0 && dns_parse((struct cm_span){ data, (size_t)n }, &q, NULL) == CM_OK)
        s->say(s, &q, false, atomic_fetch_add(&s->udp_asked, 1));
}

static void on_tcp(struct server *s)
{
    uint8_t data[4096];
    struct dns_message q;
    ssize_t n;

    s->conn = accept(s->tcp, NULL, NULL);
    n = recv(s->conn, data, 2, MSG_WAITALL);
    if (n == 2)
        n = recv(s->conn, data, dns_get_u16(data), MSG_WAITALL);
    if (n > 0 && dns_parse((struct cm_span){ data, (size_t)n }, &q, NULL) == CM_OK)
        s->say(s, &q, true, atomic_fetch_add(&s->tcp_asked, 1));
    (void)close(s->conn);
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct pollfd p[3] = { { s->udp, POLLIN, 0 },
                           { s->tcp, POLLIN, 0 },
                           { s->stop[0], POLLIN, 0 } };

    while (poll(p, 3, -1) > 0 && p[2].revents == 0) {
        if (p[0].revents != 0)
            on_udp(s);
        if (p[1].revents != 0)
            on_tcp(s);
    }
    return NULL;
}

/* UDP and TCP at the same port: the kernel chooses one that is free for both. */
static void server_begin(struct server *s, script say)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t len = sizeof a;

    memset(s, 0, sizeof *s);
    s->say = say;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 100; i++) {
        a.sin_port = 0;
        s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ck_assert(bind(s->tcp, (struct sockaddr *)&a, sizeof a) == 0 && listen(s->tcp, 5) == 0 &&
                  getsockname(s->tcp, (struct sockaddr *)&a, &len) == 0);
        s->port = ntohs(a.sin_port);
        if (bind(s->udp, (struct sockaddr *)&a, sizeof a) == 0)
            break;
        (void)close(s->tcp);
        (void)close(s->udp);
        s->port = 0;
    }
    ck_assert_uint_ne(s->port, 0);
    (void)snprintf(s->text, sizeof s->text, "127.0.0.1:%u", s->port);
    ck_assert_int_eq(pipe(s->stop), 0);
    must(cm_thread_start(&s->thread, "server", serve, s, &err));
}

static void server_end(struct server *s)
{
    ck_assert_int_eq(write(s->stop[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(s->thread, NULL), 0);
    (void)close(s->stop[0]);
    (void)close(s->stop[1]);
    (void)close(s->udp);
    (void)close(s->tcp);
}

static struct dns_resolver *resolver_at(const struct server *s)
{
    const char *const servers[] = { s->text };
    const struct dns_resolver_options o = { servers, 1, s->port };
    struct dns_resolver *r = NULL;

    must(dns_resolver_new(&o, &r, &err));
    return r;
}

/* ---- whom to believe */

static void lie_first(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;
    struct dns_message other = *q;

    (void)n;
    other.id = (uint16_t)(q->id + 1);
    put_header(&w, &other, 0, 1); /* another id */
    put_name_rr(&w, q->qname, DNS_CNAME, "evil.test");
    answer(s, &w, tcp);
    other = *q;
    (void)snprintf(other.qname, sizeof other.qname, "other.test"); /* another question */
    put_header(&w, &other, 0, 1);
    put_name_rr(&w, q->qname, DNS_CNAME, "evil.test");
    answer(s, &w, tcp);
    put_header(&w, q, 0, 1);
    w.data[2] = 0; /* no answer at all: a question */
    answer(s, &w, tcp);
    put_header(&w, q, 0, 5); /* damaged */
    answer(s, &w, tcp);
    put_header(&w, q, 0, 1);
    put_name_rr(&w, "elsewhere.test", DNS_CNAME, "evil.test"); /* not asked for */
    answer(s, &w, tcp);
}

START_TEST(what_was_not_asked_for_is_passed_over)
{
    struct server s;
    char name[DNS_NAME_BUF];

    server_begin(&s, lie_first);
    struct dns_resolver *r = resolver_at(&s);
    must(dns_follow(r, NULL, "a.test", name, &err));
    ck_assert_str_eq(name, "a.test");
    ck_assert_int_eq(s.udp_asked, 1);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

static void cut_off(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;

    (void)n;
    put_header(&w, q, tcp ? 0 : DNS_TC, tcp ? 1 : 0);
    if (tcp && strcmp(q->qname, "a.test") == 0)
        put_name_rr(&w, q->qname, DNS_CNAME, "b.test");
    else
        dns_set_u16(&w, 6, 0);
    answer(s, &w, tcp);
}

START_TEST(what_is_cut_off_is_asked_for_by_tcp)
{
    struct server s;
    char name[DNS_NAME_BUF];

    server_begin(&s, cut_off);
    struct dns_resolver *r = resolver_at(&s);
    must(dns_follow(r, NULL, "a.test", name, &err));
    ck_assert_str_eq(name, "b.test");
    ck_assert_int_eq(s.udp_asked, 3); /* the second whether it is of a wildcard */
    ck_assert_int_eq(s.tcp_asked, 3);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

/* ---- patience */

static void say_nothing(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    (void)s;
    (void)q;
    (void)tcp;
    (void)n;
}

static void *fire(void *token)
{
    (void)!cm_op_wait(NULL, 200 * CM_NS_PER_MS, NULL);
    cm_cancel_fire(token);
    return NULL;
}

START_TEST(waiting_has_an_end)
{
    const struct cm_env *env = cm_env_system();
    struct server s;
    char name[DNS_NAME_BUF];
    pthread_t thread;
    struct cm_op op = cm_op_within(NULL, 300 * CM_NS_PER_MS);

    server_begin(&s, say_nothing);
    struct dns_resolver *r = resolver_at(&s);
    must_fail(dns_follow(r, &op, "a.test", name, &err), CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, s.text) != NULL, "%s", err.msg);

    op = (struct cm_op){ NULL, 0, NULL };
    must(cm_cancel_new(NULL, &op.cancel, &err));
    must(cm_thread_start(&thread, "fire", fire, op.cancel, &err));
    int64_t began_ns = env->mono_ns(env);
    must_fail(dns_follow(r, &op, "a.test", name, &err), CM_E_CANCELED);
    ck_assert_int_lt(env->mono_ns(env) - began_ns, 20 * CM_NS_PER_S);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    cm_cancel_free(op.cancel);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

static void fail_first(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;

    put_header(&w, q, n == 0 ? DNS_SERVFAIL : DNS_NXDOMAIN, 0);
    answer(s, &w, tcp);
}

static void refuse(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;

    (void)n;
    put_header(&w, q, DNS_REFUSED, 0);
    answer(s, &w, tcp);
}

START_TEST(a_failure_is_asked_again)
{
    struct server s;
    char name[DNS_NAME_BUF];

    server_begin(&s, fail_first);
    struct dns_resolver *r = resolver_at(&s);
    must(dns_follow(r, NULL, "a.test", name, &err));
    ck_assert_int_eq(s.udp_asked, 2);
    dns_resolver_free(r);
    server_end(&s);

    server_begin(&s, refuse);
    r = resolver_at(&s);
    must_fail(dns_follow(r, NULL, "a.test", name, &err), CM_E_NET);
    ck_assert_msg(strstr(err.msg, "REFUSED") != NULL, "%s", err.msg);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

/* ---- CNAMEs and zones */

static void say_zone(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;
    bool top = strcmp(q->qname, "a.test") == 0;

    (void)n;
    put_header(&w, q, 0, 0);
    if (q->qtype == DNS_CNAME || strcmp(q->qname, "c.a.test") == 0) {
        dns_set_u16(&w, 6, 1); /* c0 -> xc0 -> xxc0 ..., and c.a.test -> elsewhere */
        char to[DNS_NAME_BUF + 2];
        (void)snprintf(to, sizeof to, "x%s", q->qname);
        put_name_rr(&w, q->qname, DNS_CNAME, to);
        if (q->qtype == DNS_SOA) {
            dns_set_u16(&w, 8, 1);
            put_name_rr(&w, "test", DNS_SOA, "ns.test");
        }
    } else if (top || strcmp(q->qname, "b.a.test") == 0) {
        dns_set_u16(&w, top ? 6 : 8, 1);
        put_name_rr(&w, "a.test", DNS_SOA, "ns.test");
    } else {
        dns_set_u16(&w, 2, DNS_QR | DNS_NXDOMAIN);
        dns_set_u16(&w, 8, 1);
        put_name_rr(&w, "", DNS_SOA, "ns.test"); /* the root's */
    }
    answer(s, &w, tcp);
}

START_TEST(cnames_and_zones)
{
    struct server s;
    char name[DNS_NAME_BUF];

    server_begin(&s, say_zone);
    struct dns_resolver *r = resolver_at(&s);
    must(dns_zone_of(r, NULL, "b.a.test", name, &err));
    ck_assert_str_eq(name, "a.test");
    must(dns_zone_of(r, NULL, "a.test", name, &err));
    ck_assert_str_eq(name, "a.test");
    /* behind a CNAME comes what belongs to its target, not to the name */
    must(dns_zone_of(r, NULL, "c.a.test", name, &err));
    ck_assert_str_eq(name, "a.test");
    must_fail(dns_zone_of(r, NULL, "nobody.example", name, &err), CM_E_NOTFOUND);
    must_fail(dns_follow(r, NULL, "c0.test", name, &err), CM_E_LIMIT);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

/* All names have the same CNAME, as a wildcard record makes it. */
static void say_star(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;

    (void)n;
    put_header(&w, q, 0, 1);
    put_name_rr(&w, q->qname, DNS_CNAME, "elsewhere.test");
    answer(s, &w, tcp);
}

START_TEST(a_cname_of_a_wildcard_is_not_followed)
{
    struct server s;
    char name[DNS_NAME_BUF];

    server_begin(&s, say_star);
    struct dns_resolver *r = resolver_at(&s);
    must(dns_follow(r, NULL, "_acme-challenge.a.test", name, &err));
    ck_assert_str_eq(name, "_acme-challenge.a.test");
    ck_assert_int_eq(s.udp_asked, 2);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

/* ---- whether it shows */

static void say_shown(struct server *s, const struct dns_message *q, bool tcp, int n)
{
    struct dns_writer w;

    put_header(&w, q, 0, 1);
    if (q->qtype == DNS_NS) {
        put_name_rr(&w, q->qname, DNS_NS, "ns.test");
    } else if (q->qtype == DNS_A) {
        put_rr(&w, q->qname, DNS_A);
        dns_put_u16(&w, 4);
        dns_put_bytes(&w, "\x7f\0\0\1", 4);
    } else if (q->qtype == DNS_TXT) {
        put_txt(&w, q->qname, n < 6 ? "old" : "new");
    } else {
        dns_set_u16(&w, 6, 0);
    }
    answer(s, &w, tcp);
}

START_TEST(a_record_is_waited_for)
{
    struct server s;
    bool silent = true;

    server_begin(&s, say_shown);
    struct dns_resolver *r = resolver_at(&s);
    must(dns_wait_shown(r, NULL, "a.test", "t.a.test", "new", 10 * CM_NS_PER_MS, &silent, &err));
    ck_assert(!silent);
    ck_assert_int_ge(s.udp_asked, 7);
    struct cm_op op = cm_op_within(NULL, 300 * CM_NS_PER_MS);
    must_fail(dns_wait_shown(r, &op, "a.test", "t.a.test", "newer", 10 * CM_NS_PER_MS, NULL, &err),
              CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, "ns.test has 1 other value there") != NULL, "%s", err.msg);
    dns_resolver_free(r);
    server_end(&s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { what_was_not_asked_for_is_passed_over,
                                   what_is_cut_off_is_asked_for_by_tcp,
                                   waiting_has_an_end,
                                   a_failure_is_asked_again,
                                   cnames_and_zones,
                                   a_cname_of_a_wildcard_is_not_followed,
                                   a_record_is_waited_for };

    return run_tests_how("ask", tests, CM_ARRAY_LEN(tests), (struct run_how){ .timeout_s = 60 });
}
