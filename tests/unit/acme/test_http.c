/* SPDX-License-Identifier: Apache-2.0 */
#include "http_kit.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --------------------------------------------------------------------- simple */

START_TEST(answers_come_whole_whatever_their_status)
{
    struct cm_span v;

    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "hello", .headers = "X-A:  one \r\n" });
    sh_on(sh, "GET", "/b", &(struct sh_reply){ .status = 503, .body = "no", .chunked = true });
    ck_ok(get("/a", 100));
    ck_assert_int_eq(resp.status, 200);
    ck_assert_str_eq(cm_buf_str(&resp.body), "hello");
    ck_assert(cm_http_header(&resp, "x-a", 0, &v));
    ck_assert_uint_eq(v.len, 3);
    ck_assert_mem_eq(v.data, "one", 3);
    ck_ok(get("/b", 100));
    ck_assert_int_eq(resp.status, 503);
    ck_assert_str_eq(cm_buf_str(&resp.body), "no");
    ck_ok(get("/c", 100));
    ck_assert_int_eq(resp.status, 404);
    ck_assert_uint_eq(sh_connections(sh), 1);
}
END_TEST

START_TEST(post_carries_body_type_and_agent_but_no_expect)
{
    const char *body = sh_keep(sh, filled(5000));
    const char *h;

    sh_on(sh, "POST", "/p", &(struct sh_reply){ .status = 201 });
    ck_ok(post("/p", body));
    ck_assert_int_eq(resp.status, 201);
    ck_assert_str_eq(sh_last_body(sh, "/p"), body);
    h = sh_last_header(sh, "/p");
    ck_has(h, "Content-Type: application/jose+json\r\n");
    ck_has(h, "User-Agent: certmesh/");
    ck_has(h, "Accept-Language: en\r\n");
    ck_has(h, "Content-Length: 5000\r\n");
    ck_assert_ptr_null(strstr(h, "Expect"));
    ck_assert_ptr_null(strstr(h, "Accept-Encoding"));
    ck_assert_ptr_null(strstr(h, "Cookie"));
}
END_TEST

START_TEST(header_lines_are_sent_and_deletes_are)
{
    static const char *const lines[] = { "Authorization: Bearer t0ken", "X-Api-User: u", NULL };
    static const char *const split[] = { "A: b\r\nC: d", NULL };
    static const char *const nameless[] = { ": b", NULL };
    struct cm_http_request req = {
        .method = "DELETE", .url = sh_url(sh, "/d"), .max_body = 10, .headers = lines
    };
    const char *h;

    sh_on(sh, "DELETE", "/d", &(struct sh_reply){ .status = 200, .body = "gone" });
    ck_ok(cm_http_do(http, NULL, &req, &resp, &err));
    ck_assert_str_eq(cm_buf_str(&resp.body), "gone");
    h = sh_last_header(sh, "/d");
    ck_has(h, "Authorization: Bearer t0ken\r\n");
    ck_has(h, "X-Api-User: u\r\n");
    /* Nothing of it stays with the connection. */
    sh_on(sh, "GET", "/g", &(struct sh_reply){ .status = 200 });
    ck_ok(get("/g", 100));
    ck_assert_ptr_null(strstr(sh_last_header(sh, "/g"), "t0ken"));
    req.headers = split;
    ck_assert_int_eq(cm_http_do(http, NULL, &req, &resp, &err), CM_E_INVAL);
    req.headers = nameless;
    ck_assert_int_eq(cm_http_do(http, NULL, &req, &resp, &err), CM_E_INVAL);
    req.headers = lines;
    req.method = "GET";
    req.follow = true; /* to whom? */
    ck_assert_int_eq(cm_http_do(http, NULL, &req, &resp, &err), CM_E_INVAL);
}
END_TEST

START_TEST(empty_post_and_head_work)
{
    struct cm_http_request req = { .method = "HEAD", .url = sh_url(sh, "/h"), .max_body = 1 };

    sh_on(sh, "*", "/h", &(struct sh_reply){ .status = 204 });
    ck_ok(cm_http_do(http, NULL, &req, &resp, &err));
    ck_assert_int_eq(resp.status, 204);
    ck_ok(post("/h", ""));
    ck_assert_uint_eq(sh_count(sh, "POST", "/h"), 1);
}
END_TEST

