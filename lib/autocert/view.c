/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <string.h>

/* The storage of one config of a manager: memory, with the cache behind it. What is to outlive the
 * process goes into the cache as it is stored; what others put there is taken when the lock of its
 * name is, so that an order is made only if nobody has made it. */

#define CERTS     "certificates/"
#define JOURNAL   "certmesh/journal/"
#define RSA_DIR   "rsa/"
#define LOCK      "issue_cert_"
#define LOCK_NS   (60 * CM_NS_PER_S)
#define TOKEN_MAX (16u * 1024)

struct view {
    struct cm_storage base;
    struct autocert_view_options o;
    char *issuer; /* Safe(issuer key); set once, before anything is ordered */
};

static struct view *view_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct view, base);
}

/* ------------------------------------------------------------------ places */

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), w = strlen(with);

    return n >= w && strcmp(s + n - w, with) == 0;
}

/* Is @key, or a prefix for lists, among what each view has for itself? */
static bool is_apart(const struct view *v, const char *key)
{
    static const char *const own[] = { CERTS, JOURNAL };

    for (size_t i = 0; v->o.rsa && i < CM_ARRAY_LEN(own); i++)
        if (begins(key, own[i]) || strncmp(key, own[i], strlen(own[i]) - 1) == 0)
            return true;
    return false;
}

/* Where @key lies inside, in @buf if that is another place. */
static cm_status place(const struct view *v, const char *key, char buf[CM_STORAGE_KEY_MAX + 1],
                       const char **ret, struct cm_err *err)
{
    size_t len = strlen(key);

    *ret = key;
    if (!is_apart(v, key))
        return CM_OK;
    if (sizeof RSA_DIR - 1 + len > CM_STORAGE_KEY_MAX)
        return cm_fail(err, CM_E_LIMIT, "storage key '%.64s...' is too long", key);
    memcpy(buf, RSA_DIR, sizeof RSA_DIR - 1);
    memcpy(buf + sizeof RSA_DIR - 1, key, len + 1);
    *ret = buf;
    return CM_OK;
}

/* The one name that a certificate's part at @key, or a lock, is for. */
static bool host_of(const char *key, size_t len, char ret[CM_NAME_BUF])
{
    if (len == 0 || len > CM_NAME_MAX || memchr(key, '*', len) != NULL ||
        memchr(key, ',', len) != NULL)
        return false;
    memcpy(ret, key, len);
    ret[len] = '\0';
    return true;
}

/* "certificates/ISSUER/HOST/HOST.crt" */
static bool host_of_part(const char *key, const char *suffix, char ret[CM_NAME_BUF])
{
    const char *leaf = strrchr(key, '/');

    return begins(key, CERTS) && ends(key, suffix) && leaf != NULL &&
           host_of(leaf + 1, strlen(leaf + 1) - strlen(suffix), ret);
}

static void blob_name(const struct view *v, const char *host, char ret[AUTOCERT_NAME_BUF])
{
    size_t n = strlen(host);

    memcpy(ret, host, n + 1);
    if (v->o.rsa)
        memcpy(ret + n, AUTOCERT_RSA, sizeof AUTOCERT_RSA);
}

/* ------------------------------------------------------------- to the cache */

static void tell(const struct view *v, const char *event, const char *name, const char *what,
                 const struct cm_err *why)
{
    const struct cm_log_field f[] = { { "name", name }, { "error", why->msg } };

    cm_logf(&v->o.log, CM_LOG_WARN, event, f, CM_ARRAY_LEN(f), "%s '%s': %s", what, name, why->msg);
}

/* The certificate is served by this process whatever comes of it. */
static void put_pair(const struct view *v, const struct cm_op *op, const char *host,
                     struct cm_span key_pem, struct cm_span chain_pem)
{
    CM_AUTO_BUF struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_err why = CM_ERR_INIT;
    char name[AUTOCERT_NAME_BUF];

    blob_name(v, host, name);
    cm_status rc = autocert_blob_write(key_pem, chain_pem, &blob, &why);
    if (rc == CM_OK)
        rc = cm_autocert_cache_put(v->o.cache, op, name, cm_buf_span(&blob), &why);
    if (rc != CM_OK)
        tell(v, "autocert_cache", name, "cannot put into the autocert cache", &why);
}

