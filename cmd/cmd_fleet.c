/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

#define TEXT       128
#define NOTE_NAMES 3u /* that are named below a node */

struct report {
    struct cli *cli;
    struct cli_table nodes;
    struct cli_table names;
    struct cli_json json;
    size_t n_nodes;
    size_t n_names;
    size_t n_problems;
};

/* ---- tables ---- */

/* "behind: a.test, b.test, ... (12)" */
static size_t list_names(const struct cm_fleet_name *names, size_t n,
                         enum cm_fleet_name_state which, char *out, size_t size)
{
    size_t count = 0, at = 0;

    for (size_t i = 0; i < n; i++) {
        char name[256];

        if (names[i].state != which || count++ >= NOTE_NAMES || at >= size)
            continue;
        at += (size_t)snprintf(out + at, size - at, "%s%s", at > 0 ? ", " : "",
                               cli_printable(names[i].name, name, sizeof name));
    }
    if (count > NOTE_NAMES && at < size)
        (void)snprintf(out + at, size - at, " and %zu more", count - NOTE_NAMES);
    return count;
}

static void note_of(const struct cm_fleet_node *node, const struct cm_fleet_name *names, size_t n,
                    char *out, size_t size)
{
    char behind[1024] = "", missing[1024] = "";
    size_t n_behind = list_names(names, n, CM_FLEET_NAME_BEHIND, behind, sizeof behind);
    size_t n_missing = list_names(names, n, CM_FLEET_NAME_MISSING, missing, sizeof missing);

    (void)snprintf(out, size, "%s%s%s%s%s%s", n_behind > 0 ? "behind: " : "", behind,
                   n_behind > 0 && n_missing > 0 ? "; " : "", n_missing > 0 ? "missing: " : "",
                   missing, node->incomplete ? "not all of its names can be read" : "");
}

static void add_row(struct report *r, const struct cm_fleet_node *node,
                    const struct cm_fleet_name *names, size_t n)
{
    char name[TEXT * 2], host[TEXT], version[TEXT], up[TEXT] = "-", seen[TEXT] = "-", count[TEXT];
    char lags[TEXT], span[CLI_TIME_SIZE], note[2200];
    const char *const cells[] = {
        name, cm_node_state_text(node->state), host, version, up, seen, count, lags
    };

    (void)cli_printable(node->name[0] != '\0' ? node->name : node->id, name, sizeof name);
    if (node->host[0] != '\0') {
        (void)cli_printable(node->host, host, sizeof host - 16);
        (void)snprintf(host + strlen(host), sizeof host - strlen(host), " (%u)", node->pid);
    } else {
        (void)snprintf(host, sizeof host, "-");
    }
    (void)cli_printable(node->version[0] != '\0' ? node->version : "-", version, sizeof version);
    if (node->started_s > 0)
        (void)snprintf(up, sizeof up, "%s", cli_time_human(node->started_s, span));
    if (node->seen_s > 0)
        (void)snprintf(seen, sizeof seen, "%s",
                       cli_now_s() > node->seen_s ? cli_relative(node->seen_s - cli_now_s(), span)
                                                  : "now");
    (void)snprintf(count, sizeof count, "%zu", node->n_names);
    (void)snprintf(lags, sizeof lags, "%zu", node->n_behind + node->n_missing);
    note_of(node, names, n, note, sizeof note);
    cli_table_row(&r->nodes, cells, note[0] != '\0' && !r->cli->o.names ? note : NULL);
}

static void add_names(struct report *r, const struct cm_fleet_node *node,
                      const struct cm_fleet_name *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char name[TEXT * 3], at[TEXT * 2], until[TEXT] = "-", span[CLI_TIME_SIZE];
        const char *const cells[] = { name, cm_fleet_name_state_text(names[i].state), at, until,
                                      names[i].serial[0] != '\0' ? names[i].serial : "-" };

        (void)cli_printable(names[i].name, name, sizeof name);
        (void)cli_printable(node->name[0] != '\0' ? node->name : node->id, at, sizeof at);
        if (names[i].not_after_s > 0)
            (void)snprintf(until, sizeof until, "%.10s",
                           cli_time_human(names[i].not_after_s, span));
        cli_table_row(&r->names, cells, NULL);
        r->n_names++;
    }
}

/* ---- JSON: see certmesh(1) ---- */

