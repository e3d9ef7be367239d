/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"
#include "fuzz.h"

#include <string.h>

/* The metadata file of a certificate. What was read can be written, and reads the same again. */

static bool same_sans(const struct cm_meta *a, const struct cm_meta *b)
{
    if (a->n_sans != b->n_sans)
        return false;
    for (size_t i = 0; i < a->n_sans; i++)
        if (strcmp(a->sans[i], b->sans[i]) != 0)
            return false;
    return true;
}

static void check_again(const struct cm_meta *m)
{
    struct cm_buf out = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_meta again;

    CM_ASSERT(cm_meta_format((const char *const *)m->sans, m->n_sans, cm_buf_span(&m->issuer_data),
                             &out, NULL) == CM_OK);
    /* Indenting and escaping may make it longer than what is read. */
    if (out.len <= CM_META_MAX && cm_meta_parse(cm_buf_span(&out), &again, NULL) == CM_OK) {
        CM_ASSERT(same_sans(m, &again));
        CM_ASSERT(strcmp(m->ca, again.ca) == 0);
        CM_ASSERT(m->ari.window_start_ns == again.ari.window_start_ns);
        CM_ASSERT(m->ari.selected_ns == again.ari.selected_ns);
        CM_ASSERT(m->issuer_data.len == 0 ||
                  cm_equal_ct(cm_buf_span(&m->issuer_data), cm_buf_span(&again.issuer_data)));
        cm_meta_free(&again);
    } else {
        CM_ASSERT(out.len > CM_META_MAX);
    }
    cm_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_meta m;

    if (cm_meta_parse((struct cm_span){ data, size }, &m, NULL) != CM_OK)
        return 0;
    fuzz_reached();
    check_again(&m);
    cm_meta_free(&m);
    return 0;
}
