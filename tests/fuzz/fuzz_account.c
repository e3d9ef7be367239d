/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "issuers.h"

#include <string.h>

/* A stored account, which peers write too, and the storage keys that an e-mail address leads to.
 * What was read can be written, and reads the same again. */

static bool same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void check_json(struct cm_span in)
{
    struct cm_buf out = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_acme_account acc = { 0 };
    struct cm_acme_account again = { 0 };
    size_t n = 0;

    if (acme_account_from_json(in, &acc, NULL) != CM_OK) {
        CM_ASSERT(acc.url == NULL && acc.contact == NULL && acc.orders == NULL);
        return;
    }
    fuzz_reached();
    CM_ASSERT(acc.status == CM_ACME_VALID || acc.status == CM_ACME_DEACTIVATED ||
              acc.status == CM_ACME_REVOKED || acc.status == CM_ACME_UNKNOWN);
    while (acc.contact != NULL && acc.contact[n] != NULL)
        n++;
    CM_ASSERT(n <= 16);
    if (acme_account_to_json(&acc, &out, NULL) == CM_OK) {
        CM_ASSERT(acme_account_from_json(cm_buf_span(&out), &again, NULL) == CM_OK);
        CM_ASSERT(again.status == acc.status && again.tos_agreed == acc.tos_agreed);
        CM_ASSERT(same(again.url, acc.url) && same(again.orders, acc.orders));
        for (size_t i = 0; i < n; i++)
            CM_ASSERT(strcmp(again.contact[i], acc.contact[i]) == 0);
        CM_ASSERT(n == 0 || again.contact[n] == NULL);
        cm_acme_account_free(&again);
    }
    cm_buf_free(&out);
    cm_acme_account_free(&acc);
}

static void check_paths(const uint8_t *data, size_t size)
{
    char *email = cm_strndup(size > 0 ? (const char *)data : "", size);
    struct acme_account_paths p;

    CM_ASSERT(email != NULL);
    if (acme_account_paths("acme/ca.test-dir", email, &p, NULL) == CM_OK) {
        CM_ASSERT(strncmp(p.json, "acme/ca.test-dir/users/", 23) == 0);
        CM_ASSERT(strncmp(p.key, "acme/ca.test-dir/users/", 23) == 0);
        CM_ASSERT(strncmp(p.pending, "certmesh/acme/ca.test-dir/", 26) == 0);
        CM_ASSERT(strcmp(p.json, p.key) != 0);
        CM_ASSERT(cm_storage_key_check(p.json, false, NULL) == CM_OK);
        CM_ASSERT(cm_storage_key_check(p.key, false, NULL) == CM_OK);
        CM_ASSERT(cm_storage_key_check(p.pending, false, NULL) == CM_OK);
        CM_ASSERT(strncmp(p.lock, "register_acme_account", 21) == 0);
    }
    free(email);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_json((struct cm_span){ data, size });
    check_paths(data, size);
    return 0;
}
