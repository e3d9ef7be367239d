/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include "dns01.h"
#include "dns_persist.h"

#include <stdio.h>
#include <string.h>

/* The ACME issuer: options checked and copied, and the table that core calls. */

static struct acme_issuer *self(struct cm_issuer *is)
{
    return CM_CONTAINER_OF(is, struct acme_issuer, base);
}

static const char *acme_key(struct cm_issuer *is)
{
    return self(is)->key;
}

static const char *acme_challenge_prefix(struct cm_issuer *is, unsigned index)
{
    const struct acme_issuer *ai = self(is);

    if (index == 0)
        return ai->prefix;
    return index == 1 && ai->test != NULL ? ai->test->prefix : NULL;
}

static cm_status acme_precheck(struct cm_issuer *is, const char *const *names, size_t n,
                               struct cm_err *err)
{
    cm_status counted = acme_ca_count(self(is)->directory_url, n, err);

    for (size_t i = 0; i < n; i++) {
        cm_status rc;

        if (cm_name_is_wildcard(names[i]) && (self(is)->challenges & ACME_DNS_CHALLENGES) == 0)
            rc = cm_fail(err, CM_E_POLICY,
                         "%s: a wildcard needs a DNS challenge, so a DNS provider that puts its "
                         "answer up; or name the hosts one by one",
                         names[i]);
        else
            rc = acme_ca_precheck(self(is)->directory_url, names[i], err);
        if (rc == CM_OK)
            continue;
        if (err != NULL)
            err->no_retry = true; /* asking again without a change is of no use */
        return rc;
    }
    return counted;
}

static cm_status attach(struct acme_issuer *ai, const struct cm_issuer_host *host, const char *also,
                        struct cm_err *err)
{
    ai->host = *host;
    ai->listen_host = cm_strdup(host->listen_host);
    if (host->listen_host != NULL && ai->listen_host == NULL)
        return cm_fail_nomem(err);
    ai->host.listen_host = ai->listen_host;

    const struct cm_acme_client_options co = {
        .directory_url = ai->directory_url,
        .http = { .ca_file = ai->ca_root_file,
                  .proxy = ai->proxy,
                  .no_proxy = ai->no_proxy,
                  .user_agent = ai->user_agent,
                  .total_timeout_ns = ai->request_timeout_ns,
                  .allow_plain_http = ai->allow_plain_http,
                  .log = host->log },
        .log = host->log,
    };
    cm_status rc = cm_acme_new(&co, &ai->client, err);
    if (rc == CM_OK)
        rc = cm_solver_shared_new(&ai->host, also, &ai->solver, err);
    if (rc == CM_OK && ai->dns_solver != NULL)
        cm_solver_dns01_attach(ai->dns_solver, &ai->host);
    return rc == CM_OK ? acme_extra_attach(ai, err) : rc;
}

/* The tokens of the test CA are put under both prefixes: peers of another make, or configured
 * without it, look under that of the CA alone. */
static cm_status acme_attach(struct cm_issuer *is, const struct cm_issuer_host *host,
                             struct cm_err *err)
{
    struct acme_issuer *ai = self(is);

    if (ai->client != NULL)
        return cm_fail(err, CM_E_STATE, "issuer for %s already belongs to a config",
                       ai->directory_url);
    cm_status rc = attach(ai, host, NULL, err);
    if (rc == CM_OK && ai->test != NULL)
        rc = attach(ai->test, host, ai->prefix, err);
    return rc;
}

static cm_status acme_renewal_info(struct cm_issuer *is, const struct cm_op *op,
                                   struct cm_span leaf_der, struct cm_renewal_info *ret,
                                   struct cm_err *err)
{
    struct acme_issuer *ai = self(is);
    struct cm_leaf *leaf = NULL;

    if (ai->disable_ari)
        return cm_fail(err, CM_E_UNSUPPORTED, "%s is not to be asked for renewal information",
                       ai->directory_url);
    cm_status rc = cm_leaf_parse(leaf_der, &leaf, err);
    if (rc != CM_OK)
        return rc;
    if (leaf->ari_id[0] == '\0')
        rc = cm_fail(err, CM_E_UNSUPPORTED, "the certificate does not say which key signed it");
    else
        rc = cm_acme_renewal_info(ai->client, op, leaf->ari_id, ret, err);
    cm_leaf_free(leaf);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "renewal information from %s", ai->directory_url);
}

static cm_status acme_clean(struct cm_issuer *is, const struct cm_op *op, struct cm_err *err)
{
    struct acme_issuer *ai = self(is);

    return ai->dns_solver != NULL ? cm_solver_dns01_sweep(ai->dns_solver, op, err) : CM_OK;
}

