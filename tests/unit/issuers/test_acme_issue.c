/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"
#include "issuers.h"
#include "run.h"
#include "scripted_http.h"

#include <stdio.h>
#include <string.h>

/* What the ACME issuer asks of a CA when a certificate is renewed or an attempt has failed, and
 * what it takes from the answers. The CAs are scripted: an order is valid as soon as it is placed.
 */

static struct cm_err err;
static struct cm_issuer_host host;
static struct scripted_http *ca;
static struct scripted_http *test_ca;
static struct cm_acme_options opts;
static struct cm_issuer *issuer;
static struct cm_issue_request req;
static struct cm_op op;
static unsigned checkpoints;
static unsigned told;
static char told_text[512];
static _Atomic int64_t shift_ns;

static const char *const names[] = { "a.test" };
static const char valid_order[] =
    "{\"status\":\"valid\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
    "\"authorizations\":[],\"finalize\":\"{BASE}/fin\",\"certificate\":\"{BASE}/cert\"}";

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call) ck_status(call, CM_OK)

/* ---- a clock that may be wrong ---- */

static int64_t wall(const struct cm_env *env)
{
    (void)env;
    return cm_env_system()->wall_ns(cm_env_system()) + atomic_load(&shift_ns);
}

static int64_t mono(const struct cm_env *env)
{
    (void)env;
    return cm_env_system()->mono_ns(cm_env_system());
}

static cm_status randomness(const struct cm_env *env, void *out, size_t len)
{
    (void)env;
    return cm_env_system()->random(cm_env_system(), out, len);
}

static cm_status no_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    (void)env;
    (void)ns;
    return cm_cancel_is_fired(cancel) ? CM_E_CANCELED : CM_OK;
}

static const struct cm_env env = { CM_ENV_ABI, sizeof env, wall, mono, randomness, no_wait, NULL };

static void note_log(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)fields;
    (void)n;
    if (strcmp(event, "clock_skew") != 0)
        return;
    told++;
    (void)snprintf(told_text, sizeof told_text, "%s", msg);
}

/* ---- the CAs ---- */

static const char *today(struct scripted_http *sh)
{
    static const char *const days[] = { "Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed" };
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    int64_t s = cm_env_wall_s(cm_env_system());
    char iso[CM_TIME_TEXT];

    cm_time_format_rfc3339(s * CM_NS_PER_S, false, iso); /* 2026-08-29T18:20:01Z */
    return sh_keep(sh,
                   cm_asprintf("Date: %s, %.2s %s %.4s %.8s GMT\r\n", days[s / 86400 % 7], iso + 8,
                               months[(iso[5] - '0') * 10 + iso[6] - '0' - 1], iso, iso + 11));
}

