/* SPDX-License-Identifier: Apache-2.0 */
#include "clean.h"

#include <string.h>

/* Certificates that have expired, with their keys, and what lies beside them. All of them are
 * looked at before the first one goes: how many would go at once tells something of the clock. */

#define COMPROMISED ".key.compromised"

static const char *dir_of(const char *base)
{
    return strrchr(base, '/') + 1; /* certificates/<issuer>/<dir> */
}

static cm_status load_leaf(const struct cm_sweep *w, const char *base, struct cm_leaf **ret,
                           struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s.crt", base, dir_of(base));
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_PEM_FILE_MAX);
    struct cm_chain chain = { .n = 0 };

    if (key == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_storage_load(w->cfg->storage, w->op, key, &pem, err);
    if (rc == CM_OK)
        rc = cm_chain_from_pem(cm_buf_span(&pem), &chain, err);
    if (rc == CM_OK)
        rc = cm_leaf_parse(chain.der[0], ret, err);
    cm_chain_free(&chain);
    return rc;
}

static bool is_past(const struct cm_sweep *w, const struct cm_leaf *leaf)
{
    return leaf->not_after_s < w->now_s && w->now_s - leaf->not_after_s >= w->opts.grace_s;
}

/* ---- the first look ---- */

struct look {
    struct cm_sweep *w;
    struct cm_sweep_sites *seen;
};

static cm_status note_past(struct cm_sweep_sites *s, const char *base, struct cm_err *err)
{
    if (s->n_past == s->cap) {
        size_t cap = s->cap > 0 ? s->cap * 2 : 64;
        char **bigger = cm_realloc_array(s->past, cap, sizeof s->past[0]);

        if (bigger == NULL)
            return cm_fail_nomem(err);
        s->past = bigger;
        s->cap = cap;
    }
    s->past[s->n_past] = cm_strdup(base);
    if (s->past[s->n_past] == NULL)
        return cm_fail_nomem(err);
    s->n_past++;
    return CM_OK;
}

static cm_status look_at(void *user, const char *issuer, const char *dir, const char *base,
                         struct cm_err *err)
{
    const struct look *l = user;
    struct cm_leaf *leaf = NULL;
    struct cm_err why = CM_ERR_INIT;

    (void)issuer;
    (void)dir;
    cm_status rc = load_leaf(l->w, base, &leaf, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK; /* half a certificate: a peer may be writing the other half */
    l->w->report.examined++;
    if (rc != CM_OK)
        return cm_sweep_skip(l->w, base, rc, &why, err);
    l->seen->n++;
    l->seen->n_future += leaf->not_before_s - l->w->now_s > CM_CLEAN_DAY_S;
    if (is_past(l->w, leaf))
        rc = note_past(l->seen, base, err);
    cm_leaf_free(leaf);
    return rc;
}

cm_status cm_sweep_sites_look(struct cm_sweep *w, struct cm_sweep_sites *ret, struct cm_err *err)
{
    struct look l = { w, ret };

    memset(ret, 0, sizeof *ret);
    cm_status rc = cm_sites_walk(w->cfg, w->op, look_at, &l, err);
    if (rc != CM_OK)
        cm_sweep_sites_free(ret);
    return rc;
}

void cm_sweep_sites_free(struct cm_sweep_sites *s)
{
    for (size_t i = 0; i < s->n_past; i++)
        free(s->past[i]);
    free(s->past);
    memset(s, 0, sizeof *s);
}

/* ---- what goes ---- */

/* The name whose lock guards the directory: that of its certificate. */
static cm_status lock_of(const struct cm_leaf *leaf, const char *dir,
                         char ret[CM_LOCK_NAME_MAX + 1], struct cm_err *err)
{
    struct cm_subject *s = NULL;

    cm_status rc = cm_subject_new((const char *const *)leaf->names, leaf->n_names, &s, err);
    if (rc == CM_OK && strcmp(s->dir, dir) != 0)
        rc = cm_fail(err, CM_E_CERT, "it holds a certificate for '%s'", s->ident);
    if (rc == CM_OK)
        rc = cm_lock_issue(s->ident, ret, err);
    cm_subject_free(s);
    return rc;
}

/* Some backends keep a folder after its last object. Who else writes here has the lock that is
 * ours now; without this the folders of all names that ever were would stay. */
static cm_status remove_empty(const struct cm_sweep *w, const char *base, struct cm_err *err)
{
    struct cm_children left;

    cm_status rc = cm_children_list(w->cfg, w->op, base, &left, err);
    if (rc != CM_OK)
        return rc;
    if (left.n == 0)
        rc = cm_storage_remove(w->cfg->storage, w->op, base, err);
    cm_children_free(&left);
    return rc;
}

static cm_status remove_under(struct cm_sweep *w, struct cm_lease *lease, const char *base,
                              struct cm_err *err)
{
    struct cm_leaf *leaf = NULL;

    cm_status rc = load_leaf(w, base, &leaf, err);
    if (rc == CM_OK && is_past(w, leaf)) {
        rc = cm_store_remove(w->op, lease, base, dir_of(base), err);
        if (rc == CM_OK) {
            cm_sweep_gone(w, base, "expired");
            rc = remove_empty(w, base, err);
        }
    }
    cm_leaf_free(leaf);
    return rc;
}

static cm_status remove_site(struct cm_sweep *w, const char *base, struct cm_err *err)
{
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;
    struct cm_leaf *seen = NULL;

    cm_status rc = load_leaf(w, base, &seen, err);
    if (rc == CM_OK)
        rc = lock_of(seen, dir_of(base), lock, err);
    cm_leaf_free(seen);
    if (rc == CM_OK && w->opts.dry_run) {
        cm_sweep_gone(w, base, "expired");
        return CM_OK;
    }
    if (rc == CM_OK)
        rc = cm_sweep_lease(w, lock, &lease, err);
    if (rc == CM_OK)
        rc = remove_under(w, lease, base, err);
    cm_lease_release(lease);
    return rc == CM_E_BUSY || rc == CM_E_NOTFOUND ? CM_OK : rc; /* a peer's work, or done by one */
}

cm_status cm_sweep_sites(struct cm_sweep *w, const struct cm_sweep_sites *s, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < s->n_past && rc == CM_OK; i++) {
        struct cm_err why = CM_ERR_INIT;

        rc = remove_site(w, s->past[i], &why);
        if (rc != CM_OK)
            rc = cm_sweep_skip(w, s->past[i], rc, &why, err);
    }
    return rc;
}

/* ---- keys put aside ---- */

static cm_status clean_compromised(void *user, const char *issuer, const char *dir,
                                   const char *base, struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s" COMPROMISED, base, dir);
    struct cm_key_info info;
    struct cm_sweep *w = user;
    struct cm_err why = CM_ERR_INIT;

    (void)issuer;
    if (key == NULL)
        return cm_fail_nomem(err);
    cm_status rc = cm_storage_stat(w->cfg->storage, w->op, key, &info, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc != CM_OK)
        return cm_sweep_skip(w, key, rc, &why, err);
    return cm_sweep_aged(w, key, info.modified_ns, w->opts.compromised_after_s, "compromised key",
                         err);
}

cm_status cm_sweep_compromised(struct cm_sweep *w, struct cm_err *err)
{
    if (w->opts.compromised_after_s == 0)
        return CM_OK;
    return cm_sites_walk(w->cfg, w->op, clean_compromised, w, err);
}
