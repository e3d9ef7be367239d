/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdio.h>
#include <string.h>

/* The client as a whole: directory, origins, account, revocation, certificate; orders and waiting
 * are in test_order.c. */

static struct fake_ca ca;

static void setup(void)
{
    fake_ca_start(&ca);
}

static void teardown(void)
{
    ck_assert_uint_eq(sh_nonce_reuses(ca.sh), 0);
    ck_assert_uint_eq(sh_nonce_unknown(ca.sh), 0);
    fake_ca_stop(&ca);
}

static unsigned directories(void)
{
    return sh_count(ca.sh, "GET", "/dir");
}

static cm_status get_directory(const struct cm_acme_directory **d)
{
    return cm_acme_directory(ca.acme, &ca.op, d, &err);
}

/* ------------------------------------------------------------------ new client */

static cm_status make(const char *url, const char *origins, bool plain)
{
    const struct cm_acme_client_options o = { .directory_url = url,
                                              .allowed_origins = origins,
                                              .http.allow_plain_http = plain };
    struct cm_acme *a = NULL;
    cm_status rc = cm_acme_new(&o, &a, &err);

    cm_acme_free(a);
    return rc;
}

START_TEST(directory_url_must_be_https)
{
    ck_ok(make("https://ca.test/dir", NULL, false));
    ck_status(make("http://ca.test/dir", NULL, false), CM_E_POLICY);
    ck_ok(make("http://ca.test/dir", NULL, true));
    ck_status(make(NULL, NULL, false), CM_E_INVAL);
    ck_status(make("", NULL, false), CM_E_INVAL);
    ck_status(make("ca.test/dir", NULL, false), CM_E_INVAL);
    ck_status(make("file:///dir", NULL, false), CM_E_INVAL);
    ck_status(make("https://u:p@ca.test/dir", NULL, false), CM_E_INVAL);
}
END_TEST

START_TEST(allowed_origins_are_checked)
{
    ck_ok(make("https://ca.test/dir", "b.test, https://c.test:8443 ,", false));
    ck_status(make("https://ca.test/dir", "http://b.test", false), CM_E_INVAL);
    ck_status(make("https://ca.test/dir", "b test", false), CM_E_INVAL);
    ck_status(make("https://ca.test/dir", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", false), CM_E_LIMIT);
}
END_TEST

/* ------------------------------------------------------------------- directory */

START_TEST(directory_is_kept_for_twelve_hours)
{
    const struct cm_acme_directory *d = NULL;
    const struct cm_acme_directory *again = NULL;

    ck_ok(get_directory(&d));
    ck_ok(get_directory(&again));
    ck_assert_ptr_eq(d, again);
    jump_by(&ca.clock, 11 * 3600 * CM_NS_PER_S);
    ck_ok(get_directory(&again));
    ck_assert_uint_eq(directories(), 1);
    jump_by(&ca.clock, 2 * 3600 * CM_NS_PER_S);
    ck_ok(get_directory(&again));
    ck_assert_uint_eq(directories(), 2);
    ck_assert_ptr_eq(d, again); /* it says the same */
}
END_TEST

START_TEST(old_directory_serves_while_the_ca_is_down)
{
    const struct cm_acme_directory *d = NULL;

    ck_ok(get_directory(&d));
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .status = 404 });
    jump_by(&ca.clock, 13 * 3600 * CM_NS_PER_S);
    d = NULL;
    ck_ok(get_directory(&d));
    ck_assert_str_eq(d->new_order, sh_url(ca.sh, "/new-order"));
    ck_ok(get_directory(&d));
    ck_assert_uint_eq(directories(), 2);
}
END_TEST

START_TEST(directory_that_is_none_is_refused)
{
    static const struct sh_reply bad[] = {
        { .status = 404 },
        { .status = 200, .body = "<html>" },
        { .status = 200, .body = "{}" },
        { .status = 200 },
        { .status = 429, .headers = "Retry-After: 5\r\n" },
    };
    static const cm_status want[] = { CM_E_ACME, CM_E_PARSE, CM_E_PARSE, CM_E_PARSE,
                                      CM_E_RATELIMITED };
    const struct cm_acme_directory *d = NULL;

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        sh_clear(ca.sh);
        sh_on(ca.sh, "GET", "/dir", &bad[i]);
        ck_status(get_directory(&d), want[i]);
        ck_has(err.msg, "/dir");
        ck_assert_ptr_null(d);
    }
    ck_assert_int_eq(err.retry_after_s, 5);
}
END_TEST

