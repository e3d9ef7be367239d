/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

/* Jobs and the gates in front of the CAs: who is asked, in which order, and who waits. */

static struct kit k;
static struct kit_issuer *a, *b;
static struct cm_err err;

static void start(size_t events, int64_t window_ns)
{
    struct cm_issuer *two[2];

    two[0] = kit_issuer_new(&k.env, "a.test-dir");
    two[1] = kit_issuer_new(&k.env, "b.test-dir");
    a = kit_issuer_of(two[0]);
    b = kit_issuer_of(two[1]);
    a->limits.events = events;
    a->limits.window_ns = window_ns;
    k.opts.issuers = two;
    k.opts.n_issuers = 2;
    kit_start(&k);
    k.opts.issuers = NULL;
}

static void start_one(size_t events, int64_t window_ns)
{
    struct cm_issuer *is = kit_issuer_new(&k.env, "a.test-dir");

    a = kit_issuer_of(is);
    a->limits.events = events;
    a->limits.window_ns = window_ns;
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    kit_start(&k);
    k.opts.issuers = NULL;
}

static void goes_down(struct kit_issuer *is)
{
    is->fail_status = CM_E_NET;
    is->fail_whole_ca = true;
    atomic_store(&is->step, KIT_FAIL_BEFORE);
}

static void is_busy(struct kit_issuer *is, int64_t for_s)
{
    is->fail_status = CM_E_RATELIMITED;
    is->fail_whole_ca = true;
    is->fail_retry_after_s = for_s;
    atomic_store(&is->step, KIT_FAIL_BEFORE);
}

static const char *numbered(unsigned i)
{
    static char name[32];

    (void)snprintf(name, sizeof name, "n%u.example.com", i);
    return name;
}

static cm_status obtain(const struct cm_op *op, unsigned i)
{
    const char *name = numbered(i);

    return cm_obtain(k.cfg, op, &name, 1, NULL, &err);
}

/* A job of one who comes back by himself. */
static cm_status run_job(unsigned i, unsigned attempt)
{
    const char *name = numbered(i);
    struct cm_subject *s = NULL;

    ck_ok(cm_subject_new(&name, 1, &s, &err));
    struct cm_job job = { .cfg = k.cfg, .subject = s, .mode = CM_JOB_OBTAIN, .attempt = attempt };
    cm_status rc = cm_job_run(&job, &err);
    cm_cert_unref(job.cert);
    cm_subject_free(s);
    return rc;
}

START_TEST(an_issuer_that_is_down_costs_no_time_once_that_is_known)
{
    kit_init(&k);
    start(0, 0);
    goes_down(a);
    for (unsigned i = 0; i < 20; i++)
        ck_ok(obtain(NULL, i));
    ck_assert_uint_eq(atomic_load(&a->failed), 5);
    ck_assert_uint_eq(atomic_load(&b->issued), 20);
    kit_pass(&k.env, 60 * CM_NS_PER_S);
    for (unsigned i = 20; i < 30; i++)
        ck_ok(obtain(NULL, i));
    ck_assert_uint_eq(atomic_load(&a->failed), 6); /* the probe, by one of them */
    atomic_store(&a->step, KIT_GO);
    kit_pass(&k.env, 120 * CM_NS_PER_S);
    ck_ok(obtain(NULL, 30));
    ck_assert_uint_eq(atomic_load(&a->issued), 1);
    kit_pass(&k.env, 61 * CM_NS_PER_S);
    ck_ok(obtain(NULL, 31));
    ck_assert_uint_eq(atomic_load(&a->issued), 2);
    kit_stop(&k);
}
END_TEST

START_TEST(when_nobody_takes_orders_nothing_is_ordered_nor_locked)
{
    kit_init(&k);
    start(0, 0);
    is_busy(a, 7200);
    is_busy(b, 3600);
    ck_refused(run_job(0, 0), CM_E_RATELIMITED); /* both were asked */
    unsigned locks = atomic_load(&k.storage.locks);
    unsigned failed = atomic_load(&a->failed) + atomic_load(&b->failed);
    ck_refused(run_job(1, 0), CM_E_AGAIN);
    ck_assert_int_ge(err.retry_after_s, 3600); /* the sooner one */
    ck_assert_int_le(err.retry_after_s, 3600 + 600);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), locks);
    ck_assert_uint_eq(atomic_load(&a->failed) + atomic_load(&b->failed), failed);
    ck_assert_uint_eq(atomic_load(&a->orders) + atomic_load(&b->orders), 0);
    ck_assert(!kit_has(&k.storage.base, "certmesh/journal/n1.example.com"));
    kit_stop(&k);
}
END_TEST

