/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Preloaded: the network fails as it does, which a tracer cannot show. When the kernel says
 * ECONNRESET the connection is gone, for the other side as well, and the next call meets its end; a
 * connect that was begun fails later, by SO_ERROR.
 *
 *   NET_FAULT=CALL:N:ERROR  the Nth CALL on a socket of the internet fails so. CALL: socket,
 * connect, later (the answer of SO_ERROR), send, recv, poll. ERROR: a name of errno, or END: the
 * other side has closed NET_FAULT=send:0:SHORT  each send takes a byte; recv:0:SHORT: each recv
 * gives one NET_FAULT_LOG=F         a line in file F when it strikes NET_FAULT_COUNT=F       at the
 * end: "CALL N", how often each was made */

#define SHOWN __attribute__((visibility("default")))

enum call { SOCKET, CONNECT, LATER, SEND, RECV, POLL, N_CALLS };

static const char *const calls[N_CALLS] = { "socket", "connect", "later", "send", "recv", "poll" };
static const struct {
    const char *name;
    int number;
    bool ends; /* there is no connection any more */
} errors[] = {
    { "ECONNREFUSED", ECONNREFUSED, true },
    { "ECONNRESET", ECONNRESET, true },
    { "EPIPE", EPIPE, true },
    { "ETIMEDOUT", ETIMEDOUT, true },
    { "EHOSTUNREACH", EHOSTUNREACH, true },
    { "ENETUNREACH", ENETUNREACH, true },
    { "END", 0, true },
    { "EADDRNOTAVAIL", EADDRNOTAVAIL, false },
    { "EACCES", EACCES, false },
    { "EMFILE", EMFILE, false },
    { "ENFILE", ENFILE, false },
    { "ENOBUFS", ENOBUFS, false },
    { "ENOMEM", ENOMEM, false },
    { "EINTR", EINTR, false },
    { "EAGAIN", EAGAIN, false },
};

static _Atomic unsigned made[N_CALLS];

/* What to do: read once, before there are threads. */
static enum call fault_call = N_CALLS;
static unsigned fault_at;
static bool is_short;
static int fault_error;
static bool fault_ends;

__attribute__((constructor)) static void read_plan(void)
{
    const char *text = getenv("NET_FAULT");
    char call[16];
    char error[16];

    if (text == NULL || text[0] == '\0')
        return;
    if (sscanf(text, "%15[a-z]:%u:%15[A-Z]", call, &fault_at, error) != 3)
        abort();
    for (unsigned i = 0; i < N_CALLS; i++)
        if (strcmp(calls[i], call) == 0)
            fault_call = (enum call)i;
    is_short = strcmp(error, "SHORT") == 0;
    for (unsigned i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (strcmp(errors[i].name, error) == 0) {
            fault_error = errors[i].number;
            fault_ends = errors[i].ends;
            return;
        }
    if (!is_short || fault_call == N_CALLS)
        abort();
}

static void say(const char *file, const char *text, size_t len)
{
    int fd = file != NULL ? open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

    if (fd >= 0) {
        (void)syscall(SYS_write, fd, text, len);
        (void)close(fd);
    }
}

__attribute__((destructor)) static void tell_counts(void)
{
    const char *file = getenv("NET_FAULT_COUNT");
    char line[64];

    for (unsigned i = 0; i < N_CALLS; i++)
        say(file, line, (size_t)snprintf(line, sizeof line, "%s %u\n", calls[i], made[i]));
}

static bool is_internet(int fd)
{
    int domain = 0;
    socklen_t len = sizeof domain;

    return syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
           (domain == AF_INET || domain == AF_INET6);
}

static bool strikes(enum call call)
{
    int saved = errno;
    unsigned nth = ++made[call];

    if (call != fault_call || (fault_at != 0 && nth != fault_at))
        return false;
    if (fault_at != 0 || nth == 1)
        say(getenv("NET_FAULT_LOG"), "INJECTED\n", 9);
    errno = saved;
    return true;
}

/* Returns what the call is to return. */
static int fail(int fd)
{
    if (fault_ends)
        (void)syscall(SYS_shutdown, fd, SHUT_RDWR);
    if (fault_error == 0)
        return 0;
    errno = fault_error;
    return -1;
}

SHOWN int socket(int domain, int type, int protocol)
{
    if ((domain == AF_INET || domain == AF_INET6) && strikes(SOCKET)) {
        errno = fault_error;
        return -1;
    }
    return (int)syscall(SYS_socket, domain, type, protocol);
}

/* By another name in here, as glibc declares its own with a union in place of the pointer. */
SHOWN int fault_connect(int fd, const struct sockaddr *to, socklen_t len) __asm__("connect");
int fault_connect(int fd, const struct sockaddr *to, socklen_t len)
{
    if (is_internet(fd) && strikes(CONNECT)) {
        /* Interrupted, it goes on by itself. */
        if (fault_error == EINTR)
            (void)syscall(SYS_connect, fd, to, len);
        errno = fault_error;
        return -1;
    }
    return (int)syscall(SYS_connect, fd, to, len);
}

SHOWN int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    long rc = syscall(SYS_getsockopt, fd, level, name, value, len);

    if (rc == 0 && level == SOL_SOCKET && name == SO_ERROR && *len == sizeof(int) &&
        is_internet(fd) && strikes(LATER)) {
        (void)fail(fd);
        memcpy(value, &fault_error, sizeof fault_error);
    }
    return (int)rc;
}

SHOWN ssize_t send(int fd, const void *data, size_t len, int flags)
{
    if (is_internet(fd) && strikes(SEND)) {
        if (!is_short)
            return fail(fd);
        len = len > 1 ? 1 : len;
    }
    return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

SHOWN ssize_t recv(int fd, void *out, size_t len, int flags)
{
    if (is_internet(fd) && strikes(RECV)) {
        if (!is_short)
            return fail(fd);
        len = len > 1 ? 1 : len;
    }
    return syscall(SYS_recvfrom, fd, out, len, flags, NULL, NULL);
}

/* Only where there is a connection to wait for. */
SHOWN int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    struct timespec span = { timeout / 1000, (long)(timeout % 1000) * 1000000 };
    bool counts = false;

    for (nfds_t i = 0; i < n && !counts; i++)
        counts = fds[i].fd >= 0 && is_internet(fds[i].fd);
    if (counts && strikes(POLL)) {
        errno = fault_error;
        return -1;
    }
    return ppoll(fds, n, timeout < 0 ? NULL : &span, NULL);
}

/* The same under the names that a hardened build calls. */
SHOWN int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
SHOWN int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    if (n > size / sizeof *fds)
        abort();
    return poll(fds, n, timeout);
}

SHOWN ssize_t __recv_chk(int fd, void *out, size_t len, size_t size, int flags);
SHOWN ssize_t __recv_chk(int fd, void *out, size_t len, size_t size, int flags)
{
    if (len > size)
        abort();
    return recv(fd, out, len, flags);
}
