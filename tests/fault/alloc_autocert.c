/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

/* The scenario of cm_autocert.h. */

#define NAME "alloc.test"

/* A manager's first client, which orders, and what the cache has then. */
static cm_status autocert_with(struct cm_storage *st, struct cm_err *err)
{
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_options o = CM_AUTOCERT_OPTIONS_INIT;
    struct cm_hello hello = { .server_name = NAME, .n_sigalgs = 1, .n_versions = 1 };
    struct cm_autocert_reply reply = CM_AUTOCERT_REPLY_INIT;
    struct cm_autocert_cache *cache = NULL;
    struct cm_autocert *m = NULL;
    struct cm_cert *cert = NULL;
    const char *name = NAME;
    struct cm_op op = cm_op_within(NULL, 40 * CM_NS_PER_S);

    hello.sigalgs[0] = 0x0403;
    hello.versions[0] = 0x0304;
    c.internal = true;
    o.config = &c;
    o.prompt = cm_accept_tos;
    o.hosts = &name;
    o.n_hosts = 1;
    cm_status rc = cm_autocert_storage_cache(st, NULL, &cache, err);
    if (rc == CM_OK) {
        o.cache = cache;
        rc = cm_autocert_new(&o, &m, err);
    }
    if (rc == CM_OK)
        rc = cm_autocert_get_certificate(m, &op, &hello, &cert, err);
    if (rc == CM_OK)
        rc = cm_autocert_http(m, &op, "GET", NAME, "/", false, &reply, err);
    cm_buf_free(&reply.body);
    cm_cert_unref(cert);
    cm_autocert_free(m);
    cm_autocert_cache_free(cache);
    return rc;
}

cm_status alloc_autocert(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_storage *st = NULL;
    cm_status rc = cm_storage_open(lab->store, NULL, &st, err);

    if (rc == CM_OK)
        rc = autocert_with(st, err);
    cm_storage_close(st);
    return rc;
}

/* Whoever tries again is served, and then the cache has it. */
cm_status alloc_autocert_check(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_buf blob = CM_BUF_SECRET(CM_AUTOCERT_BLOB_MAX);
    struct cm_storage *st = NULL;
    cm_status rc = alloc_autocert(lab, err);

    if (rc == CM_OK)
        rc = cm_storage_open(lab->store, NULL, &st, err);
    if (rc == CM_OK)
        rc = cm_storage_load(st, NULL, "autocert/" NAME, &blob, err);
    cm_storage_close(st);
    cm_buf_free(&blob);
    return rc;
}
