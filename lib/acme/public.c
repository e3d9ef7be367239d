/* SPDX-License-Identifier: Apache-2.0 */
#include "public.h"

#include <string.h>

/* The client of certmesh/cm_acme.h: its directory and its account. */

#define DIRECTORY_URL "https://acme-v02.api.letsencrypt.org/directory"
#define MAC_KEY_MAX   1024u

/* ------------------------------------------------------------------- client */

static cm_status load_key(struct cm_span pem, struct cm_key **ret, struct cm_err *err)
{
    struct cm_key *key = NULL;

    cm_status rc = cm_key_from_pem(pem, &key, err);
    if (rc == CM_OK)
        rc = cm_key_check(key, err);
    if (rc == CM_OK && cm_key_jws_alg(key) == NULL)
        rc = cm_fail(err, CM_E_UNSUPPORTED, "a key of this type signs no requests");
    if (rc != CM_OK) {
        cm_key_unref(key);
        return cm_wrap(err, rc, "ACME account key");
    }
    *ret = key;
    return CM_OK;
}

static cm_status set_up(struct cm_acme_client *c, const struct cm_acme_client_config *cfg,
                        struct cm_err *err)
{
    const struct cm_acme_client_options o = {
        .directory_url = cfg->directory_url != NULL ? cfg->directory_url : DIRECTORY_URL,
        .http = { .ca_file = cfg->ca_root_file,
                  .user_agent = cfg->user_agent,
                  .proxy = cfg->proxy,
                  .allow_plain_http = cfg->allow_plain_http,
                  .log = cfg->log },
        .allowed_origins = cfg->allowed_origins,
        .poll_first_ns = cfg->poll_first_ms * CM_NS_PER_MS,
        .poll_cap_ns = cfg->poll_cap_ms * CM_NS_PER_MS,
        .log = cfg->log,
        .transport = cfg->transport,
    };

    cm_status rc = load_key(cfg->account_key_pem, &c->key, err);
    if (rc != CM_OK)
        return rc;
    c->account_url = cm_strdup(cfg->account_url);
    if (cfg->account_url != NULL && c->account_url == NULL)
        return cm_fail_nomem(err);
    return cm_acme_new(&o, &c->a, err);
}

cm_status cm_acme_client_new(const struct cm_acme_client_config *cfg, struct cm_acme_client **ret,
                             struct cm_err *err)
{
    struct cm_acme_client_config own = CM_ACME_CLIENT_CONFIG_INIT;
    struct cm_acme_client *c;

    if (cfg == NULL || ret == NULL || cfg->size < sizeof cfg->size)
        return cm_fail(err, CM_E_INVAL, "ACME client: no configuration, or without its size");
    memcpy(&own, cfg, cfg->size < sizeof own ? cfg->size : sizeof own);
    if (own.poll_first_ms < 0 || own.poll_cap_ms < 0 || own.poll_first_ms > 3600 * 1000 ||
        own.poll_cap_ms > 3600 * 1000)
        return cm_fail(err, CM_E_INVAL, "ACME client: polling is every hour at most");
    if (own.transport != NULL &&
        (own.transport->ops == NULL || own.transport->ops->abi != CM_SPI_ABI ||
         own.transport->ops->exchange == NULL))
        return cm_fail(err, CM_E_INVAL, "ACME client: a transport of another make");
    c = cm_calloc(1, sizeof *c);
    if (c == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&c->lock);
    cm_status rc = set_up(c, &own, err);
    if (rc != CM_OK) {
        cm_acme_client_free(c);
        return rc;
    }
    *ret = c;
    return CM_OK;
}

