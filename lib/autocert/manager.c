/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"
#include "issuers.h"

#include <stdio.h>
#include <string.h>

/* A manager: its options, and the two configs that it stands on. */

#define TIMEOUT_MS       (5 * 60 * 1000)
#define TOKEN_TIMEOUT_MS (60 * 1000)
#define HOSTS_MAX        100000u
#define START_NS         (60 * CM_NS_PER_S)

/* ----------------------------------------------------------------- options */

/* What the manager sets by itself. */
static cm_status check_config(const struct cm_config_options *c, struct cm_err *err)
{
    const struct {
        const char *name;
        bool given;
    } ours[] = {
        { "storage", c->storage != NULL || c->storage_object != NULL },
        { "cache", c->cache != NULL },
        { "issuers", c->issuers != NULL || c->n_issuers > 0 },
        { "snapshot", c->snapshot != NULL },
        { "key_type", c->key_type != CM_KEY_DEFAULT },
        { "acme.email", c->acme.email != NULL },
        { "acme.agreed", c->acme.agreed },
        { "acme.account_key_file", c->acme.account_key_file != NULL },
        { "acme.challenges", c->acme.challenges != 0 },
        { "default_name", c->default_name != NULL },
        { "fallback_name", c->fallback_name != NULL },
        { "renew_before_s", c->renew_before_s != 0 },
        { "handshake_wait_ms", c->handshake_wait_ms != 0 },
        { "key_source", c->key_source != NULL },
        { "on_demand", c->on_demand != NULL },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(ours); i++)
        if (ours[i].given)
            return cm_fail(err, CM_E_INVAL, "autocert: option config->%s is the manager's own",
                           ours[i].name);
    return CM_OK;
}

static cm_status read_options(const struct cm_autocert_options *opts, struct cm_autocert_options *o,
                              struct cm_config_options *c, struct cm_err *err)
{
    if (opts == NULL || opts->size < sizeof opts->size)
        return cm_fail(err, CM_E_INVAL, "autocert: no options, or without their size");
    memcpy(o, opts, opts->size < sizeof *o ? opts->size : sizeof *o);
    if (o->prompt == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "autocert: no prompt: who agrees to the CA's terms? cm_accept_tos does");
    if ((o->policy == NULL) == (o->n_hosts == 0) || (o->hosts == NULL && o->n_hosts > 0) ||
        o->n_hosts > HOSTS_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "autocert: either a policy or hosts (at most %u) say for which names "
                       "certificates may be ordered",
                       HOSTS_MAX);
    if (o->timeout_ms < 0 || o->token_timeout_ms < 0)
        return cm_fail(err, CM_E_INVAL, "autocert: a time-out is negative");
    if (o->config == NULL)
        return CM_OK;
    if (o->config->size < sizeof o->config->size)
        return cm_fail(err, CM_E_INVAL, "autocert: option config without its size");
    memcpy(c, o->config, o->config->size < sizeof *c ? o->config->size : sizeof *c);
    c->size = sizeof *c;
    return check_config(c, err);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static cm_status copy_hosts(struct cm_autocert *m, const struct cm_autocert_options *o,
                            struct cm_err *err)
{
    char name[CM_NAME_BUF];

    m->hosts = cm_calloc(o->n_hosts + 1, sizeof *m->hosts);
    if (m->hosts == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < o->n_hosts; i++) {
        cm_status rc = cm_name_normalize(o->hosts[i], 0, name, err);

        if (rc != CM_OK)
            return cm_wrap(err, rc, "autocert: hosts");
        m->hosts[i] = cm_strdup(name);
        if (m->hosts[i] == NULL)
            return cm_fail_nomem(err);
        m->n_hosts++;
    }
    qsort(m->hosts, m->n_hosts, sizeof *m->hosts, by_text);
    return CM_OK;
}

/* ------------------------------------------------------------------ account */

/* The account's key as the cache has it, where the issuer looks: as one whose account is to be
 * looked for, and, if the CA does not know it, as the one to register with. */
static cm_status place_account(struct cm_autocert *m, const struct cm_op *op, const char *email,
                               struct cm_span pem, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);
    struct acme_account_paths paths;

