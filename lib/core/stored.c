/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* Lists of what storage holds. A listing is collected first and worked on afterwards, so that
 * nothing is loaded, and nobody's callback runs, inside a listing. */

#define CERT_ROOT    "certificates"
#define CHILDREN_MAX 10000000u

static cm_status collect(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    struct cm_children *c = user;
    const char *slash = strrchr(info->key, '/');

    if (c->n >= CHILDREN_MAX)
        return cm_fail(err, CM_E_LIMIT, "more than %u objects in one place", CHILDREN_MAX);
    if (c->n == c->cap) {
        size_t cap = c->cap > 0 ? c->cap * 2 : 64;
        struct cm_child *bigger = cm_realloc_array(c->at, cap, sizeof c->at[0]);

        if (bigger == NULL)
            return cm_fail_nomem(err);
        c->at = bigger;
        c->cap = cap;
    }
    char *name = cm_strdup(slash != NULL ? slash + 1 : info->key);
    if (name == NULL)
        return cm_fail_nomem(err);
    c->at[c->n++] = (struct cm_child){ name, info->modified_ns, info->terminal };
    return CM_OK;
}

void cm_children_free(struct cm_children *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->at[i].name);
    free(c->at);
    memset(c, 0, sizeof *c);
}

cm_status cm_children_list(struct cm_config *cfg, const struct cm_op *op, const char *prefix,
                           struct cm_children *ret, struct cm_err *err)
{
    struct cm_children c = { NULL, 0, 0 };

    cm_status rc = cm_storage_list(cfg->storage, op, prefix, false, collect, &c, err);
    if (rc == CM_E_NOTFOUND) /* a backend may say so of an empty place */
        rc = CM_OK;
    if (rc != CM_OK) {
        cm_children_free(&c);
        return cm_wrap(err, rc, "list '%s' in storage", prefix);
    }
    *ret = c;
    return CM_OK;
}

static cm_status walk_issuer(struct cm_config *cfg, const struct cm_op *op, const char *issuer,
                             cm_site_fn each, void *user, struct cm_err *err)
{
    CM_AUTO_FREE char *prefix = cm_asprintf("%s/%s", CERT_ROOT, issuer);
    struct cm_children sites = { NULL, 0, 0 };

    if (prefix == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_children_list(cfg, op, prefix, &sites, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < sites.n && rc == CM_OK; i++) {
        CM_AUTO_FREE char *base = NULL;

        if (sites.at[i].terminal) /* not a site; somebody else's */
            continue;
        rc = cm_op_check(op, err);
        base = cm_asprintf("%s/%s", prefix, sites.at[i].name);
        if (rc == CM_OK && base == NULL)
            rc = cm_fail_nomem(err);
        if (rc == CM_OK)
            rc = each(user, issuer, sites.at[i].name, base, err);
    }
    cm_children_free(&sites);
    return rc;
}

cm_status cm_sites_walk(struct cm_config *cfg, const struct cm_op *op, cm_site_fn each, void *user,
                        struct cm_err *err)
{
    struct cm_children issuers = { NULL, 0, 0 };

    cm_status rc = cm_children_list(cfg, op, CERT_ROOT, &issuers, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < issuers.n && rc == CM_OK; i++)
        if (!issuers.at[i].terminal)
            rc = walk_issuer(cfg, op, issuers.at[i].name, each, user, err);
    cm_children_free(&issuers);
    return rc;
}

struct listing {
    struct cm_config *cfg;
    const struct cm_op *op;
    cm_stored_fn each;
    void *user;
};

/* Does the whole operation end with this error of one site? */
static bool ends_all(cm_status rc, const struct cm_op *op)
{
    return rc == CM_E_NOMEM || cm_op_check(op, NULL) != CM_OK;
}

/* Does the certificate belong into the directory @dir? Peers may certify more than the name that
 * they store it under, but never without that name. */
static bool is_at_home(const struct cm_cert *cert, const char *dir)
{
    size_t n = cm_cert_name_count(cert);
    CM_AUTO_FREE const char **names = cm_calloc(n, sizeof(char *));
    struct cm_subject *s = NULL;
    bool home = names == NULL; /* without memory nobody is accused */

    for (size_t i = 0; i < n && !home; i++) {
        CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

        names[i] = cm_cert_name(cert, i);
        home = cm_safe_name(names[i], &safe, NULL) == CM_OK && strcmp(cm_buf_str(&safe), dir) == 0;
    }
    if (!home && n > 1 && cm_subject_new(names, n, &s, NULL) == CM_OK)
        home = strcmp(s->dir, dir) == 0;
    cm_subject_free(s);
    return home;
}

static cm_status list_site(void *user, const char *issuer, const char *dir, const char *base,
                           struct cm_err *err)
{
    const struct listing *l = user;
    struct cm_stored_cert sc = { .size = (uint32_t)sizeof sc, .name = dir, .issuer_key = issuer };
    struct cm_err why = CM_ERR_INIT;

    cm_status rc =
        cm_store_load_dir(l->cfg, l->op, base, dir, issuer, NULL, 0, true, &sc.cert, &why);
    if (rc == CM_OK && !is_at_home(sc.cert, dir)) {
        rc = cm_fail(&why, CM_E_CERT, "'%s/%s.crt' is for '%s', which is not what lies there", base,
                     dir, cm_cert_name_count(sc.cert) > 0 ? cm_cert_name(sc.cert, 0) : "no name");
        cm_cert_unref(sc.cert);
        sc.cert = NULL;
    }
    if (rc != CM_OK && ends_all(rc, l->op)) {
        if (err != NULL)
            *err = why;
        return rc;
    }
    if (rc != CM_OK)
        sc.problem = why.msg;
    rc = l->each(l->user, &sc, err);
    cm_cert_unref(sc.cert);
    return rc;
}

cm_status cm_storage_certs(struct cm_config *cfg, const struct cm_op *op, cm_stored_fn each,
                           void *user, struct cm_err *err)
{
    struct listing l = { cfg, op, each, user };

    if (cfg == NULL || each == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no function to tell");
    return cm_sites_walk(cfg, op, list_site, &l, err);
}

cm_status cm_storage_cert(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                          const char *dir, cm_stored_fn each, void *user, struct cm_err *err)
{
    struct listing l = { cfg, op, each, user };
    CM_AUTO_FREE char *base = NULL;

    if (cfg == NULL || each == NULL || issuer_key == NULL || dir == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, directory, or function to tell");
    base = cm_asprintf("%s/%s/%s", CERT_ROOT, issuer_key, dir);
    return base != NULL ? list_site(&l, issuer_key, dir, base, err) : cm_fail_nomem(err);
}

cm_status cm_load_stored(struct cm_config *cfg, const struct cm_op *op, const char *name,
                         struct cm_cert **ret, struct cm_err *err)
{
    struct cm_subject *s = NULL;

    if (cfg == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no place for the certificate");
    cm_status rc = cm_store_resolve(cfg, op, name, &s, ret, err);
    cm_subject_free(s);
    return rc;
}
