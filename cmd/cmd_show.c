/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

#define PEM_MAX (1024u * 1024u)

/* The three files of a certificate, by what follows its directory's name. */
static const struct {
    const char *ending;
    const char *what;
} parts[] = {
    { "crt", "certificate chain" },
    { "key", "private key" },
    { "json", "metadata" },
};

static void print_time(const char *label, int64_t at)
{
    char when[CLI_TIME_SIZE], span[CLI_TIME_SIZE];

    printf("  %-12s %s (%s)\n", label, cli_time_human(at, when),
           cli_relative(at - cli_now_s(), span));
}

static void print_one(struct cli *c, const struct cli_stored *s, bool first)
{
    char name[300], label[128], text[256];

    printf("%s%s\n", first ? "" : "\n", cli_stored_name(s, name, sizeof name));
    (void)cli_issuer_label(s->issuer_key, label, sizeof label);
    if (s->cert != NULL) {
        const char *type = cm_key_type_name(cm_cert_key_type(s->cert));
        int64_t renew = cm_cert_renew_at_s(s->cert, c->cfg);

        for (size_t i = 0; i < cm_cert_name_count(s->cert); i++)
            printf("  %-12s %s\n", i == 0 ? "Names" : "",
                   cli_printable(cm_cert_name(s->cert, i), text, sizeof text));
        printf("  %-12s %s (%s)\n", "Issuer", cm_cert_issuer_cn(s->cert), label);
        printf("  %-12s %s\n", "Serial", cm_cert_serial(s->cert));
        printf("  %-12s %s\n", "Key type", type != NULL ? type : "?");
        print_time("Valid from", cm_cert_not_before_s(s->cert));
        print_time(cm_cert_not_after_s(s->cert) < cli_now_s() ? "EXPIRED" : "Valid until",
                   cm_cert_not_after_s(s->cert));
        if (renew <= cli_now_s())
            printf("  %-12s now (due)\n", "Renews");
        else
            print_time("Renews", renew);
    } else {
        printf("  %-12s %s\n", "Issuer", label);
    }
    if (s->problem != NULL)
        printf("  %-12s %s\n", "Malformed", s->problem);
    printf("  %-12s %s\n", "Storage", cm_storage_describe(cm_config_storage(c->cfg)));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        printf("  %-12s certificates/%s/%s/%s.%s\n", i == 0 ? "Keys" : "", s->issuer_key, s->dir,
               s->dir, parts[i].ending);
}

static void print_json(struct cli *c, const struct cli_stored_list *list)
{
    struct cli_json j;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_text(&j, "storage", cm_storage_describe(cm_config_storage(c->cfg)));
    cli_json_open(&j, "certificates", '[');
    for (size_t i = 0; i < list->n; i++) {
        const struct cli_stored *s = &list->items[i];
        struct cm_buf pem = CM_BUF_INIT(PEM_MAX);

        cli_json_open(&j, NULL, '{');
        cli_stored_json(c, &j, s);
        cli_json_open(&j, "keys", '{');
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            char key[CM_STORAGE_KEY_MAX + 1];

            (void)snprintf(key, sizeof key, "certificates/%s/%s/%s.%s", s->issuer_key, s->dir,
                           s->dir, parts[k].ending);
            cli_json_text(&j, parts[k].ending, key);
        }
        cli_json_close(&j, '}');
        if (c->o.pem && s->cert != NULL && cm_cert_chain_pem(s->cert, &pem, NULL) == CM_OK)
            cli_json_text(&j, "chain_pem", cm_buf_str(&pem));
        cm_buf_free(&pem);
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

/* The newest one that can be read. */
static int print_pem(struct cli *c, const struct cli_stored_list *list)
{
    struct cm_err err = CM_ERR_INIT;
    const struct cli_stored *best = NULL;
    struct cm_buf pem = CM_BUF_INIT(PEM_MAX);
    cm_status rc = CM_OK;

    for (size_t i = 0; i < list->n; i++) {
        const struct cli_stored *s = &list->items[i];

        if (s->cert != NULL &&
            (best == NULL || cm_cert_not_before_s(s->cert) > cm_cert_not_before_s(best->cert)))
            best = s;
    }
    if (best == NULL) {
        (void)cm_fail(&err, CM_E_PARSE, "what storage holds cannot be read: %s",
                      list->items[0].problem != NULL ? list->items[0].problem : "malformed");
        return cli_report(c, c->names[0], &err);
    }
    rc = cm_cert_chain_pem(best->cert, &pem, &err);
    if (rc == CM_OK)
        (void)fwrite(pem.data, 1, pem.len, stdout);
    cm_buf_free(&pem);
    return rc == CM_OK ? CLI_OK : cli_report(c, c->names[0], &err);
}

int cli_run_show(struct cli *c)
{
    struct cli_stored_list list;
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    int code = cli_open(c);

    if (code != CLI_OK)
        return code;
    op = cli_op(c, 300);
    if (cli_stored_collect(c, &op, c->names, c->n_names, &list, &err) != CM_OK)
        return cli_report(c, c->names[0], &err);
    if (list.n == 0) {
        (void)cm_fail(&err, CM_E_NOTFOUND,
                      "no certificate in %s; certmesh list shows what there is",
                      cm_storage_describe(cm_config_storage(c->cfg)));
        return cli_report(c, c->names[0], &err);
    }
    if (c->o.json)
        print_json(c, &list);
    else if (c->o.pem)
        code = print_pem(c, &list);
    else
        for (size_t i = 0; i < list.n; i++)
            print_one(c, &list.items[i], i == 0);
    cli_stored_free(&list);
    return code;
}
