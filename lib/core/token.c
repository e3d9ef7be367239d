/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <json-c/json.h>
#include <string.h>

/* A challenge as one process stores it for the others to answer. Whoever can write to the storage
 * can put anything here, so nothing is taken that does not fit together. */

static cm_status parse_ident(struct json_object *top, struct cm_token *t, struct cm_err *err)
{
    struct json_object *ident;
    char type[8];
    char value[CM_NAME_BUF];

    if (!cm_json_find(top, "identifier", &ident) ||
        !cm_json_text(ident, "type", type, sizeof type) ||
        !cm_json_text(ident, "value", value, sizeof value))
        return cm_fail(err, CM_E_PARSE, "stored challenge without identifier");
    if (strcmp(type, "dns") == 0)
        t->ident_type = CM_IDENT_DNS;
    else if (strcmp(type, "ip") == 0)
        t->ident_type = CM_IDENT_IP;
    else
        return cm_fail(err, CM_E_PARSE, "stored challenge for an identifier neither dns nor ip");
    cm_status rc =
        cm_name_normalize(value, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, t->ident, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc == CM_E_NOMEM ? rc : CM_E_PARSE, "stored challenge");
    if (cm_name_is_ip(t->ident) != (t->ident_type == CM_IDENT_IP))
        return cm_fail(err, CM_E_PARSE, "stored challenge: '%s' is not of type %s", t->ident, type);
    return CM_OK;
}

cm_status cm_token_parse(struct cm_span json, struct cm_token *ret, struct cm_err *err)
{
    struct json_object *top;
    struct cm_token t = { .type = "" };
    cm_status rc;

    if (json.len > CM_TOKEN_VALUE_MAX)
        return cm_fail(err, CM_E_LIMIT, "stored challenge of %zu bytes, at most %u", json.len,
                       CM_TOKEN_VALUE_MAX);
    rc = cm_json_parse(json, &top, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "stored challenge");
    (void)cm_json_text(top, "type", t.type, sizeof t.type);
    bool complete =
        cm_json_text(top, "token", t.token, sizeof t.token) &&
        cm_json_text(top, "keyAuthorization", t.key_authorization, sizeof t.key_authorization);
    rc = parse_ident(top, &t, err);
    (void)json_object_put(top);
    if (rc != CM_OK)
        return rc;

    size_t len = strlen(t.token);
    if (!complete || !cm_is_b64url(t.token, len))
        return cm_fail(err, CM_E_PARSE, "stored challenge for '%s' without a proper token",
                       t.ident);
    /* RFC 8555 8.1: token "." thumbprint, and nothing else may be sent for us. */
    if (strncmp(t.key_authorization, t.token, len) != 0 || t.key_authorization[len] != '.' ||
        !cm_is_b64url(t.key_authorization + len + 1, strlen(t.key_authorization + len + 1)))
        return cm_fail(err, CM_E_PARSE,
                       "stored challenge for '%s' whose key authorization is not its token's",
                       t.ident);
    *ret = t;
    return CM_OK;
}

cm_status cm_challenge_cert(const struct cm_env *env, const char *ident,
                            const char *key_authorization, struct cm_cert **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_chain chain = { .n = 1 };
    struct cm_leaf *leaf = NULL;
    struct cm_key *key = NULL;

    cm_status rc = cm_tlsalpn_make(ident, key_authorization, cm_env_wall_s(env), &der, &key, err);
    if (rc != CM_OK)
        return rc;
    chain.der[0] = cm_buf_span(&der);
    rc = cm_leaf_parse(chain.der[0], &leaf, err);
    if (rc == CM_OK) {
        const struct cm_cert_parts parts = { &chain, leaf, key, NULL, NULL, CM_CERT_CHALLENGE };

        rc = cm_cert_new(&parts, ret, err);
    }
    cm_leaf_free(leaf);
    cm_key_unref(key);
    return rc;
}

cm_status cm_cert_of_challenge(struct cm_span cert_pem, struct cm_span key_pem,
                               struct cm_cert **ret, struct cm_err *err)
{
    return cm_cert_from_pem(cert_pem, key_pem, NULL, NULL, CM_CERT_CHALLENGE, ret, err);
}
