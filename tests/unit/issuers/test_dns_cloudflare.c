/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"
#include "scripted_http.h"

#include <certmesh/cm_dns.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The Cloudflare provider against a server that keeps zones and records as the API v4 does. */

#define TOKEN "cf-T0ken_s3cret"
#define VALUE "-oqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define OTHER "AoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define ZONE  "023e105f4ecef8ad9ca31a8372d0c353"

static struct cm_err err;
static struct scripted_http *sh;
static struct cm_dns_provider *provider;
static struct cm_dns_record rec;
static char token_file[64];

/* What the server has; page by page, two to one. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char records[16][160]; /* content as it was put in */
static unsigned ids[16];
static unsigned n_records;
static unsigned next_id = 1;
static bool unquoted; /* it gives content without quotes */

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call)   ck_status(call, CM_OK)
#define ck_says(text) ck_assert_msg(strstr(err.msg, text) != NULL, "'%s'", err.msg)

#define SAY(...) sh_keep(server, cm_asprintf(__VA_ARGS__))

static void zones(void *user, struct scripted_http *server, const struct sh_request *req,
                  struct sh_reply *reply)
{
    (void)user;
    if (strstr(req->header, "Authorization: Bearer " TOKEN "\r\n") == NULL) {
        reply->status = 403;
        reply->body =
            "{\"success\":false,\"errors\":[{\"code\":9109,\"message\":\"Invalid access "
            "token\",\"error_chain\":[{\"code\":1,\"message\":\"why\"}]}],\"result\":null}";
    } else if (strstr(req->path, "?name=example.com&") != NULL) {
        reply->body = "{\"success\":true,\"errors\":[],\"result\":[{\"id\":\"" ZONE
                      "\",\"name\":\"example.com\"}]}";
    } else {
        reply->body = "{\"success\":true,\"errors\":[],\"result\":[]}";
    }
    (void)server;
}

static void create(struct scripted_http *server, const struct sh_request *req,
                   struct sh_reply *reply)
{
    struct cm_span body = { (const uint8_t *)req->body, req->body_len };
    char *begin = memmem(body.data, body.len, "\"content\":\"\\\"", 13);
    char content[100];

    ck_assert_ptr_nonnull(begin);
    ck_assert_ptr_nonnull(memmem(body.data, body.len, "\"type\":\"TXT\"", 12));
    ck_assert_ptr_nonnull(memmem(body.data, body.len, "\"ttl\":60", 8));
    ck_assert_ptr_nonnull(
        memmem(body.data, body.len, "\"name\":\"_acme-challenge.www.example.com\"", 38));
    begin += 13;
    (void)snprintf(content, sizeof content, "%.*s", (int)strcspn(begin, "\\"), begin);
    for (unsigned i = 0; i < n_records; i++) {
        if (strcmp(records[i], content) == 0) {
            reply->status = 400;
            reply->body =
                "{\"success\":false,\"errors\":[{\"code\":81058,\"message\":\"An identical "
                "record already exists.\"}],\"result\":null}";
            return;
        }
    }
    ck_assert_uint_lt(n_records, 16);
    (void)snprintf(records[n_records], sizeof records[0], "%s", content);
    ids[n_records++] = next_id++;
    reply->body =
        SAY("{\"success\":true,\"errors\":[],\"result\":{\"id\":\"%032x\"}}", next_id - 1);
}

static void list(struct scripted_http *server, const struct sh_request *req, struct sh_reply *reply)
{
    const char *at = strstr(req->path, "&page=");
    unsigned page = at != NULL ? (unsigned)strtoul(at + 6, NULL, 10) : 1;
    struct cm_buf out = CM_BUF_INIT(8192);
    const char *q = unquoted ? "" : "\\\"";

    ck_assert_ptr_nonnull(strstr(req->path, "type=TXT&name=_acme-challenge.www.example.com&"));
    ck_ok(cm_buf_puts(&out, "{\"success\":true,\"errors\":[],\"result\":[", &err));
    for (unsigned i = (page - 1) * 2; i < page * 2 && i < n_records; i++)
        ck_ok(cm_buf_printf(&out, &err, "%s{\"id\":\"%032x\",\"content\":\"%s%s%s\"}",
                            i % 2 > 0 ? "," : "", ids[i], q, records[i], q));
    ck_ok(cm_buf_printf(&out, &err, "],\"result_info\":{\"page\":%u,\"total_pages\":%u}}", page,
                        (n_records + 1) / 2));
    reply->body = SAY("%s", cm_buf_str(&out));
    cm_buf_free(&out);
}

