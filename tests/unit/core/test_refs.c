/* SPDX-License-Identifier: Apache-2.0 */
#include "index.h"
#include "kit.h"

#include <unistd.h>

/* References of certificates that several threads want at once: none is lost, none counted twice,
 * whichever thread gives it back and whatever becomes of the certificate meanwhile. */

static struct cm_err err;
static _Atomic unsigned destroyed;

static void count_destroyed(struct cm_attachment *a)
{
    free(a);
    (void)atomic_fetch_add(&destroyed, 1);
}

/* One whose end is counted. */
static struct cm_cert *counted(const char *name, int64_t not_before_s)
{
    struct cm_cert *c = kit_hollow(&name, 1, not_before_s, CM_CERT_MANAGED);
    static const char owner;
    struct cm_attachment *form = cm_calloc(1, sizeof *form);

    ck_assert_ptr_nonnull(form);
    form->owner = &owner;
    form->destroy = count_destroyed;
    ck_assert_ptr_eq(cm_cert_attach(c, form), form);
    return c;
}

static struct cm_cert *get(struct cm_cache *cache)
{
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(cache, "hot.example", strlen("hot.example"), certs);

    for (size_t i = 1; i < n; i++)
        cm_cert_unref(certs[i]);
    return n > 0 ? certs[0] : NULL;
}

/* A cache with one certificate that has been asked for by two at once. */
static struct cm_cache *crowded_cache(void)
{
    struct cm_cache *cache = NULL;
    struct cm_cert *c = counted("hot.example", 0);

    ck_ok(cm_cache_new(NULL, &cache, &err));
    ck_ok(cm_cache_put(cache, c, 1, &err));
    ck_assert_ptr_null(atomic_load(&c->tallies));
    cm_cert_unref(get(cache)); /* one alone is no crowd */
    cm_cert_unref(c);
    cm_cert_unref(get(cache));
    ck_assert(!atomic_load(&c->crowded));
    struct cm_cert *a = get(cache);
    struct cm_cert *b = get(cache);
    ck_assert_ptr_eq(a, b);
    ck_assert(sysconf(_SC_NPROCESSORS_ONLN) == 1 || atomic_load(&a->tallies) != NULL);
    cm_cert_unref(a);
    cm_cert_unref(b);
    return cache;
}

START_TEST(tallies_are_added_up_when_the_cache_lets_go)
{
    struct cm_cache *cache = crowded_cache();
    struct cm_cert *held[5];
    unsigned before = atomic_load(&destroyed);

    for (size_t i = 0; i < CM_ARRAY_LEN(held); i++)
        held[i] = get(cache);
    ck_assert(cm_cache_remove(cache, held[0]));
    ck_assert(!cm_cache_remove(cache, held[0]));
    for (size_t i = 0; i < CM_ARRAY_LEN(held); i++) {
        ck_assert_uint_eq(atomic_load(&destroyed), before);
        ck_assert_str_eq(cm_cert_name(held[i], 0), "hot.example");
        cm_cert_unref(held[i]);
    }
    ck_assert_uint_eq(atomic_load(&destroyed), before + 1);
    cm_cache_free(cache);
}
END_TEST

START_TEST(nobody_holds_it_when_the_cache_lets_go)
{
    struct cm_cache *cache = crowded_cache();
    unsigned before = atomic_load(&destroyed);

    cm_cache_free(cache);
    ck_assert_uint_eq(atomic_load(&destroyed), before + 1);
}
END_TEST

START_TEST(certificate_may_come_back)
{
    struct cm_cache *cache = crowded_cache();
    struct cm_cert *c = get(cache);
    unsigned before = atomic_load(&destroyed);

    ck_assert(cm_cache_remove(cache, c));
    ck_ok(cm_cache_put(cache, c, 1, &err));
    struct cm_cert *again = get(cache);
    ck_assert_ptr_eq(again, c);
    ck_assert(cm_cache_remove(cache, c));
    cm_cert_unref(c);
    ck_assert_uint_eq(atomic_load(&destroyed), before);
    cm_cert_unref(again);
    ck_assert_uint_eq(atomic_load(&destroyed), before + 1);
    cm_cache_free(cache);
}
END_TEST

