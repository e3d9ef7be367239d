/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is wrong below the root as files: what is no value where a value should be, names that are
 * no keys, rights that are too wide, and what crashed processes left. Lists pass over most of it
 * without a word, because one stray must not stop maintenance; here it is told. */

#define LEFT_OVER_NS (3600 * CM_NS_PER_S)

struct check {
    struct file_storage *fs;
    const struct cm_op *op;
    bool repair;
    cm_check_fn each;
    void *user;
};

static void tell(const struct check *c, const char *key, bool repaired, const char *fmt, ...)
    CM_PRINTF(4, 5);
static void tell(const struct check *c, const char *key, bool repaired, const char *fmt, ...)
{
    char what[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    c->each(c->user, key, what, repaired);
}

/* ------------------------------------------------------------------ values */

static void check_file(const struct check *c, const char *key, const struct stat *st)
{
    struct cm_err why = CM_ERR_INIT;

    if (cm_storage_key_check(key, false, &why) != CM_OK)
        tell(c, key, false, "%s, so nobody can load it: move it away", why.msg);
    else if (fst_check_value(c->fs, key, st, &why) != CM_OK)
        tell(c, key, false, "%s", why.msg);
    else if ((uint64_t)st->st_size > CM_STORAGE_VALUE_MAX)
        tell(c, key, false, "it has %llu bytes, more than the %u a value may have: move it away",
             (unsigned long long)st->st_size, CM_STORAGE_VALUE_MAX);
    else if ((st->st_mode & 044) != 0)
        tell(c, key, false, "other users can read it (mode %04o): chmod go= '%s/%s'",
             (unsigned)(st->st_mode & 07777), c->fs->path, key);
}

static cm_status check_dir(const struct check *c, int dir, const char *key, unsigned depth,
                           struct cm_err *err);

static cm_status check_entry(const struct check *c, int dir, const char *name, const char *key,
                             unsigned depth, struct cm_err *err)
{
    CM_AUTO_CLOSE int sub = -1;
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? CM_OK : cm_fail_errno(err, "look at '%s'", key);
    if (!S_ISDIR(st.st_mode)) {
        check_file(c, key, &st);
        return CM_OK;
    }
    if (depth >= FST_DEPTH_MAX) {
        tell(c, key, false, "directories are nested too deeply for a list: move it away");
        return CM_OK;
    }
    sub = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (sub >= 0)
        return check_dir(c, sub, key, depth + 1, err);
    if (errno == EACCES)
        tell(c, key, false, "this directory cannot be opened: run as its owner, or chown it");
    else if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
        return cm_fail_errno(err, "open storage directory '%s'", key);
    return CM_OK;
}

static cm_status check_dir(const struct check *c, int dir, const char *key, unsigned depth,
                           struct cm_err *err)
{
    DIR *d = fst_open_stream(dir);
    const struct dirent *e;
    cm_status rc = CM_OK;

    if (d == NULL)
        return cm_fail_errno(err, "read storage directory '%s'", key);
    while (rc == CM_OK && (errno = 0, e = readdir(d)) != NULL) {
        char sub[CM_STORAGE_KEY_MAX + 300];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        rc = cm_op_check(c->op, err);
        if (rc != CM_OK)
            break;
        (void)snprintf(sub, sizeof sub, "%s%s%s", key, key[0] != '\0' ? "/" : "", e->d_name);
        if (strlen(sub) > CM_STORAGE_KEY_MAX)
            tell(c, key, false, "a name below it is too long for a key: move '%.80s...' away",
                 e->d_name);
        else if (!fst_is_reserved(sub))
            rc = check_entry(c, dir, e->d_name, sub, depth, err);
    }
    if (rc == CM_OK && errno != 0 && errno != ENOENT)
        rc = cm_fail_errno(err, "read storage directory '%s'", key);
    (void)closedir(d);
    return rc;
}

/* --------------------------------------------------------------- left over */

/* By the clock that stamps files here: touching the directory tells what it says. */
static cm_status check_left_over(const struct check *c, const char *where, const char *what,
                                 bool remove, struct cm_err *err)
{
    CM_AUTO_CLOSE int dir = -1;
    const struct dirent *e;
    struct stat st;
    int64_t now_ns;
    DIR *d;
    cm_status rc = fst_open_dir(c->fs, where, strlen(where), false, &dir, err);

    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc != CM_OK)
        return rc;
    if (futimens(dir, NULL) != 0 || fstat(dir, &st) != 0)
        return cm_fail_errno(err, "touch '%s'", where);
    now_ns = fst_ns(st.st_mtim);
    d = fst_open_stream(dir);
    if (d == NULL)
        return cm_fail_errno(err, "read '%s'", where);
    while ((e = readdir(d)) != NULL) {
        char key[CM_STORAGE_KEY_MAX + 300];
        bool gone;

        if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || S_ISDIR(st.st_mode) ||
            now_ns - fst_ns(st.st_mtim) < LEFT_OVER_NS)
            continue;
        (void)snprintf(key, sizeof key, "%s/%s", where, e->d_name);
        gone = remove && c->repair && fst_sys_unlink(dir, e->d_name, 0) == 0;
        tell(c, key, gone, "%s", what);
    }
    (void)closedir(d);
    return CM_OK;
}

cm_status file_check(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                     void *user, struct cm_err *err)
{
    const struct check c = { fst_of(st), op, repair, each, user };
    CM_AUTO_CLOSE int dir = -1;
    bool pending;
    cm_status rc;

    fst_recover(c.fs, NULL);
    pending = fst_redo_pending(c.fs); /* which may still need what lies in FST_TMP_DIR */
    rc = fst_open_dir(c.fs, "", 0, false, &dir, err);
    if (rc == CM_OK)
        rc = check_dir(&c, dir, "", 0, err);
    if (rc == CM_OK)
        rc = check_left_over(&c, FST_REDO_DIR,
                             "a commit that could not be finished: the log of certmesh says why; "
                             "look whether the values that it names fit together",
                             false, err);
    if (rc == CM_OK)
        rc = check_left_over(&c, FST_TMP_DIR,
                             "left by a process that crashed: certmesh removes it in time",
                             !pending, err);
    return rc;
}
