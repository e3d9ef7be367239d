/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <stdio.h>
#include <string.h>

/* What a CA sends, as bytes: the pure parsers. */

static struct cm_acme_order order;
static struct cm_acme_authz authz;
static struct cm_acme_directory directory;
static struct cm_acme_account account;
static struct cm_acme_problem problem;

static void setup(void)
{
    memset(&err, 0, sizeof err);
    memset(&order, 0, sizeof order);
    memset(&authz, 0, sizeof authz);
    memset(&directory, 0, sizeof directory);
    memset(&account, 0, sizeof account);
    memset(&problem, 0, sizeof problem);
}

static void teardown(void)
{
    cm_acme_order_free(&order);
    cm_acme_authz_free(&authz);
    cm__acme_directory_clear(&directory);
    cm_acme_account_free(&account);
}

static cm_status parse_order(const char *json)
{
    cm_acme_order_free(&order);
    return cm__acme_parse_order(cm_span_str(json), NULL, 0, &order, &err);
}

static cm_status parse_order_for(const char *json, const char *const *names, size_t n)
{
    cm_acme_order_free(&order);
    return cm__acme_parse_order(cm_span_str(json), names, n, &order, &err);
}

static cm_status parse_authz(const char *json)
{
    cm_acme_authz_free(&authz);
    return cm__acme_parse_authz(cm_span_str(json), &authz, &err);
}

static cm_status parse_directory(const char *json)
{
    cm__acme_directory_clear(&directory);
    return cm__acme_parse_directory(cm_span_str(json), &directory, &err);
}

/* ----------------------------------------------------------------------- JSON */

#define JSON(literal) literal, sizeof literal - 1

static cm_status parse_json(const char *text, size_t len)
{
    struct json_object *o = NULL;
    struct cm_span s = { (const uint8_t *)text, len };
    cm_status rc = cm__json_parse(s, "it", &o, &err);

    json_object_put(o);
    return rc;
}

START_TEST(json_that_is_refused)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{\"a\":1",
        "{\"a\":1,}",
        "{'a':1}",
        "{a:1}",
        "{\"a\":1} x",
        "{\"a\":1}{\"a\":1}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\xaf\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\xf4\x90\x80\x80\"}",
        "{\"a\":\"\xe2\x82\"}",
        "{\"a\":\"\x80\"}",
        "{\"a\":01}",
        "/* c */{}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"b\":[{\"a\":{\"c\":1,\"c\":1}}]}",
        "{\"a\":'b'}",
        "{\"a\":\xc3\xa9}",
        "{\"a\":\"\\\xc3\xa9\"}",
        "{'\"':[{},{}],\"'\":1}",
        "{\"a\":NaN}",
        "{\"a\":-Infinity}",
        "{\"a\":\"line\nbreak\"}",
        "{\"a\":1 /* c */}",
        "{\"a\":1 // c\n}",
        "<html>busy</html>",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        cm_status rc = parse_json(bad[i], strlen(bad[i]));

        ck_assert_msg(rc == CM_E_PARSE, "%s: %s", bad[i], cm_status_name(rc));
    }
    ck_assert_int_eq(parse_json("{}\0", 3), CM_E_PARSE);
    ck_assert_int_eq(parse_json("{}", 2), CM_OK);
    ck_assert_int_eq(parse_json(JSON(" {\"a\" : \":{[\\\"\" }\n")), CM_OK);
    ck_assert_int_eq(parse_json(JSON("{\"a\":{\"a\":1},\"b\":{\"a\":1}}")), CM_OK);
    ck_assert_int_eq(parse_json(JSON("{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\xed\x9f\xbf\"}")), CM_OK);
    ck_assert_int_eq(parse_json("{}x", 2), CM_OK); /* by length, not by NUL */
}
END_TEST

