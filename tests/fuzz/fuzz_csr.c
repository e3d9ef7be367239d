/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"

#include <string.h>

/* A certificate request that somebody else made, PEM or DER. What is taken has names in normal
 * form, reads the same after a turn through PEM, and nothing of it depends on how it came. */

#define PEM_MAX (4u * CM_CERT_DER_MAX)

static void check_names(struct cm_span der)
{
    struct cm_err err = CM_ERR_INIT;
    char name[CM_NAME_BUF];
    char **names = NULL;
    size_t n = 0;
    cm_status rc = cm_csr_names(der, &names, &n, &err);

    CM_ASSERT(rc == CM_OK || rc == CM_E_INVAL || rc == CM_E_PARSE);
    CM_ASSERT(rc == CM_OK || (names == NULL && err.msg[0] != '\0'));
    if (rc != CM_OK)
        return;
    CM_ASSERT(n >= 1 && n <= 256);
    for (size_t i = 0; i < n; i++) {
        CM_ASSERT(
            cm_name_normalize(names[i],
                              CM_NAME_ALLOW_IP | CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_UNDERSCORE,
                              name, NULL) == CM_OK);
        CM_ASSERT(strcmp(name, names[i]) == 0);
    }
    cm_csr_names_free(names, n);
}

static void check_signature(struct cm_span der)
{
    uint8_t first[CM_SHA256_LEN], second[CM_SHA256_LEN];
    cm_status rc = cm_csr_verify(der, first, NULL);

    CM_ASSERT(rc == CM_OK || rc == CM_E_CERT || rc == CM_E_PARSE);
    if (rc != CM_OK)
        return;
    fuzz_reached();
    CM_ASSERT(cm_csr_verify(der, second, NULL) == CM_OK);
    CM_ASSERT(memcmp(first, second, sizeof first) == 0);
    (void)cm_csr_is_for(der, der); /* a request is no certificate, whatever it says */
}

static void check_turn(struct cm_span der)
{
    struct cm_buf pem = CM_BUF_INIT(PEM_MAX);
    struct cm_buf again = CM_BUF_INIT(PEM_MAX);
    cm_status rc = cm_csr_to_pem(der, &pem, NULL);

    CM_ASSERT(rc == CM_OK);
    CM_ASSERT(cm_csr_read(cm_buf_span(&pem), &again, NULL) == CM_OK);
    CM_ASSERT(again.len == der.len && memcmp(again.data, der.data, der.len) == 0);
    cm_buf_free(&pem);
    cm_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_buf der = CM_BUF_INIT(PEM_MAX);
    cm_status rc = cm_csr_read((struct cm_span){ data, size }, &der, &err);

    CM_ASSERT(rc == CM_OK || rc == CM_E_PARSE || rc == CM_E_LIMIT || rc == CM_E_CERT);
    CM_ASSERT(rc == CM_OK || err.msg[0] != '\0');
    if (rc == CM_OK) {
        check_names(cm_buf_span(&der));
        check_signature(cm_buf_span(&der));
        check_turn(cm_buf_span(&der));
    }
    cm_buf_free(&der);
    return 0;
}
