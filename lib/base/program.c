/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Running a program: how it is started, watched and ended. */

#define TICK_MS     20               /* between two looks whether it has ended */
#define GRACE_LOOKS (2000 / TICK_MS) /* from SIGTERM to SIGKILL */
#define REAP_LOOKS  (5000 / TICK_MS) /* after SIGKILL, which nothing but a bad disk outlives */
#define CHUNK       (16u * 1024)
#define DRAIN_READS 64u /* after its end: no more than a pipe holds, should others still write */

struct child {
    const struct cm_program *what;
    pid_t pid;
    int out; /* read end; -1 at its end */
    struct cm_buf output;
    bool cut;    /* the beginning of the output was dropped */
    bool ended;  /* a zombie: pid and group are still ours */
    bool stolen; /* somebody else has reaped it */
};

/* ----------------------------------------------------------------- may it run */

static cm_status check_directory(const char *path, struct cm_err *err)
{
    const char *slash = strrchr(path, '/');
    CM_AUTO_FREE char *dir =
        slash == path ? cm_strdup("/") : cm_strndup(path, (size_t)(slash - path));
    struct stat st;

    if (dir == NULL)
        return cm_fail_nomem(err);
    if (stat(dir, &st) != 0)
        return cm_fail_errno(err, "look at directory '%s'", dir);
    if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)
        return cm_fail(err, CM_E_PERM,
                       "anybody can replace '%s', as its directory is writable for all (mode "
                       "%04o): chmod o-w the directory",
                       path, (unsigned)(st.st_mode & 07777));
    return CM_OK;
}

cm_status cm_program_check(const char *path, struct cm_err *err)
{
    struct stat st;

    if (path == NULL || strchr(path, '/') == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "program '%s' is given without its directory: PATH is not searched",
                       path != NULL ? path : "");
    if (stat(path, &st) != 0)
        return cm_fail_errno(err, "program '%s'", path);
    if (!S_ISREG(st.st_mode))
        return cm_fail(err, CM_E_INVAL, "program '%s' is not a regular file", path);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return cm_fail(err, CM_E_PERM, "others can change program '%s' (mode %04o): chmod go-w it",
                       path, (unsigned)(st.st_mode & 07777));
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return cm_fail(err, CM_E_PERM,
                       "program '%s' belongs to user %lu, who is neither root nor we: chown it",
                       path, (unsigned long)st.st_uid);
    if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) != 0)
        return errno == EACCES
                   ? cm_fail(err, CM_E_PERM, "program '%s' is not executable: chmod +x it", path)
                   : cm_fail_errno(err, "program '%s'", path);
    return check_directory(path, err);
}

/* ------------------------------------------------------------------ start it */

/* Both ends above the three that the child's own are put on. */
static cm_status make_pipe(int ret[2], struct cm_err *err)
{
    CM_AUTO_CLOSE int low_read = -1;
    CM_AUTO_CLOSE int low_write = -1;
    int both[2];

    if (pipe2(both, O_CLOEXEC) != 0)
        return cm_fail_errno(err, "make a pipe");
    low_read = both[0];
    low_write = both[1];
    ret[0] = fcntl(low_read, F_DUPFD_CLOEXEC, 3);
    if (ret[0] < 0)
        return cm_fail_errno(err, "make a pipe");
    ret[1] = fcntl(low_write, F_DUPFD_CLOEXEC, 3);
    if (ret[1] < 0 || fcntl(ret[0], F_SETFL, O_NONBLOCK) != 0) {
        cm_status rc = cm_fail_errno(err, "make a pipe");

        cm__auto_close(&ret[0]);
        cm__auto_close(&ret[1]);
        return rc;
    }
    return CM_OK;
}

static int fill_attributes(posix_spawnattr_t *attr)
{
    const short flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t none;
    sigset_t all;
    int rc = posix_spawnattr_setflags(attr, flags);

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    if (rc == 0)
        rc = posix_spawnattr_setpgroup(attr, 0);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(attr, &none);
    return rc != 0 ? rc : posix_spawnattr_setsigdefault(attr, &all);
}

static int fill_actions(posix_spawn_file_actions_t *actions, int write_end)
{
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, write_end, STDOUT_FILENO);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, write_end, STDERR_FILENO);
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
    /* Ours are all close-on-exec; those of the program that we are part of may not be. */
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
#endif
#endif
    return rc;
}

