/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <string.h>

/* From one storage into another. What is equal is passed over, so that a copy that was cut short is
 * simply done once more. */

struct copy {
    struct cli *c;
    struct cm_storage *from;
    struct cm_storage *to;
    const struct cm_op *op;
    struct cli_batch batch;
    struct cm_commit_item extra[CM_COMMIT_MAX]; /* keys that the source does not have */
    char extra_keys[CM_COMMIT_MAX][CM_STORAGE_KEY_MAX + 1];
    size_t n_extra;
    uint64_t extras, removed;
};

static cm_status move(struct copy *p, struct cm_err *err)
{
    cm_status rc = cli_batch_load(&p->batch, p->from, err);

    return rc == CM_OK ? cli_batch_flush(&p->batch, err) : rc;
}

static cm_status copy_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct copy *p = user;

    if (cli_batch_is_full(&p->batch, info->key, info->size)) {
        cm_status rc = move(p, err);

        if (rc != CM_OK)
            return rc;
    }
    (void)cli_batch_add(&p->batch, info->key, info->size);
    return CM_OK;
}

static cm_status remove_extra(struct copy *p, struct cm_err *err)
{
    char text[CM_STORAGE_KEY_MAX + 1];
    size_t n = p->n_extra;
    cm_status rc = CM_OK;

    p->n_extra = 0;
    if (n == 0 || !p->c->o.remove_others)
        return CM_OK;
    if (p->c->o.dry_run) {
        for (size_t i = 0; i < n && !p->c->o.json; i++)
            printf("would remove %s\n", cli_printable(p->extra_keys[i], text, sizeof text));
    } else {
        rc = cm_storage_commit(p->to, p->op, NULL, p->extra, n, err);
    }
    p->removed += rc == CM_OK ? n : 0;
    return rc;
}

static cm_status look_for_extra(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct copy *p = user;
    struct cm_key_info source;
    cm_status rc = cm_storage_stat(p->from, p->op, info->key, &source, err);

    if (rc == CM_OK && source.terminal)
        return CM_OK;
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    p->extras++;
    (void)snprintf(p->extra_keys[p->n_extra], sizeof p->extra_keys[0], "%s", info->key);
    p->extra[p->n_extra] =
        (struct cm_commit_item){ .key = p->extra_keys[p->n_extra], .remove = true };
    p->n_extra++;
    return p->n_extra == CM_COMMIT_MAX ? remove_extra(p, err) : CM_OK;
}

static cm_status copy_all(struct copy *p, struct cm_err *err)
{
    cm_status rc = cm_storage_list(p->from, p->op, "", true, copy_one, p, err);

    if (rc == CM_OK && p->batch.n > 0)
        rc = move(p, err);
    if (rc == CM_OK)
        rc = cm_storage_list(p->to, p->op, "", true, look_for_extra, p, err);
    return rc == CM_OK ? remove_extra(p, err) : rc;
}

static cm_status open_both(struct copy *p, struct cm_err *err)
{
    cm_status rc = cm_storage_open(p->c->o.from, NULL, &p->from, err);

    if (rc != CM_OK)
        return cm_wrap(err, rc, "--from");
    rc = cli_open_storage(p->c, p->c->o.to, &p->to, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "--to");
    if (strcmp(cm_storage_describe(p->from), cm_storage_describe(p->to)) == 0)
        return cm_fail(err, CM_E_INVAL, "--from and --to are the same storage, %s",
                       cm_storage_describe(p->to));
    return cli_batch_start(&p->batch, p->c, p->to, p->op, err);
}

static void print_json(struct copy *p, bool equal, const struct cm_err *err)
{
    struct cli_json j;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_text(&j, "from", cm_storage_describe(p->from));
    cli_json_text(&j, "to", cm_storage_describe(p->to));
    cli_batch_json(&p->batch, &j);
    cli_json_int(&j, "n_others", (int64_t)p->extras);
    cli_json_int(&j, "n_removed", (int64_t)p->removed);
    cli_json_bool(&j, "equal", equal);
    if (err != NULL)
        cli_json_err(&j, "error", err);
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

static void print_text(const struct copy *p)
{
    cli_batch_print(&p->batch);
    if (p->removed > 0)
        printf("%" PRIu64 " %s, since %s does not have them\n", p->removed,
               p->c->o.dry_run ? "to remove" : "removed", cm_storage_describe(p->from));
    else if (p->extras > 0)
        printf("%" PRIu64 " others in %s were left there\n", p->extras, cm_storage_describe(p->to));
}

int cli_storage_copy(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    static struct copy p; /* large for a stack, and there is one copy */
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_OK;

    (void)st;
    p.c = c;
    p.op = op;
    rc = open_both(&p, &err);
    if (rc == CM_OK)
        rc = copy_all(&p, &err);
    cli_ui_count("%s", "");
    if (rc == CM_OK && c->o.json)
        print_json(&p, p.batch.older == 0 && p.extras == p.removed, NULL);
    else if (rc == CM_OK && !c->o.quiet)
        print_text(&p);
    else if (rc != CM_OK && p.batch.stored > 0)
        cli_complain("certmesh: storage copy: %" PRIu64 " values were copied before that; the same "
                     "once more goes on from there",
                     p.batch.stored);
    cli_batch_end(&p.batch);
    cm_storage_close(p.from);
    cm_storage_close(p.to);
    return rc == CM_OK ? CLI_OK : cli_storage_fail(c, NULL, &err);
}