/* Cookies, credentials in URLs and the environment's proxies are no business of ours. */
START_TEST(environment_proxies_are_not_looked_at)
{
    ck_assert_int_eq(setenv("http_proxy", "http://127.0.0.1:9", 1), 0);
    ck_assert_int_eq(setenv("all_proxy", "http://127.0.0.1:9", 1), 0);
    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "x" });
    ck_ok(get("/a", 100));
}
END_TEST

START_TEST(unreachable_peer_is_a_network_failure)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = "http://127.0.0.1:1/x",
                                         .max_body = 10 };

    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_NET);
    ck_has(err.msg, "http://127.0.0.1:1/x");
}
END_TEST

/* --------------------------------------------------------------------- policy */

START_TEST(plain_http_is_refused_by_default)
{
    const struct cm_http_options o = { 0 };
    const struct cm_http_request req = { .method = "GET", .url = sh_url(sh, "/a"), .max_body = 10 };
    struct cm_http *strict = NULL;

    ck_ok(cm_http_new(&o, &strict, &err));
    ck_status(cm_http_do(strict, NULL, &req, &resp, &err), CM_E_POLICY);
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    cm_http_free(strict);
}
END_TEST

START_TEST(other_schemes_and_bad_urls_are_refused)
{
    static const char *const bad[] = { "ftp://127.0.0.1/",
                                       "file:///etc/passwd",
                                       "gopher://x/",
                                       "127.0.0.1",
                                       "",
                                       "https:/x",
                                       "http://127.0.0.1/a b",
                                       "http://a\r\nb/",
                                       "http://u:p@127.0.0.1/x" };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        const struct cm_http_request req = { .method = "GET", .url = bad[i], .max_body = 10 };
        cm_status rc = cm_http_do(http, NULL, &req, &resp, &err);

        ck_assert_msg(rc == CM_E_POLICY || rc == CM_E_INVAL || rc == CM_E_NET, "%s: %s", bad[i],
                      cm_status_name(rc));
    }
}
END_TEST

START_TEST(url_length_is_capped)
{
    char *path = filled(CM_HTTP_URL_MAX);
    char *url;

    path[0] = '/';
    path[CM_HTTP_URL_MAX - strlen(sh_base(sh))] = '\0';
    sh_on(sh, "GET", "/*", &(struct sh_reply){ .body = "x" });
    ck_ok(get(path, 10)); /* exactly the limit */
    url = cm_asprintf("%s%sy", sh_base(sh), path);
    const struct cm_http_request req = { .method = "GET", .url = url, .max_body = 10 };
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_LIMIT);
    free(url);
    free(path);
}
END_TEST

