/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

/* Source: RFC 7515 7.2.2 (flattened serialization), RFC 8555 6.2 (which header members),
 * 7.3.4 (external account binding). */

/* "key":"value" */
static cm_status put_pair(struct cm_buf *out, const char *sep, const char *key, const char *value,
                          struct cm_err *err)
{
    cm_status rc = cm_buf_printf(out, err, "%s\"%s\":", sep, key);

    if (rc == CM_OK)
        rc = cm__json_put_str(out, value, err);
    return rc;
}

/* BASE64URL(protected) "." BASE64URL(payload): what is signed. @dot is where the point stands. */
static cm_status signing_input(struct cm_span header, struct cm_span payload, struct cm_buf *out,
                               size_t *dot, struct cm_err *err)
{
    cm_status rc = cm_b64url_encode(header, out, err);

    if (rc == CM_OK) {
        *dot = out->len;
        rc = cm_buf_append(out, ".", 1, err);
    }
    if (rc == CM_OK)
        rc = cm_b64url_encode(payload, out, err);
    return rc;
}

static cm_status flatten(struct cm_span input, size_t dot, struct cm_span sig, struct cm_buf *out,
                         struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "{\"protected\":\"", err);

    if (rc == CM_OK)
        rc = cm_buf_append(out, input.data, dot, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\",\"payload\":\"", err);
    if (rc == CM_OK)
        rc = cm_buf_append(out, input.data + dot + 1, input.len - dot - 1, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\",\"signature\":\"", err);
    if (rc == CM_OK)
        rc = cm_b64url_encode(sig, out, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\"}", err);
    return rc;
}

static cm_status put_header(const struct cm_acme_signer *who, const char *url, const char *nonce,
                            struct cm_buf *out, struct cm_err *err)
{
    const char *alg = cm_key_jws_alg(who->key);
    cm_status rc;

    if (alg == NULL)
        return cm_fail(err, CM_E_KEY, "a key of type %s cannot sign ACME requests",
                       cm_pk_name(cm_key_type_of(who->key)));
    rc = put_pair(out, "{", "alg", alg, err);
    if (rc == CM_OK && who->kid != NULL)
        rc = put_pair(out, ",", "kid", who->kid, err);
    if (rc == CM_OK && who->kid == NULL) {
        rc = cm_buf_puts(out, ",\"jwk\":", err);
        if (rc == CM_OK)
            rc = cm_key_jwk(who->key, out, err);
    }
    if (rc == CM_OK && nonce != NULL)
        rc = put_pair(out, ",", "nonce", nonce, err);
    if (rc == CM_OK)
        rc = put_pair(out, ",", "url", url, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "}", err);
    return rc;
}

cm_status cm__jws_make(const struct cm_acme_signer *who, const char *url, const char *nonce,
                       struct cm_span payload, struct cm_buf *out, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf header = CM_BUF_INIT(16 * 1024);
    CM_AUTO_BUF struct cm_buf input = CM_BUF_INIT(CM_ACME_REQUEST_MAX);
    CM_AUTO_BUF struct cm_buf sig = CM_BUF_INIT(2048);
    size_t dot = 0;
    cm_status rc = put_header(who, url, nonce, &header, err);

    if (rc == CM_OK)
        rc = signing_input(cm_buf_span(&header), payload, &input, &dot, err);
    if (rc == CM_OK)
        rc = cm_key_jws_sign(who->key, cm_buf_span(&input), &sig, err);
    if (rc == CM_OK)
        rc = flatten(cm_buf_span(&input), dot, cm_buf_span(&sig), out, err);
    return rc;
}

cm_status cm__jws_make_eab(const struct cm_acme_new_account *req, const struct cm_key *key,
                           const char *url, struct cm_buf *out, struct cm_err *err)
{
    static const char *const names[] = {
        [CM_HMAC_SHA256] = "HS256", [CM_HMAC_SHA384] = "HS384", [CM_HMAC_SHA512] = "HS512"
    };
    CM_AUTO_BUF struct cm_buf header = CM_BUF_INIT(8 * 1024);
    CM_AUTO_BUF struct cm_buf jwk = CM_BUF_INIT(4 * 1024);
    CM_AUTO_BUF struct cm_buf input = CM_BUF_INIT(32 * 1024);
    CM_AUTO_BUF struct cm_buf mac = CM_BUF_INIT(64);
    size_t dot = 0;
    cm_status rc;

    if ((size_t)req->eab_alg >= CM_ARRAY_LEN(names))
        return cm_fail(err, CM_E_INVAL, "no such MAC for the external account binding");
    if (req->eab_key.len == 0)
        return cm_fail(err, CM_E_INVAL, "the MAC key of the external account binding is empty");
    rc = put_pair(&header, "{", "alg", names[req->eab_alg], err);
    if (rc == CM_OK)
        rc = put_pair(&header, ",", "kid", req->eab_kid, err);
    if (rc == CM_OK)
        rc = put_pair(&header, ",", "url", url, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&header, "}", err);
    if (rc == CM_OK)
        rc = cm_key_jwk(key, &jwk, err);
    if (rc == CM_OK)
        rc = signing_input(cm_buf_span(&header), cm_buf_span(&jwk), &input, &dot, err);
    if (rc == CM_OK)
        rc = cm_hmac(req->eab_alg, req->eab_key, cm_buf_span(&input), &mac, err);
    if (rc == CM_OK)
        rc = flatten(cm_buf_span(&input), dot, cm_buf_span(&mac), out, err);
    return rc;
}
