/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include "dns01.h"
#include "dns_persist.h"

#include <stdio.h>
#include <string.h>

/* From a pending order to a ready one.
 *
 * Few requests: each authorization is fetched once (its challenge carries the token), each
 * challenge accepted once, and then only the order is polled, whatever the number of names. All
 * answers are put up before the first is waited for: what takes long (DNS) takes that once. */

static const char *const type_names[ACME_CHALLENGE_TYPES] = {
    [ACME_HTTP01] = "http-01",         [ACME_TLSALPN01] = "tls-alpn-01",
    [ACME_DNS01] = "dns-01",           [ACME_DNSACCOUNT01] = "dns-account-01",
    [ACME_DNSPERSIST01] = DNS_PERSIST,
};

#define SETTLE_RESERVE_NS (2 * CM_NS_PER_S) /* of the clean-up's time, kept for deactivating */

struct presented {
    struct cm_solver *solver;
    void *state;
    const char *type;
    char *url;
    char *ident;
    size_t authz;
};

struct round {
    struct acme_issuer *ai;
    const struct cm_acme_signer *who;
    const struct cm_issue_request *req;
    struct presented done[CM_ACME_IDENTS_MAX];
    size_t n_done;
    enum acme_challenge_type type;
    bool accepted[CM_ACME_IDENTS_MAX]; /* by authorization: the CA was told to look */
};

static const struct cm_acme_challenge *find_challenge(const struct cm_acme_authz *z,
                                                      const char *type)
{
    for (size_t i = 0; i < z->n_challenges; i++)
        if (strcmp(z->challenges[i].type, type) == 0 &&
            (z->challenges[i].token[0] != '\0' || strcmp(type, DNS_PERSIST) == 0))
            return &z->challenges[i];
    return NULL;
}

static void list_offered(const struct cm_acme_authz *z, char *out, size_t size)
{
    size_t used = 0;
    (void)snprintf(out, size, "%s", "nothing usable");
    for (size_t i = 0; i < z->n_challenges && used < size; i++) {
        int n =
            snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", z->challenges[i].type);
        if (n < 0)
            return;
        used += (size_t)n;
    }
}

static struct cm_solver *solver_for(const struct acme_issuer *ai, enum acme_challenge_type type)
{
    if (type == ACME_DNSPERSIST01)
        return ai->persist_solver;
    return ((1u << type) & ACME_DNS_PROVIDED) != 0 ? ai->dns_solver : ai->solver;
}

static bool is_able(const struct acme_issuer *ai, enum acme_challenge_type type,
                    const struct cm_acme_authz *z)
{
    struct cm_solver *sv = solver_for(ai, type);

    return sv != NULL &&
           cm_solver_can(sv, type_names[type], z->is_ip ? CM_IDENT_IP : CM_IDENT_DNS, z->wildcard);
}

/* The type whose turn it is, or where that cannot do it (a wildcard, an address) another one. */
static enum acme_challenge_type type_for(const struct round *r, const struct cm_acme_authz *z)
{
    unsigned enabled = r->ai->challenges | (z->is_ip ? r->ai->challenges_ip : 0);

    for (unsigned t = 0; !is_able(r->ai, r->type, z) && t < ACME_CHALLENGE_TYPES; t++)
        if ((enabled & (1u << t)) != 0 && is_able(r->ai, (enum acme_challenge_type)t, z))
            return (enum acme_challenge_type)t;
    return r->type;
}

