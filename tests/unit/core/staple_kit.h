/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_CORE_STAPLE_KIT_H
#define CM_TESTS_UNIT_CORE_STAPLE_KIT_H

/* A certificate with a responder that is a fetcher in the same process. */

#include "kit.h"
#include "ocsp_kit.h"
#include "staple.h"

enum answer {
    ANSWER_OCSP = 0, /* by want */
    ANSWER_GARBAGE,
    ANSWER_EMPTY,
    ANSWER_LATER,
    ANSWER_UNAUTHORIZED,
    ANSWER_500, /* with the right body */
    ANSWER_NET,
    ANSWER_TOO_LONG,
    ANSWER_CANNED /* the bytes of canned */
};

struct world;
struct responder {
    struct cm_fetcher base;
    struct world *w;
    enum answer mode;
    struct ok_response want; /* leaf, CA and time are filled in */
    struct cm_span cert;     /* for requests with GET; NULL = the line is dead */
    struct cm_span canned;
    _Atomic unsigned calls, gets;
    struct cm_buf last; /* what was answered */
    char last_url[256];
    char last_method[8];
};

struct world {
    struct kit k;
    struct cm_config *cfg;
    struct ok_ca ca;
    struct cm_key *key_of_cert;
    struct cm_cert *cert;
    char key[CM_KEY_BUF]; /* where the staple lies, by the chain in its usual form */
    struct responder responder;
    /* of the last tend() */
    int64_t again_s;
    struct cm_revocation revoked;
};

void world_start(struct world *w);
/* With other options than the usual; w->k.opts may be changed between the two. */
void world_init(struct world *w);
void world_go(struct world *w);
void world_stop(struct world *w);
/* Another node: same storage, CA, responder, and the same certificate loaded anew. */
void world_join(struct world *other, struct world *w);
void world_leave(struct world *other);
void world_pass(struct world *w, int64_t s);
int64_t now_s(struct world *w);
/* Another certificate. @chain: with the CA's. */
void world_replace_cert(struct world *w, const struct ok_cert *want, unsigned flags, bool chain);

cm_status tend(struct world *w, bool may_fetch);
void make_response(struct world *w, const struct ok_response *want, struct cm_buf *ret);
void put_span(struct world *w, const char *key, struct cm_span value);
void check_stapled(struct world *w, struct cm_span want);
void check_has_staple(struct world *w, bool want);
void check_stored(struct world *w, const char *key, struct cm_span want);

/* kit_run() with a fixture for each test. */
int kit_run_with(const char *unit, const TTest *const *tests, size_t n, SFun setup, SFun teardown);

#endif
