/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <certmesh/cm_lease.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Leases on a storage that fails, forgets and hangs. The rest is in the contract tests. */

struct moody {
    struct cm_storage base;
    _Atomic unsigned refreshes;
    _Atomic unsigned unlocks;
    _Atomic unsigned drops;
    _Atomic int answer; /* of refresh */
    _Atomic bool hang;  /* refresh does not come back while this is set */
    _Atomic bool in_refresh;
    _Atomic bool unlocked_in_refresh;
    _Atomic char busy_with; /* first letter of the lock in refresh */
};

static struct moody *moody_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct moody, base);
}

static cm_status moody_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                struct cm_err *e)
{
    (void)st;
    (void)op;
    (void)name;
    (void)ret_wait_ns;
    (void)e;
    ret->fence = 1;
    ret->ttl_ns = ttl_ns;
    return CM_OK;
}

static cm_status moody_refresh(struct cm_storage *st, const struct cm_op *op,
                               struct cm_grant *grant, struct cm_err *e)
{
    struct moody *m = moody_of(st);

    m->busy_with = grant->name[0];
    m->in_refresh = true;
    m->refreshes++;
    ck_assert_int_ne(op->deadline_ns, 0);
    while (m->hang)
        real_pause(CM_NS_PER_MS);
    m->in_refresh = false;
    return m->answer == CM_OK ? CM_OK : cm_fail(e, (cm_status)m->answer, "moody");
}

static cm_status moody_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                              struct cm_err *e)
{
    struct moody *m = moody_of(st);

    (void)e;
    ck_assert_int_ne(op->deadline_ns, 0);
    if (m->in_refresh && m->busy_with == grant->name[0])
        m->unlocked_in_refresh = true;
    m->unlocks++;
    return CM_OK;
}

static void moody_drop(struct cm_storage *st, struct cm_grant *grant)
{
    (void)grant;
    moody_of(st)->drops++;
}

static const struct cm_storage_ops moody_ops = { .abi = CM_SPI_ABI,
                                                 .size = sizeof moody_ops,
                                                 .name = "moody",
                                                 .try_lock = moody_try_lock,
                                                 .refresh = moody_refresh,
                                                 .unlock = moody_unlock,
                                                 .drop = moody_drop };

static struct cm_lease *take_named(struct moody *m, const char *name, int64_t ttl_ns,
                                   const struct cm_log *log)
{
    struct cm_lease_options opts = CM_LEASE_OPTIONS_INIT;
    struct cm_lease *lease = NULL;

    m->base.ops = &moody_ops;
    opts.ttl_ns = ttl_ns;
    if (log != NULL)
        opts.log = *log;
    must(cm_lease_acquire(&m->base, NULL, name, &opts, &lease, &err));
    return lease;
}

static struct cm_lease *take(struct moody *m, int64_t ttl_ns, const struct cm_log *log)
{
    return take_named(m, "n", ttl_ns, log);
}

static void wait_for(_Atomic unsigned *what, unsigned least)
{
    for (int i = 0; i < 5000 && *what < least; i++)
        real_pause(CM_NS_PER_MS);
    ck_assert_uint_ge(*what, least);
}

static bool fires_within(struct cm_lease *lease, int ms)
{
    struct pollfd fired = { cm_cancel_fd(cm_lease_cancel(lease)), POLLIN, 0 };

    return poll(&fired, 1, ms) == 1;
}

START_TEST(a_refresh_that_fails_for_a_moment_is_tried_again)
{
    struct moody m = { .answer = CM_E_IO };
    struct cm_lease *lease = take(&m, CM_NS_PER_S, NULL);

    wait_for(&m.refreshes, 2);
    m.answer = CM_OK;
    ck_assert(!fires_within(lease, 1500));
    must(cm_lease_check(lease, &err));
    cm_lease_release(lease);
    ck_assert_uint_eq(m.unlocks, 1);
}
END_TEST

START_TEST(a_refresh_that_fails_for_good_loses_the_lease)
{
    struct moody m = { .answer = CM_E_NET };
    struct cm_lease *lease = take(&m, 200 * CM_NS_PER_MS, NULL);
    unsigned then;

    ck_assert(fires_within(lease, 5000));
    must_fail(cm_lease_check(lease, &err), CM_E_LOCK_LOST);
    m.answer = CM_OK; /* too late */
    real_pause(50 * CM_NS_PER_MS);
    then = m.refreshes;
    real_pause(150 * CM_NS_PER_MS);
    ck_assert_uint_eq(m.refreshes, then);
    must_fail(cm_lease_check(lease, &err), CM_E_LOCK_LOST);
    cm_lease_release(lease);
    ck_assert_uint_eq(m.unlocks, 1);
}
END_TEST

