/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <stdio.h>

/* One root and one intermediate for the whole test program. */
static struct cm_key *ca_key;
static struct cm_buf ca_der = CM_BUF_INIT(CM_CERT_DER_MAX);
static pthread_once_t ca_once = PTHREAD_ONCE_INIT;

static void free_ca(void)
{
    cm_key_unref(ca_key);
    cm_buf_free(&ca_der);
}

static void make_ca(void)
{
    struct cm_key *root_key = NULL;
    struct cm_buf root_der = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_err err;

    ck_ok(
        cm_ca_make_root("Kit Root", START_S - 3600 * 24 * 400, 36500, &root_key, &root_der, &err));
    ck_ok(cm_ca_make_intermediate("Kit CA", root_key, cm_buf_span(&root_der),
                                  START_S - 3600 * 24 * 400, 36000, &ca_key, &ca_der, &err));
    cm_key_unref(root_key);
    cm_buf_free(&root_der);
    (void)atexit(free_ca);
}

static cm_status sign(struct cm_span csr, const char *const *names, size_t n, int64_t from_s,
                      int64_t lifetime_s, struct cm_buf *chain_pem, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);

    (void)pthread_once(&ca_once, make_ca);
    cm_status rc =
        cm_ca_sign_csr(ca_key, cm_buf_span(&ca_der), csr, names, n, from_s, lifetime_s, &leaf, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&leaf), chain_pem, err);
    return rc == CM_OK ? cm_cert_der_to_pem(cm_buf_span(&ca_der), chain_pem, err) : rc;
}

void kit_make_pair(enum cm_pk type, const char *const *names, size_t n, int64_t from_s,
                   int64_t lifetime_s, struct cm_buf *chain_pem, struct cm_buf *key_pem)
{
    CM_AUTO_BUF struct cm_buf csr = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_key *key = NULL;
    struct cm_err err;

    ck_ok(cm_key_generate(type, &key, &err));
    ck_ok(cm_csr_make(key, names, n, false, &csr, &err));
    ck_ok(sign(cm_buf_span(&csr), names, n, from_s, lifetime_s, chain_pem, &err));
    ck_ok(cm_key_to_pem(key, key_pem, &err));
    cm_key_unref(key);
}

struct cm_cert *kit_hollow(const char *const *names, size_t n, int64_t from_s, unsigned flags)
{
    static uint32_t serial;
    static struct cm_key *key;
    struct cm_chain chain = { .n = 1, .der = { { (const uint8_t *)&serial, sizeof serial } } };
    struct cm_leaf leaf = { .names = (char **)(uintptr_t)names,
                            .n_names = n,
                            .not_before_s = from_s,
                            .not_after_s = from_s + 86400,
                            .key_type = CM_PK_P256 };
    struct cm_cert *c = NULL;
    struct cm_err err;

    if (key == NULL)
        ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    serial++;
    const struct cm_cert_parts parts = { &chain, &leaf, key, "ca", NULL, flags };
    ck_ok(cm_cert_new(&parts, &c, &err));
    return c;
}

void kit_store_pair(struct cm_storage *st, const char *issuer_key, const char *name, int64_t from_s,
                    int64_t lifetime_s)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(CM_META_MAX);
    struct cm_subject *s = NULL;
    char path[CM_KEY_BUF];
    struct cm_err err;

    ck_ok(cm_subject_new(&name, 1, &s, &err));
    kit_make_pair(CM_PK_P256, s->names, 1, from_s, lifetime_s, &chain, &key);
    ck_ok(cm_meta_format(s->names, 1, cm_span_str(""), &meta, &err));
    ck_ok(cm_path_cert(issuer_key, s->dir, ".key", path, &err));
    kit_put(st, path, cm_buf_str(&key));
    ck_ok(cm_path_cert(issuer_key, s->dir, ".crt", path, &err));
    kit_put(st, path, cm_buf_str(&chain));
    ck_ok(cm_path_cert(issuer_key, s->dir, ".json", path, &err));
    kit_put(st, path, cm_buf_str(&meta));
    cm_subject_free(s);
}

/* ---- issuer ---- */

struct kit_issuer *kit_issuer_of(struct cm_issuer *is)
{
    return CM_CONTAINER_OF(is, struct kit_issuer, base);
}

static const char *is_key(struct cm_issuer *base)
{
    return kit_issuer_of(base)->key;
}

static cm_status is_precheck(struct cm_issuer *base, const char *const *names, size_t n,
                             struct cm_err *err)
{
    struct kit_issuer *is = kit_issuer_of(base);

    (void)atomic_fetch_add(&is->prechecks, 1);
    for (size_t i = 0; i < n; i++)
        if (is->refuse != NULL && strstr(names[i], is->refuse) != NULL)
            return cm_fail(err, CM_E_POLICY, "%s does not certify '%s'", is->key, names[i]);
    return CM_OK;
}

