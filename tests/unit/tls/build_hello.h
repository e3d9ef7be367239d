/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_BUILD_HELLO_H
#define CM_TESTS_BUILD_HELLO_H

/* ClientHellos put together by hand, right and wrong. */

#include "base.h"

struct hello_parts {
    const char *ext; /* extensions, without their overall length */
    size_t ext_len;
    bool no_ext;      /* not even the length */
    const char *tail; /* behind everything, still inside the message */
    size_t tail_len;
};

/* A whole handshake message in @out; the suites are two ECDSA and one RSA, and a GREASE. */
void build_hello(const struct hello_parts *p, struct cm_buf *out);
/* The handshake message cut into records of @size bytes of payload. */
void build_records(struct cm_span msg, size_t size, struct cm_buf *out);
void put(struct cm_buf *b, const void *data, size_t len);
void put_u8(struct cm_buf *b, size_t v);
void put_u16(struct cm_buf *b, size_t v);
/* server_name extension with one host name */
void put_sni(struct cm_buf *b, const void *name, size_t len);
/* ALPN extension; NULL ends */
void put_alpn(struct cm_buf *b, const char *const *names);

#endif