static cm_status present(struct round *r, const struct cm_op *op, const struct cm_acme_authz *z,
                         size_t i, struct cm_err *err)
{
    const enum acme_challenge_type kind = type_for(r, z);
    const char *type = type_names[kind];
    const struct cm_acme_challenge *ch = find_challenge(z, type);
    if (ch == NULL) {
        char offered[200];
        list_offered(z, offered, sizeof offered);
        return cm_fail(err, CM_E_NOTFOUND, "%s: the CA offers no %s challenge (it offers: %s)",
                       z->ident, type, offered);
    }
    if (!is_able(r->ai, kind, z))
        return cm_fail(err, CM_E_UNSUPPORTED, "%s: this solver cannot answer %s%s", z->ident, type,
                       z->wildcard ? " for a wildcard" : "");
    CM_AUTO_BUF struct cm_buf ka = CM_BUF_INIT(512);
    cm_status rc = CM_OK;
    if (kind != ACME_DNSPERSIST01) /* has no token: the record names the account itself */
        rc = cm_acme_key_authorization(ch->token, r->who->key, &ka, err);
    if (rc != CM_OK)
        return rc;

    const struct dns01_challenge own = {
        .pub = { .type = type,
                 .url = ch->url,
                 .token = kind == ACME_DNSPERSIST01 ? DNS_PERSIST : ch->token,
                 .key_authorization = cm_buf_str(&ka),
                 .ident_type = z->is_ip ? CM_IDENT_IP : CM_IDENT_DNS,
                 .ident = z->ident,
                 .prefix = r->ai->prefix },
        .account = r->who->kid,
        .issuers = ch->issuers,
        .wildcard = z->wildcard,
    };
    struct presented p = { .solver = solver_for(r->ai, kind),
                           .type = type,
                           .url = cm_strdup(ch->url),
                           .ident = cm_strdup(z->ident),
                           .authz = i };
    if (p.url == NULL || p.ident == NULL)
        rc = cm_fail_nomem(err);
    else
        rc = cm_solver_present(p.solver, op, &own.pub, &p.state, err);
    if (rc == CM_OK) {
        r->done[r->n_done++] = p;
        return rc;
    }
    free(p.url);
    free(p.ident);
    return cm_wrap(err, rc, "%s: present %s", z->ident, type);
}

/* The answers are up: when they can be seen, the CA may look. */
static cm_status tell(struct round *r, const struct cm_op *op, struct cm_err *err)
{
    for (size_t i = 0; i < r->n_done; i++) {
        const struct presented *p = &r->done[i];
        cm_status rc = cm_solver_wait(p->solver, op, p->state, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "%s: %s", p->ident, p->type);
    }
    for (size_t i = 0; i < r->n_done; i++) {
        const struct presented *p = &r->done[i];
        cm_status rc = cm_acme_challenge_accept(r->ai->client, op, r->who, p->url, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "%s: %s", p->ident, p->type);
        r->accepted[p->authz] = true;
    }
    return CM_OK;
}

/* Is the authorization for a name of the order, or for a domain that one is in? A CA may ask for
 * that instead, as RFC 8555 7.1.3 leaves to it what has to be proved; but an answer for any other
 * name helps somebody else only. */
static bool is_asked_for(const struct round *r, const struct cm_acme_authz *z)
{
    size_t len = strlen(z->ident);
    for (size_t i = 0; i < r->req->n_names; i++) {
        const char *name = r->req->names[i];
        size_t name_len = strlen(name);
        if (strcmp(name, z->ident) == 0)
            return true;
        if (!z->is_ip && name_len > len && name[name_len - len - 1] == '.' &&
            strcmp(name + name_len - len, z->ident) == 0)
            return true;
    }
    return false;
}

static cm_status open_authz(struct round *r, const struct cm_op *op, const char *url, size_t i,
                            struct cm_err *err)
{
    struct cm_acme_authz z = { 0 };
    cm_status rc = cm_acme_authz_get(r->ai->client, op, r->who, url, &z, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "fetch authorization");
    if (!is_asked_for(r, &z)) {
        rc = cm_fail(err, CM_E_ACME,
                     "the CA's order has an authorization for '%s', which was not asked for",
                     z.ident);
        cm_acme_authz_free(&z);
        return rc;
    }
    switch (z.status) {
    case CM_ACME_VALID:
        break;
    case CM_ACME_PENDING:
    case CM_ACME_PROCESSING:
        rc = present(r, op, &z, i, err);
        break;
    case CM_ACME_UNKNOWN:
    case CM_ACME_READY:
    case CM_ACME_INVALID:
    case CM_ACME_DEACTIVATED:
    case CM_ACME_REVOKED:
    case CM_ACME_EXPIRED:
        rc = cm_fail(err, CM_E_ACME, "%s: authorization is %s", z.ident,
                     cm_acme_status_text(z.status));
        break;
    }
    cm_acme_authz_free(&z);
    return rc;
}

static void take_back(struct round *r, const struct cm_op *op)
{
    const struct cm_op cleanup = issuer_cleanup_op(op);
    while (r->n_done > 0) {
        struct presented *p = &r->done[--r->n_done];
        cm_solver_cleanup(p->solver, &cleanup, p->state);
        free(p->url);
        free(p->ident);
    }
}

static void take_reason(const struct cm_acme_authz *z, struct cm_err *err)
{
    for (size_t i = 0; err != NULL && i < z->n_challenges; i++) {
        const struct cm_acme_challenge *ch = &z->challenges[i];
        if (ch->error.type[0] == '\0')
            continue;
        (void)cm_fail(err, CM_E_ACME, "%s: %s failed: %s", z->ident, ch->type, ch->error.detail);
        (void)snprintf(err->problem, sizeof err->problem, "%s", ch->error.type);
        err->http_status = ch->error.status;
        return;
    }
}

