/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From keys to descriptors. Everything is reached from the descriptor of the root, and nothing
 * below it may be a symbolic link, a FIFO, a device or another's: a local user who can put such a
 * thing there must not get us to read, write or wait where he likes. The root itself may be
 * reached through links, as operators do that; from then on it is held by descriptor. */

int64_t fst_ns(struct timespec ts)
{
    return (int64_t)ts.tv_sec * CM_NS_PER_S + ts.tv_nsec;
}

const char *fst_type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return "a symbolic link";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFBLK:
    case S_IFCHR:
        return "a device";
    case S_IFDIR:
        return "a directory";
    default:
        return "a regular file";
    }
}

bool fst_is_reserved(const char *key)
{
    static const char *const names[] = { FST_LOCK_DIR, FST_GUARD_DIR, FST_REDO_DIR, FST_TMP_DIR };

    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return false;
}

/* Root may own things too: whoever is root can do anything to us anyhow, and provisioning often
 * runs as root. */
static bool is_trusted_owner(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

static cm_status check_dir(const char *root, const char *name, const struct stat *st,
                           struct cm_err *err)
{
    if (!is_trusted_owner(st->st_uid))
        return cm_fail(err, CM_E_PERM,
                       "storage directory '%s/%s' belongs to uid %lu, but this program runs as uid "
                       "%lu: run it as that user or chown the directory",
                       root, name, (unsigned long)st->st_uid, (unsigned long)geteuid());
    if ((st->st_mode & S_IWOTH) != 0)
        return cm_fail(
            err, CM_E_PERM,
            "storage directory '%s/%s' can be written by everyone (mode %04o): chmod o-w", root,
            name, (unsigned)(st->st_mode & 07777));
    return CM_OK;
}

cm_status fst_check_value(struct file_storage *fs, const char *key, const struct stat *st,
                          struct cm_err *err)
{
    if (!S_ISREG(st->st_mode))
        return cm_fail(err, CM_E_PERM, "'%s/%s' is %s where a regular file should be: remove it",
                       fs->path, key, fst_type_name(st->st_mode));
    if (!is_trusted_owner(st->st_uid))
        return cm_fail(err, CM_E_PERM,
                       "'%s/%s' belongs to uid %lu, but this program runs as uid %lu: run it as "
                       "that user or chown the file",
                       fs->path, key, (unsigned long)st->st_uid, (unsigned long)geteuid());
    /* None is fine: it was replaced after we opened it, and is the old value, whole. */
    if (st->st_nlink > 1)
        return cm_fail(err, CM_E_PERM,
                       "'%s/%s' has %lu hard links: somebody else has a name for it; copy it, "
                       "remove it and move the copy there",
                       fs->path, key, (unsigned long)st->st_nlink);
    if ((st->st_mode & 022) != 0)
        return cm_fail(err, CM_E_PERM,
                       "'%s/%s' can be written by others (mode %04o), so its content cannot be "
                       "trusted: check it, then chmod go-w",
                       fs->path, key, (unsigned)(st->st_mode & 07777));
    return CM_OK;
}

/* ------------------------------------------------------------------- root */

/* mkdir -p; only what is made here gets a mode from here. */
static cm_status make_root(const char *path, struct cm_err *err)
{
    CM_AUTO_FREE char *part = cm_strdup(path);

    if (part == NULL)
        return cm_fail_nomem(err);
    for (char *c = part + 1;; c++) {
        char was = *c;

        if (was != '/' && was != '\0')
            continue;
        *c = '\0';
        if (mkdir(part, 0700) == 0)
            /* An umask may have taken more than it should. Others may be able to write where the
             * root is made, so that what has this name now need not be what was made. */
            (void)!fchmodat(AT_FDCWD, part, 0700, AT_SYMLINK_NOFOLLOW);
        else if (errno != EEXIST && (was == '\0' || errno != EROFS))
            return cm_fail_errno(err, "make storage directory '%s'", part);
        *c = was;
        if (was == '\0')
            return CM_OK;
    }
}

cm_status fst_open_root(const char *path, int *ret, struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = -1;
    struct stat st;
    cm_status rc;

    fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        rc = make_root(path, err);
        if (rc != CM_OK)
            return rc;
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        if (errno == ENOTDIR)
            return cm_fail(err, CM_E_IO, "storage path '%s' is not a directory", path);
        rc = cm_fail_errno(err, "open storage directory '%s'", path);
        return rc == CM_E_NOTFOUND ? cm_wrap(err, CM_E_IO, "storage") : rc;
    }
    rc = check_dir(path, "", &st, err);
    if (rc != CM_OK)
        return rc;
    *ret = fd;
    fd = -1;
    return CM_OK;
}

