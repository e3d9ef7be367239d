/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* The gate in front of a key source: see spi_storage.c for what gates are for. A key that a CA is
 * going to certify is looked at first, whoever made it. */

static cm_status check_source(const struct cm_key_source *ks, struct cm_err *err)
{
    const struct cm_key_source_ops *ops = ks != NULL ? ks->ops : NULL;

    if (ops == NULL)
        return cm_fail(err, CM_E_INVAL, "no key source given");
    if (ops->abi != CM_SPI_ABI) /* of a foreign table nothing else can be trusted */
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "this key source was made for plugin interface %u, not %u: rebuild it",
                       (unsigned)ops->abi, (unsigned)CM_SPI_ABI);
    if (ops->size < offsetof(struct cm_key_source_ops, new_key) + sizeof ops->new_key ||
        ops->new_key == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "key source '%s' makes no keys",
                       ops->name != NULL ? ops->name : "?");
    return CM_OK;
}

static cm_status check_args(int type, const char *const *names, size_t n, struct cm_err *err)
{
    if (type == CM_KEY_DEFAULT || cm_key_type_name((enum cm_key_type)type) == NULL)
        return cm_fail(err, CM_E_INVAL, "%d is not a type of key that could be asked for", type);
    if (names == NULL || n == 0)
        return cm_fail(err, CM_E_INVAL, "no names given that the key is for");
    for (size_t i = 0; i < n; i++)
        if (names[i] == NULL || names[i][0] == '\0')
            return cm_fail(err, CM_E_INVAL, "name %zu of those that the key is for is empty",
                           i + 1);
    return CM_OK;
}

/* Is it a key, whole, and what was asked for? */
static cm_status accept_key(struct cm_span pem, int type, struct cm_key **ret, struct cm_err *err)
{
    struct cm_key *key = NULL;

    cm_status rc = cm_key_from_pem(pem, &key, err);
    if (rc == CM_OK)
        rc = cm_key_check(key, err);
    if (rc == CM_OK && (int)cm_key_type_of(key) != type)
        rc = cm_fail(err, CM_E_KEY, "a key of type %s was asked for, but it gave one of type %s",
                     cm_pk_name((enum cm_pk)type), cm_pk_name(cm_key_type_of(key)));
    if (rc == CM_OK) {
        *ret = key;
        return CM_OK;
    }
    cm_key_unref(key);
    if (rc == CM_E_NOMEM)
        return rc;
    if (err != NULL)
        err->status = CM_E_KEY; /* whatever is wrong with it: it cannot be used */
    return CM_E_KEY;
}

static cm_status ask(struct cm_key_source *ks, const struct cm_op *op, int type,
                     const char *const *names, size_t n, struct cm_buf *pem, struct cm_key **ret,
                     struct cm_err *err)
{
    cm_status rc = check_source(ks, err);

    if (rc == CM_OK)
        rc = check_args(type, names, n, err);
    if (rc == CM_OK)
        rc = cm_op_check(op, err);
    if (rc != CM_OK)
        return rc;
    rc = ks->ops->new_key(ks, op, type, names, n, pem, err);
    if (rc == CM_OK)
        rc = accept_key(cm_buf_span(pem), type, ret, err);
    return rc == CM_OK
               ? rc
               : cm_wrap(err, rc, "key source '%s'", ks->ops->name != NULL ? ks->ops->name : "?");
}

cm_status cm_key_source_key(struct cm_key_source *ks, const struct cm_op *op, enum cm_pk type,
                            const char *const *names, size_t n, struct cm_key **ret,
                            struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    return ask(ks, op, (int)type, names, n, &pem, ret, err);
}

cm_status cm_key_source_new_key(struct cm_key_source *ks, const struct cm_op *op, int type,
                                const char *const *names, size_t n, struct cm_buf *ret_pem,
                                struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *key = NULL;

    if (ret_pem == NULL || !ret_pem->secret)
        return cm_fail(err, CM_E_INVAL, "no secret buffer given to put the key into");
    cm_status rc = ask(ks, op, type, names, n, &pem, &key, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_pem, pem.data, pem.len, err);
    cm_key_unref(key);
    return rc;
}
