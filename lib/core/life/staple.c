/* SPDX-License-Identifier: Apache-2.0 */
#include "staple.h"

#include <stdio.h>
#include <string.h>

/* Looking after the staple of one certificate: memory first, then storage, then the responder, and
 * that once per fleet. What is good stays until its own end whatever happens; what is newer takes
 * its place; what says "revoked" ends it. A staple is only an offer to clients: nothing here may
 * hold up or end a handshake. */

#define RETRY_FIRST_S 60
#define RETRY_MAX_S   3600
#define REFRESH_MIN_S 10 /* between two fetches that both went well */
#define PEER_S        5  /* a peer is asking just now: its answer will be in storage */

struct tending {
    struct cm_config *cfg;
    const struct cm_op *op;
    struct cm_cert *cert;
    struct cm_stapling *s;
    struct cm_leaf *leaf;
    const char *url;
    struct cm_span leaf_der;
    struct cm_span issuer_der;
    int64_t now_s;
    bool may_fetch;
    bool wanted; /* the network, and it was not allowed */
};

static uint64_t below(const struct tending *t, int64_t n)
{
    return n > 0 ? cm_random_below(t->cfg->env, (uint64_t)n + 1) : 0;
}

static const char *name_of(const struct tending *t)
{
    return cm_cert_name_count(t->cert) > 0 ? cm_cert_name(t->cert, 0) : cm_cert_serial(t->cert);
}

/* ------------------------------------------------------------------- when next */

/* Half-way, as CertMagic has it, and up to a tenth later, so that one node of a fleet asks and the
 * others find its answer. */
static int64_t refresh_at(const struct tending *t, int64_t this_s, int64_t end_s)
{
    int64_t half = (end_s - this_s) / 2;

    return this_s + half + (int64_t)below(t, half / 10);
}

/* After an answer of the responder. It may hand out what is past its half already: then it is not
 * asked without pause, nor only once it is too late. */
static void after_answer(struct tending *t, int64_t this_s, int64_t end_s)
{
    int64_t at = refresh_at(t, this_s, end_s);

    if (at < t->now_s + REFRESH_MIN_S) {
        int64_t wait = (end_s - t->now_s) / 2;

        wait = wait > RETRY_MAX_S ? RETRY_MAX_S : wait < REFRESH_MIN_S ? REFRESH_MIN_S : wait;
        at = t->now_s + wait;
    }
    t->s->failures = 0;
    t->s->again_s = at;
}

/* The next try, but in time for the end of what there still is. */
static void again_in(struct tending *t, int64_t delay_s)
{
    int64_t end_s = t->s->now != NULL ? t->s->now->end_s : INT64_MAX;

    t->s->again_s = t->now_s + delay_s;
    if (t->s->again_s > end_s)
        t->s->again_s = end_s > t->now_s ? end_s : t->now_s + 1;
}

static cm_status failed(struct tending *t, cm_status rc, const struct cm_err *why)
{
    int64_t delay = RETRY_FIRST_S;

    if (t->s->failures < UINT32_MAX)
        t->s->failures++;
    for (unsigned i = 1; i < t->s->failures && delay < RETRY_MAX_S; i++)
        delay *= 2;
    if (delay > RETRY_MAX_S)
        delay = RETRY_MAX_S;
    again_in(t, delay + (int64_t)below(t, delay / 10));
    cm_count(t->cfg, CM_COUNT_STAPLE_FAILED);
    cm_logf(&t->cfg->log, t->s->failures == 1 ? CM_LOG_WARN : CM_LOG_DEBUG, "staple_failed", NULL,
            0, "OCSP of '%s', failure %u in a row: %s; %s", name_of(t), t->s->failures, why->msg,
            t->s->now != NULL ? "the staple there is stays in use until it ends" : "no staple");
    return rc;
}

/* --------------------------------------------------------------- what was learnt */

static cm_status take_good(struct tending *t, const struct cm_ocsp *o, struct cm_span der,
                           struct cm_err *err)
{
    struct cm_staple *staple = NULL;

