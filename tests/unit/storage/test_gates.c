/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <string.h>

/* The gates in front of backends: what they check, and what they put right. */

static unsigned calls;
static cm_status answer;

static cm_status naughty_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_buf *ret, struct cm_err *e)
{
    (void)st;
    (void)op;
    (void)key;
    calls++;
    (void)!cm_buf_puts(ret, "rubbish", e);
    return answer;
}

static cm_status naughty_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                              struct cm_key_info *ret, struct cm_err *e)
{
    (void)st;
    (void)op;
    (void)key;
    (void)e;
    calls++;
    ret->size = 99;
    return answer;
}

static cm_status naughty_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                                  int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                                  struct cm_err *e)
{
    (void)st;
    (void)op;
    (void)name;
    (void)ttl_ns;
    (void)e;
    calls++;
    ret->fence = 42;
    *ret_wait_ns = 0;
    return answer;
}

static cm_status count_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                              struct cm_err *e)
{
    (void)st;
    (void)op;
    (void)grant;
    (void)e;
    calls++;
    return answer;
}

static struct cm_storage_ops ops;
static struct cm_storage st = { &ops };

static void setup_ops(void)
{
    ops = (struct cm_storage_ops){ .abi = CM_SPI_ABI,
                                   .size = sizeof ops,
                                   .name = "naughty",
                                   .load = naughty_load,
                                   .stat = naughty_stat,
                                   .try_lock = naughty_try_lock,
                                   .unlock = count_unlock };
    calls = 0;
    answer = CM_OK;
}

static const struct cm_commit_item one = { .key = "k", .value = { (const uint8_t *)"v", 1 } };

static cm_status ignore(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)user;
    (void)info;
    (void)e;
    return CM_OK;
}

START_TEST(a_table_of_another_interface_is_not_entered)
{
    struct cm_buf got = CM_BUF_INIT(64);
    struct cm_storage none = { NULL };

    setup_ops();
    ops.abi = CM_SPI_ABI + 1;
    must_fail(cm_storage_load(&st, NULL, "k", &got, &err), CM_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.msg, "interface"));
    must_fail(cm_storage_load(NULL, NULL, "k", &got, &err), CM_E_INVAL);
    must_fail(cm_storage_load(&none, NULL, "k", &got, &err), CM_E_INVAL);
    ck_assert_str_eq(cm_storage_describe(&st), "?");
    cm_storage_close(&st);
    cm_storage_close(&none);
    ck_assert_uint_eq(calls, 0);
}
END_TEST

START_TEST(what_a_table_lacks_is_unsupported)
{
    struct cm_grant g = { .name = "n" };
    struct cm_buf got = CM_BUF_INIT(64);
    struct cm_lock_info info;

    setup_ops();
    must_fail(cm_storage_store(&st, NULL, "k", cm_span_str("v"), &err), CM_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.msg, "naughty"));
    must_fail(cm_storage_remove(&st, NULL, "k", &err), CM_E_UNSUPPORTED);
    must_fail(cm_storage_list(&st, NULL, "", true, ignore, NULL, &err), CM_E_UNSUPPORTED);
    must_fail(cm_storage_refresh(&st, NULL, &g, &err), CM_E_UNSUPPORTED);
    must_fail(cm_storage_commit(&st, NULL, NULL, &one, 1, &err), CM_E_UNSUPPORTED);
    must_fail(cm_storage_lock_info(&st, NULL, "n", &info, &err), CM_E_UNSUPPORTED);
    must_fail(cm_storage_lock_info(&st, NULL, "", &info, &err), CM_E_INVAL);
    must_fail(cm_storage_lock_info(&st, NULL, "n", NULL, &err), CM_E_INVAL);
    cm_storage_drop(&st, &g);
    ck_assert_str_eq(cm_storage_describe(&st), "naughty");
    /* A table made before load existed, as its size tells. */
    ops.size = (uint32_t)offsetof(struct cm_storage_ops, load);
    must_fail(cm_storage_load(&st, NULL, "k", &got, &err), CM_E_UNSUPPORTED);
    ck_assert_uint_eq(calls, 0);
    cm_storage_close(&st);
}
END_TEST

