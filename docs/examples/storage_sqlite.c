/* SPDX-License-Identifier: Apache-2.0 */

/* A storage backend outside of certmesh, complete: values and locks in one SQLite file, for the
 * processes of one host.
 *
 *     cc -shared -fPIC -o storage_sqlite.so storage_sqlite*.c \
 *         $(pkg-config --cflags --libs certmesh sqlite3)
 *     certmesh-storage-test --plugin ./storage_sqlite.so:sqlite_storage_open /tmp/test.db
 *
 * A program hands the result of sqlite_storage_open() to certmesh as storage_object. Worth a look:
 *   - Every change is one transaction that begins with BEGIN IMMEDIATE, so what it checks (who
 *     holds the lock?) still holds when it writes.
 *   - Locks are in storage_sqlite_lock.c.
 *   - Waiting for another writer ends with the operation: see busy(). */

#include "storage_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 200 /* rows of a list at a time: no statement is open while the visitor runs */

static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sqlite_storage *all;

struct sqlite_storage *sq_of(struct cm_storage *st)
{
    return (struct sqlite_storage *)(void *)st;
}

static cm_status nomem(struct cm_err *err)
{
    return cm_fail(err, CM_E_NOMEM, "out of memory");
}

/* -------------------------------------------------------------- connections */

static void conn_close(struct conn *c)
{
    if (c != NULL)
        (void)sqlite3_close_v2(c->db);
    free(c);
}

/* Absence is never an error of SQLite's, so no failure here can be taken for CM_E_NOTFOUND. */
cm_status sq_failed(struct conn *c, const char *what, struct cm_err *err)
{
    int code = sqlite3_errcode(c->db);
    cm_status rc = cm_op_check(c->op, err);

    if (rc != CM_OK) /* that is why SQLite gave up */
        return cm_wrap(err, rc, "%s", what);
    rc = code == SQLITE_NOMEM                             ? CM_E_NOMEM
         : code == SQLITE_READONLY || code == SQLITE_PERM ? CM_E_PERM
         : code == SQLITE_BUSY || code == SQLITE_LOCKED   ? CM_E_BUSY
                                                          : CM_E_IO;
    return cm_fail(err, rc == CM_E_BUSY ? CM_E_IO : rc, "%s: %s", what, sqlite3_errmsg(c->db));
}

/* Another one writes. The wait grows to 20 ms and ends with the operation. */
static int busy(void *user, int n)
{
    const struct conn *c = user;

    return cm_op_wait(c->op, (n < 20 ? n + 1 : 20) * CM_NS_PER_MS, NULL) == CM_OK;
}

/* Now and then during a long statement. */
static int over(void *user)
{
    const struct conn *c = user;

    return cm_op_check(c->op, NULL) != CM_OK;
}

cm_status sq_run(struct conn *c, const char *sql, struct cm_err *err)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? CM_OK : sq_failed(c, sql, err);
}

