/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <string.h>

/* The built-in fetcher: lib/net behind the table that core calls, since core knows no network. The
 * addresses come out of certificates, so they are strangers': they get no local address, no POST
 * twice, and no more than was asked for.
 *
 * The client is made for the first request: every config has a fetcher, and many never fetch. */

struct http_fetcher {
    struct cm_fetcher base;
    char *user_agent;
    char *ca_root_file;
    char *proxy;
    char *no_proxy;
    struct cm_log log;
    bool allow_local;
    _Atomic(struct cm_http *) http; /* NULL before the first request */
};

static cm_status client_of(struct http_fetcher *self, struct cm_http **ret, struct cm_err *err)
{
    const struct cm_http_options ho = { .ca_file = self->ca_root_file,
                                        .user_agent = self->user_agent,
                                        .proxy = self->proxy,
                                        .no_proxy = self->no_proxy,
                                        .allow_plain_http = true,
                                        .log = self->log };
    struct cm_http *there = atomic_load(&self->http);
    struct cm_http *mine = NULL;

    if (there == NULL) {
        cm_status rc = cm_http_new(&ho, &mine, err);
        if (rc != CM_OK)
            return rc;
        if (atomic_compare_exchange_strong(&self->http, &there, mine))
            there = mine;
        else
            cm_http_free(mine); /* another thread was quicker */
    }
    *ret = there;
    return CM_OK;
}

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
    struct cm_http *client = NULL;

    cm_status rc = client_of(self, &client, err);
    if (rc == CM_OK)
        rc = cm_http_do(client, &within, &http, &resp, err);
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

    cm_http_free(atomic_load(&self->http));
    free(self->user_agent);
    free(self->ca_root_file);
    if (self->proxy != NULL) /* there may be a password in it */
        cm_wipe(self->proxy, strlen(self->proxy));
    free(self->proxy);
    free(self->no_proxy);
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
    struct http_fetcher *self = cm_calloc(1, sizeof *self);
    if (self == NULL)
        return cm_fail_nomem(err);
    self->base.ops = &http_fetcher_ops;
    self->allow_local = o.allow_local;
    self->log = o.log;
    self->user_agent = cm_strdup(o.user_agent);
    self->ca_root_file = cm_strdup(o.ca_root_file);
    self->proxy = cm_strdup(o.proxy);
    self->no_proxy = cm_strdup(o.no_proxy);
    cm_status rc = CM_OK;
    if ((o.user_agent != NULL && self->user_agent == NULL) ||
        (o.ca_root_file != NULL && self->ca_root_file == NULL) ||
        (o.proxy != NULL && self->proxy == NULL) || (o.no_proxy != NULL && self->no_proxy == NULL))
        rc = cm_fail_nomem(err);
    else if (o.ca_root_file != NULL ||
             o.proxy != NULL) /* that it cannot be used shall be known now */
        rc = client_of(self, &(struct cm_http *){ NULL }, err);
    if (rc != CM_OK) {
        http_destroy(&self->base);
        return rc;
    }
    *ret = &self->base;
    return CM_OK;
}
