/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <certmesh/cm_keys.h>

#include <string.h>

/* The key source that makes keys in a PKCS#11 token: lib/pki does it, this is its table. */

struct pkcs11_keys {
    struct cm_key_source base;
    char *url;
};

static cm_status new_key(struct cm_key_source *ks, const struct cm_op *op, int type,
                         const char *const *names, size_t n, struct cm_buf *ret_pem,
                         struct cm_err *err)
{
    struct pkcs11_keys *self = CM_CONTAINER_OF(ks, struct pkcs11_keys, base);
    struct cm_key *key = NULL;

    (void)op; /* what a token does cannot be ended */
    (void)n;
    cm_status rc = cm_key_generate_at(self->url, (enum cm_pk)type, names[0], &key, err);
    if (rc == CM_OK)
        rc = cm_key_to_pem(key, ret_pem, err);
    cm_key_unref(key);
    return rc;
}

static void destroy(struct cm_key_source *ks)
{
    struct pkcs11_keys *self = CM_CONTAINER_OF(ks, struct pkcs11_keys, base);

    free(self->url);
    free(self);
}

static const struct cm_key_source_ops ops = {
    .abi = CM_SPI_ABI,
    .size = (uint32_t)sizeof(struct cm_key_source_ops),
    .name = "pkcs11",
    .new_key = new_key,
    .destroy = destroy,
};

cm_status cm_pkcs11_keys_new(const char *url, struct cm_key_source **ret, struct cm_err *err)
{
    cm_status rc = cm_key_url_check(url, err);
    struct pkcs11_keys *self;

    if (rc != CM_OK)
        return rc;
    self = cm_calloc(1, sizeof *self);
    if (self == NULL)
        return cm_fail_nomem(err);
    self->base.ops = &ops;
    self->url = cm_strdup(url);
    if (self->url == NULL) {
        free(self);
        return cm_fail_nomem(err);
    }
    *ret = &self->base;
    return CM_OK;
}

void cm_key_source_free(struct cm_key_source *ks)
{
    if (ks != NULL && ks->ops->destroy != NULL)
        ks->ops->destroy(ks);
}
