/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What servers, networks and administrators do. */

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

/* ------------------------------------------------------------ sends that fail */

static atomic_int sends_to_fail;

/* In front of the C library's, also for libpq. */
__attribute__((visibility("default"))) ssize_t send(int fd, const void *data, size_t len, int flags)
{
    if (atomic_load(&sends_to_fail) > 0) {
        atomic_fetch_sub(&sends_to_fail, 1);
        errno = ECONNRESET;
        return -1;
    }
    return syscall(SYS_sendto, fd, data, len, flags, NULL, 0);
}

/* The connection stands, and the server has no idea that it was to be asked: libpq says that all
 * went well and would wait for the answer. */
START_TEST(a_send_that_fails_does_not_wait_for_an_answer)
{
    struct cm_buf got = CM_BUF_INIT(64);
    struct cm_commit_item item = { .key = "sent/b", .value = cm_span_str("x") };

    must(cm_storage_store(st, NULL, "sent/a", cm_span_str("a"), &err));
    int64_t began = kit_now_ms();
    atomic_store(&sends_to_fail, 1);
    must(cm_storage_load(st, NULL, "sent/a", &got, &err)); /* on another connection */
    ck_assert_int_eq(atomic_load(&sends_to_fail), 0);
    ck_assert_int_lt(kit_now_ms() - began, 2000);
    /* What must not be done twice fails, or is known not to be done. */
    began = kit_now_ms();
    atomic_store(&sends_to_fail, 1);
    cm_status rc = cm_storage_commit(st, NULL, NULL, &item, 1, &err);
    ck_assert_int_eq(atomic_load(&sends_to_fail), 0);
    ck_assert_msg(rc == CM_OK || rc == CM_E_NET, "%s: %s", cm_status_name(rc), err.msg);
    ck_assert_int_lt(kit_now_ms() - began, 2000);
    must(cm_storage_store(st, NULL, "sent/a", cm_span_str("a"), &err));
    cm_buf_free(&got);
}
END_TEST

/* ------------------------------------------------------------ broken connections */

struct stress {
    atomic_bool stop;
    atomic_uint done;
    atomic_uint failed;
};

static void *work(void *arg)
{
    struct stress *s = arg;
    char key[32];

    (void)snprintf(key, sizeof key, "stress/%lx", (unsigned long)pthread_self());
    while (!s->stop) {
        struct cm_err e = CM_ERR_INIT;
        struct cm_buf got = CM_BUF_INIT(64);

        if (cm_storage_store(st, NULL, key, cm_span_str("x"), &e) != CM_OK ||
            cm_storage_load(st, NULL, key, &got, &e) != CM_OK || got.len != 1 ||
            cm_storage_remove(st, NULL, key, &e) != CM_OK) {
            printf("# %s\n", e.msg);
            s->failed++;
        }
        s->done++;
        cm_buf_free(&got);
    }
    return NULL;
}

START_TEST(connections_that_are_ended_by_the_server_are_replaced)
{
    struct stress s = { .stop = false };
    pthread_t threads[4];
    long ended = 0;

    kit_put(st, "k", "x");
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &s), 0);
    for (int i = 0; i < 12; i++) {
        kit_sleep_ms(100);
        ended += strtol(kit_super("select count(pg_terminate_backend(pid)) from pg_stat_activity "
                                  "where application_name = 'certmesh'"),
                        NULL, 10);
    }
    s.stop = true;
    for (int i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    ck_assert_int_gt(ended, 20);
    ck_assert_uint_gt(s.done, 20);
    ck_assert_uint_eq(s.failed, 0);
    kit_expect(st, "k", "x");
}
END_TEST

START_TEST(a_server_that_is_down_is_told_soon_and_used_again_when_it_is_back)
{
    struct cm_grant g;
    int64_t began;

    kit_put(st, "k", "x");
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    kit_lab("immediate server");
    began = kit_now_ms();
    must_fail(cm_storage_store(st, NULL, "k", cm_span_str("y"), &err), CM_E_NET);
    ck_assert_int_le(kit_now_ms() - began, 2000);
    ck_assert_msg(strstr(err.msg, "cmpw") == NULL, "%s", err.msg);
    must_fail(cm_storage_refresh(st, NULL, &g, &err), CM_E_NET);
    kit_lab("start server");
    kit_expect(st, "k", "x");
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
}
END_TEST

static void *fire_soon(void *arg)
{
    kit_sleep_ms(200);
    cm_cancel_fire(arg);
    return NULL;
}

