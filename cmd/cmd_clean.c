/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <inttypes.h>

struct sweep {
    struct cli *cli;
    struct cli_json json;
};

static void removed(void *user, const char *key, const char *why)
{
    struct sweep *s = user;
    char text[CM_STORAGE_KEY_MAX + 1];

    if (s->cli->o.json) {
        cli_json_open(&s->json, NULL, '{');
        cli_json_text(&s->json, "key", key);
        cli_json_text(&s->json, "why", why);
        cli_json_close(&s->json, '}');
    } else {
        printf("%s %s (%s)\n", s->cli->o.dry_run ? "would remove" : "removed",
               cli_printable(key, text, sizeof text), why);
    }
}

int cli_run_clean(struct cli *c)
{
    struct sweep s = { c, { 0 } };
    struct cm_clean_options o = { .size = (uint32_t)sizeof o };
    struct cm_clean_report report = { .size = (uint32_t)sizeof report };
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    cm_status rc = CM_OK;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    op = cli_op(c, 3600);
    /* 0 means "default" to the library; "no grace at all" is the closest second */
    o.grace_s = c->o.grace_s < 0 ? 0 : c->o.grace_s == 0 ? 1 : c->o.grace_s;
    o.dry_run = c->o.dry_run;
    o.each = removed;
    o.user = &s;
    if (c->o.json) {
        cli_json_start(&s.json, stdout);
        cli_json_open(&s.json, NULL, '{');
        cli_json_text(&s.json, "storage", cm_storage_describe(cm_config_storage(c->cfg)));
        cli_json_bool(&s.json, "dry_run", c->o.dry_run);
        cli_json_open(&s.json, "removed", '[');
    }
    rc = cm_storage_clean(c->cfg, &op, &o, &report, &err);
    if (c->o.json) {
        cli_json_close(&s.json, ']');
        cli_json_int(&s.json, "n_examined", (int64_t)report.examined);
        cli_json_int(&s.json, "n_removed", (int64_t)report.removed);
        cli_json_int(&s.json, "n_malformed", (int64_t)report.malformed);
        if (rc != CM_OK)
            cli_json_err(&s.json, "error", &err);
        cli_json_close(&s.json, '}');
        cli_json_finish(&s.json);
    }
    if (rc != CM_OK)
        return cli_report(c, NULL, &err);
    if (!c->o.json && !c->o.quiet)
        printf("%" PRIu64 " examined, %" PRIu64 " %s, %" PRIu64 " malformed and left alone\n",
               report.examined, report.removed, c->o.dry_run ? "to remove" : "removed",
               report.malformed);
    return CLI_OK;
}
