/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TLS_TLS_H
#define CM_TLS_TLS_H

/* Private to lib/tls: the GnuTLS adapter. What a session is to certmesh, and the pieces that the
 * two doors (docs: architecture, decision 5) are made of. */

#include "core.h"
#include "door.h"
#include "record.h"

#include <stdatomic.h>

#define CM_TLS_HELLO_MAX    (16u * 1024) /* bytes of a ClientHello handshake message's body */
#define CM_TLS_RAW_MAX      (64u * 1024) /* the same on the wire, with record headers */
#define CM_TLS_HS_NS        (10 * CM_NS_PER_S)
#define CM_TLS_CHALLENGE_NS (2 * CM_NS_PER_S)
#define CM_TLS_ALPN_MAX     8 /* GnuTLS keeps no more */

/* Alerts that certmesh sends by itself (RFC 8446 6.2). */
enum cm_tls_alert {
    CM_ALERT_UNEXPECTED_MESSAGE = 10,
    CM_ALERT_HANDSHAKE_FAILURE = 40,
    CM_ALERT_ILLEGAL_PARAMETER = 47,
    CM_ALERT_DECODE_ERROR = 50,
    CM_ALERT_INTERNAL_ERROR = 80,
    CM_ALERT_UNRECOGNIZED_NAME = 112
};

enum cm_gate_phase {
    CM_GATE_OFF = 0, /* the hook door: somebody else reads the socket */
    CM_GATE_COLLECT, /* the ClientHello is not whole yet */
    CM_GATE_PENDING, /* core's answer is on its way */
    CM_GATE_OPEN     /* replay what was collected, then pass through */
};

/**
 * What certmesh keeps with a GnuTLS session. Owned by the session: GnuTLS calls the destructor of
 * its extension data in gnutls_deinit(). Used by the one thread that uses the session.
 */
struct cm_tls_session {
    gnutls_session_t session;
    struct cm_config *cfg;
    struct cm_tls_session *map_next;
    cm_tls_choose_fn choose; /* NULL: core chooses */
    void *choose_user;

    /* The decision; taken once, whatever happens (HelloRetryRequest, a callback called again). */
    bool decided;
    bool refused;
    bool challenge; /* the hello was acme-tls/1 alone */
    bool hooked;    /* the ClientHello hook has seen the first hello */
    bool keyed;     /* tickets are switched on */
    struct cm_cert *cert;
    bool wants_staple; /* the client asked for one */
    struct cm_staple *staple;
    gnutls_ocsp_data_st ocsp; /* GnuTLS keeps a pointer to it */
    struct cm_pending *pending;
    int64_t pending_until_ns;
    cm_status refusal_rc;
    int refusal_alert;
    struct cm_err *refusal; /* the text; NULL if there was no memory for it */
    char server_name[256];
    char local_ip[64];

    /* The gate. */
    enum cm_gate_phase gate;
    int fd;
    int io_errno;    /* sticky */
    bool alert_sent; /* our own alert is out: whatever follows would be noise */
    int64_t deadline_ns;
    struct cm_buf raw; /* bytes as received, until they are replayed */
    size_t raw_used;
    struct cm_record_scan scan;
};

/* ---- session.c ---- */
/* Make the state of @session and tie it to it. CM_E_STATE when it was set up before. */
CM_MUST_CHECK cm_status cm_tls_session_new(gnutls_session_t session, struct cm_config *cfg, int fd,
                                           struct cm_tls_session **ret, struct cm_err *err);
/* NULL for a session that was not set up here. */
struct cm_tls_session *cm_tls_session_of(gnutls_session_t session);

/* ---- decide.c ---- */
/* Parse @body (a ClientHello without its handshake header) and ask core. Afterwards the session is
 * decided, or pending. Idempotent. */