static const char *sized_directory(size_t len)
{
    char *s = calloc(1, len + 1);
    int n;

    ck_assert_ptr_nonnull(s);
    memset(s, ' ', len);
    n = snprintf(s, len,
                 "{\"newNonce\":\"%s/nonce\",\"newAccount\":\"%s/a\",\"newOrder\":\"%s/o\"}",
                 sh_base(ca.sh), sh_base(ca.sh), sh_base(ca.sh));
    ck_assert_int_gt(n, 0);
    s[n] = ' ';
    return sh_keep(ca.sh, s);
}

START_TEST(directory_size_cap_is_exact)
{
    const struct cm_acme_directory *d = NULL;

    for (size_t len = CM_ACME_JSON_MAX - 1; len <= CM_ACME_JSON_MAX + 1; len++) {
        const struct cm_acme_client_options o = { 0 };
        struct cm_acme *a = fake_ca_client(&ca, &o);

        sh_clear(ca.sh);
        sh_on(ca.sh, "GET", "/dir",
              &(struct sh_reply){ .body = sized_directory(len), .body_len = len });
        ck_status(cm_acme_directory(a, &ca.op, &d, &err),
                  len <= CM_ACME_JSON_MAX ? CM_OK : CM_E_LIMIT);
        cm_acme_free(a);
    }
}
END_TEST

static cm_status revoke(void)
{
    return cm_acme_revoke(ca.acme, &ca.op, &ca.who, cm_span_str("DER"), 1, &err);
}

static const char moved_directory[] =
    "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/new-acct\","
    "\"newOrder\":\"{BASE}/new-order\",\"revokeCert\":\"{BASE}/revoke-2\"}";

START_TEST(lost_endpoint_has_the_directory_fetched_again_once)
{
    sh_on(ca.sh, "POST", "/revoke-2", &(struct sh_reply){ .status = 200 });
    ck_status(revoke(), CM_E_ACME); /* 404, but the directory is fresh */
    ck_assert_uint_eq(directories(), 1);
    jump_by(&ca.clock, 61 * CM_NS_PER_S);
    ck_status(revoke(), CM_E_ACME); /* fetched, but the same */
    ck_assert_uint_eq(directories(), 2);
    ck_assert_uint_eq(sh_count(ca.sh, "POST", "/revoke"), 2);

    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = moved_directory });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    sh_on(ca.sh, "POST", "/revoke", &(struct sh_reply){ .status = 405 });
    sh_on(ca.sh, "POST", "/revoke-2", &(struct sh_reply){ .status = 200 });
    jump_by(&ca.clock, 61 * CM_NS_PER_S);
    ck_ok(revoke());
    ck_assert_uint_eq(directories(), 3);
    ck_assert_uint_eq(sh_count(ca.sh, "POST", "/revoke-2"), 1);
    ck_ok(revoke());
    ck_assert_uint_eq(sh_count(ca.sh, "POST", "/revoke"), 3);
}
END_TEST

START_TEST(lost_newNonce_has_the_directory_fetched_again_too)
{
    const struct cm_acme_directory *d = NULL;

    ck_ok(get_directory(&d));
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .body = "{\"newNonce\":\"{BASE}/nonce-2\",\"newAccount\":"
                                      "\"{BASE}/a\",\"newOrder\":\"{BASE}/o\",\"revokeCert\":"
                                      "\"{BASE}/revoke\"}" });
    sh_on(ca.sh, "HEAD", "/nonce-2", &(struct sh_reply){ 0 });
    sh_on(ca.sh, "POST", "/revoke", &(struct sh_reply){ .status = 200 });
    ck_status(revoke(), CM_E_ACME); /* within a minute: not asked again */
    ck_assert_uint_eq(directories(), 1);
    jump_by(&ca.clock, 61 * CM_NS_PER_S);
    ck_ok(revoke());
    ck_assert_uint_eq(directories(), 2);
    ck_assert_uint_eq(sh_count(ca.sh, "HEAD", "/nonce-2"), 1);
}
END_TEST

