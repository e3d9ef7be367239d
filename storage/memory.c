/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <stdio.h>
#include <string.h>

/* The storage contract without a disk: for tests, for programs that keep nothing, and as the
 * plainest example of a backend. One mutex per store; it is never held during a callback. */

#define MEMORY_PAGE       128u         /* keys that a list copies at a time */
#define MEMORY_VALUE_KEEP (64u * 1024) /* bytes kept from one value to the next */

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct memory_store *registry;

struct memory_store *memory_store_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct memory_storage, base)->store;
}

/* ----------------------------------------------------------------- entries */

/* First entry that is not before @key. */
static size_t position_locked(const struct memory_store *s, const char *key)
{
    size_t lo = 0;
    size_t hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (cm_key_compare(s->entries[mid].key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_below(const char *key, const char *dir)
{
    size_t n = strlen(dir);

    return n == 0 || (strncmp(key, dir, n) == 0 && key[n] == '/');
}

static struct memory_entry *find_locked(struct memory_store *s, const char *key)
{
    size_t at = position_locked(s, key);

    return at < s->n && strcmp(s->entries[at].key, key) == 0 ? &s->entries[at] : NULL;
}

static bool has_below_locked(struct memory_store *s, const char *dir)
{
    size_t at = position_locked(s, dir);

    if (at < s->n && strcmp(s->entries[at].key, dir) == 0)
        at++;
    return at < s->n && is_below(s->entries[at].key, dir);
}

static void entry_clear(struct memory_entry *e)
{
    if (e->value != NULL)
        cm_wipe(e->value, e->len);
    free(e->value);
    free(e->key);
    memset(e, 0, sizeof *e);
}

static cm_status entry_make(const char *key, struct cm_span value, int64_t now_ns,
                            struct memory_entry *ret, struct cm_err *err)
{
    struct memory_entry e = { cm_strdup(key), cm_calloc(1, value.len + 1), value.len, now_ns };

    if (e.key == NULL || e.value == NULL) {
        entry_clear(&e);
        return cm_fail_nomem(err);
    }
    if (value.len > 0)
        memcpy(e.value, value.data, value.len);
    *ret = e;
    return CM_OK;
}

static cm_status room_locked(struct memory_store *s, size_t extra, struct cm_err *err)
{
    size_t cap = s->cap * 2 > s->n + extra ? s->cap * 2 : s->n + extra;
    struct memory_entry *grown;

    if (s->n + extra <= s->cap)
        return CM_OK;
    grown = cm_realloc_array(s->entries, cap, sizeof *grown);
    if (grown == NULL)
        return cm_fail_nomem(err);
    s->entries = grown;
    s->cap = cap;
    return CM_OK;
}

/* Takes @e over. There is room. */
static void put_locked(struct memory_store *s, struct memory_entry e)
{
    size_t at = position_locked(s, e.key);

    if (at < s->n && strcmp(s->entries[at].key, e.key) == 0) {
        entry_clear(&s->entries[at]);
    } else {
        if (at < s->n)
            memmove(&s->entries[at + 1], &s->entries[at], (s->n - at) * sizeof e);
        s->n++;
    }
    s->entries[at] = e;
}

static void cut_locked(struct memory_store *s, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        entry_clear(&s->entries[i]);
    if (to > from && to < s->n)
        memmove(&s->entries[from], &s->entries[to], (s->n - to) * sizeof s->entries[0]);
    s->n -= to - from;
}

static void remove_locked(struct memory_store *s, const char *key)
{
    size_t from = position_locked(s, key);
    size_t to = from;

    while (to < s->n && (strcmp(s->entries[to].key, key) == 0 || is_below(s->entries[to].key, key)))
        to++;
    cut_locked(s, from, to);
}

static void drop_value_locked(struct memory_store *s, const char *key)
{
    const struct memory_entry *e = find_locked(s, key);

    if (e != NULL)
        cut_locked(s, (size_t)(e - s->entries), (size_t)(e - s->entries) + 1);
}

/* A tree has either a value or a directory under one name; so has this, like the file backend. */
static cm_status check_place_locked(struct memory_store *s, const char *key, struct cm_err *err)
{
    char part[CM_STORAGE_KEY_MAX + 1];

    if (has_below_locked(s, key))
        return cm_fail(err, CM_E_EXISTS, "cannot store '%s': it is a directory", key);
    for (const char *c = strchr(key, '/'); c != NULL; c = strchr(c + 1, '/')) {
        memcpy(part, key, (size_t)(c - key));
        part[c - key] = '\0';
        if (find_locked(s, part) != NULL)
            return cm_fail(err, CM_E_EXISTS, "cannot store '%s': '%s' is a value", key, part);
    }
    return CM_OK;
}

static cm_status memory_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_span value, struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    struct memory_entry e;
    cm_status rc = entry_make(key, value, s->env->wall_ns(s->env), &e, err);

    (void)op;
    if (rc != CM_OK)
        return rc;
    cm_mutex_lock(&s->mutex);
    rc = check_place_locked(s, key, err);
    if (rc == CM_OK)
        rc = room_locked(s, 1, err);
    if (rc == CM_OK)
        put_locked(s, e);
    cm_mutex_unlock(&s->mutex);
    if (rc != CM_OK)
        entry_clear(&e);
    else
        feed_tell(&s->feed, CM_CHANGE_VALUE, key);
    return rc;
}

static cm_status not_found(const char *key, struct cm_err *err)
{
    return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
}

static cm_status memory_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_buf *ret, struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    const struct memory_entry *e;
    cm_status rc;

    (void)op;
    cm_mutex_lock(&s->mutex);
    e = find_locked(s, key);
    if (e == NULL)
        rc = not_found(key, err);
    else
        rc = cm_buf_append(ret, e->value, e->len, err);
    cm_mutex_unlock(&s->mutex);
    if (rc == CM_E_LIMIT)
        return cm_wrap(err, rc, "value at '%s'", key);
    return rc;
}

static cm_status memory_load_many(struct cm_storage *st, const struct cm_op *op,
                                  const char *const *keys, size_t n, cm_load_fn each, void *user,
                                  struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        struct cm_err why = CM_ERR_INIT;
        cm_status got;

        rc = cm_op_check(op, err);
        if (rc != CM_OK)
            break;
        got = memory_load(st, op, keys[i], &value, &why);
        rc = each(user, i, got, cm_buf_span(&value), &why, err);
        cm_buf_recycle(&value, MEMORY_VALUE_KEEP);
    }
    return rc;
}

