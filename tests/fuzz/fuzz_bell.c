/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fuzz.h"

#include <string.h>

/* Names in certmesh/tmp, where others may put some, too: what is told of them is short enough, and
 * what it says can be said again. */

static void check_again(const char *what, const char *key)
{
    char name[FST_NAME_MAX] = "new-1-2-0123456789abcdef";
    char again[CM_STORAGE_KEY_MAX + 1];
    const char *kind = NULL;

    fst_bell_name(name, strlen(name), CM_STORAGE_COMPONENT_MAX, what, key);
    CM_ASSERT(strlen(name) <= CM_STORAGE_COMPONENT_MAX && strchr(name, '/') == NULL);
    if (!fst_bell_parse(name, &kind, again))
        return;
    CM_ASSERT(strncmp(again, key, strlen(again)) == 0);
    CM_ASSERT(key[strlen(again)] == '\0' || key[strlen(again)] == '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[CM_STORAGE_COMPONENT_MAX + 1];
    char key[CM_STORAGE_KEY_MAX + 1];
    const char *what = NULL;

    if (size >= sizeof name)
        return 0;
    if (size > 0)
        memcpy(name, data, size);
    name[size] = '\0';
    if (!fst_bell_parse(name, &what, key))
        return 0;
    fuzz_reached();
    CM_ASSERT(strlen(key) <= CM_STORAGE_KEY_MAX);
    check_again(what, key);
    return 0;
}
