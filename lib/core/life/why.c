/* SPDX-License-Identifier: Apache-2.0 */
#include "facts.h"

#include <stdio.h>
#include <string.h>

/* The decision on one name told to a person: what was looked at, what was found, what follows. */

#define LINE_MAX_BYTES 1024
#define AT_MAX         80

struct tale {
    const struct cm_facts *f;
    const struct cm_life_status *st;
    const struct cm_config *cfg;
    void (*line)(void *user, const char *text);
    void *user;
};

/* What comes from storage and from CAs is in here: it stays harmless to a terminal. */
static void say(const struct tale *t, const char *fmt, ...) CM_PRINTF(2, 3);
static void say(const struct tale *t, const char *fmt, ...)
{
    char raw[LINE_MAX_BYTES];
    char text[LINE_MAX_BYTES];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    t->line(t->user, cm_escape(raw, strlen(raw), text, sizeof text));
}

/* ---- times ---- */

static void span(int64_t s, char out[32])
{
    static const struct {
        int64_t upto_s, unit_s;
        const char *one;
    } units[] = { { 120, 1, "second" },
                  { 2 * 3600, 60, "minute" },
                  { 48 * 3600, 3600, "hour" },
                  { INT64_MAX, 86400, "day" } };
    size_t i = 0;

    while (s >= units[i].upto_s && i + 1 < CM_ARRAY_LEN(units))
        i++;
    long long n = (long long)(s / units[i].unit_s);
    (void)snprintf(out, 32, "%lld %s%s", n, units[i].one, n == 1 ? "" : "s");
}

/* "2027-01-14 03:12 UTC (in 54 days)". Returns @out. */
static const char *at(const struct tale *t, int64_t s, char out[AT_MAX])
{
    int64_t left_s = s - t->f->now_s;
    char stamp[CM_TIME_TEXT];
    char far[32];

    /* What lies outside of the clock's range is shown as its end. */
    cm_time_format_rfc3339(s > INT64_MAX / CM_NS_PER_S ? INT64_MAX
                           : s < 0                     ? 0
                                                       : s * CM_NS_PER_S,
                           true, stamp);
    if (left_s == 0)
        (void)snprintf(far, sizeof far, "now");
    else
        span(left_s < 0 ? -left_s : left_s, far);
    (void)snprintf(out, AT_MAX, "%.10s %.5s UTC (%s%s%s)", stamp, stamp + 11,
                   left_s > 0 ? "in " : "", far, left_s < 0 ? " ago" : "");
    return out;
}

/* ---- what storage holds ---- */

static void tell_dates(const struct tale *t)
{
    const struct cm_cert *c = t->f->cert;
    char when[AT_MAX];

    if (c->not_after_s < t->f->now_s)
        say(t, "It expired at %s: clients refuse it.", at(t, c->not_after_s, when));
    else if (c->not_before_s > t->f->now_s)
        say(t, "It is not valid before %s: until then clients refuse it.",
            at(t, c->not_before_s, when));
}

static void tell_revoked(const struct tale *t)
{
    if (t->f->has_staple && t->f->staple.revoked)
        say(t, "The OCSP response in storage says that it is REVOKED.");
    else if (t->f->crl.revoked)
        say(t, "The CA's list in storage says that it is REVOKED.");
    else if (t->f->revoked)
        say(t, "This process has found out that it is REVOKED.");
}

static void tell_cert(const struct tale *t)
{
    const struct cm_facts *f = t->f;
    char when[AT_MAX];

    if (f->cert != NULL) {
        const char *type = cm_key_type_name(cm_cert_key_type(f->cert));

        say(t, "Storage holds a certificate for %s from %s (serial %s, key %s), valid until %s.",
            t->st->name, f->issuer_key, cm_cert_serial(f->cert), type != NULL ? type : "?",
            at(t, f->cert->not_after_s, when));
        tell_dates(t);
        tell_revoked(t);
        if (!f->is_ours && t->cfg->n_issuers > 0)
            say(t, "This configuration orders from %s: the next one comes from there.",
                cm_issuer_key(t->cfg->issuers[0]));
    } else if (f->damage[0] == '\0') {
        say(t, "Storage holds no certificate for %s.", t->st->name);
    }
    if (f->damage[0] != '\0')
        say(t, "Storage holds one that cannot be used: %s.", f->damage);
}

