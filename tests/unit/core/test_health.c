/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"
#include "life.h"

/* Is the storage there, and what has happened so far? */

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

/* The program: it writes down in which order it is told, and why. */
static struct program {
    pthread_mutex_t lock;
    enum cm_event_type told[64];
    char why[64][128];
    size_t n;
} program = { .lock = PTHREAD_MUTEX_INITIALIZER };

static cm_status on_event(void *user, const struct cm_event *ev, struct cm_err *e)
{
    struct program *p = user;

    (void)e;
    if (ev->type != CM_EVENT_STORAGE_DOWN && ev->type != CM_EVENT_STORAGE_UP)
        return CM_OK;
    cm_mutex_lock(&p->lock);
    if (p->n < CM_ARRAY_LEN(p->told)) {
        p->told[p->n] = ev->type;
        (void)snprintf(p->why[p->n++], sizeof p->why[0], "%.100s",
                       ev->error != NULL ? ev->error->msg : "");
    }
    cm_mutex_unlock(&p->lock);
    return CM_OK;
}

static size_t count_told(void)
{
    size_t n;

    cm_mutex_lock(&program.lock);
    n = program.n;
    cm_mutex_unlock(&program.lock);
    return n;
}

static void begin(void)
{
    program.n = 0;
    kit_init(&k);
    k.opts.on_event = on_event;
    k.opts.event_user = &program;
}

static uint64_t counted(enum cm_counter c)
{
    return atomic_load(&k.cfg->counters->n[c]);
}

static void load_once(cm_status wanted)
{
    struct cm_cert *cert = NULL;

    ck_refused(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err), wanted);
}

START_TEST(storage_is_down_after_three_failures_and_told_once)
{
    begin();
    kit_start(&k);
    atomic_store(&k.storage.fail_loads, 2);
    load_once(CM_E_IO);
    load_once(CM_E_IO);
    load_once(CM_E_NOTFOUND); /* it answers: the row is broken */
    atomic_store(&k.storage.fail_loads, 2);
    load_once(CM_E_IO);
    load_once(CM_E_IO);
    ck_assert_uint_eq(program.n, 0);
    ck_assert(!cm_health_is_down(k.cfg));
    atomic_store(&k.storage.fail_loads, 5);
    for (int i = 0; i < 5; i++)
        load_once(CM_E_IO);
    ck_assert(cm_health_is_down(k.cfg));
    ck_assert_uint_eq(program.n, 1);
    ck_assert_int_eq(program.told[0], CM_EVENT_STORAGE_DOWN);
    ck_assert_ptr_nonnull(strstr(program.why[0], "injected fault"));
    ck_assert_uint_eq(kit_logged("storage_down"), 1);
    load_once(CM_E_NOTFOUND);
    load_once(CM_E_NOTFOUND);
    ck_assert(!cm_health_is_down(k.cfg));
    ck_assert_uint_eq(program.n, 2);
    ck_assert_int_eq(program.told[1], CM_EVENT_STORAGE_UP);
    ck_assert_str_eq(program.why[1], "");
    kit_stop(&k);
}
END_TEST

START_TEST(what_says_nothing_of_the_storage_changes_nothing)
{
    static const cm_status ours[] = { CM_E_CANCELED, CM_E_NOMEM, CM_E_INVAL, CM_E_LIMIT };

    begin();
    kit_start(&k);
    cm_health_note(k.cfg, CM_E_IO, NULL);
    cm_health_note(k.cfg, CM_E_TIMEOUT, NULL);
    for (size_t i = 0; i < CM_ARRAY_LEN(ours); i++)
        cm_health_note(k.cfg, ours[i], NULL);
    ck_assert(!cm_health_is_down(k.cfg));
    cm_health_note(k.cfg, CM_E_PERM, NULL); /* the third in a row */
    ck_assert(cm_health_is_down(k.cfg));
    ck_assert_str_eq(program.why[0], "permission denied");
    cm_health_note(k.cfg, CM_E_CANCELED, NULL);
    ck_assert(cm_health_is_down(k.cfg));
    kit_stop(&k);
}
END_TEST

START_TEST(failing_locks_and_commits_count_too)
{
    begin();
    kit_start(&k);
    atomic_store(&k.storage.fail_locks, -1);
    for (int i = 0; i < 3; i++) /* the loads before go well: only in a row counts */
        ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_IO);
    ck_assert(!cm_health_is_down(k.cfg));
    atomic_store(&k.storage.fail_loads, -1);
    atomic_store(&k.storage.fail_locks, 0);
    load_once(CM_E_IO);
    load_once(CM_E_IO); /* with the last lock before */
    ck_assert(cm_health_is_down(k.cfg));
    kit_stop(&k);
}
END_TEST