static void script(struct scripted_http *sh)
{
    sh_on(sh, "GET", "/dir",
          &(struct sh_reply){ .headers = today(sh),
                              .body =
                                  "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/acct\","
                                  "\"newOrder\":\"{BASE}/order\",\"renewalInfo\":\"{BASE}/ari\","
                                  "\"meta\":{\"profiles\":{\"short\":\"six days\"}}}",
                              .no_nonce = true });
    sh_on(sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    sh_on(sh, "POST", "/acct",
          &(struct sh_reply){ .status = 201,
                              .headers = "Location: {BASE}/acct/1\r\n",
                              .body = "{\"status\":\"valid\"}" });
    sh_on(sh, "POST", "/cert", &(struct sh_reply){ .body = "the chain" });
}

static void on_order(struct scripted_http *sh, int status, const char *body)
{
    sh_on(sh, "POST", "/order",
          &(struct sh_reply){ .status = status,
                              .headers = status == 201 ? "Location: {BASE}/order/1\r\n" : NULL,
                              .body = body,
                              .times = 1 });
}

static unsigned orders(struct scripted_http *sh)
{
    return sh_count(sh, "POST", "/order");
}

/* Has the last request to @path a member @text? */
static bool request_says(struct scripted_http *sh, const char *path, const char *text)
{
    struct cm_buf b = CM_BUF_INIT(64 * 1024);
    const char *p = strstr(sh_last_body(sh, path), "\"payload\":\"");

    ck_assert_ptr_nonnull(p);
    p += strlen("\"payload\":\"");
    ck_ok(cm_b64url_decode((struct cm_span){ (const uint8_t *)p, strcspn(p, "\"") }, &b, &err));
    bool said = strstr(cm_buf_str(&b), text) != NULL;
    cm_buf_free(&b);
    return said;
}

static bool order_says(struct scripted_http *sh, const char *text)
{
    return request_says(sh, "/order", text);
}

static cm_status checkpoint(void *user, const struct cm_op *o, struct cm_span state,
                            struct cm_err *e)
{
    (void)user;
    (void)o;
    (void)state;
    (void)e;
    checkpoints++;
    return CM_OK;
}

static void set_up(void)
{
    checkpoints = told = 0;
    told_text[0] = '\0';
    atomic_store(&shift_ns, 0);
    issuer = NULL;
    ca = sh_start(0);
    test_ca = sh_start(0);
    script(ca);
    script(test_ca);
    host = (struct cm_issuer_host){ .size = sizeof host,
                                    .env = &env,
                                    .log = { note_log, NULL, CM_LOG_INFO },
                                    .listen_host = "127.0.0.1" };
    ck_ok(cm_storage_open("memory:", NULL, &host.storage, &err));
    ck_ok(cm_board_new(&host.board, &err));
    opts = (struct cm_acme_options){ .directory_url = sh_url(ca, "/dir"),
                                     .agreed = true,
                                     .allow_plain_http = true };
    req = (struct cm_issue_request){ .size = sizeof req,
                                     .names = names,
                                     .n_names = 1,
                                     .csr_der = cm_span_str("csr"),
                                     .checkpoint = checkpoint };
    op = (struct cm_op){ .env = &env };
}

static void tear_down(void)
{
    if (issuer != NULL)
        cm_issuer_destroy(issuer);
    cm_board_free(host.board);
    cm_storage_close(host.storage);
    sh_stop(ca);
    sh_stop(test_ca);
}

static void begin(void)
{
    ck_ok(cm_acme_issuer_new(&opts, &issuer, &err));
    ck_ok(cm_issuer_attach(issuer, &host, &err));
}

static cm_status issue(void)
{
    struct cm_issued got = { CM_BUF_INIT(65536), CM_BUF_INIT(65536) };
    cm_status rc = cm_issuer_issue(issuer, &op, &req, &got, &err);

    if (rc == CM_OK)
        ck_assert_str_eq(cm_buf_str(&got.chain_pem), "the chain");
    cm_buf_free(&got.chain_pem);
    cm_buf_free(&got.issuer_data);
    return rc;
}

/* ---- replaces ---- */

START_TEST(predecessor_is_named_when_our_account_ordered_it_or_nobody_knows)
{
    static const struct {
        const char *account;
        bool named;
    } cases[] = { { NULL, true }, { "/acct/1", true }, { "/acct/2", false } };

    begin();
    req.replaces = "aaa.bbb";
    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        req.replaces_account = cases[i].account != NULL ? sh_url(ca, cases[i].account) : NULL;
        on_order(ca, 201, valid_order);
        ck_ok(issue());
        ck_assert_msg(order_says(ca, "\"replaces\":\"aaa.bbb\"") == cases[i].named, "%s",
                      cases[i].account != NULL ? cases[i].account : "unknown");
    }
    ck_assert_uint_eq(orders(ca), 3);
}
END_TEST

START_TEST(predecessor_is_not_named_when_renewal_information_is_off)
{
    opts.disable_ari = true;
    begin();
    req.replaces = "aaa.bbb";
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert(!order_says(ca, "replaces"));
}
END_TEST

START_TEST(already_replaced_is_told_and_nothing_else_is_ordered)
{
    static const char *const types[] = { "alreadyReplaced", "malformed" };

    begin();
    req.replaces = "aaa.bbb";
    for (size_t i = 0; i < CM_ARRAY_LEN(types); i++) {
        on_order(
            ca, 409,
            sh_keep(ca, cm_asprintf("{\"type\":\"urn:ietf:params:acme:error:%s\"}", types[i])));
        ck_status(issue(), CM_E_EXISTS);
        ck_assert_int_eq(err.status, CM_E_EXISTS);
        ck_assert(!err.no_retry);
        ck_assert_uint_eq(orders(ca), (unsigned)i + 1);
    }
    ck_assert_uint_eq(checkpoints, 0);
}
END_TEST