static void acme_limits(struct cm_issuer *is, struct cm_issuer_limits *ret)
{
    *ret = self(is)->limits;
}

static cm_status acme_revoke(struct cm_issuer *is, const struct cm_op *op, struct cm_span leaf_der,
                             int reason, struct cm_err *err)
{
    struct acme_issuer *ai = self(is);
    struct acme_identity *id = NULL;
    struct acme_identity *newer = NULL;
    struct cm_err why = CM_ERR_INIT;
    struct cm_op within = cm_op_within(op, ai->obtain_timeout_ns);

    cm_status rc = acme_identity_get(ai, &within, false, &id, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "revoke");
    struct cm_acme_signer who = { id->key, id->url };
    rc = cm_acme_revoke(ai->client, &within, &who, leaf_der, reason, &why);
    if (acme_account_is_doubted(rc, &why) &&
        acme_identity_newer(ai, &within, id, &newer, NULL) == CM_OK) {
        who = (struct cm_acme_signer){ newer->key, newer->url };
        rc = cm_acme_revoke(ai->client, &within, &who, leaf_der, reason, &why);
    }
    if (rc != CM_OK && err != NULL)
        *err = why;
    acme_identity_unref(newer);
    acme_identity_unref(id);
    return rc;
}

static void acme_stop(struct cm_issuer *is)
{
    struct acme_issuer *ai = self(is);
    if (ai->test != NULL)
        acme_stop(&ai->test->base);
    if (ai->solver != NULL)
        cm_solver_stop(ai->solver);
    if (ai->dns_solver != NULL)
        cm_solver_stop(ai->dns_solver);
    if (ai->persist_solver != NULL)
        cm_solver_stop(ai->persist_solver);
}

static void acme_destroy(struct cm_issuer *is)
{
    struct acme_issuer *ai = self(is);
    if (ai->test != NULL)
        acme_destroy(&ai->test->base);
    if (ai->solver != NULL)
        cm_solver_destroy(ai->solver);
    if (ai->dns_solver != NULL)
        cm_solver_destroy(ai->dns_solver);
    if (ai->persist_solver != NULL)
        cm_solver_destroy(ai->persist_solver);
    cm_acme_free(ai->client);
    acme_identity_unref(ai->identity);
    cm_buf_free(&ai->eab_key);
    free(ai->directory_url);
    free(ai->key);
    free(ai->prefix);
    free(ai->email);
    free(ai->ca_root_file);
    free(ai->eab_kid);
    free(ai->account_key_file);
    free(ai->profile);
    free(ai->preferred_chain);
    acme_extra_free(ai);
    free(ai->listen_host);
    (void)pthread_mutex_destroy(&ai->lock);
    (void)pthread_cond_destroy(&ai->changed);
    free(ai);
}

const struct cm_issuer_ops acme_issuer_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_issuer_ops),
    .name = "acme",
    .key = acme_key,
    .attach = acme_attach,
    .precheck = acme_precheck,
    .issue = acme_issue,
    .revoke = acme_revoke,
    .challenge_prefix = acme_challenge_prefix,
    .destroy = acme_destroy,
    .renewal_info = acme_renewal_info,
    .limits = acme_limits,
    .stop = acme_stop,
    .clean = acme_clean,
};

/* ------------------------------------------------------------------ options */

static cm_status copy(char **to, const char *from, struct cm_err *err)
{
    if (from == NULL || from[0] == '\0')
        return CM_OK;
    *to = cm_strdup(from);
    return *to == NULL ? cm_fail_nomem(err) : CM_OK;
}

/* Trimmed and lower-cased: accounts are found by it. */
static cm_status copy_email(struct acme_issuer *ai, const char *email, struct cm_err *err)
{
    if (email == NULL)
        return CM_OK;
    while (*email == ' ' || *email == '\t')
        email++;
    size_t len = strlen(email);
    while (len > 0 && (email[len - 1] == ' ' || email[len - 1] == '\t'))
        len--;
    if (len == 0)
        return CM_OK;
    const char *at = memchr(email, '@', len);
    if (len > 254 || at == NULL || at == email || at == email + len - 1)
        return cm_fail(err, CM_E_INVAL, "'%.*s' is not an e-mail address",
                       (int)(len > 254 ? 254 : len), email);
    ai->email = cm_strndup(email, len);
    if (ai->email == NULL)
        return cm_fail_nomem(err);
    for (char *p = ai->email; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x21 || *p == 0x7f || strchr(",;<>\"\\", *p) != NULL)
            return cm_fail(err, CM_E_INVAL,
                           "the e-mail address has a character that none may have");
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    }
    return CM_OK;
}

