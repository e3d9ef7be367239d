/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdio.h>
#include <string.h>

/* When a CA wants a certificate renewed, what time it is there, and whom its refusals concern. */

#define ID   "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
#define PATH "/ari/" ID

static struct fake_ca ca;
static struct cm_renewal_info info;

static const char with_ari[] = "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/new-acct\","
                               "\"newOrder\":\"{BASE}/new-order\",\"renewalInfo\":\"{BASE}/ari\"}";
static const char window[] = "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\","
                             "\"end\":\"2026-10-30T01:44:53.5Z\"},"
                             "\"explanationURL\":\"https://ca.test/why\"}";

static void setup(void)
{
    fake_ca_start(&ca);
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = with_ari, .no_nonce = true });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    memset(&info, 0, sizeof info);
}

static void teardown(void)
{
    fake_ca_stop(&ca);
}

static cm_status ask(void)
{
    return cm_acme_renewal_info(ca.acme, &ca.op, ID, &info, &err);
}

static void answer(int status, const char *headers, const char *body)
{
    sh_on(ca.sh, "GET", PATH,
          &(struct sh_reply){ .status = status, .headers = headers, .body = body, .times = 1 });
}

START_TEST(window_is_read_and_asked_for_without_a_signature)
{
    answer(200, "Retry-After: 21600\r\n", window);
    ck_ok(ask());
    ck_assert_int_eq(info.start_s, 1793169251);
    ck_assert_int_eq(info.end_s, 1793324694); /* the half second is still in it */
    ck_assert_int_eq(info.retry_after_s, 21600);
    ck_assert_str_eq(info.explanation_url, "https://ca.test/why");
    ck_assert_uint_eq(sh_count(ca.sh, NULL, PATH), 1);
    ck_assert_uint_eq(sh_count(ca.sh, "HEAD", "/nonce"), 0);
}
END_TEST

START_TEST(time_to_ask_again_is_a_minute_to_a_day_and_six_hours_by_default)
{
    static const struct {
        const char *header;
        int64_t want;
    } cases[] = {
        { NULL, 21600 },
        { "Retry-After: soon\r\n", 21600 },
        { "Retry-After: 0\r\n", 60 },
        { "Retry-After: 59\r\n", 60 },
        { "Retry-After: 61\r\n", 61 },
        { "Retry-After: 86399\r\n", 86399 },
        { "Retry-After: 99999999\r\n", 86400 },
        { "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 60 },
        { "Retry-After: Sun, 06 Nov 2194 08:49:37 GMT\r\n", 86400 },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        answer(200, cases[i].header, window);
        ck_ok(ask());
        ck_assert_msg(info.retry_after_s == cases[i].want, "%s: %lld",
                      cases[i].header != NULL ? cases[i].header : "none",
                      (long long)info.retry_after_s);
    }
}
END_TEST

START_TEST(what_is_no_window_is_refused_and_changes_nothing)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "not json{",
        "{\"suggestedWindow\":[]}",
        "{\"suggestedWindow\":{}}",
        "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\"}}",
        "{\"suggestedWindow\":{\"start\":1,\"end\":2}}",
        "{\"suggestedWindow\":{\"start\":\"tomorrow\",\"end\":\"2026-10-28T06:34:11Z\"}}",
        /* as long as nothing, and backwards */
        "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\",\"end\":\"2026-10-28T06:34:11Z\"}"
        "}",
        "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:12Z\",\"end\":\"2026-10-28T06:34:11Z\"}"
        "}",
        /* no age of certificates */
        "{\"suggestedWindow\":{\"start\":\"0001-01-01T00:00:00Z\",\"end\":\"2026-10-28T06:34:11Z\"}"
        "}",
        "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\",\"end\":\"9999-12-31T00:00:00Z\"}"
        "}",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        info.start_s = 42;
        answer(200, NULL, bad[i]);
        ck_assert_msg(ask() == CM_E_PARSE, "taken, or refused otherwise: %s", bad[i]);
        ck_assert_int_eq(info.start_s, 42);
    }
}
END_TEST

