/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

/* Looking after what is served. Each time one of the things it waits for is due, a name is tended:
 * first with what memory and storage hold, then, if that does not do, with the network. The end of
 * it says when the next thing is due; so what is idle costs nothing. */

#define FEW_NAMES          100u
#define SPREAD_MS_PER_NAME 10
#define SPREAD_MAX_MS      (600 * INT64_C(1000))
#define JITTER_MAX_S       3600
#define NOT_AT_ONCE_S      60 /* what was fetched just now is not fetched again before */
#define IDLE_S             (24 * 3600)
#define UNSERVED_S         60
#define UNREADABLE_S       600 /* storage says nothing of what is not in the cache */
#define STUMBLE_S          10  /* not even begun, for want of memory or descriptors */
#define PROVISIONAL_S      30  /* until storage is asked again, for what it did not tell */
#define BACK_S             30  /* clocks that go back by less are merely disciplined */

uint64_t cm_managed_leaf(const struct cm_cert *cert)
{
    const char *serial = cm_cert_serial(cert);

    return cm_fnv1a64(CM_FNV1A64, serial, strlen(serial));
}

struct cm_cert *cm_managed_cert(struct cm_managed *m)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    struct cm_cert *best = NULL;
    const char *host = cm_managed_host(m);
    size_t n = cm_cache_find(m->cfg->cache, host, strlen(host), certs);

    for (size_t i = 0; i < n; i++) {
        bool better = cm_managed_is_for(m, certs[i]) &&
                      (best == NULL || certs[i]->not_before_s > best->not_before_s);

        if (better) {
            cm_cert_unref(best);
            best = certs[i];
        } else {
            cm_cert_unref(certs[i]);
        }
    }
    return best;
}

static int64_t spread_ms(const struct cm_managed *m)
{
    struct cm_names *t = m->cfg->names;

    cm_mutex_lock(&t->lock);
    size_t n = t->n;
    cm_mutex_unlock(&t->lock);
    if (n <= FEW_NAMES)
        return 0;
    int64_t range =
        n > SPREAD_MAX_MS / SPREAD_MS_PER_NAME ? SPREAD_MAX_MS : (int64_t)n * SPREAD_MS_PER_NAME;
    return (int64_t)cm_random_below(m->cfg->env, (uint64_t)range + 1);
}

void cm_tend_begin(struct cm_managed *m, const struct cm_cert *cert)
{
    struct cm_life *life = cm_managed_life(m);

    if (life == NULL)
        return; /* then it is looked after as soon as there is memory */
    memset(life, 0, sizeof *life);
    life->tended_s = cm_env_wall_s(m->cfg->env);
    life->leaf = cm_managed_leaf(cert);
}

/* ---- one after the other ---- */

/* A peer may have renewed it. What storage does not say now is asked again. */
static void reload(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                   struct cm_cert **cert)
{
    struct cm_cert *stored = NULL;

    cm_status rc = cm_store_load(m->cfg, op, s, CM_LOAD_VALID, &stored, NULL);
    m->look = rc != CM_OK && rc != CM_E_NOTFOUND;
    /* Storage has spoken: if it has nothing newer, what is served is confirmed. */
    if (!m->look)
        m->provisional = false;
    if (rc != CM_OK)
        return;
    if (!cm_cert_same_leaf(stored, *cert) && stored->not_before_s >= (*cert)->not_before_s &&
        cm_managed_serve(m, stored, NULL) == CM_OK) {
        cm_recheck(m);
        cm_tend_begin(m, stored);
        cm_count(m->cfg, CM_COUNT_RELOADED);
        cm_logf(&m->cfg->log, CM_LOG_INFO, "certificate_reloaded", NULL, 0,
                "'%s' was renewed by a peer; it is served now (serial %s)", m->name,
                cm_cert_serial(stored));
        cm_cert_unref(*cert);
        *cert = stored;
    } else {
        cm_cert_unref(stored);
    }
}

