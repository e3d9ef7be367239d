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

int main(void)
{
    const TTest *const tests[] = {
        sha256_of_the_fips_example,
        hmac_of_rfc_4231_case_2,
        hmac_with_an_empty_key_is_refused,
        equality_compares_length_and_bytes,
    };

    return run_tests("digest", tests, CM_ARRAY_LEN(tests));
}
