/* SPDX-License-Identifier: Apache-2.0 */
#include "staple.h"

#include <string.h>
#include <strings.h>

#define FETCH_NS      (8 * CM_NS_PER_S)
#define OVERRIDES_MAX 1000u
#define REQUEST_MAX   1024u

/* ------------------------------------------------------------------ overrides */

cm_status cm_ocsp_overrides_take(struct cm_config *cfg, const struct cm_ocsp_override *from,
                                 size_t n, struct cm_err *err)
{
    if (n == 0)
        return CM_OK;
    if (from == NULL || n > OVERRIDES_MAX)
        return cm_fail(err, CM_E_INVAL, "option ocsp_overrides: %zu entries, at most %u", n,
                       OVERRIDES_MAX);
    cfg->ocsp_overrides = cm_calloc(n, sizeof *cfg->ocsp_overrides);
    if (cfg->ocsp_overrides == NULL)
        return cm_fail_nomem(err);
    cfg->n_ocsp_overrides = n;
    for (size_t i = 0; i < n; i++) {
        struct cm_ocsp_override *to = &cfg->ocsp_overrides[i];

        if (from[i].from == NULL || from[i].to == NULL)
            return cm_fail(err, CM_E_INVAL, "option ocsp_overrides: entry %zu lacks an address",
                           i + 1);
        to->from = cm_strdup(from[i].from);
        to->to = cm_strdup(from[i].to);
        if (to->from == NULL || to->to == NULL)
            return cm_fail_nomem(err);
    }
    return CM_OK;
}

void cm_ocsp_overrides_free(struct cm_config *cfg)
{
    for (size_t i = 0; i < cfg->n_ocsp_overrides; i++) {
        /* Copies of ours; the public type has them const. */
        free((void *)(uintptr_t)cfg->ocsp_overrides[i].from);
        free((void *)(uintptr_t)cfg->ocsp_overrides[i].to);
    }
    free(cfg->ocsp_overrides);
}

const char *cm_ocsp_responder(const struct cm_config *cfg, const char *url)
{
    for (size_t i = 0; i < cfg->n_ocsp_overrides; i++) {
        if (strcmp(cfg->ocsp_overrides[i].from, url) == 0) {
            url = cfg->ocsp_overrides[i].to;
            break;
        }
    }
    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
        return NULL;
    return url;
}

/* -------------------------------------------------------------------- fetching */

/* One exchange with a host that may be failing; any answer but 200 is a failure. */
static cm_status exchange(struct cm_config *cfg, const struct cm_op *op, const struct cm_fetch *req,
                          struct cm_buf *ret, int64_t *ret_wait_s, struct cm_err *err)
{
    int http_status = 0;

    *ret_wait_s = cm_responders_admit(cfg->responders, req->url);
    if (*ret_wait_s > 0)
        return cm_fail(err, CM_E_AGAIN, "'%s' failed lately and is spared for %lld s", req->url,
                       (long long)*ret_wait_s);
    cm_status rc = cm_fetcher_fetch(cfg->fetcher, op, req, &http_status, ret, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "'%s'", req->url);
    if (http_status != 200) {
        rc = cm_fail(err, CM_E_NET, "'%s' answers with HTTP status %d", req->url, http_status);
        if (err != NULL)
            err->http_status = http_status;
    }
    return rc;
}

/* Is the host in trouble, or only this answer wrong? Whoever stops waiting because he is closing
 * has learnt nothing. */
static void note(struct cm_config *cfg, const struct cm_op *op, const char *url, cm_status rc,
                 const struct cm_err *why)
{
    bool ok = rc == CM_OK || rc == CM_E_CERT || rc == CM_E_POLICY || rc == CM_E_STATE;

    if (ok || cm_op_check(op, NULL) == CM_OK)
        cm_responders_note(cfg->responders, &cfg->log, url, ok, why->msg);
}

static cm_status finish(cm_status rc, const struct cm_err *why, struct cm_err *err)
{
    if (rc != CM_OK && err != NULL)
        *err = *why;
    return rc;
}

cm_status cm_ocsp_ask(struct cm_config *cfg, const struct cm_op *op, const char *url,
                      struct cm_span leaf_der, struct cm_span issuer_der, struct cm_buf *ret_der,
                      struct cm_ocsp *ret, int64_t *ret_wait_s, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf body = CM_BUF_INIT(REQUEST_MAX);
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(CM_OCSP_MAX);
    struct cm_err why = CM_ERR_INIT;

    *ret_wait_s = 0;
    cm_status rc = cm_ocsp_request(leaf_der, issuer_der, &body, err);
    if (rc != CM_OK)
        return rc;
    const struct cm_fetch req = { .size = (uint32_t)sizeof req,
                                  .method = "POST",
                                  .url = url,
                                  .content_type = "application/ocsp-request",
                                  .accept = "application/ocsp-response",
                                  .body = cm_buf_span(&body),
                                  .max_body = CM_OCSP_MAX,
                                  .timeout_ns = FETCH_NS };
    rc = exchange(cfg, op, &req, &answer, ret_wait_s, &why);
    if (*ret_wait_s > 0)
        return finish(rc, &why, err);
    if (rc == CM_OK) {
        rc = cm_ocsp_verify(cm_buf_span(&answer), leaf_der, issuer_der, cm_env_wall_s(cfg->env),
                            ret, &why);
        if (rc != CM_OK)
            rc = cm_wrap(&why, rc, "'%s'", url);
    }
    note(cfg, op, url, rc, &why);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_der, answer.data, answer.len, &why);
    return finish(rc, &why, err);
}

/* ---------------------------------------------------------- the issuer's certificate */

/* DER as the standards have it (RFC 5280 4.2.2.1), or PEM as some servers do. */
static cm_status take_cert(struct cm_span answer, struct cm_buf *ret, struct cm_err *err)
{
    static const char pem[] = "-----BEGIN";
    struct cm_chain chain = { .n = 0 };

    if (answer.len < sizeof pem - 1 || memcmp(answer.data, pem, sizeof pem - 1) != 0)
        return cm_buf_append(ret, answer.data, answer.len, err);
    cm_status rc = cm_chain_from_pem(answer, &chain, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret, chain.der[0].data, chain.der[0].len, err);
    cm_chain_free(&chain);
    return rc;
}

cm_status cm_issuer_fetch(struct cm_config *cfg, const struct cm_op *op, struct cm_span leaf_der,
                          struct cm_buf *ret_der, int64_t *ret_wait_s, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(CM_CERT_DER_MAX);
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_err why = CM_ERR_INIT;
    char url[CM_URL_BUF];

    *ret_wait_s = 0;
    cm_status rc = cm_cert_issuer_url(leaf_der, url, err);
    if (rc != CM_OK)
        return rc;
    const struct cm_fetch req = { .size = (uint32_t)sizeof req,
                                  .method = "GET",
                                  .url = url,
                                  .accept = "application/pkix-cert",
                                  .max_body = CM_CERT_DER_MAX,
                                  .timeout_ns = FETCH_NS };
    rc = exchange(cfg, op, &req, &answer, ret_wait_s, &why);
    if (*ret_wait_s > 0)
        return finish(rc, &why, err);
    if (rc == CM_OK) {
        rc = take_cert(cm_buf_span(&answer), &der, &why);
        if (rc == CM_OK)
            rc = cm_ocsp_check_issuer(leaf_der, cm_buf_span(&der), &why);
        if (rc != CM_OK)
            rc = cm_wrap(&why, rc, "'%s'", url);
    }
    note(cfg, op, url, rc, &why);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_der, der.data, der.len, &why);
    return finish(rc, &why, err);
}
