/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* Command line: `certmesh [OPTION...] COMMAND [OPTION... NAME...]`. The command is found first,
 * because it decides which options there are; then getopt_long() does the rest. */

#define OPTIONS_MAX 128
#define FIRST_VALUE 256 /* getopt values: FIRST_VALUE + index in the table */

static const struct cli_option *option_find(const char *name, size_t len)
{
    for (const struct cli_option *opt = cli_options; opt->name != NULL; opt++)
        if (strlen(opt->name) == len && strncmp(opt->name, name, len) == 0)
            return opt;
    return NULL;
}

/* An option that says something else to another command has an entry for each. */
static unsigned option_commands(const char *name)
{
    unsigned commands = 0;

    for (const struct cli_option *opt = cli_options; opt->name != NULL; opt++)
        if (strcmp(opt->name, name) == 0)
            commands |= opt->commands;
    return commands;
}

static const struct cli_option *option_find_letter(char letter)
{
    for (const struct cli_option *opt = cli_options; opt->name != NULL; opt++)
        if (opt->letter != 0 && opt->letter == letter)
            return opt;
    return NULL;
}

/* Index of the first word that is neither an option nor the value of one; argc if none. */
static int command_at(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];

        if (a[0] != '-' || a[1] == '\0')
            return i;
        if (strcmp(a, "--") == 0)
            return i + 1 < argc ? i + 1 : argc;
        if (a[1] == '-' && strchr(a, '=') == NULL) {
            const struct cli_option *opt = option_find(a + 2, strlen(a + 2));

            if (opt != NULL && opt->kind != CLI_KIND_FLAG)
                i++;
        } else if (a[1] != '-' && a[2] == '\0') {
            const struct cli_option *opt = option_find_letter(a[1]);

            if (opt != NULL && opt->kind != CLI_KIND_FLAG)
                i++;
        }
    }
    return argc;
}

static int bad_option(const struct cli *c, const char *arg)
{
    const char *words[OPTIONS_MAX];
    size_t n = 0;
    const char *name = arg;
    char word[64];
    const struct cli_option *opt = NULL;
    const char *close = NULL;

    while (*name == '-')
        name++;
    (void)snprintf(word, sizeof word, "%.*s", (int)strcspn(name, "="), name);
    opt = arg[0] == '-' && arg[1] == '-' ? option_find(word, strlen(word)) : NULL;
    if (opt != NULL) {
        unsigned commands = option_commands(opt->name);
        char who[160] = "";
        size_t at = 0;

        for (const struct cli_command *cmd = cli_commands; cmd->name != NULL; cmd++) {
            if ((commands & cmd->bit) != 0 && at < sizeof who)
                at += (size_t)snprintf(who + at, sizeof who - at, "%s%s", at > 0 ? ", " : "",
                                       cmd->name);
        }
        return cli_usage(c, "option --%s does not belong to this command, but to: %s", opt->name,
                         who);
    }
    for (opt = cli_options; opt->name != NULL && n + 1 < OPTIONS_MAX; opt++)
        if ((opt->commands & c->command->bit) != 0)
            words[n++] = opt->name;
    words[n] = NULL;
    close = cli_closest(word, words);
    if (close != NULL)
        return cli_usage(c, "unknown option '%.80s'; did you mean --%s?", arg, close);
    return cli_usage(c, "unknown option '%.80s'", arg);
}