/* 0 or an errno. posix_spawn() hands nothing to a shell, not even a file without "#!". */
static int start(struct child *c, int write_end)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc = posix_spawnattr_init(&attr);

    if (rc != 0)
        return rc;
    rc = posix_spawn_file_actions_init(&actions);
    if (rc != 0) {
        (void)posix_spawnattr_destroy(&attr);
        return rc;
    }
    rc = fill_attributes(&attr);
    if (rc == 0)
        rc = fill_actions(&actions, write_end);
    /* The casts are posix_spawn()'s fault: it changes neither. */
    if (rc == 0)
        rc = posix_spawn(&c->pid, c->what->path, &actions, &attr,
                         (char *const *)(uintptr_t)c->what->argv,
                         (char *const *)(uintptr_t)c->what->envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    return rc;
}

/* ------------------------------------------------------------------ watch it */

/* Keep the end of what it writes, where the reason of a failure stands. */
static cm_status keep(struct child *c, const uint8_t *data, size_t len, struct cm_err *err)
{
    size_t max = c->what->output_max;

    if (len >= max) {
        c->cut = c->cut || len > max || c->output.len > 0;
        cm_buf_reset(&c->output);
        return cm_buf_append(&c->output, data + (len - max), max, err);
    }
    if (c->output.len + len > max) {
        size_t drop = c->output.len + len - max;

        c->cut = true;
        (void)memmove(c->output.data, c->output.data + drop, c->output.len - drop);
        c->output.len -= drop;
    }
    return cm_buf_append(&c->output, data, len, err);
}

/* Read what is there now, in at most @reads pieces. */
static cm_status drain(struct child *c, unsigned reads, struct cm_err *err)
{
    uint8_t chunk[CHUNK];
    cm_status rc = CM_OK;

    while (rc == CM_OK && c->out >= 0 && reads-- > 0) {
        ssize_t n = read(c->out, chunk, sizeof chunk);

        if (n > 0) {
            rc = keep(c, chunk, (size_t)n, err);
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        } else {
            cm__auto_close(&c->out);
            c->out = -1;
        }
    }
    cm_wipe(chunk, sizeof chunk);
    return rc;
}

/* Its end is looked at without taking it: as long as it is a zombie nobody else can have its
 * number, nor that of its group. */
static bool has_ended(struct child *c)
{
    siginfo_t info = { .si_pid = 0 };
    int rc;

    do
        rc = waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        c->stolen = true;
    else if (info.si_pid == c->pid)
        c->ended = true;
    return c->ended || c->stolen;
}

static cm_status look(struct child *c, int cancel_fd, struct cm_err *err)
{
    struct pollfd fds[2] = { { .fd = c->out, .events = POLLIN },
                             { .fd = cancel_fd, .events = POLLIN } };

    /* A descriptor of -1 is passed over. */
    if (poll(fds, 2, TICK_MS) > 0 && fds[0].revents != 0)
        return drain(c, 4, err);
    return CM_OK;
}

static cm_status attend(struct child *c, const struct cm_op *op, struct cm_err *err)
{
    cm_status rc = CM_OK;

    while (rc == CM_OK && !has_ended(c)) {
        rc = cm_op_check(op, err);
        if (rc == CM_OK)
            rc = look(c, cm_cancel_fd(op->cancel), err);
    }
    return rc;
}

/* -------------------------------------------------------------------- end it */

static void await_end(struct child *c, unsigned looks)
{
    while (looks-- > 0 && !has_ended(c))
        if (look(c, -1, NULL) != CM_OK)
            (void)poll(NULL, 0, TICK_MS); /* out of memory: the time has to pass all the same */
}

/* The whole group: what it started in the background would go on changing things. */
static void end_group(struct child *c, bool kindly)
{
    if (kindly && !has_ended(c)) {
        (void)kill(-c->pid, SIGTERM);
        await_end(c, GRACE_LOOKS);
    }
    if (!c->stolen)
        (void)kill(-c->pid, SIGKILL);
    if (!has_ended(c))
        await_end(c, REAP_LOOKS);
}