START_TEST(a_failure_counts_although_another_issuer_was_held_up)
{
    kit_init(&k);
    start(0, 0);
    is_busy(a, 7200);
    b->fail_status = CM_E_ACME;
    atomic_store(&b->step, KIT_FAIL_BEFORE);
    ck_refused(run_job(0, 0), CM_E_ACME);
    ck_refused(run_job(0, 1), CM_E_ACME); /* a is not asked now */
    ck_assert_uint_eq(atomic_load(&a->failed), 1);
    ck_assert_uint_eq(atomic_load(&b->failed), 2);
    ck_assert_uint_eq(b->last.attempt, 1);
    b->refuse = "n0"; /* does not certify such names: so it is a that is waited for */
    ck_refused(run_job(0, 2), CM_E_AGAIN);
    ck_assert_int_ge(err.retry_after_s, 7200);
    kit_stop(&k);
}
END_TEST

START_TEST(the_attempt_is_told_to_the_issuer)
{
    kit_init(&k);
    start(0, 0);
    ck_ok(run_job(0, 3));
    ck_assert_uint_eq(a->last.attempt, 3);
    ck_ok(obtain(NULL, 1));
    ck_assert_uint_eq(a->last.attempt, 0);
    kit_stop(&k);
}
END_TEST

/* ---- the order of issuers ---- */

START_TEST(at_random_each_issuer_comes_first_sometimes)
{
    kit_init(&k);
    k.opts.issuer_policy = CM_ISSUERS_RANDOM;
    start(0, 0);
    for (unsigned i = 0; i < 60; i++)
        ck_ok(obtain(NULL, i));
    ck_assert_uint_eq(atomic_load(&a->issued) + atomic_load(&b->issued), 60);
    ck_assert_uint_ge(atomic_load(&a->issued), 5);
    ck_assert_uint_ge(atomic_load(&b->issued), 5);
    kit_stop(&k);
}
END_TEST

