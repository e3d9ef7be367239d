/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The guard of a lock: a small file that stays, with an OFD lock on it for the moments in which a
 * lock changes hands or a commit is carried out. The kernel drops it when its process dies, so it
 * is never stale; who is merely stopped in there keeps others waiting, which is the price of never
 * writing over a successor. Peers (certmagic) know nothing of guards; against them the lock files
 * are checked by inode (file_lock.c).
 *
 * The file also tells the fence, which must never go back, and who took the lock last: with that,
 * a process on the same kernel can see that the holder is dead without waiting for the lease to
 * run out. It is one record of fixed size in the first sector, written in place and flushed. When
 * it is lost or damaged, counting starts anew from the wall clock in ns, with which no count keeps
 * up; the sum in it tells, since one wrong digit could take the count back. */

#define MAGIC      "certmesh-guard 1\n"
#define PAUSE_NS   (2 * CM_NS_PER_MS)
#define OPEN_TRIES 8
#define SUM_BYTES  21
#define OLD_NS     (30 * 24 * 3600 * CM_NS_PER_S)

/* ---------------------------------------------------------------- OFD lock */

int fst_ofd_try(int fd)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
        return 0;
    return errno == EACCES ? EAGAIN : errno;
}

/* A process forked meanwhile has the same open file, and closing ours would leave the lock to it.
 */
void fst_ofd_release(int fd)
{
    struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

    (void)fcntl(fd, F_OFD_SETLK, &fl);
}

bool fst_ofd_is_held(int fd)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    /* When in doubt, somebody does. */
    return fcntl(fd, F_OFD_GETLK, &fl) != 0 || fl.l_type != F_UNLCK;
}

/* ------------------------------------------------------------------ record */

static bool copy_text(const char *from, size_t len, char *out, size_t size)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(out, from, len);
    out[len] = '\0';
    return true;
}

static bool parse_u64(const char *s, size_t len, uint64_t *ret)
{
    uint64_t v = 0;

    if (len == 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s[i] - '0'), &v))
            return false;
    }
    *ret = v;
    return true;
}

/* "name value\n" at *at; the value without padding. */
static bool next_field(const char **at, const char *end, const char *name, const char **value,
                       size_t *len)
{
    size_t n = strlen(name);
    const char *lf;

    if ((size_t)(end - *at) <= n || memcmp(*at, name, n) != 0 || (*at)[n] != ' ')
        return false;
    *value = *at + n + 1;
    lf = memchr(*value, '\n', (size_t)(end - *value));
    if (lf == NULL)
        return false;
    *len = (size_t)(lf - *value);
    *at = lf + 1;
    return true;
}

/* Of all that stands before the line "sum". */
static unsigned long long sum_of(const char *text, size_t len)
{
    return cm_fnv1a64(CM_FNV1A64, text, len);
}

static bool sum_holds(const char *text, const char *at, const char *end)
{
    const char *value;
    char want[17];
    size_t before = (size_t)(at - text);
    size_t len;

    if (!next_field(&at, end, "sum", &value, &len) || len != sizeof want - 1)
        return false;
    (void)snprintf(want, sizeof want, "%016llx", sum_of(text, before));
    return memcmp(value, want, len) == 0;
}

bool fst_guard_parse(const char *text, size_t text_len, struct fst_guard_record *ret)
{
    struct fst_guard_record rec = { 0, "-", "", 0 };
    const char *end = text + text_len;
    const char *at = text + sizeof MAGIC - 1;
    const char *value;
    size_t len;
    uint64_t ttl = 0;

    if (text_len < sizeof MAGIC - 1 || memcmp(text, MAGIC, sizeof MAGIC - 1) != 0)
        return false;
    if (!next_field(&at, end, "fence", &value, &len) || !parse_u64(value, len, &rec.fence) ||
        rec.fence == 0)
        return false;
    if (!next_field(&at, end, "boot", &value, &len) ||
        !copy_text(value, len, rec.boot_id, sizeof rec.boot_id) ||
        !next_field(&at, end, "created", &value, &len) ||
        !copy_text(value, len, rec.created, sizeof rec.created) ||
        !next_field(&at, end, "ttl_ns", &value, &len) || !parse_u64(value, len, &ttl) ||
        ttl > (uint64_t)FST_STALE_NS || !sum_holds(text, at, end))
        return false;
    rec.ttl_ns = (int64_t)ttl;
    *ret = rec;
    return true;
}

