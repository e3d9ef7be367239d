/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>
#include <string.h>

/* Another key for the account (RFC 8555 7.3.5).
 *
 * There is a moment when only the CA knows which key is the account's: it has heard of the change,
 * and storage has not. So the next key is stored aside (".nextkey") before the CA hears of it, and
 * stays there until the change is committed, together with the removal of that record. Whoever
 * comes after a crash asks the CA for the account by that key: does it know it, the change is
 * committed; does it not, the same change is asked for again. The record is never dropped in
 * between for a fresh key: a request that is still on its way to the CA would make that key the
 * account's.
 *
 * Peers sign with the old key until the CA refuses it. Then they look into storage, once. */

static bool is_same_key(const struct cm_key *a, const struct cm_key *b)
{
    char ta[CM_THUMBPRINT_BUF], tb[CM_THUMBPRINT_BUF];

    return cm_key_thumbprint(a, ta, NULL) == CM_OK && cm_key_thumbprint(b, tb, NULL) == CM_OK &&
           strcmp(ta, tb) == 0;
}

bool acme_account_is_doubted(cm_status rc, const struct cm_err *err)
{
    return rc == CM_E_ACME && err != NULL &&
           (cm_acme_problem_is(err->problem, "accountDoesNotExist") ||
            cm_acme_problem_is(err->problem, "unauthorized") ||
            cm_acme_problem_is(err->problem, "malformed"));
}

/* Does the CA know the account of @id by @key? */
static cm_status holds(struct acme_issuer *ai, const struct cm_op *op,
                       const struct acme_identity *id, const struct cm_key *key, bool *ret,
                       struct cm_err *err)
{
    const struct cm_acme_new_account req = { .only_existing = true };
    struct cm_acme_account acc = { 0 };
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = cm_acme_account_new(ai->client, op, key, &req, &acc, NULL, &why);
    *ret = rc == CM_OK && strcmp(acc.url, id->url) == 0;
    cm_acme_account_free(&acc);
    if (rc == CM_OK || acme_account_is_doubted(rc, &why))
        return CM_OK;
    if (err != NULL)
        *err = why;
    return cm_wrap(err, rc, "which key is the account's");
}

/* The change is made: the next key takes the place of the old one, and the record ends. */
static cm_status commit(struct acme_issuer *ai, const struct cm_op *op,
                        const struct acme_account_paths *paths, struct cm_lease *lease,
                        const struct acme_identity *id, struct cm_key *key,
                        struct acme_identity **ret, struct cm_err *err)
{
    const struct cm_acme_account acc = { .status = CM_ACME_VALID, .url = id->url };
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct acme_identity *fresh = NULL;

    cm_status rc = cm_key_to_pem(key, &pem, err);
    if (rc == CM_OK)
        rc = acme_identity_new(key, &acc, &fresh, err);
    const struct cm_commit_item items[] = {
        { paths->key, cm_buf_span(&pem), false },
        { paths->rollover, { NULL, 0 }, true },
    };
    if (rc == CM_OK)
        rc = cm_lease_commit(lease, op, items, CM_ARRAY_LEN(items), err);
    if (rc != CM_OK) {
        acme_identity_unref(fresh);
        return cm_wrap(err, rc,
                       "the CA has the new key of account %s, and it is kept in '%s'; run this "
                       "again to finish",
                       id->url, paths->rollover);
    }
    const struct cm_log_field f[] = { { "ca", ai->directory_url }, { "account", id->url } };
    cm_logf(&ai->host.log, CM_LOG_INFO, "account_key_changed", f, CM_ARRAY_LEN(f),
            "account %s has a new key", id->url);
    *ret = fresh;
    return CM_OK;
}

/* What an interrupted change has left. *ret: it is finished now. *ret_next: the key that it was
 * about, when the CA has not heard of it; both stay NULL if there is none. */
static cm_status finish(struct acme_issuer *ai, const struct cm_op *op,
                        const struct acme_account_paths *paths, struct cm_lease *lease,
                        const struct acme_identity *id, struct acme_identity **ret,
                        struct cm_key **ret_next, struct cm_err *err)
{
    struct cm_key *next = NULL;
    bool held = false;

