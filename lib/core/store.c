/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* Certificates in storage. Key and chain are separate objects that others replace one after the
 * other, and anyone with access to the storage may have put anything there: so a pair counts only
 * if it fits together and names what was asked for. The metadata is not needed to serve and is not
 * read here. */

#define RETRIES 3u

static bool is_damage(cm_status rc)
{
    return rc == CM_E_PARSE || rc == CM_E_KEY || rc == CM_E_CERT || rc == CM_E_LIMIT;
}

static cm_status load_text(struct cm_config *cfg, const struct cm_op *op, const char *base,
                           const char *dir, const char *suffix, struct cm_buf *ret,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s%s", base, dir, suffix);

    if (key == NULL)
        return cm_fail_nomem(err);
    return cm_storage_load(cfg->storage, op, key, ret, err);
}

static cm_status load_once(struct cm_config *cfg, const struct cm_op *op, const char *base,
                           const char *dir, const char *issuer_key, struct cm_cert **ret,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_PEM_FILE_MAX);
    CM_AUTO_BUF struct cm_buf crt = CM_BUF_INIT(CM_PEM_FILE_MAX);

    cm_status rc = load_text(cfg, op, base, dir, ".key", &key, err);
    if (rc == CM_OK)
        rc = load_text(cfg, op, base, dir, ".crt", &crt, err);
    if (rc == CM_OK)
        rc = cm_cert_from_pem(cm_buf_span(&crt), cm_buf_span(&key), issuer_key, NULL,
                              CM_CERT_MANAGED, ret, err);
    return rc;
}

cm_status cm_store_load_dir(struct cm_config *cfg, const struct cm_op *op, const char *base,
                            const char *dir, const char *issuer_key, const char *const *names,
                            size_t n, struct cm_cert **ret, struct cm_err *err)
{
    int64_t delay = 50 * CM_NS_PER_MS;
    struct cm_cert *cert = NULL;
    cm_status rc;

    for (unsigned attempt = 0;; attempt++, delay *= 3) {
        rc = load_once(cfg, op, base, dir, issuer_key, &cert, err);
        if (!is_damage(rc) || attempt == RETRIES)
            break;
        /* A writer may be between key and chain. */
        rc = cm_op_wait(op, delay, err);
        if (rc != CM_OK)
            break;
    }
    if (rc == CM_OK && !cm_cert_covers_all(cert, names, n)) {
        rc = cm_fail(err, CM_E_CERT, "it is not for '%s'", names[0]);
        cm_cert_unref(cert);
    }
    if (rc != CM_OK)
        return cm_wrap(err, rc, "certificate in '%s'", base);
    *ret = cert;
    return CM_OK;
}

/* Valid ones before others, then the newest. */
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

/* The best among the issuers' directories @dir. @names NULL: whatever names it has. */
static cm_status load_best(struct cm_config *cfg, const struct cm_op *op, const char *dir,
                           const char *const *names, size_t n, struct cm_cert **ret,
                           struct cm_err *err)
{
    int64_t now = cm_env_wall_s(cfg->env);
    struct cm_cert *best = NULL;
    struct cm_err first = CM_ERR_INIT;
    cm_status failed = CM_E_NOTFOUND;

    for (size_t i = 0; i < cfg->n_issuers; i++) {
        const char *issuer_key = cm_issuer_key(cfg->issuers[i]);
        struct cm_err why = CM_ERR_INIT;
        struct cm_cert *cert = NULL;
        char base[CM_KEY_BUF];

        cm_status rc = cm_path_cert(issuer_key, dir, NULL, base, &why);
        if (rc == CM_OK)
            rc = cm_store_load_dir(cfg, op, base, dir, issuer_key, names, n, &cert, &why);
        if (rc == CM_OK && is_better(cert, best, now)) {
            cm_cert_unref(best);
            best = cert;
        } else if (rc == CM_OK) {
            cm_cert_unref(cert);
        } else if (is_damage(rc)) {
            cm_logf(&cfg->log, CM_LOG_WARN, "stored_certificate_unusable", NULL, 0,
                    "%s; it is treated as absent", why.msg);
        } else if (rc != CM_E_NOTFOUND && failed == CM_E_NOTFOUND) {
            failed = rc;
            first = why;
        }
    }
    if (best != NULL) {
        *ret = best;
        return CM_OK;
    }
    if (failed != CM_E_NOTFOUND) {
        if (err != NULL)
            *err = first;
        return failed;
    }
    return cm_fail(err, CM_E_NOTFOUND, "storage %s has no usable certificate for '%s'",
                   cm_storage_describe(cfg->storage), dir);
}

cm_status cm_store_load(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                        enum cm_load_want want, struct cm_cert **ret, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    cm_status rc = load_best(cfg, op, s->dir, s->names, s->n, &cert, err);
    if (rc != CM_OK)
        return rc;
    if (want == CM_LOAD_VALID &&
        !cm_cert_is_valid_at(cert, cm_env_wall_s(cfg->env), CM_CERT_SKEW_S)) {
        cm_cert_unref(cert);
        return cm_fail(err, CM_E_NOTFOUND, "the stored certificate for '%s' is not valid now",
                       s->ident);
    }
    *ret = cert;
    return CM_OK;
}