START_TEST(a_server_that_says_nothing_costs_no_more_than_the_deadline)
{
    struct cm_op op;
    struct cm_cancel *cancel = NULL;
    pthread_t thread;
    int64_t began;

    kit_put(st, "k", "x");
    kit_lab("signal server STOP");
    began = kit_now_ms();
    op = kit_within(400);
    must_fail(cm_storage_store(st, &op, "k", cm_span_str("y"), &err), CM_E_TIMEOUT);
    ck_assert_int_le(kit_now_ms() - began, 800);
    /* This one has to connect first. */
    began = kit_now_ms();
    must(cm_cancel_new(NULL, &cancel, &err));
    op = (struct cm_op){ NULL, 0, cancel };
    ck_assert_int_eq(pthread_create(&thread, NULL, fire_soon, cancel), 0);
    must_fail(cm_storage_store(st, &op, "k", cm_span_str("y"), &err), CM_E_CANCELED);
    ck_assert_int_le(kit_now_ms() - began, 600);
    (void)pthread_join(thread, NULL);
    cm_cancel_free(cancel);
    kit_lab("signal server CONT");
    kit_put(st, "k", "z");
    kit_expect(st, "k", "z");
}
END_TEST

START_TEST(a_connection_that_went_silent_is_not_used_again)
{
    struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
    struct cm_op op;
    int64_t began = kit_now_ms();

    kit_put(far, "k", "x");
    kit_proxy("hole");
    op = kit_within(300);
    must_fail(cm_storage_store(far, &op, "k", cm_span_str("y"), &err), CM_E_TIMEOUT);
    ck_assert_int_le(kit_now_ms() - began, 900);
    ck_assert_uint_gt(kit_proxy_fired(), 0);
    kit_proxy("pass");
    kit_put(far, "k", "z");
    kit_expect(far, "k", "z");
    began = kit_now_ms();
    cm_storage_close(far);
    ck_assert_int_le(kit_now_ms() - began, 500);
}
END_TEST

struct blocked {
    struct cm_storage *st;
    cm_status rc;
};

static void *store_for_a_second(void *arg)
{
    struct blocked *b = arg;
    struct cm_op op = kit_within(1000);

    b->rc = cm_storage_store(b->st, &op, "k", cm_span_str("y"), NULL);
    return NULL;
}

static bool is_busy(void)
{
    return strcmp(
               kit_sql("select count(*) from pg_stat_activity where application_name = 'certmesh' "
                       "and state = 'active'"),
               "0") != 0;
}

START_TEST(who_gives_up_stops_the_server_too_and_waiting_for_a_connection_ends)
{
    struct blocked b = { kit_open("PG_URL", "pool=1"), CM_OK };
    struct cm_buf got = CM_BUF_INIT(64);
    int64_t until = kit_now_ms() + 8000;
    pthread_t thread;
    struct cm_op op;
    PGconn *blocker;
    char sql[128];

    kit_put(b.st, "k", "x");
    blocker = PQconnectdb(getenv("PG_URL"));
    (void)snprintf(sql, sizeof sql, "begin; lock table %s.certmagic_data in exclusive mode",
                   kit_schema());
    PQclear(PQexec(blocker, sql));
    ck_assert_int_eq(pthread_create(&thread, NULL, store_for_a_second, &b), 0);
    while (!is_busy() && kit_now_ms() < until)
        kit_sleep_ms(5);
    op = kit_within(200);
    must_fail(cm_storage_load(b.st, &op, "k", &got, &err), CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, "in use") != NULL, "%s", err.msg);
    (void)pthread_join(thread, NULL);
    ck_assert_int_eq(b.rc, CM_E_TIMEOUT);
    while (is_busy() && kit_now_ms() < until)
        kit_sleep_ms(10);
    ck_assert_int_lt(kit_now_ms(), until);
    PQclear(PQexec(blocker, "rollback"));
    kit_expect(b.st, "k", "x"); /* what was given up is not carried out later */
    PQfinish(blocker);
    cm_storage_close(b.st);
}
END_TEST

/* ------------------------------------------------------------- lost answers */

/* Each write of a row leaves a row in "writes". */
static void count_writes(void)
{
    (void)kit_sql("create table writes (key text)");
    (void)kit_sql("create function note() returns trigger language plpgsql as $$ begin "
                  "insert into %s.writes values (new.key); return null; end $$",
                  kit_schema());
    (void)kit_sql("create trigger note after insert or update on certmagic_data for each row "
                  "execute function note()");
}

