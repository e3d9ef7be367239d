/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* The metadata file as an object of storage; what is in it is meta.c's. */

cm_status cm_meta_load(struct cm_config *cfg, const struct cm_op *op, const char *issuer_key,
                       const char *dir, struct cm_meta *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(CM_META_MAX);
    char key[CM_KEY_BUF];

    cm_status rc = cm_path_cert(issuer_key, dir, ".json", key, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cfg->storage, op, key, &text, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_meta_parse(cm_buf_span(&text), ret, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "'%s'", key);
}
