/* SPDX-License-Identifier: Apache-2.0 */
#include "facts.h"

#include <stdio.h>
#include <string.h>

/* The certificate of one folder: the best among all issuers', the metadata and the staple that
 * belong to it, and what is wrong with the others. */

#define STAPLE_MAX (1024u * 1024)

/* ---- whose it is ---- */

static struct cm_subject *subject_of(const char *const *names, size_t n, const char *dir)
{
    struct cm_subject *s = NULL;

    if (cm_subject_new(names, n, &s, NULL) != CM_OK)
        return NULL;
    if (strcmp(s->dir, dir) == 0)
        return s;
    cm_subject_free(s);
    return NULL;
}

/* What the certificate is there for: all its names, or the one that the folder is called by. Peers
 * may certify more than the name that they store it under. */
static cm_status claim(const struct cm_cert *cert, const char *dir, struct cm_subject **ret,
                       struct cm_err *err)
{
    size_t n = cm_cert_name_count(cert);
    CM_AUTO_FREE const char **names = cm_calloc(n > 0 ? n : 1, sizeof(char *));

    if (names == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < n; i++)
        names[i] = cm_cert_name(cert, i);
    *ret = n > 0 ? subject_of(names, n, dir) : NULL;
    for (size_t i = 0; i < n && *ret == NULL; i++)
        *ret = subject_of(&names[i], 1, dir);
    if (*ret != NULL)
        return CM_OK;
    return cm_fail(err, CM_E_CERT, "the certificate stored as '%s' is for '%s'", dir,
                   n > 0 ? names[0] : "no name");
}

static const char *raw_issuer_key(const struct cm_config *cfg, const char *stored)
{
    for (size_t i = 0; i < cfg->n_issuers; i++) {
        CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);
        const char *raw = cm_issuer_key(cfg->issuers[i]);

        if (cm_safe_name(raw, &safe, NULL) == CM_OK && strcmp(cm_buf_str(&safe), stored) == 0)
            return raw;
    }
    return NULL;
}

/* ---- the best ---- */

static bool is_better(const struct cm_cert *a, const struct cm_cert *b, int64_t now_s)
{
    if (b == NULL)
        return true;
    bool va = cm_cert_is_valid_at(a, now_s, CM_CERT_SKEW_S);
    bool vb = cm_cert_is_valid_at(b, now_s, CM_CERT_SKEW_S);
    if (va != vb)
        return va;
    return a->not_before_s > b->not_before_s;
}

/* Takes both over. */
static void keep(const struct cm_facts_view *v, struct cm_facts *f, const char *base,
                 const char *issuer, struct cm_cert *cert, struct cm_subject *s)
{
    const char *raw = raw_issuer_key(v->cfg, issuer);

    if (!is_better(cert, f->cert, f->now_s)) {
        cm_cert_unref(cert);
        cm_subject_free(s);
        return;
    }
    cm_cert_unref(f->cert);
    cm_subject_free(f->subject);
    f->cert = cert;
    f->subject = s;
    f->is_ours = raw != NULL;
    (void)snprintf(f->base, sizeof f->base, "%s", base);
    (void)snprintf(f->issuer_key, sizeof f->issuer_key, "%s", raw != NULL ? raw : issuer);
}

/* A folder may stay for a compromised key alone. */
static bool has_half(const struct cm_facts_view *v, const char *base, const char *dir)
{
    static const char *const suffixes[] = { "key", "crt", "json" };
    bool has = false;

    for (size_t i = 0; i < CM_ARRAY_LEN(suffixes) && !has; i++) {
        CM_AUTO_FREE char *key = cm_asprintf("%s/%s.%s", base, dir, suffixes[i]);
        struct cm_key_info info;

        has = key != NULL && cm_storage_stat(v->cfg->storage, v->op, key, &info, NULL) == CM_OK;
    }
    return has;
}

static cm_status look_in(const struct cm_facts_view *v, struct cm_facts *f, const char *issuer,
                         struct cm_err *err)
{
    struct cm_cert *cert = NULL;
    struct cm_subject *s = NULL;
    struct cm_err why = CM_ERR_INIT;
    char base[CM_KEY_BUF];

    int n = snprintf(base, sizeof base, "certificates/%s/%s", issuer, f->dir);
    if (n < 0 || (size_t)n >= sizeof base)
        return CM_OK; /* too long to be a key: nothing can lie there */
    cm_status rc =
        cm_store_load_dir(v->cfg, v->op, base, f->dir, issuer, NULL, 0, true, &cert, &why);
    if (rc == CM_OK)
        rc = claim(cert, f->dir, &s, &why);
    if (rc == CM_OK) {
        keep(v, f, base, issuer, cert, s);
        f->remains = true;
        return CM_OK;
    }
    cm_cert_unref(cert);
    if (rc == CM_E_NOTFOUND) { /* all of it, or a half */
        f->remains = f->remains || has_half(v, base, f->dir);
        return CM_OK;
    }
    if (cm_status_is_damage(rc)) {
        f->remains = true;
        memcpy(f->damage, why.msg, sizeof f->damage);
        return CM_OK;
    }
    if (err != NULL)
        *err = why;
    return rc;
}

/* ---- what belongs to it ---- */

static void look_at_meta(const struct cm_facts_view *v, struct cm_facts *f)
{
    struct cm_meta m;

    if (cm_meta_load(v->cfg, v->op, f->issuer_key, f->dir, &m, NULL) != CM_OK)
        return;
    f->has_ari = cm_ari_from_meta(&m, f->cert, &f->ari);
    cm_meta_free(&m);
}