static cm_status path_of(const char *issuer_key, const char *dir, const char *suffix,
                         struct cm_commit_item *item, char buf[CM_KEY_BUF], struct cm_err *err)
{
    item->key = buf;
    return cm_path_cert(issuer_key, dir, suffix, buf, err);
}

cm_status cm_store_commit(const struct cm_op *op, struct cm_lease *lease,
                          const struct cm_subject *s, const char *issuer_key,
                          const struct cm_key *key, const struct cm_issued *issued,
                          struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(2 * CM_META_MAX);
    char paths[4][CM_KEY_BUF];
    /* In this order for readers that do not verify the pair: it is certmagic's. */
    struct cm_commit_item items[4] = { { NULL, { NULL, 0 }, false } };

    cm_status rc = cm_key_to_pem(key, &key_pem, err);
    if (rc == CM_OK)
        rc = cm_meta_format(s->names, s->n, cm_buf_span(&issued->issuer_data), &meta, err);
    if (rc == CM_OK)
        rc = path_of(issuer_key, s->dir, ".key", &items[0], paths[0], err);
    if (rc == CM_OK)
        rc = path_of(issuer_key, s->dir, ".crt", &items[1], paths[1], err);
    if (rc == CM_OK)
        rc = path_of(issuer_key, s->dir, ".json", &items[2], paths[2], err);
    if (rc == CM_OK)
        rc = cm_path_journal(s->dir, paths[3], err);
    if (rc != CM_OK)
        return rc;
    items[0].value = cm_buf_span(&key_pem);
    items[1].value = cm_buf_span(&issued->chain_pem);
    items[2].value = cm_buf_span(&meta);
    items[3].key = paths[3];
    items[3].remove = true;
    return cm_lease_commit(lease, op, items, CM_ARRAY_LEN(items), err);
}

cm_status cm_store_remove(const struct cm_op *op, struct cm_lease *lease, const char *base,
                          const char *dir, struct cm_err *err)
{
    static const char *const suffixes[] = { ".key", ".crt", ".json" };
    struct cm_commit_item items[CM_ARRAY_LEN(suffixes)] = { { NULL, { NULL, 0 }, false } };
    char *keys[CM_ARRAY_LEN(suffixes)] = { NULL };
    cm_status rc = CM_OK;

    for (size_t i = 0; i < CM_ARRAY_LEN(suffixes); i++) {
        keys[i] = cm_asprintf("%s/%s%s", base, dir, suffixes[i]);
        items[i].key = keys[i];
        items[i].remove = true;
        if (keys[i] == NULL)
            rc = cm_fail_nomem(err);
    }
    if (rc == CM_OK)
        rc = cm_lease_commit(lease, op, items, CM_ARRAY_LEN(items), err);
    for (size_t i = 0; i < CM_ARRAY_LEN(suffixes); i++)
        free(keys[i]);
    return rc;
}

/* ---- what a name given by a person means ---- */

/* Is @name one component as the layout writes it? */
static bool is_dir(const char *name)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

    return cm_safe_name(name, &safe, NULL) == CM_OK && strcmp(cm_buf_str(&safe), name) == 0;
}

static cm_status subject_of(const struct cm_cert *cert, struct cm_subject **ret, struct cm_err *err)
{
    size_t n = cm_cert_name_count(cert);
    CM_AUTO_FREE const char **names = cm_calloc(n, sizeof(char *));

    if (names == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < n; i++)
        names[i] = cm_cert_name(cert, i);
    return cm_subject_new(names, n, ret, err);
}

cm_status cm_store_resolve(struct cm_config *cfg, const struct cm_op *op, const char *name,
                           struct cm_subject **ret_subject, struct cm_cert **ret_cert,
                           struct cm_err *err)
{
    struct cm_subject *s = NULL;
    struct cm_cert *cert = NULL;

    if (name == NULL)
        return cm_fail(err, CM_E_INVAL, "no name given");
    cm_status rc = cm_subject_parse(name, &s, err);
    if (rc == CM_OK)
        rc = cm_store_load(cfg, op, s, CM_LOAD_NEWEST, &cert, err);
    if ((rc == CM_E_NOTFOUND || rc == CM_E_INVAL) && is_dir(name)) {
        /* A list of storage shows directories: "wildcard_.example.com", "a.exampleb.example". */
        struct cm_err other = CM_ERR_INIT;

        cm_subject_free(s);
        s = NULL;
        if (load_best(cfg, op, name, NULL, 0, &cert, &other) == CM_OK) {
            rc = subject_of(cert, &s, err);
            if (rc == CM_OK && strcmp(s->dir, name) != 0)
                rc = cm_fail(err, CM_E_CERT,
                             "the certificate stored as '%s' is for '%s': move it, or remove it",
                             name, s->ident);
        }
    }
    if (rc != CM_OK) {
        cm_subject_free(s);
        cm_cert_unref(cert);
        return rc;
    }
    *ret_subject = s;
    *ret_cert = cert;
    return CM_OK;
}
