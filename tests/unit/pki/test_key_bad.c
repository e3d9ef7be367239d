/* SPDX-License-Identifier: Apache-2.0 */
#include "mkkey.h"

#include <gnutls/x509.h>

START_TEST(keys_that_cannot_be_used_are_refused_with_advice)
{
    static const char encrypted[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n"
                                    "-----END ENCRYPTED PRIVATE KEY-----\n";
    static const char old_encrypted[] = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: "
                                        "4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n"
                                        "-----END RSA PRIVATE KEY-----\n";
    static const char openssh[] = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
                                  "-----END OPENSSH PRIVATE KEY-----\n";
    static const char hidden[] = "-----BEGIN PRIVATE KEY-----\n"
                                 "MA8wCwYJKoZIhvcNAQUNBAA=\n" /* EncryptedPrivateKeyInfo */
                                 "-----END PRIVATE KEY-----\n";
    static const char cert[] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    static const char not_base64[] =
        "-----BEGIN PRIVATE KEY-----\nMA!=\n-----END PRIVATE KEY-----\n";
    static const char bad_pad[] = "-----BEGIN PRIVATE KEY-----\nMA=\n-----END PRIVATE KEY-----\n";
    static const char spare_bits[] =
        "-----BEGIN PRIVATE KEY-----\nMAB=\n-----END PRIVATE KEY-----\n";
    static const char other_end[] =
        "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";
    static const char empty[] = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";
    static char huge[CM_KEY_PEM_MAX + 1];
    struct cm_key *key = NULL;

    ck_refused(cm_key_from_pem(cm_span_str(encrypted), &key, &err), CM_E_KEY, "openssl pkey");
    ck_refused(cm_key_from_pem(cm_span_str(old_encrypted), &key, &err), CM_E_KEY, "encrypted");
    ck_refused(cm_key_from_pem(cm_span_str(hidden), &key, &err), CM_E_KEY, "encrypted");
    ck_refused(cm_key_from_pem(cm_span_str(openssh), &key, &err), CM_E_KEY, "ssh-keygen");
    ck_refused(cm_key_from_pem(cm_span_str(cert), &key, &err), CM_E_PARSE, "no PRIVATE KEY");
    ck_refused(cm_key_from_pem(cm_span_str(""), &key, &err), CM_E_PARSE, "no PRIVATE KEY");
    ck_refused(cm_key_from_pem(cm_span_str(not_base64), &key, &err), CM_E_PARSE, "base64");
    ck_refused(cm_key_from_pem(cm_span_str(bad_pad), &key, &err), CM_E_PARSE, "base64");
    ck_refused(cm_key_from_pem(cm_span_str(spare_bits), &key, &err), CM_E_PARSE, "base64");
    ck_refused(cm_key_from_pem(cm_span_str(other_end), &key, &err), CM_E_PARSE, "END line");
    ck_refused(cm_key_from_pem(cm_span_str(empty), &key, &err), CM_E_PARSE, "malformed");
    ck_refused(cm_key_from_pem((struct cm_span){ (uint8_t *)huge, sizeof huge }, &key, &err),
               CM_E_LIMIT, "16384");
    ck_assert_ptr_null(key);
}
END_TEST

START_TEST(broken_ec_keys_are_refused)
{
    static const uint8_t zero[32] = { 0 };
    static const uint8_t secp256k1[] = { 0x2b, 0x81, 0x04, 0x00, 0x0a };
    static const uint8_t p384_params[] = { 6, 5, 0x2b, 0x81, 0x04, 0x00, 0x22 };
    struct cm_span none = { NULL, 0 };
    struct cm_key *a3 = from_text(rfc7515_a3_ec);
    struct cm_span scalar, point;
    struct cm_buf der = CM_BUF_SECRET(1024);
    struct cm_buf outer = CM_BUF_SECRET(1024);
    struct cm_key *key = NULL;
    uint8_t compressed[33];
    uint8_t wide[33];

    a3_parts(a3, &scalar, &point);
    memcpy(compressed, point.data, sizeof compressed);
    compressed[0] = 3;
    memset(wide, 1, sizeof wide);
#define SEC1_REFUSED(s, c, p, status, part)                                                        \
    do {                                                                                           \
        cm_buf_reset(&der);                                                                        \
        make_sec1(&der, s, c, p);                                                                  \
        ck_refused(cm_key_from_der(cm_buf_span(&der), &key, &err), status, part);                  \
    } while (0)
    SEC1_REFUSED(CM_SPAN_OF(zero), CM_SPAN_OF(cm_oid_p256), point, CM_E_KEY, "out of range");
    SEC1_REFUSED(CM_SPAN_OF(wide), CM_SPAN_OF(cm_oid_p256), point, CM_E_KEY, "out of range");
    SEC1_REFUSED(scalar, CM_SPAN_OF(secp256k1), point, CM_E_KEY, "P-256");
    SEC1_REFUSED(scalar, none, point, CM_E_KEY, "curve is missing");
    SEC1_REFUSED(scalar, CM_SPAN_OF(cm_oid_p256), none, CM_E_KEY, "openssl pkey");
    SEC1_REFUSED(scalar, CM_SPAN_OF(cm_oid_p256), CM_SPAN_OF(compressed), CM_E_KEY, "uncompressed");
    SEC1_REFUSED(scalar, CM_SPAN_OF(cm_oid_p384), point, CM_E_KEY, "uncompressed");
    cm_buf_reset(&der);
    make_sec1(&der, scalar, CM_SPAN_OF(cm_oid_p256), point);
    wrap_pkcs8(&outer, CM_SPAN_OF(cm_oid_ec), CM_SPAN_OF(p384_params), cm_buf_span(&der));
    ck_refused(cm_key_from_der(cm_buf_span(&outer), &key, &err), CM_E_KEY, "two different");
    ck_ok(cm_buf_append(&der, "x", 1, &err));
    ck_refused(cm_key_from_der(cm_buf_span(&der), &key, &err), CM_E_PARSE, "malformed");
    ck_assert_ptr_null(key);
    cm_key_unref(a3);
    cm_buf_free(&der);
    cm_buf_free(&outer);
}
END_TEST

START_TEST(public_half_of_another_key_is_noticed)
{
    struct cm_key *a3 = from_text(rfc7515_a3_ec);
    struct cm_key *key = NULL;
    struct cm_buf der = CM_BUF_SECRET(512);
    struct cm_span scalar, point;
    uint8_t other[32];

    a3_parts(a3, &scalar, &point);
    memcpy(other, scalar.data, sizeof other);
    other[31] ^= 1;
    make_sec1(&der, CM_SPAN_OF(other), CM_SPAN_OF(cm_oid_p256), point);
    ck_ok(cm_key_from_der(cm_buf_span(&der), &key, &err)); /* costs too much to check each time */
    ck_refused(cm_key_check(key, &err), CM_E_KEY, "do not match");
    ck_ok(cm_key_check(a3, &err));
    cm_key_unref(key);
    cm_key_unref(a3);
    cm_buf_free(&der);
}
END_TEST

START_TEST(rsa_sizes_have_bounds)
{
    static const struct {
        unsigned bits;
        bool ok;
    } cases[] = { { 768, false }, { 1016, false }, { 1024, true }, { 2056, true } };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        gnutls_x509_privkey_t x509;
        gnutls_datum_t der;
        struct cm_key *key = NULL;

        ck_assert_int_eq(gnutls_x509_privkey_init(&x509), 0);
        ck_assert_int_eq(gnutls_x509_privkey_generate(x509, GNUTLS_PK_RSA, cases[i].bits, 0), 0);
        ck_assert_int_eq(gnutls_x509_privkey_export2(x509, GNUTLS_X509_FMT_DER, &der), 0);
        cm_status rc = cm_key_from_der((struct cm_span){ der.data, der.size }, &key, &err);
        ck_assert_int_eq(rc, cases[i].ok ? CM_OK : CM_E_KEY);
        if (rc == CM_OK)
            ck_assert_int_eq(cm_key_type_of(key), CM_PK_OTHER);
        else
            ck_assert_ptr_nonnull(strstr(err.msg, "1024 to 8192"));
        cm_key_unref(key);
        gnutls_free(der.data);
        gnutls_x509_privkey_deinit(x509);
    }
}
END_TEST

