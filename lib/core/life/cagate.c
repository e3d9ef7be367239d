/* SPDX-License-Identifier: Apache-2.0 */
#include "cagate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Between the jobs and the CAs. What is known of a CA is kept in memory, on the monotonic clock,
 * and shared through storage: read now and then, written when it changes. So an outage of storage,
 * and clocks that are wrong, leave each process with what it has found out itself. */

#define READ_EVERY_NS   (30 * CM_NS_PER_S)
#define READ_NS         (5 * CM_NS_PER_S)
#define PAUSE_DEFAULT_S (10 * 60) /* for a CA that says "too many" and not for how long */
#define SAME_PAUSE_NS   (30 * CM_NS_PER_S)
#define BUSY_NS         (5 * CM_NS_PER_S)
#define SPREAD_MAX_NS   (600 * CM_NS_PER_S)
#define PUBLISH_ROUNDS  4

struct gate {
    pthread_mutex_t lock;
    const char *key;
    struct cm_issuer_limits limits;
    struct cm_ring_limiter *throttle;
    /* guarded by the lock */
    struct cm_breaker breaker;
    int64_t open_since_s;
    int64_t pause_end_ns; /* monotonic; 0 = none */
    char reason[256];
    struct cm_ca_note seen; /* what storage has, as far as is known */
    bool dirty;             /* and it does not have all that is known here */
    bool publishing;        /* by one thread at a time */
    unsigned generation;    /* of all of this: what was read before it changed is no news */
    int64_t read_at_ns;     /* not to be read before */
    size_t turned_away;     /* by the throttle, and not in since */
};

struct cm_ca_gates {
    size_t n;
    struct gate at[CM_ISSUERS_MAX];
};

/* Why somebody is not admitted. */
struct hold {
    enum { HOLD_NOT, HOLD_PAUSE, HOLD_BREAKER, HOLD_CALM, HOLD_THROTTLE } kind;
    int64_t wait_ns;
    int64_t spread_ns; /* come back somewhere in that much time after the wait */
    int64_t since_s;
    char reason[256];
};

/* ---- making them ---- */

static cm_status set_up(struct gate *g, struct cm_config *cfg, struct cm_issuer *is,
                        struct cm_err *err)
{
    g->limits = (struct cm_issuer_limits){ .size = (uint32_t)sizeof g->limits };
    cm_issuer_get_limits(is, &g->limits);
    cm_status rc =
        cm_ring_limiter_new(g->limits.events, g->limits.window_ns, cfg->env, &g->throttle, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "limits of issuer '%s'", cm_issuer_key(is));
    g->key = cm_issuer_key(is);
    g->read_at_ns = INT64_MIN;
    cm_mutex_init(&g->lock);
    return CM_OK;
}

cm_status cm_ca_gates_new(struct cm_config *cfg, struct cm_ca_gates **ret, struct cm_err *err)
{
    struct cm_ca_gates *gates = cm_calloc(1, sizeof *gates);
    cm_status rc = CM_OK;

    if (gates == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; rc == CM_OK && i < cfg->n_issuers; i++) {
        rc = set_up(&gates->at[i], cfg, cfg->issuers[i], err);
        gates->n += rc == CM_OK;
    }
    if (rc != CM_OK) {
        cm_ca_gates_free(gates);
        return rc;
    }
    *ret = gates;
    return CM_OK;
}

void cm_ca_gates_free(struct cm_ca_gates *gates)
{
    if (gates == NULL)
        return;
    for (size_t i = 0; i < gates->n; i++) {
        cm_ring_limiter_free(gates->at[i].throttle);
        (void)pthread_mutex_destroy(&gates->at[i].lock);
    }
    free(gates);
}

/* ---- what storage says ---- */

