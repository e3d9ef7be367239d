/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* Any node answers a CA's question: from the board if this process asked for the challenge, else
 * from storage. Reading storage is bounded in every way, since anyone can ask: one read per name
 * at a time, so many names at once, and a pause per name after a miss. In that pause a tls-alpn-01
 * hello is not refused but waits for the next read: its name is no secret, and whoever floods with
 * it must not be able to make the CA's own hello fail. */

#define IO_LIMIT_NS  (2 * CM_NS_PER_S)
#define LOOKUPS_MAX  256u
#define PREFIXES_MAX 8u
#define MISS_ALPN_NS (300 * CM_NS_PER_MS)
#define MISS_HTTP_NS (2 * CM_NS_PER_S)
#define KIND_ALPN    "tls-alpn-01"
#define KIND_HTTP    "http-01"
#define KIND_FILE    "validation file"
#define ACCOUNT_KEY  "" /* of probes for the account: no host is called so */
#define HTTP01_DIR   "/.well-known/acme-challenge"
#define FILE_DIR     "/.well-known/pki-validation"
#define FILE_URL_MAX 1024u
#define FILE_MAX     1024u

/* What to look for under each prefix of each issuer. */
struct find {
    const char *key_name; /* what the object is called: host, SNI */
    const char *ident;
    const char *token; /* NULL: any */
};

static bool fits(const struct find *f, const struct cm_token *t)
{
    return strcmp(t->ident, f->ident) == 0 &&
           (f->token == NULL || cm_equal_ct(cm_span_str(t->token), cm_span_str(f->token)));
}

static cm_status load_one(struct cm_config *cfg, const struct cm_op *op, const char *prefix,
                          const struct find *f, struct cm_token *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(CM_TOKEN_VALUE_MAX);
    char key[CM_KEY_BUF];

    cm_status rc = cm_path_token(prefix, f->key_name, key, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cfg->storage, op, key, &value, err);
    if (rc == CM_OK)
        rc = cm_token_parse(cm_buf_span(&value), ret, err);
    if (rc == CM_OK && !fits(f, ret))
        rc = cm_fail(err, CM_E_NOTFOUND, "'%s' holds another challenge", key);
    return rc;
}

static cm_status load_token(struct cm_config *cfg, const struct cm_op *op, const struct find *f,
                            struct cm_token *ret)
{
    for (size_t i = 0; i < cfg->n_issuers; i++) {
        for (unsigned k = 0; k < PREFIXES_MAX; k++) {
            const char *prefix = cm_issuer_challenge_prefix(cfg->issuers[i], k);
            struct cm_err why = CM_ERR_INIT;

            if (prefix == NULL)
                break;
            cm_status rc = load_one(cfg, op, prefix, f, ret, &why);
            if (rc == CM_OK)
                return rc;
            if (rc != CM_E_NOTFOUND && rc != CM_E_CANCELED)
                cm_logf(&cfg->log, CM_LOG_WARN, "challenge_unreadable", NULL, 0,
                        "look for the challenge of '%s' in storage: %s", f->ident, why.msg);
        }
    }
    return CM_E_NOTFOUND;
}

static bool has_prefix(const struct cm_config *cfg)
{
    for (size_t i = 0; i < cfg->n_issuers; i++)
        if (cm_issuer_challenge_prefix(cfg->issuers[i], 0) != NULL)
            return true;
    return false;
}

/* ------------------------------------------------------------- tls-alpn-01 */

/* One read of storage with all who wait for it. */
struct lookup {
    struct cm_run run;
    struct cm_config *cfg;
    struct lookup *next;
    struct cm_waiters waiters;
    struct cm_cert *found;
    char name[CM_NAME_BUF];
};

struct cm_lookups {
    pthread_mutex_t lock;
    struct lookup *first;
    size_t n;
};

cm_status cm_lookups_new(struct cm_lookups **ret, struct cm_err *err)
{
    struct cm_lookups *l = cm_calloc(1, sizeof *l);

    if (l == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&l->lock);
    *ret = l;
    return CM_OK;
}

void cm_lookups_free(struct cm_lookups *l)
{
    if (l == NULL)
        return;
    CM_ASSERT(l->n == 0); /* each ends with its task */
    (void)pthread_mutex_destroy(&l->lock);
    free(l);
}

static void ident_of(const char *name, char ident[CM_NAME_BUF])
{
    if (!cm_name_from_arpa(name, ident)) /* RFC 8738 6: an IP address comes as its reverse name */
        memcpy(ident, name, strlen(name) + 1);
}

static struct cm_cert *search(struct cm_config *cfg, const char *name)
{
    const struct cm_op base = { cfg->env, 0, cfg->stop_answers };
    const struct cm_op op = cm_op_within(&base, IO_LIMIT_NS);
    struct cm_err err = CM_ERR_INIT;
    struct cm_cert *cert = NULL;
    struct cm_token token;
    char ident[CM_NAME_BUF];

