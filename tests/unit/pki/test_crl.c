/* SPDX-License-Identifier: Apache-2.0 */
#include "mkcrl.h"
#include "pem.h"
#include "run.h"
#include "x509.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <time.h>

#define NOW  INT64_C(1767225600) /* 2026-01-01 */
#define DAY  INT64_C(86400)
#define URL  "http://crl.example/7.crl"
#define KU   (CM_KU_KEY_CERT_SIGN | CM_KU_CRL_SIGN)
#define LATE UINT64_C(0xfedcba9876543210)

static struct cm_err err;
static struct mk_ca ca;

static void setup(void)
{
    mk_ca_make(&ca, "Test CA", NOW, KU);
}

static void teardown(void)
{
    mk_ca_free(&ca);
}

static struct mk_crl good(void)
{
    static const struct mk_crl_entry entries[] = { { 7, -1, NOW - DAY },
                                                   { LATE, 1, NOW - 2 * DAY },
                                                   { 300, 4, NOW - 3 * DAY } };

    return (struct mk_crl){ .entries = entries,
                            .n = CM_ARRAY_LEN(entries),
                            .this_s = NOW - 3600,
                            .next_s = NOW + 7 * DAY };
}

static cm_status verify_by(const struct mk_ca *by, const struct cm_buf *der, struct cm_crl *ret)
{
    return cm_crl_verify(cm_buf_span(der), cm_buf_span(&by->der), URL, NOW, ret, &err);
}

/* Make it as @spec says; what comes of it. */
static cm_status verify(const struct mk_crl *spec)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    struct cm_crl crl;

    err.msg[0] = '\0';
    mk_crl(&ca, spec, &der);
    return verify_by(&ca, &der, &crl);
}

START_TEST(good_list_tells_who_is_revoked)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    struct mk_crl spec = good();
    struct cm_crl_entry e;
    struct cm_crl crl;
    uint8_t room[9];

    mk_crl(&ca, &spec, &der);
    ck_ok(verify_by(&ca, &der, &crl));
    ck_assert_uint_eq(crl.n_entries, 3);
    ck_assert_int_eq(crl.this_update_s, NOW - 3600);
    ck_assert_int_eq(crl.next_update_s, NOW + 7 * DAY);
    ck_assert_uint_eq(crl.serial_max, 9); /* 8 bytes and a sign */
    ck_assert(cm_crl_find(&crl, mk_serial(LATE, room), &e));
    ck_assert_int_eq(e.reason, 1);
    ck_assert_int_eq(e.at_s, NOW - 2 * DAY);
    ck_assert(cm_crl_find(&crl, mk_serial(7, room), &e));
    ck_assert_int_eq(e.reason, 0);
    ck_assert(!cm_crl_find(&crl, mk_serial(8, room), &e));
}
END_TEST

START_TEST(every_reason_is_told)
{
    static const int reasons[] = { 0, 1, 2, 3, 4, 5, 6, 9, 10 };

    for (size_t i = 0; i < CM_ARRAY_LEN(reasons); i++) {
        CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
        struct mk_crl_entry entry = { 5, reasons[i], NOW - DAY };
        struct mk_crl spec = good();
        struct cm_crl_entry e;
        struct cm_crl crl;
        uint8_t room[9];

        spec.entries = &entry;
        spec.n = 1;
        mk_crl(&ca, &spec, &der);
        ck_ok(verify_by(&ca, &der, &crl));
        ck_assert(cm_crl_find(&crl, mk_serial(5, room), &e));
        ck_assert_int_eq(e.reason, reasons[i]);
    }
}
END_TEST

START_TEST(reasons_that_are_none_are_refused)
{
    struct mk_crl_entry entry = { 5, 7, NOW - DAY };
    struct mk_crl spec = good();

    spec.entries = &entry;
    spec.n = 1;
    ck_refused(verify(&spec), CM_E_PARSE, "entry 1");
    entry.reason = 11;
    ck_refused(verify(&spec), CM_E_PARSE, "entry 1");
    entry.reason = 8; /* removeFromCRL */
    ck_refused(verify(&spec), CM_E_CERT, "takes a revocation back");
}
END_TEST

