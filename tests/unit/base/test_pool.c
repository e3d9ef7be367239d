/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <signal.h>

static struct cm_err err;

/* A gate that tasks stand at until it is opened. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    unsigned arrived;
    unsigned done;
    unsigned most_at_once;
} gate;

static void gate_reset(void)
{
    cm_mutex_init(&gate.lock);
    cm_cond_init(&gate.changed);
    gate.open = false;
    gate.arrived = gate.done = gate.most_at_once = 0;
}

static void stand_at_gate(void *arg)
{
    (void)arg;
    cm_mutex_lock(&gate.lock);
    gate.arrived++;
    if (gate.arrived - gate.done > gate.most_at_once)
        gate.most_at_once = gate.arrived - gate.done;
    (void)pthread_cond_broadcast(&gate.changed);
    while (!gate.open)
        (void)cm_cond_wait_ns(&gate.changed, &gate.lock, CM_NS_PER_S);
    gate.done++;
    (void)pthread_cond_broadcast(&gate.changed);
    cm_mutex_unlock(&gate.lock);
}

static void gate_open(void)
{
    cm_mutex_lock(&gate.lock);
    gate.open = true;
    (void)pthread_cond_broadcast(&gate.changed);
    cm_mutex_unlock(&gate.lock);
}

static void gate_await(unsigned n)
{
    cm_mutex_lock(&gate.lock);
    while (gate.arrived < n)
        (void)cm_cond_wait_ns(&gate.changed, &gate.lock, CM_NS_PER_S);
    cm_mutex_unlock(&gate.lock);
}

static void gate_await_done(unsigned n)
{
    cm_mutex_lock(&gate.lock);
    while (gate.done < n)
        (void)cm_cond_wait_ns(&gate.changed, &gate.lock, CM_NS_PER_S);
    cm_mutex_unlock(&gate.lock);
}

static struct cm_pool *new_pool(unsigned threads, size_t queue_max)
{
    struct cm_pool *p = NULL;

    ck_assert_msg(cm_pool_new(threads, queue_max, &p, &err) == CM_OK, "%s", err.msg);
    return p;
}

START_TEST(pool_takes_threads_plus_queue_and_no_more)
{
    static const struct {
        unsigned threads;
        unsigned queue;
    } cases[] = { { 1, 0 }, { 1, 2 }, { 2, 0 }, { 3, 5 } };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_pool *p = new_pool(cases[i].threads, cases[i].queue);
        unsigned all = cases[i].threads + cases[i].queue;

        gate_reset();
        for (unsigned n = 0; n < all; n++)
            ck_assert_int_eq(cm_pool_submit(p, stand_at_gate, NULL, &err), CM_OK);
        ck_assert_int_eq(cm_pool_submit(p, stand_at_gate, NULL, &err), CM_E_BUSY);
        gate_await(cases[i].threads);
        ck_assert_int_eq(cm_pool_submit(p, stand_at_gate, NULL, &err), CM_E_BUSY);
        gate_open();
        cm_pool_stop(p);
        ck_assert_uint_eq(gate.done, all);
        ck_assert_uint_le(gate.most_at_once, cases[i].threads);
    }
}
END_TEST

/* A worker is still busy for a moment after its task told that it is done. */
static cm_status submit_soon(struct cm_pool *p)
{
    cm_status rc;

    do {
        rc = cm_pool_submit(p, stand_at_gate, NULL, &err);
    } while (rc == CM_E_BUSY);
    return rc;
}

START_TEST(pool_has_room_again_after_its_tasks_end)
{
    struct cm_pool *p = new_pool(2, 1);

    for (unsigned round = 0; round < 50; round++) {
        gate_reset();
        for (unsigned n = 0; n < 3; n++)
            ck_assert_int_eq(submit_soon(p), CM_OK);
        gate_open();
        gate_await_done(3);
    }
    cm_pool_stop(p);
}
END_TEST

struct resubmit {
    struct cm_pool *pool;
    cm_status rc;
};

static void submit_while_stopping(void *arg)
{
    struct resubmit *r = arg;

    stand_at_gate(NULL);
    do {
        r->rc = cm_pool_submit(r->pool, stand_at_gate, NULL, NULL);
    } while (r->rc == CM_E_BUSY);
}

