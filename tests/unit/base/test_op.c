/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

static struct cm_err err;

/* A clock that moves only by waiting. */
struct sim {
    struct cm_env env;
    int64_t now;
    int64_t waited;
    uint64_t seed;
    cm_status random_rc;
};

static int64_t sim_now(const struct cm_env *env)
{
    return ((const struct sim *)env->user)->now;
}

static cm_status sim_random(const struct cm_env *env, void *out, size_t len)
{
    struct sim *sim = env->user;
    uint8_t *p = out;

    for (size_t i = 0; i < len; i++) {
        sim->seed = sim->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        p[i] = (uint8_t)(sim->seed >> 56);
    }
    return sim->random_rc;
}

static cm_status sim_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    struct sim *sim = env->user;

    if (cm_cancel_is_fired(cancel))
        return CM_E_CANCELED;
    sim->now += ns;
    sim->waited += ns;
    return CM_OK;
}

static void sim_init(struct sim *sim, int64_t now)
{
    const struct cm_env env = {
        CM_ENV_ABI, sizeof env, sim_now, sim_now, sim_random, sim_wait, sim
    };

    memset(sim, 0, sizeof *sim);
    sim->env = env;
    sim->now = now;
}

static struct cm_cancel *new_token(struct cm_cancel *parent)
{
    struct cm_cancel *c = NULL;

    ck_assert_msg(cm_cancel_new(parent, &c, &err) == CM_OK, "%s", err.msg);
    return c;
}

static bool is_readable(const struct cm_cancel *c)
{
    struct pollfd pfd = { cm_cancel_fd(c), POLLIN, 0 };

    return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN) != 0;
}

START_TEST(null_token_never_fires)
{
    cm_cancel_fire(NULL);
    ck_assert(!cm_cancel_is_fired(NULL));
    ck_assert_int_eq(cm_cancel_fd(NULL), -1);
    cm_cancel_free(NULL);
}
END_TEST

START_TEST(fired_token_is_fired_and_readable_for_good)
{
    struct cm_cancel *c = new_token(NULL);

    ck_assert(!cm_cancel_is_fired(c));
    ck_assert(!is_readable(c));
    cm_cancel_fire(c);
    cm_cancel_fire(c);
    ck_assert(cm_cancel_is_fired(c));
    ck_assert(is_readable(c));
    ck_assert(is_readable(c));
    cm_cancel_free(c);
}
END_TEST

START_TEST(parent_fires_all_that_is_below_it)
{
    struct cm_cancel *top = new_token(NULL);
    struct cm_cancel *middle = new_token(top);
    struct cm_cancel *low = new_token(middle);
    struct cm_cancel *other = new_token(top);

    ck_assert(!is_readable(low));
    cm_cancel_fire(top);
    ck_assert(cm_cancel_is_fired(middle) && is_readable(middle));
    ck_assert(cm_cancel_is_fired(low) && is_readable(low));
    ck_assert(cm_cancel_is_fired(other) && is_readable(other));
    cm_cancel_free(top);
    cm_cancel_free(middle);
    cm_cancel_free(low);
    cm_cancel_free(other);
}
END_TEST

START_TEST(child_fires_neither_parent_nor_sibling)
{
    struct cm_cancel *parent = new_token(NULL);
    struct cm_cancel *child = new_token(parent);
    struct cm_cancel *sibling = new_token(parent);

    cm_cancel_fire(child);
    ck_assert(cm_cancel_is_fired(child) && is_readable(child));
    ck_assert(!cm_cancel_is_fired(parent) && !is_readable(parent));
    ck_assert(!cm_cancel_is_fired(sibling) && !is_readable(sibling));
    cm_cancel_free(sibling);
    cm_cancel_free(child);
    cm_cancel_free(parent);
}
END_TEST

START_TEST(child_of_a_fired_parent_is_born_fired)
{
    struct cm_cancel *parent = new_token(NULL);
    struct cm_cancel *child;

    cm_cancel_fire(parent);
    child = new_token(parent);
    ck_assert(cm_cancel_is_fired(child) && is_readable(child));
    cm_cancel_free(parent);
    ck_assert(cm_cancel_is_fired(child) && is_readable(child));
    cm_cancel_free(child);
}
END_TEST

