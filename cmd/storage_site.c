/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <string.h>

/* Who changes what lies in the directory of a certificate holds the lock of whoever would renew it.
 * Its name comes from the names of the certificate: of what lies there, or of what is to. */

#define LOCK_TTL    (15 * CM_NS_PER_S)
#define LOCK_WAIT   (20 * CM_NS_PER_S) /* longer than a lease: a dead holder's ends meanwhile */
#define TRIES       3
#define META_MAX    (64u * 1024)
#define DAMAGED(rc) ((rc) == CM_E_PARSE || (rc) == CM_E_LIMIT || (rc) == CM_E_PERM)

size_t cli_site_len(const char *key)
{
    static const char root[] = "certificates/";
    size_t len = sizeof root - 1;

    if (strncmp(key, root, len) != 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        const char *slash = strchr(key + len, '/');

        if (slash == NULL)
            return 0;
        len = (size_t)(slash + 1 - key);
    }
    return strchr(key + len, '/') == NULL ? len - 1 : 0;
}

/* What is not there, or cannot be read, tells nothing. */
static cm_status load_part(struct cm_storage *st, const struct cm_op *op, const char *site,
                           const char *ending, struct cm_buf *ret, struct cm_err *err)
{
    char key[2 * CM_STORAGE_KEY_MAX];
    cm_status rc;

    (void)snprintf(key, sizeof key, "%s/%s%s", site, strrchr(site, '/') + 1, ending);
    rc = cm_storage_load(st, op, key, ret, err);
    return rc == CM_E_NOTFOUND || DAMAGED(rc) ? CM_OK : rc;
}

static cm_status told_there(struct cm_storage *st, const struct cm_op *op, const char *site,
                            char ret[CM_LOCK_NAME_MAX + 1], bool *ret_told, struct cm_err *err)
{
    struct cm_buf meta = CM_BUF_INIT(META_MAX);
    struct cm_buf chain = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    cm_status rc = load_part(st, op, site, ".json", &meta, err);

    if (rc == CM_OK)
        rc = load_part(st, op, site, ".crt", &chain, err);
    *ret_told = false;
    if (rc == CM_OK && (meta.len > 0 || chain.len > 0)) {
        rc = cm_site_lock_name(strrchr(site, '/') + 1, cm_buf_span(&meta), cm_buf_span(&chain), ret,
                               err);
        *ret_told = rc == CM_OK;
        if (rc == CM_E_CERT)
            rc = CM_OK;
    }
    cm_buf_free(&meta);
    cm_buf_free(&chain);
    return rc;
}

static cm_status name_of(struct cm_storage *st, const struct cm_op *op, const char *site,
                         struct cm_span meta, struct cm_span chain, char ret[CM_LOCK_NAME_MAX + 1],
                         struct cm_err *err)
{
    const char *dir = strrchr(site, '/') + 1;
    char ours[CM_LOCK_NAME_MAX + 1];
    bool there = false;
    bool brought = false;
    cm_status rc = told_there(st, op, site, ret, &there, err);

    if (rc == CM_OK && (meta.len > 0 || chain.len > 0)) {
        rc = cm_site_lock_name(dir, meta, chain, ours, err);
        brought = rc == CM_OK;
        if (rc == CM_E_CERT)
            rc = CM_OK;
    }
    if (rc != CM_OK)
        return rc;
    if (there && brought && strcmp(ret, ours) != 0)
        return cm_fail(err, CM_E_EXISTS,
                       "what lies in '%s' is for other names (its lock is '%s', not '%s'): remove "
                       "it first, if nobody uses it",
                       site, ret, ours);
    if (!there && brought)
        memcpy(ret, ours, sizeof ours);
    if (!there && !brought)
        rc = cm_site_lock_name(dir, (struct cm_span){ NULL, 0 }, (struct cm_span){ NULL, 0 }, ret,
                               err);
    return rc;
}

static cm_status take(struct cm_storage *st, const struct cm_op *op, const char *name,
                      struct cm_lease **ret, struct cm_err *err)
{
    struct cm_lease_options o = CM_LEASE_OPTIONS_INIT;
    struct cm_op within = cm_op_within(op, LOCK_WAIT);
    struct cm_lock_info info = { .size = (uint32_t)sizeof info };
    cm_status rc;

    o.ttl_ns = LOCK_TTL;
    rc = cm_lease_acquire(st, &within, name, &o, ret, err);
    if (rc != CM_E_TIMEOUT || cm_op_check(op, NULL) != CM_OK)
        return rc;
    if (cm_storage_lock_info(st, op, name, &info, NULL) != CM_OK)
        (void)snprintf(info.holder, sizeof info.holder, "another");
    return cm_fail(err, CM_E_BUSY, "%s holds the lock '%s'", info.holder, name);
}

cm_status cli_site_lock(struct cm_storage *st, const struct cm_op *op, const char *site,
                        struct cm_span meta, struct cm_span chain, struct cm_lease **ret,
                        struct cm_err *err)
{
    char name[CM_LOCK_NAME_MAX + 1], now[CM_LOCK_NAME_MAX + 1] = "";
    cm_status rc = name_of(st, op, site, meta, chain, name, err);

    for (int i = 0; i < TRIES && rc == CM_OK; i++) {
        struct cm_lease *lease = NULL;

        rc = take(st, op, name, &lease, err);
        if (rc == CM_OK)
            rc = name_of(st, op, site, meta, chain, now, err);
        if (rc == CM_OK && strcmp(name, now) == 0) {
            *ret = lease;
            return CM_OK;
        }
        /* somebody has put another certificate there meanwhile */
        cm_lease_release(lease);
        memcpy(name, now, sizeof name);
    }
    return rc != CM_OK ? rc : cm_fail(err, CM_E_BUSY, "'%s' is for other names every time", site);
}
