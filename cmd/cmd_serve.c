/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SHUTDOWN_S 5

struct serving {
    struct cli_site site; /* first: the handler's user pointer */
    struct cli *cli;
    struct cli_minder *minder;
    struct cm_metrics_listener *metrics;
    struct cm_sockets *sockets; /* those of systemd, until they are served on */
    bool given;                 /* there were some for TLS */
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

/* Before there are other threads: no program that is run from here is to think they are for it. */
static cm_status take_sockets(struct serving *s, struct cm_err *err)
{
    static const char *const names[] = { "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES" };
    const struct cli_opts *o = &s->cli->o;
    cm_status rc = cm_sockets_new(&s->sockets, err);

    if (rc == CM_OK)
        rc = cm_sockets_add_systemd(s->sockets, o->tls_port, o->http_port, err);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unsetenv(names[i]);
    if (rc != CM_OK)
        return rc;
    s->given = cm_sockets_count(s->sockets, CM_SOCKET_TLS) > 0;
    if (o->no_http && cm_sockets_count(s->sockets, CM_SOCKET_HTTP) > 0)
        return cm_fail(
            err, CM_E_INVAL,
            "systemd gives a socket for HTTP, and --no-http wants none: take the one out "
            "of the socket unit, or leave the other out");
    return CM_OK;
}

static cm_status manage_also(struct cli *c, struct cm_err *err)
{
    if (c->o.san)
        return cm_manage_together_async(c->also, c->names, c->n_names, NULL, err);
    return cm_manage_async(c->also, c->names, c->n_names, err);
}

static void ports_are_open(void *user, uint16_t http_port, uint16_t tls_port)
{
    struct serving *s = user;
    struct cli *c = s->cli;
    const char *host = c->o.listen != NULL ? c->o.listen : "all addresses";
    struct cm_err err = CM_ERR_INIT;

    if (s->given)
        host = "what systemd listens on";
    if (http_port != 0)
        cli_say("certmesh: serving HTTPS on port %u of %s; port %u redirects to it", tls_port, host,
                http_port);
    else
        cli_say("certmesh: serving HTTPS on port %u of %s", tls_port, host);
    /* Not before: a port that is open for a challenge could not be had for serving. */
    if (c->also != NULL && c->n_names > 0 && manage_also(c, &err) != CM_OK)
        (void)cli_report(c, "--also-key-type", &err);
    notify("READY=1");
    if (c->n_names > 0)
        s->minder = cli_minder_start(c, tls_port);
}

static int serve(struct cli *c, struct serving *s)
{
    struct cm_https_options o = CM_HTTPS_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = CM_OK;
    int code = CLI_OK;

    o.cfg = c->cfg;
    o.stop = c->cancel;
    o.host = c->o.listen;
    o.http_port = c->o.http_port;
    o.tls_port = c->o.tls_port;
    o.redirect_port = c->o.redirect_port;
    o.no_http = c->o.no_http;
    o.together = c->o.san;
    o.ready = ports_are_open;
    o.sockets = s->sockets;
    rc = cm_https(c->names, c->n_names, cli_site_handle, s, &o, &err);
    cm_cancel_fire(c->cancel); /* whatever ended it, the minder ends too */
    code = cli_minder_stop(s->minder);
    if (rc != CM_OK && !(rc == CM_E_CANCELED && cli_signals_exit() != 0))
        return cli_report(c, NULL, &err);
    notify("STOPPING=1");
    cm_metrics_close(s->metrics);
    s->metrics = NULL;
    cli_close(c);
    if (code != CLI_OK)
        cli_complain("certmesh: serve: no name can be served");
    else
        cli_say("certmesh: stopped");
    return code;
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
    if (take_sockets(&s, &err) != CM_OK) {
        (void)cli_report(c, NULL, &err);
        code = CLI_PORT;
    }
    if (code == CLI_OK)
        code = cli_open(c);
    if (code == CLI_OK)
        code = cli_beside_start(c, &s.metrics);
    if (code == CLI_OK)
        code = serve(c, &s);
    cm_metrics_close(s.metrics);
    cm_sockets_free(s.sockets);
    if (s.site.dir_fd >= 0)
        (void)close(s.site.dir_fd);
    return code;
}
