/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <string.h>

/* Vectors that were run through certmagic's own rules; the path of a certificate in a mixed fleet
 * hangs on every one of them. */
static const struct {
    const char *name;
    const char *safe; /* NULL: refused */
} vectors[] = {
    { "*.example.com", "wildcard_.example.com" },
    { "::1", "--1" },
    { "2001:db8::1", "2001-db8--1" },
    { "You+tag@Example.com", "you_plus_tag@example.com" },
    { "a,b", "ab" },
    { "foo_bar.com", "foo_bar.com" },
    { "M\xc3\x9cNCHEN.de", "mnchen.de" },
    { "\xe6\x97\xa5\xe6\x9c\xac.jp", ".jp" },
    { "localhost:14000-dir", "localhost-14000-dir" },
    { "acme.zerossl.com-v2-DV90", "acme.zerossl.com-v2-dv90" },
    { "issue_cert_*.example.com", "issue_cert_wildcard_.example.com" },
    { "ari_AbC-_x.ZzZ", "ari_abc-_x.zzz" },
    { "[::1]:14000-dir", "--1-14000-dir" },
    { "a\tb c", "ab_c" },
    { "  a b  ", "a_b" },
    { "\t\n a \r\v\f", "a" },
    { "\xc2\xa0 a \xe3\x80\x80", "a" },              /* no-break and ideographic space */
    { "\xe2\x80\xa8 a \xc2\x85 \xe1\x9a\x80", "a" }, /* line separator, next line, ogham */
    { "\xe2\x80\x8b a", "_a" },                      /* zero width space is no white space */
    { "\xe2\x84\xaa\xc4\xb0", "ki" },                /* Kelvin sign, dotted capital I */
    { "a..b", "ab" },
    { "a...b", "a.b" },
    { "...", NULL }, /* ".." goes, "." stays */
    { "....", NULL },
    { "a./.b", "a..b" }, /* not traversal-proof: core checks what it gets */
    { "./.", NULL },
    { "..", NULL },
    { ".", NULL },
    { "", NULL },
    { "   ", NULL },
    { "///", NULL },
    { "a/../b", "ab" },
    { "\xff\xfe"
      "a\xc3",
      "a" },
    { "\xc0\xae\xc0\xae", NULL }, /* overlong dots are no dots */
    { "\xed\xa0\x80x", "x" },     /* a surrogate is no character */
    { "+*: ", "_plus_wildcard_-" },
    { "AZaz09_@.-", "azaz09_@.-" },
    { "a\x01\x7f`~!#$%^&()={}[]|\\;'\"<>?b", "ab" },
};

START_TEST(names_map_as_in_certmagic)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(vectors); i++) {
        struct cm_buf out = CM_BUF_INIT(256);
        struct cm_err err = CM_ERR_INIT;
        cm_status rc = cm_safe_name(vectors[i].name, &out, &err);
        const char *want = vectors[i].safe;

        if (want == NULL) {
            ck_assert_msg(rc == CM_E_INVAL, "'%s' gave '%s'", vectors[i].name, cm_buf_str(&out));
            ck_assert_uint_eq(out.len, 0);
        } else {
            ck_assert_msg(rc == CM_OK, "'%s': %s", vectors[i].name, err.msg);
            ck_assert_str_eq(cm_buf_str(&out), want);
        }
        cm_buf_free(&out);
    }
}
END_TEST

START_TEST(a_refused_name_leaves_the_buffer_alone)
{
    struct cm_buf out = CM_BUF_INIT(16);
    struct cm_err err = CM_ERR_INIT;

    ck_assert_int_eq(cm_buf_puts(&out, "acme/", &err), CM_OK);
    ck_assert_int_eq(cm_safe_name("..", &out, &err), CM_E_INVAL);
    ck_assert_str_eq(cm_buf_str(&out), "acme/");
    ck_assert_msg(strstr(err.msg, "'..'") != NULL, "%s", err.msg);
    ck_assert_int_eq(cm_safe_name("a-name-that-is-too-long", &out, &err), CM_E_LIMIT);
    ck_assert_str_eq(cm_buf_str(&out), "acme/");
    ck_assert_int_eq(cm_safe_name("LE", &out, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&out), "acme/le");
    ck_assert_int_eq(cm_safe_name(NULL, &out, &err), CM_E_INVAL);
    cm_buf_free(&out);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        names_map_as_in_certmagic,
        a_refused_name_leaves_the_buffer_alone,
    };

    return run_tests("safe", tests, CM_ARRAY_LEN(tests));
}
