/* SPDX-License-Identifier: Apache-2.0 */
#include "zerossl.h"

#include <certmesh/cm_zerossl.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Certificates from ZeroSSL by its HTTP interface:
 *
 *   create (with the CSR) -> journal its id -> files -> validate -> poll -> download
 *
 * Whoever resumes asks for the certificate by the id. What fails for good is canceled, since drafts
 * count against the plan's limit; what was only interrupted is not. */

#define API_URL       "https://api.zerossl.com"
#define POLL_FIRST_NS (250 * CM_NS_PER_MS)
#define POLL_CAP_NS   (15 * CM_NS_PER_S)
#define TIMEOUT_S     900
#define KEY_MAX       256
#define LISTED_MAX    100

struct zerossl {
    struct cm_issuer base;
    struct cm_issuer_host host;
    struct zerossl_api api;
    struct cm_responder *responder;
    char *ca_root_file;
    char *listen_host;
    unsigned validity_days;
    int64_t timeout_ns;
    bool public_only; /* it is ZeroSSL itself */
    bool allow_plain_http;
};

static struct zerossl *self(struct cm_issuer *is)
{
    return CM_CONTAINER_OF(is, struct zerossl, base);
}

static const char *zerossl_key(struct cm_issuer *is)
{
    (void)is;
    return ZEROSSL_PREFIX;
}

static const char *zerossl_prefix(struct cm_issuer *is, unsigned index)
{
    (void)is;
    return index == 0 ? ZEROSSL_PREFIX : NULL;
}

static cm_status zerossl_precheck(struct cm_issuer *is, const char *const *names, size_t n,
                                  struct cm_err *err)
{
    for (size_t i = 0; i < n; i++) {
        cm_status rc = CM_OK;
        if (cm_name_is_wildcard(names[i]))
            rc = cm_fail(err, CM_E_POLICY,
                         "%s: ZeroSSL validates by a file here, so no wildcards; name the hosts "
                         "one by one",
                         names[i]);
        else if (self(is)->public_only && cm_name_is_internal(names[i]))
            rc = cm_fail(err, CM_E_POLICY,
                         "%s: not a public name, ZeroSSL cannot certify it (use --internal for a "
                         "local certificate)",
                         names[i]);
        if (rc == CM_OK)
            continue;
        if (err != NULL)
            err->no_retry = true;
        return rc;
    }
    return CM_OK;
}

static cm_status zerossl_attach(struct cm_issuer *is, const struct cm_issuer_host *host,
                                struct cm_err *err)
{
    struct zerossl *z = self(is);
    /* No log: it would have URLs, and these have the key. */
    const struct cm_http_options ho = { .ca_file = z->ca_root_file,
                                        .allow_plain_http = z->allow_plain_http };

    if (z->api.http != NULL)
        return cm_fail(err, CM_E_STATE, "the ZeroSSL issuer already belongs to a config");
    z->host = *host;
    z->listen_host = cm_strdup(host->listen_host);
    if (host->listen_host != NULL && z->listen_host == NULL)
        return cm_fail_nomem(err);
    z->host.listen_host = z->listen_host;
    cm_status rc = cm_http_new(&ho, &z->api.http, err);
    return rc == CM_OK ? cm_responder_new(&z->host, CM_RESPONDER_HTTP, &z->responder, err) : rc;
}

/* -------------------------------------------------------------------- issue */

struct zrun {
    struct zerossl *z;
    const struct cm_issue_request *req;
    struct json_object *cert; /* as the API showed it last */
    char id[ZEROSSL_ID_MAX + 1];
    struct zerossl_files files;
};

static void progress(const struct zrun *r, enum cm_phase phase)
{
    if (r->req->progress != NULL)
        r->req->progress(r->req->user, phase);
}

static const char *status_of(struct json_object *cert)
{
    const char *s = zerossl_text(cert, "status", 32);
    return s == NULL ? "" : s;
}

static bool is_id(const char *s)
{
    return s != NULL && s[0] != '\0' && strlen(s) <= ZEROSSL_ID_MAX && cm_is_b64url(s, strlen(s));
}

