/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* The system calls that change the disk, each announced to the test hook: so tests can make the
 * n-th fail, kill the process before it, cut writes short and pin the order of flushes. */

static _Atomic(cm_file_hook_fn) file_hook;

void cm_file_set_hook(cm_file_hook_fn hook)
{
    atomic_store(&file_hook, hook);
}

/* 0 or -1 with errno. */
static int announce(enum cm_file_call call, const char *name, size_t *len)
{
    cm_file_hook_fn hook = atomic_load(&file_hook);
    size_t none = 0;
    int fail;

    if (hook == NULL)
        return 0;
    fail = hook(call, name, len != NULL ? len : &none);
    if (fail == 0)
        return 0;
    errno = fail;
    return -1;
}

/* The mode is part of the creation, so there is no moment at which others could open the file; the
 * fchmod only gives back what an umask like 0777 took. */
int fst_sys_create(int dir, const char *name, int *ret_fd)
{
    int fd;

    if (announce(CM_FILE_CREATE, name, NULL) != 0)
        return -1;
    do {
        fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -1;
    if (fchmod(fd, 0600) != 0) {
        int saved = errno;

        (void)close(fd);
        (void)unlinkat(dir, name, 0);
        errno = saved;
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

static int write_all(int fd, struct cm_span value, const char *name, bool at_start)
{
    size_t done = 0;

    while (done < value.len) {
        size_t len = value.len - done;
        ssize_t n;

        if (announce(CM_FILE_WRITE, name, &len) != 0)
            return -1;
        n = at_start ? pwrite(fd, value.data + done, len, (off_t)done)
                     : write(fd, value.data + done, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

int fst_sys_write(int fd, struct cm_span value, const char *name)
{
    return write_all(fd, value, name, false);
}

/* Never cut first: a reader in between would find nothing. */
int fst_sys_pwrite(int fd, struct cm_span value, const char *name)
{
    if (write_all(fd, value, name, true) != 0)
        return -1;
    return ftruncate(fd, (off_t)value.len);
}

/* Not tried again on failure, EINTR included: the kernel may have dropped the dirty pages and
 * would say yes the second time. */
int fst_sys_fsync(int fd, const char *name)
{
    if (announce(CM_FILE_FSYNC, name, NULL) != 0)
        return -1;
    return fsync(fd);
}

/* Some file systems cannot flush a directory and say EINVAL; there the rename itself is durable. */
int fst_sys_fsync_dir(int fd, const char *name)
{
    if (announce(CM_FILE_FSYNC_DIR, name, NULL) != 0)
        return -1;
    if (fsync(fd) != 0 && errno != EINVAL)
        return -1;
    return 0;
}

/* Network and quota file systems report a failed write only now. The descriptor is gone either
 * way, also on EINTR. */
int fst_sys_close(int *fd, const char *name)
{
    int refused = announce(CM_FILE_CLOSE, name, NULL);
    int saved = errno;
    int rc = close(*fd);

    *fd = -1;
    if (refused != 0) {
        errno = saved;
        return -1;
    }
    return rc != 0 && errno != EINTR ? -1 : 0;
}

int fst_sys_rename(int old_dir, const char *old_name, int new_dir, const char *new_name)
{
    if (announce(CM_FILE_RENAME, new_name, NULL) != 0)
        return -1;
    return renameat(old_dir, old_name, new_dir, new_name);
}

int fst_sys_link(int old_dir, const char *old_name, int new_dir, const char *new_name)
{
    if (announce(CM_FILE_LINK, new_name, NULL) != 0)
        return -1;
    return linkat(old_dir, old_name, new_dir, new_name, 0);
}

int fst_sys_unlink(int dir, const char *name, int flags)
{
    if (announce(CM_FILE_UNLINK, name, NULL) != 0)
        return -1;
    return unlinkat(dir, name, flags);
}

/* A group may be able to write to the parent, and swap what we have just made: never by following.
 */
int fst_sys_mkdir(int dir, const char *name)
{
    struct stat st;

    if (announce(CM_FILE_MKDIR, name, NULL) != 0)
        return -1;
    if (mkdirat(dir, name, 0700) != 0)
        return -1;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
        (st.st_mode & 0777) != 0700)
        return fchmodat(dir, name, (st.st_mode & 07000) | 0700, AT_SYMLINK_NOFOLLOW);
    return 0;
}

int fst_sys_read(int fd, uint8_t *out, size_t max, size_t enough, size_t *ret_len)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, out + len, max - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        len += (size_t)n;
        if (n == 0 || len >= enough)
            break;
    }
    *ret_len = len;
    return 0;
}
