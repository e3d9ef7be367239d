/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Nonces, retries, Retry-After: what happens around one signed request. */

static struct fake_ca ca;
static struct cm_acme_order order;

static void setup(void)
{
    fake_ca_start(&ca);
    order = (struct cm_acme_order){ .url = cm_strdup(sh_url(ca.sh, "/order/1")) };
}

/* The two rules that hold in every test. */
static void teardown(void)
{
    ck_assert_uint_eq(sh_nonce_reuses(ca.sh), 0);
    ck_assert_uint_eq(sh_nonce_unknown(ca.sh), 0);
    cm_acme_order_free(&order);
    fake_ca_stop(&ca);
}

static cm_status get_order(void)
{
    return cm_acme_order_get(ca.acme, &ca.op, &ca.who, &order, &err);
}

static cm_status new_order(void)
{
    static const char *const names[] = { "a.test" };
    const struct cm_acme_new_order req = { .names = names, .n = 1 };
    struct cm_acme_order o = { 0 };
    cm_status rc = cm_acme_order_new(ca.acme, &ca.op, &ca.who, &req, &o, &err);

    cm_acme_order_free(&o);
    return rc;
}

static void on_order(const struct sh_reply *r)
{
    sh_on(ca.sh, "POST", "/order/1", r);
}

#define BAD_NONCE                                                                                  \
    "{\"type\":\"urn:ietf:params:acme:error:badNonce\",\"detail\":\"stale\",\"status\":400}"

#define GOOD                                                                                       \
    {                                                                                              \
        .body = fake_order_pending                                                                 \
    }

static unsigned heads(void)
{
    return sh_count(ca.sh, "HEAD", "/nonce");
}

static unsigned posts(void)
{
    return sh_count(ca.sh, "POST", "/order/1");
}

START_TEST(one_newNonce_then_the_answers_bring_them)
{
    on_order(&(struct sh_reply)GOOD);
    for (int i = 0; i < 10; i++)
        ck_ok(get_order());
    ck_assert_uint_eq(heads(), 1);
    ck_assert_uint_eq(sh_count(ca.sh, "GET", "/dir"), 1);
    ck_assert_uint_eq(cm_acme_request_count(ca.acme), 12);
    ck_assert_uint_eq(sh_count(ca.sh, NULL, NULL), 12);
    ck_assert_uint_eq(sh_connections(ca.sh), 1);
}
END_TEST

START_TEST(bad_nonce_is_retried_with_the_nonce_it_brought)
{
    on_order(&(struct sh_reply){ .status = 400, .body = BAD_NONCE, .times = 10 });
    on_order(&(struct sh_reply)GOOD);
    ck_ok(get_order()); /* 10 refusals are the limit */
    ck_assert_uint_eq(posts(), 11);
    ck_assert_uint_eq(heads(), 1);
    ck_assert_uint_eq(ca.clock.waits, 0);
}
END_TEST

START_TEST(bad_nonce_for_ever_ends_at_the_cap)
{
    on_order(&(struct sh_reply){ .status = 400, .body = BAD_NONCE });
    ck_status(get_order(), CM_E_ACME);
    ck_assert(cm_acme_problem_is(err.problem, "badNonce"));
    ck_assert(!err.no_retry);
    ck_assert_uint_eq(posts(), 21); /* eleven at once, ten more slowly */
}
END_TEST

START_TEST(bad_nonce_is_retried_for_what_is_not_idempotent_too)
{
    sh_on(ca.sh, "POST", "/new-order",
          &(struct sh_reply){ .status = 400, .body = BAD_NONCE, .times = 2 });
    sh_on(ca.sh, "POST", "/new-order",
          &(struct sh_reply){
              .status = 201, .body = fake_order_pending, .headers = "Location: /order/1\r\n" });
    ck_ok(new_order());
    ck_assert_uint_eq(sh_count(ca.sh, "POST", "/new-order"), 3);
}
END_TEST

START_TEST(bad_nonce_without_a_nonce_asks_for_one)
{
    on_order(&(struct sh_reply){ .status = 400, .body = BAD_NONCE, .times = 1, .no_nonce = true });
    on_order(&(struct sh_reply)GOOD);
    ck_ok(get_order());
    ck_assert_uint_eq(posts(), 2);
    ck_assert_uint_eq(heads(), 2);
}
END_TEST

START_TEST(answers_without_nonce_cost_a_newNonce)
{
    on_order(&(struct sh_reply){ .body = fake_order_pending, .no_nonce = true });
    ck_ok(get_order());
    ck_ok(get_order());
    ck_assert_uint_eq(heads(), 2);
}
END_TEST

