/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"
#include "issuers.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

/* Taking over the directory of an autocert.DirCache into a storage. */

#define FILES_MAX 1000000u

struct import {
    struct cm_storage *st;
    const struct cm_op *op;
    struct cm_autocert_import_options o;
    struct cm_autocert_import_report report;
    struct cm_autocert_cache *dir;
    struct cm_buf issuer;      /* Safe(issuer key) */
    char last_ec[CM_NAME_BUF]; /* the last name that has an EC certificate of use */
};

static void tell(struct import *im, const char *file, enum cm_autocert_import_kind what,
                 const char *why)
{
    uint64_t *counts[] = { &im->report.certificates, &im->report.accounts, &im->report.kept,
                           &im->report.left };

    ++*counts[what];
    if (im->o.each != NULL)
        im->o.each(im->o.user, file, what, why);
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);

    return n > w && strcmp(s + n - w, with) == 0;
}

/* ------------------------------------------------------------------ account */

static cm_status import_account(struct import *im, const char *file, struct cm_span pem,
                                struct cm_err *err)
{
    struct acme_account_paths paths;
    struct cm_key *key = NULL;
    struct cm_err why = CM_ERR_INIT;
    struct cm_key_info info;
    struct cm_lease *lease = NULL;

    cm_status rc = cm_key_from_pem(pem, &key, &why);
    if (rc == CM_OK && cm_key_jws_alg(key) == NULL)
        rc = cm_fail(&why, CM_E_KEY, "a key of a type that cannot sign for an account");
    cm_key_unref(key);
    if (rc != CM_OK) {
        tell(im, file, CM_AUTOCERT_LEFT, why.msg);
        return rc == CM_E_NOMEM ? cm_fail_nomem(err) : CM_OK;
    }
    CM_AUTO_FREE char *prefix = cm_asprintf("acme/%s", cm_buf_str(&im->issuer));
    if (prefix == NULL)
        return cm_fail_nomem(err);
    rc = acme_account_paths(prefix, im->o.email, &paths, err);
    if (rc == CM_OK && !im->o.dry_run)
        rc = cm_lease_acquire(im->st, im->op, paths.lock, NULL, &lease, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_storage_stat(im->st, im->op, paths.key, &info, err);
    if (rc == CM_OK) {
        tell(im, file, CM_AUTOCERT_KEPT, "the storage has an account for this CA");
    } else if (rc == CM_E_NOTFOUND) {
        /* Whoever needs the account asks the CA for it by its key: for certmagic, too, one without
         * a status is still to be registered. */
        const struct cm_commit_item items[] = {
            { paths.json, cm_span_str("{\n\t\"status\": \"\"\n}"), false },
            { paths.key, pem, false },
        };

        rc = im->o.dry_run ? CM_OK : cm_lease_commit(lease, im->op, items, 2, err);
        if (rc == CM_OK)
            tell(im, file, CM_AUTOCERT_ACCOUNT, paths.key);
    }
    cm_lease_release(lease);
    return rc;
}

/* ------------------------------------------------------------- certificates */

/* When what lies at @key ends; 0: nothing usable does. */
static int64_t end_of(struct import *im, const char *key)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    int64_t end = 0;

    if (cm_storage_load(im->st, im->op, key, &pem, NULL) != CM_OK ||
        cm_chain_from_pem(cm_buf_span(&pem), &chain, NULL) != CM_OK)
        return 0;
    if (cm_leaf_parse(chain.der[0], &leaf, NULL) == CM_OK)
        end = leaf->not_after_s;
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return end;
}