START_TEST(explanation_that_is_no_url_is_left_out)
{
    answer(200, NULL,
           "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\","
           "\"end\":\"2026-10-30T01:44:53Z\"},\"explanationURL\":\"javascript:\\u0007\"}");
    ck_ok(ask());
    ck_assert_str_eq(info.explanation_url, "");
}
END_TEST

START_TEST(unknown_certificate_is_notfound)
{
    answer(404, NULL, "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"who?\"}");
    ck_status(ask(), CM_E_NOTFOUND);
    ck_assert_int_eq(err.status, CM_E_NOTFOUND);
    ck_assert(!err.no_retry);
    ck_assert(!err.whole_ca);
}
END_TEST

START_TEST(endpoint_that_has_moved_is_found_again)
{
    jump_by(&ca.clock, 0);
    answer(404, NULL, "");
    ck_status(ask(), CM_E_NOTFOUND); /* the directory is fresh */
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .body = "{\"newNonce\":\"{BASE}/n\",\"newAccount\":\"{BASE}/a\","
                                      "\"newOrder\":\"{BASE}/o\",\"renewalInfo\":\"{BASE}/b\"}",
                              .no_nonce = true });
    sh_on(ca.sh, "GET", "/b/" ID, &(struct sh_reply){ .body = window });
    jump_by(&ca.clock, 61 * CM_NS_PER_S);
    ck_ok(ask());
}
END_TEST

START_TEST(ca_without_the_endpoint_is_not_asked)
{
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory, .no_nonce = true });
    ck_status(ask(), CM_E_UNSUPPORTED);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 1);
}
END_TEST

START_TEST(passing_failures_are_retried_a_few_times_and_then_the_cas)
{
    sh_on(ca.sh, "GET", PATH, &(struct sh_reply){ .status = 500, .body = "oops" });
    ck_status(ask(), CM_E_ACME);
    ck_assert_int_eq(err.http_status, 500);
    ck_assert(err.whole_ca);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, PATH), 1 + CM_ACME_TRIES_MAX);
}
END_TEST

/* ---- whose clock is wrong ---- */

#define NOV_6_2094 INT64_C(3939871777) /* Sat, 06 Nov 2094 08:49:37 GMT */

static int64_t set_clock(int64_t to_s)
{
    const struct cm_env *env = &ca.clock.env;

    jump_by(&ca.clock, to_s * CM_NS_PER_S - env->wall_ns(env));
    return env->wall_ns(env);
}

static void date(const char *headers)
{
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir",
          &(struct sh_reply){ .headers = headers, .body = with_ari, .no_nonce = true });
}

START_TEST(skew_is_told_from_the_latest_answer)
{
    int64_t skew = 0;

    date("Date: Sat, 06 Nov 2094 08:49:37 GMT\r\n");
    (void)set_clock(NOV_6_2094 + 1800);
    ck_ok(cm_acme_clock_skew(ca.acme, &ca.op, 3600, &skew, &err));
    ck_assert_msg(skew >= 1799 && skew <= 1802, "%lld", (long long)skew);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 1);
    /* a day later, by both clocks: the same, and the CA is not asked */
    jump_by(&ca.clock, 86400 * CM_NS_PER_S);
    ck_ok(cm_acme_clock_skew(ca.acme, &ca.op, 3600, &skew, &err));
    ck_assert_msg(skew >= 1799 && skew <= 1802, "%lld", (long long)skew);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 1);
}
END_TEST

START_TEST(alarm_that_is_old_is_looked_at_again)
{
    int64_t skew = 0;

    date("Date: Sat, 06 Nov 2094 08:49:37 GMT\r\n");
    (void)set_clock(NOV_6_2094 - 7200);
    ck_ok(cm_acme_clock_skew(ca.acme, &ca.op, 3600, &skew, &err));
    ck_assert_msg(skew >= -7201 && skew <= -7198, "%lld", (long long)skew);
    ck_ok(cm_acme_clock_skew(ca.acme, &ca.op, 3600, &skew, &err));
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 1); /* seen just now */
    jump_by(&ca.clock, 61 * CM_NS_PER_S);
    date("Date: Sat, 06 Nov 2094 06:50:38 GMT\r\n");
    ck_ok(cm_acme_clock_skew(ca.acme, &ca.op, 3600, &skew, &err));
    ck_assert_msg(skew >= -1 && skew <= 2, "%lld", (long long)skew);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 2);
}
END_TEST