static const struct cm_commit_item *find_item(const struct cm_commit_item *items, size_t n,
                                              const char *host, const char *suffix)
{
    char of[CM_NAME_BUF];

    for (size_t i = 0; i < n; i++)
        if (!items[i].remove && host_of_part(items[i].key, suffix, of) && strcmp(of, host) == 0)
            return &items[i];
    return NULL;
}

static void put_account(const struct view *v, const struct cm_op *op, struct cm_span pem)
{
    struct cm_err why = CM_ERR_INIT;

    if (cm_autocert_cache_put(v->o.cache, op, AUTOCERT_ACCOUNT, pem, &why) != CM_OK)
        tell(v, "autocert_cache", AUTOCERT_ACCOUNT, "cannot put into the autocert cache", &why);
}

static bool is_account_key(const char *key)
{
    return begins(key, "acme/") && strstr(key, "/users/") != NULL && ends(key, ".key");
}

static bool is_token(const char *key)
{
    return strstr(key, "/challenge_tokens/") != NULL && ends(key, ".json");
}

/* What was stored just now, as the cache keeps it. */
static void pass_on(const struct view *v, const struct cm_op *op,
                    const struct cm_commit_item *items, size_t n)
{
    char host[CM_NAME_BUF];

    for (size_t i = 0; v->o.cache != NULL && i < n; i++) {
        const struct cm_commit_item *it = &items[i];
        const struct cm_commit_item *key;

        if (it->remove)
            continue;
        if (is_account_key(it->key))
            put_account(v, op, it->value);
        else if (is_token(it->key))
            autocert_token_put(v->o.cache, v->o.env, &v->o.log, op, it->value);
        else if (host_of_part(it->key, ".crt", host) &&
                 (key = find_item(items, n, host, ".key")) != NULL)
            put_pair(v, op, host, key->value, it->value);
    }
}

/* Before @key goes: what the cache has of it goes, too. */
static void pass_removal(const struct view *v, const struct cm_op *op, const char *key)
{
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(TOKEN_MAX);
    char host[CM_NAME_BUF], name[AUTOCERT_NAME_BUF];
    struct cm_err why = CM_ERR_INIT;

    if (v->o.cache == NULL)
        return;
    if (is_token(key)) {
        if (cm_storage_load(v->o.inner, op, key, &json, NULL) == CM_OK)
            autocert_token_remove(v->o.cache, op, cm_buf_span(&json));
    } else if (host_of_part(key, ".crt", host)) {
        blob_name(v, host, name);
        if (cm_autocert_cache_remove(v->o.cache, op, name, &why) != CM_OK)
            tell(v, "autocert_cache", name, "cannot remove from the autocert cache", &why);
    }
}

/* ----------------------------------------------------------- from the cache */

/* Is what the view has for @host as good as @p? */
static bool has_newer(const struct view *v, const struct cm_op *op, const char *base,
                      const char *host, const struct autocert_pair *p)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s.crt", base, host);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    bool newer = false;

    if (key != NULL && cm_storage_load(v->o.inner, op, key, &pem, NULL) == CM_OK &&
        cm_chain_from_pem(cm_buf_span(&pem), &chain, NULL) == CM_OK) {
        if (cm_leaf_parse(chain.der[0], &leaf, NULL) == CM_OK)
            newer = leaf->not_after_s >= p->not_after_s;
        cm_leaf_free(leaf);
        cm_chain_free(&chain);
    }
    return newer;
}

static cm_status take_pair(const struct view *v, const struct cm_op *op,
                           const struct cm_grant *grant, const char *host,
                           const struct autocert_pair *p, struct cm_err *err)
{
    CM_AUTO_FREE char *base =
        cm_asprintf("%s" CERTS "%s/%s", v->o.rsa ? RSA_DIR : "", v->issuer, host);
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s.key", base, host);
    CM_AUTO_FREE char *crt = cm_asprintf("%s/%s.crt", base, host);
    CM_AUTO_FREE char *json = cm_asprintf("%s/%s.json", base, host);
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(4096);

    if (base == NULL || key == NULL || crt == NULL || json == NULL)
        return cm_fail_nomem(err);
    if (has_newer(v, op, base, host, p))
        return CM_OK;
    cm_status rc = autocert_meta(host, &meta, err);
    if (rc != CM_OK)
        return rc;
    const struct cm_commit_item items[] = {
        { key, cm_buf_span(&p->key_pem), false },
        { crt, cm_buf_span(&p->chain_pem), false },
        { json, cm_buf_span(&meta), false },
    };
    return cm_storage_commit(v->o.inner, op, grant, items, CM_ARRAY_LEN(items), err);
}

