/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"

#include <stdio.h>
#include <string.h>

/* Real servers that refuse, each for its own reason. The server counts what it says, so each test
 * sees that it was refused indeed, and by that name. */

#define TTL (15 * CM_NS_PER_S)

/* How often it has said @code since it was started. */
static unsigned said(const char *code)
{
    const char *info = ask("INFO errorstats")->str;
    char name[48];
    const char *at;

    (void)snprintf(name, sizeof name, "errorstat_%s:count=", code);
    at = strstr(info, name);
    return at != NULL ? (unsigned)strtoul(at + strlen(name), NULL, 10) : 0;
}

/* Nothing that writes goes through, nothing is half done, what only reads does. */
static void takes_no_writes(const char *code, cm_status rc, const char *text)
{
    struct cm_commit_item items[2] = { { .key = "d/1", .value = cm_span_str("new") },
                                       { .key = "n/2", .value = cm_span_str("new") } };
    unsigned before = said(code);
    struct cm_grant g;

    must_fail(cm_storage_store(st, NULL, "d/1", cm_span_str("new"), &err), rc);
    ck_assert_msg(strstr(err.msg, text) != NULL, "%s", err.msg);
    must_fail(cm_storage_commit(st, NULL, NULL, items, 2, &err), rc);
    must_fail(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err), rc);
    must_fail(cm_storage_remove(st, NULL, "d", &err), rc);
    ck_assert_uint_ge(said(code), before + 4);
    ck_assert_str_eq(get("d/1"), "old");
    ck_assert_str_eq(listed(st, "", true), "d/1 ");
}

START_TEST(a_server_that_cannot_save_takes_no_writes)
{
    put("d/1", "old");
    (void)ask("CONFIG SET dir /proc"); /* no file can be made there */
    (void)ask("CONFIG SET save %s", "1000 1");
    (void)ask("BGSAVE");
    for (int i = 0; i < 500 && strstr(ask("INFO persistence")->str, "bgsave_status:err") == NULL;
         i++)
        (void)!cm_op_wait(NULL, 10 * CM_NS_PER_MS, NULL);
    takes_no_writes("MISCONF", CM_E_IO, "disk");
    (void)ask("CONFIG SET dir %s/redis", getenv("LAB_DIR"));
    (void)ask("CONFIG SET save %s", "");
    put("d/1", "new");
}
END_TEST

START_TEST(a_server_without_its_replicas_takes_no_writes)
{
    put("d/1", "old");
    (void)ask("CONFIG SET min-replicas-to-write 1");
    takes_no_writes("NOREPLICAS", CM_E_IO, "replicas");
    (void)ask("CONFIG SET min-replicas-to-write 0");
    put("d/1", "new");
}
END_TEST

/* Waited for until the deadline: its master may come back, or it may become one. */
START_TEST(a_replica_is_not_written_to_and_says_so)
{
    unsigned before = said("READONLY");
    struct cm_op op = { NULL, 0, NULL };

    put("d/1", "old");
    (void)ask("REPLICAOF 127.0.0.1 %s", getenv("FREE_PORT"));
    /* Connections that were there are not asked for their role again: so the script is refused. */
    op = cm_op_within(&op, 700 * CM_NS_PER_MS);
    must_fail(cm_storage_store(st, &op, "d/1", cm_span_str("new"), &err), CM_E_TIMEOUT);
    (void)ask("REPLICAOF NO ONE");
    ck_assert_uint_gt(said("READONLY"), before);
    ck_assert_str_eq(get("d/1"), "old");
    put("d/1", "new");
}
END_TEST

START_TEST(a_replica_with_no_master_does_not_answer)
{
    struct cm_buf got = CM_BUF_INIT(64);
    struct cm_op op = { NULL, 0, NULL };
    unsigned before = said("MASTERDOWN");

    put("d/1", "old");
    (void)ask("CONFIG SET replica-serve-stale-data no");
    (void)ask("REPLICAOF 127.0.0.1 %s", getenv("FREE_PORT"));
    op = cm_op_within(&op, 700 * CM_NS_PER_MS);
    must_fail(cm_storage_load(st, &op, "d/1", &got, &err), CM_E_TIMEOUT);
    ck_assert_msg(strstr(err.msg, "MASTERDOWN") != NULL, "%s", err.msg);
    (void)ask("REPLICAOF NO ONE");
    (void)ask("CONFIG SET replica-serve-stale-data yes");
    ck_assert_uint_gt(said("MASTERDOWN"), before);
    ck_assert_str_eq(get("d/1"), "old");
    cm_buf_free(&got);
}
END_TEST

START_TEST(scripts_that_are_forgotten_are_sent_again_once)
{
    unsigned before;
    struct cm_grant g;

    put("a", "x");
    before = said("NOSCRIPT");
    (void)ask("SCRIPT FLUSH");
    put("a", "y");
    ck_assert_uint_eq(said("NOSCRIPT"), before + 1);
    put("a", "z");
    ck_assert_uint_eq(said("NOSCRIPT"), before + 1);
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    ck_assert_uint_eq(said("NOSCRIPT"), before + 2);
    must(cm_storage_unlock(st, NULL, &g, &err));
}
END_TEST

START_TEST(a_full_server_says_so)
{
    unsigned before = said("OOM");

    put("d/1", "old");
    (void)ask("CONFIG SET maxmemory 1000 maxmemory-policy noeviction");
    must_fail(cm_storage_store(st, NULL, "d/1", cm_span_str("new"), &err), CM_E_IO);
    (void)ask("CONFIG SET maxmemory 0");
    ck_assert_uint_gt(said("OOM"), before);
    ck_assert_str_eq(get("d/1"), "old");
}
END_TEST

/* Whose password was changed: connections that are there go on, new ones are not let in. */
START_TEST(who_is_not_let_in_is_told_why)
{
    unsigned wrongpass = said("WRONGPASS");
    unsigned noauth = said("NOAUTH");
    struct cm_storage *other;
    char url[128];

    (void)snprintf(url, sizeof url, "redis://cm:not-it@127.0.0.1:%s/0", getenv("REDIS_PORT"));
    other = open_at(url, "prefix=x", NULL);
    must_fail(cm_storage_store(other, NULL, "k", cm_span_str("x"), &err), CM_E_PERM);
    ck_assert_msg(strstr(err.msg, "not-it") == NULL, "%s", err.msg);
    ck_assert_uint_gt(said("WRONGPASS"), wrongpass);
    cm_storage_close(other);
    (void)snprintf(url, sizeof url, "redis://127.0.0.1:%s/0", getenv("REDIS_PORT"));
    other = open_at(url, "prefix=x", NULL);
    must_fail(cm_storage_store(other, NULL, "k", cm_span_str("x"), &err), CM_E_PERM);
    ck_assert_uint_gt(said("NOAUTH"), noauth);
    cm_storage_close(other);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_server_that_cannot_save_takes_no_writes,
        a_server_without_its_replicas_takes_no_writes,
        a_replica_is_not_written_to_and_says_so,
        a_replica_with_no_master_does_not_answer,
        scripts_that_are_forgotten_are_sent_again_once,
        a_full_server_says_so,
        who_is_not_let_in_is_told_why,
    };

    return run_with_redis("redis refused", tests, CM_ARRAY_LEN(tests), 60);
}
