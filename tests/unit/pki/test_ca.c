/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcert.h"
#include "run.h"
#include "x509.h"

static struct cm_err err;

#define NOW INT64_C(1800000000)

struct ca {
    struct cm_key *root_key, *inter_key;
    struct cm_buf root, inter;
};

static struct ca ca;

static void setup(void)
{
    ca.root = ca.inter = (struct cm_buf)CM_BUF_INIT(4096);
    ck_ok(cm_ca_make_root("Local Root", NOW, 3650, &ca.root_key, &ca.root, &err));
    ck_ok(cm_ca_make_intermediate("Local Intermediate", ca.root_key, cm_buf_span(&ca.root), NOW, 30,
                                  &ca.inter_key, &ca.inter, &err));
}

static void teardown(void)
{
    cm_key_unref(ca.root_key);
    cm_key_unref(ca.inter_key);
    cm_buf_free(&ca.root);
    cm_buf_free(&ca.inter);
}

static gnutls_x509_crt_t read_cert(const struct cm_buf *der)
{
    gnutls_datum_t d = { der->data, (unsigned)der->len };
    gnutls_x509_crt_t crt = NULL;

    ck_assert_int_eq(gnutls_x509_crt_init(&crt), 0);
    ck_assert_int_eq(gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_DER), 0);
    return crt;
}

static cm_status issue(const char *const *names, size_t n, int64_t lifetime_s, struct cm_buf *leaf,
                       struct cm_key **ret_key)
{
    struct cm_buf csr = CM_BUF_INIT(65536);

    ck_ok(cm_key_generate(CM_PK_P256, ret_key, &err));
    ck_ok(cm_csr_make(*ret_key, names, n, true, &csr, &err));
    cm_status rc = cm_ca_sign_csr(ca.inter_key, cm_buf_span(&ca.inter), cm_buf_span(&csr), names, n,
                                  NOW, lifetime_s, leaf, &err);
    cm_buf_free(&csr);
    return rc;
}

START_TEST(issued_chain_verifies_with_gnutls_and_with_our_own_rules)
{
    static const char *const names[] = { "a.internal", "*.b.internal", "10.0.0.1", "fd00::1" };
    struct cm_buf leaf = CM_BUF_INIT(65536);
    struct cm_key *key = NULL;
    gnutls_x509_trust_list_t list = NULL;
    unsigned verify = 1;

    ck_ok(issue(names, 4, 7 * 86400, &leaf, &key));
    gnutls_x509_crt_t chain[2] = { read_cert(&leaf), read_cert(&ca.inter) };
    gnutls_x509_crt_t root = read_cert(&ca.root);
    ck_assert_int_eq(gnutls_x509_trust_list_init(&list, 0), 0);
    ck_assert_int_eq(gnutls_x509_trust_list_add_cas(list, &root, 1, 0), 1);
    for (size_t i = 0; i < 4; i++) {
        const char *host = i == 1 ? "x.b.internal" : names[i];
        gnutls_typed_vdata_st data[] = {
            { GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)(uintptr_t)host, 0 },
            { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_SERVER, 0 },
        };
        ck_assert_int_eq(gnutls_x509_trust_list_verify_crt2(list, chain, 2, data, 2,
                                                            GNUTLS_VERIFY_DISABLE_TIME_CHECKS,
                                                            &verify, NULL),
                         0);
        ck_assert_msg(verify == 0, "%s: 0x%x", host, verify);
    }

    struct cm_chain ours = {
        .der = { cm_buf_span(&leaf), cm_buf_span(&ca.inter), cm_buf_span(&ca.root) }, .n = 3
    };
    ck_ok(cm_chain_accept(&ours, key, names, 4, true, NOW, 0, &err));
    ours.n = 2;
    ck_ok(cm_chain_accept(&ours, key, names, 4, true, NOW, 0, &err));
    gnutls_x509_trust_list_deinit(list, 0);
    gnutls_x509_crt_deinit(root);
    gnutls_x509_crt_deinit(chain[0]);
    gnutls_x509_crt_deinit(chain[1]);
    cm_key_unref(key);
    cm_buf_free(&leaf);
}
END_TEST