/* Takes @cert over. */
static cm_status take(struct zrun *r, struct json_object *cert, struct cm_err *err)
{
    const char *id = zerossl_text(cert, "id", ZEROSSL_ID_MAX);

    if (!is_id(id) || (r->id[0] != '\0' && strcmp(id, r->id) != 0)) {
        json_object_put(cert);
        return cm_fail(err, CM_E_PARSE, "ZeroSSL's answer is not about %s",
                       r->id[0] == '\0' ? "a certificate" : r->id);
    }
    (void)snprintf(r->id, sizeof r->id, "%s", id);
    json_object_put(r->cert);
    r->cert = cert;
    return CM_OK;
}

/* @fields is taken over. */
static cm_status ask(struct zrun *r, const struct cm_op *op, const char *what, bool post,
                     const char *suffix, struct json_object *fields, struct json_object **ret,
                     struct cm_err *err)
{
    char path[ZEROSSL_ID_MAX + 64];
    (void)snprintf(path, sizeof path, "/certificates%s%s%s", r->id[0] == '\0' ? "" : "/", r->id,
                   suffix);
    const struct zerossl_request q = {
        .what = what, .post = post, .path = path, .fields = fields, .again = !post
    };
    cm_status rc = zerossl_call(&r->z->api, op, &q, ret, err);
    json_object_put(fields);
    return rc;
}

static bool put(struct json_object *o, const char *name, struct json_object *v)
{
    if (v != NULL && json_object_object_add(o, name, v) == 0)
        return true;
    json_object_put(v);
    return false;
}

static cm_status refresh(struct zrun *r, const struct cm_op *op, struct cm_err *err)
{
    struct json_object *cert = NULL;
    cm_status rc = ask(r, op, "show a certificate", false, "", NULL, &cert, err);
    return rc == CM_OK ? take(r, cert, err) : rc;
}

static cm_status journal(struct zrun *r, const struct cm_op *op, struct cm_err *err)
{
    char text[ZEROSSL_ID_MAX + 32];

    if (r->req->checkpoint == NULL)
        return CM_OK;
    (void)snprintf(text, sizeof text, "{\"zerossl\":\"%s\"}", r->id);
    return r->req->checkpoint(r->req->user, op, cm_span_str(text), err);
}

/* The certificate that an earlier call has created; r->cert stays NULL if nothing can come of it.
 */
static cm_status resume(struct zrun *r, const struct cm_op *op, struct cm_err *err)
{
    static const char *const open[] = { "draft", "pending_validation", "issued" };
    struct json_object *o = NULL;
    struct cm_err why = CM_ERR_INIT;

    if (r->req->resume.len == 0 || cm_json_read(r->req->resume, 4, &o, NULL) != CM_OK)
        return CM_OK;
    const char *id = zerossl_text(o, "zerossl", ZEROSSL_ID_MAX);
    if (is_id(id))
        (void)snprintf(r->id, sizeof r->id, "%s", id);
    json_object_put(o);
    if (r->id[0] == '\0')
        return CM_OK;
    cm_status rc = refresh(r, op, &why);
    for (size_t i = 0; rc == CM_OK && i < CM_ARRAY_LEN(open); i++)
        if (strcmp(status_of(r->cert), open[i]) == 0) {
            cm_logf(&r->z->host.log, CM_LOG_INFO, "order_resumed", NULL, 0,
                    "%s: ZeroSSL certificate %s resumed (%s)", r->req->names[0], r->id, open[i]);
            return CM_OK;
        }
    json_object_put(r->cert);
    r->cert = NULL;
    r->id[0] = '\0';
    if (rc == CM_OK || rc == CM_E_PARSE || (rc == CM_E_ACME && why.http_status < 500))
        return CM_OK; /* canceled, expired, not known */
    if (err != NULL)
        *err = why;
    return cm_wrap(err, rc, "resume");
}

