/* SPDX-License-Identifier: Apache-2.0 */

/* hello_flood PORT COUNT RATE NUMBER MARK <HELLO: that many ClientHellos, at most RATE a second,
 * each on a connection of its own, from 250 networks, and with another name in the place of MARK.
 * Prints how many got an alert and how many something else. One thread, which has 32 of them under
 * way. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE   32u
#define HELLO_MAX 4096u
#define ANSWER_S  20.0
#define ALERT     0x15 /* RFC 8446 5.1: content type 21 */

struct flood {
    unsigned port, number;
    uint64_t count, begun, alerts, others;
    double rate;
    char hello[HELLO_MAX];
    size_t len, name_at, name_len;
    uint64_t random;
    int epoll;
    unsigned under_way;
    int fd[AT_ONCE]; /* -1: free */
    double since[AT_ONCE];
    bool sent[AT_ONCE];
};

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void end(struct flood *f, size_t i, bool alert)
{
    (void)close(f->fd[i]);
    f->fd[i] = -1;
    f->under_way--;
    *(alert ? &f->alerts : &f->others) += 1;
}

/* Of MARK's length, so that no length in the hello changes. */
static void name_next(struct flood *f)
{
    char name[80];
    int n;

    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    n = snprintf(name, sizeof name, "%02x%08llx%014llx", f->number & 0xffu,
                 (unsigned long long)f->begun & 0xffffffffu, (unsigned long long)(f->random >> 8));
    memcpy(f->hello + f->name_at, name, (size_t)n);
}

static void begin(struct flood *f, size_t i)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)f->port) };
    struct epoll_event ev = { .events = EPOLLOUT, .data = { .u64 = i } };
    const int on = 1;

    from.sin_addr.s_addr =
        htonl(0x7f000000u | (uint32_t)(f->begun % 250) << 8 | ((f->number + 1) & 0x7fu));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    f->since[i] = now_s();
    f->sent[i] = false;
    f->begun++;
    f->under_way++;
    /* The port is chosen when it connects, or the ports of one address would run out. */
    if (f->fd[i] < 0 ||
        setsockopt(f->fd[i], IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind(f->fd[i], (struct sockaddr *)&from, sizeof from) != 0 ||
        (connect(f->fd[i], (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->fd[i], &ev) != 0)
        end(f, i, false);
}

static void go_on(struct flood *f, size_t i)
{
    struct epoll_event ev = { .events = EPOLLIN, .data = { .u64 = i } };
    unsigned char got[16];

    if (!f->sent[i]) {
        name_next(f);
        f->sent[i] = send(f->fd[i], f->hello, f->len, MSG_NOSIGNAL) == (ssize_t)f->len &&
                     epoll_ctl(f->epoll, EPOLL_CTL_MOD, f->fd[i], &ev) == 0;
        if (!f->sent[i])
            end(f, i, false);
        return;
    }
    ssize_t n = recv(f->fd[i], got, sizeof got, 0);
    end(f, i, n > 0 && got[0] == ALERT);
}

static void run(struct flood *f)
{
    struct epoll_event ev[AT_ONCE];
    double began = now_s();

    while (f->begun < f->count || f->under_way > 0) {
        double now = now_s();

        for (size_t i = 0; i < AT_ONCE; i++) {
            if (f->fd[i] >= 0 && now - f->since[i] > ANSWER_S)
                end(f, i, false);
            if (f->fd[i] < 0 && f->begun < f->count && (double)f->begun <= (now - began) * f->rate)
                begin(f, i);
        }
        int n = epoll_wait(f->epoll, ev, AT_ONCE, f->under_way > 0 && f->begun < f->count ? 1 : 20);
        for (int k = 0; k < n; k++)
            go_on(f, (size_t)ev[k].data.u64);
    }
}

int main(int argc, char **argv)
{
    static struct flood f;

    if (argc != 6) {
        (void)fputs("usage: hello_flood PORT COUNT RATE NUMBER MARK <HELLO\n", stderr);
        return 2;
    }
    f.port = (unsigned)strtoul(argv[1], NULL, 10);
    f.count = strtoull(argv[2], NULL, 10);
    f.rate = strtod(argv[3], NULL);
    f.number = (unsigned)strtoul(argv[4], NULL, 10);
    f.random = (uint64_t)now_s() ^ ((uint64_t)getpid() << 32);
    f.len = fread(f.hello, 1, sizeof f.hello, stdin);
    f.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < AT_ONCE; i++)
        f.fd[i] = -1;
    const char *at = memmem(f.hello, f.len, argv[5], strlen(argv[5]));
    if (at == NULL || f.epoll < 0 || strlen(argv[5]) < 24) {
        (void)fprintf(stderr, "hello_flood: no '%s' of 24 characters at least in the hello\n",
                      argv[5]);
        return EXIT_FAILURE;
    }
    f.name_at = (size_t)(at - f.hello);
    run(&f);
    printf("%llu %llu\n", (unsigned long long)f.alerts, (unsigned long long)f.others);
    return EXIT_SUCCESS;
}