START_TEST(dates_decide)
{
    struct mk_crl spec = good();

    spec.next_s = NOW;
    ck_refused(verify(&spec), CM_E_CERT, "expired 0 s ago");
    spec.next_s = NOW + 1;
    ck_ok(verify(&spec));
    spec.this_s = NOW + CM_CRL_SKEW_S;
    ck_ok(verify(&spec));
    spec.this_s = NOW + CM_CRL_SKEW_S + 1;
    ck_refused(verify(&spec), CM_E_CERT, "from the future");
    spec = good();
    spec.next_s = 0;
    ck_refused(verify(&spec), CM_E_CERT, "how long it holds");
}
END_TEST

START_TEST(only_the_issuer_may_sign)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    struct mk_ca other, impostor, certs_only, no_usage;
    struct mk_crl spec = good();
    struct cm_crl crl;

    mk_ca_make(&other, "Other CA", NOW, KU);
    mk_ca_make(&impostor, "Test CA", NOW, KU);
    mk_ca_make(&certs_only, "Test CA", NOW, CM_KU_KEY_CERT_SIGN);
    mk_ca_make(&no_usage, "Test CA", NOW, 0);
    mk_crl(&other, &spec, &der);
    ck_refused(verify_by(&ca, &der, &crl), CM_E_CERT, "another than the certificate's issuer");
    mk_crl(&impostor, &spec, &der);
    ck_refused(verify_by(&ca, &der, &crl), CM_E_CERT, "revocation list");
    mk_crl(&certs_only, &spec, &der);
    ck_refused(verify_by(&certs_only, &der, &crl), CM_E_CERT, "not for signing lists");
    mk_crl(&no_usage, &spec, &der);
    ck_ok(verify_by(&no_usage, &der, &crl));
    mk_ca_free(&other);
    mk_ca_free(&impostor);
    mk_ca_free(&certs_only);
    mk_ca_free(&no_usage);
}
END_TEST

START_TEST(lists_of_another_scope_are_refused)
{
    struct mk_crl spec = good();

    spec.delta = true;
    ck_refused(verify(&spec), CM_E_CERT, "changes only");
    spec = good();
    spec.indirect = true;
    ck_refused(verify(&spec), CM_E_CERT, "indirect");
    spec = good();
    spec.ca_only = true;
    ck_refused(verify(&spec), CM_E_CERT, "not about certificates of servers");
    spec = good();
    spec.attribute_only = true;
    ck_refused(verify(&spec), CM_E_CERT, "not about certificates of servers");
    spec = good();
    spec.user_only = true;
    ck_ok(verify(&spec));
    spec = good();
    spec.version1 = true;
    ck_refused(verify(&spec), CM_E_CERT, "version 2");
}
END_TEST

START_TEST(shard_must_be_the_one_that_was_asked_for)
{
    struct mk_crl spec = good();

    spec.idp_url = URL;
    ck_ok(verify(&spec));
    spec.idp_url = "http://crl.example/8.crl";
    ck_refused(verify(&spec), CM_E_CERT, "another part than that for '" URL "'");
    spec.idp_url = NULL;
    spec.idp_relative = true;
    ck_refused(verify(&spec), CM_E_CERT, "another part");
}
END_TEST

START_TEST(critical_extensions_that_are_not_known_are_refused)
{
    struct mk_crl spec = good();

    spec.unknown = true;
    ck_ok(verify(&spec));
    spec.unknown_critical = true;
    ck_refused(verify(&spec), CM_E_CERT, "critical extension");
    spec = good();
    spec.entry_critical = true;
    ck_refused(verify(&spec), CM_E_CERT, "an entry has a critical extension");
    spec = good();
    spec.other_algorithm = true;
    ck_refused(verify(&spec), CM_E_PARSE, "signature algorithm");
}
END_TEST