START_TEST(an_answer_that_is_lost_does_not_make_it_happen_twice)
{
    struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
    struct cm_commit_item items[2] = { { .key = "c/key", .value = cm_span_str("key") },
                                       { .key = "c/crt", .value = cm_span_str("crt") } };
    struct cm_grant g;
    struct cm_grant other;

    kit_put(far, "k", "old");
    must(cm_storage_try_lock(far, NULL, "warm", TTL, &g, NULL, &err));
    must(cm_storage_unlock(far, NULL, &g, &err));
    count_writes();

    kit_proxy("lose");
    must(cm_storage_store(far, NULL, "k", cm_span_str("new"), &err));
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    kit_expect(far, "k", "new");
    ck_assert_str_eq(kit_sql("select count(*) from writes"), "1");

    kit_proxy("lose");
    must(cm_storage_try_lock(far, NULL, "l", TTL, &g, NULL, &err));
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    must_fail(cm_storage_try_lock(st, NULL, "l", TTL, &other, NULL, &err), CM_E_BUSY);
    kit_proxy("lose");
    must(cm_storage_refresh(far, NULL, &g, &err));
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    kit_proxy("lose");
    must(cm_storage_commit(far, NULL, &g, items, 2, &err));
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    ck_assert_str_eq(kit_sql("select count(*) from writes where key like 'c/%%'"), "2");
    kit_expect(far, "c/key", "key");
    kit_expect(far, "c/crt", "crt");
    kit_proxy("lose");
    must(cm_storage_unlock(far, NULL, &g, &err));
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    must_fail(cm_storage_unlock(far, NULL, &g, &err), CM_E_LOCK_LOST);
    kit_proxy("lose");
    must(cm_storage_remove(far, NULL, "c", &err));
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    kit_expect(far, "c/key", NULL);
    must(cm_storage_try_lock(st, NULL, "l", TTL, &other, NULL, &err));
    must(cm_storage_unlock(st, NULL, &other, &err));
    cm_storage_close(far);
}
END_TEST

/* A commit whose answer is lost, and the lock too before anyone could look: nobody knows. */
START_TEST(a_commit_of_which_nobody_knows_is_not_told_as_undone)
{
    struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("new") };
    struct cm_grant g;

    kit_put(far, "k", "old");
    must(cm_storage_try_lock(far, NULL, "l", TTL, &g, NULL, &err));
    (void)kit_sql("create function steal() returns trigger language plpgsql as $$ begin "
                  "delete from %s.certmagic_locks; return null; end $$",
                  kit_schema());
    (void)kit_sql("create trigger steal after insert or update on certmagic_data execute function "
                  "steal()");
    kit_proxy("lose");
    must_fail(cm_storage_commit(far, NULL, &g, &item, 1, &err), CM_E_NET);
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    cm_storage_drop(far, &g);
    cm_storage_close(far);
}
END_TEST

/* ----------------------------------------------------------- other transactions */

static void *count_up(void *arg)
{
    struct stress *s = arg;

    for (int i = 0; i < 20; i++) {
        struct cm_buf got = CM_BUF_INIT(32);
        struct cm_lease *lease = NULL;
        struct cm_err e = CM_ERR_INIT;

        /* All of them at once, without a lock. */
        for (int j = 0; j < 10; j++)
            if (cm_storage_store(st, NULL, "hot", cm_span_str("x"), &e) != CM_OK) {
                printf("# %s\n", e.msg);
                s->failed++;
            }
        struct cm_commit_item item = { .key = "sum" };
        char text[16];

        if (cm_lease_acquire(st, NULL, "sum", NULL, &lease, &e) != CM_OK ||
            cm_storage_load(st, NULL, "sum", &got, &e) != CM_OK) {
            printf("# %s\n", e.msg);
            s->failed++;
        } else {
            (void)snprintf(text, sizeof text, "%ld", strtol(cm_buf_str(&got), NULL, 10) + 1);
            item.value = cm_span_str(text);
            if (cm_lease_commit(lease, NULL, &item, 1, &e) != CM_OK) {
                printf("# %s\n", e.msg);
                s->failed++;
            }
        }
        cm_lease_release(lease);
        cm_buf_free(&got);
    }
    return NULL;
}

START_TEST(transactions_that_have_to_give_way_are_repeated)
{
    struct stress s = { .stop = false };
    pthread_t threads[4];

    (void)kit_super("alter role cm set default_transaction_isolation = 'serializable'");
    kit_put(st, "sum", "0");
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, count_up, &s), 0);
    for (int i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    (void)kit_super("alter role cm reset default_transaction_isolation");
    ck_assert_uint_eq(s.failed, 0);
    kit_expect(st, "sum", "80");
}
END_TEST

