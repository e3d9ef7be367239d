/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_DER_H
#define CM_PKI_DER_H

/* Reading and writing DER (X.690), as little of it as certificates and keys need. The reader never
 * copies, never looks past its span and accepts DER only: one-byte tags, definite lengths in their
 * shortest form. Everything it is given may come from an attacker. */

#include "base.h"

enum {
    CM_DER_BOOLEAN = 0x01,
    CM_DER_INTEGER = 0x02,
    CM_DER_BIT_STRING = 0x03,
    CM_DER_OCTET_STRING = 0x04,
    CM_DER_NULL = 0x05,
    CM_DER_OID = 0x06,
    CM_DER_UTF8 = 0x0c,
    CM_DER_PRINTABLE = 0x13,
    CM_DER_IA5 = 0x16,
    CM_DER_UTC_TIME = 0x17,
    CM_DER_GENERALIZED_TIME = 0x18,
    CM_DER_SEQUENCE = 0x30,
    CM_DER_SET = 0x31
};
/* Context-specific tags [n]. */
#define CM_DER_CTX(n)      ((uint8_t)(0x80 | (n)))
#define CM_DER_CTX_CONS(n) ((uint8_t)(0xa0 | (n)))

/* ---- reader: each call moves @in past what it took; false = malformed, @in then undefined ---- */

/* The next element. @ret_whole (NULL ok) is header and contents. */
bool cm_der_next(struct cm_span *in, uint8_t *ret_tag, struct cm_span *ret_content,
                 struct cm_span *ret_whole);
/* The next element, which must have @tag. @ret_whole may be NULL. */
bool cm_der_take_whole(struct cm_span *in, uint8_t tag, struct cm_span *ret,
                       struct cm_span *ret_whole);
bool cm_der_take(struct cm_span *in, uint8_t tag, struct cm_span *ret);
/* Is there a next element with @tag? Moves nothing. */
bool cm_der_is(const struct cm_span *in, uint8_t tag);
/* Skip the next element if it has @tag; false only when it is malformed. */
bool cm_der_skip_opt(struct cm_span *in, uint8_t tag);
/* An INTEGER that is not negative; @ret its magnitude without the sign byte (one zero byte for 0).
 */
bool cm_der_take_uint(struct cm_span *in, struct cm_span *ret);
/* An INTEGER in 0..65535. */
bool cm_der_take_small(struct cm_span *in, unsigned *ret);
/* A BIT STRING of whole bytes. */
bool cm_der_take_bits(struct cm_span *in, struct cm_span *ret);
/* UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 has them (seconds, 'Z'); s since 1970, any year
 * 0..9999. */
bool cm_der_take_time(struct cm_span *in, int64_t *ret);

bool cm_span_eq(struct cm_span a, struct cm_span b);
/* @lit is an array, not a pointer. */
#define CM_SPAN_OF(lit)    ((struct cm_span){ (const uint8_t *)(lit), sizeof(lit) })
#define CM_SPAN_IS(s, lit) cm_span_eq((s), CM_SPAN_OF(lit))

/* ---- writer: the first failure sticks, so that only the end needs a check ---- */

struct cm_derw {
    struct cm_buf *out;
    struct cm_err *err;
    cm_status rc;
};
#define CM_DERW_INIT(buf, errp)                                                                    \
    {                                                                                              \
        (buf), (errp), CM_OK                                                                       \
    }

/* Begin a constructed element (or the bytes of a string); close with the mark. */
size_t cm_derw_open(struct cm_derw *w, uint8_t tag);
void cm_derw_close(struct cm_derw *w, size_t mark);
void cm_derw_put(struct cm_derw *w, uint8_t tag, struct cm_span content);
/* Bytes that are already DER. */
void cm_derw_raw(struct cm_derw *w, struct cm_span der);
void cm_derw_byte(struct cm_derw *w, uint8_t byte);
/* INTEGER from a magnitude of any width: leading zeros dropped, sign byte added if needed. */
void cm_derw_uint(struct cm_derw *w, struct cm_span magnitude);
/* UTCTime until 2049, GeneralizedTime from 2050 and before 1950. */
void cm_derw_time(struct cm_derw *w, int64_t t);

#endif
