/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One account per CA and e-mail, shared by the whole fleet through storage.
 *
 * Crash safety: the key of a new account is stored aside (under certmesh/) before the CA hears of
 * it. Whoever comes after a crash registers with that key again and is given the same account, so
 * none is ever lost. The files that peers read are written together, when the CA has answered. */

#define ACCOUNT_JSON_MAX (64u * 1024)
#define LOSSES_MAX       3
#define LOSS_WINDOW_S    3600

void acme_identity_unref(struct acme_identity *id)
{
    if (id == NULL || atomic_fetch_sub(&id->refs, 1) != 1)
        return;
    cm_key_unref(id->key);
    free(id->url);
    free(id->status);
    free(id);
}

static struct acme_identity *identity_ref(struct acme_identity *id)
{
    (void)atomic_fetch_add(&id->refs, 1);
    return id;
}

cm_status acme_identity_new(struct cm_key *key, const struct cm_acme_account *acc,
                            struct acme_identity **ret, struct cm_err *err)
{
    struct acme_identity *id = cm_calloc(1, sizeof *id);
    if (id == NULL)
        return cm_fail_nomem(err);
    atomic_init(&id->refs, 1);
    id->key = cm_key_ref(key);
    id->url = cm_strdup(acc->url);
    id->status = cm_strdup(cm_acme_status_text(acc->status));
    if (id->url == NULL || id->status == NULL) {
        acme_identity_unref(id);
        return cm_fail_nomem(err);
    }
    *ret = id;
    return CM_OK;
}

/* ------------------------------------------------------------------ storage */

cm_status acme_account_key(struct acme_issuer *ai, const struct cm_op *op, const char *path,
                           struct cm_key **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    cm_status rc = cm_storage_load(ai->host.storage, op, path, &pem, err);
    if (rc != CM_OK)
        return rc;
    struct cm_key *key = NULL;
    rc = cm_key_from_pem(cm_buf_span(&pem), &key, err);
    if (rc == CM_OK)
        rc = cm_key_check(key, err);
    if (rc != CM_OK) {
        cm_key_unref(key);
        return cm_wrap(err, rc, "account key '%s'", path);
    }
    *ret = key;
    return CM_OK;
}

/* What is damaged counts as missing, so that what is left can be used: see recover_by_key(). */
static cm_status missing(struct acme_issuer *ai, cm_status rc, const char *then, struct cm_err *err)
{
    if (!cm_status_is_damage(rc))
        return rc;
    cm_logf(&ai->host.log, CM_LOG_WARN, "account_damaged", NULL, 0, "%s; %s",
            err != NULL ? err->msg : "account", then);
    if (err != NULL)
        err->status = CM_E_NOTFOUND;
    return CM_E_NOTFOUND;
}

cm_status acme_account_load(struct acme_issuer *ai, const struct cm_op *op,
                            const struct acme_account_paths *paths, struct acme_identity **ret,
                            struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(ACCOUNT_JSON_MAX);
    struct cm_acme_account acc = { 0 };
    struct cm_key *key = NULL;

    cm_status rc = cm_storage_load(ai->host.storage, op, paths->json, &json, err);
    if (rc == CM_OK) {
        rc = acme_account_from_json(cm_buf_span(&json), &acc, err);
        if (rc != CM_OK)
            rc = cm_wrap(err, rc, "account '%s'", paths->json);
    }
    if (rc != CM_OK)
        return missing(ai, rc, "the CA is asked for the account by its key", err);
    if (acc.status != CM_ACME_VALID || acc.url == NULL)
        rc = cm_fail(err, CM_E_NOTFOUND, "account '%s' is not registered", paths->json);
    if (rc == CM_OK)
        rc = missing(ai, acme_account_key(ai, op, paths->key, &key, err),
                     "without it the account is lost, a new one is needed", err);
    if (rc == CM_OK)
        rc = acme_identity_new(key, &acc, ret, err);
    cm_key_unref(key);
    cm_acme_account_free(&acc);
    return rc;
}

struct newest {
    char name[CM_STORAGE_COMPONENT_MAX + 1];
    int64_t modified_ns;
    bool found;
};

