/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Source: RFC 8555 7.1.2, 7.3. */

void cm_acme_account_free(struct cm_acme_account *acc)
{
    if (acc == NULL)
        return;
    free(acc->url);
    free(acc->orders);
    cm_acme_strv_free(acc->contact);
    free(acc->eab_json);
    free(acc->json);
    memset(acc, 0, sizeof *acc);
}

static bool is_printable(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static cm_status parse_contacts(struct json_object *list, struct cm_acme_account *acc,
                                struct cm_err *err)
{
    size_t len = list != NULL ? json_object_array_length(list) : 0;
    size_t n = 0;
    cm_status rc = CM_OK;

    for (size_t i = 0; rc == CM_OK && i < len && n < CM_ACME_CONTACTS_MAX; i++) {
        const char *s = cm__json_text_of(json_object_array_get_idx(list, i), CM_ACME_TEXT_MAX);

        if (s != NULL && is_printable(s))
            rc = cm__strv_add(&acc->contact, &n, s, err);
    }
    return rc;
}

cm_status cm__acme_parse_account(struct cm_span json, struct cm_acme_account *ret,
                                 struct cm_err *err)
{
    CM_AUTO_JSON struct json_object *o = NULL;
    struct cm_acme_account acc = { 0 };
    const char *orders;
    cm_status rc = cm__json_parse(json, "account", &o, err);

    if (rc != CM_OK)
        return rc;
    /* Required, and what is not "valid" ends the use of an account: not to be guessed. */
    acc.status = cm__acme_status_of(cm__json_str(o, "status", 32));
    if (acc.status == CM_ACME_UNKNOWN)
        return cm_fail(err, CM_E_PARSE, "account has no status that we know");
    /* As the caller had it, when the CA does not say. */
    acc.tos_agreed = cm__json_bool(o, "termsOfServiceAgreed", ret->tos_agreed);
    orders = cm__json_url(o, "orders");
    acc.orders = cm_strdup(orders);
    if (orders != NULL && acc.orders == NULL)
        rc = cm_fail_nomem(err);
    acc.json = cm_strndup((const char *)json.data, json.len);
    if (acc.json == NULL)
        rc = cm_fail_nomem(err);
    if (rc == CM_OK)
        rc = parse_contacts(cm__json_array(o, "contact"), &acc, err);
    if (rc != CM_OK) {
        cm_acme_account_free(&acc);
        return rc;
    }
    *ret = acc;
    return CM_OK;
}

/* ---------------------------------------------------------------- newAccount */

struct new_account {
    const struct cm_acme_new_account *req;
    const struct cm_key *key;
    struct cm_buf eab;
};

/* "sep"contact":["mailto:...",...] */
static cm_status put_contacts(struct cm_buf *out, const char *const *contact, size_t n,
                              struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "\"contact\":[", err);

    for (size_t i = 0; rc == CM_OK && i < n; i++) {
        if (i > 0)
            rc = cm_buf_puts(out, ",", err);
        if (rc == CM_OK)
            rc = cm__json_put_str(out, contact[i], err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "]", err);
    return rc;
}

static cm_status make_new_account(void *arg, const char *url, struct cm_buf *out,
                                  struct cm_err *err)
{
    struct new_account *na = arg;
    const struct cm_acme_new_account *req = na->req;
    cm_status rc = cm_buf_puts(
        out, req->tos_agreed ? "{\"termsOfServiceAgreed\":true" : "{\"termsOfServiceAgreed\":false",
        err);

    if (rc == CM_OK && req->only_existing)
        rc = cm_buf_puts(out, ",\"onlyReturnExisting\":true", err);
    if (rc == CM_OK && !req->only_existing && req->n_contact > 0) {
        rc = cm_buf_puts(out, ",", err);
        if (rc == CM_OK)
            rc = put_contacts(out, req->contact, req->n_contact, err);
    }
    if (rc == CM_OK && req->eab_kid != NULL) {
        cm_buf_reset(&na->eab);
        rc = cm__jws_make_eab(req, na->key, url, &na->eab, err);
        if (rc == CM_OK)
            rc = cm_buf_puts(out, ",\"externalAccountBinding\":", err);
        if (rc == CM_OK)
            rc = cm_buf_append(out, na->eab.data, na->eab.len, err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "}", err);
    return rc;
}

cm_status cm_acme_account_new(struct cm_acme *a, const struct cm_op *op, const struct cm_key *key,
                              const struct cm_acme_new_account *req, struct cm_acme_account *ret,
                              bool *ret_created, struct cm_err *err)
{
    const struct cm_acme_signer who = { key, NULL };
    struct new_account na = { req, key, CM_BUF_INIT(64 * 1024) };
    /* Idempotent: for a key that has an account the CA answers with that one (RFC 8555 7.3). */
    struct acme_request post = { .what = "newAccount", .who = &who, .idempotent = true };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    struct cm_acme_account acc = { .tos_agreed = req->tos_agreed };
    cm_status rc = cm__acme_post_endpoint(a, op, offsetof(struct cm_acme_directory, new_account),
                                          &post, make_new_account, &na, &ans, err);

    if (rc == CM_OK)
        rc = cm__acme_parse_account(cm_buf_span(&ans.http.body), &acc, err);
    if (rc == CM_OK)
        rc = cm__acme_location(a, &ans, post.url, "the account", &acc.url, err);
    if (rc == CM_OK && na.eab.len > 0) {
        acc.eab_json = cm_strdup(cm_buf_str(&na.eab));
        if (acc.eab_json == NULL)
            rc = cm_fail_nomem(err);
    }
    cm_buf_free(&na.eab);
    if (rc != CM_OK) {
        cm_acme_account_free(&acc);
        return rc;
    }
    if (ret_created != NULL)
        *ret_created = ans.http.status == 201;
    *ret = acc;
    return CM_OK;
}

/* -------------------------------------------------------- an account by its URL */

/* @ret (NULL ok) becomes what the CA answers. */
static cm_status post_account(struct cm_acme *a, const struct cm_op *op,
                              const struct cm_acme_signer *who, struct cm_span payload,
                              const char *what, struct cm_acme_account *ret, struct cm_err *err)
{
    const struct acme_request post = { .what = what,
                                       .url = who->kid,
                                       .who = who,
                                       .payload = payload,
                                       .idempotent = payload.len == 0 };
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    struct cm_acme_account acc = { .tos_agreed = true };
    cm_status rc;

    if (who->kid == NULL)
        return cm_fail(err, CM_E_INVAL, "%s needs the account's URL", what);
    rc = cm__acme_post(a, op, &post, &ans, err);
    if (rc != CM_OK || ret == NULL)
        return rc;
    rc = cm__acme_parse_account(cm_buf_span(&ans.http.body), &acc, err);
    if (rc == CM_OK) {
        acc.url = cm_strdup(who->kid);
        if (acc.url == NULL)
            rc = cm_fail_nomem(err);
    }
    if (rc != CM_OK) {
        cm_acme_account_free(&acc);
        return rc;
    }
    *ret = acc;
    return CM_OK;
}

cm_status cm_acme_account_update(struct cm_acme *a, const struct cm_op *op,
                                 const struct cm_acme_signer *who, const char *const *contact,
                                 size_t n, struct cm_acme_account *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(CM_ACME_REQUEST_MAX / 2);
    cm_status rc = cm_buf_puts(&payload, "{", err);

    if (rc == CM_OK)
        rc = put_contacts(&payload, contact, n, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "}", err);
    if (rc != CM_OK)
        return rc;
    return post_account(a, op, who, cm_buf_span(&payload), "account update", ret, err);
}

cm_status cm_acme_account_get(struct cm_acme *a, const struct cm_op *op,
                              const struct cm_acme_signer *who, struct cm_acme_account *ret,
                              struct cm_err *err)
{
    return post_account(a, op, who, cm_span_str(NULL), "account", ret, err);
}

cm_status cm_acme_account_deactivate(struct cm_acme *a, const struct cm_op *op,
                                     const struct cm_acme_signer *who, struct cm_err *err)
{
    return post_account(a, op, who, cm_span_str("{\"status\":\"deactivated\"}"),
                        "account deactivation", NULL, err);
}
