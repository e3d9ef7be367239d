/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "maintain.h"
#include "names.h"
#include "staple.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Prometheus text, format 0.0.4. All lines of a family stand together, so the cache is walked once
 * for each family; a piece at a time, with references and without its lock, so that however slow
 * the reader is nothing waits for him. What changes meanwhile may be there or not. */

#define PIECE_BYTES (16u * 1024)
#define LINE_ROOM   4096u /* more than one line takes: names and keys are bounded */
#define CHUNK       128u

typedef cm_status (*write_fn)(void *user, struct cm_span text, struct cm_err *err);

struct sheet {
    struct cm_config *cfg;
    write_fn write;
    void *user;
    struct cm_buf piece;
    cm_status rc; /* the first failure: nothing is added after it */
    struct cm_err *err;
};

static void flush(struct sheet *s)
{
    if (s->rc == CM_OK && s->piece.len > 0)
        s->rc = s->write(s->user, cm_buf_span(&s->piece), s->err);
    cm_buf_reset(&s->piece);
}

static void put(struct sheet *s, const char *text)
{
    if (s->rc == CM_OK)
        s->rc = cm_buf_puts(&s->piece, text, s->err);
}

/* Between two lines. */
static void end_line(struct sheet *s)
{
    put(s, "\n");
    if (s->piece.len > PIECE_BYTES - LINE_ROOM)
        flush(s);
}

static void family(struct sheet *s, const char *name, const char *type, const char *help)
{
    if (s->rc == CM_OK)
        s->rc =
            cm_buf_printf(&s->piece, s->err, "# HELP %s %s\n# TYPE %s %s", name, help, name, type);
    end_line(s);
}

/* In quotes, where only these three mean something. */
static void put_label(struct sheet *s, const char *key, const char *value, bool first)
{
    put(s, first ? "{" : ",");
    put(s, key);
    put(s, "=\"");
    while (*value != '\0' && s->rc == CM_OK) {
        size_t plain = strcspn(value, "\\\"\n");

        s->rc = cm_buf_append(&s->piece, value, plain, s->err);
        value += plain;
        if (*value != '\0')
            put(s, *value == '\\' ? "\\\\" : *value == '"' ? "\\\"" : "\\n");
        value += *value != '\0';
    }
    put(s, "\"");
}

static void put_value(struct sheet *s, int64_t value)
{
    if (s->rc == CM_OK)
        s->rc = cm_buf_printf(&s->piece, s->err, " %" PRId64, value);
    end_line(s);
}

/* One sample with at most two labels; @key NULL ends them. */
static void sample(struct sheet *s, const char *name, const char *key, const char *value,
                   const char *key2, const char *value2, uint64_t n)
{
    put(s, name);
    if (key != NULL)
        put_label(s, key, value, true);
    if (key2 != NULL)
        put_label(s, key2, value2, false);
    if (key != NULL)
        put(s, "}");
    put_value(s, n > INT64_MAX ? INT64_MAX : (int64_t)n);
}

/* ---- one value of each certificate and name ---- */

struct per_cert {
    const char *name;
    const char *help;
    /* False: it has none. */
    bool (*value)(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret);
};

static bool not_after(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret)
{
    (void)cfg;
    *ret = cm_cert_not_after_s(cert);
    return true;
}

static bool not_before(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret)
{
    (void)cfg;
    *ret = cm_cert_not_before_s(cert);
    return true;
}

static bool renew_at(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret)
{
    *ret = cm_cert_renew_at_s(cert, cfg);
    return cm_cert_is_managed(cert);
}

static bool managed(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret)
{
    (void)cfg;
    *ret = cm_cert_is_managed(cert);
    return true;
}

static bool staple_age(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret)
{
    struct cm_staple *staple = cm_cert_staple(cert);

    if (staple == NULL)
        return false;
    *ret = cm_env_wall_s(cfg->env) - staple->this_update_s;
    cm_staple_unref(staple);
    return true;
}

