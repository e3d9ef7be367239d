/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* One certificate from an ACME CA.
 *
 *   account -> order -> journal -> validate -> finalize -> wait -> download -> choose chain
 *
 * The journal entry (order URL, account) is written as soon as there is an order; core keeps it
 * together with the key and CSR. Whoever resumes asks the CA for that order's state and goes on
 * from there, so a crash anywhere costs no second order once this one was finalized. */

struct run {
    struct acme_issuer *ai;
    const struct cm_issue_request *req;
    struct acme_identity *id;
    struct cm_acme_signer who;
    struct cm_acme_order order;
    bool have_order;
    char *last_order; /* URL of the one that was placed last; NULL = none by this run */
};

static void progress(const struct run *r, enum cm_phase phase)
{
    if (r->req->progress != NULL)
        r->req->progress(r->req->user, phase);
}

static void use_identity(struct run *r, struct acme_identity *id)
{
    acme_identity_unref(r->id);
    r->id = id;
    r->who.key = id->key;
    r->who.kid = id->url;
}

/* The CA does not like our account. Has a peer given it another key meanwhile, or replaced it? Then
 * that is used from here on. */
static bool take_newer_account(struct run *r, const struct cm_op *op, cm_status rc,
                               const struct cm_err *why)
{
    struct acme_identity *newer = NULL;

    if (r->id == NULL || !acme_account_is_doubted(rc, why) ||
        acme_identity_newer(r->ai, op, r->id, &newer, NULL) != CM_OK)
        return false;
    use_identity(r, newer);
    return true;
}

static void drop_order(struct run *r)
{
    cm_acme_order_free(&r->order);
    memset(&r->order, 0, sizeof r->order);
    r->have_order = false;
}

/* ------------------------------------------------------------------ journal */

static cm_status put_member(struct json_object *obj, const char *name, const char *value,
                            struct cm_err *err)
{
    struct json_object *s = json_object_new_string(value);
    if (s == NULL || json_object_object_add(obj, name, s) != 0) {
        json_object_put(s);
        return cm_fail_nomem(err);
    }
    return CM_OK;
}

/* {"order","ca","account"} or {"url","ca","account"}, compact. */
static cm_status three_urls(const char *first, const char *url, const struct run *r,
                            struct cm_buf *out, struct cm_err *err)
{
    struct json_object *obj = json_object_new_object();
    if (obj == NULL)
        return cm_fail_nomem(err);
    cm_status rc = put_member(obj, first, url, err);
    if (rc == CM_OK)
        rc = put_member(obj, "ca", r->ai->directory_url, err);
    if (rc == CM_OK)
        rc = put_member(obj, "account", r->who.kid, err);
    if (rc == CM_OK) {
        const char *text = json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE);
        rc = text == NULL ? cm_fail_nomem(err) : cm_buf_puts(out, text, err);
    }
    json_object_put(obj);
    return rc;
}

static cm_status journal(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf state = CM_BUF_INIT(8 * 1024);
    if (r->req->checkpoint == NULL)
        return CM_OK;
    cm_status rc = three_urls("order", r->order.url, r, &state, err);
    if (rc == CM_OK)
        rc = r->req->checkpoint(r->req->user, op, cm_buf_span(&state), err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "journal the order");
}

static const char *member(struct json_object *obj, const char *name)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(obj, name, &v) || !json_object_is_type(v, json_type_string))
        return "";
    return json_object_get_string(v);
}

/* The journalled order's URL if it belongs to this CA and account; NULL otherwise. */
static char *journalled_order(const struct run *r)
{
    struct json_object *obj = NULL;
    if (r->req->resume.len == 0 || cm_json_read(r->req->resume, 4, &obj, NULL) != CM_OK)
        return NULL;
    char *url = NULL;
    if (json_object_is_type(obj, json_type_object) &&
        strcmp(member(obj, "ca"), r->ai->directory_url) == 0 &&
        strcmp(member(obj, "account"), r->who.kid) == 0 && member(obj, "order")[0] != '\0')
        url = cm_strdup(member(obj, "order"));
    json_object_put(obj);
    return url;
}

