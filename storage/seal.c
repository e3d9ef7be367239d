/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include <stdlib.h>
#include <string.h>

/* A storage around another one, in which every value is sealed: for those who do not want to trust
 * whoever keeps the bytes. Keys of values, their sizes and times, and locks are as they are inside.
 * Values that were there before are read as they are, unless "plain=refuse" says otherwise; what is
 * written is always sealed. Peers of another make cannot read it. */

struct sealed {
    struct cm_storage base;
    struct cm_storage *inner;
    const struct cm_env *env;
    struct seal_keys keys;
    bool refuse_plain;
    char *url;
};

static struct sealed *sealed_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct sealed, base);
}

/* ------------------------------------------------------------------ values */

static cm_status open_value(const struct sealed *s, const char *key, struct cm_span stored,
                            struct cm_buf *out, struct cm_err *err)
{
    const struct seal_place place = { s->inner, &s->keys, s->refuse_plain };

    return seal_read(&place, key, stored, out, err);
}

static cm_status check_room(const char *key, struct cm_span value, struct cm_err *err)
{
    if (value.len <= CM_STORAGE_VALUE_MAX - SEAL_OVERHEAD)
        return CM_OK;
    return cm_fail(err, CM_E_LIMIT, "the value for '%s' has %zu bytes; sealed ones have at most %u",
                   key, value.len, (unsigned)(CM_STORAGE_VALUE_MAX - SEAL_OVERHEAD));
}

static cm_status sealed_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_span value, struct cm_err *err)
{
    struct sealed *s = sealed_of(st);
    CM_AUTO_BUF struct cm_buf box = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);

    cm_status rc = check_room(key, value, err);
    if (rc == CM_OK)
        rc = seal_close(&s->keys, s->env, key, value, &box, err);
    return rc == CM_OK ? cm_storage_store(s->inner, op, key, cm_buf_span(&box), err) : rc;
}

static cm_status sealed_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_buf *ret, struct cm_err *err)
{
    struct sealed *s = sealed_of(st);
    CM_AUTO_BUF struct cm_buf box = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);

    cm_status rc = cm_storage_load(s->inner, op, key, &box, err);
    return rc == CM_OK ? open_value(s, key, cm_buf_span(&box), ret, err) : rc;
}

struct many {
    struct sealed *s;
    const char *const *keys;
    cm_load_fn each;
    void *user;
    struct cm_buf plain;
};

static cm_status open_one(void *user, size_t index, cm_status status, struct cm_span value,
                          const struct cm_err *why, struct cm_err *err)
{
    struct many *m = user;
    struct cm_err own = CM_ERR_INIT;

    if (status != CM_OK)
        return m->each(m->user, index, status, value, why, err);
    cm_buf_reset(&m->plain);
    status = open_value(m->s, m->keys[index], value, &m->plain, &own);
    return m->each(m->user, index, status, cm_buf_span(&m->plain), &own, err);
}

static cm_status sealed_load_many(struct cm_storage *st, const struct cm_op *op,
                                  const char *const *keys, size_t n, cm_load_fn each, void *user,
                                  struct cm_err *err)
{
    struct many m = { sealed_of(st), keys, each, user, CM_BUF_SECRET(CM_STORAGE_VALUE_MAX) };
    cm_status rc = cm_storage_load_many(m.s->inner, op, keys, n, open_one, &m, err);

    cm_buf_free(&m.plain);
    return rc;
}

static cm_status sealed_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                               struct cm_err *err)
{
    return cm_storage_remove(sealed_of(st)->inner, op, key, err);
}

/* By its size alone a value does not tell whether it is sealed; the few that may be plain are
 * looked at. */
static cm_status sealed_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_key_info *ret, struct cm_err *err)
{
    struct sealed *s = sealed_of(st);
    CM_AUTO_BUF struct cm_buf box = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);

    cm_status rc = cm_storage_stat(s->inner, op, key, ret, err);
    if (rc != CM_OK || !ret->terminal)
        return rc;
    rc = cm_storage_load(s->inner, op, key, &box, err);
    if (rc == CM_OK)
        ret->size = seal_is_sealed(cm_buf_span(&box)) ? box.len - SEAL_OVERHEAD : box.len;
    return rc;
}

struct listing {
    cm_list_fn each;
    void *user;
};

static cm_status list_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct listing *l = user;
    struct cm_key_info shown = *info;

    if (shown.terminal && shown.size >= SEAL_OVERHEAD)
        shown.size -= SEAL_OVERHEAD;
    return l->each(l->user, &shown, err);
}

