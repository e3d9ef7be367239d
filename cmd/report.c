/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <errno.h>
#include <string.h>

/* Is this about a port of ours? Storage and sockets fail with the same errno values. */
static bool is_port_error(const struct cm_err *err)
{
    if (err->sys_errno == EADDRINUSE || err->sys_errno == EADDRNOTAVAIL)
        return true;
    return err->status == CM_E_PERM && strstr(err->msg, " port ") != NULL;
}

int cli_exit_of(const struct cm_err *err)
{
    if (is_port_error(err))
        return CLI_PORT;
    switch (err->status) {
    case CM_OK:
        return CLI_OK;
    case CM_E_INVAL:
    case CM_E_UNSUPPORTED:
        return CLI_USAGE;
    case CM_E_POLICY:
    case CM_E_ACME:
    case CM_E_RATELIMITED:
    case CM_E_CERT:
        return CLI_REFUSED;
    case CM_E_IO:
    case CM_E_PERM:
    case CM_E_EXISTS:
    case CM_E_BUSY:
    case CM_E_LOCK_LOST:
        return CLI_STORAGE;
    case CM_E_NET:
    case CM_E_TLS:
    case CM_E_TIMEOUT:
        return CLI_NETWORK;
    case CM_E_NOTFOUND:
        return CLI_NOTFOUND;
    case CM_E_CANCELED:
        return cli_signals_exit() != 0 ? cli_signals_exit() : CLI_FAILED;
    case CM_E_NOMEM:
    case CM_E_PARSE:
    case CM_E_LIMIT:
    case CM_E_AGAIN:
    case CM_E_KEY:
    case CM_E_STATE:
    case CM_E_INTERNAL:
        break;
    }
    return CLI_FAILED;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t len = strlen(s), n = strlen(tail);

    return len >= n && strcmp(s + len - n, tail) == 0;
}

static void hint_port(const struct cli *c, const struct cm_err *err)
{
    if (err->sys_errno == EADDRINUSE) {
        cli_complain("  Another program has that port; `ss -ltnp` tells which. Stop it, or choose\n"
                     "  other ports with --http-port and --tls-port.");
        return;
    }
    if (err->status == CM_E_PERM)
        cli_complain("  Ports below 1024 need a permission. One of these gives it:\n"
                     "    setcap cap_net_bind_service=+ep /path/to/certmesh\n"
                     "    sysctl net.ipv4.ip_unprivileged_port_start=80\n"
                     "    AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit");
    if (c->command->bit == CLI_SERVE && cli_is_internal(c))
        cli_complain("  Or use others: certmesh serve --internal --tls-port 8443 --http-port 8080");
    else
        cli_complain("  Or use others with --http-port and --tls-port, and forward 80 and 443.");
}

static void hint_problem(const struct cli *c, const char *object, const struct cm_err *err)
{
    const char *name = object != NULL ? object : "the name";

    if (ends_with(err->problem, ":externalAccountRequired")) {
        cli_complain(
            "  This CA binds accounts to customers: ask it for a key identifier and a key,\n"
            "  then add --eab-kid ID --eab-key-file FILE.");
    } else if (ends_with(err->problem, ":connection") || ends_with(err->problem, ":unauthorized") ||
               ends_with(err->problem, ":incorrectResponse") || ends_with(err->problem, ":tls")) {
        if (c->command->bit == CLI_REVOKE || c->command->bit == CLI_ACCOUNT)
            return;
        if (strstr(err->msg, "dns-persist-01") != NULL)
            cli_complain(
                "  The CA looked for a TXT record at _validation-persist. before the name, as\n"
                "  `certmesh dns persist` prints it; its --verify tells what is missing.");
        else if (strstr(err->msg, "dns-01") != NULL)
            cli_complain(
                "  The CA looked for a TXT record at _acme-challenge. before the name. Check\n"
                "  that its servers are those that the CA finds; --dns-timeout waits longer.");
        else
            cli_complain(
                "  The CA asked %.200s on port 80 (http-01) or 443 (tls-alpn-01). Check that its\n"
                "  DNS records lead here, and that a firewall or proxy lets those ports through.",
                name);
    } else if (ends_with(err->problem, ":dns")) {
        cli_complain("  The CA could not resolve %.200s. Check its A and AAAA records.", name);
    } else if (ends_with(err->problem, ":caa")) {
        cli_complain("  A CAA record of the domain names other CAs only.");
    } else if (ends_with(err->problem, ":invalidProfile")) {
        cli_complain("  The CA does not have that --profile.");
    }
}

void cli_hint(const struct cli *c, const char *object, const struct cm_err *err)
{
    char when[CLI_TIME_SIZE], span[CLI_TIME_SIZE];

    if (is_port_error(err)) {
        hint_port(c, err);
        return;
    }
    if (err->problem[0] != '\0')
        hint_problem(c, object, err);
    if (err->retry_after_s > 0) /* as the CA asks, or a limit of our own */
        cli_complain("  %s %s, at %s.",
                     err->problem[0] != '\0' || err->http_status != 0
                         ? "The CA asks to wait: try again"
                         : "Try again",
                     cli_relative(err->retry_after_s, span),
                     cli_time_human(cli_now_s() + err->retry_after_s, when));
    if (err->status == CM_E_POLICY && !c->o.agree && !cli_is_internal(c) &&
        err->problem[0] == '\0' && strstr(err->msg, "terms") != NULL)
        cli_complain("  Those of Let's Encrypt: https://letsencrypt.org/repository/\n"
                     "  To try things out without any CA: --internal.");
    if (err->status == CM_E_TLS && !cli_is_internal(c) && c->o.ca_root == NULL &&
        strstr(err->msg, "package ca-certificates") == NULL)
        cli_complain("  If the CA is a private one, name its root with --ca-root FILE.");
    if (err->status == CM_E_PERM)
        cli_complain(
            "  Run as the owner of the storage, or choose another with --storage or --root.");
    if (err->status == CM_E_TIMEOUT)
        cli_complain(strstr(err->msg, "TXT record") != NULL ? "  More time: --dns-timeout SECONDS."
                                                            : "  More time: --timeout SECONDS.");
}

int cli_report(const struct cli *c, const char *object, const struct cm_err *err)
{
    const char *msg = err->msg[0] != '\0' ? err->msg : cm_status_text(err->status);
    char name[256];

    if (err->status == CM_E_CANCELED && cli_signals_exit() != 0) {
        /* the person who pressed Ctrl-C knows why */
    } else if (object == NULL) {
        cli_complain("certmesh: %s: %s", c->command->name, msg);
    } else {
        size_t len = strlen(object);

        if (strncmp(msg, object, len) == 0 && strncmp(msg + len, ": ", 2) == 0)
            msg += len + 2; /* said already */
        cli_complain("certmesh: %s %s: %s", c->command->name,
                     cli_printable(object, name, sizeof name), msg);
    }
    cli_hint(c, object, err);
    return cli_exit_of(err);
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    if (c->command != NULL)
        cli_complain("certmesh: %s: %s\nTry: certmesh help %s", c->command->name, text,
                     c->command->name);
    else
        cli_complain("certmesh: %s\nTry: certmesh help", text);
    return CLI_USAGE;
}
