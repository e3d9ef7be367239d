/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

/* Certificates in storage. Key and chain are separate objects that others replace one after the
 * other, and anyone with access to the storage may have put anything there: so a pair counts only
 * if it fits together and names what was asked for. The metadata is not needed to serve and is not
 * read here. */

#define RETRIES    3u
#define SETTLED_NS (60 * CM_NS_PER_S)

static cm_status load_text(struct cm_config *cfg, const struct cm_op *op, const char *base,
                           const char *dir, const char *suffix, struct cm_buf *ret,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s%s", base, dir, suffix);

    if (key == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_storage_load(cfg->storage, op, key, ret, err);
    cm_health_note(cfg, rc, err);
    return rc;
}

/* The error of a pair that cannot be used names the object at fault, for whoever has to mend it. */
static cm_status blame(struct cm_span crt, struct cm_span key, cm_status rc, const char *base,
                       const char *dir, struct cm_err *err)
{
    struct cm_chain chain = { .n = 0 };
    struct cm_key *parsed = NULL;
    struct cm_leaf *leaf = NULL;
    const char *which = ".key and .crt";

    if (cm_chain_from_pem(crt, &chain, NULL) != CM_OK ||
        cm_leaf_parse(chain.der[0], &leaf, NULL) != CM_OK)
        which = ".crt";
    else if (cm_key_from_pem(key, &parsed, NULL) != CM_OK)
        which = ".key";
    cm_key_unref(parsed);
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return cm_wrap(err, rc, "'%s/%s%s'", base, dir, which);
}

/* Signatures, and both halves of the key: what a flipped bit leaves intact to the eye. */
cm_status cm_store_check(const struct cm_cert *cert, struct cm_err *err)
{
    struct cm_chain chain = { .n = cm_cert_chain_len(cert) };
    struct cm_key *key = NULL;

    for (size_t i = 0; i < chain.n; i++)
        chain.der[i] = cm_cert_der(cert, i);
    cm_status rc = cm_cert_key(cert, &key, err);
    if (rc == CM_OK)
        rc = cm_chain_check(&chain, key, err);
    cm_key_unref(key);
    return rc;
}

static cm_status load_once(struct cm_config *cfg, const struct cm_op *op, const char *base,
                           const char *dir, const char *issuer_key, bool deep, struct cm_cert **ret,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_PEM_FILE_MAX);
    CM_AUTO_BUF struct cm_buf crt = CM_BUF_INIT(CM_PEM_FILE_MAX);
    struct cm_cert *cert = NULL;

    cm_status rc = load_text(cfg, op, base, dir, ".key", &key, err);
    if (rc == CM_OK)
        rc = load_text(cfg, op, base, dir, ".crt", &crt, err);
    if (rc != CM_OK)
        return rc; /* which names the object */
    rc = cm_cert_from_pem(cm_buf_span(&crt), cm_buf_span(&key), issuer_key, NULL, CM_CERT_MANAGED,
                          &cert, err);
    if (rc == CM_OK && deep)
        rc = cm_store_check(cert, err);
    if (rc != CM_OK) {
        cm_cert_unref(cert);
        return blame(cm_buf_span(&crt), cm_buf_span(&key), rc, base, dir, err);
    }
    *ret = cert;
    return CM_OK;
}

/* May a writer be between key and chain? Only if one of them is new. A backend that does not tell
 * the time may always be. Whoever judges wrongly here only takes what is there for damaged, and
 * looks again under the lock before anything is ordered. */
static bool is_settled(struct cm_config *cfg, const struct cm_op *op, const char *base,
                       const char *dir)
{
    static const char *const suffixes[] = { ".key", ".crt" };
    int64_t now_ns = cfg->env->wall_ns(cfg->env);

    for (size_t i = 0; i < CM_ARRAY_LEN(suffixes); i++) {
        CM_AUTO_FREE char *key = cm_asprintf("%s/%s%s", base, dir, suffixes[i]);
        struct cm_key_info info = { .modified_ns = 0 };

        if (key == NULL || cm_storage_stat(cfg->storage, op, key, &info, NULL) != CM_OK ||
            info.modified_ns == 0 || now_ns - info.modified_ns < SETTLED_NS)
            return false;
    }
    return true;
}

cm_status cm_store_load_dir(struct cm_config *cfg, const struct cm_op *op, const char *base,
                            const char *dir, const char *issuer_key, const char *const *names,
                            size_t n, bool deep, struct cm_cert **ret, struct cm_err *err)
{
    int64_t delay = 50 * CM_NS_PER_MS;
    struct cm_cert *cert = NULL;
    cm_status rc;

    for (unsigned attempt = 0;; attempt++, delay *= 3) {
        rc = load_once(cfg, op, base, dir, issuer_key, deep, &cert, err);
        if (!cm_status_is_damage(rc) || attempt == RETRIES || is_settled(cfg, op, base, dir))
            break;
        /* A writer may be between key and chain. */
        rc = cm_op_wait(op, delay, err);
        if (rc != CM_OK)
            break;
    }
    if (rc == CM_OK && !cm_cert_covers_all(cert, names, n)) {
        rc = cm_fail(err, CM_E_CERT, "'%s/%s.crt' is not for '%s' but for '%s'", base, dir,
                     names[0], cm_cert_name_count(cert) > 0 ? cm_cert_name(cert, 0) : "no name");
        cm_cert_unref(cert);
    }
    if (rc == CM_OK)
        *ret = cert;
    return rc;
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
                           const char *const *names, size_t n, bool deep, struct cm_cert **ret,
                           struct cm_err *err)
{
    int64_t now = cm_env_wall_s(cfg->env);
    struct cm_cert *best = NULL;
    struct cm_err first = CM_ERR_INIT;
    struct cm_err damage = CM_ERR_INIT;
    cm_status failed = CM_E_NOTFOUND;

