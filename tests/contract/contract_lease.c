/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TTL contract_ttl_ns()

static cm_status acquire(const char *name, bool try_only, struct cm_lease **ret)
{
    struct cm_lease_options opts = CM_LEASE_OPTIONS_INIT;

    opts.ttl_ns = TTL;
    opts.try_only = try_only;
    return cm_lease_acquire(fake_st, &fake_op, name, &opts, ret, &err);
}

/* Real time for the threads behind leases; the fake clock stands still. */
static void let_threads_run(void)
{
    const struct cm_env *env = cm_env_system();

    (void)env->wait(env, NULL, 25 * CM_NS_PER_MS);
}

START_TEST(a_lease_is_held_until_released)
{
    struct cm_lease *lease = NULL;
    struct cm_lease *other = NULL;

    must(acquire("held", true, &lease));
    must(cm_lease_check(lease, &err));
    ck_assert(cm_lease_fence(lease) > 0);
    ck_assert(!cm_cancel_is_fired(cm_lease_cancel(lease)));
    must_fail(acquire("held", true, &other), CM_E_BUSY);
    ck_assert_ptr_null(other);
    cm_lease_release(lease);
    must(acquire("held", true, &other));
    cm_lease_release(other);
    cm_lease_release(NULL);
}
END_TEST

START_TEST(heartbeats_keep_a_lease_alive)
{
    struct cm_lease *lease = NULL;
    struct cm_grant other;

    must(acquire("beat", true, &lease));
    for (int i = 0; i < 24; i++) {
        cm_status rc;

        contract_pass(TTL / 8);
        let_threads_run();
        rc = cm_storage_try_lock(fake_st, &fake_op, "beat", TTL, &other, NULL, &err);
        ck_assert_int_eq(rc, CM_E_BUSY);
        must(cm_lease_check(lease, &err));
    }
    cm_lease_release(lease);
}
END_TEST

START_TEST(waiting_for_a_lease_ends_with_the_operation)
{
    struct cm_lease *lease = NULL;
    struct cm_lease *other = NULL;
    struct cm_op op = { NULL, 0, NULL };
    struct cm_cancel *cancel = NULL;

    must(cm_lease_acquire(st, NULL, "w", NULL, &lease, &err)); /* on the clock of who waits */
    op = cm_op_within(&op, 100 * CM_NS_PER_MS);
    must_fail(cm_lease_acquire(st, &op, "w", NULL, &other, &err), CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, "w'") != NULL, "%s", err.msg); /* a prefix may stand before */
    must(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    op = (struct cm_op){ NULL, 0, cancel };
    must_fail(cm_lease_acquire(st, &op, "w", NULL, &other, &err), CM_E_CANCELED);
    cm_cancel_free(cancel);
    cm_lease_release(lease);
}
END_TEST

static void *release_soon(void *lease)
{
    let_threads_run();
    cm_lease_release(lease);
    return NULL;
}

START_TEST(a_waiter_gets_the_lease_when_it_is_released)
{
    struct cm_lease *lease = NULL;
    struct cm_lease *other = NULL;
    struct cm_op op = { NULL, 0, NULL };
    pthread_t thread;

    must(cm_lease_acquire(st, NULL, "next", NULL, &lease, &err));
    ck_assert_int_eq(pthread_create(&thread, NULL, release_soon, lease), 0);
    op = cm_op_within(&op, 20 * CM_NS_PER_S);
    must(cm_lease_acquire(st, &op, "next", NULL, &other, &err));
    (void)pthread_join(thread, NULL);
    cm_lease_release(other);
}
END_TEST

/* The clock jumps past the lease in one step, as it does for a process that was stopped. */
START_TEST(a_lease_that_ran_out_is_lost_for_good_and_says_so)
{
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("late") };
    struct cm_lease *lease = NULL;
    struct cm_grant thief;
    struct pollfd fired;

    must(acquire("lost", true, &lease));
    must_fail(cm_storage_try_lock(fake_st, &fake_op, "lost", TTL, &thief, NULL, &err), CM_E_BUSY);
    contract_pass(2 * TTL);
    must(cm_storage_try_lock(fake_st, &fake_op, "lost", TTL, &thief, NULL, &err));
    must_fail(cm_lease_check(lease, &err), CM_E_LOCK_LOST);
    fired = (struct pollfd){ cm_cancel_fd(cm_lease_cancel(lease)), POLLIN, 0 };
    ck_assert_int_eq(poll(&fired, 1, 5000), 1);
    must_fail(cm_lease_commit(lease, &fake_op, &item, 1, &err), CM_E_LOCK_LOST);
    expect("k", NULL);
    cm_lease_release(lease);
    must(cm_storage_refresh(fake_st, &fake_op, &thief, &err));
    must(cm_storage_unlock(fake_st, &fake_op, &thief, &err));
}
END_TEST

/* Nobody asks: the token alone has to tell. */
START_TEST(loss_is_reported_without_being_asked_for)
{
    struct cm_lease *lease = NULL;
    struct pollfd fired;

    must(acquire("told", true, &lease));
    contract_pass(2 * TTL);
    fired = (struct pollfd){ cm_cancel_fd(cm_lease_cancel(lease)), POLLIN, 0 };
    ck_assert_int_eq(poll(&fired, 1, 5000), 1);
    must_fail(cm_lease_check(lease, &err), CM_E_LOCK_LOST);
    cm_lease_release(lease);
}
END_TEST

