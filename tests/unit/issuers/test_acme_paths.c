/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"
#include "kit.h"

#include <string.h>

/* Where accounts lie and what they look like: CertMagic's vectors; and what is known of CAs. */

static struct cm_err err;

#define PREFIX "acme/acme-v02.api.letsencrypt.org-directory"

static void expect_paths(const char *email, const char *json, const char *key, const char *lock)
{
    struct acme_account_paths p;
    ck_assert_msg(acme_account_paths(PREFIX, email, &p, &err) == CM_OK, "%s", err.msg);
    ck_assert_str_eq(p.json, json);
    ck_assert_str_eq(p.key, key);
    ck_assert_str_eq(p.lock, lock);
}

START_TEST(account_with_plus_in_its_address)
{
    expect_paths("You+tag@Example.com", PREFIX "/users/you_plus_tag@example.com/you_plus_tag.json",
                 PREFIX "/users/you_plus_tag@example.com/you_plus_tag.key",
                 "register_acme_account_you+tag@example.com");
}
END_TEST

START_TEST(account_without_address_is_default)
{
    expect_paths(NULL, PREFIX "/users/default/default.json", PREFIX "/users/default/default.key",
                 "register_acme_account");
    expect_paths("", PREFIX "/users/default/default.json", PREFIX "/users/default/default.key",
                 "register_acme_account");
}
END_TEST

START_TEST(address_that_begins_with_at_uses_what_follows)
{
    expect_paths("@example.com", PREFIX "/users/@example.com/example.com.json",
                 PREFIX "/users/@example.com/example.com.key",
                 "register_acme_account_@example.com");
}
END_TEST

START_TEST(address_without_usable_local_part_has_fixed_file_names)
{
    expect_paths("\xc3\xa9@example.com", PREFIX "/users/@example.com/registration.json",
                 PREFIX "/users/@example.com/private.key",
                 "register_acme_account_\xc3\xa9@example.com");
}
END_TEST

START_TEST(address_too_long_for_a_storage_key_is_refused_here)
{
    struct acme_account_paths p;
    char email[260];

    memset(email, 'a', sizeof email);
    memcpy(email + 60, "@example.com", sizeof "@example.com");
    ck_assert_int_eq(acme_account_paths(PREFIX, email, &p, &err), CM_OK);
    memset(email, 'a', sizeof email - 1);
    email[60] = '@';
    for (size_t len = 247; len < sizeof email; len++) {
        email[len] = '\0';
        ck_assert_msg(
            acme_account_paths(PREFIX, email, &p, &err) ==
                (len + sizeof ".pending" - 1 <= CM_STORAGE_COMPONENT_MAX ? CM_OK : CM_E_LIMIT),
            "%zu bytes: %s", len, err.msg);
        email[len] = 'a';
    }
}
END_TEST

START_TEST(address_cannot_climb_out_of_its_folder)
{
    struct acme_account_paths p;
    ck_assert_int_eq(acme_account_paths(PREFIX, "./.", &p, &err), CM_E_INVAL);
    ck_assert_msg(strstr(err.msg, "./.") != NULL, "%s", err.msg);
}
END_TEST

/* The file a CertMagic peer writes, byte for byte but for the tab-indented array. */
static const char peer_json[] = "{\n"
                                "\t\"status\": \"valid\",\n"
                                "\t\"contact\": [\n"
                                "\t\t\"mailto:a@a.test\"\n"
                                "\t],\n"
                                "\t\"termsOfServiceAgreed\": true,\n"
                                "\t\"orders\": \"https://127.0.0.1:14000/list-orderz/1\",\n"
                                "\t\"location\": \"https://127.0.0.1:14000/my-account/1\"\n"
                                "}";

START_TEST(account_json_survives_a_round_trip_byte_for_byte)
{
    struct cm_acme_account acc = { 0 };
    struct cm_buf out = CM_BUF_INIT(4096);
    ck_assert_msg(acme_account_from_json(cm_span_str(peer_json), &acc, &err) == CM_OK, "%s",
                  err.msg);
    ck_assert_int_eq(acc.status, CM_ACME_VALID);
    ck_assert_str_eq(acc.url, "https://127.0.0.1:14000/my-account/1");
    ck_assert_str_eq(acc.contact[0], "mailto:a@a.test");
    ck_assert_ptr_null(acc.contact[1]);
    ck_assert_int_eq(acme_account_to_json(&acc, &out, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&out), peer_json);
    cm_buf_free(&out);
    cm_acme_account_free(&acc);
}
END_TEST

START_TEST(account_json_that_is_none_is_a_parse_error)
{
    static const char *const bad[] = { "", "null", "[]", "{", "\"x\"", "{\"status\":", "\x00" };
    struct cm_acme_account acc = { 0 };
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_assert_int_eq(acme_account_from_json(cm_span_str(bad[i]), &acc, &err), CM_E_PARSE);
}
END_TEST

