/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"
#include "scripted_http.h"

#include <certmesh/cm_dns.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The acme-dns provider against a scripted server, with files as other clients write them. */

#define VALUE "-oqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define FULL  "8e5700ea-a4bf-41c7-8a77-e990661dcc6a.auth.example.org"
#define SUB   "8e5700ea-a4bf-41c7-8a77-e990661dcc6a"
#define USER  "c36f50e8-4632-44f0-83fe-e070fef28a10"
#define PASS  "htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9KW3F7Z"
#define ACCOUNT                                                                                    \
    "{\"allowfrom\":[],\"fulldomain\":\"" FULL "\",\"password\":\"" PASS "\",\"subdomain\":\"" SUB \
    "\",\"username\":\"" USER "\"}"

static struct cm_err err;
static struct scripted_http *sh;
static struct cm_dns_provider *provider;
static struct cm_dns_record rec;
static char dir[64];
static char file[96];

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call)   ck_status(call, CM_OK)
#define ck_says(text) ck_assert_msg(strstr(err.msg, text) != NULL, "'%s'", err.msg)

static void accounts(const char *text, mode_t mode)
{
    FILE *f = fopen(file, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(file, mode), 0);
}

static cm_status open_with(const char *more)
{
    char spec[256];

    cm_dns_provider_close(provider);
    provider = NULL;
    (void)snprintf(spec, sizeof spec, "acme-dns:%s?accounts=%s%s", sh_base(sh), file, more);
    return cm_dns_provider_open(spec, NULL, &provider, &err);
}

static void set_up(void)
{
    sh = sh_start(0);
    provider = NULL;
    err = (struct cm_err)CM_ERR_INIT;
    (void)snprintf(dir, sizeof dir, "/tmp/cm-acmedns-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(file, sizeof file, "%s/accounts.json", dir);
    rec = (struct cm_dns_record){ .size = sizeof rec,
                                  .fqdn = FULL,
                                  .type = "TXT",
                                  .value = VALUE,
                                  .ttl = 60,
                                  .ident = "www.example.com",
                                  .challenge_name = "_acme-challenge.www.example.com",
                                  .token = "t",
                                  .key_authorization = "t.k" };
}

static void tear_down(void)
{
    char command[128];

    cm_dns_provider_close(provider);
    sh_stop(sh);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

static cm_status append(void)
{
    return cm_dns_provider_append(provider, NULL, &rec, &err);
}

START_TEST(a_value_is_set_with_the_account_of_the_name)
{
    const char *body;

    accounts("{\"other.example.com\":{},\"www.example.com\":" ACCOUNT "}", 0600);
    ck_ok(open_with(""));
    sh_on(sh, "POST", "/update", &(struct sh_reply){ .body = "{\"txt\":\"" VALUE "\"}" });
    ck_ok(append());
    body = sh_last_body(sh, "/update");
    ck_assert_str_eq(body, "{\"subdomain\":\"" SUB "\",\"txt\":\"" VALUE "\"}");
    ck_assert_ptr_nonnull(strstr(sh_last_header(sh, "/update"), "X-Api-User: " USER "\r\n"));
    ck_assert_ptr_nonnull(strstr(sh_last_header(sh, "/update"), "X-Api-Key: " PASS "\r\n"));
    ck_assert_ptr_nonnull(
        strstr(sh_last_header(sh, "/update"), "Content-Type: application/json\r\n"));
    ck_ok(cm_dns_provider_remove(provider, NULL, &rec, &err));
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 1);
}
END_TEST

START_TEST(the_name_that_a_cname_leads_to_finds_its_account)
{
    /* Several names may lead to one account. */
    accounts("{\"example.com\":" ACCOUNT "}", 0600);
    ck_ok(open_with(""));
    sh_on(sh, "POST", "/update", &(struct sh_reply){ .body = "{}" });
    ck_ok(append());
    rec.fqdn = "elsewhere.example.net";
    ck_status(append(), CM_E_NOTFOUND);
    rec.ident = "example.com";
    ck_status(append(), CM_E_STATE);
    ck_says("elsewhere.example.net");
    ck_says(FULL);
}
END_TEST

START_TEST(without_the_cname_it_is_told_what_to_set)
{
    accounts("{\"www.example.com\":" ACCOUNT "}", 0600);
    ck_ok(open_with(""));
    rec.fqdn = rec.challenge_name;
    ck_status(append(), CM_E_STATE);
    ck_says("_acme-challenge.www.example.com. CNAME " FULL ".");
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
}
END_TEST

START_TEST(an_account_is_made_only_when_that_is_wanted)
{
    struct cm_buf text = CM_BUF_INIT(4096);
    struct stat st;

    ck_status(open_with(""), CM_E_NOTFOUND);
    ck_says(file);
    accounts("{\"other.example.com\":" ACCOUNT "}", 0600);
    ck_ok(open_with(""));
    rec.fqdn = rec.challenge_name;
    ck_status(append(), CM_E_NOTFOUND);
    ck_says("register=yes");
    ck_assert_int_eq(unlink(file), 0);

    ck_ok(open_with("&register=yes"));
    sh_on(sh, "POST", "/register", &(struct sh_reply){ .status = 201, .body = ACCOUNT });
    sh_on(sh, "POST", "/update", &(struct sh_reply){ .body = "{}" });
    ck_status(append(), CM_E_STATE);
    ck_says("_acme-challenge.www.example.com. CNAME " FULL ".");
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_ok(cm_read_private_file(file, &text, &err));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), "\"www.example.com\""));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), PASS));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), sh_base(sh)));
    /* Not yet set: told again, not made again. */
    ck_status(append(), CM_E_STATE);
    ck_says("CNAME " FULL ".");
    rec.fqdn = FULL;
    ck_ok(append());
    ck_assert_uint_eq(sh_count(sh, "POST", "/register"), 1);
    /* A second name joins the first. */
    rec.ident = "b.example.com";
    rec.fqdn = rec.challenge_name = "_acme-challenge.b.example.com";
    ck_status(append(), CM_E_STATE);
    cm_buf_reset(&text);
    ck_ok(cm_read_private_file(file, &text, &err));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), "\"www.example.com\""));
    ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), "\"b.example.com\""));
    cm_buf_free(&text);
}
END_TEST

