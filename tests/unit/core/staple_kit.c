/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "staple_kit.h"

static struct cm_err err;

/* -------------------------------------------------------------------- responder */

void make_response(struct world *w, const struct ok_response *want, struct cm_buf *ret)
{
    struct ok_response full = *want;

    full.leaf = cm_cert_der(w->cert, 0);
    full.ca = &w->ca;
    full.now_s = now_s(w);
    if (full.this_s != 0 && full.produced_s == 0)
        full.produced_s = full.this_s;
    ok_response_make(&full, ret);
}

static cm_status answer(struct responder *r, const struct cm_fetch *req, int *ret_http_status,
                        struct cm_err *e)
{
    static const char garbage[] = "<html>maintenance</html>";

    *ret_http_status = 200;
    if (strcmp(req->method, "GET") == 0) {
        (void)atomic_fetch_add(&r->gets, 1);
        if (r->cert.data == NULL)
            return cm_fail(e, CM_E_NET, "the line is dead");
        return cm_buf_append(&r->last, r->cert.data, r->cert.len, e);
    }
    switch (r->mode) {
    case ANSWER_OCSP:
        make_response(r->w, &r->want, &r->last);
        return CM_OK;
    case ANSWER_GARBAGE:
        return cm_buf_append(&r->last, garbage, sizeof garbage, e);
    case ANSWER_CANNED:
        return cm_buf_append(&r->last, r->canned.data, r->canned.len, e);
    case ANSWER_EMPTY:
        return CM_OK;
    case ANSWER_LATER:
    case ANSWER_UNAUTHORIZED:
        ok_refusal_make(r->mode == ANSWER_LATER ? 3 : 6, &r->last);
        return CM_OK;
    case ANSWER_500:
        *ret_http_status = 500;
        make_response(r->w, &r->want, &r->last);
        return CM_OK;
    case ANSWER_NET:
        return cm_fail(e, CM_E_NET, "the line is dead");
    case ANSWER_TOO_LONG:
        return cm_fail(e, CM_E_LIMIT, "more than %zu bytes", req->max_body);
    }
    return CM_E_INTERNAL;
}

static cm_status fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                       int *ret_http_status, struct cm_buf *ret_body, struct cm_err *e)
{
    struct responder *r = CM_CONTAINER_OF(f, struct responder, base);

    (void)op;
    (void)atomic_fetch_add(&r->calls, strcmp(req->method, "POST") == 0);
    (void)snprintf(r->last_url, sizeof r->last_url, "%s", req->url);
    (void)snprintf(r->last_method, sizeof r->last_method, "%s", req->method);
    cm_buf_reset(&r->last);
    cm_status rc = answer(r, req, ret_http_status, e);
    return rc == CM_OK ? cm_buf_append(ret_body, r->last.data, r->last.len, e) : rc;
}

static const struct cm_fetcher_ops responder_ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof responder_ops, .name = "responder", .fetch = fetch
};

/* ------------------------------------------------------------------------ world */

static void load_cert(struct world *w, struct cm_span leaf, unsigned flags, bool chain)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_leaf *parsed = NULL;
    char name[CM_NAME_BUF];

    ok_chain_pem(leaf, chain ? &w->ca : NULL, &pem);
    ck_ok(cm_key_to_pem(w->key_of_cert, &key, &err));
    cm_cert_unref(w->cert);
    ck_ok(cm_cert_from_pem(cm_buf_span(&pem), cm_buf_span(&key), "ca.test-dir", NULL, flags,
                           &w->cert, &err));
    ck_ok(cm_leaf_parse(cm_cert_der(w->cert, 0), &parsed, &err));
    (void)snprintf(name, sizeof name, "%s", parsed->names[0]);
    ck_ok(cm_path_staple(name, cm_buf_span(&pem), w->key, &err));
    cm_leaf_free(parsed);
    if ((flags & CM_CERT_MANAGED) != 0) {
        CM_AUTO_FREE char *path = cm_asprintf("certificates/ca.test-dir/%s/%s.crt", name, name);

        kit_put(&w->k.storage.base, path, cm_buf_str(&pem));
    }
}

