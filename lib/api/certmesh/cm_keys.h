/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_KEYS_H
#define CERTMESH_CM_KEYS_H

/* Private keys that are somewhere else: in a PKCS#11 token (an HSM, a smart card, SoftHSM).
 *
 * Wherever certmesh reads a key as PEM, from storage, from a file or from the program, it may be
 * the URL of one in a token instead (RFC 7512), as the first line:
 *
 *     pkcs11:token=edge;object=www.example.com;type=private?pin-source=file:/etc/certmesh/pin
 *
 * and behind it the public half as PEM ("PUBLIC KEY"). Without that the token is asked for it at
 * once; with it, only who signs needs the token. pin-source is a file with the PIN that others
 * cannot read (chmod 0600); URLs that hold a PIN or name a module are refused. Modules are those
 * that p11-kit knows; they are loaded into the process when a token is needed first.
 *
 * A signature blocks its thread for as long as the token takes. The OpenSSL adapter does not serve
 * such keys. */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A key source for cm_config_options.key_source: keys of new certificates are made in the token at
 * @url ("pkcs11:token=NAME?pin-source=file:PATH"; no object), cannot be taken out of it, and are
 * stored as their URL. Keys that are not used any more stay in the token.
 * Ownership: cm_key_source_free(), after the configs that use it. The token is not asked before the
 * first key is made. What making one comes to: CM_E_IO (the token), CM_E_PERM (its PIN),
 * CM_E_UNSUPPORTED (the type of key). Errors: CM_E_INVAL for the URL.
 */
CM_API CM_MUST_CHECK cm_status cm_pkcs11_keys_new(const char *url, struct cm_key_source **ret,
                                                  struct cm_err *err);
CM_API void cm_key_source_free(struct cm_key_source *ks); /* NULL ok */

#ifdef __cplusplus
}
#endif
#endif
