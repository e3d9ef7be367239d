/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_relay.h"

#include "base.h"
#include "redis_kit.h"

#include <stdio.h>
#include <string.h>

/* The server goes away, or another process takes its place, while a list is read. The server keeps
 * what it has on disk. */

#define MEMBERS 20000u
#define TTL     (15 * CM_NS_PER_S)

static void fill(void)
{
    size_t waiting = 0;
    redisReply *r = NULL;

    peer_index_add(prefix, "many/000000", 1);
    for (unsigned i = 0; i < MEMBERS; i++) {
        (void)redisAppendCommand(raw, "ZADD %s/many 1 %06u", prefix, i);
        (void)redisAppendCommand(raw, "SET %s/many/%06u %s", prefix, i,
                                 "{\"value\":\"eA==\",\"modified\":\"2026-08-29T18:20:01Z\","
                                 "\"size\":1,\"compression\":0,\"encryption\":0}");
        for (waiting += 2; waiting >= 1000 || (i == MEMBERS - 1 && waiting > 0); waiting--) {
            ck_assert_int_eq(redisGetReply(raw, (void **)&r), REDIS_OK);
            freeReplyObject(r);
        }
    }
}

static cm_status count(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    unsigned *n = user;
    char want[32];

    (void)snprintf(want, sizeof want, "many/%06u", *n);
    if (strcmp(info->key, want) != 0)
        return cm_fail(e, CM_E_INTERNAL, "'%s' where '%s' should be", info->key, want);
    ++*n;
    return CM_OK;
}

static void start_anew(void)
{
    ck_assert_int_eq(redis_kit_run("stop", "redis", (char *)NULL), 0);
    ck_assert_int_eq(redis_kit_run("start", "redis", (char *)NULL), 0);
    ck_assert_int_eq(redis_kit_run("await", "redis", (char *)NULL), 0);
}

static void away(void)
{
    ck_assert_int_eq(redis_kit_run("stop", "redis", (char *)NULL), 0);
}

/* The cursor of a scan is of no use to a server that was started anew: it has mixed the names in
 * another way. At the beginning, in the middle, near the end. */
START_TEST(a_list_is_whole_although_the_server_is_started_anew)
{
    struct cm_storage *s = relayed();

    fill();
    for (int at = 1; at < 20; at += 8) {
        unsigned n = 0;

        relay_arm("ZSCAN", at, RELAY_AFTER, 1, start_anew);
        must(cm_storage_list(s, NULL, "many", true, count, &n, &err));
        relay_happened(1);
        ck_assert_uint_eq(n, MEMBERS);
    }
    cm_storage_close(s);
}
END_TEST

/* While the values are looked at it does not matter who answers. */
START_TEST(nor_is_a_value_left_out)
{
    struct cm_storage *s = relayed();
    unsigned n = 0;

    fill();
    relay_arm("GETRANGE", 50, RELAY_AFTER, 1, start_anew);
    must(cm_storage_list(s, NULL, "many", true, count, &n, &err));
    relay_happened(1);
    ck_assert_uint_eq(n, MEMBERS);
    cm_storage_close(s);
}
END_TEST

START_TEST(a_list_that_breaks_off_is_an_error_and_goes_on_later)
{
    struct cm_storage *s = relayed();
    unsigned n = 0;
    char after[32];

    fill();
    relay_arm("GETRANGE", 50, RELAY_AFTER, 1, away);
    cm_status rc = cm_storage_list(s, NULL, "many", true, count, &n, &err);
    relay_happened(1);
    ck_assert_msg(rc == CM_E_NET, "%s: %u names came", cm_status_name(rc), n);
    ck_assert(n > 0 && n < MEMBERS);
    ck_assert_int_eq(redis_kit_run("start", "redis", (char *)NULL), 0);
    ck_assert_int_eq(redis_kit_run("await", "redis", (char *)NULL), 0);
    (void)snprintf(after, sizeof after, "many/%06u", n - 1);
    must(cm_storage_list_after(s, NULL, "many", after, true, count, &n, &err));
    ck_assert_uint_eq(n, MEMBERS);
    cm_storage_close(s);
}
END_TEST

/* Scripts' changes are on disk as transactions, and those are read back by the rights of the user
 * "default", also where nobody can log in as that: docs/storage-redis.md says which it needs. */
START_TEST(what_was_stored_is_there_after_a_start)
{
    struct cm_commit_item items[2] = { { .key = "c/1", .value = cm_span_str("one") },
                                       { .key = "c/2", .value = cm_span_str("two") } };
    struct cm_grant g;

    put("a/b", "x");
    must(cm_storage_try_lock(st, NULL, "l", TTL, &g, NULL, &err));
    must(cm_storage_commit(st, NULL, &g, items, 2, &err));
    start_anew();
    ck_assert_str_eq(listed(st, "", true), "a/b c/1 c/2 ");
    ck_assert_str_eq(get("c/2"), "two");
    must(cm_storage_commit(st, NULL, &g, items, 2, &err));
    must(cm_storage_unlock(st, NULL, &g, &err));
}
END_TEST

/* A firewall has forgotten the connection: each way is silence. It costs the deadline, once. */
START_TEST(a_connection_that_went_silent_is_not_used_again)
{
    struct cm_storage *s = relayed();
    const struct cm_env *env = cm_env_system();
    struct cm_op op = { NULL, 0, NULL };
    int64_t began_ns = env->mono_ns(env);
    struct cm_grant g;

    relay_arm("EVAL", 0, RELAY_HOLE, 1, NULL);
    op = cm_op_within(&op, 400 * CM_NS_PER_MS);
    must_fail(cm_storage_store(s, &op, "k", cm_span_str("never"), &err), CM_E_TIMEOUT);
    relay_happened(1);
    ck_assert_int_lt(env->mono_ns(env) - began_ns, 3 * CM_NS_PER_S);
    ck_assert_ptr_null(get("k"));
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    relay_arm("EVAL", 0, RELAY_HOLE, 1, NULL);
    op = cm_op_within(NULL, 400 * CM_NS_PER_MS);
    must_fail(cm_storage_refresh(s, &op, &g, &err), CM_E_TIMEOUT);
    relay_happened(1);
    must(cm_storage_refresh(s, NULL, &g, &err));
    must(cm_storage_store(s, NULL, "k", cm_span_str("x"), &err));
    ck_assert_str_eq(get("k"), "x");
    must(cm_storage_unlock(s, NULL, &g, &err));
    cm_storage_close(s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_list_is_whole_although_the_server_is_started_anew,
        nor_is_a_value_left_out,
        a_list_that_breaks_off_is_an_error_and_goes_on_later,
        what_was_stored_is_there_after_a_start,
        a_connection_that_went_silent_is_not_used_again,
    };

    (void)setenv("LAB_AOF", "everysec", 1);
    return run_with_redis("redis restart", tests, CM_ARRAY_LEN(tests), 90);
}
