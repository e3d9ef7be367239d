/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcert.h"
#include "run.h"
#include "x509.h"

#include <stdio.h>

static struct cm_err err;

static gnutls_x509_privkey_t ca_key, key;
static struct mk_cert ca;

static void setup(void)
{
    struct mk_spec s = {
        .cn = "Issuing CA", .not_after_s = INT64_C(4000000000), .ca = 1, .pathlen = -1
    };

    ca_key = mk_key(MK_P256);
    key = mk_key(MK_P256);
    ca = mk_cert(&s, ca_key, NULL, ca_key);
}

static void teardown(void)
{
    mk_cert_free(&ca);
    gnutls_x509_privkey_deinit(ca_key);
    gnutls_x509_privkey_deinit(key);
}

static struct cm_leaf *parse(const struct mk_cert *c)
{
    struct cm_leaf *l = NULL;

    ck_ok(cm_leaf_parse(mk_span(c), &l, &err));
    return l;
}

START_TEST(ari_id_of_rfc_9773)
{
    /* RFC 9773 4.1: serial 00:87:65:43:21, with its sign byte. */
    struct mk_spec s = { .sans = "a.example",
                         .not_after_s = 1,
                         .serial_hex = "0087654321",
                         .aki_hex = "69885b6b87464041e1b37b847ba0ae2cde01c8d4" };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);
    struct cm_leaf *l = parse(&c);

    ck_assert_str_eq(l->ari_id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    ck_assert_str_eq(l->serial_hex, "87654321");
    ck_assert_uint_eq(l->serial_len, 5);
    ck_assert_uint_eq(l->serial[0], 0);
    cm_leaf_free(l);
    mk_cert_free(&c);
}
END_TEST

START_TEST(leaf_without_authority_key_id_has_no_ari_id)
{
    struct mk_spec s = { .sans = "a.example", .not_after_s = 1 };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);
    struct cm_leaf *l = parse(&c);

    ck_assert_str_eq(l->ari_id, "");
    ck_assert_str_eq(l->serial_hex, "01");
    cm_leaf_free(l);
    mk_cert_free(&c);
}
END_TEST

START_TEST(everything_core_asks_for_is_there)
{
    struct mk_spec s = { .cn = "First.Example",
                         .sans = "B.example,*.C.example,192.0.2.7,2001:db8::7,b.example,"
                                 "mail:x@y,uri:http://z/,dns:bad name,dns:10.0.0.1,_srv.d.example",
                         .not_before_s = 1700000000,
                         .not_after_s = 1707776000,
                         .must_staple = true,
                         .ocsp = "http://ocsp.example/x" };
    static const char *const want[] = { "b.example", "*.c.example", "192.0.2.7", "2001:db8::7",
                                        "_srv.d.example" };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);
    struct cm_leaf *l = parse(&c);

    ck_assert_uint_eq(l->n_names, CM_ARRAY_LEN(want));
    for (size_t i = 0; i < CM_ARRAY_LEN(want); i++)
        ck_assert_str_eq(l->names[i], want[i]);
    ck_assert_uint_eq(l->n_other_sans, 4);
    ck_assert(!l->names_from_cn);
    ck_assert_int_eq(l->not_before_s, 1700000000);
    ck_assert_int_eq(l->not_after_s, 1707776000);
    ck_assert_str_eq(l->issuer_cn, "Issuing CA");
    ck_assert_str_eq(l->subject_cn, "First.Example");
    ck_assert_int_eq(l->key_type, CM_PK_P256);
    ck_assert(l->must_staple);
    ck_assert(!l->is_ca);
    ck_assert(!l->self_issued);
    ck_assert_str_eq(l->ocsp_url, "http://ocsp.example/x");
    cm_leaf_free(l);
    mk_cert_free(&c);
    cm_leaf_free(NULL);
}
END_TEST

START_TEST(common_name_counts_only_without_alternative_names)
{
    struct mk_spec s = { .cn = "Old.Example", .not_after_s = 1, .ca = -1 };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);
    struct cm_leaf *l = parse(&c);

    ck_assert_uint_eq(l->n_names, 1);
    ck_assert_str_eq(l->names[0], "old.example");
    ck_assert(l->names_from_cn);
    cm_leaf_free(l);
    mk_cert_free(&c);

    s.cn = "Not a host";
    c = mk_cert(&s, key, &ca, ca_key);
    l = parse(&c);
    ck_assert_uint_eq(l->n_names, 0);
    ck_assert(!l->names_from_cn);
    cm_leaf_free(l);
    mk_cert_free(&c);

    s.cn = "b.example";
    s.sans = "mail:x@y";
    c = mk_cert(&s, key, &ca, ca_key);
    l = parse(&c);
    ck_assert_uint_eq(l->n_names, 0);
    cm_leaf_free(l);
    mk_cert_free(&c);
}
END_TEST

