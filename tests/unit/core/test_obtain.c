/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#define DIR  "certificates/ca.test-dir/example.com"
#define SITE DIR "/example.com"

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

static void obtain_ok(struct cm_config *cfg, struct cm_obtain_result *ret)
{
    memset(ret, 0, sizeof *ret);
    ck_ok(cm_obtain(cfg, NULL, example, 1, ret, &err));
}

START_TEST(obtain_stores_key_chain_and_metadata)
{
    struct cm_obtain_result r;
    struct cm_cert *cert = NULL;

    kit_init(&k);
    kit_start(&k);
    k.issuer->issuer_data = "{\"url\":\"https://ca/x\"}";
    obtain_ok(k.cfg, &r);
    ck_assert(!r.already_there);
    ck_assert_str_eq(r.issuer_key, "ca.test-dir");
    ck_assert(kit_has(&k.storage.base, SITE ".key"));
    ck_assert(kit_has(&k.storage.base, SITE ".crt"));
    CM_AUTO_FREE char *json = kit_get(&k.storage.base, SITE ".json");
    ck_assert_str_eq(json, "{\n\t\"sans\": [\n\t\t\"example.com\"\n\t],\n\t\"issuer_data\": {\n"
                           "\t\t\"url\": \"https://ca/x\"\n\t}\n}");
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 0);
    ck_ok(cm_load_stored(k.cfg, NULL, "EXAMPLE.com", &cert, &err));
    ck_assert_str_eq(cm_cert_name(cert, 0), "example.com");
    ck_assert(r.not_after_s == cm_cert_not_after_s(cert));
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(k.cfg)), 0); /* into storage only */
    cm_cert_unref(cert);
    kit_stop(&k);
}
END_TEST

START_TEST(obtain_again_orders_nothing)
{
    struct cm_obtain_result r;

    kit_init(&k);
    kit_start(&k);
    obtain_ok(k.cfg, &r);
    unsigned locks = atomic_load(&k.storage.locks);
    obtain_ok(k.cfg, &r);
    ck_assert(r.already_there);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), locks); /* not even the lock is taken */
    kit_stop(&k);
}
END_TEST

START_TEST(expired_certificate_is_obtained_anew)
{
    struct cm_obtain_result r;

    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 20 * 86400, 86400);
    obtain_ok(k.cfg, &r);
    ck_assert(!r.already_there);
    ck_assert_int_gt(r.not_after_s, START_S);
    kit_stop(&k);
}
END_TEST

START_TEST(several_names_become_one_certificate)
{
    const char *const names[] = { "b.example", "a.example", "*.a.example" };
    struct cm_cert *cert = NULL;

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_obtain(k.cfg, NULL, names, 3, NULL, &err));
    ck_assert(kit_has(&k.storage.base, "certificates/ca.test-dir/wildcard_.a.examplea.exampleb."
                                       "example/wildcard_.a.examplea.exampleb.example.crt"));
    /* found again by its names in any order, and by its directory */
    ck_ok(cm_load_stored(k.cfg, NULL, "a.example,b.example,*.a.example", &cert, &err));
    ck_assert_uint_eq(cm_cert_name_count(cert), 3);
    cm_cert_unref(cert);
    ck_ok(cm_renew(k.cfg, NULL, "wildcard_.a.examplea.exampleb.example", true, NULL, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    kit_stop(&k);
}
END_TEST

/* Seconds, so only with CM_FULL=1. */
START_TEST(largest_keys_are_made)
{
    const char *const names[] = { "a.example" };
    const char *full = getenv("CM_FULL");
    struct cm_cert *cert = NULL;

    kit_init(&k);
    k.opts.key_type = CM_KEY_RSA8192;
    kit_start(&k); /* it can be asked for */
    if (full != NULL && strcmp(full, "1") == 0) {
        ck_ok(cm_obtain(k.cfg, NULL, names, 1, NULL, &err));
        ck_ok(cm_load_stored(k.cfg, NULL, "a.example", &cert, &err));
        ck_assert_int_eq(cm_cert_key_type(cert), CM_KEY_RSA8192);
        cm_cert_unref(cert);
    }
    kit_stop(&k);
}
END_TEST

START_TEST(refused_names_cause_no_input_or_output)
{
    kit_init(&k);
    kit_start(&k);
    k.issuer->refuse = "example";
    unsigned loads = atomic_load(&k.storage.loads);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_POLICY);
    ck_assert_uint_eq(atomic_load(&k.storage.loads), loads);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), 0);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

