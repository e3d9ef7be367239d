/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_CORE_KIT_CRL_H
#define CM_TESTS_UNIT_CORE_KIT_CRL_H

/* What the tests of revocation lists stand on: a CA that publishes them, and its web server, in
 * this process. */

#include "../pki/mkcrl.h"
#include "kit.h"
#include "life/crl_private.h"

#define DAY INT64_C(86400)
#define URL "http://crl.example/7.crl"

struct fake_web {
    struct cm_fetcher base;
    struct cm_buf body;
    int status;
    cm_status rc;
    _Atomic unsigned fetches;
    _Atomic bool hold;
    char last[CM_CRL_URL_BUF]; /* method and URL */
    size_t last_max;
};
extern struct fake_web web;
extern struct kit k;
extern struct mk_ca ca;

/* A config whose fetcher is the web, where an empty list lies. */
void crl_begin(void);
void crl_end(void);
int64_t now_s(void);
void pass_s(int64_t s);
/* Put a list there, issued now and good for @life_s. */
void publish(const struct mk_ca *by, const struct mk_crl_entry *entries, size_t n, int64_t life_s);
struct cm_cert *cert_of(uint64_t serial, const char *crl_url, const char *ocsp_url);
/* cm_crl_tend() with @rv cleared before. */
cm_status tend_by(struct cm_config *cfg, const struct cm_cert *cert, bool may_fetch, int64_t *again,
                  struct cm_revocation *rv, struct cm_err *err);
/* What the list of ca at URL is called in storage. */
void stored_as(char ret[CM_CRL_ID_TEXT]);

#endif