static void adopt_locked(struct gate *g, const struct cm_ca_note *n, int64_t now_ns, int64_t now_s)
{
    /* The same as before says nothing new, whatever the clock of the wall has done meanwhile. */
    if (cm_ca_note_equal(n, &g->seen))
        return;
    int64_t left_s = cm_ca_note_pause_left_s(n, now_s);
    int64_t end_ns = left_s > 0 ? now_ns + left_s * CM_NS_PER_S : 0;
    g->seen = *n;
    g->generation++;
    if (!g->dirty || end_ns > g->pause_end_ns)
        g->pause_end_ns = end_ns;
    if (n->open_since_s != 0) {
        g->breaker.open = true;
        g->breaker.failures = n->failures;
        g->breaker.next_probe_ns = now_ns + cm_ca_note_probe_left_s(n, now_s) * CM_NS_PER_S;
        g->open_since_s = n->open_since_s < now_s ? n->open_since_s : now_s;
    } else if (!g->dirty) {
        (void)cm_breaker_succeed(&g->breaker, now_ns); /* a peer saw it work */
    }
    if (n->reason[0] != '\0')
        memcpy(g->reason, n->reason, sizeof g->reason);
}

static void compose_locked(const struct gate *g, int64_t now_ns, int64_t now_s,
                           struct cm_ca_note *ret)
{
    memset(ret, 0, sizeof *ret);
    if (g->pause_end_ns > now_ns)
        ret->paused_until_s = now_s + (g->pause_end_ns - now_ns) / CM_NS_PER_S;
    if (g->breaker.open) {
        ret->open_since_s = g->open_since_s;
        ret->next_probe_s = now_s + (g->breaker.next_probe_ns - now_ns) / CM_NS_PER_S;
        ret->failures = g->breaker.failures;
    }
    if (ret->paused_until_s == 0 && ret->open_since_s == 0)
        return;
    ret->updated_s = now_s;
    memcpy(ret->reason, g->reason, sizeof ret->reason);
}

/* Tell storage what is known here. One thread at a time; the others' news go along. */
static void publish(struct cm_config *cfg, const struct cm_op *op, struct gate *g)
{
    struct cm_ca_note n;
    cm_status rc = CM_OK;

    cm_mutex_lock(&g->lock);
    if (g->publishing) {
        cm_mutex_unlock(&g->lock);
        return;
    }
    g->publishing = true;
    for (int i = 0; rc == CM_OK && g->dirty && i < PUBLISH_ROUNDS; i++) {
        g->dirty = false;
        compose_locked(g, cfg->env->mono_ns(cfg->env), cm_env_wall_s(cfg->env), &n);
        cm_mutex_unlock(&g->lock);
        rc = cm_ca_note_store(cfg, op, g->key, &n);
        cm_mutex_lock(&g->lock);
        if (rc == CM_OK)
            g->seen = n;
        else
            g->dirty = true;
        g->generation++;
    }
    g->publishing = false;
    cm_mutex_unlock(&g->lock);
}

/* Look into storage if that was not done lately; say there what could not be said before. */
static void refresh(struct cm_config *cfg, const struct cm_op *op, struct gate *g)
{
    int64_t now_ns = cfg->env->mono_ns(cfg->env);
    struct cm_op within = { cfg->env, 0, NULL };
    struct cm_ca_note n;
    bool dirty;
    unsigned generation;

    if (op != NULL)
        within = *op;
    within = cm_op_within(&within, READ_NS);
    cm_mutex_lock(&g->lock);
    bool due = now_ns >= g->read_at_ns && !g->publishing;
    if (due)
        g->read_at_ns = now_ns + READ_EVERY_NS;
    generation = g->generation;
    cm_mutex_unlock(&g->lock);
    if (!due || cm_ca_note_load(cfg, &within, g->key, &n, NULL) != CM_OK)
        return;
    cm_mutex_lock(&g->lock);
    if (!g->publishing && g->generation == generation)
        adopt_locked(g, &n, cfg->env->mono_ns(cfg->env), cm_env_wall_s(cfg->env));
    dirty = g->dirty;
    cm_mutex_unlock(&g->lock);
    if (dirty)
        publish(cfg, op, g);
}

