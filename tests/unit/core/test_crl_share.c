/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_crl.h"
#include "x509.h"

static struct cm_err err;

START_TEST(fleet_fetches_once)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    publish(&ca, &entry, 1, 7 * DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    for (int i = 0; i < 3; i++) {
        struct cm_config *peer = kit_peer(&k, NULL);

        cm_crl_table_clear(); /* another process */
        ck_ok(tend_by(peer, cert, i % 2 == 0, &again, &rv, &err));
        ck_assert(rv.revoked);
        ck_assert_int_gt(again, now_s() + CM_CRL_REFRESH_MIN_S - 1);
        cm_config_free(peer);
    }
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    /* Whoever is first to want a newer one gets it; the others find it. */
    pass_s(2 * DAY);
    publish(&ca, NULL, 0, 7 * DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(!rv.revoked);
    ck_assert_uint_eq(atomic_load(&web.fetches), 2);
    cm_crl_table_clear();
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(!rv.revoked);
    ck_assert_uint_eq(atomic_load(&web.fetches), 2);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(while_a_peer_fetches_nobody_else_does)
{
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    char name[CM_LOCK_NAME_MAX + 1];
    char text[CM_CRL_ID_TEXT];
    struct cm_lease *lease = NULL;
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    stored_as(text);
    (void)snprintf(name, sizeof name, "crl_%s", text);
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, name, &lo, &lease, &err));
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert_uint_eq(atomic_load(&web.fetches), 0);
    ck_assert_int_gt(again, now_s());
    ck_assert_int_le(again, now_s() + 10);
    cm_lease_release(lease);
    pass_s(10);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

static void *tend_in_thread(void *user)
{
    struct cm_err own = CM_ERR_INIT;
    struct cm_revocation rv;
    int64_t again;

    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(cm_crl_tend(k.cfg, NULL, user, true, &again, &rv, &own), CM_OK);
    return NULL;
}

START_TEST(threads_share_one_fetch)
{
    pthread_t threads[4];

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    atomic_store(&web.hold, true);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, tend_in_thread, cert), 0);
    kit_until(atomic_load(&web.fetches) == 1);
    atomic_store(&web.hold, false);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), 1); /* nor did another try to */
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(list_that_expires_while_somebody_fetches_says_nothing)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    struct cm_revocation rv;
    pthread_t thread;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    publish(&ca, &entry, 1, DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    pass_s(DAY - 1);
    atomic_store(&web.hold, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, tend_in_thread, cert), 0);
    kit_until(atomic_load(&web.fetches) == 2);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    pass_s(1);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(!rv.revoked);
    publish(&ca, NULL, 0, DAY);
    atomic_store(&web.hold, false);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(big_list_is_stored_in_pieces_and_a_shorter_one_leaves_none_behind)
{
    struct mk_crl spec = { .n_counted = 150000, .this_s = START_S, .next_s = START_S + DAY };
    CM_AUTO_BUF struct cm_buf back = CM_BUF_INIT(CM_CRL_MAX);
    char text[CM_CRL_ID_TEXT];
    struct cm_revocation rv;
    int64_t fetched = 0;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(UINT64_C(1) << 62 | 200, URL, NULL);
    mk_crl(&ca, &spec, &web.body);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    size_t pieces = (web.body.len + CM_CRL_PIECE - 1) / CM_CRL_PIECE;
    ck_assert_uint_ge(pieces, 4);
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_CRL_DIR), pieces);
    stored_as(text);
    ck_ok(cm_crl_store_load(k.cfg, NULL, text, &back, &fetched, &err));
    ck_assert_int_eq(fetched, START_S);
    ck_assert_uint_eq(back.len, web.body.len);
    ck_assert_mem_eq(back.data, web.body.data, back.len);
    cm_crl_table_clear();
    ck_ok(tend_by(k.cfg, cert, false, &again, &rv, &err)); /* by another process, from storage */
    ck_assert(rv.revoked);
    pass_s(DAY);
    publish(&ca, NULL, 0, DAY);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(!rv.revoked);
    ck_assert_uint_eq(kit_count(&k.storage.base, CM_CRL_DIR), 1);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(what_lies_in_storage_is_not_believed)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    CM_AUTO_FREE char *path = NULL;
    char text[CM_CRL_ID_TEXT];
    struct mk_ca impostor;
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    stored_as(text);
    path = cm_asprintf(CM_CRL_DIR "/%s/0", text);
    static const char *const odd[] = { "", "certmesh-crl 1 ", "certmesh-crl 1 1 99999999999 x",
                                       "certmesh-crl 2 1 1 x", "rubbish" };
    for (size_t i = 0; i < CM_ARRAY_LEN(odd); i++) {
        kit_put(&k.storage.base, path, odd[i]);
        cm_crl_table_clear();
        ck_ok(tend_by(k.cfg, cert, false, &again, &rv, &err));
        ck_assert(!rv.revoked);
        ck_assert_int_eq(again, now_s());
    }
    ck_assert_uint_eq(kit_logged("crl_stored_unusable"), CM_ARRAY_LEN(odd));
    /* well-formed, but of somebody who may not */
    mk_ca_make(&impostor, "Test CA", START_S, CM_KU_KEY_CERT_SIGN | CM_KU_CRL_SIGN);
    publish(&impostor, &entry, 1, DAY);
    struct cm_lease_options lo = CM_LEASE_OPTIONS_INIT;
    struct cm_lease *lease = NULL;
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "x", &lo, &lease, &err));
    ck_ok(cm_crl_store_save(k.cfg, NULL, lease, text, cm_buf_span(&web.body), now_s(), &err));
    cm_lease_release(lease);
    cm_crl_table_clear();
    ck_ok(tend_by(k.cfg, cert, false, &again, &rv, &err));
    ck_assert(!rv.revoked);
    ck_assert_int_eq(again, now_s());
    mk_ca_free(&impostor);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(storage_that_fails_does_not_keep_the_ca_from_being_asked)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    struct cm_revocation rv;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    publish(&ca, &entry, 1, DAY);
    atomic_store(&k.storage.fail_loads, -1);
    atomic_store(&k.storage.fail_locks, -1);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    cm_crl_table_clear();
    atomic_store(&k.storage.fail_loads, 0);
    atomic_store(&k.storage.fail_locks, 0);
    atomic_store(&k.storage.fail_commits, -1);
    ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
    ck_assert(rv.revoked);
    ck_assert_uint_eq(kit_logged("crl_not_stored"), 1);
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