static void tell_schedule(struct cm_managed *m, struct cm_cert *cert, const struct cm_when *w)
{
    struct cm_event ev = { .type = CM_EVENT_CERT_RENEW_SCHEDULED,
                           .identifier = m->name,
                           .cert = cert,
                           .at_s = w->renew_at_s,
                           .source = cm_renew_rule_text(w->rule) };

    if (m->life->told_s == w->renew_at_s)
        return;
    m->life->told_s = w->renew_at_s;
    (void)!cm_emit(m->cfg, &ev, NULL);
}

/* The one or the other; true if it wants the network now. */
static bool tend_revocation(struct cm_managed *m, struct cm_cert *cert, const struct cm_op *op,
                            bool may_fetch, int64_t now_s)
{
    struct cm_life *life = m->life;

    if (life->staple_s <= now_s)
        (void)!cm_staple_tend(m->cfg, op, cert, may_fetch, &life->staple_s, &life->revoked, NULL);
    if (life->crl_s <= now_s)
        (void)!cm_crl_tend(m->cfg, op, cert, may_fetch, &life->crl_s, &life->revoked, NULL);
    return life->staple_s <= now_s || life->crl_s <= now_s;
}

static bool stands_in_line(struct cm_managed *m)
{
    cm_mutex_lock(&m->cfg->names->lock);
    bool lined = m->lined;
    cm_mutex_unlock(&m->cfg->names->lock);
    return lined;
}

/* Revoked, and nobody here may order another. Perhaps storage has one. */
static void stop_loaded(struct cm_managed *m, const struct cm_subject *s, struct cm_cert *cert,
                        struct cm_outcome *o)
{
    struct cm_err why = CM_ERR_INIT;

    (void)cm_fail(&why, CM_E_STATE, "nothing is ordered for what is only loaded");
    cm_revoked_stop(m->cfg, s, cert, &m->life->revoked, &why);
    o->served = false;
    o->next = CM_STAGE_LOAD;
    o->go_on = true;
}

static void decide(struct cm_managed *m, const struct cm_subject *s, struct cm_cert *cert,
                   bool wants_network, int64_t now_s, struct cm_outcome *o)
{
    struct cm_life *life = m->life;
    struct cm_when w;

    cm_when_for(m->cfg, cert, &life->ari, &w);
    if (!m->load_only)
        tell_schedule(m, cert, &w);
    (void)cm_emit_expiring(m->cfg, m->name, cert, now_s, &life->tier);
    o->urgency_s = cert->not_after_s;
    o->urgent = now_s >= w.urgent_at_s;
    bool may_ask = now_s >= life->next_try_s && !stands_in_line(m) && !m->load_only;
    if (life->revoked.revoked && m->load_only) {
        stop_loaded(m, s, cert, o);
    } else if (life->revoked.revoked && may_ask) {
        o->next = CM_STAGE_REPLACE;
        o->urgency_s = cm_revoked_urgency_s(&life->revoked, cert, now_s);
        o->go_on = true;
    } else if (wants_network) {
        o->next = CM_STAGE_FETCH;
        o->go_on = true;
    } else if (now_s >= w.renew_at_s && may_ask) {
        o->next = CM_STAGE_RENEW;
        o->go_on = true;
    }
}

/* Full caches give certificates up. Whether one is due can be seen in storage, as whoever does the
 * job will see it, or there would be a job in vain each minute; it comes back when a
 * handshake asks for it, or with its successor. */
static void tend_evicted(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                         struct cm_outcome *o)
{
    int64_t now_s = cm_env_wall_s(m->cfg->env);
    struct cm_cert *cert = NULL;
    struct cm_ari ari;
    struct cm_when w;

    cm_status rc = cm_store_load(m->cfg, op, s, CM_LOAD_VALID, &cert, NULL);
    o->go_on =
        !stands_in_line(m) && !m->load_only && (m->life == NULL || now_s >= m->life->next_try_s);
    if (rc == CM_OK) {
        cm_ari_stored(m->cfg, op, s, cert, &ari);
        cm_when_for(m->cfg, cert, &ari, &w);
        o->next = CM_STAGE_RENEW;
        o->urgency_s = cert->not_after_s;
        o->due_s = w.renew_at_s;
        o->go_on = o->go_on && now_s >= w.renew_at_s;
        cm_cert_unref(cert);
    } else {
        o->next = CM_STAGE_OBTAIN;
        o->go_on = o->go_on && rc == CM_E_NOTFOUND;
        if (rc != CM_E_NOTFOUND || m->load_only)
            o->due_s = now_s + UNREADABLE_S;
    }
}