static cm_status memory_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                               struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);

    (void)op;
    (void)err;
    cm_mutex_lock(&s->mutex);
    remove_locked(s, key);
    cm_mutex_unlock(&s->mutex);
    feed_tell(&s->feed, CM_CHANGE_VALUE, key);
    return CM_OK;
}

static cm_status memory_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_key_info *ret, struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    const struct memory_entry *e;
    cm_status rc = CM_OK;

    (void)op;
    cm_mutex_lock(&s->mutex);
    e = find_locked(s, key);
    if (e != NULL) {
        ret->modified_ns = e->modified_ns;
        ret->size = e->len;
        ret->terminal = true;
    } else if (has_below_locked(s, key)) {
        ret->modified_ns = s->entries[position_locked(s, key)].modified_ns;
        ret->size = 0;
        ret->terminal = false;
    } else {
        rc = not_found(key, err);
    }
    cm_mutex_unlock(&s->mutex);
    return rc;
}

/* ------------------------------------------------------------------- list */

/* Copied page by page, so that the function may change the store, and memory stays bounded however
 * many keys there are. */
struct page {
    struct cm_key_info infos[MEMORY_PAGE]; /* keys owned */
    size_t n;
    bool last;
};

static void page_clear(struct page *p)
{
    for (size_t i = 0; i < p->n; i++)
        free((char *)(uintptr_t)p->infos[i].key);
    p->n = 0;
}

