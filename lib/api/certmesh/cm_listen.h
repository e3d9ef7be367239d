/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_LISTEN_H
#define CERTMESH_CM_LISTEN_H

/* Listening on sockets that somebody else has opened: systemd, or the program while it still had
 * the right to. And for names, in one call. Included by cm.h. */

#include <certmesh/cm_base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cm_config;
struct cm_config_options;
struct cm_listener;

/** What a socket is for. */
enum cm_socket_use { CM_SOCKET_TLS = 0, CM_SOCKET_HTTP = 1 };
#define CM_SOCKETS_MAX 8u /* for each use */

/** Listening sockets and what they are for, until cm_https() or cm_listen_on() takes them. Not for
 *  several threads at once. */
struct cm_sockets;
CM_API CM_MUST_CHECK cm_status cm_sockets_new(struct cm_sockets **ret, struct cm_err *err);
/** Closes those that nobody has taken. NULL is fine. */
CM_API void cm_sockets_free(struct cm_sockets *s);
/** Take @fd over: on CM_OK it is the set's, does not block any more and is closed on exec. Errors:
 *  CM_E_INVAL when it is no listening TCP socket, CM_E_LIMIT after CM_SOCKETS_MAX. */
CM_API CM_MUST_CHECK cm_status cm_sockets_add(struct cm_sockets *s, enum cm_socket_use use, int fd,
                                              struct cm_err *err);
/**
 * Take over what systemd has opened for this process: $LISTEN_PID, $LISTEN_FDS, $LISTEN_FDNAMES, as
 * sd_listen_fds(3) has them. One that is called "https" or "tls" (FileDescriptorName=) is for TLS,
 * one called "http" for HTTP; of any other the port decides: @tls_port (0 = 443) or @http_port (0 =
 * 80). Without these variables, or when they are meant for another process, there is nothing to
 * take, and that is CM_OK. Once in a process: the environment stays as it is.
 * Errors, none is taken then: CM_E_INVAL (variables that say nothing, a socket that is no listening
 * one of TCP, or of which nobody can know what it is for), CM_E_LIMIT.
 */
CM_API CM_MUST_CHECK cm_status cm_sockets_add_systemd(struct cm_sockets *s, uint16_t tls_port,
                                                      uint16_t http_port, struct cm_err *err);
CM_API size_t cm_sockets_count(const struct cm_sockets *s, enum cm_socket_use use);
/** The port of the first for that use; 0 without one. */
CM_API uint16_t cm_sockets_port(const struct cm_sockets *s, enum cm_socket_use use);

/** As cm_listen(), on the sockets for TLS in @s, which are the listener's on CM_OK. Errors:
 *  CM_E_INVAL without one. */
CM_API CM_MUST_CHECK cm_status cm_listen_on(struct cm_config *cfg, struct cm_sockets *s,
                                            struct cm_listener **ret, struct cm_err *err);

struct cm_listen_options {
    uint32_t size;
    const struct cm_config_options *config; /* borrowed for the call; NULL = ACME, default storage,
                                               agreed to the CA's terms */
    const char *host;                       /* NULL = the config's listen_host */
    uint16_t port;                          /* 0 = the config's TLS port */
    struct cm_sockets *sockets;             /* those for TLS are taken, instead; NULL = none */
};
#define CM_LISTEN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_listen_options)                                         \
    }
/**
 * A TLS listener for @names that needs no port 80. It has a config of its own, made from
 * opts->config, whose ACME issuer never uses http-01: nobody opens the plain port, and no order
 * fails for it. Other configs of the process are what they were. Issuers that opts->config brings
 * along stay as they were made.
 * Listens first; then the names are managed in the background: so accept, do the handshakes, and
 * the CA's are answered among them. @opts NULL: all defaults.
 * Errors: CM_E_INVAL without names, or when http-01 is the only challenge that was wanted; those of
 * cm_config_new() and cm_listen().
 */
CM_API CM_MUST_CHECK cm_status cm_listen_names(const char *const *names, size_t n,
                                               const struct cm_listen_options *opts,
                                               struct cm_listener **ret, struct cm_err *err);
/** What it serves from; borrowed. That of cm_listen_names() goes with its listener: its sessions
 *  must be gone before cm_listener_free(). */
CM_API struct cm_config *cm_listener_config(struct cm_listener *l);

#ifdef __cplusplus
}
#endif
#endif