static int set_challenge(struct cli *c, unsigned *bits, const char *value)
{
    static const char *const words[] = { "http-01",        "tls-alpn-01",    "dns-01",
                                         "dns-account-01", "dns-persist-01", NULL };

    while (*value != '\0') {
        size_t len = strcspn(value, ",");
        char word[32];

        (void)snprintf(word, sizeof word, "%.*s", (int)(len < 31 ? len : 31), value);
        if (strcmp(word, "http-01") == 0) {
            *bits |= CM_CHALLENGE_HTTP01;
        } else if (strcmp(word, "tls-alpn-01") == 0) {
            *bits |= CM_CHALLENGE_TLSALPN01;
        } else if (strcmp(word, "dns-01") == 0) {
            *bits |= CM_CHALLENGE_DNS01;
        } else if (strcmp(word, "dns-account-01") == 0) {
            *bits |= CM_CHALLENGE_DNSACCOUNT01;
        } else if (strcmp(word, "dns-persist-01") == 0) {
            *bits |= CM_CHALLENGE_DNSPERSIST01;
        } else {
            const char *close = cli_closest(word, words);

            return cli_usage(c, "--challenge '%s' is not known; %s%s%s", word,
                             close != NULL
                                 ? "did you mean "
                                 : "there are http-01, tls-alpn-01, dns-01, dns-account-01 and "
                                   "dns-persist-01",
                             close != NULL ? close : "", close != NULL ? "?" : "");
        }
        value += len + (value[len] == ',' ? 1u : 0u);
    }
    return -1;
}

static int set_reason(struct cli *c, int *reason, const char *value)
{
    const char *words[16];
    size_t n = 0;
    uint64_t number = 0;
    const char *close = NULL;

    for (const struct cli_reason *r = cli_reasons; r->name != NULL && n + 1 < 16; r++) {
        if (strcasecmp(r->name, value) == 0) {
            *reason = r->code;
            return -1;
        }
        if (cli_parse_uint(value, 10, &number) && (int)number == r->code) {
            *reason = r->code;
            return -1;
        }
        words[n++] = r->name;
    }
    words[n] = NULL;
    close = cli_closest(value, words);
    if (close != NULL)
        return cli_usage(c, "--reason '%s' is not known; did you mean %s?", value, close);
    return cli_usage(c, "--reason '%s' is no reason of RFC 5280; see certmesh help revoke", value);
}

static int set_list(struct cli *c, const struct cli_option *opt, struct cli_list *list,
                    const char *value)
{
    if (value[0] == '\0')
        return cli_usage(c, "--%s is empty", opt->name);
    if (list->n == CLI_LIST_MAX)
        return cli_usage(c, "--%s more than %u times", opt->name, CLI_LIST_MAX);
    list->at[list->n++] = value;
    return -1;
}

static int set_log_format(struct cli *c, bool *json, const char *value)
{
    *json = strcmp(value, "json") == 0;
    if (*json || strcmp(value, "text") == 0)
        return -1;
    return cli_usage(c, "--log-format '%.80s' is not known; there are text and json", value);
}