START_TEST(every_changed_bit_is_noticed)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    struct mk_crl spec = good();
    struct cm_crl crl;

    spec.n = 1;
    mk_crl(&ca, &spec, &der);
    for (size_t i = 0; i < der.len; i++) {
        der.data[i] ^= (uint8_t)(1u << i % 8);
        cm_status rc = verify_by(&ca, &der, &crl);
        ck_assert_msg(rc == CM_E_PARSE || rc == CM_E_CERT, "byte %zu: %s", i, cm_status_name(rc));
        der.data[i] ^= (uint8_t)(1u << i % 8);
    }
    ck_ok(verify_by(&ca, &der, &crl));
}
END_TEST

START_TEST(truncated_at_every_byte_is_refused)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    struct mk_crl spec = good();
    struct cm_crl crl;

    mk_crl(&ca, &spec, &der);
    for (size_t n = 0; n < der.len; n++) {
        uint8_t *cut = cm_calloc(1, n + 1);
        memcpy(cut, der.data, n);
        ck_refused(
            cm_crl_verify((struct cm_span){ cut, n }, cm_buf_span(&ca.der), URL, NOW, &crl, &err),
            CM_E_PARSE, "malformed");
        free(cut);
    }
    ck_ok(cm_buf_append(&der, "x", 1, &err));
    ck_refused(verify_by(&ca, &der, &crl), CM_E_PARSE, "garbage");
}
END_TEST

START_TEST(pem_is_taken_and_garbage_is_not)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(65536);
    CM_AUTO_BUF struct cm_buf room = CM_BUF_INIT(CM_CRL_MAX);
    struct mk_crl spec = good();
    struct cm_span got;

    mk_crl(&ca, &spec, &der);
    ck_ok(cm_crl_der(cm_buf_span(&der), &room, &got, &err));
    ck_assert_ptr_eq(got.data, der.data);
    ck_ok(cm_pem_encode("X509 CRL", cm_buf_span(&der), &pem, &err));
    ck_ok(cm_crl_der(cm_buf_span(&pem), &room, &got, &err));
    ck_assert_uint_eq(got.len, der.len);
    ck_assert_mem_eq(got.data, der.data, der.len);
    cm_buf_reset(&pem);
    ck_ok(cm_pem_encode("CERTIFICATE", cm_buf_span(&der), &pem, &err));
    ck_refused(cm_crl_der(cm_buf_span(&pem), &room, &got, &err), CM_E_PARSE, "neither");
    ck_refused(cm_crl_der(cm_span_str("<html>404</html>"), &room, &got, &err), CM_E_PARSE,
               "neither");
    ck_refused(cm_crl_der(cm_span_str(""), &room, &got, &err), CM_E_PARSE, "neither");
    ck_refused(cm_crl_der(cm_span_str("-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n"),
                          &room, &got, &err),
               CM_E_PARSE, "base64");
}
END_TEST

START_TEST(huge_list_is_refused_before_it_is_looked_at)
{
    uint8_t *big = cm_calloc(1, CM_CRL_MAX + 1);
    struct cm_crl crl;

    ck_refused(cm_crl_verify((struct cm_span){ big, CM_CRL_MAX + 1 }, cm_buf_span(&ca.der), URL,
                             NOW, &crl, &err),
               CM_E_LIMIT, "bytes");
    free(big);
}
END_TEST