/* What was put off while the clock was ahead would come so much later now: as if nothing had been
 * asked yet. That goes for the fleet's memory of failures, too, which is asked before any CA. */
static void note_clock(struct cm_life *life, int64_t now_s)
{
    bool back = now_s < life->tended_s - BACK_S;

    life->tended_s = now_s;
    if (!back)
        return;
    life->staple_s = life->ari_s = life->crl_s = 0;
    if (life->next_try_s != INT64_MAX)
        life->next_try_s = 0;
}

/* Elsewhere an attempt failed, or what was known of failures was forgotten. */
static void reread_failures(struct cm_managed *m, const struct cm_subject *s,
                            const struct cm_op *op)
{
    struct cm_life *life = m->life;
    struct cm_retry r;

    cm_status rc = cm_retry_load(m->cfg, op, s->dir, &r, NULL);
    if (rc == CM_OK) {
        life->attempts = r.attempts;
        life->next_try_s = r.next_s;
    } else if (rc == CM_E_NOTFOUND && life->attempts > 0) {
        life->attempts = 0;
        life->next_try_s = 0;
    }
}

void cm_tend_stage(struct cm_managed *m, const struct cm_subject *s, const struct cm_op *op,
                   bool may_fetch, struct cm_outcome *o)
{
    struct cm_config *cfg = m->cfg;
    struct cm_cert *cert = cm_managed_cert(m);
    int64_t now_s = cm_env_wall_s(cfg->env);
    struct cm_life *life = cm_managed_life(m);
    uint8_t news = may_fetch ? 0 : cm_managed_take_news(m);
    struct cm_when w;

    if (life != NULL)
        note_clock(life, now_s);
    if (cert == NULL) {
        tend_evicted(m, s, op, o);
        return;
    }
    if (life == NULL) {
        cm_cert_unref(cert);
        return;
    }
    o->served = true;
    if (life->leaf != cm_managed_leaf(cert))
        cm_tend_begin(m, cert);
    cm_when_for(cfg, cert, &life->ari, &w);
    bool look = m->look || m->provisional || (news & CM_NEWS_CERT) != 0;
    if (!may_fetch && (look || now_s >= w.renew_at_s))
        reload(m, s, op, &cert);
    if ((news & CM_NEWS_RETRY) != 0)
        reread_failures(m, s, op);
    if ((news & CM_NEWS_CRL) != 0 && life->crl_s != INT64_MAX)
        life->crl_s = now_s;
    if ((news & CM_NEWS_STAPLE) != 0)
        cm_staple_news(cfg, op, cert, &life->staple_s, &life->revoked);
    if (life->ari_s <= now_s &&
        cm_ari_tend(cfg, op, s, cert, may_fetch, &life->ari, &life->ari_s, NULL) == CM_E_EXISTS)
        reload(m, s, op, &cert);
    bool wants = life->ari_s <= now_s;
    wants = tend_revocation(m, cert, op, may_fetch, now_s) || wants;
    decide(m, s, cert, wants && !may_fetch, now_s, o);
    cm_cert_unref(cert);
}

/* ---- when again ---- */

static void earlier(int64_t *at, int64_t than)
{
    if (than < *at)
        *at = than;
}

/* So that a fleet, and the names of one node, do not all come at the same second. A suggested time
 * was chosen by chance already. */
static int64_t jitter_s(const struct cm_managed *m, const struct cm_cert *cert,
                        const struct cm_when *w)
{
    int64_t range = (cert->not_after_s - cert->not_before_s) / 200;

    if (w->rule == CM_RULE_ARI)
        return 0;
    return (int64_t)cm_random_below(m->cfg->env,
                                    (uint64_t)(range > JITTER_MAX_S ? JITTER_MAX_S : range) + 1);
}

