/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* Options about CAs and about the life of certificates: what values they take, and which of them
 * exclude each other. */

#define FALLBACK_CAS_MAX 15u /* the library takes 16 CAs in all */
#define RATE_EVENTS_MAX  1000000u
#define RATE_WINDOW_S    (366 * INT64_C(86400))

static const char *const ca_words[] = { "letsencrypt", "letsencrypt-staging", "internal", NULL };

int cli_set_ca(const struct cli *c, const char *option, const char **ca, const char *value)
{
    const char *close = NULL;

    for (size_t i = 0; ca_words[i] != NULL; i++) {
        if (strcmp(ca_words[i], value) == 0) {
            *ca = value;
            return -1;
        }
    }
    if (strncmp(value, "https://", 8) == 0 && value[8] != '\0') {
        *ca = value;
        return -1;
    }
    if (strncmp(value, "http://", 7) == 0)
        return cli_usage(c, "--%s '%s': an ACME CA is only talked to over https", option, value);
    close = cli_closest(value, ca_words);
    if (close != NULL)
        return cli_usage(c, "--%s '%s' is not known; did you mean %s?", option, value, close);
    return cli_usage(c,
                     "--%s '%s' is neither letsencrypt, letsencrypt-staging, internal nor the "
                     "https URL of an ACME directory",
                     option, value);
}

int cli_set_acme_ca(const struct cli *c, const char *option, const char **ca, const char *value)
{
    if (strcmp(value, "internal") == 0)
        return cli_usage(c, "--%s internal: it has to be a CA that speaks ACME", option);
    return cli_set_ca(c, option, ca, value);
}

int cli_add_ca(const struct cli *c, const char *option, struct cli_list *cas, const char *value)
{
    if (cas->n == FALLBACK_CAS_MAX)
        return cli_usage(c, "--%s more than %u times", option, FALLBACK_CAS_MAX);
    int rc = cli_set_acme_ca(c, option, &cas->at[cas->n], value);
    if (rc < 0)
        cas->n++;
    return rc;
}

int cli_set_ca_order(const struct cli *c, bool *random, const char *value)
{
    *random = strcmp(value, "random") == 0;
    if (*random || strcmp(value, "listed") == 0)
        return -1;
    return cli_usage(c, "--ca-order '%.80s' is not known; there are listed and random", value);
}

int cli_set_rate(const struct cli *c, const char *option, struct cli_rate *rate, const char *value)
{
    const char *slash = strchr(value, '/');
    char number[16] = "";
    uint64_t events = 0;
    int64_t window_s = 0;

    if (strcmp(value, "off") == 0) {
        *rate = (struct cli_rate){ 0, -1 };
        return -1;
    }
    if (slash != NULL && (size_t)(slash - value) < sizeof number)
        memcpy(number, value, (size_t)(slash - value));
    if (!cli_parse_uint(number, RATE_EVENTS_MAX, &events) || events == 0 ||
        !cli_parse_duration(slash + 1, &window_s) || window_s <= 0 || window_s > RATE_WINDOW_S)
        return cli_usage(c,
                         "--%s '%.80s' is neither off nor a number of orders (1 to %u) in a time "
                         "(a year at most) such as 300/3h",
                         option, value, RATE_EVENTS_MAX);
    *rate = (struct cli_rate){ (size_t)events, window_s * 1000 };
    return -1;
}

static bool is_url(const char *text, size_t len)
{
    return (len > 7 && strncmp(text, "http://", 7) == 0) ||
           (len > 8 && strncmp(text, "https://", 8) == 0);
}

int cli_add_responder(const struct cli *c, struct cli_list *list, const char *value)
{
    const char *to = strchr(value, '=');

    if (to == NULL || !is_url(value, (size_t)(to - value)) ||
        (to[1] != '\0' && !is_url(to + 1, strlen(to + 1))))
        return cli_usage(c,
                         "--ocsp-responder '%.200s' is not FROM=TO, the URL that certificates name "
                         "and the URL to ask instead (nothing: ask none)",
                         value);
    if (list->n == CLI_LIST_MAX)
        return cli_usage(c, "--ocsp-responder more than %u times", CLI_LIST_MAX);
    list->at[list->n++] = value;
    return -1;
}

static bool takes(const struct cli *c, const char *option)
{
    for (const struct cli_option *opt = cli_options; opt->name != NULL; opt++)
        if (strcmp(opt->name, option) == 0 && (opt->commands & c->command->bit) != 0)
            return true;
    return false;
}

