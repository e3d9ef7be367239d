/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of name servers, and what is taken for a name. */

#include "wire.h"

#include "run.h"

#include "must.h"

#include <stdio.h>
#include <string.h>

static struct cm_err err;

#define HEADER(an) "\0\7\x84\0\0\1\0" an "\0\0\0\0"
#define QUESTION   "\1a\4test\0\0\20\0\1"

static cm_status parse(const char *data, size_t len, struct dns_message *m)
{
    return dns_parse((struct cm_span){ (const uint8_t *)data, len }, m, &err);
}
#define PARSE(text, m) parse(text, sizeof(text) - 1, m)

START_TEST(an_answer_is_read)
{
    struct dns_message m;
    struct dns_rr rr;

    must(PARSE(HEADER("\2") QUESTION "\xc0\xc\0\20\0\1\0\0\0\5\0\6\2ab\2cd"
                                     "\1B\xc0\xc\0\5\0\1\0\0\0\5\0\2\xc0\xe",
               &m));
    ck_assert_uint_eq(m.id, 7);
    ck_assert_str_eq(m.qname, "a.test");
    ck_assert_uint_eq(m.qtype, DNS_TXT);
    struct dns_walk w = { .m = &m };
    ck_assert(dns_next(&w, &rr));
    ck_assert_str_eq(rr.name, "a.test");
    ck_assert(rr.section == DNS_ANSWER && rr.type == DNS_TXT && rr.class == DNS_IN && rr.ttl == 5);
    ck_assert(dns_txt_is(&m, &rr, "abcd"));
    ck_assert(!dns_txt_is(&m, &rr, "abc") && !dns_txt_is(&m, &rr, "abcde"));
    ck_assert(!dns_txt_is(&m, &rr, "abdd") && !dns_txt_is(&m, &rr, ""));
    ck_assert(dns_next(&w, &rr));
    ck_assert_str_eq(rr.name, "b.a.test");
    size_t at = rr.rdata;
    char name[DNS_NAME_BUF];
    ck_assert(dns_read_name(m.msg, &at, name));
    ck_assert_str_eq(name, "test");
    ck_assert_uint_eq(at, m.msg.len);
    ck_assert(!dns_next(&w, &rr));
}
END_TEST

/* A pointer that leads to itself, forwards, into the header or in a circle; a name that never ends
 * by pointers that are each lawful. */