START_TEST(ca_certificates_say_what_they_may)
{
    struct cm_x509 root, inter;
    unsigned usage = 0;

    ck_ok(cm_x509_parse(cm_buf_span(&ca.root), &root, &err));
    ck_ok(cm_x509_parse(cm_buf_span(&ca.inter), &inter, &err));
    ck_assert(root.ext.is_ca && root.ext.has_pathlen && root.ext.pathlen == 1);
    ck_assert(inter.ext.is_ca && inter.ext.has_pathlen && inter.ext.pathlen == 0);
    ck_assert(cm_span_eq(inter.ext.aki_keyid, root.ext.ski));
    ck_assert(cm_span_eq(root.ext.aki_keyid, root.ext.ski));
    ck_assert_uint_eq(root.ext.ski.len, 20);
    ck_assert_uint_eq(root.serial.len, 16);
    ck_assert_uint_eq(root.serial.data[0] & 0xc0, 0x40); /* positive, not zero */
    ck_assert(!cm_span_eq(root.serial, inter.serial));
    ck_assert_int_eq(root.not_after_s, NOW + INT64_C(3650) * 86400);
    ck_assert_int_eq(inter.not_after_s, NOW + INT64_C(30) * 86400);
    ck_assert_int_le(root.not_before_s, NOW);
    gnutls_x509_crt_t crt = read_cert(&ca.inter);
    ck_assert_int_ge(gnutls_x509_crt_get_key_usage(crt, &usage, NULL), 0);
    ck_assert_uint_eq(usage, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN |
                                 GNUTLS_KEY_DIGITAL_SIGNATURE);
    gnutls_x509_crt_deinit(crt);
}
END_TEST

START_TEST(leaf_carries_what_was_asked_and_never_outlives_its_issuer)
{
    const char *name = "a.internal";
    struct cm_buf leaf = CM_BUF_INIT(65536);
    struct cm_key *key = NULL;
    struct cm_leaf *l = NULL;
    struct cm_x509 inter, x;
    unsigned critical = 0;
    gnutls_datum_t san = { NULL, 0 };

    ck_ok(cm_x509_parse(cm_buf_span(&ca.inter), &inter, &err));
    ck_ok(issue(&name, 1, 3650 * INT64_C(86400), &leaf, &key));
    ck_ok(cm_leaf_parse(cm_buf_span(&leaf), &l, &err));
    ck_assert_int_eq(l->not_after_s, inter.not_after_s);
    ck_assert_int_eq(l->not_before_s, inter.not_before_s);
    ck_assert(l->must_staple); /* as the request asked */
    ck_assert_str_eq(l->issuer_cn, "Local Intermediate");
    ck_assert_str_eq(l->subject_cn, "");
    ck_assert(l->ari_id[0] != '\0');
    ck_ok(cm_x509_parse(cm_buf_span(&leaf), &x, &err));
    ck_assert(cm_span_eq(x.ext.aki_keyid, inter.ext.ski));
    ck_assert(x.ext.has_eku && x.ext.eku_server && x.ext.has_usage && !x.ext.may_sign_certs);
    gnutls_x509_crt_t crt = read_cert(&leaf);
    ck_assert_int_ge(gnutls_x509_crt_get_extension_by_oid2(crt, "2.5.29.17", 0, &san, &critical),
                     0);
    ck_assert_uint_eq(critical, 1); /* RFC 5280 4.2.1.6: the subject is empty */
    gnutls_free(san.data);
    gnutls_x509_crt_deinit(crt);
    cm_leaf_free(l);
    cm_key_unref(key);
    cm_buf_free(&leaf);
}
END_TEST