static cm_status held_up(struct kit_issuer *is, const struct cm_op *op, struct cm_err *err)
{
    cm_status rc = CM_OK;

    while (rc == CM_OK && atomic_load(&is->hold)) {
        kit_nap();
        rc = cm_op_check(op, err);
    }
    return rc;
}

/* What was asked for last; several may ask at once. */
static void note(struct kit_issuer *is, const struct cm_issue_request *req)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    cm_mutex_lock(&lock);
    cm_sha256(req->csr_der, is->last_csr);
    (void)snprintf(is->last_replaces, sizeof is->last_replaces, "%s",
                   req->replaces != NULL ? req->replaces : "");
    (void)snprintf(is->last_account, sizeof is->last_account, "%s",
                   req->replaces_account != NULL ? req->replaces_account : "");
    is->last = *req;
    if (req->resume.len > 0)
        (void)snprintf(is->last_resume, sizeof is->last_resume, "%.*s", (int)req->resume.len,
                       (const char *)req->resume.data);
    cm_mutex_unlock(&lock);
}

static cm_status do_issue(struct kit_issuer *is, const struct cm_op *op,
                          const struct cm_issue_request *req, struct cm_issued *ret,
                          struct cm_err *err)
{
    char state[160];
    int step = atomic_load(&is->step);
    cm_status rc;

    note(is, req);
    (void)atomic_fetch_add(&is->asked, 1);
    rc = is->on_asked != NULL ? is->on_asked(is, err) : CM_OK;
    if (rc != CM_OK)
        return rc;
    if (is->already_replaced && req->replaces != NULL) {
        if (is->on_replaced != NULL)
            is->on_replaced(is);
        return cm_fail(err, CM_E_EXISTS, "%s has replaced that already", is->key);
    }
    if (step == KIT_FAIL_BEFORE) {
        (void)atomic_fetch_add(&is->failed, 1);
        (void)cm_fail(err, is->fail_status, "%s does not feel like it", is->key);
        err->whole_ca = is->fail_whole_ca;
        err->retry_after_s = is->fail_retry_after_s;
        return is->fail_status;
    }
    if (req->resume.len > 0) {
        (void)atomic_fetch_add(&is->resumed, 1);
    } else {
        unsigned order = atomic_fetch_add(&is->orders, 1) + 1;

        (void)snprintf(state, sizeof state, "%s order %u", is->key, order);
        rc = req->checkpoint(req->user, op, cm_span_str(state), err);
        if (rc != CM_OK)
            return rc;
    }
    if (req->progress != NULL)
        req->progress(req->user, CM_PHASE_VALIDATING);
    if (is->on_issue != NULL)
        is->on_issue(is);
    rc = held_up(is, op, err);
    if (rc == CM_OK)
        rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return rc;
    if (step == KIT_CRASH_AFTER_CHECKPOINT || step == KIT_FAIL_AFTER_CHECKPOINT)
        return cm_fail(err, step == KIT_FAIL_AFTER_CHECKPOINT ? is->fail_status : CM_E_NET,
                       "the line to %s went dead", is->key);
    int64_t from = START_S + atomic_load(&is->env->elapsed_ns) / CM_NS_PER_S;
    from += is->not_before_ahead_s;
    if (is->wrong_name != NULL) {
        CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

        kit_make_pair(CM_PK_P256, &is->wrong_name, 1, from, is->lifetime_s, &ret->chain_pem, &key);
        return CM_OK;
    }
    rc = sign(req->csr_der, req->names, req->n_names, from, is->lifetime_s, &ret->chain_pem, err);
    if (rc == CM_OK && is->issuer_data != NULL)
        rc = cm_buf_puts(&ret->issuer_data, is->issuer_data, err);
    if (rc == CM_OK)
        (void)atomic_fetch_add(&is->issued, 1);
    return rc;
}

static cm_status is_issue(struct cm_issuer *base, const struct cm_op *op,
                          const struct cm_issue_request *req, struct cm_issued *ret,
                          struct cm_err *err)
{
    struct kit_issuer *is = kit_issuer_of(base);
    unsigned inside = atomic_fetch_add(&is->inside, 1) + 1;
    unsigned most = atomic_load(&is->most_inside);

    while (inside > most && !atomic_compare_exchange_weak(&is->most_inside, &most, inside))
        continue;
    cm_status rc = do_issue(is, op, req, ret, err);
    (void)atomic_fetch_sub(&is->inside, 1);
    return rc;
}

static cm_status is_revoke(struct cm_issuer *base, const struct cm_op *op, struct cm_span leaf,
                           int reason, struct cm_err *err)
{
    (void)op;
    (void)leaf;
    (void)reason;
    if (atomic_load(&kit_issuer_of(base)->step) == KIT_FAIL_BEFORE)
        return cm_fail(err, CM_E_ACME, "not revoked");
    (void)atomic_fetch_add(&kit_issuer_of(base)->revoked, 1);
    return CM_OK;
}

