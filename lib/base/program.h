/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_BASE_PROGRAM_H
#define CM_BASE_PROGRAM_H

/* One run of another program (a hook): no shell, nothing inherited but what is said here, and an
 * end in any case. A second door of lib/base, for those who start programs. */

#include "base.h"

struct cm_program {
    const char *path;           /* has a '/': PATH is not searched */
    const char *const *argv;    /* NULL ends; [0] is the path by custom */
    const char *const *envp;    /* NULL ends: all of the environment that it gets */
    const char *const *secrets; /* NULL or NULL ends: texts that are blotted out of the output */
    size_t output_max;          /* bytes kept of what it writes, > 0 */
    int64_t timeout_ns;         /* > 0; the op's deadline may be earlier */
};

struct cm_program_end {
    int exit_status;      /* -1: it was ended by @signal */
    int signal;           /* 0: it ended by itself */
    struct cm_buf output; /* the end of what it wrote to stdout and stderr */
};
#define CM_PROGRAM_END_INIT                                                                        \
    {                                                                                              \
        -1, 0, CM_BUF_SECRET(0)                                                                    \
    }

/**
 * May @path be run? A regular file, executable for us, that nobody can change but root and
 * ourselves, in a directory where others can replace nothing.
 * Errors: CM_E_INVAL (no '/' in it, no file), CM_E_PERM (says what to change), CM_E_NOTFOUND,
 * CM_E_IO.
 */
CM_MUST_CHECK cm_status cm_program_check(const char *path, struct cm_err *err);

/**
 * Run a program to its end: stdin is /dev/null, stdout and stderr are read together, no other
 * descriptor is handed over, signals are as at the start of a program. It is the leader of a
 * process group; what is left of that when it has ended is killed. When the time is over or @op
 * ends the group gets SIGTERM, two seconds later SIGKILL. CM_OK for any end of its own, whatever
 * the exit status. @ret->output is freed by the caller. Errors: CM_E_TIMEOUT, CM_E_CANCELED (both
 * with the last words of the program), CM_E_NOTFOUND, CM_E_PERM, CM_E_IO, CM_E_STATE (somebody else
 * reaps the children of this process). Threads: any; blocks.
 */
CM_MUST_CHECK cm_status cm_program_run(const struct cm_op *op, const struct cm_program *what,
                                       struct cm_program_end *ret, struct cm_err *err);

/* ---- its output, pure ---- */

/* Overwrite each of @secrets (NULL ends; shorter than 4 bytes: left alone) with '*'. */
void cm_program_blot(struct cm_buf *output, const char *const *secrets);
/* The last lines of @output as one printable line of at most @size bytes with the NUL; "" if it
 * wrote nothing. Returns @out. */
const char *cm_program_quote(const struct cm_buf *output, char *out, size_t size);

#endif
