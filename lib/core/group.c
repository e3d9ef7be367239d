/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "names.h"

#include <string.h>

/* Several names that are managed as one: one certificate, one order, one memory of failures. What
 * works on a name of the table works on a group as it is; here is what makes the difference: what
 * the certificate is for, and that each of its names leads to it. */

#define BUCKETS 256u /* a process has few groups; with many the lists get longer */

struct member {
    struct member *next;
    struct cm_managed *m;
    char name[];
};

struct cm_members {
    struct member *buckets[BUCKETS]; /* by name */
    struct member *dirs[BUCKETS];    /* by folder in storage: one for each group */
};

static size_t bucket_of(const char *s)
{
    return (size_t)(cm_fnv1a64(CM_FNV1A64, s, strlen(s)) % BUCKETS);
}

static struct cm_managed *find(struct member *const *buckets, const char *name)
{
    const struct member *x = buckets[bucket_of(name)];

    while (x != NULL && strcmp(x->name, name) != 0)
        x = x->next;
    return x != NULL ? x->m : NULL;
}

struct cm_managed *cm_group_find_locked(const struct cm_names *t, const char *name)
{
    return t->members != NULL ? find(t->members->buckets, name) : NULL;
}

struct cm_managed *cm_group_find_dir_locked(const struct cm_names *t, const char *dir)
{
    return t->members != NULL ? find(t->members->dirs, dir) : NULL;
}

static void free_list(struct member *x)
{
    while (x != NULL) {
        struct member *next = x->next;

        free(x);
        x = next;
    }
}

void cm_members_free(struct cm_members *ms)
{
    for (size_t i = 0; ms != NULL && i < BUCKETS; i++) {
        free_list(ms->buckets[i]);
        free_list(ms->dirs[i]);
    }
    free(ms);
}

static struct member *make(const char *name, struct member *next)
{
    size_t len = strlen(name) + 1;
    struct member *x = cm_calloc(1, sizeof *x + len);

    if (x == NULL)
        return NULL;
    memcpy(x->name, name, len);
    x->next = next;
    return x;
}

static void put(struct member **buckets, struct member *x, struct cm_managed *m)
{
    struct member **to = &buckets[bucket_of(x->name)];

    x->m = m;
    x->next = *to;
    *to = x;
}

/* The folder first, then the names; NULL without memory. */
static struct member *make_all(const struct cm_subject *s)
{
    struct member *all = NULL;

    for (size_t i = 0; i <= s->n; i++) {
        struct member *x = make(i < s->n ? s->names[i] : s->dir, all);

        if (x == NULL) {
            free_list(all);
            return NULL;
        }
        all = x;
    }
    return all;
}

static cm_status check_free(const struct cm_names *t, const struct cm_subject *s,
                            struct cm_err *err)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct cm_managed *m = cm_names_find_locked(t, s->names[i]);

        if (m != NULL)
            return cm_fail(err, CM_E_EXISTS,
                           "'%s' is managed already, %s: a name is managed in one way", s->names[i],
                           m->group != NULL ? "together with others" : "by itself");
    }
    return CM_OK;
}

cm_status cm_group_add_locked(struct cm_config *cfg, const struct cm_subject *s,
                              struct cm_managed **ret, struct cm_err *err)
{
    struct cm_names *t = cfg->names;
    struct cm_subject *own = NULL;
    struct cm_managed *m = NULL;
    struct member *all = NULL;

    cm_status rc = check_free(t, s, err);
    if (rc == CM_OK)
        rc = cm_subject_new(s->names, s->n, &own, err);
    if (rc != CM_OK)
        return rc;
    if (t->members == NULL)
        t->members = cm_calloc(1, sizeof *t->members);
    if (t->members != NULL)
        all = make_all(s);
    if (all != NULL)
        m = cm_names_add_locked(cfg, s->ident);
    if (m == NULL) {
        free_list(all);
        cm_subject_free(own);
        return cm_fail_nomem(err);
    }
    m->group = own;
    for (size_t i = 0; all != NULL; i++) {
        struct member *x = all;

        all = x->next;
        put(i == 0 ? t->members->dirs : t->members->buckets, x, m);
    }
    *ret = m;
    return CM_OK;
}

bool cm_group_of(struct cm_config *cfg, const char *name, const char **ret_dir,
                 const char **ret_ident)
{
    cm_mutex_lock(&cfg->names->lock);
    const struct cm_managed *m = cm_group_find_locked(cfg->names, name);
    cm_mutex_unlock(&cfg->names->lock);
    if (m == NULL)
        return false;
    *ret_dir = m->group->dir; /* groups never go */
    *ret_ident = m->name;
    return true;
}

/* ---- what a name and a group have in common ---- */

const char *cm_managed_host(const struct cm_managed *m)
{
    return m->group != NULL ? m->group->names[0] : m->name;
}

cm_status cm_managed_subject(const struct cm_managed *m, struct cm_subject **ret,
                             struct cm_err *err)
{
    const char *name = m->name;

    if (m->group != NULL)
        return cm_subject_new(m->group->names, m->group->n, ret, err);
    return cm_subject_new(&name, 1, ret, err);
}

bool cm_managed_is_for(const struct cm_managed *m, const struct cm_cert *cert)
{
    return cm_config_manages(m->cfg, cert) &&
           (m->group == NULL || cm_cert_covers_all(cert, m->group->names, m->group->n));
}

bool cm_managed_served_well(const struct cm_managed *m)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    const char *host = cm_managed_host(m);
    size_t n = cm_cache_find(m->cfg->cache, host, strlen(host), certs);
    int64_t now_s = cm_env_wall_s(m->cfg->env);
    bool well = false;

    for (size_t i = 0; i < n; i++) {
        well = well || (cm_managed_is_for(m, certs[i]) && cm_cert_is_valid_at(certs[i], now_s, 0));
        cm_cert_unref(certs[i]);
    }
    return well;
}

/* ---- the calls ---- */

static cm_status engage_group(struct cm_config *cfg, const char *const *names, size_t n,
                              struct cm_engage *how, struct cm_managed **ret, struct cm_err *err)
{
    struct cm_todo todo = { NULL, NULL, 0 };
    struct cm_subject *s = NULL;

    if (cfg == NULL || names == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration or no names");
    cm_status rc = cm_subject_new(names, n, &s, err);
    if (rc != CM_OK)
        return rc;
    how->group = s->n > 1 ? s : NULL; /* one name is one as ever */
    rc = cm_names_engage(cfg, s->ident, how, &todo, ret, err);
    cm_peers_begin(cfg);
    cm_rounds_begin(cfg);
    cm_managed_start_all(cfg, &todo);
    cm_subject_free(s);
    return rc;
}

cm_status cm_manage_together(struct cm_config *cfg, const struct cm_op *op,
                             const char *const *names, size_t n, struct cm_err *err)
{
    struct cm_engage how = { .background = false };
    struct cm_op own = { NULL, 0, NULL };
    struct cm_managed *m = NULL;

    if (op != NULL)
        own = *op;
    cm_status rc = engage_group(cfg, names, n, &how, &m, err);
    if (rc != CM_OK)
        return rc;
    if (own.env == NULL)
        own.env = cfg->env;
    return cm_names_await(m, &own, err);
}

cm_status cm_manage_together_async(struct cm_config *cfg, const char *const *names, size_t n,
                                   struct cm_cancel *cancel, struct cm_err *err)
{
    struct cm_engage how = { .background = true, .token = cancel };
    struct cm_managed *m = NULL;

    return engage_group(cfg, names, n, &how, &m, err);
}
