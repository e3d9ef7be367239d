/* SPDX-License-Identifier: Apache-2.0 */

/* A fleet in the middle of a migration, for certmesh-storage-test --plugin: of all processes one
 * half uses the storage file:URL/old alone, the other half migrates from it to file:URL/new. */

#include <certmesh/cm_spi.h>

#include <stdio.h>
#include <unistd.h>

CM_API cm_status open_mixed(const char *url, const struct cm_storage_open_options *opts,
                            struct cm_storage **ret, struct cm_err *err);
cm_status open_mixed(const char *url, const struct cm_storage_open_options *opts,
                     struct cm_storage **ret, struct cm_err *err)
{
    char full[1024];

    if (getpid() % 2 == 0)
        (void)snprintf(full, sizeof full, "file:%s/old", url);
    else
        (void)snprintf(full, sizeof full, "migrate:?from=file:%s/old&to=file:%s/new", url, url);
    return cm_storage_open(full, opts, ret, err);
}
