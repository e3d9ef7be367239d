/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* certmesh dns persist: records that a person sets. */

#define STRING_MAX 255u /* bytes of one string of a TXT record (RFC 1035 3.3) */

struct entry {
    const char *name; /* as given */
    struct cm_dns_persist_record rec;
    bool shows;
    struct cm_err err; /* of looking */
};

/* As a line of a zone file. The value has neither quotes nor backslashes: URLs and domains. */
static void print_line(const struct entry *e)
{
    char name[sizeof e->rec.name], value[sizeof e->rec.value];
    const char *rest = cli_printable(e->rec.value, value, sizeof value);

    printf("%s. IN TXT", cli_printable(e->rec.name, name, sizeof name));
    for (size_t len; *rest != '\0'; rest += len) {
        len = strlen(rest) < STRING_MAX ? strlen(rest) : STRING_MAX;
        printf(" \"%.*s\"", (int)len, rest);
    }
    printf("\n");
}

static void print_json(const struct cli *c, const struct entry *entries, size_t n)
{
    struct cli_json j;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_text(&j, "ca", cli_ca_url(c));
    cli_json_open(&j, "records", '[');
    for (size_t i = 0; i < n; i++) {
        cli_json_open(&j, NULL, '{');
        cli_json_text(&j, "name", entries[i].name);
        cli_json_text(&j, "record", entries[i].rec.name);
        cli_json_text(&j, "value", entries[i].rec.value);
        cli_json_bool(&j, "wildcard", entries[i].rec.wildcard);
        if (c->o.verify) {
            cli_json_bool(&j, "shows", entries[i].shows);
            if (!entries[i].shows)
                cli_json_err(&j, "error", &entries[i].err);
        }
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

/* One record for a name and its wildcard. */
static bool is_covered(const struct cli *c, size_t at)
{
    const char *name = c->names[at];

    for (size_t i = 1; i < c->n_names; i++) {
        if (i < at && strcmp(c->names[i], name) == 0)
            return true;
        if (strncmp(c->names[i], "*.", 2) == 0 && strcmp(c->names[i] + 2, name) == 0)
            return true;
    }
    return false;
}

/* 0, or the exit code of what could not be found out at all (explained). */
static int find(struct cli *c, const struct cm_op *op, struct entry *entries, size_t *ret_n)
{
    const struct cm_dns_persist_options o = {
        .size = (uint32_t)sizeof o,
        .wildcard = c->o.wildcard,
        .until_s = c->o.until_s > 0 ? cli_now_s() + c->o.until_s : 0,
        .issuer_domain = c->o.issuer_domain,
    };

    for (size_t i = 1; i < c->n_names; i++) {
        struct entry *e = &entries[*ret_n];
        struct cm_err err = CM_ERR_INIT;

        if (is_covered(c, i))
            continue;
        e->name = c->names[i];
        e->rec.size = (uint32_t)sizeof e->rec;
        if (cm_dns_persist_record(c->cfg, op, e->name, &o, &e->rec, &err) != CM_OK)
            return cli_report(c, e->name, &err);
        *ret_n += 1;
    }
    return CLI_OK;
}

static int verify(struct cli *c, const struct cm_op *op, struct entry *entries, size_t n)
{
    int code = CLI_OK;

    for (size_t i = 0; i < n; i++) {
        struct entry *e = &entries[i];
        cm_status rc = cm_dns_persist_check(c->cfg, op, &e->rec, &e->err);

        e->shows = rc == CM_OK;
        if (rc == CM_OK)
            continue;
        cli_complain("certmesh: dns persist %s: %s", e->name, e->err.msg);
        /* not there is one thing, not to be found out another */
        code = rc == CM_E_NOTFOUND ? CLI_FAILED : cli_exit_of(&e->err);
        if (rc == CM_E_CANCELED)
            break;
    }
    return code;
}

int cli_run_dns(struct cli *c)
{
    struct entry *entries = NULL;
    struct cm_op op;
    size_t n = 0;
    int code = CLI_OK;

    if (strcmp(c->names[0], "persist") != 0)
        return cli_usage(c, "'%.80s' is not persist", c->names[0]);
    if (cli_is_internal(c))
        return cli_usage(c, "the local CA needs no records; name an ACME CA with --ca");
    code = cli_open(c);
    if (code != CLI_OK)
        return code;
    entries = calloc(c->n_names, sizeof *entries);
    if (entries == NULL) {
        cli_complain("certmesh: out of memory");
        return CLI_FAILED;
    }
    op = cli_op(c, 300);
    code = find(c, &op, entries, &n);
    if (code == CLI_OK && c->o.verify)
        code = verify(c, &op, entries, n);
    for (size_t i = 0; i < n && !c->o.json; i++)
        if (!c->o.verify || !entries[i].shows)
            print_line(&entries[i]);
        else if (!c->o.quiet)
            printf("%s shows\n", entries[i].rec.name);
    if (c->o.json && n > 0)
        print_json(c, entries, n);
    free(entries);
    return code;
}