    ident_of(name, ident);
    cert = cm_board_cert(cfg->board, ident);
    if (cert != NULL)
        return cert;
    const struct find f = { name, ident, NULL };
    if (load_token(cfg, &op, &f, &token) != CM_OK)
        return NULL;
    if (cm_challenge_cert(cfg->env, ident, token.key_authorization, &cert, &err) != CM_OK)
        cm_logf(&cfg->log, CM_LOG_WARN, "challenge_certificate", NULL, 0,
                "make the challenge certificate of '%s': %s", ident, err.msg);
    return cert;
}

static cm_status answer(void *user, const struct cm_hello *hello, const char *name,
                        struct cm_cert **ret, struct cm_err *err)
{
    const struct lookup *l = user;

    (void)hello;
    if (l->found == NULL)
        return cm_refuse(err, CM_E_NOTFOUND, CM_ALERT_UNRECOGNIZED_NAME,
                         "no challenge is open for '%s'", name);
    *ret = cm_cert_ref(l->found);
    return CM_OK;
}

static void finish(struct lookup *l)
{
    struct cm_config *cfg = l->cfg;
    struct cm_lookups *all = cfg->lookups;
    struct lookup **at = &all->first;
    struct cm_pending *waiting;

    cm_mutex_lock(&all->lock);
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    all->n--;
    waiting = cm_waiters_take(cfg->hub, &l->waiters);
    cm_mutex_unlock(&all->lock);
    cm_waiters_answer(cfg->hub, waiting, answer, l);
    cm_cert_unref(l->found);
    free(l);
}

static void run_lookup(struct cm_run *self)
{
    struct lookup *l = CM_CONTAINER_OF(self, struct lookup, run);

    l->found = search(l->cfg, l->name);
    if (l->found == NULL) /* before it leaves the table, or the next hello would ask at once */
        cm_probes_note(l->cfg->probes, KIND_ALPN, l->name, MISS_ALPN_NS);
    finish(l);
}

/* Join the look-up for @name or begin one. */
static cm_status start(struct cm_config *cfg, struct cm_pending *p, const char *name,
                       struct cm_err *err)
{
    struct cm_lookups *all = cfg->lookups;
    struct lookup *fresh = cm_calloc(1, sizeof *fresh);
    struct lookup *l;
    cm_status rc;

    if (fresh == NULL)
        return cm_fail_nomem(err);
    cm_mutex_lock(&all->lock);
    for (l = all->first; l != NULL; l = l->next)
        if (strcmp(l->name, name) == 0)
            break;
    if (l == NULL && all->n >= LOOKUPS_MAX) {
        cm_mutex_unlock(&all->lock);
        free(fresh);
        return cm_fail(err, CM_E_LIMIT, "%u challenges are being looked for already", LOOKUPS_MAX);
    }
    if (l != NULL) {
        rc = cm_pending_join(p, &l->waiters, err);
        cm_mutex_unlock(&all->lock);
        free(fresh);
        return rc;
    }
    l = fresh;
    l->run.run = run_lookup;
    l->cfg = cfg;
    memcpy(l->name, name, strlen(name) + 1);
    rc = cm_pending_join(p, &l->waiters, err);
    l->next = all->first;
    all->first = l;
    all->n++;
    cm_mutex_unlock(&all->lock);
    if (rc == CM_OK)
        rc = cm_runq_push_first(cfg->io, &l->run, err); /* a CA is waiting */
    if (rc != CM_OK)
        finish(l); /* whoever joined meanwhile is told "no" */
    return rc;
}

void cm_challenge_resume(struct cm_config *cfg, struct cm_pending *p, const char *name)
{
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = start(cfg, p, name, &err);

    if (rc != CM_OK)
        cm_pending_fail(p, rc, err.msg);
}

cm_status cm_challenge_get(struct cm_config *cfg, const struct cm_hello *hello, const char *name,
                           struct cm_cert **ret_cert, struct cm_pending **ret_pending,
                           struct cm_err *err)
{
    struct cm_pending *p = NULL;
    char ident[CM_NAME_BUF];
    int64_t wait;