START_TEST(json_cut_at_every_byte_is_refused)
{
    static const char whole[] =
        "{\"status\":\"valid\",\"n\":-1.5e3,\"t\":true,\"z\":null,\"l\":[1,{\"u\":\"\\u00e9\"}]}";

    for (size_t len = 0; len < sizeof whole - 1; len++) {
        char *exact = malloc(len + 1); /* so that ASan sees a read past the end */

        ck_assert_ptr_nonnull(exact);
        memcpy(exact, whole, len);
        exact = realloc(exact, len > 0 ? len : 1);
        ck_assert_msg(parse_json(exact, len) == CM_E_PARSE, "%zu", len);
        free(exact);
    }
    ck_assert_int_eq(parse_json(whole, sizeof whole - 1), CM_OK);
}
END_TEST

START_TEST(json_depth_is_capped)
{
    char text[400];

    for (int depth = 1; depth < 40; depth++) {
        size_t at = 0;

        for (int i = 0; i < depth; i++) {
            memcpy(text + at, "{\"a\":", 5);
            at += 5;
        }
        text[at++] = '1';
        memset(text + at, '}', (size_t)depth);
        at += (size_t)depth;
        ck_assert_uint_le(at, sizeof text);
        /* json-c counts the scalar inside as one level more */
        ck_assert_msg((parse_json(text, at) == CM_OK) == (depth < CM_ACME_JSON_DEPTH), "%d", depth);
    }
}
END_TEST

static cm_status parse_nodes(size_t n)
{
    struct cm_buf b = CM_BUF_INIT(CM_ACME_JSON_MAX);
    cm_status rc;

    ck_ok(cm_buf_puts(&b, "{\"a\":[", &err));
    for (size_t i = 2; i < n; i++)
        ck_ok(cm_buf_puts(&b, i > 2 ? ",{}" : "{}", &err));
    ck_ok(cm_buf_puts(&b, "]}", &err));
    rc = parse_json(cm_buf_str(&b), b.len);
    cm_buf_free(&b);
    return rc;
}

START_TEST(json_nodes_and_size_are_capped)
{
    size_t max = CM_ACME_JSON_MAX;
    char *text = calloc(1, max + 1);

    ck_assert_ptr_nonnull(text);
    ck_assert_int_eq(parse_nodes(CM_ACME_JSON_NODES_MAX), CM_OK);
    ck_assert_int_eq(parse_nodes(CM_ACME_JSON_NODES_MAX + 1), CM_E_LIMIT);
    memset(text, ' ', max + 1);
    memcpy(text, "{}", 2);
    ck_assert_int_eq(parse_json(text, max), CM_OK);
    ck_assert_int_eq(parse_json(text, max + 1), CM_E_LIMIT);
    free(text);
}
END_TEST

START_TEST(strings_are_written_escaped)
{
    struct cm_buf b = CM_BUF_INIT(100);

    ck_ok(cm__json_put_str(&b, "a\"b\\c\n\x01\xc3\xa9", &err));
    ck_assert_str_eq(cm_buf_str(&b), "\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa9\"");
    cm_buf_free(&b);
}
END_TEST

/* ------------------------------------------------------------------ directory */

#define MIN_DIR                                                                                    \
    "\"newNonce\":\"https://a/n\",\"newAccount\":\"https://a/a\",\"newOrder\":\"https://a/o\""

START_TEST(directory_with_strange_members_is_read)
{
    ck_ok(parse_directory(
        "{" MIN_DIR ",\"xH4vQ\":\"https://community/t\",\"y\":17,\"z\":null,\"keyChange\":[],"
        "\"revokeCert\":7,\"renewalInfo\":\"https://a/ri\",\"meta\":{\"termsOfService\":"
        "\"https://a/tos.pdf\",\"website\":\"javascript:x\",\"externalAccountRequired\":\"yes\","
        "\"caaIdentities\":[\"a\"],\"profiles\":{\"classic\":\"https://a/p\",\"short\":{},"
        "\"no good\":1}}}"));
    ck_assert_str_eq(directory.new_nonce, "https://a/n");
    ck_assert_str_eq(directory.renewal_info, "https://a/ri");
    ck_assert_ptr_null(directory.key_change);
    ck_assert_ptr_null(directory.revoke_cert);
    ck_assert_ptr_null(directory.new_authz);
    ck_assert_ptr_null(directory.website);
    ck_assert_str_eq(directory.terms_of_service, "https://a/tos.pdf");
    ck_assert(!directory.eab_required);
    ck_assert_str_eq(directory.profiles[0], "classic");
    ck_assert_str_eq(directory.profiles[1], "short");
    ck_assert_ptr_null(directory.profiles[2]);
    ck_ok(parse_directory("{" MIN_DIR ",\"meta\":{\"externalAccountRequired\":true}}"));
    ck_assert(directory.eab_required);
    ck_assert_ptr_null(directory.profiles);
}
END_TEST

