/* SPDX-License-Identifier: Apache-2.0 */
#include "nodes.h"

#include <stdio.h>
#include <string.h>

/* The fleet as its nodes tell of themselves, measured against each other and against storage. Only
 * looks: no lock is taken, nothing is written. */

#define NODES_MAX 10000u
#define NAMES_MAX 4000000u /* of all lists; what is beyond is left out, and told */

struct node {
    struct cm_node note;
    bool damaged;
    const struct cm_fleet_list *list; /* NULL: it cannot be read */
};

struct fleet {
    struct cm_config *cfg;
    const struct cm_op *op;
    int64_t now_s;
    struct node *nodes;
    size_t n_nodes;
    struct cm_fleet_list *lists; /* each of one node or of several */
    size_t n_lists, n_names;
    struct cm_fleet_list stored;
    const char **served; /* by any node that lives; sorted, each once */
    size_t n_served;
};

const char *cm_node_state_text(enum cm_node_state s)
{
    switch (s) {
    case CM_NODE_CURRENT:
        return "current";
    case CM_NODE_LAGS:
        return "lags";
    case CM_NODE_GONE:
        return "gone";
    }
    return "unknown";
}

const char *cm_fleet_name_state_text(enum cm_fleet_name_state s)
{
    switch (s) {
    case CM_FLEET_NAME_CURRENT:
        return "current";
    case CM_FLEET_NAME_WAITING:
        return "waiting";
    case CM_FLEET_NAME_BEHIND:
        return "behind";
    case CM_FLEET_NAME_MISSING:
        return "missing";
    }
    return "unknown";
}

static void fleet_free(struct fleet *f)
{
    for (size_t i = 0; i < f->n_lists; i++)
        cm_fleet_list_free(&f->lists[i]);
    cm_fleet_list_free(&f->stored);
    free(f->lists);
    free(f->nodes);
    free(f->served);
}

/* ---- gathering ---- */

static bool is_gone(const struct fleet *f, const struct node *n)
{
    return n->damaged || f->now_s - n->note.seen_s > CM_NODE_GONE_S;
}

/* Does this error end the whole look, or only a part of it? */
static bool is_over(const struct fleet *f, cm_status rc)
{
    return rc == CM_E_NOMEM || cm_op_check(f->op, NULL) != CM_OK;
}

static cm_status find_nodes(struct fleet *f, struct cm_err *err)
{
    struct cm_children ids;

    cm_status rc = cm_children_list(f->cfg, f->op, CM_NODES_DIR, &ids, err);
    if (rc != CM_OK)
        return rc;
    f->nodes = cm_calloc(ids.n + 1, sizeof f->nodes[0]);
    if (f->nodes == NULL)
        rc = cm_fail_nomem(err);
    for (size_t i = 0; i < ids.n && rc == CM_OK && f->n_nodes < NODES_MAX; i++) {
        struct node *n = &f->nodes[f->n_nodes];
        struct cm_err why = CM_ERR_INIT;

        if (ids.at[i].terminal || !cm_node_is_id(ids.at[i].name))
            continue;
        rc = cm_node_load(f->cfg, f->op, ids.at[i].name, &n->note, &why);
        if (rc == CM_E_NOTFOUND) { /* about to begin, gone just now, or damaged */
            struct cm_key_info info;
            char key[CM_KEY_BUF];

            n->damaged = cm_node_path(ids.at[i].name, "node", key, NULL) == CM_OK &&
                         cm_storage_stat(f->cfg->storage, f->op, key, &info, NULL) == CM_OK;
            memset(&n->note, 0, sizeof n->note);
            (void)snprintf(n->note.id, sizeof n->note.id, "%s", ids.at[i].name);
            rc = CM_OK;
            f->n_nodes += n->damaged;
        } else if (rc == CM_OK) {
            f->n_nodes++;
        } else if (err != NULL) {
            *err = why;
        }
    }
    cm_children_free(&ids);
    return rc;
}

/* Nodes of a fleet mostly have the same names and certificates: then the pages of one are enough.
 */
static const struct cm_fleet_list *known_list(const struct fleet *f, const struct cm_node *n)
{
    for (size_t i = 0; i < f->n_lists; i++)
        if (f->lists[i].whole && f->lists[i].digest == n->digest &&
            f->lists[i].n_expected == n->n_names)
            return &f->lists[i];
    return NULL;
}

