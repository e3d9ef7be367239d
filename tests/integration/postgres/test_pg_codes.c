/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Each way in which a server says no, by its code. Most of them are said by a trigger on the table,
 * which counts how often: a sequence is not taken back with the transaction. Others are said by the
 * proxy before the server. */

#define TTL (20 * CM_NS_PER_S)

static struct cm_storage *st;

static void setup(void)
{
    struct cm_grant g;

    st = kit_open("PG_URL", NULL);
    kit_put(st, "k", "old");
    must(cm_storage_try_lock(st, NULL, "warm", TTL, &g, NULL, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
    (void)kit_sql("create sequence fired");
}

static void teardown(void)
{
    cm_storage_close(st);
}

/* The next @times writes of a row fail with @code. */
static void trip(const char *code, int times)
{
    (void)kit_sql("create or replace function trip() returns trigger language plpgsql as $$ begin "
                  "if nextval('%s.fired') <= %d then raise exception 'told to' using errcode = "
                  "'%s'; end if; return null; end $$",
                  kit_schema(), times, code);
    (void)kit_sql("alter sequence fired restart");
    (void)kit_sql("create or replace trigger trip after insert or update on certmagic_data "
                  "for each row execute function trip()");
}

static unsigned fired(void)
{
    return (unsigned)strtoul(
        kit_sql("select case when is_called then last_value else 0 end from fired"), NULL, 10);
}

/* What passes is repeated, and done once. */
START_TEST(what_passes_is_tried_again)
{
    static const char *const passing[] = { "40001", "40P01", "55P03", "57P01", "57P02",
                                           "57P03", "53300", "25006", "08006" };

    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        struct cm_commit_item items[2] = { { .key = "k", .value = cm_span_str(passing[i]) },
                                           { .key = "c/k", .value = cm_span_str("both") } };
        char value[16];
        struct cm_grant g;

        trip(passing[i], 2);
        (void)snprintf(value, sizeof value, "s%s", passing[i]);
        must(cm_storage_store(st, NULL, "k", cm_span_str(value), &err));
        ck_assert_msg(fired() == 3, "%s: %u attempts", passing[i], fired());
        kit_expect(st, "k", value);
        must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
        trip(passing[i], 2);
        must(cm_storage_commit(st, NULL, &g, items, 2, &err));
        ck_assert_msg(fired() == 4, "%s: %u rows", passing[i], fired());
        must(cm_storage_unlock(st, NULL, &g, &err));
        kit_expect(st, "k", passing[i]);
        kit_expect(st, "c/k", "both");
    }
}
END_TEST

/* What does not is told at once, by its name, and nothing was changed. */
START_TEST(what_lasts_is_told_at_once)
{
    static const struct {
        const char *code;
        cm_status rc;
    } lasting[] = {
        { "53100", CM_E_IO },    { "58030", CM_E_IO },    { "XX000", CM_E_IO },
        { "53200", CM_E_NOMEM }, { "54000", CM_E_LIMIT }, { "42501", CM_E_PERM },
        { "28000", CM_E_PERM },  { "22021", CM_E_INVAL }, { "57014", CM_E_TIMEOUT },
        { "42703", CM_E_STATE }, { "23514", CM_E_IO },    { "P0001", CM_E_IO },
    };

    for (size_t i = 0; i < sizeof lasting / sizeof lasting[0]; i++) {
        struct cm_commit_item items[2] = { { .key = "c/k", .value = cm_span_str("new") },
                                           { .key = "k", .value = cm_span_str("new") } };
        struct cm_grant g;

        must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
        trip(lasting[i].code, 1000);
        must_fail(cm_storage_store(st, NULL, "k", cm_span_str("new"), &err), lasting[i].rc);
        ck_assert_msg(strstr(err.msg, lasting[i].code) != NULL, "%s", err.msg);
        ck_assert_msg(fired() == 1, "%s: %u attempts", lasting[i].code, fired());
        must_fail(cm_storage_commit(st, NULL, &g, items, 2, &err), lasting[i].rc);
        ck_assert_msg(fired() == 2, "%s: %u attempts", lasting[i].code, fired());
        kit_expect(st, "k", "old");
        kit_expect(st, "c/k", NULL);
        must(cm_storage_unlock(st, NULL, &g, &err));
    }
}
END_TEST

/* However often it is tried, that ends. */
START_TEST(what_never_passes_ends)
{
    static const struct {
        const char *code;
        cm_status rc;
        unsigned most;
    } endless[] = { { "40001", CM_E_BUSY, 21 },
                    { "40P01", CM_E_BUSY, 21 },
                    { "57P01", CM_E_NET, 4 },
                    { "53300", CM_E_NET, 4 },
                    { "25006", CM_E_NET, 4 } };

    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        struct cm_op op = kit_within(5000);

        trip(endless[i].code, 1000);
        must_fail(cm_storage_store(st, &op, "k", cm_span_str("new"), &err), endless[i].rc);
        ck_assert_msg(strstr(err.msg, endless[i].code) != NULL, "%s", err.msg);
        ck_assert_uint_gt(fired(), 1);
        ck_assert_msg(fired() <= endless[i].most, "%s: %u attempts", endless[i].code, fired());
        kit_expect(st, "k", "old");
    }
}
END_TEST