START_TEST(other_refusals_of_the_predecessor_lead_to_an_order_without)
{
    begin();
    req.replaces = "aaa.bbb";
    on_order(ca, 400,
             "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"replaces\"}");
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(orders(ca), 2);
    ck_assert(!order_says(ca, "replaces"));
}
END_TEST

/* ---- the test CA ---- */

START_TEST(first_attempt_leaves_the_test_ca_alone)
{
    opts.test_directory_url = sh_url(test_ca, "/dir");
    begin();
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(sh_count(test_ca, NULL, NULL), 0);
}
END_TEST

START_TEST(retry_orders_at_the_test_ca_first_and_throws_that_away)
{
    opts.test_directory_url = sh_url(test_ca, "/dir");
    opts.profile = "short";
    begin();
    req.attempt = 1;
    req.replaces = "aaa.bbb";
    on_order(test_ca, 201, valid_order);
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(orders(test_ca), 1);
    ck_assert(!order_says(test_ca, "replaces"));
    ck_assert(!order_says(test_ca, "profile"));
    ck_assert_uint_eq(sh_count(test_ca, "POST", "/cert"), 0);
    ck_assert_uint_eq(orders(ca), 1);
    ck_assert(order_says(ca, "\"replaces\":\"aaa.bbb\""));
    ck_assert_uint_eq(checkpoints, 1); /* the journal is for the order that counts */
}
END_TEST

START_TEST(what_fails_at_the_test_ca_is_not_ordered)
{
    opts.test_directory_url = sh_url(test_ca, "/dir");
    begin();
    req.attempt = 3;
    on_order(test_ca, 400,
             "{\"type\":\"urn:ietf:params:acme:error:dns\",\"detail\":\"no such name\"}");
    ck_status(issue(), CM_E_ACME);
    ck_assert_ptr_nonnull(strstr(err.msg, "test CA"));
    ck_assert(!err.whole_ca);
    ck_assert_uint_eq(orders(ca), 0);
}
END_TEST

START_TEST(test_ca_that_is_down_or_wants_no_account_of_ours_is_passed_over)
{
    opts.test_directory_url = sh_url(test_ca, "/dir");
    begin();
    req.attempt = 1;
    on_order(test_ca, 500, "oops");
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(orders(test_ca), 1);
    cm_issuer_destroy(issuer);
    sh_clear(test_ca);
    sh_on(test_ca, "GET", "/dir",
          &(struct sh_reply){ .body =
                                  "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/acct\","
                                  "\"newOrder\":\"{BASE}/order\","
                                  "\"meta\":{\"externalAccountRequired\":true}}",
                              .no_nonce = true });
    ck_ok(cm_storage_remove(host.storage, NULL, "acme", &err)); /* our account there */
    begin();
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(orders(test_ca), 1);
    ck_assert_uint_eq(orders(ca), 2);
}
END_TEST

START_TEST(account_that_the_test_ca_lost_leaves_the_other_one_alone)
{
    opts.test_directory_url = sh_url(test_ca, "/dir");
    begin();
    req.attempt = 1;
    on_order(test_ca, 201, valid_order);
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    on_order(test_ca, 400, "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}");
    on_order(test_ca, 201, valid_order);
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(sh_count(test_ca, "POST", "/acct"), 2);
    ck_assert_uint_eq(sh_count(ca, "POST", "/acct"), 1);
}
END_TEST

START_TEST(tokens_of_the_test_ca_are_found_by_peers)
{
    opts.test_directory_url = sh_url(test_ca, "/dir");
    begin();
    const char *own = cm_issuer_challenge_prefix(issuer, 0);
    const char *at_test = cm_issuer_challenge_prefix(issuer, 1);

    ck_assert_ptr_nonnull(own);
    ck_assert_ptr_nonnull(at_test);
    ck_assert_str_ne(own, at_test);
    ck_assert_ptr_null(cm_issuer_challenge_prefix(issuer, 2));
    cm_issuer_destroy(issuer);
    opts.test_directory_url = NULL;
    begin();
    ck_assert_ptr_null(cm_issuer_challenge_prefix(issuer, 1));
}
END_TEST