START_TEST(joined_tokens_fire_with_either)
{
    for (int which = 0; which < 2; which++) {
        struct cm_cancel *root = new_token(NULL);
        struct cm_cancel *of[2] = { new_token(root), new_token(NULL) };
        struct cm_cancel *joined = NULL;
        struct cm_cancel *low;

        ck_assert(cm_cancel_join(of[0], of[1], &joined, NULL) == CM_OK);
        low = new_token(joined);
        cm_cancel_free(of[1 - which]); /* kept alive by what looks at it */
        ck_assert(!cm_cancel_is_fired(low) && !is_readable(low) && !is_readable(joined));
        cm_cancel_fire(which == 0 ? root : of[1]);
        ck_assert(cm_cancel_is_fired(joined) && is_readable(joined));
        ck_assert(cm_cancel_is_fired(low) && is_readable(low));
        cm_cancel_free(joined);
        cm_cancel_free(of[which]);
        cm_cancel_free(low);
        cm_cancel_free(root);
    }
}
END_TEST

START_TEST(tokens_with_a_common_parent_are_joined)
{
    struct cm_cancel *root = new_token(NULL);
    struct cm_cancel *a = new_token(root);
    struct cm_cancel *joined = NULL;

    ck_assert(cm_cancel_join(root, a, &joined, NULL) == CM_OK);
    cm_cancel_fire(a);
    ck_assert(cm_cancel_is_fired(joined) && is_readable(joined));
    ck_assert(!cm_cancel_is_fired(root));
    cm_cancel_free(a);
    cm_cancel_free(joined);
    cm_cancel_free(root);
    ck_assert_ptr_null(cm_cancel_ref(NULL));
}
END_TEST

START_TEST(chain_of_a_hundred_tokens_fires_from_the_top)
{
    struct cm_cancel *chain[100];

    for (size_t i = 0; i < CM_ARRAY_LEN(chain); i++)
        chain[i] = new_token(i > 0 ? chain[i - 1] : NULL);
    ck_assert(!is_readable(chain[99]));
    cm_cancel_fire(chain[0]);
    ck_assert(cm_cancel_is_fired(chain[99]) && is_readable(chain[99]));
    for (size_t i = 0; i < CM_ARRAY_LEN(chain); i++)
        cm_cancel_free(chain[i]);
}
END_TEST

static struct cm_cancel *signal_token;

static void on_signal(int sig)
{
    (void)sig;
    cm_cancel_fire(signal_token);
}

START_TEST(token_may_be_fired_from_a_signal_handler)
{
    struct sigaction sa;
    struct cm_cancel *child;

    signal_token = new_token(NULL);
    child = new_token(signal_token);
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert(cm_cancel_is_fired(child) && is_readable(child));
    cm_cancel_free(child);
    cm_cancel_free(signal_token);
}
END_TEST

static void *fire_soon(void *arg)
{
    const struct cm_env *env = cm_env_system();

    (void)env->wait(env, NULL, 20 * CM_NS_PER_MS);
    cm_cancel_fire(arg);
    return NULL;
}

START_TEST(waiting_ends_as_soon_as_the_parent_token_fires)
{
    struct cm_cancel *parent = new_token(NULL);
    struct cm_cancel *child = new_token(parent);
    struct cm_op op = { NULL, 0, child };
    const struct cm_env *env = cm_env_system();
    int64_t start = env->mono_ns(env);
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, fire_soon, parent), 0);
    ck_assert_int_eq(cm_op_wait(&op, 60 * CM_NS_PER_S, &err), CM_E_CANCELED);
    ck_assert_int_lt(env->mono_ns(env) - start, 30 * CM_NS_PER_S);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    cm_cancel_free(child);
    cm_cancel_free(parent);
}
END_TEST

START_TEST(real_environment_waits_at_least_the_asked_time)
{
    const struct cm_env *env = cm_env_system();
    int64_t start = env->mono_ns(env);

    ck_assert_int_eq(env->wait(env, NULL, 5 * CM_NS_PER_MS), CM_OK);
    ck_assert_int_ge(env->mono_ns(env) - start, 5 * CM_NS_PER_MS);
    ck_assert_int_eq(env->wait(env, NULL, 0), CM_OK);
    ck_assert_int_eq(env->wait(env, NULL, -1), CM_OK);
    ck_assert_int_gt(cm_env_wall_s(NULL), 1600000000);
}
END_TEST