START_TEST(requests_that_do_not_fit_are_refused)
{
    static const char *const two[] = { "a.internal", "b.internal" };
    static const char *const other[] = { "c.internal" };
    struct cm_buf csr = CM_BUF_INIT(65536);
    struct cm_buf leaf = CM_BUF_INIT(65536);
    struct cm_key *key = NULL;
    struct cm_span inter = cm_buf_span(&ca.inter);

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, two, 2, false, &csr, &err));
#define SIGN(k, c, r, names, n, life) cm_ca_sign_csr(k, c, r, names, n, NOW, life, &leaf, &err)
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), two, 1, 60), CM_E_POLICY, "2 names");
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), other, 1, 60), CM_E_POLICY, "2 names");
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), two, 0, 60), CM_E_INVAL, "0 names");
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), two, 2, 0), CM_E_INVAL, "lifetime");
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), two, 2, INT64_MAX), CM_E_INVAL,
               "lifetime");
    ck_refused(SIGN(ca.root_key, inter, cm_buf_span(&csr), two, 2, 60), CM_E_KEY, "another key");
    const char *mixed[] = { "a.internal", "x.internal" };
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), mixed, 2, 60), CM_E_POLICY,
               "'b.internal'");
    struct cm_span cut = { csr.data, csr.len - 1 };
    ck_refused(SIGN(ca.inter_key, inter, cut, two, 2, 60), CM_E_PARSE, "request");
    ck_refused(SIGN(ca.inter_key, inter, ((struct cm_span){ NULL, 0 }), two, 2, 60), CM_E_PARSE,
               "request");
    /* The signature proves possession of the key. */
    csr.data[csr.len - 1] ^= 1;
    ck_refused(SIGN(ca.inter_key, inter, cm_buf_span(&csr), two, 2, 60), CM_E_CERT,
               "certificate request");
    csr.data[csr.len - 1] ^= 1;
    ck_assert_uint_eq(leaf.len, 0);
    ck_ok(SIGN(ca.inter_key, inter, cm_buf_span(&csr), two, 2, 60));
    cm_key_unref(key);
    cm_buf_free(&csr);
    cm_buf_free(&leaf);
}
END_TEST

START_TEST(request_with_one_name_twice_is_not_one_for_two)
{
    static const char *const two[] = { "a.internal", "b.internal" };
    struct cm_buf csr = CM_BUF_INIT(65536);
    struct cm_buf doubled = CM_BUF_INIT(65536);
    struct cm_buf leaf = CM_BUF_INIT(65536);
    struct cm_key *key = NULL;
    struct cm_x509 x;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, two, 2, false, &csr, &err));
    uint8_t *b = memmem(csr.data, csr.len, "b.internal", 10);
    ck_assert_ptr_nonnull(b);
    b[0] = 'a';
    ck_ok(cm_x509_parse_csr(cm_buf_span(&csr), &x, &err));
    ck_ok(cm_x509_frame(x.tbs, key, &doubled, &err)); /* signed anew */
    ck_refused(SIGN(ca.inter_key, cm_buf_span(&ca.inter), cm_buf_span(&doubled), two, 2, 60),
               CM_E_POLICY, "'a.internal'");
    cm_key_unref(key);
    cm_buf_free(&csr);
    cm_buf_free(&doubled);
    cm_buf_free(&leaf);
}
END_TEST

START_TEST(signer_must_be_a_valid_ca)
{
    const char *name = "a.internal";
    struct cm_buf csr = CM_BUF_INIT(65536);
    struct cm_buf leaf = CM_BUF_INIT(65536);
    struct cm_buf out = CM_BUF_INIT(65536);
    struct cm_key *key = NULL;
    struct cm_key *new_key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, &name, 1, false, &csr, &err));
    ck_ok(SIGN(ca.inter_key, cm_buf_span(&ca.inter), cm_buf_span(&csr), &name, 1, 86400));
    /* a leaf is no CA */
    ck_refused(
        cm_ca_sign_csr(key, cm_buf_span(&leaf), cm_buf_span(&csr), &name, 1, NOW, 60, &out, &err),
        CM_E_CERT, "not one of a CA");
    ck_refused(cm_ca_make_intermediate("x", key, cm_buf_span(&leaf), NOW, 1, &new_key, &out, &err),
               CM_E_CERT, "not one of a CA");
    /* path length 0 */
    ck_refused(cm_ca_make_intermediate("x", ca.inter_key, cm_buf_span(&ca.inter), NOW, 1, &new_key,
                                       &out, &err),
               CM_E_CERT, "path length 0");
    /* expired */
    ck_refused(cm_ca_sign_csr(ca.inter_key, cm_buf_span(&ca.inter), cm_buf_span(&csr), &name, 1,
                              NOW + 31 * INT64_C(86400), 60, &out, &err),
               CM_E_CERT, "expired");
    ck_assert_uint_eq(out.len, 0);
    ck_assert_ptr_null(new_key);
    cm_key_unref(key);
    cm_buf_free(&csr);
    cm_buf_free(&leaf);
    cm_buf_free(&out);
}
END_TEST

