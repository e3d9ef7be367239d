/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UTIL_TEMP_DIR_H
#define CM_TESTS_UTIL_TEMP_DIR_H

/* A directory of a test's own. */

#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Its path to the @size bytes at @ret. In memory where possible, unless @on_disk. */
static inline bool temp_dir_make(const char *name, bool on_disk, char *ret, size_t size)
{
    if (!on_disk) {
        (void)snprintf(ret, size, "/dev/shm/cm-%s-XXXXXX", name);
        if (mkdtemp(ret) != NULL)
            return true;
    }
    (void)snprintf(ret, size, "/tmp/cm-%s-XXXXXX", name);
    return mkdtemp(ret) != NULL;
}

static inline int temp_dir_remove_one(const char *path, const struct stat *s, int type,
                                      struct FTW *ftw)
{
    (void)s;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* With all that is in it. */
static inline void temp_dir_remove(const char *path)
{
    (void)nftw(path, temp_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
