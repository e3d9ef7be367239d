/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "names.h"

/* The table of managed names a piece at a time. Names never leave it, but it may get more buckets
 * between two pieces. So the walk goes by the bits of the hash from the lowest on, as a fraction
 * of the whole: what bucket b of n holds is, in any larger table, in the buckets that have the same
 * lowest bits, and those are neighbours in this order. */

static uint64_t reverse(uint64_t x)
{
    uint64_t r = 0;

    for (unsigned i = 0; i < 64; i++)
        r |= (x >> i & 1) << (63 - i);
    return r;
}

static enum cm_names_state state_of(const struct cm_managed *m)
{
    if (m->last != NULL)
        return CM_NAME_FAILING;
    return m->served ? CM_NAME_SERVED : CM_NAME_WAITING;
}

/* A failure that the fleet does not count is one all the same. */
static unsigned attempts_of(const struct cm_failure *f)
{
    return f->attempts > 0 ? f->attempts : 1;
}

/* How many of a bucket are failing, the first @max of them in @ret. */
static size_t look_locked(const struct cm_managed *m, uint64_t count[CM_NAME_STATES],
                          struct cm_name_failing *ret, size_t max)
{
    size_t n = 0;

    for (; m != NULL; m = m->next) {
        count[state_of(m)]++;
        if (state_of(m) == CM_NAME_FAILING && n++ < max)
            ret[n - 1] = (struct cm_name_failing){ m->name, attempts_of(m->last) };
    }
    return n;
}

size_t cm_names_failing(struct cm_names *t, struct cm_names_walk *w, struct cm_name_failing *ret,
                        size_t max)
{
    size_t looked = 0;
    size_t n = 0;

    cm_mutex_lock(&t->lock);
    CM_ASSERT(t->n_buckets > 1 && (t->n_buckets & (t->n_buckets - 1)) == 0);
    const uint64_t step = UINT64_MAX / t->n_buckets + 1;
    while (!w->done && looked++ < max) {
        uint64_t count[CM_NAME_STATES] = { 0 };
        const struct cm_managed *m = t->buckets[reverse(w->at) & (t->n_buckets - 1)];
        size_t more = look_locked(m, count, ret + n, max - n);

        if (more > max - n && n > 0)
            break; /* again with the next piece, where there is room */
        n = more > max - n ? max : n + more;
        for (size_t i = 0; i < CM_NAME_STATES; i++)
            w->count[i] += count[i];
        w->at += step;
        w->done = w->at == 0; /* once round */
    }
    cm_mutex_unlock(&t->lock);
    return n;
}

size_t cm_names_next(struct cm_names *t, struct cm_names_place *p, struct cm_managed **ret,
                     size_t max)
{
    size_t n = 0;

    cm_mutex_lock(&t->lock);
    const uint64_t step = UINT64_MAX / t->n_buckets + 1;
    while (!p->done && n < max) {
        struct cm_managed *m = t->buckets[reverse(p->at) & (t->n_buckets - 1)];
        size_t i = 0;

        for (; m != NULL && n < max; m = m->next, i++)
            if (i >= p->skip)
                ret[n++] = m;
        p->skip = m != NULL ? i : 0;
        if (m == NULL) {
            p->at += step;
            p->done = p->at == 0;
        }
    }
    cm_mutex_unlock(&t->lock);
    return n;
}
