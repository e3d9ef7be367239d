/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Source: RFC 8555 7.1.3, 7.4; RFC 8738 (ip identifiers); RFC 9773 5 (replaces). */

#define STATUS_MAP(X)                                                                              \
    X(CM_ACME_PENDING, "pending")                                                                  \
    X(CM_ACME_READY, "ready")                                                                      \
    X(CM_ACME_PROCESSING, "processing")                                                            \
    X(CM_ACME_VALID, "valid")                                                                      \
    X(CM_ACME_INVALID, "invalid")                                                                  \
    X(CM_ACME_DEACTIVATED, "deactivated")                                                          \
    X(CM_ACME_REVOKED, "revoked")                                                                  \
    X(CM_ACME_EXPIRED, "expired")

const char *cm_acme_status_text(enum cm_acme_status s)
{
    switch (s) {
#define STATUS_TEXT(value, text)                                                                   \
    case value:                                                                                    \
        return text;
        STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    case CM_ACME_UNKNOWN:
        break;
    }
    return "unknown";
}

enum cm_acme_status cm__acme_status_of(const char *s)
{
    if (s == NULL)
        return CM_ACME_UNKNOWN;
#define STATUS_MATCH(value, text)                                                                  \
    if (strcmp(s, text) == 0)                                                                      \
        return value;
    STATUS_MAP(STATUS_MATCH)
#undef STATUS_MATCH
    return CM_ACME_UNKNOWN;
}

void cm_acme_order_free(struct cm_acme_order *o)
{
    if (o == NULL)
        return;
    free(o->url);
    free(o->finalize);
    free(o->certificate);
    cm_acme_strv_free(o->authz);
    memset(o, 0, sizeof *o);
}

/* ------------------------------------------------------------------- parsing */

static cm_status parse_authz_urls(struct json_object *list, struct cm_acme_order *o,
                                  struct cm_err *err)
{
    size_t len = list != NULL ? json_object_array_length(list) : 0;
    cm_status rc = CM_OK;

    if (len > CM_ACME_IDENTS_MAX)
        return cm_fail(err, CM_E_LIMIT, "order has %zu authorizations", len);
    for (size_t i = 0; rc == CM_OK && i < len; i++) {
        const char *url = cm__json_text_of(json_object_array_get_idx(list, i), CM_ACME_URL_MAX);

        if (!cm__acme_is_url(url))
            return cm_fail(err, CM_E_PARSE, "order: authorization %zu is not a URL", i + 1);
        rc = cm__strv_add(&o->authz, &o->n_authz, url, err);
    }
    return rc;
}

/* Index of the name that identifier @ident stands for, @n when it is none of them. */
static size_t find_name(struct json_object *ident, const char *const *names, size_t n)
{
    const char *type = cm__json_str(ident, "type", 32);
    const char *value = cm__json_str(ident, "value", CM_NAME_MAX + 2);
    char name[CM_NAME_BUF];
    bool ip;
    size_t i;

    if (type == NULL || value == NULL ||
        cm_name_normalize(value,
                          CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE,
                          name, NULL) != CM_OK)
        return n;
    ip = cm_name_is_ip(name);
    if (strcmp(type, ip ? "ip" : "dns") != 0)
        return n;
    for (i = 0; i < n && strcmp(names[i], name) != 0; i++)
        ;
    return i;
}

/* Both ways: every identifier is a name we asked for, and every name is there. A CA that adds
 * names would have us prove control of what the caller did not ask for (F72). */
static cm_status check_identifiers(struct json_object *list, const char *const *names, size_t n,
                                   struct cm_err *err)
{
    size_t len = list != NULL ? json_object_array_length(list) : 0;
    bool seen[CM_ACME_IDENTS_MAX] = { false };

