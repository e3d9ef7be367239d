/* SPDX-License-Identifier: Apache-2.0 */
#include "build_hello.h"
#include "run.h"
#include "tls.h"

#include <stdio.h>

static struct cm_err err;
static struct cm_buf msg;
static struct cm_buf ext;
static struct cm_hello hello;

static void fresh(void)
{
    cm_buf_free(&msg);
    cm_buf_free(&ext);
    msg.max = ext.max = 1 << 20;
    memset(&hello, 0, sizeof hello);
    err = (struct cm_err)CM_ERR_INIT;
}

static cm_status parse(void)
{
    cm_status rc;
    uint8_t *exact = malloc(msg.len); /* so that ASan sees a read behind the end */

    ck_assert_ptr_nonnull(exact);
    memcpy(exact, msg.data, msg.len);
    rc = cm_hello_parse((struct cm_span){ exact, msg.len }, &hello, &err);
    free(exact);
    return rc;
}

static cm_status parse_ext(void)
{
    struct hello_parts p = { .ext = (const char *)ext.data, .ext_len = ext.len };

    cm_buf_reset(&msg);
    build_hello(&p, &msg);
    return parse();
}

static void load(const char *name)
{
    char path[512];
    uint8_t chunk[1024];
    size_t n;
    FILE *f;

    fresh();
    (void)snprintf(path, sizeof path, "%s/%s", getenv("HELLO_DIR"), name);
    f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        put(&msg, chunk, n);
    (void)fclose(f);
    ck_assert_msg(parse() == CM_OK, "%s: %s", name, err.msg);
}

static bool has(const uint16_t *list, size_t n, uint16_t v)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == v)
            return true;
    }
    return false;
}

/* ------------------------------------------------------- hellos as clients send them */

START_TEST(openssl_hello_is_read)
{
    load("openssl-both");
    ck_assert_str_eq(hello.server_name, "www.example.test");
    ck_assert_uint_eq(hello.n_alpn, 2);
    ck_assert_str_eq(hello.alpn[0], "h2");
    ck_assert_str_eq(hello.alpn[1], "http/1.1");
    ck_assert(!hello.acme_tls && !hello.sni_invalid && hello.has_versions_ext);
    ck_assert(has(hello.versions, hello.n_versions, 0x0304));
    ck_assert(has(hello.versions, hello.n_versions, 0x0303));
    ck_assert(has(hello.suites, hello.n_suites, 0x1301));
    ck_assert(has(hello.suites, hello.n_suites, 0xC02B));
    ck_assert(has(hello.sigalgs, hello.n_sigalgs, 0x0403));
    ck_assert(has(hello.groups, hello.n_groups, 29));
}
END_TEST

START_TEST(name_is_lower_case_whatever_was_sent)
{
    load("openssl-tls12");
    ck_assert_str_eq(hello.server_name, "www.example.test");
    ck_assert(!hello.has_versions_ext);
    ck_assert_uint_eq(hello.n_versions, 1);
    ck_assert_uint_eq(hello.versions[0], 0x0303);
}
END_TEST

START_TEST(status_request_is_seen)
{
    load("openssl-tls13");
    ck_assert(hello.has_status_request);
    load("openssl-both");
    ck_assert(!hello.has_status_request);
}
END_TEST

START_TEST(hello_without_a_name_has_none)
{
    load("openssl-nosni");
    ck_assert_str_eq(hello.server_name, "");
    ck_assert(!hello.sni_invalid);
}
END_TEST

START_TEST(sole_acme_protocol_is_a_challenge)
{
    load("openssl-acme");
    ck_assert(hello.acme_tls);
}
END_TEST

START_TEST(rsa_only_client_shows_in_its_suites)
{
    load("openssl-rsa-only");
    ck_assert(has(hello.suites, hello.n_suites, 0xC02F));
    ck_assert(!has(hello.suites, hello.n_suites, 0xC02B));
    ck_assert(has(hello.sigalgs, hello.n_sigalgs, 0x0403)); /* which alone would mislead */
}
END_TEST

START_TEST(gnutls_and_curl_hellos_are_read)
{
    static const char *const names[] = { "gnutls-both", "gnutls-tls12", "gnutls-alpn", "curl" };

    for (size_t i = 0; i < CM_ARRAY_LEN(names); i++) {
        load(names[i]);
        ck_assert_str_eq(hello.server_name, "www.example.test");
        ck_assert_uint_gt(hello.n_suites, 0);
        ck_assert_uint_gt(hello.n_groups, 0);
        ck_assert_uint_gt(hello.n_sigalgs, 0);
    }
}
END_TEST

