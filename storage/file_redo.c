/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Commits past their point of no return, carried out forwards or backwards, by the committer
 * himself or by whoever finds his record after he died. See file_commit.c for the whole. */

#define RECOVER_PAUSE_NS (5 * CM_NS_PER_S)
/* A directory whose last change is younger than this may change again without a new time stamp:
 * those are coarse, and the clock of a file server is not ours. */
#define CALM_NS         (10 * CM_NS_PER_S)
#define RECOVER_WAIT_NS (20 * CM_NS_PER_MS)

struct fst_ident fst_ident_of(const struct stat *st)
{
    struct fst_ident id = { true, (uint64_t)st->st_ino, (uint64_t)st->st_size,
                            fst_ns(st->st_mtim) };

    return id;
}

static bool ident_equal(const struct fst_ident *a, const struct fst_ident *b)
{
    if (!a->exists || !b->exists)
        return a->exists == b->exists;
    return a->inode == b->inode && a->size == b->size && a->modified_ns == b->modified_ns;
}

cm_status fst_ident_at(struct file_storage *fs, const char *key, struct fst_ident *ret,
                       struct cm_err *err)
{
    CM_AUTO_CLOSE int dir = -1;
    const char *leaf = NULL;
    struct stat st;
    cm_status rc;

    memset(ret, 0, sizeof *ret);
    rc = fst_open_parent(fs, key, false, &dir, &leaf, err);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc != CM_OK)
        return rc;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0)
        *ret = fst_ident_of(&st);
    else if (errno != ENOENT)
        return cm_fail_errno(err, "look at '%s/%s'", fs->path, key);
    return CM_OK;
}

static cm_status open_tmp(struct file_storage *fs, int *ret, struct cm_err *err)
{
    return fst_open_dir(fs, FST_TMP_DIR, strlen(FST_TMP_DIR), true, ret, err);
}

static bool has_name(const char *name)
{
    return strcmp(name, "-") != 0;
}

/* Absence is an answer on which a commit is built: a call that failed is none. */
static cm_status look_for(int dir, const char *name, bool *ret, struct cm_err *err)
{
    struct stat st;

    *ret = has_name(name) && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (*ret || !has_name(name) || errno == ENOENT)
        return CM_OK;
    return cm_fail_errno(err, "look at '" FST_TMP_DIR "/%s'", name);
}

static size_t parent_len(const char *key)
{
    const char *slash = strrchr(key, '/');

    return slash != NULL ? (size_t)(slash - key) : 0;
}

/* Flush the directory of every item, each once. One that is gone has nothing to flush. */
static cm_status flush_dirs(struct file_storage *fs, const struct fst_redo *r, struct cm_err *err)
{
    for (size_t i = 0; i < r->n; i++) {
        const char *key = r->items[i].key;
        size_t len = parent_len(key);
        CM_AUTO_CLOSE int dir = -1;
        bool seen = false;
        cm_status rc;

        for (size_t j = 0; j < i && !seen; j++)
            seen = parent_len(r->items[j].key) == len && memcmp(r->items[j].key, key, len) == 0;
        if (seen)
            continue;
        rc = fst_open_dir(fs, key, len, false, &dir, err);
        if (rc == CM_E_NOTFOUND)
            continue;
        if (rc != CM_OK)
            return rc;
        if (fst_sys_fsync_dir(dir, key) != 0)
            return cm_fail_errno(err, "flush directory of '%s'", key);
    }
    return CM_OK;
}

static cm_status unlink_key(struct file_storage *fs, const char *key, struct cm_err *err)
{
    CM_AUTO_CLOSE int dir = -1;
    const char *leaf = NULL;
    cm_status rc = fst_open_parent(fs, key, false, &dir, &leaf, err);

    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc == CM_OK && fst_sys_unlink(dir, leaf, 0) != 0 && errno != ENOENT)
        rc = cm_fail_errno(err, "remove '%s/%s'", fs->path, key);
    return rc;
}

