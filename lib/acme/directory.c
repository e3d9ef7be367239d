/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Source: RFC 8555 7.1.1. CAs put random members into their directory to catch clients that choke
 * on them: whatever is not known, or not of the expected type, is as good as absent. */

#define DIRECTORY_AGE_NS   (12 * 3600 * CM_NS_PER_S)
#define DIRECTORY_PAUSE_NS (60 * CM_NS_PER_S) /* between two fetches, whatever the reason */

void cm__acme_directory_clear(struct cm_acme_directory *d)
{
    free(d->new_nonce);
    free(d->new_account);
    free(d->new_order);
    free(d->revoke_cert);
    free(d->key_change);
    free(d->new_authz);
    free(d->renewal_info);
    free(d->terms_of_service);
    free(d->website);
    cm_acme_strv_free(d->profiles);
    cm_acme_strv_free(d->caa);
    memset(d, 0, sizeof *d);
}

static cm_status copy_url(struct json_object *o, const char *key, char **ret, struct cm_err *err)
{
    const char *url = cm__json_url(o, key);

    *ret = cm_strdup(url);
    return url != NULL && *ret == NULL ? cm_fail_nomem(err) : CM_OK;
}

static bool is_profile_name(const char *s)
{
    size_t len = strlen(s);

    if (len == 0 || len > 64)
        return false;
    for (size_t i = 0; i < len; i++)
        if (s[i] <= 0x20 || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\')
            return false;
    return true;
}

/* Names of the CA for CAA records (RFC 8659); what cannot be one is left out. */
static cm_status parse_caa(struct json_object *list, struct cm_acme_directory *d,
                           struct cm_err *err)
{
    size_t len = list != NULL ? json_object_array_length(list) : 0;
    cm_status rc = CM_OK;

    for (size_t i = 0, n = 0; rc == CM_OK && i < len && n < CM_ACME_PROFILES_MAX; i++) {
        const char *s = cm__json_text_of(json_object_array_get_idx(list, i), CM_NAME_MAX);
        char name[CM_NAME_BUF];

        if (s != NULL && cm_name_normalize(s, 0, name, NULL) == CM_OK)
            rc = cm__strv_add(&d->caa, &n, name, err);
    }
    return rc;
}

static cm_status parse_meta(struct json_object *meta, struct cm_acme_directory *d,
                            struct cm_err *err)
{
    struct json_object *profiles = cm__json_object(meta, "profiles");
    struct json_object_iterator at;
    struct json_object_iterator end;
    size_t n = 0;
    cm_status rc = copy_url(meta, "termsOfService", &d->terms_of_service, err);

    if (rc == CM_OK)
        rc = copy_url(meta, "website", &d->website, err);
    if (rc == CM_OK)
        rc = parse_caa(cm__json_array(meta, "caaIdentities"), d, err);
    d->eab_required = cm__json_bool(meta, "externalAccountRequired", false);
    if (profiles == NULL || rc != CM_OK)
        return rc;
    at = json_object_iter_begin(profiles);
    end = json_object_iter_end(profiles);
    for (; !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
        const char *name = json_object_iter_peek_name(&at);

        if (rc == CM_OK && n < CM_ACME_PROFILES_MAX && is_profile_name(name))
            rc = cm__strv_add(&d->profiles, &n, name, err);
    }
    return rc;
}

cm_status cm__acme_parse_directory(struct cm_span json, struct cm_acme_directory *ret,
                                   struct cm_err *err)
{
    CM_AUTO_JSON struct json_object *o = NULL;
    struct cm_acme_directory d = { 0 };
    const struct {
        const char *key;
        char **to;
    } urls[] = { { "newNonce", &d.new_nonce },      { "newAccount", &d.new_account },
                 { "newOrder", &d.new_order },      { "revokeCert", &d.revoke_cert },
                 { "keyChange", &d.key_change },    { "newAuthz", &d.new_authz },
                 { "renewalInfo", &d.renewal_info } };
    cm_status rc = cm__json_parse(json, "ACME directory", &o, err);

    for (size_t i = 0; rc == CM_OK && i < CM_ARRAY_LEN(urls); i++) {
        rc = copy_url(o, urls[i].key, urls[i].to, err);
        /* The first three are what nothing works without. */
        if (rc == CM_OK && i < 3 && *urls[i].to == NULL)
            rc = cm_fail(err, CM_E_PARSE, "not an ACME directory: it has no %s", urls[i].key);
    }
    if (rc == CM_OK && cm__json_object(o, "meta") != NULL)
        rc = parse_meta(cm__json_object(o, "meta"), &d, err);
    if (rc != CM_OK) {
        cm__acme_directory_clear(&d);
        return rc;
    }
    *ret = d;
    return CM_OK;
}

/* R16: an endpoint we need must be https; one that we can do without is dropped. */
static cm_status check_endpoints(struct cm_acme *a, struct cm_acme_directory *d, struct cm_err *err)
{
    const char *const needed[] = { d->new_nonce, d->new_account, d->new_order };
    char **const others[] = { &d->revoke_cert, &d->key_change, &d->new_authz, &d->renewal_info };
    char shown[200];

    for (size_t i = 0; i < CM_ARRAY_LEN(needed); i++)
        if (!cm__acme_scheme_ok(a, needed[i]))
            return cm_fail(err, CM_E_ACME, "the ACME directory names a URL that is not https: '%s'",
                           cm_escape(needed[i], strlen(needed[i]), shown, sizeof shown));
    for (size_t i = 0; i < CM_ARRAY_LEN(others); i++) {
        if (*others[i] != NULL && !cm__acme_scheme_ok(a, *others[i])) {
            free(*others[i]);
            *others[i] = NULL;
        }
    }
    return CM_OK;
}

static cm_status fetch(struct cm_acme *a, const struct cm_op *op, struct acme_directory **ret,
                       struct cm_err *err)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = a->directory_url,
                                         .accept = "application/json",
                                         .max_body = CM_ACME_JSON_MAX,
                                         .follow = true };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct acme_directory *node = cm_calloc(1, sizeof *node);
    cm_status rc;

    if (node == NULL)
        return cm_fail_nomem(err);
    rc = cm__acme_get(a, op, &req, "the directory", &resp, err);
    if (rc == CM_OK)
        rc = cm__acme_parse_directory(cm_buf_span(&resp.body), &node->d, err);
    if (rc == CM_OK)
        rc = check_endpoints(a, &node->d, err);
    cm_http_response_free(&resp);
    if (rc != CM_OK) {
        cm__acme_directory_clear(&node->d);
        free(node);
        /* What is not a directory serves nobody. */
        if (err != NULL && (rc == CM_E_ACME || rc == CM_E_PARSE || rc == CM_E_LIMIT))
            err->whole_ca = true;
        return cm_wrap(err, rc, "ACME directory %s", a->directory_url);
    }
    *ret = node;
    return CM_OK;
}

