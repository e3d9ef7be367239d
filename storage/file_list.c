/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Lists and recursive removal. Only one directory's names are in memory per level. Directories
 * without values count as absent, since other backends have none; they are not removed as they
 * get empty, because a peer may be about to put a file there. What is no value (the lock files,
 * our own places, links and other oddities) is passed over: one stray must not stop maintenance. */

struct names {
    char **v;
    size_t n;
    size_t cap;
};

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->v[i]);
    free(names->v);
}

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;

    return strcmp(*x, *y);
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static cm_status names_add(struct names *names, const char *name, struct cm_err *err)
{
    if (names->n == names->cap) {
        size_t cap = names->cap > 0 ? names->cap * 2 : 16;
        char **grown = cm_realloc_array(names->v, cap, sizeof *grown);

        if (grown == NULL)
            return cm_fail_nomem(err);
        names->v = grown;
        names->cap = cap;
    }
    names->v[names->n] = cm_strdup(name);
    if (names->v[names->n] == NULL)
        return cm_fail_nomem(err);
    names->n++;
    return CM_OK;
}

DIR *fst_open_stream(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (d == NULL && fd >= 0)
        (void)close(fd);
    return d;
}

static cm_status names_read(int dir, const char *key, struct names *ret, struct cm_err *err)
{
    DIR *d = fst_open_stream(dir);
    const struct dirent *e;
    cm_status rc = CM_OK;

    if (d == NULL)
        return errno == ENOENT ? CM_OK : cm_fail_errno(err, "read storage directory '%s'", key);
    while (rc == CM_OK) {
        errno = 0;
        e = readdir(d);
        if (e == NULL) {
            if (errno != 0 && errno != ENOENT) /* removed meanwhile: then it is empty */
                rc = cm_fail_errno(err, "read storage directory '%s'", key);
            break;
        }
        if (!is_dot(e->d_name))
            rc = names_add(ret, e->d_name, err);
    }
    (void)closedir(d);
    if (rc == CM_OK && ret->n > 1)
        qsort(ret->v, ret->n, sizeof ret->v[0], compare_names);
    return rc;
}

/* "dir/name", or false when that is no key: too long, with control bytes, or not a value's place.
 */
static bool join_key(const char *dir, const char *name, char *out)
{
    size_t a = strlen(dir);
    size_t b = strlen(name);
    size_t sep = a > 0 ? 1 : 0;

    if (a + sep + b > CM_STORAGE_KEY_MAX)
        return false;
    memcpy(out, dir, a);
    if (sep > 0)
        out[a] = '/';
    memcpy(out + a + sep, name, b + 1);
    for (const char *c = name; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            return false;
    return !fst_is_reserved(out);
}

static int open_sub(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* ------------------------------------------------------------------ value? */

static cm_status has_value(int dir, const char *key, unsigned depth, bool *ret, struct cm_err *err)
{
    DIR *d = fst_open_stream(dir);
    const struct dirent *e;
    cm_status rc = CM_OK;

    if (d == NULL)
        return errno == ENOENT ? CM_OK : cm_fail_errno(err, "read storage directory '%s'", key);
    while (rc == CM_OK && !*ret) {
        char sub[CM_STORAGE_KEY_MAX + 1];
        struct stat st;

        errno = 0;
        e = readdir(d);
        if (e == NULL) {
            if (errno != 0 && errno != ENOENT)
                rc = cm_fail_errno(err, "read storage directory '%s'", key);
            break;
        }
        if (is_dot(e->d_name) || !join_key(key, e->d_name, sub))
            continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno != ENOENT)
                rc = cm_fail_errno(err, "look at '%s'", sub);
            continue;
        }
        if (S_ISREG(st.st_mode))
            *ret = true;
        if (S_ISDIR(st.st_mode) && depth < FST_DEPTH_MAX) {
            CM_AUTO_CLOSE int fd = open_sub(dirfd(d), e->d_name);

            /* Taken for empty, a directory that cannot be opened would hide what is in it. */
            if (fd >= 0)
                rc = has_value(fd, sub, depth + 1, ret, err);
            else if (errno != ENOENT)
                rc = cm_fail_errno(err, "open storage directory '%s'", sub);
        }
    }
    (void)closedir(d);
    return rc;
}

cm_status fst_has_value(int dir, const char *key, bool *ret, struct cm_err *err)
{
    *ret = false;
    return has_value(dir, key, 0, ret, err);
}

/* ------------------------------------------------------------------- list */

struct walk {
    const struct cm_op *op;
    const char *after; /* NULL: all */
    bool recursive;
    cm_list_fn each;
    void *user;
};

static cm_status list_dir(const struct walk *w, int dir, const char *key, unsigned depth,
                          struct cm_err *err);

static cm_status list_one(const struct walk *w, int dir, const char *name, const char *key,
                          unsigned depth, struct cm_err *err)
{
    CM_AUTO_CLOSE int sub = -1;
    struct cm_key_info info = { key, 0, 0, true };
    struct stat st;
    bool has = false;
    cm_status rc;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? CM_OK : cm_fail_errno(err, "look at '%s'", key);
    info.modified_ns = fst_ns(st.st_mtim);
    if (S_ISREG(st.st_mode)) {
        if (w->after != NULL && storage_list_skips(w->after, key, false, w->recursive))
            return CM_OK;
        info.size = (uint64_t)st.st_size;
        return w->each(w->user, &info, err);
    }
    if (!S_ISDIR(st.st_mode))
        return CM_OK;
    if (depth >= FST_DEPTH_MAX)
        return cm_fail(err, CM_E_LIMIT, "storage directories are nested too deeply at '%s'", key);
    sub = open_sub(dir, name);
    info.terminal = false;
    /* What we may not enter is there all the same, and whoever loads it is told why. It must not
     * hide what is beside it. */
    if (sub < 0 && errno == EACCES && !w->recursive)
        return w->each(w->user, &info, err);
    if (sub < 0)
        return errno == ENOENT || errno == ELOOP || errno == ENOTDIR
                   ? CM_OK
                   : cm_fail_errno(err, "open storage directory '%s'", key);
    if (w->recursive)
        return list_dir(w, sub, key, depth + 1, err);
    rc = fst_has_value(sub, key, &has, err);
    return rc == CM_OK && has ? w->each(w->user, &info, err) : rc;
}