static void on_records(void *user, struct scripted_http *server, const struct sh_request *req,
                       struct sh_reply *reply)
{
    (void)user;
    (void)pthread_mutex_lock(&lock);
    ck_assert_ptr_nonnull(strstr(req->header, "Authorization: Bearer " TOKEN "\r\n"));
    if (strcmp(req->method, "POST") == 0) {
        create(server, req, reply);
    } else if (strcmp(req->method, "GET") == 0) {
        list(server, req, reply);
    } else {
        unsigned id = (unsigned)strtoul(strrchr(req->path, '/') + 1, NULL, 16);

        reply->status = 404;
        reply->body =
            "{\"success\":false,\"errors\":[{\"code\":81044,\"message\":\"Record does not "
            "exist.\"}]}";
        for (unsigned i = 0; i < n_records; i++) {
            if (ids[i] != id)
                continue;
            (void)memmove(records[i], records[i + 1], sizeof records[0] * (n_records - i - 1));
            (void)memmove(&ids[i], &ids[i + 1], sizeof ids[0] * (n_records - i - 1));
            n_records--;
            reply->status = 200;
            reply->body = "{\"success\":true,\"errors\":[],\"result\":{\"id\":\"x\"}}";
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

static void write_token(const char *text, mode_t mode)
{
    int fd;

    if (token_file[0] != '\0')
        (void)unlink(token_file);
    (void)snprintf(token_file, sizeof token_file, "/tmp/cm-token-XXXXXX");
    fd = mkstemp(token_file);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    (void)close(fd);
}

static cm_status open_with(const char *more)
{
    char spec[256];

    cm_dns_provider_close(provider);
    provider = NULL;
    (void)snprintf(spec, sizeof spec, "cloudflare:%s/v4/?token-file=%s%s", sh_base(sh), token_file,
                   more);
    return cm_dns_provider_open(spec, NULL, &provider, &err);
}

static void set_up(void)
{
    sh = sh_start(0);
    provider = NULL;
    n_records = 0;
    unquoted = false;
    err = (struct cm_err)CM_ERR_INIT;
    (void)unsetenv("CF_DNS_API_TOKEN");
    (void)unsetenv("CF_DNS_API_TOKEN_FILE");
    rec = (struct cm_dns_record){ .size = sizeof rec,
                                  .fqdn = "_acme-challenge.www.example.com",
                                  .type = "TXT",
                                  .value = VALUE,
                                  .ttl = 30,
                                  .ident = "www.example.com",
                                  .challenge_name = "_acme-challenge.www.example.com",
                                  .token = "t",
                                  .key_authorization = "t.k" };
    write_token(TOKEN "\n", 0600);
    ck_ok(open_with(""));
}

static void tear_down(void)
{
    cm_dns_provider_close(provider);
    sh_stop(sh);
    (void)unlink(token_file);
    token_file[0] = '\0';
}

static void serve(void)
{
    sh_handle(sh, "GET", "/v4/zones?*", zones, NULL);
    sh_handle(sh, "*", "/v4/zones/" ZONE "/dns_records*", on_records, NULL);
}

static cm_status append(const char *value)
{
    rec.value = value;
    return cm_dns_provider_append(provider, NULL, &rec, &err);
}

static cm_status take_down(const char *value)
{
    rec.value = value;
    return cm_dns_provider_remove(provider, NULL, &rec, &err);
}

START_TEST(records_come_and_go_beside_others)
{
    serve();
    ck_ok(append(VALUE));
    ck_ok(append(OTHER));
    ck_ok(append(VALUE)); /* there already */
    ck_assert_uint_eq(n_records, 2);
    ck_ok(take_down(VALUE));
    ck_assert_uint_eq(n_records, 1);
    ck_assert_str_eq(records[0], OTHER);
    ck_ok(take_down(VALUE)); /* gone already */
    unquoted = true;
    ck_ok(take_down(OTHER));
    ck_assert_uint_eq(n_records, 0);
    /* The zone was looked for from the record upwards, and never "com". */
    ck_assert_uint_gt(sh_count(sh, "GET", "/v4/zones?name=www.example.com&per_page=50"), 0);
    ck_assert_uint_eq(sh_count(sh, "GET", "/v4/zones?name=com&per_page=50"), 0);
}
END_TEST

START_TEST(all_pages_are_looked_at)
{
    serve();
    for (unsigned i = 0; i < 7; i++) {
        (void)snprintf(records[i], sizeof records[0], "other%u", i);
        ids[i] = 100 + i;
    }
    n_records = 7;
    ck_ok(append(VALUE));
    ck_assert_uint_eq(n_records, 8);
    ck_ok(take_down(VALUE));
    ck_assert_uint_eq(n_records, 7);
}
END_TEST

START_TEST(a_zone_that_is_known_is_not_looked_for)
{
    serve();
    ck_ok(open_with("&zone-id=" ZONE));
    ck_ok(append(VALUE));
    ck_assert_uint_eq(n_records, 1);
    ck_ok(open_with(""));
    rec.zone = "example.com";
    ck_ok(take_down(VALUE));
    ck_assert_uint_eq(sh_count(sh, "GET", "/v4/zones?name=www.example.com&per_page=50"), 0);
    rec.zone = "example.net";
    ck_status(append(VALUE), CM_E_NOTFOUND);
    ck_says("example.net");
    ck_says("Zone:Read");
}
END_TEST

START_TEST(what_it_says_is_quoted_without_the_token)
{
    serve();
    write_token("wrong-t0ken", 0600);
    ck_ok(open_with(""));
    ck_status(append(VALUE), CM_E_PERM);
    ck_says("HTTP 403: 9109 Invalid access token (why)");
    ck_assert_ptr_null(strstr(err.msg, "wrong-t0ken"));

    sh_clear(sh);
    sh_on(sh, "*", "*",
          &(struct sh_reply){ .status = 400,
                              .body = "{\"success\":false,\"errors\":[{\"code\":6003,\"message\":"
                                      "\"no: Bearer wrong-t0ken\"}]}" });
    ck_status(append(VALUE), CM_E_IO);
    ck_says("6003 no: Bearer ***********");
    sh_clear(sh);
    sh_on(sh, "*", "*",
          &(struct sh_reply){ .status = 200, .body = "<html>\nwrong-t0ken \x1b[31m</html>" });
    ck_status(append(VALUE), CM_E_IO);
    ck_says("<html>\\x0a*********** \\x1b[31m");
    /* Where the quotation is cut there is none of it, either. */
    sh_clear(sh);
    sh_on(sh, "*", "*",
          &(struct sh_reply){ .status = 200,
                              .body = sh_keep(sh, cm_asprintf("%0190d wrong-t0ken", 0)) });
    ck_status(append(VALUE), CM_E_IO);
    ck_assert_ptr_null(strstr(err.msg, "wron"));
    sh_clear(sh);
    sh_on(sh, "*", "*", &(struct sh_reply){ .fault = SH_ENDLESS_BODY });
    ck_status(append(VALUE), CM_E_LIMIT);
}
END_TEST

START_TEST(limits_are_waited_for_when_that_is_short)
{
    struct cm_op op;

    sh_on(sh, "POST", "*",
          &(struct sh_reply){ .status = 429, .headers = "Retry-After: 1\r\n", .times = 1 });
    sh_on(sh, "GET", "/v4/zones?*", &(struct sh_reply){ .status = 502, .times = 1 });
    serve();
    ck_ok(append(VALUE));
    ck_assert_uint_eq(n_records, 1);

    sh_clear(sh);
    sh_on(sh, "*", "*", &(struct sh_reply){ .status = 429, .headers = "Retry-After: 290\r\n" });
    ck_status(append(VALUE), CM_E_RATELIMITED);
    ck_assert_int_eq(err.retry_after_s, 290);
    ck_says("290 s");
    /* Not even a second of it, if there is none. */
    sh_clear(sh);
    sh_on(sh, "*", "*", &(struct sh_reply){ .status = 429, .headers = "Retry-After: 50\r\n" });
    op = cm_op_within(NULL, 20 * CM_NS_PER_S);
    ck_status(cm_dns_provider_append(provider, &op, &rec, &err), CM_E_RATELIMITED);
}
END_TEST

START_TEST(ids_that_would_lead_elsewhere_are_not_used)
{
    sh_on(sh, "GET", "/v4/zones?*",
          &(struct sh_reply){ .body =
                                  "{\"success\":true,\"result\":[{\"id\":\"../../user\",\"name\":"
                                  "\"www.example.com\"},{\"id\":\"ab/cd\",\"name\":"
                                  "\"example.com\"},{\"name\":\"example.com\"},7,null]}" });
    ck_status(append(VALUE), CM_E_NOTFOUND);
    ck_assert_uint_eq(sh_count(sh, "POST", NULL), 0);
}
END_TEST

START_TEST(the_token_comes_from_a_private_file_or_the_environment)
{
    struct cm_dns_provider *p = NULL;
    char spec[128];

    write_token(TOKEN, 0644);
    ck_status(open_with(""), CM_E_PERM);
    ck_says("chmod 0600");
    write_token("two words", 0600);
    ck_status(open_with(""), CM_E_INVAL);
    ck_assert_ptr_null(strstr(err.msg, "two words"));
    write_token("\n", 0600);
    ck_status(open_with(""), CM_E_INVAL);
    ck_status(open_with("&token=x"), CM_E_INVAL);
    ck_says("'token'");
    (void)snprintf(spec, sizeof spec, "cloudflare:%s/v4", sh_base(sh));
    ck_status(cm_dns_provider_open(spec, NULL, &p, &err), CM_E_INVAL);
    ck_says("CF_DNS_API_TOKEN");
    ck_assert_int_eq(setenv("CF_DNS_API_TOKEN", TOKEN, 1), 0);
    serve();
    ck_ok(cm_dns_provider_open(spec, NULL, &p, &err));
    ck_ok(cm_dns_provider_append(p, NULL, &rec, &err));
    cm_dns_provider_close(p);
    p = NULL;
    ck_ok(cm_dns_provider_open("cloudflare:", NULL, &p, &err));
    ck_assert_str_eq(p->ops->describe(p), "cloudflare:");
    cm_dns_provider_close(p);
    p = NULL;
    ck_status(cm_dns_provider_open("cloudflare:http://api.example.com/", NULL, &p, &err),
              CM_E_POLICY);
    ck_status(cm_dns_provider_open("cloudflare:http://127.0.0.1.example.com/", NULL, &p, &err),
              CM_E_POLICY);
    ck_status(cm_dns_provider_open("cloudflare:https://u:p@api.example.com/", NULL, &p, &err),
              CM_E_INVAL);
    ck_status(cm_dns_provider_open("cloudflare:ftp://api.example.com/", NULL, &p, &err),
              CM_E_INVAL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        records_come_and_go_beside_others,
        all_pages_are_looked_at,
        a_zone_that_is_known_is_not_looked_for,
        what_it_says_is_quoted_without_the_token,
        limits_are_waited_for_when_that_is_short,
        ids_that_would_lead_elsewhere_are_not_used,
        the_token_comes_from_a_private_file_or_the_environment,
    };

    return run_tests_how(
        "dns_cloudflare", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 120, .setup = set_up, .teardown = tear_down });
}
