/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <string.h>
#include <unistd.h>

void cm_host_name(char ret[CM_HOST_NAME_BUF])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.-_";

    char name[CM_HOST_NAME_BUF] = "";

    if (gethostname(name, sizeof name) != 0 || name[0] == '\0')
        (void)memccpy(name, "unknown", '\0', sizeof name);
    name[sizeof name - 1] = '\0'; /* one that is too long may come without its end */
    for (char *c = name; *c != '\0'; c++)
        if (strchr(allowed, *c) == NULL)
            *c = '_';
    memcpy(ret, name, sizeof name);
}