    if (len > CM_ACME_IDENTS_MAX)
        return cm_fail(err, CM_E_LIMIT, "order has %zu identifiers", len);
    for (size_t i = 0; i < len; i++) {
        struct json_object *ident = json_object_array_get_idx(list, i);
        size_t at = find_name(ident, names, n);
        const char *value = cm__json_str(ident, "value", CM_ACME_JSON_MAX);
        char shown[CM_NAME_BUF];

        if (at == n)
            return cm_fail(
                err, CM_E_ACME, "the CA's order has an identifier not asked for: '%s'",
                cm_escape(value, value != NULL ? strlen(value) : 0, shown, sizeof shown));
        seen[at] = true;
    }
    for (size_t i = 0; i < n; i++) {
        bool twin = false; /* the caller may have named it twice */

        for (size_t k = 0; k < i && !twin; k++)
            twin = strcmp(names[k], names[i]) == 0;
        if (!seen[i] && !twin)
            return cm_fail(err, CM_E_ACME, "the CA's order lacks identifier '%s'", names[i]);
    }
    return CM_OK;
}

static cm_status copy_url(struct json_object *o, const char *key, char **ret, struct cm_err *err)
{
    const char *url = cm__json_url(o, key);

    *ret = cm_strdup(url);
    return url != NULL && *ret == NULL ? cm_fail_nomem(err) : CM_OK;
}

cm_status cm__acme_parse_order(struct cm_span json, const char *const *names, size_t n,
                               struct cm_acme_order *ret, struct cm_err *err)
{
    CM_AUTO_JSON struct json_object *root = NULL;
    struct cm_acme_order o = { 0 };
    cm_status rc = cm__json_parse(json, "order", &root, err);

    if (rc != CM_OK)
        return rc;
    if (cm__json_str(root, "status", 64) == NULL)
        return cm_fail(err, CM_E_PARSE, "order has no status");
    o.status = cm__acme_status_of(cm__json_str(root, "status", 64));
    cm__acme_problem_from(cm__json_object(root, "error"), &o.error);
    rc = copy_url(root, "finalize", &o.finalize, err);
    if (rc == CM_OK && o.status == CM_ACME_VALID) /* some CAs fill it in earlier */
        rc = copy_url(root, "certificate", &o.certificate, err);
    if (rc == CM_OK)
        rc = parse_authz_urls(cm__json_array(root, "authorizations"), &o, err);
    if (rc == CM_OK && names != NULL)
        rc = check_identifiers(cm__json_array(root, "identifiers"), names, n, err);
    if (rc != CM_OK) {
        cm_acme_order_free(&o);
        return rc;
    }
    *ret = o;
    return CM_OK;
}

/* All that is going to be called has to be of an allowed origin, before any of it is (R17). */
static cm_status check_urls(struct cm_acme *a, const struct cm_acme_order *o, struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (o->finalize != NULL)
        rc = cm__acme_check_url(a, o->finalize, "finalize", NULL, err);
    if (rc == CM_OK && o->certificate != NULL)
        rc = cm__acme_check_url(a, o->certificate, "the certificate", NULL, err);
    for (size_t i = 0; rc == CM_OK && i < o->n_authz; i++)
        rc = cm__acme_check_url(a, o->authz[i], "an authorization", NULL, err);
    return rc;
}

/* ------------------------------------------------------------------ requests */

static cm_status put_identifiers(struct cm_buf *out, const struct cm_acme_new_order *req,
                                 struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "{\"identifiers\":[", err);

    for (size_t i = 0; rc == CM_OK && i < req->n; i++) {
        rc = cm_buf_printf(out, err, "%s{\"type\":\"%s\",\"value\":", i > 0 ? "," : "",
                           cm_name_is_ip(req->names[i]) ? "ip" : "dns");
        if (rc == CM_OK)
            rc = cm__json_put_str(out, req->names[i], err);
        if (rc == CM_OK)
            rc = cm_buf_puts(out, "}", err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "]", err);
    return rc;
}

static cm_status put_optional(struct cm_buf *out, const char *key, const char *value,
                              struct cm_err *err)
{
    cm_status rc;

    if (value == NULL)
        return CM_OK;
    rc = cm_buf_printf(out, err, ",\"%s\":", key);
    return rc == CM_OK ? cm__json_put_str(out, value, err) : rc;
}