static cm_status place(struct file_storage *fs, int tmp_dir, const char *tmp, const char *key,
                       struct cm_err *err)
{
    CM_AUTO_CLOSE int dir = -1;

    return fst_place(fs, tmp_dir, tmp, key, &dir, err);
}

/* ----------------------------------------------------------------- forward */

static cm_status apply(struct file_storage *fs, int tmp_dir, const struct fst_redo_item *item,
                       struct cm_err *err)
{
    struct fst_ident now;
    bool waits = false;
    cm_status rc;

    if (!item->remove) {
        /* Gone from there means it arrived: rename() is one step. */
        rc = look_for(tmp_dir, item->tmp, &waits, err);
        return rc == CM_OK && waits ? place(fs, tmp_dir, item->tmp, item->key, err) : rc;
    }
    rc = fst_ident_at(fs, item->key, &now, err);
    if (rc == CM_OK && now.exists && ident_equal(&now, &item->before))
        rc = unlink_key(fs, item->key, err);
    return rc;
}

cm_status fst_redo_forward(struct file_storage *fs, struct fst_redo *r, struct cm_err *err)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    cm_status rc = open_tmp(fs, &tmp_dir, err);

    for (size_t i = 0; i < r->n && rc == CM_OK; i++)
        rc = apply(fs, tmp_dir, &r->items[i], err);
    if (rc == CM_OK)
        rc = flush_dirs(fs, r, err);
    if (rc == CM_OK)
        fst_redo_discard(fs, r);
    return rc;
}

/* -------------------------------------------------------------------- back */

static cm_status revert(struct file_storage *fs, int tmp_dir, const struct fst_redo_item *item,
                        struct cm_err *err)
{
    struct fst_ident now;
    bool applied;
    bool kept = false;
    cm_status rc = fst_ident_at(fs, item->key, &now, err);

    if (rc != CM_OK)
        return rc;
    applied = item->remove ? !now.exists : now.exists && now.inode == item->tmp_inode;
    if (!applied)
        return CM_OK;
    rc = look_for(tmp_dir, item->old, &kept, err);
    if (rc != CM_OK)
        return rc;
    if (kept)
        return place(fs, tmp_dir, item->old, item->key, err);
    return item->before.exists ? CM_OK : unlink_key(fs, item->key, err);
}

/* The change of direction is made durable first: one byte, written over in place, which needs no
 * room on a full disk. Half of one direction and half of the other would be the mixture that all
 * this is there to prevent. */
cm_status fst_redo_back(struct file_storage *fs, struct fst_redo *r, struct cm_err *err)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    cm_status rc = CM_OK;

    if (!r->undo) {
        r->undo = true;
        rc = fst_redo_mark_undo(r, err);
    }
    if (rc == CM_OK)
        rc = open_tmp(fs, &tmp_dir, err);
    for (size_t i = r->n; i > 0 && rc == CM_OK; i--)
        rc = revert(fs, tmp_dir, &r->items[i - 1], err);
    if (rc == CM_OK)
        rc = flush_dirs(fs, r, err);
    if (rc == CM_OK)
        fst_redo_discard(fs, r);
    return rc;
}

/* The record goes first: without it the rest is waste for the sweep, without the rest it would be
 * a riddle. Should its removal not survive a power cut, it finds everything done and goes again. */
void fst_redo_discard(struct file_storage *fs, struct fst_redo *r)
{
    CM_AUTO_CLOSE int redo_dir = -1;
    CM_AUTO_CLOSE int tmp_dir = -1;

    if (r->name[0] != '\0' &&
        fst_open_dir(fs, FST_REDO_DIR, strlen(FST_REDO_DIR), false, &redo_dir, NULL) == CM_OK &&
        fst_sys_unlink(redo_dir, r->name, 0) != 0 && errno != ENOENT)
        return;
    if (open_tmp(fs, &tmp_dir, NULL) != CM_OK)
        return;
    for (size_t i = 0; i < r->n; i++) {
        const struct fst_redo_item *item = &r->items[i];
        bool there = false;

        if (look_for(tmp_dir, item->tmp, &there, NULL) == CM_OK && there)
            (void)fst_sys_unlink(tmp_dir, item->tmp, 0);
        if (look_for(tmp_dir, item->old, &there, NULL) == CM_OK && there)
            (void)fst_sys_unlink(tmp_dir, item->old, 0);
    }
}