/* The root was deleted while we ran: make it anew. A node that serves from its cache should not
 * need a restart to store again. The descriptor keeps its number, so that others who are about to
 * use it find either the dead directory or the new one. */
static bool revive(struct file_storage *fs)
{
    CM_AUTO_CLOSE int fd = -1;
    struct stat st;
    bool done = false;

    if (fstat(fs->root, &st) != 0 || st.st_nlink > 0)
        return false;
    if (fst_open_root(fs->path, &fd, NULL) != CM_OK)
        return false;
    cm_mutex_lock(&fs->mutex);
    if (fstat(fs->root, &st) == 0 && st.st_nlink == 0)
        done = dup3(fd, fs->root, O_CLOEXEC) >= 0;
    cm_mutex_unlock(&fs->mutex);
    if (done)
        cm_logf(&fs->log, CM_LOG_WARN, "storage_recreated", NULL, 0,
                "storage directory '%s' had been deleted; it is in use again, empty", fs->path);
    return true;
}

/* ------------------------------------------------------------ directories */

static int open_beneath(struct file_storage *fs, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    do {
        fd = syscall(SYS_openat2, fs->root, path, &how, sizeof how);
    } while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return (int)fd;
}

static int flush_at(int dir, const char *name)
{
    CM_AUTO_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -1 : fst_sys_fsync_dir(fd, name);
}

/* One component, made if missing: then the entry is flushed too, or the values below could be
 * durable and yet unreachable. */
static int step(int dir, const char *name, bool create)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir, name, flags);

    if (fd >= 0 || errno != ENOENT || !create)
        return fd;
    if (fst_sys_mkdir(dir, name) == 0) {
        if (flush_at(dir, name) != 0)
            return -1;
    } else if (errno != EEXIST) {
        return -1;
    }
    return openat(dir, name, flags);
}

static int walk(struct file_storage *fs, char *path, bool create)
{
    char *save = path;
    int cur = fs->root;

    while (save != NULL) {
        char *name = strsep(&save, "/");
        int next = step(cur, name, create);
        int saved = errno;

        if (cur != fs->root)
            (void)close(cur);
        if (next < 0) {
            errno = saved;
            return -1;
        }
        cur = next;
    }
    return cur;
}

/* Why the directory @path could not be opened (errno is set): find the component at fault. */
static cm_status explain_dir(struct file_storage *fs, const char *path, struct cm_err *err)
{
    int saved = errno;
    char part[CM_STORAGE_KEY_MAX + 1];
    struct stat st;

    for (const char *c = strchrnul(path, '/');; c = strchrnul(c + 1, '/')) {
        memcpy(part, path, (size_t)(c - path));
        part[c - path] = '\0';
        if (fstatat(fs->root, part, &st, AT_SYMLINK_NOFOLLOW) != 0)
            break;
        if (S_ISREG(st.st_mode))
            return cm_fail(err, CM_E_EXISTS, "'%s/%s' is a value where a directory is needed",
                           fs->path, part);
        if (!S_ISDIR(st.st_mode))
            return cm_fail(err, CM_E_PERM,
                           "'%s/%s' is %s where a directory is needed: it is not followed; put a "
                           "real directory there",
                           fs->path, part, fst_type_name(st.st_mode));
        if (*c == '\0')
            break;
    }
    errno = saved;
    return cm_fail_errno(err, "storage directory '%s/%s'", fs->path, path);
}

