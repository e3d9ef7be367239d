/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* cm_obtain_csr(): certificates for keys that are elsewhere. */

#define BELOW "certmesh/csr/ca.test-dir/a.example"

static struct kit k;
static struct cm_err err;
static struct cm_buf csr;

static void make_csr(const char *const *names, size_t n)
{
    struct cm_key *key = NULL;

    csr = (struct cm_buf)CM_BUF_INIT(65536);
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, names, n, false, &csr, &err));
    cm_key_unref(key);
}

static void begin(void)
{
    static const char *const names[] = { "a.example" };

    kit_init(&k);
    kit_start(&k);
    make_csr(names, 1);
}

static void end(void)
{
    cm_buf_free(&csr);
    kit_stop(&k);
}

static cm_status obtain(struct cm_csr_result *ret)
{
    struct cm_buf chain = CM_BUF_INIT(65536);

    memset(ret, 0, sizeof *ret);
    cm_status rc = cm_obtain_csr(k.cfg, NULL, cm_buf_span(&csr), false, ret, &chain, &err);
    ck_assert((rc == CM_OK) == (chain.len > 0));
    if (rc == CM_OK) {
        CM_AUTO_FREE char *stored = kit_get(&k.storage.base, ret->storage_key);
        ck_assert_str_eq(stored, cm_buf_str(&chain));
    }
    cm_buf_free(&chain);
    return rc;
}

START_TEST(chain_is_stored_without_a_key_and_not_ordered_again)
{
    struct cm_csr_result r;
    struct cm_cert *cert = NULL;

    begin();
    ck_ok(obtain(&r));
    ck_assert(!r.already_there);
    ck_assert_str_eq(r.names, "a.example");
    ck_assert_str_eq(r.issuer_key, "ca.test-dir");
    ck_assert_int_eq(strncmp(r.storage_key, BELOW, strlen(BELOW)), 0);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 1); /* the order is not kept */
    ck_assert_uint_eq(kit_count(&k.storage.base, "certificates"), 0);
    ck_refused(cm_load_stored(k.cfg, NULL, "a.example", &cert, &err), CM_E_NOTFOUND);
    ck_ok(obtain(&r));
    ck_assert(r.already_there);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    end();
}
END_TEST

START_TEST(other_key_for_the_same_name_is_another_certificate)
{
    static const char *const names[] = { "a.example" };
    struct cm_csr_result r;

    begin();
    ck_ok(obtain(&r));
    cm_buf_free(&csr);
    make_csr(names, 1);
    ck_ok(obtain(&r));
    ck_assert(!r.already_there);
    ck_assert_uint_eq(kit_count(&k.storage.base, BELOW), 2);
    end();
}
END_TEST

START_TEST(what_is_due_is_ordered_again_and_names_its_predecessor)
{
    struct cm_csr_result r;

    begin();
    ck_ok(obtain(&r));
    int64_t first = r.not_after_s;
    kit_pass(&k.env, k.issuer->lifetime_s * CM_NS_PER_S * 3 / 4);
    ck_ok(obtain(&r));
    ck_assert(!r.already_there);
    ck_assert_int_gt(r.not_after_s, first);
    ck_assert_str_ne(k.issuer->last_replaces, "");
    ck_assert(k.issuer->last.renewal);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 1);
    end();
}
END_TEST

START_TEST(what_the_ca_suggests_goes_first)
{
    struct cm_csr_result r;

    begin();
    kit_issuer_suggests(k.issuer);
    ck_ok(obtain(&r));
    k.issuer->ari = (struct cm_renewal_info){ .size = sizeof k.issuer->ari,
                                              .start_s = START_S - 7200,
                                              .end_s = START_S - 3600,
                                              .retry_after_s = 3600 };
    atomic_store(&k.issuer->ari_status, CM_OK);
    ck_ok(obtain(&r));
    ck_assert(r.already_there); /* it has only just issued it */
    kit_pass(&k.env, INT64_C(25) * 3600 * CM_NS_PER_S);
    ck_ok(obtain(&r));
    ck_assert(!r.already_there);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 2);
    end();
}
END_TEST

