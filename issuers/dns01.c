/* SPDX-License-Identifier: Apache-2.0 */
#include "dns01.h"

#include "dns.h"
#include "dns_record.h"
#include "issuers.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* dns-01 (RFC 8555 8.4), and dns-account-01 (draft-ietf-acme-dns-account-label), which differs in
 * the name of the record: each account has its own, so that several can hold delegations of one
 * name.
 *
 * A record is noted before it is put up, and its note goes after it: at no
 * time is there a record that nobody would take down.
 *
 * Looking names up is for finding where the record belongs, and for not asking the CA too early.
 * Without the check (no_check) a lookup that fails is no failure: the provider may know itself. */

#define DNS_ACCOUNT     "dns-account-01"
#define LABEL_BYTES     10u /* of the SHA-256 of the account's URL */
#define CHECK_DEFAULT_S 120
#define POLL_DEFAULT_MS 500
#define TTL_DEFAULT     60u
#define LOOKUP_NS       (30 * CM_NS_PER_S)
#define TAKE_DOWN_NS    (20 * CM_NS_PER_S)
#define SWEEP_EVERY_NS  (600 * CM_NS_PER_S)
#define SWEEP_AGAIN_NS  (20 * CM_NS_PER_S) /* somebody's lock may run out until then */
#define SWEEP_NS        (15 * CM_NS_PER_S)
#define DOWN_NS         (60 * CM_NS_PER_S) /* a provider that does not answer is left alone so long */

struct dns01 {
    struct cm_solver base;
    const struct cm_issuer_host *host;
    struct cm_dns_provider *provider;
    bool own_provider;
    struct dns_resolver *resolver;
    struct dns_holders *holders;
    int64_t check_ns, poll_ns;
    uint32_t ttl;
    bool no_check;
    atomic_llong sweep_ns; /* monotonic: when it is time to sweep; 0 = at once */
    atomic_llong down_ns;  /* monotonic: until then records are left to the sweep */
};

static struct dns01 *self(struct cm_solver *sv)
{
    return CM_CONTAINER_OF(sv, struct dns01, base);
}

static bool dns01_can(struct cm_solver *sv, const char *type, enum cm_ident_type ident_type,
                      bool wildcard)
{
    (void)sv;
    (void)wildcard;
    return ident_type == CM_IDENT_DNS &&
           (strcmp(type, "dns-01") == 0 || strcmp(type, DNS_ACCOUNT) == 0);
}

static void sweep(struct dns01 *s, const struct dns_holder *holder, const struct cm_op *op)
{
    const struct cm_env *env = cm_op_env(op);
    long long now = env->mono_ns(env), due = atomic_load(&s->sweep_ns);

    if (due > now || !atomic_compare_exchange_strong(&s->sweep_ns, &due, now + SWEEP_EVERY_NS))
        return;
    struct cm_op within = cm_op_within(op, SWEEP_NS);
    if (!dns_record_sweep(s->provider, holder, s->host->storage, &within, &s->host->log))
        atomic_store(&s->sweep_ns, now + SWEEP_AGAIN_NS);
}

/* Where the record belongs: the end of the CNAMEs, and the zone of that. */
static cm_status locate(struct dns01 *s, const struct cm_op *op, const char *name,
                        char fqdn[DNS_NAME_BUF], char zone[DNS_NAME_BUF], struct cm_err *err)
{
    struct cm_op within = cm_op_within(op, LOOKUP_NS);
    struct cm_err why = CM_ERR_INIT;

    memcpy(fqdn, name, strlen(name) + 1);
    zone[0] = '\0';
    cm_status rc = dns_follow(s->resolver, &within, name, fqdn, &why);
    if (rc == CM_OK)
        rc = dns_zone_of(s->resolver, &within, fqdn, zone, &why);
    if (rc == CM_OK || rc == CM_E_NOMEM || cm_op_check(op, NULL) != CM_OK || !s->no_check) {
        if (rc != CM_OK && err != NULL)
            *err = why;
        return rc;
    }
    const struct cm_log_field f[] = { { "name", name }, { "error", why.msg } };
    cm_logf(&s->host->log, CM_LOG_INFO, "dns_lookup_failed", f, CM_ARRAY_LEN(f),
            "where %s is kept cannot be looked up (%s); the provider is asked as it is", name,
            why.msg);
    return CM_OK;
}

