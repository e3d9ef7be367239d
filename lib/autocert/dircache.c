/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* autocert's DirCache: a file per blob. Local disks answer soon, so a call of it is not canceled.
 */

struct dir {
    struct cm_autocert_cache base;
    char *path;
};

static struct dir *dir_of(struct cm_autocert_cache *c)
{
    return CM_CONTAINER_OF(c, struct dir, base);
}

static cm_status dir_get(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                         struct cm_buf *ret, struct cm_err *err)
{
    CM_AUTO_FREE char *path = cm_asprintf("%s/%s", dir_of(c)->path, name);

    (void)op;
    return path == NULL ? cm_fail_nomem(err) : cm_read_file(path, ret, err);
}

static cm_status make_dir(const char *path, struct cm_err *err)
{
    CM_AUTO_FREE char *part = cm_strdup(path);

    if (part == NULL)
        return cm_fail_nomem(err);
    for (char *at = part + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return cm_fail_errno(err, "make directory '%s'", part);
        *at = '/';
    }
    if (mkdir(part, 0700) != 0 && errno != EEXIST)
        return cm_fail_errno(err, "make directory '%s'", part);
    return CM_OK;
}

static cm_status write_all(int fd, struct cm_span blob, const char *path, struct cm_err *err)
{
    size_t done = 0;

    while (done < blob.len) {
        ssize_t n = write(fd, blob.data + done, blob.len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cm_fail_errno(err, "write '%s'", path);
        done += (size_t)n;
    }
    return fsync(fd) == 0 ? CM_OK : cm_fail_errno(err, "flush '%s'", path);
}

/* A name begins with no dot, so nobody reads what is not whole yet. */
static cm_status dir_put(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                         struct cm_span blob, struct cm_err *err)
{
    const struct dir *d = dir_of(c);
    CM_AUTO_FREE char *temp = cm_asprintf("%s/.certmesh-XXXXXX", d->path);
    CM_AUTO_FREE char *path = cm_asprintf("%s/%s", d->path, name);

    (void)op;
    if (temp == NULL || path == NULL)
        return cm_fail_nomem(err);
    cm_status rc = make_dir(d->path, err);
    if (rc != CM_OK)
        return rc;
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return cm_fail_errno(err, "create a file in '%s'", d->path);
    rc = write_all(fd, blob, path, err);
    if (close(fd) != 0 && rc == CM_OK)
        rc = cm_fail_errno(err, "write '%s'", path);
    if (rc == CM_OK && rename(temp, path) != 0)
        rc = cm_fail_errno(err, "put '%s' in place", path);
    if (rc != CM_OK)
        (void)unlink(temp);
    return rc;
}

static cm_status dir_remove(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                            struct cm_err *err)
{
    CM_AUTO_FREE char *path = cm_asprintf("%s/%s", dir_of(c)->path, name);

    (void)op;
    if (path == NULL)
        return cm_fail_nomem(err);
    if (unlink(path) != 0 && errno != ENOENT)
        return cm_fail_errno(err, "remove '%s'", path);
    return CM_OK;
}

static void dir_destroy(struct cm_autocert_cache *c)
{
    struct dir *d = dir_of(c);

    free(d->path);
    free(d);
}

static const struct cm_autocert_cache_ops dir_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_autocert_cache_ops),
    .name = "directory",
    .get = dir_get,
    .put = dir_put,
    .remove = dir_remove,
    .destroy = dir_destroy,
};

cm_status cm_autocert_dircache(const char *path, struct cm_autocert_cache **ret, struct cm_err *err)
{
    struct dir *d;

    if (path == NULL || path[0] == '\0' || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no path for the autocert directory, or no place for it");
    d = cm_calloc(1, sizeof *d);
    if (d == NULL)
        return cm_fail_nomem(err);
    d->base.ops = &dir_ops;
    d->path = cm_strdup(path);
    if (d->path == NULL) {
        dir_destroy(&d->base);
        return cm_fail_nomem(err);
    }
    *ret = &d->base;
    return CM_OK;
}