START_TEST(account_json_with_wrong_types_is_read_as_not_registered)
{
    struct cm_acme_account acc = { 0 };
    const char *odd = "{\"status\":5,\"contact\":{},\"location\":null,\"new\":[[]]}";
    ck_assert_msg(acme_account_from_json(cm_span_str(odd), &acc, &err) == CM_OK, "%s", err.msg);
    ck_assert_int_eq(acc.status, CM_ACME_UNKNOWN);
    ck_assert_ptr_null(acc.url);
    cm_acme_account_free(&acc);
}
END_TEST

static void expect_refused(struct cm_acme_options o, cm_status want, const char *text)
{
    struct cm_issuer *is = NULL;
    ck_assert_int_eq(cm_acme_issuer_new(&o, &is, &err), want);
    ck_assert_msg(strstr(err.msg, text) != NULL, "'%s' must say '%s'", err.msg, text);
}

START_TEST(options_that_cannot_work_are_refused_by_name)
{
    expect_refused((struct cm_acme_options){ .directory_url = "http://ca.test/dir" }, CM_E_POLICY,
                   "http://ca.test/dir");
    expect_refused((struct cm_acme_options){ .directory_url = "ca.test/dir" }, CM_E_INVAL,
                   "https://");
    expect_refused((struct cm_acme_options){ .email = "nobody" }, CM_E_INVAL, "nobody");
    expect_refused((struct cm_acme_options){ .eab_kid = "k" }, CM_E_INVAL, "MAC key");
    expect_refused((struct cm_acme_options){ .eab_kid = "k", .eab_mac_key = "!!" }, CM_E_PARSE,
                   "MAC key");
    expect_refused((struct cm_acme_options){ .eab_kid = "k", .eab_mac_key = "AAAA" }, CM_E_INVAL,
                   "16 bytes");
    expect_refused((struct cm_acme_options){ .challenges = 64 }, CM_E_INVAL, "challenge");
    expect_refused((struct cm_acme_options){ .obtain_timeout_s = -1 }, CM_E_INVAL,
                   "obtain_timeout_s");
}
END_TEST

START_TEST(names_that_the_ca_cannot_certify_are_refused_before_any_request)
{
    struct cm_issuer *is = NULL;
    static const char *const wild[] = { "*.example.com" };
    static const char *const local[] = { "localhost" };
    static const char *const ip[] = { "192.0.2.1" };
    static const char *const good[] = { "example.com" };
    struct cm_acme_options o = { .directory_url = "https://acme.zerossl.com/v2/DV90" };

    ck_assert_int_eq(cm_acme_issuer_new(&o, &is, &err), CM_OK);
    ck_assert_str_eq(cm_issuer_key(is), "acme.zerossl.com-v2-DV90");
    ck_assert_str_eq(cm_issuer_challenge_prefix(is, 0), "acme/acme.zerossl.com-v2-dv90");
    ck_assert_ptr_null(cm_issuer_challenge_prefix(is, 1));
    ck_assert_int_eq(cm_issuer_precheck(is, good, 1, &err), CM_OK);
    ck_assert_int_eq(cm_issuer_precheck(is, wild, 1, &err), CM_E_POLICY);
    ck_assert_int_eq(cm_issuer_precheck(is, local, 1, &err), CM_E_POLICY);
    ck_assert_int_eq(cm_issuer_precheck(is, ip, 1, &err), CM_E_POLICY);
    ck_assert(err.no_retry);
    cm_issuer_destroy(is);
}
END_TEST

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call) ck_status(call, CM_OK)

START_TEST(limits_are_the_cas_or_the_programs)
{
    static const struct {
        const char *url;
        size_t events;
        int64_t window_ms;
        size_t want_events;
        int64_t want_s;
        bool exempt;
        bool no_staple;
    } cases[] = {
        { CM_CA_LETSENCRYPT, 0, 0, 300, 3 * 3600, true, true },
        { CM_CA_LETSENCRYPT_STAGING, 0, 0, 1500, 3 * 3600, true, true },
        { "https://dv.acme-v02.api.pki.goog/directory", 0, 0, 300, 10, false, false },
        { "https://ca.corp.example:14000/dir", 0, 0, 300, 10, false, false },
        { "https://notacme-v02.api.letsencrypt.org/x", 0, 0, 300, 10, false, false },
        { "https://a.example/acme-v02.api.letsencrypt.org", 0, 0, 300, 10, false, false },
        { CM_CA_LETSENCRYPT, 7, 5000, 7, 5, true, true },
        { CM_CA_LETSENCRYPT, 0, -1, 0, 0, true, true },
    };
    static const struct {
        size_t events;
        int64_t window_ms;
    } bad[] = { { 1, 0 },  { 0, 1 },          { 1, -1 },
                { 0, -2 }, { 1000001, 1000 }, { 1, INT64_C(40000000000) } };
    struct cm_acme_options opts = { 0 };
    struct cm_issuer *issuer = NULL;
    struct cm_issuer_limits l;

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        ck_ok(acme_ca_limits(cases[i].url, cases[i].events, cases[i].window_ms, &l, &err));
        ck_assert_msg(
            l.events == cases[i].want_events && l.window_ns == cases[i].want_s * CM_NS_PER_S &&
                l.renewals_exempt == cases[i].exempt && l.refuses_must_staple == cases[i].no_staple,
            "%s: %zu in %lld ns", cases[i].url, l.events, (long long)l.window_ns);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        opts.rate_events = bad[i].events;
        opts.rate_window_ms = bad[i].window_ms;
        ck_status(cm_acme_issuer_new(&opts, &issuer, &err), CM_E_INVAL);
    }
}
END_TEST

