/* SPDX-License-Identifier: Apache-2.0 */
#include "hot.h"

#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* Directories are watched, not files: a file that is replaced by renaming takes its watch with it,
 * and a link that is turned elsewhere is no event of any file. */

#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF |           \
     IN_MOVE_SELF | IN_ONLYDIR)

int cm_hot_watch_open(void)
{
    return inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

/* The directory that @path lies in. */
static bool dir_of(const char *path, char ret[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL || slash == path ? 1 : (size_t)(slash - path);

    if (len >= PATH_MAX)
        return false;
    memcpy(ret, slash == NULL ? "." : path, len);
    ret[len] = '\0';
    return true;
}

static int watch_dir_of(int fd, const char *path)
{
    char dir[PATH_MAX];

    return dir_of(path, dir) ? inotify_add_watch(fd, dir, EVENTS) : -1;
}

/* If the directory of @file is itself a link, the directory that this link lies in. *@io_all is
 * cleared when that is needed and cannot be had. */
static int watch_link_of(int fd, const char *file, bool *io_all)
{
    char dir[PATH_MAX];
    struct stat sb;
    int watch;

    if (!dir_of(file, dir) || lstat(dir, &sb) != 0 || !S_ISLNK(sb.st_mode))
        return -1;
    watch = watch_dir_of(fd, dir);
    *io_all = *io_all && watch >= 0;
    return watch;
}

static bool has(const int *set, size_t n, int watch)
{
    for (size_t i = 0; i < n; i++)
        if (set[i] == watch)
            return true;
    return false;
}

bool cm_hot_watch_pair(int fd, struct cm_hot_pair *p, int ret_dropped[CM_HOT_DIRS])
{
    int now[CM_HOT_DIRS];
    char real[PATH_MAX];
    bool all = true;

    for (size_t i = 0; i < 2; i++) {
        now[i] = watch_dir_of(fd, p->file[i]);
        now[2 + i] = realpath(p->file[i], real) != NULL ? watch_dir_of(fd, real) : -1;
        now[4 + i] = watch_link_of(fd, p->file[i], &all);
        all = all && now[i] >= 0 && now[2 + i] >= 0;
    }
    for (size_t i = 0; i < CM_HOT_DIRS; i++) {
        ret_dropped[i] = has(now, CM_HOT_DIRS, p->watch[i]) ? -1 : p->watch[i];
        p->watch[i] = now[i];
    }
    return all;
}

void cm_hot_watch_drop(int fd, int watch)
{
    (void)inotify_rm_watch(fd, watch); /* it may be gone with its directory */
}

bool cm_hot_watch_drain(int fd)
{
    _Alignas(struct inotify_event) char events[4096];
    bool any = false;

    while (read(fd, events, sizeof events) > 0)
        any = true;
    return any;
}
