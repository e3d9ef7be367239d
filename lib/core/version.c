/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

const char *cm_version(void)
{
    return CM_VERSION;
}

const char *cm_key_type_name(enum cm_key_type t)
{
    int value = (int)t;

    if (value < (int)CM_KEY_DEFAULT || value > (int)CM_KEY_RSA8192)
        return NULL;
    return cm_pk_name(t == CM_KEY_DEFAULT ? CM_PK_P256 : (enum cm_pk)value);
}

cm_status cm_key_type_parse(const char *name, enum cm_key_type *ret, struct cm_err *err)
{
    enum cm_pk pk;

    if (name == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no key type given");
    cm_status rc = cm_pk_parse(name, &pk, err);
    if (rc == CM_OK)
        *ret = (enum cm_key_type)pk;
    return rc;
}
