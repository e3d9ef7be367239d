/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Several values at once, all or none, over crashes, full disks and lost locks:
 *
 *   1. Write every new value to certmesh/tmp and flush it. Nothing is visible yet, and most of what
 *      can go wrong (no room, no permission) has gone wrong by now.
 *   2. Enter the guard of the lock. From here until 7 no thief of ours can take it.
 *   3. Check that the lock is still this grant's: same fence, same inode. Refresh it, so that a
 *      peer without guards does not judge it stale in the next seconds. Copy the old values to
 *      certmesh/tmp, flushed, to be able to go back.
 *   4. Write a record of what is to be renamed where, check the lock once more, and rename the
 *      record into certmesh/redo, flushed. This is the point of no return: before it nothing has
 *      happened, after it everything will, whoever does it.
 *   5. Rename the new values to their places, remove what is to be removed, flush directories.
 *   6. Remove the record, then the copies.
 *   7. Leave the guard.
 *
 * When a step of 5 fails, the record is marked and the old values are put back from their copies.
 *
 * When the process dies, its OFD lock on the record ends with it, and the next to open the storage,
 * to take the lock or just to read finds the record and finishes (fst_recover), inside the guard of
 * the lock as well: whoever finishes may be stopped too, and must not come back when the lock has
 * changed hands. How far it had come is written nowhere but in the directories: a new value that is
 * gone from certmesh/tmp has arrived. So finishing may itself be interrupted and repeated at will.
 * The record also tells what each key was before (inode, size, time): if that is neither the old
 * value nor the new one, a peer has written since, and his word is newer.
 *
 * Readers may see the new key and the old certificate for the moment between two renames; they
 * check the pair and look again.
 *
 * One value alone needs no record: its rename is all or nothing by itself. */

#define GUARD_NS (2 * CM_NS_PER_S)

struct commit {
    struct file_storage *fs;
    const struct cm_op *op;
    const struct cm_grant *grant; /* NULL = without lock */
    int tmp_dir;
    struct fst_redo redo;
    char record[FST_NAME_MAX]; /* while it is in certmesh/tmp, else "" */
};

/* 1. */
static cm_status write_new(struct commit *c, const struct cm_commit_item *items, size_t n,
                           struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < n; i++) {
        struct fst_redo_item *r = &c->redo.items[i];

        (void)memccpy(r->key, items[i].key, '\0', sizeof r->key);
        (void)memccpy(r->tmp, "-", '\0', sizeof r->tmp);
        (void)memccpy(r->old, "-", '\0', sizeof r->old);
        r->remove = items[i].remove;
    }
    c->redo.n = n;
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        struct fst_redo_item *r = &c->redo.items[i];
        struct stat st;

        if (r->remove)
            continue;
        rc = fst_temp_name(c->fs, FST_BELL_NEW, r->key, r->tmp, err);
        if (rc == CM_OK)
            rc = fst_write_temp(c->tmp_dir, r->tmp, items[i].value, r->key, c->op, &st, err);
        if (rc == CM_OK)
            r->tmp_inode = (uint64_t)st.st_ino;
    }
    return rc;
}

static cm_status copy_old(struct commit *c, struct fst_redo_item *r, int fd, const struct stat *st,
                          struct cm_err *err)
{
    const struct timespec times[2] = { { 0, UTIME_OMIT }, st->st_mtim };
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    cm_status rc = fst_read_value(fd, st, r->key, &value, err);

    if (rc == CM_OK)
        rc = fst_temp_name(c->fs, FST_BELL_OLD, r->key, r->old, err);
    if (rc == CM_OK)
        rc = fst_write_temp(c->tmp_dir, r->old, cm_buf_span(&value), r->key, c->op, NULL, err);
    if (rc == CM_OK)
        (void)utimensat(c->tmp_dir, r->old, times, 0);
    return rc;
}

