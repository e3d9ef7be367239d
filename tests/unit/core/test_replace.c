/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* What an issuer is told of the certificate that is replaced, and what follows when the CA says
 * that it has been replaced already. */

#define SITE "certificates/ca.test-dir/example.com/example.com"

static struct kit k;
static struct cm_err err;

static void start(void)
{
    kit_init(&k);
    kit_start(&k);
}

static void renew(bool force)
{
    struct cm_obtain_result r = { .size = sizeof r };

    ck_ok(cm_renew(k.cfg, NULL, "example.com", force, &r, &err));
    ck_assert(!r.already_there);
}

START_TEST(issuer_is_told_whom_and_what_it_replaces)
{
    static const char *const names[] = { "example.com" };
    struct cm_cert *old = NULL;

    start();
    k.issuer->issuer_data = "{\"url\":\"https://ca/c\",\"account\":\"https://ca/acct/7\"}";
    ck_ok(cm_obtain(k.cfg, NULL, names, 1, NULL, &err));
    ck_assert(!k.issuer->last.renewal);
    ck_assert(!k.issuer->last.forced);
    ck_assert_str_eq(k.issuer->last_replaces, "");
    ck_assert_str_eq(k.issuer->last_account, "");
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &old, &err));
    kit_pass(&k.env, 70 * 86400 * CM_NS_PER_S);
    renew(false);
    ck_assert(k.issuer->last.renewal);
    ck_assert(!k.issuer->last.forced);
    ck_assert_str_ne(k.issuer->last_replaces, "");
    ck_assert_str_eq(k.issuer->last_account, "https://ca/acct/7");
    ck_assert_int_eq(k.issuer->last.replaces_not_after_s, cm_cert_not_after_s(old));
    renew(true);
    ck_assert(k.issuer->last.renewal);
    ck_assert(k.issuer->last.forced);
    cm_cert_unref(old);
    kit_stop(&k);
}
END_TEST

START_TEST(damaged_metadata_leaves_the_account_unknown)
{
    start();
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 89 * 86400, 90 * 86400);
    kit_put(&k.storage.base, SITE ".json", "{\"issuer_data\":");
    renew(false);
    ck_assert_str_ne(k.issuer->last_replaces, "");
    ck_assert_str_eq(k.issuer->last_account, "");
    kit_stop(&k);
}
END_TEST

/* A peer that our lock did not keep away. */
static void peer_stores(struct kit_issuer *is)
{
    (void)is;
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 10, 90 * 86400);
}

static void peer_stores_what_is_over(struct kit_issuer *is)
{
    (void)is;
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 70 * 86400, 86400);
}

START_TEST(successor_that_a_peer_has_stored_is_taken_and_nothing_is_ordered)
{
    struct cm_obtain_result r = { .size = sizeof r };
    struct cm_cert *stored = NULL;

    start();
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 89 * 86400, 90 * 86400);
    k.issuer->already_replaced = true;
    k.issuer->on_replaced = peer_stores;
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, &r, &err));
    ck_assert(r.already_there);
    ck_assert_int_eq(r.not_after_s, START_S - 10 + 90 * 86400);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 0);
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &stored, &err)); /* the peer's, untouched */
    ck_assert_int_eq(cm_cert_not_after_s(stored), r.not_after_s);
    cm_cert_unref(stored);
    kit_stop(&k);
}
END_TEST

START_TEST(successor_that_nobody_has_is_ordered_again_without_predecessor)
{
    static void (*const ways[])(struct kit_issuer *) = { NULL, peer_stores_what_is_over };

    for (size_t i = 0; i < CM_ARRAY_LEN(ways); i++) {
        start();
        kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 89 * 86400,
                       90 * 86400);
        k.issuer->already_replaced = true;
        k.issuer->on_replaced = ways[i];
        renew(false);
        ck_assert_uint_eq(atomic_load(&k.issuer->asked), 2);
        ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
        ck_assert_str_eq(k.issuer->last_replaces, "");
        kit_stop(&k);
    }
}
END_TEST

static void storage_breaks(struct kit_issuer *is)
{
    (void)is;
    atomic_store(&k.storage.fail_status, CM_E_IO);
    atomic_store(&k.storage.fail_loads, -1);
}

START_TEST(nothing_is_ordered_while_storage_cannot_tell)
{
    start();
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 89 * 86400, 90 * 86400);
    k.issuer->already_replaced = true;
    k.issuer->on_replaced = storage_breaks;
    ck_refused(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err), CM_E_IO);
    ck_assert_uint_eq(atomic_load(&k.issuer->asked), 1);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        issuer_is_told_whom_and_what_it_replaces,
        damaged_metadata_leaves_the_account_unknown,
        successor_that_a_peer_has_stored_is_taken_and_nothing_is_ordered,
        successor_that_nobody_has_is_ordered_again_without_predecessor,
        nothing_is_ordered_while_storage_cannot_tell,
    };

    return kit_run("replace", tests, CM_ARRAY_LEN(tests));
}
