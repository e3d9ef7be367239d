/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <string.h>

static struct cm_http_response resp;
static struct cm_buf url;

static void setup(void)
{
    memset(&err, 0, sizeof err);
    resp = (struct cm_http_response)CM_HTTP_RESPONSE_INIT;
    url = (struct cm_buf)CM_BUF_INIT(CM_HTTP_URL_MAX);
}

static void teardown(void)
{
    cm_http_response_free(&resp);
    cm_buf_free(&url);
}

static void headers(const char *text)
{
    cm_buf_reset(&resp.headers);
    ck_ok(cm_buf_puts(&resp.headers, text, &err));
}

static const char *value(const char *name, unsigned index)
{
    static char text[256];
    struct cm_span v;

    if (!cm_http_header(&resp, name, index, &v))
        return NULL;
    ck_assert_uint_lt(v.len, sizeof text);
    memcpy(text, v.data, v.len);
    text[v.len] = '\0';
    return text;
}

static const char *link_of(const char *rel, unsigned index)
{
    return cm_http_link(&resp, rel, index, &url) ? cm_buf_str(&url) : NULL;
}

START_TEST(header_names_are_compared_without_case_and_whole)
{
    headers("Retry-After: 1\nretry-AFTER:\t2 \nRetry-After-Not: 3\nEmpty:\nRetry-After : 4\n"
            " Retry-After: 5\nLast: x");
    ck_assert_str_eq(value("retry-after", 0), "1");
    ck_assert_str_eq(value("Retry-After", 1), "2");
    ck_assert_ptr_null(value("Retry-After", 2));
    ck_assert_str_eq(value("empty", 0), "");
    ck_assert_str_eq(value("last", 0), "x");
    ck_assert_ptr_null(value("Retry", 0));
    ck_assert_ptr_null(value("absent", 0));
}
END_TEST

START_TEST(links_are_found_over_lines_and_commas)
{
    headers("Link: <https://a/dir>;rel=\"index\", <https://a/1>; rel=\"alternate\"\n"
            "link: <https://a/2>;title=\"x, <no>; rel=alternate\";rel=alternate\n"
            "Link: </3>; REL=\"up Alternate\"\n"
            "Link: <https://a/4>; rel=other; rel=alternate\n"
            "Link: <https://a/5>; rel=\"alternative\"\n");
    ck_assert_str_eq(link_of("alternate", 0), "https://a/1");
    ck_assert_str_eq(link_of("alternate", 1), "https://a/2");
    ck_assert_str_eq(link_of("alternate", 2), "/3");
    ck_assert_ptr_null(link_of("alternate", 3));
    ck_assert_str_eq(link_of("up", 0), "/3");
    ck_assert_str_eq(link_of("index", 0), "https://a/dir");
    ck_assert_str_eq(link_of("other", 0), "https://a/4");
}
END_TEST

START_TEST(broken_links_do_not_hide_good_ones)
{
    headers("Link: nonsense, <https://a/1>; rel=alternate\n"
            "Link: <https://a/2; rel=alternate\n"
            "Link: <https://a/3>; rel=\"alternate\n"
            "Link: <https://a/4>; rel=\"alter\\nate\", <https://a/5>;rel=alternate;\n"
            "Link: , ,<https://a/6>;rel=alternate,\n"
            "Link:\nLink: <\nLink: >\nLink: <>;\n"
            "Link: <https://a/7> ; rel = alternate ; x\n");
    ck_assert_str_eq(link_of("alternate", 0), "https://a/1");
    ck_assert_str_eq(link_of("alternate", 1), "https://a/5");
    ck_assert_str_eq(link_of("alternate", 2), "https://a/6");
    ck_assert_str_eq(link_of("alternate", 3), "https://a/7");
    ck_assert_ptr_null(link_of("alternate", 4));
}
END_TEST

