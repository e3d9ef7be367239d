/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <stdlib.h>
#include <string.h>

/* A standby takes over that has not heard of the last things: what the old server had acknowledged,
 * a lock too, is gone. One test, as there is no way back. */

#define TTL (60 * CM_NS_PER_S)

static bool standby_has(struct cm_storage *standby, const char *key)
{
    struct cm_buf got = CM_BUF_INIT(64);
    cm_status rc = cm_storage_load(standby, NULL, key, &got, &err);

    cm_buf_free(&got);
    return rc == CM_OK;
}

START_TEST(a_lock_that_a_failover_forgot_is_lost)
{
    struct cm_storage *st = kit_open("PG_BOTH_URL", NULL);
    struct cm_storage *standby = kit_open("PG_STANDBY_URL", NULL);
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("late") };
    int64_t until = kit_now_ms() + 15000;
    struct cm_grant kept;
    struct cm_grant lost;
    struct cm_grant next;

    kit_put(st, "k", "old");
    must(cm_storage_try_lock(st, NULL, "kept", TTL, &kept, NULL, &err));
    kit_put(st, "mark", "x");
    while (!standby_has(standby, "mark") && kit_now_ms() < until)
        kit_sleep_ms(10);
    ck_assert(standby_has(standby, "mark"));
    cm_storage_close(standby);
    /* From here on it hears nothing, not even what is on its way. */
    kit_lab("signal standby STOP");
    ck_assert_str_eq(kit_super("select count(pg_terminate_backend(pid)) from pg_stat_replication"),
                     "1");
    must(cm_storage_try_lock(st, NULL, "lost", TTL, &lost, NULL, &err));
    must(cm_storage_commit(st, NULL, &lost, &item, 1, &err));
    kit_lab("kill server");
    kit_lab("signal standby CONT");
    kit_lab("promote");

    kit_expect(st, "k", "old"); /* taken back */
    item.value = cm_span_str("later");
    must_fail(cm_storage_commit(st, NULL, &lost, &item, 1, &err), CM_E_LOCK_LOST);
    must_fail(cm_storage_refresh(st, NULL, &lost, &err), CM_E_LOCK_LOST);
    kit_expect(st, "k", "old");
    must(cm_storage_try_lock(st, NULL, "lost", TTL, &next, NULL, &err));
    ck_assert(next.fence > lost.fence);
    must_fail(cm_storage_unlock(st, NULL, &lost, &err), CM_E_LOCK_LOST);
    must(cm_storage_refresh(st, NULL, &next, &err));
    must(cm_storage_commit(st, NULL, &kept, &item, 1, &err));
    kit_expect(st, "k", "later");
    must(cm_storage_unlock(st, NULL, &kept, &err));
    must(cm_storage_unlock(st, NULL, &next, &err));
    cm_storage_close(st);
    kit_lab("start server"); /* for the teardown */
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("lag");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_test(c, a_lock_that_a_failover_forgot_is_lost);
    return kit_main("pg-lag", &c, 1);
}
