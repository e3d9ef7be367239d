/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* Open challenges in the cache, where others that share it look: those of another make know
 * nothing else of us. A hint: this process answers by itself. */

#define DEPTH 8

struct token {
    char type[16];
    char token[129];
    char key_authorization[256];
    char ident[CM_NAME_BUF];
};

static bool text(struct json_object *o, const char *name, char *ret, size_t size)
{
    struct json_object *v;

    if (!json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, json_type_string) ||
        (size_t)json_object_get_string_len(v) >= size)
        return false;
    (void)snprintf(ret, size, "%s", json_object_get_string(v));
    return true;
}

/* As solver_shared.c writes it. */
static bool parse(struct cm_span json, struct token *ret)
{
    struct json_object *top = NULL, *ident;

    if (cm_json_read(json, DEPTH, &top, NULL) != CM_OK)
        return false;
    bool ok =
        json_object_is_type(top, json_type_object) &&
        text(top, "type", ret->type, sizeof ret->type) &&
        text(top, "token", ret->token, sizeof ret->token) &&
        text(top, "keyAuthorization", ret->key_authorization, sizeof ret->key_authorization) &&
        json_object_object_get_ex(top, "identifier", &ident) &&
        json_object_is_type(ident, json_type_object) &&
        text(ident, "value", ret->ident, sizeof ret->ident);
    json_object_put(top);
    return ok;
}

static cm_status alpn_blob(const struct token *t, int64_t now_s, struct cm_buf *out,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    CM_AUTO_BUF struct cm_buf crt = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *key = NULL;

    cm_status rc = cm_tlsalpn_make(t->ident, t->key_authorization, now_s, &der, &key, err);
    if (rc == CM_OK)
        rc = cm_cert_der_to_pem(cm_buf_span(&der), &crt, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, &pem, err);
    if (rc == CM_OK)
        rc = autocert_blob_write(cm_buf_span(&pem), cm_buf_span(&crt), out, err);
    cm_key_unref(key);
    return rc;
}

static bool name_of(const struct token *t, char ret[AUTOCERT_NAME_BUF])
{
    int n;

    if (strcmp(t->type, "http-01") == 0)
        n = snprintf(ret, AUTOCERT_NAME_BUF, "%s" AUTOCERT_HTTP, t->token);
    else
        n = snprintf(ret, AUTOCERT_NAME_BUF, "%s" AUTOCERT_TOKEN, t->ident);
    return n > 0 && n < AUTOCERT_NAME_BUF;
}

void autocert_token_put(struct cm_autocert_cache *cache, const struct cm_env *env,
                        const struct cm_log *log, const struct cm_op *op, struct cm_span json)
{
    CM_AUTO_BUF struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_err why = CM_ERR_INIT;
    char name[AUTOCERT_NAME_BUF];
    struct token t;
    cm_status rc;

    if (!parse(json, &t) || !name_of(&t, name))
        return;
    if (strcmp(t.type, "http-01") == 0)
        rc = cm_buf_puts(&blob, t.key_authorization, &why);
    else
        rc = alpn_blob(&t, cm_env_wall_s(env), &blob, &why);
    if (rc == CM_OK)
        rc = cm_autocert_cache_put(cache, op, name, cm_buf_span(&blob), &why);
    if (rc != CM_OK)
        cm_logf(log, CM_LOG_WARN, "autocert_cache", NULL, 0,
                "cannot put the challenge of '%s' into the autocert cache: %s", t.ident, why.msg);
}

void autocert_token_remove(struct cm_autocert_cache *cache, const struct cm_op *op,
                           struct cm_span json)
{
    char name[AUTOCERT_NAME_BUF];
    struct token t;

    if (parse(json, &t) && name_of(&t, name))
        (void)!cm_autocert_cache_remove(cache, op, name, NULL);
}
