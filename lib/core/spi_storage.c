/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* The gates in front of every storage backend. What is checked here, a backend may rely on:
 * well-formed keys and lock names, values within their maximum, an operation that may still run.
 * And what a backend might get wrong in spite of its contract is put right here where that is
 * cheap: outputs stay untouched on failure. */

/* A table may be older than this header: what lies past its size counts as absent. */
#define HAS_OP(st, op)                                                                             \
    ((st)->ops->size >= offsetof(struct cm_storage_ops, op) + sizeof((st)->ops->op) &&             \
     (st)->ops->op != NULL)

#define WAIT_DEFAULT_NS (250 * CM_NS_PER_MS)
#define ONE_BY_ONE_KEEP (64u * 1024)

static cm_status check_table(struct cm_storage *st, struct cm_err *err)
{
    if (st == NULL || st->ops == NULL)
        return cm_fail(err, CM_E_INVAL, "no storage given");
    if (st->ops->abi != CM_SPI_ABI)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "this storage backend was made for plugin interface %u, not %u: rebuild it",
                       (unsigned)st->ops->abi, (unsigned)CM_SPI_ABI);
    return CM_OK;
}

static cm_status unsupported(struct cm_storage *st, const char *what, struct cm_err *err)
{
    return cm_fail(err, CM_E_UNSUPPORTED, "storage '%s' does not support %s",
                   st->ops->name != NULL ? st->ops->name : "?", what);
}

/* ------------------------------------------------------------------- keys */

static bool is_below(const char *key, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(key, dir, n) == 0 && (key[n] == '\0' || key[n] == '/');
}

static cm_status bad_key(const char *key, const char *what, struct cm_err *err)
{
    char shown[160];

    return cm_fail(err, CM_E_INVAL, "storage key '%s' %s",
                   cm_escape(key, strlen(key), shown, sizeof shown), what);
}

static const char *bad_component(const char *c, size_t len)
{
    if (len == 0)
        return "has an empty component";
    if (len > CM_STORAGE_COMPONENT_MAX)
        return "has a component longer than 255 bytes";
    if (len == 1 && c[0] == '.')
        return "has a '.' component";
    if (len == 2 && c[0] == '.' && c[1] == '.')
        return "has a '..' component";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)c[i] < 0x20 || c[i] == 0x7F)
            return "has a control byte";
    return NULL;
}

cm_status cm_storage_key_check(const char *key, bool prefix_ok, struct cm_err *err)
{
    static const char *const reserved[] = { "locks", "certmesh/locks", "certmesh/redo",
                                            "certmesh/tmp" };
    const char *at = key;

    if (key == NULL)
        return cm_fail(err, CM_E_INVAL, "no storage key given");
    if (key[0] == '\0')
        return prefix_ok ? CM_OK : cm_fail(err, CM_E_INVAL, "the storage key is empty");
    if (strnlen(key, CM_STORAGE_KEY_MAX + 1) > CM_STORAGE_KEY_MAX)
        return bad_key(key, "is longer than 512 bytes", err);
    for (;;) {
        size_t len = strcspn(at, "/");
        const char *bad = bad_component(at, len);

        if (bad != NULL)
            return bad_key(key, bad, err);
        if (at[len] == '\0')
            break;
        at += len + 1;
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(reserved); i++)
        if (is_below(key, reserved[i]))
            return bad_key(key, "is reserved for locks and temporary files", err);
    return CM_OK;
}