START_TEST(missing_or_useless_ca_file_is_an_error_at_once)
{
    char name[] = "/tmp/cm-test-ca-XXXXXX";
    struct cm_http_options o = { .ca_file = "/nonexistent/ca.pem" };
    struct cm_http *h = NULL;
    int fd;

    ck_status(cm_http_new(&o, &h, &err), CM_E_NOTFOUND);
    ck_has(err.msg, "/nonexistent/ca.pem");
    fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    o.ca_file = name;
    ck_status(cm_http_new(&o, &h, &err), CM_E_INVAL);
    o.ca_file = "/tmp";
    ck_status(cm_http_new(&o, &h, &err), CM_E_INVAL);
    ck_assert_int_eq(unlink(name), 0);
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(local_addresses_are_refused_on_request)
{
    struct cm_http_request req = {
        .method = "GET", .url = sh_url(sh, "/a"), .max_body = 10, .refuse_local = true
    };

    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
    ck_has(err.msg, "loopback");
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    req.url = "http://[::1]:1/";
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
    req.url = "http://[::ffff:169.254.169.254]:1/";
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
    req.url = "http://169.254.169.254/latest/meta-data/";
    ck_status(cm_http_do(http, NULL, &req, &resp, &err), CM_E_POLICY);
}
END_TEST

/* ------------------------------------------------------------------ redirects */

static cm_status get_following(const char *path)
{
    const struct cm_http_request req = {
        .method = "GET", .url = sh_url(sh, path), .max_body = 100, .follow = true
    };

    return cm_http_do(http, NULL, &req, &resp, &err);
}

START_TEST(get_follows_three_redirects_and_no_fourth)
{
    sh_on(sh, "GET", "/1", &(struct sh_reply){ .status = 301, .headers = "Location: /2\r\n" });
    sh_on(sh, "GET", "/2",
          &(struct sh_reply){ .status = 302, .headers = "Location: {BASE}/3\r\n" });
    sh_on(sh, "GET", "/3", &(struct sh_reply){ .status = 307, .headers = "Location: 4\r\n" });
    sh_on(sh, "GET", "/4", &(struct sh_reply){ .body = "there" });
    sh_on(sh, "GET", "/0", &(struct sh_reply){ .status = 308, .headers = "Location: /1\r\n" });
    ck_ok(get_following("/1"));
    ck_assert_str_eq(cm_buf_str(&resp.body), "there");
    ck_status(get_following("/0"), CM_E_LIMIT);
    ck_ok(get("/1", 100)); /* not asked to follow */
    ck_assert_int_eq(resp.status, 301);
}
END_TEST

START_TEST(post_never_follows)
{
    sh_on(sh, "POST", "/p", &(struct sh_reply){ .status = 307, .headers = "Location: /q\r\n" });
    ck_ok(post("/p", "body"));
    ck_assert_int_eq(resp.status, 307);
    ck_assert_uint_eq(sh_count(sh, NULL, "/q"), 0);
}
END_TEST

START_TEST(redirects_lead_to_http_only_and_not_to_local_addresses_elsewhere)
{
    struct scripted_http *other = sh_start(0);
    char *to = cm_asprintf("Location: %s/x\r\n", sh_base(other));

    sh_on(sh, "GET", "/f",
          &(struct sh_reply){ .status = 302, .headers = "Location: file:///x\r\n" });
    sh_on(sh, "GET", "/o", &(struct sh_reply){ .status = 302, .headers = to });
    sh_on(sh, "GET", "/n", &(struct sh_reply){ .status = 302 });
    ck_status(get_following("/f"), CM_E_PARSE);
    ck_status(get_following("/o"), CM_E_POLICY);
    ck_status(get_following("/n"), CM_E_PARSE);
    ck_assert_uint_eq(sh_count(other, NULL, NULL), 0);
    sh_stop(other);
    free(to);
}
END_TEST

/* ---------------------------------------------------------- cancel and deadline */

struct shot {
    struct cm_cancel *cancel;
    _Atomic int64_t fired_ms;
};

static void *fire_later(void *arg)
{
    struct shot *s = arg;
    const struct cm_env *env = cm_env_system();

    ck_assert_int_eq(env->wait(env, NULL, 100 * CM_NS_PER_MS), CM_OK);
    s->fired_ms = real_ms();
    cm_cancel_fire(s->cancel);
    return NULL;
}

static void cancel_during(enum sh_fault fault)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct shot shot = { 0 };
    pthread_t thread;
    struct cm_op op = { 0 };

    ck_ok(cm_cancel_new(NULL, &shot.cancel, &err));
    op.cancel = shot.cancel;
    sh_clear(sh);
    sh_on(sh, "GET", "/s",
          &(struct sh_reply){ .fault = fault, .delay_ms = 20, .body = "0123456789" });
    ck_assert_int_eq(pthread_create(&thread, NULL, fire_later, &shot), 0);
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_CANCELED);
    ck_assert_int_lt(real_ms() - shot.fired_ms, 50);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    cm_cancel_free(shot.cancel);
}

START_TEST(cancel_returns_at_once)
{
    cancel_during(SH_STALL);
    cancel_during(SH_SLOW_HEADERS);
    cancel_during(SH_SLOW_BODY);
}
END_TEST

START_TEST(cancelled_before_it_begins_sends_nothing)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct cm_cancel *cancel = NULL;
    struct cm_op op = { 0 };

    ck_ok(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    op.cancel = cancel;
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_CANCELED);
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    cm_cancel_free(cancel);
}
END_TEST

START_TEST(deadline_returns_at_once)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct cm_op op = cm_op_within(NULL, 150 * CM_NS_PER_MS);
    int64_t t0 = real_ms();

    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_STALL });
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_TIMEOUT);
    ck_assert_int_ge(real_ms() - t0, 148);
    ck_assert_int_lt(real_ms() - t0, 200);
    ck_has(err.msg, "/s");
}
END_TEST

START_TEST(deadline_on_a_simulated_clock_is_seen)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    struct jump_env clock;
    struct cm_op op;
    int64_t t0 = real_ms();

    jump_env_init(&clock);
    op = (struct cm_op){ .env = &clock.env };
    op = cm_op_within(&op, 40 * CM_NS_PER_S);
    jump_by(&clock, 40 * CM_NS_PER_S - 100 * CM_NS_PER_MS);
    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_STALL });
    ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_TIMEOUT);
    ck_assert_int_lt(real_ms() - t0, 1000);
}
END_TEST

