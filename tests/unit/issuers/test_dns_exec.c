/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_exec.h"
#include "run.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Hooks by the conventions of others: what they are called with, and what becomes of their ends. */

#define VALUE   "-oqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
#define KEYAUTH "tok-en_1.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

static struct cm_err err;
static char dir[64];
static char hook[96];
static char seen[4096];
static struct cm_dns_record rec;
static struct cm_dns_provider *provider;

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call)   ck_status(call, CM_OK)
#define ck_says(text) ck_assert_msg(strstr(err.msg, text) != NULL, "'%s'", err.msg)

static void set_up(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/cm-hook-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(hook, sizeof hook, "%s/hook.sh", dir);
    err = (struct cm_err)CM_ERR_INIT;
    provider = NULL;
    rec = (struct cm_dns_record){ .size = sizeof rec,
                                  .zone = "example.com",
                                  .fqdn = "_acme-challenge.www.example.com",
                                  .type = "TXT",
                                  .value = VALUE,
                                  .ttl = 60,
                                  .ident = "www.example.com",
                                  .challenge_name = "_acme-challenge.www.example.com",
                                  .token = "tok-en_1",
                                  .key_authorization = KEYAUTH };
}

static void tear_down(void)
{
    char command[128];

    cm_dns_provider_close(provider);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    ck_assert_int_eq(system(command), 0);
}

/* A hook that writes down what it is called with, then does @more. */
static void make(const char *more, const char *query)
{
    char spec[256];
    FILE *f = fopen(hook, "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_gt(fprintf(f,
                             "#!/bin/sh\n"
                             "{ for a in \"$@\"; do printf '[%%s]' \"$a\"; done; echo; } "
                             ">>\"${0%%/*}/seen\"\n%s\n",
                             more),
                     0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(chmod(hook, 0700), 0);
    cm_dns_provider_close(provider);
    provider = NULL;
    (void)snprintf(spec, sizeof spec, "exec:%s%s", hook, query);
    ck_ok(cm_dns_provider_open(spec, NULL, &provider, &err));
}

static const char *calls(void)
{
    char path[128];
    size_t n = 0;
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/seen", dir);
    f = fopen(path, "r");
    if (f != NULL) {
        n = fread(seen, 1, sizeof seen - 1, f);
        (void)fclose(f);
        (void)remove(path);
    }
    seen[n] = '\0';
    return seen;
}

static cm_status append(void)
{
    return cm_dns_provider_append(provider, NULL, &rec, &err);
}

static cm_status take_down(void)
{
    return cm_dns_provider_remove(provider, NULL, &rec, &err);
}

START_TEST(each_style_gets_what_its_own_client_hands_over)
{
    static const struct {
        const char *query, *add, *remove;
    } want[] = {
        { "", "[present][_acme-challenge.www.example.com.][" VALUE "]\n",
          "[cleanup][_acme-challenge.www.example.com.][" VALUE "]\n" },
        { "?style=lego", "[present][_acme-challenge.www.example.com.][" VALUE "]\n",
          "[cleanup][_acme-challenge.www.example.com.][" VALUE "]\n" },
        { "?style=lego-raw", "[present][--][www.example.com][tok-en_1][" KEYAUTH "]\n",
          "[cleanup][--][www.example.com][tok-en_1][" KEYAUTH "]\n" },
        { "?style=dehydrated", "[deploy_challenge][www.example.com][tok-en_1][" VALUE "]\n",
          "[clean_challenge][www.example.com][tok-en_1][" VALUE "]\n" },
        { "?style=uacme", "[begin][dns-01][www.example.com][tok-en_1][" VALUE "]\n",
          "[done][dns-01][www.example.com][tok-en_1][" VALUE "]\n" },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(want); i++) {
        make("", want[i].query);
        ck_ok(append());
        ck_assert_str_eq(calls(), want[i].add);
        ck_ok(take_down());
        ck_assert_str_eq(calls(), want[i].remove);
    }
}
END_TEST

START_TEST(a_cname_is_told_where_the_style_can)
{
    rec.fqdn = "d420c923.auth.example.org";
    make("", "?style=lego");
    ck_ok(append());
    ck_assert_str_eq(calls(), "[present][d420c923.auth.example.org.][" VALUE "]\n");
    make("", "?style=dehydrated");
    ck_status(append(), CM_E_UNSUPPORTED);
    ck_says("style lego");
    ck_assert_str_eq(calls(), "");
    rec.fqdn = "_acme-challenge.example.net";
    ck_ok(append());
    ck_assert_str_eq(calls(), "[deploy_challenge][example.net][tok-en_1][" VALUE "]\n");
}
END_TEST

