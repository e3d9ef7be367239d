/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TLS_DOOR_H
#define CM_TLS_DOOR_H

/* The door of lib/tls for lib/autocert, which chooses certificates in its own way. */

#include <certmesh/cm.h>

/* Instead of cm_get_certificate(), and may block: so only behind the hook door. CM_OK: *ret is a
 * reference; else err->tls_alert is the alert, or 0 for the usual one. */
typedef cm_status (*cm_tls_choose_fn)(void *user, const struct cm_hello *hello,
                                      struct cm_cert **ret, struct cm_err *err);
/* As cm_config_tls_setup_alpn() with its hook door; @user must outlive the session. */
CM_MUST_CHECK cm_status cm_tls_setup_choosing(struct cm_config *cfg, gnutls_session_t session,
                                              const char *const *alpn, cm_tls_choose_fn choose,
                                              void *user, struct cm_err *err);

/* As cm_accept(), without a session: a blocking descriptor, close-on-exec. */
CM_MUST_CHECK cm_status cm_listener_accept_fd(struct cm_listener *l, const struct cm_op *op,
                                              int *ret_fd, struct cm_err *err);

#endif