/* ---- the rules ---- */

static void tell_ari(const struct tale *t)
{
    char from[AT_MAX], to[AT_MAX], chosen[AT_MAX];

    if (!t->f->has_ari) {
        say(t, "No suggestion of the CA for its renewal is known.");
        return;
    }
    say(t, "The CA suggests to renew between %s and %s; %s was chosen.",
        at(t, t->f->ari.start_s, from), at(t, t->f->ari.end_s, to),
        at(t, t->f->ari.selected_s, chosen));
    if (t->f->ari.again_s != 0)
        say(t, "The CA may be asked again from %s on.", at(t, t->f->ari.again_s, from));
}

static void tell_rule(const struct tale *t)
{
    const struct cm_when *w = &t->f->when;
    char when[AT_MAX], least[AT_MAX];

    switch (w->rule) {
    case CM_RULE_ARI:
        say(t, "So it is to be renewed at %s.", at(t, w->renew_at_s, when));
        return;
    case CM_RULE_ABSOLUTE:
        say(t, "By the configured time before its end it is to be renewed at %s.",
            at(t, w->renew_at_s, when));
        return;
    case CM_RULE_EMERGENCY:
        say(t,
            "It is to be renewed at %s at the latest, with a twentieth of its lifetime left, "
            "whatever else is suggested or configured.",
            at(t, w->renew_at_s, when));
        return;
    case CM_RULE_RATIO:
        break;
    }
    say(t, "By its lifetime it is to be renewed at %s, and at the latest at %s.",
        at(t, w->renew_at_s, when), at(t, w->urgent_at_s, least));
}

static void tell_staple(const struct tale *t)
{
    const struct cm_life_status *st = t->st;
    char end[AT_MAX], again[AT_MAX];

    if (st->ocsp_url[0] == '\0')
        say(t, "It names no OCSP responder: there is nothing to staple.");
    else if (t->f->has_staple && t->f->staple.revoked)
        say(t, "Its OCSP responder is %s; there is nothing good to staple.", st->ocsp_url);
    else if (!st->staple_known)
        say(t, "Its OCSP responder is %s; storage holds no staple.", st->ocsp_url);
    else if (st->staple_next_update_s == 0)
        say(t, "Storage holds a staple without an end.");
    else if (st->staple_next_update_s < t->f->now_s)
        say(t, "The staple in storage ended at %s: its responder %s is to be asked.",
            at(t, st->staple_next_update_s, end), st->ocsp_url);
    else
        say(t, "Storage holds a staple until %s; it is replaced from %s on.",
            at(t, st->staple_next_update_s, end), at(t, st->staple_refresh_s, again));
}

/* ---- failures ---- */

static void tell_failure(const struct tale *t)
{
    const struct cm_life_status *st = t->st;
    char last[AT_MAX], again[AT_MAX];

    if (!t->f->failed) {
        say(t, "No failed attempt is noted.");
        return;
    }
    if (st->last_failed_s != 0)
        say(t, "The last attempt failed at %s (attempt %u)%s%s: %s", at(t, st->last_failed_s, last),
            st->attempts, t->f->ca_key[0] != '\0' ? ", by " : "", t->f->ca_key, st->last_error);
    else
        say(t, "The last attempt of this process failed: %s", st->last_error);
    if (st->no_retry)
        say(t, "That does not get better by trying again: somebody has to change something.");
    else if (st->next_try_s > t->f->now_s)
        say(t, "The next attempt is not made before %s.", at(t, st->next_try_s, again));
}