/* ------------------------------------------------------------------------ names */

static void check_name(const char *sent, size_t len, const char *want)
{
    fresh();
    put_sni(&ext, sent, len);
    ck_assert_msg(parse_ext() == CM_OK, "'%s': %s", sent, err.msg);
    ck_assert_msg(hello.sni_invalid == (want == NULL), "'%s': sni_invalid", sent);
    ck_assert_str_eq(hello.server_name, want == NULL ? "" : want);
}

START_TEST(names_are_host_names_or_invalid)
{
    char label[64], longest[260], with_dot[255] = "";

    check_name("a.test", 6, "a.test");
    check_name("A.Test.", 7, "a.test");
    check_name("localhost", 9, "localhost");
    check_name("my_host.test", 12, "my_host.test");
    check_name("xn--bcher-kva.example", 21, "xn--bcher-kva.example");
    check_name("1.0.0.127.in-addr.arpa", 22, "1.0.0.127.in-addr.arpa");
    check_name(".", 1, NULL);
    check_name("a..b", 4, NULL);
    check_name(".a.test", 7, NULL);
    check_name("a.test..", 8, NULL);
    check_name("*.a.test", 8, NULL);
    check_name("a,b.test", 8, NULL);
    check_name("a b.test", 8, NULL);
    check_name("a/b.test", 8, NULL);
    check_name("-a.test", 7, NULL);
    check_name("a-.test", 7, NULL);
    check_name("a.test-", 7, NULL);
    check_name("a.te\0st", 7, NULL);
    check_name("a.test\0", 7, NULL);
    check_name("b\xC3\xBC.test", 8, NULL);
    check_name("127.0.0.1", 9, NULL);
    check_name("127.1", 5, NULL);
    check_name("1.2.3.4.", 8, NULL);
    check_name("::1", 3, NULL);
    check_name("[::1]", 5, NULL);

    memset(label, 'a', sizeof label);
    check_name(label, 64, NULL);
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i % 50 == 49 ? '.' : 'x';
    check_name(longest, 254, NULL);
    check_name(longest, 260, NULL);
    memcpy(with_dot, longest, 253);
    with_dot[253] = '.';
    longest[253] = '\0';
    check_name(longest, 253, longest);
    check_name(with_dot, 254, longest);
}
END_TEST

START_TEST(two_host_names_are_an_illegal_parameter)
{
    static const uint8_t two[] = { 0, 0, 0, 12, 0, 10, 0, 0, 2, 'a', 'b', 0, 0, 2, 'c', 'd' };

    fresh();
    put(&ext, two, sizeof two);
    ck_assert_int_eq(parse_ext(), CM_E_PARSE);
    ck_assert_int_eq(err.tls_alert, 47);
}
END_TEST

START_TEST(broken_server_name_is_a_decode_error)
{
    static const uint8_t bad[][12] = {
        { 0, 0, 0, 0 },                         /* no list */
        { 0, 0, 0, 2, 0, 0 },                   /* empty list */
        { 0, 0, 0, 5, 0, 3, 0, 0, 0 },          /* empty name */
        { 0, 0, 0, 6, 0, 4, 0, 0, 2, 'a' },     /* name beyond the list */
        { 0, 0, 0, 6, 0, 3, 0, 0, 1, 'a' },     /* list shorter than its content */
        { 0, 0, 0, 7, 0, 4, 0, 0, 1, 'a', 'x' } /* bytes behind the list */
    };
    static const size_t len[] = { 4, 6, 9, 10, 10, 11 };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        fresh();
        put(&ext, bad[i], len[i]);
        ck_assert_msg(parse_ext() == CM_E_PARSE, "case %zu", i);
        ck_assert_int_eq(err.tls_alert, 50);
    }
}
END_TEST

/* ------------------------------------------------------------------------- ALPN */

static void check_acme(const char *const *alpn, bool want)
{
    fresh();
    put_alpn(&ext, alpn);
    ck_assert_int_eq(parse_ext(), CM_OK);
    ck_assert(hello.acme_tls == want);
}

START_TEST(acme_among_others_is_no_challenge)
{
    check_acme((const char *const[]){ "acme-tls/1", NULL }, true);
    check_acme((const char *const[]){ "acme-tls/1", "http/1.1", NULL }, false);
    check_acme((const char *const[]){ "h2", "acme-tls/1", NULL }, false);
    check_acme((const char *const[]){ "acme-tls/1", "acme-tls/1", NULL }, false);
    check_acme((const char *const[]){ "acme-tls/12", NULL }, false);
    check_acme((const char *const[]){ "acme-tls/", NULL }, false);
    check_acme((const char *const[]){ "ACME-TLS/1", NULL }, false);
}
END_TEST