/* The transfers that were left behind do not stand in the way of others, nor of the end. */
START_TEST(free_is_prompt_with_abandoned_requests)
{
    const struct cm_http_request req = { .method = "GET",
                                         .url = sh_url(sh, "/s"),
                                         .max_body = 100 };
    int64_t t0;

    sh_on(sh, "GET", "/s", &(struct sh_reply){ .fault = SH_STALL });
    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "x" });
    for (int i = 0; i < 20; i++) {
        struct cm_op op = cm_op_within(NULL, 5 * CM_NS_PER_MS);

        ck_status(cm_http_do(http, &op, &req, &resp, &err), CM_E_TIMEOUT);
    }
    t0 = real_ms();
    ck_ok(get("/a", 10));
    cm_http_free(http);
    http = NULL;
    ck_assert_int_lt(real_ms() - t0, 200);
}
END_TEST

/* -------------------------------------------------------------------- threads */

#define THREADS  20
#define REQUESTS 50

static void echo(void *user, struct scripted_http *server, const struct sh_request *req,
                 struct sh_reply *reply)
{
    char *s = cm_asprintf("echo:%s", req->body);

    (void)user;
    reply->status = 200;
    reply->body = sh_keep(server, s);
}

static void *hammer(void *arg)
{
    struct cm_http_response r = CM_HTTP_RESPONSE_INIT;
    struct cm_err e = CM_ERR_INIT;
    uintptr_t wrong = 0;

    for (int i = 0; i < REQUESTS; i++) {
        char body[64];
        struct cm_http_request req = {
            .method = "POST", .url = arg, .max_body = 100, .content_type = "text/plain"
        };

        (void)snprintf(body, sizeof body, "%p-%d", (void *)&r, i);
        req.body = cm_span_str(body);
        if (i % 10 == 9) { /* some leave early */
            struct cm_op op = cm_op_within(NULL, 200000);
            cm_status rc = cm_http_do(http, &op, &req, &r, &e);

            wrong += rc != CM_OK && rc != CM_E_TIMEOUT;
            continue;
        }
        if (cm_http_do(http, NULL, &req, &r, &e) != CM_OK ||
            strncmp(cm_buf_str(&r.body), "echo:", 5) != 0 ||
            strcmp(cm_buf_str(&r.body) + 5, body) != 0)
            wrong++;
    }
    cm_http_response_free(&r);
    return (void *)wrong;
}

START_TEST(twenty_threads_get_their_own_answers)
{
    pthread_t threads[THREADS];
    char *url = cm_asprintf("%s/echo", sh_base(sh));

    sh_handle(sh, "POST", "/echo", echo, NULL);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, url), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;

        ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
        ck_assert_ptr_null(wrong);
    }
    free(url);
}
END_TEST

START_TEST(child_of_fork_can_free_and_is_refused_requests)
{
    pid_t child;
    int status = 0;

    sh_on(sh, "GET", "/a", &(struct sh_reply){ .body = "x" });
    ck_ok(get("/a", 10));
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        const struct cm_http_request req = { .method = "GET",
                                             .url = "http://127.0.0.1:1/",
                                             .max_body = 10 };
        cm_status rc = cm_http_do(http, NULL, &req, &resp, &err);

        cm_http_free(http);
        _exit(rc == CM_E_STATE ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_ok(get("/a", 10));
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        answers_come_whole_whatever_their_status,
        post_carries_body_type_and_agent_but_no_expect,
        header_lines_are_sent_and_deletes_are,
        empty_post_and_head_work,
        environment_proxies_are_not_looked_at,
        unreachable_peer_is_a_network_failure,
        plain_http_is_refused_by_default,
        other_schemes_and_bad_urls_are_refused,
        url_length_is_capped,
        missing_or_useless_ca_file_is_an_error_at_once,
        local_addresses_are_refused_on_request,
        get_follows_three_redirects_and_no_fourth,
        post_never_follows,
        redirects_lead_to_http_only_and_not_to_local_addresses_elsewhere,
        cancel_returns_at_once,
        cancelled_before_it_begins_sends_nothing,
        deadline_returns_at_once,
        deadline_on_a_simulated_clock_is_seen,
        free_is_prompt_with_abandoned_requests,
        twenty_threads_get_their_own_answers,
        child_of_fork_can_free_and_is_refused_requests,
    };
    Suite *s = suite_create("http");

    ADD_TESTS(s, "http", setup, teardown, all);
    return run_suite(s);
}
