/* SPDX-License-Identifier: Apache-2.0 */
#include "core.h"
#include "issuers.h"
#include "run.h"
#include "scripted_http.h"

#include <dirent.h>
#include <string.h>

/* The built-in fetcher, through its table. */

static struct cm_err err;
static struct scripted_http *sh;
static struct cm_fetcher *fetcher;
static struct cm_buf body = CM_BUF_INIT(4096);
static int status;

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call) ck_status(call, CM_OK)

static void begin(bool allow_local)
{
    const struct cm_http_fetcher_options o = { .size = sizeof o,
                                               .user_agent = "the test",
                                               .allow_local = allow_local };

    ck_ok(cm_http_fetcher_new(&o, &fetcher, &err));
}

static void set_up(void)
{
    sh = sh_start(0);
    fetcher = NULL;
    cm_buf_reset(&body);
    status = 0;
}

static void tear_down(void)
{
    if (fetcher != NULL)
        fetcher->ops->destroy(fetcher);
    sh_stop(sh);
    cm_buf_free(&body);
}

static cm_status fetch(const char *method, const char *path, size_t max_body, int64_t timeout_ms)
{
    const struct cm_fetch req = { .size = sizeof req,
                                  .method = method,
                                  .url = sh_url(sh, path),
                                  .content_type = "application/ocsp-request",
                                  .accept = "application/ocsp-response",
                                  .body = cm_span_str(strcmp(method, "POST") == 0 ? "ask" : ""),
                                  .max_body = max_body,
                                  .timeout_ns = timeout_ms * CM_NS_PER_MS };

    return fetcher->ops->fetch(fetcher, NULL, &req, &status, &body, &err);
}

static int entries(const char *dir)
{
    DIR *d = opendir(dir);
    int n = -2; /* . and .. */

    ck_assert_ptr_nonnull(d);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

START_TEST(any_answer_is_handed_over_with_its_status)
{
    begin(true);
    sh_on(sh, "POST", "/ocsp", &(struct sh_reply){ .body = "answer" });
    sh_on(sh, "GET", "/none", &(struct sh_reply){ .status = 404, .body = "no" });
    ck_ok(fetch("POST", "/ocsp", 100, 5000));
    ck_assert_int_eq(status, 200);
    ck_assert_str_eq(cm_buf_str(&body), "answer");
    ck_assert_str_eq(sh_last_body(sh, "/ocsp"), "ask");
    ck_assert_ptr_nonnull(strstr(sh_last_header(sh, "/ocsp"), "application/ocsp-request"));
    ck_assert_ptr_nonnull(strstr(sh_last_header(sh, "/ocsp"), "the test"));
    ck_ok(fetch("GET", "/none", 100, 5000));
    ck_assert_int_eq(status, 404);
    ck_assert_str_eq(cm_buf_str(&body), "answerno"); /* appended */
}
END_TEST

START_TEST(only_a_get_is_redirected)
{
    begin(true);
    sh_on(sh, "*", "/old",
          &(struct sh_reply){ .status = 302, .headers = "Location: {BASE}/new\r\n" });
    sh_on(sh, "*", "/new", &(struct sh_reply){ .body = "found" });
    ck_ok(fetch("POST", "/old", 100, 5000));
    ck_assert_int_eq(status, 302);
    ck_assert_uint_eq(sh_count(sh, NULL, "/new"), 0);
    ck_ok(fetch("GET", "/old", 100, 5000));
    ck_assert_int_eq(status, 200);
    ck_assert_str_eq(cm_buf_str(&body), "found");
    sh_on(sh, "GET", "/round",
          &(struct sh_reply){ .status = 302, .headers = "Location: {BASE}/round\r\n" });
    ck_status(fetch("GET", "/round", 100, 5000), CM_E_LIMIT);
}
END_TEST

START_TEST(addresses_of_this_machine_are_refused)
{
    begin(false);
    sh_on(sh, "*", "/x", &(struct sh_reply){ .body = "secret" });
    ck_status(fetch("GET", "/x", 100, 5000), CM_E_POLICY);
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
    ck_assert_uint_eq(body.len, 0);
}
END_TEST

START_TEST(size_and_time_are_bounded)
{
    begin(true);
    sh_on(sh, "*", "/long", &(struct sh_reply){ .fault = SH_ENDLESS_BODY });
    sh_on(sh, "*", "/never", &(struct sh_reply){ .fault = SH_STALL });
    ck_status(fetch("GET", "/long", 100, 5000), CM_E_LIMIT);
    ck_status(fetch("GET", "/never", 100, 200), CM_E_TIMEOUT);
    ck_assert_uint_eq(body.len, 0);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(no_thread_and_no_descriptor_before_the_first_request)
{
    int threads = entries("/proc/self/task");
    int fds = entries("/proc/self/fd");

    begin(true);
    ck_assert_int_eq(entries("/proc/self/task"), threads);
    ck_assert_int_eq(entries("/proc/self/fd"), fds);
    sh_on(sh, "*", "/x", &(struct sh_reply){ .body = "y" });
    ck_ok(fetch("GET", "/x", 100, 5000));
    ck_assert_int_gt(entries("/proc/self/task"), threads);
}
END_TEST

START_TEST(trust_that_is_not_there_is_an_error_at_once)
{
    const struct cm_http_fetcher_options o = { .size = sizeof o, .ca_root_file = "/nonexistent" };

    ck_status(cm_http_fetcher_new(&o, &fetcher, &err), CM_E_NOTFOUND);
    ck_status(cm_http_fetcher_new(&o, NULL, &err), CM_E_INVAL);
    ck_ok(cm_http_fetcher_new(NULL, &fetcher, &err));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        any_answer_is_handed_over_with_its_status,
        only_a_get_is_redirected,
        addresses_of_this_machine_are_refused,
        size_and_time_are_bounded,
        no_thread_and_no_descriptor_before_the_first_request,
        trust_that_is_not_there_is_an_error_at_once,
    };

    return run_tests_how(
        "fetcher", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 60, .setup = set_up, .teardown = tear_down });
}