/* Past the gate, as a program linked with the room could. */
START_TEST(nothing_odd_reaches_a_command_line)
{
    static const char *const names[] = { "",
                                         "-rf.example.com",
                                         "a.-b.example.com",
                                         "a b.example.com",
                                         "$(id).example.com",
                                         "`id`",
                                         "a;id",
                                         "a\nb",
                                         "a'b",
                                         "a\"b",
                                         "../../etc",
                                         "a..b",
                                         ".a",
                                         "a.",
                                         "*.example.com",
                                         "ex\xc3\xa4mple.com",
                                         "A.example.com" };
    static const char *const words[] = {
        "", "a b", "a;b", "$(a)", "a\n", "a=b", "a/b", "'", "\x7f"
    };
    struct dns_exec_call call;

    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++) {
        struct cm_dns_record bad = rec;

        bad.fqdn = names[i];
        ck_status(dns_exec_build(DNS_EXEC_LEGO, "/x", true, &bad, &call, &err), CM_E_INVAL);
        bad = rec;
        bad.ident = names[i];
        ck_status(dns_exec_build(DNS_EXEC_LEGO, "/x", true, &bad, &call, &err), CM_E_INVAL);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(words); i++) {
        struct cm_dns_record bad = rec;

        bad.value = words[i];
        ck_status(dns_exec_build(DNS_EXEC_LEGO, "/x", true, &bad, &call, &err), CM_E_INVAL);
        bad = rec;
        bad.token = words[i];
        ck_status(dns_exec_build(DNS_EXEC_UACME, "/x", true, &bad, &call, &err), CM_E_INVAL);
        bad = rec;
        bad.key_authorization = words[i];
        ck_status(dns_exec_build(DNS_EXEC_LEGO_RAW, "/x", true, &bad, &call, &err), CM_E_INVAL);
    }
}
END_TEST

START_TEST(a_failure_is_quoted_without_the_secrets_it_was_given)
{
    ck_assert_int_eq(setenv("CM_HOOK_TOKEN", "s3cr3t-t0ken", 1), 0);
    ck_assert_int_eq(setenv("CM_HOOK_OTHER", "other", 1), 0);
    make("echo \"zone not found: token=$CM_HOOK_TOKEN other=${CM_HOOK_OTHER-none}\" >&2; exit 3",
         "?env=CM_HOOK_TOKEN");
    ck_status(append(), CM_E_IO);
    ck_says("exit status 3");
    ck_says("zone not found: token=************ other=none");
    ck_says(rec.fqdn);
    make("kill -TERM $$", "");
    ck_status(append(), CM_E_IO);
    ck_says("signal 15");
}
END_TEST

START_TEST(the_environment_is_clean_and_says_what_the_record_is)
{
    char path[128];
    char line[512];
    unsigned known = 0;
    FILE *f;

    ck_assert_int_eq(setenv("CM_HOOK_TOKEN", "t", 1), 0);
    ck_assert_int_eq(setenv("LD_AUDIT_X", "t", 1), 0);
    make("/usr/bin/env >\"${0%/*}/env\"", "?env=CM_HOOK_TOKEN");
    ck_ok(take_down());
    (void)snprintf(path, sizeof path, "%s/env", dir);
    f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL) {
        static const char *const exact[] = {
            "CERTMESH_DNS_ACTION=remove\n",
            "CERTMESH_DNS_FQDN=_acme-challenge.www.example.com\n",
            "CERTMESH_DNS_VALUE=" VALUE "\n",
            "CERTMESH_DNS_TTL=60\n",
            "CERTMESH_DNS_NAME=www.example.com\n",
            "CERTMESH_DNS_ZONE=example.com\n",
            "CM_HOOK_TOKEN=t\n",
        };
        static const char *const begins[] = { "PATH=", "HOME=", "LANG=", "LC_ALL=",
                                              /* the shell's own */
                                              "PWD=", "OLDPWD=", "SHLVL=", "_=" };
        bool found = false;

        for (size_t i = 0; i < CM_ARRAY_LEN(exact); i++)
            if (strcmp(line, exact[i]) == 0) {
                found = true;
                known++;
            }
        for (size_t i = 0; i < CM_ARRAY_LEN(begins); i++)
            found = found || strncmp(line, begins[i], strlen(begins[i])) == 0;
        ck_assert_msg(found, "%s", line);
    }
    (void)fclose(f);
    ck_assert_uint_eq(known, 7);
}
END_TEST

START_TEST(a_uacme_hook_may_decline)
{
    make("exit 1", "?style=uacme");
    ck_status(append(), CM_E_UNSUPPORTED);
    ck_says("declined");
    make("exit 2", "?style=uacme");
    ck_status(append(), CM_E_IO);
    make("exit 1", "?style=dehydrated");
    ck_status(append(), CM_E_IO);
}
END_TEST

