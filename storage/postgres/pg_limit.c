/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <linux/tcp.h> /* the other one does not know how much came */
#include <netinet/in.h>
#include <sys/socket.h>

/* libpq takes whatever a server sends into memory until the answer is whole, and an answer may be
 * without end. How much came is what the kernel can tell. On a unix socket it cannot; there the
 * server is one of this machine. */

uint64_t pg_received(int fd)
{
    struct tcp_info info = { .tcpi_state = 0 };
    socklen_t len = sizeof info;

    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received)
        return 0;
    return info.tcpi_bytes_received;
}

cm_status pg_check_received(int fd, uint64_t before, uint64_t max, struct cm_err *err)
{
    uint64_t now = pg_received(fd);

    if (now > before && now - before > max)
        return cm_fail(err, CM_E_LIMIT, "PostgreSQL sends more than %llu bytes and does not end",
                       (unsigned long long)max);
    return CM_OK;
}