START_TEST(origins)
{
    static const struct {
        const char *a;
        const char *b;
        bool same;
    } cases[] = {
        { "https://a.test/x", "https://a.test/y?z", true },
        { "https://a.test", "https://A.TEST:443/", true },
        { "HTTPS://a.test/", "https://a.test/", true },
        { "http://a.test/", "http://a.test:80/", true },
        { "https://[::1]/", "https://[::1]:443/", true },
        { "https://a.test/", "http://a.test/", false },
        { "https://a.test/", "https://a.test:8443/", false },
        { "https://a.test/", "https://b.test/", false },
        { "https://a.test/", "https://a.test.evil/", false },
        { "https://a.test/", "https://a.test@evil/", false },
        { "https://a.test/", "https://evil\\@a.test/", false },
        { "https://a.test/", "https://evil#@a.test/", false },
        { "https://a.test/", "https://evil?@a.test/", false },
        { "https://a.test/", "//a.test/", false },
        { "https://a.test/", "", false },
        { "ftp://a.test/", "ftp://a.test/", false },
        { "https://a.test/", "https://a.test\t/", false },
    };

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        ck_assert_msg(cm_url_same_origin(cases[i].a, cases[i].b) == cases[i].same, "%s %s",
                      cases[i].a, cases[i].b);
        ck_assert_msg(cm_url_same_origin(cases[i].b, cases[i].a) == cases[i].same, "%s %s",
                      cases[i].b, cases[i].a);
    }
    ck_assert(!cm_url_same_origin(NULL, "https://a.test/"));
}
END_TEST

/* RFC 3986 5.4, with an http base and without fragments. */
START_TEST(references_are_resolved)
{
    static const struct {
        const char *ref;
        const char *want;
    } cases[] = {
        { "g", "http://a/b/c/g" },
        { "./g", "http://a/b/c/g" },
        { "g/", "http://a/b/c/g/" },
        { "/g", "http://a/g" },
        { "//g", "http://g/" },
        { "?y", "http://a/b/c/d;p?y" },
        { "g?y", "http://a/b/c/g?y" },
        { "g#s", "http://a/b/c/g" },
        { ";x", "http://a/b/c/;x" },
        { "..", "http://a/b/" },
        { "../g", "http://a/b/g" },
        { "../../g", "http://a/g" },
        { "../../../g", "http://a/g" },
        { "https://x.test:8443/y?z=1", "https://x.test:8443/y?z=1" },
        { "HTTPS://x.test/", "https://x.test/" },
    };
    char out[CM_HTTP_URL_MAX + 1];

    for (size_t i = 0; i < CM_ARRAY_LEN(cases); i++) {
        ck_ok(cm_url_resolve("http://a/b/c/d;p?q", cases[i].ref, out, sizeof out, &err));
        ck_assert_msg(strcmp(out, cases[i].want) == 0, "%s: %s, not %s", cases[i].ref, out,
                      cases[i].want);
    }
}
END_TEST

START_TEST(references_to_elsewhere_are_refused)
{
    static const char *const bad[] = { "file:///etc/passwd",
                                       "ftp://a/",
                                       "javascript:x",
                                       "data:,x",
                                       "https://u:p@a/",
                                       "a b",
                                       "a\nb",
                                       "",
                                       "\x80" };
    char out[64] = "kept";

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        cm_status rc = cm_url_resolve("https://a.test/b", bad[i], out, sizeof out, &err);

        ck_assert_msg(rc == CM_E_PARSE, "%s: %s %s", bad[i], cm_status_name(rc), out);
        ck_assert_str_eq(out, "kept");
    }
    ck_status(cm_url_resolve("mailto:a@b", "/x", out, sizeof out, &err), CM_E_PARSE);
    ck_status(cm_url_resolve("https://a.test/b",
                             "/0123456789012345678901234567890123456789012345678901234567890", out,
                             sizeof out, &err),
              CM_E_LIMIT);
    ck_assert_str_eq(out, "kept");
}
END_TEST

int main(void)
{
    const TTest *const all[] = {
        header_names_are_compared_without_case_and_whole,
        links_are_found_over_lines_and_commas,
        broken_links_do_not_hide_good_ones,
        origins,
        references_are_resolved,
        references_to_elsewhere_are_refused,
    };
    Suite *s = suite_create("headers");

    ADD_TESTS(s, "headers", setup, teardown, all);
    return run_suite(s);
}
