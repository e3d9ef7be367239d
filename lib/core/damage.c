/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* What can still be learned from a certificate's directory when the pair in it is of no use: what
 * names it was for, and whether the key alone survived. */

bool cm_store_is_dir(const char *name)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

    return cm_safe_name(name, &safe, NULL) == CM_OK && strcmp(cm_buf_str(&safe), name) == 0;
}

static cm_status load_part(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                           const char *dir, const char *suffix, struct cm_buf *ret)
{
    char path[CM_KEY_BUF];

    cm_status rc = cm_path_cert(issuer_key, dir, suffix, path, NULL);
    return rc == CM_OK ? cm_storage_load(cfg->storage, op, path, ret, NULL) : rc;
}

/* ---- the names ---- */

static bool is_something(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                         const char *dir)
{
    struct cm_key_info info;
    char base[CM_KEY_BUF];

    return cm_path_cert(issuer_key, dir, NULL, base, NULL) == CM_OK &&
           cm_storage_stat(cfg->storage, op, base, &info, NULL) == CM_OK;
}

/* The names that the metadata tells, if they belong into this directory. */
static struct cm_subject *told_by_meta(struct cm_config *cfg, const struct cm_op *op,
                                       const char *issuer_key, const char *dir)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(CM_META_MAX);
    struct cm_subject *s = NULL;
    struct cm_meta m;

    if (load_part(cfg, op, issuer_key, dir, ".json", &json) != CM_OK ||
        cm_meta_parse(cm_buf_span(&json), &m, NULL) != CM_OK)
        return NULL;
    if (cm_subject_new((const char *const *)m.sans, m.n_sans, &s, NULL) != CM_OK)
        s = NULL;
    cm_meta_free(&m);
    if (s != NULL && strcmp(s->dir, dir) != 0) {
        cm_subject_free(s);
        s = NULL;
    }
    return s;
}

bool cm_store_remains(struct cm_config *cfg, const struct cm_op *op, const char *name,
                      struct cm_subject **ret)
{
    struct cm_subject *given = NULL;
    struct cm_subject *told = NULL;
    bool some = false;

    if (cm_subject_parse(name, &given, NULL) != CM_OK)
        given = NULL;
    if (given == NULL && !cm_store_is_dir(name))
        return false;
    const char *dir = given != NULL ? given->dir : name;
    for (size_t i = 0; i < cfg->n_issuers && told == NULL; i++) {
        const char *issuer_key = cm_issuer_key(cfg->issuers[i]);

        if (!is_something(cfg, op, issuer_key, dir))
            continue;
        some = true;
        /* A directory of several names reads like one name: "a.exampleb.example". */
        told = told_by_meta(cfg, op, issuer_key, dir);
    }
    if (told != NULL) {
        cm_subject_free(given);
        given = told;
    }
    if (given == NULL || !some) {
        cm_subject_free(given);
        return false;
    }
    *ret = given;
    return true;
}

/* ---- the key ---- */

/* Is what lies beside the key the reason to let it go: a chain that is for another key, or for
 * other names? One that cannot be read says nothing. */
static bool speaks_against(struct cm_span crt, struct cm_span key, const struct cm_subject *s)
{
    struct cm_cert *pair = NULL;

    cm_status rc = cm_cert_from_pem(crt, key, NULL, NULL, 0, &pair, NULL);
    bool against = rc == CM_OK ? !cm_cert_covers_all(pair, s->names, s->n)
                               : rc != CM_E_PARSE && rc != CM_E_LIMIT;
    cm_cert_unref(pair);
    return against;
}

bool cm_store_orphan_key(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                         struct cm_key **ret)
{
    for (size_t i = 0; i < cfg->n_issuers; i++) {
        const char *issuer_key = cm_issuer_key(cfg->issuers[i]);
        CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        CM_AUTO_BUF struct cm_buf crt = CM_BUF_INIT(CM_PEM_FILE_MAX);
        struct cm_key *key = NULL;

        if (load_part(cfg, op, issuer_key, s->dir, ".key", &pem) != CM_OK ||
            cm_key_from_pem(cm_buf_span(&pem), &key, NULL) != CM_OK)
            continue;
        (void)!load_part(cfg, op, issuer_key, s->dir, ".crt", &crt);
        if (cm_key_check(key, NULL) == CM_OK &&
            !speaks_against(cm_buf_span(&crt), cm_buf_span(&pem), s)) {
            *ret = key;
            return true;
        }
        cm_key_unref(key);
    }
    return false;
}
