/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>

/* The sealed storage around one in memory. */

static unsigned place;

static void setup(void)
{
    place++;
    ck_assert_int_eq(setenv("CM_CONTRACT_KEYS",
                            "k1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
                            1),
                     0);
}

static void teardown(void) {}

static cm_status open_sealed(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                             struct cm_err *e)
{
    char url[96];

    (void)snprintf(url, sizeof url, "sealed:?keys_env=CM_CONTRACT_KEYS&in=memory:sealed-%u", place);
    return cm_storage_open(url, opts, ret, e);
}

struct contract_backend contract_backend = {
    .name = "sealed",
    .setup = setup,
    .teardown = teardown,
    .open = open_sealed,
    .value_overhead = 44,
    .exact_tree = true,
    .has_watch = true,
};
