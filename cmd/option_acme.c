/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* What a CA is asked for beyond names, which of its chains is taken, and by way of which proxy it
 * is reached. */

int cli_set_chain(const struct cli *c, enum cm_chain_choice *chain, const char *value)
{
    static const char *const words[] = { "root", "any", "smallest", NULL };

    for (int i = 0; words[i] != NULL; i++)
        if (strcmp(words[i], value) == 0) {
            *chain = (enum cm_chain_choice)i;
            return -1;
        }
    const char *close = cli_closest(value, words);
    return cli_usage(c, "--chain '%.80s' is not known; %s%s%s", value,
                     close != NULL ? "did you mean " : "there are root, any and smallest",
                     close != NULL ? close : "", close != NULL ? "?" : "");
}

int cli_acme_check(const struct cli *c)
{
    if (c->o.chain == CM_CHAIN_SMALLEST && c->o.preferred_chain != NULL)
        return cli_usage(c, "--chain smallest and --preferred-chain exclude each other");
    if (c->o.chain == CM_CHAIN_ANY && c->o.preferred_chain == NULL)
        return cli_usage(c, "--chain any needs --preferred-chain, the name to look for");
    if (c->o.also_key_type != CM_KEY_DEFAULT && cli_is_internal(c))
        return cli_usage(c, "the internal CA and --also-key-type exclude each other");
    if (c->o.also_key_type != CM_KEY_DEFAULT && (c->o.variant != NULL || c->o.fallback_cas.n > 0))
        return cli_usage(c, "--also-key-type excludes --variant and --fallback-ca");
    if (c->o.also_key_type != CM_KEY_DEFAULT &&
        c->o.also_key_type == (c->o.key_type == CM_KEY_DEFAULT ? CM_KEY_P256 : c->o.key_type))
        return cli_usage(c, "--also-key-type is the same as --key-type");
    if (c->o.csr != NULL && (c->n_names > 0 || c->o.san))
        return cli_usage(c, "--csr: the names are those of the request; give none");
    if (c->o.csr == NULL && c->o.out != NULL && c->command->bit == CLI_OBTAIN)
        return cli_usage(c, "--out is for the chain that comes of --csr");
    return cli_extra_check(c);
}

/* ------------------------------------------------------------------- proxies */

static const char *first_of(const char *const *variables)
{
    for (; *variables != NULL; variables++) {
        const char *value = getenv(*variables);

        if (value != NULL && value[0] != '\0')
            return value;
    }
    return NULL;
}

/* HTTP_PROXY is left out on purpose: a web server sets it to what a stranger's "Proxy:" header
 * says.
 */
void cli_proxies_from_environment(struct cli *c)
{
    static const char *const https[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
                                         NULL };
    static const char *const http[] = { "http_proxy", "all_proxy", "ALL_PROXY", NULL };
    static const char *const except[] = { "no_proxy", "NO_PROXY", NULL };

    c->o.env_proxies.https = first_of(https);
    c->o.env_proxies.http = first_of(http);
    c->o.env_proxies.except = first_of(except);
}

static const char *proxy_of(const struct cli *c, const char *from_environment)
{
    if (c->o.proxy == NULL)
        return from_environment;
    return strcmp(c->o.proxy, "none") == 0 ? NULL : c->o.proxy;
}

void cli_fill_extra(const struct cli *c, bool elsewhere, struct cm_acme_extra *x)
{
    *x = (struct cm_acme_extra)CM_ACME_EXTRA_INIT;
    x->chain = c->o.chain;
    if (c->o.no_http && c->o.challenges == 0) /* else somebody else answers */
        x->never_challenges = CM_CHALLENGE_HTTP01;
    if (!elsewhere) {
        x->lifetime_s = c->o.lifetime_s;
        x->backdate_s = c->o.backdate_s;
        x->stateless_http01 = c->o.stateless;
        x->variant = c->o.variant;
    }
    x->proxy = proxy_of(c, c->o.env_proxies.https);
    x->no_proxy = c->o.env_proxies.except;
}

cm_status cli_fetcher_new(const struct cli *c, struct cm_fetcher **ret, struct cm_err *err)
{
    const struct cm_http_fetcher_options o = { .size = (uint32_t)sizeof o,
                                               .proxy = proxy_of(c, c->o.env_proxies.http),
                                               .no_proxy = c->o.env_proxies.except,
                                               .allow_local = c->o.fetch_local,
                                               .log = cli_log(c) };

    *ret = NULL;
    return o.proxy == NULL ? CM_OK : cm_http_fetcher_new(&o, ret, err);
}
