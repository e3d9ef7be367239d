/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <stdio.h>
#include <string.h>

/* Source: RFC 9773. When a CA suggests to renew a certificate, asked for once in the fleet and kept
 * in its metadata.
 *
 *   memory - storage: has a peer asked? - the pace - lock ari_<id>, storage again - the CA -
 *   a time of the window - storage
 *
 * A window belongs to one certificate, by its id: that of another one is as good as none. Within it
 * one moment is chosen and kept for as long as the CA's window is the same; so a fleet agrees, and
 * all certificates of a CA together are spread. */

#define DAY_S 86400
#define KEPT_MAX_S                                                                                 \
    (DAY_S + DAY_S / 8)                 /* further off than any answer is told to be kept: a clock \
                                           was set, or a peer's is wrong */
#define ASK_MAX_NS   (60 * CM_NS_PER_S) /* one question */
#define STEP_NS      (CM_NS_PER_S / 10) /* ten questions a second for each issuer, ... */
#define BURST_NS     CM_NS_PER_S        /* ... ten of them at once */
#define SILENCE_NS   (60 * CM_NS_PER_S) /* after a failure that is the CA's */
#define SUPERSEDED_S 60                 /* that one will be served by then */
#define LEARN_S                                                                                    \
    (7 * DAY_S) /* until a certificate of a CA that makes no suggestions is                        \
                   looked at again: it may learn */

/* After the n-th failure in a row; then daily. */
static const int64_t pauses_s[] = { 60, 600, 6000, DAY_S };

struct question {
    struct cm_config *cfg;
    const struct cm_op *op;
    const struct cm_subject *subject;
    const struct cm_cert *cert;
    struct cm_issuer *issuer;
    struct cm_ari_pace *pace;
    struct cm_ari *io;
    char id[128];
    char explanation_url[256];
    int64_t now_s;
    bool superseded;
};

/* ------------------------------------------------------------- what is known */

static bool id_of(const struct cm_cert *cert, char ret[128])
{
    struct cm_leaf *leaf = NULL;

    if (cm_leaf_parse(cm_cert_der(cert, 0), &leaf, NULL) != CM_OK)
        return false;
    memcpy(ret, leaf->ari_id, sizeof leaf->ari_id);
    cm_leaf_free(leaf);
    return ret[0] != '\0';
}

static int64_t floor_s(int64_t ns)
{
    return ns / CM_NS_PER_S - (ns % CM_NS_PER_S < 0);
}

static bool from_meta(const struct cm_meta_ari *m, const char *id, struct cm_ari *ret)
{
    /* Unset times are before all others. */
    if (!m->present || strcmp(m->unique_id, id) != 0 || m->window_start_ns == CM_TIME_UNSET ||
        m->window_start_ns >= m->window_end_ns || m->selected_ns < m->window_start_ns ||
        m->selected_ns >= m->window_end_ns)
        return false;
    *ret = (struct cm_ari){ .start_s = floor_s(m->window_start_ns),
                            .end_s = floor_s(m->window_end_ns - 1) + 1,
                            .selected_s = floor_s(m->selected_ns) };
    if (m->retry_after_ns != CM_TIME_UNSET)
        ret->again_s = floor_s(m->retry_after_ns);
    return true;
}

bool cm_ari_from_meta(const struct cm_meta *m, const struct cm_cert *cert, struct cm_ari *ret)
{
    char id[128];

    return m->ari.present && id_of(cert, id) && from_meta(&m->ari, id, ret);
}

static bool is_fresh(const struct cm_ari *a, int64_t now_s)
{
    return a->again_s > now_s && a->again_s - now_s <= KEPT_MAX_S;
}

/* Metadata that speaks of another certificate: has a peer put that into the place of ours? It may
 * also be a peer's slip. */
static bool is_superseded(const struct question *q, const struct cm_meta_ari *m)
{
    bool current = true;

    return m->present && m->unique_id[0] != '\0' && strcmp(m->unique_id, q->id) != 0 &&
           cm_ari_is_stored(q->cfg, q->op, q->subject, q->cert, &current, NULL) == CM_OK &&
           !current;
}

