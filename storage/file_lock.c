/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Locks as peers (certmagic) know them, locks/<Safe(name)>.lock, without their races.
 *
 * A lock file appears whole, by link(2), and belongs to whoever has its inode open: the heartbeat
 * goes to the descriptor, so it can never keep another's lock alive, and whether the lock is still
 * ours is asked by comparing inodes. Among us every change of hands happens inside the guard
 * (file_guard.c). Peers do not enter it; against them an abandoned lock is first renamed away and
 * looked at again before anybody takes its place. */

#define GUARD_SHORT_NS (20 * CM_NS_PER_MS) /* who only tries can come back */
#define GUARD_LONG_NS  (2 * CM_NS_PER_S)   /* who has to give back should not have to leave it */
#define BUSY_WAIT_NS   (50 * CM_NS_PER_MS)
#define SAFE_KEEP      200u

/* Names whose file would not fit get a digest in place of their end. Peers cannot have those. */
cm_status fst_lock_safe(const char *name, char *out, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf b = CM_BUF_INIT(CM_LOCK_NAME_MAX * 9);
    cm_status rc = cm_safe_name(name, &b, err);

    if (rc != CM_OK)
        return cm_wrap(err, rc, "lock");
    if (b.len + sizeof ".guard" <= FST_SAFE_MAX) {
        memcpy(out, b.data, b.len + 1);
        return CM_OK;
    }
    (void)snprintf(out, FST_SAFE_MAX, "%.*s-%016llx", (int)SAFE_KEEP, cm_buf_str(&b),
                   (unsigned long long)cm_fnv1a64(CM_FNV1A64, b.data, b.len));
    return CM_OK;
}

void fst_lock_file(const char *safe, char *out)
{
    (void)snprintf(out, CM_STORAGE_COMPONENT_MAX + 1, "%.250s.lock", safe);
}

static cm_status open_lock_dir(struct file_storage *fs, bool create, int *ret, struct cm_err *err)
{
    return fst_open_dir(fs, FST_LOCK_DIR, strlen(FST_LOCK_DIR), create, ret, err);
}

static cm_status open_tmp_dir(struct file_storage *fs, int *ret, struct cm_err *err)
{
    return fst_open_dir(fs, FST_TMP_DIR, strlen(FST_TMP_DIR), true, ret, err);
}

static cm_status busy(const char *safe, struct cm_err *err)
{
    return cm_fail(err, CM_E_BUSY, "lock '%s' is held by another", safe);
}

static cm_status lost(const struct cm_grant *grant, const char *why, struct cm_err *err)
{
    return cm_fail(err, CM_E_LOCK_LOST, "lock '%s' (fence %llu) is not held any more: %s",
                   grant->name, (unsigned long long)grant->fence, why);
}

static void hold_free(struct fst_hold *hold)
{
    if (hold == NULL)
        return;
    if (hold->fd >= 0 && hold->pid == getpid())
        fst_ofd_release(hold->fd); /* a forked child must not: it would be the parent's */
    if (hold->fd >= 0)
        (void)close(hold->fd);
    free(hold);
}

/* ------------------------------------------------------------------- take */

/* Move a lock file out of the way and make sure that it was the one meant: a peer may have put a
 * new one there, its owner may have come back to life. Then it goes back. */
