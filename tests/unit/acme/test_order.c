/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdio.h>
#include <string.h>

/* Orders, authorizations, waiting; and a whole call with every allocation failing in turn. */

static struct fake_ca ca;
static struct cm_acme_order order;

static void setup(void)
{
    fake_ca_start(&ca);
    memset(&order, 0, sizeof order);
}

static void teardown(void)
{
    ck_assert_uint_eq(sh_nonce_reuses(ca.sh), 0);
    ck_assert_uint_eq(sh_nonce_unknown(ca.sh), 0);
    cm_acme_order_free(&order);
    fake_ca_stop(&ca);
}

static cm_status new_order_with(const char *profile, const char *replaces)
{
    static const char *const names[] = { "a.test" };
    const struct cm_acme_new_order req = {
        .names = names, .n = 1, .profile = profile, .replaces = replaces
    };

    cm_acme_order_free(&order);
    return cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &order, &err);
}

static cm_status new_order(void)
{
    return new_order_with(NULL, NULL);
}

static void on_new_order(const char *body)
{
    sh_on(ca.sh, "POST", "/new-order",
          &(struct sh_reply){
              .status = 201, .times = 1, .headers = "Location: {BASE}/order/1\r\n", .body = body });
}

static void on_order(const char *status, const char *headers, unsigned times)
{
    char *body = cm_asprintf("{\"status\":\"%s\",\"certificate\":\"{BASE}/cert/1\"}", status);

    sh_on(ca.sh, "POST", "/order/1",
          &(struct sh_reply){ .body = sh_keep(ca.sh, body), .headers = headers, .times = times });
}

static void given_order(enum cm_acme_status status)
{
    cm_acme_order_free(&order);
    order.url = cm_strdup(sh_url(ca.sh, "/order/1"));
    order.finalize = cm_strdup(sh_url(ca.sh, "/finalize/1"));
    order.status = status;
}

static cm_status wait_for(bool past_pending)
{
    return cm_acme_order_wait(ca.acme, &ca.op, &ca.who, &order, past_pending, &err);
}

static unsigned polls(void)
{
    return sh_count(ca.sh, "POST", "/order/1");
}

/* The payload of the last request to @path, decoded. */
static const char *payload(const char *path)
{
    struct cm_buf b = CM_BUF_INIT(256 * 1024);
    const char *p = strstr(sh_last_body(ca.sh, path), "\"payload\":\"");
    struct cm_span in;

    ck_assert_ptr_nonnull(p);
    in.data = (const uint8_t *)p + 11;
    in.len = strcspn(p + 11, "\"");
    ck_ok(cm_b64url_decode(in, &b, &err));
    return b.len > 0 ? sh_keep(ca.sh, (char *)b.data) : "";
}

/* -------------------------------------------------------------------- newOrder */

START_TEST(new_order_says_what_is_wanted)
{
    static const char *const names[] = { "a.test", "*.b.test", "192.0.2.1", "2001:db8::1" };
    const struct cm_acme_new_order req = { .names = names, .n = 4 };

    on_new_order("{\"status\":\"pending\",\"identifiers\":["
                 "{\"type\":\"ip\",\"value\":\"2001:db8::1\"},{\"type\":\"ip\",\"value\":"
                 "\"192.0.2.1\"},{\"type\":\"dns\",\"value\":\"*.b.test\"},{\"type\":\"dns\","
                 "\"value\":\"a.test\"}]}");
    ck_ok(cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &order, &err));
    ck_assert_str_eq(payload("/new-order"),
                     "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"},"
                     "{\"type\":\"dns\",\"value\":\"*.b.test\"},"
                     "{\"type\":\"ip\",\"value\":\"192.0.2.1\"},"
                     "{\"type\":\"ip\",\"value\":\"2001:db8::1\"}]}");
    ck_assert_str_eq(order.url, sh_url(ca.sh, "/order/1"));
    on_new_order(fake_order_pending);
    ck_ok(new_order_with("short", "aki.serial"));
    ck_has(payload("/new-order"), ",\"profile\":\"short\",\"replaces\":\"aki.serial\"}");
    ck_has(sh_last_header(ca.sh, "/new-order"), "Content-Type: application/jose+json\r\n");
}
END_TEST