/* Does storage know more than we do? Then *q->io is that. True if the CA need not be asked. */
static bool look(struct question *q)
{
    struct cm_meta m;
    struct cm_ari stored;

    if (cm_meta_load(q->cfg, q->op, cm_cert_issuer_key(q->cert), q->subject->dir, &m, NULL) !=
        CM_OK)
        return false;
    bool known = from_meta(&m.ari, q->id, &stored);
    q->superseded = !known && is_superseded(q, &m.ari);
    cm_meta_free(&m);
    if (q->superseded)
        return true;
    if (!known || stored.again_s < q->io->again_s)
        return false;
    stored.failures = q->io->failures;
    *q->io = stored;
    if (!is_fresh(&stored, q->now_s))
        return false;
    q->io->failures = 0;
    return true;
}

/* ------------------------------------------------------------------ the pace */

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* 0: ask now. Else how long to wait: everyone who is told gets another moment, so that a hundred
 * thousand certificates do not come back all at once. */
static int64_t take_place_ns(struct cm_ari_pace *p, int64_t now_ns)
{
    int64_t free_ns = atomic_load(&p->free_ns);
    int64_t last_ns = atomic_load(&p->promised_ns);
    int64_t next_ns;

    while (later(free_ns, now_ns) - now_ns <= BURST_NS - STEP_NS)
        if (atomic_compare_exchange_weak(&p->free_ns, &free_ns, later(free_ns, now_ns) + STEP_NS))
            return 0;
    do
        next_ns = later(last_ns, now_ns + CM_NS_PER_S) + STEP_NS;
    while (!atomic_compare_exchange_weak(&p->promised_ns, &last_ns, next_ns));
    return next_ns - now_ns;
}

static int64_t jitter_s(const struct question *q, int64_t below)
{
    return (int64_t)cm_random_below(q->cfg->env, (uint64_t)(below > 0 ? below : 1));
}

static void postpone(struct question *q, int64_t wait_ns, int64_t spread_s)
{
    q->io->again_s =
        q->now_s + (wait_ns + CM_NS_PER_S - 1) / CM_NS_PER_S + jitter_s(q, spread_s + 1);
}

/* True if it is not our turn; then it is said when. */
static bool must_wait(struct question *q)
{
    int64_t now_ns = q->cfg->env->mono_ns(q->cfg->env);
    int64_t silent_ns = atomic_load(&q->pace->silent_ns) - now_ns;

    if (silent_ns > 0) {
        postpone(q, silent_ns, 30);
        return true;
    }
    int64_t wait_ns = take_place_ns(q->pace, now_ns);
    if (wait_ns > 0)
        postpone(q, wait_ns, 1);
    return wait_ns > 0;
}

static bool is_mute(const struct question *q)
{
    return q->cfg->env->mono_ns(q->cfg->env) < atomic_load(&q->pace->mute_ns);
}

static void keep_silent(struct question *q, int64_t ns)
{
    atomic_store(&q->pace->silent_ns, q->cfg->env->mono_ns(q->cfg->env) + ns);
}

/* ------------------------------------------------------------------- asking */