START_TEST(ca_and_self_issued_are_seen)
{
    struct cm_leaf *l = parse(&ca);

    ck_assert(l->is_ca);
    ck_assert(l->self_issued);
    cm_leaf_free(l);
}
END_TEST

START_TEST(key_types_are_seen)
{
    static const struct {
        gnutls_pk_algorithm_t alg;
        unsigned bits;
        enum cm_pk type;
    } cases[] = {
        { GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP384R1), CM_PK_P384 },
        { GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP521R1), CM_PK_OTHER },
        { GNUTLS_PK_EDDSA_ED25519, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_ED25519), CM_PK_ED25519 },
        { GNUTLS_PK_RSA, 2048, CM_PK_RSA2048 },
        { GNUTLS_PK_RSA, 1024, CM_PK_OTHER },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct mk_spec s = { .sans = "a.example", .not_after_s = 1 };
        gnutls_x509_privkey_t k = mk_key(cases[i].alg, cases[i].bits);
        struct mk_cert c = mk_cert(&s, k, &ca, ca_key);
        struct cm_leaf *l = parse(&c);
        struct cm_key *ours = mk_cm_key(k);
        struct cm_key *other = mk_cm_key(key);
        bool same = false;

        ck_assert_int_eq(l->key_type, cases[i].type);
        ck_ok(cm_key_matches_cert(ours, mk_span(&c), &same, &err));
        ck_assert(same);
        ck_ok(cm_key_matches_cert(other, mk_span(&c), &same, &err));
        ck_assert(!same);
        cm_key_unref(ours);
        cm_key_unref(other);
        cm_leaf_free(l);
        mk_cert_free(&c);
        gnutls_x509_privkey_deinit(k);
    }
}
END_TEST

/* ------------------------------------------------------ against GnuTLS's own reading */