START_TEST(lost_is_reported_at_the_first_heartbeat_that_says_so)
{
    struct moody m = { .answer = CM_E_LOCK_LOST };
    struct cm_lease *lease = take(&m, 2 * CM_NS_PER_S, NULL);

    ck_assert(fires_within(lease, 1200)); /* a quarter of the lease, and much air */
    ck_assert_uint_eq(m.refreshes, 1);
    must_fail(cm_lease_check(lease, &err), CM_E_LOCK_LOST);
    cm_lease_release(lease);
}
END_TEST

START_TEST(storage_that_hangs_loses_its_lease_but_not_that_of_others)
{
    struct moody dead = { .hang = true };
    struct moody well = { .hang = false };
    struct cm_lease *hanging = take(&dead, 400 * CM_NS_PER_MS, NULL);
    struct cm_lease *other = take(&well, 400 * CM_NS_PER_MS, NULL);

    ck_assert(fires_within(hanging, 5000));
    must_fail(cm_lease_check(hanging, &err), CM_E_LOCK_LOST);
    ck_assert(dead.in_refresh);
    wait_for(&well.refreshes, 10);
    must(cm_lease_check(other, &err));
    cm_lease_release(other);
    dead.hang = false;
    cm_lease_release(hanging);
    ck_assert(!dead.unlocked_in_refresh);
}
END_TEST

static void *let_go(void *arg)
{
    struct moody *m = arg;

    real_pause(30 * CM_NS_PER_MS);
    m->hang = false;
    return NULL;
}

START_TEST(release_waits_for_a_refresh_under_way)
{
    struct moody m = { .hang = true };
    struct cm_lease *a = take_named(&m, "a", CM_NS_PER_S, NULL);
    struct cm_lease *b = take_named(&m, "b", CM_NS_PER_S, NULL);
    pthread_t thread;
    bool first;

    wait_for(&m.refreshes, 1);
    first = m.busy_with == 'a';
    ck_assert_int_eq(pthread_create(&thread, NULL, let_go, &m), 0);
    cm_lease_release(first ? a : b);
    ck_assert(!m.unlocked_in_refresh);
    ck_assert_uint_eq(m.unlocks, 1);
    cm_lease_release(first ? b : a);
    (void)pthread_join(thread, NULL);
}
END_TEST

static unsigned count_threads(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    unsigned threads = 0;
    char text[256];

    ck_assert_ptr_nonnull(f);
    while (fgets(text, sizeof text, f) != NULL)
        if (sscanf(text, "Threads: %u", &threads) == 1)
            break;
    (void)fclose(f);
    return threads;
}

/* The kernel takes a moment to forget a thread that was joined. */
static void threads_come_down_to(unsigned most)
{
    for (int k = 0; k < 1000 && count_threads() > most; k++)
        real_pause(CM_NS_PER_MS);
    ck_assert_uint_le(count_threads(), most);
}

START_TEST(no_thread_stays_when_the_last_lease_goes)
{
    struct moody m = { .hang = false };
    struct moody n = { .hang = false };
    unsigned before = 0;

    for (int i = 0; i < 20; i++) {
        struct cm_lease *a = take(&m, CM_NS_PER_S, NULL);
        struct cm_lease *b = take(&n, CM_NS_PER_S, NULL);

        ck_assert_uint_ge(count_threads(), before + 3);
        cm_lease_release(i % 2 == 0 ? a : b);
        cm_lease_release(i % 2 == 0 ? b : a);
        if (before == 0) {
            real_pause(50 * CM_NS_PER_MS);
            before = count_threads(); /* a sanitizer has its own, from the first one on */
            ck_assert_uint_le(before, 3);
        }
        threads_come_down_to(before);
    }
}
END_TEST

