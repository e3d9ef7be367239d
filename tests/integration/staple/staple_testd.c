/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>

#include "base.h"
#include "net.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* staple_testd STORE PORT CHAIN:KEY...: serve the given certificates, with staples that come from
 * the responders they name, until it is ended by a signal. Says "ready"; logs to standard error. */

struct web {
    struct cm_fetcher base;
    struct cm_http *http;
};

static cm_status fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                       int *ret_http_status, struct cm_buf *ret_body, struct cm_err *err)
{
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    const struct cm_http_request plain = { .method = req->method,
                                           .url = req->url,
                                           .content_type = req->content_type,
                                           .accept = req->accept,
                                           .body = req->body,
                                           .max_body = req->max_body };

    cm_status rc = cm_http_do(CM_CONTAINER_OF(f, struct web, base)->http, op, &plain, &resp, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_body, resp.body.data, resp.body.len, err);
    if (rc == CM_OK)
        *ret_http_status = resp.status;
    cm_http_response_free(&resp);
    return rc;
}

static const struct cm_fetcher_ops web_ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof web_ops, .name = "web", .fetch = fetch
};

static void tell(void *user, enum cm_log_level level, const char *event, const char *msg,
                 const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)fields;
    (void)n;
    (void)fprintf(stderr, "%s: %s\n", event, msg);
    (void)fflush(stderr);
}

static int fail(const char *what, const struct cm_err *err)
{
    (void)fprintf(stderr, "%s: %s\n", what, err->msg);
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
        gnutls_record_set_timeout(c->session, 5000);
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
    const char *colon = strchr(pair, ':');
    char chain[512];

    if (colon == NULL || (size_t)(colon - pair) >= sizeof chain)
        return cm_fail(err, CM_E_INVAL, "'%s' is not CHAIN:KEY", pair);
    (void)snprintf(chain, sizeof chain, "%.*s", (int)(colon - pair), pair);
    return cm_cache_add_files(cache, chain, colon + 1, NULL, NULL, err);
}

int main(int argc, char **argv)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    const struct cm_http_options ho = { .allow_plain_http = true };
    struct web web = { .base = { &web_ops } };
    struct cm_config *cfg = NULL;
    struct cm_listener *l = NULL;
    struct cm_err err = CM_ERR_INIT;
    struct cm_conn conn;

    if (argc < 4) {
        (void)fputs("usage: staple_testd STORE PORT CHAIN:KEY...\n", stderr);
        return 2;
    }
    if (cm_http_new(&ho, &web.http, &err) != CM_OK)
        return fail("HTTP client", &err);
    o.storage = argv[1];
    o.internal = true;
    o.tls_port = (uint16_t)strtoul(argv[2], NULL, 10);
    o.fetcher = &web.base;
    o.log = (struct cm_log){ tell, NULL, CM_LOG_DEBUG };
    if (cm_config_new(&o, &cfg, &err) != CM_OK)
        return fail("config", &err);
    for (int i = 3; i < argc; i++)
        if (add(cm_config_cache(cfg), argv[i], &err) != CM_OK)
            return fail("add", &err);
    if (cm_listen(cfg, "127.0.0.1", 0, &l, &err) != CM_OK)
        return fail("listen", &err);
    puts("ready");
    (void)fflush(stdout);

    /* The test ends us by a signal; what matters is what clients see. */
    while (cm_accept(l, NULL, &conn, &err) == CM_OK)
        serve_one(&conn);
    cm_listener_free(l);
    cm_config_free(cfg);
    cm_http_free(web.http);
    return 0;
}
