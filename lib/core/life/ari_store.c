/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

/* Renewal information in the metadata beside a certificate: CertMagic's place and form, so nodes of
 * either make ask the CA once between them. The file belongs to the certificate, so it is read,
 * changed and written under the lock of whoever would replace that. */

cm_status cm_ari_is_stored(struct cm_config *cfg, const struct cm_op *op,
                           const struct cm_subject *s, const struct cm_cert *cert, bool *ret,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_PEM_FILE_MAX);
    struct cm_chain chain = { .n = 0 };
    struct cm_span der = cm_cert_der(cert, 0);
    char key[CM_KEY_BUF];

    cm_status rc = cm_path_cert(cm_cert_issuer_key(cert), s->dir, ".crt", key, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cfg->storage, op, key, &pem, err);
    if (rc == CM_OK)
        rc = cm_chain_from_pem(cm_buf_span(&pem), &chain, err);
    if (rc != CM_OK)
        return rc;
    *ret = chain.der[0].len == der.len && memcmp(chain.der[0].data, der.data, der.len) == 0;
    cm_chain_free(&chain);
    return CM_OK;
}

void cm_ari_stored(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                   const struct cm_cert *cert, struct cm_ari *ret)
{
    struct cm_meta m;

    memset(ret, 0, sizeof *ret);
    if (cm_meta_load(cfg, op, cm_cert_issuer_key(cert), s->dir, &m, NULL) != CM_OK)
        return;
    if (!cm_ari_from_meta(&m, cert, ret))
        memset(ret, 0, sizeof *ret);
    cm_meta_free(&m);
}

static cm_status commit(struct cm_lease *lease, const struct cm_op *op, const char *issuer_key,
                        const char *dir, const struct cm_meta *m, const struct cm_meta_ari *ari,
                        struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf data = CM_BUF_INIT(CM_META_MAX);
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(2 * CM_META_MAX);
    struct cm_commit_item item = { .remove = false };
    char key[CM_KEY_BUF];

    cm_status rc = cm_meta_set_ari(cm_buf_span(&m->issuer_data), ari, &data, err);
    if (rc == CM_OK)
        rc =
            cm_meta_format((const char *const *)m->sans, m->n_sans, cm_buf_span(&data), &text, err);
    if (rc == CM_OK)
        rc = cm_path_cert(issuer_key, dir, ".json", key, err);
    if (rc != CM_OK)
        return rc;
    item.key = key;
    item.value = cm_buf_span(&text);
    return cm_lease_commit(lease, op, &item, 1, err);
}

static cm_status rewrite(struct cm_config *cfg, const struct cm_op *op, struct cm_lease *lease,
                         const struct cm_subject *s, const struct cm_cert *cert,
                         const struct cm_meta_ari *ari, struct cm_err *err)
{
    const char *issuer_key = cm_cert_issuer_key(cert);
    struct cm_meta m;
    bool current = false;

    cm_status rc = cm_ari_is_stored(cfg, op, s, cert, &current, err);
    if (rc != CM_OK || !current)
        return rc;
    rc = cm_meta_load(cfg, op, issuer_key, s->dir, &m, err);
    if (rc != CM_OK)
        return rc;
    rc = commit(lease, op, issuer_key, s->dir, &m, ari, err);
    cm_meta_free(&m);
    return rc;
}

/* Not to be had: storage of old, the metadata lost or somebody else's. Then this process alone
 * knows, as before there was a place for it. */
static bool has_no_place(cm_status rc)
{
    return rc == CM_E_NOTFOUND || rc == CM_E_PARSE || rc == CM_E_LIMIT;
}

cm_status cm_ari_store(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                       const struct cm_cert *cert, const char *id, const struct cm_ari *ari,
                       const char *explanation_url, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct cm_meta_ari m = { .present = true,
                             .window_start_ns = ari->start_s * CM_NS_PER_S,
                             .window_end_ns = ari->end_s * CM_NS_PER_S,
                             .retry_after_ns = ari->again_s * CM_NS_PER_S,
                             .selected_ns = ari->selected_s * CM_NS_PER_S };
    char name[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;

    memcpy(m.unique_id, id, strlen(id) + 1);
    memcpy(m.explanation_url, explanation_url, strlen(explanation_url) + 1);
    cm_status rc = cm_lock_issue(s->ident, name, err);
    lo.try_only = true;
    lo.log = cfg->log;
    if (rc == CM_OK)
        rc = cm_lease_acquire(cfg->storage, op, name, &lo, &lease, err);
    if (rc != CM_OK)
        return rc == CM_E_BUSY ? CM_OK : rc;
    struct cm_op held = *op;
    held.cancel = cm_lease_cancel(lease);
    rc = rewrite(cfg, &held, lease, s, cert, &m, err);
    cm_lease_release(lease);
    return has_no_place(rc) ? CM_OK : rc;
}