START_TEST(failure_leaves_a_note_of_it_and_the_lock_free)
{
    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_ACME);
    ck_assert_ptr_nonnull(strstr(err.msg, "does not feel like it"));
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 1);
    ck_assert(kit_has(&k.storage.base, "certmesh/retry/example.com"));
    /* Who asks by name need not wait; and success is the end of it. */
    atomic_store(&k.issuer->step, KIT_GO);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert(!kit_has(&k.storage.base, "certmesh/retry/example.com"));
    kit_stop(&k);
}
END_TEST

START_TEST(crash_after_checkpoint_is_resumed_by_a_peer)
{
    struct kit_issuer *other;
    uint8_t csr[CM_SHA256_LEN];

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_NET);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert(kit_has(&k.storage.base, "certmesh/journal/example.com"));
    memcpy(csr, k.issuer->last_csr, sizeof csr);

    struct cm_config *peer = kit_peer(&k, &other);
    kit_pass(&k.env, 3600 * CM_NS_PER_S);
    ck_ok(cm_obtain(peer, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&other->orders), 0);
    ck_assert_uint_eq(atomic_load(&other->resumed), 1);
    ck_assert_str_eq(other->last_resume, "ca.test-dir order 1");
    ck_assert_mem_eq(csr, other->last_csr, sizeof csr);
    ck_assert(!kit_has(&k.storage.base, "certmesh/journal/example.com"));
    cm_config_free(peer);
    kit_stop(&k);
}
END_TEST

START_TEST(journal_is_for_these_names_this_kind_of_key_and_a_day)
{
    struct kit_issuer *other;
    struct cm_config *peer;

    kit_init(&k);
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_NET);
    k.opts.key_type = CM_KEY_P384;
    peer = kit_peer(&k, &other);
    ck_ok(cm_obtain(peer, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&other->resumed), 0);
    cm_config_free(peer);

    k.opts.key_type = CM_KEY_DEFAULT;
    ck_refused(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err), CM_E_NET);
    kit_pass(&k.env, (CM_JOURNAL_FRESH_S + 1) * CM_NS_PER_S);
    peer = kit_peer(&k, &other);
    ck_ok(cm_renew(peer, NULL, "example.com", true, NULL, &err));
    ck_assert_uint_eq(atomic_load(&other->resumed), 0);
    ck_assert_uint_eq(atomic_load(&other->orders), 1);
    cm_config_free(peer);
    kit_stop(&k);
}
END_TEST

START_TEST(journal_is_for_these_extensions)
{
    static const uint8_t null[] = { 0x05, 0x00 }, yes[] = { 0x01, 0x01, 0xff };
    struct cm_csr_extension e = { .oid = "1.2.3", .value = { null, sizeof null } };
    struct cm_config_extra x = CM_CONFIG_EXTRA_INIT;
    struct cm_journal j;
    struct kit_issuer *other;
    struct cm_config *peer;

    kit_init(&k);
    x.csr_extensions = &e;
    x.n_csr_extensions = 1;
    k.opts.extra = &x;
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_NET);
    CM_AUTO_FREE char *text = kit_get(&k.storage.base, "certmesh/journal/example.com");
    ck_ok(cm_journal_parse(cm_span_str(text), &j, &err));
    ck_assert(cm_csr_ext_is(cm_buf_span(&j.csr_der), cm_buf_span(&k.cfg->csr_exts)));
    cm_journal_free(&j);
    peer = kit_peer(&k, &other); /* of the same mind */
    ck_ok(cm_obtain(peer, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&other->resumed), 1);
    cm_config_free(peer);

    const struct cm_config_extra *const others[] = { &x, NULL };
    for (size_t i = 0; i < CM_ARRAY_LEN(others); i++) {
        e.value = (struct cm_span){ null, sizeof null };
        ck_refused(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err), CM_E_NET);
        e.value = (struct cm_span){ yes, sizeof yes };
        k.opts.extra = others[i];
        peer = kit_peer(&k, &other);
        ck_ok(cm_renew(peer, NULL, "example.com", true, NULL, &err));
        ck_assert_uint_eq(atomic_load(&other->resumed), 0);
        ck_assert_uint_eq(atomic_load(&other->orders), 1);
        cm_config_free(peer);
    }
    kit_stop(&k);
}
END_TEST

