/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <string.h>

/* `certmesh storage reseal`: every value is stored again as it is, and so sealed with the key that
 * seals now; afterwards no older one is needed. The parts of one certificate go together, under the
 * lock of whoever would replace them. The others are read right before they are written. */

#define PARTS_MAX 16u

struct part {
    char key[CM_STORAGE_KEY_MAX + 1];
    struct cm_buf value;
};

struct reseal {
    struct cli *c;
    struct cm_storage *st;
    const struct cm_op *op;
    struct part parts[PARTS_MAX]; /* of one certificate, or one other value */
    size_t n;
    uint64_t done, left;
};

static bool is_same_site(const char *a, const char *b)
{
    size_t n = cli_site_len(a);

    return n > 0 && n == cli_site_len(b) && memcmp(a, b, n) == 0;
}

/* What lives a minute is stored anew by whoever it belongs to. */
static bool is_passing(const char *key)
{
    return strstr(key, "/challenge_tokens/") != NULL || strncmp(key, "certmesh/nodes/", 15) == 0 ||
           strncmp(key, "certmesh/dns/", 13) == 0;
}

static cm_status lock_site(struct reseal *r, struct cm_lease **ret, struct cm_err *err)
{
    const struct cm_span none = { NULL, 0 };
    char site[CM_STORAGE_KEY_MAX + 1];

    (void)snprintf(site, sizeof site, "%.*s", (int)cli_site_len(r->parts[0].key), r->parts[0].key);
    return cli_site_lock(r->st, r->op, site, none, none, ret, err);
}

static cm_status store_again(struct reseal *r, struct cm_lease *lease, struct cm_err *err)
{
    struct cm_commit_item items[PARTS_MAX];
    size_t n = 0;
    cm_status rc = CM_OK;

    for (size_t i = 0; i < r->n && rc == CM_OK; i++) {
        struct part *p = &r->parts[i];

        p->value = (struct cm_buf)CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
        rc = cm_storage_load(r->st, r->op, p->key, &p->value, err);
        if (rc == CM_OK)
            items[n++] = (struct cm_commit_item){ p->key, cm_buf_span(&p->value), false };
        else if (rc == CM_E_NOTFOUND)
            rc = CM_OK; /* removed meanwhile */
    }
    if (rc == CM_OK && n > 0)
        rc = lease != NULL ? cm_lease_commit(lease, r->op, items, n, err)
                           : cm_storage_commit(r->st, r->op, NULL, items, n, err);
    if (rc == CM_OK)
        r->done += n;
    for (size_t i = 0; i < r->n; i++)
        cm_buf_free(&r->parts[i].value);
    return rc;
}

static cm_status flush(struct reseal *r, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    cm_status rc = CM_OK;

    if (r->n == 0)
        return CM_OK;
    if (cli_site_len(r->parts[0].key) > 0)
        rc = lock_site(r, &lease, &why);
    if (rc == CM_OK)
        rc = store_again(r, lease, &why);
    cm_lease_release(lease);
    if (rc != CM_OK) {
        r->left += r->n;
        cli_say("certmesh: storage reseal: '%s' is left as it is: %s", r->parts[0].key, why.msg);
    }
    r->n = 0;
    cli_ui_count("%" PRIu64 " values", r->done);
    return cm_op_check(r->op, err);
}

static cm_status take(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct reseal *r = user;
    cm_status rc = CM_OK;

    if (is_passing(info->key))
        return CM_OK;
    if (r->n == PARTS_MAX || (r->n > 0 && !is_same_site(r->parts[0].key, info->key)))
        rc = flush(r, err);
    if (rc == CM_OK) {
        struct part *p = &r->parts[r->n++];

        memset(&p->value, 0, sizeof p->value);
        (void)snprintf(p->key, sizeof p->key, "%s", info->key);
    }
    return rc;
}

int cli_storage_reseal(struct cli *c, struct cm_storage *st, const struct cm_op *op)
{
    struct reseal r = { .c = c, .st = st, .op = op };
    struct cm_err err = CM_ERR_INIT;
    cm_status rc;

    if (strncmp(cm_storage_describe(st), "sealed ", 7) != 0)
        return cli_usage(c, "reseal is for a sealed storage: --storage "
                            "'sealed:?keys=FILE&in=URL', the new key first in FILE");
    rc = cm_storage_list(st, op, "", true, take, &r, &err);
    if (rc == CM_OK)
        rc = flush(&r, &err);
    cli_ui_count("%s", "");
    if (rc != CM_OK)
        return cli_storage_fail(c, cm_storage_describe(st), &err);
    printf("%" PRIu64 " values are sealed with the first key now, %" PRIu64 " are left\n", r.done,
           r.left);
    return r.left == 0 ? CLI_OK : CLI_FAILED;
}
