/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include "storage.h"
#include "temp_dir.h"

/* Compiled twice: with openat2 and in memory where possible, and without and on the disk. */

static char root[64];

static void setup(void)
{
#ifdef CONTRACT_WALK
    cm_file_force_walk(true);
    ck_assert(temp_dir_make("contract", true, root, sizeof root));
#else
    ck_assert(temp_dir_make("contract", false, root, sizeof root));
#endif
}

static void teardown(void)
{
    temp_dir_remove(root);
}

static cm_status open_file(const struct cm_storage_open_options *opts, struct cm_storage **ret,
                           struct cm_err *e)
{
    char url[96];

    (void)snprintf(url, sizeof url, "file://%s", root);
    return cm_storage_open(url, opts, ret, e);
}

/* The kernel's queue: each value makes two events. On a disk that takes too long. */
static int flood(void)
{
    int max = 0;

    if (strncmp(root, "/dev/shm/", 9) != 0)
        return 0;
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    ck_assert(f != NULL && fscanf(f, "%d", &max) == 1);
    (void)fclose(f);
    return max <= 32768 ? max / 2 + 1000 : 0;
}

struct contract_backend contract_backend = {
    .name = "file",
    .setup = setup,
    .teardown = teardown,
    .open = open_file,
    .exact_tree = true,
    .has_watch = true,
    .watch_flood = flood,
};
