/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <stdarg.h>
#include <stdio.h>

/* The one place where the program is called about an event. */

static const char *const names[] = {
    [CM_EVENT_TLS_GET_CERTIFICATE] = "tls_get_certificate",
    [CM_EVENT_CERT_OBTAINING] = "cert_obtaining",
    [CM_EVENT_CERT_OBTAINED] = "cert_obtained",
    [CM_EVENT_CERT_FAILED] = "cert_failed",
    [CM_EVENT_CERT_OCSP_REVOKED] = "cert_ocsp_revoked",
    [CM_EVENT_CACHED_MANAGED_CERT] = "cached_managed_cert",
    [CM_EVENT_CACHED_UNMANAGED_CERT] = "cached_unmanaged_cert",
    [CM_EVENT_CERT_EXPIRING] = "cert_expiring",
    [CM_EVENT_CERT_RENEW_SCHEDULED] = "cert_renew_scheduled",
    [CM_EVENT_LOCK_LOST] = "lock_lost",
    [CM_EVENT_STORAGE_DOWN] = "storage_down",
    [CM_EVENT_STORAGE_UP] = "storage_up",
    [CM_EVENT_CERT_KEY_AWAY] = "cert_key_away",
    [CM_EVENT_CERT_KEY_BACK] = "cert_key_back",
};

const char *cm_event_name(enum cm_event_type t)
{
    return t > 0 && (size_t)t < CM_ARRAY_LEN(names) ? names[t] : NULL;
}

cm_status cm_emit(const struct cm_config *cfg, struct cm_event *ev, struct cm_err *err)
{
    struct cm_err own = CM_ERR_INIT;

    if (cfg->on_event == NULL)
        return CM_OK;
    ev->size = (uint32_t)sizeof *ev;
    ev->name = cm_event_name(ev->type);
    ev->can_veto = ev->type == CM_EVENT_TLS_GET_CERTIFICATE || ev->type == CM_EVENT_CERT_OBTAINING;
    cm_status rc = cfg->on_event(cfg->event_user, ev, &own);
    if (rc == CM_OK || !ev->can_veto)
        return CM_OK;
    if (own.msg[0] == '\0')
        (void)cm_fail(&own, rc, "the program refused it (%s)", ev->name);
    own.status = rc;
    if (err != NULL)
        *err = own;
    return rc;
}

bool cm_emit_expiring(const struct cm_config *cfg, const char *name, struct cm_cert *cert,
                      int64_t now_s, uint8_t *io_tier)
{
    unsigned tier = cm_when_tier(cert, now_s);
    struct cm_event ev = { .type = CM_EVENT_CERT_EXPIRING,
                           .identifier = name,
                           .cert = cert,
                           .tier = tier == 1 ? 0 : tier,
                           .remaining_s = cert->not_after_s - now_s };

    if (tier == 0 || tier == *io_tier)
        return false;
    *io_tier = (uint8_t)tier;
    (void)!cm_emit(cfg, &ev, NULL);
    return true;
}

cm_status cm_emit_hello(const struct cm_config *cfg, const struct cm_hello *hello,
                        struct cm_err *err)
{
    struct cm_event ev = { .type = CM_EVENT_TLS_GET_CERTIFICATE, .hello = hello };

    cm_status rc = cm_emit(cfg, &ev, err);
    /* As if we had never heard of the name, unless the program says otherwise. */
    if (rc != CM_OK && err != NULL && err->tls_alert == 0)
        err->tls_alert = CM_ALERT_UNRECOGNIZED_NAME;
    return rc;
}

cm_status cm_serve_managed(struct cm_config *cfg, struct cm_cert *cert, struct cm_err *err)
{
    struct cm_event ev = { .type = CM_EVENT_CACHED_MANAGED_CERT, .cert = cert };
    bool added = false;

    cm_status rc = cm_cache_put_new(cfg->cache, cert, cm_env_wall_s(cfg->env), &added, err);
    if (rc == CM_OK && added)
        (void)cm_emit(cfg, &ev, NULL);
    return rc;
}

/* ---- who uses a cache ---- */

void cm_audience_init(struct cm_audience *a)
{
    cm_mutex_init(&a->lock);
    cm_cond_init(&a->silent);
    a->first = NULL;
}

void cm_audience_end(struct cm_audience *a)
{
    CM_ASSERT(a->first == NULL);
    (void)pthread_cond_destroy(&a->silent);
    (void)pthread_mutex_destroy(&a->lock);
}

void cm_audience_join(struct cm_audience *a, struct cm_listening *l, struct cm_config *cfg)
{
    l->cfg = cfg;
    cm_mutex_lock(&a->lock);
    l->prev = NULL;
    l->next = a->first;
    if (a->first != NULL)
        a->first->prev = l;
    a->first = l;
    cm_mutex_unlock(&a->lock);
}

void cm_audience_leave(struct cm_audience *a, struct cm_listening *l)
{
    if (l->cfg == NULL)
        return;
    cm_mutex_lock(&a->lock);
    while (l->spoken_to > 0)
        (void)cm_cond_wait_ns(&a->silent, &a->lock, CM_WAIT_SLICE_NS);
    *(l->prev != NULL ? &l->prev->next : &a->first) = l->next;
    if (l->next != NULL)
        l->next->prev = l->prev;
    l->cfg = NULL;
    cm_mutex_unlock(&a->lock);
}

void cm_audience_each(struct cm_audience *a, void (*tell)(void *user, struct cm_config *cfg),
                      void *user)
{
    cm_mutex_lock(&a->lock);
    for (struct cm_listening *l = a->first; l != NULL; l = l->next) {
        l->spoken_to++; /* it stays in the list, and so does its way to the next one */
        cm_mutex_unlock(&a->lock);
        tell(user, l->cfg);
        cm_mutex_lock(&a->lock);
        l->spoken_to--;
        (void)pthread_cond_broadcast(&a->silent);
    }
    cm_mutex_unlock(&a->lock);
}

static void tell_unmanaged(void *user, struct cm_config *cfg)
{
    struct cm_event ev = *(const struct cm_event *)user; /* each program its own */

    (void)cm_emit(cfg, &ev, NULL);
}

void cm_emit_unmanaged(struct cm_cache *cache, struct cm_cert *cert, bool replacement)
{
    struct cm_event ev = { .type = CM_EVENT_CACHED_UNMANAGED_CERT,
                           .cert = cert,
                           .replacement = replacement };

    cm_audience_each(cm_cache_audience(cache), tell_unmanaged, &ev);
}

struct line {
    enum cm_log_level level;
    const char *event;
    const char *msg;
    bool said;
};

static void say(void *user, struct cm_config *cfg)
{
    struct line *l = user;

    if (!l->said && cfg->log.write != NULL) {
        l->said = true; /* to one of them: they often share a sink */
        cm_logf(&cfg->log, l->level, l->event, NULL, 0, "%s", l->msg);
    }
}

void cm_cache_logf(struct cm_cache *cache, enum cm_log_level level, const char *event,
                   const char *fmt, ...)
{
    char msg[1024];
    struct line l = { level, event, msg, false };
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    cm_audience_each(cm_cache_audience(cache), say, &l);
}
