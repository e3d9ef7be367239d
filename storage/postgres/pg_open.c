/* SPDX-License-Identifier: Apache-2.0 */
#include "postgres.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Opening connects to nothing: a server that is down for a moment must not keep a program from
 * starting, and there is no operation here to bound the wait. */

static const char *pg_describe(struct cm_storage *st)
{
    return pg_of(st)->options.shown;
}

static void pg_destroy(struct cm_storage *st)
{
    struct pg_storage *s = pg_of(st);

    pg_pool_free(atomic_load(&s->pool));
    if (s->pid == getpid()) {
        feed_end(&s->feed);
        (void)pthread_mutex_destroy(&s->watch_mutex);
    }
    pg_options_clear(&s->options);
    free(s->data);
    free(s->locks);
    free(s->own);
    free(s->index);
    free(s->channel);
    free(s);
}

static const struct cm_storage_ops pg_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "postgres",
    .store = pg_store,
    .load = pg_load,
    .remove = pg_remove,
    .stat = pg_stat,
    .list = pg_list,
    .list_after = pg_list_after,
    .try_lock = pg_try_lock,
    .refresh = pg_refresh,
    .unlock = pg_unlock,
    .commit = pg_commit,
    .describe = pg_describe,
    .destroy = pg_destroy,
    .lock_info = pg_lock_info,
    .load_many = pg_load_many,
    .watch = pg_watch,
    .unwatch = pg_unwatch,
    .check = pg_check,
};

/* "schema"."table", or "table" for whatever the search path finds. */
static char *quoted(const char *schema, const char *table)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(256);
    cm_status rc = CM_OK;

    if (schema == NULL)
        return cm_asprintf("%s", table);
    rc = cm_buf_puts(&text, "\"", NULL);
    for (const char *c = schema; *c != '\0' && rc == CM_OK; c++)
        rc = cm_buf_printf(&text, NULL, *c == '"' ? "\"%c" : "%c", *c);
    if (rc == CM_OK)
        rc = cm_buf_printf(&text, NULL, "\".%s", table);
    return rc == CM_OK ? cm_strdup(cm_buf_str(&text)) : NULL;
}

/* One channel per schema; its name is to be a plain word. */
static char *channel_of(const char *schema)
{
    if (schema == NULL)
        return cm_strdup("certmesh");
    return cm_asprintf("certmesh_%016" PRIx64, cm_fnv1a64(CM_FNV1A64, schema, strlen(schema)));
}

cm_status cm_storage_postgres_open(const char *url, const struct cm_storage_open_options *opts,
                                   struct cm_storage **ret, struct cm_err *err)
{
    struct pg_storage *s = cm_calloc(1, sizeof *s);
    struct pg_pool *pool = NULL;
    cm_status rc;

    if (s == NULL)
        return cm_fail_nomem(err);
    s->base.ops = &pg_ops;
    s->pid = getpid();
    feed_init(&s->feed);
    cm_mutex_init(&s->watch_mutex);
    s->env = opts != NULL && opts->env != NULL ? opts->env : cm_env_system();
    if (opts != NULL)
        s->log = opts->log;
    rc = pg_options_parse(url, &s->options, err);
    if (rc == CM_OK) {
        const char *schema = s->options.schema;

        s->data = quoted(schema, "certmagic_data");
        s->locks = quoted(schema, "certmagic_locks");
        s->own = quoted(schema, "certmesh_locks");
        s->index = cm_strdup("certmesh_data_tree");
        s->channel = channel_of(schema);
        if (s->data == NULL || s->locks == NULL || s->own == NULL || s->index == NULL ||
            s->channel == NULL)
            rc = cm_fail_nomem(err);
    }
    if (rc == CM_OK)
        rc = pg_pool_new(s->options.pool_max, &pool, err);
    atomic_store(&s->pool, pool);
    if (rc != CM_OK) {
        pg_destroy(&s->base);
        return rc;
    }
    *ret = &s->base;
    return CM_OK;
}
