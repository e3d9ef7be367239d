/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* cm_http_reply_file: a file below a directory, and nothing else whatever the path says. The path
 * is checked as text (no dot files, no empty components, no encoded slashes), and the kernel sees
 * to it that no link leads outside. */

#define PATH_MAX_BYTES 1024u

static const char *content_type(const char *name)
{
    static const struct {
        const char *suffix;
        const char *type;
    } known[] = {
        { "html", "text/html; charset=utf-8" },
        { "htm", "text/html; charset=utf-8" },
        { "css", "text/css; charset=utf-8" },
        { "js", "text/javascript; charset=utf-8" },
        { "mjs", "text/javascript; charset=utf-8" },
        { "json", "application/json" },
        { "txt", "text/plain; charset=utf-8" },
        { "md", "text/plain; charset=utf-8" },
        { "xml", "application/xml" },
        { "svg", "image/svg+xml" },
        { "png", "image/png" },
        { "jpg", "image/jpeg" },
        { "jpeg", "image/jpeg" },
        { "gif", "image/gif" },
        { "webp", "image/webp" },
        { "ico", "image/x-icon" },
        { "woff2", "font/woff2" },
        { "wasm", "application/wasm" },
        { "pdf", "application/pdf" },
    };
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot != NULL && i < CM_ARRAY_LEN(known); i++) {
        if (strcmp(dot + 1, known[i].suffix) == 0)
            return known[i].type;
    }
    return "application/octet-stream";
}

/* The path of a URL, without its query, as a relative file name. False for anything that is none:
 * bad escapes, NUL, an encoded slash, a backslash, "//", and components that begin with a dot,
 * "." and ".." among them. */
static bool to_file_name(const char *path, char *out, size_t size)
{
    size_t n = 0;

    while (*path == '/' && path[1] != '/')
        path++;
    for (; *path != '\0' && *path != '?' && *path != '#'; path++) {
        int c = (unsigned char)*path;

        if (c == '%') {
            int hi = cm_hex_digit(path[1]);
            int lo = hi < 0 ? -1 : cm_hex_digit(path[2]);

            if (lo < 0)
                return false;
            c = hi * 16 + lo;
            if (c == '/')
                return false;
            path += 2;
        }
        if (c < 0x20 || c == 0x7F || c == '\\')
            return false;
        if ((n == 0 || out[n - 1] == '/') && (c == '.' || c == '/'))
            return false;
        if (n + 1 >= size)
            return false;
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return true;
}

/* Beneath @root, without magic links. O_NONBLOCK: a FIFO must not hold a worker. */
static int open_beneath(int root, const char *name)
{
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, root, name[0] == '\0' ? "." : name, &how, sizeof how);
}

static cm_status answer(struct cm_http_exchange *x, int status, const char *extra)
{
    x->replied = true;
    reply_status(x->conn, status, extra);
    return CM_OK;
}

static cm_status answer_errno(struct cm_http_exchange *x, int sys_errno, struct cm_err *err)
{
    switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return answer(x, 404, NULL);
    case EACCES:
    case EPERM:
    case ELOOP:
    case EXDEV: /* a link that leads outside */
        return answer(x, 403, NULL);
    default:
        errno = sys_errno;
        (void)answer(x, 500, NULL);
        return cm_fail_errno(err, "open a file to serve");
    }
}

/* A directory without its slash: links in its index would be relative to the wrong place. */
static cm_status add_slash(struct cm_http_exchange *x, const char *path, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf extra = CM_BUF_INIT(PATH_MAX_BYTES * 4);
    cm_status rc;

    if (path[0] != '/') /* not a URL's path: nothing to redirect to */
        return answer(x, 404, NULL);
    rc = cm_buf_puts(&extra, "Location: ", err);
    if (rc == CM_OK)
        rc = reply_put_target(&extra, path, strcspn(path, "?#"));
    if (rc == CM_OK)
        rc = cm_buf_puts(&extra, "/\r\n", err);
    return rc == CM_OK ? answer(x, 308, cm_buf_str(&extra)) : answer(x, 404, NULL);
}

static cm_status serve(struct cm_http_exchange *x, int *fd, const char *name, uint64_t size,
                       struct cm_err *err)
{
    struct conn *c = x->conn;
    cm_status rc = reply_head(c, 200, content_type(name), size, NULL, err);

    if (rc != CM_OK)
        return rc;
    x->replied = true;
    if (c->head_only || size == 0)
        return CM_OK;
    c->file = *fd;
    c->file_left = size;
    *fd = -1;
    return CM_OK;
}

cm_status cm_http_reply_file(struct cm_http_exchange *x, int root_fd, const char *path,
                             struct cm_err *err)
{
    char name[PATH_MAX_BYTES + sizeof "/index.html"];
    CM_AUTO_CLOSE int fd = -1;
    struct stat st;
    size_t n;

    if (x == NULL || path == NULL || root_fd < 0)
        return cm_fail(err, CM_E_INVAL, "cm_http_reply_file: no request, directory or path");
    if (x->replied)
        return cm_fail(err, CM_E_STATE, "this request was answered already");
    if (strcmp(x->method, "GET") != 0 && strcmp(x->method, "HEAD") != 0)
        return answer(x, 405, "Allow: GET, HEAD\r\n");
    if (!to_file_name(path, name, PATH_MAX_BYTES))
        return answer(x, 404, NULL);
    fd = open_beneath(root_fd, name);
    if (fd < 0)
        return answer_errno(x, errno, err);
    if (fstat(fd, &st) != 0)
        return answer_errno(x, errno, err);
    n = strlen(name);
    if (S_ISDIR(st.st_mode)) {
        if (n > 0 && name[n - 1] != '/')
            return add_slash(x, path, err);
        (void)snprintf(name + n, sizeof name - n, "index.html");
        (void)close(fd);
        fd = open_beneath(root_fd, name);
        if (fd < 0 || fstat(fd, &st) != 0)
            return answer_errno(x, errno, err);
    } else if (n > 0 && name[n - 1] == '/') {
        return answer(x, 404, NULL);
    }
    if (!S_ISREG(st.st_mode))
        return answer(x, 403, NULL);
    return serve(x, &fd, name, (uint64_t)st.st_size, err);
}