static void add_object(struct report *r, const struct cm_fleet_node *node,
                       const struct cm_fleet_name *names, size_t n)
{
    struct cli_json *j = &r->json;

    cli_json_open(j, NULL, '{');
    cli_json_text(j, "id", node->id);
    cli_json_text_if(j, "node", node->name);
    cli_json_text(j, "state", cm_node_state_text(node->state));
    cli_json_text_if(j, "host", node->host);
    cli_json_int(j, "pid", node->pid);
    cli_json_text_if(j, "version", node->version);
    cli_json_time_if(j, "started", node->started_s);
    cli_json_time_if(j, "seen", node->seen_s);
    cli_json_int(j, "n_names", (int64_t)node->n_names);
    cli_json_int(j, "n_behind", (int64_t)node->n_behind);
    cli_json_int(j, "n_missing", (int64_t)node->n_missing);
    cli_json_bool(j, "incomplete", node->incomplete);
    if (r->cli->o.names) {
        cli_json_open(j, "names", '[');
        for (size_t i = 0; i < n; i++) {
            cli_json_open(j, NULL, '{');
            cli_json_text(j, "name", names[i].name);
            cli_json_text(j, "state", cm_fleet_name_state_text(names[i].state));
            cli_json_text_if(j, "serial", names[i].serial);
            cli_json_time_if(j, "not_before", names[i].not_before_s);
            cli_json_time_if(j, "not_after", names[i].not_after_s);
            cli_json_text_if(j, "stored_serial", names[i].stored_serial);
            cli_json_close(j, '}');
        }
        cli_json_close(j, ']');
    }
    cli_json_close(j, '}');
}

/* ---- the command ---- */

static cm_status add(void *user, const struct cm_fleet_node *node,
                     const struct cm_fleet_name *names, size_t n, struct cm_err *err)
{
    struct report *r = user;

    (void)err;
    r->n_nodes++;
    r->n_problems += node->state != CM_NODE_CURRENT;
    if (r->cli->o.json) {
        add_object(r, node, names, n);
        return CM_OK;
    }
    add_row(r, node, names, n);
    if (r->cli->o.names)
        add_names(r, node, names, n);
    return CM_OK;
}

static void begin(struct report *r)
{
    static const char *const nodes[] = { "NODE",     "STATE", "HOST",  "VERSION",
                                         "UP SINCE", "SEEN",  "NAMES", "LAGGING" };
    static const char *const names[] = { "NAME", "STATE", "NODE", "UNTIL", "SERIAL" };

    cli_table_start(&r->nodes, nodes, sizeof nodes / sizeof nodes[0]);
    cli_table_start(&r->names, names, sizeof names / sizeof names[0]);
    if (!r->cli->o.json)
        return;
    cli_json_start(&r->json, stdout);
    cli_json_open(&r->json, NULL, '{');
    cli_json_text(&r->json, "storage", cm_storage_describe(cm_config_storage(r->cli->cfg)));
    cli_json_time(&r->json, "now", cli_now_s());
    cli_json_open(&r->json, "nodes", '[');
}

static void end(struct report *r, const struct cm_err *err)
{
    if (r->cli->o.json) {
        cli_json_close(&r->json, ']');
        cli_json_int(&r->json, "n_problems", (int64_t)r->n_problems);
        if (err != NULL)
            cli_json_err(&r->json, "error", err);
        cli_json_close(&r->json, '}');
        cli_json_finish(&r->json);
        return;
    }
    if (r->n_nodes > 0)
        cli_table_print(&r->nodes, stdout, cli_width(stdout));
    else if (err == NULL)
        cli_say("certmesh: no node announces itself in %s",
                cm_storage_describe(cm_config_storage(r->cli->cfg)));
    if (r->n_names > 0) {
        putchar('\n');
        cli_table_print(&r->names, stdout, cli_width(stdout));
    }
}

int cli_run_fleet(struct cli *c)
{
    struct report r = { .cli = c };
    struct cm_err err = CM_ERR_INIT;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    const struct cm_op op = cli_op(c, 300);
    begin(&r);
    cm_status rc = cm_fleet_each(c->cfg, &op, add, &r, &err);
    end(&r, rc != CM_OK ? &err : NULL);
    if (rc != CM_OK)
        return cli_report(c, NULL, &err);
    return r.n_problems > 0 ? CLI_FAILED : CLI_OK;
}