static cm_status set_aside(struct file_storage *fs, int lock_dir, const char *file,
                           const char *name, const struct stat *meant, bool untouched,
                           struct cm_err *err)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    char tmp[FST_NAME_MAX];
    struct stat st;
    cm_status rc = fst_temp_name(fs, FST_BELL_LOCK, name, tmp, err);

    if (rc == CM_OK)
        rc = open_tmp_dir(fs, &tmp_dir, err);
    if (rc != CM_OK)
        return rc;
    if (fst_sys_rename(lock_dir, file, tmp_dir, tmp) != 0)
        return errno == ENOENT ? CM_OK : cm_fail_errno(err, "set lock file '%s' aside", file);
    if (fstatat(tmp_dir, tmp, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return cm_fail_errno(err, "look at lock file '%s'", file);
    if (st.st_ino != meant->st_ino || st.st_dev != meant->st_dev ||
        (untouched &&
         (fst_ns(st.st_mtim) != fst_ns(meant->st_mtim) || st.st_size != meant->st_size)))
        rc = busy(file, err);
    if (rc == CM_E_BUSY && fst_sys_link(tmp_dir, tmp, lock_dir, file) != 0 && errno != EEXIST)
        rc = cm_fail_errno(err, "put lock file '%s' back", file);
    (void)fst_sys_unlink(tmp_dir, tmp, 0);
    return rc;
}

static cm_status record_of(const struct fst_hold *hold, int64_t updated_ns, struct cm_buf *out,
                           struct cm_err *err)
{
    return fst_record_text(hold->created, updated_ns, hold->host, (long)hold->pid, out, err);
}

static bool cannot_link(int e)
{
    return e == EPERM || e == EOPNOTSUPP || e == ENOSYS || e == EMLINK;
}

/* Flushed only for hosts elsewhere, who see it no sooner: after a power cut of this one nobody
 * holds it, and the fence is in the guard. */
static cm_status write_record(const struct file_storage *fs, int fd, const char *file,
                              struct cm_span text, struct cm_err *err)
{
    if (fst_sys_pwrite(fd, text, file) != 0 || (!fs->is_local && fst_sys_fsync(fd, file) != 0))
        return cm_fail_errno(err, "write lock file '%s'", file);
    return CM_OK;
}

/* File systems without links: created in place, so for a moment it is empty. Readers take that
 * for fresh. */
static cm_status create_in_place(const struct file_storage *fs, struct fst_hold *hold, int lock_dir,
                                 const char *file, struct cm_span text, struct cm_err *err)
{
    cm_status rc;
    int fd = -1;

    if (fst_sys_create(lock_dir, file, &fd) != 0)
        return errno == EEXIST ? busy(hold->safe, err)
                               : cm_fail_errno(err, "create lock file '%s'", file);
    (void)close(hold->fd);
    hold->fd = fd;
    (void)fst_ofd_try(fd);
    rc = write_record(fs, fd, file, text, err);
    if (rc != CM_OK)
        (void)fst_sys_unlink(lock_dir, file, 0);
    return rc;
}

/* The OFD lock is on the inode before anybody can see the file, and the guard's record is durable
 * before the lock is: no crash leaves a lock with a fence that is given out again. */
static cm_status publish(struct file_storage *fs, struct fst_guard *g, struct fst_hold *hold,
                         int lock_dir, int tmp_dir, const char *tmp, int64_t ttl_ns,
                         struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(256);
    char file[CM_STORAGE_COMPONENT_MAX + 1];
    int64_t now_ns = fs->env->wall_ns(fs->env);
    bool has_ofd = fst_ofd_try(hold->fd) == 0;
    char created[CM_TIME_TEXT];
    cm_status rc;

    cm_time_format_rfc3339(now_ns, true, created);
    (void)memccpy(hold->created, created, '\0', sizeof hold->created - 1);
    fst_lock_file(hold->safe, file);
    rc = record_of(hold, now_ns, &text, err);
    if (rc == CM_OK)
        rc = write_record(fs, hold->fd, file, cm_buf_span(&text), err);
    if (rc != CM_OK)
        return rc;
    g->rec.fence++;
    g->rec.ttl_ns = ttl_ns;
    (void)memccpy(g->rec.created, hold->created, '\0', sizeof g->rec.created);
    (void)memccpy(g->rec.boot_id, has_ofd ? fs->boot_id : "-", '\0', sizeof g->rec.boot_id);
    rc = fst_guard_write(g, hold->safe, err);
    if (rc != CM_OK)
        return rc;
    if (fst_sys_link(tmp_dir, tmp, lock_dir, file) == 0)
        return CM_OK;
    if (errno == EEXIST)
        return busy(hold->safe, err);
    if (cannot_link(errno))
        return create_in_place(fs, hold, lock_dir, file, cm_buf_span(&text), err);
    return cm_fail_errno(err, "create lock file '%s/" FST_LOCK_DIR "/%s'", fs->path, file);
}

static cm_status take(struct file_storage *fs, struct fst_guard *g, int lock_dir, const char *name,
                      const char *safe, int64_t ttl_ns, struct fst_hold **ret, struct cm_err *err)
{
    CM_AUTO_CLOSE int tmp_dir = -1;
    char tmp[FST_NAME_MAX];
    struct fst_hold *hold;
    cm_status rc = fst_temp_name(fs, FST_BELL_LOCK, name, tmp, err);

    if (rc == CM_OK)
        rc = open_tmp_dir(fs, &tmp_dir, err);
    if (rc != CM_OK)
        return rc;
    hold = cm_calloc(1, sizeof *hold);
    if (hold == NULL)
        return cm_fail_nomem(err);
    hold->fd = -1;
    hold->pid = getpid();
    cm_host_name(hold->host);
    (void)memccpy(hold->safe, safe, '\0', sizeof hold->safe);
    if (fst_sys_create(tmp_dir, tmp, &hold->fd) != 0) {
        rc = cm_fail_errno(err, "create a file in '" FST_TMP_DIR "' for lock '%s'", safe);
    } else {
        rc = publish(fs, g, hold, lock_dir, tmp_dir, tmp, ttl_ns, err);
        (void)fst_sys_unlink(tmp_dir, tmp, 0);
    }
    if (rc != CM_OK) {
        hold_free(hold);
        return rc;
    }
    *ret = hold;
    return CM_OK;
}

/* CM_OK when the way is free: no lock file, or an abandoned one that is now gone. */
static cm_status clear_way(struct file_storage *fs, const struct fst_guard *g, int lock_dir,
                           const char *safe, int64_t *ret_wait_ns, bool *ret_stolen,
                           struct cm_err *err)
{
    char file[CM_STORAGE_COMPONENT_MAX + 1];
    struct fst_seen seen = FST_SEEN_INIT;
    struct fst_guard_record rec;
    cm_status rc;

    fst_lock_file(safe, file);
    rc = fst_look(lock_dir, file, &seen, err);
    if (rc != CM_OK)
        return rc;
    if (seen.exists) {
        if (g != NULL)
            rec = g->rec;
        else
            fst_guard_peek(fs, safe, &rec);
        switch (fst_judge(fs, safe, &seen, &rec, g, ret_wait_ns)) {
        case FST_FRESH:
            rc = busy(safe, err);
            break;
        case FST_PERHAPS:
            break;
        case FST_STALE:
            rc = set_aside(fs, lock_dir, file, safe, &seen.st, true, err);
            *ret_stolen = rc == CM_OK;
            break;
        }
    }
    fst_seen_done(&seen);
    return rc;
}

static cm_status try_lock(struct file_storage *fs, const struct cm_op *op, const char *safe,
                          int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                          struct cm_err *err)
{
    CM_AUTO_CLOSE int lock_dir = -1;
    struct fst_guard g = { .fd = -1 };
    struct fst_hold *hold = NULL;
    bool stolen = false;
    cm_status rc = open_lock_dir(fs, true, &lock_dir, err);

    /* A look from outside first: who waits for a lock must not keep its holder from the guard. */
    if (rc == CM_OK)
        rc = clear_way(fs, NULL, lock_dir, safe, ret_wait_ns, &stolen, err);
    if (rc == CM_OK)
        rc = fst_guard_enter(fs, op, safe, GUARD_SHORT_NS, &g, err);
    if (rc != CM_OK)
        return rc;
    /* A commit that died half-way is finished by the next holder before he reads anything. */
    fst_recover(fs, safe);
    rc = clear_way(fs, &g, lock_dir, safe, ret_wait_ns, &stolen, err);
    if (rc == CM_OK)
        rc = take(fs, &g, lock_dir, ret->name, safe, ttl_ns, &hold, err);
    if (rc == CM_OK) {
        ret->fence = g.rec.fence;
        ret->ttl_ns = ttl_ns;
        ret->state = hold;
    }
    fst_guard_leave(&g);
    if (stolen)
        cm_logf(&fs->log, CM_LOG_INFO, "lock_taken_over", NULL, 0,
                "lock '%s' was abandoned by its holder and taken away from it", safe);
    return rc;
}

cm_status file_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                        int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                        struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    char safe[FST_SAFE_MAX];
    cm_status rc = fst_lock_safe(name, safe, err);

    if (rc == CM_OK)
        rc = cm_random_hex(fs->env, 16, ret->token, err);
    if (rc != CM_OK)
        return rc;
    fst_sweep_if_due(fs);
    *ret_wait_ns = BUSY_WAIT_NS;
    rc = try_lock(fs, op, safe, ttl_ns < FST_STALE_NS ? ttl_ns : FST_STALE_NS, ret, ret_wait_ns,
                  err);
    /* A directory that vanished under us; "not found" would read as "no such lock". */
    return rc == CM_E_NOTFOUND ? cm_wrap(err, CM_E_IO, "lock '%s'", name) : rc;
}

