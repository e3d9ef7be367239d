/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "run.h"
#include "vectors.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>

static struct cm_err err;

#define RFC7515_PAYLOAD                                                                            \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ"
static const char a2_input[] = "eyJhbGciOiJSUzI1NiJ9." RFC7515_PAYLOAD;
static const char a3_input[] = "eyJhbGciOiJFUzI1NiJ9." RFC7515_PAYLOAD;
static const char a2_sig[] =
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5"
    "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb"
    "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO"
    "YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
static const char a3_sig[] =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
static const char ed_input[] = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
static const char ed_sig[] =
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

static struct cm_key *from_text(const char *pem)
{
    struct cm_key *key = NULL;

    ck_ok(cm_key_from_pem(cm_span_str(pem), &key, &err));
    return key;
}

static void sign_b64(const struct cm_key *key, const char *input, struct cm_buf *text)
{
    struct cm_buf sig = CM_BUF_INIT(1024);

    ck_ok(cm_key_jws_sign(key, cm_span_str(input), &sig, &err));
    ck_ok(cm_b64url_encode(cm_buf_span(&sig), text, &err));
    cm_buf_free(&sig);
}

/* Is R||S a signature of @input by the public half of @key? By GnuTLS, not by our writer. */
static bool raw_ecdsa_verifies(const struct cm_key *key, gnutls_sign_algorithm_t alg,
                               const char *input, struct cm_span raw)
{
    struct cm_buf spki = CM_BUF_INIT(512);
    gnutls_datum_t r = { (unsigned char *)(uintptr_t)raw.data, (unsigned)(raw.len / 2) };
    gnutls_datum_t s = { r.data + r.size, r.size };
    gnutls_datum_t in = { (unsigned char *)(uintptr_t)input, (unsigned)strlen(input) };
    gnutls_datum_t der = { NULL, 0 };
    gnutls_pubkey_t pub = NULL;

    ck_ok(cm__key_spki(key, &spki, &err));
    gnutls_datum_t spki_d = { spki.data, (unsigned)spki.len };
    ck_assert_int_eq(gnutls_pubkey_init(&pub), 0);
    ck_assert_int_eq(gnutls_pubkey_import(pub, &spki_d, GNUTLS_X509_FMT_DER), 0);
    ck_assert_int_eq(gnutls_encode_rs_value(&der, &r, &s), 0);
    int rc = gnutls_pubkey_verify_data2(pub, alg, 0, &in, &der);
    gnutls_free(der.data);
    gnutls_pubkey_deinit(pub);
    cm_buf_free(&spki);
    return rc >= 0;
}

START_TEST(rs256_of_rfc_7515_a2)
{
    struct cm_key *key = from_text(rfc7515_a2_rsa);
    struct cm_buf text = CM_BUF_INIT(1024);

    ck_assert_str_eq(cm_key_jws_alg(key), "RS256");
    sign_b64(key, a2_input, &text);
    ck_assert_str_eq(cm_buf_str(&text), a2_sig);
    cm_buf_free(&text);
    cm_key_unref(key);
}
END_TEST

START_TEST(es256_of_rfc_7515_a3)
{
    struct cm_key *key = from_text(rfc7515_a3_ec);
    struct cm_buf raw = CM_BUF_INIT(1024);

    ck_assert_str_eq(cm_key_jws_alg(key), "ES256");
    ck_ok(cm_b64url_decode(cm_span_str(a3_sig), &raw, &err));
    ck_assert(raw_ecdsa_verifies(key, GNUTLS_SIGN_ECDSA_SHA256, a3_input, cm_buf_span(&raw)));
    cm_buf_free(&raw);
    cm_key_unref(key);
}
END_TEST

START_TEST(eddsa_of_rfc_8037_a4)
{
    struct cm_key *key = from_text(rfc8037_ed25519);
    struct cm_buf text = CM_BUF_INIT(1024);

    ck_assert_str_eq(cm_key_jws_alg(key), "EdDSA");
    sign_b64(key, ed_input, &text);
    ck_assert_str_eq(cm_buf_str(&text), ed_sig);
    cm_buf_free(&text);
    cm_key_unref(key);
}
END_TEST

/* R or S is a byte short in one of 128 signatures: often enough met to matter, rarely enough to
 * go unnoticed in a single test. */
START_TEST(ec_signatures_always_have_the_width_of_the_curve)
{
    static const struct {
        enum cm_pk type;
        gnutls_sign_algorithm_t alg;
        const char *name;
        size_t width;
    } cases[] = { { CM_PK_P256, GNUTLS_SIGN_ECDSA_SHA256, "ES256", 64 },
                  { CM_PK_P384, GNUTLS_SIGN_ECDSA_SHA384, "ES384", 96 } };

    for (size_t c = 0; c < CM_ARRAY_LEN(cases); c++) {
        struct cm_key *key = NULL;
        unsigned padded = 0;

        ck_ok(cm_key_generate(cases[c].type, &key, &err));
        ck_assert_str_eq(cm_key_jws_alg(key), cases[c].name);
        for (unsigned i = 0; i < 1000; i++) {
            struct cm_buf raw = CM_BUF_INIT(200);
            char input[32];
            (void)snprintf(input, sizeof input, "message %u", i);
            ck_ok(cm_key_jws_sign(key, cm_span_str(input), &raw, &err));
            ck_assert_uint_eq(raw.len, cases[c].width);
            bool is_padded = raw.data[0] == 0 || raw.data[cases[c].width / 2] == 0;
            padded += is_padded;
            if (i < 5 || is_padded)
                ck_assert(raw_ecdsa_verifies(key, cases[c].alg, input, cm_buf_span(&raw)));
            cm_buf_free(&raw);
        }
        ck_assert_uint_gt(padded, 0); /* misses with probability 0.04 % */
        cm_key_unref(key);
    }
}
END_TEST

