/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

static struct cm_err err;

/* A clock that waiting moves on. */
struct sim {
    struct cm_env env;
    _Atomic int64_t now;
};

static int64_t sim_now(const struct cm_env *env)
{
    return atomic_load(&((struct sim *)env->user)->now);
}

static cm_status sim_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    struct sim *sim = env->user;

    if (cm_cancel_is_fired(cancel))
        return CM_E_CANCELED;
    (void)atomic_fetch_add(&sim->now, ns);
    return CM_OK;
}

static void sim_init(struct sim *sim, int64_t now)
{
    sim->env = (struct cm_env){ .abi = CM_ENV_ABI,
                                .size = (uint32_t)sizeof sim->env,
                                .wall_ns = sim_now,
                                .mono_ns = sim_now,
                                .wait = sim_wait,
                                .user = sim };
    atomic_init(&sim->now, now);
}

static struct cm_ring_limiter *limiter(size_t events, int64_t window_ns, const struct cm_env *env)
{
    struct cm_ring_limiter *l = NULL;

    ck_ok(cm_ring_limiter_new(events, window_ns, env, &l, &err));
    return l;
}

START_TEST(limits_that_make_no_sense_are_refused)
{
    static const struct {
        size_t events;
        int64_t window_ns;
    } bad[] = { { 0, 1 }, { 1, 0 }, { 1, -1 }, { 0, -1 }, { 1000001, 1 }, { SIZE_MAX, 1 } };
    struct cm_ring_limiter *l = NULL;

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        ck_refused(cm_ring_limiter_new(bad[i].events, bad[i].window_ns, NULL, &l, &err),
                   CM_E_INVAL);
        ck_assert_ptr_null(l);
    }
    l = limiter(2, 10, NULL);
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_refused(cm_ring_limiter_set(l, bad[i].events, bad[i].window_ns, &err), CM_E_INVAL);
    ck_assert_uint_eq(cm_ring_limiter_events(l), 2); /* as it was */
    ck_assert_int_eq(cm_ring_limiter_window_ns(l), 10);
    cm_ring_limiter_free(l);
    cm_ring_limiter_free(NULL);
}
END_TEST

START_TEST(as_many_as_allowed_and_no_more_until_the_window_is_over)
{
    struct sim sim;

    sim_init(&sim, 1000);
    struct cm_ring_limiter *l = limiter(3, 100, &sim.env);
    ck_assert(cm_ring_limiter_allow(l));
    sim.now += 10;
    ck_assert(cm_ring_limiter_allow(l));
    ck_assert_int_eq(cm_ring_limiter_next_ns(l), 0);
    ck_assert(cm_ring_limiter_allow(l));
    ck_assert(!cm_ring_limiter_allow(l));
    ck_assert_int_eq(cm_ring_limiter_next_ns(l), 90);
    sim.now += 89;
    ck_assert(!cm_ring_limiter_allow(l));
    sim.now += 1;
    ck_assert(cm_ring_limiter_allow(l));
    ck_assert(!cm_ring_limiter_allow(l)); /* the next two are ten later */
    ck_assert_int_eq(cm_ring_limiter_next_ns(l), 10);
    cm_ring_limiter_free(l);
}
END_TEST

START_TEST(no_limit_never_limits)
{
    struct sim sim;

    sim_init(&sim, 0);
    struct cm_ring_limiter *l = limiter(0, 0, &sim.env);
    for (int i = 0; i < 10000; i++) {
        ck_assert(cm_ring_limiter_allow(l));
        ck_ok(cm_ring_limiter_wait(l, NULL, &err));
    }
    ck_assert_int_eq(cm_ring_limiter_next_ns(l), 0);
    ck_ok(cm_ring_limiter_set(l, 1, 10, &err)); /* nothing was noted before */
    ck_assert(cm_ring_limiter_allow(l));
    ck_assert(!cm_ring_limiter_allow(l));
    cm_ring_limiter_free(l);
}
END_TEST

START_TEST(windows_of_ages_do_not_overflow)
{
    struct sim sim;

    sim_init(&sim, INT64_MAX - 5);
    struct cm_ring_limiter *l = limiter(1, INT64_MAX, &sim.env);
    ck_assert(cm_ring_limiter_allow(l));
    ck_assert(!cm_ring_limiter_allow(l));
    ck_assert_int_gt(cm_ring_limiter_next_ns(l), 0);
    cm_ring_limiter_free(l);
}
END_TEST

