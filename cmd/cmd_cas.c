/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdio.h>
#include <string.h>

/* What --ca takes instead of the URL, NULL = nothing. */
static const char *short_name(const struct cm_ca_info *ca)
{
    static const char *const names[] = { "letsencrypt", "letsencrypt-staging" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(cli_ca_resolve(names[i]), ca->directory_url) == 0)
            return names[i];
    return NULL;
}

static void words(struct cli_json *j, const char *key, const char *list)
{
    char word[64];

    cli_json_open(j, key, '[');
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ",");

        (void)snprintf(word, sizeof word, "%.*s", (int)n, list);
        cli_json_text(j, NULL, word);
        list += list[n] == ',' ? n + 1 : n;
    }
    cli_json_close(j, ']');
}

static void print_json(void)
{
    struct cli_json j;
    const struct cm_ca_info *ca;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_open(&j, "cas", '[');
    for (size_t i = 0; (ca = cm_ca_at(i)) != NULL; i++) {
        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "name", ca->name);
        cli_json_text(&j, "ca", short_name(ca));
        cli_json_text(&j, "directory", ca->directory_url);
        cli_json_bool(&j, "usable", ca->gone == NULL);
        cli_json_text(&j, "ended", ca->gone);
        cli_json_bool(&j, "binding", ca->eab_where != NULL);
        cli_json_text(&j, "binding_from", ca->eab_where);
        cli_json_bool(&j, "addresses", ca->addresses);
        cli_json_text(&j, "address_profile", ca->address_profile);
        cli_json_bool(&j, "wildcards", ca->wildcards);
        words(&j, "profiles", ca->profiles);
        cli_json_bool(&j, "suggests_renewal", ca->suggests_renewal);
        cli_json_bool(&j, "refuses_must_staple", ca->refuses_must_staple);
        cli_json_int(&j, "names_max", (int64_t)ca->names_max);
        cli_json_int(&j, "orders", (int64_t)ca->orders);
        cli_json_int(&j, "orders_window_s", ca->window_s);
        cli_json_text(&j, "remark", ca->remark);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

static const char *yes(bool is)
{
    return is ? "yes" : "no";
}

static void add_row(struct cli_table *t, const struct cm_ca_info *ca)
{
    char note[640], orders[64] = "not published";
    const char *cells[6] = { ca->name,
                             yes(ca->eab_where != NULL),
                             ca->address_profile != NULL ? ca->address_profile : yes(ca->addresses),
                             yes(ca->wildcards),
                             orders,
                             ca->profiles != NULL ? ca->profiles : "-" };

    if (ca->orders > 0)
        (void)snprintf(orders, sizeof orders, "%zu in %lld h", ca->orders,
                       (long long)(ca->window_s / 3600));
    if (ca->gone != NULL) {
        (void)snprintf(note, sizeof note, "issues no certificates since %s", ca->gone);
        for (size_t i = 1; i < sizeof cells / sizeof cells[0]; i++)
            cells[i] = "-";
    } else {
        (void)snprintf(note, sizeof note, "--ca %s%s%s%s%s",
                       short_name(ca) != NULL ? short_name(ca) : ca->directory_url,
                       ca->eab_where != NULL ? "\n  binding: " : "",
                       ca->eab_where != NULL ? ca->eab_where : "", ca->remark != NULL ? "\n  " : "",
                       ca->remark != NULL ? ca->remark : "");
    }
    cli_table_row(t, cells, note);
}

int cli_run_cas(struct cli *c)
{
    static const char *const heads[] = { "CA",        "BINDING",    "ADDRESSES",
                                         "WILDCARDS", "NEW ORDERS", "PROFILES" };
    const struct cm_ca_info *ca;
    struct cli_table t;

    if (c->o.json) {
        print_json();
        return CLI_OK;
    }
    cli_table_start(&t, heads, sizeof heads / sizeof heads[0]);
    for (size_t i = 0; (ca = cm_ca_at(i)) != NULL; i++)
        add_row(&t, ca);
    cli_table_print(&t, stdout, cli_width(stdout));
    return CLI_OK;
}