/* ------------------------------------------------------------------- rights */

static struct cm_storage *open_as_guest(const char *more)
{
    char url[512];

    (void)snprintf(url, sizeof url, "postgres://guest:guestpw@127.0.0.1:%s/cm", getenv("PG_PORT"));
    (void)setenv("PG_GUEST_URL", url, 1);
    return kit_open("PG_GUEST_URL", more);
}

START_TEST(without_the_right_to_make_tables_it_is_told_what_to_run)
{
    struct cm_storage *guest = open_as_guest(NULL);
    struct cm_storage *told = open_as_guest("ddl=off");
    struct cm_grant g;

    (void)kit_super("create schema %s authorization cm", kit_schema());
    (void)kit_sql("grant usage on schema %s to guest", kit_schema());
    must_fail(cm_storage_store(guest, NULL, "k", cm_span_str("x"), &err), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, "CREATE TABLE") != NULL, "%s", err.msg);
    must_fail(cm_storage_store(told, NULL, "k", cm_span_str("x"), &err), CM_E_STATE);
    ck_assert_msg(strstr(err.msg, "ddl=off") != NULL, "%s", err.msg);
    ck_assert_msg(strstr(err.msg, "CREATE TABLE") != NULL, "%s", err.msg);
    must_fail(cm_storage_try_lock(told, NULL, "l", TTL, &g, NULL, &err), CM_E_STATE);
    ck_assert_msg(strstr(err.msg, "certmagic_locks") != NULL, "%s", err.msg);
    cm_storage_close(guest);
    cm_storage_close(told);
}
END_TEST

START_TEST(with_tables_no_more_rights_are_needed)
{
    struct cm_storage *guest = open_as_guest("ddl=off");
    struct cm_grant g;

    kit_put(st, "k", "x");
    must(cm_storage_try_lock(st, NULL, "warm", TTL, &g, NULL, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    (void)kit_sql("grant usage on schema %s to guest", kit_schema());
    must_fail(cm_storage_store(guest, NULL, "k", cm_span_str("y"), &err), CM_E_PERM);
    (void)kit_sql("grant select, insert, update, delete on all tables in schema %s to guest",
                  kit_schema());
    kit_put(guest, "k", "y");
    must(cm_storage_try_lock(guest, NULL, "l", TTL, &g, NULL, &err));
    must(cm_storage_unlock(guest, NULL, &g, &err));
    must(cm_storage_remove(guest, NULL, "k", &err));
    cm_storage_close(guest);
}
END_TEST

/* --------------------------------------------------------------- being let in */

static cm_status load_at(const char *url)
{
    struct cm_storage *at = NULL;
    struct cm_buf got = CM_BUF_INIT(64);
    cm_status rc = cm_storage_open(url, NULL, &at, &err);

    if (rc == CM_OK)
        rc = cm_storage_load(at, NULL, "none", &got, &err);
    cm_storage_close(at);
    cm_buf_free(&got);
    return rc;
}

START_TEST(a_wrong_password_is_a_matter_of_permission)
{
    const char *port = getenv("PG_PORT");
    char path[] = "/tmp/cm-pg-password-XXXXXX";
    char url[512];
    int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "cmpw\n", 5), 5);
    (void)close(fd);
    (void)snprintf(url, sizeof url, "postgres://cm:se%%63ret@127.0.0.1:%s/cm", port);
    must_fail(load_at(url), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, "secret") == NULL && strstr(err.msg, "28P01") != NULL, "%s",
                  err.msg);
    (void)snprintf(url, sizeof url, "postgres://cm@127.0.0.1:%s/cm?password_file=%s", port, path);
    must_fail(load_at(url), CM_E_NOTFOUND);
    (void)setenv("CM_TEST_PASSWORD", "cmpw", 1);
    (void)snprintf(url, sizeof url, "postgresql://cm@127.0.0.1:%s/cm?password_env=CM_TEST_PASSWORD",
                   port);
    must_fail(load_at(url), CM_E_NOTFOUND);
    (void)snprintf(url, sizeof url, "postgres://cm@127.0.0.1:%s/nowhere?password_file=%s", port,
                   path);
    must_fail(load_at(url), CM_E_INVAL);
    (void)unlink(path);
    /* nobody waits for who may write into it some day */
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    must_fail(load_at(url), CM_E_INVAL);
    ck_assert_msg(strstr(err.msg, "regular") != NULL, "%s", err.msg);
    (void)unlink(path);
}
END_TEST

