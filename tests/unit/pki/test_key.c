/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pem.h"
#include "pki_gnutls.h"
#include "run.h"
#include "vectors.h"

#include <gnutls/x509.h>

static struct cm_err err;

static struct cm_key *from_text(const char *pem)
{
    struct cm_key *key = NULL;

    ck_ok(cm_key_from_pem(cm_span_str(pem), &key, &err));
    return key;
}

static void to_text(const struct cm_key *key, struct cm_buf *out)
{
    cm_buf_reset(out);
    ck_ok(cm_key_to_pem(key, out, &err));
}

static struct cm_span der_of(const struct cm_key *key)
{
    return (struct cm_span){ key->der, key->der_len };
}

/* PKCS#8 around @inner. */
static void wrap_pkcs8(struct cm_buf *out, struct cm_span oid, struct cm_span params,
                       struct cm_span inner)
{
    static const uint8_t zero[] = { 0 };
    struct cm_derw w = CM_DERW_INIT(out, &err);

    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_INTEGER, CM_SPAN_OF(zero));
    size_t alg = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_OID, oid);
    cm_derw_raw(&w, params);
    cm_derw_close(&w, alg);
    cm_derw_put(&w, CM_DER_OCTET_STRING, inner);
    cm_derw_close(&w, seq);
    ck_assert_int_eq(w.rc, CM_OK);
}

/* SEC1 with what a test wants different. NULL curve or point = left out. */
static void make_sec1(struct cm_buf *out, struct cm_span scalar, struct cm_span curve,
                      struct cm_span point)
{
    static const uint8_t one[] = { 1 };
    struct cm_derw w = CM_DERW_INIT(out, &err);

    size_t seq = cm_derw_open(&w, CM_DER_SEQUENCE);
    cm_derw_put(&w, CM_DER_INTEGER, CM_SPAN_OF(one));
    cm_derw_put(&w, CM_DER_OCTET_STRING, scalar);
    if (curve.data != NULL) {
        size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(0));
        cm_derw_put(&w, CM_DER_OID, curve);
        cm_derw_close(&w, tag);
    }
    if (point.data != NULL) {
        size_t tag = cm_derw_open(&w, CM_DER_CTX_CONS(1));
        size_t bits = cm_derw_open(&w, CM_DER_BIT_STRING);
        cm_derw_byte(&w, 0);
        cm_derw_raw(&w, point);
        cm_derw_close(&w, bits);
        cm_derw_close(&w, tag);
    }
    cm_derw_close(&w, seq);
    ck_assert_int_eq(w.rc, CM_OK);
}

/* The parts of the key of RFC 7515 A.3. */
static void a3_parts(const struct cm_key *key, struct cm_span *scalar, struct cm_span *point)
{
    struct cm_span in = der_of(key);
    struct cm_key_public pub;
    struct cm_span seq;
    unsigned version = 0;

    ck_assert(cm_der_take(&in, CM_DER_SEQUENCE, &seq));
    ck_assert(cm_der_take_small(&seq, &version));
    ck_assert(cm_der_take(&seq, CM_DER_OCTET_STRING, scalar));
    ck_ok(cm__key_public(key, &pub, &err));
    *point = pub.point;
}

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
        ck_ok(cm__key_verify(again, &err));
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
    ck_ok(cm__key_verify(key, &err));
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
    ck_refused(cm__key_verify(key, &err), CM_E_KEY, "do not match");
    ck_ok(cm__key_verify(a3, &err));
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
    ck_ok(cm__key_verify(key, &err));
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
        keys_that_cannot_be_used_are_refused_with_advice,
        broken_ec_keys_are_refused,
        public_half_of_another_key_is_noticed,
        rsa_sizes_have_bounds,
        p521_is_read_but_not_ours,
        gnutls_handles_go_out_and_come_in,
        external_gnutls_key_is_unsupported,
        references_keep_a_key_alive,
        no_allocation_failure_leaks_or_crashes,
    };

    return run_tests("key", tests, CM_ARRAY_LEN(tests));
}