    ident_of(name, ident);
    *ret_cert = cm_board_cert(cfg->board, ident);
    if (*ret_cert != NULL)
        return CM_OK;
    if (cfg->handshake_wait_ns <= 0 || !has_prefix(cfg))
        return cm_refuse(err, CM_E_NOTFOUND, CM_ALERT_UNRECOGNIZED_NAME,
                         "no challenge is open for '%s'", name);
    wait = cfg->handshake_wait_ns < IO_LIMIT_NS ? cfg->handshake_wait_ns : IO_LIMIT_NS;
    cm_status rc = cm_pending_new(cfg, hello, name, wait, &p, err);
    if (rc == CM_OK) {
        int64_t pause = cm_probes_wait_ns(cfg->probes, KIND_ALPN, name);

        if (pause > 0 && !cm_peers_token_came(cfg, name, MISS_ALPN_NS - pause))
            cm_pending_sleep(p, pause);
        else
            rc = start(cfg, p, name, err);
    }
    if (rc != CM_OK) {
        cm_pending_free(p);
        if (err != NULL)
            err->tls_alert = CM_ALERT_INTERNAL;
        return rc;
    }
    *ret_pending = p;
    return cm_fail(err, CM_E_AGAIN, "looking for the challenge of '%s'", name);
}

/* ----------------------------------------------------------------- http-01 */

static bool is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

bool cm_http01_looks_like(const char *method, const char *path)
{
    if (method == NULL || path == NULL ||
        (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0))
        return false;
    return is_below(path, HTTP01_DIR) || is_below(path, FILE_DIR);
}

