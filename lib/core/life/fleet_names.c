/* SPDX-License-Identifier: Apache-2.0 */
#include "nodes.h"

#include <string.h>

/* Names with what is served for them, as lists sorted by name: of nodes, by their pages, and of
 * what lies in storage. */

#define BATCH 256u /* values that are asked for at once */

void cm_fleet_list_free(struct cm_fleet_list *l)
{
    for (size_t i = 0; i < l->n_texts; i++)
        free(l->texts[i]);
    free(l->texts);
    free(l->at);
    memset(l, 0, sizeof *l);
}

static cm_status add(struct cm_fleet_list *l, const struct cm_node_name *n, struct cm_err *err)
{
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? l->cap * 2 : 256;
        struct cm_node_name *bigger = cm_realloc_array(l->at, cap, sizeof l->at[0]);

        if (bigger == NULL)
            return cm_fail_nomem(err);
        l->at = bigger;
        l->cap = cap;
    }
    l->at[l->n++] = *n;
    return CM_OK;
}

/* The list takes @text over, also when it fails. */
static cm_status add_text(struct cm_fleet_list *l, char *text, struct cm_err *err)
{
    char **bigger = NULL;

    if (text != NULL && (l->n_texts & (l->n_texts - 1)) == 0) { /* full: a power of two, or 0 */
        bigger = cm_realloc_array(l->texts, l->n_texts > 0 ? 2 * l->n_texts : 1, sizeof(char *));
        if (bigger == NULL) {
            free(text);
            return cm_fail_nomem(err);
        }
        l->texts = bigger;
    }
    if (text == NULL)
        return cm_fail_nomem(err);
    l->texts[l->n_texts++] = text;
    return CM_OK;
}

/* Of the same name the newest first. */
static int by_name(const void *a, const void *b)
{
    const struct cm_node_name *x = a;
    const struct cm_node_name *y = b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : (x->from_s < y->from_s) - (x->from_s > y->from_s);
}

static void sort(struct cm_fleet_list *l)
{
    size_t n = 0;

    if (l->n > 1)
        qsort(l->at, l->n, sizeof l->at[0], by_name);
    for (size_t i = 0; i < l->n; i++)
        if (n == 0 || strcmp(l->at[n - 1].name, l->at[i].name) != 0)
            l->at[n++] = l->at[i];
    l->n = n;
}

static int is_name(const void *name, const void *item)
{
    return strcmp(name, ((const struct cm_node_name *)item)->name);
}

const struct cm_node_name *cm_fleet_list_find(const struct cm_fleet_list *l, const char *name)
{
    return l->n > 0 ? bsearch(name, l->at, l->n, sizeof l->at[0], is_name) : NULL;
}

/* ---- pages of a node ---- */

struct pages {
    struct cm_fleet_list *list;
    unsigned first; /* of the batch */
    size_t max;
    bool broken;
};

static cm_status take_name(void *user, const struct cm_node_name *n, uint64_t hash,
                           struct cm_err *err)
{
    struct pages *p = user;

    if (p->list->n >= p->max)
        return cm_fail(err, CM_E_LIMIT, "too many names");
    p->list->sum += hash;
    return add(p->list, n, err);
}

