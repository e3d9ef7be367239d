/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

static void add_row(struct cli *c, struct cli_table *t, const struct cli_stored *s)
{
    char name[300], issuer[128], until[64], span[CLI_TIME_SIZE], when[CLI_TIME_SIZE];
    char renews[CLI_TIME_SIZE];
    const char *cells[5] = { name, issuer, until, renews, "-" };
    int64_t now = cli_now_s();
    int64_t left = 0;
    int64_t wait = 0;

    (void)cli_stored_name(s, name, sizeof name);
    (void)cli_issuer_label(s->issuer_key, issuer, sizeof issuer);
    if (s->cert == NULL) {
        (void)snprintf(until, sizeof until, "malformed");
        (void)snprintf(renews, sizeof renews, "-");
        cli_table_row(t, cells, s->problem != NULL ? s->problem : "cannot be read");
        return;
    }
    left = cm_cert_not_after_s(s->cert) - now;
    wait = cm_cert_renew_at_s(s->cert, c->cfg) - now;
    (void)cli_time_human(cm_cert_not_after_s(s->cert), when);
    /* the hour of the day matters only for what ends soon */
    (void)snprintf(until, sizeof until, "%.*s (%.24s)",
                   left < 48 * 3600 && left > -48 * 3600 ? 16 : 10, when,
                   left < 0 ? "EXPIRED" : cli_relative(left, span));
    if (wait <= 0)
        (void)snprintf(renews, sizeof renews, "due");
    else
        (void)cli_span_human(wait, renews);
    cells[4] = cm_key_type_name(cm_cert_key_type(s->cert));
    if (cells[4] == NULL)
        cells[4] = "?";
    cli_table_row(t, cells, s->problem);
}

int cli_run_list(struct cli *c)
{
    static const char *const heads[] = { "NAME", "ISSUER", "NOT AFTER", "RENEWS IN", "KEY TYPE" };
    struct cli_stored_list list;
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    const char *where = NULL;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    op = cli_op(c, 300);
    if (cli_stored_collect(c, &op, c->names, c->n_names, &list, &err) != CM_OK)
        return cli_report(c, NULL, &err);
    where = cm_storage_describe(cm_config_storage(c->cfg));
    if (c->o.json) {
        struct cli_json j;

        cli_json_start(&j, stdout);
        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "storage", where);
        cli_json_open(&j, "certificates", '[');
        for (size_t i = 0; i < list.n; i++) {
            cli_json_open(&j, NULL, '{');
            cli_stored_json(c, &j, &list.items[i]);
            cli_json_close(&j, '}');
        }
        cli_json_close(&j, ']');
        cli_json_close(&j, '}');
        cli_json_finish(&j);
    } else if (list.n > 0) {
        struct cli_table t;

        cli_table_start(&t, heads, sizeof heads / sizeof heads[0]);
        for (size_t i = 0; i < list.n; i++)
            add_row(c, &t, &list.items[i]);
        cli_table_print(&t, stdout, cli_width(stdout));
    } else if (c->n_names > 0) {
        cli_say("certmesh: no certificate for %s%s in %s", c->names[0],
                c->n_names > 1 ? ", ..." : "", where);
    } else {
        cli_say("certmesh: no certificates in %s", where);
    }
    code = c->n_names > 0 && list.n == 0 ? CLI_NOTFOUND : CLI_OK;
    cli_stored_free(&list);
    return code;
}