void fst_redo_done(struct fst_redo *r)
{
    if (r->fd >= 0) {
        fst_ofd_release(r->fd);
        (void)close(r->fd);
    }
    r->fd = -1;
    free(r->items);
    r->items = NULL;
    r->n = 0;
}

/* ----------------------------------------------------------------- recover */

/* A peer without our guard may have written since: then what he wrote is newer, and what is left
 * of the commit must not be put over it. */
static cm_status look_whether_overtaken(struct file_storage *fs, int tmp_dir,
                                        const struct fst_redo *r, bool *ret, struct cm_err *err)
{
    cm_status rc = CM_OK;

    *ret = false;
    for (size_t i = 0; i < r->n && rc == CM_OK && !*ret; i++) {
        const struct fst_redo_item *item = &r->items[i];
        struct fst_ident now;
        bool waits = false;

        if (item->remove)
            continue;
        rc = look_for(tmp_dir, item->tmp, &waits, err);
        if (rc == CM_OK && waits)
            rc = fst_ident_at(fs, item->key, &now, err);
        *ret = rc == CM_OK && waits && !ident_equal(&now, &item->before);
    }
    return rc;
}

static cm_status finish(struct file_storage *fs, struct fst_redo *r, struct cm_err *err)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    bool overtaken = false;
    cm_status rc;

    if (r->undo)
        return fst_redo_back(fs, r, err);
    rc = open_tmp(fs, &tmp_dir, err);
    if (rc == CM_OK)
        rc = look_whether_overtaken(fs, tmp_dir, r, &overtaken, err);
    if (rc != CM_OK)
        return rc;
    if (overtaken) {
        fst_redo_discard(fs, r);
        return CM_OK;
    }
    rc = fst_redo_forward(fs, r, err);
    return rc == CM_OK ? CM_OK : fst_redo_back(fs, r, err);
}

/* Is the committer dead? With his lock on the record and the guard of his lock in our hands he must
 * be. Of a commit without a lock only this kernel knows; of another host or an earlier boot, and
 * where there are no OFD locks, the record must be old as well. */
static bool is_orphaned(struct file_storage *fs, int redo_dir, const struct fst_redo *r, int e)
{
    struct stat dir;
    struct stat rec;

    if (e == EAGAIN)
        return false;
    if (e == 0 && r->lock[0] != '\0')
        return true;
    if (e == 0 && r->boot_id[0] != '-' && strcmp(r->boot_id, fs->boot_id) == 0)
        return true;
    return futimens(redo_dir, NULL) == 0 && fstat(redo_dir, &dir) == 0 && fstat(r->fd, &rec) == 0 &&
           fst_ns(dir.st_mtim) - fst_ns(rec.st_mtim) > FST_STALE_NS;
}

static cm_status read_record(struct file_storage *fs, struct fst_redo *r, const char *key,
                             struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(FST_REDO_MAX);
    struct stat st;
    cm_status rc;

    if (fstat(r->fd, &st) != 0)
        return cm_fail_errno(err, "look at commit record '%s'", r->name);
    rc = fst_check_value(fs, key, &st, err);
    if (rc == CM_OK)
        rc = fst_read_value(r->fd, &st, key, &text, err);
    if (rc == CM_OK)
        rc = fst_redo_parse(cm_buf_span(&text), r, err);
    return rc;
}

