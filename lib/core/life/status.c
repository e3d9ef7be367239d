/* SPDX-License-Identifier: Apache-2.0 */
#include "facts.h"

#include <stdio.h>
#include <string.h>

/* What facts come to: one state for each name, and what happens next. */

const char *cm_life_state_text(enum cm_life_state s)
{
    switch (s) {
    case CM_LIFE_MISSING:
        return "missing";
    case CM_LIFE_GOOD:
        return "good";
    case CM_LIFE_DUE:
        return "due";
    case CM_LIFE_FAILING:
        return "failing";
    case CM_LIFE_EXPIRED:
        return "expired";
    case CM_LIFE_REVOKED:
        return "revoked";
    case CM_LIFE_DAMAGED:
        return "damaged";
    }
    return "unknown";
}

static void copy(char *to, size_t size, const char *text)
{
    (void)snprintf(to, size, "%s", text);
}

static void put_names(const struct cm_facts *f, char *out, size_t size)
{
    size_t n = f->cert != NULL ? cm_cert_name_count(f->cert) : 0;
    size_t at = 0;

    for (size_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i > 0 ? "," : "",
                               cm_cert_name(f->cert, i));
    if (n == 0 && f->subject != NULL)
        copy(out, size, f->subject->ident);
    else if (n == 0)
        copy(out, size, f->dir);
}

static enum cm_life_state state_of(const struct cm_facts *f)
{
    if (f->revoked)
        return CM_LIFE_REVOKED;
    if (f->failed)
        return CM_LIFE_FAILING;
    if (f->cert == NULL)
        return f->damage[0] != '\0' ? CM_LIFE_DAMAGED : CM_LIFE_MISSING;
    if (f->cert->not_after_s < f->now_s)
        return CM_LIFE_EXPIRED;
    return f->when.renew_at_s <= f->now_s ? CM_LIFE_DUE : CM_LIFE_GOOD;
}

/* ---- what happens next ---- */

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void next(struct cm_life_status *st, const char *action, int64_t at_s)
{
    copy(st->next_action, sizeof st->next_action, action);
    st->next_at_s = at_s;
}

static void next_if_sooner(struct cm_life_status *st, const char *action, int64_t at_s)
{
    if (at_s != 0 && at_s < st->next_at_s)
        next(st, action, at_s);
}

static void put_retry(const struct cm_facts *f, struct cm_life_status *st)
{
    if (!f->retry.no_retry)
        next(st, "retry", later(later(st->next_try_s, f->now_s), st->ca_paused_until_s));
}

static void put_next(const struct cm_facts *f, struct cm_life_status *st)
{
    next(st, "none", 0);
    switch (st->state) {
    case CM_LIFE_MISSING:
        if (f->managed)
            next(st, "obtain", later(f->now_s, st->ca_paused_until_s));
        break;
    case CM_LIFE_DAMAGED:
        next(st, "obtain", later(f->now_s, st->ca_paused_until_s));
        break;
    case CM_LIFE_FAILING:
        put_retry(f, st);
        break;
    case CM_LIFE_REVOKED:
        if (f->failed)
            put_retry(f, st);
        else
            next(st, "renew", later(f->now_s, st->ca_paused_until_s));
        break;
    case CM_LIFE_DUE:
    case CM_LIFE_EXPIRED:
        next(st, "renew", later(st->renew_at_s, st->ca_paused_until_s));
        break;
    case CM_LIFE_GOOD:
        next(st, "renew", st->renew_at_s);
        next_if_sooner(st, "staple", st->staple_refresh_s);
        next_if_sooner(st, "ari", st->ari_again_s);
        break;
    }
}

/* ---- the struct ---- */

static void put_cert(const struct cm_facts *f, struct cm_life_status *st)
{
    copy(st->issuer_key, sizeof st->issuer_key, f->issuer_key);
    copy(st->serial, sizeof st->serial, cm_cert_serial(f->cert));
    copy(st->renew_rule, sizeof st->renew_rule, cm_renew_rule_text(f->when.rule));
    copy(st->ocsp_url, sizeof st->ocsp_url, f->leaf->ocsp_url);
    st->not_before_s = f->cert->not_before_s;
    st->not_after_s = f->cert->not_after_s;
    st->renew_at_s = f->when.renew_at_s;
    st->ari_known = f->has_ari;
    if (f->has_ari) {
        st->ari_start_s = f->ari.start_s;
        st->ari_end_s = f->ari.end_s;
        st->ari_selected_s = f->ari.selected_s;
        st->ari_again_s = f->ari.again_s;
    }
    st->staple_known = f->has_staple && !f->staple.revoked;
    if (st->staple_known) {
        st->staple_this_update_s = f->staple.this_update_s;
        st->staple_next_update_s = f->staple.next_update_s;
        if (f->staple.next_update_s > f->staple.this_update_s)
            st->staple_refresh_s =
                f->staple.this_update_s + (f->staple.next_update_s - f->staple.this_update_s) / 2;
    }
}

static void put_failure(const struct cm_facts *f, struct cm_life_status *st)
{
    st->attempts = f->retry.attempts;
    st->last_failed_s = f->retry.last_s;
    st->no_retry = f->retry.no_retry;
    st->next_try_s = f->retry.no_retry ? 0 : f->retry.next_s;
    copy(st->problem, sizeof st->problem, f->retry.problem);
    copy(st->last_error, sizeof st->last_error, f->retry.msg);
}

void cm_facts_status(const struct cm_facts *f, struct cm_life_status *ret)
{
    struct cm_life_status st;

    memset(&st, 0, sizeof st);
    st.size = (uint32_t)sizeof st;
    st.state = state_of(f);
    put_names(f, st.name, sizeof st.name);
    if (f->cert != NULL)
        put_cert(f, &st);
    if (f->failed)
        put_failure(f, &st);
    else if (f->cert == NULL)
        copy(st.last_error, sizeof st.last_error, f->damage);
    if (f->lock_is == CM_FACTS_LOCK_HELD) {
        copy(st.lock_holder, sizeof st.lock_holder, f->lock.holder);
        st.lock_since_s = f->lock.since_ns / CM_NS_PER_S;
    }
    if (f->has_ca) {
        st.ca_paused_until_s = later(f->ca.paused_until_s, f->ca.next_probe_s);
        copy(st.ca_reason, sizeof st.ca_reason, f->ca.reason);
    }
    put_next(f, &st);
    *ret = st;
}

cm_status cm_status_of(struct cm_config *cfg, const struct cm_op *op, const char *name,
                       struct cm_life_status *ret, struct cm_err *err)
{
    struct cm_facts_view v;
    struct cm_life_status st;
    struct cm_facts f;

    if (cfg == NULL || name == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, no name, or no place for the status");
    cm_status rc = cm_facts_open(cfg, op, &v, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_facts_of(&v, name, &f, err);
    if (rc == CM_OK) {
        cm_facts_status(&f, &st);
        st.size = ret->size > 0 && ret->size < sizeof st ? ret->size : (uint32_t)sizeof st;
        memcpy(ret, &st, st.size);
        cm_facts_free(&f);
    }
    cm_facts_close(&v);
    return rc;
}
