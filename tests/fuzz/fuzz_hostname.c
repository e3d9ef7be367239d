/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "pki.h"

#include <string.h>

static void check_normal(const char *name, unsigned flags)
{
    char again[CM_NAME_BUF];
    struct cm_err err;

    CM_ASSERT(strlen(name) >= 1 && strlen(name) <= CM_NAME_MAX);
    for (const char *p = name; *p != '\0'; p++)
        CM_ASSERT((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') ||
                  strchr("-.:*_", *p) != NULL);
    CM_ASSERT(cm_name_normalize(name, flags, again, &err) == CM_OK);
    CM_ASSERT(strcmp(name, again) == 0);
    CM_ASSERT(cm_name_covers(name, name));
    (void)cm_name_is_internal(name);
    (void)cm_name_is_public(name);
    if (cm_name_from_arpa(name, again)) {
        char back[CM_NAME_BUF];
        CM_ASSERT(cm_name_is_ip(again));
        CM_ASSERT(cm_name_reverse_arpa(again, back, &err) == CM_OK);
        CM_ASSERT(strcmp(back, name) == 0);
    }
    if (cm_name_is_ip(name)) {
        char arpa[CM_NAME_BUF];
        CM_ASSERT((flags & CM_NAME_ALLOW_IP) != 0);
        CM_ASSERT(cm_name_reverse_arpa(name, arpa, &err) == CM_OK);
        CM_ASSERT(cm_name_from_arpa(arpa, again));
        CM_ASSERT(strcmp(again, name) == 0);
    }
    CM_ASSERT(!cm_name_is_wildcard(name) || (flags & CM_NAME_ALLOW_WILDCARD) != 0);
}

/* A name from a ClientHello, a configuration or a storage: the normal form is a fixed point, has
 * only the characters it may have, and reverse names go both ways. First byte: the flags. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char out[CM_NAME_BUF];
    struct cm_err err;

    if (size < 1 || size > 4096)
        return 0;
    unsigned flags = data[0] & 7u;
    char *text = cm_strndup((const char *)data + 1, size - 1);
    CM_ASSERT(text != NULL);
    if (cm_name_normalize(text, flags, out, &err) == CM_OK) {
        fuzz_reached();
        check_normal(out, flags);
    }
    free(text);
    return 0;
}
