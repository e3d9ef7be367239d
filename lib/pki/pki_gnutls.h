/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_GNUTLS_H
#define CM_PKI_GNUTLS_H

/* The side door of lib/pki for lib/tls and the tls-alpn-01 solver: handles to serve with. And for
 * the one file of lib/core that takes GnuTLS objects. */

#include "pki.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

/* Fresh handle; caller deinits. */
CM_MUST_CHECK cm_status cm_key_to_gnutls(const struct cm_key *key, gnutls_privkey_t *ret,
                                         struct cm_err *err);
/* The same for handshakes: signs with another library where the process has one for keys of this
 * type (cm_signing_use() of cm_adapter.h). */
CM_MUST_CHECK cm_status cm_key_to_serve(const struct cm_key *key, gnutls_privkey_t *ret,
                                        struct cm_err *err);
/* From GnuTLS objects that an embedding program already has. Copies the key when it is exportable
 * (x509), else CM_E_UNSUPPORTED. */
CM_MUST_CHECK cm_status cm_key_from_gnutls(gnutls_privkey_t key, struct cm_key **ret,
                                           struct cm_err *err);
/* The same for a key that is exportable in any case. Leaves no copy of it in freed memory, where
 * GnuTLS lets that be. */
CM_MUST_CHECK cm_status cm_key_from_gnutls_x509(gnutls_x509_privkey_t key, struct cm_key **ret,
                                                struct cm_err *err);
/* Status for a GnuTLS return code, with its text. */
cm_status cm_fail_gnutls(struct cm_err *err, cm_status rc, int gnutls_rc, const char *what);

#endif