/* Fetch an authorization for the post-mortem. One that the CA is validating at this moment ends by
 * itself: deactivating it in the middle helps nobody (and has wedged a CA), so give it a little. */
static cm_status fetch_settled(struct round *r, const struct cm_op *op, const char *url,
                               bool accepted, struct cm_acme_authz *z)
{
    int64_t pause_ns = 20 * CM_NS_PER_MS;
    for (;;) {
        cm_status rc = cm_acme_authz_get(r->ai->client, op, r->who, url, z, NULL);
        if (rc != CM_OK || !accepted || z->status != CM_ACME_PENDING ||
            cm_op_remaining_ns(op, INT64_MAX) - pause_ns < SETTLE_RESERVE_NS ||
            cm_op_wait(op, pause_ns, NULL) != CM_OK)
            return rc;
        cm_acme_authz_free(z);
        memset(z, 0, sizeof *z);
        pause_ns *= 2;
    }
}

static void deactivate(struct round *r, const struct cm_op *op, const char *url, const char *ident)
{
    if (cm_acme_authz_deactivate(r->ai->client, op, r->who, url, NULL) == CM_OK)
        return;
    const struct cm_log_field f[] = { { "identifier", ident } };
    cm_logf(&r->ai->host.log, CM_LOG_WARN, "authz_left_pending", f, CM_ARRAY_LEN(f),
            "%s: could not deactivate its authorization; it expires at the CA", ident);
}

/* After a failure: why, from the authorization that failed, and leave none pending at the CA (they
 * count against a limit). Best effort: the order has failed in any case. */
static void post_mortem(struct round *r, const struct cm_op *op, const struct cm_acme_order *o,
                        cm_status failed, struct cm_err *err)
{
    const struct cm_op cleanup = issuer_cleanup_op(op);
    bool reason_known = failed != CM_E_ACME;

    for (size_t i = 0; i < o->n_authz && i < CM_ACME_IDENTS_MAX; i++) {
        struct cm_acme_authz z = { 0 };
        if (fetch_settled(r, &cleanup, o->authz[i], r->accepted[i], &z) != CM_OK)
            continue;
        if (z.status == CM_ACME_PENDING) {
            deactivate(r, &cleanup, o->authz[i], z.ident);
        } else if (z.status == CM_ACME_INVALID && !reason_known) {
            take_reason(&z, err);
            reason_known = true;
        }
        cm_acme_authz_free(&z);
    }
}

/* Failures that say nothing of the order: it is journalled, and whoever comes next (perhaps a peer
 * that has our lock by now) goes on with it. Its authorizations must not be touched. */
static bool is_resumable(cm_status rc)
{
    static const cm_status codes[] = { CM_E_CANCELED, CM_E_TIMEOUT,     CM_E_LOCK_LOST,
                                       CM_E_NET,      CM_E_TLS,         CM_E_AGAIN,
                                       CM_E_NOMEM,    CM_E_RATELIMITED, CM_E_IO };
    for (size_t i = 0; i < CM_ARRAY_LEN(codes); i++)
        if (rc == codes[i])
            return true;
    return false;
}

cm_status acme_validate(struct acme_issuer *ai, const struct cm_op *op,
                        const struct cm_acme_signer *who, const struct cm_issue_request *req,
                        struct cm_acme_order *o, enum acme_challenge_type type, struct cm_err *err)
{
    struct round *r = cm_calloc(1, sizeof *r);
    if (r == NULL)
        return cm_fail_nomem(err);
    r->ai = ai;
    r->who = who;
    r->req = req;
    r->type = type;

    cm_status rc = CM_OK;
    for (size_t i = 0; rc == CM_OK && i < o->n_authz && i < CM_ACME_IDENTS_MAX; i++)
        rc = open_authz(r, op, o->authz[i], i, err);
    if (rc == CM_OK)
        rc = tell(r, op, err);
    if (rc == CM_OK)
        rc = cm_acme_order_wait(ai->client, op, who, o, true, err);
    /* One name failed the order, but the CA may still be asking for others: an answer taken back
     * before that would fail those as well, and hide the reason. */
    if (rc != CM_OK && !is_resumable(rc))
        post_mortem(r, op, o, rc, err);
    take_back(r, op);
    free(r);
    return rc;
}