START_TEST(new_order_with_other_identifiers_is_refused)
{
    on_new_order("{\"status\":\"pending\",\"identifiers\":["
                 "{\"type\":\"dns\",\"value\":\"b.test\"}]}");
    ck_status(new_order(), CM_E_ACME);
    ck_has(err.msg, "b.test");
    on_new_order("{\"status\":\"pending\",\"identifiers\":[]}");
    ck_status(new_order(), CM_E_ACME);
    ck_has(err.msg, "a.test");
    on_new_order("not json");
    ck_status(new_order(), CM_E_PARSE);
    ck_assert_ptr_null(order.url);
}
END_TEST

START_TEST(new_order_for_no_or_too_many_names)
{
    static const char *names[CM_ACME_IDENTS_MAX + 1];
    struct cm_acme_new_order req = { .names = names, .n = 0 };

    ck_status(cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &order, &err), CM_E_INVAL);
    req.n = CM_ACME_IDENTS_MAX + 1;
    ck_status(cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &order, &err), CM_E_INVAL);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 0);
}
END_TEST

/* The largest order there can be fits into a request. */
START_TEST(order_for_256_long_names_is_sent)
{
    static char text[CM_ACME_IDENTS_MAX][CM_NAME_BUF];
    static const char *names[CM_ACME_IDENTS_MAX];
    const struct cm_acme_new_order req = { .names = names, .n = CM_ACME_IDENTS_MAX };

    for (int i = 0; i < CM_ACME_IDENTS_MAX; i++) {
        memset(text[i], 'a', CM_NAME_MAX);
        for (int dot = 60; dot < 240; dot += 60)
            text[i][dot] = '.';
        (void)snprintf(text[i] + 245, 9, ".%03d.org", i);
        names[i] = text[i];
    }
    on_new_order("{}");
    ck_status(cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &order, &err), CM_E_PARSE);
    ck_has(payload("/new-order"), text[255]);
}
END_TEST

/* --------------------------------------------------------------------- origins */

static const char *order_elsewhere(const char *base)
{
    return sh_keep(ca.sh, cm_asprintf("{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\","
                                      "\"value\":\"a.test\"}],\"authorizations\":[\"%s/z\"]}",
                                      base));
}

START_TEST(urls_of_another_origin_are_refused)
{
    on_new_order(order_elsewhere("http://127.0.0.1:1"));
    ck_status(new_order(), CM_E_ACME);
    ck_has(err.msg, "127.0.0.1:1");
    on_new_order(order_elsewhere("https://127.0.0.1"));
    ck_status(new_order(), CM_E_ACME);
    on_new_order(
        "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
        "\"finalize\":\"http://evil.test/f\"}");
    ck_status(new_order(), CM_E_ACME);
    on_new_order("{\"status\":\"valid\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
                 "\"certificate\":\"http://evil.test/c\"}");
    ck_status(new_order(), CM_E_ACME);
}
END_TEST

START_TEST(configured_origins_are_called)
{
    struct scripted_http *other = sh_start(0);
    const struct cm_acme_client_options o = { .allowed_origins = sh_base(other) };
    struct cm_acme *a = fake_ca_client(&ca, &o);
    struct cm_acme_authz z = { 0 };

    sh_on(other, "POST", "/z",
          &(struct sh_reply){
              .no_nonce = true,
              .body = "{\"status\":\"valid\",\"identifier\":{\"type\":\"dns\",\"value\":"
                      "\"a.test\"}}" });
    ck_ok(cm_acme_authz_get(a, &ca.op, &ca.who, sh_keep(ca.sh, cm_asprintf("%s/z", sh_base(other))),
                            &z, &err));
    cm_acme_authz_free(&z);
    cm_acme_free(a);
    sh_stop(other);
}
END_TEST

