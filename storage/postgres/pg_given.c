/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <linux/tcp.h> /* of which netinet/tcp.h has an older one */
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

/* libpq keeps quiet about a send that failed: it pretends that it went well, and tells of it with
 * the answer, as the server may have said why it hung up. If it did not, and the connection stands,
 * there will be no answer, and whoever waits for it waits until his time is over. The kernel knows
 * better. */

int64_t pg_given(int fd)
{
    struct tcp_info info = { .tcpi_state = 0 };
    socklen_t len = sizeof info;

    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof info.tcpi_bytes_retrans)
        return -1;
    return (int64_t)(info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes);
}