void cm_acme_client_free(struct cm_acme_client *c)
{
    if (c == NULL)
        return;
    cm_acme_free(c->a);
    cm_key_unref(c->key);
    free(c->account_url);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

cm_status cm_acme_client_discover(struct cm_acme_client *c, const struct cm_op *op,
                                  struct cm_acme_info *ret, struct cm_err *err)
{
    const struct cm_acme_directory *d = NULL;

    if (c == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no place for the directory");
    cm_status rc = cm_acme_directory(c->a, op, &d, err);
    if (rc != CM_OK)
        return rc;
    const struct cm_acme_info info = {
        .size = ret->size,
        .new_nonce = d->new_nonce,
        .new_account = d->new_account,
        .new_order = d->new_order,
        .new_authz = d->new_authz,
        .revoke_cert = d->revoke_cert,
        .key_change = d->key_change,
        .renewal_info = d->renewal_info,
        .terms_of_service = d->terms_of_service,
        .website = d->website,
        .caa = (const char *const *)d->caa,
        .profiles = (const char *const *)d->profiles,
        .eab_required = d->eab_required,
    };
    memcpy(ret, &info, ret->size < sizeof info ? ret->size : sizeof info);
    return CM_OK;
}

/* ----------------------------------------------------------------- requests */

static void learn_url(struct cm_acme_client *c, const char *url)
{
    cm_mutex_lock(&c->lock);
    if (c->account_url == NULL)
        c->account_url = cm_strdup(url); /* without memory it is asked for again */
    cm_mutex_unlock(&c->lock);
}

struct cm_key *cm__acme_client_key(struct cm_acme_client *c)
{
    cm_mutex_lock(&c->lock);
    struct cm_key *key = cm_key_ref(c->key);
    cm_mutex_unlock(&c->lock);
    return key;
}

void cm__acme_session_end(struct acme_session *s)
{
    cm_key_unref(s->key);
    free(s->kid);
}

static cm_status known_url(struct cm_acme_client *c, char **ret, struct cm_err *err)
{
    bool known;

    cm_mutex_lock(&c->lock);
    known = c->account_url != NULL;
    *ret = cm_strdup(c->account_url);
    cm_mutex_unlock(&c->lock);
    return known && *ret == NULL ? cm_fail_nomem(err) : CM_OK;
}

/* newAccount; the account's document to @ret (NULL ok). */
static cm_status new_account(struct cm_acme_client *c, const struct cm_op *op,
                             const struct cm_acme_new_account *req, struct cm_acme_doc **ret,
                             bool *ret_created, struct cm_err *err)
{
    struct cm_acme_account acc = { 0 };
    struct cm_key *key = cm__acme_client_key(c);
    cm_status rc = cm_acme_account_new(c->a, op, key, req, &acc, ret_created, err);

    cm_key_unref(key);
    if (rc == CM_E_ACME && err != NULL && cm_acme_problem_is(err->problem, "accountDoesNotExist"))
        err->status = rc = CM_E_NOTFOUND;
    if (rc != CM_OK)
        return rc;
    learn_url(c, acc.url);
    if (ret != NULL)
        rc = cm__acme_doc_new(acc.url, cm_span_str(acc.json), "account", 0, ret, err);
    cm_acme_account_free(&acc);
    return rc;
}

cm_status cm__acme_client_session(struct cm_acme_client *c, const struct cm_op *op,
                                  struct acme_session *ret, struct cm_err *err)
{
    const struct cm_acme_new_account existing = { .only_existing = true };
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = known_url(c, &ret->kid, err);

    if (rc != CM_OK)
        return rc;
    if (ret->kid == NULL) {
        rc = new_account(c, op, &existing, NULL, NULL, &why);
        if (rc == CM_OK)
            rc = known_url(c, &ret->kid, &why);
        if (rc == CM_OK && ret->kid == NULL)
            rc = cm_fail_nomem(&why);
        if (rc != CM_OK) {
            if (err != NULL)
                *err = why;
            return cm_wrap(err, rc, "the account of this key");
        }
    }
    ret->key = cm__acme_client_key(c);
    ret->who = (struct cm_acme_signer){ ret->key, ret->kid };
    return CM_OK;
}

static cm_status take_doc(const struct acme_answer *ans, const char *url, const char *what,
                          struct cm_acme_doc **ret, struct cm_err *err)
{
    if (ret == NULL)
        return CM_OK;
    return cm__acme_doc_new(url, cm_buf_span(&ans->http.body), what, ans->retry_after_s, ret, err);
}

cm_status cm__acme_client_post(struct cm_acme_client *c, const struct cm_op *op, const char *what,
                               const char *url, struct cm_span payload, struct cm_acme_doc **ret,
                               struct cm_err *err)
{
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    CM_AUTO_SESSION struct acme_session by = { 0 };

    if (c == NULL || url == NULL || !cm__acme_is_url(url))
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no URL of a %s", what);
    cm_status rc = cm__acme_client_session(c, op, &by, err);
    if (rc != CM_OK)
        return rc;
    const struct acme_request post = {
        .what = what, .url = url, .who = &by.who, .payload = payload, .idempotent = payload.len == 0
    };
    rc = cm__acme_post(c->a, op, &post, &ans, err);
    return rc == CM_OK ? take_doc(&ans, url, what, ret, err) : rc;
}

static cm_status copy_payload(void *arg, const char *url, struct cm_buf *out, struct cm_err *err)
{
    const struct cm_span *payload = arg;

    (void)url;
    return cm_buf_append(out, payload->data, payload->len, err);
}

cm_status cm__acme_client_post_endpoint(struct cm_acme_client *c, const struct cm_op *op,
                                        const char *what, size_t offset, struct cm_span payload,
                                        struct cm_acme_doc **ret, struct cm_err *err)
{
    CM_AUTO_ANSWER struct acme_answer ans = ACME_ANSWER_INIT;
    CM_AUTO_SESSION struct acme_session by = { 0 };
    CM_AUTO_FREE char *url = NULL;
    struct acme_request post = { .what = what, .who = &by.who };

    cm_status rc = cm__acme_client_session(c, op, &by, err);
    if (rc == CM_OK)
        rc = cm__acme_post_endpoint(c->a, op, offset, &post, copy_payload, &payload, &ans, err);
    if (rc == CM_OK)
        rc = cm__acme_location(c->a, &ans, post.url, what, &url, err);
    return rc == CM_OK ? take_doc(&ans, url, what, ret, err) : rc;
}

/* ------------------------------------------------------------------ account */

static cm_status parse_eab(const struct cm_acme_registration *reg, struct cm_acme_new_account *req,
                           struct cm_buf *mac, struct cm_err *err)
{
    const char *alg = reg->eab_alg != NULL ? reg->eab_alg : "HS256";

    if (reg->eab_kid == NULL)
        return CM_OK;
    if (reg->eab_mac_key == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: an external account needs its MAC key");
    if (strcmp(alg, "HS256") == 0)
        req->eab_alg = CM_HMAC_SHA256;
    else if (strcmp(alg, "HS384") == 0)
        req->eab_alg = CM_HMAC_SHA384;
    else if (strcmp(alg, "HS512") == 0)
        req->eab_alg = CM_HMAC_SHA512;
    else
        return cm_fail(err, CM_E_INVAL, "ACME client: eab_alg is HS256, HS384 or HS512");
    cm_status rc = cm_b64url_decode(cm_span_str(reg->eab_mac_key), mac, err);
    if (rc != CM_OK)
        return cm_wrap(err, CM_E_INVAL, "ACME client: eab_mac_key");
    req->eab_kid = reg->eab_kid;
    req->eab_key = cm_buf_span(mac);
    return CM_OK;
}

cm_status cm_acme_client_register(struct cm_acme_client *c, const struct cm_op *op,
                                  const struct cm_acme_registration *reg, struct cm_acme_doc **ret,
                                  bool *ret_created, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf mac = CM_BUF_SECRET(MAC_KEY_MAX);
    struct cm_acme_registration own = { .size = (uint32_t)sizeof own };

    if (c == NULL || reg == NULL || reg->size < sizeof reg->size)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no registration");
    memcpy(&own, reg, reg->size < sizeof own ? reg->size : sizeof own);
    struct cm_acme_new_account req = { .contact = own.contact,
                                       .n_contact = own.n_contact,
                                       .tos_agreed = own.tos_agreed };
    cm_status rc = parse_eab(&own, &req, &mac, err);
    return rc == CM_OK ? new_account(c, op, &req, ret, ret_created, err) : rc;
}

cm_status cm_acme_client_account(struct cm_acme_client *c, const struct cm_op *op,
                                 struct cm_acme_doc **ret, struct cm_err *err)
{
    const struct cm_acme_new_account existing = { .only_existing = true };
    struct cm_err why = CM_ERR_INIT;

    if (c == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no place for the account");
    cm_status rc = new_account(c, op, &existing, ret, NULL, &why);
    if (rc != CM_OK && err != NULL)
        *err = why;
    return rc;
}

/* POST to the account itself. */
static cm_status post_account(struct cm_acme_client *c, const struct cm_op *op, const char *what,
                              struct cm_span payload, struct cm_acme_doc **ret, struct cm_err *err)
{
    CM_AUTO_SESSION struct acme_session by = { 0 };

    cm_status rc = cm__acme_client_session(c, op, &by, err);
    return rc == CM_OK ? cm__acme_client_post(c, op, what, by.kid, payload, ret, err) : rc;
}

cm_status cm_acme_client_update(struct cm_acme_client *c, const struct cm_op *op,
                                const char *const *contact, size_t n, struct cm_acme_doc **ret,
                                struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf payload = CM_BUF_INIT(CM_ACME_REQUEST_MAX / 2);

    if (c == NULL || (contact == NULL && n > 0))
        return cm_fail(err, CM_E_INVAL, "ACME client: no client, or no contacts");
    cm_status rc = cm_buf_puts(&payload, "{\"contact\":[", err);
    for (size_t i = 0; rc == CM_OK && i < n; i++) {
        rc = i > 0 ? cm_buf_puts(&payload, ",", err) : CM_OK;
        if (rc == CM_OK)
            rc = cm__json_put_str(&payload, contact[i], err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(&payload, "]}", err);
    return rc == CM_OK ? post_account(c, op, "account update", cm_buf_span(&payload), ret, err)
                       : rc;
}

cm_status cm_acme_client_deactivate(struct cm_acme_client *c, const struct cm_op *op,
                                    struct cm_err *err)
{
    if (c == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client");
    return post_account(c, op, "account deactivation", cm_span_str("{\"status\":\"deactivated\"}"),
                        NULL, err);
}

cm_status cm_acme_client_key_change(struct cm_acme_client *c, const struct cm_op *op,
                                    struct cm_span new_key_pem, struct cm_err *err)
{
    CM_AUTO_SESSION struct acme_session by = { 0 };
    struct cm_key *key = NULL;

    if (c == NULL)
        return cm_fail(err, CM_E_INVAL, "ACME client: no client");
    cm_status rc = load_key(new_key_pem, &key, err);
    if (rc != CM_OK)
        return rc;
    rc = cm__acme_client_session(c, op, &by, err);
    if (rc == CM_OK)
        rc = cm_acme_key_change(c->a, op, &by.who, key, err);
    if (rc == CM_OK) {
        cm_mutex_lock(&c->lock);
        struct cm_key *old = c->key;

        c->key = key;
        key = old;
        cm_mutex_unlock(&c->lock);
    }
    cm_key_unref(key);
    return rc;
}
