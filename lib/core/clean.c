/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <stdio.h>
#include <string.h>

/* Removing what nobody needs any more. Whatever goes is looked at again under the lock of its
 * name: a peer may be renewing it just now. What cannot be understood stays, and is counted. */

#define DEFAULT_GRACE_S (14 * 24 * 3600)
#define PASSING_NS      (3600 * CM_NS_PER_S)

struct sweep {
    struct cm_config *cfg;
    const struct cm_op *op;
    struct cm_clean_options opts;
    struct cm_clean_report report;
    int64_t now_s;
};

static void tell(const struct sweep *w, const char *key, const char *why)
{
    if (w->opts.each != NULL)
        w->opts.each(w->opts.user, key, why);
}

/* One broken object must not keep the rest from being cleaned; only the end of the operation and
 * exhausted memory do. */
static cm_status skip(struct sweep *w, const char *key, cm_status rc, const struct cm_err *why,
                      struct cm_err *err)
{
    cm_status over = cm_op_check(w->op, err);

    if (over != CM_OK)
        return over;
    if (rc == CM_E_NOMEM)
        return cm_fail_nomem(err);
    w->report.malformed++;
    cm_logf(&w->cfg->log, CM_LOG_WARN, "clean_skipped", NULL, 0, "clean: '%s' stays: %s", key,
            why->msg);
    return CM_OK;
}

/* ---- certificates ---- */

static cm_status load_leaf(const struct sweep *w, const char *base, const char *dir,
                           struct cm_leaf **ret, struct cm_err *err)
{
    CM_AUTO_FREE char *key = cm_asprintf("%s/%s.crt", base, dir);
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

static bool is_past(const struct sweep *w, const struct cm_leaf *leaf)
{
    return leaf->not_after_s < w->now_s && w->now_s - leaf->not_after_s >= w->opts.grace_s;
}

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

/* CM_E_BUSY if somebody is at work on it. */
static cm_status take_lease(const struct sweep *w, const char *lock, struct cm_lease **ret,
                            struct cm_err *err)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;

    lo.try_only = true;
    lo.log = w->cfg->log;
    return cm_lease_acquire(w->cfg->storage, w->op, lock, &lo, ret, err);
}

static cm_status remove_site(struct sweep *w, const struct cm_leaf *seen, const char *base,
                             const char *dir, struct cm_err *err)
{
    char lock[CM_LOCK_NAME_MAX + 1];
    struct cm_lease *lease = NULL;
    struct cm_leaf *leaf = NULL;

    cm_status rc = lock_of(seen, dir, lock, err);
    if (rc == CM_OK)
        rc = take_lease(w, lock, &lease, err);
    if (rc == CM_OK)
        rc = load_leaf(w, base, dir, &leaf, err);
    if (rc == CM_OK && is_past(w, leaf)) {
        rc = cm_store_remove(w->op, lease, base, dir, err);
        if (rc == CM_OK) {
            w->report.removed++;
            tell(w, base, "expired");
        }
    }
    cm_leaf_free(leaf);
    cm_lease_release(lease);
    return rc == CM_E_BUSY || rc == CM_E_NOTFOUND ? CM_OK : rc; /* a peer's work, or done by one */
}

static cm_status clean_site(void *user, const char *issuer, const char *dir, const char *base,
                            struct cm_err *err)
{
    struct sweep *w = user;
    struct cm_leaf *leaf = NULL;
    struct cm_err why = CM_ERR_INIT;