START_TEST(directory_without_what_is_needed_is_refused)
{
    ck_status(parse_directory("{\"newNonce\":\"https://a/n\",\"newAccount\":\"https://a/a\"}"),
              CM_E_PARSE);
    ck_has(err.msg, "newOrder");
    ck_status(parse_directory("{"
                              "\"newNonce\":\"https://a/n\",\"newAccount\":null,"
                              "\"newOrder\":\"https://a/o\"}"),
              CM_E_PARSE);
    ck_status(parse_directory("{\"newNonce\":\"ftp://a/n\",\"newAccount\":\"https://a/a\","
                              "\"newOrder\":\"https://a/o\"}"),
              CM_E_PARSE);
}
END_TEST

/* ---------------------------------------------------------------------- order */

START_TEST(order_of_each_status)
{
    static const char *const known[] = { "pending", "ready",       "processing", "valid",
                                         "invalid", "deactivated", "revoked",    "expired" };
    char json[200];

    for (size_t i = 0; i < CM_ARRAY_LEN(known); i++) {
        (void)snprintf(json, sizeof json,
                       "{\"status\":\"%s\",\"certificate\":\"https://a/c\",\"new\":{}}", known[i]);
        ck_ok(parse_order(json));
        ck_assert_str_eq(cm_acme_status_text(order.status), known[i]);
        /* some CAs fill it in before it is there */
        ck_assert((order.certificate != NULL) == (order.status == CM_ACME_VALID));
    }
    ck_ok(parse_order("{\"status\":\"frozen\"}"));
    ck_assert_int_eq(order.status, CM_ACME_UNKNOWN);
    ck_status(parse_order("{}"), CM_E_PARSE);
    ck_status(parse_order("{\"status\":1}"), CM_E_PARSE);
}
END_TEST

START_TEST(order_with_error_and_subproblems)
{
    ck_ok(parse_order(
        "{\"status\":\"invalid\",\"error\":{\"type\":\"urn:ietf:params:acme:error:compound\","
        "\"detail\":\"two\\nlines\",\"status\":403,\"subproblems\":["
        "{\"type\":\"urn:ietf:params:acme:error:dns\",\"detail\":\"NXDOMAIN\","
        "\"identifier\":{\"type\":\"dns\",\"value\":\"a.test\"}},{},null,{},{}]}}"));
    ck_assert_str_eq(order.error.type, "urn:ietf:params:acme:error:compound");
    ck_assert_int_eq(order.error.status, 403);
    ck_has(order.error.detail, "two\\x0alines (a.test: dns: NXDOMAIN; ?; ?; and 2 more)");
}
END_TEST

static cm_status parse_order_of_n(size_t n)
{
    struct cm_buf b = CM_BUF_INIT(CM_ACME_JSON_MAX);
    cm_status rc;

    ck_ok(cm_buf_puts(&b, "{\"status\":\"pending\",\"authorizations\":[", &err));
    for (size_t i = 0; i < n; i++)
        ck_ok(cm_buf_printf(&b, &err, "%s\"https://a/z/%zu\"", i > 0 ? "," : "", i));
    ck_ok(cm_buf_puts(&b, "]}", &err));
    rc = parse_order(cm_buf_str(&b));
    cm_buf_free(&b);
    return rc;
}