/* Can a certificate still come of it? Not of one whose authorizations were given up: CAs call such
 * an order invalid, or "deactivated" after them. */
static bool is_open(enum cm_acme_status s)
{
    return s == CM_ACME_PENDING || s == CM_ACME_READY || s == CM_ACME_PROCESSING ||
           s == CM_ACME_VALID;
}

/* Does this failure tell that nothing can come of the order? A CA that is out of order itself says
 * nothing of it: it may have a certificate for us when it is back. */
static bool is_answer(cm_status rc, const struct cm_err *why)
{
    return rc == CM_E_PARSE || (rc == CM_E_ACME && why->http_status < 500);
}

/* Take up a journalled order. Not being able to is no failure: a new one is made. But when the CA
 * cannot be reached the outcome of the old order is unknown, and that ends the attempt. */
static cm_status resume_order(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    char *url = r->last_order != NULL ? cm_strdup(r->last_order) : journalled_order(r);
    struct cm_err why = CM_ERR_INIT;
    if (url == NULL)
        return CM_OK;
    r->order.url = url;
    cm_status rc = cm_acme_order_get(r->ai->client, op, &r->who, &r->order, &why);
    if (take_newer_account(r, op, rc, &why))
        rc = cm_acme_order_get(r->ai->client, op, &r->who, &r->order, &why);
    if (rc == CM_OK && is_open(r->order.status)) {
        r->have_order = true;
        const struct cm_log_field f[] = { { "order", r->order.url } };
        cm_logf(&r->ai->host.log, CM_LOG_INFO, "order_resumed", f, 1, "%s: order resumed (%s)",
                r->req->names[0], cm_acme_status_text(r->order.status));
        return CM_OK;
    }
    drop_order(r);
    if (rc == CM_OK || is_answer(rc, &why))
        return CM_OK; /* gone, invalid, of a CA that forgot it */
    if (err != NULL)
        *err = why;
    return cm_wrap(err, rc, "resume order");
}

/* -------------------------------------------------------------------- order */

static bool account_is_gone(cm_status rc, const struct cm_err *err)
{
    return rc == CM_E_ACME && err != NULL &&
           cm_acme_problem_is(err->problem, "accountDoesNotExist");
}

/* May the account be what the CA does not like: its URL, once stored wrong (a CA's slip, an address
 * that it has since given up), or a stored key that is another account's? It would be refused for
 * ever. */
static bool account_is_doubtful(cm_status rc, const struct cm_err *err)
{
    return rc == CM_E_ACME && (cm_acme_problem_is(err->problem, "malformed") ||
                               cm_acme_problem_is(err->problem, "unauthorized"));
}

/* Which certificate the new one takes the place of, if this CA wants to know (RFC 9773 5). One that
 * another account ordered is not ours to replace, the CA would refuse. */
static const char *predecessor(struct run *r, const struct cm_op *op)
{
    const struct cm_acme_directory *dir = NULL;
    const char *account = r->req->replaces_account;
    if (r->req->replaces == NULL || r->ai->disable_ari ||
        (account != NULL && strcmp(account, r->who.kid) != 0) ||
        cm_acme_directory(r->ai->client, op, &dir, NULL) != CM_OK)
        return NULL;
    return dir->renewal_info == NULL ? NULL : r->req->replaces;
}

/* RFC 9773 5, alreadyReplaced; Pebble 2.6 calls it malformed. Somebody has ordered the successor:
 * whether it is to be had is for core to see, a second one might be one too many. */
static bool is_replaced(const struct cm_err *err)
{
    return err->http_status == 409 || cm_acme_problem_is(err->problem, "alreadyReplaced");
}