static cm_status take_eab(struct acme_issuer *ai, const struct cm_acme_options *o,
                          struct cm_err *err)
{
    static const struct {
        const char *name;
        enum cm_hmac alg;
    } algs[] = { { "HS256", CM_HMAC_SHA256 },
                 { "HS384", CM_HMAC_SHA384 },
                 { "HS512", CM_HMAC_SHA512 } };
    const char *name = o->eab_alg == NULL ? "HS256" : o->eab_alg;
    bool known = false;

    if (o->eab_kid == NULL && o->eab_mac_key == NULL)
        return CM_OK;
    if (o->eab_kid == NULL || o->eab_mac_key == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "external account binding needs both a key id and a MAC key");
    for (size_t i = 0; i < CM_ARRAY_LEN(algs); i++)
        if (strcmp(algs[i].name, name) == 0) {
            ai->eab_alg = algs[i].alg;
            known = true;
        }
    if (!known)
        return cm_fail(err, CM_E_INVAL, "eab_alg '%s' is none of HS256, HS384, HS512", name);
    struct cm_span text = cm_span_str(o->eab_mac_key);
    while (text.len > 0 && text.data[text.len - 1] == '=')
        text.len--;
    cm_status rc = cm_b64url_decode(text, &ai->eab_key, err);
    if (rc == CM_OK && ai->eab_key.len < 16)
        rc = cm_fail(err, CM_E_INVAL, "shorter than 16 bytes");
    if (rc != CM_OK)
        return cm_wrap(err, rc, "external account binding: MAC key (base64url)");
    return copy(&ai->eab_kid, o->eab_kid, err);
}

static cm_status check_url(const struct cm_acme_options *o, const char *url, struct cm_err *err)
{
    bool https = strncmp(url, "https://", 8) == 0 && url[8] != '\0' && url[8] != '/';
    bool http = strncmp(url, "http://", 7) == 0 && url[7] != '\0' && url[7] != '/';

    if (https || (http && o->allow_plain_http))
        return CM_OK;
    return cm_fail(err, http ? CM_E_POLICY : CM_E_INVAL,
                   "CA directory '%s': give a full https:// URL", url);
}

static cm_status take_names(struct acme_issuer *ai, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf key = CM_BUF_INIT(CM_HTTP_URL_MAX);
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);

    cm_status rc = cm_issuer_key_from_url(ai->directory_url, &key, err);
    if (rc == CM_OK)
        rc = cm_safe_name(cm_buf_str(&key), &safe, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "CA directory '%s'", ai->directory_url);
    ai->key = cm_strdup(cm_buf_str(&key));
    ai->prefix = cm_asprintf("acme/%s", cm_buf_str(&safe));
    return ai->key == NULL || ai->prefix == NULL ? cm_fail_nomem(err) : CM_OK;
}

/* With a DNS provider, dns-01 alone unless it is said otherwise; but addresses have no dns-01. */
static cm_status take_challenges(struct acme_issuer *ai, const struct cm_acme_options *o,
                                 struct cm_err *err)
{
    const unsigned open_port = CM_CHALLENGE_HTTP01 | CM_CHALLENGE_TLSALPN01;
    const unsigned all = open_port | ACME_DNS_CHALLENGES;
    const bool persist = (o->challenges & CM_CHALLENGE_DNSPERSIST01) != 0;
    const bool has_provider =
        o->dns != NULL && (!persist || o->dns->provider != NULL || o->dns->provider_object != NULL);
    cm_status rc = CM_OK;

    if ((o->challenges & ~all) != 0)
        return cm_fail(err, CM_E_INVAL, "unknown challenge bits 0x%x", o->challenges & ~all);
    if ((o->challenges & ACME_DNS_PROVIDED) != 0 && !has_provider)
        return cm_fail(err, CM_E_INVAL, "%s needs a DNS provider",
                       (o->challenges & CM_CHALLENGE_DNS01) != 0 ? "dns-01" : "dns-account-01");
    ai->challenges = o->challenges;
    if (o->challenges == 0)
        ai->challenges = o->dns == NULL ? open_port : CM_CHALLENGE_DNS01;
    if (o->challenges == 0)
        ai->challenges_ip = open_port;
    if (has_provider)
        rc = cm_solver_dns01_new(o->dns, &ai->dns_solver, err);
    if (rc == CM_OK && persist)
        rc = cm_solver_persist_new(o->dns, &ai->persist_solver, err);
    return rc;
}