/* 3, second half. Links and wrong modes do not matter of what is only replaced. */
static cm_status keep_old(struct commit *c, struct fst_redo_item *r, struct cm_err *err)
{
    CM_AUTO_CLOSE int dir = -1;
    CM_AUTO_CLOSE int fd = -1;
    const char *leaf = NULL;
    struct stat st;
    cm_status rc = fst_open_parent(c->fs, r->key, false, &dir, &leaf, err);

    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc != CM_OK)
        return rc;
    fd = openat(dir, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return CM_OK;
    if (fd < 0 ? fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) != 0 : fstat(fd, &st) != 0)
        return cm_fail_errno(err, "look at '%s/%s'", c->fs->path, r->key);
    if (S_ISDIR(st.st_mode)) {
        bool has = false;

        rc = fd < 0 ? CM_OK : fst_has_value(fd, r->key, &has, err);
        return rc == CM_OK && has
                   ? cm_fail(err, CM_E_EXISTS, "cannot commit '%s': it is a directory", r->key)
                   : rc;
    }
    if (!S_ISREG(st.st_mode))
        return fst_check_value(c->fs, r->key, &st, err);
    if (fd < 0)
        return cm_fail_errno(err, "open '%s/%s'", c->fs->path, r->key);
    r->before = fst_ident_of(&st);
    /* Larger than any value: damaged, and nothing that one would want back. */
    if ((uint64_t)st.st_size > CM_STORAGE_VALUE_MAX)
        return CM_OK;
    return copy_old(c, r, fd, &st, err);
}

/* 4. */
static cm_status write_record(struct commit *c, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(FST_REDO_MAX);
    cm_status rc;

    rc = fst_redo_text(&c->redo, &text, err);
    if (rc == CM_OK)
        rc = fst_temp_name(c->fs, "redo", NULL, c->record, err);
    if (rc != CM_OK)
        return rc;
    if (fst_sys_create(c->tmp_dir, c->record, &c->redo.fd) != 0) {
        c->record[0] = '\0';
        return cm_fail_errno(err, "create a commit record in '" FST_TMP_DIR "'");
    }
    (void)fst_ofd_try(c->redo.fd);
    if (fst_sys_write(c->redo.fd, cm_buf_span(&text), c->record) != 0 ||
        fst_sys_fsync(c->redo.fd, c->record) != 0)
        return cm_fail_errno(err, "write commit record");
    /* All names in it must be there before it is. */
    if (fst_sys_fsync_dir(c->tmp_dir, FST_TMP_DIR) != 0)
        return cm_fail_errno(err, "flush '%s/" FST_TMP_DIR "'", c->fs->path);
    return CM_OK;
}

static cm_status check_still_wanted(const struct commit *c, struct cm_err *err)
{
    cm_status rc = c->grant != NULL ? fst_hold_check(c->fs, c->grant, err) : CM_OK;

    if (rc != CM_OK)
        return rc;
    rc = cm_op_check(c->op, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "commit of '%s'", c->redo.items[0].key);
}

static cm_status pass_point_of_no_return(struct commit *c, struct cm_err *err)
{
    CM_AUTO_CLOSE int redo_dir = -1;
    cm_status rc = fst_open_dir(c->fs, FST_REDO_DIR, strlen(FST_REDO_DIR), true, &redo_dir, err);

    if (rc == CM_OK)
        rc = check_still_wanted(c, err);
    if (rc != CM_OK)
        return rc;
    if (fst_sys_rename(c->tmp_dir, c->record, redo_dir, c->record) != 0)
        return cm_fail_errno(err, "publish commit record");
    (void)memccpy(c->redo.name, c->record, '\0', sizeof c->redo.name);
    c->record[0] = '\0';
    if (fst_sys_fsync_dir(redo_dir, FST_REDO_DIR) != 0)
        return cm_fail_errno(err, "flush '%s/" FST_REDO_DIR "'", c->fs->path);
    return CM_OK;
}

/* Instead of 3 to 6. */
static cm_status carry_out_alone(struct commit *c, struct cm_err *err)
{
    struct fst_redo_item *r = &c->redo.items[0];
    CM_AUTO_CLOSE int dir = -1;
    cm_status rc = check_still_wanted(c, err);

    if (rc == CM_OK)
        rc = fst_place(c->fs, c->tmp_dir, r->tmp, r->key, &dir, err);
    if (rc != CM_OK)
        return rc;
    (void)memccpy(r->tmp, "-", '\0', sizeof r->tmp);
    if (fst_sys_fsync_dir(dir, r->key) != 0)
        return cm_fail_errno(err, "flush directory of '%s'", r->key);
    return CM_OK;
}

