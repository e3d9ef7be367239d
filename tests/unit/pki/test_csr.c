/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "x509.h"

#include <arpa/inet.h>
#include <certmesh/cm_config_extra.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>

static struct cm_err err;

static gnutls_x509_crq_t read_csr(const struct cm_buf *der)
{
    gnutls_datum_t d = { der->data, (unsigned)der->len };
    gnutls_x509_crq_t crq = NULL;

    ck_assert_int_eq(gnutls_x509_crq_init(&crq), 0);
    ck_assert_int_eq(gnutls_x509_crq_import(crq, &d, GNUTLS_X509_FMT_DER), 0);
    return crq;
}

START_TEST(csr_of_each_key_type_verifies)
{
    static const enum cm_pk types[] = { CM_PK_P256, CM_PK_P384, CM_PK_RSA2048, CM_PK_ED25519 };
    const char *name = "a.example";

    for (size_t i = 0; i < CM_ARRAY_LEN(types); i++) {
        struct cm_key *key = NULL;
        struct cm_buf der = CM_BUF_INIT(65536);
        size_t size = 0;

        ck_ok(cm_key_generate(types[i], &key, &err));
        ck_ok(cm_csr_make(key, &name, 1, false, &der, &err));
        gnutls_x509_crq_t crq = read_csr(&der);
        ck_assert_int_eq(gnutls_x509_crq_verify(crq, 0), 0);
        ck_assert_int_eq(gnutls_x509_crq_get_version(crq), 1);
        ck_assert_int_lt(gnutls_x509_crq_get_dn(crq, NULL, &size), 0); /* empty subject */
        gnutls_x509_crq_deinit(crq);
        cm_buf_free(&der);
        cm_key_unref(key);
    }
}
END_TEST

START_TEST(names_go_in_by_their_kind_and_in_order)
{
    static const char *const names[] = { "a.example", "*.b.example", "192.0.2.1", "2001:db8::1",
                                         "xn--bcher-kva.example" };
    static const int kinds[] = { GNUTLS_SAN_DNSNAME, GNUTLS_SAN_DNSNAME, GNUTLS_SAN_IPADDRESS,
                                 GNUTLS_SAN_IPADDRESS, GNUTLS_SAN_DNSNAME };
    struct cm_key *key = NULL;
    struct cm_buf der = CM_BUF_INIT(65536);
    char got[300];
    unsigned kind = 0;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, names, CM_ARRAY_LEN(names), false, &der, &err));
    gnutls_x509_crq_t crq = read_csr(&der);
    for (unsigned i = 0; i < CM_ARRAY_LEN(names); i++) {
        size_t size = sizeof got - 1;
        int rc = gnutls_x509_crq_get_subject_alt_name(crq, i, got, &size, &kind, NULL);
        ck_assert_int_eq(rc, kinds[i]);
        char text[INET6_ADDRSTRLEN];
        got[size] = '\0';
        if (kinds[i] == GNUTLS_SAN_IPADDRESS)
            ck_assert_str_eq(inet_ntop(size == 4 ? AF_INET : AF_INET6, got, text, sizeof text),
                             names[i]);
        else
            ck_assert_str_eq(got, names[i]);
    }
    gnutls_x509_crq_deinit(crq);
    cm_buf_free(&der);
    cm_key_unref(key);
}
END_TEST

START_TEST(must_staple_asks_for_the_tls_feature)
{
    const char *name = "a.example";
    struct cm_key *key = NULL;

    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    for (int on = 0; on < 2; on++) {
        struct cm_buf der = CM_BUF_INIT(65536);
        struct cm_x509 csr;
        gnutls_datum_t value = { NULL, 0 };
        unsigned critical = 1;

        ck_ok(cm_csr_make(key, &name, 1, on == 1, &der, &err));
        ck_ok(cm_x509_parse_csr(cm_buf_span(&der), &csr, &err));
        ck_assert_int_eq(csr.ext.must_staple, on);
        gnutls_x509_crq_t crq = read_csr(&der);
        int rc =
            gnutls_x509_crq_get_extension_by_oid2(crq, "1.3.6.1.5.5.7.1.24", 0, &value, &critical);
        gnutls_free(value.data);
        ck_assert_int_eq(rc >= 0, on);
        if (on == 1)
            ck_assert_uint_eq(critical, 0);
        gnutls_x509_crq_deinit(crq);
        cm_buf_free(&der);
    }
    cm_key_unref(key);
}
END_TEST