static bool staple_end(const struct cm_config *cfg, const struct cm_cert *cert, int64_t *ret)
{
    struct cm_staple *staple = cm_cert_staple(cert);

    (void)cfg;
    if (staple == NULL)
        return false;
    *ret = cm_staple_end_s(staple);
    cm_staple_unref(staple);
    return true;
}

static const struct per_cert per_cert[] = {
    { "certmesh_certificate_not_after_seconds",
      "End of validity of a served certificate, in seconds since 1970.", not_after },
    { "certmesh_certificate_not_before_seconds",
      "Beginning of validity of a served certificate, in seconds since 1970.", not_before },
    { "certmesh_certificate_renew_at_seconds",
      "When a managed certificate is due for renewal by its lifetime, in seconds since 1970.",
      renew_at },
    { "certmesh_certificate_managed",
      "1 for a certificate that certmesh renews, 0 for one of the program's own.", managed },
    { "certmesh_staple_age_seconds",
      "How long ago the responder made the OCSP response that is stapled.", staple_age },
    { "certmesh_staple_next_update_seconds",
      "Until when the stapled OCSP response may be used, in seconds since 1970.", staple_end },
};

/* The serial tells certificates of the same name apart: keys of two types, an old one and its
 * successor. Without it there would be two samples with the same labels. */
static void certificate(struct sheet *s, const struct per_cert *f, const struct cm_cert *cert)
{
    const char *issuer = cm_cert_is_managed(cert) ? cm_cert_issuer_key(cert) : NULL;
    int64_t value;

    if (!f->value(s->cfg, cert, &value))
        return;
    for (size_t i = 0; i < cm_cert_name_count(cert); i++) {
        put(s, f->name);
        put_label(s, "name", cm_cert_name(cert, i), true);
        put_label(s, "issuer", issuer != NULL ? issuer : cm_cert_issuer_cn(cert), false);
        put_label(s, "serial", cm_cert_serial(cert), false);
        put(s, "}");
        put_value(s, value);
    }
}

/* A program may have put in the same certificate of its own twice: one of them speaks. */
static bool is_spoken_for(const struct sheet *s, const struct cm_cert *cert)
{
    struct cm_cert *same[CM_CANDIDATES_MAX];
    const char *name = cm_cert_name(cert, 0);
    bool spoken_for = false;
    size_t n;

    if (cm_cert_is_managed(cert))
        return false; /* the cache sees to it */
    n = cm_cache_find(s->cfg->cache, name, strlen(name), same);
    for (size_t i = 0; i < n; i++) {
        spoken_for = spoken_for || (!cm_cert_is_managed(same[i]) && same[i] < cert &&
                                    cm_cert_same_leaf(same[i], cert));
        cm_cert_unref(same[i]);
    }
    return spoken_for;
}

static void certificates(struct sheet *s, const struct per_cert *f)
{
    struct cm_cert *some[CHUNK];
    struct cm_cache_walk walk = { 0 };
    size_t n;

    family(s, f->name, "gauge", f->help);
    do {
        n = cm_cache_some(s->cfg->cache, &walk, some, CHUNK);
        for (size_t i = 0; i < n; i++) {
            if (!is_spoken_for(s, some[i]))
                certificate(s, f, some[i]);
            cm_cert_unref(some[i]);
        }
    } while (n > 0 && s->rc == CM_OK);
}

/* ---- managed names ---- */

static const char *const states[CM_NAME_STATES] = {
    [CM_NAME_SERVED] = "served",
    [CM_NAME_WAITING] = "waiting",
    [CM_NAME_FAILING] = "failing",
};

static void names(struct sheet *s)
{
    struct cm_name_failing failing[CHUNK];
    struct cm_names_walk walk = { 0 };
    size_t n;

    family(s, "certmesh_name_failing", "gauge",
           "Failures in a row of a managed name whose last attempt failed, served or not.");
    do {
        n = cm_names_failing(s->cfg->names, &walk, failing, CHUNK);
        for (size_t i = 0; i < n; i++)
            sample(s, "certmesh_name_failing", "name", failing[i].name, NULL, NULL,
                   failing[i].attempts);
    } while (!walk.done && s->rc == CM_OK);
    family(s, "certmesh_names", "gauge", "Managed names by state.");
    for (size_t i = 0; i < CM_NAME_STATES; i++)
        sample(s, "certmesh_names", "state", states[i], NULL, NULL, walk.count[i]);
}

