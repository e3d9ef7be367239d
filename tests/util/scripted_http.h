/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_SCRIPTED_HTTP_H
#define CM_TESTS_SCRIPTED_HTTP_H

/* A plain-HTTP server inside the test that answers by script and misbehaves on request: a CA (or
 * any other peer) in a hostile mood. One thread per connection. Aborts the test when it cannot
 * work itself. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scripted_http;

enum sh_fault {
    SH_NONE,
    SH_STALL,           /* take the request, never answer */
    SH_CLOSE,           /* take the request, close */
    SH_RESET,           /* the same with RST */
    SH_GARBAGE,         /* the body instead of an answer: raw bytes, then close */
    SH_CUT_HEADERS,     /* half of the header, close */
    SH_CUT_BODY,        /* Content-Length of the whole, half of the body, close */
    SH_SHORT_LENGTH,    /* Content-Length is one less than the body */
    SH_SLOW_HEADERS,    /* one byte per delay_ms */
    SH_SLOW_BODY,       /* one byte per delay_ms */
    SH_ENDLESS_BODY,    /* chunks for ever */
    SH_ENDLESS_HEADERS, /* header lines for ever */
    SH_ENDLESS_INTERIM  /* "103 Early Hints" for ever */
};

struct sh_reply {
    int status;          /* 0 = 200 */
    const char *headers; /* "A: b\r\nC: d\r\n" or NULL; {BASE}, {NONCE} are replaced */
    const char *body;    /* NULL = empty; {BASE}, {NONCE} are replaced */
    size_t body_len;     /* 0 = strlen(body); else no replacements */
    bool chunked;        /* instead of Content-Length */
    bool no_nonce;       /* leave out the Replay-Nonce that every answer has */
    enum sh_fault fault;
    int delay_ms;   /* before the answer; for the slow faults: per byte */
    unsigned times; /* valid for this many requests; 0 = for ever */
};

struct sh_request {
    const char *method;
    const char *path;
    const char *header; /* request line and header lines, raw */
    const char *body;
    size_t body_len;
    const char *nonce; /* of the JWS in the body; "" = none */
    unsigned seq;      /* 0, 1, ...: the how many-eth with this method and path */
};

/* Fills in @reply; the strings must live until the next call for the same connection: static, or
 * made by sh_keep(). Called from several threads. */
typedef void (*sh_handler_fn)(void *user, struct scripted_http *sh, const struct sh_request *req,
                              struct sh_reply *reply);

/* @port 0 = any free one of 127.0.0.1. */
struct scripted_http *sh_start(unsigned port);
void sh_stop(struct scripted_http *sh); /* NULL ok */
/* "http://127.0.0.1:12345", no slash at the end. */
const char *sh_base(const struct scripted_http *sh);
/* @path appended to the base; lives as long as the server. */
const char *sh_url(struct scripted_http *sh, const char *path);
/* A copy that lives as long as the server; takes ownership of @s (malloc'd). */
const char *sh_keep(struct scripted_http *sh, char *s);

/* Rules are tried in the order they were added; spent ones are passed over. @method "*" is any;
 * a @path that ends in '*' is a prefix. No rule: 404. */
void sh_on(struct scripted_http *sh, const char *method, const char *path,
           const struct sh_reply *reply);
void sh_handle(struct scripted_http *sh, const char *method, const char *path, sh_handler_fn fn,
               void *user);
/* Forget all rules (not what was counted). */
void sh_clear(struct scripted_http *sh);

/* How many requests came; NULL = any. */
unsigned sh_count(struct scripted_http *sh, const char *method, const char *path);
/* Body of the last request to @path as a copy that lives as long as the server; "" if none. */
const char *sh_last_body(struct scripted_http *sh, const char *path);
const char *sh_last_header(struct scripted_http *sh, const char *path);
/* JWS requests whose nonce had been used before, or had not been given out by this server. */
unsigned sh_nonce_reuses(struct scripted_http *sh);
unsigned sh_nonce_unknown(struct scripted_http *sh);
/* A nonce that counts as given out. */
void sh_nonce_make(struct scripted_http *sh, char out[40]);
unsigned sh_connections(struct scripted_http *sh);

#endif
