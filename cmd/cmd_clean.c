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

static struct cm_clean_options options_of(struct cli *c, struct sweep *s)
{
    struct cm_clean_options o = { .size = (uint32_t)sizeof o };

    /* 0 means "default" to the library; "no grace at all" is the closest second */
    o.grace_s = c->o.grace_s < 0 ? 0 : c->o.grace_s == 0 ? 1 : c->o.grace_s;
    o.dry_run = c->o.dry_run;
    o.compromised_after_s = c->o.compromised_s;
    o.interval_s = c->o.if_older_s;
    o.force = c->o.force;
    o.each = removed;
    o.user = s;
    return o;
}

static void open_json(struct cli *c, struct cli_json *j)
{
    cli_json_start(j, stdout);
    cli_json_open(j, NULL, '{');
    cli_json_text(j, "storage", cm_storage_describe(cm_config_storage(c->cfg)));
    cli_json_bool(j, "dry_run", c->o.dry_run);
    cli_json_open(j, "removed", '[');
}

static void close_json(struct cli_json *j, const struct cm_clean_report *report, size_t dns_left,
                       const struct cm_err *err)
{
    cli_json_close(j, ']');
    cli_json_int(j, "n_examined", (int64_t)report->examined);
    cli_json_int(j, "n_removed", (int64_t)report->removed);
    cli_json_int(j, "n_malformed", (int64_t)report->malformed);
    cli_json_bool(j, "skipped", report->skipped);
    cli_json_int(j, "n_dns_records", (int64_t)dns_left);
    if (err != NULL)
        cli_json_err(j, "error", err);
    cli_json_close(j, '}');
    cli_json_finish(j);
}

static void print_summary(const struct cli *c, const struct cm_clean_report *report)
{
    if (report->skipped)
        cli_say("certmesh: nothing to do: this storage was cleaned lately, or is just now");
    else
        printf("%" PRIu64 " examined, %" PRIu64 " %s, %" PRIu64 " malformed and left alone\n",
               report->examined, report->removed, c->o.dry_run ? "to remove" : "removed",
               report->malformed);
}

int cli_run_clean(struct cli *c)
{
    struct sweep s = { c, { 0 } };
    struct cm_clean_options o = options_of(c, &s);
    struct cm_clean_report report = { .size = (uint32_t)sizeof report };
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    size_t dns_left = 0;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    op = cli_op(c, 3600);
    if (c->o.json)
        open_json(c, &s.json);
    cm_status rc = cm_storage_clean(c->cfg, &op, &o, &report, &err);
    if (rc == CM_OK && !report.skipped)
        rc = cm_dns_sweep(c->cfg, &op, c->o.dry_run, &dns_left, &err);
    if (c->o.json)
        close_json(&s.json, &report, dns_left, rc != CM_OK ? &err : NULL);
    if (rc != CM_OK)
        return cli_report(c, NULL, &err);
    if (!c->o.json && !c->o.quiet)
        print_summary(c, &report);
    if (dns_left > 0)
        cli_say(
            "certmesh: clean: %zu TXT record%s noted as up in DNS; what is not in use goes with\n"
            "  the --dns PROVIDER that put it up",
            dns_left, dns_left == 1 ? " is" : "s are");
    return CLI_OK;
}