static cm_status sealed_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                             bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    struct listing l = { each, user };

    return cm_storage_list(sealed_of(st)->inner, op, prefix, recursive, list_one, &l, err);
}

static cm_status sealed_list_after(struct cm_storage *st, const struct cm_op *op,
                                   const char *prefix, const char *after, bool recursive,
                                   cm_list_fn each, void *user, struct cm_err *err)
{
    struct listing l = { each, user };

    return cm_storage_list_after(sealed_of(st)->inner, op, prefix, after, recursive, list_one, &l,
                                 err);
}

/* ------------------------------------------------------------------- locks */

static cm_status sealed_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                 int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                 struct cm_err *err)
{
    return cm_storage_try_lock(sealed_of(st)->inner, op, name, ttl_ns, ret, ret_wait_ns, err);
}

static cm_status sealed_refresh(struct cm_storage *st, const struct cm_op *op,
                                struct cm_grant *grant, struct cm_err *err)
{
    return cm_storage_refresh(sealed_of(st)->inner, op, grant, err);
}

static cm_status sealed_unlock(struct cm_storage *st, const struct cm_op *op,
                               struct cm_grant *grant, struct cm_err *err)
{
    return cm_storage_unlock(sealed_of(st)->inner, op, grant, err);
}

static void sealed_drop(struct cm_storage *st, struct cm_grant *grant)
{
    cm_storage_drop(sealed_of(st)->inner, grant);
}

static cm_status sealed_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                                  struct cm_lock_info *ret, struct cm_err *err)
{
    return cm_storage_lock_info(sealed_of(st)->inner, op, name, ret, err);
}

static cm_status seal_items(struct sealed *s, const struct cm_commit_item *items, size_t n,
                            struct cm_commit_item *sealed, struct cm_buf *boxes, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        sealed[i] = items[i];
        if (items[i].remove)
            continue;
        boxes[i].max = CM_STORAGE_VALUE_MAX;
        rc = check_room(items[i].key, items[i].value, err);
        if (rc == CM_OK)
            rc = seal_close(&s->keys, s->env, items[i].key, items[i].value, &boxes[i], err);
        sealed[i].value = cm_buf_span(&boxes[i]);
    }
    return rc;
}

static cm_status sealed_commit(struct cm_storage *st, const struct cm_op *op,
                               const struct cm_grant *grant, const struct cm_commit_item *items,
                               size_t n, struct cm_err *err)
{
    struct sealed *s = sealed_of(st);
    CM_AUTO_FREE struct cm_commit_item *sealed = cm_calloc(n, sizeof *sealed);
    CM_AUTO_FREE struct cm_buf *boxes = cm_calloc(n, sizeof *boxes);

    if (sealed == NULL || boxes == NULL)
        return cm_fail_nomem(err);
    cm_status rc = seal_items(s, items, n, sealed, boxes, err);
    if (rc == CM_OK)
        rc = cm_storage_commit(s->inner, op, grant, sealed, n, err);
    for (size_t i = 0; i < n; i++)
        cm_buf_free(&boxes[i]);
    return rc;
}

/* -------------------------------------------------------------------- feed */

static cm_status sealed_watch(struct cm_storage *st, cm_change_fn fn, void *user,
                              struct cm_watch **ret, struct cm_err *err)
{
    return cm_storage_watch(sealed_of(st)->inner, fn, user, ret, err);
}

static void sealed_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    cm_storage_unwatch(sealed_of(st)->inner, watch);
}

static cm_status sealed_check(struct cm_storage *st, const struct cm_op *op, bool repair,
                              cm_check_fn each, void *user, struct cm_err *err)
{
    struct sealed *s = sealed_of(st);
    const struct seal_place place = { s->inner, &s->keys, s->refuse_plain };

    return seal_check(&place, op, repair, each, user, err);
}

/* ---------------------------------------------------------------- instance */

static const char *sealed_describe(struct cm_storage *st)
{
    return sealed_of(st)->url;
}

static void sealed_destroy(struct cm_storage *st)
{
    struct sealed *s = sealed_of(st);

    cm_storage_close(s->inner);
    seal_keys_clear(&s->keys);
    free(s->url);
    free(s);
}

static const struct cm_storage_ops sealed_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "sealed",
    .store = sealed_store,
    .load = sealed_load,
    .remove = sealed_remove,
    .stat = sealed_stat,
    .list = sealed_list,
    .list_after = sealed_list_after,
    .try_lock = sealed_try_lock,
    .refresh = sealed_refresh,
    .unlock = sealed_unlock,
    .drop = sealed_drop,
    .commit = sealed_commit,
    .describe = sealed_describe,
    .destroy = sealed_destroy,
    .lock_info = sealed_lock_info,
    .load_many = sealed_load_many,
    .watch = sealed_watch,
    .unwatch = sealed_unwatch,
    .check = sealed_check,
};

