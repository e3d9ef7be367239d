/* SPDX-License-Identifier: Apache-2.0 */
#include "mkkey.h"
#include "pem.h"
#include "pki_gnutls.h"

#include <gnutls/x509.h>

START_TEST(key_types_have_names)
{
    static const struct {
        enum cm_pk type;
        const char *name;
    } cases[] = {
        { CM_PK_P256, "p256" },       { CM_PK_P384, "p384" },       { CM_PK_RSA2048, "rsa2048" },
        { CM_PK_RSA3072, "rsa3072" }, { CM_PK_RSA4096, "rsa4096" }, { CM_PK_RSA8192, "rsa8192" },
        { CM_PK_ED25519, "ed25519" },
    };
    enum cm_pk got = CM_PK_OTHER;

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        ck_ok(cm_pk_parse(cases[i].name, &got, &err));
        ck_assert_int_eq(got, cases[i].type);
        ck_assert_str_eq(cm_pk_name(cases[i].type), cases[i].name);
    }
    ck_assert_str_eq(cm_pk_name(CM_PK_DEFAULT), "p256");
    ck_assert_str_eq(cm_pk_name(CM_PK_OTHER), "other");
    ck_refused(cm_pk_parse("dsa\n", &got, &err), CM_E_INVAL, "'dsa\\x0a'");
    ck_refused(cm_pk_parse(NULL, &got, &err), CM_E_INVAL, "not known");
}
END_TEST

