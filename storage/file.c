/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The file backend: certmagic's layout (a fleet may be mixed), with what its own implementation
 * lacks. This file opens and closes it; file.h says where the rest is. */

static atomic_bool force_walk;

void cm_file_force_walk(bool on)
{
    atomic_store(&force_walk, on);
}

struct file_storage *fst_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct file_storage, base);
}

static const char *file_describe(struct cm_storage *st)
{
    return fst_of(st)->url;
}

static void file_destroy(struct cm_storage *st)
{
    struct file_storage *fs = fst_of(st);

    if (fs->root >= 0)
        (void)close(fs->root);
    (void)pthread_mutex_destroy(&fs->mutex);
    free(fs->path);
    free(fs->url);
    free(fs);
}

static const struct cm_storage_ops file_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "file",
    .store = file_store,
    .load = file_load,
    .remove = file_remove,
    .stat = file_stat,
    .list = file_list,
    .list_after = file_list_after,
    .try_lock = file_try_lock,
    .refresh = file_refresh,
    .unlock = file_unlock,
    .drop = file_drop,
    .commit = file_commit,
    .describe = file_describe,
    .destroy = file_destroy,
    .lock_info = file_lock_info,
    .watch = file_watch,
    .unwatch = file_unwatch,
    .load_many = file_load_many,
    .check = file_check,
};

/* Kernels before 5.6 lack openat2, and some sandboxes refuse what they do not know. */
static bool has_openat2(int root)
{
    struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    long fd;

    if (atomic_load(&force_walk))
        return false;
    fd = syscall(SYS_openat2, root, ".", &how, sizeof how);
    if (fd >= 0)
        (void)close((int)fd);
    return fd >= 0;
}

/* Only those that are known to be; what is not known may be shared. */
static bool is_local(int root)
{
    static const long kinds[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,  BTRFS_SUPER_MAGIC,
                                  TMPFS_MAGIC,      F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC };
    struct statfs st;

    if (fstatfs(root, &st) != 0)
        return false;
    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++)
        if ((long)st.f_type == kinds[i])
            return true;
    return false;
}

/* Some that encrypt names have less room for them. */
static size_t name_max(int root)
{
    struct statfs st;

    return fstatfs(root, &st) == 0 && st.f_namelen > 0 ? (size_t)st.f_namelen
                                                       : CM_STORAGE_COMPONENT_MAX;
}

/* Tells this run of this kernel from all others; "-" when there is no telling. */
static void read_boot_id(char *out)
{
    CM_AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    size_t len = 0;

    if (fd < 0 || fst_sys_read(fd, (uint8_t *)out, FST_BOOT_ID - 1, FST_BOOT_ID - 1, &len) != 0)
        len = 0;
    out[len] = '\0';
    out[strcspn(out, "\n ")] = '\0';
    if (out[0] == '\0')
        (void)memccpy(out, "-", '\0', FST_BOOT_ID);
}

/* Absolute, so that the directory is found again whatever the program does to its working
 * directory; without a '/' at the end. */
static char *absolute(const char *path)
{
    CM_AUTO_FREE char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *full;
    size_t len;

    if (path[0] == '/')
        full = cm_strdup(path);
    else
        full = cwd != NULL ? cm_asprintf("%s/%s", cwd, path) : NULL;
    if (full == NULL)
        return NULL;
    for (len = strlen(full); len > 1 && full[len - 1] == '/'; len--)
        full[len - 1] = '\0';
    return full;
}

cm_status cm_storage_file_open(const char *path, const struct cm_storage_open_options *opts,
                               struct cm_storage **ret, struct cm_err *err)
{
    struct file_storage *fs = cm_calloc(1, sizeof *fs);
    cm_status rc;

    if (fs == NULL)
        return cm_fail_nomem(err);
    fs->base.ops = &file_ops;
    fs->root = -1;
    fs->env = opts != NULL && opts->env != NULL ? opts->env : cm_env_system();
    if (opts != NULL)
        fs->log = opts->log;
    cm_mutex_init(&fs->mutex);
    fs->path = absolute(path);
    fs->url = fs->path != NULL ? cm_asprintf("file://%s", fs->path) : NULL;
    if (fs->url == NULL)
        rc = cm_fail_nomem(err);
    else
        rc = fst_open_root(fs->path, &fs->root, err);
    if (rc != CM_OK) {
        file_destroy(&fs->base);
        return rc;
    }
    fs->use_openat2 = has_openat2(fs->root);
    fs->is_local = is_local(fs->root);
    fs->name_max = name_max(fs->root);
    read_boot_id(fs->boot_id);
    fs->next_sweep_ns = INT64_MIN;
    fs->recover_after_ns = INT64_MIN;
    fst_recover(fs, NULL);
    fst_lock_sweep(fs);
    *ret = &fs->base;
    return CM_OK;
}
