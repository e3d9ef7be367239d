/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TLS_HTTP1_H
#define CM_TLS_HTTP1_H

/* The head of an HTTP/1.x request (RFC 9112). Pure, bounded, no allocation. Strict where leniency
 * lets two parsers disagree about where a request ends: CRLF only, no folding, one Host, one
 * Content-Length, never both framings. */

#include "base.h"

#define CM_HTTP_LINE_MAX    4096u /* request line, with its CRLF */
#define CM_HTTP_FIELDS_MAX  8192u /* all header fields, with the empty line */
#define CM_HTTP_FIELD_COUNT 100u
#define CM_HTTP_HEAD_MAX    (2u + CM_HTTP_LINE_MAX + CM_HTTP_FIELDS_MAX)
#define CM_HTTP_METHOD_MAX  16u

/* Where the end of the head is; keeps its place, zero is the start. */
struct cm_http_scan {
    size_t at;     /* looked at so far */
    size_t line;   /* start of the current line */
    size_t fields; /* start of the header fields; 0 = still in the request line */
};
/* 0: more bytes needed. 1: the head is the first *ret_len bytes. Else the status to answer with:
 * 400, 414 or 431. @in only grows. */
int cm_http_scan(struct cm_http_scan *s, struct cm_span in, size_t *ret_len);

struct cm_http_head {
    struct cm_span method;
    struct cm_span target; /* origin form: path and query; "*" only for OPTIONS */
    struct cm_span host;   /* without port; IPv6 with its brackets; empty = none was sent */
    int minor;             /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;
    bool expect_continue;
    bool chunked;
    uint64_t content_length; /* 0 if none */
};
/* Parse a whole head as cm_http_scan() delimited it. 0, or the status to answer with: 400, 405,
 * 417, 501 or 505. Spans point into @head. */
int cm_http_head_parse(struct cm_span head, struct cm_http_head *ret);

#endif
