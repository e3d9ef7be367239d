/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FAKE_CA_H
#define CM_TESTS_FAKE_CA_H

/* A scripted CA, a client for it, and a clock that jumps instead of waiting. */

#include "acme_internal.h"
#include "run.h"
#include "scripted_http.h"

extern struct cm_err err;

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call)       ck_status(call, CM_OK)
#define ck_has(text, sub) ck_assert_msg(strstr(text, sub) != NULL, "no '%s' in '%s'", sub, text)

/* Real clocks plus what wait() has jumped over. */
struct jump_env {
    struct cm_env env;
    _Atomic int64_t jumped_ns;
    _Atomic unsigned waits;
    int64_t log_ns[32]; /* the first waits */
};
void jump_env_init(struct jump_env *j);
/* Let time pass. */
void jump_by(struct jump_env *j, int64_t ns);

struct fake_ca {
    struct scripted_http *sh;
    struct jump_env clock;
    struct cm_op op; /* on that clock, no deadline */
    struct cm_acme *acme;
    struct cm_key *key;
    struct cm_acme_signer who; /* kid {BASE}/acct/1 */
};
/* Directory, newNonce (which give nonces); the rest is the test's. */
void fake_ca_start(struct fake_ca *ca);
void fake_ca_stop(struct fake_ca *ca);
/* A client of the same CA with other options; the caller's to free. */
struct cm_acme *fake_ca_client(struct fake_ca *ca, const struct cm_acme_client_options *o);

extern const char fake_directory[];
extern const char fake_order_pending[]; /* for a.test */

int64_t real_ms(void);
void add_tests(Suite *s, const char *name, void (*setup)(void), void (*teardown)(void),
               const TTest *const *tests, size_t n);
#define ADD_TESTS(s, name, setup, teardown, list)                                                  \
    add_tests(s, name, setup, teardown, list, CM_ARRAY_LEN(list))

#endif
