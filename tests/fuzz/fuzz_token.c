/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"
#include "fuzz.h"

#include <string.h>

/* A stored challenge: whatever is taken is safe to send, and only for the host it names. */

static bool is_sendable(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s != '.' && !cm_is_b64url(s, 1))
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_token t;
    char name[CM_NAME_BUF];

    if (cm_token_parse((struct cm_span){ data, size }, &t, NULL) != CM_OK)
        return 0;
    fuzz_reached();
    size_t len = strlen(t.token);
    CM_ASSERT(len > 0 && cm_is_b64url(t.token, len));
    CM_ASSERT(strncmp(t.key_authorization, t.token, len) == 0 && t.key_authorization[len] == '.');
    CM_ASSERT(is_sendable(t.key_authorization));
    CM_ASSERT(cm_name_normalize(t.ident, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, name, NULL) ==
              CM_OK);
    CM_ASSERT(strcmp(name, t.ident) == 0);
    return 0;
}
