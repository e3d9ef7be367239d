/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_BENCH_SHAKE_H
#define CM_TESTS_BENCH_SHAKE_H

/* A handshake without a network: client and server in one thread, over a pair of sockets. */

#include "bench.h"

/* Through the gate of @cfg, for the name @i; dies unless the client gets its certificate. */
void shake_name(struct cm_config *cfg, size_t i);

#endif