/* Somebody else renews it: how soon to look whether he has. */
static int64_t successor_s(const struct cm_cert *cert, int64_t now_s)
{
    int64_t left_s = cert->not_after_s > now_s ? cert->not_after_s - now_s : CM_LOAD_AGAIN_S;

    return left_s / 10 < CM_LOAD_AGAIN_S ? left_s / 10 + 1 : CM_LOAD_AGAIN_S;
}

/* @lined: its turn to be renewed comes without the clock. */
static int64_t next_of_served(struct cm_managed *m, const struct cm_cert *cert, bool lined,
                              int64_t now_s)
{
    struct cm_life *life = m->life;
    int64_t *const tended[] = { &life->staple_s, &life->ari_s, &life->crl_s };
    int64_t at = INT64_MAX;
    struct cm_when w;

    for (size_t i = 0; i < CM_ARRAY_LEN(tended); i++) {
        if (m->stage == CM_STAGE_FETCH && *tended[i] <= now_s)
            *tended[i] = now_s + NOT_AT_ONCE_S;
        earlier(&at, *tended[i]);
    }
    cm_when_for(m->cfg, cert, &life->ari, &w);
    earlier(&at, cm_when_next_tier_s(cert, &w, now_s));
    if (m->provisional || m->look) {
        int64_t again_s = now_s + PROVISIONAL_S + spread_ms(m) / 1000;

        at = at <= now_s || at > again_s ? again_s : at;
    }
    if (lined)
        return at <= now_s ? now_s + NOT_AT_ONCE_S : at;
    if (m->load_only && w.renew_at_s <= now_s)
        earlier(&at, now_s + successor_s(cert, now_s));
    else if (life->revoked.revoked || w.renew_at_s <= now_s)
        earlier(&at, life->next_try_s);
    else
        earlier(&at, w.renew_at_s + jitter_s(m, cert, &w));
    return at;
}

/* Nobody wants it any more, or maintenance is over. Anything else that says "canceled", a program's
 * veto say, is a failure like others. */
static bool is_given_up(struct cm_managed *m, const struct cm_outcome *o)
{
    struct cm_names *t = m->cfg->names;

    if (o->rc != CM_E_CANCELED)
        return false;
    cm_mutex_lock(&t->lock);
    bool given_up = t->stopped || !m->background;
    cm_mutex_unlock(&t->lock);
    return given_up;
}

int64_t cm_tend_next_ms(struct cm_managed *m, const struct cm_outcome *o)
{
    int64_t now_ms = cm_wall_ms(m->cfg->env), now_s = cm_env_wall_s(m->cfg->env);
    struct cm_cert *cert = cm_managed_cert(m);
    struct cm_life *life = m->life;
    bool lined = stands_in_line(m) || (o->go_on && o->rc == CM_OK);
    int64_t at;

    if (is_given_up(m, o)) {
        at = INT64_MAX;
    } else if (m->ondemand && cert == NULL && o->rc != CM_OK) {
        at = INT64_MAX; /* the next client that asks for it may bring another attempt */
    } else if (cert != NULL && life != NULL) {
        at = next_of_served(m, cert, lined, now_s);
    } else if (life != NULL && life->next_try_s > now_s) {
        at = life->next_try_s;
    } else if (o->due_s != 0) {
        at = o->due_s > now_s ? o->due_s : now_s + UNSERVED_S;
    } else {
        at = now_s + (cert == NULL && o->rc == CM_OK ? IDLE_S : UNSERVED_S);
    }
    cm_cert_unref(cert);
    if (o->rc != CM_OK && at < now_s + STUMBLE_S)
        at = now_s + STUMBLE_S;
    if (at == INT64_MAX)
        return INT64_MAX;
    int64_t at_ms = cm_ms_of(at);
    if (at_ms <= now_ms)
        at_ms = now_ms + spread_ms(m);
    return at_ms;
}
