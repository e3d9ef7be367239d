/* SPDX-License-Identifier: Apache-2.0 */
#include "fs_attack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CANARY  "CANARY that lies outside"
#define WALL_NS INT64_C(15000000000) /* an operation that takes longer hangs */

bool naive;
unsigned cases, findings;
char now_at[PATH_BYTES + 64];
char base_dir[PATH_BYTES];
struct print was;

static struct cm_storage *st;
static struct cm_err err;
static struct cm_grant kept;

void broken(const char *what)
{
    findings++;
    if (findings <= 20)
        printf("FAILED: %s: %s\n", now_at, what);
}

/* ------------------------------------------------------------------- places */

const char *in_store(const char *rel)
{
    static char path[4][2 * PATH_BYTES];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof path[0], "%s/store%s%s", base_dir, rel[0] != '\0' ? "/" : "", rel);
    return p;
}

static const char *in_outside(const char *rel)
{
    static char path[2 * PATH_BYTES];

    snprintf(path, sizeof path, "%s/outside%s%s", base_dir, rel[0] != '\0' ? "/" : "", rel);
    return path;
}

static int rm_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)sb;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int open_up(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)ftw;
    if (flag == FTW_D || flag == FTW_DNR)
        (void)chmod(path, (sb->st_mode & 07777) | 0700);
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, open_up, 16, FTW_PHYS);
    (void)nftw(path, rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

void wipe_store(void)
{
    remove_tree(in_store(""));
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd) != 0) {
        perror(path);
        exit(2);
    }
}

void build_outside(void)
{
    static const char *const names[] = { "a.key", "a", "value", "x.guard", "precious" };

    remove_tree(in_outside(""));
    (void)mkdir(in_outside(""), 0755);
    (void)mkdir(in_outside("i"), 0755);
    (void)mkdir(in_outside("i/a"), 0755);
    write_file(in_outside("i/a/a.key"), CANARY);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (i != 1)
            write_file(in_outside(names[i]), CANARY);
    (void)mkdir(in_outside("a"), 0755);
    write_file(in_outside("a/a.key"), CANARY);
}

/* One value, one lock once taken: all directories there. */
void build_store(void)
{
    bool was_naive = naive;

    naive = false;
    wipe_store();
    (void)mkdir(in_store(""), 0700);
    if (open_store() != CM_OK || do_op(OP_STORE) != CM_OK || do_op(OP_LOCK) != CM_OK ||
        do_op(OP_COMMIT) != CM_OK) {
        printf("cannot build a store: %s\n", err.msg);
        exit(2);
    }
    close_store();
    naive = was_naive;
}

void set_base(const char *dir)
{
    if (strlen(dir) >= sizeof base_dir - 100 || (mkdir(dir, 0755) != 0 && errno != EEXIST)) {
        perror(dir);
        exit(2);
    }
    snprintf(base_dir, sizeof base_dir, "%s", dir);
}

/* ---------------------------------------------------------------- detectors */

static unsigned long long outside_sum;

static void mix(const void *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        outside_sum = (outside_sum ^ ((const unsigned char *)p)[i]) * 0x100000001B3ULL;
}

static int print_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    char text[4096];
    int fd;
    ssize_t n;

    (void)flag;
    (void)ftw;
    mix(path, strlen(path));
    mix(&sb->st_mode, sizeof sb->st_mode);
    mix(&sb->st_uid, sizeof sb->st_uid);
    mix(&sb->st_ino, sizeof sb->st_ino);
    mix(&sb->st_mtim.tv_sec, sizeof sb->st_mtim.tv_sec);
    mix(&sb->st_mtim.tv_nsec, sizeof sb->st_mtim.tv_nsec);
    if (S_ISREG(sb->st_mode) && (fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
        n = read(fd, text, sizeof text);
        mix(text, n > 0 ? (size_t)n : 0);
        (void)close(fd);
    }
    return 0;
}

/* The order of nftw() is that of the directory, which does not change either if nothing does. */
void fingerprint(struct print *ret)
{
    outside_sum = 0xCBF29CE484222325ULL;
    (void)nftw(in_outside(""), print_one, 16, FTW_PHYS);
    ret->sum = outside_sum;
}

void check_outside(void)
{
    struct print is;

    fingerprint(&is);
    if (is.sum != was.sum)
        broken("something outside was changed");
}

static int mode_one(const char *path, const struct stat *sb, int flag, struct FTW *ftw)
{
    (void)flag;
    (void)ftw;
    if (sb->st_uid == geteuid() && (S_ISREG(sb->st_mode) || S_ISDIR(sb->st_mode)) &&
        (sb->st_mode & 077) != 0 && (sb->st_mode & 01000) == 0) {
        printf("%s has mode %04o\n", path, (unsigned)(sb->st_mode & 07777));
        broken("something was made that others can use");
    }
    return 0;
}

