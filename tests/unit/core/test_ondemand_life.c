/* SPDX-License-Identifier: Apache-2.0 */
#include "ondemand_kit.h"

#include <stdio.h>

/* Names that clients asked for: what storage and the limits of orders say, and what becomes of them
 * with time. */

/* ---- storage and orders ---- */

START_TEST(what_storage_has_is_no_order)
{
    set_up(YES);
    od.orders = 1;
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "there.example", START_S - 3600, 90 * 86400);
    kit_store_pair(&k.storage.base, "ca.test-dir", "too.example", START_S - 3600, 90 * 86400);
    ck_ok(get("there.example"));
    ck_ok(get("too.example"));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert(!kit_has(&k.storage.base, "certmesh/ondemand/orders"));
    kit_stop(&k);
}
END_TEST

/* It is what a name that is managed gets, too, when the clock here is behind. */
START_TEST(what_begins_in_the_future_is_served_as_it_is)
{
    set_up(YES);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "there.example", START_S + 86400, 90 * 86400);
    ck_ok(get("there.example"));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

/* Besides the note of orders it is read as often as for a name that is managed. */
START_TEST(a_miss_reads_storage_no_more_than_it_must)
{
    static const char *const names[] = { "m.example" };
    unsigned managed, asked;

    set_up(YES);
    kit_start(&k);
    ck_ok(get("a.example"));
    ck_ok(get("b.example"));
    managed = atomic_load(&k.storage.loads);
    ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
    managed = atomic_load(&k.storage.loads) - managed;
    asked = atomic_load(&k.storage.loads);
    ck_ok(get("c.example"));
    asked = atomic_load(&k.storage.loads) - asked;
    ck_assert_uint_le(asked, managed);
    kit_stop(&k);
}
END_TEST

START_TEST(orders_are_counted_by_all_who_share_the_storage)
{
    struct kit_issuer *other = NULL;
    struct cm_config *peer, *mine;

    set_up(YES);
    od.orders = 3;
    od.orders_per_client = 2;
    kit_start(&k);
    peer = kit_peer(&k, &other);
    mine = k.cfg;
    ck_ok(get("a.example"));
    k.cfg = peer;
    ck_ok(get("b.example"));
    ck_refused(get("c.example"), CM_E_RATELIMITED); /* one client, two orders */
    ck_assert_int_eq(err.tls_alert, CM_ALERT_INTERNAL);
    ck_assert_int_gt(err.retry_after_s, 10000);
    k.cfg = mine;
    struct cm_pending *p;
    ck_refused(hello_from("203.0.113.1", "d.example", &p), CM_E_AGAIN);
    ck_ok(outcome(p));
    ck_refused(hello_from("203.0.114.1", "e.example", &p), CM_E_AGAIN);
    ck_refused(outcome(p), CM_E_RATELIMITED); /* three in all */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders) + atomic_load(&other->orders), 3);
    ck_ok(get("a.example")); /* what is there is served */
    kit_pass(&k.env, INT64_C(3) * 3600 * CM_NS_PER_S);
    ck_ok(get("c.example"));
    k.cfg = mine;
    cm_config_free(peer);
    kit_stop(&k);
}
END_TEST

START_TEST(orders_below_one_domain)
{
    set_up(YES);
    od.orders_per_domain = 1;
    kit_start(&k);
    ck_ok(get("a.one.example"));
    ck_refused(get("b.one.example"), CM_E_RATELIMITED);
    ck_assert_ptr_nonnull(strstr(err.msg, "one.example"));
    ck_ok(get("b.two.example"));
    kit_stop(&k);
}
END_TEST

/* What a CA counts below: nobody has registered co.uk, so two names below it are two domains. */
START_TEST(registered_domains_by_the_public_suffix_list)
{
    set_up(YES);
    od.orders_per_domain = 1;
    kit_start(&k);
    ck_ok(get("a.one.co.uk"));
    ck_refused(get("b.one.co.uk"), CM_E_RATELIMITED);
#ifdef CM_WITH_PSL
    ck_assert_ptr_nonnull(strstr(err.msg, " one.co.uk"));
    ck_ok(get("two.co.uk"));
    ck_refused(get("c.two.co.uk"), CM_E_RATELIMITED);
#else
    ck_assert_ptr_nonnull(strstr(err.msg, " co.uk"));
    ck_refused(get("two.co.uk"), CM_E_RATELIMITED);
#endif
    kit_stop(&k);
}
END_TEST

START_TEST(storage_that_is_away_means_no_orders)
{
    set_up(YES);
    kit_start(&k);
    ck_ok(get("before.example"));
    atomic_store(&k.storage.fail_status, CM_E_IO);
    atomic_store(&k.storage.fail_loads, -1);
    ck_refused(get("a.example"), CM_E_IO);
    ck_ok(get("before.example"));
    atomic_store(&k.storage.fail_loads, 0);
    atomic_store(&k.storage.fail_locks, -1);
    ck_refused(get("b.example"), CM_E_IO);
    atomic_store(&k.storage.fail_locks, 0);
    k.storage.fail_key = "certmesh/ondemand";
    atomic_store(&k.storage.fail_commits, -1);
    ck_refused(get("c.example"), CM_E_IO);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    atomic_store(&k.storage.fail_commits, 0);
    ck_ok(get("c.example"));
    kit_stop(&k);
}
END_TEST

