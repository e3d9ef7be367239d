/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* What other processes on this kernel do, seen in two directories, see file_bell.c: certmesh/tmp,
 * where the names say what they are about, and locks, where a peer removes a lock that it gives
 * back. Other hosts are not seen, nor are values that peers store, who do not write by way of
 * certmesh/tmp.
 *
 * The kernel's queue is the queue, and the reader calls the watcher himself. A holder that dies is
 * seen, too: the kernel closes its lock file, which was made in certmesh/tmp and is known by that
 * name for as long as it is open. */

#define TMP_EVENTS  (IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF)
#define LOCK_EVENTS (IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF)
#define LOST_EVENTS (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)

#define RETRY_MS (1000)
#define CHECK_MS (30 * 1000) /* whether the directories are still the ones that are watched */

struct place {
    int wd; /* -1 = not watched */
    dev_t dev;
    ino_t ino;
};

struct cm_watch {
    struct file_storage *fs;
    cm_change_fn fn;
    void *user;
    pthread_t thread;
    struct cm_cancel *stop;
    int fd;
    struct place tmp;
    struct place locks;
};

/* --------------------------------------------------------------- standing */

static void leave(struct cm_watch *w, struct place *p)
{
    if (p->wd >= 0)
        (void)inotify_rm_watch(w->fd, p->wd); /* it may be gone with its directory */
    p->wd = -1;
}

/* By its descriptor, so that no link is followed. *@ret_new: it was not watched yet. */
static cm_status enter(struct cm_watch *w, struct place *p, const char *dir, uint32_t events,
                       bool *ret_new, struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = -1;
    char path[32];
    struct stat st;
    cm_status rc = fst_open_dir(w->fs, dir, strlen(dir), true, &fd, err);

    if (rc == CM_OK && fstat(fd, &st) != 0)
        rc = cm_fail_errno(err, "look at '%s/%s'", w->fs->path, dir);
    if (rc != CM_OK)
        return rc;
    if (p->wd >= 0 && p->dev == st.st_dev && p->ino == st.st_ino)
        return CM_OK;
    leave(w, p);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    p->wd = inotify_add_watch(w->fd, path, events | IN_ONLYDIR);
    if (p->wd < 0)
        return cm_fail(err, errno == ENOSPC || errno == ENOMEM ? CM_E_LIMIT : CM_E_UNSUPPORTED,
                       "changes in '%s/%s' cannot be watched: %s", w->fs->path, dir,
                       errno == ENOSPC ? "raise fs.inotify.max_user_watches"
                                       : strerrordesc_np(errno));
    p->dev = st.st_dev;
    p->ino = st.st_ino;
    *ret_new = true;
    return CM_OK;
}

static cm_status stand(struct cm_watch *w, bool *ret_new, struct cm_err *err)
{
    cm_status rc = enter(w, &w->tmp, FST_TMP_DIR, TMP_EVENTS, ret_new, err);

    if (rc == CM_OK)
        rc = enter(w, &w->locks, FST_LOCK_DIR, LOCK_EVENTS, ret_new, err);
    return rc;
}

/* ----------------------------------------------------------------- events */

static void tell(struct cm_watch *w, enum cm_change_kind kind, const char *key)
{
    const struct cm_change change = { (uint32_t)sizeof change, kind, key };

    w->fn(w->user, &change);
}

static void tell_of_temp(struct cm_watch *w, uint32_t mask, const char *name)
{
    char key[CM_STORAGE_KEY_MAX + 1];
    const char *what;

    if (!fst_bell_parse(name, &what, key))
        return;
    if (strcmp(what, FST_BELL_LOCK) == 0) {
        if ((mask & (IN_MOVED_TO | IN_CLOSE_WRITE)) != 0)
            tell(w, CM_CHANGE_UNLOCKED, key);
    } else if (strcmp(what, FST_BELL_GONE) == 0) {
        if ((mask & IN_CLOSE_WRITE) != 0)
            tell(w, CM_CHANGE_VALUE, key);
    } else if ((mask & IN_MOVED_FROM) != 0) {
        tell(w, CM_CHANGE_VALUE, key);
    }
}

static void tell_of_lock(struct cm_watch *w, const char *file)
{
    static const char suffix[] = ".lock";
    size_t len = strlen(file);
    char safe[CM_STORAGE_COMPONENT_MAX + 1];

    if (len < sizeof suffix || strcmp(file + len - (sizeof suffix - 1), suffix) != 0)
        return;
    (void)snprintf(safe, sizeof safe, "%.*s", (int)(len - (sizeof suffix - 1)), file);
    tell(w, CM_CHANGE_UNLOCKED, safe);
}