/* Several, with white space between them: the text becomes one string for each. */
static int add_cas(const struct cli *c, struct cli_list *cas, char *text)
{
    static const char space[] = " \t\n";
    int rc = -1;

    for (text += strspn(text, space); rc < 0 && *text != '\0';) {
        char *end = text + strcspn(text, space);
        char *next = end + strspn(end, space);

        *end = '\0';
        rc = cli_add_ca(c, "fallback-ca", cas, text);
        text = next;
    }
    return rc;
}

int cli_cas_from_environment(struct cli *c)
{
    const char *ca = getenv("CERTMESH_CA");
    const char *test = getenv("CERTMESH_TEST_CA");
    char *fallback = getenv("CERTMESH_FALLBACK_CA");
    int rc = -1;

    if (c->o.ca == NULL && !c->o.internal && ca != NULL && ca[0] != '\0')
        rc = cli_set_ca(c, "ca", &c->o.ca, ca);
    if (rc >= 0 || cli_is_internal(c)) /* which has neither */
        return rc;
    if (takes(c, "test-ca") && c->o.test_ca == NULL && test != NULL && test[0] != '\0')
        rc = cli_set_acme_ca(c, "test-ca", &c->o.test_ca, test);
    if (rc < 0 && takes(c, "fallback-ca") && c->o.fallback_cas.n == 0 && fallback != NULL)
        rc = add_cas(c, &c->o.fallback_cas, fallback);
    return rc;
}

static int check_issuer(const struct cli *c)
{
    bool zerossl = c->o.issuer != NULL && strcmp(c->o.issuer, "zerossl") == 0;

    if (c->o.issuer != NULL && !zerossl && strcmp(c->o.issuer, "acme") != 0)
        return cli_usage(c, "--issuer '%.80s' is not known; there are acme and zerossl",
                         c->o.issuer);
    if (zerossl != (c->o.zerossl_key_file != NULL))
        return cli_usage(c, zerossl ? "--issuer zerossl needs its access key: --zerossl-key-file"
                                    : "--zerossl-key-file is for --issuer zerossl");
    if (zerossl && (cli_is_internal(c) || c->o.test_ca != NULL))
        return cli_usage(c, "--issuer zerossl and %s exclude each other",
                         c->o.test_ca != NULL ? "--test-ca" : "the internal CA");
    if (zerossl && c->o.ca != NULL && strncmp(c->o.ca, "https://", 8) != 0)
        return cli_usage(c, "--ca '%.80s' is no CA for --issuer zerossl; leave it out", c->o.ca);
    return -1;
}

static int check_on_demand(const struct cli *c)
{
    const char *option = c->o.ask != NULL            ? "ask"
                         : c->o.allow.n > 0          ? "allow"
                         : c->o.allow_suffixes.n > 0 ? "allow-suffix"
                                                     : NULL;

    const struct cli_rate *rate = &c->o.demand_rate;

    if (option == NULL && !c->o.on_demand && rate->window_ms != 0)
        option = "on-demand-rate";
    if (rate->window_ms < 0 || rate->events > 1000 ||
        (rate->window_ms > 0 && (rate->window_ms < 60000 || rate->window_ms > 7 * 86400000)))
        return cli_usage(c, "--on-demand-rate takes 1 to 1000 orders in 1m to 7d, such as 200/3h");
    if (c->o.recheck_s > 0 && (c->o.ask == NULL || c->o.recheck_s > 86400))
        return cli_usage(c, c->o.ask == NULL ? "--on-demand-recheck asks again: it needs --ask"
                                             : "--on-demand-recheck takes a day at most");
    if (c->o.on_demand && option == NULL)
        return cli_usage(c,
                         "--on-demand for which names? Give --ask, --allow or --allow-suffix, or "
                         "anybody could have certificates made");
    if (!c->o.on_demand && option != NULL)
        return cli_usage(c, "--%s is of no use without --on-demand", option);
    return -1;
}

int cli_life_check(const struct cli *c)
{
    int rc = check_issuer(c);

    if (rc >= 0)
        return rc;
    if (cli_is_internal(c) && (c->o.test_ca != NULL || c->o.fallback_cas.n > 0))
        return cli_usage(c, "the internal CA and --%s exclude each other",
                         c->o.test_ca != NULL ? "test-ca" : "fallback-ca");
    if (c->o.ca_random && c->o.fallback_cas.n == 0)
        return cli_usage(c, "--ca-order random needs another CA to choose from: --fallback-ca");
    if (c->o.no_ocsp && c->o.responders.n > 0)
        return cli_usage(c, "--no-ocsp and --ocsp-responder exclude each other");
    return check_on_demand(c);
}
