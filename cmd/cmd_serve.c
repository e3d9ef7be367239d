/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SHUTDOWN_S    5
#define WATCH_FAST_NS (100 * CM_NS_PER_MS)
#define WATCH_SLOW_NS (2 * CM_NS_PER_S)
#define WATCH_FAST_N  600

struct serving {
    struct cli_site site; /* first: the handler's user pointer */
    struct cli *cli;
    uint16_t tls_port;
    pthread_t watcher;
    bool watching;
};

/* Tell systemd (sd_notify protocol): one datagram to $NOTIFY_SOCKET, nothing without it. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = path != NULL ? strlen(path) : 0;
    int fd = -1;

    if (len < 2 || len >= sizeof addr.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@')
        addr.sun_path[0] = '\0'; /* abstract socket */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&addr,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    (void)close(fd);
}

static bool newest(void *user, struct cm_cert *cert)
{
    struct cm_cert **slot = user;

    *slot = cm_cert_ref(cert);
    return false;
}

static void say_up(struct serving *s, const char *name)
{
    struct cm_cert *cert = NULL;
    char normal[256], port[8] = "", when[CLI_TIME_SIZE];
    bool ip6 = strchr(name, ':') != NULL;

    if (cm_normalize_name(name, normal, NULL) == CM_OK)
        cm_cache_match(cm_config_cache(s->cli->cfg), normal, newest, &cert);
    if (s->tls_port != 443)
        (void)snprintf(port, sizeof port, ":%u", s->tls_port);
    cli_say("certmesh: https://%s%s%s%s/ is up%s%s%s%s", ip6 ? "[" : "", name, ip6 ? "]" : "", port,
            cert != NULL ? ", certificate by " : "", cert != NULL ? cm_cert_issuer_cn(cert) : "",
            cert != NULL ? " until " : "",
            cert != NULL ? cli_time_human(cm_cert_not_after_s(cert), when) : "");
    cm_cert_unref(cert);
}

/* Names come up one by one while connections are served already; say so as it happens. */
static void *watch(void *user)
{
    struct serving *s = user;
    struct cli *c = s->cli;
    struct cm_op op = { NULL, 0, c->cancel };
    bool *up = calloc(c->n_names, sizeof *up);
    bool *told = calloc(c->n_names, sizeof *told);
    size_t n_up = 0;

    for (unsigned round = 0; up != NULL && told != NULL && n_up < c->n_names; round++) {
        for (size_t i = 0; i < c->n_names; i++) {
            struct cm_name_state st = { .size = (uint32_t)sizeof st };

            if (up[i] || cm_name_state(c->cfg, c->names[i], &st, NULL) != CM_OK)
                continue;
            if (st.served) {
                up[i] = true;
                n_up++;
                say_up(s, c->names[i]);
            } else if (!st.busy && st.last.status != CM_OK && !told[i]) {
                told[i] = true;
                (void)cli_report(c, c->names[i], &st.last);
            }
        }
        if (n_up == c->n_names && c->n_names > 1)
            cli_say("certmesh: all %zu names are up", n_up);
        if (cm_op_wait(&op, round < WATCH_FAST_N ? WATCH_FAST_NS : WATCH_SLOW_NS, NULL) != CM_OK)
            break;
    }
    free(up);
    free(told);
    return NULL;
}

static void ports_are_open(void *user, uint16_t http_port, uint16_t tls_port)
{
    struct serving *s = user;
    struct cli *c = s->cli;
    const char *host = c->o.listen != NULL ? c->o.listen : "all addresses";

    s->tls_port = tls_port;
    if (http_port != 0)
        cli_say("certmesh: serving HTTPS on port %u of %s; port %u redirects to it", tls_port, host,
                http_port);
    else
        cli_say("certmesh: serving HTTPS on port %u of %s", tls_port, host);
    notify("READY=1");
    s->watching = pthread_create(&s->watcher, NULL, watch, s) == 0;
}

static int serve(struct cli *c, struct serving *s)
{
    struct cm_https_options o = CM_HTTPS_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_OK;

    o.cfg = c->cfg;
    o.stop = c->cancel;
    o.host = c->o.listen;
    o.http_port = c->o.http_port;
    o.tls_port = c->o.tls_port;
    o.redirect_port = c->o.redirect_port;
    o.no_http = c->o.no_http;
    o.ready = ports_are_open;
    rc = cm_https(c->names, c->n_names, cli_site_handle, s, &o, &err);
    cm_cancel_fire(c->cancel); /* whatever ended it, the watcher ends too */
    if (s->watching)
        (void)pthread_join(s->watcher, NULL);
    if (rc != CM_OK && !(rc == CM_E_CANCELED && cli_signals_exit() != 0))
        return cli_report(c, NULL, &err);
    notify("STOPPING=1");
    cli_say("certmesh: stopped");
    return CLI_OK;
}

int cli_run_serve(struct cli *c)
{
    struct serving s = { .site = { c, -1 }, .cli = c };
    struct cm_err err = CM_ERR_INIT;
    int code = CLI_OK;

    for (size_t i = 0; i < c->n_names; i++) {
        char normal[256];

        if (cm_normalize_name(c->names[i], normal, &err) != CM_OK)
            return cli_report(c, c->names[i], &err);
    }
    if (c->o.dir != NULL) {
        s.site.dir_fd = open(c->o.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (s.site.dir_fd < 0) {
            (void)cm_fail_errno(&err, "--dir '%s'", c->o.dir);
            (void)cli_report(c, NULL, &err);
            return CLI_USAGE;
        }
    }
    cli_signals_start(c->cancel, SHUTDOWN_S);
    code = cli_open(c);
    if (code == CLI_OK)
        code = serve(c, &s);
    if (s.site.dir_fd >= 0)
        (void)close(s.site.dir_fd);
    return code;
}