START_TEST(order_authorizations_are_capped_and_have_to_be_urls)
{
    ck_ok(parse_order_of_n(CM_ACME_IDENTS_MAX - 1));
    ck_ok(parse_order_of_n(CM_ACME_IDENTS_MAX));
    ck_assert_uint_eq(order.n_authz, CM_ACME_IDENTS_MAX);
    ck_status(parse_order_of_n(CM_ACME_IDENTS_MAX + 1), CM_E_LIMIT);
    ck_ok(parse_order("{\"status\":\"ready\",\"authorizations\":[]}"));
    ck_assert_uint_eq(order.n_authz, 0);
    ck_ok(parse_order("{\"status\":\"ready\",\"authorizations\":null}"));
    ck_status(parse_order("{\"status\":\"pending\",\"authorizations\":[null]}"), CM_E_PARSE);
    ck_status(parse_order("{\"status\":\"pending\",\"authorizations\":[\"/rel\"]}"), CM_E_PARSE);
    ck_status(parse_order("{\"status\":\"pending\",\"authorizations\":[\"https://a/\\u0000\"]}"),
              CM_E_PARSE);
}
END_TEST

#define IDENTS(list) "{\"status\":\"pending\",\"identifiers\":[" list "]}"
#define DNS(name)    "{\"type\":\"dns\",\"value\":\"" name "\"}"
#define IP(addr)     "{\"type\":\"ip\",\"value\":\"" addr "\"}"

START_TEST(order_identifiers_are_those_asked_for)
{
    static const char *const names[] = { "a.test", "*.a.test", "2001:db8::1", "a.test" };
    static const char *const good[] = {
        IDENTS(DNS("a.test") "," DNS("*.a.test") "," IP("2001:db8::1")),
        IDENTS(IP("2001:0DB8:0:0::1") "," DNS("*.A.test") "," DNS("A.TEST")),
        IDENTS(DNS("a.test") "," DNS("a.test") "," DNS("*.a.test") "," IP("2001:db8::1")),
    };
    static const char *const bad[] = {
        IDENTS(DNS("a.test") "," DNS("*.a.test")),
        IDENTS(DNS("a.test") "," DNS("*.a.test") "," IP("2001:db8::2")),
        IDENTS(DNS("a.test") "," DNS("*.a.test") "," IP("2001:db8::1") "," DNS("evil.test")),
        IDENTS(DNS("a.test") "," DNS("*.a.test") "," DNS("2001:db8::1")),
        IDENTS(DNS("a.test") "," DNS("*.a.test") "," IP("2001:db8::1") ",null"),
        IDENTS(IP("a.test") "," DNS("*.a.test") "," IP("2001:db8::1")),
        "{\"status\":\"pending\"}",
        "{\"status\":\"pending\",\"identifiers\":{}}",
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(good); i++)
        ck_ok(parse_order_for(good[i], names, 4));
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_status(parse_order_for(bad[i], names, 4), CM_E_ACME);
    ck_ok(parse_order(bad[0])); /* without names nothing is compared */
}
END_TEST

/* -------------------------------------------------------------- authorization */

#define AUTHZ(challenges)                                                                          \
    "{\"status\":\"pending\",\"identifier\":" DNS("a.test") ",\"challenges\":[" challenges "]}"
#define CHALL(type, token)                                                                         \
    "{\"type\":\"" type "\",\"url\":\"https://a/c/" type                                           \
    "\",\"status\":\"pending\",\"token\":" token "}"

