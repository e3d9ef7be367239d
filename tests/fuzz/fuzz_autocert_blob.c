/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"
#include "fuzz.h"

#include <string.h>

/* A blob of an autocert cache, which any program may have written. What is taken is written in a
 * form that is taken again, and is the same then. */

#define HOST  "a.example.com"
#define NOW_S INT64_C(1798761600) /* 2027-01-01, when the corpus is valid */

static void check(const struct autocert_pair *p, enum autocert_kind kind)
{
    struct cm_buf blob = CM_BUF_SECRET(2 * CM_AUTOCERT_BLOB_MAX);
    struct autocert_pair again = AUTOCERT_PAIR_INIT;

    CM_ASSERT(p->not_after_s >= NOW_S);
    CM_ASSERT(autocert_blob_write(cm_buf_span(&p->key_pem), cm_buf_span(&p->chain_pem), &blob,
                                  NULL) == CM_OK);
    CM_ASSERT(autocert_blob_read(cm_buf_span(&blob), HOST, kind, NOW_S, &again, NULL) == CM_OK);
    CM_ASSERT(cm_equal_ct(cm_buf_span(&p->key_pem), cm_buf_span(&again.key_pem)));
    CM_ASSERT(cm_equal_ct(cm_buf_span(&p->chain_pem), cm_buf_span(&again.chain_pem)));
    autocert_pair_free(&again);
    cm_buf_free(&blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum autocert_kind kinds[] = { AUTOCERT_EC, AUTOCERT_OF_RSA, AUTOCERT_CHALLENGE };

    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++) {
        struct autocert_pair p = AUTOCERT_PAIR_INIT;

        if (autocert_blob_read((struct cm_span){ data, size }, HOST, kinds[i], NOW_S, &p, NULL) ==
            CM_OK) {
            fuzz_reached();
            check(&p, kinds[i]);
        }
        autocert_pair_free(&p);
    }
    return 0;
}
