/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

#define TEXT 128

struct report {
    struct cli *cli;
    struct cli_table table;
    struct cli_json json;
    size_t n_shown;
    size_t n_problems;
    int code; /* of names that could not be looked at */
};

/* Should somebody look at it? What is due is renewed without anybody. */
static bool is_problem(const struct cm_life_status *st)
{
    return st->state != CM_LIFE_GOOD && st->state != CM_LIFE_DUE;
}

/* ---- table ---- */

static void name_cell(const struct cm_life_status *st, char *out, size_t size)
{
    char first[256];
    size_t more = 0;
    size_t len = strcspn(st->name, ",");

    for (const char *c = st->name; *c != '\0'; c++)
        more += *c == ',';
    (void)cli_printable(st->name, first, len + 1 < sizeof first ? len + 1 : sizeof first);
    if (more > 0)
        (void)snprintf(out, size, "%s +%zu", first, more);
    else
        (void)snprintf(out, size, "%s", first);
}

static void until_cell(const struct cm_life_status *st, char *out, size_t size)
{
    char when[CLI_TIME_SIZE], span[CLI_TIME_SIZE];
    int64_t left = st->not_after_s - cli_now_s();

    if (st->not_after_s == 0) {
        (void)snprintf(out, size, "-");
        return;
    }
    /* the hour of the day matters only for what ends soon */
    (void)snprintf(out, size, "%.*s (%.24s)", left < 48 * 3600 && left > -48 * 3600 ? 16 : 10,
                   cli_time_human(st->not_after_s, when), cli_relative(left, span));
}

static void next_cell(const struct cm_life_status *st, char *out, size_t size)
{
    char span[CLI_TIME_SIZE];
    int64_t wait = st->next_at_s - cli_now_s();

    if (strcmp(st->next_action, "none") == 0)
        (void)snprintf(out, size, "-");
    else
        (void)snprintf(out, size, "%s %s", st->next_action,
                       wait > 0 ? cli_relative(wait, span) : "now");
}

static void staple_cell(const struct cm_life_status *st, char *out, size_t size)
{
    char span[CLI_TIME_SIZE];
    int64_t left = st->staple_next_update_s - cli_now_s();

    if (!st->staple_known)
        (void)snprintf(out, size, "%s", st->ocsp_url[0] != '\0' ? "none" : "-");
    else if (st->staple_next_update_s == 0)
        (void)snprintf(out, size, "there");
    else if (left < 0)
        (void)snprintf(out, size, "ended");
    else
        (void)snprintf(out, size, "%s", cli_span_human(left, span));
}

static void add_row(struct report *r, const struct cm_life_status *st)
{
    char name[TEXT * 3], until[TEXT], next[TEXT], tries[TEXT], staple[TEXT], note[600];
    const char *const cells[] = { name, cm_life_state_text(st->state), until, next, tries, staple };

    name_cell(st, name, sizeof name);
    until_cell(st, until, sizeof until);
    next_cell(st, next, sizeof next);
    staple_cell(st, staple, sizeof staple);
    if (st->attempts > 0)
        (void)snprintf(tries, sizeof tries, "%u failed", st->attempts);
    else
        (void)snprintf(tries, sizeof tries, "-");
    (void)cli_printable(st->last_error, note, sizeof note);
    cli_table_row(&r->table, cells, note[0] != '\0' ? note : NULL);
}

/* ---- JSON: see certmesh(1) ---- */

static void ari_member(struct cli_json *j, const struct cm_life_status *st)
{
    if (!st->ari_known) {
        cli_json_text(j, "ari", NULL);
        return;
    }
    cli_json_open(j, "ari", '{');
    cli_json_time_if(j, "start", st->ari_start_s);
    cli_json_time_if(j, "end", st->ari_end_s);
    cli_json_time_if(j, "selected", st->ari_selected_s);
    cli_json_time_if(j, "again", st->ari_again_s);
    cli_json_close(j, '}');
}

static void staple_member(struct cli_json *j, const struct cm_life_status *st)
{
    if (!st->staple_known) {
        cli_json_text(j, "staple", NULL);
        return;
    }
    cli_json_open(j, "staple", '{');
    cli_json_time_if(j, "this_update", st->staple_this_update_s);
    cli_json_time_if(j, "next_update", st->staple_next_update_s);
    cli_json_time_if(j, "refresh", st->staple_refresh_s);
    cli_json_close(j, '}');
}

static void lock_member(struct cli_json *j, const struct cm_life_status *st)
{
    if (st->lock_holder[0] == '\0') {
        cli_json_text(j, "lock", NULL);
        return;
    }
    cli_json_open(j, "lock", '{');
    cli_json_text(j, "holder", st->lock_holder);
    cli_json_time_if(j, "since", st->lock_since_s);
    cli_json_close(j, '}');
}