START_TEST(failed_allocation_of_a_token_is_told)
{
    struct cm_cancel *c = NULL;

    cm_alloc_fail_at(1);
    ck_assert_int_eq(cm_cancel_new(NULL, &c, &err), CM_E_NOMEM);
    cm_alloc_fail_at(0);
    ck_assert_ptr_null(c);
}
END_TEST

START_TEST(no_operation_means_no_limits)
{
    ck_assert_ptr_eq(cm_op_env(NULL), cm_env_system());
    ck_assert_int_eq(cm_op_check(NULL, &err), CM_OK);
    ck_assert_int_eq(cm_op_remaining_ns(NULL, 77), 77);
    ck_assert_int_eq(cm_op_wait(NULL, 1, &err), CM_OK);
}
END_TEST

START_TEST(operation_ends_at_its_deadline)
{
    struct sim sim;
    struct cm_op op;

    sim_init(&sim, 100);
    op = (struct cm_op){ &sim.env, 150, NULL };
    ck_assert_int_eq(cm_op_check(&op, &err), CM_OK);
    ck_assert_int_eq(cm_op_remaining_ns(&op, 1000), 50);
    ck_assert_int_eq(cm_op_remaining_ns(&op, 10), 10);
    sim.now = 150;
    ck_assert_int_eq(cm_op_check(&op, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(cm_op_remaining_ns(&op, 1000), 0);
    sim.now = INT64_MAX;
    op.deadline_ns = INT64_MIN;
    ck_assert_int_eq(cm_op_check(&op, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(cm_op_remaining_ns(&op, 1000), 0);
}
END_TEST

START_TEST(canceled_comes_before_timed_out)
{
    struct sim sim;
    struct cm_op op;

    sim_init(&sim, 100);
    op = (struct cm_op){ &sim.env, 50, new_token(NULL) };
    ck_assert_int_eq(cm_op_check(&op, &err), CM_E_TIMEOUT);
    cm_cancel_fire(op.cancel);
    ck_assert_int_eq(cm_op_check(&op, &err), CM_E_CANCELED);
    op.deadline_ns = 0;
    ck_assert_int_eq(cm_op_remaining_ns(&op, 10), 0);
    ck_assert_int_eq(cm_op_wait(&op, 10, &err), CM_E_CANCELED);
    ck_assert_int_eq(sim.waited, 0);
    cm_cancel_free(op.cancel);
}
END_TEST

START_TEST(within_never_extends_the_parents_deadline)
{
    struct sim sim;
    struct cm_op parent;
    struct cm_op op;

    sim_init(&sim, 1000);
    parent = (struct cm_op){ &sim.env, 1500, NULL };
    op = cm_op_within(&parent, 100);
    ck_assert_int_eq(op.deadline_ns, 1100);
    ck_assert_ptr_eq(op.env, &sim.env);
    op = cm_op_within(&parent, 10000);
    ck_assert_int_eq(op.deadline_ns, 1500);
    op = cm_op_within(&parent, INT64_MAX);
    ck_assert_int_eq(op.deadline_ns, 1500);
    parent.deadline_ns = 0;
    op = cm_op_within(&parent, INT64_MAX);
    ck_assert_int_eq(op.deadline_ns, INT64_MAX);
    op = cm_op_within(NULL, 60 * CM_NS_PER_S);
    ck_assert_int_gt(op.deadline_ns, 0);
}
END_TEST

START_TEST(within_of_nothing_is_over_even_at_time_zero)
{
    struct sim sim;
    struct cm_op parent;
    struct cm_op op;

    sim_init(&sim, 0);
    parent = (struct cm_op){ &sim.env, 0, NULL };
    op = cm_op_within(&parent, 0);
    ck_assert_int_eq(cm_op_check(&op, &err), CM_E_TIMEOUT);
}
END_TEST

START_TEST(wait_stops_at_the_deadline_and_says_so)
{
    struct sim sim;
    struct cm_op op;

    sim_init(&sim, 1000);
    op = (struct cm_op){ &sim.env, 1100, NULL };
    ck_assert_int_eq(cm_op_wait(&op, 40, &err), CM_OK);
    ck_assert_int_eq(cm_op_wait(&op, 60, &err), CM_OK);
    ck_assert_int_eq(sim.waited, 100);
    op.deadline_ns = 1150;
    ck_assert_int_eq(cm_op_wait(&op, 51, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(sim.waited, 150);
    ck_assert_int_eq(cm_op_wait(&op, 0, &err), CM_E_TIMEOUT);
}
END_TEST

START_TEST(wall_seconds_round_down_before_1970_too)
{
    struct sim sim;

    sim_init(&sim, -1);
    ck_assert_int_eq(cm_env_wall_s(&sim.env), -1);
    sim.now = -CM_NS_PER_S;
    ck_assert_int_eq(cm_env_wall_s(&sim.env), -1);
    sim.now = CM_NS_PER_S - 1;
    ck_assert_int_eq(cm_env_wall_s(&sim.env), 0);
}
END_TEST

START_TEST(random_below_stays_below_and_reaches_all)
{
    struct sim sim;
    unsigned seen[10] = { 0 };

    sim_init(&sim, 5);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t r = cm_random_below(&sim.env, 10);

        ck_assert_uint_lt(r, 10);
        seen[r]++;
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(seen); i++)
        ck_assert_uint_gt(seen[i], 800);
    ck_assert_uint_eq(cm_random_below(&sim.env, 1), 0);
    ck_assert_uint_lt(cm_random_below(NULL, UINT64_MAX), UINT64_MAX);
    sim.random_rc = CM_E_IO;
    ck_assert_uint_lt(cm_random_below(&sim.env, 10), 10);
}
END_TEST

/* Randomness that is all zero once, then all ones. */
static cm_status zero_then_ones(const struct cm_env *env, void *out, size_t len)
{
    struct sim *sim = env->user;

    memset(out, sim->seed++ == 0 ? 0 : 0xff, len);
    return CM_OK;
}

START_TEST(random_below_draws_again_where_some_numbers_would_be_likelier)
{
    struct sim sim;
    uint64_t n = (UINT64_C(1) << 63) + 1;

    sim_init(&sim, 5);
    sim.env.random = zero_then_ones;
    ck_assert_uint_eq(cm_random_below(&sim.env, n), UINT64_MAX % n);
    ck_assert_uint_eq(sim.seed, 2);
}
END_TEST

START_TEST(failing_randomness_is_an_error_not_weak_bytes)
{
    struct sim sim;
    char hex[65];
    uint8_t out[8];

    sim_init(&sim, 5);
    sim.random_rc = CM_E_IO;
    ck_assert_int_eq(cm_env_random(&sim.env, out, sizeof out, &err), CM_E_IO);
    ck_assert_int_eq(cm_random_hex(&sim.env, 32, hex, &err), CM_E_IO);
    ck_assert_str_eq(hex, "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        null_token_never_fires,
        fired_token_is_fired_and_readable_for_good,
        parent_fires_all_that_is_below_it,
        child_fires_neither_parent_nor_sibling,
        child_of_a_fired_parent_is_born_fired,
        joined_tokens_fire_with_either,
        tokens_with_a_common_parent_are_joined,
        chain_of_a_hundred_tokens_fires_from_the_top,
        token_may_be_fired_from_a_signal_handler,
        waiting_ends_as_soon_as_the_parent_token_fires,
        real_environment_waits_at_least_the_asked_time,
        failed_allocation_of_a_token_is_told,
        no_operation_means_no_limits,
        operation_ends_at_its_deadline,
        canceled_comes_before_timed_out,
        within_never_extends_the_parents_deadline,
        within_of_nothing_is_over_even_at_time_zero,
        wait_stops_at_the_deadline_and_says_so,
        wall_seconds_round_down_before_1970_too,
        random_below_stays_below_and_reaches_all,
        random_below_draws_again_where_some_numbers_would_be_likelier,
        failing_randomness_is_an_error_not_weak_bytes,
    };

    return run_tests("op", tests, CM_ARRAY_LEN(tests));
}