static bool record_read(int fd, struct fst_guard_record *ret)
{
    char text[FST_GUARD_BYTES];
    ssize_t n;

    do {
        n = pread(fd, text, sizeof text, 0);
    } while (n < 0 && errno == EINTR);
    return n > 0 && fst_guard_parse(text, (size_t)n, ret);
}

void fst_guard_text(const struct fst_guard_record *rec, char *out)
{
    int n = snprintf(
        out, FST_GUARD_BYTES + 1, MAGIC "fence %020llu\nboot %s\ncreated %s\nttl_ns %lld\n",
        (unsigned long long)rec->fence, rec->boot_id, rec->created, (long long)rec->ttl_ns);

    CM_ASSERT(n > 0 && n < (int)(FST_GUARD_BYTES - SUM_BYTES));
    n +=
        snprintf(out + n, FST_GUARD_BYTES + 1 - (size_t)n, "sum %016llx\n", sum_of(out, (size_t)n));
    memset(out + n, '\n', FST_GUARD_BYTES - (size_t)n); /* always the same size: no torn tail */
}

cm_status fst_guard_write(struct fst_guard *g, const char *safe, struct cm_err *err)
{
    char text[FST_GUARD_BYTES + 1];
    struct cm_span span = { (const uint8_t *)text, FST_GUARD_BYTES };

    fst_guard_text(&g->rec, text);
    if (fst_sys_pwrite(g->fd, span, safe) != 0 || fst_sys_fsync(g->fd, safe) != 0)
        return cm_fail_errno(err, "write the guard of lock '%s'", safe);
    return CM_OK;
}

/* ------------------------------------------------------------------ section */

static void guard_file(const char *safe, char *out, size_t size)
{
    (void)snprintf(out, size, "%.249s.guard", safe);
}

static int open_guard(int dir, const char *file)
{
    const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = openat(dir, file, flags);

    if (fd >= 0 || errno != ENOENT)
        return fd;
    if (fst_sys_create(dir, file, &fd) == 0)
        return fd;
    return errno == EEXIST ? openat(dir, file, flags) : -1;
}