START_TEST(answer_from_a_cache_tells_no_time)
{
    int64_t skew = 42;

    date("Date: Sat, 06 Nov 2094 08:49:37 GMT\r\nAge: 86400\r\n");
    (void)set_clock(NOV_6_2094 + 86400);
    ck_status(cm_acme_clock_skew(ca.acme, &ca.op, 3600, &skew, &err), CM_E_NOTFOUND);
    ck_assert_int_eq(skew, 42);
}
END_TEST

/* ---- whom a refusal concerns ---- */

START_TEST(rate_limits_are_told_apart_by_the_texts_that_cas_send)
{
    static const struct {
        const char *what;
        int http_status;
        const char *type;
        const char *detail;
        bool subproblems;
        bool whole;
    } cases[] = {
        /* Boulder's */
        { "newOrder", 429, "rateLimited",
          "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-21 "
          "12:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account",
          false, true },
        { "newOrder", 429, "rateLimited",
          "Error creating new order :: too many new orders recently", false, true },
        { "newOrder", 429, "rateLimited",
          "too many certificates (5) already issued for this exact set of identifiers in the last "
          "168h0m0s, retry after 2026-11-21 12:00:00 UTC: see https://letsencrypt.org/",
          false, false },
        { "newOrder", 429, "rateLimited",
          "too many certificates (50) already issued for \"example.com\" in the last 168h0m0s, "
          "retry "
          "after 2026-11-21 12:00:00 UTC",
          false, false },
        { "newOrder", 429, "rateLimited",
          "too many failed authorizations (5) for \"example.com\" in the last 1h0m0s, retry after "
          "2026-11-21 12:00:00 UTC",
          false, false },
        { "newOrder", 429, "rateLimited",
          "Error creating new order :: too many failed authorizations recently", false, false },
        { "newOrder", 429, "rateLimited",
          "Error creating new order :: too many currently pending authorizations", false, true },
        { "newOrder", 429, "rateLimited",
          "Your account is temporarily prevented from requesting certificates for a.example and "
          "possibly others. Please visit: https://portal.example/unpause?jwt=x",
          false, false },
        { "finalize", 429, "rateLimited",
          "Error finalizing order :: too many certificates already issued for exact set of domains",
          false, false },
        { "newOrder", 429, "rateLimited",
          "Error creating new order :: too many invalid authorizations recently", false, false },
        { "newOrder", 429, "rateLimited", "account/ident pair is paused", false, false },
        { "newAccount", 429, "rateLimited",
          "too many new registrations (10) from this IP address in the last 3h0m0s", false, true },
        { "newOrder", 429, "rateLimited", "Service busy; retry later.", false, true },
        { "newNonce", 429, "", "", false, true },
        { "the directory", 429, "rateLimited", "whatever \"it\" is", false, true },
        /* others' */
        { "newOrder", 429, "", "", false, true }, /* HTML */
        { "newOrder", 429, "rateLimited", "slow down", false, true },
        { "newOrder", 429, "rateLimited", "too many for \"a.example\"", false, false },
        { "newOrder", 429, "rateLimited", "Errors", true, false },
        { "newOrder", 400, "rateLimited", "slow down", false, true },
        /* out of order, whoever asks */
        { "newOrder", 503, "", "", false, true },
        { "order", 500, "serverInternal", "boom", false, true },
        { "an authorization", 502, "", "", false, true },
        /* and refusals that are no limits */
        { "newOrder", 403, "rejectedIdentifier", "policy forbids \"a.example\"", false, false },
        { "newOrder", 400, "malformed", "no", false, false },
        { "newAccount", 400, "invalidContact", "no", false, false },
        { "renewalInfo", 404, "malformed", "no", false, false },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct cm_acme_problem p = { .names_identifiers = cases[i].subproblems };

        (void)snprintf(p.type, sizeof p.type, "%s%s",
                       cases[i].type[0] != '\0' ? "urn:ietf:params:acme:error:" : "",
                       cases[i].type);
        (void)snprintf(p.detail, sizeof p.detail, "%s", cases[i].detail);
        ck_assert_msg(cm__acme_is_whole_ca(cases[i].what, cases[i].http_status, &p) ==
                          cases[i].whole,
                      "%s, %d: %s", cases[i].what, cases[i].http_status, cases[i].detail);
    }
}
END_TEST