/* False when a directory is gone. */
static bool take_event(struct cm_watch *w, const struct inotify_event *e)
{
    struct place *p = e->wd == w->tmp.wd ? &w->tmp : e->wd == w->locks.wd ? &w->locks : NULL;

    if ((e->mask & IN_Q_OVERFLOW) != 0)
        tell(w, CM_CHANGE_MISSED, NULL);
    if (p == NULL)
        return true; /* of one that is watched no more */
    if ((e->mask & LOST_EVENTS) != 0) {
        leave(w, p);
        return false;
    }
    if (e->len == 0)
        return true;
    if (p == &w->tmp)
        tell_of_temp(w, e->mask, e->name);
    else
        tell_of_lock(w, e->name);
    return true;
}

static bool read_events(struct cm_watch *w)
{
    _Alignas(struct inotify_event) char bytes[8192];
    bool stands = true;
    ssize_t n;

    while (!cm_cancel_is_fired(w->stop) && (n = read(w->fd, bytes, sizeof bytes)) > 0) {
        for (const char *at = bytes; at < bytes + n && !cm_cancel_is_fired(w->stop);) {
            const struct inotify_event *e = (const void *)at;

            stands = take_event(w, e) && stands;
            at += sizeof *e + e->len;
        }
    }
    return stands;
}

static void *watch_main(void *arg)
{
    struct cm_watch *w = arg;
    bool stands = w->tmp.wd >= 0 && w->locks.wd >= 0;
    bool lost = false; /* this has been told */
    struct pollfd fds[] = { { w->fd, POLLIN, 0 }, { cm_cancel_fd(w->stop), POLLIN, 0 } };

    while (!cm_cancel_is_fired(w->stop)) {
        bool changed = false;
        int ready = poll(fds, CM_ARRAY_LEN(fds), stands ? CHECK_MS : RETRY_MS);

        if (ready > 0 && (fds[0].revents & POLLIN) != 0)
            stands = read_events(w) && stands;
        else if (ready != 0)
            continue;
        if (stands && ready > 0)
            continue;
        stands = stand(w, &changed, NULL) == CM_OK;
        if (stands && (changed || lost))
            tell(w, CM_CHANGE_MISSED, NULL);
        else if (!stands && !lost)
            tell(w, CM_CHANGE_LOST, NULL);
        lost = !stands;
    }
    return NULL;
}

/* --------------------------------------------------------------- instance */

static void watch_free(struct cm_watch *w)
{
    if (w->fd >= 0)
        (void)close(w->fd);
    cm_cancel_free(w->stop);
    free(w);
}

cm_status file_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                     struct cm_err *err)
{
    struct cm_watch *w = cm_calloc(1, sizeof *w);
    bool changed = false;

    if (w == NULL)
        return cm_fail_nomem(err);
    w->fs = fst_of(st);
    w->fn = fn;
    w->user = user;
    w->tmp.wd = w->locks.wd = -1;
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    cm_status rc = CM_OK;
    if (w->fd < 0)
        rc = cm_fail(err, errno == ENOSYS ? CM_E_UNSUPPORTED : CM_E_LIMIT,
                     "changes in '%s' cannot be watched: %s", w->fs->path,
                     errno == EMFILE
                         ? "raise fs.inotify.max_user_instances, or the limit of open files"
                         : strerrordesc_np(errno));
    if (rc == CM_OK)
        rc = cm_cancel_new(NULL, &w->stop, err);
    /* Directories that cannot be had yet come in time; what the kernel refuses does not. */
    if (rc == CM_OK) {
        cm_status stood = stand(w, &changed, err);

        rc = stood == CM_E_UNSUPPORTED || stood == CM_E_LIMIT ? stood : CM_OK;
    }
    if (rc == CM_OK)
        rc = cm_thread_start(&w->thread, "cm-feed", watch_main, w, err);
    if (rc != CM_OK) {
        watch_free(w);
        return rc;
    }
    *ret = w;
    return CM_OK;
}

void file_unwatch(struct cm_storage *st, struct cm_watch *w)
{
    (void)st;
    cm_cancel_fire(w->stop);
    (void)pthread_join(w->thread, NULL);
    watch_free(w);
}