START_TEST(bad_name_lists_are_refused)
{
    const char *const upper[] = { "a.example", "B.example" };
    const char *const twice[] = { "a.example", "b.example", "a.example" };
    const char *const bad[] = { "a b" };
    const char *many[257];
    struct cm_key *key = NULL;
    struct cm_buf der = CM_BUF_INIT(65536);

    for (size_t i = 0; i < CM_ARRAY_LEN(many); i++)
        many[i] = "a.example";
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_refused(cm_csr_make(key, upper, 2, false, &der, &err), CM_E_INVAL, "'B.example'");
    ck_refused(cm_csr_make(key, twice, 3, false, &der, &err), CM_E_INVAL, "twice");
    ck_refused(cm_csr_make(key, bad, 1, false, &der, &err), CM_E_INVAL, "'a b'");
    ck_refused(cm_csr_make(key, bad, 0, false, &der, &err), CM_E_INVAL, "0 names");
    ck_refused(cm_csr_make(key, many, 257, false, &der, &err), CM_E_INVAL, "257 names");
    ck_assert_uint_eq(der.len, 0);
    cm_buf_free(&der);
    cm_key_unref(key);
}
END_TEST

static struct cm_span bytes_of(const char *bytes, size_t len)
{
    return (struct cm_span){ (const uint8_t *)bytes, len };
}
#define BYTES(literal) bytes_of(literal, sizeof(literal) - 1)

/* Extension @oid of the request as others read it; its value is @want. */
static void check_extension(gnutls_x509_crq_t crq, const char *oid, bool critical,
                            struct cm_span want)
{
    gnutls_datum_t value = { NULL, 0 };
    unsigned is_critical = 2;

    ck_assert_int_eq(gnutls_x509_crq_get_extension_by_oid2(crq, oid, 0, &value, &is_critical), 0);
    ck_assert_uint_eq(value.size, want.len);
    ck_assert_mem_eq(value.data, want.data, want.len);
    ck_assert_uint_eq(is_critical, critical ? 1 : 0);
    gnutls_free(value.data);
}

START_TEST(extensions_go_in_beside_the_names)
{
    const struct cm_span policies = BYTES("\x30\x0a\x30\x08\x06\x06\x67\x81\x0c\x01\x02\x01");
    const struct cm_span text = BYTES("\x0c\x03"
                                      "abc");
    const struct cm_span usage = BYTES("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01");
    struct cm_buf list = CM_BUF_INIT(CM_CSR_EXTENSION_BYTES_MAX), der = CM_BUF_INIT(65536);
    struct cm_buf other = CM_BUF_INIT(CM_CSR_EXTENSION_BYTES_MAX);
    const char *name = "a.example";
    struct cm_key *key = NULL;
    char san[64];
    size_t size = sizeof san;

    ck_ok(cm_csr_ext_add("2.5.29.32", false, policies, &list, &err));
    ck_ok(cm_csr_ext_add("1.3.6.1.4.1.311.20.2", true, text, &list, &err));
    ck_ok(cm_csr_ext_add("2.5.29.37", false, usage, &list, &err));
    ck_ok(cm_csr_ext_add("2.999.4294967296.0", false, text, &list, &err));
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make_ext(key, &name, 1, true, cm_buf_span(&list), &der, &err));
    ck_ok(cm_csr_check(cm_buf_span(&der), key, &err));
    gnutls_x509_crq_t crq = read_csr(&der);
    ck_assert_int_eq(gnutls_x509_crq_verify(crq, 0), 0);
    check_extension(crq, "2.5.29.32", false, policies);
    check_extension(crq, "1.3.6.1.4.1.311.20.2", true, text);
    check_extension(crq, "2.5.29.37", false, usage);
    check_extension(crq, "2.999.4294967296.0", false, text);
    check_extension(crq, "1.3.6.1.5.5.7.1.24", false, BYTES("\x30\x03\x02\x01\x05"));
    ck_assert_int_eq(gnutls_x509_crq_get_subject_alt_name(crq, 0, san, &size, NULL, NULL),
                     GNUTLS_SAN_DNSNAME);
    gnutls_x509_crq_deinit(crq);

    /* Told from requests for others, or for none. */
    ck_assert(cm_csr_ext_is(cm_buf_span(&der), cm_buf_span(&list)));
    ck_assert(!cm_csr_ext_is(cm_buf_span(&der), (struct cm_span){ NULL, 0 }));
    list.data[list.len - 1] ^= 1; /* of the same length */
    ck_assert(!cm_csr_ext_is(cm_buf_span(&der), cm_buf_span(&list)));
    list.data[list.len - 1] ^= 1;
    ck_ok(cm_csr_ext_add("2.5.29.32", false, policies, &other, &err));
    ck_assert(!cm_csr_ext_is(cm_buf_span(&der), cm_buf_span(&other)));
    ck_ok(cm_csr_ext_add("1.3.6.1.4.1.311.20.2", false, text, &other, &err));
    ck_assert(!cm_csr_ext_is(cm_buf_span(&der), cm_buf_span(&other)));
    cm_buf_reset(&der);
    ck_ok(cm_csr_make(key, &name, 1, true, &der, &err));
    ck_assert(cm_csr_ext_is(cm_buf_span(&der), (struct cm_span){ NULL, 0 }));
    ck_assert(!cm_csr_ext_is(cm_buf_span(&der), cm_buf_span(&list)));
    cm_key_unref(key);
    cm_buf_free(&list);
    cm_buf_free(&other);
    cm_buf_free(&der);
}
END_TEST

