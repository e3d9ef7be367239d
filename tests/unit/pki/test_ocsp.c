/* SPDX-License-Identifier: Apache-2.0 */
#include "ocsp.h"
#include "ocsp_kit.h"
#include "run.h"

#include <gnutls/ocsp.h>
#include <gnutls/x509.h>

/* Responses right and wrong in one way each. None that is wrong may be taken for right. */

#define NOW INT64_C(1780000000)

static struct cm_err err;
static struct ok_ca ca, impostor, other_ca;
static struct cm_key *key, *signer_key;
static struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf response = CM_BUF_INIT(1u << 20);
/* Delegates: right, without the purpose, with any purpose, expired, of the future, by another CA
 * with its name, by one with ours. */
static struct cm_buf del_right = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_plain = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_any = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_expired = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_early = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_foreign = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_impostor = CM_BUF_INIT(CM_CERT_DER_MAX);
static struct cm_buf del_short = CM_BUF_INIT(CM_CERT_DER_MAX);

static void delegate(struct cm_buf *ret, const struct ok_ca *by, bool ocsp, bool any, int64_t from,
                     int64_t to)
{
    const struct ok_cert want = { .name = "responder.test",
                                  .serial = 77,
                                  .from_s = from,
                                  .to_s = to,
                                  .eku_ocsp = ocsp,
                                  .eku_any = any };

    ok_cert_make(by, &want, signer_key, ret);
}

static void setup(void)
{
    const struct ok_cert want = { .from_s = NOW - OK_DAY,
                                  .to_s = NOW + 80 * OK_DAY,
                                  .url = "http://ocsp.test/",
                                  .issuer = "http://ca.test/ca.der" };
    int64_t from = NOW - OK_DAY;
    int64_t to = NOW + 30 * OK_DAY;

    ok_ca_make(&ca, "OCSP CA", NOW);
    ok_ca_make(&impostor, "OCSP CA", NOW);
    ok_ca_make(&other_ca, "Other CA", NOW);
    key = ok_key();
    signer_key = ok_key();
    ok_cert_make(&ca, &want, key, &leaf);
    delegate(&del_right, &ca, true, false, from, to);
    delegate(&del_plain, &ca, false, false, from, to);
    delegate(&del_any, &ca, false, true, from, to);
    delegate(&del_expired, &ca, true, false, from - OK_DAY, NOW - 1);
    delegate(&del_early, &ca, true, false, NOW + 60, to);
    delegate(&del_foreign, &other_ca, true, false, from, to);
    delegate(&del_impostor, &impostor, true, false, from, to);
    delegate(&del_short, &ca, true, false, from, NOW + OK_DAY);
}

static void teardown(void)
{
    struct cm_buf *const all[] = {
        &leaf,        &response,  &del_right,   &del_plain,    &del_any,
        &del_expired, &del_early, &del_foreign, &del_impostor, &del_short
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(all); i++)
        cm_buf_free(all[i]);
    cm_key_unref(key);
    cm_key_unref(signer_key);
    ok_ca_free(&ca);
    ok_ca_free(&impostor);
    ok_ca_free(&other_ca);
}

static struct cm_span make(struct ok_response want)
{
    if (want.leaf.len == 0)
        want.leaf = cm_buf_span(&leaf);
    if (want.ca == NULL)
        want.ca = &ca;
    if (want.now_s == 0)
        want.now_s = NOW;
    cm_buf_reset(&response);
    ok_response_make(&want, &response);
    return cm_buf_span(&response);
}

static cm_status verify(struct cm_span r, struct cm_ocsp *ret)
{
    err.msg[0] = '\0';
    return cm_ocsp_verify(r, cm_buf_span(&leaf), cm_buf_span(&ca.der), NOW, ret, &err);
}

/* ------------------------------------------------------------------- accepted */

