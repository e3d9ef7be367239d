/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_ACME_PEBBLE_H
#define CM_TESTS_ACME_PEBBLE_H

/* What the cases of test_acme_pebble share: a client, an account, the way from order to chain. */

#include "acme.h"
#include "scripted_http.h"

#include <check.h>

extern struct cm_err err;
extern struct cm_acme *acme;

/* Was @rc the end of a row of refused nonces? */
bool gave_up(cm_status rc);

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        for (int ck_n = 0; ck_n < 3 && gave_up(ck_rc); ck_n++)                                     \
            ck_rc = (call);                                                                        \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call) ck_status(call, CM_OK)

/* Fails the test when it is not set. */
const char *env_of(const char *name);
void setup(void);
void teardown(void);
struct cm_op seconds(int s);

struct who {
    struct cm_key *key;
    struct cm_acme_account acc;
    struct cm_acme_signer signer;
};

void new_account(enum cm_pk type, struct who *w);
void drop(struct who *w);
void order_of(const struct who *w, const char *const *names, size_t n, struct cm_acme_order *o);
/* Accept the http-01 challenge of each authorization; @serve (NULL ok) is told what to answer. */
void accept_all(const struct who *w, const struct cm_acme_order *o, struct scripted_http *serve);
/* From order to chain; the certificate's key in @ret_key. */
void issue(const struct who *w, const char *const *names, size_t n, struct scripted_http *serve,
           struct cm_chain *chain, struct cm_key **ret_key, char ***alternates);

#endif
