/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <string.h>

#define MARK       "certmesh/migration" /* in the new storage: what storage/migrate.c looks for */
#define MARK_BEGUN "begun"
#define MARK_EQUAL "equal"
#define PASSES     20
#define PASS_NS    (2 * CM_NS_PER_S)

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
    uint64_t extras, removed, kept; /* kept: somebody works on them */
    bool remove_others;
};

static cm_status move(struct copy *p, struct cm_err *err)
{
    cm_status rc = cli_batch_load(&p->batch, err);

    return rc == CM_OK ? cli_batch_flush(&p->batch, err) : rc;
}

static bool is_mark(const char *key)
{
    return strcmp(key, MARK) == 0;
}

static cm_status copy_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct copy *p = user;

    if (is_mark(info->key)) /* of a migration into the old one, long ago */
        return CM_OK;
    if (cli_batch_is_full(&p->batch, info->key, info->size)) {
        cm_status rc = move(p, err);

        if (rc != CM_OK)
            return rc;
    }
    (void)cli_batch_add(&p->batch, info->key, info->size);
    return CM_OK;
}

/* Extra [first, end), all of one certificate, or one other value. Under the lock it is looked once
 * more whether the source has them by now. */
static cm_status remove_some(struct copy *p, size_t first, size_t end, struct cm_lease *lease,
                             struct cm_err *err)
{
    struct cm_commit_item items[CM_COMMIT_MAX];
    struct cm_key_info info;
    size_t n = 0;
    cm_status rc = CM_OK;

    for (size_t i = first; i < end && (rc == CM_OK || rc == CM_E_NOTFOUND); i++) {
        rc = cm_storage_stat(p->from, p->op, p->extra[i].key, &info, err);
        if (rc == CM_E_NOTFOUND || (rc == CM_OK && !info.terminal))
            items[n++] = p->extra[i];
    }
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    rc = CM_OK;
    if (n > 0)
        rc = lease != NULL ? cm_lease_commit(lease, p->op, items, n, err)
                           : cm_storage_commit(p->to, p->op, NULL, items, n, err);
    p->removed += rc == CM_OK ? n : 0;
    return rc;
}

static cm_status remove_site(struct copy *p, size_t first, size_t end, struct cm_err *err)
{
    const struct cm_span none = { NULL, 0 };
    char site[CM_STORAGE_KEY_MAX + 1], text[CM_STORAGE_KEY_MAX + 1];
    struct cm_err why = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    cm_status rc;

    (void)snprintf(site, sizeof site, "%.*s", (int)cli_site_len(p->extra_keys[first]),
                   p->extra_keys[first]);
    rc = cli_site_lock(p->to, p->op, site, none, none, &lease, &why);
    if (rc == CM_OK)
        rc = remove_some(p, first, end, lease, &why);
    cm_lease_release(lease);
    if (rc == CM_E_BUSY || rc == CM_E_LOCK_LOST) {
        p->kept += end - first;
        cli_complain("certmesh: storage %s: '%s' is not removed: %s", p->c->names[0],
                     cli_printable(site, text, sizeof text), why.msg);
        return CM_OK;
    }
    if (rc != CM_OK && err != NULL)
        *err = why;
    return rc;
}

static cm_status remove_extra(struct copy *p, struct cm_err *err)
{
    char text[CM_STORAGE_KEY_MAX + 1];
    size_t n = p->n_extra;
    size_t end = 0;
    cm_status rc = CM_OK;

    p->n_extra = 0;
    if (n == 0 || !p->remove_others)
        return CM_OK;
    if (p->c->o.dry_run) {
        for (size_t i = 0; i < n && !p->c->o.json; i++)
            printf("would remove %s\n", cli_printable(p->extra_keys[i], text, sizeof text));
        p->removed += n;
        return CM_OK;
    }
    for (size_t i = 0; i < n && rc == CM_OK; i = end) {
        size_t len = cli_site_len(p->extra_keys[i]);

        for (end = i + 1; end < n && len > 0 && cli_site_len(p->extra_keys[end]) == len &&
                          memcmp(p->extra_keys[i], p->extra_keys[end], len) == 0;)
            end++;
        rc = len > 0 ? remove_site(p, i, end, err) : remove_some(p, i, end, NULL, err);
    }
    return rc;
}

