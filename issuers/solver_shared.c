/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* http-01 and tls-alpn-01 for a fleet: the CA may ask any node behind the load balancer, so the
 * answer goes into storage first (CertMagic's place and form), then onto this process's board, and
 * only then is a port opened here, if nobody listens on it. */

struct shared {
    struct cm_solver base;
    const struct cm_issuer_host *host;
    char *also;     /* a second prefix for tokens; NULL = none */
    bool stateless; /* http-01 is answered by the account's thumbprint, whoever is asked */
    struct cm_responder *http;
    struct cm_responder *tls;
};

/* What cleanup needs: copies, since the challenge is borrowed for the call. */
struct presented {
    struct cm_challenge ch;
    char *token, *ident, *prefix, *key;
    char *also_key; /* NULL = none */
    bool is_stored;
    struct cm_responder *responder; /* NULL: somebody else answers */
};

static struct shared *self(struct cm_solver *sv)
{
    return CM_CONTAINER_OF(sv, struct shared, base);
}

static bool is_http01(const char *type)
{
    return strcmp(type, "http-01") == 0;
}

static bool shared_can(struct cm_solver *sv, const char *type, enum cm_ident_type ident_type,
                       bool wildcard)
{
    (void)sv;
    (void)ident_type;
    return !wildcard && (is_http01(type) || strcmp(type, "tls-alpn-01") == 0);
}

/* "<prefix>/challenge_tokens/<Safe(id)>.json"; for tls-alpn-01 on an address the id is its reverse
 * name, because that is the SNI the CA will send (RFC 8738 6). */
static cm_status token_key(const struct cm_challenge *ch, const char *prefix, char **ret,
                           struct cm_err *err)
{
    char arpa[CM_NAME_BUF];
    const char *id = ch->ident;
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);

    if (ch->ident_type == CM_IDENT_IP && !is_http01(ch->type)) {
        cm_status rc = cm_name_reverse_arpa(ch->ident, arpa, err);
        if (rc != CM_OK)
            return rc;
        id = arpa;
    }
    cm_status rc = cm_safe_name(id, &safe, err);
    if (rc != CM_OK)
        return rc;
    *ret = cm_asprintf("%s/challenge_tokens/%s.json", prefix, cm_buf_str(&safe));
    return *ret == NULL ? cm_fail_nomem(err) : CM_OK;
}

static bool add(struct json_object *obj, const char *name, struct json_object *value)
{
    if (value != NULL && json_object_object_add(obj, name, value) == 0)
        return true;
    json_object_put(value);
    return false;
}

static bool add_text(struct json_object *obj, const char *name, const char *value)
{
    return add(obj, name, json_object_new_string(value));
}

static cm_status token_json(const struct cm_challenge *ch, struct cm_buf *out, struct cm_err *err)
{
    struct json_object *obj = json_object_new_object();
    struct json_object *ident = json_object_new_object();
    bool ok = obj != NULL && ident != NULL &&
              add_text(ident, "type", ch->ident_type == CM_IDENT_IP ? "ip" : "dns") &&
              add_text(ident, "value", ch->ident) && add_text(obj, "type", ch->type) &&
              add_text(obj, "url", ch->url) && add_text(obj, "status", "pending") &&
              add_text(obj, "token", ch->token) &&
              add_text(obj, "keyAuthorization", ch->key_authorization);
    if (ok)
        ok = add(obj, "identifier", json_object_get(ident));
    const char *text = ok ? json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN |
                                                                    JSON_C_TO_STRING_NOSLASHESCAPE)
                          : NULL;
    cm_status rc = text == NULL ? cm_fail_nomem(err) : cm_buf_puts(out, text, err);
    json_object_put(ident);
    json_object_put(obj);
    return rc;
}

static void presented_free(struct presented *p)
{
    if (p == NULL)
        return;
    free(p->token);
    free(p->ident);
    free(p->prefix);
    free(p->key);
    free(p->also_key);
    free(p);
}

static cm_status presented_new(const struct shared *s, const struct cm_challenge *ch,
                               struct presented **ret, struct cm_err *err)
{
    struct presented *p = cm_calloc(1, sizeof *p);
    if (p == NULL)
        return cm_fail_nomem(err);
    p->token = cm_strdup(ch->token);
    p->ident = cm_strdup(ch->ident);
    p->prefix = cm_strdup(ch->prefix);
    cm_status rc = p->token == NULL || p->ident == NULL || p->prefix == NULL
                       ? cm_fail_nomem(err)
                       : token_key(ch, ch->prefix, &p->key, err);
    if (rc == CM_OK && s->also != NULL)
        rc = token_key(ch, s->also, &p->also_key, err);
    if (rc != CM_OK) {
        presented_free(p);
        return rc;
    }
    p->ch = (struct cm_challenge){ .type = is_http01(ch->type) ? "http-01" : "tls-alpn-01",
                                   .url = "",
                                   .token = p->token,
                                   .key_authorization = "",
                                   .ident_type = ch->ident_type,
                                   .ident = p->ident,
                                   .prefix = p->prefix };
    *ret = p;
    return CM_OK;
}