START_TEST(good_responses_are_taken_with_their_dates)
{
    const struct {
        const char *what;
        struct ok_response want;
        int64_t next_s, end_s;
        bool alone;
    } rows[] = {
        { "plain", { .reason = 0 }, NOW + 7 * OK_DAY, NOW + 7 * OK_DAY, true },
        { "named by key", { .by_key = true }, NOW + 7 * OK_DAY, NOW + 7 * OK_DAY, true },
        { "outlives its certificate",
          { .next_s = NOW + 100 * OK_DAY },
          NOW + 100 * OK_DAY,
          NOW + 100 * OK_DAY,
          true },
        { "SHA-256 CertID", { .sha256 = true }, NOW + 7 * OK_DAY, NOW + 7 * OK_DAY, true },
        { "no nextUpdate", { .no_next = true }, NOW + 12 * 3600, NOW + 12 * 3600, true },
        { "a nonce", { .nonce = true }, NOW + 7 * OK_DAY, NOW + 7 * OK_DAY, true },
        { "a little ahead",
          { .this_s = NOW + 300, .produced_s = NOW + 300 },
          NOW + 7 * OK_DAY,
          NOW + 7 * OK_DAY,
          true },
        { "old, one second left",
          { .this_s = NOW - OK_DAY, .next_s = NOW + 1, .produced_s = NOW - 2 * OK_DAY },
          NOW + 1,
          NOW + 1,
          true },
        { "by a delegate",
          { .signer = signer_key, .signer_cert = cm_buf_span(&del_right) },
          NOW + 7 * OK_DAY,
          NOW + 7 * OK_DAY,
          true },
        { "by a delegate, named by key",
          { .signer = signer_key, .signer_cert = cm_buf_span(&del_right), .by_key = true },
          NOW + 7 * OK_DAY,
          NOW + 7 * OK_DAY,
          true },
        { "by a delegate that ends before",
          { .signer = signer_key, .signer_cert = cm_buf_span(&del_short) },
          NOW + 7 * OK_DAY,
          NOW + OK_DAY,
          true },
        { "the CA's own certificate in it",
          { .signer_cert = cm_buf_span(&ca.der) },
          NOW + 7 * OK_DAY,
          NOW + 7 * OK_DAY,
          true },
        { "others before and after",
          { .others_before = 2, .others_after = 3 },
          NOW + 7 * OK_DAY,
          NOW + 7 * OK_DAY,
          false },
        { "long, but not too long",
          { .padding = 60000 },
          NOW + 7 * OK_DAY,
          NOW + 7 * OK_DAY,
          true },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(rows); i++) {
        struct cm_ocsp o = { .status = CM_OCSP_UNKNOWN };
        cm_status rc = verify(make(rows[i].want), &o);

        ck_assert_msg(rc == CM_OK, "%s: %s", rows[i].what, err.msg);
        ck_assert_int_eq(o.status, CM_OCSP_GOOD);
        ck_assert_msg(o.next_update_s == rows[i].next_s, "%s", rows[i].what);
        ck_assert_msg(o.end_s == rows[i].end_s, "%s", rows[i].what);
        ck_assert_msg(o.alone == rows[i].alone, "%s", rows[i].what);
        ck_assert_int_eq(o.this_update_s, rows[i].want.this_s != 0 ? rows[i].want.this_s : NOW);
    }
}
END_TEST

START_TEST(revoked_comes_with_reason_and_time)
{
    struct cm_ocsp o;

    ck_ok(verify(
        make((struct ok_response){ .status = OK_REVOKED, .reason = 1, .revoked_at_s = NOW - 1234 }),
        &o));
    ck_assert_int_eq(o.status, CM_OCSP_REVOKED);
    ck_assert_int_eq(o.reason, 1);
    ck_assert_int_eq(o.revoked_at_s, NOW - 1234);

    ck_ok(verify(make((struct ok_response){ .status = OK_REVOKED, .reason = -1 }), &o));
    ck_assert_int_eq(o.status, CM_OCSP_REVOKED);
    ck_assert_int_eq(o.reason, 0);
    ck_assert_str_eq(cm_ocsp_status_text(o.status), "revoked");
}
END_TEST

START_TEST(unknown_is_told_as_such)
{
    struct cm_ocsp o;

    ck_ok(verify(make((struct ok_response){ .status = OK_UNKNOWN }), &o));
    ck_assert_int_eq(o.status, CM_OCSP_UNKNOWN);
    ck_assert_str_eq(cm_ocsp_status_text(o.status), "unknown");
}
END_TEST