/* What the attacker made of a mode of its own has the sticky bit. */
void check_modes(void)
{
    (void)nftw(in_store(""), mode_one, 16, FTW_PHYS);
}

/* --------------------------------------------------------------- operations */

cm_status open_store(void)
{
    char url[PATH_BYTES + 32];

    snprintf(url, sizeof url, "file://%s/store", base_dir);
    return cm_storage_open(url, NULL, &st, &err);
}

void close_store(void)
{
    cm_storage_close(st);
    st = NULL;
}

static cm_status see(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)user;
    (void)e;
    if (strstr(info->key, "precious") != NULL)
        broken("a name from outside was listed");
    return CM_OK;
}

static cm_status load(void)
{
    struct cm_buf got = CM_BUF_INIT(4096);
    char text[256] = "";
    cm_status rc = CM_OK;

    if (naive) {
        int fd = open(in_store(VALUE), O_RDONLY | O_NONBLOCK | O_CLOEXEC);

        rc = fd >= 0 && read(fd, text, sizeof text - 1) > 0 ? CM_OK : CM_E_NOTFOUND;
        if (fd >= 0)
            (void)close(fd);
    } else {
        rc = cm_storage_load(st, NULL, VALUE, &got, &err);
        if (rc == CM_OK)
            snprintf(text, sizeof text, "%.*s", (int)got.len, (const char *)got.data);
    }
    if (strstr(text, "CANARY") != NULL)
        broken("something outside was read");
    cm_buf_free(&got);
    return rc;
}

static cm_status store(void)
{
    if (naive) {
        int fd = open(in_store(VALUE), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0644);
        bool ok = fd >= 0 && write(fd, "mine", 4) == 4;

        if (fd >= 0)
            (void)close(fd);
        return ok ? CM_OK : CM_E_IO;
    }
    return cm_storage_store(st, NULL, VALUE, cm_span_str("mine"), &err);
}

cm_status keep_lock(void)
{
    int64_t wait_ns = 0;

    return cm_storage_try_lock(st, NULL, LOCK, CM_NS_PER_S, &kept, &wait_ns, &err);
}

void drop_kept(void)
{
    cm_storage_drop(st, &kept);
}

static cm_status lock(void)
{
    cm_status rc = keep_lock();

    return rc == CM_OK ? cm_storage_unlock(st, NULL, &kept, &err) : rc;
}

cm_status commit_kept(void)
{
    const struct cm_commit_item items[] = { { "certificates/i/a/a.crt", cm_span_str("c"), false },
                                            { VALUE, cm_span_str("mine"), false } };

    return cm_storage_commit(st, NULL, &kept, items, 2, &err);
}

static cm_status commit(void)
{
    cm_status rc = keep_lock();
    struct cm_err first;

    if (rc != CM_OK)
        return rc;
    rc = commit_kept();
    first = err;
    if (cm_storage_unlock(st, NULL, &kept, &err) != CM_OK && rc == CM_OK)
        return err.status;
    err = first;
    return rc;
}

cm_status do_op(enum op_kind op)
{
    struct cm_key_info info;

    err = (struct cm_err)CM_ERR_INIT;
    switch (op) {
    case OP_LOAD:
        return load();
    case OP_STORE:
        return store();
    case OP_STAT:
        return cm_storage_stat(st, NULL, VALUE, &info, &err);
    case OP_LIST:
        return cm_storage_list(st, NULL, "certificates", true, see, NULL, &err);
    case OP_LOCK:
        return lock();
    case OP_COMMIT:
        return commit();
    case OP_CLEAN:
        return cm_storage_remove(st, NULL, "certificates/i/b", &err);
    case OP_REMOVE:
        return cm_storage_remove(st, NULL, "certificates", &err);
    case OP_COUNT:
        break;
    }
    return CM_E_INVAL;
}

cm_status try_op(enum op_kind op, const char *where)
{
    struct timespec a;
    struct timespec b;
    const char *leaf;
    char what[1024];
    cm_status rc;

    (void)clock_gettime(CLOCK_MONOTONIC, &a);
    err = (struct cm_err)CM_ERR_INIT;
    rc = open_store();
    if (rc == CM_OK)
        rc = do_op(op);
    (void)clock_gettime(CLOCK_MONOTONIC, &b);
    if ((b.tv_sec - a.tv_sec) * CM_NS_PER_S + b.tv_nsec - a.tv_nsec > WALL_NS) {
        snprintf(what, sizeof what, "operation %d hung", (int)op);
        broken(what);
    }
    leaf = where != NULL ? strrchr(where, '/') : NULL;
    leaf = leaf != NULL ? leaf + 1 : where;
    /* A lock that nobody refreshes is taken away later: until then it is busy. */
    if (rc != CM_OK && rc != CM_E_NOTFOUND && rc != CM_E_BUSY && leaf != NULL && !naive &&
        (err.msg[0] == '\0' || strstr(err.msg, leaf) == NULL)) {
        snprintf(what, sizeof what, "operation %d does not name it: '%.400s'", (int)op, err.msg);
        broken(what);
    }
    close_store();
    return rc;
}

