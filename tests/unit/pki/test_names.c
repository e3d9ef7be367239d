/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

static struct cm_err err;

enum {
    W = CM_NAME_ALLOW_WILDCARD,
    IP = CM_NAME_ALLOW_IP,
    U = CM_NAME_ALLOW_UNDERSCORE,
    ALL = W | IP | U
};

#define L10 "abcdefghij"
#define L50 L10 L10 L10 L10 L10
#define L63 L50 L10 "abc"

START_TEST(names_take_their_one_form)
{
    static const struct {
        const char *in;
        unsigned flags;
        const char *out;
    } cases[] = {
        { "example.com", 0, "example.com" },
        { "EXAMPLE.Com", 0, "example.com" },
        { " \t example.com \r\n", 0, "example.com" },
        { "example.com.", 0, "example.com" },
        { "localhost", 0, "localhost" },
        { "XN--MNCHEN-3YA.DE", 0, "xn--mnchen-3ya.de" },
        { "M\xc3\x9cNCHEN.de", 0, "xn--mnchen-3ya.de" },
        { "m\xc3\xbcnchen.de.", 0, "xn--mnchen-3ya.de" },
        { "mu\xcc\x88nchen.de", 0, "xn--mnchen-3ya.de" }, /* u + combining diaeresis */
        { "*.b\xc3\xbc"
          "cher.de",
          W, "*.xn--bcher-kva.de" },
        { "*.B\xc3\x9c"
          "CHER.DE.",
          W, "*.xn--bcher-kva.de" },
        { "fa\xc3\x9f.de", 0, "xn--fa-hia.de" }, /* not "fass" */
        { "b\xc3\xbc"
          "cher\xe3\x80\x82"
          "de",
          0, "xn--bcher-kva.de" }, /* U+3002 */
        { "b\xc3\xbc"
          "cher.de\xe3\x80\x82",
          0, "xn--bcher-kva.de" }, /* at the end */
        { "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84", 0,
          "xn--e1afmkfd.xn--p1ai" },
        { "*.Example.com", W, "*.example.com" },
        { "*.com", W, "*.com" },
        { "_acme.example.com", U, "_acme.example.com" },
        { "r3---sn-abc.example.com", 0, "r3---sn-abc.example.com" },
        { "1and1.com", 0, "1and1.com" },
        { "3com.4x", 0, "3com.4x" },
        { L63 ".example", 0, L63 ".example" },
        { L63 "." L63 "." L63 "." L50 L10 "a", 0, L63 "." L63 "." L63 "." L50 L10 "a" }, /* 253 */
        { L63 "." L63 "." L63 "." L50 L10 "a.", 0, L63 "." L63 "." L63 "." L50 L10 "a" },
        { "192.0.2.1", IP, "192.0.2.1" },
        { "2001:DB8:0:0::1", IP, "2001:db8::1" },
        { "[2001:db8::1]", IP, "2001:db8::1" },
        { "::ffff:192.0.2.1", IP, "192.0.2.1" },
        { "[::FFFF:c000:0201]", IP, "192.0.2.1" },
        { "::1", IP, "::1" },
        { "::", IP, "::" },
        { "::1.2.3.4", IP, "::102:304" }, /* as Go writes it, not as inet_ntop does */
        { "1:0:0:2:0:0:0:3", IP, "1:0:0:2::3" },
        { "1:2:3:4:5:6:0:8", IP, "1:2:3:4:5:6:0:8" }, /* one zero field stays */
    };
    char got[CM_NAME_BUF];

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        cm_status rc = cm_name_normalize(cases[i].in, cases[i].flags, got, &err);
        ck_assert_msg(rc == CM_OK, "'%s': %s", cases[i].in, err.msg);
        ck_assert_str_eq(got, cases[i].out);
        /* Its own normal form. */
        ck_ok(cm_name_normalize(got, ALL, got, &err));
        ck_assert_str_eq(got, cases[i].out);
    }
}
END_TEST

