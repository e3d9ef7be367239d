/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "cmd.h"
#include "run.h"

#include <getopt.h>
#include <string.h>

/* Options about CAs and the life of certificates, from the command line and the environment to what
 * the library is told. */

#define WORDS_MAX 80
#define TEXT_MAX  4096
#define CA1       "https://one.test/dir"
#define CA2       "https://two.test/dir"
#define CA3       "https://three.test/dir"

static char text[TEXT_MAX];
static struct cli c;
static struct cm_config_options o;
static struct cli_life life;

static void forget(void)
{
    static const char *const variables[] = { "CERTMESH_CA", "CERTMESH_TEST_CA",
                                             "CERTMESH_FALLBACK_CA", "CERTMESH_STORAGE" };

    for (size_t i = 0; i < CM_ARRAY_LEN(variables); i++)
        ck_assert_int_eq(unsetenv(variables[i]), 0);
}

/* @line: words with a space between them. */
static int parse(const char *line)
{
    static char *nothing[] = { (char *)(uintptr_t) "certmesh", NULL };
    static char *argv[WORDS_MAX + 2];
    int argc = 1;

    argv[0] = nothing[0];
    (void)snprintf(text, sizeof text, "%s", line);
    for (char *at = text; at != NULL && argc <= WORDS_MAX;) {
        char *end = strchr(at, ' ');

        if (end != NULL)
            *end++ = '\0';
        argv[argc++] = at;
        at = end;
    }
    argv[argc] = NULL;
    optind = 0; /* glibc: forget the words of the call before */
    (void)getopt_long(1, nothing, "", NULL, NULL);
    memset(&c, 0, sizeof c);
    return cli_parse(&c, argc, argv);
}

/* What the library would be told; cli_life_end() is to follow. */
static void fill(const char *line)
{
    struct cm_err err = CM_ERR_INIT;

    ck_assert_int_eq(parse(line), -1);
    memset(&life, 0, sizeof life);
    o = (struct cm_config_options)CM_CONFIG_OPTIONS_INIT;
    o.acme.directory_url = cli_ca_url(&c);
    o.acme.agreed = true;
    ck_assert_int_eq(cli_life_fill(&c, &o, &life, &err), CM_OK);
}

static void check_issuers(size_t n, const char *const *keys)
{
    ck_assert_uint_eq(o.n_issuers, n);
    for (size_t i = 0; i < n; i++)
        ck_assert_str_eq(cm_issuer_key(o.issuers[i]), keys[i]);
}

START_TEST(defaults_are_the_librarys_but_serve_cleans)
{
    forget();
    fill("serve a.test");
    ck_assert(o.clean_storage);
    ck_assert(!o.must_staple && !o.disable_ocsp && !o.disable_crl && !o.fetch_local);
    ck_assert_int_eq(o.renew_before_s, 0);
    ck_assert_uint_eq(o.n_issuers + o.n_ocsp_overrides, 0);
    ck_assert_uint_eq(c.o.rate.events, 0);
    ck_assert_int_eq(c.o.rate.window_ms, 0);
    cli_life_end(&life, false);
    fill("obtain a.test");
    ck_assert(!o.clean_storage);
    cli_life_end(&life, false);
    fill("serve --cert chain.pem --key key.pem");
    ck_assert(!o.clean_storage);
    cli_life_end(&life, false);
}
END_TEST

START_TEST(flags_reach_the_library)
{
    forget();
    fill("serve --no-clean --must-staple --no-ocsp --no-crl --fetch-local --renew-before 30d "
         "a.test");
    ck_assert(!o.clean_storage);
    ck_assert(o.must_staple && o.disable_ocsp && o.disable_crl && o.fetch_local);
    ck_assert_int_eq(o.renew_before_s, 30 * 86400);
    cli_life_end(&life, false);
}
END_TEST

START_TEST(extensions_and_other_ports_reach_the_library)
{
    static const uint8_t want[] = { 0x04, 0x02, 0xab, 0xcd };

    forget();
    fill("obtain --alt-http-port 5002 --alt-tls-port 5001 --csr-extension 1.2.3=0402abCD "
         "--csr-extension 1.2.4=critical:0500 a.test");
    ck_assert_uint_eq(o.extra->alt_http_port, 5002);
    ck_assert_uint_eq(o.extra->alt_tls_port, 5001);
    ck_assert_uint_eq(o.extra->n_csr_extensions, 2);
    const struct cm_csr_extension *e = o.extra->csr_extensions;
    ck_assert_str_eq(e[0].oid, "1.2.3");
    ck_assert(!e[0].critical);
    ck_assert_uint_eq(e[0].value.len, sizeof want);
    ck_assert_mem_eq(e[0].value.data, want, sizeof want);
    ck_assert_str_eq(e[1].oid, "1.2.4");
    ck_assert(e[1].critical);
    ck_assert_uint_eq(e[1].value.len, 2);
    cli_life_end(&life, false);
}
END_TEST

START_TEST(rates)
{
    forget();
    ck_assert_int_eq(parse("obtain --rate 300/3h a.test"), -1);
    ck_assert_uint_eq(c.o.rate.events, 300);
    ck_assert_int_eq(c.o.rate.window_ms, 3 * 3600 * 1000);
    ck_assert_int_eq(parse("obtain --rate 1000000/366d a.test"), -1);
    ck_assert_int_eq(parse("obtain --rate off a.test"), -1);
    ck_assert_uint_eq(c.o.rate.events, 0);
    ck_assert_int_eq(c.o.rate.window_ms, -1);
}
END_TEST

