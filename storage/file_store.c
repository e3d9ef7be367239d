/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Single values: write aside, flush, rename, flush the directory. Without the first flush a crash
 * can leave the new name on an empty file: the key of a certificate the CA has already issued
 * would be gone. Without the second the rename may not survive. */

#define PLACE_TRIES    16
#define SWEEP_EVERY_NS (6 * 3600 * CM_NS_PER_S)
#define SWEEP_AGE_NS   (6 * 3600 * CM_NS_PER_S)

/* Process, count and randomness: unique among threads, processes and hosts, also when a test lends
 * several nodes the same seed. */
cm_status fst_temp_name(struct file_storage *fs, const char *what, const char *about, char *out,
                        struct cm_err *err)
{
    static _Atomic unsigned count;
    char random[17];
    cm_status rc = cm_random_hex(fs->env, 8, random, err);

    if (rc != CM_OK)
        return rc;
    int n = snprintf(out, FST_NAME_MAX, "%.8s-%ld-%u-%s", what, (long)getpid(),
                     atomic_fetch_add(&count, 1), random);
    if (about != NULL)
        fst_bell_name(out, (size_t)n, fs->name_max, what, about);
    return CM_OK;
}

static cm_status fill_temp(int fd, const char *name, struct cm_span value, const char *key,
                           const struct cm_op *op, struct stat *ret_st, struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (fst_sys_write(fd, value, name) != 0)
        return cm_fail_errno(err, "write new value for '%s'", key);
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "store '%s'", key);
    if (fst_sys_fsync(fd, name) != 0)
        return cm_fail_errno(err, "flush new value for '%s'", key);
    if (ret_st != NULL && fstat(fd, ret_st) != 0)
        return cm_fail_errno(err, "look at new value for '%s'", key);
    return CM_OK;
}

cm_status fst_write_temp(int tmp_dir, const char *name, struct cm_span value, const char *key,
                         const struct cm_op *op, struct stat *ret_st, struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = -1;
    cm_status rc;

    if (fst_sys_create(tmp_dir, name, &fd) != 0)
        return cm_fail_errno(err, "create a file in '" FST_TMP_DIR "' for '%s'", key);
    rc = fill_temp(fd, name, value, key, op, ret_st, err);
    if (rc == CM_OK && fst_sys_close(&fd, name) != 0)
        rc = cm_fail_errno(err, "close new value for '%s'", key);
    if (rc != CM_OK)
        (void)fst_sys_unlink(tmp_dir, name, 0); /* the sweep takes what stays */
    return rc;
}

/* A value replaces a value, whatever mode or links that has: rename leaves the old file alone. But
 * what is no file was put there by somebody who expects us to follow it. */
static cm_status check_target(struct file_storage *fs, int dir, const char *leaf, const char *key,
                              struct cm_err *err)
{
    struct stat st;

    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return CM_OK; /* absent; anything else the rename will tell */
    if (S_ISDIR(st.st_mode)) {
        fst_prune(dir, leaf);
        if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return cm_fail(err, CM_E_EXISTS, "cannot store '%s': it is a directory", key);
        return CM_OK;
    }
    if (!S_ISREG(st.st_mode))
        return cm_fail(err, CM_E_PERM, "'%s/%s' is %s where a regular file should be: remove it",
                       fs->path, key, fst_type_name(st.st_mode));
    return CM_OK;
}

cm_status fst_place(struct file_storage *fs, int tmp_dir, const char *tmp, const char *key,
                    int *ret_dir, struct cm_err *err)
{
    const char *leaf = NULL;
    cm_status rc = CM_OK;

    /* A peer's clean-up may remove the directory that we have just found or made. */
    for (int try = 0; try < PLACE_TRIES; try++) {
        CM_AUTO_CLOSE int dir = -1;

        rc = fst_open_parent(fs, key, true, &dir, &leaf, err);
        if (rc == CM_E_NOTFOUND)
            continue;
        if (rc == CM_OK)
            rc = check_target(fs, dir, leaf, key, err);
        if (rc != CM_OK)
            return rc;
        if (fst_sys_rename(tmp_dir, tmp, dir, leaf) == 0) {
            *ret_dir = dir;
            dir = -1;
            return CM_OK;
        }
        if (errno == EXDEV)
            return cm_fail(err, CM_E_IO,
                           "cannot store '%s': its directory is on another file system than "
                           "'%s/" FST_TMP_DIR "'; the whole storage must be on one",
                           key, fs->path);
        rc = cm_fail_errno(err, "rename new value to '%s/%s'", fs->path, key);
        if (rc != CM_E_NOTFOUND)
            return rc;
    }
    return cm_wrap(err, CM_E_IO, "store '%s'", key);
}

cm_status file_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                     struct cm_span value, struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    CM_AUTO_CLOSE int tmp_dir = -1;
    CM_AUTO_CLOSE int dir = -1;
    char tmp[FST_NAME_MAX];
    cm_status rc;

    fst_recover(fs, NULL);
    fst_sweep_if_due(fs);
    rc = fst_temp_name(fs, FST_BELL_NEW, key, tmp, err);
    if (rc == CM_OK)
        rc = fst_open_dir(fs, FST_TMP_DIR, strlen(FST_TMP_DIR), true, &tmp_dir, err);
    if (rc == CM_OK)
        rc = fst_write_temp(tmp_dir, tmp, value, key, op, NULL, err);
    if (rc != CM_OK)
        return rc == CM_E_NOTFOUND ? cm_wrap(err, CM_E_IO, "store '%s'", key) : rc;
    rc = fst_place(fs, tmp_dir, tmp, key, &dir, err);
    if (rc != CM_OK)
        (void)fst_sys_unlink(tmp_dir, tmp, 0);
    else if (fst_sys_fsync_dir(dir, key) != 0)
        rc = cm_fail_errno(err, "flush directory of '%s'", key);
    return rc == CM_E_NOTFOUND ? cm_wrap(err, CM_E_IO, "store '%s'", key) : rc;
}

