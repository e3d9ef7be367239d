/* SPDX-License-Identifier: Apache-2.0 */
#include "net_internal.h"

#include <netinet/in.h>
#include <string.h>

/* Addresses through which a request would reach this host or its cloud's metadata service. */
static bool is_local_v4(uint32_t a)
{
    return a >> 24 == 127 || a >> 24 == 0 || a >> 16 == 0xa9fe /* 169.254/16 */;
}

bool cm__net_is_local(const struct sockaddr *sa, socklen_t len)
{
    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in v4;

        memcpy(&v4, sa, sizeof v4);
        return is_local_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 v6;
        uint32_t low;

        memcpy(&v6, sa, sizeof v6);
        memcpy(&low, v6.sin6_addr.s6_addr + 12, sizeof low);
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
            return is_local_v4(ntohl(low));
        return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) || IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr) ||
               IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr);
    }
    return true; /* no other family is expected */
}

bool cm__net_has_port(const struct sockaddr *sa, socklen_t len, uint16_t port)
{
    uint16_t found = 0;

    if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in v4;

        memcpy(&v4, sa, sizeof v4);
        found = ntohs(v4.sin_port);
    } else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 v6;

        memcpy(&v6, sa, sizeof v6);
        found = ntohs(v6.sin6_port);
    }
    return port != 0 && found == port;
}
