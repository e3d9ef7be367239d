/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* select_testd STORE CHAIN:KEY...: serve the given certificates through the public calls, one
 * connection after the other, until standard input ends. Prints its port. */

static int fail(const char *what, const struct cm_err *err)
{
    fprintf(stderr, "%s: %s\n", what, err->msg);
    return 1;
}

static void serve_one(struct cm_conn *c)
{
    static const char page[] = "HTTP/1.0 200 OK\r\n\r\nhello\n";
    char request[1024];
    int rc;

    gnutls_handshake_set_timeout(c->session, 5000);
    do {
        rc = gnutls_handshake(c->session);
    } while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    if (rc == 0) {
        (void)gnutls_record_recv(c->session, request, sizeof request);
        (void)gnutls_record_send(c->session, page, sizeof page - 1);
        (void)gnutls_bye(c->session, GNUTLS_SHUT_WR);
    } else {
        (void)gnutls_alert_send_appropriate(c->session, rc);
    }
    gnutls_deinit(c->session);
    (void)close(c->fd);
}

static cm_status add(struct cm_cache *cache, const char *pair, struct cm_err *err)
{
    static const char *const tags[] = { "of-our-own", NULL };
    const char *colon = strchr(pair, ':');
    char chain[512];

    if (colon == NULL || (size_t)(colon - pair) >= sizeof chain)
        return cm_fail(err, CM_E_INVAL, "'%s' is not CHAIN:KEY", pair);
    (void)snprintf(chain, sizeof chain, "%.*s", (int)(colon - pair), pair);
    return cm_cache_add_files(cache, chain, colon + 1, tags, NULL, err);
}

int main(int argc, char **argv)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_config *cfg = NULL;
    struct cm_listener *l = NULL;
    struct cm_err err = CM_ERR_INIT;
    struct cm_conn conn;

    if (argc < 3) {
        fputs("usage: select_testd STORE CHAIN:KEY...\n", stderr);
        return 2;
    }
    o.storage = argv[1];
    o.internal = true;
    o.default_name = "default.test";
    o.fallback_name = "fallback.test";
    if (cm_config_new(&o, &cfg, &err) != CM_OK)
        return fail("config", &err);
    for (int i = 2; i < argc; i++)
        if (add(cm_config_cache(cfg), argv[i], &err) != CM_OK)
            return fail("add", &err);
    if (cm_listen(cfg, "127.0.0.1", 0, &l, &err) != CM_OK)
        return fail("listen", &err);
    printf("port %u\n", (unsigned)cm_listener_port(l));
    (void)fflush(stdout);

    /* The test ends us by a signal; what matters is what clients see. */
    while (cm_accept(l, NULL, &conn, &err) == CM_OK)
        serve_one(&conn);
    cm_listener_free(l);
    cm_config_free(cfg);
    return 0;
}