START_TEST(damaged_note_begins_anew)
{
    set_up(YES);
    od.orders = 1;
    kit_start(&k);
    kit_put(&k.storage.base, "certmesh/ondemand/orders", "{\"what\": 1}\n\n99999999999 0 0\nx");
    ck_ok(get("a.example"));
    ck_refused(get("b.example"), CM_E_RATELIMITED);
    kit_stop(&k);
}
END_TEST

/* ---- life ---- */

START_TEST(a_failure_is_tried_again_when_somebody_asks)
{
    set_up(YES);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_AFTER_CHECKPOINT);
    ck_refused(get("a.example"), CM_E_STATE);
    unsigned asked = atomic_load(&k.issuer->asked);
    ck_assert_uint_eq(atomic_load(&judge.asked), 1);
    ck_refused(get("a.example"), CM_E_STATE); /* not yet */
    ck_assert_uint_eq(atomic_load(&judge.asked), 1);
    kit_pass(&k.env, 7200 * CM_NS_PER_S);
    for (int i = 0; i < 5; i++)
        ck_ok(cm_cache_maintain_now(cm_config_cache(k.cfg), false, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), asked); /* not by itself */
    atomic_store(&k.issuer->step, KIT_GO);
    ck_ok(get("a.example"));
    ck_assert_uint_eq(atomic_load(&judge.asked), 2);
    kit_stop(&k);
}
END_TEST

static void maintain(void)
{
    for (int i = 0; i < 3; i++)
        ck_ok(cm_cache_maintain_now(cm_config_cache(k.cfg), false, &err));
}

/* What was begun for @name is done. */
static bool is_idle(const char *name)
{
    struct cm_name_state st = { .size = (uint32_t)sizeof st };

    ck_ok(cm_name_state(k.cfg, name, &st, &err));
    ck_assert(st.on_demand);
    return !st.busy;
}

START_TEST(renewals_are_decided_and_a_no_lasts_to_the_end)
{
    set_up(YES);
    kit_start(&k);
    k.issuer->lifetime_s = 90 * 86400;
    ck_ok(get("a.example"));
    kit_pass(&k.env, INT64_C(65) * 86400 * CM_NS_PER_S);
    kit_until((maintain(), atomic_load(&k.issuer->orders) == 2)); /* nobody came by */
    kit_until(is_idle("a.example"));
    ck_assert_uint_eq(atomic_load(&judge.renewals), 1);
    atomic_store(&judge.manner, NO);
    kit_pass(&k.env, INT64_C(70) * 86400 * CM_NS_PER_S);
    kit_until((maintain(), atomic_load(&judge.renewals) == 2));
    kit_until(is_idle("a.example"));
    ck_ok(get("a.example"));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    kit_pass(&k.env, INT64_C(30) * 86400 * CM_NS_PER_S);
    kit_until((maintain(), cm_cache_count(cm_config_cache(k.cfg)) == 0));
    ck_refused(get("a.example"), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    atomic_store(&judge.manner, YES);
    kit_pass(&k.env, 86400 * CM_NS_PER_S);
    ck_ok(get("a.example"));
    kit_stop(&k);
}
END_TEST

START_TEST(what_was_evicted_is_loaded_without_a_question)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .capacity = 1 };
    struct cm_cache *cache = NULL;

    set_up(YES);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    kit_start(&k);
    for (int i = 0; i < 4; i++) {
        ck_ok(get("a.example"));
        ck_ok(get("b.example"));
    }
    ck_assert_uint_eq(atomic_load(&judge.asked), 2);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    kit_stop(&k);
    cm_cache_free(cache);
}
END_TEST

START_TEST(eviction_spares_what_the_program_manages)
{
    struct cm_cache_options co = { .size = (uint32_t)sizeof co, .capacity = 4 };
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const managed[] = { "managed.example" };
    const char *const own[] = { "own.example" };
    struct cm_cache *cache = NULL;
    struct cm_pending *p;
    char name[64];

    set_up(YES);
    ck_ok(cm_cache_new(&co, &cache, &err));
    k.opts.cache = cache;
    kit_start(&k);
    kit_make_pair(CM_PK_P256, own, 1, START_S - 3600, 90 * 86400, &chain, &key);
    ck_ok(cm_cache_add_pem(cache, cm_buf_span(&chain), cm_buf_span(&key), NULL, NULL, &err));
    ck_ok(cm_manage(k.cfg, NULL, managed, 1, &err));
    for (int i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "n%d.example", i);
        ck_ok(get(name));
        ck_assert_uint_le(cm_cache_count(cache), 4);
    }
    ck_ok(hello_from("", "managed.example", &p)); /* hits, both */
    ck_ok(hello_from("", "own.example", &p));
    kit_until(is_idle("n7.example"));
    unsigned loads = atomic_load(&k.storage.loads);
    unsigned evicted = 0;
    for (int i = 0; i < 8; i++) {
        (void)snprintf(name, sizeof name, "n%d.example", i);
        cm_status rc = hello_from("", name, &p);
        ck_assert(rc == CM_OK || rc == CM_E_AGAIN);
        evicted += rc == CM_E_AGAIN;
        if (rc == CM_E_AGAIN)
            ck_ok(outcome(p));
    }
    ck_assert_uint_ge(evicted, 6); /* two have room at a time */
    ck_assert_uint_ge(atomic_load(&k.storage.loads), loads + evicted);
    ck_ok(hello_from("", "managed.example", &p));
    ck_ok(hello_from("", "own.example", &p));
    ck_assert_uint_eq(atomic_load(&judge.asked), 8); /* by storage, not by anybody who decides */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 9);
    kit_stop(&k);
    cm_cache_free(cache);
}
END_TEST

