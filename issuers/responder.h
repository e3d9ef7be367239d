/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_RESPONDER_H
#define CM_ISSUERS_RESPONDER_H

/* Private to the responder: the port that is open while challenges are (responder.c), the thread
 * that owns its sockets (responder_loop.c), and one connection (responder_conn.c).
 *
 * The thread waits for no peer: one that stalls costs a descriptor and a little memory until its
 * deadline, and never keeps a CA from its answer. What may wait for storage goes elsewhere: an
 * http-01 answer to a worker, a tls-alpn-01 certificate to core, which gives a descriptor to poll.
 */

#include "issuers.h"

#define RESPONDER_HEAD_MAX     (8u * 1024)
#define RESPONDER_PEER_NS      (5 * CM_NS_PER_S) /* for a request's head, or a handshake */
#define RESPONDER_CHALLENGE_NS (2 * CM_NS_PER_S) /* for the rest of a validation's handshake */
#define RESPONDER_CONNS_MAX    1024u

struct cm_responder {
    const struct cm_issuer_host *host;
    enum cm_responder_kind kind;
    struct cm_cancel *stop; /* ends answers that take too long at the end */
    int epoll;              /* the thread's */
    int wake_fd;            /* eventfd that makes the thread look */

    pthread_mutex_t lock;  /* guards what follows; never held over storage */
    pthread_cond_t closed; /* the thread has given the port up */
    unsigned active;       /* challenges that want the port */
    int listen_fd;         /* -1: closed, or somebody else has the port */
    bool stopping;         /* the port is being closed */
    bool lingering;        /* close as soon as no other has a challenge open */
    bool quit;             /* drop the connections, too */
    int64_t linger_until_ns;
    bool running;  /* the thread looks at the above before it ends */
    bool joinable; /* it was started and not yet joined */
    pthread_t thread;
    char *prefix; /* where the tokens lie */

    struct cm_pool *pool;
    atomic_uint serving; /* connections accepted and not yet closed */
};

const struct cm_env *cm_responder_env(const struct cm_responder *r);
/* Is it time to close a port that lingers? May read storage. */
bool cm_responder_is_over(struct cm_responder *r);
/* The thread. @arg is the responder. */
void *cm_responder_run(void *arg);

/* ---- responder_conn.c: one connection, no waiting ---- */

struct cm_rconn {
    struct cm_rconn *prev, *next; /* oldest first */
    int fd;
    int wait_fd; /* watched now: the socket, or core's answer */
    int64_t deadline_ns;
    bool hurried;             /* known as a validation, with its own deadline */
    gnutls_session_t session; /* tls-alpn-01 */
    char *head;               /* http-01: the request so far */
    size_t len;
};

enum cm_rconn_next {
    CM_RCONN_CLOSE,
    CM_RCONN_READ,  /* wait for wait_fd to be readable */
    CM_RCONN_WRITE, /* ... writable */
    CM_RCONN_ANSWER /* a whole request: cm_rconn_answer() may wait for storage */
};
enum cm_rconn_next cm_rconn_step(struct cm_responder *r, struct cm_rconn *c);
void cm_rconn_answer(const struct cm_issuer_host *host, const struct cm_op *op, struct cm_rconn *c);
void cm_rconn_free(struct cm_rconn *c);

#endif
