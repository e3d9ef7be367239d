/* SPDX-License-Identifier: Apache-2.0 */
#include "facts.h"
#include "names.h"

#include <stdio.h>
#include <string.h>

bool cm_facts_over(const struct cm_facts_view *v, cm_status rc)
{
    return rc == CM_E_NOMEM || cm_op_check(v->op, NULL) != CM_OK;
}

cm_status cm_facts_open(struct cm_config *cfg, const struct cm_op *op, struct cm_facts_view *ret,
                        struct cm_err *err)
{
    struct cm_facts_view v = { .cfg = cfg, .op = op };

    cm_status rc = cm_children_list(cfg, op, "certificates", &v.issuers, err);
    if (rc == CM_OK)
        *ret = v;
    return rc;
}

void cm_facts_close(struct cm_facts_view *v)
{
    cm_children_free(&v->issuers);
}

void cm_facts_free(struct cm_facts *f)
{
    cm_cert_unref(f->cert);
    cm_leaf_free(f->leaf);
    cm_subject_free(f->subject);
    memset(f, 0, sizeof *f);
}

/* ---- what was noted, what goes on: hints only ---- */

/* What failed before this certificate was issued is over, though the note may be there still. */
static void look_for_failures(const struct cm_facts_view *v, struct cm_facts *f)
{
    f->failed = cm_retry_load(v->cfg, v->op, f->dir, &f->retry, NULL) == CM_OK &&
                f->retry.attempts > 0 &&
                (f->cert == NULL || f->cert->not_before_s <= f->retry.last_s);
}

static void look_at_ca(const struct cm_facts_view *v, struct cm_facts *f)
{
    const char *key = NULL;

    if (f->failed && f->retry.issuer_key[0] != '\0')
        key = f->retry.issuer_key;
    else if (f->cert != NULL)
        key = f->issuer_key;
    else if (v->cfg->n_issuers > 0)
        key = cm_issuer_key(v->cfg->issuers[0]);
    if (key == NULL)
        return;
    (void)snprintf(f->ca_key, sizeof f->ca_key, "%s", key);
    f->has_ca = cm_ca_state_load(v->cfg, v->op, key, &f->ca, NULL) == CM_OK;
}

static void look_at_lock(const struct cm_facts_view *v, struct cm_facts *f)
{
    char lock[CM_LOCK_NAME_MAX + 1];
    cm_status rc;

    f->lock_is = CM_FACTS_LOCK_UNKNOWN;
    f->lock.size = (uint32_t)sizeof f->lock;
    if (f->subject == NULL || cm_lock_issue(f->subject->ident, lock, NULL) != CM_OK)
        return;
    rc = cm_storage_lock_info(v->cfg->storage, v->op, lock, &f->lock, NULL);
    if (rc == CM_OK)
        f->lock_is = CM_FACTS_LOCK_HELD;
    else if (rc == CM_E_NOTFOUND)
        f->lock_is = CM_FACTS_LOCK_FREE;
}

static void take_failure(struct cm_facts *f, const struct cm_name_state *st)
{
    f->failed = true;
    memset(&f->retry, 0, sizeof f->retry);
    f->retry.attempts = st->attempts;
    f->retry.next_s = st->next_try_s;
    f->retry.no_retry = st->next_try_s == INT64_MAX;
    f->retry.status = st->last.status;
    memcpy(f->retry.problem, st->last.problem, sizeof f->retry.problem);
    memcpy(f->retry.msg, st->last.msg, sizeof f->retry.msg);
}

/* A failure that storage did not take is known here only. */
static void look_at_process(const struct cm_facts_view *v, struct cm_facts *f)
{
    struct cm_name_state st = { .size = (uint32_t)sizeof st };

    if (f->subject == NULL ||
        cm_names_state(v->cfg, f->subject->ident, f->subject->names[0], true, &st, NULL) != CM_OK)
        return;
    f->managed = st.managed;
    f->busy = st.busy;
    f->served = st.served;
    if (!f->failed && st.last.status != CM_OK)
        take_failure(f, &st);
}

/* ---- all of it ---- */

static cm_status gather(const struct cm_facts_view *v, struct cm_facts *f, struct cm_err *err)
{
    cm_status rc = cm_facts_cert(v, f, err);

    if (rc != CM_OK)
        return rc;
    look_for_failures(v, f);
    look_at_process(v, f);
    look_at_ca(v, f);
    look_at_lock(v, f);
    rc = cm_op_check(v->op, err);
    if (rc == CM_OK && !f->remains && !f->failed && !f->managed)
        rc = cm_fail(err, CM_E_NOTFOUND, "storage %s knows nothing of '%s'",
                     cm_storage_describe(v->cfg->storage), f->dir);
    return rc;
}

/* As far as a folder's own name tells; a certificate in it knows better. Several names run into
 * one: "a.exampleb.example". */
static struct cm_subject *subject_by(const char *name, const char *dir)
{
    static const char star[] = "wildcard_";
    CM_AUTO_FREE char *wildcard = NULL;
    struct cm_subject *s = NULL;

    if (name == NULL && strncmp(dir, star, sizeof star - 1) == 0)
        name = wildcard = cm_asprintf("*%s", dir + sizeof star - 1);
    if (cm_subject_parse(name != NULL ? name : dir, &s, NULL) != CM_OK)
        return NULL;
    if (strcmp(s->dir, dir) == 0)
        return s;
    cm_subject_free(s);
    return NULL;
}

cm_status cm_facts_of_dir(const struct cm_facts_view *v, const char *dir, const char *name,
                          struct cm_facts *ret, struct cm_err *err)
{
    struct cm_facts f;

    memset(&f, 0, sizeof f);
    f.now_s = cm_env_wall_s(v->cfg->env);
    if (strlen(dir) >= sizeof f.dir)
        return cm_fail(err, CM_E_NOTFOUND, "'%s' is too long to be stored", dir);
    (void)memccpy(f.dir, dir, '\0', sizeof f.dir);
    f.subject = subject_by(name, dir);
    cm_status rc = gather(v, &f, err);
    if (rc != CM_OK) {
        cm_facts_free(&f);
        return rc;
    }
    *ret = f;
    return CM_OK;
}

cm_status cm_facts_of(const struct cm_facts_view *v, const char *name, struct cm_facts *ret,
                      struct cm_err *err)
{
    struct cm_subject *s = NULL;
    const char *group, *ident;
    char dir[CM_STORAGE_COMPONENT_MAX + 1];

    cm_status rc = cm_subject_parse(name, &s, err);
    if (rc == CM_OK)
        rc = cm_facts_of_dir(v, s->dir, name, ret, err);
    if (rc == CM_E_NOTFOUND && s != NULL && s->n == 1 &&
        cm_group_of(v->cfg, s->names[0], &group, &ident))
        rc = cm_facts_of_dir(v, group, ident, ret, err);
    else if (rc == CM_E_NOTFOUND && s != NULL && s->n == 1 &&
             cm_facts_find_san(v, s->names[0], dir, NULL) == CM_OK)
        rc = cm_facts_of_dir(v, dir, NULL, ret, err);
    else if (rc == CM_E_INVAL && cm_store_is_dir(name))
        rc = cm_facts_of_dir(v, name, NULL, ret, err);
    cm_subject_free(s);
    return rc;
}
