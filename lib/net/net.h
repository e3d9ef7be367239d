/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_NET_NET_H
#define CM_NET_NET_H

/* The door of lib/net, the only room that knows libcurl: one HTTPS request, its limits and its
 * deadline. */

#include "base.h"

/* One peer (a CA): connections are kept and shared by all requests, HTTP/2 where the peer has it;
 * requests of several threads run side by side. One thread of its own drives libcurl, started by
 * the first request. */
struct cm_http;

struct cm_http_options {
    const char *ca_file;        /* PEM bundle that replaces the system's trust (CAPATH off); NULL */
    const char *user_agent;     /* NULL = "certmesh/<version>" */
    const char *proxy;          /* URL; NULL = none (environment variables are not looked at) */
    const char *no_proxy;       /* hosts to ask without it, as curl has it; NULL = none */
    bool allow_plain_http;      /* tests only; else http:// is CM_E_POLICY */
    int64_t connect_timeout_ns; /* 0 = 10 s */
    int64_t total_timeout_ns;   /* 0 = 60 s; the op's deadline may be earlier */
    struct cm_log log;
};
/* A missing or unreadable @ca_file, or a @proxy that is none, is an error now, not a weaker mode
 * later. */
CM_MUST_CHECK cm_status cm_http_new(const struct cm_http_options *opts, struct cm_http **ret,
                                    struct cm_err *err);
/* Cancels what runs; NULL ok. No other thread may still be in a request. */
void cm_http_free(struct cm_http *h);

#define CM_HTTP_HEADERS_MAX (32u * 1024)
#define CM_HTTP_LINE_MAX    (8u * 1024)
#define CM_HTTP_LINES_MAX   100
#define CM_HTTP_URL_MAX     2048
#define CM_HTTP_REDIRECTS   3

struct cm_http_request {
    const char *method; /* "GET", "HEAD", "POST", "DELETE" */
    const char *url;
    const char *content_type;   /* POST */
    const char *accept;         /* NULL = none */
    struct cm_span body;        /* POST; sent with Content-Length */
    size_t max_body;            /* of the answer, bytes; mandatory */
    bool follow;                /* GET only: up to CM_HTTP_REDIRECTS, https only */
    const char *const *headers; /* more lines, "Name: value"; NULL, or ended by NULL. May hold
                                   secrets: no error shows them; not with @follow */
    bool refuse_local;          /* fail with CM_E_POLICY if the host resolves to a loopback or
                                   link-local address; always so after a redirect elsewhere.
                                    What a proxy resolves to is the proxy's to judge */
};

struct cm_http_response {
    int status;
    struct cm_buf body;    /* capped */
    struct cm_buf headers; /* raw lines of the final answer, LF separated, capped */
};
#define CM_HTTP_RESPONSE_INIT                                                                      \
    {                                                                                              \
        0, CM_BUF_INIT(0), CM_BUF_INIT(CM_HTTP_HEADERS_MAX)                                        \
    }
/**
 * Do one request. CM_OK for any complete HTTP answer, whatever its status.
 * Errors: CM_E_NET (connect, resolve, reset), CM_E_TLS (certificate), CM_E_TIMEOUT, CM_E_CANCELED,
 * CM_E_LIMIT (body, header line, count), CM_E_POLICY (scheme). The message names the URL.
 */
CM_MUST_CHECK cm_status cm_http_do(struct cm_http *h, const struct cm_op *op,
                                   const struct cm_http_request *req, struct cm_http_response *resp,
                                   struct cm_err *err);
void cm_http_response_free(struct cm_http_response *resp);
/* @index-th value of header @name (any case); false when there is none. Value trimmed, borrowed
 * as a span into resp->headers. */
bool cm_http_header(const struct cm_http_response *resp, const char *name, unsigned index,
                    struct cm_span *ret);
/* Target of the @index-th Link header entry with this rel (RFC 8288), as it stands in the header.
 * Several links per line are understood. */
bool cm_http_link(const struct cm_http_response *resp, const char *rel, unsigned index,
                  struct cm_buf *ret_url);
/* Same scheme, host and port? Case-insensitive, default ports known. */
bool cm_url_same_origin(const char *a, const char *b);
/* Make @ref absolute against @base (RFC 3986 5.2); refuses other schemes than http(s). */
CM_MUST_CHECK cm_status cm_url_resolve(const char *base, const char *ref, char *ret,
                                       size_t ret_size, struct cm_err *err);

#endif
