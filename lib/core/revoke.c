/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* Revocation: at the CA first. What was not revoked there must not vanish here, or nobody could
 * revoke it any more. */

/* The staple that a peer keeps says "good" of a certificate that no longer is. Best effort: nobody
 * serves it without the certificate, and cleaners find it once it is out of date. */
static void drop_staple(struct cm_config *cfg, const struct cm_op *op, const struct cm_cert *cert)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    char key[CM_KEY_BUF];
    struct cm_err err = CM_ERR_INIT;

    cm_status rc = cm_cert_chain_pem(cert, &pem, &err);
    if (rc == CM_OK)
        rc = cm_path_staple(cm_cert_name(cert, 0), cm_buf_span(&pem), key, &err);
    if (rc == CM_OK)
        rc = cm_storage_remove(cfg->storage, op, key, &err);
    if (rc != CM_OK)
        cm_logf(&cfg->log, CM_LOG_WARN, "staple_left", NULL, 0, "remove the staple of '%s': %s",
                cm_cert_name(cert, 0), err.msg);
}

static cm_status revoke_leased(struct cm_config *cfg, const struct cm_op *op,
                               struct cm_lease *lease, const struct cm_subject *s,
                               const struct cm_cert *seen, int reason, bool keep,
                               struct cm_err *err)
{
    struct cm_cert *cert = NULL;
    char base[CM_KEY_BUF];

    cm_status rc = cm_store_load(cfg, op, s, CM_LOAD_NEWEST, &cert, err);
    if (rc != CM_OK)
        return rc;
    const char *issuer_key = cm_cert_issuer_key(cert);
    if (!cm_cert_same_leaf(cert, seen))
        rc = cm_fail(err, CM_E_STATE,
                     "the certificate of '%s' was replaced meanwhile (serial %s is there now): "
                     "nothing was revoked; try again if you mean the new one",
                     s->ident, cm_cert_serial(cert));
    if (rc == CM_OK)
        rc = cm_issuer_revoke(cm_config_find_issuer(cfg, issuer_key), op, cm_cert_der(cert, 0),
                              reason, err);
    if (rc == CM_OK && !keep) {
        rc = cm_path_cert(issuer_key, s->dir, NULL, base, err);
        if (rc == CM_OK)
            rc = cm_store_remove(op, lease, base, s->dir, err);
        drop_staple(cfg, op, cert);
        cm_cache_drop_leaf(cfg->cache, cert);
    }
    cm_cert_unref(cert);
    return rc;
}

cm_status cm_revoke(struct cm_config *cfg, const struct cm_op *op, const char *name, int reason,
                    bool keep, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_subject *s = NULL;
    struct cm_cert *seen = NULL;
    struct cm_lease *lease = NULL;
    struct cm_op own = { NULL, 0, NULL };

    if (cfg == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration");
    if (op != NULL)
        own = *op;
    if (own.env == NULL)
        own.env = cfg->env;
    cm_status rc = cm_store_resolve(cfg, &own, name, &s, &seen, err);
    if (rc == CM_OK)
        rc = cm_lock_issue(s->ident, lock, err);
    lo.log = cfg->log;
    if (rc == CM_OK)
        rc = cm_lease_acquire(cfg->storage, &own, lock, &lo, &lease, err);
    if (rc == CM_OK) {
        own.cancel = cm_lease_cancel(lease);
        rc = revoke_leased(cfg, &own, lease, s, seen, reason, keep, err);
    }
    cm_lease_release(lease);
    cm_subject_free(s);
    cm_cert_unref(seen);
    return rc;
}
