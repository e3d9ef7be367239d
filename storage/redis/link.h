/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_REDIS_LINK_H
#define CM_STORAGE_REDIS_LINK_H

/* What the files of the link share: bytes and replies (link_sieve.c), sockets (link_dial.c,
 * link_resolve.c, link_tls.c), connections (link_conn.c, link_login.c), servers with their pools
 * (link_node.c), which server is meant (link_route.c, link_sentinel.c, link_cluster.c), all of
 * them (link_scan.c). */

#include "options.h"

#include <gnutls/gnutls.h>
#include <netdb.h>
#include <sys/types.h>

/* ---- replies: nothing reaches hiredis before it is known to be whole and small enough */

#define REDIS_BULK_MAX     (8u * 1024 * 1024)
#define REDIS_REPLY_MAX    (32u * 1024 * 1024)
#define REDIS_CALL_MAX     (64u * 1024 * 1024) /* all replies of one redis_call() */
#define REDIS_LINE_MAX     16384u
#define REDIS_ELEMENTS_MAX (1024u * 1024)
#define REDIS_DEPTH_MAX    6u

struct redis_sieve {
    size_t at; /* up to here it is well-formed */
    size_t elements;
    unsigned depth;
    size_t left[REDIS_DEPTH_MAX]; /* elements that each open array still wants */
};

/* Look at the bytes of one reply so far, from its first one on; all zero at first. CM_OK: whole,
 * *ret_len bytes long. CM_E_AGAIN: more is needed. Errors: CM_E_PARSE, CM_E_LIMIT. */
CM_MUST_CHECK cm_status redis_sieve_look(struct redis_sieve *s, struct cm_span in, size_t *ret_len,
                                         struct cm_err *err);
/* One whole reply, for freeReplyObject(). */
CM_MUST_CHECK cm_status redis_reply_read(struct cm_span whole, redisReply **ret,
                                         struct cm_err *err);

/* ---- sockets */

/* CM_E_NET with @e's text. */
cm_status redis_fail_net(struct cm_err *err, int e, const char *fmt, ...) CM_PRINTF(3, 4);
/* Until one of @events (or an error of the descriptor) is there. */
CM_MUST_CHECK cm_status redis_poll(int fd, short events, const struct cm_op *op,
                                   struct cm_err *err);
/* Caller: freeaddrinfo(). */
CM_MUST_CHECK cm_status redis_resolve(const char *host, uint16_t port, const struct cm_op *op,
                                      struct addrinfo **ret, struct cm_err *err);
CM_MUST_CHECK cm_status redis_dial(const struct redis_address *to, const struct cm_op *op,
                                   int *ret_fd, struct cm_err *err);

/* ---- TLS */

CM_MUST_CHECK cm_status redis_tls_new(const struct redis_options *o,
                                      gnutls_certificate_credentials_t *ret, struct cm_err *err);
/* Handshake over @fd, which stays the caller's. @name must outlive the session. */
CM_MUST_CHECK cm_status redis_tls_open(gnutls_certificate_credentials_t cred,
                                       const struct redis_options *o, int fd, const char *name,
                                       const struct cm_op *op, gnutls_session_t *ret,
                                       struct cm_err *err);
/* What is behind @rc of a record call. */
cm_status redis_tls_fail(gnutls_session_t tls, int rc, struct cm_err *err);

/* ---- connections */

struct redis_map;
struct redis_node;

struct redis_conn {
    struct redis_conn *next; /* of the idle ones */
    struct redis_node *node; /* a reference is held while in use; NULL: of no pool */
    uint64_t number;         /* of those that the link has opened for its pools, from 1 */
    uint64_t opened;         /* how many there were when it was last taken */
    char name[280];          /* "10.0.0.5:6379", for messages */
    int fd;
    gnutls_session_t tls; /* NULL: plain */
    struct cm_buf in;
    size_t in_at; /* replies before this are taken */
    struct redis_sieve sieve;
    int64_t idle_since; /* monotonic clock of the link */
};

/* How to introduce oneself. */
struct redis_login {
    const char *username, *password; /* NULL password: no AUTH */
    unsigned db;
    bool is_sentinel; /* for messages */
    bool want_master; /* refuse a replica: CM_E_AGAIN */
};

/* Connect, TLS, login. Errors: those of redis_call(); CM_E_AGAIN: cannot serve now. */
CM_MUST_CHECK cm_status redis_conn_open(struct redis_link *l, const struct redis_address *to,
                                        const struct redis_login *login, const struct cm_op *op,
                                        struct redis_conn **ret, struct cm_err *err);
void redis_conn_close(struct redis_conn *c);
/* Send @out, which asks for @n replies, and collect them. *ret_sent tells, on failure too, whether
 * the server may have seen any of it. Whatever fails, the connection is of no further use. */
CM_MUST_CHECK cm_status redis_conn_exchange(struct redis_conn *c, const struct cm_op *op,
                                            struct cm_span out, size_t n, redisReply **replies,
                                            bool *ret_sent, struct cm_err *err);