/* ---- counters ---- */

/* Counters that are one family stand one after the other. */
static const struct counted {
    enum cm_counter counter;
    const char *family;
    const char *help; /* of the family, with its first member */
    const char *outcome;
    const char *class; /* NULL = the family has no such label */
} counted[] = {
    { CM_COUNT_OBTAINED, "certmesh_renewals_total",
      "Attempts to get a certificate, by outcome and by whose matter a failure was.", "obtained",
      "" },
    { CM_COUNT_RENEWED, "certmesh_renewals_total", NULL, "renewed", "" },
    { CM_COUNT_RELOADED, "certmesh_renewals_total", NULL, "reloaded", "" },
    { CM_COUNT_POSTPONED, "certmesh_renewals_total", NULL, "postponed", "" },
    { CM_COUNT_FAILED_NET, "certmesh_renewals_total", NULL, "failed", "network" },
    { CM_COUNT_FAILED_CA, "certmesh_renewals_total", NULL, "failed", "ca" },
    { CM_COUNT_FAILED_RATE, "certmesh_renewals_total", NULL, "failed", "rate_limit" },
    { CM_COUNT_FAILED_STORAGE, "certmesh_renewals_total", NULL, "failed", "storage" },
    { CM_COUNT_FAILED_OTHER, "certmesh_renewals_total", NULL, "failed", "other" },
    { CM_COUNT_STAPLE_FETCHED, "certmesh_staples_total",
      "OCSP staples: from the responder, from storage, not to be had.", "fetched", NULL },
    { CM_COUNT_STAPLE_LOADED, "certmesh_staples_total", NULL, "loaded", NULL },
    { CM_COUNT_STAPLE_FAILED, "certmesh_staples_total", NULL, "failed", NULL },
    { CM_COUNT_ARI_ASKED, "certmesh_renewal_info_total",
      "Questions to CAs when to renew, and how many of them failed.", "asked", NULL },
    { CM_COUNT_ARI_FAILED, "certmesh_renewal_info_total", NULL, "failed", NULL },
    { CM_COUNT_CRL_FETCHED, "certmesh_crls_total", "Revocation lists: fetched, not to be had.",
      "fetched", NULL },
    { CM_COUNT_CRL_FAILED, "certmesh_crls_total", NULL, "failed", NULL },
    { CM_COUNT_REVOKED, "certmesh_revoked_total", "Served certificates found revoked.", NULL,
      NULL },
    { CM_COUNT_LOCK_LOST, "certmesh_locks_lost_total",
      "Locks that slipped away while they were held.", NULL, NULL },
    { CM_COUNT_ONDEMAND_ALLOWED, "certmesh_ondemand_total",
      "Names on demand: allowed, denied; hellos: refused without a question, over a limit.",
      "allowed", NULL },
    { CM_COUNT_ONDEMAND_DENIED, "certmesh_ondemand_total", NULL, "denied", NULL },
    { CM_COUNT_ONDEMAND_REFUSED, "certmesh_ondemand_total", NULL, "refused", NULL },
    { CM_COUNT_ONDEMAND_LIMITED, "certmesh_ondemand_total", NULL, "limited", NULL },
};

static void counters(struct sheet *s)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(counted); i++) {
        const struct counted *c = &counted[i];

        if (c->counter >= CM_COUNT_ONDEMAND_ALLOWED && s->cfg->ondemand == NULL)
            continue;
        if (c->help != NULL)
            family(s, c->family, "counter", c->help);
        sample(s, c->family, c->outcome != NULL ? "outcome" : NULL, c->outcome,
               c->class != NULL ? "class" : NULL, c->class,
               atomic_load_explicit(&s->cfg->counters->n[c->counter], memory_order_relaxed));
    }
}