/* @err is not NULL. */
static cm_status ask_for_order(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    struct acme_order_times times;
    struct cm_acme_new_order what = {
        .names = r->req->names,
        .n = r->req->n_names,
        .replaces = predecessor(r, op),
    };
    cm_status rc = acme_extra_order(r->ai, op, &times, &what, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_acme_order_new(r->ai->client, op, &r->who, &what, &r->order, err);
    if (rc == CM_E_ACME && what.replaces != NULL && is_replaced(err)) {
        err->no_retry = false;
        err->status = CM_E_EXISTS;
        return cm_wrap(err, CM_E_EXISTS, "the predecessor of '%s' has a successor",
                       r->req->names[0]);
    }
    /* "replaces" is a courtesy. A CA that does not know that certificate (any more) must not keep
     * us from a new one. */
    if (rc == CM_E_ACME && what.replaces != NULL && !account_is_gone(rc, err)) {
        what.replaces = NULL;
        rc = cm_acme_order_new(r->ai->client, op, &r->who, &what, &r->order, err);
    }
    return rc;
}

/* Ask the CA by the key. True if it has our account elsewhere: then that is used. *ret_unknown: the
 * key is nobody's, so it is not that of the account. */
static bool find_account(struct run *r, const struct cm_op *op, bool *ret_unknown)
{
    struct acme_identity *moved = NULL;
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = acme_identity_relocate(r->ai, op, r->id, &moved, &why);
    *ret_unknown = account_is_gone(rc, &why);
    if (rc != CM_OK)
        return false;
    cm_logf(&r->ai->host.log, CM_LOG_WARN, "account_moved", NULL, 0,
            "%s has the account of our key at %s, not at %s", r->ai->directory_url, moved->url,
            r->who.kid);
    use_identity(r, moved);
    return true;
}

static cm_status place_order(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    struct cm_err local = CM_ERR_INIT;
    bool mixed_up = false;

    cm_status rc = acme_clock_check(r->ai, op, r->req, &local);
    if (rc == CM_OK)
        rc = ask_for_order(r, op, &local);
    if (take_newer_account(r, op, rc, &local))
        rc = ask_for_order(r, op, &local);
    if (account_is_doubtful(rc, &local) && find_account(r, op, &mixed_up))
        rc = ask_for_order(r, op, &local);
    if (mixed_up || account_is_gone(rc, &local)) {
        /* The CA lost its state or closed the account, or its key is lost: register anew, once. */
        cm_logf(&r->ai->host.log, CM_LOG_WARN, mixed_up ? "account_damaged" : "account_gone", NULL,
                0,
                mixed_up ? "at %s the stored key is not that of account %s; looking for its own"
                         : "%s does not know account %s any more; registering again",
                r->ai->directory_url, r->who.kid);
        struct acme_identity *fresh = NULL;
        rc = acme_identity_forget(r->ai, op, r->id, mixed_up, err);
        if (rc == CM_OK)
            rc = acme_identity_get(r->ai, op, true, &fresh, err);
        if (rc != CM_OK)
            return rc;
        use_identity(r, fresh);
        rc = ask_for_order(r, op, &local);
    }
    if (rc != CM_OK) {
        if (err != NULL)
            *err = local;
        return cm_wrap(err, rc, "new order");
    }
    r->have_order = true;
    free(r->last_order);
    r->last_order = cm_strdup(r->order.url);
    return journal(r, op, err);
}

/* Would another challenge type have a chance where this one failed? */
static bool try_other_type(cm_status rc, const struct cm_err *err)
{
    static const char *const types[] = {
        "connection", "dns", "serverInternal", "unauthorized", "tls", "incorrectResponse",
    };
    /* Could not put the answer up here, or the CA does not offer the type. */
    if (rc == CM_E_UNSUPPORTED || rc == CM_E_NOTFOUND || rc == CM_E_PERM)
        return true;
    for (size_t i = 0; rc == CM_E_ACME && i < CM_ARRAY_LEN(types); i++)
        if (cm_acme_problem_is(err->problem, types[i]))
            return true;
    return false;
}

/* The challenge types that have a turn: not those that no name of the order can use. */
static unsigned types_for(const struct run *r)
{
    const struct acme_issuer *ai = r->ai;
    size_t wildcards = 0, addresses = 0;

    for (size_t i = 0; i < r->req->n_names; i++) {
        wildcards += cm_name_is_wildcard(r->req->names[i]);
        addresses += cm_name_is_ip(r->req->names[i]);
    }
    if (wildcards == r->req->n_names)
        return ai->challenges & ACME_DNS_CHALLENGES;
    if (addresses == r->req->n_names)
        return (ai->challenges | ai->challenges_ip) & ~ACME_DNS_CHALLENGES;
    return ai->challenges;
}

/* A record that could not be put up, or does not show: the CA was not asked yet, so the order is as
 * good as before. */
static bool is_before_the_ca(enum acme_challenge_type t, cm_status rc, const struct cm_err *why)
{
    return ((1u << t) & ACME_DNS_CHALLENGES) != 0 && (rc == CM_E_NET || rc == CM_E_TIMEOUT) &&
           !why->whole_ca;
}

/* An order that is ready or further: the resumed one, or new ones until a challenge type works. */
static cm_status ready_order(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    struct cm_err first = CM_ERR_INIT;
    cm_status rc = resume_order(r, op, err);
    cm_status first_rc = CM_OK;
    enum acme_challenge_type order[ACME_CHALLENGE_TYPES];

    acme_types_order(r->ai, order);
    for (unsigned k = 0; rc == CM_OK && k < ACME_CHALLENGE_TYPES; k++) {
        enum acme_challenge_type t = order[k];
        if ((types_for(r) & (1u << t)) == 0)
            continue;
        if (!r->have_order && first_rc != CM_OK)
            progress(r, CM_PHASE_ORDERING); /* the first time core has said so */
        if (!r->have_order)
            rc = place_order(r, op, err);
        if (rc != CM_OK || r->order.status != CM_ACME_PENDING)
            return rc;

        struct cm_err why = CM_ERR_INIT;
        progress(r, CM_PHASE_VALIDATING);
        rc = acme_validate(r->ai, op, &r->who, r->req, &r->order, t, &why);
        bool before = is_before_the_ca(t, rc, &why), other = before || try_other_type(rc, &why);
        if (rc == CM_OK || other)
            acme_types_note(r->ai, t, rc == CM_OK);
        if (rc == CM_OK)
            return rc;
        if (!before)
            drop_order(r);
        if (first_rc == CM_OK) {
            /* That the CA offers no challenge of this type is its refusal, to whoever asked. */
            first = why;
            first_rc = rc == CM_E_NOTFOUND ? CM_E_ACME : rc;
            first.status = first_rc;
        }
        if (!other || cm_op_check(op, NULL) != CM_OK)
            break;
        const struct cm_log_field f[] = { { "name", r->req->names[0] }, { "error", why.msg } };
        cm_logf(&r->ai->host.log, CM_LOG_WARN, "challenge_failed", f, CM_ARRAY_LEN(f),
                "%s; trying another challenge if there is one", why.msg);
        rc = CM_OK;
    }
    if (first_rc == CM_OK)
        return rc;
    if (err != NULL)
        *err = first;
    return first_rc;
}

/* ----------------------------------------------------------------- finalize */

static cm_status finalize(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    cm_status rc = CM_OK;
    progress(r, CM_PHASE_FINALIZING);
    if (r->order.status == CM_ACME_READY) {
        rc = cm_acme_order_finalize(r->ai->client, op, &r->who, &r->order, r->req->csr_der, err);
        if (rc == CM_E_NET || rc == CM_E_TIMEOUT) {
            /* It may have arrived: the order knows. */
            if (cm_op_check(op, NULL) != CM_OK)
                return cm_wrap(err, rc, "finalize");
            rc = cm_acme_order_get(r->ai->client, op, &r->who, &r->order, err);
            if (rc == CM_OK && r->order.status == CM_ACME_READY)
                rc = cm_acme_order_finalize(r->ai->client, op, &r->who, &r->order, r->req->csr_der,
                                            err);
        }
    }
    if (rc == CM_OK && r->order.status == CM_ACME_PROCESSING)
        rc = cm_acme_order_wait(r->ai->client, op, &r->who, &r->order, false, err);
    if (rc == CM_OK && (r->order.status != CM_ACME_VALID || r->order.certificate == NULL))
        rc = cm_fail(err, CM_E_ACME, "order %s is %s after finalize, without a certificate",
                     r->order.url, cm_acme_status_text(r->order.status));
    return rc == CM_OK ? rc : cm_wrap(err, rc, "finalize");
}

static cm_status download(struct run *r, const struct cm_op *op, struct cm_issued *ret,
                          struct cm_err *err)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_buf data = CM_BUF_INIT(8 * 1024);
    char **alternates = NULL;

    cm_status rc = cm_acme_certificate_get(r->ai->client, op, &r->who, r->order.certificate, &pem,
                                           &alternates, err);
    if (rc == CM_OK) {
        acme_extra_chain(r->ai, op, &r->who, alternates, &pem);
        rc = three_urls("url", r->order.certificate, r, &data, err);
    }
    cm_acme_strv_free(alternates);
    if (rc != CM_OK) {
        cm_buf_free(&pem);
        cm_buf_free(&data);
        return cm_wrap(err, rc, "download certificate");
    }
    ret->chain_pem = pem;
    ret->issuer_data = data;
    return CM_OK;
}

