/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>
#include <string.h>

/* The local CA: a root and an intermediate of our own, for development and for machines that no
 * public CA reaches. Both lie in storage under certmesh/ca/local/, never under a peer's pki/: one
 * CA for the whole fleet, made once, under a lock, all four files in one commit. */

#define ROOT_CRT  "certmesh/ca/local/root.crt"
#define ROOT_KEY  "certmesh/ca/local/root.key"
#define INTER_CRT "certmesh/ca/local/intermediate.crt"
#define INTER_KEY "certmesh/ca/local/intermediate.key"
#define CA_LOCK   "certmesh_local_ca"

#define ROOT_DAYS          3650
#define INTER_DAYS         90
#define DAY_S              INT64_C(86400)
#define DEFAULT_LIFETIME_S (12 * 3600)
#define PEM_MAX            (16u * 1024)

/* What signs: loaded together, replaced together. Immutable and reference counted. */
struct authority {
    atomic_int refs;
    struct cm_key *inter_key;
    struct cm_buf root_pem;
    struct cm_buf inter_pem;
    struct cm_buf inter_der;
    int64_t inter_not_after_s;
};

struct internal_issuer {
    struct cm_issuer base;
    struct cm_issuer_host host;
    int64_t lifetime_s;
    bool attached;
    pthread_mutex_t lock; /* guards authority; never held over I/O */
    struct authority *authority;
};

static struct internal_issuer *self(struct cm_issuer *is)
{
    return CM_CONTAINER_OF(is, struct internal_issuer, base);
}