START_TEST(damaged_journal_is_no_obstacle)
{
    kit_init(&k);
    kit_start(&k);
    kit_put(&k.storage.base, "certmesh/journal/example.com", "certmesh-journal 1\nkey\nrubbish");
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(kit_logged("journal_unusable"), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(unacceptable_certificate_is_not_stored_nor_resumed)
{
    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 80 * 86400, 90 * 86400);
    CM_AUTO_FREE char *before = kit_get(&k.storage.base, SITE ".crt");
    k.issuer->wrong_name = "evil.example";
    ck_assert(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err) != CM_OK);
    CM_AUTO_FREE char *after = kit_get(&k.storage.base, SITE ".crt");
    ck_assert_str_eq(before, after);
    ck_assert(!kit_has(&k.storage.base, "certmesh/journal/example.com"));
    kit_stop(&k);
}
END_TEST

START_TEST(next_issuer_takes_over_and_its_order_is_resumed_first)
{
    struct cm_issuer *two[2];

    kit_init(&k);
    two[0] = kit_issuer_new(&k.env, "first.test-dir");
    two[1] = kit_issuer_new(&k.env, "second.test-dir");
    struct kit_issuer *first = kit_issuer_of(two[0]);
    struct kit_issuer *second = kit_issuer_of(two[1]);
    k.opts.issuers = two;
    k.opts.n_issuers = 2;
    kit_start(&k);
    atomic_store(&first->step, KIT_FAIL_BEFORE);
    atomic_store(&second->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_NET); /* the last one's */
    ck_assert_uint_eq(kit_logged("trying the next issuer"), 1);

    atomic_store(&first->step, KIT_GO);
    atomic_store(&second->step, KIT_GO);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&first->orders), 0);
    ck_assert_uint_eq(atomic_load(&second->orders), 1);
    ck_assert_uint_eq(atomic_load(&second->resumed), 1);
    ck_assert(kit_has(&k.storage.base, "certificates/second.test-dir/example.com/example.com.crt"));
    kit_stop(&k);
}
END_TEST

START_TEST(newest_valid_among_issuers_wins)
{
    struct cm_issuer *three[3];
    struct cm_cert *cert = NULL;

    kit_init(&k);
    three[0] = kit_issuer_new(&k.env, "a.test-dir");
    three[1] = kit_issuer_new(&k.env, "b.test-dir");
    three[2] = kit_issuer_new(&k.env, "c.test-dir");
    k.opts.issuers = three;
    k.opts.n_issuers = 3;
    kit_start(&k);
    kit_store_pair(&k.storage.base, "a.test-dir", "example.com", START_S - 30 * 86400, 90 * 86400);
    kit_store_pair(&k.storage.base, "b.test-dir", "example.com", START_S - 10 * 86400, 90 * 86400);
    /* the newest of all is over already */
    kit_store_pair(&k.storage.base, "c.test-dir", "example.com", START_S - 5 * 86400, 86400);
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err));
    ck_assert_str_eq(cm_cert_issuer_key(cert), "b.test-dir");
    cm_cert_unref(cert);
    /* a directory that cannot be read does not hide the others */
    k.storage.fail_key = "b.test-dir";
    atomic_store(&k.storage.fail_loads, -1);
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err));
    ck_assert_str_eq(cm_cert_issuer_key(cert), "a.test-dir");
    cm_cert_unref(cert);
    /* but with nothing else it is an error, not "not found": else it would be ordered anew */
    k.storage.fail_key = "test-dir";
    ck_refused(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err), CM_E_IO);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_IO);
    kit_stop(&k);
}
END_TEST

