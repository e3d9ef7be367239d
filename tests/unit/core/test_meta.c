/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

static struct cm_err err;

/* The example of certmagic's layout, as its own encoder prints it. */
static const char acme_data[] =
    "{\"url\":\"https://acme-v02.api.letsencrypt.org/acme/cert/04f0a1b2c3\","
    "\"ca\":\"https://acme-v02.api.letsencrypt.org/directory\","
    "\"account\":\"https://acme-v02.api.letsencrypt.org/acme/acct/123456789\","
    "\"renewal_info\":{\"suggestedWindow\":{\"start\":\"2026-10-28T06:34:11Z\","
    "\"end\":\"2026-10-30T01:44:53Z\"},"
    "\"_uniqueIdentifier\":\"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE\","
    "\"_retryAfter\":\"2026-08-29T18:20:01.1234567+02:00\","
    "\"_selectedTime\":\"2026-10-28T15:06:40Z\"}}";

static const char acme_file[] =
    "{\n"
    "\t\"sans\": [\n"
    "\t\t\"example.com\"\n"
    "\t],\n"
    "\t\"issuer_data\": {\n"
    "\t\t\"url\": \"https://acme-v02.api.letsencrypt.org/acme/cert/04f0a1b2c3\",\n"
    "\t\t\"ca\": \"https://acme-v02.api.letsencrypt.org/directory\",\n"
    "\t\t\"account\": \"https://acme-v02.api.letsencrypt.org/acme/acct/123456789\",\n"
    "\t\t\"renewal_info\": {\n"
    "\t\t\t\"suggestedWindow\": {\n"
    "\t\t\t\t\"start\": \"2026-10-28T06:34:11Z\",\n"
    "\t\t\t\t\"end\": \"2026-10-30T01:44:53Z\"\n"
    "\t\t\t},\n"
    "\t\t\t\"_uniqueIdentifier\": \"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE\",\n"
    "\t\t\t\"_retryAfter\": \"2026-08-29T18:20:01.1234567+02:00\",\n"
    "\t\t\t\"_selectedTime\": \"2026-10-28T15:06:40Z\"\n"
    "\t\t}\n"
    "\t}\n"
    "}";

static void check_format(const char *const *sans, size_t n, const char *data, const char *want)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(CM_META_MAX);

    ck_ok(cm_meta_format(sans, n, cm_span_str(data), &out, &err));
    ck_assert_str_eq(cm_buf_str(&out), want);
    ck_assert_uint_eq(out.len, strlen(want));
}

START_TEST(layout_is_certmagics_byte_for_byte)
{
    const char *const one[] = { "example.com" };
    const char *const two[] = { "a.example", "b.example" };

    check_format(one, 1, acme_data, acme_file);
    check_format(two, 2, "",
                 "{\n\t\"sans\": [\n\t\t\"a.example\",\n\t\t\"b.example\"\n\t],\n"
                 "\t\"issuer_data\": null\n}");
    check_format(NULL, 0, "null", "{\n\t\"issuer_data\": null\n}");
}
END_TEST

START_TEST(issuer_data_keeps_its_tokens)
{
    const char *const one[] = { "a" };

    /* white space goes, empty containers stay on their line, numbers are not rewritten */
    check_format(one, 1, " { \"a\" : [ ] , \"b\":{ }, \"c\": 1.50e+3, \"d\":12345678901234567 }",
                 "{\n\t\"sans\": [\n\t\t\"a\"\n\t],\n\t\"issuer_data\": {\n\t\t\"a\": [],\n"
                 "\t\t\"b\": {},\n\t\t\"c\": 1.50e+3,\n\t\t\"d\": 12345678901234567\n\t}\n}");
    /* strings: braces, escaped quotes, Go's HTML escapes, U+2028 */
    check_format(one, 1, "\"{<a&b>:\\\"x\\\\\\\",\xe2\x80\xa8/\"",
                 "{\n\t\"sans\": [\n\t\t\"a\"\n\t],\n\t\"issuer_data\": "
                 "\"{\\u003ca\\u0026b\\u003e:\\\"x\\\\\\\",\\u2028/\"\n}");
}
END_TEST