static cm_status newest_each(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct newest *n = user;
    const char *slash = strrchr(info->key, '/');
    const char *leaf = slash == NULL ? info->key : slash + 1;

    (void)err;
    if (info->terminal || (n->found && info->modified_ns <= n->modified_ns) ||
        strlen(leaf) >= sizeof n->name)
        return CM_OK;
    (void)snprintf(n->name, sizeof n->name, "%s", leaf);
    n->modified_ns = info->modified_ns;
    n->found = true;
    return CM_OK;
}

/* The newest account of this CA, whatever its e-mail; CM_E_NOTFOUND without any. */
static cm_status newest_paths(struct acme_issuer *ai, const struct cm_op *op,
                              struct acme_account_paths *paths, struct cm_err *err)
{
    struct newest newest = { "", 0, false };
    char users[CM_STORAGE_KEY_MAX + 1];

    int n = snprintf(users, sizeof users, "%s/users", ai->prefix);
    if (n < 0 || (size_t)n >= sizeof users)
        return cm_fail(err, CM_E_LIMIT, "storage prefix '%s' is too long", ai->prefix);
    cm_status rc = cm_storage_list(ai->host.storage, op, users, false, newest_each, &newest, err);
    if (rc == CM_OK && !newest.found)
        rc = cm_fail(err, CM_E_NOTFOUND, "no account for %s in %s", ai->directory_url,
                     cm_storage_describe(ai->host.storage));
    return rc == CM_OK ? acme_account_paths(ai->prefix, newest.name, paths, err) : rc;
}

cm_status acme_account_choose(struct acme_issuer *ai, const struct cm_op *op,
                              struct acme_account_paths *paths, struct cm_err *err)
{
    cm_status rc = CM_E_NOTFOUND;
    if (ai->email == NULL)
        rc = newest_paths(ai, op, paths, err);
    if (rc == CM_E_NOTFOUND)
        rc = acme_account_paths(ai->prefix, ai->email, paths, err);
    if (rc == CM_OK && ai->email == NULL)
        (void)snprintf(paths->lock, sizeof paths->lock, "register_acme_account");
    return rc;
}

cm_status acme_account_write(const struct cm_op *op, const struct acme_account_paths *paths,
                             struct cm_lease *lease, const struct cm_key *key,
                             const struct cm_acme_account *acc, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(ACCOUNT_JSON_MAX);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    cm_status rc = acme_account_to_json(acc, &json, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, &pem, err);
    if (rc != CM_OK)
        return rc;
    const struct cm_commit_item items[] = {
        { paths->json, cm_buf_span(&json), false },
        { paths->key, cm_buf_span(&pem), false },
        { paths->pending, { NULL, 0 }, true },
    };
    return cm_lease_commit(lease, op, items, CM_ARRAY_LEN(items), err);
}

/* ----------------------------------------------------------------- recovery */

/* Is the account's own file still there, readable, and says that the CA has ended it? Then its key
 * is of no use. */
static bool has_ended(struct acme_issuer *ai, const struct cm_op *op,
                      const struct acme_account_paths *paths)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(ACCOUNT_JSON_MAX);
    struct cm_acme_account acc = { 0 };

    if (cm_storage_load(ai->host.storage, op, paths->json, &json, NULL) != CM_OK ||
        acme_account_from_json(cm_buf_span(&json), &acc, NULL) != CM_OK)
        return false;
    bool ended = acc.status == CM_ACME_DEACTIVATED || acc.status == CM_ACME_REVOKED;
    cm_acme_account_free(&acc);
    return ended;
}

/* The account's file is gone or damaged, its key is not: the CA knows the account by the key, and
 * the file can be written anew (RFC 8555 7.3.1). CM_E_NOTFOUND if there is no such key, or the CA
 * does not know it. */
static cm_status recover_by_key(struct acme_issuer *ai, const struct cm_op *op,
                                const struct acme_account_paths *paths, const char *key_path,
                                struct cm_lease *lease, struct acme_identity **ret,
                                struct cm_err *err)
{
    const struct cm_acme_new_account req = { .only_existing = true };
    struct cm_acme_account acc = { 0 };
    struct cm_err why = CM_ERR_INIT;
    struct cm_key *key = NULL;