START_TEST(authorization_is_read)
{
    ck_ok(parse_authz(
        "{\"status\":\"pending\",\"wildcard\":true,\"expires\":\"x\","
        "\"identifier\":" DNS("A.test") ",\"challenges\":[" CHALL(
            "http-01",
            "\"abc_-9\"") ","
                          "{\"type\":\"dns-persist-01\",\"url\":\"https://a/c/p\"},"
                          "{\"type\":\"dns-01\",\"url\":\"https://a/c/d\",\"token\":\"t\","
                          "\"status\":\"invalid\",\"error\":{\"type\":"
                          "\"urn:ietf:params:acme:error:dns\",\"detail\":\"no\"}}]}"));
    ck_assert_str_eq(authz.ident, "a.test");
    ck_assert(authz.wildcard);
    ck_assert(!authz.is_ip);
    ck_assert_uint_eq(authz.n_challenges, 3);
    ck_assert_str_eq(authz.challenges[0].token, "abc_-9");
    ck_assert_str_eq(authz.challenges[0].url, "https://a/c/http-01");
    ck_assert_str_eq(authz.challenges[1].token, "");
    ck_assert_int_eq(authz.challenges[2].status, CM_ACME_INVALID);
    ck_assert(cm_acme_problem_is(authz.challenges[2].error.type, "dns"));

    ck_ok(parse_authz("{\"status\":\"valid\",\"identifier\":" IP("192.0.2.1") "}"));
    ck_assert(authz.is_ip);
    ck_assert_str_eq(authz.ident, "192.0.2.1");
    ck_assert_uint_eq(authz.n_challenges, 0);
    ck_ok(parse_authz("{\"status\":\"valid\",\"identifier\":" DNS("*.b.test") "}"));
    ck_assert(authz.wildcard);
    ck_assert_str_eq(authz.ident, "b.test");
}
END_TEST

START_TEST(challenges_of_odd_shape_are_skipped)
{
    static const char *const odd[] = {
        CHALL("http-01", "\"\""),
        CHALL("http-01", "\"../../etc/passwd\""),
        CHALL("http-01", "\"a.b\""),
        CHALL("http-01", "\"a b\""),
        CHALL("http-01", "\"a\\u0000b\""),
        CHALL("http-01", "\"$(id)\""),
        CHALL("http-01", "7"),
        CHALL("HTTP-01", "\"abc\""),
        CHALL("", "\"abc\""),
        CHALL("a-type-that-is-far-too-long-for-it", "\"abc\""),
        "{\"type\":\"http-01\",\"token\":\"abc\"}",
        "{\"type\":\"http-01\",\"url\":\"nope\",\"token\":\"abc\"}",
        "{\"type\":7,\"url\":\"https://a/c\",\"token\":\"abc\"}",
        "null",
        "[]",
        "\"http-01\"",
    };
    struct cm_buf b = CM_BUF_INIT(CM_ACME_JSON_MAX);

    for (size_t i = 0; i < CM_ARRAY_LEN(odd); i++) {
        cm_buf_reset(&b);
        ck_ok(cm_buf_printf(&b, &err,
                            AUTHZ("%s," CHALL("dns-01", "\"good\"") "," CHALL("dns-01", "\"2\"")),
                            odd[i]));
        ck_ok(parse_authz(cm_buf_str(&b)));
        ck_assert_msg(authz.n_challenges == 1, "%s", odd[i]);
        ck_assert_str_eq(authz.challenges[0].token, "good"); /* the first of its type */
    }
    cm_buf_free(&b);
}
END_TEST

