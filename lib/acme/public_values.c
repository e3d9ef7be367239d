/* SPDX-License-Identifier: Apache-2.0 */
#include "public.h"

#include <string.h>

/* Answers to challenges, and what is left of what other clients have. */

#define CHALLENGE_DIR "/.well-known/acme-challenge/"

cm_status cm_acme_http01_path(const char *token, struct cm_buf *ret, struct cm_err *err)
{
    size_t len = token != NULL ? strnlen(token, CM_ACME_TOKEN_MAX + 1) : 0;

    if (ret == NULL || len == 0 || len > CM_ACME_TOKEN_MAX || !cm_is_b64url(token, len))
        return cm_fail(err, CM_E_PARSE, "challenge token is not 1 to %d base64url characters",
                       CM_ACME_TOKEN_MAX);
    return cm_buf_printf(ret, err, CHALLENGE_DIR "%s", token);
}

static cm_status key_authorization(struct cm_acme_client *c, const char *token, struct cm_buf *ret,
                                   struct cm_err *err)
{
    struct cm_key *key = cm__acme_client_key(c);
    cm_status rc = cm_acme_key_authorization(token, key, ret, err);

    cm_key_unref(key);
    return rc;
}

cm_status cm_acme_client_http01_response(struct cm_acme_client *c, const char *token,
                                         struct cm_buf *ret, struct cm_err *err)
{
    if (c == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no place for the answer");
    return key_authorization(c, token, ret, err);
}

cm_status cm_acme_client_dns01_value(struct cm_acme_client *c, const char *token,
                                     struct cm_buf *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(512);
    uint8_t digest[CM_SHA256_LEN];

    if (c == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no place for the answer");
    cm_status rc = key_authorization(c, token, &answer, err);
    if (rc != CM_OK)
        return rc;
    cm_sha256(cm_buf_span(&answer), digest);
    return cm_b64url_encode((struct cm_span){ digest, sizeof digest }, ret, err);
}

cm_status cm_acme_client_tlsalpn01_cert(struct cm_acme_client *c, const char *token,
                                        const struct cm_acme_id *id, struct cm_buf *ret_cert_pem,
                                        struct cm_buf *ret_key_pem, struct cm_err *err)
{
    return cm_acme_client_tlsalpn01_cert_with(c, token, id, NULL, ret_cert_pem, ret_key_pem, err);
}

cm_status cm_acme_client_tlsalpn01_cert_with(struct cm_acme_client *c, const char *token,
                                             const struct cm_acme_id *id,
                                             const struct cm_acme_tlsalpn_options *opts,
                                             struct cm_buf *ret_cert_pem,
                                             struct cm_buf *ret_key_pem, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(512);
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_acme_tlsalpn_options o = { .size = 0 };
    struct cm_key *key = NULL, *own = NULL;
    char name[CM_NAME_BUF];

    if (opts != NULL)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    bool wants_key = ret_key_pem != NULL || o.key_pem.len == 0;
    if (c == NULL || id == NULL || ret_cert_pem == NULL ||
        (wants_key && (ret_key_pem == NULL || !ret_key_pem->secret)))
        return cm_fail(
            err, CM_E_INVAL,
            "ACME client: no client, name or place for it; the key's is a secret buffer");
    cm_status rc = cm_name_normalize(
        id->value, (unsigned)CM_NAME_ALLOW_IP | (unsigned)CM_NAME_ALLOW_UNDERSCORE, name, err);
    if (rc == CM_OK && cm_name_is_ip(name) != (id->type == CM_ACME_ID_IP))
        rc = cm_fail(err, CM_E_INVAL, "'%s' is not of the type that is said", name);
    if (rc == CM_OK)
        rc = key_authorization(c, token, &answer, err);
    if (rc == CM_OK)
        rc = o.key_pem.len > 0 ? cm_key_from_pem(o.key_pem, &own, err) : CM_OK;
    if (rc == CM_OK) {
        const struct cm_tlsalpn_how how = { own, o.common_name, o.serial, o.not_before_s,
                                            o.not_after_s };

        rc = cm_tlsalpn_make_how(name, cm_buf_str(&answer), cm_env_wall_s(cm_env_system()), &how,
                                 &der, &key, err);
    }
    cm_key_unref(own);
    if (rc == CM_OK && ret_key_pem != NULL)
        rc = cm_key_to_pem(key, ret_key_pem, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&der), ret_cert_pem, err);
    cm_key_unref(key);
    return rc;
}

cm_status cm_acme_jwk_thumbprint(struct cm_span key_pem, char ret[CM_THUMBPRINT_BUF],
                                 struct cm_err *err)
{
    struct cm_key *key = NULL;
    cm_status rc = cm_key_from_pem(key_pem, &key, err);

    if (rc == CM_OK)
        rc = cm_key_thumbprint(key, ret, err);
    cm_key_unref(key);
    return rc;
}

bool cm_acme_rate_limit(const struct cm_err *err, int64_t *ret_s)
{
    if (err == NULL ||
        (err->status != CM_E_RATELIMITED && !cm_acme_problem_is(err->problem, "rateLimited")))
        return false;
    if (ret_s != NULL)
        *ret_s = err->retry_after_s;
    return true;
}

/* ------------------------------------------------------------------ obsolete */

cm_status cm_acme_client_create_cert(struct cm_acme_client *c, const struct cm_op *op,
                                     struct cm_span csr_der, struct cm_err *err)
{
    (void)c;
    (void)op;
    (void)csr_der;
    return cm_fail(err, CM_E_UNSUPPORTED,
                   "certificates without an order ended with ACME v1: cm_acme_client_order(), then "
                   "cm_acme_client_create_order_cert()");
}

static cm_status fail_tlssni(struct cm_err *err)
{
    return cm_fail(err, CM_E_UNSUPPORTED,
                   "no CA takes tls-sni challenges any more (they could be answered for others on "
                   "the same host): cm_acme_client_tlsalpn01_cert()");
}

cm_status cm_acme_client_tlssni01_cert(struct cm_acme_client *c, const char *token,
                                       struct cm_err *err)
{
    (void)c;
    (void)token;
    return fail_tlssni(err);
}

cm_status cm_acme_client_tlssni02_cert(struct cm_acme_client *c, const char *token,
                                       struct cm_err *err)
{
    (void)c;
    (void)token;
    return fail_tlssni(err);
}