START_TEST(names_that_lead_nowhere_are_refused)
{
    struct dns_message m;
    char far[DNS_MESSAGE_MAX];
    struct dns_walk w = { .m = &m };
    struct dns_rr rr;

    must_fail(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\xc0\xc\0\20\0\1", &m), CM_E_PARSE);
    must_fail(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\1a\xc0\xc\0\20\0\1", &m), CM_E_PARSE);
    must_fail(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\xc0\0\0\20\0\1", &m), CM_E_PARSE);
    must_fail(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\xc0\x10\0\20\0\1\0", &m), CM_E_PARSE);
    must_fail(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\xc0", &m), CM_E_PARSE);
    must_fail(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\x40"
                    "a\0\0\20\0\1",
                    &m),
              CM_E_PARSE);
    must_fail(PARSE(HEADER("\1") QUESTION "\xc0\x18\0\5\0\1\0\0\0\5\0\2\xc0\x18", &m), CM_E_PARSE);

    /* 1000 records, the name of each "x" before that of the one before: too long at the 125th */
    memcpy(far, "\0\7\x84\0\0\1\3\xe8\0\0\0\0" QUESTION, 24);
    size_t len = 24, last = DNS_HEADER_LEN;
    for (int i = 0; i < 1000; i++) {
        size_t here = len;
        far[len++] = 1;
        far[len++] = 'x';
        far[len++] = (char)(0xc0 | last >> 8);
        far[len++] = (char)last;
        memcpy(far + len, "\0\1\0\1\0\0\0\0\0\4abcd", 14);
        len += 14;
        last = here;
    }
    must_fail(parse(far, len, &m), CM_E_PARSE);
    far[6] = 0;
    far[7] = 100;
    must(parse(far, len, &m));
    size_t n = 0;
    while (dns_next(&w, &rr))
        n++;
    ck_assert_uint_eq(n, 100);
    ck_assert_uint_eq(strlen(rr.name), 206);
}
END_TEST

START_TEST(what_is_cut_off_is_refused)
{
    static const char whole[] = HEADER("\1") QUESTION "\xc0\xc\0\20\0\1\0\0\0\5\0\3\2ab";
    struct dns_message m;

    must(PARSE(whole, &m));
    for (size_t len = 0; len < sizeof whole - 1; len++)
        must_fail(parse(whole, len, &m), CM_E_PARSE);
    must_fail(PARSE(HEADER("\1") QUESTION "\xc0\xc\0\20\0\1\0\0\0\5\0\3\3ab", &m), CM_E_PARSE);
    must_fail(PARSE(HEADER("\1") QUESTION "\xc0\xc\0\20\0\1\0\0\0\5\0\0", &m), CM_E_PARSE);
    must_fail(PARSE(HEADER("\1") QUESTION "\xc0\xc\0\1\0\1\0\0\0\5\0\3abc", &m), CM_E_PARSE);
    must_fail(PARSE("\0\7\x84\0\0\2\0\0\0\0\0\0" QUESTION QUESTION, &m), CM_E_PARSE);
}
END_TEST

START_TEST(bytes_that_no_name_has_are_not_ours)
{
    struct dns_message m;

    must(PARSE("\0\7\x84\0\0\1\0\0\0\0\0\0\4a.\0b\1C\0\0\20\0\1", &m));
    ck_assert_str_eq(m.qname, "a??b.c");
    ck_assert(!dns_is_name(m.qname));
}
END_TEST

START_TEST(names)
{
    char label[DNS_NAME_BUF + 8];

    ck_assert(dns_is_name("a") && dns_is_name("_acme-challenge.a-b.test"));
    ck_assert(!dns_is_name("") && !dns_is_name(".") && !dns_is_name("a..b") && !dns_is_name(".a"));
    ck_assert(!dns_is_name("a.") && !dns_is_name("a b") && !dns_is_name("A") &&
              !dns_is_name("*.a"));
    memset(label, 'a', sizeof label);
    label[64] = '\0';
    ck_assert(!dns_is_name(label));
    label[63] = '\0';
    ck_assert(dns_is_name(label));
    memset(label, 'a', sizeof label);
    for (size_t i = 50; i < sizeof label; i += 50)
        label[i] = '.';
    label[254] = '\0';
    ck_assert(!dns_is_name(label));
    label[253] = '\0';
    ck_assert(dns_is_name(label));

    ck_assert(dns_is_in("a.test", "a.test") && dns_is_in("b.a.test", "a.test"));
    ck_assert(dns_is_in("a.test", "") && !dns_is_in("ba.test", "a.test"));
    ck_assert(!dns_is_in("test", "a.test"));
}
END_TEST

START_TEST(writing_has_an_end)
{
    struct dns_writer w = { .len = 0 };

    for (int i = 0; i < 300; i++)
        dns_put_name(&w, "abcdef.test");
    ck_assert(w.bad && w.len <= sizeof w.data);
    w = (struct dns_writer){ .len = 0 };
    dns_put_name(&w, "no name");
    ck_assert(w.bad);
}
END_TEST

static void is_server(const char *text, const char *want)
{
    struct dns_server s;

    must(dns_server_parse(text, 53, &s, &err));
    ck_assert_str_eq(s.text, want);
}

START_TEST(servers)
{
    static const char *const bad[] = {
        "",           "a.test", "1.2.3",  "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536",
        "1.2.3.4:5x", "[::1",   "[::1]x", "[::1]:",   "::1:x",     "1.2.3.4:000053"
    };
    struct dns_server s;

    is_server("192.0.2.1", "192.0.2.1:53");
    is_server("192.0.2.1:5353", "192.0.2.1:5353");
    is_server("2001:db8::1", "[2001:db8::1]:53");
    is_server("[2001:db8::1]", "[2001:db8::1]:53");
    is_server("[2001:db8::1]:5353", "[2001:db8::1]:5353");
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        must_fail(dns_server_parse(bad[i], 53, &s, &err), CM_E_INVAL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { an_answer_is_read,
                                   names_that_lead_nowhere_are_refused,
                                   what_is_cut_off_is_refused,
                                   bytes_that_no_name_has_are_not_ours,
                                   names,
                                   writing_has_an_end,
                                   servers };

    return run_tests("message", tests, CM_ARRAY_LEN(tests));
}
