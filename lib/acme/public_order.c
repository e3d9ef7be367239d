/* SPDX-License-Identifier: Apache-2.0 */
#include "public.h"

#include <string.h>

/* Orders, authorizations and certificates of certmesh/cm_acme.h. */

#define PATIENCE_S 300 /* a CA that asks for more is not waited for */

/* -------------------------------------------------------------- identifiers */

static cm_status put_identifier(struct cm_buf *out, const struct cm_acme_id *id, struct cm_err *err)
{
    bool ip = id->type == CM_ACME_ID_IP;
    char name[CM_NAME_BUF];

    cm_status rc = cm_name_normalize(id->value,
                                     ip ? (unsigned)CM_NAME_ALLOW_IP
                                        : (unsigned)CM_NAME_ALLOW_WILDCARD |
                                              (unsigned)CM_NAME_ALLOW_UNDERSCORE,
                                     name, err);
    if (rc == CM_OK && cm_name_is_ip(name) != ip)
        rc = cm_fail(err, CM_E_INVAL, "'%s' is no address", name);
    return rc == CM_OK ? cm_buf_printf(out, err, "{\"type\":\"%s\",\"value\":\"%s\"}",
                                       ip ? "ip" : "dns", name)
                       : rc;
}

static cm_status put_time(struct cm_buf *out, const char *member, int64_t at_s, struct cm_err *err)
{
    char text[CM_TIME_TEXT];

    if (at_s == 0)
        return CM_OK;
    if (at_s < 0 || at_s > INT64_MAX / CM_NS_PER_S)
        return cm_fail(err, CM_E_INVAL, "%s is out of range", member);
    cm_time_format_rfc3339(at_s * CM_NS_PER_S, false, text);
    return cm_buf_printf(out, err, ",\"%s\":\"%s\"", member, text);
}

static cm_status put_text(struct cm_buf *out, const char *member, const char *value,
                          struct cm_err *err)
{
    if (value == NULL)
        return CM_OK;
    cm_status rc = cm_buf_printf(out, err, ",\"%s\":", member);
    return rc == CM_OK ? cm__json_put_str(out, value, err) : rc;
}

static cm_status put_order(struct cm_buf *out, const struct cm_acme_order_request *req,
                           struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, "{\"identifiers\":[", err);

    for (size_t i = 0; rc == CM_OK && i < req->n_ids; i++) {
        rc = i > 0 ? cm_buf_puts(out, ",", err) : CM_OK;
        if (rc == CM_OK)
            rc = put_identifier(out, &req->ids[i], err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "]", err);
    if (rc == CM_OK)
        rc = put_time(out, "notBefore", req->not_before_s, err);
    if (rc == CM_OK)
        rc = put_time(out, "notAfter", req->not_after_s, err);
    if (rc == CM_OK)
        rc = put_text(out, "profile", req->profile, err);
    if (rc == CM_OK)
        rc = put_text(out, "replaces", req->replaces, err);
    return rc == CM_OK ? cm_buf_puts(out, "}", err) : rc;
}

cm_status cm_acme_client_order(struct cm_acme_client *c, const struct cm_op *op,
                               const struct cm_acme_order_request *req, struct cm_acme_doc **ret,
                               struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(CM_ACME_REQUEST_MAX / 2);
    struct cm_acme_order_request own = { .size = (uint32_t)sizeof own };

    if (c == NULL || req == NULL || ret == NULL || req->size < sizeof req->size)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, order or place for it");
    memcpy(&own, req, req->size < sizeof own ? req->size : sizeof own);
    if (own.ids == NULL || own.n_ids == 0 || own.n_ids > CM_ACME_IDENTS_MAX)
        return cm_fail(err, CM_E_INVAL, "ACME client: an order is for 1 to %d names",
                       CM_ACME_IDENTS_MAX);
    cm_status rc = put_order(&payload, &own, err);
    return rc == CM_OK
               ? cm__acme_client_post_endpoint(c, op, "order",
                                               offsetof(struct cm_acme_directory, new_order),
                                               cm_buf_span(&payload), ret, err)
               : rc;
}

cm_status cm_acme_client_authorize(struct cm_acme_client *c, const struct cm_op *op,
                                   const struct cm_acme_id *id, struct cm_acme_doc **ret,
                                   struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(4096);
    const struct cm_acme_directory *d = NULL;

    if (c == NULL || id == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, name or place for the answer");
    cm_status rc = cm_acme_directory(c->a, op, &d, err);
    if (rc == CM_OK && d->new_authz == NULL)
        rc = cm_fail(err, CM_E_UNSUPPORTED,
                     "the CA takes no authorizations without an order: order first");
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "{\"identifier\":", err);
    if (rc == CM_OK)
        rc = put_identifier(&payload, id, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "}", err);
    return rc == CM_OK
               ? cm__acme_client_post_endpoint(c, op, "authorization",
                                               offsetof(struct cm_acme_directory, new_authz),
                                               cm_buf_span(&payload), ret, err)
               : rc;
}