START_TEST(canceling_the_operation_does_not_lose_the_lease)
{
    struct cm_cancel *cancel = NULL;
    struct cm_lease *lease = NULL;
    struct cm_lease *other = NULL;
    struct cm_op op = fake_op;

    must(cm_cancel_new(NULL, &cancel, &err));
    op.cancel = cancel;
    must(cm_lease_acquire(fake_st, &op, "c", NULL, &lease, &err));
    cm_cancel_fire(cancel);
    ck_assert(cm_cancel_is_fired(cm_lease_cancel(lease)));
    must(cm_lease_check(lease, &err));
    must_fail(acquire("c", true, &other), CM_E_BUSY);
    cm_lease_release(lease);
    must(acquire("c", true, &other));
    cm_lease_release(other);
    cm_cancel_free(cancel);
}
END_TEST

/* On the real clock, which parent, child and threads have in common. */
static cm_status acquire_really(const char *name, struct cm_lease **ret)
{
    struct cm_lease_options opts = CM_LEASE_OPTIONS_INIT;

    opts.try_only = true;
    return cm_lease_acquire(st, NULL, name, &opts, ret, &err);
}

static int in_child(struct cm_lease *lease)
{
    struct cm_commit_item item = { .key = "child", .value = cm_span_str("x") };
    struct cm_lease *own = NULL;

    if (cm_lease_check(lease, &err) != CM_E_LOCK_LOST)
        return 1;
    if (cm_lease_commit(lease, NULL, &item, 1, &err) != CM_E_LOCK_LOST)
        return 2;
    cm_lease_release(lease);
    if (CONTRACT_SANITIZED)
        return 0;
    if (contract_backend.child_opens)
        st = contract_open(NULL);
    if (acquire_really("child's own", &own) != CM_OK || cm_lease_check(own, &err) != CM_OK)
        return 3;
    cm_lease_release(own);
    /* Waiting, which a thread of the parent does, too. */
    struct cm_op op = { NULL, 0, NULL };
    op = cm_op_within(&op, 50 * CM_NS_PER_MS);
    if (cm_lease_acquire(st, &op, "forked", NULL, &own, &err) != CM_E_TIMEOUT)
        return 4;
    return 0;
}

static void *wait_in_vain(void *arg)
{
    struct cm_lease *lease = NULL;
    struct cm_op op = { NULL, 0, arg };
    struct cm_err e = CM_ERR_INIT;

    ck_assert_int_eq(cm_lease_acquire(st, &op, "forked", NULL, &lease, &e), CM_E_CANCELED);
    return NULL;
}

START_TEST(a_forked_child_has_no_lease)
{
    struct cm_lease *lease = NULL;
    struct cm_lease *other = NULL;
    struct cm_cancel *cancel = NULL;
    pthread_t waiter;
    int status = 0;
    pid_t pid;

    must(acquire_really("forked", &lease));
    must(cm_cancel_new(NULL, &cancel, &err));
    ck_assert_int_eq(pthread_create(&waiter, NULL, wait_in_vain, cancel), 0);
    let_threads_run();
    pid = fork();
    if (pid == 0)
        _exit(in_child(lease));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: status %d", status);
    cm_cancel_fire(cancel);
    (void)pthread_join(waiter, NULL);
    cm_cancel_free(cancel);
    must(cm_lease_check(lease, &err));
    must_fail(acquire_really("forked", &other), CM_E_BUSY);
    let_threads_run();
    must(cm_lease_check(lease, &err));
    cm_lease_release(lease);
    must(acquire_really("forked", &other));
    cm_lease_release(other);
}
END_TEST

static void *many_leases(void *arg)
{
    _Atomic unsigned *failed = arg;

    for (int i = 0; i < 30; i++) {
        char name[] = "many-0";
        struct cm_lease *lease = NULL;
        struct cm_err e = CM_ERR_INIT;

        name[5] = (char)('0' + i % 10);
        if (cm_lease_acquire(st, NULL, name, NULL, &lease, &e) != CM_OK ||
            cm_lease_check(lease, &e) != CM_OK)
            (*failed)++;
        cm_lease_release(lease);
    }
    return NULL;
}

START_TEST(leases_come_and_go_in_many_threads)
{
    _Atomic unsigned failed = 0;
    pthread_t threads[6];

    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, many_leases, &failed), 0);
    for (int i = 0; i < 6; i++)
        (void)pthread_join(threads[i], NULL);
    ck_assert_uint_eq(failed, 0);
}
END_TEST

TCase *contract_lease_cases(void)
{
    TCase *c = tcase_create("lease");

    tcase_add_test(c, a_lease_is_held_until_released);
    tcase_add_test(c, heartbeats_keep_a_lease_alive);
    tcase_add_test(c, waiting_for_a_lease_ends_with_the_operation);
    tcase_add_test(c, a_waiter_gets_the_lease_when_it_is_released);
    tcase_add_test(c, a_lease_that_ran_out_is_lost_for_good_and_says_so);
    tcase_add_test(c, loss_is_reported_without_being_asked_for);
    tcase_add_test(c, canceling_the_operation_does_not_lose_the_lease);
    tcase_add_test(c, a_forked_child_has_no_lease);
    tcase_add_test(c, leases_come_and_go_in_many_threads);
    return c;
}
