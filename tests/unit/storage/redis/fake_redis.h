/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_STORAGE_FAKE_REDIS_H
#define CM_TESTS_UNIT_STORAGE_FAKE_REDIS_H

/* A server on 127.0.0.1 that says what a test wants, and a link to it. */

#include "redis/link.h"

static inline int64_t now_ms(void)
{
    return cm_env_system()->mono_ns(cm_env_system()) / CM_NS_PER_MS;
}

struct fake_redis;

/* One connection, on a thread of its own; the function hangs up when it returns. */
struct fake_conn {
    struct fake_redis *server;
    int fd;
    unsigned number; /* 0: the first one */
    void *user;
    char words[4096]; /* the last command, with spaces between its words */
};
typedef void (*fake_serve_fn)(struct fake_conn *c);

struct fake_redis *fake_redis_start(fake_serve_fn serve, void *user);
void fake_redis_stop(struct fake_redis *f);
uint16_t fake_redis_port(const struct fake_redis *f);
unsigned fake_redis_connections(const struct fake_redis *f);

/* The next command into c->words; false when the client has hung up. */
bool fake_next(struct fake_conn *c);
/* The same, but CLIENT SETNAME, AUTH and SELECT are answered with OK and passed over. */
bool fake_next_call(struct fake_conn *c);
void fake_say(struct fake_conn *c, const char *text);
void fake_sayf(struct fake_conn *c, const char *fmt, ...) CM_PRINTF(2, 3);
void fake_send(struct fake_conn *c, const void *data, size_t len);
/* Until the client hangs up or the server is stopped. */
void fake_hold(struct fake_conn *c);

/* A link by URL, with "%u" for the port of @f (NULL: none). */
struct linked {
    struct redis_options o;
    struct redis_link *l;
};
void linked_open(struct linked *k, const struct fake_redis *f, const char *url);
void linked_close(struct linked *k);
/* One command of words; NULL ends. */
cm_status linked_call(struct linked *k, int64_t timeout_ms, bool again, const char *route,
                      redisReply **ret, struct cm_err *err, const char *first, ...)
    __attribute__((sentinel));

#endif