/* After the wait for the guard: only its direction can have changed, but then all of it counts. */
static cm_status reread_record(struct file_storage *fs, struct fst_redo *r, const char *key,
                               struct cm_err *err)
{
    free(r->items);
    r->items = NULL;
    r->n = 0;
    if (lseek(r->fd, 0, SEEK_SET) != 0)
        return cm_fail_errno(err, "read commit record '%s'", r->name);
    return read_record(fs, r, key, err);
}

/* Records appear whole or not at all, so a damaged one is a damaged disk. It must not be tried for
 * ever; the sweep takes it after some hours. What it was about may be half done: readers of a pair
 * check that it fits. @err says what is wrong with it. */
static cm_status put_away(struct file_storage *fs, int redo_dir, const struct fst_redo *r,
                          struct cm_err *err)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    cm_status rc = open_tmp(fs, &tmp_dir, NULL);

    if (rc == CM_OK && fst_sys_rename(redo_dir, r->name, tmp_dir, r->name) != 0)
        rc = cm_fail_errno(err, "set commit record '%s' aside", r->name);
    if (rc == CM_OK)
        cm_logf(&fs->log, CM_LOG_WARN, "commit_record_damaged", NULL, 0,
                "%s; what it was to finish is lost, it lies in '%s/" FST_TMP_DIR "' for some hours",
                err != NULL ? err->msg : r->name, fs->path);
    return rc;
}

/* With the guard of its lock entered, if it has one. */
static cm_status recover_entered(struct file_storage *fs, int redo_dir, struct fst_redo *r,
                                 const char *key, struct cm_err *err)
{
    struct stat a;
    struct stat b;
    int e = fst_ofd_try(r->fd);
    cm_status rc;

    /* While we waited, another may have finished it, or got half-way back. */
    if (e == EAGAIN || fstat(r->fd, &a) != 0 ||
        fstatat(redo_dir, r->name, &b, AT_SYMLINK_NOFOLLOW) != 0 || a.st_ino != b.st_ino)
        return CM_OK;
    rc = reread_record(fs, r, key, err);
    return rc == CM_OK && is_orphaned(fs, redo_dir, r, e) ? finish(fs, r, err) : rc;
}

/* Who is in the guard of the lock has just begun or is finishing the same: that is his business.
 * Who is in another's guard does not wait, as two who did would wait for each other. */
static cm_status recover_guarded(struct file_storage *fs, int redo_dir, struct fst_redo *r,
                                 const char *key, const char *entered, struct cm_err *err)
{
    struct fst_guard g = { .fd = -1 };
    cm_status rc = CM_OK;

    if (r->lock[0] != '\0' && (entered == NULL || strcmp(entered, r->lock) != 0))
        rc = fst_guard_enter(fs, NULL, r->lock, entered == NULL ? RECOVER_WAIT_NS : 0, &g, err);
    if (rc == CM_OK)
        rc = recover_entered(fs, redo_dir, r, key, err);
    fst_guard_leave(&g);
    return rc == CM_E_BUSY ? CM_OK : rc;
}