/* ------------------------------------------------------------------ sweep */

static void sweep_lock(struct file_storage *fs, int lock_dir, const char *safe)
{
    struct fst_guard g = { .fd = -1 };
    int64_t wait_ns = 0;
    bool stolen = false;

    if (clear_way(fs, NULL, lock_dir, safe, &wait_ns, &stolen, NULL) != CM_OK ||
        fst_guard_enter(fs, NULL, safe, 0, &g, NULL) != CM_OK)
        return;
    (void)clear_way(fs, &g, lock_dir, safe, &wait_ns, &stolen, NULL);
    fst_guard_leave(&g);
}

/* The lock of a dead process is in nobody's way, but when its work turns out to be done, nobody
 * wants it any more, and it would stay for ever. */
void fst_lock_sweep(struct file_storage *fs)
{
    static const char suffix[] = ".lock";
    const struct dirent *e;
    int dir = -1;
    DIR *d;

    if (open_lock_dir(fs, false, &dir, NULL) != CM_OK)
        return;
    d = fdopendir(dir);
    if (d == NULL) {
        (void)close(dir);
        return;
    }
    while ((e = readdir(d)) != NULL) {
        size_t len = strlen(e->d_name);
        char safe[FST_SAFE_MAX];

        if (len < sizeof suffix || strcmp(e->d_name + len - (sizeof suffix - 1), suffix) != 0 ||
            len - (sizeof suffix - 1) + sizeof ".guard" > sizeof safe)
            continue; /* not ours, or too long for a name of ours */
        (void)snprintf(safe, sizeof safe, "%.*s", (int)(len - (sizeof suffix - 1)), e->d_name);
        sweep_lock(fs, dirfd(d), safe);
    }
    (void)closedir(d);
}

