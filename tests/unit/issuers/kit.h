/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_ISSUERS_KIT_H
#define CM_TESTS_UNIT_ISSUERS_KIT_H

/* Ports of this host, for the tests of those who open them. */

#include "run.h"

#include <netinet/in.h>
#include <stdint.h>

struct sockaddr_in kit_loopback(uint16_t port);
/* Nobody listens on it at this moment. */
uint16_t kit_free_port(void);
/* A connection; -1 if there is none to be had. */
int kit_dial(uint16_t port);

#endif