    cm_status rc = acme_account_key(ai, op, key_path, &key, err);
    if (cm_status_is_damage(rc))
        return cm_wrap(err, CM_E_NOTFOUND, "account key '%s'", key_path);
    if (rc == CM_OK && has_ended(ai, op, paths)) {
        cm_key_unref(key);
        return cm_fail(err, CM_E_NOTFOUND,
                       "no account at %s: the one whose key is '%s' has been deactivated",
                       ai->directory_url, key_path);
    }
    if (rc != CM_OK)
        return rc;
    rc = cm_acme_account_new(ai->client, op, key, &req, &acc, NULL, &why);
    if (rc == CM_OK && acc.status != CM_ACME_VALID)
        rc = cm_fail(&why, CM_E_NOTFOUND, "account %s at %s is %s", acc.url, ai->directory_url,
                     cm_acme_status_text(acc.status));
    else if (rc == CM_E_ACME && why.http_status < 500) /* no such account, or one that was closed */
        rc = cm_wrap(&why, CM_E_NOTFOUND, "account of key '%s'", key_path);
    if (why.status != CM_OK && err != NULL)
        *err = why;
    if (rc == CM_OK)
        rc = acme_account_write(op, paths, lease, key, &acc, err);
    if (rc == CM_OK)
        rc = acme_identity_new(key, &acc, ret, err);
    if (rc == CM_OK)
        cm_logf(&ai->host.log, CM_LOG_WARN, "account_recovered", NULL, 0,
                "account %s found by its key; '%s' is written anew", acc.url, paths->json);
    cm_acme_account_free(&acc);
    cm_key_unref(key);
    return rc;
}

static bool has_key(struct acme_issuer *ai, const struct cm_op *op,
                    const struct acme_account_paths *paths)
{
    struct cm_key_info info;

    return cm_storage_stat(ai->host.storage, op, paths->key, &info, NULL) == CM_OK;
}

static cm_status find_or_register(struct acme_issuer *ai, const struct cm_op *op, bool may,
                                  struct acme_identity **ret, struct cm_err *err)
{
    struct acme_account_paths paths;
    struct cm_lease *lease = NULL;

    cm_status rc = acme_account_choose(ai, op, &paths, err);
    if (rc != CM_OK)
        return rc;
    rc = acme_account_load(ai, op, &paths, ret, err);
    if (rc != CM_E_NOTFOUND)
        return rc;
    if (!may && !has_key(ai, op, &paths))
        return cm_fail(err, CM_E_NOTFOUND, "no account for %s in %s", ai->directory_url,
                       cm_storage_describe(ai->host.storage));

    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    lo.log = ai->host.log;
    rc = cm_lease_acquire(ai->host.storage, op, paths.lock, &lo, &lease, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "register account");
    /* Somebody else may have been quicker. */
    struct cm_op held = *op;
    held.cancel = cm_lease_cancel(lease);
    rc = acme_account_load(ai, &held, &paths, ret, err);
    if (rc == CM_E_NOTFOUND)
        rc = recover_by_key(ai, &held, &paths, paths.key, lease, ret, err);
    if (rc == CM_E_NOTFOUND) { /* a change of key that was interrupted */
        struct cm_err why = CM_ERR_INIT;
        cm_status next = recover_by_key(ai, &held, &paths, paths.rollover, lease, ret, &why);
        if (next != CM_E_NOTFOUND) {
            rc = next;
            if (err != NULL)
                *err = why;
        }
    }
    if (rc == CM_E_NOTFOUND && may)
        rc = acme_account_register(ai, &held, &paths, lease, ret, err);
    cm_lease_release(lease);
    return rc;
}

/* ------------------------------------------------------------ single flight */

/* Wait until nobody is fetching the account. CM_OK with *ret: a reference to it. CM_OK without:
 * the caller is the one who fetches now. Whoever waited for a fetch that failed shares its failure
 * (a CA that is down must not be asked once per waiter), unless it was only canceled. */
static cm_status enter(struct acme_issuer *ai, const struct cm_op *op, struct acme_identity **ret,
                       struct cm_err *err)
{
    cm_status rc = CM_OK;