/* The key of RFC 7515 A.2 with one of its numbers (1 = n, 2 = e, ...) replaced. */
static void change_rsa(struct cm_buf *out, unsigned which, struct cm_span value)
{
    struct cm_key *a2 = from_text(rfc7515_a2_rsa);
    struct cm_span in = der_of(a2);
    struct cm_derw w = CM_DERW_INIT(out, &err);
    struct cm_span seq, number;

    cm_buf_reset(out);
    ck_assert(cm_der_take(&in, CM_DER_SEQUENCE, &seq));
    size_t mark = cm_derw_open(&w, CM_DER_SEQUENCE);
    for (unsigned i = 0; i < 9; i++) {
        ck_assert(cm_der_take_uint(&seq, &number));
        cm_derw_uint(&w, i == which ? value : number);
    }
    cm_derw_close(&w, mark);
    ck_assert_int_eq(w.rc, CM_OK);
    cm_key_unref(a2);
}

START_TEST(rsa_numbers_out_of_range_are_refused)
{
    static const uint8_t one[] = { 1 };
    static const uint8_t even[] = { 1, 0, 0 };
    static const uint8_t f4[] = { 1, 0, 1 };
    uint8_t nine[9];
    uint8_t wide[257];
    struct cm_buf der = CM_BUF_SECRET(4096);
    struct cm_key *key = NULL;

    memset(nine, 0x7f, sizeof nine);
    memset(wide, 0x7f, sizeof wide);
    change_rsa(&der, 2, CM_SPAN_OF(f4));
    ck_ok(cm_key_from_der(cm_buf_span(&der), &key, &err));
    cm_key_unref(key);
    key = NULL;
    change_rsa(&der, 2, CM_SPAN_OF(nine));
    ck_refused(cm_key_from_der(cm_buf_span(&der), &key, &err), CM_E_KEY, "exponent");
    change_rsa(&der, 2, CM_SPAN_OF(even));
    ck_refused(cm_key_from_der(cm_buf_span(&der), &key, &err), CM_E_KEY, "exponent");
    change_rsa(&der, 3, CM_SPAN_OF(wide));
    ck_refused(cm_key_from_der(cm_buf_span(&der), &key, &err), CM_E_PARSE, "malformed");
    change_rsa(&der, 0, CM_SPAN_OF(one));
    ck_refused(cm_key_from_der(cm_buf_span(&der), &key, &err), CM_E_KEY, "two primes");
    ck_assert_ptr_null(key);
    cm_buf_free(&der);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        keys_that_cannot_be_used_are_refused_with_advice,
        broken_ec_keys_are_refused,
        public_half_of_another_key_is_noticed,
        rsa_sizes_have_bounds,
        rsa_numbers_out_of_range_are_refused,
    };

    return run_tests("key_bad", tests, CM_ARRAY_LEN(tests));
}