static cm_status check_lock_name(const char *name, struct cm_err *err)
{
    char shown[160];

    if (name == NULL || name[0] == '\0')
        return cm_fail(err, CM_E_INVAL, "no lock name given");
    if (strnlen(name, CM_LOCK_NAME_MAX + 1) > CM_LOCK_NAME_MAX)
        return cm_fail(err, CM_E_INVAL, "the lock name '%s' is longer than 512 bytes",
                       cm_escape(name, CM_LOCK_NAME_MAX, shown, sizeof shown));
    for (const char *c = name; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            return cm_fail(err, CM_E_INVAL, "the lock name '%s' has a control byte",
                           cm_escape(name, strlen(name), shown, sizeof shown));
    return CM_OK;
}

static cm_status check_value(const char *key, struct cm_span value, struct cm_err *err)
{
    if (value.data == NULL && value.len > 0)
        return cm_fail(err, CM_E_INVAL, "no bytes given for the value at '%s'", key);
    if (value.len > CM_STORAGE_VALUE_MAX)
        return cm_fail(err, CM_E_LIMIT,
                       "the value for '%s' has %zu bytes, more than the %u allowed", key, value.len,
                       (unsigned)CM_STORAGE_VALUE_MAX);
    return CM_OK;
}

/* What all calls on one key ask first. */
static cm_status enter(struct cm_storage *st, const struct cm_op *op, const char *key,
                       bool prefix_ok, struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc == CM_OK)
        rc = cm_storage_key_check(key, prefix_ok, err);
    if (rc == CM_OK) {
        rc = cm_op_check(op, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "storage key '%s'", key);
    }
    return rc;
}

/* ----------------------------------------------------------------- values */

cm_status cm_storage_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_span value, struct cm_err *err)
{
    cm_status rc = enter(st, op, key, false, err);

    if (rc == CM_OK)
        rc = check_value(key, value, err);
    if (rc != CM_OK)
        return rc;
    if (!HAS_OP(st, store))
        return unsupported(st, "store", err);
    return st->ops->store(st, op, key, value, err);
}

cm_status cm_storage_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_buf *ret, struct cm_err *err)
{
    cm_status rc = enter(st, op, key, false, err);
    size_t before;

    if (rc != CM_OK)
        return rc;
    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no buffer given to load '%s' into", key);
    if (!HAS_OP(st, load))
        return unsupported(st, "load", err);
    before = ret->len;
    rc = st->ops->load(st, op, key, ret, err);
    if (rc != CM_OK && ret->len > before) {
        if (ret->secret)
            cm_wipe(ret->data + before, ret->len - before);
        ret->len = before;
        ret->data[before] = 0;
    }
    return rc;
}

cm_status cm_storage_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_err *err)
{
    cm_status rc = enter(st, op, key, false, err);

    if (rc != CM_OK)
        return rc;
    if (!HAS_OP(st, remove))
        return unsupported(st, "remove", err);
    return st->ops->remove(st, op, key, err);
}

cm_status cm_storage_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_key_info *ret, struct cm_err *err)
{
    struct cm_key_info info = { NULL, 0, 0, false };
    cm_status rc = enter(st, op, key, false, err);

    if (rc != CM_OK)
        return rc;
    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "nowhere to put the facts on '%s'", key);
    if (!HAS_OP(st, stat))
        return unsupported(st, "stat", err);
    rc = st->ops->stat(st, op, key, &info, err);
    if (rc == CM_OK) {
        *ret = info;
        ret->key = key;
    }
    return rc;
}

cm_status cm_storage_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                          bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    cm_status rc = enter(st, op, prefix, true, err);

    if (rc != CM_OK)
        return rc;
    if (each == NULL)
        return cm_fail(err, CM_E_INVAL, "no function given to list '%s' with", prefix);
    if (!HAS_OP(st, list))
        return unsupported(st, "list", err);
    return st->ops->list(st, op, prefix, recursive, each, user, err);
}

struct rest {
    const char *after;
    cm_list_fn each;
    void *user;
};

static cm_status rest_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    const struct rest *r = user;

    return cm_key_compare(info->key, r->after) > 0 ? r->each(r->user, info, err) : CM_OK;
}

/* Whether a list of @prefix may show @after. */
static cm_status check_after(const char *prefix, const char *after, bool recursive,
                             struct cm_err *err)
{
    size_t n = prefix[0] != '\0' ? strlen(prefix) + 1 : 0;
    cm_status rc = cm_storage_key_check(after, false, err);

    if (rc == CM_OK && ((n > 0 && (!is_below(after, prefix) || after[n - 1] == '\0')) ||
                        (!recursive && strchr(after + n, '/') != NULL)))
        rc = cm_fail(err, CM_E_INVAL, "a list of '%s' cannot go on after '%s'", prefix, after);
    return rc;
}