    if (!o->alone)
        return cm_fail(err, CM_E_CERT, "the OCSP response speaks of other certificates too");
    if (der.len > CM_OCSP_STAPLE_MAX)
        return cm_fail(err, CM_E_LIMIT, "an OCSP response of %zu bytes, at most %u are stapled",
                       der.len, CM_OCSP_STAPLE_MAX);
    cm_status rc = cm_staple_new(der, o, &staple, err);
    if (rc != CM_OK)
        return rc;
    t->s->floor_s = o->this_update_s;
    t->s->revoked = (struct cm_revocation){ .revoked = false };
    cm_stapling_swap(t->s, staple);
    return CM_OK;
}

static void take_revoked(struct tending *t, const struct cm_ocsp *o)
{
    if (!t->s->revoked.revoked)
        cm_logf(&t->cfg->log, CM_LOG_WARN, "staple_revoked", NULL, 0,
                "OCSP says that the certificate for '%s' (serial %s) was revoked, reason %d",
                name_of(t), cm_cert_serial(t->cert), o->reason);
    t->s->floor_s = o->this_update_s;
    t->s->revoked = (struct cm_revocation){
        .revoked = true, .reason = o->reason, .at_s = o->revoked_at_s, .source = "ocsp"
    };
    cm_stapling_swap(t->s, NULL);
}

/* An answer that was verified. Whoever can replay an older one, from before the revocation, must
 * gain nothing: time goes forward only. */
static cm_status take(struct tending *t, const struct cm_ocsp *o, struct cm_span der,
                      struct cm_err *err)
{
    if (o->this_update_s < t->s->floor_s || (o->this_update_s == t->s->floor_s &&
                                             t->s->revoked.revoked && o->status != CM_OCSP_REVOKED))
        return cm_fail(err, CM_E_CERT, "the OCSP response is older than one that was seen before");
    switch (o->status) {
    case CM_OCSP_GOOD:
        return take_good(t, o, der, err);
    case CM_OCSP_REVOKED:
        take_revoked(t, o);
        return CM_OK;
    case CM_OCSP_UNKNOWN:
        break;
    }
    return cm_fail(err, CM_E_CERT, "the OCSP responder does not know the certificate");
}

/* Keep for the fleet and for the next start, or see to it that nobody finds it any more. It is in
 * use already whatever the storage says. */
static void keep(struct tending *t, struct cm_lease *lease, struct cm_span der)
{
    struct cm_err why = CM_ERR_INIT;
    const struct cm_span none = { NULL, 0 };

    for (size_t i = 0; i < CM_ARRAY_LEN(t->s->keys) && t->s->keys[i] != NULL; i++)
        cm_peers_writing(t->cfg, t->s->keys[i]);
    cm_status rc =
        cm_staple_store(t->cfg, t->op, lease, t->s, t->s->revoked.revoked ? none : der, &why);
    for (size_t i = 0; i < CM_ARRAY_LEN(t->s->keys) && t->s->keys[i] != NULL; i++)
        cm_peers_written(t->cfg, t->s->keys[i]);
    cm_health_note(t->cfg, rc, &why);
    if (rc != CM_OK)
        cm_logf(&t->cfg->log, CM_LOG_WARN, "staple_not_stored", NULL, 0,
                "staple of '%s': %s; it is used from memory", name_of(t), why.msg);
}

/* ---------------------------------------------------------------------- storage */

/* *@ret_fresh: somebody else has asked, and nothing is to be done for now. What is in use here
 * already is no news: its time to be refreshed has come, or it would not be looked for. */
static void from_storage(struct tending *t, bool *ret_fresh)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_OCSP_MAX);
    struct cm_err why = CM_ERR_INIT;
    struct cm_ocsp o;

    *ret_fresh = false;
    cm_status rc = cm_staple_keys(t->cfg, t->op, t->cert, t->leaf, t->s, &why);
    if (rc == CM_OK)
        rc = cm_staple_load(t->cfg, t->op, t->s, t->leaf_der, t->issuer_der, &der, &o, &why);
    if (rc == CM_OK && t->s->now != NULL && o.status == CM_OCSP_GOOD &&
        o.this_update_s == t->s->now->this_update_s)
        return;
    if (rc == CM_OK)
        rc = take(t, &o, cm_buf_span(&der), &why);
    if (rc != CM_OK) {
        cm_logf(&t->cfg->log, CM_LOG_DEBUG, "staple_not_loaded", NULL, 0, "staple of '%s': %s",
                name_of(t), why.msg);
        return;
    }
    cm_count(t->cfg, CM_COUNT_STAPLE_LOADED);
    if (t->s->revoked.revoked)
        keep(t, NULL, (struct cm_span){ NULL, 0 });
    int64_t at = refresh_at(t, o.this_update_s, o.end_s);
    if (at <= t->now_s)
        return;
    t->s->failures = 0;
    t->s->again_s = at;
    *ret_fresh = true;
}