START_TEST(ca_cannot_be_its_own_test_ca)
{
    opts.test_directory_url = opts.directory_url;
    ck_status(cm_acme_issuer_new(&opts, &issuer, &err), CM_E_INVAL);
    opts.test_directory_url = "ftp://x/";
    ck_status(cm_acme_issuer_new(&opts, &issuer, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "test CA"));
}
END_TEST

/* ---- the clock ---- */

static void wrong_by(int64_t s)
{
    atomic_store(&shift_ns, s * CM_NS_PER_S);
}

START_TEST(renewal_that_only_a_wrong_clock_asks_for_is_refused_before_ordering)
{
    begin();
    req.renewal = true;
    req.replaces_not_after_s = cm_env_wall_s(cm_env_system()) + 80 * 86400;
    wrong_by(60 * 86400);
    for (int i = 0; i < 3; i++)
        ck_status(issue(), CM_E_STATE);
    ck_assert_ptr_nonnull(strstr(err.msg, "1440 h ahead of the CA's"));
    ck_assert(!err.whole_ca);
    ck_assert_uint_eq(orders(ca), 0);
    ck_assert_uint_eq(told, 1);
    wrong_by(-3 * 3600);
    ck_status(issue(), CM_E_STATE);
    ck_assert_ptr_nonnull(strstr(err.msg, "3 h behind the CA's"));
    wrong_by(0); /* set right: seen without another request */
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    wrong_by(7200);
    ck_status(issue(), CM_E_STATE);
    ck_assert_uint_eq(told, 2);
}
END_TEST

START_TEST(names_without_a_valid_certificate_are_ordered_whatever_the_clock_says)
{
    begin();
    wrong_by(60 * 86400);
    on_order(ca, 201, valid_order);
    ck_ok(issue()); /* nothing to replace */
    req.renewal = true;
    req.forced = true;
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    req.forced = false;
    req.replaces_not_after_s = cm_env_wall_s(cm_env_system()) - 10;
    on_order(ca, 201, valid_order);
    ck_ok(issue()); /* expired by both clocks */
    ck_assert_uint_eq(told, 1);
    ck_assert_ptr_nonnull(strstr(told_text, "1440 h ahead"));
}
END_TEST

START_TEST(small_difference_is_warned_about_once_and_stops_nothing)
{
    begin();
    req.renewal = true;
    req.replaces_not_after_s = cm_env_wall_s(cm_env_system()) + 80 * 86400;
    wrong_by(3500);
    for (int i = 0; i < 2; i++) {
        on_order(ca, 201, valid_order);
        ck_ok(issue());
    }
    ck_assert_uint_eq(told, 1);
    ck_assert_ptr_nonnull(strstr(told_text, "58 min ahead"));
    wrong_by(200);
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_eq(told, 1);
}
END_TEST

/* ---- renewal information, limits ---- */

START_TEST(renewal_information_is_asked_for_unless_switched_off)
{
    static const char *const one[] = { "a.test" };
    struct cm_renewal_info info = { .size = sizeof info };
    struct cm_key *root_key = NULL;
    struct cm_key *key = NULL;
    struct cm_buf root = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_buf csr = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_buf leaf = CM_BUF_INIT(CM_CERT_DER_MAX);

    ck_ok(cm_ca_make_root("Root", 1767225600, 3650, &root_key, &root, &err));
    ck_ok(cm_key_generate(CM_PK_P256, &key, &err));
    ck_ok(cm_csr_make(key, one, 1, false, &csr, &err));
    ck_ok(cm_ca_sign_csr(root_key, cm_buf_span(&root), cm_buf_span(&csr), one, 1, 1767225600, 86400,
                         &leaf, &err));
    sh_on(ca, "GET", "/ari/*",
          &(struct sh_reply){ .headers = "Retry-After: 7200\r\n",
                              .body = "{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\","
                                      "\"end\":\"2026-10-30T01:44:53Z\"}}" });
    begin();
    ck_ok(cm_issuer_renewal_info(issuer, &op, cm_buf_span(&leaf), &info, &err));
    ck_assert_int_eq(info.start_s, 1793169251);
    ck_assert_int_eq(info.retry_after_s, 7200);
    ck_status(cm_issuer_renewal_info(issuer, &op, cm_span_str("no certificate"), &info, &err),
              CM_E_PARSE);
    cm_issuer_destroy(issuer);
    opts.disable_ari = true;
    begin();
    ck_status(cm_issuer_renewal_info(issuer, &op, cm_buf_span(&leaf), &info, &err),
              CM_E_UNSUPPORTED);
    cm_key_unref(key);
    cm_key_unref(root_key);
    cm_buf_free(&root);
    cm_buf_free(&csr);
    cm_buf_free(&leaf);
}
END_TEST