START_TEST(responders_in_order_with_all_that_is_behind_the_first_sign)
{
    forget();
    fill("serve --ocsp-responder http://a.test/=https://b.test/?x=1 --ocsp-responder "
         "http://c.test= a.test");
    ck_assert_uint_eq(o.n_ocsp_overrides, 2);
    ck_assert_str_eq(o.ocsp_overrides[0].from, "http://a.test/");
    ck_assert_str_eq(o.ocsp_overrides[0].to, "https://b.test/?x=1");
    ck_assert_str_eq(o.ocsp_overrides[1].from, "http://c.test");
    ck_assert_str_eq(o.ocsp_overrides[1].to, "");
    cli_life_end(&life, false);
}
END_TEST

START_TEST(further_cas_stand_behind_the_first)
{
    static const char *const keys[] = { "one.test-dir", "two.test-dir", "three.test-dir" };

    forget();
    fill("obtain --ca " CA1 " --fallback-ca " CA2 " --fallback-ca " CA3 " a.test");
    check_issuers(3, keys);
    ck_assert_int_eq(o.issuer_policy, CM_ISSUERS_IN_ORDER);
    cli_life_end(&life, false);
    fill("obtain --ca " CA1 " --fallback-ca " CA2 " --ca-order random a.test");
    ck_assert_int_eq(o.issuer_policy, CM_ISSUERS_RANDOM);
    cli_life_end(&life, false);
}
END_TEST

START_TEST(what_belongs_to_the_first_is_not_for_the_others)
{
    const struct cm_acme_options first = { .directory_url = CA1,
                                           .email = "ops@a.test",
                                           .agreed = true,
                                           .ca_root_file = "root.pem",
                                           .eab_kid = "kid",
                                           .eab_mac_key = "key",
                                           .eab_alg = "HS384",
                                           .account_key_file = "account.pem",
                                           .challenges = CM_CHALLENGE_HTTP01,
                                           .profile = "short",
                                           .preferred_chain = "Root",
                                           .rate_window_ms = -1 };
    struct cm_acme_options at = cli_acme_at(&first, "letsencrypt-staging");

    ck_assert_str_eq(at.directory_url, CM_CA_LETSENCRYPT_STAGING);
    ck_assert_ptr_null(at.eab_kid);
    ck_assert_ptr_null(at.eab_mac_key);
    ck_assert_ptr_null(at.eab_alg);
    ck_assert_ptr_null(at.account_key_file);
    ck_assert_ptr_null(at.profile);
    ck_assert_ptr_null(at.preferred_chain);
    ck_assert_str_eq(at.email, first.email);
    ck_assert_str_eq(at.ca_root_file, first.ca_root_file);
    ck_assert(at.agreed);
    ck_assert_uint_eq(at.challenges, CM_CHALLENGE_HTTP01);
    ck_assert_int_eq(at.rate_window_ms, -1);
}
END_TEST

START_TEST(environment_where_the_command_line_is_silent)
{
    static const char *const keys[] = { "one.test-dir", "two.test-dir", "three.test-dir" };
    static const char *const line_keys[] = { "one.test-dir", "three.test-dir" };

    forget();
    ck_assert_int_eq(setenv("CERTMESH_CA", CA1, 1), 0);
    ck_assert_int_eq(setenv("CERTMESH_TEST_CA", "letsencrypt-staging", 1), 0);
    ck_assert_int_eq(setenv("CERTMESH_FALLBACK_CA", "  " CA2 " \n" CA3 " ", 1), 0);
    fill("serve a.test");
    check_issuers(3, keys);
    ck_assert_str_eq(c.o.test_ca, "letsencrypt-staging");
    cli_life_end(&life, false);
    ck_assert_int_eq(setenv("CERTMESH_FALLBACK_CA", CA2, 1), 0);
    fill("serve --fallback-ca " CA3 " --test-ca https://t.test/ a.test");
    check_issuers(2, line_keys);
    ck_assert_str_eq(c.o.test_ca, "https://t.test/");
    cli_life_end(&life, false);
    /* the local CA has neither */
    fill("serve --internal a.test");
    ck_assert_uint_eq(o.n_issuers, 0);
    ck_assert_ptr_null(c.o.test_ca);
    cli_life_end(&life, false);
    /* nor have commands that do not take them */
    ck_assert_int_eq(setenv("CERTMESH_FALLBACK_CA", "nonsense", 1), 0);
    ck_assert_int_eq(parse("account"), -1);
    ck_assert_int_eq(parse("obtain a.test"), CLI_USAGE);
    forget();
}
END_TEST

START_TEST(sixteen_cas_are_taken)
{
    char line[TEXT_MAX] = "obtain --ca " CA1 " a.test";
    size_t at = strlen(line);

    forget();
    for (unsigned i = 0; i < 15; i++)
        at += (size_t)snprintf(line + at, sizeof line - at, " --fallback-ca https://f%u.test/", i);
    fill(line);
    ck_assert_uint_eq(o.n_issuers, 16);
    cli_life_end(&life, false);
    (void)snprintf(line + at, sizeof line - at, " --fallback-ca https://more.test/");
    ck_assert_int_eq(parse(line), CLI_USAGE);
}
END_TEST

int main(void)
{
    const TTest *tests[] = { defaults_are_the_librarys_but_serve_cleans,
                             flags_reach_the_library,
                             extensions_and_other_ports_reach_the_library,
                             rates,
                             responders_in_order_with_all_that_is_behind_the_first_sign,
                             further_cas_stand_behind_the_first,
                             what_belongs_to_the_first_is_not_for_the_others,
                             environment_where_the_command_line_is_silent,
                             sixteen_cas_are_taken };

    return run_tests("cmd_life", tests, CM_ARRAY_LEN(tests));
}