void cm_ca_gates_reread(struct cm_config *cfg)
{
    for (size_t i = 0; i < cfg->gates->n; i++) {
        struct gate *g = &cfg->gates->at[i];

        cm_mutex_lock(&g->lock);
        g->read_at_ns = INT64_MIN;
        cm_mutex_unlock(&g->lock);
    }
}

/* ---- admittance ---- */

static void look_locked(const struct gate *g, int64_t now_ns, uint64_t dice, struct hold *ret)
{
    int64_t pause_ns = g->pause_end_ns - now_ns;
    int64_t breaker_ns = cm_breaker_wait_ns(&g->breaker, now_ns, dice);

    if (pause_ns <= 0 && breaker_ns <= 0)
        return;
    ret->kind = pause_ns >= breaker_ns ? HOLD_PAUSE : g->breaker.open ? HOLD_BREAKER : HOLD_CALM;
    ret->wait_ns = pause_ns >= breaker_ns ? pause_ns : breaker_ns;
    ret->spread_ns = ret->wait_ns / 5 < SPREAD_MAX_NS ? ret->wait_ns / 5 : SPREAD_MAX_NS;
    if (ret->kind == HOLD_CALM)
        ret->spread_ns = 0; /* the wait is spread itself */
    ret->since_s = g->open_since_s;
    memcpy(ret->reason, g->reason, sizeof ret->reason);
}

/* The fleet's probe, if it is due here and nobody else sends it. */
static void probe(struct cm_config *cfg, const struct cm_op *op, struct gate *g, uint64_t dice,
                  struct hold *ret)
{
    int64_t now_ns = cfg->env->mono_ns(cfg->env);
    int64_t now_s = cm_env_wall_s(cfg->env);
    struct cm_ca_note seen;
    struct cm_ca_note n;
    bool mine = true;

    cm_mutex_lock(&g->lock);
    look_locked(g, now_ns, dice, ret);
    if (ret->kind != HOLD_NOT || !g->breaker.open) {
        cm_mutex_unlock(&g->lock);
        return;
    }
    unsigned failures = g->breaker.failures;
    cm_breaker_probe(&g->breaker, now_ns); /* no other thread of this process */
    unsigned generation = ++g->generation;
    compose_locked(g, now_ns, now_s, &n);
    seen = g->seen;
    cm_mutex_unlock(&g->lock);

    cm_status rc = cm_ca_note_claim(cfg, op, g->key, &seen, &n, &mine, NULL);
    cm_mutex_lock(&g->lock);
    bool is_news = g->generation++ != generation; /* of the peer's probe, meanwhile */
    if (rc == CM_OK && mine) {
        g->seen = n;
    } else if (rc == CM_OK) {
        adopt_locked(g, &n, now_ns, now_s);
        look_locked(g, now_ns, dice, ret);
    } else if (rc == CM_E_BUSY) {
        if (!is_news) {
            g->breaker.failures = failures; /* it is the peer's probe that counts */
            g->breaker.next_probe_ns = now_ns + BUSY_NS;
            g->read_at_ns = now_ns;
        }
        look_locked(g, now_ns, dice, ret);
    } else {
        g->dirty = true; /* storage is down, so every process probes for itself */
    }
    cm_mutex_unlock(&g->lock);
}

/* How late those should come back whom the throttle turns away: as if they stood in a line. */
static int64_t spread_locked(const struct gate *g)
{
    int64_t slot_ns = g->limits.window_ns / (int64_t)g->limits.events;
    int64_t spread_ns;

    if (__builtin_mul_overflow(slot_ns, (int64_t)g->turned_away, &spread_ns) ||
        spread_ns > g->limits.window_ns)
        spread_ns = g->limits.window_ns;
    return spread_ns;
}