/* An origin that only the directory names is allowed, but not if it is this machine's inside. */
START_TEST(origin_named_by_the_directory_must_not_be_local)
{
    struct scripted_http *other = sh_start(0);
    char *dir = cm_asprintf("{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/a\","
                            "\"newOrder\":\"%s/new-order\"}",
                            sh_base(other));

    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = sh_keep(ca.sh, dir) });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    ck_status(new_order(), CM_E_ACME);
    ck_has(err.msg, "loopback");
    ck_assert_uint_eq(sh_count(other, NULL, NULL), 0);
    sh_stop(other);
}
END_TEST

START_TEST(foreign_challenges_are_not_offered)
{
    struct cm_acme_authz z = { 0 };

    sh_on(ca.sh, "POST", "/authz/1",
          &(struct sh_reply){
              .headers = "Retry-After: 3\r\n",
              .body =
                  "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"}"
                  ",\"challenges\":[{\"type\":\"http-01\",\"url\":\"http://evil.test/c\","
                  "\"token\":\"t\"},{\"type\":\"dns-01\",\"url\":\"{BASE}/c\",\"token\":"
                  "\"t\"}]}" });
    ck_ok(cm_acme_authz_get(ca.acme, &ca.op, &ca.who, sh_url(ca.sh, "/authz/1"), &z, &err));
    ck_assert_uint_eq(z.n_challenges, 1);
    ck_assert_str_eq(z.challenges[0].type, "dns-01");
    ck_assert_int_eq(z.retry_after_s, 3);
    ck_assert_str_eq(payload("/authz/1"), "");
    cm_acme_authz_free(&z);
}
END_TEST

START_TEST(challenge_is_accepted_with_an_empty_object)
{
    sh_on(ca.sh, "POST", "/c/1", &(struct sh_reply){ .body = "whatever" });
    sh_on(ca.sh, "POST", "/authz/1", &(struct sh_reply){ .body = "{}" });
    ck_ok(cm_acme_challenge_accept(ca.acme, &ca.op, &ca.who, sh_url(ca.sh, "/c/1"), &err));
    ck_assert_str_eq(payload("/c/1"), "{}");
    ck_ok(cm_acme_authz_deactivate(ca.acme, &ca.op, &ca.who, sh_url(ca.sh, "/authz/1"), &err));
    ck_assert_str_eq(payload("/authz/1"), "{\"status\":\"deactivated\"}");
    ck_status(cm_acme_challenge_accept(ca.acme, &ca.op, &ca.who, "http://evil.test/c", &err),
              CM_E_ACME);
}
END_TEST

/* --------------------------------------------------------------------- waiting */

START_TEST(settled_order_costs_no_poll)
{
    given_order(CM_ACME_READY);
    ck_ok(wait_for(true));
    given_order(CM_ACME_VALID);
    ck_ok(wait_for(false));
    given_order(CM_ACME_INVALID);
    ck_status(wait_for(true), CM_E_ACME);
    given_order(CM_ACME_UNKNOWN);
    ck_status(wait_for(true), CM_E_ACME);
    given_order(CM_ACME_PENDING);
    ck_status(wait_for(false), CM_E_ACME);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 0);
}
END_TEST

START_TEST(polls_begin_early_and_double_to_the_cap)
{
    int64_t want = 5 * CM_NS_PER_MS;

    given_order(CM_ACME_PENDING);
    on_order("pending", NULL, 8);
    on_order("processing", NULL, 7);
    on_order("valid", NULL, 0);
    ck_ok(wait_for(true));
    ck_assert_int_eq(order.status, CM_ACME_VALID);
    ck_assert_str_eq(order.certificate, sh_url(ca.sh, "/cert/1"));
    ck_assert_str_eq(order.url, sh_url(ca.sh, "/order/1"));
    ck_assert_uint_eq(polls(), 16);
    for (int i = 0; i < 16; i++) {
        ck_assert_int_ge(ca.clock.log_ns[i], want);
        ck_assert_int_le(ca.clock.log_ns[i], want + want / 4);
        want = want * 2 > 5 * CM_NS_PER_S ? 5 * CM_NS_PER_S : want * 2;
    }
}
END_TEST

