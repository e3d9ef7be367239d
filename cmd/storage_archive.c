/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"
#include "tar.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* A whole storage as a tar archive: one file per value, named as its key. Locks and temporary files
 * are none of it: lists do not show them. */

/* ------------------------------------------------------------------- export */

struct export
{
    struct cli *c;
    struct cm_storage *st;
    const struct cm_op *op;
    FILE *f;
    struct cm_buf value;
    uint64_t n;
};

static cm_status export_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct export *x = user;
    cm_status rc = CM_OK;

    cm_buf_reset(&x->value);
    rc = cm_storage_load(x->st, x->op, info->key, &x->value, err);
    if (rc == CM_E_NOTFOUND) /* removed since it was listed */
        return CM_OK;
    if (rc == CM_OK)
        rc = tar_write(x->f, info->key, cm_buf_span(&x->value), info->modified_ns / CM_NS_PER_S,
                       err);
    x->n++;
    if (x->n % 100 == 0)
        cli_ui_count("%" PRIu64 " values", x->n);
    return rc;
}

int cli_storage_export(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    const char *path = c->n_names > 1 && strcmp(c->names[1], "-") != 0 ? c->names[1] : NULL;
    struct export x = { c, st, op, NULL, CM_BUF_SECRET(CM_STORAGE_VALUE_MAX), 0 };
    struct cm_err err = CM_ERR_INIT;
    struct cli_out out;
    cm_status rc = CM_OK;

    if (path == NULL && isatty(STDOUT_FILENO))
        return cli_usage(c, "export writes an archive with private keys, and not to a terminal: "
                            "name a FILE, or redirect");
    rc = cli_out_open(&out, path, &err);
    if (rc == CM_OK) {
        x.f = out.f;
        rc = cm_storage_list(st, op, "", true, export_one, &x, &err);
        if (rc == CM_OK)
            rc = tar_write_end(x.f, &err);
        rc = cli_out_close(&out, rc, &err);
    }
    cm_buf_free(&x.value);
    cli_ui_count("%s", "");
    if (rc != CM_OK)
        return cli_storage_fail(c, NULL, &err);
    cli_say("certmesh: exported %" PRIu64 " values of %s; the archive holds private keys", x.n,
            cm_storage_describe(st));
    return CLI_OK;
}

/* ------------------------------------------------------------------- import */

/* What a storage keeps to itself; in an archive of somebody's folder it may well be. */
static bool is_reserved(const char *name)
{
    static const char *const reserved[] = { "locks", "certmesh/locks", "certmesh/redo",
                                            "certmesh/tmp" };

    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        size_t len = strlen(reserved[i]);

        if (strncmp(name, reserved[i], len) == 0 && (name[len] == '/' || name[len] == '\0'))
            return true;
    }
    return false;
}

static cm_status import_one(struct cli_batch *b, struct tar_reader *r, const struct tar_entry *e,
                            struct cm_err *err)
{
    struct cli_batch_value *v = NULL;
    cm_status rc = cm_storage_key_check(e->name, false, err);

    if (rc != CM_OK)
        return cm_wrap(err, rc, "the archive has a file that cannot be a value");
    if (e->size > CM_STORAGE_VALUE_MAX)
        return cm_fail(err, CM_E_LIMIT,
                       "'%.200s' in the archive has %llu bytes, more than the %u a value may have",
                       e->name, (unsigned long long)e->size, CM_STORAGE_VALUE_MAX);
    if (cli_batch_is_full(b, e->name, e->size)) {
        rc = cli_batch_flush(b, err);
        if (rc != CM_OK)
            return rc;
    }
    v = cli_batch_add(b, e->name, e->size);
    return tar_read(r, e, &v->value, err);
}

static cm_status import_all(struct cli_batch *b, FILE *f, uint64_t *ret_skipped, struct cm_err *err)
{
    static struct tar_entry e; /* large for a stack, and there is one import */
    struct tar_reader r;
    char text[CM_STORAGE_KEY_MAX + 1];
    cm_status rc = CM_OK;

    tar_reader_start(&r, f);
    for (;;) {
        rc = cm_op_check(b->op, err);
        if (rc == CM_OK)
            rc = tar_next(&r, &e, err);
        if (rc != CM_OK)
            return rc;
        if (e.kind == TAR_END)
            return cli_batch_flush(b, err);
        if (e.kind == TAR_DIRECTORY)
            continue;
        if (is_reserved(e.name)) {
            cli_say("certmesh: storage import: '%s' left out: locks and temporary files are each "
                    "storage's own",
                    cli_printable(e.name, text, sizeof text));
            ++*ret_skipped;
            continue;
        }
        rc = import_one(b, &r, &e, err);
        if (rc != CM_OK)
            return rc;
    }
}

int cli_storage_import(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    const char *path = c->n_names > 1 ? c->names[1] : NULL;
    struct cm_err err = CM_ERR_INIT;
    struct cli_batch b;
    struct cli_json j;
    uint64_t skipped = 0;
    FILE *f = NULL;
    cm_status rc;

    if (c->o.autocert != NULL)
        return cli_storage_autocert(c, st, op);
    rc = cli_in_open(c, path, &f, &err);
    if (rc != CM_OK)
        return cli_storage_fail(c, NULL, &err);
    rc = cli_batch_start(&b, c, st, op, &err);
    if (rc == CM_OK)
        rc = import_all(&b, f, &skipped, &err);
    if (rc == CM_E_IO && err.sys_errno == ECANCELED)
        rc = cm_fail(&err, CM_E_CANCELED, "interrupted");
    (void)fclose(f);
    cli_ui_count("%s", "");
    if (rc == CM_OK && c->o.json) {
        cli_json_start(&j, stdout);
        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "storage", cm_storage_describe(st));
        cli_batch_json(&b, &j);
        cli_json_int(&j, "n_reserved", (int64_t)skipped);
        cli_json_close(&j, '}');
        cli_json_finish(&j);
    } else if (rc == CM_OK && !c->o.quiet) {
        cli_batch_print(&b);
    } else if (rc != CM_OK && b.stored > 0) {
        cli_complain("certmesh: storage import: %" PRIu64 " values were stored before that",
                     b.stored);
    }
    cli_batch_end(&b);
    if (rc != CM_OK)
        return cli_storage_fail(c, path, &err);
    return b.left == 0 ? CLI_OK : CLI_FAILED;
}
