/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_REDIS_H
#define CM_STORAGE_REDIS_H

/* Inside the Redis backend there are two halves. The link (redis_url.c, redis_param.c, link*.c:
 * URL, TLS, connections, pool, sentinels, cluster) sends commands and brings back replies, whatever
 * stands between here and the server. The data half (redis_*.c: values as the peers write them,
 * directory index, locks, commits) says what to send. This header is the border. */

#include "storage.h"

#include <hiredis/hiredis.h>

/* What a URL says. Strings are owned; secrets are wiped by redis_options_clear(). */
struct redis_address {
    char *host; /* NULL: a unix socket, then port 0 and path set */
    char *path;
    uint16_t port;
};

enum redis_topology { REDIS_SINGLE, REDIS_SENTINEL, REDIS_CLUSTER };

struct redis_options {
    enum redis_topology topology;
    struct redis_address *addresses; /* of servers, sentinels, or seeds of the cluster */
    size_t n_addresses;
    char *master; /* Sentinel's name of the group */
    unsigned db;
    char *username, *password;
    char *sentinel_username, *sentinel_password;
    bool tls;
    bool tls_insecure; /* has to be asked for; is warned of */
    char *tls_ca_file, *tls_cert_file, *tls_key_file, *tls_server_name;
    char *prefix;         /* "caddy"; cleaned; may be empty */
    char *encryption_key; /* the peers' encryption_key: exactly 32 bytes and a NUL; NULL = none */
    int compression;      /* of what is written: 0 none, 1 raw deflate, 2 zlib */
    unsigned pool_max;    /* connections per server */
    int64_t timeout_ns;   /* of connecting, and of one command whose op has no nearer deadline */
    char *shown;          /* the URL without secrets, for describe() and messages */
};

/* The whole URL, scheme and all:
 *   redis[s]://[user[:password]@]host[:port][,host...][/db]    several: whichever is the master
 *   redis+unix:///path, unix:///path                            [?db=n]
 *   redis[s]+sentinel://sentinel[:port][,...]/master[/db]
 *   redis[s]+cluster://seed[:port][,...]
 * and parameters, see redis_param.c. Files and variables that it names are read now. Messages name
 * the parameter, never the URL or what stands where a password may be.
 * Errors: CM_E_INVAL; of a file with a secret CM_E_NOTFOUND, CM_E_PERM, CM_E_IO. */
CM_MUST_CHECK cm_status redis_options_parse(const char *url, struct redis_options *ret,
                                            struct cm_err *err);
/* A cleared or all-zero one is fine. */
void redis_options_clear(struct redis_options *o);

/* ------------------------------------------------------------------- link */

struct redis_link;

/* One command. Arguments are binary-safe and borrowed. */
struct redis_command {
    size_t argc;
    const char *const *argv;
    const size_t *argv_len;
};

/* Opens nothing yet: the first call connects. Takes nothing over; @o must outlive the link. */
CM_MUST_CHECK cm_status redis_link_new(const struct redis_options *o, const struct cm_env *env,
                                       const struct cm_log *log, struct redis_link **ret,
                                       struct cm_err *err);
void redis_link_free(struct redis_link *l);

/* Send @n commands as one pipeline on one connection and collect their replies in order; each
 * reply is the caller's (freeReplyObject). @route is the key whose node of a cluster is meant,
 * NULL: any. An error reply (REDIS_REPLY_ERROR) is a reply, except those that say that this server
 * cannot answer now or is the wrong one (MOVED, ASK, READONLY, LOADING, MASTERDOWN, CLUSTERDOWN,
 * TRYAGAIN, and BUSY: a script that does not end): these are followed or waited out within @op
 * (half a minute if it has no deadline). So a script must not answer with an error of these names.
 * NOAUTH, WRONGPASS and NOPERM of the connection itself: CM_E_PERM.
 * @again: the commands may be sent a second time when the connection breaks after they were sent
 * (the server may have carried them out). Without it, that is CM_E_NET, and the outcome unknown.
 * Errors: CM_E_NET, CM_E_TLS, CM_E_TIMEOUT, CM_E_CANCELED, CM_E_PERM, CM_E_PARSE for
 * what is no Redis protocol, CM_E_LIMIT (commands or replies of 64 MiB, a string of 8 MiB, 2^20
 * elements), CM_E_STATE in a forked child. A connection on which anything went wrong is closed,
 * never reused. On failure no reply is handed out. */
CM_MUST_CHECK cm_status redis_call(struct redis_link *l, const struct cm_op *op, const char *route,
                                   bool again, const struct redis_command *commands, size_t n,
                                   redisReply **replies, struct cm_err *err);

/* Which server has answered; all zero at first. What some commands hand out, as the cursor of a
 * scan, means something to the process alone that made it. @changed: this call may have been
 * answered by another process than the first one was. It stays false for the calls of one that
 * lives on, unless new connections had to be opened meanwhile. */
struct redis_whence {
    uint64_t node;
    uint64_t opened; /* connections that there were; a later one may lead to a successor */
    bool changed;
};
/* redis_call() that tells whence the replies came. */
CM_MUST_CHECK cm_status redis_call_whence(struct redis_link *l, const struct cm_op *op,
                                          const char *route, bool again,
                                          const struct redis_command *commands, size_t n,
                                          redisReply **replies, struct redis_whence *whence,
                                          struct cm_err *err);

/* A page of names, an array of strings; borrowed. Anything but CM_OK ends the scan and becomes its
 * result. */
typedef cm_status (*redis_scan_fn)(void *user, const redisReply *names, struct cm_err *err);
/* All names that fit the glob @match, of every master of a cluster, a page at a time. A name that
 * is there all the while comes at least once; when servers fail or slots move it begins anew, and
 * names come again. Errors: those of redis_call(). */
CM_MUST_CHECK cm_status redis_scan(struct redis_link *l, const struct cm_op *op, const char *match,
                                   redis_scan_fn each, void *user, struct cm_err *err);

/* A Lua script; sent by its SHA-1, by text when the server does not know it. */
struct redis_script {
    const char *text;
    char sha1[41]; /* filled in on first use */
};

/* True if a pipeline must not mix keys of several slots (a cluster). */
bool redis_link_is_cluster(const struct redis_link *l);
/* The slot of @key, 0..16383 (CRC16 of its hash tag). */
unsigned redis_slot(const char *key, size_t len);

/* A subscription on a connection of its own, kept up by a thread. @on_message runs on that thread;
 * @on_gap after every (re)connection (@over), and when there is none. Both brief. */
struct redis_feed;
CM_MUST_CHECK cm_status redis_feed_new(struct redis_link *l, const char *channel,
                                       void (*on_message)(void *user, struct cm_span message),
                                       void (*on_gap)(void *user, bool over), void *user,
                                       struct redis_feed **ret, struct cm_err *err);
/* Returns within a second; no callback runs afterwards. NULL is fine. */
void redis_feed_free(struct redis_feed *f);

#endif