static cm_status create(struct zrun *r, const struct cm_op *op, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf csr = CM_BUF_INIT(64 * 1024);
    CM_AUTO_BUF struct cm_buf names = CM_BUF_INIT(64 * 1024);
    struct json_object *o = NULL, *cert = NULL;

    progress(r, CM_PHASE_ORDERING);
    cm_status rc = cm_csr_to_pem(r->req->csr_der, &csr, err);
    for (size_t i = 0; rc == CM_OK && i < r->req->n_names; i++)
        rc = cm_buf_printf(&names, err, "%s%s", i == 0 ? "" : ",", r->req->names[i]);
    if (rc != CM_OK)
        return rc;
    o = json_object_new_object();
    if (o == NULL || !put(o, "certificate_domains", json_object_new_string(cm_buf_str(&names))) ||
        !put(o, "certificate_csr", json_object_new_string(cm_buf_str(&csr))) ||
        (r->z->validity_days > 0 &&
         !put(o, "certificate_validity_days", json_object_new_int((int)r->z->validity_days))) ||
        !put(o, "strict_domains", json_object_new_int(1))) {
        json_object_put(o);
        return cm_fail_nomem(err);
    }
    rc = ask(r, op, "create a certificate", true, "", o, &cert, err);
    if (rc == CM_OK)
        rc = take(r, cert, err);
    return rc == CM_OK ? journal(r, op, err) : rc;
}

static cm_status validate(struct zrun *r, const struct cm_op *op, struct cm_err *err)
{
    struct json_object *o = NULL, *cert = NULL;

    progress(r, CM_PHASE_VALIDATING);
    r->files.host = &r->z->host;
    r->files.responder = r->z->responder;
    cm_status rc = zerossl_files_put(&r->files, op, r->req->names, r->req->n_names, r->cert, err);
    if (rc != CM_OK || strcmp(status_of(r->cert), "draft") != 0)
        return rc;
    o = json_object_new_object();
    if (o == NULL || !put(o, "validation_method", json_object_new_string("HTTP_CSR_HASH"))) {
        json_object_put(o);
        return cm_fail_nomem(err);
    }
    rc = ask(r, op, "validate", true, "/challenges", o, &cert, err);
    if (rc == CM_OK)
        rc = take(r, cert, err);
    return rc;
}

static cm_status wait_issued(struct zrun *r, const struct cm_op *op, struct cm_err *err)
{
    int64_t pause_ns = POLL_FIRST_NS;

    progress(r, CM_PHASE_FINALIZING);
    for (;;) {
        const char *status = status_of(r->cert);
        if (strcmp(status, "issued") == 0)
            return CM_OK;
        /* A draft whose validation has been asked for may be shown as one for a moment. */
        if (strcmp(status, "pending_validation") != 0 && strcmp(status, "draft") != 0)
            return cm_fail(err, CM_E_ACME, "ZeroSSL's certificate %s is '%s'", r->id, status);
        cm_status rc = cm_op_wait(op, pause_ns, err);
        if (rc == CM_OK)
            rc = refresh(r, op, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "wait for ZeroSSL's certificate %s", r->id);
        pause_ns = pause_ns * 2 > POLL_CAP_NS ? POLL_CAP_NS : pause_ns * 2;
    }
}

/* The certificate object as the API has it, without what was needed to validate. */
static cm_status metadata(struct zrun *r, struct cm_buf *out, struct cm_err *err)
{
    json_object_object_del(r->cert, "validation");
    const char *text = json_object_to_json_string_ext(r->cert, JSON_C_TO_STRING_PLAIN |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE);
    return text == NULL ? cm_fail_nomem(err) : cm_buf_puts(out, text, err);
}

static const char *pem_of(struct json_object *bundle, const char *name)
{
    struct json_object *v = NULL;

    return json_object_object_get_ex(bundle, name, &v) && json_object_is_type(v, json_type_string)
               ? json_object_get_string(v)
               : NULL;
}

static cm_status add_pem(struct cm_buf *out, const char *pem, struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, pem, err);

    if (rc == CM_OK && pem[0] != '\0' && pem[strlen(pem) - 1] != '\n')
        rc = cm_buf_puts(out, "\n", err);
    return rc;
}