cm_status cm_storage_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                                const char *after, bool recursive, cm_list_fn each, void *user,
                                struct cm_err *err)
{
    struct rest rest = { after, each, user };
    cm_status rc;

    if (after == NULL || after[0] == '\0')
        return cm_storage_list(st, op, prefix, recursive, each, user, err);
    rc = enter(st, op, prefix, true, err);
    if (rc == CM_OK)
        rc = check_after(prefix, after, recursive, err);
    if (rc == CM_OK && each == NULL)
        rc = cm_fail(err, CM_E_INVAL, "no function given to list '%s' with", prefix);
    if (rc != CM_OK)
        return rc;
    if (!HAS_OP(st, list_after))
        return cm_storage_list(st, op, prefix, recursive, rest_one, &rest, err);
    return st->ops->list_after(st, op, prefix, after, recursive, each, user, err);
}

bool cm_storage_has_load_many(const struct cm_storage *st)
{
    return st != NULL && st->ops != NULL && HAS_OP(st, load_many);
}

static cm_status load_one_by_one(struct cm_storage *st, const struct cm_op *op,
                                 const char *const *keys, size_t n, cm_load_fn each, void *user,
                                 struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        struct cm_err why = CM_ERR_INIT;
        cm_status got = cm_storage_load(st, op, keys[i], &value, &why);

        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = each(user, i, got, cm_buf_span(&value), &why, err);
        cm_buf_recycle(&value, ONE_BY_ONE_KEEP);
    }
    return rc;
}

cm_status cm_storage_load_many(struct cm_storage *st, const struct cm_op *op,
                               const char *const *keys, size_t n, cm_load_fn each, void *user,
                               struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc == CM_OK && (each == NULL || (keys == NULL && n > 0)))
        rc = cm_fail(err, CM_E_INVAL, "loading many values needs keys and a function");
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = cm_storage_key_check(keys[i], false, err);
    if (rc == CM_OK)
        rc = cm_op_check(op, err);
    if (rc != CM_OK || n == 0)
        return rc;
    if (!HAS_OP(st, load_many))
        return load_one_by_one(st, op, keys, n, each, user, err);
    return st->ops->load_many(st, op, keys, n, each, user, err);
}

/* ------------------------------------------------------------------- feed */

cm_status cm_storage_watch(struct cm_storage *st, cm_change_fn fn, void *user,
                           struct cm_watch **ret, struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc != CM_OK)
        return rc;
    if (fn == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "a watch needs a function and a place for itself");
    if (!HAS_OP(st, watch) || !HAS_OP(st, unwatch))
        return unsupported(st, "telling of changes", err);
    return st->ops->watch(st, fn, user, ret, err);
}

void cm_storage_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    if (watch != NULL && check_table(st, NULL) == CM_OK && HAS_OP(st, unwatch))
        st->ops->unwatch(st, watch);
}

/* ------------------------------------------------------------------ locks */

cm_status cm_storage_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                              int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                              struct cm_err *err)
{
    struct cm_grant grant;
    int64_t wait_ns = 0;
    cm_status rc = check_table(st, err);

    if (rc == CM_OK)
        rc = check_lock_name(name, err);
    if (rc != CM_OK)
        return rc;
    if (ttl_ns <= 0 || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "lock '%s' needs a time to live and a place for the grant",
                       name);
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "lock '%s'", name);
    if (!HAS_OP(st, try_lock) || !HAS_OP(st, unlock))
        return unsupported(st, "locks", err);
    memset(&grant, 0, sizeof grant);
    (void)memccpy(grant.name, name, '\0', sizeof grant.name);
    grant.ttl_ns = ttl_ns;
    rc = st->ops->try_lock(st, op, name, ttl_ns, &grant, &wait_ns, err);
    if (rc == CM_OK)
        *ret = grant;
    else if (rc == CM_E_BUSY && ret_wait_ns != NULL)
        *ret_wait_ns = wait_ns > 0 ? wait_ns : WAIT_DEFAULT_NS;
    return rc;
}

