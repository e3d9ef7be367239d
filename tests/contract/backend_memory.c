/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

static void nothing(void) {}

static int flood(void)
{
    return 5000;
}

static cm_status open_memory(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                             struct cm_err *e)
{
    return cm_storage_open("memory:contract", opts, ret, e);
}

struct contract_backend contract_backend = {
    .name = "memory",
    .setup = nothing,
    .teardown = nothing,
    .open = open_memory,
    .exact_tree = true,
    .has_watch = true,
    .watch_flood = flood,
};