static cm_status make_new_order(void *arg, const char *url, struct cm_buf *out, struct cm_err *err)
{
    const struct cm_acme_new_order *req = *(const struct cm_acme_new_order **)arg;
    cm_status rc = put_identifiers(out, req, err);

    (void)url;
    if (rc == CM_OK)
        rc = put_optional(out, "notBefore", req->not_before, err);
    if (rc == CM_OK)
        rc = put_optional(out, "notAfter", req->not_after, err);
    if (rc == CM_OK)
        rc = put_optional(out, "profile", req->profile, err);
    if (rc == CM_OK)
        rc = put_optional(out, "replaces", req->replaces, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "}", err);
    return rc;
}

cm_status cm_acme_order_new(struct cm_acme *a, const struct cm_op *op,
                            const struct cm_acme_signer *who, const struct cm_acme_new_order *req,
                            struct cm_acme_order *ret, struct cm_err *err)
{
    /* Not idempotent: a second order costs quota. */
    struct acme_request post = { .what = "newOrder", .who = who };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    struct cm_acme_order o = { 0 };
    cm_status rc;

    if (req->n == 0 || req->n > CM_ACME_IDENTS_MAX)
        return cm_fail(err, CM_E_INVAL, "an order is for 1 to %d names, not %zu",
                       CM_ACME_IDENTS_MAX, req->n);
    rc = cm__acme_post_endpoint(a, op, offsetof(struct cm_acme_directory, new_order), &post,
                                make_new_order, &req, &ans, err);
    if (rc == CM_OK)
        rc = cm__acme_parse_order(cm_buf_span(&ans.http.body), req->names, req->n, &o, err);
    if (rc == CM_OK)
        rc = check_urls(a, &o, err);
    if (rc == CM_OK)
        rc = cm__acme_location(a, &ans, post.url, "the order", &o.url, err);
    if (rc != CM_OK) {
        cm_acme_order_free(&o);
        return rc;
    }
    o.retry_after_s = ans.retry_after_s;
    *ret = o;
    return CM_OK;
}

/* POST to @url (the order's own or its finalize); @o becomes the answer but keeps its URL, and
 * stays as it is on failure. */
static cm_status post_order(struct cm_acme *a, const struct cm_op *op,
                            const struct acme_request *post, struct cm_acme_order *o,
                            struct cm_err *err)
{
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    struct cm_acme_order fresh = { 0 };
    cm_status rc = cm__acme_post(a, op, post, &ans, err);

    if (rc == CM_OK)
        rc = cm__acme_parse_order(cm_buf_span(&ans.http.body), NULL, 0, &fresh, err);
    if (rc == CM_OK)
        rc = check_urls(a, &fresh, err);
    if (rc != CM_OK) {
        cm_acme_order_free(&fresh);
        return rc;
    }
    fresh.retry_after_s = ans.retry_after_s;
    fresh.url = o->url;
    o->url = NULL;
    cm_acme_order_free(o);
    *o = fresh;
    return CM_OK;
}

cm_status cm_acme_order_get(struct cm_acme *a, const struct cm_op *op,
                            const struct cm_acme_signer *who, struct cm_acme_order *o,
                            struct cm_err *err)
{
    const struct acme_request post = {
        .what = "order", .url = o->url, .who = who, .idempotent = true
    };

    return post_order(a, op, &post, o, err);
}

cm_status cm_acme_order_finalize(struct cm_acme *a, const struct cm_op *op,
                                 const struct cm_acme_signer *who, struct cm_acme_order *o,
                                 struct cm_span csr_der, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(CM_ACME_REQUEST_MAX / 2);
    struct acme_request post = { .what = "finalize", .url = o->finalize, .who = who };
    cm_status rc = cm_buf_puts(&payload, "{\"csr\":\"", err);

    if (rc == CM_OK)
        rc = cm_b64url_encode(csr_der, &payload, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "\"}", err);
    if (rc != CM_OK)
        return rc;
    post.payload = cm_buf_span(&payload);
    return post_order(a, op, &post, o, err);
}
