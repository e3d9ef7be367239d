/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"
#include "ondemand.h"
#include "staple.h"

#include <string.h>

#define DEFAULT_WAIT_MS  8000
#define DEFAULT_PARALLEL 10u
#define FETCH_WORKERS    4u
#define PROBES           4096u

static const char default_priority[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE";

/* ---- checking what was asked for ---- */

static cm_status read_options(const struct cm_config_options *given, struct cm_config_options *ret,
                              struct cm_err *err)
{
    if (given == NULL)
        return cm_fail(err, CM_E_INVAL, "no options given");
    if (given->size < offsetof(struct cm_config_options, cache) || given->size > 64u * 1024)
        return cm_fail(err, CM_E_INVAL, "options.size is %u: begin with CM_CONFIG_OPTIONS_INIT",
                       given->size);
    memset(ret, 0, sizeof *ret);
    memcpy(ret, given, given->size < sizeof *ret ? given->size : sizeof *ret);
    return CM_OK;
}

static cm_status one_name(const char *given, const char *option, char ret[CM_NAME_BUF],
                          bool *ret_set, struct cm_err *err)
{
    if (given == NULL || given[0] == '\0')
        return CM_OK;
    cm_status rc = cm_name_normalize(given, CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE, ret, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "option %s", option);
    *ret_set = true;
    return CM_OK;
}

static cm_status take_extra(struct cm_config *cfg, const struct cm_config_extra *given,
                            struct cm_err *err)
{
    struct cm_config_extra x = { .size = 0 };
    cm_status rc = CM_OK;

    if (given != NULL && (given->size < sizeof given->size || given->size > 64u * 1024))
        return cm_fail(err, CM_E_INVAL, "cm_config_extra: size is not set");
    if (given != NULL)
        memcpy(&x, given, given->size < sizeof x ? given->size : sizeof x);
    cfg->alt_http_port = x.alt_http_port != 0 ? x.alt_http_port : cfg->http_port;
    cfg->alt_tls_port = x.alt_tls_port != 0 ? x.alt_tls_port : cfg->tls_port;
    if (x.n_csr_extensions > CM_CSR_EXTENSIONS_MAX ||
        (x.n_csr_extensions > 0 && x.csr_extensions == NULL))
        return cm_fail(err, CM_E_INVAL, "option csr_extensions: %zu entries, at most %u",
                       x.n_csr_extensions, CM_CSR_EXTENSIONS_MAX);
    for (size_t i = 0; rc == CM_OK && i < x.n_csr_extensions; i++) {
        const struct cm_csr_extension *e = &x.csr_extensions[i];

        rc = cm_csr_ext_add(e->oid, e->critical, e->value, &cfg->csr_exts, err);
    }
    return rc == CM_OK ? rc : cm_wrap(err, rc, "option csr_extensions");
}

static cm_status take_options(struct cm_config *cfg, const struct cm_config_options *o,
                              struct cm_err *err)
{
    int64_t wait_ms = o->handshake_wait_ms != 0 ? o->handshake_wait_ms : DEFAULT_WAIT_MS;

    if (cm_key_type_name(o->key_type) == NULL)
        return cm_fail(err, CM_E_INVAL, "option key_type: keys of type %d cannot be made",
                       (int)o->key_type);
    if (!(o->renew_ratio >= 0 && o->renew_ratio < 1))
        return cm_fail(err, CM_E_INVAL, "option renew_ratio: %g is not between 0 and 1",
                       o->renew_ratio);
    if (o->max_parallel > 1000)
        return cm_fail(err, CM_E_INVAL, "option max_parallel: %u, at most 1000", o->max_parallel);
    if (wait_ms > INT64_C(3600000))
        return cm_fail(err, CM_E_INVAL, "option handshake_wait_ms: more than an hour");
    if (o->ticket_rotation_s != 0 &&
        (o->ticket_rotation_s < 60 || o->ticket_rotation_s > 7 * 24 * 3600))
        return cm_fail(err, CM_E_INVAL,
                       "option ticket_rotation_s: %lld is not between a minute and a week",
                       (long long)o->ticket_rotation_s);
    cm_status rc =
        one_name(o->default_name, "default_name", cfg->default_name, &cfg->default_name_set, err);
    if (rc == CM_OK)
        rc = one_name(o->fallback_name, "fallback_name", cfg->fallback_name,
                      &cfg->fallback_name_set, err);
    if (rc != CM_OK)
        return rc;
    cfg->listen_host = cm_strdup(o->listen_host);
    cfg->priority = cm_strdup(o->priority != NULL ? o->priority : default_priority);
    if (cfg->priority == NULL || (o->listen_host != NULL && cfg->listen_host == NULL))
        return cm_fail_nomem(err);
    cfg->key_type = o->key_type == CM_KEY_DEFAULT ? CM_PK_P256 : (enum cm_pk)o->key_type;
    cfg->reuse_key = o->reuse_key;
    cfg->must_staple = o->must_staple;
    cfg->disable_tickets = o->disable_tickets;
    cfg->http_port = o->http_port != 0 ? o->http_port : 80;
    cfg->tls_port = o->tls_port != 0 ? o->tls_port : 443;
    cfg->handshake_wait_ns = wait_ms > 0 ? wait_ms * CM_NS_PER_MS : 0;
    cfg->renew_ratio = o->renew_ratio;
    cfg->select = o->select;
    cfg->select_user = o->select_user;
    cfg->on_progress = o->on_progress;
    cfg->progress_user = o->progress_user;
    cfg->renew_before_s = o->renew_before_s;
    cfg->issuer_policy = o->issuer_policy;
    cfg->on_event = o->on_event;
    cfg->event_user = o->event_user;
    cfg->key_source = o->key_source;
    cfg->fetcher = o->fetcher;
    cfg->disable_ocsp = o->disable_ocsp;
    cfg->disable_crl = o->disable_crl;
    cfg->fetch_local = o->fetch_local;
    cfg->clean_storage = o->clean_storage;
    cfg->clean_interval_s = o->clean_interval_s;
    cfg->clean_grace_s = o->clean_grace_s;
    rc = take_extra(cfg, o->extra, err);
    if (rc != CM_OK)
        return rc;
    return cm_ocsp_overrides_take(cfg, o->ocsp_overrides, o->n_ocsp_overrides, err);
}

/* ---- putting it together ---- */

static cm_status set_up_storage(struct cm_config *cfg, const struct cm_config_options *o,
                                struct cm_err *err)
{
    struct cm_storage_open_options so = CM_STORAGE_OPEN_OPTIONS_INIT;
    struct cm_cache_options co = { .size = (uint32_t)sizeof co };
    cm_status rc = CM_OK;

    if (o->storage_object != NULL) {
        if (o->storage != NULL)
            return cm_fail(err, CM_E_INVAL,
                           "options storage and storage_object exclude each other");
        cfg->storage = o->storage_object;
    } else {
        so.env = cfg->env;
        so.log = cfg->log;
        rc = cm_storage_open(o->storage, &so, &cfg->storage, err);
        cfg->owns_storage = rc == CM_OK;
    }
    if (rc != CM_OK)
        return rc;
    cfg->cache = o->cache;
    if (cfg->cache == NULL) {
        rc = cm_cache_new(&co, &cfg->cache, err);
        cfg->owns_cache = rc == CM_OK;
    }
    if (rc == CM_OK)
        cm_audience_join(cm_cache_audience(cfg->cache), &cfg->listening, cfg);
    return rc;
}

static cm_status set_up_workers(struct cm_config *cfg, unsigned max_parallel, struct cm_err *err)
{
    unsigned parallel = max_parallel > 0 ? max_parallel : DEFAULT_PARALLEL;
    cm_status rc = cm_cancel_new(NULL, &cfg->stop, err);

    if (rc == CM_OK)
        rc = cm_cancel_new(NULL, &cfg->stop_answers, err);
    if (rc == CM_OK)
        rc = cm_runq_new(CM_IO_WORKERS, &cfg->io, err);
    if (rc == CM_OK)
        rc = cm_runq_new(FETCH_WORKERS, &cfg->fetch, err);
    if (rc == CM_OK) /* the pump sees to the limit */
        rc = cm_runq_new(4 * parallel, &cfg->jobs, err);
    if (rc == CM_OK)
        rc = cm_pump_new(cfg, parallel, &cfg->pump, err);
    if (rc == CM_OK)
        rc = cm_runq_new(1, &cfg->idle, err);
    if (rc == CM_OK)
        rc = cm_names_new(cfg->stop, &cfg->names, err);
    if (rc == CM_OK)
        rc = cm_flights_new(&cfg->flights, err);
    if (rc == CM_OK)
        rc = cm_hub_new(&cfg->hub, err);
    if (rc == CM_OK)
        rc = cm_lookups_new(&cfg->lookups, err);
    if (rc == CM_OK)
        rc = cm_probes_new(cfg->env, PROBES, &cfg->probes, err);
    if (rc == CM_OK)
        rc = cm_revoked_new(&cfg->revoked, err);
    if (rc == CM_OK)
        rc = cm_board_new_env(cfg->env, &cfg->board, err);
    if (rc == CM_OK)
        rc = cm_health_new(&cfg->health, err);
    if (rc == CM_OK) {
        cfg->counters = cm_calloc(1, sizeof *cfg->counters);
        rc = cfg->counters != NULL ? CM_OK : cm_fail_nomem(err);
    }
    if (rc == CM_OK)
        rc = cm_responders_new(cfg->env, &cfg->responders, err);
    return rc;
}

static cm_status check_issuer(struct cm_config *cfg, size_t i, struct cm_err *err)
{
    const char *key = cm_issuer_key(cfg->issuers[i]);
    char path[CM_KEY_BUF];

    for (size_t k = 0; k < i; k++)
        if (strcmp(cm_issuer_key(cfg->issuers[k]), key) == 0)
            return cm_fail(err, CM_E_INVAL, "two issuers with the same key '%s'", key);
    return cm_path_cert(key, "x", NULL, path, err);
}

static cm_status set_up_issuers(struct cm_config *cfg, const struct cm_config_options *o,
                                struct cm_err *err)
{
    struct cm_internal_options io = { .size = (uint32_t)sizeof io };
    cm_status rc = CM_OK;

    if (o->issuers != NULL) {
        if (o->n_issuers == 0 || o->n_issuers > CM_ISSUERS_MAX)
            return cm_fail(err, CM_E_INVAL, "option issuers: %zu, but 1 to %u are possible",
                           o->n_issuers, CM_ISSUERS_MAX);
        for (size_t i = 0; i < o->n_issuers; i++)
            if (o->issuers[i] == NULL)
                return cm_fail(err, CM_E_INVAL, "option issuers: number %zu is NULL", i + 1);
        memcpy(cfg->issuers, o->issuers, o->n_issuers * sizeof cfg->issuers[0]);
        cfg->n_issuers = o->n_issuers;
    } else {
        rc = o->internal ? cm_internal_issuer_new(&io, &cfg->issuers[0], err)
                         : cm_acme_issuer_new(&o->acme, &cfg->issuers[0], err);
        cfg->n_issuers = rc == CM_OK ? 1 : 0;
    }
    cfg->host = (struct cm_issuer_host){ .size = (uint32_t)sizeof cfg->host,
                                         .storage = cfg->storage,
                                         .board = cfg->board,
                                         .env = cfg->env,
                                         .log = cfg->log,
                                         .listen_host = cfg->listen_host,
                                         .http_port = cfg->alt_http_port,
                                         .tls_port = cfg->alt_tls_port,
                                         .config = cfg };
    for (size_t i = 0; rc == CM_OK && i < cfg->n_issuers; i++) {
        rc = cm_issuer_attach(cfg->issuers[i], &cfg->host, err);
        if (rc == CM_OK)
            rc = check_issuer(cfg, i, err);
    }
    if (rc == CM_OK)
        rc = cm_peers_new(cfg, &cfg->peers, err);
    return rc == CM_OK ? cm_ca_gates_new(cfg, &cfg->gates, err) : rc;
}

/* Each order would fail, and again at each renewal: better said at the start. */
static void warn_of_must_staple(struct cm_config *cfg)
{
    struct cm_issuer_limits limits;

    for (size_t i = 0; cfg->must_staple && i < cfg->n_issuers; i++) {
        cm_issuer_get_limits(cfg->issuers[i], &limits);
        if (limits.refuses_must_staple)
            cm_logf(
                &cfg->log, CM_LOG_WARN, "must_staple_refused", NULL, 0,
                "the CA '%s' is known to refuse certificates with must-staple: leave the option "
                "must_staple out for it",
                cm_issuer_key(cfg->issuers[i]));
    }
}

/* The built-in one costs nothing before it is used. */
static cm_status set_up_fetcher(struct cm_config *cfg, struct cm_err *err)
{
    const struct cm_http_fetcher_options fo = { .size = (uint32_t)sizeof fo,
                                                .allow_local = cfg->fetch_local,
                                                .log = cfg->log };

    if (cfg->fetcher != NULL || (cfg->disable_ocsp && cfg->disable_crl))
        return CM_OK;
    cm_status rc = cm_http_fetcher_new(&fo, &cfg->fetcher, err);
    cfg->owns_fetcher = rc == CM_OK;
    return rc;
}

/* The last thing: from here on the cache's maintenance, and whoever stops it, work with the config.
 */
static cm_status join_maintenance(struct cm_config *cfg, const struct cm_config_options *o,
                                  struct cm_err *err)
{
    struct cm_maint *mt = cm_cache_maint(cfg->cache);

    cm_status rc = cm_maint_room(mt, 3, err); /* the pump's, both of the peers' */
    if (rc == CM_OK)
        rc = cm_maint_attach(mt, cfg, err);
    if (rc == CM_OK)
        rc = cm_rounds_new(cfg, o->poll_storage_s, &cfg->rounds, err);
    if (rc == CM_OK)
        rc = cm_crl_news_new(cfg, &cfg->crl_news, err);
    if (rc == CM_OK && cfg->clean_storage)
        rc = cm_cleaner_new(cfg, &cfg->cleaner, err);
    if (rc == CM_OK && o->snapshot != NULL && o->snapshot[0] != '\0')
        rc = cm_snapshot_new(cfg, o->snapshot, o->snapshot_key_file, &cfg->snapshot, err);
    if (rc == CM_OK)
        rc = cm_tickets_new(cfg, !o->disable_tickets && !o->private_tickets, o->ticket_rotation_s,
                            &cfg->tickets, err);
    if (rc == CM_OK && o->announce)
        rc = cm_announce_new(cfg, o->node_name, &cfg->announce, err);
    if (rc == CM_OK && o->on_demand != NULL)
        rc = cm_ondemand_new(cfg, o->on_demand, &cfg->ondemand, err);
    return rc;
}

cm_status cm_config_new(const struct cm_config_options *opts, struct cm_config **ret,
                        struct cm_err *err)
{
    struct cm_config_options o;
    struct cm_config *cfg;

    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no place for the configuration");
    cm_status rc = read_options(opts, &o, err);
    if (rc != CM_OK)
        return rc;
    cfg = cm_calloc(1, sizeof *cfg);
    if (cfg == NULL)
        return cm_fail_nomem(err);
    cfg->env = o.env != NULL ? o.env : cm_env_system();
    cfg->log = o.log;
    cfg->csr_exts = (struct cm_buf)CM_BUF_INIT(CM_CSR_EXTENSION_BYTES_MAX);
    rc = take_options(cfg, &o, err);
    if (rc == CM_OK)
        rc = set_up_storage(cfg, &o, err);
    if (rc == CM_OK)
        rc = set_up_workers(cfg, o.max_parallel, err);
    if (rc == CM_OK)
        rc = set_up_issuers(cfg, &o, err);
    if (rc == CM_OK)
        rc = set_up_fetcher(cfg, err);
    if (rc == CM_OK)
        rc = join_maintenance(cfg, &o, err);
    if (rc != CM_OK) {
        if (o.issuers != NULL)
            cfg->n_issuers = 0; /* not taken over: still the caller's */
        cm_config_free(cfg);
        return rc;
    }
    warn_of_must_staple(cfg);
    *ret = cfg;
    return CM_OK;
}

void cm_config_free(struct cm_config *cfg)
{
    if (cfg == NULL)
        return;
    cm_cancel_fire(cfg->stop);
    cm_ondemand_stop(cfg->ondemand);
    cm_peers_stop(cfg);
    if (cfg->cache != NULL) {
        cm_maint_detach(cm_cache_maint(cfg->cache), cfg);
        cm_audience_leave(cm_cache_audience(cfg->cache), &cfg->listening);
    }
    cm_pump_stop(cfg->pump, cm_managed_drop);
    cm_runq_stop(cfg->idle);
    cm_runq_stop(cfg->jobs);
    cm_runq_stop(cfg->fetch);
    /* Their ports stay open for peers a little longer, and ask all that is below. */
    for (size_t i = 0; i < cfg->n_issuers; i++)
        cm_issuer_stop(cfg->issuers[i]);
    cm_cancel_fire(cfg->stop_answers);
    cm_runq_stop(cfg->io);
    cm_runq_free(cfg->idle);
    cm_runq_free(cfg->jobs);
    cm_runq_free(cfg->fetch);
    cm_runq_free(cfg->io);
    cm_pump_free(cfg->pump);
    cm_cleaner_free(cfg->cleaner);
    cm_peers_free(cfg->peers);
    cm_rounds_free(cfg->rounds);
    cm_crl_news_free(cfg->crl_news);
    cm_snapshot_free(cfg->snapshot);
    cm_tickets_free(cfg->tickets);
    cm_announce_free(cfg->announce);
    cm_ondemand_free(cfg->ondemand);
    cm_hub_close(cfg->hub);
    cm_ca_gates_free(cfg->gates);
    for (size_t i = 0; i < cfg->n_issuers; i++)
        cm_issuer_destroy(cfg->issuers[i]);
    cm_names_free(cfg->names);
    cm_flights_free(cfg->flights);
    cm_lookups_free(cfg->lookups);
    cm_probes_free(cfg->probes);
    cm_revoked_free(cfg->revoked);
    cm_board_free(cfg->board);
    cm_responders_free(cfg->responders);
    cm_ocsp_overrides_free(cfg);
    cm_cancel_free(cfg->stop_answers);
    cm_cancel_free(cfg->stop);
    cm_health_free(cfg->health);
    free(cfg->counters);
    if (cfg->owns_fetcher)
        cm_fetcher_destroy(cfg->fetcher);
    if (cfg->owns_cache)
        cm_cache_free(cfg->cache);
    if (cfg->owns_storage)
        cm_storage_close(cfg->storage);
    cm_buf_free(&cfg->csr_exts);
    free(cfg->listen_host);
    free(cfg->priority);
    free(cfg);
}

/* ---- what it says ---- */

struct cm_storage *cm_config_storage(struct cm_config *cfg)
{
    return cfg != NULL ? cfg->storage : NULL;
}

struct cm_cache *cm_config_cache(struct cm_config *cfg)
{
    return cfg != NULL ? cfg->cache : NULL;
}

struct cm_issuer *cm_config_issuer(struct cm_config *cfg, size_t i)
{
    return cfg != NULL && i < cfg->n_issuers ? cfg->issuers[i] : NULL;
}

struct cm_issuer *cm_config_find_issuer(const struct cm_config *cfg, const char *issuer_key)
{
    for (size_t i = 0; i < cfg->n_issuers; i++)
        if (strcmp(cm_issuer_key(cfg->issuers[i]), issuer_key) == 0)
            return cfg->issuers[i];
    return NULL;
}

bool cm_config_manages(const struct cm_config *cfg, const struct cm_cert *cert)
{
    const char *key = cm_cert_issuer_key(cert);

    return cm_cert_is_managed(cert) &&
           (key == NULL || key[0] == '\0' || cm_config_find_issuer(cfg, key) != NULL);
}

const char *cm_config_priority(const struct cm_config *cfg)
{
    return cfg->priority;
}

bool cm_config_tickets(const struct cm_config *cfg)
{
    return !cfg->disable_tickets;
}

int64_t cm_config_handshake_wait_ns(const struct cm_config *cfg)
{
    return cfg->handshake_wait_ns;
}

uint16_t cm_config_http_port(const struct cm_config *cfg)
{
    return cfg->http_port;
}

uint16_t cm_config_tls_port(const struct cm_config *cfg)
{
    return cfg->tls_port;
}

const char *cm_config_listen_host(const struct cm_config *cfg)
{
    return cfg->listen_host;
}

bool cm_config_on_demand(const struct cm_config *cfg)
{
    return cfg->ondemand != NULL;
}

const struct cm_env *cm_config_env(const struct cm_config *cfg)
{
    return cfg->env;
}

const struct cm_log *cm_config_log(const struct cm_config *cfg)
{
    return &cfg->log;
}