static cm_status recover_one(struct file_storage *fs, int redo_dir, const char *name,
                             const char *entered, struct cm_err *err)
{
    struct fst_redo r = { .fd = -1 };
    char key[sizeof FST_REDO_DIR + sizeof r.name];
    cm_status rc = CM_OK;

    if (strlen(name) >= sizeof r.name)
        return cm_fail(err, CM_E_PARSE, "'%s/" FST_REDO_DIR "/%s' is no commit record: remove it",
                       fs->path, name);
    (void)memccpy(r.name, name, '\0', sizeof r.name);
    r.fd = openat(redo_dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (r.fd < 0 && errno == ENOENT)
        return CM_OK;
    (void)snprintf(key, sizeof key, FST_REDO_DIR "/%s", name);
    if (r.fd < 0)
        return fst_explain_value(fs, redo_dir, name, key, err);
    if (!fst_ofd_is_held(r.fd)) { /* else its commit is being carried out right now */
        rc = read_record(fs, &r, key, err);
        if (rc == CM_E_PARSE || rc == CM_E_LIMIT)
            rc = put_away(fs, redo_dir, &r, err);
        else if (rc == CM_OK)
            rc = recover_guarded(fs, redo_dir, &r, key, entered, err);
    }
    fst_redo_done(&r);
    return rc;
}

/* *ret is NULL when there is no such directory, or it cannot be read. */
static cm_status open_redo(struct file_storage *fs, DIR **ret)
{
    int dir = -1;
    cm_status rc = fst_open_dir(fs, FST_REDO_DIR, strlen(FST_REDO_DIR), false, &dir, NULL);

    *ret = NULL;
    if (rc != CM_OK)
        return rc == CM_E_NOTFOUND ? CM_OK : rc;
    *ret = fdopendir(dir);
    if (*ret != NULL)
        return CM_OK;
    (void)close(dir);
    return CM_E_IO;
}

/* NULL at the end, with errno 0, or when it cannot be read further. */
static const char *next_record(DIR *d)
{
    const struct dirent *e;

    do {
        errno = 0;
        e = readdir(d);
    } while (e != NULL && e->d_name[0] == '.');
    return e != NULL ? e->d_name : NULL;
}

bool fst_redo_pending(struct file_storage *fs)
{
    DIR *d;
    cm_status rc = open_redo(fs, &d);
    /* In doubt there are. */
    bool any = rc != CM_OK || (d != NULL && (next_record(d) != NULL || errno != 0));

    if (d != NULL)
        (void)closedir(d);
    return any;
}

/* Every call on the storage looks here first, so when there is nothing it must cost next to
 * nothing: a directory that was seen empty is empty as long as its time stamp stands. */
static bool is_still_empty(struct file_storage *fs, struct fst_ident *ret)
{
    struct stat st;
    bool same;

    memset(ret, 0, sizeof *ret);
    if (fstatat(fs->root, FST_REDO_DIR, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    *ret = fst_ident_of(&st);
    cm_mutex_lock(&fs->mutex);
    same = fs->empty_redo.exists && ident_equal(&fs->empty_redo, ret);
    cm_mutex_unlock(&fs->mutex);
    return same;
}

static void note_empty(struct file_storage *fs, const struct fst_ident *seen)
{
    if (!seen->exists || fs->env->wall_ns(fs->env) - seen->modified_ns < CALM_NS)
        return;
    cm_mutex_lock(&fs->mutex);
    fs->empty_redo = *seen;
    cm_mutex_unlock(&fs->mutex);
}

/* What cannot be finished now (a full disk) is left for later, and not tried at every step. */
void fst_recover(struct file_storage *fs, const char *entered)
{
    int64_t now_ns = fs->env->mono_ns(fs->env);
    struct cm_err err = CM_ERR_INIT;
    struct fst_ident seen;
    const char *name;
    bool empty = true;
    bool failed = false;
    bool paused;
    DIR *d;

    if (is_still_empty(fs, &seen))
        return;
    (void)!open_redo(fs, &d);
    if (d == NULL)
        return;
    cm_mutex_lock(&fs->mutex);
    paused = now_ns < fs->recover_after_ns;
    cm_mutex_unlock(&fs->mutex);
    while (!paused && (name = next_record(d)) != NULL) {
        empty = false;
        if (recover_one(fs, dirfd(d), name, entered, &err) != CM_OK)
            failed = true;
    }
    if (empty && !paused && errno == 0)
        note_empty(fs, &seen);
    (void)closedir(d);
    if (!failed)
        return;
    cm_mutex_lock(&fs->mutex);
    fs->recover_after_ns = now_ns + RECOVER_PAUSE_NS;
    cm_mutex_unlock(&fs->mutex);
    cm_logf(&fs->log, CM_LOG_WARN, "commit_not_recovered", NULL, 0,
            "a commit that was interrupted could not be finished: %s", err.msg);
}