/* The lock of @host is held by @grant. What is of no use counts as missing. */
static cm_status fetch(const struct view *v, const struct cm_op *op, const struct cm_grant *grant,
                       const char *host, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct autocert_pair p = AUTOCERT_PAIR_INIT;
    struct cm_err why = CM_ERR_INIT;
    char name[AUTOCERT_NAME_BUF];

    if (v->o.cache == NULL || v->issuer == NULL)
        return CM_OK;
    blob_name(v, host, name);
    cm_status rc = cm_autocert_cache_get(v->o.cache, op, name, &blob, err);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc != CM_OK)
        return cm_wrap(err, rc, "autocert cache, '%s'", name);
    rc = autocert_blob_read(cm_buf_span(&blob), host, v->o.rsa ? AUTOCERT_OF_RSA : AUTOCERT_EC,
                            cm_env_wall_s(v->o.env), &p, &why);
    if (rc == CM_OK) {
        rc = take_pair(v, op, grant, host, &p, err);
        autocert_pair_free(&p);
        return rc;
    }
    if (rc == CM_E_NOMEM)
        return cm_fail_nomem(err);
    tell(v, "autocert_blob", name, "the autocert cache has no use of", &why);
    return CM_OK;
}

cm_status autocert_view_fetch(struct cm_storage *view, const struct cm_op *op, const char *host,
                              struct cm_err *err)
{
    CM_AUTO_FREE char *lock = cm_asprintf(LOCK "%s", host);
    struct cm_grant grant;
    struct cm_err busy = CM_ERR_INIT;

    if (lock == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_storage_try_lock(view, op, lock, LOCK_NS, &grant, NULL, &busy);
    if (rc == CM_E_BUSY) /* whoever has it has looked */
        return CM_OK;
    if (rc != CM_OK) {
        if (err != NULL)
            *err = busy;
        return rc;
    }
    return cm_storage_unlock(view, op, &grant, err);
}

cm_status autocert_view_issuer(struct cm_storage *view, const char *raw, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);
    struct view *v = view_of(view);
    cm_status rc = cm_safe_name(raw, &safe, err);

    if (rc != CM_OK)
        return rc;
    v->issuer = cm_strdup(cm_buf_str(&safe));
    return v->issuer != NULL ? CM_OK : cm_fail_nomem(err);
}

/* --------------------------------------------------------------------- ops */

static cm_status view_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                            struct cm_span value, struct cm_err *err)
{
    const struct cm_commit_item item = { key, value, false };
    char buf[CM_STORAGE_KEY_MAX + 1];
    const struct view *v = view_of(st);
    const char *at;

    cm_status rc = place(v, key, buf, &at, err);
    if (rc == CM_OK)
        rc = cm_storage_store(v->o.inner, op, at, value, err);
    if (rc == CM_OK)
        pass_on(v, op, &item, 1);
    return rc;
}

static cm_status view_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_buf *ret, struct cm_err *err)
{
    char buf[CM_STORAGE_KEY_MAX + 1];
    const struct view *v = view_of(st);
    const char *at;

    cm_status rc = place(v, key, buf, &at, err);
    return rc == CM_OK ? cm_storage_load(v->o.inner, op, at, ret, err) : rc;
}

static cm_status view_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                             struct cm_err *err)
{
    char buf[CM_STORAGE_KEY_MAX + 1];
    const struct view *v = view_of(st);
    const char *at;

    cm_status rc = place(v, key, buf, &at, err);
    if (rc != CM_OK)
        return rc;
    pass_removal(v, op, key);
    return cm_storage_remove(v->o.inner, op, at, err);
}

static cm_status view_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                           struct cm_key_info *ret, struct cm_err *err)
{
    char buf[CM_STORAGE_KEY_MAX + 1];
    const struct view *v = view_of(st);
    const char *at;

    cm_status rc = place(v, key, buf, &at, err);
    if (rc == CM_OK)
        rc = cm_storage_stat(v->o.inner, op, at, ret, err);
    if (rc == CM_OK)
        ret->key = key;
    return rc;
}