/* The directories above @path, for writing: who owns one of them can take away what we put below.
 * Reading is content with the last one, and with what the content says. */
static cm_status check_way(struct file_storage *fs, const char *path, struct cm_err *err)
{
    char part[CM_STORAGE_KEY_MAX + 1];
    struct stat st;
    cm_status rc = CM_OK;

    for (const char *c = strchr(path, '/'); c != NULL && rc == CM_OK; c = strchr(c + 1, '/')) {
        memcpy(part, path, (size_t)(c - path));
        part[c - path] = '\0';
        if (fstatat(fs->root, part, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
            rc = check_dir(fs->path, part, &st, err);
    }
    return rc;
}

static cm_status open_dir_once(struct file_storage *fs, const char *path, bool create, int *ret,
                               struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = -1;
    char part[CM_STORAGE_KEY_MAX + 1];
    struct stat st;
    cm_status rc;

    (void)memccpy(part, path, '\0', sizeof part);
    if (fs->use_openat2)
        fd = open_beneath(fs, path);
    if (!fs->use_openat2 || (fd < 0 && errno == ENOENT && create))
        fd = walk(fs, part, create);
    if (fd < 0)
        return explain_dir(fs, path, err);
    if (fstat(fd, &st) != 0)
        return cm_fail_errno(err, "storage directory '%s/%s'", fs->path, path);
    rc = check_dir(fs->path, path, &st, err);
    if (rc == CM_OK && create)
        rc = check_way(fs, path, err);
    if (rc != CM_OK)
        return rc;
    *ret = fd;
    fd = -1;
    return CM_OK;
}

cm_status fst_open_dir(struct file_storage *fs, const char *key, size_t len, bool create, int *ret,
                       struct cm_err *err)
{
    char path[CM_STORAGE_KEY_MAX + 1] = ".";
    cm_status rc;

    if (len >= sizeof path)
        return cm_fail(err, CM_E_INVAL, "storage key '%s' is too long", key);
    if (len > 0) {
        memcpy(path, key, len);
        path[len] = '\0';
    }
    rc = open_dir_once(fs, path, create, ret, err);
    if (rc == CM_E_NOTFOUND && revive(fs))
        rc = open_dir_once(fs, path, create, ret, err);
    return rc;
}

cm_status fst_open_parent(struct file_storage *fs, const char *key, bool create, int *ret_dir,
                          const char **ret_leaf, struct cm_err *err)
{
    const char *slash = strrchr(key, '/');

    *ret_leaf = slash != NULL ? slash + 1 : key;
    return fst_open_dir(fs, key, slash != NULL ? (size_t)(slash - key) : 0, create, ret_dir, err);
}

/* ----------------------------------------------------------------- values */

cm_status fst_explain_value(struct file_storage *fs, int dir, const char *leaf, const char *key,
                            struct cm_err *err)
{
    struct stat st;
    int saved = errno;

    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        cm_status rc = fst_check_value(fs, key, &st, err);

        if (rc != CM_OK)
            return rc;
    }
    errno = saved;
    if (saved == ENOENT)
        return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
    return cm_fail_errno(err, "open '%s/%s'", fs->path, key);
}

/* O_NONBLOCK: a FIFO in place of the value must not hold us up. */
cm_status fst_open_value(struct file_storage *fs, int dir, const char *leaf, const char *key,
                         int *ret, struct stat *ret_st, struct cm_err *err)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    CM_AUTO_CLOSE int fd = -1;
    struct stat st;
    cm_status rc;

    do {
        fd = openat(dir, leaf, flags);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 && errno == ESTALE)
        fd = openat(dir, leaf, flags);
    if (fd < 0)
        return fst_explain_value(fs, dir, leaf, key, err);
    if (fstat(fd, &st) != 0)
        return cm_fail_errno(err, "open '%s/%s'", fs->path, key);
    if (S_ISDIR(st.st_mode))
        return cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s': it is a directory", key);
    rc = fst_check_value(fs, key, &st, err);
    if (rc != CM_OK)
        return rc;
    *ret = fd;
    *ret_st = st;
    fd = -1;
    return CM_OK;
}
