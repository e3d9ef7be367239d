/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"
#include "fuzz.h"

#include <string.h>

/* Directory, order, authorization and account of a CA: what is taken keeps the promises of
 * acme.h, what is refused leaves its output alone. */

static void check_directory(struct cm_span in)
{
    struct cm_acme_directory d = { 0 };
    struct cm_acme_directory zero = { 0 };

    if (cm__acme_parse_directory(in, &d, NULL) != CM_OK) {
        CM_ASSERT(memcmp(&d, &zero, sizeof d) == 0);
        return;
    }
    fuzz_reached();
    CM_ASSERT(cm__acme_is_url(d.new_nonce) && cm__acme_is_url(d.new_account));
    CM_ASSERT(cm__acme_is_url(d.new_order));
    CM_ASSERT(d.renewal_info == NULL || cm__acme_is_url(d.renewal_info));
    cm__acme_directory_clear(&d);
}

static void check_order(struct cm_span in, const char *const *names, size_t n)
{
    struct cm_acme_order o = { 0 };

    if (cm__acme_parse_order(in, names, n, &o, NULL) != CM_OK) {
        CM_ASSERT(o.authz == NULL && o.n_authz == 0 && o.finalize == NULL);
        return;
    }
    CM_ASSERT(o.n_authz <= CM_ACME_IDENTS_MAX);
    CM_ASSERT(o.certificate == NULL || o.status == CM_ACME_VALID);
    for (size_t i = 0; i < o.n_authz; i++)
        CM_ASSERT(cm__acme_is_url(o.authz[i]));
    cm_acme_order_free(&o);
}

static void check_authz(struct cm_span in)
{
    struct cm_acme_authz z = { 0 };
    char name[CM_NAME_BUF];

    if (cm__acme_parse_authz(in, &z, NULL) != CM_OK) {
        CM_ASSERT(z.challenges == NULL);
        return;
    }
    CM_ASSERT(z.n_challenges <= CM_ACME_CHALLENGES_MAX);
    /* The identifier is in its final form. */
    CM_ASSERT(cm_name_normalize(z.ident, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, name, NULL) ==
              CM_OK);
    CM_ASSERT(strcmp(name, z.ident) == 0 && cm_name_is_ip(name) == z.is_ip);
    for (size_t i = 0; i < z.n_challenges; i++) {
        const struct cm_acme_challenge *c = &z.challenges[i];

        CM_ASSERT(cm__acme_is_url(c->url));
        CM_ASSERT(c->token[0] == '\0' || cm_is_b64url(c->token, strlen(c->token)));
    }
    cm_acme_authz_free(&z);
}

static void check_account(struct cm_span in)
{
    struct cm_acme_account acc = { 0 };

    if (cm__acme_parse_account(in, &acc, NULL) != CM_OK) {
        CM_ASSERT(acc.contact == NULL && acc.orders == NULL);
        return;
    }
    cm_acme_account_free(&acc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "a.test", "*.a.test", "192.0.2.1" };
    const struct cm_span in = { data, size };

    check_directory(in);
    check_order(in, NULL, 0);
    check_order(in, names, CM_ARRAY_LEN(names));
    check_authz(in);
    check_account(in);
    return 0;
}