START_TEST(a_hook_that_hangs_costs_its_time_limit)
{
    make("echo connecting to the API; sleep 300 & sleep 300", "?timeout=3");
    ck_status(append(), CM_E_TIMEOUT);
    ck_says("connecting to the API");
}
END_TEST

struct caller {
    pthread_t thread;
    struct cm_dns_provider *provider;
    struct cm_dns_record rec;
    cm_status rc;
};

static void *call_it(void *arg)
{
    struct caller *c = arg;

    c->rc = cm_dns_provider_append(c->provider, NULL, &c->rec, NULL);
    return NULL;
}

/* Four at once; all must be content. */
static void run_together(const char *hook_text, const char *query)
{
    struct caller callers[4];

    make(hook_text, query);
    for (size_t i = 0; i < CM_ARRAY_LEN(callers); i++) {
        callers[i] = (struct caller){ .provider = provider, .rec = rec };
        ck_ok(cm_thread_start(&callers[i].thread, "caller", call_it, &callers[i], &err));
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(callers); i++) {
        ck_assert_int_eq(pthread_join(callers[i].thread, NULL), 0);
        ck_assert_int_eq(callers[i].rc, CM_OK);
    }
}

START_TEST(hooks_are_run_one_at_a_time_unless_told_otherwise)
{
    struct cm_op op = cm_op_within(NULL, CM_NS_PER_S);

    /* One that finds another running fails. */
    run_together("mkdir \"${0%/*}/busy\" || exit 1; sleep 0.3; rmdir \"${0%/*}/busy\"", "");
    /* Who waits for a turn does so within its own time. */
    (void)calls();
    make("sleep 3", "");
    struct caller other = { .provider = provider, .rec = rec };
    ck_ok(cm_thread_start(&other.thread, "caller", call_it, &other, &err));
    for (int i = 0; i < 500 && calls()[0] == '\0'; i++)
        ck_ok(cm_op_wait(NULL, 10 * CM_NS_PER_MS, &err));
    op = cm_op_within(NULL, CM_NS_PER_S / 5);
    ck_status(cm_dns_provider_append(provider, &op, &rec, &err), CM_E_TIMEOUT);
    ck_says("busy");
    ck_assert_int_eq(pthread_join(other.thread, NULL), 0);
}
END_TEST

START_TEST(several_at_once_when_told_so)
{
    /* One that does not find three others running fails. */
    run_together("d=${0%/*}; mkdir $d/at.$$; for i in $(seq 600); do set -- $d/at.*; "
                 "[ $# -lt 4 ] || exit 0; sleep 0.1; done; exit 1",
                 "?parallel=4&timeout=100");
}
END_TEST

START_TEST(what_is_wrong_with_the_text_is_named)
{
    static const struct {
        const char *query, *says;
    } bad[] = {
        { "?style=acme.sh", "'acme.sh'" },
        { "?timeout=0", "timeout" },
        { "?timeout=1h", "timeout" },
        { "?parallel=-1", "parallel" },
        { "?env=NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set" },
        { "?env=LD_PRELOAD", "loaded" },
        { "?env=A=B", "'A=B'" },
        { "?env=,", "''" },
        { "?shell=yes", "'shell'" },
    };
    char spec[256];
    struct cm_dns_provider *p = NULL;

    make("", "");
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        (void)snprintf(spec, sizeof spec, "exec:%s%s", hook, bad[i].query);
        ck_status(cm_dns_provider_open(spec, NULL, &p, &err), CM_E_INVAL);
        ck_says(bad[i].says);
    }
    ck_status(cm_dns_provider_open("exec:", NULL, &p, &err), CM_E_INVAL);
    ck_status(cm_dns_provider_open("exec:hook.sh", NULL, &p, &err), CM_E_INVAL);
    ck_says("PATH");
    ck_assert_int_eq(chmod(hook, 0777), 0);
    (void)snprintf(spec, sizeof spec, "exec:%s", hook);
    ck_status(cm_dns_provider_open(spec, NULL, &p, &err), CM_E_PERM);
    /* Also when it was made so later. */
    ck_status(append(), CM_E_PERM);
    ck_says("go-w");
    ck_assert_str_eq(calls(), "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_style_gets_what_its_own_client_hands_over,
        a_cname_is_told_where_the_style_can,
        nothing_odd_reaches_a_command_line,
        a_failure_is_quoted_without_the_secrets_it_was_given,
        the_environment_is_clean_and_says_what_the_record_is,
        a_uacme_hook_may_decline,
        a_hook_that_hangs_costs_its_time_limit,
        hooks_are_run_one_at_a_time_unless_told_otherwise,
        several_at_once_when_told_so,
        what_is_wrong_with_the_text_is_named,
    };

    return run_tests_how(
        "dns_exec", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 120, .setup = set_up, .teardown = tear_down });
}