/* -------------------------------------------------------------------- responder */

/* A host that failed for others: come back when it may be asked, not all at once. */
static cm_status spared(struct tending *t, int64_t wait_s, cm_status rc)
{
    again_in(t, wait_s + (int64_t)below(t, RETRY_FIRST_S));
    return rc;
}

static cm_status ask(struct tending *t, struct cm_lease *lease, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_OCSP_MAX);
    struct cm_err why = CM_ERR_INIT;
    struct cm_ocsp o;
    int64_t wait_s = 0;

    cm_status rc =
        cm_ocsp_ask(t->cfg, t->op, t->url, t->leaf_der, t->issuer_der, &der, &o, &wait_s, &why);
    if (wait_s > 0)
        rc = spared(t, wait_s, rc);
    else if (rc == CM_OK)
        rc = take(t, &o, cm_buf_span(&der), &why);
    if (wait_s == 0 && rc != CM_OK)
        rc = failed(t, rc, &why);
    if (rc != CM_OK) {
        if (err != NULL)
            *err = why;
        return rc;
    }
    cm_count(t->cfg, CM_COUNT_STAPLE_FETCHED);
    after_answer(t, o.this_update_s, o.end_s);
    keep(t, lease, cm_buf_span(&der));
    cm_logf(&t->cfg->log, CM_LOG_DEBUG, "staple_fetched", NULL, 0, "OCSP of '%s': %s, from '%s'",
            name_of(t), cm_ocsp_status_text(o.status), t->url);
    return CM_OK;
}

/* One of the fleet asks; who comes second looks into storage again a moment later. Storage that is
 * out of order keeps nobody from asking. */
static cm_status from_responder(struct tending *t, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;
    struct cm_err why = CM_ERR_INIT;
    bool fresh = false;

    int64_t wait_s = cm_responders_wait_s(t->cfg->responders, t->url);
    if (wait_s > 0)
        return spared(t, wait_s,
                      cm_fail(err, CM_E_AGAIN, "'%s' failed lately and is spared for %lld s",
                              t->url, (long long)wait_s));
    lo.try_only = true;
    lo.log = t->cfg->log;
    cm_status rc = CM_E_NOTFOUND;
    if (t->s->keys[0] != NULL) {
        /* "ocsp/<name>-<hash>" names the certificate for the whole fleet. */
        (void)snprintf(lock, sizeof lock, "ocsp_%s", t->s->keys[0] + strlen("ocsp/"));
        rc = cm_lease_acquire(t->cfg->storage, t->op, lock, &lo, &lease, &why);
    }
    if (rc == CM_E_BUSY) {
        again_in(t, PEER_S + (int64_t)below(t, PEER_S));
        return CM_OK;
    }
    if (rc == CM_OK)
        from_storage(t, &fresh);
    rc = fresh ? CM_OK : ask(t, lease, err);
    cm_lease_release(lease);
    return rc;
}

/* -------------------------------------------------------------------- beginning */

/* Is there anything to tend? Sets t->s and t->url if so. */
static cm_status find_responder(struct tending *t, struct cm_err *err)
{
    cm_status rc = cm_leaf_parse(t->leaf_der, &t->leaf, err);

    if (rc != CM_OK)
        return rc;
    t->url = cm_ocsp_responder(t->cfg, t->leaf->ocsp_url);
    if (t->leaf->self_issued || (t->url == NULL && !t->leaf->must_staple))
        return CM_OK;
    rc = cm_stapling_get(t->cert, &t->s, err);
    if (rc == CM_OK && t->url == NULL && !t->s->told) {
        t->s->told = true;
        cm_logf(&t->cfg->log, CM_LOG_WARN, "must_staple_without_responder", NULL, 0,
                "the certificate for '%s' asks for a staple, but there is no OCSP responder to get "
                "one from: clients that insist will refuse it",
                name_of(t));
    }
    return rc;
}

