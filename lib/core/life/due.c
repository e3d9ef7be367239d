/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

/* A heap with four children a node: half the depth of a binary one, and the children of a node lie
 * in one or two cache lines. */

#define CHILDREN 4u
#define FIRST    64u

void cm_due_free(struct cm_due *d)
{
    for (size_t i = 0; i < d->n; i++)
        d->at[i]->pos = CM_DUE_NOT_IN;
    free(d->at);
    *d = (struct cm_due){ .at = NULL };
}

cm_status cm_due_reserve(struct cm_due *d, size_t n, struct cm_err *err)
{
    size_t cap = d->cap > 0 ? d->cap : FIRST;

    if (n > CM_DUE_NOT_IN - 1 - d->n)
        return cm_fail(err, CM_E_LIMIT, "%zu things to do at some time are too many", d->n);
    while (cap < d->n + n)
        cap *= 2;
    if (cap == d->cap)
        return CM_OK;
    struct cm_due_item **bigger = cm_realloc_array(d->at, cap, sizeof(struct cm_due_item *));
    if (bigger == NULL)
        return cm_fail_nomem(err);
    d->at = bigger;
    d->cap = cap;
    return CM_OK;
}

static void put(struct cm_due *d, size_t pos, struct cm_due_item *item)
{
    d->at[pos] = item;
    item->pos = (uint32_t)pos;
}

static void sift_up(struct cm_due *d, size_t pos, struct cm_due_item *item)
{
    while (pos > 0) {
        size_t parent = (pos - 1) / CHILDREN;

        d->steps++;
        if (d->at[parent]->at_ms <= item->at_ms)
            break;
        put(d, pos, d->at[parent]);
        pos = parent;
    }
    put(d, pos, item);
}

static size_t first_child(struct cm_due *d, size_t pos)
{
    size_t from = pos * CHILDREN + 1;
    size_t best = from;

    for (size_t i = from + 1; i < d->n && i < from + CHILDREN; i++) {
        d->steps++;
        if (d->at[i]->at_ms < d->at[best]->at_ms)
            best = i;
    }
    return best;
}

static void sift_down(struct cm_due *d, size_t pos, struct cm_due_item *item)
{
    for (;;) {
        size_t child = first_child(d, pos);

        d->steps++;
        if (child >= d->n || d->at[child]->at_ms >= item->at_ms)
            break;
        put(d, pos, d->at[child]);
        pos = child;
    }
    put(d, pos, item);
}

cm_status cm_due_set(struct cm_due *d, struct cm_due_item *item, int64_t at_ms, struct cm_err *err)
{
    size_t pos = item->pos;

    if (pos == CM_DUE_NOT_IN) {
        cm_status rc = cm_due_reserve(d, 1, err);

        if (rc != CM_OK)
            return rc;
        item->at_ms = at_ms;
        sift_up(d, d->n++, item);
        return CM_OK;
    }
    bool earlier = at_ms < item->at_ms;
    item->at_ms = at_ms;
    (earlier ? sift_up : sift_down)(d, pos, item);
    return CM_OK;
}

void cm_due_remove(struct cm_due *d, struct cm_due_item *item)
{
    size_t pos = item->pos;

    if (pos == CM_DUE_NOT_IN)
        return;
    CM_ASSERT(pos < d->n && d->at[pos] == item);
    struct cm_due_item *last = d->at[--d->n];
    item->pos = CM_DUE_NOT_IN;
    if (last == item)
        return;
    if (last->at_ms < item->at_ms)
        sift_up(d, pos, last);
    else
        sift_down(d, pos, last);
}

void cm_due_filter(struct cm_due *d, bool (*keep)(void *user, struct cm_due_item *item), void *user)
{
    size_t n = d->n;

    d->n = 0;
    for (size_t i = 0; i < n; i++) {
        struct cm_due_item *item = d->at[i];

        /* What is kept never gets ahead of what is read. */
        if (keep(user, item))
            sift_up(d, d->n++, item);
        else
            item->pos = CM_DUE_NOT_IN;
    }
}

struct cm_due_item *cm_due_first(const struct cm_due *d)
{
    return d->n > 0 ? d->at[0] : NULL;
}