/* Its note goes only when the record is gone. */
static void take_down(struct dns01 *s, const struct cm_op *op, struct dns_record *r)
{
    struct cm_op detached = { cm_op_env(op), 0, NULL };
    struct cm_op within = cm_op_within(&detached, TAKE_DOWN_NS);
    long long now = within.env->mono_ns(within.env);
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = CM_E_TIMEOUT;

    if (atomic_load(&s->down_ns) > now)
        (void)cm_fail(&why, rc, "%s did not answer just before",
                      s->provider->ops->describe(s->provider));
    else
        rc = cm_dns_provider_remove(s->provider, &within, &r->pub, &why);
    if (rc == CM_OK)
        rc = dns_record_forget(r, s->host->storage, &within, &why);
    if (rc != CM_OK) {
        const struct cm_log_field f[] = { { "record", r->fqdn }, { "error", why.msg } };
        if (rc == CM_E_TIMEOUT || rc == CM_E_NET)
            atomic_store(&s->down_ns, now + DOWN_NS);
        atomic_store(&s->sweep_ns, now + DOWN_NS);
        cm_logf(&s->host->log, CM_LOG_WARN, "dns_record_left", f, CM_ARRAY_LEN(f),
                "could not take down the TXT record %s (%s); it is noted, and tried again later",
                r->fqdn, why.msg);
    }
    dns_record_free(r);
}

/* After a failure: it may be there all the same, unless it was refused. */
static void undo(struct dns01 *s, const struct cm_op *op, struct dns_record *r, cm_status failed)
{
    const struct cm_op cleanup = issuer_cleanup_op(op);

    if ((failed == CM_E_PERM || failed == CM_E_NOTFOUND) &&
        dns_record_forget(r, s->host->storage, &cleanup, NULL) == CM_OK)
        dns_record_free(r);
    else
        take_down(s, op, r);
}

/* What somebody else keeps may be put right without us: it is worth another try later. */
static cm_status outside(cm_status rc, struct cm_err *err)
{
    if (rc != CM_E_PERM && rc != CM_E_NOTFOUND)
        return rc;
    if (err != NULL)
        err->status = CM_E_NET;
    return CM_E_NET;
}

/* "_", base32 (RFC 4648 6) in lower case, "." */
static void account_label(const char *url, char ret[LABEL_BYTES * 8 / 5 + 3])
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint8_t digest[CM_SHA256_LEN];
    unsigned bits = 0, have = 0;
    size_t n = 0;

    cm_sha256(cm_span_str(url), digest);
    ret[n++] = '_';
    for (size_t i = 0; i < LABEL_BYTES; i++) {
        bits = (bits << 8 | digest[i]) & 0xffffu;
        for (have += 8; have >= 5; have -= 5)
            ret[n++] = digits[bits >> (have - 5) & 31u];
    }
    ret[n++] = '.';
    ret[n] = '\0';
}

static cm_status challenge_name(const struct cm_challenge *ch, char ret[DNS_NAME_BUF],
                                struct cm_err *err)
{
    char label[LABEL_BYTES * 8 / 5 + 3] = "";

    if (strcmp(ch->type, DNS_ACCOUNT) == 0)
        account_label(CM_CONTAINER_OF(ch, const struct dns01_challenge, pub)->account, label);
    int len = snprintf(ret, DNS_NAME_BUF, "%s_acme-challenge.%s", label, ch->ident);
    if (len < 0 || len > DNS_NAME_MAX)
        return cm_fail(err, CM_E_INVAL, "%s: with _acme-challenge. before it it is too long a name",
                       ch->ident);
    return CM_OK;
}

static cm_status dns01_present(struct cm_solver *sv, const struct cm_op *op,
                               const struct cm_challenge *ch, void **ret_state, struct cm_err *err)
{
    struct dns01 *s = self(sv);
    struct dns_record *r = NULL;
    struct dns_holder *holder = NULL;
    char name[DNS_NAME_BUF], fqdn[DNS_NAME_BUF], zone[DNS_NAME_BUF];

    cm_status rc = challenge_name(ch, name, err);
    if (rc == CM_OK)
        rc = outside(locate(s, op, name, fqdn, zone, err), err);
    if (rc == CM_OK)
        rc = dns_record_new(ch, s->provider->ops->describe(s->provider), name, fqdn,
                            zone[0] == '\0' ? NULL : zone, s->ttl, &r, err);
    if (rc == CM_OK)
        rc = dns_holder_get(s->holders, s->host->storage, op, &s->host->log, &holder, err);
    if (rc == CM_OK) {
        sweep(s, holder, op);
        rc = dns_record_note(r, holder, s->host->storage, op, err);
    }
    if (rc != CM_OK) {
        dns_record_free(r);
        return rc;
    }
    rc = cm_dns_provider_append(s->provider, op, &r->pub, err);
    if (rc != CM_OK) {
        undo(s, op, r, rc);
        return outside(rc, err);
    }
    *ret_state = r;
    return CM_OK;
}

static cm_status dns01_wait(struct cm_solver *sv, const struct cm_op *op, void *state,
                            struct cm_err *err)
{
    struct dns01 *s = self(sv);
    struct dns_record *r = state;
    struct cm_op within = cm_op_within(op, s->check_ns);
    bool silent = false;

