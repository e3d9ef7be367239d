/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"
#include "run.h"

#include <json-c/json.h>
#include <string.h>

static struct cm_err err;

static cm_status read_text(const char *text, struct json_object **ret)
{
    return cm_json_read(cm_span_str(text), 4, ret, &err);
}

START_TEST(what_is_json_is_read)
{
    static const char *const good[] = {
        "{}", "null", "1", " [1, -2.5e3, true] ", "\"\xc3\xa9\xe2\x80\xa8\"", "{\"a\":{\"b\":[]}}"
    };
    for (size_t i = 0; i < CM_ARRAY_LEN(good); i++) {
        struct json_object *o = NULL;
        ck_assert_msg(read_text(good[i], &o) == CM_OK, "%s: %s", good[i], err.msg);
        json_object_put(o);
    }
}
END_TEST

START_TEST(text_beyond_ascii_keeps_its_bytes)
{
    struct json_object *o = NULL;
    ck_assert_int_eq(read_text("\"M\xc3\xbcnchen\"", &o), CM_OK);
    ck_assert_str_eq(json_object_get_string(o), "M\xc3\xbcnchen");
    json_object_put(o);
}
END_TEST

START_TEST(what_is_not_json_is_a_parse_error_and_leaves_the_output_alone)
{
    static const char *const bad[] = { "",           "{",        "{} x",
                                       "[1,]",       "\"\xff\"", "{\"a\":\xc3\xa9}",
                                       "[[[[[1]]]]]" };
    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        struct json_object *o = (struct json_object *)(uintptr_t)1;
        cm_status rc = read_text(bad[i], &o);
        ck_assert_msg(rc == CM_E_PARSE, "'%s' gives %s", bad[i], cm_status_name(rc));
        ck_assert_ptr_eq(o, (struct json_object *)(uintptr_t)1);
    }
    struct json_object *o = NULL;
    ck_assert_int_eq(cm_json_read((struct cm_span){ (const uint8_t *)"{}\0", 3 }, 4, &o, &err),
                     CM_E_PARSE);
}
END_TEST

START_TEST(what_is_too_long_is_refused)
{
    struct json_object *o = NULL;
    size_t len = CM_JSON_MAX + 1;
    char *text = malloc(len);
    ck_assert_ptr_nonnull(text);
    memset(text, ' ', len);
    text[0] = '1';
    ck_assert_int_eq(cm_json_read((struct cm_span){ (const uint8_t *)text, len }, 4, &o, &err),
                     CM_E_LIMIT);
    ck_assert_int_eq(cm_json_read((struct cm_span){ (const uint8_t *)text, len - 1 }, 4, &o, &err),
                     CM_OK);
    json_object_put(o);
    free(text);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_is_json_is_read,
        text_beyond_ascii_keeps_its_bytes,
        what_is_not_json_is_a_parse_error_and_leaves_the_output_alone,
        what_is_too_long_is_refused,
    };
    return run_tests("json", tests, CM_ARRAY_LEN(tests));
}