/* A page that is damaged, gone or of another number of pages is left out. */
static cm_status take_page(void *user, size_t index, cm_status status, struct cm_span value,
                           const struct cm_err *why, struct cm_err *err)
{
    struct pages *p = user;
    char *text;

    (void)why;
    if (status != CM_OK || value.len > CM_NODE_PAGE_BYTES) {
        p->broken = true;
        return CM_OK;
    }
    text = cm_strndup(value.len > 0 ? (const char *)value.data : "", value.len);
    cm_status rc = add_text(p->list, text, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_node_page_parse(text, value.len, p->first + (unsigned)index, p->list->n_pages,
                            take_name, p, NULL);
    p->broken = p->broken || rc != CM_OK;
    return rc == CM_E_NOMEM ? cm_fail_nomem(err) : CM_OK;
}

static cm_status load_batch(struct cm_config *cfg, const struct cm_op *op,
                            const struct cm_node *node, unsigned n, struct pages *p,
                            struct cm_err *err)
{
    const char *keys[BATCH];
    char(*paths)[CM_KEY_BUF] = cm_calloc(n, sizeof paths[0]);
    cm_status rc = paths != NULL ? CM_OK : cm_fail_nomem(err);

    for (unsigned i = 0; i < n && rc == CM_OK; i++) {
        rc = cm_node_page_path(node->id, p->first + i, paths[i], err);
        keys[i] = paths[i];
    }
    if (rc == CM_OK)
        rc = cm_storage_load_many(cfg->storage, op, keys, n, take_page, p, err);
    free(paths);
    return rc;
}

cm_status cm_fleet_list_load(struct cm_config *cfg, const struct cm_op *op,
                             const struct cm_node *node, size_t max, struct cm_fleet_list *ret,
                             struct cm_err *err)
{
    struct cm_fleet_list l = { .digest = node->digest,
                               .n_expected = node->n_names,
                               .n_pages = node->n_pages };
    struct pages p = { .list = &l, .max = max };
    cm_status rc = CM_OK;

    for (; p.first < node->n_pages && rc == CM_OK; p.first += BATCH) {
        unsigned left = node->n_pages - p.first;

        rc = load_batch(cfg, op, node, left < BATCH ? left : BATCH, &p, err);
    }
    if (rc != CM_OK) {
        cm_fleet_list_free(&l);
        return rc;
    }
    l.whole = !p.broken && l.sum == node->digest && l.n == node->n_names;
    sort(&l);
    *ret = l;
    return CM_OK;
}

/* ---- what storage has ---- */

struct stored {
    struct cm_config *cfg;
    const struct cm_op *op;
    struct cm_fleet_list *list;
    char *keys[BATCH];
    size_t n;
};

static cm_status add_leaf(struct cm_fleet_list *l, const struct cm_leaf *leaf, struct cm_err *err)
{
    char *serial = cm_strdup(leaf->serial_hex);
    cm_status rc = add_text(l, serial, err);

    for (size_t i = 0; i < leaf->n_names && rc == CM_OK; i++) {
        struct cm_node_name n = { .serial = serial,
                                  .from_s = leaf->not_before_s,
                                  .until_s = leaf->not_after_s };
        char *name = cm_strdup(leaf->names[i]);

        n.name = name;
        rc = add_text(l, name, err);
        if (rc == CM_OK)
            rc = add(l, &n, err);
    }
    return rc;
}

/* What cannot be read is for `status` to tell. */
static cm_status take_chain(void *user, size_t index, cm_status status, struct cm_span value,
                            const struct cm_err *why, struct cm_err *err)
{
    struct stored *s = user;
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    cm_status rc = CM_OK;

    (void)index;
    (void)why;
    if (status == CM_OK && value.len <= CM_PEM_FILE_MAX &&
        cm_chain_from_pem(value, &chain, NULL) == CM_OK) {
        if (cm_leaf_parse(chain.der[0], &leaf, NULL) == CM_OK)
            rc = add_leaf(s->list, leaf, err);
        cm_leaf_free(leaf);
        cm_chain_free(&chain);
    }
    return rc;
}

static cm_status load_chains(struct stored *s, struct cm_err *err)
{
    cm_status rc = CM_OK;

    if (s->n > 0)
        rc = cm_storage_load_many(s->cfg->storage, s->op, (const char *const *)s->keys, s->n,
                                  take_chain, s, err);
    for (size_t i = 0; i < s->n; i++)
        free(s->keys[i]);
    s->n = 0;
    return rc;
}

static cm_status note_site(void *user, const char *issuer, const char *dir, const char *base,
                           struct cm_err *err)
{
    struct stored *s = user;

    (void)issuer;
    s->keys[s->n] = cm_asprintf("%s/%s.crt", base, dir);
    if (s->keys[s->n] == NULL)
        return cm_fail_nomem(err);
    s->n++;
    return s->n == BATCH ? load_chains(s, err) : CM_OK;
}

cm_status cm_fleet_list_stored(struct cm_config *cfg, const struct cm_op *op,
                               struct cm_fleet_list *ret, struct cm_err *err)
{
    struct cm_fleet_list l = { .whole = true };
    struct stored s = { .cfg = cfg, .op = op, .list = &l };

    cm_status rc = cm_sites_walk(cfg, op, note_site, &s, err);
    cm_status last = load_chains(&s, rc == CM_OK ? err : NULL);
    if (rc == CM_OK)
        rc = last;
    if (rc != CM_OK) {
        cm_fleet_list_free(&l);
        return rc;
    }
    sort(&l);
    *ret = l;
    return CM_OK;
}
