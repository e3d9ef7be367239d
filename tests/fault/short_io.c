/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Preloaded: what a tracer cannot do honestly, because it would have to invent the data.
 *
 *   SHORT_IO_WRITE=N  every write to a file takes N bytes at most
 *   SHORT_IO_READ=N   every read of a file gives N bytes at most
 *   SHORT_IO_ROOM=N   there is room for N bytes more on the disk; the write that crosses the border
 *                     is cut short, the next one finds no room
 *   SHORT_IO_LOG=F    a line in file F for the first time that it struck
 *
 * Only regular files below SHORT_IO_DIR count, none of the log's or the terminal's. Writing over
 * what is there already takes no room, as on a disk. */

static _Atomic bool struck;
static _Atomic long long used;

static bool counts(int fd)
{
    const char *dir = getenv("SHORT_IO_DIR");
    char link[64];
    char path[4096];
    struct stat st;
    ssize_t n;

    if (dir == NULL || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n <= 0)
        return false;
    path[n] = '\0';
    return strncmp(path, dir, strlen(dir)) == 0;
}

static long long limit(const char *name)
{
    const char *text = getenv(name);

    return text != NULL && text[0] != '\0' ? strtoll(text, NULL, 10) : -1;
}

static void strike(void)
{
    const char *path = getenv("SHORT_IO_LOG");
    int saved = errno;
    int fd;

    if (path == NULL || atomic_exchange(&struck, true))
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)syscall(SYS_write, fd, "struck\n", 7);
        (void)close(fd);
    }
    errno = saved;
}

/* How much of @len may be written at @at: less, or -1 and errno. */
static ssize_t allowed(int fd, size_t len, off_t at)
{
    long long most = limit("SHORT_IO_WRITE");
    long long room = limit("SHORT_IO_ROOM");
    struct stat st;
    long long grows;
    long long left;

    if (!counts(fd))
        return (ssize_t)len;
    if (most > 0 && (long long)len > most) {
        strike();
        len = (size_t)most;
    }
    if (room < 0 || fstat(fd, &st) != 0)
        return (ssize_t)len;
    grows = (long long)at + (long long)len - (long long)st.st_size;
    left = room - used;
    if (grows > left) {
        strike();
        len -= (size_t)(grows - left);
        grows = left;
    }
    if (len == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (grows > 0)
        used += grows;
    return (ssize_t)len;
}

/* The names that the program calls; 64 bits wide is what its pwrite() is built to be. */
#define SHOWN __attribute__((visibility("default")))

SHOWN ssize_t write(int fd, const void *data, size_t len)
{
    ssize_t n = len > 0 ? allowed(fd, len, lseek(fd, 0, SEEK_CUR)) : 0;

    return n < 0 ? n : syscall(SYS_write, fd, data, (size_t)n);
}

SHOWN ssize_t pwrite(int fd, const void *data, size_t len, off_t at)
{
    ssize_t n = len > 0 ? allowed(fd, len, at) : 0;

    return n < 0 ? n : syscall(SYS_pwrite64, fd, data, (size_t)n, at);
}

SHOWN ssize_t read(int fd, void *out, size_t len)
{
    long long most = limit("SHORT_IO_READ");

    if (most > 0 && len > (size_t)most && counts(fd)) {
        strike();
        len = (size_t)most;
    }
    return syscall(SYS_read, fd, out, len);
}
