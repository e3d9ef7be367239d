/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <string.h>

/* `certmesh storage reseal`: every value is stored again as it is, and so sealed with the key that
 * seals now; afterwards no older one is needed. The parts of one certificate go together, under the
 * lock of whoever would replace them. The others are read right before they are written. */

#define LOCK_TTL  (15 * CM_NS_PER_S)
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

/* Bytes of "certificates/ISSUER/NAME"; 0: it is no part of a certificate. */
static size_t site_len(const char *key)
{
    static const char head[] = "certificates/";
    const char *issuer = key + sizeof head - 1;
    const char *name, *end;

    if (strncmp(key, head, sizeof head - 1) != 0)
        return 0;
    name = strchr(issuer, '/');
    end = name != NULL ? strchr(name + 1, '/') : NULL;
    return end != NULL ? (size_t)(end - key) : 0;
}

static bool is_same_site(const char *a, const char *b)
{
    size_t n = site_len(a);

    return n > 0 && n == site_len(b) && memcmp(a, b, n) == 0;
}

/* What lives a minute is stored anew by whoever it belongs to. */
static bool is_passing(const char *key)
{
    return strstr(key, "/challenge_tokens/") != NULL || strncmp(key, "certmesh/nodes/", 15) == 0;
}

cm_status cli_lock_site(struct cm_storage *st, const struct cm_op *op, const char *name,
                        struct cm_lease **ret, struct cm_err *err)
{
    static const char wildcard[] = "wildcard_";
    struct cm_lease_options o = CM_LEASE_OPTIONS_INIT;
    char lock[CM_LOCK_NAME_MAX + 1];

    if (strncmp(name, wildcard, sizeof wildcard - 1) == 0)
        (void)snprintf(lock, sizeof lock, "issue_cert_*%.400s", name + sizeof wildcard - 1);
    else
        (void)snprintf(lock, sizeof lock, "issue_cert_%.400s", name);
    o.ttl_ns = LOCK_TTL;
    o.try_only = true;
    return cm_lease_acquire(st, op, lock, &o, ret, err);
}

static cm_status lock_site(struct reseal *r, struct cm_lease **ret, struct cm_err *err)
{
    char site[CM_STORAGE_KEY_MAX + 1];

    (void)snprintf(site, sizeof site, "%.*s", (int)site_len(r->parts[0].key), r->parts[0].key);
    return cli_lock_site(r->st, r->op, strrchr(site, '/') + 1, ret, err);
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
    if (site_len(r->parts[0].key) > 0)
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