START_TEST(extensions_that_are_not_to_be_asked_for_are_refused)
{
    static const char *const ours[] = {
        "2.5.29.17",
        "2.5.29.19",
        "2.5.29.30",
        "2.5.29.14",
        "2.5.29.35",
        "2.5.29.31",
        "1.3.6.1.5.5.7.1.1",
        "1.3.6.1.5.5.7.1.24",
        "1.3.6.1.5.5.7.1.31",
        "1.3.6.1.4.1.11129.2.4.2",
        "1.3.6.1.4.1.11129.2.4.3",
    };
    static const char *const no_oids[] = {
        "",     "1",    "1.",     "1.40", "3.1",    "1.2.", ".1.2",
        "1..2", "01.2", "1.2.03", "1.x",  "1.2.3 ", "-1.2", "1.2.99999999999999999999",
    };
    const struct cm_span no_der[] = { { NULL, 0 },
                                      BYTES("\x05"),
                                      BYTES("\x05\x01"),
                                      BYTES("\x05\x00\x05\x00"),
                                      BYTES("\x04\x81\x01x"),
                                      BYTES("\x30\x80\x00\x00") };
    const struct cm_span null = BYTES("\x05\x00");
    struct cm_buf list = CM_BUF_INIT(CM_CSR_EXTENSION_BYTES_MAX);
    static uint8_t large[CM_CSR_EXTENSION_BYTES_MAX - 128] = { 0x04, 0x82 };
    char long_oid[300] = "1.2";

    for (size_t i = 0; i < CM_ARRAY_LEN(ours); i++)
        ck_refused(cm_csr_ext_add(ours[i], false, null, &list, &err), CM_E_INVAL, ours[i]);
    for (size_t i = 0; i < CM_ARRAY_LEN(no_oids); i++)
        ck_refused(cm_csr_ext_add(no_oids[i], false, null, &list, &err), CM_E_INVAL, "no OID");
    for (int i = 0; i < 70; i++)
        (void)strncat(long_oid, ".1", 3);
    ck_refused(cm_csr_ext_add(long_oid, false, null, &list, &err), CM_E_INVAL, "no OID");
    ck_refused(cm_csr_ext_add(NULL, false, null, &list, &err), CM_E_INVAL, "no OID");
    for (size_t i = 0; i < CM_ARRAY_LEN(no_der); i++)
        ck_refused(cm_csr_ext_add("1.2.3", false, no_der[i], &list, &err), CM_E_INVAL, "not DER");
    /* of a kind that is looked into */
    ck_refused(cm_csr_ext_add("2.5.29.15", false, null, &list, &err), CM_E_INVAL, "of its kind");
    ck_refused(cm_csr_ext_add("2.5.29.37", false,
                              BYTES("\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"), &list,
                              &err),
               CM_E_INVAL, "serverAuth");
    ck_assert_uint_eq(list.len, 0);

    ck_ok(cm_csr_ext_add("1.2.3", false, null, &list, &err));
    ck_refused(cm_csr_ext_add("1.2.3", true, null, &list, &err), CM_E_INVAL, "twice");
    large[2] = (uint8_t)((sizeof large - 4) >> 8);
    large[3] = (uint8_t)((sizeof large - 4) & 0xff);
    ck_ok(cm_csr_ext_add("1.2.4", false, CM_SPAN_OF(large), &list, &err));
    ck_refused(cm_csr_ext_add("1.2.5", false, CM_SPAN_OF(large), &list, &err), CM_E_LIMIT, "1.2.5");
    cm_buf_free(&list);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        csr_of_each_key_type_verifies,        names_go_in_by_their_kind_and_in_order,
        must_staple_asks_for_the_tls_feature, bad_name_lists_are_refused,
        extensions_go_in_beside_the_names,    extensions_that_are_not_to_be_asked_for_are_refused,
    };

    return run_tests("csr", tests, CM_ARRAY_LEN(tests));
}
