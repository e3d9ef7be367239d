/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm_spi.h>

#include "base.h"

#include <string.h>
#include <strings.h>

/* The gate in front of fetchers: see spi_storage.c for what gates are for. */

#define FETCHER_HAS(f, op)                                                                         \
    ((f)->ops->size >= offsetof(struct cm_fetcher_ops, op) + sizeof((f)->ops->op) &&               \
     (f)->ops->op != NULL)

static cm_status check_fetcher(struct cm_fetcher *f, struct cm_err *err)
{
    if (f == NULL || f->ops == NULL)
        return cm_fail(err, CM_E_INVAL, "no fetcher given");
    if (f->ops->abi != CM_SPI_ABI)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "this fetcher was made for plugin interface %u, not %u: rebuild it",
                       (unsigned)f->ops->abi, (unsigned)CM_SPI_ABI);
    return CM_OK;
}

static bool is_http(const char *url)
{
    return strncasecmp(url, "http://", 7) == 0 || strncasecmp(url, "https://", 8) == 0;
}

static cm_status check_request(const struct cm_fetch *req, struct cm_err *err)
{
    if (req == NULL || req->size == 0 || req->method == NULL || req->url == NULL)
        return cm_fail(err, CM_E_INVAL, "the request to fetch is not complete");
    if (strcmp(req->method, "GET") != 0 && strcmp(req->method, "POST") != 0)
        return cm_fail(err, CM_E_INVAL, "'%s' is not GET or POST", req->method);
    if (!is_http(req->url))
        return cm_fail(err, CM_E_INVAL, "'%s' is not an address with http or https", req->url);
    if (req->max_body == 0 || req->timeout_ns <= 0)
        return cm_fail(err, CM_E_INVAL, "'%s': fetching without a limit of size or time", req->url);
    return CM_OK;
}

cm_status cm_fetcher_fetch(struct cm_fetcher *f, const struct cm_op *op, const struct cm_fetch *req,
                           int *ret_http_status, struct cm_buf *ret_body, struct cm_err *err)
{
    cm_status rc = check_fetcher(f, err);

    if (rc == CM_OK)
        rc = check_request(req, err);
    if (rc != CM_OK)
        return rc;
    if (ret_http_status == NULL || ret_body == NULL)
        return cm_fail(err, CM_E_INVAL, "'%s': nowhere to put the answer", req->url);
    if (!FETCHER_HAS(f, fetch))
        return cm_fail(err, CM_E_UNSUPPORTED, "this fetcher cannot fetch");
    rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "fetch '%s'", req->url);
    const struct cm_op within = cm_op_within(op, req->timeout_ns);
    const size_t before = ret_body->len;

    rc = f->ops->fetch(f, &within, req, ret_http_status, ret_body, err);
    if (rc == CM_OK && ret_body->len - before > req->max_body) {
        ret_body->len = before;
        rc = cm_fail(err, CM_E_LIMIT, "'%s': an answer of more than %zu bytes", req->url,
                     req->max_body);
    }
    return rc;
}

void cm_fetcher_destroy(struct cm_fetcher *f)
{
    if (check_fetcher(f, NULL) == CM_OK && FETCHER_HAS(f, destroy))
        f->ops->destroy(f);
}