START_TEST(protocol_with_a_nul_is_not_taken_for_another)
{
    static const uint8_t alpn[] = { 0,   16,  0,   14,  0,   12,  11,  'a', 'c',
                                    'm', 'e', '-', 't', 'l', 's', '/', '1', 0 };

    fresh();
    put(&ext, alpn, sizeof alpn);
    ck_assert_int_eq(parse_ext(), CM_OK);
    ck_assert(!hello.acme_tls);
    ck_assert_uint_eq(hello.n_alpn, 1);
    ck_assert_str_eq(hello.alpn[0], "");
}
END_TEST

START_TEST(many_protocols_are_counted_and_eight_kept)
{
    static const char *const ten[] = { "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", NULL };

    fresh();
    put_alpn(&ext, ten);
    ck_assert_int_eq(parse_ext(), CM_OK);
    ck_assert_uint_eq(hello.n_alpn, 10);
    ck_assert_str_eq(hello.alpn[7], "h");
}
END_TEST

START_TEST(broken_alpn_is_a_decode_error)
{
    static const uint8_t bad[][10] = {
        { 0, 16, 0, 2, 0, 0 },              /* empty list */
        { 0, 16, 0, 3, 0, 1, 0 },           /* empty protocol */
        { 0, 16, 0, 4, 0, 2, 2, 'h' },      /* beyond the list */
        { 0, 16, 0, 5, 0, 2, 1, 'h', 'x' }, /* bytes behind */
        { 0, 16, 0, 0 },
    };
    static const size_t len[] = { 6, 7, 8, 9, 4 };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        fresh();
        put(&ext, bad[i], len[i]);
        ck_assert_msg(parse_ext() == CM_E_PARSE, "case %zu", i);
        ck_assert_int_eq(err.tls_alert, 50);
    }
}
END_TEST

/* ------------------------------------------------------------------- structure */

START_TEST(extension_sent_twice_is_an_illegal_parameter)
{
    static const uint8_t twice[] = { 0x12, 0x34, 0, 0, 0, 23, 0, 0, 0x12, 0x34, 0, 0 };

    fresh();
    put(&ext, twice, sizeof twice);
    ck_assert_int_eq(parse_ext(), CM_E_PARSE);
    ck_assert_int_eq(err.tls_alert, 47);
    fresh();
    put_sni(&ext, "a.test", 6);
    put_sni(&ext, "b.test", 6);
    ck_assert_int_eq(parse_ext(), CM_E_PARSE);
    ck_assert_int_eq(err.tls_alert, 47);
}
END_TEST

static void put_type(size_t type)
{
    const uint8_t e[] = { (uint8_t)(type >> 8), (uint8_t)type, 0, 0 };

    put(&ext, e, sizeof e);
}

START_TEST(extension_sent_twice_is_found_among_many)
{
    static const size_t marks[] = {
        60, 63, 64, 65, 0xA000, 0xA00E, 0xA00F, 0xA010, 0xA011, 0xFFFF
    };

    for (size_t n = 0; n < 40; n++) {
        for (size_t m = 0; m <= CM_ARRAY_LEN(marks); m++) {
            bool twice = m < CM_ARRAY_LEN(marks) &&
                         (marks[m] < 0xA000 || marks[m] - 0xA000 < n || marks[m] == 0xFFFF);

            fresh();
            put_type(60);
            put_type(63);
            put_type(64);
            put_type(65);
            for (size_t i = 0; i < n; i++)
                put_type(0xA000 + i);
            put_type(0xFFFF);
            if (m < CM_ARRAY_LEN(marks))
                put_type(marks[m]);
            ck_assert_int_eq(parse_ext(), twice ? CM_E_PARSE : CM_OK);
            ck_assert_int_eq(err.tls_alert, twice ? 47 : 0);
        }
    }
}
END_TEST

START_TEST(grease_is_left_out)
{
    static const uint8_t groups[] = { 0, 10, 0, 6, 0, 4, 0xFA, 0xFA, 0, 29 };
    static const uint8_t versions[] = { 0, 43, 0, 5, 4, 0x0A, 0x0A, 3, 4 };
    static const uint8_t grease[] = { 0x1A, 0x1A, 0, 1, 0 };

    fresh();
    put(&ext, grease, sizeof grease);
    put(&ext, groups, sizeof groups);
    put(&ext, versions, sizeof versions);
    ck_assert_int_eq(parse_ext(), CM_OK);
    ck_assert_uint_eq(hello.n_suites, 3);
    ck_assert_uint_eq(hello.suites[0], 0xC02B);
    ck_assert_uint_eq(hello.n_groups, 1);
    ck_assert_uint_eq(hello.groups[0], 29);
    ck_assert_uint_eq(hello.n_versions, 1);
    ck_assert_uint_eq(hello.versions[0], 0x0304);
}
END_TEST

