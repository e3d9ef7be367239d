/* SPDX-License-Identifier: Apache-2.0 */
#include "history_model.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What must hold of the history of one lock, each with the words by which the negative controls
 * know it. Operations overlap in time; an order is only taken for given where one had ended before
 * the other began, so nothing is called wrong that may have been right. */

#define GRACE_NS   (2 * CM_NS_PER_S)
#define REASON_MAX 20u

static unsigned violations;

static void CM_PRINTF(2, 3) wrong(const struct lock_history *h, const char *fmt, ...)
{
    va_list ap;

    if (violations++ >= REASON_MAX)
        return;
    (void)fprintf(stderr, "history: lock %u: ", h->lock);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}

static int by_fence(const void *a, const void *b)
{
    const struct grant *x = a;
    const struct grant *y = b;

    return (x->fence > y->fence) - (x->fence < y->fence);
}

static int by_id(const void *a, const void *b)
{
    const struct commit *x = a;
    const struct commit *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

static struct commit *find(struct lock_history *h, uint64_t id)
{
    const struct commit want = { .id = id };

    return h->commits.n > 0 ? bsearch(&want, h->commits.v, h->commits.n, sizeof want, by_id) : NULL;
}

/* Of a fence: the first grant (they are sorted) that is not below it. */
static size_t grant_at(const struct lock_history *h, uint64_t fence)
{
    size_t lo = 0;
    size_t hi = h->grants.n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (h->grants.v[mid].fence < fence)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* ------------------------------------------------------------------ grants */

static void prove_fences(struct lock_history *h)
{
    int64_t asked_ns = INT64_MIN;

    for (size_t i = 0; i < h->grants.n; i++) {
        const struct grant *g = &h->grants.v[i];

        if (i > 0 && g[-1].fence == g->fence)
            wrong(h, "fence %" PRIu64 " was given out twice", g->fence);
        if (g->got_ns < asked_ns)
            wrong(h, "fence %" PRIu64 " was given out before a lower one was asked for", g->fence);
        if (g->asked_ns > asked_ns)
            asked_ns = g->asked_ns;
    }
}

static int64_t claim_end(const struct grant *g)
{
    return g->unlock_ns < g->lease_end_ns ? g->unlock_ns : g->lease_end_ns;
}

/* Fences grow in time, so the longest claim among the lower ones is all that has to be kept. */
static void prove_one_holder(struct lock_history *h)
{
    const struct grant *longest = NULL;

    for (size_t i = 0; i < h->grants.n; i++) {
        const struct grant *g = &h->grants.v[i];

        if (longest != NULL && g->got_ns < claim_end(longest))
            wrong(h,
                  "two holders: fence %" PRIu64 " was granted %" PRId64
                  " us before the lease of fence %" PRIu64 " had ended",
                  g->fence, (claim_end(longest) - g->got_ns) / 1000, longest->fence);
        if (longest == NULL || claim_end(g) > claim_end(longest))
            longest = g;
    }
}

static void prove_unlocks(struct lock_history *h, struct figures *f)
{
    for (size_t i = 0; i < h->grants.n; i++) {
        const struct grant *g = &h->grants.v[i];

        f->unlocks_refused += g->unlocked == '-';
        if (g->unlocked == '+' && i + 1 < h->grants.n && g[1].got_ns < g->unlock_ns)
            wrong(h, "foreign unlock: fence %" PRIu64 " gave back what was fence %" PRIu64 "'s",
                  g->fence, g[1].fence);
        if (g->unlocked == '-' && g->unlock_ns + GRACE_NS < g->lease_end_ns)
            wrong(h, "fence %" PRIu64 " was lost long before its lease had ended", g->fence);
    }
}

/* Who asks for the lock of a dead process later than the grace must not find it busy, as long as
 * nobody else can have it. */
static void prove_takeover(struct lock_history *h, struct figures *f)
{
    for (size_t i = 0; i < h->grants.n; i++) {
        const struct grant *g = &h->grants.v[i];
        const struct grant *next = i + 1 < h->grants.n ? g + 1 : NULL;
        int64_t until_ns = next != NULL ? next->asked_ns : NEVER;

        if (!g->killed)
            continue;
        f->killed_holders++;
        if (next != NULL && next->got_ns - g->gone_ns > f->takeover_ns)
            f->takeover_ns = next->got_ns - g->gone_ns;
        for (size_t k = 0; k < h->busies.n; k++) {
            const struct busy *b = &h->busies.v[k];

            if (b->from_ns > g->gone_ns + GRACE_NS && b->to_ns < until_ns) {
                wrong(h,
                      "the lock outlived its owner: fence %" PRIu64 " was busy %" PRId64
                      " ms after",
                      g->fence, (b->to_ns - g->gone_ns) / CM_NS_PER_MS);
                break;
            }
        }
    }
}

/* ----------------------------------------------------------------- commits */

/* From what is left at the end back to the beginning. */
static void make_chain(struct lock_history *h, struct commit ***ret, size_t *ret_n)
{
    struct commit **chain = calloc(h->commits.n + 1, sizeof(struct commit *));
    size_t n = 0;
    uint64_t id = h->final_id;

    if (chain == NULL) {
        perror("history");
        exit(3);
    }
    if (!h->has_final)
        wrong(h, "the history has no end");
    while (id != 0 && n < h->commits.n) {
        struct commit *c = find(h, id);

        if (c == NULL) {
            wrong(h, "value %" PRIu64 " came from nowhere", id);
            break;
        }
        chain[n++] = c;
        id = c->prev;
    }
    for (size_t i = 0; i < n / 2; i++) {
        struct commit *t = chain[i];

        chain[i] = chain[n - 1 - i];
        chain[n - 1 - i] = t;
    }
    for (size_t i = 0; i < n; i++) {
        if (chain[i]->at != 0)
            wrong(h, "value %" PRIu64 " is its own predecessor", chain[i]->id);
        chain[i]->at = i + 1;
    }
    *ret = chain;
    *ret_n = n;
}

static void prove_order(struct lock_history *h, struct commit **chain, size_t n)
{
    int64_t began_ns = INT64_MIN;

    for (size_t i = 0; i < n; i++) {
        const struct commit *c = chain[i];
        size_t k = grant_at(h, c->fence);

        if (i > 0 && c->fence < chain[i - 1]->fence)
            wrong(h, "stale write: fence %" PRIu64 " wrote after fence %" PRIu64, c->fence,
                  chain[i - 1]->fence);
        if (k >= h->grants.n || h->grants.v[k].fence != c->fence || h->grants.v[k].who != c->who)
            wrong(h, "value %" PRIu64 " was written without a grant (fence %" PRIu64 ")", c->id,
                  c->fence);
        else if (k + 1 < h->grants.n && h->grants.v[k + 1].got_ns < c->from_ns)
            wrong(h,
                  "stale write: fence %" PRIu64 " began to write after fence %" PRIu64
                  " had been granted",
                  c->fence, h->grants.v[k + 1].fence);
        if (c->to_ns < began_ns)
            wrong(h, "value %" PRIu64 " had been written before its predecessor was begun", c->id);
        if (c->from_ns > began_ns)
            began_ns = c->from_ns;
    }
}

static void prove_outcomes(struct lock_history *h, struct figures *f)
{
    for (size_t i = 0; i < h->commits.n; i++) {
        const struct commit *c = &h->commits.v[i];

        if (i > 0 && c[-1].id == c->id)
            wrong(h, "value %" PRIu64 " was written twice", c->id);
        f->commits += c->how == '+';
        f->refused += c->how == '-';
        f->unknown += c->how == '~';
        f->cut_done += c->how == 0 && c->at != 0;
        f->cut_undone += c->how == 0 && c->at == 0;
        if (c->how == '+' && c->at == 0)
            wrong(h, "lost update: value %" PRIu64 " (fence %" PRIu64 ") was accepted and is gone",
                  c->id, c->fence);
        if (c->how == '-' && c->to_ns + GRACE_NS < c->lease_end_ns)
            wrong(h, "fence %" PRIu64 " was lost long before its lease had ended", c->fence);
        if ((c->how == '-' || c->how == '!') && c->at != 0)
            wrong(h, "value %" PRIu64 " (fence %" PRIu64 ") was refused and is there", c->id,
                  c->fence);
    }
}

/* ------------------------------------------------------------------- reads */

struct seen {
    int64_t ns;
    size_t at;
};

static int by_time(const void *a, const void *b)
{
    const struct seen *x = a;
    const struct seen *y = b;

    return (x->ns > y->ns) - (x->ns < y->ns);
}

/* How far the chain must have been at @ns: the furthest that was seen or done before. */
static size_t seen_before(const struct seen *s, size_t n, int64_t ns)
{
    size_t lo = 0;
    size_t hi = n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (s[mid].ns < ns)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 ? s[lo - 1].at : 0;
}

static void prove_looks(struct lock_history *h, struct commit **chain)
{
    struct seen *seen = calloc(h->commits.n + h->looks.n + 1, sizeof *seen);
    size_t n = 0;

    if (seen == NULL) {
        perror("history");
        exit(3);
    }
    for (size_t i = 0; i < h->commits.n; i++)
        if (h->commits.v[i].how == '+' && h->commits.v[i].at != 0)
            seen[n++] = (struct seen){ h->commits.v[i].to_ns, h->commits.v[i].at };
    for (size_t i = 0; i < h->looks.n; i++) {
        const struct look *l = &h->looks.v[i];
        const struct commit *c = l->id != 0 ? find(h, l->id) : NULL;

        if (l->id != 0 && (c == NULL || c->at == 0))
            wrong(h, "value %" PRIu64 " was read and never was", l->id);
        else if (c != NULL)
            seen[n++] = (struct seen){ l->to_ns, c->at };
    }
    qsort(seen, n, sizeof *seen, by_time);
    for (size_t i = 1; i < n; i++)
        if (seen[i].at < seen[i - 1].at)
            seen[i].at = seen[i - 1].at;
    for (size_t i = 0; i < h->looks.n; i++) {
        const struct look *l = &h->looks.v[i];
        const struct commit *c = l->id != 0 ? find(h, l->id) : NULL;
        size_t at = c != NULL ? c->at : 0;

        if (at < seen_before(seen, n, l->from_ns))
            wrong(h, "stale read of value %" PRIu64 ": a later one had been there", l->id);
        if (at > 0 && chain[at - 1]->from_ns > l->to_ns)
            wrong(h, "value %" PRIu64 " was read before it was written", l->id);
        if (l->torn && l->fence != 0 && l->to_ns < l->lease_end_ns)
            wrong(h, "torn commit: the holder of fence %" PRIu64 " found keys that disagree",
                  l->fence);
    }
    free(seen);
}

unsigned history_prove(struct lock_history *h, struct figures *f)
{
    unsigned before = violations;
    struct commit **chain = NULL;
    size_t n = 0;

    if (h->grants.n > 0)
        qsort(h->grants.v, h->grants.n, sizeof h->grants.v[0], by_fence);
    if (h->commits.n > 0)
        qsort(h->commits.v, h->commits.n, sizeof h->commits.v[0], by_id);
    f->grants += h->grants.n;
    f->looks += h->looks.n;
    prove_fences(h);
    prove_one_holder(h);
    prove_unlocks(h, f);
    prove_takeover(h, f);
    make_chain(h, &chain, &n);
    prove_order(h, chain, n);
    prove_outcomes(h, f);
    prove_looks(h, chain);
    if (h->final_torn)
        wrong(h, "torn commit: at the end the keys disagree");
    free(chain);
    return violations - before;
}