static cm_status order(void)
{
    static const char *const names[] = { "a.test" };
    const struct cm_acme_new_order req = { .names = names, .n = 1 };
    struct cm_acme_order o = { 0 };
    cm_status rc = cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &o, &err);

    cm_acme_order_free(&o);
    return rc;
}

START_TEST(refusals_say_whom_they_concern)
{
    static const struct {
        int status;
        const char *body;
        cm_status want;
        bool whole;
    } cases[] = {
        { 429,
          "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many new orders "
          "(300) from this account in the last 3h0m0s\"}",
          CM_E_RATELIMITED, true },
        { 429,
          "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"no\",\"subproblems\":"
          "[{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"x\",\"identifier\":"
          "{\"type\":\"dns\",\"value\":\"a.test\"}}]}",
          CM_E_RATELIMITED, false },
        { 503, "<html>maintenance</html>", CM_E_RATELIMITED, true },
        { 500, "{\"type\":\"urn:ietf:params:acme:error:serverInternal\",\"detail\":\"x\"}",
          CM_E_ACME, true },
        { 400, "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"x\"}", CM_E_ACME,
          false },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        sh_on(ca.sh, "POST", "/new-order",
              &(struct sh_reply){ .status = cases[i].status,
                                  .headers = cases[i].status == 503 ? "Retry-After: 120\r\n" : NULL,
                                  .body = cases[i].body,
                                  .times = 1 });
        ck_status(order(), cases[i].want);
        ck_assert_msg(err.whole_ca == cases[i].whole, "%s", cases[i].body);
    }
}
END_TEST

START_TEST(ca_that_cannot_be_reached_or_makes_no_sense_concerns_all)
{
    const struct cm_acme_client_options o = { 0 };
    struct cm_acme *other;

    sh_on(ca.sh, "POST", "/new-order", &(struct sh_reply){ .fault = SH_CLOSE, .times = 1 });
    ck_status(order(), CM_E_NET);
    ck_assert(err.whole_ca);
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = "<html>", .no_nonce = true });
    other = fake_ca_client(&ca, &o);
    const struct cm_acme_directory *d = NULL;
    ck_status(cm_acme_directory(other, &ca.op, &d, &err), CM_E_PARSE);
    ck_assert(err.whole_ca);
    cm_acme_free(other);
}
END_TEST

START_TEST(own_deadline_says_nothing_of_the_ca)
{
    const struct cm_op soon = { .deadline_ns = cm_env_system()->mono_ns(cm_env_system()) +
                                               100 * CM_NS_PER_MS };
    const struct cm_acme_directory *d = NULL;

    ck_ok(cm_acme_directory(ca.acme, &ca.op, &d, &err));
    sh_on(ca.sh, "GET", PATH, &(struct sh_reply){ .fault = SH_STALL });
    ck_status(cm_acme_renewal_info(ca.acme, &soon, ID, &info, &err), CM_E_TIMEOUT);
    ck_assert(!err.whole_ca);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        window_is_read_and_asked_for_without_a_signature,
        time_to_ask_again_is_a_minute_to_a_day_and_six_hours_by_default,
        what_is_no_window_is_refused_and_changes_nothing,
        explanation_that_is_no_url_is_left_out,
        unknown_certificate_is_notfound,
        endpoint_that_has_moved_is_found_again,
        ca_without_the_endpoint_is_not_asked,
        passing_failures_are_retried_a_few_times_and_then_the_cas,
        skew_is_told_from_the_latest_answer,
        alarm_that_is_old_is_looked_at_again,
        answer_from_a_cache_tells_no_time,
        rate_limits_are_told_apart_by_the_texts_that_cas_send,
        refusals_say_whom_they_concern,
        ca_that_cannot_be_reached_or_makes_no_sense_concerns_all,
        own_deadline_says_nothing_of_the_ca,
    };
    Suite *s = suite_create("renewal");

    ADD_TESTS(s, "renewal", setup, teardown, all);
    return run_suite(s);
}
