/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Source: RFC 8555 7.1.4, 7.5, 8; RFC 8738. */

void cm_acme_authz_free(struct cm_acme_authz *z)
{
    if (z == NULL)
        return;
    free(z->url);
    free(z->challenges);
    memset(z, 0, sizeof *z);
}

static bool copy_text(char *to, size_t size, const char *from)
{
    size_t len = from != NULL ? strlen(from) : size;

    if (len >= size)
        return false;
    memcpy(to, from, len + 1);
    return true;
}

static bool is_challenge_type(const char *s)
{
    if (s == NULL || *s == '\0')
        return false;
    for (; *s != '\0'; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9') || *s == '-'))
            return false;
    return true;
}

/* Domain names of the CA that a record may have: one is enough, so what is none is passed over. */
static void take_issuers(struct json_object *list, struct cm_acme_challenge *c)
{
    size_t len = list != NULL ? json_object_array_length(list) : 0, used = 0;

    for (size_t i = 0; i < len && i < CM_ACME_CHALLENGES_MAX; i++) {
        const char *s = cm__json_text_of(json_object_array_get_idx(list, i), CM_NAME_MAX);
        char name[CM_NAME_BUF];

        if (s == NULL || cm_name_normalize(s, 0, name, NULL) != CM_OK ||
            used + strlen(name) + 2 > sizeof c->issuers)
            continue;
        if (used > 0)
            c->issuers[used++] = ' ';
        memcpy(c->issuers + used, name, strlen(name) + 1);
        used += strlen(name);
    }
}

/* False when it is not of the known shape. A challenge without token is fine (dns-persist-01);
 * one with a token that is not base64url is not: tokens become paths and file names (B37). */
static bool parse_challenge(struct json_object *o, struct cm_acme_challenge *c)
{
    const char *type = cm__json_str(o, "type", sizeof c->type - 1);
    const char *url = cm__json_url(o, "url");
    struct json_object *token = NULL;

    if (!is_challenge_type(type) || url == NULL || !copy_text(c->type, sizeof c->type, type) ||
        !copy_text(c->url, sizeof c->url, url))
        return false;
    if (json_object_object_get_ex(o, "token", &token) && token != NULL) {
        const char *text = cm__json_text_of(token, CM_ACME_TOKEN_MAX);

        if (text == NULL || !cm_is_b64url(text, strlen(text)) ||
            !copy_text(c->token, sizeof c->token, text))
            return false;
    }
    take_issuers(cm__json_array(o, "issuer-domain-names"), c);
    c->status = cm__acme_status_of(cm__json_str(o, "status", 64));
    cm__acme_problem_from(cm__json_object(o, "error"), &c->error);
    return true;
}

/* The first of each type: which of two equal ones would have to be answered is not defined. */
static bool has_type(const struct cm_acme_authz *z, const char *type)
{
    for (size_t i = 0; i < z->n_challenges; i++)
        if (strcmp(z->challenges[i].type, type) == 0)
            return true;
    return false;
}

static cm_status parse_challenges(struct json_object *list, struct cm_acme_authz *z,
                                  struct cm_err *err)
{
    size_t len = list != NULL ? json_object_array_length(list) : 0;

    if (len > CM_ACME_CHALLENGES_MAX)
        return cm_fail(err, CM_E_LIMIT, "authorization has %zu challenges", len);
    if (len == 0)
        return CM_OK;
    z->challenges = cm_calloc(len, sizeof *z->challenges);
    if (z->challenges == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < len; i++) {
        struct cm_acme_challenge *c = &z->challenges[z->n_challenges];

        memset(c, 0, sizeof *c);
        if (parse_challenge(json_object_array_get_idx(list, i), c) && !has_type(z, c->type))
            z->n_challenges++;
    }
    return CM_OK;
}

static cm_status parse_identifier(struct json_object *o, struct cm_acme_authz *z,
                                  struct cm_err *err)
{
    const char *type = cm__json_str(o, "type", 32);
    const char *value = cm__json_str(o, "value", CM_NAME_MAX + 2);

    if (type == NULL || value == NULL)
        return cm_fail(err, CM_E_PARSE, "authorization has no identifier");
    z->is_ip = strcmp(type, "ip") == 0;
    if (!z->is_ip && strcmp(type, "dns") != 0)
        return cm_fail(err, CM_E_UNSUPPORTED, "authorization is for an identifier of another type");
    if (!z->is_ip && strncmp(value, "*.", 2) == 0) { /* RFC 8555 7.1.4 says without; tolerate it */
        z->wildcard = true;
        value += 2;
    }
    if (cm_name_normalize(value, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, z->ident, NULL) !=
            CM_OK ||
        cm_name_is_ip(z->ident) != z->is_ip) {
        char shown[CM_NAME_BUF];

        return cm_fail(err, CM_E_PARSE, "authorization is for a malformed identifier: '%s'",
                       cm_escape(value, strlen(value), shown, sizeof shown));
    }
    return CM_OK;
}

cm_status cm__acme_parse_authz(struct cm_span json, struct cm_acme_authz *ret, struct cm_err *err)
{
    CM_AUTO_JSON struct json_object *o = NULL;
    struct cm_acme_authz z = { 0 };
    cm_status rc = cm__json_parse(json, "authorization", &o, err);

    if (rc != CM_OK)
        return rc;
    if (cm__json_str(o, "status", 64) == NULL)
        return cm_fail(err, CM_E_PARSE, "authorization has no status");
    z.status = cm__acme_status_of(cm__json_str(o, "status", 64));
    z.wildcard = cm__json_bool(o, "wildcard", false);
    rc = parse_identifier(cm__json_object(o, "identifier"), &z, err);
    if (rc == CM_OK)
        rc = parse_challenges(cm__json_array(o, "challenges"), &z, err);
    if (rc != CM_OK) {
        cm_acme_authz_free(&z);
        return rc;
    }
    *ret = z;
    return CM_OK;
}

/* Challenges whose URL we would not call are not offered to a solver either (R17, F73). */
static void drop_foreign(struct cm_acme *a, struct cm_acme_authz *z)
{
    size_t kept = 0;

    for (size_t i = 0; i < z->n_challenges; i++) {
        struct cm_err why = CM_ERR_INIT;

        if (cm__acme_check_url(a, z->challenges[i].url, "a challenge", NULL, &why) == CM_OK) {
            if (kept != i)
                z->challenges[kept] = z->challenges[i];
            kept++;
        } else {
            const struct cm_log_field field = { "challenge", z->challenges[i].type };

            cm_logf(&a->log, CM_LOG_WARN, "acme_challenge_refused", &field, 1, "%s", why.msg);
        }
    }
    z->n_challenges = kept;
}

cm_status cm_acme_authz_get(struct cm_acme *a, const struct cm_op *op,
                            const struct cm_acme_signer *who, const char *url,
                            struct cm_acme_authz *ret, struct cm_err *err)
{
    const struct acme_request post = {
        .what = "authorization", .url = url, .who = who, .idempotent = true
    };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    struct cm_acme_authz z = { 0 };
    cm_status rc = cm__acme_post(a, op, &post, &ans, err);

    if (rc == CM_OK)
        rc = cm__acme_parse_authz(cm_buf_span(&ans.http.body), &z, err);
    if (rc != CM_OK)
        return rc;
    drop_foreign(a, &z);
    z.retry_after_s = ans.retry_after_s;
    z.url = cm_strdup(url);
    if (z.url == NULL) {
        cm_acme_authz_free(&z);
        return cm_fail_nomem(err);
    }
    *ret = z;
    return CM_OK;
}

static cm_status post_and_forget(struct cm_acme *a, const struct cm_op *op,
                                 const struct cm_acme_signer *who, const char *url,
                                 const char *payload, const char *what, struct cm_err *err)
{
    const struct acme_request post = {
        .what = what, .url = url, .who = who, .payload = cm_span_str(payload)
    };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;

    return cm__acme_post(a, op, &post, &ans, err);
}

cm_status cm_acme_authz_deactivate(struct cm_acme *a, const struct cm_op *op,
                                   const struct cm_acme_signer *who, const char *url,
                                   struct cm_err *err)
{
    return post_and_forget(a, op, who, url, "{\"status\":\"deactivated\"}",
                           "authorization deactivation", err);
}

cm_status cm_acme_challenge_accept(struct cm_acme *a, const struct cm_op *op,
                                   const struct cm_acme_signer *who, const char *url,
                                   struct cm_err *err)
{
    return post_and_forget(a, op, who, url, "{}", "challenge", err);
}

cm_status cm_acme_key_authorization(const char *token, const struct cm_key *key, struct cm_buf *ret,
                                    struct cm_err *err)
{
    char thumbprint[CM_THUMBPRINT_BUF];
    size_t len = token != NULL ? strnlen(token, CM_ACME_TOKEN_MAX + 1) : 0;
    cm_status rc;

    if (len == 0 || len > CM_ACME_TOKEN_MAX || !cm_is_b64url(token, len))
        return cm_fail(err, CM_E_PARSE, "challenge token is not 1 to %d base64url characters",
                       CM_ACME_TOKEN_MAX);
    rc = cm_key_thumbprint(key, thumbprint, err);
    if (rc == CM_OK)
        rc = cm_buf_printf(ret, err, "%s.%s", token, thumbprint);
    return rc;
}