START_TEST(wait_takes_the_place_when_it_is_free)
{
    struct sim sim;

    sim_init(&sim, 0);
    struct cm_ring_limiter *l = limiter(2, CM_NS_PER_S, &sim.env);
    for (int i = 0; i < 10; i++)
        ck_ok(cm_ring_limiter_wait(l, NULL, &err));
    ck_assert_int_eq(sim.now, 4 * CM_NS_PER_S); /* two at once, then two a second */
    cm_ring_limiter_free(l);
}
END_TEST

START_TEST(wait_ends_with_its_operation_and_takes_nothing)
{
    struct cm_cancel *c = NULL;
    struct sim sim;

    sim_init(&sim, 100);
    struct cm_ring_limiter *l = limiter(1, 10 * CM_NS_PER_S, &sim.env);
    ck_assert(cm_ring_limiter_allow(l));
    struct cm_op op = { &sim.env, 100 + 3 * CM_NS_PER_S, NULL };
    ck_refused(cm_ring_limiter_wait(l, &op, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(sim.now, 100 + 3 * CM_NS_PER_S);
    ck_ok(cm_cancel_new(NULL, &c, &err));
    cm_cancel_fire(c);
    op = (struct cm_op){ &sim.env, 0, c };
    ck_refused(cm_ring_limiter_wait(l, &op, &err), CM_E_CANCELED);
    sim.now = 100 + 10 * CM_NS_PER_S;
    ck_refused(cm_ring_limiter_wait(l, &op, &err), CM_E_CANCELED); /* although there is a place */
    ck_assert(cm_ring_limiter_allow(l));
    cm_cancel_free(c);
    cm_ring_limiter_free(l);
}
END_TEST

/* ---- beside a model ---- */

/* What the contract says, as directly as can be: a list of the times of the last @n events. */
struct model {
    int64_t at[64];
    size_t used;
    size_t n;
    int64_t window;
};

static void model_keep(struct model *m, size_t most)
{
    if (m->used > most) {
        memmove(m->at, m->at + (m->used - most), most * sizeof m->at[0]);
        m->used = most;
    }
}

static bool model_allow(struct model *m, int64_t now)
{
    size_t within = 0;

    if (m->n == 0)
        return true;
    for (size_t i = 0; i < m->used; i++)
        within += now - m->at[i] < m->window;
    if (within >= m->n)
        return false;
    model_keep(m, m->n - 1);
    m->at[m->used++] = now;
    return true;
}

static int64_t model_next(const struct model *m, int64_t now)
{
    for (int64_t wait = 0;; wait++) {
        struct model copy = *m;

        if (model_allow(&copy, now + wait))
            return wait;
    }
}

START_TEST(it_does_what_a_naive_model_does)
{
    const struct cm_env *real = cm_env_system();
    struct model m = { .n = 5, .window = 40 };
    struct sim sim;
    unsigned allowed = 0;

    sim_init(&sim, 1000);
    struct cm_ring_limiter *l = limiter(m.n, m.window, &sim.env);
    for (int step = 0; step < 100000; step++) {
        uint64_t dice = cm_random_below(real, 1000);

        if (dice < 15) {
            size_t n = cm_random_below(real, 30);
            int64_t window = n > 0 ? 1 + (int64_t)cm_random_below(real, 100) : 0;

            ck_ok(cm_ring_limiter_set(l, n, window, &err));
            model_keep(&m, n);
            m.n = n;
            m.window = window;
            ck_assert_uint_eq(cm_ring_limiter_events(l), n);
            ck_assert_int_eq(cm_ring_limiter_window_ns(l), window);
        } else if (dice < 100) {
            ck_assert_int_eq(cm_ring_limiter_next_ns(l), model_next(&m, sim.now));
        } else if (dice < 500) {
            sim.now += (int64_t)cm_random_below(real, 12);
        } else if (dice < 505) {
            sim.now += 500;
        } else if (dice < 520) {
            sim.now += model_next(&m, sim.now);
            ck_ok(cm_ring_limiter_wait(l, NULL, &err));
            ck_assert(model_allow(&m, sim.now));
        } else {
            bool expected = model_allow(&m, sim.now);

            allowed += expected;
            ck_assert_msg(cm_ring_limiter_allow(l) == expected, "step %d", step);
        }
    }
    ck_assert_uint_gt(allowed, 1000);
    cm_ring_limiter_free(l);
}
END_TEST

/* ---- threads ---- */

#define QUEUE 8u

struct crowd {
    struct cm_ring_limiter *l;
    _Atomic unsigned claimed;
    _Atomic unsigned served;
    unsigned order[QUEUE]; /* up to served */
};
struct one {
    struct crowd *crowd;
    unsigned number;
    struct cm_cancel *cancel;
    cm_status rc;
    pthread_t thread;
};

static void *stand_in_line(void *arg)
{
    struct one *o = arg;
    struct cm_op op = { NULL, 0, o->cancel };

    o->rc = cm_ring_limiter_wait(o->crowd->l, &op, NULL);
    if (o->rc == CM_OK) {
        o->crowd->order[atomic_fetch_add(&o->crowd->claimed, 1)] = o->number;
        (void)atomic_fetch_add(&o->crowd->served, 1);
    }
    return NULL;
}

/* How long a place would take to be free tells how many stand in line. */
static void start_in_order(struct crowd *c, struct one *o)
{
    for (unsigned i = 0; i < QUEUE; i++) {
        int64_t before = cm_ring_limiter_next_ns(c->l);

        o[i] = (struct one){ .crowd = c, .number = i };
        ck_ok(cm_cancel_new(NULL, &o[i].cancel, &err));
        ck_assert_int_eq(pthread_create(&o[i].thread, NULL, stand_in_line, &o[i]), 0);
        kit_until(cm_ring_limiter_next_ns(c->l) > before);
    }
}

static void end(struct one *o)
{
    for (unsigned i = 0; i < QUEUE; i++) {
        ck_assert_int_eq(pthread_join(o[i].thread, NULL), 0);
        cm_cancel_free(o[i].cancel);
    }
}

START_TEST(places_are_given_in_order_of_arrival)
{
    static struct crowd c;
    static struct one o[QUEUE];
    struct kit_env env;

    kit_env_init(&env);
    c = (struct crowd){ .l = limiter(1, CM_NS_PER_S, &env.base) };
    ck_assert(cm_ring_limiter_allow(c.l));
    start_in_order(&c, o);
    /* The third does not want it any more; nobody's place is lost with him. */
    cm_cancel_fire(o[2].cancel);
    kit_until(cm_ring_limiter_next_ns(c.l) == QUEUE * CM_NS_PER_S);
    for (unsigned i = 1; i < QUEUE; i++) {
        kit_pass(&env, CM_NS_PER_S);
        ck_assert(!cm_ring_limiter_allow(c.l)); /* it is for those who wait */
        kit_until(atomic_load(&c.served) == i);
    }
    end(o);
    ck_assert_int_eq(o[2].rc, CM_E_CANCELED);
    for (unsigned i = 0; i + 1 < QUEUE; i++)
        ck_assert_uint_eq(c.order[i], i < 2 ? i : i + 1);
    cm_ring_limiter_free(c.l);
}
END_TEST

/* A clock that counts how often it is looked at, and whose waits can be made to last. */
struct slow {
    struct cm_env env;
    _Atomic int64_t now;
    _Atomic unsigned looks;
    _Atomic bool hold;
    _Atomic unsigned held;
};

static int64_t slow_now(const struct cm_env *env)
{
    struct slow *slow = env->user;

    (void)atomic_fetch_add(&slow->looks, 1);
    return atomic_load(&slow->now);
}

static cm_status slow_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    struct slow *slow = env->user;

    (void)ns;
    (void)atomic_fetch_add(&slow->held, 1);
    while (atomic_load(&slow->hold))
        kit_nap();
    (void)atomic_fetch_sub(&slow->held, 1);
    kit_nap();
    return cm_cancel_is_fired(cancel) ? CM_E_CANCELED : CM_OK;
}

START_TEST(nobody_overtakes_the_first_who_was_not_quick)
{
    static struct slow slow;
    static struct crowd c;
    static struct one o[QUEUE];

    slow.env = (struct cm_env){ .abi = CM_ENV_ABI,
                                .size = (uint32_t)sizeof slow.env,
                                .wall_ns = slow_now,
                                .mono_ns = slow_now,
                                .wait = slow_wait,
                                .user = &slow };
    c = (struct crowd){ .l = limiter(1, CM_NS_PER_S, &slow.env) };
    ck_assert(cm_ring_limiter_allow(c.l));
    atomic_store(&slow.hold, true);
    start_in_order(&c, o);
    kit_until(atomic_load(&slow.held) == 1);
    /* There is a place, and all the others look for one. */
    atomic_store(&slow.now, CM_NS_PER_S);
    ck_ok(cm_ring_limiter_set(c.l, 1, CM_NS_PER_S, &err));
    unsigned looks = atomic_load(&slow.looks);
    kit_until(atomic_load(&slow.looks) >= looks + 2 * QUEUE);
    ck_assert_uint_eq(atomic_load(&c.served), 0);
    ck_assert(!cm_ring_limiter_allow(c.l));
    atomic_store(&slow.hold, false);
    kit_until(atomic_load(&c.served) == 1);
    ck_assert_uint_eq(c.order[0], 0);
    ck_ok(cm_ring_limiter_set(c.l, 0, 0, &err));
    end(o);
    cm_ring_limiter_free(c.l);
}
END_TEST

START_TEST(a_wider_limit_is_seen_by_those_who_wait)
{
    static struct crowd c;
    static struct one o[QUEUE];
    struct kit_env env;

    kit_env_init(&env);
    c = (struct crowd){ .l = limiter(1, CM_NS_PER_S, &env.base) };
    ck_assert(cm_ring_limiter_allow(c.l));
    start_in_order(&c, o);
    ck_ok(cm_ring_limiter_set(c.l, 0, 0, &err));
    kit_until(atomic_load(&c.served) == QUEUE);
    end(o);
    cm_ring_limiter_free(c.l);
}
END_TEST

/* On the real clock: however many ask, from however many threads, and while it is being changed. */
struct stress {
    struct cm_ring_limiter *l;
    _Atomic bool stop;
    _Atomic unsigned n;
};

static void *take_all(void *arg)
{
    struct stress *s = arg;

    while (!atomic_load(&s->stop)) {
        struct cm_op op = cm_op_within(NULL, CM_NS_PER_MS);

        if (cm_ring_limiter_allow(s->l) || cm_ring_limiter_wait(s->l, &op, NULL) == CM_OK)
            (void)atomic_fetch_add(&s->n, 1);
        (void)cm_ring_limiter_next_ns(s->l);
    }
    return NULL;
}

START_TEST(many_threads_get_no_more_than_the_limit)
{
    struct stress s = { .l = limiter(10, 20 * CM_NS_PER_MS, NULL) };
    const struct cm_env *real = cm_env_system();
    pthread_t threads[8];
    int64_t began = real->mono_ns(real);

    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_all, &s), 0);
    for (int i = 0; i < 100; i++) {
        kit_nap();
        ck_ok(cm_ring_limiter_set(s.l, 10, 20 * CM_NS_PER_MS, &err));
    }
    kit_until(atomic_load(&s.n) > 50);
    atomic_store(&s.stop, true);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    int64_t windows = (real->mono_ns(real) - began) / (20 * CM_NS_PER_MS) + 1;
    ck_assert_uint_le(atomic_load(&s.n), 10 * (uint64_t)windows);
    cm_ring_limiter_free(s.l);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        limits_that_make_no_sense_are_refused,
        as_many_as_allowed_and_no_more_until_the_window_is_over,
        no_limit_never_limits,
        windows_of_ages_do_not_overflow,
        wait_takes_the_place_when_it_is_free,
        wait_ends_with_its_operation_and_takes_nothing,
        it_does_what_a_naive_model_does,
        places_are_given_in_order_of_arrival,
        nobody_overtakes_the_first_who_was_not_quick,
        a_wider_limit_is_seen_by_those_who_wait,
        many_threads_get_no_more_than_the_limit,
    };
    return kit_run("ring", tests, CM_ARRAY_LEN(tests));
}