/* A writer between key and chain: the chain becomes right after some reads. */
static struct cm_buf right_key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

static void heal(struct kit_storage *s, const char *key)
{
    if (strstr(key, ".key") != NULL && atomic_load(&s->loads) > 4)
        kit_put(s->inner, key, cm_buf_str(&right_key));
}

START_TEST(mismatched_pair_is_read_again)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf other = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_cert *cert = NULL;

    kit_init(&k);
    kit_start(&k);
    kit_make_pair(CM_PK_P256, example, 1, START_S, 86400, &chain, &right_key);
    kit_make_pair(CM_PK_P256, example, 1, START_S, 86400, &other, &key);
    kit_put(&k.storage.base, SITE ".key", cm_buf_str(&key));
    kit_put(&k.storage.base, SITE ".crt", cm_buf_str(&chain));
    k.storage.on_load = heal;
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err));
    cm_cert_unref(cert);
    ck_assert_uint_gt(atomic_load(&k.storage.loads), 4);
    /* one that stays wrong counts as absent: a new one is ordered */
    k.storage.on_load = NULL;
    kit_put(&k.storage.base, SITE ".key", cm_buf_str(&key));
    ck_refused(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err), CM_E_NOTFOUND);
    ck_assert_uint_ge(kit_logged("stored_certificate_unusable"), 1);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err));
    cm_cert_unref(cert);
    cm_buf_free(&right_key);
    kit_stop(&k);
}
END_TEST

START_TEST(certificate_for_another_name_is_not_taken)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    const char *const evil[] = { "evil.example" };
    struct cm_cert *cert = NULL;

    kit_init(&k);
    kit_start(&k);
    kit_make_pair(CM_PK_P256, evil, 1, START_S, 86400, &chain, &key);
    kit_put(&k.storage.base, SITE ".key", cm_buf_str(&key));
    kit_put(&k.storage.base, SITE ".crt", cm_buf_str(&chain));
    ck_assert(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err) != CM_OK);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(failed_commit_keeps_the_old_pair_and_the_order)
{
    struct cm_cert *cert = NULL;

    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 80 * 86400, 90 * 86400);
    kit_pass(&k.env, 2 * 86400 * CM_NS_PER_S); /* it was not stored just now */
    CM_AUTO_FREE char *before = kit_get(&k.storage.base, SITE ".crt");
    k.storage.fail_key = "certificates/";
    atomic_store(&k.storage.fail_commits, -1);
    ck_refused(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err), CM_E_IO);
    CM_AUTO_FREE char *after = kit_get(&k.storage.base, SITE ".crt");
    ck_assert_str_eq(before, after);
    ck_ok(cm_load_stored(k.cfg, NULL, "example.com", &cert, &err));
    cm_cert_unref(cert);
    /* storage is back: the same order is finished */
    atomic_store(&k.storage.fail_commits, 0);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->resumed), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(order_that_cannot_be_noted_is_not_finished)
{
    kit_init(&k);
    kit_start(&k);
    k.storage.fail_key = "certmesh/journal";
    atomic_store(&k.storage.fail_commits, 1);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_IO);
    ck_assert_uint_eq(atomic_load(&k.issuer->issued), 0);
    kit_stop(&k);
}
END_TEST

/* ---- losing the lock ---- */

static void lose_lease(struct kit_issuer *is)
{
    if (atomic_load(&is->orders) + atomic_load(&is->resumed) > 1)
        return;
    kit_pass(is->env, 60 * CM_NS_PER_S);
    for (int i = 0; i < 300; i++) /* the heartbeat sees it */
        kit_nap();
}

START_TEST(lost_lock_is_retried_once_with_the_same_order)
{
    kit_init(&k);
    kit_start(&k);
    k.issuer->on_issue = lose_lease;
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->resumed), 1);
    ck_assert_uint_ge(kit_logged("looking again"), 1);
    kit_stop(&k);
}
END_TEST