START_TEST(issuer_data_must_be_json)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(CM_META_MAX);
    const char *const one[] = { "a" };

    ck_refused(cm_meta_format(one, 1, cm_span_str("{\"a\":1"), &out, &err), CM_E_PARSE);
    ck_refused(cm_meta_format(one, 1, cm_span_str("{} {}"), &out, &err), CM_E_PARSE);
    ck_refused(cm_meta_format(one, 1, cm_span_str("nul"), &out, &err), CM_E_PARSE);
    ck_assert_uint_eq(out.len, 0);
}
END_TEST

START_TEST(reads_what_certmagic_writes)
{
    struct cm_meta m;
    int64_t ns;

    ck_ok(cm_meta_parse(cm_span_str(acme_file), &m, &err));
    ck_assert_uint_eq(m.n_sans, 1);
    ck_assert_str_eq(m.sans[0], "example.com");
    ck_assert_str_eq(cm_buf_str(&m.issuer_data), acme_data);
    ck_assert_str_eq(m.ca, "https://acme-v02.api.letsencrypt.org/directory");
    ck_assert_str_eq(m.account, "https://acme-v02.api.letsencrypt.org/acme/acct/123456789");
    ck_assert(m.ari.present);
    ck_assert_str_eq(m.ari.unique_id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    ck_ok(cm_time_parse_rfc3339("2026-08-29T16:20:01.1234567Z", 28, &ns, &err));
    ck_assert(m.ari.retry_after_ns == ns);
    ck_ok(cm_time_parse_rfc3339("2026-10-28T15:06:40Z", 20, &ns, &err));
    ck_assert(m.ari.selected_ns == ns);
    cm_meta_free(&m);
}
END_TEST

START_TEST(year_one_means_unset)
{
    static const char zero[] =
        "{\"issuer_data\":{\"renewal_info\":{\"suggestedWindow\":{"
        "\"start\":\"0001-01-01T00:00:00Z\",\"end\":\"0001-01-01T00:00:00Z\"},"
        "\"_selectedTime\":\"0001-01-01T00:00:00Z\"}}}";
    struct cm_meta m;

    ck_ok(cm_meta_parse(cm_span_str(zero), &m, &err));
    ck_assert(m.ari.present);
    ck_assert(m.ari.window_start_ns == CM_TIME_UNSET);
    ck_assert(m.ari.window_end_ns == CM_TIME_UNSET);
    ck_assert(m.ari.selected_ns == CM_TIME_UNSET);
    ck_assert(m.ari.retry_after_ns == CM_TIME_UNSET);
    ck_assert_uint_eq(m.n_sans, 0);
    cm_meta_free(&m);
}
END_TEST

START_TEST(null_data_unknown_members_and_other_case)
{
    struct cm_meta m;

    ck_ok(cm_meta_parse(cm_span_str("{\"SANS\":[\"a\"],\"issuer_data\":null,\"x\":[1,{}]}\n"), &m,
                        &err));
    ck_assert_uint_eq(m.n_sans, 1);
    ck_assert_str_eq(cm_buf_str(&m.issuer_data), "null");
    ck_assert(!m.ari.present);
    cm_meta_free(&m);
    ck_ok(cm_meta_parse(cm_span_str("{\"sans\":null}"), &m, &err));
    ck_assert_uint_eq(m.issuer_data.len, 0);
    cm_meta_free(&m);
}
END_TEST

START_TEST(damaged_files_are_refused)
{
    static const char *const bad[] = { "",
                                       "x",
                                       "[]",
                                       "{\"sans\":\"a\"}",
                                       "{\"sans\":[1]}",
                                       "{\"sans\":[\"a\"]",
                                       "{} x",
                                       "{\"a\":\"\xff\"}" };
    struct cm_meta m;
    char deep[200];

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++)
        ck_refused(cm_meta_parse(cm_span_str(bad[i]), &m, &err), CM_E_PARSE);
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    ck_refused(cm_meta_parse((struct cm_span){ (const uint8_t *)deep, 200 }, &m, &err), CM_E_PARSE);
    for (size_t i = 0; i < sizeof acme_file - 2; i++) /* every cut */
        ck_assert(cm_meta_parse((struct cm_span){ (const uint8_t *)acme_file, i }, &m, &err) !=
                  CM_OK);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        layout_is_certmagics_byte_for_byte,
        issuer_data_keeps_its_tokens,
        issuer_data_must_be_json,
        reads_what_certmagic_writes,
        year_one_means_unset,
        null_data_unknown_members_and_other_case,
        damaged_files_are_refused,
    };

    return kit_run("meta", tests, CM_ARRAY_LEN(tests));
}