static cm_status reap(struct child *c, struct cm_program_end *end, struct cm_err *err)
{
    int status = 0;
    pid_t got;

    do
        got = c->stolen ? -1 : waitpid(c->pid, &status, WNOHANG);
    while (got < 0 && errno == EINTR && !c->stolen);
    if (got != c->pid)
        return cm_fail(err, CM_E_STATE,
                       "'%s' has ended, but somebody else has taken its exit status: this program "
                       "must not ignore SIGCHLD nor wait for children that are not its own",
                       c->what->path);
    end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    end->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return CM_OK;
}

/* Half a secret at the cut would not be found. */
static void begin_at_line(struct child *c)
{
    uint8_t *line =
        c->cut && c->output.len > 0 ? memchr(c->output.data, '\n', c->output.len) : NULL;
    size_t drop = line == NULL ? c->output.len : (size_t)(line - c->output.data) + 1;

    if (!c->cut || c->output.data == NULL)
        return;
    (void)memmove(c->output.data, c->output.data + drop, c->output.len - drop);
    c->output.len -= drop;
    c->output.data[c->output.len] = '\0';
}

static cm_status too_late(const struct child *c, cm_status rc, struct cm_err *err)
{
    char words[240];

    (void)cm_program_quote(&c->output, words, sizeof words);
    if (rc != CM_E_TIMEOUT && rc != CM_E_CANCELED)
        return cm_wrap(err, rc, "'%s'", c->what->path);
    return cm_fail(err, rc, "'%s' %s%s%s", c->what->path,
                   rc == CM_E_TIMEOUT ? "did not end in time and was killed"
                                      : "was killed: canceled",
                   words[0] != '\0' ? "; its last words: " : "", words);
}

static cm_status check_what(const struct cm_program *what, struct cm_err *err)
{
    if (what->path == NULL || what->argv == NULL || what->argv[0] == NULL || what->envp == NULL ||
        what->output_max == 0 || what->output_max > SIZE_MAX / 2 || what->timeout_ns <= 0)
        return cm_fail(err, CM_E_INVAL, "incomplete order to run a program");
    return CM_OK;
}

static cm_status cannot_start(const struct cm_program *what, int why, struct cm_err *err)
{
    if (why == ENOEXEC)
        return cm_fail(
            err, CM_E_INVAL,
            "'%s' cannot be run: it is no program, or a script without a first line such "
            "as #!/bin/sh",
            what->path);
    errno = why;
    return why == ENOENT ? cm_fail(err, CM_E_NOTFOUND,
                                   "'%s' cannot be run: it, or the interpreter in its first line, "
                                   "is not there",
                                   what->path)
                         : cm_fail_errno(err, "run '%s'", what->path);
}

cm_status cm_program_run(const struct cm_op *op, const struct cm_program *what,
                         struct cm_program_end *ret, struct cm_err *err)
{
    struct child c = { .what = what, .out = -1, .output = CM_BUF_SECRET(what->output_max) };
    struct cm_program_end end = CM_PROGRAM_END_INIT;
    struct cm_op within = cm_op_within(op, what->timeout_ns);
    int ends[2];
    int why;
    cm_status reaped;
    cm_status rc = check_what(what, err);

    if (rc == CM_OK)
        rc = cm_op_check(&within, err);
    if (rc == CM_OK)
        rc = make_pipe(ends, err);
    if (rc != CM_OK)
        return rc;
    why = start(&c, ends[1]);
    (void)close(ends[1]);
    c.out = ends[0];
    if (why != 0) {
        (void)close(c.out);
        return cannot_start(what, why, err);
    }

    rc = attend(&c, &within, err);
    end_group(&c, rc != CM_OK);
    if (rc == CM_OK)
        rc = drain(&c, DRAIN_READS, err);
    if (c.out >= 0)
        (void)close(c.out);
    begin_at_line(&c);
    cm_program_blot(&c.output, what->secrets);
    reaped = reap(&c, &end, rc == CM_OK ? err : NULL);
    if (rc != CM_OK)
        rc = too_late(&c, rc, err);
    else
        rc = reaped;
    if (rc != CM_OK) {
        cm_buf_free(&c.output);
        return rc;
    }
    end.output = c.output;
    *ret = end;
    return CM_OK;
}