START_TEST(weak_key_in_a_request_is_refused)
{
    const char *name = "a.internal";
    gnutls_x509_privkey_t weak = mk_key(GNUTLS_PK_RSA, 1024);
    struct cm_key *key = mk_cm_key(weak);
    struct cm_buf csr = CM_BUF_INIT(65536);
    struct cm_buf leaf = CM_BUF_INIT(65536);

    ck_ok(cm_csr_make(key, &name, 1, false, &csr, &err));
    ck_refused(SIGN(ca.inter_key, cm_buf_span(&ca.inter), cm_buf_span(&csr), &name, 1, 60),
               CM_E_KEY, "too weak");
    cm_key_unref(key);
    gnutls_x509_privkey_deinit(weak);
    cm_buf_free(&csr);
    cm_buf_free(&leaf);
}
END_TEST

START_TEST(names_and_days_of_a_ca_have_bounds)
{
    char long_cn[66];
    struct cm_key *key = NULL;
    struct cm_buf der = CM_BUF_INIT(4096);

    memset(long_cn, 'x', sizeof long_cn);
    long_cn[65] = '\0';
    ck_refused(cm_ca_make_root(long_cn, NOW, 1, &key, &der, &err), CM_E_INVAL, "64");
    ck_refused(cm_ca_make_root("", NOW, 1, &key, &der, &err), CM_E_INVAL, "64");
    ck_refused(cm_ca_make_root(NULL, NOW, 1, &key, &der, &err), CM_E_INVAL, "64");
    ck_refused(cm_ca_make_root("x", NOW, 0, &key, &der, &err), CM_E_INVAL, "0 days");
    ck_refused(cm_ca_make_root("x", NOW, 1000000, &key, &der, &err), CM_E_INVAL, "days");
    ck_assert_ptr_null(key);
    cm_buf_free(&der);
}
END_TEST

START_TEST(intermediate_never_outlives_its_root)
{
    struct cm_key *key = NULL;
    struct cm_buf der = CM_BUF_INIT(4096);
    struct cm_x509 root, inter;

    ck_ok(cm_ca_make_intermediate("x", ca.root_key, cm_buf_span(&ca.root), NOW, 36500, &key, &der,
                                  &err));
    ck_ok(cm_x509_parse(cm_buf_span(&ca.root), &root, &err));
    ck_ok(cm_x509_parse(cm_buf_span(&der), &inter, &err));
    ck_assert_int_eq(inter.not_after_s, root.not_after_s);
    cm_key_unref(key);
    cm_buf_free(&der);
}
END_TEST

START_TEST(no_allocation_failure_leaks_or_crashes)
{
    for (uint64_t n = 1; n < 200; n++) {
        struct cm_key *key = NULL;
        struct cm_buf der = CM_BUF_INIT(4096);
        (void)cm_alloc_fail_at(n);
        cm_status rc = cm_ca_make_root("x", NOW, 1, &key, &der, &err);
        (void)cm_alloc_fail_at(0);
        ck_assert_int_eq(key != NULL, rc == CM_OK);
        cm_key_unref(key);
        cm_buf_free(&der);
        if (rc == CM_OK)
            return;
        ck_assert_int_eq(rc, CM_E_NOMEM);
    }
    ck_abort_msg("never succeeded");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        issued_chain_verifies_with_gnutls_and_with_our_own_rules,
        ca_certificates_say_what_they_may,
        leaf_carries_what_was_asked_and_never_outlives_its_issuer,
        requests_that_do_not_fit_are_refused,
        request_with_one_name_twice_is_not_one_for_two,
        signer_must_be_a_valid_ca,
        weak_key_in_a_request_is_refused,
        names_and_days_of_a_ca_have_bounds,
        intermediate_never_outlives_its_root,
        no_allocation_failure_leaks_or_crashes,
    };

    return run_tests_how("ca", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .begin = setup, .end = teardown });
}