static int set_value(struct cli *c, const struct cli_option *opt, const char *value)
{
    void *slot = (char *)&c->o + opt->offset;
    uint64_t number = 0;
    struct cm_err err = CM_ERR_INIT;

    switch (opt->kind) {
    case CLI_KIND_FLAG:
        *(bool *)slot = true;
        return -1;
    case CLI_KIND_TEXT:
        if (value[0] == '\0')
            return cli_usage(c, "--%s is empty", opt->name);
        *(const char **)slot = value;
        return -1;
    case CLI_KIND_PORT:
        if (!cli_parse_uint(value, 65535, &number) || number == 0)
            return cli_usage(c, "--%s '%s' is not a port (1 to 65535)", opt->name, value);
        *(uint16_t *)slot = (uint16_t)number;
        return -1;
    case CLI_KIND_COUNT:
        if (!cli_parse_uint(value, 1000, &number) || number == 0)
            return cli_usage(c, "--%s '%s' is not a number from 1 to 1000", opt->name, value);
        *(unsigned *)slot = (unsigned)number;
        return -1;
    case CLI_KIND_SECONDS:
        if (!cli_parse_duration(value, (int64_t *)slot) || *(int64_t *)slot <= 0)
            return cli_usage(c, "--%s '%s' is not a number of seconds", opt->name, value);
        return -1;
    case CLI_KIND_DURATION:
        if (!cli_parse_duration(value, (int64_t *)slot))
            return cli_usage(c, "--%s '%s' is not a time such as 14d, 36h or 90m", opt->name,
                             value);
        return -1;
    case CLI_KIND_SPAN:
        if (!cli_parse_duration(value, (int64_t *)slot) || *(int64_t *)slot <= 0)
            return cli_usage(c, "--%s '%s' is not a time above 0 such as 30d, 36h or 90m",
                             opt->name, value);
        return -1;
    case CLI_KIND_CA:
        return cli_set_ca(c, opt->name, slot, value);
    case CLI_KIND_ACME_CA:
        return cli_set_acme_ca(c, opt->name, slot, value);
    case CLI_KIND_CA_LIST:
        return cli_add_ca(c, opt->name, slot, value);
    case CLI_KIND_CA_ORDER:
        return cli_set_ca_order(c, slot, value);
    case CLI_KIND_RATE:
        return cli_set_rate(c, opt->name, slot, value);
    case CLI_KIND_RESPONDER:
        return cli_add_responder(c, slot, value);
    case CLI_KIND_CHALLENGE:
        return set_challenge(c, slot, value);
    case CLI_KIND_CHAIN:
        return cli_set_chain(c, slot, value);
    case CLI_KIND_CSR_EXTENSION:
        return cli_add_csr_extension(c, slot, value);
    case CLI_KIND_KEY_TYPE:
        if (cm_key_type_parse(value, slot, &err) != CM_OK)
            return cli_usage(c, "--%s: %s", opt->name, err.msg);
        return -1;
    case CLI_KIND_REASON:
        return set_reason(c, slot, value);
    case CLI_KIND_LIST:
        return set_list(c, opt, slot, value);
    case CLI_KIND_LOG_FORMAT:
        return set_log_format(c, slot, value);
    }
    return -1;
}

/* What the environment says counts where the command line is silent. */
static int apply_environment(struct cli *c)
{
    const char *value = NULL;
    struct {
        const char *variable;
        const char **slot;
        bool taken; /* the command line decided already */
    } texts[] = {
        { "CERTMESH_STORAGE", &c->o.storage, c->o.storage != NULL || c->o.root != NULL },
        { "CERTMESH_CA_ROOT", &c->o.ca_root, c->o.ca_root != NULL },
        { "CERTMESH_EMAIL", &c->o.email, c->o.email != NULL },
        { "CERTMESH_DNS", &c->o.dns, c->o.dns != NULL },
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        value = getenv(texts[i].variable);
        if (!texts[i].taken && value != NULL && value[0] != '\0')
            *texts[i].slot = value;
    }
    value = getenv("NO_COLOR");
    if (value != NULL && value[0] != '\0')
        c->o.no_color = true;
    cli_proxies_from_environment(c);
    return cli_cas_from_environment(c);
}

static int check_together(struct cli *c)
{
    if (c->o.storage != NULL && c->o.root != NULL)
        return cli_usage(c, "--storage and --root say the same thing twice; give one of them");
    if (c->o.internal && c->o.ca != NULL && strcmp(c->o.ca, "internal") != 0)
        return cli_usage(c, "--internal and --ca %s exclude each other", c->o.ca);
    if (c->o.quiet && c->o.verbose)
        return cli_usage(c, "--quiet and --verbose exclude each other");
    if (c->o.eab_kid == NULL && c->o.eab_key_file != NULL)
        return cli_usage(c, "--eab-key-file needs --eab-kid, the identifier of that key");
    int rc = cli_life_check(c);
    if (rc < 0)
        rc = cli_acme_check(c);
    if (rc < 0)
        rc = cli_beside_check(c);
    if (rc >= 0)
        return rc;
    if (c->n_names < c->command->min_args && c->o.certs.n == 0 && c->o.csr == NULL &&
        !c->o.on_demand)
        return cli_usage(c, "which %s? Usage: certmesh %s %s",
                         c->command->max_args == 1 ? "name" : "names", c->command->name,
                         c->command->args);
    if (c->n_names > c->command->max_args)
        return cli_usage(c, "one argument too many: '%.80s'", c->names[c->command->max_args]);
    return -1;
}