/* As far as the CA has signed. */
static cm_status get_signed(struct run *r, const struct cm_op *op, struct cm_err *err)
{
    struct acme_identity *id = NULL;

    cm_status rc = acme_identity_get(r->ai, op, true, &id, err);
    if (rc != CM_OK)
        return rc;
    use_identity(r, id);
    rc = ready_order(r, op, err);
    return rc == CM_OK ? finalize(r, op, err) : rc;
}

static cm_status get_certificate(struct run *r, const struct cm_op *op, struct cm_issued *ret,
                                 struct cm_err *err)
{
    cm_status rc = get_signed(r, op, err);

    return rc == CM_OK ? download(r, op, ret, err) : rc;
}

static void run_end(struct run *r)
{
    drop_order(r);
    acme_identity_unref(r->id);
    free(r->last_order);
}

/* After a failure: the same order at the test CA, so that whoever has a firewall to mend does not
 * use up what the CA allows to fail. Nothing is journalled, the certificate stays where it is. That
 * the test CA is out of order itself, or gives us no account, must not cost certificates. */
static cm_status rehearse(struct acme_issuer *ai, const struct cm_op *op,
                          const struct cm_issue_request *req, struct cm_err *err)
{
    struct cm_issue_request trial = *req;
    struct run r = { .ai = ai->test, .req = &trial };
    struct cm_err why = CM_ERR_INIT;

    trial.checkpoint = NULL;
    trial.resume = (struct cm_span){ NULL, 0 };
    trial.replaces = NULL;
    cm_status rc = get_signed(&r, op, &why);
    bool is_about_names = r.id != NULL && !why.whole_ca;
    run_end(&r);
    if (rc == CM_OK)
        return CM_OK;
    cm_status over = cm_op_check(op, err);
    if (over != CM_OK)
        return over;
    if (!is_about_names) {
        cm_logf(&ai->host.log, CM_LOG_WARN, "test_ca_down", NULL, 0,
                "%s: the test CA %s is of no use now, the order is placed without: %s",
                req->names[0], ai->test->directory_url, why.msg);
        return CM_OK;
    }
    if (err != NULL)
        *err = why;
    return cm_wrap(err, rc, "test CA %s", ai->test->directory_url);
}

cm_status acme_issue(struct cm_issuer *is, const struct cm_op *op,
                     const struct cm_issue_request *req, struct cm_issued *ret, struct cm_err *err)
{
    struct run r = { .ai = CM_CONTAINER_OF(is, struct acme_issuer, base), .req = req };
    struct cm_op within = cm_op_within(op, r.ai->obtain_timeout_ns);
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = CM_OK;

    if (req->attempt > 0 && r.ai->test != NULL && req->resume.len == 0)
        rc = rehearse(r.ai, &within, req, err);
    if (rc == CM_OK)
        rc = get_certificate(&r, &within, ret, &why);
    if (why.status != CM_OK && take_newer_account(&r, &within, rc, &why)) {
        /* Its key was changed while the order was under way: the order is still ours. */
        drop_order(&r);
        rc = get_certificate(&r, &within, ret, &why);
    }
    if (why.status != CM_OK && rc != CM_OK && err != NULL)
        *err = why;
    run_end(&r);
    return rc;
}