static cm_status find_names(struct fleet *f, struct cm_err *err)
{
    f->lists = cm_calloc(f->n_nodes + 1, sizeof f->lists[0]);
    if (f->lists == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < f->n_nodes; i++) {
        struct node *n = &f->nodes[i];
        struct cm_fleet_list *l = &f->lists[f->n_lists];
        struct cm_err why = CM_ERR_INIT;

        n->list = n->damaged ? NULL : known_list(f, &n->note);
        if (n->damaged || n->list != NULL)
            continue;
        cm_status rc = cm_fleet_list_load(f->cfg, f->op, &n->note, NAMES_MAX - f->n_names, l, &why);
        if (rc != CM_OK && is_over(f, rc)) {
            if (err != NULL)
                *err = why;
            return rc;
        }
        if (rc != CM_OK)
            continue;
        n->list = l;
        f->n_lists++;
        f->n_names += l->n;
    }
    return CM_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_alive(const struct fleet *f, const struct cm_fleet_list *l)
{
    for (size_t i = 0; i < f->n_nodes; i++)
        if (f->nodes[i].list == l && !is_gone(f, &f->nodes[i]))
            return true;
    return false;
}

static cm_status find_served(struct fleet *f, struct cm_err *err)
{
    size_t n = 0;

    f->served = cm_calloc(f->n_names + 1, sizeof f->served[0]);
    if (f->served == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < f->n_lists; i++) {
        if (!is_alive(f, &f->lists[i]))
            continue;
        for (size_t k = 0; k < f->lists[i].n; k++)
            if (f->lists[i].at[k].serial[0] != '\0')
                f->served[n++] = f->lists[i].at[k].name;
    }
    if (n > 1)
        qsort(f->served, n, sizeof f->served[0], by_text);
    for (size_t i = 0; i < n; i++)
        if (f->n_served == 0 || strcmp(f->served[f->n_served - 1], f->served[i]) != 0)
            f->served[f->n_served++] = f->served[i];
    return CM_OK;
}

/* ---- judging ---- */

static bool is_served(const struct fleet *f, const char *name)
{
    return f->n_served > 0 &&
           bsearch(&name, f->served, f->n_served, sizeof f->served[0], by_text) != NULL;
}

static void judge_name(const struct fleet *f, const struct cm_node_name *own, bool gone,
                       struct cm_fleet_name *ret)
{
    const struct cm_node_name *stored = cm_fleet_list_find(&f->stored, own->name);

    *ret = (struct cm_fleet_name){ .size = (uint32_t)sizeof *ret,
                                   .name = own->name,
                                   .serial = own->serial,
                                   .not_before_s = own->from_s,
                                   .not_after_s = own->until_s,
                                   .stored_serial = stored != NULL ? stored->serial : "" };
    if (own->serial[0] == '\0')
        ret->state =
            !gone && is_served(f, own->name) ? CM_FLEET_NAME_MISSING : CM_FLEET_NAME_WAITING;
    else if (!gone && stored != NULL && strcmp(stored->serial, own->serial) != 0 &&
             stored->from_s > own->from_s)
        ret->state = CM_FLEET_NAME_BEHIND;
}

/* Both are sorted: its own names, and those of others that it lacks. */
static size_t judge_names(const struct fleet *f, const struct node *n, bool gone,
                          struct cm_fleet_name *ret)
{
    const struct cm_fleet_list none = { .n = 0 };
    const struct cm_fleet_list *l = n->list != NULL ? n->list : &none;
    size_t n_others = gone || !l->whole ? 0 : f->n_served; /* else it may well have them */
    size_t count = 0, k = 0;

    for (size_t i = 0; i < l->n || k < n_others;) {
        int order = i == l->n ? 1 : k == n_others ? -1 : strcmp(l->at[i].name, f->served[k]);
        const struct cm_node_name lacking = { .name = order > 0 ? f->served[k] : NULL,
                                              .serial = "" };

        judge_name(f, order > 0 ? &lacking : &l->at[i], gone, &ret[count++]);
        i += order <= 0;
        k += order >= 0;
    }
    return count;
}

static cm_status tell(const struct fleet *f, const struct node *n, cm_fleet_fn each, void *user,
                      struct cm_err *err)
{
    size_t cap = (n->list != NULL ? n->list->n : 0) + f->n_served;
    CM_AUTO_FREE struct cm_fleet_name *names = cm_calloc(cap + 1, sizeof names[0]);
    struct cm_fleet_node out;
    bool gone = is_gone(f, n);

    if (names == NULL)
        return cm_fail_nomem(err);
    memset(&out, 0, sizeof out);
    out.size = (uint32_t)sizeof out;
    memcpy(out.id, n->note.id, sizeof out.id);
    memcpy(out.name, n->note.name, sizeof out.name);
    memcpy(out.host, n->note.host, sizeof out.host);
    memcpy(out.version, n->note.version, sizeof out.version);
    out.pid = n->note.pid;
    out.started_s = n->note.started_s;
    out.seen_s = n->note.seen_s;
    out.n_names = n->note.n_names;
    out.incomplete = n->list == NULL || !n->list->whole;
    size_t count = judge_names(f, n, gone, names);
    for (size_t i = 0; i < count; i++) {
        out.n_behind += names[i].state == CM_FLEET_NAME_BEHIND;
        out.n_missing += names[i].state == CM_FLEET_NAME_MISSING;
    }
    out.state = gone                               ? CM_NODE_GONE
                : out.n_behind + out.n_missing > 0 ? CM_NODE_LAGS
                                                   : CM_NODE_CURRENT;
    return each(user, &out, names, count, err);
}

/* By what people call them. */
static int by_node(const void *a, const void *b)
{
    const struct node *x = a;
    const struct node *y = b;
    int order = strcmp(x->note.name, y->note.name);

    return order != 0 ? order : strcmp(x->note.id, y->note.id);
}

cm_status cm_fleet_each(struct cm_config *cfg, const struct cm_op *op, cm_fleet_fn each, void *user,
                        struct cm_err *err)
{
    const struct cm_op own = { cfg != NULL ? cfg->env : NULL, 0, NULL };
    struct fleet f = { .cfg = cfg, .op = op != NULL ? op : &own };

    if (cfg == NULL || each == NULL)
        return cm_fail(err, CM_E_INVAL, "no configuration, or no function to tell");
    f.now_s = cm_env_wall_s(cfg->env);
    cm_status rc = find_nodes(&f, err);
    if (rc == CM_OK && f.n_nodes > 1)
        qsort(f.nodes, f.n_nodes, sizeof f.nodes[0], by_node);
    if (rc == CM_OK)
        rc = find_names(&f, err);
    if (rc == CM_OK)
        rc = find_served(&f, err);
    if (rc == CM_OK && f.n_served > 0)
        rc = cm_fleet_list_stored(cfg, f.op, &f.stored, err);
    for (size_t i = 0; i < f.n_nodes && rc == CM_OK; i++)
        rc = tell(&f, &f.nodes[i], each, user, err);
    fleet_free(&f);
    return rc;
}
