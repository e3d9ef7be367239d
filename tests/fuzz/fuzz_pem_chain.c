/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"

#include <string.h>

/* A chain as a CA or a storage hands it in. What was read must come out the same again. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_chain chain = { .n = 0 };
    struct cm_chain again = { .n = 0 };
    struct cm_buf pem = CM_BUF_INIT(2 * CM_CHAIN_PEM_MAX);
    struct cm_err err;
    char cn[128];

    if (cm_chain_from_pem((struct cm_span){ data, size }, &chain, &err) != CM_OK)
        return 0;
    fuzz_reached();
    CM_ASSERT(chain.n >= 1 && chain.n <= CM_CHAIN_CERTS_MAX);
    CM_ASSERT(cm_chain_to_pem(&chain, &pem, &err) == CM_OK);
    if (pem.len <= CM_CHAIN_PEM_MAX) {
        CM_ASSERT(cm_chain_from_pem(cm_buf_span(&pem), &again, &err) == CM_OK);
        CM_ASSERT(again.n == chain.n);
        for (size_t i = 0; i < chain.n; i++)
            CM_ASSERT(cm_equal_ct(chain.der[i], again.der[i]));
    }
    if (cm_chain_top_issuer_cn(&chain, cn, sizeof cn, &err) == CM_OK)
        CM_ASSERT(strlen(cn) < sizeof cn);
    cm_chain_free(&again);
    cm_chain_free(&chain);
    cm_buf_free(&pem);
    return 0;
}
