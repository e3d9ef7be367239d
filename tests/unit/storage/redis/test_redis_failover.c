/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"
#include "redis_kit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A master dies, and who takes its place has not heard of the last things. Redis acknowledges
 * before its replicas have anything, so a lock can be lost so; its holder must notice. */

#define TTL (60 * CM_NS_PER_S)

static void open_sentinel(void)
{
    char parameters[64];

    (void)snprintf(prefix, sizeof prefix, "p%ld", (long)getpid());
    (void)snprintf(parameters, sizeof parameters, "prefix=%s", prefix);
    st = open_with("REDIS_URL", parameters);
}

static void close_sentinel(void)
{
    cm_storage_close(st);
}

#define lab(...) ck_assert_int_eq(redis_kit_run(__VA_ARGS__, (char *)NULL), 0)

START_TEST(a_lock_that_a_failover_forgot_is_lost)
{
    struct cm_op op = { NULL, 0, NULL };
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("late") };
    struct cm_grant kept;
    struct cm_grant lost;
    struct cm_grant next;

    put("k", "old");
    must(cm_storage_try_lock(st, NULL, "kept", TTL, &kept, NULL, &err));
    lab("cli", "master", "WAIT", "1", "5000");
    /* From here on the replica hears nothing, not even what is on its way. */
    lab("signal", "replica", "STOP");
    lab("cli", "master", "CLIENT", "KILL", "TYPE", "replica");
    must(cm_storage_try_lock(st, NULL, "lost", TTL, &lost, NULL, &err));
    must(cm_storage_commit(st, NULL, &lost, &item, 1, &err));
    lab("signal", "master", "KILL");
    lab("signal", "replica", "CONT");

    op = cm_op_within(&op, 40 * CM_NS_PER_S);
    must_fail(cm_storage_commit(st, &op, &lost, &item, 1, &err), CM_E_LOCK_LOST);
    ck_assert_str_eq(get("k"), "old"); /* Redis has taken back what it acknowledged */
    must_fail(cm_storage_refresh(st, &op, &lost, &err), CM_E_LOCK_LOST);
    must(cm_storage_try_lock(st, &op, "lost", TTL, &next, NULL, &err));
    ck_assert(next.fence > lost.fence);
    item.value = cm_span_str("the next one's");
    must(cm_storage_commit(st, &op, &next, &item, 1, &err));
    item.value = cm_span_str("late");
    must_fail(cm_storage_commit(st, &op, &lost, &item, 1, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_unlock(st, &op, &lost, &err), CM_E_LOCK_LOST);
    ck_assert_str_eq(get("k"), "the next one's");
    must(cm_storage_refresh(st, &op, &next, &err));
    must(cm_storage_commit(st, &op, &kept, &item, 1, &err));
    ck_assert_str_eq(get("k"), "late");
    must(cm_storage_unlock(st, &op, &kept, &err));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { a_lock_that_a_failover_forgot_is_lost };

    return run_with_redis_kind("sentinel", open_sentinel, close_sentinel, "redis failover", tests,
                               CM_ARRAY_LEN(tests), 90);
}
