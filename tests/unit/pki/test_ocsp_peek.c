/* SPDX-License-Identifier: Apache-2.0 */
#include "pki.h"
#include "run.h"

/* Made by openssl ocsp. */
static const char good_hex[] = "308201010a0100a081fb3081f806092b06010505073001010481ea3081e73081"
                               "8fa21604146df52a5e2805ccf8eecb0477dc16e696eb467fb5180f3230323631"
                               "3132313130353033365a30643062303a300906052b0e03021a050004141da5a3"
                               "65de4b7fe9068b8f1dd44b82b21c8e88d804146df52a5e2805ccf8eecb0477dc"
                               "16e696eb467fb50201028000180f32303236313132313130353033365aa01118"
                               "0f32303236313132383130353033365a300a06082a8648ce3d04030203470030"
                               "4402204826d98a05b04260e7c0eecf49ad352f8bb1a0f3ee40ba3a6c77492f46"
                               "8c18e402201d6af28dbeeda02a5f731a06a3c9e9d9f58a30e65c58c8644bf1ac"
                               "914b386187";
static const char revoked_hex[] =
    "3081fd0a0100a081f73081f406092b06010505073001010481e63081e330818a"
    "a10e300c310a300806035504030c0143180f3230323631313231313035303336"
    "5a30673065303a300906052b0e03021a050004141da5a365de4b7fe9068b8f1d"
    "d44b82b21c8e88d804146df52a5e2805ccf8eecb0477dc16e696eb467fb50201"
    "02a116180f32303236303130313030303030305aa0030a0101180f3230323631"
    "3132313130353033365a300a06082a8648ce3d0403020348003045022100845c"
    "b3e2bf0e772d4e76ecbb7caefb6edd7db68e9d697a049b3319e3e83446870220"
    "6b988ad28f3f96c1af0f1b2a2e37992d8c507e5e2c4381414f3e39c90c4a8892";

#define UPDATE INT64_C(1795258236) /* 2026-11-21 10:50:36 */
#define WEEK   INT64_C(604800)

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++) {
        char two[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

START_TEST(dates_are_read)
{
    struct cm_ocsp_peek p = { 1, 1, true };
    uint8_t der[512] = { 0 };
    size_t len = unhex(good_hex, der);

    ck_assert(cm_ocsp_peek((struct cm_span){ der, len }, &p));
    ck_assert_int_eq(p.this_update_s, UPDATE);
    ck_assert_int_eq(p.next_update_s, UPDATE + WEEK);
    ck_assert(!p.revoked);
}
END_TEST

START_TEST(no_next_update_and_revoked_are_told)
{
    struct cm_ocsp_peek p = { 1, 1, false };
    uint8_t der[512] = { 0 };
    size_t len = unhex(revoked_hex, der);

    ck_assert(cm_ocsp_peek((struct cm_span){ der, len }, &p));
    ck_assert_int_eq(p.this_update_s, UPDATE);
    ck_assert_int_eq(p.next_update_s, 0);
    ck_assert(p.revoked);
}
END_TEST

START_TEST(what_is_no_whole_response_is_refused_and_leaves_the_output_alone)
{
    struct cm_ocsp_peek p = { 7, 8, true };
    uint8_t der[512] = { 0 };
    size_t len = unhex(good_hex, der);

    for (size_t cut = 0; cut < len; cut++)
        ck_assert_msg(!cm_ocsp_peek((struct cm_span){ der, cut }, &p), "cut at %zu", cut);
    ck_assert(!cm_ocsp_peek((struct cm_span){ der, len + 1 }, &p)); /* a byte behind it */
    ck_assert(!cm_ocsp_peek(cm_span_str("<html>busy</html>"), &p));
    ck_assert_uint_eq(der[6], 0);
    der[6] = 3; /* tryLater */
    ck_assert(!cm_ocsp_peek((struct cm_span){ der, len }, &p));
    ck_assert_int_eq(p.this_update_s, 7);
    ck_assert_int_eq(p.next_update_s, 8);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        dates_are_read,
        no_next_update_and_revoked_are_told,
        what_is_no_whole_response_is_refused_and_leaves_the_output_alone,
    };

    return run_tests("ocsp_peek", tests, sizeof tests / sizeof tests[0]);
}
