/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

static struct cm_err err;

static void hex_of(const uint8_t *p, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        *out++ = digits[p[i] >> 4];
        *out++ = digits[p[i] & 15];
    }
    *out = '\0';
}

START_TEST(sha256_of_the_fips_example)
{
    uint8_t sum[CM_SHA256_LEN];
    char hex[65];

    cm_sha256(cm_span_str("abc"), sum);
    hex_of(sum, sizeof sum, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cm_sha256((struct cm_span){ NULL, 0 }, sum);
    hex_of(sum, sizeof sum, hex);
    ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

START_TEST(hmac_of_rfc_4231_case_2)
{
    static const struct {
        enum cm_hmac alg;
        const char *mac;
    } cases[] = {
        { CM_HMAC_SHA256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
        { CM_HMAC_SHA384, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
                          "8e2240ca5e69e2c78b3239ecfab21649" },
        { CM_HMAC_SHA512, "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                          "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737" },
    };
    char hex[129];

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_buf mac = CM_BUF_INIT(64);
        ck_ok(cm_hmac(cases[i].alg, cm_span_str("Jefe"),
                      cm_span_str("what do ya want for nothing?"), &mac, &err));
        hex_of(mac.data, mac.len, hex);
        ck_assert_str_eq(hex, cases[i].mac);
        cm_buf_free(&mac);
    }
}
END_TEST

START_TEST(hmac_with_an_empty_key_is_refused)
{
    struct cm_buf mac = CM_BUF_INIT(64);

    ck_refused(cm_hmac(CM_HMAC_SHA256, cm_span_str(""), cm_span_str("x"), &mac, &err), CM_E_INVAL,
               "empty");
    ck_refused(cm_hmac((enum cm_hmac)9, cm_span_str("k"), cm_span_str("x"), &mac, &err), CM_E_INVAL,
               "unknown");
    ck_assert_uint_eq(mac.len, 0);
    cm_buf_free(&mac);
}
END_TEST

START_TEST(equality_compares_length_and_bytes)
{
    ck_assert(cm_equal_ct(cm_span_str("token"), cm_span_str("token")));
    ck_assert(!cm_equal_ct(cm_span_str("token"), cm_span_str("tokem")));
    ck_assert(!cm_equal_ct(cm_span_str("token"), cm_span_str("toke")));
    ck_assert(cm_equal_ct(cm_span_str(""), cm_span_str(NULL)));
}
END_TEST

/* The GCM specification's test cases 14 and (for additional data) the properties of any AEAD. */
START_TEST(sealed_as_the_gcm_specification_has_it_and_opened_by_nothing_else)
{
    static const uint8_t want[32] = { 0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e,
                                      0x07, 0x4e, 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18,
                                      0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99, 0x6b, 0xf0,
                                      0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19 };
    uint8_t nonce[CM_SEAL_NONCE_LEN] = { 0 };
    uint8_t key[CM_SEAL_KEY_LEN] = { 0 };
    const uint8_t plain[16] = { 0 };
    struct cm_buf sealed = CM_BUF_INIT(64);
    struct cm_buf out = CM_BUF_SECRET(64);
    const struct cm_span k = { key, sizeof key };
    const struct cm_span aad = cm_span_str("about");

    ck_assert_int_eq(cm_buf_puts(&sealed, "keep", &err), CM_OK);
    ck_assert_int_eq(
        cm_seal(k, nonce, cm_span_str(""), (struct cm_span){ plain, 16 }, &sealed, &err), CM_OK);
    ck_assert_uint_eq(sealed.len, 4 + sizeof want);
    ck_assert_mem_eq(sealed.data + 4, want, sizeof want);
    cm_buf_reset(&sealed);
    ck_assert_int_eq(cm_seal(k, nonce, aad, cm_span_str("secret"), &sealed, &err), CM_OK);
    ck_assert_int_eq(cm_buf_puts(&out, "keep", &err), CM_OK);
    ck_assert_int_eq(cm_unseal(k, nonce, aad, cm_buf_span(&sealed), &out, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&out), "keepsecret");
    ck_assert_int_eq(cm_unseal(k, nonce, cm_span_str("other"), cm_buf_span(&sealed), &out, &err),
                     CM_E_KEY);
    nonce[11] ^= 1;
    ck_assert_int_eq(cm_unseal(k, nonce, aad, cm_buf_span(&sealed), &out, &err), CM_E_KEY);
    nonce[11] ^= 1;
    key[31] ^= 1;
    ck_assert_int_eq(cm_unseal(k, nonce, aad, cm_buf_span(&sealed), &out, &err), CM_E_KEY);
    ck_assert_int_eq(cm_unseal(k, nonce, aad, (struct cm_span){ sealed.data, 15 }, &out, &err),
                     CM_E_PARSE);
    ck_assert_int_eq(
        cm_unseal((struct cm_span){ key, 16 }, nonce, aad, cm_buf_span(&sealed), &out, &err),
        CM_E_INVAL);
    ck_assert_str_eq(cm_buf_str(&out), "keepsecret");
    cm_buf_free(&sealed);
    cm_buf_free(&out);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        sha256_of_the_fips_example,
        hmac_of_rfc_4231_case_2,
        hmac_with_an_empty_key_is_refused,
        equality_compares_length_and_bytes,
        sealed_as_the_gcm_specification_has_it_and_opened_by_nothing_else,
    };

    return run_tests("digest", tests, CM_ARRAY_LEN(tests));
}