START_TEST(lists_longer_than_kept_still_parse)
{
    fresh();
    put_u16(&ext, 13);
    put_u16(&ext, 2 + 200);
    put_u16(&ext, 200);
    for (size_t i = 0; i < 100; i++)
        put_u16(&ext, 0x0401 + i);
    ck_assert_int_eq(parse_ext(), CM_OK);
    ck_assert_uint_eq(hello.n_sigalgs, CM_HELLO_MAX_LIST);
    ck_assert_uint_eq(hello.sigalgs[63], 0x0401 + 63);
}
END_TEST

START_TEST(hello_without_extensions_parses)
{
    struct hello_parts p = { .no_ext = true };

    fresh();
    build_hello(&p, &msg);
    ck_assert_int_eq(parse(), CM_OK);
    ck_assert_uint_eq(hello.versions[0], 0x0303);
}
END_TEST

START_TEST(bytes_behind_the_extensions_are_a_decode_error)
{
    struct hello_parts p = { .ext = "", .tail = "x", .tail_len = 1 };

    fresh();
    build_hello(&p, &msg);
    ck_assert_int_eq(parse(), CM_E_PARSE);
    ck_assert_int_eq(err.tls_alert, 50);
}
END_TEST

/* Every true prefix of a message wants more; a message that says it is shorter is malformed. */
START_TEST(truncation_wants_more_and_lies_about_length_are_malformed)
{
    size_t whole;

    load("openssl-both");
    whole = msg.len;
    for (size_t n = 0; n < whole; n++) {
        uint8_t *cut = malloc(n + 1);

        memcpy(cut, msg.data, n);
        ck_assert_int_eq(cm_hello_parse((struct cm_span){ cut, n }, &hello, &err), CM_E_AGAIN);
        free(cut);
    }
    for (size_t n = 0; n + 4 < whole; n++) {
        uint8_t *cut = malloc(n + 4);

        memcpy(cut, msg.data, n + 4);
        cut[1] = 0;
        cut[2] = (uint8_t)(n >> 8);
        cut[3] = (uint8_t)n;
        cm_status rc = cm_hello_parse((struct cm_span){ cut, n + 4 }, &hello, &err);
        /* Cut right before the extensions it is a hello of the old kind. */
        if (rc != CM_OK) {
            ck_assert_int_eq(rc, CM_E_PARSE);
            ck_assert_int_eq(err.tls_alert, 50);
        }
        free(cut);
    }
    put(&msg, "x", 1);
    ck_assert_int_eq(parse(), CM_E_PARSE);
}
END_TEST

START_TEST(output_is_untouched_on_failure)
{
    fresh();
    put_sni(&ext, "a.test", 6);
    put_u16(&ext, 10);
    memset(&hello, 0x5A, sizeof hello);
    ck_assert_int_eq(parse_ext(), CM_E_PARSE);
    ck_assert_int_eq(hello.server_name[0], 0x5A);
}
END_TEST

START_TEST(limits_are_exact)
{
    uint8_t head[4] = { 1, 0x00, 0x40, 0x00 };

    ck_assert_int_eq(cm_hello_parse((struct cm_span){ head, 4 }, &hello, &err), CM_E_AGAIN);
    head[3] = 1;
    ck_assert_int_eq(cm_hello_parse((struct cm_span){ head, 4 }, &hello, &err), CM_E_LIMIT);
    head[0] = 2;
    ck_assert_int_eq(cm_hello_parse((struct cm_span){ head, 4 }, &hello, &err), CM_E_PARSE);
    ck_assert_int_eq(err.tls_alert, 10);
    ck_assert_int_eq(cm_hello_parse((struct cm_span){ NULL, 0 }, &hello, &err), CM_E_AGAIN);
    ck_assert_int_eq(cm_hello_parse((struct cm_span){ head, 4 }, NULL, &err), CM_E_INVAL);
}
END_TEST

START_TEST(missing_null_compression_is_an_illegal_parameter)
{
    struct hello_parts p = { .ext = "" };

    fresh();
    build_hello(&p, &msg);
    msg.data[msg.len - 3] = 1;
    ck_assert_int_eq(parse(), CM_E_PARSE);
    ck_assert_int_eq(err.tls_alert, 47);
}
END_TEST

