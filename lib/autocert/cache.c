/* SPDX-License-Identifier: Apache-2.0 */
#include "autocert.h"

#include <string.h>

/* The gates before a cache, and any storage as a cache. */

#define STORAGE_PREFIX "autocert"

static cm_status check_name(const char *name, struct cm_err *err)
{
    size_t len = name != NULL ? strlen(name) : 0;

    if (len == 0 || len > CM_STORAGE_COMPONENT_MAX || name[0] == '.')
        return cm_fail(err, CM_E_INVAL,
                       "a name in an autocert cache is 1 to %u bytes, no dot first",
                       CM_STORAGE_COMPONENT_MAX);
    for (size_t i = 0; i < len; i++)
        if (name[i] == '/' || name[i] == '\\' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return cm_fail(err, CM_E_INVAL,
                           "a name in an autocert cache has no slash and no control bytes");
    return CM_OK;
}

static cm_status gate(const struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                      struct cm_err *err)
{
    if (c == NULL || c->ops == NULL || c->ops->abi != CM_SPI_ABI || c->ops->get == NULL ||
        c->ops->put == NULL || c->ops->remove == NULL)
        return cm_fail(err, CM_E_INVAL, "no autocert cache, or one of another make");
    cm_status rc = check_name(name, err);
    return rc == CM_OK ? cm_op_check(op, err) : rc;
}

cm_status cm_autocert_cache_get(struct cm_autocert_cache *c, const struct cm_op *op,
                                const char *name, struct cm_buf *ret, struct cm_err *err)
{
    cm_status rc = gate(c, op, name, err);

    if (rc == CM_OK && (ret == NULL || !ret->secret))
        rc = cm_fail(err, CM_E_INVAL, "'%s' of an autocert cache goes into a secret buffer", name);
    return rc == CM_OK ? c->ops->get(c, op, name, ret, err) : rc;
}

cm_status cm_autocert_cache_put(struct cm_autocert_cache *c, const struct cm_op *op,
                                const char *name, struct cm_span blob, struct cm_err *err)
{
    cm_status rc = gate(c, op, name, err);

    if (rc == CM_OK && blob.len > CM_AUTOCERT_BLOB_MAX)
        rc = cm_fail(err, CM_E_LIMIT, "'%s' for an autocert cache has %zu bytes, at most %u", name,
                     blob.len, CM_AUTOCERT_BLOB_MAX);
    return rc == CM_OK ? c->ops->put(c, op, name, blob, err) : rc;
}

cm_status cm_autocert_cache_remove(struct cm_autocert_cache *c, const struct cm_op *op,
                                   const char *name, struct cm_err *err)
{
    cm_status rc = gate(c, op, name, err);

    return rc == CM_OK ? c->ops->remove(c, op, name, err) : rc;
}

void cm_autocert_cache_free(struct cm_autocert_cache *c)
{
    if (c != NULL && c->ops != NULL && c->ops->destroy != NULL)
        c->ops->destroy(c);
}

/* ------------------------------------------------------------------ a storage */

struct stored {
    struct cm_autocert_cache base;
    struct cm_storage *st;
    char *prefix;
};

static struct stored *stored_of(struct cm_autocert_cache *c)
{
    return CM_CONTAINER_OF(c, struct stored, base);
}

static cm_status stored_get(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                            struct cm_buf *ret, struct cm_err *err)
{
    const struct stored *s = stored_of(c);
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s", s->prefix, name);

    return key == NULL ? cm_fail_nomem(err) : cm_storage_load(s->st, op, key, ret, err);
}

static cm_status stored_put(struct cm_autocert_cache *c, const struct cm_op *op, const char *name,
                            struct cm_span blob, struct cm_err *err)
{
    const struct stored *s = stored_of(c);
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s", s->prefix, name);

    return key == NULL ? cm_fail_nomem(err) : cm_storage_store(s->st, op, key, blob, err);
}

static cm_status stored_remove(struct cm_autocert_cache *c, const struct cm_op *op,
                               const char *name, struct cm_err *err)
{
    const struct stored *s = stored_of(c);
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s", s->prefix, name);

    return key == NULL ? cm_fail_nomem(err) : cm_storage_remove(s->st, op, key, err);
}

static void stored_destroy(struct cm_autocert_cache *c)
{
    struct stored *s = stored_of(c);

    free(s->prefix);
    free(s);
}

static const struct cm_autocert_cache_ops stored_ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_autocert_cache_ops),
    .name = "storage",
    .get = stored_get,
    .put = stored_put,
    .remove = stored_remove,
    .destroy = stored_destroy,
};

cm_status cm_autocert_storage_cache(struct cm_storage *st, const char *prefix,
                                    struct cm_autocert_cache **ret, struct cm_err *err)
{
    struct stored *s;

    if (st == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no storage, or no place for the cache");
    if (prefix == NULL)
        prefix = STORAGE_PREFIX;
    cm_status rc = cm_storage_key_check(prefix, false, err);
    if (rc != CM_OK)
        return rc;
    s = cm_calloc(1, sizeof *s);
    if (s == NULL)
        return cm_fail_nomem(err);
    s->base.ops = &stored_ops;
    s->st = st;
    s->prefix = cm_strdup(prefix);
    if (s->prefix == NULL) {
        stored_destroy(&s->base);
        return cm_fail_nomem(err);
    }
    *ret = &s->base;
    return CM_OK;
}