static int find_command(struct cli *c, int argc, char **argv, int *ret_at)
{
    const char *words[16];
    size_t n = 0;
    const char *close = NULL;
    int at = command_at(argc, argv);

    *ret_at = at;
    if (at >= argc) {
        for (int i = 1; i < argc; i++) {
            if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
                cli_help_overview(stdout);
                return CLI_OK;
            }
            if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0)
                return cli_run_version(c);
        }
        if (argc > 1)
            return cli_usage(c, "no command in '%.80s%s'; certmesh help lists them", argv[1],
                             argc > 2 ? " ..." : "");
        cli_help_overview(stderr);
        return CLI_USAGE;
    }
    c->command = cli_command_find(argv[at]);
    if (c->command != NULL)
        return -1;
    for (const struct cli_command *cmd = cli_commands; cmd->name != NULL && n + 1 < 16; cmd++)
        words[n++] = cmd->name;
    words[n] = NULL;
    close = cli_closest(argv[at], words);
    if (close != NULL)
        return cli_usage(c, "there is no command '%.80s'; did you mean %s?", argv[at], close);
    return cli_usage(c, "there is no command '%.80s'; certmesh help lists them", argv[at]);
}

int cli_parse(struct cli *c, int argc, char **argv)
{
    struct option longs[OPTIONS_MAX + 1];
    size_t n = 0;
    char shorts[2 * OPTIONS_MAX + 2];
    size_t n_shorts = 0;
    int at = 0;
    int rc = find_command(c, argc, argv, &at);

    if (rc >= 0)
        return rc;
    for (int i = at; i + 1 < argc; i++) /* take the command out */
        argv[i] = argv[i + 1];
    argc--;

    c->o.reason = -1;
    c->o.grace_s = -1;
    shorts[n_shorts++] = ':'; /* tell a missing value from an unknown option */
    for (size_t i = 0; cli_options[i].name != NULL && n < OPTIONS_MAX; i++) {
        const struct cli_option *opt = &cli_options[i];

        if ((opt->commands & c->command->bit) == 0)
            continue;
        longs[n].name = opt->name;
        longs[n].has_arg = opt->kind == CLI_KIND_FLAG ? no_argument : required_argument;
        longs[n].flag = NULL;
        longs[n].val = (int)(FIRST_VALUE + i);
        n++;
        if (opt->letter != 0)
            shorts[n_shorts++] = opt->letter;
        if (opt->letter != 0 && opt->kind != CLI_KIND_FLAG)
            shorts[n_shorts++] = ':';
    }
    memset(&longs[n], 0, sizeof longs[n]);
    shorts[n_shorts] = '\0';

    opterr = 0;
    optind = 1;
    for (;;) {
        const struct cli_option *opt = NULL;
        int before = optind;
        int got = getopt_long(argc, argv, shorts, longs, NULL);

        if (got == -1)
            break;
        if (got == ':')
            return cli_usage(c, "option '%s' needs a value", argv[optind - 1]);
        if (got == '?') {
            if (optopt >= FIRST_VALUE) /* "--json=x" */
                return cli_usage(c, "option --%s takes no value",
                                 cli_options[optopt - FIRST_VALUE].name);
            return bad_option(c, argv[optind > before ? optind - 1 : optind]);
        }
        opt = got >= FIRST_VALUE ? &cli_options[got - FIRST_VALUE] : option_find_letter((char)got);
        if (opt == NULL)
            continue;
        rc = set_value(c, opt, optarg);
        if (rc >= 0)
            return rc;
    }
    if (c->o.help) {
        cli_help_command(stdout, c->command);
        return CLI_OK;
    }
    c->names = (const char **)(void *)&argv[optind];
    c->n_names = (size_t)(argc - optind);
    rc = apply_environment(c);
    return rc >= 0 ? rc : check_together(c);
}