static void authority_unref(struct authority *a)
{
    if (a == NULL || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    cm_key_unref(a->inter_key);
    cm_buf_free(&a->root_pem);
    cm_buf_free(&a->inter_pem);
    cm_buf_free(&a->inter_der);
    free(a);
}

static cm_status one_cert(struct cm_span pem, struct cm_buf *ret_der, struct cm_err *err)
{
    struct cm_chain chain = { 0 };
    cm_status rc = cm_chain_from_pem(pem, &chain, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_der, chain.der[0].data, chain.der[0].len, err);
    cm_chain_free(&chain);
    return rc;
}

static cm_status new_authority(struct cm_span root_pem, struct cm_span inter_pem,
                               struct cm_span inter_key_pem, struct authority **ret,
                               struct cm_err *err)
{
    struct authority *a = cm_calloc(1, sizeof *a);
    struct cm_leaf *leaf = NULL;
    bool match = false;

    if (a == NULL)
        return cm_fail_nomem(err);
    atomic_init(&a->refs, 1);
    a->root_pem.max = a->inter_pem.max = a->inter_der.max = PEM_MAX;
    cm_status rc = cm_buf_append(&a->root_pem, root_pem.data, root_pem.len, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&a->inter_pem, inter_pem.data, inter_pem.len, err);
    if (rc == CM_OK)
        rc = one_cert(inter_pem, &a->inter_der, err);
    if (rc == CM_OK)
        rc = cm_leaf_parse(cm_buf_span(&a->inter_der), &leaf, err);
    if (rc == CM_OK)
        rc = cm_key_from_pem(inter_key_pem, &a->inter_key, err);
    if (rc == CM_OK)
        rc = cm_key_matches_cert(a->inter_key, cm_buf_span(&a->inter_der), &match, err);
    if (rc == CM_OK && !match)
        rc = cm_fail(err, CM_E_CERT, "%s does not fit %s", INTER_KEY, INTER_CRT);
    if (rc == CM_OK)
        a->inter_not_after_s = leaf->not_after_s;
    cm_leaf_free(leaf);
    if (rc != CM_OK) {
        authority_unref(a);
        return rc;
    }
    *ret = a;
    return CM_OK;
}

/* Good enough to sign a leaf of full lifetime, with a fifth of its own life to spare. */
static bool is_fresh(const struct internal_issuer *ii, const struct authority *a, int64_t now_s)
{
    int64_t spare = INTER_DAYS * DAY_S / 5;
    return a->inter_not_after_s - now_s > (ii->lifetime_s > spare ? ii->lifetime_s : spare);
}

static cm_status load_authority(struct internal_issuer *ii, const struct cm_op *op,
                                struct authority **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf root = CM_BUF_INIT(PEM_MAX);
    CM_AUTO_BUF struct cm_buf inter = CM_BUF_INIT(PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_storage *st = ii->host.storage;

    cm_status rc = cm_storage_load(st, op, ROOT_CRT, &root, err);
    if (rc == CM_OK)
        rc = cm_storage_load(st, op, INTER_CRT, &inter, err);
    if (rc == CM_OK)
        rc = cm_storage_load(st, op, INTER_KEY, &key, err);
    if (rc == CM_OK)
        rc = new_authority(cm_buf_span(&root), cm_buf_span(&inter), cm_buf_span(&key), ret, err);
    return rc == CM_OK || rc == CM_E_NOTFOUND ? rc : cm_wrap(err, rc, "local CA");
}

/* ------------------------------------------------------------------- making */

struct root {
    struct cm_key *key;
    struct cm_buf der;
    struct cm_buf pem;
    struct cm_buf key_pem;
    bool is_new;
};

static cm_status load_root(struct internal_issuer *ii, const struct cm_op *op, struct root *root,
                           struct cm_err *err)
{
    cm_status rc = cm_storage_load(ii->host.storage, op, ROOT_CRT, &root->pem, err);
    if (rc == CM_OK)
        rc = cm_storage_load(ii->host.storage, op, ROOT_KEY, &root->key_pem, err);
    if (rc == CM_OK)
        rc = one_cert(cm_buf_span(&root->pem), &root->der, err);
    if (rc == CM_OK)
        rc = cm_key_from_pem(cm_buf_span(&root->key_pem), &root->key, err);
    return rc;
}

static cm_status make_root(struct internal_issuer *ii, int64_t now_s, struct root *root,
                           struct cm_err *err)
{
    char cn[64];
    char tag[9];
    cm_buf_reset(&root->pem);
    cm_buf_reset(&root->key_pem);
    cm_status rc = cm_random_hex(ii->host.env, 4, tag, err);
    if (rc != CM_OK)
        return rc;
    (void)snprintf(cn, sizeof cn, "certmesh local root %s", tag);
    rc = cm_ca_make_root(cn, now_s, ROOT_DAYS, &root->key, &root->der, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&root->der), &root->pem, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(root->key, &root->key_pem, err);
    root->is_new = rc == CM_OK;
    return rc;
}

/* A new intermediate, and the root if there is none: one commit, so that no reader ever sees a key
 * without its certificate. */
static cm_status make_authority(struct internal_issuer *ii, const struct cm_op *op,
                                struct cm_lease *lease, struct authority **ret, struct cm_err *err)
{
    struct root root = { NULL, CM_BUF_INIT(PEM_MAX), CM_BUF_INIT(PEM_MAX),
                         CM_BUF_SECRET(CM_KEY_PEM_MAX), false };
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(PEM_MAX);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(PEM_MAX);
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *key = NULL;
    int64_t now_s = cm_env_wall_s(ii->host.env);

    cm_status rc = load_root(ii, op, &root, err);
    if (rc == CM_E_NOTFOUND)
        rc = make_root(ii, now_s, &root, err);
    if (rc == CM_OK)
        rc = cm_ca_make_intermediate("certmesh local intermediate", root.key,
                                     cm_buf_span(&root.der), now_s, INTER_DAYS, &key, &der, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&der), &pem, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, &key_pem, err);
    if (rc == CM_OK) {
        const struct cm_commit_item items[] = {
            { INTER_KEY, cm_buf_span(&key_pem), false },
            { INTER_CRT, cm_buf_span(&pem), false },
            { ROOT_KEY, cm_buf_span(&root.key_pem), false },
            { ROOT_CRT, cm_buf_span(&root.pem), false },
        };
        rc = cm_lease_commit(lease, op, items, root.is_new ? 4 : 2, err);
    }
    if (rc == CM_OK)
        rc = new_authority(cm_buf_span(&root.pem), cm_buf_span(&pem), cm_buf_span(&key_pem), ret,
                           err);
    if (rc == CM_OK)
        cm_logf(&ii->host.log, CM_LOG_INFO, "local_ca_made", NULL, 0, "made the local CA's %s",
                root.is_new ? "root and intermediate" : "next intermediate");
    cm_key_unref(key);
    cm_key_unref(root.key);
    cm_buf_free(&root.der);
    cm_buf_free(&root.pem);
    cm_buf_free(&root.key_pem);
    return rc;
}

static cm_status fetch_authority(struct internal_issuer *ii, const struct cm_op *op,
                                 struct authority **ret, struct cm_err *err)
{
    struct authority *a = NULL;
    struct cm_lease *lease = NULL;
    int64_t now_s = cm_env_wall_s(ii->host.env);

    cm_status rc = load_authority(ii, op, &a, err);
    if (rc == CM_OK && is_fresh(ii, a, now_s)) {
        *ret = a;
        return CM_OK;
    }
    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    authority_unref(a);
    a = NULL;

    rc = cm_lease_acquire(ii->host.storage, op, CA_LOCK, NULL, &lease, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "local CA");
    rc = load_authority(ii, op, &a, err);
    if (rc == CM_OK && !is_fresh(ii, a, now_s)) {
        authority_unref(a);
        a = NULL;
        rc = CM_E_NOTFOUND;
    }
    if (rc == CM_E_NOTFOUND)
        rc = make_authority(ii, op, lease, &a, err);
    cm_lease_release(lease);
    if (rc == CM_OK)
        *ret = a;
    return rc;
}

static cm_status get_authority(struct internal_issuer *ii, const struct cm_op *op,
                               struct authority **ret, struct cm_err *err)
{
    struct authority *a = NULL;

    if (!ii->attached)
        return cm_fail(err, CM_E_STATE, "the local CA belongs to no config yet");
    cm_mutex_lock(&ii->lock);
    if (ii->authority != NULL && is_fresh(ii, ii->authority, cm_env_wall_s(ii->host.env))) {
        a = ii->authority;
        (void)atomic_fetch_add(&a->refs, 1);
    }
    cm_mutex_unlock(&ii->lock);
    if (a != NULL) {
        *ret = a;
        return CM_OK;
    }

    cm_status rc = fetch_authority(ii, op, &a, err);
    if (rc != CM_OK)
        return rc;
    (void)atomic_fetch_add(&a->refs, 1);
    cm_mutex_lock(&ii->lock);
    struct authority *old = ii->authority;
    ii->authority = a;
    cm_mutex_unlock(&ii->lock);
    authority_unref(old);
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
    struct authority *a = NULL;
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
    authority_unref(a);
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
    authority_unref(ii->authority);
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
    if (ret == NULL || lifetime_s < 0 || lifetime_s > INTER_DAYS * DAY_S / 2)
        return cm_fail(err, CM_E_INVAL, "lifetime of local certificates: 0 to %d days",
                       INTER_DAYS / 2);
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
    struct authority *a = NULL;

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
    rc = cm_buf_append(ret_pem, a->root_pem.data, a->root_pem.len, err);
    authority_unref(a);
    return rc;
}