static _Atomic bool go_on_noting;

static void *note_now_and_then(void *which)
{
    bool fails = which != NULL;

    while (atomic_load(&go_on_noting))
        cm_health_note(k.cfg, fails ? CM_E_IO : CM_OK, NULL);
    return NULL;
}

START_TEST(loss_and_return_are_told_in_turn_however_many_note_them)
{
    static int fails;
    pthread_t threads[6];

    begin();
    kit_start(&k);
    atomic_store(&go_on_noting, true);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_ok(cm_thread_start(&threads[i], "note", note_now_and_then, i % 3 != 0 ? &fails : NULL,
                              &err));
    kit_until(count_told() >= 20);
    atomic_store(&go_on_noting, false);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        (void)pthread_join(threads[i], NULL);
    for (size_t i = 0; i < program.n; i++)
        ck_assert_int_eq(program.told[i], i % 2 == 0 ? CM_EVENT_STORAGE_DOWN : CM_EVENT_STORAGE_UP);
    kit_stop(&k);
}
END_TEST

/* ---- counters ---- */

START_TEST(failures_are_counted_by_whose_matter_they_are)
{
    static const struct {
        cm_status rc;
        int http_status;
        enum cm_counter counter;
    } rows[] = {
        { CM_E_NET, 0, CM_COUNT_FAILED_NET },
        { CM_E_TLS, 0, CM_COUNT_FAILED_NET },
        { CM_E_TIMEOUT, 0, CM_COUNT_FAILED_NET },
        { CM_E_NET, 503, CM_COUNT_FAILED_CA },
        { CM_E_ACME, 403, CM_COUNT_FAILED_CA },
        { CM_E_CERT, 0, CM_COUNT_FAILED_CA },
        { CM_E_RATELIMITED, 429, CM_COUNT_FAILED_RATE },
        { CM_E_IO, 0, CM_COUNT_FAILED_STORAGE },
        { CM_E_PERM, 0, CM_COUNT_FAILED_STORAGE },
        { CM_E_LOCK_LOST, 0, CM_COUNT_FAILED_STORAGE },
        { CM_E_NOMEM, 0, CM_COUNT_FAILED_OTHER },
        { CM_E_POLICY, 0, CM_COUNT_FAILED_OTHER },
    };

    begin();
    kit_start(&k);
    for (size_t i = 0; i < CM_ARRAY_LEN(rows); i++) {
        struct cm_err why = { .status = rows[i].rc, .http_status = rows[i].http_status };
        uint64_t before = counted(rows[i].counter);

        cm_count_failure(k.cfg, rows[i].rc, &why);
        ck_assert_msg(counted(rows[i].counter) == before + 1, "row %zu", i);
    }
    kit_stop(&k);
}
END_TEST

START_TEST(waiting_for_locks_falls_into_buckets)
{
    begin();
    kit_start(&k);
    cm_count_lock_wait(k.cfg, -5);
    cm_count_lock_wait(k.cfg, 10 * CM_NS_PER_MS);
    cm_count_lock_wait(k.cfg, 10 * CM_NS_PER_MS + 1);
    cm_count_lock_wait(k.cfg, 1800 * CM_NS_PER_S + 1);
    struct cm_counters *c = k.cfg->counters;
    ck_assert_uint_eq(atomic_load(&c->lock_wait[0]), 2);
    ck_assert_uint_eq(atomic_load(&c->lock_wait[1]), 1);
    ck_assert_uint_eq(atomic_load(&c->lock_wait[CM_LOCK_WAIT_BUCKETS]), 1);
    ck_assert_uint_eq(atomic_load(&c->lock_wait_ns),
                      1800 * (uint64_t)CM_NS_PER_S + 20 * (uint64_t)CM_NS_PER_MS + 2);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&c->lock_wait[0]), 3);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        storage_is_down_after_three_failures_and_told_once,
        what_says_nothing_of_the_storage_changes_nothing,
        failing_locks_and_commits_count_too,
        loss_and_return_are_told_in_turn_however_many_note_them,
        failures_are_counted_by_whose_matter_they_are,
        waiting_for_locks_falls_into_buckets,
    };

    return kit_run("health", tests, CM_ARRAY_LEN(tests));
}
