/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_persist.h"

#include "dns01.h"
#include "issuers.h"

#include <stdio.h>
#include <string.h>

#define LOOK_NS         (30 * CM_NS_PER_S)
#define POLL_DEFAULT_MS 500

struct persist {
    struct cm_solver base;
    struct dns_resolver *resolver; /* NULL = nothing is looked up */
    int64_t wait_ns, poll_ns;      /* wait_ns 0: it shows now, or does not */
};

/* What one challenge wants. */
struct wanted {
    char name[DNS_NAME_BUF];
    char *issuers;
    char *account;
    bool wildcard;
};

static struct persist *self(struct cm_solver *sv)
{
    return CM_CONTAINER_OF(sv, struct persist, base);
}

static bool persist_can(struct cm_solver *sv, const char *type, enum cm_ident_type ident_type,
                        bool wildcard)
{
    (void)sv;
    (void)wildcard;
    return ident_type == CM_IDENT_DNS && strcmp(type, DNS_PERSIST) == 0;
}

static void wanted_free(struct wanted *w)
{
    free(w->issuers);
    free(w->account);
    free(w);
}

static cm_status persist_present(struct cm_solver *sv, const struct cm_op *op,
                                 const struct cm_challenge *ch, void **ret_state,
                                 struct cm_err *err)
{
    const struct dns01_challenge *own = CM_CONTAINER_OF(ch, const struct dns01_challenge, pub);
    struct wanted *w = cm_calloc(1, sizeof *w);
    cm_status rc = CM_OK;

    (void)sv;
    (void)op;
    if (w == NULL)
        return cm_fail_nomem(err);
    rc = dns_persist_name(ch->ident, w->name, err);
    w->issuers = cm_strdup(own->issuers);
    w->account = cm_strdup(own->account);
    w->wildcard = own->wildcard;
    if (rc == CM_OK && (w->issuers == NULL || w->account == NULL))
        rc = cm_fail_nomem(err);
    if (rc == CM_OK && w->issuers[0] == '\0')
        rc = cm_fail(err, CM_E_ACME, "the CA's challenge has no issuer domain name");
    if (rc != CM_OK) {
        wanted_free(w);
        return rc;
    }
    *ret_state = w;
    return CM_OK;
}

static cm_status look(struct dns_resolver *r, const struct cm_op *op, const char *name,
                      struct dns_persist *want, int64_t poll_ns, struct cm_err *err)
{
    char fqdn[DNS_NAME_BUF];
    cm_status rc = dns_follow(r, op, name, fqdn, err);

    want->now_s = cm_op_env(op)->wall_ns(cm_op_env(op)) / CM_NS_PER_S;
    if (rc == CM_OK)
        rc = dns_wait_fitting(r, op, NULL, fqdn, dns_persist_why_not, want, poll_ns, NULL, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "%s", fqdn);
}

cm_status dns_persist_look(struct cm_solver *sv, const struct cm_op *op, const char *name,
                           struct dns_persist *want, bool patient, struct cm_err *err)
{
    static const struct dns_resolver_options none = { .n_servers = 0 };
    struct dns_resolver *r = sv == NULL ? NULL : self(sv)->resolver;
    struct dns_resolver *own = NULL;
    bool waits = patient && self(sv)->wait_ns > 0;
    struct cm_op within = cm_op_within(op, waits ? self(sv)->wait_ns : LOOK_NS);
    cm_status rc = CM_OK;

    if (r == NULL) {
        rc = dns_resolver_new(&none, &own, err);
        r = own;
    }
    if (rc == CM_OK)
        rc = look(r, &within, name, want, waits ? self(sv)->poll_ns : 0, err);
    dns_resolver_free(own);
    return rc;
}

/* Whoever keeps the zone may set it at any time: it is worth another try later. */
static cm_status persist_wait(struct cm_solver *sv, const struct cm_op *op, void *state,
                              struct cm_err *err)
{
    const struct wanted *w = state;
    struct dns_persist want = { .issuers = w->issuers,
                                .account = w->account,
                                .wildcard = w->wildcard };

    if (self(sv)->resolver == NULL)
        return CM_OK;
    cm_status rc = dns_persist_look(sv, op, w->name, &want, true, err);
    if (rc != CM_E_PERM && rc != CM_E_NOTFOUND)
        return rc;
    if (err != NULL)
        err->status = CM_E_NET;
    return CM_E_NET;
}

static void persist_cleanup(struct cm_solver *sv, const struct cm_op *op, void *state)
{
    (void)sv;
    (void)op;
    wanted_free(state);
}

static void persist_destroy(struct cm_solver *sv)
{
    dns_resolver_free(self(sv)->resolver);
    free(self(sv));
}

static const struct cm_solver_ops persist_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_solver_ops),
    .name = DNS_PERSIST,
    .can = persist_can,
    .present = persist_present,
    .wait = persist_wait,
    .cleanup = persist_cleanup,
    .destroy = persist_destroy,
};

cm_status cm_solver_persist_new(const struct cm_dns_options *opts, struct cm_solver **ret,
                                struct cm_err *err)
{
    static const struct cm_dns_options defaults = CM_DNS_OPTIONS_INIT;
    const struct cm_dns_options *o = opts == NULL ? &defaults : opts;
    const struct dns_resolver_options ro = { .servers = o->resolvers,
                                             .n_servers = o->n_resolvers,
                                             .zone_port = o->server_port };

    if (o->timeout_s < 0 || o->timeout_s > 86400)
        return cm_fail(err, CM_E_INVAL, "dns.timeout_s must be between 0 and 86400");
    if (o->poll_ms < 0 || o->poll_ms > 600000)
        return cm_fail(err, CM_E_INVAL, "dns.poll_ms must be between 0 and 600000");
    struct persist *s = cm_calloc(1, sizeof *s);
    if (s == NULL)
        return cm_fail_nomem(err);
    s->base.ops = &persist_ops;
    s->wait_ns = o->timeout_s * CM_NS_PER_S;
    s->poll_ns = (o->poll_ms == 0 ? POLL_DEFAULT_MS : o->poll_ms) * CM_NS_PER_MS;
    cm_status rc = o->no_check ? CM_OK : dns_resolver_new(&ro, &s->resolver, err);
    if (rc != CM_OK) {
        free(s);
        return rc;
    }
    *ret = &s->base;
    return CM_OK;
}
