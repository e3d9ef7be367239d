/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TLS_RECORD_H
#define CM_TLS_RECORD_H

/* The TLS record layer as far as the gate needs it: find the end of the ClientHello in the bytes
 * of a fresh connection. Pure; keeps its place, so that one byte per packet costs no more than
 * everything at once. */

#include "base.h"

enum cm_record_result {
    CM_RECORD_MORE = 0, /* not whole yet */
    CM_RECORD_HELLO,    /* a whole ClientHello; see cm_record_hello() */
    CM_RECORD_PASS,     /* something else: GnuTLS shall see it and say so */
    CM_RECORD_LIMIT     /* a ClientHello beyond our bounds */
};

struct cm_record_scan {
    size_t next;       /* offset of the first record header not looked at yet */
    size_t want;       /* header and body of the handshake message; 0 = not known yet */
    bool in_place;     /* the message lies whole in the first record */
    size_t rest;       /* bytes behind the message in the record that ends it */
    struct cm_buf msg; /* the message put together, when it spans records */
};

/* Zero is a valid start state; msg.max is set on first use. */
void cm_record_scan_free(struct cm_record_scan *s);
/* @raw is everything received since the start; it only grows. */
enum cm_record_result cm_record_scan(struct cm_record_scan *s, struct cm_span raw, size_t msg_max);
/* The ClientHello's body (no handshake header) after CM_RECORD_HELLO; borrowed from @raw or @s. */
struct cm_span cm_record_hello(const struct cm_record_scan *s, struct cm_span raw);
/**
 * What GnuTLS shall read instead of @raw: the same with the ClientHello in as few records as can
 * be. GnuTLS says GNUTLS_E_AGAIN after a record that holds less than a handshake header, as if the
 * socket were empty, and an event loop would then wait for bytes that have long arrived. Nothing
 * but the framing changes; the transcript is made of messages (RFC 8446 4.4.1).
 */
CM_MUST_CHECK cm_status cm_record_reframe(const struct cm_record_scan *s, struct cm_span raw,
                                          struct cm_buf *out, struct cm_err *err);

#endif