void world_replace_cert(struct world *w, const struct ok_cert *want, unsigned flags, bool chain)
{
    CM_AUTO_BUF struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct ok_cert full = *want;

    if (full.from_s == 0)
        full.from_s = START_S - OK_DAY;
    if (full.to_s == 0)
        full.to_s = START_S + 80 * OK_DAY;
    w->revoked = (struct cm_revocation){ .revoked = false };
    ok_cert_make(&w->ca, &full, w->key_of_cert, &leaf);
    load_cert(w, cm_buf_span(&leaf), flags, chain);
}

void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    kit_init(&w->k);
    ok_ca_make(&w->ca, "Staple CA", START_S);
    w->key_of_cert = ok_key();
    w->responder.base.ops = &responder_ops;
    w->responder.w = w;
    w->responder.last.max = 1u << 20;
    w->k.opts.fetcher = &w->responder.base;
}

void world_go(struct world *w)
{
    kit_start(&w->k);
    w->cfg = w->k.cfg;
    world_replace_cert(w, &(struct ok_cert){ .url = "http://ocsp.test/" }, CM_CERT_MANAGED, true);
}

void world_start(struct world *w)
{
    world_init(w);
    world_go(w);
}

void world_stop(struct world *w)
{
    cm_cert_unref(w->cert);
    cm_key_unref(w->key_of_cert);
    ok_ca_free(&w->ca);
    cm_buf_free(&w->responder.last);
    kit_stop(&w->k);
}

void world_join(struct world *other, struct world *w)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    memset(other, 0, sizeof *other);
    other->cfg = kit_peer(&w->k, NULL);
    ck_ok(cm_cert_chain_pem(w->cert, &pem, &err));
    ck_ok(cm_key_to_pem(w->key_of_cert, &key, &err));
    ck_ok(cm_cert_from_pem(cm_buf_span(&pem), cm_buf_span(&key), "ca.test-dir", NULL,
                           CM_CERT_MANAGED, &other->cert, &err));
}

void world_leave(struct world *other)
{
    cm_cert_unref(other->cert);
    cm_config_free(other->cfg);
}

void world_pass(struct world *w, int64_t s)
{
    ck_assert_int_ge(s, 0);
    kit_pass(&w->k.env, s * CM_NS_PER_S);
}

int64_t now_s(struct world *w)
{
    return cm_env_wall_s(&w->k.env.base);
}

cm_status tend(struct world *w, bool may_fetch)
{
    err = (struct cm_err)CM_ERR_INIT;
    return cm_staple_tend(w->cfg, NULL, w->cert, may_fetch, &w->again_s, &w->revoked, &err);
}

void put_span(struct world *w, const char *key, struct cm_span value)
{
    ck_ok(cm_storage_store(&w->k.storage.base, NULL, key, value, &err));
}

void check_stapled(struct world *w, struct cm_span want)
{
    struct cm_staple *s = cm_cert_staple(w->cert);

    ck_assert_ptr_nonnull(s);
    ck_assert_uint_eq(cm_staple_der(s).len, want.len);
    ck_assert_mem_eq(cm_staple_der(s).data, want.data, want.len);
    cm_staple_unref(s);
}

void check_has_staple(struct world *w, bool want)
{
    struct cm_staple *s = cm_cert_staple(w->cert);

    ck_assert_int_eq(s != NULL, want);
    cm_staple_unref(s);
}

void check_stored(struct world *w, const char *key, struct cm_span want)
{
    CM_AUTO_BUF struct cm_buf got = CM_BUF_INIT(CM_OCSP_MAX);

    ck_ok(cm_storage_load(&w->k.storage.base, NULL, key, &got, &err));
    ck_assert_uint_eq(got.len, want.len);
    ck_assert_mem_eq(got.data, want.data, want.len);
}

int kit_run_with(const char *unit, const TTest *const *tests, size_t n, SFun setup, SFun teardown)
{
    return run_tests_how(
        unit, tests, n, (struct run_how){ .timeout_s = 120, .setup = setup, .teardown = teardown });
}