static void throttle(struct gate *g, const struct cm_ca_ask *ask, struct hold *ret)
{
    bool counts =
        g->limits.events > 0 && !ask->resumes && !(ask->replaces && g->limits.renewals_exempt);
    int64_t next_ns = cm_ring_limiter_next_ns(g->throttle);

    if (!counts)
        return;
    bool in = ask->look_only ? next_ns <= 0 : cm_ring_limiter_allow(g->throttle);
    in = in || ask->urgent;
    cm_mutex_lock(&g->lock);
    if (in && g->turned_away > 0 && !ask->look_only) {
        g->turned_away--;
    } else if (!in) {
        ret->kind = HOLD_THROTTLE;
        ret->wait_ns = next_ns;
        ret->spread_ns = spread_locked(g);
        if (g->turned_away < g->limits.events)
            g->turned_away++;
    }
    cm_mutex_unlock(&g->lock);
}

/* Whole ones, at least one. */
static int64_t seconds(int64_t ns)
{
    return ns > CM_NS_PER_S ? (ns + CM_NS_PER_S - 1) / CM_NS_PER_S : 1;
}

static cm_status refuse(const struct cm_config *cfg, const struct gate *g, const struct hold *h,
                        struct cm_err *err)
{
    int64_t late_ns = (int64_t)cm_random_below(cfg->env, (uint64_t)h->spread_ns + 1);
    int64_t left_s = seconds(h->wait_ns);
    char since[CM_TIME_TEXT];

    switch (h->kind) {
    case HOLD_PAUSE:
        (void)cm_fail(err, CM_E_AGAIN, "%s wants to be left alone for %" PRId64 " s more: %s",
                      g->key, left_s, h->reason);
        break;
    case HOLD_BREAKER:
        cm_time_format_rfc3339(h->since_s * CM_NS_PER_S, false, since);
        (void)cm_fail(err, CM_E_AGAIN,
                      "%s has not worked since %s, the next try is in %" PRId64 " s: %s", g->key,
                      since, left_s, h->reason);
        break;
    case HOLD_CALM:
        (void)cm_fail(err, CM_E_AGAIN, "%s works again, and not all can come at once", g->key);
        break;
    case HOLD_THROTTLE:
    case HOLD_NOT:
        (void)cm_fail(err, CM_E_AGAIN, "%zu order(s) in %" PRId64 " s are the limit at %s",
                      g->limits.events, g->limits.window_ns / CM_NS_PER_S, g->key);
        break;
    }
    if (err != NULL) {
        err->retry_after_s = seconds(h->wait_ns + late_ns);
        err->whole_ca = h->kind == HOLD_PAUSE;
    }
    return CM_E_AGAIN;
}

cm_status cm_ca_admit(struct cm_config *cfg, const struct cm_op *op, size_t i,
                      const struct cm_ca_ask *ask, struct cm_err *err)
{
    struct gate *g = &cfg->gates->at[i];
    uint64_t dice = cm_random_below(cfg->env, UINT64_MAX);
    struct hold hold = { .kind = HOLD_NOT };

    CM_ASSERT(i < cfg->gates->n);
    cm_status rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return rc;
    refresh(cfg, op, g);
    cm_mutex_lock(&g->lock);
    look_locked(g, cfg->env->mono_ns(cfg->env), dice, &hold);
    cm_mutex_unlock(&g->lock);
    if (hold.kind == HOLD_NOT)
        throttle(g, ask, &hold);
    if (hold.kind == HOLD_NOT && !ask->look_only)
        probe(cfg, op, g, dice, &hold);
    return hold.kind == HOLD_NOT ? CM_OK : refuse(cfg, g, &hold, err);
}

/* ---- what came of it ---- */

/* The CA has answered, and not that it is in trouble. */
static bool shows_life(cm_status rc, const struct cm_err *why)
{
    switch (rc) {
    case CM_OK:
    case CM_E_RATELIMITED:
        return true;
    case CM_E_ACME:
    case CM_E_AGAIN:
    case CM_E_CERT:
    case CM_E_EXISTS:
        return !why->whole_ca;
    case CM_E_INVAL:
    case CM_E_NOMEM:
    case CM_E_IO:
    case CM_E_NOTFOUND:
    case CM_E_PERM:
    case CM_E_PARSE:
    case CM_E_LIMIT:
    case CM_E_TIMEOUT:
    case CM_E_CANCELED:
    case CM_E_BUSY:
    case CM_E_LOCK_LOST:
    case CM_E_UNSUPPORTED:
    case CM_E_POLICY:
    case CM_E_NET:
    case CM_E_TLS:
    case CM_E_KEY:
    case CM_E_STATE:
    case CM_E_INTERNAL:
        break;
    }
    return false;
}

