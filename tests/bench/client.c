/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* client ROUNDS HANDSHAKES IN_FLIGHT RESUMED SERVER...: full TLS 1.3 handshakes (X25519,
 * AES-128-GCM) with each server in turn, ROUNDS times over, and the CPU time that the server's
 * process took for each. SERVER is LABEL:BASE:PORT:PID:NAMES; its time is compared with that of the
 * server labelled BASE in the same round. The first NAMES are asked for in turn; each certificate
 * is checked for its name, and GnuTLS checks CertificateVerify. Of ten handshakes RESUMED (0..9)
 * are resumed ones. PID 0: nothing is measured, and the server is given time to sleep between its
 * flight and our answer, as it does on any network. On CPU 1.
 *
 * Prints per server: LABEL US RATIO Q1 Q3, medians over the rounds. */

#define FLIGHT_MAX  64u
#define SERVERS_MAX 16u
#define ROUNDS_MAX  99u
#define REST_NS     30000000

struct peer {
    char label[64], base[64];
    uint16_t port;
    clockid_t clock;
    bool measured;
    size_t names;
    double us[ROUNDS_MAX];
};

/* One place for a connection, used again and again. */
struct slot {
    gnutls_session_t session;
    int fd;
    bool secured, closing;
    unsigned turn;         /* of ten */
    size_t name;           /* kept while it is resumed */
    gnutls_datum_t ticket; /* data of the session to resume */
};

struct round {
    struct peer *peer;
    gnutls_certificate_credentials_t cred;
    gnutls_priority_t priority;
    int epoll;
    unsigned resumed_of_ten;
    size_t to_start, running, resumed;
    size_t next_name;
};

/* ---- one connection ---- */

static void forget(struct slot *c)
{
    gnutls_free(c->ticket.data);
    c->ticket = (gnutls_datum_t){ NULL, 0 };
}

static void open_socket(struct round *r, struct slot *c)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct epoll_event ev = { .events = EPOLLIN, .data = { .ptr = c } };
    int on = 1;

    a.sin_port = htons(r->peer->port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* To loopback this does not wait: the kernel answers for the server. */
    bench_check(c->fd >= 0 && connect(c->fd, (struct sockaddr *)&a, sizeof a) == 0,
                "connect to %s: %s", r->peer->label, strerror(errno));
    bench_check(fcntl(c->fd, F_SETFL, O_NONBLOCK) == 0 &&
                    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
                    epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &ev) == 0,
                "socket: %s", strerror(errno));
}

/* Whether the answer has come before the server sleeps is a matter of chance on one machine, and
 * once more through gnutls_handshake() is a thirtieth of all instructions. */
static int rest_before_finished(gnutls_session_t session, unsigned type, unsigned when,
                                unsigned incoming, const gnutls_datum_t *msg)
{
    struct timespec rest = { 0, REST_NS };

    (void)session;
    (void)type;
    (void)when;
    (void)msg;
    while (incoming == 0 && clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, &rest) == EINTR)
        continue;
    return 0;
}

static void begin(struct round *r, struct slot *c)
{
    char name[BENCH_NAME_BUF];

    if (c->turn == 0 || c->turn > r->resumed_of_ten) {
        forget(c);
        c->name = r->next_name++ % r->peer->names;
    }
    bench_name(c->name, name);
    open_socket(r, c);
    c->secured = false;
    c->closing = false;
    bench_gnutls(gnutls_init(&c->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK), "session");
    bench_gnutls(gnutls_priority_set(c->session, r->priority), "priority");
    bench_gnutls(gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, r->cred),
                 "credentials");
    bench_gnutls(gnutls_server_name_set(c->session, GNUTLS_NAME_DNS, name, strlen(name)), "name");
    if (c->ticket.data != NULL)
        bench_gnutls(gnutls_session_set_data(c->session, c->ticket.data, c->ticket.size), "resume");
    gnutls_transport_set_int(c->session, c->fd);
    if (!r->peer->measured)
        gnutls_handshake_set_hook_function(c->session, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_PRE,
                                           rest_before_finished);
    r->to_start--;
    r->running++;
}

static void check_handshake(struct round *r, struct slot *c)
{
    unsigned n = 0;
    const gnutls_datum_t *der = gnutls_certificate_get_peers(c->session, &n);
    char name[BENCH_NAME_BUF];
    bool resumed = gnutls_session_is_resumed(c->session) != 0;

    bench_name(c->name, name);
    bench_check(n > 0 && memmem(der->data, der->size, name, BENCH_NAME_LEN) != NULL,
                "%s: the certificate is not for '%s'", r->peer->label, name);
    bench_check(resumed == (c->ticket.data != NULL), "%s: %s", r->peer->label,
                resumed ? "resumed unasked" : "a session was not resumed");
    r->resumed += resumed;
}

static void go_on(struct round *r, struct slot *c);

static void end(struct round *r, struct slot *c)
{
    bench_check(c->closing, "%s closed before it sent a ticket", r->peer->label);
    c->turn = (c->turn + 1) % 10;
    gnutls_deinit(c->session);
    (void)close(c->fd);
    r->running--;
    if (r->to_start > 0) {
        begin(r, c);
        go_on(r, c);
    }
}

/* The first of ten gets a ticket for the others: true when it has come, or none is wanted. */
static bool take_ticket(struct round *r, struct slot *c)
{
    if (r->resumed_of_ten == 0 || c->turn != 0)
        return true;
    if ((gnutls_session_get_flags(c->session) & GNUTLS_SFLAGS_SESSION_TICKET) == 0)
        return false;
    bench_gnutls(gnutls_session_get_data2(c->session, &c->ticket), "session data");
    return true;
}