START_TEST(generated_keys_survive_writing_and_reading)
{
    static const struct {
        enum cm_pk type;
        const char *label;
    } cases[] = {
        { CM_PK_DEFAULT, "-----BEGIN EC PRIVATE KEY-----\n" },
        { CM_PK_P384, "-----BEGIN EC PRIVATE KEY-----\n" },
        { CM_PK_RSA2048, "-----BEGIN RSA PRIVATE KEY-----\n" },
        { CM_PK_RSA3072, "-----BEGIN RSA PRIVATE KEY-----\n" },
        { CM_PK_ED25519, "-----BEGIN PRIVATE KEY-----\n" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        struct cm_buf der = CM_BUF_SECRET(CM_KEY_PEM_MAX);
        struct cm_key *key = NULL;
        struct cm_key *again = NULL;

        ck_ok(cm_key_generate(cases[i].type, &key, &err));
        ck_assert_int_eq(cm_key_type_of(key),
                         cases[i].type == CM_PK_DEFAULT ? CM_PK_P256 : cases[i].type);
        to_text(key, &pem);
        ck_assert_int_eq(strncmp(cm_buf_str(&pem), cases[i].label, strlen(cases[i].label)), 0);
        again = from_text(cm_buf_str(&pem));
        ck_assert(cm_span_eq(der_of(again), der_of(key)));
        cm_key_unref(again);
        ck_ok(cm_key_to_der(key, &der, &err));
        ck_ok(cm_key_from_der(cm_buf_span(&der), &again, &err));
        ck_assert_int_eq(cm_key_type_of(again), cm_key_type_of(key));
        ck_ok(cm_key_check(again, &err));
        cm_key_unref(again);
        cm_key_unref(key);
        cm_buf_free(&pem);
        cm_buf_free(&der);
    }
}
END_TEST

START_TEST(keys_of_no_kind_cannot_be_generated)
{
    struct cm_key *key = NULL;

    ck_refused(cm_key_generate(CM_PK_OTHER, &key, &err), CM_E_INVAL, "100");
    ck_refused(cm_key_generate((enum cm_pk)42, &key, &err), CM_E_INVAL, "42");
    ck_assert_ptr_null(key);
}
END_TEST

/* The vectors are byte for byte what "openssl rsa -traditional", "openssl ec" write. */
START_TEST(written_files_are_those_of_openssl)
{
    static const char *const same[] = { rfc7515_a2_rsa, rfc7515_a3_ec, rfc7638_rsa };
    static const char ed[] = "-----BEGIN PRIVATE KEY-----\n"
                             "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                             "-----END PRIVATE KEY-----\n";
    struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *key;

    for (size_t i = 0; i < CM_ARRAY_LEN(same); i++) {
        key = from_text(same[i]);
        to_text(key, &pem);
        ck_assert_str_eq(cm_buf_str(&pem), same[i]);
        cm_key_unref(key);
    }
    key = from_text(rfc8037_ed25519); /* "ED25519 PRIVATE KEY", from Go */
    ck_assert_int_eq(cm_key_type_of(key), CM_PK_ED25519);
    to_text(key, &pem);
    ck_assert_str_eq(cm_buf_str(&pem), ed);
    cm_key_unref(key);
    cm_buf_free(&pem);
}
END_TEST

START_TEST(ec_scalars_of_any_width_become_exact)
{
    struct cm_key *a3 = from_text(rfc7515_a3_ec);
    struct cm_span scalar, point;
    uint8_t wide[40] = { 0 };

    a3_parts(a3, &scalar, &point);
    for (size_t extra = 0; extra <= 8; extra++) { /* 33 bytes is what GnuTLS may write */
        struct cm_buf der = CM_BUF_SECRET(512);
        struct cm_key *key = NULL;
        memcpy(wide + extra, scalar.data, scalar.len);
        make_sec1(&der, (struct cm_span){ wide, extra + scalar.len }, CM_SPAN_OF(cm_oid_p256),
                  point);
        ck_ok(cm_key_from_der(cm_buf_span(&der), &key, &err));
        ck_assert(cm_span_eq(der_of(key), der_of(a3)));
        cm_key_unref(key);
        cm_buf_free(&der);
        memset(wide, 0, sizeof wide);
    }
    cm_key_unref(a3);
}
END_TEST

START_TEST(short_ec_scalar_is_padded_to_the_width_of_the_curve)
{
    /* Scalar 1: the public point is the generator (SEC 2 2.4.2). */
    static const uint8_t g[65] = { 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc,
                                   0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d,
                                   0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
                                   0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb,
                                   0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31,
                                   0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5 };
    static const uint8_t one[] = { 1 };
    struct cm_buf der = CM_BUF_SECRET(512);
    struct cm_key *key = NULL;

    make_sec1(&der, CM_SPAN_OF(one), CM_SPAN_OF(cm_oid_p256), CM_SPAN_OF(g));
    ck_ok(cm_key_from_der(cm_buf_span(&der), &key, &err));
    ck_assert_uint_eq(key->der_len, 121);
    ck_assert_uint_eq(key->der[5], 0x04);
    ck_assert_uint_eq(key->der[6], 32);
    ck_assert_uint_eq(key->der[7], 0);
    ck_assert_uint_eq(key->der[7 + 31], 1);
    ck_ok(cm_key_check(key, &err));
    cm_key_unref(key);
    cm_buf_free(&der);
}
END_TEST

START_TEST(pkcs8_is_read_for_all_kinds)
{
    static const uint8_t null_params[] = { 5, 0 };
    static const uint8_t p256_params[] = { 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };
    struct cm_span none = { NULL, 0 };
    struct cm_key *ec = from_text(rfc7515_a3_ec);
    struct cm_key *rsa = from_text(rfc7515_a2_rsa);
    struct cm_span scalar, point;
    struct cm_buf der = CM_BUF_SECRET(4096);
    struct cm_buf inner = CM_BUF_SECRET(4096);
    struct cm_key *key = NULL;

    wrap_pkcs8(&der, CM_SPAN_OF(cm_oid_rsa), CM_SPAN_OF(null_params), der_of(rsa));
    ck_ok(cm_key_from_der(cm_buf_span(&der), &key, &err));
    ck_assert(cm_span_eq(der_of(key), der_of(rsa)));
    cm_key_unref(key);

    /* EC: the curve stands outside only, as OpenSSL writes it. */
    a3_parts(ec, &scalar, &point);
    make_sec1(&inner, scalar, none, point);
    cm_buf_reset(&der);
    wrap_pkcs8(&der, CM_SPAN_OF(cm_oid_ec), CM_SPAN_OF(p256_params), cm_buf_span(&inner));
    ck_ok(cm_key_from_der(cm_buf_span(&der), &key, &err));
    ck_assert(cm_span_eq(der_of(key), der_of(ec)));
    cm_key_unref(key);

    cm_key_unref(ec);
    cm_key_unref(rsa);
    cm_buf_free(&der);
    cm_buf_free(&inner);
}
END_TEST

START_TEST(ed25519_with_attributes_and_public_key_is_read)
{
    /* RFC 8410 10.3 */
    static const char v2[] = "-----BEGIN PRIVATE KEY-----\n"
                             "MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
                             "oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n"
                             "Z9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                             "-----END PRIVATE KEY-----\n";
    struct cm_key *key = from_text(v2);
    struct cm_key_public pub;

    ck_ok(cm__key_public(key, &pub, &err));
    ck_assert_uint_eq(pub.point.len, 32);
    ck_assert_uint_eq(pub.point.data[0], 0x19);
    ck_assert_uint_eq(pub.point.data[31], 0xe1);
    cm_key_unref(key);
}
END_TEST

START_TEST(label_of_a_key_does_not_decide_its_form)
{
    static const char *const labels[] = { "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY",
                                          "ED25519 PRIVATE KEY", "ANY PRIVATE KEY" };
    struct cm_key *ec = from_text(rfc7515_a3_ec);

    for (size_t i = 0; i < CM_ARRAY_LEN(labels); i++) {
        struct cm_buf pem = CM_BUF_SECRET(1024);
        ck_ok(cm_pem_encode(labels[i], der_of(ec), &pem, &err));
        struct cm_key *key = from_text(cm_buf_str(&pem));
        ck_assert(cm_span_eq(der_of(key), der_of(ec)));
        cm_key_unref(key);
        cm_buf_free(&pem);
    }
    cm_key_unref(ec);
}
END_TEST

START_TEST(key_is_found_among_other_text)
{
    struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    struct cm_key *want = from_text(rfc7515_a3_ec);

    ck_ok(cm_buf_puts(&pem,
                      "subject=x\r\nnot at a line's start: -----BEGIN nothing\r\n"
                      "-----BEGIN EC PARAMETERS-----\r\nBggqhkjOPQMBBw==\r\n"
                      "-----END EC PARAMETERS-----\r\n",
                      &err));
    for (const char *p = rfc7515_a3_ec; *p != '\0'; p++) /* CRLF and indented lines */
        ck_ok(cm_buf_append(&pem, *p == '\n' ? "\r\n \t" : p, *p == '\n' ? 4 : 1, &err));
    /* the END line must not be indented away: it is found wherever it stands */
    ck_ok(cm_buf_append(&pem, "\0trailing", 9, &err));

    struct cm_key *key = NULL;
    ck_ok(cm_key_from_pem(cm_buf_span(&pem), &key, &err));
    ck_assert(cm_span_eq(der_of(key), der_of(want)));
    cm_key_unref(key);
    cm_key_unref(want);
    cm_buf_free(&pem);
}
END_TEST

START_TEST(pem_is_read_by_its_length_alone)
{
    size_t len = strlen(rfc7515_a3_ec);

    /* Each cut in a block of exactly that size: the sanitizer sees any step past it. */
    for (size_t n = 0; n < len; n++) {
        uint8_t *exact = malloc(n + (n == 0));
        struct cm_key *key = NULL;
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, rfc7515_a3_ec, n);
        cm_status rc = cm_key_from_pem((struct cm_span){ exact, n }, &key, &err);
        free(exact);
        if (rc == CM_OK) { /* only the last newline is missing */
            ck_assert_uint_eq(n, len - 1);
            cm_key_unref(key);
        } else {
            ck_assert_int_eq(rc, CM_E_PARSE);
        }
    }
}
END_TEST