static cm_status download(struct zrun *r, const struct cm_op *op, struct cm_issued *ret,
                          struct cm_err *err)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX), data = CM_BUF_INIT(48 * 1024);
    struct json_object *bundle = NULL;

    cm_status rc = ask(r, op, "download", false, "/download/return", NULL, &bundle, err);
    if (rc != CM_OK)
        return rc;
    const char *leaf = pem_of(bundle, "certificate.crt");
    const char *rest = pem_of(bundle, "ca_bundle.crt");
    if (leaf == NULL || rest == NULL)
        rc = cm_fail(err, CM_E_PARSE, "ZeroSSL's download of %s has no certificate", r->id);
    if (rc == CM_OK)
        rc = add_pem(&pem, leaf, err);
    if (rc == CM_OK)
        rc = add_pem(&pem, rest, err);
    if (rc == CM_OK)
        rc = metadata(r, &data, err);
    json_object_put(bundle);
    if (rc != CM_OK) {
        cm_buf_free(&pem);
        cm_buf_free(&data);
        return rc;
    }
    ret->chain_pem = pem;
    ret->issuer_data = data;
    return CM_OK;
}

/* Failures after which the same certificate can be gone on with: we were interrupted, or the API is
 * out of order. Our own time that is over is none of them: it may be pending for ever. */
static bool is_interruption(cm_status rc, const struct cm_op *op, const struct cm_err *why)
{
    return rc == CM_E_CANCELED || rc == CM_E_LOCK_LOST || rc == CM_E_NET || rc == CM_E_TLS ||
           rc == CM_E_NOMEM || rc == CM_E_IO || rc == CM_E_RATELIMITED || why->http_status >= 500 ||
           (op != NULL && op->cancel != NULL && cm_cancel_is_fired(op->cancel));
}

static void cancel(struct zrun *r, const struct cm_op *op)
{
    const struct cm_op cleanup = issuer_cleanup_op(op);
    struct json_object *o = NULL;
    struct cm_err err = CM_ERR_INIT;

    if (ask(r, &cleanup, "cancel a certificate", true, "/cancel", NULL, &o, &err) != CM_OK)
        cm_logf(&r->z->host.log, CM_LOG_WARN, "order_left", NULL, 0,
                "ZeroSSL certificate %s could not be canceled: %s", r->id, err.msg);
    json_object_put(o);
}

static cm_status zerossl_issue(struct cm_issuer *is, const struct cm_op *op,
                               const struct cm_issue_request *req, struct cm_issued *ret,
                               struct cm_err *err)
{
    struct zerossl *z = self(is);
    struct zrun r = { .z = z, .req = req };
    struct cm_op within = cm_op_within(op, z->timeout_ns);
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = resume(&r, &within, &why);
    if (rc == CM_OK && r.cert == NULL)
        rc = create(&r, &within, &why);
    bool created = r.id[0] != '\0' && r.cert != NULL;
    bool issued = rc == CM_OK && strcmp(status_of(r.cert), "issued") == 0;
    if (rc == CM_OK && !issued)
        rc = validate(&r, &within, &why);
    if (rc == CM_OK && !issued)
        rc = wait_issued(&r, &within, &why);
    issued = issued || rc == CM_OK;
    if (rc == CM_OK)
        rc = download(&r, &within, ret, &why);
    if (rc != CM_OK && created && !issued && !is_interruption(rc, op, &why))
        cancel(&r, &within);
    const struct cm_op cleanup = issuer_cleanup_op(&within);
    zerossl_files_remove(&r.files, &cleanup);
    json_object_put(r.cert);
    if (rc != CM_OK && err != NULL)
        *err = why;
    return rc;
}

/* ------------------------------------------------------------------- revoke */

static const char *reason_text(int reason)
{
    switch (reason) {
    case -1:
    case 0:
        return "unspecified";
    case 1:
        return "keyCompromise";
    case 3:
        return "affiliationChanged";
    case 4:
        return "Superseded";
    case 5:
        return "cessationOfOperation";
    default:
        return NULL;
    }
}