/* ---- the rest ---- */

static void lock_wait(struct sheet *s)
{
    struct cm_counters *c = s->cfg->counters;
    uint64_t sum = 0;
    char text[64];

    family(s, "certmesh_lock_wait_seconds", "histogram",
           "How long it took to get the lock of a name.");
    for (size_t i = 0; i <= CM_LOCK_WAIT_BUCKETS; i++) {
        sum += atomic_load_explicit(&c->lock_wait[i], memory_order_relaxed);
        if (i < CM_LOCK_WAIT_BUCKETS)
            (void)snprintf(text, sizeof text, "%g",
                           (double)cm_lock_wait_bounds_ns[i] / (double)CM_NS_PER_S);
        sample(s, "certmesh_lock_wait_seconds_bucket", "le",
               i < CM_LOCK_WAIT_BUCKETS ? text : "+Inf", NULL, NULL, sum);
    }
    uint64_t ns = atomic_load_explicit(&c->lock_wait_ns, memory_order_relaxed);
    (void)snprintf(text, sizeof text, "certmesh_lock_wait_seconds_sum %" PRIu64 ".%09" PRIu64,
                   ns / (uint64_t)CM_NS_PER_S, ns % (uint64_t)CM_NS_PER_S);
    put(s, text);
    end_line(s);
    sample(s, "certmesh_lock_wait_seconds_count", NULL, NULL, NULL, NULL, sum);
}

static void queues(struct sheet *s)
{
    const struct {
        const char *name;
        struct cm_runq *q;
    } all[] = { { "issue", s->cfg->jobs },
                { "storage", s->cfg->io },
                { "fetch", s->cfg->fetch },
                { "check", s->cfg->idle } };
    size_t in_line = s->cfg->pump != NULL ? cm_pump_length(s->cfg->pump) : 0;

    family(s, "certmesh_queue_length", "gauge", "Work that no worker has begun yet.");
    for (size_t i = 0; i < CM_ARRAY_LEN(all); i++)
        if (all[i].q != NULL)
            sample(s, "certmesh_queue_length", "queue", all[i].name, NULL, NULL,
                   cm_runq_length(all[i].q));
    sample(s, "certmesh_queue_length", "queue", "order", NULL, NULL, in_line);
}

static void general(struct sheet *s)
{
    family(s, "certmesh_info", "gauge", "The version of certmesh.");
    sample(s, "certmesh_info", "version", cm_version(), NULL, NULL, 1);
    family(s, "certmesh_storage_up", "gauge", "0 while the storage does not work.");
    sample(s, "certmesh_storage_up", NULL, NULL, NULL, NULL, !cm_health_is_down(s->cfg));
    if (cm_peers_feed(s->cfg) != CM_FEED_UNKNOWN) {
        family(s, "certmesh_storage_feed", "gauge",
               "0 while the storage does not tell of what other nodes change.");
        sample(s, "certmesh_storage_feed", NULL, NULL, NULL, NULL,
               cm_peers_feed(s->cfg) == CM_FEED_STANDS);
    }
    family(s, "certmesh_certificates", "gauge", "Certificates in the cache.");
    sample(s, "certmesh_certificates", NULL, NULL, NULL, NULL, cm_cache_count(s->cfg->cache));
}

cm_status cm_metrics_write(struct cm_config *cfg, write_fn write, void *user, struct cm_err *err)
{
    struct sheet s = {
        .cfg = cfg, .write = write, .user = user, .piece = CM_BUF_INIT(2 * PIECE_BYTES), .err = err
    };

    if (cfg == NULL || write == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or nowhere to write its metrics");
    general(&s);
    for (size_t i = 0; i < CM_ARRAY_LEN(per_cert); i++)
        certificates(&s, &per_cert[i]);
    names(&s);
    counters(&s);
    lock_wait(&s);
    queues(&s);
    flush(&s);
    cm_buf_free(&s.piece);
    return s.rc;
}