/* Its lock is held. */
static cm_status store_pair(struct import *im, struct cm_lease *lease, const char *file,
                            const char *base, struct cm_span meta, const struct autocert_pair *p,
                            struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s.key", base);
    CM_AUTO_FREE char *crt = cm_asprintf("%s.crt", base);
    CM_AUTO_FREE char *json = cm_asprintf("%s.json", base);
    cm_status rc = CM_OK;

    if (key == NULL || crt == NULL || json == NULL)
        return cm_fail_nomem(err);
    const struct cm_commit_item items[] = {
        { key, cm_buf_span(&p->key_pem), false },
        { crt, cm_buf_span(&p->chain_pem), false },
        { json, meta, false },
    };
    if (end_of(im, crt) >= p->not_after_s) {
        tell(im, file, CM_AUTOCERT_KEPT, "the storage has one that lasts as long or longer");
        return CM_OK;
    }
    if (!im->o.dry_run)
        rc = cm_lease_commit(lease, im->op, items, CM_ARRAY_LEN(items), err);
    if (rc == CM_OK)
        tell(im, file, CM_AUTOCERT_CERTIFICATE, crt);
    return rc;
}

static cm_status import_pair(struct import *im, const char *file, const char *host,
                             const struct autocert_pair *p, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(4096);
    CM_AUTO_FREE char *base =
        cm_asprintf("certificates/%s/%s/%s", cm_buf_str(&im->issuer), host, host);
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;

    if (base == NULL)
        return cm_fail_nomem(err);
    cm_status rc = autocert_meta(host, &meta, err);
    if (rc == CM_OK)
        rc = cm_site_lock_name(host, cm_buf_span(&meta), (struct cm_span){ NULL, 0 }, lock, err);
    if (rc == CM_OK && !im->o.dry_run)
        rc = cm_lease_acquire(im->st, im->op, lock, NULL, &lease, err);
    if (rc != CM_OK)
        return rc;
    rc = store_pair(im, lease, file, base, cm_buf_span(&meta), p, err);
    cm_lease_release(lease);
    return rc;
}

static cm_status import_certificate(struct import *im, const char *file, bool rsa,
                                    struct cm_span blob, struct cm_err *err)
{
    size_t len = strlen(file) - (rsa ? sizeof AUTOCERT_RSA - 1 : 0);
    CM_AUTO_FREE char *name = cm_strndup(file, len);
    struct autocert_pair p = AUTOCERT_PAIR_INIT;
    struct cm_err why = CM_ERR_INIT;
    char host[CM_NAME_BUF];

    if (name == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_name_normalize(name, CM_NAME_ALLOW_UNDERSCORE, host, &why);
    if (rc == CM_OK && rsa && strcmp(host, im->last_ec) == 0) {
        tell(im, file, CM_AUTOCERT_LEFT, "there is an EC certificate for the name");
        return CM_OK;
    }
    if (rc == CM_OK)
        rc = autocert_blob_read(blob, host, rsa ? AUTOCERT_OF_RSA : AUTOCERT_EC,
                                cm_env_wall_s(cm_op_env(im->op)), &p, &why);
    if (rc == CM_E_NOMEM)
        return cm_fail_nomem(err);
    if (rc != CM_OK) {
        tell(im, file, CM_AUTOCERT_LEFT, why.msg);
        return CM_OK;
    }
    if (!rsa)
        memcpy(im->last_ec, host, strlen(host) + 1);
    rc = import_pair(im, file, host, &p, err);
    autocert_pair_free(&p);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "import '%s'", file);
}

/* --------------------------------------------------------------------- files */

static cm_status import_file(struct import *im, const char *file, bool has_account,
                             struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = cm_op_check(im->op, err);
    if (rc != CM_OK)
        return rc;
    if (ends(file, AUTOCERT_TOKEN) || ends(file, AUTOCERT_HTTP)) {
        tell(im, file, CM_AUTOCERT_LEFT, "the answer to a challenge, of no use to others");
        return CM_OK;
    }
    if (strcmp(file, AUTOCERT_ACCOUNT_OLD) == 0 && has_account) {
        tell(im, file, CM_AUTOCERT_LEFT, "there is a newer key, " AUTOCERT_ACCOUNT);
        return CM_OK;
    }
    rc = cm_autocert_cache_get(im->dir, im->op, file, &blob, &why);
    if (rc != CM_OK) {
        tell(im, file, CM_AUTOCERT_LEFT, why.msg);
        return rc == CM_E_NOMEM ? cm_fail_nomem(err) : CM_OK;
    }
    if (strcmp(file, AUTOCERT_ACCOUNT) == 0 || strcmp(file, AUTOCERT_ACCOUNT_OLD) == 0)
        return import_account(im, file, cm_buf_span(&blob), err);
    return import_certificate(im, file, ends(file, AUTOCERT_RSA), cm_buf_span(&blob), err);
}