/* -------------------------------------------------------------------- refused */

#define DELEGATE(buf) .signer = signer_key, .signer_cert = cm_buf_span(buf)

START_TEST(no_wrong_response_is_taken)
{
    const struct {
        const char *what;
        struct ok_response want;
        cm_status rc;
        const char *part; /* of the message */
    } rows[] = {
        { "expired", { .this_s = NOW - 2 * OK_DAY, .next_s = NOW - 1 }, CM_E_CERT, "expired" },
        { "expires now", { .this_s = NOW - 2 * OK_DAY, .next_s = NOW }, CM_E_CERT, "expired" },
        { "no nextUpdate, too old",
          { .this_s = NOW - 12 * 3600, .no_next = true },
          CM_E_CERT,
          "expired" },
        { "of the future", { .this_s = NOW + 301 }, CM_E_STATE, "future" },
        { "produced in the future", { .produced_s = NOW + 301 }, CM_E_STATE, "future" },
        { "nextUpdate before thisUpdate",
          { .this_s = NOW + 100, .next_s = NOW + 50 },
          CM_E_CERT,
          "not after" },
        { "nextUpdate equals thisUpdate",
          { .this_s = NOW + 100, .next_s = NOW + 100 },
          CM_E_CERT,
          "not after" },
        { "wrong serial", { .wrong = OK_WRONG_SERIAL }, CM_E_CERT, "none of its 1" },
        { "wrong name hash", { .wrong = OK_WRONG_NAME_HASH }, CM_E_CERT, "none of its 1" },
        { "wrong key hash", { .wrong = OK_WRONG_KEY_HASH }, CM_E_CERT, "none of its 1" },
        { "wrong name hash, SHA-256",
          { .wrong = OK_WRONG_NAME_HASH, .sha256 = true },
          CM_E_CERT,
          "none of its 1" },
        { "wrong key hash, SHA-256",
          { .wrong = OK_WRONG_KEY_HASH, .sha256 = true },
          CM_E_CERT,
          "none of its 1" },
        { "a hash that nobody knows", { .wrong = OK_WRONG_HASH_OID }, CM_E_CERT, "none of" },
        { "a hash cut short", { .wrong = OK_WRONG_HASH_LEN }, CM_E_CERT, "none of its 1" },
        { "another CA's name and key", { .ca = &other_ca }, CM_E_CERT, "none of its 1" },
        { "another CA's key, our name", { .ca = &impostor }, CM_E_CERT, "none of its 1" },
        { "no answer", { .wrong = OK_WRONG_EMPTY }, CM_E_CERT, "none of its 0" },
        { "others only",
          { .wrong = OK_WRONG_SERIAL, .others_before = 2 },
          CM_E_CERT,
          "none of its 3" },
        { "two answers", { .twice = 1 }, CM_E_CERT, "2 answers" },
        { "too many answers", { .others_before = 101 }, CM_E_LIMIT, "more than 100" },
        { "flipped signature", { .wrong = OK_WRONG_SIGNATURE }, CM_E_CERT, "by the issuer" },
        { "tampered", { .wrong = OK_WRONG_TBS }, CM_E_CERT, "by the issuer" },
        { "tampered, named by key",
          { .wrong = OK_WRONG_TBS, .by_key = true },
          CM_E_CERT,
          "by the issuer" },
        { "signed by the impostor", { .signer = impostor.key }, CM_E_CERT, "by the issuer" },
        { "signed by the leaf",
          { .signer = key, .signer_cert = cm_buf_span(&leaf) },
          CM_E_CERT,
          "not for OCSP" },
        { "the impostor's certificate in it",
          { .signer = impostor.key, .signer_cert = cm_buf_span(&impostor.der) },
          CM_E_CERT,
          "not for OCSP" },
        { "the impostor's certificate in it, named by key",
          { .signer = impostor.key, .signer_cert = cm_buf_span(&impostor.der), .by_key = true },
          CM_E_CERT,
          "not for OCSP" },
        { "delegate without the purpose", { DELEGATE(&del_plain) }, CM_E_CERT, "not for OCSP" },
        { "delegate for any purpose", { DELEGATE(&del_any) }, CM_E_CERT, "not for OCSP" },
        { "delegate expired", { DELEGATE(&del_expired) }, CM_E_CERT, "not valid now" },
        { "delegate of the future", { DELEGATE(&del_early) }, CM_E_CERT, "not valid now" },
        { "delegate of another CA", { DELEGATE(&del_foreign) }, CM_E_CERT, "another CA" },
        { "delegate of the impostor",
          { DELEGATE(&del_impostor) },
          CM_E_CERT,
          "signer's certificate" },
        { "delegate not sent",
          { DELEGATE(&del_right), .hide_signer = true },
          CM_E_CERT,
          "without its signer" },
        { "delegate sent, signed by somebody else",
          { .signer = key, .signer_cert = cm_buf_span(&del_right) },
          CM_E_CERT,
          "by a delegate" },
        { "delegate, tampered",
          { DELEGATE(&del_right), .wrong = OK_WRONG_TBS },
          CM_E_CERT,
          "by a delegate" },
        { "too many certificates",
          { .signer = key, .signer_cert = cm_buf_span(&del_right), .signer_copies = 6 },
          CM_E_LIMIT,
          "more than 5" },
        { "by the issuer, in another's name",
          { .named_after = cm_buf_span(&other_ca.der) },
          CM_E_CERT,
          "without its signer" },
        { "by a delegate, in another's name",
          { DELEGATE(&del_right), .named_after = cm_buf_span(&other_ca.der) },
          CM_E_CERT,
          "without its signer" },
        { "by a delegate, with another's key hash",
          { DELEGATE(&del_right), .named_after = cm_buf_span(&leaf), .by_key = true },
          CM_E_CERT,
          "without its signer" },
        { "not a basic response", { .wrong = OK_WRONG_TYPE }, CM_E_PARSE, "basic" },
        { "a version not known", { .wrong = OK_WRONG_VERSION }, CM_E_PARSE, "version" },
        { "critical extension", { .wrong = OK_WRONG_CRITICAL }, CM_E_CERT, "critical" },
        { "critical extension of the answer",
          { .wrong = OK_WRONG_SINGLE_CRITICAL },
          CM_E_CERT,
          "critical" },
        { "a reason not known",
          { .status = OK_REVOKED, .wrong = OK_WRONG_REASON },
          CM_E_PARSE,
          "status" },
        { "a date of the wrong kind", { .wrong = OK_WRONG_TIME }, CM_E_PARSE, "thisUpdate" },
        { "certificates that are none", { .wrong = OK_WRONG_CERTS }, CM_E_PARSE, "certificates" },
        { "too long", { .padding = 66000 }, CM_E_LIMIT, "65536" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(rows); i++) {
        struct cm_ocsp o = { .end_s = 4711 };
        cm_status rc = verify(make(rows[i].want), &o);

        ck_assert_msg(rc == rows[i].rc, "%s: %s: %s", rows[i].what, cm_status_name(rc), err.msg);
        ck_assert_msg(strstr(err.msg, rows[i].part) != NULL, "%s: %s", rows[i].what, err.msg);
        ck_assert_int_eq(o.end_s, 4711);
        /* Without a place for the error it is judged the same. */
        ck_assert_int_eq(cm_ocsp_verify(cm_buf_span(&response), cm_buf_span(&leaf),
                                        cm_buf_span(&ca.der), NOW, &o, NULL),
                         rc);
    }
}
END_TEST

START_TEST(refusals_of_the_responder_say_so)
{
    const struct {
        uint8_t status;
        cm_status rc;
        const char *part;
    } rows[] = {
        { 1, CM_E_POLICY, "malformed" }, { 2, CM_E_AGAIN, "internal" },
        { 3, CM_E_AGAIN, "later" },      { 4, CM_E_PARSE, "status 4" },
        { 5, CM_E_POLICY, "signed" },    { 6, CM_E_POLICY, "unauthorized" },
        { 7, CM_E_PARSE, "status 7" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(rows); i++) {
        struct cm_ocsp o;

        cm_buf_reset(&response);
        ok_refusal_make(rows[i].status, &response);
        ck_refused(verify(cm_buf_span(&response), &o), rows[i].rc, rows[i].part);
    }
}
END_TEST

START_TEST(cut_anywhere_it_is_refused)
{
    CM_AUTO_BUF struct cm_buf whole = CM_BUF_INIT(1u << 20);
    struct cm_ocsp o;
    struct cm_span r = make((struct ok_response){ DELEGATE(&del_right) });

    ck_ok(cm_buf_append(&whole, r.data, r.len, &err));
    for (size_t len = 0; len < whole.len; len++) {
        /* A block of its own, so that a read past the end is seen. */
        uint8_t *cut = malloc(len > 0 ? len : 1);

        ck_assert_ptr_nonnull(cut);
        if (len > 0)
            memcpy(cut, whole.data, len);
        ck_assert_int_eq(verify((struct cm_span){ cut, len }, &o), CM_E_PARSE);
        free(cut);
    }
    ck_ok(verify(cm_buf_span(&whole), &o));
    ck_ok(cm_buf_append(&whole, "", 1, &err));
    ck_refused(verify(cm_buf_span(&whole), &o), CM_E_PARSE, "frame");
}
END_TEST

START_TEST(flipped_anywhere_it_says_nothing_else)
{
    struct cm_ocsp want, o;
    struct cm_span r = make((struct ok_response){ .status = OK_REVOKED, .reason = 1 });
    size_t accepted = 0;

    ck_ok(verify(r, &want));
    for (size_t bit = 0; bit < 8 * r.len; bit++) {
        response.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (verify(cm_buf_span(&response), &o) == CM_OK) {
            accepted++;
            ck_assert_mem_eq(&o, &want, sizeof o);
        }
        response.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_uint_eq(accepted, 0);
    ck_ok(verify(cm_buf_span(&response), &o));
}
END_TEST

START_TEST(nothing_is_believed_of_a_certificate_that_is_not_the_issuers)
{
    struct cm_ocsp o;
    struct cm_span r = make((struct ok_response){ .reason = 0 });

    ck_refused(cm_ocsp_verify(r, cm_buf_span(&leaf), cm_buf_span(&other_ca.der), NOW, &o, &err),
               CM_E_CERT, "name");
    ck_refused(cm_ocsp_check_issuer(cm_buf_span(&leaf), cm_buf_span(&impostor.der), &err),
               CM_E_CERT, "by its issuer");
    ck_refused(cm_ocsp_check_issuer(cm_buf_span(&del_plain), cm_buf_span(&leaf), &err), CM_E_CERT,
               "name");
    ck_ok(cm_ocsp_check_issuer(cm_buf_span(&leaf), cm_buf_span(&ca.der), &err));
    /* The impostor's response about its own idea of the leaf: consistent, and worthless. */
    r = make((struct ok_response){ .ca = &impostor });
    ck_refused(cm_ocsp_verify(r, cm_buf_span(&leaf), cm_buf_span(&impostor.der), NOW, &o, &err),
               CM_E_CERT, "by its issuer");
}
END_TEST

START_TEST(a_leaf_that_issues_is_no_ca)
{
    CM_AUTO_BUF struct cm_buf child = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct ok_ca fake = { .key = key, .der = leaf };
    const struct ok_cert want = { .name = "child.test",
                                  .from_s = NOW - OK_DAY,
                                  .to_s = NOW + OK_DAY };

    ok_cert_make(&fake, &want, signer_key, &child);
    ck_refused(cm_ocsp_check_issuer(cm_buf_span(&child), cm_buf_span(&leaf), &err), CM_E_CERT,
               "not one of a CA");
}
END_TEST

/* -------------------------------------------------------------------- request */

START_TEST(the_request_is_what_gnutls_would_ask)
{
    CM_AUTO_BUF struct cm_buf ours = CM_BUF_INIT(1024);
    gnutls_x509_crt_t crt[2];
    gnutls_ocsp_req_t req;
    gnutls_datum_t theirs;
    const struct cm_buf *const ders[] = { &leaf, &ca.der };

    for (int i = 0; i < 2; i++) {
        gnutls_datum_t d = { ders[i]->data, (unsigned)ders[i]->len };

        ck_assert_int_ge(gnutls_x509_crt_init(&crt[i]), 0);
        ck_assert_int_ge(gnutls_x509_crt_import(crt[i], &d, GNUTLS_X509_FMT_DER), 0);
    }
    ck_assert_int_ge(gnutls_ocsp_req_init(&req), 0);
    ck_assert_int_ge(gnutls_ocsp_req_add_cert(req, GNUTLS_DIG_SHA1, crt[1], crt[0]), 0);
    ck_assert_int_ge(gnutls_ocsp_req_export(req, &theirs), 0);
    ck_ok(cm_ocsp_request(cm_buf_span(&leaf), cm_buf_span(&ca.der), &ours, &err));
    ck_assert_uint_eq(ours.len, theirs.size);
    ck_assert_mem_eq(ours.data, theirs.data, theirs.size);
    gnutls_free(theirs.data);
    gnutls_ocsp_req_deinit(req);
    gnutls_x509_crt_deinit(crt[0]);
    gnutls_x509_crt_deinit(crt[1]);
    ck_refused(cm_ocsp_request(cm_buf_span(&leaf), cm_buf_span(&other_ca.der), &ours, &err),
               CM_E_CERT, "name");
}
END_TEST

START_TEST(the_kit_makes_what_gnutls_believes)
{
    struct cm_span r = make((struct ok_response){ DELEGATE(&del_right) });
    gnutls_datum_t d = { (unsigned char *)(uintptr_t)r.data, (unsigned)r.len };
    gnutls_datum_t issuer_der = { ca.der.data, (unsigned)ca.der.len };
    gnutls_ocsp_resp_t resp;
    gnutls_x509_crt_t issuer;
    gnutls_x509_trust_list_t list;
    unsigned verdict = 1;

    ck_assert_int_ge(gnutls_ocsp_resp_init(&resp), 0);
    ck_assert_int_ge(gnutls_ocsp_resp_import(resp, &d), 0);
    ck_assert_int_ge(gnutls_x509_crt_init(&issuer), 0);
    ck_assert_int_ge(gnutls_x509_crt_import(issuer, &issuer_der, GNUTLS_X509_FMT_DER), 0);
    ck_assert_int_ge(gnutls_x509_trust_list_init(&list, 0), 0);
    ck_assert_int_ge(gnutls_x509_trust_list_add_cas(list, &issuer, 1, 0), 0);
    ck_assert_int_ge(
        gnutls_ocsp_resp_verify(resp, list, &verdict, GNUTLS_VERIFY_DISABLE_TIME_CHECKS), 0);
    ck_assert_uint_eq(verdict, 0);
    gnutls_ocsp_resp_deinit(resp);
    gnutls_x509_trust_list_deinit(list, 1);
}
END_TEST

START_TEST(a_leaf_says_where_its_issuer_is)
{
    char url[CM_URL_BUF];

    ck_ok(cm_cert_issuer_url(cm_buf_span(&leaf), url, &err));
    ck_assert_str_eq(url, "http://ca.test/ca.der");
    ck_refused(cm_cert_issuer_url(cm_buf_span(&del_right), url, &err), CM_E_NOTFOUND,
               "does not say");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        good_responses_are_taken_with_their_dates,
        revoked_comes_with_reason_and_time,
        unknown_is_told_as_such,
        no_wrong_response_is_taken,
        refusals_of_the_responder_say_so,
        cut_anywhere_it_is_refused,
        flipped_anywhere_it_says_nothing_else,
        nothing_is_believed_of_a_certificate_that_is_not_the_issuers,
        a_leaf_that_issues_is_no_ca,
        the_request_is_what_gnutls_would_ask,
        the_kit_makes_what_gnutls_believes,
        a_leaf_says_where_its_issuer_is,
    };

    return run_tests_how("ocsp", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .begin = setup, .end = teardown });
}