/* A file that was deleted after we opened it guards nothing. */
static bool is_current(int dir, const char *file, int fd)
{
    struct stat a;
    struct stat b;

    return fstat(fd, &a) == 0 && fstatat(dir, file, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static void warn_no_ofd(struct file_storage *fs, int e)
{
    bool warn;

    cm_mutex_lock(&fs->mutex);
    warn = !fs->warned_no_ofd;
    fs->warned_no_ofd = true;
    cm_mutex_unlock(&fs->mutex);
    if (warn)
        cm_logf(&fs->log, CM_LOG_WARN, "storage_no_ofd_locks", NULL, 0,
                "the file system of '%s' has no file locks (%s): locks rest on lock files alone, "
                "so use it from one host only",
                fs->path, strerror(e));
}

/* Waiting here is for other threads and processes, so it is real time whatever clock a test
 * gave us. */
static cm_status pause_for_guard(const struct cm_op *op, int64_t *patience_ns, const char *safe,
                                 struct cm_err *err)
{
    const struct cm_env *env = cm_env_system();
    cm_status rc = cm_op_check(op, err);

    if (rc != CM_OK)
        return cm_wrap(err, rc, "lock '%s'", safe);
    if (*patience_ns <= 0)
        return cm_fail(err, CM_E_BUSY,
                       "lock '%s' is being changed by another process; if this lasts, look for a "
                       "stopped one",
                       safe);
    *patience_ns -= PAUSE_NS;
    rc = env->wait(env, op != NULL ? op->cancel : NULL, PAUSE_NS);
    return rc == CM_OK ? CM_OK : cm_fail(err, rc, "lock '%s': canceled", safe);
}

cm_status fst_guard_enter(struct file_storage *fs, const struct cm_op *op, const char *safe,
                          int64_t patience_ns, struct fst_guard *ret, struct cm_err *err)
{
    CM_AUTO_CLOSE int dir = -1;
    char file[CM_STORAGE_COMPONENT_MAX + 1];
    char key[sizeof FST_GUARD_DIR + sizeof file];
    cm_status rc = fst_open_dir(fs, FST_GUARD_DIR, strlen(FST_GUARD_DIR), true, &dir, err);

    guard_file(safe, file, sizeof file);
    for (unsigned try = 0; rc == CM_OK && try < OPEN_TRIES; try++) {
        CM_AUTO_CLOSE int fd = open_guard(dir, file);
        struct stat st;
        int e;

        (void)snprintf(key, sizeof key, FST_GUARD_DIR "/%s", file);
        if (fd < 0)
            return fst_explain_value(fs, dir, file, key, err);
        if (fstat(fd, &st) != 0)
            return cm_fail_errno(err, "open '%s/%s'", fs->path, key);
        rc = fst_check_value(fs, key, &st, err);
        if (rc != CM_OK)
            return rc;
        while ((e = fst_ofd_try(fd)) == EAGAIN || e == EINTR) {
            rc = pause_for_guard(op, &patience_ns, safe, err);
            if (rc != CM_OK)
                return rc;
        }
        if (e != 0)
            warn_no_ofd(fs, e);
        if (!is_current(dir, file, fd)) {
            fst_ofd_release(fd);
            continue;
        }
        memset(ret, 0, sizeof *ret);
        if (!record_read(fd, &ret->rec)) {
            memset(&ret->rec, 0, sizeof ret->rec);
            ret->rec.fence = (uint64_t)fs->env->wall_ns(fs->env);
        }
        ret->fd = fd;
        fd = -1;
        return CM_OK;
    }
    return rc != CM_OK ? rc : cm_fail(err, CM_E_IO, "the guard of lock '%s' keeps vanishing", safe);
}

void fst_guard_leave(struct fst_guard *g)
{
    if (g->fd >= 0) {
        fst_ofd_release(g->fd);
        (void)close(g->fd);
    }
    g->fd = -1;
}

void fst_guard_peek(struct file_storage *fs, const char *safe, struct fst_guard_record *ret)
{
    CM_AUTO_CLOSE int dir = -1;
    CM_AUTO_CLOSE int fd = -1;
    char file[CM_STORAGE_COMPONENT_MAX + 1];

    memset(ret, 0, sizeof *ret);
    if (fst_open_dir(fs, FST_GUARD_DIR, strlen(FST_GUARD_DIR), false, &dir, NULL) != CM_OK)
        return;
    guard_file(safe, file, sizeof file);
    fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && !record_read(fd, ret))
        memset(ret, 0, sizeof *ret);
}

int64_t fst_guard_file_now_ns(const struct fst_guard *g)
{
    struct stat st;

    if (futimens(g->fd, NULL) != 0 || fstat(g->fd, &st) != 0)
        return INT64_MIN; /* then nothing looks old */
    return fst_ns(st.st_mtim);
}

/* Some lock names are used once (those of renewal information), so guards would pile up for ever.
 * One that nobody has entered for a month goes, unless it is held or its lock exists. Who opens it
 * at this moment notices (is_current), and the next count starts far above. */
void fst_guard_sweep(struct file_storage *fs)
{
    CM_AUTO_CLOSE int dir = -1;
    struct stat now;
    const struct dirent *e;
    DIR *d;

    if (fst_open_dir(fs, FST_GUARD_DIR, strlen(FST_GUARD_DIR), false, &dir, NULL) != CM_OK ||
        futimens(dir, NULL) != 0 || fstat(dir, &now) != 0)
        return;
    d = fdopendir(dir);
    if (d == NULL)
        return;
    dir = -1; /* d owns it */
    while ((e = readdir(d)) != NULL) {
        char lock[sizeof FST_LOCK_DIR + sizeof e->d_name + 8];
        const char *dot = strrchr(e->d_name, '.');
        struct stat st;

        if (dot == NULL || strcmp(dot, ".guard") != 0 ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
            fst_ns(now.st_mtim) - fst_ns(st.st_mtim) < OLD_NS)
            continue;
        (void)snprintf(lock, sizeof lock, FST_LOCK_DIR "/%.*s.lock", (int)(dot - e->d_name),
                       e->d_name);
        CM_AUTO_CLOSE int fd = openat(dirfd(d), e->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fst_ofd_try(fd) == 0) {
            if (fstatat(fs->root, lock, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT &&
                is_current(dirfd(d), e->d_name, fd))
                (void)fst_sys_unlink(dirfd(d), e->d_name, 0);
            fst_ofd_release(fd);
        }
    }
    (void)closedir(d);
}
