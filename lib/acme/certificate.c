/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Source: RFC 8555 7.4.2 (download, alternates), 7.6 (revocation). */

static bool is_listed(char *const *v, const char *s)
{
    for (; v != NULL && *v != NULL; v++)
        if (strcmp(*v, s) == 0)
            return true;
    return false;
}

/* Usable alternates only: a CA that offers nonsense beside a good chain has still given one. */
static cm_status list_alternates(struct cm_acme *a, const struct acme_answer *ans, const char *url,
                                 char ***ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf ref = CM_BUF_INIT(CM_ACME_URL_MAX);
    char **v = NULL;
    size_t n = 0;

    /* Header lines are capped, so this ends; the cap is on what we keep. */
    for (unsigned i = 0; n < CM_ACME_ALTERNATES_MAX; i++) {
        char abs[CM_ACME_URL_MAX + 1];
        cm_status rc;

        if (!cm_http_link(&ans->http, "alternate", i, &ref))
            break;
        if (cm_url_resolve(url, cm_buf_str(&ref), abs, sizeof abs, NULL) != CM_OK ||
            cm__acme_check_url(a, abs, "an alternate chain", NULL, NULL) != CM_OK ||
            strcmp(abs, url) == 0 || is_listed(v, abs))
            continue;
        rc = cm__strv_add(&v, &n, abs, err);
        if (rc != CM_OK) {
            cm_acme_strv_free(v);
            return rc;
        }
    }
    *ret = v;
    return CM_OK;
}

cm_status cm_acme_certificate_get(struct cm_acme *a, const struct cm_op *op,
                                  const struct cm_acme_signer *who, const char *url,
                                  struct cm_buf *ret_pem, char ***ret_alternates,
                                  struct cm_err *err)
{
    const struct acme_request post = { .what = "certificate",
                                       .url = url,
                                       .who = who,
                                       .accept = "application/pem-certificate-chain",
                                       .max_body = CM_CHAIN_PEM_MAX,
                                       .idempotent = true };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    char **alternates = NULL;
    cm_status rc = cm__acme_post(a, op, &post, &ans, err);

    if (rc == CM_OK && ans.http.body.len == 0)
        rc = cm_fail(err, CM_E_PARSE, "the CA's certificate is empty");
    if (rc == CM_OK && ret_alternates != NULL)
        rc = list_alternates(a, &ans, url, &alternates, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_pem, ans.http.body.data, ans.http.body.len, err);
    if (rc != CM_OK) {
        cm_acme_strv_free(alternates);
        return rc;
    }
    if (ret_alternates != NULL)
        *ret_alternates = alternates;
    return CM_OK;
}

struct revocation {
    struct cm_span der;
    int reason;
};

static cm_status make_revocation(void *arg, const char *url, struct cm_buf *out, struct cm_err *err)
{
    const struct revocation *r = arg;
    cm_status rc = cm_buf_puts(out, "{\"certificate\":\"", err);

    (void)url;
    if (rc == CM_OK)
        rc = cm_b64url_encode(r->der, out, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\"", err);
    if (rc == CM_OK && r->reason >= 0)
        rc = cm_buf_printf(out, err, ",\"reason\":%d", r->reason);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "}", err);
    return rc;
}

cm_status cm_acme_revoke(struct cm_acme *a, const struct cm_op *op,
                         const struct cm_acme_signer *who, struct cm_span leaf_der, int reason,
                         struct cm_err *err)
{
    struct revocation r = { leaf_der, reason };
    /* Idempotent: the second time it is alreadyRevoked, which is what was wanted. */
    struct acme_request post = { .what = "revokeCert", .who = who, .idempotent = true };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    struct cm_err mine = CM_ERR_INIT;
    cm_status rc = cm__acme_post_endpoint(a, op, offsetof(struct cm_acme_directory, revoke_cert),
                                          &post, make_revocation, &r, &ans, &mine);

    if (rc == CM_E_ACME && cm_acme_problem_is(mine.problem, "alreadyRevoked"))
        return CM_OK;
    if (rc != CM_OK && err != NULL)
        *err = mine;
    return rc;
}
