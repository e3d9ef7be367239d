/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fuzz.h"

#include <string.h>

/* Storage keys and names of locks, as gates and the file backend see them: two lines, two keys. A
 * key that passes is its own path below the root, so no two keys can mean the same file and none a
 * file of the backend's own. */

static bool is_own(const char *key)
{
    static const char *const own[] = { "locks", "certmesh/locks", "certmesh/redo", "certmesh/tmp" };

    for (size_t i = 0; i < CM_ARRAY_LEN(own); i++) {
        size_t n = strlen(own[i]);

        if (strncmp(key, own[i], n) == 0 && (key[n] == '\0' || key[n] == '/'))
            return true;
    }
    return false;
}

/* The path as a kernel would walk it: without "", "." and with ".." taken back. */
static void walk(const char *key, char *out)
{
    size_t len = 0;

    out[0] = '\0';
    while (*key != '\0') {
        size_t n = strcspn(key, "/");

        if (n == 2 && key[0] == '.' && key[1] == '.') {
            while (len > 0 && out[--len] != '/')
                ;
        } else if (n > 0 && !(n == 1 && key[0] == '.')) {
            if (len > 0)
                out[len++] = '/';
            memcpy(out + len, key, n);
            len += n;
        }
        out[len] = '\0';
        key += n + (key[n] == '/');
    }
}

static void check_key(const char *key)
{
    char path[CM_STORAGE_KEY_MAX + 1];

    CM_ASSERT(cm_storage_key_check(key, false, NULL) == cm_storage_key_check(key, false, NULL));
    if (cm_storage_key_check(key, false, NULL) != CM_OK)
        return;
    fuzz_reached();
    CM_ASSERT(strlen(key) <= CM_STORAGE_KEY_MAX && key[0] != '/');
    walk(key, path);
    CM_ASSERT(strcmp(path, key) == 0); /* hence injective */
    CM_ASSERT(!is_own(key) && !fst_is_reserved(key));
    for (const char *c = key; *c != '\0'; c++)
        CM_ASSERT((unsigned char)*c >= 0x20 && *c != 0x7F);
    /* Every directory on the way is a prefix that may be listed. */
    for (char *slash = strrchr(path, '/'); slash != NULL; slash = strrchr(path, '/')) {
        *slash = '\0';
        CM_ASSERT(cm_storage_key_check(path, true, NULL) == CM_OK || is_own(path));
    }
}

static void check_lock(const char *name)
{
    char safe[FST_SAFE_MAX];
    char same[FST_SAFE_MAX];

    if (strlen(name) > CM_LOCK_NAME_MAX || fst_lock_safe(name, safe, NULL) != CM_OK)
        return;
    CM_ASSERT(fst_lock_safe(name, same, NULL) == CM_OK && strcmp(safe, same) == 0);
    CM_ASSERT(safe[0] != '\0' && strcmp(safe, ".") != 0 && strcmp(safe, "..") != 0);
    CM_ASSERT(strlen(safe) + sizeof ".guard" <= FST_SAFE_MAX);
    CM_ASSERT(strspn(safe, "abcdefghijklmnopqrstuvwxyz0123456789_@.-") == strlen(safe));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = cm_strndup(size > 0 ? (const char *)data : "", size);
    char *second;

    CM_ASSERT(text != NULL);
    second = strchr(text, '\n');
    if (second != NULL)
        *second++ = '\0';
    check_key(text);
    check_lock(text);
    if (second != NULL) {
        check_key(second);
        check_lock(second);
    }
    free(text);
    return 0;
}