static cm_status drop_json(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    size_t len = strlen(info->key);

    (void)user;
    return len > 5 && strcmp(info->key + len - 5, ".json") == 0
               ? cm_storage_remove(host.storage, &op, info->key, e)
               : CM_OK;
}

START_TEST(an_account_is_not_given_up_for_a_ca_that_is_down)
{
    static const struct sh_reply down = { .status = 503 };

    begin();
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_ok(cm_storage_list(host.storage, &op, "acme", true, drop_json, NULL, &err));
    cm_issuer_destroy(issuer);
    issuer = NULL;
    begin();
    unsigned before = sh_count(ca, "POST", "/acct");
    sh_clear(ca);
    sh_on(ca, "POST", "/acct", &down);
    script(ca);
    ck_status(issue(), CM_E_ACME);
    ck_assert_int_eq(err.http_status, 503);
    ck_assert(request_says(ca, "/acct", "\"onlyReturnExisting\":true")); /* and nothing after it */
    sh_clear(ca);
    script(ca);
    on_order(ca, 201, valid_order);
    ck_ok(issue());
    ck_assert_uint_gt(sh_count(ca, "POST", "/acct"), before);
}
END_TEST

START_TEST(a_ca_that_forgets_every_account_is_not_given_new_ones_for_ever)
{
    static const char gone[] = "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}";

    begin();
    sh_on(ca, "POST", "/order", &(struct sh_reply){ .status = 400, .body = gone });
    for (int i = 0; i < 10; i++)
        ck_status(issue(), CM_E_ACME);
    /* the first one, and three in its place */
    ck_assert_uint_eq(sh_count(ca, "POST", "/acct"), 4);
    ck_assert(err.whole_ca && err.retry_after_s > 3000 && err.retry_after_s <= 3600);
    ck_assert(strstr(err.msg, "forgotten our account 3 times") != NULL);
    /* an hour later it may try again */
    atomic_store(&shift_ns, 3601 * CM_NS_PER_S);
    ck_status(issue(), CM_E_ACME);
    ck_assert_uint_eq(sh_count(ca, "POST", "/acct"), 5);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        an_account_is_not_given_up_for_a_ca_that_is_down,
        a_ca_that_forgets_every_account_is_not_given_new_ones_for_ever,
        predecessor_is_named_when_our_account_ordered_it_or_nobody_knows,
        predecessor_is_not_named_when_renewal_information_is_off,
        already_replaced_is_told_and_nothing_else_is_ordered,
        other_refusals_of_the_predecessor_lead_to_an_order_without,
        first_attempt_leaves_the_test_ca_alone,
        retry_orders_at_the_test_ca_first_and_throws_that_away,
        what_fails_at_the_test_ca_is_not_ordered,
        test_ca_that_is_down_or_wants_no_account_of_ours_is_passed_over,
        account_that_the_test_ca_lost_leaves_the_other_one_alone,
        tokens_of_the_test_ca_are_found_by_peers,
        ca_cannot_be_its_own_test_ca,
        renewal_that_only_a_wrong_clock_asks_for_is_refused_before_ordering,
        names_without_a_valid_certificate_are_ordered_whatever_the_clock_says,
        small_difference_is_warned_about_once_and_stops_nothing,
        renewal_information_is_asked_for_unless_switched_off,
    };

    return run_tests_how(
        "acme_issue", all, CM_ARRAY_LEN(all),
        (struct run_how){ .timeout_s = 60, .setup = set_up, .teardown = tear_down });
}