static void go_on(struct round *r, struct slot *c)
{
    char rest[4096];

    if (!c->secured) {
        int rc = gnutls_handshake(c->session);

        if (rc == GNUTLS_E_AGAIN)
            return;
        if (rc < 0)
            bench_die("%s: handshake: %s", r->peer->label, gnutls_strerror(rc));
        c->secured = true;
        check_handshake(r, c);
    }
    /* Tickets come in here; then we close, then the server does. */
    ssize_t n = gnutls_record_recv(c->session, rest, sizeof rest);
    if (!c->closing && take_ticket(r, c)) {
        (void)gnutls_bye(c->session, GNUTLS_SHUT_WR);
        c->closing = true;
    }
    if (n != GNUTLS_E_AGAIN)
        end(r, c);
}

/* ---- a round ---- */

static double cpu_us(const struct peer *p)
{
    struct timespec t = { 0, 0 };

    if (p->measured)
        bench_check(clock_gettime(p->clock, &t) == 0, "%s has died", p->label);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double shake(struct round *r, struct peer *p, size_t handshakes, size_t in_flight)
{
    struct slot slots[FLIGHT_MAX] = { 0 };
    struct epoll_event ev[FLIGHT_MAX];

    r->peer = p;
    r->to_start = handshakes;
    r->resumed = 0;
    double before = cpu_us(p);
    for (size_t i = 0; i < in_flight && r->to_start > 0; i++)
        begin(r, &slots[i]);
    for (size_t i = 0; i < in_flight && i < handshakes; i++)
        go_on(r, &slots[i]); /* sends the hello */
    while (r->running > 0) {
        int n = epoll_wait(r->epoll, ev, FLIGHT_MAX, 30000);

        bench_check(n > 0, "%s: nothing happens", p->label);
        for (int i = 0; i < n; i++)
            go_on(r, ev[i].data.ptr);
    }
    for (size_t i = 0; i < FLIGHT_MAX; i++)
        forget(&slots[i]);
    if (r->resumed_of_ten == 0)
        bench_check(r->resumed == 0, "%s resumed unasked", p->label);
    return (cpu_us(p) - before) / (double)handshakes;
}

/* Each name once: what is made at the first handshake with it is not part of the others. */
static void warm_up(struct round *r, struct peer *p, size_t in_flight)
{
    unsigned resumed = r->resumed_of_ten;

    r->resumed_of_ten = 0;
    (void)shake(r, p, p->names * 3 + 20, in_flight);
    r->resumed_of_ten = resumed;
}

static void read_peer(const char *text, struct peer *p)
{
    unsigned port = 0;
    int pid = 0;

    memset(p, 0, sizeof *p);
    bench_check(
        sscanf(text, "%63[^:]:%63[^:]:%u:%d:%zu", p->label, p->base, &port, &pid, &p->names) == 5 &&
            p->names > 0 && port <= 65535,
        "'%s' is not LABEL:BASE:PORT:PID:NAMES", text);
    p->port = (uint16_t)port;
    p->measured = pid != 0;
    if (p->measured)
        bench_check(clock_getcpuclockid(pid, &p->clock) == 0, "no process %d", pid);
}

static void print(const struct peer *peers, size_t n, const struct peer *p, size_t rounds)
{
    const struct peer *base = p;
    double us[ROUNDS_MAX], ratio[ROUNDS_MAX];

    for (size_t i = 0; i < n; i++)
        if (strcmp(peers[i].label, p->base) == 0)
            base = &peers[i];
    for (size_t i = 0; i < rounds; i++) {
        us[i] = p->us[i];
        ratio[i] = p->us[i] / base->us[i];
    }
    printf("%s %.1f %.3f %.3f %.3f\n", p->label, bench_quantile(us, rounds, 0.5),
           bench_quantile(ratio, rounds, 0.5), bench_quantile(ratio, rounds, 0.25),
           bench_quantile(ratio, rounds, 0.75));
}

int main(int argc, char **argv)
{
    static struct peer peers[SERVERS_MAX];
    struct round r = { 0 };

    bench_check(argc >= 6 && argc - 5 <= (int)SERVERS_MAX,
                "usage: %s ROUNDS HANDSHAKES IN_FLIGHT RESUMED SERVER...", argv[0]);
    size_t rounds = bench_number(argv[1], ROUNDS_MAX);
    size_t handshakes = bench_number(argv[2], 1000000);
    size_t in_flight = bench_number(argv[3], FLIGHT_MAX);
    size_t n = (size_t)argc - 5;
    r.resumed_of_ten = (unsigned)bench_number(argv[4], 9);
    bench_check(in_flight > 0, "at least one connection");
    for (size_t i = 0; i < n; i++)
        read_peer(argv[5 + i], &peers[i]);
    bench_pin(1);
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    bench_gnutls(gnutls_certificate_allocate_credentials(&r.cred), "credentials");
    bench_gnutls(gnutls_priority_init(&r.priority,
                                      "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:"
                                      "-GROUP-ALL:+GROUP-X25519",
                                      NULL),
                 "priority");
    for (size_t i = 0; i < n && rounds > 0; i++)
        if (peers[i].measured)
            warm_up(&r, &peers[i], in_flight);
    for (size_t k = 0; k < rounds; k++)
        for (size_t i = 0; i < n; i++)
            peers[i].us[k] = shake(&r, &peers[i], handshakes, in_flight);
    for (size_t i = 0; i < n && rounds > 0; i++)
        print(peers, n, &peers[i], rounds);
    gnutls_priority_deinit(r.priority);
    gnutls_certificate_free_credentials(r.cred);
    return 0;
}
