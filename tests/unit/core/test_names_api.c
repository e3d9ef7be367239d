/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include <certmesh/cm_names.h>

/* What programs ask about names agrees with what core does with them. */

static struct cm_err err;

static const char le[] = "acme-v02.api.letsencrypt.org-directory";

START_TEST(names_that_a_public_ca_may_certify)
{
    static const char *const good[] = {
        "example.com",   "www.example.com",       "*.example.com",
        " Example.COM.", "m\xc3\xbcnchen.de",     "xn--mnchen-3ya.de",
        "a.co.uk",       "test.example.com",      "example.org",
        "local.com",     "1.2.3.4.in-addr.arpa.", "*.a.b.example.net",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(good); i++)
        ck_ok(cm_host_qualifies(good[i], 0, &err));
    ck_ok(cm_host_qualifies("example.com", 0, NULL));
    ck_ok(cm_host_qualifies("8.8.8.8", CM_HOST_ADDRESS, &err));
    ck_ok(cm_host_qualifies("2606:4700::1111", CM_HOST_ADDRESS, &err));
    ck_ok(cm_host_qualifies("example.com", CM_HOST_ADDRESS, &err));
}
END_TEST

START_TEST(names_that_no_public_ca_certifies)
{
    static const struct {
        const char *name;
        const char *why;
    } policy[] = {
        { "localhost", "internal" },
        { "a.localhost", "internal" },
        { "printer.local", "internal" },
        { "db.internal", "internal" },
        { "nas.home.arpa", "internal" },
        { "intranet", "one label" },
        { "*.com", "top-level" },
        { "*.test", "top-level" },
        { "www.test", "reserved" },
        { "a.example", "reserved" },
        { "*.b.invalid", "reserved" },
        { "8.8.8.8", "an address" },
        { "2606:4700::1111", "an address" },
    };
    static const char *const wrong[] = { "",          " ",         "a..example.com",  "*",
                                         "a.*.com",   "*a.com",    "a_b.example.com", "-a.com",
                                         "a b.com",   "a.com/x",   "a\\b.com",        "1.2.3",
                                         "[::1]:443", "*.*.a.com", "user@a.com",      "a.com:443" };

    for (size_t i = 0; i < CM_ARRAY_LEN(policy); i++) {
        ck_refused(cm_host_qualifies(policy[i].name, 0, &err), CM_E_POLICY);
        ck_assert_msg(strstr(err.msg, policy[i].why) != NULL, "%s: %s", policy[i].name, err.msg);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(wrong); i++)
        ck_refused(cm_host_qualifies(wrong[i], CM_HOST_ADDRESS, &err), CM_E_INVAL);
    ck_refused(cm_host_qualifies(NULL, 0, &err), CM_E_INVAL);
    ck_refused(cm_host_qualifies("127.0.0.1", CM_HOST_ADDRESS, &err), CM_E_POLICY);
    ck_refused(cm_host_qualifies("10.1.2.3", CM_HOST_ADDRESS, &err), CM_E_POLICY);
    ck_refused(cm_host_qualifies("fe80::1", CM_HOST_ADDRESS, &err), CM_E_POLICY);
    ck_refused(cm_host_qualifies("example.com", 2, &err), CM_E_INVAL);
}
END_TEST

START_TEST(many_names_have_one_text)
{
    static const char *const three[] = { "b.example.com", "A.example.com.", "b.example.com" };
    static const char *const bad[] = { "a.example.com", "a..b" };
    CM_AUTO_BUF struct cm_buf b = CM_BUF_INIT(64);
    CM_AUTO_BUF struct cm_buf small = CM_BUF_INIT(8);

    ck_ok(cm_buf_puts(&b, "issue_cert_", &err));
    ck_ok(cm_names_key(three, 3, &b, &err));
    ck_assert_str_eq(cm_buf_str(&b), "issue_cert_a.example.com,b.example.com");
    ck_refused(cm_names_key(bad, 2, &b, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "a..b"));
    ck_refused(cm_names_key(three, 0, &b, &err), CM_E_INVAL);
    ck_refused(cm_names_key(NULL, 1, &b, &err), CM_E_INVAL);
    ck_refused(cm_names_key(three, 3, NULL, &err), CM_E_INVAL);
    ck_assert_str_eq(cm_buf_str(&b), "issue_cert_a.example.com,b.example.com");
    ck_refused(cm_names_key(three, 3, &small, &err), CM_E_LIMIT);
    ck_assert_uint_eq(small.len, 0);
}
END_TEST

static void check_site(const char *issuer, const char *name, enum cm_site_file what,
                       const char *want)
{
    char key[CM_STORAGE_KEY_BUF];

    ck_ok(cm_storage_key_site(issuer, &name, name != NULL ? 1 : 0, what, key, &err));
    ck_assert_str_eq(key, want);
    ck_ok(cm_storage_key_check(key, false, &err));
}

