/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"
#include "door.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Listeners whose connections get their certificates from a manager. */

#define CACHE_DIR    "golang-autocert" /* autocert's own: so one finds what the other got */
#define KEEP_ALIVE_S 180               /* as autocert's listener has it */
#define HANDSHAKE_MS (10 * 1000)       /* for what the client has to say */

cm_status cm_autocert_listen(struct cm_autocert *m, const char *host, uint16_t port,
                             struct cm_autocert_listener **ret, struct cm_err *err)
{
    struct cm_autocert_listener *l;

    if (m == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no manager, or no place for the listener");
    l = cm_calloc(1, sizeof *l);
    if (l == NULL)
        return cm_fail_nomem(err);
    l->m = m;
    cm_status rc = cm_listen(m->half[0].cfg, host, port, &l->l, err);
    if (rc != CM_OK) {
        free(l);
        return rc;
    }
    *ret = l;
    return CM_OK;
}

static char *default_cache(struct cm_err *err)
{
    const char *xdg = secure_getenv("XDG_CACHE_HOME");
    const char *home = secure_getenv("HOME");
    char *path = NULL;

    if (xdg != NULL && xdg[0] == '/')
        path = cm_asprintf("%s/" CACHE_DIR, xdg);
    else if (home != NULL && home[0] == '/')
        path = cm_asprintf("%s/.cache/" CACHE_DIR, home);
    else
        (void)cm_fail(err, CM_E_INVAL, "autocert: neither XDG_CACHE_HOME nor HOME is set");
    if (path == NULL && (home != NULL || xdg != NULL))
        (void)cm_fail_nomem(err);
    return path;
}

cm_status autocert_listen_names(const char *const *names, size_t n,
                                const struct cm_config_options *config, const char *host,
                                uint16_t port, struct cm_autocert_listener **ret,
                                struct cm_err *err)
{
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct cm_autocert_cache *cache = NULL;
    struct cm_autocert *m = NULL;

    if (names == NULL || n == 0 || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no names, or no place for the listener");
    CM_AUTO_FREE char *path = default_cache(err);
    if (path == NULL)
        return err != NULL ? err->status : CM_E_INVAL;
    cm_status rc = cm_autocert_dircache(path, &cache, err);
    if (rc != CM_OK)
        return rc;
    o.prompt = cm_accept_tos;
    o.cache = cache;
    o.hosts = names;
    o.n_hosts = n;
    o.config = config;
    rc = cm_autocert_new(&o, &m, err);
    if (rc != CM_OK) {
        cm_autocert_cache_free(cache);
        return rc;
    }
    m->own_cache = cache;
    rc = cm_autocert_listen(m, host, port, ret, err);
    if (rc != CM_OK)
        cm_autocert_free(m);
    else
        (*ret)->own = m;
    return rc;
}

cm_status cm_autocert_listen_names(const char *const *names, size_t n,
                                   struct cm_autocert_listener **ret, struct cm_err *err)
{
    return autocert_listen_names(names, n, NULL, NULL, 0, ret, err);
}

static void keep_alive(int fd)
{
    const int on = 1, idle = KEEP_ALIVE_S;

    /* What cannot be set is the kernel's default. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
}

cm_status cm_autocert_accept(struct cm_autocert_listener *l, const struct cm_op *op,
                             struct cm_conn *ret, struct cm_err *err)
{
    gnutls_session_t session = NULL;
    int fd = -1;

    if (l == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "autocert: no listener, or no place for the connection");
    cm_status rc = cm_listener_accept_fd(l->l, op, &fd, err);
    if (rc != CM_OK)
        return rc;
    keep_alive(fd);
    int grc = gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
    if (grc < 0) {
        (void)close(fd);
        return cm_fail(err, CM_E_TLS, "start a TLS session: %s", gnutls_strerror(grc));
    }
    rc = cm_autocert_tls_setup(l->m, session, NULL, err);
    if (rc != CM_OK) {
        gnutls_deinit(session);
        (void)close(fd);
        return rc;
    }
    gnutls_transport_set_int(session, fd);
    /* Counts the order, too: GnuTLS knows one time for all of a handshake. */
    gnutls_handshake_set_timeout(session,
                                 (unsigned)(l->m->timeout_ns / CM_NS_PER_MS) + HANDSHAKE_MS);
    ret->session = session;
    ret->fd = fd;
    return CM_OK;
}

uint16_t cm_autocert_listener_port(const struct cm_autocert_listener *l)
{
    return cm_listener_port(l->l);
}

void cm_autocert_listener_free(struct cm_autocert_listener *l)
{
    if (l == NULL)
        return;
    cm_listener_free(l->l);
    cm_autocert_free(l->own);
    free(l);
}
