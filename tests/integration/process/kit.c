/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char kit_dir[64];

void kit_dir_make(void)
{
    (void)snprintf(kit_dir, sizeof kit_dir, "/tmp/cm-process.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(kit_dir));
}

void kit_dir_drop(void)
{
    char command[128];

    (void)snprintf(command, sizeof command, "exec rm -rf '%s'", kit_dir);
    ck_assert_int_eq(system(command), 0);
}

struct cm_config *kit_config(struct cm_config_options o)
{
    struct cm_config *c = NULL;
    struct cm_err err = CM_ERR_INIT;
    char url[80];

    (void)snprintf(url, sizeof url, "file://%s", kit_dir);
    o.storage = url;
    o.internal = true;
    ck_assert_msg(cm_config_new(&o, &c, &err) == CM_OK, "%s", err.msg);
    return c;
}

int kit_entries(const char *path, const char *text)
{
    const struct dirent *e;
    DIR *d = opendir(path);
    int n = 0;

    while (d != NULL && (e = readdir(d)) != NULL)
        n += text == NULL || strstr(e->d_name, text) != NULL;
    if (d != NULL)
        (void)closedir(d);
    return n;
}