START_TEST(endpoints_that_are_not_https_are_refused)
{
    const struct cm_acme_directory *d = NULL;

    ca.acme->allow_plain_http = false; /* the transport still is: so it is this room that says no */
    ck_assert(cm__acme_scheme_ok(ca.acme, "https://a/"));
    ck_assert(cm__acme_scheme_ok(ca.acme, "HTTPS://a/"));
    ck_assert(!cm__acme_scheme_ok(ca.acme, "http://a/"));
    ck_assert(!cm__acme_scheme_ok(ca.acme, "httpsx://a/"));
    ck_status(get_directory(&d), CM_E_ACME);
}
END_TEST

START_TEST(redirected_directory_is_followed)
{
    const struct cm_acme_directory *d = NULL;

    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .status = 301, .headers = "Location: /d2\r\n" });
    sh_on(ca.sh, "GET", "/d2", &(struct sh_reply){ .body = fake_directory });
    ck_ok(get_directory(&d));
}
END_TEST

/* -------------------------------------------------------------------- accounts */

static cm_status new_account(struct cm_acme_account *acc, bool *created)
{
    static const char *const contact[] = { "mailto:a@b.test", "mailto:\"q\"@b.test" };
    const struct cm_acme_new_account req = { .contact = contact,
                                             .n_contact = 2,
                                             .tos_agreed = true };

    return cm_acme_account_new(ca.acme, &ca.op, ca.key, &req, acc, created, &err);
}

START_TEST(new_account_tells_created_from_found)
{
    struct cm_acme_account acc = { 0 };
    bool created = false;

    sh_on(ca.sh, "POST", "/new-acct",
          &(struct sh_reply){ .status = 201,
                              .times = 1,
                              .headers = "Location: {BASE}/acct/7\r\n",
                              .body = "{\"status\":\"valid\"}" });
    sh_on(ca.sh, "POST", "/new-acct",
          &(struct sh_reply){ .status = 200,
                              .headers = "Location: /acct/7\r\n",
                              .body = "{\"status\":\"valid\"}" });
    ck_ok(new_account(&acc, &created));
    ck_assert(created);
    ck_assert_str_eq(acc.url, sh_url(ca.sh, "/acct/7"));
    ck_assert(acc.tos_agreed); /* the CA does not say: as asked */
    ck_assert_ptr_null(acc.eab_json);
    cm_acme_account_free(&acc);
    ck_ok(new_account(&acc, &created));
    ck_assert(!created);
    ck_assert_str_eq(acc.url, sh_url(ca.sh, "/acct/7"));
    cm_acme_account_free(&acc);
}
END_TEST

START_TEST(new_account_without_usable_location_is_refused)
{
    static const struct {
        const char *headers;
        cm_status want;
    } cases[] = { { NULL, CM_E_ACME },
                  { "Location: \r\n", CM_E_ACME },
                  { "Location: ftp://x/1\r\n", CM_E_PARSE },
                  { "Location: http://evil.test/acct/1\r\n", CM_E_ACME } };
    struct cm_acme_account acc = { 0 };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        sh_on(ca.sh, "POST", "/new-acct",
              &(struct sh_reply){ .status = 201,
                                  .times = 1,
                                  .headers = cases[i].headers,
                                  .body = "{\"status\":\"valid\"}" });
        ck_status(new_account(&acc, NULL), cases[i].want);
        ck_assert_ptr_null(acc.url);
    }
}
END_TEST

START_TEST(account_update_needs_its_url)
{
    const struct cm_acme_signer who = { ca.key, NULL };
    struct cm_acme_account acc = { 0 };

    ck_status(cm_acme_account_get(ca.acme, &ca.op, &who, &acc, &err), CM_E_INVAL);
}
END_TEST

START_TEST(foreign_kid_is_not_called)
{
    const struct cm_acme_signer who = { ca.key, "http://evil.test/acct/1" };

    ck_status(cm_acme_account_deactivate(ca.acme, &ca.op, &who, &err), CM_E_ACME);
}
END_TEST

/* ------------------------------------------------------------------- problems */

