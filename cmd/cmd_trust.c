/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ROOT_MAX (64u * 1024u)

static cm_status write_all(int fd, const char *path, const struct cm_buf *pem, struct cm_err *err)
{
    size_t at = 0;

    while (at < pem->len) {
        ssize_t n = write(fd, pem->data + at, pem->len - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return cm_fail_errno(err, "write '%s'", path);
        at += (size_t)n;
    }
    return CM_OK;
}

cm_status cli_write_public(const char *path, const struct cm_buf *pem, struct cm_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    cm_status rc = CM_OK;

    if (fd < 0)
        return cm_fail_errno(err, "--out '%s'", path);
    rc = write_all(fd, path, pem, err);
    if (close(fd) != 0 && rc == CM_OK)
        rc = cm_fail_errno(err, "close '%s'", path);
    if (rc != CM_OK)
        (void)unlink(path);
    return rc;
}

int cli_run_trust(struct cli *c)
{
    struct cm_buf pem = CM_BUF_INIT(ROOT_MAX);
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    cm_status rc = CM_OK;
    bool written = true;
    int code = CLI_OK;

    c->o.internal = true; /* there is no other root to print */
    c->o.ca = NULL;
    code = cli_open(c);
    if (code != CLI_OK)
        return code;
    op = cli_op(c, 60);
    rc = cm_internal_root(c->cfg, &op, &pem, &err);
    if (rc == CM_OK && c->o.out != NULL)
        written = cli_write_public(c->o.out, &pem, &err) == CM_OK;
    else if (rc == CM_OK)
        (void)fwrite(pem.data, 1, pem.len, stdout);
    cm_buf_free(&pem);
    if (rc != CM_OK)
        return cli_report(c, NULL, &err);
    if (!written) {
        (void)cli_report(c, NULL, &err);
        return CLI_FAILED;
    }
    if (c->o.out != NULL)
        cli_say("The root of the local CA in %s is now in %s.",
                cm_storage_describe(cm_config_storage(c->cfg)), c->o.out);
    if (c->o.out != NULL || isatty(STDOUT_FILENO))
        cli_say(
            "To trust it for one request:   curl --cacert %s https://localhost/\n"
            "On Debian, for the machine:    install -m 644 %s \\\n"
            "                                 /usr/local/share/ca-certificates/certmesh.crt\n"
            "                               update-ca-certificates\n"
            "Firefox and Chromium:          import it under Settings, Certificates, Authorities\n"
            "Whoever can read this storage can issue certificates such a machine believes.",
            c->o.out != NULL ? c->o.out : "root.crt", c->o.out != NULL ? c->o.out : "root.crt");
    return CLI_OK;
}
