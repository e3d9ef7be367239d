/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

/* Source: RFC 8555 7.3.5. The outer JWS is the old key's, by the account's URL, as any request; its
 * payload is a JWS by the new key, which says whose key it is to replace. */

struct key_change {
    const struct cm_acme_signer *who;
    const struct cm_key *new_key;
};

static cm_status make_key_change(void *arg, const char *url, struct cm_buf *out, struct cm_err *err)
{
    const struct key_change *kc = arg;
    const struct cm_acme_signer inner = { kc->new_key, NULL };
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(16 * 1024);
    cm_status rc = cm_buf_puts(&payload, "{\"account\":", err);

    if (rc == CM_OK)
        rc = cm__json_put_str(&payload, kc->who->kid, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, ",\"oldKey\":", err);
    if (rc == CM_OK)
        rc = cm_key_jwk(kc->who->key, &payload, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "}", err);
    if (rc == CM_OK)
        rc = cm__jws_make(&inner, url, NULL, cm_buf_span(&payload), out, err);
    return rc;
}

cm_status cm_acme_key_change(struct cm_acme *a, const struct cm_op *op,
                             const struct cm_acme_signer *who, const struct cm_key *new_key,
                             struct cm_err *err)
{
    struct key_change kc = { who, new_key };
    /* Not idempotent: when the first one was heard, the second one is signed by nobody's key. */
    struct acme_request post = { .what = "keyChange", .who = who };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;

    if (who->kid == NULL)
        return cm_fail(err, CM_E_INVAL, "a change of key needs the account's URL");
    return cm__acme_post_endpoint(a, op, offsetof(struct cm_acme_directory, key_change), &post,
                                  make_key_change, &kc, &ans, err);
}
