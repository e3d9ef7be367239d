/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

static const struct {
    const char *word;
    enum cm_account_action action;
    bool rollover; /* instead of @action */
} actions[] = {
    { "show", CM_ACCOUNT_SHOW, false },
    { "register", CM_ACCOUNT_REGISTER, false },
    { "update", CM_ACCOUNT_UPDATE, false },
    { "rollover", CM_ACCOUNT_SHOW, true },
    { "deactivate", CM_ACCOUNT_DEACTIVATE, false },
};

static void print_text(const struct cm_account_info *info)
{
    const struct {
        const char *label;
        const char *value;
    } rows[] = {
        { "CA", info->ca },
        { "Account", info->url },
        { "Status", info->status },
        { "Contact", info->contact[0] != '\0' ? info->contact : "none" },
        { "Thumbprint", info->thumbprint },
    };
    char text[512];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        printf("%-11s %s\n", rows[i].label, cli_printable(rows[i].value, text, sizeof text));
}

static void print_json(const struct cm_account_info *info)
{
    struct cli_json j;

    cli_json_start(&j, stdout);
    cli_json_open(&j, NULL, '{');
    cli_json_text(&j, "ca", info->ca);
    cli_json_text(&j, "url", info->url);
    cli_json_text(&j, "status", info->status);
    cli_json_text(&j, "contact", info->contact[0] != '\0' ? info->contact : NULL);
    cli_json_text(&j, "thumbprint", info->thumbprint);
    cli_json_close(&j, '}');
    cli_json_finish(&j);
}

int cli_run_account(struct cli *c)
{
    struct cm_account_info info = { .size = (uint32_t)sizeof info };
    struct cm_err err = CM_ERR_INIT;
    struct cm_op op;
    const struct cm_rollover_options ro = { .size = (uint32_t)sizeof ro,
                                            .key_type = c->o.key_type };
    const char *words[sizeof actions / sizeof actions[0] + 1] = { NULL };
    size_t at = 0;
    int code = CLI_OK;

    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        words[i] = actions[i].word;
    if (c->n_names > 0) {
        while (words[at] != NULL && strcmp(words[at], c->names[0]) != 0)
            at++;
        if (words[at] == NULL) {
            const char *close = cli_closest(c->names[0], words);

            return cli_usage(c,
                             "'%.80s' is not show, register, update, rollover or deactivate%s%s%s",
                             c->names[0], close != NULL ? "; did you mean " : "",
                             close != NULL ? close : "", close != NULL ? "?" : "");
        }
    }
    if (cli_is_internal(c))
        return cli_usage(c, "the local CA has no accounts; name an ACME CA with --ca");
    if (actions[at].action == CM_ACCOUNT_UPDATE && c->o.email == NULL)
        return cli_usage(c, "update: give the new contact with --email");
    if (actions[at].action == CM_ACCOUNT_DEACTIVATE)
        code = cli_confirm(c, "Deactivate the account at %.200s? The CA never takes it back.",
                           cli_ca_url(c));
    if (code > CLI_OK)
        return code;
    code = cli_open(c);
    if (code != CLI_OK)
        return code;
    op = cli_op(c, 60);
    cm_status rc = actions[at].rollover ? cm_account_rollover(c->cfg, &op, &ro, &info, &err)
                                        : cm_account(c->cfg, &op, actions[at].action, &info, &err);
    if (rc != CM_OK)
        return cli_report(c, actions[at].word, &err);
    if (c->o.json)
        print_json(&info);
    else
        print_text(&info);
    return CLI_OK;
}
