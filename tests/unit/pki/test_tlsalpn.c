/* SPDX-License-Identifier: Apache-2.0 */
#include "pki_gnutls.h"
#include "run.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>

static struct cm_err err;

#define NOW INT64_C(1800000000)
#define KEYAUTH                                                                                    \
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ"

static gnutls_x509_crt_t read_cert(const struct cm_buf *der)
{
    gnutls_datum_t d = { der->data, (unsigned)der->len };
    gnutls_x509_crt_t crt = NULL;

    ck_assert_int_eq(gnutls_x509_crt_init(&crt), 0);
    ck_assert_int_eq(gnutls_x509_crt_import(crt, &d, GNUTLS_X509_FMT_DER), 0);
    return crt;
}

/* RFC 8737 3: critical, OCTET STRING of the SHA-256 of the key authorization. */
static void check_identifier(gnutls_x509_crt_t crt)
{
    uint8_t value[64];
    size_t size = sizeof value;
    char oid[64];
    unsigned critical = 0;
    unsigned count = 0;
    uint8_t sum[CM_SHA256_LEN];

    for (unsigned i = 0;; i++) {
        size_t oid_size = sizeof oid;
        int rc = gnutls_x509_crt_get_extension_info(crt, i, oid, &oid_size, &critical);
        if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        ck_assert_int_eq(rc, 0);
        if (strcmp(oid, "1.3.6.1.5.5.7.1.31") != 0)
            continue;
        count++;
        ck_assert_uint_eq(critical, 1);
        ck_assert_int_eq(gnutls_x509_crt_get_extension_data(crt, i, value, &size), 0);
    }
    ck_assert_uint_eq(count, 1);
    cm_sha256(cm_span_str(KEYAUTH), sum);
    ck_assert_uint_eq(size, 34);
    ck_assert_uint_eq(value[0], 0x04);
    ck_assert_uint_eq(value[1], 0x20);
    ck_assert_mem_eq(value + 2, sum, sizeof sum);
}

static void check_only_san(gnutls_x509_crt_t crt, const char *ident)
{
    uint8_t want[16];
    uint8_t got[300];
    size_t size = sizeof got;
    int type = gnutls_x509_crt_get_subject_alt_name(crt, 0, got, &size, NULL);

    if (!cm_name_is_ip(ident)) {
        ck_assert_int_eq(type, GNUTLS_SAN_DNSNAME);
        ck_assert_uint_eq(size, strlen(ident));
        ck_assert_mem_eq(got, ident, size);
    } else {
        ck_assert_int_eq(type, GNUTLS_SAN_IPADDRESS); /* RFC 8738 6 */
        ck_assert_uint_eq(size, strchr(ident, ':') != NULL ? 16 : 4);
        ck_assert_int_eq(inet_pton(size == 16 ? AF_INET6 : AF_INET, ident, want), 1);
        ck_assert_mem_eq(got, want, size);
    }
    size = sizeof got;
    ck_assert_int_eq(gnutls_x509_crt_get_subject_alt_name(crt, 1, got, &size, NULL),
                     GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE);
}

START_TEST(certificate_is_that_of_rfc_8737)
{
    static const char *const idents[] = { "a.example", "192.0.2.1", "2001:db8::1",
                                          "xn--bcher-kva.example" };

    for (size_t i = 0; i < CM_ARRAY_LEN(idents); i++) {
        struct cm_buf der = CM_BUF_INIT(4096);
        struct cm_key *key = NULL;
        bool same = false;
        unsigned ca = 1;
        unsigned verify = 1;

        ck_ok(cm_tlsalpn_make(idents[i], KEYAUTH, NOW, &der, &key, &err));
        gnutls_x509_crt_t crt = read_cert(&der);
        check_identifier(crt);
        check_only_san(crt, idents[i]);
        ck_assert_int_eq(gnutls_x509_crt_get_basic_constraints(crt, NULL, &ca, NULL), 0);
        ck_assert_uint_eq(ca, 0);
        ck_assert_int_le(gnutls_x509_crt_get_activation_time(crt), NOW);
        ck_assert_int_gt(gnutls_x509_crt_get_expiration_time(crt), NOW + 7 * 86400);
        ck_assert_int_eq(gnutls_x509_crt_verify(crt, &crt, 1,
                                                GNUTLS_VERIFY_DISABLE_TIME_CHECKS |
                                                    GNUTLS_VERIFY_DISABLE_CA_SIGN,
                                                &verify),
                         0);
        ck_assert_uint_eq(verify, 0);
        ck_ok(cm_key_matches_cert(key, cm_buf_span(&der), &same, &err));
        ck_assert(same);
        ck_assert_int_eq(cm_key_type_of(key), CM_PK_P256);
        gnutls_x509_crt_deinit(crt);
        cm_key_unref(key);
        cm_buf_free(&der);
    }
}
END_TEST

START_TEST(two_certificates_differ_in_key_and_serial)
{
    struct cm_buf a = CM_BUF_INIT(4096);
    struct cm_buf b = CM_BUF_INIT(4096);
    struct cm_key *key_a = NULL;
    struct cm_key *key_b = NULL;
    struct cm_leaf *leaf_a = NULL;
    struct cm_leaf *leaf_b = NULL;
    bool same = true;

    ck_ok(cm_tlsalpn_make("a.example", KEYAUTH, NOW, &a, &key_a, &err));
    ck_ok(cm_tlsalpn_make("a.example", KEYAUTH, NOW, &b, &key_b, &err));
    ck_ok(cm_key_matches_cert(key_a, cm_buf_span(&b), &same, &err));
    ck_assert(!same);
    ck_ok(cm_leaf_parse(cm_buf_span(&a), &leaf_a, &err));
    ck_ok(cm_leaf_parse(cm_buf_span(&b), &leaf_b, &err));
    ck_assert_str_ne(leaf_a->serial_hex, leaf_b->serial_hex);
    ck_assert_uint_eq(leaf_a->serial_len, 16);
    cm_leaf_free(leaf_a);
    cm_leaf_free(leaf_b);
    cm_key_unref(key_a);
    cm_key_unref(key_b);
    cm_buf_free(&a);
    cm_buf_free(&b);
}
END_TEST

START_TEST(what_cannot_be_validated_so_is_refused)
{
    struct cm_buf der = CM_BUF_INIT(4096);
    struct cm_key *key = NULL;

    ck_refused(cm_tlsalpn_make("*.example", KEYAUTH, NOW, &der, &key, &err), CM_E_INVAL,
               "wildcard");
    ck_refused(cm_tlsalpn_make("A.example", KEYAUTH, NOW, &der, &key, &err), CM_E_INVAL,
               "'A.example'");
    ck_refused(cm_tlsalpn_make("a.example", "", NOW, &der, &key, &err), CM_E_INVAL,
               "key authorization");
    ck_refused(cm_tlsalpn_make(NULL, KEYAUTH, NOW, &der, &key, &err), CM_E_INVAL, "tls-alpn-01");
    ck_assert_ptr_null(key);
    ck_assert_uint_eq(der.len, 0);
    cm_buf_free(&der);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        certificate_is_that_of_rfc_8737,
        two_certificates_differ_in_key_and_serial,
        what_cannot_be_validated_so_is_refused,
    };

    return run_tests("tlsalpn", tests, CM_ARRAY_LEN(tests));
}