static int shop_user;

static cm_status shops(void *user, const char *name, char *ret_subject)
{
    const char *dot = strchr(name, '.');

    ck_assert_ptr_eq(user, &shop_user);
    if (strncmp(name, "error", 5) == 0)
        return CM_E_STATE;
    (void)snprintf(ret_subject, 256, "%s", name);
    if (strstr(name, ".shop.test") != NULL)
        (void)snprintf(ret_subject, 256, "*%s", dot);
    if (strncmp(name, "wrong", 5) == 0)
        (void)snprintf(ret_subject, 256, "*.other.test");
    if (strncmp(name, "junk", 4) == 0)
        (void)snprintf(ret_subject, 256, "a b");
    return CM_OK;
}

START_TEST(hosts_share_the_wildcard_that_the_program_names)
{
    struct cm_pending *p[3];

    set_up(YES);
    od.orders = 2;
    od.subject = shops;
    od.subject_user = &shop_user;
    kit_start(&k);
    atomic_store(&k.issuer->hold, true);
    ck_refused(hello_from("192.0.2.1", "a.shop.test", &p[0]), CM_E_AGAIN);
    kit_until(cm_name_state(k.cfg, "*.shop.test",
                            &(struct cm_name_state){ .size = sizeof(struct cm_name_state) },
                            NULL) == CM_OK);
    ck_refused(hello_from("192.0.2.1", "b.shop.test", &p[1]), CM_E_AGAIN);
    ck_refused(hello_from("192.0.2.1", "alone.test", &p[2]), CM_E_AGAIN);
    kit_until(atomic_load(&judge.asked) == 3); /* each host is decided for itself */
    atomic_store(&k.issuer->hold, false);
    for (int i = 0; i < 3; i++)
        ck_ok(outcome(p[i]));
    ck_ok(get("c.shop.test"));
    ck_assert_uint_eq(atomic_load(&judge.asked), 3); /* which is a hit now */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_refused(get("x.y.shop.test"), CM_E_RATELIMITED); /* another wildcard */
    ck_refused(get("wrong.test"), CM_E_INVAL);
    ck_refused(get("junk.test"), CM_E_INVAL);
    ck_refused(get("error.test"), CM_E_STATE);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    kit_stop(&k);
}
END_TEST

/* A wildcard that is loaded and never ordered stays so, whoever names it. */
START_TEST(a_subject_that_is_only_loaded_is_not_ordered)
{
    struct cm_cert *c = NULL;

    set_up(YES);
    od.subject = shops;
    od.subject_user = &shop_user;
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "*.shop.test", START_S - 3600, 90 * 86400);
    ck_ok(cm_cache_managed(k.cfg, NULL, "*.shop.test", &c, &err));
    ck_ok(get("a.shop.test"));
    ck_ok(cm_storage_remove(&k.storage.base, NULL, "certificates/ca.test-dir/wildcard_.shop.test",
                            &err));
    ck_assert(cm_cache_remove(k.cfg->cache, c));
    cm_cert_unref(c);
    (void)get("b.shop.test"); /* it was served until now, so it is loaded anew */
    ck_assert_int_ne(get("c.shop.test"), CM_OK);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(names_of_a_process_are_bounded)
{
    set_up(YES);
    od.max_names = 1;
    kit_start(&k);
    ck_ok(get("a.example"));
    ck_refused(get("b.example"), CM_E_LIMIT);
    ck_ok(get("a.example"));
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_storage_has_is_no_order,
        what_begins_in_the_future_is_served_as_it_is,
        a_miss_reads_storage_no_more_than_it_must,
        orders_are_counted_by_all_who_share_the_storage,
        orders_below_one_domain,
        registered_domains_by_the_public_suffix_list,
        storage_that_is_away_means_no_orders,
        damaged_note_begins_anew,
        a_failure_is_tried_again_when_somebody_asks,
        renewals_are_decided_and_a_no_lasts_to_the_end,
        what_was_evicted_is_loaded_without_a_question,
        eviction_spares_what_the_program_manages,
        hosts_share_the_wildcard_that_the_program_names,
        a_subject_that_is_only_loaded_is_not_ordered,
        names_of_a_process_are_bounded,
    };

    return kit_run("ondemand_life", tests, CM_ARRAY_LEN(tests));
}