START_TEST(retry_after_is_obeyed)
{
    given_order(CM_ACME_PENDING);
    order.retry_after_s = 2; /* newOrder's */
    on_order("pending", "Retry-After: 30\r\n", 1);
    on_order("pending", NULL, 1);
    on_order("ready", NULL, 0);
    ck_ok(wait_for(true));
    ck_assert_int_ge(ca.clock.log_ns[0], 2 * CM_NS_PER_S);
    ck_assert_int_ge(ca.clock.log_ns[1], 30 * CM_NS_PER_S);
    ck_assert_int_le(ca.clock.log_ns[1], 38 * CM_NS_PER_S);
    ck_assert_int_lt(ca.clock.log_ns[2], CM_NS_PER_S);
    ck_assert_uint_eq(polls(), 3);
}
END_TEST

START_TEST(long_retry_after_is_handed_to_the_caller)
{
    struct cm_op op = cm_op_within(&ca.op, 20 * CM_NS_PER_S);

    given_order(CM_ACME_PROCESSING);
    on_order("processing", "Retry-After: 21600\r\n", 1);
    on_order("processing", "Retry-After: 30\r\n", 0);
    ck_status(wait_for(false), CM_E_AGAIN);
    ck_assert_int_eq(err.retry_after_s, 21600);
    order.retry_after_s = 0;
    ck_status(cm_acme_order_wait(ca.acme, &op, &ca.who, &order, false, &err), CM_E_AGAIN);
    ck_assert_int_eq(err.retry_after_s, 30);
    ck_assert_uint_eq(ca.clock.waits, 2);
}
END_TEST

START_TEST(waiting_ends_with_the_deadline)
{
    struct cm_op op = cm_op_within(&ca.op, 60 * CM_NS_PER_S);

    given_order(CM_ACME_PENDING);
    on_order("pending", NULL, 0);
    ck_status(cm_acme_order_wait(ca.acme, &op, &ca.who, &order, true, &err), CM_E_TIMEOUT);
    ck_assert_uint_ge(polls(), 15);
    ck_assert_uint_le(polls(), 25);
}
END_TEST

START_TEST(invalid_order_fails_with_its_error)
{
    given_order(CM_ACME_PENDING);
    sh_on(ca.sh, "POST", "/order/1",
          &(struct sh_reply){
              .body = "{\"status\":\"invalid\",\"error\":{\"type\":"
                      "\"urn:ietf:params:acme:error:rejectedIdentifier\",\"detail\":\"high risk\","
                      "\"status\":403}}" });
    ck_status(wait_for(true), CM_E_ACME);
    ck_assert_int_eq(order.status, CM_ACME_INVALID);
    ck_assert(cm_acme_problem_is(err.problem, "rejectedIdentifier"));
    ck_assert(err.no_retry);
    ck_assert_int_eq(err.http_status, 403);
    ck_has(err.msg, "high risk");
}
END_TEST

/* -------------------------------------------------------------------- finalize */

START_TEST(finalize_may_answer_valid_or_processing)
{
    given_order(CM_ACME_READY);
    sh_on(ca.sh, "POST", "/finalize/1",
          &(struct sh_reply){
              .times = 1, .headers = "Retry-After: 4\r\n", .body = "{\"status\":\"processing\"}" });
    sh_on(ca.sh, "POST", "/finalize/1",
          &(struct sh_reply){ .body = "{\"status\":\"valid\",\"certificate\":\"{BASE}/cert/1\"}" });
    ck_ok(cm_acme_order_finalize(ca.acme, &ca.op, &ca.who, &order, cm_span_str("CSR"), &err));
    ck_assert_int_eq(order.status, CM_ACME_PROCESSING);
    ck_assert_int_eq(order.retry_after_s, 4);
    ck_assert_str_eq(payload("/finalize/1"), "{\"csr\":\"Q1NS\"}");
    given_order(CM_ACME_READY);
    ck_ok(cm_acme_order_finalize(ca.acme, &ca.op, &ca.who, &order, cm_span_str("CSR"), &err));
    ck_assert_int_eq(order.status, CM_ACME_VALID);
    ck_assert_str_eq(order.certificate, sh_url(ca.sh, "/cert/1"));
}
END_TEST

