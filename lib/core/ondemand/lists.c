/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand.h"

#include <string.h>

/* Exact names and domains, each sorted. A name is looked up once among the first, and with each of
 * its parents among the second: the cost does not grow with the lists. */

struct texts {
    char **at;
    size_t n;
};

struct cm_lists {
    struct texts names;
    struct texts suffixes;
};

static int compare(const void *a, const void *b)
{
    char *const *x = a;
    char *const *y = b;

    return strcmp(*x, *y);
}

static void texts_free(struct texts *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->at[i]);
    free(t->at);
}

static cm_status take(struct texts *t, const char *option, const char *const *given, size_t n,
                      struct cm_err *err)
{
    char normal[CM_NAME_BUF];

    if (n > 0 && given == NULL)
        return cm_fail(err, CM_E_INVAL, "option on_demand.%s: no list given", option);
    t->at = cm_calloc(n, sizeof(char *));
    if (n > 0 && t->at == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < n; i++) {
        const char *name = given[i];

        if (name == NULL)
            return cm_fail(err, CM_E_INVAL, "option on_demand.%s: number %zu is NULL", option,
                           i + 1);
        cm_status rc = cm_normalize_name(name, normal, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "option on_demand.%s", option);
        if (normal[0] == '*' || cm_name_is_ip(normal))
            return cm_fail(err, CM_E_INVAL,
                           "option on_demand.%s: '%s' is no host name that a client can ask for",
                           option, normal);
        t->at[i] = cm_strdup(normal);
        if (t->at[i] == NULL)
            return cm_fail_nomem(err);
        t->n++;
    }
    if (t->n > 1)
        qsort(t->at, t->n, sizeof(char *), compare);
    return CM_OK;
}

cm_status cm_lists_new(const struct cm_ondemand_options *o, struct cm_lists **ret,
                       struct cm_err *err)
{
    struct cm_lists *l = cm_calloc(1, sizeof *l);

    if (l == NULL)
        return cm_fail_nomem(err);
    cm_status rc = take(&l->names, "names", o->names, o->n_names, err);
    if (rc == CM_OK)
        rc = take(&l->suffixes, "suffixes", o->suffixes, o->n_suffixes, err);
    if (rc != CM_OK) {
        cm_lists_free(l);
        return rc;
    }
    *ret = l;
    return CM_OK;
}

void cm_lists_free(struct cm_lists *l)
{
    if (l == NULL)
        return;
    texts_free(&l->names);
    texts_free(&l->suffixes);
    free(l);
}

bool cm_lists_any(const struct cm_lists *l)
{
    return l->names.n > 0 || l->suffixes.n > 0;
}

static bool has(const struct texts *t, const char *name)
{
    return t->n > 0 && bsearch(&name, t->at, t->n, sizeof(char *), compare) != NULL;
}

bool cm_lists_allow(const struct cm_lists *l, const char *name)
{
    if (!cm_lists_any(l) || has(&l->names, name))
        return true;
    for (const char *dot = strchr(name, '.'); dot != NULL; dot = strchr(dot + 1, '.'))
        if (has(&l->suffixes, dot + 1))
            return true;
    return false;
}