/* A peer takes the lock over and finishes while we sleep. */
static struct cm_config *thief;

static void be_overtaken(struct kit_issuer *is)
{
    lose_lease(is);
    ck_ok(cm_obtain(thief, NULL, example, 1, NULL, &err));
}

START_TEST(who_lost_the_lock_takes_what_its_successor_stored)
{
    struct kit_issuer *other;
    struct cm_obtain_result r;

    kit_init(&k);
    kit_start(&k);
    thief = kit_peer(&k, &other);
    k.issuer->on_issue = be_overtaken;
    obtain_ok(k.cfg, &r);
    ck_assert(r.already_there);
    ck_assert_uint_eq(atomic_load(&k.issuer->issued), 0);
    ck_assert_uint_eq(atomic_load(&other->resumed), 1); /* the order we had begun */
    ck_assert_uint_eq(atomic_load(&other->orders), 0);
    cm_config_free(thief);
    kit_stop(&k);
}
END_TEST

/* ---- renewing ---- */

START_TEST(renewal_waits_until_it_is_due)
{
    struct cm_obtain_result r;

    kit_init(&k);
    kit_start(&k);
    ck_refused(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err), CM_E_NOTFOUND);
    obtain_ok(k.cfg, &r);
    memset(&r, 0, sizeof r);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, &r, &err));
    ck_assert(r.already_there);
    kit_pass(&k.env, 59 * 86400 * CM_NS_PER_S);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, &r, &err));
    ck_assert(r.already_there);
    kit_pass(&k.env, 86400 * CM_NS_PER_S + 3600 * CM_NS_PER_S);
    CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, &r, &err));
    ck_assert(!r.already_there);
    CM_AUTO_FREE char *new_key = kit_get(&k.storage.base, SITE ".key");
    ck_assert_str_ne(old_key, new_key);
    ck_assert_uint_gt(strlen(k.issuer->last_replaces), 10); /* tells the CA its predecessor */
    kit_stop(&k);
}
END_TEST

/* Two months ahead a fresh certificate is due at once, and so is the next. */
START_TEST(clock_far_ahead_costs_one_order)
{
    struct cm_obtain_result r = { .size = (uint32_t)sizeof r };

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    kit_pass(&k.env, 62 * 86400 * CM_NS_PER_S);
    k.issuer->not_before_ahead_s = -62 * 86400; /* the CA's clock is right */
    for (int i = 0; i < 20; i++) {
        ck_ok(cm_renew(k.cfg, NULL, "example.com", false, &r, &err));
        ck_assert_int_eq(r.already_there, i > 0);
    }
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", true, &r, &err)); /* who insists gets it */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 3);
    kit_pass(&k.env, 2 * 86400 * CM_NS_PER_S);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, &r, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 4);
    kit_stop(&k);
}
END_TEST

/* A pair from a backup that ends tomorrow is not to wait for its turn. */
START_TEST(old_certificate_put_back_is_renewed_at_once_when_it_ends_soon)
{
    kit_init(&k);
    kit_start(&k);
    kit_store_pair(&k.storage.base, "ca.test-dir", "example.com", START_S - 89 * 86400, 90 * 86400);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", false, NULL, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    kit_stop(&k);
}
END_TEST

START_TEST(key_is_kept_when_asked_to)
{
    struct cm_obtain_result r;

    kit_init(&k);
    k.opts.reuse_key = true;
    kit_start(&k);
    obtain_ok(k.cfg, &r);
    CM_AUTO_FREE char *old_key = kit_get(&k.storage.base, SITE ".key");
    CM_AUTO_FREE char *old_crt = kit_get(&k.storage.base, SITE ".crt");
    ck_ok(cm_renew(k.cfg, NULL, "example.com", true, &r, &err));
    ck_assert(!r.already_there);
    CM_AUTO_FREE char *new_key = kit_get(&k.storage.base, SITE ".key");
    CM_AUTO_FREE char *new_crt = kit_get(&k.storage.base, SITE ".crt");
    ck_assert_str_eq(old_key, new_key);
    ck_assert_str_ne(old_crt, new_crt);
    kit_stop(&k);
}
END_TEST