START_TEST(jwk_members_are_in_the_order_of_rfc_7638)
{
    static const struct {
        const char *pem;
        const char *jwk;
    } cases[] = {
        { rfc7515_a3_ec, "{\"crv\":\"P-256\",\"kty\":\"EC\","
                         "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
                         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}" },
        { rfc8037_ed25519, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\","
                           "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}" },
        { rfc7638_rsa,
          "{\"e\":\"AQAB\",\"kty\":\"RSA\",\"n\":\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78L"
          "hWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9"
          "yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ"
          "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1"
          "jF44-csFCur-kEgU8awapJzKnqDKgw\"}" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_key *key = from_text(cases[i].pem);
        struct cm_buf json = CM_BUF_INIT(2048);
        ck_ok(cm_key_jwk(key, &json, &err));
        ck_assert_str_eq(cm_buf_str(&json), cases[i].jwk);
        cm_buf_free(&json);
        cm_key_unref(key);
    }
}
END_TEST

START_TEST(thumbprints_of_rfc_7638_and_8037)
{
    char print[CM_THUMBPRINT_BUF];
    struct cm_key *rsa = from_text(rfc7638_rsa);
    struct cm_key *ed = from_text(rfc8037_ed25519);

    ck_ok(cm_key_thumbprint(rsa, print, &err));
    ck_assert_str_eq(print, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    ck_ok(cm_key_thumbprint(ed, print, &err));
    ck_assert_str_eq(print, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    cm_key_unref(rsa);
    cm_key_unref(ed);
}
END_TEST

START_TEST(key_that_is_too_small_signs_no_jws)
{
    gnutls_x509_privkey_t x509;
    gnutls_datum_t der;
    struct cm_key *key = NULL;
    struct cm_buf out = CM_BUF_INIT(1024);
    char print[CM_THUMBPRINT_BUF];

    ck_assert_int_eq(gnutls_x509_privkey_init(&x509), 0);
    ck_assert_int_eq(gnutls_x509_privkey_generate(x509, GNUTLS_PK_RSA, 1024, 0), 0);
    ck_assert_int_eq(gnutls_x509_privkey_export2(x509, GNUTLS_X509_FMT_DER, &der), 0);
    ck_ok(cm_key_from_der((struct cm_span){ der.data, der.size }, &key, &err));
    ck_assert_ptr_null(cm_key_jws_alg(key));
    ck_refused(cm_key_jws_sign(key, cm_span_str("x"), &out, &err), CM_E_KEY, "2048");
    ck_refused(cm_key_jwk(key, &out, &err), CM_E_KEY, "2048");
    ck_refused(cm_key_thumbprint(key, print, &err), CM_E_KEY, "2048");
    ck_assert_uint_eq(out.len, 0);
    cm_buf_free(&out);
    cm_key_unref(key);
    gnutls_free(der.data);
    gnutls_x509_privkey_deinit(x509);
}
END_TEST

#define SIGNERS 4

static void *sign_often(void *p)
{
    struct cm_key *key = p;
    struct cm_err own = CM_ERR_INIT;
    uintptr_t right = 0;

    for (int i = 0; i < 20; i++) {
        struct cm_buf sig = CM_BUF_INIT(1024);
        struct cm_buf text = CM_BUF_INIT(1024);

        right += cm_key_jws_sign(key, cm_span_str(ed_input), &sig, &own) == CM_OK &&
                 cm_b64url_encode(cm_buf_span(&sig), &text, &own) == CM_OK &&
                 strcmp(cm_buf_str(&text), ed_sig) == 0;
        cm_buf_free(&sig);
        cm_buf_free(&text);
    }
    return (void *)right;
}

START_TEST(key_signs_in_several_threads_from_the_first_time_on)
{
    for (int round = 0; round < 20; round++) {
        struct cm_key *key = from_text(rfc8037_ed25519);
        pthread_t threads[SIGNERS];
        void *right;

        for (size_t i = 0; i < SIGNERS; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, sign_often, key), 0);
        for (size_t i = 0; i < SIGNERS; i++) {
            ck_assert_int_eq(pthread_join(threads[i], &right), 0);
            ck_assert_uint_eq((uintptr_t)right, 20);
        }
        cm_key_unref(key);
    }
}
END_TEST

START_TEST(jwk_that_does_not_fit_leaves_the_buffer_alone)
{
    struct cm_key *key = from_text(rfc7515_a3_ec);
    struct cm_buf json = CM_BUF_INIT(60);

    ck_ok(cm_buf_puts(&json, "keep", &err));
    ck_refused(cm_key_jwk(key, &json, &err), CM_E_LIMIT, "60");
    ck_assert_uint_eq(json.len, 4);
    cm_buf_free(&json);
    cm_key_unref(key);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        rs256_of_rfc_7515_a2,
        es256_of_rfc_7515_a3,
        eddsa_of_rfc_8037_a4,
        ec_signatures_always_have_the_width_of_the_curve,
        jwk_members_are_in_the_order_of_rfc_7638,
        thumbprints_of_rfc_7638_and_8037,
        key_that_is_too_small_signs_no_jws,
        key_signs_in_several_threads_from_the_first_time_on,
        jwk_that_does_not_fit_leaves_the_buffer_alone,
    };

    return run_tests("jose", tests, CM_ARRAY_LEN(tests));
}