START_TEST(outputs_are_written_on_success_only)
{
    struct cm_buf got = CM_BUF_SECRET(64);
    struct cm_key_info info = { "mine", 0, 1, true };
    struct cm_grant g = { .fence = 7 };
    int64_t wait_ns = -1;

    setup_ops();
    answer = CM_E_IO;
    must(cm_buf_puts(&got, "kept", &err));
    must_fail(cm_storage_load(&st, NULL, "k", &got, &err), CM_E_IO);
    ck_assert_str_eq(cm_buf_str(&got), "kept");
    ck_assert_mem_eq(got.data + 4, "\0\0\0\0\0\0\0", 7);
    must_fail(cm_storage_stat(&st, NULL, "k", &info, &err), CM_E_IO);
    ck_assert_uint_eq(info.size, 1);
    must_fail(cm_storage_try_lock(&st, NULL, "n", 1, &g, &wait_ns, &err), CM_E_IO);
    ck_assert_uint_eq(g.fence, 7);
    ck_assert_int_eq(wait_ns, -1);
    answer = CM_E_BUSY;
    must_fail(cm_storage_try_lock(&st, NULL, "n", 1, &g, &wait_ns, &err), CM_E_BUSY);
    ck_assert_int_gt(wait_ns, 0); /* a waiter must not spin */
    answer = CM_OK;
    must(cm_storage_try_lock(&st, NULL, "n", 5, &g, &wait_ns, &err));
    ck_assert_uint_eq(g.fence, 42);
    ck_assert_int_eq(g.ttl_ns, 5);
    ck_assert_str_eq(g.name, "n");
    must(cm_storage_stat(&st, NULL, "k", &info, &err));
    ck_assert_str_eq(info.key, "k");
    cm_buf_free(&got);
}
END_TEST