/* In "path" the '/' of keys is the byte 1, which no key has: so its order is that of lists. */
static const char schema[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON;"
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS value"
    "  (path BLOB PRIMARY KEY, value BLOB NOT NULL, modified INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS lock"
    "  (name TEXT PRIMARY KEY, fence INTEGER NOT NULL, token TEXT, boot TEXT, ttl INTEGER,"
    "   until INTEGER, holder TEXT, since INTEGER, refreshed INTEGER);"
    "COMMIT;";

static cm_status conn_open(struct sqlite_storage *s, const struct cm_op *op, struct conn **ret,
                           struct cm_err *err)
{
    struct conn *c = calloc(1, sizeof *c);
    cm_status rc = CM_OK;

    if (c == NULL)
        return nomem(err);
    c->op = op;
    if (sqlite3_open_v2(s->path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK) {
        rc = cm_fail(err, CM_E_IO, "open '%s': %s", s->path,
                     c->db != NULL ? sqlite3_errmsg(c->db) : "out of memory");
    } else {
        (void)sqlite3_busy_handler(c->db, busy, c);
        sqlite3_progress_handler(c->db, 10000, over, c);
        rc = sq_run(c, schema, err);
    }
    if (rc == CM_OK)
        *ret = c;
    else
        conn_close(c);
    return rc;
}

cm_status sq_take(struct sqlite_storage *s, const struct cm_op *op, struct conn **ret,
                  struct cm_err *err)
{
    (void)pthread_mutex_lock(&s->mutex);
    *ret = s->idle;
    if (*ret != NULL)
        s->idle = (*ret)->next;
    (void)pthread_mutex_unlock(&s->mutex);
    if (*ret == NULL)
        return conn_open(s, op, ret, err);
    (*ret)->op = op;
    return CM_OK;
}

void sq_give_back(struct sqlite_storage *s, struct conn *c)
{
    if (sqlite3_get_autocommit(c->db) == 0)
        (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    c->op = NULL;
    (void)pthread_mutex_lock(&s->mutex);
    c->next = s->idle;
    s->idle = c;
    (void)pthread_mutex_unlock(&s->mutex);
}

static void close_idle_locked(struct sqlite_storage *s)
{
    while (s->idle != NULL) {
        struct conn *c = s->idle;

        s->idle = c->next;
        conn_close(c);
    }
}

/* SQLite's connections must not be inherited by a child. Those that other threads use at the time
 * of a fork() still are: fork while no operation runs. */
static void before_fork(void)
{
    (void)pthread_mutex_lock(&all_mutex);
    for (struct sqlite_storage *s = all; s != NULL; s = s->next) {
        (void)pthread_mutex_lock(&s->mutex);
        close_idle_locked(s);
    }
}

static void after_fork(void)
{
    for (struct sqlite_storage *s = all; s != NULL; s = s->next)
        (void)pthread_mutex_unlock(&s->mutex);
    (void)pthread_mutex_unlock(&all_mutex);
}

static void watch_forks(void)
{
    (void)pthread_atfork(before_fork, after_fork, after_fork);
}

/* --------------------------------------------------------------- statements */

cm_status sq_prepare(struct conn *c, const char *sql, sqlite3_stmt **ret, struct cm_err *err)
{
    return sqlite3_prepare_v2(c->db, sql, -1, ret, NULL) == SQLITE_OK ? CM_OK
                                                                      : sq_failed(c, sql, err);
}

/* Key to path; @out has room for CM_STORAGE_KEY_MAX + 1. Returns the length. */
static size_t path_of(const char *key, char *out)
{
    size_t n = strlen(key);

    for (size_t i = 0; i <= n; i++)
        out[i] = key[i] == '/' ? '\1' : key[i];
    return n;
}

static void bind_path(sqlite3_stmt *q, int at, const char *key)
{
    char path[CM_STORAGE_KEY_MAX + 1];
    size_t n = path_of(key, path);

    (void)sqlite3_bind_blob(q, at, path, (int)n, SQLITE_TRANSIENT);
}

/* From and to of everything below @key: its path and a 1, its path and a 2. */
static void bind_below(sqlite3_stmt *q, int at, const char *key)
{
    char path[CM_STORAGE_KEY_MAX + 2];
    size_t n = path_of(key, path);

    path[n] = '\1';
    (void)sqlite3_bind_blob(q, at, path, (int)(n > 0 ? n + 1 : 0), SQLITE_TRANSIENT);
    path[n] = n > 0 ? '\2' : '\xff';
    (void)sqlite3_bind_blob(q, at + 1, path, (int)n + 1, SQLITE_TRANSIENT);
}

cm_status sq_finish(struct conn *c, sqlite3_stmt *q, bool *ret_row, const char *what,
                    struct cm_err *err)
{
    int got = sqlite3_step(q);
    cm_status rc = got == SQLITE_ROW || got == SQLITE_DONE ? CM_OK : sq_failed(c, what, err);

    if (ret_row != NULL)
        *ret_row = got == SQLITE_ROW;
    (void)sqlite3_finalize(q);
    return rc;
}

/* ------------------------------------------------------------------- values */

static cm_status exists(struct conn *c, const char *sql, const char *key, bool below, bool *ret,
                        struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    cm_status rc = sq_prepare(c, sql, &q, err);

    if (rc != CM_OK)
        return rc;
    if (below)
        bind_below(q, 1, key);
    else
        bind_path(q, 1, key);
    return sq_finish(c, q, ret, key, err);
}

/* One name is a value or a directory, as in a tree of files. */
static cm_status check_place(struct conn *c, const char *key, struct cm_err *err)
{
    char part[CM_STORAGE_KEY_MAX + 1];
    bool there = false;
    cm_status rc = exists(c, "SELECT 1 FROM value WHERE path > ? AND path < ? LIMIT 1", key, true,
                          &there, err);

    if (rc == CM_OK && there)
        return cm_fail(err, CM_E_EXISTS, "cannot store '%s': it is a directory", key);
    for (const char *at = strchr(key, '/'); rc == CM_OK && at != NULL; at = strchr(at + 1, '/')) {
        (void)snprintf(part, sizeof part, "%.*s", (int)(at - key), key);
        rc = exists(c, "SELECT 1 FROM value WHERE path = ?", part, false, &there, err);
        if (rc == CM_OK && there)
            return cm_fail(err, CM_E_EXISTS, "cannot store '%s': '%s' is a value", key, part);
    }
    return rc;
}

static cm_status put_value(struct sqlite_storage *s, struct conn *c, const char *key,
                           struct cm_span value, struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    cm_status rc = check_place(c, key, err);

    if (rc == CM_OK)
        rc = sq_prepare(c, "INSERT OR REPLACE INTO value VALUES (?, ?, ?)", &q, err);
    if (rc != CM_OK)
        return rc;
    bind_path(q, 1, key);
    (void)sqlite3_bind_blob(q, 2, value.len > 0 ? (const void *)value.data : "", (int)value.len,
                            SQLITE_STATIC);
    (void)sqlite3_bind_int64(q, 3, s->env->wall_ns(s->env));
    return sq_finish(c, q, NULL, key, err);
}

static cm_status drop_value(struct conn *c, const char *key, struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    cm_status rc = sq_prepare(c, "DELETE FROM value WHERE path = ?", &q, err);

    if (rc != CM_OK)
        return rc;
    bind_path(q, 1, key);
    return sq_finish(c, q, NULL, key, err);
}

static cm_status sq_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                         struct cm_buf *ret, struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    struct conn *c = NULL;
    cm_status rc = sq_take(sq_of(st), op, &c, err);

    if (rc != CM_OK)
        return rc;
    rc = sq_prepare(c, "SELECT value FROM value WHERE path = ?", &q, err);
    if (rc == CM_OK) {
        int got;

        bind_path(q, 1, key);
        got = sqlite3_step(q);
        if (got == SQLITE_ROW)
            rc = cm_buf_append(ret, sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0),
                               err);
        else if (got == SQLITE_DONE)
            rc = cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
        else
            rc = sq_failed(c, key, err);
        (void)sqlite3_finalize(q);
    }
    sq_give_back(sq_of(st), c);
    return rc;
}

static cm_status sq_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    struct conn *c = NULL;
    cm_status rc = sq_take(sq_of(st), op, &c, err);

    if (rc != CM_OK)
        return rc;
    rc = sq_prepare(c, "DELETE FROM value WHERE path = ?1 OR (path > ?2 AND path < ?3)", &q, err);
    if (rc == CM_OK) {
        bind_path(q, 1, key);
        bind_below(q, 2, key);
        rc = sq_finish(c, q, NULL, key, err);
    }
    sq_give_back(sq_of(st), c);
    return rc;
}