static int64_t pause_of(cm_status rc, const struct cm_err *why)
{
    if (rc == CM_OK || !why->whole_ca || (why->retry_after_s <= 0 && rc != CM_E_RATELIMITED))
        return 0;
    int64_t s = why->retry_after_s > 0 ? why->retry_after_s : PAUSE_DEFAULT_S;
    return (s < CM_CA_PAUSE_MAX_S ? s : CM_CA_PAUSE_MAX_S) * CM_NS_PER_S;
}

enum news { NEWS_PAUSED = 1, NEWS_OPENED = 2, NEWS_CLOSED = 4, NEWS_OVER = 8 };

static unsigned take_in_locked(struct gate *g, cm_status rc, const struct cm_err *why,
                               int64_t now_ns, int64_t now_s)
{
    int64_t pause_ns = pause_of(rc, why);
    int64_t left_ns = g->pause_end_ns > now_ns ? g->pause_end_ns - now_ns : 0;
    unsigned news = 0;

    /* A flood of the same answer is one change. */
    if (pause_ns > 0 && (left_ns == 0 || pause_ns > left_ns + SAME_PAUSE_NS)) {
        g->pause_end_ns = now_ns + pause_ns;
        news |= NEWS_PAUSED;
    }
    if (shows_life(rc, why)) {
        if (cm_breaker_succeed(&g->breaker, now_ns))
            news |= NEWS_CLOSED;
        if (g->seen.updated_s != 0 && left_ns == 0 && pause_ns == 0)
            news |= NEWS_OVER;
    } else if (rc != CM_OK && why->whole_ca && cm_breaker_fail(&g->breaker, now_ns)) {
        g->open_since_s = now_s;
        news |= NEWS_OPENED;
    }
    if ((news & (NEWS_PAUSED | NEWS_OPENED)) != 0)
        (void)cm_escape(why->msg, strlen(why->msg), g->reason, sizeof g->reason);
    g->dirty = g->dirty || news != 0;
    g->generation += news != 0;
    return news;
}

static void tell(const struct cm_config *cfg, const struct gate *g, unsigned news, int64_t pause_ns,
                 const struct cm_err *why)
{
    if (news & NEWS_PAUSED)
        cm_logf(&cfg->log, CM_LOG_WARN, "ca_paused", NULL, 0,
                "%s is left alone for %" PRId64 " s: %s", g->key, pause_ns / CM_NS_PER_S, why->msg);
    if (news & NEWS_OPENED)
        cm_logf(&cfg->log, CM_LOG_WARN, "ca_down", NULL, 0,
                "%s fails for everything, so it is only tried now and then from here on: %s",
                g->key, why->msg);
    if (news & NEWS_CLOSED)
        cm_logf(&cfg->log, CM_LOG_INFO, "ca_up", NULL, 0, "%s works again", g->key);
}

void cm_ca_outcome(struct cm_config *cfg, const struct cm_op *op, size_t i, cm_status rc,
                   const struct cm_err *why)
{
    static const struct cm_err nothing = CM_ERR_INIT;
    struct gate *g = &cfg->gates->at[i];
    int64_t now_ns = cfg->env->mono_ns(cfg->env);
    int64_t now_s = cm_env_wall_s(cfg->env);

    CM_ASSERT(i < cfg->gates->n);
    if (why == NULL)
        why = &nothing;
    cm_mutex_lock(&g->lock);
    unsigned news = take_in_locked(g, rc, why, now_ns, now_s);
    cm_mutex_unlock(&g->lock);
    if (news == 0)
        return;
    tell(cfg, g, news, pause_of(rc, why), why);
    publish(cfg, op, g);
}
