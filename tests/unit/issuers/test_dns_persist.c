/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_persist.h"
#include "run.h"

#include <string.h>

/* Which records of dns-persist-01 a CA takes, and what is said of the others. */

#define ACCOUNT "https://ca.test/acct/1?x=y"

static const struct {
    const char *text;
    bool wildcard;
    const char *fault; /* NULL = none; "" = it is about another CA */
} cases[] = {
    { "ca.test; accounturi=" ACCOUNT, false, NULL },
    { "ca.test;accounturi=" ACCOUNT, false, NULL },
    { " \tca.test ; AccountURI = " ACCOUNT " ; x=1;y=", false, NULL },
    { "Ca.test; accounturi=" ACCOUNT, false, "in capitals" },
    { "ca.test.; accounturi=" ACCOUNT, false, "with a dot" },
    { "ca.test; accounturi=" ACCOUNT "; x=1; X=2", false, "not well-formed" },
    { "other-name.test; accounturi=" ACCOUNT "; policy=Wildcard", true, NULL },
    { "ca.test; accounturi=" ACCOUNT "; persistuntil=1001", false, NULL },
    { "ca.test; persistUntil=1000; accounturi=" ACCOUNT, false, "ended" },
    { "ca.test; persistUntil=1e9; accounturi=" ACCOUNT, false, "no time" },
    { "ca.test; persistUntil=; accounturi=" ACCOUNT, false, "no time" },
    { "ca.test; persistUntil=9999999999999999; accounturi=" ACCOUNT, false, "no time" },
    { "ca.test; accounturi=" ACCOUNT, true, "no policy=wildcard" },
    { "ca.test; accounturi=" ACCOUNT "; policy=other", true, "no policy=wildcard" },
    { "ca.test; accounturi=" ACCOUNT "; policy=other", false, NULL },
    { "ca.test; accounturi=" ACCOUNT "2", false, "another account" },
    { "ca.test; accounturi=https://ca.test/acct/", false, "another account" },
    { "ca.test; accounturi=https://CA.test/acct/1?x=y", false, "another account" },
    { "ca.test; accounturi=", false, "another account" },
    { "ca.test", false, "another account" },
    { "ca.tes; accounturi=" ACCOUNT, false, "" },
    { "ca.test other-name.test; accounturi=" ACCOUNT, false, "" },
    { "; accounturi=" ACCOUNT, false, "" },
    { ".; accounturi=" ACCOUNT, false, "" },
    { "", false, "" },
    { "ca.test; accounturi=" ACCOUNT ";", false, "not well-formed" },
    { "ca.test; accounturi", false, "not well-formed" },
    { "ca.test; accounturi=" ACCOUNT "; accounturi=" ACCOUNT, false, "not well-formed" },
};

START_TEST(records)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        struct dns_persist want = { .issuers = "ca.test other-name.test",
                                    .account = ACCOUNT,
                                    .wildcard = cases[i].wildcard,
                                    .now_s = 1000 };
        const char *fault = dns_persist_why_not(&want, cases[i].text);

        if (cases[i].fault == NULL)
            ck_assert_msg(fault == NULL, "'%s': %s", cases[i].text, fault);
        else
            ck_assert_msg(fault != NULL && strstr(fault, cases[i].fault) != NULL &&
                              (fault[0] == '\0') == (cases[i].fault[0] == '\0'),
                          "'%s': %s", cases[i].text, fault == NULL ? "taken" : fault);
    }
}
END_TEST

START_TEST(names)
{
    static const struct cm_err clean = CM_ERR_INIT;
    struct cm_err err = clean;
    char name[DNS_NAME_BUF], ident[DNS_NAME_BUF];

    ck_assert_int_eq(dns_persist_name("a.test", name, &err), CM_OK);
    ck_assert_str_eq(name, "_validation-persist.a.test");
    memset(ident, 'a', sizeof ident);
    ident[DNS_NAME_MAX - (sizeof DNS_PERSIST_LABEL - 1)] = '\0';
    ck_assert_int_eq(dns_persist_name(ident, name, &err), CM_OK);
    ck_assert_uint_eq(strlen(name), DNS_NAME_MAX);
    ident[DNS_NAME_MAX - (sizeof DNS_PERSIST_LABEL - 1)] = 'a';
    ident[DNS_NAME_MAX - (sizeof DNS_PERSIST_LABEL - 1) + 1] = '\0';
    ck_assert_int_eq(dns_persist_name(ident, name, &err), CM_E_INVAL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { records, names };

    return run_tests_how("dns_persist", tests, CM_ARRAY_LEN(tests), (struct run_how){ 0 });
}