START_TEST(certificate_from_a_fast_clock_is_stored)
{
    struct cm_obtain_result r;

    kit_init(&k);
    kit_start(&k);
    k.issuer->not_before_ahead_s = 2 * 3600;
    obtain_ok(k.cfg, &r);
    obtain_ok(k.cfg, &r); /* and not ordered again and again until then */
    ck_assert(r.already_there);
    kit_stop(&k);
}
END_TEST

/* ---- cancel and deadline ---- */

START_TEST(cancellation_and_deadline_end_it_soon)
{
    struct cm_op op = { NULL, 0, NULL };

    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_cancel_new(NULL, &op.cancel, &err));
    cm_cancel_fire(op.cancel);
    ck_refused(cm_obtain(k.cfg, &op, example, 1, NULL, &err), CM_E_CANCELED);
    cm_cancel_free(op.cancel);
    op.cancel = NULL;
    op.env = &k.env.base;
    op.deadline_ns = k.env.base.mono_ns(&k.env.base) - 1;
    ck_refused(cm_obtain(k.cfg, &op, example, 1, NULL, &err), CM_E_TIMEOUT);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    kit_stop(&k);
}
END_TEST

/* ---- revoking ---- */

START_TEST(revoked_certificate_goes_from_storage_and_cache)
{
    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, example, 1, &err));
    ck_ok(cm_revoke(k.cfg, NULL, "example.com", 1, true, &err));
    ck_assert(kit_has(&k.storage.base, SITE ".key"));
    atomic_store(&k.issuer->step, KIT_FAIL_BEFORE);
    ck_refused(cm_revoke(k.cfg, NULL, "example.com", 1, false, &err), CM_E_ACME);
    ck_assert(kit_has(&k.storage.base, SITE ".key")); /* not revoked: not removed */
    atomic_store(&k.issuer->step, KIT_GO);
    ck_ok(cm_revoke(k.cfg, NULL, "example.com", 1, false, &err));
    ck_assert_uint_eq(atomic_load(&k.issuer->revoked), 2);
    ck_assert_uint_eq(kit_count(&k.storage.base, DIR), 0);
    ck_assert_uint_eq(cm_cache_count(cm_config_cache(k.cfg)), 0);
    ck_refused(cm_revoke(k.cfg, NULL, "example.com", 1, false, &err), CM_E_NOTFOUND);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        obtain_stores_key_chain_and_metadata,
        obtain_again_orders_nothing,
        expired_certificate_is_obtained_anew,
        several_names_become_one_certificate,
        largest_keys_are_made,
        refused_names_cause_no_input_or_output,
        failure_leaves_a_note_of_it_and_the_lock_free,
        crash_after_checkpoint_is_resumed_by_a_peer,
        journal_is_for_these_names_this_kind_of_key_and_a_day,
        journal_is_for_these_extensions,
        damaged_journal_is_no_obstacle,
        unacceptable_certificate_is_not_stored_nor_resumed,
        next_issuer_takes_over_and_its_order_is_resumed_first,
        newest_valid_among_issuers_wins,
        mismatched_pair_is_read_again,
        certificate_for_another_name_is_not_taken,
        failed_commit_keeps_the_old_pair_and_the_order,
        order_that_cannot_be_noted_is_not_finished,
        lost_lock_is_retried_once_with_the_same_order,
        who_lost_the_lock_takes_what_its_successor_stored,
        renewal_waits_until_it_is_due,
        clock_far_ahead_costs_one_order,
        old_certificate_put_back_is_renewed_at_once_when_it_ends_soon,
        key_is_kept_when_asked_to,
        certificate_from_a_fast_clock_is_stored,
        cancellation_and_deadline_end_it_soon,
        revoked_certificate_goes_from_storage_and_cache,
    };

    return kit_run("obtain", tests, CM_ARRAY_LEN(tests));
}