static double seconds(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The set says what the list says, entry for entry, and nothing else. */
static void compare(size_t n, bool shuffled)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(1);
    struct mk_crl spec = good();
    struct cm_crl_set *set = NULL;
    struct cm_crl_entry e;
    struct cm_crl crl;
    size_t wrong = 0;
    size_t seen = 0;
    int reason;
    int64_t at;

    spec.n = 0;
    spec.n_counted = n;
    spec.shuffled = shuffled;
    mk_crl(&ca, &spec, &der);
    double t0 = seconds();
    ck_ok(verify_by(&ca, &der, &crl));
    double t1 = seconds();
    ck_ok(cm_crl_set_new(&crl, &set, &err));
    double t2 = seconds();
    ck_assert_uint_eq(crl.n_entries, n);
    ck_assert_uint_eq(cm_crl_set_count(set), n);
    for (struct cm_span rest = crl.entries; cm_crl_next(&rest, &e); seen++) {
        uint8_t odd[8];

        wrong += !cm_crl_set_find(set, e.serial, &reason, &at) || reason != 0 || at != NOW - 3600;
        memcpy(odd, e.serial.data, 8);
        odd[7] |= 1; /* all that are revoked are even */
        wrong += cm_crl_set_find(set, CM_SPAN_OF(odd), &reason, &at);
    }
    double t3 = seconds();
    ck_assert_uint_eq(seen, n);
    ck_assert_uint_eq(wrong, 0);
    printf("# %zu entries, %s: list %zu bytes, verified in %.3f s, kept in %zu bytes after %.3f s, "
           "%zu look-ups in %.3f s\n",
           n, shuffled ? "not sorted" : "sorted", der.len, t1 - t0, cm_crl_set_bytes(set), t2 - t1,
           2 * n, t3 - t2);
    (void)fflush(stdout);
    ck_assert_uint_le(cm_crl_set_bytes(set), n * 13 + 64);
    cm_crl_set_free(set);
}

START_TEST(set_of_none_and_of_one)
{
    struct cm_crl empty = { .n_entries = 0 };
    struct cm_crl_set *set = NULL;
    uint8_t room[9];
    int reason;
    int64_t at;

    ck_ok(cm_crl_set_new(&empty, &set, &err));
    ck_assert(!cm_crl_set_find(set, mk_serial(1, room), &reason, &at));
    ck_assert(!cm_crl_set_find(set, (struct cm_span){ room, 0 }, &reason, &at));
    cm_crl_set_free(set);
    compare(1, false);
    compare(1000, true);
}
END_TEST

START_TEST(list_of_nothing_is_a_list)
{
    struct mk_crl spec = good();

    spec.n = 0;
    ck_ok(verify(&spec));
}
END_TEST

START_TEST(million_entries)
{
    compare(1000000, true);
    compare(1000000, false);
}
END_TEST

START_TEST(serials_of_every_width_are_told_apart)
{
    /* 0, -128 and 129 */
    static const uint8_t list[] = { 0x30, 18,   2,    1,    0x00, 0x17, 13,  '2',  '5', '0',  '1',
                                    '0',  '1',  '0',  '0',  '0',  '0',  '0', '0',  'Z', 0x30, 18,
                                    2,    1,    0x80, 0x17, 13,   '2',  '5', '0',  '1', '0',  '1',
                                    '0',  '0',  '0',  '0',  '0',  '0',  'Z', 0x30, 19,  2,    2,
                                    0x00, 0x81, 0x17, 13,   '2',  '5',  '0', '1',  '0', '1',  '0',
                                    '0',  '0',  '0',  '0',  '0',  'Z' };
    struct cm_crl crl = { .entries = CM_SPAN_OF(list), .n_entries = 3, .serial_max = 2 };
    static const struct {
        uint8_t bytes[3];
        size_t len;
        bool in;
    } asked[] = { { { 0 }, 1, true },        { { 0x80 }, 1, true },       { { 0, 0x81 }, 2, true },
                  { { 0, 0x80 }, 2, false }, { { 0x81 }, 1, false },      { { 0x7f }, 1, false },
                  { { 0xff }, 1, false },    { { 0, 0, 0x81 }, 3, false } };
    struct cm_crl_set *set = NULL;
    int reason;
    int64_t at;

    ck_ok(cm_crl_set_new(&crl, &set, &err));
    ck_assert_uint_eq(cm_crl_set_count(set), 3);
    for (size_t i = 0; i < CM_ARRAY_LEN(asked); i++) {
        struct cm_span serial = { asked[i].bytes, asked[i].len };

        ck_assert_msg(cm_crl_set_find(set, serial, &reason, &at) == asked[i].in, "serial %zu", i);
    }
    cm_crl_set_free(set);
    crl.serial_max = 1; /* as if the third were too long for a certificate */
    ck_ok(cm_crl_set_new(&crl, &set, &err));
    ck_assert_uint_eq(cm_crl_set_count(set), 2);
    cm_crl_set_free(set);
}
END_TEST

