/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcert.h"
#include "run.h"

static struct cm_err err;

static gnutls_x509_privkey_t key;
static struct mk_cert leaf, inter;

static void setup(void)
{
    struct mk_spec ca = {
        .cn = "Inter", .not_before_s = 0, .not_after_s = INT64_C(4000000000), .ca = 1, .pathlen = -1
    };
    struct mk_spec s = { .cn = "Leaf", .sans = "a.example", .not_after_s = 1000000 };

    key = mk_key(MK_P256);
    inter = mk_cert(&ca, key, NULL, key);
    leaf = mk_cert(&s, key, &inter, key);
}

static void teardown(void)
{
    mk_cert_free(&leaf);
    mk_cert_free(&inter);
    gnutls_x509_privkey_deinit(key);
}

static void put_pem(struct cm_buf *out, const struct mk_cert *c)
{
    gnutls_datum_t pem = { NULL, 0 };

    ck_assert_int_eq(gnutls_x509_crt_export2(c->crt, GNUTLS_X509_FMT_PEM, &pem), 0);
    ck_ok(cm_buf_append(out, pem.data, pem.size, &err));
    gnutls_free(pem.data);
}

START_TEST(chain_is_read_in_order_and_written_as_gnutls_does)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_buf again = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain chain;

    put_pem(&pem, &leaf);
    put_pem(&pem, &inter);
    ck_ok(cm_chain_from_pem(cm_buf_span(&pem), &chain, &err));
    ck_assert_uint_eq(chain.n, 2);
    ck_assert(cm_equal_ct(chain.der[0], mk_span(&leaf)));
    ck_assert(cm_equal_ct(chain.der[1], mk_span(&inter)));
    ck_ok(cm_chain_to_pem(&chain, &again, &err));
    ck_assert_str_eq(cm_buf_str(&again), cm_buf_str(&pem));
    cm_chain_free(&chain);
    ck_assert_ptr_null(chain.bytes);
    cm_chain_free(&chain);
    cm_chain_free(NULL);
    cm_buf_free(&pem);
    cm_buf_free(&again);
}
END_TEST

START_TEST(text_and_other_line_ends_are_skipped)
{
    struct cm_buf plain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain chain;

    put_pem(&plain, &leaf);
    put_pem(&plain, &inter);
    ck_ok(cm_buf_append(&pem, "subject=/CN=Leaf\r\n\0 binary \xff\r\n", 30, &err));
    for (size_t i = 0; i < plain.len; i++)
        ck_ok(cm_buf_append(&pem, plain.data[i] == '\n' ? "\r\n" : (char *)plain.data + i,
                            plain.data[i] == '\n' ? 2 : 1, &err));
    ck_ok(cm_buf_puts(&pem, "the end", &err));
    ck_ok(cm_chain_from_pem(cm_buf_span(&pem), &chain, &err));
    ck_assert_uint_eq(chain.n, 2);
    ck_assert(cm_equal_ct(chain.der[0], mk_span(&leaf)));
    cm_chain_free(&chain);
    cm_buf_free(&plain);
    cm_buf_free(&pem);
}
END_TEST

START_TEST(malformed_chains_are_refused_with_the_reason)
{
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        { "", "no CERTIFICATE block" },
        { "just text\n", "no CERTIFICATE block" },
        { "-----BEGIN CERTIFICATE-----\nMAA=\n", "no END line" },
        { "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "not DER" },
        { "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE----\n", "END line" },
        { "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATEX-----\n", "END line" },
        { "-----BEGIN CERTIFICATE\nMAA=\n-----END CERTIFICATE-----\n", "BEGIN line" },
        { "-----BEGIN CERTIFICATE-----\nMAA\n-----END CERTIFICATE-----\n", "not base64" },
        { "-----BEGIN CERTIFICATE-----\nMA\xc3\xa4=\n-----END CERTIFICATE-----\n", "not base64" },
        { "-----BEGIN CERTIFICATE-----\nMAA=MAA=\n-----END CERTIFICATE-----\n", "not base64" },
        { "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n", "garbage follows" },
        { "-----BEGIN CERTIFICATE-----\nBAA=\n-----END CERTIFICATE-----\n", "not DER" },
        { "-----BEGIN CERTIFICATE-----\nMIA=\n-----END CERTIFICATE-----\n", "not DER" },
        { "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
          "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n",
          "'EC PRIVATE KEY' block" },
        { "-----BEGIN X\x1b[0m-----\nMAA=\n-----END X\x1b[0m-----\n", "'X\\x1b[0m' block" },
        { "-----BEGIN CERTIFICATE-----\nH: x\n\nMAA=\n-----END CERTIFICATE-----\n", "not base64" },
    };
    struct cm_chain chain = { .n = 77 };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        cm_status rc = cm_chain_from_pem(cm_span_str(cases[i].text), &chain, &err);
        ck_assert_msg(rc == CM_E_PARSE, "case %zu: %s", i, cm_status_name(rc));
        ck_assert_msg(strstr(err.msg, cases[i].why) != NULL, "case %zu: %s", i, err.msg);
        ck_assert_uint_eq(chain.n, 77);
    }
}
END_TEST

