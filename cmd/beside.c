/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <stdlib.h>
#include <string.h>

/* What `serve` does beside its names: certificates from files, and a port for metrics. */

#define METRICS_PORT 9464 /* where exporters for Prometheus commonly are */

/* "9464", "HOST", "HOST:PORT", "[::1]", "[::1]:PORT", "::1". False: it is none of them. */
static bool split_address(const char *text, char host[256], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    const char *end = text + strlen(text);
    uint64_t port = METRICS_PORT;

    host[0] = '\0';
    if (cli_parse_uint(text, 65535, &port)) {
        *ret_port = (uint16_t)port;
        return port > 0;
    }
    if (text[0] == '[') {
        end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        colon = end[1] == ':' ? end + 1 : NULL;
    } else if (colon != NULL && strchr(text, ':') == colon) {
        end = colon;
    } else {
        colon = NULL; /* an IPv6 address, or no colon at all */
    }
    if (colon != NULL && (!cli_parse_uint(colon + 1, 65535, &port) || port == 0))
        return false;
    if ((size_t)(end - text) >= 256)
        return false;
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = '\0';
    *ret_port = (uint16_t)port;
    return true;
}

int cli_beside_check(const struct cli *c)
{
    char host[256];
    uint16_t port;

    if (c->o.certs.n != c->o.keys.n)
        return cli_usage(c, "each --cert needs its --key, in the same order");
    if (c->o.metrics != NULL && !split_address(c->o.metrics, host, &port))
        return cli_usage(c, "--metrics '%.80s' is no ADDRESS[:PORT]", c->o.metrics);
    return -1;
}

static int watch_files(struct cli *c)
{
    struct cm_err err = CM_ERR_INIT;

    for (size_t i = 0; i < c->o.certs.n; i++) {
        cm_status rc = cm_cache_watch_files(cm_config_cache(c->cfg), c->o.certs.at[i],
                                            c->o.keys.at[i], NULL, &err);
        if (rc != CM_OK) {
            int code = cli_report(c, NULL, &err);

            /* a file that an option names is not there: nothing to do with what storage holds */
            return rc == CM_E_NOTFOUND ? CLI_USAGE : code;
        }
        cli_say("certmesh: serving '%s' with '%s', and whatever takes their place",
                c->o.certs.at[i], c->o.keys.at[i]);
    }
    return CLI_OK;
}

int cli_beside_start(struct cli *c, struct cm_metrics_listener **ret)
{
    struct cm_err err = CM_ERR_INIT;
    char host[256] = "";
    uint16_t port = 0;
    int code = watch_files(c);

    if (code != CLI_OK || c->o.metrics == NULL)
        return code;
    (void)split_address(c->o.metrics, host, &port);
    if (cm_metrics_listen(c->cfg, host[0] != '\0' ? host : NULL, port, ret, &err) != CM_OK)
        return cli_report(c, NULL, &err);
    bool ip6 = strchr(host, ':') != NULL;
    cli_say("certmesh: metrics at http://%s%s%s:%u/metrics", ip6 ? "[" : "",
            host[0] != '\0' ? host : "127.0.0.1", ip6 ? "]" : "", cm_metrics_port(*ret));
    return CLI_OK;
}