/* ------------------------------------------------------------------- read */

static cm_status not_found(const char *key, struct cm_err *err)
{
    return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
}

/* The directory of a key that shall exist. */
static cm_status find_parent(struct file_storage *fs, const char *key, int *ret_dir,
                             const char **ret_leaf, struct cm_err *err)
{
    cm_status rc = fst_open_parent(fs, key, false, ret_dir, ret_leaf, err);

    /* Absent, or a value where the directory would be: either way there is nothing at @key. */
    return rc == CM_E_NOTFOUND || rc == CM_E_EXISTS ? not_found(key, err) : rc;
}

cm_status fst_read_value(int fd, const struct stat *st, const char *key, struct cm_buf *ret,
                         struct cm_err *err)
{
    size_t max =
        ret->max - ret->len < CM_STORAGE_VALUE_MAX ? ret->max - ret->len : CM_STORAGE_VALUE_MAX;
    size_t size;
    size_t len = 0;
    cm_status rc;

    if (st->st_size < 0 || (uint64_t)st->st_size > max)
        return cm_fail(err, CM_E_LIMIT,
                       "the value at '%s' has %lld bytes, more than the %zu allowed", key,
                       (long long)st->st_size, max);
    size = (size_t)st->st_size;
    rc = cm_buf_reserve(ret, size, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "value at '%s'", key);
    /* Ask for one byte more than there should be, where the buffer has its final NUL: so one read
     * sees the end, too. */
    if (fst_sys_read(fd, ret->data + ret->len, size + 1, size, &len) != 0)
        rc = cm_fail_errno(err, "read '%s'", key);
    else if (len != size)
        rc = cm_fail(err, CM_E_IO, "the value at '%s' changed while it was read", key);
    if (rc == CM_OK)
        ret->len += size;
    else if (ret->secret)
        cm_wipe(ret->data + ret->len, len);
    ret->data[ret->len] = 0;
    return rc;
}

cm_status file_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_buf *ret, struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    CM_AUTO_CLOSE int dir = -1;
    CM_AUTO_CLOSE int fd = -1;
    const char *leaf = NULL;
    struct stat fst;
    cm_status rc;

    (void)op;
    fst_recover(fs, NULL);
    rc = find_parent(fs, key, &dir, &leaf, err);
    if (rc == CM_OK)
        rc = fst_open_value(fs, dir, leaf, key, &fd, &fst, err);
    if (rc == CM_OK)
        rc = fst_read_value(fd, &fst, key, ret, err);
    return rc;
}

cm_status file_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_key_info *ret, struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    CM_AUTO_CLOSE int dir = -1;
    CM_AUTO_CLOSE int sub = -1;
    const char *leaf = NULL;
    struct stat fst;
    bool has = false;
    cm_status rc;

    (void)op;
    fst_recover(fs, NULL);
    rc = find_parent(fs, key, &dir, &leaf, err);
    if (rc != CM_OK)
        return rc;
    if (fstatat(dir, leaf, &fst, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? not_found(key, err)
                               : cm_fail_errno(err, "look at '%s/%s'", fs->path, key);
    if (!S_ISDIR(fst.st_mode)) {
        rc = fst_check_value(fs, key, &fst, err);
    } else {
        rc = fst_open_dir(fs, key, strlen(key), false, &sub, err);
        if (rc == CM_OK)
            rc = fst_has_value(sub, key, &has, err);
        if (rc == CM_E_NOTFOUND || (rc == CM_OK && !has))
            return not_found(key, err);
    }
    if (rc != CM_OK)
        return rc;
    ret->modified_ns = fst_ns(fst.st_mtim);
    ret->terminal = !S_ISDIR(fst.st_mode);
    ret->size = ret->terminal ? (uint64_t)fst.st_size : 0;
    return CM_OK;
}

/* ------------------------------------------------------------------ sweep */

/* Ages on the clock of the file system: touching the directory tells what it says now. */
static void sweep(struct file_storage *fs)
{
    CM_AUTO_CLOSE int dir = -1;
    struct stat st;
    const struct dirent *e;
    int64_t now_ns;
    DIR *d;

    if (fst_open_dir(fs, FST_TMP_DIR, strlen(FST_TMP_DIR), false, &dir, NULL) != CM_OK)
        return;
    if (futimens(dir, NULL) != 0 || fstat(dir, &st) != 0 || fst_redo_pending(fs))
        return;
    now_ns = fst_ns(st.st_mtim);
    d = fdopendir(dir);
    if (d == NULL)
        return;
    dir = -1; /* d owns it */
    while ((e = readdir(d)) != NULL)
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
            now_ns - fst_ns(st.st_mtim) > SWEEP_AGE_NS)
            (void)fst_sys_unlink(dirfd(d), e->d_name, 0);
    (void)closedir(d);
}

void fst_sweep_if_due(struct file_storage *fs)
{
    int64_t now_ns = fs->env->mono_ns(fs->env);
    bool due;

    cm_mutex_lock(&fs->mutex);
    due = now_ns >= fs->next_sweep_ns;
    if (due)
        fs->next_sweep_ns = now_ns + SWEEP_EVERY_NS;
    cm_mutex_unlock(&fs->mutex);
    if (!due)
        return;
    sweep(fs);
    fst_lock_sweep(fs);
    fst_guard_sweep(fs);
}