/* The first value at or below @key, or below it only: enough for stat and for lists. */
struct row {
    char key[CM_STORAGE_KEY_MAX + 1];
    int64_t modified_ns;
    uint64_t size;
};

static void row_read(sqlite3_stmt *q, struct row *ret)
{
    const char *path = sqlite3_column_blob(q, 0);
    int n = sqlite3_column_bytes(q, 0);

    for (int i = 0; i < n && i < (int)CM_STORAGE_KEY_MAX; i++)
        ret->key[i] = path[i] == '\1' ? '/' : path[i];
    ret->key[n < (int)CM_STORAGE_KEY_MAX ? n : (int)CM_STORAGE_KEY_MAX] = '\0';
    ret->size = (uint64_t)sqlite3_column_int64(q, 1);
    ret->modified_ns = sqlite3_column_int64(q, 2);
}

static cm_status sq_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                         struct cm_key_info *ret, struct cm_err *err)
{
    sqlite3_stmt *q = NULL;
    struct conn *c = NULL;
    struct row row;
    cm_status rc = sq_take(sq_of(st), op, &c, err);

    if (rc != CM_OK)
        return rc;
    rc = sq_prepare(c,
                    "SELECT path, length(value), modified FROM value WHERE path = ?1 OR "
                    "(path > ?2 AND path < ?3) ORDER BY path LIMIT 1",
                    &q, err);
    if (rc == CM_OK) {
        int got;

        bind_path(q, 1, key);
        bind_below(q, 2, key);
        got = sqlite3_step(q);
        if (got == SQLITE_ROW) {
            row_read(q, &row);
            ret->terminal = strcmp(row.key, key) == 0;
            ret->size = ret->terminal ? row.size : 0;
            ret->modified_ns = row.modified_ns;
        } else {
            rc = got == SQLITE_DONE ? cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key)
                                    : sq_failed(c, key, err);
        }
        (void)sqlite3_finalize(q);
    }
    sq_give_back(sq_of(st), c);
    return rc;
}