START_TEST(ten_certificates_are_the_most)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain chain;

    for (unsigned i = 0; i < CM_CHAIN_CERTS_MAX; i++)
        ck_ok(cm_cert_der_to_pem(mk_span(&inter), &pem, &err));
    ck_ok(cm_chain_from_pem(cm_buf_span(&pem), &chain, &err));
    ck_assert_uint_eq(chain.n, CM_CHAIN_CERTS_MAX);
    cm_chain_free(&chain);
    ck_ok(cm_cert_der_to_pem(mk_span(&inter), &pem, &err));
    ck_refused(cm_chain_from_pem(cm_buf_span(&pem), &chain, &err), CM_E_LIMIT, "more than 10");
    cm_buf_free(&pem);
}
END_TEST

START_TEST(sizes_have_limits)
{
    static uint8_t big[CM_CHAIN_PEM_MAX + 1];
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_chain chain;
    const size_t header = 4;

    memset(big, 'x', sizeof big);
    ck_refused(cm_chain_from_pem((struct cm_span){ big, sizeof big }, &chain, &err), CM_E_LIMIT,
               "262144");
    ck_refused(cm_chain_from_pem((struct cm_span){ big, sizeof big - 1 }, &chain, &err), CM_E_PARSE,
               "no CERTIFICATE");
    /* One SEQUENCE of exactly the limit (65536, past two length bytes), and one byte more. */
    for (size_t extra = 0; extra < 2; extra++) {
        size_t content = CM_CERT_DER_MAX - header + extra;
        big[0] = 0x30;
        big[1] = 0x82;
        big[2] = (uint8_t)(content >> 8);
        big[3] = (uint8_t)content;
        cm_buf_reset(&pem);
        ck_ok(cm_cert_der_to_pem((struct cm_span){ big, content + header }, &pem, &err));
        if (extra == 0) {
            ck_ok(cm_chain_from_pem(cm_buf_span(&pem), &chain, &err));
            ck_assert_uint_eq(chain.der[0].len, CM_CERT_DER_MAX);
            cm_chain_free(&chain);
        } else {
            ck_refused(cm_chain_from_pem(cm_buf_span(&pem), &chain, &err), CM_E_LIMIT, "65537");
        }
    }
    cm_buf_free(&pem);
}
END_TEST

START_TEST(chain_is_read_by_its_length_alone)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    put_pem(&pem, &leaf);
    for (size_t n = 0; n + 1 < pem.len; n++) {
        uint8_t *exact = malloc(n + (n == 0));
        struct cm_chain chain;
        ck_assert_ptr_nonnull(exact);
        if (n > 0)
            memcpy(exact, pem.data, n);
        ck_assert_int_eq(cm_chain_from_pem((struct cm_span){ exact, n }, &chain, &err), CM_E_PARSE);
        free(exact);
    }
    cm_buf_free(&pem);
}
END_TEST

START_TEST(top_issuer_is_that_of_the_last_certificate)
{
    struct mk_spec s = { .cn = "Cross", .not_after_s = 1000000, .ca = 1, .pathlen = -1 };
    struct mk_spec top = { .cn = "Top \x1b Root", .not_after_s = 1000000, .ca = 1, .pathlen = -1 };
    struct mk_cert root = mk_cert(&top, key, NULL, key);
    struct mk_cert cross = mk_cert(&s, key, &root, key);
    struct cm_chain chain = { .der = { mk_span(&leaf), mk_span(&cross) }, .n = 2 };
    char cn[32];

    ck_ok(cm_chain_top_issuer_cn(&chain, cn, sizeof cn, &err));
    ck_assert_str_eq(cn, "Top \\x1b Root");
    chain.n = 1;
    ck_ok(cm_chain_top_issuer_cn(&chain, cn, sizeof cn, &err));
    ck_assert_str_eq(cn, "Inter");
    chain.n = 0;
    ck_refused(cm_chain_top_issuer_cn(&chain, cn, sizeof cn, &err), CM_E_INVAL, "empty");
    mk_cert_free(&root);
    mk_cert_free(&cross);
}
END_TEST

START_TEST(no_allocation_failure_leaks_or_crashes)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    put_pem(&pem, &leaf);
    for (uint64_t n = 1; n < 50; n++) {
        struct cm_chain chain = { .n = 0 };
        (void)cm_alloc_fail_at(n);
        cm_status rc = cm_chain_from_pem(cm_buf_span(&pem), &chain, &err);
        (void)cm_alloc_fail_at(0);
        cm_chain_free(&chain);
        if (rc == CM_OK)
            break;
        ck_assert_int_eq(rc, CM_E_NOMEM);
        ck_assert_uint_lt(n, 49);
    }
    cm_buf_free(&pem);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        chain_is_read_in_order_and_written_as_gnutls_does,
        text_and_other_line_ends_are_skipped,
        malformed_chains_are_refused_with_the_reason,
        ten_certificates_are_the_most,
        sizes_have_limits,
        chain_is_read_by_its_length_alone,
        top_issuer_is_that_of_the_last_certificate,
        no_allocation_failure_leaks_or_crashes,
    };

    return run_tests_how("chain", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .begin = setup, .end = teardown });
}