static void *stop_pool(void *arg)
{
    cm_pool_stop(arg);
    return NULL;
}

START_TEST(stopping_pool_runs_what_is_queued_and_takes_nothing_new)
{
    struct resubmit r = { new_pool(1, 3), CM_OK };
    pthread_t stopper;

    gate_reset();
    ck_assert_int_eq(cm_pool_submit(r.pool, stand_at_gate, NULL, &err), CM_OK);
    gate_await(1);
    ck_assert_int_eq(cm_pool_submit(r.pool, stand_at_gate, NULL, &err), CM_OK);
    ck_assert_int_eq(cm_pool_submit(r.pool, submit_while_stopping, &r, &err), CM_OK);
    ck_assert_int_eq(cm_pool_submit(r.pool, stand_at_gate, NULL, &err), CM_OK);
    ck_assert_int_eq(pthread_create(&stopper, NULL, stop_pool, r.pool), 0);
    while (cm_pool_submit(r.pool, stand_at_gate, NULL, &err) == CM_E_BUSY)
        continue;
    ck_assert_int_eq(err.status, CM_E_STATE);
    gate_open();
    ck_assert_int_eq(pthread_join(stopper, NULL), 0);
    ck_assert_int_eq(r.rc, CM_E_STATE);
    ck_assert_uint_eq(gate.done, 4);
}
END_TEST

START_TEST(unused_and_missing_pools_can_be_stopped)
{
    cm_pool_stop(new_pool(4, 4));
    cm_pool_stop(NULL);
}
END_TEST

START_TEST(pool_of_no_threads_is_refused)
{
    struct cm_pool *p = NULL;

    ck_assert_int_eq(cm_pool_new(0, 1, &p, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_pool_new(1, SIZE_MAX, &p, &err), CM_E_INVAL);
    ck_assert_int_eq(cm_pool_new(2000, 1, &p, &err), CM_E_INVAL);
    ck_assert_ptr_null(p);
}
END_TEST

START_TEST(pool_survives_each_failed_allocation)
{
    for (unsigned n = 1; n <= 2; n++) {
        struct cm_pool *p = NULL;

        cm_alloc_fail_at(n);
        ck_assert_int_eq(cm_pool_new(2, 2, &p, &err), CM_E_NOMEM);
        cm_alloc_fail_at(0);
        ck_assert_ptr_null(p);
    }
}
END_TEST

static void note_mask(void *arg)
{
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, arg), 0);
}

START_TEST(workers_leave_signals_to_the_program)
{
    struct cm_pool *p = new_pool(1, 0);
    sigset_t mine;
    sigset_t workers;

    ck_assert_int_eq(cm_pool_submit(p, note_mask, &workers, &err), CM_OK);
    cm_pool_stop(p);
    ck_assert_int_eq(sigismember(&workers, SIGTERM), 1);
    ck_assert_int_eq(sigismember(&workers, SIGCHLD), 1);
    ck_assert_int_eq(sigismember(&workers, SIGSEGV), 0);
    note_mask(&mine);
    ck_assert_int_eq(sigismember(&mine, SIGTERM), 0);
}
END_TEST

START_TEST(condition_wait_ends_by_itself)
{
    pthread_mutex_t m;
    pthread_cond_t c;

    cm_mutex_init(&m);
    cm_cond_init(&c);
    cm_mutex_lock(&m);
    while (cm_cond_wait_ns(&c, &m, CM_NS_PER_MS))
        continue;
    ck_assert(!cm_cond_wait_ns(&c, &m, -5));
    cm_mutex_unlock(&m);
    ck_assert_int_eq(pthread_cond_destroy(&c), 0);
    ck_assert_int_eq(pthread_mutex_destroy(&m), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        pool_takes_threads_plus_queue_and_no_more,
        pool_has_room_again_after_its_tasks_end,
        stopping_pool_runs_what_is_queued_and_takes_nothing_new,
        unused_and_missing_pools_can_be_stopped,
        pool_of_no_threads_is_refused,
        pool_survives_each_failed_allocation,
        workers_leave_signals_to_the_program,
        condition_wait_ends_by_itself,
    };

    return run_tests("pool", tests, CM_ARRAY_LEN(tests));
}
