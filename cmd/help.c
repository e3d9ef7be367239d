/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <string.h>

#define HELP_COLUMN 27
#define HELP_WIDTH  80

static const char exit_codes[] =
    "Exit codes:\n"
    "  0 done   1 failed   2 wrong usage   3 some names failed, others did not\n"
    "  4 refused by the CA or by policy   5 storage   6 network or timeout\n"
    "  7 nothing stored under that name   8 a port could not be opened\n"
    "  130, 143 interrupted\n";

/* Words of @text from column HELP_COLUMN on, lines no longer than HELP_WIDTH. */
static void print_wrapped(FILE *out, const char *text)
{
    size_t at = HELP_COLUMN;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (at > HELP_COLUMN && at + 1 + len > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        } else if (at > HELP_COLUMN) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", (int)len, text);
        at += len;
        text += len + strspn(text + len, " ");
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct cli_option *opt)
{
    char left[64];

    (void)snprintf(left, sizeof left, "  %c%c --%s%s%s", opt->letter != 0 ? '-' : ' ',
                   opt->letter != 0 ? opt->letter : ' ', opt->name, opt->metavar != NULL ? " " : "",
                   opt->metavar != NULL ? opt->metavar : "");
    fprintf(out, "%-*s", HELP_COLUMN, left);
    if (strlen(left) >= HELP_COLUMN) /* a long one has its text below it */
        fprintf(out, "\n%*s", HELP_COLUMN, "");
    print_wrapped(out, opt->help);
}

void cli_help_overview(FILE *out)
{
    fputs("certmesh gets, renews and serves TLS certificates for servers that share one storage.\n"
          "\n"
          "Usage: certmesh COMMAND [OPTION...] [NAME...]\n"
          "\n"
          "Commands:\n",
          out);
    for (const struct cli_command *cmd = cli_commands; cmd->name != NULL; cmd++)
        fprintf(out, "  %-9s %s\n", cmd->name, cmd->summary);
    fputs("\n"
          "Try it without any CA or network:\n"
          "  certmesh serve --internal --root ./store localhost\n"
          "\n"
          "`certmesh help COMMAND` explains one with examples; certmesh(1) is the manual.\n"
          "\n",
          out);
    fputs(exit_codes, out);
}

void cli_help_command(FILE *out, const struct cli_command *cmd)
{
    fprintf(out, "Usage: certmesh %s [OPTION...]%s%s\n\n%s\n\nExamples:\n%s\n\nOptions:\n",
            cmd->name, cmd->args[0] != '\0' ? " " : "", cmd->args, cmd->text, cmd->examples);
    for (const struct cli_option *opt = cli_options; opt->name != NULL; opt++)
        if ((opt->commands & cmd->bit) != 0)
            print_option(out, opt);
    fprintf(out, "\n%s", exit_codes);
}

int cli_run_help(struct cli *c)
{
    const struct cli_command *cmd = NULL;

    if (c->n_names == 0) {
        cli_help_overview(stdout);
        return CLI_OK;
    }
    cmd = cli_command_find(c->names[0]);
    if (cmd == NULL)
        return cli_usage(c, "there is no command '%s'", c->names[0]);
    cli_help_command(stdout, cmd);
    return CLI_OK;
}
