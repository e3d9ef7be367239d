/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

cm_status issuer_read_file(const char *path, struct cm_buf *out, struct cm_err *err)
{
    /* O_NONBLOCK: a FIFO in its place must not hang us. */
    CM_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cm_fail_errno(err, "open '%s'", path);
    struct stat sb;
    if (fstat(fd, &sb) != 0)
        return cm_fail_errno(err, "stat '%s'", path);
    if (!S_ISREG(sb.st_mode))
        return cm_fail(err, CM_E_INVAL, "'%s' is not a regular file", path);

    for (;;) {
        uint8_t chunk[4096];
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            cm_status rc = cm_fail_errno(err, "read '%s'", path);
            cm_wipe(chunk, sizeof chunk);
            return rc;
        }
        if (got == 0)
            return CM_OK;
        cm_status rc = cm_buf_append(out, chunk, (size_t)got, err);
        cm_wipe(chunk, sizeof chunk);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "read '%s'", path);
    }
}

struct cm_op issuer_cleanup_op(const struct cm_op *op)
{
    struct cm_op detached = { cm_op_env(op), 0, NULL };
    return cm_op_within(&detached, 5 * CM_NS_PER_S);
}