START_TEST(a_certificate_is_looked_at)
{
    const char *port = getenv("PG_PORT");
    const char *dir = getenv("PG_LAB_DIR");
    char url[512];

    must_fail(load_at(getenv("PG_TLS_URL")), CM_E_NOTFOUND);
    (void)snprintf(
        url, sizeof url,
        "postgres://cm:cmpw@localhost:%s/cm?sslmode=verify-full&sslrootcert=%s/other-ca.pem", port,
        dir);
    must_fail(load_at(url), CM_E_TLS);
    (void)snprintf(url, sizeof url,
                   "postgres://cm:cmpw@127.0.0.1:%s/cm?sslmode=verify-full&sslrootcert=%s/ca.pem",
                   port, dir);
    must_fail(load_at(url), CM_E_TLS);
    ck_assert_msg(strstr(err.msg, "127.0.0.1") != NULL, "%s", err.msg);
    /* Any host that is not called by a name for this one gets the strict mode unasked. */
    (void)setenv("PGSSLROOTCERT", "/nonexistent/root.crt", 1);
    (void)snprintf(url, sizeof url, "postgres://cm:cmpw@2130706433:%s/cm", port);
    must_fail(load_at(url), CM_E_TLS);
    ck_assert_msg(strstr(err.msg, "sslrootcert=") != NULL, "%s", err.msg);
    (void)snprintf(url, sizeof url, "postgres://cm:cmpw@localhost:%s/cm", port);
    must_fail(load_at(url), CM_E_NOTFOUND);
}
END_TEST

START_TEST(urls_are_checked_and_never_shown)
{
    static const struct {
        const char *url;
        const char *names;
    } bad[] = {
        { "postgres://u:hush@h/db?sslmodus=x", "'sslmodus'" },
        { "postgres://u:hush@h/db?pool=0", "'pool'" },
        { "postgres://u:hush@h/db?pool=1000", "'pool'" },
        { "postgres://u:hush@h/db?ddl=maybe", "'ddl'" },
        { "postgres://u:hush@h/db?timeout=", "'timeout'" },
        { "postgres://u:hush@h/db?schema=", "'schema'" },
        { "postgres://u:hush@h/db?password_env=CM_NO_SUCH_VARIABLE", "CM_NO_SUCH_VARIABLE" },
        { "postgres://u@h/db?password_file=/nonexistent/hu", "password_file" },
        { "postgres://u:hush@[::1/db", "cannot be read" },
        { "postgres://u:hush@a,b/db?port=1,2,3", "port" },
        { "postgres://u:hush%zz@h/db", "cannot be read" },
    };
    struct cm_storage *at = NULL;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cm_status rc = cm_storage_open(bad[i].url, NULL, &at, &err);

        ck_assert_msg(rc == CM_E_INVAL, "%s: %s", bad[i].url, cm_status_name(rc));
        ck_assert_msg(strstr(err.msg, bad[i].names) != NULL, "%s", err.msg);
        ck_assert_msg(strstr(err.msg, "hush") == NULL, "%s", err.msg);
    }
    must(cm_storage_open("postgres://u:hush@a,b:5433/db?pool=2&schema=s&application_name=x", NULL,
                         &at, &err));
    ck_assert_str_eq(cm_storage_describe(at), "postgres://u@a,b:5433/db?schema=s");
    cm_storage_close(at);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("faults");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, a_send_that_fails_does_not_wait_for_an_answer);
    tcase_add_test(c, connections_that_are_ended_by_the_server_are_replaced);
    tcase_add_test(c, a_server_that_is_down_is_told_soon_and_used_again_when_it_is_back);
    tcase_add_test(c, a_server_that_says_nothing_costs_no_more_than_the_deadline);
    tcase_add_test(c, a_connection_that_went_silent_is_not_used_again);
    tcase_add_test(c, who_gives_up_stops_the_server_too_and_waiting_for_a_connection_ends);
    tcase_add_test(c, an_answer_that_is_lost_does_not_make_it_happen_twice);
    tcase_add_test(c, a_commit_of_which_nobody_knows_is_not_told_as_undone);
    tcase_add_test(c, transactions_that_have_to_give_way_are_repeated);
    tcase_add_test(c, without_the_right_to_make_tables_it_is_told_what_to_run);
    tcase_add_test(c, with_tables_no_more_rights_are_needed);
    tcase_add_test(c, a_wrong_password_is_a_matter_of_permission);
    tcase_add_test(c, a_certificate_is_looked_at);
    tcase_add_test(c, urls_are_checked_and_never_shown);
    return kit_main("pg-faults", &c, 1);
}
