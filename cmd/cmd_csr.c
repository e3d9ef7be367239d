/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* `certmesh obtain --csr FILE`: what comes of a request that somebody else made. */

#define CSR_MAX   (128u * 1024u)
#define CHAIN_MAX (256u * 1024u)

static cm_status read_file(const char *path, struct cm_buf *ret, struct cm_err *err)
{
    char chunk[4096];
    cm_status rc = CM_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return cm_fail_errno(err, "--csr '%s'", path);
    while (rc == CM_OK) {
        ssize_t n = read(fd, chunk, sizeof chunk);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = cm_fail_errno(err, "read '%s'", path);
        if (n <= 0)
            break;
        rc = cm_buf_append(ret, chunk, (size_t)n, err);
        if (rc != CM_OK)
            rc = cm_wrap(err, rc, "--csr '%s' is too long for a request", path);
    }
    (void)close(fd);
    return rc;
}

/* A server may be reading it: the old chain or the new one, never half of one. */
static cm_status replace_file(const char *path, const struct cm_buf *pem, struct cm_err *err)
{
    char aside[4096];
    int n = snprintf(aside, sizeof aside, "%s.new", path);

    if (n < 0 || (size_t)n >= sizeof aside)
        return cm_fail(err, CM_E_LIMIT, "--out: the path has %zu bytes", strlen(path));
    cm_status rc = cli_write_public(aside, pem, err);
    if (rc == CM_OK && rename(aside, path) != 0) {
        rc = cm_fail_errno(err, "--out '%s'", path);
        (void)unlink(aside);
    }
    return rc;
}

static void print_json(const struct cm_csr_result *r)
{
    struct cli_json j;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_text(&j, "names", r->names);
    cli_json_text(&j, "result", r->already_there ? "already there" : "obtained");
    cli_json_text(&j, "issuer", r->issuer_key);
    cli_json_time(&j, "not_after", r->not_after_s);
    cli_json_text(&j, "key", r->storage_key);
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

static void tell(const struct cli *c, const struct cm_csr_result *r)
{
    char until[CLI_TIME_SIZE], text[1024];

    if (c->o.json)
        print_json(r);
    else if (!c->o.quiet)
        cli_say("%s  %s, valid until %s%s%s", cli_printable(r->names, text, sizeof text),
                r->already_there ? "already there" : "obtained",
                cli_time_human(r->not_after_s, until), c->o.out != NULL ? ", in " : "",
                c->o.out != NULL ? c->o.out : "");
}

int cli_run_csr(struct cli *c)
{
    struct cm_csr_result result = { .size = (uint32_t)sizeof result };
    struct cm_buf csr = CM_BUF_INIT(CSR_MAX);
    struct cm_buf chain = CM_BUF_INIT(CHAIN_MAX);
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = read_file(c->o.csr, &csr, &err);
    int code = CLI_OK;

    if (rc != CM_OK) {
        code = cli_report(c, NULL, &err);
        code = rc == CM_E_NOTFOUND ? CLI_USAGE : code;
        goto out;
    }
    code = cli_open(c);
    if (code != CLI_OK)
        goto out;
    const struct cm_op op = cli_op(c, 300);
    rc = cm_obtain_csr(c->cfg, &op, cm_buf_span(&csr), false, &result, &chain, &err);
    if (rc == CM_OK && c->o.out != NULL)
        rc = replace_file(c->o.out, &chain, &err);
    else if (rc == CM_OK && !c->o.json)
        (void)fwrite(chain.data, 1, chain.len, stdout);
    if (rc == CM_OK)
        tell(c, &result);
    else
        code = cli_report(c, c->o.csr, &err);
out:
    cm_buf_free(&chain);
    cm_buf_free(&csr);
    return code;
}