START_TEST(keys_are_those_of_certmagic)
{
    static const char *const two[] = { "b.test", "a.test" };
    char key[CM_STORAGE_KEY_BUF];
    char safe[CM_STORAGE_COMPONENT_MAX + 1];

    check_site(NULL, NULL, CM_SITE_FOLDER, "certificates");
    check_site(le, NULL, CM_SITE_FOLDER, "certificates/acme-v02.api.letsencrypt.org-directory");
    check_site("acme.zerossl.com-v2-DV90", "Example.com", CM_SITE_FOLDER,
               "certificates/acme.zerossl.com-v2-dv90/example.com");
    check_site("ca", "example.com", CM_SITE_CHAIN, "certificates/ca/example.com/example.com.crt");
    check_site("ca", "*.example.com", CM_SITE_KEY,
               "certificates/ca/wildcard_.example.com/wildcard_.example.com.key");
    check_site("ca", "2001:db8::1", CM_SITE_METADATA,
               "certificates/ca/2001-db8--1/2001-db8--1.json");
    ck_ok(cm_storage_key_site("ca", two, 2, CM_SITE_CHAIN, key, &err));
    ck_assert_str_eq(key, "certificates/ca/a.testb.test/a.testb.test.crt");
    ck_ok(cm_storage_key_staple("example.com", cm_span_str("foobar"), key, &err));
    ck_assert_str_eq(key, "ocsp/example.com-bf9cf968");
    ck_ok(cm_storage_key_safe("You+tag@Example.com", safe, &err));
    ck_assert_str_eq(safe, "you_plus_tag@example.com");
}
END_TEST

START_TEST(what_is_no_key_is_refused_and_changes_nothing)
{
    static const char *const one[] = { "example.com" };
    static const char *const bad[] = { "../x" };
    char long_text[CM_STORAGE_COMPONENT_MAX + 2];
    char key[CM_STORAGE_KEY_BUF] = "as it was";
    char safe[CM_STORAGE_COMPONENT_MAX + 1] = "as it was";
    const enum cm_site_file none = (enum cm_site_file)99;

    memset(long_text, 'a', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    ck_refused(cm_storage_key_site(NULL, one, 1, CM_SITE_CHAIN, key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_site("ca", NULL, 0, CM_SITE_CHAIN, key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_site("ca", bad, 1, CM_SITE_CHAIN, key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_site("..", one, 1, CM_SITE_CHAIN, key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_site("..", NULL, 0, CM_SITE_FOLDER, key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_site("ca", one, 1, none, key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_site("ca", one, 1, CM_SITE_CHAIN, NULL, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_staple(NULL, cm_span_str(""), key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_staple("..", cm_span_str(""), key, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_safe("..", safe, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_safe(long_text, safe, &err), CM_E_INVAL);
    ck_refused(cm_storage_key_safe(NULL, safe, &err), CM_E_INVAL);
    ck_assert_str_eq(key, "as it was");
    ck_assert_str_eq(safe, "as it was");
    long_text[CM_STORAGE_COMPONENT_MAX] = '\0';
    ck_ok(cm_storage_key_safe(long_text, safe, &err));
    ck_assert_str_eq(safe, long_text);
}
END_TEST

/* Who looks under these keys finds what core has stored. */
START_TEST(what_is_obtained_lies_there)
{
    static const char *const names[] = { "example.com", "*.example.com" };
    static const enum cm_site_file files[] = { CM_SITE_CHAIN, CM_SITE_KEY, CM_SITE_METADATA };
    struct kit k;

    for (size_t n = 1; n <= CM_ARRAY_LEN(names); n++) {
        kit_init(&k);
        kit_start(&k);
        ck_ok(cm_obtain(k.cfg, NULL, names, n, NULL, &err));
        for (size_t i = 0; i < CM_ARRAY_LEN(files); i++) {
            struct cm_key_info info = { .key = NULL };
            char key[CM_STORAGE_KEY_BUF];

            ck_ok(cm_storage_key_site(cm_issuer_key(cm_config_issuer(k.cfg, 0)), names, n, files[i],
                                      key, &err));
            ck_ok(cm_storage_stat(&k.storage.base, NULL, key, &info, &err));
            ck_assert(info.terminal);
        }
        kit_stop(&k);
    }
}
END_TEST

START_TEST(ports_are_those_of_the_rfcs)
{
    struct kit k;

    kit_init(&k);
    kit_start(&k);
    ck_assert_uint_eq(cm_config_http_port(k.cfg), CM_HTTP01_PORT);
    ck_assert_uint_eq(cm_config_tls_port(k.cfg), CM_TLSALPN01_PORT);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_that_a_public_ca_may_certify,
        names_that_no_public_ca_certifies,
        many_names_have_one_text,
        keys_are_those_of_certmagic,
        what_is_no_key_is_refused_and_changes_nothing,
        what_is_obtained_lies_there,
        ports_are_those_of_the_rfcs,
    };

    return kit_run("names_api", tests, CM_ARRAY_LEN(tests));
}