    cm_status rc = cm_safe_name(cm_issuer_key(cm_config_issuer(m->half[0].cfg, 0)), &safe, err);
    if (rc != CM_OK)
        return rc;
    CM_AUTO_FREE char *prefix = cm_asprintf("acme/%s", cm_buf_str(&safe));
    if (prefix == NULL)
        return cm_fail_nomem(err);
    rc = acme_account_paths(prefix, email, &paths, err);
    if (rc == CM_OK)
        rc = cm_storage_store(m->inner, op, paths.key, pem, err);
    if (rc == CM_OK)
        rc = cm_storage_store(m->inner, op, paths.pending, pem, err);
    return rc;
}

static cm_status load_account(struct cm_autocert *m, const char *email, struct cm_err *err)
{
    static const char *const names[] = { AUTOCERT_ACCOUNT, AUTOCERT_ACCOUNT_OLD };
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    const struct cm_op op = autocert_op(m, NULL, START_NS);
    struct cm_key *key = NULL;
    cm_status rc = CM_E_NOTFOUND;
    size_t i;

    for (i = 0; i < CM_ARRAY_LEN(names) && rc == CM_E_NOTFOUND; i++)
        rc = cm_autocert_cache_get(m->cache, &op, names[i], &pem, err);
    if (rc != CM_OK)
        return rc == CM_E_NOTFOUND ? CM_OK : cm_wrap(err, rc, "autocert cache");
    rc = cm_key_from_pem(cm_buf_span(&pem), &key, err);
    if (rc == CM_OK && cm_key_jws_alg(key) == NULL)
        rc = cm_fail(err, CM_E_KEY, "it is of a type that cannot sign for an account");
    cm_key_unref(key);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "account key '%s' in the autocert cache", names[i - 1]);
    return place_account(m, &op, email, cm_buf_span(&pem), err);
}

/* ------------------------------------------------------------------ set up */

static cm_status open_inner(struct cm_autocert *m, struct cm_err *err)
{
    struct cm_storage_open_options so = CM_STORAGE_OPEN_OPTIONS_INIT;
    char name[33];

    cm_status rc = cm_random_hex(m->env, 16, name, err); /* nobody else opens the same */
    if (rc != CM_OK)
        return rc;
    CM_AUTO_FREE char *url = cm_asprintf("memory:autocert-%s", name);
    if (url == NULL)
        return cm_fail_nomem(err);
    so.env = m->env;
    so.log = m->log;
    return cm_storage_open(url, &so, &m->inner, err);
}

static cm_status open_half(struct cm_autocert *m, const struct cm_autocert_options *o,
                           const struct cm_config_options *base, bool rsa, struct cm_err *err)
{
    struct autocert_half *h = &m->half[rsa ? 1 : 0];
    struct cm_config_options c = *base;
    const struct autocert_view_options vo = {
        .inner = m->inner,
        .cache = m->cache,
        .env = m->env,
        .log = m->log,
        .rsa = rsa,
        .agree = autocert_agree,
        .user = m,
    };

    h->rsa = rsa;
    cm_status rc = autocert_view_new(&vo, &h->view, err);
    if (rc != CM_OK)
        return rc;
    c.storage_object = h->view;
    c.key_type = rsa ? CM_KEY_RSA2048 : CM_KEY_P256;
    c.acme.email = o->email;
    c.acme.agreed = true; /* autocert_agree() is asked before an account is made */
    c.acme.challenges = CM_CHALLENGE_TLSALPN01;
    if (o->http01)
        c.acme.challenges |= CM_CHALLENGE_HTTP01;
    if (base->acme.dns != NULL)
        c.acme.challenges |= CM_CHALLENGE_DNS01;
    c.renew_before_s = o->renew_before_s;
    c.handshake_wait_ms = m->timeout_ns / CM_NS_PER_MS;
    c.announce = base->announce && !rsa; /* one node */
    rc = cm_config_new(&c, &h->cfg, err);
    if (rc != CM_OK)
        return rc;
    return autocert_view_issuer(h->view, cm_issuer_key(cm_config_issuer(h->cfg, 0)), err);
}

static bool copy_text(char **to, const char *from)
{
    *to = cm_strdup(from);
    return from == NULL || *to != NULL;
}

/* For autocert_agree(), which asks the CA as the issuers do. */
static cm_status copy_acme(struct cm_autocert *m, const struct cm_config_options *c,
                           struct cm_err *err)
{
    const char *url = c->acme.directory_url != NULL ? c->acme.directory_url : CM_CA_LETSENCRYPT;
    struct cm_acme_extra extra = CM_ACME_EXTRA_INIT;

