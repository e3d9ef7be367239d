/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <stdio.h>
#include <string.h>

/* Source: RFC 7807 (problem documents), RFC 8555 6.7 (types, subproblems). */

static const char urn[] = "urn:ietf:params:acme:error:";

#define SUBPROBLEMS_SHOWN 3

/* Types after which the same request cannot succeed, however often it is sent: something in the
 * request, the account or the configuration has to change first. Not in the list on purpose:
 *  - badNonce, serverInternal, orderNotReady, rateLimited: time or a retry helps;
 *  - caa, connection, dns, incorrectResponse, tls, unauthorized, compound: outcomes of validation,
 *    cured outside (DNS, firewall) without anyone touching us;
 *  - accountDoesNotExist, userActionRequired, alreadyReplaced: the issuer has its own answer. */
static const char *const hopeless[] = {
    "alreadyRevoked",
    "badCSR",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "externalAccountRequired",
    "invalidContact",
    "invalidProfile",
    "malformed",
    "rejectedIdentifier",
    "unsupportedContact",
    "unsupportedIdentifier",
};

static const char *short_type(const char *type)
{
    return strncmp(type, urn, sizeof urn - 1) == 0 ? type + sizeof urn - 1 : type;
}

bool cm_acme_problem_is(const char *type, const char *name)
{
    return strcmp(short_type(type), short_type(name)) == 0;
}

static bool is_hopeless(const char *type)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(hopeless); i++)
        if (cm_acme_problem_is(type, hopeless[i]))
            return true;
    return false;
}

/* Bounded text that says "..." by itself when it overflows (cm_escape's doing for the parts). */
struct text {
    char *at;
    size_t left;
};

static void add(struct text *t, const char *s)
{
    size_t n = strnlen(s, t->left - 1);

    memcpy(t->at, s, n);
    t->at[n] = '\0';
    t->at += n;
    t->left -= n;
}

static void add_escaped(struct text *t, const char *s)
{
    size_t n;

    (void)cm_escape(s, strlen(s), t->at, t->left);
    n = strlen(t->at);
    t->at += n;
    t->left -= n;
}

/* " (a.example: rejectedIdentifier: policy; ...)" */
static void add_subproblems(struct text *t, struct json_object *list)
{
    size_t n = list != NULL ? json_object_array_length(list) : 0;
    char more[48];

    for (size_t i = 0; i < n && i < SUBPROBLEMS_SHOWN; i++) {
        struct json_object *sub = json_object_array_get_idx(list, i);
        struct json_object *ident = cm__json_object(sub, "identifier");
        const char *value = cm__json_str(ident, "value", CM_ACME_TEXT_MAX);
        const char *type = cm__json_str(sub, "type", CM_ACME_TEXT_MAX);
        const char *detail = cm__json_str(sub, "detail", CM_ACME_PROBLEM_MAX);

        add(t, i == 0 ? " (" : "; ");
        add_escaped(t, value != NULL ? value : "?");
        if (type != NULL) {
            add(t, ": ");
            add_escaped(t, short_type(type));
        }
        if (detail != NULL) {
            add(t, ": ");
            add_escaped(t, detail);
        }
    }
    if (n > SUBPROBLEMS_SHOWN) {
        (void)snprintf(more, sizeof more, "; and %zu more", n - SUBPROBLEMS_SHOWN);
        add(t, more);
    }
    if (n > 0)
        add(t, ")");
}

static bool has_identifier(struct json_object *list)
{
    size_t n = list != NULL ? json_object_array_length(list) : 0;

    for (size_t i = 0; i < n; i++)
        if (cm__json_object(json_object_array_get_idx(list, i), "identifier") != NULL)
            return true;
    return false;
}