/* ------------------------------------------------------------------ by their URL */

cm_status cm_acme_client_get(struct cm_acme_client *c, const struct cm_op *op, const char *url,
                             struct cm_acme_doc **ret, struct cm_err *err)
{
    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no place for the answer");
    return cm__acme_client_post(c, op, "document", url, cm_span_str(NULL), ret, err);
}

cm_status cm_acme_client_deactivate_authz(struct cm_acme_client *c, const struct cm_op *op,
                                          const char *url, struct cm_err *err)
{
    return cm__acme_client_post(c, op, "authorization deactivation", url,
                                cm_span_str("{\"status\":\"deactivated\"}"), NULL, err);
}

cm_status cm_acme_client_accept(struct cm_acme_client *c, const struct cm_op *op, const char *url,
                                struct cm_acme_doc **ret, struct cm_err *err)
{
    return cm__acme_client_post(c, op, "challenge", url, cm_span_str("{}"), ret, err);
}

/* ------------------------------------------------------------------- waiting */

/* Why an order or an authorization will not do: its own problem, or that of a challenge. */
static cm_status fail_doc(const struct cm_acme_doc *d, const char *what, const char *status,
                          struct cm_err *err)
{
    struct json_object *list = cm__acme_doc_at(d, "challenges");
    struct json_object *error = cm__acme_doc_at(d, "error");
    struct cm_acme_problem p;

    for (size_t i = 0; error == NULL && i < cm_acme_doc_count(d, "challenges"); i++)
        error = cm__json_object(json_object_array_get_idx(list, i), "error");
    if (error == NULL || !json_object_is_type(error, json_type_object))
        return cm_fail(err, CM_E_ACME, "the %s is %s", what, status);
    cm__acme_problem_from(error, &p);
    return cm__acme_fail_problem(what, &p, p.status, err);
}

/* Before the next look; CM_E_AGAIN when the CA wants to be left alone for longer than we have. */
static cm_status pause_for(const struct cm_op *op, const struct cm_acme_doc *d, const char *what,
                           int64_t step_ns, struct cm_err *err)
{
    int64_t asked_s = d->retry_after_s;
    int64_t ns = asked_s * CM_NS_PER_S > step_ns ? asked_s * CM_NS_PER_S : step_ns;

    cm_status rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return rc;
    if (asked_s > PATIENCE_S ||
        (asked_s > 0 && cm_op_remaining_ns(op, INT64_MAX) < asked_s * CM_NS_PER_S)) {
        rc = cm_fail(err, CM_E_AGAIN, "the %s takes time; the CA asks to wait %lld s", what,
                     (long long)asked_s);
        if (err != NULL)
            err->retry_after_s = asked_s;
        return rc;
    }
    return cm_op_wait(op, ns + (int64_t)cm_random_below(cm_op_env(op), (uint64_t)ns / 4 + 1), err);
}

static bool is_one_of(const char *status, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(status, *words) == 0)
            return true;
    return false;
}

/* Look at @url until its status is none of @pending. */
static cm_status wait_for(struct cm_acme_client *c, const struct cm_op *op, const char *url,
                          const char *what, const char *const *pending, const char *const *good,
                          struct cm_acme_doc **ret, struct cm_err *err)
{
    struct cm_acme_doc *d = NULL;
    int64_t step;

    if (c == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no place for the %s", what);
    for (step = c->a->poll_first_ns;;
         step = step > c->a->poll_cap_ns / 2 ? c->a->poll_cap_ns : step * 2) {
        cm_status rc = cm__acme_client_post(c, op, what, url, cm_span_str(NULL), &d, err);

        if (rc != CM_OK)
            return rc;
        const char *status = cm_acme_doc_text(d, "status");
        if (status == NULL)
            rc = cm_fail(err, CM_E_PARSE, "the %s has no status", what);
        else if (is_one_of(status, good))
            break;
        else if (is_one_of(status, pending))
            rc = pause_for(op, d, what, step, err);
        else
            rc = fail_doc(d, what, cm__acme_status_of(status) != CM_ACME_UNKNOWN ? status : "odd",
                          err);
        cm_acme_doc_free(d);
        d = NULL;
        if (rc != CM_OK)
            return rc;
    }
    *ret = d;
    return CM_OK;
}

cm_status cm_acme_client_wait_order(struct cm_acme_client *c, const struct cm_op *op,
                                    const char *url, struct cm_acme_doc **ret, struct cm_err *err)
{
    static const char *const pending[] = { "pending", "processing", NULL };
    static const char *const good[] = { "ready", "valid", NULL };

    return wait_for(c, op, url, "order", pending, good, ret, err);
}

cm_status cm_acme_client_wait_authz(struct cm_acme_client *c, const struct cm_op *op,
                                    const char *url, struct cm_acme_doc **ret, struct cm_err *err)
{
    static const char *const pending[] = { "pending", NULL };
    static const char *const good[] = { "valid", NULL };

    return wait_for(c, op, url, "authorization", pending, good, ret, err);
}

/* -------------------------------------------------------------- certificates */

cm_status cm_acme_client_finalize(struct cm_acme_client *c, const struct cm_op *op, const char *url,
                                  struct cm_span csr_der, struct cm_acme_doc **ret,
                                  struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(CM_ACME_REQUEST_MAX / 2);

    cm_status rc = cm_buf_puts(&payload, "{\"csr\":\"", err);
    if (rc == CM_OK)
        rc = cm_b64url_encode(csr_der, &payload, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "\"}", err);
    return rc == CM_OK
               ? cm__acme_client_post(c, op, "finalize", url, cm_buf_span(&payload), ret, err)
               : rc;
}

cm_status cm_acme_client_fetch_cert(struct cm_acme_client *c, const struct cm_op *op,
                                    const char *url, struct cm_buf *ret_pem, char ***ret_alternates,
                                    struct cm_err *err)
{
    CM_AUTO_SESSION struct acme_session by = { 0 };

