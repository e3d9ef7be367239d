/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <unistd.h>

/* Counting references. One count is all that most certificates need. But where handshakes of
 * several threads want the same certificate all the time, the line that holds its count goes from
 * core to core, and that costs more than the look-up. Such a certificate gets tallies: a count per
 * group of threads, each on a line of its own. A reference may be taken on one and given back on
 * another, so a tally alone means nothing and may be negative; and nobody looks at their sum while
 * the cache holds the certificate, since it cannot be zero then. When the cache gives it up, the
 * tallies are closed one by one, what they hold goes to the common count, and from then on that
 * count is the only one. */

#define TALLIES_MAX 16u
/* A tally below CLOSED / 2 is closed: it never counts so far by itself. */
#define CLOSED (INT64_MIN / 2)
/* Keeps the count from 0 while the tallies are added to it. */
#define CLOSING (INT32_C(1) << 30)

struct cm_tally {
    _Alignas(64) _Atomic int64_t n;
};

unsigned cm_thread_number(void)
{
    static _Atomic unsigned next;
    static _Thread_local unsigned mine; /* + 1; 0 = not yet chosen */

    if (mine == 0)
        mine = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) % (1u << 16) + 1;
    return mine - 1;
}

/* How many tallies make sense here: a power of two. */
static unsigned n_tallies(void)
{
    static _Atomic unsigned known;
    unsigned n = atomic_load_explicit(&known, memory_order_relaxed);
    unsigned before = 0;

    if (n > 0)
        return n;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (n = 1; n < TALLIES_MAX && (long)n < cpus;)
        n *= 2;
    /* One answer for all, whatever becomes of processors in the meantime. */
    return atomic_compare_exchange_strong(&known, &before, n) ? n : before;
}

/* Add @by to this thread's tally. False: there is none, or it is closed. */
static bool tally(struct cm_cert *c, int64_t by)
{
    struct cm_tally *t = atomic_load_explicit(&c->tallies, memory_order_acquire);

    if (t == NULL)
        return false;
    t += cm_thread_number() & (n_tallies() - 1);
    return atomic_fetch_add_explicit(&t->n, by, memory_order_acq_rel) > CLOSED / 2;
}

struct cm_cert *cm_cert_ref(struct cm_cert *c)
{
    if (c != NULL && !tally(c, 1))
        (void)atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

struct cm_cert *cm_cert_ref_found(struct cm_cert *c)
{
    if (tally(c, 1))
        return c;
    /* The cache has one; whoever else has one now may be another thread. */
    if (atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed) > 1 &&
        atomic_load_explicit(&c->tallies, memory_order_relaxed) == NULL)
        atomic_store_explicit(&c->crowded, 1, memory_order_relaxed);
    return c;
}

static void drop(struct cm_cert *c, int32_t by)
{
    if (atomic_fetch_sub_explicit(&c->refs, by, memory_order_acq_rel) == by)
        cm_cert_destroy(c);
}

void cm_cert_unref(struct cm_cert *c)
{
    if (c != NULL && !tally(c, -1))
        drop(c, 1);
}

void cm_cert_open_tallies(struct cm_cert *c)
{
    unsigned n = n_tallies();
    struct cm_tally *t;

    if (n == 1 || atomic_load(&c->tallies) != NULL)
        return;
    t = cm_calloc_aligned(_Alignof(struct cm_tally), n * sizeof *t);
    if (t == NULL)
        return;
    for (unsigned i = 0; i < n; i++)
        atomic_init(&t[i].n, 0);
    atomic_store_explicit(&c->tallies, t, memory_order_release);
}

void cm_cert_retire(struct cm_cert *c)
{
    struct cm_tally *t = c != NULL ? atomic_load(&c->tallies) : NULL;

    if (t == NULL) {
        cm_cert_unref(c);
        return;
    }
    atomic_fetch_add_explicit(&c->refs, CLOSING, memory_order_relaxed);
    for (unsigned i = 0; i < n_tallies(); i++) {
        int64_t n = atomic_exchange_explicit(&t[i].n, CLOSED, memory_order_acq_rel);

        /* Closed before: it had left a cache already. */
        if (n > CLOSED / 2)
            atomic_fetch_add_explicit(&c->refs, (int32_t)n, memory_order_acq_rel);
    }
    drop(c, CLOSING + 1);
}
