/* SPDX-License-Identifier: Apache-2.0 */
#include "cipher.h"

#include "run.h"

static struct cm_err err;

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

/* A value may be empty, and need not have an address then. */
START_TEST(nothing_can_be_sealed_too)
{
    const uint8_t key[CM_SEAL_KEY_LEN] = { 1 };
    const uint8_t nonce[CM_SEAL_NONCE_LEN] = { 2 };
    const struct cm_span k = { key, sizeof key };
    const struct cm_span none = { NULL, 0 };
    struct cm_buf sealed = CM_BUF_INIT(CM_SEAL_TAG_LEN);
    struct cm_buf out = CM_BUF_SECRET(0);

    ck_assert_int_eq(cm_seal(k, nonce, none, none, &sealed, &err), CM_OK);
    ck_assert_uint_eq(sealed.len, CM_SEAL_TAG_LEN);
    ck_assert_int_eq(cm_unseal(k, nonce, none, cm_buf_span(&sealed), &out, &err), CM_OK);
    ck_assert_uint_eq(out.len, 0);
    sealed.data[3] ^= 1;
    ck_assert_int_eq(cm_unseal(k, nonce, none, cm_buf_span(&sealed), &out, &err), CM_E_KEY);
    ck_assert_int_eq(cm_seal(k, nonce, none, cm_span_str("x"), &sealed, &err), CM_E_LIMIT);
    ck_assert_uint_eq(sealed.len, CM_SEAL_TAG_LEN);
    cm_buf_free(&sealed);
    cm_buf_free(&out);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        sealed_as_the_gcm_specification_has_it_and_opened_by_nothing_else,
        nothing_can_be_sealed_too,
    };

    return run_tests("aead", tests, CM_ARRAY_LEN(tests));
}