/* The API knows certificates by an id of its own; it lists them with the SHA-1 of each. */
static cm_status find_id(struct zerossl *z, const struct cm_op *op, struct cm_span leaf_der,
                         char ret[ZEROSSL_ID_MAX + 1], struct cm_err *err)
{
    char print[41] = "", query[CM_NAME_BUF + 64];
    uint8_t sha1[20];
    struct cm_leaf *leaf = NULL;
    struct json_object *o = NULL, *results = NULL;

    cm_status rc = cm_leaf_parse(leaf_der, &leaf, err);
    if (rc != CM_OK)
        return rc;
    if (leaf->n_names == 0 ||
        gnutls_hash_fast(GNUTLS_DIG_SHA1, leaf_der.data, leaf_der.len, sha1) != 0)
        rc = cm_fail(err, CM_E_CERT, "the certificate has no name to look for");
    for (size_t i = 0; rc == CM_OK && i < sizeof sha1; i++)
        (void)snprintf(print + 2 * i, 3, "%02x", sha1[i]);
    if (rc == CM_OK)
        (void)snprintf(query, sizeof query, "certificate_status=issued&limit=%d&search=%s",
                       LISTED_MAX, leaf->names[0]);
    if (rc == CM_OK) {
        const struct zerossl_request q = {
            .what = "list certificates", .path = "/certificates", .query = query, .again = true
        };
        rc = zerossl_call(&z->api, op, &q, &o, err);
    }
    (void)(rc == CM_OK && json_object_object_get_ex(o, "results", &results));
    size_t n =
        json_object_is_type(results, json_type_array) ? json_object_array_length(results) : 0;
    bool found = false;
    for (size_t i = 0; i < n && i < LISTED_MAX && !found; i++) {
        struct json_object *c = json_object_array_get_idx(results, i);
        const char *id = zerossl_text(c, "id", ZEROSSL_ID_MAX);
        const char *has = zerossl_text(c, "fingerprint_sha1", 80);
        found = is_id(id) && has != NULL && strcasecmp(has, print) == 0;
        if (found)
            (void)snprintf(ret, ZEROSSL_ID_MAX + 1, "%s", id);
    }
    if (rc == CM_OK && !found)
        rc = cm_fail(err, CM_E_NOTFOUND,
                     "%s: ZeroSSL lists no issued certificate with the SHA-1 %s under this access "
                     "key",
                     leaf->names[0], print);
    json_object_put(o);
    cm_leaf_free(leaf);
    return rc;
}

static cm_status zerossl_revoke(struct cm_issuer *is, const struct cm_op *op,
                                struct cm_span leaf_der, int reason, struct cm_err *err)
{
    struct zerossl *z = self(is);
    struct cm_op within = cm_op_within(op, z->timeout_ns);
    const char *text = reason_text(reason);
    char id[ZEROSSL_ID_MAX + 1], path[ZEROSSL_ID_MAX + 64], query[64];
    struct json_object *o = NULL;

    if (text == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "ZeroSSL takes no reason %d; it takes unspecified, keyCompromise, "
                       "affiliationChanged, superseded and cessationOfOperation",
                       reason);
    cm_status rc = find_id(z, &within, leaf_der, id, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "revoke");
    (void)snprintf(path, sizeof path, "/certificates/%s/revoke", id);
    (void)snprintf(query, sizeof query, "reason=%s", text);
    struct json_object *fields = json_object_new_object();
    if (fields == NULL || !put(fields, "reason", json_object_new_string(text))) {
        json_object_put(fields);
        return cm_fail_nomem(err);
    }
    /* One that is revoked already is a success to the API. */
    const struct zerossl_request q = { .what = "revoke",
                                       .post = true,
                                       .path = path,
                                       .query = query,
                                       .fields = fields,
                                       .again = true };
    rc = zerossl_call(&z->api, &within, &q, &o, err);
    json_object_put(fields);
    json_object_put(o);
    return rc;
}

static void zerossl_stop(struct cm_issuer *is)
{
    cm_responder_stop(self(is)->responder);
}