START_TEST(the_issuer_with_an_open_order_comes_first_all_the_same)
{
    kit_init(&k);
    k.opts.issuer_policy = CM_ISSUERS_RANDOM;
    start(0, 0);
    for (unsigned i = 0; i < 20; i++) {
        atomic_store(&a->step, KIT_FAIL_BEFORE);
        atomic_store(&b->step, KIT_CRASH_AFTER_CHECKPOINT);
        ck_assert_int_ne(obtain(NULL, i), CM_OK);
        atomic_store(&a->step, KIT_GO);
        atomic_store(&b->step, KIT_GO);
        ck_ok(obtain(NULL, i));
    }
    ck_assert_uint_eq(atomic_load(&a->issued), 0);
    ck_assert_uint_eq(atomic_load(&b->resumed), 20);
    /* and if that fails, the others have their turn */
    atomic_store(&a->step, KIT_FAIL_BEFORE);
    atomic_store(&b->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_assert_int_ne(obtain(NULL, 20), CM_OK);
    atomic_store(&a->step, KIT_GO);
    atomic_store(&b->step, KIT_FAIL_BEFORE);
    ck_ok(obtain(NULL, 20));
    ck_assert_uint_eq(atomic_load(&a->issued), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(an_open_order_goes_on_although_the_throttle_is_full)
{
    kit_init(&k);
    start(2, 3600 * CM_NS_PER_S);
    atomic_store(&b->step, KIT_FAIL_BEFORE);
    atomic_store(&a->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_assert_int_ne(run_job(0, 0), CM_OK);
    atomic_store(&a->step, KIT_GO);
    ck_ok(run_job(1, 0));
    ck_assert_int_ne(run_job(2, 0), CM_OK); /* full: b alone was asked */
    ck_assert_uint_eq(atomic_load(&a->orders), 2);
    ck_ok(run_job(0, 1));
    ck_assert_uint_eq(atomic_load(&a->resumed), 1);
    kit_stop(&k);
}
END_TEST

/* ---- patience ---- */

struct patient {
    pthread_t thread;
    unsigned number;
    const struct cm_op *op;
    _Atomic bool done;
    cm_status rc;
    struct cm_err err;
};

static void *wait_for_it(void *arg)
{
    struct patient *p = arg;
    char name[32];
    const char *names = name;

    (void)snprintf(name, sizeof name, "p%u.example.com", p->number);
    p->rc = cm_obtain(k.cfg, p->op, &names, 1, NULL, &p->err);
    atomic_store(&p->done, true);
    return NULL;
}

static void set_off(struct patient *p, unsigned number, const struct cm_op *op)
{
    *p = (struct patient){ .number = number, .op = op };
    ck_assert_int_eq(pthread_create(&p->thread, NULL, wait_for_it, p), 0);
}

START_TEST(ten_names_through_two_in_a_second)
{
    static struct patient p[10];
    unsigned done = 0;

    kit_init(&k);
    start_one(2, CM_NS_PER_S);
    for (unsigned i = 0; i < 10; i++)
        set_off(&p[i], i, NULL);
    for (unsigned second = 0; second < 5; second++) {
        unsigned allowed = 2 * (second + 1);

        kit_until(atomic_load(&a->orders) == allowed);
        done = 0;
        /* All the others have looked for a turn and wait. */
        kit_log_reset();
        kit_until(second == 4 || kit_logged("waiting_for_turn") >= 10 - allowed);
        ck_assert_uint_eq(atomic_load(&a->orders), allowed);
        kit_pass(&k.env, CM_NS_PER_S);
    }
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(pthread_join(p[i].thread, NULL), 0);
        done += p[i].rc == CM_OK;
    }
    ck_assert_uint_eq(done, 10);
    kit_stop(&k);
}
END_TEST

START_TEST(a_short_pause_is_waited_for_without_the_lock)
{
    static struct patient p;
    struct cm_lease *lease = NULL;
    struct cm_op op = { &k.env.base, 0, NULL };

    kit_init(&k);
    start_one(0, 0);
    is_busy(a, 300);
    ck_refused(run_job(0, 0), CM_E_RATELIMITED);
    atomic_store(&a->step, KIT_GO);
    set_off(&p, 1, NULL);
    kit_until(kit_logged("waiting_for_turn") > 0);
    ck_ok(cm_lease_acquire(&k.storage.base, &op, "issue_cert_p1.example.com", NULL, &lease, &err));
    cm_lease_release(lease);
    ck_assert(!atomic_load(&p.done));
    kit_pass(&k.env, 300 * CM_NS_PER_S);
    ck_assert_int_eq(pthread_join(p.thread, NULL), 0);
    ck_assert_int_eq(p.rc, CM_OK);
    kit_stop(&k);
}
END_TEST

START_TEST(a_pause_that_is_too_long_is_told_at_once)
{
    struct cm_op op = { &k.env.base, 0, NULL };

    kit_init(&k);
    start_one(0, 0);
    is_busy(a, 300);
    ck_refused(run_job(0, 0), CM_E_RATELIMITED);
    op = cm_op_within(&op, 200 * CM_NS_PER_S);
    ck_refused(obtain(&op, 1), CM_E_RATELIMITED); /* more than the operation has left */
    ck_assert_int_eq(err.status, CM_E_RATELIMITED);
    ck_assert_int_ge(err.retry_after_s, 300);
    ck_assert_uint_eq(kit_logged("waiting_for_turn"), 0);
    kit_pass(&k.env, 300 * CM_NS_PER_S);
    is_busy(a, 3600);
    ck_refused(run_job(0, 0), CM_E_RATELIMITED);
    ck_refused(obtain(NULL, 1), CM_E_RATELIMITED); /* more than anyone's patience */
    ck_assert_uint_eq(kit_logged("waiting_for_turn"), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(waiting_for_a_turn_can_be_canceled)
{
    static struct patient p;
    struct cm_cancel *c = NULL;

    kit_init(&k);
    start_one(1, 60 * CM_NS_PER_S);
    ck_ok(obtain(NULL, 0));
    ck_ok(cm_cancel_new(NULL, &c, &err));
    struct cm_op op = { &k.env.base, 0, c };
    set_off(&p, 1, &op);
    kit_until(kit_logged("waiting_for_turn") > 0);
    cm_cancel_fire(c);
    ck_assert_int_eq(pthread_join(p.thread, NULL), 0);
    ck_assert_int_eq(p.rc, CM_E_CANCELED);
    ck_assert_int_eq(p.err.status, CM_E_CANCELED);
    cm_cancel_free(c);
    kit_stop(&k);
}
END_TEST

START_TEST(a_renewal_in_its_last_days_is_not_held_up_by_the_throttle)
{
    kit_init(&k);
    start_one(1, 3600 * CM_NS_PER_S);
    kit_store_pair(&k.storage.base, "a.test-dir", "p1.example.com", START_S - 197 * 43200,
                   100 * 86400);
    ck_ok(obtain(NULL, 0));
    ck_refused(run_job(1, 0), CM_E_AGAIN);
    ck_ok(cm_renew(k.cfg, NULL, "p1.example.com", false, NULL, &err));
    ck_assert_uint_eq(atomic_load(&a->issued), 2);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        an_issuer_that_is_down_costs_no_time_once_that_is_known,
        when_nobody_takes_orders_nothing_is_ordered_nor_locked,
        a_failure_counts_although_another_issuer_was_held_up,
        the_attempt_is_told_to_the_issuer,
        at_random_each_issuer_comes_first_sometimes,
        the_issuer_with_an_open_order_comes_first_all_the_same,
        an_open_order_goes_on_although_the_throttle_is_full,
        ten_names_through_two_in_a_second,
        a_short_pause_is_waited_for_without_the_lock,
        a_pause_that_is_too_long_is_told_at_once,
        waiting_for_a_turn_can_be_canceled,
        a_renewal_in_its_last_days_is_not_held_up_by_the_throttle,
    };
    return kit_run("turns", tests, CM_ARRAY_LEN(tests));
}