/* ------------------------------------------------------------ a real deadlock */

static void *commit_both(void *arg)
{
    struct cm_commit_item items[2] = { { .key = "d/1", .value = cm_span_str("ours") },
                                       { .key = "d/2", .value = cm_span_str("ours") } };

    *(cm_status *)arg = cm_storage_commit(st, NULL, NULL, items, 2, &err);
    return NULL;
}

static void run(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);

    ck_assert_msg(PQresultStatus(res) == PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(conn));
    PQclear(res);
}

/* Another client has locked what we want second, and wants what we have locked first. The server
 * ends whoever notices, which is he who waits longest: us. */
START_TEST(a_deadlock_is_given_way_to)
{
    PGconn *peer = PQconnectdb(getenv("PG_URL"));
    cm_status rc = CM_E_INTERNAL;
    char sql[128];
    pthread_t thread;
    int64_t until = kit_now_ms() + 8000;
    const char *before = "select deadlocks from pg_stat_database where datname = 'cm'";
    long deadlocks = strtol(kit_super("%s", before), NULL, 10);

    kit_put(st, "d/1", "old");
    kit_put(st, "d/2", "old");
    (void)snprintf(sql, sizeof sql, "set search_path = %s", kit_schema());
    run(peer, sql);
    run(peer, "begin");
    run(peer, "update certmagic_data set value = 'theirs' where key = 'd/2'");
    ck_assert_int_eq(pthread_create(&thread, NULL, commit_both, &rc), 0);
    while (
        strcmp(kit_sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and "
                       "application_name = 'certmesh'"),
               "0") == 0 &&
        kit_now_ms() < until)
        kit_sleep_ms(5);
    run(peer, "update certmagic_data set value = 'theirs' where key = 'd/1'");
    run(peer, "commit");
    (void)pthread_join(thread, NULL);
    PQfinish(peer);
    ck_assert_msg(rc == CM_OK, "%s", err.msg);
    kit_expect(st, "d/1", "ours");
    kit_expect(st, "d/2", "ours");
    while (strtol(kit_super("%s", before), NULL, 10) == deadlocks && kit_now_ms() < until)
        kit_sleep_ms(50);
    ck_assert_int_gt(strtol(kit_super("%s", before), NULL, 10), deadlocks);
}
END_TEST

/* --------------------------------------------------------------- at the door */

