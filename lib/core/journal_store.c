/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

/* Where the journal lies, and that it is only ever written under the lease of its name: a holder
 * that was overtaken must not overwrite what its successor noted. */

cm_status cm_journal_load(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                          struct cm_journal *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_JOURNAL_MAX);
    char path[CM_KEY_BUF];

    cm_status rc = cm_path_journal(s->dir, path, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cfg->storage, op, path, &text, err);
    return rc == CM_OK ? cm_journal_parse(cm_buf_span(&text), ret, err) : rc;
}

cm_status cm_journal_store(struct cm_lease *lease, const struct cm_op *op,
                           const struct cm_subject *s, const struct cm_journal *j,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_JOURNAL_MAX);
    struct cm_commit_item item = { NULL, { NULL, 0 }, j == NULL };
    char path[CM_KEY_BUF];

    cm_status rc = cm_path_journal(s->dir, path, err);
    if (rc == CM_OK && j != NULL)
        rc = cm_journal_format(j, &text, err);
    if (rc != CM_OK)
        return rc;
    item.key = path;
    item.value = cm_buf_span(&text);
    return cm_lease_commit(lease, op, &item, 1, err);
}