/* Host header without port and brackets, normalized. */
static bool host_of(const char *host, char ret[CM_NAME_BUF])
{
    char bare[CM_NAME_BUF + 16];
    size_t len = host != NULL ? strlen(host) : 0;
    const char *end;

    if (len == 0 || len >= sizeof bare)
        return false;
    memcpy(bare, host, len + 1);
    if (bare[0] == '[') {
        end = strchr(bare, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        len = (size_t)(end - bare) - 1;
        memmove(bare, bare + 1, len);
        bare[len] = '\0';
    } else {
        len = strcspn(bare, ":");
        if (strchr(bare + len, ':') != strrchr(bare, ':'))
            return false; /* an IPv6 address without brackets */
        bare[len] = '\0';
    }
    return cm_name_normalize(bare, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, ret, NULL) == CM_OK;
}

/* An account that cannot be had is not looked for at every request: anyone can make them. */
static bool stateless(struct cm_config *cfg, const struct cm_op *op, const char *token,
                      struct cm_buf *ret)
{
    struct cm_err why = CM_ERR_INIT;

    if (!cm_board_is_stateless(cfg->board) ||
        cm_probes_wait_ns(cfg->probes, KIND_HTTP, ACCOUNT_KEY) > 0)
        return false;
    cm_status rc = cm_board_stateless(cfg->board, op, token, ret, &why);
    if (rc == CM_OK)
        return true;
    if (rc != CM_E_NOTFOUND)
        cm_logf(&cfg->log, CM_LOG_WARN, "account_unreadable", NULL, 0,
                "the account whose thumbprint answers http-01: %s", why.msg);
    cm_probes_note(cfg->probes, KIND_HTTP, ACCOUNT_KEY, MISS_HTTP_NS);
    return false;
}

static cm_status http_from_storage(struct cm_config *cfg, const struct cm_op *op, const char *host,
                                   const char *token, struct cm_buf *ret, struct cm_err *err)
{
    const struct cm_op limited = cm_op_within(op, IO_LIMIT_NS);
    const struct find f = { host, host, token };
    char key[CM_NAME_BUF + 130];
    struct cm_token found;
    size_t hl = strlen(host);

    memcpy(key, host, hl);
    key[hl] = ' ';
    memcpy(key + hl + 1, token, strlen(token) + 1);
    int64_t pause = cm_probes_wait_ns(cfg->probes, KIND_HTTP, key);
    if (pause == 0 || cm_peers_token_came(cfg, host, MISS_HTTP_NS - pause)) {
        if (load_token(cfg, &limited, &f, &found) == CM_OK)
            return cm_buf_puts(ret, found.key_authorization, err);
        cm_probes_note(cfg->probes, KIND_HTTP, key, MISS_HTTP_NS);
    }
    if (stateless(cfg, &limited, token, ret))
        return CM_OK;
    return cm_fail(err, CM_E_POLICY, "no http-01 challenge is open for '%s' with this token", host);
}

/* ------------------------------------------------- validation by a file (no ACME) */

/* Issuers that validate by files say so by a prefix of their own. */
static bool has_files(const struct cm_config *cfg)
{
    for (size_t i = 0; i < cfg->n_issuers; i++) {
        const char *prefix = cm_issuer_challenge_prefix(cfg->issuers[i], 0);
        if (prefix != NULL && strncmp(prefix, "acme/", 5) != 0)
            return true;
    }
    return false;
}

bool cm_validation_is_ours(const struct cm_config *cfg, const char *method, const char *path)
{
    return cm_http01_looks_like(method, path) && (!is_below(path, FILE_DIR) || has_files(cfg));
}

/* Letters, digits and "._-": nothing that leads elsewhere, or that a storage key may not have. */
static bool is_file_name(const char *s)
{
    size_t len = strlen(s);

    for (size_t i = 0; i < len; i++)
        if (strchr("._-", s[i]) == NULL && !cm_is_b64url(s + i, 1))
            return false;
    return len > 0 && len <= 128 && s[0] != '.';
}

/* The object has the URL of the file, and what it holds as token. */
static cm_status load_file(struct cm_config *cfg, const struct cm_op *op, const char *prefix,
                           const char *host, const char *path, struct cm_buf *ret,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(CM_TOKEN_VALUE_MAX);
    struct json_object *top = NULL;
    char key[CM_KEY_BUF], url[FILE_URL_MAX], text[FILE_MAX];

    cm_status rc = cm_path_token(prefix, host, key, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cfg->storage, op, key, &value, err);
    if (rc == CM_OK)
        rc = cm_json_parse(cm_buf_span(&value), &top, err);
    if (rc != CM_OK)
        return rc;
    const char *at = cm_json_text(top, "url", url, sizeof url) ? strstr(url, FILE_DIR "/") : NULL;
    if (at == NULL || strcmp(at, path) != 0 || !cm_json_text(top, "token", text, sizeof text))
        rc = cm_fail(err, CM_E_NOTFOUND, "'%s' is not about this file", key);
    (void)json_object_put(top);
    return rc == CM_OK ? cm_buf_puts(ret, text, err) : rc;
}

static cm_status file_from_storage(struct cm_config *cfg, const struct cm_op *op, const char *host,
                                   const char *path, struct cm_buf *ret, struct cm_err *err)
{
    const struct cm_op limited = cm_op_within(op, IO_LIMIT_NS);
    char key[CM_NAME_BUF + 130];

    (void)snprintf(key, sizeof key, "%s %s", host, path + sizeof FILE_DIR);
    int64_t pause = cm_probes_wait_ns(cfg->probes, KIND_FILE, key);
    for (size_t i = 0; pause == 0 && i < cfg->n_issuers; i++) {
        for (unsigned k = 0; k < PREFIXES_MAX; k++) {
            const char *prefix = cm_issuer_challenge_prefix(cfg->issuers[i], k);
            if (prefix == NULL)
                break;
            if (load_file(cfg, &limited, prefix, host, path, ret, NULL) == CM_OK)
                return CM_OK;
        }
    }
    if (pause == 0)
        cm_probes_note(cfg->probes, KIND_FILE, key, MISS_HTTP_NS);
    return cm_fail(err, CM_E_POLICY, "no validation file '%s' for '%s'", path + sizeof FILE_DIR,
                   host);
}

static cm_status handle_file(struct cm_config *cfg, const struct cm_op *op, const char *host,
                             const char *path, struct cm_buf *ret, struct cm_err *err)
{
    struct cm_op own = { cfg->env, 0, NULL };
    char name[CM_NAME_BUF];

    if (path[sizeof FILE_DIR - 1] == '\0' || !is_file_name(path + sizeof FILE_DIR))
        return cm_fail(err, CM_E_POLICY, "a request for a validation file without a proper name");
    if (!host_of(host, name))
        return cm_fail(err, CM_E_POLICY, "a request for a validation file without a proper Host");
    if (op != NULL) {
        own = *op;
        own.env = op->env == NULL ? cfg->env : op->env;
    }
    return file_from_storage(cfg, &own, name, path, ret, err);
}

cm_status cm_http01_handle(struct cm_config *cfg, const struct cm_op *op, const char *method,
                           const char *host, const char *path, struct cm_buf *ret_body,
                           struct cm_err *err)
{
    struct cm_op own = { NULL, 0, NULL };
    char name[CM_NAME_BUF];

    if (cfg == NULL || ret_body == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no buffer for the answer");
    if (!cm_validation_is_ours(cfg, method, path))
        return cm_fail(err, CM_E_NOTFOUND, "not a request for an http-01 answer");
    if (is_below(path, FILE_DIR))
        return handle_file(cfg, op, host, path, ret_body, err);
    const char *token = path + sizeof HTTP01_DIR - 1;
    size_t len = strlen(token);
    if (len < 2 || len > 129 || !cm_is_b64url(token + 1, len - 1))
        return cm_fail(err, CM_E_POLICY, "an http-01 request without a proper token");
    token++;
    if (!host_of(host, name))
        return cm_fail(err, CM_E_POLICY, "an http-01 request without a proper Host");
    cm_status rc = cm_board_http(cfg->board, name, token, ret_body, err);
    if (rc != CM_E_NOTFOUND)
        return rc;
    if (op != NULL)
        own = *op;
    if (own.env == NULL)
        own.env = cfg->env;
    return http_from_storage(cfg, &own, name, token, ret_body, err);
}