static void add_object(struct report *r, const struct cm_life_status *st)
{
    struct cli_json *j = &r->json;

    cli_json_open(j, NULL, '{');
    cli_json_text(j, "name", st->name);
    cli_json_text(j, "state", cm_life_state_text(st->state));
    cli_json_text_if(j, "issuer_key", st->issuer_key);
    cli_json_text_if(j, "serial", st->serial);
    cli_json_time_if(j, "not_before", st->not_before_s);
    cli_json_time_if(j, "not_after", st->not_after_s);
    cli_json_time_if(j, "renew_at", st->renew_at_s);
    cli_json_text_if(j, "renew_rule", st->renew_rule);
    cli_json_text(j, "next_action", st->next_action);
    cli_json_time_if(j, "next_at", st->next_at_s);
    cli_json_int(j, "attempts", st->attempts);
    cli_json_time_if(j, "last_failed", st->last_failed_s);
    cli_json_time_if(j, "next_try", st->next_try_s);
    cli_json_bool(j, "no_retry", st->no_retry);
    cli_json_text_if(j, "problem", st->problem);
    cli_json_text_if(j, "last_error", st->last_error);
    ari_member(j, st);
    cli_json_text_if(j, "ocsp_url", st->ocsp_url);
    staple_member(j, st);
    lock_member(j, st);
    cli_json_time_if(j, "ca_paused_until", st->ca_paused_until_s);
    cli_json_text_if(j, "ca_reason", st->ca_reason);
    cli_json_close(j, '}');
}

/* ---- the command ---- */

static cm_status add(void *user, const struct cm_life_status *st, struct cm_err *err)
{
    struct report *r = user;

    (void)err;
    r->n_problems += is_problem(st);
    if (r->cli->o.problems && !is_problem(st))
        return CM_OK;
    r->n_shown++;
    if (r->cli->o.json)
        add_object(r, st);
    else
        add_row(r, st);
    return CM_OK;
}

static cm_status look_at_names(struct report *r, const struct cm_op *op, struct cm_err *err)
{
    struct cli *c = r->cli;

    for (size_t i = 0; i < c->n_names; i++) {
        struct cm_life_status st = { .size = (uint32_t)sizeof st };
        cm_status rc = cm_status_of(c->cfg, op, c->names[i], &st, err);

        if (rc == CM_E_CANCELED || rc == CM_E_TIMEOUT)
            return rc;
        if (rc == CM_OK)
            (void)add(r, &st, err);
        else
            r->code = cli_report(c, c->names[i], err);
    }
    return CM_OK;
}

static void begin(struct report *r)
{
    static const char *const heads[] = { "NAME", "STATE", "UNTIL", "NEXT", "ATTEMPTS", "STAPLE" };

    if (r->cli->o.json) {
        cli_json_start(&r->json, stdout);
        cli_json_open(&r->json, NULL, '{');
        cli_json_text(&r->json, "storage", cm_storage_describe(cm_config_storage(r->cli->cfg)));
        cli_json_time(&r->json, "now", cli_now_s());
        cli_json_open(&r->json, "names", '[');
    } else {
        cli_table_start(&r->table, heads, sizeof heads / sizeof heads[0]);
    }
}

static void end(struct report *r, const struct cm_err *err)
{
    const char *where = cm_storage_describe(cm_config_storage(r->cli->cfg));

    if (r->cli->o.json) {
        cli_json_close(&r->json, ']');
        cli_json_int(&r->json, "n_problems", (int64_t)r->n_problems);
        if (err != NULL)
            cli_json_err(&r->json, "error", err);
        cli_json_close(&r->json, '}');
        cli_json_finish(&r->json);
    } else if (r->n_shown > 0) {
        cli_table_print(&r->table, stdout, cli_width(stdout));
    } else if (err == NULL && r->code == CLI_OK) {
        cli_say(r->cli->o.problems ? "certmesh: no problems in %s" : "certmesh: no names in %s",
                where);
    }
}

int cli_run_status(struct cli *c)
{
    struct report r = { .cli = c, .code = CLI_OK };
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    op = cli_op(c, 300);
    begin(&r);
    cm_status rc =
        c->n_names > 0 ? look_at_names(&r, &op, &err) : cm_status_each(c->cfg, &op, add, &r, &err);
    end(&r, rc != CM_OK ? &err : NULL);
    if (rc != CM_OK)
        return cli_report(c, NULL, &err);
    return r.n_problems > 0 ? CLI_FAILED : r.code;
}
