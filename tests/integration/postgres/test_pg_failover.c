/* SPDX-License-Identifier: Apache-2.0 */
#include "pg_kit.h"

#include <stdlib.h>
#include <string.h>

/* A server and its standby. One test, as there is no way back. */

static void await_on_standby(const char *key)
{
    struct cm_storage *standby = kit_open("PG_STANDBY_URL", NULL);
    int64_t until = kit_now_ms() + 10000;
    struct cm_buf got = CM_BUF_INIT(64);

    while (cm_storage_load(standby, NULL, key, &got, &err) != CM_OK && kit_now_ms() < until)
        kit_sleep_ms(10);
    cm_buf_free(&got);
    kit_expect(standby, key, "x");
    /* It can be read and not written. */
    must_fail(cm_storage_store(standby, NULL, key, cm_span_str("y"), &err), CM_E_NET);
    ck_assert_msg(strstr(err.msg, "25006") != NULL, "%s", err.msg);
    cm_storage_close(standby);
}

START_TEST(after_a_promotion_work_goes_on_there)
{
    struct cm_storage *st = kit_open("PG_BOTH_URL", NULL);
    struct cm_commit_item item = { .key = "k", .value = cm_span_str("after") };
    struct cm_grant g;
    struct cm_grant next;
    int64_t began;

    must(cm_storage_try_lock(st, NULL, "l", 60 * CM_NS_PER_S, &g, NULL, &err));
    kit_put(st, "k", "x");
    await_on_standby("k");
    kit_lab("kill server");
    began = kit_now_ms();
    must_fail(cm_storage_store(st, NULL, "k", cm_span_str("lost"), &err), CM_E_NET);
    ck_assert_int_le(kit_now_ms() - began, 3000);
    kit_lab("promote");
    kit_put(st, "k2", "there");
    kit_expect(st, "k", "x");
    /* The lease came along. */
    must_fail(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &next, NULL, &err), CM_E_BUSY);
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_commit(st, NULL, &g, &item, 1, &err));
    kit_expect(st, "k", "after");
    must(cm_storage_unlock(st, NULL, &g, &err));
    must(cm_storage_try_lock(st, NULL, "l", CM_NS_PER_S, &next, NULL, &err));
    ck_assert(next.fence > g.fence);
    must(cm_storage_unlock(st, NULL, &next, &err));
    cm_storage_close(st);
    kit_lab("start server"); /* for the teardown */
}
END_TEST

int main(void)
{
    TCase *c = tcase_create("failover");

    tcase_add_checked_fixture(c, kit_setup, NULL);
    tcase_add_test(c, after_a_promotion_work_goes_on_there);
    return kit_main("pg-failover", &c, 1);
}
