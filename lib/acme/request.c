/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

#define BACKOFF_NS (250 * CM_NS_PER_MS)

void cm__acme_answer_free(struct acme_answer *ans)
{
    cm_http_response_free(&ans->http);
}

/* Before the n-th retry: 0.25, 0.5, 1 s, each give or take a quarter, so that a fleet that was
 * refused together does not come back together. */
static cm_status back_off(const struct cm_op *op, unsigned n, struct cm_err *err)
{
    uint64_t base = (uint64_t)BACKOFF_NS << n;
    uint64_t spread = cm_random_below(cm_op_env(op), base / 2);

    return cm_op_wait(op, (int64_t)(base - base / 4 + spread), err);
}

/* 501 and its like say that it will not work; these say that it does not work now. */
static bool is_passing(const struct cm_http_response *resp)
{
    return resp->status == 500 || resp->status == 502 || resp->status == 503 || resp->status == 504;
}

static void log_answer(const struct cm_acme *a, const char *what, const char *url, int status)
{
    const struct cm_log_field fields[] = { { "what", what }, { "url", url } };

    cm_logf(&a->log, CM_LOG_DEBUG, "acme_answer", fields, CM_ARRAY_LEN(fields), "ACME %s: HTTP %d",
            what, status);
}

/* The same as cm_http_do(), by somebody else's means. */
static cm_status by_transport(struct cm_acme_transport *t, const struct cm_op *op,
                              const struct cm_http_request *req, struct cm_http_response *resp,
                              struct cm_err *err)
{
    const struct cm_acme_exchange x = { .size = (uint32_t)sizeof x,
                                        .method = req->method,
                                        .url = req->url,
                                        .content_type = req->content_type,
                                        .accept = req->accept,
                                        .body = req->body,
                                        .refuse_local = req->refuse_local };

    cm_http_response_free(resp);
    resp->body.max = req->max_body;
    resp->headers.max = CM_HTTP_HEADERS_MAX;
    cm_status rc = cm_op_check(op, err);
    return rc == CM_OK
               ? t->ops->exchange(t, op, &x, &resp->status, &resp->headers, &resp->body, err)
               : rc;
}

/* One exchange. What policy refuses here (a redirect to http, a host that resolves to this machine)
 * is the CA's doing: our own URL was checked when the client was made. Tomorrow the CA may answer
 * better, so it must not look like a wrong configuration, after which nobody tries again. */
static cm_status exchange(struct cm_acme *a, const struct cm_op *op,
                          const struct cm_http_request *req, struct cm_http_response *resp,
                          struct cm_err *err)
{
    cm_status rc;

    atomic_fetch_add(&a->requests, 1);
    rc = a->transport != NULL ? by_transport(a->transport, op, req, resp, err)
                              : cm_http_do(a->http, op, req, resp, err);
    if (rc == CM_OK)
        cm__acme_clock_note(a, op, resp);
    /* That our own deadline came first says nothing of the CA. */
    if (err != NULL && (rc == CM_E_NET || rc == CM_E_TLS ||
                        (rc == CM_E_TIMEOUT && cm_op_check(op, NULL) == CM_OK)))
        err->whole_ca = true;
    if (rc != CM_E_POLICY)
        return rc;
    if (err != NULL)
        err->status = CM_E_ACME;
    return CM_E_ACME;
}

cm_status cm__acme_get(struct cm_acme *a, const struct cm_op *op, const struct cm_http_request *req,
                       const char *what, struct cm_http_response *resp, struct cm_err *err)
{
    const struct cm_env *env = cm_op_env(op);

    for (unsigned tries = 0;; tries++) {
        bool again;
        cm_status rc;

        rc = exchange(a, op, req, resp, err);
        if (rc == CM_OK) {
            log_answer(a, what, req->url, resp->status);
            if (resp->status >= 200 && resp->status < 300)
                return CM_OK;
            rc = cm__acme_fail_answer(what, resp, cm_env_wall_s(env), err);
            again = is_passing(resp) && cm__acme_retry_after(resp, cm_env_wall_s(env)) == 0;
        } else {
            again = rc == CM_E_NET;
        }
        if (!again || tries == CM_ACME_TRIES_MAX)
            return rc;
        rc = back_off(op, tries, err);
        if (rc != CM_OK)
            return rc;
    }
}

/* One attempt. @nonce is used up; afterwards it is that of the answer, or "". */
static cm_status send_once(struct cm_acme *a, const struct cm_op *op,
                           const struct acme_request *req, bool foreign, char *nonce,
                           struct acme_answer *ans, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf jws = CM_BUF_INIT(CM_ACME_REQUEST_MAX);
    struct cm_http_request http = { .method = "POST",
                                    .url = req->url,
                                    .content_type = "application/jose+json",
                                    .accept = req->accept,
                                    .max_body =
                                        req->max_body > 0 ? req->max_body : CM_ACME_JSON_MAX,
                                    .refuse_local = foreign };
    cm_status rc = cm__jws_make(req->who, req->url, nonce, req->payload, &jws, err);

    if (rc != CM_OK)
        return rc;
    nonce[0] = '\0';
    http.body = cm_buf_span(&jws);
    rc = exchange(a, op, &http, &ans->http, err);
    if (rc != CM_OK)
        return rc;
    cm__acme_nonce_of(&ans->http, nonce);
    log_answer(a, req->what, req->url, ans->http.status);
    return CM_OK;
}