/* First entry behind @key; @subtree: and behind all that is below it. */
static size_t position_behind_locked(const struct memory_store *s, const char *key, bool subtree)
{
    size_t lo = 0;
    size_t hi = s->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const char *at = s->entries[mid].key;

        if (cm_key_compare(at, key) <= 0 || (subtree && is_below(at, key)))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* What a list of @prefix shows of the entry at @at; *ret_next is where the next thing begins. */
static cm_status show_locked(const struct memory_store *s, size_t at, size_t skip, bool recursive,
                             struct cm_key_info *ret, size_t *ret_next, struct cm_err *err)
{
    const struct memory_entry *e = &s->entries[at];
    const char *slash = recursive ? NULL : strchr(e->key + skip, '/');

    ret->key = slash != NULL ? cm_strndup(e->key, (size_t)(slash - e->key)) : cm_strdup(e->key);
    if (ret->key == NULL)
        return cm_fail_nomem(err);
    ret->modified_ns = e->modified_ns;
    ret->size = slash != NULL ? 0 : e->len;
    ret->terminal = slash == NULL;
    *ret_next = slash != NULL ? position_behind_locked(s, ret->key, true) : at + 1;
    return CM_OK;
}

/* The page of what comes behind @after ("": from the beginning). */
static cm_status page_read_locked(const struct memory_store *s, const char *prefix, bool recursive,
                                  const char *after, struct page *ret, struct cm_err *err)
{
    size_t skip = prefix[0] == '\0' ? 0 : strlen(prefix) + 1;
    size_t at = after[0] == '\0' ? position_locked(s, prefix)
                                 : position_behind_locked(s, after, !recursive);
    cm_status rc = CM_OK;

    if (at < s->n && strcmp(s->entries[at].key, prefix) == 0)
        at++;
    while (rc == CM_OK && ret->n < MEMORY_PAGE && at < s->n &&
           is_below(s->entries[at].key, prefix)) {
        rc = show_locked(s, at, skip, recursive, &ret->infos[ret->n], &at, err);
        if (rc == CM_OK)
            ret->n++;
    }
    ret->last = rc != CM_OK || ret->n < MEMORY_PAGE;
    return rc;
}

static cm_status memory_list_after(struct cm_storage *st, const struct cm_op *op,
                                   const char *prefix, const char *begin, bool recursive,
                                   cm_list_fn each, void *user, struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    CM_AUTO_FREE struct page *p = cm_calloc(1, sizeof *p);
    char after[CM_STORAGE_KEY_MAX + 1];
    cm_status rc = CM_OK;

    if (p == NULL)
        return cm_fail_nomem(err);
    (void)snprintf(after, sizeof after, "%s", begin);
    while (rc == CM_OK && !p->last) {
        cm_mutex_lock(&s->mutex);
        rc = page_read_locked(s, prefix, recursive, after, p, err);
        cm_mutex_unlock(&s->mutex);
        for (size_t i = 0; i < p->n && rc == CM_OK; i++) {
            rc = cm_op_check(op, err);
            if (rc == CM_OK)
                rc = each(user, &p->infos[i], err);
        }
        if (p->n > 0)
            (void)memccpy(after, p->infos[p->n - 1].key, '\0', sizeof after);
        page_clear(p);
    }
    return rc;
}

static cm_status memory_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                             bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    return memory_list_after(st, op, prefix, "", recursive, each, user, err);
}

/* ----------------------------------------------------------------- commit */

/* Everything that can fail is done before the first change. */
static cm_status commit_locked(struct memory_store *s, const struct cm_commit_item *items, size_t n,
                               struct memory_entry *made, struct cm_err *err)
{
    cm_status rc = room_locked(s, n, err);

    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        if (items[i].remove)
            continue;
        rc = check_place_locked(s, items[i].key, err);
        if (rc == CM_OK)
            rc = entry_make(items[i].key, items[i].value, s->env->wall_ns(s->env), &made[i], err);
    }
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        if (items[i].remove)
            drop_value_locked(s, items[i].key);
        else
            put_locked(s, made[i]);
    }
    for (size_t i = 0; i < n && rc != CM_OK; i++)
        entry_clear(&made[i]);
    return rc;
}