START_TEST(bad_names_are_refused_with_the_reason)
{
    static const struct {
        const char *in;
        unsigned flags;
        const char *why;
    } cases[] = {
        { "", ALL, "empty" },
        { " \t\n", ALL, "empty" },
        { ".", ALL, "empty label" },
        { "..", ALL, "empty label" },
        { "a..b", ALL, "empty label" },
        { ".example.com", ALL, "empty label" },
        { "example.com..", ALL, "empty label" },
        { "*.", ALL, "whole first label" },
        { "*", ALL, "whole first label" },
        { "*.*.example.com", ALL, "whole first label" },
        { "a.*.example.com", ALL, "whole first label" },
        { "w*.example.com", ALL, "whole first label" },
        { "*w.example.com", ALL, "whole first label" },
        { "*.example.com", 0, "wildcard" },
        { "*.192.0.2.1", ALL, "ends in a number" },
        { "*.[::1]", ALL, "IP address" },
        { "-a.example", ALL, "'-'" },
        { "a-.example", ALL, "'-'" },
        { "a_b.example", W | IP, "underscore" },
        { "a b.example", ALL, "character" },
        { "a/b.example", ALL, "character" },
        { "a@b.example", ALL, "character" },
        { "a\x01"
          "b.example",
          ALL, "character" },
        { "example.com:443", ALL, "port" },
        { "https://example.com", ALL, "IP address" },
        { L63 "a.example", ALL, "63" },
        { L63 "." L63 "." L63 "." L50 L10 "ab", ALL, "253" }, /* 254 */
        { "*." L63 "." L63 "." L63 "." L50 L10 "a", ALL, "253" },
        { "\xff\xfe.example", ALL, "UTF-8" },
        { "b\xc3.example", ALL, "UTF-8" },
        { "\xef\xbc\x8a.b\xc3\xbc"
          "cher.de",
          ALL, "whole first label" }, /* full-width '*' */
        { "\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1", ALL, "ends in a number" },
        { "\xf0\x9f\x92\xa9.example", ALL, "xn-- form" }, /* an emoji */
        { "xn--b\xc3\xbc.example", ALL, "international" },
        { "-b\xc3\xbc.example", ALL, "international" },
        /* gnutls_idna_map() drops these characters and gives another name */
        { "a*b.b\xc3\xbc.example", ALL, "whole first label" },
        { "a b.b\xc3\xbc.example", ALL, "character" },
        { "a\xef\xbc\x8f"
          "b.example",
          ALL, "character" },                         /* full-width '/' */
        { "\xe2\x84\x80.example", ALL, "character" }, /* maps to "a/c" */
        { "a_b.b\xc3\xbc.example", W | IP, "underscore" },
        { "192.0.2.1", W, "IP address" },
        { "192.0.2.256", ALL, "ends in a number" },
        { "192.0.2", ALL, "ends in a number" },
        { "010.0.0.1", ALL, "ends in a number" },
        { "1", ALL, "ends in a number" },
        { "[192.0.2.1]", ALL, "not a valid IP" },
        { "fe80::1%eth0", ALL, "zone" },
        { "[fe80::1", ALL, "not a valid IP" },
        { "[]", ALL, "not a valid IP" },
        { "[", ALL, "not a valid IP" },
        { "1:2:3", ALL, "not a valid IP" },
    };
    char got[CM_NAME_BUF] = "untouched";

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        cm_status rc = cm_name_normalize(cases[i].in, cases[i].flags, got, &err);
        ck_assert_msg(rc == CM_E_INVAL, "'%s' gave %s '%s'", cases[i].in, cm_status_name(rc), got);
        ck_assert_msg(strstr(err.msg, cases[i].why) != NULL, "'%s': %s", cases[i].in, err.msg);
        ck_assert_str_eq(got, "untouched");
    }
    ck_refused(cm_name_normalize(NULL, ALL, got, &err), CM_E_INVAL, "missing");
}
END_TEST

START_TEST(huge_input_is_refused_before_any_work_and_shown_cut)
{
    static char huge[100000];
    char got[CM_NAME_BUF];

    memset(huge, '\xc3', sizeof huge - 1);
    ck_refused(cm_name_normalize(huge, ALL, got, &err), CM_E_INVAL, "far too long");
    ck_assert_uint_lt(strlen(err.msg), 200);
}
END_TEST

START_TEST(kinds_of_names_are_told_apart)
{
    ck_assert(cm_name_is_ip("192.0.2.1"));
    ck_assert(cm_name_is_ip("2001:db8::1"));
    ck_assert(cm_name_is_ip("::"));
    ck_assert(!cm_name_is_ip("example.com"));
    ck_assert(!cm_name_is_ip("1.2.3"));
    ck_assert(!cm_name_is_ip(""));
    ck_assert(cm_name_is_wildcard("*.example.com"));
    ck_assert(!cm_name_is_wildcard("example.com"));
    ck_assert(!cm_name_is_wildcard("*"));
}
END_TEST

