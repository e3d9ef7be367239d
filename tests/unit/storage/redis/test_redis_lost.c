/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_relay.h"

#include "base.h"

/* Replies that get lost: between the backend and the server stands a relay that passes a script on,
 * or does not, and then closes the connection instead of answering. */

#define TTL (15 * CM_NS_PER_S)

static void arm(enum relay_cut how, int times, void (*between)(void))
{
    relay_arm("EVAL", 0, how, times, between);
}

START_TEST(a_store_whose_reply_is_lost_is_done_once)
{
    struct cm_storage *s = relayed();

    arm(RELAY_AFTER, 1, NULL);
    must(cm_storage_store(s, NULL, "d/v", cm_span_str("one"), &err));
    relay_happened(1);
    ck_assert_str_eq(get("d/v"), "one");
    arm(RELAY_BEFORE, 1, NULL);
    must(cm_storage_store(s, NULL, "d/v", cm_span_str("two"), &err));
    relay_happened(1);
    ck_assert_str_eq(get("d/v"), "two");
    arm(RELAY_AFTER, 1, NULL);
    must(cm_storage_remove(s, NULL, "d", &err));
    ck_assert_ptr_null(get("d/v"));
    cm_storage_close(s);
}
END_TEST

START_TEST(one_that_never_arrives_is_an_error)
{
    struct cm_storage *s = relayed();

    put("d/v", "old");
    arm(RELAY_BEFORE, 100, NULL);
    must_fail(cm_storage_store(s, NULL, "d/v", cm_span_str("new"), &err), CM_E_NET);
    arm(RELAY_PASS, 0, NULL);
    ck_assert_str_eq(get("d/v"), "old");
    cm_storage_close(s);
}
END_TEST

START_TEST(a_lock_whose_grant_is_lost_is_got)
{
    struct cm_storage *s = relayed();
    struct cm_grant g;
    struct cm_grant other;

    arm(RELAY_AFTER, 1, NULL);
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    relay_happened(1);
    must_fail(cm_storage_try_lock(st, NULL, "l", TTL, &other, NULL, &err), CM_E_BUSY);
    arm(RELAY_AFTER, 1, NULL);
    must(cm_storage_refresh(s, NULL, &g, &err));
    relay_happened(1);
    arm(RELAY_AFTER, 1, NULL);
    must(cm_storage_unlock(s, NULL, &g, &err));
    relay_happened(1);
    must(cm_storage_try_lock(st, NULL, "l", TTL, &other, NULL, &err));
    ck_assert(other.fence > g.fence);
    must(cm_storage_unlock(st, NULL, &other, &err));
    arm(RELAY_BEFORE, 1, NULL);
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    arm(RELAY_BEFORE, 1, NULL);
    must(cm_storage_unlock(s, NULL, &g, &err));
    cm_storage_close(s);
}
END_TEST

static struct cm_commit_item items[2];

static void steal(void)
{
    redisContext *c = redisConnectUnix(getenv("REDIS_SOCKET"));

    freeReplyObject(redisCommand(c, "AUTH admin adminpw"));
    freeReplyObject(redisCommand(c, "SET %s/locks/l DDDDDDDDDDDDDDDDDDDDDD PX 60000", prefix));
    redisFree(c);
}

START_TEST(a_commit_whose_reply_is_lost_is_looked_for)
{
    struct cm_storage *s = relayed();
    struct cm_grant g;

    items[0] = (struct cm_commit_item){ .key = "c/1", .value = cm_span_str("one") };
    items[1] = (struct cm_commit_item){ .key = "c/old", .remove = true };
    put("c/old", "x");
    must(cm_storage_try_lock(s, NULL, "l", TTL, &g, NULL, &err));
    arm(RELAY_AFTER, 1, NULL);
    must(cm_storage_commit(s, NULL, &g, items, 2, &err));
    relay_happened(1);
    ck_assert_str_eq(get("c/1"), "one");
    ck_assert_ptr_null(get("c/old"));
    /* It is done, though the lock went to another before anybody knew. */
    items[0].value = cm_span_str("two");
    arm(RELAY_AFTER, 1, steal);
    must(cm_storage_commit(s, NULL, &g, items, 1, &err));
    relay_happened(1);
    ck_assert_str_eq(get("c/1"), "two");
    /* Nor is it done when that happens first. */
    items[0].value = cm_span_str("three");
    arm(RELAY_AFTER, 1, NULL);
    must_fail(cm_storage_commit(s, NULL, &g, items, 1, &err), CM_E_LOCK_LOST);
    ck_assert_str_eq(get("c/1"), "two");
    cm_storage_close(s);
}
END_TEST

/* What another has stored meanwhile is not ours: it is told apart, and ours comes last. */
static void overwrite(void)
{
    redisContext *c = redisConnectUnix(getenv("REDIS_SOCKET"));

    freeReplyObject(redisCommand(c, "AUTH admin adminpw"));
    freeReplyObject(redisCommand(c, "SET %s/d/v %s", prefix, "{\"value\":\"eA==\"}"));
    redisFree(c);
}

START_TEST(a_value_of_another_is_not_taken_for_ours)
{
    struct cm_storage *s = relayed();

    arm(RELAY_AFTER, 1, overwrite);
    must(cm_storage_store(s, NULL, "d/v", cm_span_str("ours"), &err));
    relay_happened(1);
    ck_assert_str_eq(get("d/v"), "ours");
    cm_storage_close(s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_store_whose_reply_is_lost_is_done_once, one_that_never_arrives_is_an_error,
        a_lock_whose_grant_is_lost_is_got,        a_commit_whose_reply_is_lost_is_looked_for,
        a_value_of_another_is_not_taken_for_ours,
    };

    return run_with_redis("redis lost", tests, CM_ARRAY_LEN(tests), 60);
}