void cm__acme_problem_from(struct json_object *o, struct cm_acme_problem *ret)
{
    const char *type = cm__json_str(o, "type", CM_ACME_PROBLEM_MAX);
    const char *detail = cm__json_str(o, "detail", CM_ACME_PROBLEM_MAX);
    struct json_object *status = NULL;
    struct text t = { ret->detail, sizeof ret->detail };

    memset(ret, 0, sizeof *ret);
    if (o == NULL)
        return;
    /* A type that does not fit is none that we know; without a type RFC 7807 says about:blank. */
    (void)cm_escape(type != NULL ? type : "about:blank", type != NULL ? strlen(type) : 11,
                    ret->type, sizeof ret->type);
    if (detail == NULL)
        detail = cm__json_str(o, "title", CM_ACME_PROBLEM_MAX);
    if (detail != NULL)
        add_escaped(&t, detail);
    add_subproblems(&t, cm__json_array(o, "subproblems"));
    ret->names_identifiers = has_identifier(cm__json_array(o, "subproblems"));
    if (json_object_object_get_ex(o, "status", &status) &&
        json_object_is_type(status, json_type_int)) {
        int64_t v = json_object_get_int64(status);

        ret->status = v >= 100 && v <= 599 ? (int)v : 0;
    }
}

cm_status cm_acme_parse_problem(struct cm_span json, struct cm_acme_problem *ret,
                                struct cm_err *err)
{
    CM_AUTO_JSON struct json_object *o = NULL;
    cm_status rc;

    if (json.len > CM_ACME_PROBLEM_MAX)
        return cm_fail(err, CM_E_LIMIT, "problem document of %zu bytes is too large", json.len);
    rc = cm__json_parse(json, "problem document", &o, err);
    if (rc == CM_OK)
        cm__acme_problem_from(o, ret);
    return rc;
}

cm_status cm__acme_fail_problem(const char *what, const struct cm_acme_problem *p, int http_status,
                                struct cm_err *err)
{
    cm_status rc = cm_acme_problem_is(p->type, "rateLimited") ? CM_E_RATELIMITED : CM_E_ACME;

    (void)cm_fail(err, rc, "CA refuses %s: %s%s%s", what,
                  p->type[0] != '\0' ? short_type(p->type) : "no reason given",
                  p->detail[0] != '\0' ? ": " : "", p->detail);
    if (err != NULL) {
        err->http_status = http_status;
        err->no_retry = is_hopeless(p->type);
        (void)snprintf(err->problem, sizeof err->problem, "%s", p->type);
    }
    return rc;
}

int64_t cm__acme_retry_after(const struct cm_http_response *resp, int64_t now_s)
{
    char text[64];
    struct cm_span v;
    int64_t s = 0;

    if (!cm_http_header(resp, "retry-after", 0, &v) || v.len >= sizeof text)
        return 0;
    memcpy(text, v.data, v.len);
    text[v.len] = '\0';
    return cm_time_parse_retry_after(text, now_s, &s, NULL) == CM_OK ? s : 0;
}

cm_status cm__acme_fail_answer(const char *what, const struct cm_http_response *resp, int64_t now_s,
                               struct cm_err *err)
{
    int64_t after = cm__acme_retry_after(resp, now_s);
    struct cm_acme_problem p = { .type = "" };
    cm_status rc;

    /* Whatever the Content-Type says: proxies before a CA are careless with it. */
    if (resp->status < 400 || cm_acme_parse_problem(cm_buf_span(&resp->body), &p, NULL) != CM_OK ||
        strcmp(p.type, "about:blank") == 0) {
        rc = cm_fail(err, CM_E_ACME, "CA answers %s with HTTP %d%s", what, resp->status,
                     resp->status >= 300 && resp->status < 400 ? ", a redirect that is not followed"
                                                               : "");
        if (err != NULL)
            err->http_status = resp->status;
    } else {
        rc = cm__acme_fail_problem(what, &p, resp->status, err);
    }
    if (resp->status == 429 || (resp->status == 503 && after > 0))
        rc = CM_E_RATELIMITED;
    if (err != NULL) {
        err->status = rc;
        err->retry_after_s = after;
        err->whole_ca = cm__acme_is_whole_ca(what, resp->status, &p);
        err->no_retry = err->no_retry && rc != CM_E_RATELIMITED && resp->status < 500;
    }
    return rc;
}
