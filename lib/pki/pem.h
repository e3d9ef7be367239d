/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_PEM_H
#define CM_PKI_PEM_H

/* RFC 7468 blocks in text of explicit length: nothing here looks for a NUL. */

#include "base.h"

struct cm_pem_block {
    struct cm_span label; /* "CERTIFICATE" */
    struct cm_span body;  /* base64 and white space, perhaps RFC 1421 headers before it */
};

/* The next block; @in moves past it. Text outside blocks is skipped. Errors: CM_E_NOTFOUND when
 * there is none left, CM_E_PARSE for one that does not end. */
CM_MUST_CHECK cm_status cm_pem_next(struct cm_span *in, struct cm_pem_block *ret,
                                    struct cm_err *err);
/* Write the decoded body to @out, which holds at least cm_pem_bound(); false = not base64. */
bool cm_pem_decode(struct cm_span body, uint8_t *out, size_t *ret_len);
size_t cm_pem_bound(struct cm_span body);
/* 64 columns, LF. */
CM_MUST_CHECK cm_status cm_pem_encode(const char *label, struct cm_span der, struct cm_buf *out,
                                      struct cm_err *err);

#endif
