/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>

/* Does anybody on this machine listen on a port? bind() does not tell who has no right to the port:
 * it says EACCES before it looks whether it is taken. But who runs without rights has been given
 * its sockets by systemd, or has opened them before it gave the rights up; and somebody who answers
 * is all that a challenge wants. */

#define LISTENING 0x0A /* TCP_LISTEN, as the kernel prints it */

/* One of the kernel's tables: those that listen come first. */
static bool has_listener(const char *path, unsigned port)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(path, "re");

    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        unsigned at = 0, state = 0;

        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%4x %*[0-9A-Fa-f]:%*4x %2x", &at, &state) != 2)
            continue; /* the head of the table */
        if (state != LISTENING)
            break;
        found = at == port;
    }
    (void)fclose(f);
    return found;
}

bool issuer_port_is_held(uint16_t port)
{
    return has_listener("/proc/self/net/tcp6", port) || has_listener("/proc/self/net/tcp", port);
}