static void compare_sans(const struct mk_cert *c, const struct cm_leaf *l)
{
    for (unsigned i = 0;; i++) {
        char san[300];
        size_t size = sizeof san - 1;
        char normal[CM_NAME_BUF];
        int type = gnutls_x509_crt_get_subject_alt_name(c->crt, i, san, &size, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        ck_assert_int_ge(type, 0);
        if (type != GNUTLS_SAN_DNSNAME)
            continue;
        san[size] = '\0';
        ck_ok(cm_name_normalize(san, CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_UNDERSCORE, normal,
                                &err));
        bool found = false;
        for (size_t j = 0; j < l->n_names; j++)
            found = found || strcmp(l->names[j], normal) == 0;
        ck_assert_msg(found, "%s", normal);
        ck_assert(gnutls_x509_crt_check_hostname(c->crt, normal[0] == '*' ? "x" : normal) != 0 ||
                  normal[0] == '*');
    }
}

static void compare(const struct mk_cert *c)
{
    struct cm_leaf *l = parse(c);
    uint8_t serial[64];
    size_t size = sizeof serial;
    uint8_t aki[64];
    unsigned ca_flag = 0;
    unsigned bits = 0;
    gnutls_x509_tlsfeatures_t features = NULL;
    unsigned critical = 0;
    unsigned feature = 0;

    ck_assert_int_eq(l->not_before_s, gnutls_x509_crt_get_activation_time(c->crt));
    ck_assert_int_eq(l->not_after_s, gnutls_x509_crt_get_expiration_time(c->crt));
    ck_assert_int_eq(gnutls_x509_crt_get_serial(c->crt, serial, &size), 0);
    ck_assert(cm_equal_ct((struct cm_span){ serial, size },
                          (struct cm_span){ l->serial, l->serial_len }));
    size = sizeof aki;
    bool has_aki = gnutls_x509_crt_get_authority_key_id(c->crt, aki, &size, NULL) == 0;
    ck_assert_int_eq(l->ari_id[0] != '\0', has_aki);
    ck_assert_int_eq(l->is_ca, gnutls_x509_crt_get_ca_status(c->crt, &ca_flag) > 0);
    ck_assert_int_eq(l->self_issued, gnutls_x509_crt_check_issuer(c->crt, c->crt) != 0);
    ck_assert_int_eq(gnutls_x509_tlsfeatures_init(&features), 0);
    bool stapled = gnutls_x509_crt_get_tlsfeatures(c->crt, features, 0, &critical) == 0 &&
                   gnutls_x509_tlsfeatures_get(features, 0, &feature) == 0 && feature == 5;
    gnutls_x509_tlsfeatures_deinit(features);
    ck_assert_int_eq(l->must_staple, stapled);
    if (gnutls_x509_crt_get_pk_algorithm(c->crt, &bits) == GNUTLS_PK_RSA && bits == 2048)
        ck_assert_int_eq(l->key_type, CM_PK_RSA2048);
    compare_sans(c, l);
    cm_leaf_free(l);
}

START_TEST(gnutls_reads_the_same)
{
    static const int64_t ends[] = {
        0,
        1,
        INT64_C(2147483647), /* 2038-01-19 */
        INT64_C(2147483648),
        INT64_C(2524607999), /* 2049-12-31 23:59:59: UTCTime's last */
        INT64_C(2524608000),
        INT64_C(4294967296),
        INT64_C(253402300799), /* 9999-12-31 23:59:59 */
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(ends); i++) {
        struct mk_spec s = { .cn = "x.example",
                             .sans = i % 2 ? "a.example,*.b.example,192.0.2.1" : "c.example",
                             .not_before_s = (int64_t)i,
                             .not_after_s = ends[i],
                             .ca = (int)(i % 3) - 1,
                             .pathlen = -1,
                             .must_staple = i % 2 == 0,
                             .serial_hex = i % 2 ? "00ff" : "7f0102030405060708090a0b0c0d0e0f1011",
                             .aki_hex = i % 3 ? "0102" : NULL };
        struct mk_cert c = mk_cert(&s, key, &ca, ca_key);
        compare(&c);
        mk_cert_free(&c);
    }
    compare(&ca);
}
END_TEST

/* ------------------------------------------------------------------ hostile ones */

/* A certificate with these extensions, by our own writer. */
static void make_raw(struct cm_span exts, struct cm_span serial, struct cm_buf *out)
{
    static const uint8_t empty_name[] = { 0x30, 0x00 };
    struct cm_key *k = mk_cm_key(key);
    struct cm_x509 x;
    struct cm_x509_new t = { .serial = serial,
                             .issuer = CM_SPAN_OF(empty_name),
                             .subject = CM_SPAN_OF(empty_name),
                             .not_after_s = 1,
                             .exts = exts };

    ck_ok(cm_x509_parse(mk_span(&ca), &x, &err));
    t.spki = x.spki.whole;
    cm_buf_reset(out);
    ck_ok(cm_x509_sign(&t, k, out, &err));
    cm_key_unref(k);
}

START_TEST(thousand_names_are_the_most)
{
    static char text[CM_CERT_SANS_MAX + 1][16];
    const char *names[CM_CERT_SANS_MAX + 1];
    static const uint8_t one[] = { 1 };
    struct cm_buf exts = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);

    for (size_t i = 0; i < CM_ARRAY_LEN(text); i++) {
        (void)snprintf(text[i], sizeof text[i], "n%zu.example", i);
        names[i] = text[i];
    }
    for (size_t n = CM_CERT_SANS_MAX; n <= CM_CERT_SANS_MAX + 1; n++) {
        struct cm_derw w = CM_DERW_INIT(&exts, &err);
        struct cm_leaf *l = NULL;
        cm_buf_reset(&exts);
        ck_ok(cm_ext_san(&w, names, n, false, &err));
        make_raw(cm_buf_span(&exts), CM_SPAN_OF(one), &der);
        if (n == CM_CERT_SANS_MAX) {
            ck_ok(cm_leaf_parse(cm_buf_span(&der), &l, &err));
            ck_assert_uint_eq(l->n_names, n);
            ck_assert_str_eq(l->names[n - 1], "n999.example");
            cm_leaf_free(l);
        } else {
            ck_refused(cm_leaf_parse(cm_buf_span(&der), &l, &err), CM_E_LIMIT, "1000 names");
        }
    }
    cm_buf_free(&exts);
    cm_buf_free(&der);
}
END_TEST