static cm_status memory_commit(struct cm_storage *st, const struct cm_op *op,
                               const struct cm_grant *grant, const struct cm_commit_item *items,
                               size_t n, struct cm_err *err)
{
    struct memory_store *s = memory_store_of(st);
    struct memory_entry *made = cm_calloc(n, sizeof *made);
    cm_status rc = CM_OK;

    (void)op;
    if (made == NULL)
        return cm_fail_nomem(err);
    cm_mutex_lock(&s->mutex);
    if (grant != NULL && memory_held_locked(s, grant) == NULL)
        rc = memory_lost(grant, err);
    else
        rc = commit_locked(s, items, n, made, err);
    cm_mutex_unlock(&s->mutex);
    free(made);
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        feed_tell(&s->feed, CM_CHANGE_VALUE, items[i].key);
    return rc;
}

/* ------------------------------------------------------------------- feed */

static cm_status memory_watch(struct cm_storage *st, cm_change_fn fn, void *user,
                              struct cm_watch **ret, struct cm_err *err)
{
    return feed_watch(&memory_store_of(st)->feed, fn, user, ret, err);
}

static void memory_unwatch(struct cm_storage *st, struct cm_watch *watch)
{
    feed_unwatch(&memory_store_of(st)->feed, watch);
}

/* --------------------------------------------------------------- instance */

static void store_free(struct memory_store *s)
{
    for (size_t i = 0; i < s->n; i++)
        entry_clear(&s->entries[i]);
    free(s->entries);
    memory_locks_free(s);
    feed_end(&s->feed);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s->name);
    free(s);
}

static struct memory_store *store_get_locked(const char *name, const struct cm_env *env)
{
    struct memory_store *s = registry;

    while (s != NULL && (name[0] == '\0' || strcmp(s->name, name) != 0))
        s = s->next;
    if (s != NULL) {
        s->handles++;
        return s;
    }
    s = cm_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->name = cm_strdup(name);
    if (s->name == NULL) {
        free(s);
        return NULL;
    }
    cm_mutex_init(&s->mutex);
    feed_init(&s->feed);
    s->env = env != NULL ? env : cm_env_system();
    s->handles = 1;
    if (name[0] != '\0') {
        s->next = registry;
        registry = s;
    }
    return s;
}

static void store_put(struct memory_store *s)
{
    bool last;

    cm_mutex_lock(&registry_mutex);
    last = --s->handles == 0;
    if (last)
        for (struct memory_store **p = &registry; *p != NULL; p = &(*p)->next)
            if (*p == s) {
                *p = s->next;
                break;
            }
    cm_mutex_unlock(&registry_mutex);
    if (last)
        store_free(s);
}

static const char *memory_describe(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct memory_storage, base)->url;
}

static void memory_destroy(struct cm_storage *st)
{
    struct memory_storage *m = CM_CONTAINER_OF(st, struct memory_storage, base);

    store_put(m->store);
    free(m->url);
    free(m);
}

static const struct cm_storage_ops memory_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "memory",
    .store = memory_store,
    .load = memory_load,
    .remove = memory_remove,
    .stat = memory_stat,
    .list = memory_list,
    .list_after = memory_list_after,
    .try_lock = memory_try_lock,
    .refresh = memory_refresh,
    .unlock = memory_unlock,
    .commit = memory_commit,
    .describe = memory_describe,
    .destroy = memory_destroy,
    .lock_info = memory_lock_info,
    .watch = memory_watch,
    .unwatch = memory_unwatch,
    .load_many = memory_load_many,
};

cm_status cm_storage_memory_open(const char *name, const struct cm_storage_open_options *opts,
                                 struct cm_storage **ret, struct cm_err *err)
{
    struct memory_storage *m = cm_calloc(1, sizeof *m);

    if (m == NULL)
        return cm_fail_nomem(err);
    m->base.ops = &memory_ops;
    m->url = cm_asprintf("memory:%s", name);
    if (m->url != NULL) {
        cm_mutex_lock(&registry_mutex);
        m->store = store_get_locked(name, opts != NULL ? opts->env : NULL);
        cm_mutex_unlock(&registry_mutex);
    }
    if (m->store == NULL) {
        free(m->url);
        free(m);
        return cm_fail_nomem(err);
    }
    *ret = &m->base;
    return CM_OK;
}
