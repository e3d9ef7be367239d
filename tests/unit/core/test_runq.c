/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

static struct cm_err err;

struct job {
    struct cm_run run;
    char name;
};

static struct {
    pthread_mutex_t lock;
    char order[32];
    size_t n;
    _Atomic unsigned running;
    atomic_bool go;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void note(struct cm_run *self)
{
    cm_mutex_lock(&seen.lock);
    seen.order[seen.n++] = CM_CONTAINER_OF(self, struct job, run)->name;
    seen.order[seen.n] = '\0';
    cm_mutex_unlock(&seen.lock);
}

static void block(struct cm_run *self)
{
    (void)atomic_fetch_add(&seen.running, 1);
    kit_until(atomic_load(&seen.go));
    note(self);
}

/* A queue whose only worker is busy with 'x'. */
static struct cm_runq *blocked_queue(struct job *x)
{
    struct cm_runq *q = NULL;

    seen.n = 0;
    atomic_store(&seen.running, 0);
    atomic_store(&seen.go, false);
    *x = (struct job){ .run.run = block, .name = 'x' };
    ck_ok(cm_runq_new(1, &q, &err));
    ck_ok(cm_runq_push(q, &x->run, &err));
    kit_until(atomic_load(&seen.running) == 1);
    return q;
}

static void name_jobs(struct job *jobs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        jobs[i] = (struct job){ .run.run = note, .name = (char)('a' + i) };
}

START_TEST(what_somebody_waits_for_comes_first)
{
    struct job x;
    struct job j[6];
    struct cm_runq *q = blocked_queue(&x);

    name_jobs(j, 6);
    for (size_t i = 0; i < 4; i++)
        ck_ok(cm_runq_push(q, &j[i].run, &err));
    cm_runq_hurry(q, &j[2].run); /* from the middle */
    cm_runq_hurry(q, &j[3].run); /* from the end */
    cm_runq_hurry(q, &j[3].run); /* is the first already */
    cm_runq_hurry(q, &x.run);    /* is running */
    cm_runq_hurry(q, &j[5].run); /* was never in */
    ck_ok(cm_runq_push_first(q, &j[4].run, &err));
    ck_ok(cm_runq_push(q, &j[5].run, &err));
    atomic_store(&seen.go, true);
    cm_runq_stop(q);
    ck_assert_str_eq(seen.order, "xedcabf");
    ck_assert_int_eq(cm_runq_push(q, &x.run, &err), CM_E_CANCELED);
    cm_runq_free(q);
}
END_TEST

START_TEST(a_list_is_taken_whole_or_left)
{
    struct job x;
    struct job j[5];
    struct cm_runq *q = blocked_queue(&x);
    struct cm_run *chain = &j[0].run;

    name_jobs(j, 5);
    for (size_t i = 0; i < 3; i++)
        j[i].run.next = &j[i + 1].run;
    ck_ok(cm_runq_push_all(q, &chain, &err));
    ck_assert_ptr_null(chain);
    ck_ok(cm_runq_push_all(q, &chain, &err)); /* nothing is fine, too */
    ck_ok(cm_runq_push(q, &j[4].run, &err));
    atomic_store(&seen.go, true);
    cm_runq_stop(q);
    ck_assert_str_eq(seen.order, "xabcde");
    chain = &j[0].run;
    ck_assert_int_eq(cm_runq_push_all(q, &chain, &err), CM_E_CANCELED);
    ck_assert_ptr_eq(chain, &j[0].run);
    cm_runq_free(q);
}
END_TEST

static bool is_small(const struct cm_run *r, const void *user)
{
    return CM_CONTAINER_OF(r, struct job, run)->name < *(const char *)user;
}

START_TEST(many_are_taken_from_the_front_as_long_as_they_are_wanted)
{
    struct cm_run *taken[8];
    struct cm_runq *q = NULL;
    struct job j[6];
    struct job x;
    char end = 'e';

    q = blocked_queue(&x);
    name_jobs(j, 6);
    for (size_t i = 0; i < 6; i++)
        ck_ok(cm_runq_push(q, &j[i].run, &err));
    ck_assert(!j[3].run.hurried);
    cm_runq_hurry(q, &j[3].run);
    ck_assert(j[3].run.hurried);
    ck_assert_uint_eq(cm_runq_take(q, is_small, &end, 1, 2, taken), 2); /* d, a */
    ck_assert_ptr_eq(taken[0], &j[3].run);
    ck_assert_ptr_eq(taken[1], &j[0].run);
    ck_assert_uint_eq(cm_runq_length(q), 4);
    ck_assert_uint_eq(cm_runq_take(q, is_small, &end, 8, 8, taken), 2); /* b, c, but not e */
    ck_assert_ptr_eq(taken[1], &j[2].run);
    ck_assert_uint_eq(cm_runq_take(q, is_small, &end, 8, 8, taken), 0);
    atomic_store(&seen.go, true);
    cm_runq_stop(q);
    ck_assert_str_eq(seen.order, "xef");
    cm_runq_free(q);
}
END_TEST

START_TEST(some_of_many_are_left_for_other_workers)
{
    struct job blocked[4];
    struct cm_run *taken[40];
    struct cm_runq *q = NULL;
    struct job j[20];
    char end = 'z';

    atomic_store(&seen.running, 0);
    atomic_store(&seen.go, false);
    seen.n = 0;
    ck_ok(cm_runq_new(4, &q, &err));
    for (size_t i = 0; i < 4; i++) {
        blocked[i] = (struct job){ .run.run = block, .name = 'x' };
        ck_ok(cm_runq_push(q, &blocked[i].run, &err));
    }
    kit_until(atomic_load(&seen.running) == 4);
    name_jobs(j, 20);
    for (size_t i = 0; i < 20; i++)
        ck_ok(cm_runq_push(q, &j[i].run, &err));
    ck_assert_uint_eq(cm_runq_take(q, is_small, &end, 2, 40, taken), 5);
    ck_assert_uint_eq(cm_runq_take(q, is_small, &end, 2, 40, taken), 3);
    ck_assert_uint_eq(cm_runq_take(q, is_small, &end, 4, 40, taken), 4); /* as many as it must */
    atomic_store(&seen.go, true);
    cm_runq_stop(q);
    cm_runq_free(q);
}
END_TEST

START_TEST(a_list_gets_all_workers)
{
    struct job jobs[4];
    struct cm_runq *q = NULL;
    struct cm_run *chain = NULL;

    seen.n = 0;
    atomic_store(&seen.running, 0);
    atomic_store(&seen.go, false);
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = (struct job){ .run = { .next = chain, .run = block }, .name = 'w' };
        chain = &jobs[i].run;
    }
    ck_ok(cm_runq_new(4, &q, &err));
    ck_ok(cm_runq_push_all(q, &chain, &err));
    kit_until(atomic_load(&seen.running) == 4); /* before one of them ends */
    atomic_store(&seen.go, true);
    cm_runq_stop(q);
    ck_assert_uint_eq(seen.n, 4);
    cm_runq_free(q);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_somebody_waits_for_comes_first,
        a_list_is_taken_whole_or_left,
        many_are_taken_from_the_front_as_long_as_they_are_wanted,
        some_of_many_are_left_for_other_workers,
        a_list_gets_all_workers,
    };

    return kit_run("runq", tests, CM_ARRAY_LEN(tests));
}
