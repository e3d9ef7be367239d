/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

struct tale {
    struct cli_json json;
    bool as_json;
};

static void tell(void *user, const char *text)
{
    struct tale *t = user;

    if (t->as_json)
        cli_json_text(&t->json, NULL, text);
    else
        printf("%s\n", text);
}

int cli_run_why(struct cli *c)
{
    struct tale t = { .as_json = c->o.json };
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    op = cli_op(c, 300);
    if (t.as_json) {
        cli_json_start(&t.json, stdout);
        cli_json_open(&t.json, NULL, '{');
        cli_json_text(&t.json, "name", c->names[0]);
        cli_json_open(&t.json, "why", '[');
    }
    cm_status rc = cm_status_why(c->cfg, &op, c->names[0], tell, &t, &err);
    if (t.as_json) {
        cli_json_close(&t.json, ']');
        if (rc != CM_OK)
            cli_json_err(&t.json, "error", &err);
        cli_json_close(&t.json, '}');
        cli_json_finish(&t.json);
    }
    return rc == CM_OK ? CLI_OK : cli_report(c, c->names[0], &err);
}