/* 3 to 6, inside the guard if there is a lock. */
static cm_status carry_out(struct commit *c, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = CM_OK;

    if (c->grant != NULL)
        rc = fst_hold_beat(c->fs, c->grant, err);
    if (rc == CM_OK && c->redo.n == 1 && !c->redo.items[0].remove)
        return carry_out_alone(c, err);
    for (size_t i = 0; i < c->redo.n && rc == CM_OK; i++)
        rc = keep_old(c, &c->redo.items[i], err);
    if (rc == CM_OK)
        rc = write_record(c, err);
    if (rc == CM_OK)
        rc = pass_point_of_no_return(c, err);
    if (rc != CM_OK)
        return rc;
    rc = fst_redo_forward(c->fs, &c->redo, err);
    if (rc == CM_OK)
        return CM_OK;
    if (fst_redo_back(c->fs, &c->redo, &why) == CM_OK)
        return cm_wrap(err, rc, "commit undone, the old values are in place");
    c->redo.n = 0; /* what the record names must stay until somebody can finish */
    c->redo.name[0] = '\0';
    return cm_wrap(err, rc, "commit interrupted (%.200s); it is finished as soon as that works",
                   why.msg);
}

static cm_status check_fence(const struct fst_guard *g, const struct cm_grant *grant,
                             struct cm_err *err)
{
    if (g->rec.fence == grant->fence)
        return CM_OK;
    return cm_fail(
        err, CM_E_LOCK_LOST,
        "lock '%s' (fence %llu) is not held any more: it was granted again as fence %llu",
        grant->name, (unsigned long long)grant->fence, (unsigned long long)g->rec.fence);
}

static cm_status commit_guarded(struct commit *c, struct cm_err *err)
{
    const struct fst_hold *hold = c->grant->state;
    struct fst_guard g = { .fd = -1 };
    cm_status rc = fst_guard_enter(c->fs, c->op, hold->safe, GUARD_NS, &g, err);

    if (rc != CM_OK)
        return rc;
    rc = check_fence(&g, c->grant, err);
    if (rc == CM_OK)
        rc = carry_out(c, err);
    fst_guard_leave(&g);
    return rc;
}

static cm_status commit(struct commit *c, const struct cm_commit_item *items, size_t n,
                        struct cm_err *err)
{
    cm_status rc = fst_open_dir(c->fs, FST_TMP_DIR, strlen(FST_TMP_DIR), true, &c->tmp_dir, err);

    /* Early, to spare the work; what counts is the check in the guard. */
    if (rc == CM_OK && c->grant != NULL)
        rc = fst_hold_check(c->fs, c->grant, err);
    if (rc == CM_OK)
        rc = write_new(c, items, n, err);
    if (rc == CM_OK)
        rc = c->grant != NULL ? commit_guarded(c, err) : carry_out(c, err);
    if (rc != CM_OK) {
        if (c->record[0] != '\0')
            (void)fst_sys_unlink(c->tmp_dir, c->record, 0);
        fst_redo_discard(c->fs, &c->redo);
    }
    return rc;
}

cm_status file_commit(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                      const struct cm_commit_item *items, size_t n, struct cm_err *err)
{
    struct commit c = { .fs = fst_of(st), .op = op, .grant = grant, .tmp_dir = -1 };
    cm_status rc;

    fst_recover(c.fs, NULL);
    fst_sweep_if_due(c.fs);
    c.redo.fd = -1;
    (void)memccpy(c.redo.boot_id, c.fs->boot_id, '\0', sizeof c.redo.boot_id);
    if (grant != NULL && grant->state != NULL)
        (void)memccpy(c.redo.lock, ((const struct fst_hold *)grant->state)->safe, '\0',
                      sizeof c.redo.lock);
    c.redo.items = cm_calloc(n, sizeof c.redo.items[0]);
    if (c.redo.items == NULL)
        return cm_fail_nomem(err);
    rc = commit(&c, items, n, err);
    for (size_t i = 0; i < c.redo.n && rc == CM_OK; i++)
        if (c.redo.items[i].remove && c.redo.items[i].before.exists)
            fst_bell_gone(c.fs, c.redo.items[i].key);
    if (c.tmp_dir >= 0)
        (void)close(c.tmp_dir);
    fst_redo_done(&c.redo);
    return rc == CM_E_NOTFOUND ? cm_wrap(err, CM_E_IO, "commit of '%s'", items[0].key) : rc;
}