    cm_status rc = acme_account_key(ai, op, paths->rollover, &next, err);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (cm_status_is_damage(rc)) {
        cm_logf(&ai->host.log, CM_LOG_WARN, "account_damaged", NULL, 0,
                "%s; it is the key of an interrupted change, another is made",
                err != NULL ? err->msg : paths->rollover);
        return CM_OK;
    }
    if (rc != CM_OK)
        return rc;
    rc = is_same_key(next, id->key) ? CM_OK : holds(ai, op, id, next, &held, err);
    if (rc == CM_OK && (held || is_same_key(next, id->key)))
        rc = commit(ai, op, paths, lease, id, next, ret, err);
    else if (rc == CM_OK)
        *ret_next = cm_key_ref(next);
    cm_key_unref(next);
    return rc;
}

/* A fresh key, stored aside before anybody hears of it. */
static cm_status prepare(const struct cm_op *op, const struct acme_account_paths *paths,
                         struct cm_lease *lease, enum cm_pk type, struct cm_key **ret,
                         struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *key = NULL;

    cm_status rc = cm_key_generate(type, &key, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, &pem, err);
    if (rc == CM_OK) {
        const struct cm_commit_item item = { paths->rollover, cm_buf_span(&pem), false };
        rc = cm_lease_commit(lease, op, &item, 1, err);
    }
    if (rc != CM_OK) {
        cm_key_unref(key);
        return rc;
    }
    *ret = key;
    return CM_OK;
}

/* Refusals of this very key, after which it can never become the account's. */
static bool is_refused(cm_status rc, const struct cm_err *why)
{
    return rc == CM_E_ACME &&
           (why->http_status == 409 || cm_acme_problem_is(why->problem, "badPublicKey") ||
            cm_acme_problem_is(why->problem, "badSignatureAlgorithm"));
}

static cm_status change(struct acme_issuer *ai, const struct cm_op *op,
                        const struct acme_account_paths *paths, struct cm_lease *lease,
                        const struct acme_identity *id, struct cm_key *next,
                        struct acme_identity **ret, struct cm_err *err)
{
    const struct cm_acme_signer who = { id->key, id->url };
    struct cm_err why = CM_ERR_INIT;
    bool held = false;

    cm_status rc = cm_acme_key_change(ai->client, op, &who, next, &why);
    if (rc == CM_OK)
        return commit(ai, op, paths, lease, id, next, ret, err);
    /* It may have been heard all the same: the answer was lost, or this is the second time. */
    if (rc != CM_E_UNSUPPORTED && cm_op_check(op, NULL) == CM_OK &&
        holds(ai, op, id, next, &held, NULL) == CM_OK && held)
        return commit(ai, op, paths, lease, id, next, ret, err);
    if (rc == CM_E_UNSUPPORTED || is_refused(rc, &why)) {
        const struct cm_commit_item item = { paths->rollover, { NULL, 0 }, true };
        (void)!cm_lease_commit(lease, op, &item, 1, NULL);
    }
    if (err != NULL)
        *err = why;
    return cm_wrap(err, rc, "new key for account %s", id->url);
}

static cm_status under_lock(struct acme_issuer *ai, const struct cm_op *op,
                            const struct acme_account_paths *paths, struct cm_lease *lease,
                            enum cm_pk type, struct acme_identity **ret, struct cm_err *err)
{
    const struct cm_acme_directory *dir = NULL;
    struct acme_identity *id = NULL, *fresh = NULL;
    struct cm_key *next = NULL;

    cm_status rc = acme_account_load(ai, op, paths, &id, err);
    if (rc == CM_OK)
        rc = finish(ai, op, paths, lease, id, &fresh, &next, err);
    if (rc == CM_OK && fresh == NULL && next == NULL) {
        rc = cm_acme_directory(ai->client, op, &dir, err);
        if (rc == CM_OK && dir->key_change == NULL)
            rc =
                cm_fail(err, CM_E_UNSUPPORTED, "%s changes no keys of accounts", ai->directory_url);
        if (rc == CM_OK)
            rc = prepare(op, paths, lease, type, &next, err);
    }
    if (rc == CM_OK && fresh == NULL)
        rc = change(ai, op, paths, lease, id, next, &fresh, err);
    cm_key_unref(next);
    acme_identity_unref(id);
    if (rc == CM_OK)
        *ret = fresh;
    return rc;
}

