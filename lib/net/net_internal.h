/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_NET_NET_INTERNAL_H
#define CM_NET_NET_INTERNAL_H

/* Shared by http.c (what one request is) and multi.c (who drives it); nobody else. */

#include "net.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <sys/types.h>

#define CM_NET_IDLE_MAX 16 /* easy handles kept for reuse, about 6 kB each */

/* Where a transfer stands. Changed under cm_http.lock only. */
enum transfer_state {
    TRANSFER_IDLE,    /* owned by a caller that prepares it, or in the idle list */
    TRANSFER_QUEUED,  /* in the queue for the driving thread */
    TRANSFER_RUNNING, /* in the multi handle; only the driving thread touches it */
    TRANSFER_DONE     /* finished; the caller harvests it */
};

/* One request on its way. It owns everything libcurl may write to or read from, so that a caller
 * whose deadline passes can leave at once and the driving thread clears up behind it. */
struct transfer {
    struct transfer *next; /* in the idle list, the queue, or among the running */
    struct transfer *prev; /* among the running */
    CURL *easy;
    int done_fd; /* eventfd, readable once DONE */
    enum transfer_state state;
    bool abandoned; /* the caller has left */

    struct curl_slist *lines; /* request header lines */
    struct cm_buf post;
    size_t post_sent;
    char error_text[CURL_ERROR_SIZE];

    struct cm_buf body;
    struct cm_buf headers;
    size_t header_bytes; /* of the whole exchange, interim answers included */
    unsigned header_lines;
    bool header_ended;
    bool body_begun;
    bool refuse_local;
    uint16_t proxy_port;
    cm_status stop_rc; /* why a callback aborted; CM_OK = it did not */
    const char *stop_why;

    CURLcode result;
    long status;
};

struct cm_http {
    char *ca_file;
    char *user_agent;
    char *proxy;
    char *no_proxy;
    uint16_t proxy_port; /* 0 = no proxy */
    bool allow_plain_http;
    int64_t connect_timeout_ns;
    int64_t total_timeout_ns;
    struct cm_log log;
    pid_t pid; /* of the maker: its child after fork() has no driving thread */

    CURLM *multi; /* used by the driving thread alone */
    int wake_fd;  /* eventfd: makes the driving thread look */

    pthread_mutex_t lock; /* all below, and the states of all transfers */
    pthread_t thread;
    bool started;
    bool stop;
    struct transfer *queue_head;
    struct transfer *queue_tail;
    struct transfer *running;
    unsigned n_abandoned; /* of the running: to be taken out by the driving thread */
    struct transfer *idle;
    unsigned n_idle;
};

/* ---- address.c ---- */

/* An address through which a request would reach this host, or its cloud's metadata service? */
bool cm__net_is_local(const struct sockaddr *sa, socklen_t len);
/* Is it at this port? Never at 0. */
bool cm__net_has_port(const struct sockaddr *sa, socklen_t len, uint16_t port);

/* ---- url.c ---- */

/* The port of a proxy's URL, whose scheme may be left out (http). CM_E_INVAL for what is none; the
 * message does not show it, since a password may be in it. */
CM_MUST_CHECK cm_status cm__net_proxy_port(const char *url, uint16_t *ret, struct cm_err *err);

/* ---- multi.c ---- */

CM_MUST_CHECK cm_status cm__net_multi_init(struct cm_http *h, struct cm_err *err);
/* Join the thread, free what is left. */
void cm__net_multi_end(struct cm_http *h);
/* A transfer to prepare: reset, empty, owned by the caller until _run or _recycle. */
CM_MUST_CHECK cm_status cm__net_transfer_get(struct cm_http *h, struct transfer **ret,
                                             struct cm_err *err);
void cm__net_transfer_recycle(struct cm_http *h, struct transfer *t);
/* Hand over to the driving thread and wait until done, canceled or late. On CM_OK the transfer is
 * done and the caller's; otherwise it is no longer the caller's to touch. */
CM_MUST_CHECK cm_status cm__net_transfer_run(struct cm_http *h, const struct cm_op *op,
                                             struct transfer *t, struct cm_err *err);

#endif