static bool same_text(const char *a, const char *b)
{
    return (a == NULL && b == NULL) || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_strv(char *const *a, char *const *b)
{
    while (a != NULL && b != NULL && *a != NULL && *b != NULL && strcmp(*a, *b) == 0) {
        a++;
        b++;
    }
    return (a == NULL || *a == NULL) && (b == NULL || *b == NULL);
}

static bool same_directory(const struct cm_acme_directory *a, const struct cm_acme_directory *b)
{
    return same_text(a->new_nonce, b->new_nonce) && same_text(a->new_account, b->new_account) &&
           same_text(a->new_order, b->new_order) && same_text(a->revoke_cert, b->revoke_cert) &&
           same_text(a->key_change, b->key_change) && same_text(a->new_authz, b->new_authz) &&
           same_text(a->renewal_info, b->renewal_info) &&
           same_text(a->terms_of_service, b->terms_of_service) &&
           same_text(a->website, b->website) && a->eab_required == b->eab_required &&
           same_strv(a->profiles, b->profiles) && same_strv(a->caa, b->caa);
}

/* Take @fresh over, or drop it when it says nothing new: so memory grows with real changes only. */
static void adopt_locked(struct cm_acme *a, struct acme_directory *fresh)
{
    if (a->directory != NULL && same_directory(&a->directory->d, &fresh->d)) {
        cm__acme_directory_clear(&fresh->d);
        free(fresh);
        return;
    }
    fresh->older = a->directory;
    a->directory = fresh;
}

/* With the lock held but for the fetch itself; the flight is ours. */
static cm_status lead_locked(struct cm_acme *a, const struct cm_op *op, struct cm_err *err)
{
    struct acme_directory *fresh = NULL;
    struct cm_err mine = CM_ERR_INIT;
    int64_t now;
    cm_status rc;

    cm__acme_flight_begin_locked(&a->directory_flight);
    cm_mutex_unlock(&a->lock);
    rc = fetch(a, op, &fresh, &mine);
    now = cm_op_env(op)->mono_ns(cm_op_env(op));
    cm_mutex_lock(&a->lock);
    if (rc == CM_OK) {
        adopt_locked(a, fresh);
        a->directory_got_ns = now;
        a->directory_next_ns = now + DIRECTORY_AGE_NS;
    } else if (a->directory != NULL && cm_op_check(op, NULL) == CM_OK) {
        /* An old directory serves better than none: its URLs rarely change. */
        a->directory_next_ns = now + DIRECTORY_PAUSE_NS;
        rc = CM_OK;
    }
    cm__acme_flight_end_locked(a, &a->directory_flight, op, rc, &mine);
    if (rc != CM_OK && err != NULL)
        *err = mine;
    return rc;
}

cm_status cm_acme_directory(struct cm_acme *a, const struct cm_op *op,
                            const struct cm_acme_directory **ret, struct cm_err *err)
{
    const struct cm_env *env = cm_op_env(op);
    cm_status rc = CM_OK;

    cm_mutex_lock(&a->lock);
    while (a->directory == NULL || env->mono_ns(env) >= a->directory_next_ns) {
        if (a->directory_flight.busy)
            rc = cm__acme_flight_wait_locked(a, &a->directory_flight, op, err);
        else
            rc = lead_locked(a, op, err);
        if (rc != CM_OK)
            break;
    }
    if (rc == CM_OK)
        *ret = &a->directory->d;
    cm_mutex_unlock(&a->lock);
    return rc;
}

void cm__acme_directory_refresh(struct cm_acme *a, const struct cm_op *op, bool *changed)
{
    const struct cm_env *env = cm_op_env(op);
    const struct acme_directory *before;
    cm_status rc = CM_OK;

    cm_mutex_lock(&a->lock);
    before = a->directory;
    if (a->directory_flight.busy)
        rc = cm__acme_flight_wait_locked(a, &a->directory_flight, op, NULL);
    else if (env->mono_ns(env) - a->directory_got_ns >= DIRECTORY_PAUSE_NS)
        rc = lead_locked(a, op, NULL);
    *changed = rc == CM_OK && a->directory != before;
    cm_mutex_unlock(&a->lock);
}
