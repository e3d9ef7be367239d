/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_INTEGRATION_REDIS_LINK_KIT_H
#define CM_TESTS_INTEGRATION_REDIS_LINK_KIT_H

/* For tests of the link to Redis with real servers: one lab for all tests of a program. */

#include "run.h"
#include "fake_redis.h"
#include "redis_kit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The URL that the lab exports as @name, with @params. */
static inline void open_lab(struct linked *k, const char *name, const char *params)
{
    char url[512];

    redis_kit_url(name, params, url, sizeof url);
    linked_open(k, NULL, url);
}

/* redis-cli as administrator, to its end. */
#define cli(server, ...)                                                                           \
    ck_assert_int_eq(redis_kit_run("cli", (server), __VA_ARGS__, (char *)NULL), 0)
#define lab(...) ck_assert_int_eq(redis_kit_run(__VA_ARGS__, (char *)NULL), 0)

static inline int run_in_lab(const char *kind, const char *unit, const TTest *const *tests,
                             size_t n)
{
    int rc = redis_kit_up(kind);

    if (rc != 0)
        return rc;
    rc = run_tests(unit, tests, n);
    redis_kit_down();
    return rc;
}

#endif