struct caller {
    pthread_t thread;
    struct cm_dns_record rec;
    char ident[32], challenge[64];
    cm_status rc;
};

static void *call_it(void *arg)
{
    struct caller *c = arg;

    c->rc = cm_dns_provider_append(provider, NULL, &c->rec, NULL);
    return NULL;
}

START_TEST(registrations_at_the_same_time_do_not_lose_each_other)
{
    struct caller callers[6];
    struct cm_buf text = CM_BUF_INIT(16384);

    ck_ok(open_with("&register=yes"));
    sh_on(sh, "POST", "/register",
          &(struct sh_reply){ .status = 201, .body = ACCOUNT, .delay_ms = 50 });
    for (size_t i = 0; i < CM_ARRAY_LEN(callers); i++) {
        struct caller *c = &callers[i];

        (void)snprintf(c->ident, sizeof c->ident, "n%zu.example.com", i / 2);
        (void)snprintf(c->challenge, sizeof c->challenge, "_acme-challenge.%s", c->ident);
        c->rec = rec;
        c->rec.ident = c->ident;
        c->rec.fqdn = c->rec.challenge_name = c->challenge;
        ck_ok(cm_thread_start(&c->thread, "caller", call_it, c, &err));
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(callers); i++) {
        ck_assert_int_eq(pthread_join(callers[i].thread, NULL), 0);
        ck_assert_int_eq(callers[i].rc, CM_E_STATE);
    }
    ck_assert_uint_eq(sh_count(sh, "POST", "/register"), 3);
    ck_ok(cm_read_private_file(file, &text, &err));
    for (size_t i = 0; i < CM_ARRAY_LEN(callers); i++)
        ck_assert_ptr_nonnull(strstr(cm_buf_str(&text), callers[i].ident));
    cm_buf_free(&text);
}
END_TEST