/* ------------------------------------------------------------------- things */

static const char *clear(const char *rel)
{
    remove_tree(in_store(rel));
    return in_store(rel);
}

static bool put_link(const char *rel, const char *target)
{
    return symlink(target, clear(rel)) == 0;
}

static bool put_link_outside(const char *rel, bool is_dir)
{
    return put_link(rel, in_outside(is_dir ? "" : "a.key"));
}

static bool put_link_other(const char *rel, bool is_dir)
{
    return put_link(rel, in_outside(is_dir ? "a.key" : ""));
}

static bool put_link_relative(const char *rel, bool is_dir)
{
    char target[PATH_BYTES] = "";

    for (const char *c = rel; *c != '\0'; c++)
        if (*c == '/')
            strcat(target, "../");
    strcat(target, is_dir ? "../outside/i/a" : "../outside/a.key");
    return put_link(rel, target);
}

static bool put_link_inside(const char *rel, bool is_dir)
{
    (void)mkdir(in_store("elsewhere"), 0700);
    write_file(in_store("elsewhere/a.key"), "inside");
    return put_link(rel, in_store(is_dir ? "elsewhere" : "elsewhere/a.key"));
}

static bool put_link_dangling(const char *rel, bool is_dir)
{
    (void)is_dir;
    return put_link(rel, in_outside("made-by-following"));
}

static bool put_link_loop(const char *rel, bool is_dir)
{
    const char *slash = strrchr(rel, '/');

    (void)is_dir;
    return put_link(rel, slash != NULL ? slash + 1 : rel);
}

static bool put_link_proc(const char *rel, bool is_dir)
{
    return put_link(rel, is_dir ? "/proc/self/cwd" : "/proc/self/environ");
}

static bool put_hard_link(const char *rel, bool is_dir)
{
    return !is_dir && link(in_outside("a.key"), clear(rel)) == 0;
}

static bool put_fifo(const char *rel, bool is_dir)
{
    (void)is_dir;
    return mkfifo(clear(rel), 0600) == 0;
}

static bool put_socket(const char *rel, bool is_dir)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *path = clear(rel);
    bool ok;

    (void)is_dir;
    if (strlen(path) >= sizeof sun.sun_path) {
        printf("the base directory is too long for a socket\n");
        exit(2);
    }
    memcpy(sun.sun_path, path, strlen(path) + 1);
    ok = bind(fd, (const struct sockaddr *)&sun, sizeof sun) == 0;
    (void)close(fd);
    return ok;
}

static bool put_device(const char *rel, bool is_dir)
{
    (void)is_dir;
    return mknod(clear(rel), S_IFCHR | 0600, makedev(1, 5)) == 0; /* endless zeros */
}

static bool put_other_kind(const char *rel, bool is_dir)
{
    const char *path = clear(rel);

    if (is_dir) {
        write_file(path, "a file");
        return true;
    }
    if (mkdir(path, 0700) != 0)
        return false;
    char inside[3 * PATH_BYTES];
    snprintf(inside, sizeof inside, "%s/kept", path);
    write_file(inside, "a value");
    return true;
}

static bool put_empty_dir(const char *rel, bool is_dir)
{
    return !is_dir && mkdir(clear(rel), 0700) == 0;
}

static bool put_foreign(const char *rel, bool is_dir)
{
    (void)is_dir;
    struct stat sb;

    if (lstat(in_store(rel), &sb) != 0)
        write_file(in_store(rel), "a record");
    return chown(in_store(rel), 12345, 12345) == 0;
}

/* With the sticky bit, to be known as the attacker's again. */
static bool put_open_to_all(const char *rel, bool is_dir)
{
    struct stat sb;

    if (lstat(in_store(rel), &sb) != 0)
        write_file(in_store(rel), "a record");
    return chmod(in_store(rel), is_dir ? 01777 : 01666) == 0;
}

const struct thing things[] = {
    { "a link to the outside", put_link_outside },
    { "a link to another kind outside", put_link_other },
    { "a relative link to the outside", put_link_relative },
    { "a link to the inside", put_link_inside },
    { "a link to nothing", put_link_dangling },
    { "a link to itself", put_link_loop },
    { "a link into /proc", put_link_proc },
    { "a hard link", put_hard_link },
    { "a FIFO", put_fifo },
    { "a socket", put_socket },
    { "a device", put_device },
    { "another kind of file", put_other_kind },
    { "an empty directory", put_empty_dir },
    { "something of another owner", put_foreign },
    { "something open to all", put_open_to_all },
    { NULL, NULL },
};