    cm_status rc = cm_dns_provider_wait(s->provider, &within, &r->pub, err);
    if (rc != CM_OK || s->no_check)
        return outside(rc, err);
    rc = dns_wait_shown(s->resolver, &within, r->zone, r->fqdn, r->value, s->poll_ns, &silent, err);
    if (rc != CM_OK)
        return outside(cm_wrap(err, rc, "%s", r->fqdn), err);
    if (silent) {
        const struct cm_log_field f[] = { { "record", r->fqdn } };
        cm_logf(&s->host->log, CM_LOG_WARN, "dns_server_silent", f, CM_ARRAY_LEN(f),
                "%s shows on the servers that answer, but not all servers of zone %s do", r->fqdn,
                r->zone);
    }
    return CM_OK;
}

static void dns01_cleanup(struct cm_solver *sv, const struct cm_op *op, void *state)
{
    take_down(self(sv), op, state);
}

static void dns01_destroy(struct cm_solver *sv)
{
    struct dns01 *s = self(sv);

    if (s->own_provider)
        cm_dns_provider_close(s->provider);
    dns_resolver_free(s->resolver);
    dns_holders_free(s->holders);
    free(s);
}

static const struct cm_solver_ops dns01_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_solver_ops),
    .name = "dns-01",
    .can = dns01_can,
    .present = dns01_present,
    .wait = dns01_wait,
    .cleanup = dns01_cleanup,
    .destroy = dns01_destroy,
};

static cm_status take_options(struct dns01 *s, const struct cm_dns_options *o, struct cm_err *err)
{
    const struct dns_resolver_options ro = { .servers = o->resolvers,
                                             .n_servers = o->n_resolvers,
                                             .zone_port = o->server_port };
    if (o->timeout_s < 0 || o->timeout_s > 86400)
        return cm_fail(err, CM_E_INVAL, "dns.timeout_s must be between 0 and 86400");
    if (o->poll_ms < 0 || o->poll_ms > 600000)
        return cm_fail(err, CM_E_INVAL, "dns.poll_ms must be between 0 and 600000");
    if (o->ttl > 86400)
        return cm_fail(err, CM_E_INVAL, "dns.ttl must be a day at most");
    s->check_ns = (o->timeout_s == 0 ? CHECK_DEFAULT_S : o->timeout_s) * CM_NS_PER_S;
    s->poll_ns = (o->poll_ms == 0 ? POLL_DEFAULT_MS : o->poll_ms) * CM_NS_PER_MS;
    s->ttl = o->ttl == 0 ? TTL_DEFAULT : o->ttl;
    s->no_check = o->no_check;
    return dns_resolver_new(&ro, &s->resolver, err);
}

/* The provider is opened before anybody says where to log. */
static void relay(void *user, enum cm_log_level level, const char *event, const char *msg,
                  const struct cm_log_field *fields, size_t n)
{
    const struct dns01 *s = user;

    if (s->host != NULL && s->host->log.write != NULL && level >= s->host->log.min_level)
        s->host->log.write(s->host->log.user, level, event, msg, fields, n);
}

static cm_status take_provider(struct dns01 *s, const struct cm_dns_options *o, struct cm_err *err)
{
    if ((o->provider_object == NULL) == (o->provider == NULL))
        return cm_fail(err, CM_E_INVAL, "dns.provider and dns.provider_object: give one of them");
    s->own_provider = o->provider_object == NULL;
    s->provider = o->provider_object;
    const struct cm_dns_provider_options po = { .size = (uint32_t)sizeof po,
                                                .log = { relay, s, CM_LOG_DEBUG } };
    return s->own_provider ? cm_dns_provider_open(o->provider, &po, &s->provider, err) : CM_OK;
}

cm_status cm_solver_dns01_new(const struct cm_dns_options *opts, struct cm_solver **ret,
                              struct cm_err *err)
{
    struct dns01 *s = cm_calloc(1, sizeof *s);
    cm_status rc = CM_OK;

    if (s == NULL)
        return cm_fail_nomem(err);
    s->base.ops = &dns01_ops;
    rc = dns_holders_new(&s->holders, err);
    if (rc == CM_OK)
        rc = take_provider(s, opts, err);
    if (rc == CM_OK)
        rc = take_options(s, opts, err);
    if (rc != CM_OK) {
        dns01_destroy(&s->base);
        return rc;
    }
    *ret = &s->base;
    return CM_OK;
}

void cm_solver_dns01_attach(struct cm_solver *sv, const struct cm_issuer_host *host)
{
    self(sv)->host = host;
}

cm_status cm_solver_dns01_sweep(struct cm_solver *sv, const struct cm_op *op, struct cm_err *err)
{
    struct dns01 *s = self(sv);
    struct dns_holder *holder = NULL;
    size_t n = 0;

    cm_status rc = dns_record_count(s->host->storage, op, &n, err);
    if (rc == CM_OK && n > 0)
        rc = dns_holder_get(s->holders, s->host->storage, op, &s->host->log, &holder, err);
    if (rc != CM_OK || n == 0)
        return rc;
    (void)dns_record_sweep(s->provider, holder, s->host->storage, op, &s->host->log);
    dns_holder_put(holder);
    return cm_op_check(op, err);
}
