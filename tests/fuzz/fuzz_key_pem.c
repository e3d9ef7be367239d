/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"

#include <string.h>

/* What was read is written in a form that reads as the same key. */
static void round_trip(struct cm_key *key)
{
    struct cm_buf pem = CM_BUF_SECRET(2 * CM_KEY_PEM_MAX);
    struct cm_buf der = CM_BUF_SECRET(2 * CM_KEY_PEM_MAX);
    struct cm_buf der2 = CM_BUF_SECRET(2 * CM_KEY_PEM_MAX);
    struct cm_key *again = NULL;
    struct cm_err err;

    CM_ASSERT(cm_key_to_pem(key, &pem, &err) == CM_OK);
    CM_ASSERT(cm_key_to_der(key, &der, &err) == CM_OK);
    if (pem.len <= CM_KEY_PEM_MAX) {
        CM_ASSERT(cm_key_from_pem(cm_buf_span(&pem), &again, &err) == CM_OK);
        CM_ASSERT(cm_key_to_der(again, &der2, &err) == CM_OK);
        CM_ASSERT(cm_equal_ct(cm_buf_span(&der), cm_buf_span(&der2)));
        cm_key_unref(again);
    }
    cm_buf_free(&pem);
    cm_buf_free(&der);
    cm_buf_free(&der2);
}

/* A key from storage or from a file of an operator: PEM, or DER if it begins like it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_span in = { data, size };
    struct cm_key *key = NULL;
    struct cm_err err;
    struct cm_buf jwk = CM_BUF_INIT(8192);

    cm_status rc = size > 0 && data[0] == 0x30 ? cm_key_from_der(in, &key, &err)
                                               : cm_key_from_pem(in, &key, &err);
    if (rc == CM_OK) {
        CM_ASSERT(cm_key_jws_alg(key) == NULL || cm_key_jwk(key, &jwk, &err) == CM_OK);
        fuzz_reached();
        round_trip(key);
    }
    cm_buf_free(&jwk);
    cm_key_unref(key);
    return 0;
}