static void zerossl_destroy(struct cm_issuer *is)
{
    struct zerossl *z = self(is);

    cm_responder_free(z->responder);
    cm_http_free(z->api.http);
    cm_buf_free(&z->api.key);
    free(z->api.base);
    free(z->ca_root_file);
    free(z->listen_host);
    free(z);
}

static const struct cm_issuer_ops zerossl_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_issuer_ops),
    .name = "zerossl",
    .key = zerossl_key,
    .attach = zerossl_attach,
    .precheck = zerossl_precheck,
    .issue = zerossl_issue,
    .revoke = zerossl_revoke,
    .challenge_prefix = zerossl_prefix,
    .destroy = zerossl_destroy,
    .stop = zerossl_stop,
};

/* ------------------------------------------------------------------ options */

static cm_status take_key(struct zerossl *z, const struct cm_zerossl_options *o, struct cm_err *err)
{
    struct cm_buf *key = &z->api.key;
    cm_status rc = CM_OK;

    if ((o->access_key_file == NULL) == (o->access_key == NULL))
        return cm_fail(err, CM_E_INVAL, "ZeroSSL: give the access key, or the file that holds it");
    if (o->access_key_file != NULL)
        rc = cm_read_private_file(o->access_key_file, key, err);
    else
        rc = cm_buf_puts(key, o->access_key, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "ZeroSSL access key");
    while (key->len > 0 && strchr(" \t\r\n", key->data[key->len - 1]) != NULL)
        key->data[--key->len] = '\0';
    if (key->len < 8 || !cm_is_b64url(cm_buf_str(key), key->len))
        return cm_fail(err, CM_E_INVAL,
                       "the ZeroSSL access key%s%s is not one: eight letters and digits at least, "
                       "and nothing else",
                       o->access_key_file == NULL ? "" : " in ",
                       o->access_key_file == NULL ? "" : o->access_key_file);
    return CM_OK;
}

static cm_status take_options(struct zerossl *z, const struct cm_zerossl_options *o,
                              struct cm_err *err)
{
    const char *url = o->api_url == NULL ? API_URL : o->api_url;
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    bool https = strncmp(url, "https://", 8) == 0 && len > 8;
    bool http = o->allow_plain_http && strncmp(url, "http://", 7) == 0 && len > 7;
    if ((!https && !http) || strpbrk(url, "?#@ ") != NULL)
        return cm_fail(err, CM_E_INVAL, "ZeroSSL interface '%s': give a full https:// URL", url);
    if (o->validity_days > 3650 || o->obtain_timeout_s < 0 || o->obtain_timeout_s > 86400)
        return cm_fail(err, CM_E_INVAL, "ZeroSSL: validity of %u days, timeout of %lld s",
                       o->validity_days, (long long)o->obtain_timeout_s);
    z->api.base = cm_strndup(url, len);
    z->ca_root_file = cm_strdup(o->ca_root_file);
    if (z->api.base == NULL || (o->ca_root_file != NULL && z->ca_root_file == NULL))
        return cm_fail_nomem(err);
    z->public_only = o->api_url == NULL;
    z->allow_plain_http = o->allow_plain_http;
    z->validity_days = o->validity_days;
    z->timeout_ns = (o->obtain_timeout_s == 0 ? TIMEOUT_S : o->obtain_timeout_s) * CM_NS_PER_S;
    return take_key(z, o, err);
}

cm_status cm_zerossl_issuer_new(const struct cm_zerossl_options *opts, struct cm_issuer **ret,
                                struct cm_err *err)
{
    static const struct cm_buf secret = CM_BUF_SECRET(KEY_MAX);

    if (opts == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_zerossl_issuer_new: no options");
    struct zerossl *z = cm_calloc(1, sizeof *z);
    if (z == NULL)
        return cm_fail_nomem(err);
    z->base.ops = &zerossl_ops;
    z->api.key = secret;
    cm_status rc = take_options(z, opts, err);
    if (rc != CM_OK) {
        zerossl_destroy(&z->base);
        return rc;
    }
    *ret = &z->base;
    return CM_OK;
}