START_TEST(a_registration_that_gives_nothing_changes_nothing)
{
    ck_ok(open_with("&register=yes"));
    sh_on(sh, "POST", "/register",
          &(struct sh_reply){ .status = 201, .body = "{\"a\":1}", .times = 1 });
    sh_on(sh, "POST", "/register",
          &(struct sh_reply){ .status = 201,
                              .body = "{\"fulldomain\":\"a b\",\"subdomain\":\"a\",\"username\":"
                                      "\"u\",\"password\":\"p\"}",
                              .times = 1 });
    sh_on(sh, "POST", "/register", &(struct sh_reply){ .status = 404, .body = "nothing here" });
    ck_status(append(), CM_E_PARSE);
    ck_says("fulldomain");
    ck_status(append(), CM_E_PARSE);
    ck_status(append(), CM_E_NOTFOUND);
    ck_says("nothing here");
    ck_assert_int_ne(access(file, F_OK), 0);
}
END_TEST

START_TEST(passwords_stay_where_they_belong)
{
    accounts("{\"www.example.com\":" ACCOUNT "}", 0644);
    ck_status(open_with(""), CM_E_PERM);
    accounts("{\"www.example.com\":" ACCOUNT "}", 0600);
    ck_ok(open_with(""));
    sh_on(sh, "POST", "/update",
          &(struct sh_reply){ .status = 401, .body = "{\"error\":\"forbidden " PASS "\"}" });
    ck_status(append(), CM_E_PERM);
    ck_says("HTTP 401: forbidden ***");
    ck_assert_ptr_null(strstr(err.msg, PASS));
    /* An account of another server is not shown to this one. */
    accounts("{\"www.example.com\":{\"fulldomain\":\"" FULL "\",\"password\":\"" PASS
             "\",\"subdomain\":\"" SUB "\",\"username\":\"" USER
             "\",\"server_url\":\"https://auth.example.org\"}}",
             0600);
    ck_status(append(), CM_E_POLICY);
    ck_says("auth.example.org");
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 1);
    struct cm_dns_provider *p = NULL;
    ck_status(cm_dns_provider_open("acme-dns:http://auth.example.org?accounts=x", NULL, &p, &err),
              CM_E_POLICY);
    ck_status(cm_dns_provider_open("acme-dns:https://auth.example.org", NULL, &p, &err),
              CM_E_INVAL);
    ck_says("accounts");
}
END_TEST

START_TEST(a_damaged_file_is_named_and_left_alone)
{
    static const char *const bad[] = { "", "[]", "{\"www.example.com\":", "nonsense" };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        accounts(bad[i], 0600);
        ck_status(open_with("&register=yes"), CM_E_PARSE);
        ck_says(file);
    }
    accounts("{\"www.example.com\":{\"fulldomain\":\"" FULL "\",\"username\":\"a\\r\\nb\","
             "\"subdomain\":\"s\",\"password\":\"p\"}}",
             0600);
    ck_ok(open_with("&register=yes"));
    ck_status(append(), CM_E_PARSE);
    ck_says("username");
    ck_assert_uint_eq(sh_count(sh, NULL, NULL), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_value_is_set_with_the_account_of_the_name,
        the_name_that_a_cname_leads_to_finds_its_account,
        without_the_cname_it_is_told_what_to_set,
        an_account_is_made_only_when_that_is_wanted,
        registrations_at_the_same_time_do_not_lose_each_other,
        a_registration_that_gives_nothing_changes_nothing,
        passwords_stay_where_they_belong,
        a_damaged_file_is_named_and_left_alone,
    };

    return run_tests_how(
        "dns_acmedns", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 120, .setup = set_up, .teardown = tear_down });
}
