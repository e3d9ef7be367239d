/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

/* A key that others know is kept for whoever has to find out how that came, where nobody serves it:
 * <N>.key.compromised, as the peers write it. It goes there in the commit that stores the new pair.
 * Earlier, a crash would leave the fleet without any key; later, it would be gone. */

/* What is there already was a compromised key of an earlier time, and stays. */
static cm_status is_taken(struct cm_config *cfg, const struct cm_op *op, const char *path,
                          bool *ret, struct cm_err *err)
{
    struct cm_key_info info;
    struct cm_err why = CM_ERR_INIT;

    cm_status rc = cm_storage_stat(cfg->storage, op, path, &info, &why);
    *ret = rc == CM_OK;
    if (rc == CM_OK || rc == CM_E_NOTFOUND)
        return CM_OK;
    if (err != NULL)
        *err = why;
    return rc;
}

cm_status cm_quarantine_plan(struct cm_config *cfg, const struct cm_op *op,
                             const struct cm_subject *s, const struct cm_cert *old,
                             const char *new_issuer_key, struct cm_quarantine *q,
                             struct cm_err *err)
{
    const char *issuer_key = cm_cert_issuer_key(old);
    char *aside = q->paths[0];
    char *key = q->paths[1];
    bool taken = false;

    q->n = 0;
    cm_status rc = cm_path_cert(issuer_key, s->dir, ".key.compromised", aside, err);
    if (rc == CM_OK)
        rc = cm_path_cert(issuer_key, s->dir, ".key", key, err);
    if (rc == CM_OK)
        rc = is_taken(cfg, op, aside, &taken, err);
    if (rc == CM_OK && !taken)
        rc = cm_storage_load(cfg->storage, op, key, &q->pem, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "put the compromised key of '%s' aside", s->ident);
    if (taken)
        cm_logf(&cfg->log, CM_LOG_WARN, "quarantine_taken", NULL, 0,
                "'%s' is there already and stays; the key that is compromised now is not kept",
                aside);
    else
        q->items[q->n++] = (struct cm_commit_item){ aside, cm_buf_span(&q->pem), false };
    /* Of the same issuer it is overwritten by its successor. */
    if (strcmp(issuer_key, new_issuer_key) != 0)
        q->items[q->n++] = (struct cm_commit_item){ key, { NULL, 0 }, true };
    return CM_OK;
}
