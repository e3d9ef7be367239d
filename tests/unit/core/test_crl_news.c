/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_crl.h"
#include "x509.h"

/* Lists that another node has fetched. The table of lists belongs to the process, so the other node
 * is played by whoever stores what it would. */

#define SITE "certificates/ca.test-dir/a.example/a.example"

static struct cm_err err;
static const char *const names[] = { "a.example" };

static void put_pem(const char *suffix, const struct cm_buf *pem)
{
    CM_AUTO_FREE char *path = cm_asprintf(SITE "%s", suffix);

    kit_put(&k.storage.base, path, cm_buf_str(pem));
}

static void store_cert(uint64_t serial)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key_pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const struct mk_leaf what = { .serial = serial,
                                  .name = "a.example",
                                  .crl_url = URL,
                                  .from_s = START_S,
                                  .lifetime_s = 90 * DAY };
    struct cm_key *key = NULL;

    mk_leaf(&ca, &what, &der, &key);
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&der), &chain, &err));
    ck_ok(cm_cert_der_to_pem(cm_buf_span(&ca.der), &chain, &err));
    ck_ok(cm_key_to_pem(key, &key_pem, &err));
    put_pem(".key", &key_pem);
    put_pem(".crt", &chain);
    cm_key_unref(key);
}

/* A list with these is what the CA publishes now; a peer has fetched it. */
static void peer_fetches(const struct mk_crl_entry *entries, size_t n)
{
    struct cm_config *peer = kit_peer(&k, NULL);
    struct cm_lease *lease = NULL;
    char id[CM_CRL_ID_TEXT];

    publish(&ca, entries, n, 7 * DAY);
    stored_as(id);
    ck_ok(cm_lease_acquire(&k.storage.base, NULL, "crl_by_a_peer", NULL, &lease, &err));
    ck_ok(cm_crl_store_save(peer, NULL, lease, id, cm_buf_span(&web.body), now_s(), &err));
    cm_lease_release(lease);
    cm_config_free(peer);
}

static bool is_served(const char *serial)
{
    struct cm_cert *found[CM_CANDIDATES_MAX];
    size_t n = cm_cache_find(k.cfg->cache, names[0], strlen(names[0]), found);
    bool is = false;

    for (size_t i = 0; i < n; i++) {
        is = is || strcmp(cm_cert_serial(found[i]), serial) == 0;
        cm_cert_unref(found[i]);
    }
    return is;
}

static void begin(uint64_t serial)
{
    crl_begin();
    k.storage.has_feed = true;
    store_cert(serial);
    ck_ok(cm_manage(k.cfg, NULL, names, 1, &err));
    kit_until(cm_crl_table_bytes() > 0); /* the empty one */
    for (int i = 0; i < 100; i++)
        kit_nap();
    pass_s(3600);
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
}

START_TEST(list_of_a_peer_is_followed)
{
    static const uint64_t serials[] = { 7, 0x80, 0xfedcba9876543210 };
    static const char *const texts[] = { "07", "80", "fedcba9876543210" };

    for (size_t i = 0; i < CM_ARRAY_LEN(serials); i++) {
        struct mk_crl_entry entry = { serials[i], 4, START_S };

        begin(serials[i]);
        ck_assert(is_served(texts[i]));
        peer_fetches(&entry, 1);
        for (int s = 0; s < 10; s++) {
            for (int n = 0; n < 20; n++)
                kit_nap();
            pass_s(1);
        }
        kit_until(!is_served(texts[i]) && atomic_load(&k.issuer->orders) == 1);
        ck_assert_uint_eq(atomic_load(&web.fetches), 1); /* nobody asked the CA again */
        crl_end();
    }
}
END_TEST

START_TEST(list_that_was_not_told_of_is_found_after_missed_changes)
{
    struct mk_crl_entry entry = { 7, 4, START_S };

    begin(7);
    atomic_store(&k.storage.quiet, true);
    peer_fetches(&entry, 1);
    pass_s(30);
    for (int n = 0; n < 100; n++)
        kit_nap();
    ck_assert(is_served("07"));
    kit_tell(&k.storage, CM_CHANGE_MISSED, NULL);
    for (int s = 0; s < 30; s++) {
        for (int n = 0; n < 10; n++)
            kit_nap();
        pass_s(1);
    }
    kit_until(!is_served("07") && atomic_load(&k.issuer->orders) == 1);
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    crl_end();
}
END_TEST

/* Of others, or of nobody: no name is looked at, and what is not watched is not even loaded. */
START_TEST(lists_without_our_names_wake_nobody)
{
    static const char *const keys[] = { CM_CRL_DIR "/x/0", CM_CRL_DIR "/", CM_CRL_DIR "/0",
                                        CM_CRL_DIR
                                        "/00112233445566778899aabbccddeeff00112233445566778899"
                                        "aabbccddeeff/0" };
    struct mk_crl_entry entry = { 8, 4, START_S };

    begin(7);
    unsigned before = atomic_load(&k.storage.loads);
    for (size_t i = 0; i < CM_ARRAY_LEN(keys); i++)
        kit_tell(&k.storage, CM_CHANGE_VALUE, keys[i]);
    for (int n = 0; n < 50; n++)
        kit_nap();
    pass_s(30);
    for (int n = 0; n < 50; n++)
        kit_nap();
    ck_assert_uint_eq(atomic_load(&k.storage.loads), before);
    peer_fetches(&entry, 1);
    unsigned after = atomic_load(&k.storage.loads);
    for (int s = 0; s < 10; s++) {
        for (int n = 0; n < 20; n++)
            kit_nap();
        pass_s(1);
    }
    ck_assert_uint_eq(atomic_load(&k.storage.loads) - after, 1); /* the list */
    ck_assert(is_served("07"));
    crl_end();
}
END_TEST

/* Another process than the server's, which asks nobody. */
START_TEST(status_knows_what_the_fleet_knows_by_a_list)
{
    struct mk_crl_entry entry = { 7, 4, START_S };
    struct cm_life_status st = { .size = (uint32_t)sizeof st };

    begin(8);
    cm_cache_stop(k.cfg->cache);
    peer_fetches(&entry, 1);
    for (int revoked = 0; revoked <= 1; revoked++) {
        if (revoked)
            store_cert(7);
        cm_crl_table_clear();
        k.opts.disable_crl = revoked; /* whoever looks need not watch */
        struct cm_config *looks = kit_peer(&k, NULL);
        ck_ok(cm_status_of(looks, NULL, "a.example", &st, &err));
        ck_assert_int_eq(st.state, revoked ? CM_LIFE_REVOKED : CM_LIFE_GOOD);
        cm_config_free(looks);
    }
    ck_assert_uint_eq(atomic_load(&web.fetches), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    crl_end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        list_of_a_peer_is_followed,
        list_that_was_not_told_of_is_found_after_missed_changes,
        lists_without_our_names_wake_nobody,
        status_knows_what_the_fleet_knows_by_a_list,
    };

    return kit_run("crl_news", tests, CM_ARRAY_LEN(tests));
}
