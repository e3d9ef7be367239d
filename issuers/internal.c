/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>
#include <string.h>

/* The local CA's issuer: signs with what internal_ca.c keeps in storage. */

#define DEFAULT_LIFETIME_S (12 * 3600)
#define DAY_S              INT64_C(86400)

struct internal_issuer {
    struct cm_issuer base;
    struct cm_issuer_host host;
    int64_t lifetime_s;
    bool attached;
    pthread_mutex_t lock; /* guards authority; never held over I/O */
    struct local_ca *authority;
};

static struct internal_issuer *self(struct cm_issuer *is)
{
    return CM_CONTAINER_OF(is, struct internal_issuer, base);
}

static cm_status get_authority(struct internal_issuer *ii, const struct cm_op *op,
                               struct local_ca **ret, struct cm_err *err)
{
    struct local_ca *a = NULL;

    if (!ii->attached)
        return cm_fail(err, CM_E_STATE, "the local CA belongs to no config yet");
    cm_mutex_lock(&ii->lock);
    if (ii->authority != NULL &&
        local_ca_is_fresh(ii->authority, ii->lifetime_s, cm_env_wall_s(ii->host.env))) {
        a = ii->authority;
        (void)atomic_fetch_add(&a->refs, 1);
    }
    cm_mutex_unlock(&ii->lock);
    if (a != NULL) {
        *ret = a;
        return CM_OK;
    }

    cm_status rc = local_ca_fetch(&ii->host, op, ii->lifetime_s, &a, err);
    if (rc != CM_OK)
        return rc;
    (void)atomic_fetch_add(&a->refs, 1);
    cm_mutex_lock(&ii->lock);
    struct local_ca *old = ii->authority;
    ii->authority = a;
    cm_mutex_unlock(&ii->lock);
    local_ca_unref(old);
    *ret = a;
    return CM_OK;
}

/* ---------------------------------------------------------------------- ops */

static const char *internal_key(struct cm_issuer *is)
{
    (void)is;
    return "certmesh-local";
}

static cm_status internal_attach(struct cm_issuer *is, const struct cm_issuer_host *host,
                                 struct cm_err *err)
{
    struct internal_issuer *ii = self(is);
    if (ii->attached)
        return cm_fail(err, CM_E_STATE, "the local CA's issuer already belongs to a config");
    ii->host = *host;
    ii->attached = true;
    return CM_OK;
}

static cm_status internal_issue(struct cm_issuer *is, const struct cm_op *op,
                                const struct cm_issue_request *req, struct cm_issued *ret,
                                struct cm_err *err)
{
    struct internal_issuer *ii = self(is);
    struct local_ca *a = NULL;
    CM_AUTO_BUF struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    if (req->progress != NULL)
        req->progress(req->user, CM_PHASE_FINALIZING);
    cm_status rc = get_authority(ii, op, &a, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_ca_sign_csr(a->inter_key, cm_buf_span(&a->inter_der), req->csr_der, req->names,
                        req->n_names, cm_env_wall_s(ii->host.env), ii->lifetime_s, &leaf, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&leaf), &pem, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&pem, a->inter_pem.data, a->inter_pem.len, err);
    local_ca_unref(a);
    if (rc != CM_OK) {
        cm_buf_free(&pem);
        return rc;
    }
    ret->chain_pem = pem;
    return CM_OK;
}

static cm_status internal_revoke(struct cm_issuer *is, const struct cm_op *op,
                                 struct cm_span leaf_der, int reason, struct cm_err *err)
{
    (void)is;
    (void)op;
    (void)leaf_der;
    (void)reason;
    cm_status rc = cm_fail(err, CM_E_UNSUPPORTED,
                           "the local CA keeps no revocation list; its certificates are "
                           "short-lived: remove the files and they are gone in hours");
    if (err != NULL)
        err->no_retry = true;
    return rc;
}

static void internal_destroy(struct cm_issuer *is)
{
    struct internal_issuer *ii = self(is);
    local_ca_unref(ii->authority);
    (void)pthread_mutex_destroy(&ii->lock);
    free(ii);
}

static const struct cm_issuer_ops internal_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_issuer_ops),
    .name = "internal",
    .key = internal_key,
    .attach = internal_attach,
    .issue = internal_issue,
    .revoke = internal_revoke,
    .destroy = internal_destroy,
};

cm_status cm_internal_issuer_new(const struct cm_internal_options *opts, struct cm_issuer **ret,
                                 struct cm_err *err)
{
    int64_t lifetime_s = opts == NULL ? 0 : opts->lifetime_s;
    if (ret == NULL || lifetime_s < 0 || lifetime_s > LOCAL_CA_INTER_DAYS * DAY_S / 2)
        return cm_fail(err, CM_E_INVAL, "lifetime of local certificates: 0 to %d days",
                       LOCAL_CA_INTER_DAYS / 2);
    struct internal_issuer *ii = cm_calloc(1, sizeof *ii);
    if (ii == NULL)
        return cm_fail_nomem(err);
    ii->base.ops = &internal_ops;
    ii->lifetime_s = lifetime_s == 0 ? DEFAULT_LIFETIME_S : lifetime_s;
    cm_mutex_init(&ii->lock);
    *ret = &ii->base;
    return CM_OK;
}

cm_status cm_internal_root(struct cm_config *cfg, const struct cm_op *op, struct cm_buf *ret_pem,
                           struct cm_err *err)
{
    struct cm_issuer *is = NULL;
    struct local_ca *a = NULL;

    if (cfg == NULL || ret_pem == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_internal_root: no config or buffer");
    for (size_t i = 0; (is = cm_config_issuer(cfg, i)) != NULL; i++)
        if (is->ops == &internal_ops)
            break;
    if (is == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "this config has no local CA (--internal)");
    cm_status rc = get_authority(self(is), op, &a, err);
    if (rc != CM_OK)
        return rc;
    if (a->root_pem.len > 0)
        rc = cm_buf_append(ret_pem, a->root_pem.data, a->root_pem.len, err);
    else
        rc = local_ca_no_root(err);
    local_ca_unref(a);
    return rc;
}