START_TEST(finalize_of_unknown_outcome_leaves_the_order_and_is_not_repeated)
{
    given_order(CM_ACME_READY);
    sh_on(ca.sh, "POST", "/finalize/1", &(struct sh_reply){ .fault = SH_CLOSE });
    ck_status(cm_acme_order_finalize(ca.acme, &ca.op, &ca.who, &order, cm_span_str("CSR"), &err),
              CM_E_NET);
    ck_assert_uint_eq(sh_count(ca.sh, "POST", "/finalize/1"), 1);
    ck_assert_int_eq(order.status, CM_ACME_READY);
    ck_assert_ptr_nonnull(order.url);
    /* and its state can be asked for */
    on_order("valid", NULL, 0);
    ck_ok(cm_acme_order_get(ca.acme, &ca.op, &ca.who, &order, &err));
    ck_ok(wait_for(false));
}
END_TEST

START_TEST(order_without_finalize_cannot_be_finalized)
{
    given_order(CM_ACME_READY);
    free(order.finalize);
    order.finalize = NULL;
    ck_status(cm_acme_order_finalize(ca.acme, &ca.op, &ca.who, &order, cm_span_str("CSR"), &err),
              CM_E_ACME);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 0);
}
END_TEST

/* ----------------------------------------------------------------------- memory */

START_TEST(new_order_survives_the_failure_of_every_allocation)
{
    const struct cm_acme_client_options o = { 0 };
    unsigned failed = 0;

    sh_on(ca.sh, "POST", "/new-order",
          &(struct sh_reply){ .status = 201,
                              .headers = "Location: {BASE}/order/1\r\n",
                              .body = fake_order_pending });
    for (uint64_t n = 1; n < 400; n++) {
        static const char *const names[] = { "a.test" };
        const struct cm_acme_new_order req = { .names = names, .n = 1 };
        struct cm_acme *a = fake_ca_client(&ca, &o);
        struct cm_acme_order got = { 0 };
        cm_status rc;

        (void)cm_alloc_fail_at(n);
        rc = cm_acme_order_new(a, &ca.op, &ca.who, &req, &got, &err);
        (void)cm_alloc_fail_at(0);
        ck_assert_msg(rc == CM_OK || rc == CM_E_NOMEM || rc == CM_E_ACME, "%llu: %s: %s",
                      (unsigned long long)n, cm_status_name(rc), err.msg);
        failed += rc != CM_OK;
        cm_acme_order_free(&got);
        cm_acme_free(a);
        if (rc == CM_OK && n > 150)
            break;
    }
    ck_assert_uint_ge(failed, 20);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        new_order_says_what_is_wanted,
        new_order_with_other_identifiers_is_refused,
        new_order_for_no_or_too_many_names,
        order_for_256_long_names_is_sent,
        urls_of_another_origin_are_refused,
        configured_origins_are_called,
        origin_named_by_the_directory_must_not_be_local,
        foreign_challenges_are_not_offered,
        challenge_is_accepted_with_an_empty_object,
        settled_order_costs_no_poll,
        polls_begin_early_and_double_to_the_cap,
        retry_after_is_obeyed,
        long_retry_after_is_handed_to_the_caller,
        waiting_ends_with_the_deadline,
        invalid_order_fails_with_its_error,
        finalize_may_answer_valid_or_processing,
        finalize_of_unknown_outcome_leaves_the_order_and_is_not_repeated,
        order_without_finalize_cannot_be_finalized,
        new_order_survives_the_failure_of_every_allocation,
    };
    Suite *s = suite_create("order");

    ADD_TESTS(s, "order", setup, teardown, all);
    return run_suite(s);
}