cm_status cm_storage_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                             struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc != CM_OK)
        return rc;
    if (grant == NULL)
        return cm_fail(err, CM_E_INVAL, "no grant given to refresh");
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "refresh of lock '%s'", grant->name);
    if (!HAS_OP(st, refresh))
        return unsupported(st, "refreshing a lock", err);
    return st->ops->refresh(st, op, grant, err);
}

/* No check of @op: the grant's state has to be released whatever happens. */
cm_status cm_storage_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                            struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc != CM_OK)
        return rc;
    if (grant == NULL)
        return cm_fail(err, CM_E_INVAL, "no grant given to unlock");
    if (!HAS_OP(st, unlock))
        return unsupported(st, "locks", err);
    rc = st->ops->unlock(st, op, grant, err);
    grant->state = NULL;
    return rc;
}

void cm_storage_drop(struct cm_storage *st, struct cm_grant *grant)
{
    if (grant == NULL || check_table(st, NULL) != CM_OK)
        return;
    if (HAS_OP(st, drop))
        st->ops->drop(st, grant);
    grant->state = NULL;
}

cm_status cm_storage_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                               struct cm_lock_info *ret, struct cm_err *err)
{
    struct cm_lock_info info = { .size = (uint32_t)sizeof info };
    cm_status rc = check_table(st, err);

    if (rc == CM_OK)
        rc = check_lock_name(name, err);
    if (rc != CM_OK)
        return rc;
    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "nowhere to put what is known of lock '%s'", name);
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "lock '%s'", name);
    if (!HAS_OP(st, lock_info))
        return unsupported(st, "telling who holds a lock", err);
    rc = st->ops->lock_info(st, op, name, &info, err);
    if (rc == CM_OK) {
        info.size = ret->size > 0 && ret->size < sizeof info ? ret->size : (uint32_t)sizeof info;
        memcpy(ret, &info, info.size);
    }
    return rc;
}

static cm_status check_items(const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (items == NULL || n == 0 || n > CM_COMMIT_MAX)
        return cm_fail(err, CM_E_INVAL, "a commit has 1 to %u items, not %zu",
                       (unsigned)CM_COMMIT_MAX, items == NULL ? (size_t)0 : n);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        rc = cm_storage_key_check(items[i].key, false, err);
        if (rc == CM_OK && !items[i].remove)
            rc = check_value(items[i].key, items[i].value, err);
        for (size_t j = 0; j < i && rc == CM_OK; j++)
            if (strcmp(items[i].key, items[j].key) == 0)
                rc = bad_key(items[i].key, "stands twice in one commit", err);
    }
    return rc;
}

cm_status cm_storage_commit(struct cm_storage *st, const struct cm_op *op,
                            const struct cm_grant *grant, const struct cm_commit_item *items,
                            size_t n, struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc == CM_OK)
        rc = check_items(items, n, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "commit of '%s'", items[0].key);
    if (!HAS_OP(st, commit))
        return unsupported(st, "commits", err);
    return st->ops->commit(st, op, grant, items, n, err);
}

cm_status cm_storage_check(struct cm_storage *st, const struct cm_op *op, bool repair,
                           cm_check_fn each, void *user, struct cm_err *err)
{
    cm_status rc = check_table(st, err);

    if (rc == CM_OK && each == NULL)
        rc = cm_fail(err, CM_E_INVAL, "a check needs a function that is told what it finds");
    if (rc == CM_OK)
        rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return rc;
    if (!HAS_OP(st, check))
        return unsupported(st, "being checked", err);
    return st->ops->check(st, op, repair, each, user, err);
}

/* --------------------------------------------------------------- instance */

const char *cm_storage_describe(struct cm_storage *st)
{
    const char *text = NULL;

    if (check_table(st, NULL) != CM_OK)
        return "?";
    if (HAS_OP(st, describe))
        text = st->ops->describe(st);
    if (text == NULL)
        text = st->ops->name;
    return text != NULL ? text : "?";
}

void cm_storage_close(struct cm_storage *st)
{
    if (st != NULL && check_table(st, NULL) == CM_OK && HAS_OP(st, destroy))
        st->ops->destroy(st);
}
