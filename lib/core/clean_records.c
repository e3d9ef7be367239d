/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"
#include "nodes.h"

#include <string.h>

/* What certmesh notes for itself below certmesh/: journals of orders, and records that are written
 * again as long as they are about something (failures of a name, the state of a CA, a CRL). */

/* ---- journals ---- */

static cm_status load_journal(const struct cm_sweep *w, const char *key, struct cm_journal *ret,
                              struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_JOURNAL_MAX);

    cm_status rc = cm_storage_load(w->cfg->storage, w->op, key, &text, err);
    return rc == CM_OK ? cm_journal_parse(cm_buf_span(&text), ret, err) : rc;
}

static bool is_stale(const struct cm_sweep *w, const struct cm_journal *j)
{
    return w->now_s - j->created_ns / CM_NS_PER_S > CM_JOURNAL_STALE_S;
}

/* The journal's names tell the lock under which it is written. */
static cm_status remove_journal(struct cm_sweep *w, const char *key, const struct cm_journal *seen,
                                struct cm_err *err)
{
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;
    struct cm_subject *s = NULL;
    struct cm_journal j;

    cm_status rc = cm_subject_parse(seen->names, &s, err);
    if (rc == CM_OK)
        rc = cm_lock_issue(s->ident, lock, err);
    if (rc == CM_OK)
        rc = cm_sweep_lease(w, lock, &lease, err);
    if (rc == CM_OK)
        rc = load_journal(w, key, &j, err);
    if (rc == CM_OK) {
        const struct cm_commit_item gone = { key, { NULL, 0 }, true };

        if (is_stale(w, &j)) {
            rc = cm_lease_commit(lease, w->op, &gone, 1, err);
            if (rc == CM_OK)
                cm_sweep_gone(w, key, "order long over");
        }
        cm_journal_free(&j);
    }
    cm_lease_release(lease);
    cm_subject_free(s);
    return rc == CM_E_BUSY || rc == CM_E_NOTFOUND ? CM_OK : rc;
}

static cm_status clean_journal(struct cm_sweep *w, const char *name, struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s", CM_JOURNAL_DIR, name);
    struct cm_err why = CM_ERR_INIT;
    struct cm_journal j;

    if (key == NULL)
        return cm_fail_nomem(err);
    cm_status rc = load_journal(w, key, &j, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    w->report.examined++;
    if (rc == CM_OK) {
        if (is_stale(w, &j) && w->opts.dry_run)
            cm_sweep_gone(w, key, "order long over");
        else if (is_stale(w, &j))
            rc = remove_journal(w, key, &j, &why);
        cm_journal_free(&j);
    }
    return rc == CM_OK ? rc : cm_sweep_skip(w, key, rc, &why, err);
}

cm_status cm_sweep_journals(struct cm_sweep *w, struct cm_err *err)
{
    struct cm_children names;

    cm_status rc = cm_children_list(w->cfg, w->op, CM_JOURNAL_DIR, &names, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < names.n && rc == CM_OK; i++)
        if (names.at[i].terminal)
            rc = clean_journal(w, names.at[i].name, err);
    cm_children_free(&names);
    return rc;
}

/* ---- records ---- */

/* @depth: how many levels of folders below @dir are followed. */
static cm_status clean_records(struct cm_sweep *w, const char *dir, unsigned depth, int64_t limit_s,
                               const char *why, struct cm_err *err)
{
    struct cm_children names;

    cm_status rc = cm_children_list(w->cfg, w->op, dir, &names, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < names.n && rc == CM_OK; i++) {
        const struct cm_child *at = &names.at[i];
        CM_AUTO_FREE char *key = cm_asprintf("%s/%s", dir, at->name);

        rc = cm_op_check(w->op, err);
        if (rc == CM_OK && key == NULL)
            rc = cm_fail_nomem(err);
        if (rc == CM_OK && at->terminal)
            rc = cm_sweep_aged(w, key, at->modified_ns, limit_s, why, err);
        else if (rc == CM_OK && depth > 0)
            rc = clean_records(w, key, depth - 1, limit_s, why, err);
    }
    cm_children_free(&names);
    return rc;
}

/* ---- nodes ---- */

/* Pages of names are written when something changes: the note alone tells whether it lives. */
static cm_status clean_node(struct cm_sweep *w, const char *id, struct cm_err *err)
{
    CM_AUTO_FREE char *dir = cm_asprintf("%s/%s", CM_NODES_DIR, id);
    CM_AUTO_FREE char *note = cm_asprintf("%s/%s/node", CM_NODES_DIR, id);
    struct cm_err bad = CM_ERR_INIT;
    int64_t age_s = 0;

    if (dir == NULL || note == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_sweep_age_s(w, note, 0, &age_s, &bad);
    if (rc == CM_E_NOTFOUND) /* it begins, or did not come to an end */
        return clean_records(w, dir, 0, CM_NODE_CLEAN_S, "node that is gone", err);
    w->report.examined++;
    if (rc == CM_OK && age_s > CM_NODE_CLEAN_S)
        rc = cm_sweep_remove(w, dir, "node that is gone", &bad);
    return rc == CM_OK ? rc : cm_sweep_skip(w, dir, rc, &bad, err);
}

static cm_status clean_nodes(struct cm_sweep *w, struct cm_err *err)
{
    struct cm_children ids;

    cm_status rc = cm_children_list(w->cfg, w->op, CM_NODES_DIR, &ids, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < ids.n && rc == CM_OK; i++)
        if (!ids.at[i].terminal)
            rc = clean_node(w, ids.at[i].name, err);
    cm_children_free(&ids);
    return rc;
}

cm_status cm_sweep_records(struct cm_sweep *w, struct cm_err *err)
{
    cm_status rc =
        clean_records(w, CM_RETRY_DIR, 0, CM_CLEAN_RECORD_S, "failures of a name long gone", err);

    if (rc == CM_OK)
        rc = clean_records(w, CM_CLEAN_CA_DIR, 0, CM_CLEAN_RECORD_S,
                           "state of a CA not used any more", err);
    if (rc == CM_OK)
        rc = clean_records(w, CM_CLEAN_CRL_DIR, 1, CM_CLEAN_RECORD_S, "CRL not used any more", err);
    if (rc == CM_OK)
        rc = clean_records(w, CM_CSR_DIR, 2, CM_CLEAN_CSR_S, "of a request long over", err);
    return rc == CM_OK ? clean_nodes(w, err) : rc;
}