START_TEST(table_is_bounded)
{
    struct mk_crl spec = { .n_counted = 1000000, .this_s = START_S, .next_s = START_S + DAY };
    struct cm_revocation rv;
    int64_t again;
    char url[64];

    crl_begin();
    mk_crl(&ca, &spec, &web.body);
    for (int i = 0; i < 6; i++) { /* 13 MB each */
        (void)snprintf(url, sizeof url, "http://crl.example/big/%d", i);
        struct cm_cert *cert = cert_of(UINT64_C(1) << 62 | 2, url, NULL);
        ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
        ck_assert(rv.revoked);
        ck_assert_uint_le(cm_crl_table_bytes(), CM_CRL_TABLE_BYTES);
        pass_s(1);
        cm_cert_unref(cert);
    }
    ck_assert_uint_gt(cm_crl_table_bytes(), CM_CRL_TABLE_BYTES / 2);
    unsigned fetches = atomic_load(&web.fetches);
    struct cm_cert *first = cert_of(UINT64_C(1) << 62 | 2, "http://crl.example/big/0", NULL);
    ck_ok(tend_by(k.cfg, first, true, &again, &rv, &err)); /* forgotten here, but not in storage */
    ck_assert(rv.revoked);
    ck_assert_uint_eq(atomic_load(&web.fetches), fetches);
    cm_cert_unref(first);
    publish(&ca, NULL, 0, DAY);
    for (unsigned i = 0; i < CM_CRL_TABLE_LISTS + 10; i++) {
        (void)snprintf(url, sizeof url, "http://crl.example/%u", i);
        struct cm_cert *cert = cert_of(8, url, NULL);
        ck_ok(tend_by(k.cfg, cert, true, &again, &rv, &err));
        cm_cert_unref(cert);
    }
    ck_assert_uint_le(cm_crl_table_lists(), CM_CRL_TABLE_LISTS);
    crl_end();
}
END_TEST

START_TEST(without_memory_nothing_is_said_and_it_is_tried_again)
{
    struct mk_crl_entry entry = { 7, 1, START_S };
    struct cm_revocation rv;
    unsigned said = 0;
    int64_t again;

    crl_begin();
    struct cm_cert *cert = cert_of(7, URL, NULL);
    publish(&ca, &entry, 1, DAY);
    for (uint64_t n = 1; said < 3; n++) { /* three in a row without a failure: that was the last */
        ck_assert_uint_lt(n, 1000);
        cm_crl_table_clear();
        ck_ok(cm_storage_remove(&k.storage.base, NULL, CM_CRL_DIR, &err));
        (void)cm_alloc_fail_at(n);
        cm_status rc = tend_by(k.cfg, cert, true, &again, &rv, &err);
        (void)cm_alloc_fail_at(0);
        said =
            rc == CM_OK && rv.revoked && kit_count(&k.storage.base, CM_CRL_DIR) == 1 ? said + 1 : 0;
        ck_assert_msg(rc == CM_OK || (rc == CM_E_NOMEM && !rv.revoked), "%d", (int)rc);
        ck_assert_int_gt(again, now_s());
        ck_assert_int_le(again, now_s() + DAY);
    }
    cm_cert_unref(cert);
    crl_end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        fleet_fetches_once,
        while_a_peer_fetches_nobody_else_does,
        threads_share_one_fetch,
        list_that_expires_while_somebody_fetches_says_nothing,
        big_list_is_stored_in_pieces_and_a_shorter_one_leaves_none_behind,
        what_lies_in_storage_is_not_believed,
        storage_that_fails_does_not_keep_the_ca_from_being_asked,
        table_is_bounded,
        without_memory_nothing_is_said_and_it_is_tried_again,
    };

    return kit_run("crl_share", tests, CM_ARRAY_LEN(tests));
}