/* @n characters as nonce of the first answer: is the second request made with it? */
static bool nonce_is_taken(const char *nonce)
{
    char *header = cm_asprintf("Replay-Nonce: %s\r\n", nonce);
    unsigned before = heads();
    unsigned unknown = sh_nonce_unknown(ca.sh);

    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory, .no_nonce = true });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    on_order(&(struct sh_reply){
        .body = fake_order_pending, .no_nonce = true, .headers = header, .times = 1 });
    on_order(&(struct sh_reply){ .body = fake_order_pending, .no_nonce = true });
    ck_ok(get_order());
    ck_ok(get_order());
    free(header);
    ck_assert_uint_le(sh_nonce_unknown(ca.sh) - unknown, 1);
    return heads() == before + 1;
}

START_TEST(odd_nonces_are_not_used)
{
    struct fake_ca keep = ca;
    char text[CM_ACME_NONCE_MAX + 2] = { 0 };

    ck_assert(nonce_is_taken("abc_-9"));
    ck_assert(!nonce_is_taken("a b"));
    ck_assert(!nonce_is_taken("a\"b"));
    ck_assert(!nonce_is_taken("a=="));
    ck_assert(!nonce_is_taken(""));
    memset(text, 'A', CM_ACME_NONCE_MAX - 1);
    ck_assert(nonce_is_taken(text));
    text[CM_ACME_NONCE_MAX - 1] = 'A';
    ck_assert(nonce_is_taken(text));
    text[CM_ACME_NONCE_MAX] = 'A';
    ck_assert(!nonce_is_taken(text));
    /* the unknown ones were ours: begin anew for teardown() */
    fake_ca_stop(&keep);
    fake_ca_start(&ca);
}
END_TEST

START_TEST(stale_nonces_are_dropped)
{
    on_order(&(struct sh_reply)GOOD);
    ck_ok(get_order());
    jump_by(&ca.clock, 4 * 60 * CM_NS_PER_S);
    ck_ok(get_order());
    ck_assert_uint_eq(heads(), 1);
    jump_by(&ca.clock, 6 * 60 * CM_NS_PER_S);
    ck_ok(get_order());
    ck_assert_uint_eq(heads(), 2);
}
END_TEST

/* ---------------------------------------------------------------- Retry-After */

static void refused_with(int status, const char *headers, cm_status want, int64_t after)
{
    unsigned before = posts();

    sh_clear(ca.sh);
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    on_order(&(struct sh_reply){ .status = status, .headers = headers, .body = "<html>" });
    ck_status(get_order(), want);
    ck_assert_int_eq(err.http_status, status);
    ck_assert_msg(err.retry_after_s >= after - 2 && err.retry_after_s <= after, "%s: %lld", headers,
                  (long long)err.retry_after_s);
    if (want == CM_E_RATELIMITED)
        ck_assert_uint_eq(posts() - before, 1);
    ck_assert(!err.no_retry);
}

