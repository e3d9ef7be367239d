/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_redis.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX 200u

struct serving {
    struct fake_conn conn;
    pthread_t thread;
    fake_serve_fn serve;
};

struct fake_redis {
    int fd;
    uint16_t port;
    fake_serve_fn serve;
    void *user;
    pthread_t thread;
    atomic_bool stopping;
    atomic_uint n;
    struct serving at[CONNS_MAX];
};

static void *serve_run(void *arg)
{
    struct serving *s = arg;

    s->serve(&s->conn);
    (void)shutdown(s->conn.fd, SHUT_RDWR);
    return NULL;
}

static void *accept_run(void *arg)
{
    struct fake_redis *f = arg;

    for (;;) {
        int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC);
        unsigned n = atomic_load(&f->n);

        if (fd < 0 || atomic_load(&f->stopping) || n == CONNS_MAX) {
            if (fd >= 0)
                (void)close(fd);
            return NULL;
        }
        f->at[n].serve = f->serve;
        f->at[n].conn.server = f;
        f->at[n].conn.fd = fd;
        f->at[n].conn.number = n;
        f->at[n].conn.user = f->user;
        atomic_store(&f->n, n + 1);
        ck_assert_int_eq(pthread_create(&f->at[n].thread, NULL, serve_run, &f->at[n]), 0);
    }
}

struct fake_redis *fake_redis_start(fake_serve_fn serve, void *user)
{
    struct fake_redis *f = calloc(1, sizeof *f);
    struct sockaddr_in sa = { .sin_family = AF_INET };
    socklen_t len = sizeof sa;

    ck_assert_ptr_nonnull(f);
    f->serve = serve;
    f->user = user;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(bind(f->fd, (struct sockaddr *)&sa, sizeof sa), 0);
    ck_assert_int_eq(listen(f->fd, 64), 0);
    ck_assert_int_eq(getsockname(f->fd, (struct sockaddr *)&sa, &len), 0);
    f->port = ntohs(sa.sin_port);
    ck_assert_int_eq(pthread_create(&f->thread, NULL, accept_run, f), 0);
    return f;
}

void fake_redis_stop(struct fake_redis *f)
{
    atomic_store(&f->stopping, true);
    (void)shutdown(f->fd, SHUT_RDWR);
    ck_assert_int_eq(pthread_join(f->thread, NULL), 0);
    (void)close(f->fd);
    for (unsigned i = 0; i < atomic_load(&f->n); i++) {
        (void)shutdown(f->at[i].conn.fd, SHUT_RDWR);
        ck_assert_int_eq(pthread_join(f->at[i].thread, NULL), 0);
        (void)close(f->at[i].conn.fd);
    }
    free(f);
}

uint16_t fake_redis_port(const struct fake_redis *f)
{
    return f->port;
}

unsigned fake_redis_connections(const struct fake_redis *f)
{
    return atomic_load(&f->n);
}

/* ---- what a server does */

static bool read_line(struct fake_conn *c, char *out, size_t size)
{
    size_t n = 0;

    while (n + 1 < size && recv(c->fd, out + n, 1, 0) == 1) {
        if (out[n++] == '\n') {
            out[n] = '\0';
            return true;
        }
    }
    return false;
}

bool fake_next(struct fake_conn *c)
{
    char line[64];
    size_t used = 0;
    long n;

    c->words[0] = '\0';
    if (!read_line(c, line, sizeof line) || line[0] != '*')
        return false;
    n = strtol(line + 1, NULL, 10);
    for (long i = 0; i < n; i++) {
        size_t len;

        if (!read_line(c, line, sizeof line) || line[0] != '$')
            return false;
        len = (size_t)strtol(line + 1, NULL, 10) + 2;
        ck_assert_uint_lt(used + len, sizeof c->words);
        if (recv(c->fd, c->words + used, len, MSG_WAITALL) != (ssize_t)len)
            return false;
        used += len - 2;
        c->words[used++] = i + 1 < n ? ' ' : '\0';
    }
    return true;
}

bool fake_next_call(struct fake_conn *c)
{
    while (fake_next(c)) {
        if (strncmp(c->words, "CLIENT SETNAME ", 15) != 0 && strncmp(c->words, "AUTH ", 5) != 0 &&
            strncmp(c->words, "SELECT ", 7) != 0)
            return true;
        fake_say(c, "+OK\r\n");
    }
    return false;
}

void fake_send(struct fake_conn *c, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

void fake_say(struct fake_conn *c, const char *text)
{
    fake_send(c, text, strlen(text));
}

void fake_sayf(struct fake_conn *c, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fake_say(c, text);
}

void fake_hold(struct fake_conn *c)
{
    char byte;

    while (recv(c->fd, &byte, 1, 0) == 1)
        continue;
}

/* ---- the link to it */

void linked_open(struct linked *k, const struct fake_redis *f, const char *url)
{
    struct cm_err err = CM_ERR_INIT;
    char text[512];
    const char *at = strstr(url, "%u");

    if (at != NULL)
        (void)snprintf(text, sizeof text, "%.*s%u%s", (int)(at - url), url, (unsigned)f->port,
                       at + 2);
    else
        (void)snprintf(text, sizeof text, "%s", url);
    ck_assert_msg(redis_options_parse(text, &k->o, &err) == CM_OK, "%s", err.msg);
    ck_assert_msg(redis_link_new(&k->o, NULL, NULL, &k->l, &err) == CM_OK, "%s", err.msg);
}

void linked_close(struct linked *k)
{
    redis_link_free(k->l);
    redis_options_clear(&k->o);
}

cm_status linked_call(struct linked *k, int64_t timeout_ms, bool again, const char *route,
                      redisReply **ret, struct cm_err *err, const char *first, ...)
{
    struct cm_op op = cm_op_within(NULL, timeout_ms * CM_NS_PER_MS);
    const char *argv[16] = { first };
    struct redis_command cmd = { 1, argv, NULL };
    redisReply *reply = NULL;
    va_list ap;
    cm_status rc;

    va_start(ap, first);
    for (const char *s = va_arg(ap, const char *); s != NULL; s = va_arg(ap, const char *))
        argv[cmd.argc++] = s;
    va_end(ap);
    rc = redis_call(k->l, &op, route, again, &cmd, 1, &reply, err);
    if (rc != CM_OK)
        ck_assert_ptr_null(reply);
    else if (ret != NULL)
        *ret = reply;
    else
        freeReplyObject(reply);
    return rc;
}