/* The next reply, without asking for one. */
CM_MUST_CHECK cm_status redis_conn_next(struct redis_conn *c, const struct cm_op *op,
                                        redisReply **ret, struct cm_err *err);
/* Nothing is outstanding, and the server has not hung up. */
bool redis_conn_is_quiet(struct redis_conn *c);
CM_MUST_CHECK cm_status redis_login(struct redis_conn *c, const struct redis_login *login,
                                    const struct cm_op *op, struct cm_err *err);

/* "10.0.0.5:6379", "[::1]:6379", "/run/redis.sock". */
void redis_address_name(const struct redis_address *a, char *out, size_t size);
/* Append a command in the protocol's form. CM_E_LIMIT past REDIS_CALL_MAX. */
CM_MUST_CHECK cm_status redis_put_command(struct cm_buf *out, const struct redis_command *cmd,
                                          struct cm_err *err);
/* The same from words; NULL ends. */
CM_MUST_CHECK cm_status redis_put_words(struct cm_buf *out, struct cm_err *err, const char *first,
                                        ...) __attribute__((sentinel));
/* A reply's text, escaped. */
const char *redis_shown(const redisReply *r, char *buf, size_t size);
bool redis_is_error(const redisReply *r, const char *code);
void redis_free_replies(redisReply **replies, size_t n);

/* ---- servers */

struct redis_node {
    struct redis_node *next;
    struct redis_address addr;
    char name[280];
    uint64_t number;         /* of all that the link has known, from 1 */
    unsigned refs;           /* of calls, and of what the link remembers; under the link's mutex */
    int turns_fd;            /* a semaphore: how many more connections may be in use */
    struct redis_conn *idle; /* the latest used first */
};

struct redis_link {
    const struct redis_options *o;
    const struct cm_env *env;
    struct cm_log log;
    pid_t pid; /* who made it: a forked child has no business with these sockets */
    gnutls_certificate_credentials_t cred;
    pthread_mutex_t mutex; /* never held over I/O */
    struct redis_node *nodes;
    uint64_t n_nodes, n_opened; /* that there ever were */
    struct redis_node *current; /* server or Sentinel's master; with a reference; or NULL */
    char told[280];             /* which one the log was told of last */
    size_t at; /* of addresses, or of nodes: the one to ask next, modulo how many there are */
    struct redis_map *map; /* of a cluster; NULL: not known */
    bool map_stale;        /* ask again, when map_at_ns is long enough ago */
    int64_t map_at_ns;
};

/* The node of this address, with a reference. */
CM_MUST_CHECK cm_status redis_node_get(struct redis_link *l, const struct redis_address *addr,
                                       struct redis_node **ret, struct cm_err *err);
void redis_node_put(struct redis_link *l, struct redis_node *node);
/* A connection to use alone, waiting for a free place in the pool. */
CM_MUST_CHECK cm_status redis_node_take(struct redis_link *l, struct redis_node *node,
                                        const struct cm_op *op, struct redis_conn **ret,
                                        struct cm_err *err);
/* Give back; @good: everything that was asked for has come. */
void redis_node_give(struct redis_link *l, struct redis_conn *c, bool good);
/* Close its idle connections. */
void redis_node_hush(struct redis_link *l, struct redis_node *node);

/* ---- which server */

struct redis_login redis_login_of(const struct redis_link *l);
/* The node that should serve @route, with a reference. */
CM_MUST_CHECK cm_status redis_route_find(struct redis_link *l, const struct cm_op *op,
                                         const char *route, struct redis_node **ret,
                                         struct cm_err *err);
/* @node did not serve: ask for another next time. */
void redis_route_failed(struct redis_link *l, struct redis_node *node);
/* Forget all servers. */
void redis_route_clear(struct redis_link *l);

/* What the sentinels say, beginning with number @from. Caller frees ret->host. */
CM_MUST_CHECK cm_status redis_sentinel_ask(struct redis_link *l, const struct cm_op *op,
                                           size_t from, struct redis_address *ret,
                                           struct cm_err *err);
/* The node that has the slot of @route (NULL: any), with a reference. */
CM_MUST_CHECK cm_status redis_cluster_find(struct redis_link *l, const struct cm_op *op,
                                           const char *route, struct redis_node **ret,
                                           struct cm_err *err);
/* The map is old; @all: and of no use any more. */
void redis_cluster_forget(struct redis_link *l, bool all);
/* Ask for the map now. All masters, each with a reference, in an array that is the caller's, and a
 * number that tells who has which slot. */
CM_MUST_CHECK cm_status redis_cluster_nodes(struct redis_link *l, const struct cm_op *op,
                                            struct redis_node ***ret, size_t *ret_n,
                                            uint64_t *ret_owners, struct cm_err *err);
/* The node that @text, "MOVED 3999 10.0.0.7:6381" from @from, points at, with a reference. */
CM_MUST_CHECK cm_status redis_cluster_redirect(struct redis_link *l, const struct redis_node *from,
                                               const char *text, struct redis_node **ret,
                                               struct cm_err *err);

CM_MUST_CHECK cm_status redis_check_owner(const struct redis_link *l, struct cm_err *err);

#endif
