/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_KEY_EXT_H
#define CM_PKI_KEY_EXT_H

/* Inside lib/pki: keys that somebody else than GnuTLS signs with, as GnuTLS has them. */

#include "key.h"

#include <certmesh/cm_keys.h>

#define CM_SIG_MAX 1024u /* RSA of 8192 bits */

/* One such key: the first thing, or any, in a struct of whoever signs. */
struct cm_ext {
    gnutls_pk_algorithm_t pk; /* set by cm__ext_handle() */
    unsigned bits;
    /* @input: as cm_signer_ops.sign() has it. From several threads at once. */
    cm_status (*give)(const struct cm_ext *e, enum cm_sign_alg alg, struct cm_span input,
                      struct cm_buf *ret);
    void (*drop)(struct cm_ext *e); /* free it */
    /* May it be asked for @alg? NULL: for all. */
    bool (*can)(const struct cm_ext *e, enum cm_sign_alg alg);
};
/* A handle that signs through @e, which is the handle's from now on; dropped when this fails. @key
 * says of which type it is. */
CM_MUST_CHECK cm_status cm__ext_handle(const struct cm_key *key, struct cm_ext *e,
                                       gnutls_privkey_t *ret, struct cm_err *err);
/* What to ask for, and what to hash with (GNUTLS_DIG_UNKNOWN: nothing); false: nobody is asked. */
bool cm__ext_scheme(gnutls_sign_algorithm_t sign, gnutls_pk_algorithm_t pk,
                    enum cm_sign_alg *ret_alg, gnutls_digest_algorithm_t *ret_hash);
/* The other way: how GnuTLS calls @alg. */
gnutls_sign_algorithm_t cm__ext_algo(enum cm_sign_alg alg);

#endif