static cm_status take_options(struct acme_issuer *ai, const struct cm_acme_options *o,
                              struct cm_err *err)
{
    const char *url = o->directory_url == NULL ? CM_CA_LETSENCRYPT : o->directory_url;

    cm_status rc = check_url(o, url, err);
    if (rc == CM_OK)
        rc = copy(&ai->directory_url, url, err);
    if (rc == CM_OK)
        rc = take_names(ai, err);
    if (rc == CM_OK)
        rc = copy_email(ai, o->email, err);
    if (rc == CM_OK)
        rc = take_eab(ai, o, err);
    if (rc == CM_OK)
        rc = copy(&ai->ca_root_file, o->ca_root_file, err);
    if (rc == CM_OK)
        rc = copy(&ai->account_key_file, o->account_key_file, err);
    if (rc == CM_OK)
        rc = copy(&ai->profile, o->profile, err);
    if (rc == CM_OK)
        rc = copy(&ai->preferred_chain, o->preferred_chain, err);
    if (rc == CM_OK)
        rc = take_challenges(ai, o, err);
    if (rc == CM_OK)
        rc = acme_extra_take(ai, o->extra, err);
    if (rc != CM_OK)
        return rc;
    if (o->obtain_timeout_s < 0 || o->obtain_timeout_s > 86400)
        return cm_fail(err, CM_E_INVAL, "obtain_timeout_s must be between 0 and 86400");
    ai->obtain_timeout_ns = (o->obtain_timeout_s == 0 ? 300 : o->obtain_timeout_s) * CM_NS_PER_S;
    ai->agreed = o->agreed;
    ai->allow_plain_http = o->allow_plain_http;
    ai->disable_ari = o->disable_ari;
    ai->account_key_type = (enum cm_pk)o->account_key_type;
    return acme_ca_limits(ai->directory_url, o->rate_events, o->rate_window_ms, &ai->limits, err);
}

static cm_status issuer_new(const struct cm_acme_options *opts, struct acme_issuer **ret,
                            struct cm_err *err)
{
    static const struct cm_buf secret = CM_BUF_SECRET(1024);
    struct acme_issuer *ai = cm_calloc(1, sizeof *ai);
    if (ai == NULL)
        return cm_fail_nomem(err);
    ai->base.ops = &acme_issuer_ops;
    ai->eab_key = secret;
    cm_mutex_init(&ai->lock);
    cm_cond_init(&ai->changed);
    cm_status rc = take_options(ai, opts, err);
    if (rc != CM_OK) {
        acme_destroy(&ai->base);
        return rc;
    }
    *ret = ai;
    return CM_OK;
}

/* An issuer of its own, with its own account in its own place in storage. What belongs to the CA
 * alone (its external account, its profiles and roots) would only be refused there. */
static cm_status add_test_ca(struct acme_issuer *ai, const struct cm_acme_options *opts,
                             struct cm_err *err)
{
    struct cm_acme_options o = *opts;
    struct cm_acme_extra extra = CM_ACME_EXTRA_INIT;

    if (opts->test_directory_url == NULL || opts->test_directory_url[0] == '\0')
        return CM_OK;
    o.directory_url = opts->test_directory_url;
    o.eab_kid = o.eab_mac_key = o.eab_alg = NULL;
    o.account_key_file = o.profile = o.preferred_chain = NULL;
    if (ai->proxy != NULL) { /* the other side of it is not this CA's alone */
        extra.proxy = ai->proxy;
        extra.no_proxy = ai->no_proxy;
    }
    extra.user_agent = ai->user_agent;
    extra.request_timeout_s = ai->request_timeout_ns / CM_NS_PER_S;
    o.extra = &extra;
    cm_status rc = issuer_new(&o, &ai->test, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "test CA");
    if (strcmp(ai->test->prefix, ai->prefix) == 0)
        return cm_fail(err, CM_E_INVAL, "test CA: '%s' is the CA itself", o.directory_url);
    return CM_OK;
}

cm_status cm_acme_issuer_new(const struct cm_acme_options *opts, struct cm_issuer **ret,
                             struct cm_err *err)
{
    struct acme_issuer *ai = NULL;

    if (opts == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_acme_issuer_new: no options");
    cm_status rc = issuer_new(opts, &ai, err);
    if (rc == CM_OK)
        rc = add_test_ca(ai, opts, err);
    if (rc != CM_OK) {
        if (ai != NULL)
            acme_destroy(&ai->base);
        return rc;
    }
    *ret = &ai->base;
    return CM_OK;
}
