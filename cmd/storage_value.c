/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One value out of a storage or into it, and the files beside. */

/* ------------------------------------------------------------------- output */

cm_status cli_out_open(struct cli_out *o, const char *path, struct cm_err *err)
{
    size_t size = path != NULL ? strlen(path) + sizeof ".XXXXXX" : 0;
    int fd = -1;

    *o = (struct cli_out){ path, NULL, stdout };
    if (path == NULL)
        return CM_OK;
    o->temp = malloc(size);
    if (o->temp == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    (void)snprintf(o->temp, size, "%s.XXXXXX", path);
    fd = mkostemp(o->temp, O_CLOEXEC); /* made 0600 */
    o->f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (o->f != NULL)
        return CM_OK;
    /* not CM_E_NOTFOUND, which would say that storage holds nothing */
    cm_status rc = cm_fail(err, CM_E_IO, "create '%s': %s", path, strerror(errno));
    if (fd >= 0) {
        (void)close(fd);
        (void)unlink(o->temp);
    }
    free(o->temp);
    return rc;
}

cm_status cli_out_close(struct cli_out *o, cm_status rc, struct cm_err *err)
{
    if (o->path == NULL) {
        if (rc == CM_OK && fflush(stdout) != 0)
            rc = cm_fail_errno(err, "write to standard output");
        return rc;
    }
    if (rc == CM_OK && (fflush(o->f) != 0 || fsync(fileno(o->f)) != 0))
        rc = cm_fail_errno(err, "write '%s'", o->path);
    if (fclose(o->f) != 0 && rc == CM_OK)
        rc = cm_fail_errno(err, "write '%s'", o->path);
    if (rc == CM_OK && rename(o->temp, o->path) != 0)
        rc = cm_fail_errno(err, "put '%s' in place", o->path);
    if (rc != CM_OK)
        (void)unlink(o->temp);
    free(o->temp);
    o->temp = NULL;
    return rc;
}

/* ---------------------------------------------------------------------- get */

/* What a terminal must not be given: keys stay in its scrollback, and control bytes do things. */
static const char *unfit_for_terminal(const struct cm_buf *value)
{
    static const char mark[] = "PRIVATE KEY-----";

    if (memmem(value->data, value->len, mark, sizeof mark - 1) != NULL)
        return "it holds a private key";
    for (size_t i = 0; i < value->len; i++)
        if ((value->data[i] < 0x20 && strchr("\n\r\t", value->data[i]) == NULL) ||
            value->data[i] == 0x7f || value->data[i] == '\0')
            return "it is no text";
    return NULL;
}

int cli_storage_get(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;
    struct cli_out out;
    cm_status rc = cm_storage_load(st, op, c->names[1], &value, &err);

    if (rc == CM_OK && c->o.out == NULL && !c->o.force && isatty(STDOUT_FILENO)) {
        const char *why = unfit_for_terminal(&value);

        if (why != NULL)
            rc = cm_fail(&err, CM_E_POLICY,
                         "not printed on a terminal, since %s; write it to a file with -o FILE, or "
                         "--force",
                         why);
    }
    if (rc == CM_OK)
        rc = cli_out_open(&out, c->o.out, &err);
    if (rc == CM_OK) {
        if (value.len > 0 && fwrite(value.data, 1, value.len, out.f) != value.len)
            rc = cm_fail_errno(&err, "write the value");
        rc = cli_out_close(&out, rc, &err);
    }
    cm_buf_free(&value);
    return rc == CM_OK ? CLI_OK : cli_storage_fail(c, c->names[1], &err);
}

/* ---------------------------------------------------------------------- put */

struct input {
    int fd;
    int cancel_fd;
};

static ssize_t input_read(void *cookie, char *out, size_t size)
{
    const struct input *in = cookie;
    struct pollfd wait[2] = { { in->fd, POLLIN, 0 }, { in->cancel_fd, POLLIN, 0 } };
    ssize_t n = -1;

    do {
        if (poll(wait, 2, -1) < 0)
            continue;
        if (wait[1].revents != 0) {
            errno = ECANCELED;
            return -1;
        }
        n = read(in->fd, out, size);
    } while (n < 0 && errno == EINTR);
    return n;
}

static int input_close(void *cookie)
{
    struct input *in = cookie;
    int rc = in->fd != STDIN_FILENO ? close(in->fd) : 0;

    free(in);
    return rc;
}

cm_status cli_in_open(const struct cli *c, const char *path, FILE **ret, struct cm_err *err)
{
    const cookie_io_functions_t io = { .read = input_read, .close = input_close };
    bool is_stdin = path == NULL || strcmp(path, "-") == 0;
    struct input *in = malloc(sizeof *in);

    if (in == NULL)
        return cm_fail(err, CM_E_NOMEM, "out of memory");
    in->cancel_fd = cm_cancel_fd(c->cancel);
    in->fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0) { /* not CM_E_NOTFOUND, which would say that storage holds nothing */
        free(in);
        return cm_fail(err, CM_E_INVAL, "open '%s': %s", path, strerror(errno));
    }
    *ret = fopencookie(in, "r", io);
    if (*ret != NULL)
        return CM_OK;
    (void)input_close(in);
    return cm_fail(err, CM_E_NOMEM, "out of memory");
}

static cm_status read_value(const struct cli *c, const char *path, struct cm_buf *ret,
                            struct cm_err *err)
{
    uint8_t chunk[4096];
    size_t n = 0;
    FILE *f = NULL;
    cm_status rc = cli_in_open(c, path, &f, err);

    if (rc != CM_OK)
        return rc;
    (void)setvbuf(f, NULL, _IONBF, 0); /* no copy of a key in a buffer that nobody wipes */
    while (rc == CM_OK && (n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        rc = cm_buf_append(ret, chunk, n, err);
        if (rc == CM_E_LIMIT)
            rc = cm_fail(err, rc, "the input has more than %u bytes, which a value cannot have",
                         CM_STORAGE_VALUE_MAX);
    }
    if (rc == CM_OK && ferror(f) != 0)
        rc = errno == ECANCELED ? cm_fail(err, CM_E_CANCELED, "interrupted")
                                : cm_fail_errno(err, "read the input");
    cm_wipe(chunk, sizeof chunk);
    (void)fclose(f);
    return rc;
}

int cli_storage_put(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = cm_storage_key_check(c->names[1], false, &err);

    if (rc == CM_OK)
        rc = read_value(c, c->n_names > 2 ? c->names[2] : NULL, &value, &err);
    if (rc == CM_OK)
        rc = cm_storage_store(st, op, c->names[1], cm_buf_span(&value), &err);
    cm_buf_free(&value);
    return rc == CM_OK ? CLI_OK : cli_storage_fail(c, c->names[1], &err);
}