void cm_tls_decide(struct cm_tls_session *st, struct cm_span body);
/* Take the answer if it has come; true when decided. */
bool cm_tls_poll(struct cm_tls_session *st);
/* Block until decided. */
void cm_tls_await(struct cm_tls_session *st);
/* @why NULL: only status and alert are kept. */
void cm_tls_refuse(struct cm_tls_session *st, cm_status rc, int alert, const struct cm_err *why);
/* After all, when what was chosen cannot be served: a key that is not at hand. */
void cm_tls_give_up(struct cm_tls_session *st, cm_status rc, const struct cm_err *why);
/* The error code of GnuTLS that makes gnutls_alert_send_appropriate() send @alert. */
int cm_tls_alert_to_gnutls(int alert);

/* ---- hello.c ---- */
/* Unlike elsewhere @ret is written on failure too, as far as @body could be read: it is large, and
 * the callers throw it away. */
CM_MUST_CHECK cm_status cm_tls_hello_parse_body(struct cm_span body, struct cm_hello *ret,
                                                struct cm_err *err);
/* The first bytes of the tickets that the hello offers, TLS 1.3's (identities of pre-shared keys)
 * and TLS 1.2's: GnuTLS names the key there. At most @max; what is no ticket or malformed is left
 * out. */
#define CM_TLS_TICKET_NAME 16u
size_t cm_tls_hello_tickets(struct cm_span body, uint8_t ret[][CM_TLS_TICKET_NAME], size_t max);

/* ---- hook.c ---- */
int cm_tls_hook(gnutls_session_t session, unsigned int htype, unsigned when, unsigned int incoming,
                const gnutls_datum_t *msg);

/* ---- gate.c ---- */
/* Put our transport under the session. */
void cm_tls_gate_install(struct cm_tls_session *st);

/* ---- retrieve.c ---- */
/* Make what is chosen into what GnuTLS serves, or refuse: its key may be elsewhere, and away. */
void cm_tls_make_ready(struct cm_tls_session *st, struct cm_span body);
/* Credentials shared by all sessions: everything that differs stands with the session. */
CM_MUST_CHECK cm_status cm_tls_credentials(gnutls_certificate_credentials_t *ret,
                                           struct cm_err *err);

/* ---- priority.c ---- */
CM_MUST_CHECK cm_status cm_tls_set_priority(gnutls_session_t session, const char *text,
                                            struct cm_err *err);

/* ---- tickets.c ---- */
/* Switch tickets on with a key that only sessions for the same name share: of the config's keys the
 * one that a ticket in the ClientHello @body is for, else the newest. */
CM_MUST_CHECK cm_status cm_tls_tickets_enable(struct cm_tls_session *st, struct cm_span body,
                                              struct cm_err *err);

/* ---- listener.c ---- */
/* The listener frees @cfg at its end. */
void cm_listener_own(struct cm_listener *l, struct cm_config *cfg);
#define CM_TLS_SOCKETS_MAX 8
struct cm_tls_sockets {
    int fd[CM_TLS_SOCKETS_MAX];
    size_t n;
    uint16_t port;
};
/* Listening, non-blocking sockets on host:port: every address of @host, or all of the machine. */
CM_MUST_CHECK cm_status cm_tls_sockets_open(const char *host, uint16_t port,
                                            struct cm_tls_sockets *ret, struct cm_err *err);
void cm_tls_sockets_close(struct cm_tls_sockets *s);
uint16_t cm_tls_sockets_port_of(int fd);
/* One connection, close-on-exec and TCP_NODELAY; -1 with errno. */
int cm_tls_sockets_accept(int fd, bool nonblocking);
/* Is @sys_errno of accept() one that says "no resources", to be waited out? */
bool cm_tls_accept_is_exhaustion(int sys_errno);

/* ---- given.c: sockets that somebody else has opened ---- */
struct cm_sockets {
    struct cm_tls_sockets of[2]; /* by enum cm_socket_use */
};
/* The set has none of them afterwards. */
void cm_tls_sockets_move(struct cm_sockets *s, enum cm_socket_use use, struct cm_tls_sockets *ret);
/* The variables of systemd, NULL = not there, and the descriptor that is the first. */
struct cm_sockets_env {
    const char *pid, *fds, *names;
    int first;
    uint16_t tls_port, http_port;
};
CM_MUST_CHECK cm_status cm_tls_sockets_given(struct cm_sockets *s, const struct cm_sockets_env *env,
                                             struct cm_err *err);

#endif