START_TEST(problems_that_no_retry_can_cure)
{
    static const struct {
        const char *type;
        bool no_retry;
    } cases[] = {
        { "malformed", true },
        { "badCSR", true },
        { "badPublicKey", true },
        { "badRevocationReason", true },
        { "badSignatureAlgorithm", true },
        { "externalAccountRequired", true },
        { "invalidContact", true },
        { "invalidProfile", true },
        { "rejectedIdentifier", true },
        { "unsupportedContact", true },
        { "unsupportedIdentifier", true },
        { "accountDoesNotExist", false },
        { "alreadyReplaced", false },
        { "caa", false },
        { "compound", false },
        { "connection", false },
        { "dns", false },
        { "incorrectResponse", false },
        { "orderNotReady", false },
        { "serverInternal", false },
        { "tls", false },
        { "unauthorized", false },
        { "userActionRequired", false },
        { "somethingNew", false },
    };
    char body[200];
    char type[100];

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        (void)snprintf(type, sizeof type, "urn:ietf:params:acme:error:%s", cases[i].type);
        (void)snprintf(body, sizeof body, "{\"type\":\"%s\",\"detail\":\"why\",\"status\":400}",
                       type);
        sh_clear(ca.sh);
        sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory });
        sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
        sh_on(ca.sh, "POST", "/revoke", &(struct sh_reply){ .status = 400, .body = body });
        ck_status(revoke(), CM_E_ACME);
        ck_assert_msg(err.no_retry == cases[i].no_retry, "%s", cases[i].type);
        ck_assert_str_eq(err.problem, type);
        ck_assert_int_eq(err.http_status, 400);
        ck_has(err.msg, cases[i].type);
        ck_has(err.msg, "revokeCert");
        ck_has(err.msg, "why");
    }
}
END_TEST

START_TEST(problem_with_subproblems_names_the_identifiers)
{
    sh_on(ca.sh, "POST", "/revoke",
          &(struct sh_reply){
              .status = 403,
              .body = "{\"type\":\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":"
                      "\"some\\u001b\",\"subproblems\":[{\"type\":"
                      "\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":\"policy\","
                      "\"identifier\":{\"type\":\"dns\",\"value\":\"bad.test\"}}]}" });
    ck_status(revoke(), CM_E_ACME);
    ck_has(err.msg, "some\\x1b (bad.test: rejectedIdentifier: policy)");
}
END_TEST

START_TEST(huge_problem_is_not_read_but_its_status_counts)
{
    char *big = calloc(1, CM_ACME_PROBLEM_MAX + 100);

    ck_assert_ptr_nonnull(big);
    memset(big, 'd', CM_ACME_PROBLEM_MAX + 99);
    memcpy(big, "{\"type\":\"x\",\"detail\":\"", 22);
    memcpy(big + CM_ACME_PROBLEM_MAX + 97, "\"}", 2);
    sh_on(ca.sh, "POST", "/revoke",
          &(struct sh_reply){ .status = 403, .body = sh_keep(ca.sh, big) });
    ck_status(revoke(), CM_E_ACME);
    ck_assert_int_eq(err.http_status, 403);
    ck_assert_str_eq(err.problem, "");
}
END_TEST

START_TEST(redirect_of_a_post_is_refused)
{
    static const int redirects[] = { 301, 302, 303, 307, 308 };

    for (size_t i = 0; i < CM_ARRAY_LEN(redirects); i++) {
        sh_on(ca.sh, "POST", "/revoke",
              &(struct sh_reply){
                  .status = redirects[i], .times = 1, .headers = "Location: /elsewhere\r\n" });
        ck_status(revoke(), CM_E_ACME);
        ck_assert_int_eq(err.http_status, redirects[i]);
        ck_has(err.msg, "redirect");
    }
    ck_assert_uint_eq(sh_count(ca.sh, NULL, "/elsewhere"), 0);
}
END_TEST

/* ------------------------------------------------------------------ revocation */

START_TEST(already_revoked_is_what_was_wanted)
{
    sh_on(ca.sh, "POST", "/revoke",
          &(struct sh_reply){ .status = 400,
                              .body = "{\"type\":\"urn:ietf:params:acme:error:alreadyRevoked\"}" });
    ck_ok(revoke());
}
END_TEST

START_TEST(ca_without_revocation_is_unsupported)
{
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .body = "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/a\","
                                      "\"newOrder\":\"{BASE}/o\"}" });
    ck_status(revoke(), CM_E_UNSUPPORTED);
}
END_TEST

/* ----------------------------------------------------------------- certificate */

static cm_status certificate(struct cm_buf *pem, char ***alternates)
{
    return cm_acme_certificate_get(ca.acme, &ca.op, &ca.who, sh_url(ca.sh, "/cert/1"), pem,
                                   alternates, &err);
}

