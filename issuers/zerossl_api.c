/* SPDX-License-Identifier: Apache-2.0 */
#include "zerossl.h"

#include <json-c/json_object_iterator.h>
#include <stdio.h>
#include <string.h>

/* One call of ZeroSSL's HTTP interface. Source: zerossl.com/documentation/api. The access key is
 * part of every URL, and whoever reports a failed request names its URL: so each message is cleaned
 * of it here, and the client gets no log. */

#define TRIES_MAX 3
#define PAUSE_NS  (500 * CM_NS_PER_MS)
#define URL_MAX   1024

const char *zerossl_text(struct json_object *o, const char *name, size_t max)
{
    struct json_object *v = NULL;

    if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, name, &v) ||
        !json_object_is_type(v, json_type_string))
        return NULL;
    const char *s = json_object_get_string(v);
    size_t len = (size_t)json_object_get_string_len(v);
    if (len > max || strlen(s) != len)
        return NULL;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] > 0x7e)
            return NULL;
    return s;
}

static void redact(const struct zerossl_api *api, struct cm_err *err)
{
    const char *key = cm_buf_str(&api->key);
    char *at;

    while (err != NULL && api->key.len > 0 && (at = strstr(err->msg, key)) != NULL)
        memset(at, '*', api->key.len);
}

/* What kind of error it is, by the words that the API has for it. */
static const struct {
    const char *part; /* of the type */
    cm_status rc;
    bool no_retry; /* somebody has to change something */
    bool whole_ca; /* it is not about these names */
} kinds[] = {
    { "access_key", CM_E_ACME, true, true },
    { "rate_limit", CM_E_RATELIMITED, false, true },
    { "limit_reached", CM_E_RATELIMITED, false, true },
    { "usage_limit", CM_E_RATELIMITED, false, true },
    { "user_inactive", CM_E_ACME, true, true },
    { "permission", CM_E_ACME, true, true },
    { "csr", CM_E_ACME, true, false },
    { "invalid_domain", CM_E_ACME, true, false },
    { "invalid_validity", CM_E_ACME, true, true },
    { "domain_control_validation_failed", CM_E_ACME, false, false },
};

/* The first reason that is given for one name: {"http://...": {"error_info": "..."}}. */
static const char *reason_of(struct json_object *checks)
{
    if (!json_object_is_type(checks, json_type_object))
        return NULL;
    struct json_object_iterator it = json_object_iter_begin(checks);
    struct json_object_iterator end = json_object_iter_end(checks);

    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        struct json_object *check = json_object_iter_peek_value(&it);
        const char *info = zerossl_text(check, "error_info", 300);

        if (info == NULL)
            info = zerossl_text(check, "error_slug", 100);
        if (info != NULL)
            return info;
    }
    return NULL;
}

/* ": a.test: reason" of the first name that has one; else "". */
static void first_reason(struct json_object *details, char *out, size_t size)
{
    out[0] = '\0';
    if (!json_object_is_type(details, json_type_object))
        return;
    struct json_object_iterator it = json_object_iter_begin(details);
    struct json_object_iterator end = json_object_iter_end(details);

    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *name = json_object_iter_peek_name(&it);
        const char *reason = reason_of(json_object_iter_peek_value(&it));
        char shown[CM_NAME_BUF];

        if (reason == NULL)
            continue;
        (void)snprintf(out, size, ": %s: %s", cm_escape(name, strlen(name), shown, sizeof shown),
                       reason);
        return;
    }
}

static cm_status named_error(const char *what, struct json_object *e, int http_status,
                             struct cm_err *err)
{
    const char *type = zerossl_text(e, "type", 80);
    struct json_object *code = NULL, *details = NULL;
    char reason[400];
    cm_status rc = CM_E_ACME;
    bool no_retry = false, whole_ca = false;

    if (type == NULL)
        type = "error";
    for (size_t i = 0; i < CM_ARRAY_LEN(kinds); i++) {
        if (strstr(type, kinds[i].part) == NULL)
            continue;
        rc = kinds[i].rc;
        no_retry = kinds[i].no_retry;
        whole_ca = kinds[i].whole_ca;
        break;
    }
    (void)json_object_object_get_ex(e, "code", &code);
    (void)json_object_object_get_ex(e, "details", &details);
    first_reason(details, reason, sizeof reason);
    (void)cm_fail(err, rc, "ZeroSSL refuses to %s: %s (%d)%s", what, type,
                  json_object_get_int(code), reason);
    if (err != NULL) {
        (void)snprintf(err->problem, sizeof err->problem, "zerossl:%s", type);
        err->http_status = http_status;
        err->no_retry = no_retry;
        err->whole_ca = whole_ca;
    }
    return rc;
}