static void take_window(struct question *q, const struct cm_renewal_info *info)
{
    struct cm_ari *a = q->io;
    bool first = a->selected_s == 0;
    bool same = !first && a->start_s == info->start_s && a->end_s == info->end_s;
    int64_t choices = info->end_s - info->start_s - 1;

    if (!same) {
        a->start_s = info->start_s;
        a->end_s = info->end_s;
        /* As peers choose: a whole second after the first one, unless there is none. */
        a->selected_s = choices > 0 ? info->start_s + 1 + jitter_s(q, choices) : info->start_s;
    }
    a->failures = 0;
    a->again_s = q->now_s + info->retry_after_s + jitter_s(q, info->retry_after_s / 16);
    memcpy(q->explanation_url, info->explanation_url, sizeof q->explanation_url);
    if (same)
        return;
    const struct cm_log_field f[] = { { "name", q->subject->ident },
                                      { "explanation", q->explanation_url } };
    cm_logf(&q->cfg->log, first ? CM_LOG_DEBUG : CM_LOG_INFO, "ari_window", f, CM_ARRAY_LEN(f),
            "%s %s to renew the certificate of '%s' in %lld s%s%s", cm_issuer_key(q->issuer),
            first ? "suggests" : "suggests anew", q->subject->ident,
            (long long)(a->selected_s - q->now_s), q->explanation_url[0] != '\0' ? ", see " : "",
            q->explanation_url);
}

/* "Renew it now", of a certificate that it has only just issued? Some CAs work that out without a
 * thought for short lives, and whoever obeyed would renew again and again. A window that is moved
 * into the past later is another matter. */
static bool is_senseless(const struct question *q, const struct cm_renewal_info *info,
                         int64_t *ret_until_s)
{
    const struct cm_cert *c = q->cert;
    int64_t young_s = (c->not_after_s - c->not_before_s) / 4;

    *ret_until_s = c->not_before_s + (young_s < DAY_S ? young_s : DAY_S);
    return q->io->selected_s == 0 && info->end_s <= q->now_s && q->now_s < *ret_until_s &&
           q->now_s >= c->not_before_s;
}

static void leave_window(struct question *q, const struct cm_renewal_info *info, int64_t until_s)
{
    int64_t wait_s = later(until_s - q->now_s, 60);

    q->io->failures = 0;
    postpone(q, later(wait_s, info->retry_after_s) * CM_NS_PER_S, 60);
    cm_logf(&q->cfg->log, CM_LOG_WARN, "ari_senseless", NULL, 0,
            "%s suggests to renew the certificate of '%s', which it has only just issued; that is "
            "not done",
            cm_issuer_key(q->issuer), q->subject->ident);
}

static cm_status failed(struct question *q, cm_status rc, const struct cm_err *why)
{
    unsigned n = q->io->failures < CM_ARRAY_LEN(pauses_s) ? q->io->failures
                                                          : (unsigned)CM_ARRAY_LEN(pauses_s) - 1;
    int64_t pause_s = later(pauses_s[n], why->retry_after_s);

    if (cm_op_check(q->op, NULL) != CM_OK) {
        postpone(q, 0, 60); /* we ended it, the CA did not */
        return rc;
    }
    if (rc == CM_E_UNSUPPORTED) {
        /* None of this CA's certificates has any. */
        atomic_store(&q->pace->mute_ns, q->cfg->env->mono_ns(q->cfg->env) + DAY_S * CM_NS_PER_S);
        return rc;
    }
    cm_count(q->cfg, CM_COUNT_ARI_FAILED);
    if (why->whole_ca)
        keep_silent(q, later(SILENCE_NS, why->retry_after_s * CM_NS_PER_S));
    cm_logf(&q->cfg->log, q->io->failures == 0 ? CM_LOG_WARN : CM_LOG_DEBUG, "ari_failed", NULL, 0,
            "no renewal information for '%s': %s", q->subject->ident, why->msg);
    q->io->failures++;
    postpone(q, pause_s * CM_NS_PER_S, pause_s / 8);
    return rc;
}

static cm_status ask(struct question *q, const struct cm_op *op, struct cm_err *err)
{
    struct cm_renewal_info info = { .size = (uint32_t)sizeof info };
    struct cm_op within = cm_op_within(op, ASK_MAX_NS);
    struct cm_err why = CM_ERR_INIT;
    int64_t until_s;

    cm_count(q->cfg, CM_COUNT_ARI_ASKED);
    cm_status rc = cm_issuer_renewal_info(q->issuer, &within, cm_cert_der(q->cert, 0), &info, err);
    if (rc != CM_OK)
        return failed(q, rc, err);
    if (is_senseless(q, &info, &until_s)) {
        leave_window(q, &info, until_s);
        return CM_OK;
    }
    take_window(q, &info);
    rc = cm_ari_store(q->cfg, op, q->subject, q->cert, q->id, q->io, q->explanation_url, &why);
    if (rc != CM_OK)
        cm_logf(&q->cfg->log, CM_LOG_WARN, "ari_not_stored", NULL, 0,
                "the renewal information of '%s' stays in this process: %s", q->subject->ident,
                why.msg);
    return CM_OK;
}