START_TEST(what_is_known_of_a_ca_is_said_before_it_is_asked)
{
    static const struct {
        const char *url;
        const char *name;
        bool ok;
    } names_of[] = {
        { CM_CA_LETSENCRYPT, "a.example.com", true },
        { CM_CA_LETSENCRYPT, "192.0.2.1", true },
        { "https://acme.zerossl.com/v2/DV90", "192.0.2.1", false },
        { "https://api.buypass.com/acme/directory", "a.example.com", false },
        { "https://ca.corp.example/dir", "192.0.2.1", true },
    };
    static const struct {
        const char *url;
        bool bound, ok;
    } accounts[] = {
        { CM_CA_LETSENCRYPT, false, true },
        { "https://acme.zerossl.com/v2/DV90", false, false },
        { "https://acme.zerossl.com/v2/DV90", true, true },
        { "https://dv.acme-v02.api.pki.goog/directory", false, false },
        { "https://acme.ssl.com/sslcom-dv-ecc", false, false },
        { "https://acme-api.actalis.com/acme/directory", false, false },
        { "https://ca.corp.example/dir", false, true },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(names_of); i++) {
        cm_status rc = acme_ca_precheck(names_of[i].url, names_of[i].name, &err);
        ck_assert_msg(rc == (names_of[i].ok ? CM_OK : CM_E_POLICY), "%s at %s", names_of[i].name,
                      names_of[i].url);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(accounts); i++) {
        cm_status rc = acme_ca_binding(accounts[i].url, accounts[i].bound, &err);
        ck_assert_msg(rc == (accounts[i].ok ? CM_OK : CM_E_POLICY), "%s", accounts[i].url);
        ck_assert(rc == CM_OK || strstr(err.msg, "--eab-kid") != NULL);
    }
    ck_ok(acme_ca_count(CM_CA_LETSENCRYPT, 100, &err));
    ck_status(acme_ca_count(CM_CA_LETSENCRYPT, 101, &err), CM_E_POLICY);
    ck_assert(err.no_retry);
    ck_ok(acme_ca_count("https://ca.corp.example/dir", 101, &err));

    const struct cm_ca_info *ca;
    size_t n = 0;
    for (; (ca = cm_ca_at(n)) != NULL; n++) /* two of one host are told of as the first */
        ck_assert(cm_ca_find(ca->directory_url)->gone == ca->gone);
    ck_assert_uint_gt(n, 5);
    ck_assert_ptr_eq(cm_ca_find(CM_CA_LETSENCRYPT), cm_ca_at(0));
    ck_assert_ptr_null(cm_ca_find("https://ca.corp.example/dir"));
    ck_assert_ptr_null(cm_ca_find("letsencrypt"));
    ck_assert_ptr_null(cm_ca_find(NULL));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("acme_paths");
    TCase *tc = tcase_create("acme_paths");
    tcase_add_test(tc, account_with_plus_in_its_address);
    tcase_add_test(tc, address_too_long_for_a_storage_key_is_refused_here);
    tcase_add_test(tc, account_without_address_is_default);
    tcase_add_test(tc, address_that_begins_with_at_uses_what_follows);
    tcase_add_test(tc, address_without_usable_local_part_has_fixed_file_names);
    tcase_add_test(tc, address_cannot_climb_out_of_its_folder);
    tcase_add_test(tc, account_json_survives_a_round_trip_byte_for_byte);
    tcase_add_test(tc, account_json_that_is_none_is_a_parse_error);
    tcase_add_test(tc, account_json_with_wrong_types_is_read_as_not_registered);
    tcase_add_test(tc, options_that_cannot_work_are_refused_by_name);
    tcase_add_test(tc, names_that_the_ca_cannot_certify_are_refused_before_any_request);
    tcase_add_test(tc, limits_are_the_cas_or_the_programs);
    tcase_add_test(tc, what_is_known_of_a_ca_is_said_before_it_is_asked);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