/* A list by somebody else's writer. */
START_TEST(list_made_by_gnutls_is_understood)
{
    gnutls_datum_t der = { NULL, 0 };
    gnutls_datum_t ca_der = { ca.der.data, (unsigned)ca.der.len };
    CM_AUTO_BUF struct cm_buf key_der = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
    gnutls_x509_crl_t made;
    struct cm_crl_entry e;
    struct cm_crl crl;
    uint8_t serial[] = { 0x12, 0x34, 0x56 };

    ck_ok(cm_key_to_der(ca.key, &key_der, &err));
    gnutls_datum_t key_datum = { key_der.data, (unsigned)key_der.len };
    ck_assert_int_eq(gnutls_x509_privkey_init(&key), 0);
    ck_assert_int_eq(gnutls_x509_privkey_import(key, &key_datum, GNUTLS_X509_FMT_DER), 0);
    ck_assert_int_eq(gnutls_x509_crt_init(&crt), 0);
    ck_assert_int_eq(gnutls_x509_crt_import(crt, &ca_der, GNUTLS_X509_FMT_DER), 0);
    ck_assert_int_eq(gnutls_x509_crl_init(&made), 0);
    ck_assert_int_eq(gnutls_x509_crl_set_version(made, 2), 0);
    ck_assert_int_eq(gnutls_x509_crl_set_this_update(made, NOW - DAY), 0);
    ck_assert_int_eq(gnutls_x509_crl_set_next_update(made, NOW + DAY), 0);
    ck_assert_int_eq(gnutls_x509_crl_set_number(made, serial, sizeof serial), 0);
    ck_assert_int_eq(gnutls_x509_crl_set_crt_serial(made, serial, sizeof serial, NOW - 2 * DAY), 0);
    ck_assert_int_eq(gnutls_x509_crl_sign2(made, crt, key, GNUTLS_DIG_SHA256, 0), 0);
    ck_assert_int_eq(gnutls_x509_crl_export2(made, GNUTLS_X509_FMT_DER, &der), 0);
    ck_ok(cm_crl_verify((struct cm_span){ der.data, der.size }, cm_buf_span(&ca.der), URL, NOW,
                        &crl, &err));
    ck_assert_uint_eq(crl.n_entries, 1);
    ck_assert(cm_crl_find(&crl, CM_SPAN_OF(serial), &e));
    ck_assert_int_eq(e.at_s, NOW - 2 * DAY);
    gnutls_free(der.data);
    gnutls_x509_crl_deinit(made);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
}
END_TEST

/* ---- the URL in the certificate ---- */

static bool url_with(const struct mk_leaf *given, char ret[CM_CRL_URL_BUF])
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct mk_leaf leaf = *given;
    struct cm_key *key = NULL;

    leaf.serial = 9;
    leaf.name = "a.example";
    leaf.from_s = NOW;
    leaf.lifetime_s = DAY;
    mk_leaf(&ca, &leaf, &der, &key);
    cm_key_unref(key);
    return cm_crl_url(cm_buf_span(&der), ret);
}

