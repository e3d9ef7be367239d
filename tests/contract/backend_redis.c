/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include "redis_kit.h"
#include "storage.h"

#include <stdio.h>
#include <unistd.h>

/* Compiled once for each way to a server: CONTRACT_REDIS is the kind of lab, CONTRACT_URL the URL
 * among its exports. Each test has a prefix of its own, of two components. */

static char url[512];

static int begin(void)
{
    return redis_kit_up(CONTRACT_REDIS);
}

static unsigned place; /* of this test: they may share a process */

static void setup(void)
{
    char parameters[64];

    (void)snprintf(parameters, sizeof parameters, "prefix=" CONTRACT_PREFIX "/%ld-%u",
                   (long)getpid(), ++place);
    redis_kit_url(CONTRACT_URL, parameters, url, sizeof url);
}

static void teardown(void) {}

static cm_status open_redis(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                            struct cm_err *e)
{
    return cm_storage_redis_open(url, opts, ret, e);
}

struct contract_backend contract_backend = {
    .name = "redis",
    .setup = setup,
    .teardown = teardown,
    .open = open_redis,
    .exact_tree = true,
    .has_watch = true,
    .server_clock = true,
    .child_opens = true,
    .begin = begin,
    .end = redis_kit_down,
};
