/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"
#include "fuzz.h"

#include <string.h>

/* Names to components of storage paths: nothing that comes out can leave its directory. */

static void check_component(const char *s)
{
    size_t len = strlen(s);

    CM_ASSERT(len > 0 && strcmp(s, ".") != 0 && strcmp(s, "..") != 0);
    for (size_t i = 0; i < len; i++)
        CM_ASSERT((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'z') ||
                  strchr("_@.-", s[i]) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = cm_calloc(1, size + 1);
    struct cm_buf safe = CM_BUF_INIT(10 * (size + 1));
    struct cm_subject *s = NULL;
    char path[CM_KEY_BUF];

    CM_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    if (cm_safe_name(text, &safe, NULL) == CM_OK)
        check_component(cm_buf_str(&safe));
    if (cm_path_token("acme/ca", text, path, NULL) == CM_OK)
        CM_ASSERT(strlen(path) < sizeof path && strstr(path, "/../") == NULL);
    if (cm_subject_parse(text, &s, NULL) == CM_OK) {
        fuzz_reached();
        check_component(s->dir);
        CM_ASSERT(s->n >= 1 && (s->n == 1 || strlen(s->dir) <= 230));
        for (size_t i = 1; i < s->n; i++)
            CM_ASSERT(strcmp(s->names[i - 1], s->names[i]) < 0);
        if (cm_path_cert("ca", s->dir, ".json", path, NULL) == CM_OK)
            CM_ASSERT(strncmp(path, "certificates/ca/", 16) == 0);
        cm_subject_free(s);
    }
    cm_buf_free(&safe);
    free(text);
    return 0;
}
