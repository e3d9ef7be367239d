/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <certmesh/cm_account.h>
#include <stdio.h>
#include <string.h>

/* cm_account(): what people ask of the ACME account by hand. */

static struct acme_issuer *acme_of(struct cm_config *cfg)
{
    struct cm_issuer *is = NULL;
    for (size_t i = 0; (is = cm_config_issuer(cfg, i)) != NULL; i++)
        if (is->ops == &acme_issuer_ops)
            return CM_CONTAINER_OF(is, struct acme_issuer, base);
    return NULL;
}

static void copy_out(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from == NULL ? "" : from);
}

static cm_status fill(struct acme_issuer *ai, const struct acme_identity *id,
                      const struct cm_acme_account *acc, struct cm_account_info *ret,
                      struct cm_err *err)
{
    struct cm_account_info info = { .size = sizeof info };
    size_t used = 0;

    copy_out(info.url, sizeof info.url, id->url);
    copy_out(info.ca, sizeof info.ca, ai->directory_url);
    copy_out(info.status, sizeof info.status, cm_acme_status_text(acc->status));
    for (size_t i = 0; acc->contact != NULL && acc->contact[i] != NULL; i++) {
        int n = snprintf(info.contact + used, sizeof info.contact - used, "%s%s",
                         i == 0 ? "" : ", ", acc->contact[i]);
        if (n < 0 || (size_t)n >= sizeof info.contact - used)
            break;
        used += (size_t)n;
    }
    cm_status rc = cm_key_thumbprint(id->key, info.thumbprint, err);
    if (rc != CM_OK)
        return rc;
    /* A caller of another version of the struct gets as much as it knows. */
    size_t size = ret->size == 0 || ret->size > sizeof info ? sizeof info : ret->size;
    info.size = (uint32_t)size;
    memcpy(ret, &info, size);
    return CM_OK;
}

static cm_status act(struct acme_issuer *ai, const struct cm_op *op, enum cm_account_action what,
                     struct acme_identity *id, const struct acme_account_paths *old,
                     struct cm_acme_account *acc, struct cm_err *err)
{
    const struct cm_acme_signer who = { id->key, id->url };
    char contact[300];
    const char *contacts[1] = { contact };
    cm_status rc = CM_OK;

    switch (what) {
    case CM_ACCOUNT_SHOW:
    case CM_ACCOUNT_REGISTER:
        return cm_acme_account_get(ai->client, op, &who, acc, err);
    case CM_ACCOUNT_UPDATE:
        if (ai->email != NULL)
            (void)snprintf(contact, sizeof contact, "mailto:%s", ai->email);
        rc = cm_acme_account_update(ai->client, op, &who, contacts, ai->email == NULL ? 0 : 1, acc,
                                    err);
        break;
    case CM_ACCOUNT_DEACTIVATE:
        /* Read before the end, for the record; the CA answers nothing afterwards. */
        rc = cm_acme_account_get(ai->client, op, &who, acc, err);
        if (rc == CM_OK)
            rc = cm_acme_account_deactivate(ai->client, op, &who, err);
        if (rc == CM_OK)
            acc->status = CM_ACME_DEACTIVATED;
        break;
    }
    if (rc == CM_OK)
        rc = acme_identity_save(ai, op, id, acc, old, err);
    return rc;
}

/* Once more with what storage has, when the CA refuses a key that a peer has changed since. */
static cm_status act_twice(struct acme_issuer *ai, const struct cm_op *op,
                           enum cm_account_action what, struct acme_identity **id,
                           const struct acme_account_paths *old, struct cm_acme_account *acc,
                           struct cm_err *err)
{
    struct acme_identity *newer = NULL;
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = act(ai, op, what, *id, old, acc, &why);
    if (acme_account_is_doubted(rc, &why) &&
        acme_identity_newer(ai, op, *id, &newer, NULL) == CM_OK) {
        acme_identity_unref(*id);
        *id = newer;
        cm_acme_account_free(acc);
        rc = act(ai, op, what, *id, old, acc, &why);
    }
    if (rc != CM_OK && err != NULL)
        *err = why;
    return rc;
}

/* cfg's e-mail names the account it uses. To give an account another address it cannot be found by
 * that: then the newest one of the CA is meant. */
cm_status cm_account(struct cm_config *cfg, const struct cm_op *op, enum cm_account_action what,
                     struct cm_account_info *ret, struct cm_err *err)
{
    struct acme_identity *id = NULL;
    struct cm_acme_account acc = { 0 };

    if (cfg == NULL || ret == NULL || (unsigned)what > CM_ACCOUNT_DEACTIVATE)
        return cm_fail(err, CM_E_INVAL, "cm_account: no config, no result or unknown action");
    struct acme_issuer *ai = acme_of(cfg);
    if (ai == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "this config has no ACME CA, so there is no account");

    struct cm_op within = cm_op_within(op, ai->obtain_timeout_ns);
    cm_status rc = acme_identity_get(ai, &within, what == CM_ACCOUNT_REGISTER, &id, err);
    struct acme_account_paths old;
    bool moved = rc == CM_E_NOTFOUND && what == CM_ACCOUNT_UPDATE;
    if (moved)
        rc = acme_identity_newest(ai, &within, &old, &id, err);
    if (rc == CM_OK)
        rc = act_twice(ai, &within, what, &id, moved ? &old : NULL, &acc, err);
    if (rc == CM_OK)
        rc = fill(ai, id, &acc, ret, err);
    cm_acme_account_free(&acc);
    acme_identity_unref(id);
    return rc;
}

cm_status cm_account_rollover(struct cm_config *cfg, const struct cm_op *op,
                              const struct cm_rollover_options *opts, struct cm_account_info *ret,
                              struct cm_err *err)
{
    struct acme_identity *id = NULL;
    enum cm_key_type type = opts == NULL ? CM_KEY_DEFAULT : opts->key_type;

    if (cfg == NULL || (unsigned)type >= CM_KEY_RSA8192)
        return cm_fail(err, CM_E_INVAL, "cm_account_rollover: no config or not a key type to make");
    struct acme_issuer *ai = acme_of(cfg);
    if (ai == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "this config has no ACME CA, so there is no account");
    struct cm_op within = cm_op_within(op, ai->obtain_timeout_ns);
    cm_status rc = acme_rollover(ai, &within,
                                 type == CM_KEY_DEFAULT ? CM_PK_P256 : (enum cm_pk)type, &id, err);
    if (rc != CM_OK)
        return rc;
    /* The change is made; that the CA tells no more of the account now does not undo it. */
    if (ret != NULL) {
        const struct cm_acme_signer who = { id->key, id->url };
        struct cm_acme_account acc = { .status = CM_ACME_VALID };
        (void)!cm_acme_account_get(ai->client, &within, &who, &acc, NULL);
        rc = fill(ai, id, &acc, ret, err);
        cm_acme_account_free(&acc);
    }
    acme_identity_unref(id);
    return rc;
}
