/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#ifdef CM_WITH_PSL
#include <libpsl.h>
#endif

/* Whom a hello counts for. */

static bool is_v4_in_v6(const uint8_t a[16])
{
    static const uint8_t head[12] = { [10] = 0xff, [11] = 0xff };

    return memcmp(a, head, sizeof head) == 0;
}

void cm_client_of(const char *ip, char ret[CM_CLIENT_TEXT])
{
    char text[CM_CLIENT_TEXT];
    size_t len = strcspn(ip, "%"); /* without zone id */
    uint8_t a[16];
    const uint8_t *v4 = NULL;

    ret[0] = '?';
    ret[1] = '\0';
    if (len >= sizeof text)
        return;
    memcpy(text, ip, len);
    text[len] = '\0';
    if (inet_pton(AF_INET, text, a) == 1)
        v4 = a;
    else if (inet_pton(AF_INET6, text, a) != 1)
        return;
    else if (is_v4_in_v6(a))
        v4 = a + 12;
    if (v4 != NULL) {
        (void)snprintf(ret, CM_CLIENT_TEXT, "%u.%u.%u.0/24", v4[0], v4[1], v4[2]);
        return;
    }
    (void)snprintf(ret, CM_CLIENT_TEXT, "%x:%x:%x::/48", (unsigned)(a[0] << 8 | a[1]),
                   (unsigned)(a[2] << 8 | a[3]), (unsigned)(a[4] << 8 | a[5]));
}

static const char *last_two_labels(const char *name)
{
    const char *at = name + strlen(name);
    unsigned dots = 0;

    while (at > name) {
        dots += at[-1] == '.';
        if (dots == 2)
            break;
        at--;
    }
    return at;
}

const char *cm_domain_of(const char *name)
{
#ifdef CM_WITH_PSL
    const psl_ctx_t *list = psl_builtin();

    if (list != NULL) { /* libpsl may be built without one */
        const char *domain = psl_registrable_domain(list, name);

        return domain != NULL ? domain : name; /* a public suffix itself */
    }
#endif
    return last_two_labels(name);
}