START_TEST(names_with_zero_bytes_match_nothing)
{
    /* "a.example\0.evil" as dNSName, then one good name */
    static const char san[] = "\x30\x1c\x82\x0f"
                              "a.example\0.evil"
                              "\x82\x09"
                              "b.example";
    static const uint8_t oid[] = { 0x55, 0x1d, 0x11 };
    static const uint8_t one[] = { 1 };
    struct cm_buf exts = CM_BUF_INIT(1024);
    struct cm_buf der = CM_BUF_INIT(4096);
    struct cm_derw w = CM_DERW_INIT(&exts, &err);
    struct cm_leaf *l = NULL;

    cm_ext_put(&w, CM_SPAN_OF(oid), false, (struct cm_span){ (const uint8_t *)san, 30 });
    make_raw(cm_buf_span(&exts), CM_SPAN_OF(one), &der);
    ck_ok(cm_leaf_parse(cm_buf_span(&der), &l, &err));
    ck_assert_uint_eq(l->n_names, 1);
    ck_assert_str_eq(l->names[0], "b.example");
    ck_assert_uint_eq(l->n_other_sans, 1);
    cm_leaf_free(l);
    cm_buf_free(&exts);
    cm_buf_free(&der);
}
END_TEST

START_TEST(second_extension_of_a_kind_is_refused)
{
    static const uint8_t one[] = { 1 };
    const char *name = "a.example";
    struct cm_buf exts = CM_BUF_INIT(1024);
    struct cm_buf der = CM_BUF_INIT(4096);
    struct cm_derw w = CM_DERW_INIT(&exts, &err);
    struct cm_leaf *l = NULL;

    ck_ok(cm_ext_san(&w, &name, 1, false, &err));
    name = "b.example";
    ck_ok(cm_ext_san(&w, &name, 1, false, &err));
    make_raw(cm_buf_span(&exts), CM_SPAN_OF(one), &der);
    ck_refused(cm_leaf_parse(cm_buf_span(&der), &l, &err), CM_E_PARSE, "extension list");

    cm_buf_reset(&exts);
    cm_ext_basic(&w, false, -1);
    cm_ext_basic(&w, true, -1);
    make_raw(cm_buf_span(&exts), CM_SPAN_OF(one), &der);
    ck_refused(cm_leaf_parse(cm_buf_span(&der), &l, &err), CM_E_PARSE, "extension list");
    cm_buf_free(&exts);
    cm_buf_free(&der);
}
END_TEST

START_TEST(serial_number_of_25_bytes_is_too_long)
{
    uint8_t serial[25] = { 1 };
    struct cm_buf exts = CM_BUF_INIT(64);
    struct cm_buf der = CM_BUF_INIT(4096);
    struct cm_derw w = CM_DERW_INIT(&exts, &err);
    struct cm_leaf *l = NULL;

    cm_ext_basic(&w, false, -1);
    make_raw(cm_buf_span(&exts), (struct cm_span){ serial, 24 }, &der);
    ck_ok(cm_leaf_parse(cm_buf_span(&der), &l, &err));
    ck_assert_uint_eq(strlen(l->serial_hex), 48);
    cm_leaf_free(l);
    make_raw(cm_buf_span(&exts), (struct cm_span){ serial, 25 }, &der);
    ck_refused(cm_leaf_parse(cm_buf_span(&der), &l, &err), CM_E_LIMIT, "25 bytes");
    cm_buf_free(&exts);
    cm_buf_free(&der);
}
END_TEST

START_TEST(signature_algorithm_must_be_the_same_inside_and_outside)
{
    static const uint8_t ecdsa_sha256[] = { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
    struct mk_spec s = { .sans = "a.example", .not_after_s = 1 };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);
    struct cm_leaf *l = NULL;
    unsigned seen = 0;

    for (unsigned i = 0; i + sizeof ecdsa_sha256 <= c.der.size; i++) {
        if (memcmp(c.der.data + i, ecdsa_sha256, sizeof ecdsa_sha256) != 0)
            continue;
        seen++;
        c.der.data[i + 7] = 0x03; /* ecdsa-with-SHA384 */
        ck_refused(cm_leaf_parse(mk_span(&c), &l, &err), CM_E_PARSE, "signature algorithm");
        c.der.data[i + 7] = 0x02;
    }
    ck_assert_uint_eq(seen, 2);
    mk_cert_free(&c);
}
END_TEST

