/* SPDX-License-Identifier: Apache-2.0 */
#include "facts.h"
#include "names.h"

#include <stdio.h>
#include <string.h>

/* The status of all names that anybody knows of: certificates in storage, failures noted there, and
 * what this process manages. */

/* Folders of names, whoever knows of them; each may be in here several times. */
struct known {
    struct known_one {
        char *dir;
        char *name; /* NULL: only the folder is known */
    } * at;
    size_t n;
    size_t cap;
};

static void known_free(struct known *k)
{
    for (size_t i = 0; i < k->n; i++) {
        free(k->at[i].dir);
        free(k->at[i].name);
    }
    free(k->at);
}

static cm_status known_add(struct known *k, const char *dir, const char *name, struct cm_err *err)
{
    if (k->n == k->cap) {
        size_t cap = k->cap > 0 ? k->cap * 2 : 64;
        struct known_one *bigger = cm_realloc_array(k->at, cap, sizeof k->at[0]);

        if (bigger == NULL)
            return cm_fail_nomem(err);
        k->at = bigger;
        k->cap = cap;
    }
    k->at[k->n] = (struct known_one){ cm_strdup(dir), cm_strdup(name) };
    k->n++;
    if (k->at[k->n - 1].dir == NULL || (name != NULL && k->at[k->n - 1].name == NULL))
        return cm_fail_nomem(err);
    return CM_OK;
}

/* Who knows the name comes first. */
static int by_dir(const void *a, const void *b)
{
    const struct known_one *x = a;
    const struct known_one *y = b;
    int order = strcmp(x->dir, y->dir);

    return order != 0 ? order : (x->name == NULL) - (y->name == NULL);
}

static cm_status add_site(void *user, const char *issuer, const char *dir, const char *base,
                          struct cm_err *err)
{
    (void)issuer;
    (void)base;
    return known_add(user, dir, NULL, err);
}

static cm_status add_noted(const struct cm_facts_view *v, struct known *k, struct cm_err *err)
{
    struct cm_children notes;

    cm_status rc = cm_children_list(v->cfg, v->op, CM_RETRY_DIR, &notes, err);
    if (rc != CM_OK)
        return rc;
    for (size_t i = 0; i < notes.n && rc == CM_OK; i++)
        if (notes.at[i].terminal)
            rc = known_add(k, notes.at[i].name, NULL, err);
    cm_children_free(&notes);
    return rc;
}

static cm_status add_name(struct known *k, const struct cm_managed *m, struct cm_err *err)
{
    struct cm_subject *s = NULL;

    cm_status rc = cm_managed_subject(m, &s, err);
    if (rc == CM_OK)
        rc = known_add(k, s->dir, m->name, err);
    cm_subject_free(s);
    return rc;
}

/* Handshakes may be waiting for the lock of the names, so it is held for the pointers alone; names
 * never leave the table. */
static cm_status add_managed(struct cm_names *t, struct known *k, struct cm_err *err)
{
    cm_status rc = CM_OK;
    size_t n = 0;

    cm_mutex_lock(&t->lock);
    size_t cap = t->n;
    cm_mutex_unlock(&t->lock);
    CM_AUTO_FREE const struct cm_managed **names = cm_calloc(cap + 1, sizeof(struct cm_managed *));
    if (names == NULL)
        return cm_fail_nomem(err);
    cm_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n_buckets && n < cap; i++)
        for (const struct cm_managed *m = t->buckets[i]; m != NULL && n < cap; m = m->next)
            names[n++] = m;
    cm_mutex_unlock(&t->lock);
    for (size_t i = 0; i < n && rc == CM_OK; i++)
        rc = add_name(k, names[i], err);
    return rc;
}

static cm_status find_known(const struct cm_facts_view *v, struct known *k, struct cm_err *err)
{
    cm_status rc = add_managed(v->cfg->names, k, err);

    if (rc == CM_OK)
        rc = cm_sites_walk(v->cfg, v->op, add_site, k, err);
    if (rc == CM_OK)
        rc = add_noted(v, k, err);
    if (rc == CM_OK && k->n > 1)
        qsort(k->at, k->n, sizeof k->at[0], by_dir);
    return rc;
}

/* What cannot be looked at is told as such: it must not hide the rest. */
static cm_status status_of_dir(const struct cm_facts_view *v, const struct known_one *k,
                               struct cm_life_status *ret, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;
    struct cm_facts f;

    cm_status rc = cm_facts_of_dir(v, k->dir, k->name, &f, &why);
    if (rc == CM_OK) {
        cm_facts_status(&f, ret);
        cm_facts_free(&f);
        return CM_OK;
    }
    if (rc == CM_E_NOTFOUND || cm_facts_over(v, rc)) {
        if (err != NULL)
            *err = why;
        return rc;
    }
    memset(ret, 0, sizeof *ret);
    ret->size = (uint32_t)sizeof *ret;
    ret->state = CM_LIFE_DAMAGED;
    (void)snprintf(ret->name, sizeof ret->name, "%s", k->name != NULL ? k->name : k->dir);
    (void)snprintf(ret->next_action, sizeof ret->next_action, "none");
    memcpy(ret->last_error, why.msg, sizeof ret->last_error);
    return CM_OK;
}

cm_status cm_status_each(struct cm_config *cfg, const struct cm_op *op, cm_status_fn each,
                         void *user, struct cm_err *err)
{
    struct known k = { NULL, 0, 0 };
    struct cm_facts_view v;
    struct cm_life_status st;

    if (cfg == NULL || each == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no function to tell");
    cm_status rc = cm_facts_open(cfg, op, &v, err);
    if (rc != CM_OK)
        return rc;
    rc = find_known(&v, &k, err);
    for (size_t i = 0; i < k.n && rc == CM_OK; i++) {
        if (i > 0 && strcmp(k.at[i - 1].dir, k.at[i].dir) == 0)
            continue;
        rc = status_of_dir(&v, &k.at[i], &st, err);
        if (rc == CM_OK)
            rc = each(user, &st, err);
        else if (rc == CM_E_NOTFOUND) /* gone meanwhile */
            rc = CM_OK;
    }
    known_free(&k);
    cm_facts_close(&v);
    return rc;
}