struct files {
    char **name;
    size_t n, cap;
};

static void files_free(struct files *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->name[i]);
    free(f->name);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static cm_status add_file(struct files *f, const char *name, struct cm_err *err)
{
    if (f->n == FILES_MAX)
        return cm_fail(err, CM_E_LIMIT, "more than %u files", FILES_MAX);
    if (f->n == f->cap) {
        size_t cap = f->cap == 0 ? 64 : f->cap * 2;
        char **more = cm_realloc_array(f->name, cap, sizeof *more);

        if (more == NULL)
            return cm_fail_nomem(err);
        f->name = more;
        f->cap = cap;
    }
    f->name[f->n] = cm_strdup(name);
    if (f->name[f->n] == NULL)
        return cm_fail_nomem(err);
    f->n++;
    return CM_OK;
}

/* Sorted: a name comes before the same with "+rsa". Files that begin with a dot are nobody's. */
static cm_status list_files(const char *path, struct files *ret, struct cm_err *err)
{
    DIR *d = opendir(path);
    const struct dirent *e;
    cm_status rc = CM_OK;

    if (d == NULL)
        return cm_fail_errno(err, "open directory '%s'", path);
    errno = 0;
    while (rc == CM_OK && (e = readdir(d)) != NULL) { /* its stream is this thread's alone */
        if (e->d_name[0] != '.')
            rc = add_file(ret, e->d_name, err);
        errno = 0;
    }
    if (rc == CM_OK && errno != 0)
        rc = cm_fail_errno(err, "read directory '%s'", path);
    (void)closedir(d);
    if (ret->n > 0)
        qsort(ret->name, ret->n, sizeof *ret->name, by_text);
    return rc;
}

static cm_status import_all(struct import *im, const char *path, struct cm_err *err)
{
    struct files f = { NULL, 0, 0 };
    bool has_account = false;
    cm_status rc = list_files(path, &f, err);

    for (size_t i = 0; i < f.n; i++)
        has_account = has_account || strcmp(f.name[i], AUTOCERT_ACCOUNT) == 0;
    for (size_t i = 0; rc == CM_OK && i < f.n; i++)
        rc = import_file(im, f.name[i], has_account, err);
    files_free(&f);
    return rc;
}

static cm_status set_issuer(struct import *im, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf raw = CM_BUF_INIT(CM_STORAGE_KEY_MAX);
    const char *url = im->o.directory_url != NULL ? im->o.directory_url : CM_CA_LETSENCRYPT;

    cm_status rc = cm_issuer_key_from_url(url, &raw, err);
    return rc == CM_OK ? cm_safe_name(cm_buf_str(&raw), &im->issuer, err) : rc;
}

cm_status cm_autocert_import(const char *path, struct cm_storage *st, const struct cm_op *op,
                             const struct cm_autocert_import_options *opts,
                             struct cm_autocert_import_report *ret, struct cm_err *err)
{
    struct import im = { .st = st, .op = op, .issuer = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX) };

    if (path == NULL || path[0] == '\0' || st == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert import: no directory, or no storage");
    if (opts != NULL)
        memcpy(&im.o, opts, opts->size < sizeof im.o ? opts->size : sizeof im.o);
    cm_status rc = set_issuer(&im, err);
    if (rc == CM_OK)
        rc = cm_autocert_dircache(path, &im.dir, err);
    if (rc == CM_OK)
        rc = import_all(&im, path, err);
    cm_autocert_cache_free(im.dir);
    cm_buf_free(&im.issuer);
    if (rc == CM_OK && ret != NULL) {
        size_t size = ret->size < sizeof im.report ? ret->size : sizeof im.report;

        im.report.size = ret->size;
        memcpy(ret, &im.report, size);
    }
    return rc;
}
