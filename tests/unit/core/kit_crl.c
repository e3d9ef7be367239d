/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_crl.h"
#include "x509.h"

struct fake_web web;
struct kit k;
struct mk_ca ca;

static struct cm_err err;

static cm_status web_fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                           int *ret_status, struct cm_buf *ret_body, struct cm_err *e)
{
    struct fake_web *w = CM_CONTAINER_OF(f, struct fake_web, base);

    (void)op;
    (void)atomic_fetch_add(&w->fetches, 1);
    while (atomic_load(&w->hold))
        kit_nap();
    (void)snprintf(w->last, sizeof w->last, "%s %s", req->method, req->url);
    w->last_max = req->max_body;
    if (w->rc != CM_OK)
        return cm_fail(e, w->rc, "no way to '%s'", req->url);
    *ret_status = w->status;
    return cm_buf_append(ret_body, w->body.data, w->body.len, e);
}

static const struct cm_fetcher_ops web_ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof web_ops, .name = "fake", .fetch = web_fetch
};

int64_t now_s(void)
{
    return cm_env_wall_s(&k.env.base);
}

void pass_s(int64_t s)
{
    kit_pass(&k.env, s * CM_NS_PER_S);
}

void publish(const struct mk_ca *by, const struct mk_crl_entry *entries, size_t n, int64_t life_s)
{
    struct mk_crl spec = {
        .entries = entries, .n = n, .this_s = now_s(), .next_s = now_s() + life_s
    };

    mk_crl(by, &spec, &web.body);
}

void crl_begin(void)
{
    cm_crl_table_clear();
    kit_init(&k);
    memset(&web, 0, sizeof web);
    web.base.ops = &web_ops;
    web.status = 200;
    k.opts.fetcher = &web.base;
    kit_start(&k);
    mk_ca_make(&ca, "Test CA", START_S, CM_KU_KEY_CERT_SIGN | CM_KU_CRL_SIGN);
    publish(&ca, NULL, 0, 7 * DAY);
}

void crl_end(void)
{
    kit_stop(&k);
    cm_crl_table_clear();
    mk_ca_free(&ca);
    cm_buf_free(&web.body);
}

struct cm_cert *cert_of(uint64_t serial, const char *crl_url, const char *ocsp_url)
{
    static struct cm_key *key; /* one for all: ten thousand are made here */
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    const struct mk_leaf what = { .serial = serial,
                                  .name = "a.example",
                                  .crl_url = crl_url,
                                  .ocsp_url = ocsp_url,
                                  .from_s = START_S,
                                  .lifetime_s = 90 * DAY };
    struct cm_chain chain = { .n = 2 };
    struct cm_cert *cert = NULL;
    struct cm_leaf *leaf = NULL;

    mk_leaf(&ca, &what, &der, &key);
    chain.der[0] = cm_buf_span(&der);
    chain.der[1] = cm_buf_span(&ca.der);
    ck_ok(cm_leaf_parse(chain.der[0], &leaf, &err));
    const struct cm_cert_parts parts = { &chain, leaf, key, "ca.test-dir", NULL, CM_CERT_MANAGED };
    ck_ok(cm_cert_new(&parts, &cert, &err));
    cm_leaf_free(leaf);
    return cert;
}

cm_status tend_by(struct cm_config *cfg, const struct cm_cert *cert, bool may_fetch, int64_t *again,
                  struct cm_revocation *rv, struct cm_err *e)
{
    memset(rv, 0, sizeof *rv);
    return cm_crl_tend(cfg, NULL, cert, may_fetch, again, rv, e);
}

void stored_as(char ret[CM_CRL_ID_TEXT])
{
    uint8_t id[CM_CRL_ID_LEN];

    ck_ok(cm_crl_id(cm_buf_span(&ca.der), URL, id, &err));
    cm_crl_id_text(id, ret);
}