START_TEST(p521_is_read_but_not_ours)
{
    gnutls_x509_privkey_t x509;
    gnutls_datum_t pem;
    struct cm_key *key = NULL;

    ck_assert_int_eq(gnutls_x509_privkey_init(&x509), 0);
    ck_assert_int_eq(gnutls_x509_privkey_generate(x509, GNUTLS_PK_ECDSA,
                                                  GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP521R1),
                                                  0),
                     0);
    ck_assert_int_eq(gnutls_x509_privkey_export2(x509, GNUTLS_X509_FMT_PEM, &pem), 0);
    ck_ok(cm_key_from_pem((struct cm_span){ pem.data, pem.size }, &key, &err));
    ck_assert_int_eq(cm_key_type_of(key), CM_PK_OTHER);
    ck_ok(cm_key_check(key, &err));
    cm_key_unref(key);
    gnutls_free(pem.data);
    gnutls_x509_privkey_deinit(x509);
}
END_TEST

START_TEST(gnutls_handles_go_out_and_come_in)
{
    static const char *const pems[] = { rfc7515_a2_rsa, rfc7515_a3_ec, rfc8037_ed25519 };

    for (size_t i = 0; i < CM_ARRAY_LEN(pems); i++) {
        struct cm_key *key = from_text(pems[i]);
        struct cm_key *copy = NULL;
        gnutls_privkey_t handle = NULL;

        ck_ok(cm_key_to_gnutls(key, &handle, &err));
        ck_ok(cm_key_from_gnutls(handle, &copy, &err));
        ck_assert(cm_span_eq(der_of(copy), der_of(key)));
        gnutls_privkey_deinit(handle);
        cm_key_unref(copy);
        cm_key_unref(key);
    }
}
END_TEST

