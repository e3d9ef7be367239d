/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TLS_SERVER_H
#define CM_TLS_SERVER_H

/* Private to lib/tls: the HTTP server behind cm_https().
 *
 * One thread, the one that called cm_https(), owns every socket: it accepts, does the handshakes
 * through the gate, reads request heads and writes replies, never waiting for a peer. Workers run
 * the handlers (and the look-up of http-01 answers, which may go to storage) and touch no socket:
 * a reply is bytes and perhaps a file, handed back with the connection. So a peer that stalls costs
 * a descriptor and a little memory until its deadline, and never a thread.
 *
 * A connection belongs to the loop, except in CONN_WORK: then to one worker. It comes back through
 * the queue `done`. */

#include "http1.h"
#include "tls.h"

#define SERVER_BODY_MAX  (64u * 1024)        /* request body that is read and thrown away */
#define SERVER_REPLY_MAX (64u * 1024 * 1024) /* body of cm_http_reply() */
#define SERVER_CHUNK     (32u * 1024)        /* of a file, at a time */
#define SERVER_IN_MAX    (CM_HTTP_HEAD_MAX + 4096u)
#define SERVER_STALL_NS  (30 * CM_NS_PER_S) /* a write without progress */
#define SERVER_LINGER_NS CM_NS_PER_S
#define SERVER_GRACE_NS  (3 * CM_NS_PER_S) /* replies under way when it is stopped */
#define SERVER_THREADS   64u

/* What a connection waits for. Every state has one time limit of its own, so the connections of a
 * state, in the order they came into it, are in the order of their deadlines: a list is a timer. */
enum conn_state {
    CONN_HANDSHAKE = 0,
    CONN_CHALLENGE, /* a handshake of a CA's validation */
    CONN_PENDING,   /* a handshake whose certificate is on its way */
    CONN_HEAD,      /* reading a request's head, or throwing its body away */
    CONN_IDLE,      /* between requests */
    CONN_WORK,      /* with a worker; no deadline */
    CONN_WRITE,
    CONN_LINGER, /* answered and shut down; the peer may still be sending */
    CONN_STATES
};

struct server;
struct conn;
struct crowd_addr; /* crowd.c: an address and its connections */

#define CROWD_SLOTS 1024u

enum watch_kind { WATCH_CONN, WATCH_LISTENER, WATCH_WAKE, WATCH_STOP };

/* What an epoll event points to. */
struct watch {
    enum watch_kind kind;
    bool tls;          /* of a listener */
    int fd;            /* of a listener */
    struct conn *conn; /* of a connection: its socket, or what its handshake waits for */
};

struct cm_http_exchange {
    struct conn *conn;
    char method[CM_HTTP_METHOD_MAX + 1];
    char host[CM_NAME_BUF];
    char *target;
    bool replied;
};

struct conn {
    struct server *server;
    struct conn *prev, *next; /* in the list of its state; the loop's alone */
    struct crowd_addr *crowd; /* of the peer's address, oldest first */
    struct conn *crowd_prev, *crowd_next;
    struct conn *aside; /* in done (under the lock), then in dead */
    enum conn_state state;
    int64_t deadline_ns;
    int fd;
    int pending_fd; /* what is watched instead of the socket; -1 = nothing */
    struct watch watch;
    gnutls_session_t session; /* NULL: plain, or nothing received yet */
    bool tls;
    bool dead;
    bool secured; /* the handshake is done */
    bool close_after;
    bool head_only; /* HEAD */
    int minor;
    struct cm_buf in;
    struct cm_http_scan scan;
    uint64_t skip; /* of the request's body, or while lingering: bytes still taken */
    struct cm_buf out;
    size_t out_at;
    int file; /* the rest of the body; -1 = none */
    uint64_t file_left;
    struct cm_http_exchange x;
    char peer[48];
};

struct conn_list {
    struct conn *first, *last;
};

struct server {
    struct cm_config *cfg;
    const struct cm_env *env;
    const struct cm_log *log;
    cm_http_handler handler;
    void *user;
    uint16_t redirect_port;
    int64_t limit_ns[CONN_STATES];
    int epoll;
    int wake; /* eventfd: `done` is not empty */
    struct watch wake_watch, stop_watch;
    struct watch listener[2 * CM_TLS_SOCKETS_MAX];
    size_t n_listeners;
    struct cm_tls_sockets tls_sockets, http_sockets;
    int64_t accept_again_ns; /* 0 = listening; else out of descriptors until then */
    struct conn_list list[CONN_STATES];
    size_t n_conns, max_conns;
    size_t max_per_address;
    bool together; /* one certificate for all names */
    struct crowd_addr *crowd[CROWD_SLOTS];
    uint64_t crowd_seed;
    size_t most_conns; /* since memory was given back */
    struct conn *dead; /* closed, freed when the round of events is over */
    struct cm_pool *pool;
    pthread_mutex_t lock; /* guards done, stopping */
    struct conn *done;
    bool stopping;
};

/* ---- conn.c: life and waiting ---- */
void conn_accept(struct server *s, int fd, bool tls);
void conn_close(struct conn *c);
/* Into @state, with a fresh deadline. */
void conn_enter(struct conn *c, enum conn_state state);
/* Wait for the socket (EPOLLIN, EPOLLOUT), once. */
void conn_arm(struct conn *c, uint32_t events);
/* Close the one that has stalled longest; false if there is none to give up. */
bool conn_evict(struct server *s);
/* Close what is past its deadline; ns until the next deadline, or @max. */
int64_t conn_expire(struct server *s, int64_t max);
/* Free what conn_close() has put aside. */
void conn_reap(struct server *s);

/* ---- crowd.c: how many one address has ---- */
/* Count @c in; makes room among the same address's, or says false. */
CM_MUST_CHECK bool crowd_enter(struct conn *c);
void crowd_leave(struct conn *c);

/* ---- conn_io.c ---- */
enum io_result { IO_OK, IO_WAIT, IO_END, IO_BAD };
/* Up to @size bytes; IO_WAIT has armed the connection. */
enum io_result conn_recv(struct conn *c, void *data, size_t size, size_t *ret_n);
enum io_result conn_send(struct conn *c, const void *data, size_t len, size_t *ret_n);
enum io_result conn_handshake(struct conn *c);
void conn_shutdown(struct conn *c);

/* ---- conn_run.c: what happens next ---- */
/* Go on until the connection waits, works or is closed. */
void conn_run(struct conn *c);
/* A worker gave it back. */
void conn_resume(struct conn *c);

/* ---- request.c ---- */
/* The first @head_len bytes of c->in are a head: take it in. Afterwards the connection works,
 * writes, or has c->skip bytes of body to get rid of before request_dispatch(). */
void request_start(struct conn *c, size_t head_len);
void request_dispatch(struct conn *c);

/* ---- reply.c ---- */
/* Status line and fields; @extra is further fields, each with CRLF. Starts a fresh c->out. */
CM_MUST_CHECK cm_status reply_head(struct conn *c, int status, const char *content_type,
                                   uint64_t length, const char *extra, struct cm_err *err);
/* A short text of our own into c->out. Never fails: without memory c->out stays empty, and the
 * connection is closed without an answer. */
void reply_status(struct conn *c, int status, const char *extra);

/* A request's target as a URL may carry it: what is no ASCII or no URL character is encoded. */
CM_MUST_CHECK cm_status reply_put_target(struct cm_buf *out, const char *target, size_t len);

/* ---- https.c ---- */
/* Tell the loop that @c is done. From workers. */
void server_hand_back(struct conn *c);
bool server_is_stopping(struct server *s);

#endif