START_TEST(reference_outside_of_a_look_up_makes_no_crowd)
{
    struct cm_cache *cache = NULL;
    struct cm_cert *c = counted("hot.example", 0);

    ck_ok(cm_cache_new(NULL, &cache, &err));
    ck_ok(cm_cache_put(cache, c, 1, &err));
    struct cm_cert *more = cm_cert_ref(c); /* the maker's two and the cache's */
    ck_assert(!atomic_load(&c->crowded));
    cm_cert_unref(more);
    cm_cert_unref(c);
    cm_cert_unref(get(cache));
    ck_assert_ptr_null(atomic_load(&c->tallies));
    cm_cache_free(cache);
}
END_TEST

/* ---- threads ---- */

struct look {
    struct cm_cache *cache;
    atomic_bool done;
};

static void *look_up_twice(void *arg)
{
    struct look *l = arg;
    struct cm_cert *a = get(l->cache);
    struct cm_cert *b = get(l->cache);

    cm_cert_unref(a);
    cm_cert_unref(b);
    atomic_store(&l->done, true);
    return NULL;
}

START_TEST(look_up_does_not_wait_for_a_writer)
{
    struct look l = { .cache = NULL };
    struct cm_cert *c = counted("hot.example", 0);
    pthread_t thread;

    ck_ok(cm_cache_new(NULL, &l.cache, &err));
    ck_ok(cm_cache_put(l.cache, c, 1, &err));
    pthread_mutex_t *writer = (pthread_mutex_t *)(void *)l.cache; /* it stands first */
    ck_assert(cm_mutex_try_lock(writer));
    ck_assert_int_eq(pthread_create(&thread, NULL, look_up_twice, &l), 0);
    kit_until(atomic_load(&l.done));
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert(atomic_load(&c->crowded)); /* it was seen, and is for later */
    ck_assert_ptr_null(atomic_load(&c->tallies));
    cm_mutex_unlock(writer);
    (void)look_up_twice(&l);
    ck_assert(sysconf(_SC_NPROCESSORS_ONLN) == 1 || atomic_load(&c->tallies) != NULL);
    cm_cert_unref(c);
    cm_cache_free(l.cache);
}
END_TEST

struct crowd {
    struct cm_cache *cache;
    _Atomic(struct cm_cert *) passed; /* from whoever came last to whoever comes next */
    _Atomic unsigned rounds;
    atomic_bool stop;
};

/* Each gives back what another has taken. */
static void *pass_on(void *arg)
{
    struct crowd *w = arg;

    while (!atomic_load(&w->stop)) {
        struct cm_cert *mine = get(w->cache);

        ck_assert_ptr_nonnull(mine);
        struct cm_cert *other = atomic_exchange(&w->passed, cm_cert_ref(mine));
        if (other != NULL)
            ck_assert_str_eq(cm_cert_name(other, 0), "hot.example");
        cm_cert_unref(mine);
        cm_cert_unref(other);
        (void)atomic_fetch_add(&w->rounds, 1);
    }
    return NULL;
}

START_TEST(references_wander_between_threads_under_swaps)
{
    enum { THREADS = 4, SWAPS = 600 };
    struct crowd w = { .cache = crowded_cache() };
    unsigned before = atomic_load(&destroyed);
    pthread_t threads[THREADS];
    unsigned with_tallies = 0;

    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, pass_on, &w), 0);
    for (int i = 1; i <= SWAPS; i++) {
        unsigned seen = atomic_load(&w.rounds);
        struct cm_cert *c = counted("hot.example", i);

        ck_ok(cm_cache_put(w.cache, c, i, &err));
        kit_until(atomic_load(&w.rounds) > seen + 20);
        with_tallies += atomic_load(&c->tallies) != NULL;
        cm_cert_unref(c);
    }
    atomic_store(&w.stop, true);
    for (size_t i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    cm_cert_unref(atomic_load(&w.passed));
    ck_assert_uint_eq(atomic_load(&destroyed), before + SWAPS); /* all but the one in the cache */
    ck_assert(sysconf(_SC_NPROCESSORS_ONLN) == 1 || with_tallies > 0);
    cm_cache_free(w.cache);
    ck_assert_uint_eq(atomic_load(&destroyed), before + SWAPS + 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        tallies_are_added_up_when_the_cache_lets_go,
        nobody_holds_it_when_the_cache_lets_go,
        certificate_may_come_back,
        reference_outside_of_a_look_up_makes_no_crowd,
        look_up_does_not_wait_for_a_writer,
        references_wander_between_threads_under_swaps,
    };

    return kit_run("refs", tests, CM_ARRAY_LEN(tests));
}