START_TEST(order_that_was_cut_short_is_gone_on_with)
{
    struct cm_csr_result r;

    begin();
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_assert_int_ne(obtain(&r), CM_OK);
    ck_assert_uint_eq(kit_count(&k.storage.base, BELOW), 1);
    atomic_store(&k.issuer->step, KIT_GO);
    ck_ok(obtain(&r));
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(atomic_load(&k.issuer->resumed), 1);
    ck_assert_uint_eq(kit_count(&k.storage.base, BELOW), 1);
    end();
}
END_TEST

START_TEST(damage_in_storage_is_no_certificate)
{
    struct cm_csr_result r;

    begin();
    ck_ok(obtain(&r));
    kit_put(&k.storage.base, r.storage_key, "-----BEGIN CERTIFICATE-----\n");
    ck_ok(obtain(&r));
    ck_assert(!r.already_there);
    end();
}
END_TEST

START_TEST(certificate_for_other_names_is_not_stored)
{
    struct cm_csr_result r;

    begin();
    k.issuer->wrong_name = "evil.example";
    ck_refused(obtain(&r), CM_E_CERT);
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 0);
    end();
}
END_TEST

START_TEST(what_is_no_request_orders_nothing)
{
    static const char *const bad[] = {
        "",
        "hello",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    };
    struct cm_csr_result r;

    begin();
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        memset(&r, 0, sizeof r);
        ck_refused(cm_obtain_csr(k.cfg, NULL, cm_span_str(bad[i]), false, &r, NULL, &err),
                   CM_E_PARSE);
    }
    csr.data[csr.len - 3] ^= 1; /* in the signature */
    ck_assert_int_ne(obtain(&r), CM_OK);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_refused(cm_obtain_csr(NULL, NULL, cm_buf_span(&csr), false, &r, NULL, &err), CM_E_INVAL);
    end();
}
END_TEST

START_TEST(every_flipped_bit_is_refused)
{
    struct cm_csr_result r;

    begin();
    for (size_t i = 0; i < csr.len; i++) {
        csr.data[i] ^= (uint8_t)(1u << i % 8);
        ck_assert_msg(obtain(&r) != CM_OK, "byte %zu", i);
        csr.data[i] ^= (uint8_t)(1u << i % 8);
    }
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    end();
}
END_TEST

START_TEST(long_over_is_cleaned_away)
{
    struct cm_clean_options o = { .size = sizeof o, .force = true };
    struct cm_clean_report report = { .size = sizeof report };
    struct cm_csr_result r;

    begin();
    ck_ok(obtain(&r));
    kit_pass(&k.env, INT64_C(390) * 86400 * CM_NS_PER_S);
    ck_ok(cm_storage_clean(k.cfg, NULL, &o, &report, &err));
    ck_assert(kit_has(&k.storage.base, r.storage_key));
    kit_pass(&k.env, INT64_C(20) * 86400 * CM_NS_PER_S);
    ck_ok(cm_storage_clean(k.cfg, NULL, &o, &report, &err));
    ck_assert(!kit_has(&k.storage.base, r.storage_key));
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        chain_is_stored_without_a_key_and_not_ordered_again,
        other_key_for_the_same_name_is_another_certificate,
        what_is_due_is_ordered_again_and_names_its_predecessor,
        what_the_ca_suggests_goes_first,
        order_that_was_cut_short_is_gone_on_with,
        damage_in_storage_is_no_certificate,
        certificate_for_other_names_is_not_stored,
        what_is_no_request_orders_nothing,
        every_flipped_bit_is_refused,
        long_over_is_cleaned_away,
    };

    return kit_run("csr", tests, CM_ARRAY_LEN(tests));
}