cm_status cm__acme_post(struct cm_acme *a, const struct cm_op *op, const struct acme_request *req,
                        struct acme_answer *ans, struct cm_err *err)
{
    const struct cm_env *env = cm_op_env(op);
    char nonce[CM_ACME_NONCE_MAX + 1] = "";
    struct cm_err mine = CM_ERR_INIT; /* badNonce is told from it, also when @err is NULL */
    unsigned bad_nonces = 0;
    unsigned tries = 0;
    bool foreign = false;
    cm_status rc = cm__acme_check_url(a, req->url, req->what, &foreign, err);

    while (rc == CM_OK) {
        bool again = false;

        if (nonce[0] == '\0')
            rc = cm__acme_nonce_take(a, op, nonce, &mine);
        if (rc != CM_OK)
            break;
        rc = send_once(a, op, req, foreign, nonce, ans, &mine);
        if (rc == CM_E_NET) {
            again = req->idempotent;
        } else if (rc == CM_OK) {
            ans->retry_after_s = cm__acme_retry_after(&ans->http, cm_env_wall_s(env));
            if (ans->http.status >= 200 && ans->http.status < 300) {
                cm__acme_nonce_put(a, op, nonce);
                return CM_OK;
            }
            rc = cm__acme_fail_answer(req->what, &ans->http, cm_env_wall_s(env), &mine);
            if (cm_acme_problem_is(mine.problem, "badNonce") &&
                bad_nonces++ < 2 * CM_ACME_BAD_NONCES_MAX) {
                /* RFC 8555 6.5: sure not to have been acted on, so any request may be sent again,
                 * with the nonce that this very answer brought. Ten times at once, as a CA that
                 * refuses every other one would still fail a tenth of all issuances at that; then
                 * slowly ten times more. */
                rc = bad_nonces <= CM_ACME_BAD_NONCES_MAX ? cm_op_check(op, &mine)
                                                          : back_off(op, 0, &mine);
                continue;
            }
            again = req->idempotent && is_passing(&ans->http) && ans->retry_after_s == 0;
        }
        if (!again || tries == CM_ACME_TRIES_MAX)
            break;
        cm__acme_nonce_put(a, op, nonce);
        nonce[0] = '\0';
        rc = back_off(op, tries++, &mine);
    }
    cm__acme_nonce_put(a, op, nonce);
    if (err != NULL && mine.status != CM_OK)
        *err = mine;
    return rc;
}

cm_status cm__acme_post_endpoint(struct cm_acme *a, const struct cm_op *op, size_t offset,
                                 struct acme_request *req, acme_payload_fn make, void *arg,
                                 struct acme_answer *ans, struct cm_err *err)
{
    struct cm_err mine = CM_ERR_INIT;
    cm_status rc = CM_OK;

    for (bool first = true;; first = false) {
        CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(CM_ACME_REQUEST_MAX / 2);
        const struct cm_acme_directory *d = NULL;
        bool changed = false;

        rc = cm_acme_directory(a, op, &d, &mine);
        if (rc != CM_OK)
            break;
        memcpy(&req->url, (const char *)d + offset, sizeof req->url);
        if (req->url == NULL) {
            rc = cm_fail(&mine, CM_E_UNSUPPORTED, "the CA has no %s", req->what);
            break;
        }
        rc = make(arg, req->url, &payload, &mine);
        if (rc != CM_OK)
            break;
        req->payload = cm_buf_span(&payload);
        rc = cm__acme_post(a, op, req, ans, &mine);
        if (!first || (mine.http_status != 404 && mine.http_status != 405))
            break;
        /* The endpoint is gone: the CA may have moved it. */
        cm__acme_directory_refresh(a, op, &changed);
        if (!changed)
            break;
        cm__acme_answer_free(ans);
        mine = (struct cm_err)CM_ERR_INIT;
    }
    req->payload.data = NULL;
    req->payload.len = 0;
    if (rc != CM_OK && err != NULL)
        *err = mine;
    return rc;
}

cm_status cm__acme_location(struct cm_acme *a, const struct acme_answer *ans, const char *base,
                            const char *what, char **ret, struct cm_err *err)
{
    CM_AUTO_FREE char *ref = NULL;
    char url[CM_ACME_URL_MAX + 1];
    struct cm_span v;
    cm_status rc;

    if (!cm_http_header(&ans->http, "location", 0, &v) || v.len == 0)
        return cm_fail(err, CM_E_ACME, "the CA's answer has no Location for %s", what);
    ref = cm_strndup((const char *)v.data, v.len);
    if (ref == NULL)
        return cm_fail_nomem(err);
    rc = cm_url_resolve(base, ref, url, sizeof url, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "the CA's Location for %s", what);
    rc = cm__acme_check_url(a, url, what, NULL, err);
    if (rc != CM_OK)
        return rc;
    *ret = cm_strdup(url);
    return *ret != NULL ? CM_OK : cm_fail_nomem(err);
}