cm_status acme_rollover(struct acme_issuer *ai, const struct cm_op *op, enum cm_pk type,
                        struct acme_identity **ret, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct acme_account_paths paths;
    struct acme_identity *old = NULL;
    struct cm_lease *lease = NULL;

    if (ai->account_key_file != NULL)
        return cm_fail(err, CM_E_POLICY,
                       "the account's key is given ('%s'), so it is not certmesh's to change; "
                       "leave --account-key out to change the key that is in storage",
                       ai->account_key_file);
    /* What is damaged of the account is mended on the way, if it can be. */
    cm_status rc = acme_identity_get(ai, op, false, &old, err);
    if (rc == CM_OK)
        rc = acme_account_choose(ai, op, &paths, err);
    lo.log = ai->host.log;
    if (rc == CM_OK)
        rc = cm_lease_acquire(ai->host.storage, op, paths.lock, &lo, &lease, err);
    if (rc == CM_OK) {
        struct cm_op held = *op;
        held.cancel = cm_lease_cancel(lease);
        rc = under_lock(ai, &held, &paths, lease, type, ret, err);
    }
    cm_lease_release(lease);
    if (rc == CM_OK)
        acme_identity_drop(ai, old);
    acme_identity_unref(old);
    return rc;
}

/* ------------------------------------------------------------------- peers */

/* The stored account, after the change of key that somebody is making or was interrupted in, if
 * there is one. */
static cm_status after_change(struct acme_issuer *ai, const struct cm_op *op,
                              const struct acme_account_paths *paths, struct acme_identity **ret,
                              struct cm_err *err)
{
    struct acme_identity *id = NULL, *fresh = NULL;
    struct cm_lease *lease = NULL;
    struct cm_key *next = NULL;

    cm_status rc = cm_lease_acquire(ai->host.storage, op, paths->lock, NULL, &lease, err);
    if (rc != CM_OK)
        return rc;
    struct cm_op held = *op;
    held.cancel = cm_lease_cancel(lease);
    rc = acme_account_load(ai, &held, paths, &id, err);
    if (rc == CM_OK)
        rc = finish(ai, &held, paths, lease, id, &fresh, &next, err);
    cm_lease_release(lease);
    cm_key_unref(next);
    if (rc != CM_OK || fresh != NULL) {
        acme_identity_unref(id);
        id = fresh;
    }
    if (rc == CM_OK)
        *ret = id;
    return rc;
}

cm_status acme_identity_newer(struct acme_issuer *ai, const struct cm_op *op,
                              const struct acme_identity *stale, struct acme_identity **ret,
                              struct cm_err *err)
{
    struct acme_account_paths paths;
    struct acme_identity *id = NULL;
    struct cm_key_info info;

    cm_status rc = acme_account_choose(ai, op, &paths, err);
    if (rc == CM_OK)
        rc = acme_account_load(ai, op, &paths, &id, err);
    if (rc == CM_OK && is_same_key(id->key, stale->key) && strcmp(id->url, stale->url) == 0 &&
        cm_storage_stat(ai->host.storage, op, paths.rollover, &info, NULL) == CM_OK) {
        acme_identity_unref(id);
        id = NULL;
        rc = after_change(ai, op, &paths, &id, err);
    }
    if (rc == CM_OK && is_same_key(id->key, stale->key) && strcmp(id->url, stale->url) == 0)
        rc = cm_fail(err, CM_E_NOTFOUND, "account %s is stored as we know it", stale->url);
    if (rc != CM_OK) {
        acme_identity_unref(id);
        return rc;
    }
    acme_identity_drop(ai, stale);
    cm_logf(&ai->host.log, CM_LOG_INFO, "account_reread", NULL, 0,
            "the key or account at %s was changed by another process; going on with %s",
            ai->directory_url, id->url);
    *ret = id;
    return CM_OK;
}