    for (size_t i = 0; i < cfg->n_issuers; i++) {
        const char *issuer_key = cm_issuer_key(cfg->issuers[i]);
        struct cm_err why = CM_ERR_INIT;
        struct cm_cert *cert = NULL;
        char base[CM_KEY_BUF];

        cm_status rc = cm_path_cert(issuer_key, dir, NULL, base, &why);
        if (rc == CM_OK)
            rc = cm_store_load_dir(cfg, op, base, dir, issuer_key, names, n, deep, &cert, &why);
        if (rc == CM_OK && !deep && cm_revoked_is(cfg, cert, NULL)) {
            cm_cert_unref(cert); /* to be served: never again */
        } else if (rc == CM_OK && is_better(cert, best, now)) {
            cm_cert_unref(best);
            best = cert;
        } else if (rc == CM_OK) {
            cm_cert_unref(cert);
        } else if (cm_status_is_damage(rc)) {
            cm_logf(&cfg->log, CM_LOG_WARN, "stored_certificate_unusable", NULL, 0,
                    "%s; it is treated as absent", why.msg);
            damage = why;
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
    return cm_fail(err, CM_E_NOTFOUND, "storage %s has no usable certificate for '%s'%s%s",
                   cm_storage_describe(cfg->storage), dir, damage.msg[0] != '\0' ? ": " : "",
                   damage.msg);
}

/* CM_E_NOTFOUND if one half is absent, as a load of the pair has it. */
static cm_status pick_pair(struct cm_config *cfg, const struct cm_subject *s,
                           const char *issuer_key, const struct cm_loaded *key,
                           const struct cm_loaded *crt, struct cm_cert **ret)
{
    struct cm_cert *cert = NULL;

    if (key->status == CM_E_NOTFOUND || (key->status == CM_OK && crt->status == CM_E_NOTFOUND))
        return CM_E_NOTFOUND;
    if (key->status != CM_OK || crt->status != CM_OK ||
        cm_cert_from_pem(crt->value, key->value, issuer_key, NULL, CM_CERT_MANAGED, &cert, NULL) !=
            CM_OK)
        return CM_E_AGAIN;
    if (!cm_cert_covers_all(cert, s->names, s->n) || cm_revoked_is(cfg, cert, NULL)) {
        cm_cert_unref(cert);
        return CM_E_AGAIN;
    }
    *ret = cert;
    return CM_OK;
}

cm_status cm_store_pick(struct cm_config *cfg, const struct cm_subject *s,
                        const struct cm_loaded *at, struct cm_cert **ret)
{
    int64_t now = cm_env_wall_s(cfg->env);
    struct cm_cert *best = NULL;
    bool odd = false;

    for (size_t i = 0; i < cfg->n_issuers && !odd; i++) {
        struct cm_cert *cert = NULL;
        cm_status rc =
            pick_pair(cfg, s, cm_issuer_key(cfg->issuers[i]), &at[2 * i], &at[2 * i + 1], &cert);

        if (rc == CM_OK && is_better(cert, best, now)) {
            cm_cert_unref(best);
            best = cert;
        } else if (rc == CM_OK) {
            cm_cert_unref(cert);
        }
        odd = rc == CM_E_AGAIN;
    }
    if (best != NULL && !odd && cm_cert_is_valid_at(best, now, CM_CERT_SKEW_S)) {
        *ret = best;
        return CM_OK;
    }
    cm_cert_unref(best);
    return best != NULL || odd ? CM_E_AGAIN : CM_E_NOTFOUND;
}

cm_status cm_store_load(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                        enum cm_load_want want, struct cm_cert **ret, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    cm_status rc = load_best(cfg, op, s->dir, s->names, s->n, want == CM_LOAD_NEWEST, &cert, err);
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
                          const struct cm_commit_item *more, size_t n_more, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(2 * CM_META_MAX);
    char paths[4][CM_KEY_BUF];
    /* In this order for readers that do not verify the pair: it is certmagic's. */
    struct cm_commit_item items[4 + CM_STORE_MORE] = { { NULL, { NULL, 0 }, false } };

    CM_ASSERT(n_more <= CM_STORE_MORE);
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
    for (size_t i = 0; i < n_more; i++)
        items[4 + i] = more[i];
    return cm_lease_commit(lease, op, items, 4 + n_more, err);
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
    if ((rc == CM_E_NOTFOUND || rc == CM_E_INVAL) && cm_store_is_dir(name)) {
        /* A list of storage shows directories: "wildcard_.example.com", "a.exampleb.example". */
        struct cm_err other = CM_ERR_INIT;

        cm_subject_free(s);
        s = NULL;
        if (load_best(cfg, op, name, NULL, 0, true, &cert, &other) == CM_OK) {
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