    cm_mutex_lock(&ai->lock);
    bool waited = ai->identity_busy;
    while (rc == CM_OK && ai->identity_busy) {
        (void)cm_cond_wait_ns(&ai->changed, &ai->lock, 50 * CM_NS_PER_MS);
        rc = cm_op_check(op, err);
    }
    if (rc == CM_OK && ai->identity != NULL) {
        *ret = identity_ref(ai->identity);
    } else if (rc == CM_OK && waited && ai->failed.status != CM_OK) {
        rc = ai->failed.status;
        if (err != NULL)
            *err = ai->failed;
    } else if (rc == CM_OK) {
        ai->identity_busy = true;
    }
    cm_mutex_unlock(&ai->lock);
    return rc;
}

/* The fetch ended: @id is the account, or NULL and @why. */
static void leave(struct acme_issuer *ai, struct acme_identity *id, const struct cm_err *why)
{
    cm_mutex_lock(&ai->lock);
    struct acme_identity *old = ai->identity;
    ai->identity = id == NULL ? NULL : identity_ref(id);
    ai->failed = *why;
    if (why->status == CM_E_CANCELED || why->status == CM_E_TIMEOUT)
        ai->failed.status = CM_OK;
    ai->identity_busy = false;
    (void)pthread_cond_broadcast(&ai->changed);
    cm_mutex_unlock(&ai->lock);
    acme_identity_unref(old);
}

cm_status acme_identity_get(struct acme_issuer *ai, const struct cm_op *op, bool may_register_now,
                            struct acme_identity **ret, struct cm_err *err)
{
    struct acme_identity *id = NULL;
    struct cm_err why = CM_ERR_INIT;
    struct cm_op whole = { cm_op_env(op), op == NULL ? 0 : op->deadline_ns,
                           op == NULL ? NULL : op->cancel };

    cm_status rc = enter(ai, &whole, &id, err);
    if (rc == CM_OK && id == NULL) {
        rc = find_or_register(ai, &whole, may_register_now, &id, &why);
        why.status = rc;
        leave(ai, rc == CM_OK ? id : NULL, &why);
        if (rc != CM_OK && err != NULL)
            *err = why;
    }
    if (rc == CM_OK)
        *ret = id;
    return rc;
}

void acme_identity_drop(struct acme_issuer *ai, const struct acme_identity *id)
{
    cm_mutex_lock(&ai->lock);
    struct acme_identity *old = ai->identity == id ? ai->identity : NULL;
    if (old != NULL)
        ai->identity = NULL;
    cm_mutex_unlock(&ai->lock);
    acme_identity_unref(old);
}

/* A CA that forgets every account at once would be given new ones without end, by each name that is
 * tried. "TIMES SINCE_S", for the fleet; what is damaged or of the future counts as not there. */
static cm_status count_loss(struct acme_issuer *ai, const struct cm_op *op, const char *path,
                            struct cm_buf *out, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(64);
    int64_t now_s = cm_env_wall_s(cm_op_env(op));
    unsigned long times = 0;
    long long since_s = 0;
    char *end = NULL;

    cm_status rc = cm_storage_load(ai->host.storage, op, path, &text, err);
    if (rc != CM_OK && rc != CM_E_NOTFOUND && !cm_status_is_damage(rc))
        return rc;
    if (rc == CM_OK) {
        times = strtoul(cm_buf_str(&text), &end, 10);
        since_s = strtoll(end, NULL, 10);
    }
    if (since_s <= 0 || since_s > now_s || now_s - since_s >= LOSS_WINDOW_S) {
        times = 0;
        since_s = now_s;
    }
    if (times >= LOSSES_MAX) {
        (void)cm_fail(err, CM_E_ACME,
                      "%s has forgotten our account %lu times within an hour; no other one is "
                      "registered before that is over",
                      ai->directory_url, times);
        if (err != NULL) {
            err->whole_ca = true;
            err->retry_after_s = LOSS_WINDOW_S - (now_s - since_s);
        }
        return CM_E_ACME;
    }
    return cm_buf_printf(out, err, "%lu %lld\n", times + 1, since_s);
}

cm_status acme_identity_forget(struct acme_issuer *ai, const struct cm_op *op,
                               struct acme_identity *stale, bool keep_key, struct cm_err *err)
{
    struct acme_account_paths paths;
    struct acme_identity *stored = NULL;
    struct cm_lease *lease = NULL;