/* -------------------------------------------------------------------- lists */

/* Up to @max rows below @prefix that come after @after: a key, or with @skip everything below it.
 */
static cm_status page(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                      const char *after, bool skip, struct row *rows, int max, int *ret_n,
                      struct cm_err *err)
{
    char from[CM_STORAGE_KEY_MAX + 2];
    sqlite3_stmt *q = NULL;
    struct conn *c = NULL;
    int got = SQLITE_DONE;
    cm_status rc = sq_take(sq_of(st), op, &c, err);

    *ret_n = 0;
    if (rc != CM_OK)
        return rc;
    rc = sq_prepare(c,
                    "SELECT path, length(value), modified FROM value WHERE path > ?1 AND path < ?2 "
                    "AND path > ?3 ORDER BY path LIMIT ?4",
                    &q, err);
    if (rc == CM_OK) {
        size_t n = path_of(after, from);

        bind_below(q, 1, prefix);
        if (skip)
            from[n++] = '\2';
        (void)sqlite3_bind_blob(q, 3, from, (int)n, SQLITE_TRANSIENT);
        (void)sqlite3_bind_int(q, 4, max);
        while ((got = sqlite3_step(q)) == SQLITE_ROW)
            row_read(q, &rows[(*ret_n)++]);
        if (got != SQLITE_DONE)
            rc = sq_failed(c, prefix, err);
        (void)sqlite3_finalize(q);
    }
    sq_give_back(sq_of(st), c);
    return rc;
}

static cm_status sq_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                         bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    struct row *rows = calloc(PAGE, sizeof *rows);
    char last[CM_STORAGE_KEY_MAX + 1] = "";
    size_t skip_len = prefix[0] != '\0' ? strlen(prefix) + 1 : 0;
    bool is_dir = false;
    cm_status rc = rows != NULL ? CM_OK : nomem(err);
    int n = PAGE;

    while (rc == CM_OK && n > 0) {
        /* direct children: one at a time, since a directory is left at once */
        rc = page(st, op, prefix, last, is_dir, rows, recursive ? PAGE : 1, &n, err);
        for (int i = 0; i < n && rc == CM_OK; i++) {
            char *slash = recursive ? NULL : strchr(rows[i].key + skip_len, '/');
            struct cm_key_info info = { rows[i].key, rows[i].modified_ns, rows[i].size, true };

            is_dir = slash != NULL;
            if (is_dir) {
                *slash = '\0';
                info.size = 0;
                info.terminal = false;
            }
            memcpy(last, rows[i].key, sizeof last);
            rc = cm_op_check(op, err);
            if (rc == CM_OK)
                rc = each(user, &info, err);
        }
    }
    free(rows);
    return rc;
}

