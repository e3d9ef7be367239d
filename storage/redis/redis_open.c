/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_data.h"

#include <string.h>

/* The table of the Redis backend. Opening asks nobody: the first call connects. */

static const char *rds_describe(struct cm_storage *st)
{
    return rds_of(st)->o.shown;
}

static void rds_destroy(struct cm_storage *st)
{
    struct redis_storage *rs = rds_of(st);

    redis_link_free(rs->link);
    redis_options_clear(&rs->o);
    free(rs->channel);
    cm_wipe(&rs->codec, sizeof rs->codec);
    free(rs);
}

/* A grant keeps nothing here. */
static void rds_drop(struct cm_storage *st, struct cm_grant *grant)
{
    (void)st;
    (void)grant;
}

static const struct cm_storage_ops redis_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "redis",
    .store = rds_store,
    .load = rds_load,
    .remove = rds_remove,
    .stat = rds_stat,
    .list = rds_list,
    .list_after = rds_list_after,
    .try_lock = rds_try_lock,
    .refresh = rds_refresh,
    .unlock = rds_unlock,
    .drop = rds_drop,
    .commit = rds_commit,
    .describe = rds_describe,
    .destroy = rds_destroy,
    .lock_info = rds_lock_info,
    .load_many = rds_load_many,
    .watch = rds_watch,
    .unwatch = rds_unwatch,
    .check = rds_check,
};

/* A tag in the first component is a tag of every name below the prefix, so all of them lie in one
 * slot; the index ends in the first component, too. */
static bool has_tag(const char *prefix)
{
    size_t n = strcspn(prefix, "/");
    const char *open = memchr(prefix, '{', n);
    const char *close = open != NULL ? memchr(open, '}', n - (size_t)(open - prefix)) : NULL;

    return close != NULL && close > open + 1;
}

cm_status cm_storage_redis_open(const char *url, const struct cm_storage_open_options *opts,
                                struct cm_storage **ret, struct cm_err *err)
{
    struct redis_storage *rs = cm_calloc(1, sizeof *rs);
    cm_status rc;

    if (rs == NULL)
        return cm_fail_nomem(err);
    rs->base.ops = &redis_ops;
    rs->env = opts != NULL && opts->env != NULL ? opts->env : cm_env_system();
    if (opts != NULL)
        rs->log = opts->log;
    rc = redis_options_parse(url, &rs->o, err);
    if (rc == CM_OK) {
        const char *prefix = rs->o.prefix != NULL ? rs->o.prefix : "";

        rs->codec.env = rs->env;
        rs->codec.compression = rs->o.compression;
        rs->codec.encrypts = rs->o.encryption_key != NULL;
        if (rs->codec.encrypts)
            memcpy(rs->codec.key, rs->o.encryption_key, RDS_AES_KEY);
        rs->channel = cm_asprintf("%s%scertmesh/changes", prefix, prefix[0] != '\0' ? "/" : "");
        if (rs->channel == NULL)
            rc = cm_fail_nomem(err);
    }
    if (rc == CM_OK)
        rc = redis_link_new(&rs->o, rs->env, &rs->log, &rs->link, err);
    if (rc != CM_OK) {
        rds_destroy(&rs->base);
        return rc;
    }
    rs->scripted = !redis_link_is_cluster(rs->link) || has_tag(rs->o.prefix);
    *ret = &rs->base;
    return CM_OK;
}