    acme_identity_drop(ai, stale);
    cm_status rc = acme_account_choose(ai, op, &paths, err);
    if (rc == CM_OK)
        rc = cm_lease_acquire(ai->host.storage, op, paths.lock, NULL, &lease, err);
    if (rc != CM_OK)
        return rc;
    /* Only if storage still names the account that is gone: a peer may have replaced it. */
    rc = acme_account_load(ai, op, &paths, &stored, err);
    if (rc == CM_OK && strcmp(stored->url, stale->url) == 0) {
        CM_AUTO_BUF struct cm_buf lost = CM_BUF_INIT(64);
        rc = count_loss(ai, op, paths.lost, &lost, err);
        const struct cm_commit_item items[] = { { paths.lost, cm_buf_span(&lost), false },
                                                { paths.json, { NULL, 0 }, true },
                                                { paths.key, { NULL, 0 }, true } };
        if (rc == CM_OK)
            rc = cm_lease_commit(lease, op, items, CM_ARRAY_LEN(items) - (keep_key ? 1 : 0), err);
    }
    acme_identity_unref(stored);
    cm_lease_release(lease);
    return rc == CM_E_NOTFOUND ? CM_OK : rc;
}

cm_status acme_identity_newest(struct acme_issuer *ai, const struct cm_op *op,
                               struct acme_account_paths *paths, struct acme_identity **ret,
                               struct cm_err *err)
{
    cm_status rc = newest_paths(ai, op, paths, err);
    return rc == CM_OK ? acme_account_load(ai, op, paths, ret, err) : rc;
}

static cm_status remove_old(const struct cm_op *op, struct cm_lease *lease,
                            const struct acme_account_paths *old,
                            const struct acme_account_paths *now, struct cm_err *err)
{
    const struct cm_commit_item items[] = { { old->json, { NULL, 0 }, true },
                                            { old->key, { NULL, 0 }, true } };
    if (strcmp(old->json, now->json) == 0)
        return CM_OK;
    return cm_lease_commit(lease, op, items, CM_ARRAY_LEN(items), err);
}

cm_status acme_identity_save(struct acme_issuer *ai, const struct cm_op *op,
                             struct acme_identity *id, const struct cm_acme_account *acc,
                             const struct acme_account_paths *old, struct cm_err *err)
{
    struct acme_account_paths paths;
    struct acme_identity *stored = NULL;
    struct cm_lease *lease = NULL;
    const struct cm_key *key = id->key;

    cm_status rc = acme_account_choose(ai, op, &paths, err);
    if (rc == CM_OK)
        rc = cm_lease_acquire(ai->host.storage, op, paths.lock, NULL, &lease, err);
    /* A peer may have changed the key since: the old one must not come back. */
    if (rc == CM_OK && acme_account_load(ai, op, &paths, &stored, NULL) == CM_OK &&
        strcmp(stored->url, id->url) == 0)
        key = stored->key;
    if (rc == CM_OK)
        rc = acme_account_write(op, &paths, lease, key, acc, err);
    if (rc == CM_OK && old != NULL)
        rc = remove_old(op, lease, old, &paths, err);
    acme_identity_unref(stored);
    cm_lease_release(lease);
    if (rc == CM_OK && acc->status != CM_ACME_VALID)
        acme_identity_drop(ai, id);
    return rc;
}

cm_status acme_identity_relocate(struct acme_issuer *ai, const struct cm_op *op,
                                 struct acme_identity *id, struct acme_identity **ret,
                                 struct cm_err *err)
{
    const struct cm_acme_new_account req = { .tos_agreed = true, .only_existing = true };
    struct cm_acme_account acc = { 0 };

    cm_status rc = cm_acme_account_new(ai->client, op, id->key, &req, &acc, NULL, err);
    if (rc == CM_OK && (acc.status != CM_ACME_VALID || strcmp(acc.url, id->url) == 0))
        rc = cm_fail(err, CM_E_NOTFOUND, "account %s is where it was", id->url);
    if (rc == CM_OK)
        rc = acme_identity_save(ai, op, id, &acc, NULL, err);
    if (rc == CM_OK)
        rc = acme_identity_new(id->key, &acc, ret, err);
    if (rc == CM_OK)
        acme_identity_drop(ai, id);
    cm_acme_account_free(&acc);
    return rc;
}
