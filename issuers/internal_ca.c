/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>
#include <string.h>

/* The local CA: a root and an intermediate of our own, for development and for machines that no
 * public CA reaches. Both lie in storage under certmesh/ca/local/, never under a peer's pki/: one
 * CA for the whole fleet, made once, under a lock, all four files in one commit.
 *
 * What is damaged is made anew where nobody has to trust anything new for it: an intermediate under
 * a root that is whole. A root is never replaced. As long as the intermediate is whole it goes on
 * signing without one; then people have to decide. */

#define CA_DIR    "certmesh/ca/local"
#define ROOT_CRT  CA_DIR "/root.crt"
#define ROOT_KEY  CA_DIR "/root.key"
#define INTER_CRT CA_DIR "/intermediate.crt"
#define INTER_KEY CA_DIR "/intermediate.key"
#define CA_LOCK   "certmesh_local_ca"

#define ROOT_DAYS 3650
#define DAY_S     INT64_C(86400)
#define PEM_MAX   (16u * 1024)

void local_ca_unref(struct local_ca *a)
{
    if (a == NULL || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    cm_key_unref(a->inter_key);
    cm_buf_free(&a->root_pem);
    cm_buf_free(&a->inter_pem);
    cm_buf_free(&a->inter_der);
    free(a);
}

bool local_ca_is_fresh(const struct local_ca *a, int64_t lifetime_s, int64_t now_s)
{
    int64_t spare = LOCAL_CA_INTER_DAYS * DAY_S / 5;

    return a->root_pem.len > 0 &&
           a->inter_not_after_s - now_s > (lifetime_s > spare ? lifetime_s : spare);
}

cm_status local_ca_no_root(struct cm_err *err)
{
    return cm_fail(err, CM_E_CERT,
                   "the local CA's root is damaged: restore '" ROOT_CRT "' and '" ROOT_KEY
                   "' from a backup, or remove '" CA_DIR "' to begin with a new CA, which every "
                   "client then has to be told to trust");
}

/* Is it the objects' fault, and not the storage's? */
/* ------------------------------------------------------------------ reading */

/* A CA certificate with its key, as stored. */
struct ca_pair {
    struct cm_key *key;
    struct cm_buf pem;
    struct cm_buf der;
    struct cm_buf key_pem;
    int64_t not_after_s;
    bool no_crt, no_key; /* not even there */
};

#define CA_PAIR_INIT                                                                               \
    {                                                                                              \
        NULL, CM_BUF_INIT(PEM_MAX), CM_BUF_INIT(PEM_MAX), CM_BUF_SECRET(CM_KEY_PEM_MAX), 0, false, \
            false                                                                                  \
    }

static void ca_pair_free(struct ca_pair *p)
{
    cm_key_unref(p->key);
    cm_buf_free(&p->pem);
    cm_buf_free(&p->der);
    cm_buf_free(&p->key_pem);
}

static cm_status one_ca_cert(struct cm_span pem, struct cm_buf *ret_der, int64_t *ret_not_after_s,
                             struct cm_err *err)
{
    struct cm_chain chain = { 0 };
    struct cm_leaf *leaf = NULL;

    cm_status rc = cm_chain_from_pem(pem, &chain, err);
    if (rc == CM_OK && chain.n != 1)
        rc = cm_fail(err, CM_E_CERT, "%zu certificates where one should be", chain.n);
    if (rc == CM_OK)
        rc = cm_leaf_parse(chain.der[0], &leaf, err);
    if (rc == CM_OK && !leaf->is_ca)
        rc = cm_fail(err, CM_E_CERT, "it is not a certificate of a CA");
    if (rc == CM_OK)
        rc = cm_buf_append(ret_der, chain.der[0].data, chain.der[0].len, err);
    if (rc == CM_OK)
        *ret_not_after_s = leaf->not_after_s;
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return rc;
}

/* CM_E_NOTFOUND if a half is missing; one of cm_status_is_damage() naming the object. */
static cm_status load_pair(struct cm_storage *st, const struct cm_op *op, const char *crt_path,
                           const char *key_path, struct ca_pair *p, struct cm_err *err)
{
    struct cm_chain chain = { .n = 1 };

    cm_status crt = cm_storage_load(st, op, crt_path, &p->pem, err);
    cm_status rc = cm_storage_load(st, op, key_path, &p->key_pem, crt == CM_OK ? err : NULL);
    p->no_crt = crt == CM_E_NOTFOUND;
    p->no_key = rc == CM_E_NOTFOUND;
    if (crt != CM_OK || rc != CM_OK)
        return crt != CM_OK ? crt : rc;
    rc = one_ca_cert(cm_buf_span(&p->pem), &p->der, &p->not_after_s, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "'%s'", crt_path);
    rc = cm_key_from_pem(cm_buf_span(&p->key_pem), &p->key, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "'%s'", key_path);
    chain.der[0] = cm_buf_span(&p->der);
    rc = cm_chain_check(&chain, p->key, err); /* of a root its signature, too */
    return rc == CM_OK ? rc : cm_wrap(err, rc, "'%s' and '%s'", crt_path, key_path);
}

static cm_status ca_new(const struct ca_pair *inter, struct cm_span root_pem, struct local_ca **ret,
                        struct cm_err *err)
{
    struct local_ca *a = cm_calloc(1, sizeof *a);

    if (a == NULL)
        return cm_fail_nomem(err);
    atomic_init(&a->refs, 1);
    a->root_pem.max = a->inter_pem.max = a->inter_der.max = PEM_MAX;
    a->inter_key = cm_key_ref(inter->key);
    a->inter_not_after_s = inter->not_after_s;
    cm_status rc = cm_buf_append(&a->inter_pem, inter->pem.data, inter->pem.len, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&a->inter_der, inter->der.data, inter->der.len, err);
    if (rc == CM_OK && root_pem.len > 0)
        rc = cm_buf_append(&a->root_pem, root_pem.data, root_pem.len, err);
    if (rc != CM_OK) {
        local_ca_unref(a);
        return rc;
    }
    *ret = a;
    return CM_OK;
}

/* The root's certificate, if it is the one that @inter is signed by. */
static cm_status load_root_crt(struct cm_storage *st, const struct cm_op *op,
                               const struct ca_pair *inter, struct cm_buf *ret_pem,
                               struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(PEM_MAX);
    struct cm_chain chain = { .n = 2 };
    int64_t end_s = 0;

    cm_status rc = cm_storage_load(st, op, ROOT_CRT, ret_pem, err);
    if (rc == CM_OK)
        rc = one_ca_cert(cm_buf_span(ret_pem), &der, &end_s, err);
    if (rc == CM_OK) {
        chain.der[0] = cm_buf_span(&inter->der);
        chain.der[1] = cm_buf_span(&der);
        rc = cm_chain_check(&chain, inter->key, err);
    }
    if (rc == CM_OK)
        rc = cm_cert_check_own(cm_buf_span(&der), err);
    if (rc != CM_OK)
        cm_buf_reset(ret_pem);
    return cm_status_is_damage(rc) ? cm_wrap(err, rc, "'" ROOT_CRT "' above '" INTER_CRT "'") : rc;
}

/* CM_OK with whatever can sign, without a root at worst (*@why says so); else as load_pair(). */
static cm_status load_ca(const struct cm_issuer_host *host, const struct cm_op *op,
                         struct local_ca **ret, struct cm_err *why)
{
    CM_AUTO_BUF struct cm_buf root_pem = CM_BUF_INIT(PEM_MAX);
    struct ca_pair inter = CA_PAIR_INIT;

    cm_status rc = load_pair(host->storage, op, INTER_CRT, INTER_KEY, &inter, why);
    if (rc == CM_OK) {
        rc = load_root_crt(host->storage, op, &inter, &root_pem, why);
        if (rc == CM_OK || rc == CM_E_NOTFOUND || cm_status_is_damage(rc))
            rc = ca_new(&inter, cm_buf_span(&root_pem), ret, why);
    }
    ca_pair_free(&inter);
    return rc;
}

/* ------------------------------------------------------------------- making */

static cm_status make_root(const struct cm_issuer_host *host, int64_t now_s, struct ca_pair *root,
                           struct cm_err *err)
{
    char cn[64];
    char tag[9];

    cm_status rc = cm_random_hex(host->env, 4, tag, err);
    if (rc != CM_OK)
        return rc;
    (void)snprintf(cn, sizeof cn, "certmesh local root %s", tag);
    rc = cm_ca_make_root(cn, now_s, ROOT_DAYS, &root->key, &root->der, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&root->der), &root->pem, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(root->key, &root->key_pem, err);
    return rc;
}

/* A new intermediate, and the root with it if that is new: one commit, so that no reader ever sees
 * a key without its certificate. */
static cm_status make_below(const struct cm_issuer_host *host, const struct cm_op *op,
                            struct cm_lease *lease, const struct ca_pair *root, bool root_is_new,
                            struct local_ca **ret, struct cm_err *err)
{
    struct ca_pair inter = CA_PAIR_INIT;
    int64_t now_s = cm_env_wall_s(host->env);

    cm_status rc =
        cm_ca_make_intermediate("certmesh local intermediate", root->key, cm_buf_span(&root->der),
                                now_s, LOCAL_CA_INTER_DAYS, &inter.key, &inter.der, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&inter.der), &inter.pem, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(inter.key, &inter.key_pem, err);
    if (rc == CM_OK) {
        const struct cm_commit_item items[] = {
            { INTER_KEY, cm_buf_span(&inter.key_pem), false },
            { INTER_CRT, cm_buf_span(&inter.pem), false },
            { ROOT_KEY, cm_buf_span(&root->key_pem), false },
            { ROOT_CRT, cm_buf_span(&root->pem), false },
        };
        rc = cm_lease_commit(lease, op, items, root_is_new ? 4 : 2, err);
    }
    if (rc == CM_OK) {
        CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(PEM_MAX);

        rc = one_ca_cert(cm_buf_span(&inter.pem), &der, &inter.not_after_s, err);
    }
    if (rc == CM_OK)
        rc = ca_new(&inter, cm_buf_span(&root->pem), ret, err);
    if (rc == CM_OK)
        cm_logf(&host->log, CM_LOG_INFO, "local_ca_made", NULL, 0, "made the local CA's %s",
                root_is_new ? "root and intermediate" : "next intermediate");
    ca_pair_free(&inter);
    return rc;
}

/* Is there an intermediate, or a part of one? Then there was a root. */
static bool has_remains(const struct cm_issuer_host *host, const struct cm_op *op)
{
    struct cm_key_info info;

    return cm_storage_stat(host->storage, op, INTER_CRT, &info, NULL) != CM_E_NOTFOUND ||
           cm_storage_stat(host->storage, op, INTER_KEY, &info, NULL) != CM_E_NOTFOUND;
}

/* Under the lease: *@ret is what was loaded, or NULL, and becomes what is to be used. */
static cm_status renew_ca(const struct cm_issuer_host *host, const struct cm_op *op,
                          struct cm_lease *lease, struct local_ca **ret, struct cm_err *err)
{
    struct ca_pair root = CA_PAIR_INIT;
    struct local_ca *made = NULL;
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = load_pair(host->storage, op, ROOT_CRT, ROOT_KEY, &root, &why);
    if (rc == CM_E_NOTFOUND && root.no_crt && root.no_key && !has_remains(host, op)) {
        rc = make_root(host, cm_env_wall_s(host->env), &root, err);
        if (rc == CM_OK)
            rc = make_below(host, op, lease, &root, true, &made, err);
    } else if (rc == CM_OK) {
        rc = make_below(host, op, lease, &root, false, &made, err);
    } else if (rc == CM_E_NOTFOUND || cm_status_is_damage(rc)) {
        if (*ret != NULL) {
            cm_logf(&host->log, CM_LOG_WARN, "local_ca_damaged", NULL, 0,
                    "local CA: %s; its intermediate signs on until it ends: restore the root "
                    "from a backup before that",
                    why.msg);
            rc = CM_OK;
        } else {
            rc = local_ca_no_root(err);
            rc = cm_wrap(err, rc, "%.200s", why.msg);
        }
    } else if (err != NULL) {
        *err = why;
    }
    ca_pair_free(&root);
    if (made != NULL) {
        local_ca_unref(*ret);
        *ret = made;
    }
    return rc;
}

cm_status local_ca_fetch(const struct cm_issuer_host *host, const struct cm_op *op,
                         int64_t lifetime_s, struct local_ca **ret, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    struct local_ca *a = NULL;
    struct cm_lease *lease = NULL;
    int64_t now_s = cm_env_wall_s(host->env);

    for (unsigned look = 0; look < 2; look++) {
        cm_status rc = load_ca(host, op, &a, &why);
        if (rc == CM_OK && local_ca_is_fresh(a, lifetime_s, now_s)) {
            cm_lease_release(lease);
            *ret = a;
            return CM_OK;
        }
        if (rc == CM_OK && look == 0) {
            local_ca_unref(a);
            a = NULL;
        } else if (cm_status_is_damage(rc) && look == 1) {
            cm_logf(&host->log, CM_LOG_WARN, "local_ca_damaged", NULL, 0,
                    "local CA: %s; an intermediate is made anew", why.msg);
        } else if (rc != CM_OK && rc != CM_E_NOTFOUND && !cm_status_is_damage(rc)) {
            cm_lease_release(lease);
            if (err != NULL)
                *err = why;
            return cm_wrap(err, rc, "local CA");
        }
        if (look == 0) { /* and again under the lock: a peer may be quicker */
            rc = cm_lease_acquire(host->storage, op, CA_LOCK, NULL, &lease, err);
            if (rc != CM_OK)
                return cm_wrap(err, rc, "local CA");
        }
    }
    cm_status rc = renew_ca(host, op, lease, &a, err);
    cm_lease_release(lease);
    if (rc != CM_OK) {
        local_ca_unref(a);
        return cm_wrap(err, rc, "local CA");
    }
    *ret = a;
    return CM_OK;
}
