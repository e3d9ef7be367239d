/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_SCRIPTED_HTTP_INTERNAL_H
#define CM_TESTS_SCRIPTED_HTTP_INTERNAL_H

/* Between scripted_http.c (sockets, answers, faults) and scripted_http_book.c (rules, what was
 * asked, nonces). */

#include "scripted_http.h"

#include "base.h"

#include <stdatomic.h>

#define SH_NONCE_BUF 40

struct rule {
    struct rule *next;
    char *method;
    char *path;
    struct sh_reply reply;
    sh_handler_fn fn;
    void *user;
    unsigned used;
};

struct record { /* one per method and path */
    struct record *next;
    char *method;
    char *path;
    char *last_body;
    char *last_header;
    unsigned count;
};

struct nonce {
    struct nonce *next;
    char text[SH_NONCE_BUF];
    bool used;
};

struct kept {
    struct kept *next;
    char *s;
};

struct conn;

struct scripted_http {
    char base[64];
    int listen_fd;
    int stop_fd; /* readable once we stop */
    pthread_t acceptor;
    atomic_bool stop;

    pthread_mutex_t lock; /* all below */
    struct rule *rules;
    struct rule *old_rules; /* cleared ones: answers may still be in use */
    struct record *records;
    struct nonce *nonces;
    struct kept *kept;
    struct conn *conns;
    unsigned n_conns;
    unsigned nonce_seq;
    unsigned reuses;
    unsigned unknown;
};

/* Nothing here uses the allocators and buffers of lib/base: a test may have told them to fail. */
struct sh_text {
    char *s; /* NUL-terminated; NULL while empty */
    size_t len;
};
void sh__text_add(struct sh_text *t, const char *data, size_t len);
void *sh__must(void *p);
char *sh__copy(const char *s, size_t len);
/* Count @req, look at its nonce, find its rule. @req->nonce has SH_NONCE_BUF bytes behind it. */
void sh__book(struct scripted_http *sh, struct sh_request *req, char *nonce, struct sh_reply *reply,
              sh_handler_fn *fn, void **user);
void sh__book_free(struct scripted_http *sh);

#endif