/* Whatever became of the operation, what was taken has to be given back. */
START_TEST(unlock_and_drop_go_through_even_if_canceled)
{
    struct cm_cancel *cancel = NULL;
    struct cm_grant g = { .name = "n", .state = &calls };
    struct cm_op op = { NULL, 0, NULL };

    setup_ops();
    must(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    op.cancel = cancel;
    must_fail(cm_storage_try_lock(&st, &op, "n", 1, &g, NULL, &err), CM_E_CANCELED);
    ck_assert_uint_eq(calls, 0);
    must(cm_storage_unlock(&st, &op, &g, &err));
    ck_assert_uint_eq(calls, 1);
    ck_assert_ptr_null(g.state);
    cm_cancel_free(cancel);
}
END_TEST

/* ------------------------------------------------------- issuers and solvers */

static cm_status fake_checkpoint(void *user, const struct cm_op *op, struct cm_span state,
                                 struct cm_err *e)
{
    (void)user;
    (void)op;
    (void)state;
    (void)e;
    return CM_OK;
}

static const char *fake_key(struct cm_issuer *is)
{
    (void)is;
    return "fake";
}

static cm_status fake_issue(struct cm_issuer *is, const struct cm_op *op,
                            const struct cm_issue_request *req, struct cm_issued *ret,
                            struct cm_err *e)
{
    (void)is;
    (void)op;
    (void)req;
    (void)ret;
    (void)e;
    calls++;
    return CM_OK;
}

START_TEST(issuer_gates_check_what_they_are_given)
{
    const struct cm_issuer_ops bare = {
        .abi = CM_SPI_ABI, .size = sizeof bare, .name = "bare", .key = fake_key, .issue = fake_issue
    };
    struct cm_issuer is = { &bare };
    struct cm_issuer_host host = { .size = sizeof host };
    const char *names[] = { "a.example", "" };
    struct cm_issue_request req = { .size = sizeof req,
                                    .names = names,
                                    .n_names = 1,
                                    .csr_der = { (const uint8_t *)"0", 1 },
                                    .checkpoint = fake_checkpoint };
    struct cm_issued ret = { CM_BUF_INIT(16), CM_BUF_INIT(16) };
    struct cm_span leaf = { (const uint8_t *)"0", 1 };

    calls = 0;
    ck_assert_str_eq(cm_issuer_key(&is), "fake");
    must(cm_issuer_attach(&is, &host, &err));
    must_fail(cm_issuer_attach(&is, NULL, &err), CM_E_INVAL);
    must(cm_issuer_precheck(&is, names, 1, &err));
    must_fail(cm_issuer_precheck(&is, names, 2, &err), CM_E_INVAL);
    must_fail(cm_issuer_precheck(&is, NULL, 0, &err), CM_E_INVAL);
    must(cm_issuer_issue(&is, NULL, &req, &ret, &err));
    ck_assert_uint_eq(calls, 1);
    req.checkpoint = NULL;
    must_fail(cm_issuer_issue(&is, NULL, &req, &ret, &err), CM_E_INVAL);
    must_fail(cm_issuer_revoke(&is, NULL, leaf, -1, &err), CM_E_UNSUPPORTED);
    must_fail(cm_issuer_revoke(&is, NULL, leaf, 7, &err), CM_E_INVAL);
    must_fail(cm_issuer_revoke(&is, NULL, leaf, 11, &err), CM_E_INVAL);
    ck_assert_ptr_null(cm_issuer_challenge_prefix(&is, 0));
    must_fail(cm_issuer_attach(NULL, &host, &err), CM_E_INVAL);
    ck_assert_str_eq(cm_issuer_key(NULL), "");
    cm_issuer_destroy(&is);
    cm_issuer_destroy(NULL);
    ck_assert_uint_eq(calls, 1);
}
END_TEST

static void fake_limits(struct cm_issuer *is, struct cm_issuer_limits *ret)
{
    (void)is;
    ret->events = 300;
    ret->refuses_must_staple = true;
}

START_TEST(issuer_without_limits_has_none)
{
    struct cm_issuer_ops table = { .abi = CM_SPI_ABI, .size = sizeof table, .name = "bare" };
    struct cm_issuer is = { &table };
    struct cm_issuer_limits limits = { .events = 7 };

    cm_issuer_get_limits(&is, &limits);
    ck_assert_uint_eq(limits.events, 0);
    ck_assert(!limits.refuses_must_staple);
    table.limits = fake_limits;
    cm_issuer_get_limits(&is, &limits);
    ck_assert_uint_eq(limits.events, 300);
    ck_assert(limits.refuses_must_staple);
    /* Made before there were limits: what stands behind its end is not looked at. */
    table.size = offsetof(struct cm_issuer_ops, limits);
    cm_issuer_get_limits(&is, &limits);
    ck_assert_uint_eq(limits.events, 0);
    cm_issuer_get_limits(NULL, &limits);
    ck_assert_uint_eq(limits.events, 0);
}
END_TEST

static void issuer_stops(struct cm_issuer *is)
{
    (void)is;
    calls++;
}

static void solver_stops(struct cm_solver *sv)
{
    (void)sv;
    calls++;
}

START_TEST(who_can_stop_is_stopped)
{
    struct cm_issuer_ops table = { .abi = CM_SPI_ABI, .size = sizeof table, .name = "bare" };
    struct cm_solver_ops solver = { .abi = CM_SPI_ABI, .size = sizeof solver, .name = "bare" };
    struct cm_issuer is = { &table };
    struct cm_solver sv = { &solver };

    calls = 0;
    cm_issuer_stop(&is);
    cm_solver_stop(&sv);
    cm_issuer_stop(NULL);
    cm_solver_stop(NULL);
    table.stop = issuer_stops;
    cm_issuer_stop(&is);
    ck_assert_uint_eq(calls, 1);
    solver.stop = solver_stops;
    cm_solver_stop(&sv);
    ck_assert_uint_eq(calls, 2);
    table.size = offsetof(struct cm_issuer_ops, stop); /* made before there was one */
    solver.size = offsetof(struct cm_solver_ops, stop);
    cm_issuer_stop(&is);
    cm_solver_stop(&sv);
    ck_assert_uint_eq(calls, 2);
}
END_TEST

static cm_status fake_clean(struct cm_issuer *is, const struct cm_op *op, struct cm_err *e)
{
    (void)is;
    (void)op;
    (void)e;
    calls++;
    return answer;
}

START_TEST(issuer_that_cleans_is_called_within_its_operation)
{
    struct cm_issuer_ops table = { .abi = CM_SPI_ABI, .size = sizeof table, .name = "bare" };
    const struct cm_op over = { .env = cm_env_system(), .deadline_ns = 1 };
    struct cm_issuer is = { &table };

    calls = 0;
    must(cm_issuer_clean(&is, &over, &err)); /* there is nothing to do */
    table.clean = fake_clean;
    must_fail(cm_issuer_clean(&is, &over, &err), CM_E_TIMEOUT);
    ck_assert_uint_eq(calls, 0);
    answer = CM_E_IO;
    must_fail(cm_issuer_clean(&is, NULL, &err), CM_E_IO);
    answer = CM_OK;
    must(cm_issuer_clean(&is, NULL, &err));
    ck_assert_uint_eq(calls, 2);
    table.size = offsetof(struct cm_issuer_ops, clean);
    must(cm_issuer_clean(&is, NULL, &err));
    ck_assert_uint_eq(calls, 2);
    must_fail(cm_issuer_clean(NULL, NULL, &err), CM_E_INVAL);
}
END_TEST

/* ------------------------------------------------------------------ fetchers */

static size_t answer_len;
static int64_t fetch_deadline_ns;

static cm_status fake_fetch(struct cm_fetcher *f, const struct cm_op *op,
                            const struct cm_fetch *req, int *ret_http_status,
                            struct cm_buf *ret_body, struct cm_err *e)
{
    (void)f;
    (void)req;
    calls++;
    fetch_deadline_ns = op->deadline_ns;
    *ret_http_status = 200;
    for (size_t i = 0; i < answer_len; i++)
        if (cm_buf_append(ret_body, "x", 1, e) != CM_OK)
            return CM_E_LIMIT;
    return answer;
}

static void fake_fetcher_destroy(struct cm_fetcher *f)
{
    (void)f;
    calls += 100;
}

START_TEST(fetcher_gates_check_what_they_are_given)
{
    struct cm_fetcher_ops table = {
        .abi = CM_SPI_ABI, .size = sizeof table, .name = "fake", .fetch = fake_fetch
    };
    struct cm_fetcher f = { &table };
    const struct cm_fetch good = { .size = sizeof good,
                                   .method = "GET",
                                   .url = "http://a.example/",
                                   .max_body = 10,
                                   .timeout_ns = CM_NS_PER_S };
    struct cm_buf body = CM_BUF_INIT(64);
    struct cm_cancel *cancel = NULL;
    struct cm_op op = { NULL, 0, NULL };
    struct cm_fetch bad[6];
    int status = 0;

    calls = 0;
    answer = CM_OK;
    answer_len = 10;
    must(cm_fetcher_fetch(&f, NULL, &good, &status, &body, &err));
    ck_assert_int_eq(status, 200);
    ck_assert_uint_eq(body.len, 10);
    ck_assert_int_gt(fetch_deadline_ns, 0); /* its time limit, though the caller has none */
    /* More than was asked for is refused, and what was there before stays. */
    answer_len = 11;
    must_fail(cm_fetcher_fetch(&f, NULL, &good, &status, &body, &err), CM_E_LIMIT);
    ck_assert_uint_eq(body.len, 10);
    ck_assert_uint_eq(calls, 2);

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        bad[i] = good;
    bad[0].method = "PUT";
    bad[1].url = "ftp://a.example/";
    bad[2].url = NULL;
    bad[3].max_body = 0;
    bad[4].timeout_ns = 0;
    bad[5].size = 0;
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        must_fail(cm_fetcher_fetch(&f, NULL, &bad[i], &status, &body, &err), CM_E_INVAL);
    must_fail(cm_fetcher_fetch(&f, NULL, &good, NULL, &body, &err), CM_E_INVAL);
    must_fail(cm_fetcher_fetch(NULL, NULL, &good, &status, &body, &err), CM_E_INVAL);
    must(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    op.cancel = cancel;
    must_fail(cm_fetcher_fetch(&f, &op, &good, &status, &body, &err), CM_E_CANCELED);
    cm_cancel_free(cancel);
    cm_fetcher_destroy(&f); /* it has none */
    cm_fetcher_destroy(NULL);
    ck_assert_uint_eq(calls, 2);
    table.destroy = fake_fetcher_destroy;
    cm_fetcher_destroy(&f);
    ck_assert_uint_eq(calls, 102);
    table.abi = CM_SPI_ABI + 1;
    must_fail(cm_fetcher_fetch(&f, NULL, &good, &status, &body, &err), CM_E_UNSUPPORTED);
    cm_buf_free(&body);
}
END_TEST

static cm_status fake_present(struct cm_solver *sv, const struct cm_op *op,
                              const struct cm_challenge *ch, void **ret_state, struct cm_err *e)
{
    (void)sv;
    (void)op;
    (void)ch;
    (void)e;
    calls++;
    *ret_state = &calls;
    return answer;
}

static void fake_cleanup(struct cm_solver *sv, const struct cm_op *op, void *state)
{
    (void)sv;
    (void)op;
    (void)state;
    calls++;
}

START_TEST(solver_gates_let_no_bad_token_pass)
{
    static const char *const bad[] = { "", "a/b", "../x", "a=b", "tok\n", "t\xc3\xa9" };
    struct cm_solver_ops solver = {
        .abi = CM_SPI_ABI, .size = sizeof solver, .name = "fake", .present = fake_present
    };
    struct cm_solver sv = { &solver };
    struct cm_challenge ch = { .type = "http-01",
                               .url = "https://ca/",
                               .token = "good-token_1",
                               .key_authorization = "good-token_1.thumb",
                               .ident = "a.example",
                               .prefix = "acme/ca" };
    char long_token[130];
    void *state = NULL;

    calls = 0;
    answer = CM_OK;
    /* Without a way to clean up, nothing is presented. */
    must_fail(cm_solver_present(&sv, NULL, &ch, &state, &err), CM_E_UNSUPPORTED);
    solver.cleanup = fake_cleanup;
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        ch.token = bad[i];
        must_fail(cm_solver_present(&sv, NULL, &ch, &state, &err), CM_E_PARSE);
    }
    memset(long_token, 'a', sizeof long_token);
    long_token[129] = '\0';
    ch.token = long_token;
    must_fail(cm_solver_present(&sv, NULL, &ch, &state, &err), CM_E_PARSE);
    ck_assert_uint_eq(calls, 0);
    long_token[128] = '\0';
    answer = CM_E_NET;
    must_fail(cm_solver_present(&sv, NULL, &ch, &state, &err), CM_E_NET);
    ck_assert_ptr_null(state);
    answer = CM_OK;
    must(cm_solver_present(&sv, NULL, &ch, &state, &err));
    ck_assert_ptr_eq(state, &calls);
    must(cm_solver_wait(&sv, NULL, state, &err));
    cm_solver_cleanup(&sv, NULL, state);
    ck_assert_uint_eq(calls, 3);
    ck_assert(!cm_solver_can(&sv, "http-01", CM_IDENT_DNS, false));
    cm_solver_destroy(&sv);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_table_of_another_interface_is_not_entered,
        what_a_table_lacks_is_unsupported,
        outputs_are_written_on_success_only,
        unlock_and_drop_go_through_even_if_canceled,
        issuer_gates_check_what_they_are_given,
        issuer_without_limits_has_none,
        who_can_stop_is_stopped,
        issuer_that_cleans_is_called_within_its_operation,
        fetcher_gates_check_what_they_are_given,
        solver_gates_let_no_bad_token_pass,
    };

    return run_with_root("gates", tests, CM_ARRAY_LEN(tests), 20);
}
