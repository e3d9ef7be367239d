/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"
#include "x509.h"

#include <arpa/inet.h>
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

int main(void)
{
    const TTest *const tests[] = {
        csr_of_each_key_type_verifies,
        names_go_in_by_their_kind_and_in_order,
        must_staple_asks_for_the_tls_feature,
        bad_name_lists_are_refused,
    };

    return run_tests("csr", tests, CM_ARRAY_LEN(tests));
}
