/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_api.h"

#include "program.h"

#include <json-c/json.h>
#include <string.h>
#include <strings.h>

#define BODY_MAX    (1024u * 1024)
#define JSON_DEPTH  16
#define TRIES       4u
#define WAIT_MAX_S  60
#define TIMEOUT_NS  (30 * CM_NS_PER_S)
#define QUOTE_MAX   200u
#define BAD_GATEWAY 500

/* --------------------------------------------------------------------- base */

static bool is_this_host(const char *host)
{
    static const char *const own[] = { "localhost", "127.0.0.1", "[::1]" };

    for (size_t i = 0; i < CM_ARRAY_LEN(own); i++) {
        size_t len = strlen(own[i]);

        if (strncasecmp(host, own[i], len) == 0 && strchr(":/", host[len]) != NULL)
            return true;
    }
    return false;
}

static cm_status check_base(const char *base, struct cm_err *err)
{
    bool plain = strncmp(base, "http://", 7) == 0;
    const char *host = base + (plain ? 7 : 8);

    if (!plain && strncmp(base, "https://", 8) != 0)
        return cm_fail(err, CM_E_INVAL, "its API is given as https://HOST/...");
    for (const char *s = base; *s != '\0'; s++)
        if (*s <= 0x20 || *s >= 0x7f || strchr("@#\\\"", *s) != NULL)
            return cm_fail(err, CM_E_INVAL,
                           "the URL of its API has a character that does not belong there (a "
                           "password belongs into a file)");
    if (host[0] == '\0' || host[0] == '/' || host[0] == ':')
        return cm_fail(err, CM_E_INVAL, "the URL of its API has no host");
    if (plain && !is_this_host(host))
        return cm_fail(err, CM_E_POLICY,
                       "'%s': passwords go over plain http to this host itself only", base);
    return CM_OK;
}

cm_status dns_api_open(const char *base, size_t len, const char *ca_file,
                       const struct cm_dns_provider_options *opts, struct dns_api *ret,
                       struct cm_err *err)
{
    struct cm_http_options o = { .ca_file = ca_file,
                                 .total_timeout_ns = TIMEOUT_NS,
                                 .log = opts->log };
    struct dns_api api = { .http = NULL };
    cm_status rc;

    while (len > 0 && base[len - 1] == '/')
        len--;
    api.base = cm_strndup(base, len);
    if (api.base == NULL)
        return cm_fail_nomem(err);
    rc = check_base(api.base, err);
    o.allow_plain_http = strncmp(api.base, "http://", 7) == 0;
    if (rc == CM_OK)
        rc = cm_http_new(&o, &api.http, err);
    if (rc != CM_OK) {
        dns_api_close(&api);
        return rc;
    }
    *ret = api;
    return CM_OK;
}

void dns_api_close(struct dns_api *api)
{
    cm_http_free(api->http);
    free(api->base);
    *api = (struct dns_api){ .http = NULL };
}

/* ------------------------------------------------------------------ requests */

void dns_api_answer_free(struct dns_api_answer *a)
{
    json_object_put(a->json);
    cm_buf_free(&a->text);
    *a = (struct dns_api_answer)DNS_API_ANSWER_INIT;
}

/* Seconds to wait before it is done again; -1: it is not. */
static int64_t wait_for(const struct dns_api_call *call, const struct cm_op *op, unsigned tries,
                        cm_status rc, const struct cm_http_response *resp)
{
    int64_t seconds = INT64_C(1) << tries;
    struct cm_span line;
    char text[64];

    if (rc != CM_OK)
        return rc == CM_E_NET && !call->once ? seconds : -1;
    if (resp->status != 429 && (resp->status < BAD_GATEWAY || call->once))
        return -1;
    if (cm_http_header(resp, "retry-after", 0, &line) && line.len < sizeof text) {
        (void)memcpy(text, line.data, line.len);
        text[line.len] = '\0';
        if (cm_time_parse_retry_after(text, cm_env_wall_s(cm_op_env(op)), &seconds, NULL) != CM_OK)
            seconds = INT64_C(1) << tries;
    }
    return seconds;
}

static cm_status limited(const struct dns_api *api, const struct dns_api_call *call,
                         int64_t seconds, struct cm_err *err)
{
    (void)cm_fail(err, CM_E_RATELIMITED, "%s %s%.*s: too many requests; it asks for %lld s of rest",
                  call->method, api->base, (int)strcspn(call->path, "?"), call->path,
                  (long long)seconds);
    if (err != NULL)
        err->retry_after_s = seconds;
    return CM_E_RATELIMITED;
}