START_TEST(token_and_challenge_counts_are_capped)
{
    struct cm_buf b = CM_BUF_INIT(CM_ACME_JSON_MAX);

    for (size_t len = CM_ACME_TOKEN_MAX - 1; len <= CM_ACME_TOKEN_MAX + 1; len++) {
        char token[CM_ACME_TOKEN_MAX + 2] = { 0 };

        memset(token, 'A', len);
        cm_buf_reset(&b);
        ck_ok(cm_buf_printf(&b, &err, AUTHZ(CHALL("http-01", "\"%s\"")), token));
        ck_ok(parse_authz(cm_buf_str(&b)));
        ck_assert_uint_eq(authz.n_challenges, len <= CM_ACME_TOKEN_MAX ? 1 : 0);
    }
    for (size_t n = CM_ACME_CHALLENGES_MAX - 1; n <= CM_ACME_CHALLENGES_MAX + 1; n++) {
        cm_buf_reset(&b);
        ck_ok(cm_buf_puts(
            &b, "{\"status\":\"pending\",\"identifier\":" DNS("a.test") ",\"challenges\":[", &err));
        for (size_t i = 0; i < n; i++)
            ck_ok(cm_buf_printf(&b, &err, "%s{\"type\":\"t-%zu\",\"url\":\"https://a/%zu\"}",
                                i > 0 ? "," : "", i, i));
        ck_ok(cm_buf_puts(&b, "]}", &err));
        if (n <= CM_ACME_CHALLENGES_MAX) {
            ck_ok(parse_authz(cm_buf_str(&b)));
            ck_assert_uint_eq(authz.n_challenges, n);
        } else {
            ck_status(parse_authz(cm_buf_str(&b)), CM_E_LIMIT);
        }
    }
    cm_buf_free(&b);
}
END_TEST

START_TEST(authorization_for_nonsense_is_refused)
{
    ck_status(parse_authz("{\"status\":\"pending\"}"), CM_E_PARSE);
    ck_status(parse_authz("{\"identifier\":" DNS("a.test") "}"), CM_E_PARSE);
    ck_status(parse_authz("{\"status\":\"pending\",\"identifier\":" DNS("a/../b") "}"), CM_E_PARSE);
    ck_status(parse_authz("{\"status\":\"pending\",\"identifier\":" DNS("192.0.2.1") "}"),
              CM_E_PARSE);
    ck_status(parse_authz("{\"status\":\"pending\",\"identifier\":" IP("a.test") "}"), CM_E_PARSE);
    ck_status(parse_authz("{\"status\":\"pending\",\"identifier\":{\"type\":\"email\",\"value\":"
                          "\"a@b\"}}"),
              CM_E_UNSUPPORTED);
}
END_TEST

/* ----------------------------------------------------------- account, problem */

START_TEST(account_is_read)
{
    ck_ok(cm__acme_parse_account(
        cm_span_str("{\"status\":\"valid\",\"contact\":[\"mailto:a@b\",7,\"x\\ny\",\"tel:1\"],"
                    "\"orders\":\"https://a/orders\",\"key\":{}}"),
        &account, &err));
    ck_assert_int_eq(account.status, CM_ACME_VALID);
    ck_assert_str_eq(account.contact[0], "mailto:a@b");
    ck_assert_str_eq(account.contact[1], "tel:1");
    ck_assert_ptr_null(account.contact[2]);
    ck_assert_str_eq(account.orders, "https://a/orders");
    ck_assert(!account.tos_agreed);
}
END_TEST

/* An answer that is none must not make a stored account one "not registered". */
START_TEST(account_without_a_known_status_is_refused)
{
    static const char *const bad[] = { "{}", "{\"status\":null}", "{\"status\":7}",
                                       "{\"status\":\"\"}", "{\"status\":\"fine\"}" };

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        ck_status(cm__acme_parse_account(cm_span_str(bad[i]), &account, &err), CM_E_PARSE);
        ck_has(err.msg, "status");
    }
}
END_TEST

START_TEST(problem_is_read_and_escaped)
{
    ck_ok(cm_acme_parse_problem(
        cm_span_str("{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":"
                    "\"\\u001b[31mred\\r\\n%s%n\",\"status\":400}"),
        &problem, &err));
    ck_assert(cm_acme_problem_is(problem.type, "malformed"));
    ck_assert(cm_acme_problem_is(problem.type, "urn:ietf:params:acme:error:malformed"));
    ck_assert(!cm_acme_problem_is(problem.type, "badCSR"));
    ck_assert_str_eq(problem.detail, "\\x1b[31mred\\x0d\\x0a%s%n");
    ck_assert_int_eq(problem.status, 400);

    ck_ok(cm_acme_parse_problem(cm_span_str("{\"title\":\"Teapot\",\"status\":99999}"), &problem,
                                &err));
    ck_assert_str_eq(problem.type, "about:blank");
    ck_assert_str_eq(problem.detail, "Teapot");
    ck_assert_int_eq(problem.status, 0);
}
END_TEST

