/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Locks beside peers, who have an expiry and nothing else, and among many processes. */

#define TTL (20 * CM_NS_PER_S)

static struct cm_storage *st;

static void setup(void)
{
    st = kit_open("PG_URL", NULL);
}

static void teardown(void)
{
    cm_storage_close(st);
}

static cm_status try_lock(const char *name, struct cm_grant *g)
{
    return cm_storage_try_lock(st, NULL, name, TTL, g, NULL, &err);
}

/* As CertMagic's module takes and gives back a lock: no look at who has it. */
static void peer_takes(const char *name, const char *interval)
{
    (void)kit_sql("insert into certmagic_locks (key, expires) values ('%s', "
                  "current_timestamp + interval '%s') on conflict (key) do update set expires = "
                  "excluded.expires",
                  name, interval);
}

static void peer_unlocks(const char *name)
{
    (void)kit_sql("delete from certmagic_locks where key = '%s'", name);
}

START_TEST(a_peers_lock_is_respected_until_it_runs_out)
{
    struct cm_lock_info info = { .size = sizeof info };
    struct cm_grant g;
    int64_t wait_ns = 0;

    kit_put(st, "tables", "are there");
    must(try_lock("warm", &g));
    must(cm_storage_unlock(st, NULL, &g, &err));
    peer_takes("issue_cert_*.example.com", "700 milliseconds");
    must_fail(cm_storage_try_lock(st, NULL, "issue_cert_*.example.com", TTL, &g, &wait_ns, &err),
              CM_E_BUSY);
    ck_assert(wait_ns > 0 && wait_ns <= CM_NS_PER_S);
    must(cm_storage_lock_info(st, NULL, "issue_cert_*.example.com", &info, &err));
    ck_assert_str_eq(info.holder, "another node");
    kit_sleep_ms(800);
    must_fail(cm_storage_lock_info(st, NULL, "issue_cert_*.example.com", &info, &err),
              CM_E_NOTFOUND);
    must(try_lock("issue_cert_*.example.com", &g));
    ck_assert_str_eq(kit_sql("select expires > current_timestamp + interval '15 seconds' and "
                             "expires < current_timestamp + interval '21 seconds' "
                             "from certmagic_locks where key = 'issue_cert_*.example.com'"),
                     "t");
    must(cm_storage_unlock(st, NULL, &g, &err));
    ck_assert_str_eq(kit_sql("select count(*) from certmagic_locks"), "0");
    peer_takes("issue_cert_*.example.com", "1 hour");
    must_fail(try_lock("issue_cert_*.example.com", &g), CM_E_BUSY);
    peer_unlocks("issue_cert_*.example.com");
    must(try_lock("issue_cert_*.example.com", &g));
    must(cm_storage_unlock(st, NULL, &g, &err));
}
END_TEST

static void expect_lost(struct cm_grant *g)
{
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("late") };

    must_fail(cm_storage_commit(st, NULL, g, &item, 1, &err), CM_E_LOCK_LOST);
    kit_expect(st, "k", "old");
    must_fail(cm_storage_refresh(st, NULL, g, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_unlock(st, NULL, g, &err), CM_E_LOCK_LOST);
}

START_TEST(a_peer_that_steals_a_lock_is_noticed)
{
    struct cm_lock_info info = { .size = sizeof info };
    struct cm_grant g;
    struct cm_grant other;

    kit_put(st, "k", "old");
    must(try_lock("l", &g));
    peer_takes("l", "1 hour");
    expect_lost(&g);
    must(cm_storage_lock_info(st, NULL, "l", &info, &err));
    ck_assert_str_eq(info.holder, "another node");
    must_fail(try_lock("l", &other), CM_E_BUSY); /* the peer's, and untouched */
}
END_TEST

START_TEST(a_peer_that_takes_a_lock_away_is_noticed)
{
    struct cm_grant g;
    struct cm_grant next;

    kit_put(st, "k", "old");
    must(try_lock("l", &g));
    peer_unlocks("l");
    expect_lost(&g);
    must(try_lock("l", &g));
    peer_unlocks("l");
    must(try_lock("l", &next));
    ck_assert(next.fence > g.fence);
    expect_lost(&g);
    must(cm_storage_refresh(st, NULL, &next, &err));
    must(cm_storage_unlock(st, NULL, &next, &err));
}
END_TEST

START_TEST(fences_grow_even_if_our_table_is_emptied)
{
    struct cm_grant g;
    uint64_t fence = 0;

    for (int i = 0; i < 6; i++) {
        must(try_lock("f", &g));
        ck_assert(g.fence > fence);
        fence = g.fence;
        must(cm_storage_unlock(st, NULL, &g, &err));
        if (i % 2 == 1)
            (void)kit_sql("delete from certmesh_locks");
    }
    /* The clock of a server that was put back. */
    (void)kit_sql("update certmesh_locks set fence = 8000000000000000000");
    must(try_lock("f", &g));
    must(cm_storage_unlock(st, NULL, &g, &err));
    (void)kit_sql("select 1");
    must(try_lock("f", &g));
    ck_assert(g.fence > fence);
    must(cm_storage_unlock(st, NULL, &g, &err));
}
END_TEST

/* A refresh runs beside commits of the same grant all the time; neither may take the other for a
 * thief. */
struct beating {
    struct cm_grant g;
    atomic_bool stop;
    atomic_uint failed;
};