START_TEST(a_server_that_does_not_let_in_yet_is_asked_again)
{
    static const char *const soon[] = { "57P03", "53300", "57P01" };

    for (size_t i = 0; i < sizeof soon / sizeof soon[0]; i++) {
        struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
        char mode[32];
        int64_t began;

        (void)snprintf(mode, sizeof mode, "refuse %s 2", soon[i]);
        kit_proxy(mode);
        kit_put(far, "k", soon[i]);
        ck_assert_uint_eq(kit_proxy_fired(), 2);
        cm_storage_close(far);
        /* It does not for long. */
        far = kit_open("PG_PROXY_URL", NULL);
        (void)snprintf(mode, sizeof mode, "refuse %s 1000", soon[i]);
        kit_proxy(mode);
        began = kit_now_ms();
        must_fail(cm_storage_store(far, NULL, "k", cm_span_str("late"), &err), CM_E_NET);
        ck_assert_int_lt(kit_now_ms() - began, 4000);
        ck_assert_msg(strstr(err.msg, soon[i]) != NULL, "%s", err.msg);
        ck_assert_uint_ge(kit_proxy_fired(), 2);
        ck_assert_uint_le(kit_proxy_fired(), 8);
        kit_proxy("pass");
        kit_expect(far, "k", soon[i]);
        cm_storage_close(far);
    }
}
END_TEST

START_TEST(one_that_never_will_is_not)
{
    static const struct {
        const char *code;
        cm_status rc;
    } never[] = { { "28P01", CM_E_PERM }, { "28000", CM_E_PERM }, { "3D000", CM_E_INVAL } };

    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
        char mode[32];

        (void)snprintf(mode, sizeof mode, "refuse %s 1000", never[i].code);
        kit_proxy(mode);
        must_fail(cm_storage_store(far, NULL, "k", cm_span_str("x"), &err), never[i].rc);
        ck_assert_msg(strstr(err.msg, never[i].code) != NULL, "%s", err.msg);
        ck_assert_uint_eq(kit_proxy_fired(), 1);
        kit_proxy("pass");
        cm_storage_close(far);
    }
}
END_TEST

/* More connections than the role may have: really. */
START_TEST(a_full_server_is_told_of)
{
    struct cm_storage *second = kit_open("PG_URL", NULL);
    struct cm_op op = kit_within(5000);

    (void)kit_super("alter role cm connection limit 0");
    (void)kit_super("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cm'");
    must_fail(cm_storage_store(second, &op, "k", cm_span_str("x"), &err), CM_E_NET);
    ck_assert_msg(strstr(err.msg, "53300") != NULL, "%s", err.msg);
    (void)kit_super("alter role cm connection limit -1");
    kit_put(second, "k", "y");
    kit_expect(st, "k", "y");
    cm_storage_close(second);
}
END_TEST

/* ------------------------------------------------------------- too slow, too much */

START_TEST(an_answer_that_comes_drop_by_drop_ends_with_the_deadline)
{
    struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
    struct cm_op op;
    int64_t began;

    kit_put(far, "k", "x");
    kit_proxy("drip");
    began = kit_now_ms();
    op = kit_within(400);
    must_fail(cm_storage_store(far, &op, "k", cm_span_str("y"), &err), CM_E_TIMEOUT);
    ck_assert_int_lt(kit_now_ms() - began, 2000);
    ck_assert_uint_gt(kit_proxy_fired(), 3);
    /* The same while connecting. */
    began = kit_now_ms();
    op = kit_within(400);
    must_fail(cm_storage_store(far, &op, "k", cm_span_str("y"), &err), CM_E_TIMEOUT);
    ck_assert_int_lt(kit_now_ms() - began, 2000);
    kit_proxy("pass");
    kit_put(far, "k", "z");
    kit_expect(st, "k", "z");
    cm_storage_close(far);
}
END_TEST

