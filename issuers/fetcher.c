/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <string.h>

/* The built-in fetcher: lib/net behind the table that core calls, since core knows no network. The
 * addresses come out of certificates, so they are strangers': they get no local address, no POST
 * twice, and no more than was asked for. */

struct http_fetcher {
    struct cm_fetcher base;
    struct cm_http *http;
    bool allow_local;
};

static cm_status http_fetch(struct cm_fetcher *f, const struct cm_op *op,
                            const struct cm_fetch *req, int *ret_http_status,
                            struct cm_buf *ret_body, struct cm_err *err)
{
    struct http_fetcher *self = CM_CONTAINER_OF(f, struct http_fetcher, base);
    const struct cm_op within = cm_op_within(op, req->timeout_ns);
    const struct cm_http_request http = { .method = req->method,
                                          .url = req->url,
                                          .content_type = req->content_type,
                                          .accept = req->accept,
                                          .body = req->body,
                                          .max_body = req->max_body,
                                          .follow = strcmp(req->method, "GET") == 0,
                                          .refuse_local = !self->allow_local };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;

    cm_status rc = cm_http_do(self->http, &within, &http, &resp, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_body, resp.body.data, resp.body.len, err);
    if (rc == CM_OK)
        *ret_http_status = resp.status;
    cm_http_response_free(&resp);
    return rc;
}

static void http_destroy(struct cm_fetcher *f)
{
    struct http_fetcher *self = CM_CONTAINER_OF(f, struct http_fetcher, base);

    cm_http_free(self->http);
    free(self);
}

static const struct cm_fetcher_ops http_fetcher_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_fetcher_ops),
    .name = "http",
    .fetch = http_fetch,
    .destroy = http_destroy,
};

cm_status cm_http_fetcher_new(const struct cm_http_fetcher_options *opts, struct cm_fetcher **ret,
                              struct cm_err *err)
{
    struct cm_http_fetcher_options o = { .size = 0 };

    if (ret == NULL || (opts != NULL && opts->size > 64u * 1024))
        return cm_fail(err, CM_E_INVAL, "cm_http_fetcher_new: no place for it, or no size set");
    if (opts != NULL)
        memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    const struct cm_http_options ho = { .ca_file = o.ca_root_file,
                                        .user_agent = o.user_agent,
                                        .proxy = o.proxy,
                                        .allow_plain_http = true,
                                        .log = o.log };
    struct http_fetcher *self = cm_calloc(1, sizeof *self);
    if (self == NULL)
        return cm_fail_nomem(err);
    self->base.ops = &http_fetcher_ops;
    self->allow_local = o.allow_local;
    cm_status rc = cm_http_new(&ho, &self->http, err);
    if (rc != CM_OK) {
        free(self);
        return rc;
    }
    *ret = &self->base;
    return CM_OK;
}
