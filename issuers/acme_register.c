/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>

/* An account that this storage does not have yet: a new one, or that of a key which was given.
 * Under the account's lock. */

static cm_status key_from_file(struct acme_issuer *ai, struct cm_key **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    cm_status rc = cm_read_file(ai->account_key_file, &pem, err);
    if (rc == CM_OK)
        rc = cm_key_from_pem(cm_buf_span(&pem), ret, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "account key '%s'", ai->account_key_file);
}

/* The key to register with: configured, left behind by a crash, or fresh and stored aside. */
static cm_status registration_key(struct acme_issuer *ai, const struct cm_op *op,
                                  const struct acme_account_paths *paths, struct cm_lease *lease,
                                  struct cm_key **ret, struct cm_err *err)
{
    if (ai->account_key_file != NULL)
        return key_from_file(ai, ret, err);
    cm_status rc = acme_account_key(ai, op, paths->pending, ret, err);
    if (rc == CM_OK || (rc != CM_E_NOTFOUND && !cm_status_is_damage(rc)))
        return rc;

    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *key = NULL;
    rc = cm_key_generate(ai->account_key_type == CM_PK_DEFAULT ? CM_PK_P256 : ai->account_key_type,
                         &key, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, &pem, err);
    if (rc == CM_OK) {
        const struct cm_commit_item item = { paths->pending, cm_buf_span(&pem), false };
        rc = cm_lease_commit(lease, op, &item, 1, err);
    }
    if (rc != CM_OK) {
        cm_key_unref(key);
        return rc;
    }
    *ret = key;
    return CM_OK;
}

static cm_status may_register(struct acme_issuer *ai, const struct cm_acme_directory *dir,
                              struct cm_err *err)
{
    if (!ai->agreed) {
        cm_status rc = cm_fail(
            err, CM_E_POLICY,
            "no account at %s yet, and its terms of service are not agreed to%s%s: read them, "
            "then set 'agreed' (--agree)",
            ai->directory_url, dir->terms_of_service == NULL ? "" : " ",
            dir->terms_of_service == NULL ? "" : dir->terms_of_service);
        if (err != NULL)
            err->no_retry = true;
        return rc;
    }
    if (dir->eab_required && ai->eab_kid == NULL) {
        cm_status rc = cm_fail(err, CM_E_POLICY,
                               "%s wants an external account binding: set its key id and MAC key "
                               "(--eab-kid, --eab-key-file)",
                               ai->directory_url);
        if (err != NULL)
            err->no_retry = true;
        return rc;
    }
    return CM_OK;
}

/* A key that was given may have an account already, made by another tool: then nothing is agreed to
 * or bound, it is just used. CM_E_NOTFOUND if not. */
static cm_status registered_elsewhere(struct acme_issuer *ai, const struct cm_op *op,
                                      const struct acme_account_paths *paths,
                                      struct cm_lease *lease, struct acme_identity **ret,
                                      struct cm_err *err)
{
    const struct cm_acme_new_account req = { .only_existing = true };
    struct cm_acme_account acc = { 0 };
    struct cm_err why = CM_ERR_INIT;
    struct cm_key *key = NULL;

    if (ai->account_key_file == NULL)
        return CM_E_NOTFOUND;
    cm_status rc = key_from_file(ai, &key, err);
    if (rc != CM_OK) /* not there: registration tells */
        return rc;
    rc = cm_acme_account_new(ai->client, op, key, &req, &acc, NULL, &why);
    if (rc == CM_OK && acc.status != CM_ACME_VALID)
        rc = cm_fail(err, CM_E_ACME, "account %s of key '%s' is %s; use another key", acc.url,
                     ai->account_key_file, cm_acme_status_text(acc.status));
    else if (rc == CM_E_ACME && why.http_status < 500)
        rc = CM_E_NOTFOUND;
    else if (rc != CM_OK && err != NULL)
        *err = why;
    if (rc == CM_OK)
        rc = acme_account_write(op, paths, lease, key, &acc, err);
    if (rc == CM_OK)
        rc = acme_identity_new(key, &acc, ret, err);
    if (rc == CM_OK)
        cm_logf(&ai->host.log, CM_LOG_INFO, "account_found", NULL, 0, "found account %s of '%s'",
                acc.url, ai->account_key_file);
    cm_acme_account_free(&acc);
    cm_key_unref(key);
    return rc;
}

cm_status acme_account_register(struct acme_issuer *ai, const struct cm_op *op,
                                const struct acme_account_paths *paths, struct cm_lease *lease,
                                struct acme_identity **ret, struct cm_err *err)
{
    const struct cm_acme_directory *dir = NULL;
    struct cm_acme_account acc = { 0 };
    struct cm_key *key = NULL;
    char contact[300];
    const char *contacts[1] = { contact };
    bool created = false;

    cm_status rc = registered_elsewhere(ai, op, paths, lease, ret, err);
    if (rc != CM_E_NOTFOUND)
        return rc;
    rc = acme_ca_binding(ai->directory_url, ai->eab_kid != NULL, err);
    if (rc == CM_OK)
        rc = cm_acme_directory(ai->client, op, &dir, err);
    if (rc == CM_OK)
        rc = may_register(ai, dir, err);
    if (rc == CM_OK)
        rc = registration_key(ai, op, paths, lease, &key, err);
    if (rc != CM_OK)
        return rc;

    struct cm_acme_new_account req = { .tos_agreed = true };
    if (ai->email != NULL) {
        (void)snprintf(contact, sizeof contact, "mailto:%s", ai->email);
        req.contact = contacts;
        req.n_contact = 1;
    }
    if (ai->eab_kid != NULL) {
        req.eab_kid = ai->eab_kid;
        req.eab_key = cm_buf_span(&ai->eab_key);
        req.eab_alg = ai->eab_alg;
    }
    rc = cm_acme_account_new(ai->client, op, key, &req, &acc, &created, err);
    if (rc == CM_OK && acc.status != CM_ACME_VALID)
        rc = cm_fail(err, CM_E_ACME, "account %s at %s is %s; use another key or e-mail", acc.url,
                     ai->directory_url, cm_acme_status_text(acc.status));
    if (rc == CM_OK)
        rc = acme_account_write(op, paths, lease, key, &acc, err);
    if (rc == CM_OK)
        rc = acme_identity_new(key, &acc, ret, err);
    if (rc == CM_OK) {
        const struct cm_log_field f[] = { { "ca", ai->directory_url }, { "account", acc.url } };
        cm_logf(&ai->host.log, CM_LOG_INFO, created ? "account_created" : "account_found", f,
                CM_ARRAY_LEN(f), "%s account %s", created ? "created" : "found", acc.url);
    }
    cm_acme_account_free(&acc);
    cm_key_unref(key);
    return rc;
}
