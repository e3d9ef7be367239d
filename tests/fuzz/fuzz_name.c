/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "fuzz.h"

#include <string.h>

/* Names and URLs on their way to a storage key, and into a message: a component is never one that
 * leads elsewhere, and nothing that a terminal would obey gets through. */

#define OUT_MAX (4u * 1024 * 1024)

static void check_component(const char *text)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(OUT_MAX);
    const char *made;

    if (cm_safe_name(text, &out, NULL) != CM_OK)
        return;
    fuzz_reached();
    made = cm_buf_str(&out);
    CM_ASSERT(made[0] != '\0' && strcmp(made, ".") != 0 && strcmp(made, "..") != 0);
    CM_ASSERT(strspn(made, "abcdefghijklmnopqrstuvwxyz0123456789_@.-") == out.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_AUTO_BUF struct cm_buf key = CM_BUF_INIT(OUT_MAX);
    char *text = cm_calloc(1, size + 1);
    char shown[100];

    CM_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    check_component(text);
    CM_ASSERT(cm_issuer_key_from_url(text, &key, NULL) == CM_OK);
    CM_ASSERT(key.len <= strlen(text) + 1);
    check_component(cm_buf_str(&key));

    (void)cm_escape(text, size, shown, sizeof shown);
    for (size_t i = 0; shown[i] != '\0'; i++)
        CM_ASSERT(shown[i] >= 0x20 && shown[i] < 0x7f);
    free(text);
    return 0;
}