START_TEST(threads_stay_while_they_are_kept)
{
    struct moody m = { .base = { &moody_ops } };
    struct cm_lease_keep *keep = NULL, *other = NULL;
    int status = 0;

    cm_lease_release(
        take(&m, CM_NS_PER_S, NULL)); /* a sanitizer's own thread comes with the first */
    real_pause(50 * CM_NS_PER_MS);
    unsigned before = count_threads();
    must(cm_lease_keep_new(&m.base, &keep, &err));
    must(cm_lease_keep_new(&m.base, &other, &err));
    ck_assert_uint_le(count_threads(), before);
    for (int i = 0; i < 3; i++) {
        cm_lease_release(take(&m, CM_NS_PER_S, NULL));
        ck_assert_uint_eq(count_threads(), before + 2);
    }
    pid_t child = fork();
    if (child == 0) {
        cm_lease_keep_free(keep);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    cm_lease_keep_free(keep);
    ck_assert_uint_eq(count_threads(), before + 2);
    struct cm_lease *lease = take(&m, CM_NS_PER_S, NULL);
    cm_lease_keep_free(other);
    ck_assert_uint_eq(count_threads(), before + 2);
    cm_lease_release(lease);
    threads_come_down_to(before);
    cm_lease_keep_free(NULL);
    must_fail(cm_lease_keep_new(NULL, &keep, &err), CM_E_INVAL);
}
END_TEST

/* They sleep until the lease before would have been due, which is long. */
START_TEST(threads_that_were_kept_look_after_the_next_lease)
{
    struct moody m = { .base = { &moody_ops } };
    struct cm_lease_keep *keep = NULL;

    must(cm_lease_keep_new(&m.base, &keep, &err));
    cm_lease_release(take(&m, 3600 * CM_NS_PER_S, NULL));
    real_pause(20 * CM_NS_PER_MS);
    struct cm_lease *lease = take(&m, 200 * CM_NS_PER_MS, NULL);
    wait_for(&m.refreshes, 3);
    must(cm_lease_check(lease, &err));
    m.hang = true; /* and whoever watches the clock tells of it */
    ck_assert(fires_within(lease, 3000));
    m.hang = false;
    cm_lease_release(lease);
    cm_lease_keep_free(keep);
}
END_TEST

static char logged[256];

static void log_line(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)fields;
    (void)n;
    (void)snprintf(logged, sizeof logged, "%s: %s", event, msg);
}

START_TEST(loss_is_logged_once_and_names_the_lock)
{
    const struct cm_log log = { log_line, NULL, CM_LOG_WARN };
    struct moody m = { .answer = CM_E_LOCK_LOST };
    struct cm_lease *lease = take(&m, 200 * CM_NS_PER_MS, &log);

    ck_assert(fires_within(lease, 5000));
    must_fail(cm_lease_check(lease, &err), CM_E_LOCK_LOST);
    cm_lease_release(lease);
    ck_assert_str_eq(logged, "lock_lost: lock 'n' was lost: moody");
}
END_TEST

START_TEST(bad_options_are_refused)
{
    struct cm_lease_options opts = CM_LEASE_OPTIONS_INIT;
    struct cm_lease *lease = NULL;
    struct moody m = { .base = { &moody_ops } };

    opts.ttl_ns = -1;
    must_fail(cm_lease_acquire(&m.base, NULL, "n", &opts, &lease, &err), CM_E_INVAL);
    must_fail(cm_lease_acquire(&m.base, NULL, "n", NULL, NULL, &err), CM_E_INVAL);
    must_fail(cm_lease_acquire(&m.base, NULL, "", NULL, &lease, &err), CM_E_INVAL);
    must_fail(cm_lease_acquire(NULL, NULL, "n", NULL, &lease, &err), CM_E_INVAL);
    must_fail(cm_lease_check(NULL, &err), CM_E_INVAL);
    ck_assert_ptr_null(lease);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_refresh_that_fails_for_a_moment_is_tried_again,
        a_refresh_that_fails_for_good_loses_the_lease,
        lost_is_reported_at_the_first_heartbeat_that_says_so,
        storage_that_hangs_loses_its_lease_but_not_that_of_others,
        release_waits_for_a_refresh_under_way,
        no_thread_stays_when_the_last_lease_goes,
        threads_stay_while_they_are_kept,
        threads_that_were_kept_look_after_the_next_lease,
        loss_is_logged_once_and_names_the_lock,
        bad_options_are_refused,
    };

    return run_with_root("lease", tests, CM_ARRAY_LEN(tests), 30);
}