/* The name that peers put first. */
static const char *first_name(const struct cm_leaf *leaf)
{
    if (leaf->subject_cn[0] != '\0')
        return leaf->subject_cn;
    for (size_t i = 0; i < leaf->n_names; i++)
        if (!cm_name_is_ip(leaf->names[i]))
            return leaf->names[i];
    return leaf->n_names > 0 ? leaf->names[0] : "";
}

static bool peek_at_staple(const struct cm_facts_view *v, struct cm_facts *f, struct cm_span chain)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(STAPLE_MAX);
    char key[CM_KEY_BUF];

    return cm_path_staple(first_name(f->leaf), chain, key, NULL) == CM_OK &&
           cm_storage_load(v->cfg->storage, v->op, key, &der, NULL) == CM_OK &&
           cm_ocsp_peek(cm_buf_span(&der), &f->staple);
}

/* What this process sends to clients, which storage may have refused to take. */
static bool peek_at_served(const struct cm_facts_view *v, struct cm_facts *f)
{
    const char *name = cm_cert_name(f->cert, 0);
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t n = name != NULL ? cm_cache_find(v->cfg->cache, name, strlen(name), certs) : 0;
    bool has = false;

    for (size_t i = 0; i < n; i++) {
        struct cm_staple *s =
            !has && cm_cert_same_leaf(certs[i], f->cert) ? cm_cert_staple(certs[i]) : NULL;

        if (s != NULL)
            has = cm_ocsp_peek(cm_staple_der(s), &f->staple);
        cm_staple_unref(s);
        cm_cert_unref(certs[i]);
    }
    return has;
}

/* Peers may have hashed the chain as it lies there, or as they write it: see storage-format.md. */
static void look_for_staple(const struct cm_facts_view *v, struct cm_facts *f)
{
    CM_AUTO_BUF struct cm_buf stored = CM_BUF_INIT(CM_PEM_FILE_MAX);
    CM_AUTO_BUF struct cm_buf canonical = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s.crt", f->base, f->dir);

    if (key != NULL && cm_storage_load(v->cfg->storage, v->op, key, &stored, NULL) == CM_OK)
        f->has_staple = peek_at_staple(v, f, cm_buf_span(&stored));
    if (!f->has_staple && cm_cert_chain_pem(f->cert, &canonical, NULL) == CM_OK)
        f->has_staple = peek_at_staple(v, f, cm_buf_span(&canonical));
    if (!f->has_staple)
        f->has_staple = peek_at_served(v, f);
}

cm_status cm_facts_cert(const struct cm_facts_view *v, struct cm_facts *f, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < v->issuers.n && rc == CM_OK; i++)
        if (!v->issuers.at[i].terminal)
            rc = look_in(v, f, v->issuers.at[i].name, err);
    if (rc == CM_OK && f->cert != NULL)
        rc = cm_leaf_parse(cm_cert_der(f->cert, 0), &f->leaf, err);
    if (rc != CM_OK || f->cert == NULL)
        return rc;
    look_at_meta(v, f);
    cm_when_for(v->cfg, f->cert, f->has_ari ? &f->ari : NULL, &f->when);
    if (f->leaf->ocsp_url[0] != '\0')
        look_for_staple(v, f);
    f->revoked = (f->has_staple && f->staple.revoked) || cm_revoked_is(v->cfg, f->cert, NULL);
    if (!f->revoked)
        cm_crl_known(v->cfg, v->op, f->cert, &f->crl);
    f->revoked = f->revoked || f->crl.revoked;
    return cm_op_check(v->op, err);
}

/* ---- by one of several names ---- */

struct search {
    const struct cm_facts_view *v;
    const char *name;
    int64_t best_s;
    char dir[CM_STORAGE_COMPONENT_MAX + 1];
};

static cm_status search_in(void *user, const char *issuer, const char *dir, const char *base,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s.crt", base, dir);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_PEM_FILE_MAX);
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    struct search *s = user;

    (void)issuer;
    if (key == NULL)
        return cm_fail_nomem(err);
    if (cm_storage_load(s->v->cfg->storage, s->v->op, key, &pem, NULL) == CM_OK &&
        cm_chain_from_pem(cm_buf_span(&pem), &chain, NULL) == CM_OK &&
        cm_leaf_parse(chain.der[0], &leaf, NULL) == CM_OK) {
        for (size_t i = 0; i < leaf->n_names; i++)
            if (strcmp(leaf->names[i], s->name) == 0 &&
                (s->dir[0] == '\0' || leaf->not_before_s > s->best_s)) {
                s->best_s = leaf->not_before_s;
                (void)snprintf(s->dir, sizeof s->dir, "%s", dir);
            }
    }
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return CM_OK;
}

cm_status cm_facts_find_san(const struct cm_facts_view *v, const char *name,
                            char ret_dir[CM_STORAGE_COMPONENT_MAX + 1], struct cm_err *err)
{
    struct search s = { .v = v, .name = name };

    cm_status rc = cm_sites_walk(v->cfg, v->op, search_in, &s, err);
    if (rc == CM_OK && s.dir[0] == '\0')
        rc = cm_fail(err, CM_E_NOTFOUND, "no certificate in storage is for '%s'", name);
    if (rc == CM_OK)
        memcpy(ret_dir, s.dir, sizeof s.dir);
    return rc;
}