START_TEST(problem_size_is_capped_and_text_shortened)
{
    struct cm_buf b = CM_BUF_INIT(2 * CM_ACME_PROBLEM_MAX);

    for (size_t len = CM_ACME_PROBLEM_MAX - 1; len <= CM_ACME_PROBLEM_MAX + 1; len++) {
        cm_buf_reset(&b);
        ck_ok(cm_buf_puts(&b, "{\"type\":\"t\",\"detail\":\"", &err));
        while (b.len < len - 2)
            ck_ok(cm_buf_append(&b, "d", 1, &err));
        ck_ok(cm_buf_puts(&b, "\"}", &err));
        ck_assert_uint_eq(b.len, len);
        if (len <= CM_ACME_PROBLEM_MAX) {
            ck_ok(cm_acme_parse_problem(cm_buf_span(&b), &problem, &err));
            ck_assert_uint_eq(strlen(problem.detail), sizeof problem.detail - 1);
            ck_has(problem.detail, "ddd...");
        } else {
            ck_status(cm_acme_parse_problem(cm_buf_span(&b), &problem, &err), CM_E_LIMIT);
        }
    }
    cm_buf_free(&b);
}
END_TEST

START_TEST(parsers_survive_the_failure_of_every_allocation)
{
    static const char *const names[] = { "a.test" };
    static const char json[] =
        "{" MIN_DIR ",\"status\":\"valid\",\"identifiers\":[" DNS("a.test") "],\"identifier\":" DNS(
            "a.test") ",\"authorizations\":[\"https://a/1\",\"https://a/2\"],\"certificate\":"
                      "\"https://a/c\",\"contact\":[\"mailto:a@b\"],\"orders\":\"https://a/"
                      "o\",\"meta\":{"
                      "\"website\":\"https://w\",\"profiles\":{\"p\":1}},\"challenges\":[" CHALL(
                          "http-01", "\"t\"") "]}";
    struct cm_span in = cm_span_str(json);

    for (uint64_t n = 1; n < 40; n++) {
        cm_status rc;

        for (int which = 0; which < 4; which++) {
            teardown();
            (void)cm_alloc_fail_at(n);
            switch (which) {
            case 0:
                rc = cm__acme_parse_directory(in, &directory, &err);
                break;
            case 1:
                rc = cm__acme_parse_order(in, names, 1, &order, &err);
                break;
            case 2:
                rc = cm__acme_parse_authz(in, &authz, &err);
                break;
            default:
                rc = cm__acme_parse_account(in, &account, &err);
                break;
            }
            (void)cm_alloc_fail_at(0);
            ck_assert_msg(rc == CM_OK || rc == CM_E_NOMEM || (which == 1 && rc == CM_E_ACME) ||
                              (which == 2 && rc == CM_E_PARSE),
                          "%d: %s", which, cm_status_name(rc));
        }
    }
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        json_that_is_refused,
        json_cut_at_every_byte_is_refused,
        json_depth_is_capped,
        json_nodes_and_size_are_capped,
        strings_are_written_escaped,
        directory_with_strange_members_is_read,
        directory_without_what_is_needed_is_refused,
        order_of_each_status,
        order_with_error_and_subproblems,
        order_authorizations_are_capped_and_have_to_be_urls,
        order_identifiers_are_those_asked_for,
        authorization_is_read,
        challenges_of_odd_shape_are_skipped,
        token_and_challenge_counts_are_capped,
        authorization_for_nonsense_is_refused,
        account_is_read,
        account_without_a_known_status_is_refused,
        problem_is_read_and_escaped,
        problem_size_is_capped_and_text_shortened,
        parsers_survive_the_failure_of_every_allocation,
    };
    Suite *s = suite_create("parse");

    ADD_TESTS(s, "parse", setup, teardown, all);
    return run_suite(s);
}