START_TEST(internal_names_are_those_of_certmagic)
{
    static const char *const internal[] = {
        "localhost",     "a.localhost",    "*.localhost", "printer.local", "db.internal",
        "nas.home.arpa", "127.0.0.1",      "127.9.9.9",   "0.0.1.2",       "10.1.2.3",
        "172.16.0.1",    "172.31.255.255", "192.168.1.1", "169.254.1.1",   "::1",
        "fe80::1",       "febf::1",        "fc00::1",     "fdff::1",       "1ff::",
    };
    static const char *const outside[] = {
        "example.com", "localhost.example", "local",     "xlocal",      "notlocalhost",
        "home.arpa",   "internal",          "192.0.2.1", "172.15.0.1",  "172.32.0.1",
        "0.1.0.0",     "192.169.0.1",       "11.0.0.1",  "2001:db8::1", "fec0::1",
        "200::",       "ff02::1",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(internal); i++) {
        ck_assert_msg(cm_name_is_internal(internal[i]), "%s", internal[i]);
        ck_assert_msg(!cm_name_is_public(internal[i]), "%s", internal[i]);
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(outside); i++) {
        ck_assert_msg(!cm_name_is_internal(outside[i]), "%s", outside[i]);
        ck_assert_msg(cm_name_is_public(outside[i]), "%s", outside[i]);
    }
    ck_assert(cm_name_is_public("*.example.com"));
    ck_assert(!cm_name_is_public("*.com"));
    ck_assert(!cm_name_is_internal("*.com"));
}
END_TEST

START_TEST(wildcard_covers_one_label_and_no_address)
{
    ck_assert(cm_name_covers("example.com", "example.com"));
    ck_assert(cm_name_covers("*.example.com", "a.example.com"));
    ck_assert(cm_name_covers("*.example.com", "*.example.com"));
    ck_assert(cm_name_covers("192.0.2.1", "192.0.2.1"));
    ck_assert(!cm_name_covers("*.example.com", "example.com"));
    ck_assert(!cm_name_covers("*.example.com", "a.b.example.com"));
    ck_assert(!cm_name_covers("*.example.com", ".example.com"));
    ck_assert(!cm_name_covers("*.example.com", "aexample.com"));
    ck_assert(!cm_name_covers("*.0.2.1", "192.0.2.1"));
    ck_assert(!cm_name_covers("a.example.com", "*.example.com"));
    ck_assert(!cm_name_covers("*.b.example", "*.example"));
    ck_assert(!cm_name_covers("*.example.com", "*.b.example.com"));
    ck_assert(!cm_name_covers("*.com", "com"));
    ck_assert(!cm_name_covers("", "a"));
}
END_TEST

START_TEST(reverse_names_go_both_ways)
{
    static const struct {
        const char *ip;
        const char *arpa;
    } cases[] = {
        /* RFC 8738 6 and RFC 3596 2.5 */
        { "192.0.2.1", "1.2.0.192.in-addr.arpa" },
        { "2001:db8::1",
          "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa" },
        { "4321:0:1:2:3:4:567:89ab",
          "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa" },
        { "255.0.10.9", "9.10.0.255.in-addr.arpa" },
    };
    char got[CM_NAME_BUF];

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        ck_ok(cm_name_reverse_arpa(cases[i].ip, got, &err));
        ck_assert_str_eq(got, cases[i].arpa);
        ck_assert(cm_name_from_arpa(cases[i].arpa, got));
        ck_assert_str_eq(got, cases[i].ip);
    }
    ck_refused(cm_name_reverse_arpa("example.com", got, &err), CM_E_INVAL, "example.com");
}
END_TEST

START_TEST(other_names_are_no_reverse_names)
{
    static const char *const cases[] = {
        "in-addr.arpa",
        ".in-addr.arpa",
        "1.2.0.in-addr.arpa",
        "1.2.0.192.in-addr.arpa.",
        "01.2.0.192.in-addr.arpa",
        "1.2.0.256.in-addr.arpa",
        "1.2.0.192.5.in-addr.arpa",
        "x1.2.0.192.in-addr.arpa",
        "1.2.0.192.in-addr.arpax",
        "ip6.arpa",
        ".ip6.arpa",
        "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        "g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.B.D.0.1.0.0.2.ip6.arpa",
        "1-0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
        "1.0.2.0.0.0.0.c.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", /* mapped */
        "",
    };
    char got[CM_NAME_BUF];

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++)
        ck_assert_msg(!cm_name_from_arpa(cases[i], got), "%s", cases[i]);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_take_their_one_form,
        bad_names_are_refused_with_the_reason,
        huge_input_is_refused_before_any_work_and_shown_cut,
        kinds_of_names_are_told_apart,
        internal_names_are_those_of_certmagic,
        wildcard_covers_one_label_and_no_address,
        reverse_names_go_both_ways,
        other_names_are_no_reverse_names,
    };

    return run_tests("names", tests, CM_ARRAY_LEN(tests));
}
