/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"
#include "x509.h"

#include <string.h>

static void check_leaf(const struct cm_leaf *l)
{
    char normal[CM_NAME_BUF];

    CM_ASSERT(l->n_names <= CM_CERT_SANS_MAX);
    for (size_t i = 0; i < l->n_names; i++) {
        CM_ASSERT(
            cm_name_normalize(l->names[i],
                              CM_NAME_ALLOW_IP | CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_UNDERSCORE,
                              normal, NULL) == CM_OK);
        CM_ASSERT(strcmp(normal, l->names[i]) == 0);
    }
    CM_ASSERT(strlen(l->serial_hex) <= 2 * l->serial_len);
    CM_ASSERT(strlen(l->issuer_cn) < sizeof l->issuer_cn);
    CM_ASSERT(strlen(l->ocsp_url) < sizeof l->ocsp_url);
    CM_ASSERT(strlen(l->ari_id) < sizeof l->ari_id);
}

/* A certificate, read for its facts and judged as a chain of itself; also as a request. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_chain chain = { .der = { { data, size }, { data, size } }, .n = 1 + size % 2 };
    const char *name = "a.example";
    struct cm_leaf *leaf = NULL;
    struct cm_x509 csr;
    struct cm_err err;
    static struct cm_key *key;

    if (key == NULL)
        CM_ASSERT(cm_key_generate(CM_PK_P256, &key, &err) == CM_OK);
    if (cm_x509_parse_csr((struct cm_span){ data, size }, &csr, &err) == CM_OK)
        return 0;
    if (cm_leaf_parse((struct cm_span){ data, size }, &leaf, &err) != CM_OK)
        return 0;
    fuzz_reached();
    check_leaf(leaf);
    CM_ASSERT(cm_chain_accept(&chain, key, &name, 1, size % 3 == 0, leaf->not_before_s, 0, &err) !=
              CM_OK);
    cm_leaf_free(leaf);
    return 0;
}