static cm_status list_dir(const struct walk *w, int dir, const char *key, unsigned depth,
                          struct cm_err *err)
{
    struct names names = { NULL, 0, 0 };
    cm_status rc = names_read(dir, key, &names, err);

    for (size_t i = 0; i < names.n && rc == CM_OK; i++) {
        char sub[CM_STORAGE_KEY_MAX + 1];

        rc = cm_op_check(w->op, err);
        if (rc == CM_OK && join_key(key, names.v[i], sub) &&
            (w->after == NULL || !storage_list_skips(w->after, sub, true, w->recursive)))
            rc = list_one(w, dir, names.v[i], sub, depth, err);
    }
    names_free(&names);
    return rc;
}

cm_status file_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                    bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    return file_list_after(st, op, prefix, NULL, recursive, each, user, err);
}

cm_status file_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                          const char *after, bool recursive, cm_list_fn each, void *user,
                          struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    const struct walk w = { op, after, recursive, each, user };
    CM_AUTO_CLOSE int dir = -1;
    cm_status rc;

    fst_recover(fs, NULL);
    rc = fst_open_dir(fs, prefix, strlen(prefix), false, &dir, err);
    if (rc == CM_E_NOTFOUND || rc == CM_E_EXISTS)
        return CM_OK; /* nothing there, or a value: nothing below it */
    return rc == CM_OK ? list_dir(&w, dir, prefix, 0, err) : rc;
}

/* ----------------------------------------------------------------- remove */

/* Everything below @dir, links as links. Reserved places stay. */
static cm_status empty_dir(const struct cm_op *op, int dir, const char *key, unsigned depth,
                           struct cm_err *err)
{
    struct names names = { NULL, 0, 0 };
    cm_status rc = names_read(dir, key, &names, err);

    if (rc == CM_OK && depth > FST_DEPTH_MAX)
        rc = cm_fail(err, CM_E_LIMIT, "storage directories are nested too deeply at '%s'", key);
    for (size_t i = 0; i < names.n && rc == CM_OK; i++) {
        const char *name = names.v[i];
        char sub[CM_STORAGE_KEY_MAX + 1];
        CM_AUTO_CLOSE int fd = -1;

        rc = cm_op_check(op, err);
        if (rc != CM_OK || !join_key(key, name, sub))
            continue;
        if (fst_sys_unlink(dir, name, 0) == 0 || errno == ENOENT)
            continue;
        fd = errno == EISDIR ? open_sub(dir, name) : -1;
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0) {
            rc = cm_fail_errno(err, "remove '%s'", sub);
            break;
        }
        rc = empty_dir(op, fd, sub, depth + 1, err);
        if (rc == CM_OK && fst_sys_unlink(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT &&
            errno != ENOTEMPTY && errno != EEXIST)
            rc = cm_fail_errno(err, "remove '%s'", sub);
    }
    names_free(&names);
    return rc;
}

cm_status file_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                      struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    CM_AUTO_CLOSE int dir = -1;
    CM_AUTO_CLOSE int sub = -1;
    const char *leaf = NULL;
    cm_status rc;

    fst_recover(fs, NULL);
    rc = fst_open_parent(fs, key, false, &dir, &leaf, err);
    if (rc == CM_E_NOTFOUND || rc == CM_E_EXISTS)
        return CM_OK;
    if (rc != CM_OK)
        return rc;
    if (fst_sys_unlink(dir, leaf, 0) != 0) {
        if (errno == ENOENT)
            return CM_OK;
        sub = errno == EISDIR ? open_sub(dir, leaf) : -1;
        if (sub < 0 && errno == ENOENT)
            return CM_OK;
        if (sub < 0)
            return cm_fail_errno(err, "remove '%s/%s'", fs->path, key);
        rc = empty_dir(op, sub, key, 0, err);
        if (rc != CM_OK)
            return rc;
        /* Somebody who stores there again meanwhile is in his right. */
        if (fst_sys_unlink(dir, leaf, AT_REMOVEDIR) != 0 && errno != ENOENT && errno != ENOTEMPTY &&
            errno != EEXIST)
            return cm_fail_errno(err, "remove '%s/%s'", fs->path, key);
    }
    if (fst_sys_fsync_dir(dir, key) != 0)
        return cm_fail_errno(err, "flush directory of '%s'", key);
    fst_bell_gone(fs, key);
    return CM_OK;
}

static void prune(int dir, const char *leaf, unsigned depth)
{
    CM_AUTO_CLOSE int sub = -1;
    const struct dirent *e;
    DIR *d;

    if (fst_sys_unlink(dir, leaf, AT_REMOVEDIR) == 0 || depth > FST_DEPTH_MAX)
        return;
    sub = open_sub(dir, leaf);
    d = sub >= 0 ? fst_open_stream(sub) : NULL;
    if (d == NULL)
        return;
    while ((e = readdir(d)) != NULL)
        if (!is_dot(e->d_name))
            prune(sub, e->d_name, depth + 1);
    (void)closedir(d);
    (void)fst_sys_unlink(dir, leaf, AT_REMOVEDIR);
}

void fst_prune(int dir, const char *leaf)
{
    prune(dir, leaf, 0);
}