/* ------------------------------------------------------------------- keep */

cm_status fst_hold_check(struct file_storage *fs, const struct cm_grant *grant, struct cm_err *err)
{
    const struct fst_hold *hold = grant->state;
    CM_AUTO_CLOSE int lock_dir = -1;
    char file[CM_STORAGE_COMPONENT_MAX + 1];
    struct stat mine;
    struct stat there;
    cm_status rc;

    if (hold == NULL)
        return lost(grant, "it was given back", err);
    if (hold->pid != getpid())
        return lost(grant, "it belongs to the process that this one was forked from", err);
    rc = open_lock_dir(fs, false, &lock_dir, err);
    if (rc == CM_E_NOTFOUND)
        return lost(grant, "the lock directory is gone", err);
    if (rc != CM_OK)
        return rc;
    fst_lock_file(hold->safe, file);
    if (fstat(hold->fd, &mine) != 0)
        return cm_fail_errno(err, "look at lock file '%s'", file);
    if (fstatat(lock_dir, file, &there, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? lost(grant, "its lock file is gone", err)
                               : cm_fail_errno(err, "look at lock file '%s'", file);
    if (mine.st_ino != there.st_ino || mine.st_dev != there.st_dev)
        return lost(grant, "another has taken it", err);
    return CM_OK;
}

/* Looked at before, so as not to tell a lie in a file that is no lock any more, and after: who took
 * the lock between found it untouched and is in his right. */
cm_status fst_hold_beat(struct file_storage *fs, const struct cm_grant *grant, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(256);
    const struct fst_hold *hold = grant->state;
    cm_status rc = fst_hold_check(fs, grant, err);

    if (rc == CM_OK)
        rc = record_of(hold, fs->env->wall_ns(fs->env), &text, err);
    if (rc == CM_OK)
        rc = write_record(fs, hold->fd, hold->safe, cm_buf_span(&text), err);
    if (rc == CM_OK)
        rc = fst_hold_check(fs, grant, err);
    return rc;
}

cm_status file_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                       struct cm_err *err)
{
    (void)op;
    return fst_hold_beat(fst_of(st), grant, err);
}

/* ------------------------------------------------------------------- leave */

static cm_status give_back(struct file_storage *fs, const struct cm_op *op,
                           const struct cm_grant *grant, struct cm_err *err)
{
    const struct fst_hold *hold = grant->state;
    struct fst_guard g = { .fd = -1 };
    CM_AUTO_CLOSE int lock_dir = -1;
    char file[CM_STORAGE_COMPONENT_MAX + 1];
    struct stat mine;
    cm_status rc = fst_hold_check(fs, grant, err);

    if (rc != CM_OK)
        return rc;
    rc = fst_guard_enter(fs, op, hold->safe, GUARD_LONG_NS, &g, err);
    if (rc != CM_OK)
        return rc;
    fst_lock_file(hold->safe, file);
    rc = fst_hold_check(fs, grant, err);
    if (rc == CM_OK)
        rc = open_lock_dir(fs, false, &lock_dir, err);
    if (rc == CM_OK && fstat(hold->fd, &mine) != 0)
        rc = cm_fail_errno(err, "look at lock file '%s'", file);
    if (rc == CM_OK)
        rc = set_aside(fs, lock_dir, file, grant->name, &mine, false, err);
    if (rc == CM_E_BUSY)
        rc = lost(grant, "another has taken it", err);
    fst_guard_leave(&g);
    return rc;
}

/* Whatever happens the descriptor is closed: then the others on this host see that nobody holds
 * the lock, and those elsewhere wait for the lease to run out. */
cm_status file_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                      struct cm_err *err)
{
    cm_status rc = give_back(fst_of(st), op, grant, err);

    file_drop(st, grant);
    return rc;
}

void file_drop(struct cm_storage *st, struct cm_grant *grant)
{
    (void)st;
    hold_free(grant->state);
    grant->state = NULL;
}