struct listing {
    cm_list_fn each;
    void *user;
    size_t skip;
};

static cm_status list_one(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    const struct listing *l = user;
    struct cm_key_info shown = *info;

    shown.key += l->skip;
    return l->each(l->user, &shown, err);
}

static cm_status view_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                           bool recursive, cm_list_fn each, void *user, struct cm_err *err)
{
    char buf[CM_STORAGE_KEY_MAX + 1];
    const struct view *v = view_of(st);
    struct listing l = { each, user, 0 };
    const char *at;

    cm_status rc = place(v, prefix, buf, &at, err);
    if (rc != CM_OK)
        return rc;
    l.skip = at == prefix ? 0 : sizeof RSA_DIR - 1;
    return cm_storage_list(v->o.inner, op, at, recursive, list_one, &l, err);
}

static cm_status view_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                               int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                               struct cm_err *err)
{
    const struct view *v = view_of(st);
    char host[CM_NAME_BUF];

    cm_status rc = cm_storage_try_lock(v->o.inner, op, name, ttl_ns, ret, ret_wait_ns, err);
    if (rc != CM_OK || !begins(name, LOCK) ||
        !host_of(name + sizeof LOCK - 1, strlen(name + sizeof LOCK - 1), host))
        return rc;
    rc = fetch(v, op, ret, host, err);
    if (rc != CM_OK) /* no order while it is not known what others have */
        (void)!cm_storage_unlock(v->o.inner, op, ret, NULL);
    return rc;
}

static cm_status view_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                              struct cm_err *err)
{
    return cm_storage_refresh(view_of(st)->o.inner, op, grant, err);
}

static cm_status view_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                             struct cm_err *err)
{
    return cm_storage_unlock(view_of(st)->o.inner, op, grant, err);
}

static void view_drop(struct cm_storage *st, struct cm_grant *grant)
{
    cm_storage_drop(view_of(st)->o.inner, grant);
}

/* The key of an account that is about to be made. */
static bool is_new_account(const struct cm_commit_item *it)
{
    return !it->remove && begins(it->key, "certmesh/acme/") && ends(it->key, ".pending");
}

static cm_status view_commit(struct cm_storage *st, const struct cm_op *op,
                             const struct cm_grant *grant, const struct cm_commit_item *items,
                             size_t n, struct cm_err *err)
{
    const struct view *v = view_of(st);
    CM_AUTO_FREE struct cm_commit_item *inner = cm_calloc(n, sizeof *inner);
    CM_AUTO_FREE char *places = cm_calloc(n, CM_STORAGE_KEY_MAX + 1);
    cm_status rc = CM_OK;

    if (inner == NULL || places == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        inner[i] = items[i];
        rc = place(v, items[i].key, places + i * (CM_STORAGE_KEY_MAX + 1), &inner[i].key, err);
        if (rc == CM_OK && is_new_account(&items[i]))
            rc = v->o.agree(v->o.user, op, err);
    }
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        if (items[i].remove)
            pass_removal(v, op, items[i].key);
    if (rc == CM_OK)
        rc = cm_storage_commit(v->o.inner, op, grant, inner, n, err);
    if (rc == CM_OK)
        pass_on(v, op, items, n);
    return rc;
}

static const char *view_describe(struct cm_storage *st)
{
    const struct view *v = view_of(st);

    return v->o.cache != NULL ? "autocert cache" : "memory";
}

static void view_destroy(struct cm_storage *st)
{
    struct view *v = view_of(st);

    free(v->issuer);
    free(v);
}

static const struct cm_storage_ops view_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_storage_ops),
    .name = "autocert",
    .store = view_store,
    .load = view_load,
    .remove = view_remove,
    .stat = view_stat,
    .list = view_list,
    .try_lock = view_try_lock,
    .refresh = view_refresh,
    .unlock = view_unlock,
    .drop = view_drop,
    .commit = view_commit,
    .describe = view_describe,
    .destroy = view_destroy,
};

cm_status autocert_view_new(const struct autocert_view_options *opts, struct cm_storage **ret,
                            struct cm_err *err)
{
    struct view *v = cm_calloc(1, sizeof *v);

    if (v == NULL)
        return cm_fail_nomem(err);
    v->base.ops = &view_ops;
    v->o = *opts;
    *ret = &v->base;
    return CM_OK;
}
