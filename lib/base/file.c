/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Small files that people name: chains, keys, passwords. */

static cm_status read_file(const char *path, bool is_private, struct cm_buf *out,
                           struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = -1;
    struct stat sb;
    uint8_t chunk[4096];
    cm_status rc = CM_OK;

    if (path == NULL)
        return cm_fail(err, CM_E_INVAL, "no file given");
    /* Non-blocking, or a FIFO in its place would hang the caller. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &sb) != 0)
        return cm_fail_errno(err, "open '%s'", path);
    if (!S_ISREG(sb.st_mode))
        return cm_fail(err, CM_E_INVAL, "'%s' is not a regular file", path);
    if (is_private && (sb.st_mode & 027) != 0)
        return cm_fail(err, CM_E_PERM, "others can read or change '%s' (mode %04o): chmod 0600",
                       path, (unsigned)(sb.st_mode & 07777));
    while (rc == CM_OK) {
        ssize_t n = read(fd, chunk, sizeof chunk);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = cm_fail_errno(err, "read '%s'", path);
        else if (n == 0)
            break;
        else
            rc = cm_buf_append(out, chunk, (size_t)n, err);
    }
    cm_wipe(chunk, sizeof chunk);
    return rc == CM_E_LIMIT ? cm_wrap(err, rc, "'%s'", path) : rc;
}

cm_status cm_read_file(const char *path, struct cm_buf *out, struct cm_err *err)
{
    return read_file(path, false, out, err);
}

cm_status cm_read_private_file(const char *path, struct cm_buf *out, struct cm_err *err)
{
    return read_file(path, true, out, err);
}