static cm_status put_tokens(const struct shared *s, const struct cm_op *op,
                            const struct presented *p, struct cm_span json, struct cm_err *err)
{
    cm_status rc = cm_storage_store(s->host->storage, op, p->key, json, err);

    if (rc == CM_OK && p->also_key != NULL)
        rc = cm_storage_store(s->host->storage, op, p->also_key, json, err);
    return rc;
}

static cm_status remove_tokens(const struct shared *s, const struct cm_op *op,
                               const struct presented *p, struct cm_err *err)
{
    cm_status also = CM_OK;

    if (p->also_key != NULL)
        also = cm_storage_remove(s->host->storage, op, p->also_key, err);
    cm_status rc = cm_storage_remove(s->host->storage, op, p->key, err);
    return rc == CM_OK ? also : rc;
}

/* Where a web server has been told the thumbprint, we need no right to its port. */
static cm_status open_port(struct shared *s, struct presented *p, struct cm_err *err)
{
    struct cm_responder *r = is_http01(p->ch.type) ? s->http : s->tls;

    cm_status rc = cm_responder_acquire(r, p->prefix, err);
    if (rc == CM_OK)
        p->responder = r;
    return rc == CM_E_PERM && !p->is_stored ? CM_OK : rc;
}

static cm_status shared_present(struct cm_solver *sv, const struct cm_op *op,
                                const struct cm_challenge *ch, void **ret_state, struct cm_err *err)
{
    struct shared *s = self(sv);
    struct presented *p = NULL;
    CM_AUTO_BUF struct cm_buf json = CM_BUF_INIT(16 * 1024);

    cm_status rc = token_json(ch, &json, err);
    if (rc == CM_OK)
        rc = presented_new(s, ch, &p, err);
    if (rc != CM_OK)
        return rc;
    p->is_stored = !s->stateless || !is_http01(ch->type);
    rc = p->is_stored ? put_tokens(s, op, p, cm_buf_span(&json), err) : CM_OK;
    if (rc == CM_OK)
        rc = cm_board_put(s->host->board, ch, err);
    if (rc == CM_OK) {
        rc = open_port(s, p, err);
        if (rc != CM_OK)
            cm_board_remove(s->host->board, &p->ch);
    }
    if (rc != CM_OK) {
        const struct cm_op undo = issuer_cleanup_op(op);
        if (p->is_stored)
            (void)!remove_tokens(s, &undo, p, NULL);
        presented_free(p);
        return rc;
    }
    *ret_state = p;
    return CM_OK;
}

static void shared_cleanup(struct cm_solver *sv, const struct cm_op *op, void *state)
{
    struct shared *s = self(sv);
    struct presented *p = state;
    struct cm_err err = CM_ERR_INIT;

    cm_board_remove(s->host->board, &p->ch);
    if (p->is_stored && remove_tokens(s, op, p, &err) != CM_OK) {
        const struct cm_log_field f[] = { { "key", p->key }, { "error", err.msg } };
        cm_logf(&s->host->log, CM_LOG_WARN, "token_left", f, CM_ARRAY_LEN(f),
                "could not remove challenge token %s (%s); `certmesh clean` will", p->key, err.msg);
    }
    if (p->responder != NULL)
        cm_responder_release(p->responder);
    presented_free(p);
}

static void shared_stop(struct cm_solver *sv)
{
    struct shared *s = self(sv);
    cm_responder_stop(s->http);
    cm_responder_stop(s->tls);
}

static void shared_destroy(struct cm_solver *sv)
{
    struct shared *s = self(sv);
    cm_responder_free(s->http);
    cm_responder_free(s->tls);
    free(s->also);
    free(s);
}

static const struct cm_solver_ops shared_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_solver_ops),
    .name = "shared",
    .can = shared_can,
    .present = shared_present,
    .cleanup = shared_cleanup,
    .destroy = shared_destroy,
    .stop = shared_stop,
};

cm_status cm_solver_shared_new(const struct cm_issuer_host *host, const char *also,
                               struct cm_solver **ret, struct cm_err *err)
{
    struct shared *s = cm_calloc(1, sizeof *s);
    if (s == NULL)
        return cm_fail_nomem(err);
    s->base.ops = &shared_ops;
    s->host = host;
    s->also = cm_strdup(also);
    cm_status rc = also != NULL && s->also == NULL ? cm_fail_nomem(err) : CM_OK;
    if (rc == CM_OK)
        rc = cm_responder_new(host, CM_RESPONDER_HTTP, &s->http, err);
    if (rc == CM_OK)
        rc = cm_responder_new(host, CM_RESPONDER_TLS, &s->tls, err);
    if (rc != CM_OK) {
        shared_destroy(&s->base);
        return rc;
    }
    *ret = &s->base;
    return CM_OK;
}

void cm_solver_shared_stateless(struct cm_solver *sv)
{
    self(sv)->stateless = true;
}