/* The issuer's certificate; where the chain has none it comes from where the leaf says. */
static cm_status find_issuer(struct tending *t, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    int64_t wait_s = 0;
    cm_status rc = CM_OK;

    if (cm_cert_chain_len(t->cert) > 1) {
        t->issuer_der = cm_cert_der(t->cert, 1);
        /* What is not its issuer would make everything in storage look wrong. */
        rc = cm_ocsp_check_issuer(t->leaf_der, t->issuer_der, &why);
    } else if (t->s->issuer.len == 0 && !t->may_fetch) {
        t->wanted = true;
    } else if (t->s->issuer.len == 0) {
        rc = cm_issuer_fetch(t->cfg, t->op, t->leaf_der, &t->s->issuer, &wait_s, &why);
    }
    if (rc == CM_OK && t->issuer_der.len == 0)
        t->issuer_der = cm_buf_span(&t->s->issuer);
    if (rc == CM_OK)
        return CM_OK;
    if (err != NULL)
        *err = why;
    return wait_s > 0 ? spared(t, wait_s, rc) : failed(t, rc, &why);
}

static void drop_expired(struct tending *t)
{
    if (t->s->now == NULL || t->s->now->end_s > t->now_s)
        return;
    cm_stapling_swap(t->s, NULL);
    cm_logf(&t->cfg->log, CM_LOG_WARN, "staple_expired", NULL, 0,
            "the staple of '%s' has ended and there is no newer one", name_of(t));
}

static cm_status tend(struct tending *t, struct cm_err *err)
{
    bool fresh = false;

    t->s->tended_s = t->now_s;
    cm_status rc = find_issuer(t, err);

    if (rc == CM_OK && !t->wanted)
        from_storage(t, &fresh);
    if (rc == CM_OK && !t->wanted && !fresh) {
        if (t->may_fetch)
            rc = from_responder(t, err);
        else
            t->wanted = true;
    }
    drop_expired(t);
    return rc;
}

cm_status cm_staple_tend(struct cm_config *cfg, const struct cm_op *op, struct cm_cert *cert,
                         bool may_fetch, int64_t *ret_again_s, struct cm_revocation *ret_revoked,
                         struct cm_err *err)
{
    struct tending t = { .cfg = cfg,
                         .op = op,
                         .cert = cert,
                         .s = cm_stapling_look(cert),
                         .leaf_der = cm_cert_der(cert, 0),
                         .now_s = cm_env_wall_s(cfg->env),
                         .may_fetch = may_fetch };
    cm_status rc = CM_OK;

    *ret_again_s = INT64_MAX;
    if (cfg->disable_ocsp || cfg->fetcher == NULL || cm_cert_is_challenge(cert) ||
        cert->not_after_s < t.now_s)
        return CM_OK;
    if (t.s == NULL || t.now_s >= t.s->again_s || t.now_s < t.s->tended_s) {
        rc = find_responder(&t, err);
        if (rc == CM_OK && t.url != NULL && t.s != NULL)
            rc = tend(&t, err);
        else if (rc == CM_OK)
            t.s = NULL;
        cm_leaf_free(t.leaf);
    }
    if (t.s != NULL) {
        *ret_again_s = t.wanted ? t.now_s : t.s->again_s;
        *ret_revoked = t.s->revoked;
    } else if (rc != CM_OK) {
        *ret_again_s = t.now_s + RETRY_MAX_S;
    }
    return rc;
}

void cm_staple_news(struct cm_config *cfg, const struct cm_op *op, struct cm_cert *cert,
                    int64_t *io_again_s, struct cm_revocation *ret_revoked)
{
    struct tending t = { .cfg = cfg,
                         .op = op,
                         .cert = cert,
                         .s = cm_stapling_look(cert),
                         .leaf_der = cm_cert_der(cert, 0),
                         .now_s = cm_env_wall_s(cfg->env) };
    bool fresh = false;

    /* One that was not looked after yet will be. */
    if (cfg->disable_ocsp || t.s == NULL || t.s->keys[0] == NULL)
        return;
    t.issuer_der = cm_cert_chain_len(cert) > 1 ? cm_cert_der(cert, 1) : cm_buf_span(&t.s->issuer);
    if (t.issuer_der.len == 0)
        return;
    from_storage(&t, &fresh);
    if (fresh)
        *io_again_s = t.s->again_s;
    if (t.s->revoked.revoked)
        *ret_revoked = t.s->revoked;
}
