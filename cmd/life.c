/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* What the options about the life of certificates come to as options of a config. */

struct cm_acme_options cli_acme_at(const struct cm_acme_options *first, const char *ca)
{
    struct cm_acme_options o = *first;

    o.directory_url = cli_ca_resolve(ca);
    o.eab_kid = o.eab_mac_key = o.eab_alg = NULL;
    o.account_key_file = o.profile = o.preferred_chain = NULL;
    return o;
}

static cm_status add_fallback(const struct cli *c, const struct cm_acme_options *first,
                              const char *ca, struct cli_life *life, struct cm_err *err)
{
    struct cm_acme_options o = cli_acme_at(first, ca);
    struct cm_acme_extra extra;

    cli_fill_extra(c, true, &extra);
    o.extra = &extra;
    cm_status rc = cm_acme_issuer_new(&o, &life->issuers[life->n_issuers], err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "--fallback-ca %.200s", ca);
    life->n_issuers++;
    return CM_OK;
}

static cm_status new_zerossl(const struct cli *c, struct cm_issuer **ret, struct cm_err *err)
{
    const struct cm_zerossl_options zo = {
        .size = (uint32_t)sizeof zo,
        .access_key_file = c->o.zerossl_key_file,
        .api_url = c->o.ca,
        .ca_root_file = c->o.ca_root,
        .obtain_timeout_s = c->o.timeout_s,
    };

    return cm_zerossl_issuer_new(&zo, ret, err);
}

static cm_status fill_issuers(const struct cli *c, struct cm_config_options *o,
                              struct cli_life *life, struct cm_err *err)
{
    bool zerossl = c->o.zerossl_key_file != NULL;

    if (c->o.fallback_cas.n == 0 && !zerossl)
        return CM_OK;
    cm_status rc = zerossl ? new_zerossl(c, &life->issuers[0], err)
                           : cm_acme_issuer_new(&o->acme, &life->issuers[0], err);
    if (rc != CM_OK)
        return rc;
    life->n_issuers = 1;
    for (size_t i = 0; rc == CM_OK && i < c->o.fallback_cas.n; i++)
        rc = add_fallback(c, &o->acme, c->o.fallback_cas.at[i], life, err);
    o->issuers = life->issuers;
    o->n_issuers = life->n_issuers;
    o->issuer_policy = c->o.ca_random ? CM_ISSUERS_RANDOM : CM_ISSUERS_IN_ORDER;
    return rc;
}

static cm_status fill_responders(const struct cli *c, struct cm_config_options *o,
                                 struct cli_life *life, struct cm_err *err)
{
    for (size_t i = 0; i < c->o.responders.n; i++) {
        char *text = strdup(c->o.responders.at[i]);

        if (text == NULL)
            return cm_fail(err, CM_E_NOMEM, "out of memory");
        life->texts[life->n_overrides] = text;
        char *to = strchr(text, '=');
        *to++ = '\0';
        life->overrides[life->n_overrides++] = (struct cm_ocsp_override){ text, to };
    }
    o->ocsp_overrides = life->overrides;
    o->n_ocsp_overrides = life->n_overrides;
    return CM_OK;
}

static const struct cm_ondemand_options *fill_on_demand(const struct cli *c, struct cli_life *life)
{
    struct cm_ondemand_options *o = &life->on_demand;

    *o = (struct cm_ondemand_options)CM_ONDEMAND_OPTIONS_INIT;
    o->ask_url = c->o.ask;
    o->names = c->o.allow.at;
    o->n_names = c->o.allow.n;
    o->suffixes = c->o.allow_suffixes.at;
    o->n_suffixes = c->o.allow_suffixes.n;
    o->recheck_s = c->o.recheck_s;
    o->orders = (unsigned)c->o.demand_rate.events;
    o->orders_window_s = c->o.demand_rate.window_ms / 1000;
    if (o->orders > 0) /* a client may have a tenth of it, as by default */
        o->orders_per_client = o->orders < 10 ? 1 : o->orders / 10;
    return o;
}

cm_status cli_life_fill(const struct cli *c, struct cm_config_options *o, struct cli_life *life,
                        struct cm_err *err)
{
    o->must_staple = c->o.must_staple;
    o->renew_before_s = c->o.renew_before_s;
    o->disable_ocsp = c->o.no_ocsp;
    o->disable_crl = c->o.no_crl;
    o->fetch_local = c->o.fetch_local;
    /* Who serves files alone has nothing to do with what lies in the default place. */
    bool issues = c->n_names > 0 || c->o.on_demand;
    o->clean_storage = c->command->bit == CLI_SERVE && issues && !c->o.no_clean;
    o->snapshot = c->o.snapshot;
    o->snapshot_key_file = c->o.snapshot_key_file;
    bool at_home = !issues && c->o.storage == NULL && c->o.root == NULL;
    o->private_tickets = c->o.no_shared_tickets || at_home;
    o->announce = c->command->bit == CLI_SERVE && !c->o.no_announce && !at_home;
    o->node_name = c->o.node_name;
    o->ticket_rotation_s = c->o.ticket_rotation_s;
    o->poll_storage_s = c->o.poll_storage_s;
    if (c->o.on_demand)
        o->on_demand = fill_on_demand(c, life);
    cm_status rc = cli_extra_fill(c, o, life, err);
    if (rc == CM_OK)
        rc = fill_responders(c, o, life, err);
    return rc == CM_OK ? fill_issuers(c, o, life, err) : rc;
}

void cli_life_end(struct cli_life *life, bool taken)
{
    for (size_t i = 0; !taken && i < life->n_issuers; i++)
        cm_issuer_destroy(life->issuers[i]);
    for (size_t i = 0; i < life->n_overrides; i++)
        free(life->texts[i]);
    cli_extra_end(life);
}