    if (c->acme.extra != NULL)
        memcpy(&extra, c->acme.extra,
               c->acme.extra->size < sizeof extra ? c->acme.extra->size : sizeof extra);
    m->allow_plain_http = c->acme.allow_plain_http;
    if (!copy_text(&m->directory_url, c->internal ? NULL : url) ||
        !copy_text(&m->ca_root_file, c->acme.ca_root_file) || !copy_text(&m->proxy, extra.proxy) ||
        !copy_text(&m->no_proxy, extra.no_proxy))
        return cm_fail_nomem(err);
    return CM_OK;
}

static cm_status set_up(struct cm_autocert *m, const struct cm_autocert_options *o,
                        const struct cm_config_options *c, struct cm_err *err)
{
    cm_status rc = CM_OK;

    m->failures = cm_calloc(FAILURES_MAX, sizeof *m->failures);
    if (m->failures == NULL)
        return cm_fail_nomem(err);
    rc = copy_hosts(m, o, err);
    if (rc == CM_OK)
        rc = copy_acme(m, c, err);
    if (rc == CM_OK)
        rc = open_inner(m, err);
    if (rc == CM_OK)
        rc = open_half(m, o, c, false, err);
    if (rc == CM_OK)
        rc = open_half(m, o, c, true, err);
    if (rc == CM_OK && m->cache != NULL && m->directory_url != NULL)
        rc = load_account(m, o->email, err);
    if (rc == CM_OK && o->force_rsa)
        cm_logf(&m->log, CM_LOG_WARN, "autocert_force_rsa", NULL, 0,
                "force_rsa has no effect: each client gets a certificate that it can use");
    return rc;
}

cm_status cm_autocert_new(const struct cm_autocert_options *opts, struct cm_autocert **ret,
                          struct cm_err *err)
{
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct cm_autocert *m;

    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no place for the manager");
    cm_status rc = read_options(opts, &o, &c, err);
    if (rc != CM_OK)
        return rc;
    m = cm_calloc(1, sizeof *m);
    if (m == NULL)
        return cm_fail_nomem(err);
    cm_mutex_init(&m->lock);
    m->cache = o.cache;
    m->prompt = o.prompt;
    m->prompt_user = o.prompt_user;
    m->policy = o.policy;
    m->policy_user = o.policy_user;
    m->env = c.env != NULL ? c.env : cm_env_system();
    m->log = c.log;
    m->timeout_ns = (o.timeout_ms > 0 ? o.timeout_ms : TIMEOUT_MS) * CM_NS_PER_MS;
    m->token_timeout_ns =
        (o.token_timeout_ms > 0 ? o.token_timeout_ms : TOKEN_TIMEOUT_MS) * CM_NS_PER_MS;
    rc = set_up(m, &o, &c, err);
    if (rc != CM_OK) {
        cm_autocert_free(m);
        return rc;
    }
    *ret = m;
    return CM_OK;
}

void cm_autocert_free(struct cm_autocert *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < CM_ARRAY_LEN(m->half); i++) {
        cm_config_free(m->half[i].cfg);
        cm_storage_close(m->half[i].view);
    }
    cm_storage_close(m->inner);
    cm_autocert_cache_free(m->own_cache);
    for (size_t i = 0; i < m->n_hosts; i++)
        free(m->hosts[i]);
    free(m->hosts);
    free(m->directory_url);
    free(m->ca_root_file);
    free(m->proxy);
    free(m->no_proxy);
    free(m->failures);
    (void)pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ------------------------------------------------------------------ policy */

cm_status autocert_allowed(struct cm_autocert *m, const struct cm_op *op, const char *host,
                           struct cm_err *err)
{
    if (m->policy != NULL) {
        cm_status rc = m->policy(m->policy_user, op, host, err);

        return rc == CM_OK ? rc : cm_wrap(err, rc, "policy for '%s'", host);
    }
    if (bsearch(&host, m->hosts, m->n_hosts, sizeof *m->hosts, by_text) != NULL)
        return CM_OK;
    return cm_fail(err, CM_E_POLICY, "'%s' is not among the hosts that are served", host);
}

struct cm_op autocert_op(const struct cm_autocert *m, const struct cm_op *op, int64_t ns)
{
    struct cm_op own = { m->env, 0, NULL };

    if (op != NULL) {
        own.deadline_ns = op->deadline_ns;
        own.cancel = op->cancel;
    }
    return cm_op_within(&own, ns);
}