/* Again and again, until there is something to tell the caller. */
static cm_status persist(struct dns_api *api, const struct cm_op *op,
                         const struct dns_api_call *call, const struct cm_http_request *req,
                         struct cm_http_response *resp, struct cm_err *err)
{
    for (unsigned tries = 0;; tries++) {
        cm_status rc = cm_http_do(api->http, op, req, resp, err);
        int64_t seconds = wait_for(call, op, tries, rc, resp);
        int64_t ns = seconds > WAIT_MAX_S ? INT64_MAX : seconds * CM_NS_PER_S;

        if (seconds < 0)
            return rc;
        if (tries + 1 >= TRIES || ns > cm_op_remaining_ns(op, (WAIT_MAX_S + 1) * CM_NS_PER_S))
            return rc == CM_OK && resp->status == 429 ? limited(api, call, seconds, err) : rc;
        rc = cm_op_wait(op, ns, err);
        if (rc != CM_OK)
            return rc;
    }
}

cm_status dns_api_do(struct dns_api *api, const struct cm_op *op, const struct dns_api_call *call,
                     struct dns_api_answer *ret, struct cm_err *err)
{
    CM_AUTO_FREE char *url = cm_asprintf("%s%s", api->base, call->path);
    const char *body = call->body != NULL
                           ? json_object_to_json_string_ext(call->body, JSON_C_TO_STRING_PLAIN)
                           : "";
    bool post = strcmp(call->method, "POST") == 0;
    struct cm_http_request req = { .method = call->method,
                                   .url = url,
                                   .content_type = post ? "application/json" : NULL,
                                   .accept = "application/json",
                                   .body = cm_span_str(post ? body : ""),
                                   .max_body = BODY_MAX,
                                   .headers = call->headers };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct dns_api_answer a = DNS_API_ANSWER_INIT;
    cm_status rc;

    if (url == NULL || body == NULL)
        return cm_fail_nomem(err);
    rc = persist(api, op, call, &req, &resp, err);
    if (rc == CM_OK) {
        /* What is no JSON is an answer, too: proxies and wrong URLs give HTML. */
        if (cm_json_read(cm_buf_span(&resp.body), JSON_DEPTH, &a.json, NULL) == CM_OK &&
            !json_object_is_type(a.json, json_type_object)) {
            json_object_put(a.json);
            a.json = NULL;
        }
        a.status = resp.status;
        a.text = resp.body;
        resp.body = (struct cm_buf)CM_BUF_INIT(0);
        *ret = a;
    }
    cm_http_response_free(&resp);
    return rc;
}

cm_status dns_api_refused(const struct dns_api *api, const struct dns_api_call *call,
                          const struct dns_api_answer *a, const char *why, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(4096);
    char shown[QUOTE_MAX];
    cm_status rc = a->status == 401 || a->status == 403 ? CM_E_PERM
                   : a->status == 404                   ? CM_E_NOTFOUND
                   : a->status >= BAD_GATEWAY           ? CM_E_NET
                                                        : CM_E_IO;

    if (why == NULL)
        why = cm_buf_str(&a->text);
    /* More than is shown: half a secret at the cut would not be found. */
    if (cm_buf_append(&text, why, strnlen(why, text.max), NULL) == CM_OK)
        cm_program_blot(&text, call->secrets);
    (void)cm_escape(cm_buf_str(&text), text.len, shown, sizeof shown);
    return cm_fail(err, rc, "%s %s%.*s: HTTP %d%s%s", call->method, api->base,
                   (int)strcspn(call->path, "?"), call->path, a->status,
                   shown[0] != '\0' ? ": " : "", shown);
}

const char *dns_api_text(struct json_object *o, const char *name, size_t max)
{
    struct json_object *v = NULL;
    const char *s;
    size_t len;

    if (o == NULL || !json_object_object_get_ex(o, name, &v) ||
        !json_object_is_type(v, json_type_string))
        return NULL;
    s = json_object_get_string(v);
    len = (size_t)json_object_get_string_len(v);
    if (len == 0 || len > max || strlen(s) != len)
        return NULL;
    for (size_t i = 0; i < len; i++)
        if (s[i] < 0x20 || s[i] >= 0x7f)
            return NULL;
    return s;
}
