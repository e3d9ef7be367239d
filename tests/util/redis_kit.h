/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_REDIS_KIT_H
#define CM_TESTS_REDIS_KIT_H

/* Real Redis servers for a test program, started by tests/util/redis-lab; they end with it, however
 * it ends. Built with REDIS_LAB, the path of that script. */

#include <stddef.h>

/* Start servers of @kind (single, sentinel, cluster) and put what the script exports into the
 * environment. Where a program is missing, the test program ends here, skipped. The exit status to
 * end it with if something else failed, else 0. */
int redis_kit_up(const char *kind);
/* Run `redis-lab VERB DIR ARG...` (ends with NULL) to its end; its exit status. */
int redis_kit_run(const char *verb, ...);
void redis_kit_down(void);

/* Into @ret: the URL that the environment has under @name, with @parameters ("prefix=x") added. */
void redis_kit_url(const char *name, const char *parameters, char *ret, size_t size);

#endif