START_TEST(certificate_comes_with_usable_alternates)
{
    struct cm_buf pem = CM_BUF_INIT(1000);
    char **v = NULL;
    size_t n = 0;

    sh_on(ca.sh, "POST", "/cert/1",
          &(struct sh_reply){ .body = "PEM",
                              .headers =
                                  "Link: <{BASE}/dir>;rel=\"index\"\r\n"
                                  "Link: <{BASE}/cert/1>;rel=\"alternate\"\r\n"
                                  "Link: </cert/1/1>;rel=\"alternate\", <2>;rel=alternate\r\n"
                                  "Link: <{BASE}/cert/1/1>;rel=\"alternate\"\r\n"
                                  "Link: <http://evil.test/x>;rel=\"alternate\"\r\n"
                                  "Link: <file:///etc/passwd>;rel=\"alternate\"\r\n"
                                  "Link: </cert/3>;rel=alternate, </cert/4>;rel=alternate\r\n"
                                  "Link: </cert/5>;rel=alternate, </cert/6>;rel=alternate\r\n"
                                  "Link: </cert/7>;rel=alternate, </cert/8>;rel=alternate\r\n"
                                  "Link: </cert/9>;rel=alternate, </cert/10>;rel=alternate\r\n" });
    ck_ok(certificate(&pem, &v));
    ck_assert_str_eq(cm_buf_str(&pem), "PEM");
    ck_has(sh_last_header(ca.sh, "/cert/1"), "Accept: application/pem-certificate-chain\r\n");
    while (v[n] != NULL)
        n++;
    ck_assert_uint_eq(n, CM_ACME_ALTERNATES_MAX);
    ck_assert_str_eq(v[0], sh_url(ca.sh, "/cert/1/1"));
    ck_assert_str_eq(v[1], sh_url(ca.sh, "/cert/2"));
    ck_assert_str_eq(v[7], sh_url(ca.sh, "/cert/8"));
    cm_acme_strv_free(v);
    cm_buf_free(&pem);
}
END_TEST

START_TEST(certificate_without_alternates_or_body)
{
    struct cm_buf pem = CM_BUF_INIT(1000);
    char **v = NULL;

    sh_on(ca.sh, "POST", "/cert/1", &(struct sh_reply){ .body = "PEM", .times = 1 });
    sh_on(ca.sh, "POST", "/cert/1", &(struct sh_reply){ .body = "" });
    ck_ok(certificate(&pem, &v));
    ck_assert_ptr_null(v);
    ck_status(certificate(&pem, &v), CM_E_PARSE);
    cm_buf_free(&pem);
}
END_TEST

START_TEST(certificate_size_cap_is_exact)
{
    struct cm_buf pem = CM_BUF_INIT(2 * CM_CHAIN_PEM_MAX);
    char *big = calloc(1, CM_CHAIN_PEM_MAX + 1);

    ck_assert_ptr_nonnull(big);
    memset(big, 'P', CM_CHAIN_PEM_MAX + 1);
    (void)sh_keep(ca.sh, big);
    for (size_t len = CM_CHAIN_PEM_MAX - 1; len <= CM_CHAIN_PEM_MAX + 1; len++) {
        sh_on(ca.sh, "POST", "/cert/1",
              &(struct sh_reply){ .body = big, .body_len = len, .times = 1 });
        cm_buf_reset(&pem);
        ck_status(certificate(&pem, NULL), len <= CM_CHAIN_PEM_MAX ? CM_OK : CM_E_LIMIT);
    }
    cm_buf_free(&pem);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        directory_url_must_be_https,
        allowed_origins_are_checked,
        directory_is_kept_for_twelve_hours,
        old_directory_serves_while_the_ca_is_down,
        directory_that_is_none_is_refused,
        directory_size_cap_is_exact,
        lost_endpoint_has_the_directory_fetched_again_once,
        lost_newNonce_has_the_directory_fetched_again_too,
        endpoints_that_are_not_https_are_refused,
        redirected_directory_is_followed,
        new_account_tells_created_from_found,
        new_account_without_usable_location_is_refused,
        account_update_needs_its_url,
        foreign_kid_is_not_called,
        problems_that_no_retry_can_cure,
        problem_with_subproblems_names_the_identifiers,
        huge_problem_is_not_read_but_its_status_counts,
        redirect_of_a_post_is_refused,
        already_revoked_is_what_was_wanted,
        ca_without_revocation_is_unsupported,
        certificate_comes_with_usable_alternates,
        certificate_without_alternates_or_body,
        certificate_size_cap_is_exact,
    };
    Suite *s = suite_create("client");

    ADD_TESTS(s, "client", setup, teardown, all);
    return run_suite(s);
}