    (void)issuer;
    cm_status rc = load_leaf(w, base, dir, &leaf, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK; /* half a certificate: a peer may be writing the other half */
    w->report.examined++;
    if (rc == CM_OK && is_past(w, leaf)) {
        if (w->opts.dry_run) {
            w->report.removed++;
            tell(w, base, "expired");
        } else {
            rc = remove_site(w, leaf, base, dir, &why);
        }
    }
    cm_leaf_free(leaf);
    return rc == CM_OK ? rc : skip(w, base, rc, &why, err);
}

/* ---- challenge tokens ---- */

/* The listed time may be missing with some backends. */
static cm_status age_of(const struct sweep *w, const char *key, const struct cm_child *at,
                        int64_t *ret_ns, struct cm_err *err)
{
    struct cm_key_info info = { .modified_ns = at->modified_ns };

    if (at->modified_ns == 0) {
        cm_status rc = cm_storage_stat(w->cfg->storage, w->op, key, &info, err);
        if (rc != CM_OK)
            return rc;
    }
    *ret_ns = w->cfg->env->wall_ns(w->cfg->env) - info.modified_ns;
    return CM_OK;
}

static cm_status remove_key(struct sweep *w, const char *key, const char *why, struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (!w->opts.dry_run)
        rc = cm_storage_remove(w->cfg->storage, w->op, key, err);
    if (rc == CM_OK) {
        w->report.removed++;
        tell(w, key, why);
    }
    return rc;
}

/* Something that is of use for moments only. */
static cm_status clean_passing(struct sweep *w, const char *key, const struct cm_child *at,
                               const char *reason, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    int64_t age = 0;

    cm_status rc = age_of(w, key, at, &age, &why);
    if (rc == CM_E_NOTFOUND)
        return CM_OK; /* it has just gone by itself */
    w->report.examined++;
    if (rc == CM_OK && age > PASSING_NS)
        rc = remove_key(w, key, reason, &why);
    return rc == CM_OK ? rc : skip(w, key, rc, &why, err);
}

static cm_status clean_token_dir(struct sweep *w, const char *dir, struct cm_err *err)
{
    struct cm_children tokens;

    cm_status rc = cm_children_list(w->cfg, w->op, dir, &tokens, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < tokens.n && rc == CM_OK; i++) {
        CM_AUTO_FREE char *key = cm_asprintf("%s/%s", dir, tokens.at[i].name);

        if (key == NULL)
            rc = cm_fail_nomem(err);
        else if (tokens.at[i].terminal)
            rc = clean_passing(w, key, &tokens.at[i], "challenge long over", err);
    }
    cm_children_free(&tokens);
    return rc;
}

static cm_status clean_tokens(struct sweep *w, struct cm_err *err)
{
    struct cm_children cas;

    cm_status rc = cm_children_list(w->cfg, w->op, "acme", &cas, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < cas.n && rc == CM_OK; i++) {
        CM_AUTO_FREE char *dir = cm_asprintf("acme/%s/challenge_tokens", cas.at[i].name);

        if (dir == NULL)
            rc = cm_fail_nomem(err);
        else if (!cas.at[i].terminal)
            rc = clean_token_dir(w, dir, err);
    }
    cm_children_free(&cas);
    return rc == CM_OK ? clean_token_dir(w, "zerossl/challenge_tokens", err) : rc;
}

/* ---- what certmagic's self-test of storage leaves behind when it crashes ---- */

static bool is_self_test(const struct cm_child *at)
{
    static const char prefix[] = "rw_test_";
    size_t n = sizeof prefix - 1;

    return at->terminal && strncmp(at->name, prefix, n) == 0 && at->name[n] != '\0' &&
           strspn(at->name + n, "0123456789") == strlen(at->name + n);
}

static cm_status clean_self_tests(struct sweep *w, struct cm_err *err)
{
    struct cm_children top;

    cm_status rc = cm_children_list(w->cfg, w->op, "", &top, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < top.n && rc == CM_OK; i++)
        if (is_self_test(&top.at[i]))
            rc = clean_passing(w, top.at[i].name, &top.at[i], "left by a self-test", err);
    cm_children_free(&top);
    return rc;
}

/* ---- journals ---- */

static cm_status load_journal(const struct sweep *w, const char *key, struct cm_journal *ret,
                              struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_SECRET(CM_JOURNAL_MAX);

    cm_status rc = cm_storage_load(w->cfg->storage, w->op, key, &text, err);
    return rc == CM_OK ? cm_journal_parse(cm_buf_span(&text), ret, err) : rc;
}

static bool is_stale(const struct sweep *w, const struct cm_journal *j)
{
    return w->now_s - j->created_ns / CM_NS_PER_S > CM_JOURNAL_STALE_S;
}

/* The journal's names tell the lock under which it is written. */
static cm_status remove_journal(struct sweep *w, const char *key, const struct cm_journal *seen,
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
        rc = take_lease(w, lock, &lease, err);
    if (rc == CM_OK)
        rc = load_journal(w, key, &j, err);
    if (rc == CM_OK) {
        const struct cm_commit_item gone = { key, { NULL, 0 }, true };

        if (is_stale(w, &j)) {
            rc = cm_lease_commit(lease, w->op, &gone, 1, err);
            if (rc == CM_OK) {
                w->report.removed++;
                tell(w, key, "order long over");
            }
        }
        cm_journal_free(&j);
    }
    cm_lease_release(lease);
    cm_subject_free(s);
    return rc == CM_E_BUSY || rc == CM_E_NOTFOUND ? CM_OK : rc;
}

static cm_status clean_journal(struct sweep *w, const char *name, struct cm_err *err)
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
            rc = remove_key(w, key, "order long over", &why);
        else if (is_stale(w, &j))
            rc = remove_journal(w, key, &j, &why);
        cm_journal_free(&j);
    }
    return rc == CM_OK ? rc : skip(w, key, rc, &why, err);
}

static cm_status clean_journals(struct sweep *w, struct cm_err *err)
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

/* ---- the call ---- */

cm_status cm_storage_clean(struct cm_config *cfg, const struct cm_op *op,
                           const struct cm_clean_options *opts, struct cm_clean_report *ret,
                           struct cm_err *err)
{
    struct sweep w = { .cfg = cfg, .op = op };
    size_t size;

    if (cfg == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration");
    if (opts != NULL)
        memcpy(&w.opts, opts, opts->size < sizeof w.opts ? opts->size : sizeof w.opts);
    if (w.opts.grace_s < 0)
        return cm_fail(err, CM_E_INVAL, "option grace_s is negative");
    if (w.opts.grace_s == 0)
        w.opts.grace_s = DEFAULT_GRACE_S;
    w.now_s = cm_env_wall_s(cfg->env);
    cm_status rc = cm_sites_walk(cfg, op, clean_site, &w, err);
    if (rc == CM_OK)
        rc = clean_tokens(&w, err);
    if (rc == CM_OK)
        rc = clean_self_tests(&w, err);
    if (rc == CM_OK)
        rc = clean_journals(&w, err);
    if (rc == CM_OK && ret != NULL) {
        size = ret->size > 0 && ret->size < sizeof w.report ? ret->size : sizeof w.report;
        w.report.size = (uint32_t)size;
        memcpy(ret, &w.report, size);
    }
    return rc;
}