static void make_spki(struct cm_buf *out, size_t e_len)
{
    static const uint8_t null_params[] = { 5, 0 };
    uint8_t n[256];
    uint8_t e[16];
    struct cm_derw w = CM_DERW_INIT(out, &err);

    memset(n, 0x81, sizeof n);
    memset(e, 0x7f, sizeof e);
    cm_buf_reset(out);
    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    size_t alg = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OID, CM_SPAN_OF(cm_oid_rsa));
    cm_derw_raw(&w, CM_SPAN_OF(null_params));
    cm_derw_close(&w, alg);
    size_t bits = cm_derw_open(&w, CM_DER_BIT_STRING);
    cm_derw_byte(&w, 0);
    size_t rsa = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_uint(&w, CM_SPAN_OF(n));
    cm_derw_uint(&w, (struct cm_span){ e, e_len });
    cm_derw_close(&w, rsa);
    cm_derw_close(&w, bits);
    cm_derw_close(&w, seq);
    ck_assert_int_eq(w.rc, CM_OK);
}

START_TEST(rsa_exponent_of_nine_bytes_is_refused)
{
    struct cm_buf der = CM_BUF_INIT(1024);
    struct cm_spki spki;

    make_spki(&der, 8);
    ck_assert_int_eq(cm_spki_parse(cm_buf_span(&der), &spki), CM_OK);
    ck_assert_int_eq(spki.type, CM_PK_RSA2048);
    make_spki(&der, 9);
    ck_assert_int_eq(cm_spki_parse(cm_buf_span(&der), &spki), CM_E_PARSE);
    cm_buf_free(&der);
}
END_TEST

START_TEST(rsa_exponent_must_be_odd)
{
    static const uint8_t f4[] = { 0x02, 0x03, 0x01, 0x00, 0x01 };
    struct mk_spec s = { .sans = "a.example", .not_after_s = 1 };
    gnutls_x509_privkey_t rsa = mk_key(GNUTLS_PK_RSA, 2048);
    struct mk_cert c = mk_cert(&s, rsa, &ca, ca_key);
    struct cm_leaf *l = NULL;

    uint8_t *e = memmem(c.der.data, c.der.size, f4, sizeof f4);
    ck_assert_ptr_nonnull(e);
    e[4] = 0; /* even */
    ck_refused(cm_leaf_parse(mk_span(&c), &l, &err), CM_E_PARSE, "public key");
    mk_cert_free(&c);
    gnutls_x509_privkey_deinit(rsa);
}
END_TEST

START_TEST(every_cut_of_a_certificate_is_refused)
{
    struct mk_spec s = { .sans = "a.example", .not_after_s = 1, .aki_hex = "0102" };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);

    for (size_t n = 0; n < c.der.size; n++) {
        uint8_t *exact = malloc(n + (n == 0));
        struct cm_leaf *l = NULL;
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, c.der.data, n);
        ck_assert_int_eq(cm_leaf_parse((struct cm_span){ exact, n }, &l, &err), CM_E_PARSE);
        free(exact);
    }
    mk_cert_free(&c);
}
END_TEST

START_TEST(no_allocation_failure_leaks_or_crashes)
{
    struct mk_spec s = { .sans = "a.example", .not_after_s = 1, .aki_hex = "0102" };
    struct mk_cert c = mk_cert(&s, key, &ca, ca_key);

    for (uint64_t n = 1; n < 50; n++) {
        struct cm_leaf *l = NULL;
        (void)cm_alloc_fail_at(n);
        cm_status rc = cm_leaf_parse(mk_span(&c), &l, &err);
        (void)cm_alloc_fail_at(0);
        cm_leaf_free(l);
        if (rc == CM_OK)
            break;
        ck_assert_int_eq(rc, CM_E_NOMEM);
        ck_assert_uint_lt(n, 49);
    }
    mk_cert_free(&c);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        ari_id_of_rfc_9773,
        leaf_without_authority_key_id_has_no_ari_id,
        everything_core_asks_for_is_there,
        common_name_counts_only_without_alternative_names,
        ca_and_self_issued_are_seen,
        key_types_are_seen,
        gnutls_reads_the_same,
        thousand_names_are_the_most,
        names_with_zero_bytes_match_nothing,
        second_extension_of_a_kind_is_refused,
        serial_number_of_25_bytes_is_too_long,
        signature_algorithm_must_be_the_same_inside_and_outside,
        rsa_exponent_of_nine_bytes_is_refused,
        rsa_exponent_must_be_odd,
        every_cut_of_a_certificate_is_refused,
        no_allocation_failure_leaks_or_crashes,
    };

    return run_tests_how("leaf", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .begin = setup, .end = teardown });
}
