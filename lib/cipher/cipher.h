/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CIPHER_CIPHER_H
#define CM_CIPHER_CIPHER_H

/* The door of lib/cipher: the one place that encrypts what is kept, for all rooms that keep
 * something. It knows bytes, not what they are. Any thread may call at any time. */

#include "base.h"

#define CM_SEAL_KEY_LEN   32u
#define CM_SEAL_NONCE_LEN 12u
#define CM_SEAL_TAG_LEN   16u

/* AES-256-GCM: @plain, encrypted, and its tag are appended to @out, which is unchanged on failure;
 * @aad is only authenticated. No nonce may ever be used twice with one key; a random one does for
 * 2^32 values. No copy of @key stays behind. Errors: CM_E_INVAL (a key of another length),
 * CM_E_NOMEM, CM_E_LIMIT of @out, CM_E_INTERNAL. */
CM_MUST_CHECK cm_status cm_seal(struct cm_span key, const uint8_t nonce[CM_SEAL_NONCE_LEN],
                                struct cm_span aad, struct cm_span plain, struct cm_buf *out,
                                struct cm_err *err);
/* The inverse, with the same errors and two more. CM_E_PARSE: shorter than a tag. CM_E_KEY: another
 * key, nonce or @aad, or a byte that is not what it was; nothing of the plain text is left in @out
 * then. @out is as secret as its owner made it. */
CM_MUST_CHECK cm_status cm_unseal(struct cm_span key, const uint8_t nonce[CM_SEAL_NONCE_LEN],
                                  struct cm_span aad, struct cm_span sealed, struct cm_buf *out,
                                  struct cm_err *err);

#endif
