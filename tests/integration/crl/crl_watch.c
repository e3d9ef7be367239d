/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "net.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* crl_watch STORAGE CHAIN KEY [CHAIN KEY]...: what is known of each certificate from the revocation
 * list that it names, a line each. The request goes out by the room that does so for everything
 * else. */

struct web {
    struct cm_fetcher base;
    struct cm_http *http;
};

static cm_status fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                       int *ret_status, struct cm_buf *ret_body, struct cm_err *err)
{
    const struct cm_http_request http_req = {
        .method = req->method, .url = req->url, .accept = req->accept, .max_body = req->max_body
    };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct cm_op within = cm_op_within(op, req->timeout_ns);

    cm_status rc =
        cm_http_do(CM_CONTAINER_OF(f, struct web, base)->http, &within, &http_req, &resp, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_body, resp.body.data, resp.body.len, err);
    *ret_status = resp.status;
    cm_http_response_free(&resp);
    return rc;
}

static const struct cm_fetcher_ops web_ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof web_ops, .name = "crl_watch", .fetch = fetch
};

static void watch(struct cm_config *cfg, const char *chain, const char *key)
{
    struct cm_revocation rv = { .revoked = false };
    struct cm_err err = CM_ERR_INIT;
    struct cm_cert *cert = NULL;
    int64_t again = 0;

    cm_status rc = cm_cache_add_files(cm_config_cache(cfg), chain, key, NULL, &cert, &err);
    if (rc == CM_OK)
        rc = cm_crl_tend(cfg, NULL, cert, true, &again, &rv, &err);
    if (rc != CM_OK)
        printf("%s: nothing is known: %s\n", chain, err.msg);
    else if (rv.revoked)
        printf("%s: revoked, reason %d\n", chain, rv.reason);
    else
        printf("%s: %s\n", chain, again == INT64_MAX ? "not watched" : "good");
    (void)fflush(stdout);
    cm_cert_unref(cert);
}

int main(int argc, char **argv)
{
    const struct cm_http_options ho = { .allow_plain_http = true };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct web web = { .base = { &web_ops } };
    struct cm_config *cfg = NULL;
    struct cm_err err = CM_ERR_INIT;

    if (argc < 4 || cm_http_new(&ho, &web.http, &err) != CM_OK) {
        fprintf(stderr, "usage: crl_watch STORAGE CHAIN KEY [CHAIN KEY]... %s\n", err.msg);
        return 2;
    }
    o.storage = argv[1];
    o.internal = true; /* nothing is issued here */
    o.fetcher = &web.base;
    if (cm_config_new(&o, &cfg, &err) != CM_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    for (int i = 2; i + 1 < argc; i += 2)
        watch(cfg, argv[i], argv[i + 1]);
    cm_config_free(cfg);
    cm_http_free(web.http);
    return 0;
}