START_TEST(rate_limits_in_all_forms)
{
    ck_status(get_order(), CM_E_ACME); /* 404; fetches directory and nonce */
    refused_with(429, NULL, CM_E_RATELIMITED, 0);
    refused_with(429, "Retry-After: 120\r\n", CM_E_RATELIMITED, 120);
    refused_with(503, "retry-after: 7\r\n", CM_E_RATELIMITED, 7);
    refused_with(429, "Retry-After: 99999999999\r\n", CM_E_RATELIMITED, 86400);
    refused_with(429, "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n", CM_E_RATELIMITED, 86400);
    refused_with(429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n", CM_E_RATELIMITED, 0);
    refused_with(429, "Retry-After: -5\r\n", CM_E_RATELIMITED, 0);
    refused_with(429, "Retry-After: soon\r\n", CM_E_RATELIMITED, 0);
    refused_with(503, "Retry-After: 0\r\n", CM_E_ACME, 0);
    ck_assert_uint_eq(ca.clock.waits, 3); /* of the last one */
}
END_TEST

START_TEST(retry_after_as_a_date_counts_from_the_ops_clock)
{
    char header[80];
    time_t at = (time_t)(cm_env_wall_s(&ca.clock.env) + 100);
    struct tm tm;

    ck_assert_ptr_nonnull(gmtime_r(&at, &tm));
    ck_assert_uint_gt(
        strftime(header, sizeof header, "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm), 0);
    on_order(&(struct sh_reply){ .status = 429, .headers = header });
    ck_status(get_order(), CM_E_RATELIMITED);
    ck_assert_int_ge(err.retry_after_s, 98);
    ck_assert_int_le(err.retry_after_s, 100);
}
END_TEST

START_TEST(rateLimited_problem_is_a_rate_limit_whatever_the_status)
{
    on_order(&(struct sh_reply){
        .status = 403,
        .headers = "Retry-After: 3600\r\n",
        .body = "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many\"}" });
    ck_status(get_order(), CM_E_RATELIMITED);
    ck_assert_int_eq(err.retry_after_s, 3600);
    ck_has(err.msg, "too many");
}
END_TEST

/* --------------------------------------------------------------------- retries */

START_TEST(passing_failures_of_reads_are_retried)
{
    on_order(&(struct sh_reply){ .status = 500, .body = "{}", .times = 1 });
    on_order(&(struct sh_reply){ .status = 502, .times = 1, .no_nonce = true });
    on_order(&(struct sh_reply){ .fault = SH_CLOSE, .times = 1 });
    on_order(&(struct sh_reply)GOOD);
    ck_ok(get_order());
    ck_assert_uint_eq(ca.clock.waits, 3);
    for (int i = 0; i < 3; i++) {
        int64_t base = (250 * CM_NS_PER_MS) << i;

        ck_assert_int_ge(ca.clock.log_ns[i], base - base / 4);
        ck_assert_int_le(ca.clock.log_ns[i], base + base / 4);
    }
}
END_TEST

START_TEST(lasting_failures_of_reads_end_after_three_retries)
{
    on_order(&(struct sh_reply){ .status = 504 });
    ck_status(get_order(), CM_E_ACME);
    ck_assert_int_eq(err.http_status, 504);
    ck_assert_uint_eq(posts(), 4);
}
END_TEST

START_TEST(what_is_not_passing_is_not_retried)
{
    static const int final[] = { 400, 401, 403, 404, 409, 501, 505 };

    for (size_t i = 0; i < CM_ARRAY_LEN(final); i++) {
        unsigned before = posts();

        on_order(&(struct sh_reply){ .status = final[i], .times = 1 });
        ck_status(get_order(), CM_E_ACME);
        ck_assert_int_eq(err.http_status, final[i]);
        ck_assert_uint_eq(posts() - before, 1);
    }
    ck_assert_uint_eq(ca.clock.waits, 0);
}
END_TEST

START_TEST(orders_are_not_placed_twice)
{
    static const struct sh_reply bad[] = { { .status = 500, .times = 1 },
                                           { .status = 502, .times = 1 },
                                           { .fault = SH_CUT_HEADERS, .times = 1 },
                                           { .fault = SH_CUT_BODY, .body = "{ }", .times = 1 } };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        unsigned before = sh_count(ca.sh, "POST", "/new-order");
        cm_status rc;

        sh_on(ca.sh, "POST", "/new-order", &bad[i]);
        rc = new_order();
        ck_assert(rc == CM_E_ACME || rc == CM_E_NET);
        ck_assert_uint_eq(sh_count(ca.sh, "POST", "/new-order") - before, 1);
    }
    ck_assert_uint_eq(ca.clock.waits, 0);
}
END_TEST

START_TEST(slow_ca_is_not_asked_again)
{
    const struct cm_acme_client_options o = { .http.total_timeout_ns = 150 * CM_NS_PER_MS };
    struct cm_acme *quick = fake_ca_client(&ca, &o);

    on_order(&(struct sh_reply){ .fault = SH_STALL });
    ck_status(cm_acme_order_get(quick, &ca.op, &ca.who, &order, &err), CM_E_TIMEOUT);
    ck_assert_uint_eq(posts(), 1);
    cm_acme_free(quick);
}
END_TEST

START_TEST(deadline_ends_the_retries)
{
    struct cm_op op = cm_op_within(&ca.op, 300 * CM_NS_PER_MS);

    on_order(&(struct sh_reply){ .status = 500 });
    ck_status(cm_acme_order_get(ca.acme, &op, &ca.who, &order, &err), CM_E_TIMEOUT);
    ck_assert_uint_le(posts(), 2);
}
END_TEST

/* --------------------------------------------------------------------- threads */

static atomic_int in_flight;
static atomic_int most_in_flight;
static atomic_int many_failures;

static void one_head(void *user, struct scripted_http *sh, const struct sh_request *req,
                     struct sh_reply *reply)
{
    int now = atomic_fetch_add(&in_flight, 1) + 1;

    (void)user;
    (void)sh;
    (void)req;
    if (now > atomic_load(&most_in_flight))
        atomic_store(&most_in_flight, now);
    ck_assert_int_eq(cm_env_system()->wait(cm_env_system(), NULL, 2 * CM_NS_PER_MS), CM_OK);
    atomic_fetch_sub(&in_flight, 1);
    reply->status = 200;
}

static void *many_gets(void *arg)
{
    struct cm_acme_order o = { .url = arg };
    struct cm_err e = CM_ERR_INIT;

    for (int i = 0; i < 20; i++) {
        struct cm_acme_order fresh = { .url = cm_strdup(o.url) };

        if (cm_acme_order_get(ca.acme, NULL, &ca.who, &fresh, &e) != CM_OK) {
            atomic_fetch_add(&many_failures, 1);
            printf("# %s\n", e.msg);
        }
        cm_acme_order_free(&fresh);
    }
    return NULL;
}

START_TEST(twenty_threads_from_cold)
{
    pthread_t threads[20];

    atomic_store(&most_in_flight, 0);
    atomic_store(&many_failures, 0);
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory, .no_nonce = true });
    sh_handle(ca.sh, "HEAD", "/nonce", one_head, NULL);
    on_order(&(struct sh_reply)GOOD);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, many_gets, order.url), 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_int_eq(atomic_load(&many_failures), 0);
    ck_assert_uint_eq(posts(), 400);
    ck_assert_uint_eq(sh_count(ca.sh, "GET", "/dir"), 1);
    ck_assert_int_eq(atomic_load(&most_in_flight), 1);
    ck_assert_uint_le(heads(), 20);
}
END_TEST