/* ------------------------------------------------------------------- commit */

static cm_status sq_commit(struct cm_storage *st, const struct cm_op *op,
                           const struct cm_grant *grant, const struct cm_commit_item *items,
                           size_t n, struct cm_err *err)
{
    struct conn *c = NULL;
    cm_status rc = sq_take(sq_of(st), op, &c, err);

    if (rc != CM_OK)
        return rc;
    rc = sq_run(c, "BEGIN IMMEDIATE", err);
    if (rc == CM_OK && grant != NULL)
        rc = sq_check_grant(c, grant, err);
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = items[i].remove ? drop_value(c, items[i].key, err)
                             : put_value(sq_of(st), c, items[i].key, items[i].value, err);
    if (rc == CM_OK)
        rc = sq_run(c, "COMMIT", err);
    sq_give_back(sq_of(st), c); /* rolls back what did not get that far */
    return rc;
}

static cm_status sq_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                          struct cm_span value, struct cm_err *err)
{
    const struct cm_commit_item item = { .key = key, .value = value };

    return sq_commit(st, op, NULL, &item, 1, err);
}

/* ----------------------------------------------------------------- instance */

static const char *sq_describe(struct cm_storage *st)
{
    return sq_of(st)->url;
}

static void sq_destroy(struct cm_storage *st)
{
    struct sqlite_storage *s = sq_of(st);

    (void)pthread_mutex_lock(&all_mutex);
    for (struct sqlite_storage **p = &all; *p != NULL; p = &(*p)->next)
        if (*p == s) {
            *p = s->next;
            break;
        }
    (void)pthread_mutex_unlock(&all_mutex);
    close_idle_locked(s);
    (void)pthread_mutex_destroy(&s->mutex);
    free(s->path);
    free(s->url);
    free(s);
}

static const struct cm_storage_ops sqlite_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "sqlite",
    .store = sq_store,
    .load = sq_load,
    .remove = sq_remove,
    .stat = sq_stat,
    .list = sq_list,
    .try_lock = sq_try_lock,
    .refresh = sq_refresh,
    .unlock = sq_unlock,
    .commit = sq_commit,
    .describe = sq_describe,
    .destroy = sq_destroy,
    .lock_info = sq_lock_info,
};

static void read_boot(char out[BOOT_LEN])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, BOOT_LEN - 1) : -1;

    if (fd >= 0)
        (void)close(fd);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

cm_status sqlite_storage_open(const char *url, const struct cm_storage_open_options *opts,
                              struct cm_storage **ret, struct cm_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *path = strncmp(url, "sqlite:", 7) == 0 ? url + 7 : url;
    struct sqlite_storage *s = calloc(1, sizeof *s);
    size_t url_size = strlen(path) + sizeof "sqlite:";
    struct conn *c = NULL;
    cm_status rc = CM_OK;
    int fd;

    if (s == NULL)
        return nomem(err);
    s->base.ops = &sqlite_ops;
    s->env = opts != NULL && opts->env != NULL ? opts->env : cm_env_system();
    (void)pthread_mutex_init(&s->mutex, NULL);
    (void)pthread_once(&once, watch_forks);
    read_boot(s->boot);
    s->path = strdup(path);
    s->url = malloc(url_size);
    if (s->path == NULL || s->url == NULL)
        rc = nomem(err);
    if (rc == CM_OK) {
        (void)snprintf(s->url, url_size, "sqlite:%s", path);
        /* there are keys in it: for the owner alone from the start; its WAL takes after it */
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            rc = cm_fail(err, errno == EACCES ? CM_E_PERM : CM_E_IO, "open '%s': %s", path,
                         strerror(errno));
        else
            (void)close(fd);
    }
    (void)pthread_mutex_lock(&all_mutex);
    s->next = all;
    all = s;
    (void)pthread_mutex_unlock(&all_mutex);
    if (rc == CM_OK)
        rc = sq_take(s, NULL, &c, err);
    if (rc != CM_OK) {
        sq_destroy(&s->base);
        return rc;
    }
    sq_give_back(s, c);
    *ret = &s->base;
    return CM_OK;
}