/* {"success": false, "error": {...}}, with 0 and 1 as well, and with status 200 as well. */
static bool is_error(struct json_object *o, struct json_object **ret)
{
    struct json_object *success = NULL;

    if (json_object_object_get_ex(o, "error", ret) && json_object_is_type(*ret, json_type_object))
        return true;
    *ret = NULL;
    return json_object_object_get_ex(o, "success", &success) && !json_object_get_boolean(success);
}

static cm_status judge(const struct cm_op *op, const char *what,
                       const struct cm_http_response *resp, struct json_object **ret,
                       struct cm_err *err)
{
    struct json_object *o = NULL, *e = NULL;
    char text[64];
    struct cm_span v;
    int64_t after = 0;

    if (cm_http_header(resp, "retry-after", 0, &v) && v.len < sizeof text) {
        memcpy(text, v.data, v.len);
        text[v.len] = '\0';
        if (cm_time_parse_retry_after(text, cm_env_wall_s(cm_op_env(op)), &after, NULL) != CM_OK)
            after = 0;
    }
    cm_status rc = cm_json_read(cm_buf_span(&resp->body), 16, &o, err);
    if (rc == CM_OK && !json_object_is_type(o, json_type_object))
        rc = cm_fail(err, CM_E_PARSE, "not a JSON object");
    if (rc == CM_OK && is_error(o, &e))
        rc = named_error(what, e, resp->status, err);
    else if (resp->status < 200 || resp->status > 299)
        rc = cm_fail(err, CM_E_ACME, "ZeroSSL answers HTTP %d to %s", resp->status, what);
    else if (rc != CM_OK)
        rc = cm_wrap(err, rc, "ZeroSSL's answer to %s", what);
    if (resp->status == 429)
        rc = CM_E_RATELIMITED;
    if (rc == CM_OK) {
        *ret = o;
        return rc;
    }
    json_object_put(o);
    if (err != NULL) {
        err->status = rc;
        err->http_status = resp->status;
        err->retry_after_s = after;
        err->whole_ca = err->whole_ca || resp->status >= 500 || resp->status == 429;
    }
    return rc;
}

static cm_status once(struct zerossl_api *api, const struct cm_op *op,
                      const struct zerossl_request *req, const char *body, struct json_object **ret,
                      struct cm_err *err)
{
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    CM_AUTO_BUF struct cm_buf url = CM_BUF_SECRET(URL_MAX);

    cm_status rc = cm_buf_printf(&url, err, "%s%s?access_key=%s%s%s", api->base, req->path,
                                 cm_buf_str(&api->key), req->query == NULL ? "" : "&",
                                 req->query == NULL ? "" : req->query);
    if (rc != CM_OK)
        return rc;
    const struct cm_http_request http = {
        .method = req->post ? "POST" : "GET",
        .url = cm_buf_str(&url),
        .content_type = req->post ? "application/json" : NULL,
        .accept = "application/json",
        .body = cm_span_str(body),
        .max_body = ZEROSSL_ANSWER_MAX,
    };
    rc = cm_http_do(api->http, op, &http, &resp, err);
    /* That our own deadline came first says nothing of the CA. */
    if (err != NULL && (rc == CM_E_NET || rc == CM_E_TLS ||
                        (rc == CM_E_TIMEOUT && cm_op_check(op, NULL) == CM_OK)))
        err->whole_ca = true;
    if (rc == CM_OK)
        rc = judge(op, req->what, &resp, ret, err);
    else
        rc = cm_wrap(err, rc, "ZeroSSL: %s", req->what);
    cm_http_response_free(&resp);
    return rc;
}

cm_status zerossl_call(struct zerossl_api *api, const struct cm_op *op,
                       const struct zerossl_request *req, struct json_object **ret,
                       struct cm_err *err)
{
    const char *body = NULL;
    struct cm_err why = CM_ERR_INIT;

    if (req->fields != NULL) {
        body = json_object_to_json_string_ext(req->fields, JSON_C_TO_STRING_PLAIN |
                                                               JSON_C_TO_STRING_NOSLASHESCAPE);
        if (body == NULL)
            return cm_fail_nomem(err);
    }
    for (unsigned tries = 0;; tries++) {
        why = (struct cm_err)CM_ERR_INIT;
        cm_status rc = once(api, op, req, body, ret, &why);
        if (rc == CM_OK)
            return CM_OK;
        bool passing = rc == CM_E_NET || (rc == CM_E_ACME && why.http_status >= 500);
        if (req->again && passing && tries < TRIES_MAX &&
            cm_op_wait(op, PAUSE_NS << tries, NULL) == CM_OK)
            continue;
        redact(api, &why);
        if (err != NULL)
            *err = why;
        return rc;
    }
}
