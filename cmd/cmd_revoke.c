/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

int cli_run_revoke(struct cli *c)
{
    size_t failed = 0;
    int code = CLI_OK;
    struct cli_json j;

    code = cli_confirm(c, "Revoke the certificate of %.200s%s at its CA%s? This cannot be undone.",
                       c->names[0], c->n_names > 1 ? " and the others named" : "",
                       c->o.keep ? "" : " and remove it from storage");
    if (code >= 0)
        return code;
    code = cli_open(c);
    if (code != CLI_OK)
        return code;
    if (c->o.json) {
        cli_json_start(&j, stdout);
        cli_json_open(&j, NULL, '{');
        cli_json_open(&j, "results", '[');
    }
    for (size_t i = 0; i < c->n_names; i++) {
        struct cm_err err = CM_ERR_INIT;
        struct cm_op op = cli_op(c, 60);
        cm_status rc = cm_revoke(c->cfg, &op, c->names[i], c->o.reason, c->o.keep, &err);

        if (c->o.json) {
            cli_json_open(&j, NULL, '{');
            cli_json_text(&j, "name", c->names[i]);
            cli_json_text(&j, "result", rc == CM_OK ? "revoked" : "failed");
            if (rc != CM_OK)
                cli_json_err(&j, "error", &err);
            cli_json_close(&j, '}');
        } else if (rc == CM_OK && !c->o.quiet) {
            printf("%s  revoked%s\n", c->names[i],
                   c->o.keep ? ", kept in storage" : " and removed from storage");
            fflush(stdout);
        }
        if (rc != CM_OK) {
            int one = cli_report(c, c->names[i], &err);

            if (failed++ == 0)
                code = one;
            if (rc == CM_E_NOTFOUND)
                cli_say_where_else(c, c->names[i]);
        }
    }
    if (c->o.json) {
        cli_json_close(&j, ']');
        cli_json_close(&j, '}');
        cli_json_finish(&j);
    }
    if (cli_signals_exit() != 0 && failed > 0)
        return cli_signals_exit();
    return failed > 0 && failed < c->n_names ? CLI_SOME : code;
}