static cm_status is_renewal_info(struct cm_issuer *base, const struct cm_op *op,
                                 struct cm_span leaf, struct cm_renewal_info *ret,
                                 struct cm_err *err)
{
    struct kit_issuer *is = kit_issuer_of(base);
    int rc = atomic_load(&is->ari_status);

    (void)op;
    (void)leaf;
    (void)atomic_fetch_add(&is->ari_asked, 1);
    if (is->on_ari != NULL)
        is->on_ari(is);
    if (rc != CM_OK) {
        (void)cm_fail(err, (cm_status)rc, "%s suggests nothing", is->key);
        err->whole_ca = is->ari_err.whole_ca;
        err->retry_after_s = is->ari_err.retry_after_s;
        return (cm_status)rc;
    }
    *ret = is->ari;
    return CM_OK;
}

static const char *is_prefix(struct cm_issuer *base, unsigned index)
{
    const struct kit_issuer *is = kit_issuer_of(base);

    return index == 0 && !is->no_prefix ? is->prefix : NULL;
}

static void is_limits(struct cm_issuer *base, struct cm_issuer_limits *ret)
{
    if (kit_issuer_of(base)->limits.events > 0)
        *ret = kit_issuer_of(base)->limits;
}

static void is_destroy(struct cm_issuer *base)
{
    free(kit_issuer_of(base));
}

static void is_stop(struct cm_issuer *base)
{
    struct kit_issuer *is = kit_issuer_of(base);

    ck_assert(!is->stopped);
    is->stopped = true;
    if (is->on_stop != NULL)
        is->on_stop(is);
}

static cm_status is_clean(struct cm_issuer *base, const struct cm_op *op, struct cm_err *err)
{
    struct kit_issuer *is = kit_issuer_of(base);

    return is->on_clean != NULL ? is->on_clean(op, err) : CM_OK;
}

static const struct cm_issuer_ops kit_issuer_ops = { .abi = CM_SPI_ABI,
                                                     .size = (uint32_t)sizeof kit_issuer_ops,
                                                     .name = "kit",
                                                     .key = is_key,
                                                     .precheck = is_precheck,
                                                     .issue = is_issue,
                                                     .revoke = is_revoke,
                                                     .challenge_prefix = is_prefix,
                                                     .destroy = is_destroy,
                                                     .limits = is_limits,
                                                     .stop = is_stop,
                                                     .clean = is_clean };

void kit_issuer_suggests(struct kit_issuer *is)
{
    static struct cm_issuer_ops ops;

    ops = kit_issuer_ops;
    ops.renewal_info = is_renewal_info;
    is->base.ops = &ops;
}

struct cm_issuer *kit_issuer_new(struct kit_env *e, const char *key)
{
    struct kit_issuer *is = calloc(1, sizeof *is);

    ck_assert_ptr_nonnull(is);
    is->base.ops = &kit_issuer_ops;
    is->env = e;
    is->lifetime_s = 90 * 24 * 3600;
    is->fail_status = CM_E_ACME;
    atomic_init(&is->ari_status, CM_E_UNSUPPORTED);
    (void)snprintf(is->key, sizeof is->key, "%s", key);
    (void)snprintf(is->prefix, sizeof is->prefix, "acme/%s", key);
    return &is->base;
}

/* lib/core names these constructors; the tests bring their own issuers. */
cm_status cm_acme_issuer_new(const struct cm_acme_options *opts, struct cm_issuer **ret,
                             struct cm_err *err)
{
    (void)opts;
    (void)ret;
    return cm_fail(err, CM_E_POLICY, "no ACME in this test");
}

cm_status cm_internal_issuer_new(const struct cm_internal_options *opts, struct cm_issuer **ret,
                                 struct cm_err *err)
{
    (void)opts;
    (void)ret;
    return cm_fail(err, CM_E_UNSUPPORTED, "no local CA in this test");
}

static void no_fetcher_destroy(struct cm_fetcher *f)
{
    (void)f;
}

static cm_status no_fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                          int *ret_http_status, struct cm_buf *ret_body, struct cm_err *err)
{
    (void)f;
    (void)op;
    (void)ret_http_status;
    (void)ret_body;
    return cm_fail(err, CM_E_NET, "no network in this test: %s", req->url);
}

cm_status cm_http_fetcher_new(const struct cm_http_fetcher_options *opts, struct cm_fetcher **ret,
                              struct cm_err *err)
{
    static const struct cm_fetcher_ops ops = { .abi = CM_SPI_ABI,
                                               .size = (uint32_t)sizeof ops,
                                               .name = "none",
                                               .fetch = no_fetch,
                                               .destroy = no_fetcher_destroy };
    static struct cm_fetcher none = { &ops };

    (void)opts;
    (void)err;
    *ret = &none;
    return CM_OK;
}