static cm_status ask_for_the_fleet(struct question *q, struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct cm_lease *lease = NULL;
    char name[sizeof q->id + 8];

    (void)snprintf(name, sizeof name, "ari_%s", q->id);
    lo.try_only = true;
    lo.log = q->cfg->log;
    cm_status rc = cm_lease_acquire(q->cfg->storage, q->op, name, &lo, &lease, err);
    if (rc == CM_E_BUSY) { /* a peer is asking */
        postpone(q, 30 * CM_NS_PER_S, 30);
        return CM_OK;
    }
    if (rc != CM_OK)
        return failed(q, rc, err);
    struct cm_op held = *q->op;
    held.cancel = cm_lease_cancel(lease);
    if (!look(q))
        rc = ask(q, &held, err);
    cm_lease_release(lease);
    return rc;
}

/* Whether an issuer can be asked at all, its gate says before it looks at the operation. */
static bool can_be_asked(const struct question *q)
{
    const struct cm_op over = { .env = q->cfg->env, .deadline_ns = 1 };
    struct cm_renewal_info info = { .size = (uint32_t)sizeof info };

    return cm_issuer_renewal_info(q->issuer, &over, cm_cert_der(q->cert, 0), &info, NULL) !=
           CM_E_UNSUPPORTED;
}

static size_t index_of(const struct cm_config *cfg, const char *issuer_key)
{
    size_t i = 0;

    while (i < cfg->n_issuers && strcmp(cm_issuer_key(cfg->issuers[i]), issuer_key) != 0)
        i++;
    return i;
}

cm_status cm_ari_tend(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                      const struct cm_cert *cert, bool may_fetch, struct cm_ari *io,
                      int64_t *ret_again_s, struct cm_err *err)
{
    struct cm_op whole = { cfg->env, op != NULL ? op->deadline_ns : 0,
                           op != NULL ? op->cancel : NULL };
    struct cm_err own = CM_ERR_INIT;
    struct question q = { .cfg = cfg,
                          .op = &whole,
                          .subject = s,
                          .cert = cert,
                          .io = io,
                          .now_s = cm_env_wall_s(cfg->env) };
    size_t i = index_of(cfg, cm_cert_issuer_key(cert));
    cm_status rc = CM_OK;

    *ret_again_s = INT64_MAX;
    if (i == cfg->n_issuers || !id_of(cert, q.id))
        return CM_OK;
    q.issuer = cfg->issuers[i];
    q.pace = &cfg->ari_pace[i];
    if (!can_be_asked(&q))
        return CM_OK;
    if (!is_fresh(io, q.now_s) && is_mute(&q)) {
        *ret_again_s = q.now_s + LEARN_S + jitter_s(&q, DAY_S);
        return CM_OK;
    }
    if (!is_fresh(io, q.now_s) && !look(&q)) {
        if (!may_fetch)
            io->again_s = q.now_s;
        else if (!must_wait(&q))
            rc = ask_for_the_fleet(&q, err != NULL ? err : &own);
    }
    if (q.superseded) {
        *ret_again_s = q.now_s + SUPERSEDED_S;
        return cm_fail(err, CM_E_EXISTS, "storage holds the successor of the certificate for '%s'",
                       s->ident);
    }
    *ret_again_s = rc == CM_E_UNSUPPORTED ? q.now_s + LEARN_S + jitter_s(&q, DAY_S) : io->again_s;
    return rc;
}