static void *one_get(void *arg)
{
    struct cm_acme_order o = { .url = cm_strdup(arg) };
    struct cm_err e = CM_ERR_INIT;
    struct cm_op op = { .env = &ca.clock.env };
    cm_status rc = cm_acme_order_get(ca.acme, &op, &ca.who, &o, &e);

    if (rc == CM_E_ACME && strstr(e.msg, "newNonce") != NULL)
        atomic_fetch_add(&many_failures, 1);
    cm_acme_order_free(&o);
    return NULL;
}

/* A CA that is down is asked once (and three retries), not once per thread. */
START_TEST(failure_of_newNonce_is_shared)
{
    pthread_t threads[20];

    atomic_store(&many_failures, 0);
    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ .status = 500, .delay_ms = 50 });
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, one_get, order.url), 0);
    for (size_t i = 0; i < CM_ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_int_eq(atomic_load(&many_failures), 20);
    ck_assert_uint_le(heads(), 12); /* late-comers may have started a second round */
}
END_TEST

static void *stalled_get(void *arg)
{
    (void)one_get(arg);
    return NULL;
}

/* Waiting for another thread's newNonce is as cancelable as the request itself. */
START_TEST(waiting_for_a_nonce_ends_with_the_deadline)
{
    struct cm_op op = cm_op_within(NULL, 100 * CM_NS_PER_MS);
    pthread_t leader;
    int64_t t0;

    sh_clear(ca.sh);
    sh_on(ca.sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory });
    sh_on(ca.sh, "HEAD", "/nonce", &(struct sh_reply){ .delay_ms = 500 });
    on_order(&(struct sh_reply)GOOD);
    ck_assert_int_eq(pthread_create(&leader, NULL, stalled_get, order.url), 0);
    while (heads() == 0)
        ck_assert_int_eq(cm_env_system()->wait(cm_env_system(), NULL, CM_NS_PER_MS), CM_OK);
    t0 = real_ms();
    ck_status(cm_acme_order_get(ca.acme, &op, &ca.who, &order, &err), CM_E_TIMEOUT);
    ck_assert_int_lt(real_ms() - t0, 150);
    ck_assert_int_eq(pthread_join(leader, NULL), 0);
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        one_newNonce_then_the_answers_bring_them,
        bad_nonce_is_retried_with_the_nonce_it_brought,
        bad_nonce_for_ever_ends_at_the_cap,
        bad_nonce_is_retried_for_what_is_not_idempotent_too,
        bad_nonce_without_a_nonce_asks_for_one,
        answers_without_nonce_cost_a_newNonce,
        odd_nonces_are_not_used,
        stale_nonces_are_dropped,
        rate_limits_in_all_forms,
        retry_after_as_a_date_counts_from_the_ops_clock,
        rateLimited_problem_is_a_rate_limit_whatever_the_status,
        passing_failures_of_reads_are_retried,
        lasting_failures_of_reads_end_after_three_retries,
        what_is_not_passing_is_not_retried,
        orders_are_not_placed_twice,
        slow_ca_is_not_asked_again,
        deadline_ends_the_retries,
        twenty_threads_from_cold,
        failure_of_newNonce_is_shared,
        waiting_for_a_nonce_ends_with_the_deadline,
    };
    Suite *s = suite_create("nonce");

    ADD_TESTS(s, "nonce", setup, teardown, all);
    return run_suite(s);
}