static cm_status look_for_extra(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct copy *p = user;
    struct cm_key_info source;
    cm_status rc;

    if (is_mark(info->key))
        return CM_OK;
    rc = cm_storage_stat(p->from, p->op, info->key, &source, err);

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
    rc = cli_batch_start(&p->batch, p->c, p->to, p->op, err);
    p->batch.from = p->from;
    return rc;
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
    cli_json_int(&j, "n_kept", (int64_t)p->kept);
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
    p.remove_others = c->o.remove_others;
    rc = open_both(&p, &err);
    if (rc == CM_OK)
        rc = copy_all(&p, &err);
    cli_ui_count("%s", "");
    if (rc == CM_OK && c->o.json)
        print_json(&p, p.batch.older == 0 && p.batch.left == 0 && p.extras == p.removed, NULL);
    else if (rc == CM_OK && !c->o.quiet)
        print_text(&p);
    else if (rc != CM_OK && p.batch.stored > 0)
        cli_complain("certmesh: storage copy: %" PRIu64 " values were copied before that; the same "
                     "once more goes on from there",
                     p.batch.stored);
    cli_batch_end(&p.batch);
    cm_storage_close(p.from);
    cm_storage_close(p.to);
    if (rc != CM_OK)
        return cli_storage_fail(c, NULL, &err);
    return p.batch.left + p.kept == 0 ? CLI_OK : CLI_FAILED;
}

/* ------------------------------------------------------------------ migrate */

static cm_status set_mark(struct copy *p, const char *text, struct cm_err *err)
{
    return cm_storage_store(p->to, p->op, MARK, cm_span_str(text), err);
}

static cm_status any_key(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    (void)info;
    *(bool *)user = false;
    return cm_fail(err, CM_E_EXISTS, "not empty");
}

/* What the old storage does not have is removed from the new one, so that has to be ours. */
static cm_status begin(struct copy *p, struct cm_err *err)
{
    struct cm_key_info info;
    bool empty = true;
    cm_status rc = cm_storage_stat(p->to, p->op, MARK, &info, err);

    if (rc != CM_E_NOTFOUND)
        return rc;
    rc = cm_storage_list(p->to, p->op, "", false, any_key, &empty, err);
    if (!empty && !p->c->o.force)
        return cm_fail(err, CM_E_STATE,
                       "%s is not empty, and no migration into it has begun: choose another place, "
                       "or --force, which removes what the old storage does not have",
                       cm_storage_describe(p->to));
    return rc == CM_OK || !empty ? set_mark(p, MARK_BEGUN, err) : rc;
}

/* Until a pass has nothing to do: from then on those who write to both keep them equal. */
static cm_status passes(struct copy *p, bool *ret_equal, struct cm_err *err)
{
    cm_status rc = begin(p, err);

    for (int i = 0; i < PASSES && rc == CM_OK && !*ret_equal; i++) {
        uint64_t stored = p->batch.stored;
        uint64_t removed = p->removed;

        if (i > 0) {
            cli_ui_count("pass %d: %" PRIu64 " values stored so far", i + 1, p->batch.stored);
            rc = cm_op_wait(p->op, PASS_NS, err);
        }
        p->batch.seen = p->batch.equal = p->batch.left = 0;
        p->extras = p->kept = 0;
        if (rc == CM_OK)
            rc = copy_all(p, err);
        *ret_equal = rc == CM_OK && p->batch.stored == stored && p->removed == removed &&
                     p->batch.left + p->kept == 0;
    }
    return rc == CM_OK && *ret_equal ? set_mark(p, MARK_EQUAL, err) : rc;
}

int cli_storage_migrate(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    static struct copy p; /* large for a stack, and there is one */
    struct cm_err err = CM_ERR_INIT;
    bool equal = false;
    cm_status rc = CM_OK;

    (void)st;
    p.c = c;
    p.op = op;
    rc = open_both(&p, &err);
    /* the old one is right, whatever it says */
    p.batch.any_age = true;
    p.remove_others = true;
    if (rc == CM_OK)
        rc = passes(&p, &equal, &err);
    cli_ui_count("%s", "");
    if (rc == CM_OK && c->o.json)
        print_json(&p, equal, NULL);
    else if (rc == CM_OK && !c->o.quiet)
        print_text(&p);
    if (rc == CM_OK && equal)
        cli_say(
            "certmesh: both are equal. When every node writes to both, switch them one by one to "
            "the same URL with read=to, then to %s alone",
            cm_storage_describe(p.to));
    else if (rc == CM_OK)
        cli_complain("certmesh: storage migrate: %d passes, and each had something to do: is there "
                     "still a node that writes to the old storage alone?",
                     PASSES);
    cli_batch_end(&p.batch);
    cm_storage_close(p.from);
    cm_storage_close(p.to);
    if (rc != CM_OK)
        return cli_storage_fail(c, NULL, &err);
    return equal ? CLI_OK : CLI_FAILED;
}