static void tell_ca(const struct tale *t)
{
    const struct cm_ca_state *ca = &t->f->ca;
    char when[AT_MAX], since[AT_MAX];

    if (!t->f->has_ca)
        return;
    if (ca->paused_until_s > t->f->now_s)
        say(t, "The CA %s asked to be left alone until %s: %s", t->f->ca_key,
            at(t, ca->paused_until_s, when), ca->reason);
    if (ca->open_since_s != 0)
        say(t,
            "The CA %s has failed %u times in a row since %s, so it is only probed, next at %s: %s",
            t->f->ca_key, ca->failures, at(t, ca->open_since_s, since),
            at(t, ca->next_probe_s, when), ca->reason);
}

static void tell_lock(const struct tale *t)
{
    char far[32];

    if (t->f->lock_is == CM_FACTS_LOCK_FREE) {
        say(t, "Nobody works on it just now.");
    } else if (t->f->lock_is == CM_FACTS_LOCK_HELD && t->st->lock_since_s == 0) {
        say(t, "%s holds its lock: it is probably being renewed just now.", t->st->lock_holder);
    } else if (t->f->lock_is == CM_FACTS_LOCK_HELD) {
        int64_t held_s = t->f->now_s - t->st->lock_since_s;

        span(held_s > 0 ? held_s : 0, far);
        say(t, "%s has held its lock for %s: it is probably being renewed just now.",
            t->st->lock_holder, far);
    } else {
        say(t, "Whether somebody works on it just now cannot be told from this storage.");
    }
}

/* ---- what follows ---- */

static void tell_retry(const struct tale *t)
{
    char when[AT_MAX];

    if (t->st->no_retry)
        say(t, "So nothing happens until somebody does something.");
    else
        say(t, "So whoever maintains it tries again at %s.", at(t, t->st->next_at_s, when));
}

static void tell_outcome(const struct tale *t)
{
    const struct cm_life_status *st = t->st;
    char when[AT_MAX];

    switch (st->state) {
    case CM_LIFE_GOOD:
        say(t, "So it is not due: nothing to do before %s (%s).", at(t, st->next_at_s, when),
            st->next_action);
        break;
    case CM_LIFE_DUE:
    case CM_LIFE_EXPIRED:
        if (st->next_at_s > t->f->now_s)
            say(t, "So it is due, and renewed by whoever maintains it from %s on.",
                at(t, st->next_at_s, when));
        else
            say(t, "So it is due since %s: whoever maintains it renews it now.",
                at(t, st->renew_at_s, when));
        break;
    case CM_LIFE_FAILING:
        tell_retry(t);
        break;
    case CM_LIFE_REVOKED:
        if (t->f->failed)
            tell_retry(t);
        else
            say(t, "So whoever maintains it replaces it now.");
        break;
    case CM_LIFE_DAMAGED:
        say(t, "So a new one has to be obtained; whoever maintains it does that now.");
        break;
    case CM_LIFE_MISSING:
        say(t, "So one has to be obtained%s.",
            t->f->managed ? ": that goes on, or is about to begin" : "");
        break;
    }
}

cm_status cm_status_why(struct cm_config *cfg, const struct cm_op *op, const char *name,
                        void (*line)(void *user, const char *text), void *user, struct cm_err *err)
{
    struct cm_life_status st;
    struct cm_facts_view v;
    struct cm_facts f;

    if (cfg == NULL || name == NULL || line == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, no name, or no function to tell");
    cm_status rc = cm_facts_open(cfg, op, &v, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_facts_of(&v, name, &f, err);
    cm_facts_close(&v);
    if (rc != CM_OK)
        return rc;
    cm_facts_status(&f, &st);
    const struct tale t = { .f = &f, .st = &st, .cfg = cfg, .line = line, .user = user };
    tell_cert(&t);
    if (f.cert != NULL) {
        tell_ari(&t);
        tell_rule(&t);
        tell_staple(&t);
    }
    tell_failure(&t);
    tell_ca(&t);
    tell_lock(&t);
    tell_outcome(&t);
    cm_facts_free(&f);
    return CM_OK;
}