START_TEST(url_of_a_leaf)
{
    struct mk_leaf none = { .crl_url = NULL };
    struct mk_leaf plain = { .crl_url = URL };
    struct mk_leaf ldap = { .crl_url = "ldap://x.example/crl" };
    struct mk_leaf odd = { .crl_url = "http://x.example/a b" };
    /* ldap first, then two of http in one point */
    static const uint8_t several[] = { 0x30, 0x22, 0x30, 0x20, 0xa0, 0x1e, 0xa0, 0x1c, 0x86,
                                       0x06, 'l',  'd',  'a',  'p',  ':',  'x',  0x86, 0x08,
                                       'h',  't',  't',  'p',  ':',  '/',  '/',  'a',  0x86,
                                       0x08, 'h',  't',  't',  'p',  ':',  '/',  '/',  'b' };
    /* the first point has a cRLIssuer, the second is good */
    static const uint8_t indirect[] = { 0x30, 0x20, 0x30, 0x10, 0xa0, 0x0c, 0xa0, 0x0a, 0x86,
                                        0x08, 'h',  't',  't',  'p',  ':',  '/',  '/',  'i',
                                        0xa2, 0x00, 0x30, 0x0c, 0xa0, 0x0a, 0xa0, 0x08, 0x86,
                                        0x06, 'h',  't',  't',  'p',  's',  ':' };
    char url[CM_CRL_URL_BUF] = "";

    ck_assert(url_with(&plain, url));
    ck_assert_str_eq(url, URL);
    ck_assert(!url_with(&none, url));
    ck_assert(!url_with(&ldap, url));
    ck_assert(!url_with(&odd, url));
    ck_assert(url_with(&(struct mk_leaf){ .crl_dp = CM_SPAN_OF(several) }, url));
    ck_assert_str_eq(url, "http://a");
    ck_assert(!url_with(&(struct mk_leaf){ .crl_dp = CM_SPAN_OF(indirect) }, url));
    ck_assert(!url_with(&(struct mk_leaf){ .crl_dp = { several, 20 } }, url)); /* cut off */
}
END_TEST

START_TEST(id_is_of_the_issuers_name_and_key_and_the_url)
{
    struct mk_ca again = { ca.key, CM_BUF_INIT(CM_CERT_DER_MAX) };
    struct mk_ca impostor;
    uint8_t a[CM_CRL_ID_LEN], b[CM_CRL_ID_LEN];

    ck_ok(cm_buf_append(&again.der, ca.der.data, ca.der.len, &err));
    again.der.data[again.der.len - 1] ^= 1; /* another certificate for the same CA */
    mk_ca_make(&impostor, "Test CA", NOW, KU);
    ck_ok(cm_crl_id(cm_buf_span(&ca.der), URL, a, &err));
    ck_ok(cm_crl_id(cm_buf_span(&again.der), URL, b, &err));
    ck_assert_mem_eq(a, b, sizeof a);
    ck_ok(cm_crl_id(cm_buf_span(&ca.der), URL "2", b, &err));
    ck_assert_mem_ne(a, b, sizeof a);
    ck_ok(cm_crl_id(cm_buf_span(&impostor.der), URL, b, &err));
    ck_assert_mem_ne(a, b, sizeof a);
    ck_refused(cm_crl_id(cm_span_str("x"), URL, b, &err), CM_E_PARSE, "certificate");
    mk_ca_free(&impostor);
    cm_buf_free(&again.der);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        good_list_tells_who_is_revoked,
        every_reason_is_told,
        reasons_that_are_none_are_refused,
        dates_decide,
        only_the_issuer_may_sign,
        lists_of_another_scope_are_refused,
        shard_must_be_the_one_that_was_asked_for,
        critical_extensions_that_are_not_known_are_refused,
        every_changed_bit_is_noticed,
        truncated_at_every_byte_is_refused,
        pem_is_taken_and_garbage_is_not,
        huge_list_is_refused_before_it_is_looked_at,
        set_of_none_and_of_one,
        list_of_nothing_is_a_list,
        million_entries,
        serials_of_every_width_are_told_apart,
        list_made_by_gnutls_is_understood,
        url_of_a_leaf,
        id_is_of_the_issuers_name_and_key_and_the_url,
    };

    return run_tests_how("crl", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .begin = setup, .end = teardown });
}