/* --------------------------------------------------------------------- URL */

static cm_status read_keys(struct sealed *s, const char *file, const char *variable,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(16 * 1024);
    CM_AUTO_FREE char *from = NULL;

    if ((file == NULL) == (variable == NULL))
        return cm_fail(err, CM_E_INVAL,
                       "a sealed storage needs its keys: either keys=FILE or keys_env=VARIABLE");
    if (file != NULL) {
        cm_status rc = cm_read_file(file, &text, err);

        if (rc != CM_OK)
            return cm_wrap(err, rc, "storage keys");
        from = cm_asprintf("'%s'", file);
    } else {
        const char *value = secure_getenv(variable);

        if (value == NULL)
            return cm_fail(err, CM_E_KEY, "the storage keys' variable %s is not set", variable);
        cm_status rc = cm_buf_puts(&text, value, err);
        if (rc != CM_OK)
            return rc;
        from = cm_asprintf("the variable %s", variable);
    }
    if (from == NULL)
        return cm_fail_nomem(err);
    return seal_keys_parse(cm_buf_span(&text), from, &s->keys, err);
}

struct sealed_url {
    char *text; /* the others point into it */
    const char *keys, *keys_env, *plain, *in;
};

/* "?keys=FILE&plain=refuse&in=URL": "in" comes last and takes all the rest as it is. */
static cm_status parse_url(const char *rest, struct sealed_url *u, struct cm_err *err)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = { { "keys=", &u->keys },
                  { "keys_env=", &u->keys_env },
                  { "plain=", &u->plain },
                  { "in=", &u->in } };
    char shown[48];

    u->text = cm_strdup(rest);
    if (u->text == NULL)
        return cm_fail_nomem(err);
    for (char *at = u->text[0] == '?' ? u->text + 1 : u->text; at != NULL && u->in == NULL;) {
        char *end = strchr(at, '&');
        size_t i = 0;

        while (i < CM_ARRAY_LEN(known) && strncmp(at, known[i].name, strlen(known[i].name)) != 0)
            i++;
        if (i == CM_ARRAY_LEN(known) || *known[i].value != NULL)
            return cm_fail(err, CM_E_INVAL,
                           "a sealed storage is written sealed:?keys=FILE&in=URL; '%s' %s",
                           cm_escape(at, strcspn(at, "=&"), shown, sizeof shown),
                           i == CM_ARRAY_LEN(known) ? "is not known" : "is there twice");
        *known[i].value = at + strlen(known[i].name);
        if (end != NULL && u->in == NULL)
            *end = '\0';
        at = end != NULL ? end + 1 : NULL;
    }
    if (u->in == NULL || u->in[0] == '\0')
        return cm_fail(err, CM_E_INVAL,
                       "a sealed storage is written sealed:?keys=FILE&in=URL; 'in' is missing");
    if (u->plain != NULL && strcmp(u->plain, "refuse") != 0 && strcmp(u->plain, "read") != 0)
        return cm_fail(err, CM_E_INVAL, "sealed storage: plain is 'read' or 'refuse'");
    return CM_OK;
}

cm_status cm_storage_sealed_open(const char *rest, const struct cm_storage_open_options *opts,
                                 struct cm_storage **ret, struct cm_err *err)
{
    struct sealed *s = cm_calloc(1, sizeof *s);
    struct sealed_url u = { .text = NULL };

    if (s == NULL)
        return cm_fail_nomem(err);
    s->base.ops = &sealed_ops;
    s->env = opts->env != NULL ? opts->env : cm_env_system();
    cm_status rc = parse_url(rest, &u, err);
    if (rc == CM_OK)
        rc = read_keys(s, u.keys, u.keys_env, err);
    if (rc == CM_OK) {
        s->refuse_plain = u.plain != NULL && strcmp(u.plain, "refuse") == 0;
        rc = cm_storage_open(u.in, opts, &s->inner, err);
    }
    free(u.text);
    if (rc == CM_OK) {
        s->url = cm_asprintf("sealed %s", cm_storage_describe(s->inner));
        rc = s->url != NULL ? CM_OK : cm_fail_nomem(err);
    }
    if (rc != CM_OK) {
        sealed_destroy(&s->base);
        return rc;
    }
    *ret = &s->base;
    return CM_OK;
}