START_TEST(an_answer_without_end_is_cut_off)
{
    struct cm_storage *far = kit_open("PG_PROXY_URL", NULL);
    struct cm_buf got = CM_BUF_INIT(1024 * 1024);
    struct rusage u;
    long before_kib;

    kit_put(far, "k", "x");
    (void)getrusage(RUSAGE_SELF, &u);
    before_kib = u.ru_maxrss;
    kit_proxy("flood");
    must_fail(cm_storage_load(far, NULL, "k", &got, &err), CM_E_LIMIT);
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    ck_assert_msg(strstr(err.msg, "does not end") != NULL, "%s", err.msg);
    (void)getrusage(RUSAGE_SELF, &u);
    ck_assert_int_lt(u.ru_maxrss - before_kib, 512 * 1024);
    /* The same to one who is still writing, and is not listened to. */
    uint8_t *big = calloc(1, CM_STORAGE_VALUE_MAX);
    struct cm_commit_item items[16];
    char keys[16][8];
    ck_assert_ptr_nonnull(big);
    for (int i = 0; i < 16; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "b/%d", i);
        items[i] =
            (struct cm_commit_item){ .key = keys[i], .value = { big, CM_STORAGE_VALUE_MAX } };
    }
    kit_proxy("pass");
    kit_expect(far, "k", "x");
    kit_proxy("flood");
    must_fail(cm_storage_commit(far, NULL, NULL, items, 16, &err), CM_E_LIMIT);
    ck_assert_uint_eq(kit_proxy_fired(), 1);
    kit_expect(st, "b/0", NULL);
    free(big);
    kit_proxy("pass");
    kit_expect(far, "k", "x");
    cm_buf_free(&got);
    cm_storage_close(far);
}
END_TEST

/* ------------------------------------------------------------------ lists */

struct counting {
    unsigned n;
    unsigned at; /* do it then; 0 = never */
    const char *const *commands;
};

static cm_status count(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    struct counting *c = user;
    char want[32];

    (void)snprintf(want, sizeof want, "many/%06u", c->n++);
    if (strcmp(info->key, want) != 0)
        return cm_fail(e, CM_E_INTERNAL, "'%s' where '%s' should be", info->key, want);
    if (c->n == c->at)
        for (size_t i = 0; c->commands[i] != NULL; i++)
            kit_lab(c->commands[i]);
    return CM_OK;
}

/* The server goes away in the middle: the list goes on where it was, or is an error. */
START_TEST(a_list_is_whole_or_an_error)
{
    static const char *const again[] = { "immediate server", "start server", NULL };
    static const char *const away[] = { "immediate server", NULL };
    struct counting c = { .at = 2500, .commands = again };
    char after[32];

    (void)kit_sql("insert into certmagic_data select 'many/' || lpad((i - 1)::text, 6, '0'), 'x' "
                  "from generate_series(1, 5000) i");
    must(cm_storage_list(st, NULL, "many", true, count, &c, &err));
    ck_assert_uint_eq(c.n, 5000);
    c = (struct counting){ .at = 2500, .commands = away };
    must_fail(cm_storage_list(st, NULL, "many", true, count, &c, &err), CM_E_NET);
    ck_assert_uint_lt(c.n, 5000);
    kit_lab("start server");
    (void)snprintf(after, sizeof after, "many/%06u", c.n - 1);
    c.at = 0;
    must(cm_storage_list_after(st, NULL, "many", after, true, count, &c, &err));
    ck_assert_uint_eq(c.n, 5000);
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("codes");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, what_passes_is_tried_again);
    tcase_add_test(c, what_lasts_is_told_at_once);
    tcase_add_test(c, what_never_passes_ends);
    tcase_add_test(c, a_deadlock_is_given_way_to);
    tcase_add_test(c, a_server_that_does_not_let_in_yet_is_asked_again);
    tcase_add_test(c, one_that_never_will_is_not);
    tcase_add_test(c, a_full_server_is_told_of);
    tcase_add_test(c, an_answer_that_comes_drop_by_drop_ends_with_the_deadline);
    tcase_add_test(c, an_answer_without_end_is_cut_off);
    tcase_add_test(c, a_list_is_whole_or_an_error);
    return kit_main("pg-codes", &c, 1);
}