static void *beat(void *arg)
{
    struct beating *b = arg;

    while (!b->stop) {
        struct cm_err e = CM_ERR_INIT;

        if (cm_storage_refresh(st, NULL, &b->g, &e) != CM_OK) {
            printf("# refresh: %s\n", e.msg);
            b->failed++;
        }
    }
    return NULL;
}

START_TEST(refresh_and_commit_do_not_disturb_each_other)
{
    struct beating b = { .stop = false };
    struct cm_commit_item item = { .key = "k" };
    pthread_t thread;
    char text[16] = "";

    must(try_lock("l", &b.g));
    /* A refresh that takes its time, so that commits come in the middle of it. */
    (void)kit_sql("create function slow() returns trigger language plpgsql as $$ begin "
                  "perform pg_sleep(0.005); return null; end $$");
    (void)kit_sql("create trigger slow after update of expires on certmesh_locks for each row "
                  "execute function slow()");
    ck_assert_int_eq(pthread_create(&thread, NULL, beat, &b), 0);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        item.value = cm_span_str(text);
        must(cm_storage_commit(st, NULL, &b.g, &item, 1, &err));
    }
    b.stop = true;
    (void)pthread_join(thread, NULL);
    ck_assert_uint_eq(b.failed, 0);
    kit_expect(st, "k", text);
    must(cm_storage_unlock(st, NULL, &b.g, &err));
}
END_TEST

/* ------------------------------------------------------------- many processes */

#define RACERS 8
#define ROUNDS 200

struct race {
    atomic_uint round;
    atomic_uint arrived;
    atomic_uint winners;
    atomic_uint failed;
    _Atomic uint64_t fence;
};

static int racer(struct race *r, const char *env_name)
{
    struct cm_storage *own = kit_open(env_name, NULL);

    for (unsigned round = 1; round <= ROUNDS; round++) {
        struct cm_err e = CM_ERR_INIT;
        struct cm_grant g;
        cm_status rc;

        while (atomic_load(&r->round) < round)
            (void)sched_yield();
        rc = cm_storage_try_lock(own, NULL, "stale", 3600 * CM_NS_PER_S, &g, NULL, &e);
        if (rc == CM_OK) {
            atomic_fetch_add(&r->winners, 1);
            atomic_store(&r->fence, g.fence);
            cm_storage_drop(own, &g);
        } else if (rc != CM_E_BUSY) {
            printf("# %s\n", e.msg);
            atomic_fetch_add(&r->failed, 1);
        }
        atomic_fetch_add(&r->arrived, 1);
    }
    cm_storage_close(own);
    return 0;
}

static void race_by(const char *env_name)
{
    struct race *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned doubled = 0;
    unsigned nobody = 0;
    uint64_t fence = 0;
    struct cm_grant g;
    pid_t pids[RACERS];

    ck_assert_ptr_ne(r, MAP_FAILED);
    must(try_lock("stale", &g));
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(racer(r, env_name));
    }
    for (unsigned round = 1; round <= ROUNDS; round++) {
        (void)kit_sql("update certmagic_locks set expires = clock_timestamp() - interval '1 s'");
        atomic_store(&r->winners, 0);
        atomic_store(&r->arrived, 0);
        atomic_store(&r->round, round);
        while (atomic_load(&r->arrived) < RACERS)
            kit_sleep_ms(1);
        doubled += atomic_load(&r->winners) > 1;
        nobody += atomic_load(&r->winners) == 0;
        ck_assert(atomic_load(&r->fence) > fence);
        fence = atomic_load(&r->fence);
    }
    for (int i = 0; i < RACERS; i++) {
        int status = 1;

        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(atomic_load(&r->failed), 0);
    ck_assert_uint_eq(doubled, 0);
    ck_assert_uint_eq(nobody, 0);
    (void)munmap(r, sizeof *r);
}

START_TEST(of_many_processes_one_gets_a_stale_lock)
{
    race_by("PG_URL");
}
END_TEST

START_TEST(of_many_processes_behind_a_pooler_one_gets_a_stale_lock)
{
    race_by("PG_POOLER_URL");
}
END_TEST

/* The connections of a process are not its child's. */
START_TEST(a_forked_child_has_connections_of_its_own)
{
    char parent[32];
    int status = 1;
    pid_t pid;

    kit_put(st, "k", "parent");
    (void)snprintf(parent, sizeof parent, "%s",
                   kit_sql("select string_agg(pid::text, ' ') from pg_stat_activity where "
                           "application_name = 'certmesh'"));
    pid = fork();
    if (pid == 0) {
        kit_expect(st, "k", "parent");
        kit_put(st, "k", "child");
        cm_storage_close(st);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    kit_expect(st, "k", "child");
    /* Still the same one: the child has not said goodbye in our name. */
    ck_assert_str_eq(kit_sql("select string_agg(pid::text, ' ') from pg_stat_activity where "
                             "application_name = 'certmesh'"),
                     parent);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("locks");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_peers_lock_is_respected_until_it_runs_out);
    tcase_add_test(c, a_peer_that_steals_a_lock_is_noticed);
    tcase_add_test(c, a_peer_that_takes_a_lock_away_is_noticed);
    tcase_add_test(c, fences_grow_even_if_our_table_is_emptied);
    tcase_add_test(c, refresh_and_commit_do_not_disturb_each_other);
    tcase_add_test(c, of_many_processes_one_gets_a_stale_lock);
    tcase_add_test(c, of_many_processes_behind_a_pooler_one_gets_a_stale_lock);
    tcase_add_test(c, a_forked_child_has_connections_of_its_own);
    return kit_main("pg-locks", &c, 1);
}