static int never_sign(gnutls_privkey_t key, gnutls_sign_algorithm_t alg, void *user,
                      unsigned int flags, const gnutls_datum_t *hash, gnutls_datum_t *sig)
{
    (void)key, (void)alg, (void)user, (void)flags, (void)hash, (void)sig;
    return GNUTLS_E_INTERNAL_ERROR;
}

static int ext_info(gnutls_privkey_t key, unsigned int flags, void *user)
{
    (void)key, (void)user;
    return (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO) != 0 ? GNUTLS_PK_RSA : -1;
}

START_TEST(external_gnutls_key_is_unsupported)
{
    gnutls_privkey_t handle = NULL;
    struct cm_key *key = NULL;

    ck_assert_int_eq(gnutls_privkey_init(&handle), 0);
    ck_assert_int_eq(
        gnutls_privkey_import_ext4(handle, NULL, NULL, never_sign, NULL, NULL, ext_info, 0), 0);
    ck_refused(cm_key_from_gnutls(handle, &key, &err), CM_E_UNSUPPORTED, "cannot be copied");
    gnutls_privkey_deinit(handle);
}
END_TEST

START_TEST(references_keep_a_key_alive)
{
    struct cm_key *key = from_text(rfc7515_a3_ec);
    struct cm_key *ref = cm_key_ref(key);

    ck_assert_ptr_eq(ref, key);
    cm_key_unref(key);
    ck_assert_int_eq(cm_key_type_of(ref), CM_PK_P256);
    cm_key_unref(ref);
    cm_key_unref(NULL);
}
END_TEST

START_TEST(no_allocation_failure_leaks_or_crashes)
{
    for (uint64_t n = 1; n < 50; n++) {
        struct cm_key *key = NULL;
        (void)cm_alloc_fail_at(n);
        cm_status rc = cm_key_from_pem(cm_span_str(rfc7515_a3_ec), &key, &err);
        (void)cm_alloc_fail_at(0);
        cm_key_unref(key);
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
        key_types_have_names,
        generated_keys_survive_writing_and_reading,
        keys_of_no_kind_cannot_be_generated,
        written_files_are_those_of_openssl,
        ec_scalars_of_any_width_become_exact,
        short_ec_scalar_is_padded_to_the_width_of_the_curve,
        pkcs8_is_read_for_all_kinds,
        ed25519_with_attributes_and_public_key_is_read,
        label_of_a_key_does_not_decide_its_form,
        key_is_found_among_other_text,
        pem_is_read_by_its_length_alone,
        p521_is_read_but_not_ours,
        gnutls_handles_go_out_and_come_in,
        external_gnutls_key_is_unsupported,
        references_keep_a_key_alive,
        no_allocation_failure_leaks_or_crashes,
    };

    return run_tests("key", tests, CM_ARRAY_LEN(tests));
}