    if (c == NULL || ret_pem == NULL || url == NULL || !cm__acme_is_url(url))
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, URL or place for the certificate");
    cm_status rc = cm__acme_client_session(c, op, &by, err);
    return rc == CM_OK
               ? cm_acme_certificate_get(c->a, op, &by.who, url, ret_pem, ret_alternates, err)
               : rc;
}

void cm_acme_urls_free(char **urls)
{
    cm_acme_strv_free(urls);
}

/* "processing" is followed until there is a certificate. */
static cm_status wait_valid(struct cm_acme_client *c, const struct cm_op *op, const char *url,
                            struct cm_acme_doc **ret, struct cm_err *err)
{
    static const char *const pending[] = { "pending", "processing", "ready", NULL };
    static const char *const good[] = { "valid", NULL };

    return wait_for(c, op, url, "order", pending, good, ret, err);
}

cm_status cm_acme_client_create_order_cert(struct cm_acme_client *c, const struct cm_op *op,
                                           const struct cm_acme_doc *order, struct cm_span csr_der,
                                           struct cm_buf *ret_pem, struct cm_acme_doc **ret_order,
                                           struct cm_err *err)
{
    struct cm_acme_doc *valid = NULL;

    if (order == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no order");
    cm_status rc =
        cm_acme_client_finalize(c, op, cm_acme_doc_text(order, "finalize"), csr_der, NULL, err);
    if (rc == CM_OK)
        rc = wait_valid(c, op, order->url, &valid, err);
    if (rc == CM_OK)
        rc = cm_acme_client_fetch_cert(c, op, cm_acme_doc_text(valid, "certificate"), ret_pem, NULL,
                                       err);
    if (rc != CM_OK || ret_order == NULL)
        cm_acme_doc_free(valid);
    else
        *ret_order = valid;
    return rc;
}

cm_status cm_acme_client_revoke(struct cm_acme_client *c, const struct cm_op *op,
                                struct cm_span cert_key_pem, struct cm_span leaf_der, int reason,
                                struct cm_err *err)
{
    CM_AUTO_SESSION struct acme_session by = { 0 };
    cm_status rc;

    if (c == NULL || leaf_der.len == 0 || reason < -1 || reason == 7 || reason > 10)
        return cm_fail(err, CM_E_INVAL,
                       "ACME client: no client, no certificate, or a reason that there is not");
    if (cert_key_pem.len > 0) {
        rc = cm_key_from_pem(cert_key_pem, &by.key, err);
        by.who.key = by.key;
    } else {
        rc = cm__acme_client_session(c, op, &by, err);
    }
    return rc == CM_OK ? cm_acme_revoke(c->a, op, &by.who, leaf_der, reason, err) : rc;
}

cm_status cm_acme_client_renewal_info(struct cm_acme_client *c, const struct cm_op *op,
                                      struct cm_span leaf_der, struct cm_renewal_info *ret,
                                      struct cm_err *err)
{
    struct cm_renewal_info info = { .size = (uint32_t)sizeof info };
    struct cm_leaf *leaf = NULL;

    if (c == NULL || ret == NULL || ret->size < sizeof ret->size)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no place for the answer");
    cm_status rc = cm_leaf_parse(leaf_der, &leaf, err);
    if (rc == CM_OK && leaf->ari_id[0] == '\0')
        rc = cm_fail(err, CM_E_UNSUPPORTED, "the certificate does not name its issuer's key");
    if (rc == CM_OK)
        rc = cm_acme_renewal_info(c->a, op, leaf->ari_id, &info, err);
    if (rc == CM_OK) {
        info.size = ret->size;
        memcpy(ret, &info, ret->size < sizeof info ? ret->size : sizeof info);
    }
    cm_leaf_free(leaf);
    return rc;
}