/* ---- tickets ---- */

static void put_ticket(struct cm_buf *b, char fill, size_t len)
{
    char text[64];

    memset(text, fill, sizeof text);
    put_u16(b, 35);
    put_u16(b, len);
    put(b, text, len);
}

static void put_identities(struct cm_buf *b, const char *fills, size_t len)
{
    char text[64];
    size_t n = strlen(fills);

    put_u16(b, 41);
    put_u16(b, 2 + n * (len + 6) + 2);
    put_u16(b, n * (len + 6));
    for (size_t i = 0; i < n; i++) {
        memset(text, fills[i], sizeof text);
        put_u16(b, len);
        put(b, text, len + 4); /* its age, too */
    }
    put_u16(b, 0); /* binders; nobody looks */
}

/* The tickets of the hello with @ext, as the letters they are made of. */
static const char *tickets(size_t max)
{
    struct hello_parts p = { .ext = (const char *)ext.data, .ext_len = ext.len };
    uint8_t names[4][CM_TLS_TICKET_NAME];
    static char letters[8];

    cm_buf_reset(&msg);
    build_hello(&p, &msg);
    uint8_t *exact = malloc(msg.len - 4);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, msg.data + 4, msg.len - 4);
    size_t n = cm_tls_hello_tickets((struct cm_span){ exact, msg.len - 4 }, names, max);
    free(exact);
    ck_assert_uint_le(n, max);
    memset(letters, 0, sizeof letters);
    for (size_t i = 0; i < n; i++) {
        letters[i] = (char)names[i][0];
        for (size_t k = 1; k < CM_TLS_TICKET_NAME; k++)
            ck_assert_int_eq(names[i][k], names[i][0]);
    }
    return letters;
}

START_TEST(tickets_are_found_in_both_places)
{
    fresh();
    put_sni(&ext, "a.test", 6);
    ck_assert_str_eq(tickets(4), "");
    put_ticket(&ext, 'o', 40);
    ck_assert_str_eq(tickets(4), "o");
    put_identities(&ext, "abc", 40);
    ck_assert_str_eq(tickets(4), "oabc");
    ck_assert_str_eq(tickets(3), "oab"); /* no more than there is room for */
    ck_assert_str_eq(tickets(0), "");
}
END_TEST

START_TEST(what_is_no_ticket_of_ours_is_left_out)
{
    fresh();
    put_ticket(&ext, 'o', 0); /* "I would like one" */
    put_identities(&ext, "abc", 15);
    ck_assert_str_eq(tickets(4), "");
    fresh();
    put_ticket(&ext, 'o', 15);
    put_identities(&ext, "a", 16);
    ck_assert_str_eq(tickets(4), "a");
    for (size_t cut = 1; cut <= ext.len; cut++) { /* lengths that lie */
        size_t whole = ext.len;

        ext.len -= cut;
        (void)tickets(4);
        ext.len = whole;
    }
    fresh();
    put_u16(&ext, 41); /* the list says more than there is */
    put_u16(&ext, 6);
    put_u16(&ext, 500);
    put_u16(&ext, 400);
    put_u16(&ext, 0);
    ck_assert_str_eq(tickets(4), "");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        openssl_hello_is_read,
        name_is_lower_case_whatever_was_sent,
        status_request_is_seen,
        hello_without_a_name_has_none,
        sole_acme_protocol_is_a_challenge,
        rsa_only_client_shows_in_its_suites,
        gnutls_and_curl_hellos_are_read,
        names_are_host_names_or_invalid,
        two_host_names_are_an_illegal_parameter,
        broken_server_name_is_a_decode_error,
        acme_among_others_is_no_challenge,
        protocol_with_a_nul_is_not_taken_for_another,
        many_protocols_are_counted_and_eight_kept,
        broken_alpn_is_a_decode_error,
        extension_sent_twice_is_an_illegal_parameter,
        extension_sent_twice_is_found_among_many,
        grease_is_left_out,
        lists_longer_than_kept_still_parse,
        hello_without_extensions_parses,
        bytes_behind_the_extensions_are_a_decode_error,
        truncation_wants_more_and_lies_about_length_are_malformed,
        output_is_untouched_on_failure,
        limits_are_exact,
        missing_null_compression_is_an_illegal_parameter,
        tickets_are_found_in_both_places,
        what_is_no_ticket_of_ours_is_left_out,
    };

    return run_tests("hello", tests, CM_ARRAY_LEN(tests));
}
